//! Describes an ECS service and its newest service deployment to the core, which says what the answers mean
//! ([`rollout::answers::ecs`]).

use super::{count, instant, short_name};
use aws_sdk_ecs::types::{
    ContainerImage, Deployment, Failure as NotFound, Rollback, Service, ServiceDeployment, ServiceDeploymentStatus,
    ServiceRevision,
};
use rollout::answers::ecs::{self, ServiceReading};
use rollout::observation::FailedStartsQuery;
use rollout::snapshot::WorkloadReading;

/// Finds the service `name` in a response to a request for it.
///
/// # Errors
/// A reason, where ECS does not have the service, or it is being deleted.
pub(super) fn find<'a>(name: &str, services: &'a [Service], failures: &[NotFound]) -> Result<&'a Service, String> {
    let name = short_name(name);
    let Some(service) = services
        .iter()
        .find(|service| service.service_name() == Some(name) || service.service_arn().map(short_name) == Some(name))
    else {
        let failure = failures.iter().find(|failure| failure.arn().map(short_name) == Some(name));
        return Err(ecs::missing_service(name, failure.and_then(NotFound::reason)));
    };
    ecs::check_status(name, service.status())?;
    Ok(service)
}

/// Reading of the service; `failed_starts_query` is the plan's, if it concerns this side.
///
/// # Errors
/// As [`ecs::EcsService::reading`].
pub(super) fn service_reading(
    service: &Service,
    failed_starts_query: Option<&FailedStartsQuery>,
) -> Result<ServiceReading, String> {
    described(service).reading(events(service), failed_starts_query)
}

/// Reading of a service whose versions replace one another in place, without what its tasks and its target groups say;
/// `failed_starts_query` is the plan's, and `newest` the newest service deployment, if ECS has one.
///
/// # Errors
/// As [`ecs::EcsService::workload`].
pub(super) fn workload_reading(
    service: &Service,
    failed_starts_query: Option<&FailedStartsQuery>,
    newest: Option<&ecs::EcsServiceDeployment<'_>>,
) -> Result<WorkloadReading, String> {
    described(service).workload(events(service), failed_starts_query, newest)
}

/// Describes a service deployment. `revision` is its target revision, where ECS has it, and `container` the one whose
/// image is replaced.
pub(super) fn service_deployment<'a>(
    deployment: &'a ServiceDeployment,
    revision: Option<&'a ServiceRevision>,
    container: &str,
) -> ecs::EcsServiceDeployment<'a> {
    let images = revision.map(ServiceRevision::container_images).unwrap_or_default();
    let image = images.iter().find(|image| image.container_name() == Some(container));
    let status_reason = deployment.status_reason().filter(|reason| !reason.is_empty());
    ecs::EcsServiceDeployment {
        status: deployment.status().map(ServiceDeploymentStatus::as_str),
        reason: status_reason.or_else(|| deployment.rollback().and_then(Rollback::reason)),
        task_definition: revision.and_then(ServiceRevision::task_definition),
        image_digest: image.and_then(ContainerImage::image_digest),
    }
}

/// Tasks are missing, or ECS counts failed ones: stopped tasks are worth reading.
pub(super) fn is_degraded(service: &Service) -> bool {
    described(service).is_degraded()
}

/// Whether the circuit breaker has tripped for this task definition, so that only a new deployment starts its tasks.
pub(super) fn needs_new_deployment(service: &Service, task_definition: &str) -> bool {
    described(service).needs_new_deployment(task_definition)
}

/// The service's events, without those that have no text or no time.
fn events(service: &Service) -> impl Iterator<Item = ecs::EcsServiceEvent<'_>> + Clone {
    service.events().iter().filter_map(|event| {
        let (message, at) = (event.message()?, instant(event.created_at())?);
        Some(ecs::EcsServiceEvent { message, at })
    })
}

fn described(service: &Service) -> ecs::EcsService<'_> {
    let providers = service.capacity_provider_strategy().iter().map(|item| ecs::CapacityProvider {
        name: item.capacity_provider(),
        weight: count(item.weight()),
        base: count(item.base()),
    });
    ecs::EcsService {
        controller: service.deployment_controller().map(|controller| controller.r#type().as_str()),
        task_definition: service.task_definition(),
        desired: count(service.desired_count()),
        running: count(service.running_count()),
        pending: count(service.pending_count()),
        deployments: service.deployments().iter().map(deployment).collect(),
        capacity_providers: providers.collect(),
        launch_type: service.launch_type().map(|launch_type| launch_type.as_str()),
    }
}

fn deployment(deployment: &Deployment) -> ecs::EcsDeployment<'_> {
    ecs::EcsDeployment {
        status: deployment.status(),
        task_definition: deployment.task_definition(),
        rollout_state: deployment.rollout_state().map(|state| state.as_str()),
        rollout_state_reason: deployment.rollout_state_reason(),
        failed_tasks: count(deployment.failed_tasks()),
        running: count(deployment.running_count()),
        pending: count(deployment.pending_count()),
        created_at: instant(deployment.created_at()),
        updated_at: instant(deployment.updated_at()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ecs::types::{
        CapacityProviderStrategyItem, DeploymentController, DeploymentControllerType, DeploymentRolloutState,
        LaunchType, ServiceEvent as Event,
    };
    use aws_smithy_types::DateTime;
    use rollout::snapshot::RolloutReading;
    use rollout::{Slot, Timestamp};

    const OLD: &str = "arn:aws:ecs:eu-west-1:123456789012:task-definition/api:7";
    const NEW: &str = "arn:aws:ecs:eu-west-1:123456789012:task-definition/api:8";

    fn deployment(status: &str, task_definition: &str, state: DeploymentRolloutState) -> Deployment {
        Deployment::builder()
            .status(status)
            .task_definition(task_definition)
            .rollout_state(state)
            .rollout_state_reason("ECS deployment circuit breaker: tasks failed to start.")
            .created_at(DateTime::from_secs(1100))
            .updated_at(DateTime::from_secs(1200))
            .failed_tasks(3)
            .running_count(2)
            .pending_count(1)
            .build()
    }

    fn service(deployments: Vec<Deployment>) -> Service {
        Service::builder()
            .service_name("api-green")
            .status("ACTIVE")
            .desired_count(4)
            .running_count(2)
            .pending_count(1)
            .launch_type(LaunchType::Fargate)
            .set_deployments(Some(deployments))
            .build()
    }

    /// What the answer means is tested in the core; here, that every field of it arrives there.
    #[test]
    fn a_service_is_described_with_all_its_fields() {
        let provider = CapacityProviderStrategyItem::builder().capacity_provider("FARGATE_SPOT").weight(3).base(1);
        let mut service = service(vec![deployment("PRIMARY", NEW, DeploymentRolloutState::Failed)]);
        service.capacity_provider_strategy = Some(vec![provider.build().expect("a name")]);
        service.task_definition = Some(OLD.to_owned());
        let controller = DeploymentController::builder().r#type(DeploymentControllerType::Ecs).build();
        service.deployment_controller = Some(controller.expect("a type"));
        let expected = ecs::EcsService {
            controller: Some("ECS"),
            task_definition: Some(OLD),
            desired: 4,
            running: 2,
            pending: 1,
            deployments: vec![ecs::EcsDeployment {
                status: Some("PRIMARY"),
                task_definition: Some(NEW),
                rollout_state: Some("FAILED"),
                rollout_state_reason: Some("ECS deployment circuit breaker: tasks failed to start."),
                failed_tasks: 3,
                running: 2,
                pending: 1,
                created_at: Timestamp::from_second(1100).ok(),
                updated_at: Timestamp::from_second(1200).ok(),
            }],
            capacity_providers: vec![ecs::CapacityProvider { name: "FARGATE_SPOT", weight: 3, base: 1 }],
            launch_type: Some("FARGATE"),
        };
        assert_eq!(described(&service), expected);
        assert!(is_degraded(&service) && needs_new_deployment(&service, NEW) && !needs_new_deployment(&service, OLD));
    }

    #[test]
    fn events_without_time_or_text_are_left_out() {
        let event = |second, message: &str| Event::builder().created_at(DateTime::from_secs(second)).message(message);
        let words = "(service api-green) was unable to place a task.";
        let mut service = service(vec![deployment("PRIMARY", NEW, DeploymentRolloutState::InProgress)]);
        service.events = Some(vec![
            Event::builder().message("was unable to place a task, at no time").build(),
            Event::builder().created_at(DateTime::from_secs(1500)).build(),
            event(1400, "(service api-green) has reached a steady state.").build(),
            event(1300, words).build(),
        ]);
        let query = FailedStartsQuery {
            slot: Some(Slot::Green),
            version: NEW.to_owned(),
            since: Timestamp::from_second(1000).expect("an instant"),
            compare_with: None,
        };
        let seen = service_reading(&service, Some(&query)).expect("a reading");
        assert_eq!(seen.placement_failure.map(|failure| failure.message).as_deref(), Some(words));
    }

    /// A revision of [`NEW`] with a resolved digest for each of two containers.
    fn revision() -> ServiceRevision {
        let image = |name: &str, digest: &str| ContainerImage::builder().container_name(name).image_digest(digest);
        ServiceRevision::builder()
            .task_definition(NEW)
            .container_images(image("proxy", "sha256:other").build())
            .container_images(image("api", "sha256:new").build())
            .build()
    }

    #[test]
    fn a_service_deployment_is_described_with_all_its_fields() {
        let rollback = Rollback::builder().reason("The circuit breaker has tripped.").build();
        let deployment = ServiceDeployment::builder()
            .status(ServiceDeploymentStatus::RollbackSuccessful)
            .status_reason("Rolled back.")
            .rollback(rollback)
            .build();
        let revision = revision();
        let expected = ecs::EcsServiceDeployment {
            status: Some("ROLLBACK_SUCCESSFUL"),
            reason: Some("Rolled back."),
            task_definition: Some(NEW),
            image_digest: Some("sha256:new"),
        };
        assert_eq!(service_deployment(&deployment, Some(&revision), "api"), expected);
        let without_container = ecs::EcsServiceDeployment { image_digest: None, ..expected };
        assert_eq!(service_deployment(&deployment, Some(&revision), "worker"), without_container);
        // ECS has no revisions from before October 2024.
        let without_revision = ecs::EcsServiceDeployment { task_definition: None, ..without_container };
        assert_eq!(service_deployment(&deployment, None, "api"), without_revision);

        for status_reason in [None, Some(String::new())] {
            let mut unexplained = deployment.clone();
            unexplained.status_reason = status_reason;
            let described = service_deployment(&unexplained, Some(&revision), "api");
            assert_eq!(described.reason, Some("The circuit breaker has tripped."));
        }
    }

    #[test]
    fn a_service_in_place_is_read_with_its_newest_service_deployment() {
        let mut service = service(vec![deployment("PRIMARY", NEW, DeploymentRolloutState::Completed)]);
        service.deployments.get_or_insert_default().push(deployment("ACTIVE", OLD, DeploymentRolloutState::Completed));
        let revision = revision();
        let record = ServiceDeployment::builder().status(ServiceDeploymentStatus::InProgress).build();
        let newest = service_deployment(&record, Some(&revision), "api");
        let reading = workload_reading(&service, None, Some(&newest)).expect("a reading");
        assert_eq!((reading.version.as_str(), reading.digest.as_deref()), (NEW, Some("sha256:new")));
        assert_eq!((reading.desired, reading.running, reading.others), (4, 2, 3));
        assert_eq!(reading.rollout, RolloutReading::InProgress { since: Timestamp::from_second(1100).ok() });
    }

    #[test]
    fn a_missing_or_deleted_service_is_an_error() {
        let missing = NotFound::builder()
            .arn("arn:aws:ecs:eu-west-1:123456789012:service/shop/api-green")
            .reason("MISSING")
            .build();
        let reason = find("api-green", &[], &[missing]).expect_err("it is missing");
        assert_eq!(reason, "ECS has no service api-green in the cluster: MISSING");

        let mut deleted = service(vec![]);
        deleted.status = Some("INACTIVE".to_owned());
        let reason = find("api-green", &[deleted], &[]).expect_err("it is deleted");
        assert!(reason.contains("INACTIVE"), "{reason}");
    }
}
