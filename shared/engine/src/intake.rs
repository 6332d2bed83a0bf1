//! Events to commands and wakes: what a push asks for, whom a signal wakes, what the sweep finds that nobody told.
//!
//! Knows nothing of events' forms (the functions translate them) and decides nothing about deployments: a command is
//! written, a wake is sent, and the drive loop does the rest.
//!
//! | module | what it does |
//! |---|---|
//! | `push` | [`image_pushed`]: an image becomes a release, and a release a command for every environment that wants it |
//! | `signal` | [`signal()`]: something outside changed; whoever watches it is woken, and told nothing. [`edited`]: somebody changed it by an API call |
//! | `rest` | [`wake_at_rest`]: targets to which nothing is deployed are looked at, each at its own minute of the hour |
//! | `sweep` | [`sweep()`]: overdue targets are woken, pushes whose event was lost are found |

mod push;
mod rest;
mod signal;
mod sweep;

pub use push::{Ignored, ImagePushed, Intake, SAME_BUILD, ServiceIntake, Taken, Unasked, image_pushed, is_image};
pub use rest::{is_turn_at_rest, wake_at_rest};
pub use signal::{edited, signal};
pub use sweep::{LOOK_BACK, MOST_MISSED, MOST_TAGS, MOST_WOKEN, Sweep, Swept, sweep};

use crate::ports::LedgerError;

/// Why an event could not be taken in. It must come again: nothing that was done stands in the way of doing it twice.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The ledger did not do its part.
    #[error("{doing}")]
    Ledger {
        /// What was being done, with the names that it was done to.
        doing: String,
        /// Why not.
        #[source]
        source: LedgerError,
    },
    /// Nobody could be told, and nothing in the ledger would make the sweep tell them.
    #[error("{unrung} of {watching} targets could not be woken: {reason}")]
    WakeQueue {
        /// How many targets should have been woken.
        watching: usize,
        /// How many were not.
        unrung: usize,
        /// The first one's reason, for people.
        reason: String,
    },
}

impl IntakeError {
    fn ledger(doing: impl Into<String>) -> impl FnOnce(LedgerError) -> Self {
        let doing = doing.into();
        move |source| Self::Ledger { doing, source }
    }
}
