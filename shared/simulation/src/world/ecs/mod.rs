//! ECS: clusters, task definitions, services with rolling deployments and circuit breaker, tasks.

mod definitions;
mod fargate;
mod scheduler;
mod services;
mod shapes;
mod tasks;

pub use fargate::FargateUsage;
pub(super) use services::ServiceState;
pub(super) use shapes::epoch;
pub use shapes::{
    CircuitBreaker, Cluster, Container, CreateService, Deployment, DeploymentConfiguration, Failure, LastStatus,
    ListTasks, RanTask, RolloutState, RunTask, Service, ServiceEvent, ServiceLoadBalancer, Task, TaskDefinition,
    UpdateService,
};
pub(super) use tasks::TaskState;
