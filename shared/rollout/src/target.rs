//! All that is remembered of one target: small enough for one item of the ledger.

use crate::command::{CommandId, Overrides, PlanId, Terms, Train};
use crate::effect::Effect;
use crate::entry::{Entry, Gate};
pub use crate::explanation::{Explanation, WaitingOn};
use crate::names::{Actor, ImageDigest, Name, ReleaseId, Slot, TargetId};
use crate::pace::Place;
use crate::policy::{Concurrency, TargetPolicy};
use crate::snapshot::{ApiCall, Autoscaling, Weights};
use crate::stage::{Cause, RetirePhase, Stage, Verdict, WayBack};
use crate::time::Seconds;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The format of a stored [`TargetState`]. A reader refuses a higher one instead of guessing.
pub const FORMAT: u16 = 1;

/// The most releases that wait for one target. One more, and the oldest that was never stable here gives way.
pub const MOST_QUEUED: usize = 20;

/// The most that they take in the ledger, where the whole target is one item of 400 KiB. Usual ones take a twentieth of it.
pub const MOST_QUEUED_BYTES: usize = 128 * 1024;

/// The most releases whose verification a target remembers; the oldest is forgotten first, and has to be deployed there
/// again before it can be promoted.
pub const MOST_VERIFIED: usize = 50;

/// How long what was changed may still be read as it was. AWS's reads are consistent in the end and name no time; it is
/// a second where people have measured it. The clocks of two invocations are off by less than the rest.
const SETTLES: Seconds = Seconds(10);

/// All that is remembered of one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetState {
    /// [`FORMAT`] of the writer.
    pub format: u16,
    /// Whose state it is.
    pub target: TargetId,
    /// Number of the newest deployment, 0 before the first.
    pub last_deployment: u64,
    /// Sequence of the newest journal entry, 0 before the first.
    pub last_entry: u64,
    /// What carries all traffic, as the last deployment that ended left it.
    pub stable: Option<StableSide>,
    /// What was stable before that: where a rollback goes when nothing runs.
    pub previous: Option<StableSide>,
    /// Where the rules were seen to send traffic, when that was last read; none: it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<LiveTraffic>,
    /// The one deployment that runs.
    pub running: Option<Deployment>,
    /// The releases that wait for it to end, in the order in which they start; at most [`MOST_QUEUED`].
    #[serde(default)]
    pub queued: Vec<Queued>,
    /// The releases that were deployed and baked here, and not gone back from since; the newest last, at most
    /// [`MOST_VERIFIED`].
    #[serde(default)]
    pub verified: Vec<Verified>,
    /// While set, nothing is promoted here by itself.
    #[serde(default)]
    pub promotion_hold: Option<PromotionHold>,
    /// While set, nothing begins here: a forward-only release left the target in need of a person.
    #[serde(default)]
    pub frozen: Option<TargetFreeze>,
    /// What other targets are to be told; kept until they were.
    #[serde(default)]
    pub errands: Vec<Errand>,
    /// What was seen since the last deployment ended; none: nothing was looked at, or a deployment runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_rest: Option<AtRest>,
    /// When weights were last put back because of [`Drift::Revert`](crate::policy::Drift::Revert).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverted_at: Option<Timestamp>,
    /// Why it waits, as of the last decision.
    pub explanation: Explanation,
    /// When the next scheduled wake is due.
    pub wake_at: Option<Timestamp>,
    /// How often lately AWS has throttled looks of this target: one more for each that was, one less for each that was not.
    #[serde(default, skip_serializing_if = "is_none")]
    pub strain: u8,
}

impl TargetState {
    /// A target that nothing was ever deployed to.
    #[must_use]
    pub fn new(target: TargetId) -> Self {
        Self {
            format: FORMAT,
            target,
            last_deployment: 0,
            last_entry: 0,
            stable: None,
            previous: None,
            traffic: None,
            running: None,
            queued: Vec::new(),
            verified: Vec::new(),
            promotion_hold: None,
            frozen: None,
            errands: Vec::new(),
            at_rest: None,
            reverted_at: None,
            explanation: Explanation::default(),
            wake_at: None,
            strain: 0,
        }
    }

    /// Since when this release counts as verified here; none: it does not.
    #[must_use]
    pub fn verified_since(&self, digest: &ImageDigest) -> Option<Timestamp> {
        self.verified.iter().find(|verified| &verified.release.id.digest == digest).map(|verified| verified.at)
    }

    /// What was last seen of the rules, where that is not all traffic on the stable side. A repair puts it there.
    #[must_use]
    pub fn drift(&self) -> Option<&LiveTraffic> {
        let stable = self.stable.as_ref()?;
        self.traffic.as_ref().filter(|traffic| traffic.live() != Some(stable.slot))
    }

    /// Whether this release was baked here, and carries the traffic or did so last.
    #[must_use]
    pub fn was_stable(&self, release: &ReleaseId) -> bool {
        let sides = [&self.stable, &self.previous].into_iter().flatten();
        sides.filter_map(|side| side.release.as_ref()).any(|known| &known.id == release)
    }
}

/// Where the rules send traffic, as they were read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveTraffic {
    /// The weights of each rule of the policy, in its order; none: that rule could not be read.
    pub rules: Vec<Option<Weights>>,
    /// When they were first read like this.
    pub seen_at: Timestamp,
}

impl LiveTraffic {
    /// The one side that every rule sends everything to; none: they do not agree, or one could not be read.
    #[must_use]
    pub fn live(&self) -> Option<Slot> {
        let mut sides = self.rules.iter().map(|weights| weights.and_then(Weights::only));
        let first = sides.next()??;
        sides.all(|side| side == Some(first)).then_some(first)
    }
}

/// A release that was deployed and baked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// What.
    pub release: ReleaseRef,
    /// By which deployment.
    pub deployment: u64,
    /// When its bake was over.
    pub at: Timestamp,
    /// Whoever asked for it there marked it as forward-only: so it is wherever it goes from there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forward_only: bool,
}

/// Nothing is promoted by itself, until somebody promotes again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotionHold {
    /// Since when.
    pub since: Timestamp,
    /// By whose doing.
    pub actor: Actor,
    /// Why.
    pub reason: String,
}

/// Nothing begins, until somebody says that it may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetFreeze {
    /// Since when.
    pub since: Timestamp,
    /// The deployment that it is about.
    pub deployment: u64,
    /// Why.
    pub reason: String,
}

/// What the looks at a target saw while nothing was deployed to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtRest {
    /// When it was looked at last.
    pub seen_at: Timestamp,
    /// The weights that every rule was seen to have then; none: the rules differ, or not all of them could be read.
    pub weights: Option<Weights>,
    /// When the services were looked at last, which is rarer.
    pub services_seen_at: Option<Timestamp>,
    /// How it is otherwise than the last deployment left it; none: it is not.
    pub drift: Option<DriftSeen>,
    /// Looks in a row that could not read something.
    #[serde(default)]
    pub unread: u8,
    /// When it has to be looked at again; none: at its usual time.
    pub look_at: Option<Timestamp>,
}

/// Something that is otherwise than the last deployment left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftSeen {
    /// What was seen, and what was left.
    pub reason: String,
    /// Since when it was seen so.
    pub since: Timestamp,
    /// Who did it, where CloudTrail has told.
    pub by: Option<ApiCall>,
    /// Some rule sends traffic to the side that is not stable.
    pub moves_traffic: bool,
}

/// Something that other targets are to be told. Telling it twice is telling it once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "errand", rename_all = "snake_case")]
pub enum Errand {
    /// A release was verified: environments that promote by themselves are asked to deploy it, and trains to go on.
    Verified {
        /// What.
        release: ReleaseRef,
        /// By which deployment.
        deployment: u64,
        /// Who had asked for it.
        actor: Actor,
        /// The set that it was deployed with.
        train: Option<Train>,
    },
    /// A member of a train did not make it, or went back: the others are told.
    TrainStopped {
        /// The set.
        train: Train,
        /// Why.
        reason: String,
    },
}

fn is_none(strain: &u8) -> bool {
    *strain == 0
}

/// The side that carries all traffic while nothing runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StableSide {
    /// Which.
    pub slot: Slot,
    /// ARN of its task definition.
    pub task_definition: String,
    /// Its release; none where it was there before Switchback.
    pub release: Option<ReleaseRef>,
    /// Since when.
    pub since: Timestamp,
    /// It cannot be gone back from automatically.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forward_only: bool,
    /// The set that it was deployed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<Train>,
}

impl StableSide {
    /// Whether it runs this release.
    #[must_use]
    pub fn runs(&self, release: &ReleaseRef) -> bool {
        self.release.as_ref().is_some_and(|known| known.id.digest == release.id.digest)
    }

    /// Its release; where that was there before Switchback, a stand-in that names its task definition.
    #[must_use]
    pub fn release_or_what_ran(&self, target: &TargetId) -> ReleaseRef {
        let named = self.task_definition.rsplit('/').next().unwrap_or_default();
        self.release.clone().unwrap_or_else(|| ReleaseRef {
            id: ReleaseId {
                application: target.application.clone(),
                service: target.service.clone(),
                digest: ImageDigest::unknown(),
            },
            image: String::new(),
            tag: named.to_owned(),
            pushed_at: None,
        })
    }
}

/// A release as a deployment needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRef {
    /// Service and digest.
    pub id: ReleaseId,
    /// The image as a task definition names it.
    pub image: String,
    /// The tag, for people.
    pub tag: String,
    /// When it was pushed, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed_at: Option<Timestamp>,
}

/// A release that waits for the running deployment to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// What.
    pub release: ReleaseRef,
    /// Who asked.
    pub actor: Actor,
    /// Why.
    pub reason: String,
    /// What the asker took upon themselves.
    pub overrides: Overrides,
    /// By which way it came, and what it is part of.
    #[serde(default)]
    pub terms: Terms,
    /// The command that asked.
    pub command: CommandId,
    /// When it was asked.
    pub at: Timestamp,
}

/// The policy of a target as it stands in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedTarget {
    /// Version of the application's policy, from 1.
    pub version: u64,
    /// What happens to a release that comes while another one is deployed.
    #[serde(default)]
    pub concurrency: Concurrency,
    /// The target's part of it.
    pub policy: TargetPolicy,
    /// What a release must pass before its deployment may begin here.
    #[serde(default)]
    pub entry: Entry,
}

/// One attempt to bring a release to the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Counts up from 1 in each target.
    pub number: u64,
    /// What is deployed.
    pub release: ReleaseRef,
    /// Forward, or back to what was.
    pub purpose: Purpose,
    /// Who asked.
    pub actor: Actor,
    /// Why.
    pub reason: String,
    /// What the asker took upon themselves. An alarm leaves this set once it has been OK.
    pub overrides: Overrides,
    /// By which way it came, and what it is part of.
    #[serde(default)]
    pub terms: Terms,
    /// What was said at the gates before it began; none: it had none to wait at.
    #[serde(default)]
    pub gates: Option<Gates>,
    /// Its environment promotes by itself: going back from it holds that.
    #[serde(default)]
    pub promotes_itself: bool,
    /// Trouble came while there was no automatic way back: it stays as it is until a person decides.
    #[serde(default)]
    pub frozen: Option<Frozen>,
    /// Version of the policy that it started with.
    pub policy_version: u64,
    /// The policy that it started with, and keeps.
    pub policy: TargetPolicy,
    /// When it started.
    pub started_at: Timestamp,
    /// Where it is.
    pub stage: Stage,
    /// When it got there.
    pub stage_entered_at: Timestamp,
    /// Its place in the row before AWS's API budgets, once it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Which side is which; settled by preflight.
    pub sides: Option<Sides>,
    /// ARN of the candidate's task definition, once it is there.
    pub task_definition: Option<String>,
    /// ARN of the task definition that the candidate's is made like; none: the stable side's. A rollback is made like what it
    /// goes back to, where no side has that any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_like: Option<String>,
    /// Since when every target of the candidate has been seen healthy once: from then on failed tasks are judged by their share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_since: Option<Timestamp>,
    /// Both sides are at 0 tasks: it waits at its gates until the service wakes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asleep: bool,
    /// Until when it may wait at gates. Then: expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gates_until: Option<Timestamp>,
    /// The candidate's service has been seen with that task definition. If it is seen with another one after that,
    /// ECS's circuit breaker or somebody else took it away.
    pub candidate_updated: bool,
    /// Weights were decided that give the candidate traffic.
    pub traffic_moved: bool,
    /// The weights that were decided last, once any were.
    pub weights: Option<WeightsRecord>,
    /// The test rule as it was found, once it has been moved.
    pub test_rule_before: Option<Weights>,
    /// Autoscaling limits as they were found, once they have been taken over.
    pub borrowed: BTreeMap<Slot, Autoscaling>,
    /// When those limits were read: scheduled actions that ran before are in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub borrowed_at: Option<Timestamp>,
    /// A person has let it go on after its bake: it is verified again once all traffic is seen to go to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verifies_again: bool,
    /// When weights were decided that gave the candidate its first share of the traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_since: Option<Timestamp>,
    /// The stable side's own alarm fires, and holds the deployment: its name, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_alarm: Option<(String, Timestamp)>,
    /// The way back was written while a rule could not be read: the candidate may have had traffic that nobody saw.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub written_blind: bool,
    /// Hooks that have begun.
    pub hooks: BTreeMap<String, HookProgress>,
    /// Somebody else edited a rule.
    pub halted: Option<Halt>,
    /// When a rule that somebody else had edited was last seen put back: the balancer's nodes learn of that, too.
    #[serde(default)]
    pub resumed_at: Option<Timestamp>,
    /// When it last changed something outside, or may have: what is read shortly after may still tell of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acted_at: Option<Timestamp>,
    /// When an outcome of an effect was last recorded, whatever it was. An effect whose driver died has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried_at: Option<Timestamp>,
    /// Tag of the newer release that takes its place: it turns back as soon as nothing speaks against that, unless it
    /// is verified before.
    #[serde(default)]
    pub superseded_by: Option<String>,
    /// What preflight last found against starting, so that it is journalled once.
    pub blocked: Option<String>,
    /// The last effect that did not work, until it does.
    pub trouble: Option<Trouble>,
    /// Effects that were decided and whose outcome is not recorded yet. They are decided anew from what is seen,
    /// so a crash loses nothing; they stand here for whoever asks what was going on.
    pub pending: Vec<Effect>,
}

/// What was said at the gates that a deployment waits at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gates {
    /// What people are asked to look at. It changes with whatever the deployment would do.
    pub plan: PlanId,
    /// When people were asked; none: not yet.
    pub asked_at: Option<Timestamp>,
    /// Who said yes to the present plan, once each.
    pub votes: Vec<Vote>,
    /// Gates that a hotfix is not asked at.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub skipped: BTreeSet<Gate>,
    /// Gates that somebody opened by hand.
    pub overridden: BTreeMap<Gate, Overridden>,
    /// Gates that keep it waiting, and why, as it was last journalled.
    pub told: BTreeMap<Gate, String>,
}

/// A yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// Whose, by the policy's name.
    pub person: Name,
    /// As the door knows them.
    pub actor: Actor,
    /// When.
    pub at: Timestamp,
}

/// A gate that was opened by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overridden {
    /// By whom.
    pub actor: Actor,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// A deployment that stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// What it would have gone back for.
    pub cause: Cause,
    /// Since when.
    pub since: Timestamp,
    /// Then: an end without touching anything.
    pub deadline: Timestamp,
    /// The journal has it, with what was seen.
    pub told: bool,
}

/// Forward, or back to what was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A new release.
    Deploy,
    /// Back to the release before: its own task definition, all traffic in one step, without hooks and bake.
    Rollback,
    /// After a deployment that could not finish: all traffic back to the side that the ledger knows as stable.
    Repair,
}

/// Which side is which, as preflight read it off the live weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sides {
    /// The side that carried all traffic.
    pub stable: Slot,
    /// Its task definition.
    pub stable_task_definition: String,
    /// Its running tasks.
    pub stable_count: u32,
}

/// The weights that were decided last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsRecord {
    /// What was seen live before.
    pub before: Weights,
    /// What was decided.
    pub decided: Weights,
    /// It was seen live.
    pub verified: bool,
}

/// A hook that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookProgress {
    /// When its time is over.
    pub deadline: Timestamp,
    /// When a function is to be asked again.
    pub ask_at: Timestamp,
    /// ARN of its task, once it has one.
    pub task: Option<String>,
    /// How it ended, once it has.
    pub result: Option<HookResult>,
    /// Its time is over and its task may still run: it is stopped, and the deployment does not end before that is seen.
    #[serde(default)]
    pub stopping: bool,
}

impl HookProgress {
    /// Ends it with `result`, its task too if it has one.
    pub(crate) fn cut_off(&mut self, reason: String) {
        self.result = Some(HookResult::Failed(reason));
        self.stopping = self.task.is_some();
    }
}

/// How a hook ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookResult {
    /// Yes.
    Succeeded,
    /// No, and why.
    Failed(String),
}

/// Somebody else edited a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// What was seen, and what should have been.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Then: an end without touching the rule.
    pub deadline: Timestamp,
}

/// An effect that did not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What, in a word.
    pub effect: String,
    /// Why.
    pub reason: String,
    /// AWS will say no again.
    pub refused: bool,
    /// How often in a row.
    pub times: u32,
    /// It was not done because there were too many requests.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub throttled: bool,
}

/// A deployment as history lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentRecord {
    /// Where.
    pub target: TargetId,
    /// Counts up from 1 in each target.
    pub number: u64,
    /// What.
    pub release: ReleaseRef,
    /// Who asked.
    pub actor: Actor,
    /// It came by the hotfix lane.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hotfix: bool,
    /// Version of the policy that it kept.
    pub policy_version: u64,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How.
    pub verdict: Option<Verdict>,
    /// Why, for people.
    pub reason: String,
}

impl Deployment {
    /// The way back, while there is one: sides settled, and the stable side not scaled down yet.
    #[must_use]
    pub fn way_back(&self) -> Option<WayBack> {
        match &self.stage {
            Stage::Retiring { phase: RetirePhase::ScalingDown, .. } | Stage::LettingGo { .. } => None,
            Stage::RollingBack { way_back, .. } => Some(way_back.clone()),
            _ => {
                let sides = self.sides.as_ref()?;
                Some(WayBack { stable: sides.stable, count: sides.stable_count })
            }
        }
    }

    /// Until when what is read of what it changed is not believed yet; none: all of it is.
    /// `seen_at`: when the reading began.
    pub(crate) fn settles_at(&self, seen_at: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let settled = SETTLES.after(self.acted_at?);
        (seen_at < settled).then_some(settled.max(now))
    }

    /// The candidate had traffic, or may have had some: it drains before it is taken down.
    pub(crate) fn may_drain(&self) -> bool {
        self.traffic_moved || self.written_blind
    }

    /// The candidate's side, once settled.
    #[must_use]
    pub fn candidate(&self) -> Option<Slot> {
        self.sides.as_ref().map(|sides| sides.stable.other())
    }
}
