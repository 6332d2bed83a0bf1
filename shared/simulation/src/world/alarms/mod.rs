//! CloudWatch alarms: metric alarms over the traffic, composite ones over other alarms, and log alarms that are set by hand.

mod evaluate;
mod shapes;

pub(super) use evaluate::AlarmEntry;
pub use shapes::{Alarm, AlarmKind, AlarmState, Comparison, Evaluation, Metric, MetricAlarm, TreatMissing};
