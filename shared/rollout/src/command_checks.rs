//! Necessary conditions for a command to take effect on a target's state: judged by `decide` when it processes the
//! command, and by the API before it writes one, with the same result for the same state. `decide` may still refuse
//! what passes.

use crate::deployment::{Deployment, Purpose};
use crate::entry::Gate;
use crate::names::Name;
use crate::phase::Phase;
use crate::policy::AppliedTarget;
use crate::refusal::CommandRefusal;
use crate::target::{StableSide, TargetState};
use std::collections::BTreeSet;

/// The deployment that an abort ends; `wanted`: the number that it names, if it names one.
///
/// # Errors
/// [`CommandRefusal::NotRunning`].
pub fn deployment_to_abort(state: &TargetState, wanted: Option<u64>) -> Result<&Deployment, CommandRefusal> {
    let running = state.running.as_ref();
    running
        .filter(|running| wanted.is_none_or(|wanted| wanted == running.number))
        .ok_or_else(|| CommandRefusal::NotRunning { wanted, running: running.map(|running| running.number) })
}

/// Where a rollback goes while nothing runs: back onto a stable side that lost traffic ([`TargetState::drift`]),
/// otherwise to the release before.
///
/// # Errors
/// [`CommandRefusal::NoEarlierRelease`].
pub fn rollback_goal(state: &TargetState) -> Result<(Purpose, &StableSide), CommandRefusal> {
    let (purpose, goal) = match state.drift() {
        Some(_) => (Purpose::Repair, &state.stable),
        None => (Purpose::Rollback, &state.previous),
    };
    goal.as_ref().map(|goal| (purpose, goal)).ok_or(CommandRefusal::NoEarlierRelease)
}

/// Whether something waits for an operator to resume it.
///
/// # Errors
/// [`CommandRefusal::NotOnHold`].
pub fn resumable(state: &TargetState) -> Result<(), CommandRefusal> {
    let waits = |running: &Deployment| running.awaiting_operator().is_some() || running.stable_alarm().is_some();
    if state.running.as_ref().is_some_and(waits) || state.operator_hold.is_some() {
        return Ok(());
    }
    Err(CommandRefusal::NotOnHold)
}

/// The deployment with this number, if it waits at its gates.
///
/// # Errors
/// What became of the deployment instead: [`CommandRefusal::WaitsForTasks`], [`CommandRefusal::PastItsGates`],
/// [`CommandRefusal::NoSuchDeployment`], [`CommandRefusal::Followed`] or [`CommandRefusal::Over`].
pub fn gated_deployment(state: &TargetState, number: u64) -> Result<&Deployment, CommandRefusal> {
    match &state.running {
        Some(running) if running.number == number => match &running.phase {
            Phase::Gated(_) if running.gates.is_some() => Ok(running),
            // Not past its gates: it went back to them because the service sleeps.
            Phase::Gated(_) => Err(CommandRefusal::WaitsForTasks { deployment: number }),
            _ => Err(CommandRefusal::PastItsGates { deployment: number, stage: running.stage() }),
        },
        _ if number > state.last_deployment => Err(CommandRefusal::NoSuchDeployment { deployment: number }),
        Some(running) => {
            let tag = running.release.tag.clone();
            Err(CommandRefusal::Followed { deployment: number, by: running.number, tag })
        }
        None => Err(CommandRefusal::Over { deployment: number, ended: None }),
    }
}

/// Whether a person may open all of these gates.
///
/// # Errors
/// [`CommandRefusal::NotOverridable`], for one that nobody may open; of several, for the last in [`Gate`]'s order.
pub fn overridable(gates: &BTreeSet<Gate>) -> Result<(), CommandRefusal> {
    match gates.iter().rev().find(|gate| gate.why_never_overridable().is_some()) {
        Some(gate) => Err(CommandRefusal::NotOverridable { gate: *gate }),
        None => Ok(()),
    }
}

/// Whether the environment has a hotfix lane; `tag`: the release as the requester names it.
///
/// # Errors
/// [`CommandRefusal::NoHotfixLane`].
pub fn has_hotfix_lane(applied: &AppliedTarget, environment: &Name, tag: &str) -> Result<(), CommandRefusal> {
    if applied.entry.rules.hotfix_skips.is_empty() {
        return Err(CommandRefusal::NoHotfixLane { environment: environment.clone(), tag: tag.to_owned() });
    }
    Ok(())
}
