//! How fast a deployment may ask AWS: what one costs of an account's API budgets, whose turn it is, and the pauses after
//! calls that were throttled.
//!
//! The scarcest budget is reading load balancers: 10 calls a second for a whole account and Region (ELB User Guide, "Request
//! throttling for the ELB API"), and a look costs three. So a deployment takes a place in one row before it looks for the
//! first time, for as long as what it will ask takes to come back into the bucket. While the row is short it begins at once and
//! looks often; where others wait it begins when its turn comes and looks only when something is due. A way back takes
//! no place, and what the row leaves over is for it.

use crate::command::Lane;
use crate::look::Look;
use crate::policy::TargetPolicy;
use crate::stage::{RollbackPhase, Stage};
use crate::target::{Deployment, Purpose, TargetState};
use crate::time::Seconds;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Reads of load balancers that deployments share, a second, where nobody says otherwise: three quarters of what AWS gives an
/// account. The rest is for ways back, and for everybody else in the account.
pub const READS_A_SECOND: f64 = 7.5;
/// What a look costs: the targets of two groups, and the rules.
const READS_A_LOOK: f64 = 3.0;
/// Looks of a deployment beside those that watch: to begin, to come up, and to retire the old side.
const LOOKS: f64 = 9.0;
/// Looks that each step of traffic takes beside those: one decides, the rules are read once more right before they are
/// written, and a cheap one verifies.
const LOOKS_A_STEP: f64 = 1.9;
/// Looks more of one that looks often: events wake it, too.
const LOOKS_MORE: f64 = 12.0;
/// Seconds between two looks of one that watches often, and how much longer that is for one that spares the budgets.
const WATCH_S: f64 = 15.0;
/// How much longer a deployment waits between two looks while others wait for their turn.
const SPARING: u64 = 4;
/// The longest that it waits between two looks then.
const LONGEST_POLL: Seconds = Seconds(300);
/// Polls below this wait for something that is seen at once, and are never drawn out.
const SHORT_POLL: Seconds = Seconds(10);
/// The time that a deployment takes beside holds and bake, in seconds.
const BESIDES_S: f64 = 120.0;

/// The pause after the first look that was throttled, in milliseconds; it doubles with each one more.
const FIRST_PAUSE_MS: u64 = 4_000;
/// The longest pause, in milliseconds.
const LONGEST_PAUSE_MS: u64 = 300_000;
/// Strain is not counted beyond this.
const MOST_STRAIN: u8 = 8;
/// Throttling moves deadlines for so long at most, from the beginning of a stage: everything ends some time.
const PATIENCE: Seconds = Seconds(6 * 3600);
/// What a deadline is moved to beyond the next look.
const MORE_TIME: Seconds = Seconds(300);

/// A place in the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// When its turn comes.
    pub at: Timestamp,
    /// Others wait: it looks only when something is due.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sparing: bool,
}

/// What a deployment costs, and how long the row may be for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    /// Reads of load balancers, of one that looks often.
    pub often: f64,
    /// Of one that spares the budgets.
    pub sparing: f64,
    /// The row may be so long, in milliseconds, while one that joins it still begins at once: those before have not asked for
    /// all that they have paid for.
    pub slack_ms: u64,
}

impl Price {
    /// What the deployment of a target costs.
    #[must_use]
    pub fn of(policy: &TargetPolicy) -> Self {
        let strategy = &policy.strategy;
        let steps = strategy.steps.iter().map(|step| step.hold.0);
        let waits: Vec<f64> = steps.chain([strategy.bake.0, strategy.keep_warm.0]).map(|wait| wait as f64).collect();
        let watched =
            |between: fn(f64) -> f64| -> f64 { waits.iter().map(|wait| (wait / between(*wait)).ceil()).sum() };
        let fixed = LOOKS + LOOKS_A_STEP * strategy.steps.len() as f64;
        let often = fixed + LOOKS_MORE + watched(|_| WATCH_S);
        let sparing = fixed + watched(|wait| (WATCH_S * SPARING as f64).max(wait / 4.0).min(LONGEST_POLL.0 as f64));
        let takes = BESIDES_S + waits.iter().sum::<f64>() + strategy.drain.0 as f64;
        Self { often: often * READS_A_LOOK, sparing: sparing * READS_A_LOOK, slack_ms: (takes * 500.0) as u64 }
    }

    /// The place of one that comes at `now` to a row that reaches until `until`, and where the row reaches then. So many
    /// reads a second are there for all that stand in it.
    #[must_use]
    pub fn place(&self, now: Timestamp, until: Timestamp, reads_a_second: f64) -> (Place, Timestamp) {
        let until = until.max(now);
        let long = u64::try_from(until.as_millisecond() - now.as_millisecond()).unwrap_or(0);
        let sparing = long > self.slack_ms / 2;
        let at = if long <= self.slack_ms { now } else { earlier(until, self.slack_ms) };
        let reads = if sparing { self.sparing } else { self.often };
        (Place { at, sparing }, later(until, (reads / reads_a_second * 1_000.0) as u64))
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

/// Between two looks at one target while nothing is deployed to it, in minutes.
///
/// Such a look reads the rules, one call, and once a day the services and their targets, too: three calls. 10,000 targets make
/// 10,000 · (1 + 2/24) / 3,600 s = 3.0 of the [`READS_A_SECOND`], which leaves 4.5 to deployments; and where those stand in a
/// row, looks at rest give way.
pub const REST_MINUTES: u64 = 60;
/// How long after its services were looked at a look at rest reads them again.
pub(crate) const REST_SERVICES: Seconds = Seconds(24 * 3600);
/// Looks at rest give way where the row is longer than half of this, in milliseconds.
const REST_SLACK_MS: u64 = 30_000;

/// What a look at rest costs: nothing where others stand in the row, since it gives way to them ([`Place::sparing`]).
#[must_use]
pub fn rest_price(look: &Look) -> Price {
    Price { often: if look.sides { READS_A_LOOK } else { 1.0 }, sparing: 0.0, slack_ms: REST_SLACK_MS }
}

/// What the deployment that is about to look for the first time has to pay for its place; none: it has one, or takes none.
/// Ways back and hotfixes wait for nobody.
#[must_use]
pub fn due_place(state: &TargetState) -> Option<Price> {
    let running = state.running.as_ref()?;
    let waits = matches!(running.stage, Stage::Preflight { .. })
        && running.purpose == Purpose::Deploy
        && running.terms.lane != Lane::Hotfix
        && running.place.is_none();
    waits.then(|| Price::of(&running.policy))
}

/// Until when the running deployment's turn has not come.
#[must_use]
pub fn turn(running: &Deployment, now: Timestamp) -> Option<Timestamp> {
    let place = running.place.filter(|_| matches!(running.stage, Stage::Preflight { .. }))?;
    Some(place.at).filter(|at| now < *at)
}

/// Whether an event that came before its next look is due is no reason to look: AWS has throttled, or others wait. Alarms
/// and people are always a reason.
#[must_use]
pub fn keeps_to_its_time(state: &TargetState, now: Timestamp) -> bool {
    let Some(running) = state.running.as_ref().filter(|running| !is_urgent(running)) else { return false };
    let sparing = state.strain > 0 || running.place.is_some_and(|place| place.sparing) || turn(running, now).is_some();
    sparing && state.wake_at.is_some_and(|at| now < at)
}

/// Traffic is to go back and is not back yet: nothing is more urgent.
#[must_use]
pub fn is_urgent(running: &Deployment) -> bool {
    matches!(running.stage, Stage::RollingBack { phase: RollbackPhase::WeightsBack { .. }, .. })
}

/// How long until a look that is only there to watch, of one that spares the budgets and whose wait is over in `left`.
pub(crate) fn drawn_out(usually: Seconds, left: Seconds) -> Seconds {
    if usually < SHORT_POLL {
        return usually;
    }
    Seconds(usually.0 * SPARING).max(Seconds(left.0 / 4)).min(LONGEST_POLL)
}

/// The strain after a look that was throttled, or was not.
pub(crate) fn strain(before: u8, throttled: bool) -> u8 {
    if throttled { before.saturating_add(1).min(MOST_STRAIN) } else { before.saturating_sub(1) }
}

/// When to try again what was throttled: each time twice as long, and not all targets at the same instant.
pub(crate) fn again_at(state: &TargetState, now: Timestamp) -> Timestamp {
    let whole = (FIRST_PAUSE_MS << state.strain.clamp(1, MOST_STRAIN).saturating_sub(1)).min(LONGEST_PAUSE_MS);
    // Chance that is none: the same decision is the same again, and another target's or another time's is another one.
    let seed = state.target.to_string().bytes().fold(now.as_millisecond().unsigned_abs(), |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    later(now, whole / 2 + (seed >> 20) % whole)
}

/// What of a stage's time a throttled look gives back: AWS's budgets are no fault of the release.
pub(crate) fn more_time(running: &Deployment, now: Timestamp, next: Timestamp) -> Option<Timestamp> {
    let from = running.place.map_or(running.stage_entered_at, |place| place.at.max(running.stage_entered_at));
    (now < PATIENCE.after(from)).then(|| MORE_TIME.after(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_767_225_600_000 + ms).expect("a time")
    }

    const PRICE: Price = Price { often: 200.0, sparing: 60.0, slack_ms: 180_000 };

    /// The places of so many that come at once, and where the row ends.
    fn join(count: usize) -> (Vec<Place>, Timestamp) {
        let mut until = at(-1_000_000);
        let places = (0..count).map(|_| {
            let (place, after) = PRICE.place(at(0), until, 10.0);
            until = after;
            place
        });
        (places.collect(), until)
    }

    #[test]
    fn who_comes_to_an_empty_row_begins_at_once_and_looks_often() {
        let (places, until) = join(1);
        assert_eq!((places, until), (vec![Place { at: at(0), sparing: false }], at(20_000)));
    }

    #[test]
    fn a_few_begin_at_once_and_the_rest_in_the_order_in_which_they_came() {
        let (places, _) = join(1_000);
        let at_once = places.iter().filter(|place| place.at == at(0)).count();
        let often = places.iter().filter(|place| !place.sparing).count();
        assert_eq!((at_once, often), (19, 5));
        assert!(places.is_sorted_by_key(|place| place.at), "nobody overtakes");
        let gaps: Vec<i64> =
            places[20..].windows(2).map(|two| two[1].at.as_millisecond() - two[0].at.as_millisecond()).collect();
        assert!(gaps.iter().all(|gap| *gap == 6_000), "one after the other, at the price of each");
    }

    #[test]
    fn where_there_is_no_end_of_reads_nobody_waits() {
        let (place, until) = PRICE.place(at(0), at(0), f64::INFINITY);
        assert_eq!((place, until), (Place { at: at(0), sparing: false }, at(0)));
    }

    #[test]
    fn a_pause_grows_to_minutes_and_differs_from_target_to_target() {
        let target = |number: usize| crate::TargetId::parse(&format!("shop/svc-{number}/prod")).expect("a target");
        let pause = |number, strain| {
            let state = TargetState { strain, ..TargetState::new(target(number)) };
            again_at(&state, at(0)).as_millisecond() - at(0).as_millisecond()
        };
        for strain in 1..=MOST_STRAIN {
            let whole = i64::try_from((FIRST_PAUSE_MS << (strain - 1)).min(LONGEST_PAUSE_MS)).expect("milliseconds");
            let pauses: std::collections::BTreeSet<i64> = (0..200).map(|number| pause(number, strain)).collect();
            assert!(pauses.len() > 150, "{} pauses of strain {strain}", pauses.len());
            assert!(pauses.iter().all(|pause| (whole / 2..whole * 3 / 2).contains(pause)), "{pauses:?}");
        }
    }
}
