//! The demo's wake queue, clock and driver loop, in place of SQS and the driver function on AWS.

use engine::{Clock, Cloud, DriverLedger, LeaseId, Wake, WakeQueue, drive};
use rollout::{Seconds, Timestamp};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// Maximum duration of a pass: the driver function's time-out on AWS.
const PASS_TIMEOUT: Seconds = Seconds(60);

/// Delay until the wake of a failed pass is received again: SQS's visibility time-out on AWS.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The machine's clock.
#[derive(Debug, Default)]
pub(crate) struct WallClock {
    leases: AtomicU64,
}

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        // A clock before 1970 or after the year 9999 is invalid.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let milliseconds = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
    }

    fn unique_id(&self) -> LeaseId {
        LeaseId(format!("demo-{}-{}", std::process::id(), self.leases.fetch_add(1, Ordering::Relaxed)))
    }
}

/// A wake queue based on timers: a wake arrives when its delay is over.
#[derive(Debug, Clone)]
pub(crate) struct TimerWakeQueue {
    wakes: mpsc::UnboundedSender<Wake>,
}

impl TimerWakeQueue {
    /// A wake queue, and the receiver of its wakes.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Wake>) {
        let (wakes, incoming) = mpsc::unbounded_channel();
        (Self { wakes }, incoming)
    }
}

impl WakeQueue for TimerWakeQueue {
    async fn send(&self, wake: &Wake, delay: Seconds) -> Result<(), String> {
        let closed = || "nobody reads the wake queue any more".to_owned();
        if delay == Seconds(0) {
            return self.wakes.send(wake.clone()).map_err(|_| closed());
        }
        if self.wakes.is_closed() {
            return Err(closed());
        }
        let (wakes, wake) = (self.wakes.clone(), wake.clone());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(delay.0)).await;
            // After the end of the demo nothing receives wakes.
            let _ = wakes.send(wake);
        });
        Ok(())
    }
}

/// Processes wakes one after another until the queue is closed.
pub(crate) async fn drive_wakes<L: DriverLedger, C: Cloud, K: Clock>(
    mut incoming: mpsc::UnboundedReceiver<Wake>,
    wake_queue: TimerWakeQueue,
    ledger: &L,
    cloud: &C,
    clock: &K,
) {
    while let Some(wake) = incoming.recv().await {
        // Wakes carry no data, so several for the same target are merged.
        let mut wakes = vec![wake];
        while let Ok(next) = incoming.try_recv() {
            if !wakes.contains(&next) {
                wakes.push(next);
            }
        }
        for wake in wakes {
            if drive(&wake, ledger, cloud, &wake_queue, clock, PASS_TIMEOUT.after(clock.now())).await.is_err() {
                tokio::time::sleep(RETRY_DELAY).await;
                // Cannot fail: this loop holds the receiver.
                let _ = wake_queue.send(&wake, Seconds(0)).await;
            }
        }
    }
}
