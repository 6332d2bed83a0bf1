//! The alarms on Switchback itself: each watches something that there is, and says what to do.

use engine::measure::{EmbeddedMetric, METRICS};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::OnceLock;
use tests::harness::lint;

/// Where operators look up what an alarm means.
const SECTION: &str = "## When Switchback itself is in trouble";
const NEXT_SECTION: &str = "## One deployment across the logs";

/// Metrics of AWS's own, by namespace, with the dimension that they have (developer guides of SQS and Lambda).
const AWS_METRICS: [(&str, &str, &[&str]); 2] = [
    ("AWS/SQS", "QueueName", &["ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible"]),
    ("AWS/Lambda", "FunctionName", &["Errors", "Invocations", "IteratorAge", "Throttles"]),
];

fn template() -> &'static Value {
    static TEMPLATE: OnceLock<Value> = OnceLock::new();
    TEMPLATE.get_or_init(|| lint::template_as_json().unwrap_or_else(|failure| panic!("{failure}")))
}

fn resources(kind: &str) -> Vec<(&'static str, &'static Value)> {
    let all = template()["Resources"].as_object().expect("resources");
    let of_kind = all.iter().filter(|(_, resource)| resource["Type"] == kind);
    of_kind.map(|(name, resource)| (name.as_str(), &resource["Properties"])).collect()
}

fn alarms() -> Vec<(&'static str, &'static Value)> {
    let alarms = resources("AWS::CloudWatch::Alarm");
    assert!(alarms.len() > 10, "the alarms are found");
    alarms
}

/// The metrics that an alarm is about: its own, or those of its expression.
fn metrics(alarm: &'static Value) -> Vec<&'static Value> {
    match alarm["Metrics"].as_array() {
        Some(queries) => {
            queries.iter().map(|query| &query["MetricStat"]["Metric"]).filter(|it| it.is_object()).collect()
        }
        None => vec![alarm],
    }
}

/// What the page of the functions says of alarms and metrics.
fn section() -> String {
    let page = include_str!("../../functions/README.md");
    let rest = page.split_once(SECTION).expect("the section is there").1;
    rest.split_once(NEXT_SECTION).expect("the section after the metrics").0.to_owned()
}

/// A function's package, by its logical name.
fn package(function: &str) -> &'static str {
    let uri = template()["Resources"][function]["Properties"]["CodeUri"].as_str().expect("a function of the template");
    uri.strip_prefix("functions/").expect("a folder of functions/")
}

#[test]
fn every_alarm_watches_an_existing_metric() {
    for (name, alarm) in alarms() {
        let about = metrics(alarm);
        assert!(!about.is_empty(), "{name} watches nothing");
        for metric in about {
            let (namespace, called) = (metric["Namespace"].as_str().unwrap_or_default(), &metric["MetricName"]);
            let dimension = &metric["Dimensions"][0];
            if let Some(&(_, dimensioned, names)) = AWS_METRICS.iter().find(|(of, ..)| *of == namespace) {
                assert!(names.iter().any(|known| called == known), "{name}: {namespace} has no {called}");
                assert_eq!(dimension["Name"], dimensioned, "{name}");
                continue;
            }
            assert_eq!(namespace, "Switchback", "{name}");
            let filtered = resources("AWS::Logs::MetricFilter").into_iter().any(|(_, filter)| {
                let made = &filter["MetricTransformations"][0];
                &made["MetricName"] == called && made["MetricNamespace"] == namespace
            });
            if filtered {
                continue;
            }
            let measured: &EmbeddedMetric = METRICS
                .iter()
                .find(|metric| called == metric.name)
                .unwrap_or_else(|| panic!("{name}: nothing measures {called}"));
            assert_eq!(dimension["Name"], "FunctionName", "{name}");
            let function = dimension["Value"]["Ref"].as_str().expect("a function of this template");
            assert_eq!(package(function), measured.function, "{name}: {called} is measured by another function");
        }
    }
}

#[test]
fn every_metric_is_unique_and_documented() {
    let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len());
    let functions: BTreeSet<&str> =
        resources("AWS::Serverless::Function").into_iter().map(|(it, _)| package(it)).collect();
    for metric in METRICS {
        assert!(functions.contains(metric.function), "{metric:?}");
        assert!(
            section().contains(&format!("`{}`", metric.name)),
            "functions/README.md does not say what {} is",
            metric.name
        );
    }
}

#[test]
fn every_alarm_notifies_and_is_documented() {
    let section = section();
    for (name, alarm) in alarms() {
        let text = alarm["AlarmDescription"].as_str().unwrap_or_default();
        // CloudWatch takes 1024 characters.
        assert!((100..1024).contains(&text.len()), "{name} says neither what nor what to do: {text}");
        let notify_topic = json!({"Fn::If": ["HasAlarmTopic", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]});
        assert_eq!((&alarm["AlarmActions"], &alarm["OKActions"]), (&notify_topic, &notify_topic), "{name}");
        assert!(alarm["TreatMissingData"].is_string(), "{name} does not say what silence means");
        let (datapoints, periods) = (alarm["DatapointsToAlarm"].as_u64(), alarm["EvaluationPeriods"].as_u64());
        assert!(datapoints <= periods && datapoints > Some(0), "{name}");
        let short = name.strip_suffix("Alarm").expect("an alarm is called one");
        assert!(section.contains(&format!("`{short}`")), "functions/README.md does not say what to do about {short}");
    }
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    for short in rows.flat_map(|names| names.split("`, `")).map(|name| name.trim_end_matches('`')) {
        let known = alarms().iter().any(|(name, _)| name.strip_suffix("Alarm") == Some(short))
            || METRICS.iter().any(|metric| metric.name == short);
        assert!(known, "functions/README.md speaks of {short}, which there is not");
    }
}

#[test]
fn every_function_has_a_failure_alarm() {
    // Events that these do not take in come again, and end in the dead-letter queue.
    let by_dead_letters = ["ImagePushed", "SignalReceived"];
    for (function, properties) in resources("AWS::Serverless::Function") {
        let dead_letters = properties.pointer("/EventInvokeConfig/DestinationConfig/OnFailure/Destination");
        if by_dead_letters.contains(&function) {
            assert_eq!(dead_letters, Some(&json!({"Fn::GetAtt": ["DeadLetterQueue", "Arn"]})), "{function}");
            continue;
        }
        let sees = |metric: &Value| {
            let failure = ["Errors", "IteratorAge"].iter().any(|name| metric["MetricName"] == *name);
            failure && metric["Dimensions"][0]["Value"]["Ref"] == function
        };
        assert!(alarms().iter().any(|(_, alarm)| metrics(alarm).into_iter().any(sees)), "nothing sees {function} fail");
    }
}

/// One condition of a filter: a field by its path, and what it must be; none: it must not be there.
type Condition = (String, Option<String>);

/// Reads `{ ($.level = "ERROR") && ($._aws.Timestamp NOT EXISTS) }`: what of CloudWatch Logs' syntax for JSON is used here
/// (user guide, "Filter pattern syntax for metric filters").
fn conditions(pattern: &str) -> Option<Vec<Condition>> {
    let inside = pattern.trim().strip_prefix('{')?.strip_suffix('}')?;
    let condition = |text: &str| {
        let text = text.trim();
        let text = text.strip_prefix('(').map_or(Some(text), |text| text.strip_suffix(')'))?;
        let (path, rest) = text.trim().strip_prefix("$.")?.split_once(' ')?;
        let is_plain =
            |part: &str| !part.is_empty() && part.chars().all(|it| it.is_ascii_alphanumeric() || "_-".contains(it));
        if !path.split('.').all(is_plain) {
            return None;
        }
        let wanted = match rest.trim() {
            "NOT EXISTS" => None,
            equals => Some(equals.strip_prefix("= \"")?.strip_suffix('"')?.to_owned()),
        };
        Some((format!("/{}", path.replace('.', "/")), wanted))
    };
    inside.split("&&").map(condition).collect()
}

#[test]
fn the_failed_pass_filter_counts_errors_not_metrics() {
    let filters = resources("AWS::Logs::MetricFilter");
    assert_eq!(filters.len(), 1, "each is held against lines here");
    let pattern = filters[0].1["FilterPattern"].as_str().expect("a pattern");
    let conditions = conditions(pattern).unwrap_or_else(|| panic!("{pattern} cannot be read"));
    let counts = |line: &Value| {
        conditions.iter().all(|(path, wanted)| match wanted {
            Some(wanted) => line.pointer(path).and_then(Value::as_str) == Some(wanted),
            None => line.pointer(path).is_none(),
        })
    };
    assert!(counts(&json!({"level": "ERROR", "message": "the pass could not be finished, its wake comes again"})));
    assert!(!counts(&json!({"level": "WARN", "message": "an effect was refused"})));
    let metric = json!({"level": "ERROR", "message": "measured", "_aws": {"Timestamp": 1, "CloudWatchMetrics": []}});
    assert!(!counts(&metric), "where only errors are written, metrics are written as such");
}
