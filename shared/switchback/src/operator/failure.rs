//! Why a command did not do what it was asked to, and the exit code of each.

use super::exit::Exit;
use engine::operate::Refusal;

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command cannot be understood, or something that it needs is not there.
    #[error("{0}")]
    Usage(String),
    /// The policy file has problems; they have been told.
    #[error("{0}")]
    Policy(String),
    /// Switchback said no.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// IAM said no before Switchback was asked.
    #[error("{0}")]
    Forbidden(String),
    /// No answer, or one that says that there is none.
    #[error("{0}")]
    Unreachable(String),
    /// An answer that cannot be read.
    #[error("{0}")]
    Unexpected(String),
}

impl Failure {
    /// The exit code.
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

    /// The error's code for `--json`: Switchback's own where it has one.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Refused(refusal) => &refusal.code,
            Self::Forbidden(_) => "forbidden",
            other => other.exit().name(),
        }
    }
}
