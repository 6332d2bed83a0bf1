//! How many tasks of the candidate may fail, and which tasks may still be placed.

use crate::policy::TaskFailures;
use crate::snapshot::{ServiceEvent, SideReading};
use crate::target::Deployment;
use crate::time::Seconds;
use jiff::Timestamp;

/// Before the candidate was up once: whose tasks stopped by themselves this often will not come up. One may be an accident
/// of its host. Afterwards the policy's [`TaskFailures`] hold.
const MOST_FAILED_STARTS: u32 = 2;

/// Counted from the stage's start: a task that ECS cannot launch for another reason than capacity for this long never starts.
const LAUNCH_PATIENCE: Seconds = Seconds(60);

/// The words by which ECS says that it has found no place for a task yet. It tries again until there is one: Fargate Spot may
/// be unavailable for a while (ECS best practices guide, "Fargate Spot termination notice": the service retries until the
/// capacity is available), and a capacity provider of EC2 adds hosts within minutes. Its other events of this kind are of
/// permissions and of tasks that end again and again.
const NO_CAPACITY: [&str; 2] = ["unable to place a task", "unable to consistently place tasks"];

/// Why the candidate has lost too many tasks; none: no more than are put up with.
pub(super) fn too_many_failed(
    deployment: &Deployment,
    side: &SideReading,
    stable: Option<&SideReading>,
) -> Option<String> {
    let failed = side.failed();
    let newest = side.failed_starts.first().map_or("unknown", |newest| newest.reason.as_str());
    if deployment.up_since.is_none() {
        return (failed >= MOST_FAILED_STARTS).then(|| format!("{failed} tasks stopped, the last one: {newest}"));
    }
    let tasks = tasks_of(side);
    // Who cannot be compared with has lost none: going back is the safe side.
    let (of_stable, stable_tasks) = stable.map_or((0, 1), |stable| (stable.failed(), tasks_of(stable)));
    is_ill(deployment.policy.strategy.task_failures, (failed, tasks), (of_stable, stable_tasks)).then(|| {
        format!(
            "{failed} of {tasks} tasks stopped by themselves since the candidate was up, the last one: {newest} (of the \
             stable side: {of_stable} of {stable_tasks})"
        )
    })
}

/// Failed tasks and all tasks, of the candidate and of the stable side.
fn is_ill(allowed: TaskFailures, (failed, tasks): (u32, u32), (of_stable, stable_tasks): (u32, u32)) -> bool {
    let [failed, tasks, of_stable, stable_tasks] = [failed, tasks, of_stable, stable_tasks].map(u128::from);
    failed > u128::from(allowed.count)
        && failed * 100 > u128::from(allowed.share.value()) * tasks
        && failed * stable_tasks > u128::from(allowed.times_stable) * of_stable * tasks
}

fn tasks_of(side: &SideReading) -> u32 {
    side.desired.max(side.running).max(1)
}

/// Why missing tasks will never start; none: they may. What waits for capacity waits for as long as its stage may take.
pub(super) fn never_started(deployment: &Deployment, side: &SideReading, want: u32, now: Timestamp) -> Option<String> {
    let event = side.placement_failure.as_ref().filter(|_| side.running < want)?;
    let lasts = now >= LAUNCH_PATIENCE.after(deployment.stage_entered_at);
    (lasts && !waits_for_capacity(event)).then(|| event.message.clone())
}

fn waits_for_capacity(event: &ServiceEvent) -> bool {
    NO_CAPACITY.iter().any(|words| event.message.contains(words))
}

/// What keeps tasks from being placed, with what they are placed by.
pub(super) fn not_placed(side: &SideReading, event: &ServiceEvent) -> String {
    if waits_for_capacity(event) && !side.placed_by.is_empty() {
        return format!("waiting for capacity of {}: {}", side.placed_by.join(", "), event.message);
    }
    event.message.clone()
}
