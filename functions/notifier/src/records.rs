//! The records of a table's stream into journal entries, target by target (DynamoDB Streams API, `Record`).
//!
//! Each record is read by itself: one that cannot be read must not keep the others of its batch from being told.

use lambda::Failure;
use rollout::{JournalEntry, TargetId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a batch tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    /// One for each target.
    pub(crate) journals: Vec<Journal>,
    /// Journal items that hold no entry that this version can read.
    pub(crate) unreadable: Vec<Unreadable>,
    /// Records of other items, and of entries that were taken away.
    pub(crate) ignored: usize,
}

/// New entries of one target, in the journal's order: those of one transaction come in any order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Journal {
    /// Whose.
    pub(crate) target: TargetId,
    /// The entries.
    pub(crate) entries: Vec<JournalEntry>,
    /// The sequence number of each entry's record, for the reply.
    pub(crate) records: Vec<String>,
}

/// A journal item that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// Its record's, for the reply.
    pub(crate) sequence_number: String,
    /// Why, for people.
    pub(crate) reason: String,
    /// What stood there.
    pub(crate) image: Value,
}

/// The largest letter, in bytes: what a queue of SQS takes at least.
pub(crate) const LARGEST_LETTER: usize = 256 * 1024;

impl Unreadable {
    /// What is set aside for people. What is too large for the queue is left out: a letter that cannot be sent would hold
    /// up all that is behind it, and the item is in the table.
    pub(crate) fn letter(&self) -> String {
        let letter = json!({"notifier": "not readable", "reason": self.reason, "record": self.image}).to_string();
        if letter.len() <= LARGEST_LETTER {
            return letter;
        }
        let left_out =
            format!("the record has {} bytes and is left out: look for {}", letter.len(), self.sequence_number);
        json!({"notifier": "not readable", "reason": self.reason, "record": null, "note": left_out}).to_string()
    }
}

#[derive(Debug, Deserialize)]
struct Event {
    #[serde(rename = "Records")]
    records: Vec<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    event_name: String,
    event_source: String,
    dynamodb: Change,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    sequence_number: String,
    keys: Keys,
    new_image: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Keys {
    pk: Text,
    sk: Text,
}

#[derive(Debug, Deserialize)]
struct Text {
    #[serde(rename = "S")]
    text: String,
}

/// Reads a batch.
///
/// # Errors
/// `InvalidEvent` where it is no batch of a table's stream, or where a record has no sequence number or no key: no reply
/// could name it, so all come again.
pub(crate) fn of(event: Value) -> Result<Batch, Failure> {
    if !event.is_object() {
        // serde takes a list for the fields in their order.
        return Err(Failure::event("it is no JSON object: only batches of a table's stream are taken"));
    }
    let event: Event = lambda::read(event, "")?;
    let mut batch = Batch::default();
    let mut journals: BTreeMap<TargetId, Vec<(JournalEntry, String)>> = BTreeMap::new();
    for (index, record) in event.records.into_iter().enumerate() {
        let record: Record = lambda::read(record, &format!("Records[{index}]"))?;
        if record.event_source != "aws:dynamodb" {
            let source = record.event_source;
            return Err(Failure::event(format!(
                "Records[{index}]: a record of `{source}` was sent here, where only \
                                               those of a table's stream are taken"
            )));
        }
        let Change { sequence_number, keys, new_image } = record.dynamodb;
        // The event source's filter says the same: what the ledger takes away by age is nobody's news.
        if record.event_name != "INSERT" || !keys.sk.text.starts_with("JOURNAL#") {
            batch.ignored += 1;
            continue;
        }
        let image = new_image.unwrap_or_default();
        match entry(&keys, &image) {
            Ok(entry) => journals.entry(entry.target.clone()).or_default().push((entry, sequence_number)),
            Err(reason) => {
                let reason = lambda::brief(&reason);
                batch.unreadable.push(Unreadable { sequence_number, reason, image });
            }
        }
    }
    batch.journals = journals
        .into_iter()
        .map(|(target, mut told)| {
            told.sort_by_key(|(entry, _)| entry.sequence);
            let (entries, records) = told.into_iter().unzip();
            Journal { target, entries, records }
        })
        .collect();
    Ok(batch)
}

/// The entry of a journal item: its text, which must be where its key says.
fn entry(keys: &Keys, image: &Value) -> Result<JournalEntry, String> {
    let text = image.pointer("/entry/S").and_then(Value::as_str).ok_or("it has no text `entry`")?;
    let entry: JournalEntry = serde_json::from_str(text).map_err(|error| format!("`entry`: {error}"))?;
    let place = (format!("TARGET#{}", entry.target), format!("JOURNAL#{:020}", entry.sequence));
    if (&place.0, &place.1) == (&keys.pk.text, &keys.sk.text) {
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

    fn batch(event: Value) -> Batch {
        of(event).unwrap_or_else(|failure| panic!("{failure}"))
    }

    #[test]
    fn an_item_of_the_journal_is_an_entry() {
        let batch = batch(event!("entry"));
        let [journal] = batch.journals.as_slice() else { panic!("{batch:?}") };
        assert_eq!(journal.target.to_string(), "shop/api/live");
        assert_eq!(journal.records, ["4421584500000000017450439091"]);
        assert!(matches!(&journal.entries[0].fact, Fact::Ended { reason, .. } if reason.contains("shop-api-5xx")));
        assert!(batch.unreadable.is_empty() && batch.ignored == 0, "{batch:?}");
    }

    #[test]
    fn entries_are_told_target_by_target_in_the_journals_order() {
        let batch = batch(event!("entries-of-a-transaction"));
        let told: Vec<_> = batch
            .journals
            .iter()
            .map(|journal| {
                let sequences: Vec<u64> = journal.entries.iter().map(|entry| entry.sequence).collect();
                (journal.target.to_string(), sequences, journal.records.clone())
            })
            .collect();
        let records = |numbers: &[&str]| numbers.iter().map(|&number| number.to_owned()).collect::<Vec<_>>();
        assert_eq!(
            told,
            [
                ("shop/api/live".to_owned(), vec![7, 8, 9], records(&["103", "102", "104"])),
                ("shop/web/live".to_owned(), vec![1], records(&["101"])),
            ]
        );
    }

    #[test]
    fn what_is_no_new_entry_is_nobodys_news() {
        for event in [event!("removed"), event!("expired"), event!("other-items")] {
            let count = event["Records"].as_array().map_or(0, Vec::len);
            assert_eq!(batch(event), Batch { ignored: count, ..Batch::default() });
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_and_keeps_nobody_else_waiting() {
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
    fn what_is_no_stream_is_refused() {
        let refusals = [event!("foreign"), event!("no-sequence-number")].map(|event| {
            let failure = of(event).expect_err("nothing to be told");
            format!("{}: {failure}", failure.kind())
        });
        assert_eq!(
            refusals,
            [
                "InvalidEvent: Records[0]: a record of `aws:kinesis` was sent here, where only those of a table's stream \
                 are taken",
                "InvalidEvent: Records[0].dynamodb: missing field `SequenceNumber`",
            ]
        );
    }
}
