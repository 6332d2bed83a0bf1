//! Arbitrary gateway events: an authenticated request, or refused with a clear error.

use crate::request::read;
use garbage::proptest::prelude::*;
use garbage::{damaged, events, hold, json};
use lambda::MAX_MESSAGE_CHARS;

#[test]
fn arbitrary_events_neither_panic_nor_pass_unauthenticated() {
    let event = prop_oneof![5 => damaged(events("operations")), 1 => json()];
    hold(400, &event, |event| {
        match read(event) {
            Ok(Ok(request)) => {
                prop_assert!(!request.caller.is_empty());
                prop_assert!(!request.http.path.is_empty() || request.http.body.len() < 100_000);
            }
            Ok(Err(refusal)) => {
                prop_assert!(matches!(refusal.status, 400 | 403), "{refusal:?}");
                prop_assert!(!refusal.message.is_empty() && refusal.message.len() < 500);
            }
            Err(failure) => {
                prop_assert_eq!(failure.kind(), "InvalidEvent");
                prop_assert!((1..=MAX_MESSAGE_CHARS + 1).contains(&failure.to_string().chars().count()));
            }
        }
        Ok(())
    });
}
