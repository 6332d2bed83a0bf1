//! Which targets an event concerns, and which are overdue.

use super::item::{Attributes, required_text, unreadable};
use super::table::{Range, Table, failed, page};
use super::{DynamoLedger, keys};
use aws_sdk_dynamodb::types::AttributeValue;
use engine::{LedgerError, OverdueTarget, TargetIndex, WatchedResource};
use futures::future::try_join_all;
use rollout::{Name, TargetId, Timestamp};
use std::collections::HashMap;

impl TargetIndex for DynamoLedger {
    async fn targets_watching(&self, watch: &WatchedResource) -> Result<Vec<TargetId>, LedgerError> {
        if matches!(watch, WatchedResource::Repository(_)) {
            return Ok(vec![]);
        }
        let items = watching(&self.table, watch).await?;
        let read = |item: &Attributes| {
            let sk = required_text(item, keys::SK)?;
            TargetId::parse(sk).map_err(|error| unreadable(item, error.to_string()))
        };
        items.iter().map(read).collect()
    }

    async fn services(&self, repository: &str) -> Result<Vec<(Name, Name)>, LedgerError> {
        let items = watching(&self.table, &WatchedResource::Repository(repository.to_owned())).await?;
        let read = |item: &Attributes| {
            let names = required_text(item, keys::SK)?.split_once('/');
            let names =
                names.and_then(|(application, service)| Some((Name::new(application).ok()?, Name::new(service).ok()?)));
            names.ok_or_else(|| unreadable(item, "its sort key is not application/service"))
        };
        items.iter().map(read).collect()
    }

    /// Queries all shards in parallel. Each returns its most overdue targets, which include the most overdue overall.
    async fn overdue(&self, now: Timestamp, limit: usize) -> Result<Vec<OverdueTarget>, LedgerError> {
        let reads = (0..keys::SHARDS).map(|number| overdue_in(&self.table, number, now, limit));
        let shards = try_join_all(reads).await?;
        let mut due: Vec<OverdueTarget> =
            shards.into_iter().flatten().map(|(target, since)| OverdueTarget { since, target }).collect();
        due.sort();
        due.truncate(limit);
        Ok(due)
    }
}

async fn watching(table: &Table, watch: &WatchedResource) -> Result<Vec<Attributes>, LedgerError> {
    table.query("looking up who is concerned", &keys::watch_pk(watch), &Range::All, false, usize::MAX).await
}

/// The `limit` most overdue targets of a shard, each with the time since which it is overdue.
async fn overdue_in(
    table: &Table,
    shard: u32,
    now: Timestamp,
    limit: usize,
) -> Result<HashMap<TargetId, Timestamp>, LedgerError> {
    let mut due = HashMap::new();
    let mut next: Option<Attributes> = None;
    // One target may be due many times, once per waiting command: pages are read until there are enough distinct
    // targets.
    while due.len() < limit {
        let answer = table
            .query_builder()
            .await
            .index_name(keys::DUE_INDEX)
            .key_condition_expression(keys::DUE)
            .expression_attribute_values(":shard", AttributeValue::S(keys::shard_due_pk(shard)))
            .expression_attribute_values(":now", AttributeValue::S(keys::instant(now)))
            .limit(page(limit - due.len()))
            .set_exclusive_start_key(next.take())
            .send()
            .await
            .map_err(|error| failed("looking for what is overdue", "Query", &error))?;
        for item in answer.items.unwrap_or_default() {
            let target = keys::target_of(required_text(&item, keys::PK)?)
                .ok_or_else(|| unreadable(&item, "it is due, and in no target's partition"))?;
            let since = keys::instant_of(required_text(&item, keys::DUE_SK)?)
                .ok_or_else(|| unreadable(&item, "the instant since when it is due is none"))?;
            due.entry(target).or_insert(since);
        }
        match answer.last_evaluated_key {
            Some(key) if !key.is_empty() => next = Some(key),
            _ => break,
        }
    }
    Ok(due)
}
