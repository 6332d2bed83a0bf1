//! Where a deployment is. Every stage that waits carries its deadline, and the way back is a type.

use crate::names::{Actor, Name, Slot};
use crate::time::Seconds;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Where a deployment is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Stage {
    /// Waiting at the gates of its environment; nothing is read of what runs, and nothing touched.
    Gated {
        /// Then: expired.
        deadline: Timestamp,
    },
    /// Finding out which side is stable, and whether anything speaks against starting.
    Preflight {
        /// Then: failed, nothing touched.
        deadline: Timestamp,
        /// The rules are in a state that only a person can put right; it waits for that, and a newer release takes
        /// its place.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        awaiting_operator: bool,
    },
    /// Getting the candidate's task definition.
    Registering {
        /// Then: failed.
        deadline: Timestamp,
    },
    /// Running the hooks of [`HookPoint::BeforeTraffic`](crate::policy::HookPoint::BeforeTraffic).
    BeforeTraffic {
        /// All hooks' deadlines together. Then: switched back.
        deadline: Timestamp,
    },
    /// Starting the candidate's tasks, until every target is healthy.
    Scaling {
        /// Tasks wanted.
        want: u32,
        /// Then: switched back.
        deadline: Timestamp,
    },
    /// Test rule on the candidate, and the hooks of [`HookPoint::TestTraffic`](crate::policy::HookPoint::TestTraffic).
    Testing {
        /// All hooks' deadlines together. Then: switched back.
        deadline: Timestamp,
    },
    /// Moving traffic, step by step.
    Shifting {
        /// Index into the strategy's steps.
        step: usize,
        /// Where in the step.
        phase: ShiftPhase,
    },
    /// Running the hooks of [`HookPoint::AfterTraffic`](crate::policy::HookPoint::AfterTraffic).
    AfterTraffic {
        /// All hooks' deadlines together. Then: switched back.
        deadline: Timestamp,
    },
    /// All traffic on the candidate, watched.
    Baking {
        /// When it ends if all is well.
        until: Timestamp,
        /// When it ends if silence or ill health kept it from ending. Then: switched back.
        deadline: Timestamp,
    },
    /// Verified; the old side stays up, and the alarms are still watched.
    KeepingWarm {
        /// When the old side is retired; a release that waits ends it early.
        until: Timestamp,
    },
    /// Taking the old side down.
    Retiring {
        /// Where in it.
        phase: RetirePhase,
        /// Then: succeeded, and the journal says what is left.
        deadline: Timestamp,
    },
    /// Going back to the stable side: its weights first, verified, then the candidate down.
    RollingBack {
        /// Proof that there is a stable side to go back to.
        way_back: WayBack,
        /// Why.
        cause: Cause,
        /// Where in it.
        phase: RollbackPhase,
        /// Then: failed, and the journal says where traffic is.
        deadline: Timestamp,
    },
    /// Ending without touching the rules or the tasks again: somebody else holds the rules, or they cannot be
    /// written. Only what was borrowed is given back.
    LettingGo {
        /// Why.
        reason: String,
        /// Then: failed, and the journal says what is left.
        deadline: Timestamp,
    },
}

/// Where in a step of traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum ShiftPhase {
    /// Capacity, health and alarms are checked, then the weights are written, until they are seen live.
    Writing {
        /// Then: switched back.
        deadline: Timestamp,
    },
    /// The weights were seen live; the step is watched.
    Holding {
        /// When the hold ends if all is well.
        until: Timestamp,
        /// When it ends if silence or ill health kept it from ending. Then: switched back.
        deadline: Timestamp,
    },
}

/// Where in taking the old side down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum RetirePhase {
    /// The balancer's nodes learn that the old side has no traffic. The way back is still open.
    Draining {
        /// When that is long enough.
        until: Timestamp,
    },
    /// The old side's tasks stop, and what was borrowed is given back.
    ScalingDown,
}

/// Where in going back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum RollbackPhase {
    /// The weights go back, until they are seen live.
    WeightsBack {
        /// How often writing them was tried, whatever came of it.
        #[serde(default)]
        tries: u32,
        /// Weights that somebody else had set and that are replaced, as the journal last has them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaced: Option<String>,
    },
    /// The balancer's nodes learn that the candidate has no traffic.
    Draining {
        /// When that is long enough.
        until: Timestamp,
    },
    /// The candidate's tasks stop, and what was borrowed is given back.
    CandidateDown,
}

/// Proof that the stable side is still up. Only [`Deployment::way_back`](crate::Deployment::way_back) makes one, and
/// only while the stable side has not been scaled down; a rollback cannot be built from anything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayBack {
    pub(crate) stable: Slot,
    pub(crate) count: u32,
}

impl WayBack {
    /// The side to go back to.
    #[must_use]
    pub fn stable(&self) -> Slot {
        self.stable
    }

    /// Tasks that it had running when the deployment started.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }
}

/// Why a deployment goes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    /// An alarm fired.
    Alarm {
        /// Its name.
        name: String,
        /// CloudWatch's reason.
        reason: String,
    },
    /// A hook said no, or did not answer in time.
    Hook {
        /// Its name.
        name: String,
        /// Its words, or that its time ran out.
        reason: String,
    },
    /// Tasks did not start, or stopped.
    Tasks {
        /// ECS's words.
        reason: String,
    },
    /// The candidate lost its healthy targets.
    Unhealthy {
        /// What was seen.
        reason: String,
    },
    /// A wait ran out.
    Deadline {
        /// What was waited for.
        reason: String,
    },
    /// AWS refused something that the deployment needs.
    Refused {
        /// AWS's words.
        reason: String,
    },
    /// Somebody asked for an end of it.
    Aborted {
        /// Who.
        actor: Actor,
        /// Why.
        reason: String,
    },
    /// Somebody asked to go back.
    Asked {
        /// Who.
        actor: Actor,
        /// Why.
        reason: String,
    },
    /// Somebody put all traffic back on the stable side by hand.
    ByHand,
    /// Another service of its release train failed, and the train goes back as a whole.
    Train {
        /// The service.
        service: Name,
        /// What became of it.
        reason: String,
    },
    /// A newer release takes its place, as its environment has it.
    Superseded {
        /// The tag of the newer one.
        by_tag: String,
    },
}

/// How a deployment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The release is the stable one.
    Succeeded,
    /// Traffic had moved, and is back on the stable side.
    RolledBack,
    /// A person said no.
    Rejected,
    /// A newer release took its place, before it was verified.
    Superseded,
    /// A person ended it.
    Cancelled,
    /// Nobody answered in time.
    Expired,
    /// It ended before traffic moved, or the way back could not be finished: the reason says which.
    Failed,
}

impl RollbackPhase {
    /// The first phase, before anything was tried.
    #[must_use]
    pub fn start() -> Self {
        Self::WeightsBack { tries: 0, replaced: None }
    }
}

impl Cause {
    /// The cause in one sentence, for the record.
    #[must_use]
    pub fn sentence(&self) -> String {
        let because = |reason: &str| if reason.is_empty() { String::new() } else { format!(": {reason}") };
        match self {
            Self::Alarm { name, reason } => format!("alarm {name} fired{}", because(reason)),
            Self::Hook { name, reason } => format!("hook {name} failed{}", because(reason)),
            Self::Tasks { reason } => format!("the candidate's tasks do not run{}", because(reason)),
            Self::Unhealthy { reason } => format!("the candidate is not healthy{}", because(reason)),
            Self::Deadline { reason } => format!("out of time{}", because(reason)),
            Self::Refused { reason } => format!("AWS refused what the deployment needs{}", because(reason)),
            Self::Aborted { actor, reason } => format!("aborted by {actor}{}", because(reason)),
            Self::Asked { actor, reason } => format!("rollback requested by {actor}{}", because(reason)),
            Self::ByHand => "somebody put all traffic back on the stable side by hand".to_owned(),
            Self::Superseded { by_tag } => format!("replaced by {by_tag}"),
            Self::Train { service, reason } => {
                format!("{service} of its release train failed{}", because(reason))
            }
        }
    }

    /// Whether nobody asked for it: what a forward-only release does not go back for.
    #[must_use]
    pub fn is_automatic(&self) -> bool {
        !matches!(self, Self::Aborted { .. } | Self::Asked { .. } | Self::ByHand)
    }

    /// The verdict that going back for this cause ends in, once it is finished.
    #[must_use]
    pub fn verdict(&self, traffic_moved: bool) -> Verdict {
        match self {
            Self::Aborted { .. } => Verdict::Cancelled,
            Self::Superseded { .. } => Verdict::Superseded,
            _ if traffic_moved => Verdict::RolledBack,
            Self::Asked { .. } | Self::ByHand => Verdict::Cancelled,
            _ => Verdict::Failed,
        }
    }
}

impl Stage {
    /// The start of a deployment whose gates are open.
    #[must_use]
    pub fn preflight(deadline: Timestamp) -> Self {
        Self::Preflight { deadline, awaiting_operator: false }
    }

    /// Whether it waits for people before anything of it has begun: a newer release takes its place.
    #[must_use]
    pub fn has_not_begun(&self) -> bool {
        matches!(self, Self::Gated { .. } | Self::Preflight { awaiting_operator: true, .. })
    }

    /// The stage's name, in snake case, as the journal and `--json` have it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Gated { .. } => "gated",
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
            Self::Gated { deadline }
            | Self::Preflight { deadline, .. }
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

    /// Moves the deadline of what it waits for to then at least. How long it watches stays as it is, and so does what
    /// people were promised at the gates.
    pub(crate) fn has_time_until(&mut self, until: Timestamp) {
        match self {
            Self::Preflight { deadline, .. }
            | Self::Registering { deadline }
            | Self::Scaling { deadline, .. }
            | Self::Testing { deadline }
            | Self::Shifting {
                phase: ShiftPhase::Writing { deadline } | ShiftPhase::Holding { deadline, .. }, ..
            }
            | Self::Baking { deadline, .. }
            | Self::Retiring { deadline, .. }
            | Self::RollingBack { deadline, .. }
            | Self::LettingGo { deadline, .. } => *deadline = until.max(*deadline),
            // Hooks have deadlines of their own, and nothing of them is a reading.
            Self::Gated { .. } | Self::BeforeTraffic { .. } | Self::AfterTraffic { .. } | Self::KeepingWarm { .. } => {}
        }
    }

    /// Gives what it waits for time until then at least; how long it watches stays as it is.
    pub(crate) fn has_until(&mut self, until: Timestamp) {
        match self {
            Self::Shifting {
                phase: ShiftPhase::Writing { deadline } | ShiftPhase::Holding { deadline, .. }, ..
            }
            | Self::AfterTraffic { deadline }
            | Self::Baking { deadline, .. } => *deadline = until.max(*deadline),
            _ => {}
        }
    }

    /// The same stage with all its times later by `by`: it was held where it was.
    #[must_use]
    pub(crate) fn later(mut self, by: Seconds) -> Self {
        let later = |time: &mut Timestamp| *time = by.after(*time);
        match &mut self {
            Self::Gated { deadline }
            | Self::Preflight { deadline, .. }
            | Self::Registering { deadline }
            | Self::BeforeTraffic { deadline }
            | Self::Scaling { deadline, .. }
            | Self::Testing { deadline }
            | Self::Shifting { phase: ShiftPhase::Writing { deadline }, .. }
            | Self::AfterTraffic { deadline }
            | Self::Retiring { deadline, .. }
            | Self::RollingBack { deadline, .. }
            | Self::LettingGo { deadline, .. } => later(deadline),
            Self::Shifting { phase: ShiftPhase::Holding { until, deadline }, .. }
            | Self::Baking { until, deadline } => {
                later(until);
                later(deadline);
            }
            Self::KeepingWarm { until } => later(until),
        }
        self
    }

    /// Whether going back is what it does, and its weights are back already.
    #[must_use]
    pub fn weights_are_back(&self) -> bool {
        matches!(self, Self::RollingBack { phase: RollbackPhase::Draining { .. } | RollbackPhase::CandidateDown, .. })
    }
}
