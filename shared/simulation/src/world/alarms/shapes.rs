//! Data types of CloudWatch's alarm API.

use jiff::Timestamp;
use rollout::alarm::rule::StateValue;

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
    /// The API's text for the state.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Alarm => "ALARM",
            Self::InsufficientData => "INSUFFICIENT_DATA",
        }
    }

    /// Parses the API's text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        StateValue::parse(text).map(|state| match state {
            StateValue::Ok => Self::Ok,
            StateValue::Alarm => Self::Alarm,
            StateValue::InsufficientData => Self::InsufficientData,
        })
    }

    /// The state as used in rules of composite alarms.
    #[must_use]
    pub fn in_rules(self) -> StateValue {
        match self {
            Self::Ok => StateValue::Ok,
            Self::Alarm => StateValue::Alarm,
            Self::InsufficientData => StateValue::InsufficientData,
        }
    }
}

/// `EvaluationState`: why an alarm's state does not result from an evaluation of all its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Evaluation {
    /// `PARTIAL_DATA`: the evaluation covers only a part of the metrics.
    PartialData,
    /// `EVALUATION_ERROR`: the alarm is misconfigured, and keeps its state.
    Error,
    /// `EVALUATION_FAILURE`: CloudWatch has an internal problem, and the alarm keeps its state.
    Failure,
}

impl Evaluation {
    /// The API's text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PartialData => "PARTIAL_DATA",
            Self::Error => "EVALUATION_ERROR",
            Self::Failure => "EVALUATION_FAILURE",
        }
    }
}

/// Metric that an alarm watches. As on AWS, a count of zero gives no data point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchedMetric {
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
    /// A metric without any source here: it never has data.
    Nothing,
}

impl WatchedMetric {
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
    /// The API's text.
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
    /// `missing`: INSUFFICIENT_DATA if all points are missing. AWS's default.
    Missing,
    /// `notBreaching`
    NotBreaching,
    /// `breaching`
    Breaching,
    /// `ignore`: the state is unchanged.
    Ignore,
}

impl TreatMissing {
    /// The API's text.
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
    /// The metric that is evaluated.
    pub metric: WatchedMetric,
    /// ARN of the load balancer: the `LoadBalancer` dimension.
    pub load_balancer: String,
    /// ARN of the target group: the `TargetGroup` dimension. None: the metric covers both sides.
    pub target_group: Option<String>,
    /// In seconds.
    pub period_s: u32,
    /// Number of points that are evaluated.
    pub evaluation_periods: u32,
    /// Number of breaching points required for ALARM.
    pub datapoints_to_alarm: u32,
    /// In the metric's unit.
    pub threshold: f64,
    /// How a point is compared with the threshold.
    pub comparison: Comparison,
    /// How missing points are treated.
    pub treat_missing: TreatMissing,
}

/// An alarm as `DescribeAlarms` returns it.
#[derive(Debug, Clone, PartialEq)]
pub struct CloudWatchAlarm {
    /// ARN.
    pub arn: String,
    /// Name.
    pub name: String,
    /// Metric, composite or log alarm, with its definition.
    pub kind: AlarmDefinition,
    /// `StateValue`
    pub state: AlarmState,
    /// `StateReason`
    pub reason: String,
    /// `EvaluationState`; none: evaluated normally.
    pub evaluation: Option<Evaluation>,
    /// `StateUpdatedTimestamp`
    pub state_updated_at: Timestamp,
}

/// What an alarm watches: a metric, other alarms or a log query.
#[derive(Debug, Clone, PartialEq)]
pub enum AlarmDefinition {
    /// On a metric.
    Metric(MetricAlarm),
    /// On other alarms: `ALARM("a") AND NOT OK("b")`.
    Composite {
        /// `AlarmRule`
        rule: String,
    },
    /// On a log query that runs every five minutes. Logs are not modelled: the state is set by hand.
    Log {
        /// `QueryString`
        query: String,
    },
}
