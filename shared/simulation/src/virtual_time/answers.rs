//! The world's answers, described to the core, which says what they mean ([`rollout::platform`]). The AWS adapter
//! describes the SDK's answers to the same functions.

use crate::world::{World, ecs as model};
use rollout::platform::ecs;
use serde_json::Value;

/// The service, if it is active.
pub(super) fn service(world: &mut World, cluster: &str, name: &str) -> Result<model::EcsService, String> {
    let (services, failures) =
        world.describe_services(cluster, &[name.to_owned()]).map_err(|error| error.to_string())?;
    match services.into_iter().next() {
        Some(service) => ecs::check_status(name, Some(service.status)).map(|()| service),
        None => Err(ecs::missing_service(name, failures.first().map(|failure| failure.reason.as_str()))),
    }
}

pub(super) fn describe_service(service: &model::EcsService) -> ecs::EcsService<'_> {
    ecs::EcsService {
        controller: Some("ECS"),
        task_definition: Some(service.task_definition.as_str()),
        desired: service.desired_count,
        running: service.running_count,
        pending: service.pending_count,
        deployments: service.deployments.iter().map(deployment).collect(),
        capacity_providers: capacity_providers(service.capacity_provider_strategy.as_ref()).collect(),
        launch_type: service.launch_type.as_deref(),
    }
}

fn deployment(deployment: &model::EcsDeployment) -> ecs::EcsDeployment<'_> {
    ecs::EcsDeployment {
        status: Some(deployment.status),
        task_definition: Some(deployment.task_definition.as_str()),
        rollout_state: Some(deployment.rollout_state.as_str()),
        rollout_state_reason: Some(deployment.rollout_state_reason.as_str()),
        failed_tasks: deployment.failed_tasks,
        updated_at: Some(deployment.updated_at),
    }
}

/// The items of a capacity provider strategy; a missing weight or base is 0 (API reference,
/// `CapacityProviderStrategyItem`).
pub(super) fn capacity_providers(strategy: Option<&Value>) -> impl Iterator<Item = ecs::CapacityProvider<'_>> {
    let number =
        |item: &Value, field: &str| item[field].as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
    let items = strategy.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(move |item| {
        let name = item["capacityProvider"].as_str()?;
        Some(ecs::CapacityProvider { name, weight: number(item, "weight"), base: number(item, "base") })
    })
}

pub(super) fn events(service: &model::EcsService) -> impl Iterator<Item = ecs::EcsServiceEvent<'_>> + Clone {
    service.events.iter().map(|event| ecs::EcsServiceEvent { message: event.message.as_str(), at: event.created_at })
}

pub(super) fn task(task: &model::EcsTask) -> ecs::EcsTask<'_> {
    ecs::EcsTask {
        arn: Some(task.task_arn.as_str()),
        task_definition: Some(task.task_definition_arn.as_str()),
        last_status: Some(task.last_status.as_str()),
        stop_code: task.stop_code,
        stopped_reason: task.stopped_reason.as_deref(),
        stopping_at: task.stopping_at,
        stopped_at: task.stopped_at,
    }
}

pub(super) fn containers(task: &model::EcsTask) -> impl Iterator<Item = ecs::EcsContainer<'_>> + Clone {
    task.containers.iter().map(|container| ecs::EcsContainer {
        name: Some(container.name.as_str()),
        exit_code: container.exit_code,
        reason: container.reason.as_deref(),
    })
}
