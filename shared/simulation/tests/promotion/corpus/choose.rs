//! Records the corpus: lives through days, takes the lives of their targets apart, and keeps what reaches most for its size.

use super::{
    Head, Inputs, Outcomes, Sequence, Step, folder, given_by, given_by_outcomes, live, scripted, sequences, value,
};
use crate::random;
use rollout::recording::{Decided, Performed, Record, RecordBody, read};
use rollout::target::TargetState;
use rollout::{TargetId, apply_outcomes};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Days that are lived through, from the first seed on.
const DAYS: u64 = 600;
/// Decisions of one revision lie as close together as this.
const NEAR: usize = 24;

/// States without what passes set beside decisions.
fn comparable(state: &TargetState) -> TargetState {
    let mut state = state.clone();
    state.wake_at = None;
    state.outbox.clear();
    if let Some(running) = &mut state.running {
        running.queue_position = None;
    }
    state
}

/// The last value of its kind: the next one is written as a patch on it.
#[derive(Default)]
struct Previous(Value);

impl Previous {
    fn next(&mut self, now: Option<Value>) -> Option<json_patch::Patch> {
        let now = now?;
        let patch = json_patch::diff(&self.0, &now);
        self.0 = now;
        Some(patch)
    }
}

/// What became of the effects of a decision, if it is recorded.
fn outcomes_of<'r>(records: &'r [&Record], index: usize) -> Option<(&'r Record, &'r Performed)> {
    let record = records[index];
    records[index + 1..].iter().take(NEAR).find_map(|later| match &later.body {
        RecordBody::Performed(performed) if later.pass == record.pass && later.revision == record.revision + 1 => {
            Some((*later, performed))
        }
        _ => None,
    })
}

/// One target's life, as far as it can be followed.
fn sequence(target: &TargetId, from: &str, records: &[&Record]) -> Sequence {
    let head = Head { target: target.clone(), from: from.to_owned() };
    let mut steps = Vec::new();
    let mut state = TargetState::new(target.clone());
    let (mut policy, mut gate_context, mut snapshot) = (Previous::default(), Previous::default(), Previous::default());
    let decided = |index: usize| match &records[index].body {
        RecordBody::Decided(decided) => Some(&**decided),
        _ => None,
    };
    // Whether somebody has decided on this later.
    let leads_on = |index: usize, after: &TargetState| {
        let wanted = comparable(after);
        (index + 1..records.len()).filter_map(decided).take(NEAR).any(|later| comparable(&later.state) == wanted)
    };
    for index in 0..records.len() {
        let Some(now) = decided(index) else { continue };
        if comparable(&now.state) != comparable(&state) {
            continue;
        }
        let performed = outcomes_of(records, index);
        let became = performed.map(|(record, performed)| {
            (record.at, apply_outcomes(&now.decision.state, &performed.outcomes, record.at), &performed.outcomes)
        });
        // A pass may have died before it wrote down what became of its effects, or somebody else was faster.
        let absorbed = became.filter(|(_, (after, _), _)| leads_on(index, after));
        if absorbed.is_none() && !leads_on(index, &now.decision.state) {
            continue;
        }
        steps.extend(between(&state, &now.state));
        let Decided { commands, policy: applied, gate_context: known, snapshot: seen, decision, .. } = now;
        steps.push(Step::Decide {
            decide: Inputs {
                at: records[index].at,
                commands: commands.iter().map(value).collect(),
                policy: policy.next(applied.as_ref().map(value)),
                gate_context: gate_context.next(known.as_ref().map(value)),
                snapshot: snapshot.next(seen.as_ref().map(value)),
            },
            gives: given_by(decision),
        });
        state = match absorbed {
            Some((at, (after, journal), outcomes)) => {
                let outcomes = outcomes.iter().map(|(_, outcome)| value(outcome)).collect();
                steps.push(Step::Absorb {
                    apply_outcomes: Outcomes { at, outcomes },
                    gives: given_by_outcomes(&journal),
                });
                after
            }
            None => decision.state.clone(),
        };
    }
    Sequence { head, steps }
}

/// What the pass before has done to the state that no decision has.
fn between(before: &TargetState, now: &TargetState) -> Vec<Step> {
    let position = |state: &TargetState| state.running.as_ref().and_then(|running| running.queue_position);
    let mut steps = Vec::new();
    if let Some(new) = position(now).filter(|new| position(before).as_ref() != Some(new)) {
        steps.push(Step::QueuePosition { queue_position: value(&new) });
    }
    if now.outbox.is_empty() && !before.outbox.is_empty() {
        steps.push(Step::Published { published: true });
    }
    steps
}

/// What a sequence reaches, step by step: each kind of thing, and facts, commands, outcomes and verdicts in each stage.
fn reached(sequence: &Sequence) -> Vec<BTreeSet<String>> {
    let mut stage = "rest".to_owned();
    let mut all = Vec::new();
    for step in &sequence.steps {
        let mut kinds = BTreeSet::new();
        match step {
            Step::Decide { decide, gives } => {
                for command in &decide.commands {
                    kinds.insert(format!("command {}", text(command.pointer("/instruction/do"))));
                }
                for effect in list(gives, "effects") {
                    kinds.insert(format!("effect {}", text(effect.get("effect"))));
                }
                for wait in list(gives, "waits") {
                    kinds.insert(format!("wait {} {}", text(wait.get("for")), text(wait.get("gate"))));
                }
                for ended in list(gives, "history") {
                    kinds.insert(format!("verdict {}", text(ended.get(1))));
                }
                facts_of(gives, &mut kinds, &mut stage);
            }
            Step::Absorb { apply_outcomes, gives } => {
                for outcome in &apply_outcomes.outcomes {
                    kinds.insert(format!("outcome {}", text(outcome.get("outcome"))));
                }
                facts_of(gives, &mut kinds, &mut stage);
            }
            Step::QueuePosition { .. } => drop(kinds.insert("queue position".to_owned())),
            Step::Published { .. } => drop(kinds.insert("published".to_owned())),
        }
        let telling =
            |kind: &&String| ["fact ", "command ", "outcome ", "verdict "].iter().any(|of| kind.starts_with(of));
        let with_stage: Vec<String> = kinds.iter().filter(telling).map(|kind| format!("{kind} in {stage}")).collect();
        kinds.extend(with_stage);
        all.push(kinds);
    }
    all
}

fn list<'v>(gives: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    gives[key].as_array().into_iter().flatten()
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or("")
}

fn facts_of(gives: &Value, kinds: &mut BTreeSet<String>, stage: &mut String) {
    for entry in list(gives, "facts") {
        let fact = &entry["fact"];
        let name = text(fact.get("fact"));
        kinds.insert(format!("fact {name}"));
        for key in ["cause", "gate", "verdict", "command"] {
            let found = fact.pointer(&format!("/{key}/cause")).or_else(|| fact.get(key));
            if let Some(found) = found.and_then(Value::as_str) {
                kinds.insert(format!("{key} {found} of {name}"));
            }
        }
        match name {
            "stage_entered" => {
                let next = text(fact.get("stage")).to_owned();
                kinds.insert(format!("from {stage} to {next}"));
                *stage = next;
            }
            "ended" => "rest".clone_into(stage),
            _ => {}
        }
    }
}

fn line(step: &impl serde::Serialize) -> String {
    serde_json::to_string(step).expect("plain data")
}

fn written(sequence: &Sequence) -> String {
    let mut text = line(&sequence.head) + "\n";
    for step in &sequence.steps {
        let _infallible = writeln!(text, "{}", line(step));
    }
    text
}

/// The lives of a day's targets.
fn lives(from: &str, lines: &[String]) -> Vec<Sequence> {
    let recording = read(&lines.join("\n")).unwrap_or_else(|wrong| panic!("{from}: {wrong}"));
    let mut by_target: BTreeMap<&TargetId, Vec<&Record>> = BTreeMap::new();
    for record in &recording.records {
        by_target.entry(&record.target).or_default().push(record);
    }
    by_target
        .into_iter()
        .map(|(target, mut records)| {
            records
                .sort_by_key(|record| (record.revision, !matches!(record.body, RecordBody::Performed(_)), record.at));
            sequence(target, from, &records)
        })
        .collect()
}

/// The first steps of a sequence, up to the last one that reaches something new.
fn worth(sequence: &Sequence, have: &BTreeSet<String>) -> (usize, BTreeSet<String>) {
    let mut new = BTreeSet::new();
    let mut until = 0;
    for (index, kinds) in reached(sequence).into_iter().enumerate() {
        let before = new.len();
        new.extend(kinds.into_iter().filter(|kind| !have.contains(kind)));
        if new.len() > before {
            until = index + 1;
        }
    }
    (until, new)
}

#[test]
#[ignore = "writes the corpus anew: only where it is decided otherwise on purpose"]
fn records_the_corpus() {
    let kept = best_of(all_lives(), BTreeSet::new());
    for entry in std::fs::read_dir(folder()).expect("the corpus") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            std::fs::remove_file(path).expect("it is ours");
        }
    }
    write_from(0, &kept);
}

/// For what the core has learnt since, once it is scripted: what was recorded stays as it is.
#[test]
#[ignore = "adds scripted sequences that reach what no sequence does"]
fn adds_to_the_corpus() {
    let known = sequences();
    let have = known.values().flat_map(reached).flatten().collect();
    write_from(known.len(), &best_of(scripted_lives(), have));
}

/// The corpus left out why a command was refused. Everything else stays as it was recorded.
#[test]
#[ignore = "writes why commands were refused into the corpus"]
fn records_why_commands_were_refused() {
    for (name, mut sequence) in sequences() {
        let mut given = BTreeMap::new();
        live(&name, &sequence, |now, _, line| drop(given.insert(line, now.clone())));
        for (index, step) in sequence.steps.iter_mut().enumerate() {
            if let (Step::Decide { gives, .. } | Step::Absorb { gives, .. }, Some(now)) =
                (step, given.remove(&(index + 2)))
            {
                *gives = with_reasons(gives, &now);
            }
        }
        std::fs::write(folder().join(format!("{name}.jsonl")), written(&sequence)).expect("it can be written");
    }
}

/// What was recorded, with the reasons of refusals as they are now.
fn with_reasons(recorded: &Value, now: &Value) -> Value {
    match (recorded, now) {
        (Value::String(left_out), Value::Object(reason)) if left_out == "…" && reason.contains_key("why") => {
            now.clone()
        }
        (Value::Array(recorded), Value::Array(now)) if recorded.len() == now.len() => {
            recorded.iter().zip(now).map(|(recorded, now)| with_reasons(recorded, now)).collect()
        }
        (Value::Object(recorded), Value::Object(now)) => {
            let kept = |(key, value): (&String, &Value)| {
                (key.clone(), now.get(key).map_or_else(|| value.clone(), |now| with_reasons(value, now)))
            };
            recorded.iter().map(kept).collect()
        }
        _ => recorded.clone(),
    }
}

fn scripted_lives() -> Vec<Sequence> {
    scripted::all().iter().flat_map(|(from, lines)| lives(from, lines)).collect()
}

fn all_lives() -> Vec<Sequence> {
    let mut all = scripted_lives();
    all.extend((0..DAYS).flat_map(|seed| lives(&format!("day {seed}"), &random::recorded(seed))));
    all
}

/// The sequences that reach most beyond `have` for their size, until nothing new is left.
fn best_of(mut all: Vec<Sequence>, mut have: BTreeSet<String>) -> Vec<Sequence> {
    let mut kept = Vec::new();
    loop {
        // Most that is new, for every step that it takes.
        let value = |(steps, new): &(usize, BTreeSet<String>)| new.len() as f64 / (*steps as f64 + 20.0);
        let valued = all.iter().map(|sequence| worth(sequence, &have)).enumerate();
        let best = valued.max_by(|(_, a), (_, b)| value(a).total_cmp(&value(b)));
        let Some((index, (steps, new))) = best.filter(|(_, (_, new))| !new.is_empty()) else { break };
        let mut sequence = all.swap_remove(index);
        sequence.steps.truncate(steps);
        have.extend(new);
        kept.push(sequence);
    }
    kept
}

fn write_from(first: usize, kept: &[Sequence]) {
    for (number, sequence) in kept.iter().enumerate() {
        let file = folder().join(format!("{:03}.jsonl", first + number));
        std::fs::write(file, written(sequence)).expect("it can be written");
    }
    println!("{}", json!({"sequences": kept.len()}));
}
