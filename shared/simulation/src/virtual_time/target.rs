//! One target of a simulation, looked at: what is remembered of it, and what happened to it.

use crate::ledger::MemoryLedger;
use crate::world::PairNames;
use rollout::journal::{Fact, JournalEntry};
use rollout::stage::Verdict;
use rollout::target::TargetState;
use rollout::{Seconds, TargetId};

/// One target of a simulation.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub(super) ledger: &'a MemoryLedger,
    pub(super) target: &'a TargetId,
    pub(super) names: &'a PairNames,
}

impl<'a> Target<'a> {
    /// What things are called.
    #[must_use]
    pub fn names(self) -> &'a PairNames {
        self.names
    }

    /// What is remembered of it.
    #[must_use]
    pub fn state(self) -> Option<TargetState> {
        self.ledger.store().state(self.target).ok().flatten()
    }

    /// The name of the stage of the deployment that runs.
    #[must_use]
    pub fn stage_name(self) -> Option<&'static str> {
        self.state()?.running.map(|running| running.stage.name())
    }

    /// How often its state was written: begins, decisions and hand-overs.
    #[must_use]
    pub fn commits(self) -> u64 {
        self.ledger.store().revision(self.target)
    }

    /// Its journal, whole.
    #[must_use]
    pub fn journal(self) -> Vec<JournalEntry> {
        self.ledger.store().journal(self.target, 0, usize::MAX)
    }

    /// How deployments ended, in their order, with the reasons.
    #[must_use]
    pub fn verdicts(self) -> Vec<(u64, Verdict, String)> {
        let ended = |entry: JournalEntry| match entry.fact {
            Fact::Ended { verdict, reason, .. } => Some((entry.deployment.unwrap_or(0), verdict, reason)),
            _ => None,
        };
        self.journal().into_iter().filter_map(ended).collect()
    }

    /// Its journal as lines for people: seconds since the first entry, deployment, fact.
    #[must_use]
    pub fn story(self) -> String {
        let journal = self.journal();
        let Some(first) = journal.first().map(|entry| entry.at) else { return String::new() };
        let mut story = String::new();
        for entry in journal {
            let fact = serde_json::to_string(&entry.fact).unwrap_or_default();
            let number = entry.deployment.unwrap_or(0);
            story.push_str(&format!("{:>6} #{number} {fact}\n", Seconds::between(first, entry.at).0));
        }
        story
    }
}
