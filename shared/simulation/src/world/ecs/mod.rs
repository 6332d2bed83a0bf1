//! ECS: clusters, task definitions, services with rolling deployments and circuit breaker, their records, tasks.

mod definitions;
mod fargate;
mod health;
mod protection;
mod record_shapes;
mod records;
mod scheduler;
mod services;
mod shapes;
mod tasks;

pub use fargate::FargateUsage;
pub use protection::{ProtectedTask, UpdateTaskProtection};
pub use record_shapes::{
    ContainerImage, ListServiceDeployments, ServiceDeployment, ServiceDeploymentBrief, ServiceDeploymentCircuitBreaker,
    ServiceDeploymentStatus, ServiceRevision, ServiceRevisionSummary, ServiceRollback,
};
pub(super) use services::ScheduledService;
pub(super) use shapes::epoch;
pub use shapes::{
    CircuitBreaker, Cluster, CreateService, DeploymentConfiguration, EcsContainer, EcsDeployment, EcsFailure,
    EcsService, EcsServiceEvent, EcsTask, HealthStatus, LastStatus, ListTasks, RanTask, RolloutState, RunTask,
    ServiceLoadBalancer, TaskDefinition, UpdateService,
};
pub(super) use tasks::TaskState;
