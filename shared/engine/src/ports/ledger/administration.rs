//! What operators put in force: policies and brakes.

use super::LedgerError;
use rollout::Timestamp;
use rollout::brake::{Brake, Lifted, Scope};
use rollout::policy::Policy;
use std::future::Future;

/// Applies policies, and sets and lifts brakes.
pub trait Administration: Sync {
    /// Writes a policy as the next version with its index entries for watched resources, and removes those of resources that it no
    /// longer names; returns the version. A text equal to the current one is not written again.
    ///
    /// [`LedgerError::ResourceConflict`] if another application's policy names a resource of this one, even under concurrent
    /// applies: of two that name the same resource, one is refused.
    fn apply(
        &self,
        policy: &Policy,
        text: &str,
        at: Timestamp,
        by: &str,
    ) -> impl Future<Output = Result<u64, LedgerError>> + Send;
    /// Sets a brake, replaces the one of the same scope, and records that in the log.
    fn put_brake(&self, brake: &Brake) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Removes the brake of a scope and records who did it; returns the brake, or `None` if there was none.
    fn lift_brake(
        &self,
        scope: &Scope,
        lifted: &Lifted,
    ) -> impl Future<Output = Result<Option<Brake>, LedgerError>> + Send;
}
