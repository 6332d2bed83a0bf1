//! Writes to the world: whose they are, and whether what they need was seen before.

use super::pair::{LAG_S, Pair, Side, Split, index};
use super::{
    Found, HANDS_OFF, HEALTHY_FIRST, NEVER_UNDER_TRAFFIC, NOTHING_LOST, ONE_WRITER, STABLE_STAYS, WEIGHTS_WHOLE,
};
use crate::ledger::Store;
use crate::virtual_time::Deed;
use crate::world::{Hand, ServiceKey, World};
use engine::LeaseId;
use rollout::policy::Drift;
use rollout::{Effect, SignedDuration, Slot, Stage, Timestamp};

/// How old a look may be that a write is made on, in seconds: longer than a holding lasts.
const SEEN_WITHIN_S: i64 = 80;
/// For so long nodes of the balancer may follow what somebody else has edited since, in seconds.
const HANDS_ARE_LEARNED_OF_S: i64 = 15;
/// For so long a death, or somebody's meddling, may be what requests are lost of, in seconds.
const HURTS_FOR_S: i64 = 1_800;

impl Pair {
    /// A pass saw or did something.
    pub(super) fn deed(&mut self, deed: &Deed, store: &Store, now: Timestamp) -> Option<Found> {
        if let Some(truth) = self.truth(deed, now) {
            self.remember(truth);
        }
        let Deed::Performed { lease, effect, .. } = deed else { return None };
        let holder = store.holder(&self.target);
        if lease.is_none() || holder != lease.as_ref() {
            let name = |lease: Option<&LeaseId>| lease.map_or("nobody".to_owned(), |lease| lease.0.clone());
            let (writer, holder) = (name(lease.as_ref()), name(holder));
            return Some((&ONE_WRITER, format!("{writer} did {} while {holder} holds the target", effect.name())));
        }
        let running = store.peek(&self.target)?.running.as_ref();
        match effect {
            Effect::SetWeights { weights, .. } => {
                let decided = running.and_then(|running| running.weights).map(|record| record.decided);
                if decided != Some(*weights) {
                    return Some((&ONE_WRITER, format!("{weights:?} are written, and {decided:?} were decided")));
                }
                let running = running?;
                // Where the policy says so, what is live is put back while the old side goes, too.
                let reverts = running.policy.drift == Drift::Revert
                    && matches!(running.stage, Stage::KeepingWarm { .. } | Stage::Retiring { .. });
                let going_back = matches!(running.stage, Stage::RollingBack { .. }) || reverts;
                let seen = self.look_of(lease.as_ref())?.at;
                let settled = self.open.as_ref()?.settled_at?;
                let edited = |rule: &&super::pair::Rule| {
                    // For a moment AWS may tell what the rule was before, to the look and to the reading before the write.
                    let told = |at: Timestamp| seen.duration_since(at) > SignedDuration::from_secs(LAG_S);
                    rule.by_hand && rule.by_hand_at.is_some_and(|at| settled < at && told(at))
                };
                let by_hand = self.rules.iter().find(edited).filter(|_| !going_back)?;
                let [blue, green] = by_hand.live;
                // Nobody can tell what it left itself a moment ago from the same thing by another's hand.
                let before = running.weights.map_or(*weights, |record| record.before);
                let like = |weights: &rollout::snapshot::Weights| {
                    blue * u64::from(weights.green) == green * u64::from(weights.blue)
                };
                let same = like(weights) || like(&before);
                (!same).then(|| {
                    let words = format!("{weights:?} are written over {blue}/{green}, which was seen to be another's");
                    (&HANDS_OFF, words)
                })
            }
            _ => None,
        }
    }

    /// The product has written a rule.
    pub(super) fn rule_written(
        &self,
        arn: &str,
        new: Split,
        odd: bool,
        beside_weights: bool,
        deeds: &[Deed],
        now: Timestamp,
    ) -> Option<Found> {
        let writer = deeds.iter().find_map(|deed| match deed {
            Deed::Performed { lease, effect, .. } => Some((lease.as_ref(), effect)),
            Deed::Looked { .. } => None,
        });
        let Some((lease, _)) = writer else {
            return Some((&ONE_WRITER, format!("{arn} was written by no pass")));
        };
        if beside_weights {
            return Some((&WEIGHTS_WHOLE, format!("{arn} was changed in more than its weights")));
        }
        let of_traffic = self.rules.iter().find(|rule| rule.arn == arn);
        if odd || new[0] + new[1] != 100 {
            let found = of_traffic.is_none() && new[0] + new[1] > 0;
            // A test rule is put back as it was found, whatever that was.
            if !found {
                return Some((&WEIGHTS_WHOLE, format!("{arn} was given {}/{}", new[0], new[1])));
            }
        }
        let old = of_traffic?.live;
        let total = (old[0] + old[1]).max(1);
        for slot in [Slot::Blue, Slot::Green] {
            let side = index(slot);
            if new[side] * total <= old[side] * 100 || self.sides[side].was_well(SEEN_WITHIN_S, now) {
                continue;
            }
            let look = self.look_of(lease);
            let could_not_be_read = look.is_some_and(|look| look.read_healthy[side].is_none());
            let going_back = self.open.as_ref().and_then(|open| open.stable) == Some(slot);
            // While both sides sleep nothing is taken from anybody.
            if self.sides.iter().all(|side| side.desired == 0) {
                continue;
            }
            // On the way back the stable side may be unread: it was well when the deployment began.
            if going_back && could_not_be_read {
                continue;
            }
            let words = format!("{slot} goes from {} to {} with no healthy target", old[side], new[side]);
            return Some((&HEALTHY_FIRST, words));
        }
        None
    }

    /// A service shall have another number of tasks.
    pub(super) fn desired_changed(
        &self,
        service: &ServiceKey,
        [from, to]: [u32; 2],
        by: Hand,
        deeds: &[Deed],
        world: &World,
        now: Timestamp,
    ) -> Option<Found> {
        let side = self.sides.iter().position(|side| &side.service == service)?;
        if to >= from || by == Hand::Somebody {
            return None;
        }
        let writer = deeds.iter().find_map(|deed| match deed {
            Deed::Performed { lease, effect, .. } => Some((lease.as_ref(), effect)),
            Deed::Looked { .. } => None,
        });
        let lease = writer.and_then(|(lease, _)| lease);
        // Who lowered a limit wanted no more tasks than that: the limit moves them inside as soon as it is given back.
        // So does a scheduled action that came due while scheduled scaling was suspended.
        let lowers = |side: &Side| side.limits_by_hand_at.is_some() || world.has_scheduled_actions(&side.service);
        let lowered = self.sides.iter().any(lowers);
        if lowered && matches!(writer, Some((_, Effect::SetAutoscaling { .. }))) {
            return None;
        }
        if by == Hand::Autoscaler {
            let open = self.open.as_ref().filter(|open| !open.may_go);
            let stable = open.and_then(|open| open.stable.map(index));
            let moved = stable.is_some_and(|stable| self.rules.iter().any(|rule| rule.live[1 - stable] > 0));
            // Traffic that somebody else moved was moved before anything was borrowed, perhaps.
            let by_hand = open.is_some_and(|open| self.meddled_since(open.since));
            let meddled = by_hand || self.sides[side].limits_by_hand_at.is_some();
            return (stable == Some(side) && moved && !meddled)
                .then(|| (&STABLE_STAYS, format!("{} goes from {from} to {to}", service.1)));
        }
        // What somebody edited since the pass looked, it could not know, and when somebody edited what it saw, neither:
        // nodes of the balancer may still learn of that.
        let seen = self.look_of(lease).map_or(now, |look| look.at);
        let learns = |at: Timestamp| now.duration_since(at) <= SignedDuration::from_secs(HANDS_ARE_LEARNED_OF_S);
        let unknown = |at: Option<Timestamp>| at.is_some_and(|at| at >= seen || learns(at));
        let carries = |rule: &&super::pair::Rule| {
            !unknown(rule.by_hand_at) && (rule.live[side] > 0 || rule.nodes.iter().any(|node| node[side] > 0))
        };
        let rule = self.rules.iter().find(carries)?;
        let nodes: Vec<String> = rule.nodes.iter().map(|[blue, green]| format!("{blue}/{green}")).collect();
        let words = format!(
            "{} goes from {from} to {to} tasks; its rule has {}/{}, its nodes follow {}",
            service.1,
            rule.live[0],
            rule.live[1],
            nodes.join(" and ")
        );
        Some((&NEVER_UNDER_TRAFFIC, words))
    }

    /// Requests were lost somewhere.
    pub(super) fn lost(&mut self, world: &World, now: Timestamp) -> Option<Found> {
        let recent = |at: Option<Timestamp>| {
            at.is_some_and(|at| now.duration_since(at) <= SignedDuration::from_secs(HURTS_FOR_S))
        };
        let by_hand = |rule: &super::pair::Rule| rule.by_hand || recent(rule.by_hand_at) || recent(rule.hand_left_at);
        let meddled = self.rules.iter().any(by_hand);
        for side in &mut self.sides {
            let lost = world.lost_by(&side.group);
            if lost > side.lost {
                side.lost = lost;
                if !meddled && !recent(side.hurt_at) {
                    return Some((&NOTHING_LOST, format!("{} has no target for its requests", side.service.1)));
                }
            }
        }
        None
    }
}
