//! Properties that must hold after every step of a simulation, whatever goes wrong. Each change of the world and of the
//! ledger is checked as it happens, against a model of the world that is built from changes alone.
//!
//! | module | what it checks |
//! |---|---|
//! | `pair` | the model: sides, rules, limits, and what passes observed of them |
//! | `writes` | writes to the world: who made them, and for what |
//! | `overdue_rollback` | reasons to roll back, and how long they have been unanswered |
//! | `journal_checks` | journal and state: whether they match the world |
//! | `commands` | commands, and whether each was consumed |
//! | `delivery_log` | what channels received |
//!
//! [`ALL`] lists all invariants. Each has a test that violates it by hand.

mod commands;
mod delivery_log;
mod journal_checks;
mod overdue_rollback;
mod pair;
mod writes;

pub use delivery_log::DeliveryLog;

use crate::ledger::{LedgerWrite, Store};
use crate::virtual_time::{InjectedFault, PassEvent};
use crate::world::{World, WorldChange};
use commands::Commands;
use pair::PairModel;
use rollout::{EcsPair, TargetId, Timestamp};
use std::fmt;

/// A property that must always hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Invariant {
    /// Short name, as test output shows it.
    pub name: &'static str,
    /// The property as a sentence.
    pub sentence: &'static str,
}

macro_rules! invariants {
    ($($(#[$doc:meta])* $item:ident = $name:literal: $sentence:literal;)*) => {
        $($(#[$doc])* #[doc = $sentence] pub const $item: Invariant = Invariant { name: $name, sentence: $sentence };)*
        /// Every invariant.
        pub const ALL: &[Invariant] = &[$($item),*];
    };
}

invariants! {
    TRAFFIC_ONLY_TO_HEALTHY_TARGETS = "healthy first": "traffic goes only to a side whose targets were seen healthy";
    NO_SCALE_DOWN_UNDER_TRAFFIC = "never under traffic": "no side is scaled down while the balancer sends it traffic";
    NO_AUTOSCALING_IN_OF_STABLE = "stable stays": "as long as it is the way back, the autoscaler takes nothing from the stable side";
    NO_REQUEST_LOST = "nothing lost": "no request is lost, unless tasks died or somebody meddled";
    WEIGHTS_SUM_TO_WHOLE = "weights whole": "weights sum to one whole over both sides, and nothing else of a rule is changed";
    ONLY_LEASE_HOLDER_WRITES = "one writer": "only the holder of a target writes, and only what the ledger says was decided";
    NO_FORWARD_OVERWRITE_OF_FOREIGN_EDITS = "hands off": "what somebody else has edited is written over by a way back alone";
    ROLLBACK_WITHIN_A_MINUTE_OF_ALARM = "a firing alarm is answered": "while a candidate carries traffic and an alarm that sees it fires, weights go back within a minute of AWS answering, whatever else holds";
    NO_ROLLBACK_ONTO_ALARMED_SIDE = "not onto the accused": "no alarm moves traffic onto the one side that it sees";
    SHOWN_TRAFFIC_WAS_OBSERVED = "what is shown as seen was seen": "no traffic is shown as seen live that the rules did not have when they were looked at";
    ONE_DEPLOYMENT_PER_TARGET = "one runs": "at most one deployment runs on a target";
    STAGES_END_WITHIN_DEADLINE = "verdict in time": "every deployment gets on, and comes to a verdict, within its deadlines";
    ROLLBACK_IS_COMPLETE = "way back whole": "after a way back the stable release carries everything";
    BORROWED_SETTINGS_RETURNED = "nothing borrowed": "what was borrowed is given back at the end: autoscaling limits, test rule";
    JOURNAL_MATCHES_WORLD = "nothing untrue": "nothing that is recorded is untrue";
    JOURNAL_HAS_NO_GAPS = "journal whole": "the journal has no gaps, and counts up";
    COMMANDS_CONSUMED_ONCE = "commands once": "no command is consumed twice";
    NO_COMMAND_LOST = "commands kept": "no command is lost";
    ENTRIES_DELIVERED_ONCE = "told once": "each entry of the journal is told to each channel, in order, and is one by content";
}

/// An invariant was violated.
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
type Finding = (&'static Invariant, String);

/// Checks a world and a ledger against all invariants.
#[derive(Debug)]
pub struct Watcher {
    pairs: Vec<PairModel>,
    commands: Commands,
    lost_requests: f64,
    /// Targets whose journal has grown since [`Watcher::take_grown_targets`] was last called.
    take_grown_targets: Vec<TargetId>,
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
        targets: impl IntoIterator<Item = (&'a TargetId, &'a EcsPair)>,
    ) -> Self {
        world.record_changes();
        store.record_writes();
        let pairs = targets.into_iter().map(|(target, pair)| PairModel::of(world, target, pair)).collect();
        let lost_requests = world.total_lost_requests();
        Self {
            pairs,
            commands: Commands::default(),
            lost_requests,
            take_grown_targets: Vec::new(),
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
                found = found.or(to_violation(pair.pass_event(pass_event, store, now), pair, now));
            }
        }
        for change in changes.drain(..) {
            if let Some(pair) = self.pairs.iter_mut().find(|pair| pair.is_affected_by(&change)) {
                found = found.or(to_violation(pair.change(change, &pass_events, world, now), pair, now));
            }
        }
        for entry in written.drain(..) {
            let (target, enqueued) = match &entry {
                LedgerWrite::CommandAdded { target, .. } => (target, self.commands.enqueued(&entry, now)),
                LedgerWrite::DecisionCommitted { target, .. } => (target, self.commands.decided(&entry)),
            };
            found = found.or(enqueued.map(|(what, words)| Violation::of(what, now, Some(target), words)));
            if let LedgerWrite::DecisionCommitted { target, lease, after, .. } = &entry
                && let Some(pair) = self.pairs.iter_mut().find(|pair| &pair.target == target)
            {
                found = found.or(to_violation(pair.decided(lease, *after, world, store, now), pair, now));
                if pair.last_entry > *after {
                    self.take_grown_targets.push(target.clone());
                }
            }
        }
        if world.total_lost_requests() > self.lost_requests {
            self.lost_requests = world.total_lost_requests();
            for pair in &mut self.pairs {
                found = found.or(to_violation(pair.lost_requests(world, now), pair, now));
            }
        }
        for pair in &mut self.pairs {
            found = found.or(to_violation(pair.overdue_stage(now), pair, now));
            found = found.or(to_violation(pair.overdue_rollback(&pass_events, world, injected, now), pair, now));
        }
        self.changes = changes;
        self.written = written;
        found.or(self.commands.overdue(now))
    }

    /// Targets whose journal has grown since the last call.
    pub(crate) fn take_grown_targets(&mut self) -> Vec<TargetId> {
        std::mem::take(&mut self.take_grown_targets)
    }

    /// Additional properties that must hold once nothing is due any more.
    pub(crate) fn check_idle(&self, now: Timestamp) -> Option<Violation> {
        let words = |(target, id): (&TargetId, &str)| {
            Violation::of(&NO_COMMAND_LOST, now, Some(target), format!("{id} waits, and nobody is awake"))
        };
        self.commands.waiting().next().map(words)
    }
}

fn to_violation(found: Option<Finding>, pair: &PairModel, now: Timestamp) -> Option<Violation> {
    found.map(|(what, words)| Violation::of(what, now, Some(&pair.target), words))
}
