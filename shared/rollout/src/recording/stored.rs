//! A record as it is written: read and written by the same names.

use super::Change;
use crate::command::{Command, CommandId};
use crate::decide::{Decision, Next};
use crate::effect::{Effect, Outcome};
use crate::journal::JournalEntry;
use crate::names::TargetId;
use crate::promotion::Surroundings;
use crate::snapshot::Snapshot;
use crate::target::{AppliedTarget, DeploymentRecord, TargetState};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What every line has.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Head<'a> {
    pub(super) recording: u16,
    pub(super) version: &'a str,
    pub(super) target: &'a TargetId,
    pub(super) deployment: Option<u64>,
    pub(super) pass: &'a str,
    pub(super) revision: u64,
    pub(super) at: Timestamp,
}

/// A line that is written.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    #[serde(flatten)]
    pub(super) head: Head<'a>,
    #[serde(flatten)]
    pub(super) what: LineWhat<'a>,
}

/// What it says.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LineWhat<'a> {
    Decided(LineDecided<'a>),
    Performed(StoredPerformed),
    /// It would have taken so many bytes.
    TooLong(usize),
    Part(LinePart<'a>),
}

/// A decision.
#[derive(Serialize)]
pub(super) struct LineDecided<'a> {
    pub(super) state: &'a TargetState,
    pub(super) commands: &'a [Command],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<&'a AppliedTarget>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) around: Option<&'a Surroundings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) snapshot: Option<&'a Snapshot>,
    pub(super) decision: StoredDecision,
}

/// A piece of a record that does not fit one line.
#[derive(Serialize)]
pub(super) struct LinePart<'a> {
    /// `decided` or `performed`: both may have one revision.
    pub(super) of: &'a str,
    /// From 1.
    pub(super) number: usize,
    pub(super) all: usize,
    pub(super) text: &'a str,
}

/// A line that is read.
#[derive(Deserialize)]
pub(super) struct Stored {
    pub(super) version: String,
    pub(super) target: TargetId,
    pub(super) deployment: Option<u64>,
    pub(super) pass: String,
    pub(super) revision: u64,
    pub(super) at: Timestamp,
    #[serde(default)]
    pub(super) decided: Option<Box<StoredDecided>>,
    #[serde(default)]
    pub(super) performed: Option<StoredPerformed>,
    #[serde(default)]
    pub(super) too_long: Option<u64>,
    #[serde(default)]
    pub(super) part: Option<StoredPart>,
}

#[derive(Deserialize)]
pub(super) struct StoredDecided {
    /// As it was stored: what changed is told of that.
    pub(super) state: Value,
    pub(super) commands: Vec<Command>,
    #[serde(default)]
    pub(super) policy: Option<AppliedTarget>,
    #[serde(default)]
    pub(super) around: Option<Surroundings>,
    #[serde(default)]
    pub(super) snapshot: Option<Snapshot>,
    pub(super) decision: StoredDecision,
}

/// What came out of a decision, the state as what changed in it.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredDecision {
    pub(super) effects: Vec<Effect>,
    pub(super) next: Next,
    pub(super) journal: Vec<JournalEntry>,
    pub(super) history: Vec<DeploymentRecord>,
    pub(super) consumed: Vec<CommandId>,
    pub(super) state: Vec<Change>,
}

impl StoredDecision {
    /// The whole of it, once the state is known.
    pub(super) fn with(self, state: TargetState) -> Decision {
        let Self { effects, next, journal, history, consumed, state: _ } = self;
        Decision { state, journal, history, consumed, effects, next }
    }
}

/// What became of effects.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredPerformed {
    pub(super) outcomes: Vec<(Effect, Outcome)>,
    pub(super) journal: Vec<JournalEntry>,
    pub(super) state: Vec<Change>,
}

#[derive(Deserialize)]
pub(super) struct StoredPart {
    pub(super) of: String,
    pub(super) number: usize,
    pub(super) all: usize,
    pub(super) text: String,
}
