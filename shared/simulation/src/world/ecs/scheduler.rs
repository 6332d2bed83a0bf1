//! A service's scheduler: rolling deployments, replacement of tasks, back-off and circuit breaker.

use super::services::{CompletedDeployment, RollbackTo, ScheduledService};
use super::shapes::{LastStatus, RolloutState};
use super::tasks::{NewTask, TaskState};
use crate::world::agenda::{AgendaItem, later};
use crate::world::image::StartBehaviour;
use crate::world::{ServiceKey, TaskBackend, World, WorldEventKind};

/// Delay until a failed task placement is retried, in milliseconds.
const PLACEMENT_RETRY_MS: u64 = 15_000;
/// Consecutive failures before task starts are spaced out.
const FAILURES_BEFORE_BACKOFF: u32 = 3;

/// State of a task from its service scheduler's point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TaskPhase {
    /// Stopping or stopped.
    Stopping,
    /// Not running yet.
    Starting,
    /// Running, but not all of its health checks have passed (yet).
    Running,
    /// Running and healthy.
    Healthy,
}

/// A task that the scheduler may stop, ordered by its use.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    phase: TaskPhase,
    id: String,
    /// Neither a deployment nor a scale-in stops it.
    protected: bool,
}

impl World {
    pub(super) fn phase(&self, task: &TaskState) -> TaskPhase {
        if task.shape.desired_status == "STOPPED" || task.shape.last_status > LastStatus::Running {
            return TaskPhase::Stopping;
        }
        if task.shape.last_status < LastStatus::Running {
            return TaskPhase::Starting;
        }
        if self.is_healthy(task) { TaskPhase::Healthy } else { TaskPhase::Running }
    }

    /// One run of a service's scheduler.
    pub(in crate::world) fn schedule(&mut self, key: &ServiceKey) {
        let Some(service) = self.services.get_mut(key) else { return };
        service.scheduled = false;
        self.stop_unhealthy(key);
        self.record_start(key);
        let Some(service) = self.services.get(key) else { return };
        let desired = as_count(service.desired);
        let Some(primary) = service.deployments.first().cloned() else { return };
        let configuration = service.configuration.clone();
        let failed = primary.rollout_state == RolloutState::Failed;

        let (mut new, mut old) = self.candidates(service, &primary.id);
        let min_healthy = (desired * configuration.minimum_healthy_percent as usize).div_ceil(100);
        let stopping = take_surplus(&mut new, &mut old, desired, (!failed).then_some(min_healthy));
        if !stopping.is_empty() {
            let names: Vec<String> = stopping.iter().map(|id| format!("(task {id})")).collect();
            self.add_service_event(key, &format!("has stopped {} running tasks: {}.", names.len(), names.join(" ")));
            let activity = "Scaling activity initiated by deployment";
            for id in stopping {
                self.begin_stop(&id, "ServiceSchedulerInitiated", &format!("{activity} {}", primary.id));
            }
        }

        // A task that is being stopped does not count: with a maximum of 100 %, its replacement starts while it still
        // shuts down (aws/containers-roadmap#959).
        let max_tasks = (desired * configuration.maximum_percent as usize / 100).max(1);
        let room = max_tasks.saturating_sub(new.len() + old.len());
        let missing = desired.saturating_sub(new.len()).min(room);
        if missing > 0 && !failed {
            self.start_service_tasks(key, missing);
        }
        self.complete_if_steady(key);
    }

    /// The tasks of the primary deployment, and those of older ones, that are not stopping; the least useful first.
    fn candidates(&self, service: &ScheduledService, primary: &str) -> (Vec<Candidate>, Vec<Candidate>) {
        let (mut new, mut old) = (Vec::new(), Vec::new());
        for id in &service.live {
            let Some(task) = self.tasks.get(id) else { continue };
            let phase = self.phase(task);
            if phase == TaskPhase::Stopping {
                continue;
            }
            let side = if task.deployment.as_deref() == Some(primary) { &mut new } else { &mut old };
            side.push(Candidate { phase, id: id.clone(), protected: self.is_protected(task) });
        }
        new.sort();
        old.sort();
        (new, old)
    }

    fn start_service_tasks(&mut self, key: &ServiceKey, count: usize) {
        let Some(service) = self.services.get(key) else { return };
        if let Some(retry_at) = service.retry_at.filter(|at| *at > self.now) {
            self.at(retry_at, AgendaItem::Schedule(key.clone()));
            return;
        }
        let definition = service.task_definition().to_owned();
        let deployment = service.deployments[0].id.clone();
        let container = service.load_balancers.first().map(|binding| binding.container_name.clone());
        let placed_by = service.placed_by();
        let provider = placed_by.clone().filter(|_| service.capacity_provider_strategy.is_some());
        // Tasks placed by Fargate providers have its launch type, others run on instances.
        let launch_type = match provider.as_deref() {
            Some("FARGATE" | "FARGATE_SPOT") => Some("FARGATE".to_owned()),
            Some(_) => Some("EC2".to_owned()),
            None => service.launch_type.clone(),
        };
        let has_capacity = placed_by.is_none_or(|placed_by| !self.without_capacity.contains(&placed_by));
        let image = self.image_of(&definition, container.as_deref());
        let placeable = has_capacity
            && (self.settings.backend == TaskBackend::External
                || self.image_behaviour(&image).starts != StartBehaviour::PlacementFailure);
        if !placeable {
            let words = "was unable to place a task. Reason: Capacity is unavailable at this time. Please try again \
                         later or in a different availability zone.";
            self.add_service_event(key, words);
            self.emit_service_action(key, "SERVICE_TASK_PLACEMENT_FAILURE", Some("RESOURCE:FARGATE"));
            let again = later(self.now, PLACEMENT_RETRY_MS);
            if let Some(service) = self.services.get_mut(key) {
                service.retry_at = Some(again);
            }
            self.at(again, AgendaItem::Schedule(key.clone()));
            return;
        }
        let mut names = Vec::new();
        for _ in 0..count {
            let id = self.start_task(NewTask {
                cluster: key.0.clone(),
                service: Some(key.clone()),
                deployment: Some(deployment.clone()),
                definition: definition.clone(),
                container: container.clone(),
                group: format!("service:{}", key.1),
                started_by: Some(deployment.clone()),
                launch_type: launch_type.clone(),
                capacity_provider: provider.clone(),
                overrides: None,
            });
            names.push(format!("(task {id})"));
        }
        if let Some(service) = self.services.get_mut(key) {
            service.steady = false;
        }
        self.add_service_event(key, &format!("has started {} tasks: {}.", names.len(), names.join(" ")));
    }

    /// Reports that a deployment is complete or the service is steady, if so.
    fn complete_if_steady(&mut self, key: &ServiceKey) {
        let Some(service) = self.services.get(key) else { return };
        let Some(primary) = service.deployments.first() else { return };
        let (mut healthy, mut others) = (0, 0);
        for task in service.live.iter().filter_map(|id| self.tasks.get(id)) {
            let of_primary = task.deployment.as_deref() == Some(&primary.id);
            if of_primary && self.phase(task) == TaskPhase::Healthy {
                healthy += 1;
            } else {
                others += 1;
            }
        }
        if healthy != as_count(service.desired) || others > 0 || service.steady {
            return;
        }
        let state = primary.rollout_state;
        let id = primary.id.clone();
        let (task_definition, revision) = (primary.task_definition.clone(), primary.revision.clone());
        if state == RolloutState::Failed {
            return;
        }
        let now = self.now;
        let Some(service) = self.services.get_mut(key) else { return };
        service.steady = true;
        service.deployments.truncate(1);
        let arn = service.arn.clone();
        if state == RolloutState::InProgress {
            let reason = format!("ECS deployment {id} completed.");
            service.last_completed = Some(CompletedDeployment { task_definition, revision });
            if let Some(primary) = service.deployments.first_mut() {
                primary.rollout_state = RolloutState::Completed;
                primary.reason = reason.clone();
                primary.updated_at = now;
            }
            self.record_completion(key);
            self.add_service_event(key, &format!("(deployment {id}) deployment completed."));
            let name = "SERVICE_DEPLOYMENT_COMPLETED";
            self.emit(WorldEventKind::Deployment { service: arn, deployment: id, name, reason });
        }
        self.add_service_event(key, "has reached a steady state.");
        self.emit_service_action(key, "SERVICE_STEADY_STATE", None);
    }

    fn emit_service_action(&mut self, key: &ServiceKey, name: &'static str, reason: Option<&str>) {
        let service = self.services.get(key).map(|service| service.arn.clone()).unwrap_or_default();
        let cluster = self.clusters.get(&key.0).map(|cluster| cluster.cluster_arn.clone()).unwrap_or_default();
        self.emit(WorldEventKind::Service { service, cluster, name, reason: reason.map(str::to_owned) });
    }

    /// Records that a task of a service runs and is healthy.
    pub(super) fn note_success(&mut self, key: &ServiceKey, deployment: &str) {
        let Some(service) = self.services.get_mut(key) else { return };
        service.failures = 0;
        service.retry_at = None;
        if let Some(found) = service.deployments.iter_mut().find(|found| found.id == deployment) {
            found.proven = true;
            found.failed_tasks = 0;
        }
    }

    /// Records that a task of a service failed to start or to become healthy.
    pub(super) fn note_failure(&mut self, key: &ServiceKey, deployment: &str) {
        let now = self.now;
        let Some(service) = self.services.get_mut(key) else { return };
        service.failures = service.failures.saturating_add(1);
        let failures = service.failures;
        if failures > FAILURES_BEFORE_BACKOFF {
            let pause = (5_000u64 << (failures - FAILURES_BEFORE_BACKOFF).min(6)).min(300_000);
            service.retry_at = Some(later(now, pause));
        }
        let breaker = service.configuration.deployment_circuit_breaker;
        let threshold = breaker_threshold(service.desired);
        let mut trips = false;
        if let Some(found) = service.deployments.first_mut().filter(|found| found.id == deployment)
            && !found.proven
        {
            found.failed_tasks = found.failed_tasks.saturating_add(1);
            found.updated_at = now;
            trips =
                breaker.enable && found.failed_tasks >= threshold && found.rollout_state == RolloutState::InProgress;
        }
        if failures == FAILURES_BEFORE_BACKOFF + 2 {
            self.add_service_event(key, "is unable to consistently start tasks successfully.");
            self.emit_service_action(key, "SERVICE_TASK_START_IMPAIRED", None);
        }
        if trips {
            self.trip_circuit_breaker(key, breaker.rollback);
        }
    }

    fn trip_circuit_breaker(&mut self, key: &ServiceKey, rollback: bool) {
        let now = self.now;
        let Some(service) = self.services.get_mut(key) else { return };
        let arn = service.arn.clone();
        let last = service.last_completed.clone();
        let Some(primary) = service.deployments.first_mut() else { return };
        primary.rollout_state = RolloutState::Failed;
        primary.reason = "ECS deployment circuit breaker: tasks failed to start.".to_owned();
        primary.updated_at = now;
        let (id, record, reason) = (primary.id.clone(), primary.record.clone(), primary.reason.clone());
        let last = last.filter(|last| rollback && last.task_definition != primary.task_definition);
        self.record_failure(key, last.as_ref().map(|last| last.revision.as_str()));
        self.add_service_event(key, &format!("(deployment {id}) deployment failed: tasks failed to start."));
        let name = "SERVICE_DEPLOYMENT_FAILED";
        self.emit(WorldEventKind::Deployment { service: arn, deployment: id.clone(), name, reason });
        if let Some(CompletedDeployment { task_definition, revision }) = last {
            self.add_service_event(key, &format!("rolling back to task definition {task_definition}."));
            self.begin_deployment(key, task_definition, Some(RollbackTo { record, revision }));
            if let Some(primary) = self.services.get_mut(key).and_then(|service| service.deployments.first_mut()) {
                primary.reason = format!("ECS deployment circuit breaker: rolling back from {id}.");
            }
        }
    }
}

/// Number of failed tasks in a row that trip the circuit breaker: half of the desired count, at least 3 and at most 200
/// ("How the Amazon ECS deployment circuit breaker detects failures" in the ECS developer guide).
pub(super) fn breaker_threshold(desired: u32) -> u32 {
    desired.div_ceil(2).clamp(3, 200)
}

/// Takes the tasks that are stopped now out of both lists: the surplus, and those of older deployments that the
/// minimum of healthy tasks (`min_healthy`) does not need; none: the primary deployment has failed, and replaces none.
/// Protected tasks stay.
fn take_surplus(
    new: &mut Vec<Candidate>,
    old: &mut Vec<Candidate>,
    desired: usize,
    min_healthy: Option<usize>,
) -> Vec<String> {
    let mut stopping = Vec::new();
    let keep_old = if min_healthy.is_none() { desired.saturating_sub(new.len()) } else { usize::MAX };
    while new.len() > desired
        && let Some(index) = least_useful(new)
    {
        stopping.push(new.remove(index).id);
    }
    while old.len() > keep_old
        && let Some(index) = least_useful(old)
    {
        stopping.push(old.remove(index).id);
    }
    let Some(min_healthy) = min_healthy else { return stopping };
    let mut healthy = new.iter().chain(&*old).filter(|task| task.phase == TaskPhase::Healthy).count();
    while let Some(index) = least_useful(old) {
        if old[index].phase == TaskPhase::Healthy {
            if healthy <= min_healthy {
                break;
            }
            healthy -= 1;
        }
        stopping.push(old.remove(index).id);
    }
    stopping
}

/// The first task that may be stopped.
fn least_useful(tasks: &[Candidate]) -> Option<usize> {
    tasks.iter().position(|task| !task.protected)
}

fn as_count(desired: u32) -> usize {
    usize::try_from(desired).unwrap_or(usize::MAX)
}
