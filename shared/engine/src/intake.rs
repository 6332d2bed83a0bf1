//! Turns events into commands and wakes: pushes into deploy commands, signals into wakes, and the sweep for what no event
//! announced.
//!
//! Independent of event formats (the functions translate them), and decides nothing about deployments: it writes a command and
//! sends a wake, and the drive loop does the rest.
//!
//! | module | what it does |
//! |---|---|
//! | `push` | [`image_pushed`]: an image becomes a release, and the release a command for every environment that deploys it |
//! | `signal` | [`signal()`]: an external change wakes the targets that watch it, without details. [`resource_edited`]: the same for a change by an API call |
//! | `idle` | [`wake_idle_targets`]: observes idle targets, each at its own minute of the hour |
//! | `sweep` | [`sweep()`]: wakes overdue targets, finds pushes whose event was lost |

mod idle;
mod push;
mod signal;
mod sweep;

pub use idle::{is_idle_turn, wake_idle_targets};
pub use push::{
    Ignored, ImagePushed, Intake, NotDeployedReason, PushOutcome, SAME_BUILD, ServiceIntake, image_pushed, is_image,
};
pub use signal::{resource_edited, signal};
pub use sweep::{LOOK_BACK, MAX_MISSED, MAX_TAGS, MAX_WOKEN, Sweep, SweepReport, sweep};

use crate::ports::{Commands, LedgerError, Policies, ReleaseIntake, Releases, TargetIndex};

/// Ledger access of an event or a sweep that takes in images: writes releases and commands.
pub trait IntakeLedger: Commands + Policies + ReleaseIntake + Releases + TargetIndex {}

impl<T: Commands + Policies + ReleaseIntake + Releases + TargetIndex> IntakeLedger for T {}

/// Why an event could not be processed. It must be delivered again; processing it twice is safe.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The ledger failed.
    #[error("{doing}")]
    Ledger {
        /// The operation that failed, with the names of its objects.
        doing: String,
        /// The ledger's error.
        #[source]
        source: LedgerError,
    },
    /// Targets could not be woken, and nothing in the ledger would make the sweep wake them.
    #[error("{not_woken} of {watching} targets could not be woken: {reason}")]
    WakeQueue {
        /// Number of targets to wake.
        watching: usize,
        /// Number of targets that were not woken.
        not_woken: usize,
        /// The first target's reason, as text for people.
        reason: String,
    },
}

impl IntakeError {
    fn ledger(doing: impl Into<String>) -> impl FnOnce(LedgerError) -> Self {
        let doing = doing.into();
        move |source| Self::Ledger { doing, source }
    }
}
