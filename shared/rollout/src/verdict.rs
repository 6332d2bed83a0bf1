//! Why a deployment rolls back, and how it ends.

use crate::names::{Actor, Name};
use serde::{Deserialize, Serialize};

/// Why a deployment rolls back or, if it cannot, awaits an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    /// An alarm fired.
    Alarm {
        /// The alarm's name.
        name: String,
        /// CloudWatch's reason (`StateReason`).
        reason: String,
    },
    /// A hook failed, or did not answer in time.
    Hook {
        /// The hook's name.
        name: String,
        /// The hook's answer, or the timeout.
        reason: String,
    },
    /// The candidate's tasks failed to start, or stopped.
    Tasks {
        /// ECS's reason.
        reason: String,
    },
    /// The candidate lost its healthy targets.
    Unhealthy {
        /// Number of targets in each state, for people.
        reason: String,
    },
    /// A deadline passed.
    Deadline {
        /// The condition that was waited for.
        reason: String,
    },
    /// AWS refused something that the deployment needs.
    Refused {
        /// AWS's error.
        reason: String,
    },
    /// A person aborted the deployment.
    Aborted {
        /// Who aborted it.
        actor: Actor,
        /// Free text by the person.
        reason: String,
    },
    /// A person requested a rollback.
    Asked {
        /// Who requested it.
        actor: Actor,
        /// Free text by the person.
        reason: String,
    },
    /// A person set all rules back to the stable side outside Switchback.
    ExternalRollback,
    /// Another service of its release train failed, and the train rolls back as a whole.
    Train {
        /// The service that failed.
        service: Name,
        /// What happened to that service.
        reason: String,
    },
    /// A newer release supersedes it (`concurrency: cancel-running`).
    Superseded {
        /// The tag of the newer release.
        by_tag: String,
    },
}

/// How a deployment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The release is now the stable one.
    Succeeded,
    /// Traffic had moved, and is back on the stable side.
    RolledBack,
    /// An approver rejected it.
    Rejected,
    /// A newer release superseded it before it was verified.
    Superseded,
    /// A person aborted it.
    Cancelled,
    /// It waited at its gates for longer than `give_up_after`.
    Expired,
    /// It ended before traffic moved, or its rollback could not be finished: the reason says which.
    Failed,
}

impl Verdict {
    /// The verdict as people read it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::RolledBack => "rolled back",
            Self::Rejected => "rejected",
            Self::Superseded => "superseded",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Failed => "failed",
        }
    }
}

impl Cause {
    /// The cause in one sentence, for the journal and history.
    #[must_use]
    pub fn summary(&self) -> String {
        let because = |reason: &str| if reason.is_empty() { String::new() } else { format!(": {reason}") };
        match self {
            Self::Alarm { name, reason } => format!("alarm {name} fired{}", because(reason)),
            Self::Hook { name, reason } => format!("hook {name} failed{}", because(reason)),
            Self::Tasks { reason } => format!("the candidate's tasks do not run{}", because(reason)),
            Self::Unhealthy { reason } => format!("the candidate is not healthy{}", because(reason)),
            Self::Deadline { reason } => format!("out of time{}", because(reason)),
            Self::Refused { reason } => format!("AWS refused what the deployment needs{}", because(reason)),
            Self::Aborted { actor, reason } => format!("aborted by {actor}{}", because(reason)),
            Self::Asked { actor, reason } => format!("rollback requested by {actor}{}", because(reason)),
            Self::ExternalRollback => "somebody put all traffic back on the stable side by hand".to_owned(),
            Self::Superseded { by_tag } => format!("replaced by {by_tag}"),
            Self::Train { service, reason } => {
                format!("{service} of its release train failed{}", because(reason))
            }
        }
    }

    /// Whether no person asked for it: a forward-only release does not roll back for such a cause.
    #[must_use]
    pub fn is_automatic(&self) -> bool {
        !matches!(self, Self::Aborted { .. } | Self::Asked { .. } | Self::ExternalRollback)
    }

    /// The verdict of a rollback completed for this cause.
    #[must_use]
    pub fn verdict(&self, traffic_moved: bool) -> Verdict {
        match self {
            Self::Aborted { .. } => Verdict::Cancelled,
            Self::Superseded { .. } => Verdict::Superseded,
            _ if traffic_moved => Verdict::RolledBack,
            Self::Asked { .. } | Self::ExternalRollback => Verdict::Cancelled,
            _ => Verdict::Failed,
        }
    }
}
