//! CloudWatch alarms: metric alarms over the traffic, and composite ones over other alarms.

mod evaluate;
mod rule;
mod shapes;

pub(super) use evaluate::AlarmEntry;
pub use shapes::{Alarm, AlarmKind, AlarmState, Comparison, Metric, MetricAlarm, TreatMissing};
