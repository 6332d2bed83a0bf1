//! Brakes: those in force, and the log of setting and lifting them. All are in one partition, since they are few and every
//! pass that may start something reads all of them.

use super::item::{self, Item, key};
use super::keys;
use super::table::{Range, Table, Written};
use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use engine::LedgerError;
use rollout::brake::{Brake, BrakeRecord, Lifted, Scope};

/// Attempts to lift a brake that is replaced by another one meanwhile.
const MAX_ATTEMPTS: usize = 5;

pub(super) async fn active(table: &Table) -> Result<Vec<Brake>, LedgerError> {
    let items = table.query("reading brakes", keys::BRAKES, &Range::Prefix(keys::ON), false, usize::MAX).await?;
    item::records(&items, "brake")
}

pub(super) async fn put(table: &Table, brake: &Brake) -> Result<(), LedgerError> {
    let active = Item::new(keys::BRAKES, keys::brake(&brake.scope)).record("brake", brake);
    let writes = vec![
        table.put(active.attributes()),
        put_log_record(table, &BrakeRecord { brake: brake.clone(), lifted: None }),
    ];
    // The transaction has no condition, so it cannot fail on one.
    table.transact("setting a brake", writes).await.map(|_| ())
}

/// A brake is lifted once, however many callers ask at the same time: the others receive `None`.
pub(super) async fn lift(table: &Table, scope: &Scope, lifted: &Lifted) -> Result<Option<Brake>, LedgerError> {
    const DOING: &str = "lifting a brake";
    let sk = keys::brake(scope);
    for _ in 0..MAX_ATTEMPTS {
        let Some(found) = table.get(DOING, keys::BRAKES.to_owned(), sk.clone()).await? else { return Ok(None) };
        let seen = AttributeValue::S(item::required_text(&found, "brake")?.to_owned());
        let brake: Brake = item::record(&found, "brake")?;
        let record = BrakeRecord { brake: brake.clone(), lifted: Some(lifted.clone()) };
        let writes = vec![
            table.delete_if(key(keys::BRAKES, &sk), "brake = :seen", [(":seen", seen)]),
            put_log_record(table, &record),
        ];
        match table.transact(DOING, writes).await? {
            Written::All => return Ok(Some(brake)),
            // Lifted or replaced by another caller meanwhile: read again.
            Written::ConditionFailed => {}
        }
    }
    Err(LedgerError::Conflict { target: format!("the brake of {scope}") })
}

fn put_log_record(table: &Table, record: &BrakeRecord) -> TransactWriteItem {
    let text = item::json(record);
    let (at, lifted) = match &record.lifted {
        Some(lifted) => (lifted.at, true),
        None => (record.brake.since, false),
    };
    let sk = keys::brake_log(at, lifted, keys::hash(&text));
    table.put(Item::new(keys::BRAKES, sk).text("record", text).attributes())
}

pub(super) async fn log(table: &Table, limit: usize) -> Result<Vec<BrakeRecord>, LedgerError> {
    let range = Range::Prefix(keys::LOG);
    let items = table.query("reading the log of brakes", keys::BRAKES, &range, true, limit).await?;
    item::records(&items, "record")
}
