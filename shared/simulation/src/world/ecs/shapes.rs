//! The shapes of ECS's API. Serialised as its JSON protocol has them (camelCase names, times as seconds since 1970),
//! so that a wire front hands them on as they are; requests deserialise from the same names.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;

/// Writes a time as awsJson does: seconds since 1970, with a fraction.
pub(crate) fn epoch<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(at.as_millisecond() as f64 / 1000.0)
}

fn epoch_option<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => epoch(at, serializer),
        None => serializer.serialize_none(),
    }
}

fn each<S: Serializer>(events: &Arc<VecDeque<ServiceEvent>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(events.iter())
}

/// A cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// ARN.
    pub cluster_arn: String,
    /// Name.
    pub cluster_name: String,
    /// `ACTIVE`
    pub status: String,
}

/// A revision of a task definition. The registered document is kept whole.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskDefinition {
    /// ARN, revision included.
    pub arn: String,
    /// The family.
    pub family: String,
    /// Counts up from 1 in each family.
    pub revision: u32,
    /// `ACTIVE` or `INACTIVE`.
    pub status: &'static str,
    /// When it was registered.
    pub registered_at: Timestamp,
    /// All fields as they were registered, tags left out.
    pub document: Value,
    /// `[{"key": …, "value": …}]`, as registered.
    pub tags: Value,
}

impl TaskDefinition {
    /// The `taskDefinition` object of an answer: the document, and the fields that only AWS writes.
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
            // Lists that were not given are described as empty ones.
            for list in ["volumes", "placementConstraints"] {
                fields.entry(list).or_insert_with(|| serde_json::json!([]));
            }
        }
        wire
    }

    /// Names of the volumes that are configured at launch.
    pub(in crate::world) fn launch_volumes(&self) -> impl Iterator<Item = &str> {
        let volumes = self.document.get("volumes").and_then(Value::as_array).into_iter().flatten();
        let left = |volume: &&Value| volume.get("configuredAtLaunch").and_then(Value::as_bool) == Some(true);
        volumes.filter(left).filter_map(|volume| volume.get("name")?.as_str())
    }

    /// The image of a container, if there is a container of that name.
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
    /// The container that answers.
    pub container_name: String,
    /// Its port.
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
    /// Tasks that stay healthy during a rolling update, in per cent of the desired count.
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
    /// Gives a deployment up after half of the desired count of failed tasks, at least 3 and at most 200.
    pub enable: bool,
    /// Then goes back to the last completed one.
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
    /// Tasks wanted.
    pub desired_count: u32,
    /// Target groups.
    pub load_balancers: Vec<ServiceLoadBalancer>,
    /// Rolling update and breaker.
    pub deployment_configuration: Option<DeploymentConfiguration>,
    /// Subnets and security groups, kept as they are.
    pub network_configuration: Option<Value>,
    /// `FARGATE`, `EC2`, …
    pub launch_type: Option<String>,
    /// Kept as they are; excludes `launch_type`.
    pub capacity_provider_strategy: Option<Value>,
    /// Of volumes that the task definition leaves to the launch: `[{"name": …, "managedEBSVolume": {…}}]`.
    pub volume_configurations: Option<Value>,
    /// For how long after the start the balancer's health checks are not looked at, in seconds.
    pub health_check_grace_period_seconds: Option<u32>,
}

/// `UpdateService`. What is none stays.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdateService {
    /// Name or ARN.
    pub cluster: String,
    /// Name or ARN.
    pub service: String,
    /// Tasks wanted.
    pub desired_count: Option<u32>,
    /// Family, family:revision or ARN.
    pub task_definition: Option<String>,
    /// A new deployment even of the same task definition.
    pub force_new_deployment: bool,
    /// Rolling update and breaker.
    pub deployment_configuration: Option<DeploymentConfiguration>,
    /// Kept as it is.
    pub network_configuration: Option<Value>,
    /// As at the creation; a new deployment.
    pub volume_configurations: Option<Value>,
    /// In seconds.
    pub health_check_grace_period_seconds: Option<u32>,
}

/// A service, as `DescribeServices` has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
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
    /// Tasks wanted.
    pub desired_count: u32,
    /// Tasks in `RUNNING`, of all deployments.
    pub running_count: u32,
    /// Tasks in `PROVISIONING`, `PENDING` and `ACTIVATING`, of all deployments.
    pub pending_count: u32,
    /// The primary one first.
    pub deployments: Vec<Deployment>,
    /// Newest first, at most 100.
    #[serde(serialize_with = "each")]
    pub events: Arc<VecDeque<ServiceEvent>>,
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
    /// As created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_provider_strategy: Option<Value>,
    /// `REPLICA`
    pub scheduling_strategy: &'static str,
    /// In seconds.
    pub health_check_grace_period_seconds: u32,
    /// When it was created.
    #[serde(serialize_with = "epoch")]
    pub created_at: Timestamp,
}

/// A deployment of a service.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// `ecs-svc/…`
    pub id: String,
    /// `PRIMARY` or `ACTIVE`.
    pub status: &'static str,
    /// ARN.
    pub task_definition: String,
    /// Tasks wanted of it.
    pub desired_count: u32,
    /// Tasks in `RUNNING`.
    pub running_count: u32,
    /// Tasks on the way there.
    pub pending_count: u32,
    /// Tasks that failed to start or to become healthy, since the last one that did well.
    pub failed_tasks: u32,
    /// `IN_PROGRESS`, `COMPLETED` or `FAILED`.
    pub rollout_state: RolloutState,
    /// ECS's words.
    pub rollout_state_reason: String,
    /// Of volumes that the task definition leaves to the launch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_configurations: Option<Value>,
    /// When it began.
    #[serde(serialize_with = "epoch")]
    pub created_at: Timestamp,
    /// When it changed last.
    #[serde(serialize_with = "epoch")]
    pub updated_at: Timestamp,
}

/// Where a deployment of a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RolloutState {
    /// Tasks are being replaced.
    InProgress,
    /// Everything that runs is of it.
    Completed,
    /// The circuit breaker gave it up.
    Failed,
}

/// What a service says of itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEvent {
    /// Identity.
    pub id: String,
    /// When.
    #[serde(serialize_with = "epoch")]
    pub created_at: Timestamp,
    /// ECS's words.
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
    /// How many; none is one.
    pub count: Option<u32>,
    /// `{"containerOverrides": [{"name": …, "command": […]}]}`, kept as it is.
    pub overrides: Option<Value>,
    /// At most 128 characters here, 36 where it is to be listed by.
    pub started_by: Option<String>,
    /// At most 64 characters: the same token and request is the same task, for a day.
    pub client_token: Option<String>,
    /// Kept as it is.
    pub network_configuration: Option<Value>,
    /// `FARGATE`, `EC2`, …
    pub launch_type: Option<String>,
    /// Kept as it is; excludes `launch_type`.
    pub capacity_provider_strategy: Option<Value>,
    /// Of volumes that the task definition leaves to the launch.
    pub volume_configurations: Option<Value>,
}

/// `RunTask`'s answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RanTask {
    /// What was started.
    pub tasks: Vec<Task>,
    /// What was not.
    pub failures: Vec<Failure>,
}

/// Something that a call on several things could not do for one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Whose.
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
    /// Only of this family.
    pub family: Option<String>,
    /// Only of this service.
    pub service_name: Option<String>,
    /// Only those started so.
    pub started_by: Option<String>,
    /// `RUNNING` (the default) or `STOPPED`: what is wanted of the task, not what it does.
    pub desired_status: Option<String>,
}

/// A task, as `DescribeTasks` has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// ARN.
    pub task_arn: String,
    /// ARN.
    pub cluster_arn: String,
    /// ARN, revision included.
    pub task_definition_arn: String,
    /// What it does.
    pub last_status: LastStatus,
    /// What is wanted: `RUNNING` or `STOPPED`.
    pub desired_status: &'static str,
    /// `service:NAME`, or `family:NAME`.
    pub group: String,
    /// A deployment's id, or what `RunTask` was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_by: Option<String>,
    /// `FARGATE`, `EC2`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launch_type: Option<String>,
    /// The capacity provider that placed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_provider_name: Option<String>,
    /// One for each container definition.
    pub containers: Vec<Container>,
    /// As `RunTask` was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overrides: Option<Value>,
    /// When it was asked for.
    #[serde(serialize_with = "epoch")]
    pub created_at: Timestamp,
    /// When it ran.
    #[serde(serialize_with = "epoch_option", skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When its stop began.
    #[serde(serialize_with = "epoch_option", skip_serializing_if = "Option::is_none")]
    pub stopping_at: Option<Timestamp>,
    /// When it had stopped.
    #[serde(serialize_with = "epoch_option", skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Timestamp>,
    /// `TaskFailedToStart`, `EssentialContainerExited`, `UserInitiated`, `ServiceSchedulerInitiated`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_code: Option<&'static str>,
    /// ECS's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_reason: Option<String>,
}

impl Task {
    /// The last part of the ARN: what target and backend call it.
    #[must_use]
    pub fn id(&self) -> &str {
        self.task_arn.rsplit('/').next().unwrap_or(&self.task_arn)
    }
}

/// A container of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// As the task definition has it.
    pub name: String,
    /// As the task definition has it.
    pub image: String,
    /// What it does.
    pub last_status: LastStatus,
    /// How it ended; none where it never ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it ended or never ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a task does (ECS guide, "Task lifecycle").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LastStatus {
    /// Things before the launch: network interface, placement.
    Provisioning,
    /// Waiting for resources, pulling the image.
    Pending,
    /// It runs.
    Running,
    /// Its target drains.
    Deactivating,
    /// It was told to stop.
    Stopping,
    /// It has stopped.
    Stopped,
}
