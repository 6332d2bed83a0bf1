//! Policies: versions of them, the one in force, and the watches that follow from it.
//!
//! An application's watches may be more than a transaction holds. They are written one by one around the policy, in
//! an order that leaves too many of them, never too few, wherever it ends: first the new ones, then the policy, then
//! the old ones are taken away. A watch too many wakes a target that has nothing to do.
//!
//! Each watch carries the version that wrote it. A slow application of an older version neither marks a newer one's
//! watch as its own nor takes it away.

use super::item::{self, Attributes, Item, MOST_BYTES, key, number};
use super::keys;
use super::table::{Range, Table, Written, failed};
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use engine::{Applied, LedgerError, Watch};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use rollout::policy::Policy;
use rollout::{Name, Slot, Timestamp};
use std::collections::BTreeSet;

/// How many watches are written at once.
const AT_ONCE: usize = 16;

/// How often an application starts over because another one came first.
const TRIES: usize = 3;

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
        if write_policy(table, &policy.application, &record, before, version).await? == Written::ConditionFailed {
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
) -> Result<Written, LedgerError> {
    let pk = keys::policy(application);
    let item = |sk: String| Item::new(&pk, sk).text("applied", record).number("version", version).attributes();
    let current = item(keys::CURRENT.to_owned());
    let current = if before == 0 {
        table.put_new(current)
    } else {
        table.put_if(current, "version = :before", [(":before", number(before))])
    };
    let writes = vec![
        current,
        table.put_new(item(keys::version(version))),
        table.put(Item::new(keys::APPLICATIONS, application.as_str()).attributes()),
    ];
    table.transact(APPLYING, writes).await
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

/// Everything that a policy wants to hear of, and for whom.
fn watches(policy: &Policy) -> BTreeSet<WatchKey> {
    let mut watches = BTreeSet::new();
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

/// The name in `arn:aws:ecs:region:account:cluster/name`, or the name itself.
fn cluster_name(name_or_arn: &str) -> &str {
    name_or_arn.rsplit('/').next().unwrap_or(name_or_arn)
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

#[cfg(test)]
mod tests {
    use super::cluster_name;

    #[test]
    fn a_cluster_is_known_by_its_name_however_the_policy_writes_it() {
        assert_eq!(cluster_name("production"), "production");
        assert_eq!(cluster_name("arn:aws:ecs:eu-central-1:123456789012:cluster/production"), "production");
    }
}
