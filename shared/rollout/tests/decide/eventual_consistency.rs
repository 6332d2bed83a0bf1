//! What is read may lag behind what was written: nothing is believed of it that only the lag makes look so.

use super::fixture::{TargetFixture, deploy, new_command};
use rollout::snapshot::Weights;
use rollout::weighted::ForwardStep;
use rollout::{Effect, Fact, Instruction, Reading, Seconds, Slot, Timestamp, Verdict};

/// v2 has a tenth of the traffic, which was seen.
fn at_ten_percent() -> TargetFixture {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    let seen = |fixture: &TargetFixture| fixture.journal_has(|fact| matches!(fact, Fact::WeightsVerified { .. }));
    fixture.run_until(seen);
    assert_eq!(fixture.weights(), Weights { blue: 90, green: 10 });
    fixture
}

fn last_effect_at(fixture: &TargetFixture) -> Timestamp {
    fixture.state.running.as_ref().and_then(|running| running.last_effect_at).expect("it has done something")
}

fn weight_writes(fixture: &TargetFixture) -> usize {
    fixture.effects.iter().filter(|effect| matches!(effect, Effect::SetWeights { .. })).count()
}

#[test]
fn a_rollback_writes_weights_even_if_a_stale_read_matches() {
    let mut fixture = at_ten_percent();
    let before = weight_writes(&fixture);
    fixture.edit_rule(100, 0);
    fixture.decide(&[new_command(Instruction::Abort { deployment: None }, "abort")]);
    assert_eq!(weight_writes(&fixture), before + 1, "what is read may be from before the tenth");
    assert!(!fixture.state.running.as_ref().expect("it runs").has_restored_weights());
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Cancelled), "{}", fixture.end_reason());
}

#[test]
fn an_unconfirmed_rollback_write_is_repeated_before_it_counts() {
    let mut fixture = at_ten_percent();
    fixture.weight_writes_fail = true;
    fixture.decide(&[new_command(Instruction::Abort { deployment: None }, "abort")]);
    let before = weight_writes(&fixture);
    // Read as it was before the tenth; the rollback was never written.
    fixture.edit_rule(100, 0);
    fixture.weight_writes_fail = false;
    fixture.decide(&[]);
    assert_eq!(weight_writes(&fixture), before + 1, "nobody heard a yes");
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Cancelled), "{}", fixture.end_reason());
}

#[test]
fn changed_weights_are_an_edit_only_after_the_consistency_delay() {
    let mut fixture = at_ten_percent();
    fixture.edit_rule(100, 0);
    fixture.now = Seconds(2).after(last_effect_at(&fixture));
    fixture.decide(&[]);
    assert_eq!(fixture.stage(), "shifting", "{:?}", fixture.state.explanation);
    assert!(!fixture.journal_has(|fact| matches!(fact, Fact::RollbackStarted { .. } | Fact::Halted { .. })));
    fixture.now = Seconds(20).after(fixture.now);
    fixture.decide(&[]);
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::RollbackStarted { .. })), "it stays so: somebody did it");
}

#[test]
fn a_read_started_within_the_consistency_delay_reports_no_edit() {
    let mut fixture = at_ten_percent();
    fixture.edit_rule(100, 0);
    fixture.snapshot.read_started_at = Some(Seconds(1).after(last_effect_at(&fixture)));
    fixture.now = Seconds(40).after(last_effect_at(&fixture));
    fixture.decide(&[]);
    assert!(!fixture.journal_has(|fact| matches!(fact, Fact::RollbackStarted { .. } | Fact::Halted { .. })));
    fixture.snapshot.read_started_at = Some(fixture.now);
    fixture.decide(&[]);
    assert!(
        fixture.journal_has(|fact| matches!(fact, Fact::RollbackStarted { .. })),
        "it is so still: somebody did it"
    );
}

#[test]
fn a_side_with_unknown_traffic_drains_before_scaling_down() {
    let mut fixture = TargetFixture::new();
    fixture.candidates_unhealthy = true;
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.effects.iter().any(|effect| matches!(effect, Effect::SetVersion { .. })));
    assert_eq!(fixture.stage(), "scaling");
    fixture.edit_rule(1, 99);
    fixture.rules_unreadable = true;
    fixture.fire_alarm();
    fixture.decide(&[]);
    fixture.decide(&[]);
    assert!(weight_writes(&fixture) > 0, "nobody knows where the traffic is: it goes back");
    fixture.rules_unreadable = false;
    let is_scaled_down = |fixture: &TargetFixture| {
        fixture.effects.iter().any(|effect| matches!(effect, Effect::SetDesired { slot: Slot::Green, desired: 0 }))
    };
    let rollback_at = fixture.now;
    fixture.run_until(is_scaled_down);
    assert!(is_scaled_down(&fixture), "{}", fixture.end_reason());
    let drain = fixture.state.running.as_ref().expect("it runs").policy.strategy.drain;
    assert!(fixture.now >= drain.after(rollback_at), "{} after {rollback_at}", fixture.now);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed), "no traffic of its own has moved: {}", fixture.end_reason());
}

#[test]
fn a_stale_read_does_not_roll_back_a_forward_only_release() {
    let mut fixture = TargetFixture::new();
    let mut command = deploy("v2");
    if let Instruction::Deploy { options, .. } = &mut command.instruction {
        options.forward_only = true;
    }
    fixture.decide(&[command]);
    fixture.run_until(|fixture| fixture.journal_has(|fact| matches!(fact, Fact::WeightsVerified { .. })));
    fixture.fire_alarm();
    fixture.edit_rule(100, 0);
    fixture.now = Seconds(2).after(last_effect_at(&fixture));
    fixture.decide(&[]);
    fixture.decide(&[]);
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::AwaitingOperator { .. })));
    assert!(
        !fixture.journal_has(|fact| matches!(fact, Fact::RollbackStarted { .. })),
        "{:?}",
        fixture.state.explanation
    );
    fixture.now = Seconds(60).after(fixture.now);
    fixture.decide(&[]);
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::RollbackStarted { .. })), "it stays so: somebody did it");
}

#[test]
fn an_unreadable_rule_does_not_count_as_restored() {
    let mut fixture = at_ten_percent();
    fixture.now = Seconds(20).after(fixture.now);
    fixture.edit_rule(37, 63);
    fixture.decide(&[]);
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::Halted { .. })));
    fixture.rules_unreadable = true;
    fixture.decide(&[]);
    assert!(!fixture.journal_has(|fact| matches!(fact, Fact::Resumed)), "nobody knows that");
    fixture.rules_unreadable = false;
    fixture.edit_rule(90, 10);
    fixture.decide(&[]);
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::Resumed)));
}

#[test]
fn a_release_is_not_verified_while_rules_are_unreadable() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.stage() == "baking");
    fixture.rules_unreadable = true;
    fixture.now = Seconds(1).after(
        match fixture.state.running.as_ref().and_then(|running| running.forward()).map(|forward| &forward.step) {
            Some(ForwardStep::Baking { until, .. }) => *until,
            step => panic!("{step:?}"),
        },
    );
    fixture.decide(&[]);
    assert_eq!(fixture.stage(), "baking");
    assert_eq!(fixture.state.verified, []);
    fixture.rules_unreadable = false;
    fixture.decide(&[]);
    assert_eq!(fixture.state.verified.len(), 1);
}

#[test]
fn no_traffic_moves_before_autoscaling_is_seen_suspended() {
    let mut fixture = TargetFixture::new();
    fixture.autoscale(Slot::Blue, 2, 8);
    fixture.autoscale(Slot::Green, 0, 8);
    let limits = fixture.side(Slot::Blue).autoscaling;
    fixture.decide(&[deploy("v2")]);
    fixture.decide(&[]);
    assert_eq!(fixture.stage(), "registering");
    // It cannot be read while the tasks come up.
    let blue = std::mem::replace(&mut fixture.snapshot.blue, Reading::Unknown("throttled".to_owned()));
    for _ in 0..5 {
        fixture.advance();
        assert_eq!(fixture.stage(), "scaling", "traffic would move, and the stable side may be scaled in");
    }
    fixture.snapshot.blue = blue;
    fixture.run_until(|fixture| fixture.weights().of(Slot::Green) > 0);
    assert!(fixture.side(Slot::Blue).autoscaling.is_some_and(|now| now.scale_in_suspended));
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
    assert_eq!(fixture.side(Slot::Green).autoscaling, limits, "they went with the role");
}

#[test]
fn a_deployment_ends_only_after_its_last_change_is_confirmed() {
    let mut fixture = TargetFixture::new();
    fixture.autoscale(Slot::Blue, 2, 8);
    fixture.autoscale(Slot::Green, 0, 8);
    fixture.candidates_unhealthy = true;
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.effects.iter().any(|effect| matches!(effect, Effect::SetVersion { .. })));
    let (blue, green) = (fixture.snapshot.blue.clone(), fixture.snapshot.green.clone());
    let as_before_override = |reading: &Reading<rollout::snapshot::SideReading>, min| match reading {
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
    fixture.now = Seconds(1).after(last_effect_at(&fixture));
    (fixture.snapshot.blue, fixture.snapshot.green) = (as_before_override(&blue, 2), as_before_override(&green, 0));
    fixture.decide(&[new_command(Instruction::Abort { deployment: None }, "abort")]);
    fixture.decide(&[]);
    assert_eq!(fixture.verdict(), None, "that may be how it was before");
    (fixture.snapshot.blue, fixture.snapshot.green) = (blue, green);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Cancelled), "{}", fixture.end_reason());
    let is_scale_in_resumed = |fixture: &mut TargetFixture, slot| {
        fixture.side(slot).autoscaling.is_some_and(|limits| !limits.scale_in_suspended)
    };
    assert!(
        is_scale_in_resumed(&mut fixture, Slot::Blue) && is_scale_in_resumed(&mut fixture, Slot::Green),
        "what was borrowed is given back"
    );
    assert_eq!(fixture.side(Slot::Green).desired, 0);
}
