//! People, pushes and meddling at random, in a world where calls fail now and then: whatever is done, every promise of
//! [`simulation::invariants`] holds after every step, nothing gets to production that was not verified before and that two
//! people have not said yes to, and nothing widens while the line is stopped.

mod actions;
mod checks;
mod conditions;
mod in_place;
mod run;
mod settle;
mod setup;

use crate::day::ToolTrigger;
use crate::in_place_day::worker;
use crate::pipeline::{Pipeline, target};
use in_place::ServiceTool;
use rollout::brake::Scope;
use rollout::{Seconds, TargetId, Timestamp};
use run::required_coverage;
pub(crate) use run::{DayOutcome, day, recorded};
use simulation::world::ImageBehaviour;
use std::collections::{BTreeMap, BTreeSet};

const ROLLBACK_REASON: &str = "the cart is empty";
/// What a pass that was under way may still do after something was changed: it has read it before.
const IN_FLIGHT: Seconds = Seconds(75);
/// How often a day that ends badly is lived through again at most, to find out what it takes.
const MAX_SHRINK_RUNS: usize = 300;
/// Of so many days that end badly it is found out; the others only say so.
const MAX_SHRUNK_DAYS: usize = 3;

/// Requests a second that a target gets where nobody changes that.
const DEFAULT_REQUESTS_PER_SECOND: f64 = 5.0;
/// Tasks of a side that wakes up.
const DEFAULT_TASKS: u32 = 4;

fn targets() -> [TargetId; 3] {
    [target("shop/api/dev"), target("shop/api/staging"), target("shop/api/prod")]
}

/// A day, being lived through.
struct DayRun {
    pipeline: Pipeline,
    /// Which brakes are on, since when.
    active_brakes: BTreeMap<Scope, Timestamp>,
    /// Which brakes were on, from when until when.
    past_brakes: Vec<(Scope, Timestamp, Timestamp)>,
    /// While the line is stopped: the candidate's share of each deployment that runs.
    highest_shares: BTreeMap<(TargetId, u64), i64>,
    /// Whose rules somebody has edited.
    edited_by_hand: BTreeSet<TargetId>,
    /// Tools that write a rule as soon as their moment has come.
    pending_tools: Vec<(TargetId, ToolTrigger, u8)>,
    /// How images behave that are not ill.
    images: BTreeMap<u64, ImageBehaviour>,
    /// Images that are ill, and of which target somebody said so.
    degraded: BTreeSet<(TargetId, u64)>,
    /// Whether a deployment has waited for an alarm that was not evaluated.
    saw_unevaluated_alarm: bool,
    /// Whether CloudTrail tells who edited a rule.
    cloudtrail_enabled: bool,
    /// Whose sides are asleep.
    scaled_to_zero: BTreeSet<TargetId>,
    /// The targets that change their version in place.
    in_place: BTreeSet<TargetId>,
    /// Tools that act on a service in place as soon as their moment has come.
    pending_service_tools: Vec<(TargetId, ToolTrigger, ServiceTool)>,
    /// Number of release trains that were asked for.
    trains: u64,
    /// Whether a deployment has waited for protected tasks to end.
    saw_protected_tasks: bool,
}

impl DayRun {
    /// All targets of the day.
    fn targets(&self) -> Vec<TargetId> {
        let worker = Some(worker()).filter(|worker| self.in_place.contains(worker));
        targets().into_iter().chain(worker).collect()
    }

    /// Those of them that are pairs.
    fn pairs(&self) -> Vec<TargetId> {
        self.targets().into_iter().filter(|target| !self.in_place.contains(target)).collect()
    }
}

/// How many days are lived through; `SIMULATION_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("SIMULATION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(24)
}

/// Days among which those that meet rare conditions are searched, at most.
const MAX_SEARCHED_DAYS: u64 = 3_000;

/// Days that meet what the first ones do not.
const RARE_CONDITION_SEEDS: [u64; 6] = [33, 44, 81, 84, 95, 269];

/// Days that once ended badly, each for a defect that was mended then. Where days are drawn in another way, they are other
/// days, and prove no more than others do.
const REGRESSION_SEEDS: [u64; 13] = [
    1_441,
    500_663,
    502_017,
    502_723,
    505_100,
    600_267,
    601_291,
    603_619,
    606_359,
    703_423,
    705_631,
    706_963,
    247_330_912_149_543,
];

#[test]
fn regression_seeds_end_in_order() {
    for seed in REGRESSION_SEEDS {
        day(seed);
    }
}

#[test]
fn only_verified_and_approved_releases_reach_production() {
    let (mut verified_in_prod, mut coverage) = (0, BTreeSet::new());
    for seed in (0..seeds()).chain(RARE_CONDITION_SEEDS) {
        let day = day(seed);
        verified_in_prod += day.verified_in_prod;
        coverage.extend(day.coverage);
    }
    assert!(verified_in_prod > 10, "{verified_in_prod} deployments in prod prove little");
    for what in required_coverage() {
        assert!(coverage.contains(what), "no day met {what}, of {coverage:?}");
    }
}

#[test]
#[ignore = "prints days for RARE_CONDITION_SEEDS: needed only where days are drawn in another way"]
fn rare_conditions_are_met_by_some_day() {
    let mut missing: BTreeSet<&'static str> = required_coverage().collect();
    for seed in 0..seeds() {
        let met = day(seed).coverage;
        missing.retain(|what| !met.contains(what));
    }
    for seed in seeds()..MAX_SEARCHED_DAYS {
        let met: Vec<&str> = day(seed).coverage.into_iter().filter(|what| missing.remove(what)).collect();
        if !met.is_empty() {
            println!("{seed}: {}", met.join(", "));
        }
        if missing.is_empty() {
            return;
        }
    }
    panic!("no day before {MAX_SEARCHED_DAYS} meets {missing:?}");
}
