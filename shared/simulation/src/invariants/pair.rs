//! The picture of one target's pair, made of changes alone.

use super::Found;
use super::answered::Answer;
use crate::virtual_time::Deed;
use crate::world::balancer::WeightedGroup;
use crate::world::scaling::{DescribeScalableTargets, SuspendedState};
use crate::world::{Change, Hand, ServiceKey, World};
use engine::LeaseId;
use rollout::{Cause, EcsPair, SignedDuration, Slot, TargetId, Timestamp};
use std::collections::VecDeque;

/// So many looks are remembered: those of passes that overlap.
const LOOKS: usize = 8;

/// The autoscaling limits of a side.
pub(super) type Limits = (u32, u32, SuspendedState);

/// One side: a service, and its target group.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) service: ServiceKey,
    pub(super) group: String,
    pub(super) healthy: u32,
    pub(super) registered: u32,
    /// When it last had a healthy target, if it has none now.
    pub(super) well_until: Option<Timestamp>,
    pub(super) desired: u32,
    pub(super) limits: Option<Limits>,
    /// When a task of it last died, or somebody meddled with its tasks or limits.
    pub(super) hurt_at: Option<Timestamp>,
    pub(super) limits_by_hand_at: Option<Timestamp>,
    pub(super) lost: f64,
}

impl Side {
    /// Whether it had a healthy target within the last so many seconds.
    pub(super) fn was_well(&self, within_s: i64, now: Timestamp) -> bool {
        let recent = |at: Timestamp| now.duration_since(at) <= SignedDuration::from_secs(within_s);
        self.healthy > 0 || self.well_until.is_some_and(recent)
    }
}

/// Blue's weight, green's weight.
pub(super) type Split = [u64; 2];

/// A rule.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) arn: String,
    pub(super) live: Split,
    /// What it said before, each until when; only what may still be told is kept.
    pub(super) earlier: Vec<(Timestamp, Split)>,
    /// It forwards to others, too, or lacks a side.
    pub(super) odd: bool,
    /// What it says is somebody else's doing.
    pub(super) by_hand: bool,
    /// When what somebody else had written was last written over.
    pub(super) hand_left_at: Option<Timestamp>,
    /// When somebody else last wrote it.
    pub(super) by_hand_at: Option<Timestamp>,
    pub(super) nodes: Vec<Split>,
}

/// What was really so when a pass looked.
#[derive(Debug, Clone)]
pub(super) struct Truth {
    pub(super) lease: Option<LeaseId>,
    pub(super) at: Timestamp,
    /// Of each rule: what it said, and what it had said before that may still have been told.
    pub(super) rules: Vec<(Split, Vec<Split>)>,
    pub(super) test: Option<Split>,
    pub(super) healthy: [u32; 2],
    pub(super) limits: [Option<Limits>; 2],
    /// What the pass itself read.
    pub(super) read_running: [Option<u32>; 2],
    pub(super) read_healthy: [Option<u32>; 2],
    /// It could read every rule.
    pub(super) read_rules: bool,
    pub(super) firing: Vec<String>,
}

/// The deployment that runs, as its journal tells.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) number: u64,
    pub(super) digest: String,
    pub(super) since: Timestamp,
    pub(super) stable: Option<Slot>,
    /// When its sides were read off the rules: what somebody wrote before that is what it goes by.
    pub(super) settled_at: Option<Timestamp>,
    /// The limits of both sides, and the test rule, before anything of it was done.
    pub(super) found: Option<([Option<Limits>; 2], Option<Split>)>,
    /// The weights that were decided last.
    pub(super) decided: Option<Split>,
    /// Those that were decided before.
    pub(super) decided_before: Option<Split>,
    /// What froze it last, where it has no way back.
    pub(super) froze_for: Option<Cause>,
    /// The stable side may go: it is being retired, or let go of.
    pub(super) may_go: bool,
    /// The journal says that something was left.
    pub(super) left: bool,
}

/// One target's pair.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) target: TargetId,
    pub(super) container: String,
    pub(super) rules: Vec<Rule>,
    pub(super) test: Option<Rule>,
    pub(super) sides: [Side; 2],
    pub(super) looks: VecDeque<Truth>,
    pub(super) open: Option<Open>,
    pub(super) last_deployment: u64,
    pub(super) last_entry: u64,
    /// Until when the stage must have been left, and its name.
    pub(super) due: Option<(Timestamp, &'static str)>,
    /// How long a reason to go back has been there.
    pub(super) answer: Answer,
}

/// Blue or green, as an index.
pub(super) fn index(slot: Slot) -> usize {
    usize::from(slot == Slot::Green)
}

fn split(groups: &[WeightedGroup], sides: &[Side; 2]) -> (Split, bool) {
    let weight = |side: &Side| {
        let group = groups.iter().find(|group| group.arn == side.group);
        group.map(|group| u64::try_from(group.weight.unwrap_or(1)).unwrap_or(0))
    };
    let found = [weight(&sides[0]), weight(&sides[1])];
    let strangers = groups.iter().any(|group| sides.iter().all(|side| side.group != group.arn));
    (found.map(|weight| weight.unwrap_or(0)), strangers || found.contains(&None))
}

impl Pair {
    pub(super) fn of(world: &mut World, target: &TargetId, pair: &EcsPair) -> Self {
        let cluster = pair.cluster.rsplit('/').next().unwrap_or(&pair.cluster).to_owned();
        let sides = [Slot::Blue, Slot::Green].map(|slot| {
            let side = pair.side(slot);
            let service = (cluster.clone(), side.service.rsplit('/').next().unwrap_or(&side.service).to_owned());
            let (healthy, registered) = world.targets_of(&side.target_group);
            let limits = limits_of(world, &service);
            Side {
                group: side.target_group.clone(),
                healthy,
                registered,
                well_until: None,
                desired: world.desired_of(&service),
                limits,
                hurt_at: None,
                limits_by_hand_at: None,
                lost: world.lost_by(&side.target_group),
                service,
            }
        });
        let rule = |arn: &String| {
            let (live, odd) = split(&world.forwards_of(arn), &sides);
            Rule {
                arn: arn.clone(),
                live,
                earlier: Vec::new(),
                odd,
                by_hand: false,
                hand_left_at: None,
                by_hand_at: None,
                nodes: world.nodes_of(arn).iter().map(|node| split(node, &sides).0).collect(),
            }
        };
        let (rules, test) = (pair.rules.iter().map(rule).collect(), pair.test_rule.as_ref().map(rule));
        Self {
            target: target.clone(),
            container: pair.container.clone(),
            rules,
            test,
            sides,
            looks: VecDeque::new(),
            open: None,
            last_deployment: 0,
            last_entry: 0,
            due: None,
            answer: Answer::default(),
        }
    }

    /// Whether this is the pair whose first rule has this ARN.
    pub(super) fn is_of(&self, rule: &str) -> bool {
        self.rules.first().is_some_and(|first| first.arn == rule)
    }

    /// Whether a change concerns it.
    pub(super) fn has(&self, change: &Change) -> bool {
        match change {
            Change::Forwards { rule, .. } | Change::Follows { rule, .. } => {
                self.rules.iter().chain(&self.test).any(|known| &known.arn == rule)
            }
            Change::Targets { group, .. } => self.sides.iter().any(|side| &side.group == group),
            Change::Desired { service, .. } | Change::Limits { service, .. } | Change::Died { service } => {
                self.sides.iter().any(|side| &side.service == service)
            }
        }
    }

    /// Takes a change into the picture, and says what is wrong with it.
    pub(super) fn change(&mut self, change: Change, deeds: &[Deed], world: &World, now: Timestamp) -> Option<Found> {
        match change {
            Change::Forwards { rule, groups, beside_weights, by } => {
                let (new, odd) = split(&groups, &self.sides);
                let wrong = match by {
                    Hand::Somebody | Hand::Autoscaler => None,
                    Hand::Product => self.rule_written(&rule, new, odd, beside_weights, deeds, now),
                };
                let known = self.rules.iter_mut().chain(&mut self.test).find(|known| known.arn == rule)?;
                let before = std::mem::replace(&mut known.live, new);
                known.earlier.retain(|(until, _)| lags(*until, now));
                known.earlier.push((now, before));
                known.odd = odd;
                if known.by_hand && by == Hand::Product {
                    known.hand_left_at = Some(now);
                }
                known.by_hand = by != Hand::Product;
                if known.by_hand {
                    known.by_hand_at = Some(now);
                }
                wrong
            }
            Change::Follows { rule, node, groups } => {
                let (new, _) = split(&groups, &self.sides);
                let known = self.rules.iter_mut().chain(&mut self.test).find(|known| known.arn == rule)?;
                if let Some(old) = known.nodes.get_mut(node) {
                    *old = new;
                }
                None
            }
            Change::Targets { group, healthy, registered } => {
                let side = self.sides.iter_mut().find(|side| side.group == group)?;
                if healthy == 0 && side.healthy > 0 {
                    side.well_until = Some(now);
                }
                (side.healthy, side.registered) = (healthy, registered);
                None
            }
            Change::Desired { service, from, to, by } => {
                let wrong = self.desired_changed(&service, [from, to], by, deeds, world, now);
                let side = self.sides.iter_mut().find(|side| side.service == service)?;
                side.desired = to;
                if by == Hand::Somebody {
                    side.hurt_at = Some(now);
                }
                wrong
            }
            Change::Limits { service, min, max, suspended, by } => {
                let side = self.sides.iter_mut().find(|side| side.service == service)?;
                side.limits = Some((min, max, suspended));
                // A scheduled action is somebody's, too, who has written it down before.
                if by != Hand::Product {
                    side.limits_by_hand_at = Some(now);
                    side.hurt_at = Some(now);
                }
                None
            }
            Change::Died { service } => {
                let side = self.sides.iter_mut().find(|side| side.service == service)?;
                side.hurt_at = Some(now);
                None
            }
        }
    }

    /// What is really so, as a pass looks at it.
    pub(super) fn truth(&self, deed: &Deed, now: Timestamp) -> Option<Truth> {
        let Deed::Looked { lease, running, healthy, rules, firing, .. } = deed else { return None };
        let rule = |rule: &Rule| {
            let told = rule.earlier.iter().filter(|(until, _)| lags(*until, now));
            (rule.live, told.map(|(_, split)| *split).collect())
        };
        Some(Truth {
            lease: lease.clone(),
            at: now,
            rules: self.rules.iter().map(rule).collect(),
            test: self.test.as_ref().map(|rule| rule.live),
            healthy: [self.sides[0].healthy, self.sides[1].healthy],
            limits: [self.sides[0].limits, self.sides[1].limits],
            read_running: *running,
            read_healthy: *healthy,
            read_rules: rules.iter().all(Option::is_some),
            firing: firing.clone(),
        })
    }

    pub(super) fn remember(&mut self, truth: Truth) {
        if self.looks.len() == LOOKS {
            self.looks.pop_front();
        }
        self.looks.push_back(truth);
    }

    /// The last look of the pass that has this holding.
    pub(super) fn look_of(&self, lease: Option<&LeaseId>) -> Option<&Truth> {
        self.looks.iter().rev().find(|truth| lease.is_some() && truth.lease.as_ref() == lease)
    }

    /// Whether somebody else wrote one of the rules since then.
    pub(super) fn meddled_since(&self, at: Timestamp) -> bool {
        self.rules.iter().any(|rule| rule.by_hand_at.is_some_and(|edited| edited >= at))
    }
}

/// Whether what was so until then may still be told.
fn lags(until: Timestamp, now: Timestamp) -> bool {
    now.duration_since(until) <= SignedDuration::from_secs(LAG_S)
}

/// How long what was written a moment ago may be told as it was before, in seconds.
pub(super) const LAG_S: i64 = 5;

fn limits_of(world: &mut World, service: &ServiceKey) -> Option<Limits> {
    let asked = DescribeScalableTargets {
        service_namespace: "ecs".to_owned(),
        resource_ids: vec![format!("service/{}/{}", service.0, service.1)],
        scalable_dimension: None,
    };
    let found = world.by_hand(|world| world.describe_scalable_targets(asked)).ok()?;
    found.first().map(|target| (target.min_capacity, target.max_capacity, target.suspended_state))
}
