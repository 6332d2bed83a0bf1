//! Policies: all versions, the one in force, and the watches derived from it.
//!
//! An application's watches may exceed what a transaction holds. They are written one by one around the policy, in an
//! order that leaves too many watches and never too few, wherever it is interrupted: first the new watches, then the
//! policy, then the old watches are deleted. A superfluous watch wakes a target that has nothing to do.
//!
//! Each watch carries the policy version that wrote it. A slow apply of an older version neither overwrites a newer
//! version's watch nor deletes it.
//!
//! Claims on resources ([`Policy::resources`]) are written and deleted with the watches. Each apply writes its own
//! claims before it reads those of others, so of two applications that name the same resource and are applied at once,
//! at least one sees the other's claim. A claim alone proves nothing: it may be left over from an apply that failed.
//! The other application's policy decides. Where that policy does not name the resource (yet), the transaction that
//! writes our policy also invalidates any apply of the other policy in progress: it increments the other's generation,
//! which is a condition of the other's transaction. The other apply then restarts and finds the resource taken.

use super::item::{self, Attributes, Item, MAX_ITEM_BYTES, key, number};
use super::table::{Range, Table, Written, written};
use super::{DynamoLedger, keys};
use engine::{AppliedPolicy, ClaimedResource, LedgerError, Policies, WatchedResource};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use rollout::Policy;
use rollout::resources::Resource;
use rollout::{Name, TargetId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Concurrent writes of watches.
const MAX_CONCURRENCY: usize = 16;

/// Attempts to apply a policy while other applies come first.
const MAX_ATTEMPTS: usize = 8;

/// Maximum number of other policies whose applies one transaction invalidates; it holds 100 writes, four of them its
/// own.
const MAX_INVALIDATED: usize = 90;

const APPLYING: &str = "applying a policy";
const READING: &str = "reading a policy";

/// Key of a watch item: the watched resource, and the target or service that watches it.
type WatchKey = (String, String);

impl Policies for DynamoLedger {
    async fn policy(&self, application: &Name) -> Result<Option<AppliedPolicy>, LedgerError> {
        current(&self.table, application).await
    }

    async fn applications(&self) -> Result<Vec<Name>, LedgerError> {
        let all = &Range::All;
        let items = self.table.query("listing applications", keys::APPLICATIONS_PK, all, false, usize::MAX).await?;
        let read = |item: &Attributes| {
            let name = Name::new(item::required_text(item, keys::SK)?);
            name.map_err(|error| item::unreadable(item, error.to_string()))
        };
        items.iter().map(read).collect()
    }
}

pub(super) async fn apply(
    table: &Table,
    policy: &Policy,
    text: &str,
    at: Timestamp,
    by: &str,
) -> Result<u64, LedgerError> {
    let new_watches = watches(policy);
    for _ in 0..MAX_ATTEMPTS {
        let generation = generation(table, &policy.application).await?;
        let current_item = current_item(table, &policy.application).await?;
        // An unreadable policy is overwritten: applying again is how it is repaired.
        let parsed = current_item.as_ref().and_then(|item| item::record::<AppliedPolicy>(item, "applied").ok());
        if let Some(applied) = parsed.as_ref().filter(|applied| applied.text == text) {
            return Ok(applied.version);
        }
        let before = current_item.as_ref().map(|item| item::count(item, "version")).transpose()?.flatten().unwrap_or(0);
        let version = before + 1;
        let applied = AppliedPolicy { version, policy: policy.clone(), text: text.to_owned(), at, by: by.to_owned() };
        let record = item::json(&applied);
        if record.len() > MAX_ITEM_BYTES {
            let reason = format!(
                "the policy takes {} KB with its text, and the ledger holds {} KB of it: split the application",
                record.len().div_ceil(1024),
                MAX_ITEM_BYTES / 1024
            );
            return Err(LedgerError::Refused { doing: APPLYING, reason });
        }
        run_all(new_watches.iter().map(|watch| write_watch(table, watch, version)).collect()).await?;
        let others = stale_claimants(table, policy).await?;
        let generations = others.into_iter().chain([(policy.application.clone(), generation)]).collect();
        let written = write_policy(table, &policy.application, &record, before, version, &generations).await?;
        if written != Written::All {
            continue;
        }
        let old_watches = parsed.map(|applied| watches(&applied.policy)).unwrap_or_default();
        run_all(old_watches.difference(&new_watches).map(|watch| remove_watch(table, watch, version)).collect())
            .await?;
        return Ok(version);
    }
    Err(LedgerError::Conflict { item: format!("the policy of {}", policy.application) })
}

async fn write_policy(
    table: &Table,
    application: &Name,
    record: &str,
    before: u64,
    version: u64,
    generations: &BTreeMap<Name, u64>,
) -> Result<Written, LedgerError> {
    let pk = keys::policy_pk(application);
    let item = |sk: String| Item::new(&pk, sk).text("applied", record).number("version", version).attributes();
    let current = item(keys::CURRENT_SK.to_owned());
    let current = if before == 0 {
        table.put_new(current)
    } else {
        table.put_if(current, "version = :before", [(":before", number(before))])
    };
    let mut writes = vec![
        current,
        table.put_new(item(keys::policy_version_sk(version))),
        table.put(Item::new(keys::APPLICATIONS_PK, application.as_str()).attributes()),
    ];
    for (application, generation) in generations {
        let item = Item::new(keys::policy_pk(application), keys::GENERATION_SK).number("generation", generation + 1);
        writes.push(match generation {
            0 => table.put_new(item.attributes()),
            known => table.put_if(item.attributes(), "generation = :known", [(":known", number(known))]),
        });
    }
    table.transact(APPLYING, writes).await
}

/// An application's generation: incremented by each apply of its policy, and by each invalidation of an apply in
/// progress.
async fn generation(table: &Table, application: &Name) -> Result<u64, LedgerError> {
    let item = table.get(READING, keys::policy_pk(application), keys::GENERATION_SK.to_owned()).await?;
    Ok(item.map(|item| item::count(&item, "generation")).transpose()?.flatten().unwrap_or(0))
}

/// Other applications that hold claims on the policy's resources although their policies do not name these: each with
/// its generation, which is read before its policy.
async fn stale_claimants(table: &Table, policy: &Policy) -> Result<BTreeMap<Name, u64>, LedgerError> {
    let resources = policy.resources();
    let reads = resources.iter().map(|(resource, wanted_by)| async move {
        let items = table.query("reading claims", &keys::claim_pk(resource), &Range::All, false, usize::MAX).await?;
        let claimed_by = |item: &Attributes| {
            let target = TargetId::parse(item::required_text(item, keys::SK)?);
            target.map_err(|error| item::unreadable(item, error.to_string()))
        };
        let claims: Vec<TargetId> = items.iter().map(claimed_by).collect::<Result<_, _>>()?;
        Ok::<_, LedgerError>((resource, wanted_by, claims))
    });
    let claims: Vec<_> =
        stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(MAX_CONCURRENCY).try_collect().await?;
    let mut claimants: BTreeMap<Name, Vec<(&Resource, &TargetId)>> = BTreeMap::new();
    for (resource, wanted_by, claims) in claims {
        let others: BTreeSet<Name> = claims.into_iter().map(|target| target.application).collect();
        for other in others.into_iter().filter(|other| *other != policy.application) {
            claimants.entry(other).or_default().push((resource, wanted_by));
        }
    }
    let (mut generations, mut claimed) = (BTreeMap::new(), Vec::new());
    for (other, contested) in claimants {
        let known = generation(table, &other).await?;
        let other_resources =
            current(table, &other).await?.map(|applied| applied.policy.resources()).unwrap_or_default();
        for (resource, wanted_by) in contested {
            if let Some(claimed_by) = other_resources.get(resource) {
                claimed.push(ClaimedResource {
                    resource: resource.clone(),
                    wanted_by: wanted_by.clone(),
                    claimed_by: claimed_by.clone(),
                });
            }
        }
        generations.insert(other, known);
    }
    if !claimed.is_empty() {
        claimed.sort();
        return Err(LedgerError::ResourceConflict(claimed));
    }
    if generations.len() > MAX_INVALIDATED {
        let reason = format!("{} other applications have claims on the same resources", generations.len());
        return Err(LedgerError::Unavailable { doing: APPLYING, reason });
    }
    Ok(generations)
}

async fn run_all(writes: Vec<impl Future<Output = Result<(), LedgerError>>>) -> Result<(), LedgerError> {
    stream::iter(writes).buffer_unordered(MAX_CONCURRENCY).try_collect().await
}

async fn write_watch(table: &Table, (pk, sk): &WatchKey, version: u64) -> Result<(), LedgerError> {
    let answer = table
        .put_item(Item::new(pk, sk).number("version", version).attributes())
        .await
        .condition_expression(is_older())
        .expression_attribute_values(":version", number(version))
        .send()
        .await;
    written("writing a watch", "PutItem", answer).map(|_| ())
}

async fn remove_watch(table: &Table, (pk, sk): &WatchKey, version: u64) -> Result<(), LedgerError> {
    let answer = table
        .delete_item(key(pk, sk))
        .await
        .condition_expression(is_older())
        .expression_attribute_values(":version", number(version))
        .send()
        .await;
    written("removing a watch", "DeleteItem", answer).map(|_| ())
}

/// Condition of a write: no version after `:version` has written the watch.
fn is_older() -> String {
    format!("{} OR version < :version", keys::ABSENT)
}

/// All watches of a policy, with their target or service, and the exclusive claims of its targets.
fn watches(policy: &Policy) -> BTreeSet<WatchKey> {
    let mut watches: BTreeSet<WatchKey> =
        policy.resources().iter().map(|(resource, target)| (keys::claim_pk(resource), target.to_string())).collect();
    for (target, rules) in policy.targets() {
        let target = target.to_string();
        watches.extend(WatchedResource::of(rules).map(|watch| (keys::watch_pk(&watch), target.clone())));
    }
    for (service, source) in &policy.services {
        let watch = WatchedResource::Repository(source.repository.clone());
        watches.insert((keys::watch_pk(&watch), format!("{}/{service}", policy.application)));
    }
    watches
}

async fn current(table: &Table, application: &Name) -> Result<Option<AppliedPolicy>, LedgerError> {
    current_item(table, application).await?.map(|item| item::record(&item, "applied")).transpose()
}

async fn current_item(table: &Table, application: &Name) -> Result<Option<Attributes>, LedgerError> {
    table.get(READING, keys::policy_pk(application), keys::CURRENT_SK.to_owned()).await
}
