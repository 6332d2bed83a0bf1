//! States, histories and journals of targets, read without a lease.

use super::table::Range;
use super::{DynamoLedger, item, keys};
use engine::{LedgerError, Targets};
use rollout::TargetId;
use rollout::deployment::DeploymentRecord;
use rollout::journal::JournalEntry;
use rollout::target::TargetState;

impl Targets for DynamoLedger {
    async fn state(&self, target: &TargetId) -> Result<Option<TargetState>, LedgerError> {
        match self.table.get("reading a state", keys::target_pk(target), keys::STATE_SK.to_owned()).await? {
            Some(found) => item::state(&found),
            None => Ok(None),
        }
    }

    async fn history(&self, target: &TargetId, limit: usize) -> Result<Vec<DeploymentRecord>, LedgerError> {
        let range = Range::Prefix(keys::DEPLOYMENT_PREFIX);
        let items = self.table.query("reading the history", &keys::target_pk(target), &range, true, limit).await?;
        item::records(&items, "deployment")
    }

    async fn journal(&self, target: &TargetId, after: u64, limit: usize) -> Result<Vec<JournalEntry>, LedgerError> {
        let Some(first) = after.checked_add(1) else { return Ok(vec![]) };
        let range = Range::Between(keys::journal_sk(first), keys::journal_sk(u64::MAX));
        let items = self.table.query("reading the journal", &keys::target_pk(target), &range, false, limit).await?;
        item::records(&items, "entry")
    }

    async fn journal_tail(&self, target: &TargetId, limit: usize) -> Result<Vec<JournalEntry>, LedgerError> {
        let range = Range::Between(keys::journal_sk(0), keys::journal_sk(u64::MAX));
        let mut items = self.table.query("reading the journal", &keys::target_pk(target), &range, true, limit).await?;
        items.reverse();
        item::records(&items, "entry")
    }
}
