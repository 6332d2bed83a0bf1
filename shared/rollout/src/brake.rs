//! What holds deployments whoever asks for them: freezes, and the stopped line. Set and lifted by people, at once.

use crate::names::{Actor, Name, TargetId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How far a brake reaches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "scope", rename_all = "snake_case")]
pub enum Scope {
    /// The line is stopped: nothing starts anywhere, and what runs widens no further.
    Everything,
    /// One application.
    Application {
        /// Which.
        application: Name,
    },
    /// One environment of an application.
    Environment {
        /// Of which.
        application: Name,
        /// Which.
        environment: Name,
    },
}

impl Scope {
    /// Whether `target` is within it.
    #[must_use]
    pub fn covers(&self, target: &TargetId) -> bool {
        match self {
            Self::Everything => true,
            Self::Application { application } => application == &target.application,
            Self::Environment { application, environment } => {
                application == &target.application && environment == &target.environment
            }
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("everything"),
            Self::Application { application } => write!(f, "{application}"),
            Self::Environment { application, environment } => write!(f, "{application}/*/{environment}"),
        }
    }
}

/// A brake that is on. There is one at most for each scope. Rollbacks are never held by any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brake {
    /// How far it reaches.
    pub scope: Scope,
    /// Who set it.
    pub by: Actor,
    /// Why; never empty.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself; none: when somebody lifts it.
    pub until: Option<Timestamp>,
}

impl Brake {
    /// Whether it holds `target` at `now`.
    #[must_use]
    pub fn holds(&self, target: &TargetId, now: Timestamp) -> bool {
        self.scope.covers(target) && self.until.is_none_or(|until| now < until)
    }
}

/// What was done about brakes: for the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrakeRecord {
    /// The brake as it was set; for one that was lifted, as it was.
    pub brake: Brake,
    /// Who lifted it, when and why; none: it was set.
    pub lifted: Option<Lifted>,
}

/// The end of a brake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifted {
    /// By whom.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}
