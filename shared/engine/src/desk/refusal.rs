//! Why something that was asked is not done: one shape for every error.

use crate::ports::LedgerError;
use policy::{Problem, Problems};
use serde::{Deserialize, Serialize};

/// Why something that was asked is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// HTTP's status.
    #[serde(skip)]
    pub status: u16,
    /// What, in a word that does not change: `unknown_target`.
    pub code: String,
    /// What is wrong, where, and what to do.
    pub message: String,
    /// Every problem of the policy file, if that is what is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

/// A refusal as it travels: `{"error": {…}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Why.
    pub error: Refusal,
}

/// The most that a refusal says, in characters: it quotes what was asked, and that may be a megabyte.
pub const LONGEST_MESSAGE: usize = 4_000;
/// The most names that a refusal lists.
const MOST_NAMES: usize = 20;

impl Refusal {
    /// A refusal without problems of a file.
    #[must_use]
    pub fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        // It quotes what was asked, and is shown on terminals and pages.
        let mut message = rollout::text::visible_lines(&message.into());
        if let Some((end, _)) = message.char_indices().nth(LONGEST_MESSAGE) {
            message.truncate(end);
            message.push('…');
        }
        Self { status, code: code.to_owned(), message, problems: Vec::new() }
    }

    /// 400: the request itself is wrong.
    #[must_use]
    pub fn request(code: &str, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }

    /// 409: it does not fit what is there now.
    #[must_use]
    pub fn conflict(code: &str, message: impl Into<String>) -> Self {
        Self::new(409, code, message)
    }

    /// 404, with the names that there are.
    #[must_use]
    pub fn unknown(code: &str, what: String, known: impl Iterator<Item = String>, what_to_do: &str) -> Self {
        let mut names: Vec<String> = known.take(MOST_NAMES + 1).collect();
        let more = names.len() > MOST_NAMES;
        names.truncate(MOST_NAMES);
        let listed = match (names.as_slice(), more) {
            ([], _) => "there is none".to_owned(),
            (names, false) => format!("there are: {}", names.join(", ")),
            (names, true) => format!("there are: {}, and more", names.join(", ")),
        };
        Self::new(404, code, format!("{what} ({listed}); {what_to_do}"))
    }
}

impl Refusal {
    /// Every problem of a file that nobody wanted to apply.
    #[must_use]
    pub(crate) fn of_a_file_only_read(problems: Problems) -> Self {
        let mut refusal = Self::from(problems);
        refusal.message = refusal.message.replace("; nothing was applied", "");
        refusal
    }
}

impl From<Problems> for Refusal {
    fn from(problems: Problems) -> Self {
        let message = match problems.0.len() {
            1 => "the policy file has a problem; nothing was applied".to_owned(),
            count => format!("the policy file has {count} problems; nothing was applied"),
        };
        Self { status: 422, code: "invalid_policy".to_owned(), message, problems: problems.0 }
    }
}

impl From<LedgerError> for Refusal {
    fn from(error: LedgerError) -> Self {
        let (status, code, what_to_do) = match &error {
            LedgerError::Conflict { .. } => (409, "conflict", "look at what they did, then ask again"),
            LedgerError::Unavailable { .. } => {
                (503, "ledger_unavailable", "ask again with the same `request` key: twice is once")
            }
            LedgerError::Refused { .. } => {
                (500, "ledger_refused", "look at the permissions and the table of this installation")
            }
            LedgerError::Claimed(_) => (
                409,
                "claimed",
                "two targets must not change the same thing: nothing was applied; name another one, or take it out of the other \
                 application's policy first",
            ),
            LedgerError::Unreadable { .. } => (500, "ledger_unreadable", "was it written by a newer version?"),
        };
        if status >= 500 {
            tracing::error!(error.code = code, "{error}");
        } else {
            tracing::info!(error.code = code, "{error}");
        }
        Self::new(status, code, format!("{error}; {what_to_do}"))
    }
}
