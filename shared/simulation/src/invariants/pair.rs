//! A model of one target's blue/green pair, which starts from the world and follows its changes; images, alarms and
//! scheduled actions are read from the world itself.

use super::observations::Observations;
use super::overdue_rollback::{RollbackTimer, RollbackTriggers};
use super::target_journal::TargetJournal;
use super::{BrokenInvariant, Moment, TargetModel};
use crate::trace::{InjectedFault, PassEvent, SeenState, TraceSubject, service_key};
use crate::world::balancer::WeightedGroup;
use crate::world::scaling::{DescribeScalableTargets, SuspendedState};
use crate::world::{ChangedBy, ServiceKey, World, WorldChange};
use engine::LeaseId;
use rollout::{Cause, EcsServiceName, SignedDuration, Slot, TargetId, TargetResources, Timestamp};
use std::collections::BTreeMap;

/// Autoscaling limits of a side: minimum, maximum, suspended activities.
pub(super) type Limits = (u32, u32, SuspendedState);

/// One side: a service and its target groups.
#[derive(Debug)]
pub(super) struct SideModel {
    pub(super) service: ServiceKey,
    /// Number of healthy targets in each target group.
    pub(super) groups: BTreeMap<String, u32>,
    /// The smallest of these numbers.
    pub(super) healthy: u32,
    /// When it last had a healthy target; none while it has one.
    pub(super) healthy_until: Option<Timestamp>,
    pub(super) desired: u32,
    pub(super) limits: Option<Limits>,
    /// When one of its tasks last died, or its tasks or limits were last changed outside Switchback.
    pub(super) disrupted_at: Option<Timestamp>,
    pub(super) foreign_limits_at: Option<Timestamp>,
    pub(super) lost_requests: f64,
}

impl SideModel {
    /// Whether it had a healthy target within the last `within_s` seconds.
    pub(super) fn was_healthy(&self, within_s: i64, now: Timestamp) -> bool {
        let recent = |at: Timestamp| now.duration_since(at) <= SignedDuration::from_secs(within_s);
        self.healthy > 0 || self.healthy_until.is_some_and(recent)
    }
}

/// Weight of blue, weight of green.
pub(super) type Split = [u64; 2];

/// A listener rule.
#[derive(Debug)]
pub(super) struct RuleModel {
    pub(super) arn: String,
    pub(super) live: Split,
    /// Earlier weights and when each ended; only those that AWS may still report are kept.
    pub(super) earlier: Vec<(Timestamp, Split)>,
    /// The rule forwards to other groups as well, or lacks a side.
    pub(super) unexpected_groups: bool,
    /// The current weights were set outside Switchback.
    pub(super) is_foreign: bool,
    /// When weights set outside Switchback were last overwritten.
    pub(super) manual_edit_overwritten_at: Option<Timestamp>,
    /// When the rule was last edited outside Switchback.
    pub(super) foreign_edit_at: Option<Timestamp>,
    /// The weights that each load balancer node follows at the moment: nodes adopt a change one after the other.
    pub(super) nodes: Vec<Split>,
}

/// The state of the pair when a pass observed it, and what the pass read of it.
#[derive(Debug, Clone)]
pub(super) struct StateAtObservation {
    pub(super) at: Timestamp,
    /// Per rule: its weights, and the earlier weights that AWS may still have reported.
    pub(super) rules: Vec<(Split, Vec<Split>)>,
    /// Weights of the test rules.
    pub(super) tests: Vec<Split>,
    pub(super) healthy: [u32; 2],
    pub(super) limits: [Option<Limits>; 2],
    /// What the pass read, which faults can make differ from the state: running tasks, healthy targets.
    pub(super) read_running: [Option<u32>; 2],
    pub(super) read_healthy: [Option<u32>; 2],
    /// The pass could read every rule.
    pub(super) read_rules: bool,
    pub(super) firing: Vec<String>,
}

/// The running deployment, as its journal describes it.
#[derive(Debug)]
pub(super) struct OpenDeployment {
    pub(super) number: u64,
    pub(super) digest: String,
    pub(super) since: Timestamp,
    pub(super) stable: Option<Slot>,
    /// When stable and candidate were derived from the rules; earlier edits are part of what the deployment starts
    /// from.
    pub(super) settled_at: Option<Timestamp>,
    /// Limits of both sides, and weights of the test rules, before the deployment changed anything.
    pub(super) found: Option<([Option<Limits>; 2], Vec<Split>)>,
    /// The weights decided last.
    pub(super) decided: Option<Split>,
    /// The weights decided before those.
    pub(super) previously_decided: Option<Split>,
    /// Cause of its last operator wait, if it has no rollback path.
    pub(super) operator_wait_cause: Option<Cause>,
    /// The stable side may be scaled down: it is being retired or abandoned.
    pub(super) stable_may_stop: bool,
    /// The journal says that something was not cleaned up.
    pub(super) left_behind: bool,
}

/// One target's blue/green pair.
#[derive(Debug)]
pub(crate) struct PairModel {
    pub(super) target: TargetId,
    pub(super) container: String,
    pub(super) rules: Vec<RuleModel>,
    pub(super) tests: Vec<RuleModel>,
    pub(super) sides: [SideModel; 2],
    pub(super) observations: Observations<StateAtObservation>,
    pub(super) journal: TargetJournal,
    pub(super) open: Option<OpenDeployment>,
    /// Time of the traffic reading shown last: each reading is checked once, against the pass that wrote it.
    pub(super) shown_since: Option<Timestamp>,
    pub(super) rollback_triggers: Option<RollbackTriggers>,
    /// How long a reason to roll back has been present.
    pub(super) rollback_timer: RollbackTimer,
}

/// Blue (0) or green (1), as an index.
pub(super) fn index(slot: Slot) -> usize {
    usize::from(slot == Slot::Green)
}

fn split(groups: &[WeightedGroup], sides: &[SideModel; 2]) -> (Split, bool) {
    let weight = |side: &SideModel| {
        let group = groups.iter().find(|group| side.groups.contains_key(&group.arn));
        group.map(|group| u64::try_from(group.weight.unwrap_or(1)).unwrap_or(0))
    };
    let found = [weight(&sides[0]), weight(&sides[1])];
    let foreign_groups = groups.iter().any(|group| !sides.iter().any(|side| side.groups.contains_key(&group.arn)));
    (found.map(|weight| weight.unwrap_or(0)), foreign_groups || found.contains(&None))
}

impl PairModel {
    /// The model of a target.
    pub(crate) fn of(
        world: &mut World,
        target: &TargetId,
        resources: &TargetResources,
        [blue, green]: [EcsServiceName<'_>; 2],
    ) -> Self {
        let container = blue.container.to_owned();
        let sides = [(Slot::Blue, blue), (Slot::Green, green)].map(|(slot, service)| {
            let service = service_key(service);
            let groups = resources.target_groups(slot);
            let lost_requests = groups.clone().map(|group| world.lost_requests_of_group(group)).sum();
            let groups: BTreeMap<String, u32> =
                groups.map(|group| (group.to_owned(), world.targets_of(group).0)).collect();
            let limits = describe_limits(world, &service);
            SideModel {
                healthy: groups.values().copied().min().unwrap_or(0),
                groups,
                healthy_until: None,
                desired: world.desired_of(&service),
                limits,
                disrupted_at: None,
                foreign_limits_at: None,
                lost_requests,
                service,
            }
        });
        let rule = |arn: &str| {
            let (live, unexpected_groups) = split(&world.forwards_of(arn), &sides);
            RuleModel {
                arn: arn.to_owned(),
                live,
                earlier: Vec::new(),
                unexpected_groups,
                is_foreign: false,
                manual_edit_overwritten_at: None,
                foreign_edit_at: None,
                nodes: world.nodes_of(arn).iter().map(|node| split(node, &sides).0).collect(),
            }
        };
        let (rules, tests) = (resources.rules().map(rule).collect(), resources.test_rules().map(rule).collect());
        Self {
            target: target.clone(),
            container,
            rules,
            tests,
            sides,
            observations: Observations::default(),
            journal: TargetJournal::default(),
            open: None,
            shown_since: None,
            rollback_triggers: None,
            rollback_timer: RollbackTimer::default(),
        }
    }

    /// Applies a change to the model, and returns the invariant it violates, if any.
    pub(super) fn apply_change(
        &mut self,
        change: WorldChange,
        pass_events: &[PassEvent],
        world: &World,
        now: Timestamp,
    ) -> Option<BrokenInvariant> {
        match change {
            WorldChange::RuleWritten { rule, groups, more_than_weights, by } => {
                let (new, unexpected_groups) = split(&groups, &self.sides);
                let wrong = match by {
                    ChangedBy::ThirdParty | ChangedBy::Autoscaler => None,
                    ChangedBy::Switchback => {
                        self.check_rule_written(&rule, new, unexpected_groups, more_than_weights, pass_events, now)
                    }
                };
                let known = self.rules.iter_mut().chain(&mut self.tests).find(|known| known.arn == rule)?;
                let before = std::mem::replace(&mut known.live, new);
                known.earlier.retain(|(until, _)| may_be_stale(*until, now));
                known.earlier.push((now, before));
                known.unexpected_groups = unexpected_groups;
                if known.is_foreign && by == ChangedBy::Switchback {
                    known.manual_edit_overwritten_at = Some(now);
                }
                known.is_foreign = by != ChangedBy::Switchback;
                if known.is_foreign {
                    known.foreign_edit_at = Some(now);
                }
                wrong
            }
            WorldChange::NodeConverged { rule, node, groups } => {
                let (new, _) = split(&groups, &self.sides);
                let known = self.rules.iter_mut().chain(&mut self.tests).find(|known| known.arn == rule)?;
                if let Some(old) = known.nodes.get_mut(node) {
                    *old = new;
                }
                None
            }
            WorldChange::Targets { group, healthy, .. } => {
                let side = self.sides.iter_mut().find(|side| side.groups.contains_key(&group))?;
                side.groups.insert(group, healthy);
                let healthy = side.groups.values().copied().min().unwrap_or(0);
                if healthy == 0 && side.healthy > 0 {
                    side.healthy_until = Some(now);
                }
                side.healthy = healthy;
                None
            }
            WorldChange::Desired { service, from, to, by } => {
                let wrong = self.check_desired_change(&service, [from, to], by, pass_events, world, now);
                let side = self.sides.iter_mut().find(|side| side.service == service)?;
                side.desired = to;
                if by == ChangedBy::ThirdParty {
                    side.disrupted_at = Some(now);
                }
                wrong
            }
            WorldChange::Limits { service, min, max, suspended, by } => {
                let side = self.sides.iter_mut().find(|side| side.service == service)?;
                side.limits = Some((min, max, suspended));
                // A scheduled action also counts as an outside edit: a person defined it earlier.
                if by != ChangedBy::Switchback {
                    side.foreign_limits_at = Some(now);
                    side.disrupted_at = Some(now);
                }
                None
            }
            WorldChange::TaskDied { service } => {
                let side = self.sides.iter_mut().find(|side| side.service == service)?;
                side.disrupted_at = Some(now);
                None
            }
        }
    }

    /// The state of the pair at a pass's observation; `None` for another event.
    pub(super) fn state_at_observation(&self, pass_event: &PassEvent, now: Timestamp) -> Option<StateAtObservation> {
        let PassEvent::Observed { seen: SeenState::Pair { running, healthy, rules }, firing, .. } = pass_event else {
            return None;
        };
        let rule = |rule: &RuleModel| {
            let earlier_splits = rule.earlier.iter().filter(|(until, _)| may_be_stale(*until, now));
            (rule.live, earlier_splits.map(|(_, split)| *split).collect())
        };
        Some(StateAtObservation {
            at: now,
            rules: self.rules.iter().map(rule).collect(),
            tests: self.tests.iter().map(|rule| rule.live).collect(),
            healthy: [self.sides[0].healthy, self.sides[1].healthy],
            limits: [self.sides[0].limits, self.sides[1].limits],
            read_running: *running,
            read_healthy: *healthy,
            read_rules: rules.iter().all(Option::is_some),
            firing: firing.clone(),
        })
    }

    /// The last observation of the pass that holds `lease`.
    pub(super) fn last_observation_of(&self, lease: Option<&LeaseId>) -> Option<&StateAtObservation> {
        self.observations.last_of(lease)
    }

    /// Whether one of the rules was edited outside Switchback at or after `at`.
    pub(super) fn has_foreign_edit_since(&self, at: Timestamp) -> bool {
        self.rules.iter().any(|rule| rule.foreign_edit_at.is_some_and(|edited| edited >= at))
    }
}

impl TargetModel for PairModel {
    fn target(&self) -> &TargetId {
        &self.target
    }

    fn is_subject(&self, subject: &TraceSubject) -> bool {
        matches!(subject, TraceSubject::Rule(rule) if self.rules.first().is_some_and(|first| &first.arn == rule))
    }

    fn is_affected_by(&self, change: &WorldChange) -> bool {
        match change {
            WorldChange::RuleWritten { rule, .. } | WorldChange::NodeConverged { rule, .. } => {
                self.rules.iter().chain(&self.tests).any(|known| &known.arn == rule)
            }
            WorldChange::Targets { group, .. } => self.sides.iter().any(|side| side.groups.contains_key(group)),
            WorldChange::Desired { service, .. }
            | WorldChange::Limits { service, .. }
            | WorldChange::TaskDied { service } => self.sides.iter().any(|side| &side.service == service),
        }
    }

    fn on_pass_event(&mut self, pass_event: &PassEvent, moment: &mut Moment<'_>) -> Option<BrokenInvariant> {
        self.check_pass_event(pass_event, moment.store, moment.now)
    }

    fn on_change(
        &mut self,
        change: WorldChange,
        pass_events: &[PassEvent],
        moment: &mut Moment<'_>,
    ) -> Option<BrokenInvariant> {
        self.apply_change(change, pass_events, moment.world, moment.now)
    }

    fn on_decision(&mut self, lease: &LeaseId, after: u64, moment: &mut Moment<'_>) -> Option<BrokenInvariant> {
        self.check_decision(lease, after, moment.world, moment.store, moment.now)
    }

    fn on_lost_requests(&mut self, moment: &mut Moment<'_>) -> Option<BrokenInvariant> {
        self.check_lost_requests(moment.world, moment.now)
    }

    fn on_step(
        &mut self,
        pass_events: &[PassEvent],
        injected: &[InjectedFault],
        moment: &mut Moment<'_>,
    ) -> Option<BrokenInvariant> {
        let overdue = self.journal.check_deadline(moment.now);
        overdue.or_else(|| self.check_overdue_rollback(pass_events, moment.world, injected, moment.now))
    }

    fn on_rest(&mut self, _: &mut Moment<'_>) -> Option<BrokenInvariant> {
        None
    }
}

/// Whether AWS may still report a state that ended at `until`.
fn may_be_stale(until: Timestamp, now: Timestamp) -> bool {
    now.duration_since(until) <= SignedDuration::from_secs(MAX_LAG_S)
}

/// How long AWS may report the state before the last write, in seconds.
pub(super) const MAX_LAG_S: i64 = 5;

fn describe_limits(world: &mut World, service: &ServiceKey) -> Option<Limits> {
    let asked = DescribeScalableTargets {
        service_namespace: "ecs".to_owned(),
        resource_ids: vec![format!("service/{}/{}", service.0, service.1)],
        scalable_dimension: None,
    };
    let found = world.as_third_party(|world| world.describe_scalable_targets(asked)).ok()?;
    found.first().map(|target| (target.min_capacity, target.max_capacity, target.suspended_state))
}
