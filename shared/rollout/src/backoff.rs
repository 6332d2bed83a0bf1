//! Delays between retries: exponential backoff, and jitter, so that those who failed together do not retry together.
//!
//! In any unit of time. The caller brings the randomness: a decision must come out the same when it is replayed.

/// Exponential backoff: `initial` after the first failure, twice as long after each further one, at most `max`.
/// `failures` counts the consecutive failures so far; 0 counts as 1.
#[must_use]
pub fn exponential(initial: u64, failures: u32, max: u64) -> u64 {
    initial.saturating_mul(2_u64.saturating_pow(failures.saturating_sub(1))).min(max)
}

/// Jitter: a delay from half of `delay` on, less than `spread` above that; `random` selects which. A `spread` of
/// `delay` keeps the mean, one of half of it makes `delay` the maximum.
#[must_use]
pub fn jittered(delay: u64, spread: u64, random: u64) -> u64 {
    delay / 2 + random % spread.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_doubles_up_to_its_maximum() {
        let delays: Vec<u64> = (0..8).map(|failures| exponential(1, failures, 30)).collect();
        assert_eq!(delays, [1, 1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(exponential(250, u32::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn jitter_starts_at_half_of_the_delay() {
        let delays: Vec<u64> = (0..5).map(|random| jittered(4, 4, random)).collect();
        assert_eq!(delays, [2, 3, 4, 5, 2]);
        assert_eq!((jittered(0, 0, 7), jittered(1, 0, 7)), (0, 0));
    }
}
