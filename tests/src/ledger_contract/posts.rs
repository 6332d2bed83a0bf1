//! What was posted, by release or deployment and channel.

use super::cases;
use super::samples::{at, release_id, target};
use engine::{PostedMessage, PostedMessageKey, PostedMessages};

pub(super) async fn check<L: PostedMessages>(ledger: &L) {
    cases!(ledger, a_post_is_found_only_under_its_key, an_edit_replaces_the_previous_text);
}

fn post(id: &str, content_hash: &str) -> PostedMessage {
    PostedMessage { id: id.to_owned(), content_hash: content_hash.to_owned() }
}

async fn a_post_is_found_only_under_its_key<L: PostedMessages>(ledger: &L) {
    let thread = |digit, channel: &str| PostedMessageKey::Thread {
        release: release_id("posts-keys", digit),
        channel: channel.to_owned(),
    };
    let deployment = |application: &str, number, channel: &str| PostedMessageKey::Deployment {
        target: target(application),
        number,
        channel: channel.to_owned(),
    };
    let keys = [
        thread('a', "C012AB3CD"),
        thread('a', "C045EF6GH"),
        thread('b', "C012AB3CD"),
        deployment("posts-keys", 1, "C012AB3CD"),
        deployment("posts-keys", 1, "C045EF6GH"),
        deployment("posts-keys", 11, "C012AB3CD"),
        deployment("posts-keys-too", 1, "C012AB3CD"),
    ];
    for key in &keys {
        assert_eq!(ledger.posted_message(key).await.expect("an answer"), None, "{key:?}");
    }
    for (number, key) in keys.iter().enumerate() {
        ledger
            .record_posted_message(key, &post(&format!("1503435956.{number:06}"), "one"), at(0))
            .await
            .expect("noted");
    }
    for (number, key) in keys.iter().enumerate() {
        let found = ledger.posted_message(key).await.expect("an answer");
        assert_eq!(found, Some(post(&format!("1503435956.{number:06}"), "one")), "{key:?}");
    }
}

async fn an_edit_replaces_the_previous_text<L: PostedMessages>(ledger: &L) {
    let key = PostedMessageKey::Deployment { target: target("posts-edit"), number: 4, channel: "C012AB3CD".to_owned() };
    ledger.record_posted_message(&key, &post("1503435956.000247", "one"), at(0)).await.expect("noted");
    let edited = post("1503435956.000247", "two");
    for again in [1, 2] {
        ledger.record_posted_message(&key, &edited, at(again)).await.expect("noted");
        assert_eq!(ledger.posted_message(&key).await.expect("an answer").as_ref(), Some(&edited));
    }
}
