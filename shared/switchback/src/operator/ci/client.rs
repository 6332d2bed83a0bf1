//! HTTPS with GitHub's token. All requests can be retried: commands carry a key derived from the run.

use super::super::endpoint::Endpoint;
use super::super::failure::Failure;
use super::super::http::{self, MAX_ATTEMPTS};
use super::token::Tokens;
use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use engine::operate::ErrorBody;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Client of one control plane, for this job.
#[derive(Debug)]
pub(super) struct Client {
    endpoint: Endpoint,
    connector: Connector,
    tokens: Tokens,
}

/// Error of one attempt: the failure, and whether a retry can help.
struct AttemptError {
    retryable: bool,
    failure: Failure,
}

impl AttemptError {
    fn permanent(failure: Failure) -> Self {
        Self { retryable: false, failure }
    }
}

impl Client {
    /// Determines the control plane's endpoint and the job's token service; sends nothing yet.
    pub(super) fn new(endpoint: &str, audience: &str) -> Result<Self, Failure> {
        let endpoint = Endpoint::parse(endpoint)?;
        let tokens = Tokens::for_this_job(audience)?;
        Ok(Self { connector: http::connector(endpoint.secure), endpoint, tokens })
    }

    /// Sends a read request.
    pub(super) async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Failure> {
        self.send("GET", path, None).await
    }

    /// Sends a command, with a fresh token.
    pub(super) async fn post<T: DeserializeOwned>(&mut self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        let body = serde_json::to_string(body)
            .map_err(|error| Failure::Unexpected(format!("the request cannot be written: {error}")))?;
        self.send("POST", path, Some(body)).await
    }

    async fn send<T: DeserializeOwned>(
        &mut self,
        method: &str,
        path: &str,
        body: Option<String>,
    ) -> Result<T, Failure> {
        let mut attempts = 0;
        let text = loop {
            attempts += 1;
            match self.attempt(method, path, body.as_deref()).await {
                Ok(text) => break text,
                Err(error) if error.retryable && attempts < MAX_ATTEMPTS => http::backoff(attempts).await,
                Err(error) => return Err(error.failure),
            }
        };
        serde_json::from_str(&text).map_err(|error| {
            Failure::Unexpected(format!(
                "the answer to {method} {path} cannot be read ({error}): is the control plane of another version? this is {}",
                env!("CARGO_PKG_VERSION")
            ))
        })
    }

    async fn attempt(&mut self, method: &str, path: &str, body: Option<&str>) -> Result<String, AttemptError> {
        let token = if body.is_some() { self.tokens.fresh().await } else { self.tokens.token().await };
        // The token service has been retried already.
        let token = token.map_err(AttemptError::permanent)?;
        let url = format!("{}{path}", self.endpoint.url);
        let mut request = HttpRequest::new(body.map_or_else(SdkBody::empty, SdkBody::from));
        // These errors contain the invalid value, which may be a token that must not be shown.
        let malformed =
            || AttemptError::permanent(Failure::Unexpected(format!("the request {method} {path} cannot be written")));
        request.set_method(method).map_err(|_| malformed())?;
        request.set_uri(url).map_err(|_| malformed())?;
        let headers = request.headers_mut();
        headers.try_insert("authorization", format!("Bearer {token}")).map_err(|_| malformed())?;
        headers.insert("user-agent", concat!("switchback/", env!("CARGO_PKG_VERSION")));
        if body.is_some() {
            headers.insert("content-type", "application/json");
        }
        let url = &self.endpoint.url;
        let (status, text) = http::exchange(&self.connector, request).await.map_err(|reason| AttemptError {
            retryable: true,
            failure: Failure::Unreachable(format!("{url} did not answer {method} {path}: {reason}")),
        })?;
        if (200..300).contains(&status) {
            return Ok(text);
        }
        if status == 401 {
            // The token may have expired earlier than it states: the next attempt uses a new one.
            self.tokens.forget();
        }
        Err(self.error_response(method, path, status, &text))
    }

    /// Maps an error response: Switchback's own refusal, or the gateway's.
    fn error_response(&self, method: &str, path: &str, status: u16, text: &str) -> AttemptError {
        let url = &self.endpoint.url;
        if let Ok(ErrorBody { mut error }) = serde_json::from_str(text) {
            error.status = status;
            if status < 500 {
                return AttemptError { retryable: status == 429, failure: Failure::Refused(error) };
            }
            let failure = Failure::Unreachable(format!("{url} could not answer {method} {path}: {error}"));
            return AttemptError { retryable: status == 503, failure };
        }
        let parsed: Value = serde_json::from_str(text).unwrap_or_default();
        let message = parsed.get("message").or_else(|| parsed.get("Message")).and_then(Value::as_str);
        let message: String = message.unwrap_or(text).chars().take(300).collect();
        let failure = match status {
            401 | 403 => Failure::Forbidden(format!(
                "{url} did not take GitHub's token ({status}: {message}). Its audience must be the stack's parameter \
                 `GitHubAudience`, and its issuer `GitHubIssuer`"
            )),
            404 => Failure::Forbidden(format!(
                "{url} has no {path} ({message}): is that the stack's output `PromotionsEndpoint`?"
            )),
            429 | 500.. => {
                Failure::Unreachable(format!("{url} could not answer {method} {path} ({status}): {message}"))
            }
            _ => Failure::Forbidden(format!("{url} refused {method} {path} ({status}): {message}")),
        };
        AttemptError { retryable: http::is_transient(status) || status == 401, failure }
    }
}
