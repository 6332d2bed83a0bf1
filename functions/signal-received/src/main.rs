//! `signal-received`: an alarm or an ECS service changed, or a rule, a listener or a service was edited; wakes the targets that
//! watch the resource, which then observe for themselves.
//!
//! Passes on no facts: a lost or duplicate signal only changes how soon a target is observed.

mod event;
#[cfg(test)]
mod garbage;

use aws::Ports;
use event::Parsed;
use lambda::{Failure, Invocation};
use serde_json::{Value, json};
use std::process::ExitCode;

fn main() -> ExitCode {
    lambda::run(start, handle)
}

/// The environment variable with the ARN of the driver's role: its writes do not count as edits.
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
        Parsed::Changed(watch) => watch,
        Parsed::Edited(watch, call) => {
            let woken = engine::intake::resource_edited(&ports.ledger, &ports.wake_queue, &watch, &call)
                .await
                .map_err(|error| Failure::unavailable(&error))?;
            tracing::info!(by = call.by, operation = call.operation, "somebody edited {watch}");
            return Ok(json!({ "watch": watch.to_string(), "woken": woken }));
        }
        Parsed::Ignored(why) => {
            tracing::debug!("ignored: {why}");
            return Ok(json!({ "ignored": why }));
        }
    };
    let woken = engine::intake::signal(&ports.ledger, &ports.wake_queue, &watch)
        .await
        .map_err(|error| Failure::unavailable(&error))?;
    Ok(json!({ "watch": watch.to_string(), "woken": woken }))
}
