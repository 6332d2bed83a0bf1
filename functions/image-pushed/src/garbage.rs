//! Arbitrary events: parsed completely, ignored, or refused with a clear error.

use crate::event::{MAX_REPOSITORY_CHARS, MAX_TAG_CHARS, ParsedPush, read};
use garbage::proptest::prelude::*;
use garbage::{damaged, events, hold, json};

#[test]
fn arbitrary_events_do_not_panic_and_pushes_are_valid() {
    let event = prop_oneof![5 => damaged(events("image-pushed")), 1 => json()];
    hold(400, &event, |event| {
        match read(event) {
            Ok(ParsedPush::Pushed(pushed)) => {
                prop_assert!(rollout::Tag::new(pushed.tag.clone()).is_ok());
                prop_assert!((1..=MAX_TAG_CHARS).contains(&pushed.tag.len()));
                prop_assert!(pushed.repository.len() <= MAX_REPOSITORY_CHARS);
                prop_assert!(pushed.digest.to_string().starts_with("sha256:"));
            }
            Ok(ParsedPush::Ignored(why)) => prop_assert!(!why.to_string().is_empty()),
            Err(failure) => {
                prop_assert_eq!(failure.kind(), "InvalidEvent");
                let words = failure.to_string();
                prop_assert!((1..=lambda::MAX_MESSAGE_CHARS + 1).contains(&words.chars().count()));
            }
        }
        Ok(())
    });
}

/// No registry accepts such a tag (OCI distribution specification, "Pulling manifests"), so the event is not from ECR.
#[test]
fn an_invalid_tag_is_refused() {
    for tag in ["--help", ".hidden", "v1\nv2", "v1\u{1b}[2K", "v1\u{202e}2v", "v1\u{200b}", "\u{feff}v1", "a b", "a/b"]
    {
        let mut event: serde_json::Value =
            serde_json::from_str(include_str!("../../../events/image-pushed.push.json")).expect("JSON");
        event["detail"]["image-tag"] = tag.into();
        let failure = read(event).expect_err(tag);
        assert_eq!(failure.kind(), "InvalidEvent", "{tag:?}");
        assert!(failure.to_string().chars().all(rollout::text::is_visible), "{failure}");
    }
}

#[test]
fn tag_and_repository_lengths_follow_ecrs_limits() {
    let push = |tag: usize, repository: usize| {
        let mut event: serde_json::Value =
            serde_json::from_str(include_str!("../../../events/image-pushed.push.json")).expect("JSON");
        event["detail"]["image-tag"] = "t".repeat(tag).into();
        event["detail"]["repository-name"] = "r".repeat(repository).into();
        read(event)
    };
    assert!(matches!(push(MAX_TAG_CHARS, MAX_REPOSITORY_CHARS), Ok(ParsedPush::Pushed(_))));
    for (tag, repository, part) in
        [(MAX_TAG_CHARS + 1, 9, "image-tag"), (9, MAX_REPOSITORY_CHARS + 1, "repository-name")]
    {
        let words = push(tag, repository).expect_err("too long").to_string();
        assert!(words.starts_with(&format!("detail.{part}: longer than ECR lets it be")), "{words}");
    }
}
