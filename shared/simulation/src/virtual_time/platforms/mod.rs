//! What the simulation knows of each platform, behind one trait: a new platform is a module here.
//!
//! | module | platform |
//! |---|---|
//! | `ecs_pair` | two ECS services, one for each side |
//! | `ecs_rolling` | one ECS service, whose versions replace one another in place |

mod ecs_pair;
mod ecs_rolling;

pub(super) use ecs_pair::limits;

use super::cloud::{WorkloadReadings, WorldReader};
use super::context::SimContext;
use crate::invariants::TargetModel;
use crate::trace::TraceSubject;
use crate::world::World;
use rollout::doctor::inspected::InspectedPlatform;
use rollout::observation::ObservationPlan;
use rollout::{Effect, Outcome, Platform, TargetId, TargetResources};

/// What is read of a platform, what is written, and the model that checks it.
trait PlatformWorld {
    /// Reads what runs the target.
    fn observe<R: WorldReader>(&self, reads: &R, observation: &ObservationPlan) -> WorkloadReadings;

    /// Performs an effect on it; one that does not fit the platform is refused.
    fn perform(&self, world: &mut World, effect: &Effect) -> Outcome;

    /// Reads it for the doctor.
    fn inspect(&self, context: &SimContext, resources: &TargetResources) -> InspectedPlatform;

    /// What identifies the target in the trace; none: it has no rules.
    fn subject(&self, resources: &TargetResources) -> Option<TraceSubject>;

    /// The model of the target; none: its service does not exist.
    fn model(&self, world: &mut World, target: &TargetId, resources: &TargetResources) -> Option<Box<dyn TargetModel>>;
}

/// Calls a method of the platform's module.
macro_rules! with {
    ($platform:expr, $it:ident => $call:expr) => {
        match $platform {
            Platform::EcsPair($it) => $call,
            Platform::EcsRolling($it) => $call,
        }
    };
}

/// See [`PlatformWorld::observe`].
pub(super) fn observe<R: WorldReader>(reads: &R, observation: &ObservationPlan) -> WorkloadReadings {
    with!(&observation.resources.platform, it => it.observe(reads, observation))
}

/// See [`PlatformWorld::perform`].
pub(super) fn perform(world: &mut World, platform: &Platform, effect: &Effect) -> Outcome {
    with!(platform, it => it.perform(world, effect))
}

/// See [`PlatformWorld::inspect`].
pub(super) fn inspect(context: &SimContext, resources: &TargetResources) -> InspectedPlatform {
    with!(&resources.platform, it => it.inspect(context, resources))
}

/// See [`PlatformWorld::subject`].
pub(super) fn subject(resources: &TargetResources) -> Option<TraceSubject> {
    with!(&resources.platform, it => it.subject(resources))
}

/// See [`PlatformWorld::model`].
pub(super) fn model(world: &mut World, target: &TargetId, resources: &TargetResources) -> Option<Box<dyn TargetModel>> {
    with!(&resources.platform, it => it.model(world, target, resources))
}
