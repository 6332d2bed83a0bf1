//! Tasks that run outside the model: the world requests them, and an external backend reports their state.

use super::balancer::{ElbTarget, HealthState};
use super::ecs::LastStatus;
use super::{World, WorldEventKind};

/// A task that the backend must run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedTask {
    /// The task's id.
    pub id: String,
    /// Name of the task's service; none: it was started by `RunTask`.
    pub service: Option<String>,
    /// ARN, revision included.
    pub task_definition: String,
    /// Image of the container that the balancer reaches, or of the first container.
    pub image: String,
    /// The command override of `RunTask`; empty: the image's own command.
    pub command: Vec<String>,
}

/// Outcome of a request, as a proxy saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseKind {
    /// A target answered with this status.
    Status(u16),
    /// There was no target, or it could not be reached: the balancer's own 503 or 502.
    NoTarget,
}

impl World {
    /// The tasks that must run now: requested with [`WorldEventKind::TaskRequested`], and not stopped with
    /// [`WorldEventKind::TaskStopRequested`] yet. A draining task is included: it has requests to finish.
    #[must_use]
    pub fn requested_tasks(&self) -> Vec<RequestedTask> {
        let wanted = |id: &&String| {
            self.tasks.get(*id).is_some_and(|task| {
                task.shape.last_status >= LastStatus::Pending && task.shape.last_status < LastStatus::Stopping
            })
        };
        self.tasks.keys().filter(wanted).filter_map(|id| self.requested_task(id)).collect()
    }

    pub(super) fn requested_task(&self, id: &str) -> Option<RequestedTask> {
        let task = self.tasks.get(id)?;
        let command = task
            .shape
            .overrides
            .as_ref()
            .and_then(|overrides| overrides.pointer("/containerOverrides/0/command"))
            .and_then(|command| command.as_array())
            .map(|words| words.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect())
            .unwrap_or_default();
        Some(RequestedTask {
            id: id.to_owned(),
            service: task.service.as_ref().map(|key| key.1.clone()),
            task_definition: task.shape.task_definition_arn.clone(),
            image: task.image.clone(),
            command,
        })
    }

    /// Reports that a task runs and answers at `address`.
    pub fn task_running(&mut self, id: &str, address: ElbTarget) {
        if self.tasks.get(id).is_some_and(|task| task.shape.last_status < LastStatus::Running) {
            self.settle_traffic();
            self.task_has_started(id, Some(address));
        }
    }

    /// Reports that a task has stopped, on request or by itself.
    pub fn task_stopped(&mut self, id: &str, exit_code: Option<i32>, reason: &str) {
        self.settle_traffic();
        let Some(task) = self.tasks.get(id) else { return };
        if task.shape.last_status == LastStatus::Stopped {
            return;
        }
        let asked = task.shape.stop_code;
        let ran = task.shape.last_status >= LastStatus::Running;
        let (code, words) = match asked {
            Some(code) => (code, task.shape.stopped_reason.clone().unwrap_or_default()),
            None if ran => ("EssentialContainerExited", "Essential container in task exited".to_owned()),
            None => ("TaskFailedToStart", reason.to_owned()),
        };
        // ECS gives a container that has exited no reason of its own.
        self.task_has_stopped(id, code, &words, exit_code, (!ran).then_some(reason));
    }

    /// Reports the health check result of a task's targets, and of its container if that has a check. `false` stops and
    /// replaces the task once its service's grace period is over, so report it only after several consecutive failures,
    /// not for a task that is still starting.
    pub fn target_health(&mut self, id: &str, healthy: bool) {
        self.settle_traffic();
        let state = if healthy { HealthState::Healthy } else { HealthState::Unhealthy };
        self.task_health_found(id, state);
    }

    /// Reports the outcome of a request that was sent to `target_group`, and its duration in seconds.
    pub fn record_response(&mut self, target_group: &str, kind: ResponseKind, seconds: f64) {
        self.note_response(target_group, kind, seconds);
    }

    pub(super) fn request_task(&mut self, id: &str) {
        if let Some(wanted) = self.requested_task(id) {
            self.emit(WorldEventKind::TaskRequested(wanted));
        }
    }
}
