//! A decision as lines of a log.

use super::changes::changes;
use super::stored::{Head, Line, LineDecided, LinePart, LineWhat, StoredDecision, StoredPerformed};
use super::{FORMAT, VERSION};
use crate::decide::{Decision, Inbox};
use crate::effect::{Effect, Outcome};
use crate::journal::JournalEntry;
use crate::snapshot::Snapshot;
use crate::target::{Deployment, TargetState};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// What the parts of a decision are parts of.
const DECIDED: &str = "decided";
/// The same of what became of its effects.
const PERFORMED: &str = "performed";

/// The longest line, in bytes. A log event of CloudWatch may have 1 MB, but what a function writes reaches CloudWatch
/// through a pipe, and longer lines than a pipe holds (64 KiB) have been seen torn. The rest is for what the log adds.
pub const LONGEST_LINE: usize = 56 * 1024;

/// How much of a record stands in one line where it needs several. Quotes are escaped there: it may take twice as much.
const PART: usize = 24 * 1024;

/// The most lines that a record takes. A target is one item of 400 KiB in the ledger, and usual ones a twentieth of it.
const MOST_PARTS: usize = 48;

/// Whose decision it is, and where it stands in their order.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The pass that decides: who holds the target.
    pub pass: &'a str,
    /// The revision of the state that is decided on.
    pub revision: u64,
}

/// What a decision is made of.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// What is remembered.
    pub state: &'a TargetState,
    /// What is asked.
    pub inbox: Inbox<'a>,
    /// What was seen.
    pub snapshot: Option<&'a Snapshot>,
    /// The time.
    pub now: Timestamp,
}

/// As lines of at most [`LONGEST_LINE`] bytes.
fn lines(head: Head<'_>, of: &str, what: LineWhat<'_>) -> Vec<String> {
    // Plain data with texts as keys: there is nothing that could not be written.
    let text = |what| serde_json::to_string(&Line { head, what }).unwrap_or_default();
    let whole = text(what);
    if whole.len() <= LONGEST_LINE {
        return vec![whole];
    }
    let parts = parts(&whole);
    if parts.len() > MOST_PARTS {
        return vec![text(LineWhat::TooLong(whole.len()))];
    }
    let all = parts.len();
    let part = |(place, part)| text(LineWhat::Part(LinePart { of, number: place + 1, all, text: part }));
    parts.into_iter().enumerate().map(part).collect()
}

/// A text in pieces of about [`PART`] bytes, each of whole characters.
fn parts(mut text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    while text.len() > PART {
        let (part, rest) = text.split_at(text.floor_char_boundary(PART));
        parts.push(part);
        text = rest;
    }
    parts.push(text);
    parts
}

fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_default()
}

/// Whether a decision changed more than when it is looked at again: what is worth a record.
#[must_use]
pub fn did_something(before: &TargetState, decision: &Decision) -> bool {
    let Decision { state, journal, history, consumed, effects, next: _ } = decision;
    if !(journal.is_empty() && history.is_empty() && consumed.is_empty() && effects.is_empty()) {
        return true;
    }
    let mut unchanged = before.clone();
    unchanged.explanation.look_again_at = state.explanation.look_again_at;
    unchanged.wake_at = state.wake_at;
    if let (Some(before), Some(after)) = (&mut unchanged.at_rest, &state.at_rest) {
        // A look at rest that has seen what the one before saw.
        (before.seen_at, before.services_seen_at) = (after.seen_at, after.services_seen_at);
    }
    unchanged != *state
}

/// A decision as lines of a log: one, or, where that would be too long, several, which together are one record.
#[must_use]
pub fn decided(place: Place<'_>, given: &Given<'_>, decision: &Decision) -> Vec<String> {
    let Given { state, inbox, snapshot, now } = *given;
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
    let Inbox { commands, policy, around } = inbox;
    let decided = LineDecided { state, commands, policy, around, snapshot, decision };
    lines(head(place, state, runs, now), DECIDED, LineWhat::Decided(decided))
}

/// What became of effects, as lines of a log. `before` is the state that the pass's decision left, `after` is what
/// [`absorb`](crate::absorb()) made of it, at `now`.
#[must_use]
pub fn performed(
    place: Place<'_>,
    before: &TargetState,
    outcomes: &[(Effect, Outcome)],
    now: Timestamp,
    after: &TargetState,
    journal: &[JournalEntry],
) -> Vec<String> {
    let absorbed = StoredPerformed {
        outcomes: outcomes.to_vec(),
        journal: journal.to_vec(),
        state: changes(&value(before), &value(after)),
    };
    lines(head(place, before, before.running.as_ref(), now), PERFORMED, LineWhat::Performed(absorbed))
}

fn head<'a>(place: Place<'a>, state: &'a TargetState, runs: Option<&Deployment>, at: Timestamp) -> Head<'a> {
    let Place { pass, revision } = place;
    let deployment = runs.map(|running| running.number);
    Head { recording: FORMAT, version: VERSION, target: &state.target, deployment, pass, revision, at }
}
