//! What goes wrong with calls of ports, by chance or at a given call.
//!
//! Each call has dice of its own, thrown from the seed, from who makes the call and from its turn: one call more or less
//! in one place does not move what goes wrong in another.

use crate::world::Dice;
use rollout::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How long a reading may lag behind what was written, in milliseconds.
pub(super) const STALE_MS: i64 = 5_000;
/// How long a call is waited for before it is given up, in milliseconds.
const TIMES_OUT_MS: (u64, u64) = (2_000, 6_000);
/// How long an invocation stands still, in milliseconds: longer than its lease, at most.
const FREEZES_MS: (u64, u64) = (20_000, 420_000);
/// How late a wake or an event comes, in milliseconds.
const LATE_MS: (u64, u64) = (500, 120_000);

/// How often what goes wrong: probabilities, 0 to 1, of each call. The default is that nothing does.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Where chance comes from.
    pub seed: u64,
    /// The call was done, and its answer is lost.
    pub lost_answer: f64,
    /// The call was not done: the service could not be reached.
    pub unavailable: f64,
    /// The call was not done: too many requests.
    pub throttled: f64,
    /// The call takes up to 5 seconds.
    pub delayed: f64,
    /// No answer came in time, and nobody knows whether the call was done.
    pub timed_out: f64,
    /// A reading tells what was so before the last write, up to 5 seconds ago.
    pub stale: f64,
    /// The pass ends here, for ever: its function was killed.
    pub crash: f64,
    /// The pass stands still here, for longer than its lease may last, and goes on after that as if nothing had happened.
    pub frozen: f64,
    /// A wake or an event comes twice.
    pub doubled_wake: f64,
    /// A wake, or an event of the world, never comes.
    pub lost_wake: f64,
    /// A wake or an event comes up to two minutes late: after others that were sent after it.
    pub late_wake: f64,
    /// How much an invocation's clock is off at most, in milliseconds, to either side.
    pub skew_ms: u64,
    /// Nothing goes wrong by chance from then on: a world in which nothing ever works cannot come to an end.
    pub until: Option<Timestamp>,
    /// The one call at which a pass ends, whatever the probabilities.
    pub crash_at: Option<CrashAt>,
    /// Of all that would go wrong by chance, only these things do: to find out which of them matter.
    pub only: Option<Arc<BTreeSet<u64>>>,
}

impl Faults {
    /// Everything that can go wrong does so at every `rate`th call (0 to 1); what ends or stops a pass, less often.
    #[must_use]
    pub fn everywhere(seed: u64, rate: f64) -> Self {
        Self {
            seed,
            lost_answer: rate,
            unavailable: rate,
            throttled: rate,
            delayed: rate,
            timed_out: rate / 2.0,
            stale: rate,
            crash: rate / 2.0,
            frozen: rate / 8.0,
            doubled_wake: rate,
            lost_wake: rate,
            late_wake: rate,
            skew_ms: if rate > 0.0 { 1_500 } else { 0 },
            until: None,
            crash_at: None,
            only: None,
        }
    }
}

/// One call at which a pass ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashAt {
    /// Counted over all drive passes, from 0.
    pub call: u64,
    /// Before the call is done, or after.
    pub moment: Moment,
}

/// When a pass ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The call is not done.
    Before,
    /// The call is done, and nobody hears of it.
    After,
}

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Struck {
    /// Its identity: the same in every run of one seed in which it happens.
    pub key: u64,
    /// When.
    pub at: Timestamp,
    /// Whom it struck: an invocation, or an event on its way.
    pub whom: String,
    /// What.
    pub what: &'static str,
}

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is done and answered.
    Fine,
    /// It is done; the answer is lost.
    LostAnswer,
    /// It is not done.
    Unavailable,
    /// It is not done.
    Throttled,
    /// Done or not, and no answer.
    TimedOut(Moment),
    /// Done, and told what was so before.
    Stale,
    /// The pass ends.
    Crash(Moment),
    /// The pass stands still for so many milliseconds: before the call, which is out of time then, or after it.
    Frozen(Moment, u64),
}

impl Fate {
    fn name(self) -> &'static str {
        match self {
            Self::Fine => "nothing",
            Self::LostAnswer => "done, and the answer is lost",
            Self::Unavailable => "not done, unreachable",
            Self::Throttled => "not done, throttled",
            Self::TimedOut(Moment::Before) => "not done, out of time",
            Self::TimedOut(Moment::After) => "done, out of time",
            Self::Stale => "answered as it was before",
            Self::Crash(Moment::Before) => "killed before it",
            Self::Crash(Moment::After) => "killed after it",
            Self::Frozen(Moment::Before, _) => "stands still before it",
            Self::Frozen(Moment::After, _) => "stands still after it",
        }
    }
}

/// What is called, as far as chance is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A call of a drive pass.
    OfAPass,
    /// Any other call.
    Other,
    /// One reading of many in a look: it takes no time of its own, and ends nobody.
    Reading,
}

/// What becomes of a wake or an event on its way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) lost: bool,
    pub(super) doubled: bool,
    pub(super) late_ms: u64,
}

/// Faults, and the dice for them.
#[derive(Debug)]
pub(super) struct Chance {
    pub(super) faults: Faults,
    /// Calls of drive passes so far.
    pub(super) calls: u64,
    /// What went wrong so far.
    pub(super) struck: Vec<Struck>,
}

impl Chance {
    pub(super) fn new(faults: Faults) -> Self {
        Self { faults, calls: 0, struck: Vec::new() }
    }

    fn dice(&self, key: u64) -> Dice {
        Dice::new(mix(self.faults.seed, key))
    }

    /// Whether what would go wrong by chance does so.
    fn may_strike(&self, key: u64, now: Timestamp) -> bool {
        self.faults.until.is_none_or(|until| now < until)
            && self.faults.only.as_ref().is_none_or(|only| only.contains(&key))
    }

    /// What becomes of a call, and how long it takes, in milliseconds. `whom` is asked only where something goes wrong.
    pub(super) fn next(&mut self, key: u64, now: Timestamp, kind: Kind, whom: impl FnOnce() -> String) -> (Fate, u64) {
        let mut dice = self.dice(key);
        let ordinary = dice.between(5, 60);
        if kind == Kind::OfAPass {
            let call = self.calls;
            self.calls += 1;
            if let Some(crash) = self.faults.crash_at.filter(|crash| crash.call == call) {
                let fate = Fate::Crash(crash.moment);
                self.struck.push(Struck { key, at: now, whom: whom(), what: fate.name() });
                return (fate, ordinary);
            }
        }
        if !self.may_strike(key, now) {
            return (Fate::Fine, ordinary);
        }
        let faults = &self.faults;
        let mut happens = |probability: f64| dice.happens(probability);
        let of_a_pass = kind == Kind::OfAPass;
        let slow = happens(faults.delayed);
        let (killed, frozen) = (happens(faults.crash), happens(faults.frozen));
        let (away, throttled) = (happens(faults.unavailable), happens(faults.throttled));
        let (unheard, timed_out, stale) =
            (happens(faults.lost_answer), happens(faults.timed_out), happens(faults.stale));
        let moment = if dice.happens(0.5) { Moment::Before } else { Moment::After };
        let takes = if slow { dice.between(500, 5_000) } else { ordinary };
        let (fate, takes) = if of_a_pass && killed {
            (Fate::Crash(moment), takes)
        } else if of_a_pass && frozen {
            (Fate::Frozen(moment, dice.between(FREEZES_MS.0, FREEZES_MS.1)), takes)
        } else if away {
            (Fate::Unavailable, takes)
        } else if throttled {
            (Fate::Throttled, takes)
        } else if timed_out {
            (Fate::TimedOut(moment), dice.between(TIMES_OUT_MS.0, TIMES_OUT_MS.1))
        } else if unheard {
            (Fate::LostAnswer, takes)
        } else if stale {
            (Fate::Stale, takes)
        } else {
            (Fate::Fine, takes)
        };
        // What is stale is told where it made a difference.
        if !matches!(fate, Fate::Fine | Fate::Stale) || (slow && kind != Kind::Reading) {
            let what = if fate == Fate::Fine { "slow" } else { fate.name() };
            self.struck.push(Struck { key, at: now, whom: whom(), what });
        }
        (fate, takes)
    }

    /// Notes that a reading was stale.
    pub(super) fn was_stale(&mut self, key: u64, now: Timestamp, whom: String) {
        self.struck.push(Struck { key, at: now, whom, what: Fate::Stale.name() });
    }

    /// What becomes of a wake or an event.
    pub(super) fn way(&mut self, key: u64, now: Timestamp, whom: impl FnOnce() -> String) -> Way {
        if !self.may_strike(key, now) {
            return Way::default();
        }
        let mut dice = self.dice(key);
        let lost = dice.happens(self.faults.lost_wake);
        let doubled = dice.happens(self.faults.doubled_wake);
        let late = dice.happens(self.faults.late_wake);
        let late_ms = if late { dice.between(LATE_MS.0, LATE_MS.1) } else { 0 };
        let what = match (lost, doubled, late) {
            (true, ..) => "lost",
            (false, true, true) => "twice, and late",
            (false, true, false) => "twice",
            (false, false, true) => "late",
            (false, false, false) => return Way::default(),
        };
        self.struck.push(Struck { key, at: now, whom: whom(), what });
        Way { lost, doubled, late_ms }
    }

    /// How much the clock of an invocation is off, in milliseconds.
    pub(super) fn skew_ms(&self, key: u64) -> i64 {
        let most = self.faults.skew_ms;
        if most == 0 {
            return 0;
        }
        let drawn = self.dice(key ^ 0x00c1_0c4b).between(0, 2 * most);
        i64::try_from(drawn).unwrap_or(0) - i64::try_from(most).unwrap_or(0)
    }
}

/// Two numbers made one, whose every bit depends on every bit of both.
pub(super) fn mix(a: u64, b: u64) -> u64 {
    Dice::new(a.rotate_left(32) ^ b.wrapping_mul(0x9E37_79B9_7F4A_7C15)).roll()
}

/// A number for a text (FNV-1a).
pub(super) fn number_of(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
