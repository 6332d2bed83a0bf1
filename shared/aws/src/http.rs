//! JSON over HTTPS to third-party APIs: one POST, one response, no retry.
//!
//! Requests use the SDKs' connector, so there is one TLS stack and the root certificates are read once. Plain HTTP is allowed
//! to loopback only.

use crate::config::Clients;
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use http_body_util::{BodyExt as _, Limited};
use rollout::text::error_chain;
use serde_json::Value;
use std::net::IpAddr;
use std::time::Duration;

/// Limit for one call, from connecting to the last byte of the response.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// The largest response that is read, in bytes.
pub const MAX_RESPONSE_BYTES: usize = 256 * 1024;

/// An API's base URL: `https://host[:port]/[path/]`, with a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    url: String,
    bypass_proxy: bool,
}

/// Text that is not a valid API address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no address of an API: {reason}")]
pub struct InvalidAddress {
    /// The text as given.
    pub text: String,
    /// What is wrong with it, and what to write instead.
    pub reason: &'static str,
}

impl Address {
    /// Parses an API address.
    ///
    /// # Errors
    /// [`InvalidAddress`] unless the text is an `https://` URL without user, query and fragment, or such an `http://` URL to
    /// loopback. Loopback must be given as an IP address (`http://127.0.0.1:8080/`), since a name may resolve to anything.
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        let wrong = |reason| InvalidAddress { text: text.to_owned(), reason };
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
        let bypass_proxy = match scheme {
            "https" => false,
            "http" if host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()) => true,
            "http" => return Err(wrong("http:// is for loopback addresses only, write https://")),
            _ => return Err(wrong("write https://")),
        };
        Ok(Self { url: format!("{}/", text.trim_end_matches('/')), bypass_proxy })
    }
}

/// An HTTP response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Seconds to wait before a retry (header `Retry-After`, numeric form only).
    pub retry_after: Option<u32>,
    /// At most [`MAX_RESPONSE_BYTES`].
    pub body: Vec<u8>,
}

/// Why there is no response. Quotes nothing of the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// Not sent, and never can be: the method or the key has characters that a request cannot carry.
    #[error("the request cannot be written: {reason}")]
    NotSent {
        /// Shown to people.
        reason: &'static str,
    },
    /// No complete response: the request may or may not have had an effect.
    #[error("{reason}")]
    NoResponse {
        /// Shown to people.
        reason: String,
    },
}

/// Calls JSON APIs. Cheap to create and to clone.
#[derive(Debug, Clone)]
pub struct Http {
    clients: Clients,
}

impl Http {
    /// A client that uses the connector of `clients`.
    #[must_use]
    pub fn new(clients: Clients) -> Self {
        Self { clients }
    }

    /// Posts `body` to `method` of the API with a bearer token (`Authorization: Bearer …`).
    ///
    /// # Errors
    /// [`HttpError`] where there is no response. A response of any status is `Ok`.
    pub async fn post(&self, api: &Address, method: &str, key: &str, body: &Value) -> Result<Response, HttpError> {
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
        if method.is_empty() || !method.bytes().all(sound) {
            return Err(HttpError::NotSent { reason: "the method's name has characters that do not belong there" });
        }
        // Checked here, so that no library's error message quotes the key.
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(HttpError::NotSent { reason: "the key is empty or has characters that do not belong there" });
        }
        let mut request = HttpRequest::new(SdkBody::from(body.to_string()));
        let invalid = |_| HttpError::NotSent { reason: "the address does not make a URL" };
        request.set_method("POST").map_err(invalid)?;
        request.set_uri(format!("{}{method}", api.url)).map_err(invalid)?;
        let headers = request.headers_mut();
        headers.insert("authorization", format!("Bearer {key}"));
        headers.insert("content-type", "application/json; charset=utf-8");
        headers.insert("user-agent", concat!("switchback/", env!("CARGO_PKG_VERSION")));

        let exchange = async {
            let response = self.clients.connector(api.bypass_proxy).call(request).await;
            let response = response.map_err(|error| HttpError::NoResponse { reason: error_chain(&error) })?;
            let status = response.status().as_u16();
            let retry_after = response.headers().get("retry-after").and_then(|seconds| seconds.trim().parse().ok());
            let body = Limited::new(response.into_body(), MAX_RESPONSE_BYTES).collect().await;
            let body =
                body.map_err(|error| HttpError::NoResponse { reason: format!("the answer broke off: {error}") })?;
            Ok(Response { status, retry_after, body: body.to_bytes().to_vec() })
        };
        let timed_out =
            |_| HttpError::NoResponse { reason: format!("no answer came within {} s", CALL_TIMEOUT.as_secs()) };
        tokio::time::timeout(CALL_TIMEOUT, exchange).await.map_err(timed_out)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_address_always_ends_with_a_slash() {
        for written in ["https://slack.com/api", "https://slack.com/api/"] {
            let address = Address::parse(written).expect("an address");
            assert_eq!((address.url.as_str(), address.bypass_proxy), ("https://slack.com/api/", false));
        }
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        for local in ["http://127.0.0.1:4000", "http://[::1]:4000/x/", "http://127.9.9.9"] {
            assert!(Address::parse(local).expect("loopback").bypass_proxy, "{local}");
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
    async fn an_invalid_key_is_not_quoted_in_the_error() {
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
