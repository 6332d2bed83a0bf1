//! Applies a transition to the decision: the only place where a running deployment moves to another stage or ends.
//! `start` creates it; deadlines, hook results and retries inside a stage are also updated by `apply_outcomes` and when
//! an operator resumes it.

use super::builder::Builder;
use super::transition::{Change, Ending, StepResult, Transition};
use super::verification;
use crate::deployment::Deployment;
use crate::in_place::InPlace;
use crate::journal::Fact;
use crate::names::Slot;
use crate::phase::{Moving, Phase};
use crate::snapshot::Snapshot;
use crate::target::{OperatorHold, OutboxMessage, StableSide};
use crate::verdict::Verdict;
use crate::weighted::{Weighted, WeightedStage};

/// Whether another step of the deployment runs on the same snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// Run another step.
    Continue,
    /// The deployment waits, acts or has ended.
    Stop,
}

/// Applies the transition that one step of the running deployment returned.
pub(super) fn apply(builder: &mut Builder, transition: Transition, snapshot: Option<&Snapshot>) -> Flow {
    let Transition { next, entry_detail, changes, changes_after_entry, effects, waits } = transition;
    let deployment = match &next {
        StepResult::Continue(deployment) | StepResult::Wait(deployment) => deployment,
        StepResult::End(ending) => &ending.deployment,
    };
    for change in changes {
        record(builder, deployment, change, snapshot);
    }
    let entered_by = (!changes_after_entry.is_empty()).then(|| deployment.clone());
    let flow = match next {
        StepResult::Continue(next) => {
            keep(builder, next, entry_detail);
            Flow::Continue
        }
        StepResult::Wait(next) => {
            keep(builder, next, entry_detail);
            Flow::Stop
        }
        StepResult::End(ending) => {
            end(builder, ending, snapshot);
            Flow::Stop
        }
    };
    if let Some(deployment) = entered_by {
        for change in changes_after_entry {
            record(builder, &deployment, change, snapshot);
        }
    }
    effects.into_iter().for_each(|effect| builder.effect(effect));
    waits.into_iter().for_each(|wait| builder.wait(wait));
    flow
}

/// Keeps the deployment running, possibly in another stage.
fn keep(builder: &mut Builder, mut deployment: Deployment, entry_detail: Option<String>) {
    if let Some(detail) = entry_detail {
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

/// Applies one change to the target's record.
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
        Change::TrainApproved(approval) => builder.send(OutboxMessage::TrainApproved(*approval)),
        Change::Stable(side) => {
            builder.state.stable = Some(*side);
            if let Some(snapshot) = snapshot {
                builder.record_traffic(snapshot, true);
            }
        }
    }
}

/// Ends the running deployment and records the stable side.
fn end(builder: &mut Builder, ending: Ending, snapshot: Option<&Snapshot>) {
    let Ending { deployment, verdict, reason, rules_observed } = ending;
    let snapshot = snapshot.filter(|_| rules_observed);
    let live = snapshot.and_then(Snapshot::live_side);
    if let Phase::Moving(Moving::Weighted(weighted)) = &deployment.phase {
        let sides = &weighted.sides;
        if verdict == Verdict::Succeeded
            && live != Some(sides.stable)
            && let Some(version) = version(weighted)
        {
            succeed(builder, &deployment, weighted, version);
        } else if builder.state.stable.as_ref().is_none_or(|known| known.slot != Some(sides.stable)) {
            // The rules were right and the ledger was wrong: the side that preflight saw live is the stable one.
            builder.state.stable = Some(found(&deployment, weighted));
        }
        if let Some(snapshot) = snapshot {
            builder.record_traffic(snapshot, true);
        }
    }
    if let Phase::Moving(Moving::First(first)) = &deployment.phase {
        if let (Verdict::Succeeded, Some(candidate)) = (verdict, first.at.candidate()) {
            builder.state.stable = Some(stable_side(builder, &deployment, first.slot, &candidate.version));
        }
        if let Some(snapshot) = snapshot {
            builder.record_traffic(snapshot, true);
        }
    }
    if let Phase::Moving(Moving::InPlace(in_place)) = &deployment.phase {
        record_in_place(builder, &deployment, in_place, verdict);
    }
    // Whoever or whatever ended it: what did not succeed is not deployed again by itself.
    let failed = deployment.options.configuration && !matches!(verdict, Verdict::Succeeded | Verdict::Superseded);
    if let Some(template) = deployment.options.template.as_ref().filter(|_| failed) {
        builder.state.failed_template = Some(template.version.clone());
    }
    verification::ended(builder, &deployment, verdict, &reason);
    builder.note(Some(deployment.number), Fact::Ended { verdict, reason: reason.clone(), live });
    let mut record = deployment.record(&builder.state.target);
    (record.verdict, record.reason, record.ended_at) = (Some(verdict), reason, Some(builder.now));
    builder.record(record);
    builder.state.running = None;
    if !builder.state.queued.is_empty() || builder.has_deferred_command {
        builder.observe_again();
    }
}

/// The version that becomes the stable one if the deployment succeeds.
fn version(weighted: &Weighted) -> Option<&str> {
    match &weighted.at {
        WeightedStage::Retiring(retiring) => Some(&retiring.version),
        WeightedStage::Forward(forward) => Some(&forward.candidate.version),
        WeightedStage::Registering(_) | WeightedStage::RollingBack(_) | WeightedStage::Abandoning(_) => None,
    }
}

/// The side that preflight found live.
fn found(deployment: &Deployment, weighted: &Weighted) -> StableSide {
    StableSide {
        slot: Some(weighted.sides.stable),
        version: weighted.sides.stable_version.clone(),
        release: None,
        since: deployment.started_at,
        forward_only: false,
        train: None,
        template: None,
    }
}

/// Records the candidate's side as the stable one, and the side before it as the destination of a later rollback.
fn succeed(builder: &mut Builder, deployment: &Deployment, weighted: &Weighted, version: &str) {
    let slot = Some(weighted.candidate_slot());
    replace_stable(builder, deployment, found(deployment, weighted), (slot, version));
}

/// Records what a deployment in place leaves: the new version or, after a rollback, the version before.
fn record_in_place(builder: &mut Builder, deployment: &Deployment, in_place: &InPlace, verdict: Verdict) {
    let found = StableSide {
        slot: None,
        version: in_place.before.version.clone(),
        release: None,
        since: deployment.started_at,
        forward_only: false,
        train: None,
        template: None,
    };
    if verdict == Verdict::Succeeded
        && let Some(candidate) = in_place.candidate()
    {
        return replace_stable(builder, deployment, found, (None, &candidate.version));
    }
    let known = |known: &StableSide| known.slot.is_none() && known.version == found.version;
    // It may have been registered again.
    let path = in_place.rollback_path();
    let left = path.version();
    match &mut builder.state.stable {
        Some(stable) if known(stable) => left.clone_into(&mut stable.version),
        stable => *stable = Some(StableSide { version: left.to_owned(), ..found }),
    }
}

/// Records a side and its version as the stable one, and what was stable as the destination of a later rollback.
/// `found`: what preflight found to be stable.
fn replace_stable(
    builder: &mut Builder,
    deployment: &Deployment,
    found: StableSide,
    (slot, version): (Option<Slot>, &str),
) {
    // The release on the old side is known only if that side still runs the version that the ledger last
    // recorded for it.
    let old = match builder.state.stable.take() {
        Some(known) if known.slot == found.slot && known.version == found.version => known,
        _ => found,
    };
    builder.state.previous = Some(old);
    builder.state.stable = Some(stable_side(builder, deployment, slot, version));
}

/// What a deployment that succeeded leaves as the stable version.
fn stable_side(builder: &Builder, deployment: &Deployment, slot: Option<Slot>, version: &str) -> StableSide {
    StableSide {
        slot,
        version: version.to_owned(),
        release: Some(deployment.release.clone()),
        since: builder.now,
        forward_only: deployment.is_forward_only(),
        train: deployment.options.train.clone(),
        template: deployment.options.template.as_ref().map(|template| template.version.clone()),
    }
}
