//! Retires the old side: waits until the load balancer's nodes no longer send it traffic, stops its tasks, and swaps
//! the autoscaling limits with the roles.

use super::cleanup::{self, PendingCleanup, ScalingIn, limits_restored, settling, without_original_limits};
use super::health::{self, LiveWeights, UNREAD_POLL};
use super::schedules;
use super::transition::{Context, Transition};
use crate::deployment::{Deployment, Purpose};
use crate::effect::Effect;
use crate::explanation::WaitingOn;
use crate::journal::Fact;
use crate::names::Slot;
use crate::policy::Drift;
use crate::snapshot::Snapshot;
use crate::time::Seconds;
use crate::verdict::Verdict;
use crate::weighted::{Candidate, Retiring, Weighted, WeightedStage};
use jiff::Timestamp;

const DRAIN_POLL: Seconds = Seconds(15);

/// The old side has no traffic; a rollback is still possible.
pub(super) fn draining(
    context: &Context<'_>,
    deployment: &Deployment,
    snapshot: &Snapshot,
    weighted: Weighted,
    candidate: &Candidate,
    (until, deadline, verify_again): (Timestamp, Timestamp, bool),
) -> Transition {
    if context.now >= deadline {
        return out_of_time(deployment.with_weighted(weighted.clone()), weighted.sides.stable);
    }
    let at = deployment.with_weighted(weighted.clone());
    if context.now < until {
        let on = WaitingOn::Drain { slot: weighted.sides.stable, until };
        return Transition::wait(at, on, DRAIN_POLL, until);
    }
    match health::live_weights(deployment, &weighted, snapshot) {
        LiveWeights::AsDecided => {
            let version = candidate.version.clone();
            let retiring = Retiring { version, deadline, verify_again };
            let weighted = Weighted { at: WeightedStage::Retiring(retiring), ..weighted };
            Transition::continue_with(deployment.with_weighted(weighted))
        }
        LiveWeights::NotYet | LiveWeights::Unknown(_) => {
            let reason = "the rules could not be read once more before the old side goes down".to_owned();
            Transition::wait(at, WaitingOn::Reading { reason, deadline }, UNREAD_POLL, deadline)
        }
    }
}

/// Scales down the old side.
pub(super) fn step(
    context: &Context<'_>,
    deployment: &Deployment,
    snapshot: &Snapshot,
    weighted: Weighted,
    deadline: Timestamp,
) -> Transition {
    let old = weighted.sides.stable;
    if context.now >= deadline {
        return out_of_time(deployment.with_weighted(weighted), old);
    }
    let Some(due) = schedules::limits_to_restore(deployment, &weighted, snapshot, context.now) else {
        return Transition::stay(deployment.with_weighted(weighted)).observe_again();
    };
    let due = due.swapped();
    let floor = due.limits.get(&old).map_or(0, |limits| limits.min);
    let PendingCleanup { effects, missing } = PendingCleanup::limits(deployment, snapshot, &due);
    let down = cleanup::scale_in(context, deployment, &weighted, snapshot, (old, floor), deadline);
    let at = deployment.with_weighted(weighted.clone());
    if let Some(ScalingIn { effect, on, poll, until }) = down {
        return Transition::wait(at, on, poll, until).effects(effects).effects(effect);
    }
    if !missing.is_empty() {
        let on = WaitingOn::RestoringSettings { what: missing.join(", "), deadline };
        return Transition::wait(at, on, UNREAD_POLL, deadline).effects(effects);
    }
    if let Some((on, until)) = settling(context, deployment) {
        return Transition::wait(at, on, UNREAD_POLL, until).effects(effects);
    }
    let reason = match deployment.purpose {
        Purpose::Deploy => format!("all traffic is on {}", old.other()),
        Purpose::Rollback | Purpose::Repair => format!("all traffic is back on {}", deployment.release.tag),
    };
    let done = deployment.with_weighted(without_original_limits(weighted));
    Transition::end(done, Verdict::Succeeded, reason).changes(limits_restored(due)).effects(effects)
}

fn out_of_time(deployment: Deployment, old: Slot) -> Transition {
    let what = format!("{old} could not be taken down in time, or its autoscaling limits not put back; look at both");
    let reason = "all traffic is on the new release";
    Transition::end(deployment, Verdict::Succeeded, reason).fact(Fact::CleanupIncomplete { what })
}

/// A rule was changed outside Switchback during retiring, and the old side receives traffic: its tasks are started
/// again so that it can serve. Where the policy says so, the weights also return to the verified side. Nothing is
/// scaled in before the rule is restored.
pub(super) fn restart_old_side(deployment: &Deployment, weighted: &Weighted, snapshot: &Snapshot) -> Vec<Effect> {
    let old = weighted.sides.stable;
    let mut effects = Vec::new();
    if !matches!(weighted.at, WeightedStage::Retiring(_)) || !health::has_traffic(snapshot, old) {
        return effects;
    }
    if snapshot.side(old).known().is_some_and(|side| side.desired < weighted.sides.stable_count) {
        effects.push(Effect::SetDesired { slot: old, desired: weighted.sides.stable_count });
    }
    let serves = snapshot.side(old.other()).known().is_some_and(|side| side.targets.healthy > 0);
    if serves
        && deployment.policy.drift == Drift::Revert
        && let Some(record) = &weighted.weights
    {
        effects.push(Effect::SetWeights { weights: record.decided, seen: Vec::new() });
    }
    effects
}
