//! Operator requests, signed with IAM: apply, plan, deploy, promote, approve, brakes, and queries. Shared by the function behind
//! the HTTP API and by other servers of the same requests.
//!
//! Nothing is decided here about deployments: a command is checked for what is known immediately (the target, the release, a
//! reason) and written, and a wake is sent. The result is in the journal.
//!
//! | module | what it does |
//! |---|---|
//! | [`command_service`](crate::command_service) | shared with other entry points: commands and queries |
//! | `apply` | apply and plan |
//! | `approvals` | approve and reject |
//! | `brakes` | freezes and stop-the-line |
//! | `doctor` | doctor: whether an account is configured correctly for a target |
//! | `route` | [`Operations::route`]: dispatches HTTP method, path, query and body to all of these |

mod apply;
mod approvals;
mod brakes;
mod doctor;
mod route;

pub use route::{MAX_BODY_BYTES, ROUTES};

use crate::command_service::RequestLedger;
use crate::{CommandResponse, CommandService, Refusal, RollbackRequest};
use engine::ports::{Clock, Cloud, WakeQueue};
use rollout::{Actor, Reading, Stage, TargetId};

/// Operator requests, over the ports.
#[derive(Debug)]
pub struct Operations<'a, L, C, D, K> {
    /// All deployment state.
    pub ledger: &'a L,
    /// Live AWS state, only read: for plans, for the doctor, and for whether the image of a rollback still exists.
    pub cloud: &'a C,
    /// Wakes targets.
    pub wake_queue: &'a D,
    /// The time, and keys for requests that have none.
    pub clock: &'a K,
}

impl<'a, L: RequestLedger, C: Cloud, D: WakeQueue, K: Clock> Operations<'a, L, C, D, K> {
    /// The part that other entry points share.
    #[must_use]
    pub fn command_service(&self) -> CommandService<'a, L, D, K> {
        CommandService { ledger: self.ledger, wake_queue: self.wake_queue, clock: self.clock }
    }

    /// Requests a rollback to the previous release, unless its image can no longer be started.
    ///
    /// # Errors
    /// [`Refusal`]: as [`CommandService::rollback`]'s, and an image that was deleted from the registry or archived.
    pub async fn rollback(
        &self,
        target: &TargetId,
        request: &RollbackRequest,
        actor: &Actor,
    ) -> Result<CommandResponse, Refusal> {
        let state = self.command_service().known_state(target).await?;
        let begun = state.running.as_ref().is_some_and(|running| running.stage() != Stage::Gated);
        // A running deployment rolls back to a side that is up, and so does a repair.
        let goal = state.previous.as_ref().filter(|_| !begun && state.drift().is_none());
        if let Some(release) = goal.and_then(|goal| goal.release.as_ref())
            && let Reading::Known(image) = self.cloud.image_state(&release.image).await
            && let Some(reason) = image.start_blocker()
        {
            let message = format!("a rollback of {target} would go to {}, and cannot start it: {reason}", release.tag);
            return Err(Refusal::conflict("image_missing", message));
        }
        self.command_service().rollback(target, request, actor).await
    }
}
