//! Writes to a ledger, recorded only while a watcher is attached.

use super::Store;
use engine::LeaseId;
use rollout::journal::JournalEntry;
use rollout::target::TargetState;
use rollout::{CommandId, TargetId};

/// One write to the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerWrite {
    /// A new command; repetitions are not reported.
    CommandAdded {
        /// The target it addresses.
        target: TargetId,
        /// Its idempotency key.
        command: CommandId,
    },
    /// A committed decision.
    DecisionCommitted {
        /// The target it was made for.
        target: TargetId,
        /// The lease it was committed under.
        lease: LeaseId,
        /// Sequence of the newest journal entry before the decision.
        after: u64,
        /// Commands that the decision consumed.
        consumed: Vec<CommandId>,
        /// Consumed commands that were not waiting: consumed before, or never requested.
        not_waiting: Vec<CommandId>,
    },
}

impl Store {
    /// Starts recording writes for [`Store::take_writes`].
    pub fn record_writes(&mut self) {
        self.written.get_or_insert_default();
    }

    /// Appends the writes since the last call to `into`, oldest first.
    pub fn take_writes(&mut self, into: &mut Vec<LedgerWrite>) {
        if let Some(written) = &mut self.written {
            into.append(written);
        }
    }

    /// State of a target, read without a call of the port.
    #[must_use]
    pub fn peek(&self, target: &TargetId) -> Option<&TargetState> {
        self.targets.get(target)?.state.as_ref()
    }

    /// Every target that was ever leased.
    pub fn known_targets(&self) -> impl Iterator<Item = &TargetId> {
        self.targets.keys()
    }

    /// Whether the policy of this target's environment deploys one service at a time.
    #[must_use]
    pub fn deploys_one_at_a_time(&self, target: &TargetId) -> bool {
        let applied = self.policies.get(&target.application);
        let environment = applied.and_then(|applied| applied.policy.environments.get(&target.environment));
        environment.is_some_and(|environment| environment.entry.one_at_a_time)
    }

    /// The lease currently held on a target.
    #[must_use]
    pub fn holder(&self, target: &TargetId) -> Option<&LeaseId> {
        self.targets.get(target)?.lease.as_ref()
    }

    /// Journal entries of a target with a sequence above `after`, by reference, oldest first.
    pub fn entries(&self, target: &TargetId, after: u64) -> impl DoubleEndedIterator<Item = &JournalEntry> {
        let above = after.saturating_add(1);
        self.targets.get(target).into_iter().flat_map(move |entry| entry.journal.range(above..)).map(|(_, entry)| entry)
    }
}
