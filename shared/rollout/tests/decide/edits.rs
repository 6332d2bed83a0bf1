//! What somebody else writes into a rule, and a reason to go back: who comes first, and what is said of it.

use super::scene::{Scene, ask, deploy};
use rollout::snapshot::{AlarmReading, Weights};
use rollout::stage::Verdict;
use rollout::{Effect, Fact, Instruction, Seconds, Slot};

/// Blue is stable, and `v2` has the first share of the traffic on green.
fn in_mid_shift() -> Scene {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().green == 10);
    scene.turn();
    scene
}

fn replaced(scene: &Scene) -> Vec<(String, String)> {
    let entries = scene.journal.iter().filter_map(|entry| match &entry.fact {
        Fact::ForeignWeightsReplaced { found, cause } => Some((found.clone(), cause.clone())),
        _ => None,
    });
    entries.collect()
}

/// Case: 90/10 was decided, a Terraform apply writes 10/90 or 0/100, and the alarm fires.
#[test]
fn a_firing_alarm_goes_back_at_once_over_an_edit_that_favours_the_candidate() {
    for (blue, green) in [(10, 90), (0, 100), (50, 50)] {
        let mut scene = in_mid_shift();
        scene.now = Seconds(2).after(scene.now);
        scene.edit_rule(blue, green);
        scene.fire();
        scene.decide(&[]);
        scene.decide(&[]);
        assert_eq!(scene.weights(), Weights { blue: 100, green: 0 }, "after {blue}/{green}");
        scene.until(|_| false);
        assert_eq!(scene.verdict(), Some(Verdict::RolledBack));
        assert!(scene.ending().contains("api-5xx"), "{}", scene.ending());
        let said = replaced(&scene);
        let [(found, cause)] = said.as_slice() else { panic!("said once: {said:?}") };
        assert!(found.contains(&format!("blue {blue} / green {green}")), "{found}");
        assert!(found.contains("blue 90 / green 10"), "and what it should have been: {found}");
        assert!(cause.contains("api-5xx"), "{cause}");
    }
}

#[test]
fn what_is_halted_goes_back_when_the_alarm_fires_then() {
    let mut scene = in_mid_shift();
    scene.now = Seconds(30).after(scene.now);
    scene.edit_rule(10, 90);
    scene.turn();
    assert!(scene.wrote(|fact| matches!(fact, Fact::Halted { .. })));
    assert_eq!(scene.weights(), Weights { blue: 10, green: 90 }, "going on never writes over another's edit");
    scene.fire();
    scene.decide(&[]);
    scene.decide(&[]);
    assert_eq!(scene.weights(), Weights { blue: 100, green: 0 });
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::RolledBack));
}

#[test]
fn a_dead_candidate_an_abort_and_a_newer_release_go_back_over_an_edit() {
    let dead = |scene: &mut Scene| scene.side(Slot::Green).targets.healthy = 0;
    let abort = |scene: &mut Scene| {
        scene.decide(&[ask(Instruction::Abort { deployment: None }, "a1")]);
    };
    let newer = |scene: &mut Scene| {
        scene.applied.concurrency = rollout::Concurrency::CancelRunning;
        scene.decide(&[deploy("v3")]);
    };
    type Reason = fn(&mut Scene);
    let reasons: [(&str, Reason); 3] = [("dead", dead), ("abort", abort), ("newer", newer)];
    for (name, reason) in reasons {
        let mut scene = in_mid_shift();
        scene.now = Seconds(30).after(scene.now);
        scene.edit_rule(10, 90);
        scene.turn();
        reason(&mut scene);
        scene.decide(&[]);
        scene.decide(&[]);
        assert_eq!(scene.weights(), Weights { blue: 100, green: 0 }, "{name}");
        assert_eq!(replaced(&scene).len(), 1, "{name}: {:#?}", scene.journal);
    }
}

#[test]
fn an_edit_during_the_way_back_is_replaced_too_and_nothing_is_taken_down_under_it() {
    for stage in ["draining", "candidate_down"] {
        let mut scene = in_mid_shift();
        scene.fire();
        scene.until(|scene| scene.weights().blue == 100);
        scene.turn();
        scene.alarm(AlarmReading::Ok);
        if stage == "candidate_down" {
            // It has drained; its tasks are about to stop.
            scene.now = Seconds(301).after(scene.now);
        } else {
            scene.now = Seconds(20).after(scene.now);
        }
        scene.edit_rule(50, 50);
        scene.until(|scene| scene.weights().blue == 100);
        assert!(scene.side(Slot::Green).running > 0, "{stage}: what has traffic stays up");
        scene.until(|_| false);
        assert_eq!(scene.verdict(), Some(Verdict::RolledBack), "{stage}");
        assert_eq!(scene.weights(), Weights { blue: 100, green: 0 }, "{stage}");
        assert!(replaced(&scene).iter().any(|(found, _)| found.contains("blue 50 / green 50")), "{stage}");
    }
}

#[test]
fn a_write_forward_names_what_it_was_decided_on_and_is_not_made_over_anything_else() {
    let mut scene = in_mid_shift();
    let (blue, green) = (scene.weights().blue, scene.weights().green);
    scene.until(|scene| scene.weights().green > 10);
    let forward = scene.effects.iter().rev().find_map(|effect| match effect {
        Effect::SetWeights { seen, .. } => Some(seen.clone()),
        _ => None,
    });
    assert_eq!(forward, Some(vec![Weights { blue, green }]));

    let mut scene = in_mid_shift();
    // Between the look and the write somebody else is faster: nothing is written, and the next look sees it.
    let seen = scene.seen();
    scene.now = Seconds(3600).after(scene.now);
    let inbox = rollout::Inbox { commands: &[], policy: Some(&scene.applied), around: Some(&scene.around) };
    let decision = rollout::decide(&scene.state, &inbox, Some(&seen), scene.now);
    assert!(matches!(decision.effects.as_slice(), [Effect::SetWeights { .. }]), "{:?}", decision.effects);
    scene.edit_rule(30, 70);
    scene.turn();
    assert_eq!(scene.weights(), Weights { blue: 30, green: 70 });
    scene.until(|scene| scene.wrote(|fact| matches!(fact, Fact::Halted { .. })));
    assert_eq!(scene.weights(), Weights { blue: 30, green: 70 }, "a person decides");
}

#[test]
fn both_sides_unhealthy_moves_nothing_takes_nothing_down_and_calls_people_with_both_sides_evidence() {
    let mut scene = in_mid_shift();
    for slot in [Slot::Blue, Slot::Green] {
        let targets = &mut scene.side(slot).targets;
        (targets.unhealthy, targets.healthy) = (targets.healthy, 0);
    }
    scene.until(|_| false);
    assert_eq!(scene.weights(), Weights { blue: 90, green: 10 }, "never from a side to one that cannot serve either");
    assert!(scene.side(Slot::Blue).running > 0 && scene.side(Slot::Green).running > 0, "nothing is taken down");
    let evidence = scene.journal.iter().find_map(|entry| match &entry.fact {
        Fact::WayBackUnfit { reason } if entry.fact.wants_attention() => Some(reason.clone()),
        _ => None,
    });
    let evidence = evidence.expect("people are called");
    assert!(evidence.contains("blue has 0 healthy") && evidence.contains("green has 0 healthy"), "{evidence}");
    assert_eq!(scene.verdict(), Some(Verdict::Failed));
    assert!(scene.ending().contains("blue has 0 healthy"), "{}", scene.ending());
}

#[test]
fn it_goes_back_as_soon_as_the_stable_side_can_serve_again() {
    let mut scene = in_mid_shift();
    for slot in [Slot::Blue, Slot::Green] {
        scene.side(slot).targets.healthy = 0;
    }
    scene.turn();
    scene.turn();
    scene.side(Slot::Blue).targets.healthy = 4;
    scene.until(|_| false);
    assert_eq!(scene.weights(), Weights { blue: 100, green: 0 });
    assert_eq!(scene.verdict(), Some(Verdict::RolledBack));
}

/// A way back with a deadline of 60 s whose driver is killed before it writes, and taken over after it.
#[test]
fn a_way_back_is_tried_before_its_deadline_ends_it() {
    let mut scene = in_mid_shift();
    scene.applied.policy.deadlines.rollback = Seconds(60);
    if let Some(running) = &mut scene.state.running {
        running.policy.deadlines.rollback = Seconds(60);
    }
    scene.fire();
    // The decision is committed, and its driver dies.
    let seen = scene.seen();
    let inbox = rollout::Inbox { commands: &[], policy: Some(&scene.applied), around: Some(&scene.around) };
    let first = rollout::decide(&scene.state, &inbox, Some(&seen), scene.now);
    let inbox = rollout::Inbox { commands: &[], policy: Some(&scene.applied), around: Some(&scene.around) };
    let second = rollout::decide(&first.state, &inbox, Some(&seen), scene.now);
    scene.journal.extend([first.journal, second.journal].concat());
    scene.state = second.state;
    assert_eq!(scene.stage(), "rolling_back");
    scene.now = Seconds(65).after(scene.now);
    scene.turn();
    assert_eq!(scene.weights(), Weights { blue: 100, green: 0 });
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::RolledBack));
    assert_eq!(scene.side(Slot::Green).desired, 0, "nothing of it is left behind");
}

#[test]
fn what_was_borrowed_is_given_back_though_the_time_for_it_has_passed() {
    let mut scene = Scene::new();
    scene.autoscale(Slot::Blue, 2, 8);
    scene.autoscale(Slot::Green, 0, 8);
    let before = [Slot::Blue, Slot::Green].map(|slot| scene.side(slot).autoscaling);
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().green == 10);
    scene.fire();
    scene.until(|scene| scene.weights().blue == 100);
    // Nobody comes for hours: the deadline of going back is long over.
    scene.now = Seconds(3 * 3600).after(scene.now);
    scene.until(|_| false);
    assert_eq!([Slot::Blue, Slot::Green].map(|slot| scene.side(slot).autoscaling), before);
    assert_eq!(scene.side(Slot::Green).desired, 0);
    assert!(!scene.wrote(|fact| matches!(fact, Fact::LeftBehind { .. })), "{:#?}", scene.journal);
}

#[test]
fn weights_that_cannot_be_written_are_tried_past_the_deadline() {
    let mut scene = in_mid_shift();
    scene.rules_are_stuck = true;
    scene.fire();
    scene.turn();
    let deadline = scene.state.running.as_ref().map(|running| running.stage.deadline()).expect("it runs");
    scene.until(|scene| scene.now > Seconds(600).after(deadline));
    assert_eq!(scene.verdict(), None);
    scene.rules_are_stuck = false;
    scene.until(|_| false);
    assert_eq!(scene.weights(), Weights { blue: 100, green: 0 });
    assert_eq!(scene.verdict(), Some(Verdict::RolledBack));
}

#[test]
fn rules_that_cannot_be_read_do_not_keep_a_firing_alarm_waiting() {
    let mut scene = in_mid_shift();
    scene.rules_are_hidden = true;
    scene.fire();
    scene.decide(&[]);
    scene.decide(&[]);
    assert_eq!(scene.weights(), Weights { blue: 100, green: 0 }, "what cannot be seen is written all the same");
}
