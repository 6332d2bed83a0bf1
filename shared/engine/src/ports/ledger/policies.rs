//! Policies in force.

use super::LedgerError;
use rollout::policy::Policy;
use rollout::{Name, Timestamp};
use serde::{Deserialize, Serialize};
use std::future::Future;

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

/// Reads policies.
pub trait Policies: Sync {
    /// The current policy of an application.
    fn policy(&self, application: &Name) -> impl Future<Output = Result<Option<AppliedPolicy>, LedgerError>> + Send;
    /// The names of all applications that have a policy.
    fn applications(&self) -> impl Future<Output = Result<Vec<Name>, LedgerError>> + Send;
}
