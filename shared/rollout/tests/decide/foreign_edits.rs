//! What somebody else writes into a rule, and a reason to go back: who comes first, and what is said of it.

use super::fixture::{TargetFixture, deploy, new_command};
use rollout::snapshot::{AlarmReading, RuleReading, Weights};
use rollout::verdict::Verdict;
use rollout::{Effect, Fact, Instruction, Reading, Seconds, Slot};

/// Blue is stable, and `v2` has the first share of the traffic on green.
fn mid_shift() -> TargetFixture {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().green == 10);
    fixture.advance();
    fixture
}

fn replaced_weights(fixture: &TargetFixture) -> Vec<(String, String)> {
    let entries = fixture.journal.iter().filter_map(|entry| match &entry.fact {
        Fact::ForeignWeightsReplaced { found, cause } => Some((found.clone(), cause.clone())),
        _ => None,
    });
    entries.collect()
}

/// Case: 90/10 was decided, a Terraform apply writes 10/90 or 0/100, and the alarm fires.
#[test]
fn a_firing_alarm_rolls_back_over_a_foreign_edit() {
    for (blue, green) in [(10, 90), (0, 100), (50, 50)] {
        let mut fixture = mid_shift();
        fixture.now = Seconds(2).after(fixture.now);
        fixture.edit_rule(blue, green);
        fixture.fire_alarm();
        fixture.decide(&[]);
        fixture.decide(&[]);
        assert_eq!(fixture.weights(), Weights { blue: 100, green: 0 }, "after {blue}/{green}");
        fixture.run_until(|_| false);
        assert_eq!(fixture.verdict(), Some(Verdict::RolledBack));
        assert!(fixture.end_reason().contains("api-5xx"), "{}", fixture.end_reason());
        let replacements = replaced_weights(&fixture);
        let [(found, cause)] = replacements.as_slice() else { panic!("said once: {replacements:?}") };
        assert!(found.contains(&format!("blue {blue} / green {green}")), "{found}");
        assert!(found.contains("blue 90 / green 10"), "and what it should have been: {found}");
        assert!(cause.contains("api-5xx"), "{cause}");
    }
}

#[test]
fn a_halted_deployment_rolls_back_when_an_alarm_fires() {
    let mut fixture = mid_shift();
    fixture.now = Seconds(30).after(fixture.now);
    fixture.edit_rule(10, 90);
    fixture.advance();
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::Halted { .. })));
    assert_eq!(fixture.weights(), Weights { blue: 10, green: 90 }, "going on never writes over another's edit");
    fixture.fire_alarm();
    fixture.decide(&[]);
    fixture.decide(&[]);
    assert_eq!(fixture.weights(), Weights { blue: 100, green: 0 });
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack));
}

#[test]
fn every_other_rollback_cause_overrides_a_foreign_edit() {
    let dead = |fixture: &mut TargetFixture| fixture.side(Slot::Green).targets.healthy = 0;
    let abort = |fixture: &mut TargetFixture| {
        fixture.decide(&[new_command(Instruction::Abort { deployment: None }, "a1")]);
    };
    let newer = |fixture: &mut TargetFixture| {
        fixture.applied.concurrency = rollout::Concurrency::CancelRunning;
        fixture.decide(&[deploy("v3")]);
    };
    type Reason = fn(&mut TargetFixture);
    let reasons: [(&str, Reason); 3] = [("dead", dead), ("abort", abort), ("newer", newer)];
    for (name, reason) in reasons {
        let mut fixture = mid_shift();
        fixture.now = Seconds(30).after(fixture.now);
        fixture.edit_rule(10, 90);
        fixture.advance();
        reason(&mut fixture);
        fixture.decide(&[]);
        fixture.decide(&[]);
        assert_eq!(fixture.weights(), Weights { blue: 100, green: 0 }, "{name}");
        assert_eq!(replaced_weights(&fixture).len(), 1, "{name}: {:#?}", fixture.journal);
    }
}

#[test]
fn an_edit_during_a_rollback_is_replaced_before_scaling_down() {
    for stage in ["draining", "candidate_down"] {
        let mut fixture = mid_shift();
        fixture.fire_alarm();
        fixture.run_until(|fixture| fixture.weights().blue == 100);
        fixture.advance();
        fixture.alarm(AlarmReading::Ok);
        if stage == "candidate_down" {
            // It has drained; its tasks are about to stop.
            fixture.now = Seconds(301).after(fixture.now);
        } else {
            fixture.now = Seconds(20).after(fixture.now);
        }
        fixture.edit_rule(50, 50);
        fixture.run_until(|fixture| fixture.weights().blue == 100);
        assert!(fixture.side(Slot::Green).running > 0, "{stage}: what has traffic stays up");
        fixture.run_until(|_| false);
        assert_eq!(fixture.verdict(), Some(Verdict::RolledBack), "{stage}");
        assert_eq!(fixture.weights(), Weights { blue: 100, green: 0 }, "{stage}");
        assert!(replaced_weights(&fixture).iter().any(|(found, _)| found.contains("blue 50 / green 50")), "{stage}");
    }
}

/// The latest reason for which a deployment halts, or does not start.
fn blocking_reason(fixture: &TargetFixture) -> Option<&str> {
    fixture.journal.iter().rev().find_map(|entry| match &entry.fact {
        Fact::Halted { reason } | Fact::Blocked { reason } => Some(reason.as_str()),
        _ => None,
    })
}

/// Somebody else replaced the rule's actions: neither side's target group is in it.
#[test]
fn a_rule_with_neither_sides_target_group_is_described() {
    for (foreign_groups, words) in [
        (vec![], "forwards to neither side"),
        (vec!["tg-canary".to_owned()], "forwards to neither side, but to tg-canary"),
    ] {
        let rule = RuleReading {
            weights: Weights { blue: 0, green: 0 },
            has_both_groups: false,
            foreign_groups,
            sticky_for: None,
        };
        let mut running = mid_shift();
        running.now = Seconds(30).after(running.now);
        running.snapshot.rules = vec![Reading::Known(rule.clone())];
        running.advance();
        let halted = blocking_reason(&running);
        assert!(halted.is_some_and(|reason| reason.contains(words)), "{words}: {halted:?}");

        let mut starting = TargetFixture::new();
        starting.snapshot.rules = vec![Reading::Known(rule)];
        starting.decide(&[deploy("v2")]);
        starting.advance();
        let blocked = blocking_reason(&starting);
        assert!(blocked.is_some_and(|reason| reason.contains(words)), "{words}: {blocked:?}");
        assert_eq!(starting.effects, [], "nothing is changed before it is corrected");
    }
}

/// API reference, `ModifyRule`: no parameter makes the write depend on the present actions, so they are read right before it.
#[test]
fn a_forward_write_is_conditional_on_the_observed_weights() {
    let mut fixture = mid_shift();
    let (blue, green) = (fixture.weights().blue, fixture.weights().green);
    fixture.run_until(|fixture| fixture.weights().green > 10);
    let forward = fixture.effects.iter().rev().find_map(|effect| match effect {
        Effect::SetWeights { seen, .. } => Some(seen.clone()),
        _ => None,
    });
    assert_eq!(forward, Some(vec![Weights { blue, green }]));

    let mut fixture = mid_shift();
    // Between the look and the write somebody else is faster: nothing is written, and the next look sees it.
    let seen = fixture.seen();
    fixture.now = Seconds(3600).after(fixture.now);
    let inbox =
        rollout::Inbox { commands: &[], policy: Some(&fixture.applied), gate_context: Some(&fixture.gate_context) };
    let decision = rollout::decide(&fixture.state, &inbox, Some(&seen), fixture.now);
    assert!(matches!(decision.effects.as_slice(), [Effect::SetWeights { .. }]), "{:?}", decision.effects);
    fixture.edit_rule(30, 70);
    fixture.advance();
    assert_eq!(fixture.weights(), Weights { blue: 30, green: 70 });
    fixture.run_until(|fixture| fixture.journal_has(|fact| matches!(fact, Fact::Halted { .. })));
    assert_eq!(fixture.weights(), Weights { blue: 30, green: 70 }, "a person decides");
}

#[test]
fn with_both_sides_unhealthy_nothing_changes_and_operators_are_notified() {
    let mut fixture = mid_shift();
    for slot in Slot::BOTH {
        let targets = &mut fixture.side(slot).targets;
        (targets.unhealthy, targets.healthy) = (targets.healthy, 0);
    }
    fixture.run_until(|_| false);
    assert_eq!(fixture.weights(), Weights { blue: 90, green: 10 }, "never from a side to one that cannot serve either");
    assert!(fixture.side(Slot::Blue).running > 0 && fixture.side(Slot::Green).running > 0, "nothing is taken down");
    let evidence = fixture.journal.iter().find_map(|entry| match &entry.fact {
        Fact::RollbackBlocked { reason } if entry.fact.needs_attention() => Some(reason.clone()),
        _ => None,
    });
    let evidence = evidence.expect("people are called");
    assert!(evidence.contains("blue has 0 healthy") && evidence.contains("green has 0 healthy"), "{evidence}");
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert!(fixture.end_reason().contains("blue has 0 healthy"), "{}", fixture.end_reason());
}

#[test]
fn a_rollback_proceeds_once_the_stable_side_is_healthy() {
    let mut fixture = mid_shift();
    for slot in Slot::BOTH {
        fixture.side(slot).targets.healthy = 0;
    }
    fixture.advance();
    fixture.advance();
    fixture.side(Slot::Blue).targets.healthy = 4;
    fixture.run_until(|_| false);
    assert_eq!(fixture.weights(), Weights { blue: 100, green: 0 });
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack));
}

/// A rollback with a deadline of 60 s whose driver is killed before it writes, and taken over after it.
#[test]
fn a_late_rollback_is_attempted_before_its_deadline_ends_it() {
    let mut fixture = mid_shift();
    fixture.applied.policy.deadlines.rollback = Seconds(60);
    if let Some(running) = &mut fixture.state.running {
        running.policy.deadlines.rollback = Seconds(60);
    }
    fixture.fire_alarm();
    // The decision is committed, and its driver dies.
    let seen = fixture.seen();
    let inbox =
        rollout::Inbox { commands: &[], policy: Some(&fixture.applied), gate_context: Some(&fixture.gate_context) };
    let first = rollout::decide(&fixture.state, &inbox, Some(&seen), fixture.now);
    let inbox =
        rollout::Inbox { commands: &[], policy: Some(&fixture.applied), gate_context: Some(&fixture.gate_context) };
    let second = rollout::decide(&first.state, &inbox, Some(&seen), fixture.now);
    fixture.journal.extend([first.journal, second.journal].concat());
    fixture.state = second.state;
    assert_eq!(fixture.stage(), "rolling_back");
    fixture.now = Seconds(65).after(fixture.now);
    fixture.advance();
    assert_eq!(fixture.weights(), Weights { blue: 100, green: 0 });
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack));
    assert_eq!(fixture.side(Slot::Green).desired, 0, "nothing of it is left behind");
}

#[test]
fn autoscaling_is_restored_even_after_the_rollback_deadline() {
    let mut fixture = TargetFixture::new();
    fixture.autoscale(Slot::Blue, 2, 8);
    fixture.autoscale(Slot::Green, 0, 8);
    let before = [Slot::Blue, Slot::Green].map(|slot| fixture.side(slot).autoscaling);
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().green == 10);
    fixture.fire_alarm();
    fixture.run_until(|fixture| fixture.weights().blue == 100);
    // Nobody comes for hours: the deadline of going back is long over.
    fixture.now = Seconds(3 * 3600).after(fixture.now);
    fixture.run_until(|_| false);
    assert_eq!([Slot::Blue, Slot::Green].map(|slot| fixture.side(slot).autoscaling), before);
    assert_eq!(fixture.side(Slot::Green).desired, 0);
    assert!(!fixture.journal_has(|fact| matches!(fact, Fact::CleanupIncomplete { .. })), "{:#?}", fixture.journal);
}

#[test]
fn rollback_weights_are_retried_past_the_deadline() {
    let mut fixture = mid_shift();
    fixture.weight_writes_fail = true;
    fixture.fire_alarm();
    fixture.advance();
    let deadline = fixture.state.running.as_ref().map(|running| running.phase.deadline()).expect("it runs");
    fixture.run_until(|fixture| fixture.now > Seconds(600).after(deadline));
    assert_eq!(fixture.verdict(), None);
    fixture.weight_writes_fail = false;
    fixture.run_until(|_| false);
    assert_eq!(fixture.weights(), Weights { blue: 100, green: 0 });
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack));
}

#[test]
fn a_firing_alarm_rolls_back_with_unreadable_rules() {
    let mut fixture = mid_shift();
    fixture.rules_unreadable = true;
    fixture.fire_alarm();
    fixture.decide(&[]);
    fixture.decide(&[]);
    assert_eq!(fixture.weights(), Weights { blue: 100, green: 0 }, "what cannot be seen is written all the same");
}
