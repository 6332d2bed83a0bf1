//! Tasks: a revision that was deregistered, tasks that end as they always do, tasks without a place, and limits to grow in.

use super::scene::{Scene, ask, deploy, policy};
use rollout::policy::TaskFailures;
use rollout::snapshot::{FailedStart, ServiceEvent};
use rollout::target::WaitingOn;
use rollout::{Effect, Fact, Instruction, Percent, Seconds, SignedDuration, Slot, Verdict};

fn rollback(scene: &mut Scene) {
    scene.effects.clear();
    scene.decide(&[ask(Instruction::Rollback, "r1")]);
}

/// The task definitions that were named to ECS.
fn named(scene: &Scene) -> Vec<&str> {
    let named = scene.effects.iter().filter_map(|effect| match effect {
        Effect::UpdateService { task_definition, .. } => Some(task_definition.as_str()),
        _ => None,
    });
    named.collect()
}

#[test]
fn a_side_that_has_the_version_already_is_only_counted_up() {
    let mut scene = Scene::new();
    scene.run("v2");
    scene.run("v3");
    // Somebody has deregistered the revision of v2 since: ECS refuses whoever names it.
    rollback(&mut scene);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
    assert_eq!(scene.state.stable.clone().unwrap().release.unwrap().tag, "v2");
    assert_eq!(named(&scene), [] as [&str; 0]);
    assert!(scene.effects.contains(&Effect::SetDesired { slot: Slot::Green, desired: 4 }), "{:?}", scene.effects);
}

#[test]
fn a_version_that_no_side_has_any_more_is_made_anew() {
    let mut scene = Scene::new();
    scene.run("v2");
    scene.run("v3");
    let wanted = scene.state.previous.clone().unwrap().task_definition;
    scene.side(Slot::Green).task_definition = "td:somebody-elses".to_owned();
    rollback(&mut scene);
    scene.until(|scene| scene.stage() == "scaling");
    let like = scene.effects.iter().find_map(|effect| match effect {
        Effect::RegisterTaskDefinition { like, .. } => Some(like.as_str()),
        _ => None,
    });
    assert_eq!(like, Some(wanted.as_str()), "the same document, whether its revision is active or not");
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
}

#[test]
fn what_the_breaker_gave_up_is_started_anew_and_not_only_counted_up() {
    let mut scene = Scene::new();
    scene.run("v2");
    scene.run("v3");
    let wanted = scene.state.previous.clone().unwrap().task_definition;
    scene.side(Slot::Green).stalled = true;
    rollback(&mut scene);
    scene.turn();
    assert_eq!(named(&scene)[0], format!("td:{}", scene.state.running.as_ref().unwrap().release.image));
    let registered = |effect: &Effect| matches!(effect, Effect::RegisterTaskDefinition { like, .. } if *like == wanted);
    assert!(scene.effects.iter().any(registered), "{:?}", scene.effects);
}

/// A deployment of so many tasks, whose bake has begun.
fn baking(tasks: u32, change: impl FnOnce(&mut TaskFailures)) -> Scene {
    let mut rules = policy();
    change(&mut rules.strategy.task_failures);
    let mut scene = Scene::with(rules);
    let blue = scene.side(Slot::Blue);
    (blue.desired, blue.running, blue.targets.healthy) = (tasks, tasks, tasks);
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.stage() == "baking");
    scene
}

/// So many tasks of a side have stopped by themselves.
fn lose(scene: &mut Scene, slot: Slot, count: u32) {
    let reason = "Essential container in task exited (api: exit code 0)".to_owned();
    let newest = FailedStart { task: "task/1".to_owned(), reason, at: scene.now };
    let side = scene.side(slot);
    (side.failed_starts, side.failed_tasks) = (if count > 0 { vec![newest] } else { vec![] }, count);
}

/// Whether losing so many tasks, of the candidate's and of the stable side's 200, turns the bake back.
fn turns_back(tasks: u32, candidate: u32, stable: u32, change: impl FnOnce(&mut TaskFailures)) -> bool {
    let mut scene = baking(tasks, change);
    lose(&mut scene, Slot::Green, candidate);
    lose(&mut scene, Slot::Blue, stable);
    scene.until(|_| false);
    match scene.verdict() {
        Some(Verdict::Succeeded) => false,
        Some(Verdict::RolledBack) => {
            assert!(scene.ending().contains(&format!("{candidate} of {tasks} tasks stopped")), "{}", scene.ending());
            true
        }
        other => panic!("{other:?}: {}", scene.ending()),
    }
}

#[test]
fn tasks_that_end_as_they_always_do_turn_no_bake_back() {
    let as_it_is = |_: &mut TaskFailures| {};
    assert!(!turns_back(200, 2, 0, as_it_is), "two of two hundred");
    assert!(!turns_back(200, 10, 0, as_it_is), "five per cent");
    assert!(turns_back(200, 11, 0, as_it_is), "more than five per cent, and none of the stable side's");
    assert!(!turns_back(200, 11, 6, as_it_is), "less than twice the stable side's rate");
    assert!(turns_back(200, 11, 5, as_it_is), "more than twice of it");
    assert!(!turns_back(4, 2, 0, as_it_is), "half of four, and not more than two");
    assert!(turns_back(4, 3, 0, as_it_is));
}

#[test]
fn the_policy_says_how_many_tasks_may_end() {
    assert!(turns_back(200, 2, 0, |allowed| (allowed.count, allowed.share) = (0, Percent::NONE)));
    assert!(!turns_back(200, 60, 0, |allowed| allowed.share = Percent::new(30).unwrap()));
    assert!(!turns_back(200, 11, 3, |allowed| allowed.times_stable = 4));
}

#[test]
fn failed_tasks_are_counted_from_the_start_and_once_it_was_up_beside_the_stable_sides() {
    let mut scene = Scene::new();
    scene.sick_candidates = true;
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.stage() == "scaling");
    let starts = |scene: &Scene| rollout::look(&scene.state).unwrap().starts_of.unwrap();
    let running = scene.state.running.clone().unwrap();
    assert_eq!((starts(&scene).since, starts(&scene).beside), (running.started_at, None));
    scene.sick_candidates = false;
    let green = scene.side(Slot::Green);
    green.targets = rollout::snapshot::TargetHealth { healthy: 4, ..Default::default() };
    scene.until(|scene| scene.stage() == "baking");
    let up_since = scene.state.running.as_ref().unwrap().up_since.unwrap();
    assert_eq!((starts(&scene).since, starts(&scene).beside), (up_since, Some("td:old".to_owned())));
}

/// A candidate whose tasks do not start, for which ECS says this.
fn without_a_place(message: &str) -> Scene {
    let mut scene = Scene::new();
    scene.sick_candidates = true;
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.stage() == "scaling");
    scene.decide(&[]);
    let at = scene.now;
    let green = scene.side(Slot::Green);
    (green.running, green.targets.unhealthy) = (0, 0);
    green.placed_by = vec!["FARGATE_SPOT".to_owned()];
    green.placement_failure = Some(ServiceEvent { message: message.to_owned(), at });
    scene
}

const NO_CAPACITY: &str = "(service api-green) was unable to place a task. Reason: Capacity is unavailable at this time. \
                           Please try again later or in a different availability zone.";

#[test]
fn capacity_that_is_long_in_coming_is_told_and_waited_for() {
    let mut scene = without_a_place(NO_CAPACITY);
    scene.turn();
    let detail = scene.state.explanation.waiting_on.iter().find_map(|on| match on {
        WaitingOn::Healthy { detail, .. } => Some(detail.clone()),
        _ => None,
    });
    let detail = detail.unwrap();
    assert!(detail.contains("capacity of FARGATE_SPOT") && detail.contains("unable to place"), "{detail}");
    // Spot capacity comes after five minutes.
    let began = scene.now;
    scene.until(|scene| Seconds::between(began, scene.now) >= Seconds(300));
    assert_eq!(scene.stage(), "scaling", "{}", scene.ending());
    scene.sick_candidates = false;
    let green = scene.side(Slot::Green);
    (green.running, green.targets.healthy) = (4, 4);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
}

#[test]
fn capacity_that_never_comes_ends_it_at_the_stages_deadline_with_the_reason() {
    let mut scene = without_a_place(NO_CAPACITY);
    let began = scene.now;
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Failed));
    assert!(scene.now >= began + SignedDuration::from_secs(540), "ended at {} already", scene.now);
    assert!(scene.ending().contains("FARGATE_SPOT"), "{}", scene.ending());
}

#[test]
fn a_task_that_is_not_launched_for_another_reason_ends_it_early() {
    let mut scene = without_a_place(
        "(service api-green) failed to launch a task with (error ECS was unable to assume the role 'task').",
    );
    let began = scene.now;
    scene.until(|_| false);
    assert!(Seconds::between(began, scene.now) <= Seconds(120), "not until the deadline");
    assert!(scene.ending().contains("unable to assume the role"), "{}", scene.ending());
}

#[test]
fn a_side_that_is_parked_at_few_tasks_may_grow_as_far_as_the_live_one() {
    for parked in [0, 1] {
        let mut scene = Scene::new();
        scene.autoscale(Slot::Blue, 2, 12);
        scene.autoscale(Slot::Green, 0, parked);
        scene.decide(&[deploy("v2")]);
        scene.until(|scene| scene.weights().green == 10);
        let held = scene.side(Slot::Green).autoscaling.unwrap();
        assert_eq!((held.min, held.max), (4, 12));
        scene.until(|_| false);
        let given = [Slot::Green, Slot::Blue].map(|slot| scene.side(slot).autoscaling.unwrap());
        assert_eq!(given.map(|limits| (limits.min, limits.max)), [(2, 12), (0, parked)]);
        assert!(!scene.wrote(|fact| matches!(fact, Fact::LeftBehind { .. })));
    }
}
