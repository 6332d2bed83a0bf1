//! Queries from people: states, histories, journals, releases. Read-only.

use super::item;
use super::keys;
use super::table::{Range, Table};
use engine::LedgerError;
use rollout::deployment::DeploymentRecord;
use rollout::journal::JournalEntry;
use rollout::target::TargetState;
use rollout::{Name, Release, ReleaseId, TargetId};

pub(super) async fn state(table: &Table, target: &TargetId) -> Result<Option<TargetState>, LedgerError> {
    match table.get("reading a state", keys::target(target), keys::STATE.to_owned()).await? {
        Some(found) => item::state(&found),
        None => Ok(None),
    }
}

pub(super) async fn history(
    table: &Table,
    target: &TargetId,
    limit: usize,
) -> Result<Vec<DeploymentRecord>, LedgerError> {
    let range = Range::Prefix(keys::DEPLOYMENT);
    item::records(&table.query("reading the history", &keys::target(target), &range, true, limit).await?, "deployment")
}

pub(super) async fn journal(
    table: &Table,
    target: &TargetId,
    after: u64,
    limit: usize,
) -> Result<Vec<JournalEntry>, LedgerError> {
    let Some(first) = after.checked_add(1) else { return Ok(vec![]) };
    let range = Range::Between(keys::journal(first), keys::journal(u64::MAX));
    item::records(&table.query("reading the journal", &keys::target(target), &range, false, limit).await?, "entry")
}

pub(super) async fn journal_tail(
    table: &Table,
    target: &TargetId,
    limit: usize,
) -> Result<Vec<JournalEntry>, LedgerError> {
    let range = Range::Between(keys::journal(0), keys::journal(u64::MAX));
    let mut items = table.query("reading the journal", &keys::target(target), &range, true, limit).await?;
    items.reverse();
    item::records(&items, "entry")
}

pub(super) async fn releases(
    table: &Table,
    application: &Name,
    service: &Name,
    limit: usize,
) -> Result<Vec<Release>, LedgerError> {
    let pk = keys::releases(application, service);
    item::records(&table.query("reading releases", &pk, &Range::Prefix(keys::PUSHED), true, limit).await?, "release")
}

pub(super) async fn release_by_id(table: &Table, id: &ReleaseId) -> Result<Option<Release>, LedgerError> {
    let pk = keys::releases(&id.application, &id.service);
    let found = table.get("reading a release", pk, keys::digest(&id.digest)).await?;
    found.map(|found| item::record(&found, "release")).transpose()
}
