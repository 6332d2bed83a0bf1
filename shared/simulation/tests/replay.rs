//! What passes decided in virtual time is decided again from its record, through JSON, as it was: whatever went wrong.

use engine::recorder::RecordingLevel;
use rollout::recording::{Gap, RecordBody, Replay, read, replay};
use rollout::verdict::Verdict;
use rollout::{Name, Seconds};
use simulation::virtual_time::{Faults, PushAnnouncement, Simulation};
use simulation::world::{ImageBehaviour, PairSetup, SeededRng, Settings, StartBehaviour, scene};

const HOUR: u64 = 3600;

fn simulation(seed: u64, behaviour: &ImageBehaviour, faults: Faults) -> Simulation {
    let mut scene = PairSetup::new("shop", "api", "dev");
    scene.autoscaling = Some((2, 8));
    let built = scene.build(Settings { seed, log_calls: false, ..Settings::default() });
    let simulation = Simulation::new(built, faults);
    let digest = scene::digest_of(2);
    simulation.world(|world| world.set_image(digest.as_str(), behaviour.clone()));
    simulation
}

/// A good release and then another one, pushed.
fn deploy_two_releases(simulation: &mut Simulation) {
    for number in 1..=2 {
        simulation.push(number, PushAnnouncement::Event);
        simulation.run_until_condition(6 * HOUR, |simulation| {
            simulation.state().is_some_and(|state| state.last_deployment == number)
        });
        assert!(simulation.run_until_idle(6 * HOUR), "{}", simulation.journal_text());
    }
}

fn replayed(simulation: &Simulation) -> Replay {
    let found = read(&simulation.recorded().join("\n")).unwrap_or_else(|error| panic!("{error}"));
    replay(found.records)
}

#[track_caller]
fn assert_replays_identically(replay: &Replay, what: &str) {
    if let Some(first) = replay.different().next() {
        panic!("{what}: at {} {:#?}", first.record.at, first.differences);
    }
    let gaps: Vec<(u64, &Gap)> = replay.gaps().map(|(rerun, gap)| (rerun.record.revision, gap)).collect();
    assert!(gaps.is_empty(), "{what}: {gaps:?}");
    assert!(replay.records.iter().all(|rerun| rerun.now.is_some()), "{what}: something was not decided again");
}

#[test]
fn a_rollout_and_a_rollback_are_recorded_completely() {
    let mut simulation = simulation(1, &ImageBehaviour::failing(0.6), Faults::default());
    simulation.record(RecordingLevel::Actions);
    deploy_two_releases(&mut simulation);
    let verdicts: Vec<Verdict> = simulation.verdicts().into_iter().map(|(_, verdict, _)| verdict).collect();
    assert_eq!(verdicts, [Verdict::Succeeded, Verdict::RolledBack]);
    let replay = replayed(&simulation);
    assert_replays_identically(&replay, "without faults");
    assert!(replay.records.iter().all(|rerun| !rerun.interrupted));
    // Every entry of the journal is in it, in its order.
    let mut sequences: Vec<u64> = Vec::new();
    for rerun in &replay.records {
        let entries = match &rerun.record.body {
            RecordBody::Decided(decided) => &decided.decision.journal,
            RecordBody::Performed(performed) => &performed.journal,
            RecordBody::TooLong(_) | RecordBody::Incomplete { .. } => panic!("{rerun:?}"),
        };
        sequences.extend(entries.iter().map(|entry| entry.sequence));
    }
    assert!(sequences.iter().copied().eq(1..=simulation.journal().len() as u64), "{sequences:?}");
    // And what only looked again is not.
    let lines = simulation.recorded();
    let bytes: usize = lines.iter().map(String::len).sum();
    println!("{} records of 2 deployments, {bytes} bytes", lines.len());
    assert!(bytes / 2 < 400_000, "{bytes} bytes of 2 deployments");
}

#[test]
fn nothing_is_recorded_unless_recording_is_enabled() {
    let mut simulation = simulation(1, &ImageBehaviour::default(), Faults::default());
    deploy_two_releases(&mut simulation);
    assert!(simulation.recorded().is_empty());
}

/// How many worlds are tried; `SIMULATION_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("SIMULATION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

#[test]
fn decisions_replay_identically_under_random_faults() {
    let (mut decided, mut interrupted) = (0, 0);
    for seed in 0..seeds() {
        let mut rng = SeededRng::new(seed);
        let behaviour = match seed % 3 {
            0 => ImageBehaviour::failing(0.7),
            1 => ImageBehaviour::starting(StartBehaviour::CrashLoop { exit_code: 1, after: Seconds(3) }),
            _ => ImageBehaviour::default(),
        };
        let rate = 0.02 + 0.05 * rng.unit();
        let faults = Faults {
            seed,
            lost_answer: rate,
            unavailable: rate,
            throttled: rate,
            delayed: rate,
            crash: rate / 2.0,
            duplicated_wake: rate,
            lost_wake: rate,
            until: Some(Seconds(HOUR).after(Settings::default().start)),
            ..Faults::default()
        };
        let mut simulation = simulation(seed, &behaviour, faults);
        // With those that only wait, too: what does not survive its record is found wherever it hides.
        simulation.record(RecordingLevel::All);
        deploy_two_releases(&mut simulation);
        let replay = replayed(&simulation);
        assert_replays_identically(&replay, &format!("seed {seed}, rate {rate:.3}"));
        decided += replay.records.len();
        interrupted += replay.records.iter().filter(|rerun| rerun.interrupted).count();
    }
    assert!(decided > 1_000 && interrupted > 0, "{decided} records, {interrupted} of passes that died, prove little");
}

#[test]
fn records_of_several_targets_replay_separately() {
    let scenes = [PairSetup::new("shop", "api", "dev"), PairSetup::new("shop", "web", "dev")];
    let built = scene::build_application(&scenes, Settings::default());
    let mut simulation = Simulation::of_application(built, Faults::default());
    simulation.record(RecordingLevel::Actions);
    for service in ["api", "web"] {
        simulation.push_service(&Name::new(service).expect("a name"), 1, PushAnnouncement::Event);
    }
    simulation.run_for(10);
    assert!(simulation.run_until_idle(6 * HOUR), "{}", simulation.journal_texts());
    let replay = replayed(&simulation);
    assert_replays_identically(&replay, "two targets");
    let targets: Vec<String> = replay.records.iter().map(|rerun| rerun.record.target.to_string()).collect();
    assert!(targets.is_sorted(), "target by target");
    assert_eq!((&*targets[0], &*targets[targets.len() - 1]), ("shop/api/dev", "shop/web/dev"));
}
