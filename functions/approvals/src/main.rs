//! `approvals`: approval decisions, by a button in Slack or a signed link in a mail.
//!
//! The gateway authenticates nothing here: Slack's signature over the raw body does, and the link's own MAC. A caller with
//! neither always gets the same answer, and the log has the reason. A decision that an authenticated person may not make is
//! refused with a reason, which is also journalled in the target.

mod handler;
mod keys;
mod request;

use aws::response_url::ResponseUrls;
use aws::{Ports, SystemClock};
use engine::command_service::CommandService;
use engine::log_context;
use handler::{ApprovalHandler, HttpReply};
use keys::SecretKeys;
use lambda::{Failure, Invocation};
use request::Request;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tracing::Instrument as _;

/// Deadline of the response to Slack, from the start of the invocation: Slack waits 3 s, network time included.
const SLACK_DEADLINE: Duration = Duration::from_millis(2_500);
/// Time-out of the reply to the person.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);
/// Below this remaining time no reply is attempted.
const MIN_REPLY_TIME: Duration = Duration::from_millis(50);

/// Shared by all invocations.
struct Shared {
    ports: Ports,
    keys: SecretKeys,
    response_urls: ResponseUrls,
}

fn main() -> ExitCode {
    lambda::run(start, handle)
}

fn start() -> Result<Shared, Failure> {
    let ports = Ports::from_environment().map_err(|error| Failure::configuration(&error))?;
    let keys = SecretKeys::from_environment(ports.clients.clone()).map_err(|error| Failure::configuration(&error))?;
    Ok(Shared { ports, keys, response_urls: ResponseUrls::from_environment() })
}

async fn handle(shared: &Shared, event: Value, _: &Invocation) -> Result<Value, Failure> {
    let request = request::read(event)?;
    let answered = answer(shared, &request).instrument(log_context::empty_span()).await;
    Ok(response(&answered))
}

async fn answer(shared: &Shared, request: &Request) -> HttpReply {
    let began = Instant::now();
    let Shared { ports, keys, response_urls } = shared;
    let handler = ApprovalHandler {
        command_service: CommandService { ledger: &ports.ledger, wake_queue: &ports.wake_queue, clock: &SystemClock },
        keys,
    };
    let answered = handler.answer(request).await;
    if let Some((url, message)) = &answered.reply {
        let left = SLACK_DEADLINE.saturating_sub(began.elapsed()).min(REPLY_TIMEOUT);
        if left < MIN_REPLY_TIME {
            tracing::warn!("there was no time left to tell who pressed what became of it");
        } else {
            match response_urls.post(&ports.clients, url, message, left).await {
                Ok(200..300) => {}
                Ok(status) => tracing::warn!(http.status = status, "Slack did not take the reply to who pressed"),
                Err(error) => tracing::warn!("who pressed could not be told what became of it: {error}"),
            }
        }
    }
    answered
}

/// The response in the gateway's format (API Gateway developer guide, "Lambda function response", format 2.0).
fn response(answered: &HttpReply) -> Value {
    let headers = json!({
        "content-type": answered.content_type,
        "cache-control": "no-store",
        "content-security-policy": engine::approving::mail::CSP,
        "referrer-policy": "no-referrer",
        "strict-transport-security": "max-age=31536000",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "x-robots-tag": "noindex, nofollow",
    });
    json!({"statusCode": answered.status, "headers": headers, "body": answered.body, "isBase64Encoded": false})
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::approving::mail::Page;

    #[test]
    fn pages_have_strict_security_headers() {
        let Page { status, html } = Page::unauthenticated();
        let answered = HttpReply { status, content_type: "text/html; charset=utf-8", body: html, reply: None };
        let answer = response(&answered);
        assert_eq!((answer["statusCode"].clone(), answer["isBase64Encoded"].clone()), (json!(403), json!(false)));
        let header = |name: &str| answer["headers"][name].as_str().expect("it has one").to_owned();
        assert_eq!(header("content-type"), "text/html; charset=utf-8");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!(header("x-frame-options"), "DENY");
        assert_eq!(header("x-content-type-options"), "nosniff");
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{policy}");
    }

    #[test]
    fn timeouts_fit_within_slacks_three_seconds() {
        assert!(SLACK_DEADLINE < Duration::from_secs(3) && REPLY_TIMEOUT < SLACK_DEADLINE);
    }
}
