//! Records the decisions of passes, to be replayed elsewhere: see [`rollout::recording`].

use rollout::TargetId;

/// Which decisions a recorder records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RecordingLevel {
    /// None; no recording is prepared either.
    #[default]
    Off,
    /// Decisions with effects or changes: more than scheduling the next observation.
    Actions,
    /// Every decision, for tests.
    All,
}

/// Records the decisions of passes.
pub trait Recorder {
    /// Which decisions it records.
    fn wanted(&self) -> RecordingLevel;

    /// Records one line about a target and one of its deployments.
    fn record(&self, target: &TargetId, deployment: Option<u64>, line: String);
}

/// Records nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullRecorder;

impl Recorder for NullRecorder {
    fn wanted(&self) -> RecordingLevel {
        RecordingLevel::Off
    }

    fn record(&self, _: &TargetId, _: Option<u64>, _: String) {}
}

/// Log target of records: the logger embeds the field `record` as JSON.
pub const TARGET: &str = "record";

/// Writes decisions that did something to the log if true, and nothing otherwise.
#[derive(Debug, Clone, Copy)]
pub struct LogRecorder(pub bool);

impl Recorder for LogRecorder {
    fn wanted(&self) -> RecordingLevel {
        if self.0 { RecordingLevel::Actions } else { RecordingLevel::Off }
    }

    fn record(&self, target: &TargetId, deployment: Option<u64>, line: String) {
        tracing::info!(target: TARGET, target_id = %target, deployment, record = line, "decided");
    }
}
