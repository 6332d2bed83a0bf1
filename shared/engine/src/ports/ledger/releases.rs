//! Releases, and the tags that registries had.

use super::LedgerError;
use rollout::{Name, Release, ReleaseId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::future::Future;

/// The tags that a repository had when it was last compared with the ledger: a tag not among them was put there since,
/// whatever the age of its image.
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

/// Reads releases.
pub trait Releases: Sync {
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

/// Records releases as their images appear in a registry.
pub trait ReleaseIntake: Sync {
    /// Writes a release if it is new; otherwise merges it into the stored one ([`Release::merge`]): tags, and whether
    /// it was requested. Returns the previous record; `None`: it was new.
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
}
