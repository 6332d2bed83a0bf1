//! Whether a requested release is admitted to the target's queue, and the initial state of its gates.

use super::Inbox;
use super::builder::Builder;
use super::verification::hold_promotion;
use crate::command::Lane;
use crate::command_checks::has_hotfix_lane;
use crate::deployment::{Deployment, GateProgress};
use crate::entry::Gate;
use crate::names::Actor;
use crate::policy::AppliedTarget;
use crate::promotion::{never_opens, plan_id};
use crate::refusal::CommandRefusal;
use crate::target::{Queued, TargetState};
use std::collections::BTreeSet;

/// Outcome of the admission check for a requested release.
pub(super) enum Admission {
    /// Admitted; it may still have to wait at gates.
    Yes,
    /// Refused.
    No(CommandRefusal),
    /// Not admitted yet: promoted automatically once the remaining upstream environments have verified the release.
    NotYet,
    /// An automatic promotion that is suppressed, with the reason.
    Skipped(String),
}

/// Checks what is known immediately, so that a release that can never be deployed here does not displace one that can.
pub(super) fn admit(
    state: &TargetState,
    inbox: &Inbox<'_>,
    applied: &AppliedTarget,
    wanted: &Queued,
    now: jiff::Timestamp,
) -> Admission {
    let Queued { release, options, actor, .. } = wanted;
    let tag = &release.tag;
    if options.lane == Lane::Hotfix {
        if let Err(refusal) = has_hotfix_lane(applied, &state.target.environment, tag) {
            return Admission::No(refusal);
        }
        if wanted.reason.trim().is_empty() {
            return Admission::No(CommandRefusal::HotfixWithoutReason { tag: tag.clone() });
        }
    }
    let automatic = matches!(options.lane, Lane::Automatic { .. });
    if let Some((gate, reason)) = never_opens(state, &release.id, options, actor, applied, inbox.gate_context, now) {
        return match (automatic, gate) {
            (true, Gate::Image) => Admission::Skipped(reason),
            (true, _) => Admission::NotYet,
            (false, _) => Admission::No(CommandRefusal::Gate { gate, tag: tag.clone(), reason }),
        };
    }
    if !automatic {
        return Admission::Yes;
    }
    if let Some(hold) = &state.promotion_hold {
        return Admission::Skipped(format!("automatic promotion is held: {}", hold.reason));
    }
    match newer(state, wanted) {
        Some(tag) => Admission::Skipped(format!("{tag} is newer, and here already")),
        None => Admission::Yes,
    }
}

/// Tag of a release that was pushed later and is stable, running or queued here.
fn newer<'s>(state: &'s TargetState, wanted: &Queued) -> Option<&'s str> {
    let pushed_at = wanted.release.pushed_at?;
    let stable = state.stable.as_ref().and_then(|stable| stable.release.as_ref());
    let known = stable.into_iter().chain(state.running.as_ref().map(|running| &running.release));
    let mut known = known.chain(state.queued.iter().map(|queued| &queued.release));
    known.find(|release| release.pushed_at.is_some_and(|other| other > pushed_at)).map(|release| release.tag.as_str())
}

/// Initial gate progress of a deployment that is about to start.
pub(super) fn gates_of(state: &TargetState, order: &Queued, applied: &AppliedTarget) -> GateProgress {
    let replaces = stable_digest(state);
    let plan = plan_id(&state.target, &order.release.id, &order.options, &order.overrides, applied, replaces);
    let skipped = match order.options.lane {
        Lane::Hotfix => applied.entry.rules.hotfix_skips.clone(),
        Lane::Asked | Lane::Automatic { .. } => BTreeSet::new(),
    };
    GateProgress { skipped, ..GateProgress::new(plan) }
}

/// Digest of the stable release, if there is one.
pub(super) fn stable_digest(state: &TargetState) -> Option<&crate::ImageDigest> {
    state.stable.as_ref().and_then(|stable| stable.release.as_ref()).map(|release| &release.id.digest)
}

/// A person who requests an older release pins it: automatic promotion is put on hold.
pub(super) fn pin(builder: &mut Builder, deployment: &Deployment) {
    if deployment.auto_promotes && is_explicit_request(deployment) && is_older(&builder.state, deployment) {
        let reason = format!("{} was pinned by {}", deployment.release.tag, deployment.actor);
        hold_promotion(builder, Some(deployment.number), &deployment.actor, reason);
    }
}

/// Whether a person or CI requested the deployment, rather than a push or an automatic promotion.
pub(super) fn is_explicit_request(deployment: &Deployment) -> bool {
    let by_person = matches!(deployment.actor, Actor::Person { .. } | Actor::Workflow { .. });
    by_person && !matches!(deployment.options.lane, Lane::Automatic { .. })
}

/// Whether the deployment's release was pushed before the stable one.
pub(super) fn is_older(state: &TargetState, deployment: &Deployment) -> bool {
    let stable = state.stable.as_ref().and_then(|stable| stable.release.as_ref());
    match (deployment.release.pushed_at, stable.and_then(|stable| stable.pushed_at)) {
        (Some(wanted), Some(stable)) => wanted < stable,
        _ => false,
    }
}
