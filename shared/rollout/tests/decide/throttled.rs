//! AWS throttles, or others have asked before: deployments wait, nothing ends because of it, and ways back do not wait.

use super::scene::{Scene, ask, deploy, policy};
use rollout::pace::{self, Place};
use rollout::target::WaitingOn;
use rollout::{Instruction, Next, Reading, Seconds, Slot, Timestamp, Verdict};

/// A look that AWS throttles: nothing of the sides and the rules is seen.
fn throttle(scene: &mut Scene) {
    let reason = || "DescribeRules: ThrottlingException: Rate exceeded".to_owned();
    scene.snapshot.throttled = true;
    scene.snapshot.green = Reading::Unknown(reason());
    scene.rules_are_hidden = true;
}

/// From now on AWS throttles, for so long; then all is as it was before.
fn throttle_for(scene: &mut Scene, seconds: u64) -> Vec<u64> {
    let before = scene.snapshot.clone();
    let until = Seconds(seconds).after(scene.now);
    throttle(scene);
    let mut pauses = vec![];
    while scene.now < until && scene.state.running.is_some() && scene.stage() != "rolling_back" {
        let from = scene.now;
        loop {
            match scene.decide(&[]) {
                // On its way back it does not wait, and sees nothing: another pass goes on.
                Next::Again if scene.stage() == "rolling_back" => break,
                Next::Again => {}
                Next::At(at) => {
                    scene.now = at;
                    break;
                }
                Next::Rest => break,
            }
        }
        pauses.push(Seconds::between(from, scene.now).0);
    }
    scene.snapshot = before;
    scene.rules_are_hidden = false;
    pauses
}

fn waits_for_budgets(scene: &Scene) -> bool {
    scene.state.explanation.waiting_on.iter().any(|on| matches!(on, WaitingOn::Budget { .. }))
}

#[test]
fn throttled_looks_come_again_ever_later_and_say_what_they_wait_for() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().of(Slot::Green) == 10);
    let pauses = throttle_for(&mut scene, 1_200);
    assert!(waits_for_budgets(&scene));
    assert!(pauses.len() < 20, "{} looks in 20 minutes of throttling: {pauses:?}", pauses.len());
    assert!(pauses.iter().max() > Some(&100) && pauses.iter().all(|pause| *pause <= 450), "{pauses:?}");
    // It forgets that slowly, and looks as usual in the end.
    scene.until(|scene| scene.state.strain == 0);
    assert!(!waits_for_budgets(&scene));
}

#[test]
fn no_deployment_fails_because_aws_throttles_for_an_hour_in_any_of_its_stages() {
    for stage in ["preflight", "scaling", "shifting", "baking", "retiring"] {
        let mut scene = Scene::new();
        if stage == "preflight" {
            // Before its first look.
            throttle(&mut scene);
        }
        scene.sick_candidates = stage == "scaling";
        scene.decide(&[deploy("v2")]);
        scene.until(|scene| scene.stage() == stage);
        assert_eq!(scene.stage(), stage);
        scene.sick_candidates = false;
        if stage == "scaling" {
            let side = scene.side(Slot::Green);
            side.targets.healthy += std::mem::take(&mut side.targets.unhealthy);
        }
        if stage == "preflight" {
            scene.snapshot = Scene::new().snapshot;
        }
        throttle_for(&mut scene, 3_600);
        scene.until(|_| false);
        assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "throttled while {stage}: {}", scene.ending());
    }
}

#[test]
fn throttling_that_never_ends_does_not_keep_a_deployment_for_ever() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().of(Slot::Green) == 10);
    let began = scene.now;
    throttle_for(&mut scene, 24 * 3_600);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::RolledBack), "{}", scene.ending());
    assert!(Seconds::between(began, scene.now) < Seconds(25 * 3_600), "it took until {}", scene.now);
}

#[test]
fn a_way_back_does_not_wait_however_much_is_throttled() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().of(Slot::Green) == 50);
    throttle_for(&mut scene, 900);
    assert!(scene.state.strain > 3);
    // Only the alarms can be read; and the weights cannot be written.
    throttle(&mut scene);
    scene.fire();
    scene.rules_are_stuck = true;
    for _ in 0..20 {
        let from = scene.now;
        let next = scene.decide(&[]);
        assert_eq!(scene.stage(), "rolling_back");
        if let Next::At(at) = next {
            assert!(Seconds::between(from, at) <= Seconds(4), "it waits until {at} at {from}");
            scene.now = at;
        }
    }
    scene.rules_are_stuck = false;
    scene.decide(&[]);
    assert_eq!(scene.weights().of(Slot::Green), 0, "the weights are back before anything can be read");
}

/// A deployment whose turn comes in so many seconds.
fn waiting(seconds: u64) -> (Scene, Timestamp) {
    let mut scene = Scene::new();
    assert_eq!(scene.decide(&[deploy("v2")]), Next::Again);
    assert_eq!(scene.stage(), "preflight");
    assert!(pace::due_place(&scene.state).is_some(), "it has to take a place before it looks");
    let at = Seconds(seconds).after(scene.now);
    scene.state.running.as_mut().expect("it runs").place = Some(Place { at, sparing: true });
    (scene, at)
}

#[test]
fn nobody_looks_before_their_turn_and_no_deadline_runs_until_then() {
    let (mut scene, at) = waiting(20 * 3_600);
    assert_eq!(scene.decide(&[]), Next::At(at));
    assert_eq!(scene.state.explanation.waiting_on, [WaitingOn::Turn { at }]);
    assert_eq!(scene.decide(&[]), Next::At(at));
    let told = scene.journal.iter().filter(|entry| matches!(entry.fact, rollout::Fact::Blocked { .. })).count();
    assert_eq!((told, scene.effects.len()), (1, 0), "it is told once, and nothing is touched");
    scene.now = at;
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
}

#[test]
fn who_waits_for_a_turn_can_be_ended_and_ways_back_and_hotfixes_take_no_place() {
    let (mut scene, _) = waiting(3_600);
    scene.decide(&[ask(Instruction::Abort { deployment: None }, "enough")]);
    assert_eq!(scene.verdict(), Some(Verdict::Cancelled), "{}", scene.ending());

    let mut scene = Scene::new();
    scene.run("v2");
    scene.run("v3");
    scene.decide(&[ask(Instruction::Rollback, "back")]);
    assert!(scene.state.running.is_some() && pace::due_place(&scene.state).is_none());
}

#[test]
fn who_looks_while_others_wait_does_so_only_when_something_is_due() {
    let looks = |sparing: bool| {
        let mut scene = Scene::with(policy());
        scene.decide(&[deploy("v2")]);
        let place = Place { at: scene.now, sparing };
        scene.state.running.as_mut().expect("it runs").place = Some(place);
        let mut looks = 0;
        scene.until(|scene| {
            looks += 1;
            scene.state.running.is_none()
        });
        assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
        looks
    };
    let (often, sparing) = (looks(false), looks(true));
    assert!(sparing * 3 < often * 2, "{sparing} looks instead of {often}");
}
