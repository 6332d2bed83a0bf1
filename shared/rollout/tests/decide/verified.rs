//! What counts as verified, and what holds automatic promotion: no more than is true.

use super::automatic_promotion::{prod_without_approval, verify_and_promote};
use super::fixture::{TargetFixture, deploy, new_command};
use super::gates::{
    approval_by, awaiting_approval, decide_until_waiting, hotfix_command, last_refusal, promotion_command,
    verify_in_staging,
};
use rollout::entry::Gate;
use rollout::plan::{PlanStatus, dry_run};
use rollout::release::ReleaseRef;
use rollout::{
    Command, CommandId, Concurrency, DeployOptions, Fact, Instruction, Lane, Seconds, SignedDuration, Slot, Verdict,
};

/// Somebody asks for a release that was pushed at the time that its tag says.
fn manual_deploy(fixture: &TargetFixture, tag: &str) -> Command {
    let Instruction::Deploy { release, image, tag, overrides, options } = promotion_command(fixture, tag).instruction
    else {
        unreachable!()
    };
    let options = DeployOptions { lane: Lane::Asked, ..options };
    let id = format!("asked-{tag}-{}", fixture.journal.len());
    new_command(Instruction::Deploy { release, image, tag, overrides, options }, &id)
}

fn is_promotion_held(fixture: &TargetFixture) -> bool {
    fixture.journal_has(|fact| matches!(fact, Fact::PromotionHeld { .. }))
}

#[test]
fn a_release_abandoned_after_its_bake_loses_verification() {
    let mut fixture = TargetFixture::new();
    fixture.run("v1");
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.stage() == "keeping_warm");
    assert_eq!(fixture.state.verified.len(), 2);
    // Somebody puts half of the traffic back by hand, and leaves it so.
    fixture.edit_rule(50, 50);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert!(fixture.state.drift().is_some());
    let tags: Vec<_> = fixture.state.verified.iter().map(|known| known.release.tag.as_str()).collect();
    assert_eq!(tags, ["v1"], "v2 did not make it");
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::VerificationRevoked { tag, .. } if tag == "v2")));
}

#[test]
fn a_superseded_deployment_keeps_earlier_verifications() {
    let mut fixture = TargetFixture::new();
    fixture.run("v1");
    fixture.run("v2");
    fixture.applied.concurrency = Concurrency::CancelRunning;
    fixture.decide(&[Command { id: CommandId("again".to_owned()), ..deploy("v1") }]);
    fixture.run_until(|fixture| fixture.weights().of(Slot::Green) > 0 && fixture.weights().of(Slot::Blue) > 0);
    fixture.decide(&[deploy("v3")]);
    fixture.run_until(|_| false);
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::Ended { verdict: Verdict::Superseded, .. })));
    let tags: Vec<_> = fixture.state.verified.iter().map(|known| known.release.tag.as_str()).collect();
    assert_eq!(tags, ["v1", "v2", "v3"]);
}

#[test]
fn a_pin_holds_nothing_without_automatic_promotion() {
    let mut fixture = prod_without_approval();
    fixture.applied.entry.auto_promotes = false;
    for tag in ["v5", "v3"] {
        verify_in_staging(&mut fixture, tag);
        let command = manual_deploy(&fixture, tag);
        decide_until_waiting(&mut fixture, &[command]);
        fixture.run_until(|_| false);
    }
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
    assert!(!is_promotion_held(&fixture) && fixture.state.promotion_hold.is_none());
}

#[test]
fn a_promotion_aborted_at_its_gates_keeps_the_hold() {
    let mut fixture = prod_without_approval();
    verify_and_promote(&mut fixture, "v2");
    fixture.run_until(|fixture| fixture.weights().of(Slot::Green) > 0);
    fixture.fire_alarm();
    fixture.run_until(|_| false);
    assert!(fixture.state.promotion_hold.is_some());
    fixture.alarm(rollout::snapshot::AlarmReading::Ok);
    verify_in_staging(&mut fixture, "v3");
    let command = manual_deploy(&fixture, "v3");
    decide_until_waiting(&mut fixture, &[command]);
    assert_eq!(fixture.stage(), "gated");
    decide_until_waiting(&mut fixture, &[new_command(Instruction::Abort { deployment: None }, "no")]);
    assert!(fixture.state.promotion_hold.is_some(), "nothing came of it");
    verify_and_promote(&mut fixture, "v4");
    assert_eq!(fixture.stage(), "none");
}

#[test]
fn a_reinstated_approval_is_requested_with_a_new_deadline() {
    let mut fixture = awaiting_approval();
    let bobs_decision = approval_by(&fixture, "bob");
    decide_until_waiting(&mut fixture, &[bobs_decision]);
    let rules = fixture.applied.entry.rules.clone();
    fixture.applied.entry.rules.approval = None;
    // Still closed by something else, for longer than people had.
    fixture.applied.entry.rules.windows =
        vec![rollout::entry::Window { days: [5].into(), from_minute: 0, until_minute: 60 }];
    decide_until_waiting(&mut fixture, &[]);
    fixture.now += SignedDuration::from_secs(7200);
    decide_until_waiting(&mut fixture, &[]);
    fixture.applied.entry.rules = rules;
    decide_until_waiting(&mut fixture, &[]);
    assert_eq!(fixture.stage(), "gated", "{}", fixture.end_reason());
    let gates = fixture.state.running.as_ref().and_then(|running| running.gates.clone()).unwrap();
    assert_eq!((gates.requested_at, gates.votes.len()), (Some(fixture.now), 0));
    let both = ["bob", "carol"]
        .map(|person| Command { id: CommandId(format!("2-{person}")), ..approval_by(&fixture, person) });
    decide_until_waiting(&mut fixture, &both);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn a_hotfix_requested_twice_keeps_its_approvals() {
    let mut fixture = awaiting_approval();
    fixture.applied.entry.rules.hotfix_skips = [Gate::After, Gate::Soak].into();
    decide_until_waiting(&mut fixture, &[hotfix_command("v3")]);
    let number = fixture.state.last_deployment;
    let bobs_decision = approval_by(&fixture, "bob");
    decide_until_waiting(&mut fixture, &[bobs_decision]);
    decide_until_waiting(&mut fixture, &[Command { id: CommandId("2".to_owned()), ..hotfix_command("v3") }]);
    assert_eq!(fixture.state.last_deployment, number);
    assert_eq!(last_refusal(&fixture), "deploy: deployment #2 is already bringing v3");
    assert_eq!(fixture.state.running.as_ref().and_then(|running| running.gates.as_ref()).unwrap().votes.len(), 1);
}

#[test]
fn a_rejected_hotfix_supersedes_nothing() {
    let mut fixture = awaiting_approval();
    fixture.applied.entry.rules.hotfix_skips = [Gate::After, Gate::Soak, Gate::Approval].into();
    fixture.applied.concurrency = Concurrency::QueueAll;
    verify_in_staging(&mut fixture, "v3");
    decide_until_waiting(&mut fixture, &[deploy("v3")]);
    // From now on one at a time, and two are here.
    fixture.applied.concurrency = Concurrency::Reject;
    decide_until_waiting(&mut fixture, &[hotfix_command("v4")]);
    assert!(last_refusal(&fixture).contains("takes no other release"), "{}", last_refusal(&fixture));
    assert_eq!((fixture.stage(), fixture.verdict()), ("gated", None));
}

#[test]
fn a_plan_lists_the_deployment_it_would_supersede() {
    let mut fixture = awaiting_approval();
    verify_in_staging(&mut fixture, "v3");
    fixture.now += SignedDuration::from_secs(600);
    fixture.applied.entry.rules.soak = Seconds(60);
    let command = deploy("v3");
    let Instruction::Deploy { release, image, tag, .. } = command.instruction.clone() else { unreachable!() };
    let release = ReleaseRef { id: release, image, tag, pushed_at: None };
    let plan = dry_run(&fixture.state, &fixture.applied, &command, release, &fixture.gate_context, fixture.now)
        .plan(Some(&fixture.seen()));
    assert_eq!(plan.status, PlanStatus::Gated);
    assert_eq!(
        plan.blockers,
        [
            "deployment #1 (v2) waits at its gates, and would give way to this one",
            "approval: 2 of bob, carol must approve"
        ]
    );
}

#[test]
fn a_hotfix_is_superseded_only_by_another_hotfix() {
    for rule in [Concurrency::QueueNewest, Concurrency::CancelRunning] {
        // At its gates.
        let mut fixture = awaiting_approval();
        fixture.applied.concurrency = rule;
        fixture.applied.entry.rules.hotfix_skips = [Gate::After, Gate::Soak].into();
        decide_until_waiting(&mut fixture, &[hotfix_command("v3")]);
        verify_in_staging(&mut fixture, "v4");
        decide_until_waiting(&mut fixture, &[deploy("v4")]);
        let tag = |fixture: &TargetFixture| fixture.state.running.as_ref().map(|running| running.release.tag.clone());
        assert_eq!(tag(&fixture).as_deref(), Some("v3"), "{rule:?}");
        decide_until_waiting(&mut fixture, &[hotfix_command("v5")]);
        assert_eq!(tag(&fixture).as_deref(), Some("v5"), "{rule:?}");

        // In the queue, and on its way.
        let mut fixture = TargetFixture::new();
        fixture.applied.concurrency = rule;
        fixture.applied.entry.rules.hotfix_skips = [Gate::Soak].into();
        fixture.decide(&[deploy("v2")]);
        fixture.run_until(|fixture| fixture.weights().of(Slot::Green) > 0);
        fixture.decide(&[hotfix_command("v3")]);
        fixture.decide(&[deploy("v4")]);
        let queued_tags: Vec<_> = fixture.state.queued.iter().map(|queued| queued.release.tag.as_str()).collect();
        assert_eq!(queued_tags, ["v3", "v4"], "{rule:?}");
        fixture.run_until(|fixture| tag(fixture).as_deref() == Some("v3"));
        fixture.decide(&[deploy("v5")]);
        fixture.run_until(|_| false);
        let succeeded = fixture.journal.iter().filter_map(|entry| match &entry.fact {
            Fact::Verified { tag, .. } => Some(tag.as_str()),
            _ => None,
        });
        assert!(succeeded.clone().any(|tag| tag == "v3"), "{rule:?}: {:?}", succeeded.collect::<Vec<_>>());
    }
}
