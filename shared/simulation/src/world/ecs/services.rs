//! Services: their API calls and descriptions.

use super::definitions::last_part;
use super::records::{RecordedDeployment, RecordedRevision};
use super::scheduler::TaskPhase;
use super::shapes::{
    CreateService, DeploymentConfiguration, EcsDeployment, EcsFailure, EcsService, EcsServiceEvent, RolloutState,
    ServiceLoadBalancer, UpdateService,
};
use crate::world::agenda::AgendaItem;
use crate::world::error::invalid_parameter;
use crate::world::{ApiError, ApiResult, ServiceKey, World, WorldChange, WorldEventKind};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;

/// Maximum number of services in one `DescribeServices` call.
const MAX_SERVICES_PER_CALL: usize = 10;
/// Maximum number of events that a service keeps.
const MAX_EVENTS: usize = 100;

/// A service, with its scheduler's internal state.
#[derive(Debug, Clone)]
pub(in crate::world) struct ScheduledService {
    pub(super) arn: String,
    pub(super) status: &'static str,
    pub(in crate::world) desired: u32,
    /// The primary one first.
    pub(super) deployments: Vec<DeploymentState>,
    /// Shared with the results of describe calls.
    events: Arc<VecDeque<EcsServiceEvent>>,
    pub(super) load_balancers: Vec<ServiceLoadBalancer>,
    pub(super) configuration: DeploymentConfiguration,
    pub(super) network_configuration: Option<Value>,
    pub(super) launch_type: Option<String>,
    pub(super) capacity_provider_strategy: Option<Value>,
    volume_configurations: Option<Value>,
    pub(super) grace_s: u32,
    created_at: Timestamp,
    /// Tasks that have not stopped.
    pub(in crate::world) live: Vec<String>,
    /// The last deployment that was completed.
    pub(super) last_completed: Option<CompletedDeployment>,
    /// Its service deployments, oldest first.
    pub(super) records: Vec<RecordedDeployment>,
    /// Its service revisions, oldest first.
    pub(super) revisions: Vec<RecordedRevision>,
    /// A scheduler run is on the agenda already.
    pub(super) scheduled: bool,
    /// No task is started before this time.
    pub(super) retry_at: Option<Timestamp>,
    /// Number of failed tasks since the last success.
    pub(super) failures: u32,
    /// The steady state was reported, and nothing has changed since.
    pub(super) steady: bool,
}

/// What a completed deployment deployed.
#[derive(Debug, Clone)]
pub(super) struct CompletedDeployment {
    pub(super) task_definition: String,
    /// Id of its service revision.
    pub(super) revision: String,
}

/// What a deployment by the circuit breaker rolls back from and to.
#[derive(Debug)]
pub(super) struct RollbackTo {
    /// Id of the service deployment that failed.
    pub(super) record: String,
    /// Id of the service revision to deploy again.
    pub(super) revision: String,
}

/// A deployment of a service.
#[derive(Debug, Clone)]
pub(super) struct DeploymentState {
    pub(super) id: String,
    /// Id of its service deployment; that of the failed one, if it rolls back.
    pub(super) record: String,
    /// Id of its service revision.
    pub(super) revision: String,
    /// The circuit breaker started it.
    pub(super) rolls_back: bool,
    pub(super) task_definition: String,
    pub(super) failed_tasks: u32,
    /// One of its tasks succeeded: the circuit breaker no longer applies.
    pub(super) proven: bool,
    pub(super) rollout_state: RolloutState,
    pub(super) reason: String,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
}

impl World {
    /// `CreateService`, with a rolling deployment.
    ///
    /// # Errors
    /// `ClusterNotFoundException`, `ClientException` (task definition), and `InvalidParameterException` for a name that
    /// is taken, a container that does not exist, or a target group that no load balancer forwards to.
    pub fn create_service(&mut self, request: CreateService) -> ApiResult<EcsService> {
        let detail = self.detail(|| {
            json!({
                "cluster": request.cluster, "serviceName": request.service_name,
                "taskDefinition": request.task_definition, "desiredCount": request.desired_count,
            })
        });
        self.call("ecs:CreateService", detail, |world| {
            let cluster = world.cluster_name(&request.cluster)?;
            let key = (cluster, request.service_name.clone());
            if world.services.get(&key).is_some_and(|service| service.status != "INACTIVE") {
                return Err(invalid_parameter("Creation of service was not idempotent."));
            }
            let definition = world.usable_definition(&request.task_definition)?;
            for binding in &request.load_balancers {
                if definition.image(&binding.container_name).is_none() {
                    let words = "does not exist in the task definition.";
                    return Err(invalid_parameter(format!("The container {} {words}", binding.container_name)));
                }
            }
            world.check_attached(&request.load_balancers)?;
            Self::check_volumes(&definition, request.volume_configurations.as_ref())?;
            let service = ScheduledService {
                arn: world.arn("ecs", &format!("service/{}/{}", key.0, key.1)),
                status: "ACTIVE",
                desired: request.desired_count,
                deployments: Vec::new(),
                events: Arc::default(),
                load_balancers: request.load_balancers,
                configuration: request.deployment_configuration.unwrap_or_default(),
                network_configuration: request.network_configuration,
                launch_type: request
                    .launch_type
                    .or_else(|| request.capacity_provider_strategy.is_none().then(|| "FARGATE".to_owned())),
                capacity_provider_strategy: request.capacity_provider_strategy,
                volume_configurations: request.volume_configurations,
                grace_s: request.health_check_grace_period_seconds.unwrap_or(0),
                created_at: world.now,
                live: Vec::new(),
                last_completed: None,
                records: Vec::new(),
                revisions: Vec::new(),
                scheduled: false,
                retry_at: None,
                failures: 0,
                steady: false,
            };
            world.services.insert(key.clone(), service);
            world.begin_deployment(&key, definition.arn, None);
            world.service_shape(&key).ok_or_else(service_not_found)
        })
    }

    /// `UpdateService`. Another task definition starts a deployment; another count alone does not, and neither does the
    /// same task definition again, even if its deployment has failed: that needs `force_new_deployment`.
    ///
    /// # Errors
    /// `ClusterNotFoundException`, `ServiceNotFoundException`, `ServiceNotActiveException`, `ClientException` (task
    /// definition), `InvalidParameterException` where tasks would be registered in a target group that no load balancer
    /// forwards to.
    pub fn update_service(&mut self, request: UpdateService) -> ApiResult<EcsService> {
        let detail = self.detail(|| {
            json!({
                "cluster": request.cluster, "service": request.service, "taskDefinition": request.task_definition,
                "desiredCount": request.desired_count, "forceNewDeployment": request.force_new_deployment,
            })
        });
        self.call("ecs:UpdateService", detail, |world| {
            let key = (world.cluster_name(&request.cluster)?, last_part(&request.service).to_owned());
            let Some(service) = world.services.get(&key) else { return Err(service_not_found()) };
            if service.status != "ACTIVE" {
                return Err(ApiError::new("ServiceNotActiveException", "Service was not ACTIVE."));
            }
            let present = service.task_definition().to_owned();
            let definition = match &request.task_definition {
                Some(reference) => world.usable_definition(reference)?.arn,
                None => present.clone(),
            };
            let volumes = request.volume_configurations.clone().or_else(|| service.volume_configurations.clone());
            if request.task_definition.is_some()
                && let Some(wanted) = world.definition(&definition)
            {
                Self::check_volumes(wanted, volumes.as_ref())?;
            }
            let reconfigured = volumes != service.volume_configurations;
            let deploys = request.force_new_deployment || definition != present || reconfigured;
            let more = request.desired_count.is_some_and(|desired| desired > service.desired);
            if deploys || more {
                let bindings = service.load_balancers.clone();
                world.check_attached(&bindings)?;
            }
            let Some(service) = world.services.get_mut(&key) else { return Err(service_not_found()) };
            let before = service.desired;
            if let Some(desired) = request.desired_count {
                service.desired = desired;
            }
            let to = service.desired;
            if let Some(configuration) = request.deployment_configuration {
                service.configuration = configuration;
            }
            service.volume_configurations = volumes;
            if request.network_configuration.is_some() {
                service.network_configuration = request.network_configuration;
            }
            if let Some(grace_s) = request.health_check_grace_period_seconds {
                service.grace_s = grace_s;
            }
            service.steady = false;
            if to != before {
                world.changed(|world| {
                    Some(WorldChange::Desired { service: key.clone(), from: before, to, by: world.caller.into() })
                });
            }
            if deploys {
                world.begin_deployment(&key, definition, None);
            } else {
                world.wake_scheduler(&key);
            }
            world.service_shape(&key).ok_or_else(service_not_found)
        })
    }

    /// `DeleteService` with force: its tasks stop and it becomes `INACTIVE`.
    ///
    /// # Errors
    /// `ClusterNotFoundException`, `ServiceNotFoundException`
    pub fn delete_service(&mut self, cluster: &str, service: &str) -> ApiResult<EcsService> {
        self.call("ecs:DeleteService", self.detail(|| json!({"cluster": cluster, "service": service})), |world| {
            let key = (world.cluster_name(cluster)?, last_part(service).to_owned());
            let state = world.services.get_mut(&key).ok_or_else(service_not_found)?;
            state.status = "INACTIVE";
            state.desired = 0;
            state.records.clear();
            world.wake_scheduler(&key);
            world.service_shape(&key).ok_or_else(service_not_found)
        })
    }

    /// `DescribeServices`, at most 10 names or ARNs.
    ///
    /// # Errors
    /// `ClusterNotFoundException`, `InvalidParameterException`; a missing service is a failure in the response.
    pub fn describe_services(
        &mut self,
        cluster: &str,
        services: &[String],
    ) -> ApiResult<(Vec<EcsService>, Vec<EcsFailure>)> {
        self.call("ecs:DescribeServices", self.detail(|| json!({"cluster": cluster, "services": services})), |world| {
            let cluster = world.cluster_name(cluster)?;
            if services.is_empty() {
                return Err(invalid_parameter("Services cannot be empty."));
            }
            if services.len() > MAX_SERVICES_PER_CALL {
                return Err(invalid_parameter("Services cannot have more than 10 elements."));
            }
            let (mut found, mut failures) = (Vec::new(), Vec::new());
            for service in services {
                let key = (cluster.clone(), last_part(service).to_owned());
                match world.service_shape(&key) {
                    Some(shape) => found.push(shape),
                    None => {
                        let arn = world.arn("ecs", &format!("service/{}/{}", key.0, key.1));
                        failures.push(EcsFailure { arn, reason: "MISSING".to_owned() });
                    }
                }
            }
            Ok((found, failures))
        })
    }

    /// `ListServices`: ARNs of a cluster's services.
    ///
    /// # Errors
    /// `ClusterNotFoundException`
    pub fn list_services(&mut self, cluster: &str) -> ApiResult<Vec<String>> {
        self.call("ecs:ListServices", self.detail(|| json!({"cluster": cluster})), |world| {
            let cluster = world.cluster_name(cluster)?;
            let of_cluster =
                world.services.iter().filter(|(key, service)| key.0 == cluster && service.status == "ACTIVE");
            Ok(of_cluster.map(|(_, service)| service.arn.clone()).collect())
        })
    }

    fn check_attached(&self, bindings: &[ServiceLoadBalancer]) -> ApiResult<()> {
        for binding in bindings {
            let arn = &binding.target_group_arn;
            if !self.groups.contains_key(arn) {
                return Err(invalid_parameter(format!("Unable to describe target group {arn}")));
            }
            if self.balancer_of_group(arn).is_none() {
                let words = "does not have an associated load balancer.";
                return Err(invalid_parameter(format!("The target group with targetGroupArn {arn} {words}")));
            }
        }
        Ok(())
    }

    /// Starts a deployment: with a record of its own or, if it is a rollback, as a part of the failed one's.
    pub(super) fn begin_deployment(&mut self, key: &ServiceKey, task_definition: String, rollback: Option<RollbackTo>) {
        let number = self.rng.between(1_000_000_000_000_000_000, 9_999_999_999_999_999_999).to_string();
        let id = format!("ecs-svc/{number}");
        let now = self.now;
        let rolls_back = rollback.is_some();
        let RollbackTo { record, revision } = match rollback {
            Some(rollback) => rollback,
            None => {
                self.begin_record(key, &number, &task_definition);
                RollbackTo { record: number.clone(), revision: number }
            }
        };
        let Some(service) = self.services.get_mut(key) else { return };
        let reason = format!("ECS deployment {id} in progress.");
        let deployment = DeploymentState {
            id: id.clone(),
            record,
            revision,
            rolls_back,
            task_definition,
            failed_tasks: 0,
            proven: false,
            rollout_state: RolloutState::InProgress,
            reason: reason.clone(),
            created_at: now,
            updated_at: now,
        };
        service.deployments.insert(0, deployment);
        service.retry_at = None;
        service.failures = 0;
        service.steady = false;
        let arn = service.arn.clone();
        self.emit(WorldEventKind::Deployment {
            service: arn,
            deployment: id,
            name: "SERVICE_DEPLOYMENT_IN_PROGRESS",
            reason,
        });
        self.wake_scheduler(key);
    }

    /// Schedules a run of the service's scheduler.
    pub(in crate::world) fn wake_scheduler(&mut self, key: &ServiceKey) {
        if let Some(service) = self.services.get_mut(key)
            && !service.scheduled
        {
            service.scheduled = true;
            self.after_random_ms(self.settings.timing.scheduler_ms, AgendaItem::Schedule(key.clone()));
        }
    }

    pub(super) fn add_service_event(&mut self, key: &ServiceKey, words: &str) {
        let now = self.now;
        let id = self.rng.hex(32);
        if let Some(service) = self.services.get_mut(key) {
            let message = format!("(service {}) {words}", key.1);
            let events = Arc::make_mut(&mut service.events);
            events.push_front(EcsServiceEvent { id, created_at: now, message });
            events.truncate(MAX_EVENTS);
        }
    }

    /// The service as `DescribeServices` returns it.
    pub(in crate::world) fn service_shape(&self, key: &ServiceKey) -> Option<EcsService> {
        let state = self.services.get(key)?;
        let live = state.live.iter().filter_map(|id| self.tasks.get(id));
        let live: Vec<(Option<&str>, TaskPhase)> =
            live.map(|task| (task.deployment.as_deref(), self.phase(task))).collect();
        let count = |deployment: Option<&str>, wanted: fn(TaskPhase) -> bool| {
            let of_it = |(of, phase): &&(Option<&str>, TaskPhase)| {
                deployment.is_none_or(|deployment| *of == Some(deployment)) && wanted(*phase)
            };
            u32::try_from(live.iter().filter(of_it).count()).unwrap_or(u32::MAX)
        };
        let running: fn(TaskPhase) -> bool = |phase| matches!(phase, TaskPhase::Healthy | TaskPhase::Running);
        let pending: fn(TaskPhase) -> bool = |phase| phase == TaskPhase::Starting;
        let deployments = state
            .deployments
            .iter()
            .enumerate()
            .map(|(index, deployment)| {
                let (running, pending) = (count(Some(&deployment.id), running), count(Some(&deployment.id), pending));
                EcsDeployment {
                    id: deployment.id.clone(),
                    status: if index == 0 { "PRIMARY" } else { "ACTIVE" },
                    task_definition: deployment.task_definition.clone(),
                    desired_count: if index == 0 { state.desired } else { running + pending },
                    running_count: running,
                    pending_count: pending,
                    failed_tasks: deployment.failed_tasks,
                    rollout_state: deployment.rollout_state,
                    rollout_state_reason: deployment.reason.clone(),
                    volume_configurations: state.volume_configurations.clone(),
                    created_at: deployment.created_at,
                    updated_at: deployment.updated_at,
                }
            })
            .collect();
        Some(EcsService {
            service_arn: state.arn.clone(),
            service_name: key.1.clone(),
            cluster_arn: self.clusters.get(&key.0)?.cluster_arn.clone(),
            status: state.status,
            task_definition: state.task_definition().to_owned(),
            desired_count: state.desired,
            running_count: count(None, running),
            pending_count: count(None, pending),
            deployments,
            events: Arc::clone(&state.events),
            load_balancers: state.load_balancers.clone(),
            deployment_configuration: state.configuration.clone(),
            network_configuration: state.network_configuration.clone(),
            launch_type: state.launch_type.clone(),
            capacity_provider_strategy: state.capacity_provider_strategy.clone(),
            scheduling_strategy: "REPLICA",
            health_check_grace_period_seconds: state.grace_s,
            current_service_deployment: self.current_record(key, state),
            created_at: state.created_at,
        })
    }
}

impl ScheduledService {
    /// Placement of its next task: the first capacity provider of its strategy with a weight or a base, else its launch
    /// type.
    pub(super) fn placed_by(&self) -> Option<String> {
        let strategy = self.capacity_provider_strategy.as_ref().and_then(Value::as_array).into_iter().flatten();
        let number = |item: &Value, field: &str| item.get(field).and_then(Value::as_u64).unwrap_or(0);
        let places = |item: &&Value| number(item, "weight") > 0 || number(item, "base") > 0;
        let provider = strategy.filter(places).find_map(|item| item.get("capacityProvider")?.as_str());
        provider.map(str::to_owned).or_else(|| self.launch_type.clone())
    }

    /// ARN of the primary deployment's task definition.
    pub(in crate::world) fn task_definition(&self) -> &str {
        self.deployments.first().map_or("", |deployment| deployment.task_definition.as_str())
    }
}

fn service_not_found() -> ApiError {
    ApiError::new("ServiceNotFoundException", "Service not found.")
}
