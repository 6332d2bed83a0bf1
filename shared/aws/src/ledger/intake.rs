//! Incoming data: releases and commands; which targets an event concerns, and which are overdue.

use super::DUE_INDEX;
use super::item::{Attributes, Item, number, record, required_text, unreadable};
use super::keys;
use super::table::{Range, Table, Written, failed, page};
use aws_sdk_dynamodb::types::AttributeValue;
use engine::{LedgerError, OverdueTarget, TagInventory, WatchedResource};
use futures::future::try_join_all;
use rollout::{Command, Name, Release, TargetId, Timestamp};
use std::collections::HashMap;

/// How long the ID of a command is kept after the command was requested, to detect duplicates.
const RETENTION_S: i64 = 30 * 24 * 3600;

/// Attempts to read and merge a release while others write to it: each tag of a build is an event of its own.
const MAX_MERGE_ATTEMPTS: u32 = 8;

/// Writes both items of a release together, on condition that the release is still as read: two tags of one build may arrive
/// at the same time, and neither may be lost.
pub(super) async fn put_release(table: &Table, release: &Release) -> Result<Option<Release>, LedgerError> {
    let doing = "writing a release";
    let pk = keys::releases(&release.id.application, &release.id.service);
    let sk = keys::digest(&release.id.digest);
    let items = |release: &Release| {
        let by_content = Item::new(&pk, &sk).record("release", release);
        let by_age = Item::new(&pk, keys::pushed(release.pushed_at, &release.id.digest)).record("release", release);
        (by_content.attributes(), by_age.attributes())
    };
    let (by_content, by_age) = items(release);
    if table.transact(doing, vec![table.put_new(by_content), table.put(by_age)]).await? == Written::All {
        return Ok(None);
    }
    for _ in 0..MAX_MERGE_ATTEMPTS {
        let found = table.get("reading a release", pk.clone(), sk.clone()).await?;
        let Some(found) = found else { break };
        let before: Release = record(&found, "release")?;
        let mut merged = before.clone();
        merged.merge(release);
        if merged == before {
            return Ok(Some(before));
        }
        let (by_content, by_age) = items(&merged);
        let writes =
            vec![table.put_if_unchanged(by_content, "release", required_text(&found, "release")?), table.put(by_age)];
        if table.transact(doing, writes).await? == Written::All {
            return Ok(Some(before));
        }
    }
    let reason = format!("others wrote to {} at every one of {MAX_MERGE_ATTEMPTS} tries", release.id);
    Err(LedgerError::Unavailable { doing, reason })
}

pub(super) async fn tag_inventory(
    table: &Table,
    application: &Name,
    service: &Name,
) -> Result<Option<TagInventory>, LedgerError> {
    let pk = keys::releases(application, service);
    let found = table.get("reading the tags of before", pk, keys::REGISTRY.to_owned()).await?;
    found.map(|found| record(&found, "seen")).transpose()
}

pub(super) async fn put_tag_inventory(
    table: &Table,
    application: &Name,
    service: &Name,
    seen: &TagInventory,
) -> Result<(), LedgerError> {
    let item = Item::new(keys::releases(application, service), keys::REGISTRY).record("seen", seen);
    let request = table.client().await.put_item().table_name(table.name()).set_item(Some(item.attributes()));
    let answer = request.send().await;
    answer.map(|_| ()).map_err(|error| failed("writing the tags", "PutItem", &error))
}

pub(super) async fn put_command(table: &Table, command: &Command) -> Result<bool, LedgerError> {
    let pk = keys::commands(&command.target);
    let asked_at_s = command.at.as_second();
    let seen = Item::new(&pk, keys::command(&command.id.0)).number("expires_at", asked_at_s + RETENTION_S);
    let pending = Item::new(&pk, keys::inbox(command.at, &command.id.0))
        .record("command", command)
        .text("command_id", &command.id.0)
        .due(&command.target, command.at);
    // DynamoDB deletes expired items lazily, possibly days later.
    let unseen = "attribute_not_exists(pk) OR expires_at <= :now";
    let writes =
        vec![table.put_if(seen.attributes(), unseen, [(":now", number(asked_at_s))]), table.put(pending.attributes())];
    Ok(table.transact("writing a command", writes).await? == Written::All)
}

pub(super) async fn targets_watching(table: &Table, watch: &WatchedResource) -> Result<Vec<TargetId>, LedgerError> {
    if matches!(watch, WatchedResource::Repository(_)) {
        return Ok(vec![]);
    }
    let items = watching(table, watch).await?;
    let read = |item: &Attributes| {
        let sk = required_text(item, "sk")?;
        TargetId::parse(sk).map_err(|error| unreadable(item, error.to_string()))
    };
    items.iter().map(read).collect()
}

pub(super) async fn services(table: &Table, repository: &str) -> Result<Vec<(Name, Name)>, LedgerError> {
    let items = watching(table, &WatchedResource::Repository(repository.to_owned())).await?;
    let read = |item: &Attributes| {
        let names = required_text(item, "sk")?.split_once('/');
        let names =
            names.and_then(|(application, service)| Some((Name::new(application).ok()?, Name::new(service).ok()?)));
        names.ok_or_else(|| unreadable(item, "its sort key is not application/service"))
    };
    items.iter().map(read).collect()
}

async fn watching(table: &Table, watch: &WatchedResource) -> Result<Vec<Attributes>, LedgerError> {
    table.query("looking up who is concerned", &keys::watch(watch), &Range::All, false, usize::MAX).await
}

/// Queries all shards in parallel. Each returns its most overdue targets, which include the most overdue overall.
pub(super) async fn overdue(table: &Table, now: Timestamp, limit: usize) -> Result<Vec<OverdueTarget>, LedgerError> {
    let shards = try_join_all((0..keys::SHARDS).map(|number| overdue_in(table, number, now, limit))).await?;
    let mut due: Vec<OverdueTarget> =
        shards.into_iter().flatten().map(|(target, since)| OverdueTarget { since, target }).collect();
    due.sort();
    due.truncate(limit);
    Ok(due)
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
    // One target may be due many times, once per waiting command: pages are read until there are enough distinct targets.
    while due.len() < limit {
        let answer = table
            .client()
            .await
            .query()
            .table_name(table.name())
            .index_name(DUE_INDEX)
            .key_condition_expression("due_pk = :shard AND due_sk <= :now")
            .expression_attribute_values(":shard", AttributeValue::S(keys::shard(shard)))
            .expression_attribute_values(":now", AttributeValue::S(keys::instant(now)))
            .limit(page(limit - due.len()))
            .set_exclusive_start_key(next.take())
            .send()
            .await
            .map_err(|error| failed("looking for what is overdue", "Query", &error))?;
        for item in answer.items.unwrap_or_default() {
            let target = keys::target_of(required_text(&item, "pk")?)
                .ok_or_else(|| unreadable(&item, "it is due, and in no target's partition"))?;
            let since = keys::instant_of(required_text(&item, "due_sk")?)
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
