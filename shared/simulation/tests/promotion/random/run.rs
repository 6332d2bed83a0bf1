//! A day as it was lived, and what is printed of one that ended badly.

use super::in_place::{IN_PLACE_COVERAGE, PROTECTED_TASKS, in_place_coverage};
use super::setup::{day_run, faults};
use super::{DayRun, MAX_SHRINK_RUNS, MAX_SHRUNK_DAYS, targets};
use crate::day::{DayAction, DayEvent, day_events};
use engine::recorder::RecordingLevel;
use rollout::explanation::WaitingOn;
use rollout::journal::Fact;
use rollout::recording::{read, replay};
use rollout::{Gate, Seconds, TargetId, Timestamp};
use simulation::invariants::Violation;
use simulation::shrink::minimize;
use simulation::trace::InjectedFault;
use simulation::virtual_time::Faults;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What came of a day.
pub(crate) struct DayOutcome {
    /// Deployments that began, on any target.
    pub(crate) deployments: usize,
    /// Those that were verified in production.
    pub(crate) verified_in_prod: usize,
    /// What went wrong with calls, wakes and events.
    pub(crate) faults: usize,
    /// What deployments met that nobody had asked for.
    pub(crate) coverage: BTreeSet<&'static str>,
}

/// What days are to meet, now and then.
pub(super) fn required_coverage() -> impl Iterator<Item = &'static str> {
    PAIR_COVERAGE.into_iter().chain(IN_PLACE_COVERAGE)
}

/// What every kind of day is to meet.
const PAIR_COVERAGE: [&str; 11] = [
    "an edit during the rollback",
    "an edit at rest",
    "an edit that CloudTrail reported",
    "an edit that was put right",
    "a scheduled action",
    "sides that sleep",
    "the stable side's alarm",
    "a rollback that cannot serve",
    "a tag that says more",
    "an image that is gone",
    ALARM_NOT_EVALUATED,
];
const ALARM_NOT_EVALUATED: &str = "an alarm that is not evaluated";

/// Which of [`PAIR_COVERAGE`] a fact tells of.
fn pair_coverage(fact: &Fact) -> Option<&'static str> {
    match fact {
        Fact::ForeignWeightsReplaced { .. } => Some("an edit during the rollback"),
        Fact::DriftDetected { by: Some(_), .. } => Some("an edit that CloudTrail reported"),
        Fact::DriftDetected { by: None, .. } => Some("an edit at rest"),
        Fact::DriftResolved => Some("an edit that was put right"),
        Fact::AutoscalingRestored { scheduled, .. } if !scheduled.is_empty() => Some("a scheduled action"),
        Fact::BlockedByGate { gate: Gate::Asleep, .. } => Some("sides that sleep"),
        Fact::StableAlarm { .. } => Some("the stable side's alarm"),
        Fact::RollbackBlocked { .. } => Some("a rollback that cannot serve"),
        Fact::Ended { reason, .. } if reason.contains("image is gone") => Some("an image that is gone"),
        Fact::ReleaseNamed { .. } => Some("a tag that says more"),
        _ => None,
    }
}

/// A day that ended badly.
pub(super) struct FailedDay {
    pub(super) violation: Violation,
    injected: Vec<InjectedFault>,
    /// The journals up to there.
    journal_texts: String,
    started_at: Timestamp,
    /// What passes decided, for a replay.
    recorded: Vec<String>,
}

/// Lives through a day.
pub(super) fn run_day_events(
    seed: u64,
    day_events: &[DayEvent],
    faults: Faults,
    record: bool,
) -> Result<DayOutcome, Box<FailedDay>> {
    let mut day_run = day_run(seed, faults);
    if record {
        day_run.pipeline.simulation.record(RecordingLevel::All);
    }
    let started_at = day_run.pipeline.simulation.now();
    run(&mut day_run, started_at, day_events).map_err(|violation| {
        let simulation = &day_run.pipeline.simulation;
        Box::new(FailedDay {
            violation,
            injected: simulation.injected(),
            journal_texts: simulation.journal_texts(),
            started_at,
            recorded: simulation.recorded(),
        })
    })
}

pub(super) fn run(
    day_run: &mut DayRun,
    started_at: Timestamp,
    day_events: &[DayEvent],
) -> Result<DayOutcome, Violation> {
    for day_event in day_events {
        let at = day_event.after.after(started_at);
        // In small steps while the line is stopped: a share that went up and down again would not be seen.
        while day_run.pipeline.simulation.now() < at {
            let left = Seconds::between(day_run.pipeline.simulation.now(), at).0.clamp(1, 20);
            day_run.run_for(left);
            day_run.check_invariants()?;
            day_run.check_no_widening()?;
            day_run.record_unevaluated_alarms();
            day_run.record_protected_tasks();
        }
        day_run.perform_action(&day_event.what);
    }
    for _ in 0..12 {
        day_run.run_for(10);
        day_run.check_invariants()?;
        day_run.check_no_widening()?;
    }
    day_run.settle()?;
    day_run.check_production_approvals()?;
    let [_, _, prod] = targets();
    let pipeline = &day_run.pipeline;
    let starts = |target: &TargetId| pipeline.count(target, |fact| matches!(fact, Fact::Started { .. }));
    let mut coverage = BTreeSet::new();
    coverage.extend(day_run.saw_unevaluated_alarm.then_some(ALARM_NOT_EVALUATED));
    coverage.extend(day_run.saw_protected_tasks.then_some(PROTECTED_TASKS));
    for target in day_run.targets() {
        let journal = pipeline.journal(&target);
        if day_run.in_place.contains(&target) {
            coverage.extend(in_place_coverage(&journal));
        } else {
            coverage.extend(journal.iter().filter_map(|entry| pair_coverage(&entry.fact)));
        }
    }
    Ok(DayOutcome {
        deployments: day_run.targets().iter().map(starts).sum(),
        verified_in_prod: pipeline.count(&prod, |fact| matches!(fact, Fact::Verified { .. })),
        faults: pipeline.simulation.injected().len(),
        coverage,
    })
}

impl DayRun {
    fn record_unevaluated_alarms(&mut self) {
        let store = self.pipeline.simulation.ledger().store();
        let all = targets();
        let mut waits =
            all.iter().filter_map(|target| store.peek(target)).flat_map(|state| &state.explanation.waiting_on);
        self.saw_unevaluated_alarm |=
            waits.any(|on| matches!(on, WaitingOn::Alarms { not_evaluated, .. } if !not_evaluated.is_empty()));
    }
}

/// One day of people, pushes, meddling and faults. Panics, with the seed and the smallest history that ends as badly,
/// where a promise is broken.
pub(crate) fn day(seed: u64) -> DayOutcome {
    static FAILED_DAYS: AtomicUsize = AtomicUsize::new(0);
    let all = day_events(seed, &targets());
    run_day_events(seed, &all, faults(seed), false).unwrap_or_else(|failed| {
        let should_shrink = FAILED_DAYS.fetch_add(1, Ordering::Relaxed) < MAX_SHRUNK_DAYS;
        panic!(
            "{}",
            failure_report(seed, &all, &faults(seed), *failed, if should_shrink { MAX_SHRINK_RUNS } else { 0 })
        );
    })
}

/// What passes decided in a day, as lines.
pub(crate) fn recorded(seed: u64) -> Vec<String> {
    let mut day_run = day_run(seed, faults(seed));
    day_run.pipeline.simulation.record(RecordingLevel::All);
    let started_at = day_run.pipeline.simulation.now();
    run(&mut day_run, started_at, &day_events(seed, &targets()))
        .unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    day_run.pipeline.simulation.recorded()
}

/// The seed, and the smallest part of what happened that still breaks the same promise.
pub(super) fn failure_report(seed: u64, all: &[DayEvent], faults: &Faults, failed: FailedDay, tries: usize) -> String {
    let broken_invariant = failed.violation.invariant;
    let mut runs_made = 0;
    let mut latest_failure = failed;
    let failed_after = Seconds::between(latest_failure.started_at, latest_failure.violation.at);
    let events_so_far: Vec<DayEvent> =
        all.iter().filter(|day_event| day_event.after <= failed_after).cloned().collect();
    let only_faults = |only: &BTreeSet<u64>| Faults { only: Some(Arc::new(only.clone())), ..faults.clone() };
    let mut fails = |day_events: &[DayEvent], faults: Faults| {
        runs_made += 1;
        match run_day_events(seed, day_events, faults, false) {
            Err(again) if again.violation.invariant == broken_invariant => {
                latest_failure = *again;
                true
            }
            _ => false,
        }
    };
    let day_events = minimize(&events_so_far, tries / 2, |part| fails(part, faults.clone()));
    let (injected, count) = (injected_faults(seed, &day_events, faults.clone()), events_so_far.len());
    let injected: Vec<u64> = injected.iter().map(|injected| injected.key).collect();
    let mut fails = |day_events: &[DayEvent], faults: Faults| {
        runs_made += 1;
        run_day_events(seed, day_events, faults, false)
            .is_err_and(|again| again.violation.invariant == broken_invariant)
    };
    let needed_faults =
        minimize(&injected, tries / 2, |part| fails(&day_events, only_faults(&part.iter().copied().collect())));
    let only: BTreeSet<u64> = needed_faults.iter().copied().collect();
    let day_events = minimize(&day_events, tries / 4, |part| fails(part, only_faults(&only)));
    let last = match run_day_events(seed, &day_events, only_faults(&only), true) {
        Err(last) if last.violation.invariant == broken_invariant => *last,
        _ => latest_failure,
    };
    let file = write_recording(seed, &last.recorded);
    let mut failure_report = format!("seed {seed}: {}\n", last.violation);
    let clock = |after: Seconds| format!("{:02}:{:02}:{:02}", after.0 / 3600, after.0 / 60 % 60, after.0 % 60);
    let _infallible = writeln!(failure_report, "once more: SIMULATION_SEED={seed} cargo simulate");
    let _infallible = writeln!(
        failure_report,
        "what it takes: {} of {count} happenings and {} of {} faults, found in {runs_made} lives",
        day_events.len(),
        only.len(),
        injected.len(),
    );
    for day_event in &day_events {
        let _infallible = writeln!(failure_report, "  {} {}", clock(day_event.after), day_event.what);
    }
    for injected in &last.injected {
        let after = Seconds::between(last.started_at, injected.at);
        let _infallible = writeln!(failure_report, "  {} fault: {}: {}", clock(after), injected.subject, injected.what);
    }
    let _infallible = writeln!(
        failure_report,
        "  {} {}",
        clock(Seconds::between(last.started_at, last.violation.at)),
        last.violation.invariant
    );
    if let Some(file) = file {
        let _infallible = writeln!(failure_report, "what was decided: switchback replay {file}");
    }
    failure_report + &last.journal_texts
}

/// What went wrong in a day.
pub(super) fn injected_faults(seed: u64, day_events: &[DayEvent], faults: Faults) -> Vec<InjectedFault> {
    run_day_events(seed, day_events, faults, false).err().map(|failed| failed.injected).unwrap_or_default()
}

/// Writes what was decided where `switchback replay` finds it.
pub(super) fn write_recording(seed: u64, recorded: &[String]) -> Option<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/days");
    std::fs::create_dir_all(&folder).ok()?;
    let file = folder.canonicalize().ok()?.join(format!("{seed}.jsonl"));
    std::fs::write(&file, recorded.join("\n") + "\n").ok()?;
    (!recorded.is_empty()).then(|| file.display().to_string())
}

#[test]
fn decisions_of_random_days_replay_identically() {
    let mut decided = 0;
    for seed in 0..4 {
        let mut day_run = day_run(seed, faults(seed));
        day_run.pipeline.simulation.record(RecordingLevel::All);
        let (started_at, day) = (day_run.pipeline.simulation.now(), day_events(seed, &targets()));
        run(&mut day_run, started_at, &day[..40]).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        let lines = day_run.pipeline.simulation.recorded();
        let found = read(&lines.join("\n")).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
        let replay = replay(found.records);
        if let Some(first) = replay.different().next() {
            panic!("seed {seed}: {} at {} {:#?}", first.record.target, first.record.at, first.differences);
        }
        assert_eq!(replay.gaps().map(|(_, gap)| gap).next(), None, "seed {seed}");
        decided += replay.records.len();
    }
    assert!(decided > 500, "{decided} decisions prove little");
}

#[test]
fn a_failed_day_is_reported_as_a_minimal_reproduction() {
    let (seed, rogue_write) = (7, DayAction::WriteWithoutLease { target: targets()[0].clone() });
    let mut all = day_events(seed, &targets());
    let middle = all[50].after;
    all.insert(50, DayEvent { after: middle, what: rogue_write });
    let failed = run_day_events(seed, &all, faults(seed), false).err().expect("the ghost is seen");
    assert_eq!(
        failed.violation.invariant,
        simulation::invariants::ONLY_LEASE_HOLDER_WRITES.name,
        "{}",
        failed.violation
    );
    let failure_report = failure_report(seed, &all, &faults(seed), *failed, MAX_SHRINK_RUNS);
    let lines: Vec<&str> = failure_report.lines().collect();
    let sentence = simulation::invariants::ONLY_LEASE_HOLDER_WRITES.sentence;
    assert!(
        lines[0].starts_with(&format!("seed 7: {sentence}, but shop/api/dev: nobody performed set_weights")),
        "{failure_report}"
    );
    assert_eq!(lines[1], "once more: SIMULATION_SEED=7 cargo simulate");
    assert!(
        lines[2].starts_with("what it takes: 2 of ") && lines[2].contains(" happenings and 0 of "),
        "{failure_report}"
    );
    assert!(lines[3].contains(" is pushed"), "{failure_report}");
    assert!(lines[4].ends_with(" a ghost writes the weights of shop/api/dev"), "{failure_report}");
    assert!(lines[5].ends_with(" ONLY_LEASE_HOLDER_WRITES"), "{failure_report}");
    assert!(lines[6].starts_with("what was decided: switchback replay "), "{failure_report}");
    assert_eq!(lines[7], "shop/api/dev");
    assert!(lines[8].contains("\"fact\":\"started\""), "{failure_report}");
}
