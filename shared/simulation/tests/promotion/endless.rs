//! As many days of people, pushes and faults as are asked for, each time from another seed: `cargo simulate`.
//!
//! | variable | what it says | without it |
//! |---|---|---|
//! | `SIMULATION_DEPLOYMENTS` | how many deployments there shall be, at least | 20,000 |
//! | `SIMULATION_SECONDS` | how long that may take: fewer deployments by then are a failure | two minutes |
//! | `SIMULATION_FROM` | the seed of the first day; each day after it has the next one | a fresh one |
//! | `SIMULATION_SEED` | lives through that one day again, and no other | |

use super::random::{DayOutcome, day};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

const DEPLOYMENTS: u64 = 20_000;
const SECONDS: u64 = 120;
/// Where so many days end badly, more of them say nothing new.
const MAX_VIOLATIONS: usize = 50;
/// How often a long run says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);

fn from_env(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// Another one at every run.
fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos() % u128::from(u32::MAX)).unwrap_or_default() << 16
}

/// What is known of all days so far.
struct Totals {
    started_at: Instant,
    days: AtomicU64,
    deployments: AtomicU64,
    verified_in_prod: AtomicU64,
    /// How many things went wrong with calls, wakes and events, as they were to.
    faults: AtomicU64,
    /// On how many days deployments met what nobody had asked for.
    coverage: Mutex<BTreeMap<&'static str, u64>>,
    /// Seeds, and the first words of what is wrong.
    violations: Mutex<Vec<(u64, String)>>,
    /// When it was last said how far it is.
    last_progress: Mutex<Instant>,
}

impl Totals {
    fn new() -> Self {
        let started_at = Instant::now();
        Self {
            started_at,
            days: AtomicU64::new(0),
            deployments: AtomicU64::new(0),
            verified_in_prod: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            coverage: Mutex::default(),
            violations: Mutex::default(),
            last_progress: Mutex::new(started_at),
        }
    }

    fn deployments(&self) -> u64 {
        self.deployments.load(Ordering::Relaxed)
    }

    fn violations(&self) -> MutexGuard<'_, Vec<(u64, String)>> {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run_day(&self, seed: u64) {
        match catch_unwind(AssertUnwindSafe(|| day(seed))) {
            Ok(DayOutcome { deployments, verified_in_prod, faults, coverage }) => {
                self.deployments.fetch_add(deployments as u64, Ordering::Relaxed);
                self.verified_in_prod.fetch_add(verified_in_prod as u64, Ordering::Relaxed);
                self.faults.fetch_add(faults as u64, Ordering::Relaxed);
                let mut all = self.coverage.lock().unwrap_or_else(PoisonError::into_inner);
                for what in coverage {
                    *all.entry(what).or_default() += 1;
                }
            }
            Err(panic) => {
                let words = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                let first = words.lines().next().unwrap_or_default().to_owned();
                self.violations().push((seed, first));
            }
        }
        self.days.fetch_add(1, Ordering::Relaxed);
        let mut last_progress = self.last_progress.lock().unwrap_or_else(PoisonError::into_inner);
        if last_progress.elapsed() >= PROGRESS_INTERVAL {
            *last_progress = Instant::now();
            println!("{}, {} violations", self.rate(), self.violations().len());
        }
    }

    fn rate(&self) -> String {
        let (deployments, seconds) = (self.deployments(), self.started_at.elapsed().as_secs_f64());
        format!("{deployments} deployments in {seconds:.1} s: {:.0} a second", deployments as f64 / seconds)
    }
}

#[test]
#[ignore = "takes as long as it is configured to: `cargo simulate`"]
fn random_days_keep_every_invariant() {
    let only_seed = from_env("SIMULATION_SEED");
    let first = only_seed.or_else(|| from_env("SIMULATION_FROM")).unwrap_or_else(fresh_seed);
    let wanted = from_env("SIMULATION_DEPLOYMENTS").unwrap_or(DEPLOYMENTS);
    let time_limit = Duration::from_secs(from_env("SIMULATION_SECONDS").unwrap_or(SECONDS));
    let (totals, next) = (Totals::new(), AtomicU64::new(first));
    let is_done = || {
        totals.deployments() >= wanted
            || totals.started_at.elapsed() >= time_limit
            || totals.violations().len() >= MAX_VIOLATIONS
    };
    let threads = if only_seed.is_some() { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    totals.run_day(next.fetch_add(1, Ordering::Relaxed));
                    if only_seed.is_some() || is_done() {
                        return;
                    }
                }
            });
        }
    });
    let deployments = totals.deployments();
    println!("{} on {threads} threads, from seed {first} on", totals.rate());
    println!(
        "{} worlds of three or four targets, {} faults",
        totals.days.load(Ordering::Relaxed),
        totals.faults.load(Ordering::Relaxed)
    );
    println!("{} deployments were verified in production", totals.verified_in_prod.load(Ordering::Relaxed));
    for (what, days) in &*totals.coverage.lock().unwrap_or_else(PoisonError::into_inner) {
        println!("{days} worlds met {what}");
    }
    let violations = totals.violations();
    println!("{} violations", violations.len());
    for (seed, words) in &*violations {
        println!("  {words}\n  once more: SIMULATION_SEED={seed} cargo simulate");
    }
    assert!(violations.is_empty(), "a promise was broken");
    assert!(deployments > 0, "nothing was deployed: this proves nothing");
    assert!(
        only_seed.is_some() || deployments >= wanted,
        "only {deployments} of {wanted} deployments in {} s: SIMULATION_SECONDS allows more time",
        time_limit.as_secs()
    );
}
