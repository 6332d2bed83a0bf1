//! What every ledger must do, whatever it is made of: [`engine::Ledger`] and [`engine::PostedMessages`] as cases that can fail.
//!
//! Each case works on an application of its own, so that all of them can run on one ledger, in any order. Brakes alone
//! reach over all: their cases leave none on.

mod brakes;
mod commands;
mod leases;
mod policies;
mod posts;
mod queries;
mod samples;

use engine::{Ledger, PostedMessages};

/// Runs every case; a case that fails panics after its name was printed.
pub async fn check<L: Ledger + PostedMessages>(ledger: &L) {
    leases::check(ledger).await;
    commands::check(ledger).await;
    policies::check(ledger).await;
    queries::check(ledger).await;
    brakes::check(ledger).await;
    posts::check(ledger).await;
}

/// Runs one case under its own name: the last name printed is the one that failed.
macro_rules! cases {
    ($ledger:expr, $($case:ident),+ $(,)?) => {
        $(
            println!("case {}", stringify!($case));
            $case($ledger).await;
        )+
    };
}
use cases;
