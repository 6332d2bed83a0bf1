//! The journal entries that each notification channel received.

use super::{ENTRIES_DELIVERED_ONCE, Violation};
use rollout::{TargetId, Timestamp};
use std::collections::BTreeMap;

/// Entries of one target that one channel received.
#[derive(Debug, Default)]
struct ReceivedEntries {
    /// Text by sequence number of the entry.
    words: BTreeMap<u64, String>,
    /// Number of repeated deliveries.
    repeated: u64,
}

/// Everything that was delivered, by channel and target.
#[derive(Debug, Default)]
pub struct DeliveryLog {
    received: BTreeMap<(String, TargetId), ReceivedEntries>,
}

impl DeliveryLog {
    /// Records the delivery of a target's `sequence`th entry to a channel; a gap in order or a changed text is a
    /// violation.
    pub fn deliver(
        &mut self,
        channel: &str,
        target: &TargetId,
        sequence: u64,
        words: &str,
        now: Timestamp,
    ) -> Option<Violation> {
        let received = self.received.entry((channel.to_owned(), target.clone())).or_default();
        let newest = received.words.keys().next_back().copied().unwrap_or(0);
        let found = |details: String| Some(Violation::of(&ENTRIES_DELIVERED_ONCE, now, Some(target), details));
        if let Some(before) = received.words.get(&sequence) {
            received.repeated += 1;
            if before != words {
                return found(format!(
                    "{channel} received entry {sequence} again with another text: {words}; before: {before}"
                ));
            }
            return None;
        }
        if sequence < newest {
            return found(format!("{channel} received entry {sequence} after entry {newest}"));
        }
        received.words.insert(sequence, words.to_owned());
        None
    }

    /// Number of deliveries that repeated an earlier one, over all channels.
    #[must_use]
    pub fn repetitions(&self) -> u64 {
        self.received.values().map(|received| received.repeated).sum()
    }

    /// The first entry up to `last` that the channel never received.
    #[must_use]
    pub fn missing(&self, channel: &str, target: &TargetId, last: u64) -> Option<u64> {
        let received = self.received.get(&(channel.to_owned(), target.clone()));
        (1..=last).find(|sequence| received.is_none_or(|received| !received.words.contains_key(sequence)))
    }
}
