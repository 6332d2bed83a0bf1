//! State of targets: all as a table, or one in detail.

use crate::brake::brake;
use crate::journal::{caller, stage_words, traffic_split};
use crate::layout::{hanging_indent, table};
use crate::paint::Paint;
use crate::people::{display_name, names, with_short_names};
use crate::template::{template_lines, template_sentence};
use crate::time_format::{ago, format_duration, instant, until};
use crate::waiting::waiting;
use jiff::Timestamp;
use rollout::deployment::{Deployment, Purpose};
use rollout::explanation::WaitingOn;
use rollout::policy::Trigger;
use rollout::snapshot::Weights;
use rollout::stage::Stage;
use rollout::target::{DetectedDrift, StableSide, TargetState};
use rollout::template::TemplateReading;
use rollout::weighted::{Forward, ForwardStep, WeightedStage};
use rollout::{Brake, Command, Gate, Instruction, Lane, Seconds, Slot};

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetRow {
    /// `application/service/environment`
    pub target: String,
    /// Tag of the stable release; empty: unknown.
    pub stable: String,
    /// The running deployment: number, tag, stage, and since when it has been in that stage.
    pub running: Option<(u64, String, Stage, Timestamp)>,
    /// Tags of the queued releases, in the order in which they will start.
    pub queued: Vec<String>,
    /// What starts a deployment.
    pub trigger: Trigger,
    /// What holds the target, in a word or two each: `frozen`, `promotion held`.
    pub held: Vec<String>,
}

/// Everything known of one target.
#[derive(Debug, Clone, Copy)]
pub struct TargetDetail<'a> {
    /// The target's stored state.
    pub state: &'a TargetState,
    /// Version of the policy that names the target, and its trigger; none: no policy names it any more.
    pub policy: Option<(u64, Trigger)>,
    /// Commands that no decision has consumed yet, oldest first.
    pub commands: &'a [Command],
    /// The brakes that apply to the target.
    pub brakes: &'a [Brake],
    /// The current time.
    pub now: Timestamp,
}

/// All targets as a table.
#[must_use]
pub fn targets(rows: &[TargetRow], now: Timestamp) -> String {
    if rows.is_empty() {
        return "No targets yet: apply a switchback.yaml.\n".to_owned();
    }
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let stable = if row.stable.is_empty() { "-" } else { &row.stable };
            let running = match &row.running {
                Some((number, tag, stage, since)) => {
                    let queued = match row.queued.as_slice() {
                        [] => String::new(),
                        [next] => format!("; then {next}"),
                        [next, rest @ ..] => format!("; then {next} and {} more", rest.len()),
                    };
                    format!(
                        "#{number} {tag}: {} ({}){queued}",
                        stage_words(*stage),
                        format_duration(Seconds::between(*since, now))
                    )
                }
                None => format!("idle ({})", trigger_words(row.trigger)),
            };
            let held = if row.held.is_empty() { String::new() } else { format!("{}; ", row.held.join(", ")) };
            vec![row.target.clone(), stable.to_owned(), format!("{held}{running}")]
        })
        .collect();
    table(&["TARGET", "STABLE", "DEPLOYMENT"], &rows)
}

/// A trigger in words.
fn trigger_words(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Push => "deploys every push",
        Trigger::Manual => "manual trigger",
        Trigger::Promotion => "automatic promotion",
    }
}

/// Lines of the detailed status: a label of at most ten characters, empty below a line of the same kind, and its text.
type Lines = Vec<(&'static str, String)>;

/// One target in detail.
#[must_use]
pub fn target(known: TargetDetail<'_>, paint: Paint) -> String {
    let TargetDetail { state, policy, commands, brakes, now } = known;
    let mut lines = Lines::new();
    lines.extend(traffic_line(state, now, paint).map(|words| ("traffic", words)));
    if let Some(running) = &state.running {
        lines.extend(deployment_lines(state, running, now));
    }
    if is_untouched(state)
        && let Some(stable) = &state.stable
    {
        lines.extend(stable_lines(stable, state.previous.as_ref(), now));
    }
    if let Some(seen) = state.idle.as_ref().filter(|_| state.running.is_none()) {
        lines.push(("seen", ago(seen.seen_at, now)));
        lines.extend(seen.drift.as_ref().map(|drift| ("changed", drift_words(drift, now))));
        lines.extend(seen.newer_template.as_ref().map(|newer| ("not live", newer_words(newer))));
    }
    lines.extend(request_lines(state, commands, now));
    lines.extend(verified(state, now).map(|words| ("verified", words)));
    lines.extend(hold_lines(state, brakes, now));
    let policy = match policy {
        Some((version, trigger)) => format!("version {version}, {}", trigger_words(trigger)),
        None => "no applied policy names this target".to_owned(),
    };
    lines.push(("policy", policy));

    let mut text = format!("{}  {}\n\n", paint.strong(&state.target.to_string()), headline(state));
    for (label, words) in lines {
        let head = format!("  {} ", paint.faint(&format!("{label:<10}")));
        text.push_str(&format!("{}\n", hanging_indent(&head, 13, &with_short_names(&words))));
    }
    text
}

fn traffic_line(state: &TargetState, now: Timestamp, paint: Paint) -> Option<String> {
    match weights(state) {
        Some((weights, true)) => {
            let seen = state.traffic.as_ref().filter(|_| state.running.is_none() && state.idle.is_none());
            let seen = seen.map_or_else(String::new, |seen| format!("  seen {}", ago(seen.seen_at, now)));
            Some(format!("{}{seen}", traffic_bar(weights, paint)))
        }
        Some((weights, false)) => Some(format!("{}  not verified live yet", traffic_bar(weights, paint))),
        None => traffic(state, now).or_else(|| state.running.as_ref().map(|_| "not read yet".to_owned())),
    }
}

/// The running deployment: its sides, its stage, its waits, its deadline, and how it was requested.
fn deployment_lines(state: &TargetState, running: &Deployment, now: Timestamp) -> Lines {
    let mut lines = Lines::new();
    if let Some(candidate) = running.candidate() {
        for (label, slot) in [("blue", Slot::Blue), ("green", Slot::Green)] {
            let role = if slot == candidate { "candidate" } else { "stable" };
            lines.push((label, format!("{}, {role}", side_release(state, slot, candidate))));
        }
    }
    let time_in_stage = format_duration(Seconds::between(running.stage_entered_at, now));
    lines.push(("stage", format!("{}, for {time_in_stage}", stage(running))));
    for (index, on) in state.explanation.waiting_on.iter().enumerate() {
        lines.push((if index == 0 { "waiting" } else { "" }, format!("for {}", waiting(on, now))));
    }
    lines.extend(gate_lines(running, now));
    lines.extend(running.halted().map(|halt| ("halted", halt.reason.clone())));
    if let Some(failure) = &running.effect_failure {
        let (effect, times, reason) = (failure.effect.kind, failure.consecutive_failures, &failure.reason);
        lines.push(("failing", format!("{effect} failed {times} times in a row: {reason}")));
    }
    let deadline = running.awaiting_operator().map_or(running.phase.deadline(), |awaiting| awaiting.deadline);
    let deadline = if timers_paused(state) {
        "paused: rollouts are stopped (stop-the-line)".to_owned()
    } else {
        format!("{} ({})", instant(deadline), until(deadline, now))
    };
    lines.push(("deadline", deadline));
    let by = display_name(&running.actor.to_string());
    lines.push(("started", format!("{} by {by}", ago(running.started_at, now))));
    if !running.reason.is_empty() {
        lines.push(("why", running.reason.clone()));
    }
    lines.extend(option_notes(running).into_iter().map(|words| ("", words)));
    lines
}

/// The stable release, and the one that a rollback would deploy.
fn stable_lines(stable: &StableSide, previous: Option<&StableSide>, now: Timestamp) -> Lines {
    let release = stable.release.as_ref().map_or(BEFORE_SWITCHBACK, |release| &release.tag);
    let since = format_duration(Seconds::between(stable.since, now));
    let on = |slot: Option<Slot>| slot.map_or_else(String::new, |slot| format!(" on {slot}"));
    let mut lines = vec![("stable", format!("{release}{}, for {since}", on(stable.slot)))];
    if let Some(StableSide { slot, release, .. }) = previous {
        let on = on(*slot);
        let words = match release {
            Some(release) => format!("{}{on}: a rollback deploys it", release.tag),
            None if on.is_empty() => format!("{BEFORE_SWITCHBACK}: a rollback cannot name it, deploy by tag"),
            None => format!("{BEFORE_SWITCHBACK},{on}: a rollback cannot name it, deploy by tag"),
        };
        lines.push(("previous", words));
    }
    lines
}

/// The queue, and the commands that no decision has consumed yet.
fn request_lines(state: &TargetState, commands: &[Command], now: Timestamp) -> Lines {
    let mut lines = Lines::new();
    for (position, queued) in state.queued.iter().enumerate() {
        let by = display_name(&queued.actor.to_string());
        let label = if position == 0 { "queued" } else { "" };
        lines.push((label, format!("{}, requested {} by {by}", queued.release.tag, ago(queued.at, now))));
    }
    for command in commands {
        let by = display_name(&command.actor.to_string());
        lines.push(("pending", format!("{}, {} by {by}", instruction(command), ago(command.at, now))));
    }
    lines
}

/// Everything that keeps deployments from starting.
fn hold_lines(state: &TargetState, brakes: &[Brake], now: Timestamp) -> Lines {
    let mut lines = Lines::new();
    if let Some(hold) = &state.operator_hold {
        let (since, number, reason) = (ago(hold.since, now), hold.deployment, &hold.reason);
        let words = format!("since deployment #{number}, {since}: {reason}. Nothing starts until `switchback resume`");
        lines.push(("on hold", words));
    }
    if let Some(hold) = &state.promotion_hold {
        let (since, by, reason) = (ago(hold.since, now), display_name(&hold.actor.to_string()), &hold.reason);
        let ends = "Resume with `switchback promote`, or `deploy` of a release that is not older";
        lines.push(("held", format!("automatic promotion, {since} by {by}: {reason}. {ends}")));
    }
    lines.extend(brakes.iter().map(|on| ("brake", brake(on, now))));
    lines
}

/// A newer template that no deployment has taken yet.
fn newer_words(newer: &TemplateReading) -> String {
    format!("{}. `switchback deploy --configuration` deploys it", template_sentence(newer))
}

/// A change made outside Switchback while no deployment ran, with its author.
pub(crate) fn drift_words(drift: &DetectedDrift, now: Timestamp) -> String {
    let by = drift.by.as_ref().map(|call| format!(" by {}", caller(call))).unwrap_or_default();
    format!("{}{by}: {}", ago(drift.since, now), drift.reason)
}

/// Whether stop-the-line pauses the running deployment.
pub(crate) fn timers_paused(state: &TargetState) -> bool {
    let stopped = |on: &WaitingOn| matches!(on, WaitingOn::Gate { gate: Gate::StopTheLine, .. });
    !is_untouched(state) && state.explanation.waiting_on.iter().any(stopped)
}

/// Whether nothing runs, or the running deployment has not changed anything yet: the stable side then determines the
/// status.
fn is_untouched(state: &TargetState) -> bool {
    state.running.as_ref().is_none_or(|running| running.stage() == Stage::Gated)
}

/// State of each gate that a deployment still waits at.
fn gate_lines(running: &Deployment, now: Timestamp) -> Lines {
    let mut lines = Lines::new();
    let Some(gates) = running.gates.as_ref().filter(|_| running.stage() == Stage::Gated) else {
        return lines;
    };
    if let Some(at) = gates.requested_at {
        lines.push(("plan", format!("{}; approval requested {}", gates.plan.0, ago(at, now))));
    }
    for vote in &gates.votes {
        let identity = display_name(&vote.actor.to_string());
        let identity = if identity == vote.person.as_str() { String::new() } else { format!(" ({identity})") };
        lines.push(("approved", format!("by {}{identity}, {}", vote.person, ago(vote.at, now))));
    }
    for (gate, by) in &gates.overridden {
        lines.push((
            "opened",
            format!("{gate}, {} by {}: {}", ago(by.at, now), display_name(&by.actor.to_string()), by.reason),
        ));
    }
    lines
}

/// Notes on the deployment's options and purpose.
pub(crate) fn option_notes(running: &Deployment) -> Vec<String> {
    let mut parts = Vec::new();
    match &running.options.lane {
        Lane::Asked => {}
        Lane::Automatic { from } => parts.push(format!("promoted automatically from {from}")),
        Lane::Hotfix => {
            let skipped: Vec<_> = running.gates.iter().flat_map(|gates| &gates.skipped).collect();
            parts.push(format!(
                "hotfix: passes {}",
                if skipped.is_empty() { "no gate".to_owned() } else { names(&skipped) }
            ));
        }
    }
    if running.is_forward_only() {
        let words = "forward-only: no automatic rollback once traffic has moved; in trouble it awaits an operator";
        parts.push(words.to_owned());
    }
    if running.options.configuration {
        parts.push("a newer configuration of the same image".to_owned());
    }
    if let Some(first) = running.options.first {
        parts.push(format!("the first deployment here, with {first} tasks: there is nothing to roll back to"));
    }
    parts.extend(running.options.template.iter().flat_map(|template| template_lines(template)));
    if let Some(train) = &running.options.train {
        let members: Vec<_> =
            train.members.keys().map(|service| format!("{service} {}", train.label_of(service))).collect();
        let how = if train.rollback_together { "rolls back together" } else { "each rolls back alone" };
        parts.push(format!("release train of {}: {how}", names(&members)));
    }
    parts
}

/// Maximum number of verified releases listed.
const MAX_VERIFIED: usize = 3;

/// The releases that can be promoted from here, newest first.
fn verified(state: &TargetState, now: Timestamp) -> Option<String> {
    let newest: Vec<_> = state.verified.iter().rev().collect();
    let parts: Vec<String> = newest
        .iter()
        .take(MAX_VERIFIED)
        .map(|verified| format!("{} ({})", verified.release.tag, ago(verified.at, now)))
        .collect();
    let more = match newest.len().saturating_sub(MAX_VERIFIED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!parts.is_empty()).then(|| format!("{}{more}", parts.join(", ")))
}

/// Current activity, as a short phrase.
#[must_use]
pub fn headline(state: &TargetState) -> String {
    match &state.running {
        Some(running) if running.awaiting_operator().is_some() => {
            format!("deployment #{}: {}, awaiting an operator", running.number, purpose(running))
        }
        Some(running) => format!("deployment #{}: {}", running.number, purpose(running)),
        None if drift_at_rest(state).is_some_and(|drift| drift.moves_traffic) => {
            "drift: traffic was moved outside Switchback; `switchback rollback` moves it back".to_owned()
        }
        None if drift_at_rest(state).is_some() => "idle, with drift".to_owned(),
        None if state.drift().is_some() => {
            let stable = state.stable.as_ref().and_then(|stable| stable.slot);
            let stable = stable.map(|slot| slot.to_string()).unwrap_or_default();
            format!("not all traffic is on {stable}, the stable side: `switchback rollback` moves it there")
        }
        None if state.operator_hold.is_some() => "on hold: nothing starts until `switchback resume`".to_owned(),
        None => "idle".to_owned(),
    }
}

/// A change made outside Switchback, if no deployment is running.
pub(crate) fn drift_at_rest(state: &TargetState) -> Option<&DetectedDrift> {
    state.idle.as_ref().filter(|_| state.running.is_none())?.drift.as_ref()
}

fn purpose(running: &Deployment) -> String {
    match running.purpose {
        Purpose::Deploy if running.options.lane == Lane::Hotfix => format!("{} (hotfix)", running.release.tag),
        Purpose::Deploy => running.release.tag.clone(),
        Purpose::Rollback => format!("rollback to {}", running.release.tag),
        Purpose::Repair => format!("repair: all traffic to {}", running.release.tag),
    }
}

/// The stage with its step: `Shifting traffic, step 2 of 3 (50 %)`.
#[must_use]
pub fn stage(running: &Deployment) -> String {
    let words = stage_words(running.stage());
    if let Some((_, cause)) = running.rolling_back() {
        return format!("{words}: {}", with_short_names(&cause.summary()));
    }
    match running.weighted().map(|weighted| &weighted.at) {
        Some(WeightedStage::Forward(Forward { step: ForwardStep::Writing { index, .. }, .. })) => {
            format!("{words}, {}, moving", step(running, *index))
        }
        Some(WeightedStage::Forward(Forward { step: ForwardStep::Holding { index, .. }, .. })) => {
            format!("{words}, {}, holding", step(running, *index))
        }
        Some(WeightedStage::Abandoning(abandoning)) => format!("{words}: {}", abandoning.reason),
        _ => words,
    }
}

fn step(running: &Deployment, index: usize) -> String {
    let steps = &running.policy.strategy.steps;
    let share = steps.get(index).map_or(100, |step| step.traffic.value());
    format!("step {} of {} ({share} %)", index + 1, steps.len())
}

/// The weights and whether they are verified: `true` for weights last observed on all rules, `false` for weights
/// written but not observed yet. None: nothing was read yet, or the rules differ.
#[must_use]
pub fn weights(state: &TargetState) -> Option<(Weights, bool)> {
    if let Some(idle) = &state.idle {
        return idle.weights.map(|weights| (weights, true));
    }
    let seen = state.traffic.as_ref().and_then(|traffic| {
        let first = traffic.rules.first().copied().flatten()?;
        traffic.rules.iter().all(|weights| weights.is_some_and(|it| it.same_split(first))).then_some(first)
    });
    let written = state.running.as_ref().and_then(|running| running.weighted()?.weights);
    match (seen, written) {
        (Some(seen), Some(written)) if !written.verified && seen.same_split(written.before) => {
            Some((written.decided, false))
        }
        (None, Some(written)) if !written.verified => Some((written.decided, false)),
        (Some(seen), _) => Some((seen, true)),
        (None, _) => None,
    }
}

/// The traffic split in words, with the time of its observation; none if it was never observed.
pub(crate) fn traffic(state: &TargetState, now: Timestamp) -> Option<String> {
    let known = weights(state);
    if let Some((weights, false)) = known {
        return Some(format!("{}, written, not seen live yet", traffic_split(weights)));
    }
    if let (None, Some(idle)) = (known, &state.idle) {
        return Some(format!("the rules differ or could not be read, {}", ago(idle.seen_at, now)));
    }
    let seen = state.traffic.as_ref()?;
    let words = match known {
        Some((weights, _)) => traffic_split(weights),
        None => {
            let rule = |(index, weights): (usize, &Option<Weights>)| {
                let words = weights.map_or_else(|| "could not be read".to_owned(), traffic_split);
                format!("rule {}: {words}", index + 1)
            };
            seen.rules.iter().enumerate().map(rule).collect::<Vec<_>>().join("; ")
        }
    };
    let nothing_runs = state.running.is_none();
    let at = state.idle.as_ref().map_or(seen.seen_at, |idle| idle.seen_at);
    Some(if nothing_runs { format!("{words}, seen {}", ago(at, now)) } else { format!("{words}, seen live") })
}

/// Shown for a side whose release is unknown.
const BEFORE_SWITCHBACK: &str = "what ran before Switchback";
/// Width of the traffic bar, in characters.
const BAR_WIDTH: usize = 24;

/// The split as a bar, blue from the left.
#[must_use]
pub fn traffic_bar(weights: Weights, paint: Paint) -> String {
    let blue = usize::from(crate::page::blue_percent(weights));
    // A share above zero gets at least one cell.
    let cells = match (blue * BAR_WIDTH + 50) / 100 {
        0 if blue > 0 => 1,
        cells if cells == BAR_WIDTH && blue < 100 => BAR_WIDTH - 1,
        cells => cells,
    };
    format!(
        "blue {blue} % {}{} {} % green",
        paint.slot(Slot::Blue, &"█".repeat(cells)),
        paint.slot(Slot::Green, &"░".repeat(BAR_WIDTH - cells)),
        100 - blue,
    )
}

fn side_release(state: &TargetState, slot: Slot, candidate: Slot) -> String {
    if slot == candidate {
        return state.running.as_ref().map_or_else(String::new, |running| running.release.tag.clone());
    }
    let known = state.stable.as_ref().and_then(|stable| stable.release.as_ref());
    known.map_or(BEFORE_SWITCHBACK, |release| &release.tag).to_owned()
}

fn instruction(command: &Command) -> String {
    match &command.instruction {
        Instruction::Deploy { tag, options, .. } => match &options.lane {
            Lane::Asked => format!("deploy {tag}"),
            Lane::Automatic { from } => format!("promote {tag} from {from}"),
            Lane::Hotfix => format!("hotfix to {tag}"),
        },
        Instruction::Abort { .. } => "abort".to_owned(),
        Instruction::Rollback => "rollback".to_owned(),
        Instruction::Approve { deployment, .. } => format!("approve #{deployment}"),
        Instruction::Reject { deployment, .. } => format!("reject #{deployment}"),
        Instruction::Override { deployment, gates } => {
            format!("open {} for #{deployment}", names(&gates.iter().collect::<Vec<_>>()))
        }
        Instruction::Resume => "resume".to_owned(),
        Instruction::ApproveTrain { lead, .. } => format!("approve it with its train, as {lead} was"),
        Instruction::StopTrain { service, .. } => format!("stop its train, since {service} did not make it"),
        Instruction::NameRelease { tag, .. } => format!("show its release as {tag}"),
        Instruction::NoteRefusal { what } => format!("note that {what} was refused"),
    }
}
