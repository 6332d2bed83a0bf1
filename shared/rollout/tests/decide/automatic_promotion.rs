//! Promotion from environment to environment: what is verified, what follows by itself, and what holds it.

use super::fixture::{TargetFixture, deploy, new_command, target};
use super::gates::{
    closed_gates, decide_until_waiting, name, prod_with_gates, promotion_command, staging, verify_in_staging,
};
use rollout::entry::{After, Gate};
use rollout::promotion::RelatedTarget;
use rollout::target::OutboxMessage;
use rollout::{Command, CommandId, Fact, Instruction, Lane, Slot, TargetId, Verdict};

#[test]
fn a_completed_bake_verifies_and_notifies_the_next_environment() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.stage() == "keeping_warm");
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::Verified { tag, .. } if tag == "v2")));
    assert!(
        matches!(fixture.outbox.as_slice(), [OutboxMessage::Verified { deployment: 1, .. }]),
        "{:?}",
        fixture.outbox
    );
    // And it goes back while the old side is warm: verified no more.
    fixture.fire_alarm();
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack));
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::VerificationRevoked { tag, .. } if tag == "v2")));
    assert_eq!(fixture.state.verified, []);
}

#[test]
fn a_requested_rollback_revokes_only_the_release_it_leaves() {
    let mut fixture = TargetFixture::new();
    fixture.run("v2");
    fixture.run("v3");
    fixture.decide(&[new_command(Instruction::Rollback, "r")]);
    fixture.run_until(|_| false);
    let tags: Vec<_> = fixture.state.verified.iter().map(|known| known.release.tag.as_str()).collect();
    assert_eq!(tags, ["v2"]);
}

/// Prod without people: what staging verifies comes by itself.
pub(super) fn prod_without_approval() -> TargetFixture {
    let mut fixture = prod_with_gates();
    fixture.applied.entry.rules.approval = None;
    fixture
}

pub(super) fn verify_and_promote(fixture: &mut TargetFixture, tag: &str) {
    verify_in_staging(fixture, tag);
    let command = promotion_command(fixture, tag);
    decide_until_waiting(fixture, &[command]);
}

fn stable(fixture: &TargetFixture) -> String {
    fixture
        .state
        .stable
        .as_ref()
        .and_then(|stable| stable.release.as_ref())
        .map(|release| release.tag.clone())
        .unwrap_or_default()
}

#[test]
fn a_release_verified_in_staging_is_promoted_after_its_soak() {
    let mut fixture = prod_without_approval();
    verify_and_promote(&mut fixture, "v2");
    assert_eq!(closed_gates(&fixture), [Gate::Soak]);
    fixture.run_until(|_| false);
    assert_eq!((fixture.verdict(), stable(&fixture).as_str()), (Some(Verdict::Succeeded), "v2"));
}

#[test]
fn promotion_after_two_environments_starts_once_both_verified() {
    let mut fixture = prod_without_approval();
    fixture.applied.entry.rules.after = Some(After::All(vec![name("staging"), name("qa")]));
    fixture
        .gate_context
        .related_targets
        .insert(TargetId { environment: name("qa"), ..target() }, RelatedTarget::default());
    verify_and_promote(&mut fixture, "v2");
    assert_eq!((fixture.stage(), fixture.journal.len()), ("none", 0));
    let seen = fixture.gate_context.related_targets[&staging()].clone();
    fixture.gate_context.related_targets.insert(TargetId { environment: name("qa"), ..target() }, seen);
    let again = Command { id: CommandId("from-qa".to_owned()), ..promotion_command(&fixture, "v2") };
    decide_until_waiting(&mut fixture, &[again]);
    assert_eq!(fixture.stage(), "gated");
}

#[test]
fn a_rollback_holds_automatic_promotion_until_a_manual_one_succeeds() {
    let mut fixture = prod_without_approval();
    verify_and_promote(&mut fixture, "v2");
    fixture.run_until(|fixture| fixture.stage() == "shifting");
    fixture.run_until(|fixture| fixture.weights().of(Slot::Green) > 0);
    fixture.fire_alarm();
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack));
    assert!(fixture.state.promotion_hold.is_some());
    fixture.alarm(rollout::snapshot::AlarmReading::Ok);

    verify_and_promote(&mut fixture, "v3");
    assert_eq!(fixture.stage(), "none");
    let skipped = fixture.journal.iter().rev().find_map(|entry| match &entry.fact {
        Fact::PromotionSkipped { tag, reason, .. } => Some(format!("{tag}: {reason}")),
        _ => None,
    });
    let message = skipped.unwrap_or_default();
    assert!(message.starts_with("v3: automatic promotion is held: v2 went back: alarm api-5xx fired"), "{message}");

    decide_until_waiting(&mut fixture, &[deploy("v3")]);
    assert_eq!(closed_gates(&fixture), [Gate::Soak]);
    assert!(fixture.state.promotion_hold.is_some(), "nothing came of it yet");
    fixture.run_until(|_| false);
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::PromotionResumed)));
    verify_and_promote(&mut fixture, "v4");
    fixture.run_until(|_| false);
    assert_eq!(stable(&fixture), "v4", "it goes on by itself");
}

#[test]
fn a_pin_of_an_older_release_holds_automatic_promotion() {
    let mut fixture = prod_without_approval();
    verify_and_promote(&mut fixture, "v5");
    fixture.run_until(|_| false);
    verify_in_staging(&mut fixture, "v3");
    let Instruction::Deploy { release, image, tag, overrides, options } = promotion_command(&fixture, "v3").instruction
    else {
        unreachable!()
    };
    let options = rollout::DeployOptions { lane: Lane::Asked, ..options };
    decide_until_waiting(
        &mut fixture,
        &[new_command(Instruction::Deploy { release, image, tag, overrides, options }, "pin")],
    );
    assert!(
        fixture.journal_has(|fact| matches!(fact, Fact::PromotionHeld { reason } if reason == "v3 was pinned by ada"))
    );
    fixture.run_until(|_| false);
    verify_and_promote(&mut fixture, "v6");
    assert_eq!((fixture.stage(), stable(&fixture).as_str()), ("none", "v3"));
}

#[test]
fn an_older_release_is_not_promoted_over_a_newer_one() {
    let mut fixture = prod_without_approval();
    verify_and_promote(&mut fixture, "v5");
    verify_in_staging(&mut fixture, "v4");
    let late = promotion_command(&fixture, "v4");
    decide_until_waiting(&mut fixture, &[late]);
    assert!(fixture.journal_has(
        |fact| matches!(fact, Fact::PromotionSkipped { reason, .. } if reason == "v5 is newer, and here already")
    ));
    fixture.run_until(|_| false);
    assert_eq!(stable(&fixture), "v5");
}

// --- the stopped line ---
