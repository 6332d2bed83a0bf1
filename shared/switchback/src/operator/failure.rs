//! Failures of commands, and their exit codes.

use super::exit::Exit;
use api::Refusal;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command is invalid, or something that it needs is missing.
    #[error("{0}")]
    Usage(String),
    /// The policy file has problems, which have been printed already.
    #[error("{0}")]
    Policy(String),
    /// Refused by Switchback.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// Refused by IAM before the request reached Switchback.
    #[error("{0}")]
    Forbidden(String),
    /// No response, or a response that reports unavailability.
    #[error("{0}")]
    Unreachable(String),
    /// A response that cannot be parsed.
    #[error("{0}")]
    Unexpected(String),
}

impl Failure {
    /// Exit code of the failure.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Policy(_) => Exit::Policy,
            Self::Refused(refusal) if refusal.code == "invalid_policy" => Exit::Policy,
            Self::Refused(_) | Self::Forbidden(_) => Exit::Refused,
            Self::Unreachable(_) => Exit::Unreachable,
            Self::Unexpected(_) => Exit::Unexpected,
        }
    }

    /// Error code in `--json` output: Switchback's own, if it sent one.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Refused(refusal) => &refusal.code,
            Self::Forbidden(_) => "forbidden",
            other => other.exit().name(),
        }
    }
}
