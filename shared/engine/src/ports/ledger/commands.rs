//! Commands to targets.

use super::LedgerError;
use rollout::{Command, TargetId};
use std::future::Future;

/// Queues commands for targets, and lists those that are pending. A commit consumes them ([`Commit`](super::Commit)).
pub trait Commands: Sync {
    /// Writes a command unless one with its ID was written to this target within the last 30 days; returns whether it
    /// was new. The command is due at once: if its wake is lost, the sweeper wakes the target.
    fn put_command(&self, command: &Command) -> impl Future<Output = Result<bool, LedgerError>> + Send;
    /// Commands that are not consumed, oldest first, at most 50.
    fn commands(&self, target: &TargetId) -> impl Future<Output = Result<Vec<Command>, LedgerError>> + Send;
}
