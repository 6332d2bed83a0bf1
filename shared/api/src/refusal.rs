//! Why a request was refused: one shape for every error.

use engine::ports::LedgerError;
use policy::{Problem, Problems};
use rollout::text::{clip_with_ellipsis, visible_lines};
use rollout::{CommandRefusal, TargetId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// HTTP status code.
    #[serde(skip)]
    pub status: u16,
    /// Stable error code: `unknown_target`.
    pub code: String,
    /// What is wrong, where, and how to fix it.
    pub message: String,
    /// All problems of the policy file, if the file is the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

/// A refusal as a JSON body: `{"error": {…}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The refusal.
    pub error: Refusal,
}

/// Maximum length of a refusal's message, in characters: it quotes the request, which may be a megabyte.
pub const MAX_MESSAGE_CHARS: usize = 4_000;
/// Maximum number of names that a refusal lists.
const MAX_NAMES: usize = 20;

impl Refusal {
    /// A refusal without policy file problems.
    #[must_use]
    pub fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        // The message quotes the request, and is shown on terminals and web pages.
        let message = visible_lines(&clip_with_ellipsis(&message.into(), MAX_MESSAGE_CHARS));
        Self { status, code: code.to_owned(), message, problems: Vec::new() }
    }

    /// 400: the request itself is invalid.
    #[must_use]
    pub fn request(code: &str, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }

    /// 409: the request does not fit the present state.
    #[must_use]
    pub fn conflict(code: &str, message: impl Into<String>) -> Self {
        Self::new(409, code, message)
    }

    /// The core's refusal of a command to this target.
    #[must_use]
    pub(crate) fn of_command(target: &TargetId, refusal: &CommandRefusal) -> Self {
        let status = match refusal {
            CommandRefusal::NotAnApprover { .. } | CommandRefusal::RequesterApproves { .. } => 403,
            _ => 409,
        };
        Self::new(status, refusal.code(), format!("{target}: {refusal}"))
    }

    /// 404, with the known names.
    #[must_use]
    pub fn unknown(code: &str, what: String, known: impl Iterator<Item = String>, what_to_do: &str) -> Self {
        let mut names: Vec<String> = known.take(MAX_NAMES + 1).collect();
        let more = names.len() > MAX_NAMES;
        names.truncate(MAX_NAMES);
        let listed = match (names.as_slice(), more) {
            ([], _) => "there is none".to_owned(),
            (names, false) => format!("there are: {}", names.join(", ")),
            (names, true) => format!("there are: {}, and more", names.join(", ")),
        };
        Self::new(404, code, format!("{what} ({listed}); {what_to_do}"))
    }

    /// 400: the body is not text, so that no request can be read from it.
    #[must_use]
    pub fn body_is_not_text() -> Self {
        Self::request("invalid_json", "the body is not UTF-8 text: send JSON with `content-type: application/json`")
    }

    /// Logs the refusal of a request that was not routed yet, and returns [its response](Self::into_response).
    #[must_use]
    pub fn logged(self) -> (u16, Value) {
        tracing::info!(http.status = self.status, error.code = self.code, "refused: {self}");
        self.into_response()
    }

    /// The response to the refused request: status and an [`ErrorBody`] as JSON.
    #[must_use]
    pub fn into_response(self) -> (u16, Value) {
        (self.status, serde_json::to_value(ErrorBody { error: self }).unwrap_or_default())
    }
}

impl Refusal {
    /// All problems of a file that was only to be previewed or checked, not applied.
    #[must_use]
    pub(crate) fn for_unapplied_policy(problems: Problems) -> Self {
        Self::for_problems(problems, "")
    }

    fn for_problems(problems: Problems, consequence: &str) -> Self {
        let message = match problems.0.len() {
            1 => format!("the policy file has a problem{consequence}"),
            count => format!("the policy file has {count} problems{consequence}"),
        };
        Self { status: 422, code: "invalid_policy".to_owned(), message, problems: problems.0 }
    }
}

impl From<Problems> for Refusal {
    fn from(problems: Problems) -> Self {
        Self::for_problems(problems, "; nothing was applied")
    }
}

impl From<LedgerError> for Refusal {
    fn from(error: LedgerError) -> Self {
        let (status, code, what_to_do) = match &error {
            LedgerError::Conflict { .. } | LedgerError::Locked { .. } => {
                (409, "conflict", "look at what they did, then ask again")
            }
            LedgerError::Unavailable { .. } => {
                (503, "ledger_unavailable", "ask again with the same `request` key: twice is once")
            }
            LedgerError::Refused { .. } => {
                (500, "ledger_refused", "look at the permissions and the table of this installation")
            }
            LedgerError::ResourceConflict(_) => (
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
