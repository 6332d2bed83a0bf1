//! `rollout-driver`: a wake becomes one pass over its target. The only writer to ECS, the balancers and autoscaling.
//!
//! A pass that the ledger could not serve is reported back, and its wake comes again; of a batch only such wakes do.

#[cfg(test)]
mod garbage;
mod wakes;

use aws::cloud::AwsCloud;
use aws::{Ports, SystemClock};
use aws_lambda_events::event::sqs::SqsBatchResponse;
use engine::Driven;
use futures::future::join_all;
use lambda::{Failure, Invocation};
use rollout::Timestamp;
use serde_json::Value;
use std::process::ExitCode;
use tracing::Instrument as _;
use wakes::Wake;

fn main() -> ExitCode {
    lambda::run(start, handle)
}

fn start() -> Result<Ports, Failure> {
    Ports::from_environment().map_err(|error| Failure::configuration(&error))
}

async fn handle(ports: &Ports, event: Value, invocation: &Invocation) -> Result<SqsBatchResponse, Failure> {
    let batch = wakes::of(lambda::messages(event)?);
    let passes = batch.wakes.into_iter().map(|wake| {
        let span = engine::story::of(&wake.ring.target);
        async { if pass(ports, &wake, invocation.until).await { vec![] } else { wake.messages } }.instrument(span)
    });
    let mut failed = batch.unreadable;
    failed.extend(join_all(passes).await.into_iter().flatten());
    Ok(lambda::reply(failed))
}

/// Whether the wake is done with.
async fn pass(ports: &Ports, wake: &Wake, until: Timestamp) -> bool {
    // One for each pass: it remembers what the pass has read.
    let cloud = AwsCloud::new(ports.clients.clone());
    match engine::drive(&wake.ring, &ports.ledger, &cloud, &ports.doorbell, &SystemClock, until).await {
        Ok(Driven::Done) => true,
        Ok(driven @ (Driven::Busy | Driven::Superseded)) => {
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
