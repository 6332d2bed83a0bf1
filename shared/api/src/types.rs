//! Request and response types, JSON in both directions. Stable: scripts read them.

use policy::PolicyChange;
use rollout::brake::{Brake, BrakeRecord, Lifted};
use rollout::deployment::DeploymentRecord;
use rollout::doctor::Finding;
use rollout::doctor::terraform::IgnoredAttributes;
use rollout::journal::JournalEntry;
use rollout::plan::Plan;
use rollout::policy::Trigger;
use rollout::target::TargetState;
use rollout::{Actor, Command, CommandId, Gate, Name, PlanId, Release, Stage, TargetId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Maximum length of a reason, in characters: a deployment stores it in its target's single ledger item.
pub const MAX_REASON_CHARS: usize = 500;
/// Maximum length of a request key, in characters.
pub const MAX_REQUEST_KEY_CHARS: usize = 64;
/// Maximum stored length of a caller's name, in characters; an IAM ARN has at most 2048, and far less in practice.
pub const MAX_CALLER_CHARS: usize = 512;
/// Maximum number of list entries in one response.
pub const MAX_LISTED: usize = 200;
/// Maximum number of services in a train: each member's command, and later its target's state, names all of them.
pub const MAX_TRAIN_MEMBERS: usize = 25;

/// Apply a policy file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// The text of a `switchback.yaml`.
    pub text: String,
}

/// Result of applying a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyResponse {
    /// The application of the policy.
    pub application: String,
    /// The current version.
    pub version: u64,
    /// The text had already been applied; nothing was written.
    pub unchanged: bool,
    /// Differences from the previous version.
    pub changes: Vec<PolicyChange>,
    /// Warnings for the person who applied it: a target was removed while a deployment runs there, or a pending approval request
    /// has changed.
    pub warnings: Vec<String>,
}

/// Previews the changes of a policy file, a deployment, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanRequest {
    /// The text of a `switchback.yaml`; `None`: the applied policy.
    pub text: Option<String>,
    /// The target of a deployment to preview.
    pub target: Option<TargetId>,
    /// The release, as [`DeployRequest::release`]; `None`: as [`PromoteRequest::release`] if something can be promoted there,
    /// else the latest.
    pub release: Option<String>,
}

/// Preview. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanResponse {
    /// Current version of the application's policy; `None` if there is none yet.
    pub version: Option<u64>,
    /// The changes that applying the text would make; `None`: no text was given.
    pub changes: Option<Vec<PolicyChange>>,
    /// The plan of the deployment; `None`: no target was given.
    pub deployment: Option<Plan>,
}

/// Checks whether the account is configured correctly for a target, by the applied policy or by a file before it is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoctorRequest {
    /// The target.
    pub target: TargetId,
    /// The text of a `switchback.yaml`; `None`: the applied policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Problems of an account, for one target. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoctorResponse {
    /// The target that was checked.
    pub target: TargetId,
    /// Version of the policy that it was checked against; `None`: the request's text.
    pub version: Option<u64>,
    /// Problems found, the most severe first.
    pub findings: Vec<Finding>,
    /// Attributes that Terraform must ignore.
    pub terraform: Vec<IgnoredAttributes>,
}

/// Deploys a release to a target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeployRequest {
    /// A tag, a digest, at least 7 of its first hexadecimal digits, or `latest` (the newest push). Empty with
    /// `configuration`: the stable release.
    pub release: String,
    /// Deploys a newer template, even if the release is the stable one.
    pub configuration: bool,
    /// The first deployment to a target that runs nothing: the number of tasks to start. `None`: something runs there.
    pub first: Option<u32>,
    /// Free text from the requester; may be empty unless alarms are overridden.
    pub reason: String,
    /// Alarms that may fire at the start, on the requester's responsibility.
    pub despite_alarms: BTreeSet<String>,
    /// Forward-only: no automatic rollback; a failing deployment awaits an operator and blocks the target.
    pub forward_only: bool,
    /// The requester's own key: requests with the same key count as one. `None`: every request is a new one.
    pub request: Option<String>,
}

/// Promotes a release that the upstream environments have verified to a target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromoteRequest {
    /// As [`DeployRequest::release`]; `None`: the newest that the upstream environments have verified.
    pub release: Option<String>,
    /// Free text from the requester; may be empty.
    pub reason: String,
    /// As [`DeployRequest::forward_only`].
    pub forward_only: bool,
    /// As [`DeployRequest::request`].
    pub request: Option<String>,
}

/// Deploys a release to a target past the gates that its environment's hotfix lane skips.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HotfixRequest {
    /// As [`DeployRequest::release`].
    pub release: String,
    /// Free text from the requester; required.
    pub reason: String,
    /// As [`DeployRequest::forward_only`].
    pub forward_only: bool,
    /// As [`DeployRequest::request`].
    pub request: Option<String>,
}

/// Deploys several services of an environment as one set (release train).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainRequest {
    /// The application that the services belong to.
    pub application: Name,
    /// The target environment.
    pub environment: Name,
    /// The services and the release of each, as [`DeployRequest::release`]; null: the newest that the upstream environments have
    /// verified. Empty: all services that have a target in the environment, each with that.
    #[serde(default)]
    pub releases: BTreeMap<Name, Option<String>>,
    /// Free text from the requester; may be empty, except for a hotfix.
    #[serde(default)]
    pub reason: String,
    /// As [`DeployRequest::forward_only`], for every member.
    #[serde(default)]
    pub forward_only: bool,
    /// As [`DeployRequest::request`]; also the train's identity.
    #[serde(default)]
    pub request: Option<String>,
}

/// A train was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainResponse {
    /// Its identity.
    pub train: String,
    /// The command sent to each member, dependencies first.
    pub commands: Vec<CommandResponse>,
    /// Members that already run the requested release: no command was sent.
    pub already_there: Vec<TargetId>,
}

/// Approves or rejects a deployment that waits for approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionRequest {
    /// The deployment's number.
    pub deployment: u64,
    /// The plan that was reviewed: a decision on another plan is refused.
    pub plan: PlanId,
    /// Free text from the person; required for a rejection.
    #[serde(default)]
    pub reason: String,
    /// As [`DeployRequest::request`].
    #[serde(default)]
    pub request: Option<String>,
}

/// Overrides gates of a waiting deployment manually.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverrideRequest {
    /// The deployment's number.
    pub deployment: u64,
    /// The gates to override.
    #[serde(default)]
    pub gates: BTreeSet<Gate>,
    /// Free text from the requester; required.
    #[serde(default)]
    pub reason: String,
    /// As [`DeployRequest::request`].
    #[serde(default)]
    pub request: Option<String>,
}

/// Resumes a target that awaits an operator after a forward-only release failed, or that an alarm of the stable side holds. Also
/// the body that ends stop-the-line, where `request` is ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResumeRequest {
    /// Free text from the requester; required.
    pub reason: String,
    /// As [`DeployRequest::request`].
    pub request: Option<String>,
}

/// Freezes an application or one of its environments: no deployment starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeRequest {
    /// The application to freeze.
    pub application: Name,
    /// Limits the freeze to this environment; `None`: all environments.
    #[serde(default)]
    pub environment: Option<Name>,
    /// End of the freeze: a time (RFC 3339) or a duration (`4h`); `None`: until it is lifted.
    #[serde(default)]
    pub until: Option<String>,
    /// Free text from the requester; required.
    #[serde(default)]
    pub reason: String,
}

/// Lifts a freeze.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnfreezeRequest {
    /// The application of the freeze.
    pub application: Name,
    /// The environment of the freeze.
    #[serde(default)]
    pub environment: Option<Name>,
    /// Free text from the requester; required.
    #[serde(default)]
    pub reason: String,
}

/// Stops the line: no deployment starts anywhere, and running ones do not proceed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StopTheLineRequest {
    /// As [`FreezeRequest::until`].
    pub until: Option<String>,
    /// Free text from the requester; required.
    pub reason: String,
}

/// Result of setting or lifting a brake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrakeResponse {
    /// The brake that was set or lifted.
    pub brake: Brake,
    /// Who lifted it; `None`: it was set.
    pub lifted: Option<Lifted>,
    /// The brake in the same scope that the new one replaced.
    pub instead_of: Option<Brake>,
    /// Targets that were woken because the brake held them.
    pub woken: Vec<TargetId>,
    /// The time of the answer.
    pub at: Timestamp,
}

/// The brakes, and their log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrakesResponse {
    /// Brakes in effect now.
    pub brakes: Vec<Brake>,
    /// Log of brakes set and lifted, newest first.
    pub log: Vec<BrakeRecord>,
    /// The time of the answer.
    pub at: Timestamp,
}

/// Ends the running deployment and returns traffic to the stable side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AbortRequest {
    /// Only if this is the running deployment; `None`: any.
    pub deployment: Option<u64>,
    /// Free text from the requester; required.
    pub reason: String,
    /// As [`DeployRequest::request`].
    pub request: Option<String>,
}

/// Rolls back to the previous release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RollbackRequest {
    /// Free text from the requester; required.
    pub reason: String,
    /// As [`DeployRequest::request`].
    pub request: Option<String>,
}

/// A command was recorded. Its result appears in status, history and journal:
/// - with `deployment`: in that deployment's record;
/// - else in the first history entry numbered above `last_deployment` (of `release`, for a deploy), or in a `command_refused`
///   entry of the same actor with a sequence above `last_entry`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandResponse {
    /// The target of the command.
    pub target: TargetId,
    /// The command's identity.
    pub command: CommandId,
    /// The requester, as authenticated by the gateway: journal entries about the command have this actor.
    pub actor: Actor,
    /// False: a command with this key already existed, and nothing was added.
    pub new: bool,
    /// The target was woken; if not, the sweeper wakes it within a minute.
    pub woken: bool,
    /// The release to deploy, for a deploy.
    pub release: Option<Release>,
    /// The deployment that carries out the command, if already known.
    pub deployment: Option<u64>,
    /// Number of the target's newest deployment at the time of the request, 0 before the first.
    pub last_deployment: u64,
    /// Sequence of the target's newest journal entry at the time of the request, 0 before the first.
    pub last_entry: u64,
}

/// All targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetsResponse {
    /// Sorted by application, environment and service.
    pub targets: Vec<TargetSummary>,
    /// The time of the answer.
    pub at: Timestamp,
}

/// A target in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetSummary {
    /// The target's identity.
    pub target: TargetId,
    /// What starts a deployment there.
    pub trigger: Trigger,
    /// Version of its application's policy.
    pub policy_version: u64,
    /// Tag of the stable release; `None`: nothing was deployed yet, or the release predates Switchback.
    pub stable: Option<String>,
    /// The running deployment.
    pub running: Option<RunningSummary>,
    /// Tags of the queued releases, in the order in which they start.
    pub queued: Vec<String>,
    /// Reasons that hold it; empty if none.
    #[serde(default)]
    pub held: BTreeSet<HoldReason>,
}

/// Why a target is on hold, in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldReason {
    /// The line is stopped.
    LineStopped,
    /// A freeze set by a person.
    Freeze,
    /// A forward-only release failed: an operator has to decide.
    AwaitingOperator,
    /// Automatic promotion is on hold.
    PromotionHold,
    /// A resource was edited outside Switchback while no deployment ran.
    Drifted,
}

/// A running deployment in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningSummary {
    /// The deployment's number.
    pub number: u64,
    /// Tag of its release.
    pub tag: String,
    /// Its current stage.
    pub stage: Stage,
    /// When it entered the stage.
    pub since: Timestamp,
}

/// Everything known about one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetStatus {
    /// The stored state, including the reasons for waiting.
    pub state: TargetState,
    /// Version of the policy that names it; `None`: no applied policy names it any more.
    pub policy_version: Option<u64>,
    /// What starts a deployment there.
    pub trigger: Option<Trigger>,
    /// Commands that no decision has processed yet, oldest first.
    pub commands: Vec<Command>,
    /// Brakes that prevent deployments from starting there now.
    #[serde(default)]
    pub brakes: Vec<Brake>,
    /// The time of the answer.
    pub at: Timestamp,
}

/// Deployments of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryResponse {
    /// Newest first.
    pub deployments: Vec<DeploymentRecord>,
    /// The time of the answer.
    pub at: Timestamp,
}

/// Journal entries of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalResponse {
    /// Oldest first.
    pub entries: Vec<JournalEntry>,
}

/// Releases of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasesResponse {
    /// Newest push first.
    pub releases: Vec<Release>,
    /// The time of the answer.
    pub at: Timestamp,
}
