//! Stop-the-line: running deployments keep their traffic split, alarms are still checked, and timers are paused.

use super::health::UNREAD_POLL;
use super::transition::Context;
use crate::deployment::{Deployment, Purpose};
use crate::entry::Gate;
use crate::explanation::WaitingOn;
use crate::time::Seconds;
use jiff::Timestamp;

const STOPPED_POLL: Seconds = Seconds(15);

/// Why a deployment may not proceed while the line is stopped.
pub(super) struct Stopped {
    pub(super) on: WaitingOn,
    pub(super) poll: Seconds,
    /// Minimum for the deadline of the current wait, so that timers do not expire while the line is stopped.
    pub(super) deadline: Timestamp,
}

/// `Some` if the line is stopped, or its state could not be read, and the deployment may not pass.
pub(super) fn stopped(context: &Context<'_>, deployment: &Deployment) -> Option<Stopped> {
    let passes = deployment.gates.as_ref().is_some_and(|gates| {
        gates.overridden.contains_key(&Gate::StopTheLine) || gates.skipped.contains(&Gate::StopTheLine)
    });
    if deployment.purpose != Purpose::Deploy || passes {
        return None;
    }
    let (reason, poll) = match context.line? {
        Ok(reason) => (reason.clone(), STOPPED_POLL),
        Err(unread) => (unread.clone(), UNREAD_POLL),
    };
    let deadline = deployment.policy.deadlines.shift.after(context.now);
    let on = WaitingOn::Gate { gate: Gate::StopTheLine, reason, until: None, deadline };
    Some(Stopped { on, poll, deadline })
}
