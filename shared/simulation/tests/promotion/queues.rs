//! What a newer release, a hotfix, a rollback or a changed policy does to the one that waits at its gates.

use crate::pipeline::{HOUR, Pipeline, PipelineBuilder, carol, environment_of, name, target};
use rollout::journal::Fact;
use rollout::policy::Concurrency;
use rollout::verdict::Verdict;
use rollout::{DeployOptions, Gate, Instruction, Lane, TargetId};

fn prod() -> TargetId {
    target("shop/api/prod")
}

/// v1 waits for approval in prod, promoted there by itself.
fn pipeline(concurrency: Concurrency) -> Pipeline {
    let mut pipeline = PipelineBuilder::of(&["api/dev", "api/prod"])
        .promoted("prod", "dev", 0)
        .approved("prod")
        .policy(move |policy| {
            let rules = environment_of(policy, "prod");
            rules.concurrency = concurrency;
            rules.entry.hotfix_skips = [Gate::Approval, Gate::After, Gate::Soak].into();
        })
        .build();
    pipeline.push("api", 1);
    pipeline.wait_for_approval_request(&prod(), 1, HOUR);
    pipeline
}

fn verify_in_dev(pipeline: &mut Pipeline, number: u64) {
    pipeline.push("api", number);
    let dev = target("shop/api/dev");
    let tag = format!("v{number}");
    pipeline.until(HOUR, "dev has verified it", |pipeline| {
        pipeline.has(&dev, |fact| matches!(fact, Fact::Verified { tag: known, .. } if *known == tag))
    });
}

#[test]
fn a_newer_release_supersedes_a_waiting_one_and_needs_approval() {
    for concurrency in [Concurrency::QueueNewest, Concurrency::CancelRunning] {
        let mut pipeline = pipeline(concurrency);
        pipeline.approve(&prod(), "UADA");
        let (old, plan) = pipeline.plan(&prod());
        verify_in_dev(&mut pipeline, 2);
        pipeline.wait_for_approval_request(&prod(), 2, 300);
        assert_eq!(pipeline.verdicts(&prod()), [Verdict::Superseded], "{}", pipeline.journal_texts());
        // Whoever approves the old one is refused, and nothing of it counts for the new one.
        pipeline.ask(&prod(), Instruction::Approve { deployment: old, plan }, crate::pipeline::slack("UBOB"), "");
        pipeline.simulation.run_for(120);
        assert_eq!(pipeline.waiting_gates(&prod()), ["approval"], "{}", pipeline.journal_texts());
        let refused = pipeline.refused(&prod());
        assert!(refused.iter().any(|why| why.contains("#1 is over")), "{refused:?}");
        pipeline.approve(&prod(), "UADA");
        pipeline.approve(&prod(), "UBOB");
        pipeline.expect_verdicts(&prod(), HOUR, &[Verdict::Superseded, Verdict::Succeeded]);
        assert_eq!(pipeline.stable(&prod()).as_deref(), Some("v2"));
        pipeline.wait_until_idle(HOUR);
    }
}

#[test]
fn with_queue_all_a_newer_release_waits_its_turn() {
    let mut pipeline = pipeline(Concurrency::QueueAll);
    verify_in_dev(&mut pipeline, 2);
    pipeline.simulation.run_for(300);
    assert_eq!(pipeline.running(&prod()).release.tag, "v1", "{}", pipeline.journal_texts());
    let (deployment, plan) = pipeline.plan(&prod());
    pipeline.ask(&prod(), Instruction::Reject { deployment, plan }, crate::pipeline::slack("UEVE"), "not this one");
    pipeline.wait_for_approval_request(&prod(), 2, 120);
    pipeline.approve(&prod(), "UADA");
    pipeline.approve(&prod(), "UBOB");
    pipeline.expect_verdicts(&prod(), HOUR, &[Verdict::Rejected, Verdict::Succeeded]);
    assert_eq!(pipeline.stable(&prod()).as_deref(), Some("v2"));
}

#[test]
fn with_reject_the_waiting_release_stays() {
    let mut pipeline = pipeline(Concurrency::Reject);
    verify_in_dev(&mut pipeline, 2);
    pipeline.simulation.run_for(300);
    assert_eq!(pipeline.running(&prod()).release.tag, "v1", "{}", pipeline.journal_texts());
    assert!(pipeline.state(&prod()).queued.is_empty());
    pipeline.approve(&prod(), "UADA");
    pipeline.approve(&prod(), "UBOB");
    pipeline.expect_verdicts(&prod(), HOUR, &[Verdict::Succeeded]);
    pipeline.wait_until_idle(HOUR);
    assert_eq!(pipeline.stable(&prod()).as_deref(), Some("v1"));
}

#[test]
fn a_refused_release_does_not_supersede_a_waiting_one() {
    let mut pipeline = pipeline(Concurrency::QueueNewest);
    pipeline.simulation.push_service(&name("api"), 9, simulation::virtual_time::PushAnnouncement::Silent);
    pipeline.deploy(&prod(), 9, DeployOptions::default());
    pipeline.simulation.run_for(120);
    assert!(
        pipeline.refused(&prod()).iter().any(|why| why.contains("not verified in dev")),
        "{}",
        pipeline.journal_texts()
    );
    assert_eq!(pipeline.running(&prod()).release.tag, "v1");
    pipeline.approve(&prod(), "UADA");
    pipeline.approve(&prod(), "UBOB");
    pipeline.expect_verdicts(&prod(), HOUR, &[Verdict::Succeeded]);
}

#[test]
fn a_hotfix_supersedes_waiting_deployments() {
    for concurrency in
        [Concurrency::QueueNewest, Concurrency::QueueAll, Concurrency::CancelRunning, Concurrency::Reject]
    {
        let mut pipeline = pipeline(concurrency);
        pipeline.simulation.push_service(&name("api"), 9, simulation::virtual_time::PushAnnouncement::Silent);
        pipeline.deploy(&prod(), 9, DeployOptions { lane: Lane::Hotfix, ..DeployOptions::default() });
        pipeline.expect_verdicts(&prod(), HOUR, &[Verdict::Superseded, Verdict::Succeeded]);
        assert_eq!(pipeline.stable(&prod()).as_deref(), Some("v9"), "{concurrency:?}{}", pipeline.journal_texts());
        // What was promoted by itself is not put over the hotfix, which is newer.
        pipeline.simulation.run_for(HOUR);
        assert_eq!(pipeline.stable(&prod()).as_deref(), Some("v9"), "{concurrency:?}{}", pipeline.journal_texts());
    }
}

#[test]
fn a_rollback_cancels_waiting_deployments_and_starts_immediately() {
    let mut pipeline = pipeline(Concurrency::QueueNewest);
    for number in [1, 2, 3] {
        if number > 1 {
            verify_in_dev(&mut pipeline, number);
            pipeline.wait_for_approval_request(&prod(), number, 300);
        }
        if number < 3 {
            pipeline.approve(&prod(), "UADA");
            pipeline.approve(&prod(), "UBOB");
            pipeline.until(HOUR, "it is stable", |pipeline| pipeline.stable(&prod()) == Some(format!("v{number}")));
            pipeline.wait_until_idle(HOUR);
        }
    }
    pipeline.ask(&prod(), Instruction::Rollback, carol(), "the cart is empty");
    pipeline.expect_verdicts(
        &prod(),
        300,
        &[Verdict::Succeeded, Verdict::Succeeded, Verdict::Cancelled, Verdict::Succeeded],
    );
    assert_eq!(pipeline.stable(&prod()).as_deref(), Some("v1"));
    assert!(pipeline.state(&prod()).promotion_hold.is_some());
    pipeline.wait_until_idle(HOUR);
}

#[test]
fn an_abort_cancels_a_waiting_deployment_without_side_effects() {
    let mut pipeline = pipeline(Concurrency::QueueNewest);
    pipeline.ask(&prod(), Instruction::Abort { deployment: Some(1) }, carol(), "not today");
    pipeline.expect_verdicts(&prod(), 60, &[Verdict::Cancelled]);
    assert_eq!(pipeline.weights(&prod()), (100, 0));
    let has_side_effects = pipeline.journal(&prod()).into_iter().any(|entry| {
        matches!(entry.fact, Fact::VersionReady { .. } | Fact::WeightsDecided { .. } | Fact::RollbackStarted { .. })
    });
    assert!(!has_side_effects, "{}", pipeline.journal_texts());
    pipeline.wait_until_idle(HOUR);
}

#[test]
fn removing_a_target_from_the_policy_fails_its_waiting_deployment() {
    let mut pipeline = pipeline(Concurrency::QueueNewest);
    pipeline.apply(|policy| {
        policy.environments.remove(&name("prod"));
    });
    pipeline.expect_verdicts(&prod(), 300, &[Verdict::Failed]);
    pipeline.wait_until_idle(HOUR);
}

#[test]
fn a_deployment_expires_when_its_gates_never_open() {
    let mut pipeline = PipelineBuilder::of(&["api/dev"])
        .policy(|policy| environment_of(policy, "dev").entry.give_up_after = rollout::Seconds(2 * HOUR))
        .build();
    let dev = target("shop/api/dev");
    pipeline.brake(rollout::brake::Scope::Everything, "the database is down");
    pipeline.push("api", 1);
    pipeline.expect_verdicts(&dev, 3 * HOUR, &[Verdict::Expired]);
    assert!(pipeline.reason(&dev).contains("the database is down"), "{}", pipeline.reason(&dev));
    pipeline.wait_until_idle(HOUR);
}
