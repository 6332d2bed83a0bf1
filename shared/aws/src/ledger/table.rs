//! The table: reads by key, transactions, and the classification of their errors.

use super::item::{Attributes, key};
use super::keys;
use crate::config::Clients;
use crate::error::AwsFailure;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::delete_item::builders::DeleteItemFluentBuilder;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, CancellationReason, Delete, Put, TransactWriteItem, Update};
use engine::LedgerError;
use rollout::backoff;
use std::error::Error;
use std::time::Duration;

/// Items that one transaction can write: DynamoDB's limit.
const MAX_TRANSACTION_WRITES: usize = 100;

/// Attempts of a write that conflicts with another transaction.
const MAX_ATTEMPTS: u32 = 5;

/// Maximum number of items requested per read.
const MAX_PAGE_SIZE: usize = 1000;

/// The table's name, and the clients to reach it.
#[derive(Debug, Clone)]
pub(super) struct Table {
    clients: Clients,
    name: String,
}

/// Selects items of a partition by sort key.
#[derive(Debug, Clone)]
pub(super) enum Range {
    /// All.
    All,
    /// Sort key starts with this.
    Prefix(&'static str),
    /// Sort key lies between these two, both inclusive.
    Between(String, String),
}

/// Result of a conditional write or a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Written {
    /// All items are written.
    All,
    /// Conditions failed, those of the writes at these indices: nothing is written.
    ConditionFailed(Vec<usize>),
}

/// Result of an update of one item.
pub(super) enum Changed {
    /// Updated: the attributes that the request asks to be returned.
    Done(Attributes),
    /// A condition failed: the existing item, if there is one and the request asks for it.
    ConditionFailed(Option<Attributes>),
}

impl Table {
    pub(super) fn new(clients: Clients, name: String) -> Self {
        Self { clients, name }
    }

    async fn client(&self) -> &Client {
        self.clients.dynamodb().await
    }

    /// Reads one item, strongly consistent.
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

    /// Reads at most `limit` items of a partition, strongly consistent, in ascending or descending order of sort key.
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
                .query_builder()
                .await
                .consistent_read(true)
                .scan_index_forward(!newest_first)
                .limit(page(limit - items.len()))
                .expression_attribute_values(":pk", AttributeValue::S(pk.to_owned()))
                .set_exclusive_start_key(next.take());
            request = match range {
                Range::All => request.key_condition_expression(keys::IN_PARTITION),
                Range::Prefix(prefix) => request
                    .key_condition_expression(keys::WITH_PREFIX)
                    .expression_attribute_values(":prefix", AttributeValue::S((*prefix).to_owned())),
                Range::Between(low, high) => request
                    .key_condition_expression(keys::BETWEEN)
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

    /// A transaction item that writes if no item with this key exists.
    pub(super) fn put_new(&self, item: Attributes) -> TransactWriteItem {
        self.put_if(item, keys::ABSENT, [])
    }

    /// A transaction item that writes unconditionally.
    pub(super) fn put(&self, item: Attributes) -> TransactWriteItem {
        let put = Put::builder().table_name(&self.name).set_item(Some(item));
        TransactWriteItem::builder().put(put.build().expect("table and item are set")).build()
    }

    /// A transaction item that writes if the condition holds.
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

    /// A transaction item that writes if a text attribute of the existing item still equals `as_read`. Refers to the
    /// attribute by a placeholder: many words are reserved in DynamoDB, `release` among them.
    pub(super) fn put_if_unchanged(&self, item: Attributes, attribute: &str, as_read: &str) -> TransactWriteItem {
        let put = Put::builder().table_name(&self.name).set_item(Some(item)).condition_expression("#read = :read");
        let put = put.expression_attribute_names("#read", attribute);
        let put = put.expression_attribute_values(":read", AttributeValue::S(as_read.to_owned()));
        TransactWriteItem::builder().put(put.build().expect("table and item are set")).build()
    }

    /// A transaction item that deletes; succeeds if there is none to delete.
    pub(super) fn delete(&self, key: Attributes) -> TransactWriteItem {
        let delete = Delete::builder().table_name(&self.name).set_key(Some(key));
        TransactWriteItem::builder().delete(delete.build().expect("table and key are set")).build()
    }

    /// A transaction item that deletes if the condition holds.
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

    /// A transaction item that updates.
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

    /// Writes all items or none.
    ///
    /// A conflict with another transaction, or with a write of one of the items, cancels the transaction without
    /// effect; it is then retried a few times. Each attempt has its own SDK-generated token, which the SDK keeps for
    /// its own retries.
    pub(super) async fn transact(
        &self,
        doing: &'static str,
        writes: Vec<TransactWriteItem>,
    ) -> Result<Written, LedgerError> {
        if writes.len() > MAX_TRANSACTION_WRITES {
            let reason = format!("{} writes at once, and a transaction holds {MAX_TRANSACTION_WRITES}", writes.len());
            return Err(LedgerError::Refused { doing, reason });
        }
        let mut attempt = 0;
        loop {
            let request = self.client().await.transact_write_items().set_transact_items(Some(writes.clone()));
            let Err(error) = request.send().await else { return Ok(Written::All) };
            match cancelled(&error) {
                Some(Cancelled::ConditionFailed(failed)) => return Ok(Written::ConditionFailed(failed)),
                Some(Cancelled::Conflict) if attempt + 1 < MAX_ATTEMPTS => {
                    back_off(attempt).await;
                    attempt += 1;
                }
                Some(Cancelled::Conflict | Cancelled::Throttled) => {
                    return Err(LedgerError::Unavailable { doing, reason: reason("TransactWriteItems", &error) });
                }
                Some(Cancelled::Refused(why)) => return Err(LedgerError::Refused { doing, reason: why }),
                None => return Err(failed(doing, "TransactWriteItems", &error)),
            }
        }
    }

    /// A query of the table.
    pub(super) async fn query_builder(&self) -> QueryFluentBuilder {
        self.client().await.query().table_name(&self.name)
    }

    /// A write of one item.
    pub(super) async fn put_item(&self, item: Attributes) -> PutItemFluentBuilder {
        self.client().await.put_item().table_name(&self.name).set_item(Some(item))
    }

    /// A deletion of one item.
    pub(super) async fn delete_item(&self, key: Attributes) -> DeleteItemFluentBuilder {
        self.client().await.delete_item().table_name(&self.name).set_key(Some(key))
    }

    /// An update of one item, for [`change`](Self::change).
    pub(super) async fn update_item(&self, key: Attributes) -> UpdateItemFluentBuilder {
        self.client().await.update_item().table_name(&self.name).set_key(Some(key))
    }

    /// Writes one item unconditionally.
    pub(super) async fn write(&self, doing: &'static str, item: Attributes) -> Result<(), LedgerError> {
        let answer = self.put_item(item).await.send().await;
        answer.map(|_| ()).map_err(|error| failed(doing, "PutItem", &error))
    }

    /// Updates one item, retrying a few times while it conflicts with a transaction in progress on it.
    pub(super) async fn change(
        &self,
        doing: &'static str,
        request: UpdateItemFluentBuilder,
    ) -> Result<Changed, LedgerError> {
        let mut attempt = 0;
        loop {
            let error = match request.clone().send().await {
                Ok(answer) => return Ok(Changed::Done(answer.attributes.unwrap_or_default())),
                Err(error) => error,
            };
            let conflicts = error.as_service_error().is_some_and(UpdateItemError::is_transaction_conflict_exception);
            if !conflicts || attempt + 1 == MAX_ATTEMPTS {
                return match error.as_service_error() {
                    Some(UpdateItemError::ConditionalCheckFailedException(exception)) => {
                        Ok(Changed::ConditionFailed(exception.item().cloned()))
                    }
                    _ => Err(failed(doing, "UpdateItem", &error)),
                };
            }
            back_off(attempt).await;
            attempt += 1;
        }
    }
}

/// Why a transaction was cancelled.
#[derive(Debug, PartialEq, Eq)]
enum Cancelled {
    /// Conditions failed, those of the writes at these indices.
    ConditionFailed(Vec<usize>),
    /// Conflicted with another write in progress.
    Conflict,
    /// The table's throughput is exceeded.
    Throttled,
    /// Can never be written: the reason.
    Refused(String),
}

fn cancelled(error: &SdkError<TransactWriteItemsError, HttpResponse>) -> Option<Cancelled> {
    match error.as_service_error()? {
        TransactWriteItemsError::TransactionCanceledException(cancelled) => {
            Some(classify_cancellation(cancelled.cancellation_reasons()))
        }
        _ => None,
    }
}

/// The codes are those listed in the API reference of `TransactWriteItems`. A failed condition takes precedence: it
/// would fail again.
fn classify_cancellation(reasons: &[CancellationReason]) -> Cancelled {
    let has = |code: &str| reasons.iter().any(|reason| reason.code() == Some(code));
    // One reason for each write, in their order.
    let failed = reasons.iter().enumerate().filter(|(_, reason)| reason.code() == Some("ConditionalCheckFailed"));
    let failed: Vec<usize> = failed.map(|(index, _)| index).collect();
    if !failed.is_empty() {
        Cancelled::ConditionFailed(failed)
    } else if has("ItemCollectionSizeLimitExceeded") || has("ValidationError") || has("DuplicateItem") {
        let words: Vec<&str> = reasons.iter().filter_map(CancellationReason::message).collect();
        Cancelled::Refused(format!("TransactWriteItems: {}", words.join("; ")))
    } else if has("TransactionConflict") {
        Cancelled::Conflict
    } else {
        Cancelled::Throttled
    }
}

/// Result of a conditional write or deletion of one item.
pub(super) fn written<T, E>(
    doing: &'static str,
    operation: &str,
    answer: Result<T, SdkError<E, HttpResponse>>,
) -> Result<Written, LedgerError>
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let Err(error) = answer else { return Ok(Written::All) };
    match error.as_service_error().and_then(|error| error.code()) {
        Some("ConditionalCheckFailedException") => Ok(Written::ConditionFailed(vec![0])),
        _ => Err(failed(doing, operation, &error)),
    }
}

/// Converts an error that the caller does not handle itself.
pub(super) fn failed<E>(doing: &'static str, operation: &str, error: &SdkError<E, HttpResponse>) -> LedgerError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match AwsFailure::of(operation, error) {
        AwsFailure::Refused { reason } => LedgerError::Refused { doing, reason },
        // Expected conflicts are handled where they can occur; any other conflict is transient.
        AwsFailure::Throttled { reason } | AwsFailure::Unsure { reason } | AwsFailure::Conflict { reason } => {
            LedgerError::Unavailable { doing, reason }
        }
    }
}

fn reason<E>(operation: &str, error: &SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
{
    AwsFailure::of(operation, error).reason().to_owned()
}

/// The page size to request.
pub(super) fn page(wanted: usize) -> i32 {
    i32::try_from(wanted.clamp(1, MAX_PAGE_SIZE)).expect("a page is small")
}

/// About 20, 40, 80, 160 ms: a transaction takes tens of milliseconds.
async fn back_off(attempt: u32) {
    let delay = backoff::exponential(20, attempt + 1, u64::MAX);
    let mut random = [0; 8];
    let delay = match getrandom::fill(&mut random) {
        Ok(()) => backoff::jittered(delay, delay, u64::from_ne_bytes(random)),
        Err(_) => delay,
    };
    tokio::time::sleep(Duration::from_millis(delay)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(codes: &[&str]) -> Vec<CancellationReason> {
        codes.iter().map(|code| CancellationReason::builder().code(*code).message(format!("{code}!")).build()).collect()
    }

    #[test]
    fn cancellation_reasons_are_classified() {
        let why = |codes: &[&str]| classify_cancellation(&reasons(codes));
        assert_eq!(why(&["None", "ConditionalCheckFailed"]), Cancelled::ConditionFailed(vec![1]));
        assert_eq!(why(&["TransactionConflict", "ConditionalCheckFailed"]), Cancelled::ConditionFailed(vec![1]));
        assert_eq!(why(&["TransactionConflict", "None"]), Cancelled::Conflict);
        assert_eq!(why(&["ThrottlingError", "None"]), Cancelled::Throttled);
        assert_eq!(why(&["ValidationError"]), Cancelled::Refused("TransactWriteItems: ValidationError!".into()));
    }

    #[tokio::test]
    async fn too_many_writes_are_refused_without_a_call() {
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
