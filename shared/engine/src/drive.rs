//! One pass over one target.

use crate::ports::{Clock, Cloud, Doorbell, Ledger, LedgerError, Ring};
use rollout::Seconds;

/// How long a lease is out of reach of others: longer than any invocation of the driver may take.
pub const LEASE: Seconds = Seconds(75);

/// What became of a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driven {
    /// It was looked at, and left in order.
    Done,
    /// Somebody else holds the target; a wake is rung for later.
    Busy,
}

/// One pass over the target that `ring` wakes.
///
/// # Errors
/// [`LedgerError`] where the ledger did not answer: the wake must come again.
pub async fn drive<L: Ledger, C: Cloud, D: Doorbell, K: Clock>(
    _ring: &Ring,
    _ledger: &L,
    _cloud: &C,
    _doorbell: &D,
    _clock: &K,
    _until: rollout::Timestamp,
) -> Result<Driven, LedgerError> {
    Ok(Driven::Done)
}
