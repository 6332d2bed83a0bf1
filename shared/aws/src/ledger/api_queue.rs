//! The queue for AWS's API rate limits: one item, which holds the time until which API capacity is already allocated.
//!
//! All targets write to it, once per deployment. The write is an addition that needs no preceding read, so thousands of
//! deployments starting at once do not conflict. One item takes a thousand writes a second, and the queue exists to let
//! far fewer deployments start.

use super::item::{self, Attributes, key, number};
use super::keys;
use super::table::{Changed, Table};
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};
use engine::LedgerError;
use rollout::Timestamp;
use rollout::deployment::QueuePosition;
use rollout::rate_limiter::ApiCost;

/// The operation's description in error messages.
const DOING: &str = "joining the queue before AWS's API budgets";
/// The item's one attribute: the end of the queue, in milliseconds since 1970.
const UNTIL_MS: &str = "until_ms";
/// Attempts, where the queue changes between short, long and empty from one attempt to the next.
const MAX_ATTEMPTS: usize = 10;

/// One conditional update, correct only while the queue's end lies between `low` and `high` (milliseconds since 1970).
struct QueueUpdate {
    change: &'static str,
    condition: &'static str,
    low: u64,
    high: u64,
    increment: u64,
}

/// Adds the slot's cost at the rate that applies to the queue's current length. The first attempt assumes a long queue,
/// which is when contention matters.
pub(super) async fn reserve_api_calls(
    table: &Table,
    api_cost: &ApiCost,
    now: Timestamp,
    reads_a_second: f64,
) -> Result<QueuePosition, LedgerError> {
    let now_ms = millisecond(now);
    let long_from = now_ms + api_cost.slack_ms / 2 + 1;
    let cost_ms = |reads: f64| (reads / reads_a_second * 1_000.0) as u64;
    let long = QueueUpdate {
        change: "SET until_ms = until_ms + :by",
        condition: "until_ms BETWEEN :low AND :high",
        low: long_from,
        high: u64::MAX >> 12,
        increment: cost_ms(api_cost.low_rate),
    };
    let short = QueueUpdate { low: now_ms, high: long_from - 1, increment: cost_ms(api_cost.full_rate), ..long };
    let empty = QueueUpdate {
        change: "SET until_ms = :by",
        condition: "attribute_not_exists(until_ms) OR until_ms BETWEEN :low AND :high",
        low: 0,
        high: now_ms,
        increment: now_ms + cost_ms(api_cost.full_rate),
    };
    let mut update = &long;
    for _ in 0..MAX_ATTEMPTS {
        match try_extend(table, update).await? {
            UpdateResult::Extended(new_until) => {
                let before =
                    if std::ptr::eq(update, &empty) { now_ms } else { new_until.saturating_sub(update.increment) };
                return Ok(api_cost.queue_position(now, at(before, now), reads_a_second).0);
            }
            UpdateResult::LengthDiffers(found) => {
                update = match found {
                    Some(until) if until >= long_from => &long,
                    Some(until) if until > now_ms => &short,
                    _ => &empty,
                };
            }
        }
    }
    Err(LedgerError::Unavailable {
        doing: DOING,
        reason: format!("{MAX_ATTEMPTS} times it was not as it had just been"),
    })
}

fn millisecond(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or(0)
}

fn at(ms: u64, fallback: Timestamp) -> Timestamp {
    i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(fallback)
}

enum UpdateResult {
    /// Updated: the queue's new end.
    Extended(u64),
    /// The queue's length does not match the update. Its actual end, if there is one.
    LengthDiffers(Option<u64>),
}

async fn try_extend(table: &Table, update: &QueueUpdate) -> Result<UpdateResult, LedgerError> {
    let request = table
        .update_item(key(keys::API_QUEUE_KEY, keys::API_QUEUE_KEY))
        .await
        .update_expression(update.change)
        .condition_expression(update.condition)
        .expression_attribute_values(":by", number(update.increment))
        .expression_attribute_values(":low", number(update.low))
        .expression_attribute_values(":high", number(update.high))
        .return_values(ReturnValue::UpdatedNew)
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    let until = |item: &Attributes| item::count(item, UNTIL_MS);
    match table.change(DOING, request).await? {
        Changed::Done(attributes) => {
            let new_until = until(&attributes)?;
            new_until.map(UpdateResult::Extended).ok_or_else(|| item::unreadable(&attributes, "the queue has no end"))
        }
        Changed::ConditionFailed(found) => {
            Ok(UpdateResult::LengthDiffers(found.as_ref().map(until).transpose()?.flatten()))
        }
    }
}
