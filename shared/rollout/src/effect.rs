//! What shall be true of the world. Every effect is absolute: performing it twice is performing it once.

use crate::names::Slot;
use crate::snapshot::{Autoscaling, Weights};
use serde::{Deserialize, Serialize};

/// One change of the world, asked for by a decision and performed by the driver that holds the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// There is a task definition like `like`, only that `container` runs `image`. An identical revision is reused.
    RegisterTaskDefinition {
        /// ARN of the task definition that everything else is kept of.
        like: String,
        /// The container whose image changes.
        container: String,
        /// The image, by digest.
        image: String,
    },
    /// The side runs this task definition with this many tasks.
    UpdateService {
        /// Which side.
        slot: Slot,
        /// ARN of the task definition.
        task_definition: String,
        /// Tasks wanted.
        desired: u32,
    },
    /// The side has this many tasks; its task definition stays.
    SetDesired {
        /// Which side.
        slot: Slot,
        /// Tasks wanted.
        desired: u32,
    },
    /// The side's scalable target has these limits. Only asked for where there is a scalable target.
    SetAutoscaling {
        /// Which side.
        slot: Slot,
        /// The limits.
        limits: Autoscaling,
    },
    /// Every rule of the policy has these weights. Nothing else of a rule changes. Where one of several rules
    /// cannot be written the outcome is a failure, and the next decision puts all of them right.
    SetWeights {
        /// The weights.
        weights: Weights,
        /// The weights of each rule that the decision was made on, in the policy's order. They are read once more right
        /// before the write, and where they are others by then nothing is written ([`Outcome::Changed`]). Empty on
        /// the way back: whatever somebody else has set is replaced, and a side that a rule lacks is put into it.
        /// ELB has no conditional write, so an edit between that reading and the write is still lost.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        seen: Vec<Weights>,
    },
    /// The test rule has these weights.
    SetTestRule {
        /// The weights.
        weights: Weights,
    },
    /// A hook's function is asked whether it is done. `run` is the same at every asking of one run.
    AskHook {
        /// The hook's name.
        hook: String,
        /// Name or ARN of the function.
        function: String,
        /// Identity of the run: deployment and hook.
        run: String,
        /// What the function is told.
        payload: HookPayload,
    },
    /// A hook's task has been started, once for each `run`.
    StartTask {
        /// The hook's name.
        hook: String,
        /// Identity of the run, at most 36 characters: ECS's `startedBy` and `clientToken`.
        run: String,
        /// ARN of the task definition.
        task_definition: String,
        /// The container whose command is replaced.
        container: String,
        /// The command; empty: as the task definition has it.
        command: Vec<String>,
        /// The side whose network configuration and launch type are used.
        like: Slot,
    },
    /// The task of a hook is stopped: the hook's time is over.
    StopTask {
        /// ARN of the task.
        task: String,
    },
}

/// What a hook's function is told, as JSON. Stable: users' functions read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookPayload {
    /// `application/service/environment`
    pub target: String,
    /// The deployment's number.
    pub deployment: u64,
    /// The hook's name.
    pub hook: String,
    /// The same at every asking of one run: for the function to tell a repetition.
    pub run: String,
    /// `sha256:…`
    pub digest: String,
    /// The release's tag.
    pub tag: String,
    /// Target group ARN of the candidate.
    pub candidate_target_group: String,
}

/// What a hook's function answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum HookReport {
    /// Go on.
    Succeeded,
    /// Do not go on.
    Failed {
        /// The hook's words.
        #[serde(default)]
        reason: String,
    },
    /// Ask again later.
    InProgress,
}

/// What became of an effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It is so now.
    Done,
    /// [`Effect::RegisterTaskDefinition`] is so now.
    Registered {
        /// ARN, revision included.
        task_definition: String,
        /// It was there already.
        reused: bool,
    },
    /// [`Effect::AskHook`] got an answer.
    HookReported {
        /// The answer.
        report: HookReport,
    },
    /// [`Effect::StartTask`] is so now.
    TaskStarted {
        /// ARN of the task.
        task: String,
    },
    /// It was not done: there were too many requests. It will be asked for again.
    Throttled {
        /// AWS's words.
        reason: String,
    },
    /// Perhaps it is so, perhaps not: timed out, unreachable. It will be asked for again.
    Unsure {
        /// What went wrong, for people.
        reason: String,
    },
    /// It was not done: what the decision was made on has changed since. It is decided anew.
    Changed {
        /// What was found, and what had been seen.
        reason: String,
    },
    /// AWS said no, and will say no again: denied, not found, invalid.
    Refused {
        /// AWS's words.
        reason: String,
    },
}
