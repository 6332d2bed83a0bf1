//! What ECS runs of a service that changes its version in place, as it is: without faults, and without delay.

use crate::trace::PrimaryDeployment;
use crate::world::ecs::{EcsTask, HealthStatus, LastStatus, ListTasks, RolloutState};
use crate::world::{ServiceKey, World};
use rollout::{Seconds, Timestamp};
use std::fmt;

/// Maximum number of tasks in one `DescribeTasks` call.
const MAX_TASKS_PER_CALL: usize = 100;
/// After this long in `RUNNING`, a task without container health check counts as healthy (API reference,
/// `DeploymentConfiguration`, `minimumHealthyPercent`).
const HEALTHY_AFTER: Seconds = Seconds(40);

/// The state of a service.
#[derive(Debug, Clone)]
pub(super) struct ServiceState {
    pub(super) primary: PrimaryDeployment,
    /// Running tasks of the primary deployment.
    pub(super) running: u32,
    desired: u32,
    /// ECS calls the primary deployment complete.
    is_complete: bool,
    /// Tasks of other versions that run or start, and that nothing stops.
    others: u32,
    /// Healthy tasks of the primary deployment's version.
    healthy: u32,
    /// Healthy targets of the worst of its target groups; none: it is behind no load balancer.
    healthy_targets: Option<u32>,
}

impl ServiceState {
    /// Reads a service with these target groups; none: there is no such service.
    pub(super) fn read<'g>(
        world: &mut World,
        key: &ServiceKey,
        groups: impl Iterator<Item = &'g String>,
    ) -> Option<Self> {
        let (cluster, name) = key;
        let now = world.now();
        let healthy_targets = groups.map(|group| world.targets_of(group).0).min();
        world.as_third_party(|world| {
            let (services, _) = world.describe_services(cluster, std::slice::from_ref(name)).ok()?;
            let service = services.first()?;
            let deployment = service.deployments.first()?;
            let primary = PrimaryDeployment::of(service)?;
            let of_service =
                ListTasks { cluster: cluster.clone(), service_name: Some(name.clone()), ..ListTasks::default() };
            let arns = world.list_tasks(of_service).ok()?;
            let (mut others, mut healthy) = (0, 0);
            for arns in arns.chunks(MAX_TASKS_PER_CALL) {
                let count = |task: &EcsTask| match task.task_definition_arn == primary.version {
                    true => healthy += u32::from(is_healthy(task, now)),
                    false => others += 1,
                };
                world.visit_tasks(cluster, arns, count).ok()?;
            }
            Some(Self {
                running: deployment.running_count,
                desired: service.desired_count,
                is_complete: deployment.rollout_state == RolloutState::Completed,
                primary,
                others,
                healthy,
                healthy_targets,
            })
        })
    }

    /// Whether everything that runs is of its version and healthy, and nothing is missing. Without any desired task
    /// nothing has to run.
    pub(super) fn is_replaced(&self) -> bool {
        let enough = |count: u32| count >= self.desired;
        let is_up = self.is_complete
            && [self.running, self.healthy].into_iter().all(enough)
            && self.healthy_targets.is_none_or(enough);
        self.others == 0 && (is_up || self.desired == 0)
    }

    /// Whether no task is desired.
    pub(super) fn is_scaled_to_zero(&self) -> bool {
        self.desired == 0
    }
}

impl fmt::Display for ServiceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { primary, running, desired, is_complete, others, healthy, healthy_targets } = self;
        let rollout = if *is_complete { "complete" } else { "not complete" };
        let targets = healthy_targets.map(|count| format!(", {count} healthy targets")).unwrap_or_default();
        write!(
            f,
            "{} is set and {rollout}, with {running} of {desired} tasks running, {healthy} of them healthy{targets}, \
             and {others} tasks of other versions",
            primary.version
        )
    }
}

/// Whether a task is healthy by its container's check, or has run for long enough.
fn is_healthy(task: &EcsTask, now: Timestamp) -> bool {
    let long_enough = || task.started_at.is_some_and(|at| HEALTHY_AFTER.after(at) <= now);
    task.last_status == LastStatus::Running
        && match task.health_status {
            HealthStatus::Healthy => true,
            HealthStatus::Unhealthy => false,
            HealthStatus::Unknown => long_enough(),
        }
}
