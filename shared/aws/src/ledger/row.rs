//! The row before AWS's API budgets: one item, which says until when what was promised takes to come back.
//!
//! All targets write to it, once for each deployment: an addition that needs no reading before it, so that thousands that
//! come at once do not stand in each other's way. One item takes a thousand writes a second, and it is there so that far
//! fewer deployments begin.

use super::item::{self, Attributes, key, number};
use super::keys;
use super::table::{Table, failed};
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};
use engine::LedgerError;
use rollout::Timestamp;
use rollout::pace::{Place, Price};

/// What is being done, for errors.
const DOING: &str = "joining the row before AWS's API budgets";
/// The item's one attribute: milliseconds since 1970.
const UNTIL: &str = "until_ms";
/// How often one starts over because the row became long, or empty, between two tries.
const TRIES: usize = 10;

/// How long the row must be for an addition to be right.
struct Attempt {
    change: &'static str,
    condition: &'static str,
    low: u64,
    high: u64,
    by: u64,
}

/// Adds what the place costs at the length that the row has. The first try is for a long row, which is when it matters.
pub(super) async fn take_place(
    table: &Table,
    price: &Price,
    now: Timestamp,
    reads_a_second: f64,
) -> Result<Place, LedgerError> {
    let now_ms = millisecond(now);
    let long_from = now_ms + price.slack_ms / 2 + 1;
    let costs = |reads: f64| (reads / reads_a_second * 1_000.0) as u64;
    let long = Attempt {
        change: "SET until_ms = until_ms + :by",
        condition: "until_ms BETWEEN :low AND :high",
        low: long_from,
        high: u64::MAX >> 12,
        by: costs(price.sparing),
    };
    let short = Attempt { low: now_ms, high: long_from - 1, by: costs(price.often), ..long };
    let empty = Attempt {
        change: "SET until_ms = :by",
        condition: "attribute_not_exists(until_ms) OR until_ms BETWEEN :low AND :high",
        low: 0,
        high: now_ms,
        by: now_ms + costs(price.often),
    };
    let mut attempt = &long;
    for _ in 0..TRIES {
        match add(table, attempt).await? {
            Added::Then(then) => {
                let before = if std::ptr::eq(attempt, &empty) { now_ms } else { then.saturating_sub(attempt.by) };
                return Ok(price.place(now, at(before, now), reads_a_second).0);
            }
            Added::Not(found) => {
                attempt = match found {
                    Some(until) if until >= long_from => &long,
                    Some(until) if until > now_ms => &short,
                    _ => &empty,
                };
            }
        }
    }
    Err(LedgerError::Unavailable { doing: DOING, reason: format!("{TRIES} times it was not as it had just been") })
}

fn millisecond(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or(0)
}

fn at(ms: u64, otherwise: Timestamp) -> Timestamp {
    i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(otherwise)
}

enum Added {
    /// The line reaches until then now.
    Then(u64),
    /// It has another length: it reaches until then, if there is one.
    Not(Option<u64>),
}

async fn add(table: &Table, attempt: &Attempt) -> Result<Added, LedgerError> {
    let request = table
        .client()
        .await
        .update_item()
        .table_name(table.name())
        .set_key(Some(key(keys::ROW, keys::ROW)))
        .update_expression(attempt.change)
        .condition_expression(attempt.condition)
        .expression_attribute_values(":by", number(attempt.by))
        .expression_attribute_values(":low", number(attempt.low))
        .expression_attribute_values(":high", number(attempt.high))
        .return_values(ReturnValue::UpdatedNew)
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    let until = |item: &Attributes| item::count(item, UNTIL);
    match table.change(request).await {
        Ok(answer) => {
            let attributes = answer.attributes.unwrap_or_default();
            let then = until(&attributes)?;
            then.map(Added::Then).ok_or_else(|| item::unreadable(&attributes, "the row has no end"))
        }
        Err(error) => match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                Ok(Added::Not(failed.item().map(until).transpose()?.flatten()))
            }
            _ => Err(failed(DOING, "UpdateItem", &error)),
        },
    }
}
