//! What an SDK's error means for who called: is it worth trying again, or is the answer no?

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use rollout::Outcome;
use std::error::Error;

/// What became of a call that did not succeed. Each reason is one line for people, with the operation, AWS's code and
/// message, and the request's id where AWS gave one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Throttled, timed out, unreachable, broken on the other side, or no answer that can be read: perhaps it was
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
/// From the SDK's own `aws_runtime::retries::classifiers`, and what ECS, ELBv2, Lambda and DynamoDB document on top.
const NOT_NOW: &[&str] = &[
    "BandwidthLimitExceeded",
    "ConcurrentUpdateException",
    "EC2ThrottledException",
    "InternalFailure",
    "InternalServerError",
    "InternalServerException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServerException",
    "ServiceException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionInProgressException",
    // Credentials that are renewed, and a clock that is set, between two attempts.
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "RequestTimeTooSkewed",
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
                if CONFLICT.contains(&code) {
                    Self::Conflict { reason }
                } else if NOT_NOW.contains(&code) || status >= 500 || status == 429 {
                    Self::Unsure { reason }
                } else {
                    Self::Refused { reason }
                }
            }
            // Time-outs, connections that broke, answers that cannot be read, and whatever kinds of error come later.
            _ => Self::Unsure { reason },
        }
    }

    /// The reason, for people.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Unsure { reason } | Self::Refused { reason } | Self::Conflict { reason } => reason,
        }
    }

    /// What an effect came to that failed like this. A conflict is somebody else's write in between: it is asked for
    /// again once the world has been read again.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
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

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
