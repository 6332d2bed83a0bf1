//! Records, decided again.

use super::changes::differences;
use super::read::changed;
use super::{Decided, Difference, Performed, Record, What};
use crate::decide::{Decision, absorb, decide};
use crate::journal::JournalEntry;
use crate::target::TargetState;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// All records, decided again: target by target, in the order in which they were decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Each record, and what is decided now.
    pub redone: Vec<Redone>,
}

/// A record, decided again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redone {
    /// The record.
    pub record: Record,
    /// What is missing before it, or instead of it.
    pub gap: Option<Gap>,
    /// What is decided now; none: there is too little to decide on.
    pub now: Option<Now>,
    /// Where that is not what was recorded. Each record is decided again from what was recorded: one that differs makes
    /// no other one differ.
    pub differences: Vec<Difference>,
    /// Where nothing differs, but that this version remembers something which the recorded one did not know of.
    pub remembered: Vec<Difference>,
    /// Effects were decided, and it is not recorded what became of them: the pass ended there.
    pub cut_short: bool,
    /// Another pass has decided on the same state: only one of the two decisions was written down.
    pub contested: bool,
}

/// What is decided now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Now {
    /// A decision.
    Decision(Box<Decision>),
    /// What effects' outcomes change.
    Absorbed(Box<TargetState>, Vec<JournalEntry>),
}

/// Something that should be there and is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "gap", rename_all = "snake_case")]
pub enum Gap {
    /// What was decided in between: these entries of the journal came of it.
    Decisions {
        /// Sequence of the first.
        from: u64,
        /// Sequence of the last.
        to: u64,
    },
    /// The decision whose effects these are.
    TheirDecision,
    /// It was too long to be written down.
    TooLong {
        /// So many bytes.
        bytes: u64,
    },
    /// Of the lines that it was written on, not all are there.
    Torn {
        /// So many are.
        found: usize,
        /// Of so many.
        all: usize,
    },
    /// What was recorded does not fit together.
    Unfit {
        /// Why not.
        why: String,
    },
}

impl Redone {
    /// Whether something else is done, and not only said otherwise: other effects, another stage, another time to look
    /// again, another end, or something else taken up.
    #[must_use]
    pub fn acts_otherwise(&self) -> bool {
        self.differences.iter().any(|difference| {
            let field = difference.field.as_str();
            let under =
                |root: &str| field.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            ACTS.iter().any(|root| under(root)) || field.starts_with("history/") && field.ends_with("/verdict")
        })
    }
}

/// What differs where something else is done.
const ACTS: [&str; 8] = [
    "effects",
    "next",
    "consumed",
    "state/running/number",
    "state/running/stage/stage",
    "state/running/stage/step",
    "state/running/weights",
    "state/errands",
];

impl Replay {
    /// Records that are decided otherwise now, the first one first.
    pub fn different(&self) -> impl Iterator<Item = &Redone> {
        self.redone.iter().filter(|redone| !redone.differences.is_empty())
    }

    /// What this version remembers and the recorded one did not know of. Later decisions were recorded without it: what
    /// this version would have made of it cannot be told.
    #[must_use]
    pub fn remembered(&self) -> BTreeSet<&str> {
        self.redone.iter().flat_map(|redone| &redone.remembered).map(|it| it.field.as_str()).collect()
    }

    /// Records that something is missing before, or instead of.
    pub fn gaps(&self) -> impl Iterator<Item = (&Redone, &Gap)> {
        self.redone.iter().filter_map(|redone| Some((redone, redone.gap.as_ref()?)))
    }
}

/// Decides everything again that was recorded. What was recorded twice (a log that was fetched in overlapping pieces)
/// counts once.
#[must_use]
pub fn replay(mut records: Vec<Record>) -> Replay {
    let rank = |what: &What| match what {
        // What became of effects stands on the revision that the decision has made, and comes before the next decision.
        What::Performed(_) => 0,
        _ => 1,
    };
    records.sort_by(|a, b| {
        let by = |record: &Record| (record.revision, rank(&record.what), record.at);
        a.target.cmp(&b.target).then_with(|| by(a).cmp(&by(b)))
    });
    records.dedup();
    let mut redone: Vec<Redone> = Vec::with_capacity(records.len());
    let mut journal = Journal::default();
    for record in records {
        if redone.last().is_some_and(|last| last.record.target != record.target) {
            journal = Journal::default();
        }
        let (now, differences, mut gap) = match &record.what {
            What::Decided(decided) => {
                let (now, differences) = again(decided, &record);
                (Some(now), differences, journal.gap_before(decided.state.last_entry))
            }
            What::Performed(performed) => match decision_of(&redone, &record) {
                Some(decided) => absorbed(performed, &decided.decision.state, &record),
                // Where the recording begins, nothing is missing that was asked for.
                None => (None, Vec::new(), journal.begun.then_some(Gap::TheirDecision)),
            },
            What::TooLong(bytes) => (None, Vec::new(), Some(Gap::TooLong { bytes: *bytes })),
            What::Torn { found, all } => (None, Vec::new(), Some(Gap::Torn { found: *found, all: *all })),
        };
        let told = match &record.what {
            What::Decided(decided) => Some(decided.decision.state.last_entry),
            What::Performed(performed) => performed.journal.last().map(|entry| entry.sequence),
            // What is not there has told something, perhaps: that is one gap, and not two.
            What::TooLong(_) | What::Torn { .. } => {
                journal.reached = None;
                None
            }
        };
        if gap == Some(Gap::TheirDecision) && redone.last().is_some_and(|last| last.gap.is_some() && last.now.is_none())
        {
            // It has been told of.
            gap = None;
        }
        journal.told(record.revision, told);
        let new = |difference: &Difference| difference.recorded.is_none() && difference.field.starts_with("state/");
        let only_new = differences.iter().all(new);
        let (differences, remembered) = if only_new { (vec![], differences) } else { (differences, vec![]) };
        redone.push(Redone { record, gap, now, differences, remembered, cut_short: false, contested: false });
    }
    mark_what_was_cut_short(&mut redone);
    mark_what_was_contested(&mut redone);
    Replay { redone }
}

/// How far a target's journal has come.
#[derive(Default)]
struct Journal {
    begun: bool,
    revision: u64,
    reached: Option<u64>,
}

impl Journal {
    /// Entries have no gaps: what is missing of them was decided by what is missing of the records.
    fn gap_before(&self, last_entry: u64) -> Option<Gap> {
        let reached = self.reached.filter(|reached| *reached < last_entry)?;
        Some(Gap::Decisions { from: reached + 1, to: last_entry })
    }

    /// Of two decisions on one revision only one was written down, and it may be either.
    fn told(&mut self, revision: u64, last_entry: Option<u64>) {
        self.begun = true;
        let Some(last_entry) = last_entry else { return };
        let same = self.reached.filter(|_| self.revision == revision).unwrap_or(0);
        *self = Self { begun: true, revision, reached: Some(last_entry.max(same)) };
    }
}

/// The decision whose effects were performed.
fn decision_of<'a>(redone: &'a [Redone], of: &Record) -> Option<&'a Decided> {
    let same_target = redone.iter().rev().take_while(|before| before.record.target == of.target);
    let mut same_pass = same_target.filter(|before| before.record.pass == of.pass);
    same_pass.find_map(|before| match &before.record.what {
        What::Decided(decided) if before.record.revision.checked_add(1) == Some(of.revision) => Some(&**decided),
        _ => None,
    })
}

fn mark_what_was_cut_short(redone: &mut [Redone]) {
    for place in 0..redone.len() {
        let Redone { record, .. } = &redone[place];
        let What::Decided(decided) = &record.what else { continue };
        let acts = !decided.decision.effects.is_empty() && decided.state.running.is_some();
        let follows = |later: &Redone| {
            later.record.pass == record.pass
                && later.record.target == record.target
                && Some(later.record.revision) == record.revision.checked_add(1)
                && !matches!(later.record.what, What::Decided(_))
        };
        redone[place].cut_short = acts && !redone[place + 1..].iter().take(64).any(follows);
    }
}

fn mark_what_was_contested(redone: &mut [Redone]) {
    for place in 1..redone.len() {
        let [before, after] = [place - 1, place].map(|place| &redone[place].record);
        let decides = |record: &Record| matches!(record.what, What::Decided(_));
        let one_state = before.target == after.target && before.revision == after.revision;
        if one_state && before.pass != after.pass && decides(before) && decides(after) {
            redone[place - 1].contested = true;
            redone[place].contested = true;
        }
    }
}

fn again(decided: &Decided, record: &Record) -> (Now, Vec<Difference>) {
    let now = decide(&decided.state, &decided.inbox(), decided.snapshot.as_ref(), record.at);
    let differences = if now == decided.decision {
        Vec::new()
    } else {
        let parts = |decision: &Decision| {
            let Decision { state, journal, history, consumed, effects, next } = decision;
            [
                ("effects", json!(effects)),
                ("next", json!(next)),
                ("journal", json!(journal)),
                ("history", json!(history)),
                ("consumed", json!(consumed)),
                ("state", json!(state)),
            ]
        };
        differing(&parts(&decided.decision), &parts(&now))
    };
    (Now::Decision(Box::new(now)), differences)
}

fn absorbed(
    performed: &Performed,
    before: &TargetState,
    record: &Record,
) -> (Option<Now>, Vec<Difference>, Option<Gap>) {
    let recorded = match changed(before, &performed.changes) {
        Ok(state) => state,
        Err(why) => return (None, Vec::new(), Some(Gap::Unfit { why })),
    };
    let (state, journal) = absorb(before, &performed.outcomes, record.at);
    let parts = |state: &TargetState, journal: &[JournalEntry]| [("journal", json!(journal)), ("state", json!(state))];
    let differences = if state == recorded && journal == performed.journal {
        Vec::new()
    } else {
        differing(&parts(&recorded, &performed.journal), &parts(&state, &journal))
    };
    (Some(Now::Absorbed(Box::new(state), journal)), differences, None)
}

fn differing(recorded: &[(&str, Value)], now: &[(&str, Value)]) -> Vec<Difference> {
    recorded.iter().zip(now).flat_map(|((field, recorded), (_, now))| differences(field, recorded, now)).collect()
}
