//! What people, CI and pushes ask for: kept in the ledger until a decision consumes it.

use crate::entry::Gate;
use crate::names::{Actor, ImageDigest, Name, ReleaseId, TargetId};
use crate::target::ReleaseRef;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A command's identity, made from its content: the same content twice is one command.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommandId(pub String);

/// One thing asked of one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Made from the content; see [`Command::push`] and [`Command::asked`].
    pub id: CommandId,
    /// Of whom it is asked.
    pub target: TargetId,
    /// What is asked.
    pub instruction: Instruction,
    /// Who asks.
    pub actor: Actor,
    /// Why, in the asker's words; empty for a push of a new image.
    pub reason: String,
    /// When it was asked.
    pub at: Timestamp,
}

/// What can be asked of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Instruction {
    /// Bring this release here.
    Deploy {
        /// What.
        release: ReleaseId,
        /// The image as a task definition names it.
        image: String,
        /// The tag, for people.
        tag: String,
        /// What the asker takes upon themselves.
        overrides: Overrides,
        /// By which way, and what it is part of.
        #[serde(default)]
        terms: Terms,
    },
    /// End the running deployment: traffic back to the stable side, verdict `cancelled`.
    Abort {
        /// Only if this deployment is the running one; none: whichever runs.
        deployment: Option<u64>,
    },
    /// Bring back the stable side of the running deployment, or, if none runs, the release before the present one.
    Rollback,
    /// Say yes to a deployment that waits for approval.
    Approve {
        /// Which.
        deployment: u64,
        /// What was looked at: another plan is not said yes to.
        plan: PlanId,
    },
    /// Say no to a deployment that waits for approval; the command's reason says why.
    Reject {
        /// Which.
        deployment: u64,
        /// What was looked at.
        plan: PlanId,
    },
    /// Open gates of a deployment that waits, by hand; the command's reason says why.
    Override {
        /// Which.
        deployment: u64,
        /// The gates.
        gates: BTreeSet<Gate>,
    },
    /// Go on after a forward-only release froze the target: its deployment, if it still runs, or the next one.
    Resume,
    /// Another service of a release train did not make it: this member stops, and goes back if the train does so together.
    StopTrain {
        /// Which train.
        train: String,
        /// The service that did not make it.
        service: Name,
    },
    /// A release that this target may know has got another tag, which says more: from now on people see that one.
    NameRelease {
        /// Which.
        release: ReleaseId,
        /// Its most specific tag.
        tag: String,
    },
    /// A door has refused something that was asked of this target; nothing changes, and the journal says so.
    NoteRefusal {
        /// What was asked, in a word: `promote`, `approve`.
        what: String,
    },
}

impl Instruction {
    /// What is asked, in a word, in snake case.
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
            Self::StopTrain { .. } => "stop_train",
            Self::NameRelease { .. } => "name_release",
            Self::NoteRefusal { .. } => "note_refusal",
        }
    }
}

/// By which way a release comes, and what it is part of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// The way.
    pub lane: Lane,
    /// It cannot be switched back automatically (a migration ran): trouble freezes the target and calls a person.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub forward_only: bool,
    /// The set of services that it is deployed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<Train>,
    /// When the release was pushed: what is older than the stable release is a pin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushed_at: Option<Timestamp>,
}

/// By which way a release comes to a target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "lane", rename_all = "snake_case")]
pub enum Lane {
    /// A push, a person or CI asked for it.
    #[default]
    Asked,
    /// An environment before this one has verified it, and the policy promotes by itself.
    Automatic {
        /// That environment.
        from: Name,
    },
    /// Somebody with the right to do so asked for the short way: the gates that the policy names are not asked.
    Hotfix,
}

/// Several services that are deployed as one set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Train {
    /// Its identity: the request that asked for it.
    pub id: String,
    /// Its services, and what each is to run.
    pub members: BTreeMap<Name, ImageDigest>,
    /// The whole set goes back if one member does.
    pub together: bool,
}

/// What somebody who approves has looked at: 16 hexadecimal digits over target, release, policy and what is replaced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanId(pub String);

/// Gates that a person opens by hand, with the command's reason on record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overrides {
    /// Alarms that may fire when the deployment starts. Each is judged again once it has been OK.
    pub firing_alarms: BTreeSet<String>,
}

impl Command {
    /// What a push asks of a target. The same release asks a target once, however often its event comes.
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
                terms: Terms { pushed_at: Some(release.pushed_at), ..Terms::default() },
            },
            actor: Actor::Push { repository: repository.to_owned() },
            reason: String::new(),
            at,
        }
    }

    /// What a tag asks of a target that was moved onto an image which is known already: the deployment of that image, anew.
    /// `moved_from` is when the tag was put where it was before, none where it is new; so each move asks once, however
    /// often it is told and by whichever way.
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

    /// What another tag of a known release asks of a target: to call it by that one.
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

    /// What an environment's verification asks of the next one. The same release is promoted once from each environment,
    /// however often that is told. `actor` is who brought it there.
    #[must_use]
    pub fn promotion(target: TargetId, verified: &VerifiedElsewhere<'_>, at: Timestamp) -> Self {
        let VerifiedElsewhere { release, from, deployment, actor } = verified;
        Self {
            id: CommandId(format!("promotion:{from}:{deployment}:{}", release.id.digest)),
            target,
            instruction: Instruction::Deploy {
                release: release.id.clone(),
                image: release.image.clone(),
                tag: release.tag.clone(),
                overrides: Overrides::default(),
                terms: Terms {
                    lane: Lane::Automatic { from: (*from).clone() },
                    pushed_at: release.pushed_at,
                    ..Terms::default()
                },
            },
            actor: (*actor).clone(),
            reason: format!("verified in {from} (#{deployment})"),
            at,
        }
    }

    /// What a member of a release train that did not make it asks of the others.
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

    /// What somebody asks. `request` is the asker's own key: asking twice with one key is asking once.
    #[must_use]
    pub fn asked(
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
pub struct VerifiedElsewhere<'a> {
    /// What.
    pub release: &'a ReleaseRef,
    /// Where.
    pub from: &'a Name,
    /// By which deployment there.
    pub deployment: u64,
    /// Who had asked for that one.
    pub actor: &'a Actor,
}
