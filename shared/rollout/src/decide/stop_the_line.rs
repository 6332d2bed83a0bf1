//! Stop-the-line: running deployments keep their traffic split, alarms are still checked, and timers are paused.

use super::health::UNREAD_POLL;
use super::transition::Context;
use crate::deployment::{Deployment, Purpose};
use crate::entry::Gate;
use crate::explanation::WaitingOn;
use crate::time::Seconds;
use jiff::Timestamp;

const STOPPED_POLL: Seconds = Seconds(15);

/// The wait of a deployment that stop-the-line holds.
pub(super) struct Stopped {
    /// The wait shown to people.
    pub(super) on: WaitingOn,
    /// Poll interval.
    pub(super) poll: Seconds,
    /// Minimum for the deadline of the current wait, so that timers do not expire while the line is stopped.
    pub(super) deadline: Timestamp,
}

/// Why and how long to hold the deployment: the line is stopped, or its state could not be read; `None`: it may pass.
pub(super) fn reason_to_hold(context: &Context<'_>, deployment: &Deployment) -> Option<Stopped> {
    let passes = deployment.gates.as_ref().is_some_and(|gates| {
        gates.overridden.contains_key(&Gate::StopTheLine) || gates.skipped.contains(&Gate::StopTheLine)
    });
    if deployment.purpose != Purpose::Deploy || passes {
        return None;
    }
    let (reason, poll) = match context.line_stopped? {
        Ok(reason) => (reason.clone(), STOPPED_POLL),
        Err(unread) => (unread.clone(), UNREAD_POLL),
    };
    let deadline = deployment.policy.deadlines.shift.after(context.now);
    let on = WaitingOn::Gate { gate: Gate::StopTheLine, reason, until: None, deadline };
    Some(Stopped { on, poll, deadline })
}
