//! Requests from GitHub Actions workflows: promote, deploy, hotfix, and status.
//!
//! The gateway has verified that the token is GitHub's, for this audience and not expired. That authenticates the workflow, but
//! authorizes nothing: any repository in the world gets such tokens. The event's claims are therefore [`UnverifiedClaims`], and
//! only the policy's grants turn them into a [`VerifiedCaller`]: for one permission, in one environment, with named services.
//!
//! A caller without a grant learns nothing: the answer is the same whether the application, the target or the grant is missing.
//! The log has the reason, and so does the journal of an existing target: once an hour per reason and repository that the policy
//! names, and once for all other repositories together, since otherwise unauthenticated callers could fill the journal.
//!
//! | module | what it does |
//! |---|---|
//! | [`caller`] | claims, and their check against the grants |
//! | `requests` | turns a request into commands: which releases, by which lane, once per run |
//! | `route` | [`Workflows::route`]: dispatches HTTP method, path, query and body to these |

pub mod caller;
mod requests;
mod route;

pub use caller::{UnverifiedClaims, VerifiedCaller};
pub use route::{MAX_REQUEST_BYTES, PATHS};

use crate::{CommandResponse, CommandService, Refusal};
use rollout::entry::Permission;
use rollout::release::Provenance;
use rollout::{Name, TargetId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Workflow requests, over the ports.
#[derive(Debug)]
pub struct Workflows<'a, L, D, K> {
    /// All deployment state.
    pub ledger: &'a L,
    /// Wakes targets.
    pub wake_queue: &'a D,
    /// The time.
    pub clock: &'a K,
}

impl<'a, L, D, K> Workflows<'a, L, D, K> {
    fn command_service(&self) -> CommandService<'a, L, D, K> {
        CommandService { ledger: self.ledger, wake_queue: self.wake_queue, clock: self.clock }
    }
}

/// Requests deployment of releases to an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromotionRequest {
    /// The permission that the request uses.
    pub kind: Permission,
    /// The application that the services belong to.
    pub application: Name,
    /// The target environment.
    pub environment: Name,
    /// The services and the release of each: a tag, a digest, at least 7 of its first digits, or `latest`; null, for a promotion
    /// only: the newest that the upstream environments have verified. Several services form a release train. Empty: all services
    /// that have a target in the environment.
    #[serde(default)]
    pub services: BTreeMap<Name, Option<String>>,
    /// Free text from the requester; may be empty, except for a hotfix.
    #[serde(default)]
    pub reason: String,
    /// Forward-only: no automatic rollback.
    #[serde(default)]
    pub forward_only: bool,
    /// The requester's statement of how the release was built, if another run built it. Stored with the reason; the claims of
    /// GitHub's token about this run are stored anyway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

/// The request was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotionResponse {
    /// Identity of the train, if several services were requested.
    pub train: Option<String>,
    /// The command sent to each target, dependencies first.
    pub asked: Vec<CommandResponse>,
    /// Targets that already run the requested release: no command was sent.
    pub already_there: Vec<TargetId>,
}

/// The single answer to every caller without a grant.
#[must_use]
pub fn not_allowed() -> Refusal {
    Refusal::new(403, "not_allowed", "this workflow may not do that; the operators' log says why")
}
