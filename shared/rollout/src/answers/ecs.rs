//! ECS: whether a service is steady, what its circuit breaker decided, which tasks failed to start or could not be
//! placed, and how a hook's task ended.

use super::one_line;
use crate::observation::{FailedStartsQuery, HookTask};
use crate::snapshot::{
    Autoscaling, FailedStart, RolloutReading, ServiceEvent, SideReading, TargetHealth, TaskReading, TasksReading,
    WorkloadReading,
};
use crate::time::Seconds;
use jiff::Timestamp;
use std::collections::BTreeSet;

/// Maximum number of failed starts that are listed.
const MAX_FAILED_STARTS: usize = 10;

/// Phrases by which a service's events say that a task cannot be placed or started ("Viewing Amazon ECS service event
/// messages" in the ECS developer guide).
const PLACEMENT_FAILURES: [&str; 5] = [
    "unable to place a task",
    "unable to consistently start tasks",
    "unable to consistently place tasks",
    "unable to stop or start tasks",
    "failed to launch a task",
];

/// Those of [`PLACEMENT_FAILURES`] that report missing capacity. ECS retries until there is capacity: Fargate Spot may
/// be unavailable for a while (ECS best practices guide, "Fargate Spot termination notice": the service retries until
/// the capacity is available), and an EC2 capacity provider adds hosts within minutes. ECS's other placement events are
/// about permissions and about tasks that stop repeatedly.
const MISSING_CAPACITY: [&str; 2] = ["unable to place a task", "unable to consistently place tasks"];

/// By which a service's events name a deployment that the circuit breaker has failed ("Viewing Amazon ECS service event
/// messages" in the ECS developer guide).
const DEPLOYMENT_FAILED: &str = "deployment failed";

/// Phrases in the stop reason of a task that ECS's scheduler has stopped because it failed its health checks ("Stopped
/// tasks error codes" in the ECS developer guide).
const UNHEALTHY: [&str; 3] =
    ["failed ELB health checks", "failed container health checks", "Target.FailedHealthChecks"];

/// Start of the stop reason of a task that was scaled in or replaced.
const SCALED_IN: &str = "Scaling activity initiated";

/// After this long in `RUNNING`, a task without container health checks counts as healthy (API reference,
/// `DeploymentConfiguration`, `minimumHealthyPercent`).
const HEALTHY_AFTER: Seconds = Seconds(40);

/// `stopCode` of a task of which an essential container has exited.
const ESSENTIAL_CONTAINER_EXITED: &str = "EssentialContainerExited";
/// `stopCode` of a task that never ran.
const TASK_FAILED_TO_START: &str = "TaskFailedToStart";

/// A service as `DescribeServices` returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcsService<'a> {
    /// `ECS`, `CODE_DEPLOY` or `EXTERNAL`.
    pub controller: Option<&'a str>,
    /// ARN of the service's task definition.
    pub task_definition: Option<&'a str>,
    /// Desired count.
    pub desired: u32,
    /// Running tasks, including those of older deployments.
    pub running: u32,
    /// Pending tasks, including those of older deployments.
    pub pending: u32,
    /// The primary deployment, and those that still have tasks.
    pub deployments: Vec<EcsDeployment<'a>>,
    /// The capacity provider strategy.
    pub capacity_providers: Vec<CapacityProvider<'a>>,
    /// `FARGATE`, `EC2` or `EXTERNAL`.
    pub launch_type: Option<&'a str>,
}

/// One of a service's deployments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EcsDeployment<'a> {
    /// `PRIMARY`, or `ACTIVE`: it has tasks and is being replaced.
    pub status: Option<&'a str>,
    /// ARN of its task definition.
    pub task_definition: Option<&'a str>,
    /// `IN_PROGRESS`, `COMPLETED` or `FAILED`.
    pub rollout_state: Option<&'a str>,
    /// ECS's explanation of the state.
    pub rollout_state_reason: Option<&'a str>,
    /// Tasks that failed in a row; 0 once one has succeeded.
    pub failed_tasks: u32,
    /// Its running tasks.
    pub running: u32,
    /// Its pending tasks.
    pub pending: u32,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// When it last changed.
    pub updated_at: Option<Timestamp>,
}

/// The newest service deployment, as `DescribeServiceDeployments` and `DescribeServiceRevisions` return it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EcsServiceDeployment<'a> {
    /// `PENDING`, `IN_PROGRESS`, `SUCCESSFUL`, `STOP_REQUESTED`, `STOPPED`, `ROLLBACK_REQUESTED`,
    /// `ROLLBACK_IN_PROGRESS`, `ROLLBACK_SUCCESSFUL` or `ROLLBACK_FAILED`.
    pub status: Option<&'a str>,
    /// ECS's explanation of the status, or of its rollback.
    pub reason: Option<&'a str>,
    /// ARN of the task definition of its target revision; `None`: unknown.
    pub task_definition: Option<&'a str>,
    /// Digest of the policy's container in its target revision, as ECS resolved it; `None`: unknown.
    pub image_digest: Option<&'a str>,
}

/// An item of a capacity provider strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapacityProvider<'a> {
    /// `FARGATE_SPOT`
    pub name: &'a str,
    /// Its share of the tasks beyond the base.
    pub weight: u32,
    /// Number of tasks that it gets first.
    pub base: u32,
}

/// One of a service's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EcsServiceEvent<'a> {
    /// ECS's text.
    pub message: &'a str,
    /// When ECS created the event.
    pub at: Timestamp,
}

/// A task as `DescribeTasks` returns it, without its containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EcsTask<'a> {
    /// ARN of the task.
    pub arn: Option<&'a str>,
    /// ARN of its task definition.
    pub task_definition: Option<&'a str>,
    /// `STOPPED` once all containers have stopped.
    pub last_status: Option<&'a str>,
    /// `EssentialContainerExited`, `TaskFailedToStart`, `ServiceSchedulerInitiated`, `UserInitiated`,
    /// `SpotInterruption`, `TerminationNotice` or `InfrastructureHealth`.
    pub stop_code: Option<&'a str>,
    /// ECS's explanation.
    pub stopped_reason: Option<&'a str>,
    /// When stopping began.
    pub stopping_at: Option<Timestamp>,
    /// When the task had stopped.
    pub stopped_at: Option<Timestamp>,
    /// When it began to run.
    pub started_at: Option<Timestamp>,
    /// `HEALTHY`, `UNHEALTHY` or `UNKNOWN`: of its essential containers that have a health check.
    pub health_status: Option<&'a str>,
}

/// A container of a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EcsContainer<'a> {
    /// Name from the task definition.
    pub name: Option<&'a str>,
    /// Exit code; none: it never ran, or still runs.
    pub exit_code: Option<i32>,
    /// Why it ended or never ran.
    pub reason: Option<&'a str>,
}

/// What a service says about its side, without target group and scalable target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceReading {
    /// ARN of the task definition of the primary deployment.
    pub version: String,
    /// Number of tasks that the service shall run.
    pub desired: u32,
    /// Running tasks, including those of older deployments.
    pub running: u32,
    /// Pending tasks, including those of older deployments.
    pub pending: u32,
    /// All desired tasks run, and all of them are of the primary deployment.
    pub steady: bool,
    /// Why the circuit breaker stopped the queried deployment; `None` if it did not, or nothing was queried.
    pub circuit_breaker_reason: Option<String>,
    /// The primary deployment has failed, at whatever time: only a new deployment starts tasks again.
    pub stalled: bool,
    /// The capacity providers that place tasks, or the launch type. Empty: unknown.
    pub placed_by: Vec<String>,
    /// The newest event about a task that could not be placed since the queried time; `None` if nothing was queried.
    pub placement_failure: Option<ServiceEvent>,
}

impl ServiceReading {
    /// The reading of the whole side.
    #[must_use]
    pub fn into_side_reading(
        self,
        image: Option<String>,
        failed_starts: FailedStarts,
        targets: TargetHealth,
        autoscaling: Option<Autoscaling>,
    ) -> SideReading {
        SideReading {
            version: self.version,
            image,
            desired: self.desired,
            running: self.running,
            pending: self.pending,
            steady: self.steady,
            circuit_breaker_reason: self.circuit_breaker_reason,
            stalled: self.stalled,
            failed_starts: failed_starts.newest,
            failed_tasks: failed_starts.count,
            placed_by: self.placed_by,
            placement_failure: self.placement_failure,
            targets,
            autoscaling,
        }
    }
}

impl<'a> EcsService<'a> {
    /// Reading of the service. `query` is the plan's, if it concerns this side: without it neither the circuit breaker
    /// nor the events are judged, since both may tell of an earlier deployment.
    ///
    /// # Errors
    /// A reason, where the service has no primary deployment: another deployment controller manages it.
    pub fn reading<'e>(
        &self,
        events: impl Iterator<Item = EcsServiceEvent<'e>> + Clone,
        query: Option<&FailedStartsQuery>,
    ) -> Result<ServiceReading, String> {
        let Some(primary) = self.primary() else {
            let controller = self.controller.unwrap_or("unknown");
            return Err(format!("the service has no primary deployment (its deployment controller is {controller})"));
        };
        let Some(task_definition) = primary.task_definition.or(self.task_definition) else {
            return Err("the service's primary deployment names no task definition".to_owned());
        };
        let (circuit_breaker_reason, placement_failure) = match query {
            Some(query) => (
                self.circuit_breaker_reason(primary, events.clone(), query),
                newest_event(events, query.since, is_placement_failure),
            ),
            None => (None, None),
        };
        Ok(ServiceReading {
            version: task_definition.to_owned(),
            desired: self.desired,
            running: self.running,
            pending: self.pending,
            steady: self.is_steady(),
            circuit_breaker_reason,
            stalled: primary.has_failed(),
            placed_by: self.placed_by(),
            placement_failure,
        })
    }

    /// Reading of the service of a target that changes its version in place, without what its tasks and its target
    /// groups say. `newest`: its newest service deployment, where it was read and ECS has one: services that were last
    /// deployed before October 2024 have none.
    ///
    /// # Errors
    /// As [`Self::reading`].
    pub fn workload<'e>(
        &self,
        events: impl Iterator<Item = EcsServiceEvent<'e>> + Clone,
        query: Option<&FailedStartsQuery>,
        newest: Option<&EcsServiceDeployment<'_>>,
    ) -> Result<WorkloadReading, String> {
        let seen = self.reading(events, query)?;
        let Some(primary) = self.primary() else { return Err("the service has no primary deployment".to_owned()) };
        let others = self.deployments.iter().filter(|deployment| !deployment.is_primary());
        let of_it = newest.filter(|newest| newest.task_definition == Some(seen.version.as_str()));
        Ok(WorkloadReading {
            digest: of_it.and_then(|newest| newest.image_digest).map(str::to_owned),
            gave_up: seen.circuit_breaker_reason.clone().filter(|_| !primary.has_failed()),
            rollout: rollout(primary, seen.circuit_breaker_reason, newest),
            version: seen.version,
            image: None,
            desired: seen.desired,
            running: primary.running,
            others: others.map(|deployment| deployment.running + deployment.pending).sum(),
            tasks: None,
            failed_starts: Vec::new(),
            failed_tasks: 0,
            placed_by: seen.placed_by,
            placement_failure: seen.placement_failure,
            targets: None,
        })
    }

    fn primary(&self) -> Option<&EcsDeployment<'a>> {
        self.deployments.iter().find(|deployment| deployment.is_primary())
    }

    /// Whether all desired tasks run, and are those of the primary deployment: it is completed, and no older one has
    /// tasks left (API reference, `Deployment`: `rolloutState` and `status`). The counts are compared as well, since a
    /// completed deployment stays so when the desired count changes or a task is replaced. ECS's event "has reached a
    /// steady state" is not used: it also follows a rollback by the circuit breaker.
    fn is_steady(&self) -> bool {
        let is_complete = |deployment: &EcsDeployment<'_>| deployment.rollout_state == Some("COMPLETED");
        self.deployments.len() == 1
            && self.primary().is_some_and(is_complete)
            && self.running == self.desired
            && self.pending == 0
    }

    /// Whether tasks are missing, or ECS counts failed ones (API reference, `Deployment`, `failedTasks`): then stopped
    /// tasks are worth reading.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.running < self.desired || self.deployments.iter().any(|deployment| deployment.failed_tasks > 0)
    }

    /// Whether only a new deployment starts tasks of this task definition: the primary deployment runs it and has
    /// failed, and a failed deployment launches no more tasks (API reference, `Deployment`, `rolloutState`), however
    /// often the same task definition is set.
    #[must_use]
    pub fn needs_new_deployment(&self, task_definition: &str) -> bool {
        let of_it = |primary: &EcsDeployment<'_>| primary.task_definition == Some(task_definition);
        self.primary().is_some_and(|primary| primary.has_failed() && of_it(primary))
    }

    /// The capacity providers that place the service's tasks, or its launch type. A provider without weight and base
    /// places none (API reference, `CapacityProviderStrategyItem`).
    fn placed_by(&self) -> Vec<String> {
        let places = self.capacity_providers.iter().filter(|provider| provider.weight > 0 || provider.base > 0);
        let providers: Vec<String> = places.map(|provider| provider.name.to_owned()).collect();
        if providers.is_empty() { self.launch_type.map(str::to_owned).into_iter().collect() } else { providers }
    }

    /// The circuit breaker's verdict on the deployment that the plan asks about, since the time it asks about: an
    /// earlier attempt's verdict stays on a service until its next deployment, and says nothing about this one. A
    /// circuit breaker configured to roll back demotes the failed deployment, and once its last task is gone only the
    /// service's events mention it ("How the Amazon ECS deployment circuit breaker detects failures" in the ECS
    /// developer guide).
    fn circuit_breaker_reason<'e>(
        &self,
        primary: &EcsDeployment<'_>,
        events: impl Iterator<Item = EcsServiceEvent<'e>>,
        query: &FailedStartsQuery,
    ) -> Option<String> {
        let failed = |deployment: &EcsDeployment<'_>| {
            deployment.has_failed() && deployment.updated_at.is_none_or(|at| at >= query.since)
        };
        let is_queried = |deployment: &EcsDeployment<'_>| deployment.task_definition == Some(query.version.as_str());
        let verdict = |deployment: &EcsDeployment<'_>| {
            one_line(deployment.rollout_state_reason.unwrap_or("ECS gave the deployment up, without a reason"))
        };
        if failed(primary) {
            return Some(verdict(primary));
        }
        if let Some(demoted) = self.deployments.iter().find(|deployment| is_queried(deployment) && failed(deployment)) {
            return Some(verdict(demoted));
        }
        if is_queried(primary) {
            return None;
        }
        let of_failure = |message: &str| message.contains(DEPLOYMENT_FAILED);
        newest_event(events, query.since, of_failure).map(|event| event.message)
    }
}

impl EcsDeployment<'_> {
    fn is_primary(&self) -> bool {
        self.status == Some("PRIMARY")
    }

    /// The circuit breaker has tripped, at whatever time.
    fn has_failed(&self) -> bool {
        self.rollout_state == Some("FAILED")
    }
}

/// How far ECS is with the primary deployment. It is complete only if its record says so as well: `COMPLETED` alone
/// also follows a rollback by ECS to the version that is primary now.
fn rollout(
    primary: &EcsDeployment<'_>,
    circuit_breaker_reason: Option<String>,
    newest: Option<&EcsServiceDeployment<'_>>,
) -> RolloutReading {
    if let Some(reason) = circuit_breaker_reason.filter(|_| primary.has_failed()) {
        return RolloutReading::Failed { reason };
    }
    let newest = newest.filter(|newest| newest.task_definition.is_none_or(|of| Some(of) == primary.task_definition));
    let has_record = newest.is_some_and(|newest| newest.task_definition.is_some());
    let gave_up = |reason: Option<&str>| {
        let reason = one_line(reason.unwrap_or("ECS gave the deployment up, without a reason"));
        RolloutReading::Failed { reason }
    };
    if primary.has_failed() {
        return gave_up(primary.rollout_state_reason);
    }
    let completed = primary.rollout_state == Some("COMPLETED");
    match newest.filter(|_| has_record).and_then(|newest| newest.status) {
        Some("SUCCESSFUL") | None if completed => RolloutReading::Complete,
        // Of the deployment whose target this version is: it was stopped or rolled back by ECS, and the version is set
        // nevertheless.
        Some("STOPPED" | "ROLLBACK_FAILED" | "ROLLBACK_SUCCESSFUL") => gave_up(newest.and_then(|newest| newest.reason)),
        _ => RolloutReading::InProgress { since: primary.created_at },
    }
}

/// What the tasks of a service tell. `protected`: ARNs of tasks that are protected. A task whose container health check
/// has not been evaluated yet is not distinguished from one without: ECS does not call the deployment complete before the
/// check has passed.
#[must_use]
pub fn tasks_reading<'t>(
    tasks: impl Iterator<Item = EcsTask<'t>>,
    version: &str,
    protected: &BTreeSet<String>,
    now: Timestamp,
) -> TasksReading {
    let (mut healthy, mut protected_others) = (0, 0);
    for task in tasks {
        if task.task_definition != Some(version) {
            protected_others += u32::from(task.arn.is_some_and(|arn| protected.contains(arn)));
            continue;
        }
        let runs = task.last_status == Some("RUNNING");
        let long_enough = task.started_at.is_some_and(|at| now >= HEALTHY_AFTER.after(at));
        healthy += u32::from(match task.health_status {
            Some("HEALTHY") => runs,
            Some("UNHEALTHY") => false,
            _ => runs && long_enough,
        });
    }
    TasksReading { healthy, protected: protected_others }
}

/// Whether a service that was found can be used.
///
/// # Errors
/// A reason, where the service is deleted or being deleted.
pub fn check_status(name: &str, status: Option<&str>) -> Result<(), String> {
    match status {
        // Emulators omit the status.
        Some("ACTIVE") | None => Ok(()),
        Some(status) => Err(format!("service {name} is {status}: it is deleted or being deleted")),
    }
}

/// Why a service is unknown that `DescribeServices` did not return; `reason` is that of its entry in `failures`:
/// `MISSING`.
#[must_use]
pub fn missing_service(name: &str, reason: Option<&str>) -> String {
    format!("ECS has no service {name} in the cluster: {}", reason.unwrap_or("not in the answer"))
}

/// Why a task is unknown that `DescribeTasks` did not return; `reason` as in [`missing_service`].
#[must_use]
pub fn missing_task(arn: &str, reason: Option<&str>) -> String {
    one_line(&format!("ECS has no task {arn}: {}", reason.unwrap_or("not in the answer")))
}

fn is_placement_failure(message: &str) -> bool {
    PLACEMENT_FAILURES.iter().any(|phrase| message.contains(phrase))
}

/// Whether a placement failure with this message ends by itself, once there is capacity.
#[must_use]
pub fn waits_for_capacity(message: &str) -> bool {
    MISSING_CAPACITY.iter().any(|phrase| message.contains(phrase))
}

/// The newest matching event since `since`; of two at the same time the one that ECS lists first, since it lists the
/// newest first.
fn newest_event<'e>(
    events: impl Iterator<Item = EcsServiceEvent<'e>>,
    since: Timestamp,
    matches_message: impl Fn(&str) -> bool,
) -> Option<ServiceEvent> {
    let matching = events.filter(|event| event.at >= since && matches_message(event.message));
    let newest = matching.reduce(|newest, event| if event.at > newest.at { event } else { newest })?;
    Some(ServiceEvent { message: one_line(newest.message), at: newest.at })
}

/// Tasks that stopped by themselves, at their start or later.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailedStarts {
    /// Their number.
    pub count: u32,
    /// The newest of them, newest first, at most 10.
    pub newest: Vec<FailedStart>,
}

impl FromIterator<FailedStart> for FailedStarts {
    fn from_iter<I: IntoIterator<Item = FailedStart>>(failed: I) -> Self {
        let mut newest: Vec<FailedStart> = failed.into_iter().collect();
        newest.sort_by(|one, other| other.at.cmp(&one.at).then_with(|| one.task.cmp(&other.task)));
        let count = u32::try_from(newest.len()).unwrap_or(u32::MAX);
        newest.truncate(MAX_FAILED_STARTS);
        Self { count, newest }
    }
}

/// The task as a failed start, if it is one: of the queried task definition, and stopped by itself since the queried
/// time.
#[must_use]
pub fn failed_start<'c>(
    task: &EcsTask<'_>,
    containers: impl Iterator<Item = EcsContainer<'c>> + Clone,
    query: &FailedStartsQuery,
) -> Option<FailedStart> {
    let at = task.stopped_at.or(task.stopping_at)?;
    let arn = task.arn?;
    let is_queried = task.task_definition == Some(query.version.as_str()) && at >= query.since;
    let counts = is_queried && stopped_by_itself(task);
    counts.then(|| FailedStart { task: arn.to_owned(), reason: stop_reason(task, containers), at })
}

/// Whether the task caused its own stop (API reference, `Task`, `stopCode`; "Stopped tasks error codes" in the ECS
/// developer guide). A stop requested by a user or the scheduler (scale-in, manual stop) does not count, nor does the
/// loss of the host (Spot, retired or failing host); but the scheduler also stops tasks that fail their health checks.
fn stopped_by_itself(task: &EcsTask<'_>) -> bool {
    let reason = task.stopped_reason.unwrap_or_default();
    let is_unhealthy = UNHEALTHY.iter().any(|phrase| reason.contains(phrase));
    match task.stop_code {
        Some(ESSENTIAL_CONTAINER_EXITED | TASK_FAILED_TO_START) => true,
        Some(_) => is_unhealthy,
        // Emulators omit the stop code.
        None => is_unhealthy || !reason.starts_with(SCALED_IN),
    }
}

/// The task of a hook: still running, or stopped with the named container's exit code.
#[must_use]
pub fn hook_task<'c>(
    task: &EcsTask<'_>,
    mut containers: impl Iterator<Item = EcsContainer<'c>> + Clone,
    asked: &HookTask,
) -> TaskReading {
    if task.last_status != Some("STOPPED") {
        return TaskReading::Running;
    }
    let reason = stop_reason(task, containers.clone());
    let named = containers.find(|container| container.name == Some(asked.container.as_str()));
    TaskReading::Stopped { exit_code: named.and_then(|container| container.exit_code), reason }
}

/// ECS's stop reason of the task, and each container's where it adds something: `Essential container in task exited
/// (api: exit code 1)`.
fn stop_reason<'c>(task: &EcsTask<'_>, containers: impl Iterator<Item = EcsContainer<'c>> + Clone) -> String {
    let words = task.stopped_reason.unwrap_or("the task stopped, without a reason").trim_end_matches('.');
    let mut details: Vec<String> = containers.clone().filter_map(|container| container.detail(words)).collect();
    if details.is_empty() && task.stop_code == Some(ESSENTIAL_CONTAINER_EXITED) {
        let ended = |container: EcsContainer<'_>| Some(container.exit_code_text(container.exit_code?));
        details = containers.filter_map(ended).collect();
    }
    one_line(&if details.is_empty() { words.to_owned() } else { format!("{words} ({})", details.join("; ")) })
}

impl EcsContainer<'_> {
    fn exit_code_text(&self, code: i32) -> String {
        format!("{}: exit code {code}", self.name.unwrap_or("?"))
    }

    /// What the container adds to the task's stop reason: an exit code other than 0, and a reason that the task's does
    /// not contain.
    fn detail(&self, words: &str) -> Option<String> {
        let code = self.exit_code.filter(|code| *code != 0);
        let reason = self.reason.filter(|reason| !reason.is_empty() && !words.contains(reason.trim_end_matches('.')));
        match (code, reason) {
            (None, None) => None,
            (Some(code), None) => Some(self.exit_code_text(code)),
            (Some(code), Some(reason)) => Some(format!("{}, {reason}", self.exit_code_text(code))),
            (None, Some(reason)) => Some(format!("{}: {reason}", self.name.unwrap_or("?"))),
        }
    }
}

#[cfg(test)]
mod tests;
