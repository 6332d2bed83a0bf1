//! Data read in this pass that a write in the same pass needs, so that a write right after an observation takes one
//! call.
//!
//! Entries are short-lived. An observation replaces what it reads, a write removes what it writes, and entries older
//! than [`MAX_AGE`] count as missing: a rule edited in between is read again, not overwritten.

use crate::error::AwsFailure;
use aws_sdk_applicationautoscaling::types::SuspendedState;
use aws_sdk_ecs::types::Service;
use aws_sdk_elasticloadbalancingv2::types::Action;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Maximum age of a cached reading: a commit's timeout, and a little more.
pub(super) const MAX_AGE: Duration = Duration::from_secs(10);

/// Results of the last observation.
#[derive(Debug, Default)]
pub(super) struct ReadCache {
    /// Actions of a rule or a listener, by its ARN.
    pub(super) rules: TimedCache<Vec<Action>>,
    /// ECS services, by [`service_key`](super::service_key).
    pub(super) services: TimedCache<Service>,
    /// Suspended state of a scalable target, by [`service_key`](super::service_key).
    pub(super) suspended: TimedCache<SuspendedState>,
    /// Whether a read of the current observation was throttled.
    pub(super) throttled: AtomicBool,
    /// Time since which an alarm has been firing, by alarm name.
    pub(super) firing: TimedCache<rollout::Timestamp>,
    /// Members of composite alarms, by alarm name: only which alarms to request with them, never their states.
    children: Mutex<HashMap<String, BTreeSet<String>>>,
}

/// Maximum number of composite alarms whose members are cached. Beyond it the cache is cleared, which costs one call
/// per composite alarm.
const MAX_COMPOSITES: usize = 1000;

impl ReadCache {
    /// Records whether a read was throttled.
    pub(super) fn note_throttling<T>(&self, read: Result<T, AwsFailure>) -> Result<T, AwsFailure> {
        if read.as_ref().is_err_and(AwsFailure::is_throttled) {
            self.throttled.store(true, Ordering::Relaxed);
        }
        read
    }

    /// The cached members of these alarms.
    pub(super) fn children_of(&self, names: &BTreeSet<String>) -> BTreeSet<String> {
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        names.iter().filter_map(|name| children.get(name)).flatten().cloned().collect()
    }

    /// Caches an alarm's members; removes the entry where there are none (not a composite alarm).
    pub(super) fn put_children(&self, name: &str, parts: BTreeSet<String>) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        if parts.is_empty() {
            children.remove(name);
            return;
        }
        if children.len() >= MAX_COMPOSITES && !children.contains_key(name) {
            children.clear();
        }
        children.insert(name.to_owned(), parts);
    }

    /// Whether a read was throttled since the last call of this function.
    pub(super) fn take_throttled(&self) -> bool {
        self.throttled.swap(false, Ordering::Relaxed)
    }
}

/// Readings by key, each with the time it was read.
#[derive(Debug)]
pub(super) struct TimedCache<T>(Mutex<HashMap<String, (Instant, T)>>);

impl<T> Default for TimedCache<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> TimedCache<T> {
    /// Caches `value` as read now.
    pub(super) fn put(&self, key: &str, value: T) {
        self.locked(|map| map.insert(key.to_owned(), (Instant::now(), value)));
    }

    /// Removes an entry that could not be read, or is about to be written.
    pub(super) fn forget(&self, key: &str) {
        self.locked(|map| map.remove(key));
    }

    /// Removes the entry and returns it if it is fresh, for a caller that is about to write.
    pub(super) fn take(&self, key: &str) -> Option<T> {
        self.take_at(key, Instant::now())
    }

    fn take_at(&self, key: &str, now: Instant) -> Option<T> {
        let (read_at, value) = self.locked(|map| map.remove(key))?;
        (now.saturating_duration_since(read_at) <= MAX_AGE).then_some(value)
    }

    fn locked<R>(&self, act: impl FnOnce(&mut HashMap<String, (Instant, T)>) -> R) -> R {
        // A panic elsewhere leaves complete entries: every change is one insert or one remove.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cached_reading_serves_one_write_while_fresh() {
        let remembered = TimedCache::default();
        remembered.put("rule", 1);
        assert_eq!(remembered.take("rule"), Some(1));
        assert_eq!(remembered.take("rule"), None);

        remembered.put("rule", 2);
        let late = Instant::now() + MAX_AGE + Duration::from_secs(1);
        assert_eq!(remembered.take_at("rule", late), None);

        remembered.put("rule", 3);
        remembered.forget("rule");
        assert_eq!(remembered.take("rule"), None);
    }
}
