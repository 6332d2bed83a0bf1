//! What of the journal was told: one item for each entry and channel, with an end.

use super::item::{Attributes, Item, key, number, text};
use super::keys;
use super::table::{Table, failed};
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::AttributeValue;
use engine::{Claimed, DeliveryId, Hold, LeaseId, LedgerError};
use rollout::Timestamp;

/// How long it is remembered: a stream keeps what it delivers for a day, a dead letter lies for longer.
const REMEMBERED_S: i64 = 15 * 24 * 3600;

fn item(delivery: &DeliveryId, now: Timestamp) -> Item {
    let (pk, sk) = (keys::notified(&delivery.target), keys::delivery(delivery.sequence, &delivery.channel));
    Item::new(pk, sk).number("expires_at", now.as_second() + REMEMBERED_S)
}

pub(super) async fn claim(table: &Table, delivery: &DeliveryId, hold: &Hold) -> Result<Claimed, LedgerError> {
    const CLAIMING: &str = "claiming a delivery";
    let claim =
        item(delivery, hold.now).text("claimed_by", &hold.by.0).number("claimed_until", hold.until.as_millisecond());
    let answer = table
        .client()
        .await
        .put_item()
        .table_name(table.name())
        .set_item(Some(claim.attributes()))
        // DynamoDB takes expired items away when it gets to it, days later perhaps.
        .condition_expression(
            "attribute_not_exists(pk) OR expires_at <= :now_s OR (attribute_not_exists(done_at) AND claimed_until <= :now)",
        )
        .expression_attribute_values(":now_s", number(hold.now.as_second()))
        .expression_attribute_values(":now", number(hold.now.as_millisecond()))
        .send()
        .await;
    let Err(error) = answer else { return Ok(Claimed::Ours) };
    if !matches!(error.as_service_error(), Some(PutItemError::ConditionalCheckFailedException(_))) {
        return Err(failed(CLAIMING, "PutItem", &error));
    }
    let (pk, sk) = (keys::notified(&delivery.target), keys::delivery(delivery.sequence, &delivery.channel));
    Ok(match table.get(CLAIMING, pk, sk).await? {
        Some(found) => claimed(&found, &hold.by),
        // Given back in between: whoever comes next gets it.
        None => Claimed::Elsewhere,
    })
}

/// What a claim that was not granted means. One whose answer was lost meets itself.
fn claimed(found: &Attributes, by: &LeaseId) -> Claimed {
    if found.contains_key("done_at") {
        Claimed::Done
    } else if text(found, "claimed_by") == Some(&by.0) {
        Claimed::Ours
    } else {
        Claimed::Elsewhere
    }
}

pub(super) async fn done(table: &Table, delivery: &DeliveryId, now: Timestamp) -> Result<(), LedgerError> {
    let done = item(delivery, now).number("done_at", now.as_millisecond()).attributes();
    let answer = table.client().await.put_item().table_name(table.name()).set_item(Some(done)).send().await;
    answer.map(|_| ()).map_err(|error| failed("noting a delivery", "PutItem", &error))
}

pub(super) async fn give_back(table: &Table, delivery: &DeliveryId, by: &LeaseId) -> Result<(), LedgerError> {
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
    fn a_claim_that_was_not_granted_is_done_or_ones_own_or_anothers() {
        let by = LeaseId("me".to_owned());
        let of = |item: Item| claimed(&item.attributes(), &by);
        assert_eq!(of(Item::new("a", "b").text("claimed_by", "me")), Claimed::Ours);
        assert_eq!(of(Item::new("a", "b").text("claimed_by", "you")), Claimed::Elsewhere);
        assert_eq!(of(Item::new("a", "b").number("done_at", 1)), Claimed::Done);
    }
}
