//! Thousands of targets at once, in virtual time, before the API budgets of one account in one Region.
//!
//! What is real: the passes ([`engine::drive`]), the intake of pushes and signals, the sweep, the decision, the ledger's
//! conditions. What is modelled: AWS's token buckets ([`crate::budgets`]), the SDK's retries, the queue of wakes and how many
//! functions it may run at once, and for each target a world of its own, so that ten thousand of them cost ten thousand
//! times one and nothing more.
//!
//! | module | what it is |
//! |---|---|
//! | `town` | what all share: the time, the budgets, the queues, the worlds |
//! | `ports` | the engine's ports as one invocation has them; each call of AWS by its name |
//! | `run` | who goes next: invocations, timers, events |
//! | `report` | what came of it, in figures |

mod ports;
mod report;
mod run;
mod town;

pub use report::{Report, Spread};
pub use run::push_to_all;

use crate::world::Scene;
use rollout::Seconds;

/// A crowd of targets, all of which get a push at the same instant.
#[derive(Debug, Clone)]
pub struct Crowd {
    /// How many.
    pub targets: usize,
    /// A policy has at most 100 of them.
    pub targets_an_application: usize,
    /// Of so many releases one is bad: it answers with errors, and its alarm fires once it has traffic. 0: none.
    pub one_bad_in: usize,
    /// The buckets are so many times what AWS gives.
    pub budgets: f64,
    /// What the product takes the buckets for, times the real sizes: wrong where others in the account use them, too.
    pub believed: f64,
    /// So many passes run at once for ordinary wakes, and for urgent ones.
    pub at_once: [usize; 2],
    /// Everything left to chance comes from this.
    pub seed: u64,
    /// It is given up after this, in virtual time.
    pub patience: Seconds,
    /// What each target is like; its names are replaced.
    pub scene: Scene,
}

impl Crowd {
    /// So many targets before the real budgets, one bad release in a hundred, with the product's own settings.
    #[must_use]
    pub fn of(targets: usize) -> Self {
        let scene = Scene::new("any", "any", "prod");
        Self {
            targets,
            targets_an_application: 100,
            one_bad_in: 100,
            budgets: 1.0,
            believed: 1.0,
            at_once: [100, 900],
            seed: 1,
            patience: Seconds(7 * 24 * 3600),
            // An alarm as most are: a minute's period. What is seen of it is seen at once.
            scene: Scene { alarm_period_s: 60, ..scene },
        }
    }
}
