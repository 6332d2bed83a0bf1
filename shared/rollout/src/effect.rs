//! Effects: what a decision wants changed in AWS, as data. Every effect names a desired state, so that performing it
//! twice is the same as once.

use crate::names::Slot;
use crate::snapshot::{Autoscaling, Weights};
use serde::{Deserialize, Serialize};

/// One change to AWS that a decision requests; the driver that holds the target's lease performs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Register a copy of the version `template` with another image. An identical one is reused.
    RegisterVersion {
        /// The version to copy.
        template: String,
        /// The image, by digest.
        image: String,
        /// The family to register it in; none: that of `template`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        family: Option<String>,
    },
    /// Set the version and the desired count of a side.
    SetVersion {
        /// The side to change.
        slot: Slot,
        /// The version.
        version: String,
        /// Desired count.
        desired: u32,
    },
    /// Set the version of the workload that changes it in place. The number of its tasks stays: nothing that this effect
    /// says can scale it down.
    ReplaceVersion {
        /// The version.
        version: String,
    },
    /// Of a first deployment: set the version and the desired count of what ran nothing before.
    StartFirst {
        /// The side; none: the workload that changes its version in place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slot: Option<Slot>,
        /// The version.
        version: String,
        /// Desired count.
        count: u32,
    },
    /// Of a first deployment that did not come up: set the desired count to 0, as it was found.
    StopFirst {
        /// The side; none: the workload that changes its version in place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slot: Option<Slot>,
    },
    /// Set the desired count of a side; its version stays.
    SetDesired {
        /// The side to change.
        slot: Slot,
        /// Desired count.
        desired: u32,
    },
    /// Set the limits of the side's scalable target. Only requested where there is a scalable target.
    SetAutoscaling {
        /// The side to change.
        slot: Slot,
        /// Capacity limits and suspensions.
        limits: Autoscaling,
    },
    /// Set these weights in every rule of the policy; nothing else of a rule changes. If one of several rules cannot be
    /// written, the outcome is a failure, and the next decision corrects all of them.
    SetWeights {
        /// The weights to set.
        weights: Weights,
        /// The weights of each rule that the decision was based on, in the policy's order. They are read once more
        /// right before the write, and if they have changed, nothing is written ([`Outcome::Conflict`]). Empty for a
        /// rollback: foreign edits are overwritten, and a side that a rule lacks is added to it. ELB has no conditional
        /// write, so an edit between that read and the write is still lost.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        seen: Vec<Weights>,
    },
    /// Set the weights of the test rules.
    SetTestRules {
        /// The weights to set, leg by leg: one for each test rule of the policy.
        weights: Vec<Weights>,
    },
    /// Invoke a hook's function to ask for its status. `run` is the same for all invocations of one run.
    InvokeHook {
        /// The hook's name.
        hook: String,
        /// Name or ARN of the function.
        function: String,
        /// Identity of the run: deployment and hook.
        run: String,
        /// Passed to the function.
        payload: HookPayload,
    },
    /// Start a hook's task, once per `run`.
    StartTask {
        /// The hook's name.
        hook: String,
        /// Identity of the run, at most 36 characters: ECS's `startedBy` and `clientToken`.
        run: String,
        /// The version.
        version: String,
        /// The container whose command is overridden.
        container: String,
        /// The command; empty: that of the version.
        command: Vec<String>,
        /// The side whose network configuration and launch type are used; none: those of the workload that changes its
        /// version in place.
        template: Option<Slot>,
    },
    /// Stop a hook's task, since the hook has timed out.
    StopTask {
        /// ARN of the task.
        task: String,
    },
}

/// The JSON payload of a hook's function. Stable: users' functions parse it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookPayload {
    /// `application/service/environment`
    pub target: String,
    /// The deployment's number.
    pub deployment: u64,
    /// The hook's name.
    pub hook: String,
    /// The same for all invocations of one run, so that the function can recognise a repetition.
    pub run: String,
    /// `sha256:…`
    pub digest: String,
    /// The release's tag.
    pub tag: String,
    /// Target group ARNs of the candidate, one for each load balancer of the policy.
    pub candidate_target_groups: Vec<String>,
}

/// A hook function's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum HookReport {
    /// The hook passed.
    Succeeded,
    /// The hook failed.
    Failed {
        /// Free text by the hook.
        #[serde(default)]
        reason: String,
    },
    /// Not finished: the function is invoked again later.
    InProgress,
}

/// The result of performing an effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The desired state is set.
    Done,
    /// [`Effect::RegisterVersion`] succeeded.
    Registered {
        /// ARN, revision included.
        version: String,
        /// An identical revision existed already.
        reused: bool,
    },
    /// [`Effect::InvokeHook`] returned an answer.
    HookReported {
        /// The function's answer.
        report: HookReport,
    },
    /// [`Effect::StartTask`] succeeded.
    TaskStarted {
        /// ARN of the task.
        task: String,
    },
    /// Throttled by AWS; retried on the next pass.
    Throttled {
        /// AWS's error message.
        reason: String,
    },
    /// The result is unknown (timed out, unreachable); retried.
    Unsure {
        /// The error, for people.
        reason: String,
    },
    /// Not done: the state that the decision was based on has changed since. A new decision follows.
    Conflict {
        /// The state found, and the state expected.
        reason: String,
    },
    /// AWS refused it and will refuse it again: denied, not found, invalid.
    Refused {
        /// AWS's error message.
        reason: String,
    },
}

/// Identifies an effect by kind and side, to match a failure with its retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectKey {
    /// Kind of the effect.
    pub kind: EffectKind,
    /// The side that it changes; none: it does not belong to one side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
}

/// The kind of an effect, without its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectKind {
    /// [`Effect::RegisterVersion`]
    RegisterVersion,
    /// [`Effect::SetVersion`]
    SetVersion,
    /// [`Effect::ReplaceVersion`]
    ReplaceVersion,
    /// [`Effect::StartFirst`]
    StartFirst,
    /// [`Effect::StopFirst`]
    StopFirst,
    /// [`Effect::SetDesired`]
    SetDesired,
    /// [`Effect::SetAutoscaling`]
    SetAutoscaling,
    /// [`Effect::SetWeights`]
    SetWeights,
    /// [`Effect::SetTestRules`]
    SetTestRules,
    /// [`Effect::InvokeHook`]
    InvokeHook,
    /// [`Effect::StartTask`]
    StartTask,
    /// [`Effect::StopTask`]
    StopTask,
}

impl EffectKind {
    /// In snake case, as in the journal and `--json`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RegisterVersion => "register_version",
            Self::SetVersion => "set_version",
            Self::ReplaceVersion => "replace_version",
            Self::StartFirst => "start_first",
            Self::StopFirst => "stop_first",
            Self::SetDesired => "set_desired",
            Self::SetAutoscaling => "set_autoscaling",
            Self::SetWeights => "set_weights",
            Self::SetTestRules => "set_test_rules",
            Self::InvokeHook => "invoke_hook",
            Self::StartTask => "start_task",
            Self::StopTask => "stop_task",
        }
    }
}

impl std::fmt::Display for EffectKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Effect {
    /// The kind of this effect.
    #[must_use]
    pub fn kind(&self) -> EffectKind {
        match self {
            Self::RegisterVersion { .. } => EffectKind::RegisterVersion,
            Self::SetVersion { .. } => EffectKind::SetVersion,
            Self::ReplaceVersion { .. } => EffectKind::ReplaceVersion,
            Self::StartFirst { .. } => EffectKind::StartFirst,
            Self::StopFirst { .. } => EffectKind::StopFirst,
            Self::SetDesired { .. } => EffectKind::SetDesired,
            Self::SetAutoscaling { .. } => EffectKind::SetAutoscaling,
            Self::SetWeights { .. } => EffectKind::SetWeights,
            Self::SetTestRules { .. } => EffectKind::SetTestRules,
            Self::InvokeHook { .. } => EffectKind::InvokeHook,
            Self::StartTask { .. } => EffectKind::StartTask,
            Self::StopTask { .. } => EffectKind::StopTask,
        }
    }

    /// Kind and side of this effect.
    #[must_use]
    pub fn key(&self) -> EffectKey {
        let slot = match self {
            Self::SetVersion { slot, .. } | Self::SetDesired { slot, .. } | Self::SetAutoscaling { slot, .. } => {
                Some(*slot)
            }
            Self::StartFirst { slot, .. } | Self::StopFirst { slot } => *slot,
            _ => None,
        };
        EffectKey { kind: self.kind(), slot }
    }
}
