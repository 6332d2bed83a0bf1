//! The live page: a self-contained HTML document, and the data that it polls.
//!
//! All text is generated here; the page's script only lays it out.

#[cfg(test)]
mod tests;

use crate::brake::scope;
use crate::journal::{Tone, capitalised, sentence, stage_words, verdict_words};
use crate::people::{display_name, with_short_names};
use crate::time_format::{ago, time_left};
use crate::waiting::waiting;
use jiff::Timestamp;
use rollout::brake::Scope;
use rollout::deployment::Deployment;
use rollout::explanation::WaitingOn;
use rollout::journal::JournalEntry;
use rollout::snapshot::Weights;
use rollout::stage::Stage;
use rollout::target::TargetState;
use rollout::verdict::Verdict;
use rollout::{Brake, Gate, Way};
use serde::Serialize;

/// The page. It polls [`DATA_PATH`] on its own origin twice a second.
pub const PAGE: &str = include_str!("page.html");

/// URL path of the page's [`PageData`], as JSON.
pub const DATA_PATH: &str = "/data.json";

/// Value of the page's `Content-Security-Policy` header.
pub const PAGE_CSP: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
     connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// All data that the page shows.
#[derive(Debug, Clone, Serialize)]
pub struct PageData {
    /// `application/service/environment`
    pub target: String,
    /// Current activity, in a sentence.
    pub headline: String,
    /// Tone of the headline.
    pub tone: Tone,
    /// Milliseconds since the demo began.
    pub elapsed_ms: u64,
    /// Blue, then green.
    pub sides: [SideCard; 2],
    /// Stages of the deployment; empty before the first deployment.
    pub track: Vec<TrackStop>,
    /// Title of the track: `v2 · deployment 1`.
    pub track_title: String,
    /// Current waits, the most relevant first; gates are listed separately.
    pub waiting: Vec<String>,
    /// Gates that the deployment waits at, and gates that were overridden or skipped.
    pub gates: Vec<GateLine>,
    /// What holds the target: freezes, stop-the-line, automatic promotion on hold.
    pub holds: Vec<HoldLine>,
    /// Journal entries, newest first.
    pub journal: Vec<JournalLine>,
    /// The watched alarms.
    pub alarms: Vec<AlarmLine>,
    /// Requests per second over time.
    pub traffic: TrafficSeries,
    /// Figures shown as tiles.
    pub counters: Vec<Counter>,
    /// Chapters of the demo.
    pub chapters: Vec<Chapter>,
}

/// One side of the pair.
#[derive(Debug, Clone, Serialize)]
pub struct SideCard {
    /// `blue` or `green`.
    pub slot: &'static str,
    /// The release's tag; empty if no release runs.
    pub release: String,
    /// Share of the traffic by the live weights, 0 to 100.
    pub share: u8,
    /// `stable`, `candidate`, or empty.
    pub role: &'static str,
    /// The state of each task: `healthy`, `starting`, `unhealthy`, `draining`.
    pub tasks: Vec<&'static str>,
    /// Requests in the last complete second.
    pub requests_per_second: u64,
    /// 5xx responses among them.
    pub errors_per_second: u64,
}

/// One stop on a deployment's track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrackStop {
    /// Name of the stage, in one or two words.
    pub name: String,
    /// Progress of the stop.
    pub state: StopState,
}

/// One gate of a waiting deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GateLine {
    /// Name as in the policy.
    pub gate: &'static str,
    /// Current state.
    pub state: GateLineState,
    /// What the gate waits for, or who overrode it and why.
    pub text: String,
    /// The approvers, and whether each has approved.
    pub people: Vec<Approver>,
}

/// State of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GateLineState {
    /// The gate is closed.
    Waits,
    /// The gate waits for approvals.
    Asks,
    /// A person overrode the gate.
    Opened,
    /// A hotfix skips the gate.
    Skipped,
}

/// One approver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Approver {
    /// Name as in the policy.
    pub name: String,
    /// The person has approved.
    pub yes: bool,
}

/// One reason why the target is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HoldLine {
    /// In one or two words.
    pub title: &'static str,
    /// Who set it, since when, and why.
    pub text: String,
    /// Tone of the line.
    pub tone: Tone,
}

/// Progress of a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopState {
    /// Completed.
    Done,
    /// In progress.
    Now,
    /// Not reached yet.
    Ahead,
    /// The rollback started here.
    Turned,
    /// Will not be reached.
    Skipped,
}

/// One line of the journal.
#[derive(Debug, Clone, Serialize)]
pub struct JournalLine {
    /// The entry's sequence.
    pub sequence: u64,
    /// Milliseconds since the demo began.
    pub at_ms: i64,
    /// Tone of the line.
    pub tone: Tone,
    /// The entry as a sentence.
    pub text: String,
    /// Actor of the entry.
    pub actor: String,
}

/// One watched alarm.
#[derive(Debug, Clone, Serialize)]
pub struct AlarmLine {
    /// Name of the alarm.
    pub name: String,
    /// `OK`, `ALARM` or `INSUFFICIENT_DATA`.
    pub state: &'static str,
    /// What it watches, or the reason of its state.
    pub detail: String,
}

/// Requests per second, oldest first; all lists have the same length.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TrafficSeries {
    /// Responses of blue, errors included.
    pub blue: Vec<u64>,
    /// Responses of green, errors included.
    pub green: Vec<u64>,
    /// Errors of both sides, and requests without a response.
    pub errors: Vec<u64>,
}

/// A figure shown as a tile.
#[derive(Debug, Clone, Serialize)]
pub struct Counter {
    /// Label of the figure.
    pub name: &'static str,
    /// Value with unit.
    pub value: String,
    /// Tone of the figure.
    pub tone: Tone,
}

/// A chapter of the demo.
#[derive(Debug, Clone, Serialize)]
pub struct Chapter {
    /// Title of the chapter.
    pub name: String,
    /// `waiting`, `running`, or the verdict in words.
    pub outcome: String,
    /// Tone of the outcome.
    pub tone: Tone,
}

impl JournalLine {
    /// A journal entry as a line; `start_ms` is the start of the demo in milliseconds since 1970.
    #[must_use]
    pub fn of(entry: &JournalEntry, start_ms: i64) -> Self {
        let (tone, text) = sentence(&entry.fact);
        Self {
            sequence: entry.sequence,
            at_ms: entry.at.as_millisecond() - start_ms,
            tone,
            text,
            actor: display_name(&entry.actor.to_string()),
        }
    }
}

/// The gates that a target's deployment waits at, then the overridden ones, then the skipped ones.
#[must_use]
pub fn gates(state: &TargetState, now: Timestamp) -> Vec<GateLine> {
    let Some(running) = state.running.as_ref().filter(|running| running.stage() == Stage::Gated) else {
        return Vec::new();
    };
    let nobody = Vec::new;
    let waits = state.explanation.waiting_on.iter().filter_map(|on| match on {
        WaitingOn::Gate { gate, reason, until, .. } => {
            let opens = until.map_or_else(String::new, |until| format!(" · opens in {}", time_left(until, now)));
            let (gate, text) = (gate.name(), with_short_names(&format!("{reason}{opens}")));
            Some(GateLine { gate, state: GateLineState::Waits, text, people: nobody() })
        }
        WaitingOn::Approval { plan, approved, required, eligible, expires_at } => {
            let (has, time_left) = (approved.len(), time_left(*expires_at, now));
            let yes = approved.iter().map(|name| Approver { name: name.to_string(), yes: true });
            let open = eligible.iter().map(|name| Approver { name: name.to_string(), yes: false });
            Some(GateLine {
                gate: Gate::Approval.name(),
                state: GateLineState::Asks,
                text: format!("{has} of {required} approved · expires in {time_left} · plan {}", plan.0),
                people: yes.chain(open).collect(),
            })
        }
        _ => None,
    });
    let progress = running.gates.iter();
    let opened = progress.clone().flat_map(|gates| &gates.overridden).map(|(gate, by)| GateLine {
        gate: gate.name(),
        state: GateLineState::Opened,
        text: format!("overridden by {}: {}", display_name(&by.actor.to_string()), by.reason),
        people: nobody(),
    });
    let skipped = progress.flat_map(|gates| &gates.skipped).map(|gate| GateLine {
        gate: gate.name(),
        state: GateLineState::Skipped,
        text: "passed: hotfix".to_owned(),
        people: nobody(),
    });
    waits.chain(opened).chain(skipped).collect()
}

/// Everything that holds a target.
#[must_use]
pub fn holds(state: &TargetState, brakes: &[Brake], now: Timestamp) -> Vec<HoldLine> {
    let active_brakes = brakes.iter().filter(|on| on.holds(&state.target, now)).map(|on| {
        let (title, what) = match &on.scope {
            Scope::Everything => ("Rollouts are stopped", on.reason.clone()),
            other => ("Frozen", format!("{}: {}", scope(other), on.reason)),
        };
        let end =
            on.until.map_or("until somebody lifts it".to_owned(), |until| format!("{} left", time_left(until, now)));
        let text = format!("{what} · by {} {}, {end}", display_name(&on.by.to_string()), ago(on.since, now));
        HoldLine { title, text, tone: Tone::Warning }
    });
    let awaiting_operator = state.running.as_ref().and_then(|running| running.awaiting_operator()).map(|awaiting| {
        let (why, since) = (awaiting.cause.summary(), ago(awaiting.since, now));
        let text =
            format!("{} · {since}; ends as it is in {}", why.trim_end_matches('.'), time_left(awaiting.deadline, now));
        HoldLine { title: "A person has to decide", text, tone: Tone::Bad }
    });
    let operator_hold = state.operator_hold.as_ref().map(|hold| {
        let (why, number, since) = (&hold.reason, hold.deployment, ago(hold.since, now));
        let text = format!("{why} · by deployment #{number}, {since}");
        HoldLine { title: "On hold until an operator resumes it", text, tone: Tone::Bad }
    });
    let promotion_hold = state.promotion_hold.as_ref().map(|hold| {
        let text = format!("{} · by {} {}", hold.reason, display_name(&hold.actor.to_string()), ago(hold.since, now));
        HoldLine { title: "Automatic promotion is on hold", text, tone: Tone::Warning }
    });
    let all = awaiting_operator.into_iter().chain(operator_hold).chain(active_brakes).chain(promotion_hold);
    all.map(|line| HoldLine { text: with_short_names(&line.text), ..line }).collect()
}

/// Current waits except gates, which are listed separately.
#[must_use]
pub fn waits(state: &TargetState, now: Timestamp) -> Vec<String> {
    let running = state.running.iter().flat_map(|_| &state.explanation.waiting_on);
    let others = running.filter(|on| !matches!(on, WaitingOn::Gate { .. } | WaitingOn::Approval { .. }));
    others.map(|on| waiting(on, now)).collect()
}

/// Blue's share of the weights, 0 to 100; 0 if all weights are 0.
#[must_use]
pub fn blue_percent(weights: Weights) -> u8 {
    let total = u32::from(weights.blue) + u32::from(weights.green);
    let share = (u32::from(weights.blue) * 100 + total / 2).checked_div(total).unwrap_or(0);
    u8::try_from(share).unwrap_or(100)
}

/// A deployment's stops: completed ones, the current one, and those ahead.
///
/// `ended` is the verdict of a finished deployment; `furthest_stop` is the index of the stop that it had reached when
/// it rolled back (see [`position`]).
#[must_use]
pub fn track(deployment: &Deployment, ended: Option<Verdict>, furthest_stop: usize) -> Vec<TrackStop> {
    let names = stop_names(deployment);
    let current = position(deployment);
    let mut stops: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let state = match (ended, current) {
                (Some(Verdict::Succeeded), _) => StopState::Done,
                (Some(_), _) | (None, None) => match index.cmp(&furthest_stop) {
                    std::cmp::Ordering::Less => StopState::Done,
                    std::cmp::Ordering::Equal => StopState::Turned,
                    std::cmp::Ordering::Greater => StopState::Skipped,
                },
                (None, Some(current)) => match index.cmp(&current) {
                    std::cmp::Ordering::Less => StopState::Done,
                    std::cmp::Ordering::Equal => StopState::Now,
                    std::cmp::Ordering::Greater => StopState::Ahead,
                },
            };
            TrackStop { name: name.clone(), state }
        })
        .collect();
    // The rollback starts at the stop where the deployment turned back.
    let back = match (ended, deployment.stage()) {
        (Some(Verdict::Succeeded), _) => None,
        (Some(verdict), _) if !deployment.traffic_moved() => {
            Some(TrackStop { name: capitalised(verdict_words(verdict)), state: StopState::Done })
        }
        (Some(_), _) => Some(TrackStop { name: "Rolled back".to_owned(), state: StopState::Done }),
        (None, stage @ (Stage::RollingBack | Stage::Abandoning)) => {
            Some(TrackStop { name: stage_words(stage), state: StopState::Now })
        }
        (None, _) => None,
    };
    if let Some(back) = back {
        stops.insert(stops.len().min(furthest_stop + 1), back);
    }
    stops
}

/// Index of a deployment's current stop on its track; none during a rollback.
#[must_use]
pub fn position(deployment: &Deployment) -> Option<usize> {
    let (gates, stops) = (gate_stops(deployment), stop_count(deployment));
    let in_place = deployment.policy.resources.platform.way() == Way::InPlace;
    // Counted from the front: Gates if there are any, Prepare, Start, the steps; from the back: Retire, Keep warm,
    // Bake.
    Some(match deployment.stage() {
        Stage::Gated => 0,
        Stage::Preflight | Stage::Registering | Stage::BeforeTraffic => gates,
        Stage::Scaling | Stage::Testing | Stage::Replacing => gates + 1,
        Stage::Shifting => gates + 2 + deployment.traffic_step().unwrap_or(0),
        // In place, the bake is the last stop.
        Stage::AfterTraffic | Stage::Baking if in_place => stops.saturating_sub(1),
        Stage::AfterTraffic | Stage::Baking => stops.saturating_sub(3),
        Stage::KeepingWarm => stops.saturating_sub(2),
        Stage::Retiring => stops.saturating_sub(1),
        Stage::RollingBack | Stage::Abandoning => return None,
    })
}

/// Number of stops on a deployment's track.
fn stop_count(deployment: &Deployment) -> usize {
    gate_stops(deployment)
        + match deployment.policy.resources.platform.way() {
            Way::Weighted => deployment.policy.strategy.steps.len() + 5,
            Way::InPlace => 3,
        }
}

/// Number of stops for gates: one if the deployment has any gate, else none.
fn gate_stops(deployment: &Deployment) -> usize {
    let used =
        deployment.gates.as_ref().is_some_and(|gates| gates.requested_at.is_some() || !gates.overridden.is_empty());
    usize::from(used || deployment.stage() == Stage::Gated)
}

fn stop_names(deployment: &Deployment) -> Vec<String> {
    let steps = deployment.policy.strategy.steps.iter().map(|step| format!("{} %", step.traffic.value()));
    let gates = (gate_stops(deployment) > 0).then_some("Gates");
    if deployment.policy.resources.platform.way() == Way::InPlace {
        return gates.into_iter().chain(["Prepare", "Replace", "Bake"]).map(str::to_owned).collect();
    }
    gates
        .into_iter()
        .chain(["Prepare", "Start tasks"])
        .map(str::to_owned)
        .chain(steps)
        .chain(["Bake", "Keep warm", "Retire"].map(str::to_owned))
        .collect()
}
