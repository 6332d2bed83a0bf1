//! Who takes down what passes decide, to be decided again elsewhere: see [`rollout::recording`].

use rollout::TargetId;

/// What a recorder takes down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing; then nothing is made ready for it, either.
    #[default]
    Nothing,
    /// Decisions that did something: more than to look again later.
    Doings,
    /// Every decision, for tests.
    Everything,
}

/// Takes down what passes decide.
pub trait Recorder {
    /// What it takes down.
    fn wanted(&self) -> Wanted;

    /// Takes down one line about a target, and a deployment of it.
    fn record(&self, target: &TargetId, deployment: Option<u64>, line: String);
}

/// Takes nothing down.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unrecorded;

impl Recorder for Unrecorded {
    fn wanted(&self) -> Wanted {
        Wanted::Nothing
    }

    fn record(&self, _: &TargetId, _: Option<u64>, _: String) {}
}

/// The log target of records: who writes the log puts the field `record` into it as the JSON that it is.
pub const TARGET: &str = "record";

/// Takes down what did something in the log, or does not.
#[derive(Debug, Clone, Copy)]
pub struct InTheLog(pub bool);

impl Recorder for InTheLog {
    fn wanted(&self) -> Wanted {
        if self.0 { Wanted::Doings } else { Wanted::Nothing }
    }

    fn record(&self, target: &TargetId, deployment: Option<u64>, line: String) {
        tracing::info!(target: TARGET, target_id = %target, deployment, record = line, "decided");
    }
}
