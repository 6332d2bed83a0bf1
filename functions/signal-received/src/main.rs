//! `signal-received`: an alarm or an ECS service changed, or somebody edited a rule, a listener or a service; the targets that are
//! concerned look for themselves.
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

/// The environment variable with the ARN of the driver's role: what it writes is nobody's edit.
const DRIVER_ROLE: &str = "SWITCHBACK_DRIVER_ROLE";

struct Receiver {
    ports: Ports,
    driver_role: String,
}

fn start() -> Result<Receiver, Failure> {
    let ports = Ports::from_environment().map_err(|error| Failure::configuration(&error))?;
    let driver_role = aws::config::setting(DRIVER_ROLE).map_err(|error| Failure::configuration(&error))?;
    Ok(Receiver { ports, driver_role })
}

async fn handle(receiver: &Receiver, event: Value, _: &Invocation) -> Result<Value, Failure> {
    let Receiver { ports, driver_role } = receiver;
    let watch = match event::read(event, Some(driver_role))? {
        Told::Changed(watch) => watch,
        Told::Edited(watch, call) => {
            let woken = engine::intake::edited(&ports.ledger, &ports.wake_queue, &watch, &call)
                .await
                .map_err(|error| Failure::unavailable(&error))?;
            tracing::info!(by = call.by, operation = call.operation, "somebody edited {watch}");
            return Ok(json!({ "watch": watch.to_string(), "woken": woken }));
        }
        Told::Nothing(why) => {
            tracing::debug!("ignored: {why}");
            return Ok(json!({ "ignored": why }));
        }
    };
    let woken = engine::intake::signal(&ports.ledger, &ports.wake_queue, &watch)
        .await
        .map_err(|error| Failure::unavailable(&error))?;
    Ok(json!({ "watch": watch.to_string(), "woken": woken }))
}
