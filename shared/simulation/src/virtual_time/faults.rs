//! What goes wrong with calls of ports, by chance or at a given call.

use crate::world::Dice;
use rollout::Timestamp;

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
    /// The pass ends here, for ever: its function was killed.
    pub crash: f64,
    /// A wake comes twice.
    pub doubled_wake: f64,
    /// A wake, or an event of the world, never comes.
    pub lost_wake: f64,
    /// Nothing goes wrong by chance from then on: a world in which nothing ever works cannot come to an end.
    pub until: Option<Timestamp>,
    /// The one call at which a pass ends, whatever the probabilities.
    pub crash_at: Option<CrashAt>,
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
    /// The pass ends.
    Crash(Moment),
}

/// Faults, and the dice for them.
#[derive(Debug)]
pub(super) struct Chance {
    pub(super) faults: Faults,
    dice: Dice,
    /// Calls of drive passes so far.
    pub(super) calls: u64,
}

impl Chance {
    pub(super) fn new(faults: Faults) -> Self {
        Self { dice: Dice::new(faults.seed), faults, calls: 0 }
    }

    /// What becomes of the next call, and how long it takes, in milliseconds. Only drive passes can be crashed at a
    /// given call.
    pub(super) fn next(&mut self, now: Timestamp, of_a_pass: bool) -> (Fate, u64) {
        let ordinary = self.dice.between(5, 60);
        let rolls = [self.dice.unit(), self.dice.unit(), self.dice.unit(), self.dice.unit(), self.dice.unit()];
        if of_a_pass {
            let call = self.calls;
            self.calls += 1;
            if let Some(crash) = self.faults.crash_at.filter(|crash| crash.call == call) {
                return (Fate::Crash(crash.moment), ordinary);
            }
        }
        if self.faults.until.is_some_and(|until| now >= until) {
            return (Fate::Fine, ordinary);
        }
        let faults = &self.faults;
        let takes = if rolls[0] < faults.delayed { self.dice.between(500, 5_000) } else { ordinary };
        let fate = if of_a_pass && rolls[1] < faults.crash {
            Fate::Crash(if self.dice.happens(0.5) { Moment::Before } else { Moment::After })
        } else if rolls[2] < faults.unavailable {
            Fate::Unavailable
        } else if rolls[3] < faults.throttled {
            Fate::Throttled
        } else if rolls[4] < faults.lost_answer {
            Fate::LostAnswer
        } else {
            Fate::Fine
        };
        (fate, takes)
    }

    pub(super) fn loses_wake(&mut self, now: Timestamp) -> bool {
        let roll = self.dice.unit();
        self.faults.until.is_none_or(|until| now < until) && roll < self.faults.lost_wake
    }

    pub(super) fn doubles_wake(&mut self, now: Timestamp) -> bool {
        let roll = self.dice.unit();
        self.faults.until.is_none_or(|until| now < until) && roll < self.faults.doubled_wake
    }
}
