//! What an SDK's error means for who called: is it worth trying again, or is the answer no?

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use rollout::Outcome;
use std::error::Error;

/// The most of a reason that is kept, in characters.
pub const LONGEST_REASON: usize = 1_000;

/// What became of a call that did not succeed. Each reason is one line for people, with the operation, AWS's code and
/// message, and the request's id where AWS gave one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Too many requests: it was not done. Worth trying again, and later rather than at once.
    #[error("{reason}")]
    Throttled {
        /// Why, for people.
        reason: String,
    },
    /// Timed out, unreachable, broken on the other side, or no answer that can be read: perhaps it was
    /// done, perhaps not. Worth trying again.
    #[error("{reason}")]
    Unsure {
        /// Why, for people.
        reason: String,
    },
    /// Denied, invalid, not there: the same call will get the same answer.
    #[error("{reason}")]
    Refused {
        /// Why, for people.
        reason: String,
    },
    /// A condition of the call did not hold: somebody else wrote first.
    #[error("{reason}")]
    Conflict {
        /// Why, for people.
        reason: String,
    },
}

/// Codes that say "not now". Some services, and all emulators, send a few of them with a status below 500.
/// From the SDK's own `aws_runtime::retries::classifiers`, and what ECS, ELBv2, Lambda, DynamoDB and SNS document on top.
const NOT_NOW: &[&str] = &[
    "ConcurrentUpdateException",
    "InternalFailure",
    "InternalServerError",
    "InternalServerException",
    "KMSThrottling",
    "KMSThrottlingException",
    "PriorRequestNotComplete",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServerException",
    "ServiceException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "TransactionInProgressException",
    // Credentials that are renewed, and a clock that is set, between two attempts.
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "RequestTimeTooSkewed",
];

/// Codes that say "too many requests": what the SDK itself takes for throttling
/// (`aws_runtime::retries::classifiers::THROTTLING_ERRORS`), less what is said of a key or of a transaction.
const TOO_MANY: &[&str] = &[
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "Throttled",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];

/// Codes that say "somebody else wrote first".
const CONFLICT: &[&str] = &[
    "ConditionalCheckFailedException",
    "IdempotentParameterMismatchException",
    "ReplicatedWriteConflictException",
    "TransactionCanceledException",
    "TransactionConflictException",
];

impl Failure {
    /// Classifies the error of `operation`, which is the call's name as AWS writes it.
    #[must_use]
    pub fn of<E>(operation: &str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let reason = reason(operation, error);
        match error {
            // Nothing was sent, and nothing that could be sent will be another time.
            SdkError::ConstructionFailure(_) => Self::Refused { reason },
            SdkError::DispatchFailure(failure) if failure.is_user() => Self::Refused { reason },
            SdkError::ServiceError(service) => {
                let code = service.err().code().unwrap_or_default();
                let status = service.raw().status().as_u16();
                let told = CONFLICT.contains(&code) || TOO_MANY.contains(&code);
                if !told && status == 429 {
                    Self::Throttled { reason }
                } else if !told && status >= 500 {
                    Self::Unsure { reason }
                } else {
                    Self::by_code(code, reason)
                }
            }
            // Time-outs, connections that broke, answers that cannot be read, and whatever kinds of error come later.
            _ => Self::Unsure { reason },
        }
    }

    /// Classifies AWS's code by itself, where a call says of each of its parts what became of it.
    #[must_use]
    pub fn by_code(code: &str, reason: String) -> Self {
        if CONFLICT.contains(&code) {
            Self::Conflict { reason }
        } else if TOO_MANY.contains(&code) {
            Self::Throttled { reason }
        } else if NOT_NOW.contains(&code) {
            Self::Unsure { reason }
        } else {
            Self::Refused { reason }
        }
    }

    /// The reason, for people.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Throttled { reason }
            | Self::Unsure { reason }
            | Self::Refused { reason }
            | Self::Conflict { reason } => reason,
        }
    }

    /// Whether there were too many requests.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        matches!(self, Self::Throttled { .. })
    }

    /// What an effect came to that failed like this. A conflict is somebody else's write in between: it is asked for
    /// again once the world has been read again.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Throttled { reason } => Outcome::Throttled { reason },
            Self::Unsure { reason } | Self::Conflict { reason } => Outcome::Unsure { reason },
            Self::Refused { reason } => Outcome::Refused { reason },
        }
    }
}

fn reason<E>(operation: &str, error: &SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let mut text = format!("{operation}: ");
    match error.as_service_error() {
        Some(service) if service.code().is_some() || service.message().is_some() => {
            let parts = [service.code(), service.message()];
            text.push_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(": "));
        }
        _ => text.push_str(&chain(error)),
    }
    if let Some(response) = error.raw_response() {
        let id = ["x-amzn-requestid", "x-amz-request-id"].iter().find_map(|name| response.headers().get(*name));
        let id = id.map(|id| format!(", request {id}")).unwrap_or_default();
        text.push_str(&format!(" (status {}{id})", response.status().as_u16()));
    }
    one_line(&text)
}

/// An error and what is behind it, each link once: some repeat the link behind them in their own words.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(link) = next {
        let words = link.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = link.source();
    }
    text
}

/// On one line, and no more of it than a target's item holds with all else: an answer may have megabytes.
pub(crate) fn one_line(text: &str) -> String {
    rollout::text::line(text, LONGEST_REASON)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_smithy_runtime_api::client::result::ConnectorError;
    use aws_smithy_runtime_api::http::StatusCode;
    use aws_smithy_types::body::SdkBody;
    use aws_smithy_types::error::ErrorMetadata;

    type Answer = SdkError<ErrorMetadata, HttpResponse>;

    fn answered(status: u16, code: &str, message: &str) -> Answer {
        let mut response = HttpResponse::new(StatusCode::try_from(status).expect("a status"), SdkBody::empty());
        response.headers_mut().insert("x-amzn-requestid", "4b1d");
        let mut error = ErrorMetadata::builder();
        if !code.is_empty() {
            error = error.code(code).message(message);
        }
        SdkError::service_error(error.build(), response)
    }

    #[test]
    fn an_answer_is_one_line_with_code_message_and_request() {
        let denied = answered(400, "AccessDeniedException", "User: x is not\n  authorized");
        let expected = "DescribeServices: AccessDeniedException: User: x is not authorized (status 400, request 4b1d)";
        assert_eq!(Failure::of("DescribeServices", &denied), Failure::Refused { reason: expected.to_owned() });
    }

    #[test]
    fn an_answer_without_end_is_a_reason_with_one() {
        let Failure::Refused { reason } = Failure::of("Call", &answered(400, "No", &"ä ".repeat(2_000_000))) else {
            panic!("it is refused")
        };
        assert!((LONGEST_REASON..=LONGEST_REASON + 1).contains(&reason.chars().count()), "{reason}");
        assert!(reason.starts_with("Call: No: ä ä ") && reason.ends_with('…'), "{reason}");
    }

    #[test]
    fn not_now_is_told_from_no_and_from_somebody_was_first() {
        let kind = |status, code| match Failure::of("Call", &answered(status, code, "…")) {
            Failure::Throttled { .. } => "throttled",
            Failure::Unsure { .. } => "unsure",
            Failure::Refused { .. } => "refused",
            Failure::Conflict { .. } => "conflict",
        };
        for code in NOT_NOW {
            assert_eq!(kind(400, code), "unsure", "{code}");
        }
        for code in TOO_MANY {
            assert_eq!((kind(400, code), kind(503, code)), ("throttled", "throttled"), "{code}");
        }
        for code in CONFLICT {
            assert_eq!(kind(400, code), "conflict", "{code}");
        }
        for code in ["ValidationException", "ServiceNotFoundException", "UnauthorizedOperation", "RuleNotFound"] {
            assert_eq!(kind(400, code), "refused", "{code}");
            assert_eq!(kind(503, code), "unsure", "{code}");
        }
        assert_eq!(kind(429, "SomethingNew"), "throttled");
        assert_eq!(kind(500, ""), "unsure");
        assert_eq!(kind(403, ""), "refused");
    }

    #[test]
    fn what_may_have_been_sent_is_unsure_and_says_why_once() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        let lost: Answer = SdkError::dispatch_failure(ConnectorError::io(refused.into()));
        let Failure::Unsure { reason } = Failure::of("ModifyRule", &lost) else { panic!("{lost:?}") };
        assert_eq!(reason, "ModifyRule: dispatch failure: io error: connection refused");

        let late: Answer = SdkError::timeout_error("no answer within 3 s");
        let Failure::Unsure { reason } = Failure::of("ModifyRule", &late) else { panic!("{late:?}") };
        assert_eq!(reason, "ModifyRule: request has timed out: no answer within 3 s");

        let response = HttpResponse::new(StatusCode::try_from(200).expect("a status"), SdkBody::empty());
        let garbled: Answer = SdkError::response_error("not XML", response);
        let Failure::Unsure { reason } = Failure::of("ModifyRule", &garbled) else { panic!("{garbled:?}") };
        assert_eq!(reason, "ModifyRule: response error: not XML (status 200)");
    }

    #[test]
    fn what_was_never_sent_is_refused() {
        let built: Answer = SdkError::construction_failure("the rule has no ARN");
        let Failure::Refused { reason } = Failure::of("ModifyRule", &built) else { panic!("{built:?}") };
        assert_eq!(reason, "ModifyRule: failed to construct request: the rule has no ARN");
    }

    #[test]
    fn an_effect_that_met_somebody_elses_write_is_unsure() {
        let reason = "…".to_owned();
        assert_eq!(Failure::Conflict { reason: reason.clone() }.outcome(), Outcome::Unsure { reason: reason.clone() });
        assert_eq!(Failure::Refused { reason: reason.clone() }.outcome(), Outcome::Refused { reason });
    }
}
