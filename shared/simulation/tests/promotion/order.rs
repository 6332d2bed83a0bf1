//! The order of environments: what is verified goes on by itself, what goes back stops there.

use crate::pipeline::{HOUR, Pipeline, PipelineBuilder, carol, check_approver, name, recompute_plan, slack, target};
use rollout::entry::{After, ApprovalDefault};
use rollout::journal::Fact;
use rollout::policy::Trigger;
use rollout::verdict::{Cause, Verdict};
use rollout::{DeployOptions, Gate, Instruction, Lane, PlanId, Seconds, TargetId};
use simulation::virtual_time::PushAnnouncement;
use simulation::world::ImageBehaviour;

const SOAK: u64 = 600;

fn targets() -> [TargetId; 3] {
    [target("shop/api/dev"), target("shop/api/staging"), target("shop/api/prod")]
}

/// dev by push, staging by itself after a soak, prod by itself where two people say yes.
fn pipeline() -> Pipeline {
    let plan = PipelineBuilder::of(&["api/dev", "api/staging", "api/prod"]);
    plan.promoted("staging", "dev", SOAK).promoted("prod", "staging", 0).approved("prod").build()
}

fn is_verified(fact: &Fact) -> bool {
    matches!(fact, Fact::Verified { .. })
}

#[test]
fn promotion_reaches_prod_and_a_rollback_there_holds_it() {
    let mut pipeline = pipeline();
    staging_soaks_before_it_deploys(&mut pipeline);
    prod_deploys_after_two_approvals(&mut pipeline);
    a_bad_release_is_rolled_back_in_prod(&mut pipeline);
    promotion_is_held_after_the_rollback(&mut pipeline);
    an_operators_promotion_resumes_automatic_promotion(&mut pipeline);
    assert_eq!(pipeline.lost(), 0.0, "no request was lost on the whole way");
}

/// v1: dev by push, staging once dev has verified it and the soak is over.
fn staging_soaks_before_it_deploys(pipeline: &mut Pipeline) {
    let [dev, staging, _] = targets();
    pipeline.push("api", 1);
    pipeline.until(HOUR, "staging waits", |pipeline| !pipeline.waiting_gates(&staging).is_empty());
    assert_eq!(pipeline.waiting_gates(&staging), ["soak"], "{}", pipeline.journal_texts());
    let started_scaling =
        pipeline.count(&staging, |fact| matches!(fact, Fact::StageEntered { stage, .. } if stage.name() == "scaling"));
    assert_eq!(started_scaling, 0, "nothing is touched while it waits{}", pipeline.journal_texts());
    pipeline.expect_verdicts(&staging, 2 * HOUR, &[Verdict::Succeeded]);
    assert_eq!(pipeline.verdicts(&dev), [Verdict::Succeeded]);
    let verified = pipeline.time_of(&dev, is_verified);
    let began = pipeline
        .time_of(&staging, |fact| matches!(fact, Fact::StageEntered { stage, .. } if stage.name() == "preflight"));
    let soak_time = Seconds::between(verified, began);
    assert!((SOAK..SOAK + 70).contains(&soak_time.0), "it began after {soak_time}{}", pipeline.journal_texts());
}

/// Two different approvers of three, on the plan that waits.
fn prod_deploys_after_two_approvals(pipeline: &mut Pipeline) {
    let [_, _, prod] = targets();
    pipeline.wait_for_approval_request(&prod, 1, 120);
    assert_eq!(pipeline.weights(&prod), (100, 0));
    assert_eq!(pipeline.plan(&prod).1, recompute_plan(pipeline, &prod), "a door computes the same plan");
    assert_eq!(check_approver(pipeline, &prod, &slack("UADA")), Ok(name("ada")));
    assert!(check_approver(pipeline, &prod, &slack("UMALLORY")).is_err());
    pipeline.approve(&prod, "UADA");
    pipeline.approve(&prod, "UADA");
    pipeline.approve(&prod, "UMALLORY");
    pipeline.simulation.run_for(600);
    assert_eq!(pipeline.waiting_gates(&prod), ["approval"], "one yes is not two{}", pipeline.journal_texts());
    assert_eq!(
        pipeline.refused(&prod).len(),
        2,
        "the second one of ada's and the stranger's{}",
        pipeline.journal_texts()
    );
    let (deployment, _) = pipeline.plan(&prod);
    let another = PlanId("0123456789abcdef".to_owned());
    pipeline.ask(&prod, Instruction::Approve { deployment, plan: another }, slack("UBOB"), "");
    pipeline.simulation.run_for(60);
    assert_eq!(pipeline.refused(&prod).len(), 3, "what was looked at is not what waits{}", pipeline.journal_texts());
    pipeline.approve(&prod, "UBOB");
    pipeline.expect_verdicts(&prod, HOUR, &[Verdict::Succeeded]);
    pipeline.wait_until_idle(HOUR);
    assert_eq!(pipeline.stable(&prod).as_deref(), Some("v1"));
}

/// v2, bad in prod only: it stays verified in dev and staging.
fn a_bad_release_is_rolled_back_in_prod(pipeline: &mut Pipeline) {
    let [_, staging, prod] = targets();
    pipeline.push("api", 2);
    pipeline.wait_for_approval_request(&prod, 2, 2 * HOUR);
    pipeline.expect_verdicts(&staging, HOUR, &[Verdict::Succeeded, Verdict::Succeeded]);
    pipeline.set_image(2, ImageBehaviour::failing(0.5));
    pipeline.approve(&prod, "UADA");
    pipeline.approve(&prod, "UEVE");
    pipeline.expect_verdicts(&prod, HOUR, &[Verdict::Succeeded, Verdict::RolledBack]);
    pipeline.set_image(2, ImageBehaviour::default());
    assert_eq!(pipeline.stable(&prod).as_deref(), Some("v1"));
    let hold = pipeline.state(&prod).promotion_hold.expect("promotion is held");
    assert!(hold.reason.contains("v2"), "{hold:?}");
    assert_eq!(pipeline.state(&prod).verified.len(), 1, "only v1 is verified{}", pipeline.journal_texts());
}

/// v3: verified in staging, and skipped in prod.
fn promotion_is_held_after_the_rollback(pipeline: &mut Pipeline) {
    let [_, staging, prod] = targets();
    pipeline.simulation.run_for(600);
    pipeline.push("api", 3);
    let skipped = |fact: &Fact| matches!(fact, Fact::PromotionSkipped { tag, .. } if tag == "v3");
    pipeline.until(2 * HOUR, "v3 is skipped in prod", |pipeline| pipeline.has(&prod, skipped));
    pipeline.wait_until_idle(HOUR);
    assert_eq!(pipeline.state(&prod).last_deployment, 2, "{}", pipeline.journal_texts());
    assert_eq!(pipeline.stable(&staging).as_deref(), Some("v3"));
}

/// v3 through the same gates, and v4 by itself again, up to its rejection.
fn an_operators_promotion_resumes_automatic_promotion(pipeline: &mut Pipeline) {
    let [_, _, prod] = targets();
    pipeline.deploy(&prod, 3, DeployOptions::default());
    pipeline.wait_for_approval_request(&prod, 3, 120);
    let resumed = |fact: &Fact| matches!(fact, Fact::PromotionResumed);
    assert!(!pipeline.has(&prod, resumed), "nothing has come of it yet{}", pipeline.journal_texts());
    pipeline.approve(&prod, "UADA");
    pipeline.approve(&prod, "UBOB");
    pipeline.expect_verdicts(&prod, HOUR, &[Verdict::Succeeded, Verdict::RolledBack, Verdict::Succeeded]);
    assert_eq!(pipeline.count(&prod, resumed), 1, "{}", pipeline.journal_texts());
    assert_eq!(pipeline.state(&prod).promotion_hold, None);
    pipeline.push("api", 4);
    pipeline.wait_for_approval_request(&prod, 4, 2 * HOUR);
    let (deployment, plan) = pipeline.plan(&prod);
    pipeline.ask(&prod, Instruction::Reject { deployment, plan }, slack("UEVE"), "not on a Friday");
    pipeline.expect_verdicts(
        &prod,
        HOUR,
        &[Verdict::Succeeded, Verdict::RolledBack, Verdict::Succeeded, Verdict::Rejected],
    );
    assert_eq!(pipeline.reason(&prod), "by eve: not on a Friday");
    assert_eq!(pipeline.stable(&prod).as_deref(), Some("v3"));
    pipeline.wait_until_idle(HOUR);
}

#[test]
fn a_release_rolled_back_during_its_soak_is_not_promoted() {
    let mut pipeline = pipeline();
    let [dev, staging, _] = targets();
    pipeline.push("api", 1);
    pipeline.expect_verdicts(&dev, HOUR, &[Verdict::Succeeded]);
    pipeline.wait_until_no_deployment_runs(&staging);
    pipeline.push("api", 2);
    pipeline.until(HOUR, "v2 soaks", |pipeline| {
        let running = pipeline.state(&staging).running;
        let queued = pipeline.state(&staging).queued;
        running.is_some_and(|running| running.release.tag == "v2") || !queued.is_empty()
    });
    pipeline.until(HOUR, "v2 is stable in dev", |pipeline| pipeline.stable(&dev).as_deref() == Some("v2"));
    pipeline.ask(&dev, Instruction::Rollback, carol(), "the cart is empty");
    pipeline.until(HOUR, "v2 is not verified in dev any more", |pipeline| {
        pipeline.has(&dev, |fact| matches!(fact, Fact::VerificationRevoked { tag, .. } if tag == "v2"))
    });
    pipeline.simulation.run_for(2 * HOUR);
    assert_ne!(pipeline.stable(&staging).as_deref(), Some("v2"), "{}", pipeline.journal_texts());
    let staging_verdicts = pipeline.simulation.at(&staging).verdicts();
    assert!(
        staging_verdicts.iter().any(|(_, verdict, reason)| *verdict == Verdict::Failed && reason.contains("after")),
        "{staging_verdicts:?}"
    );
    assert!(pipeline.state(&dev).promotion_hold.is_none(), "dev is not promoted to by itself");
}

#[test]
fn an_unanswered_approval_takes_its_default_at_expiry() {
    for (default, verdict) in
        [(ApprovalDefault::Reject, Verdict::Expired), (ApprovalDefault::Approve, Verdict::Succeeded)]
    {
        let plan = PipelineBuilder::of(&["api/dev", "api/prod"]).promoted("prod", "dev", 0).approved("prod");
        let mut pipeline = plan
            .policy(move |policy| {
                let prod = crate::pipeline::environment_of(policy, "prod");
                prod.entry.approval.as_mut().expect("it has one").default = default;
            })
            .build();
        let prod = target("shop/api/prod");
        pipeline.push("api", 1);
        pipeline.wait_for_approval_request(&prod, 1, HOUR);
        pipeline.expect_verdicts(&prod, 5 * HOUR, &[verdict]);
        let asked = pipeline.time_of(&prod, |fact| matches!(fact, Fact::ApprovalRequested { .. }));
        let closed_at = pipeline.time_of(&prod, |fact| match verdict {
            Verdict::Expired => matches!(fact, Fact::Ended { .. }),
            _ => matches!(fact, Fact::GateOpened { gate: Gate::Approval, .. }),
        });
        let waited = Seconds::between(asked, closed_at);
        assert!((4 * HOUR..4 * HOUR + 70).contains(&waited.0), "after {waited}{}", pipeline.journal_texts());
        pipeline.wait_until_idle(HOUR);
    }
}

#[test]
fn a_policy_change_that_alters_the_plan_voids_approvals() {
    let mut pipeline = pipeline();
    let prod = target("shop/api/prod");
    pipeline.push("api", 1);
    pipeline.wait_for_approval_request(&prod, 1, 2 * HOUR);
    pipeline.approve(&prod, "UADA");
    pipeline.simulation.run_for(60);
    let (_, before) = pipeline.plan(&prod);
    // The way the deployment would take is another one now.
    pipeline.apply(|policy| {
        let rules = crate::pipeline::environment_of(policy, "prod");
        let api = rules.targets.get_mut(&name("api")).expect("a target");
        api.strategy.bake = Seconds(60);
    });
    pipeline.until(120, "the plan is another one", |pipeline| pipeline.plan(&prod).1 != before);
    pipeline.wait_for_approval_request(&prod, 1, 120);
    assert!(
        pipeline.has(&prod, |fact| matches!(fact, Fact::PlanChanged { voided: 1, .. })),
        "{}",
        pipeline.journal_texts()
    );
    assert_eq!(
        pipeline.count(&prod, |fact| matches!(fact, Fact::ApprovalRequested { .. })),
        2,
        "{}",
        pipeline.journal_texts()
    );
    pipeline.approve(&prod, "UBOB");
    pipeline.simulation.run_for(300);
    assert_eq!(
        pipeline.waiting_gates(&prod),
        ["approval"],
        "ada's yes was to another plan{}",
        pipeline.journal_texts()
    );
    pipeline.approve(&prod, "UADA");
    pipeline.expect_verdicts(&prod, HOUR, &[Verdict::Succeeded]);
    // A setting that changes nothing of the plan would not have asked anybody anew.
    assert_eq!(pipeline.count(&prod, |fact| matches!(fact, Fact::PlanChanged { .. })), 1);
}

#[test]
fn a_requester_cannot_approve_their_own_deployment() {
    let mut pipeline = pipeline();
    let [_, staging, prod] = targets();
    pipeline.push("api", 1);
    pipeline.wait_for_approval_request(&prod, 1, 2 * HOUR);
    pipeline.expect_verdicts(&staging, HOUR, &[Verdict::Succeeded]);
    let (deployment, plan) = pipeline.plan(&prod);
    pipeline.ask(&prod, Instruction::Reject { deployment, plan }, slack("UADA"), "by hand, please");
    pipeline.expect_verdicts(&prod, HOUR, &[Verdict::Rejected]);
    let (overrides, options) = (rollout::Overrides::default(), DeployOptions::default());
    let deploy = pipeline.simulation.deploy_instruction(&name("api"), 1, overrides, options);
    pipeline.ask(&prod, deploy, slack("UADA"), "by hand");
    pipeline.wait_for_approval_request(&prod, 2, 120);
    for user in ["UADA", "UBOB"] {
        pipeline.approve(&prod, user);
    }
    pipeline.simulation.run_for(300);
    assert_eq!(pipeline.waiting_gates(&prod), ["approval"], "{}", pipeline.journal_texts());
    let refused = pipeline.refused(&prod);
    assert!(refused.iter().any(|why| why.contains("ada requested this deployment")), "{refused:?}");
    pipeline.approve(&prod, "UEVE");
    pipeline.expect_verdicts(&prod, HOUR, &[Verdict::Rejected, Verdict::Succeeded]);
}

#[test]
fn a_release_not_verified_upstream_is_refused_unless_a_hotfix() {
    let plan = PipelineBuilder::of(&["api/dev", "api/prod"]).approved("prod").policy(|policy| {
        let prod = crate::pipeline::environment_of(policy, "prod");
        prod.trigger = Trigger::Manual;
        prod.entry.after = Some(After::All(vec![name("dev")]));
        prod.entry.soak = Seconds(HOUR);
        prod.entry.hotfix_skips = [Gate::After, Gate::Soak, Gate::Approval].into();
    });
    let mut pipeline = plan.build();
    let [dev, prod] = [target("shop/api/dev"), target("shop/api/prod")];
    pipeline.simulation.push_service(&name("api"), 7, PushAnnouncement::Silent);
    pipeline.deploy(&prod, 7, DeployOptions::default());
    pipeline.simulation.run_for(120);
    let refused = pipeline.refused(&prod);
    assert!(refused.iter().any(|why| why.contains("not verified in dev")), "{refused:?}");
    assert_eq!(pipeline.state(&prod).last_deployment, 0);

    let hotfix = DeployOptions { lane: Lane::Hotfix, ..DeployOptions::default() };
    pipeline.deploy(&prod, 7, hotfix);
    pipeline.expect_verdicts(&prod, HOUR, &[Verdict::Succeeded]);
    let hotfix_recorded = |fact: &Fact| matches!(fact, Fact::HotfixStarted { skips, reason } if skips.len() == 3 && reason == "asked for");
    assert!(pipeline.has(&prod, hotfix_recorded), "{}", pipeline.journal_texts());
    let record = pipeline.simulation.ledger().store().history(&prod, 1).remove(0);
    assert!(record.hotfix, "history marks it: {record:?}");
    assert!(pipeline.verdicts(&dev).is_empty() || pipeline.verdicts(&dev) == [Verdict::Succeeded]);
}

#[test]
fn a_rollback_skips_gates_and_holds_promotion() {
    let mut pipeline = pipeline();
    let [_, staging, prod] = targets();
    for number in [1, 2] {
        pipeline.push("api", number);
        pipeline.wait_for_approval_request(&prod, number, 2 * HOUR);
        pipeline.approve(&prod, "UADA");
        pipeline.approve(&prod, "UBOB");
        pipeline.until(HOUR, "prod has it", |pipeline| pipeline.stable(&prod) == Some(format!("v{number}")));
    }
    pipeline.wait_until_idle(HOUR);
    let asked = pipeline.simulation.now();
    pipeline.ask(&prod, Instruction::Rollback, carol(), "the cart is empty");
    pipeline.expect_verdicts(&prod, HOUR, &[Verdict::Succeeded; 3]);
    assert!(Seconds::between(asked, pipeline.simulation.now()).0 < 300, "it waited{}", pipeline.journal_texts());
    assert_eq!(pipeline.stable(&prod).as_deref(), Some("v1"));
    assert!(pipeline.state(&prod).promotion_hold.is_some(), "{}", pipeline.journal_texts());
    assert!(
        pipeline.state(&prod).verified.iter().all(|known| known.release.tag == "v1"),
        "{}",
        pipeline.journal_texts()
    );
    // And v2 is not brought back by the environment before.
    pipeline.push("api", 3);
    pipeline.until(2 * HOUR, "v3 is skipped", |pipeline| {
        pipeline.has(&prod, |fact| matches!(fact, Fact::PromotionSkipped { tag, .. } if tag == "v3"))
    });
    pipeline.wait_until_idle(HOUR);
    assert_eq!(pipeline.stable(&prod).as_deref(), Some("v1"));
    assert_eq!(pipeline.stable(&staging).as_deref(), Some("v3"));
}

#[test]
fn pinning_an_older_release_holds_promotion() {
    let mut pipeline = PipelineBuilder::of(&["api/dev", "api/staging"]).promoted("staging", "dev", 0).build();
    let staging = target("shop/api/staging");
    for number in [1, 2] {
        pipeline.push("api", number);
        pipeline.until(HOUR, "staging has it", |pipeline| pipeline.stable(&staging) == Some(format!("v{number}")));
        pipeline.wait_until_idle(HOUR);
    }
    pipeline.deploy(&staging, 1, DeployOptions::default());
    pipeline.expect_verdicts(&staging, HOUR, &[Verdict::Succeeded; 3]);
    let hold = pipeline.state(&staging).promotion_hold.expect("it is held");
    assert!(hold.reason.contains("v1") && hold.reason.contains("pinned"), "{hold:?}");
    pipeline.push("api", 3);
    pipeline.until(HOUR, "v3 is skipped", |pipeline| {
        pipeline.has(&staging, |fact| matches!(fact, Fact::PromotionSkipped { .. }))
    });
    pipeline.wait_until_idle(HOUR);
    assert_eq!(pipeline.stable(&staging).as_deref(), Some("v1"));
    pipeline.deploy(&staging, 3, DeployOptions::default());
    pipeline.expect_verdicts(&staging, HOUR, &[Verdict::Succeeded; 4]);
    assert_eq!(pipeline.state(&staging).promotion_hold, None, "{}", pipeline.journal_texts());
}

#[test]
fn promotion_waits_for_all_or_any_upstream_environments() {
    for (after, wanted) in [(After::All as fn(_) -> _, 2), (After::Any as fn(_) -> _, 1)] {
        let mut pipeline = PipelineBuilder::of(&["api/dev", "api/qa", "api/prod"])
            .policy(move |policy| {
                crate::pipeline::environment_of(policy, "qa").trigger = Trigger::Manual;
                let prod = crate::pipeline::environment_of(policy, "prod");
                prod.trigger = Trigger::Promotion;
                prod.entry.after = Some(after(vec![name("dev"), name("qa")]));
            })
            .build();
        let [qa, prod] = [target("shop/api/qa"), target("shop/api/prod")];
        pipeline.push("api", 1);
        pipeline.expect_verdicts(&target("shop/api/dev"), HOUR, &[Verdict::Succeeded]);
        pipeline.simulation.run_for(HOUR);
        if wanted == 2 {
            assert_eq!(pipeline.state(&prod).last_deployment, 0, "{}", pipeline.journal_texts());
            assert!(pipeline.refused(&prod).is_empty(), "it is no refusal, only not yet{}", pipeline.journal_texts());
        }
        pipeline.deploy(&qa, 1, DeployOptions::default());
        pipeline.expect_verdicts(&qa, HOUR, &[Verdict::Succeeded]);
        pipeline.expect_verdicts(&prod, HOUR, &[Verdict::Succeeded]);
        pipeline.wait_until_idle(HOUR);
        assert_eq!(pipeline.state(&prod).last_deployment, 1, "once, not once for each{}", pipeline.journal_texts());
    }
}

#[test]
fn a_release_rolled_back_upstream_is_not_promoted() {
    let mut pipeline = pipeline();
    let [dev, staging, prod] = targets();
    pipeline.set_image(1, ImageBehaviour::failing(0.5));
    pipeline.push("api", 1);
    pipeline.expect_verdicts(&dev, HOUR, &[Verdict::RolledBack]);
    assert!(pipeline.has(&dev, |fact| matches!(fact, Fact::RollbackStarted { cause: Cause::Alarm { .. } })));
    pipeline.wait_until_idle(HOUR);
    for target in [&staging, &prod] {
        assert_eq!(pipeline.journal(target), [], "{target} heard of it{}", pipeline.journal_texts());
    }
}

/// A lifecycle rule deletes what waits for an approval: it ends with that reason, and nothing is touched.
#[test]
fn deployment_fails_when_its_image_is_deleted_before_approval() {
    let mut pipeline = pipeline();
    let [_, _, prod] = targets();
    pipeline.push("api", 1);
    pipeline.wait_for_approval_request(&prod, 1, 4 * HOUR);
    pipeline.simulation.delete_image(1);
    pipeline.approve(&prod, "UADA");
    pipeline.approve(&prod, "UBOB");
    pipeline.expect_verdicts(&prod, HOUR, &[Verdict::Failed]);
    let reason = pipeline.simulation.at(&prod).verdicts().pop().map(|(_, _, reason)| reason).unwrap_or_default();
    assert!(reason.contains("image") && reason.contains("gone"), "{reason}");
    let touched = |fact: &Fact| matches!(fact, Fact::VersionReady { .. } | Fact::WeightsDecided { .. });
    assert!(!pipeline.has(&prod, touched), "{}", pipeline.journal_texts());

    // Pushed again, it is asked about again.
    pipeline.push("api", 1);
    pipeline.deploy(&prod, 1, DeployOptions::default());
    pipeline.wait_for_approval_request(&prod, 2, HOUR);
}
