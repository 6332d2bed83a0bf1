//! `signal-received`: an alarm or an ECS service changed, or a rule, a listener or a service was edited; wakes the targets that
//! watch the resource, which then observe for themselves.
//!
//! Passes on no facts: a lost or duplicate signal only changes how soon a target is observed.

mod event;
#[cfg(test)]
mod garbage;

use aws::Ports;
use aws::config::setting;
use event::ParsedSignal;
use lambda::{Invocation, InvocationFailure, configured};
use serde_json::{Value, json};
use std::process::ExitCode;

fn main() -> ExitCode {
    lambda::run(start, handle)
}

/// The environment variable with the ARN of the driver's role: its writes do not count as edits.
const DRIVER_ROLE: &str = "SWITCHBACK_DRIVER_ROLE";

struct SignalReceiver {
    ports: Ports,
    driver_role: String,
}

fn start() -> Result<SignalReceiver, InvocationFailure> {
    Ok(SignalReceiver { ports: configured(Ports::from_environment())?, driver_role: configured(setting(DRIVER_ROLE))? })
}

async fn handle(receiver: &SignalReceiver, event: Value, _: &Invocation) -> Result<Value, InvocationFailure> {
    let SignalReceiver { ports, driver_role } = receiver;
    let watch = match event::read(event, Some(driver_role))? {
        ParsedSignal::Changed(watch) => watch,
        ParsedSignal::Edited(watch, call) => {
            let woken = engine::intake::resource_edited(&ports.ledger, &ports.wake_queue, &watch, &call)
                .await
                .map_err(|error| InvocationFailure::unavailable(&error))?;
            tracing::info!(by = call.by, operation = call.operation, "somebody edited {watch}");
            return Ok(json!({ "watch": watch.to_string(), "woken": woken }));
        }
        ParsedSignal::Ignored(why) => {
            tracing::debug!("ignored: {why}");
            return Ok(json!({ "ignored": why }));
        }
    };
    let woken = engine::intake::signal(&ports.ledger, &ports.wake_queue, &watch)
        .await
        .map_err(|error| InvocationFailure::unavailable(&error))?;
    Ok(json!({ "watch": watch.to_string(), "woken": woken }))
}
