//! The next stage, effects, reasons and time to look again: one synchronous, total function.

use crate::command::{Command, CommandId};
use crate::effect::{Effect, Outcome};
use crate::journal::JournalEntry;
use crate::snapshot::Snapshot;
use crate::target::{AppliedTarget, DeploymentRecord, TargetState};
use jiff::Timestamp;

/// What was asked of the target, and the policy that a new deployment would keep.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inbox<'a> {
    /// Commands that are not consumed, oldest first.
    pub commands: &'a [Command],
    /// The target's policy as it stands; none where no policy names the target any more.
    pub policy: Option<&'a AppliedTarget>,
}

/// What shall be written, done, and when to look again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a decision that is not committed did not happen"]
pub struct Decision {
    /// The next state.
    pub state: TargetState,
    /// What happened; sequences continue the state's.
    pub journal: Vec<JournalEntry>,
    /// Deployments that began or ended.
    pub history: Vec<DeploymentRecord>,
    /// Commands that are done with.
    pub consumed: Vec<CommandId>,
    /// What shall be true, in this order.
    pub effects: Vec<Effect>,
    /// When to look again.
    pub next: Next,
}

/// When a target is to be looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// At once, in the same pass if there is time.
    Again,
    /// Not later than then.
    At(Timestamp),
    /// Only when something is asked of it.
    Rest,
}

/// Decides.
pub fn decide(state: &TargetState, _inbox: &Inbox<'_>, _snapshot: Option<&Snapshot>, _now: Timestamp) -> Decision {
    Decision {
        state: state.clone(),
        journal: vec![],
        history: vec![],
        consumed: vec![],
        effects: vec![],
        next: Next::Rest,
    }
}

/// What the outcomes of a decision's effects change: the next state, and what is journalled of it.
#[must_use]
pub fn absorb(
    state: &TargetState,
    _outcomes: &[(Effect, Outcome)],
    _now: Timestamp,
) -> (TargetState, Vec<JournalEntry>) {
    (state.clone(), vec![])
}
