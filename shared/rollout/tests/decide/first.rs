//! The first deployment to a target that runs nothing.

use super::fixture::{TargetFixture, deploy, new_command};
use rollout::snapshot::{AlarmReading, FailedStart};
use rollout::{Command, Effect, Fact, Instruction, Outcome, Slot, Verdict};

fn first(tag: &str, tasks: u32) -> Command {
    let mut command = deploy(tag);
    if let Instruction::Deploy { options, .. } = &mut command.instruction {
        options.first = Some(tasks);
    }
    command
}

/// Two sides at 0 tasks, with all weight on blue.
fn empty() -> TargetFixture {
    let mut fixture = TargetFixture::new();
    for slot in Slot::BOTH {
        let side = fixture.side(slot);
        (side.desired, side.running) = (0, 0);
        side.targets.healthy = 0;
    }
    fixture
}

#[test]
fn the_side_with_the_weight_is_started_and_becomes_stable() {
    let mut fixture = empty();
    fixture.decide(&[first("v1", 3)]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
    let stable = fixture.state.stable.clone().unwrap();
    assert_eq!((stable.slot, stable.release.unwrap().tag.as_str()), (Some(Slot::Blue), "v1"));
    assert_eq!(fixture.state.previous, None);
    assert_eq!(fixture.side(Slot::Blue).running, 3);
    assert!(!fixture.effects.iter().any(|effect| matches!(effect, Effect::SetWeights { .. })), "no weight is touched");
    assert_eq!(fixture.state.verified.len(), 1);
    // And the next one is an ordinary one.
    fixture.run("v2");
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
    assert_eq!(fixture.state.stable.unwrap().slot, Some(Slot::Green));
}

#[test]
fn what_does_not_come_up_is_taken_down_again() {
    let mut fixture = empty();
    fixture.candidates_unhealthy = true;
    fixture.decide(&[first("v1", 3)]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert!(fixture.end_reason().contains("0 of 3 tasks were healthy"), "{}", fixture.end_reason());
    assert_eq!((fixture.side(Slot::Blue).desired, fixture.state.stable.clone()), (0, None));
}

#[test]
fn tasks_that_stop_end_it_early_with_their_reason() {
    let mut fixture = empty();
    fixture.candidates_unhealthy = true;
    fixture.decide(&[first("v1", 3)]);
    fixture.run_until(|fixture| fixture.side_running(Slot::Blue) == 3);
    let at = fixture.now;
    let reason = "Essential container in task exited (api: exit code 1)".to_owned();
    let stopped = FailedStart { task: "task/1".to_owned(), reason, at };
    fixture.side(Slot::Blue).failed_starts = vec![stopped.clone(), stopped];
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert!(fixture.end_reason().contains("exit code 1"), "{}", fixture.end_reason());
    assert_eq!(fixture.side(Slot::Blue).desired, 0);
}

#[test]
fn an_alarm_once_it_is_up_leaves_it_running() {
    let mut fixture = empty();
    fixture.decide(&[first("v1", 3)]);
    fixture.run_until(|fixture| fixture.stage() == "baking");
    fixture.fire_alarm();
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert!(fixture.end_reason().contains("nothing to return to"), "{}", fixture.end_reason());
    assert_eq!(fixture.side(Slot::Blue).running, 3, "users may be on it");
}

#[test]
fn an_alarm_without_data_yet_keeps_it_from_nothing() {
    let mut fixture = empty();
    fixture.alarm(AlarmReading::NoData);
    fixture.decide(&[first("v1", 3)]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
}

#[test]
fn somebody_who_ends_it_gets_what_was_there_before() {
    for instruction in [Instruction::Abort { deployment: None }, Instruction::Rollback] {
        let mut fixture = empty();
        fixture.decide(&[first("v1", 3)]);
        fixture.run_until(|fixture| fixture.stage() == "baking");
        fixture.decide(&[new_command(instruction, "r1")]);
        fixture.run_until(|_| false);
        assert_eq!(fixture.verdict(), Some(Verdict::Cancelled), "{}", fixture.end_reason());
        assert_eq!(fixture.side(Slot::Blue).desired, 0);
    }
}

#[test]
fn where_something_runs_it_is_no_first_deployment() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[first("v1", 3)]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert!(fixture.end_reason().contains("runs 4 tasks already"), "{}", fixture.end_reason());
    assert!(fixture.effects.is_empty(), "{:?}", fixture.effects);

    let mut fixture = TargetFixture::new();
    fixture.run("v1");
    fixture.decide(&[first("v2", 3)]);
    fixture.run_until(|_| false);
    assert!(fixture.end_reason().contains("not the first deployment"), "{}", fixture.end_reason());
}

#[test]
fn a_push_to_an_empty_target_waits_and_says_what_to_do() {
    let mut fixture = empty();
    fixture.decide(&[deploy("v1")]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    let reported = |fact: &Fact| matches!(fact, Fact::Blocked { reason } if reason.contains("--first"));
    assert!(fixture.journal_has(reported));
    assert!(fixture.effects.is_empty(), "{:?}", fixture.effects);
}

#[test]
fn a_lost_answer_is_asked_again() {
    let mut fixture = empty();
    fixture.decide(&[first("v1", 2)]);
    fixture.run_until(|fixture| fixture.stage() == "scaling");
    let effect = Effect::StartFirst { slot: Some(Slot::Blue), version: "td:x".to_owned(), count: 2 };
    let lost = Outcome::Unsure { reason: "the connection was cut".to_owned() };
    let (state, _) = rollout::apply_outcomes(&fixture.state, &[(effect, lost)], fixture.now);
    fixture.state = state;
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
}

#[test]
fn tasks_that_stop_once_it_is_up_leave_it_running() {
    let mut fixture = empty();
    fixture.decide(&[first("v1", 3)]);
    fixture.run_until(|fixture| fixture.stage() == "baking");
    let at = fixture.now;
    let stopped = FailedStart { task: "task/1".to_owned(), reason: "Spot interruption".to_owned(), at };
    fixture.side(Slot::Blue).failed_starts = vec![stopped.clone(), stopped];
    fixture.run_until(|_| false);
    assert_eq!(fixture.side(Slot::Blue).desired, 3);
}

#[test]
fn what_somebody_else_starts_meanwhile_is_not_touched() {
    let mut fixture = empty();
    fixture.candidates_unhealthy = true;
    fixture.decide(&[first("v1", 1)]);
    fixture.run_until(|fixture| fixture.side_running(Slot::Blue) == 1);
    let side = fixture.side(Slot::Blue);
    (side.version, side.desired, side.running, side.targets.healthy) = ("td:theirs".to_owned(), 10, 10, 10);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert!(fixture.end_reason().contains("somebody else"), "{}", fixture.end_reason());
    let side = fixture.side(Slot::Blue);
    assert_eq!((side.version.as_str(), side.desired), ("td:theirs", 10));
}
