//! HTTP for all commands, however they authenticate: exchanges, time-outs, retries, and what a response means.

use super::failure::Failure;
use api::ErrorBody;
use aws_smithy_http_client::{Connector, proxy::ProxyConfig, tls};
use aws_smithy_runtime_api::client::http::{HttpConnector as _, HttpConnectorSettings};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use http_body_util::{BodyExt as _, Limited};
use rollout::backoff;
use rollout::text::{clip, error_chain};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

/// Time-out of one attempt; the gateway's own is 30 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(35);
/// Time-out for establishing a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of attempts.
const MAX_ATTEMPTS: u32 = 4;
/// Longest delay after the first failed attempt, in milliseconds.
const INITIAL_BACKOFF: u64 = 250;
/// Maximum response size in bytes; the gateway's own limit is 10 MB.
const MAX_RESPONSE_BYTES: usize = 10 * 1024 * 1024;
/// Maximum number of characters of an error response that a message quotes.
const MAX_QUOTED_CHARS: usize = 300;

/// Connector for outgoing requests: with TLS, through the proxy from the environment; without TLS, to this machine
/// only.
pub(super) fn connector(secure: bool) -> Connector {
    let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT).build();
    let builder = Connector::builder().connector_settings(settings);
    let builder = builder.tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc));
    // Loopback connections never use a proxy.
    let proxy = if secure { ProxyConfig::from_env() } else { ProxyConfig::disabled() };
    builder.proxy_config(proxy).build()
}

/// One request and its response: status and text. The error describes why there is no response.
pub(super) async fn exchange(connector: &Connector, request: HttpRequest) -> Result<(u16, String), String> {
    let exchange = async {
        let response = connector.call(request).await.map_err(|error| error_chain(&error))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_RESPONSE_BYTES).collect().await;
        let body = body.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::time::timeout(REQUEST_TIMEOUT, exchange)
        .await
        .map_err(|_| format!("nothing came within {} s", REQUEST_TIMEOUT.as_secs()))?
}

/// Whether a retry may succeed.
pub(super) fn is_transient(status: u16) -> bool {
    matches!(status, 429 | 500 | 502..=504)
}

/// Error of one attempt: the failure, and whether a retry can help.
pub(super) struct AttemptError {
    pub(super) retryable: bool,
    pub(super) failure: Failure,
}

impl AttemptError {
    /// A retry would fail the same way.
    pub(super) fn permanent(failure: Failure) -> Self {
        Self { retryable: false, failure }
    }
}

/// Repeats an attempt while it fails and a retry can help.
pub(super) async fn with_retries<T>(mut attempt: impl AsyncFnMut() -> Result<T, AttemptError>) -> Result<T, Failure> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match attempt().await {
            Ok(answer) => return Ok(answer),
            Err(error) if error.retryable && attempts < MAX_ATTEMPTS => back_off(attempts).await,
            Err(error) => return Err(error.failure),
        }
    }
}

/// The body of a request as JSON.
pub(super) fn json_body(body: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(body).map_err(|error| Failure::Unexpected(format!("the request cannot be written: {error}")))
}

/// Address and kind of a request, for the messages about its response.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestLine<'a> {
    /// URL of the control plane, without the path.
    pub(super) url: &'a str,
    /// `GET` or `POST`.
    pub(super) method: &'a str,
    /// Path and query.
    pub(super) path: &'a str,
}

impl RequestLine<'_> {
    /// Sends the request once; returns status and text of the response.
    pub(super) async fn exchange(
        self,
        connector: &Connector,
        request: HttpRequest,
    ) -> Result<(u16, String), AttemptError> {
        let Self { url, method, path } = self;
        exchange(connector, request).await.map_err(|reason| {
            let failure = Failure::Unreachable(format!("{url} did not answer {method} {path}: {reason}"));
            AttemptError { retryable: true, failure }
        })
    }

    /// The text of a successful response. An error response is Switchback's own refusal, or the gateway's; `denied` words
    /// the gateway's 401, 403 and 404, given its message.
    pub(super) fn success(
        self,
        status: u16,
        text: String,
        denied: impl FnOnce(&str) -> AttemptError,
    ) -> Result<String, AttemptError> {
        if (200..300).contains(&status) {
            return Ok(text);
        }
        let Self { url, method, path } = self;
        if let Ok(ErrorBody { mut error }) = serde_json::from_str(&text) {
            error.status = status;
            if status < 500 {
                return Err(AttemptError { retryable: status == 429, failure: Failure::Refused(error) });
            }
            let failure = Failure::Unreachable(format!("{url} could not answer {method} {path}: {error}"));
            return Err(AttemptError { retryable: status == 503, failure });
        }
        let parsed: Value = serde_json::from_str(&text).unwrap_or_default();
        let message = parsed.get("message").or_else(|| parsed.get("Message")).and_then(Value::as_str);
        let message = clip(message.unwrap_or(&text), MAX_QUOTED_CHARS);
        let failure = match status {
            401 | 403 | 404 => return Err(denied(message)),
            429 | 500.. => {
                Failure::Unreachable(format!("{url} could not answer {method} {path} ({status}): {message}"))
            }
            _ => Failure::Forbidden(format!("{url} refused {method} {path} ({status}): {message}")),
        };
        Err(AttemptError { retryable: is_transient(status), failure })
    }

    /// Parses the text of a successful response.
    pub(super) fn parse<T: DeserializeOwned>(self, text: &str) -> Result<T, Failure> {
        let Self { method, path, .. } = self;
        serde_json::from_str(text).map_err(|error| {
            Failure::Unexpected(format!(
                "the answer to {method} {path} cannot be read ({error}): is the control plane of another version? \
                 this is {}",
                env!("CARGO_PKG_VERSION")
            ))
        })
    }
}

/// Waits before a retry, longer after each attempt. The delay is random between half and all of its maximum, so that
/// clients that failed together do not retry together.
async fn back_off(attempts: u32) {
    let whole = backoff::exponential(INITIAL_BACKOFF, attempts, u64::MAX);
    let mut random = [0; 8];
    let delay = match getrandom::fill(&mut random) {
        Ok(()) => backoff::jittered(whole, whole / 2 + 1, u64::from_ne_bytes(random)),
        // Without randomness the full delay is used.
        Err(_) => whole,
    };
    tokio::time::sleep(Duration::from_millis(delay)).await;
}
