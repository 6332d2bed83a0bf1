//! What the core has decided is what it decides: a corpus of input sequences, with what came of each step.
//!
//! A sequence is one target's life in a simulated day, as its passes had it: what was asked, applied, known beyond the target
//! and seen, and when; what became of effects; and what came of it outside of the state: effects, facts, what is waited for,
//! verdicts, the next look. States are not in it, so that they may change their shape. Sentences are not either: strings with
//! a space in them are left out of what is compared.
//!
//! Names that have changed since a sequence was recorded are in `renames.txt`. `cargo test -p simulation --test promotion --
//! --ignored corpus::choose::records_the_corpus` records the corpus anew: after a change of what is decided, and never to
//! silence a difference that nobody can explain. `…::adds_to_the_corpus` leaves what there is, and adds what it does not reach.
//!
//! Each line of a sequence is a JSON object:
//!
//! | line | what it is |
//! |---|---|
//! | `{"target", "from"}` | the first one: whose life it is, and where it was recorded |
//! | `{"decide": {"at", "commands", "policy", "gate_context", "snapshot"}, "gives"}` | a decision; the last three as JSON patches (RFC 6902) on the ones before, or absent where there was none |
//! | `{"apply_outcomes": {"at", "outcomes"}, "gives"}` | what became of the effects of the decision before, in their order |
//! | `{"queue_position": …}` | the running deployment's position in the queue before the API budgets |
//! | `{"published": true}` | the messages in the outbox were sent to other targets |

mod choose;
mod scripted;

use rollout::policy::AppliedTarget;
use rollout::promotion::GateContext;
use rollout::snapshot::Snapshot;
use rollout::target::TargetState;
use rollout::{Command, Effect, Inbox, JournalEntry, Outcome, TargetId, Timestamp, apply_outcomes, decide};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The first line of a sequence.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Head {
    target: TargetId,
    from: String,
}

/// A line after the first one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Step {
    Decide { decide: Inputs, gives: Value },
    Absorb { apply_outcomes: Outcomes, gives: Value },
    QueuePosition { queue_position: Value },
    Published { published: bool },
}

/// What a decision is made on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Inputs {
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    commands: Vec<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy: Option<json_patch::Patch>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gate_context: Option<json_patch::Patch>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    snapshot: Option<json_patch::Patch>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Outcomes {
    at: Timestamp,
    outcomes: Vec<Value>,
}

/// A sequence, read or to be written.
#[derive(Debug, Clone)]
struct Sequence {
    head: Head,
    steps: Vec<Step>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/promotion/corpus")
}

/// Every sequence, by the name of its file.
fn sequences() -> BTreeMap<String, Sequence> {
    let renames = std::fs::read_to_string(folder().join("renames.txt")).expect("the table of renames");
    let renames = Renames::read(&renames);
    let files = std::fs::read_dir(folder()).expect("the corpus").map(|entry| entry.expect("an entry").path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files
        .map(|path| {
            let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let text = std::fs::read_to_string(&path).expect("a sequence");
            let mut lines = text.lines().enumerate().map(|(number, line)| {
                let mut value: Value = serde_json::from_str(line)
                    .unwrap_or_else(|error| panic!("{}, line {}: {error}", path.display(), number + 1));
                renames.apply(&mut value);
                (number + 1, value)
            });
            let head = lines.next().expect("a first line").1;
            let head = serde_json::from_value(head).expect("a target and where it is from");
            let step = |(number, line)| {
                serde_json::from_value(line)
                    .unwrap_or_else(|error| panic!("{}, line {number}: {error}", path.display()))
            };
            (name, Sequence { head, steps: lines.map(step).collect() })
        })
        .collect()
}

/// Names that have changed: `OLD NEW` a line. A key of an object, and a value that is such a name.
#[derive(Debug, Default)]
struct Renames(BTreeMap<String, String>);

impl Renames {
    fn read(text: &str) -> Self {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let pair = |line: &str| {
            let (old, new) = line.split_once(' ').unwrap_or_else(|| panic!("no `OLD NEW`: {line}"));
            (old.to_owned(), new.trim().to_owned())
        };
        Self(lines.map(pair).collect())
    }

    fn new_name(&self, text: &str) -> Option<String> {
        if let Some(new) = self.0.get(text) {
            return Some(new.clone());
        }
        // The paths of a patch name keys, too.
        if !text.starts_with('/') || text.contains(' ') {
            return None;
        }
        let parts: Vec<&str> = text.split('/').map(|part| self.0.get(part).map_or(part, String::as_str)).collect();
        let path = parts.join("/");
        (path != text).then_some(path)
    }

    fn apply(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Some(new) = self.new_name(text) {
                    *text = new;
                }
            }
            Value::Array(all) => all.iter_mut().for_each(|value| self.apply(value)),
            Value::Object(fields) => {
                for (key, mut value) in std::mem::take(fields) {
                    self.apply(&mut value);
                    fields.insert(self.0.get(&key).cloned().unwrap_or(key), value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Without what is only said: sentences, and fields that are empty.
fn without_words(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains(' ') => Value::from("…"),
        Value::Array(all) => all.into_iter().map(without_words).collect(),
        // Of why a command was refused the reason's name: the rest is what its sentence says.
        Value::Object(fields) if fields.contains_key("why") => json!({"why": fields["why"]}),
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            kept.map(|(key, value)| (key, without_words(value))).collect()
        }
        other => other,
    }
}

fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).expect("plain data")
}

fn typed<T: DeserializeOwned>(value: &Value, at: &str) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{at}: {error}: {value:#}"))
}

/// Facts, each with the deployment that it is about and who caused it.
fn facts(journal: &[JournalEntry]) -> Value {
    let line = |entry: &JournalEntry| json!({"deployment": entry.deployment, "actor": entry.actor, "fact": entry.fact});
    journal.iter().map(line).collect()
}

/// What came of a decision, outside of the state.
fn given_by(decision: &rollout::Decision) -> Value {
    let ended = |record: &rollout::deployment::DeploymentRecord| json!([record.number, record.verdict]);
    without_words(json!({
        "effects": decision.effects,
        "facts": facts(&decision.journal),
        "waits": decision.state.explanation.waiting_on,
        "history": decision.history.iter().map(ended).collect::<Vec<_>>(),
        "consumed": decision.consumed,
        "next": decision.next,
    }))
}

/// What came of effects' outcomes.
fn given_by_outcomes(journal: &[JournalEntry]) -> Value {
    without_words(json!({"facts": facts(journal)}))
}

/// Values of which each is recorded as what changed since the one before.
#[derive(Debug, Default)]
struct Last(Value);

impl Last {
    fn next<T: DeserializeOwned>(&mut self, patch: Option<&json_patch::Patch>, at: &str) -> Option<T> {
        let patch = patch?;
        json_patch::patch(&mut self.0, patch).unwrap_or_else(|error| panic!("{at}: {error}"));
        Some(typed(&self.0, at))
    }
}

/// The plans of a recording, as they are called now: a plan's name is a hash of how it is serialised.
#[derive(Debug, Default)]
struct Plans(BTreeMap<String, String>);

impl Plans {
    /// Learns the names of plans that both have at the same path.
    fn learn(&mut self, recorded: &Value, now: &Value) {
        match (recorded, now) {
            (Value::Object(recorded), Value::Object(now)) => {
                for (key, old) in recorded {
                    match (old, now.get(key)) {
                        (Value::String(old), Some(Value::String(new))) if key == "plan" => {
                            self.0.insert(old.clone(), new.clone());
                        }
                        (old, Some(new)) => self.learn(old, new),
                        (_, None) => {}
                    }
                }
            }
            (Value::Array(recorded), Value::Array(now)) => {
                recorded.iter().zip(now).for_each(|(old, new)| self.learn(old, new));
            }
            _ => {}
        }
    }

    fn renamed(&self, value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let renamed = |(key, value): (&String, &Value)| match value.as_str().and_then(|old| self.0.get(old)) {
                    Some(new) if key == "plan" => (key.clone(), json!(new)),
                    _ => (key.clone(), self.renamed(value)),
                };
                Value::Object(fields.iter().map(renamed).collect())
            }
            Value::Array(values) => Value::Array(values.iter().map(|value| self.renamed(value)).collect()),
            other => other.clone(),
        }
    }
}

/// Lives through a sequence, and calls for each step what came of it, what had, and the line.
fn live(name: &str, sequence: &Sequence, mut compare: impl FnMut(&Value, &Value, usize)) {
    let mut state = TargetState::new(sequence.head.target.clone());
    let (mut policy, mut gate_context, mut snapshot) = (Last::default(), Last::default(), Last::default());
    let mut effects: Vec<Effect> = Vec::new();
    let mut plans = Plans::default();
    for (index, step) in sequence.steps.iter().enumerate() {
        let at = format!("{name}, line {}", index + 2);
        match step {
            Step::Decide { decide: inputs, gives } => {
                let commands: Vec<Command> =
                    inputs.commands.iter().map(|command| typed(&plans.renamed(command), &at)).collect();
                let policy: Option<AppliedTarget> = policy.next(inputs.policy.as_ref(), &at);
                let gate_context: Option<GateContext> = gate_context.next(inputs.gate_context.as_ref(), &at);
                let snapshot: Option<Snapshot> = snapshot.next(inputs.snapshot.as_ref(), &at);
                let inbox = Inbox { commands: &commands, policy: policy.as_ref(), gate_context: gate_context.as_ref() };
                let decision = decide(&state, &inbox, snapshot.as_ref(), inputs.at);
                let now = given_by(&decision);
                plans.learn(gives, &now);
                compare(&now, &plans.renamed(gives), index + 2);
                effects = decision.effects;
                state = decision.state;
            }
            Step::Absorb { apply_outcomes: outcomes, gives } => {
                let became: Vec<(Effect, Outcome)> = effects
                    .drain(..)
                    .zip(&outcomes.outcomes)
                    .map(|(effect, outcome)| (effect, typed(outcome, &at)))
                    .collect();
                let (after, journal) = apply_outcomes(&state, &became, outcomes.at);
                compare(&given_by_outcomes(&journal), gives, index + 2);
                state = after;
            }
            Step::QueuePosition { queue_position } => {
                let running = state.running.as_mut().unwrap_or_else(|| panic!("{at}: nothing runs"));
                running.queue_position = Some(typed(queue_position, &at));
            }
            Step::Published { published: _ } => state.outbox.clear(),
        }
    }
}

#[test]
fn the_core_decides_as_it_has_decided() {
    let all = sequences();
    assert!(!all.is_empty(), "there is a corpus");
    let mut steps = 0;
    for (name, sequence) in &all {
        live(name, sequence, |now, recorded, line| {
            steps += 1;
            if now != recorded {
                let differences = json_patch::diff(recorded, now);
                panic!(
                    "{name}.jsonl ({}), line {line}, from what was recorded to what is decided now: {:#}",
                    sequence.head.from,
                    value(&differences),
                );
            }
        });
    }
    assert!(steps > 2_000, "{steps} steps prove little");
}

/// What the corpus has to reach, beside each thing that a policy can ask for.
const REACHES: [(&str, &[&str]); 4] = [
    (
        "command",
        &[
            "deploy",
            "abort",
            "rollback",
            "approve",
            "reject",
            "override",
            "resume",
            "stop_train",
            "name_release",
            "note_refusal",
        ],
    ),
    (
        "cause",
        &[
            "alarm",
            "hook",
            "tasks",
            "unhealthy",
            "deadline",
            "refused",
            "aborted",
            "asked",
            "external_rollback",
            "train",
            "superseded",
        ],
    ),
    ("gate", &["image", "after", "soak", "train", "approval", "window", "freeze", "stop_the_line", "asleep"]),
    ("verdict", &["succeeded", "rolled_back", "rejected", "superseded", "cancelled", "expired", "failed"]),
];
const STAGES: [&str; 13] = [
    "gated",
    "preflight",
    "registering",
    "before_traffic",
    "scaling",
    "testing",
    "shifting",
    "after_traffic",
    "baking",
    "keeping_warm",
    "retiring",
    "rolling_back",
    "abandoning",
];

#[test]
fn the_corpus_reaches_every_stage_cause_gate_command_and_verdict() {
    let all: String =
        sequences().values().flat_map(|sequence| &sequence.steps).map(|step| value(step).to_string()).collect();
    let renames = std::fs::read_to_string(folder().join("renames.txt")).expect("the table of renames");
    let renames = Renames::read(&renames);
    let now = |name: &str| renames.0.get(name).cloned().unwrap_or_else(|| name.to_owned());
    for stage in STAGES {
        assert!(all.contains(&format!("\"stage\":\"{}\"", now(stage))), "no sequence enters {stage}");
    }
    for (kind, names) in REACHES {
        for name in names {
            let name = now(name);
            let found = match kind {
                "command" => all.contains(&format!("\"do\":\"{name}\"")),
                "verdict" => all.contains(&format!("\"verdict\":\"{name}\"")),
                _ => all.contains(&format!("\"{kind}\":\"{name}\"")),
            };
            assert!(found, "no sequence has the {kind} {name}");
        }
    }
}
