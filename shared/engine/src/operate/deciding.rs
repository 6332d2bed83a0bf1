//! Approve and reject, by people authenticated by IAM. As in every channel, the policy decides whether they may.

use super::{CommandResponse, DecisionRequest, Operations, Refusal};
use crate::approving::{ApprovalDecision, ApprovalSubmission, DeduplicationKey, answer};
use crate::command_service::{reason, required_reason};
use crate::ports::{Clock, Cloud, Ledger, WakeQueue};
use rollout::{Actor, TargetId};

/// Name of this channel in journal entries about refusals.
const CHANNEL: &str = "operations";

impl<L: Ledger, C: Cloud, D: WakeQueue, K: Clock> Operations<'_, L, C, D, K> {
    /// Approves a deployment that waits for approval.
    ///
    /// # Errors
    /// [`Refusal`]: it does not wait, another plan, a person who may not approve, or a ledger that did not answer.
    pub async fn approve(
        &self,
        target: &TargetId,
        request: &DecisionRequest,
        actor: &Actor,
    ) -> Result<CommandResponse, Refusal> {
        let reason = reason(&request.reason)?;
        self.decide(target, request, ApprovalDecision::Approve, reason, actor).await
    }

    /// Rejects a deployment: it ends as rejected.
    ///
    /// # Errors
    /// As [`Operations::approve`]'s, and a missing reason.
    pub async fn reject(
        &self,
        target: &TargetId,
        request: &DecisionRequest,
        actor: &Actor,
    ) -> Result<CommandResponse, Refusal> {
        let reason = required_reason(&request.reason, "saying no")?;
        self.decide(target, request, ApprovalDecision::Reject, reason, actor).await
    }

    async fn decide(
        &self,
        target: &TargetId,
        request: &DecisionRequest,
        decision: ApprovalDecision,
        reason: &str,
        actor: &Actor,
    ) -> Result<CommandResponse, Refusal> {
        let command_service = self.command_service();
        // Operators may learn which targets exist; callers of other channels may not.
        command_service.applied_target(target).await?;
        let submission = ApprovalSubmission {
            target,
            deployment: request.deployment,
            plan: &request.plan,
            decision,
            actor,
            reason,
            channel: CHANNEL,
            deduplication_key: DeduplicationKey::Key(request.request.as_deref()),
        };
        answer(&command_service, &submission).await.map(|taken| taken.command)
    }
}
