//! The trace of a run: what passes observed and did, and the faults that were injected. `virtual_time` writes it, and
//! `invariants` judges it.

use engine::LeaseId;
use rollout::snapshot::Weights;
use rollout::{Effect, Timestamp};

/// Names of the calls of a pass by which an invariant tells faults apart: the ports' methods.
pub(crate) mod call_name {
    pub(crate) const ACQUIRE_LEASE: &str = "acquire_lease";
    pub(crate) const BRAKES: &str = "brakes";
    pub(crate) const COMMANDS: &str = "commands";
    pub(crate) const OBSERVE: &str = "observe";
    /// Sending a wake.
    pub(crate) const SEND: &str = "send";
}

/// A fault that occurred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InjectedFault {
    /// Identity: the same in every run of one seed in which the fault occurs.
    pub key: u64,
    /// Virtual time of the fault.
    pub at: Timestamp,
    /// The affected invocation and call, or the event in transit.
    pub subject: String,
    /// Kind of fault, as test output shows it.
    pub what: &'static str,
}

/// An observation or a write of a pass.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PassEvent {
    /// The pass observed a pair.
    Observed {
        /// ARN of the pair's first rule, which identifies the pair.
        rule: String,
        /// The lease that the pass holds.
        lease: Option<LeaseId>,
        /// Running tasks of blue and green; none where unreadable.
        running: [Option<u32>; 2],
        /// Healthy targets of blue and green; none where unreadable.
        healthy: [Option<u32>; 2],
        /// The weights of each rule; none where unreadable.
        rules: Vec<Option<Weights>>,
        /// Names of the alarms seen firing.
        firing: Vec<String>,
    },
    /// The pass performed an effect.
    Performed {
        /// ARN of the pair's first rule.
        rule: String,
        /// The lease that the pass holds.
        lease: Option<LeaseId>,
        /// The effect performed.
        effect: Effect,
    },
}
