//! One attempt to bring a release to a target: the request, and its current phase.

use crate::command::{DeployOptions, Lane, Overrides, PlanId, Vote};
use crate::effect::{Effect, EffectKey};
use crate::entry::Gate;
use crate::first::{First, FirstStage};
use crate::in_place::{self, InPlace};
use crate::names::{Actor, Name, Slot, TargetId};
use crate::phase::{Gated, Moving, Phase};
use crate::policy::TargetPolicy;
use crate::release::ReleaseRef;
use crate::stage::Stage;
use crate::time::Seconds;
use crate::verdict::{Cause, Verdict};
use crate::weighted::{
    AwaitingOperator, Forward, Halt, HookProgress, Rollback, RollbackPath, RollbackStep, StableAlarm, StableAtStart,
    Weighted, WeightedStage, WeightsRecord,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How long AWS may still return the old state after a change. AWS's reads are eventually consistent without a stated
/// bound; people have measured about a second. The rest covers clock skew between two invocations.
const CONSISTENCY_DELAY: Seconds = Seconds(10);

/// One attempt to bring a release to a target: what was requested, the policy it keeps, and how far it has got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Counts up from 1 in each target.
    pub number: u64,
    /// The release to deploy.
    pub release: ReleaseRef,
    /// Deploy, rollback or repair.
    pub purpose: Purpose,
    /// Who requested it.
    pub actor: Actor,
    /// Free text by the requester.
    pub reason: String,
    /// Checks that the requester overrode. An alarm is removed from this set once it has been OK.
    pub overrides: Overrides,
    /// How the deployment was requested, and the release train it belongs to.
    #[serde(default)]
    pub options: DeployOptions,
    /// State of its gates; none: a rollback or a repair, which has no gates.
    #[serde(default)]
    pub gates: Option<GateProgress>,
    /// It holds the lock of its environment, which deploys one service at a time: from its start to the end of its bake.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub holds_lock: bool,
    /// Its environment promotes automatically: a rollback puts that on hold.
    #[serde(default)]
    pub auto_promotes: bool,
    /// Version of the policy that it started with.
    pub policy_version: u64,
    /// The policy that it started with. Later versions do not apply to it.
    pub policy: TargetPolicy,
    /// When it started.
    pub started_at: Timestamp,
    /// Its current phase.
    pub phase: Phase,
    /// When it entered the current stage.
    pub stage_entered_at: Timestamp,
    /// Its position in the rate limiter's queue; none: not assigned yet, or not needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<QueuePosition>,
    /// Tag of the newer release that supersedes it: it rolls back as soon as nothing prevents that, unless it is
    /// verified before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<String>,
    /// When it last changed something in AWS, or may have: reads shortly after may still return the old state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_effect_at: Option<Timestamp>,
    /// When the outcome of an effect was last recorded, success or failure. An effect whose driver crashed has no
    /// outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_outcome_at: Option<Timestamp>,
    /// The last effect that failed, until it succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect_failure: Option<EffectFailure>,
    /// Effects that were decided and whose outcome is not recorded yet. They are decided again from the next
    /// observation, so a crash loses nothing; they are kept to show what was in progress.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<Effect>,
}

/// A deployment's position in the queue for AWS's API budgets ([`rate_limiter`](crate::rate_limiter)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePosition {
    /// When the deployment may make its first observation.
    pub at: Timestamp,
    /// Others are queued: it observes only when something is due.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub low_rate: bool,
}

/// The approvals and overrides of a deployment's gates, and what the journal says about them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateProgress {
    /// The plan to approve. It changes with whatever the deployment would do.
    pub plan: PlanId,
    /// When approval was requested; none: not yet.
    pub requested_at: Option<Timestamp>,
    /// Approvals of the current plan, one per person.
    pub votes: Vec<Vote>,
    /// The member of its release train that was approved for all; the votes are those given there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_with: Option<Name>,
    /// Gates that are skipped because it is a hotfix.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub skipped: BTreeSet<Gate>,
    /// Gates that were opened by hand.
    pub overridden: BTreeMap<Gate, GateOverride>,
    /// Closed gates and their reasons, as last journalled.
    pub journalled: BTreeMap<Gate, String>,
    /// Every gate but [`Gate::OneAtATime`] is open: services that depend on this one let it go first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits_for_lock: bool,
}

impl GateProgress {
    /// Without any approvals or overrides.
    #[must_use]
    pub fn new(plan: PlanId) -> Self {
        Self {
            plan,
            requested_at: None,
            votes: Vec::new(),
            approved_with: None,
            skipped: BTreeSet::new(),
            overridden: BTreeMap::new(),
            journalled: BTreeMap::new(),
            waits_for_lock: false,
        }
    }
}

/// A person's opening of a gate by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateOverride {
    /// Who opened the gate.
    pub actor: Actor,
    /// Free text by the person.
    pub reason: String,
    /// When the gate was opened.
    pub at: Timestamp,
}

/// What a deployment is for: bringing a new release, or returning to an earlier state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A new release.
    Deploy,
    /// To the previous release: its own version, all traffic in one step, without hooks and bake.
    Rollback,
    /// After a deployment that could not finish: all traffic back to the side that is stable according to the ledger.
    Repair,
}

/// The last effect that failed, and how often it has failed in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectFailure {
    /// Kind of the effect, and its side.
    pub effect: EffectKey,
    /// The error of AWS or of the hook.
    pub reason: String,
    /// AWS will refuse it again: a retry is pointless.
    pub refused: bool,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// It failed because AWS throttled it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub throttled: bool,
}

/// A deployment's entry in the history of its target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentRecord {
    /// The target that it was for.
    pub target: TargetId,
    /// Counts up from 1 in each target.
    pub number: u64,
    /// The release that was deployed.
    pub release: ReleaseRef,
    /// Who requested it.
    pub actor: Actor,
    /// It was requested as a hotfix.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hotfix: bool,
    /// Version of the policy that it ran with.
    pub policy_version: u64,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended; none: still running.
    pub ended_at: Option<Timestamp>,
    /// How it ended; none: still running.
    pub verdict: Option<Verdict>,
    /// For people: the requester's reason, later that of the verdict.
    pub reason: String,
}

impl Deployment {
    /// The current stage.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.phase.stage()
    }

    /// Its state between two sides; none: there are no sides, or they are not determined yet.
    #[must_use]
    pub fn weighted(&self) -> Option<&Weighted> {
        self.phase.weighted()
    }

    /// Its state of a replacement in place; none: there are two sides, or nothing has begun.
    #[must_use]
    pub fn in_place(&self) -> Option<&InPlace> {
        self.phase.in_place()
    }

    /// The side that was stable when it started; none: that is not determined yet.
    #[must_use]
    pub fn stable_at_start(&self) -> Option<&StableAtStart> {
        self.weighted().map(|weighted| &weighted.sides)
    }

    /// The candidate's side, once it is determined.
    #[must_use]
    pub fn candidate(&self) -> Option<Slot> {
        self.weighted().map(Weighted::candidate_slot)
    }

    /// The rollback path to the stable side, while a rollback to it is possible.
    #[must_use]
    pub fn rollback_path(&self) -> Option<RollbackPath> {
        self.weighted().and_then(Weighted::rollback_path)
    }

    /// Whether a rollback is possible.
    #[must_use]
    pub fn may_roll_back(&self) -> bool {
        self.rollback_path().is_some() || self.in_place().is_some() || self.phase.first().is_some()
    }

    /// The deadline and the cause of the running rollback; none: it is not rolling back.
    #[must_use]
    pub fn rolling_back(&self) -> Option<(Timestamp, &Cause)> {
        match &self.phase {
            Phase::Moving(Moving::Weighted(_)) => self.rollback().map(|rollback| (rollback.deadline, &rollback.cause)),
            Phase::Moving(Moving::InPlace(in_place)) => match &in_place.at {
                in_place::InPlaceStage::RollingBack(rollback) => Some((rollback.deadline, &rollback.cause)),
                _ => None,
            },
            Phase::Moving(Moving::First(first)) => match &first.at {
                FirstStage::TakingDown { cause, deadline } => Some((*deadline, cause)),
                _ => None,
            },
            Phase::Gated(_) | Phase::Preparing(_) => None,
        }
    }

    /// The running rollback to the stable side; none: it is not rolling back to a side.
    #[must_use]
    pub fn rollback(&self) -> Option<&Rollback> {
        match self.weighted().map(|weighted| &weighted.at) {
            Some(WeightedStage::RollingBack(rollback)) => Some(rollback),
            _ => None,
        }
    }

    /// When its rollback counts as failed; none: it is not rolling back.
    #[must_use]
    pub fn rollback_deadline(&self) -> Option<Timestamp> {
        (self.stage() == Stage::RollingBack).then(|| self.phase.deadline())
    }

    /// The weights that were decided last; none: none were.
    #[must_use]
    pub fn weights(&self) -> Option<WeightsRecord> {
        self.weighted().and_then(|weighted| weighted.weights)
    }

    /// Its progress towards success; none: it is not on the forward path.
    #[must_use]
    pub fn forward(&self) -> Option<&Forward> {
        match self.weighted().map(|weighted| &weighted.at) {
            Some(WeightedStage::Forward(forward)) => Some(forward),
            _ => None,
        }
    }

    /// Index of the current traffic step, while traffic shifts.
    #[must_use]
    pub fn traffic_step(&self) -> Option<usize> {
        self.weighted().and_then(|weighted| weighted.at.traffic_step())
    }

    /// Whether it is rolling back or has been abandoned.
    pub(crate) fn is_backing_out(&self) -> bool {
        matches!(self.stage(), Stage::RollingBack | Stage::Abandoning)
    }

    /// Whether it is rolling back, and the state before is not set again yet: the most urgent state.
    #[must_use]
    pub fn is_rolling_back_urgently(&self) -> bool {
        let sets_version = self.in_place().is_some_and(|in_place| match &in_place.at {
            in_place::InPlaceStage::RollingBack(rollback) => {
                !matches!(rollback.step, in_place::RollbackStep::Replacing)
            }
            _ => false,
        });
        let rollback = self.rollback();
        sets_version || rollback.is_some_and(|rollback| matches!(rollback.step, RollbackStep::RestoringWeights { .. }))
    }

    /// Whether it is rolling back and its weights are restored already.
    #[must_use]
    pub fn has_restored_weights(&self) -> bool {
        self.rollback().is_some_and(|rollback| !matches!(rollback.step, RollbackStep::RestoringWeights { .. }))
    }

    /// Whether the release may have served: the candidate was given traffic or was seen with some or, in place, it was
    /// decided to set the new version.
    #[must_use]
    pub fn traffic_moved(&self) -> bool {
        self.weighted().is_some_and(|weighted| weighted.traffic_moved)
            || self.in_place().is_some_and(|in_place| in_place.has_replaced())
    }

    /// Why it awaits an operator; none: it does not.
    #[must_use]
    pub fn awaiting_operator(&self) -> Option<&AwaitingOperator> {
        let in_place = self.in_place().and_then(|in_place| in_place.awaiting_operator.as_ref());
        self.weighted().map_or(in_place, |weighted| weighted.awaiting_operator.as_ref())
    }

    /// Why a change outside Switchback halts it, of a rule or of the version; none: it is not halted.
    #[must_use]
    pub fn halted(&self) -> Option<&Halt> {
        let in_place = self.in_place().and_then(|in_place| in_place.halted.as_ref());
        self.weighted().map_or(in_place, |weighted| weighted.halted.as_ref())
    }

    /// The alarm of the stable side that holds it; none: it is not held.
    #[must_use]
    pub fn stable_alarm(&self) -> Option<&StableAlarm> {
        self.weighted().and_then(|weighted| weighted.stable_alarm.as_ref())
    }

    /// What blocks its start, as last seen; none: nothing does, or it has started.
    #[must_use]
    pub fn blocked(&self) -> Option<&str> {
        match &self.phase {
            Phase::Preparing(preparing) => preparing.blocked.as_deref(),
            Phase::Gated(_) | Phase::Moving(_) => None,
        }
    }

    /// Whether it waits at its gates for the service to scale up from 0 tasks.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        matches!(self.phase, Phase::Gated(Gated { asleep: true, .. }))
    }

    /// Whether its next decision may start it or give the new version more, and so has to know the active brakes.
    #[must_use]
    pub fn needs_brakes(&self) -> bool {
        match self.stage() {
            Stage::Preflight | Stage::Scaling | Stage::Testing | Stage::Shifting => true,
            // In place, the new version gets everything at once, as soon as it is registered and its hooks are done.
            Stage::Registering | Stage::BeforeTraffic => self.in_place().is_some(),
            _ => false,
        }
    }

    /// Whether automatic rollback is ruled out: by the request, or because a hook marked forward-only has started.
    #[must_use]
    pub fn is_forward_only(&self) -> bool {
        let begun = |name: &str| self.hook_progress().is_some_and(|progress| progress.contains_key(name));
        let hooks = &self.policy.hooks;
        self.options.forward_only || hooks.iter().any(|hook| hook.forward_only && begun(hook.name.as_str()))
    }

    /// The hooks that have started, by name; none: nothing has begun.
    #[must_use]
    pub fn hook_progress(&self) -> Option<&BTreeMap<String, HookProgress>> {
        match &self.phase {
            Phase::Moving(Moving::Weighted(weighted)) => Some(&weighted.hooks),
            Phase::Moving(Moving::InPlace(in_place)) => Some(&in_place.hooks),
            Phase::Moving(Moving::First(first)) => Some(&first.hooks),
            Phase::Gated(_) | Phase::Preparing(_) => None,
        }
    }

    /// Until when reads of the resources that it changed may be stale; none: they are consistent. `seen_at`: when the
    /// read began.
    pub(crate) fn stale_until(&self, seen_at: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let settled = CONSISTENCY_DELAY.after(self.last_effect_at?);
        (seen_at < settled).then_some(settled.max(now))
    }

    /// A copy with this weighted state.
    pub(crate) fn with_weighted(&self, weighted: Weighted) -> Self {
        self.with_phase(Phase::Moving(Moving::Weighted(Box::new(weighted))))
    }

    /// A copy with this state of a replacement in place.
    pub(crate) fn with_in_place(&self, in_place: InPlace) -> Self {
        self.with_phase(Phase::Moving(Moving::InPlace(Box::new(in_place))))
    }

    /// A copy with this state of a first deployment.
    pub(crate) fn with_first(&self, first: First) -> Self {
        self.with_phase(Phase::Moving(Moving::First(Box::new(first))))
    }

    /// A copy in another phase.
    pub(crate) fn with_phase(&self, phase: Phase) -> Self {
        Self { phase, ..self.clone() }
    }

    /// Its entry in the history.
    pub(crate) fn record(&self, target: &TargetId) -> DeploymentRecord {
        DeploymentRecord {
            target: target.clone(),
            number: self.number,
            release: self.release.clone(),
            actor: self.actor.clone(),
            hotfix: self.options.lane == Lane::Hotfix,
            policy_version: self.policy_version,
            started_at: self.started_at,
            ended_at: None,
            verdict: None,
            reason: self.reason.clone(),
        }
    }
}

impl Cause {
    /// Whether a deployment in trouble for this cause waits for an operator instead of rolling back. Before any traffic
    /// has moved, the attempt can be ended without affecting any user.
    pub(crate) fn needs_operator(&self, deployment: &Deployment) -> bool {
        self.is_automatic() && deployment.traffic_moved() && deployment.is_forward_only()
    }
}
