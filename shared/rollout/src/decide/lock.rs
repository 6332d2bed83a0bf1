//! The lock of an environment that deploys one service at a time. A deployment takes it when its gates open
//! ([`gate`](super::gate)) and keeps it until it is verified or ends. The ledger writes it in the transaction of the
//! decision.

use super::builder::Builder;
use crate::phase::Phase;
use crate::target::{OutboxMessage, TargetState};

/// Releases the lock where it is not needed any more. `before`: the state that the decision was made on.
pub(super) fn release(builder: &mut Builder, before: &TargetState) {
    let state = &mut builder.state;
    if let Some(running) = state.running.as_mut().filter(|running| running.holds_lock) {
        let verified = state.verified.iter().any(|known| known.deployment == running.number);
        // Its service may have gone to sleep before anything was changed.
        let is_gated = matches!(running.phase, Phase::Gated(_));
        running.holds_lock = !verified && !is_gated;
    }
    if before.lock_holder().is_some() && state.lock_holder().is_none() {
        builder.send(OutboxMessage::LockReleased);
    }
}
