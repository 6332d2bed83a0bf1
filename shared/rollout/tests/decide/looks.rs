use super::scene::{Scene, ask, deploy, deploy_despite};
use rollout::snapshot::AlarmReading;
use rollout::{Fact, Instruction, Next, Reading, look};
use std::collections::BTreeSet;

/// Goes on until nothing runs, and asks at every decision whether the look calls the alarm decisive just where its
/// firing turns the deployment back. Answers the stages that were met, each with that.
fn decisive_where_it_turns_back(scene: &mut Scene) -> BTreeSet<(&'static str, bool)> {
    let mut met = BTreeSet::new();
    for _ in 0..2000 {
        let Some(look) = look(&scene.state) else { return met };
        let decisive = look.decisive_alarms.contains("api-5xx");
        let mut firing = scene.seen();
        let reading = AlarmReading::Firing { reason: "5 % of the answers are 5xx".to_owned() };
        firing.alarms = Reading::Known([("api-5xx".to_owned(), reading)].into_iter().collect());
        let inbox = rollout::Inbox { commands: &[], policy: Some(&scene.applied), around: Some(&scene.around) };
        let decision = rollout::decide(&scene.state, &inbox, Some(&firing), scene.now);
        let turned = decision.journal.iter().any(|entry| matches!(entry.fact, Fact::RollbackStarted { .. }));
        let stage = scene.stage();
        assert_eq!(decisive, turned, "in {stage}: {:?}", scene.state.running);
        met.insert((stage, decisive));
        if let Next::At(at) = scene.decide(&[]) {
            scene.now = at;
        }
    }
    panic!("it never ends: {:#?}", scene.state.explanation);
}

#[test]
fn an_alarm_is_decisive_just_where_it_turns_back() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    let met = decisive_where_it_turns_back(&mut scene);
    for stage in ["scaling", "shifting", "baking", "keeping_warm"] {
        assert!(met.contains(&(stage, true)), "{stage}: {met:?}");
    }
    for stage in ["preflight", "retiring"] {
        assert!(met.contains(&(stage, false)), "{stage}: {met:?}");
    }

    scene.run("v3");
    scene.decide(&[deploy("v4")]);
    scene.until(|scene| scene.stage() == "shifting");
    scene.decide(&[ask(Instruction::Abort { deployment: None }, "a1")]);
    assert_eq!(decisive_where_it_turns_back(&mut scene), [("rolling_back", false)].into_iter().collect());

    scene.decide(&[ask(Instruction::Rollback, "r1")]);
    assert!(scene.state.running.is_some(), "it goes back to the release before");
    let met = decisive_where_it_turns_back(&mut scene);
    assert!(met.iter().all(|(_, decisive)| !decisive), "a rollback is not judged by alarms: {met:?}");
}

#[test]
fn an_alarm_that_was_taken_upon_oneself_is_decisive_once_it_was_ok() {
    let mut scene = Scene::new();
    scene.fire();
    scene.decide(&[deploy_despite("v2", &["api-5xx"])]);
    scene.until(|scene| scene.stage() == "shifting");
    let decisive = |scene: &Scene| look(&scene.state).expect("it runs").decisive_alarms;
    assert_eq!(decisive(&scene), BTreeSet::new());
    scene.alarm(AlarmReading::Ok);
    scene.turn();
    assert_eq!(decisive(&scene), BTreeSet::from(["api-5xx".to_owned()]));
}
