//! What happened and why: facts in the past tense, never changed, read by people and by the notifier.

use crate::command::PlanId;
use crate::entry::Gate;
use crate::names::{Actor, Name, Slot, TargetId};
use crate::snapshot::{ApiCall, Snapshot, Weights};
use crate::stage::{Cause, Verdict};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One line of a target's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Where.
    pub target: TargetId,
    /// Counts up from 1 in each target, without gaps.
    pub sequence: u64,
    /// The deployment that it belongs to; none: the target itself.
    pub deployment: Option<u64>,
    /// When it was decided.
    pub at: Timestamp,
    /// Who caused it.
    pub actor: Actor,
    /// What happened.
    pub fact: Fact,
}

impl JournalEntry {
    /// The entry's identity: the same however often it is told of.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}#{}", self.target, self.sequence)
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// A deployment began.
    Started {
        /// `sha256:…`
        digest: String,
        /// The release's tag.
        tag: String,
        /// Version of the policy that it keeps to the end.
        policy_version: u64,
        /// Why, in the asker's words.
        reason: String,
        /// Alarms that may fire at the start, taken upon themselves by the asker.
        despite_alarms: Vec<String>,
    },
    /// A command changed nothing, and why.
    CommandRefused {
        /// What was asked, in a word.
        command: String,
        /// Why not.
        reason: String,
    },
    /// A release waits for the running deployment to end.
    Queued {
        /// `sha256:…`
        digest: String,
        /// The release's tag.
        tag: String,
    },
    /// A release that waited gave way to a newer one.
    Superseded {
        /// `sha256:…` of the one that gave way.
        digest: String,
        /// Its tag.
        tag: String,
        /// The tag of the newer one.
        by_tag: String,
    },
    /// A release that is known here has got another tag, which says more about it.
    ReleaseNamed {
        /// `sha256:…`
        digest: String,
        /// The tag that it is shown by from now on.
        tag: String,
        /// The tag that it was shown by before.
        before: String,
    },
    /// The sides are known: which is stable is read off the live weights.
    SidesSettled {
        /// The side that carries all traffic.
        stable: Slot,
        /// Its running tasks.
        stable_running: u32,
        /// The side that the release goes to.
        candidate: Slot,
    },
    /// A stage began.
    StageEntered {
        /// Its name, as [`Stage::name`](crate::Stage::name) has it.
        stage: String,
        /// What it aims at, for people.
        detail: String,
    },
    /// The candidate's task definition is there.
    TaskDefinitionReady {
        /// ARN, revision included.
        task_definition: String,
        /// It was there already.
        reused: bool,
    },
    /// The weights were decided; they are written next.
    WeightsDecided {
        /// As they shall be.
        weights: Weights,
    },
    /// The weights were seen live in every rule.
    WeightsVerified {
        /// As they are.
        weights: Weights,
    },
    /// Autoscaling limits were taken over for the time of the deployment.
    AutoscalingBorrowed {
        /// Whose.
        slot: Slot,
        /// Lowest desired count that will be given back.
        min: u32,
        /// Highest desired count that will be given back.
        max: u32,
    },
    /// Autoscaling limits were given back.
    AutoscalingReturned {
        /// Whose.
        slot: Slot,
        /// Lowest desired count.
        min: u32,
        /// Highest desired count.
        max: u32,
        /// Scheduled actions that did not run while scheduled scaling was suspended, and whose limits these are.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        scheduled: Vec<String>,
    },
    /// Every target of the candidate is healthy.
    CandidateHealthy {
        /// Healthy targets.
        healthy: u32,
    },
    /// A hook began.
    HookStarted {
        /// Its name.
        hook: String,
    },
    /// A hook said yes.
    HookSucceeded {
        /// Its name.
        hook: String,
    },
    /// A hook said no, or ran out of time.
    HookFailed {
        /// Its name.
        hook: String,
        /// Its words.
        reason: String,
    },
    /// Preflight found something that speaks against starting, and waits.
    Blocked {
        /// What.
        reason: String,
    },
    /// Somebody else edited a rule; nothing more is written until it is as it was, or a person decides.
    Halted {
        /// What was seen, and what should have been.
        reason: String,
    },
    /// The rule is as it was.
    Resumed,
    /// Something that the deployment needs did not work.
    EffectFailed {
        /// What.
        effect: String,
        /// Why.
        reason: String,
        /// AWS said no, and will say no again: the deployment goes on without it or ends, and only a way back asks again.
        /// Otherwise it is tried again.
        #[serde(default)]
        refused: bool,
    },
    /// Going back began.
    RollbackStarted {
        /// Why.
        cause: Cause,
    },
    /// The way back waits: the stable side is not fit to carry traffic.
    WayBackUnfit {
        /// What was seen.
        reason: String,
    },
    /// The way back replaces weights that somebody else has set.
    ForeignWeightsReplaced {
        /// Which rules, what they had, and what Switchback had left there.
        found: String,
        /// Why they are replaced.
        cause: String,
    },
    /// An alarm that looks at the stable side alone fires: the deployment goes neither on nor back because of it.
    StableAlarm {
        /// Its name.
        alarm: String,
        /// CloudWatch's reason.
        reason: String,
    },
    /// The stable side's alarm does not hold the deployment any more.
    StableAlarmOver {
        /// Its name.
        alarm: String,
    },
    /// A deployment ended.
    Ended {
        /// How.
        verdict: Verdict,
        /// Why, for people.
        reason: String,
        /// The side that carries all traffic, if one does.
        live: Option<Slot>,
    },
    /// A gate keeps the deployment waiting.
    GateWaits {
        /// Which.
        gate: Gate,
        /// What it waits for.
        reason: String,
        /// When it opens by itself, if it does.
        until: Option<Timestamp>,
    },
    /// A gate that kept the deployment waiting has opened.
    GateOpened {
        /// Which.
        gate: Gate,
        /// How.
        how: String,
    },
    /// Somebody opened a gate by hand.
    GateOverridden {
        /// Which.
        gate: Gate,
        /// Why, in their words.
        reason: String,
    },
    /// The deployment takes the short way, past these gates. The entry's actor asked for it.
    Hotfixed {
        /// The gates that it is not asked at.
        skips: Vec<Gate>,
        /// Why, in the asker's words.
        reason: String,
    },
    /// People are asked to say yes.
    ApprovalRequested {
        /// What they are to look at.
        plan: PlanId,
        /// `sha256:…`
        digest: String,
        /// The release's tag.
        tag: String,
        /// How many are needed.
        required: u8,
        /// Who may, by the policy's names.
        approvers: Vec<Name>,
        /// Until when.
        expires_at: Timestamp,
    },
    /// Somebody said yes.
    Approved {
        /// Who, by the policy's name.
        person: Name,
        /// To what.
        plan: PlanId,
        /// How many have by now.
        approvals: u8,
        /// How many are needed.
        required: u8,
        /// In their words.
        reason: String,
    },
    /// What the deployment would do has changed: what was said to the former plan is void.
    PlanChanged {
        /// The new plan.
        plan: PlanId,
        /// Version of the policy that it follows now.
        policy_version: u64,
        /// How many had said yes to the former one.
        voided: u8,
    },
    /// A release was deployed and baked here: it may be promoted.
    Verified {
        /// `sha256:…`
        digest: String,
        /// Its tag.
        tag: String,
    },
    /// A release does not count as verified here any more.
    Withdrawn {
        /// `sha256:…`
        digest: String,
        /// Its tag.
        tag: String,
        /// Why.
        reason: String,
    },
    /// From now on nothing is promoted here by itself.
    PromotionHeld {
        /// Why.
        reason: String,
    },
    /// Somebody promoted again: what follows is promoted by itself.
    PromotionResumed,
    /// A release would have been promoted by itself, and was not.
    PromotionSkipped {
        /// `sha256:…`
        digest: String,
        /// Its tag.
        tag: String,
        /// Why.
        reason: String,
    },
    /// A forward-only release is in trouble: it stays as it is until a person decides.
    Frozen {
        /// What it would have gone back for.
        cause: Cause,
        /// What was seen then.
        evidence: Box<Snapshot>,
    },
    /// Somebody let it go on.
    Unfrozen {
        /// Why, in their words.
        reason: String,
    },
    /// While nothing was deployed, a rule, a listener or a service was seen otherwise than the last deployment left it.
    DriftFound {
        /// What was seen, and what was left.
        reason: String,
        /// Who did it, where CloudTrail has told.
        by: Option<ApiCall>,
        /// Why the weights are not put back although the policy says so; none: they are, or the policy does not say so.
        kept: Option<String>,
    },
    /// What had been seen otherwise is as the last deployment left it again.
    DriftGone,
    /// The deployment ended, and this was left undone.
    LeftBehind {
        /// What, and what to do about it.
        what: String,
    },
}

impl Fact {
    /// Its name, in snake case, as it is stored.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::CommandRefused { .. } => "command_refused",
            Self::Queued { .. } => "queued",
            Self::Superseded { .. } => "superseded",
            Self::ReleaseNamed { .. } => "release_named",
            Self::SidesSettled { .. } => "sides_settled",
            Self::StageEntered { .. } => "stage_entered",
            Self::TaskDefinitionReady { .. } => "task_definition_ready",
            Self::WeightsDecided { .. } => "weights_decided",
            Self::WeightsVerified { .. } => "weights_verified",
            Self::AutoscalingBorrowed { .. } => "autoscaling_borrowed",
            Self::AutoscalingReturned { .. } => "autoscaling_returned",
            Self::CandidateHealthy { .. } => "candidate_healthy",
            Self::HookStarted { .. } => "hook_started",
            Self::HookSucceeded { .. } => "hook_succeeded",
            Self::HookFailed { .. } => "hook_failed",
            Self::Blocked { .. } => "blocked",
            Self::Halted { .. } => "halted",
            Self::Resumed => "resumed",
            Self::EffectFailed { .. } => "effect_failed",
            Self::RollbackStarted { .. } => "rollback_started",
            Self::WayBackUnfit { .. } => "way_back_unfit",
            Self::ForeignWeightsReplaced { .. } => "foreign_weights_replaced",
            Self::StableAlarm { .. } => "stable_alarm",
            Self::StableAlarmOver { .. } => "stable_alarm_over",
            Self::Ended { .. } => "ended",
            Self::GateWaits { .. } => "gate_waits",
            Self::GateOpened { .. } => "gate_opened",
            Self::GateOverridden { .. } => "gate_overridden",
            Self::Hotfixed { .. } => "hotfixed",
            Self::ApprovalRequested { .. } => "approval_requested",
            Self::Approved { .. } => "approved",
            Self::PlanChanged { .. } => "plan_changed",
            Self::Verified { .. } => "verified",
            Self::Withdrawn { .. } => "withdrawn",
            Self::PromotionHeld { .. } => "promotion_held",
            Self::PromotionSkipped { .. } => "promotion_skipped",
            Self::Frozen { .. } => "frozen",
            Self::Unfrozen { .. } => "unfrozen",
            Self::PromotionResumed => "promotion_resumed",
            Self::DriftFound { .. } => "drift_found",
            Self::DriftGone => "drift_gone",
            Self::LeftBehind { .. } => "left_behind",
        }
    }

    /// Whether it is worth a person's attention, who is not looking: beginning, trouble, way back, end.
    #[must_use]
    pub fn wants_attention(&self) -> bool {
        matches!(
            self,
            Self::Started { .. }
                | Self::Blocked { .. }
                | Self::Halted { .. }
                | Self::Resumed
                | Self::RollbackStarted { .. }
                | Self::WayBackUnfit { .. }
                | Self::ForeignWeightsReplaced { .. }
                | Self::StableAlarm { .. }
                | Self::Ended { .. }
                | Self::ApprovalRequested { .. }
                | Self::GateOverridden { .. }
                | Self::Hotfixed { .. }
                | Self::PlanChanged { .. }
                | Self::PromotionHeld { .. }
                | Self::PromotionSkipped { .. }
                | Self::Frozen { .. }
                | Self::Unfrozen { .. }
                | Self::DriftFound { .. }
                | Self::DriftGone
                | Self::LeftBehind { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_is_called_what_it_is_stored_as() {
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
