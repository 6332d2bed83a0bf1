//! `rollout-driver`: runs one pass over the target of each wake. The only writer to ECS, load balancers and autoscaling.
//!
//! A pass that failed because of the ledger is reported, and only its wake of the batch is redelivered.

#[cfg(test)]
mod garbage;
mod wakes;

use aws::cloud::AwsCloud;
use aws::{Ports, SystemClock};
use aws_lambda_events::event::sqs::SqsBatchResponse;
use engine::DriveOutcome;
use engine::recorder::LogRecorder;
use futures::future::join_all;
use lambda::{Failure, Invocation};
use rollout::Timestamp;
use serde_json::Value;
use std::process::ExitCode;
use tracing::Instrument as _;
use wakes::Delivery;

/// Whether decisions are recorded in the log, for `switchback replay`: `on`, the default, or `off`.
const RECORD: &str = "SWITCHBACK_RECORD_DECISIONS";

struct Driver {
    ports: Ports,
    recorder: LogRecorder,
}

fn main() -> ExitCode {
    lambda::run(start, handle)
}

fn start() -> Result<Driver, Failure> {
    let ports = Ports::from_environment().map_err(|error| Failure::configuration(&error))?;
    Ok(Driver { ports, recorder: LogRecorder(lambda::switch(RECORD, true)?) })
}

async fn handle(driver: &Driver, event: Value, invocation: &Invocation) -> Result<SqsBatchResponse, Failure> {
    let batch = wakes::of(lambda::messages(event)?);
    let passes = batch.deliveries.into_iter().map(|delivery| {
        let span = engine::log_context::of(&delivery.wake.target);
        async { if pass(driver, &delivery, invocation.until).await { vec![] } else { delivery.messages } }
            .instrument(span)
    });
    let mut failed = batch.unreadable;
    failed.extend(join_all(passes).await.into_iter().flatten());
    Ok(lambda::batch_response(failed))
}

/// Whether the wake is done; if not, it is redelivered.
async fn pass(driver: &Driver, delivery: &Delivery, until: Timestamp) -> bool {
    let Driver { ports, recorder } = driver;
    // One per pass: it caches what the pass has read.
    let cloud = AwsCloud::new(ports.clients.clone());
    let (ledger, wake_queue) = (&ports.ledger, &ports.wake_queue);
    match engine::drive_recorded(&delivery.wake, ledger, &cloud, wake_queue, &SystemClock, recorder, until).await {
        Ok(DriveOutcome::Done) => true,
        Ok(driven @ (DriveOutcome::Busy | DriveOutcome::Superseded)) => {
            tracing::info!("left to whoever holds the target: {driven:?}");
            true
        }
        Err(error) => {
            let failure = Failure::unavailable(&error);
            tracing::error!(
                error.kind = failure.kind(),
                "the pass could not be finished, its wake comes again: {failure}"
            );
            false
        }
    }
}
