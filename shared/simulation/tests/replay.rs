//! What passes decided in virtual time is decided again from its record, through JSON, as it was: whatever went wrong.

use engine::recorder::Wanted;
use rollout::recording::{Gap, Replay, What, read, replay};
use rollout::stage::Verdict;
use rollout::{Name, Seconds};
use simulation::virtual_time::{Faults, Simulation, Started};
use simulation::world::{Dice, ImageBehaviour, Scene, Settings, Starts, scene};

const HOUR: u64 = 3600;

fn simulation(seed: u64, behaviour: &ImageBehaviour, faults: Faults) -> Simulation {
    let mut scene = Scene::new("shop", "api", "dev");
    scene.autoscaling = Some((2, 8));
    let built = scene.build(Settings { seed, log_calls: false, ..Settings::default() });
    let simulation = Simulation::new(built, faults);
    let digest = scene::digest_of(2);
    simulation.world(|world| world.set_image(digest.as_str(), behaviour.clone()));
    simulation
}

/// A good release and then another one, pushed.
fn two_releases(simulation: &mut Simulation) {
    for number in 1..=2 {
        simulation.push(number, Started::Event);
        simulation.run_until_that(6 * HOUR, |simulation| {
            simulation.state().is_some_and(|state| state.last_deployment == number)
        });
        assert!(simulation.run_until_rest(6 * HOUR), "{}", simulation.story());
    }
}

fn replayed(simulation: &Simulation) -> Replay {
    let found = read(&simulation.recorded().join("\n")).unwrap_or_else(|wrong| panic!("{wrong}"));
    replay(found.records)
}

#[track_caller]
fn is_the_same(replay: &Replay, what: &str) {
    if let Some(first) = replay.different().next() {
        panic!("{what}: at {} {:#?}", first.record.at, first.differences);
    }
    let gaps: Vec<(u64, &Gap)> = replay.gaps().map(|(redone, gap)| (redone.record.revision, gap)).collect();
    assert!(gaps.is_empty(), "{what}: {gaps:?}");
    assert!(replay.redone.iter().all(|redone| redone.now.is_some()), "{what}: something was not decided again");
}

#[test]
fn a_rollout_and_a_way_back_are_recorded_whole() {
    let mut simulation = simulation(1, &ImageBehaviour::failing(0.6), Faults::default());
    simulation.record(Wanted::Doings);
    two_releases(&mut simulation);
    let verdicts: Vec<Verdict> = simulation.verdicts().into_iter().map(|(_, verdict, _)| verdict).collect();
    assert_eq!(verdicts, [Verdict::Succeeded, Verdict::RolledBack]);
    let replay = replayed(&simulation);
    is_the_same(&replay, "without faults");
    assert!(replay.redone.iter().all(|redone| !redone.cut_short));
    // Every entry of the journal is in it, in its order.
    let mut told: Vec<u64> = Vec::new();
    for redone in &replay.redone {
        let entries = match &redone.record.what {
            What::Decided(decided) => &decided.decision.journal,
            What::Performed(performed) => &performed.journal,
            What::TooLong(_) | What::Torn { .. } => panic!("{redone:?}"),
        };
        told.extend(entries.iter().map(|entry| entry.sequence));
    }
    assert!(told.iter().copied().eq(1..=simulation.journal().len() as u64), "{told:?}");
    // And what only looked again is not.
    let lines = simulation.recorded();
    let bytes: usize = lines.iter().map(String::len).sum();
    println!("{} records of 2 deployments, {bytes} bytes", lines.len());
    assert!(bytes / 2 < 400_000, "{bytes} bytes of 2 deployments");
}

#[test]
fn who_does_not_record_is_not_recorded() {
    let mut simulation = simulation(1, &ImageBehaviour::default(), Faults::default());
    two_releases(&mut simulation);
    assert!(simulation.recorded().is_empty());
}

/// How many worlds are tried; `SIMULATION_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("SIMULATION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

#[test]
fn whatever_goes_wrong_each_decision_is_made_again_as_it_was() {
    let (mut decided, mut cut_short) = (0, 0);
    for seed in 0..seeds() {
        let mut dice = Dice::new(seed);
        let behaviour = match seed % 3 {
            0 => ImageBehaviour::failing(0.7),
            1 => ImageBehaviour::starting(Starts::CrashLoop { exit_code: 1, after: Seconds(3) }),
            _ => ImageBehaviour::default(),
        };
        let rate = 0.02 + 0.05 * dice.unit();
        let faults = Faults {
            seed,
            lost_answer: rate,
            unavailable: rate,
            throttled: rate,
            delayed: rate,
            crash: rate / 2.0,
            doubled_wake: rate,
            lost_wake: rate,
            until: Some(Seconds(HOUR).after(Settings::default().start)),
            ..Faults::default()
        };
        let mut simulation = simulation(seed, &behaviour, faults);
        // With those that only wait, too: what does not survive its record is found wherever it hides.
        simulation.record(Wanted::Everything);
        two_releases(&mut simulation);
        let replay = replayed(&simulation);
        is_the_same(&replay, &format!("seed {seed}, rate {rate:.3}"));
        decided += replay.redone.len();
        cut_short += replay.redone.iter().filter(|redone| redone.cut_short).count();
    }
    assert!(decided > 1_000 && cut_short > 0, "{decided} records, {cut_short} of passes that died, prove little");
}

#[test]
fn the_records_of_several_targets_are_told_apart() {
    let scenes = [Scene::new("shop", "api", "dev"), Scene::new("shop", "web", "dev")];
    let built = scene::build_application(&scenes, Settings::default());
    let mut simulation = Simulation::of_application(built, Faults::default());
    simulation.record(Wanted::Doings);
    for service in ["api", "web"] {
        simulation.push_of(&Name::new(service).expect("a name"), 1, Started::Event);
    }
    simulation.run_for(10);
    assert!(simulation.run_until_rest(6 * HOUR), "{}", simulation.stories());
    let replay = replayed(&simulation);
    is_the_same(&replay, "two targets");
    let targets: Vec<String> = replay.redone.iter().map(|redone| redone.record.target.to_string()).collect();
    assert!(targets.is_sorted(), "target by target");
    assert_eq!((&*targets[0], &*targets[targets.len() - 1]), ("shop/api/dev", "shop/web/dev"));
}
