//! How targets are: all of them as a table, or one of them in detail.

use crate::history::who;
use crate::journal::stage_words;
use crate::layout::{beside, table};
use crate::paint::Paint;
use crate::waiting::waiting;
use crate::when::{ago, instant, lasts, until};
use jiff::Timestamp;
use rollout::policy::Trigger;
use rollout::snapshot::Weights;
use rollout::stage::{ShiftPhase, Stage};
use rollout::target::{Deployment, Purpose, TargetState};
use rollout::{Command, Instruction, Seconds, Slot};

/// A target in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// `application/service/environment`
    pub target: String,
    /// Tag of the stable release; empty: none is known.
    pub stable: String,
    /// Number, tag and stage of the running deployment, and since when it is there.
    pub running: Option<(u64, String, String, Timestamp)>,
    /// Tags of the releases that wait for its end, in the order in which they start.
    pub queued: Vec<String>,
    /// What starts a deployment.
    pub trigger: Trigger,
}

/// All targets as a table.
#[must_use]
pub fn targets(rows: &[Row], now: Timestamp) -> String {
    if rows.is_empty() {
        return "There is no target yet: apply a switchback.yaml.\n".to_owned();
    }
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let stable = if row.stable.is_empty() { "-" } else { &row.stable };
            let running = match (&row.running, row.trigger) {
                (Some((number, tag, stage, since)), _) => {
                    let queued = match row.queued.as_slice() {
                        [] => String::new(),
                        [next] => format!("; then {next}"),
                        [next, rest @ ..] => format!("; then {next} and {} more", rest.len()),
                    };
                    format!(
                        "#{number} {tag}: {} ({}){queued}",
                        stage_words(stage),
                        lasts(Seconds::between(*since, now))
                    )
                }
                (None, Trigger::Push) => "at rest; every new release starts".to_owned(),
                (None, Trigger::Manual) => "at rest; started by hand".to_owned(),
            };
            vec![row.target.clone(), stable.to_owned(), running]
        })
        .collect();
    table(&["TARGET", "STABLE", "DEPLOYMENT"], &rows)
}

/// One target in detail.
#[must_use]
pub fn target(
    state: &TargetState,
    policy: Option<(u64, Trigger)>,
    commands: &[Command],
    now: Timestamp,
    paint: Paint,
) -> String {
    let mut text = format!("{}  {}\n\n", paint.strong(&state.target.to_string()), headline(state));
    let mut line = |name: &str, words: &str| {
        let head = format!("  {} ", paint.faint(&format!("{name:<10}")));
        text.push_str(&format!("{}\n", beside(&head, 13, words)));
    };
    match (weights(state), &state.running) {
        (Some((weights, true)), _) => line("traffic", &bar(weights, paint)),
        (Some((weights, false)), _) => line("traffic", &format!("{}  not seen live yet", bar(weights, paint))),
        (None, Some(_)) => line("traffic", "not read yet"),
        (None, None) => {}
    }
    if let Some(running) = &state.running {
        let candidate = running.candidate();
        for slot in [Slot::Blue, Slot::Green] {
            if candidate.is_some() {
                let role = if candidate == Some(slot) { "candidate" } else { "stable" };
                line(&slot.to_string(), &format!("{}, {role}", side_release(state, slot, candidate)));
            }
        }
        let here = lasts(Seconds::between(running.stage_entered_at, now));
        line("stage", &format!("{}, for {here}", stage(running)));
        for (index, on) in state.explanation.waiting_on.iter().enumerate() {
            line(if index == 0 { "waits for" } else { "" }, &waiting(on, now));
        }
        if let Some(halt) = &running.halted {
            line("halted", &halt.reason);
        }
        if let Some(trouble) = &running.trouble {
            line("trouble", &format!("{} did not work ({} times): {}", trouble.effect, trouble.times, trouble.reason));
        }
        let deadline = running.stage.deadline();
        line("deadline", &format!("{} ({})", instant(deadline), until(deadline, now)));
        line("started", &format!("{} by {}", ago(running.started_at, now), who(&running.actor.to_string())));
        if !running.reason.is_empty() {
            line("why", &running.reason);
        }
    } else if let Some(stable) = &state.stable {
        let release = stable.release.as_ref().map_or(BEFORE_SWITCHBACK, |release| &release.tag);
        let since = lasts(Seconds::between(stable.since, now));
        line("stable", &format!("{release} on {}, for {since}", stable.slot));
        match state.previous.as_ref().map(|previous| (previous.slot, &previous.release)) {
            Some((slot, Some(release))) => {
                line("before it", &format!("{} on {slot}: a rollback goes there", release.tag))
            }
            Some((slot, None)) => {
                line("before it", &format!("{BEFORE_SWITCHBACK}, on {slot}: no rollback goes there, deploy by name"));
            }
            None => {}
        }
    }
    for (place, queued) in state.queued.iter().enumerate() {
        let by = who(&queued.actor.to_string());
        let name = if place == 0 { "queued" } else { "" };
        line(name, &format!("{}, asked for {} by {by}", queued.release.tag, ago(queued.at, now)));
    }
    for command in commands {
        let by = who(&command.actor.to_string());
        line("asked", &format!("{}, {} by {by}: not taken in yet", instruction(command), ago(command.at, now)));
    }
    match policy {
        Some((version, Trigger::Push)) => line("policy", &format!("version {version}; every new release starts")),
        Some((version, Trigger::Manual)) => line("policy", &format!("version {version}; started by hand")),
        None => line("policy", "no applied policy names this target any more"),
    }
    text
}

/// What goes on, in a few words.
#[must_use]
pub fn headline(state: &TargetState) -> String {
    match &state.running {
        Some(running) => format!("deployment #{}: {}", running.number, purpose(running)),
        None if state.unsettled => "unsettled: both sides may carry traffic; ask for a rollback".to_owned(),
        None => "at rest".to_owned(),
    }
}

fn purpose(running: &Deployment) -> String {
    match running.purpose {
        Purpose::Deploy => running.release.tag.clone(),
        Purpose::Rollback => format!("back to {}", running.release.tag),
        Purpose::Repair => format!("all traffic back to {}", running.release.tag),
    }
}

/// The stage with its step: `Shifting traffic, step 2 of 3 (50 %)`.
#[must_use]
pub fn stage(running: &Deployment) -> String {
    let words = stage_words(running.stage.name());
    match &running.stage {
        Stage::Shifting { step, phase } => {
            let steps = &running.policy.strategy.steps;
            let share = steps.get(*step).map_or(100, |step| step.traffic.value());
            let phase = match phase {
                ShiftPhase::Writing { .. } => "moving",
                ShiftPhase::Holding { .. } => "holding",
            };
            format!("{words}, step {} of {} ({share} %), {phase}", step + 1, steps.len())
        }
        Stage::RollingBack { cause, .. } => format!("{words}: {}", cause.sentence()),
        Stage::LettingGo { reason, .. } => format!("{words}: {reason}"),
        _ => words,
    }
}

/// The weights as far as they are known, and whether they were seen live.
#[must_use]
pub fn weights(state: &TargetState) -> Option<(Weights, bool)> {
    let all = |slot| Weights::share(slot, rollout::Percent::ALL);
    match &state.running {
        Some(running) => match (&running.weights, &running.sides) {
            (Some(weights), _) => Some((weights.decided, weights.verified)),
            (None, Some(sides)) => Some((all(sides.stable), true)),
            (None, None) => None,
        },
        None if state.unsettled => None,
        None => state.stable.as_ref().map(|stable| (all(stable.slot), true)),
    }
}

/// A side whose release is not known.
const BEFORE_SWITCHBACK: &str = "what ran before Switchback";
/// Width of the bar of weights, in characters.
const BAR: usize = 24;

/// The split as a bar, blue from the left.
#[must_use]
pub fn bar(weights: Weights, paint: Paint) -> String {
    let blue = usize::from(crate::page::share_of_blue(weights));
    // A share that is not zero is seen, however small.
    let cells = match (blue * BAR + 50) / 100 {
        0 if blue > 0 => 1,
        cells if cells == BAR && blue < 100 => BAR - 1,
        cells => cells,
    };
    format!(
        "blue {blue} % {}{} {} % green",
        paint.slot(Slot::Blue, &"█".repeat(cells)),
        paint.slot(Slot::Green, &"░".repeat(BAR - cells)),
        100 - blue,
    )
}

fn side_release(state: &TargetState, slot: Slot, candidate: Option<Slot>) -> String {
    if candidate == Some(slot) {
        return state.running.as_ref().map_or_else(String::new, |running| running.release.tag.clone());
    }
    let known = state.stable.as_ref().and_then(|stable| stable.release.as_ref());
    known.map_or(BEFORE_SWITCHBACK, |release| &release.tag).to_owned()
}

fn instruction(command: &Command) -> String {
    match &command.instruction {
        Instruction::Deploy { tag, .. } => format!("deploy {tag}"),
        Instruction::Abort { .. } => "abort".to_owned(),
        Instruction::Rollback => "rollback".to_owned(),
    }
}
