//! A pair of ECS services: what is read of both sides, and what is written to one.

use super::PlatformWorld;
use crate::invariants::{PairModel, TargetModel};
use crate::trace::TraceSubject;
use crate::virtual_time::answers;
use crate::virtual_time::cloud::{
    WorkloadReadings, WorldReader, ecs_service, failed_starts, image, resource_id, to_reading, worst_health,
};
use crate::virtual_time::context::SimContext;
use crate::virtual_time::effects::{done, outcome, unfit, update_service};
use crate::virtual_time::inspect::{others, rules, workload};
use crate::virtual_time::previous::PreviousState;
use crate::world::World;
use crate::world::scaling::{DescribeScalableTargets, RegisterScalableTarget, SuspendedState};
use rollout::answers::ecs::FailedStarts;
use rollout::doctor::inspected::{InspectedPair, InspectedPlatform};
use rollout::observation::{FailedStartsQuery, ObservationPlan};
use rollout::snapshot::{Autoscaling, Reading, SideReading};
use rollout::{EcsPair, EcsServiceName, Effect, Outcome, Slot, TargetId, TargetResources};

impl PlatformWorld for EcsPair {
    fn observe<R: WorldReader>(&self, reads: &R, observation: &ObservationPlan) -> WorkloadReadings {
        sides(reads, observation, self)
    }

    fn perform(&self, world: &mut World, effect: &Effect) -> Outcome {
        match effect {
            Effect::SetVersion { slot, version, desired } => {
                update_service(world, self.side(*slot), Some(version.as_str()), Some(*desired))
            }
            Effect::SetDesired { slot, desired } => update_service(world, self.side(*slot), None, Some(*desired)),
            Effect::StartFirst { slot: Some(slot), version, count } => {
                update_service(world, self.side(*slot), Some(version.as_str()), Some(*count))
            }
            Effect::StopFirst { slot: Some(slot) } => update_service(world, self.side(*slot), None, Some(0)),
            Effect::SetAutoscaling { slot, limits } => set_autoscaling(world, self.side(*slot), *limits),
            _ => unfit(effect),
        }
    }

    fn inspect(&self, context: &SimContext, resources: &TargetResources) -> InspectedPlatform {
        let side = |slot| workload(context, self.side(slot), resources.target_groups(slot));
        InspectedPlatform::EcsPair(Box::new(InspectedPair {
            blue: side(Slot::Blue),
            green: side(Slot::Green),
            rules: rules(context, resources),
            others: to_reading(context.reading("account", |_| None, |world| others(world, resources))),
        }))
    }

    fn subject(&self, resources: &TargetResources) -> Option<TraceSubject> {
        resources.rules().next().map(|rule| TraceSubject::Rule(rule.to_owned()))
    }

    fn model(&self, world: &mut World, target: &TargetId, resources: &TargetResources) -> Option<Box<dyn TargetModel>> {
        let services = Slot::BOTH.map(|slot| self.side(slot));
        Some(Box::new(PairModel::of(world, target, resources, services)))
    }
}

/// Reads both sides.
fn sides<R: WorldReader>(reads: &R, observation: &ObservationPlan, pair: &EcsPair) -> WorkloadReadings {
    let read = |slot, as_comparison| to_reading(side(reads, observation, pair.side(slot), slot, as_comparison));
    // Failed tasks of the stable side serve as a comparison: they are read only if the candidate has some.
    let has_failures = |seen: &Reading<SideReading>| seen.known().is_some_and(|candidate| candidate.failed() > 0);
    let (blue, green) = match &observation.failed_starts_query {
        Some(starts) if starts.slot == Some(Slot::Green) => {
            let green = read(Slot::Green, false);
            (read(Slot::Blue, has_failures(&green)), green)
        }
        _ => {
            let blue = read(Slot::Blue, false);
            let as_comparison = has_failures(&blue);
            (blue, read(Slot::Green, as_comparison))
        }
    };
    WorkloadReadings { blue, green, ..WorkloadReadings::not_asked() }
}

fn side<R: WorldReader>(
    reads: &R,
    observation: &ObservationPlan,
    service: EcsServiceName<'_>,
    slot: Slot,
    as_comparison: bool,
) -> Result<SideReading, String> {
    let query = observation.failed_starts_query.as_ref();
    let failed_starts_query = query.filter(|starts| starts.slot == Some(slot));
    let queried_other_side = query.filter(|starts| as_comparison && starts.slot == Some(slot.other()));
    let comparison = queried_other_side.and_then(|starts| {
        let version = starts.compare_with.clone()?;
        Some(FailedStartsQuery { slot: Some(slot), version, since: starts.since, compare_with: None })
    });
    let found = ecs_service(reads, service)?;
    let described = answers::describe_service(&found);
    let seen = described.reading(answers::events(&found), failed_starts_query)?;
    let image = image(reads, observation, &seen.version, service.container)?;
    let failed_starts = match failed_starts_query.filter(|_| described.is_degraded()).or(comparison.as_ref()) {
        Some(starts) => reads.reading("failed starts", |world| failed_starts(world, service, starts))?,
        None => FailedStarts::default(),
    };
    let groups = observation.resources.target_groups(slot);
    let targets = reads.reading("target health", |world| worst_health(world, groups))?;
    let before = |previous: &PreviousState| previous.limits(service.cluster, service.name);
    let autoscaling = reads.reading_or_stale("limits", before, |world| limits(world, service))?;
    Ok(seen.into_side_reading(image, failed_starts, targets, autoscaling))
}

/// The limits of a service's scalable target; none: it is none.
pub(in crate::virtual_time) fn limits(
    world: &mut World,
    service: EcsServiceName<'_>,
) -> Result<Option<Autoscaling>, String> {
    let request = scalable_target(resource_id(service.cluster, service.name));
    let found = world.describe_scalable_targets(request).map_err(|error| error.to_string())?;
    Ok(found.first().map(|target| Autoscaling {
        min: target.min_capacity,
        max: target.max_capacity,
        scale_in_suspended: target.suspended_state.dynamic_scaling_in_suspended,
        scheduled_suspended: target.suspended_state.scheduled_scaling_suspended,
    }))
}

fn scalable_target(resource_id: String) -> DescribeScalableTargets {
    DescribeScalableTargets {
        service_namespace: "ecs".to_owned(),
        resource_ids: vec![resource_id],
        scalable_dimension: None,
    }
}

fn set_autoscaling(world: &mut World, service: EcsServiceName<'_>, limits: Autoscaling) -> Outcome {
    let id = resource_id(service.cluster, service.name);
    let live = match world.describe_scalable_targets(scalable_target(id.clone())) {
        Ok(targets) => match targets.first() {
            Some(target) => target.suspended_state,
            None => return Outcome::Refused { reason: format!("{id} has no scalable target") },
        },
        Err(error) => return outcome(&error),
    };
    done(world.register_scalable_target(RegisterScalableTarget {
        service_namespace: "ecs".to_owned(),
        resource_id: id,
        scalable_dimension: "ecs:service:DesiredCount".to_owned(),
        min_capacity: Some(limits.min.into()),
        max_capacity: Some(limits.max.into()),
        suspended_state: Some(SuspendedState {
            dynamic_scaling_in_suspended: limits.scale_in_suspended,
            scheduled_scaling_suspended: limits.scheduled_suspended,
            ..live
        }),
    }))
}
