//! The table itself: reads by key, and transactions, with what their errors mean.

use super::item::{Attributes, key};
use crate::config::Clients;
use crate::error::Failure;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::{UpdateItemError, UpdateItemOutput};
use aws_sdk_dynamodb::types::{AttributeValue, CancellationReason, Delete, Put, TransactWriteItem, Update};
use engine::LedgerError;
use std::error::Error;
use std::time::Duration;

/// The most items that one transaction can write: DynamoDB's limit.
const MOST_WRITES: usize = 100;

/// How often something is tried that met another transaction on its way.
const TRIES: u32 = 5;

/// The most items that are asked for with one read.
const PAGE: usize = 1000;

/// The table, and what it takes to reach it.
#[derive(Debug, Clone)]
pub(super) struct Table {
    clients: Clients,
    name: String,
}

/// Which items of a partition.
#[derive(Debug, Clone)]
pub(super) enum Range {
    /// All.
    All,
    /// Those whose sort key begins like this.
    Prefix(&'static str),
    /// Those whose sort key lies between these two, both included.
    Between(String, String),
}

/// What became of a transaction that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// All of it is written.
    All,
    /// A condition did not hold: nothing is written.
    ConditionFailed,
}

impl Table {
    pub(super) fn new(clients: Clients, name: String) -> Self {
        Self { clients, name }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn client(&self) -> &Client {
        self.clients.dynamodb().await
    }

    /// One item, as it is at this moment.
    pub(super) async fn get(
        &self,
        doing: &'static str,
        pk: String,
        sk: String,
    ) -> Result<Option<Attributes>, LedgerError> {
        let answer = self
            .client()
            .await
            .get_item()
            .table_name(&self.name)
            .set_key(Some(key(pk, sk)))
            .consistent_read(true)
            .send()
            .await;
        Ok(answer.map_err(|error| failed(doing, "GetItem", &error))?.item)
    }

    /// At most `limit` items of a partition, as they are at this moment, in the order of their sort keys or backwards.
    pub(super) async fn query(
        &self,
        doing: &'static str,
        pk: &str,
        range: &Range,
        newest_first: bool,
        limit: usize,
    ) -> Result<Vec<Attributes>, LedgerError> {
        let mut items = vec![];
        let mut next: Option<Attributes> = None;
        while items.len() < limit {
            let mut request = self
                .client()
                .await
                .query()
                .table_name(&self.name)
                .consistent_read(true)
                .scan_index_forward(!newest_first)
                .limit(page(limit - items.len()))
                .expression_attribute_values(":pk", AttributeValue::S(pk.to_owned()))
                .set_exclusive_start_key(next.take());
            request = match range {
                Range::All => request.key_condition_expression("pk = :pk"),
                Range::Prefix(prefix) => request
                    .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
                    .expression_attribute_values(":prefix", AttributeValue::S((*prefix).to_owned())),
                Range::Between(low, high) => request
                    .key_condition_expression("pk = :pk AND sk BETWEEN :low AND :high")
                    .expression_attribute_values(":low", AttributeValue::S(low.clone()))
                    .expression_attribute_values(":high", AttributeValue::S(high.clone())),
            };
            let answer = request.send().await.map_err(|error| failed(doing, "Query", &error))?;
            items.extend(answer.items.unwrap_or_default());
            match answer.last_evaluated_key {
                Some(key) if !key.is_empty() => next = Some(key),
                _ => break,
            }
        }
        items.truncate(limit);
        Ok(items)
    }

    /// Writes an item into a transaction if there is none of its key.
    pub(super) fn put_new(&self, item: Attributes) -> TransactWriteItem {
        self.put_if(item, "attribute_not_exists(pk)", [])
    }

    /// Writes an item into a transaction, whatever is there.
    pub(super) fn put(&self, item: Attributes) -> TransactWriteItem {
        let put = Put::builder().table_name(&self.name).set_item(Some(item));
        TransactWriteItem::builder().put(put.build().expect("table and item are set")).build()
    }

    /// Writes an item into a transaction if the condition holds.
    pub(super) fn put_if<const N: usize>(
        &self,
        item: Attributes,
        condition: &str,
        values: [(&str, AttributeValue); N],
    ) -> TransactWriteItem {
        let mut put = Put::builder().table_name(&self.name).set_item(Some(item)).condition_expression(condition);
        for (name, value) in values {
            put = put.expression_attribute_values(name, value);
        }
        TransactWriteItem::builder().put(put.build().expect("table and item are set")).build()
    }

    /// Writes an item into a transaction if a text of the one that is there is still `as_read`. By a name that stands for the
    /// attribute's: many words are reserved, `release` among them.
    pub(super) fn put_over(&self, item: Attributes, attribute: &str, as_read: &str) -> TransactWriteItem {
        let put = Put::builder().table_name(&self.name).set_item(Some(item)).condition_expression("#read = :read");
        let put = put.expression_attribute_names("#read", attribute);
        let put = put.expression_attribute_values(":read", AttributeValue::S(as_read.to_owned()));
        TransactWriteItem::builder().put(put.build().expect("table and item are set")).build()
    }

    /// Takes an item away in a transaction; no matter if there is none.
    pub(super) fn delete(&self, key: Attributes) -> TransactWriteItem {
        let delete = Delete::builder().table_name(&self.name).set_key(Some(key));
        TransactWriteItem::builder().delete(delete.build().expect("table and key are set")).build()
    }

    /// Takes an item away in a transaction if the condition holds.
    pub(super) fn delete_if<const N: usize>(
        &self,
        key: Attributes,
        condition: &str,
        values: [(&str, AttributeValue); N],
    ) -> TransactWriteItem {
        let mut delete = Delete::builder().table_name(&self.name).set_key(Some(key)).condition_expression(condition);
        for (name, value) in values {
            delete = delete.expression_attribute_values(name, value);
        }
        TransactWriteItem::builder().delete(delete.build().expect("table and key are set")).build()
    }

    /// Changes an item in a transaction.
    pub(super) fn update(
        &self,
        key: Attributes,
        expression: String,
        condition: &str,
        names: &[(&str, &str)],
        values: Attributes,
    ) -> TransactWriteItem {
        let update = Update::builder()
            .table_name(&self.name)
            .set_key(Some(key))
            .update_expression(expression)
            .condition_expression(condition)
            .set_expression_attribute_names(Some(
                names.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            ))
            .set_expression_attribute_values(Some(values));
        TransactWriteItem::builder().update(update.build().expect("table, key and expression are set")).build()
    }

    /// Writes all of it or nothing.
    ///
    /// Meeting another transaction, or somebody's write of one of the items, cancels it without a trace: then it is
    /// tried again a few times. Every try has a token of the SDK's, which the SDK's own repetitions keep.
    pub(super) async fn transact(
        &self,
        doing: &'static str,
        writes: Vec<TransactWriteItem>,
    ) -> Result<Written, LedgerError> {
        if writes.len() > MOST_WRITES {
            let reason = format!("{} writes at once, and a transaction holds {MOST_WRITES}", writes.len());
            return Err(LedgerError::Refused { doing, reason });
        }
        let mut tried = 0;
        loop {
            let request = self.client().await.transact_write_items().set_transact_items(Some(writes.clone()));
            let Err(error) = request.send().await else { return Ok(Written::All) };
            match cancelled(&error) {
                Some(Cancelled::ConditionFailed) => return Ok(Written::ConditionFailed),
                Some(Cancelled::Met) if tried + 1 < TRIES => {
                    pause(tried).await;
                    tried += 1;
                }
                Some(Cancelled::Met | Cancelled::Busy) => {
                    return Err(LedgerError::Unavailable { doing, reason: reason("TransactWriteItems", &error) });
                }
                Some(Cancelled::Refused(why)) => return Err(LedgerError::Refused { doing, reason: why }),
                None => return Err(failed(doing, "TransactWriteItems", &error)),
            }
        }
    }

    /// Changes one item, again a few times while it meets a transaction that is under way on it.
    pub(super) async fn change(
        &self,
        request: UpdateItemFluentBuilder,
    ) -> Result<UpdateItemOutput, SdkError<UpdateItemError, HttpResponse>> {
        let mut tried = 0;
        loop {
            match request.clone().send().await {
                Err(SdkError::ServiceError(error))
                    if tried + 1 < TRIES && error.err().is_transaction_conflict_exception() =>
                {
                    pause(tried).await;
                    tried += 1;
                }
                answer => return answer,
            }
        }
    }
}

/// Why a transaction was cancelled.
#[derive(Debug, PartialEq, Eq)]
enum Cancelled {
    /// A condition did not hold.
    ConditionFailed,
    /// It met another write on its way.
    Met,
    /// Too much is asked of the table.
    Busy,
    /// It can never be written: why.
    Refused(String),
}

fn cancelled(error: &SdkError<TransactWriteItemsError, HttpResponse>) -> Option<Cancelled> {
    match error.as_service_error()? {
        TransactWriteItemsError::TransactionCanceledException(cancelled) => {
            Some(why_cancelled(cancelled.cancellation_reasons()))
        }
        _ => None,
    }
}

/// The codes are those that the API reference of `TransactWriteItems` lists. A condition that failed weighs the most:
/// it will fail again.
fn why_cancelled(reasons: &[CancellationReason]) -> Cancelled {
    let has = |code: &str| reasons.iter().any(|reason| reason.code() == Some(code));
    if has("ConditionalCheckFailed") {
        Cancelled::ConditionFailed
    } else if has("ItemCollectionSizeLimitExceeded") || has("ValidationError") || has("DuplicateItem") {
        let words: Vec<&str> = reasons.iter().filter_map(CancellationReason::message).collect();
        Cancelled::Refused(format!("TransactWriteItems: {}", words.join("; ")))
    } else if has("TransactionConflict") {
        Cancelled::Met
    } else {
        Cancelled::Busy
    }
}

/// What an error means that is none of those that the caller has looked at.
pub(super) fn failed<E>(doing: &'static str, operation: &str, error: &SdkError<E, HttpResponse>) -> LedgerError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match Failure::of(operation, error) {
        Failure::Refused { reason } => LedgerError::Refused { doing, reason },
        // A conflict that was looked for is handled where it can happen; this one passes.
        Failure::Throttled { reason } | Failure::Unsure { reason } | Failure::Conflict { reason } => {
            LedgerError::Unavailable { doing, reason }
        }
    }
}

fn reason<E>(operation: &str, error: &SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
{
    Failure::of(operation, error).reason().to_owned()
}

/// How many items to ask for.
pub(super) fn page(wanted: usize) -> i32 {
    i32::try_from(wanted.clamp(1, PAGE)).expect("a page is small")
}

/// 20, 40, 80, 160 ms: a transaction takes tens of milliseconds.
async fn pause(tried: u32) {
    tokio::time::sleep(Duration::from_millis(20 << tried)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(codes: &[&str]) -> Vec<CancellationReason> {
        codes.iter().map(|code| CancellationReason::builder().code(*code).message(format!("{code}!")).build()).collect()
    }

    #[test]
    fn a_cancelled_transaction_says_whether_to_try_again() {
        let why = |codes: &[&str]| why_cancelled(&reasons(codes));
        assert_eq!(why(&["None", "ConditionalCheckFailed"]), Cancelled::ConditionFailed);
        assert_eq!(why(&["TransactionConflict", "ConditionalCheckFailed"]), Cancelled::ConditionFailed);
        assert_eq!(why(&["TransactionConflict", "None"]), Cancelled::Met);
        assert_eq!(why(&["ThrottlingError", "None"]), Cancelled::Busy);
        assert_eq!(why(&["ValidationError"]), Cancelled::Refused("TransactWriteItems: ValidationError!".into()));
    }

    #[tokio::test]
    async fn more_than_a_transaction_holds_is_refused_without_asking() {
        let table = Table::new(Clients::new(), "none".into());
        let writes = (0..101).map(|n| table.delete(key("TARGET#a/b/c", n.to_string()))).collect();
        match table.transact("writing a decision", writes).await {
            Err(LedgerError::Refused { reason, .. }) => {
                assert_eq!(reason, "101 writes at once, and a transaction holds 100");
            }
            other => panic!("{other:?}"),
        }
    }
}
