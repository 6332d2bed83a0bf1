//! What the clients saw, counted: by release, by second, and what the shift itself lost.
//!
//! **Lost to the shift** is every request that did not get a good answer, except the bad release's own errors: no
//! connection, a broken or late answer, an answer that the balancer had to make itself, a failure of a good release.
//! It is counted where it is felt, at the client; nothing is tried a second time anywhere.

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Seconds that are kept for the page's curves.
const KEPT_SECONDS: usize = 90;

/// Losses that are kept word for word.
const KEPT_LOSSES: usize = 10;

/// What became of one request, as its client saw it.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    /// A release answered.
    Answer {
        /// The release's name, as it says itself.
        release: String,
        /// HTTP status.
        status: u16,
    },
    /// Nothing that a release said: why, for people.
    Nothing(String),
}

/// Answers of one release.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Answers {
    /// Status below 500.
    pub(crate) good: u64,
    /// Status 500 and above.
    pub(crate) failed: u64,
}

/// One second of traffic.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Second {
    /// Seconds since the clients began.
    pub(crate) second: u64,
    /// Answers by release.
    pub(crate) releases: BTreeMap<String, Answers>,
    /// Requests that no release answered.
    pub(crate) unanswered: u64,
}

impl Second {
    /// All requests that ended in this second.
    pub(crate) fn requests(&self) -> u64 {
        self.releases.values().map(|answers| answers.good + answers.failed).sum::<u64>() + self.unanswered
    }

    /// Failures: of releases, and for want of an answer.
    pub(crate) fn failed(&self) -> u64 {
        self.releases.values().map(|answers| answers.failed).sum::<u64>() + self.unanswered
    }
}

/// All requests of the run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Totals {
    /// Requests that clients sent and that have ended.
    pub(crate) requests: u64,
    /// Answered well.
    pub(crate) good: u64,
    /// 5xx of the release that the story knows to be bad.
    pub(crate) bad_release_errors: u64,
    /// All else.
    pub(crate) lost: u64,
    /// The first of what was lost, word for word.
    pub(crate) losses: Vec<String>,
}

/// Counts for all clients at once.
#[derive(Debug)]
pub(crate) struct Tally {
    began: Instant,
    bad_releases: BTreeSet<String>,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    totals: Totals,
    seconds: VecDeque<Second>,
}

impl Tally {
    /// Nothing yet. 5xx of `bad_releases` are their own; those of any other release are losses.
    pub(crate) fn new(bad_releases: BTreeSet<String>) -> Self {
        Self { began: Instant::now(), bad_releases, counts: Mutex::default() }
    }

    /// Counts one request.
    pub(crate) fn record(&self, seen: &Seen) {
        self.record_at(seen, self.began.elapsed());
    }

    fn record_at(&self, seen: &Seen, since_began: Duration) {
        let mut counts = self.counts();
        let lost = match seen {
            Seen::Answer { release, status } if *status >= 500 => {
                counts.second(since_began).releases.entry(release.clone()).or_default().failed += 1;
                if self.bad_releases.contains(release) {
                    counts.totals.bad_release_errors += 1;
                    None
                } else {
                    Some(format!("release {release} answered {status}"))
                }
            }
            Seen::Answer { release, status } => {
                counts.second(since_began).releases.entry(release.clone()).or_default().good += 1;
                // The demo's clients ask for what is there: a redirect or a refusal is no good answer either.
                if (200..300).contains(status) {
                    counts.totals.good += 1;
                    None
                } else {
                    Some(format!("release {release} answered {status}"))
                }
            }
            Seen::Nothing(why) => {
                counts.second(since_began).unanswered += 1;
                Some(why.clone())
            }
        };
        counts.totals.requests += 1;
        if let Some(why) = lost {
            counts.totals.lost += 1;
            if counts.totals.losses.len() < KEPT_LOSSES {
                counts.totals.losses.push(format!("{:.3} s: {why}", since_began.as_secs_f64()));
            }
        }
    }

    /// The whole run so far.
    pub(crate) fn totals(&self) -> Totals {
        self.counts().totals.clone()
    }

    /// The last whole seconds, oldest first, without the one that is not over; seconds without traffic included.
    pub(crate) fn seconds(&self) -> Vec<Second> {
        let now = self.began.elapsed().as_secs();
        let mut counts = self.counts();
        counts.second(Duration::from_secs(now));
        counts.seconds.iter().filter(|second| second.second < now).cloned().collect()
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Counters are sound after any single step: a panic elsewhere leaves nothing half done.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn second(&mut self, since_began: Duration) -> &mut Second {
        let second = since_began.as_secs();
        let mut next = self.seconds.back().map_or(0, |last| last.second + 1);
        // Quiet seconds are seconds too.
        while next <= second {
            self.seconds.push_back(Second { second: next, ..Second::default() });
            next += 1;
        }
        while self.seconds.len() > KEPT_SECONDS {
            self.seconds.pop_front();
        }
        // An answer that was timed just before another one's second began belongs to an older second.
        let first = self.seconds.front().map_or(0, |first| first.second);
        let index = usize::try_from(second.saturating_sub(first)).unwrap_or(0);
        let last = self.seconds.len() - 1;
        &mut self.seconds[index.min(last)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(release: &str, status: u16) -> Seen {
        Seen::Answer { release: release.to_owned(), status }
    }

    #[test]
    fn only_the_bad_releases_own_errors_are_not_lost_to_the_shift() {
        let tally = Tally::new(BTreeSet::from(["v3".to_owned()]));
        let seen = [
            answer("v2", 200),
            answer("v3", 200),
            answer("v3", 500),
            answer("v2", 500),
            answer("v2", 404),
            Seen::Nothing("connection refused".to_owned()),
            Seen::Nothing("the balancer answered 502".to_owned()),
        ];
        for one in &seen {
            tally.record_at(one, Duration::from_millis(1500));
        }
        let totals = tally.totals();
        assert_eq!((totals.requests, totals.good, totals.bad_release_errors, totals.lost), (7, 2, 1, 4));
        assert_eq!(totals.losses[0], "1.500 s: release v2 answered 500");
    }

    #[test]
    fn every_second_is_there_and_old_ones_go() {
        let tally = Tally::new(BTreeSet::new());
        tally.record_at(&answer("v1", 200), Duration::from_secs(2));
        tally.record_at(&answer("v1", 500), Duration::from_secs(200));
        let seconds = tally.counts().seconds.clone();
        assert_eq!(seconds.len(), KEPT_SECONDS);
        assert_eq!(seconds.back().map(|last| (last.second, last.requests(), last.failed())), Some((200, 1, 1)));
    }
}
