//! Waiting for one's turn before AWS's API budgets, and what throttling does to deadlines: nothing ends because of it.

use super::pass::{Flow, Pass};
use super::queue;
use crate::journal::Fact;
use crate::pace;
use crate::snapshot::Snapshot;
use crate::target::{Deployment, WaitingOn};

/// What stands in the record of one that waits for its turn.
const WAITS: &str = "its turn has not come: AWS lets an account ask only so much, and others have asked before";

/// Nothing is looked at before its turn; what people ask is heard, and a newer release takes its place.
pub(super) fn wait(pass: &mut Pass, deployment: &mut Deployment) -> Flow {
    match queue::give_way(pass, deployment) {
        Flow::Onward => {}
        stopped => return stopped,
    }
    let Some(at) = pace::turn(deployment, pass.now) else { return Flow::Onward };
    if deployment.blocked.as_deref() != Some(WAITS) {
        pass.note(Some(deployment.number), Fact::Blocked { reason: WAITS.to_owned() });
        deployment.blocked = Some(WAITS.to_owned());
    }
    // Preflight has its time from then on.
    deployment.stage.has_time_until(deployment.policy.deadlines.preflight.after(at));
    pass.explain(WaitingOn::Turn { at });
    pass.look_by(at);
    Flow::Wait
}

/// Moves the stage's deadline where this look was throttled, or what was tried last.
pub(super) fn give_time(pass: &Pass, deployment: &mut Deployment, snapshot: &Snapshot) {
    let throttled = snapshot.throttled || deployment.trouble.as_ref().is_some_and(|trouble| trouble.throttled);
    if throttled && let Some(until) = pace::more_time(deployment, pass.now, pace::again_at(&pass.state, pass.now)) {
        deployment.stage.has_time_until(until);
    }
}
