//! `notifier`: what the journal says is told, to programs on a bus and to people through topics and in Slack.
//!
//! Its work is `engine::notify`. Records that could not be told are reported back and come again; Lambda begins at the
//! first of them, so that others come again with them, and are known by what was noted of them.

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
    let told = join_all(by_service(journals).into_values().map(|journals| async {
        let mut failed = Vec::new();
        for journal in journals {
            let span = engine::story::of(&journal.target);
            failed.extend(tell(ports, journal, invocation.until).instrument(span).await);
        }
        failed
    }));
    let mut failed: Vec<String> = told.await.into_iter().flatten().collect();
    for record in unreadable {
        failed.extend(set_aside(ports, record).await);
    }
    Ok(lambda::reply(failed))
}

/// Services do not wait for each other. The targets of one have a release's thread together: side by side they would meet
/// at it, and one of them would have to come again.
fn by_service(journals: Vec<Journal>) -> BTreeMap<(Name, Name), Vec<Journal>> {
    let mut services: BTreeMap<(Name, Name), Vec<Journal>> = BTreeMap::new();
    for journal in journals {
        let service = (journal.target.application.clone(), journal.target.service.clone());
        services.entry(service).or_default().push(journal);
    }
    services
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
    let letter = record.letter();
    let Unreadable { sequence_number, reason, .. } = record;
    tracing::error!(record = sequence_number, "a journal entry cannot be read, and is set aside: {reason}");
    match ports.channels.set_aside(&letter).await {
        Ok(()) => None,
        Err(trouble) => {
            tracing::error!("it could not be set aside, it comes again: {trouble}");
            Some(sequence_number)
        }
    }
}
