//! The stopped line: nothing begins, and nothing widens, wherever a deployment is.

use super::fixture::{TargetFixture, deploy, new_command, policy, start, target};
use rollout::brake::{Brake, Scope};
use rollout::explanation::WaitingOn;
use rollout::plan::{PlanStatus, dry_run};
use rollout::release::ReleaseRef;
use rollout::{Actor, Fact, Gate, Instruction, Percent, Reading, Seconds, SignedDuration, Slot, Verdict};

fn stop_the_line(fixture: &mut TargetFixture) {
    let by = Actor::Person { name: "ada".to_owned() };
    let brake =
        Brake { scope: Scope::Everything, by, reason: "an incident".to_owned(), since: fixture.now, until: None };
    fixture.gate_context.brakes = Reading::Known(vec![brake]);
}

fn lift_stop_the_line(fixture: &mut TargetFixture) {
    fixture.gate_context.brakes = Reading::Known(vec![]);
}

fn is_held_by_stop_the_line(fixture: &TargetFixture) -> bool {
    let is_stop_the_line = |on: &WaitingOn| matches!(on, WaitingOn::Gate { gate: Gate::StopTheLine, .. });
    fixture.state.explanation.waiting_on.iter().any(is_stop_the_line)
}

#[test]
fn a_ready_step_is_not_taken_during_stop_the_line() {
    let mut policy = policy();
    policy.strategy.green_capacity = Percent::new(25).expect("a share");
    let mut fixture = TargetFixture::with(policy);
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().of(Slot::Green) == 10);
    // The next step needs another task, which takes its time.
    fixture.candidates_unhealthy = true;
    fixture.run_until(|fixture| fixture.snapshot.green.known().is_some_and(|side| side.desired > 1));
    stop_the_line(&mut fixture);
    fixture.candidates_unhealthy = false;
    let count = fixture.side(Slot::Green).desired;
    fixture.side(Slot::Green).targets.unhealthy = 0;
    fixture.side(Slot::Green).targets.healthy = count;
    for _ in 0..200 {
        fixture.advance();
    }
    assert_eq!(fixture.weights().of(Slot::Green), 10, "the step was taken though the line is stopped");
    assert!(is_held_by_stop_the_line(&fixture));
    lift_stop_the_line(&mut fixture);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn a_healthy_candidate_held_by_stop_the_line_is_journalled_once() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.candidates_unhealthy = true;
    fixture.run_until(|fixture| fixture.snapshot.green.known().is_some_and(|side| side.desired > 0));
    stop_the_line(&mut fixture);
    fixture.candidates_unhealthy = false;
    let count = fixture.side(Slot::Green).desired;
    fixture.side(Slot::Green).targets.unhealthy = 0;
    fixture.side(Slot::Green).targets.healthy = count;
    for _ in 0..200 {
        fixture.advance();
    }
    assert!(is_held_by_stop_the_line(&fixture), "{} {:?}", fixture.stage(), fixture.state.explanation);
    let healthy = fixture.journal.iter().filter(|entry| matches!(entry.fact, Fact::CandidateHealthy { .. })).count();
    assert_eq!((fixture.weights().of(Slot::Green), healthy), (0, 1), "one entry, however long the line is stopped");
    lift_stop_the_line(&mut fixture);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn a_deployment_in_preflight_does_not_start_during_stop_the_line() {
    let mut fixture = TargetFixture::new();
    fixture.fire_alarm();
    fixture.decide(&[deploy("v2")]);
    fixture.advance();
    assert_eq!(fixture.stage(), "preflight");
    stop_the_line(&mut fixture);
    fixture.alarm(rollout::snapshot::AlarmReading::Ok);
    for _ in 0..200 {
        fixture.advance();
    }
    assert_eq!((fixture.stage(), fixture.effects.len()), ("preflight", 0), "long past preflight's deadline");
    assert!(is_held_by_stop_the_line(&fixture));
    lift_stop_the_line(&mut fixture);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn a_plan_lists_stop_the_line_as_its_only_blocker() {
    let mut fixture = TargetFixture::new();
    stop_the_line(&mut fixture);
    let command = deploy("v2");
    let Instruction::Deploy { release, image, tag, .. } = command.instruction.clone() else { unreachable!() };
    let release = ReleaseRef { id: release, image, tag, pushed_at: None };
    let rehearsal = dry_run(&fixture.state, &fixture.applied, &command, release, &fixture.gate_context, fixture.now);
    let plan = rehearsal.plan(Some(&fixture.seen()));
    assert_eq!(plan.status, PlanStatus::Gated, "{:?}", plan.blockers);
    assert_eq!(plan.blockers, ["stop_the_line: the line is stopped by ada: an incident"]);
    assert_eq!((plan.target, fixture.now), (target(), start() + SignedDuration::ZERO));
}

#[test]
fn a_requested_rollback_ignores_stop_the_line_and_freezes() {
    for scope in [Scope::Everything, Scope::Application { application: target().application }] {
        let mut fixture = TargetFixture::new();
        fixture.run("v2");
        fixture.run("v3");
        let by = Actor::Person { name: "ada".to_owned() };
        let brake = Brake { scope, by, reason: "an incident".to_owned(), since: fixture.now, until: None };
        fixture.gate_context.brakes = Reading::Known(vec![brake]);
        fixture.decide(&[new_command(Instruction::Rollback, "r1")]);
        let requested_at = fixture.now;
        fixture.run_until(|fixture| fixture.weights().of(Slot::Blue) == 0);
        assert!(Seconds::between(requested_at, fixture.now) < Seconds(300), "{:?}", fixture.state.explanation);
        fixture.run_until(|_| false);
        assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
    }
}

#[test]
fn a_shift_does_not_widen_while_brakes_are_unreadable() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().of(Slot::Green) == 10);
    fixture.gate_context.brakes = Reading::Unknown("throttled".to_owned());
    for _ in 0..200 {
        fixture.advance();
    }
    assert_eq!(fixture.weights().of(Slot::Green), 10);
    assert!(is_held_by_stop_the_line(&fixture), "{:?}", fixture.state.explanation);
    lift_stop_the_line(&mut fixture);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
}
