//! The ledger: all deployment state, divided by what is read or written, so that each function is bound to the traits it needs.
//!
//! | module | what it has |
//! |---|---|
//! | `leases` | [`Leases`]: the driver writes a target |
//! | `commands` | [`Commands`]: instructions to targets |
//! | `target_index` | [`TargetIndex`]: the targets that an event or the sweep is about |
//! | `releases` | [`Releases`] and [`ReleaseIntake`] |
//! | `policies` | [`Policies`] in force |
//! | `brakes` | [`Brakes`] and their log |
//! | `targets` | [`Targets`]: states, histories and journals, read without a lease |
//! | `administration` | [`Administration`]: what operators write |

mod administration;
mod brakes;
mod commands;
mod leases;
mod policies;
mod releases;
mod target_index;
mod targets;

pub use administration::Administration;
pub use brakes::Brakes;
pub use commands::Commands;
pub use leases::{
    Commit, LeaseId, LeaseOutcome, LeaseRequest, LeasedTarget, Leases, LockChange, Retry, RetryCounts,
    RetryRegistration,
};
pub use policies::{AppliedPolicy, Policies};
pub use releases::{ReleaseIntake, Releases, TagInventory};
pub use target_index::{OverdueTarget, TargetIndex, WatchedResource};
pub use targets::Targets;

use rollout::TargetId;
use rollout::resources::Resource;

/// Why a ledger operation failed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A concurrent write: the lease belongs to another pass, or the revision changed. Start over, or stop.
    #[error("somebody else has written to {item} since it was read")]
    Conflict {
        /// The item that was to be written.
        item: String,
    },
    /// Another target holds the lock of the environment. Nothing was written.
    #[error("another service of {environment} is being deployed")]
    Locked {
        /// `application/environment`
        environment: String,
    },
    /// The ledger was unreachable or too busy. The write may or may not have happened.
    #[error("the ledger did not answer while {doing}: {reason}")]
    Unavailable {
        /// The operation that failed.
        doing: &'static str,
        /// Free text for people.
        reason: String,
    },
    /// Refused permanently: access denied, no such table, a write larger than one transaction allows. Nothing was written.
    #[error("the ledger refused {doing}: {reason}")]
    Refused {
        /// The operation that failed.
        doing: &'static str,
        /// Free text for people.
        reason: String,
    },
    /// Policies of other applications name the same resources. Nothing was applied, and a retry fails while they do.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    ResourceConflict(Vec<ClaimedResource>),
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

/// All deployment state. Implementations must not scan: every query is answered by key.
///
/// Divided by what is read or written, so that each function is bound to the traits it needs, as the functions' IAM policies in
/// `template.yaml` are. This whole is for what needs all of it, such as the tests of an implementation.
///
/// | trait | operations | functions |
/// |---|---|---|
/// | [`Leases`] | write a target under a lease; reserve AWS API calls | rollout-driver |
/// | [`Commands`] | write commands, list those that are pending | all but signal-received and notifier |
/// | [`TargetIndex`] | find what watches a resource, and what is overdue | image-pushed, signal-received, sweeper |
/// | [`ReleaseIntake`] | write releases, and the tags that were compared | image-pushed, sweeper |
/// | [`Releases`] | read releases | image-pushed, sweeper, notifier, operations, promotions |
/// | [`Policies`] | read policies | all but signal-received |
/// | [`Brakes`] | read brakes and their log | rollout-driver, operations, promotions |
/// | [`Targets`] | read states, histories, journals | rollout-driver, notifier, operations, promotions, approvals |
/// | [`Administration`] | apply policies, set and lift brakes | operations |
pub trait Ledger:
    Administration + Brakes + Commands + Leases + Policies + ReleaseIntake + Releases + TargetIndex + Targets
{
}

impl<T> Ledger for T where
    T: Administration + Brakes + Commands + Leases + Policies + ReleaseIntake + Releases + TargetIndex + Targets
{
}
