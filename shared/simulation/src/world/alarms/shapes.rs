//! The shapes of CloudWatch's alarms.

use jiff::Timestamp;
use rollout::alarm::rule::State;

/// `StateValue`
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmState {
    /// `OK`
    Ok,
    /// `ALARM`
    Alarm,
    /// `INSUFFICIENT_DATA`
    InsufficientData,
}

impl AlarmState {
    /// As the API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Alarm => "ALARM",
            Self::InsufficientData => "INSUFFICIENT_DATA",
        }
    }

    /// As the API writes it, read back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        State::parse(text).map(|state| match state {
            State::Ok => Self::Ok,
            State::Alarm => Self::Alarm,
            State::InsufficientData => Self::InsufficientData,
        })
    }

    /// The state as the rules of composite alarms name it.
    #[must_use]
    pub fn in_rules(self) -> State {
        match self {
            Self::Ok => State::Ok,
            Self::Alarm => State::Alarm,
            Self::InsufficientData => State::InsufficientData,
        }
    }
}

/// `EvaluationState`: why the state of an alarm is not what an evaluation of all its data came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Evaluation {
    /// `PARTIAL_DATA`: it is evaluated, on a part of the metrics.
    PartialData,
    /// `EVALUATION_ERROR`: it is set up wrong, and keeps the state that it has.
    Error,
    /// `EVALUATION_FAILURE`: CloudWatch has trouble of its own, and the alarm keeps the state that it has.
    Failure,
}

impl Evaluation {
    /// As the API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PartialData => "PARTIAL_DATA",
            Self::Error => "EVALUATION_ERROR",
            Self::Failure => "EVALUATION_FAILURE",
        }
    }
}

/// What an alarm looks at. As on AWS, a count that would be zero is no data point at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// `HTTPCode_Target_5XX_Count`, Sum.
    Target5xxCount,
    /// `100 * HTTPCode_Target_5XX_Count / RequestCount`, in per cent; no data without requests.
    Target5xxPercent,
    /// `HTTPCode_ELB_5XX_Count`, Sum: requests for which there was no target.
    Elb5xxCount,
    /// `RequestCount`, Sum.
    RequestCount,
    /// `TargetResponseTime`, Average, in seconds.
    TargetResponseTime,
    /// `HealthyHostCount`, Minimum.
    HealthyHostCount,
    /// `UnHealthyHostCount`, Maximum.
    UnhealthyHostCount,
    /// A metric that nothing here feeds: never any data.
    Nothing,
}

impl Metric {
    /// `MetricName`; for the percentage the name of its numerator.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Target5xxCount | Self::Target5xxPercent => "HTTPCode_Target_5XX_Count",
            Self::Elb5xxCount => "HTTPCode_ELB_5XX_Count",
            Self::RequestCount => "RequestCount",
            Self::TargetResponseTime => "TargetResponseTime",
            Self::HealthyHostCount => "HealthyHostCount",
            Self::UnhealthyHostCount => "UnHealthyHostCount",
            Self::Nothing => "Nothing",
        }
    }
}

/// `ComparisonOperator`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `GreaterThanThreshold`
    Above,
    /// `GreaterThanOrEqualToThreshold`
    AtLeast,
    /// `LessThanThreshold`
    Below,
    /// `LessThanOrEqualToThreshold`
    AtMost,
}

impl Comparison {
    /// As the API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Above => "GreaterThanThreshold",
            Self::AtLeast => "GreaterThanOrEqualToThreshold",
            Self::Below => "LessThanThreshold",
            Self::AtMost => "LessThanOrEqualToThreshold",
        }
    }
}

/// `TreatMissingData`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreatMissing {
    /// `missing`: nothing but missing points is INSUFFICIENT_DATA. AWS's default.
    Missing,
    /// `notBreaching`
    NotBreaching,
    /// `breaching`
    Breaching,
    /// `ignore`: the state stays.
    Ignore,
}

impl TreatMissing {
    /// As the API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::NotBreaching => "notBreaching",
            Self::Breaching => "breaching",
            Self::Ignore => "ignore",
        }
    }
}

/// `PutMetricAlarm`
#[derive(Debug, Clone, PartialEq)]
pub struct MetricAlarm {
    /// Name.
    pub name: String,
    /// What is looked at.
    pub metric: Metric,
    /// ARN of the load balancer: the `LoadBalancer` dimension.
    pub load_balancer: String,
    /// ARN of the target group: the `TargetGroup` dimension. None: both sides are seen together.
    pub target_group: Option<String>,
    /// Seconds.
    pub period_s: u32,
    /// Points that are looked at.
    pub evaluation_periods: u32,
    /// Points of them that must breach.
    pub datapoints_to_alarm: u32,
    /// In the metric's unit.
    pub threshold: f64,
    /// How a point is held against it.
    pub comparison: Comparison,
    /// What silence means.
    pub treat_missing: TreatMissing,
}

/// An alarm, as `DescribeAlarms` has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    /// ARN.
    pub arn: String,
    /// Name.
    pub name: String,
    /// What kind.
    pub kind: AlarmKind,
    /// `StateValue`
    pub state: AlarmState,
    /// `StateReason`
    pub reason: String,
    /// `EvaluationState`; none: it is evaluated.
    pub evaluation: Option<Evaluation>,
    /// `StateUpdatedTimestamp`
    pub state_updated_at: Timestamp,
}

/// Metric, composite or log.
#[derive(Debug, Clone, PartialEq)]
pub enum AlarmKind {
    /// Over a metric.
    Metric(MetricAlarm),
    /// Over other alarms: `ALARM("a") AND NOT OK("b")`.
    Composite {
        /// `AlarmRule`
        rule: String,
    },
    /// Over a query of logs, run every five minutes. Nothing here is logged: its state is set by hand.
    Log {
        /// `QueryString`
        query: String,
    },
}
