//! A service's scheduler: rolling deployments, replacement, back-off and circuit breaker.

use super::shapes::{LastStatus, RolloutState};
use super::tasks::{NewTask, TaskState};
use crate::world::agenda::{Due, later};
use crate::world::balancer::HealthState;
use crate::world::image::Starts;
use crate::world::{ServiceKey, TaskBackend, What, World};

/// Seconds until the placement of a task is tried again.
const PLACEMENT_RETRY_MS: u64 = 15_000;
/// Failures in a row before starts are spaced out.
const FREE_FAILURES: u32 = 3;

/// What a task is to its service's scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// On its way out, or gone.
    Leaving,
    /// Not running yet.
    Starting,
    /// Running, its targets not healthy (yet).
    Up,
    /// Running, and every target of it healthy.
    Well,
}

impl World {
    pub(super) fn standing(&self, task: &TaskState) -> Standing {
        if task.shape.desired_status == "STOPPED" || task.shape.last_status > LastStatus::Running {
            return Standing::Leaving;
        }
        if task.shape.last_status < LastStatus::Running {
            return Standing::Starting;
        }
        let healthy = |(group, target): &(String, crate::world::balancer::TargetId)| {
            self.groups
                .get(group)
                .and_then(|group| group.targets.get(target))
                .is_some_and(|target| target.state == HealthState::Healthy)
        };
        if task.target.iter().all(healthy) { Standing::Well } else { Standing::Up }
    }

    /// One action of a service's scheduler.
    pub(in crate::world) fn schedule(&mut self, key: &ServiceKey) {
        let Some(service) = self.services.get_mut(key) else { return };
        service.scheduled = false;
        self.stop_unhealthy(key);
        let Some(service) = self.services.get(key) else { return };
        let desired = as_count(service.desired);
        let Some(primary) = service.deployments.first().cloned() else { return };
        let configuration = service.configuration.clone();
        let failed = primary.rollout_state == RolloutState::Failed;

        let mut new: Vec<(Standing, String)> = Vec::new();
        let mut old: Vec<(Standing, String)> = Vec::new();
        for id in &self.services[key].live {
            let Some(task) = self.tasks.get(id) else { continue };
            let standing = self.standing(task);
            if standing == Standing::Leaving {
                continue;
            }
            let side = if task.deployment.as_deref() == Some(&primary.id) { &mut new } else { &mut old };
            side.push((standing, id.clone()));
        }
        new.sort();
        old.sort();

        // More tasks than wanted: the least useful go first.
        let keep_old = if failed { desired.saturating_sub(new.len()) } else { usize::MAX };
        let mut leaving: Vec<String> = Vec::new();
        while new.len() > desired {
            leaving.push(new.remove(0).1);
        }
        while old.len() > keep_old {
            leaving.push(old.remove(0).1);
        }
        if !failed {
            let least = (desired * configuration.minimum_healthy_percent as usize).div_ceil(100);
            let well =
                |tasks: &[(Standing, String)]| tasks.iter().filter(|(standing, _)| *standing == Standing::Well).count();
            let mut all_well = well(&new) + well(&old);
            while let Some((standing, _)) = old.first() {
                if *standing == Standing::Well {
                    if all_well <= least {
                        break;
                    }
                    all_well -= 1;
                }
                leaving.push(old.remove(0).1);
            }
        }
        if !leaving.is_empty() {
            let names: Vec<String> = leaving.iter().map(|id| format!("(task {id})")).collect();
            self.service_says(key, &format!("has stopped {} running tasks: {}.", names.len(), names.join(" ")));
            let activity = "Scaling activity initiated by deployment";
            for id in leaving {
                self.begin_stop(&id, "ServiceSchedulerInitiated", &format!("{activity} {}", primary.id));
            }
        }

        let most = (desired * configuration.maximum_percent as usize / 100).max(1);
        let room = most.saturating_sub(new.len() + old.len());
        let missing = desired.saturating_sub(new.len()).min(room);
        if missing > 0 && !failed {
            self.start_service_tasks(key, missing);
        }
        self.conclude(key);
    }

    fn start_service_tasks(&mut self, key: &ServiceKey, count: usize) {
        let Some(service) = self.services.get(key) else { return };
        if let Some(retry_at) = service.retry_at.filter(|at| *at > self.now) {
            self.at(retry_at, Due::Schedule(key.clone()));
            return;
        }
        let definition = service.task_definition().to_owned();
        let deployment = service.deployments[0].id.clone();
        let container = service.load_balancers.first().map(|binding| binding.container_name.clone());
        let placed_by = service.placed_by();
        let provider = placed_by.clone().filter(|_| service.capacity_provider_strategy.is_some());
        // Tasks of Fargate's providers have its launch type, those of others run on instances.
        let launch_type = match provider.as_deref() {
            Some("FARGATE" | "FARGATE_SPOT") => Some("FARGATE".to_owned()),
            Some(_) => Some("EC2".to_owned()),
            None => service.launch_type.clone(),
        };
        let has_capacity = placed_by.is_none_or(|placed_by| !self.exhausted.contains(&placed_by));
        let image = self.image_of(&definition, container.as_deref());
        let placeable = has_capacity
            && (self.settings.backend == TaskBackend::External
                || self.image_behaviour(&image).starts != Starts::PlacementFailure);
        if !placeable {
            let words = "was unable to place a task. Reason: Capacity is unavailable at this time. Please try again \
                         later or in a different availability zone.";
            self.service_says(key, words);
            self.service_acts(key, "SERVICE_TASK_PLACEMENT_FAILURE", Some("RESOURCE:FARGATE"));
            let again = later(self.now, PLACEMENT_RETRY_MS);
            if let Some(service) = self.services.get_mut(key) {
                service.retry_at = Some(again);
            }
            self.at(again, Due::Schedule(key.clone()));
            return;
        }
        let mut names = Vec::new();
        for _ in 0..count {
            let id = self.start_task(NewTask {
                cluster: key.0.clone(),
                service: Some(key.clone()),
                deployment: Some(deployment.clone()),
                definition: definition.clone(),
                container: container.clone(),
                group: format!("service:{}", key.1),
                started_by: Some(deployment.clone()),
                launch_type: launch_type.clone(),
                capacity_provider: provider.clone(),
                overrides: None,
            });
            names.push(format!("(task {id})"));
        }
        if let Some(service) = self.services.get_mut(key) {
            service.steady = false;
        }
        self.service_says(key, &format!("has started {} tasks: {}.", names.len(), names.join(" ")));
    }

    /// Says that a deployment is complete or that the service is steady, where it is.
    fn conclude(&mut self, key: &ServiceKey) {
        let Some(service) = self.services.get(key) else { return };
        let Some(primary) = service.deployments.first() else { return };
        let (mut well, mut others) = (0, 0);
        for task in service.live.iter().filter_map(|id| self.tasks.get(id)) {
            let of_primary = task.deployment.as_deref() == Some(&primary.id);
            if of_primary && self.standing(task) == Standing::Well {
                well += 1;
            } else {
                others += 1;
            }
        }
        if well != as_count(service.desired) || others > 0 || service.steady {
            return;
        }
        let state = primary.rollout_state;
        let (id, definition) = (primary.id.clone(), primary.task_definition.clone());
        if state == RolloutState::Failed {
            return;
        }
        let now = self.now;
        let Some(service) = self.services.get_mut(key) else { return };
        service.steady = true;
        service.deployments.truncate(1);
        let arn = service.arn.clone();
        if state == RolloutState::InProgress {
            let reason = format!("ECS deployment {id} completed.");
            service.last_completed = Some(definition);
            if let Some(primary) = service.deployments.first_mut() {
                primary.rollout_state = RolloutState::Completed;
                primary.reason = reason.clone();
                primary.updated_at = now;
            }
            self.service_says(key, &format!("(deployment {id}) deployment completed."));
            let name = "SERVICE_DEPLOYMENT_COMPLETED";
            self.emit(What::Deployment { service: arn, deployment: id, name, reason });
        }
        self.service_says(key, "has reached a steady state.");
        self.service_acts(key, "SERVICE_STEADY_STATE", None);
    }

    fn service_acts(&mut self, key: &ServiceKey, name: &'static str, reason: Option<&str>) {
        let service = self.services.get(key).map(|service| service.arn.clone()).unwrap_or_default();
        let cluster = self.clusters.get(&key.0).map(|cluster| cluster.cluster_arn.clone()).unwrap_or_default();
        self.emit(What::Service { service, cluster, name, reason: reason.map(str::to_owned) });
    }

    /// A task of a service did well: it runs, and its targets are healthy.
    pub(super) fn note_success(&mut self, key: &ServiceKey, deployment: &str) {
        let Some(service) = self.services.get_mut(key) else { return };
        service.failures = 0;
        service.retry_at = None;
        if let Some(found) = service.deployments.iter_mut().find(|found| found.id == deployment) {
            found.proven = true;
            found.failed_tasks = 0;
        }
    }

    /// A task of a service failed to start or to become healthy.
    pub(super) fn note_failure(&mut self, key: &ServiceKey, deployment: &str) {
        let now = self.now;
        let Some(service) = self.services.get_mut(key) else { return };
        service.failures = service.failures.saturating_add(1);
        let failures = service.failures;
        if failures > FREE_FAILURES {
            let pause = (5_000u64 << (failures - FREE_FAILURES).min(6)).min(300_000);
            service.retry_at = Some(later(now, pause));
        }
        let breaker = service.configuration.deployment_circuit_breaker;
        // ECS guide, "How the Amazon ECS deployment circuit breaker detects failures": 3 ≤ half of the tasks ≤ 200.
        let threshold = service.desired.div_ceil(2).clamp(3, 200);
        let mut trips = false;
        if let Some(found) = service.deployments.first_mut().filter(|found| found.id == deployment)
            && !found.proven
        {
            found.failed_tasks = found.failed_tasks.saturating_add(1);
            found.updated_at = now;
            trips =
                breaker.enable && found.failed_tasks >= threshold && found.rollout_state == RolloutState::InProgress;
        }
        if failures == FREE_FAILURES + 2 {
            self.service_says(key, "is unable to consistently start tasks successfully.");
            self.service_acts(key, "SERVICE_TASK_START_IMPAIRED", None);
        }
        if trips {
            self.trip(key, breaker.rollback);
        }
    }

    fn trip(&mut self, key: &ServiceKey, rollback: bool) {
        let now = self.now;
        let Some(service) = self.services.get_mut(key) else { return };
        let arn = service.arn.clone();
        let last = service.last_completed.clone();
        let Some(primary) = service.deployments.first_mut() else { return };
        primary.rollout_state = RolloutState::Failed;
        primary.reason = "ECS deployment circuit breaker: tasks failed to start.".to_owned();
        primary.updated_at = now;
        let (id, definition, reason) = (primary.id.clone(), primary.task_definition.clone(), primary.reason.clone());
        self.service_says(key, &format!("(deployment {id}) deployment failed: tasks failed to start."));
        let name = "SERVICE_DEPLOYMENT_FAILED";
        self.emit(What::Deployment { service: arn, deployment: id.clone(), name, reason });
        if let Some(last) = last.filter(|last| rollback && *last != definition) {
            self.service_says(key, &format!("rolling back to task definition {last}."));
            self.begin_deployment(key, last);
            if let Some(primary) = self.services.get_mut(key).and_then(|service| service.deployments.first_mut()) {
                primary.reason = format!("ECS deployment circuit breaker: rolling back from {id}.");
            }
        }
    }
}

fn as_count(desired: u32) -> usize {
    usize::try_from(desired).unwrap_or(usize::MAX)
}
