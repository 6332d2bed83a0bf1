//! Commands from people, CI and pushes: kept in the ledger until a decision consumes them.

use crate::entry::Gate;
use crate::names::{Actor, ImageDigest, Name, ReleaseId, TargetId};
use crate::release::ReleaseRef;
use crate::template::TemplateReading;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Identity of a command, derived from its content: a duplicate is the same command.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommandId(pub String);

/// One request to one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Derived from the content; see [`Command::push`] and [`Command::requested`].
    pub id: CommandId,
    /// The target this command addresses.
    pub target: TargetId,
    /// The requested action.
    pub instruction: Instruction,
    /// Who requested it.
    pub actor: Actor,
    /// Free text by the requester; empty for a push of a new image.
    pub reason: String,
    /// When it was requested.
    pub at: Timestamp,
}

/// The action that a command requests of its target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Instruction {
    /// Deploy this release.
    Deploy {
        /// Service and image digest.
        release: ReleaseId,
        /// The image reference for the task definition.
        image: String,
        /// The tag to show to people.
        tag: String,
        /// Checks that the requester overrides.
        overrides: Overrides,
        /// How the deployment is requested, and the release train it belongs to.
        #[serde(default)]
        options: DeployOptions,
    },
    /// End the running deployment: traffic returns to the stable side, verdict `cancelled`.
    Abort {
        /// Abort only if this is the number of the running deployment; none: abort any.
        deployment: Option<u64>,
    },
    /// Roll back to the stable side of the running deployment or, if none runs, to the release before the stable one.
    Rollback,
    /// Approve a deployment that waits for approval.
    Approve {
        /// The deployment's number.
        deployment: u64,
        /// The plan that was approved: approval of an outdated plan is refused.
        plan: PlanId,
    },
    /// Reject a deployment that waits for approval; the command's reason says why.
    Reject {
        /// The deployment's number.
        deployment: u64,
        /// The plan that was rejected.
        plan: PlanId,
    },
    /// Open gates of a waiting deployment by hand; the command's reason says why.
    Override {
        /// The deployment's number.
        deployment: u64,
        /// The gates to open.
        gates: BTreeSet<Gate>,
    },
    /// Resume after a forward-only release left the target awaiting an operator: its deployment, if it still runs, or
    /// the next one.
    Resume,
    /// The member of the release train that asks for the approval of all has it.
    ApproveTrain {
        /// Identity of the train: [`Train::id`].
        train: String,
        /// That member.
        lead: Name,
        /// Version of the policy that it was approved under.
        policy_version: u64,
        /// The approvals; fewer than required where silence counts as a yes.
        votes: Vec<Vote>,
    },
    /// Another service of the release train failed: this member stops, and rolls back if the train rolls back together.
    StopTrain {
        /// Identity of the train: [`Train::id`].
        train: String,
        /// The service that failed.
        service: Name,
    },
    /// A release that this target may know has received a more specific tag, which is shown to people from now on.
    NameRelease {
        /// Service and image digest.
        release: ReleaseId,
        /// Its most specific tag.
        tag: String,
    },
    /// A request to this target was refused where it came in; this records the refusal in the journal and changes
    /// nothing.
    NoteRefusal {
        /// The refused action, in a word: `promote`, `approve`.
        what: String,
    },
}

impl Instruction {
    /// The action's name, in snake case.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Deploy { .. } => "deploy",
            Self::Abort { .. } => "abort",
            Self::Rollback => "rollback",
            Self::Approve { .. } => "approve",
            Self::Reject { .. } => "reject",
            Self::Override { .. } => "override",
            Self::Resume => "resume",
            Self::ApproveTrain { .. } => "approve_train",
            Self::StopTrain { .. } => "stop_train",
            Self::NameRelease { .. } => "name_release",
            Self::NoteRefusal { .. } => "note_refusal",
        }
    }
}

/// What a request says about a deployment besides the release: how it was requested, whether it is forward-only, and
/// the release train it belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeployOptions {
    /// How the deployment was requested.
    pub lane: Lane,
    /// No automatic rollback is possible (a migration ran): on trouble the deployment awaits an operator.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub forward_only: bool,
    /// The release train that it is deployed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<Box<Train>>,
    /// It deploys a newer template; the image may be the one that is stable.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub configuration: bool,
    /// The first deployment to a target that runs nothing: the number of tasks to start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<u32>,
    /// The template that the new version is made of, once it was read; none: the live version, or not read yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<Box<TemplateReading>>,
    /// When the release was pushed. A person's request for a release older than the stable one is a pin: it puts
    /// automatic promotion on hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushed_at: Option<Timestamp>,
}

/// How a deployment was requested.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "lane", rename_all = "snake_case")]
pub enum Lane {
    /// Requested by a push, a person or CI.
    #[default]
    Asked,
    /// Promoted automatically: an earlier environment verified the release, and the policy promotes by itself.
    Automatic {
        /// The environment that verified it.
        from: Name,
    },
    /// Requested as a hotfix, by someone with that permission: the gates that the policy names are skipped.
    Hotfix,
}

/// A release train: several services that are deployed as one set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Train {
    /// Identity: the request that asked for it.
    pub id: String,
    /// The image digest to deploy, by service.
    pub members: BTreeMap<Name, ImageDigest>,
    /// Tags of the members' releases, for people, each at most [`Self::MAX_TAG_CHARS`] long; a missing one is unknown.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<Name, String>,
    /// The member that asks for the approval of all; none: each asks for its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead: Option<Name>,
    /// If one member rolls back, so do all others.
    pub rollback_together: bool,
}

/// The approval of a whole release train, given to one of its members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainApproval {
    /// The train.
    pub train: Box<Train>,
    /// Number of the deployment that asked for it.
    pub deployment: u64,
    /// Version of the policy that it was approved under.
    pub policy_version: u64,
    /// The approvals; fewer than required where silence counts as a yes.
    pub votes: Vec<Vote>,
}

/// One person's approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// The approver's name in the policy.
    pub person: Name,
    /// As authenticated by Slack, the mail link or the command line.
    pub actor: Actor,
    /// When the approval was given.
    pub at: Timestamp,
}

/// Identity of the plan that an approver has seen: 16 hexadecimal digits, a hash of target, release, policy and what is
/// replaced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanId(pub String);

/// Checks that a person overrides, with the command's reason on record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overrides {
    /// Alarms that may fire when the deployment starts. Each is judged again once it has been OK.
    pub firing_alarms: BTreeSet<String>,
}

impl Command {
    /// The command for a push. The same release is requested of a target once, however often its event arrives.
    #[must_use]
    pub fn push(target: TargetId, release: &crate::Release, repository: &str, at: Timestamp) -> Self {
        Self {
            id: CommandId(format!("push:{}", release.id.digest)),
            target,
            instruction: Instruction::Deploy {
                release: release.id.clone(),
                image: release.image.clone(),
                tag: release.tag.clone(),
                overrides: Overrides::default(),
                options: DeployOptions { pushed_at: Some(release.pushed_at), ..DeployOptions::default() },
            },
            actor: Actor::Push { repository: repository.to_owned() },
            reason: String::new(),
            at,
        }
    }

    /// The command for a tag that was moved onto an image which is already known: deploy that image again. `moved_from`
    /// is when the tag was put on its previous image, none for a new tag; so each move is one command, however often
    /// and by whichever channel its event arrives.
    #[must_use]
    pub fn moved_tag(
        target: TargetId,
        release: &crate::Release,
        tag: &str,
        moved_from: Option<Timestamp>,
        repository: &str,
        at: Timestamp,
    ) -> Self {
        let before = moved_from.map_or_else(String::new, |at| format!(":{}", at.as_millisecond()));
        let id = CommandId(format!("push:{}:{tag}{before}", release.id.digest));
        Self { id, reason: format!("tag {tag} was put on it"), ..Self::push(target, release, repository, at) }
    }

    /// The command for another tag of a known release: show the release by that tag.
    #[must_use]
    pub fn name_release(target: TargetId, release: &crate::Release, repository: &str, at: Timestamp) -> Self {
        Self {
            id: CommandId(format!("name:{}:{}", release.id.digest, release.tag)),
            target,
            instruction: Instruction::NameRelease { release: release.id.clone(), tag: release.tag.clone() },
            actor: Actor::Push { repository: repository.to_owned() },
            reason: String::new(),
            at,
        }
    }

    /// The command that promotes a release from the environment that verified it to the next one. A release is promoted
    /// once per verification, however often that is delivered. The train is the one
    /// that it is promoted with; `actor` in `verified` is who requested it in the previous environment.
    #[must_use]
    pub fn promotion(
        target: TargetId,
        verified: &UpstreamVerification<'_>,
        train: Option<Train>,
        at: Timestamp,
    ) -> Self {
        let UpstreamVerification { release, from, deployment, actor } = verified;
        Self {
            id: CommandId(format!("promotion:{from}:{deployment}:{}", release.id.digest)),
            target,
            instruction: Instruction::Deploy {
                release: release.id.clone(),
                image: release.image.clone(),
                tag: release.tag.clone(),
                overrides: Overrides::default(),
                options: DeployOptions {
                    lane: Lane::Automatic { from: (*from).clone() },
                    pushed_at: release.pushed_at,
                    train: train.map(Box::new),
                    ..DeployOptions::default()
                },
            },
            actor: (*actor).clone(),
            reason: format!("verified in {from} (#{deployment})"),
            at,
        }
    }

    /// The command by which the member of a release train that asked for the approval of all passes it on to another.
    #[must_use]
    pub fn approve_train(target: TargetId, lead: &TargetId, approval: &TrainApproval, at: Timestamp) -> Self {
        let TrainApproval { train, deployment, policy_version, votes } = approval;
        Self {
            id: CommandId(format!("approve-train:{}:{}#{deployment}", train.id, lead.service)),
            target,
            instruction: Instruction::ApproveTrain {
                train: train.id.clone(),
                lead: lead.service.clone(),
                policy_version: *policy_version,
                votes: votes.clone(),
            },
            actor: Actor::Switchback,
            reason: String::new(),
            at,
        }
    }

    /// The command that a failed member of a release train sends to the others.
    #[must_use]
    pub fn stop_train(target: TargetId, train: &str, service: &Name, reason: &str, at: Timestamp) -> Self {
        Self {
            id: CommandId(format!("stop-train:{train}:{service}")),
            target,
            instruction: Instruction::StopTrain { train: train.to_owned(), service: service.clone() },
            actor: Actor::Switchback,
            reason: reason.to_owned(),
            at,
        }
    }

    /// The command for a request by a person or CI. `request` is the caller's idempotency key.
    #[must_use]
    pub fn requested(
        target: TargetId,
        instruction: Instruction,
        actor: Actor,
        reason: impl Into<String>,
        request: &str,
        at: Timestamp,
    ) -> Self {
        Self { id: CommandId(format!("asked:{request}")), target, instruction, actor, reason: reason.into(), at }
    }
}

/// A release that an environment has verified.
#[derive(Debug, Clone, Copy)]
pub struct UpstreamVerification<'a> {
    /// The release that was verified.
    pub release: &'a ReleaseRef,
    /// The environment that verified it.
    pub from: &'a Name,
    /// Number of the deployment that verified it.
    pub deployment: u64,
    /// Who had requested that deployment.
    pub actor: &'a Actor,
}
