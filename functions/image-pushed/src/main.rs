//! `image-pushed`: ECR's word that an image was pushed becomes a release, and commands to deploy it.
//!
//! Writes to the ledger and rings the doorbell; touches nothing else. What is not taken in is an error, and Lambda
//! sends the event again and in the end to the dead-letter queue.

mod event;
#[cfg(test)]
mod garbage;

use aws::{Ports, SystemClock};
use engine::Clock as _;
use engine::intake::image_pushed;
use event::Told;
use lambda::{Failure, Invocation};
use serde_json::{Value, json};
use std::process::ExitCode;

fn main() -> ExitCode {
    lambda::run(start, handle)
}

fn start() -> Result<Ports, Failure> {
    Ports::from_environment().map_err(|error| Failure::configuration(&error))
}

async fn handle(ports: &Ports, event: Value, _: &Invocation) -> Result<Value, Failure> {
    let pushed = match event::read(event)? {
        Told::Pushed(pushed) => pushed,
        Told::Nothing(why) => {
            let why = lambda::brief(&why.to_string());
            tracing::info!("ignored: {why}");
            return Ok(json!({ "ignored": why }));
        }
    };
    let intake = image_pushed(&ports.ledger, &ports.doorbell, &pushed, SystemClock.now())
        .await
        .map_err(|error| Failure::unavailable(&error))?;
    let services: Vec<Value> = intake
        .services
        .iter()
        .map(|one| json!({"application": one.application, "service": one.service, "outcome": one.taken.to_string()}))
        .collect();
    Ok(json!({ "services": services }))
}
