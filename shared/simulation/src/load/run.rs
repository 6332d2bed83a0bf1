//! The scheduler: concurrent invocations, up to each lane's limit, on one virtual clock.

use super::LoadProfile;
use super::ports::{LoadClock, LoadCloud, LoadRegistry, LoadWakeQueue};
use super::report::LoadReport;
use super::state::{Job, LoadHandle, LoadState};
use crate::ledger::MemoryLedger;
use crate::virtual_time::SimLedger;
use crate::world::scene::{add_target, empty_policy, release_of};
use engine::intake::{ImagePushed, Sweep, image_pushed, signal, sweep};
use engine::{DriveOutcome, Wake, drive};
use futures::future::{FutureExt as _, LocalBoxFuture};
use rollout::policy::Policy;
use rollout::rate_limiter::READS_PER_SECOND;
use rollout::{Name, Seconds};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// The driver's time-out in `template.yaml`, minus the margin that it is configured to leave.
const PASS_DURATION: Seconds = Seconds(58);
/// The queue's visibility time-out in `template.yaml`, in milliseconds.
const VISIBILITY_TIMEOUT_MS: i64 = 360_000;
/// After this many receives a wake is moved to the dead-letter queue.
const MAX_RECEIVES: u32 = 5;
/// Interval between two sweeps.
const MINUTE_MS: u64 = 60_000;

/// An invocation in progress.
struct RunningInvocation {
    future: LocalBoxFuture<'static, InvocationResult>,
    /// For a pass: its lane, its wake, and the wake's receive count.
    pass: Option<(usize, Wake, u32)>,
    began_ms: i64,
}

/// Result of an invocation.
enum InvocationResult {
    /// Outcome of a pass.
    DriveOutcome(DriveOutcome),
    /// Another job finished.
    Done,
    /// The invocation failed and is retried.
    Failed,
}

/// Waker that puts an invocation on the list of those to poll.
struct PollFlag {
    id: u64,
    ready: Arc<Mutex<VecDeque<u64>>>,
}

impl std::task::Wake for PollFlag {
    fn wake(self: Arc<Self>) {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.id);
    }
}

struct LoadRun<'a> {
    profile: &'a LoadProfile,
    handle: LoadHandle,
    ledger: MemoryLedger,
    running: HashMap<u64, RunningInvocation>,
    ready: Arc<Mutex<VecDeque<u64>>>,
    invocations: u64,
    busy: [usize; 2],
    /// Number of targets whose deployment has ended.
    ended: usize,
    is_ended: Vec<bool>,
    report: LoadReport,
}

/// Pushes a release to every target and runs until each has its verdict and nothing is left to do, or the time limit is
/// reached.
#[must_use]
pub fn push_to_all(profile: &LoadProfile) -> LoadReport {
    let (mut state, set) = LoadState::new(profile);
    let ledger = MemoryLedger::new();
    let mut policies: BTreeMap<Name, Policy> = BTreeMap::new();
    let began = state.now();
    for (target, names, rules) in set {
        let application = target.application.clone();
        let policy = policies.entry(application.clone()).or_insert_with(|| empty_policy(application));
        add_target(policy, &target, &names.repository, rules);
        let release = release_of(&target, &names.repository_uri, 1, began);
        let pushed = ImagePushed {
            registry: names.registry(),
            repository: names.repository,
            digest: release.id.digest,
            tag: release.tag,
            pushed_at: began,
        };
        state.after(1_000, Job::Push(pushed));
    }
    ledger.store().set_reads_per_second(READS_PER_SECOND * profile.assumed_budget_scale);
    for policy in policies.values() {
        let applied = ledger.store().apply(policy, "the load's", began, "somebody");
        applied.expect("each scene has resources of its own");
    }
    state.after(MINUTE_MS, Job::Sweep);
    let until_ms = profile.time_limit.after(began).as_millisecond();
    let mut run = LoadRun {
        profile,
        handle: LoadHandle::new(state),
        ledger,
        running: HashMap::new(),
        ready: Arc::default(),
        invocations: 0,
        busy: [0, 0],
        ended: 0,
        is_ended: vec![false; profile.targets],
        report: LoadReport::default(),
    };
    while run.ended < profile.targets && run.step(until_ms) {}
    let LoadRun { handle, ledger, mut report, .. } = run;
    report.collect(&handle.lock(), &ledger, began);
    report
}

impl LoadRun<'_> {
    /// Processes everything due at the next instant. False: nothing more happens before `until_ms`.
    fn step(&mut self, until_ms: i64) -> bool {
        loop {
            let next = self.ready.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(id) = next else { break };
            self.poll(id);
        }
        self.start_due();
        if !self.ready.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return true;
        }
        let free = [0, 1].map(|lane| self.busy[lane] < self.profile.max_concurrent_passes[lane]);
        let expired = {
            let mut state = self.handle.lock();
            let Some(next) = state.next_ms(free).filter(|next| *next <= until_ms) else { return false };
            state.advance_time(next)
        };
        for waker in expired {
            waker.wake();
        }
        true
    }

    fn start_due(&mut self) {
        loop {
            let job = {
                let mut state = self.handle.lock();
                let now = state.now_ms;
                let first = state.jobs.first_entry().filter(|first| first.key().0 <= now);
                first.map(std::collections::btree_map::OccupiedEntry::remove)
            };
            let Some(job) = job else { break };
            self.start_job(job);
        }
        // Urgent wakes are received first; neither lane uses the other's concurrency.
        for lane in [1, 0] {
            while self.busy[lane] < self.profile.max_concurrent_passes[lane] {
                let Some((wake, received)) = self.handle.lock().receive(lane) else { break };
                self.start_pass(lane, wake, received);
            }
        }
    }

    fn ports(&self) -> (SimLedger<LoadHandle>, LoadWakeQueue, LoadClock) {
        let ledger = SimLedger { context: self.handle.clone(), ledger: self.ledger.clone() };
        (ledger, LoadWakeQueue(self.handle.clone()), LoadClock(self.handle.clone()))
    }

    fn start_pass(&mut self, lane: usize, wake: Wake, received: u32) {
        let (ledger, wake_queue, clock) = self.ports();
        let (target_world, deadline) = {
            let state = self.handle.lock();
            (state.index_of.get(&wake.target).copied().unwrap_or(0), PASS_DURATION.after(state.now()))
        };
        let cloud = LoadCloud::new(self.handle.clone(), target_world);
        self.busy[lane] += 1;
        let driven = wake.clone();
        let future = async move {
            match drive(&driven, &ledger, &cloud, &wake_queue, &clock, deadline).await {
                Ok(driven) => InvocationResult::DriveOutcome(driven),
                Err(_) => InvocationResult::Failed,
            }
        };
        self.spawn(future.boxed_local(), Some((lane, wake, received)));
    }

    fn start_job(&mut self, job: Job) {
        let (ledger, wake_queue, clock) = self.ports();
        let now = self.handle.lock().now();
        let future = match job {
            Job::Signal(watch) => {
                self.report.signals += 1;
                async move {
                    signal(&ledger, &wake_queue, &watch)
                        .await
                        .map_or(InvocationResult::Failed, |_| InvocationResult::Done)
                }
                .boxed_local()
            }
            Job::Push(pushed) => async move {
                image_pushed(&ledger, &wake_queue, &pushed, &pushed.registry, now)
                    .await
                    .map_or(InvocationResult::Failed, |_| InvocationResult::Done)
            }
            .boxed_local(),
            Job::Sweep => {
                let mut state = self.handle.lock();
                state.after(MINUTE_MS, Job::Sweep);
                state.count_backlog();
                let minute = u64::try_from(now.as_second() / 60).unwrap_or(0);
                let which = Sweep { minute, every: 5, until: PASS_DURATION.after(now) };
                async move {
                    // A failed sweep is ignored: the next one covers the same targets.
                    let _swept = sweep(&ledger, &wake_queue, &LoadRegistry, &clock, &which).await;
                    InvocationResult::Done
                }
                .boxed_local()
            }
        };
        self.spawn(future, None);
    }

    fn spawn(&mut self, future: LocalBoxFuture<'static, InvocationResult>, pass: Option<(usize, Wake, u32)>) {
        self.invocations += 1;
        let began_ms = self.handle.lock().now_ms;
        self.running.insert(self.invocations, RunningInvocation { future, pass, began_ms });
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.invocations);
    }

    fn poll(&mut self, id: u64) {
        // An invocation woken twice may have ended already.
        let Some(running) = self.running.get_mut(&id) else { return };
        let waker = Waker::from(Arc::new(PollFlag { id, ready: Arc::clone(&self.ready) }));
        let Poll::Ready(ended) = running.future.as_mut().poll(&mut Context::from_waker(&waker)) else { return };
        let Some(RunningInvocation { pass, began_ms, .. }) = self.running.remove(&id) else { return };
        let Some((lane, wake, received)) = pass else { return };
        self.busy[lane] -= 1;
        let mut state = self.handle.lock();
        self.report.longest_pass_ms = self.report.longest_pass_ms.max(state.now_ms - began_ms);
        match ended {
            InvocationResult::DriveOutcome(DriveOutcome::Busy) => self.report.busy += 1,
            InvocationResult::DriveOutcome(DriveOutcome::LeaseLost) => self.report.superseded += 1,
            InvocationResult::DriveOutcome(_) | InvocationResult::Done => {}
            InvocationResult::Failed if received < MAX_RECEIVES => {
                let at = state.now_ms + VISIBILITY_TIMEOUT_MS;
                state.wake_at(at, lane, wake.clone(), received + 1);
            }
            InvocationResult::Failed => self.report.dead_letters += 1,
        }
        if let Some(target_world) = state.index_of.get(&wake.target).copied()
            && !self.is_ended[target_world]
            && self.ledger.store().is_settled(&wake.target)
        {
            self.is_ended[target_world] = true;
            self.ended += 1;
            state.set_active(target_world, false);
        }
    }
}
