//! After an end that left traffic somewhere else: what is remembered, what may start, and what leads out.

use super::scene::{Scene, ask, deploy};
use rollout::snapshot::Weights;
use rollout::stage::Verdict;
use rollout::{Effect, Fact, Instruction, Slot};

/// `v1` is stable on green, and a deployment of `v2` to blue has ended with the rules as somebody has left them.
fn left_at(blue: u16, green: u16) -> Scene {
    let mut scene = Scene::new();
    scene.run("v1");
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().blue == 10);
    scene.turn();
    scene.edit_rule(blue, green);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Failed));
    scene
}

fn refusals(scene: &Scene) -> Vec<String> {
    let entries = scene.journal.iter().filter_map(|entry| match &entry.fact {
        Fact::CommandRefused { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    entries.collect()
}

#[test]
fn what_was_last_seen_is_remembered_as_that_and_never_as_the_stable_split() {
    for (blue, green) in [(100, 0), (60, 40)] {
        let scene = left_at(blue, green);
        let seen = scene.state.traffic.as_ref().expect("it was seen");
        assert_eq!(seen.rules, [Some(Weights { blue, green })]);
        assert!(scene.state.drift().is_some());
        let stable = scene.state.stable.as_ref().expect("v1 is");
        assert_eq!(stable.release.as_ref().map(|release| release.tag.as_str()), Some("v1"));
    }
}

#[test]
fn a_rollback_and_a_deployment_of_the_stable_release_put_its_traffic_back() {
    for (blue, green) in [(100, 0), (60, 40)] {
        for command in [ask(Instruction::Rollback, "r1"), deploy("v1")] {
            let mut scene = left_at(blue, green);
            scene.decide(&[command]);
            scene.until(|_| false);
            assert_eq!(refusals(&scene), [""; 0], "after {blue}/{green}");
            assert_eq!(scene.weights(), Weights { blue: 0, green: 100 }, "after {blue}/{green}");
            assert!(scene.state.drift().is_none());
        }
    }
}

/// The first deployment of a target, whose stable side Switchback has not deployed.
#[test]
fn after_a_first_deployment_a_rollback_needs_no_name_of_what_ran_before() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v1")]);
    scene.until(|scene| scene.weights().green == 10);
    scene.turn();
    scene.edit_rule(40, 60);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Failed));
    scene.decide(&[ask(Instruction::Rollback, "r1")]);
    scene.until(|_| false);
    assert_eq!(refusals(&scene), [""; 0]);
    assert_eq!(scene.weights(), Weights { blue: 100, green: 0 });
    assert!(scene.state.drift().is_none());
}

#[test]
fn while_the_rules_are_split_one_deployment_waits_and_says_what_to_do_and_newer_ones_take_its_place() {
    let mut scene = left_at(60, 40);
    let before = scene.journal.len();
    scene.decide(&[deploy("v3")]);
    for _ in 0..30 {
        scene.turn();
    }
    scene.decide(&[deploy("v4")]);
    for _ in 0..30 {
        scene.turn();
    }
    let since: Vec<_> = scene.journal[before..].iter().map(|entry| &entry.fact).collect();
    assert!(!since.iter().any(|fact| matches!(fact, Fact::Ended { verdict: Verdict::Failed, .. })), "{since:#?}");
    let said: Vec<_> = since
        .iter()
        .filter_map(|fact| match fact {
            Fact::Blocked { reason } => Some(reason),
            _ => None,
        })
        .collect();
    assert_eq!(said.len(), 2, "once for each: {since:#?}");
    assert!(said.iter().all(|reason| reason.contains("switchback rollback")), "{said:?}");
    assert_eq!(scene.state.running.as_ref().map(|running| running.release.tag.as_str()), Some("v4"));

    // The one command that leads out ends the wait and puts traffic back.
    scene.decide(&[ask(Instruction::Rollback, "r1")]);
    scene.until(|_| false);
    assert_eq!(scene.weights(), Weights { blue: 0, green: 100 });
    scene.run("v5");
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn what_waits_goes_on_by_itself_once_a_person_has_put_the_rules_right() {
    let mut scene = left_at(60, 40);
    scene.decide(&[deploy("v3")]);
    scene.turn();
    scene.turn();
    scene.edit_rule(0, 100);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded));
    let runs = scene.side(Slot::Blue).task_definition.clone();
    assert!(scene.weights().blue == 100 && runs.contains("td:"), "{runs}");
}

/// At rest an apply gives all weight to the side without tasks, and nobody has looked since.
#[test]
fn a_rollback_finds_traffic_on_a_side_that_cannot_serve_and_puts_it_back() {
    let mut scene = Scene::new();
    scene.run("v1");
    scene.run("v2");
    assert_eq!(scene.weights(), Weights { blue: 100, green: 0 });
    scene.edit_rule(0, 100);
    let before = scene.effects.len();
    scene.decide(&[ask(Instruction::Rollback, "r1")]);
    scene.until(|_| false);
    assert_eq!(scene.weights(), Weights { blue: 100, green: 0 }, "{:#?}", scene.journal);
    let started = scene.effects[before..].iter().any(|effect| matches!(effect, Effect::UpdateService { .. }));
    assert!(!started, "its traffic is put back, and nothing is rolled out");
}

#[test]
fn a_repair_of_what_is_in_order_changes_nothing() {
    let mut scene = left_at(60, 40);
    scene.edit_rule(0, 100);
    let before = scene.effects.len();
    scene.decide(&[ask(Instruction::Rollback, "r1")]);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded));
    assert_eq!(scene.effects.len(), before);
}

/// Its first writes do not work: what is there meanwhile is what was left there, and no new edit.
#[test]
fn a_repair_that_has_to_try_again_accuses_nobody() {
    let mut scene = left_at(60, 40);
    let before = scene.journal.len();
    scene.rules_are_stuck = true;
    scene.decide(&[ask(Instruction::Rollback, "r1")]);
    for _ in 0..20 {
        scene.turn();
    }
    scene.rules_are_stuck = false;
    scene.until(|_| false);
    assert_eq!(scene.weights(), Weights { blue: 0, green: 100 });
    let accuses = |fact: &Fact| matches!(fact, Fact::ForeignWeightsReplaced { .. });
    assert!(!scene.journal[before..].iter().any(|entry| accuses(&entry.fact)), "{:#?}", &scene.journal[before..]);
}
