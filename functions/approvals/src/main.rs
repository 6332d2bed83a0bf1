//! `approvals`: people's yes and no, by a button in Slack and by a signed link in a mail.
//!
//! The gateway proves nothing here: Slack's signature does, over the raw body, and a link's own. Whoever has neither is
//! told the same, whatever they have instead, and the log has the reason. What a proven person may not say is told to
//! them, and to the target's journal.

mod door;
mod keys;
mod request;

use aws::response_url::ResponseUrls;
use aws::{Ports, SystemClock};
use door::{Answered, Door};
use engine::desk::Desk;
use engine::story;
use keys::SecretKeys;
use lambda::{Failure, Invocation};
use request::Request;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tracing::Instrument as _;

/// When Slack has its answer at the latest, counted from the function's first look: it waits 3 s, the way here included.
const ANSWER_WITHIN: Duration = Duration::from_millis(2_500);
/// How long telling the person may take.
const REPLY: Duration = Duration::from_secs(1);
/// Less than this is not worth beginning.
const SHORTEST_REPLY: Duration = Duration::from_millis(50);

/// What all calls share.
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
    let answered = answer(shared, &request).instrument(story::untold()).await;
    Ok(response(&answered))
}

async fn answer(shared: &Shared, request: &Request) -> Answered {
    let began = Instant::now();
    let Shared { ports, keys, response_urls } = shared;
    let door = Door { desk: Desk { ledger: &ports.ledger, wake_queue: &ports.wake_queue, clock: &SystemClock }, keys };
    let answered = door.answer(request).await;
    if let Some((url, message)) = &answered.reply {
        let left = ANSWER_WITHIN.saturating_sub(began.elapsed()).min(REPLY);
        if left < SHORTEST_REPLY {
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

/// The answer as the gateway takes it (API Gateway developer guide, "Lambda function response", format 2.0).
fn response(answered: &Answered) -> Value {
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
    fn a_page_is_kept_by_nobody_framed_by_nobody_and_runs_nothing() {
        let Page { status, html } = Page::stranger();
        let answered = Answered { status, content_type: "text/html; charset=utf-8", body: html, reply: None };
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
    fn slack_has_its_answer_before_it_gives_up() {
        assert!(ANSWER_WITHIN < Duration::from_secs(3) && REPLY < ANSWER_WITHIN);
    }
}
