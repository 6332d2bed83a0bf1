//! JSON over HTTPS to somebody else's API: one POST, one answer, no second try.
//!
//! It speaks through the connector that the SDKs have: one TLS stack, one reading of the root certificates. Without TLS
//! only this machine is spoken to.

use crate::config::Clients;
use crate::error::chain;
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;
use std::net::IpAddr;
use std::time::Duration;

/// How long one call may take, from the connection to the last byte of the answer.
pub const WHOLE_CALL: Duration = Duration::from_secs(3);
/// The largest answer that is read, in bytes.
pub const LARGEST_ANSWER: usize = 256 * 1024;

/// Where an API is: `https://host[:port]/[path/]`, with a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    url: String,
    direct: bool,
}

/// A text that is no address of an API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no address of an API: {reason}")]
pub struct BadAddress {
    /// What was given.
    pub text: String,
    /// Why not, and what to write.
    pub reason: &'static str,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// [`BadAddress`] for what is no `https://` URL without user, query and fragment, or an `http://` one to another
    /// machine: loopback is said in numbers (`http://127.0.0.1:8080/`), since a name may lead anywhere.
    pub fn parse(text: &str) -> Result<Self, BadAddress> {
        let wrong = |reason| BadAddress { text: text.to_owned(), reason };
        let Some((scheme, rest)) = text.split_once("://") else { return Err(wrong("write https://host/path/")) };
        let authority = rest.split('/').next().unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'@' | b'\\');
        if authority.is_empty() || !rest.bytes().all(plain) {
            return Err(wrong("write https://host/path/, without user, query and fragment"));
        }
        let host = match authority.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => authority.split(':').next().unwrap_or_default(),
        };
        let direct = match scheme {
            "https" => false,
            "http" if host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()) => true,
            "http" => return Err(wrong("http:// is for loopback addresses only, write https://")),
            _ => return Err(wrong("write https://")),
        };
        Ok(Self { url: format!("{}/", text.trim_end_matches('/')), direct })
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Seconds to wait until another try (header `Retry-After`, as a number).
    pub retry_after: Option<u32>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why nothing came back. Nothing of what was sent is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// It was not sent, and cannot be: the method or the key has characters that no request can carry.
    #[error("the request cannot be written: {reason}")]
    NotSent {
        /// Why, for people.
        reason: &'static str,
    },
    /// No answer, or none that could be read to its end: perhaps it was done, perhaps not.
    #[error("{reason}")]
    NoAnswer {
        /// Why, for people.
        reason: String,
    },
}

/// Speaks to APIs; cheap to make and to clone.
#[derive(Debug, Clone)]
pub struct Http {
    clients: Clients,
}

impl Http {
    /// A client that speaks through the connector of `clients`.
    #[must_use]
    pub fn new(clients: Clients) -> Self {
        Self { clients }
    }

    /// Posts `body` to `method` of the API, with a key for it (`Authorization: Bearer …`).
    ///
    /// # Errors
    /// [`HttpError`] where there is no answer. An answer with whatever status is none.
    pub async fn post(&self, api: &Address, method: &str, key: &str, body: &Value) -> Result<Answer, HttpError> {
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
        if method.is_empty() || !method.bytes().all(sound) {
            return Err(HttpError::NotSent { reason: "the method's name has characters that do not belong there" });
        }
        // Checked here, so that no library's error quotes it.
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(HttpError::NotSent { reason: "the key is empty or has characters that do not belong there" });
        }
        let mut request = HttpRequest::new(SdkBody::from(body.to_string()));
        let unsound = |_| HttpError::NotSent { reason: "the address does not make a URL" };
        request.set_method("POST").map_err(unsound)?;
        request.set_uri(format!("{}{method}", api.url)).map_err(unsound)?;
        let headers = request.headers_mut();
        headers.insert("authorization", format!("Bearer {key}"));
        headers.insert("content-type", "application/json; charset=utf-8");
        headers.insert("user-agent", concat!("switchback/", env!("CARGO_PKG_VERSION")));

        let exchange = async {
            let response = self.clients.connector(api.direct).call(request).await;
            let response = response.map_err(|error| HttpError::NoAnswer { reason: chain(&error) })?;
            let status = response.status().as_u16();
            let retry_after = response.headers().get("retry-after").and_then(|seconds| seconds.trim().parse().ok());
            let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
            let body =
                body.map_err(|error| HttpError::NoAnswer { reason: format!("the answer broke off: {error}") })?;
            Ok(Answer { status, retry_after, body: body.to_bytes().to_vec() })
        };
        let late = |_| HttpError::NoAnswer { reason: format!("no answer came within {} s", WHOLE_CALL.as_secs()) };
        tokio::time::timeout(WHOLE_CALL, exchange).await.map_err(late)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_address_ends_with_a_slash_whether_it_was_written_or_not() {
        for written in ["https://slack.com/api", "https://slack.com/api/"] {
            let address = Address::parse(written).expect("an address");
            assert_eq!((address.url.as_str(), address.direct), ("https://slack.com/api/", false));
        }
    }

    #[test]
    fn without_tls_only_this_machine_is_spoken_to() {
        for local in ["http://127.0.0.1:4000", "http://[::1]:4000/x/", "http://127.9.9.9"] {
            assert!(Address::parse(local).expect("loopback").direct, "{local}");
        }
        for wrong in [
            "http://slack.com/api/",
            "http://localhost:4000",
            "http://127.0.0.1.example.com/",
            "http://127.0.0.1@example.com/",
            "http://[::2]/",
            "slack.com/api",
            "ftp://127.0.0.1/",
            "https://",
            "https:///api",
            "https://a@b/",
            "https://slack.com/api?x=1",
            "https://slack.com/ api",
        ] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_key_that_no_header_can_carry_is_not_quoted() {
        let http = Http::new(Clients::new());
        let api = Address::parse("http://127.0.0.1:9/").expect("an address");
        for key in ["", "xoxb-geheim\nX-Other: 1", "xoxb-geheim\u{e9}"] {
            let error = http.post(&api, "chat.postMessage", key, &json!({})).await.expect_err("not sent");
            assert!(matches!(error, HttpError::NotSent { .. }), "{error}");
            assert!(!format!("{error} {error:?}").contains("geheim"), "{error:?}");
        }
        for method in ["", "chat.postMessage?x=1", "a b"] {
            let error = http.post(&api, method, "xoxb-1", &json!({})).await.expect_err("not sent");
            assert!(matches!(error, HttpError::NotSent { .. }), "{error}");
        }
    }
}
