//! What was read in this pass and is needed again to write: so that a write right after a look is one call.
//!
//! Nothing here is believed for long. A look replaces what it reads, a write forgets what it writes, and whatever is
//! older than [`FRESH`] counts as never read: a rule that somebody edits in between is read again, not written over.

use crate::error::Failure;
use aws_sdk_applicationautoscaling::types::SuspendedState;
use aws_sdk_ecs::types::Service;
use aws_sdk_elasticloadbalancingv2::types::Action;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a reading may stand for the thing itself: a commit's time-out, and a little.
pub(super) const FRESH: Duration = Duration::from_secs(10);

/// What the last look read.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Actions of a rule or a listener, by its ARN.
    pub(super) rules: Remembered<Vec<Action>>,
    /// ECS services, by [`service_key`](super::service_key).
    pub(super) services: Remembered<Service>,
    /// What of a scalable target is suspended, by [`service_key`](super::service_key).
    pub(super) suspended: Remembered<SuspendedState>,
    /// Something of the present look could not be read for too many requests.
    pub(super) throttled: AtomicBool,
    /// Since when an alarm fires that does, by its name.
    pub(super) firing: Remembered<rollout::Timestamp>,
    /// What composite alarms are made of, by their names: only what to ask for beside them, never what those said.
    children: Mutex<HashMap<String, BTreeSet<String>>>,
}

/// Composite alarms whose parts are remembered at most; then all are forgotten, which costs each of them one call.
const MOST_COMPOSITES: usize = 1000;

impl Memory {
    /// Takes note of whether a reading was throttled.
    pub(super) fn noting<T>(&self, read: Result<T, Failure>) -> Result<T, Failure> {
        if read.as_ref().is_err_and(Failure::is_throttled) {
            self.throttled.store(true, Ordering::Relaxed);
        }
        read
    }

    /// What these alarms are made of, as far as it was seen before.
    pub(super) fn children_of(&self, names: &BTreeSet<String>) -> BTreeSet<String> {
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        names.iter().filter_map(|name| children.get(name)).flatten().cloned().collect()
    }

    /// Remembers what an alarm is made of; nothing, where it is not composite.
    pub(super) fn put_children(&self, name: &str, parts: BTreeSet<String>) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        if parts.is_empty() {
            children.remove(name);
            return;
        }
        if children.len() >= MOST_COMPOSITES && !children.contains_key(name) {
            children.clear();
        }
        children.insert(name.to_owned(), parts);
    }

    /// Whether something was throttled since the last asking.
    pub(super) fn was_throttled(&self) -> bool {
        self.throttled.swap(false, Ordering::Relaxed)
    }
}

/// Readings by key, each with the instant that it was made.
#[derive(Debug)]
pub(super) struct Remembered<T>(Mutex<HashMap<String, (Instant, T)>>);

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Remembered<T> {
    /// Remembers `value` as read just now.
    pub(super) fn put(&self, key: &str, value: T) {
        self.locked(|map| map.insert(key.to_owned(), (Instant::now(), value)));
    }

    /// Forgets it: it could not be read, or is about to be written.
    pub(super) fn forget(&self, key: &str) {
        self.locked(|map| map.remove(key));
    }

    /// The reading, if it is fresh, which is forgotten with that: for who is going to write.
    pub(super) fn take(&self, key: &str) -> Option<T> {
        self.take_at(key, Instant::now())
    }

    fn take_at(&self, key: &str, now: Instant) -> Option<T> {
        let (read_at, value) = self.locked(|map| map.remove(key))?;
        (now.saturating_duration_since(read_at) <= FRESH).then_some(value)
    }

    fn locked<R>(&self, act: impl FnOnce(&mut HashMap<String, (Instant, T)>) -> R) -> R {
        // A panic elsewhere leaves whole entries behind: every change is one insert or one remove.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_serves_one_write_and_not_for_long() {
        let remembered = Remembered::default();
        remembered.put("rule", 1);
        assert_eq!(remembered.take("rule"), Some(1));
        assert_eq!(remembered.take("rule"), None);

        remembered.put("rule", 2);
        let late = Instant::now() + FRESH + Duration::from_secs(1);
        assert_eq!(remembered.take_at("rule", late), None);

        remembered.put("rule", 3);
        remembered.forget("rule");
        assert_eq!(remembered.take("rule"), None);
    }
}
