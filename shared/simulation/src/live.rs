//! [`engine::Cloud`] over a world whose time is somebody else's to step: no virtual time, no faults, every call at once.

use crate::virtual_time::{Past, Reads, perform, see};
use crate::world::World;
use engine::Cloud;
use rollout::look::Look;
use rollout::{EcsPair, Effect, Outcome, Snapshot, Timestamp};
use std::sync::{Arc, Mutex, PoisonError};

/// What runs, in a world that is shared with whoever makes it real.
#[derive(Debug, Clone)]
pub struct LiveCloud {
    world: Arc<Mutex<World>>,
}

impl LiveCloud {
    /// Looks at `world` and changes it.
    #[must_use]
    pub fn new(world: Arc<Mutex<World>>) -> Self {
        Self { world }
    }
}

impl Reads for Mutex<World> {
    fn lagging<T>(
        &self,
        _: &'static str,
        _: impl FnOnce(&Past) -> Option<(Timestamp, T)>,
        read: impl FnOnce(&mut World) -> Result<T, String>,
    ) -> Result<T, String> {
        read(&mut self.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Cloud for LiveCloud {
    async fn observe(&self, look: &Look) -> Snapshot {
        see(&*self.world, look)
    }

    async fn perform(&self, pair: &EcsPair, effect: &Effect) -> Outcome {
        perform(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner), pair, effect)
    }
}
