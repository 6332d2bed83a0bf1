//! Writes a decision, or the outcomes of its effects, as log lines.

use super::changes::changes;
use super::stored::{Head, Line, LineBody, LineDecided, LinePart, StoredDecision, StoredPerformed};
use super::{FORMAT, VERSION};
use crate::decide::{Decision, Inbox};
use crate::deployment::Deployment;
use crate::effect::{Effect, Outcome};
use crate::journal::JournalEntry;
use crate::snapshot::Snapshot;
use crate::target::TargetState;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// Marks the parts of a decision's record.
const DECIDED: &str = "decided";
/// Marks the parts of a record of outcomes.
const PERFORMED: &str = "performed";

/// The longest line, in bytes. A CloudWatch Logs event may have 1 MB, but a function's output reaches CloudWatch
/// through a pipe, and lines longer than a pipe's buffer (64 KiB) have been seen torn. The rest is for the fields that
/// the log adds.
pub const MAX_LINE_BYTES: usize = 56 * 1024;

/// Bytes of a record per line where it takes several. Quotes are escaped there, which may double the size.
const PART_BYTES: usize = 24 * 1024;

/// The most lines per record. A target is one item of at most 400 KiB in the ledger, and usual ones take a twentieth of
/// it.
const MAX_PARTS: usize = 48;

/// Which pass decided, and the order of its decision.
#[derive(Debug, Clone, Copy)]
pub struct RecordPosition<'a> {
    /// The driver pass that decides: the holder of the target's lease.
    pub pass: &'a str,
    /// The revision of the state that is decided on.
    pub revision: u64,
}

/// The inputs of a decision.
#[derive(Debug, Clone, Copy)]
pub struct DecisionInput<'a> {
    /// The target's state before the decision.
    pub state: &'a TargetState,
    /// Commands, policy and gate context.
    pub inbox: Inbox<'a>,
    /// The observation; none: nothing was read.
    pub snapshot: Option<&'a Snapshot>,
    /// The time passed to [`decide`](crate::decide()).
    pub now: Timestamp,
}

/// A record as lines of at most [`MAX_LINE_BYTES`] bytes.
fn lines(head: Head<'_>, of: &str, body: LineBody<'_>) -> Vec<String> {
    // Plain data with string keys: serialisation cannot fail.
    let text = |body| serde_json::to_string(&Line { head, body }).unwrap_or_default();
    let complete = text(body);
    if complete.len() <= MAX_LINE_BYTES {
        return vec![complete];
    }
    let parts = parts(&complete);
    if parts.len() > MAX_PARTS {
        return vec![text(LineBody::TooLong(complete.len()))];
    }
    let all = parts.len();
    let part = |(position, part)| text(LineBody::Part(LinePart { of, number: position + 1, all, text: part }));
    parts.into_iter().enumerate().map(part).collect()
}

/// Splits a text into parts of about [`PART_BYTES`] bytes, at character boundaries.
fn parts(mut text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    while text.len() > PART_BYTES {
        let (part, rest) = text.split_at(text.floor_char_boundary(PART_BYTES));
        parts.push(part);
        text = rest;
    }
    parts.push(text);
    parts
}

fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_default()
}

/// Whether a decision changed more than the time of the next check: only then is it recorded.
#[must_use]
pub fn is_worth_recording(before: &TargetState, decision: &Decision) -> bool {
    let Decision { state, journal, history, consumed, effects, next: _ } = decision;
    if !(journal.is_empty() && history.is_empty() && consumed.is_empty() && effects.is_empty()) {
        return true;
    }
    let mut unchanged = before.clone();
    unchanged.explanation.next_check_at = state.explanation.next_check_at;
    unchanged.wake_at = state.wake_at;
    if let (Some(before), Some(after)) = (&mut unchanged.idle, &state.idle) {
        // An idle observation that saw the same as the one before.
        (before.seen_at, before.services_seen_at) = (after.seen_at, after.services_seen_at);
    }
    unchanged != *state
}

/// A decision as log lines: one, or several that together are one record where it would be too long.
#[must_use]
pub fn decision_log_lines(position: RecordPosition<'_>, input: &DecisionInput<'_>, decision: &Decision) -> Vec<String> {
    let DecisionInput { state, inbox, snapshot, now } = *input;
    let Decision { state: after, journal, history, consumed, effects, next } = decision;
    let decision = StoredDecision {
        effects: effects.clone(),
        next: *next,
        journal: journal.clone(),
        history: history.clone(),
        consumed: consumed.clone(),
        state: changes(&value(state), &value(after)),
    };
    let runs = after.running.as_ref().or(state.running.as_ref());
    let Inbox { commands, policy, gate_context } = inbox;
    let decided = LineDecided { state, commands, policy, gate_context, snapshot, decision };
    lines(head(position, state, runs, now), DECIDED, LineBody::Decided(decided))
}

/// The outcomes of effects, as log lines. `before` is the state that the pass's decision left, `after` is what
/// [`apply_outcomes`](crate::apply_outcomes()) made of it at `now`.
#[must_use]
pub fn outcome_log_lines(
    position: RecordPosition<'_>,
    before: &TargetState,
    outcomes: &[(Effect, Outcome)],
    now: Timestamp,
    after: &TargetState,
    journal: &[JournalEntry],
) -> Vec<String> {
    let performed = StoredPerformed {
        outcomes: outcomes.to_vec(),
        journal: journal.to_vec(),
        state: changes(&value(before), &value(after)),
    };
    lines(head(position, before, before.running.as_ref(), now), PERFORMED, LineBody::Performed(performed))
}

fn head<'a>(
    position: RecordPosition<'a>,
    state: &'a TargetState,
    runs: Option<&Deployment>,
    at: Timestamp,
) -> Head<'a> {
    let RecordPosition { pass, revision } = position;
    let deployment = runs.map(|running| running.number);
    Head { recording: FORMAT, version: VERSION, target: &state.target, deployment, pass, revision, at }
}
