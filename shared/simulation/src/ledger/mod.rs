//! [`engine::Ledger`] and [`engine::Posts`] in memory: the same conditions as the one on DynamoDB, in one process, behind one lock.
//!
//! Clones share what is written. Nothing is written half: each call is one change of the store or none.

mod store;
mod written;

pub use store::Store;
pub use written::Written;

use engine::{
    Applied, Begin, Claim, Commit, LeaseId, Ledger, LedgerError, Overdue, Post, PostKey, Posts, Retry, RetryNoted,
    TagsSeen, Watch,
};
use rollout::brake::{Brake, BrakeRecord, Lifted, Scope};
use rollout::journal::JournalEntry;
use rollout::pace::{Place, Price};
use rollout::policy::Policy;
use rollout::target::{DeploymentRecord, TargetState};
use rollout::{Command, Name, Release, ReleaseId, TargetId, Timestamp};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All deployment state, in this process's memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryLedger {
    store: Arc<Mutex<Store>>,
}

impl MemoryLedger {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The store itself: for whoever wants several answers of one moment, or writes without async.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        // A change is complete or was not begun when something panics: what is there is sound.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger for MemoryLedger {
    async fn begin(&self, target: &TargetId, claim: &Claim) -> Result<Begin, LedgerError> {
        self.store().begin(target, claim)
    }

    async fn commands(&self, target: &TargetId) -> Result<Vec<Command>, LedgerError> {
        Ok(self.store().commands(target))
    }

    async fn commit(
        &self,
        target: &TargetId,
        lease: &LeaseId,
        revision: u64,
        commit: &Commit<'_>,
    ) -> Result<u64, LedgerError> {
        self.store().commit(target, lease, revision, commit)
    }

    async fn take_place(&self, price: &Price, now: Timestamp) -> Result<Place, LedgerError> {
        Ok(self.store().take_place(price, now))
    }

    async fn note_retry(&self, target: &TargetId, retry: &Retry<'_>) -> Result<RetryNoted, LedgerError> {
        Ok(self.store().note_retry(target, retry))
    }

    async fn release(&self, target: &TargetId, lease: &LeaseId) -> Result<(), LedgerError> {
        self.store().release(target, lease);
        Ok(())
    }

    async fn put_release(&self, release: &Release) -> Result<Option<Release>, LedgerError> {
        Ok(self.store().put_release(release))
    }

    async fn tags_seen(&self, application: &Name, service: &Name) -> Result<Option<TagsSeen>, LedgerError> {
        Ok(self.store().tags_seen(application, service))
    }

    async fn put_tags_seen(&self, application: &Name, service: &Name, seen: &TagsSeen) -> Result<(), LedgerError> {
        self.store().put_tags_seen(application, service, seen);
        Ok(())
    }

    async fn put_command(&self, command: &Command) -> Result<bool, LedgerError> {
        Ok(self.store().put_command(command))
    }

    async fn targets_watching(&self, watch: &Watch) -> Result<Vec<TargetId>, LedgerError> {
        Ok(self.store().targets_watching(watch))
    }

    async fn services(&self, repository: &str) -> Result<Vec<(Name, Name)>, LedgerError> {
        Ok(self.store().services(repository))
    }

    async fn overdue(&self, now: Timestamp, limit: usize) -> Result<Vec<Overdue>, LedgerError> {
        Ok(self.store().overdue(now, limit))
    }

    async fn apply(&self, policy: &Policy, text: &str, at: Timestamp, by: &str) -> Result<u64, LedgerError> {
        self.store().apply(policy, text, at, by)
    }

    async fn policy(&self, application: &Name) -> Result<Option<Applied>, LedgerError> {
        Ok(self.store().policy(application))
    }

    async fn applications(&self) -> Result<Vec<Name>, LedgerError> {
        Ok(self.store().applications())
    }

    async fn brakes(&self) -> Result<Vec<Brake>, LedgerError> {
        Ok(self.store().brakes())
    }

    async fn put_brake(&self, brake: &Brake) -> Result<(), LedgerError> {
        self.store().put_brake(brake);
        Ok(())
    }

    async fn lift_brake(&self, scope: &Scope, lifted: &Lifted) -> Result<Option<Brake>, LedgerError> {
        Ok(self.store().lift_brake(scope, lifted))
    }

    async fn brake_log(&self, limit: usize) -> Result<Vec<BrakeRecord>, LedgerError> {
        Ok(self.store().brake_log(limit))
    }

    async fn state(&self, target: &TargetId) -> Result<Option<TargetState>, LedgerError> {
        self.store().state(target)
    }

    async fn history(&self, target: &TargetId, limit: usize) -> Result<Vec<DeploymentRecord>, LedgerError> {
        Ok(self.store().history(target, limit))
    }

    async fn journal(&self, target: &TargetId, after: u64, limit: usize) -> Result<Vec<JournalEntry>, LedgerError> {
        Ok(self.store().journal(target, after, limit))
    }

    async fn journal_tail(&self, target: &TargetId, limit: usize) -> Result<Vec<JournalEntry>, LedgerError> {
        Ok(self.store().journal_tail(target, limit))
    }

    async fn releases(&self, application: &Name, service: &Name, limit: usize) -> Result<Vec<Release>, LedgerError> {
        Ok(self.store().releases(application, service, limit))
    }

    async fn release_by_id(&self, id: &ReleaseId) -> Result<Option<Release>, LedgerError> {
        Ok(self.store().release_by_id(id))
    }
}

impl Posts for MemoryLedger {
    async fn post(&self, key: &PostKey) -> Result<Option<Post>, LedgerError> {
        Ok(self.store().post(key))
    }

    async fn put_post(&self, key: &PostKey, post: &Post, _now: Timestamp) -> Result<(), LedgerError> {
        // Nothing in memory lives for 90 days.
        self.store().put_post(key, post);
        Ok(())
    }
}
