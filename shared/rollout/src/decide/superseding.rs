//! Whether and when a deployment rolls back for a newer release.

use super::going_back::RollbackAnswer;
use super::rollback;
use super::transition::Transition;
use crate::deployment::{Deployment, Purpose};
use crate::in_place::{self, InPlaceStage};
use crate::phase::{Moving, Phase};
use crate::verdict::Cause;
use crate::weighted::{Forward, ForwardStep, WeightedStage};
use jiff::Timestamp;

/// Whether the deployment may roll back for a newer release. A rollback, a repair and a verified release never do.
pub(super) fn may_be_superseded(running: &Deployment) -> bool {
    let stays = running.is_forward_only() && running.traffic_moved();
    running.purpose == Purpose::Deploy && !running.stage().has_baked() && !running.is_backing_out() && !stays
}

/// Whether the time of its bake is over, and only the result is not judged yet.
fn is_baked(deployment: &Deployment, now: Timestamp) -> bool {
    let baked_until = match &deployment.phase {
        Phase::Moving(Moving::Weighted(weighted)) => match &weighted.at {
            WeightedStage::Forward(Forward { step: ForwardStep::Baking { until, .. }, .. }) => Some(*until),
            _ => None,
        },
        Phase::Moving(Moving::InPlace(in_place)) => match &in_place.at {
            InPlaceStage::Forward(in_place::Forward { step: in_place::ForwardStep::Baking { until, .. }, .. }) => {
                Some(*until)
            }
            _ => None,
        },
        // There is nothing else that serves.
        Phase::Moving(Moving::First(_)) => return true,
        Phase::Gated(_) | Phase::Preparing(_) => None,
    };
    baked_until.is_some_and(|until| now >= until)
}

/// The rollback for the newer release that supersedes the deployment; `None`: it goes on. While traffic moves, alarms
/// are checked first: a firing alarm is journalled as the cause instead.
pub(super) fn roll_back_if_superseded(deployment: &Deployment, now: Timestamp) -> Option<Transition> {
    let by_tag = deployment.superseded_by.clone()?;
    // A completed bake is judged first: a release that turns out verified stays.
    if is_baked(deployment, now) || !may_be_superseded(deployment) {
        return None;
    }
    match rollback::request(deployment, Cause::Superseded { by_tag }, now) {
        RollbackAnswer::NothingToUndo(transition) | RollbackAnswer::Begun(transition) => Some(transition),
        RollbackAnswer::AlreadyRollingBack | RollbackAnswer::NoPath => None,
    }
}
