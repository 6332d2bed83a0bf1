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
use event::{IgnoreReason, Parsed};
use lambda::{Failure, Invocation};
use rollout::Registry;
use serde_json::{Value, json};
use std::process::ExitCode;

struct State {
    ports: Ports,
    /// The registry of policies that name none.
    own: Registry,
}

fn main() -> ExitCode {
    lambda::run(start, handle)
}

fn start() -> Result<State, Failure> {
    let ports = Ports::from_environment().map_err(|error| Failure::configuration(&error))?;
    Ok(State { ports, own: own_registry().map_err(|error| Failure::configuration(&error))? })
}

async fn handle(state: &State, event: Value, _: &Invocation) -> Result<Value, Failure> {
    let State { ports, own } = state;
    let pushed = match event::read(event)? {
        Parsed::Pushed(pushed) => pushed,
        Parsed::Ignored(why @ IgnoreReason::NotReplicated { .. }) => {
            let why = lambda::one_line(&why.to_string());
            tracing::warn!("ignored: {why}");
            return Ok(json!({ "ignored": why }));
        }
        Parsed::Ignored(why) => {
            let why = lambda::one_line(&why.to_string());
            tracing::info!("ignored: {why}");
            return Ok(json!({ "ignored": why }));
        }
    };
    let intake = image_pushed(&ports.ledger, &ports.wake_queue, &pushed, own, SystemClock.now())
        .await
        .map_err(|error| Failure::unavailable(&error))?;
    let services: Vec<Value> = intake
        .services
        .iter()
        .map(|one| json!({"application": one.application, "service": one.service, "outcome": one.outcome.to_string()}))
        .collect();
    Ok(json!({ "services": services }))
}
