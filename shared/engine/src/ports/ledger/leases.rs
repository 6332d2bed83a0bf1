//! Writing a target: leases, commits, and the shared budget of AWS API calls.

use super::LedgerError;
use crate::ports::WakeKind;
use rollout::deployment::{DeploymentRecord, QueuePosition};
use rollout::journal::JournalEntry;
use rollout::rate_limiter::ApiCost;
use rollout::target::TargetState;
use rollout::{CommandId, Seconds, TargetId, Timestamp};
use serde::{Deserialize, Serialize};
use std::future::Future;

/// Identity of one lease of a target: unique for each pass.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(pub String);

/// A request for a target's lease.
#[derive(Debug, Clone)]
pub struct LeaseRequest {
    /// Identity of the new lease.
    pub lease: LeaseId,
    /// Time of the request.
    pub now: Timestamp,
    /// Maximum duration of the lease, from `now`: the invocation ends then.
    pub lasts: Seconds,
    /// Steal this lease if it is still the target's: its holder has exceeded the duration of its lease.
    pub steal: Option<LeaseId>,
}

/// The response to a [`LeaseRequest`].
#[derive(Debug)]
pub enum LeaseOutcome {
    /// Acquired; contains the stored state.
    Granted(Box<LeasedTarget>),
    /// Another pass holds the lease.
    Held {
        /// The lease of the holder.
        by: LeaseId,
        /// Maximum duration of the holder's lease. A duration and not an instant: after waiting this long from meeting
        /// the holder, the lease has ended, whatever the difference between two clocks.
        lasts: Seconds,
        /// Retry counts of the wakes that are retried for this holder.
        retries: RetryCounts,
    },
}

/// Of all wakes that meet one holder, one per kind is retried. This is how often each of these has been retried; `None`: there is
/// none of that kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryCounts {
    /// Of [`WakeKind::Normal`].
    pub normal: Option<u8>,
    /// Of [`WakeKind::Urgent`].
    pub urgent: Option<u8>,
    /// Of [`WakeKind::Idle`].
    pub idle: Option<u8>,
}

impl RetryCounts {
    /// The retry count of one kind.
    #[must_use]
    pub fn of(self, kind: WakeKind) -> Option<u8> {
        match kind {
            WakeKind::Normal => self.normal,
            WakeKind::Urgent => self.urgent,
            WakeKind::Idle => self.idle,
        }
    }
}

/// A wake that found its target held and is to be retried.
#[derive(Debug, Clone, Copy)]
pub struct Retry<'a> {
    /// The holder's lease.
    pub holder: &'a LeaseId,
    /// Kind of the wake.
    pub kind: WakeKind,
    /// Number of retries so far for this holder.
    pub retries: u8,
}

/// The response to a [`Retry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryRegistration {
    /// This wake is the one that is retried.
    Accepted,
    /// Another wake of its kind is retried instead.
    AlreadyScheduled,
    /// The lease is no longer held by that holder.
    LeaseReleased,
}

/// A target whose lease is held.
#[derive(Debug)]
pub struct LeasedTarget {
    /// The stored state; a new state for a target that was never written.
    pub state: TargetState,
    /// Incremented by every commit; a commit names the revision that it was decided on.
    pub revision: u64,
    /// The lease was taken over from a holder that died. For metrics only; no decision depends on it.
    pub stolen: bool,
}

/// The writes of a decision; applied atomically.
#[derive(Debug)]
pub struct Commit<'a> {
    /// The next state.
    pub state: &'a TargetState,
    /// Journal entries. Sequences continue the target's; an entry is never overwritten.
    pub journal: &'a [JournalEntry],
    /// Deployments to write into the history, by number.
    pub history: &'a [DeploymentRecord],
    /// Commands that are consumed.
    pub consumed: &'a [CommandId],
    /// When the sweeper shall wake the target if nothing else has; `None`: never, since no wake is scheduled.
    pub overdue_at: Option<Timestamp>,
    /// Release the lease with this write.
    pub release_lease: bool,
    /// The change of the lock of the target's environment; none: it stays as it is.
    pub lock: Option<LockChange>,
}

/// A change of the lock of an environment that deploys one service at a time. There is one lock for each environment of
/// an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockChange {
    /// The target takes it, or has it already.
    Take {
        /// Number of the target's deployment, for people who read the ledger.
        deployment: u64,
    },
    /// The target gives it back.
    Release,
}

impl LockChange {
    /// The change between two states of a target; none: there is none.
    #[must_use]
    pub fn between(before: &TargetState, after: &TargetState) -> Option<Self> {
        match (before.lock_holder(), after.lock_holder()) {
            (before, Some(deployment)) if before != Some(deployment) => Some(Self::Take { deployment }),
            (Some(_), None) => Some(Self::Release),
            _ => None,
        }
    }
}

/// Writes the state, history and journal of targets: one writer at a time, under a lease.
pub trait Leases: Sync {
    /// Acquires the target's lease if it is free or is the one that the request may steal, and reads the state: one
    /// round trip.
    fn acquire_lease(
        &self,
        target: &TargetId,
        claim: &LeaseRequest,
    ) -> impl Future<Output = Result<LeaseOutcome, LedgerError>> + Send;
    /// Writes a decision if the lease and the revision still hold; returns the new revision.
    ///
    /// Writing the same commit twice (a lost response) is a [`LedgerError::Conflict`] the second time, never a second
    /// write. [`LedgerError::Locked`], and nothing is written, if the commit takes the lock of an environment that
    /// another target holds.
    fn commit(
        &self,
        target: &TargetId,
        lease: &LeaseId,
        revision: u64,
        commit: &Commit<'_>,
    ) -> impl Future<Output = Result<u64, LedgerError>> + Send;
    /// Reserves AWS API calls in the budget that all targets share; returns from when they may be made. An unused reservation is
    /// not returned.
    fn reserve_api_calls(
        &self,
        api_cost: &ApiCost,
        now: Timestamp,
    ) -> impl Future<Output = Result<QueuePosition, LedgerError>> + Send;
    /// Registers the retry of a wake that found the target held, unless another wake of its kind is retried: of all
    /// wakes that meet one holder, one per kind is retried, and each of its retries happens once.
    fn register_retry(
        &self,
        target: &TargetId,
        retry: &Retry<'_>,
    ) -> impl Future<Output = Result<RetryRegistration, LedgerError>> + Send;
    /// Releases the lease without any other write. No error if it belongs to another pass by now.
    fn release(&self, target: &TargetId, lease: &LeaseId) -> impl Future<Output = Result<(), LedgerError>> + Send;
}
