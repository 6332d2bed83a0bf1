//! Whatever comes as an event: a push in full, nothing, or refused clearly.

use crate::event::{LONGEST_REPOSITORY, LONGEST_TAG, Told, read};
use garbage::proptest::prelude::*;
use garbage::{damaged, events, hold, json};

#[test]
fn no_event_makes_it_panic_and_only_a_whole_push_is_one() {
    let event = prop_oneof![5 => damaged(events("image-pushed")), 1 => json()];
    hold(400, &event, |event| {
        match read(event) {
            Ok(Told::Pushed(pushed)) => {
                prop_assert!(rollout::Tag::new(pushed.tag.clone()).is_ok());
                prop_assert!((1..=LONGEST_TAG).contains(&pushed.tag.len()));
                prop_assert!(pushed.repository.len() <= LONGEST_REPOSITORY);
                prop_assert!(pushed.digest.to_string().starts_with("sha256:"));
            }
            Ok(Told::Nothing(why)) => prop_assert!(!why.to_string().is_empty()),
            Err(failure) => {
                prop_assert_eq!(failure.kind(), "InvalidEvent");
                let words = failure.to_string();
                prop_assert!((1..=lambda::LONGEST_MESSAGE + 1).contains(&words.chars().count()));
            }
        }
        Ok(())
    });
}

/// No registry has such a tag (OCI distribution specification, "Pulling manifests"): whoever sends it is not ECR.
#[test]
fn a_tag_that_no_registry_has_is_no_push() {
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
fn tags_and_repositories_are_as_long_as_ecr_lets_them_be() {
    let push = |tag: usize, repository: usize| {
        let mut event: serde_json::Value =
            serde_json::from_str(include_str!("../../../events/image-pushed.push.json")).expect("JSON");
        event["detail"]["image-tag"] = "t".repeat(tag).into();
        event["detail"]["repository-name"] = "r".repeat(repository).into();
        read(event)
    };
    assert!(matches!(push(LONGEST_TAG, LONGEST_REPOSITORY), Ok(Told::Pushed(_))));
    for (tag, repository, part) in [(LONGEST_TAG + 1, 9, "image-tag"), (9, LONGEST_REPOSITORY + 1, "repository-name")] {
        let words = push(tag, repository).expect_err("too long").to_string();
        assert!(words.starts_with(&format!("detail.{part}: longer than ECR lets it be")), "{words}");
    }
}
