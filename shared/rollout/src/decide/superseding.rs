//! Whether and when a deployment yields to a newer release.

use super::rollback::{self, RollbackStart};
use super::transition::Transition;
use crate::deployment::{Deployment, Purpose};
use crate::stage::Stage;
use crate::verdict::Cause;
use crate::weighted::{Forward, ForwardStep, WeightedStage};
use jiff::Timestamp;

/// Whether the deployment is rolling back or has been abandoned.
pub(super) fn is_leaving(running: &Deployment) -> bool {
    matches!(running.stage(), Stage::RollingBack | Stage::Abandoning)
}

/// Whether the deployment may roll back for a newer release. A rollback, a repair and a verified release never do.
pub(super) fn may_yield(running: &Deployment) -> bool {
    let stays = running.is_forward_only() && running.traffic_moved();
    running.purpose == Purpose::Deploy && !running.stage().is_verified() && !is_leaving(running) && !stays
}

/// `Some` if the deployment rolls back for the newer release that supersedes it. While traffic moves, alarms are checked first: a
/// firing alarm is journalled as the cause instead.
pub(super) fn yield_to_newer(deployment: &Deployment, now: Timestamp) -> Option<Transition> {
    let by_tag = deployment.superseded_by.clone()?;
    // A completed bake is judged first: a release that turns out verified stays.
    let at = deployment.weighted().map(|weighted| &weighted.at);
    let baked = matches!(
        at,
        Some(WeightedStage::Forward(Forward { step: ForwardStep::Baking { until, .. }, .. })) if now >= *until
    );
    if baked || !may_yield(deployment) {
        return None;
    }
    match rollback::start(deployment, Cause::Superseded { by_tag }, now) {
        RollbackStart::NothingToUndo(transition) | RollbackStart::Started(transition) => Some(transition),
        RollbackStart::AlreadyGoing | RollbackStart::NoPath => None,
    }
}
