//! Whatever comes as an event: a name to look up, nothing, or refused clearly.

use crate::event::{LONGEST_ARN, LONGEST_NAME, Told, read};
use engine::Watch;
use garbage::proptest::prelude::*;
use garbage::{damaged, events, hold, json};
use lambda::LONGEST_MESSAGE;

#[test]
fn no_event_makes_it_panic_and_only_names_are_looked_up() {
    let event = prop_oneof![5 => damaged(events("signal-received")), 1 => json()];
    hold(400, &event, |event| {
        match read(event, None) {
            Ok(Told::Changed(Watch::Alarm(name))) => prop_assert!((1..=LONGEST_NAME).contains(&name.chars().count())),
            Ok(Told::Changed(watch)) => prop_assert!(watch.to_string().chars().count() <= 2 * LONGEST_NAME + 20),
            Ok(Told::Edited(watch, call)) => {
                prop_assert!(watch.to_string().chars().count() <= LONGEST_ARN + 2 * LONGEST_NAME + 20);
                prop_assert!(call.by.chars().count() <= 300 && !call.by.chars().any(char::is_control));
            }
            Ok(Told::Nothing(why)) => prop_assert!(!why.is_empty()),
            Err(failure) => {
                prop_assert_eq!(failure.kind(), "InvalidEvent");
                prop_assert!((1..=LONGEST_MESSAGE + 1).contains(&failure.to_string().chars().count()));
            }
        }
        Ok(())
    });
}

#[test]
fn a_name_is_as_long_as_aws_lets_it_be() {
    let alarm = |length: usize| {
        let mut event: serde_json::Value =
            serde_json::from_str(include_str!("../../../events/signal-received.alarm-metric.json")).expect("JSON");
        event["detail"]["alarmName"] = "ä".repeat(length).into();
        read(event, None)
    };
    assert!(alarm(1).is_ok() && alarm(LONGEST_NAME).is_ok());
    for length in [0, LONGEST_NAME + 1] {
        let words = alarm(length).expect_err("no name").to_string();
        assert!(words.starts_with("a name has 1 to 255 characters, and not `"), "{words}");
    }
}
