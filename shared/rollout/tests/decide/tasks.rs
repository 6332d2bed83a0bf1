//! Tasks: a revision that was deregistered, tasks that end as they always do, tasks without a place, and limits to grow in.

use super::fixture::{TargetFixture, deploy, new_command, policy};
use rollout::explanation::WaitingOn;
use rollout::policy::TaskFailures;
use rollout::snapshot::{FailedStart, ServiceEvent};
use rollout::{Effect, Fact, Instruction, Percent, Seconds, SignedDuration, Slot, Verdict};

fn rollback(fixture: &mut TargetFixture) {
    fixture.effects.clear();
    fixture.decide(&[new_command(Instruction::Rollback, "r1")]);
}

/// The task definitions that were named to ECS.
fn named_task_definitions(fixture: &TargetFixture) -> Vec<&str> {
    let named_task_definitions = fixture.effects.iter().filter_map(|effect| match effect {
        Effect::SetVersion { version, .. } => Some(version.as_str()),
        _ => None,
    });
    named_task_definitions.collect()
}

/// API reference, `DeregisterTaskDefinition`: a service with an INACTIVE revision can be scaled, none is updated to one.
#[test]
fn a_side_with_the_same_version_is_only_scaled_up() {
    let mut fixture = TargetFixture::new();
    fixture.run("v2");
    fixture.run("v3");
    // Somebody has deregistered the revision of v2 since: ECS refuses whoever names it.
    rollback(&mut fixture);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
    assert_eq!(fixture.state.stable.clone().unwrap().release.unwrap().tag, "v2");
    assert_eq!(named_task_definitions(&fixture), [] as [&str; 0]);
    assert!(fixture.effects.contains(&Effect::SetDesired { slot: Slot::Green, desired: 4 }), "{:?}", fixture.effects);
}

#[test]
fn a_version_that_no_side_has_is_registered_again() {
    let mut fixture = TargetFixture::new();
    fixture.run("v2");
    fixture.run("v3");
    let expected = fixture.state.previous.clone().unwrap().version;
    fixture.side(Slot::Green).version = "td:somebody-elses".to_owned();
    rollback(&mut fixture);
    fixture.run_until(|fixture| fixture.stage() == "scaling");
    let template = fixture.effects.iter().find_map(|effect| match effect {
        Effect::RegisterVersion { template, .. } => Some(template.as_str()),
        _ => None,
    });
    assert_eq!(template, Some(expected.as_str()), "the same document, whether its revision is active or not");
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
}

#[test]
fn a_side_with_a_tripped_breaker_is_redeployed() {
    let mut fixture = TargetFixture::new();
    fixture.run("v2");
    fixture.run("v3");
    let expected = fixture.state.previous.clone().unwrap().version;
    fixture.side(Slot::Green).stalled = true;
    rollback(&mut fixture);
    fixture.advance();
    assert_eq!(
        named_task_definitions(&fixture)[0],
        format!("td:{}", fixture.state.running.as_ref().unwrap().release.image)
    );
    let registered =
        |effect: &Effect| matches!(effect, Effect::RegisterVersion { template, .. } if *template == expected);
    assert!(fixture.effects.iter().any(registered), "{:?}", fixture.effects);
}

/// A deployment of so many tasks, whose bake has begun.
fn in_bake(tasks: u32, change: impl FnOnce(&mut TaskFailures)) -> TargetFixture {
    let mut rules = policy();
    change(&mut rules.strategy.task_failures);
    let mut fixture = TargetFixture::with(rules);
    let blue = fixture.side(Slot::Blue);
    (blue.desired, blue.running, blue.targets.healthy) = (tasks, tasks, tasks);
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.stage() == "baking");
    fixture
}

/// So many tasks of a side have stopped by themselves.
fn stop_tasks(fixture: &mut TargetFixture, slot: Slot, count: u32) {
    let reason = "Essential container in task exited (api: exit code 0)".to_owned();
    let newest = FailedStart { task: "task/1".to_owned(), reason, at: fixture.now };
    let side = fixture.side(slot);
    (side.failed_starts, side.failed_tasks) = (if count > 0 { vec![newest] } else { vec![] }, count);
}

/// Whether losing so many tasks, of the candidate's and of the stable side's 200, turns the bake back.
fn rolls_back_bake(tasks: u32, candidate: u32, stable: u32, change: impl FnOnce(&mut TaskFailures)) -> bool {
    let mut fixture = in_bake(tasks, change);
    stop_tasks(&mut fixture, Slot::Green, candidate);
    stop_tasks(&mut fixture, Slot::Blue, stable);
    fixture.run_until(|_| false);
    match fixture.verdict() {
        Some(Verdict::Succeeded) => false,
        Some(Verdict::RolledBack) => {
            assert!(
                fixture.end_reason().contains(&format!("{candidate} of {tasks} tasks stopped")),
                "{}",
                fixture.end_reason()
            );
            true
        }
        other => panic!("{other:?}: {}", fixture.end_reason()),
    }
}

#[test]
fn usual_task_failures_do_not_roll_back_a_bake() {
    let unchanged = |_: &mut TaskFailures| {};
    assert!(!rolls_back_bake(200, 2, 0, unchanged), "two of two hundred");
    assert!(!rolls_back_bake(200, 10, 0, unchanged), "five per cent");
    assert!(rolls_back_bake(200, 11, 0, unchanged), "more than five per cent, and none of the stable side's");
    assert!(!rolls_back_bake(200, 11, 6, unchanged), "less than twice the stable side's rate");
    assert!(rolls_back_bake(200, 11, 5, unchanged), "more than twice of it");
    assert!(!rolls_back_bake(4, 2, 0, unchanged), "half of four, and not more than two");
    assert!(rolls_back_bake(4, 3, 0, unchanged));
}

#[test]
fn the_policy_sets_the_task_failure_limits() {
    assert!(rolls_back_bake(200, 2, 0, |allowed| (allowed.count, allowed.share) = (0, Percent::NONE)));
    assert!(!rolls_back_bake(200, 60, 0, |allowed| allowed.share = Percent::new(30).unwrap()));
    assert!(!rolls_back_bake(200, 11, 3, |allowed| allowed.times_stable = 4));
}

#[test]
fn failed_tasks_are_compared_with_the_stable_side_once_healthy() {
    let mut fixture = TargetFixture::new();
    fixture.candidates_unhealthy = true;
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.stage() == "scaling");
    let starts = |fixture: &TargetFixture| rollout::observation(&fixture.state).unwrap().failed_starts_query.unwrap();
    let running = fixture.state.running.clone().unwrap();
    assert_eq!((starts(&fixture).since, starts(&fixture).compare_with), (running.started_at, None));
    fixture.candidates_unhealthy = false;
    let green = fixture.side(Slot::Green);
    green.targets = rollout::snapshot::TargetHealth { healthy: 4, ..Default::default() };
    fixture.run_until(|fixture| fixture.stage() == "baking");
    let healthy_since = fixture.state.running.as_ref().unwrap().forward().unwrap().candidate.healthy_since.unwrap();
    assert_eq!((starts(&fixture).since, starts(&fixture).compare_with), (healthy_since, Some("td:old".to_owned())));
}

/// A candidate whose tasks do not start, for which ECS says this.
fn with_placement_failure(message: &str) -> TargetFixture {
    let mut fixture = TargetFixture::new();
    fixture.candidates_unhealthy = true;
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.stage() == "scaling");
    fixture.decide(&[]);
    let at = fixture.now;
    let green = fixture.side(Slot::Green);
    (green.running, green.targets.unhealthy) = (0, 0);
    green.placed_by = vec!["FARGATE_SPOT".to_owned()];
    green.placement_failure = Some(ServiceEvent { message: message.to_owned(), at });
    fixture
}

const NO_CAPACITY: &str = "(service api-green) was unable to place a task. Reason: Capacity is unavailable at this time. \
                           Please try again later or in a different availability zone.";

#[test]
fn missing_capacity_is_reported_and_waited_for() {
    let mut fixture = with_placement_failure(NO_CAPACITY);
    fixture.advance();
    let detail = fixture.state.explanation.waiting_on.iter().find_map(|on| match on {
        WaitingOn::Healthy { detail, .. } => Some(detail.clone()),
        _ => None,
    });
    let detail = detail.unwrap();
    assert!(detail.contains("capacity of FARGATE_SPOT") && detail.contains("unable to place"), "{detail}");
    // Spot capacity comes after five minutes.
    let began = fixture.now;
    fixture.run_until(|fixture| Seconds::between(began, fixture.now) >= Seconds(300));
    assert_eq!(fixture.stage(), "scaling", "{}", fixture.end_reason());
    fixture.candidates_unhealthy = false;
    let green = fixture.side(Slot::Green);
    (green.running, green.targets.healthy) = (4, 4);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
}

#[test]
fn missing_capacity_fails_at_the_stage_deadline_with_the_reason() {
    let mut fixture = with_placement_failure(NO_CAPACITY);
    let began = fixture.now;
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert!(fixture.now >= began + SignedDuration::from_secs(540), "ended at {} already", fixture.now);
    assert!(fixture.end_reason().contains("FARGATE_SPOT"), "{}", fixture.end_reason());
}

#[test]
fn other_launch_failures_end_the_deployment_early() {
    let mut fixture = with_placement_failure(
        "(service api-green) failed to launch a task with (error ECS was unable to assume the role 'task').",
    );
    let began = fixture.now;
    fixture.run_until(|_| false);
    assert!(Seconds::between(began, fixture.now) <= Seconds(120), "not until the deadline");
    assert!(fixture.end_reason().contains("unable to assume the role"), "{}", fixture.end_reason());
}

#[test]
fn a_parked_side_gets_the_limits_of_the_live_one() {
    for parked in [0, 1] {
        let mut fixture = TargetFixture::new();
        fixture.autoscale(Slot::Blue, 2, 12);
        fixture.autoscale(Slot::Green, 0, parked);
        fixture.decide(&[deploy("v2")]);
        fixture.run_until(|fixture| fixture.weights().green == 10);
        let during_rollout = fixture.side(Slot::Green).autoscaling.unwrap();
        assert_eq!((during_rollout.min, during_rollout.max), (4, 12));
        fixture.run_until(|_| false);
        let restored = [Slot::Green, Slot::Blue].map(|slot| fixture.side(slot).autoscaling.unwrap());
        assert_eq!(restored.map(|limits| (limits.min, limits.max)), [(2, 12), (0, parked)]);
        assert!(!fixture.journal_has(|fact| matches!(fact, Fact::CleanupIncomplete { .. })));
    }
}
