//! What every moment of a day is checked for, and production's deployments at its end.

use super::{DayRun, IN_FLIGHT, ROLLBACK_REASON, targets};
use rollout::brake::Scope;
use rollout::deployment::{Deployment, Purpose};
use rollout::journal::{Fact, JournalEntry};
use rollout::verdict::Verdict;
use rollout::{Seconds, Slot, TargetId, Timestamp};
use simulation::invariants::{Invariant, Violation};
use std::collections::{BTreeMap, BTreeSet};

const PRODUCTION_WAS_APPROVED: Invariant = Invariant {
    name: "allowed",
    sentence: "nothing gets to production that was not verified before and approved by two people",
};
const NO_WIDENING_WHILE_STOPPED: Invariant =
    Invariant { name: "line", sentence: "nothing widens while the line is stopped" };

impl DayRun {
    pub(super) fn violation_of(
        &self,
        what: &'static Invariant,
        target: &TargetId,
        words: impl Into<String>,
    ) -> Violation {
        Violation::of(what, self.pipeline.simulation.now(), Some(target), words)
    }

    /// While the line is stopped, no deployment of a release gets more traffic than it had.
    pub(super) fn check_no_widening(&mut self) -> Result<(), Violation> {
        let Some(since) = self.active_brakes.get(&Scope::Everything) else { return Ok(()) };
        if self.pipeline.simulation.now() < IN_FLIGHT.after(*since) {
            return Ok(());
        }
        for target in self.targets() {
            let Some(running) = self.pipeline.state(&target).running else { continue };
            let share = self.candidate_share(&target, &running).filter(|_| running.purpose == Purpose::Deploy);
            let Some(share) = share else { continue };
            let before = *self.highest_shares.entry((target.clone(), running.number)).or_insert(share);
            if share > before {
                let words = format!("#{} went from {before} to {share}", running.number);
                return Err(self.violation_of(&NO_WIDENING_WHILE_STOPPED, &target, words));
            }
            self.highest_shares.insert((target.clone(), running.number), share);
        }
        Ok(())
    }

    /// How much of the traffic or, in place, of the tasks the candidate may have, in per cent; none: it has none yet.
    fn candidate_share(&self, target: &TargetId, running: &Deployment) -> Option<i64> {
        if let Some(in_place) = running.in_place() {
            return Some(if in_place.has_replaced() { 100 } else { 0 });
        }
        let candidate = running.candidate()?;
        let (blue, green) = self.pipeline.weights(target);
        let live = if candidate == Slot::Blue { blue } else { green };
        let live = if self.edited_by_hand.contains(target) { 0 } else { live };
        // What was decided before may still be on its way: its call failed, and is repeated.
        let decided = running.weights().map_or(0, |record| i64::from(record.decided.of(candidate)));
        Some(live.max(decided))
    }

    /// What must be true of prod's deployments, as the journals have them.
    pub(super) fn check_production_approvals(&self) -> Result<(), Violation> {
        let [_, staging, prod] = targets();
        let mut deployments: BTreeMap<u64, Vec<JournalEntry>> = BTreeMap::new();
        for entry in self.pipeline.journal(&prod) {
            if let Some(number) = entry.deployment {
                deployments.entry(number).or_default().push(entry);
            }
        }
        for (number, entries) in &deployments {
            let Some(Fact::Started { digest, reason, .. }) = entries.first().map(|entry| &entry.fact) else { continue };
            let hotfix = entries.iter().any(|entry| matches!(entry.fact, Fact::HotfixStarted { .. }));
            let enters = |entry: &JournalEntry, wanted: &str| matches!(&entry.fact, Fact::StageEntered { stage, .. } if stage.name() == wanted);
            // Both sides may be asleep then, and it goes back to its gates.
            let began = entries.iter().rfind(|entry| enters(entry, "preflight"));
            let changes_aws = |fact: &Fact| {
                let of_pair = matches!(fact, Fact::VersionReady { .. } | Fact::WeightsDecided { .. });
                of_pair || matches!(fact, Fact::ReplacementStarted { .. })
            };
            let changed_aws = entries.iter().any(|entry| changes_aws(&entry.fact));
            let violation_of =
                |words: String| Err(self.violation_of(&PRODUCTION_WAS_APPROVED, &prod, format!("#{number}: {words}")));
            // What is in production already, and whose traffic somebody else moved, gets it back without a gate.
            let is_repair = !entries.iter().any(|entry| enters(entry, "registering") || enters(entry, "scaling"));
            let was_live = || self.pipeline.has(&prod, was_verified(digest)) || self.has_succeeded(&prod, digest);
            if reason == ROLLBACK_REASON || hotfix || (is_repair && was_live()) {
                continue;
            }
            let Some(JournalEntry { at: began, sequence, .. }) = began else {
                if changed_aws {
                    return violation_of("it did not wait at its gates".to_owned());
                }
                continue;
            };
            if !self.was_verified_before(&staging, digest, *began) {
                return violation_of("it was not verified in staging".to_owned());
            }
            let is_voiding =
                |entry: &JournalEntry| matches!(entry.fact, Fact::PlanChanged { .. }) && entry.sequence < *sequence;
            let voided = entries.iter().rposition(is_voiding).unwrap_or(0);
            let approvers: BTreeSet<&str> = entries[voided..]
                .iter()
                .filter_map(|entry| match &entry.fact {
                    Fact::Approved { person, .. } if entry.sequence < *sequence => Some(person.as_str()),
                    _ => None,
                })
                .collect();
            if approvers.len() < 2 {
                return violation_of(format!("only {approvers:?} said yes"));
            }
            for (scope, since, until) in &self.past_brakes {
                if scope.covers(&prod) && IN_FLIGHT.after(*since) <= *began && Seconds(2).after(*began) < *until {
                    return violation_of(format!(
                        "it began at {began} though {scope} was braked from {since} to {until}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether a deployment of this image has succeeded: one that was live already is verified by nobody.
    fn has_succeeded(&self, target: &TargetId, digest: &str) -> bool {
        let journal = self.pipeline.journal(target);
        let of_image = |entry: &JournalEntry| matches!(&entry.fact, Fact::Started { digest: of, .. } if of == digest);
        let numbers: BTreeSet<_> = journal.iter().filter(|it| of_image(it)).map(|it| it.deployment).collect();
        let succeeded = |fact: &Fact| matches!(fact, Fact::Ended { verdict: Verdict::Succeeded, .. });
        journal.iter().any(|entry| succeeded(&entry.fact) && numbers.contains(&entry.deployment))
    }

    /// A release counted as verified when it went on, or a moment before.
    fn was_verified_before(&self, staging: &TargetId, digest: &str, began: Timestamp) -> bool {
        let mut verified_since = None;
        // Clocks of two passes may be off by a little, and one may have read before the other wrote.
        let written_by_then = |entry: &JournalEntry| entry.at <= Seconds(4).after(began);
        for entry in self.pipeline.journal(staging).into_iter().filter(written_by_then) {
            match entry.fact {
                Fact::Verified { digest: known, .. } if known == digest => verified_since = Some(entry.at),
                Fact::VerificationRevoked { digest: known, .. }
                    if known == digest && IN_FLIGHT.after(entry.at) < began =>
                {
                    verified_since = None;
                }
                _ => {}
            }
        }
        verified_since.is_some()
    }

    /// The promise that was broken, if time stands still for one.
    pub(super) fn check_invariants(&self) -> Result<(), Violation> {
        self.pipeline.simulation.violation().map_or(Ok(()), |violation| Err(violation.clone()))
    }
}

/// Whether a fact says that this image was verified.
fn was_verified(wanted: &str) -> impl Fn(&Fact) -> bool {
    move |fact| matches!(fact, Fact::Verified { digest, .. } if digest == wanted)
}
