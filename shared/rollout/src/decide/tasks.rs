//! Limits for the candidate's tasks: how many may fail, and how long one may wait to be placed.

use crate::answers::ecs::waits_for_capacity;
use crate::deployment::Deployment;
use crate::policy::TaskFailures;
use crate::snapshot::{FailedStart, ServiceEvent, SideReading, WorkloadReading};
use crate::time::Seconds;
use crate::weighted::Candidate;
use jiff::Timestamp;

/// Before the candidate was up once: after this many tasks have stopped on their own, it will not start. A single one
/// may be a host failure. Afterwards the policy's [`TaskFailures`] apply.
const MAX_FAILED_STARTS: u32 = 2;

/// From the stage's start: a task that ECS cannot launch for this long, for a reason other than capacity, never starts.
const LAUNCH_TIMEOUT: Seconds = Seconds(60);

/// Why the candidate has lost too many tasks; `None`: within the tolerated number.
pub(super) fn too_many_failed(
    deployment: &Deployment,
    candidate: &Candidate,
    side: &SideReading,
    stable: Option<&SideReading>,
) -> Option<String> {
    let failed = side.failed();
    let newest = newest(&side.failed_starts);
    if candidate.healthy_since.is_none() {
        return failed_to_start(failed, newest);
    }
    let tasks = tasks_of(side);
    // Without a stable side to compare with, assume that it lost none: rolling back is the safe choice.
    let (of_stable, stable_tasks) = stable.map_or((0, 1), |stable| (stable.failed(), tasks_of(stable)));
    exceeds(deployment.policy.strategy.task_failures, (failed, tasks), (of_stable, stable_tasks)).then(|| {
        format!(
            "{failed} of {tasks} tasks stopped by themselves since the candidate was up, the last one: {newest} (of \
             the stable side: {of_stable} of {stable_tasks})"
        )
    })
}

/// The same of a version that is set in place: there is no stable side to compare with.
pub(super) fn too_many_failed_in_place(
    deployment: &Deployment,
    candidate: &Candidate,
    workload: &WorkloadReading,
) -> Option<String> {
    let (failed, newest) = (workload.failed(), newest(&workload.failed_starts));
    if candidate.healthy_since.is_none() {
        return failed_to_start(failed, newest);
    }
    let tasks = workload.desired.max(workload.running).max(1);
    exceeds(deployment.policy.strategy.task_failures, (failed, tasks), (0, 1)).then(|| {
        format!("{failed} of {tasks} tasks stopped by themselves since the version was up, the last one: {newest}")
    })
}

/// Why a version that was never up will not start: too many of its tasks have stopped.
pub(super) fn failed_to_start(failed: u32, newest: &str) -> Option<String> {
    (failed >= MAX_FAILED_STARTS).then(|| format!("{failed} tasks stopped, the last one: {newest}"))
}

fn newest(failed_starts: &[FailedStart]) -> &str {
    failed_starts.first().map_or("unknown", |newest| newest.reason.as_str())
}

/// Whether the candidate exceeds every limit of `allowed`; each pair is (failed tasks, all tasks).
fn exceeds(allowed: TaskFailures, (failed, tasks): (u32, u32), (of_stable, stable_tasks): (u32, u32)) -> bool {
    let [failed, tasks, of_stable, stable_tasks] = [failed, tasks, of_stable, stable_tasks].map(u128::from);
    failed > u128::from(allowed.count)
        && failed * 100 > u128::from(allowed.share.value()) * tasks
        && failed * stable_tasks > u128::from(allowed.times_stable) * of_stable * tasks
}

fn tasks_of(side: &SideReading) -> u32 {
    side.desired.max(side.running).max(1)
}

/// Why missing tasks will never start; `None`: they may still start. A task waiting for capacity may wait until its
/// stage's deadline.
pub(super) fn launch_failure(deployment: &Deployment, side: &SideReading, want: u32, now: Timestamp) -> Option<String> {
    let event = side.placement_failure.as_ref().filter(|_| side.running < want)?;
    never_launches(deployment, event, now)
}

/// The same of a version that is set in place.
pub(super) fn launch_failure_in_place(
    deployment: &Deployment,
    workload: &WorkloadReading,
    now: Timestamp,
) -> Option<String> {
    let event = workload.placement_failure.as_ref().filter(|_| workload.running < workload.desired)?;
    never_launches(deployment, event, now)
}

/// Why a task will never be placed; `None`: it may still be.
pub(super) fn never_launches(deployment: &Deployment, event: &ServiceEvent, now: Timestamp) -> Option<String> {
    let lasts = now >= LAUNCH_TIMEOUT.after(deployment.stage_entered_at);
    (lasts && !waits_for_capacity(&event.message)).then(|| event.message.clone())
}

/// Describes what prevents task placement. `placed_by`: the capacity providers or the launch type.
pub(super) fn not_placed(placed_by: &[String], event: &ServiceEvent) -> String {
    if waits_for_capacity(&event.message) && !placed_by.is_empty() {
        return format!("waiting for capacity of {}: {}", placed_by.join(", "), event.message);
    }
    event.message.clone()
}
