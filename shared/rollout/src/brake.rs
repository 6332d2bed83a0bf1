//! Brakes that hold deployments regardless of who requested them: freezes and stop-the-line. People set and lift them,
//! with immediate effect.

use crate::names::{Actor, Name, TargetId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a brake applies to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "scope", rename_all = "snake_case")]
pub enum Scope {
    /// Stop-the-line: nothing starts anywhere, and running deployments do not shift more traffic.
    Everything,
    /// All targets of one application.
    Application {
        /// Its name.
        application: Name,
    },
    /// All targets in one environment of an application.
    Environment {
        /// The application's name.
        application: Name,
        /// The environment's name.
        environment: Name,
    },
}

impl Scope {
    /// Whether the scope includes `target`.
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

/// An active brake, at most one per scope. No brake ever holds a rollback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brake {
    /// Which targets it holds.
    pub scope: Scope,
    /// Who set it.
    pub by: Actor,
    /// Free text; never empty.
    pub reason: String,
    /// When it was set.
    pub since: Timestamp,
    /// When it expires; none: only when a person lifts it.
    pub until: Option<Timestamp>,
}

impl Brake {
    /// Whether it holds `target` at `now`: its scope includes the target, and it has not expired.
    #[must_use]
    pub fn holds(&self, target: &TargetId, now: Timestamp) -> bool {
        self.scope.covers(target) && self.until.is_none_or(|until| now < until)
    }
}

/// Audit record of a brake being set or lifted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrakeRecord {
    /// The brake as it was set, also in the record of lifting it.
    pub brake: Brake,
    /// Who lifted it, when and why; none: the record is of setting it.
    pub lifted: Option<Lifted>,
}

/// How a brake was lifted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifted {
    /// Who lifted it.
    pub by: Actor,
    /// Free text.
    pub reason: String,
    /// When it was lifted.
    pub at: Timestamp,
}
