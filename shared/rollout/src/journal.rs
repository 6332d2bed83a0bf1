//! The journal: what happened and why, as immutable facts in the past tense, read by people and by the notifier.

use crate::command::PlanId;
use crate::effect::EffectKind;
use crate::entry::Gate;
use crate::names::{Actor, Name, Slot, TargetId};
use crate::refusal::CommandRefusal;
use crate::snapshot::{ApiCall, Snapshot, Weights};
use crate::stage::Stage;
use crate::template::TemplateReading;
use crate::verdict::{Cause, Verdict};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One entry of a target's journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// The target that it is about.
    pub target: TargetId,
    /// Counts up from 1 in each target, without gaps.
    pub sequence: u64,
    /// Number of the deployment that it belongs to; none: it is about the target itself.
    pub deployment: Option<u64>,
    /// When it was decided.
    pub at: Timestamp,
    /// Who caused it.
    pub actor: Actor,
    /// What happened.
    pub fact: Fact,
}

impl JournalEntry {
    /// The entry's identity, the same in every delivery.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}#{}", self.target, self.sequence)
    }
}

/// One thing that happened to a target or to a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// A deployment started.
    Started {
        /// `sha256:…`
        digest: String,
        /// The release's tag.
        tag: String,
        /// Version of the policy that the deployment keeps to its end.
        policy_version: u64,
        /// Free text by the requester.
        reason: String,
        /// Alarms that the requester allowed to fire at the start.
        despite_alarms: Vec<String>,
    },
    /// A command was refused.
    CommandRefused {
        /// The command, in a word.
        command: String,
        /// Why it was refused.
        reason: CommandRefusal,
    },
    /// A release was queued behind the running deployment.
    Queued {
        /// `sha256:…`
        digest: String,
        /// The release's tag.
        tag: String,
    },
    /// A queued release was superseded by a newer one.
    Superseded {
        /// `sha256:…` of the superseded one.
        digest: String,
        /// Tag of the superseded one.
        tag: String,
        /// Tag of the newer one.
        by_tag: String,
    },
    /// A known release received a more specific tag.
    ReleaseNamed {
        /// `sha256:…`
        digest: String,
        /// The tag that it is shown by from now on.
        tag: String,
        /// The tag that it was shown by before.
        before: String,
    },
    /// The stable side and the candidate were determined from the live weights.
    SidesDetermined {
        /// The side that carries all traffic.
        stable: Slot,
        /// Its running tasks.
        stable_running: u32,
        /// The side that the release is deployed to.
        candidate: Slot,
    },
    /// A stage started.
    StageEntered {
        /// Name of the new stage.
        stage: Stage,
        /// The goal of the stage, for people.
        detail: String,
    },
    /// The new version is made of this template, which differs from the live version.
    TemplateChosen {
        /// The template and its differences.
        template: TemplateReading,
    },
    /// While nothing runs: a template is newer than the one that the stable version was made of.
    TemplateFound {
        /// The template and its differences.
        template: TemplateReading,
    },
    /// The new version is registered.
    VersionReady {
        /// The platform's name of it: of ECS, an ARN with its revision.
        version: String,
        /// An identical revision existed already.
        reused: bool,
    },
    /// Nothing runs here yet: this deployment starts it, and there is nothing to roll back to.
    FirstDeployment {
        /// The side; none: versions replace one another in place.
        slot: Option<Slot>,
        /// Number of tasks to start.
        count: u32,
    },
    /// What a workload runs that changes its version in place, when the deployment started.
    WorkloadFound {
        /// Its version.
        version: String,
        /// Running tasks.
        running: u32,
    },
    /// It was decided to set this version; the platform replaces what runs.
    ReplacementStarted {
        /// The version.
        version: String,
    },
    /// Everything that runs is of this version, and healthy.
    Replaced {
        /// The version.
        version: String,
        /// Running tasks.
        running: u32,
    },
    /// A rollback replaces a version that somebody else set meanwhile.
    ForeignVersionReplaced {
        /// The version found.
        found: String,
        /// Why the deployment rolls back.
        cause: String,
    },
    /// New weights were decided; they are written next.
    WeightsDecided {
        /// The weights to set.
        weights: Weights,
    },
    /// The weights were seen live in every rule.
    WeightsVerified {
        /// The live weights.
        weights: Weights,
    },
    /// Autoscaling limits were overridden for the duration of the deployment.
    AutoscalingOverridden {
        /// The side whose limits were overridden.
        slot: Slot,
        /// Minimum capacity to restore.
        min: u32,
        /// Maximum capacity to restore.
        max: u32,
    },
    /// Autoscaling limits were restored.
    AutoscalingRestored {
        /// The side whose limits were restored.
        slot: Slot,
        /// Minimum capacity.
        min: u32,
        /// Maximum capacity.
        max: u32,
        /// Scheduled actions that did not run while scheduled scaling was suspended, and that set these limits.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        scheduled: Vec<String>,
    },
    /// Every target of the candidate is healthy.
    CandidateHealthy {
        /// Healthy targets.
        healthy: u32,
    },
    /// A hook started.
    HookStarted {
        /// Its name.
        hook: String,
    },
    /// A hook passed.
    HookSucceeded {
        /// Its name.
        hook: String,
    },
    /// A hook failed or timed out.
    HookFailed {
        /// Its name.
        hook: String,
        /// The hook's answer, or the timeout.
        reason: String,
    },
    /// Preflight found a problem that blocks the start, and waits.
    Blocked {
        /// What blocks it.
        reason: String,
    },
    /// A rule was edited outside Switchback; nothing more is written until it is restored, or a person decides.
    Halted {
        /// The weights found, and the weights expected.
        reason: String,
    },
    /// The edited rule was restored.
    Resumed,
    /// An effect failed.
    EffectFailed {
        /// Kind of the effect.
        effect: EffectKind,
        /// The error.
        reason: String,
        /// AWS refused it and will refuse it again: the deployment goes on without it or ends, and only a rollback
        /// retries it. Otherwise it is retried.
        #[serde(default)]
        refused: bool,
    },
    /// A rollback started.
    RollbackStarted {
        /// Why it rolls back.
        cause: Cause,
    },
    /// The rollback waits: the stable side cannot take traffic.
    RollbackBlocked {
        /// The stable side's state.
        reason: String,
    },
    /// A rollback overwrites weights that were set outside Switchback.
    ForeignWeightsReplaced {
        /// The rules, the weights found there, and the weights that Switchback had last set.
        found: String,
        /// Why they are overwritten.
        cause: String,
    },
    /// An alarm fires whose effect is to hold the deployment, or to notify people alone.
    AlarmFiring {
        /// The alarm's name.
        alarm: String,
        /// CloudWatch's reason (`StateReason`).
        reason: String,
        /// It holds the deployment; otherwise people are notified, and nothing else.
        holds: bool,
    },
    /// Such an alarm no longer fires.
    AlarmCleared {
        /// The alarm's name.
        alarm: String,
    },
    /// The deployment starts although an alarm fires, as the policy says. The alarm is not judged until it has been OK.
    AlarmPassed {
        /// The alarm's name.
        alarm: String,
        /// CloudWatch's reason (`StateReason`).
        reason: String,
    },
    /// An alarm that watches the stable side alone fires: the deployment neither proceeds nor rolls back because of it.
    StableAlarm {
        /// The alarm's name.
        alarm: String,
        /// CloudWatch's reason (`StateReason`).
        reason: String,
    },
    /// The stable side's alarm no longer holds the deployment.
    StableAlarmCleared {
        /// The alarm's name.
        alarm: String,
    },
    /// A deployment ended.
    Ended {
        /// How it ended.
        verdict: Verdict,
        /// Why it ended so, for people.
        reason: String,
        /// The side that carries all traffic, if one does.
        live: Option<Slot>,
    },
    /// A closed gate holds the deployment.
    BlockedByGate {
        /// Which of the gates.
        gate: Gate,
        /// Why the gate is closed.
        reason: String,
        /// When the gate opens by itself, if it does.
        until: Option<Timestamp>,
    },
    /// A gate that held the deployment has opened.
    GateOpened {
        /// Which of the gates.
        gate: Gate,
        /// How it opened, for people.
        how: String,
    },
    /// A person opened a gate by hand.
    GateOverridden {
        /// Which of the gates.
        gate: Gate,
        /// Free text by the person.
        reason: String,
    },
    /// A hotfix started, which skips these gates. The entry's actor requested it.
    HotfixStarted {
        /// The gates that it skips.
        skips: Vec<Gate>,
        /// Free text by the requester.
        reason: String,
    },
    /// Approval was requested.
    ApprovalRequested {
        /// The plan to approve.
        plan: PlanId,
        /// `sha256:…`
        digest: String,
        /// The release's tag.
        tag: String,
        /// Number of approvals needed.
        required: u8,
        /// Who may approve, by the policy's names.
        approvers: Vec<Name>,
        /// When the request expires.
        expires_at: Timestamp,
        /// The other services of its release train, which are approved with it, and what each gets.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        with: BTreeMap<Name, String>,
    },
    /// It was approved with its release train.
    ApprovedWithTrain {
        /// The service whose deployment asked for all.
        service: Name,
        /// Who approved.
        people: Vec<Name>,
    },
    /// An approver approved.
    Approved {
        /// The approver's name in the policy.
        person: Name,
        /// The plan that was approved.
        plan: PlanId,
        /// Number of approvals so far.
        approvals: u8,
        /// Number of approvals needed.
        required: u8,
        /// Free text by the approver.
        reason: String,
    },
    /// The plan has changed: approvals of the previous one are void.
    PlanChanged {
        /// The new plan.
        plan: PlanId,
        /// Version of the policy that it follows now.
        policy_version: u64,
        /// Number of approvals of the previous plan.
        voided: u8,
    },
    /// A release was deployed and baked here: it may be promoted.
    Verified {
        /// `sha256:…`
        digest: String,
        /// The release's tag.
        tag: String,
    },
    /// A release is no longer verified here.
    VerificationRevoked {
        /// `sha256:…`
        digest: String,
        /// The release's tag.
        tag: String,
        /// Why it was revoked.
        reason: String,
    },
    /// Automatic promotion to this target was put on hold.
    PromotionHeld {
        /// Why it was put on hold.
        reason: String,
    },
    /// A person promoted again, which ends the hold on automatic promotion.
    PromotionResumed,
    /// An automatic promotion was skipped.
    PromotionSkipped {
        /// `sha256:…`
        digest: String,
        /// The release's tag.
        tag: String,
        /// Why it was skipped.
        reason: String,
    },
    /// A forward-only release is in trouble: it stays as it is until a person decides.
    AwaitingOperator {
        /// Why it would have rolled back.
        cause: Cause,
        /// The observation at that time.
        evidence: Box<Snapshot>,
    },
    /// An operator resumed it.
    OperatorResumed {
        /// Free text by the operator.
        reason: String,
    },
    /// While nothing was deployed, a rule, a listener or a service was found changed since the last deployment.
    DriftDetected {
        /// The state found, and the state expected.
        reason: String,
        /// The API call that made the change, if CloudTrail delivered it.
        by: Option<ApiCall>,
        /// Why the weights are not reverted although the policy demands it; none: they are, or the policy does not
        /// demand it.
        kept: Option<String>,
    },
    /// The drift is gone: everything is as the last deployment left it again.
    DriftResolved,
    /// The deployment ended without completing its cleanup.
    CleanupIncomplete {
        /// What was not cleaned up, and what to do about it.
        what: String,
    },
}

impl Fact {
    /// The fact's name in snake case, as it is stored.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::CommandRefused { .. } => "command_refused",
            Self::Queued { .. } => "queued",
            Self::Superseded { .. } => "superseded",
            Self::ReleaseNamed { .. } => "release_named",
            Self::SidesDetermined { .. } => "sides_determined",
            Self::StageEntered { .. } => "stage_entered",
            Self::TemplateChosen { .. } => "template_chosen",
            Self::TemplateFound { .. } => "template_found",
            Self::VersionReady { .. } => "version_ready",
            Self::FirstDeployment { .. } => "first_deployment",
            Self::WorkloadFound { .. } => "workload_found",
            Self::ReplacementStarted { .. } => "replacement_started",
            Self::Replaced { .. } => "replaced",
            Self::ForeignVersionReplaced { .. } => "foreign_version_replaced",
            Self::WeightsDecided { .. } => "weights_decided",
            Self::WeightsVerified { .. } => "weights_verified",
            Self::AutoscalingOverridden { .. } => "autoscaling_overridden",
            Self::AutoscalingRestored { .. } => "autoscaling_restored",
            Self::CandidateHealthy { .. } => "candidate_healthy",
            Self::HookStarted { .. } => "hook_started",
            Self::HookSucceeded { .. } => "hook_succeeded",
            Self::HookFailed { .. } => "hook_failed",
            Self::Blocked { .. } => "blocked",
            Self::Halted { .. } => "halted",
            Self::Resumed => "resumed",
            Self::EffectFailed { .. } => "effect_failed",
            Self::RollbackStarted { .. } => "rollback_started",
            Self::RollbackBlocked { .. } => "rollback_blocked",
            Self::ForeignWeightsReplaced { .. } => "foreign_weights_replaced",
            Self::AlarmFiring { .. } => "alarm_firing",
            Self::AlarmCleared { .. } => "alarm_cleared",
            Self::AlarmPassed { .. } => "alarm_passed",
            Self::StableAlarm { .. } => "stable_alarm",
            Self::StableAlarmCleared { .. } => "stable_alarm_cleared",
            Self::Ended { .. } => "ended",
            Self::BlockedByGate { .. } => "blocked_by_gate",
            Self::GateOpened { .. } => "gate_opened",
            Self::GateOverridden { .. } => "gate_overridden",
            Self::HotfixStarted { .. } => "hotfix_started",
            Self::ApprovalRequested { .. } => "approval_requested",
            Self::ApprovedWithTrain { .. } => "approved_with_train",
            Self::Approved { .. } => "approved",
            Self::PlanChanged { .. } => "plan_changed",
            Self::Verified { .. } => "verified",
            Self::VerificationRevoked { .. } => "verification_revoked",
            Self::PromotionHeld { .. } => "promotion_held",
            Self::PromotionSkipped { .. } => "promotion_skipped",
            Self::AwaitingOperator { .. } => "awaiting_operator",
            Self::OperatorResumed { .. } => "operator_resumed",
            Self::PromotionResumed => "promotion_resumed",
            Self::DriftDetected { .. } => "drift_detected",
            Self::DriftResolved => "drift_resolved",
            Self::CleanupIncomplete { .. } => "cleanup_incomplete",
        }
    }

    /// Whether people should be notified even if they are not watching: starts, trouble, rollbacks, ends.
    #[must_use]
    pub fn needs_attention(&self) -> bool {
        matches!(
            self,
            Self::Started { .. }
                | Self::Blocked { .. }
                | Self::Halted { .. }
                | Self::Resumed
                | Self::RollbackStarted { .. }
                | Self::RollbackBlocked { .. }
                | Self::ForeignWeightsReplaced { .. }
                | Self::AlarmFiring { .. }
                | Self::AlarmPassed { .. }
                | Self::StableAlarm { .. }
                | Self::Ended { .. }
                | Self::ApprovalRequested { .. }
                | Self::GateOverridden { .. }
                | Self::HotfixStarted { .. }
                | Self::PlanChanged { .. }
                | Self::PromotionHeld { .. }
                | Self::PromotionSkipped { .. }
                | Self::AwaitingOperator { .. }
                | Self::OperatorResumed { .. }
                | Self::DriftDetected { .. }
                | Self::DriftResolved
                | Self::CleanupIncomplete { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fact_name_equals_its_serialized_tag() {
        let facts = [
            Fact::Resumed,
            Fact::Blocked { reason: "an alarm".to_owned() },
            Fact::HookStarted { hook: "smoke".to_owned() },
            Fact::Ended { verdict: Verdict::RolledBack, reason: String::new(), live: None },
        ];
        for fact in facts {
            let stored = serde_json::to_value(&fact).expect("plain data");
            assert_eq!(stored["fact"], fact.name());
        }
    }
}
