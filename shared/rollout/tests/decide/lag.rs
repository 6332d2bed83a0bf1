//! What is read may lag behind what was written: nothing is believed of it that only the lag makes look so.

use super::scene::{Scene, ask, deploy};
use rollout::snapshot::Weights;
use rollout::stage::Stage;
use rollout::{Effect, Fact, Instruction, Reading, Seconds, Slot, Timestamp, Verdict};

/// v2 has a tenth of the traffic, which was seen.
fn a_tenth() -> Scene {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    let seen = |scene: &Scene| scene.wrote(|fact| matches!(fact, Fact::WeightsVerified { .. }));
    scene.until(seen);
    assert_eq!(scene.weights(), Weights { blue: 90, green: 10 });
    scene
}

fn acted_at(scene: &Scene) -> Timestamp {
    scene.state.running.as_ref().and_then(|running| running.acted_at).expect("it has done something")
}

fn writes(scene: &Scene) -> usize {
    scene.effects.iter().filter(|effect| matches!(effect, Effect::SetWeights { .. })).count()
}

#[test]
fn a_way_back_is_written_even_where_the_rules_are_still_read_as_they_were_before() {
    let mut scene = a_tenth();
    let before = writes(&scene);
    scene.edit_rule(100, 0);
    scene.decide(&[ask(Instruction::Abort { deployment: None }, "abort")]);
    assert_eq!(writes(&scene), before + 1, "what is read may be from before the tenth");
    assert!(!scene.state.running.as_ref().expect("it runs").stage.weights_are_back());
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Cancelled), "{}", scene.ending());
}

#[test]
fn a_way_back_whose_writing_was_not_answered_is_written_again_before_it_is_believed() {
    let mut scene = a_tenth();
    scene.rules_are_stuck = true;
    scene.decide(&[ask(Instruction::Abort { deployment: None }, "abort")]);
    let before = writes(&scene);
    // Read as it was before the tenth; the way back was never written.
    scene.edit_rule(100, 0);
    scene.rules_are_stuck = false;
    scene.decide(&[]);
    assert_eq!(writes(&scene), before + 1, "nobody heard a yes");
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Cancelled), "{}", scene.ending());
}

#[test]
fn what_was_so_a_moment_ago_is_nobodys_hand_and_a_moment_later_it_is() {
    let mut scene = a_tenth();
    scene.edit_rule(100, 0);
    scene.now = Seconds(2).after(acted_at(&scene));
    scene.decide(&[]);
    assert_eq!(scene.stage(), "shifting", "{:?}", scene.state.explanation);
    assert!(!scene.wrote(|fact| matches!(fact, Fact::RollbackStarted { .. } | Fact::Halted { .. })));
    scene.now = Seconds(20).after(scene.now);
    scene.decide(&[]);
    assert!(scene.wrote(|fact| matches!(fact, Fact::RollbackStarted { .. })), "it stays so: somebody did it");
}

#[test]
fn who_stood_still_since_the_rules_were_read_blames_nobody_for_what_was_so_then() {
    let mut scene = a_tenth();
    scene.edit_rule(100, 0);
    scene.snapshot.begun_at = Some(Seconds(1).after(acted_at(&scene)));
    scene.now = Seconds(40).after(acted_at(&scene));
    scene.decide(&[]);
    assert!(!scene.wrote(|fact| matches!(fact, Fact::RollbackStarted { .. } | Fact::Halted { .. })));
    scene.snapshot.begun_at = Some(scene.now);
    scene.decide(&[]);
    assert!(scene.wrote(|fact| matches!(fact, Fact::RollbackStarted { .. })), "it is so still: somebody did it");
}

#[test]
fn what_may_have_had_traffic_while_nobody_could_read_the_rules_drains_first() {
    let mut scene = Scene::new();
    scene.sick_candidates = true;
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.effects.iter().any(|effect| matches!(effect, Effect::UpdateService { .. })));
    assert_eq!(scene.stage(), "scaling");
    scene.edit_rule(1, 99);
    scene.rules_are_hidden = true;
    scene.fire();
    scene.decide(&[]);
    scene.decide(&[]);
    assert!(writes(&scene) > 0, "nobody knows where the traffic is: it goes back");
    scene.rules_are_hidden = false;
    let taken_down = |scene: &Scene| {
        scene.effects.iter().any(|effect| matches!(effect, Effect::SetDesired { slot: Slot::Green, desired: 0 }))
    };
    let back = scene.now;
    scene.until(taken_down);
    assert!(taken_down(&scene), "{}", scene.ending());
    let drain = scene.state.running.as_ref().expect("it runs").policy.strategy.drain;
    assert!(scene.now >= drain.after(back), "{} after {back}", scene.now);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Failed), "no traffic of its own has moved: {}", scene.ending());
}

#[test]
fn what_has_no_way_back_does_not_go_back_for_what_was_so_a_moment_ago() {
    let mut scene = Scene::new();
    let mut asked = deploy("v2");
    if let Instruction::Deploy { terms, .. } = &mut asked.instruction {
        terms.forward_only = true;
    }
    scene.decide(&[asked]);
    scene.until(|scene| scene.wrote(|fact| matches!(fact, Fact::WeightsVerified { .. })));
    scene.fire();
    scene.edit_rule(100, 0);
    scene.now = Seconds(2).after(acted_at(&scene));
    scene.decide(&[]);
    scene.decide(&[]);
    assert!(scene.wrote(|fact| matches!(fact, Fact::Frozen { .. })));
    assert!(!scene.wrote(|fact| matches!(fact, Fact::RollbackStarted { .. })), "{:?}", scene.state.explanation);
    scene.now = Seconds(60).after(scene.now);
    scene.decide(&[]);
    assert!(scene.wrote(|fact| matches!(fact, Fact::RollbackStarted { .. })), "it stays so: somebody did it");
}

#[test]
fn a_rule_that_cannot_be_read_was_not_put_back() {
    let mut scene = a_tenth();
    scene.now = Seconds(20).after(scene.now);
    scene.edit_rule(37, 63);
    scene.decide(&[]);
    assert!(scene.wrote(|fact| matches!(fact, Fact::Halted { .. })));
    scene.rules_are_hidden = true;
    scene.decide(&[]);
    assert!(!scene.wrote(|fact| matches!(fact, Fact::Resumed)), "nobody knows that");
    scene.rules_are_hidden = false;
    scene.edit_rule(90, 10);
    scene.decide(&[]);
    assert!(scene.wrote(|fact| matches!(fact, Fact::Resumed)));
}

#[test]
fn nothing_is_verified_while_nobody_can_read_where_the_traffic_goes() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.stage() == "baking");
    scene.rules_are_hidden = true;
    scene.now = Seconds(1).after(match &scene.state.running.as_ref().expect("it runs").stage {
        Stage::Baking { until, .. } => *until,
        stage => panic!("{stage:?}"),
    });
    scene.decide(&[]);
    assert_eq!(scene.stage(), "baking");
    assert_eq!(scene.state.verified, []);
    scene.rules_are_hidden = false;
    scene.decide(&[]);
    assert_eq!(scene.state.verified.len(), 1);
}

#[test]
fn no_traffic_moves_before_the_autoscaler_was_seen_to_be_held() {
    let mut scene = Scene::new();
    scene.autoscale(Slot::Blue, 2, 8);
    scene.autoscale(Slot::Green, 0, 8);
    let limits = scene.side(Slot::Blue).autoscaling;
    scene.decide(&[deploy("v2")]);
    scene.decide(&[]);
    assert_eq!(scene.stage(), "registering");
    // It cannot be read while the tasks come up.
    let blue = std::mem::replace(&mut scene.snapshot.blue, Reading::Unknown("throttled".to_owned()));
    for _ in 0..5 {
        scene.turn();
        assert_eq!(scene.stage(), "scaling", "traffic would move, and the stable side may be scaled in");
    }
    scene.snapshot.blue = blue;
    scene.until(|scene| scene.weights().of(Slot::Green) > 0);
    assert!(scene.side(Slot::Blue).autoscaling.is_some_and(|now| now.scale_in_suspended));
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
    assert_eq!(scene.side(Slot::Green).autoscaling, limits, "they went with the role");
}

#[test]
fn nothing_ends_before_what_was_done_last_is_read_once_more() {
    let mut scene = Scene::new();
    scene.autoscale(Slot::Blue, 2, 8);
    scene.autoscale(Slot::Green, 0, 8);
    scene.sick_candidates = true;
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.effects.iter().any(|effect| matches!(effect, Effect::UpdateService { .. })));
    let (blue, green) = (scene.snapshot.blue.clone(), scene.snapshot.green.clone());
    let was = |reading: &Reading<rollout::snapshot::SideReading>, min| match reading {
        Reading::Known(side) => {
            let mut side = side.clone();
            let limits =
                rollout::snapshot::Autoscaling { min, max: 8, scale_in_suspended: false, scheduled_suspended: false };
            side.autoscaling = Some(limits);
            (side.desired, side.running) = if min == 0 { (0, 0) } else { (4, 4) };
            Reading::Known(side)
        }
        unknown => unknown.clone(),
    };
    // All of it is read as it was before it was borrowed, a moment after it was.
    scene.now = Seconds(1).after(acted_at(&scene));
    (scene.snapshot.blue, scene.snapshot.green) = (was(&blue, 2), was(&green, 0));
    scene.decide(&[ask(Instruction::Abort { deployment: None }, "abort")]);
    scene.decide(&[]);
    assert_eq!(scene.verdict(), None, "that may be how it was before");
    (scene.snapshot.blue, scene.snapshot.green) = (blue, green);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Cancelled), "{}", scene.ending());
    let free = |scene: &mut Scene, slot| scene.side(slot).autoscaling.is_some_and(|limits| !limits.scale_in_suspended);
    assert!(free(&mut scene, Slot::Blue) && free(&mut scene, Slot::Green), "what was borrowed is given back");
    assert_eq!(scene.side(Slot::Green).desired, 0);
}
