//! Invariants: properties that must hold after every step of a simulation, whatever goes wrong. Each change of the
//! world and of the ledger is checked as it happens, against a model of each pair that starts from the world and
//! follows its changes; images, alarms and scheduled actions are read from the world itself. Of a target that changes
//! its version in place, only its commands are checked.
//!
//! | module | what it checks |
//! |---|---|
//! | `pair` | the model: sides, rules, limits, and what passes observed of them |
//! | `writes` | writes to the world: who made them, and for what |
//! | `overdue_rollback` | reasons to roll back, and how long they have been unanswered |
//! | `journal_checks` | journal and state: complete, in order, and as the world |
//! | `fact_checks` | single facts of the journal: whether they match the world |
//! | `commands` | commands, and whether each was consumed |
//! | `delivery_log` | what channels received |
//!
//! [`ALL`] lists all invariants. Each has a test that violates it by hand.

mod commands;
mod delivery_log;
mod fact_checks;
mod journal_checks;
mod overdue_rollback;
mod pair;
mod writes;

pub use delivery_log::DeliveryLog;

use crate::ledger::{LedgerWrite, Store};
use crate::trace::{InjectedFault, PassEvent};
use crate::world::{World, WorldChange};
use commands::PendingCommands;
use pair::PairModel;
use rollout::{TargetId, TargetResources, Timestamp};
use std::fmt;

/// A property that must always hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Invariant {
    /// Name of its constant.
    pub name: &'static str,
    /// The property as a sentence.
    pub sentence: &'static str,
}

macro_rules! invariants {
    ($($item:ident: $sentence:literal;)*) => {
        $(#[doc = $sentence] pub const $item: Invariant = Invariant { name: stringify!($item), sentence: $sentence };)*
        /// Every invariant.
        pub const ALL: &[Invariant] = &[$($item),*];
    };
}

invariants! {
    TRAFFIC_ONLY_TO_HEALTHY_TARGETS: "a side gets more traffic only if it was seen with healthy targets";
    NO_SCALE_DOWN_UNDER_TRAFFIC: "no side is scaled down while the load balancer sends it traffic";
    NO_AUTOSCALING_IN_OF_STABLE: "autoscaling does not scale in the stable side while a rollback to it is possible";
    NO_REQUEST_LOST: "no request is lost, unless tasks died or something was changed outside Switchback";
    WEIGHTS_SUM_TO_WHOLE: "written weights sum to 100 over both sides, and nothing else of a rule is changed";
    ONLY_LEASE_HOLDER_WRITES: "only the holder of a target's lease writes, and only what was decided";
    NO_FORWARD_OVERWRITE_OF_FOREIGN_EDITS:
        "weights set outside Switchback are overwritten only by a rollback, or where the policy reverts them";
    ROLLBACK_WITHIN_A_MINUTE_OF_ALARM:
        "a candidate with traffic is rolled back within a minute of AWS answering if an alarm that watches it fires";
    NO_ROLLBACK_ONTO_ALARMED_SIDE: "an alarm that watches the stable side alone causes no rollback to that side";
    SHOWN_TRAFFIC_WAS_OBSERVED: "weights are shown as verified live only if the rules had them when they were observed";
    ONE_DEPLOYMENT_PER_TARGET: "at most one deployment runs per target";
    STAGES_END_WITHIN_DEADLINE: "every stage of a deployment ends within its deadline";
    ALL_TRAFFIC_ON_ONE_SIDE_AT_END:
        "when a deployment has ended, one side has all traffic: the candidate after a success, otherwise the stable side";
    CHANGED_SETTINGS_RESTORED: "when a deployment has ended, autoscaling limits and the test rule are restored";
    JOURNAL_MATCHES_WORLD: "every journal entry matches the state of the world at the observation that it is based on";
    JOURNAL_HAS_NO_GAPS: "journal entries are numbered consecutively";
    COMMANDS_CONSUMED_ONCE: "every command is consumed at most once";
    NO_COMMAND_LOST: "every command is consumed in time";
    ENTRIES_DELIVERED_ONCE: "every journal entry is delivered to every channel once, in order, with the same content";
}

/// The violation of an invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Name of the invariant.
    pub invariant: &'static str,
    /// The property that was violated, as a sentence.
    pub sentence: &'static str,
    /// Virtual time at which the violation was found.
    pub at: Timestamp,
    /// The target concerned; none: not specific to one target.
    pub target: Option<TargetId>,
    /// What was observed instead.
    pub words: String,
}

impl Violation {
    /// A violation of `invariant`, with details of what was observed.
    #[must_use]
    pub fn of(invariant: &Invariant, at: Timestamp, target: Option<&TargetId>, words: impl Into<String>) -> Self {
        let Invariant { name, sentence } = *invariant;
        Self { invariant: name, sentence, at, target: target.cloned(), words: words.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.target.as_ref().map(|target| format!("{target}: ")).unwrap_or_default();
        write!(f, "{}, but {place}{} (at {})", self.sentence, self.words, self.at)
    }
}

/// A violated invariant, with the details.
type BrokenInvariant = (&'static Invariant, String);

/// Checks a world and a ledger against all invariants.
#[derive(Debug)]
pub struct Watcher {
    pairs: Vec<PairModel>,
    commands: PendingCommands,
    lost_requests: f64,
    /// Targets whose journal has grown since [`Watcher::take_grown_targets`] was last called.
    grown_targets: Vec<TargetId>,
    /// World changes that are taken out of the world and not checked yet.
    changes: Vec<WorldChange>,
    written: Vec<LedgerWrite>,
}

impl Watcher {
    /// Starts watching: from now on changes are recorded, and [`Watcher::check`] must be called after each of them.
    #[must_use]
    pub fn attach<'a>(
        world: &mut World,
        store: &mut Store,
        targets: impl IntoIterator<Item = (&'a TargetId, &'a TargetResources)>,
    ) -> Self {
        world.record_changes();
        store.record_writes();
        let models = targets.into_iter().filter_map(|(target, resources)| PairModel::of(world, target, resources));
        let pairs = models.collect();
        let lost_requests = world.total_lost_requests();
        Self {
            pairs,
            commands: PendingCommands::default(),
            lost_requests,
            grown_targets: Vec::new(),
            changes: Vec::new(),
            written: Vec::new(),
        }
    }

    /// Checks what has changed since the last call. `pass_events`: what passes observed and did since then. `injected`:
    /// all faults since the beginning.
    pub(crate) fn check(
        &mut self,
        world: &mut World,
        store: &mut Store,
        pass_events: Vec<PassEvent>,
        injected: &[InjectedFault],
    ) -> Option<Violation> {
        let now = world.now();
        let mut changes = std::mem::take(&mut self.changes);
        let mut written = std::mem::take(&mut self.written);
        world.take_changes(&mut changes);
        store.take_writes(&mut written);
        let mut found = None;
        for pass_event in &pass_events {
            let rule = match pass_event {
                PassEvent::Observed { rule, .. } | PassEvent::Performed { rule, .. } => rule,
            };
            if let Some(pair) = self.pairs.iter_mut().find(|pair| pair.has_first_rule(rule)) {
                found = found.or(to_violation(pair.check_pass_event(pass_event, store, now), pair, now));
            }
        }
        for change in changes.drain(..) {
            if let Some(pair) = self.pairs.iter_mut().find(|pair| pair.is_affected_by(&change)) {
                found = found.or(to_violation(pair.apply_change(change, &pass_events, world, now), pair, now));
            }
        }
        for entry in written.drain(..) {
            let (target, enqueued) = match &entry {
                LedgerWrite::CommandAdded { target, .. } => (target, self.commands.enqueued(&entry, now)),
                LedgerWrite::DecisionCommitted { target, .. } => (target, self.commands.decided(&entry)),
            };
            found = found.or(enqueued.map(|(what, words)| Violation::of(what, now, Some(target), words)));
            if let LedgerWrite::DecisionCommitted { target, lease, after, .. } = &entry {
                if let Some(pair) = self.pairs.iter_mut().find(|pair| &pair.target == target) {
                    found = found.or(to_violation(pair.check_decision(lease, *after, world, store, now), pair, now));
                }
                if store.peek(target).is_some_and(|state| state.last_entry > *after) {
                    self.grown_targets.push(target.clone());
                }
            }
        }
        if world.total_lost_requests() > self.lost_requests {
            self.lost_requests = world.total_lost_requests();
            for pair in &mut self.pairs {
                found = found.or(to_violation(pair.check_lost_requests(world, now), pair, now));
            }
        }
        for pair in &mut self.pairs {
            // Checked after every step, and almost always `None`: only a violation is copied.
            let broken = pair.check_stage_deadline(now);
            if broken.is_some() {
                found = found.or(to_violation(broken, pair, now));
            }
            let broken = pair.check_overdue_rollback(&pass_events, world, injected, now);
            if broken.is_some() {
                found = found.or(to_violation(broken, pair, now));
            }
        }
        self.changes = changes;
        self.written = written;
        found.or(self.commands.overdue(now))
    }

    /// Targets whose journal has grown since the last call.
    pub(crate) fn take_grown_targets(&mut self) -> Vec<TargetId> {
        std::mem::take(&mut self.grown_targets)
    }

    /// Additional properties that must hold once nothing is due any more.
    pub(crate) fn check_idle(&self, now: Timestamp) -> Option<Violation> {
        let words = |(target, id): (&TargetId, &str)| {
            Violation::of(&NO_COMMAND_LOST, now, Some(target), format!("{id} is not consumed, and no wake is pending"))
        };
        self.commands.waiting().next().map(words)
    }
}

fn to_violation(found: Option<BrokenInvariant>, pair: &PairModel, now: Timestamp) -> Option<Violation> {
    found.map(|(what, words)| Violation::of(what, now, Some(&pair.target), words))
}
