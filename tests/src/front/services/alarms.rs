//! CloudWatch (Smithy RPC v2 CBOR, `GraniteServiceVersion20100801`): alarms: metric, composite and log.

use super::OperationResult;
use super::input::{list, number, page, text, texts};
use crate::front::protocol::AwsError;
use serde_json::{Map, Value, json};
use simulation::world::alarms::{AlarmDefinition, AlarmState, CloudWatchAlarm, MetricAlarm, WatchedMetric};
use simulation::world::{ApiError, World};

/// The most names in one `DescribeAlarms` (API reference).
const MAX_ALARM_NAMES: usize = 100;
/// The largest page (API reference, `MaxRecords`).
const MAX_PAGE_SIZE: usize = 100;
/// Where balancers put their metrics.
const NAMESPACE: &str = "AWS/ApplicationELB";
/// The page where none is asked for.
const DEFAULT_PAGE_SIZE: usize = 50;

pub(super) fn perform(world: &mut World, operation: &str, input: &Value) -> Option<OperationResult> {
    Some(match operation {
        "DescribeAlarms" => describe_alarms(world, input),
        "GetMetricData" => fargate_usage_metrics(world, input),
        "SetAlarmState" => set_alarm_state(world, input),
        _ => return None,
    })
}

/// The world has one metric that can be read: what Fargate counts, On-Demand or Spot, and its quota.
fn fargate_usage_metrics(world: &mut World, input: &Value) -> OperationResult {
    let [on_demand, spot] = world.fargate_usage().map_err(refused)?;
    let results: Result<Vec<Value>, AwsError> = list(input, "MetricDataQueries")
        .iter()
        .map(|query| {
            let metric = &query["MetricStat"]["Metric"];
            let value = match (query["Expression"].as_str(), metric["Namespace"].as_str(), metric["MetricName"].as_str()) {
                (Some("SERVICE_QUOTA(used)"), _, _) => on_demand.quota,
                (Some("SERVICE_QUOTA(used_spot)"), _, _) => spot.quota,
                (None, Some("AWS/Usage"), Some("ResourceCount")) => {
                    let dimensions = list(metric, "Dimensions");
                    let is_spot = dimensions.iter().any(|it| it["Value"].as_str() == Some("Standard/Spot"));
                    if is_spot { spot.used } else { on_demand.used }
                }
                _ => return Err(AwsError::new(501, "NotModelled", format!("the world has no metric {query}"))),
            };
            Ok(json!({"Id": query["Id"], "Label": query["Id"], "StatusCode": "Complete", "Timestamps": [], "Values": [value]}))
        })
        .collect();
    Ok(json!({"MetricDataResults": results?}))
}

fn describe_alarms(world: &mut World, input: &Value) -> OperationResult {
    let (names, prefix) = (texts(input, "AlarmNames"), text(input, "AlarmNamePrefix"));
    if names.len() > MAX_ALARM_NAMES {
        return Err(invalid_value(&format!(
            "1 validation error detected: Value at 'alarmNames' failed to satisfy constraint: Member must have length less \
             than or equal to {MAX_ALARM_NAMES}"
        )));
    }
    if !names.is_empty() && prefix.is_some() {
        return Err(AwsError::sender(
            "InvalidParameterCombinationException",
            "AlarmNames and AlarmNamePrefix cannot be specified together",
        )
        .query_code("InvalidParameterCombination"));
    }
    for field in ["ChildrenOfAlarmName", "ParentsOfAlarmName", "ActionPrefix"] {
        if input.get(field).is_some() {
            return Err(AwsError::new(501, "NotModelled", format!("the world has no {field}")));
        }
    }
    let types = alarm_types(input)?;
    let state = match text(input, "StateValue") {
        None => None,
        Some(value) => Some(AlarmState::parse(value).ok_or_else(|| invalid_state(value))?),
    };
    let size = match number(input, "MaxRecords").map(usize::try_from) {
        None => DEFAULT_PAGE_SIZE,
        Some(Ok(size @ 1..=MAX_PAGE_SIZE)) => size,
        Some(_) => return Err(invalid_value("MaxRecords must be between 1 and 100")),
    };
    let mut alarms = world.describe_alarms(&names).map_err(refused)?;
    alarms.retain(|alarm| {
        types.contains(&kind(alarm))
            && state.is_none_or(|state| alarm.state == state)
            && prefix.is_none_or(|prefix| alarm.name.starts_with(prefix))
    });
    let (alarms, next) = page(alarms, text(input, "NextToken"), size).ok_or_else(|| {
        AwsError::sender("InvalidNextToken", "The next token specified is invalid.").query_code("InvalidNextToken")
    })?;
    let of = |wanted: AlarmType| -> Vec<Value> {
        alarms.iter().filter(|alarm| kind(alarm) == wanted).map(alarm_json).collect()
    };
    Ok(json!({
        "MetricAlarms": of(AlarmType::Metric),
        "CompositeAlarms": of(AlarmType::Composite),
        "LogAlarms": of(AlarmType::Log),
        "NextToken": next,
    }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AlarmType {
    Metric,
    Composite,
    Log,
}

fn kind(alarm: &CloudWatchAlarm) -> AlarmType {
    match alarm.kind {
        AlarmDefinition::Metric(_) => AlarmType::Metric,
        AlarmDefinition::Composite { .. } => AlarmType::Composite,
        AlarmDefinition::Log { .. } => AlarmType::Log,
    }
}

/// Where no types are asked for only metric alarms are answered, "even if composite alarms exist" (API reference).
fn alarm_types(input: &Value) -> Result<Vec<AlarmType>, AwsError> {
    let types = texts(input, "AlarmTypes");
    if types.is_empty() {
        return Ok(vec![AlarmType::Metric]);
    }
    let mut kinds = Vec::new();
    for name in types {
        match name.as_str() {
            "MetricAlarm" => kinds.push(AlarmType::Metric),
            "CompositeAlarm" => kinds.push(AlarmType::Composite),
            "LogAlarm" => kinds.push(AlarmType::Log),
            other => return Err(invalid_value(&format!("'{other}' at 'alarmTypes' is no alarm type"))),
        }
    }
    Ok(kinds)
}

fn set_alarm_state(world: &mut World, input: &Value) -> OperationResult {
    let required =
        |name: &str| text(input, name).ok_or_else(|| invalid_value(&format!("The parameter {name} is required.")));
    let (name, value, reason) = (required("AlarmName")?, required("StateValue")?, required("StateReason")?);
    let state = AlarmState::parse(value).ok_or_else(|| invalid_state(value))?;
    if let Some(data) = text(input, "StateReasonData")
        && serde_json::from_str::<Value>(data).is_err()
    {
        return Err(
            AwsError::sender("InvalidFormatFault", "State reason data is not valid JSON").query_code("InvalidFormat")
        );
    }
    world.set_alarm_state(name, state, reason).map_err(refused)?;
    Ok(json!({}))
}

fn alarm_json(alarm: &CloudWatchAlarm) -> Value {
    let updated = alarm.state_updated_at.as_millisecond() as f64 / 1000.0;
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    put("AlarmName", alarm.name.clone().into());
    put("AlarmArn", alarm.arn.clone().into());
    put("ActionsEnabled", true.into());
    put("AlarmActions", json!([]));
    put("OKActions", json!([]));
    put("InsufficientDataActions", json!([]));
    put("StateValue", alarm.state.as_str().into());
    put("StateReason", alarm.reason.clone().into());
    put("StateUpdatedTimestamp", updated.into());
    put("StateTransitionedTimestamp", updated.into());
    // Composite alarms have none (API reference, `CompositeAlarm`).
    if let Some(evaluation) = alarm.evaluation.filter(|_| kind(alarm) != AlarmType::Composite) {
        put("EvaluationState", evaluation.as_str().into());
    }
    match &alarm.kind {
        AlarmDefinition::Composite { rule } => put("AlarmRule", rule.clone().into()),
        AlarmDefinition::Log { query } => {
            put(
                "ScheduledQueryConfiguration",
                json!({
                    "QueryString": query,
                    "LogGroupIdentifiers": ["/shop/api"],
                    "AggregationExpression": "count(*)",
                    "ScheduleConfiguration": {"ScheduleExpression": "rate(5 minutes)"},
                }),
            );
            put("QueryResultsToEvaluate", 1.into());
            put("QueryResultsToAlarm", 1.into());
            put("Threshold", 1.0.into());
            put("ComparisonOperator", "GreaterThanThreshold".into());
            put("TreatMissingData", "missing".into());
        }
        AlarmDefinition::Metric(metric) => {
            let data = metric_dimensions(metric);
            match metric.metric {
                WatchedMetric::Target5xxPercent => {
                    let query = |id: &str, name: &str| {
                        json!({"Id": id, "ReturnData": false, "MetricStat": {
                            "Metric": {"Namespace": NAMESPACE, "MetricName": name, "Dimensions": data},
                            "Period": metric.period_s,
                            "Stat": "Sum",
                        }})
                    };
                    let rate = json!({
                        "Id": "rate",
                        "Expression": "100 * errors / requests",
                        "Label": "5xx in per cent",
                        "ReturnData": true,
                    });
                    put(
                        "Metrics",
                        json!([query("errors", metric.metric.name()), query("requests", "RequestCount"), rate]),
                    );
                }
                _ => {
                    put("Namespace", NAMESPACE.into());
                    put("MetricName", metric.metric.name().into());
                    put("Dimensions", data);
                    put("Statistic", statistic(metric.metric).into());
                    put("Period", metric.period_s.into());
                }
            }
            put("EvaluationPeriods", metric.evaluation_periods.into());
            put("DatapointsToAlarm", metric.datapoints_to_alarm.into());
            put("Threshold", metric.threshold.into());
            put("ComparisonOperator", metric.comparison.as_str().into());
            put("TreatMissingData", metric.treat_missing.as_str().into());
        }
    }
    Value::Object(fields)
}

fn metric_dimensions(metric: &MetricAlarm) -> Value {
    let mut dimensions = vec![json!({"Name": "LoadBalancer", "Value": dimension(&metric.load_balancer)})];
    if let Some(group) = &metric.target_group {
        dimensions.push(json!({"Name": "TargetGroup", "Value": dimension(group)}));
    }
    dimensions.into()
}

fn statistic(metric: WatchedMetric) -> &'static str {
    match metric {
        WatchedMetric::TargetResponseTime => "Average",
        WatchedMetric::HealthyHostCount => "Minimum",
        WatchedMetric::UnhealthyHostCount => "Maximum",
        _ => "Sum",
    }
}

/// The dimension's value for an ARN: what follows `loadbalancer/`, or from `targetgroup/` on.
fn dimension(arn: &str) -> &str {
    match (arn.split_once(":loadbalancer/"), arn.find("targetgroup/")) {
        (Some((_, name)), _) => name,
        (None, Some(at)) => &arn[at..],
        (None, None) => arn,
    }
}

fn invalid_state(value: &str) -> AwsError {
    invalid_value(&format!(
        "1 validation error detected: Value '{value}' at 'stateValue' failed to satisfy constraint: Member must satisfy \
         enum value set: [INSUFFICIENT_DATA, ALARM, OK]"
    ))
}

fn invalid_value(message: &str) -> AwsError {
    AwsError::sender("InvalidParameterValueException", message).query_code("InvalidParameterValue")
}

/// CloudWatch once spoke awsQuery: the old codes stay in a header, and are what the SDK goes by.
fn refused(error: ApiError) -> AwsError {
    let (status, shape, query) = match error.code {
        "ResourceNotFound" | "ResourceNotFoundException" => (404, "ResourceNotFound", "ResourceNotFound"),
        "Throttling" | "ThrottlingException" => (400, "ThrottlingException", "Throttling"),
        "AccessDenied" | "AccessDeniedException" => (403, "AccessDenied", "AccessDenied"),
        "InternalFailure" | "ServerException" => (500, "InternalServiceFault", "InternalServiceError"),
        other => (error.http_status(), other, other),
    };
    AwsError::new(status, shape, error.message).query_code(query)
}
