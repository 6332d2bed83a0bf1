//! Who goes next: invocations side by side, as many as their lane lets, over one virtual clock.

use super::Crowd;
use super::ports::{LoadClock, LoadCloud, LoadRegistry, LoadWakeQueue};
use super::report::Report;
use super::town::{Hall, Job, Town};
use crate::ledger::MemoryLedger;
use crate::virtual_time::SimLedger;
use crate::world::scene::{add_target, empty_policy, release_of};
use engine::intake::{ImagePushed, Sweep, image_pushed, signal, sweep};
use engine::{Driven, Wake, drive};
use futures::future::{FutureExt as _, LocalBoxFuture};
use rollout::pace::READS_A_SECOND;
use rollout::policy::Policy;
use rollout::{Name, Seconds};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// The driver's time-out in `template.yaml`, less what it is told to leave of it.
const LEAVE: Seconds = Seconds(58);
/// The queue's visibility time-out in `template.yaml`, in milliseconds.
const HIDDEN_MS: i64 = 360_000;
/// Then a wake goes to the dead-letter queue.
const MOST_RECEIVES: u32 = 5;
/// Between two sweeps.
const MINUTE_MS: u64 = 60_000;

/// An invocation that goes on.
struct Running {
    future: LocalBoxFuture<'static, Ended>,
    /// The lane of the pass, its wake, and how often that was received.
    pass: Option<(usize, Wake, u32)>,
    began_ms: i64,
}

/// What an invocation came to.
enum Ended {
    /// A pass did what it was for.
    Driven(Driven),
    /// Something else did.
    Done,
    /// It comes again.
    Failed,
}

/// Puts an invocation back on the list of those that can go on.
struct PollFlag {
    id: u64,
    ready: Arc<Mutex<VecDeque<u64>>>,
}

impl std::task::Wake for PollFlag {
    fn wake(self: Arc<Self>) {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.id);
    }
}

struct Run<'a> {
    crowd: &'a Crowd,
    hall: Hall,
    ledger: MemoryLedger,
    running: HashMap<u64, Running>,
    ready: Arc<Mutex<VecDeque<u64>>>,
    invocations: u64,
    busy: [usize; 2],
    /// Targets whose deployment has ended.
    ended: usize,
    is_ended: Vec<bool>,
    report: Report,
}

/// Everybody gets a push, and all is let happen until each has its verdict and nothing is left to do, or patience is over.
#[must_use]
pub fn push_to_all(crowd: &Crowd) -> Report {
    let (mut town, set) = Town::new(crowd);
    let ledger = MemoryLedger::new();
    let mut policies: BTreeMap<Name, Policy> = BTreeMap::new();
    let began = town.now();
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
        town.after(1_000, Job::Push(pushed));
    }
    ledger.store().set_reads_a_second(READS_A_SECOND * crowd.believed);
    for policy in policies.values() {
        let applied = ledger.store().apply(policy, "the load's", began, "somebody");
        applied.expect("each scene has resources of its own");
    }
    town.after(MINUTE_MS, Job::Sweep);
    let until_ms = crowd.patience.after(began).as_millisecond();
    let mut run = Run {
        crowd,
        hall: Hall::new(town),
        ledger,
        running: HashMap::new(),
        ready: Arc::default(),
        invocations: 0,
        busy: [0, 0],
        ended: 0,
        is_ended: vec![false; crowd.targets],
        report: Report::default(),
    };
    while run.ended < crowd.targets && run.step(until_ms) {}
    let Run { hall, ledger, mut report, .. } = run;
    report.take_stock(&hall.lock(), &ledger, began);
    report
}

impl Run<'_> {
    /// Everything that happens at one instant. False: nothing will happen any more before that time.
    fn step(&mut self, until_ms: i64) -> bool {
        loop {
            let next = self.ready.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(id) = next else { break };
            self.poll(id);
        }
        self.begin_what_is_due();
        if !self.ready.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return true;
        }
        let free = [0, 1].map(|lane| self.busy[lane] < self.crowd.at_once[lane]);
        let over = {
            let mut town = self.hall.lock();
            let Some(next) = town.next_ms(free).filter(|next| *next <= until_ms) else { return false };
            town.pass_time(next)
        };
        for waker in over {
            waker.wake();
        }
        true
    }

    fn begin_what_is_due(&mut self) {
        loop {
            let job = {
                let mut town = self.hall.lock();
                let now = town.now_ms;
                let first = town.jobs.first_entry().filter(|first| first.key().0 <= now);
                first.map(std::collections::btree_map::OccupiedEntry::remove)
            };
            let Some(job) = job else { break };
            self.begin(job);
        }
        // What is urgent is taken first; neither lane takes from the other.
        for lane in [1, 0] {
            while self.busy[lane] < self.crowd.at_once[lane] {
                let Some((wake, received)) = self.hall.lock().receive(lane) else { break };
                self.begin_pass(lane, wake, received);
            }
        }
    }

    fn ports(&self) -> (SimLedger<Hall>, LoadWakeQueue, LoadClock) {
        let ledger = SimLedger { stage: self.hall.clone(), ledger: self.ledger.clone() };
        (ledger, LoadWakeQueue(self.hall.clone()), LoadClock(self.hall.clone()))
    }

    fn begin_pass(&mut self, lane: usize, wake: Wake, received: u32) {
        let (ledger, wake_queue, clock) = self.ports();
        let (home, leave) = {
            let town = self.hall.lock();
            (town.whose.get(&wake.target).copied().unwrap_or(0), LEAVE.after(town.now()))
        };
        let cloud = LoadCloud::new(self.hall.clone(), home);
        self.busy[lane] += 1;
        let driven = wake.clone();
        let future = async move {
            match drive(&driven, &ledger, &cloud, &wake_queue, &clock, leave).await {
                Ok(driven) => Ended::Driven(driven),
                Err(_) => Ended::Failed,
            }
        };
        self.enter(future.boxed_local(), Some((lane, wake, received)));
    }

    fn begin(&mut self, job: Job) {
        let (ledger, wake_queue, clock) = self.ports();
        let now = self.hall.lock().now();
        let future = match job {
            Job::Signal(watch) => {
                self.report.signals += 1;
                async move { signal(&ledger, &wake_queue, &watch).await.map_or(Ended::Failed, |_| Ended::Done) }
                    .boxed_local()
            }
            Job::Push(pushed) => async move {
                image_pushed(&ledger, &wake_queue, &pushed, &pushed.registry, now)
                    .await
                    .map_or(Ended::Failed, |_| Ended::Done)
            }
            .boxed_local(),
            Job::Sweep => {
                let mut town = self.hall.lock();
                town.after(MINUTE_MS, Job::Sweep);
                town.count_backlog();
                let minute = u64::try_from(now.as_second() / 60).unwrap_or(0);
                let which = Sweep { minute, every: 5, until: LEAVE.after(now) };
                async move {
                    // What it could not do, the next one does.
                    let _swept = sweep(&ledger, &wake_queue, &LoadRegistry, &clock, &which).await;
                    Ended::Done
                }
                .boxed_local()
            }
        };
        self.enter(future, None);
    }

    fn enter(&mut self, future: LocalBoxFuture<'static, Ended>, pass: Option<(usize, Wake, u32)>) {
        self.invocations += 1;
        let began_ms = self.hall.lock().now_ms;
        self.running.insert(self.invocations, Running { future, pass, began_ms });
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.invocations);
    }

    fn poll(&mut self, id: u64) {
        // One that was woken twice may be over.
        let Some(running) = self.running.get_mut(&id) else { return };
        let waker = Waker::from(Arc::new(PollFlag { id, ready: Arc::clone(&self.ready) }));
        let Poll::Ready(ended) = running.future.as_mut().poll(&mut Context::from_waker(&waker)) else { return };
        let Some(Running { pass, began_ms, .. }) = self.running.remove(&id) else { return };
        let Some((lane, wake, received)) = pass else { return };
        self.busy[lane] -= 1;
        let mut town = self.hall.lock();
        self.report.longest_pass_ms = self.report.longest_pass_ms.max(town.now_ms - began_ms);
        match ended {
            Ended::Driven(Driven::Busy) => self.report.busy += 1,
            Ended::Driven(Driven::Superseded) => self.report.superseded += 1,
            Ended::Driven(_) | Ended::Done => {}
            Ended::Failed if received < MOST_RECEIVES => {
                let at = town.now_ms + HIDDEN_MS;
                town.wake_at(at, lane, wake.clone(), received + 1);
            }
            Ended::Failed => self.report.dead_letters += 1,
        }
        if let Some(home) = town.whose.get(&wake.target).copied()
            && !self.is_ended[home]
            && self.ledger.store().is_settled(&wake.target)
        {
            self.is_ended[home] = true;
            self.ended += 1;
            town.set_awake(home, false);
        }
    }
}
