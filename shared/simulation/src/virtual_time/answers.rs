//! The world's answers, described to the core, which says what they mean ([`rollout::answers`]). The AWS adapter
//! describes the SDK's answers to the same functions.

use crate::world::ecs::ListServiceDeployments;
use crate::world::{World, ecs as model};
use rollout::EcsServiceName;
use rollout::answers::ecs;
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
        running: deployment.running_count,
        pending: deployment.pending_count,
        created_at: Some(deployment.created_at),
        updated_at: Some(deployment.updated_at),
    }
}

/// The newest service deployment of a service, and its target revision.
#[derive(Debug)]
pub(super) struct NewestDeployment {
    deployment: model::ServiceDeployment,
    /// None: ECS has no record of it.
    revision: Option<model::ServiceRevision>,
}

impl NewestDeployment {
    /// Reads it; none: the service has none.
    pub(super) fn read(world: &mut World, service: EcsServiceName<'_>) -> Result<Option<Self>, String> {
        let request = ListServiceDeployments {
            cluster: service.cluster.to_owned(),
            service: service.name.to_owned(),
            ..ListServiceDeployments::default()
        };
        let listed = world.list_service_deployments(&request).map_err(|error| error.to_string())?;
        let Some(newest) = listed.into_iter().next() else { return Ok(None) };
        let arns = [newest.service_deployment_arn];
        let (deployments, _) = world.describe_service_deployments(&arns).map_err(|error| error.to_string())?;
        let revisions = [newest.target_service_revision_arn];
        let (revisions, _) = world.describe_service_revisions(&revisions).map_err(|error| error.to_string())?;
        let deployment = deployments.into_iter().next();
        Ok(deployment.map(|deployment| Self { deployment, revision: revisions.into_iter().next() }))
    }

    /// Described to the core. `container`: the one whose digest is wanted.
    pub(super) fn describe(&self, container: &str) -> ecs::EcsServiceDeployment<'_> {
        let rollback = self.deployment.rollback.as_ref().map(|rollback| rollback.reason.as_str());
        let images = self.revision.iter().flat_map(|revision| &revision.container_images);
        let digest = images.filter(|image| image.container_name == container).find_map(|it| it.image_digest.as_deref());
        ecs::EcsServiceDeployment {
            status: Some(self.deployment.status.as_str()),
            reason: self.deployment.status_reason.as_deref().or(rollback),
            task_definition: self.revision.as_ref().map(|revision| revision.task_definition.as_str()),
            image_digest: digest,
        }
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
        started_at: task.started_at,
        health_status: Some(task.health_status.as_str()),
    }
}

pub(super) fn containers(task: &model::EcsTask) -> impl Iterator<Item = ecs::EcsContainer<'_>> + Clone {
    task.containers.iter().map(|container| ecs::EcsContainer {
        name: Some(container.name.as_str()),
        exit_code: container.exit_code,
        reason: container.reason.as_deref(),
    })
}
