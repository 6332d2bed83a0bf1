//! All that is remembered of one target: small enough for one item of the ledger.

use crate::command::{CommandId, Overrides};
use crate::effect::Effect;
use crate::names::{Actor, ReleaseId, Slot, TargetId};
use crate::policy::{Concurrency, TargetPolicy};
use crate::snapshot::{Autoscaling, Weights};
use crate::stage::{RetirePhase, RollbackPhase, ShiftPhase, Stage, Verdict, WayBack};
use jiff::Timestamp;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The format of a stored [`TargetState`]. A reader refuses a higher one instead of guessing.
pub const FORMAT: u16 = 2;

/// The most releases that wait for one target. One more, and the oldest that was never stable here gives way.
pub const MOST_QUEUED: usize = 20;

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
    /// The last deployment could not finish and both sides may carry traffic: the next rollback puts all of it
    /// back on `stable`, and nothing else can start until then or until the rules are put in order by hand.
    pub unsettled: bool,
    /// The one deployment that runs.
    pub running: Option<Deployment>,
    /// The releases that wait for it to end, in the order in which they start; at most [`MOST_QUEUED`].
    #[serde(default, deserialize_with = "queue")]
    pub queued: Vec<Queued>,
    /// Why it waits, as of the last decision.
    pub explanation: Explanation,
    /// When a wake is due that has been rung for.
    pub wake_at: Option<Timestamp>,
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
            unsettled: false,
            running: None,
            queued: Vec::new(),
            explanation: Explanation::default(),
            wake_at: None,
        }
    }

    /// Whether this release was baked here, and carries the traffic or did so last.
    #[must_use]
    pub fn verified(&self, release: &ReleaseId) -> bool {
        let sides = [&self.stable, &self.previous].into_iter().flatten();
        sides.filter_map(|side| side.release.as_ref()).any(|known| &known.id == release)
    }
}

/// Reads the queue; in format 1 it was one release or none.
fn queue<'de, D: Deserializer<'de>>(stored: D) -> Result<Vec<Queued>, D::Error> {
    struct Queue;
    impl<'de> Visitor<'de> for Queue {
        type Value = Vec<Queued>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("the releases that wait, one of them, or null")
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_map<A: MapAccess<'de>>(self, one: A) -> Result<Self::Value, A::Error> {
            Ok(vec![Queued::deserialize(MapAccessDeserializer::new(one))?])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, all: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(all))
        }
    }
    stored.deserialize_any(Queue)
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
    /// Which side is which; settled by preflight.
    pub sides: Option<Sides>,
    /// ARN of the candidate's task definition, once it is there.
    pub task_definition: Option<String>,
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
    /// Hooks that have begun.
    pub hooks: BTreeMap<String, HookProgress>,
    /// Somebody else edited a rule.
    pub halted: Option<Halt>,
    /// When a rule that somebody else had edited was last seen put back: the balancer's nodes learn of that, too.
    #[serde(default)]
    pub resumed_at: Option<Timestamp>,
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
}

/// Why a target waits, for `explain` and everything that shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Explanation {
    /// What it waits for, the most telling first.
    pub waiting_on: Vec<WaitingOn>,
    /// When it looks again at the latest.
    pub look_again_at: Option<Timestamp>,
}

/// One thing that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "snake_case")]
pub enum WaitingOn {
    /// Something against starting.
    Preflight {
        /// What.
        reason: String,
        /// Then: failed.
        deadline: Timestamp,
    },
    /// A reading that could not be had.
    Reading {
        /// What could not be read, and why.
        reason: String,
        /// What happens without it happens then.
        deadline: Timestamp,
    },
    /// A task definition.
    TaskDefinition {
        /// Then: failed.
        deadline: Timestamp,
    },
    /// Tasks and targets.
    Healthy {
        /// Healthy targets.
        healthy: u32,
        /// Wanted.
        want: u32,
        /// What else was seen.
        detail: String,
        /// Then: switched back.
        deadline: Timestamp,
    },
    /// A hook.
    Hook {
        /// Its name.
        hook: String,
        /// Then: it has failed.
        deadline: Timestamp,
    },
    /// Weights to be seen live.
    Weights {
        /// As they shall be.
        weights: Weights,
        /// What happens without it happens then.
        deadline: Timestamp,
    },
    /// The end of a hold.
    Hold {
        /// The candidate's share.
        traffic: u8,
        /// When.
        until: Timestamp,
    },
    /// The end of the bake.
    Bake {
        /// When.
        until: Timestamp,
    },
    /// Alarms without data.
    Alarms {
        /// Which.
        names: BTreeSet<String>,
        /// Then: switched back.
        deadline: Timestamp,
    },
    /// The end of keeping the old side warm.
    Warm {
        /// When.
        until: Timestamp,
    },
    /// The balancer's nodes.
    Drain {
        /// Whose traffic is gone.
        slot: Slot,
        /// When.
        until: Timestamp,
    },
    /// What was borrowed to be seen given back.
    GivingBack {
        /// What is not as it was yet.
        what: String,
        /// What happens without it happens then.
        deadline: Timestamp,
    },
    /// Tasks that stop.
    Stopping {
        /// Whose.
        slot: Slot,
        /// Still running.
        running: u32,
        /// What happens without it happens then.
        deadline: Timestamp,
    },
    /// A rule that somebody else edited.
    ForeignEdit {
        /// What was seen, and what should have been.
        reason: String,
        /// Then: an end without touching the rule.
        deadline: Timestamp,
    },
    /// A stable side that is not fit to go back to.
    WayBack {
        /// What was seen.
        reason: String,
        /// Then: failed.
        deadline: Timestamp,
    },
    /// Something that did not work and is tried again.
    Retry {
        /// What.
        effect: String,
        /// Why.
        reason: String,
    },
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

    /// The candidate's side, once settled.
    #[must_use]
    pub fn candidate(&self) -> Option<Slot> {
        self.sides.as_ref().map(|sides| sides.stable.other())
    }
}

impl Stage {
    /// The stage's name, in snake case, as the journal and `--json` have it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Preflight { .. } => "preflight",
            Self::Registering { .. } => "registering",
            Self::BeforeTraffic { .. } => "before_traffic",
            Self::Scaling { .. } => "scaling",
            Self::Testing { .. } => "testing",
            Self::Shifting { .. } => "shifting",
            Self::AfterTraffic { .. } => "after_traffic",
            Self::Baking { .. } => "baking",
            Self::KeepingWarm { .. } => "keeping_warm",
            Self::Retiring { .. } => "retiring",
            Self::RollingBack { .. } => "rolling_back",
            Self::LettingGo { .. } => "letting_go",
        }
    }

    /// When the present wait is over, whatever is seen until then.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        match self {
            Self::Preflight { deadline }
            | Self::Registering { deadline }
            | Self::BeforeTraffic { deadline }
            | Self::Scaling { deadline, .. }
            | Self::Testing { deadline }
            | Self::Shifting {
                phase: ShiftPhase::Writing { deadline } | ShiftPhase::Holding { deadline, .. }, ..
            }
            | Self::AfterTraffic { deadline }
            | Self::Baking { deadline, .. }
            | Self::Retiring { deadline, .. }
            | Self::RollingBack { deadline, .. }
            | Self::LettingGo { deadline, .. } => *deadline,
            Self::KeepingWarm { until } => *until,
        }
    }

    /// Whether the candidate has been baked: it is finished, whatever is asked for meanwhile.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        matches!(self, Self::KeepingWarm { .. } | Self::Retiring { .. })
    }

    /// Whether going back is what it does, and its weights are back already.
    #[must_use]
    pub fn weights_are_back(&self) -> bool {
        matches!(self, Self::RollingBack { phase: RollbackPhase::Draining { .. } | RollbackPhase::CandidateDown, .. })
    }
}
