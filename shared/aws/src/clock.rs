//! The machine's clock and random numbers.

use engine::{Clock, LeaseId};
use rollout::Timestamp;
use std::time::SystemTime;

/// The machine's clock, truncated to milliseconds, so that a stored time equals the time it is compared with.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let milliseconds = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
    }

    fn unique_id(&self) -> LeaseId {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
        LeaseId(format!("{:032x}", u128::from_be_bytes(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn now_is_current_in_millisecond_precision() {
        let now = SystemClock.now();
        assert!(now > Timestamp::from_second(1_700_000_000).expect("a time"), "{now}");
        assert_eq!(now.subsec_nanosecond() % 1_000_000, 0, "{now}");
    }

    #[test]
    fn lease_ids_are_unique_32_digit_hex() {
        let ids: BTreeSet<String> = (0..1000).map(|_| SystemClock.unique_id().0).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())), "{ids:?}");
    }
}
