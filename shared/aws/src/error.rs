//! Classifies SDK errors for the caller: retry, or give up.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use rollout::Outcome;
use rollout::text::{error_chain, line};
use std::error::Error;

/// Maximum length of a reason, in characters: as long as those that the core takes from AWS's answers.
pub const MAX_REASON_CHARS: usize = rollout::answers::MAX_REASON_CHARS;

/// Why a call failed. Each reason is one readable line with the operation, AWS's code and message, and the request ID where
/// AWS gave one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AwsFailure {
    /// Throttled: the call had no effect. Worth retrying, after a delay.
    #[error("{reason}")]
    Throttled {
        /// Shown to people.
        reason: String,
    },
    /// Timed out, unreachable, server error, or unreadable response: the call may or may not have had an effect. Worth
    /// retrying.
    #[error("{reason}")]
    Unsure {
        /// Shown to people.
        reason: String,
    },
    /// Denied, invalid or not found: repeating the same call gives the same answer.
    #[error("{reason}")]
    Refused {
        /// Shown to people.
        reason: String,
    },
    /// A condition of the call did not hold: another writer came first.
    #[error("{reason}")]
    Conflict {
        /// Shown to people.
        reason: String,
    },
}

/// Codes of transient errors. Some services, and all emulators, send a few of them with a status below 500.
/// Taken from the SDK's `aws_runtime::retries::classifiers`, plus what ECS, ELBv2, Lambda, DynamoDB and SNS document.
const RETRYABLE_CODES: &[&str] = &[
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
    // Credentials may be renewed, or a clock corrected, between two attempts.
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "RequestTimeTooSkewed",
];

/// Throttling codes: those the SDK itself treats as throttling (`aws_runtime::retries::classifiers::THROTTLING_ERRORS`),
/// except the ones that concern a key or a transaction.
const THROTTLING_CODES: &[&str] = &[
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

/// Codes that mean another writer came first.
const CONFLICT_CODES: &[&str] = &[
    "ConditionalCheckFailedException",
    "IdempotentParameterMismatchException",
    "ReplicatedWriteConflictException",
    "TransactionCanceledException",
    "TransactionConflictException",
];

impl AwsFailure {
    /// Classifies the error of `operation`, the API operation's name as AWS spells it.
    #[must_use]
    pub fn of<E>(operation: &str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let reason = reason(operation, error);
        match error {
            // The request was never sent, and building it again would fail the same way.
            SdkError::ConstructionFailure(_) => Self::Refused { reason },
            SdkError::DispatchFailure(failure) if failure.is_user() => Self::Refused { reason },
            SdkError::ServiceError(service) => {
                let code = service.err().code().unwrap_or_default();
                let status = service.raw().status().as_u16();
                let has_known_code = CONFLICT_CODES.contains(&code) || THROTTLING_CODES.contains(&code);
                if !has_known_code && status == 429 {
                    Self::Throttled { reason }
                } else if !has_known_code && status >= 500 {
                    Self::Unsure { reason }
                } else {
                    Self::by_code(code, reason)
                }
            }
            // Timeouts, broken connections, unreadable responses, and any error kind added later.
            _ => Self::Unsure { reason },
        }
    }

    /// Classifies an AWS error code on its own, for calls that report one result per item.
    #[must_use]
    pub fn by_code(code: &str, reason: String) -> Self {
        if CONFLICT_CODES.contains(&code) {
            Self::Conflict { reason }
        } else if THROTTLING_CODES.contains(&code) {
            Self::Throttled { reason }
        } else if RETRYABLE_CODES.contains(&code) {
            Self::Unsure { reason }
        } else {
            Self::Refused { reason }
        }
    }

    /// The reason, shown to people.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Throttled { reason }
            | Self::Unsure { reason }
            | Self::Refused { reason }
            | Self::Conflict { reason } => reason,
        }
    }

    /// Whether the call was throttled.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        matches!(self, Self::Throttled { .. })
    }

    /// The outcome of an effect that failed this way. A conflict means another write came in between: the effect is requested
    /// again after the next observation.
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
        _ => text.push_str(&error_chain(error)),
    }
    if let Some(response) = error.raw_response() {
        let id = ["x-amzn-requestid", "x-amz-request-id"].iter().find_map(|name| response.headers().get(*name));
        let id = id.map(|id| format!(", request {id}")).unwrap_or_default();
        text.push_str(&format!(" (status {}{id})", response.status().as_u16()));
    }
    one_line(&text)
}

/// Collapses text to one line, truncated so that it fits a target's item beside everything else: an error response may be
/// megabytes.
pub(crate) fn one_line(text: &str) -> String {
    line(text, MAX_REASON_CHARS)
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
    fn an_error_is_one_line_with_code_message_and_request_id() {
        let denied = answered(400, "AccessDeniedException", "User: x is not\n  authorized");
        let expected = "DescribeServices: AccessDeniedException: User: x is not authorized (status 400, request 4b1d)";
        assert_eq!(AwsFailure::of("DescribeServices", &denied), AwsFailure::Refused { reason: expected.to_owned() });
    }

    #[test]
    fn a_huge_error_message_is_truncated() {
        let huge = answered(400, "No", &"ä ".repeat(2_000_000));
        let AwsFailure::Refused { reason } = AwsFailure::of("Call", &huge) else { panic!("it is refused") };
        assert!((MAX_REASON_CHARS..=MAX_REASON_CHARS + 1).contains(&reason.chars().count()), "{reason}");
        assert!(reason.starts_with("Call: No: ä ä ") && reason.ends_with('…'), "{reason}");
    }

    #[test]
    fn error_codes_are_classified() {
        let kind = |status, code| match AwsFailure::of("Call", &answered(status, code, "…")) {
            AwsFailure::Throttled { .. } => "throttled",
            AwsFailure::Unsure { .. } => "unsure",
            AwsFailure::Refused { .. } => "refused",
            AwsFailure::Conflict { .. } => "conflict",
        };
        for code in RETRYABLE_CODES {
            assert_eq!(kind(400, code), "unsure", "{code}");
        }
        for code in THROTTLING_CODES {
            assert_eq!((kind(400, code), kind(503, code)), ("throttled", "throttled"), "{code}");
        }
        for code in CONFLICT_CODES {
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
    fn a_possibly_sent_call_is_unsure_with_its_cause_once() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        let lost: Answer = SdkError::dispatch_failure(ConnectorError::io(refused.into()));
        let AwsFailure::Unsure { reason } = AwsFailure::of("ModifyRule", &lost) else { panic!("{lost:?}") };
        assert_eq!(reason, "ModifyRule: dispatch failure: io error: connection refused");

        let late: Answer = SdkError::timeout_error("no answer within 3 s");
        let AwsFailure::Unsure { reason } = AwsFailure::of("ModifyRule", &late) else { panic!("{late:?}") };
        assert_eq!(reason, "ModifyRule: request has timed out: no answer within 3 s");

        let response = HttpResponse::new(StatusCode::try_from(200).expect("a status"), SdkBody::empty());
        let garbled: Answer = SdkError::response_error("not XML", response);
        let AwsFailure::Unsure { reason } = AwsFailure::of("ModifyRule", &garbled) else { panic!("{garbled:?}") };
        assert_eq!(reason, "ModifyRule: response error: not XML (status 200)");
    }

    #[test]
    fn a_request_that_cannot_be_built_is_refused() {
        let built: Answer = SdkError::construction_failure("the rule has no ARN");
        let AwsFailure::Refused { reason } = AwsFailure::of("ModifyRule", &built) else { panic!("{built:?}") };
        assert_eq!(reason, "ModifyRule: failed to construct request: the rule has no ARN");
    }

    #[test]
    fn a_conflicting_write_makes_the_outcome_unsure() {
        let reason = "…".to_owned();
        assert_eq!(
            AwsFailure::Conflict { reason: reason.clone() }.outcome(),
            Outcome::Unsure { reason: reason.clone() }
        );
        assert_eq!(AwsFailure::Refused { reason: reason.clone() }.outcome(), Outcome::Refused { reason });
    }
}
