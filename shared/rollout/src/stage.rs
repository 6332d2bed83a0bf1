//! The names of a deployment's stages, without what is known in each: that is held by its
//! [`Phase`](crate::phase::Phase).

use serde::{Deserialize, Serialize};

/// The stage that a deployment is in, as named in the journal, in `--json` and for people. The order is that of a
/// deployment that succeeds; the last two are entered instead of the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Waiting at the gates of its environment: [`Phase::Gated`](crate::phase::Phase::Gated).
    Gated,
    /// Determining the stable side and what blocks the start: [`Phase::Preparing`](crate::phase::Phase::Preparing).
    Preflight,
    /// Registering the candidate's version:
    /// [`WeightedStage::Registering`](crate::weighted::WeightedStage::Registering).
    Registering,
    /// Running the hooks before traffic:
    /// [`ForwardStep::BeforeTraffic`](crate::weighted::ForwardStep::BeforeTraffic).
    BeforeTraffic,
    /// Starting the candidate's tasks: [`ForwardStep::Scaling`](crate::weighted::ForwardStep::Scaling).
    Scaling,
    /// In place: the platform replaces what runs: [`ForwardStep::Replacing`](crate::in_place::ForwardStep::Replacing).
    Replacing,
    /// Moving the test rule, and running the hooks on test traffic:
    /// [`ForwardStep::Testing`](crate::weighted::ForwardStep::Testing).
    Testing,
    /// Moving traffic to the candidate, step by step:
    /// [`ForwardStep::Writing`](crate::weighted::ForwardStep::Writing) and
    /// [`ForwardStep::Holding`](crate::weighted::ForwardStep::Holding).
    Shifting,
    /// Running the hooks after traffic: [`ForwardStep::AfterTraffic`](crate::weighted::ForwardStep::AfterTraffic).
    AfterTraffic,
    /// Watching the candidate with all traffic: [`ForwardStep::Baking`](crate::weighted::ForwardStep::Baking).
    Baking,
    /// Verified; the old side stays up: [`ForwardStep::KeepingWarm`](crate::weighted::ForwardStep::KeepingWarm).
    KeepingWarm,
    /// Draining and scaling down the old side: [`ForwardStep::Draining`](crate::weighted::ForwardStep::Draining), in
    /// which alone a rollback is still possible, and
    /// [`WeightedStage::Retiring`](crate::weighted::WeightedStage::Retiring).
    Retiring,
    /// Returning traffic to the stable side:
    /// [`WeightedStage::RollingBack`](crate::weighted::WeightedStage::RollingBack).
    RollingBack,
    /// Ending without touching the rules or the tasks again:
    /// [`WeightedStage::Abandoning`](crate::weighted::WeightedStage::Abandoning).
    Abandoning,
}

impl Stage {
    /// In snake case, as it is stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gated => "gated",
            Self::Preflight => "preflight",
            Self::Registering => "registering",
            Self::BeforeTraffic => "before_traffic",
            Self::Scaling => "scaling",
            Self::Replacing => "replacing",
            Self::Testing => "testing",
            Self::Shifting => "shifting",
            Self::AfterTraffic => "after_traffic",
            Self::Baking => "baking",
            Self::KeepingWarm => "keeping_warm",
            Self::Retiring => "retiring",
            Self::RollingBack => "rolling_back",
            Self::Abandoning => "abandoning",
        }
    }

    /// Whether the candidate has passed its bake: no newer release supersedes it any more. A person can still roll it
    /// back until the old side goes down.
    #[must_use]
    pub fn has_baked(self) -> bool {
        matches!(self, Self::KeepingWarm | Self::Retiring)
    }
}
