//! Alarm calls, and the evaluation of alarms.

use super::shapes::{
    AlarmDefinition, AlarmState, CloudWatchAlarm, Comparison, Evaluation, MetricAlarm, TreatMissing, WatchedMetric,
};
use crate::world::agenda::AgendaItem;
use crate::world::error::validation_error;
use crate::world::traffic::TrafficSums;
use crate::world::{ApiError, ApiResult, World, WorldEventKind};
use jiff::Timestamp;
use rollout::alarm::rule::AlarmRule;
use serde_json::json;

/// Maximum number of names in one `DescribeAlarms` call.
const MAX_NAMES_PER_CALL: usize = 100;

/// An alarm with its parsed rule.
#[derive(Debug, Clone)]
pub(in crate::world) struct EvaluatedAlarm {
    shape: CloudWatchAlarm,
    rule: Option<AlarmRule>,
    put: u32,
}

impl World {
    /// `PutMetricAlarm`. A new alarm is in INSUFFICIENT_DATA until its first evaluation.
    ///
    /// # Errors
    /// `ValidationError`, `LimitExceeded` never.
    pub fn put_metric_alarm(&mut self, alarm: MetricAlarm) -> ApiResult<()> {
        self.call("cloudwatch:PutMetricAlarm", self.detail(|| json!({"AlarmName": alarm.name})), |world| {
            if alarm.period_s == 0 || alarm.evaluation_periods == 0 || alarm.datapoints_to_alarm == 0 {
                return Err(validation_error("Period, EvaluationPeriods and DatapointsToAlarm must be positive"));
            }
            if alarm.datapoints_to_alarm > alarm.evaluation_periods {
                return Err(validation_error("DatapointsToAlarm must not be greater than EvaluationPeriods"));
            }
            let name = alarm.name.clone();
            let put = world.put_alarm(&name, AlarmDefinition::Metric(alarm), None);
            world.evaluate_next(&name, put);
            Ok(())
        })
    }

    /// `PutCompositeAlarm`
    ///
    /// # Errors
    /// `ValidationError` if the rule cannot be parsed, or names an alarm that does not exist.
    pub fn put_composite_alarm(&mut self, name: &str, rule: &str) -> ApiResult<()> {
        self.call(
            "cloudwatch:PutCompositeAlarm",
            self.detail(|| json!({"AlarmName": name, "AlarmRule": rule})),
            |world| {
                let read = AlarmRule::parse(rule).map_err(|words| validation_error(format!("AlarmRule: {words}")))?;
                if let Some(missing) = read.names().into_iter().find(|child| !world.alarms.contains_key(*child)) {
                    return Err(validation_error(format!("AlarmRule names '{missing}', which does not exist")));
                }
                world.put_alarm(name, AlarmDefinition::Composite { rule: rule.to_owned() }, Some(read));
                world.evaluate_composites();
                Ok(())
            },
        )
    }

    /// `PutLogAlarm`. The alarm is in INSUFFICIENT_DATA until its state is set.
    ///
    /// # Errors
    /// `LimitExceeded` never.
    pub fn put_log_alarm(&mut self, name: &str, query: &str) -> ApiResult<()> {
        self.call("cloudwatch:PutLogAlarm", self.detail(|| json!({"AlarmName": name, "QueryString": query})), |world| {
            world.put_alarm(name, AlarmDefinition::Log { query: query.to_owned() }, None);
            Ok(())
        })
    }

    /// From now on the alarm is evaluated only partially or not at all, for this reason; none: normally again, from its
    /// next evaluation on. CloudWatch does so by itself; there is no API call for it.
    ///
    /// # Errors
    /// `ResourceNotFound`
    pub fn set_evaluation(&mut self, name: &str, evaluation: Option<Evaluation>, reason: &str) -> ApiResult<()> {
        let now = self.now;
        let entry = self.alarms.get_mut(name);
        let entry = entry.ok_or_else(|| ApiError::new("ResourceNotFound", format!("Alarm '{name}' does not exist")))?;
        entry.shape.evaluation = evaluation;
        entry.shape.reason = reason.to_owned();
        entry.shape.state_updated_at = now;
        Ok(())
    }

    /// `DescribeAlarms` for these names, of every type; no names: all. Alarms that do not exist are left out.
    ///
    /// # Errors
    /// `ValidationError` for more than 100 names.
    pub fn describe_alarms(&mut self, names: &[String]) -> ApiResult<Vec<CloudWatchAlarm>> {
        self.call("cloudwatch:DescribeAlarms", self.detail(|| json!({"AlarmNames": names})), |world| {
            if names.len() > MAX_NAMES_PER_CALL {
                return Err(validation_error("AlarmNames must have at most 100 members"));
            }
            let wanted = |name: &String| names.is_empty() || names.contains(name);
            Ok(world.alarms.iter().filter(|(name, _)| wanted(name)).map(|(_, entry)| entry.shape.clone()).collect())
        })
    }

    /// Whether an alarm is in ALARM; not logged as a call.
    #[must_use]
    pub fn alarm_fires(&self, name: &str) -> bool {
        self.alarms.get(name).is_some_and(|entry| entry.shape.state == AlarmState::Alarm)
    }

    /// ARN of the single target group that a metric alarm watches; none: it watches several, or other alarms.
    #[must_use]
    pub fn group_of_alarm(&self, name: &str) -> Option<&str> {
        match &self.alarms.get(name)?.shape.kind {
            AlarmDefinition::Metric(alarm) => alarm.target_group.as_deref(),
            AlarmDefinition::Composite { .. } | AlarmDefinition::Log { .. } => None,
        }
    }

    /// `SetAlarmState`: holds until the alarm's next evaluation, as on AWS.
    ///
    /// # Errors
    /// `ResourceNotFound`
    pub fn set_alarm_state(&mut self, name: &str, state: AlarmState, reason: &str) -> ApiResult<()> {
        let detail = self.detail(|| json!({"AlarmName": name, "StateValue": state.as_str(), "StateReason": reason}));
        self.call("cloudwatch:SetAlarmState", detail, |world| {
            if !world.alarms.contains_key(name) {
                return Err(ApiError::new("ResourceNotFound", format!("Alarm '{name}' does not exist")));
            }
            world.set_state(name, state, || reason.to_owned());
            Ok(())
        })
    }

    /// `DeleteAlarms`
    ///
    /// # Errors
    /// `ResourceNotFound`: no alarm is deleted in that case.
    pub fn delete_alarms(&mut self, names: &[String]) -> ApiResult<()> {
        self.call("cloudwatch:DeleteAlarms", self.detail(|| json!({"AlarmNames": names})), |world| {
            if let Some(missing) = names.iter().find(|name| !world.alarms.contains_key(*name)) {
                return Err(ApiError::new("ResourceNotFound", format!("Alarm '{missing}' does not exist")));
            }
            for name in names {
                world.alarms.remove(name);
            }
            Ok(())
        })
    }

    fn put_alarm(&mut self, name: &str, kind: AlarmDefinition, rule: Option<AlarmRule>) -> u32 {
        let arn = self.arn("cloudwatch", &format!("alarm:{name}"));
        let now = self.now;
        let entry = self.alarms.entry(name.to_owned()).or_insert_with(|| EvaluatedAlarm {
            shape: CloudWatchAlarm {
                arn,
                name: name.to_owned(),
                kind: kind.clone(),
                state: AlarmState::InsufficientData,
                reason: "Unchecked: Initial alarm creation".to_owned(),
                evaluation: None,
                state_updated_at: now,
            },
            rule: None,
            put: 0,
        });
        entry.shape.kind = kind;
        entry.rule = rule;
        entry.put += 1;
        entry.put
    }

    /// Schedules the next evaluation, at the time when the data of the current period is visible.
    fn evaluate_next(&mut self, name: &str, put: u32) {
        let Some(AlarmDefinition::Metric(alarm)) = self.alarms.get(name).map(|entry| &entry.shape.kind) else { return };
        let period = i64::from(alarm.period_s) * 1000;
        let delay = i64::try_from(self.settings.timing.metric_delay_ms).unwrap_or(0);
        let visible = self.now.as_millisecond() - delay;
        let next = (visible.div_euclid(period) + 1) * period + delay;
        if let Ok(at) = Timestamp::from_millisecond(next) {
            self.at(at, AgendaItem::Evaluate { alarm: name.to_owned(), put });
        }
    }

    pub(in crate::world) fn evaluate(&mut self, name: &str, put: u32) {
        let Some(entry) = self.alarms.get(name).filter(|entry| entry.put == put) else { return };
        let AlarmDefinition::Metric(alarm) = &entry.shape.kind else { return };
        if matches!(entry.shape.evaluation, Some(Evaluation::Error | Evaluation::Failure)) {
            return self.evaluate_next(name, put);
        }
        let current = entry.shape.state;
        let delay = i64::try_from(self.settings.timing.metric_delay_ms).unwrap_or(0);
        let period = i64::from(alarm.period_s) * 1000;
        let end = (self.now.as_millisecond() - delay).div_euclid(period) * period;
        let points: Vec<Option<f64>> = (0..i64::from(alarm.evaluation_periods))
            .map(|back| self.point(alarm, end - (back + 1) * period, end - back * period))
            .collect();
        let state = next_state(alarm, &points, current);
        if state != current {
            let reason = words(alarm, &points);
            self.set_state(name, state, || reason);
        }
        self.evaluate_next(name, put);
    }

    fn point(&self, alarm: &MetricAlarm, from_ms: i64, to_ms: i64) -> Option<f64> {
        let mut sums = TrafficSums::default();
        let of_balancer = |group: &str| self.balancer_of_group(group) == Some(alarm.load_balancer.as_str());
        let groups: Vec<&String> = match &alarm.target_group {
            Some(group) => vec![group],
            None => self.groups.keys().filter(|group| of_balancer(group)).collect(),
        };
        for group in &groups {
            if let Some(history) = self.histories.get(*group) {
                let one = history.sums(from_ms, to_ms);
                sums.requests += one.requests;
                sums.errors += one.errors;
                sums.lost += one.lost;
                sums.latency_s += one.latency_s;
            }
        }
        let some = |value: f64| (value > 0.0).then_some(value);
        let hosts = || {
            let counts = groups.iter().filter_map(|group| self.host_counts(group));
            counts.reduce(|a, b| (a.0 + b.0, a.1 + b.1))
        };
        match alarm.metric {
            WatchedMetric::Target5xxCount => some(sums.errors),
            WatchedMetric::Target5xxPercent => some(sums.requests).map(|requests| 100.0 * sums.errors / requests),
            WatchedMetric::Elb5xxCount => some(sums.lost),
            WatchedMetric::RequestCount => some(sums.requests),
            WatchedMetric::TargetResponseTime => some(sums.requests).map(|requests| sums.latency_s / requests),
            WatchedMetric::HealthyHostCount => hosts().map(|counts| counts.0),
            WatchedMetric::UnhealthyHostCount => hosts().map(|counts| counts.1),
            WatchedMetric::Nothing => None,
        }
    }

    fn set_state(&mut self, name: &str, state: AlarmState, reason: impl FnOnce() -> String) {
        if self.change_state(name, state, reason) {
            self.evaluate_composites();
        }
    }

    fn change_state(&mut self, name: &str, state: AlarmState, reason: impl FnOnce() -> String) -> bool {
        let now = self.now;
        let Some(entry) = self.alarms.get_mut(name) else { return false };
        let before = entry.shape.state;
        if before == state {
            return false;
        }
        let reason = reason();
        entry.shape.state = state;
        entry.shape.reason = reason.clone();
        entry.shape.state_updated_at = now;
        let (arn, kind) = (entry.shape.arn.clone(), entry.shape.kind.clone());
        self.emit(WorldEventKind::Alarm { arn, name: name.to_owned(), before, now: state, reason, kind });
        true
    }

    /// Composites may name composites: repeats until nothing changes any more, at most once for each.
    fn evaluate_composites(&mut self) {
        for _ in 0..=self.alarms.len() {
            let state = |name: &str| self.alarms.get(name).map(|entry| entry.shape.state.in_rules());
            let changes: Vec<(String, AlarmState, String)> = self
                .alarms
                .iter()
                .filter_map(|(name, entry)| {
                    let rule = entry.rule.as_ref()?;
                    let now = if rule.holds(&state) { AlarmState::Alarm } else { AlarmState::Ok };
                    let AlarmDefinition::Composite { rule } = &entry.shape.kind else { return None };
                    let verb = if now == AlarmState::Alarm { "holds" } else { "does not hold" };
                    (now != entry.shape.state).then(|| (name.clone(), now, format!("the rule {rule} {verb}")))
                })
                .collect();
            if changes.is_empty() {
                return;
            }
            for (name, state, reason) in changes {
                self.change_state(&name, state, || reason);
            }
        }
    }
}

fn breaches(alarm: &MetricAlarm, value: f64) -> bool {
    match alarm.comparison {
        Comparison::Above => value > alarm.threshold,
        Comparison::AtLeast => value >= alarm.threshold,
        Comparison::Below => value < alarm.threshold,
        Comparison::AtMost => value <= alarm.threshold,
    }
}

/// Number of breaching, non-breaching and missing points; missing points count as the alarm's setting says, unless all
/// of them are missing.
fn counts(alarm: &MetricAlarm, points: &[Option<f64>]) -> (u32, u32, u32) {
    let (mut breaching, mut fine, mut missing) = (0u32, 0u32, 0u32);
    for point in points {
        match point {
            Some(value) if breaches(alarm, *value) => breaching += 1,
            Some(_) => fine += 1,
            None => missing += 1,
        }
    }
    if breaching + fine > 0 {
        match alarm.treat_missing {
            TreatMissing::Breaching => breaching += missing,
            TreatMissing::NotBreaching => fine += missing,
            TreatMissing::Missing | TreatMissing::Ignore => {}
        }
    }
    (breaching, fine, missing)
}

/// The state that the points (newest first) lead to. CloudWatch guide, "Configuring how CloudWatch alarms treat missing
/// data": missing points count as the setting says; with too few points for a decision the state is unchanged.
fn next_state(alarm: &MetricAlarm, points: &[Option<f64>], current: AlarmState) -> AlarmState {
    let (breaching, fine, _) = counts(alarm, points);
    if breaching + fine == 0 {
        return match alarm.treat_missing {
            TreatMissing::Missing => AlarmState::InsufficientData,
            TreatMissing::NotBreaching => AlarmState::Ok,
            TreatMissing::Breaching => AlarmState::Alarm,
            TreatMissing::Ignore => current,
        };
    }
    let to_ok = alarm.evaluation_periods - alarm.datapoints_to_alarm;
    if breaching >= alarm.datapoints_to_alarm {
        AlarmState::Alarm
    } else if fine > to_ok || current == AlarmState::InsufficientData {
        AlarmState::Ok
    } else {
        current
    }
}

/// The explanation of the resulting state.
fn words(alarm: &MetricAlarm, points: &[Option<f64>]) -> String {
    let (breaching, fine, missing) = counts(alarm, points);
    if breaching + fine == 0 {
        return format!("Insufficient Data: {missing} datapoints were unknown.");
    }
    let values: Vec<String> = points.iter().flatten().map(|value| format!("{value:.2}")).collect();
    format!(
        "Threshold Crossed: {breaching} out of the last {} datapoints [{}] were beyond the threshold ({}).",
        points.len(),
        values.join(", "),
        alarm.threshold
    )
}
