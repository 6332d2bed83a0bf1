//! `approvals`: approval decisions, by a button in Slack or a signed link in a mail.
//!
//! The gateway authenticates nothing here: Slack's signature over the raw body does, and the link's own MAC. A caller with
//! neither always gets the same answer, and the log has the reason. A decision that an authenticated person may not make is
//! refused with a reason, which is also journalled in the target.

mod handler;
mod keys;
mod request;
mod response;
mod slack_reply;

use api::CommandService;
use aws::response_url::ResponseUrls;
use aws::{Ports, SystemClock};
use engine::log_context;
use handler::{ApprovalHandler, HttpReply};
use keys::SecretKeys;
use lambda::{Invocation, InvocationFailure, configured};
use request::ApprovalRequest;
use serde_json::Value;
use std::process::ExitCode;
use std::time::Instant;
use tracing::Instrument as _;

/// Shared by all invocations.
struct ApprovalPorts {
    ports: Ports,
    keys: SecretKeys,
    response_urls: ResponseUrls,
}

fn main() -> ExitCode {
    lambda::run(start, handle)
}

fn start() -> Result<ApprovalPorts, InvocationFailure> {
    let ports = configured(Ports::from_environment())?;
    let keys = configured(SecretKeys::from_environment(ports.clients.clone()))?;
    Ok(ApprovalPorts { ports, keys, response_urls: ResponseUrls::from_environment() })
}

async fn handle(shared: &ApprovalPorts, event: Value, _: &Invocation) -> Result<Value, InvocationFailure> {
    let request = request::read(event)?;
    let answered = answer(shared, &request).instrument(log_context::empty_span()).await;
    Ok(response::of(&answered))
}

async fn answer(shared: &ApprovalPorts, request: &ApprovalRequest) -> HttpReply {
    let began = Instant::now();
    let ApprovalPorts { ports, keys, response_urls } = shared;
    let command_service = CommandService { ledger: &ports.ledger, wake_queue: &ports.wake_queue, clock: &SystemClock };
    let answered = ApprovalHandler { command_service, keys }.answer(request).await;
    if let Some((url, message)) = &answered.reply {
        slack_reply::post(response_urls, &ports.clients, url, message, began).await;
    }
    answered
}
