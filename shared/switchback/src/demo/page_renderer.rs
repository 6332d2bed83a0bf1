//! Renders the page's data from ledger, platform and clients.

use super::platform::{AlarmCard, ProcessPlatform};
use super::tally::{Second, Tally};
use engine::{Brakes, LedgerError, Targets};
use rollout::deployment::Deployment;
use rollout::verdict::Verdict;
use rollout::{Slot, TargetId, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use view::journal::{Tone, stage_words, verdict_words};
use view::page::{
    AlarmLine, Chapter, Counter, JournalLine, PageData, SideCard, TrackStop, TrafficSeries, blue_percent, gates, holds,
    position, track, waits,
};

/// Maximum number of journal lines on the page.
const MAX_LINES: usize = 200;

/// The demo's own texts on the page.
#[derive(Debug, Clone)]
pub(crate) struct Narration {
    /// Current activity, in a sentence.
    pub(crate) headline: String,
    /// Tone of the headline.
    pub(crate) tone: Tone,
    /// Title and outcome of each chapter.
    pub(crate) chapters: Vec<Chapter>,
}

/// The deployment shown on the page: the running one, or the last one that ended.
#[derive(Debug, Clone)]
struct ShownDeployment {
    deployment: Deployment,
    furthest: usize,
    ended: Option<Verdict>,
}

/// Renders the page, and keeps state that only a sequence of polls can provide.
pub(crate) struct PageRenderer {
    target: TargetId,
    started: Timestamp,
    platform: Arc<ProcessPlatform>,
    tally: Arc<Tally>,
    narration: Mutex<Narration>,
    slots: Mutex<BTreeMap<String, Slot>>,
    shown: Mutex<Option<ShownDeployment>>,
}

/// Result of one rendering.
pub(crate) struct RenderedPage {
    /// The page's data.
    pub(crate) page: PageData,
    /// Traffic of the last complete second.
    pub(crate) last_second: Second,
    /// Stage of the running deployment in words; empty if none runs.
    pub(crate) stage: String,
}

impl PageRenderer {
    /// A renderer without any state yet.
    pub(crate) fn new(
        target: TargetId,
        started: Timestamp,
        platform: Arc<ProcessPlatform>,
        tally: Arc<Tally>,
        narration: Narration,
    ) -> Self {
        Self {
            target,
            started,
            platform,
            tally,
            narration: Mutex::new(narration),
            slots: Mutex::default(),
            shown: Mutex::default(),
        }
    }

    /// Changes the demo's own texts.
    pub(crate) fn update_narration(&self, change: impl FnOnce(&mut Narration)) {
        change(&mut lock(&self.narration));
    }

    /// The side that runs `release`, if it ever ran.
    pub(crate) fn slot_of(&self, release: &str) -> Option<Slot> {
        lock(&self.slots).get(release).copied()
    }

    /// Reads the current state and renders the page.
    ///
    /// # Errors
    /// [`LedgerError`], which the in-memory ledger does not return here.
    pub(crate) async fn render<L: Brakes + Targets>(
        &self,
        ledger: &L,
        now: Timestamp,
    ) -> Result<RenderedPage, LedgerError> {
        let state = ledger.state(&self.target).await?;
        let last = ledger.history(&self.target, 1).await?.into_iter().next();
        let entries = ledger.journal_tail(&self.target, MAX_LINES).await?;
        let brakes = ledger.brakes().await?;

        let running = state.as_ref().and_then(|state| state.running.as_ref());
        let shown = self.remember(running, last.and_then(|last| last.verdict));
        let (stops, track_title) = shown.as_ref().map(stops).unwrap_or_default();
        let stage = running.map(|running| stage_words(running.stage())).unwrap_or_default();

        let seconds = self.tally.seconds();
        let last_second = seconds.last().cloned().unwrap_or_default();
        let mut narration = lock(&self.narration).clone();
        if let Some(running) = running.filter(|running| running.stage() == rollout::Stage::RollingBack) {
            narration.headline = format!("{} is being switched back", running.release.tag);
            narration.tone = Tone::Bad;
        }
        let start_ms = self.started.as_millisecond();
        let page = PageData {
            target: self.target.to_string(),
            headline: narration.headline,
            tone: narration.tone,
            elapsed_ms: u64::try_from(now.as_millisecond() - start_ms).unwrap_or(0),
            sides: self.sides(running, &last_second),
            track: stops,
            track_title,
            waiting: state.as_ref().map_or_else(Vec::new, |state| waits(state, now)),
            gates: state.as_ref().map_or_else(Vec::new, |state| gates(state, now)),
            holds: state.as_ref().map_or_else(Vec::new, |state| holds(state, &brakes, now)),
            journal: entries.iter().rev().map(|entry| JournalLine::of(entry, start_ms)).collect(),
            alarms: self.alarms(),
            traffic: self.traffic(&seconds),
            counters: self.counters(),
            chapters: narration.chapters,
        };
        Ok(RenderedPage { page, last_second, stage })
    }

    fn remember(&self, running: Option<&Deployment>, last_verdict: Option<Verdict>) -> Option<ShownDeployment> {
        let mut shown = lock(&self.shown);
        match running {
            Some(running) => {
                let before = shown.take().filter(|shown| shown.deployment.number == running.number);
                let before = before.map_or(0, |shown| shown.furthest);
                let furthest = position(running).unwrap_or(before);
                *shown = Some(ShownDeployment { deployment: running.clone(), furthest, ended: None });
            }
            None => {
                if let Some(shown) = shown.as_mut() {
                    shown.ended = last_verdict;
                }
            }
        }
        shown.clone()
    }

    fn sides(&self, running: Option<&Deployment>, second: &Second) -> [SideCard; 2] {
        let blue = blue_percent(self.platform.weights());
        let tasks = self.platform.tasks();
        let mut slots = lock(&self.slots);
        for task in &tasks {
            slots.insert(task.release.clone(), task.slot);
        }
        [Slot::Blue, Slot::Green].map(|slot| {
            let here: Vec<_> = tasks.iter().filter(|task| task.slot == slot).collect();
            let release = here.first().map(|task| task.release.clone()).unwrap_or_default();
            let answers = second.releases.get(&release).copied().unwrap_or_default();
            let role = match running {
                Some(running) if running.candidate() == Some(slot) => "candidate",
                Some(running) if running.candidate() == Some(slot.other()) => "stable",
                _ if self.platform.weights().sole_side() == Some(slot) => "stable",
                _ => "",
            };
            SideCard {
                slot: match slot {
                    Slot::Blue => "blue",
                    Slot::Green => "green",
                },
                release,
                share: if slot == Slot::Blue { blue } else { 100 - blue },
                role,
                tasks: here.iter().map(|task| task.state).collect(),
                requests_per_second: answers.good + answers.failed,
                errors_per_second: answers.failed,
            }
        })
    }

    fn alarms(&self) -> Vec<AlarmLine> {
        let alarms = self.platform.alarms();
        let line = |(name, alarm): (String, AlarmCard)| {
            // CloudWatch's reason is informative only in ALARM.
            let detail = if alarm.state == "ALARM" { alarm.reason } else { String::new() };
            AlarmLine { name, state: alarm.state, detail }
        };
        alarms.into_iter().map(line).collect()
    }

    fn traffic(&self, seconds: &[Second]) -> TrafficSeries {
        let slots = lock(&self.slots);
        let of = |slot: Slot, second: &Second| {
            let mine = second.releases.iter().filter(|(release, _)| slots.get(*release) == Some(&slot));
            mine.map(|(_, answers)| answers.good + answers.failed).sum()
        };
        TrafficSeries {
            blue: seconds.iter().map(|second| of(Slot::Blue, second)).collect(),
            green: seconds.iter().map(|second| of(Slot::Green, second)).collect(),
            errors: seconds.iter().map(Second::failed).collect(),
        }
    }

    fn counters(&self) -> Vec<Counter> {
        let totals = self.tally.totals();
        let counter = |name, value: u64, tone| Counter { name, value: grouped(value), tone };
        let bad = if totals.bad_release_errors > 0 { Tone::Warning } else { Tone::Plain };
        let lost = if totals.lost > 0 { Tone::Bad } else { Tone::Good };
        vec![
            counter("requests sent", totals.requests, Tone::Plain),
            counter("answered well", totals.good, Tone::Plain),
            counter("the bad release's own errors", totals.bad_release_errors, bad),
            counter("lost to the shift itself", totals.lost, lost),
        ]
    }
}

fn stops(shown: &ShownDeployment) -> (Vec<TrackStop>, String) {
    let deployment = &shown.deployment;
    let outcome = shown.ended.map(|verdict| format!(" · {}", verdict_words(verdict))).unwrap_or_default();
    let title = format!("Deployment {} · {}{outcome}", deployment.number, deployment.release.tag);
    (track(deployment, shown.ended, shown.furthest), title)
}

/// `12 345`: digits grouped in threes.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is a single assignment, so a panic leaves consistent data.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
