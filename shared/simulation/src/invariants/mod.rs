//! What must be so after every step of a simulation, whatever goes wrong: each change of the world and of the ledger is
//! looked at once, as it happens, and compared with a picture of the world that is made of changes alone.
//!
//! | module | what it looks at |
//! |---|---|
//! | `pair` | the picture: sides, rules, limits, and what passes saw of them |
//! | `hands` | writes to the world: whose, and what for |
//! | `answered` | reasons to go back, and how long they wait for their answer |
//! | `record` | the journal and the state: whether they are true |
//! | `commands` | what was asked, and whether somebody took it up |
//! | `told` | what channels were told |
//!
//! [`ALL`] is the table of what is promised. A test for each lets somebody break it by hand.

mod answered;
mod commands;
mod hands;
mod pair;
mod record;
mod told;

pub use told::Telling;

use crate::ledger::{Store, Written};
use crate::virtual_time::{Deed, Struck};
use crate::world::{Change, World};
use commands::Commands;
use pair::Pair;
use rollout::{EcsPair, TargetId, Timestamp};
use std::fmt;

/// Something that is promised.
#[derive(Debug, PartialEq, Eq)]
pub struct Invariant {
    /// What it is called.
    pub name: &'static str,
    /// What is promised.
    pub sentence: &'static str,
}

macro_rules! invariants {
    ($($(#[$doc:meta])* $item:ident = $name:literal: $sentence:literal;)*) => {
        $($(#[$doc])* #[doc = $sentence] pub const $item: Invariant = Invariant { name: $name, sentence: $sentence };)*
        /// All that is promised.
        pub const ALL: &[Invariant] = &[$($item),*];
    };
}

invariants! {
    HEALTHY_FIRST = "healthy first": "traffic goes only to a side whose targets were seen healthy";
    NEVER_UNDER_TRAFFIC = "never under traffic": "no side is scaled down while the balancer sends it traffic";
    STABLE_STAYS = "stable stays": "as long as it is the way back, the autoscaler takes nothing from the stable side";
    NOTHING_LOST = "nothing lost": "no request is lost, unless tasks died or somebody meddled";
    WEIGHTS_WHOLE = "weights whole": "weights sum to one whole over both sides, and nothing else of a rule is changed";
    ONE_WRITER = "one writer": "only the holder of a target writes, and only what the ledger says was decided";
    HANDS_OFF = "hands off": "what somebody else has edited is written over by a way back alone";
    ALARM_ANSWERED = "a firing alarm is answered": "while a candidate carries traffic and an alarm that sees it fires, weights go back within a minute of AWS answering, whatever else holds";
    NOT_ONTO_THE_ACCUSED = "not onto the accused": "no alarm moves traffic onto the one side that it sees";
    SHOWN_SEEN = "what is shown as seen was seen": "no traffic is shown as seen live that the rules did not have when they were looked at";
    ONE_RUNS = "one runs": "at most one deployment runs on a target";
    VERDICT_IN_TIME = "verdict in time": "every deployment gets on, and comes to a verdict, within its deadlines";
    WAY_BACK_WHOLE = "way back whole": "after a way back the stable release carries everything";
    NOTHING_BORROWED = "nothing borrowed": "what was borrowed is given back at the end: autoscaling limits, test rule";
    NOTHING_UNTRUE = "nothing untrue": "nothing that is recorded is untrue";
    JOURNAL_WHOLE = "journal whole": "the journal has no gaps, and counts up";
    COMMANDS_ONCE = "commands once": "no command is consumed twice";
    COMMANDS_KEPT = "commands kept": "no command is lost";
    TOLD_ONCE = "told once": "each entry of the journal is told to each channel, in order, and is one by content";
}

/// A promise was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// What was promised.
    pub sentence: &'static str,
    /// When.
    pub at: Timestamp,
    /// Where.
    pub target: Option<TargetId>,
    /// What was seen.
    pub words: String,
}

impl Violation {
    /// Says what is broken, and how.
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

/// What somebody found: the promise, and what is wrong.
type Found = (&'static Invariant, String);

/// Watches a world and a ledger.
#[derive(Debug)]
pub struct Watcher {
    pairs: Vec<Pair>,
    commands: Commands,
    lost: f64,
    /// Whose journal has grown since somebody asked.
    grown: Vec<TargetId>,
    /// Taken out of the world and the ledger, and not looked at yet.
    changes: Vec<Change>,
    written: Vec<Written>,
}

impl Watcher {
    /// Begins to watch: from now on changes are kept, and [`Watcher::look`] is to be asked after each of them.
    #[must_use]
    pub fn over<'a>(
        world: &mut World,
        store: &mut Store,
        targets: impl IntoIterator<Item = (&'a TargetId, &'a EcsPair)>,
    ) -> Self {
        world.keep_changes();
        store.keep_written();
        let pairs = targets.into_iter().map(|(target, pair)| Pair::of(world, target, pair)).collect();
        let lost = world.lost_so_far();
        Self { pairs, commands: Commands::default(), lost, grown: Vec::new(), changes: Vec::new(), written: Vec::new() }
    }

    /// Looks at what has changed since the last look; `deeds` is what passes saw and did meanwhile, and `struck` what has gone
    /// wrong since the beginning.
    pub(crate) fn look(
        &mut self,
        world: &mut World,
        store: &mut Store,
        deeds: Vec<Deed>,
        struck: &[Struck],
    ) -> Option<Violation> {
        let now = world.now();
        let mut changes = std::mem::take(&mut self.changes);
        let mut written = std::mem::take(&mut self.written);
        world.take_changes(&mut changes);
        store.take_written(&mut written);
        let mut found = None;
        for deed in &deeds {
            let rule = match deed {
                Deed::Looked { rule, .. } | Deed::Performed { rule, .. } => rule,
            };
            if let Some(pair) = self.pairs.iter_mut().find(|pair| pair.is_of(rule)) {
                found = found.or(tell(pair.deed(deed, store, now), pair, now));
            }
        }
        for change in changes.drain(..) {
            if let Some(pair) = self.pairs.iter_mut().find(|pair| pair.has(&change)) {
                found = found.or(tell(pair.change(change, &deeds, world, now), pair, now));
            }
        }
        for entry in written.drain(..) {
            let (target, asked) = match &entry {
                Written::Asked { target, .. } => (target, self.commands.asked(&entry, now)),
                Written::Decided { target, .. } => (target, self.commands.decided(&entry)),
            };
            found = found.or(asked.map(|(what, words)| Violation::of(what, now, Some(target), words)));
            if let Written::Decided { target, lease, after, .. } = &entry
                && let Some(pair) = self.pairs.iter_mut().find(|pair| &pair.target == target)
            {
                found = found.or(tell(pair.decided(lease, *after, world, store, now), pair, now));
                if pair.last_entry > *after {
                    self.grown.push(target.clone());
                }
            }
        }
        if world.lost_so_far() > self.lost {
            self.lost = world.lost_so_far();
            for pair in &mut self.pairs {
                found = found.or(tell(pair.lost(world, now), pair, now));
            }
        }
        for pair in &mut self.pairs {
            found = found.or(tell(pair.in_time(now), pair, now));
            found = found.or(tell(pair.answered(&deeds, world, struck, now), pair, now));
        }
        self.changes = changes;
        self.written = written;
        found.or(self.commands.overdue(now))
    }

    /// Whose journals have grown since the last asking.
    pub(crate) fn grown(&mut self) -> Vec<TargetId> {
        std::mem::take(&mut self.grown)
    }

    /// What must be so where everything has come to rest.
    pub(crate) fn rest(&self, now: Timestamp) -> Option<Violation> {
        let words = |(target, id): (&TargetId, &str)| {
            Violation::of(&COMMANDS_KEPT, now, Some(target), format!("{id} waits, and nobody is awake"))
        };
        self.commands.waiting().next().map(words)
    }
}

fn tell(found: Option<Found>, pair: &Pair, now: Timestamp) -> Option<Violation> {
    found.map(|(what, words)| Violation::of(what, now, Some(&pair.target), words))
}
