//! A service at 0 tasks, on both sides: it is not ill, and a release for it waits until it wakes.

use super::pass::{Flow, Pass};
use crate::entry::Gate;
use crate::journal::Fact;
use crate::names::Slot;
use crate::promotion::rules::ASLEEP;
use crate::snapshot::Snapshot;
use crate::stage::{Stage, Verdict};
use crate::target::{Deployment, WaitingOn};
use crate::time::Seconds;
use jiff::Timestamp;

/// How often a sleeping service is looked at. ECS's own events tell of its waking; this is for one that is lost, and a night
/// of looks must not cost what others need of AWS's budgets.
pub(super) const POLL: Seconds = Seconds(300);

/// Whether both sides have been put to sleep: something is stable here on record, and no task is wanted of either.
pub(super) fn is_asleep(pass: &Pass, snapshot: &Snapshot) -> bool {
    let at_zero = |slot| snapshot.side(slot).known().is_some_and(|side| side.desired == 0);
    pass.state.stable.is_some() && [Slot::Blue, Slot::Green].into_iter().all(at_zero)
}

/// Preflight has found the service asleep: nothing has begun, and the deployment is back at its gates.
pub(super) fn back_to_gates(pass: &mut Pass, deployment: &mut Deployment) -> Flow {
    deployment.asleep = true;
    deployment.blocked = None;
    let deadline = deployment.gates_until.unwrap_or_else(|| deployment.stage.deadline());
    let stage = Stage::Gated { deadline };
    if deployment.gates.is_some() {
        // The gates tell what they wait for.
        deployment.stage = stage;
        deployment.stage_entered_at = pass.now;
    } else {
        pass.enter(deployment, stage, Gate::Asleep.name());
        let fact = Fact::GateWaits { gate: Gate::Asleep, reason: ASLEEP.to_owned(), until: None };
        pass.note(Some(deployment.number), fact);
    }
    pass.look_again();
    Flow::Wait
}

/// Whether the service has woken since it was found asleep. What cannot be read has not.
pub(super) fn has_woken(pass: &mut Pass, deployment: &mut Deployment, snapshot: Option<&Snapshot>) -> bool {
    let Some(snapshot) = snapshot.filter(|_| deployment.asleep) else { return false };
    let seen = [Slot::Blue, Slot::Green].into_iter().all(|slot| snapshot.side(slot).known().is_some());
    if !seen || is_asleep(pass, snapshot) {
        return false;
    }
    deployment.asleep = false;
    if deployment.gates.is_none() {
        let fact = Fact::GateOpened { gate: Gate::Asleep, how: "the service is awake".to_owned() };
        pass.note(Some(deployment.number), fact);
    }
    true
}

/// A rollback waits for the service to wake, and for nothing else.
pub(super) fn wait(pass: &mut Pass, deployment: &Deployment, deadline: Timestamp) -> Flow {
    if pass.now >= deadline {
        let reason = format!("{}: {ASLEEP}", Gate::Asleep);
        return pass.end(deployment, Verdict::Expired, reason, None);
    }
    let on = WaitingOn::Gate { gate: Gate::Asleep, reason: ASLEEP.to_owned(), until: None, deadline };
    pass.wait(on, POLL, deadline)
}
