//! An error as Lambda reports it: a type that never changes its name, and a message with all its causes.

use lambda_runtime::Diagnostic;
use std::error::Error;
use std::fmt;

/// The most that a failure says, in characters. What is refused is quoted in it, and may be a megabyte.
pub const LONGEST_MESSAGE: usize = 2_000;

/// Words for a log, an answer or a dead letter: on one line, and no more of them than [`LONGEST_MESSAGE`].
#[must_use]
pub fn brief(words: &str) -> String {
    let mut text: String = words.chars().take(LONGEST_MESSAGE + 1).collect();
    if let Some((end, _)) = text.char_indices().nth(LONGEST_MESSAGE) {
        text.truncate(end);
        text.push('…');
    }
    rollout::text::visible(&text)
}

/// Why an invocation failed: `errorType` and `errorMessage` of the answer, of the dead letter and of the log line.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    kind: &'static str,
    message: String,
}

impl Failure {
    /// The event is none that this function takes: repeating it is of no use.
    #[must_use]
    pub fn event(reason: impl Into<String>) -> Self {
        Self { kind: "InvalidEvent", message: brief(&reason.into()) }
    }

    /// A setting is missing or makes no sense: the deployment of the function is at fault.
    #[must_use]
    pub fn configuration(error: &dyn Error) -> Self {
        Self { kind: "Configuration", message: brief(&chain(error)) }
    }

    /// Something that this function stands on did not do its part: repeating the event may help.
    #[must_use]
    pub fn unavailable(error: &dyn Error) -> Self {
        Self { kind: "Unavailable", message: brief(&chain(error)) }
    }

    /// `InvalidEvent`, `Configuration` or `Unavailable`; stable, for alarms and retries.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// One line, with the type: this is how lambda_runtime logs it.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl Error for Failure {}

impl From<Failure> for Diagnostic {
    fn from(failure: Failure) -> Self {
        Self { error_type: failure.kind.to_owned(), error_message: failure.message }
    }
}

/// An error and its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
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
    fn what_is_refused_is_not_quoted_without_end() {
        let whole = "ä".repeat(LONGEST_MESSAGE);
        assert_eq!(Failure::event(whole.clone()).to_string(), whole);
        assert_eq!(Failure::event(whole.clone() + "ä").to_string(), whole + "…");
        assert_eq!(brief("a\r\nb\u{0}\u{202e}"), "a  b\u{fffd}\u{fffd}");
    }

    #[test]
    fn lambda_is_told_a_stable_type_and_every_cause() {
        let cause = "x".parse::<u8>().expect_err("no number");
        let diagnostic = Diagnostic::from(Failure::unavailable(&Outer(cause)));
        assert_eq!(diagnostic.error_type, "Unavailable");
        assert_eq!(diagnostic.error_message, "no such table: invalid digit found in string");
    }
}
