//! Checks the ECS service of a target whose versions replace one another in place: whether ECS can replace its tasks,
//! what the health of a new task proves, and who rolls back.

use super::ecs_service::{self, NamedService};
use super::{InspectedPlatform, PlatformDoctor, report_other_platform};
use crate::doctor::account::FargateStart;
use crate::doctor::inspected::{InspectedService, InspectedTargetGroup, InspectedTaskDefinition, InspectedWorkload};
use crate::doctor::target_groups::{self, TimeLimit};
use crate::doctor::terraform::IgnoredAttributes;
use crate::doctor::{Findings, Severity, alarms, target_group_label};
use crate::platform::EcsRolling;
use crate::policy::TargetPolicy;
use crate::time::Seconds;

/// A bake of this length shows most faults of a release whose tasks count as healthy for no reason.
const LONG_BAKE: Seconds = Seconds(5 * 60);

impl PlatformDoctor for EcsRolling {
    fn judge(&self, policy: &TargetPolicy, seen: &InspectedPlatform, findings: &mut Findings) -> Option<FargateStart> {
        let InspectedPlatform::EcsRolling(seen) = seen else {
            report_other_platform(findings);
            return None;
        };
        judge(policy, self, seen, findings);
        fargate_start(self, seen)
    }

    fn ignored_attributes(&self, _: &InspectedPlatform) -> Vec<IgnoredAttributes> {
        // Neither the desired count nor its limits are ever changed.
        vec![IgnoredAttributes::new("aws_ecs_service", ecs_service::full_name(self.service()), &["task_definition"])]
    }
}

fn judge(policy: &TargetPolicy, named: &EcsRolling, seen: &InspectedWorkload, findings: &mut Findings) {
    if ecs_service::is_without_cluster(seen) {
        ecs_service::report_missing_cluster(&named.cluster, findings);
    } else {
        check_workload(policy, named, seen, findings);
    }
    for (arn, group) in named.target_groups.iter().zip(&seen.groups) {
        let subject = target_group_label(arn);
        match findings.known(&subject, group) {
            Some(Some(group)) => check_target_group(policy, &subject, group, findings),
            Some(None) => target_groups::report_missing(&subject, "the service", findings),
            None => {}
        }
    }
}

/// Checks the service and the task definition that it runs.
fn check_workload(policy: &TargetPolicy, named: &EcsRolling, seen: &InspectedWorkload, findings: &mut Findings) {
    let checked = NamedService {
        service: named.service(),
        groups: named.target_groups.iter().map(String::as_str).collect(),
        is_scaled: false,
        create: "create it, or name the right one as `service`".to_owned(),
        own_strategy: "Switchback drives rolling updates only",
        groups_named: "under `traffic`".to_owned(),
        besides: [
            "where no deployment looks at their health",
            "name these groups under `traffic`, too, or take the service out of them",
        ],
    };
    let subject = checked.label();
    let service = ecs_service::judge(&checked, seen, findings);
    let definition = ecs_service::judge_definition(&checked, seen, findings);
    let Some(service) = service else { return };
    check_limits(&subject, service, findings);
    check_rollback(&subject, service, findings);
    check_downtime(named, &subject, service, definition, findings);
    if let Some(definition) = definition.filter(|_| named.target_groups.is_empty() && service.groups.is_empty()) {
        check_container_health(policy, named, &subject, definition, findings);
    }
}

/// How many tasks ECS keeps, and how many it allows, while it replaces them: the percentages of the desired count, the
/// minimum rounded up and the maximum rounded down (ECS API reference, `DeploymentConfiguration`).
struct TaskLimits {
    desired: u64,
    kept: u64,
    allowed: u64,
}

impl TaskLimits {
    fn of(service: &InspectedService) -> Self {
        let desired = u64::from(service.desired);
        Self {
            desired,
            kept: (desired * u64::from(service.minimum_percent)).div_ceil(100),
            allowed: desired * u64::from(service.maximum_percent) / 100,
        }
    }

    /// An old task may stop before a new one runs.
    fn may_stop_first(&self) -> bool {
        self.kept < self.desired
    }

    /// A new task may start while all old ones run.
    fn may_start_first(&self) -> bool {
        self.allowed > self.desired
    }
}

/// Whether ECS can replace a task at all: otherwise a deployment lasts until its deadline, and only an event of the
/// service says why.
fn check_limits(subject: &str, service: &InspectedService, findings: &mut Findings) {
    let limits = TaskLimits::of(service);
    if limits.desired == 0 {
        ecs_service::check_percentages(subject, service, findings);
        return;
    }
    if limits.may_stop_first() || limits.may_start_first() {
        return;
    }
    let TaskLimits { desired, kept, allowed } = limits;
    let (min, max) = (service.minimum_percent, service.maximum_percent);
    let problem = format!(
        "of a desired count of {desired}, minimumHealthyPercent {min} keeps {kept} (rounded up) and maximumPercent \
         {max} allows {allowed} (rounded down): ECS can neither stop a task nor start one, and no deployment ends"
    );
    let start = ((desired + 1) * 100).div_ceil(desired);
    let stop = (desired - 1) * 100 / desired;
    let remedy = format!(
        "set maximumPercent to {start} or more, so that a new task starts first, or minimumHealthyPercent to {stop} or \
         less, so that an old one stops first"
    );
    findings.broken("service_cannot_update", subject, problem, remedy);
}

/// Whether ECS rolls back as well.
fn check_rollback(subject: &str, service: &InspectedService, findings: &mut Findings) {
    let causes = [(service.breaker_rolls_back, "its circuit breaker"), (service.alarms_roll_back, "its own alarms")];
    let causes: Vec<&str> = causes.into_iter().filter_map(|(rolls_back, cause)| rolls_back.then_some(cause)).collect();
    if !causes.is_empty() {
        let problem = format!(
            "ECS rolls back by itself, by {}, and so does Switchback: Switchback notices a rollback by ECS and follows \
             it, but two judge the same release",
            causes.join(" and ")
        );
        let remedy = "let one of the two roll back: turn `rollback` off in its circuit breaker and deployment alarms";
        findings.advice("service_rolls_back", subject, problem, remedy);
    }
}

/// Whether no task is left running while ECS replaces them.
fn check_downtime(
    named: &EcsRolling,
    subject: &str,
    service: &InspectedService,
    definition: Option<&InspectedTaskDefinition>,
    findings: &mut Findings,
) {
    let limits = TaskLimits::of(service);
    if limits.kept > 0 || limits.desired == 0 {
        return;
    }
    let container = definition.and_then(|definition| definition.containers.get(&named.container));
    let timeout = container.and_then(|container| container.stop_timeout_s).map(|seconds| Seconds(u64::from(seconds)));
    let stopping = timeout.map_or_else(String::new, |timeout| format!(" (stopTimeout: up to {timeout})"));
    let problem = format!(
        "minimumHealthyPercent {} lets ECS stop every task before a new one is healthy: the workload is down during \
         each deployment and each rollback, while old tasks stop{stopping} and new ones become healthy",
        service.minimum_percent
    );
    let remedy = "leave it so where two versions must never run at once; otherwise set minimumHealthyPercent to 100 \
                  and maximumPercent to 200";
    findings.advice("service_stops_first", subject, problem, remedy);
}

/// Whether a healthy task says anything about the release where no target group does: without a health check of an
/// essential container, ECS counts a task as healthy after 40 s in `RUNNING` (API reference, `DeploymentConfiguration`,
/// `minimumHealthyPercent`).
fn check_container_health(
    policy: &TargetPolicy,
    named: &EcsRolling,
    subject: &str,
    definition: &InspectedTaskDefinition,
    findings: &mut Findings,
) {
    let name = named.container.as_str();
    let checked = definition.containers.iter().filter(|(_, container)| container.essential && container.health_check);
    let checked: Vec<&str> = checked.map(|(name, _)| name.as_str()).collect();
    // A container that is missing has a finding of its own.
    if checked.contains(&name) || !definition.containers.contains_key(name) {
        return;
    }
    let proof = match checked.as_slice() {
        [] => "no essential container has a health check: a task is healthy after 40s, whatever it does".to_owned(),
        others => format!("only {} has a health check: a task is healthy whatever {name} does", others.join(", ")),
    };
    let mut problem = format!("it is behind no load balancer, and {proof}");
    let mut remedy = format!(
        "give the container {name} a `healthCheck` in the task definition, and see that it is essential; a HEALTHCHECK \
         in the image does not count"
    );
    let bake = policy.strategy.bake;
    let severity = if bake < LONG_BAKE && !alarms::is_protected(policy) {
        problem.push_str(&format!("; the bake takes {bake}, and no alarm rolls back"));
        remedy.push_str(&format!("; or name an alarm, or bake for {LONG_BAKE}"));
        Severity::Risky
    } else {
        Severity::Advice
    };
    findings.add(severity, "health_unproven", subject, problem, remedy);
}

fn check_target_group(policy: &TargetPolicy, subject: &str, group: &InspectedTargetGroup, findings: &mut Findings) {
    target_groups::check_balancers(subject, group, "forward to it from a rule or listener", findings);
    let consequence = "old tasks are not gone in time, and the deployment rolls back";
    let gone = TimeLimit { name: "healthy", limit: policy.deadlines.healthy, consequence };
    target_groups::check_draining(subject, group, &gone, findings);
    target_groups::check_first_health(subject, group, policy.deadlines.healthy, findings);
    let bake = policy.strategy.bake;
    let slow_start = Seconds(u64::from(group.slow_start_s));
    if slow_start > bake {
        let problem = format!(
            "its slow start takes {slow_start}, and the bake {bake}: new tasks are judged before they have their full \
             share of the requests"
        );
        let remedy = "turn slow start off (slow_start.duration_seconds = 0), or lengthen `bake`";
        findings.risky("slow_start_outlasts_hold", subject, problem, remedy);
    }
    target_groups::check_illness(subject, group, bake, ["the bake takes", "lengthen `bake`"], findings);
}

/// The task that ECS starts on Fargate beside those that run. None: it is not on Fargate, an old task stops first, or
/// something could not be read.
fn fargate_start(named: &EcsRolling, seen: &InspectedWorkload) -> Option<FargateStart> {
    let service = seen.service.known()?.as_ref().filter(|service| service.on_fargate)?;
    let limits = TaskLimits::of(service);
    if limits.may_stop_first() || !limits.may_start_first() {
        return None;
    }
    let definition = seen.definition.known()?.as_ref()?;
    let [now, then] = [service.desired, service.desired.saturating_add(1)].map(|tasks| service.tasks_on_fargate(tasks));
    Some(FargateStart {
        subject: ecs_service::label(&named.service),
        tasks: [then[0].saturating_sub(now[0]), then[1].saturating_sub(now[1])],
        cpu_units: definition.cpu_units?,
    })
}
