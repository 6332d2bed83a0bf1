//! The traffic steps of a deployment: which is the first, the share of each, and the tasks and autoscaling limits that
//! a share needs.

use crate::deployment::{Deployment, Purpose};
use crate::names::Slot;
use crate::snapshot::Autoscaling;
use crate::time::Percent;
use crate::weighted::Weighted;

/// Tasks that the candidate needs to carry `share`: that share of the stable side's tasks, at least the policy's
/// `green_capacity` (whichever side the candidate is), and never 0.
pub(super) fn capacity(deployment: &Deployment, weighted: &Weighted, share: Percent) -> u32 {
    // A rollback moves all traffic in one step, so all its tasks are needed from the start.
    let share = if deployment.purpose == Purpose::Deploy { share } else { Percent::ALL };
    share.max(deployment.policy.strategy.green_capacity).of(weighted.sides.stable_count).max(1)
}

/// Index of the first traffic step. A rollback starts with the last, which moves all traffic.
pub(super) fn first_traffic_step(deployment: &Deployment) -> usize {
    match deployment.purpose {
        Purpose::Deploy => 0,
        Purpose::Rollback | Purpose::Repair => deployment.policy.strategy.steps.len().saturating_sub(1),
    }
}

/// The candidate's share of the traffic in a step; all of it if the policy names no steps.
pub(super) fn share_of_step(deployment: &Deployment, index: usize) -> Percent {
    deployment.policy.strategy.steps.get(index).map_or(Percent::ALL, |step| step.traffic)
}

/// Autoscaling limits of a side while traffic moves to the candidate; `None`: the side has no scalable target.
pub(super) fn limits_during_deployment(weighted: &Weighted, side: Slot, want: u32) -> Option<Autoscaling> {
    let candidate = weighted.candidate_slot();
    let found = weighted.original_limits.get(&side)?;
    Some(if side == candidate {
        // The idle side may be parked at a maximum of 0 or 1; with traffic, it may grow as far as the live side.
        let live = weighted.original_limits.get(&candidate.other()).map_or(0, |live| live.max);
        let max = found.max.max(live).max(want);
        Autoscaling { min: want, max, scale_in_suspended: true, scheduled_suspended: true }
    } else {
        // Traffic leaves the stable side step by step; without this, autoscaling would scale it in while it is still
        // the rollback target.
        Autoscaling { scale_in_suspended: true, scheduled_suspended: true, ..*found }
    })
}
