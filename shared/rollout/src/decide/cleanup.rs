//! Cleanup at the end of a deployment: scales in the side without traffic, and restores the autoscaling limits and the
//! test rule that were changed for the deployment.

use super::health::UNREAD_POLL;
use super::schedules::LimitsToRestore;
use super::transition::{Change, Context};
use crate::deployment::Deployment;
use crate::effect::Effect;
use crate::explanation::WaitingOn;
use crate::journal::Fact;
use crate::names::Slot;
use crate::snapshot::{Reading, Snapshot};
use crate::time::Seconds;
use crate::weighted::Weighted;
use jiff::Timestamp;
use std::collections::BTreeMap;

const STOPPING_POLL: Seconds = Seconds(10);
/// How long past its deadline a failing effect that may still succeed is retried. As long as throttling may extend a
/// deadline (`rate_limiter`), so that every deployment ends.
pub(super) const MAX_RETRY_PERIOD: Seconds = Seconds(6 * 3600);

/// How long a side that has lost its traffic stays up: until the load balancer's nodes have learnt of it, and as long as
/// cookies bind clients to it (ELB user guide, "Sticky sessions": a client with a cookie is sent to its target group
/// whatever the weights). A side without targets would answer them with errors.
pub(super) fn drain(deployment: &Deployment, snapshot: &Snapshot) -> Seconds {
    deployment.policy.strategy.drain.max(snapshot.sticky_for())
}

/// The settings that are not restored yet.
pub(super) struct PendingCleanup {
    /// Effects that restore them.
    pub(super) effects: Vec<Effect>,
    /// The settings not seen restored, as text for people.
    pub(super) missing: Vec<String>,
}

impl PendingCleanup {
    /// The autoscaling limits that are not restored.
    pub(super) fn limits(deployment: &Deployment, snapshot: &Snapshot, due: &LimitsToRestore) -> Self {
        let mut pending = Self { effects: Vec::new(), missing: due.unread.clone() };
        for (slot, limits) in &due.limits {
            let service = deployment.policy.resources.platform.workload_name(Some(*slot));
            match snapshot.side(*slot) {
                Reading::Known(side) if side.autoscaling.is_none() || side.autoscaling == Some(*limits) => {}
                Reading::Known(_) => {
                    pending.effects.push(Effect::SetAutoscaling { slot: *slot, limits: *limits });
                    pending.missing.push(format!("autoscaling limits of {service}"));
                }
                Reading::Unknown(reason) => pending.missing.push(format!("{service} could not be read: {reason}")),
            }
        }
        pending
    }

    /// Adds the test rules if they were moved and are not as they were found.
    pub(super) fn with_test_rules(mut self, weighted: &Weighted, snapshot: &Snapshot) -> Self {
        let before = &weighted.test_rules_before;
        let mut moved = false;
        for (live, before) in snapshot.test_rules.iter().zip(before) {
            match live {
                Reading::Known(rule) => moved |= !rule.weights.same_split(*before),
                Reading::Unknown(reason) => {
                    self.missing.push(format!("the test rule could not be read: {reason}"));
                }
            }
        }
        if moved {
            // One that cannot be read keeps none of the others.
            self.effects.push(Effect::SetTestRules { weights: before.clone() });
            self.missing.push("the test rule".to_owned());
        }
        self
    }
}

/// Changes that journal the restored limits, with the scheduled actions that were taken into account.
pub(super) fn limits_restored(mut due: LimitsToRestore) -> Vec<Change> {
    let mut changes = Vec::new();
    for (slot, limits) in due.limits {
        let scheduled = due.ran.remove(&slot).unwrap_or_default();
        let fact = Fact::AutoscalingRestored { slot, min: limits.min, max: limits.max, scheduled };
        changes.push(Change::Fact(fact));
    }
    changes.extend(due.unclear.into_iter().map(|what| Change::Fact(Fact::CleanupIncomplete { what })));
    changes
}

/// The same state without the original limits: they are restored.
pub(super) fn without_original_limits(weighted: Weighted) -> Weighted {
    Weighted { original_limits: BTreeMap::new(), ..weighted }
}

/// The wait for a consistent reading, and its end; `None`: the reading is consistent. A recent write may not be visible
/// in the reading yet, and the last reading is what gets recorded.
pub(super) fn settling(context: &Context<'_>, deployment: &Deployment) -> Option<(WaitingOn, Timestamp)> {
    let until = deployment.stale_until(context.seen_at, context.now)?;
    let reason = "it is read once more before this ends".to_owned();
    Some((WaitingOn::Settling { reason, until }, until))
}

/// Whether restoring the limits continues past its deadline: until it was tried once and, as long as nothing else waits
/// for the target, until AWS refuses it permanently.
pub(super) fn keeps_trying(context: &Context<'_>, deployment: &Deployment, deadline: Timestamp) -> bool {
    let tried = deployment.last_outcome_at.is_some_and(|at| at >= deployment.stage_entered_at);
    let refused = deployment.effect_failure.as_ref().is_some_and(|effect_failure| effect_failure.refused);
    let alone = context.state.queued.is_empty() && !context.has_deferred_command;
    (!tried || (!refused && alone)) && context.now < MAX_RETRY_PERIOD.after(deadline)
}

/// The wait for a side that still has more tasks than it should keep, or whose task count is unknown.
pub(super) struct ScalingIn {
    /// Reduces the desired count, where it is too high.
    pub(super) effect: Option<Effect>,
    pub(super) on: WaitingOn,
    pub(super) poll: Seconds,
    pub(super) until: Timestamp,
}

/// Scales a side without traffic in to `floor` tasks. `None`: it already has no more.
pub(super) fn scale_in(
    context: &Context<'_>,
    deployment: &Deployment,
    weighted: &Weighted,
    snapshot: &Snapshot,
    (slot, floor): (Slot, u32),
    deadline: Timestamp,
) -> Option<ScalingIn> {
    let unread = |reason| {
        let on = WaitingOn::Reading { reason, deadline };
        Some(ScalingIn { effect: None, on, poll: UNREAD_POLL, until: deadline })
    };
    let side = match snapshot.side(slot) {
        Reading::Known(side) => side,
        Reading::Unknown(reason) => return unread(format!("{slot} could not be read: {reason}")),
    };
    if snapshot.live_side() != Some(slot.other()) {
        // Asked for again right before every scale-in: a side that may carry traffic is never taken down.
        return unread(format!("not every rule was seen without traffic for {slot}"));
    }
    if let Some(restored) = weighted.restored_at {
        let until = drain(deployment, snapshot).after(restored);
        if context.now < until {
            let on = WaitingOn::Drain { slot, until };
            return Some(ScalingIn { effect: None, on, poll: STOPPING_POLL, until });
        }
    }
    let effect = (side.desired > floor).then_some(Effect::SetDesired { slot, desired: floor });
    if effect.is_none() && side.running <= floor {
        return None;
    }
    let on = WaitingOn::Stopping { slot, running: side.running, deadline };
    Some(ScalingIn { effect, on, poll: STOPPING_POLL, until: deadline })
}
