//! The ledger on DynamoDB: one table, every question answered by key, nothing ever scanned.
//!
//! The table has the text keys `pk` and `sk`, and one index `due` with the text keys `due_pk` and `due_sk` that
//! projects keys only. Its time to live is on `expires_at` (seconds since 1970). What people would call a record is
//! one JSON text in one attribute; beside it stand only the attributes that conditions and indexes need.
//!
//! | item | `pk` | `sk` | attributes | written by |
//! |---|---|---|---|---|
//! | state of a target | `TARGET#app/svc/env` | `STATE` | `state`, `format`, `revision`; while it is held: `lease_id`, `leased_at`, `lease_s`; while a wake is due: `due_pk`, `due_sk` | begin, commit, release |
//! | command that waits | `COMMANDS#app/svc/env` | `INBOX#`*asked at*`#`*id* | `command`, `command_id`, `due_pk`, `due_sk` | `put_command`; commit takes it away |
//! | command that was seen | `COMMANDS#app/svc/env` | `COMMAND#`*id* | `expires_at`: 30 days after it was asked | `put_command` |
//! | deployment | `TARGET#app/svc/env` | `DEPLOYMENT#`*number* | `deployment` | commit |
//! | journal entry | `TARGET#app/svc/env` | `JOURNAL#`*sequence* | `entry` | commit; never written over |
//! | entry that is told | `NOTIFIED#app/svc/env` | *sequence*`#`*channel* | `expires_at`; while it is under way: `claimed_by`, `claimed_until`; then `done_at` | deliveries |
//! | release | `RELEASE#app/svc` | `DIGEST#sha256:…` | `release` | `put_release` |
//! | release by age | `RELEASE#app/svc` | `PUSHED#`*pushed at*`#sha256:…` | `release` | `put_release` |
//! | tags of a service's repository, as they were last compared | `RELEASE#app/svc` | `REGISTRY` | `seen` | `put_tags_seen` |
//! | policy in force | `POLICY#app` | `CURRENT` | `applied`, `version` | apply |
//! | every policy | `POLICY#app` | `VERSION#`*number* | `applied`, `version` | apply; never written over |
//! | brake that is on | `BRAKES` | `ON#everything`, `ON#application#`*app* or `ON#environment#`*app/env* | `brake` | `put_brake`; `lift_brake` takes it away |
//! | the row before AWS's API budgets | `ROW` | `ROW` | `until_ms` | `take_place` |
//! | what was done about a brake | `BRAKES` | `LOG#`*when*`#set#` or `#unset#`*hash* | `record` | with the brake, in one transaction |
//! | thread of a release | `POSTED#app/svc@sha256:…` | `THREAD#`*channel* | `post`, `expires_at`: 90 days | `put_post` |
//! | message of a deployment | `POSTED#app/svc/env` | `DEPLOYMENT#`*number*`#`*channel* | `post`, `expires_at`: 90 days | `put_post` |
//! | application | `APPLICATIONS` | *app* | | apply |
//! | generation of a policy | `POLICY#`*app* | `GENERATION` | `generation` | apply |
//! | claim on a resource | `CLAIM#`*kind*`#`*resource* | *app/svc/env* | `version` | apply |
//! | watched alarm | `WATCH#alarm#`*name* | *app/svc/env* | `version` | apply |
//! | watched service | `WATCH#ecs#`*cluster*`#`*service* | *app/svc/env* | `version` | apply |
//! | watched repository | `WATCH#repository#`*name* | *app/svc* | `version` | apply |
//!
//! Numbers in keys are padded with zeros and times are milliseconds since 1970, so that the order of keys is theirs.
//! `due_pk` is `DUE#0` to `DUE#7`, by a hash of the target: no single key takes all writes. `due_sk` is when.
//!
//! **Commands** lie in a partition of their own, so that a role can be given the right to ask and no other: permissions go
//! by partition keys.
//!
//! **Exclusivity** is the state's `lease_id`. No clock takes it away: it is given back, or stolen by whoever names it,
//! having waited for longer than `lease_s` seconds since they met it.
//! A commit carries the lease and the revision as conditions, in one transaction with everything it writes.
//!
//! **Lost answers.** The SDK repeats a call whose answer was lost. A transaction is repeated under one token, so that
//! it is never written, or refused, twice; [`begin`](engine::Ledger::begin) takes its own lease for free.

mod brakes;
mod deliveries;
mod held;
mod intake;
mod item;
mod keys;
mod policies;
mod posts;
mod questions;
mod row;
mod table;

use crate::config::{BALANCER_READS, BadSetting, Clients, TABLE, rate, setting};
use engine::{
    Applied, Begin, Claim, Claimed, Commit, Deliveries, DeliveryId, Hold, LeaseId, Ledger, LedgerError, Overdue, Post,
    PostKey, Posts, Retry, RetryNoted, TagsSeen, Watch,
};
use rollout::brake::{Brake, BrakeRecord, Lifted, Scope};
use rollout::journal::JournalEntry;
use rollout::pace::{Place, Price, READS_A_SECOND};
use rollout::policy::Policy;
use rollout::target::{DeploymentRecord, TargetState};
use rollout::{Command, Name, Release, ReleaseId, TargetId, Timestamp};
use table::Table;

/// The index of what is due: partition key `due_pk`, sort key `due_sk`, keys only.
pub const DUE_INDEX: &str = "due";

/// All deployment state, in one DynamoDB table.
#[derive(Debug, Clone)]
pub struct DynamoLedger {
    table: Table,
    /// Reads of load balancers that are there for those in the row, a second.
    reads_a_second: f64,
}

impl DynamoLedger {
    /// The ledger in the table of this name. Nothing is asked of AWS yet.
    #[must_use]
    pub fn new(clients: Clients, table: impl Into<String>) -> Self {
        Self { table: Table::new(clients, table.into()), reads_a_second: READS_A_SECOND }
    }

    /// The ledger in the table that the environment names.
    ///
    /// # Errors
    /// [`BadSetting`] where it names none, or where `BalancerReads` is no rate.
    pub fn from_environment(clients: Clients) -> Result<Self, BadSetting> {
        let ledger = Self::new(clients, setting(TABLE)?);
        let reads_a_second = rate(BALANCER_READS)?.unwrap_or(ledger.reads_a_second);
        Ok(Self { reads_a_second, ..ledger })
    }
}

impl Ledger for DynamoLedger {
    async fn begin(&self, target: &TargetId, claim: &Claim) -> Result<Begin, LedgerError> {
        held::begin(&self.table, target, claim).await
    }

    async fn commands(&self, target: &TargetId) -> Result<Vec<Command>, LedgerError> {
        held::commands(&self.table, target).await
    }

    async fn commit(
        &self,
        target: &TargetId,
        lease: &LeaseId,
        revision: u64,
        commit: &Commit<'_>,
    ) -> Result<u64, LedgerError> {
        held::commit(&self.table, target, lease, revision, commit).await
    }

    async fn take_place(&self, price: &Price, now: Timestamp) -> Result<Place, LedgerError> {
        row::take_place(&self.table, price, now, self.reads_a_second).await
    }

    async fn note_retry(&self, target: &TargetId, retry: &Retry<'_>) -> Result<RetryNoted, LedgerError> {
        held::note_retry(&self.table, target, retry).await
    }

    async fn release(&self, target: &TargetId, lease: &LeaseId) -> Result<(), LedgerError> {
        held::release(&self.table, target, lease).await
    }

    async fn put_release(&self, release: &Release) -> Result<Option<Release>, LedgerError> {
        intake::put_release(&self.table, release).await
    }

    async fn tags_seen(&self, application: &Name, service: &Name) -> Result<Option<TagsSeen>, LedgerError> {
        intake::tags_seen(&self.table, application, service).await
    }

    async fn put_tags_seen(&self, application: &Name, service: &Name, seen: &TagsSeen) -> Result<(), LedgerError> {
        intake::put_tags_seen(&self.table, application, service, seen).await
    }

    async fn put_command(&self, command: &Command) -> Result<bool, LedgerError> {
        intake::put_command(&self.table, command).await
    }

    async fn targets_watching(&self, watch: &Watch) -> Result<Vec<TargetId>, LedgerError> {
        intake::targets_watching(&self.table, watch).await
    }

    async fn services(&self, repository: &str) -> Result<Vec<(Name, Name)>, LedgerError> {
        intake::services(&self.table, repository).await
    }

    async fn overdue(&self, now: Timestamp, limit: usize) -> Result<Vec<Overdue>, LedgerError> {
        intake::overdue(&self.table, now, limit).await
    }

    async fn apply(&self, policy: &Policy, text: &str, at: Timestamp, by: &str) -> Result<u64, LedgerError> {
        policies::apply(&self.table, policy, text, at, by).await
    }

    async fn policy(&self, application: &Name) -> Result<Option<Applied>, LedgerError> {
        policies::current(&self.table, application).await
    }

    async fn applications(&self) -> Result<Vec<Name>, LedgerError> {
        policies::applications(&self.table).await
    }

    async fn brakes(&self) -> Result<Vec<Brake>, LedgerError> {
        brakes::on(&self.table).await
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
        questions::state(&self.table, target).await
    }

    async fn history(&self, target: &TargetId, limit: usize) -> Result<Vec<DeploymentRecord>, LedgerError> {
        questions::history(&self.table, target, limit).await
    }

    async fn journal(&self, target: &TargetId, after: u64, limit: usize) -> Result<Vec<JournalEntry>, LedgerError> {
        questions::journal(&self.table, target, after, limit).await
    }

    async fn journal_tail(&self, target: &TargetId, limit: usize) -> Result<Vec<JournalEntry>, LedgerError> {
        questions::journal_tail(&self.table, target, limit).await
    }

    async fn releases(&self, application: &Name, service: &Name, limit: usize) -> Result<Vec<Release>, LedgerError> {
        questions::releases(&self.table, application, service, limit).await
    }

    async fn release_by_id(&self, id: &ReleaseId) -> Result<Option<Release>, LedgerError> {
        questions::release_by_id(&self.table, id).await
    }
}

impl Deliveries for DynamoLedger {
    async fn claim(&self, delivery: &DeliveryId, hold: &Hold) -> Result<Claimed, LedgerError> {
        deliveries::claim(&self.table, delivery, hold).await
    }

    async fn done(&self, delivery: &DeliveryId, now: Timestamp) -> Result<(), LedgerError> {
        deliveries::done(&self.table, delivery, now).await
    }

    async fn give_back(&self, delivery: &DeliveryId, by: &LeaseId) -> Result<(), LedgerError> {
        deliveries::give_back(&self.table, delivery, by).await
    }
}

impl Posts for DynamoLedger {
    async fn post(&self, key: &PostKey) -> Result<Option<Post>, LedgerError> {
        posts::get(&self.table, key).await
    }

    async fn put_post(&self, key: &PostKey, post: &Post, now: Timestamp) -> Result<(), LedgerError> {
        posts::put(&self.table, key, post, now).await
    }
}
