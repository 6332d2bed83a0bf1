//! Applies a transition to a decision: the only place where a running deployment changes its phase or ends.

use super::builder::Builder;
use super::transition::{Change, Ending, Step, Transition};
use super::verification;
use crate::deployment::Deployment;
use crate::journal::Fact;
use crate::names::Slot;
use crate::phase::{Moving, Phase};
use crate::snapshot::Snapshot;
use crate::target::{OperatorHold, StableSide};
use crate::verdict::Verdict;
use crate::weighted::{Weighted, WeightedStage};

/// Whether to run another step of the deployment on the same snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Continue,
    Stop,
}

/// Applies the transition that one step of the running deployment returned.
pub(super) fn apply(builder: &mut Builder, transition: Transition, snapshot: Option<&Snapshot>) -> Flow {
    let Transition { next, entered, changes, then, effects, waits } = transition;
    let deployment = match &next {
        Step::Continue(deployment) | Step::Wait(deployment) => deployment,
        Step::End(ending) => &ending.deployment,
    };
    for change in changes {
        record(builder, deployment, change, snapshot);
    }
    let entered_by = (!then.is_empty()).then(|| deployment.clone());
    let flow = match next {
        Step::Continue(next) => {
            keep(builder, next, entered);
            Flow::Continue
        }
        Step::Wait(next) => {
            keep(builder, next, entered);
            Flow::Stop
        }
        Step::End(ending) => {
            end(builder, ending, snapshot);
            Flow::Stop
        }
    };
    if let Some(deployment) = entered_by {
        for change in then {
            record(builder, &deployment, change, snapshot);
        }
    }
    effects.into_iter().for_each(|effect| builder.effect(effect));
    waits.into_iter().for_each(|wait| builder.wait(wait));
    flow
}

/// Keeps the deployment running, possibly in another stage.
fn keep(builder: &mut Builder, mut deployment: Deployment, entered: Option<String>) {
    if let Some(detail) = entered {
        let point = |deployment: &Deployment| (deployment.stage(), deployment.traffic_step());
        let before = builder.state.running.as_ref().map(point);
        if before != Some(point(&deployment)) {
            deployment.stage_entered_at = builder.now;
            // A failure in the previous stage says nothing about this one.
            deployment.effect_failure = None;
            builder.note(Some(deployment.number), Fact::StageEntered { stage: deployment.stage(), detail });
        }
    }
    builder.state.running = Some(deployment);
}

fn record(builder: &mut Builder, deployment: &Deployment, change: Change, snapshot: Option<&Snapshot>) {
    let number = Some(deployment.number);
    match change {
        Change::Fact(fact) => builder.note(number, fact),
        Change::Verified => verification::verified(builder, deployment),
        Change::VerificationRevoked { reason } => {
            verification::withdraw(builder, number, &deployment.release.id.digest, &reason);
        }
        Change::PromotionHeld { actor, reason } => verification::hold_promotion(builder, number, &actor, reason),
        Change::PromotionResumed { actor } => {
            if builder.state.promotion_hold.take().is_some() {
                let before = std::mem::replace(&mut builder.actor, actor);
                builder.note(number, Fact::PromotionResumed);
                builder.actor = before;
            }
        }
        Change::OperatorHold { since, reason } => {
            builder.state.operator_hold = Some(OperatorHold { since, deployment: deployment.number, reason });
        }
        Change::Stable(side) => {
            builder.state.stable = Some(*side);
            if let Some(snapshot) = snapshot {
                builder.saw_traffic(snapshot, true);
            }
        }
    }
}

/// Ends the running deployment and records the stable side.
fn end(builder: &mut Builder, ending: Ending, snapshot: Option<&Snapshot>) {
    let Ending { deployment, verdict, reason, rules_seen } = ending;
    let snapshot = snapshot.filter(|_| rules_seen);
    let live = snapshot.and_then(Snapshot::live_side);
    if let Phase::Moving(Moving::Weighted(weighted)) = &deployment.phase {
        let sides = &weighted.sides;
        if verdict == Verdict::Succeeded
            && live != Some(sides.stable)
            && let Some(task_definition) = task_definition(weighted)
        {
            succeed(builder, &deployment, weighted, task_definition);
        } else if builder.state.stable.as_ref().is_none_or(|known| known.slot != sides.stable) {
            // The rules were right and the ledger was wrong: the side that preflight saw live is the stable one.
            builder.state.stable = Some(found(&deployment, weighted));
        }
        if let Some(snapshot) = snapshot {
            builder.saw_traffic(snapshot, true);
        }
    }
    verification::ended(builder, &deployment, verdict, &reason);
    builder.note(Some(deployment.number), Fact::Ended { verdict, reason: reason.clone(), live });
    let mut record = deployment.record(&builder.state.target);
    (record.verdict, record.reason, record.ended_at) = (Some(verdict), reason, Some(builder.now));
    builder.record(record);
    builder.state.running = None;
    if !builder.state.queued.is_empty() || builder.left_over {
        builder.look_again();
    }
}

/// ARN of the task definition that becomes the stable one if the deployment succeeds.
fn task_definition(weighted: &Weighted) -> Option<&str> {
    match &weighted.at {
        WeightedStage::Retiring(retiring) => Some(&retiring.task_definition),
        WeightedStage::Forward(forward) => Some(&forward.candidate.task_definition),
        WeightedStage::Registering(_) | WeightedStage::RollingBack(_) | WeightedStage::Abandoning(_) => None,
    }
}

/// The side that preflight found live.
fn found(deployment: &Deployment, weighted: &Weighted) -> StableSide {
    StableSide {
        slot: weighted.sides.stable,
        task_definition: weighted.sides.stable_task_definition.clone(),
        release: None,
        since: deployment.started_at,
        forward_only: false,
        train: None,
    }
}

fn succeed(builder: &mut Builder, deployment: &Deployment, weighted: &Weighted, task_definition: &str) {
    let slot: Slot = weighted.candidate();
    let found = found(deployment, weighted);
    // The release on the old side is known only if that side still runs the task definition that the ledger last recorded for it.
    let old = match builder.state.stable.take() {
        Some(known) if known.slot == found.slot && known.task_definition == found.task_definition => known,
        _ => found,
    };
    builder.state.previous = Some(old);
    builder.state.stable = Some(StableSide {
        slot,
        task_definition: task_definition.to_owned(),
        release: Some(deployment.release.clone()),
        since: builder.now,
        forward_only: deployment.is_forward_only(),
        train: deployment.options.train.clone(),
    });
}
