//! What all invocations share: the time and its timers, the budgets, the queues, and the targets' worlds.

use super::Crowd;
use crate::budgets::Budgets;
use crate::world::alarms::AlarmState;
use crate::world::ecs::LastStatus;
use crate::world::scene::{Built, release_of};
use crate::world::{Dice, ImageBehaviour, PairNames, Scene, Settings, What, World, WorldEvent};
use engine::intake::ImagePushed;
use engine::{Wake, Watch};
use rollout::policy::TargetPolicy;
use rollout::{Name, TargetId, Timestamp};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// Milliseconds from a thing's happening until its event's function is invoked.
const EVENT_DELAY_MS: (u64, u64) = (200, 1_500);

/// A target with its world.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) target: TargetId,
    pub(super) names: PairNames,
    world: World,
    /// It is being deployed to: what happens there is noticed when it happens.
    awake: bool,
    /// When it is in the calendar for.
    noted_for: i64,
    /// When the candidate's alarm fired first.
    pub(super) alarm_at: Option<i64>,
    /// When all weight was back on the stable side after that.
    pub(super) back_at: Option<i64>,
}

/// A function to be invoked that is no pass.
#[derive(Debug)]
pub(super) enum Job {
    Signal(Watch),
    Push(ImagePushed),
    Sweep,
}

/// A queue of wakes: by the instant from which each can be received.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) wakes: BTreeMap<(i64, u64), (Wake, u32)>,
    /// The most wakes that could be received and were not, when it was counted once a minute.
    pub(super) longest: usize,
    /// The oldest of them, in milliseconds.
    pub(super) oldest_ms: i64,
    pub(super) passes: u64,
}

#[derive(Debug)]
pub(super) struct Town {
    pub(super) now_ms: i64,
    timers: BTreeMap<(i64, u64), Waker>,
    entries: u64,
    pub(super) budgets: Budgets,
    pub(super) dice: Dice,
    pub(super) homes: Vec<Home>,
    pub(super) whose: HashMap<TargetId, usize>,
    calendar: BinaryHeap<Reverse<(i64, usize)>>,
    pub(super) lanes: [Lane; 2],
    pub(super) jobs: BTreeMap<(i64, u64), Job>,
    pub(super) leases: u64,
}

pub(super) fn instant(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
}

fn name(text: &str) -> Name {
    Name::new(text).expect("the load's own names are names")
}

impl Town {
    /// Sets all scenes, and what was pushed to each.
    pub(super) fn new(crowd: &Crowd) -> (Self, Vec<(TargetId, PairNames, TargetPolicy)>) {
        let mut town = Self {
            now_ms: 0,
            timers: BTreeMap::new(),
            entries: 0,
            budgets: Budgets::scaled(crowd.budgets),
            dice: Dice::new(crowd.seed),
            homes: Vec::with_capacity(crowd.targets),
            whose: HashMap::new(),
            calendar: BinaryHeap::new(),
            lanes: <[Lane; 2]>::default(),
            jobs: BTreeMap::new(),
            leases: 0,
        };
        let mut set = Vec::with_capacity(crowd.targets);
        for number in 0..crowd.targets {
            let application = format!("app-{}", number / crowd.targets_an_application);
            let service = format!("svc-{}", number % crowd.targets_an_application);
            let target = TargetId::new(name(&application), name(&service), name("prod"));
            let scene = Scene { target: target.clone(), ..crowd.scene.clone() };
            let settings = Settings { seed: town.dice.roll(), log_calls: false, ..Settings::default() };
            let Built { mut world, mut policy, names, .. } = scene.build(settings);
            // Most rules have no other beside them for testers.
            policy.pair.test_rule = None;
            if crowd.one_bad_in > 0 && number % crowd.one_bad_in == crowd.one_bad_in / 2 {
                let bad = release_of(&target, &names.repository_uri, 1, world.now());
                world.set_image(&bad.image, ImageBehaviour::failing(0.5));
            }
            town.now_ms = town.now_ms.max(world.now().as_millisecond());
            town.whose.insert(target.clone(), number);
            set.push((target.clone(), names.clone(), policy));
            let home = Home { target, names, world, awake: false, noted_for: i64::MAX, alarm_at: None, back_at: None };
            town.homes.push(home);
        }
        (town, set)
    }

    pub(super) fn now(&self) -> Timestamp {
        instant(self.now_ms)
    }

    pub(super) fn entry(&mut self) -> u64 {
        self.entries += 1;
        self.entries
    }

    /// Wakes `waker` then.
    pub(super) fn call_at(&mut self, at_ms: i64, waker: Waker) {
        let key = (at_ms, self.entry());
        self.timers.insert(key, waker);
    }

    pub(super) fn after(&mut self, milliseconds: u64, job: Job) {
        let at = self.now_ms.saturating_add_unsigned(milliseconds);
        let key = (at, self.entry());
        self.jobs.insert(key, job);
    }

    /// A wake that can be received from then on.
    pub(super) fn wake_at(&mut self, at_ms: i64, lane: usize, wake: Wake, received: u32) {
        let key = (at_ms, self.entry());
        self.lanes[lane].wakes.insert(key, (wake, received));
    }

    /// The next wake of a lane that can be received now.
    pub(super) fn receive(&mut self, lane: usize) -> Option<(Wake, u32)> {
        let now = self.now_ms;
        let lane = &mut self.lanes[lane];
        let first = lane.wakes.first_entry().filter(|first| first.key().0 <= now)?;
        lane.passes += 1;
        Some(first.remove())
    }

    /// Notes how many wakes lie in the queues that could be received.
    pub(super) fn count_backlog(&mut self) {
        let now = self.now_ms;
        for lane in &mut self.lanes {
            let waiting = lane.wakes.range(..=(now, u64::MAX)).count();
            lane.longest = lane.longest.max(waiting);
            let oldest = lane.wakes.keys().next().map_or(0, |(at, _)| now - at);
            lane.oldest_ms = lane.oldest_ms.max(oldest);
        }
    }

    /// The next instant at which something happens by itself; wakes count where a function is free to take them.
    pub(super) fn next_ms(&self, free: [bool; 2]) -> Option<i64> {
        let timer = self.timers.keys().next().map(|(at, _)| *at);
        let job = self.jobs.keys().next().map(|(at, _)| *at);
        let world = self.calendar.peek().map(|Reverse((at, _))| *at);
        let wake = |lane: usize| self.lanes[lane].wakes.keys().next().map(|(at, _)| *at).filter(|_| free[lane]);
        [timer, job, world, wake(0), wake(1)].into_iter().flatten().min()
    }

    /// Lets time pass until then; answers whose timers are over.
    pub(super) fn pass_time(&mut self, until_ms: i64) -> Vec<Waker> {
        self.now_ms = self.now_ms.max(until_ms);
        while let Some(Reverse((at, home))) = self.calendar.peek().copied().filter(|next| next.0.0 <= self.now_ms) {
            self.calendar.pop();
            if self.homes[home].noted_for == at {
                self.homes[home].noted_for = i64::MAX;
                self.visit(home, |_| ());
            }
        }
        let mut over = Vec::new();
        while let Some(first) = self.timers.first_entry().filter(|first| first.key().0 <= self.now_ms) {
            over.push(first.remove());
        }
        over
    }

    /// Something with a target's world, as it is now; what happens there from then on is noticed.
    pub(super) fn visit<T>(&mut self, home: usize, body: impl FnOnce(&mut World) -> T) -> T {
        let now = self.now();
        let found = &mut self.homes[home];
        found.world.advance_to(now);
        let answer = body(&mut found.world);
        for event in found.world.drain_events() {
            self.tell(home, event);
        }
        let found = &mut self.homes[home];
        if found.awake
            && let Some(next) = found.world.next_event_at().map(Timestamp::as_millisecond)
            && next < found.noted_for
        {
            found.noted_for = next;
            self.calendar.push(Reverse((next, home)));
        }
        answer
    }

    /// From now on what happens there is noticed, or is not.
    pub(super) fn set_awake(&mut self, home: usize, awake: bool) {
        self.homes[home].awake = awake;
    }

    /// An event finds its function, as the rules in the template let it through.
    fn tell(&mut self, home: usize, event: WorldEvent) {
        let watch = match event.what {
            What::Alarm { name, now, .. } => {
                let home = &mut self.homes[home];
                if now == AlarmState::Alarm && name == home.names.green_alarm && home.alarm_at.is_none() {
                    home.alarm_at = Some(event.at.as_millisecond());
                }
                Some(Watch::Alarm(name))
            }
            What::Deployment { service, .. } | What::Service { service, .. } => {
                let mut parts = service.rsplit('/').map(str::to_owned);
                parts.next().zip(parts.next()).map(|(service, cluster)| Watch::EcsService(cluster, service))
            }
            What::Task(task) if matches!(task.last_status, LastStatus::Running | LastStatus::Stopped) => {
                let service = task.group.strip_prefix("service:").map(str::to_owned);
                let cluster = task.cluster_arn.rsplit('/').next().map(str::to_owned);
                cluster.zip(service).map(|(cluster, service)| Watch::EcsService(cluster, service))
            }
            What::Task(_) | What::TaskWanted(_) | What::TaskUnwanted { .. } => None,
        };
        if let Some(watch) = watch.filter(|_| self.homes[home].awake) {
            let delay = self.dice.between(EVENT_DELAY_MS.0, EVENT_DELAY_MS.1);
            self.after(delay, Job::Signal(watch));
        }
    }
}

/// A handle on the town, as each invocation has one.
#[derive(Debug, Clone)]
pub(super) struct Hall(Arc<Mutex<Town>>);

impl Hall {
    pub(super) fn new(town: Town) -> Self {
        Self(Arc::new(Mutex::new(town)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Town> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
