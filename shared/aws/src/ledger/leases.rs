//! Operations of a target's lease holder: acquire the lease, commit a decision, release the lease.

use super::commands::inbox_keys;
use super::item::{self, Attributes, Item, key, number};
use super::table::{Changed, Table, Written};
use super::{DynamoLedger, api_queue, keys};
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem};
use engine::{
    Commit, LeaseId, LeaseOutcome, LeaseRequest, LeasedTarget, Leases, LedgerError, LockChange, Retry, RetryCounts,
    RetryRegistration, WakeKind,
};
use rollout::deployment::QueuePosition;
use rollout::rate_limiter::ApiCost;
use rollout::target::FORMAT;
use rollout::{TargetId, Timestamp};
use std::collections::BTreeMap;

impl Leases for DynamoLedger {
    /// One call that acquires the lease and returns the state, or returns who holds it.
    async fn acquire_lease(&self, target: &TargetId, claim: &LeaseRequest) -> Result<LeaseOutcome, LedgerError> {
        // Re-acquiring one's own lease is allowed, since the SDK retries a call whose response was lost. A state of a
        // newer format is never written, not even by a lease.
        let mut condition = "(attribute_not_exists(lease_id) OR lease_id = :lease".to_owned();
        if claim.steal.is_some() {
            condition.push_str(" OR lease_id = :steal");
        }
        condition.push_str(") AND (attribute_not_exists(#format) OR #format <= :format)");
        let mut request = self
            .table
            .update_item(state_key(target))
            .await
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
        match self.table.change("taking the target", request).await? {
            // The item before the update: the state is unchanged by it, and only the old item names the previous lease
            // holder.
            Changed::Done(before) => match item::loaded(&before, target) {
                Ok(loaded) => {
                    let stolen = item::holder(&before).is_some_and(|by| by != claim.lease);
                    Ok(LeaseOutcome::Granted(Box::new(LeasedTarget { stolen, ..loaded })))
                }
                Err(unreadable) => {
                    // A driver that cannot read the state releases the lease. If that fails too, the lease is taken
                    // over like that of a dead holder.
                    let _ = self.release(target, &claim.lease).await;
                    Err(unreadable)
                }
            },
            Changed::ConditionFailed(present) => {
                let present = present.unwrap_or_default();
                item::state(&present)?;
                let by = item::holder(&present).ok_or_else(|| {
                    item::unreadable(&present, "it is neither free nor held: the condition of taking it did not hold")
                })?;
                let retries = retries(&present, &by)?;
                Ok(LeaseOutcome::Held { by, lasts: item::lasts(&present)?, retries })
            }
        }
    }

    /// One transaction, preceded by one read of the inbox keys where commands are consumed.
    async fn commit(
        &self,
        target: &TargetId,
        lease: &LeaseId,
        revision: u64,
        commit: &Commit<'_>,
    ) -> Result<u64, LedgerError> {
        let table = &self.table;
        let pk = keys::target_pk(target);
        let next = revision + 1;
        let mut writes = vec![state_update(table, target, lease, revision, commit)];
        for entry in commit.journal {
            let item = Item::new(&pk, keys::journal_sk(entry.sequence)).record("entry", entry);
            writes.push(table.put_new(item.attributes()));
        }
        // A deployment may begin and end in one decision, while a transaction may write each item only once.
        let history: BTreeMap<u64, _> = commit.history.iter().map(|record| (record.number, record)).collect();
        for (number, record) in history {
            let item = Item::new(&pk, keys::deployment_sk(number)).record("deployment", record);
            writes.push(table.put(item.attributes()));
        }
        let commands_pk = keys::commands_pk(target);
        for sk in inbox_keys(table, &commands_pk, commit.consumed).await? {
            writes.push(table.delete(key(&commands_pk, sk)));
        }
        let lock = writes.len();
        writes.extend(commit.lock.map(|change| lock_write(table, target, change)));
        match table.transact("writing a decision", writes).await? {
            Written::All => Ok(next),
            Written::ConditionFailed(failed)
                if failed == [lock] && matches!(commit.lock, Some(LockChange::Take { .. })) =>
            {
                let environment = format!("{}/{}", target.application, target.environment);
                Err(LedgerError::Locked { environment })
            }
            Written::ConditionFailed(_) => Err(LedgerError::Conflict { item: target.to_string() }),
        }
    }

    async fn reserve_api_calls(&self, api_cost: &ApiCost, now: Timestamp) -> Result<QueuePosition, LedgerError> {
        api_queue::reserve_api_calls(&self.table, api_cost, now, self.reads_a_second).await
    }

    /// One call. What is stored for a previous holder is overwritten: lease IDs are never reused.
    async fn register_retry(&self, target: &TargetId, retry: &Retry<'_>) -> Result<RetryRegistration, LedgerError> {
        let (holds, tries) = retry_attributes(retry.kind);
        let request = self
            .table
            .update_item(state_key(target))
            .await
            .update_expression("SET #for = :holder, #tries = :tries")
            .condition_expression(
                "lease_id = :holder AND (attribute_not_exists(#for) OR #for <> :holder OR #tries < :tries)",
            )
            .expression_attribute_names("#for", holds)
            .expression_attribute_names("#tries", tries)
            .expression_attribute_values(":holder", AttributeValue::S(retry.holder.0.clone()))
            .expression_attribute_values(":tries", number(retry.retries))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        Ok(match self.table.change("noting that a wake comes again", request).await? {
            Changed::Done(_) => RetryRegistration::Accepted,
            Changed::ConditionFailed(Some(present)) if item::holder(&present).as_ref() == Some(retry.holder) => {
                RetryRegistration::AlreadyScheduled
            }
            // Without an item, the target has never been leased.
            Changed::ConditionFailed(_) => RetryRegistration::LeaseReleased,
        })
    }

    async fn release(&self, target: &TargetId, lease: &LeaseId) -> Result<(), LedgerError> {
        let request = self
            .table
            .update_item(state_key(target))
            .await
            .update_expression("REMOVE lease_id, leased_at, lease_s")
            .condition_expression("lease_id = :lease")
            .expression_attribute_values(":lease", AttributeValue::S(lease.0.clone()));
        // The condition fails if the lease belongs to another pass by now.
        self.table.change("giving the target back", request).await.map(|_| ())
    }
}

/// The change of the lock of a target's environment: only what nobody or the target itself holds is taken or released.
fn lock_write(table: &Table, target: &TargetId, change: LockChange) -> TransactWriteItem {
    const OWN: &str = "attribute_not_exists(pk) OR held_by = :target";
    let target_value = AttributeValue::S(target.to_string());
    let lock = key(keys::lock_pk(target), keys::LOCK_SK);
    match change {
        LockChange::Take { deployment } => {
            let held = [("held_by".to_owned(), target_value.clone()), ("deployment".to_owned(), number(deployment))];
            table.put_if(lock.into_iter().chain(held).collect(), OWN, [(":target", target_value)])
        }
        LockChange::Release => table.delete_if(lock, OWN, [(":target", target_value)]),
    }
}

/// Key of the item with a target's state and lease.
fn state_key(target: &TargetId) -> Attributes {
    key(keys::target_pk(target), keys::STATE_SK)
}

/// How many retries of wakes were registered for other drivers while this holder has the target.
fn retries(item: &Attributes, holder: &LeaseId) -> Result<RetryCounts, LedgerError> {
    let of = |kind: WakeKind| {
        let (holds, tries) = retry_attributes(kind);
        let ours = item::text(item, &holds) == Some(holder.0.as_str());
        let tries = if ours { item::count(item, &tries)? } else { None };
        Ok(tries.map(|tries| u8::try_from(tries).unwrap_or(u8::MAX)))
    };
    Ok(RetryCounts { normal: of(WakeKind::Normal)?, urgent: of(WakeKind::Urgent)?, idle: of(WakeKind::Idle)? })
}

/// Names of the attributes that store the holder a wake is retried for, and how many retries there were.
fn retry_attributes(kind: WakeKind) -> (String, String) {
    (format!("retry_{}_for", kind.name()), format!("retry_{}_tries", kind.name()))
}

fn state_update(
    table: &Table,
    target: &TargetId,
    lease: &LeaseId,
    revision: u64,
    commit: &Commit<'_>,
) -> TransactWriteItem {
    let mut set = "SET #state = :state, #format = :format, revision = :next".to_owned();
    let mut remove = vec![];
    let mut values = Attributes::from([
        (":state".to_owned(), AttributeValue::S(item::json(commit.state))),
        (":format".to_owned(), number(commit.state.format)),
        (":next".to_owned(), number(revision + 1)),
        (":lease".to_owned(), AttributeValue::S(lease.0.clone())),
    ]);
    match commit.overdue_at {
        Some(at) => {
            set.push_str(", ");
            set.push_str(keys::SET_DUE);
            values.insert(":due_pk".to_owned(), AttributeValue::S(keys::target_due_pk(target)));
            values.insert(":due_sk".to_owned(), AttributeValue::S(keys::instant(at)));
        }
        None => remove.extend([keys::DUE_PK, keys::DUE_SK]),
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
    table.update(state_key(target), set, condition, &names, values)
}
