//! Commands: each is consumed exactly once, and none is lost.

use super::{BrokenInvariant, COMMANDS_CONSUMED_ONCE, NO_COMMAND_LOST, Violation};
use crate::ledger::LedgerWrite;
use rollout::{SignedDuration, TargetId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Deadline, in seconds, for consuming a command whatever goes wrong: a lost wake, a sweep, a killed lease holder, a
/// paused one, and all of that a second time.
const CONSUMED_WITHIN_S: i64 = 1_800;
/// [`CONSUMED_WITHIN_S`] as a duration; a command younger than this is never overdue.
const MAX_WAIT: SignedDuration = SignedDuration::from_secs(CONSUMED_WITHIN_S);

/// Commands that no decision has consumed yet.
#[derive(Debug, Default)]
pub(super) struct PendingCommands {
    waiting: BTreeSet<(Timestamp, String, TargetId)>,
    requested_at: BTreeMap<(TargetId, String), Timestamp>,
}

impl PendingCommands {
    /// A command was written.
    pub(super) fn enqueued(&mut self, written: &LedgerWrite, now: Timestamp) -> Option<BrokenInvariant> {
        let LedgerWrite::CommandAdded { target, command } = written else { return None };
        self.waiting.insert((now, command.0.clone(), target.clone()));
        self.requested_at.insert((target.clone(), command.0.clone()), now);
        None
    }

    /// A decision was committed: the commands that it consumed wait no longer, and each must have waited until then.
    pub(super) fn decided(&mut self, written: &LedgerWrite) -> Option<BrokenInvariant> {
        let LedgerWrite::DecisionCommitted { target, consumed, not_waiting, .. } = written else { return None };
        for command in consumed {
            if let Some(at) = self.requested_at.remove(&(target.clone(), command.0.clone())) {
                self.waiting.remove(&(at, command.0.clone(), target.clone()));
            }
        }
        not_waiting.first().map(|command| (&COMMANDS_CONSUMED_ONCE, format!("{} was not in the inbox", command.0)))
    }

    /// The oldest command past its deadline. A `stop-train:` command is exempt: it may have to wait for another
    /// deployment's end.
    pub(super) fn overdue(&self, now: Timestamp) -> Option<Violation> {
        let late = |(at, id, _): &&(Timestamp, String, TargetId)| {
            now.duration_since(*at) > MAX_WAIT && !id.starts_with("stop-train:")
        };
        let (at, id, target) = self.waiting.first().filter(late)?;
        let words = format!("{id} was written at {at} and is not consumed yet");
        Some(Violation::of(&NO_COMMAND_LOST, now, Some(target), words))
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = (&TargetId, &str)> {
        self.waiting.iter().map(|(_, id, target)| (target, id.as_str()))
    }
}
