//! As many days of people, pushes and faults as are asked for, each time from another seed: `cargo simulate`.
//!
//! `SIMULATION_DEPLOYMENTS` and `SIMULATION_SECONDS` say when it is enough, whichever comes first; `SIMULATION_SEED`
//! lives through that one day again.

use super::random::{Day, day};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

const DEPLOYMENTS: u64 = 20_000;
const SECONDS: u64 = 110;

fn asked(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// Another one at every run.
fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos() % u128::from(u32::MAX)).unwrap_or_default() << 16
}

/// What is known of all days so far.
#[derive(Default)]
struct Tally {
    days: AtomicU64,
    deployments: AtomicU64,
    reached: AtomicU64,
    /// Seeds, and the first words of what is wrong.
    violations: Mutex<Vec<(u64, String)>>,
}

impl Tally {
    fn live(&self, seed: u64) {
        match catch_unwind(AssertUnwindSafe(|| day(seed))) {
            Ok(Day { deployments, reached }) => {
                self.deployments.fetch_add(deployments as u64, Ordering::Relaxed);
                self.reached.fetch_add(reached as u64, Ordering::Relaxed);
            }
            Err(panic) => {
                let words = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                let first = words.lines().next().unwrap_or_default().to_owned();
                self.violations.lock().expect("nobody panics with it").push((seed, first));
            }
        }
        self.days.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
#[ignore = "takes as long as it is told to: `cargo simulate`"]
fn whatever_happens_every_deployment_ends_in_order() {
    let once_more = asked("SIMULATION_SEED");
    let first = once_more.unwrap_or_else(fresh_seed);
    let wanted = asked("SIMULATION_DEPLOYMENTS").unwrap_or(DEPLOYMENTS);
    let most = Duration::from_secs(asked("SIMULATION_SECONDS").unwrap_or(SECONDS));
    let (tally, next, began) = (Tally::default(), AtomicU64::new(first), Instant::now());
    let enough = || tally.deployments.load(Ordering::Relaxed) >= wanted || began.elapsed() >= most;
    let threads = if once_more.is_some() { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    tally.live(next.fetch_add(1, Ordering::Relaxed));
                    if once_more.is_some() || enough() {
                        return;
                    }
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let (days, deployments) = (tally.days.into_inner(), tally.deployments.into_inner());
    let violations = tally.violations.into_inner().expect("nobody panics with it");
    println!("{deployments} deployments in {days} worlds of three targets, from seed {first} on");
    println!("{} of them were verified in production", tally.reached.into_inner());
    println!("{seconds:.1} s on {threads} threads: {:.0} deployments a second", deployments as f64 / seconds);
    println!("{} violations", violations.len());
    for (seed, words) in &violations {
        println!("  {words}\n  once more: SIMULATION_SEED={seed} cargo simulate");
    }
    assert!(violations.is_empty(), "a promise was broken");
    assert!(deployments > 0, "nothing was deployed: this proves nothing");
}
