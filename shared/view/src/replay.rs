//! Replayed decisions: each decision in a line, and the first difference field by field.

use crate::evidence::evidence;
use crate::history::entry;
use crate::journal::{Tone, capitalised, stage_words, traffic_split};
use crate::layout::{hanging_indent, truncate, wrap};
use crate::paint::Paint;
use crate::people::{names, with_short_names};
use crate::time_format::{instant, time_of_day};
use crate::waiting::waiting;
use jiff::Timestamp;
use rollout::decide::{Decision, Next};
use rollout::recording::{Decided, FieldDifference, Gap, Performed, Recomputed, RecordBody, Replay, ReplayedRecord};
use rollout::snapshot::AlarmReading;
use rollout::target::TargetState;
use rollout::{Effect, Fact, JournalEntry, Outcome, Reading, Slot, Snapshot};
use std::collections::BTreeSet;

/// Maximum number of differing fields shown.
const MAX_FIELDS: usize = 12;
/// Maximum number of gaps shown.
const MAX_GAPS: usize = 12;
/// Maximum length of a value shown, in characters.
const MAX_VALUE_CHARS: usize = 160;

/// All records by target and deployment: when, what happened, and what the deployment waits for; with `with_seen` also
/// what was observed before each decision.
#[must_use]
pub fn decisions(replay: &Replay, with_seen: bool, paint: Paint) -> String {
    let mut text = String::new();
    let (mut current, mut day) = (None, String::new());
    for rerun in &replay.records {
        let record = &rerun.record;
        let key = Some((record.target.clone(), record.deployment));
        if current != key {
            let gap = if current.is_some() { "\n" } else { "" };
            text.push_str(&format!("{gap}{}\n", heading(rerun, paint)));
            (current, day) = (key, String::new());
        }
        let today: String = instant(record.at).chars().take(10).collect();
        if today != day {
            text.push_str(&format!("{}\n", paint.faint(&format!("{today} (UTC)"))));
            day = today;
        }
        text.push_str(&lines(rerun, with_seen, paint));
    }
    text
}

/// `shop/api/prod  #12 of v2`
fn heading(rerun: &ReplayedRecord, paint: Paint) -> String {
    let record = &rerun.record;
    let target = paint.strong(&record.target.to_string());
    let state = match &record.body {
        RecordBody::Decided(decided) => decided.decision.state.running.as_ref().or(decided.state.running.as_ref()),
        _ => None,
    };
    match (record.deployment, state) {
        (Some(number), Some(running)) => format!("{target}  #{number} of {}", running.release.tag),
        (Some(number), None) => format!("{target}  #{number}"),
        (None, _) => format!("{target}  nothing runs"),
    }
}

/// One record: its time, and a sentence for each fact, effect or wait.
fn lines(rerun: &ReplayedRecord, with_seen: bool, paint: Paint) -> String {
    let at = rerun.record.at;
    let head = |mark: String| format!("{}  {mark} ", paint.faint(&time_of_day(at)));
    let say = |tone: Tone, words: &str| {
        format!("{}\n", hanging_indent(&head(paint.mark(tone)), 12, &with_short_names(words)))
    };
    let mut text = rerun.gap.as_ref().map_or_else(String::new, |gap| say(Tone::Warning, &gap_words(gap)));
    if let RecordBody::Decided(decided) = &rerun.record.body
        && let Some(snapshot) = decided.snapshot.as_ref().filter(|_| with_seen)
    {
        text.push_str(&say(Tone::Plain, &format!("seen: {}", observations(snapshot).join("; "))));
    }
    text.push_str(&match &rerun.record.body {
        RecordBody::Decided(decided) => decision_lines(decided, at, paint, &say),
        RecordBody::Performed(performed) => outcome_lines(performed, paint, &say),
        RecordBody::TooLong(_) | RecordBody::Incomplete { .. } => String::new(),
    });
    if rerun.concurrent {
        let words = "another pass decided on the same state: only one of the two decisions was written down";
        text.push_str(&say(Tone::Warning, words));
    } else if rerun.interrupted {
        text.push_str(&say(Tone::Warning, "what became of that is not recorded: the pass ended there"));
    }
    if !rerun.differences.is_empty() {
        text.push_str(&format!(
            "{}\n",
            hanging_indent(&head(paint.tone(Tone::Bad, "≠")), 12, "this is decided otherwise now")
        ));
    }
    text
}

fn decision_lines(decided: &Decided, at: Timestamp, paint: Paint, say: &dyn Fn(Tone, &str) -> String) -> String {
    let Decision { state, journal, effects, .. } = &decided.decision;
    let mut text: String = journal.iter().map(|fact| entry(fact, paint)).collect();
    text.extend(
        unjournalled_effects(&decided.decision).map(|effect| say(Tone::Plain, &format!("→ {}", effect_words(effect)))),
    );
    let mut waits = state.explanation.waiting_on.iter();
    if effects.is_empty()
        && let Some(on) = waits.next()
    {
        let others = waits.count();
        let more = if others == 0 { String::new() } else { format!(", and {others} more") };
        text.push_str(&say(Tone::Plain, &format!("waits for {}{more}", waiting(on, at))));
    }
    if text.is_empty() {
        text = say(Tone::Plain, &idle_words(state));
    }
    text
}

/// A decision without facts and effects.
fn idle_words(state: &TargetState) -> String {
    match &state.running {
        Some(running) => format!("{}: looks again", stage_words(running.stage())),
        None => "idle".to_owned(),
    }
}

fn outcome_lines(performed: &Performed, paint: Paint, say: &dyn Fn(Tone, &str) -> String) -> String {
    let mut text: String = performed.journal.iter().map(|fact| entry(fact, paint)).collect();
    for (effect, outcome) in &performed.outcomes {
        let words = match outcome {
            Outcome::Unsure { reason } => format!("{} may not have worked: {reason}", effect.kind().name()),
            Outcome::Refused { reason } => format!("{} was refused: {reason}", effect.kind().name()),
            Outcome::Conflict { reason } => format!("{} was not done: {reason}", effect.kind().name()),
            _ => continue,
        };
        // The first of several is in the journal already.
        if performed.journal.is_empty() {
            text.push_str(&say(Tone::Warning, &words));
        }
    }
    text
}

/// A gap in the recording, as a sentence.
#[must_use]
pub fn gap_words(gap: &Gap) -> String {
    match gap {
        Gap::Decisions { from, to } if from == to => {
            format!("before it is missing what decided entry {from} of the journal")
        }
        Gap::Decisions { from, to } => {
            format!("before it is missing what decided entries {from} to {to} of the journal")
        }
        Gap::MissingDecision => {
            "what became of effects is there, and the decision that they were of is missing".to_owned()
        }
        Gap::TooLong { bytes } => format!("a decision was too long to be recorded ({bytes} bytes)"),
        Gap::Incomplete { found, all } => format!("of the {all} lines that a decision took, {found} are there"),
        Gap::Inconsistent { reason } => {
            format!("what was recorded here does not fit what was recorded before: {reason}")
        }
    }
}

/// An effect as the state that it establishes.
#[must_use]
pub fn effect_words(effect: &Effect) -> String {
    let last = |arn: &str| arn.rsplit('/').next().unwrap_or(arn).to_owned();
    let place = |slot: Option<Slot>| slot.map_or_else(|| "the workload".to_owned(), |slot| slot.to_string());
    match effect {
        Effect::RegisterVersion { image, .. } => format!("there is a version that runs {}", last(image)),
        Effect::StartFirst { slot, version, count } => {
            format!("{} runs {} with {count} tasks", place(*slot), last(version))
        }
        Effect::StopFirst { slot } => format!("{} has no tasks", place(*slot)),
        Effect::ReplaceVersion { version } => format!("the workload runs {}", last(version)),
        Effect::SetVersion { slot, version, desired } => {
            format!("{slot} runs {} with {desired} tasks", last(version))
        }
        Effect::SetDesired { slot, desired } => format!("{slot} has {desired} tasks"),
        Effect::SetAutoscaling { slot, limits } => {
            let held = if limits.scale_in_suspended { ", not scaling in" } else { "" };
            format!("the autoscaling of {slot} is {} to {} tasks{held}", limits.min, limits.max)
        }
        Effect::SetWeights { weights, .. } => format!("traffic is {}", traffic_split(*weights)),
        Effect::SetTestRules { weights } => {
            let splits: BTreeSet<String> = weights.iter().copied().map(traffic_split).collect();
            format!("test traffic is {}", splits.into_iter().collect::<Vec<_>>().join(" and "))
        }
        Effect::InvokeHook { hook, .. } => format!("hook {hook} is invoked"),
        Effect::StartTask { hook, .. } => format!("the task of hook {hook} is started"),
        Effect::StopTask { task } => format!("the task {} is stopped", last(task)),
    }
}

/// The first difference; and, if only texts differ in it, also the first one with different effects.
#[must_use]
pub fn first_difference(replay: &Replay, paint: Paint) -> String {
    let mut all = replay.different();
    let Some(first) = all.next() else { return String::new() };
    let text = difference("The first difference", first, paint);
    match all.find(|it| it.acts_differently()).filter(|_| !first.acts_differently()) {
        Some(acts) => format!("{text}\n{}", difference("The first with which something else is done", acts, paint)),
        None => text,
    }
}

/// A complete difference: observations and commands, the decision then and now, and the differing fields.
fn difference(first: &str, rerun: &ReplayedRecord, paint: Paint) -> String {
    let record = &rerun.record;
    let number = record.deployment.map_or_else(String::new, |number| format!(" #{number}"));
    let title = format!("{first}: {}{number} at {}", record.target, instant(record.at));
    let revision = format!("revision {}, pass {}", record.revision, record.pass);
    let mut text = format!("{}\n{}\n\n", paint.strong(&title), paint.faint(&revision));
    let mut say = |name: &str, sentences: Vec<String>| {
        for (index, sentence) in sentences.iter().enumerate() {
            let name = if index == 0 { name } else { "" };
            text.push_str(&format!("{}\n", hanging_indent(&format!("  {name:<9} "), 12, &with_short_names(sentence))));
        }
    };
    match &record.body {
        RecordBody::Decided(decided) => {
            say("stage", vec![stage_of(&decided.state)]);
            say(
                "seen",
                decided.snapshot.as_ref().map_or_else(|| vec!["nothing was looked at".to_owned()], observations),
            );
            let commands = decided.commands.iter().map(|command| {
                let reason = if command.reason.is_empty() { String::new() } else { format!(": {}", command.reason) };
                format!("{} by {}{reason}", command.instruction.name(), command.actor)
            });
            say("asked", commands.collect());
            say("recorded", decision_result(&decided.decision, record.at));
            if let Some(Recomputed::Decision(now)) = &rerun.now {
                say("now", decision_result(now, record.at));
            }
        }
        RecordBody::Performed(performed) => {
            let outcomes = performed
                .outcomes
                .iter()
                .map(|(effect, outcome)| format!("{}: {}", effect.kind().name(), outcome_words(outcome)));
            say("performed", outcomes.collect());
            say("recorded", journalled_facts(&performed.journal));
            if let Some(Recomputed::Outcomes(_, journal)) = &rerun.now {
                say("now", journalled_facts(journal));
            }
        }
        RecordBody::TooLong(_) | RecordBody::Incomplete { .. } => {}
    }
    text.push('\n');
    for FieldDifference { field, recorded, now } in rerun.differences.iter().take(MAX_FIELDS) {
        text.push_str(&format!("  {}\n", paint.strong(field)));
        for (name, value) in [("recorded", recorded), ("now", now)] {
            let value =
                value.as_ref().map_or_else(|| "-".to_owned(), |value| truncate(&value.to_string(), MAX_VALUE_CHARS));
            text.push_str(&format!("    {name:<9} {value}\n"));
        }
    }
    let more = rerun.differences.len().saturating_sub(MAX_FIELDS);
    if more > 0 {
        text.push_str(&format!("  and {more} more fields; --json has all of them\n"));
    }
    text
}

fn stage_of(state: &TargetState) -> String {
    match &state.running {
        Some(running) => {
            let step = running.traffic_step().map(|step| format!(", step {}", step + 1)).unwrap_or_default();
            format!("{}{step}", stage_words(running.stage()))
        }
        None => "nothing runs".to_owned(),
    }
}

/// All observations, good ones included.
fn observations(snapshot: &Snapshot) -> Vec<String> {
    let mut description = evidence(snapshot);
    if let Reading::Known(alarms) = &snapshot.alarms
        && !alarms.is_empty()
        && alarms.values().all(|alarm| *alarm == AlarmReading::Ok)
    {
        description.insert(0, "every alarm is OK".to_owned());
    }
    description
}

/// The result of a decision: facts, then effects, then waits, and the next observation.
fn decision_result(decision: &Decision, at: Timestamp) -> Vec<String> {
    let mut description: Vec<String> = entry_sentences(&decision.journal);
    description.extend(unjournalled_effects(decision).map(|effect| format!("→ {}", effect_words(effect))));
    description.extend(decision.state.explanation.waiting_on.iter().map(|on| format!("waits for {}", waiting(on, at))));
    description.push(match decision.next {
        Next::Immediately => "looks again at once".to_owned(),
        Next::At(at) => format!("looks again at {}", time_of_day(at)),
        Next::Idle => "idle until requested".to_owned(),
    });
    description
}

/// Effects without a journal fact: decided weights are in the journal.
fn unjournalled_effects(decision: &Decision) -> impl Iterator<Item = &Effect> {
    let decided = decision.journal.iter().any(|entry| matches!(entry.fact, Fact::WeightsDecided { .. }));
    decision.effects.iter().filter(move |effect| !decided || !matches!(effect, Effect::SetWeights { .. }))
}

fn journalled_facts(journal: &[JournalEntry]) -> Vec<String> {
    let description = entry_sentences(journal);
    if description.is_empty() { vec!["nothing is journalled".to_owned()] } else { description }
}

fn entry_sentences(journal: &[JournalEntry]) -> Vec<String> {
    journal.iter().map(|entry| crate::journal::description(entry).1).collect()
}

fn outcome_words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done => "done".to_owned(),
        Outcome::Registered { version, reused } => {
            format!("{version}{}", if *reused { ", which was there" } else { "" })
        }
        Outcome::HookReported { report } => {
            serde_json::to_string(report).unwrap_or_default().replace(['{', '}', '"'], "")
        }
        Outcome::TaskStarted { task } => format!("{task} was started"),
        Outcome::Unsure { reason } => format!("it may not have worked: {reason}"),
        Outcome::Refused { reason } => format!("refused: {reason}"),
        Outcome::Conflict { reason } => format!("not done: {reason}"),
        Outcome::Throttled { reason } => format!("throttled: {reason}"),
    }
}

/// The summary: number of replayed decisions, versions that made them, gaps, and whether anything differs.
#[must_use]
pub fn summary(replay: &Replay, version: &str, paint: Paint) -> String {
    let decided =
        replay.records.iter().filter(|it| matches!(it.record.body, RecordBody::Decided(_)) && it.now.is_some());
    let performed =
        replay.records.iter().filter(|it| matches!(it.record.body, RecordBody::Performed(_)) && it.now.is_some());
    let (decided, performed) = (decided.count(), performed.count());
    let versions: BTreeSet<&str> = replay.records.iter().map(|it| it.record.version.as_str()).collect();
    let versions = versions.into_iter().collect::<Vec<_>>().join(", ");
    let plural =
        |number: usize, word: &str| if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") };
    let what = format!(
        "{} and {} of Switchback {versions}, decided again by {version}",
        plural(decided, "decision"),
        plural(performed, "outcome")
    );
    let (different, gaps) = (replay.different().count(), replay.gaps().count());
    let mut text = match different {
        0 => format!("{} {}\n", paint.mark(Tone::Good), wrap(&format!("{what}: no difference."), 78, 2)),
        _ => {
            let count = plural(different, "difference");
            let acts = replay.different().filter(|it| it.acts_differently()).count();
            let how = match (different, acts) {
                (1, 1) => "something else is done",
                (1, _) => "it is only said otherwise",
                (_, 0) => "all of them only say it otherwise",
                (all, acts) if all == acts => "something else is done in each",
                _ => "something else is done in some",
            };
            let description = format!("{what}: {count}; {how}.");
            format!("{} {}\n", paint.mark(Tone::Bad), wrap(&description, 78, 2))
        }
    };
    let new_fields: Vec<&str> = replay.new_fields().into_iter().collect();
    if !new_fields.is_empty() {
        let description = format!(
            "this version also remembers {}, which the recorded one did not know of: what it would make of that cannot \
             be said.",
            names(&new_fields)
        );
        text.push_str(&format!("{} {}\n", paint.mark(Tone::Warning), wrap(&capitalised(&description), 78, 2)));
    }
    if gaps > 0 {
        let description =
            format!("{} in what was recorded: nothing can be said of what is missing.", plural(gaps, "gap"));
        text.push_str(&format!("{} {}\n", paint.mark(Tone::Warning), wrap(&capitalised(&description), 78, 2)));
        for (rerun, gap) in replay.gaps().take(MAX_GAPS) {
            let record = &rerun.record;
            let number = record.deployment.map_or_else(String::new, |number| format!(" #{number}"));
            let words = format!("{}{number}, {}: {}", record.target, instant(record.at), gap_words(gap));
            text.push_str(&format!("{}\n", hanging_indent("  - ", 4, &words)));
        }
        if gaps > MAX_GAPS {
            text.push_str(&format!("  - and {} more\n", gaps - MAX_GAPS));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describes_each_kind_of_gap() {
        let gaps = [
            Gap::Decisions { from: 4, to: 4 },
            Gap::Decisions { from: 4, to: 6 },
            Gap::MissingDecision,
            Gap::TooLong { bytes: 2_000_000 },
            Gap::Incomplete { found: 1, all: 3 },
            Gap::Inconsistent { reason: "`/x` is changed, and is not there".to_owned() },
        ];
        assert_eq!(
            gaps.map(|gap| gap_words(&gap)),
            [
                "before it is missing what decided entry 4 of the journal",
                "before it is missing what decided entries 4 to 6 of the journal",
                "what became of effects is there, and the decision that they were of is missing",
                "a decision was too long to be recorded (2000000 bytes)",
                "of the 3 lines that a decision took, 1 are there",
                "what was recorded here does not fit what was recorded before: `/x` is changed, and is not there",
            ]
        );
    }
}
