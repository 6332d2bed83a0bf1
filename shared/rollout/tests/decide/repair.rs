//! After an end that left traffic somewhere else: what is remembered, what may start, and what leads out.

use super::fixture::{TargetFixture, deploy, new_command};
use rollout::snapshot::Weights;
use rollout::verdict::Verdict;
use rollout::{Effect, Fact, Instruction, Slot};

/// `v1` is stable on green, and a deployment of `v2` to blue has ended with the rules as somebody has left them.
fn failed_with_weights(blue: u16, green: u16) -> TargetFixture {
    let mut fixture = TargetFixture::new();
    fixture.run("v1");
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().blue == 10);
    fixture.advance();
    fixture.edit_rule(blue, green);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    fixture
}

fn refusals(fixture: &TargetFixture) -> Vec<String> {
    let entries = fixture.journal.iter().filter_map(|entry| match &entry.fact {
        Fact::CommandRefused { reason, .. } => Some(reason.to_string()),
        _ => None,
    });
    entries.collect()
}

#[test]
fn last_seen_weights_are_stored_apart_from_the_stable_side() {
    for (blue, green) in [(100, 0), (60, 40)] {
        let fixture = failed_with_weights(blue, green);
        let seen = fixture.state.traffic.as_ref().expect("it was seen");
        assert_eq!(seen.rules, [Some(Weights { blue, green })]);
        assert!(fixture.state.drift().is_some());
        let stable = fixture.state.stable.as_ref().expect("v1 is");
        assert_eq!(stable.release.as_ref().map(|release| release.tag.as_str()), Some("v1"));
    }
}

#[test]
fn rollback_and_redeploy_restore_the_stable_traffic() {
    for (blue, green) in [(100, 0), (60, 40)] {
        for command in [new_command(Instruction::Rollback, "r1"), deploy("v1")] {
            let mut fixture = failed_with_weights(blue, green);
            fixture.decide(&[command]);
            fixture.run_until(|_| false);
            assert_eq!(refusals(&fixture), [""; 0], "after {blue}/{green}");
            assert_eq!(fixture.weights(), Weights { blue: 0, green: 100 }, "after {blue}/{green}");
            assert!(fixture.state.drift().is_none());
        }
    }
}

/// The first deployment of a target, whose stable side Switchback has not deployed.
#[test]
fn a_rollback_works_after_a_failed_first_deployment() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v1")]);
    fixture.run_until(|fixture| fixture.weights().green == 10);
    fixture.advance();
    fixture.edit_rule(40, 60);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    fixture.decide(&[new_command(Instruction::Rollback, "r1")]);
    fixture.run_until(|_| false);
    assert_eq!(refusals(&fixture), [""; 0]);
    assert_eq!(fixture.weights(), Weights { blue: 100, green: 0 });
    assert!(fixture.state.drift().is_none());
}

#[test]
fn split_weights_block_the_newest_deployment_with_instructions() {
    let mut fixture = failed_with_weights(60, 40);
    let before = fixture.journal.len();
    fixture.decide(&[deploy("v3")]);
    for _ in 0..30 {
        fixture.advance();
    }
    fixture.decide(&[deploy("v4")]);
    for _ in 0..30 {
        fixture.advance();
    }
    let since: Vec<_> = fixture.journal[before..].iter().map(|entry| &entry.fact).collect();
    assert!(!since.iter().any(|fact| matches!(fact, Fact::Ended { verdict: Verdict::Failed, .. })), "{since:#?}");
    let blocked_reasons: Vec<_> = since
        .iter()
        .filter_map(|fact| match fact {
            Fact::Blocked { reason } => Some(reason),
            _ => None,
        })
        .collect();
    assert_eq!(blocked_reasons.len(), 2, "once for each: {since:#?}");
    assert!(blocked_reasons.iter().all(|reason| reason.contains("switchback rollback")), "{blocked_reasons:?}");
    assert_eq!(fixture.state.running.as_ref().map(|running| running.release.tag.as_str()), Some("v4"));

    // The one command that leads out ends the wait and puts traffic back.
    fixture.decide(&[new_command(Instruction::Rollback, "r1")]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.weights(), Weights { blue: 0, green: 100 });
    fixture.run("v5");
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn a_blocked_deployment_continues_once_rules_are_repaired() {
    let mut fixture = failed_with_weights(60, 40);
    fixture.decide(&[deploy("v3")]);
    fixture.advance();
    fixture.advance();
    fixture.edit_rule(0, 100);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
    let runs = fixture.side(Slot::Blue).version.clone();
    assert!(fixture.weights().blue == 100 && runs.contains("td:"), "{runs}");
}

/// At rest an apply gives all weight to the side without tasks, and nobody has looked since.
#[test]
fn a_rollback_moves_traffic_off_a_side_without_tasks() {
    let mut fixture = TargetFixture::new();
    fixture.run("v1");
    fixture.run("v2");
    assert_eq!(fixture.weights(), Weights { blue: 100, green: 0 });
    fixture.edit_rule(0, 100);
    let before = fixture.effects.len();
    fixture.decide(&[new_command(Instruction::Rollback, "r1")]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.weights(), Weights { blue: 100, green: 0 }, "{:#?}", fixture.journal);
    let started = fixture.effects[before..].iter().any(|effect| matches!(effect, Effect::SetVersion { .. }));
    assert!(!started, "its traffic is put back, and nothing is rolled out");
}

#[test]
fn a_repair_of_correct_weights_changes_nothing() {
    let mut fixture = failed_with_weights(60, 40);
    fixture.edit_rule(0, 100);
    let before = fixture.effects.len();
    fixture.decide(&[new_command(Instruction::Rollback, "r1")]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
    assert_eq!(fixture.effects.len(), before);
}

/// Its first writes do not work: what is there meanwhile is what was left there, and no new edit.
#[test]
fn a_retried_repair_reports_no_foreign_edit() {
    let mut fixture = failed_with_weights(60, 40);
    let before = fixture.journal.len();
    fixture.weight_writes_fail = true;
    fixture.decide(&[new_command(Instruction::Rollback, "r1")]);
    for _ in 0..20 {
        fixture.advance();
    }
    fixture.weight_writes_fail = false;
    fixture.run_until(|_| false);
    assert_eq!(fixture.weights(), Weights { blue: 0, green: 100 });
    let reports_foreign_edit = |fact: &Fact| matches!(fact, Fact::ForeignWeightsReplaced { .. });
    assert!(
        !fixture.journal[before..].iter().any(|entry| reports_foreign_edit(&entry.fact)),
        "{:#?}",
        &fixture.journal[before..]
    );
}
