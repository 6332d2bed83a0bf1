//! GitHub's token for this job (GitHub Actions, "OpenID Connect reference": requesting the JWT by its environment
//! variables). It is kept in memory while it lasts, and appears in no message: neither it nor what it is asked with.

use super::super::failure::Failure;
use super::super::http::{self, TRIES};
use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use serde::Deserialize;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Where a job asks for its token, and with what; GitHub sets both for jobs that may.
const REQUEST_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const REQUEST_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";
/// A token that ends sooner than this is replaced before it is used.
const MARGIN: Duration = Duration::from_secs(60);

/// Where tokens come from, and the one at hand.
pub(super) struct Tokens {
    url: String,
    request_token: String,
    connector: Connector,
    at_hand: Option<Token>,
}

struct Token {
    text: String,
    good_until: Instant,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Issued {
    value: String,
}

#[derive(Deserialize)]
struct Times {
    iat: f64,
    exp: f64,
}

impl Tokens {
    /// Looks where this job asks for its token; nothing is fetched yet.
    pub(super) fn of_this_job(audience: &str) -> Result<Self, Failure> {
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
        let secure = secure(&url)?;
        let separator = if url.contains('?') { '&' } else { '?' };
        let url = format!("{url}{separator}audience={audience}");
        Ok(Self { url, request_token, connector: http::connector(secure), at_hand: None })
    }

    /// A token that lasts long enough for a request.
    pub(super) async fn token(&mut self) -> Result<String, Failure> {
        match &self.at_hand {
            Some(token) if Instant::now() < token.good_until => Ok(token.text.clone()),
            _ => self.fresh().await,
        }
    }

    /// A token that was issued just now: what is asked for is not asked for with an old one.
    pub(super) async fn fresh(&mut self) -> Result<String, Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.fetch().await {
                Ok(token) => return Ok(self.at_hand.insert(token).text.clone()),
                Err((true, _)) if tries < TRIES => http::pause(tries).await,
                Err((_, failure)) => return Err(failure),
            }
        }
    }

    /// One try; whether another can help, and why it did not work.
    async fn fetch(&self) -> Result<Token, (bool, Failure)> {
        let mut request = HttpRequest::new(SdkBody::empty());
        let malformed = || (false, Failure::Usage(format!("{REQUEST_URL} or {REQUEST_TOKEN} is damaged")));
        request.set_uri(self.url.as_str()).map_err(|_| malformed())?;
        let headers = request.headers_mut();
        let bearer = format!("bearer {}", self.request_token);
        headers.try_insert("authorization", bearer).map_err(|_| malformed())?;
        headers.insert("accept", "application/json; api-version=2.0");
        headers.insert("user-agent", concat!("switchback/", env!("CARGO_PKG_VERSION")));
        let began = Instant::now();
        let (status, text) = http::exchange(&self.connector, request).await.map_err(|reason| {
            (true, Failure::Unreachable(format!("GitHub's token service did not answer: {reason}")))
        })?;
        // Not a word of the answer is shown: whatever it is, it is not known to be harmless.
        if !(200..300).contains(&status) {
            let again = http::may_pass(status);
            let why = format!("GitHub's token service answered {status}");
            let failure = if again {
                Failure::Unreachable(why)
            } else {
                Failure::Forbidden(format!(
                    "{why}: has the job `permissions: id-token: write`, and is it still running?"
                ))
            };
            return Err((again, failure));
        }
        let issued: Result<Issued, _> = serde_json::from_str(&text);
        let Ok(Issued { value }) = issued else {
            return Err((false, Failure::Unexpected("GitHub's token service answered without a token".to_owned())));
        };
        let lasts = lifetime(&value).unwrap_or_default();
        Ok(Token { text: value, good_until: began + lasts.saturating_sub(MARGIN) })
    }

    /// The token at hand was not taken: the next one is a new one.
    pub(super) fn forget(&mut self) {
        self.at_hand = None;
    }
}

/// How long a token lasts from its issue: by its own clock, whatever this machine's says. It is read, not believed: that
/// is the control plane's to do.
fn lifetime(token: &str) -> Option<Duration> {
    let payload = token.split('.').nth(1)?;
    let mut standard = payload.replace('-', "+").replace('_', "/");
    while standard.len() % 4 != 0 {
        standard.push('=');
    }
    let bytes = aws_smithy_types::base64::decode(standard).ok()?;
    let Times { iat, exp } = serde_json::from_slice(&bytes).ok()?;
    Duration::try_from_secs_f64(exp - iat).ok()
}

fn secure(url: &str) -> Result<bool, Failure> {
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
    fn a_token_says_how_long_it_lasts() {
        // {"iat":1632493567,"exp":1632493867}
        let token = "e30.eyJpYXQiOjE2MzI0OTM1NjcsImV4cCI6MTYzMjQ5Mzg2N30.c2ln";
        assert_eq!(lifetime(token), Some(Duration::from_secs(300)));
        for damaged in ["", "a.b.c", "e30.e30.e30", "e30.eyJpYXQiOjksImV4cCI6MX0.e30"] {
            assert_eq!(lifetime(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn a_token_is_not_asked_for_in_the_clear() {
        assert!(secure("https://vstoken.actions.example/x?api-version=2.0").expect("TLS"));
        assert!(!secure("http://127.0.0.1:4000/x").expect("this machine"));
        assert!(!secure("http://[::1]:4000/x").expect("this machine"));
        for wrong in ["http://example.com", "http://127.0.0.1.example.com/", "ftp://127.0.0.1", "nothing"] {
            assert_eq!(secure(wrong).expect_err(wrong).exit().code(), 2, "{wrong}");
        }
    }
}
