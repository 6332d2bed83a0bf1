//! Task scale-in protection: neither a deployment nor a scale-in stops a protected task. Failed health checks, and a
//! person, do.

use super::definitions::last_part;
use super::shapes::{EcsFailure, LastStatus, epoch_option};
use super::tasks::TaskState;
use crate::world::agenda::AgendaItem;
use crate::world::error::invalid_parameter;
use crate::world::{ApiResult, ServiceKey, World};
use jiff::Timestamp;
use rollout::Seconds;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Maximum number of tasks in one `GetTaskProtection` call.
const MAX_TASKS_READ: usize = 100;
/// Maximum number of tasks in one `UpdateTaskProtection` call.
const MAX_TASKS_WRITTEN: usize = 10;
/// How long a task is protected, in minutes, where nothing else is asked for.
const DEFAULT_MINUTES: u64 = 120;
/// The longest time that can be asked for, in minutes.
const MAX_MINUTES: u64 = 2_880;

/// The protection of a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProtectedTask {
    /// ARN of the task.
    pub task_arn: String,
    /// Whether it is protected.
    pub protection_enabled: bool,
    /// When its protection expires; none: it is not protected.
    #[serde(serialize_with = "epoch_option", skip_serializing_if = "Option::is_none")]
    pub expiration_date: Option<Timestamp>,
}

/// `UpdateTaskProtection`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdateTaskProtection {
    /// Name or ARN.
    pub cluster: String,
    /// Ids or ARNs.
    pub tasks: Vec<String>,
    /// Whether to protect them.
    pub protection_enabled: bool,
    /// For how long, in minutes; none: 2 hours.
    pub expires_in_minutes: Option<i64>,
}

/// Ids of tasks, each with its service, and failures for others.
type Protectable = (Vec<(String, ServiceKey)>, Vec<EcsFailure>);

impl World {
    /// `GetTaskProtection`, at most 100 ids or ARNs.
    ///
    /// # Errors
    /// `ClusterNotFoundException`, `InvalidParameterException`; a task that is missing (`MISSING`), or that belongs to
    /// no service or does not run (`TASK_NOT_VALID`), is a failure in the response.
    pub fn get_task_protection(
        &mut self,
        cluster: &str,
        tasks: &[String],
    ) -> ApiResult<(Vec<ProtectedTask>, Vec<EcsFailure>)> {
        let detail = self.detail(|| json!({"cluster": cluster, "tasks": tasks}));
        self.call("ecs:GetTaskProtection", detail, |world| {
            let (found, failures) = world.protectable(cluster, tasks, MAX_TASKS_READ)?;
            Ok((found.iter().filter_map(|(id, _)| world.protection(id)).collect(), failures))
        })
    }

    /// `UpdateTaskProtection`, at most 10 ids or ARNs: called by the task itself, or by a person.
    ///
    /// # Errors
    /// `ClusterNotFoundException`, `InvalidParameterException`; failures in the response as in
    /// [`World::get_task_protection`].
    pub fn update_task_protection(
        &mut self,
        request: &UpdateTaskProtection,
    ) -> ApiResult<(Vec<ProtectedTask>, Vec<EcsFailure>)> {
        let detail = self.detail(|| {
            json!({
                "cluster": request.cluster, "tasks": request.tasks, "protectionEnabled": request.protection_enabled,
                "expiresInMinutes": request.expires_in_minutes,
            })
        });
        self.call("ecs:UpdateTaskProtection", detail, |world| {
            let minutes = match request.expires_in_minutes.map(u64::try_from) {
                None => DEFAULT_MINUTES,
                Some(Ok(minutes @ 1..=MAX_MINUTES)) => minutes,
                Some(_) => return Err(invalid_parameter("expiresInMinutes must be between 1 and 2880.")),
            };
            let (found, failures) = world.protectable(&request.cluster, &request.tasks, MAX_TASKS_WRITTEN)?;
            let until = request.protection_enabled.then(|| Seconds(minutes * 60).after(world.now));
            for (id, key) in &found {
                if let Some(task) = world.tasks.get_mut(id) {
                    task.protected_until = until;
                }
                match until {
                    Some(until) => world.at(until, AgendaItem::Schedule(key.clone())),
                    None => world.wake_scheduler(key),
                }
            }
            Ok((found.iter().filter_map(|(id, _)| world.protection(id)).collect(), failures))
        })
    }

    /// Whether neither a deployment nor a scale-in stops this task now.
    pub(super) fn is_protected(&self, task: &TaskState) -> bool {
        task.protected_until.is_some_and(|until| until > self.now)
    }

    fn protection(&self, id: &str) -> Option<ProtectedTask> {
        let task = self.tasks.get(id)?;
        Some(ProtectedTask {
            task_arn: task.shape.task_arn.clone(),
            protection_enabled: self.is_protected(task),
            expiration_date: task.protected_until.filter(|_| self.is_protected(task)),
        })
    }

    /// Ids of the tasks that can be protected, each with its service, and a failure for each of the others.
    fn protectable(&self, cluster: &str, tasks: &[String], max: usize) -> ApiResult<Protectable> {
        self.cluster_name(cluster)?;
        if tasks.is_empty() || tasks.len() > max {
            return Err(invalid_parameter(format!("Tasks must have from 1 to {max} elements.")));
        }
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for reference in tasks {
            let id = last_part(reference);
            let task = self.tasks.get(id);
            let runs = |task: &&TaskState| task.shape.last_status < LastStatus::Deactivating;
            match task.filter(runs).and_then(|task| task.service.clone()) {
                Some(key) => found.push((id.to_owned(), key)),
                None => {
                    let reason = if task.is_some() { "TASK_NOT_VALID" } else { "MISSING" };
                    failures.push(EcsFailure { arn: reference.clone(), reason: reason.to_owned() });
                }
            }
        }
        Ok((found, failures))
    }
}
