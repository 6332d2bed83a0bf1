//! Alarms by name: state of metric, composite and log alarms, and which side of a target each observes.

use super::{AwsCloud, count, instant};
use crate::error::{AwsFailure, one_line};
use aws_sdk_cloudwatch::operation::describe_alarms::DescribeAlarmsOutput;
use aws_sdk_cloudwatch::types::{
    AlarmType, CompositeAlarm, EvaluationState, LogAlarm, MetricAlarm, ScheduledQueryConfiguration, StateValue,
};
use aws_smithy_types::DateTime;
use futures::future::try_join_all;
use rollout::alarm::{self, AlarmDetails, AlarmKind, AlarmsByName, MAX_DEPTH, Metric, MetricAlarmDetails};
use rollout::snapshot::AlarmReading;
use rollout::{Slot, TargetResources, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Names per call that `DescribeAlarms` accepts and returns (its default is 50).
const MAX_NAMES_PER_CALL: usize = 100;
/// Maximum number of members of composite alarms that are read; a composite alarm over more observes an unknown side.
const MAX_CHILDREN: usize = 300;

/// Alarms as read in one observation.
#[derive(Debug, Default)]
pub(super) struct AlarmsRead {
    /// By name; an alarm that CloudWatch does not have is [`AlarmReading::Absent`].
    pub(super) readings: BTreeMap<String, AlarmReading>,
    /// Observed side by alarm name, for alarms that observe exactly one side.
    pub(super) sides: BTreeMap<String, Slot>,
}

/// One alarm of a `DescribeAlarms` response.
pub(super) struct DescribedAlarm {
    pub(super) name: String,
    pub(super) seen: AlarmDetails,
    /// Time of the last state update.
    updated_at: Option<Timestamp>,
}

impl AwsCloud {
    /// State of the named alarms, and which side of the target they observe: one call per hundred names, in parallel.
    /// Members of composite alarms are read by the same calls once they are known; a process that sees a composite
    /// alarm for the first time makes one more call (and one more per level of nested composite alarms).
    pub(super) async fn alarms(
        &self,
        resources: &TargetResources,
        names: &BTreeSet<String>,
    ) -> Result<AlarmsRead, AwsFailure> {
        if names.is_empty() {
            return Ok(AlarmsRead::default());
        }
        let mut asked = names.clone();
        asked.extend(self.read_cache.children_of(names));
        let mut known = self.read_alarms(&asked).await?;
        for _ in 0..MAX_DEPTH {
            let further: BTreeSet<String> = alarm::children(known.values()).difference(&asked).cloned().collect();
            if further.is_empty() || asked.len() + further.len() > names.len() + MAX_CHILDREN {
                break;
            }
            match self.read_cache.note_throttling(self.read_alarms(&further).await) {
                Ok(found) => known.extend(found),
                // The named alarms' own states are known, and must not wait for their members.
                Err(_) => break,
            }
            asked.extend(further);
        }
        for name in names {
            self.read_cache.put_children(name, composite_members(name, &known));
        }
        let side = |name: &String| Some((name.clone(), alarm::side(resources, name, &known)?));
        Ok(AlarmsRead {
            readings: names.iter().map(|name| (name.clone(), alarm::reading(name, &known))).collect(),
            sides: names.iter().filter_map(side).collect(),
        })
    }

    /// Those of the named alarms that exist.
    async fn read_alarms(&self, names: &BTreeSet<String>) -> Result<AlarmsByName, AwsFailure> {
        let names: Vec<_> = names.iter().cloned().collect();
        let found =
            try_join_all(names.chunks(MAX_NAMES_PER_CALL).map(|chunk| Box::pin(self.describe_alarms(chunk)))).await?;
        let mut known = AlarmsByName::new();
        for DescribedAlarm { name, seen, updated_at } in found.into_iter().flatten() {
            match updated_at.filter(|_| seen.state == StateValue::Alarm.as_str()) {
                Some(at) => self.read_cache.firing.put(&name, at),
                None => self.read_cache.firing.forget(&name),
            }
            known.insert(name, seen);
        }
        Ok(known)
    }

    /// The named alarms of every type, at most [`MAX_NAMES_PER_CALL`].
    pub(super) async fn describe_alarms(&self, names: &[String]) -> Result<Vec<DescribedAlarm>, AwsFailure> {
        // The response contains metric alarms only unless other types are requested (API reference, DescribeAlarms,
        // `AlarmTypes`).
        let answer = self
            .clients
            .cloudwatch()
            .await
            .describe_alarms()
            .set_alarm_names(Some(names.to_vec()))
            .alarm_types(AlarmType::MetricAlarm)
            .alarm_types(AlarmType::CompositeAlarm)
            .alarm_types(AlarmType::LogAlarm)
            .max_records(i32::try_from(MAX_NAMES_PER_CALL).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|error| AwsFailure::of("DescribeAlarms", &error))?;
        if answer.next_token().is_some_and(|token| !token.is_empty()) {
            // Cannot happen, since names are unique; if it does, a firing alarm may be on the page that was not read.
            return Err(AwsFailure::Unsure { reason: "DescribeAlarms: more alarms than names were found".to_owned() });
        }
        Ok(described(&answer))
    }
}

/// All members named in a composite alarm's rule, recursively.
fn composite_members(name: &str, known: &AlarmsByName) -> BTreeSet<String> {
    let mut composite_members = alarm::children(known.get(name));
    for _ in 0..MAX_DEPTH {
        let further = alarm::children(composite_members.iter().filter_map(|name| known.get(name)));
        if further.is_subset(&composite_members) {
            break;
        }
        composite_members.extend(further);
    }
    composite_members
}

fn described(answer: &DescribeAlarmsOutput) -> Vec<DescribedAlarm> {
    let metric = answer.metric_alarms().iter().filter_map(metric_alarm);
    let composite = answer.composite_alarms().iter().filter_map(composite_alarm);
    let log = answer.log_alarms().iter().filter_map(log_alarm);
    metric.chain(composite).chain(log).collect()
}

/// Builds a [`DescribedAlarm`] from the fields that all alarm types share; `None` where the response lacks the name.
fn alarm(
    name: Option<&str>,
    (state, reason): (Option<&StateValue>, Option<&str>),
    evaluation: Option<&EvaluationState>,
    updated_at: Option<&DateTime>,
    kind: AlarmKind,
) -> Option<DescribedAlarm> {
    let seen = AlarmDetails {
        state: state.map_or_else(String::new, |it| it.as_str().to_owned()),
        reason: one_line(reason.unwrap_or_default()),
        evaluation: evaluation.map(|it| it.as_str().to_owned()).filter(|it| !it.is_empty()),
        kind,
    };
    Some(DescribedAlarm { name: name?.to_owned(), seen, updated_at: instant(updated_at) })
}

fn metric_alarm(it: &MetricAlarm) -> Option<DescribedAlarm> {
    let state_and_reason = (it.state_value(), it.state_reason());
    let kind = AlarmKind::Metric(metric_seen(it));
    alarm(it.alarm_name(), state_and_reason, it.evaluation_state(), it.state_updated_timestamp(), kind)
}

fn composite_alarm(it: &CompositeAlarm) -> Option<DescribedAlarm> {
    let state_and_reason = (it.state_value(), it.state_reason());
    let kind = AlarmKind::Composite { rule: it.alarm_rule().unwrap_or_default().to_owned() };
    alarm(it.alarm_name(), state_and_reason, None, it.state_updated_timestamp(), kind)
}

fn log_alarm(it: &LogAlarm) -> Option<DescribedAlarm> {
    let state_and_reason = (it.state_value(), it.state_reason());
    let schedule = it.scheduled_query_configuration().and_then(ScheduledQueryConfiguration::schedule_configuration);
    let kind = AlarmKind::Log {
        period_s: schedule.and_then(|it| it.schedule_expression()).map_or(0, rate_seconds),
        results: it.query_results_to_alarm().or(it.query_results_to_evaluate()).map_or(1, count),
    };
    alarm(it.alarm_name(), state_and_reason, it.evaluation_state(), it.state_updated_timestamp(), kind)
}

/// Period of `rate(5 minutes)` in seconds; 0 where the expression is not a rate.
fn rate_seconds(expression: &str) -> u32 {
    let inside = expression.strip_prefix("rate(").and_then(|rest| rest.strip_suffix(')'));
    let (number, unit) = inside.and_then(|rest| rest.trim().split_once(' ')).unwrap_or_default();
    let unit_s = match unit.trim() {
        "minute" | "minutes" => 60,
        "hour" | "hours" => 3600,
        "day" | "days" => 86_400,
        _ => 0,
    };
    number.parse::<u32>().map_or(0, |number| number.saturating_mul(unit_s))
}

fn metric_seen(alarm: &MetricAlarm) -> MetricAlarmDetails {
    type Named<'a> = &'a [aws_sdk_cloudwatch::types::Dimension];
    let dimensions = |named: Named<'_>| -> BTreeMap<String, String> {
        named.iter().filter_map(|it| Some((it.name()?.to_owned(), it.value()?.to_owned()))).collect()
    };
    let metric = |namespace: Option<&str>, name: Option<&str>, named: Named<'_>| {
        Some(Metric { namespace: namespace?.to_owned(), name: name?.to_owned(), dimensions: dimensions(named) })
    };
    let mut metrics: Vec<Metric> =
        metric(alarm.namespace(), alarm.metric_name(), alarm.dimensions()).into_iter().collect();
    let mut period = alarm.period();
    let mut expressions = Vec::new();
    for query in alarm.metrics() {
        if let Some(stat) = query.metric_stat() {
            period = period.max(stat.period());
            let it = stat.metric();
            metrics.extend(it.and_then(|it| metric(it.namespace(), it.metric_name(), it.dimensions())));
        }
        period = period.max(query.period());
        expressions.extend(query.expression().map(str::to_owned));
    }
    MetricAlarmDetails {
        metrics,
        expressions,
        period_s: period.map_or(0, count),
        datapoints: alarm.datapoints_to_alarm().or(alarm.evaluation_periods()).map_or(1, count),
        threshold: alarm.threshold(),
        comparison: alarm.comparison_operator().map_or_else(String::new, |it| it.as_str().to_owned()),
        treat_missing: alarm.treat_missing_data().unwrap_or("missing").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(alarm: MetricAlarm) -> AlarmReading {
        metric_alarm(&alarm).expect("it has a name").seen.reading()
    }

    #[test]
    fn only_the_ok_state_is_ok() {
        let alarm = || MetricAlarm::builder().alarm_name("api-5xx");
        assert_eq!(reading(alarm().state_value(StateValue::Ok).build()), AlarmReading::Ok);
        let reason = "Threshold Crossed: 1 datapoint [7.0] was greater than 1.0";
        let firing = AlarmReading::Firing { reason: reason.to_owned() };
        assert_eq!(reading(alarm().state_value(StateValue::Alarm).state_reason(reason).build()), firing);
        assert_eq!(reading(alarm().state_value(StateValue::InsufficientData).build()), AlarmReading::NoData);
        assert_eq!(reading(alarm().build()), AlarmReading::NoData);
    }

    /// CloudWatch user guide, "Alarm evaluation", and API reference, `MetricAlarm`: `EvaluationState` is separate from
    /// the state, and an alarm may have any state beside it. The SDK does not know `IN_WARM_UP` and later values; they
    /// carry no information.
    #[test]
    fn an_alarm_that_is_not_evaluated_is_not_ok() {
        let states = ["EVALUATION_ERROR", "EVALUATION_FAILURE", "PARTIAL_DATA", "IN_WARM_UP"];
        for evaluation in states.map(EvaluationState::from) {
            let alarm = |state: StateValue| {
                let alarm = MetricAlarm::builder().alarm_name("api-5xx").evaluation_state(evaluation.clone());
                reading(alarm.state_value(state).state_reason("the role may not read").build())
            };
            let words = format!("{}: the role may not read", evaluation.as_str());
            assert_eq!(alarm(StateValue::Ok), AlarmReading::NotEvaluated { reason: words });
            assert!(matches!(alarm(StateValue::Alarm), AlarmReading::Firing { .. }), "{evaluation:?}");
        }
    }

    #[test]
    fn log_alarms_are_read_like_other_alarms() {
        let schedule =
            aws_sdk_cloudwatch::types::ScheduleConfiguration::builder().schedule_expression("rate(5 minutes)");
        let query = ScheduledQueryConfiguration::builder().schedule_configuration(schedule.build()).build();
        let alarm = LogAlarm::builder().alarm_name("log").state_value(StateValue::Ok).query_results_to_alarm(2);
        let answer = DescribeAlarmsOutput::builder().log_alarms(alarm.scheduled_query_configuration(query).build());
        let found = described(&answer.build());
        let [DescribedAlarm { name, seen, .. }] = found.as_slice() else { panic!("one alarm") };
        assert_eq!((name.as_str(), seen.reading()), ("log", AlarmReading::Ok));
        assert_eq!(seen.kind, AlarmKind::Log { period_s: 300, results: 2 });
        assert_eq!(rate_seconds("cron(0/5 * * * ? *)"), 0);
    }
}
