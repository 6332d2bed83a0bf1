//! Writes to the world: who made them, and whether their preconditions were observed.

use super::pair::{MAX_LAG_S, PairModel, SideModel, Split, index};
use super::target_journal::check_lease;
use super::{
    BrokenInvariant, NO_AUTOSCALING_IN_OF_STABLE, NO_FORWARD_OVERWRITE_OF_FOREIGN_EDITS, NO_REQUEST_LOST,
    NO_SCALE_DOWN_UNDER_TRAFFIC, ONLY_LEASE_HOLDER_WRITES, TRAFFIC_ONLY_TO_HEALTHY_TARGETS, WEIGHTS_SUM_TO_WHOLE,
};
use crate::ledger::Store;
use crate::trace::PassEvent;
use crate::world::{ChangedBy, ServiceKey, World};
use rollout::Deployment;
use rollout::policy::Drift;
use rollout::{Effect, SignedDuration, Slot, Stage, Timestamp};

/// Maximum age of the observation that a write is based on, in seconds: longer than a lease lasts.
const MAX_OBSERVATION_AGE_S: i64 = 80;
/// How long load balancer nodes may still follow an edit made outside Switchback, in seconds.
const NODE_CONVERGENCE_S: i64 = 15;
/// How long a task's death or an outside change may cause lost requests, in seconds.
const DISRUPTION_EFFECT_S: i64 = 1_800;

impl PairModel {
    /// Checks what a pass observed or did.
    pub(super) fn check_pass_event(
        &mut self,
        pass_event: &PassEvent,
        store: &Store,
        now: Timestamp,
    ) -> Option<BrokenInvariant> {
        if let PassEvent::Observed { lease, .. } = pass_event
            && let Some(state) = self.state_at_observation(pass_event, now)
        {
            self.observations.record(lease.clone(), state);
        }
        let PassEvent::Performed { lease, effect, .. } = pass_event else { return None };
        if let Some(found) = check_lease(store, &self.target, lease.as_ref(), effect) {
            return Some(found);
        }
        let running = store.peek(&self.target)?.running.as_ref();
        match effect {
            Effect::SetWeights { weights, .. } => {
                let decided = running.and_then(Deployment::weights).map(|record| record.decided);
                if decided != Some(*weights) {
                    return Some((
                        &ONLY_LEASE_HOLDER_WRITES,
                        format!("{weights:?} were written, and {decided:?} were decided"),
                    ));
                }
                let running = running?;
                // With this policy foreign weights are reset while the old side is kept warm or retired, too.
                let reverts = running.policy.drift == Drift::Revert
                    && matches!(running.stage(), Stage::KeepingWarm | Stage::Retiring);
                let going_back = running.stage() == Stage::RollingBack || reverts;
                let seen = self.last_observation_of(lease.as_ref())?.at;
                let settled = self.open.as_ref()?.settled_at?;
                let edited = |rule: &&super::pair::RuleModel| {
                    // For a moment AWS may report the rule as it was before, to the observation as well as to the read
                    // before the write.
                    let surely_visible = |at: Timestamp| seen.duration_since(at) > SignedDuration::from_secs(MAX_LAG_S);
                    rule.is_foreign && rule.foreign_edit_at.is_some_and(|at| settled < at && surely_visible(at))
                };
                let foreign = self.rules.iter().find(edited).filter(|_| !going_back)?;
                let [blue, green] = foreign.live;
                // The weights Switchback itself wrote a moment ago cannot be distinguished from the same weights set by
                // another editor.
                let before = running.weights().map_or(*weights, |record| record.before);
                let same_ratio = |weights: &rollout::snapshot::Weights| {
                    blue * u64::from(weights.green) == green * u64::from(weights.blue)
                };
                let same = same_ratio(weights) || same_ratio(&before);
                (!same).then(|| {
                    let words =
                        format!("{weights:?} were written over {blue}/{green}, which was observed and set by another");
                    (&NO_FORWARD_OVERWRITE_OF_FOREIGN_EDITS, words)
                })
            }
            _ => None,
        }
    }

    /// Checks a rule that Switchback has written.
    pub(super) fn check_rule_written(
        &self,
        arn: &str,
        new: Split,
        unexpected_groups: bool,
        more_than_weights: bool,
        pass_events: &[PassEvent],
        now: Timestamp,
    ) -> Option<BrokenInvariant> {
        let writer = pass_events.iter().find_map(|pass_event| match pass_event {
            PassEvent::Performed { lease, effect, .. } => Some((lease.as_ref(), effect)),
            PassEvent::Observed { .. } => None,
        });
        let Some((lease, _)) = writer else {
            return Some((&ONLY_LEASE_HOLDER_WRITES, format!("{arn} was written outside any pass")));
        };
        if more_than_weights {
            return Some((&WEIGHTS_SUM_TO_WHOLE, format!("more than the weights of {arn} was changed")));
        }
        let of_traffic = self.rules.iter().find(|rule| rule.arn == arn);
        if unexpected_groups || new[0] + new[1] != 100 {
            let found = of_traffic.is_none() && new[0] + new[1] > 0;
            // A test rule is restored to the weights that it had before the deployment, whatever they were.
            if !found {
                return Some((
                    &WEIGHTS_SUM_TO_WHOLE,
                    format!("the weights of {arn} were set to {}/{}", new[0], new[1]),
                ));
            }
        }
        let old = of_traffic?.live;
        let total = (old[0] + old[1]).max(1);
        for slot in Slot::BOTH {
            let side = index(slot);
            if new[side] * total <= old[side] * 100 || self.sides[side].was_healthy(MAX_OBSERVATION_AGE_S, now) {
                continue;
            }
            let at_observation = self.last_observation_of(lease);
            let could_not_be_read = at_observation.is_some_and(|state| state.read_healthy[side].is_none());
            let going_back = self.open.as_ref().and_then(|open| open.stable) == Some(slot);
            // With both services at a desired count of 0 there is no traffic to lose.
            if self.sides.iter().all(|side| side.desired == 0) {
                continue;
            }
            // During a rollback the stable side may be unreadable: it was healthy when the deployment started.
            if going_back && could_not_be_read {
                continue;
            }
            let (old, new) = (old[side], new[side]);
            let words = format!("the weight of {slot} rises from {old} to {new} without a healthy target");
            return Some((&TRAFFIC_ONLY_TO_HEALTHY_TARGETS, words));
        }
        None
    }

    /// Checks a change of a service's desired count.
    pub(super) fn check_desired_change(
        &self,
        service: &ServiceKey,
        [from, to]: [u32; 2],
        by: ChangedBy,
        pass_events: &[PassEvent],
        world: &World,
        now: Timestamp,
    ) -> Option<BrokenInvariant> {
        let side = self.sides.iter().position(|side| &side.service == service)?;
        if to >= from || by == ChangedBy::ThirdParty {
            return None;
        }
        let writer = pass_events.iter().find_map(|pass_event| match pass_event {
            PassEvent::Performed { lease, effect, .. } => Some((lease.as_ref(), effect)),
            PassEvent::Observed { .. } => None,
        });
        let lease = writer.and_then(|(lease, _)| lease);
        // After an outside reduction of the limits, restoring them lowers the desired count at once. So does a
        // scheduled action that came due while scheduled scaling was suspended.
        let has_lowered_limits =
            |side: &SideModel| side.foreign_limits_at.is_some() || world.has_scheduled_actions(&side.service);
        let limits_lowered = self.sides.iter().any(has_lowered_limits);
        if limits_lowered && matches!(writer, Some((_, Effect::SetAutoscaling { .. }))) {
            return None;
        }
        if by == ChangedBy::Autoscaler {
            let open = self.open.as_ref().filter(|open| !open.stable_may_stop);
            let stable = open.and_then(|open| open.stable.map(index));
            let moved = stable.is_some_and(|stable| self.rules.iter().any(|rule| rule.live[1 - stable] > 0));
            // Traffic moved outside Switchback may have moved before the deployment suspended autoscaling.
            let foreign = open.is_some_and(|open| self.has_foreign_edit_since(open.since));
            let has_foreign_edit = foreign || self.sides[side].foreign_limits_at.is_some();
            return (stable == Some(side) && moved && !has_foreign_edit).then(|| {
                let words = format!("{} was scaled in from {from} to {to} tasks", service.1);
                (&NO_AUTOSCALING_IN_OF_STABLE, words)
            });
        }
        // The pass cannot know of an edit made after its observation, nor when an edit that it did see was made: load
        // balancer nodes may still be converging on it.
        let seen = self.last_observation_of(lease).map_or(now, |at_observation| at_observation.at);
        let still_converging = |at: Timestamp| now.duration_since(at) <= SignedDuration::from_secs(NODE_CONVERGENCE_S);
        let not_yet_visible = |at: Option<Timestamp>| at.is_some_and(|at| at >= seen || still_converging(at));
        let carries_traffic = |rule: &&super::pair::RuleModel| {
            !not_yet_visible(rule.foreign_edit_at)
                && (rule.live[side] > 0 || rule.nodes.iter().any(|node| node[side] > 0))
        };
        let rule = self.rules.iter().find(carries_traffic)?;
        let nodes: Vec<String> = rule.nodes.iter().map(|[blue, green]| format!("{blue}/{green}")).collect();
        let words = format!(
            "{} was scaled down from {from} to {to} tasks; the rule has {}/{}, and the load balancer's nodes {}",
            service.1,
            rule.live[0],
            rule.live[1],
            nodes.join(" and ")
        );
        Some((&NO_SCALE_DOWN_UNDER_TRAFFIC, words))
    }

    /// Checks whether requests were lost since the last call.
    pub(super) fn check_lost_requests(&mut self, world: &World, now: Timestamp) -> Option<BrokenInvariant> {
        let recent = |at: Option<Timestamp>| {
            at.is_some_and(|at| now.duration_since(at) <= SignedDuration::from_secs(DISRUPTION_EFFECT_S))
        };
        let foreign = |rule: &super::pair::RuleModel| {
            rule.is_foreign || recent(rule.foreign_edit_at) || recent(rule.manual_edit_overwritten_at)
        };
        let has_foreign_edit = self.rules.iter().any(foreign);
        for side in &mut self.sides {
            let lost_requests: f64 = side.groups.keys().map(|group| world.lost_requests_of_group(group)).sum();
            if lost_requests > side.lost_requests {
                side.lost_requests = lost_requests;
                if !has_foreign_edit && !recent(side.disrupted_at) {
                    return Some((&NO_REQUEST_LOST, format!("{} had no target for its requests", side.service.1)));
                }
            }
        }
        None
    }
}
