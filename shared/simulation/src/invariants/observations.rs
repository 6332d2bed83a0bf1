//! What the latest observations found, each with the lease of the pass that made it.

use engine::LeaseId;
use std::collections::VecDeque;

/// Number of observations kept: enough for passes that overlap.
const KEPT: usize = 8;

/// The latest observations of a target, oldest first.
#[derive(Debug)]
pub(super) struct Observations<T>(VecDeque<(Option<LeaseId>, T)>);

impl<T> Default for Observations<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Observations<T> {
    /// Keeps an observation of the pass that holds `lease`.
    pub(super) fn record(&mut self, lease: Option<LeaseId>, state: T) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((lease, state));
    }

    /// The last observation of the pass that holds `lease`.
    pub(super) fn last_of(&self, lease: Option<&LeaseId>) -> Option<&T> {
        let of_pass = |(of, _): &&(Option<LeaseId>, T)| lease.is_some() && of.as_ref() == lease;
        self.0.iter().rev().find(of_pass).map(|(_, state)| state)
    }
}
