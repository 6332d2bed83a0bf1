//! Drives deployments: the ports to the world, and the loop that goes from a wake to an effect.
//!
//! Async, and without AWS: a port's implementation is chosen by who links this crate.
//!
//! | module | what it does |
//! |---|---|
//! | [`ports`] | what the loop needs of the world: ledger, cloud, registry, doorbell, clock |
//! | [`drive`](drive()) | one pass over one target: begin, observe, decide, commit, perform, record |
//! | [`intake`] | events to commands and wakes: image pushed, signal received, sweep |
//! | [`operate`] | what people ask: apply, deploy, abort, rollback, status, history, plan |

mod drive;
pub mod intake;
pub mod operate;
pub mod ports;

pub use drive::{Driven, LEASE, drive};
pub use ports::{
    Applied, Begin, Claim, Clock, Cloud, Commit, Doorbell, LeaseId, Ledger, LedgerError, Loaded, PushedImage, Registry,
    Ring, Watch,
};
