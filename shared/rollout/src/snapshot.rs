//! The observed state of AWS at one point in time. Nothing here is persisted, and an unknown reading is never taken for
//! good news.

use crate::names::Slot;
use crate::schedule::ScheduledAction;
use crate::time::{Percent, Seconds};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The result of a read: known or unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading<T> {
    /// The value that was read.
    Known(T),
    /// Could not be read, with the reason: throttled, timed out, denied, missing.
    Unknown(String),
}

/// Reason of a reading that was not asked for.
const NOT_ASKED: &str = "it was not asked for";

impl<T> Reading<T> {
    /// A reading that nobody asked for.
    #[must_use]
    pub fn not_asked() -> Self {
        Self::Unknown(NOT_ASKED.to_owned())
    }

    /// Whether nobody asked for it.
    #[must_use]
    pub fn is_not_asked(&self) -> bool {
        matches!(self, Self::Unknown(reason) if reason == NOT_ASKED)
    }

    /// The value, if it was read.
    #[must_use]
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }
}

/// Everything that one observation read. Anything that was not requested is `Unknown` or empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The blue side.
    pub blue: Reading<SideReading>,
    /// The green side.
    pub green: Reading<SideReading>,
    /// What changes its version in place; only for targets without sides.
    #[serde(default = "Reading::not_asked", skip_serializing_if = "Reading::is_not_asked")]
    pub workload: Reading<WorkloadReading>,
    /// The rules of the policy, in the policy's order: leg by leg.
    pub rules: Vec<Reading<RuleReading>>,
    /// The test rules, leg by leg.
    pub test_rules: Vec<Reading<RuleReading>>,
    /// Every requested alarm; one that CloudWatch does not have is [`AlarmReading::Absent`].
    pub alarms: Reading<BTreeMap<String, AlarmReading>>,
    /// The side that an alarm watches, for those of [`Self::alarms`] whose metrics all belong to one side (its target
    /// group, its service). An alarm that watches both sides, neither, or something unknown is not listed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub alarm_sides: BTreeMap<String, Slot>,
    /// Scheduled actions of each side's scalable target, where requested.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schedules: BTreeMap<Slot, Reading<Vec<ScheduledAction>>>,
    /// Tasks of hooks that were requested, by the hook's name.
    pub hook_tasks: BTreeMap<String, Reading<TaskReading>>,
    /// Something could not be read because AWS throttled the request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub throttled: bool,
    /// When the observation started; none: at the time of the decision. The observer may pause in between, so that
    /// readings can be older than the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_started_at: Option<Timestamp>,
    /// The API call, reported by CloudTrail, that triggered this observation. It has no influence on the decision: it
    /// names who made an edit that the observation itself has found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_call: Option<ApiCall>,
}

/// An API call that changed a rule, a listener or a service, and its caller.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ApiCall {
    /// Name of the operation: `ModifyRule`.
    pub operation: String,
    /// ARN of the caller, or the AWS service that called on somebody's behalf.
    pub by: String,
    /// Event time in CloudTrail.
    pub at: Timestamp,
}

impl Snapshot {
    /// The side to which every rule sends all traffic; none: the rules disagree, or one could not be read.
    #[must_use]
    pub fn live_side(&self) -> Option<Slot> {
        Weights::live_side(self.rules.iter().map(|rule| rule.known().map(|rule| rule.weights)))
    }

    /// The longest time for which a cookie binds clients to a side, over the rules that could be read.
    #[must_use]
    pub fn sticky_for(&self) -> Seconds {
        let known = self.rules.iter().filter_map(|rule| rule.known()?.sticky_for);
        known.max().unwrap_or(Seconds(0))
    }

    /// Weights of the test rules.
    ///
    /// # Errors
    /// The reason, where one of them could not be read.
    pub fn test_weights(&self) -> Result<Vec<Weights>, String> {
        let weights = |rule: &Reading<RuleReading>| match rule {
            Reading::Known(rule) => Ok(rule.weights),
            Reading::Unknown(reason) => Err(format!("the test rule could not be read: {reason}")),
        };
        self.test_rules.iter().map(weights).collect()
    }

    /// The side in `slot`.
    #[must_use]
    pub fn side(&self, slot: Slot) -> &Reading<SideReading> {
        match slot {
            Slot::Blue => &self.blue,
            Slot::Green => &self.green,
        }
    }
}

/// One side as it was read: its ECS service, target group and scalable target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideReading {
    /// The version that it is set to run (of ECS: the task definition of the service's primary deployment).
    pub version: String,
    /// The image of the policy's container in that version; only where images were requested.
    pub image: Option<String>,
    /// Desired count.
    pub desired: u32,
    /// Running tasks, including those of the service's older deployments.
    pub running: u32,
    /// Pending tasks.
    pub pending: u32,
    /// The primary deployment is the only one and is completed: all running tasks are of `version`.
    pub steady: bool,
    /// Why ECS's circuit breaker stopped the primary deployment; none: it did not.
    pub circuit_breaker_reason: Option<String>,
    /// The primary deployment has failed, at whatever time: ECS starts no more of its tasks until there is a new
    /// deployment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stalled: bool,
    /// Tasks of the queried version that stopped by themselves since the queried time: newest first, at most
    /// 10.
    pub failed_starts: Vec<FailedStart>,
    /// Total number of such tasks, as far back as ECS remembers stopped tasks (about an hour).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_tasks: u32,
    /// How tasks are placed: the capacity providers of the service's strategy that have a weight or a base, or its
    /// launch type. Empty: unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placed_by: Vec<String>,
    /// The service's newest event about a task that could not be placed, since the queried time.
    pub placement_failure: Option<ServiceEvent>,
    /// Health of the targets in the side's target group; with several legs, that of the worst:
    /// [`TargetHealth::worst`].
    pub targets: TargetHealth,
    /// The limits of the service's scalable target; none: Application Auto Scaling has none for it.
    pub autoscaling: Option<Autoscaling>,
}

impl SideReading {
    /// Number of tasks that stopped by themselves, the listed ones included.
    #[must_use]
    pub fn failed(&self) -> u32 {
        self.failed_tasks.max(u32::try_from(self.failed_starts.len()).unwrap_or(u32::MAX))
    }
}

/// A workload whose versions replace one another in place, as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadReading {
    /// The version that it is set to run.
    pub version: String,
    /// The image of the policy's container in that version; only where images were requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Digest of the policy's container in that version, as the platform resolved it; none: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Number of tasks that it is set to run.
    pub desired: u32,
    /// Running tasks of that version.
    pub running: u32,
    /// Running or pending tasks of other versions.
    pub others: u32,
    /// How far the platform is with replacing what runs by that version.
    pub rollout: RolloutReading,
    /// Why the platform gave up on the queried version and set another one; none: it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gave_up: Option<String>,
    /// What only its tasks tell; only where they were requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<TasksReading>,
    /// Tasks of the queried version that stopped by themselves since the queried time: newest first, at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_starts: Vec<FailedStart>,
    /// Total number of such tasks, as far back as ECS remembers stopped tasks (about an hour).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_tasks: u32,
    /// How tasks are placed, as in [`SideReading::placed_by`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placed_by: Vec<String>,
    /// The newest event about a task that could not be placed, since the queried time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement_failure: Option<ServiceEvent>,
    /// Health of its targets, of the worst of its target groups; none: it is behind no load balancer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<TargetHealth>,
}

/// What the tasks of a workload tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TasksReading {
    /// Running tasks of the workload's version that are healthy: by their container health checks or, without one,
    /// because they have run for 40 s (ECS API reference, `DeploymentConfiguration`, `minimumHealthyPercent`).
    pub healthy: u32,
    /// Tasks of other versions that are protected: they are not stopped before they end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub protected: u32,
}

/// How far a platform is with replacing what runs by the version that a workload is set to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "rollout", rename_all = "snake_case")]
pub enum RolloutReading {
    /// It replaces, or keeps trying to.
    InProgress {
        /// Since when; none: unknown.
        since: Option<Timestamp>,
    },
    /// Everything is replaced.
    Complete,
    /// It has given up on this version, and starts no more tasks of it.
    Failed {
        /// The platform's explanation.
        reason: String,
    },
}

impl WorkloadReading {
    /// Number of tasks that stopped by themselves, the listed ones included.
    #[must_use]
    pub fn failed(&self) -> u32 {
        self.failed_tasks.max(u32::try_from(self.failed_starts.len()).unwrap_or(u32::MAX))
    }

    /// Healthy tasks of its version: of its tasks and its targets the smaller number; 0 where tasks were not read.
    #[must_use]
    pub fn healthy(&self) -> u32 {
        let tasks = self.tasks.as_ref().map_or(0, |tasks| tasks.healthy);
        self.targets.map_or(tasks, |targets| tasks.min(targets.healthy))
    }

    /// Whether everything that runs is of its version and healthy, and nothing is missing.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        let all_healthy = self.targets.is_none_or(|targets| targets.healthy >= targets.registered());
        self.rollout == RolloutReading::Complete
            && self.others == 0
            && self.running >= self.desired
            && self.healthy() >= self.desired
            && all_healthy
    }
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// A task that stopped by itself, soon after its start or later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedStart {
    /// ARN or id of the task.
    pub task: String,
    /// ECS's reason, including the containers' exit codes: `Essential container in task exited (api: exit code 1)`.
    pub reason: String,
    /// When it stopped.
    pub at: Timestamp,
}

/// An entry of a service's event list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceEvent {
    /// ECS's text.
    pub message: String,
    /// When ECS created the event.
    pub at: Timestamp,
}

/// Number of targets of a group per state (`DescribeTargetHealth`, `TargetHealth.State`).
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
    /// The health of a side that has a target group on each of several load balancers: of each state the number that
    /// is worst in any of them. It is healthy if every leg is, and has no healthy target if one leg has none. Never a
    /// sum: healthy targets behind one balancer serve nobody behind another. 0 of everything without any leg.
    #[must_use]
    pub fn worst(legs: impl IntoIterator<Item = Self>) -> Self {
        let worse = |a: Self, b: Self| Self {
            healthy: a.healthy.min(b.healthy),
            unhealthy: a.unhealthy.max(b.unhealthy),
            initial: a.initial.max(b.initial),
            draining: a.draining.max(b.draining),
            unused: a.unused.max(b.unused),
        };
        legs.into_iter().reduce(worse).unwrap_or_default()
    }

    /// Number of targets that are not draining.
    #[must_use]
    pub fn registered(&self) -> u32 {
        self.healthy + self.unhealthy + self.initial + self.unused
    }
}

/// How Application Auto Scaling may change a service's desired count.
///
/// Whether it may scale out is not included: a side under load may always grow, so Switchback never suspends scale-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Autoscaling {
    /// Minimum capacity: lowest desired count.
    pub min: u32,
    /// Maximum capacity: highest desired count.
    pub max: u32,
    /// Scale-in by alarms is suspended.
    pub scale_in_suspended: bool,
    /// Scheduled scaling, which changes the limits themselves, is suspended.
    pub scheduled_suspended: bool,
}

/// A listener rule as it was read: how it splits traffic between the two sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleReading {
    /// Live weights, 0 to 999 each; 0 where the group is not in the rule.
    pub weights: Weights,
    /// Both sides' target groups are in the rule's forward action.
    pub has_both_groups: bool,
    /// Target groups in the forward action that belong to neither side.
    pub foreign_groups: Vec<String>,
    /// How long a cookie binds a client to the target group that it was sent to first, whatever the weights; none: no
    /// cookie does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky_for: Option<Seconds>,
}

/// The weights of the two sides in a rule's forward action, 0 to 999 each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weights {
    /// Weight of blue's target group.
    pub blue: u16,
    /// Weight of green's target group.
    pub green: u16,
}

impl Weights {
    /// `share` for the side in `slot` and the rest for the other one; the weights sum to 100.
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

    /// The side that carries all traffic; none: both do, or neither.
    #[must_use]
    pub fn sole_side(self) -> Option<Slot> {
        match (self.blue, self.green) {
            (0, 0) => None,
            (_, 0) => Some(Slot::Blue),
            (0, _) => Some(Slot::Green),
            _ => None,
        }
    }

    /// The side to which all of these rules send all traffic; none: they disagree, or the weights of one are unknown.
    pub(crate) fn live_side(rules: impl IntoIterator<Item = Option<Self>>) -> Option<Slot> {
        let mut sides = rules.into_iter().map(|weights| weights.and_then(Self::sole_side));
        let first = sides.next()??;
        sides.all(|side| side == Some(first)).then_some(first)
    }

    /// Whether both split traffic in the same proportion, whatever the numbers (1/0 and 100/0 are the same).
    #[must_use]
    pub fn same_split(self, other: Self) -> bool {
        u32::from(self.blue) * u32::from(other.green) == u32::from(self.green) * u32::from(other.blue)
            && (self.blue > 0) == (other.blue > 0)
            && (self.green > 0) == (other.green > 0)
    }
}

/// The state of an alarm: metric, composite or log alarm.
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
    /// A state other than `ALARM` that is not the result of evaluating all the data (`EvaluationState`). It counts as
    /// no data, whatever the state says; unlike the silence of an idle side it is always a problem.
    NotEvaluated {
        /// `EvaluationState` and `StateReason`: `EVALUATION_ERROR: …`.
        reason: String,
    },
    /// CloudWatch has no alarm of that name.
    Absent,
}

/// The state of a hook's task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TaskReading {
    /// Not stopped yet.
    Running,
    /// Stopped.
    Stopped {
        /// The named container's exit code; none: the container never ran.
        exit_code: Option<i32>,
        /// ECS's reason.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_as_healthy_as_its_worst_leg() {
        let healthy = |healthy| TargetHealth { healthy, ..TargetHealth::default() };
        let starting = TargetHealth { healthy: 1, initial: 3, ..TargetHealth::default() };
        assert_eq!(TargetHealth::worst([]), TargetHealth::default());
        assert_eq!(TargetHealth::worst([healthy(4), healthy(4)]), healthy(4));
        // Never the sum: 4 and 0 serve nobody behind the second balancer.
        assert_eq!(TargetHealth::worst([healthy(4), healthy(0)]), healthy(0));
        assert_eq!(TargetHealth::worst([healthy(4), starting]), starting);
        let unhealthy = TargetHealth { healthy: 3, unhealthy: 1, ..TargetHealth::default() };
        let worst = TargetHealth::worst([starting, unhealthy]);
        assert_eq!(worst, TargetHealth { healthy: 1, unhealthy: 1, initial: 3, draining: 0, unused: 0 });
        assert!(worst.healthy < worst.registered());
    }
}
