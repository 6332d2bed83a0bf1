//! What all ports share: the world, the jobs that wait, and the timers of calls that take time.

use super::faults::{Chance, Fate, Faults, Kind, Moment, STALE_MS, Way, mix, number_of};
use super::past::Past;
use super::telling::Told;
use crate::world::World;
use engine::intake::ImagePushed;
use engine::{LeaseId, LedgerError, Overdue, PushedImage, Wake, Watch};
use rollout::promotion::ImageState;
use rollout::snapshot::Weights;
use rollout::{Effect, SignedDuration, TargetId, Timestamp};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

/// Something that a function will be invoked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Job {
    /// A wake, received this many times.
    Drive(Wake, u32),
    /// An event that names something, tried this many times.
    Signal(Watch, u32),
    /// An image was pushed, tried this many times.
    Push(ImagePushed, u32),
    /// The minute's sweep.
    Sweep,
    /// A target's journal has grown, and is told.
    Tell(TargetId),
}

/// What an invocation of the driver is called.
pub(super) const PASS: &str = "drive";
/// What an invocation of the notifier is called.
pub(super) const TELLER: &str = "tell";

/// What a pass saw or did.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Deed {
    /// It looked at a pair.
    Looked {
        /// The first of its rules: whose pair it is.
        rule: String,
        /// Its holding.
        lease: Option<LeaseId>,
        /// Running tasks of blue and green, where they were read.
        running: [Option<u32>; 2],
        /// Healthy targets of blue and green, where they were read.
        healthy: [Option<u32>; 2],
        /// The weights of each rule, where they were read.
        rules: Vec<Option<Weights>>,
        /// The alarms that were seen firing.
        firing: Vec<String>,
    },
    /// It made something so.
    Performed {
        /// The first of the pair's rules.
        rule: String,
        /// Its holding.
        lease: Option<LeaseId>,
        /// What.
        effect: Effect,
    },
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
    /// Digests of images that cannot be pulled any more: deleted, or archived.
    pub(super) withdrawn: BTreeMap<String, ImageState>,
    /// What was so before the last writes: for readings that lag behind.
    pub(super) past: Past,
    /// How often somebody was invoked, by whom.
    turns: BTreeMap<u64, u64>,
    /// What was told of the journals.
    pub(super) told: Told,
    /// Whether somebody tells the journals.
    pub(super) tells: bool,
    /// What passes saw and did, kept while somebody watches.
    pub(super) deeds: Option<Vec<Deed>>,
    /// No policy can be read.
    pub(super) policies_unreadable: bool,
}

impl Scenery {
    pub(super) fn enter(&mut self, at: Timestamp, job: Job) {
        self.entered += 1;
        self.jobs.insert((at, self.entered), job);
    }

    /// Sends a job off that is due at `at`, and lets its way do to it what it does.
    pub(super) fn send(&mut self, way: Way, at: Timestamp, job: &Job) {
        if way.lost {
            return;
        }
        let at = later(at, way.late_ms);
        self.enter(at, job.clone());
        if way.doubled {
            self.enter(later(at, 1_000), job.clone());
        }
    }

    /// What the dice of the next thing that comes to somebody from outside are thrown from.
    pub(super) fn next_arrival(&mut self, whom: u64) -> u64 {
        let turn = self.turns.entry(whom).or_default();
        *turn += 1;
        mix(whom, *turn)
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

/// Where calls of ports take their time and meet their fate.
pub(crate) trait Calls: Sync {
    /// One call: `apply`, or what `failed` makes of the reason why not.
    fn call<T: Send>(
        &self,
        name: &'static str,
        apply: impl FnOnce() -> T + Send,
        failed: impl FnOnce(&'static str) -> T + Send,
    ) -> impl Future<Output = T> + Send;

    /// The answer of the index of what is overdue, which may lag behind its table.
    fn overdue(
        &self,
        read: impl FnOnce() -> Vec<Overdue> + Send,
        failed: impl FnOnce(&'static str) -> Result<Vec<Overdue>, LedgerError> + Send,
    ) -> impl Future<Output = Result<Vec<Overdue>, LedgerError>> + Send {
        self.call("overdue", || Ok(read()), failed)
    }

    /// Whether policies can be read.
    fn policies_are_readable(&self) -> bool {
        true
    }
}

impl Calls for Stage {
    async fn call<T: Send>(
        &self,
        name: &'static str,
        apply: impl FnOnce() -> T + Send,
        failed: impl FnOnce(&'static str) -> T + Send,
    ) -> T {
        Self::call(self, name, apply, failed).await
    }

    async fn overdue(
        &self,
        read: impl FnOnce() -> Vec<Overdue> + Send,
        failed: impl FnOnce(&'static str) -> Result<Vec<Overdue>, LedgerError> + Send,
    ) -> Result<Vec<Overdue>, LedgerError> {
        let read = || {
            let found = read();
            let mut scenery = self.lock();
            if scenery.chance.faults.stale > 0.0 {
                scenery.past.overdue = Some(found.clone());
            }
            Ok(found)
        };
        // It may answer what it answered the last time.
        let before = |past: &Past| past.overdue.clone().map(Ok);
        self.call_or_stale("overdue", read, before, failed).await
    }

    fn policies_are_readable(&self) -> bool {
        !self.lock().policies_unreadable
    }
}

/// A handle on what is shared, as one invocation has it.
#[derive(Debug, Clone)]
pub struct Stage {
    scenery: Arc<Mutex<Scenery>>,
    who: Arc<Who>,
}

/// One invocation.
#[derive(Debug)]
struct Who {
    /// What of.
    what: &'static str,
    /// For what.
    whom: String,
    /// The how-many-th of this kind.
    turn: u64,
    /// All of that as one number, for dice.
    key: u64,
    /// It can be killed, and can stand still.
    of_a_pass: bool,
    /// Its calls so far.
    calls: AtomicU64,
    /// How much its clock is off.
    skew: SignedDuration,
    /// It was killed: nothing of it goes on.
    dead: AtomicBool,
    /// It stood still once, and does not know: its time-out does not find it.
    forgotten: AtomicBool,
    /// The holding that it took.
    lease: OnceLock<LeaseId>,
}

impl Who {
    fn label(&self, call: &str) -> String {
        format!("{} {} ({}): {call}", self.what, self.whom, self.turn)
    }
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
            withdrawn: BTreeMap::new(),
            past: Past::default(),
            turns: BTreeMap::new(),
            told: Told::default(),
            tells: false,
            deeds: None,
            policies_unreadable: false,
        };
        let who = Who::new("nobody", String::new(), 0, SignedDuration::ZERO);
        Self { scenery: Arc::new(Mutex::new(scenery)), who: Arc::new(who) }
    }

    /// The handle of another invocation: of what, and for what.
    pub(super) fn invocation(&self, what: &'static str, whom: String) -> Self {
        let (turn, skew_ms) = {
            let mut scenery = self.lock();
            let key = mix(number_of(what), number_of(&whom));
            let turn = scenery.turns.entry(key).or_default();
            *turn += 1;
            let turn = *turn;
            (turn, scenery.chance.skew_ms(mix(key, turn)))
        };
        let who = Who::new(what, whom, turn, SignedDuration::from_millis(skew_ms));
        Self { scenery: Arc::clone(&self.scenery), who: Arc::new(who) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Scenery> {
        self.scenery.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_dead(&self) -> bool {
        self.who.dead.load(Ordering::Relaxed)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.lock().world.now()
    }

    /// The time as the invocation's own clock has it.
    pub(super) fn clock(&self) -> Timestamp {
        let now = self.now();
        now.checked_add(self.who.skew).unwrap_or(now)
    }

    /// It stood still, and its time-out has not found it.
    pub(super) fn is_forgotten(&self) -> bool {
        self.who.forgotten.load(Ordering::Relaxed)
    }

    /// Notes the holding that the invocation takes: its first one.
    pub(super) fn takes(&self, lease: &LeaseId) {
        self.who.lease.get_or_init(|| lease.clone());
    }

    /// The holding that the invocation took.
    pub(super) fn lease(&self) -> Option<&LeaseId> {
        self.who.lease.get()
    }

    /// What the next call's dice are thrown from.
    pub(super) fn next_key(&self) -> u64 {
        mix(self.who.key, self.who.calls.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn label(&self, call: &str) -> String {
        self.who.label(call)
    }

    /// One call of a port: it takes its time, and is done or not as its fate will have it.
    pub(super) async fn call<T>(
        &self,
        name: &'static str,
        apply: impl FnOnce() -> T,
        failed: impl FnOnce(&'static str) -> T,
    ) -> T {
        self.call_or_stale(name, apply, |_| None, failed).await
    }

    /// The same for what may also be answered as it was before.
    pub(super) async fn call_or_stale<T>(
        &self,
        name: &'static str,
        apply: impl FnOnce() -> T,
        before: impl FnOnce(&Past) -> Option<T>,
        failed: impl FnOnce(&'static str) -> T,
    ) -> T {
        if self.is_dead() {
            return std::future::pending().await;
        }
        let key = self.next_key();
        let (fate, now, until) = {
            let mut scenery = self.lock();
            let now = scenery.world.now();
            let kind = if self.who.of_a_pass { Kind::OfAPass } else { Kind::Other };
            let (fate, takes_ms) = scenery.chance.next(key, now, kind, || self.label(name));
            (fate, now, later(now, takes_ms))
        };
        if fate == Fate::Crash(Moment::Before) {
            self.die();
            return std::future::pending().await;
        }
        if let Fate::Frozen(..) = fate {
            self.who.forgotten.store(true, Ordering::Relaxed);
        }
        if let Fate::Frozen(Moment::Before, stands_ms) = fate {
            // The call's own time-out is over when it goes on: nothing was sent.
            Until { stage: self, at: later(now, stands_ms), waits: None }.await;
            return failed("no answer came in time");
        }
        Until { stage: self, at: until, waits: None }.await;
        match fate {
            Fate::Fine => apply(),
            Fate::LostAnswer => {
                apply();
                failed("no answer came: the connection was closed")
            }
            Fate::Unavailable => failed("the service could not be reached"),
            Fate::Throttled => failed("ThrottlingException: Rate exceeded"),
            Fate::TimedOut(moment) => {
                if moment == Moment::After {
                    apply();
                }
                failed("no answer came in time")
            }
            Fate::Stale => {
                let mut scenery = self.lock();
                let found = before(&scenery.past);
                if found.is_some() {
                    let now = scenery.world.now();
                    scenery.chance.was_stale(key, now, self.label(name));
                }
                drop(scenery);
                found.unwrap_or_else(apply)
            }
            Fate::Frozen(_, stands_ms) => {
                let answer = apply();
                Until { stage: self, at: later(until, stands_ms), waits: None }.await;
                answer
            }
            Fate::Crash(_) => {
                apply();
                self.die();
                std::future::pending().await
            }
        }
    }

    /// What becomes of a reading that is one of many in a look: no time passes. `before` finds what was so before the
    /// last write, and when that was.
    pub(super) fn reading<T>(
        &self,
        name: &'static str,
        before: impl FnOnce(&Past) -> Option<(Timestamp, T)>,
        read: impl FnOnce(&mut World) -> Result<T, String>,
    ) -> Result<T, String> {
        let key = self.next_key();
        let mut scenery = self.lock();
        let now = scenery.world.now();
        let (fate, _) = scenery.chance.next(key, now, Kind::Reading, || self.label(name));
        match fate {
            Fate::Fine => read(&mut scenery.world),
            Fate::Stale => {
                let lags = |at: Timestamp| now.duration_since(at).as_millis() <= i128::from(STALE_MS);
                match before(&scenery.past).filter(|(written_at, _)| lags(*written_at)) {
                    Some((_, stale)) => {
                        scenery.chance.was_stale(key, now, self.label(name));
                        Ok(stale)
                    }
                    None => read(&mut scenery.world),
                }
            }
            Fate::Throttled => Err("ThrottlingException: Rate exceeded".to_owned()),
            _ => Err("no answer came".to_owned()),
        }
    }

    fn die(&self) {
        self.who.dead.store(true, Ordering::Relaxed);
    }
}

impl Who {
    fn new(what: &'static str, whom: String, turn: u64, skew: SignedDuration) -> Self {
        let key = mix(mix(number_of(what), number_of(&whom)), turn);
        Self {
            what,
            whom,
            turn,
            key,
            of_a_pass: what == PASS || what == TELLER,
            calls: AtomicU64::new(0),
            skew,
            dead: AtomicBool::new(false),
            forgotten: AtomicBool::new(false),
            lease: OnceLock::new(),
        }
    }
}

fn later(at: Timestamp, ms: u64) -> Timestamp {
    at.checked_add(SignedDuration::from_millis(i64::try_from(ms).unwrap_or(0))).unwrap_or(at)
}

/// Waits for an instant of virtual time.
struct Until<'a> {
    stage: &'a Stage,
    at: Timestamp,
    /// Who is woken then.
    waits: Option<Waker>,
}

impl Future for Until<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.stage.is_dead() {
            return Poll::Pending;
        }
        let mut scenery = self.stage.lock();
        if scenery.world.now() >= self.at {
            return Poll::Ready(());
        }
        // Once for each who waits, however often they look meanwhile.
        if !self.waits.as_ref().is_some_and(|waits| waits.will_wake(context.waker())) {
            scenery.timers.entry(self.at).or_default().push(context.waker().clone());
            drop(scenery);
            self.waits = Some(context.waker().clone());
        }
        Poll::Pending
    }
}
