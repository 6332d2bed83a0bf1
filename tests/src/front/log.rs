//! What was called, when, and what came of it: the record that tests count calls and round trips in.

use super::faults::FaultKind;
use rollout::Timestamp;
use rollout::text::clip_with_ellipsis;
use serde_json::Value;
use std::fmt;
use std::ops::RangeBounds;
use std::time::Duration;

/// One call, from the last byte of the request to the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Counts up from 1 in the order of arrival.
    pub number: u64,
    /// A constant of [`route`](super::route), or the credential scope's service for what was passed on.
    pub service: String,
    /// As AWS names it.
    pub operation: String,
    /// Whose call it was: the access key of its signature; empty where it has none.
    pub access_key: String,
    /// What was asked: the body as a tree. For Lambda the function's name and the payload.
    pub parameters: Value,
    /// Which try of the client this was, from 1 (`amz-sdk-request: attempt=2`).
    pub attempt: u32,
    /// When it came: wall time since the front was started.
    pub started: Duration,
    /// When it was over; none while it runs.
    pub ended: Option<Duration>,
    /// When it came, in the world's time.
    pub at: Timestamp,
    /// What came of it.
    pub answer: Answer,
    /// What a fault did to it.
    pub fault_kind: Option<FaultKind>,
}

/// What a caller got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing yet.
    Pending,
    /// An answer with this HTTP status.
    Done {
        /// 200 to 299, or whatever another service answered.
        status: u16,
    },
    /// An error.
    Refused {
        /// 400 and above.
        status: u16,
        /// AWS's code.
        code: String,
        /// AWS's words.
        message: String,
    },
    /// A closed connection.
    Disconnected,
}

impl Call {
    /// `ecs UpdateService`
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.service, self.operation)
    }

    /// A parameter by its path: `call.parameter("/Actions/0/Type")` (RFC 6901).
    #[must_use]
    pub fn parameter(&self, pointer: &str) -> Option<&Value> {
        self.parameters.pointer(pointer)
    }

    /// It was answered with a status below 400.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        matches!(self.answer, Answer::Done { status } if status < 400)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} +{} ms {}", self.number, self.started.as_millis(), self.name())?;
        match self.ended {
            Some(ended) => write!(f, " ({} ms)", ended.saturating_sub(self.started).as_millis())?,
            None => f.write_str(" (running)")?,
        }
        if self.attempt > 1 {
            write!(f, " attempt {}", self.attempt)?;
        }
        match &self.answer {
            Answer::Pending => f.write_str(" no answer yet")?,
            Answer::Done { status } => write!(f, " {status}")?,
            Answer::Refused { status, code, message } => write!(f, " {status} {code}: {message}")?,
            Answer::Disconnected => f.write_str(" connection cut")?,
        }
        if let Some(fault_kind) = &self.fault_kind {
            write!(f, " [fault: {fault_kind:?}]")?;
        }
        write!(f, " {}", clip_with_ellipsis(&self.parameters.to_string(), 200))
    }
}

/// All calls so far, by arrival.
#[derive(Debug, Clone, Default)]
pub struct Log(Vec<Call>);

impl Log {
    /// Every call.
    #[must_use]
    pub fn calls(&self) -> &[Call] {
        &self.0
    }

    /// The calls of one operation.
    pub fn of<'a>(&'a self, service: &'a str, operation: &'a str) -> impl Iterator<Item = &'a Call> {
        self.0.iter().filter(move |call| call.service == service && call.operation == operation)
    }

    /// The longest chain of calls of which each began when the one before it was over: what the caller waited for,
    /// one after the other. Only calls that began and ended inside of `window` (wall time since the front's start) count.
    ///
    /// Parallel calls are distinguished from sequential ones by their overlap, so give the front a latency of a few
    /// milliseconds ([`Front::set_latency`](super::Front::set_latency)) where this is counted.
    #[must_use]
    pub fn sequential_depth(&self, window: impl RangeBounds<Duration>) -> Vec<&Call> {
        let mut inside: Vec<(Duration, &Call)> = self
            .0
            .iter()
            .filter_map(|call| call.ended.map(|ended| (ended, call)))
            .filter(|(ended, call)| window.contains(&call.started) && window.contains(ended))
            .collect();
        // Interval scheduling: taking what ends first leaves the most room for the rest.
        inside.sort_by_key(|(ended, _)| *ended);
        let mut chain: Vec<&Call> = Vec::new();
        let mut free_from = Duration::ZERO;
        for (ended, call) in inside {
            if call.started >= free_from {
                chain.push(call);
                free_from = ended;
            }
        }
        chain
    }

    /// Of the call that comes next.
    pub(super) fn next_number(&self) -> u64 {
        self.0.len() as u64 + 1
    }

    pub(super) fn begin(&mut self, call: Call) -> u64 {
        let number = self.next_number();
        self.0.push(Call { number, ..call });
        number
    }

    /// Answers the call as it is then.
    pub(super) fn end(&mut self, number: u64, ended: Duration, answer: Answer) -> Option<Call> {
        let index = usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
        let call = self.0.get_mut(index)?;
        call.ended = Some(ended);
        call.answer = answer;
        Some(call.clone())
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|call| writeln!(f, "{call}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Call, Log};
    use serde_json::Value;
    use std::time::Duration;

    fn log(spans: &[(&str, u64, u64)]) -> Log {
        let mut log = Log::default();
        for (operation, started, ended) in spans {
            let number = log.begin(Call {
                number: 0,
                service: "ecs".to_owned(),
                operation: (*operation).to_owned(),
                access_key: String::new(),
                parameters: Value::Null,
                attempt: 1,
                started: Duration::from_millis(*started),
                ended: None,
                at: rollout::Timestamp::UNIX_EPOCH,
                answer: Answer::Pending,
                fault_kind: None,
            });
            log.end(number, Duration::from_millis(*ended), Answer::Done { status: 200 });
        }
        log
    }

    #[test]
    fn parallel_calls_count_once() {
        let log = log(&[("a", 0, 10), ("b", 1, 9), ("c", 2, 12), ("d", 12, 20), ("e", 13, 19), ("f", 25, 30)]);
        assert_eq!(log.sequential_depth(..).len(), 3, "{log}");
    }

    #[test]
    fn only_the_window_counts() {
        let log = log(&[("a", 0, 10), ("b", 10, 20), ("c", 20, 30)]);
        let names: Vec<String> = log
            .sequential_depth(Duration::from_millis(10)..=Duration::from_millis(20))
            .into_iter()
            .map(Call::name)
            .collect();
        assert_eq!(names, ["ecs b"]);
    }
}
