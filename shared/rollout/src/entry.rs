//! Entry rules: what a release must pass before its deployment may start in an environment, the people who approve, and
//! the permissions of workflows. [`promotion`](crate::promotion) evaluates the rules.

use crate::names::{Actor, Name};
use crate::time::Seconds;
use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A condition for the start of a deployment. Each variant says when the gate is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// The registry still has the release's image.
    Image,
    /// The upstream environments have verified the release.
    After,
    /// The upstream environments have verified the release for long enough.
    Soak,
    /// The services of its release train that it depends on are deployed.
    Train,
    /// Enough approvers have approved.
    Approval,
    /// A deploy window is open.
    Window,
    /// No freeze is active.
    Freeze,
    /// Stop-the-line is not active.
    StopTheLine,
    /// No other service of the environment is being deployed.
    OneAtATime,
    /// The service runs: it is not at 0 tasks. Determined by observation, not by a rule of the policy, and
    /// cannot be overridden.
    Asleep,
}

impl Gate {
    /// The gate's name, as in the policy file and `--json`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::After => "after",
            Self::Soak => "soak",
            Self::Train => "train",
            Self::Approval => "approval",
            Self::Window => "window",
            Self::Freeze => "freeze",
            Self::StopTheLine => "stop_the_line",
            Self::OneAtATime => "one_at_a_time",
            Self::Asleep => "asleep",
        }
    }

    /// Why nobody may open the gate by hand, as text for people; none: a person may.
    #[must_use]
    pub fn why_never_overridable(self) -> Option<&'static str> {
        match self {
            Self::Asleep => Some("nothing can be deployed while both sides are at 0 tasks: wake the service"),
            Self::Train => {
                Some("the order of a release train cannot be overridden: end it, and deploy the service alone")
            }
            Self::Image => {
                Some("an image that the registry does not have cannot be deployed, whoever says so: push it again")
            }
            Self::After
            | Self::Soak
            | Self::Approval
            | Self::Window
            | Self::Freeze
            | Self::StopTheLine
            | Self::OneAtATime => None,
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An environment's rules for starting a deployment. Rollbacks are exempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EntryRules {
    /// The upstream environments that must have verified the release.
    pub after: Option<After>,
    /// How long ago they must have verified it, without a rollback since.
    pub soak: Seconds,
    /// Who must approve.
    pub approval: Option<ApprovalPolicy>,
    /// IANA name of the time zone of windows and freezes; none: UTC.
    pub time_zone: Option<String>,
    /// When deployments may start; empty: at any time.
    pub windows: Vec<Window>,
    /// When no deployment may start.
    pub freezes: Vec<FreezePeriod>,
    /// The gates that a hotfix skips; empty: there is no hotfix lane.
    pub hotfix_skips: BTreeSet<Gate>,
    /// Whether a release train rolls back as a whole.
    pub rollback_train_together: bool,
    /// A deployment starts only while no other service of the environment is between the start of its deployment and the
    /// end of its bake.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub one_at_a_time: bool,
    /// How long all gates together may hold a deployment, which then ends as expired.
    pub give_up_after: Seconds,
}

impl EntryRules {
    /// Default of `give_up_after`: a week.
    pub const GIVE_UP_AFTER: Seconds = Seconds(7 * 24 * 3600);
}

impl Default for EntryRules {
    fn default() -> Self {
        Self {
            after: None,
            soak: Seconds(0),
            approval: None,
            time_zone: None,
            windows: Vec::new(),
            freezes: Vec::new(),
            hotfix_skips: BTreeSet::new(),
            rollback_train_together: false,
            one_at_a_time: false,
            give_up_after: Self::GIVE_UP_AFTER,
        }
    }
}

/// The upstream environments of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// All of them must have verified the release.
    All(Vec<Name>),
    /// At least one of them must have verified the release.
    Any(Vec<Name>),
}

impl After {
    /// The environments' names.
    #[must_use]
    pub fn environments(&self) -> &[Name] {
        match self {
            Self::All(names) | Self::Any(names) => names,
        }
    }
}

/// Who must approve a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalPolicy {
    /// Number of different approvers, at least 1. The requester of the deployment does not count.
    pub required: u8,
    /// Names of people and groups in the policy.
    pub from: Vec<Name>,
    /// Time limit, from the request for approval.
    pub expires: Seconds,
    /// What happens without enough approvals in time.
    pub default: ApprovalDefault,
}

/// What happens when the time limit for approval passes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalDefault {
    /// The deployment ends as `expired`.
    #[default]
    Reject,
    /// The gate opens.
    Approve,
}

/// A weekly deploy window, in the time zone of its [`EntryRules`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// ISO 8601 numbers of weekdays: 1 is Monday, 7 is Sunday.
    pub days: BTreeSet<u8>,
    /// First minute of the day inside the window, 0 to 1439.
    pub from_minute: u16,
    /// First minute of the day after the window, 1 to 1440; above `from_minute`.
    pub until_minute: u16,
}

/// A calendar freeze: a period in which no deployment may start, in the time zone of its [`EntryRules`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezePeriod {
    /// Inclusive.
    pub from: DateTime,
    /// Exclusive.
    pub until: DateTime,
    /// Free text, shown while the freeze holds a deployment.
    pub reason: String,
}

/// A person named in the policy, with their identity in each channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Person {
    /// Slack member ID: `U012AB3CD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slack: Option<String>,
    /// ARNs of IAM users or of role sessions, as returned by `sts get-caller-identity`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub iam: Vec<String>,
    /// GitHub's numeric account ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub github: Option<String>,
    /// ARN of an SNS topic that only they are subscribed to: approval requests are sent there with a signed link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail: Option<String>,
}

/// Prefix of an actor's name that was authenticated by Slack.
pub const SLACK_PREFIX: &str = "slack:";
/// Prefix of an actor's name that was authenticated by a signed link.
pub const MAIL_PREFIX: &str = "mail:";

impl Person {
    /// Whether the authenticated `actor` is this person, whom the policy calls `name`.
    #[must_use]
    pub fn is(&self, name: &Name, actor: &Actor) -> bool {
        match actor {
            Actor::Person { name: known } => {
                if let Some(user) = known.strip_prefix(SLACK_PREFIX) {
                    self.slack.as_deref() == Some(user)
                } else if let Some(holder) = known.strip_prefix(MAIL_PREFIX) {
                    self.mail.is_some() && holder == name.as_str()
                } else {
                    self.iam.iter().any(|arn| arn == known)
                }
            }
            Actor::Workflow { actor_id, .. } => actor_id.is_some() && *actor_id == self.github,
            Actor::Push { .. } | Actor::Switchback => false,
        }
    }
}

/// Permissions of a GitHub Actions workflow. Every key that is present must match the claims of the workflow's token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Claim `repository_id`: a number that is never reused.
    pub repository_id: String,
    /// Claim `repository_owner_id`: the owner's number, never reused either.
    pub repository_owner_id: String,
    /// Patterns for claim `ref`; empty: any except those of a merge queue.
    pub refs: Vec<String>,
    /// Claim `environment`: the job's GitHub environment, with its protection rules. Compared case-insensitively.
    pub github_environment: Option<String>,
    /// Patterns for the workflow's path in claim `workflow_ref`, whose repository must be the job's own and whose ref
    /// must match `refs`; empty: any.
    pub workflows: Vec<String>,
    /// Patterns for claim `job_workflow_ref`, `owner/name/path@ref`: the reusable workflow that contains the job;
    /// empty: any, or none.
    pub reusable_workflows: Vec<String>,
    /// Values of claim `event_name`; empty: any except those that run untrusted code (see `policy::grants`).
    pub events: Vec<String>,
    /// What the workflow may do.
    pub permissions: BTreeSet<Permission>,
    /// Services that it may deploy; empty: all.
    pub services: Vec<Name>,
    /// Environments that it may deploy to; never empty.
    pub environments: Vec<Name>,
}

/// A permission of a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Deploy what the upstream environment has verified.
    Promote,
    /// Deploy a release by name, subject to the environment's rules.
    Deploy,
    /// Use the hotfix lane.
    Hotfix,
}

/// The entry rules that apply to one target: the environment's, with names resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetEntryRules {
    /// The environment's rules.
    pub rules: EntryRules,
    /// Everybody who may approve, with groups resolved.
    pub approvers: BTreeMap<Name, Person>,
    /// The services that this one depends on, directly or transitively.
    pub depends_on: BTreeSet<Name>,
    /// The services that depend on this one, directly or transitively.
    pub dependents: BTreeSet<Name>,
    /// The other services of an environment that deploys one at a time; empty: it does not.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub neighbours: BTreeSet<Name>,
    /// Releases that the upstream environments have verified are promoted automatically.
    pub auto_promotes: bool,
}
