//! Whether and when a deployment rolls back for a newer release.

use super::rollback::{self, RollbackAnswer};
use super::transition::Transition;
use crate::deployment::{Deployment, Purpose};
use crate::verdict::Cause;
use crate::weighted::{Forward, ForwardStep, WeightedStage};
use jiff::Timestamp;

/// Whether the deployment may roll back for a newer release. A rollback, a repair and a verified release never do.
pub(super) fn may_be_superseded(running: &Deployment) -> bool {
    let stays = running.is_forward_only() && running.traffic_moved();
    running.purpose == Purpose::Deploy && !running.stage().has_baked() && !running.is_backing_out() && !stays
}

/// The rollback for the newer release that supersedes the deployment; `None`: it goes on. While traffic moves, alarms
/// are checked first: a firing alarm is journalled as the cause instead.
pub(super) fn roll_back_if_superseded(deployment: &Deployment, now: Timestamp) -> Option<Transition> {
    let by_tag = deployment.superseded_by.clone()?;
    // A completed bake is judged first: a release that turns out verified stays.
    let at = deployment.weighted().map(|weighted| &weighted.at);
    let baked = matches!(
        at,
        Some(WeightedStage::Forward(Forward { step: ForwardStep::Baking { until, .. }, .. })) if now >= *until
    );
    if baked || !may_be_superseded(deployment) {
        return None;
    }
    match rollback::request(deployment, Cause::Superseded { by_tag }, now) {
        RollbackAnswer::NothingToUndo(transition) | RollbackAnswer::Begun(transition) => Some(transition),
        RollbackAnswer::AlreadyRollingBack | RollbackAnswer::NoPath => None,
    }
}
