//! The ledger: all state, and the leases that control writing.

use rollout::brake::{Brake, BrakeRecord, Lifted, Scope};
use rollout::deployment::{DeploymentRecord, QueuePosition};
use rollout::journal::JournalEntry;
use rollout::policy::{Policy, Resource};
use rollout::rate_limiter::ApiCost;
use rollout::target::TargetState;
use rollout::{Command, CommandId, Name, Release, ReleaseId, Seconds, TargetId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::future::Future;

/// Identity of one lease of a target: unique for each pass.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(pub String);

/// Why a ledger operation failed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A concurrent write: the lease belongs to another pass, or the revision changed. Start over, or stop.
    #[error("somebody else has written to {target} since it was read")]
    Conflict {
        /// The item that was to be written.
        target: String,
    },
    /// The ledger was unreachable or too busy. The write may or may not have happened.
    #[error("the ledger did not answer while {doing}: {reason}")]
    Unavailable {
        /// The operation that failed.
        doing: &'static str,
        /// Free text for people.
        reason: String,
    },
    /// Refused permanently: access denied, no such table, more than one write can hold. Nothing was written.
    #[error("the ledger refused {doing}: {reason}")]
    Refused {
        /// The operation that failed.
        doing: &'static str,
        /// Free text for people.
        reason: String,
    },
    /// Policies of other applications name the same resources. Nothing was applied, and a retry fails while they do.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Claimed(Vec<ClaimedResource>),
    /// A stored item cannot be read: a newer format, or damage. No attempt is made to interpret it.
    #[error("what the ledger holds of {what} cannot be read: {reason}")]
    Unreadable {
        /// The item that cannot be read.
        what: String,
        /// Free text for people.
        reason: String,
    },
}

/// A resource that a policy may not name because another application's policy does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimedResource {
    /// The resource that both name.
    pub resource: Resource,
    /// The target of the policy to apply.
    pub wanted_by: TargetId,
    /// The target that already has the resource.
    pub claimed_by: TargetId,
}

impl std::fmt::Display for ClaimedResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { resource, wanted_by, claimed_by } = self;
        write!(f, "{resource}, which {wanted_by} names, belongs to {claimed_by} already")
    }
}

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
        /// Maximum duration of the holder's lease. A duration and not an instant: after waiting this long from meeting the
        /// holder, the lease has ended, whatever the difference between two clocks.
        lasts: Seconds,
        /// Retry counts of the wakes that are retried for this holder.
        retries: RetryCounts,
    },
}

/// Per kind, the retry count of the wake that is retried on behalf of all others of its kind while one holder has the target;
/// `None`: there is no such wake yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryCounts {
    /// Of [`WakeKind::Usual`].
    pub usual: Option<u8>,
    /// Of [`WakeKind::Urgent`].
    pub urgent: Option<u8>,
    /// Of [`WakeKind::AtRest`].
    pub at_rest: Option<u8>,
}

impl RetryCounts {
    /// The retry count of one kind.
    #[must_use]
    pub fn of(self, kind: WakeKind) -> Option<u8> {
        match kind {
            WakeKind::Usual => self.usual,
            WakeKind::Urgent => self.urgent,
            WakeKind::AtRest => self.at_rest,
        }
    }
}

/// What a wake requests: a wake that requests less is not retried on behalf of one that requests more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WakeKind {
    /// An observation of a running deployment.
    Usual,
    /// The same, immediately.
    Urgent,
    /// An observation even if nothing is deployed.
    AtRest,
}

impl WakeKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Usual, Self::Urgent, Self::AtRest];

    /// The name in snake case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::Urgent => "urgent",
            Self::AtRest => "at_rest",
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
    pub tries: u8,
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

/// A target whose wake is overdue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OverdueTarget {
    /// When its earliest wake or command became due.
    pub since: Timestamp,
    /// The target's identity.
    pub target: TargetId,
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
    /// When the sweeper shall wake the target if nothing else does; `None`: the target is idle.
    pub due_at: Option<Timestamp>,
    /// Release the lease with this write.
    pub release_lease: bool,
}

/// A policy as the ledger holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedPolicy {
    /// Starts at 1 for each application and increases.
    pub version: u64,
    /// The validated policy.
    pub policy: Policy,
    /// The text of the file as it was applied.
    pub text: String,
    /// When it was applied.
    pub at: Timestamp,
    /// The person who applied it, as written by the identity's issuer.
    pub by: String,
}

/// The tags that a repository had when it was last compared with the ledger: a tag not among them was put there since, whatever
/// the age of its image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagInventory {
    /// The registry and repository.
    pub source: String,
    /// When the comparison started.
    pub at: Timestamp,
    /// Images pushed before this are not included; `None`: all are.
    pub since: Option<Timestamp>,
    /// A 64-bit hash for each pair of tag and image digest.
    pub tags: BTreeSet<u64>,
}

/// An external resource that targets or services watch: named by an event and used as lookup key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WatchedResource {
    /// A CloudWatch alarm, by name.
    Alarm(String),
    /// An ECS service: name of the cluster, name of the service.
    EcsService(String, String),
    /// An ECR repository, by name.
    Repository(String),
    /// A listener rule, or a listener whose default action is meant, by ARN.
    Rule(String),
}

/// All deployment state. Implementations must not scan: every query is answered by key.
pub trait Ledger: Sync {
    // --- the drive loop ---

    /// Acquires the target's lease if it is free or is the one that the request may steal, and reads the state: one round trip.
    fn acquire_lease(
        &self,
        target: &TargetId,
        claim: &LeaseRequest,
    ) -> impl Future<Output = Result<LeaseOutcome, LedgerError>> + Send;
    /// Commands that are not consumed, oldest first, at most 50.
    fn commands(&self, target: &TargetId) -> impl Future<Output = Result<Vec<Command>, LedgerError>> + Send;
    /// Writes a decision if the lease and the revision still hold; returns the new revision.
    ///
    /// Writing the same commit twice (a lost response) is a [`LedgerError::Conflict`] the second time, never a second write.
    fn commit(
        &self,
        target: &TargetId,
        lease: &LeaseId,
        revision: u64,
        commit: &Commit<'_>,
    ) -> impl Future<Output = Result<u64, LedgerError>> + Send;
    /// Joins the rate limiter's queue for AWS API calls, which all targets share: returns the position, which belongs to the
    /// caller whether it is used or not.
    fn acquire_slot(
        &self,
        api_cost: &ApiCost,
        now: Timestamp,
    ) -> impl Future<Output = Result<QueuePosition, LedgerError>> + Send;
    /// Registers the retry of a wake that found the target held, unless another wake of its kind is retried: of all wakes that
    /// meet one holder, one per kind is retried, and each of its retries happens once.
    fn register_retry(
        &self,
        target: &TargetId,
        retry: &Retry<'_>,
    ) -> impl Future<Output = Result<RetryRegistration, LedgerError>> + Send;
    /// Releases the lease without any other write. No error if it belongs to another pass by now.
    fn release(&self, target: &TargetId, lease: &LeaseId) -> impl Future<Output = Result<(), LedgerError>> + Send;

    // --- intake ---

    /// Writes a release if it is new; otherwise merges it into the stored one ([`Release::merge`]): tags, and whether it was
    /// requested. Returns the previous record; `None`: it was new.
    fn put_release(&self, release: &Release) -> impl Future<Output = Result<Option<Release>, LedgerError>> + Send;
    /// The tags that the registry had for a service when it was last compared with the ledger; `None`: never compared.
    fn tag_inventory(
        &self,
        application: &Name,
        service: &Name,
    ) -> impl Future<Output = Result<Option<TagInventory>, LedgerError>> + Send;
    /// Replaces the tag inventory of the previous comparison.
    fn put_tag_inventory(
        &self,
        application: &Name,
        service: &Name,
        seen: &TagInventory,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Writes a command unless one with its ID was written to this target within the last 30 days; returns whether it was new.
    /// The command is due at once: if its wake is lost, the sweeper wakes the target.
    fn put_command(&self, command: &Command) -> impl Future<Output = Result<bool, LedgerError>> + Send;
    /// The targets that watch `watch`; none for a repository (see [`Ledger::services`]).
    fn targets_watching(
        &self,
        watch: &WatchedResource,
    ) -> impl Future<Output = Result<Vec<TargetId>, LedgerError>> + Send;
    /// The services (application, service) whose images come from `repository`.
    fn services(&self, repository: &str) -> impl Future<Output = Result<Vec<(Name, Name)>, LedgerError>> + Send;
    /// Targets with a wake or command due at `now` or before: the most overdue first, at most `limit`.
    fn overdue(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<OverdueTarget>, LedgerError>> + Send;

    // --- policy ---

    /// Writes a policy as the next version with its watches, and removes the watches of resources that it no longer names;
    /// returns the version. A text equal to the current one is not written again.
    ///
    /// [`LedgerError::Claimed`] if another application's policy names a resource of this one, even under concurrent applies: of
    /// two that name the same resource, one is refused.
    fn apply(
        &self,
        policy: &Policy,
        text: &str,
        at: Timestamp,
        by: &str,
    ) -> impl Future<Output = Result<u64, LedgerError>> + Send;
    /// The current policy of an application.
    fn policy(&self, application: &Name) -> impl Future<Output = Result<Option<AppliedPolicy>, LedgerError>> + Send;
    /// The names of all applications that have a policy.
    fn applications(&self) -> impl Future<Output = Result<Vec<Name>, LedgerError>> + Send;

    // --- brakes ---

    /// The brakes that are set, including expired ones.
    fn brakes(&self) -> impl Future<Output = Result<Vec<Brake>, LedgerError>> + Send;
    /// Sets a brake, replaces the one of the same scope, and records that in the log.
    fn put_brake(&self, brake: &Brake) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Removes the brake of a scope and records who did it; returns the brake, or `None` if there was none.
    fn lift_brake(
        &self,
        scope: &Scope,
        lifted: &Lifted,
    ) -> impl Future<Output = Result<Option<Brake>, LedgerError>> + Send;
    /// The log of brakes set and lifted, newest first.
    fn brake_log(&self, limit: usize) -> impl Future<Output = Result<Vec<BrakeRecord>, LedgerError>> + Send;

    // --- questions ---

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
    /// Releases of a service, newest push first.
    fn releases(
        &self,
        application: &Name,
        service: &Name,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Release>, LedgerError>> + Send;
    /// One release.
    fn release_by_id(&self, id: &ReleaseId) -> impl Future<Output = Result<Option<Release>, LedgerError>> + Send;
}
