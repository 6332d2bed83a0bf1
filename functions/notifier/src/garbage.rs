//! Arbitrary stream records: each delivered, ignored or moved to the dead-letter queue, or the batch refused with a clear error.

use crate::records::{MAX_DEAD_LETTER_BYTES, UnreadableItem, of};
use garbage::proptest::prelude::*;
use garbage::{damaged, events, hold, json};
use lambda::MAX_MESSAGE_CHARS;
use serde_json::{Value, json};

#[test]
fn arbitrary_batches_account_for_every_record() {
    let event = prop_oneof![5 => damaged(events("notifier")), 1 => json()];
    hold(400, &event, |event| {
        let sent = event.get("Records").and_then(Value::as_array).map(Vec::len);
        match of(event) {
            Ok(batch) => {
                let entries_by_target: usize = batch.journals.iter().map(|journal| journal.records.len()).sum();
                prop_assert_eq!(Some(entries_by_target + batch.unreadable.len() + batch.ignored), sent);
                for journal in &batch.journals {
                    prop_assert_eq!(journal.records.len(), journal.entries.len());
                    prop_assert!(journal.entries.iter().all(|entry| entry.target == journal.target));
                    prop_assert!(journal.entries.is_sorted_by_key(|entry| entry.sequence));
                }
                for record in &batch.unreadable {
                    prop_assert!((1..=MAX_MESSAGE_CHARS + 1).contains(&record.reason.chars().count()));
                    prop_assert!(record.dead_letter_body().len() <= MAX_DEAD_LETTER_BYTES);
                }
            }
            Err(failure) => {
                prop_assert_eq!(failure.kind(), "InvalidEvent");
                prop_assert!((1..=MAX_MESSAGE_CHARS + 1).contains(&failure.to_string().chars().count()));
            }
        }
        Ok(())
    });
}

#[test]
fn an_oversized_dead_letter_omits_its_record() {
    let record = |length: usize| UnreadableItem {
        sequence_number: "4711".to_owned(),
        reason: "`entry`: no JSON".to_owned(),
        image: json!("x".repeat(length)),
    };
    let around = record(0).dead_letter_body().len();
    assert_eq!(record(MAX_DEAD_LETTER_BYTES - around).dead_letter_body().len(), MAX_DEAD_LETTER_BYTES);
    let dead_letter_body = record(MAX_DEAD_LETTER_BYTES - around + 1).dead_letter_body();
    assert!(
        dead_letter_body.len() < 300 && dead_letter_body.contains("262145 bytes and is left out: look for 4711"),
        "{dead_letter_body}"
    );
}
