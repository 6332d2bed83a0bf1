//! `notifier`: delivers journal entries to programs on a bus and to people through topics and Slack.
//!
//! The work is done by `engine::notify`. Records that could not be delivered are reported as failed; Lambda redelivers everything
//! from the first of them on, and deliveries already marked as done are skipped.

#[cfg(test)]
mod garbage;
mod records;

use aws::channels::AwsChannels;
use aws::ledger::DynamoLedger;
use aws::{Clients, SystemClock};
use aws_lambda_events::event::sqs::SqsBatchResponse;
use engine::Channels as _;
use futures::future::join_all;
use lambda::{Failure, Invocation};
use records::{Batch, Journal, Unreadable};
use rollout::{Name, Timestamp};
use serde_json::Value;
use std::collections::BTreeMap;
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
    let ledger = DynamoLedger::from_environment(clients.clone()).map_err(|error| Failure::configuration(&error))?;
    let channels = AwsChannels::from_environment(clients).map_err(|error| Failure::configuration(&error))?;
    Ok(Ports { ledger, channels })
}

async fn handle(ports: &Ports, event: Value, invocation: &Invocation) -> Result<SqsBatchResponse, Failure> {
    let Batch { journals, unreadable, ignored } = records::of(event)?;
    if ignored > 0 {
        tracing::debug!(ignored, "records that are no new journal entries");
    }
    let result = join_all(by_service(journals).into_values().map(|journals| async {
        let mut failed = Vec::new();
        for journal in journals {
            let span = engine::log_context::of(&journal.target);
            failed.extend(notify_journal(ports, journal, invocation.until).instrument(span).await);
        }
        failed
    }));
    let mut failed: Vec<String> = result.await.into_iter().flatten().collect();
    for record in unreadable {
        failed.extend(dead_letter(ports, record).await);
    }
    Ok(lambda::batch_response(failed))
}

/// Services are processed concurrently. The targets of one service share a release's thread: processed concurrently they would
/// conflict there, and one would have to be redelivered.
fn by_service(journals: Vec<Journal>) -> BTreeMap<(Name, Name), Vec<Journal>> {
    let mut services: BTreeMap<(Name, Name), Vec<Journal>> = BTreeMap::new();
    for journal in journals {
        let service = (journal.target.application.clone(), journal.target.service.clone());
        services.entry(service).or_default().push(journal);
    }
    services
}

/// Returns the records that must be redelivered.
async fn notify_journal(ports: &Ports, journal: Journal, until: Timestamp) -> Vec<String> {
    let Journal { entries, mut records, .. } = journal;
    let result = engine::notify(&ports.ledger, &ports.channels, &SystemClock, &entries, until).await;
    if let Some(error) = result.stopped {
        let failure = Failure::unavailable(&error);
        tracing::error!(error.kind = failure.kind(), "an entry was not told, it comes again: {failure}");
    }
    records.split_off(result.entries)
}

/// A record that is unreadable now stays unreadable, and would hold up everything behind it.
async fn dead_letter(ports: &Ports, record: Unreadable) -> Option<String> {
    let dead_letter_body = record.dead_letter_body();
    let Unreadable { sequence_number, reason, .. } = record;
    tracing::error!(record = sequence_number, "a journal entry cannot be read, and is set aside: {reason}");
    match ports.channels.dead_letter(&dead_letter_body).await {
        Ok(()) => None,
        Err(trouble) => {
            tracing::error!("it could not be set aside, it comes again: {trouble}");
            Some(sequence_number)
        }
    }
}
