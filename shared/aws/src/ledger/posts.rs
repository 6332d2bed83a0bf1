//! What was posted, by what it is about and where: one item each, with an end.

use super::item::{self, Item};
use super::keys;
use super::table::{Table, failed};
use engine::{LedgerError, Post, PostKey};
use rollout::Timestamp;

/// How long after its last edit it is remembered.
const REMEMBERED_S: i64 = 90 * 24 * 3600;

pub(super) async fn get(table: &Table, key: &PostKey) -> Result<Option<Post>, LedgerError> {
    let found = table.get("reading what was posted", keys::posted(key), keys::post(key)).await?;
    found.map(|found| item::record(&found, "post")).transpose()
}

pub(super) async fn put(table: &Table, key: &PostKey, post: &Post, now: Timestamp) -> Result<(), LedgerError> {
    let item = Item::new(keys::posted(key), keys::post(key))
        .record("post", post)
        .number("expires_at", now.as_second() + REMEMBERED_S);
    let request = table.client().await.put_item().table_name(table.name()).set_item(Some(item.attributes()));
    let answer = request.send().await;
    answer.map(|_| ()).map_err(|error| failed("noting what was posted", "PutItem", &error))
}
