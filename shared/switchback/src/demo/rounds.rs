//! The demo's doorbell and clock, and the loop that answers the doorbell: what SQS and the driver function are on AWS.

use engine::{Clock, Cloud, Doorbell, LeaseId, Ledger, Ring, drive};
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

/// A doorbell on timers: a wake arrives once its delay is over.
#[derive(Debug, Clone)]
pub(crate) struct Timers {
    wakes: mpsc::UnboundedSender<Ring>,
}

impl Timers {
    /// A doorbell, and where its wakes arrive.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Ring>) {
        let (wakes, arriving) = mpsc::unbounded_channel();
        (Self { wakes }, arriving)
    }
}

impl Doorbell for Timers {
    async fn ring(&self, ring: &Ring, delay: Seconds) -> Result<(), String> {
        let gone = || "nobody answers the doorbell any more".to_owned();
        if delay == Seconds(0) {
            return self.wakes.send(ring.clone()).map_err(|_| gone());
        }
        if self.wakes.is_closed() {
            return Err(gone());
        }
        let (wakes, ring) = (self.wakes.clone(), ring.clone());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(delay.0)).await;
            // Nobody is there to be woken once the demo is over.
            let _ = wakes.send(ring);
        });
        Ok(())
    }
}

/// Answers the doorbell until nobody can ring it any more: one pass after the other.
pub(crate) async fn answer<L: Ledger, C: Cloud, K: Clock>(
    mut arriving: mpsc::UnboundedReceiver<Ring>,
    doorbell: Timers,
    ledger: &L,
    cloud: &C,
    clock: &K,
) {
    while let Some(ring) = arriving.recv().await {
        // Wakes carry no facts: several of one target are one.
        let mut rings = vec![ring];
        while let Ok(another) = arriving.try_recv() {
            if !rings.contains(&another) {
                rings.push(another);
            }
        }
        for ring in rings {
            if drive(&ring, ledger, cloud, &doorbell, clock, PASS.after(clock.now())).await.is_err() {
                tokio::time::sleep(COME_AGAIN).await;
                // The receiver is this very loop's.
                let _ = doorbell.ring(&ring, Seconds(0)).await;
            }
        }
    }
}
