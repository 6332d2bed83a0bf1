//! Periodic observation of idle targets (no deployment is running), for edits whose event was lost and for accounts without a CloudTrail trail.
//!
//! Each target has its own minute of [`IDLE_CHECK_MINUTES`], derived from its name, among those of its application's turns in the
//! sweep, so that ten thousand targets are spread evenly without stored state. The wake is dropped while a deployment runs, or
//! while other targets wait in the rate limiter's queue.

use super::sweep::{SENDS_AT_ONCE, Sweep};
use crate::ports::{AppliedPolicy, Wake, WakeQueue};
use futures::stream::{self, StreamExt as _};
use rollout::rate_limiter::IDLE_CHECK_MINUTES;
use rollout::{Seconds, TargetId};

/// Whether this sweep, at which its application has its turn, wakes the target for an idle observation.
#[must_use]
pub fn is_idle_turn(target: &TargetId, sweep: &Sweep) -> bool {
    let every = sweep.every.max(1);
    // The application's turns within the hour; one of them is this target's.
    let turns = (IDLE_CHECK_MINUTES / every).max(1);
    let hash = target
        .to_string()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash >> 20) % turns == (sweep.minute / every) % turns
}

/// Wakes an application's targets whose minute it is; returns their number, and failures as text for people.
pub async fn wake_idle_targets<D: WakeQueue>(
    wake_queue: &D,
    applied: &AppliedPolicy,
    sweep: &Sweep,
) -> (usize, Vec<String>) {
    let targets = applied.policy.targets().map(|(target, _)| target).filter(|target| is_idle_turn(target, sweep));
    let sent: Vec<Result<(), String>> = stream::iter(targets)
        .map(|target| async move {
            let wake = Wake::of(target.clone()).idle(None);
            let sent = wake_queue.send(&wake, Seconds(0)).await;
            sent.map_err(|reason| format!("{target} could not be woken to be looked at: {reason}"))
        })
        .buffered(SENDS_AT_ONCE)
        .collect()
        .await;
    let woken = sent.iter().filter(|sent| sent.is_ok()).count();
    (woken, sent.into_iter().filter_map(Result::err).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout::Timestamp;
    use std::collections::BTreeMap;

    fn sweep(minute: u64, every: u64) -> Sweep {
        Sweep { minute, every, until: Timestamp::MAX }
    }

    /// Ten thousand targets, two hundred applications, each service in one environment.
    fn targets() -> Vec<TargetId> {
        let id = |number: usize| format!("shop-{}/svc-{}/prod", number / 50, number % 50);
        (0..10_000).map(|number| TargetId::parse(&id(number)).expect("a target")).collect()
    }

    #[test]
    fn idle_targets_are_checked_once_an_hour_and_spread_evenly() {
        for every in [1, 5, 60] {
            let mut looks: BTreeMap<&TargetId, usize> = BTreeMap::new();
            let mut busiest = 0;
            let targets = targets();
            for minute in 29_000_040..29_000_100 {
                let sweep = sweep(minute, every);
                let now = targets.iter().filter(|target| sweep.is_turn_of(&target.application));
                let now: Vec<_> = now.filter(|target| is_idle_turn(target, &sweep)).collect();
                busiest = busiest.max(now.len());
                now.into_iter().for_each(|target| *looks.entry(target).or_default() += 1);
            }
            assert_eq!(looks.len(), 10_000, "every {every} minutes");
            assert!(looks.values().all(|looks| *looks == 1), "every {every} minutes");
            // 10,000 in 60 minutes are 167 a minute: 2.8 calls a second, of 7.5 available.
            assert!(busiest <= 450, "{busiest} in one minute, every {every} minutes");
        }
    }
}
