//! `notifier`: delivers journal entries to programs on a bus and to people through topics and Slack.
//!
//! The work is done by `engine::notify`. Records that could not be delivered are reported as failed; Lambda redelivers everything
//! from the first of them on, and deliveries already marked as done are skipped.

mod delivery;
#[cfg(test)]
mod garbage;
mod records;

use aws::Clients;
use aws::channels::AwsChannels;
use aws::ledger::DynamoLedger;
use aws_lambda_events::event::sqs::SqsBatchResponse;
use lambda::{Invocation, InvocationFailure, configured};
use serde_json::Value;
use std::process::ExitCode;

#[derive(Debug)]
struct NotifierPorts {
    ledger: DynamoLedger,
    channels: AwsChannels,
}

fn main() -> ExitCode {
    lambda::run(start, handle)
}

fn start() -> Result<NotifierPorts, InvocationFailure> {
    let clients = Clients::new();
    let ledger = configured(DynamoLedger::from_environment(clients.clone()))?;
    let channels = configured(AwsChannels::from_environment(clients))?;
    Ok(NotifierPorts { ledger, channels })
}

async fn handle(
    ports: &NotifierPorts,
    event: Value,
    invocation: &Invocation,
) -> Result<SqsBatchResponse, InvocationFailure> {
    let batch = records::of(event)?;
    Ok(lambda::batch_response(delivery::deliver(ports, batch, invocation.until).await))
}
