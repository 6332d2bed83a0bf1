//! Interprets `DescribeServices` for one service.

use super::{count, instant, short_name};
use crate::error::one_line;
use aws_sdk_ecs::types::{Deployment, DeploymentRolloutState, Failure as NotFound, Service};
use rollout::observation::FailedStartsQuery;
use rollout::snapshot::ServiceEvent;

/// Phrases by which a service's events say that a task cannot be placed or started ("Viewing Amazon ECS service event
/// messages" in the ECS developer guide).
const PLACEMENT_FAILURE_MESSAGES: &[&str] = &[
    "unable to place a task",
    "unable to consistently start tasks",
    "unable to consistently place tasks",
    "unable to stop or start tasks",
    "failed to launch a task",
];

/// State of one service, without its target group and scalable target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServiceState {
    pub(super) task_definition: String,
    pub(super) desired: u32,
    pub(super) running: u32,
    pub(super) pending: u32,
    pub(super) steady: bool,
    pub(super) circuit_breaker_reason: Option<String>,
    /// The circuit breaker has tripped for the primary deployment, at any time.
    pub(super) stalled: bool,
    pub(super) placed_by: Vec<String>,
    pub(super) placement_failure: Option<ServiceEvent>,
}

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
        let reason = failure.and_then(NotFound::reason).unwrap_or("not in the answer");
        return Err(format!("ECS has no service {name} in the cluster: {reason}"));
    };
    match service.status() {
        // Emulators omit the status.
        Some("ACTIVE") | None => Ok(service),
        Some(status) => Err(format!("service {name} is {status}: it is deleted or being deleted")),
    }
}

/// State of the service; `failed_starts_query` is the plan's, if it concerns this side.
///
/// # Errors
/// A reason, where the service has no primary deployment: another deployment controller manages it.
pub(super) fn service_state(
    service: &Service,
    failed_starts_query: Option<&FailedStartsQuery>,
) -> Result<ServiceState, String> {
    let deployments = service.deployments();
    let Some(primary) = deployments.iter().find(|deployment| deployment.status() == Some("PRIMARY")) else {
        let controller = service.deployment_controller().map_or("unknown", |controller| controller.r#type().as_str());
        return Err(format!("the service has no primary deployment (its deployment controller is {controller})"));
    };
    let task_definition = primary.task_definition().or_else(|| service.task_definition());
    let Some(task_definition) = task_definition else {
        return Err("the service's primary deployment names no task definition".to_owned());
    };
    let (desired, running, pending) =
        (count(service.desired_count()), count(service.running_count()), count(service.pending_count()));
    let complete = primary.rollout_state() == Some(&DeploymentRolloutState::Completed);
    Ok(ServiceState {
        task_definition: task_definition.to_owned(),
        desired,
        running,
        pending,
        steady: deployments.len() == 1 && complete && running == desired && pending == 0,
        circuit_breaker_reason: circuit_breaker_reason(service, primary, failed_starts_query),
        stalled: primary.rollout_state() == Some(&DeploymentRolloutState::Failed),
        placed_by: placed_by(service),
        placement_failure: failed_starts_query.and_then(|starts| placement_failure(service, starts)),
    })
}

/// Tasks are missing, or ECS counts failed ones: stopped tasks are worth reading.
pub(super) fn is_degraded(service: &Service) -> bool {
    let failed = service.deployments().iter().any(|deployment| deployment.failed_tasks() > 0);
    service.running_count() < service.desired_count() || failed
}

/// The capacity providers that place the service's tasks, or its launch type. A provider without weight and base places none
/// (API reference, `CapacityProviderStrategyItem`).
fn placed_by(service: &Service) -> Vec<String> {
    let places = service.capacity_provider_strategy().iter().filter(|item| item.weight() > 0 || item.base() > 0);
    let providers: Vec<_> = places.map(|item| item.capacity_provider().to_owned()).collect();
    if providers.is_empty() {
        return service.launch_type().map(|launch_type| launch_type.as_str().to_owned()).into_iter().collect();
    }
    providers
}

/// Whether the service's primary deployment runs this task definition and its circuit breaker has tripped.
pub(super) fn circuit_breaker_tripped(service: &Service, task_definition: &str) -> bool {
    service.deployments().iter().any(|deployment| {
        deployment.status() == Some("PRIMARY")
            && deployment.rollout_state() == Some(&DeploymentRolloutState::Failed)
            && deployment.task_definition() == Some(task_definition)
    })
}

/// The circuit breaker's verdict on the deployment that the plan asks about, since the time it asks about: an earlier
/// attempt's verdict stays on a service until its next deployment, and says nothing about this one. A circuit breaker
/// configured to roll back demotes the failed deployment, and once its last task is gone only the service's events mention
/// it.
fn circuit_breaker_reason(
    service: &Service,
    primary: &Deployment,
    failed_starts_query: Option<&FailedStartsQuery>,
) -> Option<String> {
    let starts = failed_starts_query?;
    let failed = |deployment: &&Deployment| {
        deployment.rollout_state() == Some(&DeploymentRolloutState::Failed)
            && instant(deployment.updated_at()).is_none_or(|at| at >= starts.since)
    };
    let words = |deployment: &Deployment| {
        one_line(deployment.rollout_state_reason().unwrap_or("ECS gave the deployment up, without a reason"))
    };
    if failed(&primary) {
        return Some(words(primary));
    }
    let is_requested = |deployment: &&Deployment| deployment.task_definition() == Some(starts.task_definition.as_str());
    if let Some(deployment) = service.deployments().iter().filter(is_requested).find(failed) {
        return Some(words(deployment));
    }
    if is_requested(&primary) {
        return None;
    }
    newest_event(service, starts, |message| message.contains("deployment failed")).map(|event| event.message)
}

fn placement_failure(service: &Service, starts: &FailedStartsQuery) -> Option<ServiceEvent> {
    newest_event(service, starts, |message| PLACEMENT_FAILURE_MESSAGES.iter().any(|words| message.contains(words)))
}

fn newest_event(
    service: &Service,
    starts: &FailedStartsQuery,
    matches_message: impl Fn(&str) -> bool,
) -> Option<ServiceEvent> {
    service
        .events()
        .iter()
        .filter_map(|event| {
            let (message, at) = (event.message()?, instant(event.created_at())?);
            (at >= starts.since && matches_message(message)).then(|| ServiceEvent { message: one_line(message), at })
        })
        .max_by_key(|event| event.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ecs::types::{
        CapacityProviderStrategyItem, DeploymentController, DeploymentControllerType, LaunchType, ServiceEvent as Event,
    };
    use aws_smithy_types::DateTime;
    use rollout::{Slot, Timestamp};

    const OLD: &str = "arn:aws:ecs:eu-west-1:123456789012:task-definition/api:7";
    const NEW: &str = "arn:aws:ecs:eu-west-1:123456789012:task-definition/api:8";

    fn deployment(status: &str, task_definition: &str, state: DeploymentRolloutState) -> Deployment {
        Deployment::builder()
            .status(status)
            .task_definition(task_definition)
            .rollout_state(state)
            .rollout_state_reason("ECS deployment circuit breaker: tasks failed to start.")
            .build()
    }

    fn service(deployments: Vec<Deployment>) -> Service {
        Service::builder()
            .service_name("api-green")
            .status("ACTIVE")
            .desired_count(2)
            .running_count(2)
            .set_deployments(Some(deployments))
            .build()
    }

    fn starts_of_new() -> FailedStartsQuery {
        FailedStartsQuery {
            slot: Slot::Green,
            task_definition: NEW.to_owned(),
            since: Timestamp::from_second(1000).expect("an instant"),
            beside: None,
        }
    }

    fn event(second: i64, message: &str) -> Event {
        Event::builder().created_at(DateTime::from_secs(second)).message(message).build()
    }

    #[test]
    fn steady_means_one_completed_deployment_with_all_tasks() {
        let complete = || deployment("PRIMARY", NEW, DeploymentRolloutState::Completed);
        let seen = service_state(&service(vec![complete()]), None).expect("a reading");
        assert!(seen.steady && !seen.stalled && !is_degraded(&service(vec![complete()])));
        assert_eq!((seen.task_definition.as_str(), seen.desired, seen.running), (NEW, 2, 2));

        let draining = deployment("ACTIVE", OLD, DeploymentRolloutState::Completed);
        assert!(!service_state(&service(vec![complete(), draining]), None).expect("a reading").steady);

        let rolling = deployment("PRIMARY", NEW, DeploymentRolloutState::InProgress);
        assert!(!service_state(&service(vec![rolling]), None).expect("a reading").steady);

        let mut short = service(vec![complete()]);
        short.running_count = 1;
        let seen = service_state(&short, None).expect("a reading");
        assert!(!seen.steady && is_degraded(&short));

        let mut starting = service(vec![complete()]);
        starting.pending_count = 1;
        assert!(!service_state(&starting, None).expect("a reading").steady);
    }

    #[test]
    fn a_failed_primary_deployment_means_the_breaker_tripped() {
        let failed = service(vec![deployment("PRIMARY", NEW, DeploymentRolloutState::Failed)]);
        let seen = service_state(&failed, Some(&starts_of_new())).expect("a reading");
        assert_eq!(
            seen.circuit_breaker_reason.as_deref(),
            Some("ECS deployment circuit breaker: tasks failed to start.")
        );
        assert!(circuit_breaker_tripped(&failed, NEW) && !circuit_breaker_tripped(&failed, OLD));
    }

    #[test]
    fn an_earlier_breaker_verdict_does_not_count() {
        let mut before = deployment("PRIMARY", NEW, DeploymentRolloutState::Failed);
        before.updated_at = Some(DateTime::from_secs(900));
        let seen = service_state(&service(vec![before]), Some(&starts_of_new())).expect("a reading");
        assert_eq!(seen.circuit_breaker_reason, None, "it is the verdict on an earlier attempt");
        assert!(seen.stalled, "and it takes a new deployment to start a task");
    }

    #[test]
    fn a_breaker_rollback_means_the_breaker_tripped() {
        let back = || deployment("PRIMARY", OLD, DeploymentRolloutState::InProgress);
        let rolled_back = service(vec![back(), deployment("ACTIVE", NEW, DeploymentRolloutState::Failed)]);
        assert!(
            service_state(&rolled_back, Some(&starts_of_new())).expect("a reading").circuit_breaker_reason.is_some()
        );
        assert_eq!(
            service_state(&rolled_back, None).expect("a reading").circuit_breaker_reason,
            None,
            "nobody asked for that one"
        );

        // The failed deployment is gone; its event remains.
        let mut finished = service(vec![deployment("PRIMARY", OLD, DeploymentRolloutState::Completed)]);
        let words = "(service api-green) (deployment ecs-svc/1) deployment failed: tasks failed to start.";
        finished.events = Some(vec![event(1500, words)]);
        let seen = service_state(&finished, Some(&starts_of_new())).expect("a reading");
        assert_eq!(seen.circuit_breaker_reason.as_deref(), Some(words));

        finished.events = Some(vec![event(900, words)]);
        assert_eq!(
            service_state(&finished, Some(&starts_of_new())).expect("a reading").circuit_breaker_reason,
            None,
            "before this deployment"
        );
    }

    #[test]
    fn placed_by_is_the_capacity_providers_or_launch_type() {
        let item = |name: &str, weight, base| {
            let item = CapacityProviderStrategyItem::builder().capacity_provider(name).weight(weight).base(base);
            item.build().expect("a name")
        };
        let mut service = service(vec![deployment("PRIMARY", NEW, DeploymentRolloutState::Completed)]);
        service.launch_type = Some(LaunchType::Fargate);
        assert_eq!(service_state(&service, None).expect("a reading").placed_by, ["FARGATE"]);
        let strategy = vec![item("FARGATE_SPOT", 3, 0), item("FARGATE", 0, 1), item("hosts", 0, 0)];
        service.capacity_provider_strategy = Some(strategy);
        assert_eq!(service_state(&service, None).expect("a reading").placed_by, ["FARGATE_SPOT", "FARGATE"]);
    }

    #[test]
    fn the_newest_placement_failure_since_the_start_is_reported() {
        let mut service = service(vec![deployment("PRIMARY", NEW, DeploymentRolloutState::InProgress)]);
        service.events = Some(vec![
            event(
                1100,
                "(service api-green) was unable to place a task because no container instance met all of its requirements.",
            ),
            event(1300, "(service api-green) is unable to consistently start tasks successfully."),
            event(1400, "(service api-green) has reached a steady state."),
            event(900, "(service api-green) was unable to place a task."),
        ]);
        let seen = service_state(&service, Some(&starts_of_new())).expect("a reading");
        let failure = seen.placement_failure.expect("a placement failure");
        assert_eq!(failure.at, Timestamp::from_second(1300).expect("an instant"));
        assert!(failure.message.contains("unable to consistently start tasks"), "{failure:?}");
        assert_eq!(service_state(&service, None).expect("a reading").placement_failure, None);
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

    #[test]
    fn a_service_with_another_deployment_controller_is_an_error() {
        let mut other = service(vec![]);
        let controller = DeploymentController::builder().r#type(DeploymentControllerType::External).build();
        other.deployment_controller = Some(controller.expect("a type"));
        let reason = service_state(&other, None).expect_err("no primary deployment");
        assert!(reason.contains("EXTERNAL"), "{reason}");
    }
}
