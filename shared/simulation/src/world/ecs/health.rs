//! Health of tasks: the checks of their targets and of their containers, and which starts count as successful.

use super::scheduler::TaskPhase;
use super::shapes::{HealthStatus, LastStatus, TaskDefinition};
use super::tasks::TaskState;
use crate::world::agenda::{AgendaItem, later};
use crate::world::balancer::{ElbTarget, HealthState};
use crate::world::image::Health;
use crate::world::{ServiceKey, TaskBackend, World, WorldChange};
use jiff::Timestamp;
use rollout::Seconds;
use serde_json::Value;

/// After this long in `RUNNING`, a task of a service without load balancer counts as healthy if its essential
/// containers have no health check (API reference, `DeploymentConfiguration`, `minimumHealthyPercent`).
const HEALTHY_AFTER: Seconds = Seconds(40);

/// The health check of a container (API reference, `HealthCheck`). Its result follows from the task's image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContainerCheck {
    /// Name of the container.
    container: String,
    /// Time between two checks, and from the start to the first one, in seconds.
    interval_s: u64,
    /// Number of failures in a row after which the container is unhealthy.
    retries: u64,
    /// Time from the start during which failures do not count, unless a check has passed, in seconds.
    start_period_s: u64,
}

/// What a task fails.
enum FailedCheck {
    /// The checks of a target, by the ARN of its target group.
    Target(String, ElbTarget),
    /// Its container's check.
    Container,
}

impl ContainerCheck {
    /// The check of the first essential container that has one; none: no essential container has one.
    pub(super) fn of(definition: &TaskDefinition) -> Option<Self> {
        let containers = definition.document.get("containerDefinitions")?.as_array()?;
        let is_essential = |container: &&Value| container["essential"].as_bool().unwrap_or(true);
        let checked = containers.iter().filter(is_essential).find(|container| container["healthCheck"].is_object())?;
        let number = |field: &str, default: u64| checked["healthCheck"][field].as_u64().unwrap_or(default);
        Some(Self {
            container: checked["name"].as_str().unwrap_or_default().to_owned(),
            interval_s: number("interval", 30).max(1),
            retries: number("retries", 3).max(1),
            start_period_s: number("startPeriod", 0),
        })
    }

    /// The changes of the container's status, each with its delay from the task's start.
    fn changes(&self, health: Health) -> Vec<(Seconds, HealthStatus)> {
        let passes = |at: u64| match health {
            Health::After(ready) => at >= ready.0,
            Health::Never => false,
            Health::LostAfter(lost) => at < lost.0,
        };
        let settled = match health {
            Health::After(at) | Health::LostAfter(at) => at.0,
            Health::Never => 0,
        };
        let end = settled + self.start_period_s + (self.retries + 1) * self.interval_s;
        let (mut status, mut failures, mut has_passed) = (HealthStatus::Unknown, 0, false);
        let mut changes = Vec::new();
        for at in (1..=end / self.interval_s).map(|check| check * self.interval_s) {
            let found = if passes(at) {
                (failures, has_passed) = (0, true);
                Some(HealthStatus::Healthy)
            } else {
                failures += u64::from(has_passed || at > self.start_period_s);
                (failures >= self.retries).then_some(HealthStatus::Unhealthy)
            };
            if let Some(found) = found.filter(|found| *found != status) {
                status = found;
                changes.push((Seconds(at), status));
            }
        }
        changes
    }
}

impl FailedCheck {
    /// What ECS says of it, in the service's event and in the task's stop reason.
    fn texts(&self) -> (String, String) {
        match self {
            Self::Target(group, target) => {
                let place = format!("(port {}) is unhealthy in (target-group {group})", target.port);
                let words = format!("Task failed ELB health checks in (target-group {group})");
                (format!("{place} due to (reason Health checks failed)"), words)
            }
            Self::Container => {
                let words = "failed container health checks";
                (format!("{words}."), format!("Task {words}"))
            }
        }
    }
}

impl World {
    /// Whether a running task counts as healthy: its targets' and its container's checks pass, or it has neither and
    /// has run for 40 s.
    pub(super) fn is_healthy(&self, task: &TaskState) -> bool {
        let passes = |(group, target): &(String, ElbTarget)| {
            let found = self.groups.get(group).and_then(|group| group.targets.get(target));
            found.is_some_and(|target| target.state == HealthState::Healthy)
        };
        let by_itself = match &task.check {
            Some(_) => task.shape.health_status == HealthStatus::Healthy,
            None if task.targets.is_empty() => {
                task.shape.started_at.is_some_and(|at| HEALTHY_AFTER.after(at) <= self.now)
            }
            None => true,
        };
        by_itself && task.targets.iter().all(passes)
    }

    /// A task has entered `RUNNING`: schedules the results of its container's checks, or the instant from which it
    /// counts as healthy without any.
    pub(super) fn begin_health(&mut self, id: &str) {
        let Some(task) = self.tasks.get(id) else { return };
        let Some(started_at) = task.shape.started_at else { return };
        match &task.check {
            Some(check) if self.settings.backend == TaskBackend::Modelled => {
                for (after, status) in check.changes(task.behaviour.health) {
                    let item = AgendaItem::ContainerHealth { id: id.to_owned(), status };
                    self.at(after.after(started_at), item);
                }
            }
            None if task.service.is_some() && task.targets.is_empty() => {
                self.at(HEALTHY_AFTER.after(started_at), AgendaItem::TaskSettled(id.to_owned()));
            }
            _ => {}
        }
    }

    /// A task without any check has run long enough to count as healthy, if it still runs.
    pub(in crate::world) fn task_has_settled(&mut self, id: &str) {
        self.health_changed(id, false);
    }

    /// The checks of a running task's container have come to a result.
    pub(in crate::world) fn container_health_found(&mut self, id: &str, status: HealthStatus) {
        let runs = |task: &&mut TaskState| task.shape.last_status == LastStatus::Running;
        let Some(task) = self.tasks.get_mut(id).filter(runs) else { return };
        let Some(check) = &task.check else { return };
        for container in task.shape.containers.iter_mut().filter(|container| container.name == check.container) {
            container.health_status = status;
        }
        task.shape.health_status = status;
        self.health_changed(id, status == HealthStatus::Unhealthy);
    }

    /// After a change of a target's state: a task that became healthy counts as a success, one that fails its checks is
    /// replaced.
    pub(in crate::world) fn target_health_changed(&mut self, id: &str, state: HealthState) {
        self.health_changed(id, state == HealthState::Unhealthy);
    }

    fn health_changed(&mut self, id: &str, unhealthy: bool) {
        let Some(task) = self.tasks.get(id) else { return };
        let Some(key) = task.service.clone() else { return };
        let grace_period_end = self.grace_period_end(task).filter(|until| *until > self.now);
        if self.phase(task) == TaskPhase::Healthy {
            self.count_success(id);
        }
        if unhealthy && let Some(until) = grace_period_end {
            self.at(until, AgendaItem::Schedule(key.clone()));
        }
        self.wake_scheduler(&key);
    }

    /// Until when failed health checks of a task are ignored.
    fn grace_period_end(&self, task: &TaskState) -> Option<Timestamp> {
        let grace = self.services.get(task.service.as_ref()?)?.grace_s;
        Some(later(task.shape.started_at?, u64::from(grace) * 1000))
    }

    /// Stops the tasks of a service whose targets or containers fail their checks; the scheduler starts replacements.
    pub(super) fn stop_unhealthy(&mut self, key: &ServiceKey) {
        let Some(service) = self.services.get(key) else { return };
        let failing = service.live.iter().filter_map(|id| {
            let task = self.tasks.get(id)?;
            let failed = self.failed_check(task)?;
            self.grace_period_end(task).is_none_or(|until| until <= self.now).then(|| (id.clone(), failed))
        });
        for (id, failed) in failing.collect::<Vec<_>>() {
            let (found, words) = failed.texts();
            self.add_service_event(key, &format!("(task {id}) {found}"));
            self.changed(|_| Some(WorldChange::TaskDied { service: key.clone() }));
            self.begin_stop(&id, "ServiceSchedulerInitiated", &words);
            self.count_failure(&id);
        }
    }

    /// The check that a task fails; none: it fails none, or stops already.
    fn failed_check(&self, task: &TaskState) -> Option<FailedCheck> {
        let is_unhealthy = |(group, target): &&(String, ElbTarget)| {
            let found = self.groups.get(group).and_then(|group| group.targets.get(target));
            found.is_some_and(|target| target.state == HealthState::Unhealthy)
        };
        if let Some((group, target)) = task.targets.iter().find(is_unhealthy) {
            return Some(FailedCheck::Target(group.clone(), target.clone()));
        }
        let container = task.shape.health_status == HealthStatus::Unhealthy && self.phase(task) != TaskPhase::Stopping;
        container.then_some(FailedCheck::Container)
    }

    /// Health of a task's targets, or of its container, as reported by an external backend.
    pub(in crate::world) fn task_health_found(&mut self, id: &str, state: HealthState) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        let healthy = state == HealthState::Healthy;
        task.reported_health = Some(healthy);
        for (group, target) in task.targets.clone() {
            self.set_health(&group, &target, state);
        }
        self.container_health_found(id, if healthy { HealthStatus::Healthy } else { HealthStatus::Unhealthy });
    }

    fn count_success(&mut self, id: &str) {
        self.count_start(id, true);
    }

    /// A task stopped by itself, or failed its checks: a failed start, unless its start counted as a success before.
    pub(super) fn count_failure(&mut self, id: &str) {
        self.count_start(id, false);
    }

    fn count_start(&mut self, id: &str, success: bool) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        if std::mem::replace(&mut task.counted, true) {
            return;
        }
        if let (Some(key), Some(deployment)) = (task.service.clone(), task.deployment.clone()) {
            if success {
                self.note_success(&key, &deployment);
            } else {
                self.note_failure(&key, &deployment);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(start_period_s: u64, health: Health) -> Vec<(u64, HealthStatus)> {
        let check = ContainerCheck { container: "app".to_owned(), interval_s: 10, retries: 3, start_period_s };
        check.changes(health).into_iter().map(|(after, status)| (after.0, status)).collect()
    }

    #[test]
    fn a_container_is_unhealthy_after_as_many_failures_in_a_row_as_its_check_allows() {
        use HealthStatus::{Healthy, Unhealthy};
        assert_eq!(changes(0, Health::After(Seconds(5))), [(10, Healthy)]);
        assert_eq!(changes(0, Health::After(Seconds(25))), [(30, Healthy)]);
        assert_eq!(changes(0, Health::After(Seconds(45))), [(30, Unhealthy), (50, Healthy)]);
        assert_eq!(changes(0, Health::Never), [(30, Unhealthy)]);
        assert_eq!(changes(0, Health::LostAfter(Seconds(60))), [(10, Healthy), (80, Unhealthy)]);
    }

    #[test]
    fn failures_of_the_start_period_do_not_count() {
        use HealthStatus::{Healthy, Unhealthy};
        assert_eq!(changes(60, Health::After(Seconds(45))), [(50, Healthy)]);
        assert_eq!(changes(60, Health::Never), [(90, Unhealthy)]);
        assert_eq!(changes(60, Health::LostAfter(Seconds(20))), [(10, Healthy), (40, Unhealthy)], "it has passed once");
    }
}
