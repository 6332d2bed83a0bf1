//! Operations of a target's lease holder: acquire the lease, read pending commands, commit a decision, release the lease.

use super::item::{self, Attributes, Item, key, number};
use super::keys;
use super::table::{Range, Table, Written, failed};
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use engine::{
    Commit, LeaseId, LeaseOutcome, LeaseRequest, LeasedTarget, LedgerError, Retry, RetryCounts, RetryRegistration,
    WakeKind,
};
use rollout::target::FORMAT;
use rollout::{Command, CommandId, TargetId};
use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of commands handed to one pass.
const MAX_COMMANDS: usize = 50;

/// One call that acquires the lease and returns the state, or returns who holds it.
pub(super) async fn acquire_lease(
    table: &Table,
    target: &TargetId,
    claim: &LeaseRequest,
) -> Result<LeaseOutcome, LedgerError> {
    const DOING: &str = "taking the target";
    // Re-acquiring one's own lease is allowed, since the SDK retries a call whose response was lost. A state of a newer
    // format is never written, not even by a lease.
    let mut condition = "(attribute_not_exists(lease_id) OR lease_id = :lease".to_owned();
    if claim.steal.is_some() {
        condition.push_str(" OR lease_id = :steal");
    }
    condition.push_str(") AND (attribute_not_exists(#format) OR #format <= :format)");
    let mut request = table
        .client()
        .await
        .update_item()
        .table_name(table.name())
        .set_key(Some(key(keys::target(target), keys::STATE)))
        .update_expression("SET lease_id = :lease, leased_at = :now, lease_s = :lasts")
        .condition_expression(condition)
        .expression_attribute_names("#format", "format")
        .expression_attribute_values(":lease", AttributeValue::S(claim.lease.0.clone()))
        .expression_attribute_values(":now", AttributeValue::S(claim.now.to_string()))
        .expression_attribute_values(":lasts", number(claim.lasts.0))
        .expression_attribute_values(":format", number(FORMAT))
        .return_values(ReturnValue::AllOld)
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    if let Some(steal) = &claim.steal {
        request = request.expression_attribute_values(":steal", AttributeValue::S(steal.0.clone()));
    }
    match table.change(request).await {
        Ok(answer) => {
            // The item before the update: the state is unchanged by it, and only the old item names the previous lease
            // holder.
            let attributes = answer.attributes.unwrap_or_default();
            match item::loaded(&attributes, target) {
                Ok(loaded) => {
                    let stolen = item::holder(&attributes).is_some_and(|by| by != claim.lease);
                    Ok(LeaseOutcome::Granted(Box::new(LeasedTarget { stolen, ..loaded })))
                }
                Err(unreadable) => {
                    // A driver that cannot read the state releases the lease. If that fails too, the lease is taken over like
                    // that of a dead holder.
                    let _ = release(table, target, &claim.lease).await;
                    Err(unreadable)
                }
            }
        }
        Err(error) => match item_if_condition_failed(&error) {
            Some(present) => {
                item::state(present)?;
                let by = item::holder(present).ok_or_else(|| {
                    item::unreadable(present, "it is neither free nor held: the condition of taking it did not hold")
                })?;
                let retries = retries(present, &by)?;
                Ok(LeaseOutcome::Held { by, lasts: item::lasts(present)?, retries })
            }
            None => Err(failed(DOING, "UpdateItem", &error)),
        },
    }
}

/// How many retries of wakes were registered for other drivers while this holder has the target.
fn retries(item: &Attributes, holder: &LeaseId) -> Result<RetryCounts, LedgerError> {
    let of = |kind: WakeKind| {
        let (holds, tries) = retry_attributes(kind);
        let ours = item::text(item, &holds) == Some(holder.0.as_str());
        let tries = if ours { item::count(item, &tries)? } else { None };
        Ok(tries.map(|tries| u8::try_from(tries).unwrap_or(u8::MAX)))
    };
    Ok(RetryCounts { usual: of(WakeKind::Usual)?, urgent: of(WakeKind::Urgent)?, at_rest: of(WakeKind::AtRest)? })
}

/// Names of the attributes that store the holder a wake is retried for, and how many retries there were.
fn retry_attributes(kind: WakeKind) -> (String, String) {
    (format!("retry_{}_for", kind.name()), format!("retry_{}_tries", kind.name()))
}

/// One call. What is stored for a previous holder is overwritten: lease IDs are never reused.
pub(super) async fn register_retry(
    table: &Table,
    target: &TargetId,
    retry: &Retry<'_>,
) -> Result<RetryRegistration, LedgerError> {
    let (holds, tries) = retry_attributes(retry.kind);
    let request = table
        .client()
        .await
        .update_item()
        .table_name(table.name())
        .set_key(Some(key(keys::target(target), keys::STATE)))
        .update_expression("SET #for = :holder, #tries = :tries")
        .condition_expression(
            "lease_id = :holder AND (attribute_not_exists(#for) OR #for <> :holder OR #tries < :tries)",
        )
        .expression_attribute_names("#for", holds)
        .expression_attribute_names("#tries", tries)
        .expression_attribute_values(":holder", AttributeValue::S(retry.holder.0.clone()))
        .expression_attribute_values(":tries", number(retry.tries))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    match table.change(request).await {
        Ok(_) => Ok(RetryRegistration::Accepted),
        Err(error) => match item_if_condition_failed(&error) {
            Some(present) if item::holder(present).as_ref() == Some(retry.holder) => {
                Ok(RetryRegistration::AlreadyScheduled)
            }
            Some(_) => Ok(RetryRegistration::LeaseReleased),
            // No item exists: the target has never been leased.
            None if is_condition_failure(&error) => Ok(RetryRegistration::LeaseReleased),
            None => Err(failed("noting that a wake comes again", "UpdateItem", &error)),
        },
    }
}

/// Whether the update's condition failed, with or without an existing item.
fn is_condition_failure<R>(error: &SdkError<UpdateItemError, R>) -> bool {
    matches!(error.as_service_error(), Some(UpdateItemError::ConditionalCheckFailedException(_)))
}

/// The existing item, where the update's condition failed.
fn item_if_condition_failed<R>(error: &SdkError<UpdateItemError, R>) -> Option<&Attributes> {
    match error.as_service_error()? {
        UpdateItemError::ConditionalCheckFailedException(failed) => failed.item(),
        _ => None,
    }
}

pub(super) async fn release(table: &Table, target: &TargetId, lease: &LeaseId) -> Result<(), LedgerError> {
    let request = table
        .client()
        .await
        .update_item()
        .table_name(table.name())
        .set_key(Some(key(keys::target(target), keys::STATE)))
        .update_expression("REMOVE lease_id, leased_at, lease_s")
        .condition_expression("lease_id = :lease")
        .expression_attribute_values(":lease", AttributeValue::S(lease.0.clone()));
    match table.change(request).await {
        Ok(_) => Ok(()),
        Err(error) => match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(()),
            _ => Err(failed("giving the target back", "UpdateItem", &error)),
        },
    }
}

pub(super) async fn commands(table: &Table, target: &TargetId) -> Result<Vec<Command>, LedgerError> {
    let range = Range::Prefix(keys::INBOX);
    let items = table.query("reading commands", &keys::commands(target), &range, false, MAX_COMMANDS).await?;
    item::records(&items, "command")
}

/// One transaction, preceded by one read of the inbox keys where commands are consumed.
pub(super) async fn commit(
    table: &Table,
    target: &TargetId,
    lease: &LeaseId,
    revision: u64,
    commit: &Commit<'_>,
) -> Result<u64, LedgerError> {
    let pk = keys::target(target);
    let next = revision + 1;
    let mut writes = vec![state_update(table, target, lease, revision, commit)];
    for entry in commit.journal {
        let item = Item::new(&pk, keys::journal(entry.sequence)).record("entry", entry);
        writes.push(table.put_new(item.attributes()));
    }
    // A deployment may begin and end in one decision, while a transaction may write each item only once.
    let history: BTreeMap<u64, _> = commit.history.iter().map(|record| (record.number, record)).collect();
    for (number, record) in history {
        let item = Item::new(&pk, keys::deployment(number)).record("deployment", record);
        writes.push(table.put(item.attributes()));
    }
    let commands_pk = keys::commands(target);
    for sk in inbox_keys(table, &commands_pk, commit.consumed).await? {
        writes.push(table.delete(key(&commands_pk, sk)));
    }
    match table.transact("writing a decision", writes).await? {
        Written::All => Ok(next),
        Written::ConditionFailed => Err(LedgerError::Conflict { target: target.to_string() }),
    }
}

fn state_update(
    table: &Table,
    target: &TargetId,
    lease: &LeaseId,
    revision: u64,
    commit: &Commit<'_>,
) -> aws_sdk_dynamodb::types::TransactWriteItem {
    let mut set = "SET #state = :state, #format = :format, revision = :next".to_owned();
    let mut remove = vec![];
    let mut values = Attributes::from([
        (":state".to_owned(), AttributeValue::S(item::json(commit.state))),
        (":format".to_owned(), number(commit.state.format)),
        (":next".to_owned(), number(revision + 1)),
        (":lease".to_owned(), AttributeValue::S(lease.0.clone())),
    ]);
    match commit.due_at {
        Some(at) => {
            set.push_str(", due_pk = :due_pk, due_sk = :due_sk");
            values.insert(":due_pk".to_owned(), AttributeValue::S(keys::due_shard(target)));
            values.insert(":due_sk".to_owned(), AttributeValue::S(keys::instant(at)));
        }
        None => remove.extend(["due_pk", "due_sk"]),
    }
    if commit.release_lease {
        remove.extend(["lease_id", "leased_at", "lease_s"]);
    }
    if !remove.is_empty() {
        set.push_str(" REMOVE ");
        set.push_str(&remove.join(", "));
    }
    // The first commit finds an item that has a lease and no state.
    let condition = if revision == 0 {
        "lease_id = :lease AND attribute_not_exists(revision)"
    } else {
        values.insert(":revision".to_owned(), number(revision));
        "lease_id = :lease AND revision = :revision"
    };
    let names = [("#state", "state"), ("#format", "format")];
    table.update(key(keys::target(target), keys::STATE), set, condition, &names, values)
}

/// The inbox keys of the consumed commands. A command that is not found was consumed earlier.
async fn inbox_keys(table: &Table, pk: &str, consumed: &[CommandId]) -> Result<Vec<String>, LedgerError> {
    let mut missing: BTreeSet<&str> = consumed.iter().map(|id| id.0.as_str()).collect();
    if missing.is_empty() {
        return Ok(vec![]);
    }
    // A pass consumes commands among the oldest, since those are the ones it was given. The rest of the inbox is read only if
    // needed.
    let mut found = vec![];
    for limit in [MAX_COMMANDS, usize::MAX] {
        let items = table.query("reading commands", pk, &Range::Prefix(keys::INBOX), false, limit).await?;
        for item in &items {
            if missing.remove(item::required_text(item, "command_id")?) {
                found.push(item::required_text(item, "sk")?.to_owned());
            }
        }
        if missing.is_empty() || items.len() < limit {
            break;
        }
    }
    Ok(found)
}
