//! The live page: one HTML text that needs nothing else, and the data that it polls.
//!
//! All words are made here; the page's script only lays them out.

#[cfg(test)]
mod tests;

use crate::brake::scope;
use crate::journal::{Tone, capitalised, sentence, stage_words, verdict_words};
use crate::people::{who, with_short_names};
use crate::waiting::waiting;
use crate::when::{ago, left};
use jiff::Timestamp;
use rollout::brake::Scope;
use rollout::journal::JournalEntry;
use rollout::snapshot::Weights;
use rollout::stage::{Stage, Verdict};
use rollout::target::{Deployment, TargetState, WaitingOn};
use rollout::{Brake, Gate};
use serde::Serialize;

/// The page. It polls [`DATA_PATH`] on the server that it came from, twice a second.
pub const PAGE: &str = include_str!("page.html");

/// Where the page looks for its [`PageData`], as JSON.
pub const DATA_PATH: &str = "/data.json";

/// What may run in the page and where it may reach: the value of its `Content-Security-Policy` header.
pub const PAGE_CSP: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
     connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// All that the page shows.
#[derive(Debug, Clone, Serialize)]
pub struct PageData {
    /// `application/service/environment`
    pub target: String,
    /// What is going on, in a sentence.
    pub headline: String,
    /// How the headline is meant.
    pub tone: Tone,
    /// Milliseconds since the story began.
    pub elapsed_ms: u64,
    /// Blue, then green.
    pub sides: [SideCard; 2],
    /// Where the deployment is; empty before the first.
    pub track: Vec<Stop>,
    /// What the track is of: `v2 · deployment 1`.
    pub track_title: String,
    /// What is waited for, the most telling first; gates have lines of their own.
    pub waiting: Vec<String>,
    /// The gates that the deployment waits at, and those that were passed by on somebody's word.
    pub gates: Vec<GateLine>,
    /// What holds the target: freezes, the stopped line, held promotion.
    pub holds: Vec<HoldLine>,
    /// The newest entries first.
    pub journal: Vec<JournalLine>,
    /// The alarms that are watched.
    pub alarms: Vec<AlarmLine>,
    /// Requests, second by second.
    pub traffic: Traffic,
    /// Numbers worth a tile of their own.
    pub counters: Vec<Counter>,
    /// The story's chapters.
    pub chapters: Vec<Chapter>,
}

/// One side of the pair.
#[derive(Debug, Clone, Serialize)]
pub struct SideCard {
    /// `blue` or `green`.
    pub slot: &'static str,
    /// The release's tag; empty where nothing runs.
    pub release: String,
    /// Share of the traffic, 0 to 100, by the live weights.
    pub share: u8,
    /// `stable`, `candidate`, or empty.
    pub role: &'static str,
    /// The state of each task: `healthy`, `starting`, `unhealthy`, `draining`.
    pub tasks: Vec<&'static str>,
    /// Requests in the last whole second.
    pub requests_per_second: u64,
    /// 5xx among them.
    pub errors_per_second: u64,
}

/// One stop on a deployment's way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stop {
    /// Its name, in a word or two.
    pub name: String,
    /// How far it is.
    pub state: StopState,
}

/// One gate of a deployment that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GateLine {
    /// Its name, as the policy has it.
    pub gate: &'static str,
    /// How it is.
    pub state: GateLineState,
    /// What it waits for, or who opened it and why.
    pub text: String,
    /// People who were asked, and whether they said yes.
    pub people: Vec<Asked>,
}

/// How a gate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GateLineState {
    /// It keeps the deployment waiting.
    Waits,
    /// It waits for people.
    Asks,
    /// Somebody opened it by hand.
    Opened,
    /// A hotfix is not asked there.
    Skipped,
}

/// Somebody who was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// By the policy's name.
    pub name: String,
    /// They said yes.
    pub yes: bool,
}

/// Something that holds the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HoldLine {
    /// In a word or two.
    pub title: &'static str,
    /// By whom, since when, why.
    pub text: String,
    /// How it is meant.
    pub tone: Tone,
}

/// How far a stop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopState {
    /// Behind.
    Done,
    /// Here.
    Now,
    /// Ahead.
    Ahead,
    /// It was here that the deployment turned back.
    Turned,
    /// It will not be reached.
    Skipped,
}

/// One line of the journal.
#[derive(Debug, Clone, Serialize)]
pub struct JournalLine {
    /// The entry's sequence.
    pub sequence: u64,
    /// Milliseconds since the story began.
    pub at_ms: i64,
    /// How it is meant.
    pub tone: Tone,
    /// In words.
    pub text: String,
    /// Who caused it.
    pub actor: String,
}

/// One alarm.
#[derive(Debug, Clone, Serialize)]
pub struct AlarmLine {
    /// Its name.
    pub name: String,
    /// `OK`, `ALARM` or `INSUFFICIENT_DATA`.
    pub state: &'static str,
    /// What it watches, or why it is in that state.
    pub detail: String,
}

/// Requests by second, oldest first; all lists are of one length.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Traffic {
    /// Answers of blue, errors included.
    pub blue: Vec<u64>,
    /// Answers of green, errors included.
    pub green: Vec<u64>,
    /// Errors of either, and requests without any answer.
    pub errors: Vec<u64>,
}

/// A number worth a tile.
#[derive(Debug, Clone, Serialize)]
pub struct Counter {
    /// What it counts.
    pub name: &'static str,
    /// The number, with its unit.
    pub value: String,
    /// How it is meant.
    pub tone: Tone,
}

/// A chapter of the story.
#[derive(Debug, Clone, Serialize)]
pub struct Chapter {
    /// What it shows.
    pub name: String,
    /// How it ended, or that it has not: `waiting`, `running`, a verdict in words.
    pub outcome: String,
    /// How that is meant.
    pub tone: Tone,
}

impl JournalLine {
    /// An entry in words, its time counted from `start_ms` (milliseconds since 1970).
    #[must_use]
    pub fn of(entry: &JournalEntry, start_ms: i64) -> Self {
        let (tone, text) = sentence(&entry.fact);
        Self {
            sequence: entry.sequence,
            at_ms: entry.at.as_millisecond() - start_ms,
            tone,
            text,
            actor: who(&entry.actor.to_string()),
        }
    }
}

/// The gates that a target's deployment waits at, then those that somebody opened, then those that it goes past.
#[must_use]
pub fn gates(state: &TargetState, now: Timestamp) -> Vec<GateLine> {
    let Some(running) = state.running.as_ref().filter(|running| matches!(running.stage, Stage::Gated { .. })) else {
        return Vec::new();
    };
    let nobody = Vec::new;
    let waits = state.explanation.waiting_on.iter().filter_map(|on| match on {
        WaitingOn::Gate { gate, reason, until, .. } => {
            let opens = until.map_or_else(String::new, |until| format!(" · opens in {}", left(until, now)));
            let (gate, text) = (gate.name(), with_short_names(&format!("{reason}{opens}")));
            Some(GateLine { gate, state: GateLineState::Waits, text, people: nobody() })
        }
        WaitingOn::Approval { plan, approved, required, may, expires_at } => {
            let (has, left) = (approved.len(), left(*expires_at, now));
            let yes = approved.iter().map(|name| Asked { name: name.to_string(), yes: true });
            let open = may.iter().map(|name| Asked { name: name.to_string(), yes: false });
            Some(GateLine {
                gate: Gate::Approval.name(),
                state: GateLineState::Asks,
                text: format!("{has} of {required} approved · expires in {left} · plan {}", plan.0),
                people: yes.chain(open).collect(),
            })
        }
        _ => None,
    });
    let said = running.gates.iter();
    let opened = said.clone().flat_map(|gates| &gates.overridden).map(|(gate, by)| GateLine {
        gate: gate.name(),
        state: GateLineState::Opened,
        text: format!("overridden by {}: {}", who(&by.actor.to_string()), by.reason),
        people: nobody(),
    });
    let skipped = said.flat_map(|gates| &gates.skipped).map(|gate| GateLine {
        gate: gate.name(),
        state: GateLineState::Skipped,
        text: "passed: hotfix".to_owned(),
        people: nobody(),
    });
    waits.chain(opened).chain(skipped).collect()
}

/// What holds a target.
#[must_use]
pub fn holds(state: &TargetState, brakes: &[Brake], now: Timestamp) -> Vec<HoldLine> {
    let on = brakes.iter().filter(|on| on.holds(&state.target, now)).map(|on| {
        let (title, what) = match &on.scope {
            Scope::Everything => ("Rollouts are stopped", on.reason.clone()),
            other => ("Frozen", format!("{}: {}", scope(other), on.reason)),
        };
        let end = on.until.map_or("until somebody lifts it".to_owned(), |until| format!("{} left", left(until, now)));
        let text = format!("{what} · by {} {}, {end}", who(&on.by.to_string()), ago(on.since, now));
        HoldLine { title, text, tone: Tone::Warning }
    });
    let decide = state.running.as_ref().and_then(|running| running.frozen.as_ref()).map(|frozen| {
        let (why, since) = (frozen.cause.sentence(), ago(frozen.since, now));
        let text = format!("{} · {since}; ends as it is in {}", why.trim_end_matches('.'), left(frozen.deadline, now));
        HoldLine { title: "A person has to decide", text, tone: Tone::Bad }
    });
    let frozen = state.frozen.as_ref().map(|frozen| {
        let (why, number, since) = (&frozen.reason, frozen.deployment, ago(frozen.since, now));
        let text = format!("{why} · by deployment #{number}, {since}");
        HoldLine { title: "Frozen until somebody resumes it", text, tone: Tone::Bad }
    });
    let held = state.promotion_hold.as_ref().map(|hold| {
        let text = format!("{} · by {} {}", hold.reason, who(&hold.actor.to_string()), ago(hold.since, now));
        HoldLine { title: "Automatic promotion is on hold", text, tone: Tone::Warning }
    });
    let all = decide.into_iter().chain(frozen).chain(on).chain(held);
    all.map(|line| HoldLine { text: with_short_names(&line.text), ..line }).collect()
}

/// What is waited for, in words, but for gates: they have lines of their own.
#[must_use]
pub fn waits(state: &TargetState, now: Timestamp) -> Vec<String> {
    let running = state.running.iter().flat_map(|_| &state.explanation.waiting_on);
    let others = running.filter(|on| !matches!(on, WaitingOn::Gate { .. } | WaitingOn::Approval { .. }));
    others.map(|on| waiting(on, now)).collect()
}

/// The share of blue's weight, 0 to 100; 0 where there are no weights at all.
#[must_use]
pub fn share_of_blue(weights: Weights) -> u8 {
    let total = u32::from(weights.blue) + u32::from(weights.green);
    let share = (u32::from(weights.blue) * 100 + total / 2).checked_div(total).unwrap_or(0);
    u8::try_from(share).unwrap_or(100)
}

/// A deployment's stops: those behind, the one it is at, and those ahead.
///
/// `ended` is the verdict of a deployment that is over; `furthest` is the stop, counted from 0, that it had come to
/// before it turned back (see [`position`]).
#[must_use]
pub fn track(deployment: &Deployment, ended: Option<Verdict>, furthest: usize) -> Vec<Stop> {
    let names = stop_names(deployment);
    let here = position(deployment);
    let mut stops: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let state = match (ended, here) {
                (Some(Verdict::Succeeded), _) => StopState::Done,
                (Some(_), _) | (None, None) => match index.cmp(&furthest) {
                    std::cmp::Ordering::Less => StopState::Done,
                    std::cmp::Ordering::Equal => StopState::Turned,
                    std::cmp::Ordering::Greater => StopState::Skipped,
                },
                (None, Some(here)) => match index.cmp(&here) {
                    std::cmp::Ordering::Less => StopState::Done,
                    std::cmp::Ordering::Equal => StopState::Now,
                    std::cmp::Ordering::Greater => StopState::Ahead,
                },
            };
            Stop { name: name.clone(), state }
        })
        .collect();
    // The way back branches off where the deployment turned.
    let back = match (ended, &deployment.stage) {
        (Some(Verdict::Succeeded), _) => None,
        (Some(verdict), _) if !deployment.traffic_moved => {
            Some(Stop { name: capitalised(verdict_words(verdict)), state: StopState::Done })
        }
        (Some(_), _) => Some(Stop { name: "Rolled back".to_owned(), state: StopState::Done }),
        (None, stage @ (Stage::RollingBack { .. } | Stage::LettingGo { .. })) => {
            Some(Stop { name: stage_words(stage.name()), state: StopState::Now })
        }
        (None, _) => None,
    };
    if let Some(back) = back {
        stops.insert(stops.len().min(furthest + 1), back);
    }
    stops
}

/// The index of the stop that a deployment is at among its track's stops; none while switching back.
#[must_use]
pub fn position(deployment: &Deployment) -> Option<usize> {
    let (gates, stops) = (gate_stops(deployment), stop_count(deployment));
    // From the front: Gates where there are any, Prepare, Start, the steps; from the back: Retire, Keep warm, Bake.
    Some(match &deployment.stage {
        Stage::Gated { .. } => 0,
        Stage::Preflight { .. } | Stage::Registering { .. } | Stage::BeforeTraffic { .. } => gates,
        Stage::Scaling { .. } | Stage::Testing { .. } => gates + 1,
        Stage::Shifting { step, .. } => gates + 2 + step,
        Stage::AfterTraffic { .. } | Stage::Baking { .. } => stops.saturating_sub(3),
        Stage::KeepingWarm { .. } => stops.saturating_sub(2),
        Stage::Retiring { .. } => stops.saturating_sub(1),
        Stage::RollingBack { .. } | Stage::LettingGo { .. } => return None,
    })
}

/// How many stops a deployment's track has.
fn stop_count(deployment: &Deployment) -> usize {
    gate_stops(deployment) + deployment.policy.strategy.steps.len() + 5
}

/// How many of them stand for its gates: one, where there was anything to wait for.
fn gate_stops(deployment: &Deployment) -> usize {
    let said = deployment.gates.as_ref().is_some_and(|gates| gates.asked_at.is_some() || !gates.overridden.is_empty());
    usize::from(said || matches!(deployment.stage, Stage::Gated { .. }))
}

fn stop_names(deployment: &Deployment) -> Vec<String> {
    let steps = deployment.policy.strategy.steps.iter().map(|step| format!("{} %", step.traffic.value()));
    let gates = (gate_stops(deployment) > 0).then_some("Gates");
    gates
        .into_iter()
        .chain(["Prepare", "Start tasks"])
        .map(str::to_owned)
        .chain(steps)
        .chain(["Bake", "Keep warm", "Retire"].map(str::to_owned))
        .collect()
}
