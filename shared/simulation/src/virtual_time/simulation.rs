//! The runner: everything that functions are invoked for, in order of virtual time, over one world.

use super::cloud::SimCloud;
use super::faults::{Faults, Struck, mix, number_of};
use super::ports::{SimClock, SimLedger, SimWakeQueue};
use super::recorder::Memory;
use super::registry::SimRegistry;
use super::stage::{Job, PASS, Stage, TELLER};
use super::target::Target;
use super::telling::{SimChannels, tell};
use crate::invariants::{Violation, Watcher};
use crate::ledger::MemoryLedger;
use crate::world::scene::{BuiltApplication, application_policy};
use crate::world::{Built, Dice, PairNames, What, World, WorldEvent};
use engine::intake::{Sweep, edited, image_pushed, signal, sweep};
use engine::recorder::Wanted;
use engine::{Driven, Wake, Watch, drive_recorded};
use futures::future::{FutureExt as _, LocalBoxFuture};
use futures::task::{ArcWake, waker_ref};
use rollout::journal::JournalEntry;
use rollout::policy::Policy;
use rollout::snapshot::ApiCall;
use rollout::stage::Verdict;
use rollout::target::TargetState;
use rollout::{Actor, Command, Instruction, Name, Overrides, Seconds, TargetId, Terms, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

/// How long an invocation may last, in seconds: as the driver's time-out in `template.yaml`.
const TIME_OUT: Seconds = Seconds(60);
/// How much of it a pass is told to leave.
const MARGIN: Seconds = Seconds(2);
/// How long a message stays hidden that was received and not dealt with, in seconds.
const VISIBILITY: Seconds = Seconds(360);
/// Then it goes to the dead-letter queue.
const MOST_RECEIVES: u32 = 5;
/// An asynchronous invocation that failed is tried twice more, a minute apart or so.
const MOST_TRIES: u32 = 3;
/// Milliseconds from a thing's happening until its event's function is invoked.
const EVENT_DELAY_MS: (u64, u64) = (200, 1_500);
/// CloudTrail tells of an API call later than services tell of themselves.
const TRAIL_DELAY_MS: (u64, u64) = (2_000, 300_000);

/// An invocation that goes on.
struct Running {
    job: Job,
    stage: Stage,
    until: Timestamp,
    future: LocalBoxFuture<'static, bool>,
    /// What it waited for has happened.
    woken: Arc<Woken>,
}

/// Whether an invocation is to be polled.
struct Woken(AtomicBool);

impl ArcWake for Woken {
    fn wake_by_ref(woken: &Arc<Self>) {
        woken.0.store(true, Ordering::Relaxed);
    }
}

/// The targets of one application in one world, with everything that drives them.
///
/// Where a method names no target, the first scene's is meant; [`Simulation::at`] looks at any.
pub struct Simulation {
    pub(super) stage: Stage,
    ledger: MemoryLedger,
    /// What things are called, target by target; never empty.
    pub(super) pairs: Vec<(TargetId, PairNames)>,
    running: Vec<Running>,
    asked: u64,
    delivered: Vec<WorldEvent>,
    /// Wakes that failed too often.
    dead_letters: Vec<Wake>,
    recorder: Memory,
    watch: Option<Watcher>,
    violation: Option<Violation>,
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let targets: Vec<String> = self.pairs.iter().map(|(target, _)| target.to_string()).collect();
        f.debug_struct("Simulation").field("targets", &targets).field("running", &self.running.len()).finish()
    }
}

impl Simulation {
    /// Over a scene; its policy is applied.
    #[must_use]
    pub fn new(built: Built, faults: Faults) -> Self {
        let policy = built.application();
        let pairs = vec![(built.target, built.names)];
        Self::of_application(BuiltApplication { world: built.world, pairs, policy }, faults)
    }

    /// Over all scenes of an application; its policy is applied.
    ///
    /// # Panics
    /// Where there is no scene.
    #[must_use]
    pub fn of_application(built: BuiltApplication, faults: Faults) -> Self {
        assert!(!built.pairs.is_empty(), "there is a scene");
        let ledger = MemoryLedger::new();
        let now = built.world.now();
        let applied = ledger.store().apply(&built.policy, "version 1", now, "somebody");
        applied.expect("no other policy is there");
        let stage = Stage::new(built.world, faults);
        let first_minute = now.as_second().div_euclid(60) * 60 + 60;
        stage.lock().enter(Timestamp::from_second(first_minute).unwrap_or(now), Job::Sweep);
        Self {
            stage,
            ledger,
            pairs: built.pairs,
            running: Vec::new(),
            asked: 0,
            delivered: Vec::new(),
            dead_letters: Vec::new(),
            recorder: Memory::default(),
            watch: None,
            violation: None,
        }
    }

    /// From now on every [`invariants`] is looked at after every step. Time stands still where one is broken.
    ///
    /// [`invariants`]: crate::invariants
    pub fn watch(&mut self) {
        let scenery = &mut *self.stage.lock();
        let mut store = self.ledger.store();
        let applied = store.policy(&self.pairs[0].0.application);
        let targets = applied.as_ref().map(|applied| applied.policy.targets()).into_iter().flatten();
        let pairs: Vec<_> = targets.map(|(target, policy)| (target, policy.pair.clone())).collect();
        let pairs = pairs.iter().map(|(target, pair)| (target, pair));
        self.watch = Some(Watcher::over(&mut scenery.world, &mut store, pairs));
        scenery.deeds = Some(Vec::new());
    }

    /// The promise that was broken, if one was.
    #[must_use]
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Looks at what must be so where everything has come to rest, besides.
    pub fn check_rest(&mut self) {
        self.check();
        let now = self.now();
        if self.violation.is_some() {
            return;
        }
        self.violation = self.watch.as_ref().and_then(|watch| watch.rest(now));
        let scenery = self.stage.lock();
        let store = self.ledger.store();
        for (target, _) in self.pairs.iter().filter(|_| scenery.tells) {
            let last = store.peek(target).map_or(0, |state| state.last_entry);
            let untold = || scenery.told.untold(target, last, now, &scenery.chance.struck);
            self.violation = self.violation.take().or_else(untold);
        }
    }

    /// From now on somebody tells the journals to a bus and to topics. Only for a simulation that is watched.
    pub fn tell_journals(&mut self) {
        self.stage.lock().tells = true;
    }

    /// Looks at what has changed.
    fn check(&mut self) {
        let Some(watch) = self.watch.as_mut().filter(|_| self.violation.is_none()) else { return };
        let scenery = &mut *self.stage.lock();
        let deeds = scenery.deeds.as_mut().map(std::mem::take).unwrap_or_default();
        self.violation = watch.look(&mut scenery.world, &mut self.ledger.store(), deeds, &scenery.chance.struck);
        let grown = watch.grown();
        if scenery.tells {
            self.violation = self.violation.take().or(scenery.told.wrong.take());
            for target in grown {
                scenery.streams(&target);
            }
        }
    }

    /// What things are called.
    #[must_use]
    pub fn names(&self) -> &PairNames {
        &self.pairs[0].1
    }

    /// Whose it is.
    #[must_use]
    pub fn target(&self) -> &TargetId {
        &self.pairs[0].0
    }

    /// One of the targets, to be looked at.
    ///
    /// # Panics
    /// Where the application has no such target.
    #[must_use]
    pub fn at(&self, target: &TargetId) -> Target<'_> {
        let found = self.pairs.iter().find(|(known, _)| known == target);
        let (target, names) = found.unwrap_or_else(|| panic!("{target} has no scene"));
        Target { ledger: &self.ledger, target, names }
    }

    /// The target that is meant where none is named.
    fn first(&self) -> Target<'_> {
        self.at(self.target())
    }

    /// The ledger, without faults.
    #[must_use]
    pub fn ledger(&self) -> &MemoryLedger {
        &self.ledger
    }

    /// The ports as one more invocation has them, for what is tried out beside passes. Their futures go on only while
    /// time does: poll, let time pass ([`Simulation::run_for`]), poll again.
    #[must_use]
    pub fn ports(&self) -> (SimLedger, SimCloud, SimWakeQueue, SimClock) {
        let stage = self.stage.invocation("beside", String::new());
        let ledger = SimLedger { stage: stage.clone(), ledger: self.ledger.clone() };
        (ledger, SimCloud { stage: stage.clone() }, SimWakeQueue { stage: stage.clone() }, SimClock { stage })
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.stage.now()
    }

    /// Looks at the world, or changes it as somebody else.
    pub fn world<T>(&self, body: impl FnOnce(&mut World) -> T) -> T {
        self.stage.lock().world.by_hand(body)
    }

    /// Calls of ports that drive passes have made so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.stage.lock().chance.calls
    }

    /// What went wrong so far, by chance or as asked for.
    #[must_use]
    pub fn struck(&self) -> Vec<Struck> {
        self.stage.lock().chance.struck.clone()
    }

    /// All that the world has told the outside.
    #[must_use]
    pub fn events(&self) -> &[WorldEvent] {
        &self.delivered
    }

    /// Wakes that failed too often and were given up.
    #[must_use]
    pub fn dead_letters(&self) -> &[Wake] {
        &self.dead_letters
    }

    /// From now on passes take down what they decide.
    pub fn record(&mut self, wanted: Wanted) {
        self.recorder.wanted = wanted;
    }

    /// What passes have taken down so far: lines of a log, as `switchback replay` reads them.
    #[must_use]
    pub fn recorded(&self) -> Vec<String> {
        self.recorder.lines()
    }

    /// Applies another policy for the target.
    pub fn apply(&self, policy: rollout::TargetPolicy, text: &str) {
        self.apply_policy(&application_policy(self.target(), &self.names().repository, policy), text);
    }

    /// From now on policies can be read, or cannot. A pass reads its target's own rules elsewhere.
    pub fn set_policies_readable(&self, readable: bool) {
        self.stage.lock().policies_unreadable = !readable;
    }

    /// Applies another policy for the application. `text` is what it is known by: a new one is a new version.
    pub fn apply_policy(&self, policy: &Policy, text: &str) {
        let applied = self.ledger.store().apply(policy, text, self.now(), "somebody");
        applied.expect("no other policy is there");
    }

    /// Asks something of the target, as a person.
    pub fn ask(&mut self, instruction: Instruction, reason: &str) {
        let target = self.target().clone();
        self.ask_of(&target, instruction, Actor::Person { name: "operator".to_owned() }, reason);
    }

    /// Asks something of a target, as somebody.
    pub fn ask_of(&mut self, target: &TargetId, instruction: Instruction, actor: Actor, reason: &str) {
        self.asked += 1;
        let request = format!("request-{}", self.asked);
        let now = self.now();
        let command = Command::asked(target.clone(), instruction, actor, reason, &request, now);
        self.ledger.store().put_command(&command);
        self.wake(target);
    }

    /// Wakes a target, now.
    pub fn wake(&mut self, target: &TargetId) {
        let now = self.now();
        self.stage.lock().enter(now, Job::Drive(Wake::of(target.clone()), 1));
    }

    /// Asks for the `number`th release, as a person.
    pub fn ask_deploy(&mut self, number: u64, overrides: Overrides) {
        let deploy = self.deploy(&self.target().service.clone(), number, overrides, Terms::default());
        self.ask(deploy, "");
    }

    /// What asks for the `number`th release of a service. One that was never pushed is pushed now, unnoticed.
    #[must_use]
    pub fn deploy(&self, service: &Name, number: u64, overrides: Overrides, terms: Terms) -> Instruction {
        let pushed_now = self.release_of(service, number, self.now());
        let mut store = self.ledger.store();
        store.put_release(&pushed_now);
        let release = store.release_by_id(&pushed_now.id).unwrap_or(pushed_now);
        let terms = Terms { pushed_at: Some(release.pushed_at), ..terms };
        Instruction::Deploy { release: release.id, image: release.image, tag: release.tag, overrides, terms }
    }

    /// Lets everything happen until `limit`.
    pub fn run_until(&mut self, limit: Timestamp) {
        while self.step(limit) {}
    }

    /// Lets everything happen for so many seconds.
    pub fn run_for(&mut self, seconds: u64) {
        let limit = Seconds(seconds).after(self.now());
        self.run_until(limit);
    }

    /// Lets everything happen until `reached` says so; false: `seconds` passed before.
    pub fn run_until_that(&mut self, seconds: u64, reached: impl Fn(&mut Self) -> bool) -> bool {
        let limit = Seconds(seconds).after(self.now());
        loop {
            if reached(self) {
                return true;
            }
            if !self.step(limit) {
                return reached(self);
            }
        }
    }

    /// Lets everything happen until nothing is asked for, due or going on; false: `seconds` passed before.
    pub fn run_until_rest(&mut self, seconds: u64) -> bool {
        self.run_until_that(seconds, |simulation| simulation.is_at_rest())
    }

    /// Nothing is due, no command waits, no function runs, and no message is on its way.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let quiet = || self.stage.lock().jobs.values().all(|job| matches!(job, Job::Sweep));
        self.running.is_empty() && quiet() && self.ledger.store().is_at_rest()
    }

    /// What is remembered of the target.
    #[must_use]
    pub fn state(&self) -> Option<TargetState> {
        self.first().state()
    }

    /// The name of the stage of the deployment that runs.
    #[must_use]
    pub fn stage_name(&self) -> Option<&'static str> {
        self.first().stage_name()
    }

    /// The target's journal, whole.
    #[must_use]
    pub fn journal(&self) -> Vec<JournalEntry> {
        self.first().journal()
    }

    /// How deployments ended, in their order, with the reasons.
    #[must_use]
    pub fn verdicts(&self) -> Vec<(u64, Verdict, String)> {
        self.first().verdicts()
    }

    /// The journal as lines for people: seconds since the first entry, deployment, fact.
    #[must_use]
    pub fn story(&self) -> String {
        self.first().story()
    }

    /// The stories of all targets.
    #[must_use]
    pub fn stories(&self) -> String {
        self.pairs.iter().map(|(target, _)| format!("{target}\n{}", self.at(target).story())).collect()
    }

    /// One thing happens, not later than `limit`. False: the limit is reached.
    fn step(&mut self, limit: Timestamp) -> bool {
        self.check();
        if self.poll_all() {
            return self.violation.is_none();
        }
        let next = self.stage.lock().next_at().unwrap_or(limit).min(limit);
        let (now, events, ended) = {
            let mut scenery = self.stage.lock();
            let now = scenery.world.advance_until_event(next);
            (now, scenery.world.drain_events(), scenery.ended_calls())
        };
        for waker in ended {
            waker.wake();
        }
        self.check();
        if self.violation.is_some() {
            return false;
        }
        let happened = !events.is_empty();
        for event in events {
            self.deliver(event);
        }
        if now >= next {
            self.begin_jobs(now);
        }
        // A pass that is over its function's time-out is killed where it is.
        for index in (0..self.running.len()).rev() {
            // Who stood still is taken for dead, and may come back: its time-out has not found it.
            if self.running[index].until <= now && !self.running[index].stage.is_forgotten() {
                let killed = self.running.remove(index);
                self.not_done(killed.job, now);
            }
        }
        happened || now < limit || self.stage.lock().calls_end_by(limit)
    }

    /// Polls every invocation that was woken, once; true: one ended.
    fn poll_all(&mut self) -> bool {
        let mut ended = false;
        let mut index = 0;
        while index < self.running.len() {
            let running = &mut self.running[index];
            if !running.woken.0.swap(false, Ordering::Relaxed) {
                index += 1;
                continue;
            }
            let waker = waker_ref(&running.woken);
            let polled = running.future.as_mut().poll(&mut Context::from_waker(&waker));
            let dead = running.stage.is_dead();
            self.check();
            match polled {
                Poll::Pending if !dead => index += 1,
                outcome => {
                    let running = self.running.remove(index);
                    ended = true;
                    if !dead && outcome == Poll::Ready(true) {
                        continue;
                    }
                    let now = self.now();
                    self.not_done(running.job, now);
                }
            }
        }
        ended
    }

    /// An invocation failed, or was killed: what it was for comes again.
    fn not_done(&mut self, job: Job, now: Timestamp) {
        let mut scenery = self.stage.lock();
        match job {
            Job::Drive(wake, received) if received < MOST_RECEIVES => {
                // It was hidden when it was received, a moment ago.
                scenery.enter(VISIBILITY.after(now), Job::Drive(wake, received + 1));
            }
            Job::Drive(wake, _) => self.dead_letters.push(wake),
            Job::Signal(watch, tries) if tries < MOST_TRIES => {
                scenery.enter(Seconds(60).after(now), Job::Signal(watch, tries + 1));
            }
            Job::Push(pushed, tries) if tries < MOST_TRIES => {
                scenery.enter(Seconds(60).after(now), Job::Push(pushed, tries + 1));
            }
            // A stream tries until it is done.
            Job::Tell(target) => scenery.enter(Seconds(5).after(now), Job::Tell(target)),
            Job::Signal(..) | Job::Push(..) | Job::Sweep => {}
        }
    }

    /// An event of the world finds its function: alarms and ECS services are watched, single tasks through theirs.
    fn deliver(&mut self, event: WorldEvent) {
        let watch = match &event.what {
            What::Alarm { name, .. } => Some(Watch::Alarm(name.clone())),
            What::Deployment { service, .. } | What::Service { service, .. } => ecs_service(service),
            What::Task(task) => task.group.strip_prefix("service:").and_then(|service| {
                let cluster = task.cluster_arn.rsplit('/').next()?;
                Some(Watch::EcsService(cluster.to_owned(), service.to_owned()))
            }),
            What::TaskWanted(_) | What::TaskUnwanted { .. } => None,
        };
        if let Some(watch) = watch {
            self.send(watch, EVENT_DELAY_MS);
        }
        self.delivered.push(event);
    }

    /// Somebody has edited a rule where the account has a trail: the API call's event is on its way.
    pub fn tell_of_edit(&self, rule: &str) {
        self.send(Watch::Rule(rule.to_owned()), TRAIL_DELAY_MS);
    }

    /// An event is on its way to its function, as far as events arrive at all.
    fn send(&self, watch: Watch, delay_ms: (u64, u64)) {
        let mut scenery = self.stage.lock();
        let now = scenery.world.now();
        let (whom, told) = match &watch {
            Watch::Alarm(name) => (number_of(name), format!("event of alarm {name}")),
            Watch::EcsService(cluster, service) => {
                (mix(number_of(cluster), number_of(service)), format!("event of service {service} in {cluster}"))
            }
            Watch::Repository(name) => (number_of(name), format!("event of repository {name}")),
            Watch::Rule(arn) => (number_of(arn), format!("API call that changed {arn}")),
        };
        let key = scenery.next_arrival(whom);
        let way = scenery.chance.way(key, now, || told);
        let delay = Dice::new(mix(scenery.chance.faults.seed, key ^ 1)).between(delay_ms.0, delay_ms.1);
        let span = rollout::SignedDuration::from_millis(i64::try_from(delay).unwrap_or(0));
        scenery.send(way, now.checked_add(span).unwrap_or(now), &Job::Signal(watch, 1));
    }

    fn begin_jobs(&mut self, now: Timestamp) {
        loop {
            let due = {
                let mut scenery = self.stage.lock();
                match scenery.jobs.first_key_value() {
                    Some(((at, _), _)) if *at <= now => scenery.jobs.pop_first().map(|(_, job)| job),
                    _ => None,
                }
            };
            let Some(job) = due else { return };
            self.begin(job, now);
        }
    }

    fn begin(&mut self, job: Job, now: Timestamp) {
        let stage = match &job {
            Job::Drive(wake, _) => self.stage.invocation(PASS, wake.target.to_string()),
            Job::Signal(
                Watch::EcsService(_, name) | Watch::Alarm(name) | Watch::Repository(name) | Watch::Rule(name),
                _,
            ) => self.stage.invocation("signal", name.clone()),
            Job::Push(pushed, _) => self.stage.invocation("push", pushed.tag.clone()),
            Job::Sweep => self.stage.invocation("sweep", String::new()),
            Job::Tell(target) => self.stage.invocation(TELLER, target.to_string()),
        };
        let until = TIME_OUT.after(now);
        let leave = Seconds(TIME_OUT.0 - MARGIN.0).after(now);
        let ledger = SimLedger { stage: stage.clone(), ledger: self.ledger.clone() };
        let cloud = SimCloud { stage: stage.clone() };
        let wake_queue = SimWakeQueue { stage: stage.clone() };
        let registry = SimRegistry { stage: stage.clone() };
        let clock = SimClock { stage: stage.clone() };
        let recorder = self.recorder.clone();
        let future = match job.clone() {
            Job::Drive(wake, _) => async move {
                let driven = drive_recorded(&wake, &ledger, &cloud, &wake_queue, &clock, &recorder, leave).await;
                matches!(driven, Ok(Driven::Done | Driven::Busy | Driven::Superseded))
            }
            .boxed_local(),
            // Rules change by API calls only, and CloudTrail tells of those.
            Job::Signal(watch @ Watch::Rule(_), _) => {
                let by = "arn:aws:iam::111122223333:user/somebody-else".to_owned();
                let call = ApiCall { operation: "ModifyRule".to_owned(), by, at: now };
                async move { edited(&ledger, &wake_queue, &watch, &call).await.is_ok() }.boxed_local()
            }
            Job::Signal(watch, _) => async move { signal(&ledger, &wake_queue, &watch).await.is_ok() }.boxed_local(),
            Job::Push(pushed, _) => {
                let own = self.pairs[0].1.registry();
                async move { image_pushed(&ledger, &wake_queue, &pushed, &own, now).await.is_ok() }.boxed_local()
            }
            Job::Tell(target) => {
                let channels = SimChannels { stage: stage.clone() };
                tell(ledger, channels, clock, target, leave).boxed_local()
            }
            Job::Sweep => {
                let minute = u64::try_from(now.as_second() / 60).unwrap_or(0);
                self.stage.lock().enter(Seconds(60).after(now), Job::Sweep);
                let which = Sweep { minute, every: 5, until: leave };
                async move {
                    // What it could not do, the next one does.
                    let _swept = sweep(&ledger, &wake_queue, &registry, &clock, &which).await;
                    true
                }
                .boxed_local()
            }
        };
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        self.running.push(Running { job, stage, until, future, woken });
    }
}

/// `arn:aws:ecs:…:service/CLUSTER/SERVICE`
fn ecs_service(arn: &str) -> Option<Watch> {
    let mut parts = arn.rsplit('/');
    let service = parts.next()?.to_owned();
    Some(Watch::EcsService(parts.next()?.to_owned(), service))
}
