//! How many of the candidate's tasks may fail, and which tasks may still be placed.

use crate::deployment::Deployment;
use crate::policy::TaskFailures;
use crate::snapshot::{ServiceEvent, SideReading};
use crate::time::Seconds;
use crate::weighted::Candidate;
use jiff::Timestamp;

/// Before the candidate was up once: after this many tasks have stopped on their own, it will not start. A single one may be a
/// host failure. Afterwards the policy's [`TaskFailures`] apply.
const MOST_FAILED_STARTS: u32 = 2;

/// From the stage's start: a task that ECS cannot launch for this long, for a reason other than capacity, never starts.
const LAUNCH_PATIENCE: Seconds = Seconds(60);

/// Phrases in ECS service events that report missing capacity. ECS retries until there is capacity: Fargate Spot may be
/// unavailable for a while (ECS best practices guide, "Fargate Spot termination notice": the service retries until the capacity
/// is available), and an EC2 capacity provider adds hosts within minutes. ECS's other placement events are about permissions and
/// about tasks that stop repeatedly.
const NO_CAPACITY: [&str; 2] = ["unable to place a task", "unable to consistently place tasks"];

/// Why the candidate has lost too many tasks; `None`: within the tolerated number.
pub(super) fn too_many_failed(
    deployment: &Deployment,
    candidate: &Candidate,
    side: &SideReading,
    stable: Option<&SideReading>,
) -> Option<String> {
    let failed = side.failed();
    let newest = side.failed_starts.first().map_or("unknown", |newest| newest.reason.as_str());
    if candidate.healthy_since.is_none() {
        return (failed >= MOST_FAILED_STARTS).then(|| format!("{failed} tasks stopped, the last one: {newest}"));
    }
    let tasks = tasks_of(side);
    // Without a stable side to compare with, assume that it lost none: rolling back is the safe choice.
    let (of_stable, stable_tasks) = stable.map_or((0, 1), |stable| (stable.failed(), tasks_of(stable)));
    is_ill(deployment.policy.strategy.task_failures, (failed, tasks), (of_stable, stable_tasks)).then(|| {
        format!(
            "{failed} of {tasks} tasks stopped by themselves since the candidate was up, the last one: {newest} (of the \
             stable side: {of_stable} of {stable_tasks})"
        )
    })
}

/// Whether the candidate fails more than allowed; each pair is (failed tasks, all tasks).
fn is_ill(allowed: TaskFailures, (failed, tasks): (u32, u32), (of_stable, stable_tasks): (u32, u32)) -> bool {
    let [failed, tasks, of_stable, stable_tasks] = [failed, tasks, of_stable, stable_tasks].map(u128::from);
    failed > u128::from(allowed.count)
        && failed * 100 > u128::from(allowed.share.value()) * tasks
        && failed * stable_tasks > u128::from(allowed.times_stable) * of_stable * tasks
}

fn tasks_of(side: &SideReading) -> u32 {
    side.desired.max(side.running).max(1)
}

/// Why missing tasks will never start; `None`: they may still start. A task waiting for capacity may wait until its stage's
/// deadline.
pub(super) fn never_started(deployment: &Deployment, side: &SideReading, want: u32, now: Timestamp) -> Option<String> {
    let event = side.placement_failure.as_ref().filter(|_| side.running < want)?;
    let lasts = now >= LAUNCH_PATIENCE.after(deployment.stage_entered_at);
    (lasts && !waits_for_capacity(event)).then(|| event.message.clone())
}

fn waits_for_capacity(event: &ServiceEvent) -> bool {
    NO_CAPACITY.iter().any(|words| event.message.contains(words))
}

/// Describes what prevents task placement, with the capacity provider or launch type.
pub(super) fn not_placed(side: &SideReading, event: &ServiceEvent) -> String {
    if waits_for_capacity(event) && !side.placed_by.is_empty() {
        return format!("waiting for capacity of {}: {}", side.placed_by.join(", "), event.message);
    }
    event.message.clone()
}
