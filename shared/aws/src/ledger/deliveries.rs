//! Deliveries of journal entries: one item per entry and channel, with an expiry.

use super::item::{Attributes, Item, key, number, text};
use super::table::{Written, written};
use super::{DynamoLedger, keys};
use aws_sdk_dynamodb::types::AttributeValue;
use engine::{ClaimOutcome, Deliveries, DeliveryClaim, DeliveryId, LeaseId, LedgerError};
use rollout::Timestamp;

/// Retention of a delivery record: a stream keeps its records for a day, and dead letters are kept for longer than
/// that.
const RETENTION_S: i64 = 15 * 24 * 3600;

impl Deliveries for DynamoLedger {
    async fn claim(&self, delivery: &DeliveryId, hold: &DeliveryClaim) -> Result<ClaimOutcome, LedgerError> {
        const CLAIMING: &str = "claiming a delivery";
        let claim = item(delivery, hold.now)
            .text("claimed_by", &hold.by.0)
            .number("claimed_until", hold.until.as_millisecond());
        // DynamoDB deletes expired items lazily, possibly days later.
        let free = format!(
            "{} OR expires_at <= :now_s OR (attribute_not_exists(done_at) AND claimed_until <= :now)",
            keys::ABSENT
        );
        let answer = self
            .table
            .put_item(claim.attributes())
            .await
            .condition_expression(free)
            .expression_attribute_values(":now_s", number(hold.now.as_second()))
            .expression_attribute_values(":now", number(hold.now.as_millisecond()))
            .send()
            .await;
        if written(CLAIMING, "PutItem", answer)? == Written::All {
            return Ok(ClaimOutcome::Acquired);
        }
        let (pk, sk) = key_parts(delivery);
        Ok(match self.table.get(CLAIMING, pk, sk).await? {
            Some(found) => claim_status(&found, &hold.by),
            // Released in between: the next claimant gets it.
            None => ClaimOutcome::HeldElsewhere,
        })
    }

    async fn done(&self, delivery: &DeliveryId, now: Timestamp) -> Result<(), LedgerError> {
        let done = item(delivery, now).number("done_at", now.as_millisecond());
        self.table.write("noting a delivery", done.attributes()).await
    }

    async fn release_claim(&self, delivery: &DeliveryId, by: &LeaseId) -> Result<(), LedgerError> {
        let (pk, sk) = key_parts(delivery);
        let answer = self
            .table
            .delete_item(key(pk, sk))
            .await
            .condition_expression(format!("{} OR claimed_by = :by", keys::ABSENT))
            .expression_attribute_values(":by", AttributeValue::S(by.0.clone()))
            .send()
            .await;
        // The condition fails if the delivery is done, or another claimant's by now.
        written("giving a delivery back", "DeleteItem", answer).map(|_| ())
    }
}

fn key_parts(delivery: &DeliveryId) -> (String, String) {
    (keys::deliveries_pk(&delivery.target), keys::delivery_sk(delivery.sequence, &delivery.channel))
}

fn item(delivery: &DeliveryId, now: Timestamp) -> Item {
    let (pk, sk) = key_parts(delivery);
    Item::new(pk, sk).number("expires_at", now.as_second() + RETENTION_S)
}

/// The result of a claim that was refused. If the response to an earlier claim was lost, the item found is our own
/// claim.
fn claim_status(found: &Attributes, by: &LeaseId) -> ClaimOutcome {
    if found.contains_key("done_at") {
        ClaimOutcome::AlreadySent
    } else if text(found, "claimed_by") == Some(&by.0) {
        ClaimOutcome::Acquired
    } else {
        ClaimOutcome::HeldElsewhere
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_claim_is_done_ours_or_elsewhere() {
        let by = LeaseId("me".to_owned());
        let of = |item: Item| claim_status(&item.attributes(), &by);
        assert_eq!(of(Item::new("a", "b").text("claimed_by", "me")), ClaimOutcome::Acquired);
        assert_eq!(of(Item::new("a", "b").text("claimed_by", "you")), ClaimOutcome::HeldElsewhere);
        assert_eq!(of(Item::new("a", "b").number("done_at", 1)), ClaimOutcome::AlreadySent);
    }
}
