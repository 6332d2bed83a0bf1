//! Records, found in whatever log they lie: lines as they were written, among others and behind what a tool puts before
//! them, or JSON of `aws logs`.

use super::changes::apply;
use super::stored::{Stored, StoredDecided, StoredPart, StoredPerformed};
use super::{Decided, FORMAT, Performed, Record, Recording, VERSION, What};
use crate::target::{self, TargetState};
use serde::Deserialize;
use serde_json::{Deserializer, Value};
use std::collections::BTreeMap;

/// Why a text cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Unreadable {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub why: String,
}

/// The most characters of what is said to be wrong: it may quote what it found.
const LONGEST_WHY: usize = 500;

impl Unreadable {
    fn at(line: usize, why: impl Into<String>) -> Self {
        let mut why = why.into();
        if let Some((end, _)) = why.char_indices().nth(LONGEST_WHY) {
            why.truncate(end);
            why.push('…');
        }
        Self { line, why }
    }
}

/// What a line with a record has in it; or, where a tool has put the line into a text of its own, the other.
const MARKS: [&str; 2] = ["\"recording\":", "recording\\\":"];
/// The message of a log line that has a record.
const MESSAGE: &str = "decided";
/// Whether there may be a record in it.
fn is_marked(text: &str) -> bool {
    MARKS.iter().any(|mark| text.contains(mark))
}

/// Under which keys tools hand on what was logged: `filter-log-events` and `tail`, and Logs Insights.
const MESSAGE_KEYS: [&str; 3] = ["message", "@message", "value"];
/// The most levels of what tools put around a line.
const MOST_LEVELS: u8 = 8;

/// Every record in `text`, which is lines of a log, or JSON that has such lines in it.
///
/// # Errors
/// [`Unreadable`] where something is meant as a record and is none, or is of a newer format.
pub fn read(text: &str) -> Result<Recording, Unreadable> {
    let mut finding = Finding::default();
    if is_one_document(text) {
        let mut values = Deserializer::from_str(text).into_iter::<Value>();
        while let Some(value) = values.next() {
            let value = value.map_err(|error| Unreadable::at(error.line(), format!("no JSON: {error}")))?;
            // A document has one place for all: the messages in it have no lines of their own.
            let line = text[..values.byte_offset()].lines().count().max(1);
            finding.look_through(&value, line, 0)?;
        }
    } else {
        for (number, line) in text.lines().enumerate() {
            finding.line(line, number + 1, 0)?;
        }
    }
    Ok(finding.end())
}

/// Whether it is JSON over several lines, and not a value on each: whoever prints it so breaks after the first bracket.
fn is_one_document(text: &str) -> bool {
    let Some(first) = text.lines().map(str::trim).find(|line| !line.is_empty()) else { return false };
    first.chars().all(|letter| matches!(letter, '{' | '[' | ' '))
}

/// Whose parts: target, pass, revision, and what they are parts of.
type Key = (String, String, u64, String);

/// The parts of one record that were found: where, and of how many; and the head of one of them.
struct Parts {
    head: Record,
    line: usize,
    all: usize,
    texts: BTreeMap<usize, String>,
}

#[derive(Default)]
struct Finding {
    found: Recording,
    parts: BTreeMap<Key, Parts>,
}

impl Finding {
    /// One line of a log, or one message: values in it, whatever is before, between and behind them.
    fn line(&mut self, text: &str, number: usize, level: u8) -> Result<(), Unreadable> {
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
                    self.look_through(&value, number, level)?;
                }
                Some(Err(error)) => {
                    let end = if error.is_eof() { rest.len() } else { error.column() };
                    if rest.get(..end).is_none_or(is_marked) {
                        let why = format!("a record that is cut off, or is no JSON: {error}");
                        return Err(Unreadable::at(number, why));
                    }
                    // A bracket in what a tool puts before the line.
                    rest = &rest[1..];
                }
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// A value: a record, a log line with one, or what a tool has put around them. Words of people, who may write what
    /// looks like a record, are never looked into.
    fn look_through(&mut self, value: &Value, line: usize, level: u8) -> Result<(), Unreadable> {
        if level > MOST_LEVELS {
            return Ok(());
        }
        match value {
            Value::Array(values) => {
                for value in values {
                    match value {
                        Value::String(text) => self.line(text, line, level + 1)?,
                        value => self.look_through(value, line, level + 1)?,
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
                        Value::Array(_) | Value::Object(_) => self.look_through(value, line, level + 1)?,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn record(&mut self, value: &Value, line: usize) -> Result<(), Unreadable> {
        let unreadable = |why: String| Unreadable::at(line, why);
        check_format(value).map_err(unreadable)?;
        let stored: Stored = serde_path_to_error::deserialize(value).map_err(|error| {
            unreadable(format!("`{}` of the record cannot be read: {}", error.path(), error.inner()))
        })?;
        let Stored { version, target, deployment, pass, revision, at, decided, performed, too_long, part } = stored;
        let head = |what| Record { version, target, deployment, pass, revision, at, what };
        let record = match (decided, performed, too_long, part) {
            (Some(decided), None, None, None) => head(What::Decided(Box::new(whole(*decided).map_err(unreadable)?))),
            (None, Some(StoredPerformed { outcomes, journal, state: changes }), None, None) => {
                head(What::Performed(Performed { outcomes, journal, changes }))
            }
            (None, None, Some(bytes), None) => head(What::TooLong(bytes)),
            (None, None, None, Some(part)) => return self.part(head(What::Torn { found: 0, all: 0 }), part, line),
            _ => {
                let one = "one of `decided`, `performed`, `too_long` and `part`";
                return Err(unreadable(format!("a record has {one}, and this one has not")));
            }
        };
        self.found.records.push(record);
        Ok(())
    }

    /// A part of a record; with the last of them it is whole.
    fn part(&mut self, head: Record, part: StoredPart, line: usize) -> Result<(), Unreadable> {
        let StoredPart { of, number, all, text } = part;
        let key = (head.target.to_string(), head.pass.clone(), head.revision, of);
        let known = self.parts.entry(key.clone()).or_insert_with(|| Parts { head, line, all, texts: BTreeMap::new() });
        known.texts.insert(number, text);
        if known.texts.len() < known.all || known.all != all {
            return Ok(());
        }
        let Some(Parts { texts, line, .. }) = self.parts.remove(&key) else { return Ok(()) };
        let whole: String = texts.into_values().collect();
        let value: Value = serde_json::from_str(&whole).map_err(|error| {
            Unreadable::at(line, format!("the parts of the record that begins here do not fit: {error}"))
        })?;
        if value.get("part").is_some() {
            return Err(Unreadable::at(line, "the parts of a record have parts themselves"));
        }
        self.record(&value, line)
    }

    fn end(self) -> Recording {
        let Self { mut found, parts } = self;
        found.records.extend(
            parts
                .into_values()
                .map(|Parts { head, all, texts, .. }| Record { what: What::Torn { found: texts.len(), all }, ..head }),
        );
        found
    }
}

/// A format that this version does not know is not guessed at.
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

/// A decision with the state that it led to.
fn whole(stored: StoredDecided) -> Result<Decided, String> {
    let StoredDecided { state, commands, policy, around, snapshot, decision } = stored;
    let read = |what: &str, value: &Value| -> Result<TargetState, String> {
        serde_path_to_error::deserialize(value).map_err(|error: serde_path_to_error::Error<_>| {
            format!("`{}` of {what} cannot be read: {}", error.path(), error.inner())
        })
    };
    let after = apply(&state, &decision.state).map_err(|why| format!("the state that was decided: {why}"))?;
    let after = read("the state that was decided", &after)?;
    Ok(Decided {
        state: read("the state that was decided on", &state)?,
        commands,
        policy,
        around,
        snapshot,
        decision: decision.with(after),
    })
}

/// The state after a change that was recorded.
pub(super) fn changed(state: &TargetState, changes: &[super::Change]) -> Result<TargetState, String> {
    let value = serde_json::to_value(state).map_err(|error| error.to_string())?;
    let after = apply(&value, changes)?;
    TargetState::deserialize(&after).map_err(|error| error.to_string())
}
