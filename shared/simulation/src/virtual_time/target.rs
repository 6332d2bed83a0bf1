//! A view of one target of a simulation: its stored state, and its history.

use crate::ledger::MemoryLedger;
use crate::world::{PairNames, RollingNames};
use rollout::journal::{Fact, JournalEntry};
use rollout::target::TargetState;
use rollout::verdict::Verdict;
use rollout::{Registry, Seconds, TargetId};

/// Names of a target's resources.
#[derive(Debug)]
pub(super) struct SceneNames {
    /// Name of the repository.
    pub(super) repository: String,
    /// Host and name of the repository, without tag or digest.
    pub(super) repository_uri: String,
    /// The registry that holds the repository.
    registry: Registry,
    of_platform: PlatformNames,
}

/// Names of what runs a target.
#[derive(Debug)]
enum PlatformNames {
    Pair(Box<PairNames>),
    Rolling(Box<RollingNames>),
}

impl SceneNames {
    /// The registry that holds the repository.
    pub(super) fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// Of a pair; none: the target changes its version in place.
    fn pair(&self) -> Option<&PairNames> {
        match &self.of_platform {
            PlatformNames::Pair(names) => Some(names),
            PlatformNames::Rolling(_) => None,
        }
    }

    /// Of a service whose versions are replaced in place; none: the target is a pair.
    fn rolling(&self) -> Option<&RollingNames> {
        match &self.of_platform {
            PlatformNames::Pair(_) => None,
            PlatformNames::Rolling(names) => Some(names),
        }
    }
}

impl From<PairNames> for SceneNames {
    fn from(names: PairNames) -> Self {
        Self {
            repository: names.repository.clone(),
            repository_uri: names.repository_uri.clone(),
            registry: names.registry(),
            of_platform: PlatformNames::Pair(Box::new(names)),
        }
    }
}

impl From<RollingNames> for SceneNames {
    fn from(names: RollingNames) -> Self {
        Self {
            repository: names.repository.clone(),
            repository_uri: names.repository_uri.clone(),
            registry: names.registry(),
            of_platform: PlatformNames::Rolling(Box::new(names)),
        }
    }
}

/// A view of one target of a simulation.
#[derive(Debug, Clone, Copy)]
pub struct TargetView<'a> {
    pub(super) ledger: &'a MemoryLedger,
    pub(super) target: &'a TargetId,
    pub(super) names: &'a SceneNames,
}

impl<'a> TargetView<'a> {
    /// Names of the pair's resources.
    ///
    /// # Panics
    /// If the target is no pair.
    #[must_use]
    pub fn names(self) -> &'a PairNames {
        self.names.pair().expect("the target is a pair")
    }

    /// Names of the resources of a service whose versions are replaced in place.
    ///
    /// # Panics
    /// If the target is a pair.
    #[must_use]
    pub fn rolling_names(self) -> &'a RollingNames {
        self.names.rolling().expect("the target changes its version in place")
    }

    /// The target's stored state.
    #[must_use]
    pub fn state(self) -> Option<TargetState> {
        self.ledger.store().state(self.target).ok().flatten()
    }

    /// Name of the running deployment's stage.
    #[must_use]
    pub fn stage_name(self) -> Option<&'static str> {
        self.state()?.running.map(|running| running.stage().name())
    }

    /// Revision of its state: the number of commits so far.
    #[must_use]
    pub fn commits(self) -> u64 {
        self.ledger.store().revision(self.target)
    }

    /// The target's whole journal.
    #[must_use]
    pub fn journal(self) -> Vec<JournalEntry> {
        self.ledger.store().journal(self.target, 0, usize::MAX)
    }

    /// Number, verdict and reason of each deployment that has ended, in order.
    #[must_use]
    pub fn verdicts(self) -> Vec<(u64, Verdict, String)> {
        let ended = |entry: JournalEntry| match entry.fact {
            Fact::Ended { verdict, reason, .. } => Some((entry.deployment.unwrap_or(0), verdict, reason)),
            _ => None,
        };
        self.journal().into_iter().filter_map(ended).collect()
    }

    /// The journal as text: seconds since the first entry, deployment, fact.
    #[must_use]
    pub fn journal_text(self) -> String {
        let journal = self.journal();
        let Some(first) = journal.first().map(|entry| entry.at) else { return String::new() };
        let mut journal_text = String::new();
        for entry in journal {
            let fact = serde_json::to_string(&entry.fact).unwrap_or_default();
            let number = entry.deployment.unwrap_or(0);
            journal_text.push_str(&format!("{:>6} #{number} {fact}\n", Seconds::between(first, entry.at).0));
        }
        journal_text
    }
}
