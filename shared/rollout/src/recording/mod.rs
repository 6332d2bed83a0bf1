//! Recorded decisions, and their replay: the answer to "why did it do that, and would the version that I am about to
//! install do the same?"
//!
//! [`decide`](crate::decide()) and [`apply_outcomes`](crate::apply_outcomes()) are pure: their inputs and outputs are
//! all there is. A record is one line of JSON with both, from which the decision can be made again anywhere. Of the
//! resulting state, only the changes are recorded.
//!
//! | module | what it does |
//! |---|---|
//! | `write` | writes a decision, or the outcomes of its effects, as log lines |
//! | `read` | finds records in log lines, whatever the log's format |
//! | `replay` | makes recorded decisions again |
//! | `stored` | the serialised form of a record |
//! | `changes` | differences between two JSON values |

mod changes;
mod read;
mod replay;
mod stored;
mod write;

pub use changes::{FieldDifference, JsonChange};
pub use read::{ReadError, read};
pub use replay::{Gap, Recomputed, Replay, ReplayedRecord, replay};
pub use write::{
    DecisionInput, MAX_LINE_BYTES, RecordPosition, decision_log_lines, is_worth_recording, outcome_log_lines,
};

use crate::command::Command;
use crate::decide::{Decision, Inbox};
use crate::effect::{Effect, Outcome};
use crate::journal::JournalEntry;
use crate::names::TargetId;
use crate::policy::AppliedTarget;
use crate::promotion::GateContext;
use crate::snapshot::Snapshot;
use crate::target::TargetState;
use jiff::Timestamp;

/// The format of a record. A reader refuses a higher one instead of guessing.
pub const FORMAT: u16 = 1;

/// The version of this crate, stored in every record that it writes.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// All records found in a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recording {
    /// In the order in which they were found.
    pub records: Vec<Record>,
    /// Number of lines, or messages, that are not records.
    pub others: usize,
}

/// One decision, or the outcomes of its effects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The version of Switchback that decided.
    pub version: String,
    /// The target that was decided on.
    pub target: TargetId,
    /// Number of the running deployment; none: none runs.
    pub deployment: Option<u64>,
    /// The driver pass that decided: the holder of the target's lease at that time.
    pub pass: String,
    /// The revision of the target's state that was decided on: it orders decisions.
    pub revision: u64,
    /// The time that the decision was given as its input.
    pub at: Timestamp,
    /// What was recorded.
    pub body: RecordBody,
}

/// What was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordBody {
    /// A decision.
    Decided(Box<Decided>),
    /// The outcomes of the effects of the same pass's previous decision.
    Performed(Performed),
    /// The record was too long to be written: its length in bytes.
    TooLong(u64),
    /// Some lines of a record that was written in parts are missing.
    Incomplete {
        /// Number of parts found.
        found: usize,
        /// Number of parts written.
        all: usize,
    },
}

/// A decision: its inputs and its output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The target's state before the decision.
    pub state: TargetState,
    /// The commands in the inbox.
    pub commands: Vec<Command>,
    /// The policy at that time, where a deployment might have started.
    pub policy: Option<AppliedTarget>,
    /// Brakes and related targets.
    pub gate_context: Option<GateContext>,
    /// The observation.
    pub snapshot: Option<Snapshot>,
    /// The output.
    pub decision: Decision,
}

impl Decided {
    /// The inbox to pass to [`decide`](crate::decide()).
    #[must_use]
    pub fn inbox(&self) -> Inbox<'_> {
        Inbox { commands: &self.commands, policy: self.policy.as_ref(), gate_context: self.gate_context.as_ref() }
    }
}

/// The outcomes of effects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Performed {
    /// Each effect that was performed, with its outcome.
    pub outcomes: Vec<(Effect, Outcome)>,
    /// The journal entries that the outcomes caused.
    pub journal: Vec<JournalEntry>,
    /// What the outcomes changed in the target's state.
    pub changes: Vec<JsonChange>,
}
