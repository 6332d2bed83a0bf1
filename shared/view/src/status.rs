//! How targets are: all of them as a table, or one of them in detail.

use crate::brake::brake;
use crate::journal::{caller, split, stage_words};
use crate::layout::{beside, table};
use crate::paint::Paint;
use crate::people::{names, who, with_short_names};
use crate::waiting::waiting;
use crate::when::{ago, instant, lasts, until};
use jiff::Timestamp;
use rollout::policy::{Hook, Trigger};
use rollout::snapshot::Weights;
use rollout::stage::{ShiftPhase, Stage};
use rollout::target::{Deployment, DriftSeen, Purpose, TargetState, WaitingOn};
use rollout::{Brake, Command, Gate, Instruction, Lane, Seconds, Slot};

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
    /// What holds it, in a word or two each: `frozen`, `promotion held`.
    pub held: Vec<String>,
}

/// All that is known of one target.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What is remembered of it.
    pub state: &'a TargetState,
    /// Version of the policy that names it, and what starts a deployment; none: no policy names it any more.
    pub policy: Option<(u64, Trigger)>,
    /// Commands that no decision has taken in yet, oldest first.
    pub commands: &'a [Command],
    /// The brakes that hold it.
    pub brakes: &'a [Brake],
    /// The time of the telling.
    pub now: Timestamp,
}

/// All targets as a table.
#[must_use]
pub fn targets(rows: &[Row], now: Timestamp) -> String {
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
                        stage_words(stage),
                        lasts(Seconds::between(*since, now))
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

/// What starts a deployment, in words.
fn trigger_words(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Push => "deploys every push",
        Trigger::Manual => "manual trigger",
        Trigger::Promotion => "automatic promotion",
    }
}

/// One target in detail.
#[must_use]
pub fn target(known: Known<'_>, paint: Paint) -> String {
    let Known { state, policy, commands, brakes, now } = known;
    let mut text = format!("{}  {}\n\n", paint.strong(&state.target.to_string()), headline(state));
    let mut line = |name: &str, words: &str| {
        let head = format!("  {} ", paint.faint(&format!("{name:<10}")));
        text.push_str(&format!("{}\n", beside(&head, 13, &with_short_names(words))));
    };
    match (weights(state), &state.running) {
        (Some((weights, true)), _) => {
            let seen = state.traffic.as_ref().filter(|_| state.running.is_none() && state.at_rest.is_none());
            let seen = seen.map_or_else(String::new, |seen| format!("  seen {}", ago(seen.seen_at, now)));
            line("traffic", &format!("{}{seen}", bar(weights, paint)));
        }
        (Some((weights, false)), _) => line("traffic", &format!("{}  not verified live yet", bar(weights, paint))),
        (None, running) => match traffic(state, now) {
            Some(words) => line("traffic", &words),
            None if running.is_some() => line("traffic", "not read yet"),
            None => {}
        },
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
            line(if index == 0 { "waiting" } else { "" }, &format!("for {}", waiting(on, now)));
        }
        for (name, words) in at_gates(running, now) {
            line(name, &words);
        }
        if let Some(halt) = &running.halted {
            line("halted", &halt.reason);
        }
        if let Some(trouble) = &running.trouble {
            line("failing", &format!("{} failed {} times in a row: {}", trouble.effect, trouble.times, trouble.reason));
        }
        let deadline = running.frozen.as_ref().map_or(running.stage.deadline(), |frozen| frozen.deadline);
        if stands_still(state) {
            line("deadline", "paused: rollouts are stopped (stop-the-line)");
        } else {
            line("deadline", &format!("{} ({})", instant(deadline), until(deadline, now)));
        }
        line("started", &format!("{} by {}", ago(running.started_at, now), who(&running.actor.to_string())));
        if !running.reason.is_empty() {
            line("why", &running.reason);
        }
        for words in terms(running) {
            line("", &words);
        }
    }
    if nothing_touched(state)
        && let Some(stable) = &state.stable
    {
        let release = stable.release.as_ref().map_or(BEFORE_SWITCHBACK, |release| &release.tag);
        let since = lasts(Seconds::between(stable.since, now));
        line("stable", &format!("{release} on {}, for {since}", stable.slot));
        match state.previous.as_ref().map(|previous| (previous.slot, &previous.release)) {
            Some((slot, Some(release))) => {
                line("previous", &format!("{} on {slot}: a rollback deploys it", release.tag))
            }
            Some((slot, None)) => {
                line("previous", &format!("{BEFORE_SWITCHBACK}, on {slot}: a rollback cannot name it, deploy by tag"));
            }
            None => {}
        }
    }
    if let Some(seen) = state.at_rest.as_ref().filter(|_| state.running.is_none()) {
        line("seen", &ago(seen.seen_at, now));
        if let Some(drift) = &seen.drift {
            line("changed", &changed(drift, now));
        }
    }
    for (place, queued) in state.queued.iter().enumerate() {
        let by = who(&queued.actor.to_string());
        let name = if place == 0 { "queued" } else { "" };
        line(name, &format!("{}, requested {} by {by}", queued.release.tag, ago(queued.at, now)));
    }
    for command in commands {
        let by = who(&command.actor.to_string());
        line("pending", &format!("{}, {} by {by}", instruction(command), ago(command.at, now)));
    }
    if let Some(verified) = verified(state, now) {
        line("verified", &verified);
    }
    if let Some(frozen) = &state.frozen {
        let (since, number, reason) = (ago(frozen.since, now), frozen.deployment, &frozen.reason);
        line("frozen", &format!("by deployment #{number}, {since}: {reason}. Resume with `switchback resume`"));
    }
    if let Some(hold) = &state.promotion_hold {
        let (since, by, reason) = (ago(hold.since, now), who(&hold.actor.to_string()), &hold.reason);
        let ends = "Resume with `switchback promote`, or `deploy` of a release that is not older";
        line("held", &format!("automatic promotion, {since} by {by}: {reason}. {ends}"));
    }
    for on in brakes {
        line("brake", &brake(on, now));
    }
    match policy {
        Some((version, trigger)) => line("policy", &format!("version {version}, {}", trigger_words(trigger))),
        None => line("policy", "no applied policy names this target"),
    }
    text
}

/// What somebody changed while nothing was deployed, and who, in words.
pub(crate) fn changed(drift: &DriftSeen, now: Timestamp) -> String {
    let by = drift.by.as_ref().map(|call| format!(" by {}", caller(call))).unwrap_or_default();
    format!("{}{by}: {}", ago(drift.since, now), drift.reason)
}

/// Whether what runs widens no further, because the line is stopped.
pub(crate) fn stands_still(state: &TargetState) -> bool {
    let stopped = |on: &WaitingOn| matches!(on, WaitingOn::Gate { gate: Gate::StopTheLine, .. });
    !nothing_touched(state) && state.explanation.waiting_on.iter().any(stopped)
}

/// Whether what is stable tells how the target is: nothing runs, or what runs waits and has touched nothing.
fn nothing_touched(state: &TargetState) -> bool {
    state.running.as_ref().is_none_or(|running| matches!(running.stage, Stage::Gated { .. }))
}

/// What was said at the gates that a deployment still waits at.
fn at_gates(running: &Deployment, now: Timestamp) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let Some(gates) = running.gates.as_ref().filter(|_| matches!(running.stage, Stage::Gated { .. })) else {
        return lines;
    };
    let asked = gates
        .asked_at
        .map_or("approval not requested yet".to_owned(), |at| format!("approval requested {}", ago(at, now)));
    if gates.asked_at.is_some() {
        lines.push(("plan", format!("{}; {asked}", gates.plan.0)));
    }
    for vote in &gates.votes {
        let door = who(&vote.actor.to_string());
        let door = if door == vote.person.as_str() { String::new() } else { format!(" ({door})") };
        lines.push(("approved", format!("by {}{door}, {}", vote.person, ago(vote.at, now))));
    }
    for (gate, by) in &gates.overridden {
        lines.push(("opened", format!("{gate}, {} by {}: {}", ago(by.at, now), who(&by.actor.to_string()), by.reason)));
    }
    lines
}

/// What is special about the way a deployment came, or goes.
pub(crate) fn terms(running: &Deployment) -> Vec<String> {
    let mut told = Vec::new();
    match &running.terms.lane {
        Lane::Asked => {}
        Lane::Automatic { from } => told.push(format!("promoted automatically from {from}")),
        Lane::Hotfix => {
            let skipped: Vec<_> = running.gates.iter().flat_map(|gates| &gates.skipped).collect();
            told.push(format!(
                "hotfix: passes {}",
                if skipped.is_empty() { "no gate".to_owned() } else { names(&skipped) }
            ));
        }
    }
    if is_forward_only(running) {
        told.push("forward-only: once traffic has moved, trouble freezes it and a person decides".to_owned());
    }
    if let Some(train) = &running.terms.train {
        let members: Vec<_> = train.members.keys().collect();
        let how = if train.together { "rolls back together" } else { "each rolls back alone" };
        told.push(format!("release train of {}: {how}", names(&members)));
    }
    told
}

/// Whether whoever asked for it said so, or a hook has begun that says so.
pub(crate) fn is_forward_only(running: &Deployment) -> bool {
    let begun = |hook: &Hook| hook.forward_only && running.hooks.contains_key(hook.name.as_str());
    running.terms.forward_only || running.policy.hooks.iter().any(begun)
}

/// How many verified releases are told of.
const MOST_VERIFIED: usize = 3;

/// The releases that may be promoted from here, the newest first.
fn verified(state: &TargetState, now: Timestamp) -> Option<String> {
    let newest: Vec<_> = state.verified.iter().rev().collect();
    let told: Vec<String> = newest
        .iter()
        .take(MOST_VERIFIED)
        .map(|verified| format!("{} ({})", verified.release.tag, ago(verified.at, now)))
        .collect();
    let more = match newest.len().saturating_sub(MOST_VERIFIED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!told.is_empty()).then(|| format!("{}{more}", told.join(", ")))
}

/// What goes on, in a few words.
#[must_use]
pub fn headline(state: &TargetState) -> String {
    match &state.running {
        Some(running) if running.frozen.is_some() => {
            format!("deployment #{}: {}, frozen until a person decides", running.number, purpose(running))
        }
        Some(running) => format!("deployment #{}: {}", running.number, purpose(running)),
        None if drifted(state).is_some_and(|drift| drift.moves_traffic) => {
            "drift: traffic was moved outside Switchback; `switchback rollback` moves it back".to_owned()
        }
        None if drifted(state).is_some() => "idle, with drift".to_owned(),
        None if state.drift().is_some() => {
            let stable = state.stable.as_ref().map(|stable| stable.slot.to_string()).unwrap_or_default();
            format!("not all traffic is on {stable}, the stable side: `switchback rollback` moves it there")
        }
        None if state.frozen.is_some() => "frozen: nothing starts until somebody resumes it".to_owned(),
        None => "idle".to_owned(),
    }
}

/// What somebody changed while nothing is deployed.
pub(crate) fn drifted(state: &TargetState) -> Option<&DriftSeen> {
    state.at_rest.as_ref().filter(|_| state.running.is_none())?.drift.as_ref()
}

fn purpose(running: &Deployment) -> String {
    match running.purpose {
        Purpose::Deploy if running.terms.lane == Lane::Hotfix => format!("{} (hotfix)", running.release.tag),
        Purpose::Deploy => running.release.tag.clone(),
        Purpose::Rollback => format!("rollback to {}", running.release.tag),
        Purpose::Repair => format!("repair: all traffic to {}", running.release.tag),
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
        Stage::RollingBack { cause, .. } => format!("{words}: {}", with_short_names(&cause.sentence())),
        Stage::LettingGo { reason, .. } => format!("{words}: {reason}"),
        _ => words,
    }
}

/// The weights that all rules were last seen to have, and `true`; or those that were written and are not seen yet, and
/// `false`. None: nothing was read yet, or the rules do not agree.
#[must_use]
pub fn weights(state: &TargetState) -> Option<(Weights, bool)> {
    if let Some(at_rest) = &state.at_rest {
        return at_rest.weights.map(|weights| (weights, true));
    }
    let seen = state.traffic.as_ref().and_then(|traffic| {
        let first = traffic.rules.first().copied().flatten()?;
        traffic.rules.iter().all(|weights| weights.is_some_and(|it| it.same_split(first))).then_some(first)
    });
    let written = state.running.as_ref().and_then(|running| running.weights);
    match (seen, written) {
        (Some(seen), Some(written)) if !written.verified && seen.same_split(written.before) => {
            Some((written.decided, false))
        }
        (None, Some(written)) if !written.verified => Some((written.decided, false)),
        (Some(seen), _) => Some((seen, true)),
        (None, _) => None,
    }
}

/// Where traffic goes, in words, with the time at which that was seen; none where it never was.
pub(crate) fn traffic(state: &TargetState, now: Timestamp) -> Option<String> {
    let known = weights(state);
    if let Some((weights, false)) = known {
        return Some(format!("{}, written, not seen live yet", split(weights)));
    }
    if let (None, Some(at_rest)) = (known, &state.at_rest) {
        return Some(format!("the rules differ or could not be read, {}", ago(at_rest.seen_at, now)));
    }
    let seen = state.traffic.as_ref()?;
    let words = match known {
        Some((weights, _)) => split(weights),
        None => {
            let rule = |(index, weights): (usize, &Option<Weights>)| {
                let words = weights.map_or_else(|| "could not be read".to_owned(), split);
                format!("rule {}: {words}", index + 1)
            };
            seen.rules.iter().enumerate().map(rule).collect::<Vec<_>>().join("; ")
        }
    };
    let nothing_runs = state.running.is_none();
    let at = state.at_rest.as_ref().map_or(seen.seen_at, |at_rest| at_rest.seen_at);
    Some(if nothing_runs { format!("{words}, seen {}", ago(at, now)) } else { format!("{words}, seen live") })
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
        Instruction::Deploy { tag, terms, .. } => match &terms.lane {
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
        Instruction::StopTrain { service, .. } => format!("stop its train, since {service} did not make it"),
        Instruction::NameRelease { tag, .. } => format!("show its release as {tag}"),
        Instruction::NoteRefusal { what } => format!("note that {what} was refused"),
    }
}
