//! Alarms, metric and composite, by name.

use super::{AwsCloud, instant};
use crate::error::{Failure, one_line};
use aws_sdk_cloudwatch::types::{AlarmType, StateValue};
use aws_smithy_types::DateTime;
use futures::future::try_join_all;
use rollout::snapshot::AlarmReading;
use std::collections::{BTreeMap, BTreeSet};

/// `DescribeAlarms` takes and gives at most this many a call (its default is 50).
const A_CALL: usize = 100;

/// A state as CloudWatch writes it; one that is not known here is no news.
fn reading(state: Option<&StateValue>, reason: Option<&str>) -> AlarmReading {
    match state {
        Some(StateValue::Ok) => AlarmReading::Ok,
        Some(StateValue::Alarm) => AlarmReading::Firing { reason: one_line(reason.unwrap_or("no reason given")) },
        _ => AlarmReading::NoData,
    }
}

impl AwsCloud {
    /// All alarms of these names: one call for each hundred of them, side by side.
    pub(super) async fn alarms(&self, names: &BTreeSet<String>) -> Result<BTreeMap<String, AlarmReading>, Failure> {
        let mut all: BTreeMap<_, _> = names.iter().map(|name| (name.clone(), AlarmReading::Absent)).collect();
        if names.is_empty() {
            return Ok(all);
        }
        let names: Vec<_> = names.iter().cloned().collect();
        let found = try_join_all(names.chunks(A_CALL).map(|chunk| self.alarms_of(chunk))).await?;
        all.extend(found.into_iter().flatten());
        Ok(all)
    }

    async fn alarms_of(&self, names: &[String]) -> Result<Vec<(String, AlarmReading)>, Failure> {
        // Composite alarms are left out of the answer unless they are asked for.
        let answer = self
            .clients
            .cloudwatch()
            .await
            .describe_alarms()
            .set_alarm_names(Some(names.to_vec()))
            .alarm_types(AlarmType::MetricAlarm)
            .alarm_types(AlarmType::CompositeAlarm)
            .max_records(i32::try_from(A_CALL).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|error| Failure::of("DescribeAlarms", &error))?;
        if answer.next_token().is_some_and(|token| !token.is_empty()) {
            // Names are unique, so this cannot be; if it is, an alarm that fires may be on the page not seen.
            return Err(Failure::Unsure { reason: "DescribeAlarms: more alarms than names were found".to_owned() });
        }
        let since = |name: Option<&str>, state: Option<&StateValue>, at: Option<&DateTime>| match (name, instant(at)) {
            (Some(name), Some(at)) if state == Some(&StateValue::Alarm) => self.memory.firing.put(name, at),
            (Some(name), _) => self.memory.firing.forget(name),
            (None, _) => {}
        };
        for alarm in answer.metric_alarms() {
            since(alarm.alarm_name(), alarm.state_value(), alarm.state_updated_timestamp());
        }
        for alarm in answer.composite_alarms() {
            since(alarm.alarm_name(), alarm.state_value(), alarm.state_updated_timestamp());
        }
        let metric = answer.metric_alarms().iter().filter_map(|alarm| {
            Some((alarm.alarm_name()?.to_owned(), reading(alarm.state_value(), alarm.state_reason())))
        });
        let composite = answer.composite_alarms().iter().filter_map(|alarm| {
            Some((alarm.alarm_name()?.to_owned(), reading(alarm.state_value(), alarm.state_reason())))
        });
        Ok(metric.chain(composite).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ok_is_ok() {
        assert_eq!(reading(Some(&StateValue::Ok), None), AlarmReading::Ok);
        let reason = "Threshold Crossed: 1 datapoint [7.0] was greater than 1.0";
        let firing = AlarmReading::Firing { reason: reason.to_owned() };
        assert_eq!(reading(Some(&StateValue::Alarm), Some(reason)), firing);
        assert_eq!(reading(Some(&StateValue::InsufficientData), None), AlarmReading::NoData);
        assert_eq!(reading(None, None), AlarmReading::NoData);
    }
}
