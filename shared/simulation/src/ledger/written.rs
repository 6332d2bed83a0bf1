//! What was written, for whoever watches a ledger: kept only while somebody does.

use super::Store;
use engine::LeaseId;
use rollout::journal::JournalEntry;
use rollout::target::TargetState;
use rollout::{CommandId, TargetId, Timestamp};

/// Something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// A command that is new.
    Asked {
        /// Of whom.
        target: TargetId,
        /// Its identity.
        command: CommandId,
        /// When it was asked.
        at: Timestamp,
    },
    /// A decision.
    Decided {
        /// Of which target.
        target: TargetId,
        /// Under which holding.
        lease: LeaseId,
        /// Sequence of the newest journal entry before it.
        after: u64,
        /// Commands that it is done with.
        consumed: Vec<CommandId>,
        /// Those of them that nobody was waiting for: consumed before, or never asked.
        twice: Vec<CommandId>,
    },
}

impl Store {
    /// From now on what is written is kept for [`Store::take_written`].
    pub fn keep_written(&mut self) {
        self.written.get_or_insert_default();
    }

    /// Moves what was written since the last taking to the end of `into`, oldest first.
    pub fn take_written(&mut self, into: &mut Vec<Written>) {
        if let Some(written) = &mut self.written {
            into.append(written);
        }
    }

    /// What is remembered of a target, as it stands here.
    #[must_use]
    pub fn peek(&self, target: &TargetId) -> Option<&TargetState> {
        self.targets.get(target)?.state.as_ref()
    }

    /// Who holds a target.
    #[must_use]
    pub fn holder(&self, target: &TargetId) -> Option<&LeaseId> {
        self.targets.get(target)?.lease.as_ref()
    }

    /// Journal entries of a target with a sequence above `after`, as they stand here, oldest first.
    pub fn entries(&self, target: &TargetId, after: u64) -> impl DoubleEndedIterator<Item = &JournalEntry> {
        let above = after.saturating_add(1);
        self.targets.get(target).into_iter().flat_map(move |entry| entry.journal.range(above..)).map(|(_, entry)| entry)
    }
}
