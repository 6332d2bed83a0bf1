//! What is to be deployed: immutable, by content.

use crate::names::{Name, ReleaseId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// An image that became deployable: pinned by digest, with where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Service and digest: the same content is the same release.
    pub id: ReleaseId,
    /// The image as a task definition names it: `registry/repository@sha256:…`.
    pub image: String,
    /// The tag that it was first seen under; a label for people, never used to pull.
    pub tag: String,
    /// When the registry says it was pushed.
    pub pushed_at: Timestamp,
    /// What is known of its making.
    pub provenance: Provenance,
}

impl Release {
    /// The service that it is a release of.
    #[must_use]
    pub fn service(&self) -> &Name {
        &self.id.service
    }
}

/// Where a release comes from, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provenance {
    /// The commit that it was built from.
    pub commit: Option<String>,
    /// The branch or tag that it was built from.
    pub git_ref: Option<String>,
    /// The CI run that built it.
    pub run: Option<String>,
    /// Who started that run.
    pub actor: Option<String>,
}
