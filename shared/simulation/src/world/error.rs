//! Errors of the world: AWS's error codes, with messages like AWS's.

/// A refused call. `code` is what AWS puts into the error's type (`RuleNotFound`, `ServiceNotActiveException`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// AWS's error code, without namespace.
    pub code: &'static str,
    /// For people, close to AWS's own message.
    pub message: String,
}

impl ApiError {
    /// An error of this code.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The HTTP status of AWS's response.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self.code {
            "AccessDenied" | "AccessDeniedException" => 403,
            "ResourceNotFoundException" => 404,
            "TooManyRequestsException" => 429,
            "ServerException" | "InternalFailure" => 500,
            "ServiceUnavailable" => 503,
            _ => 400,
        }
    }

    /// Whether a retry may succeed: throttled, or an internal error of the service.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self.code,
            "Throttling"
                | "ThrottlingException"
                | "TooManyRequestsException"
                | "ServerException"
                | "InternalFailure"
                | "ServiceUnavailable"
                | "UpdateInProgressException"
                | "ConcurrentUpdateException"
        )
    }
}

/// Result of a call to the world.
pub type ApiResult<T> = Result<T, ApiError>;

pub(super) fn invalid_parameter(message: impl Into<String>) -> ApiError {
    ApiError::new("InvalidParameterException", message)
}

pub(super) fn client_exception(message: impl Into<String>) -> ApiError {
    ApiError::new("ClientException", message)
}

pub(super) fn validation_error(message: impl Into<String>) -> ApiError {
    ApiError::new("ValidationError", message)
}
