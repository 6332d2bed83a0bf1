//! What a release must pass before its deployment may begin in an environment, and the people that those rules name.
//! The judgement is [`promotion`](crate::promotion)'s.

use crate::names::{Actor, Name};
use crate::time::Seconds;
use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Something that can keep a deployment from beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// The registry still has the release's image.
    Image,
    /// The environments before this one have verified the release.
    After,
    /// It has been verified there for long enough.
    Soak,
    /// The services of its train that it depends on are deployed.
    Train,
    /// People have said yes.
    Approval,
    /// It is a time at which deployments may begin.
    Window,
    /// No freeze is on.
    Freeze,
    /// The line is not stopped.
    StopTheLine,
    /// The service runs: not both sides are at 0 tasks. Found by looking, not by a rule of the policy, and opened by nobody.
    Asleep,
}

impl Gate {
    /// Its name, as the policy file and `--json` have it.
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
            Self::Asleep => "asleep",
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The rules of an environment for a deployment to begin. Rollbacks are not asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EntryRules {
    /// Which environments must have verified the release.
    pub after: Option<After>,
    /// For how long they must have, without having gone back from it.
    pub soak: Seconds,
    /// Who has to say yes.
    pub approval: Option<ApprovalPolicy>,
    /// IANA name of the zone that windows and freezes are in; UTC where there is none.
    pub time_zone: Option<String>,
    /// When deployments may begin; empty: at any time.
    pub windows: Vec<Window>,
    /// When none may.
    pub freezes: Vec<FreezePeriod>,
    /// The gates that a hotfix is not asked at; empty: there is no hotfix lane.
    pub hotfix_skips: BTreeSet<Gate>,
    /// Whether a release train goes back as a whole.
    pub train_goes_back_together: bool,
    /// How long all the gates together may keep a deployment waiting. Then: expired.
    pub give_up_after: Seconds,
}

impl EntryRules {
    /// How long gates may keep a deployment waiting where the policy does not say: a week.
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
            train_goes_back_together: false,
            give_up_after: Self::GIVE_UP_AFTER,
        }
    }
}

/// The environments that come before one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// Every one of them has verified the release.
    All(Vec<Name>),
    /// One of them has.
    Any(Vec<Name>),
}

impl After {
    /// Their names.
    #[must_use]
    pub fn environments(&self) -> &[Name] {
        match self {
            Self::All(names) | Self::Any(names) => names,
        }
    }
}

/// Who has to say yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalPolicy {
    /// How many different people, at least 1. Whoever asked for the deployment is not among them.
    pub required: u8,
    /// People and groups, by the names that the policy has for them.
    pub from: Vec<Name>,
    /// How long they have.
    pub expires: Seconds,
    /// What it is taken for if they do not answer.
    pub default: ApprovalDefault,
}

/// What silence is taken for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalDefault {
    /// A no: the deployment ends as `expired`.
    #[default]
    Reject,
    /// A yes.
    Approve,
}

/// A time of the week at which deployments may begin, in the zone of its [`EntryRules`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// ISO 8601 numbers of weekdays: 1 is Monday, 7 is Sunday.
    pub days: BTreeSet<u8>,
    /// First minute of the day that is in it, 0 to 1439.
    pub from_minute: u16,
    /// First minute of the day that is not, 1 to 1440; above `from_minute`.
    pub until_minute: u16,
}

/// A time at which no deployment may begin, in the zone of its [`EntryRules`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezePeriod {
    /// Its first moment.
    pub from: DateTime,
    /// The first moment after it.
    pub until: DateTime,
    /// Why.
    pub reason: String,
}

/// A person that the policy names, and how they are known at each door.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Person {
    /// Slack's member ID: `U012AB3CD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slack: Option<String>,
    /// ARNs of IAM users, or of sessions of a role, as `sts get-caller-identity` has them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub iam: Vec<String>,
    /// GitHub's number for their account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub github: Option<String>,
    /// ARN of an SNS topic that only they are subscribed to: approvals are asked for there by signed link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail: Option<String>,
}

/// Begins the name of an actor that Slack has proven.
pub const SLACK: &str = "slack:";
/// Begins the name of an actor who holds a signed link.
pub const MAIL: &str = "mail:";

impl Person {
    /// Whether `actor`, as a door has proven them, is this person, whom the policy calls `name`.
    #[must_use]
    pub fn is(&self, name: &Name, actor: &Actor) -> bool {
        match actor {
            Actor::Person { name: known } => {
                if let Some(user) = known.strip_prefix(SLACK) {
                    self.slack.as_deref() == Some(user)
                } else if let Some(holder) = known.strip_prefix(MAIL) {
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

/// What a workflow of GitHub Actions may do. Every key that is there must fit its token's claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Claim `repository_id`: a number that no other repository ever gets.
    pub repository_id: String,
    /// Claim `repository_owner_id`, the same of its owner.
    pub repository_owner_id: String,
    /// Patterns of claim `ref`; empty: any but those of a merge queue.
    pub refs: Vec<String>,
    /// Claim `environment`: the job's GitHub environment, with the protection that it has there. Compared without case.
    pub github_environment: Option<String>,
    /// Patterns of the workflow's path in claim `workflow_ref`, whose repository is the job's own and whose ref fits `refs`;
    /// empty: any.
    pub workflows: Vec<String>,
    /// Patterns of claim `job_workflow_ref`, `owner/name/path@ref`: the reusable workflow that the job is written in; empty:
    /// any, or none.
    pub reusable_workflows: Vec<String>,
    /// Values of claim `event_name`; empty: any but those that run a stranger's code (see `policy::grants`).
    pub events: Vec<String>,
    /// What it may do.
    pub may: BTreeSet<Deed>,
    /// With which services; empty: with all.
    pub services: Vec<Name>,
    /// In which environments; never empty.
    pub environments: Vec<Name>,
}

/// What a workflow can be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Bring what the environment before has verified.
    Promote,
    /// Bring a release by name, where the environment's rules let it.
    Deploy,
    /// Use the hotfix lane.
    Hotfix,
}

/// What the rules say of one target: the environment's, with the people whom they name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// The environment's rules.
    pub rules: EntryRules,
    /// Everybody who may approve, groups resolved.
    pub approvers: BTreeMap<Name, Person>,
    /// The services that this one depends on, directly or not.
    pub depends_on: BTreeSet<Name>,
    /// What the environments before have verified comes by itself.
    pub promotes_itself: bool,
}
