//! [`engine::Cloud`] over a world whose clock the caller steps: no virtual time, no faults, every call completes
//! immediately.

use crate::virtual_time::{PreviousState, WorldReader, newest_template, perform, read_snapshot};
use crate::world::World;
use engine::Cloud;
use rollout::observation::ObservationPlan;
use rollout::template::TemplateReading;
use rollout::{Effect, Outcome, Reading, Snapshot, TargetResources, Timestamp};
use std::sync::{Arc, Mutex, PoisonError};

/// The cloud port over a world that is shared with the backend running its tasks.
#[derive(Debug, Clone)]
pub struct LiveCloud {
    world: Arc<Mutex<World>>,
}

impl LiveCloud {
    /// Reads and changes `world`.
    #[must_use]
    pub fn new(world: Arc<Mutex<World>>) -> Self {
        Self { world }
    }
}

impl WorldReader for Mutex<World> {
    fn reading_or_stale<T>(
        &self,
        _: &'static str,
        _: impl FnOnce(&PreviousState) -> Option<(Timestamp, T)>,
        read: impl FnOnce(&mut World) -> Result<T, String>,
    ) -> Result<T, String> {
        read(&mut self.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Cloud for LiveCloud {
    async fn observe(&self, observation: &ObservationPlan) -> Snapshot {
        read_snapshot(&*self.world, observation)
    }

    async fn perform(&self, resources: &TargetResources, effect: &Effect) -> Outcome {
        perform(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner), resources, effect)
    }

    async fn template(
        &self,
        resources: &TargetResources,
        family: &str,
        live: Option<&str>,
    ) -> Reading<TemplateReading> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        match newest_template(&mut world, resources, family, live) {
            Ok(template) => Reading::Known(template),
            Err(reason) => Reading::Unknown(reason),
        }
    }
}
