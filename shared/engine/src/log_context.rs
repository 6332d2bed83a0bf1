//! Fields of every log line about one deployment, in every function: `target_id`; `deployment` or `release` (the digest) or both,
//! as far as they are known; and `command_id` of the request.
//!
//! Before a pass starts a deployment it has no number, and the release identifies it; the driver's lines have both.

use rollout::target::TargetState;
use rollout::{Command, ImageDigest, Instruction, TargetId};
use tracing::Span;
use tracing::field::{Empty, display};

/// A span for work on one target: [`about`] and [`set_command`] add fields to it.
///
/// At the highest level, so that its fields are present whatever the log level.
#[must_use]
pub fn of(target: &TargetId) -> Span {
    let span = empty_span();
    span.record("target_id", display(target));
    span
}

/// The same before the target is known: [`set_target`] adds it.
#[must_use]
pub fn empty_span() -> Span {
    tracing::error_span!("deployment", target_id = Empty, deployment = Empty, release = Empty, command_id = Empty)
}

/// Sets the target of the current span.
pub fn set_target(target: &TargetId) {
    Span::current().record("target_id", display(target));
}

/// Sets the deployment and the release of the current span.
pub fn about(deployment: Option<u64>, release: Option<&ImageDigest>) {
    let span = Span::current();
    if let Some(deployment) = deployment {
        span.record("deployment", deployment);
    }
    if let Some(release) = release {
        span.record("release", display(release));
    }
}

/// Sets the target's running deployment, if any, in the current span.
pub(crate) fn set_running_deployment(state: &TargetState) {
    if let Some(running) = &state.running {
        about(Some(running.number), Some(&running.release.id.digest));
    }
}

/// Sets the command in the current span.
pub fn set_command(command: &Command, state: &TargetState) {
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
        | Instruction::ApproveTrain { .. }
        | Instruction::StopTrain { .. }
        | Instruction::NameRelease { .. }
        | Instruction::NoteRefusal { .. } => set_running_deployment(state),
    }
}
