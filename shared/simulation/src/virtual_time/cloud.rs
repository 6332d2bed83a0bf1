//! [`engine::Cloud`] on the world: an observation reads what the AWS adapter reads, each reading with its own faults.

use super::answers;
use super::context::SimContext;
use super::definitions::newest_template;
use super::effects::perform;
use super::platforms;
use super::previous::PreviousState;
use crate::trace::{PassEvent, PrimaryDeployment, SeenState, SeenWorkload, TraceSubject, VersionChange, call_name};
use crate::world::World;
use crate::world::balancer::ActionKind;
use crate::world::ecs::ListTasks;
use engine::Cloud;
use rollout::alarm;
use rollout::answers::ecs::{self, FailedStarts};
use rollout::answers::elb;
use rollout::observation::{FailedStartsQuery, HookTask, ObservationPlan};
use rollout::promotion::ImageState;
use rollout::schedule::ScheduledAction;
use rollout::snapshot::{AlarmReading, Reading, RuleReading, SideReading, TargetHealth, TaskReading, WorkloadReading};
use rollout::template::TemplateReading;
use rollout::{EcsServiceName, Effect, Outcome, Platform, Slot, Snapshot, TargetResources, Timestamp};
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
            let subject = shared.pass_events.as_ref().and_then(|_| platforms::subject(resources));
            let before = primary(&mut shared.world, subject.as_ref(), effect);
            let outcome = perform(&mut shared.world, resources, effect);
            let after = primary(&mut shared.world, subject.as_ref(), effect);
            if let (Some(pass_events), Some(subject)) = (&mut shared.pass_events, subject) {
                let lease = self.context.lease().cloned();
                let version_change = before.zip(after).map(|(before, after)| Box::new(VersionChange { before, after }));
                pass_events.push(PassEvent::Performed { subject, lease, effect: effect.clone(), version_change });
            }
            outcome
        };
        self.context.call(effect.kind().name(), apply, |reason| Outcome::Unsure { reason: reason.to_owned() }).await
    }

    async fn image_state(&self, image: &str) -> Reading<ImageState> {
        let read = || self.context.lock().image_state(image);
        self.context.call("image_state", read, |reason| Reading::Unknown(reason.to_owned())).await
    }

    async fn template(
        &self,
        resources: &TargetResources,
        family: &str,
        live: Option<&str>,
    ) -> Reading<TemplateReading> {
        let read = || to_reading(newest_template(&mut self.context.lock().world, resources, family, live));
        self.context.call("template", read, |reason| Reading::Unknown(reason.to_owned())).await
    }
}

impl SimCloud {
    /// Reports the observation to the watcher.
    fn record_observation(&self, observation: &ObservationPlan, seen: &Snapshot) {
        let mut shared = self.context.lock();
        let subject = platforms::subject(&observation.resources);
        let (Some(pass_events), Some(subject)) = (&mut shared.pass_events, subject) else { return };
        let state = match &subject {
            TraceSubject::Rule(_) => {
                let sides = Slot::BOTH.map(|slot| seen.side(slot).known());
                SeenState::Pair {
                    running: sides.map(|side| side.map(|side| side.running)),
                    healthy: sides.map(|side| side.map(|side| side.targets.healthy)),
                    rules: seen.rules.iter().map(|rule| rule.known().map(|rule| rule.weights)).collect(),
                }
            }
            TraceSubject::Service(_) => SeenState::InPlace(
                seen.workload
                    .known()
                    .map(|workload| SeenWorkload { version: workload.version.clone(), running: workload.running }),
            ),
        };
        let firing = |(name, reading): (&String, &AlarmReading)| {
            matches!(reading, AlarmReading::Firing { .. }).then(|| name.clone())
        };
        pass_events.push(PassEvent::Observed {
            subject,
            lease: self.context.lease().cloned(),
            seen: state,
            firing: seen.alarms.known().into_iter().flatten().filter_map(firing).collect(),
        });
    }
}

/// The primary deployment of the service whose version an effect sets in place; none: it sets none.
fn primary(world: &mut World, subject: Option<&TraceSubject>, effect: &Effect) -> Option<PrimaryDeployment> {
    match (subject, effect) {
        (
            Some(TraceSubject::Service(key)),
            Effect::ReplaceVersion { .. } | Effect::StartFirst { .. } | Effect::StopFirst { .. },
        ) => PrimaryDeployment::read(world, key),
        _ => None,
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

/// What runs a target, as read: both sides of a pair, or the workload that changes its version in place.
pub(super) struct WorkloadReadings {
    pub(super) blue: Reading<SideReading>,
    pub(super) green: Reading<SideReading>,
    pub(super) workload: Reading<WorkloadReading>,
}

impl WorkloadReadings {
    /// Nothing of it was asked for.
    pub(super) fn not_asked() -> Self {
        Self { blue: Reading::not_asked(), green: Reading::not_asked(), workload: Reading::not_asked() }
    }
}

/// Reads everything that `observation` names.
pub(crate) fn read_snapshot<R: WorldReader>(reads: &R, observation: &ObservationPlan) -> Snapshot {
    let WorkloadReadings { blue, green, workload } =
        if observation.workloads { platforms::observe(reads, observation) } else { WorkloadReadings::not_asked() };
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
        workload,
        rules,
        test_rules,
        alarms,
        alarm_sides,
        schedules: observation
            .scheduled_actions_of
            .iter()
            .map(|slot| (*slot, to_reading(schedules(reads, &observation.resources.platform, *slot))))
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

fn schedules<R: WorldReader>(reads: &R, platform: &Platform, slot: Slot) -> Result<Vec<ScheduledAction>, String> {
    let service = platform.ecs_service(Some(slot)).ok_or_else(|| format!("the target has no side {slot}"))?;
    let id = resource_id(service.cluster, service.name);
    reads.reading("schedules", |world| world.describe_scheduled_actions(&id).map_err(|error| error.to_string()))
}

/// A service, as the last write left it or as it was before.
pub(super) fn ecs_service<R: WorldReader>(
    reads: &R,
    service: EcsServiceName<'_>,
) -> Result<crate::world::ecs::EcsService, String> {
    let before = |previous: &PreviousState| previous.service(service.cluster, service.name);
    let read = |world: &mut World| answers::service(world, service.cluster, service.name);
    reads.reading_or_stale("service", before, read)
}

/// The image of the policy's container in a version; none: it was not asked for.
pub(super) fn image<R: WorldReader>(
    reads: &R,
    observation: &ObservationPlan,
    version: &str,
    container: &str,
) -> Result<Option<String>, String> {
    if !observation.images {
        return Ok(None);
    }
    reads.reading("image", |world| {
        let definition = world.describe_task_definition(version).map_err(|error| error.to_string())?;
        Ok(definition.image(container).map(str::to_owned))
    })
}

pub(super) fn to_reading<T>(read: Result<T, String>) -> Reading<T> {
    match read {
        Ok(value) => Reading::Known(value),
        Err(reason) => Reading::Unknown(reason),
    }
}

/// The queried tasks among the stopped ones of a service; those of hooks belong to no service.
pub(super) fn failed_starts(
    world: &mut World,
    service: EcsServiceName<'_>,
    starts: &FailedStartsQuery,
) -> Result<FailedStarts, String> {
    let mut failed = Vec::new();
    visit_tasks(world, service, "STOPPED", |task| {
        failed.extend(ecs::failed_start(&answers::task(task), answers::containers(task), starts));
    })?;
    Ok(failed.into_iter().collect())
}

/// Lists the tasks of a service with this desired status, and describes them.
pub(super) fn visit_tasks(
    world: &mut World,
    service: EcsServiceName<'_>,
    desired_status: &str,
    mut visit: impl FnMut(&crate::world::ecs::EcsTask),
) -> Result<(), String> {
    let listed = ListTasks {
        cluster: service.cluster.to_owned(),
        service_name: Some(service.name.to_owned()),
        desired_status: Some(desired_status.to_owned()),
        ..ListTasks::default()
    };
    let arns = world.list_tasks(listed).map_err(|error| error.to_string())?;
    for arns in arns.chunks(MAX_TASKS_PER_CALL) {
        world.visit_tasks(service.cluster, arns, &mut visit).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Health of several target groups: that of the worst.
pub(super) fn worst_health<'a>(
    world: &mut World,
    groups: impl Iterator<Item = &'a str>,
) -> Result<TargetHealth, String> {
    let legs: Result<Vec<_>, _> = groups.map(|group| health(world, group)).collect();
    Ok(TargetHealth::worst(legs?))
}

pub(super) fn health(world: &mut World, group: &str) -> Result<TargetHealth, String> {
    let targets = world.describe_target_health(group).map_err(|error| error.to_string())?;
    Ok(elb::target_health(targets.iter().map(|target| Some(target.state.as_str()))))
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
    let sticky = forward.and_then(|forward| forward.stickiness).filter(|it| it.enabled);
    let sticky = sticky.and_then(|it| it.duration_seconds);
    Ok(elb::rule_reading(groups.iter().map(|group| (group.arn.as_str(), group.weight)), sticky, leg))
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
    let service = resources.platform.ecs_services().next().ok_or("the target has no cluster")?;
    let (tasks, failures) =
        world.describe_tasks(service.cluster, std::slice::from_ref(&asked.task)).map_err(|error| error.to_string())?;
    match tasks.first() {
        Some(task) => Ok(ecs::hook_task(&answers::task(task), answers::containers(task), asked)),
        None => Err(ecs::missing_task(&asked.task, failures.first().map(|failure| failure.reason.as_str()))),
    }
}
