//! What was read of an account, in the words of AWS's own APIs. Kept by nobody: it is judged and forgotten.

pub use crate::alarm::{AlarmKind, AlarmSeen, Metric, MetricSeen};
use crate::names::Slot;
use crate::snapshot::Reading;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// All that was read for one target.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspected {
    /// The blue side.
    pub blue: SideSeen,
    /// The green side.
    pub green: SideSeen,
    /// The rules and listeners of the policy, its test rule included, by ARN.
    pub rules: BTreeMap<String, Reading<RuleSeen>>,
    /// Every other rule and listener of the pair's balancers that forwards to a target group of the pair, by ARN.
    pub others: Reading<BTreeMap<String, RuleSeen>>,
    /// Alarms by name, and those that composite ones are made of; one that CloudWatch does not know is not there.
    pub alarms: Reading<BTreeMap<String, AlarmSeen>>,
    /// The service's repository; none: there is no such repository.
    pub repository: Reading<Option<RepositorySeen>>,
    /// Functions that may run at once in the account, beside those that have concurrency of their own.
    pub concurrency: Reading<u32>,
    /// What Fargate has for the account in this Region; none: CloudWatch counts none, since nothing runs there.
    pub fargate: Reading<Option<FargateSeen>>,
    /// The same of Fargate Spot, which has a quota of its own.
    pub fargate_spot: Reading<Option<FargateSeen>>,
    /// What the control plane's own roles are narrowed to; none: that is not known here.
    pub reach: Option<Reach>,
}

impl Inspected {
    /// The side in `slot`.
    #[must_use]
    pub fn side(&self, slot: Slot) -> &SideSeen {
        match slot {
            Slot::Blue => &self.blue,
            Slot::Green => &self.green,
        }
    }
}

/// One side.
#[derive(Debug, Clone, PartialEq)]
pub struct SideSeen {
    /// The ECS service; none: there is none.
    pub service: Reading<Option<ServiceSeen>>,
    /// The task definition that it runs; none: there is no service to have one.
    pub definition: Reading<Option<DefinitionSeen>>,
    /// The target group; none: there is none.
    pub group: Reading<Option<GroupSeen>>,
    /// The scalable target; none: nobody scales the service.
    pub scaling: Reading<Option<ScalingSeen>>,
}

/// An ECS service (`DescribeServices`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSeen {
    /// `ACTIVE`, `DRAINING`, `INACTIVE`
    pub status: String,
    /// `ECS`, `CODE_DEPLOY`, `EXTERNAL`
    pub controller: String,
    /// `ROLLING`, `BLUE_GREEN`, `LINEAR`, `CANARY`
    pub strategy: String,
    /// `REPLICA`, `DAEMON`
    pub scheduling: String,
    /// The deployment circuit breaker is on.
    pub breaker: bool,
    /// ECS goes back by itself: its breaker, or alarms of its own.
    pub rolls_back: bool,
    /// Tasks that stay healthy during an update, in per cent of the desired count.
    pub minimum_percent: u32,
    /// Tasks that may run during an update, in per cent of the desired count.
    pub maximum_percent: u32,
    /// Target groups that its tasks register in, by ARN.
    pub groups: Vec<String>,
    /// Tasks wanted.
    pub desired: u32,
    /// Its tasks count against what the account may have of Fargate, On-Demand or Spot.
    pub on_fargate: bool,
    /// Ways to its tasks that no listener rule has a say in, as people call them: names in Service Connect, registries of Cloud
    /// Map, target groups of VPC Lattice.
    pub also_reached_by: BTreeSet<String>,
    /// Its capacity provider strategy; empty: it has a launch type.
    pub providers: Vec<ProviderSeen>,
}

/// One capacity provider of a service's strategy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderSeen {
    /// `FARGATE`, `FARGATE_SPOT`, or a name of one's own.
    pub name: String,
    /// So many tasks are placed by it first.
    pub base: u32,
    /// Its share of the rest.
    pub weight: u32,
}

impl ServiceSeen {
    /// How many of so many tasks are placed by Fargate: On-Demand, and Spot.
    #[must_use]
    pub fn tasks_on_fargate(&self, tasks: u32) -> [u32; 2] {
        if self.providers.is_empty() {
            return [if self.on_fargate { tasks } else { 0 }, 0];
        }
        let based: u32 = self.providers.iter().map(|provider| provider.base.min(tasks)).sum();
        let rest = tasks.saturating_sub(based);
        let weights: u32 = self.providers.iter().map(|provider| provider.weight).sum();
        ["FARGATE", "FARGATE_SPOT"].map(|name| {
            let of_it = self.providers.iter().filter(|provider| provider.name == name);
            let placed = of_it.map(|it| it.base.min(tasks) + (rest * it.weight).div_ceil(weights.max(1)));
            placed.sum()
        })
    }
}

/// A task definition (`DescribeTaskDefinition`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DefinitionSeen {
    /// Images by the names of their containers.
    pub images: BTreeMap<String, String>,
    /// ARNs of the task's own role and of the one that starts it, where it has them.
    pub roles: Vec<String>,
    /// CPU units of a task, 1024 to a vCPU; none: only its containers have some.
    pub cpu_units: Option<u32>,
}

/// A target group (`DescribeTargetGroups`, `DescribeTargetGroupAttributes`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupSeen {
    /// ARNs of the balancers whose rules it is in.
    pub balancers: Vec<String>,
    /// Seconds that a target that goes keeps its open requests.
    pub deregistration_delay_s: u32,
    /// Clients stay with one target.
    pub sticky: bool,
    /// Seconds between two health checks.
    pub check_interval_s: u32,
    /// Checks in a row until a target is healthy.
    pub healthy_threshold: u32,
    /// Failed checks in a row until a target is unhealthy.
    pub unhealthy_threshold: u32,
    /// What is asked for: `/healthz`; empty where the check is no request.
    pub check_path: String,
    /// Seconds in which the share of a new target grows to its full size (`slow_start.duration_seconds`); 0: at once.
    pub slow_start_s: u32,
    /// Every other attribute and property that both groups of a pair should agree on, by name: `load_balancing.algorithm.type`,
    /// `health check timeout`.
    pub others: BTreeMap<String, String>,
    /// Targets that are healthy now (`DescribeTargetHealth`).
    pub healthy: u32,
}

/// A scalable target (`DescribeScalableTargets`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScalingSeen {
    /// Lowest desired count.
    pub min: u32,
    /// Highest desired count.
    pub max: u32,
}

/// A rule, or a listener's default action (`DescribeRules`, `DescribeListeners`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleSeen {
    /// Target groups that it forwards to, by ARN, and their weights; empty where it forwards to none.
    pub groups: Vec<(String, u32)>,
    /// Clients stay with a target group for so many seconds; none: that is off.
    pub sticky_s: Option<u32>,
}

impl RuleSeen {
    /// The weight of a target group, if the rule forwards to it.
    #[must_use]
    pub fn weight(&self, group: &str) -> Option<u32> {
        self.groups.iter().find(|(arn, _)| arn == group).map(|(_, weight)| *weight)
    }
}

/// An ECR repository (`DescribeRepositories`).
#[derive(Debug, Clone, PartialEq)]
pub struct RepositorySeen {
    /// A tag, once pushed, names the same image for ever.
    pub immutable: bool,
    /// The tags of the images that were pushed last, the newest first.
    pub newest: Reading<Vec<TagSeen>>,
}

/// A tag of a repository (`DescribeImages`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagSeen {
    /// The tag.
    pub tag: String,
    /// The service's rule takes it. Patterns are nothing for this crate: the engine says so once all is read.
    pub taken: bool,
}

/// vCPUs of Fargate, On-Demand or Spot, in the account and Region (ECS developer guide, "AWS Fargate usage metrics").
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FargateSeen {
    /// So many may run at once.
    pub quota: f64,
    /// So many ran in the last minutes, at most.
    pub used: f64,
}

/// What the roles of the control plane are narrowed to: beginnings of names, empty for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reach {
    /// Of ECS clusters.
    pub clusters: String,
    /// Of load balancers.
    pub load_balancers: String,
    /// Of ECR repositories.
    pub repositories: String,
    /// Of roles that tasks have: path, without the first slash, and name.
    pub task_roles: String,
    /// Of functions that are hooks.
    pub hooks: String,
    /// Of SNS topics.
    pub topics: String,
}
