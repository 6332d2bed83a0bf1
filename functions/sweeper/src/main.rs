//! `sweeper`: runs every minute, wakes overdue targets and processes pushes whose event was lost.
//!
//! The backstop for everything that is best effort: events, wakes, and functions that died half way.

mod event;
#[cfg(test)]
mod garbage;
mod response;

use aws::registry::EcrRegistry;
use aws::{Ports, SystemClock};
use engine::intake::{Sweep, sweep};
use lambda::{Invocation, InvocationFailure, configured};
use serde_json::Value;
use std::process::ExitCode;

/// The environment variable with the interval, in minutes, at which a repository is compared with the ledger.
const EVERY: &str = "SWITCHBACK_REGISTRY_EVERY_MINUTES";

struct Sweeper {
    ports: Ports,
    registry: EcrRegistry,
    every: u64,
}

fn main() -> ExitCode {
    lambda::run(start, handle)
}

fn start() -> Result<Sweeper, InvocationFailure> {
    let ports = configured(Ports::from_environment())?;
    Ok(Sweeper { registry: EcrRegistry::new(ports.clients.clone()), every: lambda::number(EVERY, 5)?, ports })
}

async fn handle(state: &Sweeper, event: Value, invocation: &Invocation) -> Result<Value, InvocationFailure> {
    let turn = Sweep { minute: event::minute(event)?, every: state.every, until: invocation.until };
    response::of(sweep(&state.ports.ledger, &state.ports.wake_queue, &state.registry, &SystemClock, &turn).await)
}
