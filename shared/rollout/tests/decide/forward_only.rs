//! A release that a migration came with: no automatic way back.

use super::gates::settle;
use super::scene::{Scene, ask, deploy, policy};
use rollout::policy::{Hook, HookAction, HookPoint};
use rollout::snapshot::{AlarmReading, TargetHealth, TaskReading};
use rollout::{Command, Fact, Instruction, Name, Reading, Seconds, Slot, Verdict};

fn forward_only(tag: &str) -> Command {
    let mut command = deploy(tag);
    if let Instruction::Deploy { terms, .. } = &mut command.instruction {
        terms.forward_only = true;
    }
    command
}

/// In the middle of a shift, and its alarm fires.
fn frozen() -> Scene {
    let mut scene = Scene::new();
    scene.decide(&[forward_only("v2")]);
    scene.until(|scene| scene.weights().of(Slot::Green) == 50);
    scene.fire();
    settle(&mut scene, &[]);
    assert!(scene.state.running.as_ref().unwrap().frozen.is_some());
    scene
}

fn resume() -> Command {
    ask(Instruction::Resume, "resume")
}

#[test]
fn trouble_freezes_it_where_it_is_and_pages_with_the_evidence() {
    let mut scene = frozen();
    let paged: Vec<_> = scene
        .journal
        .iter()
        .filter(|entry| matches!(&entry.fact, Fact::Frozen { evidence, .. } if evidence.alarms.known().is_some()))
        .collect();
    assert_eq!(paged.len(), 1);
    assert!(paged[0].fact.wants_attention());
    for _ in 0..50 {
        scene.turn();
    }
    assert_eq!((scene.weights().of(Slot::Blue), scene.weights().of(Slot::Green)), (50, 50));
    assert!(!scene.wrote(|fact| matches!(fact, Fact::RollbackStarted { .. })));
    let told = scene.journal.iter().filter(|entry| matches!(entry.fact, Fact::Frozen { .. })).count();
    assert_eq!(told, 1, "once");
}

#[test]
fn a_person_lets_it_go_on() {
    let mut scene = frozen();
    settle(&mut scene, &[resume()]);
    assert!(scene.wrote(|fact| matches!(fact, Fact::Unfrozen { reason } if reason == "because")));
    scene.until(|_| false);
    assert_eq!(
        scene.verdict(),
        Some(Verdict::Succeeded),
        "the alarm still fires, and somebody took that upon themselves"
    );
}

#[test]
fn an_alarm_that_was_ok_meanwhile_freezes_it_again() {
    let mut scene = frozen();
    settle(&mut scene, &[resume()]);
    scene.alarm(AlarmReading::Ok);
    scene.turn();
    scene.fire();
    settle(&mut scene, &[]);
    assert!(scene.state.running.as_ref().unwrap().frozen.is_some());
}

#[test]
fn a_person_takes_it_back() {
    let mut scene = frozen();
    scene.decide(&[ask(Instruction::Rollback, "back")]);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::RolledBack));
    assert_eq!(scene.weights().of(Slot::Green), 0);
}

#[test]
fn who_switches_back_by_hand_has_decided() {
    let mut scene = frozen();
    scene.edit_rule(1, 0);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::RolledBack));
}

#[test]
fn what_never_got_its_first_share_goes_back_for_its_own_trouble() {
    let mut scene = Scene::new();
    scene.rules_are_stuck = true;
    scene.decide(&[forward_only("v2")]);
    scene.until(|scene| scene.wrote(|fact| matches!(fact, Fact::WeightsDecided { .. })));
    scene.fire();
    scene.now = Seconds(60).after(scene.now);
    scene.decide(&[]);
    scene.rules_are_stuck = false;
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Failed), "{}", scene.ending());
    assert!(scene.ending().contains("alarm"), "nobody's hand: {}", scene.ending());
}

#[test]
fn an_abort_leaves_everything_as_it_is_for_what_comes_next() {
    let mut scene = Scene::new();
    scene.decide(&[forward_only("v2")]);
    scene.until(|scene| scene.stage() == "baking");
    scene.fire();
    settle(&mut scene, &[]);
    scene.decide(&[ask(Instruction::Abort { deployment: None }, "a")]);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Failed));
    assert_eq!(scene.weights().of(Slot::Green), 100);
    // What mends it comes next, over what serves now.
    scene.alarm(AlarmReading::Ok);
    scene.run("v3");
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded));
    assert_eq!(scene.weights().of(Slot::Blue), 100);
}

#[test]
fn nobody_decides_and_the_target_stays_frozen() {
    let mut scene = frozen();
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Failed));
    assert!(scene.ending().starts_with("forward-only, and nobody decided within 1d"), "{}", scene.ending());
    assert!(scene.state.frozen.is_some());
    settle(&mut scene, &[deploy("v3")]);
    assert_eq!(scene.stage(), "gated", "nothing begins");
    settle(&mut scene, &[resume()]);
    assert!(scene.state.frozen.is_none());
    assert_ne!(scene.stage(), "gated");
    settle(&mut scene, &[Command { id: rollout::CommandId("2".to_owned()), ..resume() }]);
    assert!(
        scene.wrote(|fact| matches!(fact, Fact::CommandRefused { reason, .. } if reason == "nothing is frozen here"))
    );
}

#[test]
fn before_any_traffic_has_moved_the_attempt_just_ends() {
    let mut scene = Scene::new();
    scene.sick_candidates = true;
    scene.decide(&[forward_only("v2")]);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Failed));
    assert!(!scene.wrote(|fact| matches!(fact, Fact::Frozen { .. })));
}

#[test]
fn a_newer_release_does_not_turn_it_back() {
    let mut scene = Scene::new();
    scene.applied.concurrency = rollout::Concurrency::CancelRunning;
    scene.decide(&[forward_only("v2")]);
    scene.until(|scene| scene.weights().of(Slot::Green) == 50);
    scene.decide(&[deploy("v3")]);
    scene.until(|scene| scene.verdict().is_some());
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn a_migration_that_has_begun_makes_it_so() {
    let mut rules = policy();
    let run = HookAction::Task { container: "api".to_owned(), command: vec!["migrate".to_owned()] };
    let name = Name::new("migrate").unwrap();
    let at = HookPoint::BeforeTraffic;
    rules.hooks = vec![Hook { name, at, run, deadline: Seconds(120), forward_only: true }];
    let mut scene = Scene::with(rules);
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.stage() == "before_traffic");
    for _ in 0..3 {
        scene.decide(&[]);
    }
    let done = TaskReading::Stopped { exit_code: Some(0), reason: String::new() };
    scene.snapshot.hook_tasks.insert("migrate".to_owned(), Reading::Known(done));
    scene.until(|scene| scene.weights().of(Slot::Green) == 50);
    scene.side(Slot::Green).targets = TargetHealth { unhealthy: 4, ..TargetHealth::default() };
    settle(&mut scene, &[]);
    assert!(scene.wrote(|fact| matches!(fact, Fact::Frozen { .. })));
    assert!(!scene.wrote(|fact| matches!(fact, Fact::RollbackStarted { .. })));
}

#[test]
fn what_is_let_go_on_is_not_verified_while_the_rules_are_somebody_elses() {
    let mut scene = Scene::new();
    scene.decide(&[forward_only("v2")]);
    scene.until(|scene| scene.stage() == "keeping_warm");
    scene.fire();
    settle(&mut scene, &[]);
    scene.edit_rule(37, 63);
    scene.now = Seconds(60).after(scene.now);
    settle(&mut scene, &[resume()]);
    assert_eq!(scene.state.verified, [], "a third of the traffic is elsewhere");
    scene.edit_rule(0, 100);
    settle(&mut scene, &[]);
    assert_eq!(scene.state.verified.len(), 1, "somebody has decided, and everything is here again");
}

#[test]
fn what_is_verified_and_then_freezes_is_not_promoted_until_somebody_lets_it_go_on() {
    let mut scene = Scene::new();
    scene.decide(&[forward_only("v2")]);
    scene.until(|scene| scene.stage() == "keeping_warm");
    assert_eq!(scene.state.verified.len(), 1);
    scene.fire();
    settle(&mut scene, &[]);
    assert!(scene.state.running.as_ref().unwrap().frozen.is_some());
    assert_eq!(scene.state.verified, [], "nothing follows it");
    settle(&mut scene, &[resume()]);
    assert_eq!(scene.state.verified.len(), 1, "somebody has decided");
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded));
    assert_eq!(scene.state.verified.len(), 1);
}

#[test]
fn a_freeze_that_is_lifted_holds_promotion_no_longer() {
    let mut scene = Scene::new();
    scene.applied.entry.promotes_itself = true;
    scene.decide(&[forward_only("v2")]);
    scene.until(|scene| scene.weights().of(Slot::Green) == 50);
    scene.fire();
    settle(&mut scene, &[]);
    assert!(scene.state.promotion_hold.is_some());
    settle(&mut scene, &[resume()]);
    assert_eq!(scene.state.promotion_hold, None);
    assert!(scene.wrote(|fact| matches!(fact, Fact::PromotionResumed)));
}

/// After the traffic, a check says no, or nothing.
fn checked(done: Option<TaskReading>) -> Scene {
    let mut rules = policy();
    let run = HookAction::Task { container: "api".to_owned(), command: vec!["check".to_owned()] };
    let name = Name::new("check").unwrap();
    rules.hooks = vec![Hook { name, at: HookPoint::AfterTraffic, run, deadline: Seconds(120), forward_only: false }];
    let mut scene = Scene::with(rules);
    scene.decide(&[forward_only("v2")]);
    scene.until(|scene| scene.stage() == "after_traffic");
    settle(&mut scene, &[]);
    if let Some(done) = done {
        scene.snapshot.hook_tasks.insert("check".to_owned(), Reading::Known(done));
    }
    scene.until(|scene| scene.state.running.as_ref().is_some_and(|running| running.frozen.is_some()));
    scene
}

#[test]
fn a_hook_that_said_no_does_not_freeze_it_again_once_a_person_lets_it_go_on() {
    let no = TaskReading::Stopped { exit_code: Some(1), reason: "the cart is empty".to_owned() };
    let mut scene = checked(Some(no));
    settle(&mut scene, &[resume()]);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
    assert_eq!(scene.journal.iter().filter(|entry| matches!(entry.fact, Fact::Frozen { .. })).count(), 1);
}

#[test]
fn a_hook_that_is_still_at_work_has_its_time_once_more() {
    let mut scene = checked(None);
    settle(&mut scene, &[resume()]);
    assert_eq!(scene.stage(), "after_traffic");
    scene.turn();
    let done = TaskReading::Stopped { exit_code: Some(0), reason: String::new() };
    scene.snapshot.hook_tasks.insert("check".to_owned(), Reading::Known(done));
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
}

#[test]
fn what_ran_out_of_time_has_time_again_once_a_person_lets_it_go_on() {
    let mut scene = Scene::new();
    scene.decide(&[forward_only("v2")]);
    scene.until(|scene| scene.weights().of(Slot::Green) == 50);
    scene.alarm(AlarmReading::NoData);
    scene.until(|scene| scene.state.running.as_ref().is_some_and(|running| running.frozen.is_some()));
    settle(&mut scene, &[resume()]);
    assert!(scene.state.running.as_ref().unwrap().frozen.is_none(), "frozen again at once");
    scene.turn();
    scene.alarm(AlarmReading::Ok);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn what_was_forward_only_where_it_comes_from_is_so_here_too() {
    let mut scene = super::gates::automatic();
    super::gates::verify(&mut scene, "v2");
    for neighbour in scene.around.neighbours.values_mut() {
        neighbour.verified.iter_mut().for_each(|known| known.forward_only = true);
    }
    let command = super::gates::promoted(&scene, "v2");
    settle(&mut scene, &[command]);
    scene.until(|scene| scene.weights().of(Slot::Green) == 50);
    scene.fire();
    settle(&mut scene, &[]);
    assert!(scene.state.running.as_ref().unwrap().frozen.is_some());
    assert!(!scene.wrote(|fact| matches!(fact, Fact::RollbackStarted { .. } | Fact::PlanChanged { .. })));
}
