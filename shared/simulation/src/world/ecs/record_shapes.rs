//! Data types of ECS's API for service deployments and service revisions. They serialise as those in
//! [`shapes`](super::shapes) do.

use super::shapes::{DeploymentConfiguration, ServiceLoadBalancer, epoch, epoch_option};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// Status of a service deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServiceDeploymentStatus {
    /// Created, and not started.
    Pending,
    /// Tasks are being replaced.
    InProgress,
    /// All running tasks are of its target revision.
    Successful,
    /// It failed without a rollback, or another deployment replaced it.
    Stopped,
    /// It failed, and an earlier revision is being deployed again.
    RollbackInProgress,
    /// It failed, and an earlier revision runs again.
    RollbackSuccessful,
    /// Its rollback failed as well.
    RollbackFailed,
}

impl ServiceDeploymentStatus {
    /// The API's text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::InProgress => "IN_PROGRESS",
            Self::Successful => "SUCCESSFUL",
            Self::Stopped => "STOPPED",
            Self::RollbackInProgress => "ROLLBACK_IN_PROGRESS",
            Self::RollbackSuccessful => "ROLLBACK_SUCCESSFUL",
            Self::RollbackFailed => "ROLLBACK_FAILED",
        }
    }
}

/// A service deployment as `DescribeServiceDeployments` returns it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceDeployment {
    /// ARN.
    pub service_deployment_arn: String,
    /// ARN.
    pub service_arn: String,
    /// ARN.
    pub cluster_arn: String,
    /// Time of the request.
    #[serde(serialize_with = "epoch")]
    pub created_at: Timestamp,
    /// When the scheduler began; none: it has not.
    #[serde(serialize_with = "epoch_option", skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended; none: it has not.
    #[serde(serialize_with = "epoch_option", skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Time of the last change of its status.
    #[serde(serialize_with = "epoch")]
    pub updated_at: Timestamp,
    /// What ran when it was created.
    pub source_service_revisions: Vec<ServiceRevisionSummary>,
    /// What it deploys.
    pub target_service_revision: ServiceRevisionSummary,
    /// Status.
    pub status: ServiceDeploymentStatus,
    /// ECS's explanation of the status, where it gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// Rolling update and breaker of the service.
    pub deployment_configuration: DeploymentConfiguration,
    /// The rollback; none: there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback: Option<ServiceRollback>,
    /// State of the circuit breaker.
    pub deployment_circuit_breaker: ServiceDeploymentCircuitBreaker,
}

/// Tasks of a service revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRevisionSummary {
    /// ARN of the revision.
    pub arn: String,
    /// Number of tasks that shall run.
    pub requested_task_count: u32,
    /// Number of tasks in `RUNNING`.
    pub running_task_count: u32,
    /// Number of tasks that are starting.
    pub pending_task_count: u32,
}

/// The rollback of a service deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRollback {
    /// ECS's explanation.
    pub reason: String,
    /// When it began.
    #[serde(serialize_with = "epoch")]
    pub started_at: Timestamp,
    /// ARN of the revision that is deployed again.
    pub service_revision_arn: String,
}

/// State of the circuit breaker in a service deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceDeploymentCircuitBreaker {
    /// `DISABLED`, `MONITORING`, `MONITORING_COMPLETE` or `TRIGGERED`.
    pub status: &'static str,
    /// Number of tasks that failed in a row.
    pub failure_count: u32,
    /// Number of such tasks that trips it.
    pub threshold: u32,
}

/// `ListServiceDeployments`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListServiceDeployments {
    /// Name or ARN.
    pub cluster: String,
    /// Name or ARN.
    pub service: String,
    /// Only those with one of these; empty: all.
    pub status: Vec<String>,
    /// Only those created before this time.
    pub created_before: Option<Timestamp>,
    /// Only those created after this time.
    pub created_after: Option<Timestamp>,
}

/// A service deployment as `ListServiceDeployments` returns it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceDeploymentBrief {
    /// ARN.
    pub service_deployment_arn: String,
    /// ARN.
    pub service_arn: String,
    /// ARN.
    pub cluster_arn: String,
    /// Time of the request.
    #[serde(serialize_with = "epoch")]
    pub created_at: Timestamp,
    /// When the scheduler began; none: it has not.
    #[serde(serialize_with = "epoch_option", skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended; none: it has not.
    #[serde(serialize_with = "epoch_option", skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// ARN of what it deploys.
    pub target_service_revision_arn: String,
    /// Status.
    pub status: ServiceDeploymentStatus,
    /// ECS's explanation of the status, where it gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
}

impl ServiceDeployment {
    /// As `ListServiceDeployments` returns it.
    pub(super) fn brief(self) -> ServiceDeploymentBrief {
        ServiceDeploymentBrief {
            service_deployment_arn: self.service_deployment_arn,
            service_arn: self.service_arn,
            cluster_arn: self.cluster_arn,
            created_at: self.created_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            target_service_revision_arn: self.target_service_revision.arn,
            status: self.status,
            status_reason: self.status_reason,
        }
    }
}

/// A service revision as `DescribeServiceRevisions` returns it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRevision {
    /// ARN.
    pub service_revision_arn: String,
    /// ARN.
    pub service_arn: String,
    /// ARN.
    pub cluster_arn: String,
    /// ARN, revision included.
    pub task_definition: String,
    /// One entry per container definition.
    pub container_images: Vec<ContainerImage>,
    /// Target groups.
    pub load_balancers: Vec<ServiceLoadBalancer>,
    /// Subnets and security groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_configuration: Option<Value>,
    /// `FARGATE`, `EC2`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launch_type: Option<String>,
    /// As given at creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_provider_strategy: Option<Value>,
    /// Time of creation.
    #[serde(serialize_with = "epoch")]
    pub created_at: Timestamp,
}

/// The image of a container in a service revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerImage {
    /// Name from the task definition.
    pub container_name: String,
    /// Image from the task definition.
    pub image: String,
    /// Its digest; none: the task definition names a tag, which the model does not resolve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
}
