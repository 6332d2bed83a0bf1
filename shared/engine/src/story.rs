//! What every log line about one deployment carries, in whichever function it is written: `target_id`, and `deployment`
//! or `release` (the digest) or both, as far as they are known there; and `command_id` of what was asked.
//!
//! Until a pass has begun a deployment it has no number, and the release tells it; the driver's lines have both.

use rollout::target::TargetState;
use rollout::{Command, ImageDigest, Instruction, TargetId};
use tracing::Span;
use tracing::field::{Empty, display};

/// A span for what is done about one target: [`about`] and [`asks`] say more within it.
///
/// It is of the highest level, so that its fields are there however few lines are written.
#[must_use]
pub fn of(target: &TargetId) -> Span {
    let span = untold();
    span.record("target_id", display(target));
    span
}

/// The same where the target is not known yet: [`of_target`] names it.
#[must_use]
pub fn untold() -> Span {
    tracing::error_span!("story", target_id = Empty, deployment = Empty, release = Empty, command_id = Empty)
}

/// Names the target, in the span that is entered.
pub fn of_target(target: &TargetId) {
    Span::current().record("target_id", display(target));
}

/// Says what it is about, in the span that is entered.
pub fn about(deployment: Option<u64>, release: Option<&ImageDigest>) {
    let span = Span::current();
    if let Some(deployment) = deployment {
        span.record("deployment", deployment);
    }
    if let Some(release) = release {
        span.record("release", display(release));
    }
}

/// Says that it is about what runs at the target, if anything does.
pub(crate) fn about_running(state: &TargetState) {
    if let Some(running) = &state.running {
        about(Some(running.number), Some(&running.release.id.digest));
    }
}

/// Says that it is about a command to a target, in the span that is entered.
pub(crate) fn asks(command: &Command, state: &TargetState) {
    Span::current().record("command_id", display(&command.id.0));
    let running = state.running.as_ref();
    match &command.instruction {
        Instruction::Deploy { release, .. } => about(None, Some(&release.digest)),
        Instruction::Approve { deployment, .. }
        | Instruction::Reject { deployment, .. }
        | Instruction::Override { deployment, .. }
        | Instruction::Abort { deployment: Some(deployment) } => {
            let digest = running.filter(|running| running.number == *deployment);
            about(Some(*deployment), digest.map(|running| &running.release.id.digest));
        }
        Instruction::Abort { deployment: None }
        | Instruction::Rollback
        | Instruction::Resume
        | Instruction::StopTrain { .. }
        | Instruction::NameRelease { .. }
        | Instruction::NoteRefusal { .. } => about_running(state),
    }
}
