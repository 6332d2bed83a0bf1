//! Data types of ELBv2's API. Its protocol is XML, so they derive no serialisation: a wire front writes them by hand.

use serde_json::Value;

/// An Application Load Balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadBalancer {
    /// ARN of the load balancer.
    pub arn: String,
    /// Name, unique in the account and Region.
    pub name: String,
    /// `app/NAME/ID`: the `LoadBalancer` dimension of its metrics.
    pub dimension: String,
}

/// A listener with its default action.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// ARN of the listener.
    pub arn: String,
    /// ARN of its load balancer.
    pub load_balancer: String,
    /// 1 to 65535.
    pub port: u16,
    /// `HTTP` or `HTTPS`.
    pub protocol: String,
    /// Actions for requests that match no rule.
    pub default_actions: Vec<ListenerAction>,
}

/// A rule of a listener.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerRule {
    /// ARN of the rule.
    pub arn: String,
    /// ARN of its listener.
    pub listener: String,
    /// 1 to 50000; none: the listener's default rule.
    pub priority: Option<u32>,
    /// As given: `[{"Field": "path-pattern", …}]`.
    pub conditions: Vec<Value>,
    /// Actions for requests that match.
    pub actions: Vec<ListenerAction>,
}

/// One of the actions of a rule or listener.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerAction {
    /// 1 to 50000; required if there are several actions.
    pub order: Option<u32>,
    /// Type and configuration.
    pub what: ActionKind,
}

impl ListenerAction {
    /// A forward action to these groups and weights, without stickiness.
    #[must_use]
    pub fn forward<'a>(groups: impl IntoIterator<Item = (&'a str, i64)>) -> Self {
        let target_groups = groups
            .into_iter()
            .map(|(arn, weight)| WeightedGroup { arn: arn.to_owned(), weight: Some(weight) })
            .collect();
        Self { order: None, what: ActionKind::Forward(ForwardActionConfig { target_groups, stickiness: None }) }
    }
}

/// Type of an action.
#[derive(Debug, Clone, PartialEq)]
pub enum ActionKind {
    /// `forward`. A wire front turns the short form (`TargetGroupArn` alone) into a list with one group.
    Forward(ForwardActionConfig),
    /// Any other type (`authenticate-oidc`, `redirect`, `fixed-response`), kept as given.
    Other {
        /// `Type`
        kind: String,
        /// The action's complete configuration.
        config: Value,
    },
}

/// `ForwardConfig`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardActionConfig {
    /// 1 to 5 groups.
    pub target_groups: Vec<WeightedGroup>,
    /// `TargetGroupStickinessConfig`
    pub stickiness: Option<GroupStickiness>,
}

/// A target group in a forward action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightedGroup {
    /// ARN of the target group.
    pub arn: String,
    /// 0 to 999; none counts as 1.
    pub weight: Option<i64>,
}

/// Target group stickiness of a rule, with the cookie `AWSALBTG`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupStickiness {
    /// Whether stickiness is on.
    pub enabled: bool,
    /// 1 to 604800 seconds; required if stickiness is on.
    pub duration_seconds: Option<i64>,
}

/// A target group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetGroup {
    /// ARN of the target group.
    pub arn: String,
    /// Name, unique in the account and Region.
    pub name: String,
    /// `targetgroup/NAME/ID`: the `TargetGroup` dimension of its metrics.
    pub dimension: String,
    /// ARNs of balancers whose rules forward to it: none or one.
    pub load_balancers: Vec<String>,
    /// Health check, draining and stickiness settings.
    pub settings: GroupSettings,
}

/// Health check, draining and stickiness settings of a target group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSettings {
    /// Interval between two health checks, in seconds.
    pub health_check_interval_s: u32,
    /// Consecutive successful checks until a target is healthy.
    pub healthy_threshold: u32,
    /// Consecutive failed checks until a target is unhealthy.
    pub unhealthy_threshold: u32,
    /// `deregistration_delay.timeout_seconds`
    pub deregistration_delay_s: u32,
    /// `stickiness.enabled`: stickiness to a target, not to a group.
    pub stickiness: bool,
    /// `Port`
    pub port: u16,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            health_check_interval_s: 5,
            healthy_threshold: 2,
            unhealthy_threshold: 2,
            deregistration_delay_s: 300,
            stickiness: false,
            port: 8080,
        }
    }
}

/// A target's address and port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ElbTarget {
    /// IP address.
    pub id: String,
    /// Port.
    pub port: u16,
}

/// `TargetHealthDescription`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetHealthDescription {
    /// Address and port.
    pub target: ElbTarget,
    /// Its state.
    pub state: HealthState,
    /// `Elb.RegistrationInProgress`, `Target.FailedHealthChecks`, `Target.NotInUse`, …; none where healthy.
    pub reason: Option<&'static str>,
    /// ELB's description.
    pub description: Option<&'static str>,
}

/// State of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HealthState {
    /// `initial`
    Initial,
    /// `healthy`
    Healthy,
    /// `unhealthy`
    Unhealthy,
    /// `draining`
    Draining,
    /// `unused`
    Unused,
}

impl HealthState {
    /// The API's text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Draining => "draining",
            Self::Unused => "unused",
        }
    }
}
