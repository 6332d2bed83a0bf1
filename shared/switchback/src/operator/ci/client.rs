//! HTTPS with GitHub's token. All requests can be retried: commands carry a key derived from the run.

use super::super::endpoint::Endpoint;
use super::super::failure::Failure;
use super::super::http::{self, AttemptError, RequestLine};
use super::token::Tokens;
use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Client of one control plane, for this job.
#[derive(Debug)]
pub(super) struct Client {
    endpoint: Endpoint,
    connector: Connector,
    tokens: Tokens,
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
        self.send("POST", path, Some(http::json_body(body)?)).await
    }

    async fn send<T: DeserializeOwned>(
        &mut self,
        method: &str,
        path: &str,
        body: Option<String>,
    ) -> Result<T, Failure> {
        let url = self.endpoint.url.clone();
        let line = RequestLine { url: &url, method, path };
        let text = http::with_retries(async || self.attempt(line, body.as_deref()).await).await?;
        line.parse(&text)
    }

    async fn attempt(&mut self, line: RequestLine<'_>, body: Option<&str>) -> Result<String, AttemptError> {
        let token = if body.is_some() { self.tokens.fresh().await } else { self.tokens.token().await };
        // The token service has been retried already.
        let token = token.map_err(AttemptError::permanent)?;
        let RequestLine { url, method, path } = line;
        let mut request = HttpRequest::new(body.map_or_else(SdkBody::empty, SdkBody::from));
        // These errors contain the invalid value, which may be a token that must not be shown.
        let malformed =
            || AttemptError::permanent(Failure::Unexpected(format!("the request {method} {path} cannot be written")));
        request.set_method(method).map_err(|_| malformed())?;
        request.set_uri(format!("{url}{path}")).map_err(|_| malformed())?;
        let headers = request.headers_mut();
        headers.try_insert("authorization", format!("Bearer {token}")).map_err(|_| malformed())?;
        headers.insert("user-agent", concat!("switchback/", env!("CARGO_PKG_VERSION")));
        if body.is_some() {
            headers.insert("content-type", "application/json");
        }
        let (status, text) = line.exchange(&self.connector, request).await?;
        if status == 401 {
            // The token may have expired earlier than it states: the next attempt uses a new one.
            self.tokens.forget();
        }
        line.success(status, text, |message| denied(line, status, message))
    }
}

/// The gateway's 401, 403 or 404.
fn denied(line: RequestLine<'_>, status: u16, message: &str) -> AttemptError {
    let RequestLine { url, path, .. } = line;
    let words = match status {
        404 => format!("{url} has no {path} ({message}): is that the stack's output `PromotionsEndpoint`?"),
        _ => format!(
            "{url} did not take GitHub's token ({status}: {message}). Its audience must be the stack's parameter \
             `GitHubAudience`, and its issuer `GitHubIssuer`"
        ),
    };
    AttemptError { retryable: status == 401, failure: Failure::Forbidden(words) }
}
