//! The data that the doctor reads from an account, in AWS's own terms. Judged once and not stored.

pub use super::platforms::InspectedPlatform;
pub use crate::alarm::{AlarmDetails, AlarmKind, Metric, MetricAlarmDetails};

use crate::names::Slot;
use crate::snapshot::Reading;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Everything read for one target.
#[derive(Debug, Clone, PartialEq)]
pub struct InspectionResult {
    /// What runs the target.
    pub platform: InspectedPlatform,
    /// The newest active task definition of the family of templates; none: the family has no active one. Not asked for
    /// where the policy names no family.
    pub template: Reading<Option<InspectedTaskDefinition>>,
    /// Alarms by name, including the children of composite alarms; one that CloudWatch does not have is missing.
    pub alarms: Reading<BTreeMap<String, AlarmDetails>>,
    /// The service's repository; none: there is no such repository.
    pub repository: Reading<Option<InspectedRepository>>,
    /// The account's unreserved concurrency: functions that may run at once, besides those with reserved concurrency.
    pub concurrency: Reading<u32>,
    /// Fargate On-Demand usage of the account in this Region; none: CloudWatch has no data, since nothing runs there.
    pub fargate: Reading<Option<FargateUsage>>,
    /// Fargate Spot usage, which has a quota of its own.
    pub fargate_spot: Reading<Option<FargateUsage>>,
    /// The scope that the control plane's own roles are limited to; none: unknown here.
    pub iam_scope: Option<IamScope>,
}

/// Both sides of a pair, and its rules.
#[derive(Debug, Clone, PartialEq)]
pub struct InspectedPair {
    /// The blue side.
    pub blue: InspectedWorkload,
    /// The green side.
    pub green: InspectedWorkload,
    /// The rules and listeners of the policy, its test rule included, by ARN.
    pub rules: BTreeMap<String, Reading<InspectedRule>>,
    /// Every other rule and listener of the target's load balancers that forwards to one of its target groups, by ARN.
    pub others: Reading<BTreeMap<String, InspectedRule>>,
}

impl InspectedPair {
    /// The side in `slot`.
    #[must_use]
    pub fn side(&self, slot: Slot) -> &InspectedWorkload {
        match slot {
            Slot::Blue => &self.blue,
            Slot::Green => &self.green,
        }
    }
}

/// An ECS service with what belongs to it, as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct InspectedWorkload {
    /// The ECS service; none: it does not exist.
    pub service: Reading<Option<InspectedService>>,
    /// The task definition that the service runs; none: there is no service.
    pub definition: Reading<Option<InspectedTaskDefinition>>,
    /// Its target groups in the order of the policy, of a side leg by leg; none: the target group does not exist.
    pub groups: Vec<Reading<Option<InspectedTargetGroup>>>,
    /// The scalable target; none: the service has no autoscaling.
    pub scaling: Reading<Option<InspectedScaling>>,
}

impl InspectedWorkload {
    /// Number of healthy targets in the group of this leg; none: unknown.
    #[must_use]
    pub fn healthy_targets(&self, leg: usize) -> Option<u32> {
        match self.groups.get(leg) {
            Some(Reading::Known(Some(group))) => Some(group.healthy),
            _ => None,
        }
    }
}

/// An ECS service (`DescribeServices`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedService {
    /// `ACTIVE`, `DRAINING`, `INACTIVE`
    pub status: String,
    /// `ECS`, `CODE_DEPLOY`, `EXTERNAL`
    pub controller: String,
    /// `ROLLING`, `BLUE_GREEN`, `LINEAR`, `CANARY`
    pub strategy: String,
    /// `REPLICA`, `DAEMON`
    pub scheduling: String,
    /// The deployment circuit breaker is enabled.
    pub breaker: bool,
    /// ECS rolls back when its circuit breaker fails a deployment.
    pub breaker_rolls_back: bool,
    /// ECS rolls back when one of its own deployment alarms fires.
    pub alarms_roll_back: bool,
    /// `minimumHealthyPercent`, in per cent of the desired count.
    pub minimum_percent: u32,
    /// `maximumPercent`, in per cent of the desired count.
    pub maximum_percent: u32,
    /// ARNs of the target groups that its tasks register in.
    pub groups: Vec<String>,
    /// The containers and their ports that its tasks register with.
    pub registered_ports: BTreeSet<(String, u16)>,
    /// Desired count.
    pub desired: u32,
    /// Its tasks count against the account's Fargate quotas, On-Demand or Spot.
    pub on_fargate: bool,
    /// Endpoints that reach its tasks without a listener rule, as people name them: Service Connect names, Cloud Map
    /// registries, VPC Lattice target groups.
    pub other_endpoints: BTreeSet<String>,
    /// Its capacity provider strategy; empty: it has a launch type.
    pub providers: Vec<InspectedProvider>,
    /// Settings in which the services of a pair should agree, each with its value, by the name that people use:
    /// `subnets`, `security groups`, `health check grace period`.
    pub settings: BTreeMap<String, String>,
}

/// One capacity provider of a service's strategy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedProvider {
    /// `FARGATE`, `FARGATE_SPOT`, or the name of a custom provider.
    pub name: String,
    /// Number of tasks placed on it first.
    pub base: u32,
    /// Its share of the tasks beyond all bases.
    pub weight: u32,
}

impl InspectedService {
    /// Whether ECS rolls back by itself, because of its circuit breaker or its deployment alarms.
    #[must_use]
    pub fn ecs_rolls_back(&self) -> bool {
        self.breaker_rolls_back || self.alarms_roll_back
    }

    /// How many of `tasks` are placed on Fargate: On-Demand, then Spot.
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

/// The network mode of a task definition that sets none, on Linux (ECS API reference, `RegisterTaskDefinition`).
pub const DEFAULT_NETWORK_MODE: &str = "bridge";

/// First and last container port of a port mapping, given its `containerPort` or its `containerPortRange`
/// (`8000-8010`); none: neither is valid.
#[must_use]
pub fn mapped_ports(port: Option<i64>, range: Option<&str>) -> Option<(u16, u16)> {
    match range {
        Some(range) => {
            let (first, last) = range.split_once('-')?;
            Some((first.parse().ok()?, last.parse().ok()?))
        }
        None => u16::try_from(port?).ok().map(|port| (port, port)),
    }
}

/// A task definition (`DescribeTaskDefinition`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InspectedTaskDefinition {
    /// Containers that have an image, by name.
    pub containers: BTreeMap<String, InspectedContainer>,
    /// ARNs of the task role and the task execution role, where set.
    pub roles: Vec<String>,
    /// CPU units of a task, 1024 to a vCPU; none: set on its containers only.
    pub cpu_units: Option<u32>,
    /// `awsvpc`, `bridge`, `host`, `none`; [`DEFAULT_NETWORK_MODE`] where it is not set.
    pub network_mode: String,
    /// `requiresCompatibilities`: `FARGATE`, `EC2`, `EXTERNAL`; empty: not set.
    pub launch_types: BTreeSet<String>,
}

/// A container of a task definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedContainer {
    /// Its image.
    pub image: String,
    /// The task stops when it stops.
    pub essential: bool,
    /// It has a container health check. ECS does not run a `HEALTHCHECK` of the image itself (API reference,
    /// `HealthCheck`).
    pub health_check: bool,
    /// `stopTimeout`: seconds from SIGTERM to SIGKILL; none: not set.
    pub stop_timeout_s: Option<u32>,
    /// First and last container port of each of its port mappings.
    pub ports: Vec<(u16, u16)>,
}

impl InspectedContainer {
    /// Whether one of its port mappings has this container port.
    #[must_use]
    pub fn maps(&self, port: u16) -> bool {
        self.ports.iter().any(|(first, last)| (*first..=*last).contains(&port))
    }
}

/// A target group (`DescribeTargetGroups`, `DescribeTargetGroupAttributes`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InspectedTargetGroup {
    /// ARNs of the load balancers whose rules forward to it.
    pub balancers: Vec<String>,
    /// Seconds that a deregistering target keeps its open requests.
    pub deregistration_delay_s: u32,
    /// Stickiness is enabled: clients stay with one target.
    pub sticky: bool,
    /// Seconds between two health checks.
    pub check_interval_s: u32,
    /// Successful checks in a row until a target is healthy.
    pub healthy_threshold: u32,
    /// Failed checks in a row until a target is unhealthy.
    pub unhealthy_threshold: u32,
    /// Path of the health check: `/healthz`; empty where the check is not HTTP.
    pub check_path: String,
    /// Seconds in which a new target's share of requests grows to its full size (`slow_start.duration_seconds`); 0: at
    /// once.
    pub slow_start_s: u32,
    /// Every other attribute and property in which both target groups of a leg should agree, by name:
    /// `load_balancing.algorithm.type`, `health check timeout`.
    pub others: BTreeMap<String, String>,
    /// Number of healthy targets now (`DescribeTargetHealth`).
    pub healthy: u32,
}

/// A scalable target (`DescribeScalableTargets`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InspectedScaling {
    /// Minimum capacity: lowest desired count.
    pub min: u32,
    /// Maximum capacity: highest desired count.
    pub max: u32,
}

/// A rule, or a listener's default action (`DescribeRules`, `DescribeListeners`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InspectedRule {
    /// Target groups that it forwards to, by ARN, with their weights; empty where it does not forward.
    pub groups: Vec<(String, u32)>,
    /// Duration of target group stickiness in seconds; none: disabled.
    pub sticky_s: Option<u32>,
}

impl InspectedRule {
    /// The weight of a target group, if the rule forwards to it.
    #[must_use]
    pub fn weight(&self, group: &str) -> Option<u32> {
        self.groups.iter().find(|(arn, _)| arn == group).map(|(_, weight)| *weight)
    }
}

/// An ECR repository (`DescribeRepositories`).
#[derive(Debug, Clone, PartialEq)]
pub struct InspectedRepository {
    /// Tag immutability is enabled: a tag always names the same image.
    pub immutable: bool,
    /// Tags of the most recently pushed images, the newest first.
    pub newest: Reading<Vec<InspectedTag>>,
}

/// A tag of a repository (`DescribeImages`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedTag {
    /// The tag.
    pub tag: String,
    /// The service's tag rule matches it. Filled in by the engine after reading, since this crate does not match
    /// patterns.
    pub matches_rule: bool,
}

/// Fargate vCPUs, On-Demand or Spot, of the account in this Region (ECS developer guide, "AWS Fargate usage metrics").
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FargateUsage {
    /// vCPUs that may run at once.
    pub quota: f64,
    /// Peak number of running vCPUs over the last minutes.
    pub used: f64,
}

/// The name prefixes that the control plane's IAM roles are limited to; empty: all names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IamScope {
    /// Prefix of ECS cluster names.
    pub clusters: String,
    /// Prefix of load balancer names.
    pub load_balancers: String,
    /// Prefix of ECR repository names.
    pub repositories: String,
    /// Prefix of the roles that tasks have: path, without the first slash, and name.
    pub task_roles: String,
    /// Prefix of the names of hook functions.
    pub hooks: String,
    /// Prefix of SNS topic names.
    pub topics: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_mapping_has_one_port_or_a_range() {
        let cases = [
            (Some(8080), None, Some((8080, 8080))),
            (None, Some("8000-8010"), Some((8000, 8010))),
            (None, None, None),
            (Some(70_000), None, None),
            (None, Some("8000"), None),
            (None, Some("a-b"), None),
        ];
        for (port, range, expected) in cases {
            assert_eq!(mapped_ports(port, range), expected, "{port:?} {range:?}");
        }
    }
}
