//! Requests and answers as they travel, JSON on both sides. Stable: scripts read them.

use policy::Change;
use rollout::brake::{Brake, BrakeRecord, Lifted};
use rollout::doctor::Finding;
use rollout::doctor::terraform::Ignored;
use rollout::journal::JournalEntry;
use rollout::plan::Plan;
use rollout::policy::Trigger;
use rollout::target::{DeploymentRecord, TargetState};
use rollout::{Actor, Command, CommandId, Gate, Name, PlanId, Release, TargetId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Apply a policy file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// The text of a `switchback.yaml`.
    pub text: String,
}

/// What became of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyAnswer {
    /// Whose policy it is.
    pub application: String,
    /// The version that stands now.
    pub version: u64,
    /// The text was applied already; nothing was written.
    pub unchanged: bool,
    /// What is different from the version before.
    pub changes: Vec<Change>,
    /// What whoever applied it should know: a target went away while a deployment runs there,
    /// or what people were asked to approve has changed.
    pub warnings: Vec<String>,
}

/// Look ahead: at what a file would change, at what a deployment would do, or at both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanRequest {
    /// The text of a `switchback.yaml`; none: what is applied.
    pub text: Option<String>,
    /// The target of a deployment to be looked at.
    pub target: Option<TargetId>,
    /// Its release, as [`DeployRequest::release`]; none: as with [`PromoteRequest::release`] where something can be promoted
    /// there, else the latest.
    pub release: Option<String>,
}

/// What would happen. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanAnswer {
    /// Version of the application's policy that stands; none: there is none yet.
    pub version: Option<u64>,
    /// What applying the text would change; none: no text was given.
    pub changes: Option<Vec<Change>>,
    /// What the deployment would do; none: no target was given.
    pub deployment: Option<Plan>,
}

/// Whether the account is fit for a target, judged by what is applied, or by a file before it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoctorRequest {
    /// The target.
    pub target: TargetId,
    /// The text of a `switchback.yaml`; none: what is applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// What is wrong with an account, for one target. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoctorAnswer {
    /// Whose.
    pub target: TargetId,
    /// Version of the policy that it was judged by; none: the request's text.
    pub version: Option<u64>,
    /// What is not as it should be, the worst first.
    pub findings: Vec<Finding>,
    /// What Terraform must leave alone.
    pub terraform: Vec<Ignored>,
}

/// Bring a release to a target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeployRequest {
    /// A tag, a digest, at least 7 of its first hexadecimal digits, or `latest` (the newest push).
    pub release: String,
    /// Why, in the asker's words; may be empty unless alarms are overridden.
    pub reason: String,
    /// Alarms that may fire at the start, taken upon themselves by the asker.
    pub despite_alarms: BTreeSet<String>,
    /// It cannot be switched back automatically: trouble freezes the target and calls a person.
    pub forward_only: bool,
    /// The asker's own key: asking twice with one key is asking once. None: every asking is a new one.
    pub request: Option<String>,
}

/// Bring what the environments before have verified to a target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromoteRequest {
    /// As [`DeployRequest::release`]; none: the newest that the environments before have verified.
    pub release: Option<String>,
    /// Why, in the asker's words; may be empty.
    pub reason: String,
    /// As [`DeployRequest::forward_only`].
    pub forward_only: bool,
    /// As [`DeployRequest::request`].
    pub request: Option<String>,
}

/// Bring a release to a target past the gates that its environment's hotfix lane skips.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HotfixRequest {
    /// As [`DeployRequest::release`].
    pub release: String,
    /// Why, in the asker's words; never empty.
    pub reason: String,
    /// As [`DeployRequest::forward_only`].
    pub forward_only: bool,
    /// As [`DeployRequest::request`].
    pub request: Option<String>,
}

/// Bring several services of an environment to it as one set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainRequest {
    /// Whose services.
    pub application: Name,
    /// Where.
    pub environment: Name,
    /// The services, and what each is to run, as [`DeployRequest::release`]; null: the newest that the environments before
    /// have verified. Empty: all services that have a target there, each with that.
    #[serde(default)]
    pub releases: BTreeMap<Name, Option<String>>,
    /// Why, in the asker's words; may be empty, but for a hotfix.
    #[serde(default)]
    pub reason: String,
    /// As [`DeployRequest::forward_only`], for every member.
    #[serde(default)]
    pub forward_only: bool,
    /// As [`DeployRequest::request`]; it is the train's identity, too.
    #[serde(default)]
    pub request: Option<String>,
}

/// A train was taken down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainAnswer {
    /// Its identity.
    pub train: String,
    /// What was asked of each member, those first that others depend on.
    pub commands: Vec<CommandAnswer>,
    /// Members that run what they are to run already: nothing was asked of them.
    pub already_there: Vec<TargetId>,
}

/// Say yes or no to a deployment that waits for approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionRequest {
    /// Which deployment.
    pub deployment: u64,
    /// What was looked at: another plan is not said yes to.
    pub plan: PlanId,
    /// Why, in their words; never empty for a no.
    #[serde(default)]
    pub reason: String,
    /// As [`DeployRequest::request`].
    #[serde(default)]
    pub request: Option<String>,
}

/// Open gates of a deployment that waits, by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverrideRequest {
    /// Which deployment.
    pub deployment: u64,
    /// The gates.
    #[serde(default)]
    pub gates: BTreeSet<Gate>,
    /// Why, in the asker's words; never empty.
    #[serde(default)]
    pub reason: String,
    /// As [`DeployRequest::request`].
    #[serde(default)]
    pub request: Option<String>,
}

/// Let a target go on that a forward-only release has frozen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResumeRequest {
    /// Why, in the asker's words; never empty.
    pub reason: String,
    /// As [`DeployRequest::request`].
    pub request: Option<String>,
}

/// Let nothing begin in an application, or in one of its environments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeRequest {
    /// Which application.
    pub application: Name,
    /// Only in this environment; none: in all.
    #[serde(default)]
    pub environment: Option<Name>,
    /// Until when: a time (RFC 3339) or for how long (`4h`); none: until somebody lifts it.
    #[serde(default)]
    pub until: Option<String>,
    /// Why, in the asker's words; never empty.
    #[serde(default)]
    pub reason: String,
}

/// Lift a freeze.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnfreezeRequest {
    /// As it was frozen.
    pub application: Name,
    /// As it was frozen.
    #[serde(default)]
    pub environment: Option<Name>,
    /// Why, in the asker's words; never empty.
    #[serde(default)]
    pub reason: String,
}

/// Let nothing begin anywhere, and nothing that runs go on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StopTheLineRequest {
    /// As [`FreezeRequest::until`].
    pub until: Option<String>,
    /// Why, in the asker's words; never empty.
    pub reason: String,
}

/// What became of a brake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrakeAnswer {
    /// The brake that is on now, or was.
    pub brake: Brake,
    /// Its end; none: it was set.
    pub lifted: Option<Lifted>,
    /// What was on before in the same place, where it was set.
    pub instead_of: Option<Brake>,
    /// The targets that were woken because it held them.
    pub woken: Vec<TargetId>,
    /// The time of the answer.
    pub at: Timestamp,
}

/// The brakes, and what was done about them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrakesAnswer {
    /// Those that hold something now.
    pub brakes: Vec<Brake>,
    /// What was done, newest first.
    pub log: Vec<BrakeRecord>,
    /// The time of the answer.
    pub at: Timestamp,
}

/// End the running deployment, traffic back to the stable side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AbortRequest {
    /// Only if this deployment is the running one; none: whichever runs.
    pub deployment: Option<u64>,
    /// Why, in the asker's words; never empty.
    pub reason: String,
    /// As [`DeployRequest::request`].
    pub request: Option<String>,
}

/// Bring back what was there before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RollbackRequest {
    /// Why, in the asker's words; never empty.
    pub reason: String,
    /// As [`DeployRequest::request`].
    pub request: Option<String>,
}

/// A command was taken down. What becomes of it is told by status, history and journal:
/// - with `deployment`: by that deployment's record;
/// - else by the first history entry numbered above `last_deployment` (of `release`, for a deploy), or by a
///   `command_refused` entry of the asker's with a sequence above `last_entry`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandAnswer {
    /// Of whom it was asked.
    pub target: TargetId,
    /// The command's identity.
    pub command: CommandId,
    /// Who asked, as the gateway has proven it: entries that answer the command have this actor.
    pub actor: Actor,
    /// False: a command with this key was given before, and nothing was added.
    pub new: bool,
    /// The target was woken; if not, the sweeper does it within a minute.
    pub woken: bool,
    /// What is to be deployed, for a deploy.
    pub release: Option<Release>,
    /// The deployment that carries the command, where that is known already.
    pub deployment: Option<u64>,
    /// Number of the target's newest deployment when it was asked, 0 before the first.
    pub last_deployment: u64,
    /// Sequence of the target's newest journal entry when it was asked, 0 before the first.
    pub last_entry: u64,
}

/// All targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetsAnswer {
    /// By application, environment and service.
    pub targets: Vec<TargetSummary>,
    /// The time of the answer.
    pub at: Timestamp,
}

/// A target in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetSummary {
    /// Which.
    pub target: TargetId,
    /// What starts a deployment there.
    pub trigger: Trigger,
    /// Version of its application's policy.
    pub policy_version: u64,
    /// Tag of the stable release; none: nothing was deployed yet, or it was there before Switchback.
    pub stable: Option<String>,
    /// The running deployment.
    pub running: Option<RunningSummary>,
    /// Tags of the releases that wait for its end, in the order in which they start.
    pub queued: Vec<String>,
    /// What holds it; empty where nothing does.
    #[serde(default)]
    pub held: BTreeSet<Held>,
}

/// What holds a target, in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// The line is stopped.
    LineStopped,
    /// A freeze that somebody has put on.
    Freeze,
    /// A forward-only release is in trouble, or was: a person has to decide.
    Undecided,
    /// Nothing is promoted there by itself.
    Promotion,
    /// Somebody else has changed something while nothing was deployed.
    Changed,
}

/// A running deployment in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningSummary {
    /// Its number.
    pub number: u64,
    /// Its release's tag.
    pub tag: String,
    /// Its stage's name.
    pub stage: String,
    /// Since when it is there.
    pub since: Timestamp,
}

/// All that is known of one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetStatus {
    /// What is remembered, with what is waited for and why.
    pub state: TargetState,
    /// Version of the policy that names it; none: no applied policy names it any more.
    pub policy_version: Option<u64>,
    /// What starts a deployment there.
    pub trigger: Option<Trigger>,
    /// Commands that no decision has taken in yet, oldest first.
    pub commands: Vec<Command>,
    /// The brakes that keep deployments from beginning there now.
    #[serde(default)]
    pub brakes: Vec<Brake>,
    /// The time of the answer.
    pub at: Timestamp,
}

/// Deployments of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryAnswer {
    /// Newest first.
    pub deployments: Vec<DeploymentRecord>,
    /// The time of the answer.
    pub at: Timestamp,
}

/// Journal entries of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalAnswer {
    /// Oldest first.
    pub entries: Vec<JournalEntry>,
}

/// Releases of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasesAnswer {
    /// Newest push first.
    pub releases: Vec<Release>,
    /// The time of the answer.
    pub at: Timestamp,
}
