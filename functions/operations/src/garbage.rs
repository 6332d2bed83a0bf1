//! Whatever the gateway hands over: a request of somebody proven, or refused clearly.

use crate::request::read;
use garbage::proptest::prelude::*;
use garbage::{damaged, events, hold, json};
use lambda::LONGEST_MESSAGE;

#[test]
fn no_event_makes_it_panic_and_nobody_asks_unproven() {
    let event = prop_oneof![5 => damaged(events("operations")), 1 => json()];
    hold(400, &event, |event| {
        match read(event) {
            Ok(Ok(request)) => {
                prop_assert!(!request.caller.is_empty());
                prop_assert!(!request.path.is_empty() || request.body.len() < 100_000);
            }
            Ok(Err(refusal)) => {
                prop_assert!(matches!(refusal.status, 400 | 403), "{refusal:?}");
                prop_assert!(!refusal.message.is_empty() && refusal.message.len() < 500);
            }
            Err(failure) => {
                prop_assert_eq!(failure.kind(), "InvalidEvent");
                prop_assert!((1..=LONGEST_MESSAGE + 1).contains(&failure.to_string().chars().count()));
            }
        }
        Ok(())
    });
}
