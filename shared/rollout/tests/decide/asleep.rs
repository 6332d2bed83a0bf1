//! A service at 0 tasks on both sides, at night: not ill, and nothing is lost until it wakes.

use super::gates::settle;
use super::scene::{Scene, ask, deploy};
use rollout::snapshot::Weights;
use rollout::target::{LiveTraffic, WaitingOn};
use rollout::{Effect, Fact, Gate, Instruction, Next, Seconds, SignedDuration, Slot, Verdict, look};

/// v1 is stable on green, and both sides are put to sleep.
fn night() -> Scene {
    let mut scene = Scene::new();
    scene.run("v1");
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded));
    tasks(&mut scene, 0);
    scene.effects.clear();
    scene.journal.clear();
    scene
}

/// The live side has so many tasks.
fn tasks(scene: &mut Scene, count: u32) {
    let live = scene.weights().only().unwrap();
    let side = scene.side(live);
    (side.desired, side.running, side.targets.healthy) = (count, count, count);
}

fn waits_for_waking(scene: &Scene) -> bool {
    let waits = |on: &WaitingOn| matches!(on, WaitingOn::Gate { gate: Gate::Asleep, .. });
    scene.state.explanation.waiting_on.iter().any(waits)
}

#[test]
fn a_push_at_night_waits_at_a_gate_and_goes_out_when_the_service_wakes() {
    let mut scene = night();
    settle(&mut scene, &[deploy("v2")]);
    assert_eq!(scene.stage(), "gated");
    assert!(waits_for_waking(&scene), "{:?}", scene.state.explanation);
    assert!(scene.wrote(|fact| matches!(fact, Fact::GateWaits { gate: Gate::Asleep, .. })));
    // Nine hours: told once, looked at seldom, touched never.
    let (mut looks, evening) = (0, scene.now);
    while scene.now < evening + SignedDuration::from_secs(9 * 3600) {
        let before = scene.now;
        assert!(matches!(scene.turn(), Next::At(_)));
        assert!(Seconds::between(before, scene.now) >= Seconds(120), "it looks again after {before}");
        looks += 1;
    }
    assert!(looks < 300, "{looks} looks");
    assert!(look(&scene.state).is_some(), "the service's waking is seen by looking");
    assert_eq!(scene.effects, []);
    let told = scene.journal.iter().filter(|entry| matches!(entry.fact, Fact::GateWaits { .. })).count();
    assert_eq!((told, scene.stage()), (1, "gated"));
    // The morning.
    tasks(&mut scene, 4);
    scene.until(|_| false);
    assert!(scene.wrote(|fact| matches!(fact, Fact::GateOpened { gate: Gate::Asleep, .. })));
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
    assert_eq!(scene.state.stable.clone().unwrap().release.unwrap().tag, "v2");
}

#[test]
fn it_waits_for_as_long_as_the_environment_gives_its_gates() {
    let mut scene = night();
    scene.applied.entry.rules.give_up_after = Seconds(6 * 3600);
    let asked = scene.now;
    settle(&mut scene, &[deploy("v2")]);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Expired), "{}", scene.ending());
    assert!(scene.ending().contains("asleep"), "{}", scene.ending());
    assert_eq!(Seconds::between(asked, scene.now), Seconds(6 * 3600));
}

#[test]
fn a_newer_release_takes_the_place_of_one_that_waits_for_the_morning() {
    let mut scene = night();
    settle(&mut scene, &[deploy("v2")]);
    settle(&mut scene, &[deploy("v3")]);
    tasks(&mut scene, 4);
    scene.until(|_| false);
    assert_eq!(scene.state.stable.clone().unwrap().release.unwrap().tag, "v3");
    let verdicts: Vec<Verdict> = scene
        .journal
        .iter()
        .filter_map(|entry| if let Fact::Ended { verdict, .. } = entry.fact { Some(verdict) } else { None })
        .collect();
    assert_eq!(verdicts, [Verdict::Superseded, Verdict::Succeeded]);
}

#[test]
fn what_cannot_be_read_has_not_woken_and_a_side_with_tasks_is_not_asleep() {
    let mut scene = night();
    settle(&mut scene, &[deploy("v2")]);
    let blue = std::mem::replace(&mut scene.snapshot.blue, rollout::Reading::Unknown("throttled".to_owned()));
    scene.turn();
    assert_eq!(scene.stage(), "gated");
    scene.snapshot.blue = blue;
    // Without its tasks up yet it is awake, and preflight waits for them.
    let live = scene.weights().only().unwrap();
    scene.side(live).desired = 4;
    settle(&mut scene, &[]);
    assert_eq!(scene.stage(), "preflight");
    let never = Scene::new();
    assert_eq!(never.state.stable, None);
    let mut never = never;
    tasks(&mut never, 0);
    settle(&mut never, &[deploy("v2")]);
    assert_eq!(
        never.stage(),
        "preflight",
        "of what was never deployed here nobody knows whether it is meant to be at 0"
    );
}

#[test]
fn a_rollback_at_night_waits_too_and_gives_way_to_no_push() {
    let mut scene = Scene::new();
    scene.run("v1");
    scene.run("v2");
    tasks(&mut scene, 0);
    scene.effects.clear();
    settle(&mut scene, &[ask(Instruction::Rollback, "r1")]);
    assert!(waits_for_waking(&scene), "{:?}", scene.state.explanation);
    settle(&mut scene, &[deploy("v3")]);
    assert!(waits_for_waking(&scene) && scene.state.queued.len() == 1, "{:?}", scene.state.explanation);
    assert_eq!(scene.effects, []);
    tasks(&mut scene, 4);
    scene.until(|scene| scene.verdict() == Some(Verdict::Succeeded) && scene.state.last_deployment == 4);
    scene.until(|_| false);
    let ended = scene.journal.iter().filter(|entry| matches!(entry.fact, Fact::Ended { .. })).count();
    assert_eq!(ended, 4, "v1, v2, the rollback to v1, then v3");
    assert_eq!(scene.state.stable.clone().unwrap().release.unwrap().tag, "v3");
}

#[test]
fn weights_are_put_in_order_while_the_service_sleeps() {
    let mut scene = night();
    scene.edit_rule(50, 50);
    scene.state.traffic = Some(LiveTraffic { rules: vec![Some(Weights { blue: 50, green: 50 })], seen_at: scene.now });
    scene.decide(&[ask(Instruction::Rollback, "r1")]);
    scene.until(|_| false);
    assert_eq!(scene.weights().only(), Some(Slot::Green), "{}", scene.ending());
    assert!(
        !scene.effects.iter().any(|effect| matches!(effect, Effect::SetDesired { desired: 1.., .. })),
        "nobody is woken"
    );
    assert!(scene.state.drift().is_none());
}

#[test]
fn nobody_opens_that_gate_by_hand() {
    let mut scene = night();
    settle(&mut scene, &[deploy("v2")]);
    let deployment = scene.state.running.as_ref().unwrap().number;
    let command = ask(Instruction::Override { deployment, gates: [Gate::Asleep].into() }, "o1");
    settle(&mut scene, &[command]);
    assert!(super::gates::refusal(&scene).contains("wake the service"), "{}", super::gates::refusal(&scene));
    assert!(waits_for_waking(&scene));
}
