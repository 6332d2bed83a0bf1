//! [`engine::Cloud`] on the world: an observation reads what the AWS adapter reads, each reading with its own faults.

use super::answers;
use super::context::SimContext;
use super::effects::perform;
use super::previous::PreviousState;
use crate::trace::{PassEvent, call_name};
use crate::world::World;
use crate::world::balancer::ActionKind;
use crate::world::ecs::ListTasks;
use crate::world::scaling::DescribeScalableTargets;
use engine::Cloud;
use rollout::alarm;
use rollout::observation::{FailedStartsQuery, HookTask, ObservationPlan};
use rollout::platform::ecs::{self, FailedStarts};
use rollout::platform::elb;
use rollout::promotion::ImageState;
use rollout::snapshot::{AlarmReading, Autoscaling, Reading, RuleReading, SideReading, TargetHealth, TaskReading};
use rollout::{Effect, Outcome, Slot, Snapshot, TargetResources, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of tasks in one `DescribeTasks` call.
const MAX_TASKS_PER_CALL: usize = 100;

/// The cloud port, on the modelled world.
#[derive(Debug, Clone)]
pub struct SimCloud {
    pub(super) context: SimContext,
}

impl Cloud for SimCloud {
    async fn observe(&self, observation: &ObservationPlan) -> Snapshot {
        // Duration of the whole observation; its readings have faults of their own.
        self.context.call(call_name::OBSERVE, || (), |_| ()).await;
        let seen = read_snapshot(&self.context, observation);
        self.record_observation(observation, &seen);
        seen
    }

    async fn perform(&self, resources: &TargetResources, effect: &Effect) -> Outcome {
        let apply = || {
            let shared = &mut *self.context.lock();
            if shared.injector.faults.stale > 0.0 {
                shared.previous.remember(&mut shared.world, resources, effect);
            }
            if let (Some(pass_events), Some(rule)) = (&mut shared.pass_events, resources.rules().next()) {
                let lease = self.context.lease().cloned();
                pass_events.push(PassEvent::Performed { rule: rule.to_owned(), lease, effect: effect.clone() });
            }
            perform(&mut shared.world, resources, effect)
        };
        self.context.call(effect.kind().name(), apply, |reason| Outcome::Unsure { reason: reason.to_owned() }).await
    }

    async fn image_state(&self, image: &str) -> Reading<ImageState> {
        let read = || self.context.lock().image_state(image);
        self.context.call("image_state", read, |reason| Reading::Unknown(reason.to_owned())).await
    }
}

impl SimCloud {
    /// Reports the observation to the watcher.
    fn record_observation(&self, observation: &ObservationPlan, seen: &Snapshot) {
        let mut shared = self.context.lock();
        let (Some(pass_events), Some(rule)) = (&mut shared.pass_events, observation.resources.rules().next()) else {
            return;
        };
        let sides = Slot::BOTH.map(|slot| seen.side(slot).known());
        let firing = |(name, reading): (&String, &AlarmReading)| {
            matches!(reading, AlarmReading::Firing { .. }).then(|| name.clone())
        };
        pass_events.push(PassEvent::Observed {
            rule: rule.to_owned(),
            lease: self.context.lease().cloned(),
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
    let read = |slot, as_comparison| match observation.sides {
        true => to_reading(side(reads, observation, slot, as_comparison)),
        false => Reading::Unknown("it was not asked for".to_owned()),
    };
    // Failed tasks of the stable side serve as a comparison: they are read only if the candidate has some.
    let has_failures = |seen: &Reading<SideReading>| seen.known().is_some_and(|candidate| candidate.failed() > 0);
    let (blue, green) = match &observation.failed_starts_query {
        Some(starts) if starts.slot == Slot::Green => {
            let green = read(Slot::Green, false);
            (read(Slot::Blue, has_failures(&green)), green)
        }
        _ => {
            let blue = read(Slot::Blue, false);
            let as_comparison = has_failures(&blue);
            (blue, read(Slot::Green, as_comparison))
        }
    };
    let read_weights = |world: &mut World, arn: &str| weights(world, &observation.resources, arn);
    let rule = |arn: &str| {
        to_reading(reads.reading_or_stale("weights", |previous| previous.rule(arn), |world| read_weights(world, arn)))
    };
    let rules = observation.resources.rules().map(rule).collect();
    let test_rules = observation.resources.test_rules().map(rule).collect();
    let (alarms, alarm_sides) =
        match reads.reading("alarms", |world| alarms(world, &observation.resources, &observation.alarms)) {
            Ok((alarms, sides)) => (Reading::Known(alarms), sides),
            Err(reason) => (Reading::Unknown(reason), BTreeMap::new()),
        };
    Snapshot {
        api_call: None,
        read_started_at: None,
        blue,
        green,
        rules,
        test_rules,
        alarms,
        alarm_sides,
        schedules: observation
            .scheduled_actions_of
            .iter()
            .map(|slot| {
                let id = resource_id(&observation.resources.ecs.cluster, observation.resources.ecs.service(*slot));
                let read = |world: &mut World| world.describe_scheduled_actions(&id).map_err(|error| error.to_string());
                (*slot, to_reading(reads.reading("schedules", read)))
            })
            .collect(),
        hook_tasks: observation
            .hook_tasks
            .iter()
            .map(|(hook, task)| {
                let read = |world: &mut World| hook_task(world, &observation.resources, task);
                (hook.clone(), to_reading(reads.reading("hook task", read)))
            })
            .collect(),
        throttled: false,
    }
}

fn side<R: WorldReader>(
    reads: &R,
    observation: &ObservationPlan,
    slot: Slot,
    as_comparison: bool,
) -> Result<SideReading, String> {
    let resources = &observation.resources;
    let failed_starts_query = observation.failed_starts_query.as_ref().filter(|starts| starts.slot == slot);
    let queried_other_side =
        observation.failed_starts_query.as_ref().filter(|starts| as_comparison && starts.slot != slot);
    let comparison = queried_other_side.and_then(|starts| {
        let task_definition = starts.compare_with.clone()?;
        Some(FailedStartsQuery { slot, task_definition, since: starts.since, compare_with: None })
    });
    let before = |previous: &PreviousState| previous.service(&resources.ecs.cluster, resources.ecs.service(slot));
    let service = reads.reading_or_stale("service", before, |world| {
        answers::service(world, &resources.ecs.cluster, resources.ecs.service(slot))
    })?;
    let described = answers::describe_service(&service);
    let seen = described.reading(answers::events(&service), failed_starts_query)?;
    let image = if observation.images {
        reads.reading("image", |world| {
            let definition = world.describe_task_definition(&seen.task_definition);
            let definition = definition.map_err(|error| error.to_string())?;
            Ok(definition.image(&resources.ecs.container).map(str::to_owned))
        })?
    } else {
        None
    };
    let failed_starts = match failed_starts_query.filter(|_| described.is_degraded()).or(comparison.as_ref()) {
        Some(starts) => reads.reading("failed starts", |world| failed_starts(world, resources, starts))?,
        None => FailedStarts::default(),
    };
    let targets = reads.reading("target health", |world| side_health(world, resources, slot))?;
    let before = |previous: &PreviousState| previous.limits(&resources.ecs.cluster, resources.ecs.service(slot));
    let autoscaling = reads.reading_or_stale("limits", before, |world| {
        limits(world, &resources.ecs.cluster, resources.ecs.service(slot))
    })?;
    Ok(seen.into_side_reading(image, failed_starts, targets, autoscaling))
}

pub(super) fn to_reading<T>(read: Result<T, String>) -> Reading<T> {
    match read {
        Ok(value) => Reading::Known(value),
        Err(reason) => Reading::Unknown(reason),
    }
}

/// The stopped tasks of the queried side's service; those of hooks belong to no service.
fn failed_starts(
    world: &mut World,
    resources: &TargetResources,
    starts: &FailedStartsQuery,
) -> Result<FailedStarts, String> {
    let stopped = ListTasks {
        cluster: resources.ecs.cluster.clone(),
        service_name: Some(resources.ecs.service(starts.slot).to_owned()),
        desired_status: Some("STOPPED".to_owned()),
        ..ListTasks::default()
    };
    let arns = world.list_tasks(stopped).map_err(|error| error.to_string())?;
    let mut failed = Vec::new();
    for arns in arns.chunks(MAX_TASKS_PER_CALL) {
        let visited = world.visit_tasks(&resources.ecs.cluster, arns, |task| {
            failed.extend(ecs::failed_start(&answers::task(task), answers::containers(task), starts));
        });
        visited.map_err(|error| error.to_string())?;
    }
    Ok(failed.into_iter().collect())
}

/// Health of a side: that of its worst leg.
fn side_health(world: &mut World, resources: &TargetResources, slot: Slot) -> Result<TargetHealth, String> {
    let legs: Result<Vec<_>, _> = resources.target_groups(slot).map(|group| health(world, group)).collect();
    Ok(TargetHealth::worst(legs?))
}

pub(super) fn health(world: &mut World, group: &str) -> Result<TargetHealth, String> {
    let targets = world.describe_target_health(group).map_err(|error| error.to_string())?;
    Ok(elb::target_health(targets.iter().map(|target| Some(target.state.as_str()))))
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

pub(super) fn weights(world: &mut World, resources: &TargetResources, arn: &str) -> Result<RuleReading, String> {
    let actions = actions(world, arn)?;
    let forward = actions.iter().find_map(|action| match &action.what {
        ActionKind::Forward(forward) => Some(forward),
        ActionKind::Other { .. } => None,
    });
    let groups = forward.map(|forward| forward.target_groups.as_slice()).unwrap_or_default();
    let leg = resources.leg_of(arn).ok_or_else(|| format!("the policy does not name {arn}"))?;
    Ok(elb::rule_reading(groups.iter().map(|group| (group.arn.as_str(), group.weight)), leg))
}

/// The actions of a rule, or the default actions of a listener.
pub(super) fn actions(world: &mut World, arn: &str) -> Result<Vec<crate::world::balancer::ListenerAction>, String> {
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
type AlarmReadings = (BTreeMap<String, AlarmReading>, BTreeMap<String, Slot>);

fn alarms(world: &mut World, resources: &TargetResources, names: &BTreeSet<String>) -> Result<AlarmReadings, String> {
    if names.is_empty() {
        return Ok(AlarmReadings::default());
    }
    let known = super::inspect::alarms(world, names)?;
    let side = |name: &String| Some((name.clone(), alarm::side(resources, name, &known)?));
    let readings = names.iter().map(|name| (name.clone(), alarm::reading(name, &known))).collect();
    Ok((readings, names.iter().filter_map(side).collect()))
}

fn hook_task(world: &mut World, resources: &TargetResources, asked: &HookTask) -> Result<TaskReading, String> {
    let (tasks, failures) = world
        .describe_tasks(&resources.ecs.cluster, std::slice::from_ref(&asked.task))
        .map_err(|error| error.to_string())?;
    match tasks.first() {
        Some(task) => Ok(ecs::hook_task(&answers::task(task), answers::containers(task), asked)),
        None => Err(ecs::missing_task(&asked.task, failures.first().map(|failure| failure.reason.as_str()))),
    }
}
