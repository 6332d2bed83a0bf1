//! Slack's response URLs: where what a press of a button led to is told to who pressed it (Slack API, "Handling user
//! interaction", "Message responses").

use crate::config::{Clients, SLACK_URL, setting};
use crate::error::chain;
use crate::http::HttpError;
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use serde_json::Value;
use std::net::IpAddr;
use std::time::Duration;

/// Where Slack has its response URLs.
const SLACKS: &str = "https://hooks.slack.com/";

/// Where response URLs may lead: to one host. Whatever else an interaction names is not spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseUrls {
    origin: String,
    direct: bool,
}

impl ResponseUrls {
    /// Slack's own; where the environment names another address of the Web API: `hooks.` of that host, or on loopback
    /// the same server.
    #[must_use]
    pub fn from_environment() -> Self {
        setting(SLACK_URL).ok().map_or_else(Self::slacks, |api| Self::beside(&api))
    }

    fn slacks() -> Self {
        Self { origin: SLACKS.to_owned(), direct: false }
    }

    /// The response URLs that belong to a Web API's address; Slack's own where that is no address.
    #[must_use]
    pub fn beside(api: &str) -> Self {
        let authority = |rest: &str| rest.split('/').next().unwrap_or_default().to_owned();
        if let Some(host) = api.strip_prefix("https://").map(authority).filter(|host| !host.is_empty()) {
            return Self { origin: format!("https://hooks.{host}/"), direct: false };
        }
        let Some(server) = api.strip_prefix("http://").map(authority) else { return Self::slacks() };
        let host = server.rsplit_once(':').map_or(server.as_str(), |(host, _)| host);
        let loopback = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if loopback { Self { origin: format!("http://{server}/"), direct: true } } else { Self::slacks() }
    }

    /// Whether `url` is one of them.
    #[must_use]
    pub fn are(&self, url: &str) -> bool {
        url.starts_with(&self.origin) && url.len() <= 2048 && url.bytes().all(|byte| byte.is_ascii_graphic())
    }

    /// Posts `message` to one of them, once, within `time`; answers HTTP's status.
    ///
    /// # Errors
    /// [`HttpError::NotSent`] where it is none of them, [`HttpError::NoAnswer`] where no answer came in time. The URL, with
    /// which anybody could speak there, is not in it.
    pub async fn post(&self, clients: &Clients, url: &str, message: &Value, time: Duration) -> Result<u16, HttpError> {
        if !self.are(url) {
            return Err(HttpError::NotSent { reason: "that is no response URL of Slack's" });
        }
        let unsound = |_| HttpError::NotSent { reason: "the response URL does not make a request" };
        let mut request = HttpRequest::new(SdkBody::from(message.to_string()));
        request.set_method("POST").map_err(unsound)?;
        request.set_uri(url.to_owned()).map_err(unsound)?;
        let headers = request.headers_mut();
        headers.insert("content-type", "application/json; charset=utf-8");
        headers.insert("user-agent", concat!("switchback/", env!("CARGO_PKG_VERSION")));
        let exchange = clients.connector(self.direct).call(request);
        match tokio::time::timeout(time, exchange).await {
            Ok(Ok(answer)) => Ok(answer.status().as_u16()),
            Ok(Err(error)) => Err(HttpError::NoAnswer { reason: chain(&error) }),
            Err(_) => Err(HttpError::NoAnswer { reason: format!("no answer came within {} ms", time.as_millis()) }),
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
    fn only_slacks_own_response_urls_are_spoken_to() {
        let slacks = ResponseUrls::beside("https://slack.com/api/");
        assert_eq!(slacks, ResponseUrls::slacks());
        assert!(slacks.are("https://hooks.slack.com/actions/T1DC2JH3J/397700885554/96rGlfmibIGlgcZRskXaIFfN"));
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
            assert!(!slacks.are(other), "{other}");
        }
    }

    #[test]
    fn another_slack_has_its_own() {
        assert!(ResponseUrls::beside("https://slack-gov.com/api/").are("https://hooks.slack-gov.com/actions/T1/2/3"));
        let local = ResponseUrls::beside("http://127.0.0.1:4000/api/");
        assert!(local.are("http://127.0.0.1:4000/actions/T1/2/3"));
        assert!(!local.are("http://127.0.0.1:9001/2018-06-01/runtime/invocation/next"));
        assert!(!local.are("https://hooks.slack.com/actions/T1/2/3"));
        for no_address in ["", "slack.com", "http://slack.com/api/", "http://127.0.0.1.example.com/", "https:///api"] {
            assert_eq!(ResponseUrls::beside(no_address), ResponseUrls::slacks(), "{no_address}");
        }
    }

    #[tokio::test]
    async fn what_is_none_is_not_sent_and_not_quoted() {
        let slacks = ResponseUrls::slacks();
        let (clients, url) = (Clients::new(), "https://example.com/geheim");
        let error = slacks.post(&clients, url, &Value::Null, Duration::from_secs(1)).await.expect_err("not Slack's");
        assert!(matches!(error, HttpError::NotSent { .. }) && !format!("{error:?}").contains("geheim"), "{error:?}");
    }

    /// A server that answers one request with `answer`, or never; what it was sent.
    async fn far_side(answer: Option<&'static str>) -> (ResponseUrls, String, tokio::task::JoinHandle<String>) {
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
        (ResponseUrls::beside(&server), format!("{server}actions/T1/2/geheim"), sent)
    }

    #[tokio::test]
    async fn a_message_is_posted_as_json_and_no_redirect_is_followed() {
        for (answer, status) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200),
            ("HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", 307),
        ] {
            let (urls, url, sent) = far_side(Some(answer)).await;
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
    async fn who_does_not_answer_is_not_waited_for() {
        let (urls, url, sent) = far_side(None).await;
        let posted = urls.post(&Clients::new(), &url, &json!({}), Duration::from_millis(100)).await;
        let error = posted.expect_err("no answer");
        assert!(matches!(error, HttpError::NoAnswer { .. }) && !format!("{error:?}").contains("geheim"), "{error:?}");
        sent.abort();
    }
}
