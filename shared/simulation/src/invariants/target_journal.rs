//! What the journal of a target says about its deployments, whichever way they move: entries without gaps, one
//! deployment at a time, and every stage left within its deadline.

use super::{BrokenInvariant, JOURNAL_HAS_NO_GAPS, JOURNAL_MATCHES_WORLD, ONE_DEPLOYMENT_PER_TARGET};
use super::{ONLY_LEASE_HOLDER_WRITES, STAGES_END_WITHIN_DEADLINE};
use crate::ledger::Store;
use engine::LeaseId;
use rollout::deployment::Deployment;
use rollout::journal::{Fact, JournalEntry};
use rollout::{Effect, Seconds, TargetId, Timestamp};

/// How long after its deadline a stage must have been left at the latest, whatever goes wrong: a lost wake, a killed
/// lease holder, a paused one.
const GRACE: Seconds = Seconds(1_200);

/// The deployments of a target, as its journal tells of them.
#[derive(Debug, Default)]
pub(super) struct TargetJournal {
    last_entry: u64,
    last_deployment: u64,
    /// Number of the running deployment.
    running: Option<u64>,
    /// The latest time at which the current stage must have been left, and the stage's name.
    due: Option<(Timestamp, &'static str)>,
}

/// A false entry.
pub(super) fn require(condition: bool, words: impl FnOnce() -> String) -> Option<BrokenInvariant> {
    (!condition).then(|| (&JOURNAL_MATCHES_WORLD, words()))
}

/// The violation by a fact about an observation, written by a pass that made none. `words`: what the fact says.
pub(super) fn not_observed(words: &str) -> BrokenInvariant {
    (&JOURNAL_MATCHES_WORLD, format!("the journal says that {words}, without an observation"))
}

/// Whether an effect was performed under another lease than the one that is held.
pub(super) fn check_lease(
    store: &Store,
    target: &TargetId,
    lease: Option<&LeaseId>,
    effect: &Effect,
) -> Option<BrokenInvariant> {
    let holder = store.holder(target);
    if lease.is_some() && holder == lease {
        return None;
    }
    let name = |lease: Option<&LeaseId>| lease.map_or("nobody".to_owned(), |lease| lease.0.clone());
    let (writer, holder) = (name(lease), name(holder));
    let words = format!("{writer} performed {} while {holder} holds the lease", effect.kind().name());
    Some((&ONLY_LEASE_HOLDER_WRITES, words))
}

impl TargetJournal {
    /// Checks the place of the next entry: its number, and the deployment that it belongs to.
    pub(super) fn check_place(&mut self, entry: &JournalEntry) -> Option<BrokenInvariant> {
        let before = std::mem::replace(&mut self.last_entry, entry.sequence);
        if entry.sequence != before + 1 {
            return Some((&JOURNAL_HAS_NO_GAPS, format!("entry {} follows entry {before}", entry.sequence)));
        }
        if let Some(found) = self.check_one_running(entry) {
            return Some(found);
        }
        match &entry.fact {
            Fact::Started { .. } => {
                let number = entry.deployment.unwrap_or(0);
                (self.running, self.last_deployment) = (Some(number), number);
            }
            Fact::Ended { .. } => self.running = None,
            _ => {}
        }
        None
    }

    /// A deployment starts only after the previous one has ended, and only the running one writes entries.
    fn check_one_running(&self, entry: &JournalEntry) -> Option<BrokenInvariant> {
        let open = self.running;
        match &entry.fact {
            Fact::Started { .. } => {
                let next = entry.deployment == Some(self.last_deployment + 1);
                (open.is_some() || !next).then(|| {
                    let last = self.last_deployment;
                    (
                        &ONE_DEPLOYMENT_PER_TARGET,
                        format!("{:?} starts while {open:?} runs; the last one was #{last}", entry.deployment),
                    )
                })
            }
            Fact::StageEntered { .. }
            | Fact::SidesDetermined { .. }
            | Fact::VersionReady { .. }
            | Fact::WorkloadFound { .. }
            | Fact::ReplacementStarted { .. }
            | Fact::Replaced { .. }
            | Fact::ForeignVersionReplaced { .. }
            | Fact::WeightsDecided { .. }
            | Fact::WeightsVerified { .. }
            | Fact::AutoscalingOverridden { .. }
            | Fact::AutoscalingRestored { .. }
            | Fact::CandidateHealthy { .. }
            | Fact::Halted { .. }
            | Fact::Resumed
            | Fact::RollbackStarted { .. }
            | Fact::Ended { .. } => (entry.deployment != open).then(|| {
                let words =
                    format!("{} of {:?} was journalled while {open:?} runs", entry.fact.name(), entry.deployment);
                (&ONE_DEPLOYMENT_PER_TARGET, words)
            }),
            _ => None,
        }
    }

    /// After a decision, whose entries were checked: notes the deadline of the stage that the stored deployment is in.
    pub(super) fn note_decision(&mut self, running: Option<&Deployment>) {
        self.due = running.map(|running| (GRACE.after(latest_deadline(running)), running.stage().name()));
    }

    /// Whether the journal and the stored state agree about the running deployment.
    pub(super) fn check_running(&self, running: Option<&Deployment>) -> Option<BrokenInvariant> {
        let (in_journal, stored) = (self.running, running.map(|running| running.number));
        (in_journal != stored).then(|| {
            (&ONE_DEPLOYMENT_PER_TARGET, format!("{in_journal:?} runs in the journal, and {stored:?} in the state"))
        })
    }

    /// Whether the current stage has exceeded its deadline.
    pub(super) fn check_deadline(&self, now: Timestamp) -> Option<BrokenInvariant> {
        let (due, stage) = self.due.filter(|(due, _)| *due < now)?;
        let number = self.running.unwrap_or(0);
        Some((
            &STAGES_END_WITHIN_DEADLINE,
            format!("#{number} is still in stage {stage}, which should have ended by {due}"),
        ))
    }
}

/// Latest deadline of the running deployment's stage, halt and operator wait.
fn latest_deadline(running: &Deployment) -> Timestamp {
    let halted = running.halted().map(|halt| halt.deadline);
    let frozen = running.awaiting_operator().map(|frozen| frozen.deadline);
    let stage = running.phase.deadline();
    [halted, frozen].into_iter().flatten().fold(stage, Timestamp::max)
}
