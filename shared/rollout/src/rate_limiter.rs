//! Rate limiting of AWS API calls: what a deployment costs of an account's API budgets, its position in the queue for
//! them, and the backoff after throttled calls.
//!
//! The scarcest budget is reading load balancers: 10 calls a second for a whole account and Region (ELB User Guide,
//! "Request throttling for the ELB API"), and one observation makes three. So a deployment acquires a position in a
//! single queue before its first observation, and the queue grows by the time that its expected calls take to refill
//! the budget. While the queue is short, a deployment starts at once and polls often; while others wait, it starts when
//! its turn comes and observes only when something is due. A rollback takes no position; the capacity that the queue
//! leaves free is reserved for it.

use crate::backoff;
use crate::command::Lane;
use crate::deployment::{Deployment, Purpose, QueuePosition};
use crate::observation::ObservationPlan;
use crate::platform::Way;
use crate::policy::TargetPolicy;
use crate::stage::Stage;
use crate::target::TargetState;
use crate::time::Seconds;
use jiff::{SignedDuration, Timestamp};

/// Load balancer read calls per second that deployments share unless configured otherwise: three quarters of what AWS
/// grants an account. The rest is for rollbacks, and for everything else in the account.
pub const READS_PER_SECOND: f64 = 7.5;
/// ELBv2 read calls of an observation of two sides: the targets of two target groups, and the rules.
const READS_PER_OBSERVATION: f64 = 3.0;
/// Observations of a deployment besides those that watch: to start, to scale up, and to retire the old side.
const BASE_OBSERVATIONS: f64 = 9.0;
/// Observations that each traffic step adds: one decides, the rules are read once more right before they are written,
/// and a cheap one verifies.
const OBSERVATIONS_PER_STEP: f64 = 1.9;
/// Additional observations at full rate, caused by events that wake the deployment.
const EVENT_OBSERVATIONS: f64 = 12.0;
/// Seconds between two observations while watching at full rate; [`LOW_RATE_FACTOR`] times that at low rate.
const WATCH_INTERVAL_S: f64 = 15.0;
/// Factor by which the polling interval grows while other deployments are queued.
const LOW_RATE_FACTOR: u64 = 4;
/// Longest polling interval at low rate.
const MAX_POLL: Seconds = Seconds(300);
/// Polling intervals below this wait for something that shows at once, and are never lengthened.
const SHORT_POLL: Seconds = Seconds(10);
/// Seconds that a deployment takes besides holds and bake.
const OVERHEAD_S: f64 = 120.0;

/// Backoff after the first throttled observation, in milliseconds; doubles with each further one.
const INITIAL_BACKOFF_MS: u64 = 4_000;
/// Longest backoff before jitter, in milliseconds.
const MAX_BACKOFF_MS: u64 = 300_000;
/// Upper bound of the throttle level.
const MAX_THROTTLE_LEVEL: u8 = 8;
/// Throttling extends deadlines for at most this long, counted from the start of the stage, so that every stage ends.
const MAX_DEADLINE_EXTENSION: Seconds = Seconds(6 * 3600);
/// How far beyond the next observation an extended deadline lies.
const DEADLINE_MARGIN: Seconds = Seconds(300);

/// What a deployment costs in API calls, and the queue length up to which it starts at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ApiCost {
    /// Load balancer read calls at full rate.
    pub full_rate: f64,
    /// Load balancer read calls at low rate ([`QueuePosition::low_rate`]).
    pub low_rate: f64,
    /// Queue length in milliseconds up to which a deployment that joins still starts at once: the deployments ahead of
    /// it have not yet made all the calls that they reserved.
    pub slack_ms: u64,
}

impl ApiCost {
    /// API cost of one deployment under this policy.
    #[must_use]
    pub fn of(policy: &TargetPolicy) -> Self {
        let reads = reads_per_observation(policy);
        let strategy = &policy.strategy;
        let steps = strategy.steps.iter().map(|step| step.hold.0);
        let waits: Vec<f64> = steps.chain([strategy.bake.0, strategy.keep_warm.0]).map(|wait| wait as f64).collect();
        let watched =
            |between: fn(f64) -> f64| -> f64 { waits.iter().map(|wait| (wait / between(*wait)).ceil()).sum() };
        let fixed = BASE_OBSERVATIONS + OBSERVATIONS_PER_STEP * strategy.steps.len() as f64;
        let full_rate = fixed + EVENT_OBSERVATIONS + watched(|_| WATCH_INTERVAL_S);
        let low_rate =
            fixed + watched(|wait| (WATCH_INTERVAL_S * LOW_RATE_FACTOR as f64).max(wait / 4.0).min(MAX_POLL.0 as f64));
        let takes = OVERHEAD_S + waits.iter().sum::<f64>() + strategy.drain.0 as f64;
        Self { full_rate: full_rate * reads, low_rate: low_rate * reads, slack_ms: (takes * 500.0) as u64 }
    }

    /// The position of a deployment that joins, at `now`, a queue that extends to `until`; and where the queue extends
    /// to afterwards. `reads_a_second` is the budget of all deployments in the queue.
    #[must_use]
    pub fn queue_position(&self, now: Timestamp, until: Timestamp, reads_a_second: f64) -> (QueuePosition, Timestamp) {
        let until = until.max(now);
        let long = u64::try_from(until.as_millisecond() - now.as_millisecond()).unwrap_or(0);
        let low_rate = long > self.slack_ms / 2;
        let at = if long <= self.slack_ms { now } else { earlier(until, self.slack_ms) };
        let reads = if low_rate { self.low_rate } else { self.full_rate };
        (QueuePosition { at, low_rate }, later(until, (reads / reads_a_second * 1_000.0) as u64))
    }
}

/// ELBv2 read calls that one observation makes.
fn reads_per_observation(policy: &TargetPolicy) -> f64 {
    match policy.resources.platform.way() {
        Way::Weighted => READS_PER_OBSERVATION,
        // The targets of each target group; there are no rules.
        Way::InPlace => policy.resources.platform.target_groups_in_place().len() as f64,
    }
}

fn later(at: Timestamp, milliseconds: u64) -> Timestamp {
    let span = SignedDuration::from_millis(i64::try_from(milliseconds).unwrap_or(i64::MAX));
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}

fn earlier(at: Timestamp, milliseconds: u64) -> Timestamp {
    let span = SignedDuration::from_millis(i64::try_from(milliseconds).unwrap_or(i64::MAX));
    at.checked_sub(span).unwrap_or(Timestamp::MIN)
}

/// Minutes between two observations of a target while nothing is deployed to it (idle observations).
///
/// An idle observation reads the rules, one call, and once a day the services and their targets, too: three calls.
/// 10,000 targets make 10,000 · (1 + 2/24) / 3,600 s = 3.0 of the [`READS_PER_SECOND`], which leaves 4.5 to
/// deployments; while deployments are queued, idle observations yield to them.
pub const IDLE_CHECK_MINUTES: u64 = 60;
/// Idle observations yield while the queue is longer than half of this, in milliseconds.
const IDLE_SLACK_MS: u64 = 30_000;

/// API cost of an idle observation: nothing while others are queued, since it yields to them
/// ([`QueuePosition::low_rate`]).
#[must_use]
pub fn idle_api_cost(observation: &ObservationPlan) -> ApiCost {
    ApiCost {
        full_rate: if observation.workloads { READS_PER_OBSERVATION } else { 1.0 },
        low_rate: 0.0,
        slack_ms: IDLE_SLACK_MS,
    }
}

/// What a deployment about to make its first observation reserves for its queue position; none: it has a position, or
/// needs none. Rollbacks and hotfixes do not queue.
#[must_use]
pub fn pending_api_cost(state: &TargetState) -> Option<ApiCost> {
    let running = state.running.as_ref()?;
    let waits = running.stage() == Stage::Preflight
        && running.purpose == Purpose::Deploy
        && running.options.lane != Lane::Hotfix
        && running.queue_position.is_none();
    waits.then(|| ApiCost::of(&running.policy))
}

/// Until when the running deployment waits for its turn in the queue; none: it does not wait.
#[must_use]
pub fn rate_limit_wait(running: &Deployment, now: Timestamp) -> Option<Timestamp> {
    let queue_position = running.queue_position.filter(|_| running.stage() == Stage::Preflight)?;
    Some(queue_position.at).filter(|at| now < *at)
}

/// Whether an event that arrives before the next scheduled observation causes none: AWS has throttled, or other
/// deployments are queued. Alarms and people always cause an observation.
#[must_use]
pub fn defers_events(state: &TargetState, now: Timestamp) -> bool {
    let Some(running) = state.running.as_ref().filter(|running| !running.is_rolling_back_urgently()) else {
        return false;
    };
    let low_rate = state.throttle_level > 0
        || running.queue_position.is_some_and(|queue_position| queue_position.low_rate)
        || rate_limit_wait(running, now).is_some();
    low_rate && state.wake_at.is_some_and(|at| now < at)
}

/// Polling interval at low rate of an observation that only watches; `left` is the time until its wait ends.
pub(crate) fn slowed_poll(usually: Seconds, left: Seconds) -> Seconds {
    if usually < SHORT_POLL {
        return usually;
    }
    Seconds(usually.0 * LOW_RATE_FACTOR).max(Seconds(left.0 / 4)).min(MAX_POLL)
}

/// The throttle level after an observation that was throttled, or was not.
pub(crate) fn throttle_level(before: u8, throttled: bool) -> u8 {
    if throttled { before.saturating_add(1).min(MAX_THROTTLE_LEVEL) } else { before.saturating_sub(1) }
}

/// When to retry a throttled observation: exponential backoff with jitter, so that targets do not all retry at the same
/// instant.
pub(crate) fn retry_at(state: &TargetState, now: Timestamp) -> Timestamp {
    let backoff = backoff::exponential(INITIAL_BACKOFF_MS, state.throttle_level.into(), MAX_BACKOFF_MS);
    // Deterministic jitter derived from the target's name and the time, so that tests and replays agree.
    let seed = state.target.to_string().bytes().fold(now.as_millisecond().unsigned_abs(), |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    later(now, backoff::jittered(backoff, backoff, seed >> 20))
}

/// The extended deadline after a throttled observation, since AWS's budgets are no fault of the release; none:
/// [`MAX_DEADLINE_EXTENSION`] is used up.
pub(crate) fn extended_deadline(running: &Deployment, now: Timestamp, next: Timestamp) -> Option<Timestamp> {
    let from = running
        .queue_position
        .map_or(running.stage_entered_at, |queue_position| queue_position.at.max(running.stage_entered_at));
    (now < MAX_DEADLINE_EXTENSION.after(from)).then(|| DEADLINE_MARGIN.after(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_767_225_600_000 + ms).expect("a time")
    }

    const COST: ApiCost = ApiCost { full_rate: 200.0, low_rate: 60.0, slack_ms: 180_000 };

    /// Queue positions of `count` deployments that join at once, and where the queue ends.
    fn positions_of_burst(count: usize) -> (Vec<QueuePosition>, Timestamp) {
        let mut until = at(-1_000_000);
        let places = (0..count).map(|_| {
            let (queue_position, after) = COST.queue_position(at(0), until, 10.0);
            until = after;
            queue_position
        });
        (places.collect(), until)
    }

    #[test]
    fn an_empty_queue_starts_at_once_at_full_rate() {
        let (places, until) = positions_of_burst(1);
        assert_eq!((places, until), (vec![QueuePosition { at: at(0), low_rate: false }], at(20_000)));
    }

    #[test]
    fn a_burst_starts_a_few_and_queues_the_rest_in_order() {
        let (places, _) = positions_of_burst(1_000);
        let at_once = places.iter().filter(|queue_position| queue_position.at == at(0)).count();
        let full_rate = places.iter().filter(|queue_position| !queue_position.low_rate).count();
        assert_eq!((at_once, full_rate), (19, 5));
        assert!(places.is_sorted_by_key(|queue_position| queue_position.at), "nobody overtakes");
        let gaps: Vec<i64> =
            places[20..].windows(2).map(|two| two[1].at.as_millisecond() - two[0].at.as_millisecond()).collect();
        assert!(gaps.iter().all(|gap| *gap == 6_000), "one after the other, at the price of each");
    }

    #[test]
    fn an_unlimited_budget_never_queues() {
        let (queue_position, until) = COST.queue_position(at(0), at(0), f64::INFINITY);
        assert_eq!((queue_position, until), (QueuePosition { at: at(0), low_rate: false }, at(0)));
    }

    #[test]
    fn backoff_doubles_up_to_minutes_with_jitter_per_target() {
        let target = |number: usize| crate::TargetId::parse(&format!("shop/svc-{number}/prod")).expect("a target");
        let pause = |number, throttle_level| {
            let state = TargetState { throttle_level, ..TargetState::new(target(number)) };
            retry_at(&state, at(0)).as_millisecond() - at(0).as_millisecond()
        };
        for throttle_level in 1..=MAX_THROTTLE_LEVEL {
            let whole =
                i64::try_from((INITIAL_BACKOFF_MS << (throttle_level - 1)).min(MAX_BACKOFF_MS)).expect("milliseconds");
            let pauses: std::collections::BTreeSet<i64> =
                (0..200).map(|number| pause(number, throttle_level)).collect();
            assert!(pauses.len() > 150, "{} pauses of strain {throttle_level}", pauses.len());
            assert!(pauses.iter().all(|pause| (whole / 2..whole * 3 / 2).contains(pause)), "{pauses:?}");
        }
    }
}
