//! [`engine::Ledger`] and [`engine::PostedMessages`] in memory: the same write conditions as the DynamoDB
//! implementation, in one process, behind one lock.
//!
//! Clones share one store. Each call is atomic: it changes the store completely or not at all.

mod store;
mod writes;

pub use store::Store;
pub use writes::LedgerWrite;

use engine::{
    Administration, AppliedPolicy, Brakes, Commands, Commit, LeaseId, LeaseOutcome, LeaseRequest, Leases, LedgerError,
    OverdueTarget, Policies, PostedMessage, PostedMessageKey, PostedMessages, ReleaseIntake, Releases, Retry,
    RetryRegistration, TagInventory, TargetIndex, Targets, WatchedResource,
};
use rollout::brake::{Brake, BrakeRecord, Lifted, Scope};
use rollout::deployment::DeploymentRecord;
use rollout::deployment::QueuePosition;
use rollout::journal::JournalEntry;
use rollout::policy::Policy;
use rollout::rate_limiter::ApiCost;
use rollout::target::TargetState;
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

    /// The store itself, for several reads of one moment, or for writes without async.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        // A change is complete or was not started when a panic occurs, so the data is consistent.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leases for MemoryLedger {
    async fn acquire_lease(&self, target: &TargetId, claim: &LeaseRequest) -> Result<LeaseOutcome, LedgerError> {
        self.store().acquire_lease(target, claim)
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

    async fn reserve_api_calls(&self, api_cost: &ApiCost, now: Timestamp) -> Result<QueuePosition, LedgerError> {
        Ok(self.store().reserve_api_calls(api_cost, now))
    }

    async fn register_retry(&self, target: &TargetId, retry: &Retry<'_>) -> Result<RetryRegistration, LedgerError> {
        Ok(self.store().register_retry(target, retry))
    }

    async fn release(&self, target: &TargetId, lease: &LeaseId) -> Result<(), LedgerError> {
        self.store().release(target, lease);
        Ok(())
    }
}

impl Commands for MemoryLedger {
    async fn put_command(&self, command: &Command) -> Result<bool, LedgerError> {
        Ok(self.store().put_command(command))
    }

    async fn commands(&self, target: &TargetId) -> Result<Vec<Command>, LedgerError> {
        Ok(self.store().commands(target))
    }
}

impl TargetIndex for MemoryLedger {
    async fn targets_watching(&self, watch: &WatchedResource) -> Result<Vec<TargetId>, LedgerError> {
        Ok(self.store().targets_watching(watch))
    }

    async fn services(&self, repository: &str) -> Result<Vec<(Name, Name)>, LedgerError> {
        Ok(self.store().services(repository))
    }

    async fn overdue(&self, now: Timestamp, limit: usize) -> Result<Vec<OverdueTarget>, LedgerError> {
        Ok(self.store().overdue(now, limit))
    }
}

impl Releases for MemoryLedger {
    async fn releases(&self, application: &Name, service: &Name, limit: usize) -> Result<Vec<Release>, LedgerError> {
        Ok(self.store().releases(application, service, limit))
    }

    async fn release_by_id(&self, id: &ReleaseId) -> Result<Option<Release>, LedgerError> {
        Ok(self.store().release_by_id(id))
    }
}

impl ReleaseIntake for MemoryLedger {
    async fn put_release(&self, release: &Release) -> Result<Option<Release>, LedgerError> {
        Ok(self.store().put_release(release))
    }

    async fn tag_inventory(&self, application: &Name, service: &Name) -> Result<Option<TagInventory>, LedgerError> {
        Ok(self.store().tag_inventory(application, service))
    }

    async fn put_tag_inventory(
        &self,
        application: &Name,
        service: &Name,
        seen: &TagInventory,
    ) -> Result<(), LedgerError> {
        self.store().put_tag_inventory(application, service, seen);
        Ok(())
    }
}

impl Policies for MemoryLedger {
    async fn policy(&self, application: &Name) -> Result<Option<AppliedPolicy>, LedgerError> {
        Ok(self.store().policy(application))
    }

    async fn applications(&self) -> Result<Vec<Name>, LedgerError> {
        Ok(self.store().applications())
    }
}

impl Brakes for MemoryLedger {
    async fn brakes(&self) -> Result<Vec<Brake>, LedgerError> {
        Ok(self.store().brakes())
    }

    async fn brake_log(&self, limit: usize) -> Result<Vec<BrakeRecord>, LedgerError> {
        Ok(self.store().brake_log(limit))
    }
}

impl Targets for MemoryLedger {
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
}

impl Administration for MemoryLedger {
    async fn apply(&self, policy: &Policy, text: &str, at: Timestamp, by: &str) -> Result<u64, LedgerError> {
        self.store().apply(policy, text, at, by)
    }

    async fn put_brake(&self, brake: &Brake) -> Result<(), LedgerError> {
        self.store().put_brake(brake);
        Ok(())
    }

    async fn lift_brake(&self, scope: &Scope, lifted: &Lifted) -> Result<Option<Brake>, LedgerError> {
        Ok(self.store().lift_brake(scope, lifted))
    }
}

impl PostedMessages for MemoryLedger {
    async fn posted_message(&self, key: &PostedMessageKey) -> Result<Option<PostedMessage>, LedgerError> {
        Ok(self.store().posted_message(key))
    }

    async fn record_posted_message(
        &self,
        key: &PostedMessageKey,
        post: &PostedMessage,
        _now: Timestamp,
    ) -> Result<(), LedgerError> {
        // The 90-day expiry of the DynamoDB items is not modelled.
        self.store().record_posted_message(key, post);
        Ok(())
    }
}
