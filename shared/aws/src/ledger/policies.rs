//! Policies: versions of them, the one in force, and the watches that follow from it.
//!
//! An application's watches may be more than a transaction holds. They are written one by one around the policy, in
//! an order that leaves too many of them, never too few, wherever it ends: first the new ones, then the policy, then
//! the old ones are taken away. A watch too many wakes a target that has nothing to do.
//!
//! Each watch carries the version that wrote it. A slow application of an older version neither marks a newer one's
//! watch as its own nor takes it away.
//!
//! Claims on resources ([`Policy::resources`]) are written and taken away with the watches. So of two applications that
//! name the same resource and are applied at once at least one reads the other's claim, because each writes its own before
//! it reads. A claim alone proves nothing: it may be left over from an application that failed. What counts is the other
//! application's policy. Where that does not name the resource (yet), the transaction that writes the policy also
//! invalidates whatever application of the other policy is under way: it counts up the other's generation, on which the
//! other's transaction depends. The other one starts over then, and finds the resource taken.

use super::item::{self, Attributes, Item, MOST_BYTES, key, number};
use super::keys;
use super::table::{Range, Table, Written, failed};
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use engine::{Applied, ClaimedResource, LedgerError, Watch};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use rollout::policy::{Policy, Resource, cluster_name};
use rollout::{Name, Slot, TargetId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// How many watches are written at once.
const AT_ONCE: usize = 16;

/// How often an application starts over because another one came first.
const TRIES: usize = 8;

/// The most other policies whose applications one transaction invalidates; it holds 100 writes, four of them its own.
const MOST_INVALIDATED: usize = 90;

const APPLYING: &str = "applying a policy";

/// The key of a watch item: what is watched, and who is concerned.
type WatchKey = (String, String);

pub(super) async fn apply(
    table: &Table,
    policy: &Policy,
    text: &str,
    at: Timestamp,
    by: &str,
) -> Result<u64, LedgerError> {
    let wanted = watches(policy);
    for _ in 0..TRIES {
        let generation = generation(table, &policy.application).await?;
        let present = present(table, &policy.application).await?;
        // One that cannot be read is written over: applying again is how it is mended.
        let readable = present.as_ref().and_then(|item| item::record::<Applied>(item, "applied").ok());
        if let Some(applied) = readable.as_ref().filter(|applied| applied.text == text) {
            return Ok(applied.version);
        }
        let before = present.as_ref().map(|item| item::count(item, "version")).transpose()?.flatten().unwrap_or(0);
        let version = before + 1;
        let applied = Applied { version, policy: policy.clone(), text: text.to_owned(), at, by: by.to_owned() };
        let record = item::json(&applied);
        if record.len() > MOST_BYTES {
            let reason = format!(
                "the policy takes {} KB with its text, and the ledger holds {} KB of it: split the application",
                record.len().div_ceil(1024),
                MOST_BYTES / 1024
            );
            return Err(LedgerError::Refused { doing: APPLYING, reason });
        }
        all(wanted.iter().map(|watch| write_watch(table, watch, version)).collect()).await?;
        let others = others_that_claim(table, policy).await?;
        let generations = others.into_iter().chain([(policy.application.clone(), generation)]).collect();
        let written = write_policy(table, &policy.application, &record, before, version, &generations).await?;
        if written == Written::ConditionFailed {
            continue;
        }
        let old = readable.map(|applied| watches(&applied.policy)).unwrap_or_default();
        all(old.difference(&wanted).map(|watch| remove_watch(table, watch, version)).collect()).await?;
        return Ok(version);
    }
    Err(LedgerError::Conflict { target: format!("the policy of {}", policy.application) })
}

async fn write_policy(
    table: &Table,
    application: &Name,
    record: &str,
    before: u64,
    version: u64,
    generations: &BTreeMap<Name, u64>,
) -> Result<Written, LedgerError> {
    let pk = keys::policy(application);
    let item = |sk: String| Item::new(&pk, sk).text("applied", record).number("version", version).attributes();
    let current = item(keys::CURRENT.to_owned());
    let current = if before == 0 {
        table.put_new(current)
    } else {
        table.put_if(current, "version = :before", [(":before", number(before))])
    };
    let mut writes = vec![
        current,
        table.put_new(item(keys::version(version))),
        table.put(Item::new(keys::APPLICATIONS, application.as_str()).attributes()),
    ];
    for (application, generation) in generations {
        let item = Item::new(keys::policy(application), keys::GENERATION).number("generation", generation + 1);
        writes.push(match generation {
            0 => table.put_new(item.attributes()),
            known => table.put_if(item.attributes(), "generation = :known", [(":known", number(known))]),
        });
    }
    table.transact(APPLYING, writes).await
}

/// Counts the policies of an application that were applied, and the applications under way that others have invalidated.
async fn generation(table: &Table, application: &Name) -> Result<u64, LedgerError> {
    let item = table.get("reading a policy", keys::policy(application), keys::GENERATION.to_owned()).await?;
    Ok(item.map(|item| item::count(&item, "generation")).transpose()?.flatten().unwrap_or(0))
}

/// Other applications that have claims on the policy's resources though their policies do not name these: each with its
/// generation, which is read before its policy.
async fn others_that_claim(table: &Table, policy: &Policy) -> Result<BTreeMap<Name, u64>, LedgerError> {
    let resources = policy.resources();
    let reads = resources.iter().map(|(resource, wanted_by)| async move {
        let items = table.query("reading claims", &keys::claim(resource), &Range::All, false, usize::MAX).await?;
        let claimed_by = |item: &Attributes| {
            TargetId::parse(item::needed(item, "sk")?).map_err(|error| item::unreadable(item, error.to_string()))
        };
        let claims: Vec<TargetId> = items.iter().map(claimed_by).collect::<Result<_, _>>()?;
        Ok::<_, LedgerError>((resource, wanted_by, claims))
    });
    let claims: Vec<_> = stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).try_collect().await?;
    let mut suspected: BTreeMap<Name, Vec<(&Resource, &TargetId)>> = BTreeMap::new();
    for (resource, wanted_by, claims) in claims {
        let others: BTreeSet<Name> = claims.into_iter().map(|target| target.application).collect();
        for other in others.into_iter().filter(|other| *other != policy.application) {
            suspected.entry(other).or_default().push((resource, wanted_by));
        }
    }
    let (mut generations, mut claimed) = (BTreeMap::new(), Vec::new());
    for (other, suspects) in suspected {
        let known = generation(table, &other).await?;
        let theirs = current(table, &other).await?.map(|applied| applied.policy.resources()).unwrap_or_default();
        for (resource, wanted_by) in suspects {
            if let Some(claimed_by) = theirs.get(resource) {
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
        return Err(LedgerError::Claimed(claimed));
    }
    if generations.len() > MOST_INVALIDATED {
        let reason = format!("{} other applications have claims on the same resources", generations.len());
        return Err(LedgerError::Unavailable { doing: APPLYING, reason });
    }
    Ok(generations)
}

async fn all(writes: Vec<impl Future<Output = Result<(), LedgerError>>>) -> Result<(), LedgerError> {
    stream::iter(writes).buffer_unordered(AT_ONCE).try_collect().await
}

async fn write_watch(table: &Table, (pk, sk): &WatchKey, version: u64) -> Result<(), LedgerError> {
    let answer = table
        .client()
        .await
        .put_item()
        .table_name(table.name())
        .set_item(Some(Item::new(pk, sk).number("version", version).attributes()))
        .condition_expression("attribute_not_exists(pk) OR version < :version")
        .expression_attribute_values(":version", number(version))
        .send()
        .await;
    match answer {
        Ok(_) => Ok(()),
        Err(error) => match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(_)) => Ok(()),
            _ => Err(failed("writing a watch", "PutItem", &error)),
        },
    }
}

async fn remove_watch(table: &Table, (pk, sk): &WatchKey, version: u64) -> Result<(), LedgerError> {
    let answer = table
        .client()
        .await
        .delete_item()
        .table_name(table.name())
        .set_key(Some(key(pk, sk)))
        .condition_expression("attribute_not_exists(pk) OR version < :version")
        .expression_attribute_values(":version", number(version))
        .send()
        .await;
    match answer {
        Ok(_) => Ok(()),
        Err(error) => match error.as_service_error() {
            Some(DeleteItemError::ConditionalCheckFailedException(_)) => Ok(()),
            _ => Err(failed("removing a watch", "DeleteItem", &error)),
        },
    }
}

/// Everything that a policy wants to hear of, and for whom; and what its targets claim for themselves.
fn watches(policy: &Policy) -> BTreeSet<WatchKey> {
    let mut watches: BTreeSet<WatchKey> =
        policy.resources().iter().map(|(resource, target)| (keys::claim(resource), target.to_string())).collect();
    for (target, rules) in policy.targets() {
        let target = target.to_string();
        for alarm in &rules.alarms {
            watches.insert((keys::watch(&Watch::Alarm(alarm.name.clone())), target.clone()));
        }
        for arn in &rules.pair.rules {
            watches.insert((keys::watch(&Watch::Rule(arn.clone())), target.clone()));
        }
        let cluster = cluster_name(&rules.pair.cluster);
        for slot in [Slot::Blue, Slot::Green] {
            let service = &rules.pair.side(slot).service;
            let watch = Watch::EcsService(cluster.to_owned(), service.clone());
            watches.insert((keys::watch(&watch), target.clone()));
        }
    }
    for (service, source) in &policy.services {
        let watch = Watch::Repository(source.repository.clone());
        watches.insert((keys::watch(&watch), format!("{}/{service}", policy.application)));
    }
    watches
}

pub(super) async fn current(table: &Table, application: &Name) -> Result<Option<Applied>, LedgerError> {
    present(table, application).await?.map(|item| item::record(&item, "applied")).transpose()
}

async fn present(table: &Table, application: &Name) -> Result<Option<Attributes>, LedgerError> {
    table.get("reading a policy", keys::policy(application), keys::CURRENT.to_owned()).await
}

pub(super) async fn applications(table: &Table) -> Result<Vec<Name>, LedgerError> {
    let items = table.query("listing applications", keys::APPLICATIONS, &Range::All, false, usize::MAX).await?;
    let read = |item: &Attributes| {
        Name::new(item::needed(item, "sk")?).map_err(|error| item::unreadable(item, error.to_string()))
    };
    items.iter().map(read).collect()
}
