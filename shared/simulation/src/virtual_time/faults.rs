//! Faults injected into port calls, at random or at a given call.
//!
//! Each call has its own random numbers, derived from the seed, the caller and the caller's call count: an additional
//! call in one place does not change the faults elsewhere.

use crate::trace::InjectedFault;
use crate::world::SeededRng;
use rollout::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Maximum age of a stale reading, in milliseconds.
pub(super) const STALE_MS: i64 = 5_000;
/// Time until a call times out, in milliseconds.
const TIMEOUT_MS: (u64, u64) = (2_000, 6_000);
/// Range of a pause, in milliseconds: the longest pauses outlast the lease.
const PAUSE_MS: (u64, u64) = (20_000, 420_000);
/// Delay of a late wake or event, in milliseconds.
const LATE_MS: (u64, u64) = (500, 120_000);

/// Fault probabilities per call, 0 to 1. The default is no faults.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Seed of all randomness.
    pub seed: u64,
    /// The call was executed, and its response is lost.
    pub lost_answer: f64,
    /// The call was not executed: the service was unreachable.
    pub unavailable: f64,
    /// The call was not executed: it was throttled.
    pub throttled: f64,
    /// The call takes up to 5 seconds.
    pub delayed: f64,
    /// No response in time; the call may or may not have been executed.
    pub timed_out: f64,
    /// A reading returns the state before the last write, up to 5 seconds old.
    pub stale: f64,
    /// The function is killed at this call, and the pass never continues.
    pub crash: f64,
    /// The pass is paused at this call, possibly beyond its lease, and continues without noticing.
    pub paused: f64,
    /// A wake or an event is delivered twice.
    pub duplicated_wake: f64,
    /// A wake, or an event of the world, is never delivered.
    pub lost_wake: f64,
    /// A wake or an event is delivered up to two minutes late, after others that were sent after it.
    pub late_wake: f64,
    /// Maximum clock skew of an invocation in either direction, in milliseconds.
    pub skew_ms: u64,
    /// No random faults from then on, so that every run can come to an end.
    pub until: Option<Timestamp>,
    /// The one call at which a pass is killed, whatever the probabilities.
    pub crash_at: Option<CrashAt>,
    /// Of all random faults only those with these keys are injected: to find out which of them matter.
    pub only: Option<Arc<BTreeSet<u64>>>,
}

impl Faults {
    /// All kinds of faults at `rate` (0 to 1); those that kill or pause a pass, less often.
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
            paused: rate / 8.0,
            duplicated_wake: rate,
            lost_wake: rate,
            late_wake: rate,
            skew_ms: if rate > 0.0 { 1_500 } else { 0 },
            until: None,
            crash_at: None,
            only: None,
        }
    }
}

/// A call at which a pass is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashAt {
    /// Index over all calls of drivers and notifiers, from 0.
    pub call: u64,
    /// Whether the pass is killed before or after the call is executed.
    pub phase: CallPhase,
}

/// Point of a call at which a pass is killed or paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallPhase {
    /// Before the call: it is not executed.
    Before,
    /// After the call: it is executed, and its response is never seen.
    After,
}

/// Outcome of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallOutcome {
    /// Executed, with its response.
    Done,
    /// Executed; the response is lost.
    LostAnswer,
    /// Not executed: service unreachable.
    Unavailable,
    /// Not executed: throttled.
    Throttled,
    /// Executed or not, without a response.
    TimedOut(CallPhase),
    /// Executed; the response is the state before the last write.
    Stale,
    /// The pass is killed.
    Crash(CallPhase),
    /// The pass is paused for this many milliseconds, either before the call, which then times out, or after it.
    Paused(CallPhase, u64),
}

impl CallOutcome {
    fn name(self) -> &'static str {
        match self {
            Self::Done => "nothing",
            Self::LostAnswer => "done, and the answer is lost",
            Self::Unavailable => "not done, unreachable",
            Self::Throttled => "not done, throttled",
            Self::TimedOut(CallPhase::Before) => "not done, out of time",
            Self::TimedOut(CallPhase::After) => "done, out of time",
            Self::Stale => "answered as it was before",
            Self::Crash(CallPhase::Before) => "killed before it",
            Self::Crash(CallPhase::After) => "killed after it",
            Self::Paused(CallPhase::Before, _) => "stands still before it",
            Self::Paused(CallPhase::After, _) => "stands still after it",
        }
    }
}

/// Kind of call, which determines its possible faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallKind {
    /// A call of a driver or a notifier.
    InPass,
    /// Any other call.
    Other,
    /// One of an observation's readings: it takes no time of its own, and cannot kill or pause a pass.
    Reading,
}

/// Faults of a wake or an event in transit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct DeliveryFault {
    pub(super) lost: bool,
    pub(super) duplicated: bool,
    pub(super) late_ms: u64,
}

/// The fault probabilities, and the faults injected so far.
#[derive(Debug)]
pub(super) struct FaultInjector {
    pub(super) faults: Faults,
    /// Number of calls of drivers and notifiers so far.
    pub(super) calls: u64,
    /// Faults injected so far, in order.
    pub(super) injected: Vec<InjectedFault>,
}

impl FaultInjector {
    pub(super) fn new(faults: Faults) -> Self {
        Self { faults, calls: 0, injected: Vec::new() }
    }

    fn rng(&self, key: u64) -> SeededRng {
        SeededRng::new(mix(self.faults.seed, key))
    }

    /// Whether a random fault with this key is injected at this time.
    fn is_active(&self, key: u64, now: Timestamp) -> bool {
        self.faults.until.is_none_or(|until| now < until)
            && self.faults.only.as_ref().is_none_or(|only| only.contains(&key))
    }

    /// Outcome and duration (milliseconds) of a call. `subject` is evaluated only if a fault occurs.
    pub(super) fn next(
        &mut self,
        key: u64,
        now: Timestamp,
        kind: CallKind,
        subject: impl FnOnce() -> String,
    ) -> (CallOutcome, u64) {
        let mut rng = self.rng(key);
        let usual_ms = rng.between(5, 60);
        if kind == CallKind::InPass {
            let call = self.calls;
            self.calls += 1;
            if let Some(crash) = self.faults.crash_at.filter(|crash| crash.call == call) {
                let outcome = CallOutcome::Crash(crash.phase);
                self.injected.push(InjectedFault { key, at: now, subject: subject(), what: outcome.name() });
                return (outcome, usual_ms);
            }
        }
        if !self.is_active(key, now) {
            return (CallOutcome::Done, usual_ms);
        }
        let faults = &self.faults;
        let mut happens = |probability: f64| rng.happens(probability);
        let in_pass = kind == CallKind::InPass;
        let delayed = happens(faults.delayed);
        let (killed, paused) = (happens(faults.crash), happens(faults.paused));
        let (unreachable, throttled) = (happens(faults.unavailable), happens(faults.throttled));
        let (answer_lost, timed_out, stale) =
            (happens(faults.lost_answer), happens(faults.timed_out), happens(faults.stale));
        let phase = if rng.happens(0.5) { CallPhase::Before } else { CallPhase::After };
        let duration_ms = if delayed { rng.between(500, 5_000) } else { usual_ms };
        let (outcome, duration_ms) = if in_pass && killed {
            (CallOutcome::Crash(phase), duration_ms)
        } else if in_pass && paused {
            (CallOutcome::Paused(phase, rng.between(PAUSE_MS.0, PAUSE_MS.1)), duration_ms)
        } else if unreachable {
            (CallOutcome::Unavailable, duration_ms)
        } else if throttled {
            (CallOutcome::Throttled, duration_ms)
        } else if timed_out {
            (CallOutcome::TimedOut(phase), rng.between(TIMEOUT_MS.0, TIMEOUT_MS.1))
        } else if answer_lost {
            (CallOutcome::LostAnswer, duration_ms)
        } else if stale {
            (CallOutcome::Stale, duration_ms)
        } else {
            (CallOutcome::Done, duration_ms)
        };
        // A stale reading is recorded later, and only if it made a difference.
        if !matches!(outcome, CallOutcome::Done | CallOutcome::Stale) || (delayed && kind != CallKind::Reading) {
            let what = if outcome == CallOutcome::Done { "slow" } else { outcome.name() };
            self.injected.push(InjectedFault { key, at: now, subject: subject(), what });
        }
        (outcome, duration_ms)
    }

    /// Records a stale reading that differed from the current state.
    pub(super) fn record_stale_read(&mut self, key: u64, now: Timestamp, subject: String) {
        self.injected.push(InjectedFault { key, at: now, subject, what: CallOutcome::Stale.name() });
    }

    /// Faults of a wake or an event in transit.
    pub(super) fn delivery_fault(
        &mut self,
        key: u64,
        now: Timestamp,
        subject: impl FnOnce() -> String,
    ) -> DeliveryFault {
        if !self.is_active(key, now) {
            return DeliveryFault::default();
        }
        let mut rng = self.rng(key);
        let lost = rng.happens(self.faults.lost_wake);
        let duplicated = rng.happens(self.faults.duplicated_wake);
        let late = rng.happens(self.faults.late_wake);
        let late_ms = if late { rng.between(LATE_MS.0, LATE_MS.1) } else { 0 };
        let what = match (lost, duplicated, late) {
            (true, ..) => "lost",
            (false, true, true) => "twice, and late",
            (false, true, false) => "twice",
            (false, false, true) => "late",
            (false, false, false) => return DeliveryFault::default(),
        };
        self.injected.push(InjectedFault { key, at: now, subject: subject(), what });
        DeliveryFault { lost, duplicated, late_ms }
    }

    /// Clock skew of an invocation, in milliseconds.
    pub(super) fn skew_ms(&self, key: u64) -> i64 {
        let max_skew = self.faults.skew_ms;
        if max_skew == 0 {
            return 0;
        }
        let drawn = self.rng(key ^ 0x00c1_0c4b).between(0, 2 * max_skew);
        i64::try_from(drawn).unwrap_or(0) - i64::try_from(max_skew).unwrap_or(0)
    }
}

/// Hash of two numbers in which every bit depends on every bit of both.
pub(super) fn mix(a: u64, b: u64) -> u64 {
    SeededRng::new(a.rotate_left(32) ^ b.wrapping_mul(0x9E37_79B9_7F4A_7C15)).next_u64()
}

/// Hash of a text (FNV-1a).
pub(super) fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
