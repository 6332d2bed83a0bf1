//! The demo's wake queue and clock, and the loop that answers the wake queue: what SQS and the driver function are on AWS.

use engine::{Clock, Cloud, LeaseId, Ledger, Wake, WakeQueue, drive};
use rollout::{Seconds, Timestamp};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// How long one pass may take at most: the driver function's time-out on AWS.
const PASS: Seconds = Seconds(60);

/// A wake whose pass did not work comes again after this; SQS's visibility time-out on AWS.
const COME_AGAIN: Duration = Duration::from_secs(1);

/// The machine's clock.
#[derive(Debug, Default)]
pub(crate) struct WallClock {
    leases: AtomicU64,
}

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        // A clock before 1970 or past the year 9999 is no clock.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let milliseconds = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
    }

    fn lease_id(&self) -> LeaseId {
        LeaseId(format!("demo-{}-{}", std::process::id(), self.leases.fetch_add(1, Ordering::Relaxed)))
    }
}

/// A wake queue on timers: a wake arrives once its delay is over.
#[derive(Debug, Clone)]
pub(crate) struct Timers {
    wakes: mpsc::UnboundedSender<Wake>,
}

impl Timers {
    /// A wake queue, and where its wakes arrive.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Wake>) {
        let (wakes, arriving) = mpsc::unbounded_channel();
        (Self { wakes }, arriving)
    }
}

impl WakeQueue for Timers {
    async fn send(&self, wake: &Wake, delay: Seconds) -> Result<(), String> {
        let gone = || "nobody reads the wake queue any more".to_owned();
        if delay == Seconds(0) {
            return self.wakes.send(wake.clone()).map_err(|_| gone());
        }
        if self.wakes.is_closed() {
            return Err(gone());
        }
        let (wakes, wake) = (self.wakes.clone(), wake.clone());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(delay.0)).await;
            // Nobody is there to be woken once the demo is over.
            let _ = wakes.send(wake);
        });
        Ok(())
    }
}

/// Answers the wake queue until nobody can send to it any more: one pass after the other.
pub(crate) async fn answer<L: Ledger, C: Cloud, K: Clock>(
    mut arriving: mpsc::UnboundedReceiver<Wake>,
    wake_queue: Timers,
    ledger: &L,
    cloud: &C,
    clock: &K,
) {
    while let Some(wake) = arriving.recv().await {
        // Wakes carry no facts: several of one target are one.
        let mut wakes = vec![wake];
        while let Ok(another) = arriving.try_recv() {
            if !wakes.contains(&another) {
                wakes.push(another);
            }
        }
        for wake in wakes {
            if drive(&wake, ledger, cloud, &wake_queue, clock, PASS.after(clock.now())).await.is_err() {
                tokio::time::sleep(COME_AGAIN).await;
                // The receiver is this very loop's.
                let _ = wake_queue.send(&wake, Seconds(0)).await;
            }
        }
    }
}
