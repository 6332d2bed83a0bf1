//! Makes recorded decisions again, and compares the results with the recorded ones.

use super::changes::differences;
use super::read::apply_changes;
use super::{Decided, FieldDifference, Performed, Record, RecordBody};
use crate::decide::{Decision, apply_outcomes, decide};
use crate::journal::JournalEntry;
use crate::target::TargetState;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// All records, replayed: target by target, in the order of the decisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Each record with its replayed result.
    pub records: Vec<ReplayedRecord>,
}

/// One record and its replayed result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayedRecord {
    /// The record as it was read.
    pub record: Record,
    /// What is missing before this record, or of it.
    pub gap: Option<Gap>,
    /// The replayed result; none: too little was recorded to decide on.
    pub now: Option<Recomputed>,
    /// Where the replayed result differs from the recorded one. Each record is replayed from its own recorded inputs,
    /// so that a difference in one causes none in another.
    pub differences: Vec<FieldDifference>,
    /// Fields that only this version remembers, where nothing else differs.
    pub new_fields: Vec<FieldDifference>,
    /// The decision has effects but no recorded outcomes: the pass ended there.
    pub interrupted: bool,
    /// Another pass decided on the same revision: only one of the two decisions was committed.
    pub concurrent: bool,
}

/// A replayed result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recomputed {
    /// Of [`decide`](crate::decide()).
    Decision(Box<Decision>),
    /// Of [`apply_outcomes`](crate::apply_outcomes()): the state, and the journal entries.
    Outcomes(Box<TargetState>, Vec<JournalEntry>),
}

/// Something missing from the recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "gap", rename_all = "snake_case")]
pub enum Gap {
    /// Decisions that wrote these journal entries.
    Decisions {
        /// Sequence number of the first missing entry.
        from: u64,
        /// Sequence number of the last missing entry.
        to: u64,
    },
    /// The decision whose effects have outcomes recorded.
    MissingDecision,
    /// The record was too long to be written.
    TooLong {
        /// Length of the record.
        bytes: u64,
    },
    /// Some lines of a record that was written in parts are missing.
    Incomplete {
        /// Number of parts found.
        found: usize,
        /// Number of parts written.
        all: usize,
    },
    /// The recorded changes cannot be applied to the recorded state.
    Inconsistent {
        /// Names the path that does not fit.
        reason: String,
    },
}

impl ReplayedRecord {
    /// Whether the replayed decision acts differently, and does not merely word something differently: other effects,
    /// another stage, another wake, another verdict, or other commands consumed.
    #[must_use]
    pub fn acts_differently(&self) -> bool {
        self.differences.iter().any(|difference| {
            let field = difference.field.as_str();
            let under =
                |root: &str| field.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            ACTION_FIELDS.iter().any(|root| under(root)) || field.starts_with("history/") && field.ends_with("/verdict")
        })
    }
}

/// Fields (with everything below them) in which a difference means another action.
const ACTION_FIELDS: [&str; 10] = [
    "effects",
    "next",
    "consumed",
    "state/running/number",
    "state/running/phase/phase",
    "state/running/phase/at/stage",
    "state/running/phase/at/step/step",
    "state/running/phase/at/step/index",
    "state/running/phase/weights",
    "state/outbox",
];

impl Replay {
    /// Records whose replayed result differs, the first one first.
    pub fn different(&self) -> impl Iterator<Item = &ReplayedRecord> {
        self.records.iter().filter(|replayed| !replayed.differences.is_empty())
    }

    /// The fields that this version remembers and the recorded one did not know of. Later decisions were recorded
    /// without them, so that their effect on later decisions cannot be replayed.
    #[must_use]
    pub fn new_fields(&self) -> BTreeSet<&str> {
        self.records.iter().flat_map(|replayed| &replayed.new_fields).map(|it| it.field.as_str()).collect()
    }

    /// Records with something missing before them, or of them.
    pub fn gaps(&self) -> impl Iterator<Item = (&ReplayedRecord, &Gap)> {
        self.records.iter().filter_map(|replayed| Some((replayed, replayed.gap.as_ref()?)))
    }
}

/// Replays all records. Duplicates (of a log that was fetched in overlapping pieces) count once.
#[must_use]
pub fn replay(mut records: Vec<Record>) -> Replay {
    let rank = |body: &RecordBody| match body {
        // Outcomes are recorded on the revision that their decision created, and precede the next decision on it.
        RecordBody::Performed(_) => 0,
        _ => 1,
    };
    records.sort_by(|a, b| {
        let by = |record: &Record| (record.revision, rank(&record.body), record.at);
        a.target.cmp(&b.target).then_with(|| by(a).cmp(&by(b)))
    });
    records.dedup();
    let mut replayed: Vec<ReplayedRecord> = Vec::with_capacity(records.len());
    let mut journal = JournalProgress::default();
    for record in records {
        if replayed.last().is_some_and(|last| last.record.target != record.target) {
            journal = JournalProgress::default();
        }
        let (now, differences, mut gap) = match &record.body {
            RecordBody::Decided(decided) => {
                let (now, differences) = redecide(decided, &record);
                (Some(now), differences, journal.gap_before(decided.state.last_entry))
            }
            RecordBody::Performed(performed) => match decision_of(&replayed, &record) {
                Some(decided) => reapply_outcomes(performed, &decided.decision.state, &record),
                // At the beginning of the recording, the missing decision is not a gap.
                None => (None, Vec::new(), journal.begun.then_some(Gap::MissingDecision)),
            },
            RecordBody::TooLong(bytes) => (None, Vec::new(), Some(Gap::TooLong { bytes: *bytes })),
            RecordBody::Incomplete { found, all } => {
                (None, Vec::new(), Some(Gap::Incomplete { found: *found, all: *all }))
            }
        };
        let advance = match &record.body {
            RecordBody::Decided(decided) => Some(decided.decision.state.last_entry),
            RecordBody::Performed(performed) => performed.journal.last().map(|entry| entry.sequence),
            // The missing decision may have written journal entries: report one gap, not two.
            RecordBody::TooLong(_) | RecordBody::Incomplete { .. } => {
                journal.reached = None;
                None
            }
        };
        if gap == Some(Gap::MissingDecision)
            && replayed.last().is_some_and(|last| last.gap.is_some() && last.now.is_none())
        {
            // Already reported by the record before.
            gap = None;
        }
        journal.advance(record.revision, advance);
        let new =
            |difference: &FieldDifference| difference.recorded.is_none() && difference.field.starts_with("state/");
        let only_new = differences.iter().all(new);
        let (differences, new_fields) = if only_new { (vec![], differences) } else { (differences, vec![]) };
        replayed.push(ReplayedRecord {
            record,
            gap,
            now,
            differences,
            new_fields,
            interrupted: false,
            concurrent: false,
        });
    }
    mark_interrupted(&mut replayed);
    mark_concurrent(&mut replayed);
    Replay { records: replayed }
}

/// How far the journal of one target is covered by the records so far.
#[derive(Default)]
struct JournalProgress {
    begun: bool,
    revision: u64,
    reached: Option<u64>,
}

impl JournalProgress {
    /// Sequence numbers have no gaps: missing journal entries were written by decisions whose records are missing.
    fn gap_before(&self, last_entry: u64) -> Option<Gap> {
        let reached = self.reached.filter(|reached| *reached < last_entry)?;
        Some(Gap::Decisions { from: reached + 1, to: last_entry })
    }

    /// Of two decisions on one revision only one was committed, and either may be the committed one.
    fn advance(&mut self, revision: u64, last_entry: Option<u64>) {
        self.begun = true;
        let Some(last_entry) = last_entry else { return };
        let same = self.reached.filter(|_| self.revision == revision).unwrap_or(0);
        *self = Self { begun: true, revision, reached: Some(last_entry.max(same)) };
    }
}

/// The decision whose effects were performed.
fn decision_of<'a>(replayed: &'a [ReplayedRecord], of: &Record) -> Option<&'a Decided> {
    let same_target = replayed.iter().rev().take_while(|before| before.record.target == of.target);
    let mut same_pass = same_target.filter(|before| before.record.pass == of.pass);
    same_pass.find_map(|before| match &before.record.body {
        RecordBody::Decided(decided) if before.record.revision.checked_add(1) == Some(of.revision) => Some(&**decided),
        _ => None,
    })
}

fn mark_interrupted(replayed: &mut [ReplayedRecord]) {
    for index in 0..replayed.len() {
        let ReplayedRecord { record, .. } = &replayed[index];
        let RecordBody::Decided(decided) = &record.body else { continue };
        let acts = !decided.decision.effects.is_empty() && decided.state.running.is_some();
        let follows = |later: &ReplayedRecord| {
            later.record.pass == record.pass
                && later.record.target == record.target
                && Some(later.record.revision) == record.revision.checked_add(1)
                && !matches!(later.record.body, RecordBody::Decided(_))
        };
        replayed[index].interrupted = acts && !replayed[index + 1..].iter().take(64).any(follows);
    }
}

fn mark_concurrent(replayed: &mut [ReplayedRecord]) {
    for index in 1..replayed.len() {
        let [before, after] = [index - 1, index].map(|index| &replayed[index].record);
        let decides = |record: &Record| matches!(record.body, RecordBody::Decided(_));
        let one_state = before.target == after.target && before.revision == after.revision;
        if one_state && before.pass != after.pass && decides(before) && decides(after) {
            replayed[index - 1].concurrent = true;
            replayed[index].concurrent = true;
        }
    }
}

fn redecide(decided: &Decided, record: &Record) -> (Recomputed, Vec<FieldDifference>) {
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
        differences_by_part(&parts(&decided.decision), &parts(&now))
    };
    (Recomputed::Decision(Box::new(now)), differences)
}

fn reapply_outcomes(
    performed: &Performed,
    before: &TargetState,
    record: &Record,
) -> (Option<Recomputed>, Vec<FieldDifference>, Option<Gap>) {
    let recorded = match apply_changes(before, &performed.changes) {
        Ok(state) => state,
        Err(reason) => return (None, Vec::new(), Some(Gap::Inconsistent { reason })),
    };
    let (state, journal) = apply_outcomes(before, &performed.outcomes, record.at);
    let parts = |state: &TargetState, journal: &[JournalEntry]| [("journal", json!(journal)), ("state", json!(state))];
    let differences = if state == recorded && journal == performed.journal {
        Vec::new()
    } else {
        differences_by_part(&parts(&recorded, &performed.journal), &parts(&state, &journal))
    };
    (Some(Recomputed::Outcomes(Box::new(state), journal)), differences, None)
}

fn differences_by_part(recorded: &[(&str, Value)], now: &[(&str, Value)]) -> Vec<FieldDifference> {
    recorded.iter().zip(now).flat_map(|((field, recorded), (_, now))| differences(field, recorded, now)).collect()
}
