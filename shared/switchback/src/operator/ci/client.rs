//! HTTPS with GitHub's token. Everything may be asked twice: what was asked for has a key of the run's.

use super::super::endpoint::Endpoint;
use super::super::failure::Failure;
use super::super::http::{self, TRIES};
use super::token::Tokens;
use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use engine::operate::ErrorBody;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The way to one control plane, for this job.
#[derive(Debug)]
pub(super) struct Client {
    endpoint: Endpoint,
    connector: Connector,
    tokens: Tokens,
}

/// One try: whether another one can help, and why it did not work.
struct Missed {
    again: bool,
    why: Failure,
}

impl Missed {
    fn for_good(why: Failure) -> Self {
        Self { again: false, why }
    }
}

impl Client {
    /// Finds the control plane and the job's token service; nothing is sent yet.
    pub(super) fn new(endpoint: &str, audience: &str) -> Result<Self, Failure> {
        let endpoint = Endpoint::parse(endpoint)?;
        let tokens = Tokens::of_this_job(audience)?;
        Ok(Self { connector: http::connector(endpoint.secure), endpoint, tokens })
    }

    /// Asks a question.
    pub(super) async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Failure> {
        self.ask("GET", path, None).await
    }

    /// Asks for something, with a token of its own.
    pub(super) async fn post<T: DeserializeOwned>(&mut self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        let body = serde_json::to_string(body)
            .map_err(|error| Failure::Unexpected(format!("the request cannot be written: {error}")))?;
        self.ask("POST", path, Some(body)).await
    }

    async fn ask<T: DeserializeOwned>(&mut self, method: &str, path: &str, body: Option<String>) -> Result<T, Failure> {
        let mut tries = 0;
        let text = loop {
            tries += 1;
            match self.once(method, path, body.as_deref()).await {
                Ok(text) => break text,
                Err(missed) if missed.again && tries < TRIES => http::pause(tries).await,
                Err(missed) => return Err(missed.why),
            }
        };
        serde_json::from_str(&text).map_err(|error| {
            Failure::Unexpected(format!(
                "the answer to {method} {path} cannot be read ({error}): is the control plane of another version? this is {}",
                env!("CARGO_PKG_VERSION")
            ))
        })
    }

    async fn once(&mut self, method: &str, path: &str, body: Option<&str>) -> Result<String, Missed> {
        let token = if body.is_some() { self.tokens.fresh().await } else { self.tokens.token().await };
        // The token service has been asked often enough already.
        let token = token.map_err(Missed::for_good)?;
        let url = format!("{}{path}", self.endpoint.url);
        let mut request = HttpRequest::new(body.map_or_else(SdkBody::empty, SdkBody::from));
        // The errors of these say what was wrong with which value: with a token that must not be shown.
        let broken = || Missed::for_good(Failure::Unexpected(format!("the request {method} {path} cannot be written")));
        request.set_method(method).map_err(|_| broken())?;
        request.set_uri(url).map_err(|_| broken())?;
        let headers = request.headers_mut();
        headers.try_insert("authorization", format!("Bearer {token}")).map_err(|_| broken())?;
        headers.insert("user-agent", concat!("switchback/", env!("CARGO_PKG_VERSION")));
        if body.is_some() {
            headers.insert("content-type", "application/json");
        }
        let url = &self.endpoint.url;
        let (status, text) = http::exchange(&self.connector, request).await.map_err(|reason| Missed {
            again: true,
            why: Failure::Unreachable(format!("{url} did not answer {method} {path}: {reason}")),
        })?;
        if (200..300).contains(&status) {
            return Ok(text);
        }
        if status == 401 {
            // Perhaps it was over sooner than it said: the next try has another one.
            self.tokens.forget();
        }
        Err(self.said_no(method, path, status, &text))
    }

    /// An answer that is no yes: Switchback's own refusal, or the gateway's.
    fn said_no(&self, method: &str, path: &str, status: u16, text: &str) -> Missed {
        let url = &self.endpoint.url;
        if let Ok(ErrorBody { mut error }) = serde_json::from_str(text) {
            error.status = status;
            if status < 500 {
                return Missed { again: status == 429, why: Failure::Refused(error) };
            }
            let why = Failure::Unreachable(format!("{url} could not answer {method} {path}: {error}"));
            return Missed { again: status == 503, why };
        }
        let parsed: Value = serde_json::from_str(text).unwrap_or_default();
        let message = parsed.get("message").or_else(|| parsed.get("Message")).and_then(Value::as_str);
        let message: String = message.unwrap_or(text).chars().take(300).collect();
        let why = match status {
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
        Missed { again: http::may_pass(status) || status == 401, why }
    }
}
