//! Arbitrary queue messages: a wake, or a message that alone is redelivered.

use crate::wakes;
use garbage::proptest;
use garbage::proptest::prelude::*;
use garbage::{body, damaged, events, hold, json};
use lambda::MAX_MESSAGE_CHARS;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Batches with damaged envelopes and damaged messages.
fn batches() -> impl Strategy<Value = Value> {
    let wakes =
        vec![json!({"target": "shop/api/live"}), json!({"target": "shop/api/live", "steal": "0f8e", "tries": 3})];
    let inside = proptest::collection::vec(body(wakes), 0..6).prop_map(|bodies| {
        let message = |(index, body)| json!({"messageId": format!("m-{index}"), "body": body});
        json!({"Records": bodies.into_iter().enumerate().map(message).collect::<Vec<_>>()})
    });
    prop_oneof![3 => damaged(events("rollout-driver")), 3 => inside, 1 => json()]
}

#[test]
fn arbitrary_batches_account_for_every_message_once() {
    hold(400, &batches(), |event| {
        match lambda::messages(event) {
            Ok(messages) => {
                let sent = messages.len();
                let batch = wakes::of(messages);
                let answered = batch.deliveries.iter().map(|delivery| delivery.messages.len()).sum::<usize>();
                prop_assert_eq!(answered + batch.unreadable.len(), sent);
                let targets: BTreeSet<_> = batch.deliveries.iter().map(|delivery| &delivery.wake.target).collect();
                prop_assert_eq!(targets.len(), batch.deliveries.len(), "one pass for each target");
            }
            Err(failure) => {
                prop_assert_eq!(failure.kind(), "InvalidEvent");
                prop_assert!((1..=MAX_MESSAGE_CHARS + 1).contains(&failure.to_string().chars().count()));
            }
        }
        Ok(())
    });
}
