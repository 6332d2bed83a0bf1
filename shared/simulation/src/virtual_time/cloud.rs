//! [`engine::Cloud`] on the world: an observation reads what the AWS adapter reads, each reading with its own faults.

use super::effects::perform;
use super::previous::{PreviousState, SLOTS};
use super::stage::{PassEvent, SimContext};
use crate::world::World;
use crate::world::balancer::{ActionKind, HealthState};
use crate::world::ecs::{self, LastStatus, RolloutState};
use crate::world::scaling::DescribeScalableTargets;
use engine::Cloud;
use rollout::alarm;
use rollout::observation::{FailedStartsQuery, HookTask, ObservationPlan};
use rollout::promotion::ImageState;
use rollout::snapshot::{
    AlarmReading, Autoscaling, FailedStart, Reading, RuleReading, ServiceEvent, SideReading, TargetHealth, TaskReading,
    Weights,
};
use rollout::{EcsPair, Effect, Outcome, Slot, Snapshot, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of failed starts reported.
const MAX_FAILED_STARTS: usize = 10;

/// The cloud port, on the modelled world.
#[derive(Debug, Clone)]
pub struct SimCloud {
    pub(super) stage: SimContext,
}

impl Cloud for SimCloud {
    async fn observe(&self, observation: &ObservationPlan) -> Snapshot {
        // Duration of the whole observation; its readings have faults of their own.
        self.stage.call("observe", || (), |_| ()).await;
        let seen = read_snapshot(&self.stage, observation);
        self.record_observation(observation, &seen);
        seen
    }

    async fn perform(&self, pair: &EcsPair, effect: &Effect) -> Outcome {
        let apply = || {
            let shared = &mut *self.stage.lock();
            if shared.injector.faults.stale > 0.0 {
                shared.previous.remember(&mut shared.world, pair, effect);
            }
            if let (Some(pass_events), Some(rule)) = (&mut shared.pass_events, pair.rules.first()) {
                let lease = self.stage.lease().cloned();
                pass_events.push(PassEvent::Performed { rule: rule.clone(), lease, effect: effect.clone() });
            }
            perform(&mut shared.world, pair, effect)
        };
        self.stage.call(effect.kind().name(), apply, |reason| Outcome::Unsure { reason: reason.to_owned() }).await
    }

    async fn image(&self, image: &str) -> Reading<ImageState> {
        let read = || self.stage.lock().image_state(image);
        self.stage.call("image", read, |reason| Reading::Unknown(reason.to_owned())).await
    }
}

impl SimCloud {
    /// Reports the observation to the watcher.
    fn record_observation(&self, observation: &ObservationPlan, seen: &Snapshot) {
        let mut shared = self.stage.lock();
        let (Some(pass_events), Some(rule)) = (&mut shared.pass_events, observation.pair.rules.first()) else { return };
        let sides = SLOTS.map(|slot| seen.side(slot).known());
        let firing = |(name, reading): (&String, &AlarmReading)| {
            matches!(reading, AlarmReading::Firing { .. }).then(|| name.clone())
        };
        pass_events.push(PassEvent::Observed {
            rule: rule.clone(),
            lease: self.stage.lease().cloned(),
            running: sides.map(|side| side.map(|side| side.running)),
            healthy: sides.map(|side| side.map(|side| side.targets.healthy)),
            rules: seen.rules.iter().map(|rule| rule.known().map(|rule| rule.weights)).collect(),
            firing: seen.alarms.known().into_iter().flatten().filter_map(firing).collect(),
        });
    }
}

/// Read access to a world, with or without faults.
pub(crate) trait WorldReader {
    /// One of an observation's readings.
    fn reading<T>(&self, name: &'static str, read: impl FnOnce(&mut World) -> Result<T, String>) -> Result<T, String> {
        self.reading_or_stale(name, |_| None, read)
    }

    /// Same, for eventually consistent data: `before` returns the previous value and when it was replaced.
    fn reading_or_stale<T>(
        &self,
        name: &'static str,
        before: impl FnOnce(&PreviousState) -> Option<(Timestamp, T)>,
        read: impl FnOnce(&mut World) -> Result<T, String>,
    ) -> Result<T, String>;
}

impl WorldReader for SimContext {
    fn reading_or_stale<T>(
        &self,
        name: &'static str,
        before: impl FnOnce(&PreviousState) -> Option<(Timestamp, T)>,
        read: impl FnOnce(&mut World) -> Result<T, String>,
    ) -> Result<T, String> {
        SimContext::reading(self, name, before, read)
    }
}

/// Reads everything that `observation` names.
pub(crate) fn read_snapshot<R: WorldReader>(reads: &R, observation: &ObservationPlan) -> Snapshot {
    let read = |slot, beside| match observation.sides {
        true => reading(side(reads, observation, slot, beside)),
        false => Reading::Unknown("it was not asked for".to_owned()),
    };
    // Failed tasks of the stable side serve as a comparison: they are read only if the candidate has some.
    let beside = |seen: &Reading<SideReading>| seen.known().is_some_and(|candidate| candidate.failed() > 0);
    let (blue, green) = match &observation.failed_starts_query {
        Some(starts) if starts.slot == Slot::Green => {
            let green = read(Slot::Green, false);
            (read(Slot::Blue, beside(&green)), green)
        }
        _ => {
            let blue = read(Slot::Blue, false);
            let of_stable = beside(&blue);
            (blue, read(Slot::Green, of_stable))
        }
    };
    let read_weights = |world: &mut World, arn: &String| weights(world, &observation.pair, arn);
    let rule = |arn: &String| {
        reading(reads.reading_or_stale("weights", |previous| previous.rule(arn), |world| read_weights(world, arn)))
    };
    let rules = observation.pair.rules.iter().map(rule).collect();
    let test_rule = observation.pair.test_rule.as_ref().map(rule);
    let (alarms, alarm_sides) =
        match reads.reading("alarms", |world| alarms(world, &observation.pair, &observation.alarms)) {
            Ok((alarms, sides)) => (Reading::Known(alarms), sides),
            Err(reason) => (Reading::Unknown(reason), BTreeMap::new()),
        };
    Snapshot {
        api_call: None,
        read_started_at: None,
        blue,
        green,
        rules,
        test_rule,
        alarms,
        alarm_sides,
        schedules: observation
            .scheduled_actions_of
            .iter()
            .map(|slot| {
                let id = resource_id(&observation.pair.cluster, &observation.pair.side(*slot).service);
                let read = |world: &mut World| world.describe_scheduled_actions(&id).map_err(|error| error.to_string());
                (*slot, reading(reads.reading("schedules", read)))
            })
            .collect(),
        hook_tasks: observation
            .hook_tasks
            .iter()
            .map(|(hook, task)| {
                (hook.clone(), reading(reads.reading("hook task", |world| hook_task(world, &observation.pair, task))))
            })
            .collect(),
        throttled: false,
    }
}

fn side<R: WorldReader>(
    reads: &R,
    observation: &ObservationPlan,
    slot: Slot,
    beside: bool,
) -> Result<SideReading, String> {
    let pair = &observation.pair;
    let failed_starts_query = observation.failed_starts_query.as_ref().filter(|starts| starts.slot == slot);
    let beside =
        observation.failed_starts_query.as_ref().filter(|starts| beside && starts.slot != slot).and_then(|starts| {
            let task_definition = starts.beside.clone()?;
            Some(FailedStartsQuery { slot, task_definition, since: starts.since, beside: None })
        });
    let side = pair.side(slot);
    let before = |previous: &PreviousState| previous.service(&pair.cluster, &side.service);
    let service = reads.reading_or_stale("service", before, |world| service(world, &pair.cluster, &side.service))?;
    let primary = service.deployments.first().ok_or("the service has no primary deployment")?;
    let image = if observation.images {
        reads.reading("image", |world| {
            let definition = world.describe_task_definition(&primary.task_definition);
            let definition = definition.map_err(|error| error.to_string())?;
            Ok(definition.image(&pair.container).map(str::to_owned))
        })?
    } else {
        None
    };
    let degraded = service.running_count < service.desired_count
        || service.deployments.iter().any(|deployment| deployment.failed_tasks > 0);
    let (failed_tasks, failed_starts) = match failed_starts_query.filter(|_| degraded).or(beside.as_ref()) {
        Some(starts) => reads.reading("failed starts", |world| failed_starts(world, &pair.cluster, starts))?,
        None => (0, Vec::new()),
    };
    let targets = reads.reading("target health", |world| health(world, &side.target_group))?;
    let before = |previous: &PreviousState| previous.limits(&pair.cluster, &side.service);
    let autoscaling = reads.reading_or_stale("limits", before, |world| limits(world, &pair.cluster, &side.service))?;
    Ok(SideReading {
        task_definition: primary.task_definition.clone(),
        image,
        desired: service.desired_count,
        running: service.running_count,
        pending: service.pending_count,
        steady: service.deployments.len() == 1
            && primary.rollout_state == RolloutState::Completed
            && service.running_count == service.desired_count
            && service.pending_count == 0,
        circuit_breaker_reason: circuit_breaker_reason(&service, failed_starts_query),
        stalled: primary.rollout_state == RolloutState::Failed,
        failed_starts,
        failed_tasks,
        placed_by: placed_by(&service),
        placement_failure: failed_starts_query.and_then(|starts| {
            let is_placement_failure =
                |words: &str| words.contains("unable to place a task") || words.contains("unable to consistently");
            newest_event(&service, starts.since, is_placement_failure)
        }),
        targets,
        autoscaling,
    })
}

pub(super) fn reading<T>(read: Result<T, String>) -> Reading<T> {
    match read {
        Ok(value) => Reading::Known(value),
        Err(reason) => Reading::Unknown(reason),
    }
}

pub(super) fn service(world: &mut World, cluster: &str, name: &str) -> Result<ecs::Service, String> {
    let (services, failures) =
        world.describe_services(cluster, &[name.to_owned()]).map_err(|error| error.to_string())?;
    match (services.into_iter().next(), failures.first()) {
        (Some(service), _) if service.status == "ACTIVE" => Ok(service),
        (Some(service), _) => Err(format!("service {name} is {}", service.status)),
        (None, failure) => Err(format!("ECS has no service {name}: {failure:?}")),
    }
}

/// The circuit breaker's verdict, including the case that the breaker rolled back on its own and the failed deployment
/// is gone. Failures before the query's `since` belong to an earlier attempt; without a query nothing is reported.
fn circuit_breaker_reason(service: &ecs::Service, failed_starts_query: Option<&FailedStartsQuery>) -> Option<String> {
    let starts = failed_starts_query?;
    let primary = service.deployments.first()?;
    let failed = |deployment: &&ecs::Deployment| {
        deployment.rollout_state == RolloutState::Failed && deployment.updated_at >= starts.since
    };
    if failed(&primary) {
        return Some(primary.rollout_state_reason.clone());
    }
    let theirs = |deployment: &&ecs::Deployment| deployment.task_definition == starts.task_definition;
    if let Some(deployment) = service.deployments.iter().filter(theirs).find(failed) {
        return Some(deployment.rollout_state_reason.clone());
    }
    if theirs(&primary) {
        return None;
    }
    newest_event(service, starts.since, |words| words.contains("deployment failed")).map(|event| event.message)
}

fn newest_event(service: &ecs::Service, since: Timestamp, predicate: impl Fn(&str) -> bool) -> Option<ServiceEvent> {
    let event = service.events.iter().find(|event| event.created_at >= since && predicate(&event.message))?;
    Some(ServiceEvent { message: event.message.clone(), at: event.created_at })
}

/// The capacity providers of the service's strategy, or its launch type.
fn placed_by(service: &ecs::Service) -> Vec<String> {
    let strategy = service.capacity_provider_strategy.as_ref().and_then(serde_json::Value::as_array);
    let providers = strategy.into_iter().flatten().filter_map(|item| item.get("capacityProvider")?.as_str());
    let providers: Vec<String> = providers.map(str::to_owned).collect();
    if providers.is_empty() { service.launch_type.iter().cloned().collect() } else { providers }
}

fn failed_starts(
    world: &mut World,
    cluster: &str,
    starts: &FailedStartsQuery,
) -> Result<(u32, Vec<FailedStart>), String> {
    let stopped = ecs::ListTasks {
        cluster: cluster.to_owned(),
        desired_status: Some("STOPPED".to_owned()),
        ..ecs::ListTasks::default()
    };
    let arns = world.list_tasks(stopped).map_err(|error| error.to_string())?;
    let mut failed = Vec::new();
    for arns in arns.chunks(100) {
        world
            .visit_tasks(cluster, arns, |task| failed.extend(failed_start(task, starts)))
            .map_err(|error| error.to_string())?;
    }
    failed.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.task.cmp(&b.task)));
    let count = u32::try_from(failed.len()).unwrap_or(u32::MAX);
    failed.truncate(MAX_FAILED_STARTS);
    Ok((count, failed))
}

fn failed_start(task: &ecs::Task, starts: &FailedStartsQuery) -> Option<FailedStart> {
    let words = task.stopped_reason.as_deref().unwrap_or_default();
    let by_itself = matches!(task.stop_code, Some("EssentialContainerExited" | "TaskFailedToStart"))
        || words.contains("failed ELB health checks");
    let at = task.stopped_at.or(task.stopping_at)?;
    if task.task_definition_arn != starts.task_definition || !by_itself || at < starts.since {
        return None;
    }
    let code = task.containers.iter().find_map(|container| container.exit_code.filter(|code| *code != 0));
    let reason = match code {
        Some(code) => format!("{words} (exit code {code})"),
        None => words.to_owned(),
    };
    Some(FailedStart { task: task.task_arn.clone(), reason, at })
}

fn health(world: &mut World, group: &str) -> Result<TargetHealth, String> {
    let mut counts = TargetHealth::default();
    for target in world.describe_target_health(group).map_err(|error| error.to_string())? {
        *match target.state {
            HealthState::Healthy => &mut counts.healthy,
            HealthState::Unhealthy => &mut counts.unhealthy,
            HealthState::Initial => &mut counts.initial,
            HealthState::Draining => &mut counts.draining,
            HealthState::Unused => &mut counts.unused,
        } += 1;
    }
    Ok(counts)
}

pub(super) fn limits(world: &mut World, cluster: &str, service: &str) -> Result<Option<Autoscaling>, String> {
    let request = DescribeScalableTargets {
        service_namespace: "ecs".to_owned(),
        resource_ids: vec![resource_id(cluster, service)],
        scalable_dimension: None,
    };
    let found = world.describe_scalable_targets(request).map_err(|error| error.to_string())?;
    Ok(found.first().map(|target| Autoscaling {
        min: target.min_capacity,
        max: target.max_capacity,
        scale_in_suspended: target.suspended_state.dynamic_scaling_in_suspended,
        scheduled_suspended: target.suspended_state.scheduled_scaling_suspended,
    }))
}

/// Application Auto Scaling's resource id of a service.
pub(super) fn resource_id(cluster: &str, service: &str) -> String {
    let last = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    format!("service/{}/{}", last(cluster), last(service))
}

pub(super) fn weights(world: &mut World, pair: &EcsPair, arn: &str) -> Result<RuleReading, String> {
    let actions = actions(world, arn)?;
    let forward = actions.iter().find_map(|action| match &action.what {
        ActionKind::Forward(forward) => Some(forward),
        ActionKind::Other { .. } => None,
    });
    let groups = forward.map(|forward| forward.target_groups.as_slice()).unwrap_or_default();
    let weight = |slot: Slot| {
        let group = groups.iter().find(|group| group.arn == pair.side(slot).target_group);
        group.map(|group| u16::try_from(group.weight.unwrap_or(1)).unwrap_or(0))
    };
    let ours = |arn: &str| arn == pair.blue.target_group || arn == pair.green.target_group;
    let (blue, green) = (weight(Slot::Blue), weight(Slot::Green));
    Ok(RuleReading {
        weights: Weights { blue: blue.unwrap_or(0), green: green.unwrap_or(0) },
        has_both_groups: blue.is_some() && green.is_some(),
        foreign_groups: groups.iter().filter(|group| !ours(&group.arn)).map(|group| group.arn.clone()).collect(),
    })
}

/// The actions of a rule, or the default actions of a listener.
pub(super) fn actions(world: &mut World, arn: &str) -> Result<Vec<crate::world::balancer::Action>, String> {
    let named = [arn.to_owned()];
    let found = if arn.contains(":listener-rule/") {
        world.describe_rules(None, &named).map(|rules| rules.into_iter().next().map(|rule| rule.actions))
    } else {
        world
            .describe_listeners(None, &named)
            .map(|listeners| listeners.into_iter().next().map(|listener| listener.default_actions))
    };
    found.map_err(|error| error.to_string())?.ok_or_else(|| format!("{arn} is not in the answer"))
}

/// Alarm readings by name, and the side of each alarm that watches a single one.
type AlarmsRead = (BTreeMap<String, AlarmReading>, BTreeMap<String, Slot>);

fn alarms(world: &mut World, pair: &EcsPair, names: &BTreeSet<String>) -> Result<AlarmsRead, String> {
    if names.is_empty() {
        return Ok(AlarmsRead::default());
    }
    let known = super::inspect::alarms(world, names)?;
    let side = |name: &String| Some((name.clone(), alarm::side(pair, name, &known)?));
    let readings = names.iter().map(|name| (name.clone(), alarm::reading(name, &known))).collect();
    Ok((readings, names.iter().filter_map(side).collect()))
}

fn hook_task(world: &mut World, pair: &EcsPair, asked: &HookTask) -> Result<TaskReading, String> {
    let (tasks, failures) =
        world.describe_tasks(&pair.cluster, std::slice::from_ref(&asked.task)).map_err(|error| error.to_string())?;
    let Some(task) = tasks.first() else { return Err(format!("ECS has no such task: {failures:?}")) };
    if task.last_status != LastStatus::Stopped {
        return Ok(TaskReading::Running);
    }
    let container = task.containers.iter().find(|container| container.name == asked.container);
    Ok(TaskReading::Stopped {
        exit_code: container.and_then(|container| container.exit_code),
        reason: task.stopped_reason.clone().unwrap_or_default(),
    })
}
