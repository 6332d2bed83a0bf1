//! Approve and reject, by people authenticated by IAM. As in every channel, the policy decides whether they may.

use super::Operations;
use crate::approvals::{ApprovalDecision, ApprovalSubmission, DeduplicationKey, submit_decision};
use crate::command_service::{RequestLedger, validate_reason, validate_required_reason};
use crate::{CommandResponse, DecisionRequest, Refusal};
use engine::ports::{Clock, Cloud, WakeQueue};
use rollout::{Actor, TargetId};

/// Name of this entry point in the commands that journal a refusal.
const ENTRY_POINT: &str = "operations";

impl<L: RequestLedger, C: Cloud, D: WakeQueue, K: Clock> Operations<'_, L, C, D, K> {
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
        let reason = validate_reason(&request.reason)?;
        self.submit(target, request, ApprovalDecision::Approve, reason, actor).await
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
        let reason = validate_required_reason(&request.reason, "saying no")?;
        self.submit(target, request, ApprovalDecision::Reject, reason, actor).await
    }

    async fn submit(
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
            entry_point: ENTRY_POINT,
            deduplication_key: DeduplicationKey::Key(request.request.as_deref()),
        };
        submit_decision(&command_service, &submission).await.map(|receipt| receipt.command)
    }
}
