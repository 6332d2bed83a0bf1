//! The ledger on DynamoDB: one table, every query answered by key, no scans.
//!
//! The table has the text keys `pk` and `sk`, and one index `due` with the text keys `due_pk` and `due_sk` that projects keys
//! only. The time-to-live attribute is `expires_at` (seconds since 1970). Each record is one JSON text in one attribute;
//! beside it are only the attributes that conditions and indexes need.
//!
//! | item | `pk` | `sk` | attributes | written by |
//! |---|---|---|---|---|
//! | state of a target | `TARGET#app/svc/env` | `STATE` | `state`, `format`, `revision`; while leased: `lease_id`, `leased_at`, `lease_s`; while a wake is due: `due_pk`, `due_sk` | begin, commit, release |
//! | pending command | `COMMANDS#app/svc/env` | `INBOX#`*requested at*`#`*id* | `command`, `command_id`, `due_pk`, `due_sk` | `put_command`; commit deletes it |
//! | seen command | `COMMANDS#app/svc/env` | `COMMAND#`*id* | `expires_at`: 30 days after the request | `put_command` |
//! | deployment | `TARGET#app/svc/env` | `DEPLOYMENT#`*number* | `deployment` | commit |
//! | journal entry | `TARGET#app/svc/env` | `JOURNAL#`*sequence* | `entry` | commit; never overwritten |
//! | delivery of an entry | `NOTIFIED#app/svc/env` | *sequence*`#`*channel* | `expires_at`; while in progress: `claimed_by`, `claimed_until`; then `done_at` | deliveries |
//! | release | `RELEASE#app/svc` | `DIGEST#sha256:…` | `release` | `put_release` |
//! | release by age | `RELEASE#app/svc` | `PUSHED#`*pushed at*`#sha256:…` | `release` | `put_release` |
//! | tags of a service's repository, as last compared | `RELEASE#app/svc` | `REGISTRY` | `seen` | `put_tag_inventory` |
//! | policy in force | `POLICY#app` | `CURRENT` | `applied`, `version` | apply |
//! | every policy | `POLICY#app` | `VERSION#`*number* | `applied`, `version` | apply; never overwritten |
//! | brake in force | `BRAKES` | `ON#everything`, `ON#application#`*app* or `ON#environment#`*app/env* | `brake` | `put_brake`; `lift_brake` deletes it |
//! | queue for AWS's API rate limits | `ROW` | `ROW` | `until_ms` | `acquire_slot` |
//! | log of the brakes | `BRAKES` | `LOG#`*when*`#set#` or `#unset#`*hash* | `record` | with the brake, in one transaction |
//! | thread of a release | `POSTED#app/svc@sha256:…` | `THREAD#`*channel* | `post`, `expires_at`: 90 days | `put_post` |
//! | message of a deployment | `POSTED#app/svc/env` | `DEPLOYMENT#`*number*`#`*channel* | `post`, `expires_at`: 90 days | `put_post` |
//! | application | `APPLICATIONS` | *app* | | apply |
//! | generation of a policy | `POLICY#`*app* | `GENERATION` | `generation` | apply |
//! | claim on a resource | `CLAIM#`*kind*`#`*resource* | *app/svc/env* | `version` | apply |
//! | watched alarm | `WATCH#alarm#`*name* | *app/svc/env* | `version` | apply |
//! | watched service | `WATCH#ecs#`*cluster*`#`*service* | *app/svc/env* | `version` | apply |
//! | watched repository | `WATCH#repository#`*name* | *app/svc* | `version` | apply |
//!
//! Numbers in keys are zero-padded and times are milliseconds since 1970, so that keys sort by value. `due_pk` is `DUE#0` to
//! `DUE#7`, by a hash of the target, so that no single key takes all writes. `due_sk` is the time it is due.
//!
//! **Commands** are in a partition of their own, so that a role can be allowed to request and nothing else: IAM restricts
//! DynamoDB access by partition key.
//!
//! **Exclusivity** is the state's `lease_id`. No clock removes it: the holder releases it, or a driver that names it takes
//! over after waiting longer than `lease_s` seconds since first seeing it.
//! A commit carries the lease and the revision as conditions, in one transaction with everything it writes.
//!
//! **Lost responses.** The SDK retries a call whose response was lost. A transaction is retried under the same token, so that
//! it is never written, or refused, twice; [`acquire_lease`](engine::Ledger::acquire_lease) always accepts its own lease.

mod api_queue;
mod brakes;
mod deliveries;
mod intake;
mod item;
mod keys;
mod leases;
mod policies;
mod posts;
mod queries;
mod table;

use crate::config::{BALANCER_READS, Clients, SettingError, TABLE, rate, setting};
use engine::{
    AppliedPolicy, Claimed, Commit, Deliveries, DeliveryClaim, DeliveryId, LeaseId, LeaseOutcome, LeaseRequest, Ledger,
    LedgerError, OverdueTarget, PostedMessage, PostedMessageKey, PostedMessages, Retry, RetryRegistration,
    TagInventory, WatchedResource,
};
use rollout::brake::{Brake, BrakeRecord, Lifted, Scope};
use rollout::deployment::DeploymentRecord;
use rollout::deployment::QueuePosition;
use rollout::journal::JournalEntry;
use rollout::policy::Policy;
use rollout::rate_limiter::{ApiCost, READS_PER_SECOND};
use rollout::target::TargetState;
use rollout::{Command, Name, Release, ReleaseId, TargetId, Timestamp};
use table::Table;

/// The index of due items: partition key `due_pk`, sort key `due_sk`, keys only.
pub const DUE_INDEX: &str = "due";

/// All deployment state, in one DynamoDB table.
#[derive(Debug, Clone)]
pub struct DynamoLedger {
    table: Table,
    /// Load balancer read calls per second that deployments in the API queue share.
    reads_a_second: f64,
}

impl DynamoLedger {
    /// The ledger in the table of this name. Makes no call to AWS yet.
    #[must_use]
    pub fn new(clients: Clients, table: impl Into<String>) -> Self {
        Self { table: Table::new(clients, table.into()), reads_a_second: READS_PER_SECOND }
    }

    /// The ledger in the table that the environment variables name.
    ///
    /// # Errors
    /// [`SettingError`] where no table is named, or `BalancerReads` is not a rate.
    pub fn from_environment(clients: Clients) -> Result<Self, SettingError> {
        let ledger = Self::new(clients, setting(TABLE)?);
        let reads_a_second = rate(BALANCER_READS)?.unwrap_or(ledger.reads_a_second);
        Ok(Self { reads_a_second, ..ledger })
    }
}

impl Ledger for DynamoLedger {
    async fn acquire_lease(&self, target: &TargetId, claim: &LeaseRequest) -> Result<LeaseOutcome, LedgerError> {
        leases::acquire_lease(&self.table, target, claim).await
    }

    async fn commands(&self, target: &TargetId) -> Result<Vec<Command>, LedgerError> {
        leases::commands(&self.table, target).await
    }

    async fn commit(
        &self,
        target: &TargetId,
        lease: &LeaseId,
        revision: u64,
        commit: &Commit<'_>,
    ) -> Result<u64, LedgerError> {
        leases::commit(&self.table, target, lease, revision, commit).await
    }

    async fn acquire_slot(&self, api_cost: &ApiCost, now: Timestamp) -> Result<QueuePosition, LedgerError> {
        api_queue::acquire_slot(&self.table, api_cost, now, self.reads_a_second).await
    }

    async fn register_retry(&self, target: &TargetId, retry: &Retry<'_>) -> Result<RetryRegistration, LedgerError> {
        leases::register_retry(&self.table, target, retry).await
    }

    async fn release(&self, target: &TargetId, lease: &LeaseId) -> Result<(), LedgerError> {
        leases::release(&self.table, target, lease).await
    }

    async fn put_release(&self, release: &Release) -> Result<Option<Release>, LedgerError> {
        intake::put_release(&self.table, release).await
    }

    async fn tag_inventory(&self, application: &Name, service: &Name) -> Result<Option<TagInventory>, LedgerError> {
        intake::tag_inventory(&self.table, application, service).await
    }

    async fn put_tag_inventory(
        &self,
        application: &Name,
        service: &Name,
        seen: &TagInventory,
    ) -> Result<(), LedgerError> {
        intake::put_tag_inventory(&self.table, application, service, seen).await
    }

    async fn put_command(&self, command: &Command) -> Result<bool, LedgerError> {
        intake::put_command(&self.table, command).await
    }

    async fn targets_watching(&self, watch: &WatchedResource) -> Result<Vec<TargetId>, LedgerError> {
        intake::targets_watching(&self.table, watch).await
    }

    async fn services(&self, repository: &str) -> Result<Vec<(Name, Name)>, LedgerError> {
        intake::services(&self.table, repository).await
    }

    async fn overdue(&self, now: Timestamp, limit: usize) -> Result<Vec<OverdueTarget>, LedgerError> {
        intake::overdue(&self.table, now, limit).await
    }

    async fn apply(&self, policy: &Policy, text: &str, at: Timestamp, by: &str) -> Result<u64, LedgerError> {
        policies::apply(&self.table, policy, text, at, by).await
    }

    async fn policy(&self, application: &Name) -> Result<Option<AppliedPolicy>, LedgerError> {
        policies::current(&self.table, application).await
    }

    async fn applications(&self) -> Result<Vec<Name>, LedgerError> {
        policies::applications(&self.table).await
    }

    async fn brakes(&self) -> Result<Vec<Brake>, LedgerError> {
        brakes::active(&self.table).await
    }

    async fn put_brake(&self, brake: &Brake) -> Result<(), LedgerError> {
        brakes::put(&self.table, brake).await
    }

    async fn lift_brake(&self, scope: &Scope, lifted: &Lifted) -> Result<Option<Brake>, LedgerError> {
        brakes::lift(&self.table, scope, lifted).await
    }

    async fn brake_log(&self, limit: usize) -> Result<Vec<BrakeRecord>, LedgerError> {
        brakes::log(&self.table, limit).await
    }

    async fn state(&self, target: &TargetId) -> Result<Option<TargetState>, LedgerError> {
        queries::state(&self.table, target).await
    }

    async fn history(&self, target: &TargetId, limit: usize) -> Result<Vec<DeploymentRecord>, LedgerError> {
        queries::history(&self.table, target, limit).await
    }

    async fn journal(&self, target: &TargetId, after: u64, limit: usize) -> Result<Vec<JournalEntry>, LedgerError> {
        queries::journal(&self.table, target, after, limit).await
    }

    async fn journal_tail(&self, target: &TargetId, limit: usize) -> Result<Vec<JournalEntry>, LedgerError> {
        queries::journal_tail(&self.table, target, limit).await
    }

    async fn releases(&self, application: &Name, service: &Name, limit: usize) -> Result<Vec<Release>, LedgerError> {
        queries::releases(&self.table, application, service, limit).await
    }

    async fn release_by_id(&self, id: &ReleaseId) -> Result<Option<Release>, LedgerError> {
        queries::release_by_id(&self.table, id).await
    }
}

impl Deliveries for DynamoLedger {
    async fn claim(&self, delivery: &DeliveryId, hold: &DeliveryClaim) -> Result<Claimed, LedgerError> {
        deliveries::claim(&self.table, delivery, hold).await
    }

    async fn done(&self, delivery: &DeliveryId, now: Timestamp) -> Result<(), LedgerError> {
        deliveries::done(&self.table, delivery, now).await
    }

    async fn release_claim(&self, delivery: &DeliveryId, by: &LeaseId) -> Result<(), LedgerError> {
        deliveries::release_claim(&self.table, delivery, by).await
    }
}

impl PostedMessages for DynamoLedger {
    async fn post(&self, key: &PostedMessageKey) -> Result<Option<PostedMessage>, LedgerError> {
        posts::get(&self.table, key).await
    }

    async fn put_post(&self, key: &PostedMessageKey, post: &PostedMessage, now: Timestamp) -> Result<(), LedgerError> {
        posts::put(&self.table, key, post, now).await
    }
}
