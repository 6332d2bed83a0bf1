//! `image-pushed`: ECR's word that an image was pushed becomes a release, and commands to deploy it.
//!
//! Writes to the ledger and sends the wake; touches nothing else. What is not taken in is an error, and Lambda
//! sends the event again and in the end to the dead-letter queue.

mod event;
#[cfg(test)]
mod garbage;

use aws::config::own_registry;
use aws::{Ports, SystemClock};
use engine::Clock as _;
use engine::intake::image_pushed;
use event::{Reason, Told};
use lambda::{Failure, Invocation};
use rollout::Registry;
use serde_json::{Value, json};
use std::process::ExitCode;

struct State {
    ports: Ports,
    /// The registry that policies mean which name none.
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
        Told::Pushed(pushed) => pushed,
        Told::Nothing(why @ Reason::NotReplicated { .. }) => {
            let why = lambda::brief(&why.to_string());
            tracing::warn!("ignored: {why}");
            return Ok(json!({ "ignored": why }));
        }
        Told::Nothing(why) => {
            let why = lambda::brief(&why.to_string());
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
        .map(|one| json!({"application": one.application, "service": one.service, "outcome": one.taken.to_string()}))
        .collect();
    Ok(json!({ "services": services }))
}
