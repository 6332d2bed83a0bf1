//! What the holder of a target does: take it, read what was asked of it, write a decision, give it back.

use super::item::{self, Attributes, Item, key, number};
use super::keys;
use super::table::{Range, Table, Written, failed};
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use engine::{Begin, Claim, Commit, LeaseId, LedgerError, Loaded, Retries, Retry, RetryNoted, WakeKind};
use rollout::target::FORMAT;
use rollout::{Command, CommandId, TargetId};
use std::collections::{BTreeMap, BTreeSet};

/// The most commands that one pass is given.
const MOST_COMMANDS: usize = 50;

/// One call: it takes the lease and answers the state, or who holds it.
pub(super) async fn begin(table: &Table, target: &TargetId, claim: &Claim) -> Result<Begin, LedgerError> {
    const DOING: &str = "taking the target";
    // The claim's own lease is free to it: the SDK repeats a call whose answer was lost. A state of a newer format
    // is not touched, not even by a lease.
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
            // As it was: all that a holder reads is as it was, and whose lease it had been is told only so.
            let attributes = answer.attributes.unwrap_or_default();
            match item::loaded(&attributes, target) {
                Ok(loaded) => {
                    let stolen = item::holder(&attributes).is_some_and(|by| by != claim.lease);
                    Ok(Begin::Granted(Box::new(Loaded { stolen, ..loaded })))
                }
                Err(unreadable) => {
                    // Who cannot read it does not keep it. If this fails too, the lease is stolen as a dead holder's is.
                    let _ = release(table, target, &claim.lease).await;
                    Err(unreadable)
                }
            }
        }
        Err(error) => match condition_failed(&error) {
            Some(present) => {
                item::state(present)?;
                let by = item::holder(present).ok_or_else(|| {
                    item::unreadable(present, "it is neither free nor held: the condition of taking it did not hold")
                })?;
                let retries = retries(present, &by)?;
                Ok(Begin::Held { by, lasts: item::lasts(present)?, retries })
            }
            None => Err(failed(DOING, "UpdateItem", &error)),
        },
    }
}

/// How often the wakes came again that retry for others while this one holds the target.
fn retries(item: &Attributes, holder: &LeaseId) -> Result<Retries, LedgerError> {
    let of = |kind: WakeKind| {
        let (holds, tries) = retry_attributes(kind);
        let ours = item::text(item, &holds) == Some(holder.0.as_str());
        let tries = if ours { item::count(item, &tries)? } else { None };
        Ok(tries.map(|tries| u8::try_from(tries).unwrap_or(u8::MAX)))
    };
    Ok(Retries { usual: of(WakeKind::Usual)?, urgent: of(WakeKind::Urgent)?, at_rest: of(WakeKind::AtRest)? })
}

/// The attributes that say for which holder a wake comes again, and how often it has.
fn retry_attributes(kind: WakeKind) -> (String, String) {
    (format!("retry_{}_for", kind.name()), format!("retry_{}_tries", kind.name()))
}

/// One call. What was noted for a holder of before is no more than a word of it: leases have names that never come again.
pub(super) async fn note_retry(table: &Table, target: &TargetId, retry: &Retry<'_>) -> Result<RetryNoted, LedgerError> {
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
        Ok(_) => Ok(RetryNoted::Yes),
        Err(error) => match condition_failed(&error) {
            Some(present) if item::holder(present).as_ref() == Some(retry.holder) => Ok(RetryNoted::Another),
            Some(_) => Ok(RetryNoted::Free),
            // There is no item: nobody has ever held it.
            None if is_condition(&error) => Ok(RetryNoted::Free),
            None => Err(failed("noting that a wake comes again", "UpdateItem", &error)),
        },
    }
}

/// Whether the update's condition did not hold, item or none.
fn is_condition<R>(error: &SdkError<UpdateItemError, R>) -> bool {
    matches!(error.as_service_error(), Some(UpdateItemError::ConditionalCheckFailedException(_)))
}

/// The item as it was where the update's condition did not hold.
fn condition_failed<R>(error: &SdkError<UpdateItemError, R>) -> Option<&Attributes> {
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
    let items = table.query("reading commands", &keys::commands(target), &range, false, MOST_COMMANDS).await?;
    item::records(&items, "command")
}

/// One transaction; before it, where commands are done with, one read of where they lie.
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
    // A deployment may begin and end in one decision; a transaction takes each item once.
    let history: BTreeMap<u64, _> = commit.history.iter().map(|record| (record.number, record)).collect();
    for (number, record) in history {
        let item = Item::new(&pk, keys::deployment(number)).record("deployment", record);
        writes.push(table.put(item.attributes()));
    }
    let asked = keys::commands(target);
    for sk in inbox_keys(table, &asked, commit.consumed).await? {
        writes.push(table.delete(key(&asked, sk)));
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
    // The first commit finds an item that was only held.
    let condition = if revision == 0 {
        "lease_id = :lease AND attribute_not_exists(revision)"
    } else {
        values.insert(":revision".to_owned(), number(revision));
        "lease_id = :lease AND revision = :revision"
    };
    let names = [("#state", "state"), ("#format", "format")];
    table.update(key(keys::target(target), keys::STATE), set, condition, &names, values)
}

/// Where the commands lie that are done with. One that is not there was done with before.
async fn inbox_keys(table: &Table, pk: &str, consumed: &[CommandId]) -> Result<Vec<String>, LedgerError> {
    let mut missing: BTreeSet<&str> = consumed.iter().map(|id| id.0.as_str()).collect();
    if missing.is_empty() {
        return Ok(vec![]);
    }
    // What a pass consumes is among the oldest, which is what it was given: all else is read only if it must be.
    let mut found = vec![];
    for limit in [MOST_COMMANDS, usize::MAX] {
        let items = table.query("reading commands", pk, &Range::Prefix(keys::INBOX), false, limit).await?;
        for item in &items {
            if missing.remove(item::needed(item, "command_id")?) {
                found.push(item::needed(item, "sk")?.to_owned());
            }
        }
        if missing.is_empty() || items.len() < limit {
            break;
        }
    }
    Ok(found)
}
