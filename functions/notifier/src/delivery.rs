//! Delivers a batch: the services concurrently, the journals of one service one after the other.

use crate::NotifierPorts;
use crate::records::{Journal, StreamBatch, UnreadableItem};
use aws::SystemClock;
use engine::Channels as _;
use futures::future::join_all;
use lambda::InvocationFailure;
use rollout::{Name, Timestamp};
use std::collections::BTreeMap;
use tracing::Instrument as _;

/// Delivers a batch; returns the records that must be redelivered.
pub(crate) async fn deliver(ports: &NotifierPorts, batch: StreamBatch, until: Timestamp) -> Vec<String> {
    let StreamBatch { journals, unreadable, ignored } = batch;
    if ignored > 0 {
        tracing::debug!(ignored, "records that are no new journal entries");
    }
    let result = join_all(by_service(journals).into_values().map(|journals| async {
        let mut failed = Vec::new();
        for journal in journals {
            let span = engine::log_context::of(&journal.target);
            failed.extend(notify_journal(ports, journal, until).instrument(span).await);
        }
        failed
    }));
    let mut failed: Vec<String> = result.await.into_iter().flatten().collect();
    for record in unreadable {
        failed.extend(dead_letter(ports, record).await);
    }
    failed
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
async fn notify_journal(ports: &NotifierPorts, journal: Journal, until: Timestamp) -> Vec<String> {
    let Journal { entries, mut records, .. } = journal;
    let result = engine::notify(&ports.ledger, &ports.channels, &SystemClock, &entries, until).await;
    if let Some(error) = result.stopped {
        let failure = InvocationFailure::unavailable(&error);
        tracing::error!(
            error.kind = failure.kind(),
            "an entry was not delivered, the stream sends it again: {failure}"
        );
    }
    records.split_off(result.entries)
}

/// A record that is unreadable now stays unreadable, and would hold up everything behind it.
async fn dead_letter(ports: &NotifierPorts, record: UnreadableItem) -> Option<String> {
    let dead_letter_body = record.dead_letter_body();
    let UnreadableItem { sequence_number, reason, .. } = record;
    tracing::error!(
        record = sequence_number,
        "a journal entry cannot be read, and is sent to the dead-letter queue: {reason}"
    );
    match ports.channels.dead_letter(&dead_letter_body).await {
        Ok(()) => None,
        Err(trouble) => {
            tracing::error!("it could not be sent to the dead-letter queue, the stream sends it again: {trouble}");
            Some(sequence_number)
        }
    }
}
