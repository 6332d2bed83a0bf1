//! One JSON object a line: `timestamp`, `level`, `message`, then the fields of the event and of the spans round it, by
//! their dotted names. CloudWatch reads a line's level and time from it (Lambda developer guide, "JSON log format").

use serde_json::{Map, Value};
use std::fmt;
use std::io::Write as _;
use std::time::SystemTime;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// Crates that are not the product's: of them only warnings and errors are written, at whatever level.
/// Named by how their modules begin, so that a function's own crate need not be listed.
const FOREIGN: [&str; 9] = ["aws_", "hyper", "h2", "rustls", "tower", "tokio", "lambda_runtime", "mio", "want"];

/// The variable that Lambda sets to the level that the function's configuration asks for.
const LEVEL: &str = "AWS_LAMBDA_LOG_LEVEL";

/// Writes all log lines of this process to its standard output from now on. A second call changes nothing.
pub(crate) fn start() {
    let level = std::env::var(LEVEL).ok().and_then(|level| parse(&level)).unwrap_or(LevelFilter::INFO);
    let lines = JsonLines { level, write: to_standard_output };
    // The only error is that there is a subscriber already.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines));
}

/// In one write, so that lines of several threads never mix. Where nobody reads there is nobody to tell.
fn to_standard_output(line: &[u8]) {
    let _ = std::io::stdout().lock().write_all(line);
}

fn parse(level: &str) -> Option<LevelFilter> {
    if level.eq_ignore_ascii_case("fatal") { Some(LevelFilter::ERROR) } else { level.parse().ok() }
}

struct JsonLines<W> {
    level: LevelFilter,
    write: W,
}

impl<W: 'static> JsonLines<W> {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let foreign = FOREIGN.iter().any(|prefix| metadata.target().starts_with(prefix));
        let most = if foreign { self.level.min(LevelFilter::WARN) } else { self.level };
        *metadata.level() <= most
    }
}

impl<S, W> Layer<S> for JsonLines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn(&[u8]) + 'static,
{
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        // The innermost span's word counts, and the event's own above all.
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(outer) = span.extensions().get::<Fields>() {
                for (name, value) in &outer.0 {
                    fields.0.entry(name).or_insert_with(|| value.clone());
                }
            }
        }
        let message = fields.0.remove("message").unwrap_or_default();
        let (time, level) = (timestamp(SystemTime::now()), level_name(*event.metadata().level()));
        let mut line = format!(r#"{{"timestamp":"{time}","level":"{level}","message":{message}"#);
        for (name, value) in fields.0 {
            line.push_str(&format!(",{}:{value}", Value::String(name)));
        }
        line.push_str("}\n");
        (self.write)(line.as_bytes());
    }
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
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let milliseconds = i64::try_from(since_epoch.as_millis()).unwrap_or_default();
    format!("{:.3}", jiff::Timestamp::from_millisecond(milliseconds).unwrap_or_default())
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
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
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        self.put(field, text.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    fn lines_of(level: LevelFilter, work: impl FnOnce()) -> Vec<Value> {
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&written);
        let lines =
            JsonLines { level, write: move |line: &[u8]| sink.lock().expect("not poisoned").extend_from_slice(line) };
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
    fn of_other_peoples_crates_only_warnings_are_written() {
        let lines = lines_of(LevelFilter::DEBUG, || {
            tracing::info!(target: "aws_smithy_runtime::client", "loaded something");
            tracing::warn!(target: "hyper::proto", "connection closed");
            tracing::debug!(target: "aws::ledger", "ours");
            tracing::trace!(target: "aws::ledger", "too much");
        });
        let messages: Vec<_> = lines.iter().map(|line| line["message"].as_str().expect("text")).collect();
        assert_eq!(messages, ["connection closed", "ours"]);
    }

    #[test]
    fn milliseconds_are_always_written() {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_763_780_460_000);
        assert_eq!(timestamp(time), "2025-11-22T03:01:00.000Z");
    }
}
