//! AWS throttles, or others have asked before: deployments wait, nothing ends because of it, and ways back do not wait.

use super::fixture::{TargetFixture, deploy, new_command, policy};
use rollout::deployment::QueuePosition;
use rollout::explanation::WaitingOn;
use rollout::rate_limiter;
use rollout::{Instruction, Next, Reading, Seconds, Slot, Timestamp, Verdict};

/// A look that AWS throttles: nothing of the sides and the rules is seen.
fn throttle(fixture: &mut TargetFixture) {
    let reason = || "DescribeRules: ThrottlingException: Rate exceeded".to_owned();
    fixture.snapshot.throttled = true;
    fixture.snapshot.green = Reading::Unknown(reason());
    fixture.rules_unreadable = true;
}

/// From now on AWS throttles, for so long; then all is as it was before.
fn throttle_for(fixture: &mut TargetFixture, seconds: u64) -> Vec<u64> {
    let before = fixture.snapshot.clone();
    let until = Seconds(seconds).after(fixture.now);
    throttle(fixture);
    let mut pauses = vec![];
    while fixture.now < until && fixture.state.running.is_some() && fixture.stage() != "rolling_back" {
        let from = fixture.now;
        loop {
            match fixture.decide(&[]) {
                // While rolling back it does not wait, and sees nothing: another pass goes on.
                Next::Immediately if fixture.stage() == "rolling_back" => break,
                Next::Immediately => {}
                Next::At(at) => {
                    fixture.now = at;
                    break;
                }
                Next::Idle => break,
            }
        }
        pauses.push(Seconds::between(from, fixture.now).0);
    }
    fixture.snapshot = before;
    fixture.rules_unreadable = false;
    pauses
}

fn is_waiting_for_budget(fixture: &TargetFixture) -> bool {
    fixture.state.explanation.waiting_on.iter().any(|on| matches!(on, WaitingOn::Budget { .. }))
}

#[test]
fn throttled_observations_back_off_and_are_explained() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().of(Slot::Green) == 10);
    let pauses = throttle_for(&mut fixture, 1_200);
    assert!(is_waiting_for_budget(&fixture));
    assert!(pauses.len() < 20, "{} looks in 20 minutes of throttling: {pauses:?}", pauses.len());
    assert!(pauses.iter().max() > Some(&100) && pauses.iter().all(|pause| *pause <= 450), "{pauses:?}");
    // It forgets that slowly, and looks as usual in the end.
    fixture.run_until(|fixture| fixture.state.throttle_level == 0);
    assert!(!is_waiting_for_budget(&fixture));
}

#[test]
fn an_hour_of_throttling_fails_no_deployment_in_any_stage() {
    for stage in ["preflight", "scaling", "shifting", "baking", "retiring"] {
        let mut fixture = TargetFixture::new();
        if stage == "preflight" {
            // Before its first look.
            throttle(&mut fixture);
        }
        fixture.candidates_unhealthy = stage == "scaling";
        fixture.decide(&[deploy("v2")]);
        fixture.run_until(|fixture| fixture.stage() == stage);
        assert_eq!(fixture.stage(), stage);
        fixture.candidates_unhealthy = false;
        if stage == "scaling" {
            let side = fixture.side(Slot::Green);
            side.targets.healthy += std::mem::take(&mut side.targets.unhealthy);
        }
        if stage == "preflight" {
            fixture.snapshot = TargetFixture::new().snapshot;
        }
        throttle_for(&mut fixture, 3_600);
        fixture.run_until(|_| false);
        assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "throttled while {stage}: {}", fixture.end_reason());
    }
}

#[test]
fn endless_throttling_rolls_back_within_a_day() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().of(Slot::Green) == 10);
    let began = fixture.now;
    throttle_for(&mut fixture, 24 * 3_600);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack), "{}", fixture.end_reason());
    assert!(Seconds::between(began, fixture.now) < Seconds(25 * 3_600), "it took until {}", fixture.now);
}

#[test]
fn a_rollback_does_not_wait_for_throttling() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().of(Slot::Green) == 50);
    throttle_for(&mut fixture, 900);
    assert!(fixture.state.throttle_level > 3);
    // Only the alarms can be read; and the weights cannot be written.
    throttle(&mut fixture);
    fixture.fire_alarm();
    fixture.weight_writes_fail = true;
    for _ in 0..20 {
        let from = fixture.now;
        let next = fixture.decide(&[]);
        assert_eq!(fixture.stage(), "rolling_back");
        if let Next::At(at) = next {
            assert!(Seconds::between(from, at) <= Seconds(4), "it waits until {at} at {from}");
            fixture.now = at;
        }
    }
    fixture.weight_writes_fail = false;
    fixture.decide(&[]);
    assert_eq!(fixture.weights().of(Slot::Green), 0, "the weights are back before anything can be read");
}

/// A deployment whose turn comes in so many seconds.
fn waiting_for_turn(seconds: u64) -> (TargetFixture, Timestamp) {
    let mut fixture = TargetFixture::new();
    assert_eq!(fixture.decide(&[deploy("v2")]), Next::Immediately);
    assert_eq!(fixture.stage(), "preflight");
    assert!(rate_limiter::pending_api_cost(&fixture.state).is_some(), "it has to take a place before it looks");
    let at = Seconds(seconds).after(fixture.now);
    fixture.state.running.as_mut().expect("it runs").queue_position = Some(QueuePosition { at, low_rate: true });
    (fixture, at)
}

#[test]
fn a_queued_deployment_reads_nothing_and_its_deadlines_wait() {
    let (mut fixture, at) = waiting_for_turn(20 * 3_600);
    assert_eq!(fixture.decide(&[]), Next::At(at));
    assert_eq!(fixture.state.explanation.waiting_on, [WaitingOn::RateLimitQueue { at }]);
    assert_eq!(fixture.decide(&[]), Next::At(at));
    let blocked_entries =
        fixture.journal.iter().filter(|entry| matches!(entry.fact, rollout::Fact::Blocked { .. })).count();
    assert_eq!((blocked_entries, fixture.effects.len()), (1, 0), "it is recorded once, and nothing is touched");
    fixture.now = at;
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
}

#[test]
fn a_queued_deployment_can_be_aborted_and_rollbacks_do_not_queue() {
    let (mut fixture, _) = waiting_for_turn(3_600);
    fixture.decide(&[new_command(Instruction::Abort { deployment: None }, "enough")]);
    assert_eq!(fixture.verdict(), Some(Verdict::Cancelled), "{}", fixture.end_reason());

    let mut fixture = TargetFixture::new();
    fixture.run("v2");
    fixture.run("v3");
    fixture.decide(&[new_command(Instruction::Rollback, "back")]);
    assert!(fixture.state.running.is_some() && rate_limiter::pending_api_cost(&fixture.state).is_none());
}

#[test]
fn a_low_rate_deployment_observes_less_often() {
    let observations = |low_rate: bool| {
        let mut fixture = TargetFixture::with(policy());
        fixture.decide(&[deploy("v2")]);
        let queue_position = QueuePosition { at: fixture.now, low_rate };
        fixture.state.running.as_mut().expect("it runs").queue_position = Some(queue_position);
        let mut observations = 0;
        fixture.run_until(|fixture| {
            observations += 1;
            fixture.state.running.is_none()
        });
        assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
        observations
    };
    let (full_rate, low_rate) = (observations(false), observations(true));
    assert!(low_rate * 3 < full_rate * 2, "{low_rate} looks instead of {full_rate}");
}
