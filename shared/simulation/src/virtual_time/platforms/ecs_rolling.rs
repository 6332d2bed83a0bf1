//! An ECS service whose tasks ECS replaces by those of the next version: what is read of it, and what is written.

use super::PlatformWorld;
use crate::invariants::{InPlaceModel, TargetModel};
use crate::trace::{TraceSubject, service_key};
use crate::virtual_time::answers::{self, NewestDeployment};
use crate::virtual_time::cloud::{
    WorkloadReadings, WorldReader, ecs_service, failed_starts, image, to_reading, visit_tasks, worst_health,
};
use crate::virtual_time::context::SimContext;
use crate::virtual_time::effects::{unfit, update_service};
use crate::virtual_time::inspect::workload;
use crate::world::World;
use rollout::answers::ecs::{self, FailedStarts};
use rollout::doctor::inspected::InspectedPlatform;
use rollout::observation::ObservationPlan;
use rollout::snapshot::{TasksReading, WorkloadReading};
use rollout::{EcsRolling, EcsServiceName, Effect, Outcome, TargetId, TargetResources};
use std::collections::BTreeSet;

/// Maximum number of tasks in one `GetTaskProtection` call.
const MAX_TASKS_PER_CALL: usize = 100;

impl PlatformWorld for EcsRolling {
    fn observe<R: WorldReader>(&self, reads: &R, observation: &ObservationPlan) -> WorkloadReadings {
        let workload = to_reading(read(reads, observation, self));
        WorkloadReadings { workload, ..WorkloadReadings::not_asked() }
    }

    fn perform(&self, world: &mut World, effect: &Effect) -> Outcome {
        match effect {
            Effect::ReplaceVersion { version } => update_service(world, self.service(), Some(version.as_str()), None),
            Effect::StartFirst { slot: None, version, count } => {
                update_service(world, self.service(), Some(version.as_str()), Some(*count))
            }
            Effect::StopFirst { slot: None } => update_service(world, self.service(), None, Some(0)),
            _ => unfit(effect),
        }
    }

    fn inspect(&self, context: &SimContext, _: &TargetResources) -> InspectedPlatform {
        let groups = self.target_groups.iter().map(String::as_str);
        InspectedPlatform::EcsRolling(Box::new(workload(context, self.service(), groups)))
    }

    fn subject(&self, _: &TargetResources) -> Option<TraceSubject> {
        Some(TraceSubject::Service(service_key(self.service())))
    }

    fn model(&self, world: &mut World, target: &TargetId, _: &TargetResources) -> Option<Box<dyn TargetModel>> {
        Some(Box::new(InPlaceModel::of(world, target, self.service(), &self.target_groups)?))
    }
}

fn read<R: WorldReader>(
    reads: &R,
    observation: &ObservationPlan,
    rolling: &EcsRolling,
) -> Result<WorkloadReading, String> {
    let service = rolling.service();
    let query = observation.failed_starts_query.as_ref().filter(|starts| starts.slot.is_none());
    let found = ecs_service(reads, service)?;
    // Like the tasks, needed only while a version is being replaced.
    let newest = match observation.tasks {
        true => reads.reading("service deployment", |world| NewestDeployment::read(world, service))?,
        false => None,
    };
    let newest = newest.as_ref().map(|newest| newest.describe(service.container));
    let described = answers::describe_service(&found);
    let seen = described.workload(answers::events(&found), query, newest.as_ref())?;
    let image = image(reads, observation, &seen.version, service.container)?;
    let failed_starts = match query.filter(|_| described.is_degraded()) {
        Some(starts) => reads.reading("failed starts", |world| failed_starts(world, service, starts))?,
        None => FailedStarts::default(),
    };
    let tasks = if observation.tasks { Some(tasks(reads, service, &seen.version)?) } else { None };
    let targets = if rolling.target_groups.is_empty() {
        None
    } else {
        let groups = rolling.target_groups.iter().map(String::as_str);
        Some(reads.reading("target health", |world| worst_health(world, groups))?)
    };
    let (failed_starts, failed_tasks) = (failed_starts.newest, failed_starts.count);
    Ok(WorkloadReading { image, tasks, failed_starts, failed_tasks, targets, ..seen })
}

/// Reads the service's tasks, and the protection of those of other versions.
fn tasks<R: WorldReader>(reads: &R, service: EcsServiceName<'_>, version: &str) -> Result<TasksReading, String> {
    let (tasks, now) = reads.reading("tasks", |world| {
        let mut tasks = Vec::new();
        visit_tasks(world, service, "RUNNING", |task| tasks.push(task.clone()))?;
        Ok((tasks, world.now()))
    })?;
    let others = tasks.iter().filter(|task| task.task_definition_arn != version);
    let others: Vec<String> = others.map(|task| task.task_arn.clone()).collect();
    let protected = if others.is_empty() {
        BTreeSet::new()
    } else {
        reads.reading("task protection", |world| protected(world, service, &others))?
    };
    Ok(ecs::tasks_reading(tasks.iter().map(answers::task), version, &protected, now))
}

/// Those of these tasks that are protected.
fn protected(world: &mut World, service: EcsServiceName<'_>, tasks: &[String]) -> Result<BTreeSet<String>, String> {
    let mut protected = BTreeSet::new();
    for tasks in tasks.chunks(MAX_TASKS_PER_CALL) {
        let (found, _) = world.get_task_protection(service.cluster, tasks).map_err(|error| error.to_string())?;
        protected.extend(found.into_iter().filter(|task| task.protection_enabled).map(|task| task.task_arn));
    }
    Ok(protected)
}
