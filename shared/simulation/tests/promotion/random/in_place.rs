//! What happens to targets that change their version in place, and what their deployments have met.

use super::{DEFAULT_TASKS, DayRun};
use crate::day::{DayAction, SideFault, ToolTrigger};
use crate::in_place_day::{ForeignVersion, InPlaceAction, worker};
use crate::pipeline::{name, target};
use rollout::explanation::WaitingOn;
use rollout::journal::{Fact, JournalEntry};
use rollout::{Cause, DeployOptions, Gate, Stage, TargetId, Train, Verdict};
use simulation::virtual_time::Simulation;
use simulation::world::alarms::Evaluation;
use simulation::world::ecs::{UpdateService, UpdateTaskProtection};
use simulation::world::scene::digest_of;
use simulation::world::{ImageBehaviour, World};
use std::collections::BTreeSet;

/// What days with targets in place are to meet, now and then.
pub(super) const IN_PLACE_COVERAGE: [&str; 9] = [
    "a rollback in place",
    "an alarm in place",
    "ECS's own rollback",
    "another version that halts",
    "another version that a rollback replaces",
    "a version before that is registered again",
    "a train that goes back in place",
    "a forward-only release in place",
    PROTECTED_TASKS,
];
pub(super) const PROTECTED_TASKS: &str = "protected tasks that are waited for";

/// What somebody's tool does to a service once its moment has come.
#[derive(Debug, Clone, Copy)]
pub(super) enum ServiceTool {
    SetVersion(ForeignVersion),
    DeregisterBefore,
}

/// Which of [`IN_PLACE_COVERAGE`] the journal of a target in place tells of.
pub(super) fn in_place_coverage(journal: &[JournalEntry]) -> BTreeSet<&'static str> {
    let mut coverage = BTreeSet::new();
    // The deployment that rolls back.
    let mut going_back = None;
    for entry in journal {
        let met = match &entry.fact {
            Fact::RollbackStarted { cause } => {
                going_back = entry.deployment;
                match cause {
                    Cause::Alarm { .. } => Some("an alarm in place"),
                    Cause::Train { .. } => Some("a train that goes back in place"),
                    Cause::Tasks { reason } if reason.contains("ECS gave up") => Some("ECS's own rollback"),
                    _ => None,
                }
            }
            Fact::VersionReady { .. } if entry.deployment.is_some() && entry.deployment == going_back => {
                Some("a version before that is registered again")
            }
            Fact::Halted { .. } => Some("another version that halts"),
            Fact::ForeignVersionReplaced { .. } => Some("another version that a rollback replaces"),
            Fact::AwaitingOperator { .. } => Some("a forward-only release in place"),
            Fact::BlockedByGate { gate: Gate::Asleep, .. } => Some("a service that sleeps"),
            Fact::DriftDetected { .. } => Some("another version at rest"),
            Fact::Ended { verdict: Verdict::RolledBack, .. } => Some("a rollback in place"),
            _ => None,
        };
        coverage.extend(met);
    }
    coverage
}

impl DayRun {
    /// Notes what deployments in place wait for at the moment.
    pub(super) fn record_protected_tasks(&mut self) {
        let store = self.pipeline.simulation.ledger().store();
        let states = self.in_place.iter().filter_map(|target| store.peek(target));
        let mut waits = states.flat_map(|state| &state.explanation.waiting_on);
        self.saw_protected_tasks |= waits.any(|on| matches!(on, WaitingOn::Replacing { protected: 1.., .. }));
    }

    /// Does to a target in place what happens to one side of a pair, or to both; false: it is none.
    pub(super) fn perform_on_service(&mut self, what: &DayAction) -> bool {
        let Some(target) = meddled_target(what).filter(|target| self.in_place.contains(*target)) else { return false };
        match what {
            DayAction::EditWeights { blue, .. } => {
                let version = if blue % 2 == 0 { ForeignVersion::Theirs } else { ForeignVersion::First };
                self.set_foreign_version(target, version);
            }
            DayAction::EditDesired { desired, .. } => self.set_tasks(target, *desired),
            DayAction::KillTasks { tasks, .. } => self.kill_service_tasks(target, *tasks),
            DayAction::FavourWrongSide { trigger, share, .. } => {
                let version = if *share == 100 { ForeignVersion::First } else { ForeignVersion::Theirs };
                self.pending_service_tools.push((target.clone(), *trigger, ServiceTool::SetVersion(version)));
            }
            DayAction::DegradeSide { mode, .. } => self.degrade_service(target, *mode),
            DayAction::SuspendAlarm { mode, .. } => self.set_service_evaluation(target, Some(*mode)),
            DayAction::ResumeAlarm { .. } => self.set_service_evaluation(target, None),
            // It has no limits, and nobody's weights.
            _ => {}
        }
        true
    }

    pub(super) fn perform_in_place(&mut self, action: &InPlaceAction) {
        match action {
            InPlaceAction::PushWorker { number, behaviour } => {
                self.images.insert(*number, behaviour.clone());
                self.pipeline.set_image(*number, behaviour.clone());
                self.pipeline.push("worker", *number);
            }
            InPlaceAction::Train { api, worker } => self.request_train(*api, *worker),
            InPlaceAction::SetVersion { target, trigger, version } => {
                self.pending_service_tools.push((target.clone(), *trigger, ServiceTool::SetVersion(*version)));
            }
            InPlaceAction::RestoreVersion { target } => self.restore_version(target),
            InPlaceAction::ProtectTasks { target, tasks, minutes } => self.protect_tasks(target, *tasks, *minutes),
            InPlaceAction::DeregisterBefore { target, trigger } => {
                self.pending_service_tools.push((target.clone(), *trigger, ServiceTool::DeregisterBefore));
            }
        }
    }

    /// Those of the tools whose moment has come do their work.
    pub(super) fn run_service_tools(&mut self) {
        for (target, trigger, tool) in std::mem::take(&mut self.pending_service_tools) {
            if !is_triggered(&self.pipeline.simulation, &target, trigger) {
                self.pending_service_tools.push((target, trigger, tool));
                continue;
            }
            match tool {
                ServiceTool::SetVersion(version) => self.set_foreign_version(&target, version),
                ServiceTool::DeregisterBefore => self.deregister_before(&target),
            }
        }
    }

    /// Carol asks for both as one train, the one that waits first.
    fn request_train(&mut self, api: u64, worker_number: u64) {
        if ![api, worker_number].iter().all(|number| self.images.contains_key(number)) {
            return;
        }
        self.trains += 1;
        let members = [(target("shop/api/dev"), api), (worker(), worker_number)];
        let digests = members.iter().map(|(target, number)| (target.service.clone(), digest_of(*number)));
        let together = self.pipeline.policy.environments[&name("dev")].entry.rollback_train_together;
        let id = format!("train-{}", self.trains);
        let train = Train { id, members: digests.collect(), rollback_together: together, ..Train::default() };
        for (target, number) in members.iter().rev() {
            let options = DeployOptions { train: Some(Box::new(train.clone())), ..DeployOptions::default() };
            self.pipeline.deploy(target, *number, options);
        }
    }

    /// Cluster and name of a service.
    fn in_place_service(&self, target: &TargetId) -> (String, String) {
        let names = self.pipeline.simulation.at(target).rolling_names();
        (names.cluster.clone(), names.service.clone())
    }

    fn set_foreign_version(&self, target: &TargetId, version: ForeignVersion) {
        let first = self.pipeline.simulation.at(target).rolling_names().task_definition.clone();
        let version = match version {
            ForeignVersion::First => first,
            ForeignVersion::Theirs => self.pipeline.simulation.world(|world| {
                let mut document = world.describe_task_definition(&first).expect("it is there").document;
                document["cpu"] = "512".into();
                world.register_task_definition(document).expect("it is sound").arn
            }),
        };
        self.set_version(target, version);
    }

    /// Sets what Switchback has set last.
    fn restore_version(&self, target: &TargetId) {
        let state = self.pipeline.state(target);
        let running = state.running.as_ref().and_then(|running| running.in_place());
        let set = running.map(|in_place| in_place.set_version.clone().unwrap_or(in_place.before.version.clone()));
        if let Some(version) = set.or(state.stable.map(|stable| stable.version)) {
            self.set_version(target, version);
        }
    }

    fn set_version(&self, target: &TargetId, version: String) {
        let (cluster, service) = self.in_place_service(target);
        let update = UpdateService { cluster, service, task_definition: Some(version), ..UpdateService::default() };
        // A version that is deregistered is refused.
        let _refused = self.pipeline.simulation.world(|world| world.update_service(update)).is_err();
    }

    pub(super) fn set_tasks(&self, target: &TargetId, desired: u32) {
        let (cluster, service) = self.in_place_service(target);
        let update = UpdateService { cluster, service, desired_count: Some(desired), ..UpdateService::default() };
        self.pipeline.simulation.world(|world| world.update_service(update)).expect("it is there");
    }

    /// A service without tasks gets some again.
    pub(super) fn wake_service(&self, target: &TargetId) {
        let key = self.in_place_service(target);
        if self.pipeline.simulation.world(|world| world.desired_of(&key)) == 0 {
            self.set_tasks(target, DEFAULT_TASKS);
        }
    }

    fn kill_service_tasks(&self, target: &TargetId, most: usize) {
        let (cluster, service) = self.in_place_service(target);
        self.pipeline.simulation.world(|world| kill_tasks(world, &cluster, &service, most));
    }

    /// The number of the image that a service is set to run.
    fn image_in_place(&self, target: &TargetId) -> Option<u64> {
        let key = self.in_place_service(target);
        let image = self.pipeline.simulation.world(|world| world.image_run_by(&key, "app"))?;
        u64::from_str_radix(image.rsplit_once(':')?.1, 16).ok()
    }

    fn degrade_service(&mut self, target: &TargetId, mode: SideFault) {
        let Some(number) = self.image_in_place(target) else { return };
        self.degraded.insert((target.clone(), number));
        match mode {
            SideFault::Failing => self.pipeline.set_image(number, ImageBehaviour::failing(0.5)),
            SideFault::Unhealthy => {
                self.pipeline.set_image(number, ImageBehaviour::never_healthy());
                self.kill_service_tasks(target, usize::MAX);
            }
        }
    }

    /// An image is well again: tasks that came up ill give way to others.
    pub(super) fn restart_services(&self, number: u64) {
        for target in &self.in_place {
            let names = self.pipeline.simulation.at(target).rolling_names();
            let Some(group) = names.balancing.as_ref().map(|balancing| balancing.group.clone()) else { continue };
            let no_healthy_target = self.pipeline.simulation.world(|world| world.targets_of(&group).0 == 0);
            if no_healthy_target && self.image_in_place(target) == Some(number) {
                self.kill_service_tasks(target, usize::MAX);
            }
        }
    }

    /// CloudWatch does not evaluate a service's alarm any more, or does again.
    pub(super) fn set_service_evaluation(&self, target: &TargetId, mode: Option<Evaluation>) {
        let names = self.pipeline.simulation.at(target).rolling_names();
        if let Some(alarm) = names.balancing.as_ref().map(|balancing| balancing.alarm.clone()) {
            let set = self.pipeline.simulation.world(|world| world.set_evaluation(&alarm, mode, "of the day"));
            set.expect("the alarm is there");
        }
    }

    fn protect_tasks(&self, target: &TargetId, tasks: usize, minutes: i64) {
        let (cluster, service) = self.in_place_service(target);
        self.pipeline.simulation.world(|world| {
            let tasks: Vec<String> = world.running_tasks(&cluster, &service).into_iter().take(tasks).collect();
            if tasks.is_empty() {
                return;
            }
            let expires_in_minutes = Some(minutes);
            let request = UpdateTaskProtection { cluster, tasks, protection_enabled: true, expires_in_minutes };
            world.update_task_protection(&request).expect("they run");
        });
    }

    /// Deregisters the version that a rollback would return to.
    fn deregister_before(&self, target: &TargetId) {
        let state = self.pipeline.state(target);
        let running = state.running.as_ref().and_then(|running| running.in_place());
        let before = running.map(|in_place| in_place.before.version.clone());
        if let Some(version) = before.or(state.previous.map(|previous| previous.version)) {
            self.pipeline.simulation.world(|world| world.deregister_task_definition(&version)).expect("it is there");
        }
    }
}

/// The target whose sides an action is about, if it is about those of one.
fn meddled_target(what: &DayAction) -> Option<&TargetId> {
    match what {
        DayAction::EditWeights { target, .. }
        | DayAction::EditDesired { target, .. }
        | DayAction::EditLimits { target, .. }
        | DayAction::KillTasks { target, .. }
        | DayAction::FavourWrongSide { target, .. }
        | DayAction::DegradeSide { target, .. }
        | DayAction::SuspendAlarm { target, .. }
        | DayAction::ResumeAlarm { target, .. }
        | DayAction::ScheduleLimits { target, .. }
        | DayAction::WriteWithoutLease { target } => Some(target),
        _ => None,
    }
}

/// Whether the moment of a tool has come: what is said of a pair's candidate means a version that is set here.
pub(super) fn is_triggered(simulation: &Simulation, target: &TargetId, trigger: ToolTrigger) -> bool {
    let store = simulation.ledger().store();
    let Some(state) = store.peek(target) else { return false };
    let running = state.running.as_ref();
    let is_set = running.and_then(|running| running.in_place()).is_some_and(|in_place| in_place.has_replaced());
    let goes_back = running.is_some_and(|running| running.stage() == Stage::RollingBack);
    match trigger {
        ToolTrigger::NothingRunning => running.is_none() && state.stable.is_some(),
        ToolTrigger::CandidateHasTraffic => is_set && !goes_back,
        ToolTrigger::RollingBack => is_set && goes_back,
        ToolTrigger::CandidateAlarmFires => {
            let balancing = simulation.at(target).rolling_names().balancing.as_ref();
            let fires = |alarm: &str| simulation.world(|world| world.alarm_fires(alarm));
            is_set && balancing.is_some_and(|balancing| fires(&balancing.alarm))
        }
    }
}

pub(super) fn kill_tasks(world: &mut World, cluster: &str, service: &str, most: usize) {
    for task in world.running_tasks(cluster, service).into_iter().take(most) {
        world.kill_task(&task, 137).expect("it runs");
    }
}
