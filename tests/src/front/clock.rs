//! The world's time, driven by the wall's.

use rollout::{SignedDuration, Timestamp};
use std::time::{Duration, Instant};

/// World time runs `speed` times as fast as wall time from one point where the two were laid over each other.
#[derive(Debug, Clone)]
pub(super) struct DrivenClock {
    world: Timestamp,
    wall: Instant,
    speed: f64,
}

impl DrivenClock {
    pub(super) fn new(world: Timestamp, speed: f64) -> Self {
        Self { world, wall: Instant::now(), speed }
    }

    /// The world's time at this wall time, in whole milliseconds: it never goes back.
    pub(super) fn now(&self) -> Timestamp {
        let elapsed = self.wall.elapsed().mul_f64(self.speed);
        later(self.world, elapsed)
    }

    /// From here on at another speed; 0 stands still.
    pub(super) fn set_speed(&mut self, speed: f64) {
        *self = Self::new(self.now(), speed);
    }

    /// Jumps ahead.
    pub(super) fn skip(&mut self, world_time: Duration) {
        self.world = later(self.world, world_time);
    }
}

fn later(instant: Timestamp, by: Duration) -> Timestamp {
    let milliseconds = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    instant.checked_add(SignedDuration::from_millis(milliseconds)).unwrap_or(Timestamp::MAX)
}
