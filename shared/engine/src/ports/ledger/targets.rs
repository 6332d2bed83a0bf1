//! What is stored of a target, read without a lease.

use super::LedgerError;
use rollout::TargetId;
use rollout::deployment::DeploymentRecord;
use rollout::journal::JournalEntry;
use rollout::target::TargetState;
use std::future::Future;

/// Reads the state, history and journal of targets.
pub trait Targets: Sync {
    /// The stored state of a target, read without a lease.
    fn state(&self, target: &TargetId) -> impl Future<Output = Result<Option<TargetState>, LedgerError>> + Send;
    /// Deployments of a target, newest first.
    fn history(
        &self,
        target: &TargetId,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<DeploymentRecord>, LedgerError>> + Send;
    /// Journal entries of a target with a sequence above `after`, oldest first.
    fn journal(
        &self,
        target: &TargetId,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<JournalEntry>, LedgerError>> + Send;
    /// The newest `limit` journal entries of a target, oldest first.
    fn journal_tail(
        &self,
        target: &TargetId,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<JournalEntry>, LedgerError>> + Send;
}
