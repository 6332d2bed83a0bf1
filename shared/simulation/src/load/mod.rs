//! Load test in virtual time: thousands of concurrent targets on the API budgets of one account in one Region.
//!
//! Real: the passes ([`engine::drive`]), the intake of pushes and signals, the sweep, the decisions, the ledger's
//! conditions. Modelled: AWS's token buckets ([`crate::budgets`]), the SDK's retries, the wake queue and its
//! concurrency limit. Each target has a world of its own, so that the cost grows linearly with the number of targets.
//!
//! | module | what it is |
//! |---|---|
//! | `state` | shared state: time, budgets, queues, worlds |
//! | `ports` | the engine's ports as one invocation sees them; each AWS call under its operation name |
//! | `run` | scheduler: invocations, timers, events |
//! | `report` | the results, in figures |

mod ports;
mod report;
mod run;
mod state;

pub use report::{Durations, LoadReport};
pub use run::push_to_all;

use crate::world::PairSetup;
use rollout::Seconds;

/// A set of targets that all get a push at the same instant.
#[derive(Debug, Clone)]
pub struct LoadProfile {
    /// Number of targets.
    pub targets: usize,
    /// A policy may name at most 100 targets, so more targets need several applications.
    pub targets_per_application: usize,
    /// One release in this many is bad: it answers with errors, and its alarm fires once it has traffic. 0: none.
    pub bad_release_every: usize,
    /// Size of the token buckets, as a multiple of AWS's.
    pub budgets: f64,
    /// Bucket size that the product assumes, as a multiple of AWS's; too high where other tools in the account use the
    /// buckets, too.
    pub assumed_budget_scale: f64,
    /// Maximum number of concurrent passes for ordinary and for urgent wakes.
    pub max_concurrent_passes: [usize; 2],
    /// Seed of all randomness.
    pub seed: u64,
    /// The run stops after this, in virtual time.
    pub time_limit: Seconds,
    /// Template for each target; its names are replaced.
    pub scene: PairSetup,
}

impl LoadProfile {
    /// `targets` targets on AWS's real budgets, one bad release in a hundred, with the product's own settings.
    #[must_use]
    pub fn of(targets: usize) -> Self {
        let scene = PairSetup::new("any", "any", "prod");
        Self {
            targets,
            targets_per_application: 100,
            bad_release_every: 100,
            budgets: 1.0,
            assumed_budget_scale: 1.0,
            max_concurrent_passes: [100, 900],
            seed: 1,
            time_limit: Seconds(7 * 24 * 3600),
            // A typical alarm with a period of one minute. Alarm changes are visible without delay.
            scene: PairSetup { alarm_period_s: 60, ..scene },
        }
    }
}
