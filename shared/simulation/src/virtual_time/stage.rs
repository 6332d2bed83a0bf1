//! What all ports share: the world, the jobs that wait, and the timers of calls that take time.

use super::faults::{Chance, Fate, Faults, Moment};
use crate::world::World;
use engine::intake::ImagePushed;
use engine::{PushedImage, Ring, Watch};
use rollout::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Something that a function will be invoked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Job {
    /// A wake, received this many times.
    Drive(Ring, u32),
    /// An event that names something, tried this many times.
    Signal(Watch, u32),
    /// An image was pushed, tried this many times.
    Push(ImagePushed, u32),
    /// The minute's sweep.
    Sweep,
}

/// What all ports share.
#[derive(Debug)]
pub(super) struct Scenery {
    pub(super) world: World,
    pub(super) chance: Chance,
    pub(super) jobs: BTreeMap<(Timestamp, u64), Job>,
    entered: u64,
    /// Calls that go on, by when they end.
    timers: BTreeMap<Timestamp, Vec<Waker>>,
    pub(super) leases: u64,
    /// Images that the registry holds, by repository.
    pub(super) images: BTreeMap<String, Vec<PushedImage>>,
    /// No policy can be read.
    pub(super) policies_unreadable: bool,
}

impl Scenery {
    pub(super) fn enter(&mut self, at: Timestamp, job: Job) {
        self.entered += 1;
        self.jobs.insert((at, self.entered), job);
    }

    /// The next instant at which a job begins or a call ends.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        let job = self.jobs.keys().next().map(|(at, _)| *at);
        let timer = self.timers.keys().next().copied();
        match (job, timer) {
            (Some(job), Some(timer)) => Some(job.min(timer)),
            (job, timer) => job.or(timer),
        }
    }
}

impl Scenery {
    /// Whose calls have ended: to be woken once nothing is locked any more.
    pub(super) fn ended_calls(&mut self) -> Vec<Waker> {
        let now = self.world.now();
        let mut ended = Vec::new();
        while let Some(entry) = self.timers.first_entry().filter(|entry| *entry.key() <= now) {
            ended.extend(entry.remove());
        }
        ended
    }

    /// Whether a call ends at `limit` or before.
    pub(super) fn calls_end_by(&self, limit: Timestamp) -> bool {
        self.timers.keys().next().is_some_and(|at| *at <= limit)
    }
}

/// A handle on what is shared, as one invocation has it.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    scenery: Arc<Mutex<Scenery>>,
    /// This invocation was killed: nothing of it goes on.
    dead: Arc<AtomicBool>,
    /// It is a drive pass.
    of_a_pass: bool,
}

impl Stage {
    pub(super) fn new(world: World, faults: Faults) -> Self {
        let scenery = Scenery {
            world,
            chance: Chance::new(faults),
            jobs: BTreeMap::new(),
            entered: 0,
            timers: BTreeMap::new(),
            leases: 0,
            images: BTreeMap::new(),
            policies_unreadable: false,
        };
        Self { scenery: Arc::new(Mutex::new(scenery)), dead: Arc::default(), of_a_pass: false }
    }

    /// The handle of another invocation.
    pub(super) fn invocation(&self, of_a_pass: bool) -> Self {
        Self { scenery: Arc::clone(&self.scenery), dead: Arc::default(), of_a_pass }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Scenery> {
        self.scenery.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.lock().world.now()
    }

    /// One call of a port: it takes its time, and is done or not as its fate will have it.
    pub(super) async fn call<T>(&self, apply: impl FnOnce() -> T, failed: impl FnOnce(&'static str) -> T) -> T {
        if self.is_dead() {
            return std::future::pending().await;
        }
        let (fate, until) = {
            let mut scenery = self.lock();
            let now = scenery.world.now();
            let (fate, takes_ms) = scenery.chance.next(now, self.of_a_pass);
            let span = SignedDuration::from_millis(i64::try_from(takes_ms).unwrap_or(0));
            (fate, now.checked_add(span).unwrap_or(now))
        };
        if fate == Fate::Crash(Moment::Before) {
            self.die();
            return std::future::pending().await;
        }
        Until { stage: self, at: until }.await;
        match fate {
            Fate::Fine => apply(),
            Fate::LostAnswer => {
                apply();
                failed("no answer came: the connection was closed")
            }
            Fate::Unavailable => failed("the service could not be reached"),
            Fate::Throttled => failed("ThrottlingException: Rate exceeded"),
            Fate::Crash(_) => {
                apply();
                self.die();
                std::future::pending().await
            }
        }
    }

    /// What becomes of a reading that is one of many in a look: no time passes.
    pub(super) fn reading<T>(&self, read: impl FnOnce(&mut World) -> Result<T, String>) -> Result<T, String> {
        let mut scenery = self.lock();
        let now = scenery.world.now();
        let (fate, _) = scenery.chance.next(now, false);
        match fate {
            Fate::Fine => read(&mut scenery.world),
            Fate::Throttled => Err("ThrottlingException: Rate exceeded".to_owned()),
            _ => Err("no answer came".to_owned()),
        }
    }

    fn die(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }
}

/// Waits for an instant of virtual time.
struct Until<'a> {
    stage: &'a Stage,
    at: Timestamp,
}

impl Future for Until<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.stage.is_dead() {
            return Poll::Pending;
        }
        let mut scenery = self.stage.lock();
        if scenery.world.now() >= self.at {
            return Poll::Ready(());
        }
        // The runner polls everybody anyway; what waits for several things at once polls only what was woken.
        scenery.timers.entry(self.at).or_default().push(context.waker().clone());
        Poll::Pending
    }
}
