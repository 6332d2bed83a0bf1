//! What was asked: each taken up once, and none forgotten.

use super::{COMMANDS_KEPT, COMMANDS_ONCE, Found, Violation};
use crate::ledger::Written;
use rollout::{SignedDuration, TargetId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Within this, in seconds, a command is taken up whatever goes wrong: a lost wake, a sweep, a dead holder, one that
/// stood still, and all of that once more.
const TAKEN_UP_WITHIN_S: i64 = 1_800;
/// Before nothing is due that was asked up to then.
const HORIZON: SignedDuration = SignedDuration::from_secs(TAKEN_UP_WITHIN_S);

/// What waits to be taken up.
#[derive(Debug, Default)]
pub(super) struct Commands {
    waiting: BTreeSet<(Timestamp, String, TargetId)>,
    asked_at: BTreeMap<(TargetId, String), Timestamp>,
}

impl Commands {
    pub(super) fn asked(&mut self, written: &Written, now: Timestamp) -> Option<Found> {
        let Written::Asked { target, command } = written else { return None };
        self.waiting.insert((now, command.0.clone(), target.clone()));
        self.asked_at.insert((target.clone(), command.0.clone()), now);
        None
    }

    pub(super) fn decided(&mut self, written: &Written) -> Option<Found> {
        let Written::Decided { target, consumed, twice, .. } = written else { return None };
        for command in consumed {
            if let Some(at) = self.asked_at.remove(&(target.clone(), command.0.clone())) {
                self.waiting.remove(&(at, command.0.clone(), target.clone()));
            }
        }
        twice.first().map(|command| (&COMMANDS_ONCE, format!("{} was not waiting", command.0)))
    }

    /// The oldest that should have been taken up. What stops a train may have to wait for another deployment's end.
    pub(super) fn overdue(&self, now: Timestamp) -> Option<Violation> {
        let late = |(at, id, _): &&(Timestamp, String, TargetId)| {
            now.duration_since(*at) > HORIZON && !id.starts_with("stop-train:")
        };
        let (at, id, target) = self.waiting.first().filter(late)?;
        Some(Violation::of(&COMMANDS_KEPT, now, Some(target), format!("{id} was written at {at}, and still waits")))
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = (&TargetId, &str)> {
        self.waiting.iter().map(|(_, id, target)| (target, id.as_str()))
    }
}
