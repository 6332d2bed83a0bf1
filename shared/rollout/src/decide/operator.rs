//! Forward-only deployments in trouble: they have no automatic rollback, and stay as they are until an operator
//! decides.

use super::abandoning;
use super::going_back::{OPERATOR_TIMEOUT, journal_wait};
use super::transition::{Change, Context, Transition};
use super::{in_place_rollback, rollback};
use crate::deployment::Deployment;
use crate::explanation::WaitingOn;
use crate::in_place::{self, InPlace, InPlaceStage};
use crate::journal::Fact;
use crate::phase::{Moving, Phase};
use crate::policy::{AlarmEffect, AlarmPolicy};
use crate::snapshot::Snapshot;
use crate::time::Seconds;
use crate::verdict::{Cause, Verdict};
use crate::weighted::{
    AwaitingOperator, Forward, ForwardStep, HookProgress, HookResult, Retiring, Weighted, WeightedStage,
};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Poll interval while awaiting the operator, who may roll back manually.
const POLL: Seconds = Seconds(60);

/// Waits for the operator's decision. No other check is evaluated meanwhile.
pub(super) fn wait(
    context: &Context<'_>,
    deployment: &Deployment,
    snapshot: &Snapshot,
    weighted: Weighted,
    waits: AwaitingOperator,
) -> Transition {
    let reason = waits.cause.summary();
    let mut changes = journal_wait(deployment, snapshot, &waits);
    let waits = AwaitingOperator { journalled: true, ..waits };
    let path = weighted.rollback_path();
    let settled = deployment.stale_until(context.seen_at, context.now).is_none();
    if settled
        && snapshot.live_side() == Some(weighted.sides.stable)
        && let Some(path) = path
    {
        // A state that predates its own last write is not an operator's decision.
        let (cause, traffic_moved) = if was_live(&weighted) {
            // Someone rolled back manually, on every rule.
            (Cause::ExternalRollback, weighted.traffic_moved)
        } else {
            // The first traffic step was decided but never took effect: no traffic has moved.
            (waits.cause, false)
        };
        let weighted = Weighted { awaiting_operator: None, traffic_moved, ..weighted };
        return rollback::start(deployment, weighted, path, cause, context.now).with_changes_first(changes);
    }
    if context.now >= waits.deadline {
        changes.push(Change::OperatorHold { since: waits.since, reason: reason.clone() });
        let reason = format!("forward-only, and nobody decided within {OPERATOR_TIMEOUT}: {reason}");
        let weighted = Weighted { awaiting_operator: None, ..weighted };
        return abandoning::start(deployment, weighted, reason, context.now).with_changes_first(changes);
    }
    let deadline = waits.deadline;
    let weighted = Weighted { awaiting_operator: Some(waits), ..weighted };
    let on = WaitingOn::AwaitingOperator { reason, deadline };
    Transition::wait(deployment.with_weighted(weighted), on, POLL, deadline).changes(changes)
}

/// The same of a release that is set in place.
pub(super) fn wait_in_place(
    context: &Context<'_>,
    deployment: &Deployment,
    snapshot: &Snapshot,
    in_place: InPlace,
    waits: AwaitingOperator,
) -> Transition {
    let reason = waits.cause.summary();
    let mut changes = journal_wait(deployment, snapshot, &waits);
    let waits = AwaitingOperator { journalled: true, ..waits };
    let settled = deployment.stale_until(context.seen_at, context.now).is_none();
    let workload = snapshot.workload.known();
    let was_live = in_place.candidate().is_some_and(|candidate| candidate.seen_running);
    if settled && was_live && workload.is_some_and(|workload| workload.version == in_place.before.version) {
        // Someone rolled back manually.
        let in_place = InPlace { awaiting_operator: None, ..in_place };
        let cause = Cause::ExternalRollback;
        return in_place_rollback::start(deployment, in_place, cause, context.now).with_changes_first(changes);
    }
    if context.now >= waits.deadline {
        changes.push(Change::OperatorHold { since: waits.since, reason: reason.clone() });
        let reason = format!("forward-only, and nobody decided within {OPERATOR_TIMEOUT}: {reason}");
        return left_in_place(deployment, in_place, reason).with_changes_first(changes);
    }
    let deadline = waits.deadline;
    let in_place = InPlace { awaiting_operator: Some(waits), ..in_place };
    let on = WaitingOn::AwaitingOperator { reason, deadline };
    Transition::wait(deployment.with_in_place(in_place), on, POLL, deadline).changes(changes)
}

/// Ends a deployment in place with the workload as it is.
pub(super) fn left_in_place(deployment: &Deployment, in_place: InPlace, reason: String) -> Transition {
    let in_place = InPlace { awaiting_operator: None, ..in_place };
    let left = Fact::CleanupIncomplete { what: "the workload is left as it is".to_owned() };
    Transition::end(deployment.with_in_place(in_place), Verdict::Failed, reason).fact(left)
}

/// Whether the candidate was seen with a share of the traffic.
fn was_live(weighted: &Weighted) -> bool {
    let Some(record) = weighted.weights else { return false };
    let candidate = weighted.candidate_slot();
    record.before.of(candidate) > 0 || (record.verified && record.decided.of(candidate) > 0)
}

/// The deployment after an operator resumed it. The operator accepts the reason for which it waited: the same reason
/// does not stop it again at once.
pub(super) fn resumed(deployment: &Deployment, waits: &AwaitingOperator, now: Timestamp) -> Deployment {
    let held_for = Seconds::between(waits.since, now);
    let resumed = Deployment { effect_failure: None, ..deployment.clone() };
    match &deployment.phase {
        Phase::Moving(Moving::Weighted(weighted)) => {
            let (resumed, accepted) = accept_risk(resumed, weighted.hooks.clone(), &waits.cause, now);
            let mut at = weighted.at.clone().postponed(held_for);
            if let Some(until) = accepted.extend_until {
                at = at.with_deadline_at_least_if_in(WeightedStage::EXTENDED_WHILE_HELD, until);
            }
            let weighted = Weighted { at, hooks: accepted.hooks, awaiting_operator: None, ..(**weighted).clone() };
            verified_again(resumed.with_weighted(weighted))
        }
        Phase::Moving(Moving::InPlace(in_place)) => {
            let (resumed, accepted) = accept_risk(resumed, in_place.hooks.clone(), &waits.cause, now);
            let mut at = in_place.at.clone().postponed(held_for);
            if let Some(until) = accepted.extend_until {
                let deadline = at.deadline_mut();
                *deadline = until.max(*deadline);
            }
            let in_place = InPlace { at, hooks: accepted.hooks, awaiting_operator: None, ..(**in_place).clone() };
            resumed.with_in_place(accept_tasks(in_place, &waits.cause, now))
        }
        Phase::Moving(Moving::First(_)) | Phase::Gated(_) | Phase::Preparing(_) => resumed,
    }
}

/// Tasks that have stopped no longer count: they are counted from when the version was up.
fn accept_tasks(mut in_place: InPlace, cause: &Cause, now: Timestamp) -> InPlace {
    if let (Cause::Tasks { .. }, InPlaceStage::Forward(in_place::Forward { candidate, .. })) = (cause, &mut in_place.at)
    {
        candidate.healthy_since = Some(now);
    }
    in_place
}

/// What an operator accepts with a cause.
struct Accepted {
    /// The hooks, with the one that failed passed or given another try.
    hooks: BTreeMap<String, HookProgress>,
    /// The deadline of the current stage at least.
    extend_until: Option<Timestamp>,
}

/// The deployment with the cause for which it waited no longer counting against it.
fn accept_risk(
    mut deployment: Deployment,
    mut hooks: BTreeMap<String, HookProgress>,
    cause: &Cause,
    now: Timestamp,
) -> (Deployment, Accepted) {
    let shift = deployment.policy.deadlines.shift;
    let mut extend_until = None;
    match cause {
        Cause::Alarm { name, .. } => {
            // Ignored until the alarm has been OK once; after that the alarm is judged again.
            deployment.overrides.firing_alarms.insert(name.clone());
            let holds = |alarm: &AlarmPolicy| &alarm.name == name && alarm.firing == AlarmEffect::Hold;
            if deployment.policy.alarms.iter().any(holds) {
                // It has held the deployment up to its deadline.
                extend_until = Some(shift.after(now));
            }
        }
        Cause::Hook { name, .. } => {
            let hook = deployment.policy.hooks.iter().find(|hook| hook.name.as_str() == name);
            let allowed = hook.map(|hook| hook.deadline).unwrap_or_default();
            match hooks.get_mut(name) {
                // The hook's task had timed out and is still running: its timeout starts again.
                Some(progress) if progress.stopping => {
                    let deadline = allowed.after(now);
                    (progress.stopping, progress.result, progress.deadline) = (false, None, deadline);
                    extend_until = Some(shift.after(deadline));
                }
                Some(progress) => progress.result = Some(HookResult::Succeeded),
                None => {}
            }
        }
        Cause::Deadline { .. } => extend_until = Some(shift.after(now)),
        _ => {}
    }
    (deployment, Accepted { hooks, extend_until })
}

/// A deployment resumed after its bake is verified again once all traffic is seen on it.
fn verified_again(deployment: Deployment) -> Deployment {
    let Some(weighted) = deployment.weighted().cloned() else { return deployment };
    let at = match weighted.at {
        WeightedStage::Forward(Forward { candidate, step }) => {
            let step = match step {
                ForwardStep::KeepingWarm { until, .. } => ForwardStep::KeepingWarm { until, verify_again: true },
                ForwardStep::Draining { until, deadline, .. } => {
                    ForwardStep::Draining { until, deadline, verify_again: true }
                }
                step => step,
            };
            WeightedStage::Forward(Forward { candidate, step })
        }
        WeightedStage::Retiring(retiring) => WeightedStage::Retiring(Retiring { verify_again: true, ..retiring }),
        at => at,
    };
    deployment.with_weighted(Weighted { at, ..weighted })
}
