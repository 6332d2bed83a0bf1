//! An error as reported by Lambda: a stable type name, and a message with the chain of causes.

use lambda_runtime::Diagnostic;
use rollout::text::{clip_with_ellipsis, error_chain, visible};
use std::error::Error;
use std::fmt;

/// Maximum length of a failure's message, in characters. It quotes the refused input, which may be a megabyte.
pub const MAX_MESSAGE_CHARS: usize = 2_000;

/// Text for a log, a response or a dead letter: on one line, at most [`MAX_MESSAGE_CHARS`] characters.
#[must_use]
pub fn one_line(text: &str) -> String {
    visible(&clip_with_ellipsis(text, MAX_MESSAGE_CHARS))
}

/// Why an invocation failed: `errorType` and `errorMessage` of the response, of the dead letter and of the log line.
#[derive(Clone, PartialEq, Eq)]
pub struct InvocationFailure {
    kind: &'static str,
    message: String,
}

impl InvocationFailure {
    /// The event is not one that this function handles: a retry is useless.
    #[must_use]
    pub fn event(reason: impl Into<String>) -> Self {
        Self { kind: "InvalidEvent", message: one_line(&reason.into()) }
    }

    /// A setting is missing or invalid: the function is deployed incorrectly.
    #[must_use]
    pub fn configuration(error: &dyn Error) -> Self {
        Self { kind: "Configuration", message: one_line(&error_chain(error)) }
    }

    /// A dependency failed: a retry of the event may help.
    #[must_use]
    pub fn unavailable(error: &dyn Error) -> Self {
        Self { kind: "Unavailable", message: one_line(&error_chain(error)) }
    }

    /// `InvalidEvent`, `Configuration` or `Unavailable`; stable, for alarms and retries.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }
}

impl fmt::Display for InvocationFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// One line with the type, as logged by lambda_runtime.
impl fmt::Debug for InvocationFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl Error for InvocationFailure {}

impl From<InvocationFailure> for Diagnostic {
    fn from(failure: InvocationFailure) -> Self {
        Self { error_type: failure.kind.to_owned(), error_message: failure.message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);
    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("no such table")
        }
    }
    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn long_messages_are_truncated() {
        let whole = "ä".repeat(MAX_MESSAGE_CHARS);
        assert_eq!(InvocationFailure::event(whole.clone()).to_string(), whole);
        assert_eq!(InvocationFailure::event(whole.clone() + "ä").to_string(), whole + "…");
        assert_eq!(one_line("a\r\nb\u{0}\u{202e}"), "a  b\u{fffd}\u{fffd}");
    }

    #[test]
    fn a_failure_has_a_stable_type_and_every_cause() {
        let cause = "x".parse::<u8>().expect_err("no number");
        let diagnostic = Diagnostic::from(InvocationFailure::unavailable(&Outer(cause)));
        assert_eq!(diagnostic.error_type, "Unavailable");
        assert_eq!(diagnostic.error_message, "no such table: invalid digit found in string");
    }
}
