//! Wakes that change nothing, and wakes of one target that come together: ten thousand events of one push are one wake of each
//! target, and a hundred wakes of one target are a few looks.

use engine::intake::{ImagePushed, image_pushed};
use engine::{Clock, Cloud, DriveOutcome, LeaseId, Wake, WakeQueue, drive};
use futures::future::{join_all, poll_fn};
use rollout::observation::ObservationPlan;
use rollout::{Effect, Outcome, Reading, Seconds, Snapshot, TargetId, TargetResources, Timestamp};
use simulation::ledger::MemoryLedger;
use simulation::world::scene::{application_policy, digest_of};
use simulation::world::{PairSetup, Settings};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

/// Nothing here waits for anybody outside: it is polled until it is done.
fn block_on<F: Future>(work: F) -> F::Output {
    let mut work = pin!(work);
    loop {
        if let Poll::Ready(output) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
}

fn now() -> Timestamp {
    "2026-11-22T03:00:00Z".parse().expect("a time")
}

/// A ledger with a policy by which every push to `shop/api` is deployed to one target.
fn ledger() -> (MemoryLedger, TargetId) {
    let built = PairSetup::new("shop", "api", "prod").build(Settings::default());
    let policy = application_policy(&built.target, &built.names.repository, built.policy);
    let ledger = MemoryLedger::new();
    let _version = ledger.store().apply(&policy, "the text", now(), "ada");
    (ledger, built.target)
}

fn registry() -> rollout::Registry {
    rollout::Registry { account: "111122223333".to_owned(), region: "eu-central-1".to_owned() }
}

fn pushed() -> ImagePushed {
    ImagePushed {
        repository: "shop/api".to_owned(),
        registry: registry(),
        digest: digest_of(1),
        tag: "v1".to_owned(),
        pushed_at: now(),
    }
}

#[derive(Default)]
struct Queue(Mutex<Vec<(Wake, Seconds)>>);

impl Queue {
    fn taken(&self) -> Vec<(Wake, Seconds)> {
        std::mem::take(&mut *self.0.lock().expect("nobody panics with it"))
    }
}

impl WakeQueue for Queue {
    async fn send(&self, wake: &Wake, delay: Seconds) -> Result<(), String> {
        self.0.lock().expect("nobody panics with it").push((wake.clone(), delay));
        Ok(())
    }
}

#[test]
fn duplicate_push_events_send_one_wake() {
    let (ledger, target) = ledger();
    let queue = Queue::default();
    for _ in 0..10_000 {
        let taken = block_on(image_pushed(&ledger, &queue, &pushed(), &registry(), now()));
        assert!(taken.is_ok());
    }
    assert_eq!(queue.taken(), [(Wake::of(target.clone()), Seconds(0))]);
    assert_eq!(ledger.store().commands(&target).len(), 1);
}

/// Time stands still, and leases have numbers.
#[derive(Default)]
struct FixedClock(AtomicU64);

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        now()
    }

    fn unique_id(&self) -> LeaseId {
        LeaseId(format!("lease-{}", self.0.fetch_add(1, Ordering::Relaxed)))
    }
}

/// A cloud that takes its time, and of which nothing can be read.
#[derive(Default)]
struct SlowCloud {
    observations: AtomicUsize,
}

impl Cloud for SlowCloud {
    async fn observe(&self, observation: &ObservationPlan) -> Snapshot {
        self.observations.fetch_add(1, Ordering::Relaxed);
        let mut polls_left = 1_000;
        poll_fn(|context| {
            polls_left -= 1;
            context.waker().wake_by_ref();
            if polls_left == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let unknown = || "timed out".to_owned();
        Snapshot {
            blue: Reading::Unknown(unknown()),
            green: Reading::Unknown(unknown()),
            workload: Reading::not_asked(),
            rules: observation.resources.rules().map(|_| Reading::Unknown(unknown())).collect(),
            test_rules: Vec::new(),
            alarms: Reading::Unknown(unknown()),
            alarm_sides: BTreeMap::new(),
            schedules: BTreeMap::new(),
            hook_tasks: BTreeMap::new(),
            throttled: false,
            read_started_at: None,
            api_call: None,
        }
    }

    async fn perform(&self, _: &TargetResources, effect: &Effect) -> Outcome {
        Outcome::Refused { reason: format!("{} is nothing to do here", effect.kind().name()) }
    }
}

#[test]
fn concurrent_wakes_share_one_pass_and_retry_once() {
    let (ledger, target) = ledger();
    let (queue, cloud, clock) = (Queue::default(), SlowCloud::default(), FixedClock::default());
    let taken = block_on(image_pushed(&ledger, &queue, &pushed(), &registry(), now()));
    assert!(taken.is_ok());
    queue.taken();
    let until = Seconds(60).after(now());
    let drive_all = |wakes: &[Wake]| {
        let passes = wakes.iter().map(|wake| drive(wake, &ledger, &cloud, &queue, &clock, until));
        block_on(join_all(passes)).into_iter().map(|driven| driven.expect("the ledger answers")).collect::<Vec<_>>()
    };

    let wakes = vec![Wake::of(target.clone()); 100];
    let driven = drive_all(&wakes);
    let busy = driven.iter().filter(|driven| **driven == DriveOutcome::Busy).count();
    assert_eq!(busy, 99);
    assert_eq!(cloud.observations.load(Ordering::Relaxed), 1, "one pass looks for all");
    let (retries, other_wakes): (Vec<_>, Vec<_>) =
        queue.taken().into_iter().partition(|(wake, _)| wake.found_holder.is_some());
    let delays: Vec<_> = retries.iter().map(|(wake, delay)| (wake.retries, *delay)).collect();
    assert_eq!(delays, [(1, Seconds(3))], "one of the 99 comes again, in case the holder had looked too early");
    // For whoever takes over from a holder that died, and the deployment's own next look.
    let takeovers = other_wakes.iter().filter(|(wake, _)| wake.steal.is_some()).count();
    assert_eq!((takeovers, other_wakes.len()), (1, 2), "{other_wakes:?}");

    // The one that comes again looks for the 98 that did not: nothing that they were about is lost.
    let retries: Vec<Wake> = retries.into_iter().map(|(wake, _)| wake).collect();
    assert_eq!(drive_all(&retries), [DriveOutcome::Done]);
    assert_eq!(cloud.observations.load(Ordering::Relaxed), 2);
    assert!(queue.taken().iter().all(|(wake, _)| wake.found_holder.is_none()));
}
