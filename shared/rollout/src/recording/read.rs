//! Finds records in logs: lines as they were written, among other lines and behind prefixes that tools add, or the JSON
//! output of `aws logs`.

use super::changes::apply;
use super::stored::{Stored, StoredDecided, StoredPart, StoredPerformed};
use super::{Decided, FORMAT, Performed, Record, RecordBody, Recording, VERSION};
use crate::target::{self, TargetState};
use crate::text::clip_with_ellipsis;
use serde::Deserialize;
use serde_json::{Deserializer, Value};
use std::collections::BTreeMap;

/// Why a log cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ReadError {
    /// Line number, from 1.
    pub line: usize,
    /// At most 500 characters; may quote the log.
    pub reason: String,
}

/// Limit of an error's reason, which may quote the log.
const MAX_REASON_CHARS: usize = 500;

impl ReadError {
    fn at(line: usize, reason: impl Into<String>) -> Self {
        Self { line, reason: clip_with_ellipsis(&reason.into(), MAX_REASON_CHARS) }
    }
}

/// Substrings that mark a line with a record: plain, or escaped inside another JSON string.
const MARKERS: [&str; 2] = ["\"recording\":", "recording\\\":"];
/// The `message` of a log line that contains a record.
const MESSAGE: &str = "decided";
/// Whether the text may contain a record.
fn is_marked(text: &str) -> bool {
    MARKERS.iter().any(|mark| text.contains(mark))
}

/// Keys under which tools return a logged message: `filter-log-events` and `tail`, and Logs Insights.
const MESSAGE_KEYS: [&str; 3] = ["message", "@message", "value"];
/// Deepest nesting of tool output around a log line that is searched.
const MAX_NESTING: u8 = 8;

/// Every record in `text`, which is log lines, or JSON that contains log lines.
///
/// # Errors
/// [`ReadError`] where something is marked as a record and cannot be read as one, or has a newer format.
pub fn read(text: &str) -> Result<Recording, ReadError> {
    let mut scanner = LogScanner::default();
    if is_one_document(text) {
        let mut values = Deserializer::from_str(text).into_iter::<Value>();
        while let Some(value) = values.next() {
            let value = value.map_err(|error| ReadError::at(error.line(), format!("no JSON: {error}")))?;
            // All messages of a document share one line number: they have none of their own.
            let line = text[..values.byte_offset()].lines().count().max(1);
            scanner.scan_value(&value, line, 0)?;
        }
    } else {
        for (number, line) in text.lines().enumerate() {
            scanner.line(line, number + 1, 0)?;
        }
    }
    Ok(scanner.end())
}

/// Whether the text is pretty-printed JSON rather than one value per line: then the first line consists of brackets
/// only.
fn is_one_document(text: &str) -> bool {
    let Some(first) = text.lines().map(str::trim).find(|line| !line.is_empty()) else { return false };
    first.chars().all(|letter| matches!(letter, '{' | '[' | ' '))
}

/// Identity of a multi-part record: target, pass, revision, and whether it is `decided` or `performed`.
type PartKey = (String, String, u64, String);

/// The parts found so far of one record: the head and line number of the first one found, the expected number of parts,
/// and the texts by part number.
struct Parts {
    head: Record,
    line: usize,
    all: usize,
    texts: BTreeMap<usize, String>,
}

#[derive(Default)]
struct LogScanner {
    found: Recording,
    parts: BTreeMap<PartKey, Parts>,
}

impl LogScanner {
    /// Scans one log line, or one message, for JSON values, whatever stands before, between and after them.
    fn line(&mut self, text: &str, number: usize, level: u8) -> Result<(), ReadError> {
        if !is_marked(text) {
            self.found.others += usize::from(!text.trim().is_empty());
            return Ok(());
        }
        let mut rest = text;
        while let Some(start) = rest.find(['{', '[']) {
            rest = &rest[start..];
            let mut values = Deserializer::from_str(rest).into_iter::<Value>();
            match values.next() {
                Some(Ok(value)) => {
                    rest = &rest[values.byte_offset()..];
                    self.scan_value(&value, number, level)?;
                }
                Some(Err(error)) => {
                    let end = if error.is_eof() { rest.len() } else { error.column() };
                    if rest.get(..end).is_none_or(is_marked) {
                        let reason = format!("a record that is cut off, or is no JSON: {error}");
                        return Err(ReadError::at(number, reason));
                    }
                    // A bracket in a prefix that a tool added.
                    rest = &rest[1..];
                }
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Scans a value: a record, a log line with one, or a tool's wrapper around them. Free text by users, which could
    /// imitate a record, is never scanned.
    fn scan_value(&mut self, value: &Value, line: usize, level: u8) -> Result<(), ReadError> {
        if level > MAX_NESTING {
            return Ok(());
        }
        match value {
            Value::Array(values) => {
                for value in values {
                    match value {
                        Value::String(text) => self.line(text, line, level + 1)?,
                        value => self.scan_value(value, line, level + 1)?,
                    }
                }
            }
            Value::Object(object) if object.contains_key("recording") => self.record(value, line)?,
            Value::Object(object) if object.contains_key("level") && object.contains_key("message") => {
                match object.get("record").filter(|_| object["message"] == MESSAGE) {
                    Some(record) => self.record(record, line)?,
                    None => self.found.others += 1,
                }
            }
            Value::Object(object) => {
                for (key, value) in object {
                    match value {
                        Value::String(text) if MESSAGE_KEYS.contains(&key.as_str()) => {
                            self.line(text, line, level + 1)?;
                        }
                        Value::Array(_) | Value::Object(_) => self.scan_value(value, line, level + 1)?,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn record(&mut self, value: &Value, line: usize) -> Result<(), ReadError> {
        let unreadable = |reason: String| ReadError::at(line, reason);
        check_format(value).map_err(unreadable)?;
        let stored: Stored = serde_path_to_error::deserialize(value).map_err(|error| {
            unreadable(format!("`{}` of the record cannot be read: {}", error.path(), error.inner()))
        })?;
        let Stored { version, target, deployment, pass, revision, at, decided, performed, too_long, part } = stored;
        let head = |body| Record { version, target, deployment, pass, revision, at, body };
        let record = match (decided, performed, too_long, part) {
            (Some(decided), None, None, None) => {
                head(RecordBody::Decided(Box::new(complete(*decided).map_err(unreadable)?)))
            }
            (None, Some(StoredPerformed { outcomes, journal, state: changes }), None, None) => {
                head(RecordBody::Performed(Performed { outcomes, journal, changes }))
            }
            (None, None, Some(bytes), None) => head(RecordBody::TooLong(bytes)),
            (None, None, None, Some(part)) => {
                return self.part(head(RecordBody::Incomplete { found: 0, all: 0 }), part, line);
            }
            _ => {
                let one = "one of `decided`, `performed`, `too_long` and `part`";
                return Err(unreadable(format!("a record has {one}, and this one has not")));
            }
        };
        self.found.records.push(record);
        Ok(())
    }

    /// Adds one part of a record; the last missing part completes the record.
    fn part(&mut self, head: Record, part: StoredPart, line: usize) -> Result<(), ReadError> {
        let StoredPart { of, number, all, text } = part;
        let key = (head.target.to_string(), head.pass.clone(), head.revision, of);
        let known = self.parts.entry(key.clone()).or_insert_with(|| Parts { head, line, all, texts: BTreeMap::new() });
        known.texts.insert(number, text);
        if known.texts.len() < known.all || known.all != all {
            return Ok(());
        }
        let Some(Parts { texts, line, .. }) = self.parts.remove(&key) else { return Ok(()) };
        let complete: String = texts.into_values().collect();
        let value: Value = serde_json::from_str(&complete).map_err(|error| {
            ReadError::at(line, format!("the parts of the record that begins here do not fit: {error}"))
        })?;
        if value.get("part").is_some() {
            return Err(ReadError::at(line, "the parts of a record have parts themselves"));
        }
        self.record(&value, line)
    }

    fn end(self) -> Recording {
        let Self { mut found, parts } = self;
        found.records.extend(parts.into_values().map(|Parts { head, all, texts, .. }| Record {
            body: RecordBody::Incomplete { found: texts.len(), all },
            ..head
        }));
        found
    }
}

/// Rejects a format that this version does not know, instead of guessing.
fn check_format(value: &Value) -> Result<(), String> {
    let by = value.get("version").and_then(Value::as_str).unwrap_or("?");
    let Some(format) = value.get("recording").and_then(Value::as_u64) else {
        return Err("`recording`, the format of a record, is no number".to_owned());
    };
    if format == 0 || format > u64::from(FORMAT) {
        return Err(format!(
            "a record in format {format} of Switchback {by}; this one ({VERSION}) reads up to format {FORMAT}: replay it with that one"
        ));
    }
    let state = value.pointer("/decided/state/format").and_then(Value::as_u64);
    if let Some(format) = state.filter(|format| *format > u64::from(target::FORMAT)) {
        let known = target::FORMAT;
        return Err(format!(
            "a state in format {format} of Switchback {by}; this one ({VERSION}) reads up to format {known}: replay it with that one"
        ));
    }
    Ok(())
}

/// The decision, with the resulting state rebuilt from the recorded changes.
fn complete(stored: StoredDecided) -> Result<Decided, String> {
    let StoredDecided { state, commands, policy, gate_context, snapshot, decision } = stored;
    let read = |body: &str, value: &Value| -> Result<TargetState, String> {
        serde_path_to_error::deserialize(value).map_err(|error: serde_path_to_error::Error<_>| {
            format!("`{}` of {body} cannot be read: {}", error.path(), error.inner())
        })
    };
    let after = apply(&state, &decision.state).map_err(|reason| format!("the state that was decided: {reason}"))?;
    let after = read("the state that was decided", &after)?;
    Ok(Decided {
        state: read("the state that was decided on", &state)?,
        commands,
        policy,
        gate_context,
        snapshot,
        decision: decision.with(after),
    })
}

/// The state with recorded changes applied.
pub(super) fn apply_changes(state: &TargetState, changes: &[super::JsonChange]) -> Result<TargetState, String> {
    let value = serde_json::to_value(state).map_err(|error| error.to_string())?;
    let after = apply(&value, changes)?;
    TargetState::deserialize(&after).map_err(|error| error.to_string())
}
