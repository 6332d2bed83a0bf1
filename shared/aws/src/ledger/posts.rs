//! Posted messages by subject and channel: one item each, with an expiry.

use super::item::{self, Item};
use super::{DynamoLedger, keys};
use engine::{LedgerError, PostedMessage, PostedMessageKey, PostedMessages};
use rollout::Timestamp;

/// Retention after the last edit.
const RETENTION_S: i64 = 90 * 24 * 3600;

impl PostedMessages for DynamoLedger {
    async fn posted_message(&self, key: &PostedMessageKey) -> Result<Option<PostedMessage>, LedgerError> {
        let (pk, sk) = (keys::posted_messages_pk(key), keys::posted_message_sk(key));
        let found = self.table.get("reading what was posted", pk, sk).await?;
        found.map(|found| item::record(&found, "post")).transpose()
    }

    async fn record_posted_message(
        &self,
        key: &PostedMessageKey,
        post: &PostedMessage,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let item = Item::new(keys::posted_messages_pk(key), keys::posted_message_sk(key))
            .record("post", post)
            .number("expires_at", now.as_second() + RETENTION_S);
        self.table.write("noting what was posted", item.attributes()).await
    }
}
