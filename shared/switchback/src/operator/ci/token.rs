//! GitHub's token for this job (GitHub Actions, "OpenID Connect reference": requesting the JWT by its environment
//! variables). The token is kept in memory while valid; neither the token nor the credential that requests it appears
//! in any message.

use super::super::failure::Failure;
use super::super::http::{self, AttemptError};
use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use serde::Deserialize;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Environment variables with the token service's address and credential; GitHub sets both for jobs with permission.
const REQUEST_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const REQUEST_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";
/// A token that expires sooner than this is renewed before use.
const EXPIRY_MARGIN: Duration = Duration::from_secs(60);

/// Source of tokens, and the current one.
pub(super) struct Tokens {
    url: String,
    request_token: String,
    connector: Connector,
    cached: Option<Token>,
}

struct Token {
    text: String,
    valid_until: Instant,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct TokenResponse {
    value: String,
}

#[derive(Deserialize)]
struct TokenClaims {
    iat: f64,
    exp: f64,
}

impl Tokens {
    /// Determines this job's token service; fetches nothing yet.
    pub(super) fn for_this_job(audience: &str) -> Result<Self, Failure> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (Some(url), Some(request_token)) = (set(REQUEST_URL), set(REQUEST_TOKEN)) else {
            return Err(Failure::Usage(format!(
                "GitHub lets this job have no token ({REQUEST_URL} and {REQUEST_TOKEN} are not set): give the job \
                 `permissions: id-token: write`. Outside of GitHub Actions use the commands without `ci`; a fork's \
                 pull request never gets a token"
            )));
        };
        if audience.is_empty() || !audience.bytes().all(|byte| byte.is_ascii_graphic() && !b"&#%+".contains(&byte)) {
            return Err(Failure::Usage(format!(
                "the audience `{audience}` cannot be asked for: it is the stack's parameter `GitHubAudience`, without \
                 spaces and `&`, `#`, `%`, `+`"
            )));
        }
        let uses_tls = uses_tls(&url)?;
        let separator = if url.contains('?') { '&' } else { '?' };
        let url = format!("{url}{separator}audience={audience}");
        Ok(Self { url, request_token, connector: http::connector(uses_tls), cached: None })
    }

    /// A token that is valid long enough for a request.
    pub(super) async fn token(&mut self) -> Result<String, Failure> {
        match &self.cached {
            Some(token) if Instant::now() < token.valid_until => Ok(token.text.clone()),
            _ => self.fresh().await,
        }
    }

    /// A newly issued token: commands are not sent with an older one.
    pub(super) async fn fresh(&mut self) -> Result<String, Failure> {
        let token = http::with_retries(async || self.fetch().await).await?;
        Ok(self.cached.insert(token).text.clone())
    }

    async fn fetch(&self) -> Result<Token, AttemptError> {
        let mut request = HttpRequest::new(SdkBody::empty());
        let malformed =
            || AttemptError::permanent(Failure::Usage(format!("{REQUEST_URL} or {REQUEST_TOKEN} is damaged")));
        request.set_uri(self.url.as_str()).map_err(|_| malformed())?;
        let headers = request.headers_mut();
        let bearer = format!("bearer {}", self.request_token);
        headers.try_insert("authorization", bearer).map_err(|_| malformed())?;
        headers.insert("accept", "application/json; api-version=2.0");
        headers.insert("user-agent", concat!("switchback/", env!("CARGO_PKG_VERSION")));
        let began = Instant::now();
        let (status, text) = http::exchange(&self.connector, request).await.map_err(|reason| AttemptError {
            retryable: true,
            failure: Failure::Unreachable(format!("GitHub's token service did not answer: {reason}")),
        })?;
        // The response is never shown: it may contain a secret.
        if !(200..300).contains(&status) {
            let retryable = http::is_transient(status);
            let why = format!("GitHub's token service answered {status}");
            let failure = if retryable {
                Failure::Unreachable(why)
            } else {
                Failure::Forbidden(format!(
                    "{why}: has the job `permissions: id-token: write`, and is it still running?"
                ))
            };
            return Err(AttemptError { retryable, failure });
        }
        let issued: Result<TokenResponse, _> = serde_json::from_str(&text);
        let Ok(TokenResponse { value }) = issued else {
            let why = "GitHub's token service answered without a token".to_owned();
            return Err(AttemptError::permanent(Failure::Unexpected(why)));
        };
        let valid_for = lifetime(&value).unwrap_or_default();
        Ok(Token { text: value, valid_until: began + valid_for.saturating_sub(EXPIRY_MARGIN) })
    }

    /// Discards a rejected token, so that the next one is new.
    pub(super) fn forget(&mut self) {
        self.cached = None;
    }
}

/// Lifetime of a token from its issue, by the token's own timestamps, independent of this machine's clock. The token is
/// not verified here: the control plane does that.
fn lifetime(token: &str) -> Option<Duration> {
    let payload = token.split('.').nth(1)?;
    let mut standard = payload.replace('-', "+").replace('_', "/");
    while standard.len() % 4 != 0 {
        standard.push('=');
    }
    let bytes = aws_smithy_types::base64::decode(standard).ok()?;
    let TokenClaims { iat, exp } = serde_json::from_slice(&bytes).ok()?;
    Duration::try_from_secs_f64(exp - iat).ok()
}

fn uses_tls(url: &str) -> Result<bool, Failure> {
    if url.starts_with("https://") {
        return Ok(true);
    }
    let authority = url.strip_prefix("http://").and_then(|rest| rest.split(['/', '?']).next()).unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host).trim_matches(['[', ']']);
    if host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()) {
        return Ok(false);
    }
    Err(Failure::Usage(format!("{REQUEST_URL} is not https://: the job's token is not asked for without TLS")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_lifetime_is_read_from_its_claims() {
        // {"iat":1632493567,"exp":1632493867}
        let token = "e30.eyJpYXQiOjE2MzI0OTM1NjcsImV4cCI6MTYzMjQ5Mzg2N30.c2ln";
        assert_eq!(lifetime(token), Some(Duration::from_secs(300)));
        for damaged in ["", "a.b.c", "e30.e30.e30", "e30.eyJpYXQiOjksImV4cCI6MX0.e30"] {
            assert_eq!(lifetime(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn token_requests_require_tls() {
        assert!(uses_tls("https://vstoken.actions.example/x?api-version=2.0").expect("TLS"));
        assert!(!uses_tls("http://127.0.0.1:4000/x").expect("this machine"));
        assert!(!uses_tls("http://[::1]:4000/x").expect("this machine"));
        for wrong in ["http://example.com", "http://127.0.0.1.example.com/", "ftp://127.0.0.1", "nothing"] {
            assert_eq!(uses_tls(wrong).expect_err(wrong).exit().code(), 2, "{wrong}");
        }
    }
}
