//! The runner: all function invocations on one world, in order of virtual time.

use super::cloud::SimCloud;
use super::faults::{Faults, InjectedFault, fnv1a, mix};
use super::notifications::{SimChannels, deliver};
use super::ports::{SimClock, SimLedger, SimWakeQueue};
use super::recorder::MemoryRecorder;
use super::registry::SimRegistry;
use super::stage::{DRIVER, Job, NOTIFIER, SimContext};
use super::target::TargetView;
use crate::invariants::{Violation, Watcher};
use crate::ledger::MemoryLedger;
use crate::world::scene::{BuiltApplication, application_policy};
use crate::world::{BuiltPair, PairNames, SeededRng, World, WorldEvent, WorldEventKind};
use engine::intake::{Sweep, image_pushed, resource_edited, signal, sweep};
use engine::recorder::RecordingLevel;
use engine::{DriveOutcome, Wake, WatchedResource, drive_recorded};
use futures::future::{FutureExt as _, LocalBoxFuture};
use futures::task::{ArcWake, waker_ref};
use rollout::journal::JournalEntry;
use rollout::policy::Policy;
use rollout::snapshot::ApiCall;
use rollout::target::TargetState;
use rollout::verdict::Verdict;
use rollout::{Actor, Command, DeployOptions, Instruction, Name, Overrides, Seconds, TargetId, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

/// Maximum duration of an invocation, in seconds: the driver's time-out in `template.yaml`.
const FUNCTION_TIMEOUT: Seconds = Seconds(60);
/// Margin before the time-out that a pass is told to leave.
const MARGIN: Seconds = Seconds(2);
/// SQS visibility time-out: a received message that was not processed stays hidden for this long, in seconds.
const VISIBILITY: Seconds = Seconds(360);
/// After this many receives a wake is moved to the dead-letter queue.
const MAX_RECEIVES: u32 = 5;
/// A failed asynchronous invocation is retried twice, about a minute apart.
const MAX_TRIES: u32 = 3;
/// Delay from an occurrence until its event invokes a function, in milliseconds.
const EVENT_DELAY_MS: (u64, u64) = (200, 1_500);
/// CloudTrail delivers API call events later than the services deliver theirs.
const CLOUDTRAIL_DELAY_MS: (u64, u64) = (2_000, 300_000);

/// An invocation in progress.
struct RunningInvocation {
    job: Job,
    stage: SimContext,
    until: Timestamp,
    future: LocalBoxFuture<'static, bool>,
    /// Set when the invocation can make progress.
    ready: Arc<ReadyFlag>,
}

/// Whether an invocation is to be polled.
struct ReadyFlag(AtomicBool);

impl ArcWake for ReadyFlag {
    fn wake_by_ref(ready: &Arc<Self>) {
        ready.0.store(true, Ordering::Relaxed);
    }
}

/// All targets of one application in one world, with everything that drives them.
///
/// Methods without a target parameter refer to the first scene's target; [`Simulation::at`] views any.
pub struct Simulation {
    pub(super) stage: SimContext,
    ledger: MemoryLedger,
    /// Names of each target's resources; never empty.
    pub(super) pairs: Vec<(TargetId, PairNames)>,
    running: Vec<RunningInvocation>,
    asked: u64,
    delivered: Vec<WorldEvent>,
    /// Wakes moved to the dead-letter queue.
    dead_letters: Vec<Wake>,
    recorder: MemoryRecorder,
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
    /// A simulation of one scene, with its policy applied.
    #[must_use]
    pub fn new(built: BuiltPair, faults: Faults) -> Self {
        let policy = built.application();
        let pairs = vec![(built.target, built.names)];
        Self::of_application(BuiltApplication { world: built.world, pairs, policy }, faults)
    }

    /// A simulation of all scenes of an application, with its policy applied.
    ///
    /// # Panics
    /// If there is no scene.
    #[must_use]
    pub fn of_application(built: BuiltApplication, faults: Faults) -> Self {
        assert!(!built.pairs.is_empty(), "there is a scene");
        let ledger = MemoryLedger::new();
        let now = built.world.now();
        let applied = ledger.store().apply(&built.policy, "version 1", now, "somebody");
        applied.expect("no other policy is there");
        let stage = SimContext::new(built.world, faults);
        let first_minute = now.as_second().div_euclid(60) * 60 + 60;
        stage.lock().schedule(Timestamp::from_second(first_minute).unwrap_or(now), Job::Sweep);
        Self {
            stage,
            ledger,
            pairs: built.pairs,
            running: Vec::new(),
            asked: 0,
            delivered: Vec::new(),
            dead_letters: Vec::new(),
            recorder: MemoryRecorder::default(),
            watch: None,
            violation: None,
        }
    }

    /// From now on all [`invariants`] are checked after every step. Time stops at the first violation.
    ///
    /// [`invariants`]: crate::invariants
    pub fn watch(&mut self) {
        let shared = &mut *self.stage.lock();
        let mut store = self.ledger.store();
        let applied = store.policy(&self.pairs[0].0.application);
        let targets = applied.as_ref().map(|applied| applied.policy.targets()).into_iter().flatten();
        let pairs: Vec<_> = targets.map(|(target, policy)| (target, policy.pair.clone())).collect();
        let pairs = pairs.iter().map(|(target, pair)| (target, pair));
        self.watch = Some(Watcher::attach(&mut shared.world, &mut store, pairs));
        shared.pass_events = Some(Vec::new());
    }

    /// The first violation, if any.
    #[must_use]
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Also checks the invariants that hold once nothing is due any more.
    pub fn check_when_idle(&mut self) {
        self.check();
        let now = self.now();
        if self.violation.is_some() {
            return;
        }
        self.violation = self.watch.as_ref().and_then(|watch| watch.check_idle(now));
        let shared = self.stage.lock();
        let store = self.ledger.store();
        for (target, _) in self.pairs.iter().filter(|_| shared.notifies) {
            let last = store.peek(target).map_or(0, |state| state.last_entry);
            let undelivered = || shared.notified.undelivered(target, last, now, &shared.injector.injected);
            self.violation = self.violation.take().or_else(undelivered);
        }
    }

    /// From now on journals are delivered to an event bus and to topics. Requires [`Simulation::watch`].
    pub fn enable_notifications(&mut self) {
        self.stage.lock().notifies = true;
    }

    /// Checks what has changed.
    fn check(&mut self) {
        let Some(watch) = self.watch.as_mut().filter(|_| self.violation.is_none()) else { return };
        let shared = &mut *self.stage.lock();
        let pass_events = shared.pass_events.as_mut().map(std::mem::take).unwrap_or_default();
        self.violation =
            watch.check(&mut shared.world, &mut self.ledger.store(), pass_events, &shared.injector.injected);
        let take_grown_targets = watch.take_grown_targets();
        if shared.notifies {
            self.violation = self.violation.take().or(shared.notified.violation.take());
            for target in take_grown_targets {
                shared.stream_journal(&target);
            }
        }
    }

    /// Resource names of the first target.
    #[must_use]
    pub fn names(&self) -> &PairNames {
        &self.pairs[0].1
    }

    /// The first target.
    #[must_use]
    pub fn target(&self) -> &TargetId {
        &self.pairs[0].0
    }

    /// A view of one target.
    ///
    /// # Panics
    /// If the application has no such target.
    #[must_use]
    pub fn at(&self, target: &TargetId) -> TargetView<'_> {
        let found = self.pairs.iter().find(|(known, _)| known == target);
        let (target, names) = found.unwrap_or_else(|| panic!("{target} has no scene"));
        TargetView { ledger: &self.ledger, target, names }
    }

    /// The target of methods without a target parameter.
    fn first(&self) -> TargetView<'_> {
        self.at(self.target())
    }

    /// The ledger, without faults.
    #[must_use]
    pub fn ledger(&self) -> &MemoryLedger {
        &self.ledger
    }

    /// The ports as an additional invocation sees them, for tests outside of passes. Their futures progress only with
    /// virtual time: poll, advance the time ([`Simulation::run_for`]), poll again.
    #[must_use]
    pub fn ports(&self) -> (SimLedger, SimCloud, SimWakeQueue, SimClock) {
        let stage = self.stage.invocation("beside", String::new());
        let ledger = SimLedger { stage: stage.clone(), ledger: self.ledger.clone() };
        (ledger, SimCloud { stage: stage.clone() }, SimWakeQueue { stage: stage.clone() }, SimClock { stage })
    }

    /// The current virtual time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.stage.now()
    }

    /// Reads the world, or changes it as a third party.
    pub fn world<T>(&self, body: impl FnOnce(&mut World) -> T) -> T {
        self.stage.lock().world.by_hand(body)
    }

    /// Number of port calls made by drive passes so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.stage.lock().injector.calls
    }

    /// All faults so far, random or requested.
    #[must_use]
    pub fn injected(&self) -> Vec<InjectedFault> {
        self.stage.lock().injector.injected.clone()
    }

    /// All events that the world has emitted.
    #[must_use]
    pub fn events(&self) -> &[WorldEvent] {
        &self.delivered
    }

    /// Wakes that exceeded their receives and were moved to the dead-letter queue.
    #[must_use]
    pub fn dead_letters(&self) -> &[Wake] {
        &self.dead_letters
    }

    /// From now on passes record their decisions at this level.
    pub fn record(&mut self, wanted: RecordingLevel) {
        self.recorder.wanted = wanted;
    }

    /// Decision records so far: log lines as `switchback replay` reads them.
    #[must_use]
    pub fn recorded(&self) -> Vec<String> {
        self.recorder.lines()
    }

    /// Replaces the target's policy.
    pub fn apply(&self, policy: rollout::TargetPolicy, text: &str) {
        self.apply_policy(&application_policy(self.target(), &self.names().repository, policy), text);
    }

    /// Makes policies readable or unreadable from now on. A pass reads its target's own rules elsewhere.
    pub fn set_policies_readable(&self, readable: bool) {
        self.stage.lock().policies_unreadable = !readable;
    }

    /// Replaces the application's policy. `text` identifies it: a new text is a new version.
    pub fn apply_policy(&self, policy: &Policy, text: &str) {
        let applied = self.ledger.store().apply(policy, text, self.now(), "somebody");
        applied.expect("no other policy is there");
    }

    /// Sends a command to the first target, as a person.
    pub fn ask(&mut self, instruction: Instruction, reason: &str) {
        let target = self.target().clone();
        self.ask_of(&target, instruction, Actor::Person { name: "operator".to_owned() }, reason);
    }

    /// Sends a command to a target, as `actor`.
    pub fn ask_of(&mut self, target: &TargetId, instruction: Instruction, actor: Actor, reason: &str) {
        self.asked += 1;
        let request = format!("request-{}", self.asked);
        let now = self.now();
        let command = Command::asked(target.clone(), instruction, actor, reason, &request, now);
        self.ledger.store().put_command(&command);
        self.wake(target);
    }

    /// Sends a wake for a target, now.
    pub fn wake(&mut self, target: &TargetId) {
        let now = self.now();
        self.stage.lock().schedule(now, Job::Drive(Wake::of(target.clone()), 1));
    }

    /// Requests a deployment of the `number`th release, as a person.
    pub fn ask_deploy(&mut self, number: u64, overrides: Overrides) {
        let deploy = self.deploy(&self.target().service.clone(), number, overrides, DeployOptions::default());
        self.ask(deploy, "");
    }

    /// The instruction to deploy the `number`th release of a service. A release that was never pushed is pushed now,
    /// without an event.
    #[must_use]
    pub fn deploy(&self, service: &Name, number: u64, overrides: Overrides, options: DeployOptions) -> Instruction {
        let pushed_now = self.release_of(service, number, self.now());
        let mut store = self.ledger.store();
        store.put_release(&pushed_now);
        let release = store.release_by_id(&pushed_now.id).unwrap_or(pushed_now);
        let options = DeployOptions { pushed_at: Some(release.pushed_at), ..options };
        Instruction::Deploy { release: release.id, image: release.image, tag: release.tag, overrides, options }
    }

    /// Runs until `limit`.
    pub fn run_until(&mut self, limit: Timestamp) {
        while self.step(limit) {}
    }

    /// Runs for this many seconds.
    pub fn run_for(&mut self, seconds: u64) {
        let limit = Seconds(seconds).after(self.now());
        self.run_until(limit);
    }

    /// Runs until `reached` returns true; false: `seconds` passed before that.
    pub fn run_until_condition(&mut self, seconds: u64, reached: impl Fn(&mut Self) -> bool) -> bool {
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

    /// Runs until [`Simulation::is_idle`]; false: `seconds` passed before that.
    pub fn run_until_idle(&mut self, seconds: u64) -> bool {
        self.run_until_condition(seconds, |simulation| simulation.is_idle())
    }

    /// Nothing is due, no command waits, no function runs, and no message is in transit.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let only_sweeps_left = || self.stage.lock().jobs.values().all(|job| matches!(job, Job::Sweep));
        self.running.is_empty() && only_sweeps_left() && self.ledger.store().is_idle()
    }

    /// Stored state of the first target.
    #[must_use]
    pub fn state(&self) -> Option<TargetState> {
        self.first().state()
    }

    /// Name of the running deployment's stage.
    #[must_use]
    pub fn stage_name(&self) -> Option<&'static str> {
        self.first().stage_name()
    }

    /// The first target's whole journal.
    #[must_use]
    pub fn journal(&self) -> Vec<JournalEntry> {
        self.first().journal()
    }

    /// Number, verdict and reason of each deployment that has ended, in order.
    #[must_use]
    pub fn verdicts(&self) -> Vec<(u64, Verdict, String)> {
        self.first().verdicts()
    }

    /// The journal as text: seconds since the first entry, deployment, fact.
    #[must_use]
    pub fn journal_text(&self) -> String {
        self.first().journal_text()
    }

    /// The journals of all targets as text.
    #[must_use]
    pub fn journal_texts(&self) -> String {
        self.pairs.iter().map(|(target, _)| format!("{target}\n{}", self.at(target).journal_text())).collect()
    }

    /// Executes the next event, not later than `limit`. False: the limit is reached.
    fn step(&mut self, limit: Timestamp) -> bool {
        self.check();
        if self.poll_ready() {
            return self.violation.is_none();
        }
        let next = self.stage.lock().next_due_at().unwrap_or(limit).min(limit);
        let (now, events, ended) = {
            let mut shared = self.stage.lock();
            let now = shared.world.advance_until_event(next);
            (now, shared.world.drain_events(), shared.take_finished_calls())
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
            self.start_due_jobs(now);
        }
        // A pass that exceeds its function's time-out is killed at its current call.
        for index in (0..self.running.len()).rev() {
            // A paused pass is taken for dead but may resume later: the time-out does not apply to it.
            if self.running[index].until <= now && !self.running[index].stage.has_been_paused() {
                let killed = self.running.remove(index);
                self.retry_or_dead_letter(killed.job, now);
            }
        }
        happened || now < limit || self.stage.lock().has_call_ending_by(limit)
    }

    /// Polls every woken invocation once; true: one ended.
    fn poll_ready(&mut self) -> bool {
        let mut ended = false;
        let mut index = 0;
        while index < self.running.len() {
            let running = &mut self.running[index];
            if !running.ready.0.swap(false, Ordering::Relaxed) {
                index += 1;
                continue;
            }
            let waker = waker_ref(&running.ready);
            let polled = running.future.as_mut().poll(&mut Context::from_waker(&waker));
            let dead = running.stage.is_killed();
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
                    self.retry_or_dead_letter(running.job, now);
                }
            }
        }
        ended
    }

    /// Retries the job of an invocation that failed or was killed, or gives it up.
    fn retry_or_dead_letter(&mut self, job: Job, now: Timestamp) {
        let mut shared = self.stage.lock();
        match job {
            Job::Drive(wake, received) if received < MAX_RECEIVES => {
                // The message became hidden when it was received, a moment ago.
                shared.schedule(VISIBILITY.after(now), Job::Drive(wake, received + 1));
            }
            Job::Drive(wake, _) => self.dead_letters.push(wake),
            Job::Signal(watch, tries) if tries < MAX_TRIES => {
                shared.schedule(Seconds(60).after(now), Job::Signal(watch, tries + 1));
            }
            Job::Push(pushed, tries) if tries < MAX_TRIES => {
                shared.schedule(Seconds(60).after(now), Job::Push(pushed, tries + 1));
            }
            // A stream retries until it succeeds.
            Job::Notify(target) => shared.schedule(Seconds(5).after(now), Job::Notify(target)),
            Job::Signal(..) | Job::Push(..) | Job::Sweep => {}
        }
    }

    /// Invokes the function for an event of the world: alarms and ECS services are watched, single tasks through their
    /// services.
    fn deliver(&mut self, event: WorldEvent) {
        let watch = match &event.what {
            WorldEventKind::Alarm { name, .. } => Some(WatchedResource::Alarm(name.clone())),
            WorldEventKind::Deployment { service, .. } | WorldEventKind::Service { service, .. } => {
                ecs_service(service)
            }
            WorldEventKind::Task(task) => task.group.strip_prefix("service:").and_then(|service| {
                let cluster = task.cluster_arn.rsplit('/').next()?;
                Some(WatchedResource::EcsService(cluster.to_owned(), service.to_owned()))
            }),
            WorldEventKind::TaskRequested(_) | WorldEventKind::TaskStopRequested { .. } => None,
        };
        if let Some(watch) = watch {
            self.send(watch, EVENT_DELAY_MS);
        }
        self.delivered.push(event);
    }

    /// Sends the CloudTrail event of an outside edit of a rule.
    pub fn send_edit_event(&self, rule: &str) {
        self.send(WatchedResource::Rule(rule.to_owned()), CLOUDTRAIL_DELAY_MS);
    }

    /// Sends an event to its function; it may be lost, late or duplicated.
    fn send(&self, watch: WatchedResource, delay_ms: (u64, u64)) {
        let mut shared = self.stage.lock();
        let now = shared.world.now();
        let (subject, notified) = match &watch {
            WatchedResource::Alarm(name) => (fnv1a(name), format!("event of alarm {name}")),
            WatchedResource::EcsService(cluster, service) => {
                (mix(fnv1a(cluster), fnv1a(service)), format!("event of service {service} in {cluster}"))
            }
            WatchedResource::Repository(name) => (fnv1a(name), format!("event of repository {name}")),
            WatchedResource::Rule(arn) => (fnv1a(arn), format!("API call that changed {arn}")),
        };
        let key = shared.next_arrival_key(subject);
        let delivery_fault = shared.injector.delivery_fault(key, now, || notified);
        let delay = SeededRng::new(mix(shared.injector.faults.seed, key ^ 1)).between(delay_ms.0, delay_ms.1);
        let span = rollout::SignedDuration::from_millis(i64::try_from(delay).unwrap_or(0));
        shared.send(delivery_fault, now.checked_add(span).unwrap_or(now), &Job::Signal(watch, 1));
    }

    fn start_due_jobs(&mut self, now: Timestamp) {
        loop {
            let due = {
                let mut shared = self.stage.lock();
                match shared.jobs.first_key_value() {
                    Some(((at, _), _)) if *at <= now => shared.jobs.pop_first().map(|(_, job)| job),
                    _ => None,
                }
            };
            let Some(job) = due else { return };
            self.start(job, now);
        }
    }

    fn start(&mut self, job: Job, now: Timestamp) {
        let stage = match &job {
            Job::Drive(wake, _) => self.stage.invocation(DRIVER, wake.target.to_string()),
            Job::Signal(
                WatchedResource::EcsService(_, name)
                | WatchedResource::Alarm(name)
                | WatchedResource::Repository(name)
                | WatchedResource::Rule(name),
                _,
            ) => self.stage.invocation("signal", name.clone()),
            Job::Push(pushed, _) => self.stage.invocation("push", pushed.tag.clone()),
            Job::Sweep => self.stage.invocation("sweep", String::new()),
            Job::Notify(target) => self.stage.invocation(NOTIFIER, target.to_string()),
        };
        let until = FUNCTION_TIMEOUT.after(now);
        let deadline = Seconds(FUNCTION_TIMEOUT.0 - MARGIN.0).after(now);
        let ledger = SimLedger { stage: stage.clone(), ledger: self.ledger.clone() };
        let cloud = SimCloud { stage: stage.clone() };
        let wake_queue = SimWakeQueue { stage: stage.clone() };
        let registry = SimRegistry { stage: stage.clone() };
        let clock = SimClock { stage: stage.clone() };
        let recorder = self.recorder.clone();
        let future = match job.clone() {
            Job::Drive(wake, _) => async move {
                let driven = drive_recorded(&wake, &ledger, &cloud, &wake_queue, &clock, &recorder, deadline).await;
                matches!(driven, Ok(DriveOutcome::Done | DriveOutcome::Busy | DriveOutcome::Superseded))
            }
            .boxed_local(),
            // Rules change through API calls only, which CloudTrail reports.
            Job::Signal(watch @ WatchedResource::Rule(_), _) => {
                let by = "arn:aws:iam::111122223333:user/somebody-else".to_owned();
                let call = ApiCall { operation: "ModifyRule".to_owned(), by, at: now };
                async move { resource_edited(&ledger, &wake_queue, &watch, &call).await.is_ok() }.boxed_local()
            }
            Job::Signal(watch, _) => async move { signal(&ledger, &wake_queue, &watch).await.is_ok() }.boxed_local(),
            Job::Push(pushed, _) => {
                let own = self.pairs[0].1.registry();
                async move { image_pushed(&ledger, &wake_queue, &pushed, &own, now).await.is_ok() }.boxed_local()
            }
            Job::Notify(target) => {
                let channels = SimChannels { stage: stage.clone() };
                deliver(ledger, channels, clock, target, deadline).boxed_local()
            }
            Job::Sweep => {
                let minute = u64::try_from(now.as_second() / 60).unwrap_or(0);
                self.stage.lock().schedule(Seconds(60).after(now), Job::Sweep);
                let which = Sweep { minute, every: 5, until: deadline };
                async move {
                    // A failed sweep is ignored: the next one covers the same targets.
                    let _swept = sweep(&ledger, &wake_queue, &registry, &clock, &which).await;
                    true
                }
                .boxed_local()
            }
        };
        let ready = Arc::new(ReadyFlag(AtomicBool::new(true)));
        self.running.push(RunningInvocation { job, stage, until, future, ready });
    }
}

/// `arn:aws:ecs:…:service/CLUSTER/SERVICE`
fn ecs_service(arn: &str) -> Option<WatchedResource> {
    let mut parts = arn.rsplit('/');
    let service = parts.next()?.to_owned();
    Some(WatchedResource::EcsService(parts.next()?.to_owned(), service))
}
