//! CloudWatch alarms: metric alarms on the traffic, composite alarms on other alarms, and log alarms whose state is set
//! by hand.

mod evaluate;
mod shapes;

pub(super) use evaluate::AlarmEntry;
pub use shapes::{Alarm, AlarmKind, AlarmState, Comparison, Evaluation, Metric, MetricAlarm, TreatMissing};
