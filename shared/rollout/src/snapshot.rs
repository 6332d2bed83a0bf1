//! What was seen of the world just now. Nothing here is remembered, and nothing unknown is taken for good news.

use crate::names::Slot;
use crate::schedule::ScheduledAction;
use crate::time::Percent;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Something looked up: seen, or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading<T> {
    /// Seen.
    Known(T),
    /// Not seen, and why: throttled, timed out, denied, missing.
    Unknown(String),
}

impl<T> Reading<T> {
    /// What was seen, if it was.
    #[must_use]
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }
}

/// All that one look saw. What the look did not ask for is `Unknown` or empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The blue side.
    pub blue: Reading<SideReading>,
    /// The green side.
    pub green: Reading<SideReading>,
    /// The rules of the policy, in its order.
    pub rules: Vec<Reading<RuleReading>>,
    /// The test rule, if the policy has one.
    pub test_rule: Option<Reading<RuleReading>>,
    /// Every alarm that was asked for; one that CloudWatch does not know is [`AlarmReading::Absent`].
    pub alarms: Reading<BTreeMap<String, AlarmReading>>,
    /// The side that an alarm looks at, for those of [`Self::alarms`] whose every metric belongs to one side alone (its
    /// target group, its service). An alarm that looks at both sides, at neither, or at something unknown is not here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub alarm_sides: BTreeMap<String, Slot>,
    /// Scheduled actions of each side's scalable target, where the look asked for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schedules: BTreeMap<Slot, Reading<Vec<ScheduledAction>>>,
    /// Task hooks that were asked for, by the hook's name.
    pub hook_tasks: BTreeMap<String, Reading<TaskReading>>,
    /// Something could not be read because there were too many requests.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub throttled: bool,
    /// When the reading of it began; none: at the time of the decision. Whoever reads may stand still in the middle of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_at: Option<Timestamp>,
    /// The API call that this look was asked for, as CloudTrail names it. It decides nothing: it says who made an edit that
    /// the look itself has seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_call: Option<ApiCall>,
}

/// An API call that changed a rule, a listener or a service, and who made it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ApiCall {
    /// The operation: `ModifyRule`.
    pub operation: String,
    /// ARN of the caller, or the AWS service that called for somebody.
    pub by: String,
    /// When, as CloudTrail has it.
    pub at: Timestamp,
}

impl Snapshot {
    /// The side in `slot`.
    #[must_use]
    pub fn side(&self, slot: Slot) -> &Reading<SideReading> {
        match slot {
            Slot::Blue => &self.blue,
            Slot::Green => &self.green,
        }
    }
}

/// One ECS service and its target group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideReading {
    /// ARN of the task definition that the service's primary deployment runs.
    pub task_definition: String,
    /// The image of the policy's container in that task definition; only where the look asked for images.
    pub image: Option<String>,
    /// Tasks wanted.
    pub desired: u32,
    /// Tasks running, old deployments of the service included.
    pub running: u32,
    /// Tasks starting.
    pub pending: u32,
    /// The primary deployment is the only one and is complete: everything that runs is of `task_definition`.
    pub steady: bool,
    /// ECS's circuit breaker gave the primary deployment up, with its reason.
    pub gave_up: Option<String>,
    /// The primary deployment failed, whenever that was: no task of it is started until there is a new deployment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stalled: bool,
    /// Tasks of the task definition that the look named, which stopped by themselves since the time it named:
    /// newest first, at most 10.
    pub failed_starts: Vec<FailedStart>,
    /// How many these are in all, as far back as ECS remembers stopped tasks (about an hour).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_tasks: u32,
    /// What tasks are placed by: the capacity providers of the service's strategy that have a weight or a base, or its
    /// launch type. Empty: unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placed_by: Vec<String>,
    /// The service's newest event that a task could not be placed, since the time that the look named.
    pub placement_failure: Option<ServiceEvent>,
    /// Targets in the side's target group.
    pub targets: TargetHealth,
    /// The scalable target, if Application Auto Scaling has one for the service.
    pub autoscaling: Option<Autoscaling>,
}

impl SideReading {
    /// Tasks that stopped by themselves, the listed ones included.
    #[must_use]
    pub fn failed(&self) -> u32 {
        self.failed_tasks.max(u32::try_from(self.failed_starts.len()).unwrap_or(u32::MAX))
    }
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// A task that stopped by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedStart {
    /// ARN or id of the task.
    pub task: String,
    /// ECS's words, the exit code of the container included: `Essential container in task exited (exit code 1)`.
    pub reason: String,
    /// When it stopped.
    pub at: Timestamp,
}

/// Something that ECS wrote into a service's events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceEvent {
    /// ECS's words.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// How many targets of a group are in which state (`DescribeTargetHealth`, `TargetHealth.State`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetHealth {
    /// `healthy`
    pub healthy: u32,
    /// `unhealthy`, `unhealthy.draining` and `unavailable`
    pub unhealthy: u32,
    /// `initial`
    pub initial: u32,
    /// `draining`
    pub draining: u32,
    /// `unused`: the group is attached to no rule, or the zone is not enabled.
    pub unused: u32,
}

impl TargetHealth {
    /// Targets that are there to stay: all but those draining.
    #[must_use]
    pub fn registered(&self) -> u32 {
        self.healthy + self.unhealthy + self.initial + self.unused
    }
}

/// What Application Auto Scaling may do with a service's desired count.
///
/// Whether it may scale out is not here: a side under load may always grow, so that switch is nobody's to borrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredAutoscaling")]
pub struct Autoscaling {
    /// Lowest desired count.
    pub min: u32,
    /// Highest desired count.
    pub max: u32,
    /// Scale-in by alarms is suspended.
    pub scale_in_suspended: bool,
    /// Scaling by schedules, which moves the limits themselves, is suspended.
    pub scheduled_suspended: bool,
}

/// [`Autoscaling`] as this and older writers store it.
#[derive(Deserialize)]
struct StoredAutoscaling {
    min: u32,
    max: u32,
    scale_in_suspended: bool,
    /// Older writers had one flag, which was set where both were suspended.
    #[serde(default)]
    scheduled_suspended: Option<bool>,
}

impl From<StoredAutoscaling> for Autoscaling {
    fn from(stored: StoredAutoscaling) -> Self {
        let StoredAutoscaling { min, max, scale_in_suspended, scheduled_suspended } = stored;
        Self { min, max, scale_in_suspended, scheduled_suspended: scheduled_suspended.unwrap_or(scale_in_suspended) }
    }
}

/// The share of the candidate pair in one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleReading {
    /// Weights as they are live, 0 to 999 each; 0 where the group is not in the rule.
    pub weights: Weights,
    /// Both groups are in the rule's forward action.
    pub has_both: bool,
    /// Target groups in the forward action that are neither side's.
    pub strangers: Vec<String>,
}

/// The weights of the two sides in a rule's forward action, 0 to 999 each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weights {
    /// Of blue's target group.
    pub blue: u16,
    /// Of green's target group.
    pub green: u16,
}

impl Weights {
    /// `share` to the side in `slot` and the rest to the other one; they sum to 100.
    #[must_use]
    pub fn share(slot: Slot, share: Percent) -> Self {
        let (there, rest) = (u16::from(share.value()), u16::from(100 - share.value()));
        match slot {
            Slot::Blue => Self { blue: there, green: rest },
            Slot::Green => Self { blue: rest, green: there },
        }
    }

    /// The weight of the side in `slot`.
    #[must_use]
    pub fn of(self, slot: Slot) -> u16 {
        match slot {
            Slot::Blue => self.blue,
            Slot::Green => self.green,
        }
    }

    /// The one side that carries everything, if there is one.
    #[must_use]
    pub fn only(self) -> Option<Slot> {
        match (self.blue, self.green) {
            (0, 0) => None,
            (_, 0) => Some(Slot::Blue),
            (0, _) => Some(Slot::Green),
            _ => None,
        }
    }

    /// Whether both send the same share to each side, whatever the numbers (1/0 and 100/0 are the same).
    #[must_use]
    pub fn same_split(self, other: Self) -> bool {
        u32::from(self.blue) * u32::from(other.green) == u32::from(self.green) * u32::from(other.blue)
            && (self.blue > 0) == (other.blue > 0)
            && (self.green > 0) == (other.green > 0)
    }
}

/// An alarm: metric, composite or log alarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum AlarmReading {
    /// `OK`
    Ok,
    /// `ALARM`, with CloudWatch's reason.
    Firing {
        /// `StateReason`
        reason: String,
    },
    /// `INSUFFICIENT_DATA`
    NoData,
    /// Another state than `ALARM`, which CloudWatch did not arrive at by an evaluation of all the data (`EvaluationState`). It
    /// is no data, whatever the state says; and unlike an idle side's silence it is never without meaning.
    NotEvaluated {
        /// `EvaluationState` and `StateReason`: `EVALUATION_ERROR: …`.
        reason: String,
    },
    /// There is no alarm of that name.
    Absent,
}

/// The task that a hook runs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TaskReading {
    /// Not stopped yet.
    Running,
    /// Stopped.
    Stopped {
        /// The named container's exit code; none where it never ran.
        exit_code: Option<i32>,
        /// ECS's words.
        reason: String,
    },
}
