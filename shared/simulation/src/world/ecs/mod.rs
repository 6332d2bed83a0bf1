//! ECS: clusters, task definitions, services with rolling deployments and circuit breaker, tasks.

mod definitions;
mod fargate;
mod scheduler;
mod services;
mod shapes;
mod tasks;

pub use fargate::FargateUsage;
pub(super) use services::ScheduledService;
pub(super) use shapes::epoch;
pub use shapes::{
    CircuitBreaker, Cluster, CreateService, DeploymentConfiguration, EcsContainer, EcsDeployment, EcsFailure,
    EcsService, EcsServiceEvent, EcsTask, LastStatus, ListTasks, RanTask, RolloutState, RunTask, ServiceLoadBalancer,
    TaskDefinition, UpdateService,
};
pub(super) use tasks::TaskState;
