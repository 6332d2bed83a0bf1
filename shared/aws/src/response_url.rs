//! Slack's response URLs, which send the result of a button press to the person who pressed it (Slack API, "Handling user
//! interaction", "Message responses").

use crate::config::{Clients, SLACK_URL, setting};
use crate::http::HttpError;
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use rollout::text::error_chain;
use serde_json::Value;
use std::net::IpAddr;
use std::time::Duration;

/// Origin of Slack's response URLs.
const SLACK_ORIGIN: &str = "https://hooks.slack.com/";

/// The one host that response URLs may point to. Any other URL in an interaction is not contacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseUrls {
    origin: String,
    bypass_proxy: bool,
}

impl ResponseUrls {
    /// Slack's own host; where the environment names another Web API address: `hooks.` of that host, or on loopback the same
    /// server.
    #[must_use]
    pub fn from_environment() -> Self {
        setting(SLACK_URL).ok().map_or_else(Self::slack_default, |api| Self::for_api(&api))
    }

    fn slack_default() -> Self {
        Self { origin: SLACK_ORIGIN.to_owned(), bypass_proxy: false }
    }

    /// The response URLs that belong to a Web API address; Slack's own where `api` is not a valid address.
    #[must_use]
    pub fn for_api(api: &str) -> Self {
        let authority = |rest: &str| rest.split('/').next().unwrap_or_default().to_owned();
        if let Some(host) = api.strip_prefix("https://").map(authority).filter(|host| !host.is_empty()) {
            return Self { origin: format!("https://hooks.{host}/"), bypass_proxy: false };
        }
        let Some(server) = api.strip_prefix("http://").map(authority) else { return Self::slack_default() };
        let host = server.rsplit_once(':').map_or(server.as_str(), |(host, _)| host);
        let loopback = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if loopback { Self { origin: format!("http://{server}/"), bypass_proxy: true } } else { Self::slack_default() }
    }

    /// Whether `url` is an allowed response URL.
    #[must_use]
    pub fn contains(&self, url: &str) -> bool {
        url.starts_with(&self.origin) && url.len() <= 2048 && url.bytes().all(|byte| byte.is_ascii_graphic())
    }

    /// Posts `message` to a response URL, once, within `time`, and returns the HTTP status.
    ///
    /// # Errors
    /// [`HttpError::NotSent`] where `url` is not an allowed response URL, [`HttpError::NoResponse`] where no response came in
    /// time. The error omits the URL, which lets anyone post there.
    pub async fn post(&self, clients: &Clients, url: &str, message: &Value, time: Duration) -> Result<u16, HttpError> {
        if !self.contains(url) {
            return Err(HttpError::NotSent { reason: "that is no response URL of Slack's" });
        }
        let invalid = |_| HttpError::NotSent { reason: "the response URL does not make a request" };
        let mut request = HttpRequest::new(SdkBody::from(message.to_string()));
        request.set_method("POST").map_err(invalid)?;
        request.set_uri(url.to_owned()).map_err(invalid)?;
        let headers = request.headers_mut();
        headers.insert("content-type", "application/json; charset=utf-8");
        headers.insert("user-agent", concat!("switchback/", env!("CARGO_PKG_VERSION")));
        let exchange = clients.connector(self.bypass_proxy).call(request);
        match tokio::time::timeout(time, exchange).await {
            Ok(Ok(answer)) => Ok(answer.status().as_u16()),
            Ok(Err(error)) => Err(HttpError::NoResponse { reason: error_chain(&error) }),
            Err(_) => Err(HttpError::NoResponse { reason: format!("no answer came within {} ms", time.as_millis()) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::net::Ipv4Addr;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    #[test]
    fn only_slacks_own_response_urls_are_accepted() {
        let slack_default = ResponseUrls::for_api("https://slack.com/api/");
        assert_eq!(slack_default, ResponseUrls::slack_default());
        assert!(
            slack_default.contains("https://hooks.slack.com/actions/T1DC2JH3J/397700885554/96rGlfmibIGlgcZRskXaIFfN")
        );
        for other in [
            "https://hooks.slack.com",
            "https://hooks.slack.com.example.com/x",
            "https://hooks.slack.com@example.com/x",
            "https://example.com/https://hooks.slack.com/",
            "http://hooks.slack.com/x",
            "http://127.0.0.1:9001/2018-06-01/runtime/invocation/next",
            "http://169.254.169.254/latest/meta-data",
            "https://hooks.slack.com/x\r\nX-Other: 1",
            "https://hooks.slack.com/a b",
            "",
        ] {
            assert!(!slack_default.contains(other), "{other}");
        }
    }

    #[test]
    fn a_custom_slack_api_has_its_own_response_urls() {
        assert!(
            ResponseUrls::for_api("https://slack-gov.com/api/").contains("https://hooks.slack-gov.com/actions/T1/2/3")
        );
        let local = ResponseUrls::for_api("http://127.0.0.1:4000/api/");
        assert!(local.contains("http://127.0.0.1:4000/actions/T1/2/3"));
        assert!(!local.contains("http://127.0.0.1:9001/2018-06-01/runtime/invocation/next"));
        assert!(!local.contains("https://hooks.slack.com/actions/T1/2/3"));
        for no_address in ["", "slack.com", "http://slack.com/api/", "http://127.0.0.1.example.com/", "https:///api"] {
            assert_eq!(ResponseUrls::for_api(no_address), ResponseUrls::slack_default(), "{no_address}");
        }
    }

    #[tokio::test]
    async fn a_foreign_url_is_neither_contacted_nor_quoted() {
        let slack_default = ResponseUrls::slack_default();
        let (clients, url) = (Clients::new(), "https://example.com/geheim");
        let error =
            slack_default.post(&clients, url, &Value::Null, Duration::from_secs(1)).await.expect_err("not Slack's");
        assert!(matches!(error, HttpError::NotSent { .. }) && !format!("{error:?}").contains("geheim"), "{error:?}");
    }

    /// A server that answers one request with `answer`, or never. The task returns the request that it received.
    async fn serve_once(answer: Option<&'static str>) -> (ResponseUrls, String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let server = format!("http://{}/", listener.local_addr().expect("an address"));
        let sent = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut sent = String::new();
            while !sent.ends_with('}') {
                let mut bytes = [0; 1024];
                let read = stream.read(&mut bytes).await.expect("a request");
                sent.push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
            match answer {
                Some(answer) => stream.write_all(answer.as_bytes()).await.expect("it is still there"),
                None => std::future::pending().await,
            }
            sent
        });
        (ResponseUrls::for_api(&server), format!("{server}actions/T1/2/geheim"), sent)
    }

    #[tokio::test]
    async fn a_message_is_posted_as_json_without_following_redirects() {
        for (answer, status) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200),
            ("HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", 307),
        ] {
            let (urls, url, sent) = serve_once(Some(answer)).await;
            let message = json!({"text": "You said yes."});
            let posted = urls.post(&Clients::new(), &url, &message, Duration::from_secs(10)).await;
            assert_eq!(posted, Ok(status));
            let sent = sent.await.expect("it was asked");
            assert!(sent.starts_with("POST /actions/T1/2/geheim HTTP/1.1\r\n"), "{sent}");
            assert!(sent.contains("application/json") && sent.ends_with(r#"{"text":"You said yes."}"#), "{sent}");
            assert!(!sent.to_lowercase().contains("authorization"), "{sent}");
        }
    }

    #[tokio::test]
    async fn a_silent_server_times_out() {
        let (urls, url, sent) = serve_once(None).await;
        let posted = urls.post(&Clients::new(), &url, &json!({}), Duration::from_millis(100)).await;
        let error = posted.expect_err("no answer");
        assert!(matches!(error, HttpError::NoResponse { .. }) && !format!("{error:?}").contains("geheim"), "{error:?}");
        sent.abort();
    }
}
