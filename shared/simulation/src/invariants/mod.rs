//! Invariants: properties that must hold after every step of a simulation, whatever goes wrong. Each change of the
//! world and of the ledger is checked as it happens, against a model of each target that starts from the world and
//! follows its changes; images, alarms and scheduled actions are read from the world itself.
//!
//! | module | what it checks |
//! |---|---|
//! | `target_journal` | the journal of any target: complete, in order, every stage within its deadline |
//! | `observations` | the latest observations of a target, by the pass that made them |
//! | `overdue_rollback` | reasons to roll back, and how long they have been unanswered |
//! | `pair` | the model of a pair: sides, rules, limits, and what passes observed of them |
//! | `writes` | writes to a pair: who made them, and for what |
//! | `journal_checks` | journal and state of a pair: as the world |
//! | `fact_checks` | single facts of a pair's journal: whether they match the world |
//! | `service_state` | what ECS runs of a service that changes its version in place |
//! | `in_place` | the model of such a target: its service, and who set its version |
//! | `in_place_writes` | writes to it: only its version, as decided, and over nobody else's to go forward |
//! | `in_place_facts` | its journal: replaced, verified, back and ended only as the world says |
//! | `environment` | environments that deploy one service at a time |
//! | `commands` | commands, and whether each was consumed |
//! | `delivery_log` | what channels received |
//!
//! [`ALL`] lists all invariants. Each has a test that violates it by hand.

mod commands;
mod delivery_log;
mod environment;
mod fact_checks;
mod in_place;
mod in_place_facts;
mod in_place_writes;
mod journal_checks;
mod observations;
mod overdue_rollback;
mod pair;
mod service_state;
mod target_journal;
mod writes;

pub use delivery_log::DeliveryLog;
pub(crate) use in_place::InPlaceModel;
pub(crate) use pair::PairModel;

use crate::ledger::{LedgerWrite, Store};
use crate::trace::{InjectedFault, PassEvent, TraceSubject};
use crate::world::{World, WorldChange};
use commands::PendingCommands;
use engine::LeaseId;
use rollout::{TargetId, Timestamp};
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
        "a candidate with traffic, or set in place, is rolled back within a minute of AWS answering if its alarm fires";
    NO_ROLLBACK_ONTO_ALARMED_SIDE: "an alarm that watches the stable side alone causes no rollback to that side";
    SHOWN_TRAFFIC_WAS_OBSERVED: "weights are shown as verified live only if the rules had them when they were observed";
    ONE_DEPLOYMENT_PER_TARGET: "at most one deployment runs per target";
    ONE_SERVICE_AT_A_TIME:
        "where an environment deploys one at a time, no two of its services are between their start and the end of the bake";
    STAGES_END_WITHIN_DEADLINE: "every stage of a deployment ends within its deadline";
    ALL_TRAFFIC_ON_ONE_SIDE_AT_END:
        "when a deployment has ended, one side has all traffic: the candidate after a success, otherwise the stable side";
    ONLY_THE_VERSION_CHANGES_IN_PLACE:
        "in place, Switchback changes the version alone: not the number of tasks, autoscaling or weights";
    REDEPLOYED_ONLY_AFTER_FAILURE: "a version that is set already is deployed anew only if ECS has given it up";
    NO_FORWARD_OVERWRITE_OF_FOREIGN_VERSIONS:
        "a version set outside Switchback is overwritten only by a rollback, and the journal names it";
    REPLACED_ONLY_IF_EVERYTHING_RUNS_IT:
        "a version set in place counts as replaced, verified or succeeded only if all tasks are of it and healthy";
    VERSION_BEFORE_AT_END:
        "a deployment in place that has rolled back leaves the version before, or an equal one, on all tasks";
    NO_AUTOMATIC_ROLLBACK_OF_FORWARD_ONLY: "a forward-only release set in place is rolled back only by a person";
    STABLE_VERSION_IS_LIVE:
        "while nothing is deployed in place, the stable version is set, or one that was set outside Switchback";
    NO_HOOK_TASK_LEFT: "no task of a hook runs on after its deployment in place has ended";
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

/// The world and the ledger at the time of a check.
pub(crate) struct Moment<'a> {
    world: &'a mut World,
    store: &'a Store,
    now: Timestamp,
}

/// What the watcher follows of one target, whichever way it moves.
pub(crate) trait TargetModel: fmt::Debug {
    fn target(&self) -> &TargetId;

    /// Whether the trace means this target.
    fn is_subject(&self, subject: &TraceSubject) -> bool;

    /// Whether a change concerns this target.
    fn is_affected_by(&self, change: &WorldChange) -> bool;

    /// A pass has observed the target, or performed an effect.
    fn on_pass_event(&mut self, pass_event: &PassEvent, moment: &mut Moment<'_>) -> Option<BrokenInvariant>;

    /// The world has changed. `pass_events`: what passes observed and did since the last check.
    fn on_change(
        &mut self,
        change: WorldChange,
        pass_events: &[PassEvent],
        moment: &mut Moment<'_>,
    ) -> Option<BrokenInvariant>;

    /// A decision was committed, with its journal entries after sequence `after`.
    fn on_decision(&mut self, lease: &LeaseId, after: u64, moment: &mut Moment<'_>) -> Option<BrokenInvariant>;

    /// Requests were lost, of this target or of another one.
    fn on_lost_requests(&mut self, moment: &mut Moment<'_>) -> Option<BrokenInvariant>;

    /// Called after every step. `injected`: all faults since the beginning.
    fn on_step(
        &mut self,
        pass_events: &[PassEvent],
        injected: &[InjectedFault],
        moment: &mut Moment<'_>,
    ) -> Option<BrokenInvariant>;

    /// Nothing is due any more.
    fn on_rest(&mut self, moment: &mut Moment<'_>) -> Option<BrokenInvariant>;
}

/// Checks a world and a ledger against all invariants.
#[derive(Debug)]
pub struct Watcher {
    models: Vec<Box<dyn TargetModel>>,
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
    /// `models`: one for each target, made of this world as it is now.
    pub(crate) fn attach(world: &mut World, store: &mut Store, models: Vec<Box<dyn TargetModel>>) -> Self {
        world.record_changes();
        store.record_writes();
        let lost_requests = world.total_lost_requests();
        Self {
            models,
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
        let moment = &mut Moment { world, store, now };
        let mut found = None;
        for pass_event in &pass_events {
            if let Some(model) = self.models.iter_mut().find(|model| model.is_subject(pass_event.subject())) {
                found = found.or(to_violation(model.on_pass_event(pass_event, moment), &**model, now));
            }
        }
        for change in changes.drain(..) {
            if let Some(model) = self.models.iter_mut().find(|model| model.is_affected_by(&change)) {
                found = found.or(to_violation(model.on_change(change, &pass_events, moment), &**model, now));
            }
        }
        for entry in written.drain(..) {
            found = found.or(self.check_written(&entry, moment));
        }
        let lost_requests = moment.world.total_lost_requests();
        if lost_requests > self.lost_requests {
            self.lost_requests = lost_requests;
            for model in &mut self.models {
                found = found.or(to_violation(model.on_lost_requests(moment), &**model, now));
            }
        }
        for model in &mut self.models {
            // Checked after every step, and almost always `None`: only a violation is copied.
            let broken = model.on_step(&pass_events, injected, moment);
            if broken.is_some() {
                found = found.or(to_violation(broken, &**model, now));
            }
        }
        self.changes = changes;
        self.written = written;
        found.or(self.commands.overdue(now))
    }

    /// Checks a write to the ledger.
    fn check_written(&mut self, entry: &LedgerWrite, moment: &mut Moment<'_>) -> Option<Violation> {
        let now = moment.now;
        let (target, broken) = match entry {
            LedgerWrite::CommandAdded { target, .. } => (target, self.commands.enqueued(entry, now)),
            LedgerWrite::DecisionCommitted { target, .. } => (target, self.commands.decided(entry)),
        };
        let mut found = broken.map(|(what, words)| Violation::of(what, now, Some(target), words));
        if let LedgerWrite::DecisionCommitted { target, lease, after, .. } = entry {
            if let Some(model) = self.models.iter_mut().find(|model| model.target() == target) {
                found = found.or(to_violation(model.on_decision(lease, *after, moment), &**model, now));
            }
            let broken = environment::check(target, moment.store);
            found = found.or(broken.map(|(what, words)| Violation::of(what, now, Some(target), words)));
            if moment.store.peek(target).is_some_and(|state| state.last_entry > *after) {
                self.grown_targets.push(target.clone());
            }
        }
        found
    }

    /// Targets whose journal has grown since the last call.
    pub(crate) fn take_grown_targets(&mut self) -> Vec<TargetId> {
        std::mem::take(&mut self.grown_targets)
    }

    /// Additional properties that must hold once nothing is due any more.
    pub(crate) fn check_idle(&mut self, world: &mut World, store: &Store) -> Option<Violation> {
        let now = world.now();
        let words = |(target, id): (&TargetId, &str)| {
            Violation::of(&NO_COMMAND_LOST, now, Some(target), format!("{id} is not consumed, and no wake is pending"))
        };
        let mut found = self.commands.waiting().next().map(words);
        let moment = &mut Moment { world, store, now };
        for model in &mut self.models {
            found = found.or(to_violation(model.on_rest(moment), &**model, now));
        }
        found
    }
}

fn to_violation(found: Option<BrokenInvariant>, model: &dyn TargetModel, now: Timestamp) -> Option<Violation> {
    found.map(|(what, words)| Violation::of(what, now, Some(model.target()), words))
}
