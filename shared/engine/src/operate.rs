//! What people ask: apply, plan, deploy, abort, rollback, and questions. Shared by the function behind the HTTP API, and
//! by whatever else serves the same requests.
//!
//! Nothing is decided here about deployments: a command is checked for what can be known at once (the target, the
//! release, a reason), written, and the doorbell is rung. What becomes of it is in the journal.
//!
//! | module | what it does |
//! |---|---|
//! | `answers` | requests and answers as they travel |
//! | `refusal` | [`Refusal`]: why not, in one shape for every error |
//! | `asking` | deploy, abort, rollback: a command and a ring |
//! | `applying` | apply and plan |
//! | `questions` | targets, status, history, journal, releases |
//! | `route` | [`Operations::route`]: HTTP's method, path, query and body to all of these |

mod answers;
mod applying;
mod asking;
mod questions;
mod refusal;
mod route;

pub use answers::{
    AbortRequest, ApplyAnswer, ApplyRequest, CommandAnswer, DeployRequest, HistoryAnswer, JournalAnswer, PlanAnswer,
    PlanRequest, ReleasesAnswer, RollbackRequest, RunningSummary, TargetStatus, TargetSummary, TargetsAnswer,
};
pub use refusal::{ErrorBody, Refusal};
pub use route::{LARGEST_BODY, ROUTES};

use crate::ports::{Applied, Clock, Cloud, Doorbell, Ledger};
use rollout::{Actor, AppliedTarget, Name, TargetId};

/// The longest reason, in characters: a deployment keeps it in the one item of its target.
pub const LONGEST_REASON: usize = 500;
/// The longest key of a request, in characters.
pub const LONGEST_REQUEST: usize = 64;
/// The longest name of a caller that is kept, in characters; an IAM ARN has at most 2048, and far less in practice.
pub const LONGEST_CALLER: usize = 512;
/// The most entries of a list that one answer has.
pub const MOST_LISTED: usize = 200;

/// What people ask, over the ports.
#[derive(Debug)]
pub struct Operations<'a, L, C, D, K> {
    /// All deployment state.
    pub ledger: &'a L,
    /// What runs; only looked at, for plans.
    pub cloud: &'a C,
    /// Wakes targets.
    pub doorbell: &'a D,
    /// The time, and keys for requests that bring none.
    pub clock: &'a K,
}

impl<L: Ledger, C: Cloud, D: Doorbell, K: Clock> Operations<'_, L, C, D, K> {
    /// The policy of an application, or a refusal that names the applications there are.
    async fn applied(&self, application: &Name) -> Result<Applied, Refusal> {
        match self.ledger.policy(application).await? {
            Some(applied) => Ok(applied),
            None => {
                let known = self.ledger.applications().await?;
                Err(Refusal::unknown(
                    "unknown_application",
                    format!("no policy of an application `{application}` is applied"),
                    known.iter().map(ToString::to_string),
                    "apply its switchback.yaml first",
                ))
            }
        }
    }

    /// The policy of a target, or a refusal that names the targets there are.
    async fn applied_target(&self, target: &TargetId) -> Result<AppliedTarget, Refusal> {
        let applied = self.applied(&target.application).await?;
        applied.policy.applied(target, applied.version).ok_or_else(|| unknown_target(target, &applied))
    }
}

fn unknown_target(target: &TargetId, applied: &Applied) -> Refusal {
    Refusal::unknown(
        "unknown_target",
        format!("version {} of {}'s policy has no target `{target}`", applied.version, target.application),
        applied.policy.targets().map(|(id, _)| id.to_string()),
        "name one of those, or add it to switchback.yaml and apply that",
    )
}

/// The caller as it is kept.
fn person(caller: &str) -> Actor {
    Actor::Person { name: caller.chars().take(LONGEST_CALLER).collect() }
}
