//! Arbitrary events: a schedule's minute, or refused with a clear error.

use crate::event::minute;
use garbage::proptest::prelude::*;
use garbage::{damaged, events, hold, json};
use lambda::MAX_MESSAGE_CHARS;

#[test]
fn arbitrary_events_do_not_panic() {
    let event = prop_oneof![5 => damaged(events("sweeper")), 1 => json()];
    hold(400, &event, |event| {
        if let Err(failure) = minute(event) {
            prop_assert_eq!(failure.kind(), "InvalidEvent");
            prop_assert!((1..=MAX_MESSAGE_CHARS + 1).contains(&failure.to_string().chars().count()));
        }
        Ok(())
    });
}
