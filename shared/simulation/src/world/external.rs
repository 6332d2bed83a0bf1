//! Tasks that really run somewhere else: the world wants them and is told what became of them.

use super::balancer::{HealthState, TargetId};
use super::ecs::LastStatus;
use super::{What, World};

/// A task that shall exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedTask {
    /// The task's id.
    pub id: String,
    /// The name of its service; none: `RunTask` started it.
    pub service: Option<String>,
    /// ARN.
    pub task_definition: String,
    /// The image of the container that the balancer reaches, or of the first one.
    pub image: String,
    /// The command that `RunTask` replaced; empty: the image's own.
    pub command: Vec<String>,
}

/// What became of a request, as a proxy saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseKind {
    /// A target answered with this status.
    Status(u16),
    /// There was no target to send it to, or it could not be reached: the balancer's own 503 or 502.
    NoTarget,
}

impl World {
    /// The tasks that shall exist now: asked for with [`What::TaskWanted`], and not told to stop with
    /// [`What::TaskUnwanted`]. A task that drains is still wanted: it has requests to finish.
    #[must_use]
    pub fn wanted_tasks(&self) -> Vec<WantedTask> {
        let wanted = |id: &&String| {
            self.tasks.get(*id).is_some_and(|task| {
                task.shape.last_status >= LastStatus::Pending && task.shape.last_status < LastStatus::Stopping
            })
        };
        self.tasks.keys().filter(wanted).filter_map(|id| self.wanted_task(id)).collect()
    }

    pub(super) fn wanted_task(&self, id: &str) -> Option<WantedTask> {
        let task = self.tasks.get(id)?;
        let command = task
            .shape
            .overrides
            .as_ref()
            .and_then(|overrides| overrides.pointer("/containerOverrides/0/command"))
            .and_then(|command| command.as_array())
            .map(|words| words.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect())
            .unwrap_or_default();
        Some(WantedTask {
            id: id.to_owned(),
            service: task.service.as_ref().map(|key| key.1.clone()),
            task_definition: task.shape.task_definition_arn.clone(),
            image: task.image.clone(),
            command,
        })
    }

    /// The backend says: the task runs and answers at `address`.
    pub fn task_running(&mut self, id: &str, address: TargetId) {
        if self.tasks.get(id).is_some_and(|task| task.shape.last_status < LastStatus::Running) {
            self.settle_traffic();
            self.task_has_started(id, Some(address));
        }
    }

    /// The backend says: the task has stopped, asked or by itself.
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
        self.task_has_stopped(id, code, &words, exit_code, Some(reason));
    }

    /// The backend says what the health checks of the task's target have come to. `false` stops and replaces the task
    /// once its service's grace period is over, so it is said of a task that failed several checks in a row, not of one
    /// that is still starting.
    pub fn target_health(&mut self, id: &str, healthy: bool) {
        self.settle_traffic();
        let state = if healthy { HealthState::Healthy } else { HealthState::Unhealthy };
        self.task_health_found(id, state);
    }

    /// The backend says what became of a request that was sent to `target_group`, and in how many seconds.
    pub fn record_response(&mut self, target_group: &str, kind: ResponseKind, seconds: f64) {
        self.note_response(target_group, kind, seconds);
    }

    pub(super) fn want_task(&mut self, id: &str) {
        if let Some(wanted) = self.wanted_task(id) {
            self.emit(What::TaskWanted(wanted));
        }
    }
}
