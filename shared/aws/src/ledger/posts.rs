//! Posted messages by subject and channel: one item each, with an expiry.

use super::item::{self, Item};
use super::keys;
use super::table::{Table, failed};
use engine::{LedgerError, PostedMessage, PostedMessageKey};
use rollout::Timestamp;

/// Retention after the last edit.
const RETENTION_S: i64 = 90 * 24 * 3600;

pub(super) async fn get(table: &Table, key: &PostedMessageKey) -> Result<Option<PostedMessage>, LedgerError> {
    let found = table.get("reading what was posted", keys::posted(key), keys::post(key)).await?;
    found.map(|found| item::record(&found, "post")).transpose()
}

pub(super) async fn put(
    table: &Table,
    key: &PostedMessageKey,
    post: &PostedMessage,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let item = Item::new(keys::posted(key), keys::post(key))
        .record("post", post)
        .number("expires_at", now.as_second() + RETENTION_S);
    let request = table.client().await.put_item().table_name(table.name()).set_item(Some(item.attributes()));
    let answer = request.send().await;
    answer.map(|_| ()).map_err(|error| failed("noting what was posted", "PutItem", &error))
}
