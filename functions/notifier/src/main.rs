//! `notifier`: what the journal says is told, to programs on a bus and to people through topics.
//!
//! Its work is `engine::notify`. Records that could not be told are reported back and come again; Lambda begins at the
//! first of them, so that others come again with them, and are known by what was noted of them.

mod records;

use aws::channels::AwsChannels;
use aws::ledger::DynamoLedger;
use aws::{Clients, SystemClock};
use aws_lambda_events::event::sqs::SqsBatchResponse;
use engine::Channels as _;
use futures::future::join_all;
use lambda::{Failure, Invocation};
use records::{Batch, Journal, Unreadable};
use rollout::Timestamp;
use serde_json::{Value, json};
use std::process::ExitCode;
use tracing::Instrument as _;

#[derive(Debug)]
struct Ports {
    ledger: DynamoLedger,
    channels: AwsChannels,
}

fn main() -> ExitCode {
    lambda::run(start, handle)
}

fn start() -> Result<Ports, Failure> {
    let clients = Clients::new();
    let ports = || {
        Ok(Ports {
            ledger: DynamoLedger::from_environment(clients.clone())?,
            channels: AwsChannels::from_environment(clients)?,
        })
    };
    ports().map_err(|error: aws::MissingSetting| Failure::configuration(&error))
}

async fn handle(ports: &Ports, event: Value, invocation: &Invocation) -> Result<SqsBatchResponse, Failure> {
    let Batch { journals, unreadable, ignored } = records::of(event)?;
    if ignored > 0 {
        tracing::debug!(ignored, "records that are no new journal entries");
    }
    // Targets do not wait for each other.
    let told = join_all(journals.into_iter().map(|journal| {
        let span = tracing::info_span!("journal", target_id = %journal.target);
        tell(ports, journal, invocation.until).instrument(span)
    }));
    let mut failed: Vec<String> = told.await.into_iter().flatten().collect();
    for record in unreadable {
        failed.extend(set_aside(ports, record).await);
    }
    Ok(lambda::reply(failed))
}

/// Answers the records that must come again.
async fn tell(ports: &Ports, journal: Journal, until: Timestamp) -> Vec<String> {
    let Journal { entries, mut records, .. } = journal;
    let told = engine::notify(&ports.ledger, &ports.channels, &SystemClock, &entries, until).await;
    if let Some(error) = told.stopped {
        let failure = Failure::unavailable(&error);
        tracing::error!(error.kind = failure.kind(), "an entry was not told, it comes again: {failure}");
    }
    records.split_off(told.entries)
}

/// What cannot be read now cannot be read later either, and would hold up all that is behind it.
async fn set_aside(ports: &Ports, record: Unreadable) -> Option<String> {
    let Unreadable { sequence_number, reason, image } = record;
    tracing::error!(record = sequence_number, "a journal entry cannot be read, and is set aside: {reason}");
    let letter = json!({"notifier": "not readable", "reason": reason, "record": image}).to_string();
    match ports.channels.set_aside(&letter).await {
        Ok(()) => None,
        Err(trouble) => {
            tracing::error!("it could not be set aside, it comes again: {trouble}");
            Some(sequence_number)
        }
    }
}
