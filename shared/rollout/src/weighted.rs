//! A deployment that shifts traffic between two sides: each stage's value holds what is known in that stage. A rollback
//! is built from a [`RollbackPath`], which only a stage with its stable side intact can create.

use crate::names::Slot;
use crate::snapshot::{Autoscaling, Weights};
use crate::stage::Stage;
use crate::time::Seconds;
use crate::verdict::Cause;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The state of a deployment that shifts traffic from its stable side to its candidate's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weighted {
    /// The stable side; the candidate has the other one.
    pub sides: StableAtStart,
    /// The current stage.
    pub at: WeightedStage,
    /// The weights that were decided last; none: a repair that has written nothing yet.
    pub weights: Option<WeightsRecord>,
    /// Weights that give the candidate traffic were decided, or it was seen with traffic.
    pub traffic_moved: bool,
    /// When weights that gave the candidate its first share of traffic were decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_since: Option<Timestamp>,
    /// Weights were restored while a rule could not be read: the candidate may have had traffic unseen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wrote_weights_blind: bool,
    /// Autoscaling limits before the deployment, until they are restored.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub original_limits: BTreeMap<Slot, Autoscaling>,
    /// When those limits were read: they include the effect of earlier scheduled actions.
    pub original_limits_read_at: Timestamp,
    /// Weights of the test rules before they were changed; empty: they were not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test_rules_before: Vec<Weights>,
    /// Hooks that have started, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hooks: BTreeMap<String, HookProgress>,
    /// A rule was changed outside Switchback: nothing more is written until it is restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halted: Option<Halt>,
    /// When a changed rule was last seen restored: from then, the load balancer's nodes need time to learn of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_at: Option<Timestamp>,
    /// A forward-only release is in trouble: it stays as it is until a person decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaiting_operator: Option<AwaitingOperator>,
    /// Alarms that were seen firing and do not roll the deployment back, as journalled.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub noticed_alarms: BTreeSet<String>,
    /// An alarm that watches the stable side alone fires, and holds the deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_alarm: Option<StableAlarm>,
}

/// The side that is stable when the deployment starts, as read from the live weights (for a repair: as recorded in the
/// ledger). The candidate has the other side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StableAtStart {
    /// The side that carried all traffic.
    pub stable: Slot,
    /// Its version.
    pub stable_version: String,
    /// Number of its tasks, running or desired, whichever is larger; at least 1.
    pub stable_count: u32,
}

/// The stage of a weighted deployment, with what is known only in that stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum WeightedStage {
    /// Registering the candidate's version.
    Registering(Registering),
    /// On the forward path, with both sides up.
    Forward(Forward),
    /// Success is certain and the stable side is no longer intact: its tasks stop, and settings are restored.
    Retiring(Retiring),
    /// Rolling back to the stable side: its weights are restored and verified first, then the candidate is scaled down.
    RollingBack(Rollback),
    /// Ending without touching the rules or the tasks again: the deployment could not or must not go on, and no
    /// automatic rollback is safe ([`Abandoning::reason`] says which). Only settings that were changed for the
    /// deployment are restored.
    Abandoning(Abandoning),
}

/// The state while the candidate's version is registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registering {
    /// When the deployment rolls back.
    pub deadline: Timestamp,
    /// The version to copy; only the image is replaced.
    pub template: String,
    /// The copy, once it is registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered: Option<String>,
}

/// The state on the way to success: the candidate has a version, and the stable side is still up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The release's side.
    pub candidate: Candidate,
    /// The step on the way to success.
    pub step: ForwardStep,
}

/// The release's side of a deployment, once its version is registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// What it runs: the platform's own name of it (of ECS, the ARN of a task definition).
    pub version: String,
    /// Its service was seen with that version. If it is later seen with another one, ECS's circuit breaker or
    /// an edit outside Switchback replaced it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seen_running: bool,
    /// When every target was first seen healthy: from then on failed tasks are judged by their share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_since: Option<Timestamp>,
}

/// The steps of the forward path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum ForwardStep {
    /// Running the hooks of [`HookPoint::BeforeTraffic`](crate::policy::HookPoint::BeforeTraffic), before the
    /// candidate's tasks start: database migrations, for example.
    BeforeTraffic {
        /// When the deployment rolls back: after the hooks' deadlines and the policy's `shift` deadline together.
        deadline: Timestamp,
    },
    /// Starting the candidate's tasks, until every target is healthy.
    Scaling {
        /// Desired count.
        want: u32,
        /// When the deployment rolls back.
        deadline: Timestamp,
    },
    /// Moving the test rule to the candidate, and running the hooks of
    /// [`HookPoint::TestTraffic`](crate::policy::HookPoint::TestTraffic).
    Testing {
        /// When the deployment rolls back: after the hooks' deadlines and the policy's `shift` deadline together.
        deadline: Timestamp,
    },
    /// Writing the weights of a step, until they are verified live. Capacity, health and alarms are checked before.
    Writing {
        /// Index into the strategy's steps.
        index: usize,
        /// When the deployment rolls back.
        deadline: Timestamp,
    },
    /// The weights of a step are verified live, and are watched.
    Holding {
        /// Index into the strategy's steps.
        index: usize,
        /// When the hold ends if all is well.
        until: Timestamp,
        /// When the deployment rolls back if missing data or unhealthy targets kept the hold from ending.
        deadline: Timestamp,
    },
    /// Running the hooks of [`HookPoint::AfterTraffic`](crate::policy::HookPoint::AfterTraffic).
    AfterTraffic {
        /// When the deployment rolls back: after the hooks' deadlines and the policy's `shift` deadline together.
        deadline: Timestamp,
    },
    /// All traffic is on the candidate, and is watched.
    Baking {
        /// When the bake ends if all is well.
        until: Timestamp,
        /// When the deployment rolls back if missing data or unhealthy targets kept the bake from ending.
        deadline: Timestamp,
    },
    /// Verified; the old side stays up, and the alarms are still watched.
    KeepingWarm {
        /// When the old side is retired; a queued release ends the period early.
        until: Timestamp,
        /// An operator resumed it after its bake: it is verified again once all traffic is seen to go to it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        verify_again: bool,
    },
    /// The load balancer's nodes learn that the old side has no traffic. A rollback is still possible.
    Draining {
        /// When draining ends.
        until: Timestamp,
        /// The deadline for retiring the old side.
        deadline: Timestamp,
        /// As in [`ForwardStep::KeepingWarm`].
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        verify_again: bool,
    },
}

/// The state while the old side is scaled down: a rollback is no longer possible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retiring {
    /// The version that is now the stable one.
    pub version: String,
    /// When the deployment ends as succeeded, with the rest of the cleanup journalled.
    pub deadline: Timestamp,
    /// As in [`ForwardStep::KeepingWarm`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verify_again: bool,
}

/// The state of a deployment that rolls back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollback {
    /// Where it goes.
    pub path: RollbackPath,
    /// Why it rolls back.
    pub cause: Cause,
    /// The rollback's current step.
    pub step: RollbackStep,
    /// From then on a rollback that cannot be done is given up; one that can is retried for `MAX_RETRY_PERIOD`.
    pub deadline: Timestamp,
    /// The stable side was seen unable to serve, and not seen healthy since. Journalled once, since the counts change
    /// with every observation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stable_unfit: bool,
}

/// The steps of a rollback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum RollbackStep {
    /// Restoring the weights, until they are verified live.
    RestoringWeights {
        /// Number of attempts to write them, whatever the outcome.
        #[serde(default)]
        tries: u32,
        /// Foreign weights that are overwritten, as last journalled.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaced: Option<String>,
    },
    /// The load balancer's nodes learn that the candidate has no traffic.
    Draining {
        /// When draining ends.
        until: Timestamp,
    },
    /// Stopping the candidate's tasks, and restoring settings.
    ScalingDownCandidate,
}

impl RollbackStep {
    /// The first step, before any attempt.
    #[must_use]
    pub fn start() -> Self {
        Self::RestoringWeights { tries: 0, replaced: None }
    }
}

/// The state while a deployment ends without touching the rules or the tasks again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abandoning {
    /// Shown in the journal and to people.
    pub reason: String,
    /// From then on settings that cannot be restored are given up, and journalled. Those that can are retried for
    /// `MAX_RETRY_PERIOD`, as long as nothing else waits for the target.
    pub deadline: Timestamp,
}

/// Where a rollback goes: exists only as long as Switchback has not begun to scale the stable side down. It says
/// nothing of that side's health. Created only by [`Registering`], [`Forward`] and a repair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackPath {
    stable: Slot,
    count: u32,
}

impl RollbackPath {
    fn to(stable_at_start: &StableAtStart) -> Self {
        Self { stable: stable_at_start.stable, count: stable_at_start.stable_count }
    }

    /// For a repair: all traffic goes to the side that is stable according to the ledger, before anything else is done.
    pub(crate) fn of_repair(stable_at_start: &StableAtStart) -> Self {
        Self::to(stable_at_start)
    }

    /// The side to roll back to.
    #[must_use]
    pub fn stable(&self) -> Slot {
        self.stable
    }

    /// Number of its tasks when the deployment started.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }
}

impl Registering {
    /// Nothing of the stable side has been touched.
    #[must_use]
    pub fn rollback_path(&self, stable_at_start: &StableAtStart) -> RollbackPath {
        RollbackPath::to(stable_at_start)
    }
}

impl Forward {
    /// The stable side is up in every step.
    #[must_use]
    pub fn rollback_path(&self, stable_at_start: &StableAtStart) -> RollbackPath {
        RollbackPath::to(stable_at_start)
    }
}

/// The weights that a deployment decided last, and those that they replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsRecord {
    /// The weights decided before these; at first those seen live.
    pub before: Weights,
    /// The weights that were decided.
    pub decided: Weights,
    /// The decided weights were seen live.
    pub verified: bool,
    /// If `before` was never seen live: the weights before it, which may still be live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_still_be_live: Option<Weights>,
}

/// The progress of a hook that has started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookProgress {
    /// When the hook times out.
    pub deadline: Timestamp,
    /// When its function is invoked again.
    pub next_poll_at: Timestamp,
    /// ARN of its task, once started.
    pub task: Option<String>,
    /// How it ended, once it has.
    pub result: Option<HookResult>,
    /// It timed out and its task may still run: the task is stopped, and the deployment does not end before that is
    /// seen.
    #[serde(default)]
    pub stopping: bool,
}

impl HookProgress {
    /// A copy that has failed; its task is stopped if it has one.
    #[must_use]
    pub(crate) fn fail(self, reason: String) -> Self {
        Self { result: Some(HookResult::Failed(reason)), stopping: self.task.is_some(), ..self }
    }
}

/// How a hook ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookResult {
    /// It passed.
    Succeeded,
    /// It failed, with its reason.
    Failed(String),
}

/// A deployment halted because a rule was changed outside Switchback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// The weights found, and the weights expected.
    pub reason: String,
    /// When the change was seen.
    pub since: Timestamp,
    /// When the deployment ends without touching the rule.
    pub deadline: Timestamp,
}

/// A forward-only deployment in trouble: it stays as it is until a person decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitingOperator {
    /// Why it would have rolled back.
    pub cause: Cause,
    /// When the trouble was seen.
    pub since: Timestamp,
    /// When the deployment ends without touching anything.
    pub deadline: Timestamp,
    /// The journal has an entry for it, with the observation.
    pub journalled: bool,
}

/// A firing alarm that watches the stable side alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StableAlarm {
    /// The alarm's name.
    pub name: String,
    /// When it was first seen firing.
    pub since: Timestamp,
}

impl WeightedStage {
    /// The stages whose deadline is extended while the stable side's own alarm holds the deployment, and when an
    /// operator resumes it.
    pub(crate) const EXTENDED_WHILE_HELD: &[Stage] = &[Stage::Shifting, Stage::AfterTraffic, Stage::Baking];

    /// The stages that stop-the-line may hold.
    pub(crate) const MAY_BE_STOPPED: &[Stage] = &[Stage::Scaling, Stage::Testing, Stage::Shifting];

    /// The name of this stage.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self {
            Self::Registering(_) => Stage::Registering,
            Self::Forward(Forward { step, .. }) => match step {
                ForwardStep::BeforeTraffic { .. } => Stage::BeforeTraffic,
                ForwardStep::Scaling { .. } => Stage::Scaling,
                ForwardStep::Testing { .. } => Stage::Testing,
                ForwardStep::Writing { .. } | ForwardStep::Holding { .. } => Stage::Shifting,
                ForwardStep::AfterTraffic { .. } => Stage::AfterTraffic,
                ForwardStep::Baking { .. } => Stage::Baking,
                ForwardStep::KeepingWarm { .. } => Stage::KeepingWarm,
                ForwardStep::Draining { .. } => Stage::Retiring,
            },
            Self::Retiring(_) => Stage::Retiring,
            Self::RollingBack(_) => Stage::RollingBack,
            Self::Abandoning(_) => Stage::Abandoning,
        }
    }

    /// Index of the current traffic step, while traffic shifts.
    #[must_use]
    pub fn traffic_step(&self) -> Option<usize> {
        match self {
            Self::Forward(Forward {
                step: ForwardStep::Writing { index, .. } | ForwardStep::Holding { index, .. },
                ..
            }) => Some(*index),
            _ => None,
        }
    }

    /// Deadline of the current stage. A rollback and a cleanup may continue past it.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        match self {
            Self::Registering(registering) => registering.deadline,
            Self::Forward(Forward { step, .. }) => match step {
                ForwardStep::BeforeTraffic { deadline }
                | ForwardStep::Scaling { deadline, .. }
                | ForwardStep::Testing { deadline }
                | ForwardStep::Writing { deadline, .. }
                | ForwardStep::Holding { deadline, .. }
                | ForwardStep::AfterTraffic { deadline }
                | ForwardStep::Baking { deadline, .. }
                | ForwardStep::Draining { deadline, .. } => *deadline,
                ForwardStep::KeepingWarm { until, .. } => *until,
            },
            Self::Retiring(retiring) => retiring.deadline,
            Self::RollingBack(rollback) => rollback.deadline,
            Self::Abandoning(abandoning) => abandoning.deadline,
        }
    }

    /// The deadline, to be changed; none: keeping warm has an end but no deadline.
    pub(crate) fn deadline_mut(&mut self) -> Option<&mut Timestamp> {
        Some(match self {
            Self::Registering(registering) => &mut registering.deadline,
            Self::Forward(Forward { step, .. }) => match step {
                ForwardStep::BeforeTraffic { deadline }
                | ForwardStep::Scaling { deadline, .. }
                | ForwardStep::Testing { deadline }
                | ForwardStep::Writing { deadline, .. }
                | ForwardStep::Holding { deadline, .. }
                | ForwardStep::AfterTraffic { deadline }
                | ForwardStep::Baking { deadline, .. }
                | ForwardStep::Draining { deadline, .. } => deadline,
                ForwardStep::KeepingWarm { .. } => return None,
            },
            Self::Retiring(retiring) => &mut retiring.deadline,
            Self::RollingBack(rollback) => &mut rollback.deadline,
            Self::Abandoning(abandoning) => &mut abandoning.deadline,
        })
    }

    /// The same stage with its deadline extended to `until`, if that is later and the stage is one of `stages`.
    #[must_use]
    pub(crate) fn with_deadline_at_least_if_in(mut self, stages: &[Stage], until: Timestamp) -> Self {
        let extends = stages.contains(&self.stage());
        if let Some(deadline) = self.deadline_mut().filter(|_| extends) {
            *deadline = until.max(*deadline);
        }
        self
    }

    /// The same stage with all its times postponed by `by`, after it was held.
    #[must_use]
    pub(crate) fn postponed(mut self, by: Seconds) -> Self {
        let postpone = |time: &mut Timestamp| *time = by.after(*time);
        match &mut self {
            Self::Forward(Forward { step, .. }) => match step {
                ForwardStep::Holding { until, deadline, .. } | ForwardStep::Baking { until, deadline } => {
                    postpone(until);
                    postpone(deadline);
                }
                ForwardStep::KeepingWarm { until, .. } => postpone(until),
                _ => {
                    self.deadline_mut().into_iter().for_each(postpone);
                }
            },
            _ => self.deadline_mut().into_iter().for_each(postpone),
        }
        self
    }
}

impl Weighted {
    /// The state before anything was touched. `seen_at`: when the sides were read.
    #[must_use]
    pub fn new(sides: StableAtStart, at: WeightedStage, seen_at: Timestamp) -> Self {
        Self {
            sides,
            at,
            weights: None,
            traffic_moved: false,
            traffic_since: None,
            wrote_weights_blind: false,
            original_limits: BTreeMap::new(),
            original_limits_read_at: seen_at,
            test_rules_before: Vec::new(),
            hooks: BTreeMap::new(),
            halted: None,
            restored_at: None,
            awaiting_operator: None,
            noticed_alarms: BTreeSet::new(),
            stable_alarm: None,
        }
    }

    /// The candidate's side.
    #[must_use]
    pub fn candidate_slot(&self) -> Slot {
        self.sides.stable.other()
    }

    /// The rollback path, as long as Switchback has not begun to scale the stable side down.
    #[must_use]
    pub fn rollback_path(&self) -> Option<RollbackPath> {
        match &self.at {
            WeightedStage::Registering(registering) => Some(registering.rollback_path(&self.sides)),
            WeightedStage::Forward(forward) => Some(forward.rollback_path(&self.sides)),
            WeightedStage::RollingBack(rollback) => Some(rollback.path.clone()),
            WeightedStage::Retiring(_) | WeightedStage::Abandoning(_) => None,
        }
    }

    /// The candidate had traffic, or may have had some: it must drain before it is scaled down.
    pub(crate) fn needs_draining(&self) -> bool {
        self.traffic_moved || self.wrote_weights_blind
    }
}
