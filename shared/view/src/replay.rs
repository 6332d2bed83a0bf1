//! What was recorded and decided again: each decision in a line, and the first difference field by field.

use crate::evidence::evidence;
use crate::history::entry;
use crate::journal::{Tone, capitalised, split, stage_words};
use crate::layout::{beside, cut, wrap};
use crate::paint::Paint;
use crate::people::{names, with_short_names};
use crate::waiting::waiting;
use crate::when::{clock, instant};
use jiff::Timestamp;
use rollout::decide::{Decision, Next};
use rollout::recording::{Decided, Difference, Gap, Now, Performed, Redone, Replay, What};
use rollout::snapshot::AlarmReading;
use rollout::target::TargetState;
use rollout::{Effect, Fact, JournalEntry, Outcome, Reading, Snapshot, Stage};
use std::collections::BTreeSet;

/// The most fields of a difference that are shown.
const MOST_FIELDS: usize = 12;
/// The most gaps.
const MOST_GAPS: usize = 12;
/// The most characters of one value that is shown.
const LONGEST_VALUE: usize = 160;

/// Each record, target by target and deployment by deployment: when, what happened and what it waits for; with
/// `with_seen`, what was seen before that, too.
#[must_use]
pub fn decisions(replay: &Replay, with_seen: bool, paint: Paint) -> String {
    let mut text = String::new();
    let (mut about, mut day) = (None, String::new());
    for redone in &replay.redone {
        let record = &redone.record;
        let now_about = Some((record.target.clone(), record.deployment));
        if about != now_about {
            let gap = if about.is_some() { "\n" } else { "" };
            text.push_str(&format!("{gap}{}\n", heading(redone, paint)));
            (about, day) = (now_about, String::new());
        }
        let today: String = instant(record.at).chars().take(10).collect();
        if today != day {
            text.push_str(&format!("{}\n", paint.faint(&format!("{today} (UTC)"))));
            day = today;
        }
        text.push_str(&lines(redone, with_seen, paint));
    }
    text
}

/// `shop/api/prod  #12 of v2`
fn heading(redone: &Redone, paint: Paint) -> String {
    let record = &redone.record;
    let target = paint.strong(&record.target.to_string());
    let state = match &record.what {
        What::Decided(decided) => decided.decision.state.running.as_ref().or(decided.state.running.as_ref()),
        _ => None,
    };
    match (record.deployment, state) {
        (Some(number), Some(running)) => format!("{target}  #{number} of {}", running.release.tag),
        (Some(number), None) => format!("{target}  #{number}"),
        (None, _) => format!("{target}  nothing runs"),
    }
}

/// One record: its time, and a sentence each for what happened, or what was done, or what it waits for.
fn lines(redone: &Redone, with_seen: bool, paint: Paint) -> String {
    let at = redone.record.at;
    let head = |mark: String| format!("{}  {mark} ", paint.faint(&clock(at)));
    let say = |tone: Tone, words: &str| format!("{}\n", beside(&head(paint.mark(tone)), 12, &with_short_names(words)));
    let mut text = redone.gap.as_ref().map_or_else(String::new, |gap| say(Tone::Warning, &missing(gap)));
    if let What::Decided(decided) = &redone.record.what
        && let Some(snapshot) = decided.snapshot.as_ref().filter(|_| with_seen)
    {
        text.push_str(&say(Tone::Plain, &format!("seen: {}", seen(snapshot).join("; "))));
    }
    text.push_str(&match &redone.record.what {
        What::Decided(decided) => decision_lines(decided, at, paint, &say),
        What::Performed(performed) => outcome_lines(performed, paint, &say),
        What::TooLong(_) | What::Torn { .. } => String::new(),
    });
    if redone.contested {
        let words = "another pass decided on the same state: only one of the two decisions was written down";
        text.push_str(&say(Tone::Warning, words));
    } else if redone.cut_short {
        text.push_str(&say(Tone::Warning, "what became of that is not recorded: the pass ended there"));
    }
    if !redone.differences.is_empty() {
        text.push_str(&format!("{}\n", beside(&head(paint.tone(Tone::Bad, "≠")), 12, "this is decided otherwise now")));
    }
    text
}

fn decision_lines(decided: &Decided, at: Timestamp, paint: Paint, say: &dyn Fn(Tone, &str) -> String) -> String {
    let Decision { state, journal, effects, .. } = &decided.decision;
    let mut text: String = journal.iter().map(|fact| entry(fact, paint)).collect();
    text.extend(untold(&decided.decision).map(|effect| say(Tone::Plain, &format!("→ {}", effect_words(effect)))));
    let mut waits = state.explanation.waiting_on.iter();
    if effects.is_empty()
        && let Some(on) = waits.next()
    {
        let others = waits.count();
        let more = if others == 0 { String::new() } else { format!(", and {others} more") };
        text.push_str(&say(Tone::Plain, &format!("waits for {}{more}", waiting(on, at))));
    }
    if text.is_empty() {
        text = say(Tone::Plain, &quiet(state));
    }
    text
}

/// A decision that neither says nor does anything.
fn quiet(state: &TargetState) -> String {
    match &state.running {
        Some(running) => format!("{}: looks again", stage_words(running.stage.name())),
        None => "nothing is asked for".to_owned(),
    }
}

fn outcome_lines(performed: &Performed, paint: Paint, say: &dyn Fn(Tone, &str) -> String) -> String {
    let mut text: String = performed.journal.iter().map(|fact| entry(fact, paint)).collect();
    for (effect, outcome) in &performed.outcomes {
        let words = match outcome {
            Outcome::Unsure { reason } => format!("{} may not have worked: {reason}", effect.name()),
            Outcome::Refused { reason } => format!("{} was refused: {reason}", effect.name()),
            Outcome::Changed { reason } => format!("{} was not done: {reason}", effect.name()),
            _ => continue,
        };
        // The first of a row stands in the journal.
        if performed.journal.is_empty() {
            text.push_str(&say(Tone::Warning, &words));
        }
    }
    text
}

/// What is missing, as a sentence.
#[must_use]
pub fn missing(gap: &Gap) -> String {
    match gap {
        Gap::Decisions { from, to } if from == to => {
            format!("before it is missing what decided entry {from} of the journal")
        }
        Gap::Decisions { from, to } => {
            format!("before it is missing what decided entries {from} to {to} of the journal")
        }
        Gap::TheirDecision => {
            "what became of effects is there, and the decision that they were of is missing".to_owned()
        }
        Gap::TooLong { bytes } => format!("a decision was too long to be recorded ({bytes} bytes)"),
        Gap::Torn { found, all } => format!("of the {all} lines that a decision took, {found} are there"),
        Gap::Unfit { why } => format!("what was recorded here does not fit what was recorded before: {why}"),
    }
}

/// An effect in words: what shall be true.
#[must_use]
pub fn effect_words(effect: &Effect) -> String {
    let last = |arn: &str| arn.rsplit('/').next().unwrap_or(arn).to_owned();
    match effect {
        Effect::RegisterTaskDefinition { container, image, .. } => {
            format!("a task definition whose container {container} runs {}", last(image))
        }
        Effect::UpdateService { slot, task_definition, desired } => {
            format!("{slot} runs {} with {desired} tasks", last(task_definition))
        }
        Effect::SetDesired { slot, desired } => format!("{slot} has {desired} tasks"),
        Effect::SetAutoscaling { slot, limits } => {
            let held = if limits.scale_in_suspended { ", not scaling in" } else { "" };
            format!("the autoscaling of {slot} is {} to {} tasks{held}", limits.min, limits.max)
        }
        Effect::SetWeights { weights, .. } => format!("traffic is {}", split(*weights)),
        Effect::SetTestRule { weights } => format!("test traffic is {}", split(*weights)),
        Effect::AskHook { hook, .. } => format!("hook {hook} is asked"),
        Effect::StartTask { hook, .. } => format!("the task of hook {hook} is started"),
        Effect::StopTask { task } => format!("the task {} is stopped", last(task)),
    }
}

/// The first difference; and, where it is one of words alone, the first one with which something else is done.
#[must_use]
pub fn first_difference(replay: &Replay, paint: Paint) -> String {
    let mut all = replay.different();
    let Some(first) = all.next() else { return String::new() };
    let text = difference("The first difference", first, paint);
    match all.find(|it| it.acts_otherwise()).filter(|_| !first.acts_otherwise()) {
        Some(acts) => format!("{text}\n{}", difference("The first with which something else is done", acts, paint)),
        None => text,
    }
}

/// A difference, whole: what was seen and asked, what was decided then and now, and the fields that differ.
fn difference(first: &str, redone: &Redone, paint: Paint) -> String {
    let record = &redone.record;
    let number = record.deployment.map_or_else(String::new, |number| format!(" #{number}"));
    let title = format!("{first}: {}{number} at {}", record.target, instant(record.at));
    let place = format!("revision {}, pass {}", record.revision, record.pass);
    let mut text = format!("{}\n{}\n\n", paint.strong(&title), paint.faint(&place));
    let mut say = |name: &str, sentences: Vec<String>| {
        for (place, sentence) in sentences.iter().enumerate() {
            let name = if place == 0 { name } else { "" };
            text.push_str(&format!("{}\n", beside(&format!("  {name:<9} "), 12, &with_short_names(sentence))));
        }
    };
    match &record.what {
        What::Decided(decided) => {
            say("stage", vec![stage_of(&decided.state)]);
            say("seen", decided.snapshot.as_ref().map_or_else(|| vec!["nothing was looked at".to_owned()], seen));
            let asked = decided.commands.iter().map(|command| {
                let reason = if command.reason.is_empty() { String::new() } else { format!(": {}", command.reason) };
                format!("{} by {}{reason}", command.instruction.name(), command.actor)
            });
            say("asked", asked.collect());
            say("recorded", came_out(&decided.decision, record.at));
            if let Some(Now::Decision(now)) = &redone.now {
                say("now", came_out(now, record.at));
            }
        }
        What::Performed(performed) => {
            let outcomes = performed
                .outcomes
                .iter()
                .map(|(effect, outcome)| format!("{}: {}", effect.name(), outcome_words(outcome)));
            say("performed", outcomes.collect());
            say("recorded", facts(&performed.journal));
            if let Some(Now::Absorbed(_, journal)) = &redone.now {
                say("now", facts(journal));
            }
        }
        What::TooLong(_) | What::Torn { .. } => {}
    }
    text.push('\n');
    for Difference { field, recorded, now } in redone.differences.iter().take(MOST_FIELDS) {
        text.push_str(&format!("  {}\n", paint.strong(field)));
        for (name, value) in [("recorded", recorded), ("now", now)] {
            let value = value.as_ref().map_or_else(|| "-".to_owned(), |value| cut(&value.to_string(), LONGEST_VALUE));
            text.push_str(&format!("    {name:<9} {value}\n"));
        }
    }
    let more = redone.differences.len().saturating_sub(MOST_FIELDS);
    if more > 0 {
        text.push_str(&format!("  and {more} more fields; --json has all of them\n"));
    }
    text
}

fn stage_of(state: &TargetState) -> String {
    match &state.running {
        Some(running) => {
            let step = match &running.stage {
                Stage::Shifting { step, .. } => format!(", step {}", step + 1),
                _ => String::new(),
            };
            format!("{}{step}", stage_words(running.stage.name()))
        }
        None => "nothing runs".to_owned(),
    }
}

/// What was seen, good news included.
fn seen(snapshot: &Snapshot) -> Vec<String> {
    let mut told = evidence(snapshot);
    if let Reading::Known(alarms) = &snapshot.alarms
        && !alarms.is_empty()
        && alarms.values().all(|alarm| *alarm == AlarmReading::Ok)
    {
        told.insert(0, "every alarm is OK".to_owned());
    }
    told
}

/// What came out of a decision: facts, then effects, then what it waits for; and when it looks again.
fn came_out(decision: &Decision, at: Timestamp) -> Vec<String> {
    let mut told: Vec<String> = facts_of(&decision.journal);
    told.extend(untold(decision).map(|effect| format!("→ {}", effect_words(effect))));
    told.extend(decision.state.explanation.waiting_on.iter().map(|on| format!("waits for {}", waiting(on, at))));
    told.push(match decision.next {
        Next::Again => "looks again at once".to_owned(),
        Next::At(at) => format!("looks again at {}", clock(at)),
        Next::Rest => "rests until something is asked".to_owned(),
    });
    told
}

/// Effects that no fact tells of: what was decided about weights stands in the journal.
fn untold(decision: &Decision) -> impl Iterator<Item = &Effect> {
    let decided = decision.journal.iter().any(|entry| matches!(entry.fact, Fact::WeightsDecided { .. }));
    decision.effects.iter().filter(move |effect| !decided || !matches!(effect, Effect::SetWeights { .. }))
}

fn facts(journal: &[JournalEntry]) -> Vec<String> {
    let told = facts_of(journal);
    if told.is_empty() { vec!["nothing is journalled".to_owned()] } else { told }
}

fn facts_of(journal: &[JournalEntry]) -> Vec<String> {
    journal.iter().map(|entry| crate::journal::told(entry).1).collect()
}

fn outcome_words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done => "done".to_owned(),
        Outcome::Registered { task_definition, reused } => {
            format!("{task_definition}{}", if *reused { ", which was there" } else { "" })
        }
        Outcome::HookReported { report } => {
            serde_json::to_string(report).unwrap_or_default().replace(['{', '}', '"'], "")
        }
        Outcome::TaskStarted { task } => format!("{task} was started"),
        Outcome::Unsure { reason } => format!("it may not have worked: {reason}"),
        Outcome::Refused { reason } => format!("refused: {reason}"),
        Outcome::Changed { reason } => format!("not done: {reason}"),
        Outcome::Throttled { reason } => format!("throttled: {reason}"),
    }
}

/// The end of the story: how much was decided again by whom, what is missing, and whether something differs.
#[must_use]
pub fn verdict(replay: &Replay, version: &str, paint: Paint) -> String {
    let decided = replay.redone.iter().filter(|it| matches!(it.record.what, What::Decided(_)) && it.now.is_some());
    let performed = replay.redone.iter().filter(|it| matches!(it.record.what, What::Performed(_)) && it.now.is_some());
    let (decided, performed) = (decided.count(), performed.count());
    let versions: BTreeSet<&str> = replay.redone.iter().map(|it| it.record.version.as_str()).collect();
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
            let acts = replay.different().filter(|it| it.acts_otherwise()).count();
            let how = match (different, acts) {
                (1, 1) => "something else is done",
                (1, _) => "it is only said otherwise",
                (_, 0) => "all of them only say it otherwise",
                (all, acts) if all == acts => "something else is done in each",
                _ => "something else is done in some",
            };
            let told = format!("{what}: {count}; {how}.");
            format!("{} {}\n", paint.mark(Tone::Bad), wrap(&told, 78, 2))
        }
    };
    let remembered: Vec<&str> = replay.remembered().into_iter().collect();
    if !remembered.is_empty() {
        let told = format!(
            "this version also remembers {}, which the recorded one did not know of: what it would make of that cannot be said.",
            names(&remembered)
        );
        text.push_str(&format!("{} {}\n", paint.mark(Tone::Warning), wrap(&capitalised(&told), 78, 2)));
    }
    if gaps > 0 {
        let told = format!("{} in what was recorded: nothing can be said of what is missing.", plural(gaps, "gap"));
        text.push_str(&format!("{} {}\n", paint.mark(Tone::Warning), wrap(&capitalised(&told), 78, 2)));
        for (redone, gap) in replay.gaps().take(MOST_GAPS) {
            let record = &redone.record;
            let place = record.deployment.map_or_else(String::new, |number| format!(" #{number}"));
            let words = format!("{}{place}, {}: {}", record.target, instant(record.at), missing(gap));
            text.push_str(&format!("{}\n", beside("  - ", 4, &words)));
        }
        if gaps > MOST_GAPS {
            text.push_str(&format!("  - and {} more\n", gaps - MOST_GAPS));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_in_a_sentence() {
        let gaps = [
            Gap::Decisions { from: 4, to: 4 },
            Gap::Decisions { from: 4, to: 6 },
            Gap::TheirDecision,
            Gap::TooLong { bytes: 2_000_000 },
            Gap::Torn { found: 1, all: 3 },
            Gap::Unfit { why: "`/x` is changed, and is not there".to_owned() },
        ];
        assert_eq!(
            gaps.map(|gap| missing(&gap)),
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
