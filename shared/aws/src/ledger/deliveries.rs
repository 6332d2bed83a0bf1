//! Deliveries of journal entries: one item per entry and channel, with an expiry.

use super::item::{Attributes, Item, key, number, text};
use super::keys;
use super::table::{Table, failed};
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::AttributeValue;
use engine::{Claimed, DeliveryClaim, DeliveryId, LeaseId, LedgerError};
use rollout::Timestamp;

/// Retention of a delivery record: a stream keeps its records for a day, and dead letters are kept for longer than that.
const RETENTION_S: i64 = 15 * 24 * 3600;

fn item(delivery: &DeliveryId, now: Timestamp) -> Item {
    let (pk, sk) = (keys::notified(&delivery.target), keys::delivery(delivery.sequence, &delivery.channel));
    Item::new(pk, sk).number("expires_at", now.as_second() + RETENTION_S)
}

pub(super) async fn claim(table: &Table, delivery: &DeliveryId, hold: &DeliveryClaim) -> Result<Claimed, LedgerError> {
    const CLAIMING: &str = "claiming a delivery";
    let claim =
        item(delivery, hold.now).text("claimed_by", &hold.by.0).number("claimed_until", hold.until.as_millisecond());
    let answer = table
        .client()
        .await
        .put_item()
        .table_name(table.name())
        .set_item(Some(claim.attributes()))
        // DynamoDB deletes expired items lazily, possibly days later.
        .condition_expression(
            "attribute_not_exists(pk) OR expires_at <= :now_s OR (attribute_not_exists(done_at) AND claimed_until <= :now)",
        )
        .expression_attribute_values(":now_s", number(hold.now.as_second()))
        .expression_attribute_values(":now", number(hold.now.as_millisecond()))
        .send()
        .await;
    let Err(error) = answer else { return Ok(Claimed::Acquired) };
    if !matches!(error.as_service_error(), Some(PutItemError::ConditionalCheckFailedException(_))) {
        return Err(failed(CLAIMING, "PutItem", &error));
    }
    let (pk, sk) = (keys::notified(&delivery.target), keys::delivery(delivery.sequence, &delivery.channel));
    Ok(match table.get(CLAIMING, pk, sk).await? {
        Some(found) => claim_status(&found, &hold.by),
        // Released in between: the next claimant gets it.
        None => Claimed::HeldElsewhere,
    })
}

/// The result of a claim that was refused. If the response to an earlier claim was lost, the item found is our own claim.
fn claim_status(found: &Attributes, by: &LeaseId) -> Claimed {
    if found.contains_key("done_at") {
        Claimed::Done
    } else if text(found, "claimed_by") == Some(&by.0) {
        Claimed::Acquired
    } else {
        Claimed::HeldElsewhere
    }
}

pub(super) async fn done(table: &Table, delivery: &DeliveryId, now: Timestamp) -> Result<(), LedgerError> {
    let done = item(delivery, now).number("done_at", now.as_millisecond()).attributes();
    let answer = table.client().await.put_item().table_name(table.name()).set_item(Some(done)).send().await;
    answer.map(|_| ()).map_err(|error| failed("noting a delivery", "PutItem", &error))
}

pub(super) async fn release_claim(table: &Table, delivery: &DeliveryId, by: &LeaseId) -> Result<(), LedgerError> {
    let (pk, sk) = (keys::notified(&delivery.target), keys::delivery(delivery.sequence, &delivery.channel));
    let answer = table
        .client()
        .await
        .delete_item()
        .table_name(table.name())
        .set_key(Some(key(pk, sk)))
        .condition_expression("attribute_not_exists(pk) OR claimed_by = :by")
        .expression_attribute_values(":by", AttributeValue::S(by.0.clone()))
        .send()
        .await;
    match answer {
        Ok(_) => Ok(()),
        Err(error) => match error.as_service_error() {
            Some(DeleteItemError::ConditionalCheckFailedException(_)) => Ok(()),
            _ => Err(failed("giving a delivery back", "DeleteItem", &error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_claim_is_done_ours_or_elsewhere() {
        let by = LeaseId("me".to_owned());
        let of = |item: Item| claim_status(&item.attributes(), &by);
        assert_eq!(of(Item::new("a", "b").text("claimed_by", "me")), Claimed::Acquired);
        assert_eq!(of(Item::new("a", "b").text("claimed_by", "you")), Claimed::HeldElsewhere);
        assert_eq!(of(Item::new("a", "b").number("done_at", 1)), Claimed::Done);
    }
}
