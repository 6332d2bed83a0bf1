//! One JSON object per line: `timestamp`, `level`, `message`, then the fields of the event and of its enclosing spans, by their
//! dotted names. CloudWatch reads a line's level and time from it (Lambda developer guide, "JSON log format").
//!
//! Measurements (`engine::measure`) are lines in the embedded metric format, from which CloudWatch Logs creates metrics
//! ("Specification: Embedded metric format"), in the namespace [`NAMESPACE`]. They are written at any log level: Lambda drops
//! lines below the function's level, so they carry that level. The same applies to decision records (`engine::recorder`), which
//! have a switch of their own.

use engine::{measure, recorder};
use rollout::text::error_chain;
use serde_json::{Map, Value, json};
use std::fmt;
use std::io::Write as _;
use std::time::SystemTime;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// Third-party crates: only their warnings and errors are logged, at any level. Listed by module prefix, so that a function's own
/// crate need not be listed.
const THIRD_PARTY_CRATES: [&str; 9] =
    ["aws_", "hyper", "h2", "rustls", "tower", "tokio", "lambda_runtime", "mio", "want"];

/// The environment variable that Lambda sets to the function's configured log level.
const LEVEL: &str = "AWS_LAMBDA_LOG_LEVEL";
/// The environment variable that Lambda sets to the function's name.
const FUNCTION: &str = "AWS_LAMBDA_FUNCTION_NAME";

/// Namespace of all metrics. Their one common dimension is `FunctionName`, which also distinguishes stacks.
const NAMESPACE: &str = "Switchback";

/// Writes all log lines of this process to its standard output from now on. Further calls have no effect.
pub(crate) fn start() {
    let level = std::env::var(LEVEL).ok().and_then(|level| parse(&level)).unwrap_or(LevelFilter::INFO);
    let function = std::env::var(FUNCTION).unwrap_or_else(|_| "local".to_owned());
    let lines = JsonLines { level, function, write: to_standard_output };
    // The only possible error is that a subscriber is already set.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines));
}

/// One write per line, so that lines of several threads never mix. Write errors are ignored: there is nowhere to report them.
fn to_standard_output(line: &[u8]) {
    let _ = std::io::stdout().lock().write_all(line);
}

fn parse(level: &str) -> Option<LevelFilter> {
    if level.eq_ignore_ascii_case("fatal") { Some(LevelFilter::ERROR) } else { level.parse().ok() }
}

struct JsonLines<W> {
    level: LevelFilter,
    function: String,
    write: W,
}

impl<W: 'static> JsonLines<W> {
    fn is_enabled(&self, metadata: &Metadata<'_>) -> bool {
        if is_always_logged(metadata) {
            return true;
        }
        let is_third_party = THIRD_PARTY_CRATES.iter().any(|prefix| metadata.target().starts_with(prefix));
        let most = if is_third_party { self.level.min(LevelFilter::WARN) } else { self.level };
        *metadata.level() <= most
    }
}

impl<S, W> Layer<S> for JsonLines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn(&[u8]) + 'static,
{
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.is_enabled(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // Measurements and records are emitted at INFO.
        Some(self.level.max(LevelFilter::INFO))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = LogFields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<LogFields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = LogFields::default();
        event.record(&mut fields);
        // The innermost span overrides outer ones, and the event's own fields override all.
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(outer) = span.extensions().get::<LogFields>() {
                for (name, value) in &outer.0 {
                    fields.0.entry(name).or_insert_with(|| value.clone());
                }
            }
        }
        let now = SystemTime::now();
        let mut level = *event.metadata().level();
        if event.metadata().target() == measure::TARGET {
            fields.embed_metric(&self.function, now);
        }
        if is_always_logged(event.metadata()) {
            level = self.level.into_level().unwrap_or(Level::ERROR).min(Level::INFO);
        }
        // Already JSON, so it is embedded unquoted.
        let is_record = event.metadata().target() == recorder::TARGET;
        let record = if is_record { fields.0.remove("record") } else { None };
        let message = fields.0.remove("message").unwrap_or_default();
        let (time, level) = (timestamp(now), level_name(level));
        let mut line = format!(r#"{{"timestamp":"{time}","level":"{level}","message":{message}"#);
        for (name, value) in fields.0 {
            line.push_str(&format!(",{}:{value}", Value::String(name)));
        }
        if let Some(Value::String(record)) = record {
            line.push_str(",\"record\":");
            line.push_str(&record);
        }
        line.push_str("}\n");
        (self.write)(line.as_bytes());
    }
}

/// Lines written at any log level: measurements, and decision records, which have a switch of their own.
fn is_always_logged(metadata: &Metadata<'_>) -> bool {
    [measure::TARGET, recorder::TARGET].contains(&metadata.target())
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

/// RFC 3339 in UTC, always with milliseconds.
fn timestamp(time: SystemTime) -> String {
    format!("{:.3}", jiff::Timestamp::from_millisecond(milliseconds(time)).unwrap_or_default())
}

/// Milliseconds since 1970.
fn milliseconds(time: SystemTime) -> i64 {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or_default()
}

#[derive(Default)]
struct LogFields(Map<String, Value>);

impl LogFields {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }

    /// Turns a measurement's own fields into a metric. A metric with an additional dimension is also emitted without it.
    fn embed_metric(&mut self, function: &str, now: SystemTime) {
        let mut take = |field: &str| self.0.remove(field).unwrap_or_default();
        let [metric, unit, value, by, kind] = ["metric", "unit", "value", "by", "kind"].map(&mut take);
        let mut dimensions = vec![vec!["FunctionName"]];
        if let (Some(by), Value::String(_)) = (by.as_str(), &kind) {
            dimensions.push(vec!["FunctionName", by]);
            self.0.insert(by.to_owned(), kind);
        }
        let directive = json!({
            "Timestamp": milliseconds(now),
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": dimensions,
                "Metrics": [{"Name": metric, "Unit": unit}],
            }],
        });
        self.0.insert("_aws".to_owned(), directive);
        self.0.insert("FunctionName".to_owned(), function.into());
        self.0.insert(metric.as_str().unwrap_or_default().to_owned(), value);
    }
}

impl Visit for LogFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, error_chain(value).into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    fn lines_of(level: LevelFilter, work: impl FnOnce()) -> Vec<Value> {
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&written);
        let lines = JsonLines {
            level,
            function: "switchback-sweeper".to_owned(),
            write: move |line: &[u8]| sink.lock().expect("not poisoned").extend_from_slice(line),
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), work);
        let written = written.lock().expect("not poisoned");
        let text = std::str::from_utf8(&written).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("one JSON object a line")).collect()
    }

    #[test]
    fn a_line_has_time_level_message_and_the_fields_of_its_spans() {
        let lines = lines_of(LevelFilter::INFO, || {
            let _invocation = tracing::info_span!("invocation", request_id = "r-1").entered();
            let _pass = tracing::info_span!("pass", target = %"shop/api/live", deployment = 7_u64).entered();
            tracing::warn!(image.tag = "v1", seen = true, "two\nlines, \"quoted\"");
        });
        let [line] = lines.as_slice() else { panic!("one line, not {lines:?}") };
        let mut line = line.as_object().expect("an object").clone();
        let time = line.remove("timestamp").expect("a timestamp");
        let time = time.as_str().expect("text");
        assert!(time.ends_with('Z') && time.len() == "2026-11-22T03:04:05.678Z".len(), "{time}");
        assert_eq!(
            Value::Object(line),
            serde_json::json!({
                "level": "WARN", "message": "two\nlines, \"quoted\"", "request_id": "r-1", "target": "shop/api/live",
                "deployment": 7, "image.tag": "v1", "seen": true,
            })
        );
    }

    #[test]
    fn third_party_crates_log_only_warnings() {
        let lines = lines_of(LevelFilter::DEBUG, || {
            tracing::info!(target: "aws_smithy_runtime::client", "loaded something");
            tracing::warn!(target: "hyper::proto", "connection closed");
            tracing::debug!(target: "aws::ledger", "ours");
            tracing::trace!(target: "aws::ledger", "too much");
        });
        let messages: Vec<_> = lines.iter().map(|line| line["message"].as_str().expect("text")).collect();
        assert_eq!(messages, ["connection closed", "ours"]);
    }

    /// Checks that a line follows the embedded metric format specification; returns name, value and dimensions.
    fn metric(line: &Value) -> (String, f64, Vec<Vec<String>>) {
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert!(line["_aws"]["Timestamp"].as_i64().is_some_and(|ms| ms > 1_700_000_000_000), "{line}");
        assert_eq!(directive["Namespace"], NAMESPACE);
        let definition = &directive["Metrics"][0];
        assert!(["Count", "Seconds"].contains(&definition["Unit"].as_str().expect("a unit")), "{line}");
        let name = definition["Name"].as_str().expect("a name").to_owned();
        let value = line[&name].as_f64().expect("a metric's value is a number beside `_aws`");
        let dimensions: Vec<Vec<String>> = serde_json::from_value(directive["Dimensions"].clone()).expect("texts");
        for dimension in dimensions.iter().flatten() {
            assert!(line[dimension].as_str().is_some_and(|text| !text.is_empty()), "{dimension}: {line}");
        }
        (name, value, dimensions)
    }

    #[test]
    fn a_measurement_is_written_in_embedded_metric_format() {
        let lines = lines_of(LevelFilter::INFO, || {
            let _pass = tracing::error_span!("pass", target_id = "shop/api/prod").entered();
            measure::OLDEST_OVERDUE.record(61.5);
            measure::EFFECTS_REFUSED.count_one("set_weights");
        });
        let all = vec!["FunctionName".to_owned()];
        let by_kind = vec!["FunctionName".to_owned(), "Effect".to_owned()];
        assert_eq!(metric(&lines[0]), ("OldestOverdueSeconds".to_owned(), 61.5, vec![all.clone()]));
        assert_eq!(metric(&lines[1]), ("EffectsRefused".to_owned(), 1.0, vec![all, by_kind]));
        assert_eq!(lines[1]["Effect"], "set_weights");
        assert!(lines.iter().all(|line| line["FunctionName"] == "switchback-sweeper"));
        assert!(lines.iter().all(|line| line["target_id"] == "shop/api/prod"), "{lines:?}");
    }

    #[test]
    fn metrics_and_span_fields_are_written_at_every_level() {
        let levels = [(LevelFilter::TRACE, "INFO"), (LevelFilter::WARN, "WARN"), (LevelFilter::ERROR, "ERROR")];
        for (level, written) in levels {
            let lines = lines_of(level, || {
                let _deployment = engine::log_context::empty_span().entered();
                engine::log_context::about(Some(7), None);
                measure::METRICS.iter().for_each(|metric| match metric.by {
                    Some(_) => metric.count_one("set_weights"),
                    None => metric.count(3),
                });
                tracing::error!("trouble");
            });
            let names: Vec<String> = lines[..lines.len() - 1].iter().map(|line| metric(line).0).collect();
            assert_eq!(names, measure::METRICS.map(|metric| metric.name));
            assert!(
                lines[..names.len()].iter().all(|line| line["level"] == written),
                "as Lambda lets it pass: {lines:?}"
            );
            assert!(lines.iter().all(|line| line["deployment"] == 7), "{lines:?}");
        }
    }

    #[test]
    fn records_are_embedded_as_json_at_every_level() {
        use engine::recorder::{LogRecorder, Recorder as _, RecordingLevel};
        let target = rollout::TargetId::parse("shop/api/prod").expect("a target");
        for (level, written) in [(LevelFilter::TRACE, "INFO"), (LevelFilter::WARN, "WARN")] {
            let lines = lines_of(level, || {
                let _deployment = engine::log_context::of(&target).entered();
                engine::log_context::about(Some(7), None);
                LogRecorder(true).record(&target, Some(8), r#"{"recording":1,"at":"2026-11-22T03:00:00Z"}"#.to_owned());
            });
            let [line] = lines.as_slice() else { panic!("one line, not {lines:?}") };
            assert_eq!(line["record"], json!({"recording": 1, "at": "2026-11-22T03:00:00Z"}));
            assert_eq!((&line["message"], &line["level"]), (&json!("decided"), &json!(written)));
            assert_eq!((&line["target_id"], &line["deployment"]), (&json!("shop/api/prod"), &json!(8)));
        }
        assert_eq!(
            (LogRecorder(true).wanted(), LogRecorder(false).wanted()),
            (RecordingLevel::Actions, RecordingLevel::Off)
        );
    }

    #[test]
    fn milliseconds_are_always_written() {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_763_780_460_000);
        assert_eq!(timestamp(time), "2025-11-22T03:01:00.000Z");
    }
}
