//! `rollout-driver`: runs one pass over the target of each wake. The only writer to ECS, load balancers and autoscaling.
//!
//! A pass that failed because of the ledger is reported, and only its wake of the batch is redelivered.

#[cfg(test)]
mod garbage;
mod pass;
mod wakes;

use aws::Ports;
use aws_lambda_events::event::sqs::SqsBatchResponse;
use engine::recorder::LogRecorder;
use futures::future::join_all;
use lambda::{Invocation, InvocationFailure, configured};
use serde_json::Value;
use std::process::ExitCode;
use tracing::Instrument as _;

/// Whether decisions are recorded in the log, for `switchback replay`: `on`, the default, or `off`.
const RECORD: &str = "SWITCHBACK_RECORD_DECISIONS";

struct Driver {
    ports: Ports,
    recorder: LogRecorder,
}

fn main() -> ExitCode {
    lambda::run(start, handle)
}

fn start() -> Result<Driver, InvocationFailure> {
    let ports = configured(Ports::from_environment())?;
    Ok(Driver { ports, recorder: LogRecorder(lambda::switch(RECORD, true)?) })
}

async fn handle(driver: &Driver, event: Value, invocation: &Invocation) -> Result<SqsBatchResponse, InvocationFailure> {
    let batch = wakes::of(lambda::messages(event)?);
    let passes = batch.deliveries.into_iter().map(|delivery| {
        let span = engine::log_context::of(&delivery.wake.target);
        async { if pass::run(driver, &delivery, invocation.until).await { vec![] } else { delivery.messages } }
            .instrument(span)
    });
    let mut failed = batch.unreadable;
    failed.extend(join_all(passes).await.into_iter().flatten());
    Ok(lambda::batch_response(failed))
}
