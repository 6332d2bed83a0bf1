//! CloudWatch alarms: metric alarms on the traffic, composite alarms on other alarms, and log alarms whose state is set
//! by hand.

mod evaluate;
mod shapes;

pub(super) use evaluate::EvaluatedAlarm;
pub use shapes::{
    AlarmDefinition, AlarmState, CloudWatchAlarm, Comparison, Evaluation, MetricAlarm, TreatMissing, WatchedMetric,
};
