//! The stopped line: nothing begins, and nothing widens, wherever a deployment is.

use super::scene::{Scene, ask, deploy, policy, start, target};
use rollout::brake::{Brake, Scope};
use rollout::plan::{Outlook, rehearse};
use rollout::target::{ReleaseRef, WaitingOn};
use rollout::{Actor, Gate, Instruction, Percent, Reading, Seconds, SignedDuration, Slot, Verdict};

fn stop(scene: &mut Scene) {
    let by = Actor::Person { name: "ada".to_owned() };
    let brake = Brake { scope: Scope::Everything, by, reason: "an incident".to_owned(), since: scene.now, until: None };
    scene.around.brakes = Reading::Known(vec![brake]);
}

fn go_on(scene: &mut Scene) {
    scene.around.brakes = Reading::Known(vec![]);
}

fn is_held(scene: &Scene) -> bool {
    let line = |on: &WaitingOn| matches!(on, WaitingOn::Gate { gate: Gate::StopTheLine, .. });
    scene.state.explanation.waiting_on.iter().any(line)
}

#[test]
fn a_step_whose_tasks_come_up_while_the_line_is_stopped_is_not_taken() {
    let mut policy = policy();
    policy.strategy.green_capacity = Percent::new(25).expect("a share");
    let mut scene = Scene::with(policy);
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().of(Slot::Green) == 10);
    // The next step needs another task, which takes its time.
    scene.sick_candidates = true;
    scene.until(|scene| scene.snapshot.green.known().is_some_and(|side| side.desired > 1));
    stop(&mut scene);
    scene.sick_candidates = false;
    let count = scene.side(Slot::Green).desired;
    scene.side(Slot::Green).targets.unhealthy = 0;
    scene.side(Slot::Green).targets.healthy = count;
    for _ in 0..200 {
        scene.turn();
    }
    assert_eq!(scene.weights().of(Slot::Green), 10, "the step was taken though the line is stopped");
    assert!(is_held(&scene));
    go_on(&mut scene);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn what_waits_for_an_alarm_before_it_starts_does_not_start_while_the_line_is_stopped() {
    let mut scene = Scene::new();
    scene.fire();
    scene.decide(&[deploy("v2")]);
    scene.turn();
    assert_eq!(scene.stage(), "preflight");
    stop(&mut scene);
    scene.alarm(rollout::snapshot::AlarmReading::Ok);
    for _ in 0..200 {
        scene.turn();
    }
    assert_eq!((scene.stage(), scene.effects.len()), ("preflight", 0), "long past preflight's deadline");
    assert!(is_held(&scene));
    go_on(&mut scene);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn a_plan_says_that_the_line_is_stopped_and_nothing_else() {
    let mut scene = Scene::new();
    stop(&mut scene);
    let command = deploy("v2");
    let Instruction::Deploy { release, image, tag, .. } = command.instruction.clone() else { unreachable!() };
    let release = ReleaseRef { id: release, image, tag, pushed_at: None };
    let rehearsal = rehearse(&scene.state, &scene.applied, &command, release, &scene.around, scene.now);
    let plan = rehearsal.plan(Some(&scene.seen()));
    assert_eq!(plan.outlook, Outlook::Gated, "{:?}", plan.blockers);
    assert_eq!(plan.blockers, ["stop_the_line: the line is stopped by ada: an incident"]);
    assert_eq!((plan.target, scene.now), (target(), start() + SignedDuration::ZERO));
}

#[test]
fn a_rollback_that_somebody_asks_for_waits_neither_for_the_line_nor_for_a_freeze() {
    for scope in [Scope::Everything, Scope::Application { application: target().application }] {
        let mut scene = Scene::new();
        scene.run("v2");
        scene.run("v3");
        let by = Actor::Person { name: "ada".to_owned() };
        let brake = Brake { scope, by, reason: "an incident".to_owned(), since: scene.now, until: None };
        scene.around.brakes = Reading::Known(vec![brake]);
        scene.decide(&[ask(Instruction::Rollback, "r1")]);
        let asked_at = scene.now;
        scene.until(|scene| scene.weights().of(Slot::Blue) == 0);
        assert!(Seconds::between(asked_at, scene.now) < Seconds(300), "{:?}", scene.state.explanation);
        scene.until(|_| false);
        assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
    }
}

#[test]
fn a_shift_does_not_widen_while_it_cannot_be_read_whether_the_line_is_stopped() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().of(Slot::Green) == 10);
    scene.around.brakes = Reading::Unknown("throttled".to_owned());
    for _ in 0..200 {
        scene.turn();
    }
    assert_eq!(scene.weights().of(Slot::Green), 10);
    assert!(is_held(&scene), "{:?}", scene.state.explanation);
    go_on(&mut scene);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
}
