//! `signal-received`: an alarm or an ECS service changed; the targets that are concerned look for themselves.
//!
//! Carries no facts on: a lost or doubled signal changes nothing but how soon somebody looks.

mod event;
#[cfg(test)]
mod garbage;

use aws::Ports;
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
    let watch = match event::read(event)? {
        Told::Changed(watch) => watch,
        Told::Nothing(why) => {
            tracing::debug!("ignored: {why}");
            return Ok(json!({ "ignored": why }));
        }
    };
    let woken = engine::intake::signal(&ports.ledger, &ports.doorbell, &watch)
        .await
        .map_err(|error| Failure::unavailable(&error))?;
    Ok(json!({ "watch": watch.to_string(), "woken": woken }))
}
