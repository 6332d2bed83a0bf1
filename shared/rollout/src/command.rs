//! What people, CI and pushes ask for: kept in the ledger until a decision consumes it.

use crate::names::{Actor, ReleaseId, TargetId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

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
    /// Why, in the asker's words; empty for a push.
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
    },
    /// End the running deployment: traffic back to the stable side, verdict `cancelled`.
    Abort {
        /// Only if this deployment is the running one; none: whichever runs.
        deployment: Option<u64>,
    },
    /// Bring back the stable side of the running deployment, or, if none runs, the release before the present one.
    Rollback,
}

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
            },
            actor: Actor::Push { repository: repository.to_owned() },
            reason: String::new(),
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
