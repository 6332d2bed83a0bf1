//! Arbitrary events: a name to look up, ignored, or refused with a clear error.

use crate::event::{MAX_ARN_CHARS, MAX_NAME_CHARS, ParsedSignal, read};
use engine::WatchedResource;
use garbage::proptest::prelude::*;
use garbage::{damaged, events, hold, json};
use lambda::MAX_MESSAGE_CHARS;

#[test]
fn arbitrary_events_do_not_panic_and_names_are_bounded() {
    let event = prop_oneof![5 => damaged(events("signal-received")), 1 => json()];
    hold(400, &event, |event| {
        match read(event, None) {
            Ok(ParsedSignal::Changed(WatchedResource::Alarm(name))) => {
                prop_assert!((1..=MAX_NAME_CHARS).contains(&name.chars().count()))
            }
            Ok(ParsedSignal::Changed(watch)) => {
                prop_assert!(watch.to_string().chars().count() <= 2 * MAX_NAME_CHARS + 20)
            }
            Ok(ParsedSignal::Edited(watch, call)) => {
                prop_assert!(watch.to_string().chars().count() <= MAX_ARN_CHARS + 2 * MAX_NAME_CHARS + 20);
                prop_assert!(call.by.chars().count() <= 300 && !call.by.chars().any(char::is_control));
            }
            Ok(ParsedSignal::Ignored(why)) => prop_assert!(!why.is_empty()),
            Err(failure) => {
                prop_assert_eq!(failure.kind(), "InvalidEvent");
                prop_assert!((1..=MAX_MESSAGE_CHARS + 1).contains(&failure.to_string().chars().count()));
            }
        }
        Ok(())
    });
}

#[test]
fn name_lengths_follow_awss_limits() {
    let alarm = |length: usize| {
        let mut event: serde_json::Value =
            serde_json::from_str(include_str!("../../../events/signal-received.alarm-metric.json")).expect("JSON");
        event["detail"]["alarmName"] = "ä".repeat(length).into();
        read(event, None)
    };
    assert!(alarm(1).is_ok() && alarm(MAX_NAME_CHARS).is_ok());
    for length in [0, MAX_NAME_CHARS + 1] {
        let words = alarm(length).expect_err("no name").to_string();
        assert!(words.starts_with("a name has 1 to 255 characters, and not `"), "{words}");
    }
}
