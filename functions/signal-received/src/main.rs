//! `signal-received`: an alarm or an ECS service changed; the targets that are concerned look for themselves.
//!
//! Carries no facts on: a lost or doubled signal changes nothing but how soon somebody looks.

mod event;

use aws::Clients;
use aws::doorbell::SqsDoorbell;
use aws::ledger::DynamoLedger;
use event::Told;
use lambda::{Failure, Invocation};
use serde_json::{Value, json};
use std::process::ExitCode;

struct State {
    ledger: DynamoLedger,
    doorbell: SqsDoorbell,
}

fn main() -> ExitCode {
    lambda::run(start, handle)
}

fn start() -> Result<State, Failure> {
    let clients = Clients::new();
    let setting = |error| Failure::configuration(&error);
    Ok(State {
        ledger: DynamoLedger::from_environment(clients.clone()).map_err(setting)?,
        doorbell: SqsDoorbell::from_environment(clients).map_err(setting)?,
    })
}

async fn handle(state: &State, event: Value, _: &Invocation) -> Result<Value, Failure> {
    let watch = match event::read(event)? {
        Told::Changed(watch) => watch,
        Told::Nothing(why) => {
            tracing::debug!("ignored: {why}");
            return Ok(json!({ "ignored": why }));
        }
    };
    let woken = engine::intake::signal(&state.ledger, &state.doorbell, &watch)
        .await
        .map_err(|error| Failure::unavailable(&error))?;
    Ok(json!({ "watch": watch.to_string(), "woken": woken }))
}
