//! Judges a workload that changes its version in place: whether everything that runs is of a version and healthy,
//! whether that will never be, and whether somebody else has set another version.

use super::tasks;
use crate::deployment::Deployment;
use crate::snapshot::{Reading, RolloutReading, Snapshot, WorkloadReading};
use crate::time::Seconds;
use crate::weighted::Candidate;
use jiff::Timestamp;

/// How long protected tasks may keep a replacement from ending: the longest protection that a task can ask for (ECS API
/// reference, `UpdateTaskProtection`, `expiresInMinutes`).
const LONGEST_PROTECTION: Seconds = Seconds(48 * 3600);

/// How far the replacement by a version is.
pub(super) enum Replacement {
    /// Everything that runs is of the version and healthy.
    Done { running: u32 },
    /// Not yet.
    NotYet(Progress),
    /// It will never be: the platform gave up, tasks stop, or another image runs.
    Never { reason: String },
    /// The workload was set to run another version, by the platform's own rollback or by somebody else.
    Foreign { found: String },
    /// The workload could not be read.
    Unknown(String),
}

/// The counts of a replacement that goes on.
pub(super) struct Progress {
    /// Healthy tasks of the version.
    pub(super) healthy: u32,
    /// Tasks needed.
    pub(super) want: u32,
    /// Tasks of other versions that still run.
    pub(super) others: u32,
    /// How many of those are protected.
    pub(super) protected: u32,
    /// Other counts and problems, for people.
    pub(super) detail: String,
}

impl Progress {
    fn of(workload: &WorkloadReading, detail: String) -> Self {
        Self {
            healthy: workload.healthy(),
            want: workload.desired,
            others: workload.others,
            protected: workload.tasks.as_ref().map_or(0, |tasks| tasks.protected),
            detail,
        }
    }

    /// Whether nothing is missing but that protected tasks of other versions end.
    pub(super) fn waits_for_protected_tasks(&self) -> bool {
        self.protected > 0 && self.others == self.protected && self.healthy >= self.want
    }

    /// The counts, for people.
    pub(super) fn summary(&self) -> String {
        let Self { healthy, want, others, protected, detail } = self;
        let protected = if *protected > 0 { format!(" ({protected} of them protected)") } else { String::new() };
        format!("{healthy} of {want} tasks healthy, {others} of other versions still run{protected}: {detail}")
    }
}

/// Judges the new version. `before`: the version before it. `settled`: the reading cannot be older than Switchback's
/// last change.
pub(super) fn of_candidate(
    deployment: &Deployment,
    (candidate, before): (&Candidate, &str),
    snapshot: &Snapshot,
    settled: bool,
    now: Timestamp,
) -> Replacement {
    let workload = match &snapshot.workload {
        Reading::Known(workload) => workload,
        Reading::Unknown(reason) => return Replacement::Unknown(unread(reason)),
    };
    if let Some(reason) = &workload.gave_up {
        return Replacement::Never { reason: format!("ECS gave up: {reason}") };
    }
    if let Some(reason) = tasks::too_many_failed_in_place(deployment, candidate, workload) {
        return Replacement::Never { reason };
    }
    if workload.version != candidate.version {
        if settled && (candidate.seen_running || workload.version != before) {
            return Replacement::Foreign { found: workload.version.clone() };
        }
        let detail = "the workload was not set to run the new version yet".to_owned();
        return Replacement::NotYet(Progress { healthy: 0, ..Progress::of(workload, detail) });
    }
    // Until the reading is settled, the failure may be that of an earlier attempt.
    if let RolloutReading::Failed { reason } = &workload.rollout
        && settled
    {
        return Replacement::Never { reason: format!("ECS gave up: {reason}") };
    }
    if let Some(reason) = tasks::launch_failure_in_place(deployment, workload, now) {
        return Replacement::Never { reason };
    }
    let wanted = deployment.release.id.digest.as_str();
    if let Some(digest) = workload.digest.as_deref().filter(|digest| *digest != wanted) {
        return Replacement::Never { reason: format!("the new version runs {digest}, not {wanted}") };
    }
    of_version(workload)
}

/// Judges the version that the workload is set to run, without a limit to what may fail: a rollback has nowhere else
/// to go.
pub(super) fn of_version(workload: &WorkloadReading) -> Replacement {
    if workload.is_replaced() && workload.desired > 0 {
        return Replacement::Done { running: workload.running };
    }
    Replacement::NotYet(Progress::of(workload, detail(workload)))
}

/// The deadline of a replacement that waits for nothing but protected tasks: they end by themselves, and the version that
/// replaces them is up. `longer`: the deadline of one that begins now.
pub(super) fn extended(
    deployment: &Deployment,
    progress: &Progress,
    deadline: Timestamp,
    longer: Timestamp,
) -> Timestamp {
    if !progress.waits_for_protected_tasks() {
        return deadline;
    }
    deadline.max(longer.min(LONGEST_PROTECTION.after(deployment.stage_entered_at)))
}

/// Text for a workload that could not be read.
pub(super) fn unread(reason: &str) -> String {
    format!("the workload could not be read: {reason}")
}

fn detail(workload: &WorkloadReading) -> String {
    let mut parts = vec![format!("{} of {} tasks running", workload.running, workload.desired)];
    if workload.desired == 0 {
        parts.push("it is scaled to 0, so nothing shows whether the version works".to_owned());
    }
    if let Some(targets) = &workload.targets {
        for (count, state) in
            [(targets.initial, "starting"), (targets.unhealthy, "unhealthy"), (targets.unused, "unused")]
        {
            if count > 0 {
                parts.push(format!("{count} targets {state}"));
            }
        }
    }
    if let Some(failed) = workload.failed_starts.first() {
        parts.push(format!("a task stopped: {}", failed.reason));
    }
    if let Some(event) = workload.placement_failure.as_ref().filter(|_| workload.running < workload.desired) {
        parts.push(tasks::not_placed(&workload.placed_by, event));
    }
    match &workload.rollout {
        RolloutReading::InProgress { .. } => parts.push("ECS has not called the deployment complete yet".to_owned()),
        RolloutReading::Failed { reason } => parts.push(format!("ECS gave up: {reason}")),
        RolloutReading::Complete => {}
    }
    parts.join(", ")
}
