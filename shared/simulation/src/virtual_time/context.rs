//! State shared by all ports: the world, pending jobs, and the timers of calls in progress.

use super::faults::{CallKind, CallOutcome, CallPhase, DeliveryFault, FaultInjector, Faults, STALE_MS, fnv1a, mix};
use super::notifications::NotifierState;
use super::previous::PreviousState;
use crate::trace::PassEvent;
use crate::world::World;
use engine::intake::ImagePushed;
use engine::{LeaseId, LedgerError, OverdueTarget, PushedImage, Wake, WatchedResource};
use rollout::promotion::ImageState;
use rollout::{SignedDuration, TargetId, Timestamp};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

/// A pending function invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Job {
    /// A wake and its receive count.
    Drive(Wake, u32),
    /// An event that names a resource, and its attempt count.
    Signal(WatchedResource, u32),
    /// A pushed image, and its attempt count.
    Push(ImagePushed, u32),
    /// The sweep, once a minute.
    Sweep,
    /// A target's journal has grown and must be delivered.
    Notify(TargetId),
}

/// Name of the driver's invocations in faults.
pub(super) const DRIVER: &str = "drive";
/// Name of the notifier's invocations in faults.
pub(super) const NOTIFIER: &str = "tell";

/// State shared by all ports.
#[derive(Debug)]
pub(super) struct SharedState {
    pub(super) world: World,
    pub(super) injector: FaultInjector,
    pub(super) jobs: BTreeMap<(Timestamp, u64), Job>,
    scheduled_count: u64,
    /// Wakers of calls in progress, by the time at which each call ends.
    timers: BTreeMap<Timestamp, Vec<Waker>>,
    pub(super) leases: u64,
    /// Images in the registry, by repository.
    pub(super) images: BTreeMap<String, Vec<PushedImage>>,
    /// Images that cannot be pulled any more (deleted or archived), by digest.
    pub(super) unavailable_images: BTreeMap<String, ImageState>,
    /// The state before the last writes, for stale readings.
    pub(super) previous: PreviousState,
    /// Number of invocations or events so far, per subject.
    invocation_counts: BTreeMap<u64, u64>,
    /// Progress of the notifier.
    pub(super) notified: NotifierState,
    /// Whether journals are delivered to channels.
    pub(super) notifies: bool,
    /// What passes observed and did; recorded only while a watcher is attached.
    pub(super) pass_events: Option<Vec<PassEvent>>,
    /// No policy can be read.
    pub(super) policies_unreadable: bool,
}

impl SharedState {
    pub(super) fn schedule(&mut self, at: Timestamp, job: Job) {
        self.scheduled_count += 1;
        self.jobs.insert((at, self.scheduled_count), job);
    }

    /// Schedules a job for `at`, subject to the given delivery fault: lost, late or duplicated.
    pub(super) fn send(&mut self, delivery_fault: DeliveryFault, at: Timestamp, job: &Job) {
        if delivery_fault.lost {
            return;
        }
        let at = plus_ms(at, delivery_fault.late_ms);
        self.schedule(at, job.clone());
        if delivery_fault.duplicated {
            self.schedule(plus_ms(at, 1_000), job.clone());
        }
    }

    /// Random key of the next event or invocation for `subject`.
    pub(super) fn next_arrival_key(&mut self, subject: u64) -> u64 {
        let ordinal = self.invocation_counts.entry(subject).or_default();
        *ordinal += 1;
        mix(subject, *ordinal)
    }

    /// The next instant at which a job starts or a call ends.
    pub(super) fn next_due_at(&self) -> Option<Timestamp> {
        let job = self.jobs.keys().next().map(|(at, _)| *at);
        let timer = self.timers.keys().next().copied();
        match (job, timer) {
            (Some(job), Some(timer)) => Some(job.min(timer)),
            (job, timer) => job.or(timer),
        }
    }
}

impl SharedState {
    /// Wakers of the calls that have ended; wake them only after the lock is released.
    pub(super) fn take_finished_calls(&mut self) -> Vec<Waker> {
        let now = self.world.now();
        let mut ended = Vec::new();
        while let Some(entry) = self.timers.first_entry().filter(|entry| *entry.key() <= now) {
            ended.extend(entry.remove());
        }
        ended
    }

    /// Whether a call ends at `limit` or before.
    pub(super) fn has_call_ending_by(&self, limit: Timestamp) -> bool {
        self.timers.keys().next().is_some_and(|at| *at <= limit)
    }
}

/// Executes port calls: gives each its duration and its fault.
pub(crate) trait PortCalls: Sync {
    /// One call: the result of `apply`, or `failed` with the reason of the failure.
    fn call<T: Send>(
        &self,
        name: &'static str,
        apply: impl FnOnce() -> T + Send,
        failed: impl FnOnce(&'static str) -> T + Send,
    ) -> impl Future<Output = T> + Send;

    /// The answer of the index of overdue targets, which may lag behind its table.
    fn overdue(
        &self,
        read: impl FnOnce() -> Vec<OverdueTarget> + Send,
        failed: impl FnOnce(&'static str) -> Result<Vec<OverdueTarget>, LedgerError> + Send,
    ) -> impl Future<Output = Result<Vec<OverdueTarget>, LedgerError>> + Send {
        self.call("overdue", || Ok(read()), failed)
    }

    /// Whether policies can be read.
    fn policies_are_readable(&self) -> bool {
        true
    }
}

impl PortCalls for SimContext {
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
        read: impl FnOnce() -> Vec<OverdueTarget> + Send,
        failed: impl FnOnce(&'static str) -> Result<Vec<OverdueTarget>, LedgerError> + Send,
    ) -> Result<Vec<OverdueTarget>, LedgerError> {
        let read = || {
            let found = read();
            let mut shared = self.lock();
            if shared.injector.faults.stale > 0.0 {
                shared.previous.overdue = Some(found.clone());
            }
            Ok(found)
        };
        // The index may return its previous answer.
        let before = |previous: &PreviousState| previous.overdue.clone().map(Ok);
        self.call_or_stale("overdue", read, before, failed).await
    }

    fn policies_are_readable(&self) -> bool {
        !self.lock().policies_unreadable
    }
}

/// One invocation's handle on the shared state.
#[derive(Debug, Clone)]
pub struct SimContext {
    shared: Arc<Mutex<SharedState>>,
    invocation: Arc<SimInvocation>,
}

/// One invocation.
#[derive(Debug)]
struct SimInvocation {
    /// Function name, for example [`DRIVER`].
    function: &'static str,
    /// What the function was invoked for: a target, or an event.
    subject: String,
    /// Running number among invocations of this function and subject.
    ordinal: u64,
    /// Hash of function, subject and ordinal, from which its random numbers are derived.
    key: u64,
    /// Faults can kill and pause the invocation: it is a driver or a notifier.
    in_pass: bool,
    /// Number of its calls so far.
    calls: AtomicU64,
    /// Offset of its clock from virtual time.
    skew: SignedDuration,
    /// Set once it is killed: its calls never complete.
    killed: AtomicBool,
    /// Set once it was paused: its time-out no longer applies.
    was_paused: AtomicBool,
    /// The lease that it acquired.
    lease: OnceLock<LeaseId>,
}

impl SimInvocation {
    fn label(&self, call: &str) -> String {
        format!("{} {} ({}): {call}", self.function, self.subject, self.ordinal)
    }
}

impl SimContext {
    pub(super) fn new(world: World, faults: Faults) -> Self {
        let shared = SharedState {
            world,
            injector: FaultInjector::new(faults),
            jobs: BTreeMap::new(),
            scheduled_count: 0,
            timers: BTreeMap::new(),
            leases: 0,
            images: BTreeMap::new(),
            unavailable_images: BTreeMap::new(),
            previous: PreviousState::default(),
            invocation_counts: BTreeMap::new(),
            notified: NotifierState::default(),
            notifies: false,
            pass_events: None,
            policies_unreadable: false,
        };
        let invocation = SimInvocation::new("nobody", String::new(), 0, SignedDuration::ZERO);
        Self { shared: Arc::new(Mutex::new(shared)), invocation: Arc::new(invocation) }
    }

    /// The handle of another invocation of `function` for `subject`.
    pub(super) fn invocation(&self, function: &'static str, subject: String) -> Self {
        let (ordinal, skew_ms) = {
            let mut shared = self.lock();
            let key = mix(fnv1a(function), fnv1a(&subject));
            let ordinal = shared.invocation_counts.entry(key).or_default();
            *ordinal += 1;
            let ordinal = *ordinal;
            (ordinal, shared.injector.skew_ms(mix(key, ordinal)))
        };
        let invocation = SimInvocation::new(function, subject, ordinal, SignedDuration::from_millis(skew_ms));
        Self { shared: Arc::clone(&self.shared), invocation: Arc::new(invocation) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, SharedState> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_killed(&self) -> bool {
        self.invocation.killed.load(Ordering::Relaxed)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.lock().world.now()
    }

    /// The time by the invocation's own clock.
    pub(super) fn clock(&self) -> Timestamp {
        let now = self.now();
        now.checked_add(self.invocation.skew).unwrap_or(now)
    }

    /// Whether the invocation was paused, so that its time-out no longer applies.
    pub(super) fn has_been_paused(&self) -> bool {
        self.invocation.was_paused.load(Ordering::Relaxed)
    }

    /// Records the first lease that the invocation acquires.
    pub(super) fn set_lease(&self, lease: &LeaseId) {
        self.invocation.lease.get_or_init(|| lease.clone());
    }

    /// The lease that the invocation acquired.
    pub(super) fn lease(&self) -> Option<&LeaseId> {
        self.invocation.lease.get()
    }

    /// Random key of the invocation's next call.
    pub(super) fn next_key(&self) -> u64 {
        mix(self.invocation.key, self.invocation.calls.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn label(&self, call: &str) -> String {
        self.invocation.label(call)
    }

    /// One port call: takes virtual time, and succeeds or fails by its fault.
    pub(super) async fn call<T>(
        &self,
        name: &'static str,
        apply: impl FnOnce() -> T,
        failed: impl FnOnce(&'static str) -> T,
    ) -> T {
        self.call_or_stale(name, apply, |_| None, failed).await
    }

    /// Same, for eventually consistent data: the previous value may be returned.
    pub(super) async fn call_or_stale<T>(
        &self,
        name: &'static str,
        apply: impl FnOnce() -> T,
        before: impl FnOnce(&PreviousState) -> Option<T>,
        failed: impl FnOnce(&'static str) -> T,
    ) -> T {
        if self.is_killed() {
            return std::future::pending().await;
        }
        let key = self.next_key();
        let (outcome, now, until) = {
            let mut shared = self.lock();
            let now = shared.world.now();
            let kind = if self.invocation.in_pass { CallKind::InPass } else { CallKind::Other };
            let (outcome, duration_ms) = shared.injector.next(key, now, kind, || self.label(name));
            (outcome, now, plus_ms(now, duration_ms))
        };
        if outcome == CallOutcome::Crash(CallPhase::Before) {
            self.kill();
            return std::future::pending().await;
        }
        if let CallOutcome::Paused(..) = outcome {
            self.invocation.was_paused.store(true, Ordering::Relaxed);
        }
        if let CallOutcome::Paused(CallPhase::Before, pause_ms) = outcome {
            // The call's own time-out expires during the pause: nothing was sent.
            Sleep { context: self, at: plus_ms(now, pause_ms), waker: None }.await;
            return failed("no answer came in time");
        }
        Sleep { context: self, at: until, waker: None }.await;
        match outcome {
            CallOutcome::Done => apply(),
            CallOutcome::LostAnswer => {
                apply();
                failed("no answer came: the connection was closed")
            }
            CallOutcome::Unavailable => failed("the service could not be reached"),
            CallOutcome::Throttled => failed("ThrottlingException: Rate exceeded"),
            CallOutcome::TimedOut(phase) => {
                if phase == CallPhase::After {
                    apply();
                }
                failed("no answer came in time")
            }
            CallOutcome::Stale => {
                let mut shared = self.lock();
                let found = before(&shared.previous);
                if found.is_some() {
                    let now = shared.world.now();
                    shared.injector.record_stale_read(key, now, self.label(name));
                }
                drop(shared);
                found.unwrap_or_else(apply)
            }
            CallOutcome::Paused(_, pause_ms) => {
                let answer = apply();
                Sleep { context: self, at: plus_ms(until, pause_ms), waker: None }.await;
                answer
            }
            CallOutcome::Crash(_) => {
                apply();
                self.kill();
                std::future::pending().await
            }
        }
    }

    /// Applies faults to one of an observation's readings; no time passes. `before` returns the value before the last
    /// write, and when it was replaced.
    pub(super) fn reading<T>(
        &self,
        name: &'static str,
        before: impl FnOnce(&PreviousState) -> Option<(Timestamp, T)>,
        read: impl FnOnce(&mut World) -> Result<T, String>,
    ) -> Result<T, String> {
        let key = self.next_key();
        let mut shared = self.lock();
        let now = shared.world.now();
        let (outcome, _) = shared.injector.next(key, now, CallKind::Reading, || self.label(name));
        match outcome {
            CallOutcome::Done => read(&mut shared.world),
            CallOutcome::Stale => {
                let lags = |at: Timestamp| now.duration_since(at).as_millis() <= i128::from(STALE_MS);
                match before(&shared.previous).filter(|(written_at, _)| lags(*written_at)) {
                    Some((_, stale)) => {
                        shared.injector.record_stale_read(key, now, self.label(name));
                        Ok(stale)
                    }
                    None => read(&mut shared.world),
                }
            }
            CallOutcome::Throttled => Err("ThrottlingException: Rate exceeded".to_owned()),
            _ => Err("no answer came".to_owned()),
        }
    }

    fn kill(&self) {
        self.invocation.killed.store(true, Ordering::Relaxed);
    }
}

impl SimInvocation {
    fn new(function: &'static str, subject: String, ordinal: u64, skew: SignedDuration) -> Self {
        let key = mix(mix(fnv1a(function), fnv1a(&subject)), ordinal);
        Self {
            function,
            subject,
            ordinal,
            key,
            in_pass: function == DRIVER || function == NOTIFIER,
            calls: AtomicU64::new(0),
            skew,
            killed: AtomicBool::new(false),
            was_paused: AtomicBool::new(false),
            lease: OnceLock::new(),
        }
    }
}

fn plus_ms(at: Timestamp, ms: u64) -> Timestamp {
    at.checked_add(SignedDuration::from_millis(i64::try_from(ms).unwrap_or(0))).unwrap_or(at)
}

/// Waits for an instant of virtual time.
struct Sleep<'a> {
    context: &'a SimContext,
    at: Timestamp,
    /// Waker registered with the timers.
    waker: Option<Waker>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        if self.context.is_killed() {
            return Poll::Pending;
        }
        let mut shared = self.context.lock();
        if shared.world.now() >= self.at {
            return Poll::Ready(());
        }
        // Register each waker once, however often the future is polled.
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(task.waker())) {
            shared.timers.entry(self.at).or_default().push(task.waker().clone());
            drop(shared);
            self.waker = Some(task.waker().clone());
        }
        Poll::Pending
    }
}
