//! A release that a migration came with: no automatic rollback.

use super::fixture::{TargetFixture, deploy, new_command, policy};
use super::gates::decide_until_waiting;
use rollout::policy::{Hook, HookAction, HookPoint};
use rollout::snapshot::{AlarmReading, TargetHealth, TaskReading};
use rollout::{Command, CommandRefusal, Fact, Instruction, Name, Reading, Seconds, Slot, Verdict};

fn forward_only(tag: &str) -> Command {
    let mut command = deploy(tag);
    if let Instruction::Deploy { options, .. } = &mut command.instruction {
        options.forward_only = true;
    }
    command
}

/// In the middle of a shift, and its alarm fires.
fn frozen() -> TargetFixture {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[forward_only("v2")]);
    fixture.run_until(|fixture| fixture.weights().of(Slot::Green) == 50);
    fixture.fire_alarm();
    decide_until_waiting(&mut fixture, &[]);
    assert!(fixture.state.running.as_ref().unwrap().awaiting_operator().is_some());
    fixture
}

fn resume() -> Command {
    new_command(Instruction::Resume, "resume")
}

#[test]
fn a_firing_alarm_awaits_an_operator_and_pages_with_evidence() {
    let mut fixture = frozen();
    let paged: Vec<_> = fixture
        .journal
        .iter()
        .filter(
            |entry| matches!(&entry.fact, Fact::AwaitingOperator { evidence, .. } if evidence.alarms.known().is_some()),
        )
        .collect();
    assert_eq!(paged.len(), 1);
    assert!(paged[0].fact.needs_attention());
    for _ in 0..50 {
        fixture.advance();
    }
    assert_eq!((fixture.weights().of(Slot::Blue), fixture.weights().of(Slot::Green)), (50, 50));
    assert!(!fixture.journal_has(|fact| matches!(fact, Fact::RollbackStarted { .. })));
    let occurrences =
        fixture.journal.iter().filter(|entry| matches!(entry.fact, Fact::AwaitingOperator { .. })).count();
    assert_eq!(occurrences, 1, "once");
}

#[test]
fn resume_continues_despite_the_firing_alarm() {
    let mut fixture = frozen();
    decide_until_waiting(&mut fixture, &[resume()]);
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::OperatorResumed { reason } if reason == "because")));
    fixture.run_until(|_| false);
    assert_eq!(
        fixture.verdict(),
        Some(Verdict::Succeeded),
        "the alarm still fires, and somebody took that upon themselves"
    );
}

#[test]
fn an_alarm_firing_anew_after_resume_awaits_an_operator_again() {
    let mut fixture = frozen();
    decide_until_waiting(&mut fixture, &[resume()]);
    fixture.alarm(AlarmReading::Ok);
    fixture.advance();
    fixture.fire_alarm();
    decide_until_waiting(&mut fixture, &[]);
    assert!(fixture.state.running.as_ref().unwrap().awaiting_operator().is_some());
}

#[test]
fn an_operator_can_roll_back() {
    let mut fixture = frozen();
    fixture.decide(&[new_command(Instruction::Rollback, "back")]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack));
    assert_eq!(fixture.weights().of(Slot::Green), 0);
}

#[test]
fn manually_restored_weights_count_as_a_rollback() {
    let mut fixture = frozen();
    fixture.edit_rule(1, 0);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack));
}

#[test]
fn a_failure_before_the_first_share_rolls_back_automatically() {
    let mut fixture = TargetFixture::new();
    fixture.weight_writes_fail = true;
    fixture.decide(&[forward_only("v2")]);
    fixture.run_until(|fixture| fixture.journal_has(|fact| matches!(fact, Fact::WeightsDecided { .. })));
    fixture.fire_alarm();
    fixture.now = Seconds(60).after(fixture.now);
    fixture.decide(&[]);
    fixture.weight_writes_fail = false;
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed), "{}", fixture.end_reason());
    assert!(fixture.end_reason().contains("alarm"), "nobody's hand: {}", fixture.end_reason());
}

#[test]
fn an_abort_leaves_traffic_in_place_for_the_next_release() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[forward_only("v2")]);
    fixture.run_until(|fixture| fixture.stage() == "baking");
    fixture.fire_alarm();
    decide_until_waiting(&mut fixture, &[]);
    fixture.decide(&[new_command(Instruction::Abort { deployment: None }, "a")]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert_eq!(fixture.weights().of(Slot::Green), 100);
    // What mends it comes next, over what serves now.
    fixture.alarm(AlarmReading::Ok);
    fixture.run("v3");
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
    assert_eq!(fixture.weights().of(Slot::Blue), 100);
}

#[test]
fn the_target_stays_blocked_if_no_operator_decides() {
    let mut fixture = frozen();
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert!(fixture.end_reason().starts_with("forward-only, and nobody decided within 1d"), "{}", fixture.end_reason());
    assert!(fixture.state.operator_hold.is_some());
    decide_until_waiting(&mut fixture, &[deploy("v3")]);
    assert_eq!(fixture.stage(), "gated", "nothing begins");
    decide_until_waiting(&mut fixture, &[resume()]);
    assert!(fixture.state.operator_hold.is_none());
    assert_ne!(fixture.stage(), "gated");
    decide_until_waiting(&mut fixture, &[Command { id: rollout::CommandId("2".to_owned()), ..resume() }]);
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::CommandRefused { reason: CommandRefusal::NotOnHold, .. })));
}

#[test]
fn a_failure_before_traffic_moves_needs_no_operator() {
    let mut fixture = TargetFixture::new();
    fixture.candidates_unhealthy = true;
    fixture.decide(&[forward_only("v2")]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert!(!fixture.journal_has(|fact| matches!(fact, Fact::AwaitingOperator { .. })));
}

#[test]
fn a_newer_release_does_not_cancel_it() {
    let mut fixture = TargetFixture::new();
    fixture.applied.concurrency = rollout::Concurrency::CancelRunning;
    fixture.decide(&[forward_only("v2")]);
    fixture.run_until(|fixture| fixture.weights().of(Slot::Green) == 50);
    fixture.decide(&[deploy("v3")]);
    fixture.run_until(|fixture| fixture.verdict().is_some());
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn a_started_migration_makes_the_deployment_forward_only() {
    let mut rules = policy();
    let run = HookAction::Task { container: "api".to_owned(), command: vec!["migrate".to_owned()] };
    let name = Name::new("migrate").unwrap();
    let at = HookPoint::BeforeTraffic;
    rules.hooks = vec![Hook { name, at, run, deadline: Seconds(120), forward_only: true }];
    let mut fixture = TargetFixture::with(rules);
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.stage() == "before_traffic");
    for _ in 0..3 {
        fixture.decide(&[]);
    }
    let done = TaskReading::Stopped { exit_code: Some(0), reason: String::new() };
    fixture.snapshot.hook_tasks.insert("migrate".to_owned(), Reading::Known(done));
    fixture.run_until(|fixture| fixture.weights().of(Slot::Green) == 50);
    fixture.side(Slot::Green).targets = TargetHealth { unhealthy: 4, ..TargetHealth::default() };
    decide_until_waiting(&mut fixture, &[]);
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::AwaitingOperator { .. })));
    assert!(!fixture.journal_has(|fact| matches!(fact, Fact::RollbackStarted { .. })));
}

#[test]
fn a_resumed_release_is_not_verified_under_a_foreign_edit() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[forward_only("v2")]);
    fixture.run_until(|fixture| fixture.stage() == "keeping_warm");
    fixture.fire_alarm();
    decide_until_waiting(&mut fixture, &[]);
    fixture.edit_rule(37, 63);
    fixture.now = Seconds(60).after(fixture.now);
    decide_until_waiting(&mut fixture, &[resume()]);
    assert_eq!(fixture.state.verified, [], "a third of the traffic is elsewhere");
    fixture.edit_rule(0, 100);
    decide_until_waiting(&mut fixture, &[]);
    assert_eq!(fixture.state.verified.len(), 1, "somebody has decided, and everything is here again");
}

#[test]
fn awaiting_an_operator_revokes_verification_until_resume() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[forward_only("v2")]);
    fixture.run_until(|fixture| fixture.stage() == "keeping_warm");
    assert_eq!(fixture.state.verified.len(), 1);
    fixture.fire_alarm();
    decide_until_waiting(&mut fixture, &[]);
    assert!(fixture.state.running.as_ref().unwrap().awaiting_operator().is_some());
    assert_eq!(fixture.state.verified, [], "nothing follows it");
    decide_until_waiting(&mut fixture, &[resume()]);
    assert_eq!(fixture.state.verified.len(), 1, "somebody has decided");
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
    assert_eq!(fixture.state.verified.len(), 1);
}

#[test]
fn resume_releases_the_promotion_hold() {
    let mut fixture = TargetFixture::new();
    fixture.applied.entry.auto_promotes = true;
    fixture.decide(&[forward_only("v2")]);
    fixture.run_until(|fixture| fixture.weights().of(Slot::Green) == 50);
    fixture.fire_alarm();
    decide_until_waiting(&mut fixture, &[]);
    assert!(fixture.state.promotion_hold.is_some());
    decide_until_waiting(&mut fixture, &[resume()]);
    assert_eq!(fixture.state.promotion_hold, None);
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::PromotionResumed)));
}

/// After the traffic, a check says no, or nothing.
fn awaiting_operator_after_hook(done: Option<TaskReading>) -> TargetFixture {
    let mut rules = policy();
    let run = HookAction::Task { container: "api".to_owned(), command: vec!["check".to_owned()] };
    let name = Name::new("check").unwrap();
    rules.hooks = vec![Hook { name, at: HookPoint::AfterTraffic, run, deadline: Seconds(120), forward_only: false }];
    let mut fixture = TargetFixture::with(rules);
    fixture.decide(&[forward_only("v2")]);
    fixture.run_until(|fixture| fixture.stage() == "after_traffic");
    decide_until_waiting(&mut fixture, &[]);
    if let Some(done) = done {
        fixture.snapshot.hook_tasks.insert("check".to_owned(), Reading::Known(done));
    }
    fixture.run_until(|fixture| {
        fixture.state.running.as_ref().is_some_and(|running| running.awaiting_operator().is_some())
    });
    fixture
}

#[test]
fn a_failed_hook_awaits_an_operator_only_once() {
    let no = TaskReading::Stopped { exit_code: Some(1), reason: "the cart is empty".to_owned() };
    let mut fixture = awaiting_operator_after_hook(Some(no));
    decide_until_waiting(&mut fixture, &[resume()]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
    assert_eq!(fixture.journal.iter().filter(|entry| matches!(entry.fact, Fact::AwaitingOperator { .. })).count(), 1);
}

#[test]
fn a_running_hook_gets_a_new_deadline_after_resume() {
    let mut fixture = awaiting_operator_after_hook(None);
    decide_until_waiting(&mut fixture, &[resume()]);
    assert_eq!(fixture.stage(), "after_traffic");
    fixture.advance();
    let done = TaskReading::Stopped { exit_code: Some(0), reason: String::new() };
    fixture.snapshot.hook_tasks.insert("check".to_owned(), Reading::Known(done));
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
}

#[test]
fn resume_restarts_an_expired_stage_deadline() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[forward_only("v2")]);
    fixture.run_until(|fixture| fixture.weights().of(Slot::Green) == 50);
    fixture.alarm(AlarmReading::NoData);
    fixture.run_until(|fixture| {
        fixture.state.running.as_ref().is_some_and(|running| running.awaiting_operator().is_some())
    });
    decide_until_waiting(&mut fixture, &[resume()]);
    assert!(fixture.state.running.as_ref().unwrap().awaiting_operator().is_none(), "frozen again at once");
    fixture.advance();
    fixture.alarm(AlarmReading::Ok);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn forward_only_is_inherited_from_upstream() {
    let mut fixture = super::automatic_promotion::prod_without_approval();
    super::gates::verify_in_staging(&mut fixture, "v2");
    for neighbour in fixture.gate_context.related_targets.values_mut() {
        neighbour.verified.iter_mut().for_each(|known| known.forward_only = true);
    }
    let command = super::gates::promotion_command(&fixture, "v2");
    decide_until_waiting(&mut fixture, &[command]);
    fixture.run_until(|fixture| fixture.weights().of(Slot::Green) == 50);
    fixture.fire_alarm();
    decide_until_waiting(&mut fixture, &[]);
    assert!(fixture.state.running.as_ref().unwrap().awaiting_operator().is_some());
    assert!(!fixture.journal_has(|fact| matches!(fact, Fact::RollbackStarted { .. } | Fact::PlanChanged { .. })));
}
