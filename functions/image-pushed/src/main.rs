//! `image-pushed`: turns ECR's push events into releases and deploy commands.
//!
//! Writes to the ledger and sends wakes; changes nothing else. A push that cannot be processed is an error: Lambda retries the
//! event and finally moves it to the dead-letter queue.

mod event;
#[cfg(test)]
mod garbage;

use aws::config::own_registry;
use aws::{Ports, SystemClock};
use engine::Clock as _;
use engine::intake::image_pushed;
use event::{IgnoreReason, ParsedPush};
use lambda::{Invocation, InvocationFailure, configured};
use rollout::Registry;
use serde_json::{Value, json};
use std::process::ExitCode;

struct PushReceiver {
    ports: Ports,
    /// The registry of policies that name none.
    own: Registry,
}

fn main() -> ExitCode {
    lambda::run(start, handle)
}

fn start() -> Result<PushReceiver, InvocationFailure> {
    Ok(PushReceiver { ports: configured(Ports::from_environment())?, own: configured(own_registry())? })
}

async fn handle(state: &PushReceiver, event: Value, _: &Invocation) -> Result<Value, InvocationFailure> {
    let PushReceiver { ports, own } = state;
    let pushed = match event::read(event)? {
        ParsedPush::Pushed(pushed) => pushed,
        ParsedPush::Ignored(reason) => {
            let why = lambda::one_line(&reason.to_string());
            match reason {
                IgnoreReason::NotReplicated { .. } => tracing::warn!("ignored: {why}"),
                _ => tracing::info!("ignored: {why}"),
            }
            return Ok(json!({ "ignored": why }));
        }
    };
    let intake = image_pushed(&ports.ledger, &ports.wake_queue, &pushed, own, SystemClock.now())
        .await
        .map_err(|error| InvocationFailure::unavailable(&error))?;
    let services: Vec<Value> = intake
        .services
        .iter()
        .map(|one| json!({"application": one.application, "service": one.service, "outcome": one.outcome.to_string()}))
        .collect();
    Ok(json!({ "services": services }))
}
