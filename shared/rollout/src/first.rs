//! The first deployment to a target that runs nothing: there is no version before, and so no way back. What does not
//! come up is taken down again, as it was found.

use crate::names::Slot;
use crate::stage::Stage;
use crate::verdict::Cause;
use crate::weighted::{Candidate, HookProgress, Registering};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The state of a first deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct First {
    /// The side that has the weight already; none: versions replace one another in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
    /// Number of tasks to start.
    pub count: u32,
    /// The current stage.
    pub at: FirstStage,
    /// It was decided to start tasks: some may run.
    pub started: bool,
    /// Hooks that have started, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hooks: BTreeMap<String, HookProgress>,
    /// Alarms that were seen firing and do not end the deployment, as journalled.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub noticed_alarms: BTreeSet<String>,
}

/// The stage of a first deployment, with what is known only in that stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum FirstStage {
    /// Registering the version.
    Registering(Registering),
    /// Running the hooks of [`HookPoint::BeforeTraffic`](crate::policy::HookPoint::BeforeTraffic).
    BeforeTraffic {
        /// The version to start.
        candidate: Candidate,
        /// When the deployment ends as failed.
        deadline: Timestamp,
    },
    /// Starting tasks, until all are healthy.
    Starting {
        /// The version to start.
        candidate: Candidate,
        /// When they are taken down again.
        deadline: Timestamp,
    },
    /// Running the hooks of [`HookPoint::AfterTraffic`](crate::policy::HookPoint::AfterTraffic).
    AfterTraffic {
        /// The version that runs.
        candidate: Candidate,
        /// When it is taken down again.
        deadline: Timestamp,
    },
    /// Watching what has come up.
    Baking {
        /// The version that runs.
        candidate: Candidate,
        /// When the bake ends if all is well.
        until: Timestamp,
        /// When the deployment ends as failed if missing data or unhealthy tasks kept the bake from ending.
        deadline: Timestamp,
    },
    /// It did not come up, or somebody ended it: its tasks are taken down again.
    TakingDown {
        /// Why.
        cause: Cause,
        /// When the deployment ends although tasks run.
        deadline: Timestamp,
    },
}

impl FirstStage {
    /// The name of this stage.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self {
            Self::Registering(_) => Stage::Registering,
            Self::BeforeTraffic { .. } => Stage::BeforeTraffic,
            Self::Starting { .. } => Stage::Scaling,
            Self::AfterTraffic { .. } => Stage::AfterTraffic,
            Self::Baking { .. } => Stage::Baking,
            Self::TakingDown { .. } => Stage::RollingBack,
        }
    }

    /// Deadline of the current stage.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        match self {
            Self::Registering(registering) => registering.deadline,
            Self::BeforeTraffic { deadline, .. }
            | Self::Starting { deadline, .. }
            | Self::AfterTraffic { deadline, .. }
            | Self::Baking { deadline, .. }
            | Self::TakingDown { deadline, .. } => *deadline,
        }
    }

    /// The deadline, to be changed.
    pub(crate) fn deadline_mut(&mut self) -> &mut Timestamp {
        match self {
            Self::Registering(registering) => &mut registering.deadline,
            Self::BeforeTraffic { deadline, .. }
            | Self::Starting { deadline, .. }
            | Self::AfterTraffic { deadline, .. }
            | Self::Baking { deadline, .. }
            | Self::TakingDown { deadline, .. } => deadline,
        }
    }

    /// The version to start, once it is registered; none: not yet, or it is taken down.
    #[must_use]
    pub fn candidate(&self) -> Option<&Candidate> {
        match self {
            Self::BeforeTraffic { candidate, .. }
            | Self::Starting { candidate, .. }
            | Self::AfterTraffic { candidate, .. }
            | Self::Baking { candidate, .. } => Some(candidate),
            Self::Registering(_) | Self::TakingDown { .. } => None,
        }
    }
}

impl First {
    /// The state before anything was started.
    #[must_use]
    pub fn new(slot: Option<Slot>, count: u32, registering: Registering) -> Self {
        Self {
            slot,
            count,
            at: FirstStage::Registering(registering),
            started: false,
            hooks: BTreeMap::new(),
            noticed_alarms: BTreeSet::new(),
        }
    }
}
