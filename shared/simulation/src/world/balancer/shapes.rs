//! The shapes of ELBv2's API. Its protocol is XML, so these are plain: a wire front writes them by hand.

use serde_json::Value;

/// An Application Load Balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadBalancer {
    /// ARN.
    pub arn: String,
    /// Name.
    pub name: String,
    /// `app/NAME/ID`: the `LoadBalancer` dimension of its metrics.
    pub dimension: String,
}

/// A listener with its default action.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// ARN.
    pub arn: String,
    /// ARN.
    pub load_balancer: String,
    /// 1 to 65535.
    pub port: u16,
    /// `HTTP` or `HTTPS`.
    pub protocol: String,
    /// What becomes of requests that no rule matches.
    pub default_actions: Vec<Action>,
}

/// A rule of a listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// ARN.
    pub arn: String,
    /// ARN.
    pub listener: String,
    /// 1 to 50000; none: the listener's default rule.
    pub priority: Option<u32>,
    /// As given: `[{"Field": "path-pattern", …}]`.
    pub conditions: Vec<Value>,
    /// What becomes of requests that match.
    pub actions: Vec<Action>,
}

/// One of the actions of a rule or listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// 1 to 50000; mandatory where there are several.
    pub order: Option<u32>,
    /// What it does.
    pub what: ActionKind,
}

impl Action {
    /// Forwards to these groups, without stickiness.
    #[must_use]
    pub fn forward<'a>(groups: impl IntoIterator<Item = (&'a str, i64)>) -> Self {
        let target_groups = groups
            .into_iter()
            .map(|(arn, weight)| WeightedGroup { arn: arn.to_owned(), weight: Some(weight) })
            .collect();
        Self { order: None, what: ActionKind::Forward(Forward { target_groups, stickiness: None }) }
    }
}

/// What an action does.
#[derive(Debug, Clone, PartialEq)]
pub enum ActionKind {
    /// `forward`. A front that is given the short form (`TargetGroupArn` alone) makes one group of it.
    Forward(Forward),
    /// Anything else (`authenticate-oidc`, `redirect`, `fixed-response`), kept as it came.
    Other {
        /// `Type`
        kind: String,
        /// The action's configuration, whole.
        config: Value,
    },
}

/// `ForwardConfig`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// 1 to 5 groups.
    pub target_groups: Vec<WeightedGroup>,
    /// `TargetGroupStickinessConfig`
    pub stickiness: Option<GroupStickiness>,
}

/// A target group in a forward action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightedGroup {
    /// ARN.
    pub arn: String,
    /// 0 to 999 in what is accepted; none is 1.
    pub weight: Option<i64>,
}

/// Stickiness of a rule: its cookie is `AWSALBTG`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupStickiness {
    /// Whether it is on.
    pub enabled: bool,
    /// 1 to 604800 seconds, where it is on.
    pub duration_seconds: Option<i64>,
}

/// A target group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetGroup {
    /// ARN.
    pub arn: String,
    /// Name.
    pub name: String,
    /// `targetgroup/NAME/ID`: the `TargetGroup` dimension of its metrics.
    pub dimension: String,
    /// Balancers whose rules it is in: none or one.
    pub load_balancers: Vec<String>,
    /// How it checks and drains.
    pub settings: GroupSettings,
}

/// How a target group checks and drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSettings {
    /// Seconds between two health checks.
    pub health_check_interval_s: u32,
    /// Checks in a row until a target is healthy.
    pub healthy_threshold: u32,
    /// Failed checks in a row until a target is unhealthy.
    pub unhealthy_threshold: u32,
    /// `deregistration_delay.timeout_seconds`
    pub deregistration_delay_s: u32,
    /// `stickiness.enabled`: of the targets, not of the groups.
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

/// A target, as it is registered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId {
    /// Address.
    pub id: String,
    /// Port.
    pub port: u16,
}

/// `TargetHealthDescription`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetHealth {
    /// Which target.
    pub target: TargetId,
    /// Its state.
    pub state: HealthState,
    /// `Elb.RegistrationInProgress`, `Target.FailedHealthChecks`, `Target.NotInUse`, …; none where healthy.
    pub reason: Option<&'static str>,
    /// ELB's words.
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
    /// As the API writes it.
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
