//! Cleanup at the end of a deployment: scales in the side without traffic and restores temporarily changed (borrowed) autoscaling
//! limits.

use super::health::UNREAD_POLL;
use super::schedules::LimitsDue;
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
/// How long past its deadline a failing effect that may still succeed is retried. As long as throttling may extend a deadline
/// (`rate_limiter`), so that every deployment ends.
pub(super) const LONGEST_TRYING: Seconds = Seconds(6 * 3600);

/// Outstanding cleanup: effects to perform, and what was not seen done yet.
pub(super) struct Owed {
    pub(super) effects: Vec<Effect>,
    /// Outstanding items, as text for people.
    pub(super) missing: Vec<String>,
}

impl Owed {
    /// Autoscaling limits that are not as they are due.
    pub(super) fn limits(deployment: &Deployment, snapshot: &Snapshot, due: &LimitsDue) -> Self {
        let mut owed = Self { effects: Vec::new(), missing: due.unread.clone() };
        for (slot, limits) in &due.limits {
            let service = &deployment.policy.pair.side(*slot).service;
            match snapshot.side(*slot) {
                Reading::Known(side) if side.autoscaling.is_none() || side.autoscaling == Some(*limits) => {}
                Reading::Known(_) => {
                    owed.effects.push(Effect::SetAutoscaling { slot: *slot, limits: *limits });
                    owed.missing.push(format!("autoscaling limits of {service}"));
                }
                Reading::Unknown(reason) => owed.missing.push(format!("{service} could not be read: {reason}")),
            }
        }
        owed
    }

    /// Adds the test rule if it was moved and is not as it was found.
    pub(super) fn with_test_rule(mut self, weighted: &Weighted, snapshot: &Snapshot) -> Self {
        let Some(before) = weighted.test_rule_before else { return self };
        match &snapshot.test_rule {
            Some(Reading::Known(rule)) if !rule.weights.same_split(before) => {
                self.effects.push(Effect::SetTestRule { weights: before });
                self.missing.push("the test rule".to_owned());
            }
            Some(Reading::Unknown(reason)) => self.missing.push(format!("the test rule could not be read: {reason}")),
            Some(Reading::Known(_)) | None => {}
        }
        self
    }
}

/// Changes that journal the restored limits, scheduled actions taken into account.
pub(super) fn returned(mut due: LimitsDue) -> Vec<Change> {
    let mut changes = Vec::new();
    for (slot, limits) in due.limits {
        let scheduled = due.ran.remove(&slot).unwrap_or_default();
        let fact = Fact::AutoscalingRestored { slot, min: limits.min, max: limits.max, scheduled };
        changes.push(Change::Fact(fact));
    }
    changes.extend(due.unclear.into_iter().map(|what| Change::Fact(Fact::CleanupIncomplete { what })));
    changes
}

/// The same, with no borrowed limits on record.
pub(super) fn without_loans(weighted: Weighted) -> Weighted {
    Weighted { original_limits: BTreeMap::new(), ..weighted }
}

/// A recent write may not be visible in the reading yet, and the last reading is what gets recorded. Returns what is waited for
/// and until when, or `None` if the reading is consistent.
pub(super) fn settling(context: &Context<'_>, deployment: &Deployment) -> Option<(WaitingOn, Timestamp)> {
    let until = deployment.consistent_at(context.seen_at, context.now)?;
    let reason = "it is read once more before this ends".to_owned();
    Some((WaitingOn::Settling { reason, until }, until))
}

/// Whether restoring the limits continues past its deadline: until it was tried once and, as long as nothing else waits for the
/// target, until AWS refuses it permanently.
pub(super) fn keeps_trying(context: &Context<'_>, deployment: &Deployment, deadline: Timestamp) -> bool {
    let tried = deployment.last_outcome_at.is_some_and(|at| at >= deployment.stage_entered_at);
    let refused = deployment.effect_failure.as_ref().is_some_and(|effect_failure| effect_failure.refused);
    let alone = context.state.queued.is_empty() && !context.left_over;
    (!tried || (!refused && alone)) && context.now < LONGEST_TRYING.after(deadline)
}

/// A side that still has more tasks than it should keep, or whose task count is unknown.
pub(super) struct ScalingIn {
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
        let until = deployment.policy.strategy.drain.after(restored);
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
