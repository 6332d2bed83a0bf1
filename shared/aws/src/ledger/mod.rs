//! The ledger on DynamoDB: one table, every query answered by key, no scans.
//!
//! The table has the text keys `pk` and `sk`, and one index `due` with the text keys `due_pk` and `due_sk` that
//! projects keys only. The time-to-live attribute is `expires_at` (seconds since 1970). Each record is one JSON text in
//! one attribute; beside it are only the attributes that conditions and indexes need.
//!
//! | item | `pk` | `sk` | attributes | written by |
//! |---|---|---|---|---|
//! | state of a target | `TARGET#app/svc/env` | `STATE` | `state`, `format`, `revision`; while leased: `lease_id`, `leased_at`, `lease_s`; for each kind of wake that is retried: `retry_`*kind*`_for`, `retry_`*kind*`_tries`; while a wake is due: `due_pk`, `due_sk` | `acquire_lease`, `commit`, `register_retry`, `release` |
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
//! | queue for AWS's API rate limits | `API_QUEUE` | `API_QUEUE` | `until_ms` | `reserve_api_calls` |
//! | log of the brakes | `BRAKES` | `LOG#`*when*`#set#` or `#unset#`*hash* | `record` | with the brake, in one transaction |
//! | thread of a release | `POSTED#app/svc@sha256:…` | `THREAD#`*channel* | `post`, `expires_at`: 90 days | `record_posted_message` |
//! | message of a deployment | `POSTED#app/svc/env` | `DEPLOYMENT#`*number*`#`*channel* | `post`, `expires_at`: 90 days | `record_posted_message` |
//! | application | `APPLICATIONS` | *app* | | apply |
//! | generation of a policy | `POLICY#`*app* | `GENERATION` | `generation` | apply |
//! | claim on a resource | `CLAIM#`*kind*`#`*resource* | *app/svc/env* | `version` | apply |
//! | watched alarm | `WATCH#alarm#`*name* | *app/svc/env* | `version` | apply |
//! | watched service | `WATCH#ecs#`*cluster*`#`*service* | *app/svc/env* | `version` | apply |
//! | watched repository | `WATCH#repository#`*name* | *app/svc* | `version` | apply |
//!
//! [`keys`] alone builds and parses these. Numbers in keys are zero-padded and times are milliseconds since 1970, so
//! that keys sort by value. `due_pk` is `DUE#0` to `DUE#7`, by a hash of the target, so that no single key takes all
//! writes. `due_sk` is the time it is due.
//!
//! **Commands** are in a partition of their own, so that a role can be allowed to request and nothing else: IAM
//! restricts DynamoDB access by partition key.
//!
//! **Exclusivity** is the state's `lease_id`. The holder releases it, or another pass replaces it: the write is
//! conditional on exactly the `lease_id` to be replaced, which the pass has from a wake that was delayed by more than
//! `lease_s` since that lease was taken or met. No two clocks are compared. A commit carries the lease and the revision
//! as conditions, in one transaction with everything it writes.
//!
//! **Lost responses.** The SDK retries a call whose response was lost. A transaction is retried under the same token,
//! so that it is never written, or refused, twice; [`acquire_lease`](engine::Leases::acquire_lease) always accepts its
//! own lease.

mod api_queue;
mod brakes;
mod commands;
mod deliveries;
mod item;
pub mod keys;
mod leases;
mod policies;
mod posts;
mod releases;
mod table;
mod target_index;
mod targets;

use crate::config::{BALANCER_READS, Clients, SettingError, TABLE, rate, setting};
use engine::{Administration, LedgerError};
use rollout::Timestamp;
use rollout::brake::{Brake, Lifted, Scope};
use rollout::policy::Policy;
use rollout::rate_limiter::READS_PER_SECOND;
use table::Table;

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

impl Administration for DynamoLedger {
    async fn apply(&self, policy: &Policy, text: &str, at: Timestamp, by: &str) -> Result<u64, LedgerError> {
        policies::apply(&self.table, policy, text, at, by).await
    }

    async fn put_brake(&self, brake: &Brake) -> Result<(), LedgerError> {
        brakes::put(&self.table, brake).await
    }

    async fn lift_brake(&self, scope: &Scope, lifted: &Lifted) -> Result<Option<Brake>, LedgerError> {
        brakes::lift(&self.table, scope, lifted).await
    }
}
