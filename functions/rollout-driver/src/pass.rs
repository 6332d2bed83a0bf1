//! One pass, and what becomes of its wake.

use crate::Driver;
use crate::wakes::Delivery;
use aws::SystemClock;
use aws::cloud::AwsCloud;
use engine::DriveOutcome;
use lambda::InvocationFailure;
use rollout::Timestamp;

/// Runs the pass. Returns whether the wake is done; if not, it is redelivered.
pub(crate) async fn run(driver: &Driver, delivery: &Delivery, until: Timestamp) -> bool {
    let Driver { ports, recorder } = driver;
    // One per pass: it caches what the pass has read.
    let cloud = AwsCloud::new(ports.clients.clone());
    let (ledger, wake_queue) = (&ports.ledger, &ports.wake_queue);
    match engine::drive_recorded(&delivery.wake, ledger, &cloud, wake_queue, &SystemClock, recorder, until).await {
        Ok(DriveOutcome::Done) => true,
        Ok(driven @ (DriveOutcome::Busy | DriveOutcome::LeaseLost)) => {
            tracing::info!("left to whoever holds the target: {driven:?}");
            true
        }
        Err(error) => {
            let failure = InvocationFailure::unavailable(&error);
            tracing::error!(
                error.kind = failure.kind(),
                "the pass could not be finished, its wake comes again: {failure}"
            );
            false
        }
    }
}
