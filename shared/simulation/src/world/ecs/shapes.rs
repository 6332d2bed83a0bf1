//! Data types of ECS's API. They serialise as its JSON protocol requires (camelCase names, times as seconds since
//! 1970), so that a wire front returns them unchanged; requests deserialise from the same names.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;

/// Serialises a time as awsJson does: seconds since 1970, with a fraction.
pub(crate) fn epoch<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(at.as_millisecond() as f64 / 1000.0)
}

pub(super) fn epoch_option<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => epoch(at, serializer),
        None => serializer.serialize_none(),
    }
}

fn each<S: Serializer>(events: &Arc<VecDeque<EcsServiceEvent>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(events.iter())
}

/// A cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// ARN of the cluster.
    pub cluster_arn: String,
    /// Name of the cluster.
    pub cluster_name: String,
    /// `ACTIVE`
    pub status: String,
}

/// A revision of a task definition. The registered document is stored unchanged.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskDefinition {
    /// ARN, revision included.
    pub arn: String,
    /// The family.
    pub family: String,
    /// Counts from 1 within each family.
    pub revision: u32,
    /// `ACTIVE` or `INACTIVE`.
    pub status: &'static str,
    /// Time of registration.
    pub registered_at: Timestamp,
    /// All registered fields except tags.
    pub document: Value,
    /// `[{"key": …, "value": …}]`, as registered.
    pub tags: Value,
}

impl TaskDefinition {
    /// The `taskDefinition` object of a response: the document, and the fields that AWS adds.
    #[must_use]
    pub fn wire(&self) -> Value {
        let mut wire = self.document.clone();
        if let Value::Object(fields) = &mut wire {
            fields.insert("taskDefinitionArn".to_owned(), self.arn.clone().into());
            fields.insert("revision".to_owned(), self.revision.into());
            fields.insert("status".to_owned(), self.status.into());
            fields.insert("registeredAt".to_owned(), (self.registered_at.as_millisecond() as f64 / 1000.0).into());
            fields.insert("registeredBy".to_owned(), "arn:aws:iam::111122223333:role/somebody".into());
            fields.insert("compatibilities".to_owned(), serde_json::json!(["EC2", "FARGATE"]));
            fields.insert(
                "requiresAttributes".to_owned(),
                serde_json::json!([{"name": "com.amazonaws.ecs.capability.docker-remote-api.1.18"}]),
            );
            // Lists that were not given are returned as empty lists.
            for list in ["volumes", "placementConstraints"] {
                fields.entry(list).or_insert_with(|| serde_json::json!([]));
            }
        }
        wire
    }

    /// Names of the volumes that must be configured at launch.
    pub(in crate::world) fn launch_volumes(&self) -> impl Iterator<Item = &str> {
        let volumes = self.document.get("volumes").and_then(Value::as_array).into_iter().flatten();
        let left = |volume: &&Value| volume.get("configuredAtLaunch").and_then(Value::as_bool) == Some(true);
        volumes.filter(left).filter_map(|volume| volume.get("name")?.as_str())
    }

    /// The image of the named container; none: no such container.
    #[must_use]
    pub fn image(&self, container: &str) -> Option<&str> {
        self.document
            .get("containerDefinitions")?
            .as_array()?
            .iter()
            .find(|definition| definition.get("name").and_then(Value::as_str) == Some(container))?
            .get("image")?
            .as_str()
    }
}

/// A load balancer binding of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceLoadBalancer {
    /// The target group that tasks register in.
    pub target_group_arn: String,
    /// Name of the container that receives the traffic.
    pub container_name: String,
    /// Port of that container.
    pub container_port: u16,
}

/// `deploymentConfiguration`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentConfiguration {
    /// The circuit breaker.
    pub deployment_circuit_breaker: CircuitBreaker,
    /// Tasks that may run during a rolling update, in per cent of the desired count.
    pub maximum_percent: u32,
    /// Tasks that must stay healthy during a rolling update, in per cent of the desired count.
    pub minimum_healthy_percent: u32,
}

impl Default for DeploymentConfiguration {
    fn default() -> Self {
        Self {
            deployment_circuit_breaker: CircuitBreaker::default(),
            maximum_percent: 200,
            minimum_healthy_percent: 100,
        }
    }
}

/// The deployment circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CircuitBreaker {
    /// Fails a deployment after as many failed tasks as half of the desired count, at least 3 and at most 200.
    pub enable: bool,
    /// Rolls back to the last completed deployment after that.
    pub rollback: bool,
}

/// `CreateService`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateService {
    /// Name or ARN.
    pub cluster: String,
    /// Name.
    pub service_name: String,
    /// Family, family:revision or ARN.
    pub task_definition: String,
    /// Desired count.
    pub desired_count: u32,
    /// Target groups.
    pub load_balancers: Vec<ServiceLoadBalancer>,
    /// Rolling update and breaker.
    pub deployment_configuration: Option<DeploymentConfiguration>,
    /// Subnets and security groups, stored unchanged.
    pub network_configuration: Option<Value>,
    /// `FARGATE`, `EC2`, …
    pub launch_type: Option<String>,
    /// Stored unchanged; excludes `launch_type`.
    pub capacity_provider_strategy: Option<Value>,
    /// Configurations of launch-time volumes: `[{"name": …, "managedEBSVolume": {…}}]`.
    pub volume_configurations: Option<Value>,
    /// Time after a task's start during which failed health checks of the balancer are ignored, in seconds.
    pub health_check_grace_period_seconds: Option<u32>,
}

/// `UpdateService`. Parameters that are none keep their value.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdateService {
    /// Name or ARN.
    pub cluster: String,
    /// Name or ARN.
    pub service: String,
    /// Desired count.
    pub desired_count: Option<u32>,
    /// Family, family:revision or ARN.
    pub task_definition: Option<String>,
    /// Starts a new deployment even of the same task definition.
    pub force_new_deployment: bool,
    /// Rolling update and breaker.
    pub deployment_configuration: Option<DeploymentConfiguration>,
    /// Stored unchanged.
    pub network_configuration: Option<Value>,
    /// Configurations of launch-time volumes; starts a new deployment.
    pub volume_configurations: Option<Value>,
    /// In seconds, as in [`CreateService`].
    pub health_check_grace_period_seconds: Option<u32>,
}

/// A service as `DescribeServices` returns it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EcsService {
    /// ARN.
    pub service_arn: String,
    /// Name.
    pub service_name: String,
    /// ARN.
    pub cluster_arn: String,
    /// `ACTIVE`, `DRAINING` or `INACTIVE`.
    pub status: &'static str,
    /// ARN of the primary deployment's task definition.
    pub task_definition: String,
    /// Desired count.
    pub desired_count: u32,
    /// Number of tasks in `RUNNING`, over all deployments.
    pub running_count: u32,
    /// Number of tasks in `PROVISIONING`, `PENDING` and `ACTIVATING`, over all deployments.
    pub pending_count: u32,
    /// The primary deployment first.
    pub deployments: Vec<EcsDeployment>,
    /// Newest first, at most 100.
    #[serde(serialize_with = "each")]
    pub events: Arc<VecDeque<EcsServiceEvent>>,
    /// Target groups.
    pub load_balancers: Vec<ServiceLoadBalancer>,
    /// Rolling update and breaker.
    pub deployment_configuration: DeploymentConfiguration,
    /// Subnets and security groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_configuration: Option<Value>,
    /// `FARGATE`, `EC2`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launch_type: Option<String>,
    /// As given at creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_provider_strategy: Option<Value>,
    /// `REPLICA`
    pub scheduling_strategy: &'static str,
    /// In seconds.
    pub health_check_grace_period_seconds: u32,
    /// ARN of its newest service deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_service_deployment: Option<String>,
    /// Time of creation.
    #[serde(serialize_with = "epoch")]
    pub created_at: Timestamp,
}

/// A deployment of a service.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EcsDeployment {
    /// `ecs-svc/…`
    pub id: String,
    /// `PRIMARY` or `ACTIVE`.
    pub status: &'static str,
    /// ARN.
    pub task_definition: String,
    /// Desired count of this deployment.
    pub desired_count: u32,
    /// Number of tasks in `RUNNING`.
    pub running_count: u32,
    /// Number of tasks that are starting.
    pub pending_count: u32,
    /// Number of tasks that failed to start or to become healthy since the last success.
    pub failed_tasks: u32,
    /// `IN_PROGRESS`, `COMPLETED` or `FAILED`.
    pub rollout_state: RolloutState,
    /// ECS's explanation.
    pub rollout_state_reason: String,
    /// Configurations of launch-time volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_configurations: Option<Value>,
    /// Start time.
    #[serde(serialize_with = "epoch")]
    pub created_at: Timestamp,
    /// Time of the last change.
    #[serde(serialize_with = "epoch")]
    pub updated_at: Timestamp,
}

/// State of a service's deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RolloutState {
    /// Tasks are being replaced.
    InProgress,
    /// All running tasks belong to it.
    Completed,
    /// The circuit breaker has failed it.
    Failed,
}

impl RolloutState {
    /// The API's text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
        }
    }
}

/// An event message of a service.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EcsServiceEvent {
    /// Unique id.
    pub id: String,
    /// Time of the event.
    #[serde(serialize_with = "epoch")]
    pub created_at: Timestamp,
    /// ECS's text.
    pub message: String,
}

/// `RunTask`
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct RunTask {
    /// Name or ARN.
    pub cluster: String,
    /// Family, family:revision or ARN.
    pub task_definition: String,
    /// Number of tasks; none counts as 1.
    pub count: Option<u32>,
    /// `{"containerOverrides": [{"name": …, "command": […]}]}`, stored unchanged.
    pub overrides: Option<Value>,
    /// At most 128 characters; at most 36 if tasks are to be listed by it.
    pub started_by: Option<String>,
    /// At most 64 characters: the same token with the same request returns the same task for a day.
    pub client_token: Option<String>,
    /// Stored unchanged.
    pub network_configuration: Option<Value>,
    /// `FARGATE`, `EC2`, …
    pub launch_type: Option<String>,
    /// Stored unchanged; excludes `launch_type`.
    pub capacity_provider_strategy: Option<Value>,
    /// Configurations of launch-time volumes.
    pub volume_configurations: Option<Value>,
}

/// Response of `RunTask`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RanTask {
    /// Tasks that were started.
    pub tasks: Vec<EcsTask>,
    /// Tasks that could not be started.
    pub failures: Vec<EcsFailure>,
}

/// One resource for which a call on several failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EcsFailure {
    /// ARN of that resource.
    pub arn: String,
    /// `MISSING`, `RESOURCE:…`
    pub reason: String,
}

/// `ListTasks`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListTasks {
    /// Name or ARN.
    pub cluster: String,
    /// Only tasks of this family.
    pub family: Option<String>,
    /// Only tasks of this service.
    pub service_name: Option<String>,
    /// Only tasks with this `startedBy`.
    pub started_by: Option<String>,
    /// `RUNNING` (the default) or `STOPPED`: filters by desired status, not by last status.
    pub desired_status: Option<String>,
}

/// A task as `DescribeTasks` returns it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EcsTask {
    /// ARN of the task.
    pub task_arn: String,
    /// ARN of its cluster.
    pub cluster_arn: String,
    /// ARN, revision included.
    pub task_definition_arn: String,
    /// Current status.
    pub last_status: LastStatus,
    /// Target status: `RUNNING` or `STOPPED`.
    pub desired_status: &'static str,
    /// `service:NAME`, or `family:NAME`.
    pub group: String,
    /// Id of the deployment, or the `startedBy` of `RunTask`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_by: Option<String>,
    /// `FARGATE`, `EC2`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launch_type: Option<String>,
    /// The capacity provider that placed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_provider_name: Option<String>,
    /// One entry per container definition.
    pub containers: Vec<EcsContainer>,
    /// As given to `RunTask`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overrides: Option<Value>,
    /// Time of the request.
    #[serde(serialize_with = "epoch")]
    pub created_at: Timestamp,
    /// Time at which the task entered `RUNNING`.
    #[serde(serialize_with = "epoch_option", skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Time at which stopping began.
    #[serde(serialize_with = "epoch_option", skip_serializing_if = "Option::is_none")]
    pub stopping_at: Option<Timestamp>,
    /// Time at which the task had stopped.
    #[serde(serialize_with = "epoch_option", skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Timestamp>,
    /// `TaskFailedToStart`, `EssentialContainerExited`, `UserInitiated`, `ServiceSchedulerInitiated`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_code: Option<&'static str>,
    /// ECS's explanation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_reason: Option<String>,
    /// Health of its essential containers that have a health check.
    pub health_status: HealthStatus,
}

impl EcsTask {
    /// The last part of the ARN, by which targets and backend refer to the task.
    #[must_use]
    pub fn id(&self) -> &str {
        self.task_arn.rsplit('/').next().unwrap_or(&self.task_arn)
    }
}

/// A container of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EcsContainer {
    /// Name from the task definition.
    pub name: String,
    /// Image from the task definition.
    pub image: String,
    /// Current status.
    pub last_status: LastStatus,
    /// Exit code; none if the container never ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why the container ended, or why it never ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Result of its health check.
    pub health_status: HealthStatus,
}

/// Result of a container's health check, or of all those of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum HealthStatus {
    /// The last check passed.
    Healthy,
    /// As many checks in a row failed as the task definition allows.
    Unhealthy,
    /// There is no check, or it has not come to a result yet.
    Unknown,
}

impl HealthStatus {
    /// The API's text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "HEALTHY",
            Self::Unhealthy => "UNHEALTHY",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// Status of a task (ECS guide, "Task lifecycle").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LastStatus {
    /// Steps before the launch: network interface, placement.
    Provisioning,
    /// Waiting for resources, pulling the image.
    Pending,
    /// All containers run.
    Running,
    /// Its target is draining.
    Deactivating,
    /// Its containers have been signalled to stop.
    Stopping,
    /// All containers have stopped.
    Stopped,
}

impl LastStatus {
    /// The API's text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "PROVISIONING",
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Deactivating => "DEACTIVATING",
            Self::Stopping => "STOPPING",
            Self::Stopped => "STOPPED",
        }
    }
}
