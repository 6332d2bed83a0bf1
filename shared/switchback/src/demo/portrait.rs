//! Draws what the page shows, from what the ledger, the site and the clients know.

use super::site::{AlarmCard, Site};
use super::tally::{Second, Tally};
use engine::{Ledger, LedgerError};
use rollout::stage::{Stage, Verdict};
use rollout::target::Deployment;
use rollout::{Slot, TargetId, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use view::journal::{Tone, stage_words, verdict_words};
use view::page::{
    AlarmLine, Chapter, Counter, JournalLine, PageData, SideCard, Stop, Traffic, gates, holds, position, share_of_blue,
    track, waits,
};

/// Journal lines that the page keeps.
const LINES: usize = 200;

/// What the story says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// What is going on, in a sentence.
    pub(crate) headline: String,
    /// How it is meant.
    pub(crate) tone: Tone,
    /// The chapters.
    pub(crate) chapters: Vec<Chapter>,
}

/// The deployment that the page shows: the one that runs, or the last one that did.
#[derive(Debug, Clone)]
struct Shown {
    deployment: Deployment,
    furthest: usize,
    ended: Option<Verdict>,
}

/// Draws, and remembers what only a sequence of looks can tell.
pub(crate) struct Portrait {
    target: TargetId,
    started: Timestamp,
    site: Arc<Site>,
    tally: Arc<Tally>,
    told: Mutex<Told>,
    slots: Mutex<BTreeMap<String, Slot>>,
    shown: Mutex<Option<Shown>>,
}

/// What one look at everything gave.
pub(crate) struct Drawing {
    /// What the page shows.
    pub(crate) page: PageData,
    /// The last whole second of traffic.
    pub(crate) last_second: Second,
    /// The stage of the running deployment, in words; empty where none runs.
    pub(crate) stage: String,
}

impl Portrait {
    /// Nothing drawn yet.
    pub(crate) fn new(target: TargetId, started: Timestamp, site: Arc<Site>, tally: Arc<Tally>, told: Told) -> Self {
        Self { target, started, site, tally, told: Mutex::new(told), slots: Mutex::default(), shown: Mutex::default() }
    }

    /// The story goes on.
    pub(crate) fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut lock(&self.told));
    }

    /// The side that runs `release`, if it ever ran.
    pub(crate) fn slot_of(&self, release: &str) -> Option<Slot> {
        lock(&self.slots).get(release).copied()
    }

    /// Looks at everything.
    ///
    /// # Errors
    /// [`LedgerError`], which the embedded ledger has no reason for.
    pub(crate) async fn draw<L: Ledger>(&self, ledger: &L, now: Timestamp) -> Result<Drawing, LedgerError> {
        let state = ledger.state(&self.target).await?;
        let last = ledger.history(&self.target, 1).await?.into_iter().next();
        let entries = ledger.journal_tail(&self.target, LINES).await?;
        let brakes = ledger.brakes().await?;

        let running = state.as_ref().and_then(|state| state.running.as_ref());
        let shown = self.remember(running, last.and_then(|last| last.verdict));
        let (stops, track_title) = shown.as_ref().map(stops).unwrap_or_default();
        let stage = running.map(|running| stage_words(running.stage.name())).unwrap_or_default();

        let seconds = self.tally.seconds();
        let last_second = seconds.last().cloned().unwrap_or_default();
        let mut told = lock(&self.told).clone();
        if let Some(running) = running.filter(|running| matches!(running.stage, Stage::RollingBack { .. })) {
            told.headline = format!("{} is being switched back", running.release.tag);
            told.tone = Tone::Bad;
        }
        let start_ms = self.started.as_millisecond();
        let page = PageData {
            target: self.target.to_string(),
            headline: told.headline,
            tone: told.tone,
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
            chapters: told.chapters,
        };
        Ok(Drawing { page, last_second, stage })
    }

    fn remember(&self, running: Option<&Deployment>, last_verdict: Option<Verdict>) -> Option<Shown> {
        let mut shown = lock(&self.shown);
        match running {
            Some(running) => {
                let before = shown.take().filter(|shown| shown.deployment.number == running.number);
                let before = before.map_or(0, |shown| shown.furthest);
                let furthest = position(running).unwrap_or(before);
                *shown = Some(Shown { deployment: running.clone(), furthest, ended: None });
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
        let blue = share_of_blue(self.site.weights());
        let tasks = self.site.tasks();
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
                _ if self.site.weights().only() == Some(slot) => "stable",
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
        let alarms = self.site.alarms();
        let line = |(name, alarm): (String, AlarmCard)| {
            // CloudWatch's words on what did not happen say little.
            let detail = if alarm.state == "ALARM" { alarm.reason } else { String::new() };
            AlarmLine { name, state: alarm.state, detail }
        };
        alarms.into_iter().map(line).collect()
    }

    fn traffic(&self, seconds: &[Second]) -> Traffic {
        let slots = lock(&self.slots);
        let of = |slot: Slot, second: &Second| {
            let mine = second.releases.iter().filter(|(release, _)| slots.get(*release) == Some(&slot));
            mine.map(|(_, answers)| answers.good + answers.failed).sum()
        };
        Traffic {
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

fn stops(shown: &Shown) -> (Vec<Stop>, String) {
    let deployment = &shown.deployment;
    let outcome = shown.ended.map(|verdict| format!(" · {}", verdict_words(verdict))).unwrap_or_default();
    let title = format!("Deployment {} · {}{outcome}", deployment.number, deployment.release.tag);
    (track(deployment, shown.ended, shown.furthest), title)
}

/// `12 345`: digits in threes, as people read them.
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
    // Every change is one assignment: a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
