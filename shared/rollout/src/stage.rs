//! The names of a deployment's stages.

use serde::{Deserialize, Serialize};

/// The name of a deployment's stage, as in the journal, in `--json` and for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// [`Phase::Gated`](crate::phase::Phase::Gated)
    Gated,
    /// [`Phase::Preparing`](crate::phase::Phase::Preparing)
    Preflight,
    /// [`WeightedStage::Registering`](crate::weighted::WeightedStage::Registering)
    Registering,
    /// [`ForwardStep::BeforeTraffic`](crate::weighted::ForwardStep::BeforeTraffic)
    BeforeTraffic,
    /// [`ForwardStep::Scaling`](crate::weighted::ForwardStep::Scaling)
    Scaling,
    /// [`ForwardStep::Testing`](crate::weighted::ForwardStep::Testing)
    Testing,
    /// [`ForwardStep::Writing`](crate::weighted::ForwardStep::Writing) and [`ForwardStep::Holding`](crate::weighted::ForwardStep::Holding)
    Shifting,
    /// [`ForwardStep::AfterTraffic`](crate::weighted::ForwardStep::AfterTraffic)
    AfterTraffic,
    /// [`ForwardStep::Baking`](crate::weighted::ForwardStep::Baking)
    Baking,
    /// [`ForwardStep::KeepingWarm`](crate::weighted::ForwardStep::KeepingWarm)
    KeepingWarm,
    /// [`ForwardStep::Draining`](crate::weighted::ForwardStep::Draining) and [`WeightedStage::Retiring`](crate::weighted::WeightedStage::Retiring)
    Retiring,
    /// [`WeightedStage::RollingBack`](crate::weighted::WeightedStage::RollingBack)
    RollingBack,
    /// [`WeightedStage::Abandoning`](crate::weighted::WeightedStage::Abandoning)
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

    /// Whether the candidate has passed its bake: the deployment is completed, whatever is requested meanwhile.
    #[must_use]
    pub fn is_verified(self) -> bool {
        matches!(self, Self::KeepingWarm | Self::Retiring)
    }
}
