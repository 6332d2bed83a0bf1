//! Environments that deploy one service at a time. Judged by what journals and states say of each deployment, not by who
//! holds the lock.

use super::{BrokenInvariant, ONE_SERVICE_AT_A_TIME};
use crate::ledger::Store;
use rollout::deployment::{Deployment, Purpose};
use rollout::{Fact, Gate, Stage, TargetId};

/// Whether another service of the target's environment is being deployed, too. The environment's rule is taken to be as
/// old as its deployments.
pub(super) fn check(target: &TargetId, store: &Store) -> Option<BrokenInvariant> {
    if !store.deploys_one_at_a_time(target) {
        return None;
    }
    let number = deploying(target, store)?;
    let mut others = store.known_targets().filter(|other| {
        *other != target && other.environment == target.environment && other.application == target.application
    });
    let (other, other_number) = others.find_map(|other| Some((other, deploying(other, store)?)))?;
    let words = format!("deployment #{number} goes on while {other} has its deployment #{other_number}");
    Some((&ONE_SERVICE_AT_A_TIME, words))
}

/// Number of the deployment of a release that has passed its gates and is not verified yet. One that a person or a
/// hotfix lets start beside others does not count.
fn deploying(target: &TargetId, store: &Store) -> Option<u64> {
    let running = store.peek(target)?.running.as_ref()?;
    let counts = running.purpose == Purpose::Deploy && running.stage() != Stage::Gated && !is_let_through(running);
    let of_it =
        store.entries(target, 0).rev().take_while(|entry| entry.deployment.is_none_or(|of| of >= running.number));
    let verified = || of_it.map(|entry| &entry.fact).any(|fact| matches!(fact, Fact::Verified { .. }));
    (counts && !verified()).then_some(running.number)
}

fn is_let_through(running: &Deployment) -> bool {
    let gate = Gate::OneAtATime;
    running.gates.as_ref().is_some_and(|gates| gates.skipped.contains(&gate) || gates.overridden.contains_key(&gate))
}
