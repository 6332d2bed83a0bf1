//! A day as it was lived, and what is printed of one that ended badly.

use super::*;

/// What came of a day.
pub(crate) struct Day {
    /// Deployments that began, on any target.
    pub(crate) deployments: usize,
    /// Those that were verified in production.
    pub(crate) reached: usize,
    /// What went wrong with calls, wakes and events.
    pub(crate) faults: usize,
    /// What deployments met that nobody had asked for.
    pub(crate) met: BTreeSet<&'static str>,
}

/// What every kind of day is to meet, now and then.
pub(super) const ALL_MEET: [&str; 11] = [
    "an edit during the way back",
    "an edit at rest",
    "an edit that CloudTrail told of",
    "an edit that was put right",
    "a scheduled action",
    "sides that sleep",
    "the stable side's alarm",
    "a way back that cannot serve",
    "a tag that says more",
    "an image that is gone",
    UNEVALUATED,
];
const UNEVALUATED: &str = "an alarm that is not evaluated";

/// Which of [`ALL_MEET`] a fact tells of.
fn met(fact: &Fact) -> Option<&'static str> {
    match fact {
        Fact::ForeignWeightsReplaced { .. } => Some("an edit during the way back"),
        Fact::DriftFound { by: Some(_), .. } => Some("an edit that CloudTrail told of"),
        Fact::DriftFound { by: None, .. } => Some("an edit at rest"),
        Fact::DriftGone => Some("an edit that was put right"),
        Fact::AutoscalingReturned { scheduled, .. } if !scheduled.is_empty() => Some("a scheduled action"),
        Fact::GateWaits { gate: Gate::Asleep, .. } => Some("sides that sleep"),
        Fact::StableAlarm { .. } => Some("the stable side's alarm"),
        Fact::WayBackUnfit { .. } => Some("a way back that cannot serve"),
        Fact::Ended { reason, .. } if reason.contains("image is gone") => Some("an image that is gone"),
        Fact::ReleaseNamed { .. } => Some("a tag that says more"),
        _ => None,
    }
}

/// A day that ended badly.
pub(super) struct Failed {
    pub(super) violation: Violation,
    struck: Vec<Struck>,
    /// The journals up to there.
    stories: String,
    begun: Timestamp,
    /// What passes decided, for a replay.
    recorded: Vec<String>,
}

/// Lives through a day.
pub(super) fn live(seed: u64, happenings: &[Happening], faults: Faults, record: bool) -> Result<Day, Box<Failed>> {
    let mut chaos = chaos(seed, faults);
    if record {
        chaos.street.simulation.record(Wanted::Everything);
    }
    let begun = chaos.street.simulation.now();
    lived(&mut chaos, begun, happenings).map_err(|violation| {
        let simulation = &chaos.street.simulation;
        Box::new(Failed {
            violation,
            struck: simulation.struck(),
            stories: simulation.stories(),
            begun,
            recorded: simulation.recorded(),
        })
    })
}

pub(super) fn lived(chaos: &mut Chaos, begun: Timestamp, happenings: &[Happening]) -> Result<Day, Violation> {
    for happening in happenings {
        let at = happening.after.after(begun);
        // In small steps while the line is stopped: a share that went up and down again would not be seen.
        while chaos.street.simulation.now() < at {
            let left = Seconds::between(chaos.street.simulation.now(), at).0.clamp(1, 20);
            chaos.runs(left);
            chaos.so_far()?;
            chaos.nothing_widens()?;
            chaos.notes_what_is_waited_for();
        }
        chaos.happens(&happening.what);
    }
    for _ in 0..12 {
        chaos.runs(10);
        chaos.so_far()?;
        chaos.nothing_widens()?;
    }
    chaos.comes_to_rest()?;
    chaos.all_of_production_was_allowed()?;
    let [_, _, prod] = targets();
    let facts: Vec<Fact> =
        targets().iter().flat_map(|target| chaos.street.journal(target)).map(|entry| entry.fact).collect();
    Ok(Day {
        deployments: facts.iter().filter(|fact| matches!(fact, Fact::Started { .. })).count(),
        reached: chaos.street.count(&prod, |fact| matches!(fact, Fact::Verified { .. })),
        faults: chaos.street.simulation.struck().len(),
        met: facts.iter().filter_map(met).chain(chaos.unevaluated.then_some(UNEVALUATED)).collect(),
    })
}

impl Chaos {
    fn notes_what_is_waited_for(&mut self) {
        let store = self.street.simulation.ledger().store();
        let all = targets();
        let mut waits =
            all.iter().filter_map(|target| store.peek(target)).flat_map(|state| &state.explanation.waiting_on);
        self.unevaluated |=
            waits.any(|on| matches!(on, WaitingOn::Alarms { not_evaluated, .. } if !not_evaluated.is_empty()));
    }
}

/// One day of people, pushes, meddling and faults. Panics, with the seed and the smallest history that ends as badly,
/// where a promise is broken.
pub(crate) fn day(seed: u64) -> Day {
    static BAD: AtomicUsize = AtomicUsize::new(0);
    let all = happenings(seed, &targets());
    live(seed, &all, faults(seed), false).unwrap_or_else(|failed| {
        let shrinks = BAD.fetch_add(1, Ordering::Relaxed) < SHRUNK;
        panic!("{}", told(seed, &all, &faults(seed), *failed, if shrinks { TRIES } else { 0 }));
    })
}

/// What passes decided in a day, as lines.
pub(crate) fn recorded(seed: u64) -> Vec<String> {
    let mut chaos = chaos(seed, faults(seed));
    chaos.street.simulation.record(Wanted::Everything);
    let begun = chaos.street.simulation.now();
    lived(&mut chaos, begun, &happenings(seed, &targets()))
        .unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    chaos.street.simulation.recorded()
}

/// The seed, and the smallest part of what happened that still breaks the same promise.
pub(super) fn told(seed: u64, all: &[Happening], faults: &Faults, failed: Failed, tries: usize) -> String {
    let broken = failed.violation.invariant;
    let mut lives = 0;
    let mut worst = failed;
    let over = Seconds::between(worst.begun, worst.violation.at);
    let before: Vec<Happening> = all.iter().filter(|happening| happening.after <= over).cloned().collect();
    let fate = |only: &BTreeSet<u64>| Faults { only: Some(Arc::new(only.clone())), ..faults.clone() };
    let mut fails = |happenings: &[Happening], faults: Faults| {
        lives += 1;
        match live(seed, happenings, faults, false) {
            Err(again) if again.violation.invariant == broken => {
                worst = *again;
                true
            }
            _ => false,
        }
    };
    let happenings = smallest(&before, tries / 2, |part| fails(part, faults.clone()));
    let (struck, count) = (worst_of(seed, &happenings, faults.clone()), before.len());
    let struck: Vec<u64> = struck.iter().map(|struck| struck.key).collect();
    let mut fails = |happenings: &[Happening], faults: Faults| {
        lives += 1;
        live(seed, happenings, faults, false).is_err_and(|again| again.violation.invariant == broken)
    };
    let struck_needed = smallest(&struck, tries / 2, |part| fails(&happenings, fate(&part.iter().copied().collect())));
    let only: BTreeSet<u64> = struck_needed.iter().copied().collect();
    let happenings = smallest(&happenings, tries / 4, |part| fails(part, fate(&only)));
    let last = match live(seed, &happenings, fate(&only), true) {
        Err(last) if last.violation.invariant == broken => *last,
        _ => worst,
    };
    let file = written(seed, &last.recorded);
    let mut told = format!("seed {seed}: {}\n", last.violation);
    let clock = |after: Seconds| format!("{:02}:{:02}:{:02}", after.0 / 3600, after.0 / 60 % 60, after.0 % 60);
    let _infallible = writeln!(told, "once more: SIMULATION_SEED={seed} cargo simulate");
    let _infallible = writeln!(
        told,
        "what it takes: {} of {count} happenings and {} of {} faults, found in {lives} lives",
        happenings.len(),
        only.len(),
        struck.len(),
    );
    for happening in &happenings {
        let _infallible = writeln!(told, "  {} {}", clock(happening.after), happening.what);
    }
    for struck in &last.struck {
        let after = Seconds::between(last.begun, struck.at);
        let _infallible = writeln!(told, "  {} fault: {}: {}", clock(after), struck.whom, struck.what);
    }
    let _infallible =
        writeln!(told, "  {} {}", clock(Seconds::between(last.begun, last.violation.at)), last.violation.invariant);
    if let Some(file) = file {
        let _infallible = writeln!(told, "what was decided: switchback replay {file}");
    }
    told + &last.stories
}

/// What went wrong in a day.
pub(super) fn worst_of(seed: u64, happenings: &[Happening], faults: Faults) -> Vec<Struck> {
    live(seed, happenings, faults, false).err().map(|failed| failed.struck).unwrap_or_default()
}

/// Writes what was decided where `switchback replay` finds it.
pub(super) fn written(seed: u64, recorded: &[String]) -> Option<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/days");
    std::fs::create_dir_all(&folder).ok()?;
    let file = folder.canonicalize().ok()?.join(format!("{seed}.jsonl"));
    std::fs::write(&file, recorded.join("\n") + "\n").ok()?;
    (!recorded.is_empty()).then(|| file.display().to_string())
}

#[test]
fn every_decision_of_such_days_is_made_again_from_its_record() {
    let mut decided = 0;
    for seed in 0..4 {
        let mut chaos = chaos(seed, faults(seed));
        chaos.street.simulation.record(Wanted::Everything);
        let (begun, day) = (chaos.street.simulation.now(), happenings(seed, &targets()));
        lived(&mut chaos, begun, &day[..40]).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        let lines = chaos.street.simulation.recorded();
        let found = read(&lines.join("\n")).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
        let replay = replay(found.records);
        if let Some(first) = replay.different().next() {
            panic!("seed {seed}: {} at {} {:#?}", first.record.target, first.record.at, first.differences);
        }
        assert_eq!(replay.gaps().map(|(_, gap)| gap).next(), None, "seed {seed}");
        decided += replay.redone.len();
    }
    assert!(decided > 500, "{decided} decisions prove little");
}

#[test]
fn a_day_that_ends_badly_is_told_with_nothing_but_what_it_takes() {
    let (seed, ghost) = (7, What::Ghost { target: targets()[0].clone() });
    let mut all = happenings(seed, &targets());
    let middle = all[50].after;
    all.insert(50, Happening { after: middle, what: ghost });
    let failed = live(seed, &all, faults(seed), false).err().expect("the ghost is seen");
    assert_eq!(failed.violation.invariant, simulation::invariants::ONE_WRITER.name, "{}", failed.violation);
    let told = told(seed, &all, &faults(seed), *failed, TRIES);
    let lines: Vec<&str> = told.lines().collect();
    let sentence = simulation::invariants::ONE_WRITER.sentence;
    assert!(lines[0].starts_with(&format!("seed 7: {sentence}, but shop/api/dev: nobody did set_weights")), "{told}");
    assert_eq!(lines[1], "once more: SIMULATION_SEED=7 cargo simulate");
    assert!(lines[2].starts_with("what it takes: 2 of ") && lines[2].contains(" happenings and 0 of "), "{told}");
    assert!(lines[3].contains(" is pushed"), "{told}");
    assert!(lines[4].ends_with(" a ghost writes the weights of shop/api/dev"), "{told}");
    assert!(lines[5].ends_with(" one writer"), "{told}");
    assert!(lines[6].starts_with("what was decided: switchback replay "), "{told}");
    assert_eq!(lines[7], "shop/api/dev");
    assert!(lines[8].contains("\"fact\":\"started\""), "{told}");
}
