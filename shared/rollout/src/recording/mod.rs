//! Decisions as they were recorded, and the same decisions made again: the answer to "why did it do that, and would the
//! version that I am about to install do the same?"
//!
//! [`decide`](crate::decide()) and [`absorb`](crate::absorb()) are pure: what went in and what came out is all that there
//! is. A record is one line of JSON with both, and whoever has it can make the decision again, anywhere. What is recorded
//! of the state that came out is what changed in it.
//!
//! | module | what it does |
//! |---|---|
//! | `write` | a decision, or what became of its effects, as lines |
//! | `read` | lines, whatever log they lie in, as records |
//! | `replay` | records, decided again |
//! | `stored` | a record as it is written |
//! | `changes` | what differs between two JSON values |

mod changes;
mod read;
mod replay;
mod stored;
mod write;

pub use changes::{Change, Difference};
pub use read::{Unreadable, read};
pub use replay::{Gap, Now, Redone, Replay, replay};
pub use write::{Given, LONGEST_LINE, Place, decided, did_something, performed};

use crate::command::Command;
use crate::decide::{Decision, Inbox};
use crate::effect::{Effect, Outcome};
use crate::journal::JournalEntry;
use crate::names::TargetId;
use crate::promotion::Surroundings;
use crate::snapshot::Snapshot;
use crate::target::{AppliedTarget, TargetState};
use jiff::Timestamp;

/// The format of a record. A reader refuses a higher one instead of guessing.
pub const FORMAT: u16 = 1;

/// The version that decides here.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// All that was found in a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recording {
    /// In the order in which they were found.
    pub records: Vec<Record>,
    /// Lines, or messages, that are no records.
    pub others: usize,
}

/// One decision, or what became of its effects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The version of Switchback that decided.
    pub version: String,
    /// About what.
    pub target: TargetId,
    /// The deployment that it is about; none: none runs.
    pub deployment: Option<u64>,
    /// The pass that decided: who held the target then.
    pub pass: String,
    /// The revision of the target's state that was decided on: the order of decisions.
    pub revision: u64,
    /// When.
    pub at: Timestamp,
    /// What was recorded.
    pub what: What,
}

/// What was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A decision.
    Decided(Box<Decided>),
    /// What became of the effects of the pass's decision before.
    Performed(Performed),
    /// It was too long to be written down: so many bytes.
    TooLong(u64),
    /// Of the lines that it was written on, not all are there.
    Torn {
        /// So many are.
        found: usize,
        /// Of so many.
        all: usize,
    },
}

/// A decision: what went in, and what came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// What was remembered of the target.
    pub state: TargetState,
    /// What was asked of it.
    pub commands: Vec<Command>,
    /// The policy as it stood, where something might have begun.
    pub policy: Option<AppliedTarget>,
    /// What was known beyond the target.
    pub around: Option<Surroundings>,
    /// What was seen.
    pub snapshot: Option<Snapshot>,
    /// What came out.
    pub decision: Decision,
}

impl Decided {
    /// What was asked, as a decision is asked.
    #[must_use]
    pub fn inbox(&self) -> Inbox<'_> {
        Inbox { commands: &self.commands, policy: self.policy.as_ref(), around: self.around.as_ref() }
    }
}

/// What became of effects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Performed {
    /// Each effect that was performed, and what became of it.
    pub outcomes: Vec<(Effect, Outcome)>,
    /// What was journalled of it.
    pub journal: Vec<JournalEntry>,
    /// What changed in what is remembered.
    pub changes: Vec<Change>,
}
