//! The phase of a deployment: waiting at its gates, preparing, or moving traffic. Each phase's value holds what is
//! known only in that phase.

use crate::first::First;
use crate::in_place::InPlace;
use crate::stage::Stage;
use crate::weighted::Weighted;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The phase of a deployment. There is no final phase: a deployment that has ended is an entry of the target's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Waiting at the gates of its environment. Nothing has been changed.
    Gated(Gated),
    /// Determining which side is stable, and whether anything blocks the start. Nothing has been changed.
    Preparing(Preparing),
    /// The sides are determined; the deployment moves traffic.
    Moving(Moving),
}

/// The state of a deployment that waits at its gates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gated {
    /// When it ends as expired.
    pub deadline: Timestamp,
    /// The service was last seen at 0 tasks: it waits until the service scales up, even if all other gates are open.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asleep: bool,
    /// As in [`Preparing`]. A rollback has no gates, yet returns to this phase while its service is asleep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// The state of a deployment whose gates are open and that has not changed anything yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preparing {
    /// When it ends as failed.
    pub deadline: Timestamp,
    /// The deadline at the gates, should the deployment return to them because the service is asleep.
    pub gates_deadline: Timestamp,
    /// Only a person can repair the rules. It waits for that, and a newer release supersedes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub awaiting_operator: bool,
    /// What blocks the start, as last journalled: each reason is journalled once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
    /// The version that a rollback or repair returns to; none: a new one is registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// The way in which a deployment moves traffic to its release, with the state that this way needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "way", rename_all = "snake_case")]
pub enum Moving {
    /// Two sides exist, and traffic moves from one to the other.
    Weighted(Box<Weighted>),
    /// One workload changes its version, and the platform replaces what runs.
    InPlace(Box<InPlace>),
    /// Nothing was there: tasks are started, and there is no way back.
    First(Box<First>),
}

impl Phase {
    /// The initial phase of a deployment whose gates are open.
    #[must_use]
    pub fn preparing(deadline: Timestamp, gates_deadline: Timestamp, version: Option<String>) -> Self {
        let preparing = Preparing { deadline, gates_deadline, awaiting_operator: false, blocked: None, version };
        Self::Preparing(preparing)
    }

    /// The current stage.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self {
            Self::Gated(_) => Stage::Gated,
            Self::Preparing(_) => Stage::Preflight,
            Self::Moving(Moving::Weighted(weighted)) => weighted.at.stage(),
            Self::Moving(Moving::InPlace(in_place)) => in_place.at.stage(),
            Self::Moving(Moving::First(first)) => first.at.stage(),
        }
    }

    /// Deadline of the current stage. A rollback and a cleanup may continue past it.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        match self {
            Self::Gated(gated) => gated.deadline,
            Self::Preparing(preparing) => preparing.deadline,
            Self::Moving(Moving::Weighted(weighted)) => weighted.at.deadline(),
            Self::Moving(Moving::InPlace(in_place)) => in_place.at.deadline(),
            Self::Moving(Moving::First(first)) => first.at.deadline(),
        }
    }

    /// The state between two sides; none: there are no sides, or they are not determined yet.
    #[must_use]
    pub fn weighted(&self) -> Option<&Weighted> {
        match self {
            Self::Moving(Moving::Weighted(weighted)) => Some(weighted),
            Self::Gated(_) | Self::Preparing(_) | Self::Moving(Moving::InPlace(_) | Moving::First(_)) => None,
        }
    }

    /// The state of a replacement in place; none: there are two sides, or nothing has begun.
    #[must_use]
    pub fn in_place(&self) -> Option<&InPlace> {
        match self {
            Self::Moving(Moving::InPlace(in_place)) => Some(in_place),
            Self::Gated(_) | Self::Preparing(_) | Self::Moving(Moving::Weighted(_) | Moving::First(_)) => None,
        }
    }

    /// The state of a first deployment; none: something ran before, or nothing has begun.
    #[must_use]
    pub fn first(&self) -> Option<&First> {
        match self {
            Self::Moving(Moving::First(first)) => Some(first),
            Self::Gated(_) | Self::Preparing(_) | Self::Moving(Moving::Weighted(_) | Moving::InPlace(_)) => None,
        }
    }

    /// Whether it waits before it has changed anything: at its gates (for approval, a window, soak, its train or a
    /// sleeping service), or for a person to repair the rules. A newer release supersedes it meanwhile.
    #[must_use]
    pub fn is_waiting_to_start(&self) -> bool {
        matches!(self, Self::Gated(_) | Self::Preparing(Preparing { awaiting_operator: true, .. }))
    }

    /// The same phase with its deadline extended to `until`, if that is later. The duration of holds and bake is
    /// unchanged, and so is the deadline at the gates.
    #[must_use]
    pub(crate) fn with_deadline_at_least(mut self, until: Timestamp) -> Self {
        match &mut self {
            Self::Gated(_) => {}
            Self::Preparing(preparing) => preparing.deadline = until.max(preparing.deadline),
            Self::Moving(Moving::Weighted(weighted)) => {
                // Hooks have deadlines of their own, which do not depend on readings. `Testing` is extended: it waits
                // for the test rule, too.
                let hooks = matches!(weighted.at.stage(), Stage::BeforeTraffic | Stage::AfterTraffic);
                if let Some(deadline) = weighted.at.deadline_mut().filter(|_| !hooks) {
                    *deadline = until.max(*deadline);
                }
            }
            Self::Moving(Moving::InPlace(in_place)) => {
                if !matches!(in_place.at.stage(), Stage::BeforeTraffic | Stage::AfterTraffic) {
                    let deadline = in_place.at.deadline_mut();
                    *deadline = until.max(*deadline);
                }
            }
            Self::Moving(Moving::First(first)) => {
                if !matches!(first.at.stage(), Stage::BeforeTraffic | Stage::AfterTraffic) {
                    let deadline = first.at.deadline_mut();
                    *deadline = until.max(*deadline);
                }
            }
        }
        self
    }
}
