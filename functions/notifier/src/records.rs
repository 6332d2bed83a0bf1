//! Parses a table's stream records into journal entries per target (DynamoDB Streams API, `Record`).
//!
//! Each record is parsed separately: an unreadable one must not prevent the delivery of the others in its batch.

use aws::ledger::keys::{JOURNAL_PREFIX, journal_entry_key};
use lambda::InvocationFailure;
use rollout::{JournalEntry, TargetId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The content of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamBatch {
    /// One journal per target.
    pub(crate) journals: Vec<Journal>,
    /// Journal items without an entry that this version can read.
    pub(crate) unreadable: Vec<UnreadableItem>,
    /// Number of records of other items and of removed entries.
    pub(crate) ignored: usize,
}

/// New entries of one target, in journal order: the records of one transaction arrive in any order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Journal {
    /// Target of the journal.
    pub(crate) target: TargetId,
    /// The entries.
    pub(crate) entries: Vec<JournalEntry>,
    /// Sequence number of each entry's stream record, for the batch response.
    pub(crate) records: Vec<String>,
}

/// A journal item that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnreadableItem {
    /// Sequence number of its stream record, for the batch response.
    pub(crate) sequence_number: String,
    /// Free text for people.
    pub(crate) reason: String,
    /// The item's content.
    pub(crate) image: Value,
}

/// Maximum size of a dead letter, in bytes: supported by every SQS queue.
pub(crate) const MAX_DEAD_LETTER_BYTES: usize = 256 * 1024;

impl UnreadableItem {
    /// The dead letter for people. Content too large for the queue is omitted: a letter that cannot be sent would hold up
    /// everything behind it, and the item is in the table.
    pub(crate) fn dead_letter_body(&self) -> String {
        let dead_letter_body =
            json!({"notifier": "not readable", "reason": self.reason, "record": self.image}).to_string();
        if dead_letter_body.len() <= MAX_DEAD_LETTER_BYTES {
            return dead_letter_body;
        }
        let left_out = format!(
            "the record has {} bytes and is left out: look for {}",
            dead_letter_body.len(),
            self.sequence_number
        );
        json!({"notifier": "not readable", "reason": self.reason, "record": null, "note": left_out}).to_string()
    }
}

#[derive(Debug, Deserialize)]
struct StreamEvent {
    #[serde(rename = "Records")]
    records: Vec<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DynamoRecord {
    event_name: String,
    event_source: String,
    dynamodb: StreamRecord,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StreamRecord {
    sequence_number: String,
    keys: ItemKeys,
    new_image: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct ItemKeys {
    pk: StringAttribute,
    sk: StringAttribute,
}

#[derive(Debug, Deserialize)]
struct StringAttribute {
    #[serde(rename = "S")]
    text: String,
}

/// Parses a batch.
///
/// # Errors
/// `InvalidEvent` if it is not a batch of a table's stream, or if a record has no sequence number or no key: the response could
/// not name that record, so all are redelivered.
pub(crate) fn of(event: Value) -> Result<StreamBatch, InvocationFailure> {
    if !event.is_object() {
        // serde would accept an array of the fields in order.
        return Err(InvocationFailure::event("it is no JSON object: only batches of a table's stream are taken"));
    }
    let event: StreamEvent = lambda::read(event, "")?;
    let mut batch = StreamBatch::default();
    let mut journals: BTreeMap<TargetId, Vec<(JournalEntry, String)>> = BTreeMap::new();
    for (index, record) in event.records.into_iter().enumerate() {
        let record: DynamoRecord = lambda::read(record, &format!("Records[{index}]"))?;
        if record.event_source != "aws:dynamodb" {
            let source = record.event_source;
            return Err(InvocationFailure::event(format!(
                "Records[{index}]: a record of `{source}` was sent here, where only those of a table's stream are taken"
            )));
        }
        let StreamRecord { sequence_number, keys, new_image } = record.dynamodb;
        // Same as the event source's filter: items that expire from the ledger are not news.
        if record.event_name != "INSERT" || !keys.sk.text.starts_with(JOURNAL_PREFIX) {
            batch.ignored += 1;
            continue;
        }
        let image = new_image.unwrap_or_default();
        match entry(&keys, &image) {
            Ok(entry) => journals.entry(entry.target.clone()).or_default().push((entry, sequence_number)),
            Err(reason) => {
                let reason = lambda::one_line(&reason);
                batch.unreadable.push(UnreadableItem { sequence_number, reason, image });
            }
        }
    }
    batch.journals = journals
        .into_iter()
        .map(|(target, mut read)| {
            read.sort_by_key(|(entry, _)| entry.sequence);
            let (entries, records) = read.into_iter().unzip();
            Journal { target, entries, records }
        })
        .collect();
    Ok(batch)
}

/// The entry of a journal item; its target and sequence must match the item's key.
fn entry(keys: &ItemKeys, image: &Value) -> Result<JournalEntry, String> {
    let text = image.pointer("/entry/S").and_then(Value::as_str).ok_or("it has no text `entry`")?;
    let entry: JournalEntry = serde_json::from_str(text).map_err(|error| format!("`entry`: {error}"))?;
    let (pk, sk) = journal_entry_key(&entry.target, entry.sequence);
    if (&pk, &sk) == (&keys.pk.text, &keys.sk.text) {
        Ok(entry)
    } else {
        Err(format!("it holds the entry {}, and lies at {} {}", entry.id(), keys.pk.text, keys.sk.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout::Fact;

    macro_rules! event {
        ($case:literal) => {
            serde_json::from_str::<Value>(include_str!(concat!("../../../events/notifier.", $case, ".json")))
                .expect("the payload is JSON")
        };
    }

    fn batch(event: Value) -> StreamBatch {
        of(event).unwrap_or_else(|failure| panic!("{failure}"))
    }

    #[test]
    fn a_journal_item_is_parsed() {
        let batch = batch(event!("entry"));
        let [journal] = batch.journals.as_slice() else { panic!("{batch:?}") };
        assert_eq!(journal.target.to_string(), "shop/api/live");
        assert_eq!(journal.records, ["4421584500000000017450439091"]);
        assert!(matches!(&journal.entries[0].fact, Fact::Ended { reason, .. } if reason.contains("shop-api-5xx")));
        assert!(batch.unreadable.is_empty() && batch.ignored == 0, "{batch:?}");
    }

    #[test]
    fn entries_are_grouped_by_target_in_journal_order() {
        let batch = batch(event!("entries-of-a-transaction"));
        let journals: Vec<_> = batch
            .journals
            .iter()
            .map(|journal| {
                let sequences: Vec<u64> = journal.entries.iter().map(|entry| entry.sequence).collect();
                (journal.target.to_string(), sequences, journal.records.clone())
            })
            .collect();
        let records = |numbers: &[&str]| numbers.iter().map(|&number| number.to_owned()).collect::<Vec<_>>();
        assert_eq!(
            journals,
            [
                ("shop/api/live".to_owned(), vec![7, 8, 9], records(&["103", "102", "104"])),
                ("shop/web/live".to_owned(), vec![1], records(&["101"])),
            ]
        );
    }

    #[test]
    fn other_records_are_ignored() {
        for event in [event!("removed"), event!("expired"), event!("other-items")] {
            let count = event["Records"].as_array().map_or(0, Vec::len);
            assert_eq!(batch(event), StreamBatch { ignored: count, ..StreamBatch::default() });
        }
    }

    #[test]
    fn unreadable_entries_do_not_block_the_batch() {
        let batch = batch(event!("unreadable"));
        let reasons: Vec<_> =
            batch.unreadable.iter().map(|it| (it.sequence_number.as_str(), it.reason.as_str())).collect();
        assert_eq!(
            reasons,
            [
                ("201", "it has no text `entry`"),
                ("202", "`entry`: EOF while parsing an object at line 1 column 1"),
                (
                    "203",
                    "it holds the entry shop/api/live#3, and lies at TARGET#shop/api/live JOURNAL#00000000000000000004"
                ),
            ]
        );
        assert_eq!(batch.journals.len(), 1, "the sound one among them");
    }

    #[test]
    fn other_event_sources_are_refused() {
        let refusals = [event!("foreign"), event!("no-sequence-number")].map(|event| {
            let failure = of(event).expect_err("another source");
            format!("{}: {failure}", failure.kind())
        });
        assert_eq!(
            refusals,
            [
                "InvalidEvent: Records[0]: a record of `aws:kinesis` was sent here, where only those of a table's \
                 stream are taken",
                "InvalidEvent: Records[0].dynamodb: missing field `SequenceNumber`",
            ]
        );
    }
}
