//! Approve and reject, by people whom IAM has proven. Whether they may is the policy's to say, as at every other door.

use super::{CommandAnswer, DecisionRequest, Operations, Refusal};
use crate::approving::{Answer, Once, Word, answer};
use crate::desk::{needed_reason, reason};
use crate::ports::{Clock, Cloud, Ledger, WakeQueue};
use rollout::{Actor, TargetId};

/// This door, in the journal's entries of what it has refused.
const DOOR: &str = "operations";

impl<L: Ledger, C: Cloud, D: WakeQueue, K: Clock> Operations<'_, L, C, D, K> {
    /// Says yes to a deployment that waits for approval.
    ///
    /// # Errors
    /// [`Refusal`]: it does not wait, another plan, somebody who may not say so, or a ledger that did not answer.
    pub async fn approve(
        &self,
        target: &TargetId,
        request: &DecisionRequest,
        actor: &Actor,
    ) -> Result<CommandAnswer, Refusal> {
        let reason = reason(&request.reason)?;
        self.decide(target, request, Word::Yes, reason, actor).await
    }

    /// Says no to it: it ends as rejected.
    ///
    /// # Errors
    /// As [`Operations::approve`], and without a reason.
    pub async fn reject(
        &self,
        target: &TargetId,
        request: &DecisionRequest,
        actor: &Actor,
    ) -> Result<CommandAnswer, Refusal> {
        let reason = needed_reason(&request.reason, "saying no")?;
        self.decide(target, request, Word::No, reason, actor).await
    }

    async fn decide(
        &self,
        target: &TargetId,
        request: &DecisionRequest,
        word: Word,
        reason: &str,
        actor: &Actor,
    ) -> Result<CommandAnswer, Refusal> {
        let desk = self.desk();
        // Operators are told which targets there are; other doors are not.
        desk.applied_target(target).await?;
        let said = Answer {
            target,
            deployment: request.deployment,
            plan: &request.plan,
            word,
            actor,
            reason,
            door: DOOR,
            once: Once::Key(request.request.as_deref()),
        };
        answer(&desk, &said).await.map(|taken| taken.command)
    }
}
