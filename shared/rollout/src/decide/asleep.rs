//! Services that are asleep: everything is scaled to 0 tasks. This is not a failure: a release waits until the service
//! is scaled up again.

use super::transition::{Change, Context, Transition};
use crate::deployment::Deployment;
use crate::entry::Gate;
use crate::explanation::WaitingOn;
use crate::journal::Fact;
use crate::names::Slot;
use crate::phase::{Gated, Phase, Preparing};
use crate::promotion::rules::ASLEEP;
use crate::snapshot::Snapshot;
use crate::target::TargetState;
use crate::time::Seconds;
use crate::verdict::Verdict;
use jiff::Timestamp;

/// Poll interval of a sleeping service. ECS events announce that it was scaled up; polling only covers a lost event,
/// and a night of polling must not use up the AWS API budget that other targets need.
pub(super) const POLL: Seconds = Seconds(300);

/// Whether everything is scaled to 0, and a stable version is on record: the desired count of both sides, or of the
/// workload that changes its version in place.
pub(super) fn is_asleep(state: &TargetState, snapshot: &Snapshot) -> bool {
    let at_zero = |slot| snapshot.side(slot).known().is_some_and(|side| side.desired == 0);
    let workload = snapshot.workload.known();
    let asleep = workload.map_or_else(|| Slot::BOTH.into_iter().all(at_zero), |workload| workload.desired == 0);
    state.stable.is_some() && asleep
}

/// Preflight found the service asleep: nothing has started, so the deployment returns to its gates.
pub(super) fn back_to_gates(context: &Context<'_>, deployment: &Deployment, preparing: &Preparing) -> Transition {
    let gated = deployment.with_phase(Phase::Gated(Gated {
        deadline: preparing.gates_deadline,
        asleep: true,
        version: preparing.version.clone(),
    }));
    if deployment.gates.is_some() {
        // The gates journal what they are waiting for.
        return Transition::stay(Deployment { stage_entered_at: context.now, ..gated }).observe_again();
    }
    let fact = Fact::BlockedByGate { gate: Gate::Asleep, reason: ASLEEP.to_owned(), until: None };
    Transition::enter_and_wait(gated, Gate::Asleep.name()).change_after_entry(Change::Fact(fact)).observe_again()
}

/// Clears the asleep flag, with the change to journal, once the service has been scaled up. A side that cannot be read
/// does not count as awake.
pub(super) fn woken(
    context: &Context<'_>,
    deployment: &Deployment,
    gated: &Gated,
    snapshot: Option<&Snapshot>,
) -> (Gated, Option<Change>) {
    let seen = |snapshot: &&Snapshot| {
        let both = || Slot::BOTH.into_iter().all(|slot| snapshot.side(slot).known().is_some());
        snapshot.workload.known().is_some() || both()
    };
    let wakes =
        snapshot.filter(|_| gated.asleep).filter(seen).is_some_and(|snapshot| !is_asleep(context.state, snapshot));
    if !wakes {
        return (gated.clone(), None);
    }
    let fact = Fact::GateOpened { gate: Gate::Asleep, how: "the service is awake".to_owned() };
    let noted = deployment.gates.is_none().then_some(Change::Fact(fact));
    (Gated { asleep: false, ..gated.clone() }, noted)
}

/// A rollback waits only for the service to wake, not at any other gate.
pub(super) fn wait(context: &Context<'_>, deployment: Deployment, deadline: Timestamp) -> Transition {
    if context.now >= deadline {
        let reason = format!("{}: {ASLEEP}", Gate::Asleep);
        return Transition::end_without_rules(deployment, Verdict::Expired, reason);
    }
    let on = WaitingOn::Gate { gate: Gate::Asleep, reason: ASLEEP.to_owned(), until: None, deadline };
    Transition::wait(deployment, on, POLL, deadline)
}
