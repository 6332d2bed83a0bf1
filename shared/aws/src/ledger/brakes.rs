//! Brakes: those in force, and the log of setting and lifting them. All are in one partition, since they are few and
//! every pass that may start something reads all of them.

use super::item::{self, Item, key};
use super::table::{Range, Table, Written};
use super::{DynamoLedger, keys};
use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use engine::{Brakes, LedgerError};
use rollout::brake::{Brake, BrakeRecord, Lifted, Scope};

/// Attempts to lift a brake that is replaced by another one meanwhile.
const MAX_ATTEMPTS: usize = 5;

impl Brakes for DynamoLedger {
    async fn brakes(&self) -> Result<Vec<Brake>, LedgerError> {
        let range = Range::Prefix(keys::BRAKE_PREFIX);
        let items = self.table.query("reading brakes", keys::BRAKES_PK, &range, false, usize::MAX).await?;
        item::records(&items, "brake")
    }

    async fn brake_log(&self, limit: usize) -> Result<Vec<BrakeRecord>, LedgerError> {
        let range = Range::Prefix(keys::BRAKE_LOG_PREFIX);
        let items = self.table.query("reading the log of brakes", keys::BRAKES_PK, &range, true, limit).await?;
        item::records(&items, "record")
    }
}

pub(super) async fn put(table: &Table, brake: &Brake) -> Result<(), LedgerError> {
    let active = Item::new(keys::BRAKES_PK, keys::brake_sk(&brake.scope)).record("brake", brake);
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
    let sk = keys::brake_sk(scope);
    for _ in 0..MAX_ATTEMPTS {
        let Some(found) = table.get(DOING, keys::BRAKES_PK.to_owned(), sk.clone()).await? else { return Ok(None) };
        let seen = AttributeValue::S(item::required_text(&found, "brake")?.to_owned());
        let brake: Brake = item::record(&found, "brake")?;
        let record = BrakeRecord { brake: brake.clone(), lifted: Some(lifted.clone()) };
        let writes = vec![
            table.delete_if(key(keys::BRAKES_PK, &sk), "brake = :seen", [(":seen", seen)]),
            put_log_record(table, &record),
        ];
        match table.transact(DOING, writes).await? {
            Written::All => return Ok(Some(brake)),
            // Lifted or replaced by another caller meanwhile: read again.
            Written::ConditionFailed(_) => {}
        }
    }
    Err(LedgerError::Conflict { item: format!("the brake of {scope}") })
}

fn put_log_record(table: &Table, record: &BrakeRecord) -> TransactWriteItem {
    let text = item::json(record);
    let (at, lifted) = match &record.lifted {
        Some(lifted) => (lifted.at, true),
        None => (record.brake.since, false),
    };
    let sk = keys::brake_log_sk(at, lifted, keys::hash(&text));
    table.put(Item::new(keys::BRAKES_PK, sk).text("record", text).attributes())
}
