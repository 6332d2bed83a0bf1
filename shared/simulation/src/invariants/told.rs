//! What channels were told of the journal.

use super::{TOLD_ONCE, Violation};
use rollout::{TargetId, Timestamp};
use std::collections::BTreeMap;

/// What one channel was told of one target.
#[derive(Debug, Default)]
struct Heard {
    /// By what it is: the words.
    words: BTreeMap<u64, String>,
    /// How often it came again.
    again: u64,
}

/// All that was told.
#[derive(Debug, Default)]
pub struct Telling {
    heard: BTreeMap<(String, TargetId), Heard>,
}

impl Telling {
    /// A channel was told the `sequence`th entry of a target, in these words.
    pub fn tell(
        &mut self,
        channel: &str,
        target: &TargetId,
        sequence: u64,
        words: &str,
        now: Timestamp,
    ) -> Option<Violation> {
        let heard = self.heard.entry((channel.to_owned(), target.clone())).or_default();
        let newest = heard.words.keys().next_back().copied().unwrap_or(0);
        let found = |said: String| Some(Violation::of(&TOLD_ONCE, now, Some(target), said));
        if let Some(before) = heard.words.get(&sequence) {
            heard.again += 1;
            if before != words {
                return found(format!(
                    "{channel} was told entry {sequence} again, in other words: {words}, not {before}"
                ));
            }
            return None;
        }
        if sequence < newest {
            return found(format!("{channel} was told entry {sequence} after entry {newest}"));
        }
        heard.words.insert(sequence, words.to_owned());
        None
    }

    /// How often something was told that had been told before.
    #[must_use]
    pub fn repetitions(&self) -> u64 {
        self.heard.values().map(|heard| heard.again).sum()
    }

    /// What a channel was never told, of the entries up to `last`.
    #[must_use]
    pub fn missing(&self, channel: &str, target: &TargetId, last: u64) -> Option<u64> {
        let heard = self.heard.get(&(channel.to_owned(), target.clone()));
        (1..=last).find(|sequence| heard.is_none_or(|heard| !heard.words.contains_key(sequence)))
    }
}
