//! What workflows of GitHub Actions ask: promote, deploy, hotfix, and how it goes on.
//!
//! The gateway has proven that a token is GitHub's, for this audience and not over. That says who asks, and nothing of
//! what they may do: any repository in the world gets such tokens. So what an event brings is [`UnverifiedClaims`], and
//! only the policy's grants make a [`VerifiedCaller`] of them: for one deed, in one environment, with named services.
//!
//! Whoever is not granted something learns nothing: the same answer whether there is no such application, no such target,
//! or no grant. The log says why, and so does the journal of a target that there is: once an hour for each reason and
//! repository that the policy names, and for all others together, since a journal that strangers can fill is none.
//!
//! | module | what it does |
//! |---|---|
//! | [`caller`] | claims, and what the grants make of them |
//! | `asking` | one request to commands: which releases, by which lane, asked once a run |
//! | `route` | [`Workflows::route`]: HTTP's method, path, query and body to these |

mod asking;
pub mod caller;
mod route;

pub use caller::{UnverifiedClaims, VerifiedCaller};
pub use route::{LARGEST_REQUEST, PATHS};

use crate::desk::{CommandAnswer, Desk, Refusal};
use rollout::entry::Deed;
use rollout::release::Provenance;
use rollout::{Name, TargetId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What workflows ask, over the ports.
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
    fn desk(&self) -> Desk<'a, L, D, K> {
        Desk { ledger: self.ledger, wake_queue: self.wake_queue, clock: self.clock }
    }
}

/// Bring releases to an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromotionRequest {
    /// By which right.
    pub kind: Deed,
    /// Whose services.
    pub application: Name,
    /// Where.
    pub environment: Name,
    /// The services, and what each is to run: a tag, a digest, at least 7 of its first digits, or `latest`; null, for a
    /// promotion only: the newest that the environments before have verified. Several are a release train. Empty: all
    /// services that have a target there.
    #[serde(default)]
    pub services: BTreeMap<Name, Option<String>>,
    /// Why, in the asker's words; may be empty, but for a hotfix.
    #[serde(default)]
    pub reason: String,
    /// It cannot be switched back automatically.
    #[serde(default)]
    pub forward_only: bool,
    /// What the asker says of the release's making, where that was another run. It is kept with the reason; what GitHub's
    /// token says of this run is kept without being said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

/// What was asked has been taken down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotionAnswer {
    /// The train's identity, where several services are asked for.
    pub train: Option<String>,
    /// What was asked of each target, those first that others depend on.
    pub asked: Vec<CommandAnswer>,
    /// Targets that run what they are to run already: nothing was asked of them.
    pub already_there: Vec<TargetId>,
}

/// The one answer to whoever is not granted what they ask.
#[must_use]
pub fn not_allowed() -> Refusal {
    Refusal::new(403, "not_allowed", "this workflow may not do that; the operators' log says why")
}
