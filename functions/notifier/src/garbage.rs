//! Whatever comes as records of a stream: each told, left alone or set aside, or the batch refused clearly.

use crate::records::{LARGEST_LETTER, Unreadable, of};
use garbage::proptest::prelude::*;
use garbage::{damaged, events, hold, json};
use lambda::LONGEST_MESSAGE;
use serde_json::{Value, json};

#[test]
fn no_records_make_it_panic_and_every_one_of_them_is_accounted_for() {
    let event = prop_oneof![5 => damaged(events("notifier")), 1 => json()];
    hold(400, &event, |event| {
        let sent = event.get("Records").and_then(Value::as_array).map(Vec::len);
        match of(event) {
            Ok(batch) => {
                let told: usize = batch.journals.iter().map(|journal| journal.records.len()).sum();
                prop_assert_eq!(Some(told + batch.unreadable.len() + batch.ignored), sent);
                for journal in &batch.journals {
                    prop_assert_eq!(journal.records.len(), journal.entries.len());
                    prop_assert!(journal.entries.iter().all(|entry| entry.target == journal.target));
                    prop_assert!(journal.entries.is_sorted_by_key(|entry| entry.sequence));
                }
                for record in &batch.unreadable {
                    prop_assert!((1..=LONGEST_MESSAGE + 1).contains(&record.reason.chars().count()));
                    prop_assert!(record.letter().len() <= LARGEST_LETTER);
                }
            }
            Err(failure) => {
                prop_assert_eq!(failure.kind(), "InvalidEvent");
                prop_assert!((1..=LONGEST_MESSAGE + 1).contains(&failure.to_string().chars().count()));
            }
        }
        Ok(())
    });
}

#[test]
fn a_letter_that_no_queue_takes_is_sent_without_its_record() {
    let record = |length: usize| Unreadable {
        sequence_number: "4711".to_owned(),
        reason: "`entry`: no JSON".to_owned(),
        image: json!("x".repeat(length)),
    };
    let around = record(0).letter().len();
    assert_eq!(record(LARGEST_LETTER - around).letter().len(), LARGEST_LETTER);
    let letter = record(LARGEST_LETTER - around + 1).letter();
    assert!(letter.len() < 300 && letter.contains("262145 bytes and is left out: look for 4711"), "{letter}");
}
