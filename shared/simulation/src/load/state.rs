//! State shared by all invocations: time and timers, budgets, queues, and the targets' worlds.

use super::LoadProfile;
use crate::budgets::Budgets;
use crate::world::alarms::AlarmState;
use crate::world::ecs::LastStatus;
use crate::world::scene::{BuiltPair, release_of};
use crate::world::{ImageBehaviour, PairNames, PairSetup, SeededRng, Settings, World, WorldEvent, WorldEventKind};
use engine::intake::ImagePushed;
use engine::{Wake, WatchedResource};
use rollout::policy::TargetPolicy;
use rollout::{Name, TargetId, Timestamp};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// Delay from an occurrence until its event invokes a function, in milliseconds.
const EVENT_DELAY_MS: (u64, u64) = (200, 1_500);

/// A target and its world.
#[derive(Debug)]
pub(super) struct TargetWorld {
    pub(super) target: TargetId,
    pub(super) names: PairNames,
    world: World,
    /// A deployment is running: the world is advanced as soon as something is due in it.
    active: bool,
    /// The time of its entry in `world_timers`.
    next_timer: i64,
    /// When the candidate's alarm first fired.
    pub(super) alarm_at: Option<i64>,
    /// When all weight was back on the stable side after that.
    pub(super) rolled_back_at: Option<i64>,
}

/// An invocation other than a pass.
#[derive(Debug)]
pub(super) enum Job {
    Signal(WatchedResource),
    Push(ImagePushed),
    Sweep,
}

/// A wake queue, keyed by the instant from which each wake can be received.
#[derive(Debug, Default)]
pub(super) struct WakeLane {
    pub(super) wakes: BTreeMap<(i64, u64), (Wake, u32)>,
    /// Largest number of wakes ready but not received, sampled once a minute.
    pub(super) max_backlog: usize,
    /// Age of the oldest of them, in milliseconds.
    pub(super) max_age_ms: i64,
    pub(super) passes: u64,
}

#[derive(Debug)]
pub(super) struct LoadState {
    pub(super) now_ms: i64,
    timers: BTreeMap<(i64, u64), Waker>,
    sequence: u64,
    pub(super) budgets: Budgets,
    pub(super) rng: SeededRng,
    pub(super) target_worlds: Vec<TargetWorld>,
    pub(super) index_of: HashMap<TargetId, usize>,
    world_timers: BinaryHeap<Reverse<(i64, usize)>>,
    pub(super) lanes: [WakeLane; 2],
    pub(super) jobs: BTreeMap<(i64, u64), Job>,
    pub(super) leases: u64,
}

pub(super) fn instant(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
}

fn name(text: &str) -> Name {
    Name::new(text).expect("the load's own names are names")
}

impl LoadState {
    /// Builds all scenes, and returns each target with its names and policy.
    pub(super) fn new(profile: &LoadProfile) -> (Self, Vec<(TargetId, PairNames, TargetPolicy)>) {
        let mut state = Self {
            now_ms: 0,
            timers: BTreeMap::new(),
            sequence: 0,
            budgets: Budgets::scaled(profile.budgets),
            rng: SeededRng::new(profile.seed),
            target_worlds: Vec::with_capacity(profile.targets),
            index_of: HashMap::new(),
            world_timers: BinaryHeap::new(),
            lanes: <[WakeLane; 2]>::default(),
            jobs: BTreeMap::new(),
            leases: 0,
        };
        let mut set = Vec::with_capacity(profile.targets);
        for number in 0..profile.targets {
            let application = format!("app-{}", number / profile.targets_per_application);
            let service = format!("svc-{}", number % profile.targets_per_application);
            let target = TargetId::new(name(&application), name(&service), name("prod"));
            let scene = PairSetup { target: target.clone(), ..profile.scene.clone() };
            let settings = Settings { seed: state.rng.next_u64(), log_calls: false, ..Settings::default() };
            let BuiltPair { mut world, mut policy, names, .. } = scene.build(settings);
            // Most rules have no test rule beside them.
            policy.resources.traffic.iter_mut().for_each(|leg| leg.test_rule = None);
            if profile.bad_release_every > 0 && number % profile.bad_release_every == profile.bad_release_every / 2 {
                let bad = release_of(&target, &names.repository_uri, 1, world.now());
                world.set_image(&bad.image, ImageBehaviour::failing(0.5));
            }
            state.now_ms = state.now_ms.max(world.now().as_millisecond());
            state.index_of.insert(target.clone(), number);
            set.push((target.clone(), names.clone(), policy));
            let target_world = TargetWorld {
                target,
                names,
                world,
                active: false,
                next_timer: i64::MAX,
                alarm_at: None,
                rolled_back_at: None,
            };
            state.target_worlds.push(target_world);
        }
        (state, set)
    }

    pub(super) fn now(&self) -> Timestamp {
        instant(self.now_ms)
    }

    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Wakes `waker` at `at_ms`.
    pub(super) fn add_timer(&mut self, at_ms: i64, waker: Waker) {
        let key = (at_ms, self.next_sequence());
        self.timers.insert(key, waker);
    }

    pub(super) fn after(&mut self, milliseconds: u64, job: Job) {
        let at = self.now_ms.saturating_add_unsigned(milliseconds);
        let key = (at, self.next_sequence());
        self.jobs.insert(key, job);
    }

    /// Enqueues a wake that can be received from `at_ms` on.
    pub(super) fn wake_at(&mut self, at_ms: i64, lane: usize, wake: Wake, received: u32) {
        let key = (at_ms, self.next_sequence());
        self.lanes[lane].wakes.insert(key, (wake, received));
    }

    /// Receives the next ready wake of a lane.
    pub(super) fn receive(&mut self, lane: usize) -> Option<(Wake, u32)> {
        let now = self.now_ms;
        let lane = &mut self.lanes[lane];
        let first = lane.wakes.first_entry().filter(|first| first.key().0 <= now)?;
        lane.passes += 1;
        Some(first.remove())
    }

    /// Samples the number of ready wakes in both queues.
    pub(super) fn count_backlog(&mut self) {
        let now = self.now_ms;
        for lane in &mut self.lanes {
            let waiting = lane.wakes.range(..=(now, u64::MAX)).count();
            lane.max_backlog = lane.max_backlog.max(waiting);
            let oldest = lane.wakes.keys().next().map_or(0, |(at, _)| now - at);
            lane.max_age_ms = lane.max_age_ms.max(oldest);
        }
    }

    /// The next instant at which something is due; wakes count only in lanes with a free function.
    pub(super) fn next_ms(&self, free: [bool; 2]) -> Option<i64> {
        let timer = self.timers.keys().next().map(|(at, _)| *at);
        let job = self.jobs.keys().next().map(|(at, _)| *at);
        let world = self.world_timers.peek().map(|Reverse((at, _))| *at);
        let wake = |lane: usize| self.lanes[lane].wakes.keys().next().map(|(at, _)| *at).filter(|_| free[lane]);
        [timer, job, world, wake(0), wake(1)].into_iter().flatten().min()
    }

    /// Advances the time to `until_ms`; returns the wakers of expired timers.
    pub(super) fn advance_time(&mut self, until_ms: i64) -> Vec<Waker> {
        self.now_ms = self.now_ms.max(until_ms);
        while let Some(Reverse((at, target_world))) =
            self.world_timers.peek().copied().filter(|next| next.0.0 <= self.now_ms)
        {
            self.world_timers.pop();
            if self.target_worlds[target_world].next_timer == at {
                self.target_worlds[target_world].next_timer = i64::MAX;
                self.with_world(target_world, |_| ());
            }
        }
        let mut expired = Vec::new();
        while let Some(first) = self.timers.first_entry().filter(|first| first.key().0 <= self.now_ms) {
            expired.push(first.remove());
        }
        expired
    }

    /// Runs `body` on a target's world, advanced to the current time, and schedules the world's next event.
    pub(super) fn with_world<T>(&mut self, target_world: usize, body: impl FnOnce(&mut World) -> T) -> T {
        let now = self.now();
        let found = &mut self.target_worlds[target_world];
        found.world.advance_to(now);
        let answer = body(&mut found.world);
        for event in found.world.drain_events() {
            self.dispatch_event(target_world, event);
        }
        let found = &mut self.target_worlds[target_world];
        if found.active
            && let Some(next) = found.world.next_event_at().map(Timestamp::as_millisecond)
            && next < found.next_timer
        {
            found.next_timer = next;
            self.world_timers.push(Reverse((next, target_world)));
        }
        answer
    }

    /// Whether this world is advanced as soon as something is due in it, from now on.
    pub(super) fn set_active(&mut self, target_world: usize, active: bool) {
        self.target_worlds[target_world].active = active;
    }

    /// Invokes the function for an event, filtered as the rules in the template do.
    fn dispatch_event(&mut self, target_world: usize, event: WorldEvent) {
        let watch = match event.what {
            WorldEventKind::Alarm { name, now, .. } => {
                let target_world = &mut self.target_worlds[target_world];
                if now == AlarmState::Alarm && name == target_world.names.green_alarm && target_world.alarm_at.is_none()
                {
                    target_world.alarm_at = Some(event.at.as_millisecond());
                }
                Some(WatchedResource::Alarm(name))
            }
            WorldEventKind::Deployment { service, .. } | WorldEventKind::Service { service, .. } => {
                let mut parts = service.rsplit('/').map(str::to_owned);
                parts.next().zip(parts.next()).map(|(service, cluster)| WatchedResource::EcsService(cluster, service))
            }
            WorldEventKind::Task(task) if matches!(task.last_status, LastStatus::Running | LastStatus::Stopped) => {
                let service = task.group.strip_prefix("service:").map(str::to_owned);
                let cluster = task.cluster_arn.rsplit('/').next().map(str::to_owned);
                cluster.zip(service).map(|(cluster, service)| WatchedResource::EcsService(cluster, service))
            }
            WorldEventKind::Task(_) | WorldEventKind::TaskRequested(_) | WorldEventKind::TaskStopRequested { .. } => {
                None
            }
        };
        if let Some(watch) = watch.filter(|_| self.target_worlds[target_world].active) {
            let delay = self.rng.between(EVENT_DELAY_MS.0, EVENT_DELAY_MS.1);
            self.after(delay, Job::Signal(watch));
        }
    }
}

/// A handle on the shared state; each invocation has one.
#[derive(Debug, Clone)]
pub(super) struct LoadHandle(Arc<Mutex<LoadState>>);

impl LoadHandle {
    pub(super) fn new(state: LoadState) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, LoadState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
