//! The serialised form of a record. Writing borrows (`Line…`) and reading owns (`Stored…`); both use the same field
//! names.

use super::JsonChange;
use crate::command::{Command, CommandId};
use crate::decide::{Decision, Next};
use crate::deployment::DeploymentRecord;
use crate::effect::{Effect, Outcome};
use crate::journal::JournalEntry;
use crate::names::TargetId;
use crate::policy::AppliedTarget;
use crate::promotion::GateContext;
use crate::snapshot::Snapshot;
use crate::target::TargetState;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Fields of every line.
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

/// A line to write.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    #[serde(flatten)]
    pub(super) head: Head<'a>,
    #[serde(flatten)]
    pub(super) body: LineBody<'a>,
}

/// The content of a line.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LineBody<'a> {
    Decided(LineDecided<'a>),
    Performed(StoredPerformed),
    /// Length in bytes of a record that was too long to be written.
    TooLong(usize),
    Part(LinePart<'a>),
}

/// Inputs and output of a decision.
#[derive(Serialize)]
pub(super) struct LineDecided<'a> {
    pub(super) state: &'a TargetState,
    pub(super) commands: &'a [Command],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<&'a AppliedTarget>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gate_context: Option<&'a GateContext>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) snapshot: Option<&'a Snapshot>,
    pub(super) decision: StoredDecision,
}

/// One part of a record that is longer than one line ([`MAX_LINE_BYTES`](super::MAX_LINE_BYTES)).
#[derive(Serialize)]
pub(super) struct LinePart<'a> {
    /// `decided` or `performed`: a revision may have both.
    pub(super) of: &'a str,
    /// Counted from 1.
    pub(super) number: usize,
    pub(super) all: usize,
    pub(super) text: &'a str,
}

/// A line as read.
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

/// A decision's inputs and output, as read.
#[derive(Deserialize)]
pub(super) struct StoredDecided {
    /// As stored, not parsed: the recorded changes apply to this JSON.
    pub(super) state: Value,
    pub(super) commands: Vec<Command>,
    #[serde(default)]
    pub(super) policy: Option<AppliedTarget>,
    #[serde(default)]
    pub(super) gate_context: Option<GateContext>,
    #[serde(default)]
    pub(super) snapshot: Option<Snapshot>,
    pub(super) decision: StoredDecision,
}

/// A decision's output, with the resulting state as changes to the input state.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredDecision {
    pub(super) effects: Vec<Effect>,
    pub(super) next: Next,
    pub(super) journal: Vec<JournalEntry>,
    pub(super) history: Vec<DeploymentRecord>,
    pub(super) consumed: Vec<CommandId>,
    pub(super) state: Vec<JsonChange>,
}

impl StoredDecision {
    /// The complete decision, given the resulting state.
    pub(super) fn with(self, state: TargetState) -> Decision {
        let Self { effects, next, journal, history, consumed, state: _ } = self;
        Decision { state, journal, history, consumed, effects, next }
    }
}

/// The outcomes of effects.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredPerformed {
    pub(super) outcomes: Vec<(Effect, Outcome)>,
    pub(super) journal: Vec<JournalEntry>,
    pub(super) state: Vec<JsonChange>,
}

/// One part of a record, as read.
#[derive(Deserialize)]
pub(super) struct StoredPart {
    pub(super) of: String,
    pub(super) number: usize,
    pub(super) all: usize,
    pub(super) text: String,
}
