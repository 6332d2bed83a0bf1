//! A deployment that replaces one version by the next in place: each stage's value holds what is known in that stage. A
//! rollback is built from a [`RollbackPath`], which only a stage that knows the version before can create.

use crate::snapshot::WorkloadReading;
use crate::stage::Stage;
use crate::time::Seconds;
use crate::verdict::Cause;
use crate::weighted::{AwaitingOperator, Candidate, Halt, HookProgress, Registering};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The state of a deployment that replaces the version of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InPlace {
    /// What the workload ran when the deployment started.
    pub before: VersionBefore,
    /// The current stage.
    pub at: InPlaceStage,
    /// The new version, once it was decided to set it: from then on its tasks may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_version: Option<String>,
    /// Hooks that have started, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hooks: BTreeMap<String, HookProgress>,
    /// The workload was given another version outside Switchback: nothing more is changed until that is undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halted: Option<Halt>,
    /// A forward-only release is in trouble: it stays as it is until a person decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaiting_operator: Option<AwaitingOperator>,
    /// Alarms that were seen firing and do not roll the deployment back, as journalled.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub noticed_alarms: BTreeSet<String>,
}

/// The version that a workload ran when the deployment started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionBefore {
    /// The version.
    pub version: String,
    /// Its image; none: it could not be determined. Needed if the version has to be registered again.
    pub image: Option<String>,
    /// Number of tasks that the workload was set to run.
    pub count: u32,
}

/// The stage of an in-place deployment, with what is known only in that stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum InPlaceStage {
    /// Registering the new version.
    Registering(Registering),
    /// On the forward path.
    Forward(Forward),
    /// Setting the version before, until everything that runs is of it.
    RollingBack(Rollback),
}

/// The state on the way to success: the new version is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The new version.
    pub candidate: Candidate,
    /// The step on the way to success.
    pub step: ForwardStep,
}

/// The steps of the forward path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum ForwardStep {
    /// Running the hooks of [`HookPoint::BeforeTraffic`](crate::policy::HookPoint::BeforeTraffic), before any task of
    /// the new version starts.
    BeforeTraffic {
        /// When the deployment rolls back.
        deadline: Timestamp,
    },
    /// The platform replaces what runs, until everything is of the new version and healthy.
    Replacing {
        /// When the deployment rolls back.
        deadline: Timestamp,
    },
    /// Running the hooks of [`HookPoint::AfterTraffic`](crate::policy::HookPoint::AfterTraffic).
    AfterTraffic {
        /// When the deployment rolls back.
        deadline: Timestamp,
    },
    /// Everything is of the new version, and is watched.
    Baking {
        /// When the bake ends if all is well.
        until: Timestamp,
        /// When the deployment rolls back if missing data or unhealthy tasks kept the bake from ending.
        deadline: Timestamp,
    },
}

/// The state of a deployment that rolls back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollback {
    /// Where it goes.
    pub path: RollbackPath,
    /// Why it rolls back.
    pub cause: Cause,
    /// The rollback's current step.
    pub step: RollbackStep,
    /// When the rollback counts as failed; one that was never accepted is still tried for `MAX_RETRY_PERIOD`.
    pub deadline: Timestamp,
}

/// The steps of a rollback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum RollbackStep {
    /// Setting the version before, until it is seen set.
    Setting {
        /// The platform took the request to set it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        accepted: bool,
        /// A version that somebody else set and that is overwritten, as last journalled.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        overwritten: Option<String>,
    },
    /// The platform does not take the version before any more (of ECS: it is deregistered): an equal one is registered.
    Registering,
    /// The platform replaces what runs, until everything is of the version before.
    Replacing,
}

/// Where a rollback goes: to the version before. Created only by [`Registering`] and [`Forward`], and kept by a
/// rollback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackPath {
    before: VersionBefore,
}

impl RollbackPath {
    /// The version to roll back to.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.before.version
    }

    /// Its image, where known.
    #[must_use]
    pub fn image(&self) -> Option<&str> {
        self.before.image.as_deref()
    }

    /// The same, to an equal version that was registered in place of the one before.
    pub(crate) fn with_version(self, version: String) -> Self {
        Self { before: VersionBefore { version, ..self.before } }
    }
}

impl RollbackStep {
    /// The first step, before anything was requested.
    #[must_use]
    pub fn start() -> Self {
        Self::Setting { accepted: false, overwritten: None }
    }
}

impl VersionBefore {
    /// What a workload was seen to run.
    #[must_use]
    pub fn seen(workload: &WorkloadReading) -> Self {
        Self { version: workload.version.clone(), image: workload.image.clone(), count: workload.desired }
    }
}

impl InPlaceStage {
    /// The name of this stage.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self {
            Self::Registering(_) => Stage::Registering,
            Self::Forward(Forward { step, .. }) => match step {
                ForwardStep::BeforeTraffic { .. } => Stage::BeforeTraffic,
                ForwardStep::Replacing { .. } => Stage::Replacing,
                ForwardStep::AfterTraffic { .. } => Stage::AfterTraffic,
                ForwardStep::Baking { .. } => Stage::Baking,
            },
            Self::RollingBack(_) => Stage::RollingBack,
        }
    }

    /// Deadline of the current stage. A rollback may continue past it.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        match self {
            Self::Registering(registering) => registering.deadline,
            Self::Forward(Forward { step, .. }) => match step {
                ForwardStep::BeforeTraffic { deadline }
                | ForwardStep::Replacing { deadline }
                | ForwardStep::AfterTraffic { deadline }
                | ForwardStep::Baking { deadline, .. } => *deadline,
            },
            Self::RollingBack(rollback) => rollback.deadline,
        }
    }

    /// The deadline, to be changed.
    pub(crate) fn deadline_mut(&mut self) -> &mut Timestamp {
        match self {
            Self::Registering(registering) => &mut registering.deadline,
            Self::Forward(Forward { step, .. }) => match step {
                ForwardStep::BeforeTraffic { deadline }
                | ForwardStep::Replacing { deadline }
                | ForwardStep::AfterTraffic { deadline }
                | ForwardStep::Baking { deadline, .. } => deadline,
            },
            Self::RollingBack(rollback) => &mut rollback.deadline,
        }
    }

    /// The same stage with all its times postponed by `by`, after it was held.
    #[must_use]
    pub(crate) fn postponed(mut self, by: Seconds) -> Self {
        if let Self::Forward(Forward { step: ForwardStep::Baking { until, .. }, .. }) = &mut self {
            *until = by.after(*until);
        }
        let deadline = self.deadline_mut();
        *deadline = by.after(*deadline);
        self
    }
}

impl InPlace {
    /// The state before anything was touched.
    #[must_use]
    pub fn new(before: VersionBefore, registering: Registering) -> Self {
        Self {
            before,
            at: InPlaceStage::Registering(registering),
            set_version: None,
            hooks: BTreeMap::new(),
            halted: None,
            awaiting_operator: None,
            noticed_alarms: BTreeSet::new(),
        }
    }

    /// Whether it was decided to set the new version.
    #[must_use]
    pub fn has_replaced(&self) -> bool {
        self.set_version.is_some()
    }

    /// The rollback path, in every stage.
    #[must_use]
    pub fn rollback_path(&self) -> RollbackPath {
        match &self.at {
            InPlaceStage::Registering(_) | InPlaceStage::Forward(_) => RollbackPath { before: self.before.clone() },
            InPlaceStage::RollingBack(rollback) => rollback.path.clone(),
        }
    }

    /// The new version, once it is registered; none: not yet, or it is rolling back.
    #[must_use]
    pub fn candidate(&self) -> Option<&Candidate> {
        match &self.at {
            InPlaceStage::Forward(forward) => Some(&forward.candidate),
            InPlaceStage::Registering(_) | InPlaceStage::RollingBack(_) => None,
        }
    }
}
