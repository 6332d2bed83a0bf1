//! The runner: all function invocations on one world, in order of virtual time.

use super::cloud::SimCloud;
use super::context::{DRIVER, Job, NOTIFIER, SimContext};
use super::faults::Faults;
use super::notifications::{SimChannels, deliver};
use super::platforms;
use super::ports::{SimClock, SimLedger, SimWakeQueue};
use super::recorder::MemoryRecorder;
use super::registry::SimRegistry;
use super::target::{SceneNames, TargetView};
use crate::invariants::{Violation, Watcher};
use crate::ledger::MemoryLedger;
use crate::trace::InjectedFault;
use crate::world::scene::{BuiltApplication, application_policy};
use crate::world::{PairNames, World, WorldEvent};
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
/// Margin before the time-out that a pass is configured to leave.
const MARGIN: Seconds = Seconds(2);
/// SQS visibility time-out: a received message that was not processed stays hidden for this long, in seconds.
const VISIBILITY: Seconds = Seconds(360);
/// After this many receives a wake is moved to the dead-letter queue.
const MAX_RECEIVES: u32 = 5;
/// A failed asynchronous invocation is retried twice, about a minute apart.
const MAX_TRIES: u32 = 3;

/// An invocation in progress.
struct RunningInvocation {
    job: Job,
    context: SimContext,
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
    pub(super) context: SimContext,
    ledger: MemoryLedger,
    /// Names of each target's resources; never empty.
    pub(super) pairs: Vec<(TargetId, SceneNames)>,
    running: Vec<RunningInvocation>,
    commands_sent: u64,
    /// All events that the world has emitted.
    pub(super) emitted: Vec<WorldEvent>,
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
    pub fn new(built: impl Into<BuiltApplication>, faults: Faults) -> Self {
        Self::of_application(built.into(), faults)
    }

    /// A simulation of all scenes of an application, pairs first, with its policy applied.
    ///
    /// # Panics
    /// If there is no scene.
    #[must_use]
    pub fn of_application(built: BuiltApplication, faults: Faults) -> Self {
        let pairs = built.pairs.into_iter().map(|(target, names)| (target, SceneNames::from(names)));
        let services = built.services.into_iter().map(|(target, names)| (target, SceneNames::from(names)));
        let pairs: Vec<_> = pairs.chain(services).collect();
        assert!(!pairs.is_empty(), "there is a scene");
        let ledger = MemoryLedger::new();
        let now = built.world.now();
        let applied = ledger.store().apply(&built.policy, "version 1", now, "somebody");
        applied.expect("no other policy is there");
        let context = SimContext::new(built.world, faults);
        let first_minute = now.as_second().div_euclid(60) * 60 + 60;
        context.lock().schedule(Timestamp::from_second(first_minute).unwrap_or(now), Job::Sweep);
        Self {
            context,
            ledger,
            pairs,
            running: Vec::new(),
            commands_sent: 0,
            emitted: Vec::new(),
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
        let shared = &mut *self.context.lock();
        let mut store = self.ledger.store();
        let applied = store.policy(&self.pairs[0].0.application);
        let targets = applied.as_ref().map(|applied| applied.policy.targets()).into_iter().flatten();
        let world = &mut shared.world;
        let models = targets.filter_map(|(target, policy)| platforms::model(world, &target, &policy.resources));
        let models = models.collect();
        self.watch = Some(Watcher::attach(world, &mut store, models));
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
        let shared = &mut *self.context.lock();
        let store = self.ledger.store();
        self.violation = self.watch.as_mut().and_then(|watch| watch.check_idle(&mut shared.world, &store));
        for (target, _) in self.pairs.iter().filter(|_| shared.notifies) {
            let last = store.peek(target).map_or(0, |state| state.last_entry);
            let undelivered = || shared.notified.undelivered(target, last, now, &shared.injector.injected);
            self.violation = self.violation.take().or_else(undelivered);
        }
    }

    /// From now on journals are delivered to an event bus and to topics. Requires [`Simulation::watch`].
    pub fn enable_notifications(&mut self) {
        self.context.lock().notifies = true;
    }

    /// Checks what has changed.
    fn check(&mut self) {
        let Some(watch) = self.watch.as_mut().filter(|_| self.violation.is_none()) else { return };
        let shared = &mut *self.context.lock();
        let pass_events = shared.pass_events.as_mut().map(std::mem::take).unwrap_or_default();
        self.violation =
            watch.check(&mut shared.world, &mut self.ledger.store(), pass_events, &shared.injector.injected);
        let grown_targets = watch.take_grown_targets();
        if shared.notifies {
            self.violation = self.violation.take().or(shared.notified.violation.take());
            for target in grown_targets {
                shared.stream_journal(&target);
            }
        }
    }

    /// Resource names of the first target.
    ///
    /// # Panics
    /// If it is no pair.
    #[must_use]
    pub fn names(&self) -> &PairNames {
        self.first().names()
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
        let context = self.context.invocation("beside", String::new());
        let ledger = SimLedger { context: context.clone(), ledger: self.ledger.clone() };
        (ledger, SimCloud { context: context.clone() }, SimWakeQueue { context: context.clone() }, SimClock { context })
    }

    /// The current virtual time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.context.now()
    }

    /// Reads the world, or changes it as a third party.
    pub fn world<T>(&self, body: impl FnOnce(&mut World) -> T) -> T {
        self.context.lock().world.as_third_party(body)
    }

    /// Number of port calls made by drivers and notifiers so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.context.lock().injector.calls
    }

    /// All faults so far, random or requested.
    #[must_use]
    pub fn injected(&self) -> Vec<InjectedFault> {
        self.context.lock().injector.injected.clone()
    }

    /// All events that the world has emitted.
    #[must_use]
    pub fn events(&self) -> &[WorldEvent] {
        &self.emitted
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
        self.apply_policy(&application_policy(self.target(), &self.pairs[0].1.repository, policy), text);
    }

    /// Makes policies readable or unreadable from now on. A running deployment is not affected: its own policy is part
    /// of its target's state.
    pub fn set_policies_readable(&self, readable: bool) {
        self.context.lock().policies_unreadable = !readable;
    }

    /// Replaces the application's policy. `text` identifies it: a new text is a new version.
    pub fn apply_policy(&self, policy: &Policy, text: &str) {
        let applied = self.ledger.store().apply(policy, text, self.now(), "somebody");
        applied.expect("no other policy is there");
    }

    /// Sends a command to the first target, as a person.
    pub fn send_command(&mut self, instruction: Instruction, reason: &str) {
        let target = self.target().clone();
        self.send_command_to(&target, instruction, Actor::Person { name: "operator".to_owned() }, reason);
    }

    /// Sends a command to a target, as `actor`.
    pub fn send_command_to(&mut self, target: &TargetId, instruction: Instruction, actor: Actor, reason: &str) {
        self.commands_sent += 1;
        let request = format!("request-{}", self.commands_sent);
        let now = self.now();
        let command = Command::requested(target.clone(), instruction, actor, reason, &request, now);
        self.ledger.store().put_command(&command);
        self.wake(target);
    }

    /// Sends a wake for a target, now.
    pub fn wake(&mut self, target: &TargetId) {
        let now = self.now();
        self.context.lock().schedule(now, Job::Drive(Wake::of(target.clone()), 1));
    }

    /// Requests a deployment of the `number`th release, as a person.
    pub fn request_deployment(&mut self, number: u64, overrides: Overrides) {
        let service = self.target().service.clone();
        let deploy = self.deploy_instruction(&service, number, overrides, DeployOptions::default());
        self.send_command(deploy, "");
    }

    /// The instruction to deploy the `number`th release of a service. A release that was never pushed is pushed now,
    /// without an event.
    #[must_use]
    pub fn deploy_instruction(
        &self,
        service: &Name,
        number: u64,
        overrides: Overrides,
        options: DeployOptions,
    ) -> Instruction {
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
        let only_sweeps_left = || self.context.lock().jobs.values().all(|job| matches!(job, Job::Sweep));
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
        let next = self.context.lock().next_due_at().unwrap_or(limit).min(limit);
        let (now, events, ended) = {
            let mut shared = self.context.lock();
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
            if self.running[index].until <= now && !self.running[index].context.has_been_paused() {
                let killed = self.running.remove(index);
                self.retry_or_dead_letter(killed.job, now);
            }
        }
        happened || now < limit || self.context.lock().has_call_ending_by(limit)
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
            let dead = running.context.is_killed();
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
        let mut shared = self.context.lock();
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

    fn start_due_jobs(&mut self, now: Timestamp) {
        loop {
            let due = {
                let mut shared = self.context.lock();
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
        let context = match &job {
            Job::Drive(wake, _) => self.context.invocation(DRIVER, wake.target.to_string()),
            Job::Signal(
                WatchedResource::EcsService(_, name)
                | WatchedResource::Alarm(name)
                | WatchedResource::Repository(name)
                | WatchedResource::Rule(name),
                _,
            ) => self.context.invocation("signal", name.clone()),
            Job::Push(pushed, _) => self.context.invocation("push", pushed.tag.clone()),
            Job::Sweep => self.context.invocation("sweep", String::new()),
            Job::Notify(target) => self.context.invocation(NOTIFIER, target.to_string()),
        };
        let until = FUNCTION_TIMEOUT.after(now);
        let deadline = Seconds(FUNCTION_TIMEOUT.0 - MARGIN.0).after(now);
        let ledger = SimLedger { context: context.clone(), ledger: self.ledger.clone() };
        let cloud = SimCloud { context: context.clone() };
        let wake_queue = SimWakeQueue { context: context.clone() };
        let registry = SimRegistry { context: context.clone() };
        let clock = SimClock { context: context.clone() };
        let recorder = self.recorder.clone();
        let future = match job.clone() {
            Job::Drive(wake, _) => async move {
                let driven = drive_recorded(&wake, &ledger, &cloud, &wake_queue, &clock, &recorder, deadline).await;
                matches!(driven, Ok(DriveOutcome::Done | DriveOutcome::Busy | DriveOutcome::LeaseLost))
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
                let channels = SimChannels { context: context.clone() };
                deliver(ledger, channels, clock, target, deadline).boxed_local()
            }
            Job::Sweep => {
                let minute = u64::try_from(now.as_second() / 60).unwrap_or(0);
                self.context.lock().schedule(Seconds(60).after(now), Job::Sweep);
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
        self.running.push(RunningInvocation { job, context, until, future, ready });
    }
}
