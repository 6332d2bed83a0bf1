//! What operators ask, signed with IAM: apply, plan, deploy, promote, approve, brakes, and questions. Shared by the function
//! behind the HTTP API, and by whatever else serves the same requests.
//!
//! Nothing is decided here about deployments: a command is checked for what can be known at once (the target, the
//! release, a reason), written, and a wake is sent. What becomes of it is in the journal.
//!
//! | module | what it does |
//! |---|---|
//! | [`desk`](crate::desk) | what this door shares with others: commands, questions, requests and answers |
//! | `applying` | apply and plan |
//! | `braking` | freezes, and the stopped line |
//! | `deciding` | approve and reject |
//! | `examining` | whether an account is fit for a target |
//! | `route` | [`Operations::route`]: HTTP's method, path, query and body to all of these |

mod applying;
mod braking;
mod deciding;
mod examining;
mod route;

pub use crate::desk::{
    AbortRequest, ApplyAnswer, ApplyRequest, BrakeAnswer, BrakesAnswer, CommandAnswer, DecisionRequest, DeployRequest,
    DoctorAnswer, DoctorRequest, ErrorBody, FreezeRequest, Held, HistoryAnswer, HotfixRequest, JournalAnswer,
    LONGEST_CALLER, LONGEST_REASON, LONGEST_REQUEST, MOST_LISTED, MOST_MEMBERS, OverrideRequest, PlanAnswer,
    PlanRequest, PromoteRequest, Refusal, ReleasesAnswer, ResumeRequest, RollbackRequest, RunningSummary,
    StopTheLineRequest, TargetStatus, TargetSummary, TargetsAnswer, TrainAnswer, TrainRequest, UnfreezeRequest,
};
pub use route::{LARGEST_BODY, ROUTES};

use crate::desk::Desk;
use crate::ports::{Clock, Cloud, Ledger, WakeQueue};
use rollout::{Actor, Reading, Stage, TargetId};

/// What people ask, over the ports.
#[derive(Debug)]
pub struct Operations<'a, L, C, D, K> {
    /// All deployment state.
    pub ledger: &'a L,
    /// What runs; only looked at, for plans.
    pub cloud: &'a C,
    /// Wakes targets.
    pub wake_queue: &'a D,
    /// The time, and keys for requests that bring none.
    pub clock: &'a K,
}

impl<'a, L: Ledger, C: Cloud, D: WakeQueue, K: Clock> Operations<'a, L, C, D, K> {
    /// The part of it that other doors share.
    #[must_use]
    pub fn desk(&self) -> Desk<'a, L, D, K> {
        Desk { ledger: self.ledger, wake_queue: self.wake_queue, clock: self.clock }
    }

    /// Asks for what was there before, unless nothing can be started with its image.
    ///
    /// # Errors
    /// [`Refusal`]: as [`Desk::rollback`]'s, and an image that the registry does not have any more, or has archived.
    pub async fn rollback(
        &self,
        target: &TargetId,
        request: &RollbackRequest,
        actor: &Actor,
    ) -> Result<CommandAnswer, Refusal> {
        let state = self.desk().known_state(target).await?;
        let begun = state.running.as_ref().is_some_and(|running| !matches!(running.stage, Stage::Gated { .. }));
        // A deployment that has begun goes back to a side that is up, and so does a repair.
        let goal = state.previous.as_ref().filter(|_| !begun && state.drift().is_none());
        if let Some(release) = goal.and_then(|goal| goal.release.as_ref())
            && let Reading::Known(image) = self.cloud.image(&release.image).await
            && let Some(reason) = image.against_starting()
        {
            let message = format!("a rollback of {target} would go to {}, and cannot start it: {reason}", release.tag);
            return Err(Refusal::conflict("image_missing", message));
        }
        self.desk().rollback(target, request, actor).await
    }
}
