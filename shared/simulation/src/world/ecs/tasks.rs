//! Tasks: starting, stopping, and their API calls.

use super::definitions::last_part;
use super::health::ContainerCheck;
use super::shapes::{EcsContainer, EcsFailure, EcsTask, HealthStatus, LastStatus, ListTasks, RanTask, RunTask};
use crate::world::agenda::AgendaItem;
use crate::world::balancer::ElbTarget;
use crate::world::error::{client_exception, invalid_parameter};
use crate::world::image::{Health, ImageBehaviour, RunTaskBehaviour, StartBehaviour};
use crate::world::{ApiError, ApiResult, ServiceKey, TaskBackend, World, WorldChange, WorldEventKind};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Maximum number of tasks in one `DescribeTasks` call.
const MAX_TASKS_PER_CALL: usize = 100;

/// A task, with its internal state.
#[derive(Debug, Clone)]
pub(in crate::world) struct TaskState {
    pub(in crate::world) shape: EcsTask,
    pub(in crate::world) service: Option<ServiceKey>,
    pub(in crate::world) deployment: Option<String>,
    /// Image of the container whose behaviour determines the task's.
    pub(in crate::world) image: String,
    pub(in crate::world) behaviour: ImageBehaviour,
    /// Its registrations: ARN of the target group, and the target.
    pub(in crate::world) targets: Vec<(String, ElbTarget)>,
    /// The last health reported by an external backend.
    pub(in crate::world) reported_health: Option<bool>,
    /// The health check of its container; none: its task definition has none.
    pub(super) check: Option<ContainerCheck>,
    /// Until when neither a deployment nor a scale-in stops it; none: it was never protected.
    pub(super) protected_until: Option<Timestamp>,
    /// Its start has been counted as a success or a failure.
    pub(super) counted: bool,
}

/// A task to start.
pub(super) struct NewTask {
    pub(super) cluster: String,
    pub(super) service: Option<ServiceKey>,
    pub(super) deployment: Option<String>,
    pub(super) definition: String,
    /// The container whose image determines the task's behaviour; none: the first.
    pub(super) container: Option<String>,
    pub(super) group: String,
    pub(super) started_by: Option<String>,
    pub(super) launch_type: Option<String>,
    pub(super) capacity_provider: Option<String>,
    pub(super) overrides: Option<Value>,
}

impl World {
    /// `RunTask`
    ///
    /// # Errors
    /// `ClusterNotFoundException`, `ClientException` (task definition), `InvalidParameterException`,
    /// `ConflictException` if the token was used for another request. A task that cannot be placed is a failure in the
    /// response.
    pub fn run_task(&mut self, request: RunTask) -> ApiResult<RanTask> {
        let detail = self.detail(|| {
            json!({
                "cluster": request.cluster, "taskDefinition": request.task_definition, "startedBy": request.started_by,
                "clientToken": request.client_token, "overrides": request.overrides,
                "volumeConfigurations": request.volume_configurations,
            })
        });
        self.call("ecs:RunTask", detail, |world| {
            let cluster = world.cluster_name(&request.cluster)?;
            let count = request.count.unwrap_or(1);
            if !(1..=10).contains(&count) {
                return Err(invalid_parameter("Count must be between 1 and 10."));
            }
            let too_long = |text: &Option<String>, most: usize| text.as_ref().is_some_and(|text| text.len() > most);
            if too_long(&request.started_by, 128) || too_long(&request.client_token, 64) {
                return Err(invalid_parameter("startedBy has at most 128 characters, clientToken at most 64."));
            }
            if let Some((earlier, ids)) = request.client_token.as_ref().and_then(|token| world.run_tokens.get(token)) {
                if *earlier != request {
                    let words = "The clientToken was used with different parameters.";
                    return Err(ApiError::new("ConflictException", words));
                }
                let known = ids.iter().filter_map(|id| world.tasks.get(id));
                return Ok(RanTask { tasks: known.map(|task| task.shape.clone()).collect(), failures: Vec::new() });
            }
            let definition = world.usable_definition(&request.task_definition)?;
            let container = request
                .overrides
                .as_ref()
                .and_then(|overrides| overrides.pointer("/containerOverrides/0/name"))
                .and_then(Value::as_str)
                .map(str::to_owned);
            if let Some(name) = &container
                && definition.image(name).is_none()
            {
                return Err(invalid_parameter(format!(
                    "Override for container named {name} is not a container in the \
                                                      TaskDefinition."
                )));
            }
            Self::check_volumes(&definition, request.volume_configurations.as_ref())?;
            let image = world.image_of(&definition.arn, container.as_deref());
            if world.settings.backend == TaskBackend::Modelled
                && world.image_behaviour(&image).starts == StartBehaviour::PlacementFailure
            {
                let arn = world.clusters.get(&cluster).map(|found| found.cluster_arn.clone()).unwrap_or_default();
                let failure = EcsFailure { arn, reason: "Capacity is unavailable at this time.".to_owned() };
                return Ok(RanTask { tasks: Vec::new(), failures: vec![failure] });
            }
            let mut ids = Vec::new();
            for _ in 0..count {
                ids.push(world.start_task(NewTask {
                    cluster: cluster.clone(),
                    service: None,
                    deployment: None,
                    definition: definition.arn.clone(),
                    container: container.clone(),
                    group: format!("family:{}", definition.family),
                    started_by: request.started_by.clone(),
                    launch_type: request.launch_type.clone(),
                    capacity_provider: None,
                    overrides: request.overrides.clone(),
                }));
            }
            let tasks = ids.iter().filter_map(|id| world.tasks.get(id)).map(|task| task.shape.clone()).collect();
            if let Some(token) = request.client_token.clone() {
                world.run_tokens.insert(token, (request, ids));
            }
            Ok(RanTask { tasks, failures: Vec::new() })
        })
    }

    /// `StopTask`: called by a person, a tool, or Switchback for a hook that timed out.
    ///
    /// # Errors
    /// `ClusterNotFoundException`, `InvalidParameterException`
    pub fn stop_task(&mut self, cluster: &str, task: &str, reason: Option<&str>) -> ApiResult<EcsTask> {
        let detail = self.detail(|| json!({"cluster": cluster, "task": task, "reason": reason}));
        self.call("ecs:StopTask", detail, |world| {
            world.cluster_name(cluster)?;
            let missing = || invalid_parameter("The referenced task was not found.");
            let id = last_part(task);
            let service = world.tasks.get(id).map(|found| found.service.clone()).ok_or_else(missing)?;
            world.begin_stop(id, "UserInitiated", reason.unwrap_or("Task stopped by user"));
            if let Some(key) = service {
                world.wake_scheduler(&key);
            }
            world.tasks.get(id).map(|found| found.shape.clone()).ok_or_else(missing)
        })
    }

    /// `ListTasks`: ARNs, newest first. Stopped tasks are listed for an hour.
    ///
    /// # Errors
    /// `ClusterNotFoundException`, `ServiceNotFoundException`, `InvalidParameterException`
    pub fn list_tasks(&mut self, request: ListTasks) -> ApiResult<Vec<String>> {
        let detail = self.detail(|| {
            json!({
                "cluster": request.cluster, "family": request.family, "serviceName": request.service_name,
                "startedBy": request.started_by, "desiredStatus": request.desired_status,
            })
        });
        self.call("ecs:ListTasks", detail, |world| {
            let cluster = world.cluster_name(&request.cluster)?;
            let wanted = request.desired_status.as_deref().unwrap_or("RUNNING");
            if wanted != "RUNNING" && wanted != "STOPPED" && wanted != "PENDING" {
                return Err(invalid_parameter("desiredStatus is RUNNING, PENDING or STOPPED."));
            }
            let service = request.service_name.as_deref().map(|name| (cluster.clone(), last_part(name).to_owned()));
            if service.as_ref().is_some_and(|key| !world.services.contains_key(key)) {
                return Err(ApiError::new("ServiceNotFoundException", "Service not found."));
            }
            let cluster_arn = world.clusters.get(&cluster).map(|found| found.cluster_arn.clone());
            let of_family = |task: &TaskState, family: &str| {
                let definition = task.shape.task_definition_arn.rsplit('/').next().unwrap_or_default();
                definition.split(':').next() == Some(family)
            };
            let mut found: Vec<&TaskState> = world
                .tasks
                .values()
                .filter(|task| Some(&task.shape.cluster_arn) == cluster_arn.as_ref())
                .filter(|task| task.shape.desired_status == wanted)
                .filter(|task| service.is_none() || task.service == service)
                .filter(|task| request.started_by.is_none() || task.shape.started_by == request.started_by)
                .filter(|task| request.family.as_deref().is_none_or(|family| of_family(task, family)))
                .collect();
            found.sort_by_key(|task| std::cmp::Reverse(task.shape.created_at));
            Ok(found.into_iter().map(|task| task.shape.task_arn.clone()).collect())
        })
    }

    /// `DescribeTasks`, at most 100 ids or ARNs.
    ///
    /// # Errors
    /// `ClusterNotFoundException`, `InvalidParameterException`; a missing task is a failure in the response.
    pub fn describe_tasks(&mut self, cluster: &str, tasks: &[String]) -> ApiResult<(Vec<EcsTask>, Vec<EcsFailure>)> {
        let mut found = Vec::new();
        let failures = self.visit_tasks(cluster, tasks, |task| found.push(task.clone()))?;
        Ok((found, failures))
    }

    /// `DescribeTasks` without copying the tasks.
    ///
    /// # Errors
    /// As [`World::describe_tasks`].
    pub fn visit_tasks(
        &mut self,
        cluster: &str,
        tasks: &[String],
        mut look: impl FnMut(&EcsTask),
    ) -> ApiResult<Vec<EcsFailure>> {
        self.call("ecs:DescribeTasks", self.detail(|| json!({"cluster": cluster, "tasks": tasks})), |world| {
            world.cluster_name(cluster)?;
            if tasks.is_empty() || tasks.len() > MAX_TASKS_PER_CALL {
                return Err(invalid_parameter("Tasks must have from 1 to 100 elements."));
            }
            let mut failures = Vec::new();
            for task in tasks {
                match world.tasks.get(last_part(task)) {
                    Some(task) => look(&task.shape),
                    None => failures.push(EcsFailure { arn: task.clone(), reason: "MISSING".to_owned() }),
                }
            }
            Ok(failures)
        })
    }

    /// The image of a container in a task definition; none: of the first container.
    pub(super) fn image_of(&self, definition: &str, container: Option<&str>) -> String {
        let Some(definition) = self.definition(definition) else { return String::new() };
        let first = || definition.document.pointer("/containerDefinitions/0/image").and_then(Value::as_str);
        container.and_then(|name| definition.image(name)).or_else(first).unwrap_or_default().to_owned()
    }

    pub(super) fn start_task(&mut self, new: NewTask) -> String {
        let id = self.rng.hex(32);
        let image = self.image_of(&new.definition, new.container.as_deref());
        let containers = self
            .definition(&new.definition)
            .and_then(|definition| definition.document.get("containerDefinitions"))
            .and_then(Value::as_array)
            .map(|containers| containers.iter().map(provisioning).collect())
            .unwrap_or_default();
        let shape = EcsTask {
            task_arn: self.arn("ecs", &format!("task/{}/{id}", new.cluster)),
            cluster_arn: self.arn("ecs", &format!("cluster/{}", new.cluster)),
            task_definition_arn: new.definition,
            last_status: LastStatus::Provisioning,
            desired_status: "RUNNING",
            group: new.group,
            started_by: new.started_by,
            launch_type: new.launch_type,
            capacity_provider_name: new.capacity_provider,
            containers,
            overrides: new.overrides,
            created_at: self.now,
            started_at: None,
            stopping_at: None,
            stopped_at: None,
            stop_code: None,
            stopped_reason: None,
            health_status: HealthStatus::Unknown,
        };
        if let Some(service) = new.service.as_ref().and_then(|key| self.services.get_mut(key)) {
            service.live.push(id.clone());
        }
        let state = TaskState {
            check: self.definition(&shape.task_definition_arn).and_then(ContainerCheck::of),
            shape: shape.clone(),
            service: new.service,
            deployment: new.deployment,
            behaviour: self.image_behaviour(&image),
            image,
            targets: Vec::new(),
            reported_health: None,
            protected_until: None,
            counted: false,
        };
        self.tasks.insert(id.clone(), state);
        self.emit(WorldEventKind::Task(Box::new(shape)));
        self.after_random_ms(
            self.settings.timing.provisioning_ms,
            AgendaItem::TaskStep { id: id.clone(), to: LastStatus::Pending },
        );
        id
    }

    /// Moves a task to status `to`, if that still applies.
    pub(in crate::world) fn task_steps(&mut self, id: &str, to: LastStatus) {
        let Some(task) = self.tasks.get(id) else { return };
        let stopping = task.shape.desired_status == "STOPPED";
        match to {
            LastStatus::Pending if !stopping && task.shape.last_status == LastStatus::Provisioning => {
                self.set_status(id, LastStatus::Pending);
                if self.settings.backend == TaskBackend::External {
                    self.request_task(id);
                } else {
                    self.after_random_ms(
                        self.settings.timing.pending_ms,
                        AgendaItem::TaskStep { id: id.to_owned(), to: LastStatus::Running },
                    );
                }
            }
            LastStatus::Running if !stopping && task.shape.last_status == LastStatus::Pending => {
                if task.behaviour.starts == StartBehaviour::PullError {
                    let image = task.image.clone();
                    let words = format!(
                        "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref \
                         {image}: {image}: not found"
                    );
                    self.task_has_stopped(id, "TaskFailedToStart", &words, None, Some(&words));
                } else {
                    self.task_has_started(id, None);
                }
            }
            LastStatus::Stopped if stopping => {
                let Some(task) = self.tasks.get(id) else { return };
                if task.shape.last_status == LastStatus::Stopped {
                    return;
                }
                let code = task.shape.stop_code.unwrap_or("UserInitiated");
                let words = task.shape.stopped_reason.clone().unwrap_or_default();
                // SIGTERM: 143, the exit code of containers without a signal handler.
                let exit_code = task.shape.started_at.map(|_| 143);
                self.task_has_stopped(id, code, &words, exit_code, None);
            }
            _ => {}
        }
    }

    /// The task runs: at `address`, or at the next free one.
    pub(in crate::world) fn task_has_started(&mut self, id: &str, address: Option<ElbTarget>) {
        let now = self.now;
        let Some(task) = self.tasks.get_mut(id) else { return };
        task.shape.started_at = Some(now);
        let (service, behaviour) = (task.service.clone(), task.behaviour.clone());
        self.set_status(id, LastStatus::Running);
        let bindings = service.as_ref().and_then(|key| self.services.get(key));
        let bindings = bindings.map(|service| service.load_balancers.clone()).unwrap_or_default();
        if let (Some(key), Some(first)) = (&service, bindings.first()) {
            let address = address.unwrap_or_else(|| {
                self.next_address += 1;
                let n = self.next_address;
                ElbTarget {
                    id: format!("10.{}.{}.{}", (n >> 16) & 255, (n >> 8) & 255, n & 255),
                    port: first.container_port,
                }
            });
            let groups = || bindings.iter().map(|binding| binding.target_group_arn.clone());
            if let Some(task) = self.tasks.get_mut(id) {
                task.targets = groups().map(|group| (group, address.clone())).collect();
            }
            for group in groups() {
                self.register(&group, address.clone(), Some(id.to_owned()));
                self.add_service_event(key, &format!("registered 1 targets in (target-group {group})"));
            }
        }
        self.begin_health(id);
        if self.settings.backend == TaskBackend::External {
            return;
        }
        let mut exits = |after: rollout::Seconds, exit_code: i32| {
            self.at(after.after(now), AgendaItem::TaskExits { id: id.to_owned(), exit_code });
        };
        match (behaviour.starts, service.is_some(), behaviour.run) {
            (StartBehaviour::CrashLoop { exit_code, after }, ..) => exits(after, exit_code),
            (_, false, RunTaskBehaviour::Exits { after, exit_code }) => exits(after, exit_code),
            _ => {}
        }
        if let Some((after, _)) = behaviour.later {
            self.at(after.after(now), AgendaItem::Settle);
        }
        if let Health::LostAfter(after) = behaviour.health {
            self.at(after.after(now), AgendaItem::Settle);
        }
    }

    pub(in crate::world) fn task_exits(&mut self, id: &str, exit_code: i32) {
        if self.tasks.get(id).is_some_and(|task| task.shape.last_status == LastStatus::Running) {
            let words = "Essential container in task exited";
            self.task_has_stopped(id, "EssentialContainerExited", words, Some(exit_code), None);
        }
    }

    /// Starts stopping a task: its target, if any, drains first.
    pub(super) fn begin_stop(&mut self, id: &str, code: &'static str, reason: &str) {
        let now = self.now;
        let Some(task) = self.tasks.get_mut(id) else { return };
        if task.shape.desired_status == "STOPPED" {
            return;
        }
        task.shape.desired_status = "STOPPED";
        task.shape.stop_code = Some(code);
        task.shape.stopped_reason = Some(reason.to_owned());
        task.shape.stopping_at = Some(now);
        let targets = task.targets.clone();
        if targets.is_empty() {
            return self.stop_now(id);
        }
        self.set_status(id, LastStatus::Deactivating);
        for (group, target) in targets {
            self.deregister(&group, &target);
        }
    }

    /// A target of a task has drained: once all have, the process can be stopped.
    pub(in crate::world) fn task_has_drained(&mut self, id: &str) {
        let has_drained = |(group, target): &(String, ElbTarget)| {
            self.groups.get(group).is_none_or(|group| !group.targets.contains_key(target))
        };
        let deactivating = |task: &&TaskState| task.shape.last_status == LastStatus::Deactivating;
        if self.tasks.get(id).filter(deactivating).is_some_and(|task| task.targets.iter().all(has_drained)) {
            self.stop_now(id);
        }
    }

    fn stop_now(&mut self, id: &str) {
        // The backend is asked for a task when it becomes pending: before that, there is nothing to stop.
        let asked_for = self.tasks.get(id).is_some_and(|task| task.shape.last_status > LastStatus::Provisioning);
        self.set_status(id, LastStatus::Stopping);
        if self.settings.backend == TaskBackend::External && asked_for {
            self.emit(WorldEventKind::TaskStopRequested { id: id.to_owned() });
        } else {
            self.after_random_ms(
                self.settings.timing.stopping_ms,
                AgendaItem::TaskStep { id: id.to_owned(), to: LastStatus::Stopped },
            );
        }
    }

    pub(in crate::world) fn task_has_stopped(
        &mut self,
        id: &str,
        code: &'static str,
        words: &str,
        exit_code: Option<i32>,
        container_reason: Option<&str>,
    ) {
        let now = self.now;
        let Some(task) = self.tasks.get_mut(id) else { return };
        let by_itself = task.shape.desired_status == "RUNNING";
        task.shape.desired_status = "STOPPED";
        task.shape.stop_code = Some(code);
        task.shape.stopped_reason = Some(words.to_owned());
        task.shape.stopping_at = task.shape.stopping_at.or(Some(now));
        task.shape.stopped_at = Some(now);
        for container in &mut task.shape.containers {
            container.last_status = LastStatus::Stopped;
            container.exit_code = exit_code;
            container.reason = container_reason.map(str::to_owned);
        }
        let (targets, service) = (task.targets.clone(), task.service.clone());
        self.set_status(id, LastStatus::Stopped);
        for (group, target) in targets {
            self.deregister(&group, &target);
        }
        if let Some(key) = service {
            if let Some(service) = self.services.get_mut(&key) {
                service.live.retain(|live| live != id);
                service.steady = false;
            }
            if by_itself {
                self.changed(|_| Some(WorldChange::TaskDied { service: key.clone() }));
                self.count_failure(id);
            }
            self.wake_scheduler(&key);
        }
        self.after_ms(self.settings.timing.stopped_kept_ms, AgendaItem::Forget(id.to_owned()));
    }

    fn set_status(&mut self, id: &str, status: LastStatus) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        task.shape.last_status = status;
        if status <= LastStatus::Running {
            for container in &mut task.shape.containers {
                container.last_status = if status == LastStatus::Running { status } else { LastStatus::Pending };
            }
        }
        let shape = task.shape.clone();
        self.emit(WorldEventKind::Task(Box::new(shape)));
    }

    /// Ids of the running tasks of a service, for tests that kill one.
    #[must_use]
    pub fn running_tasks(&self, cluster: &str, service: &str) -> Vec<String> {
        let key = (last_part(cluster).to_owned(), last_part(service).to_owned());
        let runs = |id: &&String| self.tasks.get(*id).is_some_and(|task| task.shape.last_status == LastStatus::Running);
        self.services.get(&key).map(|service| service.live.iter().filter(runs).cloned().collect()).unwrap_or_default()
    }

    /// Lets a task's process exit by itself with this exit code.
    ///
    /// # Errors
    /// `ClientException` if no such task runs.
    pub fn kill_task(&mut self, task: &str, exit_code: i32) -> ApiResult<()> {
        let id = last_part(task).to_owned();
        if self.tasks.get(&id).is_none_or(|task| task.shape.last_status != LastStatus::Running) {
            return Err(client_exception("no such task runs"));
        }
        self.settle_traffic();
        self.task_exits(&id, exit_code);
        Ok(())
    }
}

fn provisioning(definition: &Value) -> EcsContainer {
    let text = |field: &str| definition.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    EcsContainer {
        name: text("name"),
        image: text("image"),
        last_status: LastStatus::Pending,
        exit_code: None,
        reason: None,
        health_status: HealthStatus::Unknown,
    }
}
