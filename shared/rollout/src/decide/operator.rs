//! Forward-only deployments in trouble: they have no automatic rollback, and stay as they are until an operator
//! decides.

use super::abandoning;
use super::rollback::{self, OPERATOR_TIMEOUT};
use super::transition::{Change, Context, Transition};
use crate::deployment::Deployment;
use crate::explanation::WaitingOn;
use crate::journal::Fact;
use crate::names::Actor;
use crate::policy::{AlarmEffect, AlarmPolicy};
use crate::snapshot::Snapshot;
use crate::time::Seconds;
use crate::verdict::Cause;
use crate::weighted::{AwaitingOperator, Forward, ForwardStep, HookResult, Retiring, Weighted, WeightedStage};
use jiff::Timestamp;

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
    let mut changes = Vec::new();
    if !waits.journalled {
        let fact = Fact::AwaitingOperator { cause: waits.cause.clone(), evidence: Box::new(snapshot.clone()) };
        changes.push(Change::Fact(fact));
        if deployment.stage().has_baked() {
            // Nothing is promoted from a release that awaits an operator. If the operator resumes it, it counts as
            // verified after all.
            changes.push(Change::VerificationRevoked { reason: reason.clone() });
        }
        if deployment.auto_promotes {
            let reason = format!("deployment #{} awaits an operator: {reason}", deployment.number);
            changes.push(Change::PromotionHeld { actor: Actor::Switchback, reason });
        }
    }
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

/// Whether the candidate was seen with a share of the traffic.
fn was_live(weighted: &Weighted) -> bool {
    let Some(record) = weighted.weights else { return false };
    let candidate = weighted.candidate_slot();
    record.before.of(candidate) > 0 || (record.verified && record.decided.of(candidate) > 0)
}

/// The deployment after an operator resumed it. The operator accepts the reason for which it waited: the same reason
/// does not stop it again at once.
pub(super) fn resumed(
    deployment: &Deployment,
    weighted: &Weighted,
    waits: &AwaitingOperator,
    now: Timestamp,
) -> Deployment {
    let at = weighted.at.clone().postponed(Seconds::between(waits.since, now));
    let weighted = Weighted { at, awaiting_operator: None, ..weighted.clone() };
    let resumed = Deployment { effect_failure: None, ..deployment.clone() };
    let accepted = accept_risk(resumed, weighted, &waits.cause, now);
    verified_again(accepted)
}

/// The deployment with the cause for which it waited no longer counting against it.
fn accept_risk(mut deployment: Deployment, mut weighted: Weighted, cause: &Cause, now: Timestamp) -> Deployment {
    let shift = deployment.policy.deadlines.shift;
    match cause {
        Cause::Alarm { name, .. } => {
            // Ignored until the alarm has been OK once; after that the alarm is judged again.
            deployment.overrides.firing_alarms.insert(name.clone());
            let holds = |alarm: &AlarmPolicy| &alarm.name == name && alarm.firing == AlarmEffect::Hold;
            if deployment.policy.alarms.iter().any(holds) {
                // It has held the deployment up to its deadline.
                let until = shift.after(now);
                weighted.at = weighted.at.with_deadline_at_least_if_in(WeightedStage::EXTENDED_WHILE_HELD, until);
            }
        }
        Cause::Hook { name, .. } => {
            let hook = deployment.policy.hooks.iter().find(|hook| hook.name.as_str() == name);
            let allowed = hook.map(|hook| hook.deadline).unwrap_or_default();
            match weighted.hooks.get_mut(name) {
                // The hook's task had timed out and is still running: its timeout starts again.
                Some(progress) if progress.stopping => {
                    let deadline = allowed.after(now);
                    (progress.stopping, progress.result, progress.deadline) = (false, None, deadline);
                    let until = shift.after(deadline);
                    weighted.at = weighted.at.with_deadline_at_least_if_in(WeightedStage::EXTENDED_WHILE_HELD, until);
                }
                Some(progress) => progress.result = Some(HookResult::Succeeded),
                None => {}
            }
        }
        Cause::Deadline { .. } => {
            let until = shift.after(now);
            weighted.at = weighted.at.with_deadline_at_least_if_in(WeightedStage::EXTENDED_WHILE_HELD, until);
        }
        _ => {}
    }
    deployment.with_weighted(weighted)
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
