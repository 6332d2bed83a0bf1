//! Release trains: several services as one set, each after those that it depends on, and back together where the policy
//! says so.

use crate::pipeline::{HOUR, Pipeline, PipelineBuilder, carol, name, target};
use rollout::journal::Fact;
use rollout::verdict::{Cause, Verdict};
use rollout::{DeployOptions, Instruction, Lane, Overrides, Seconds, TargetId, Train};
use simulation::virtual_time::PushAnnouncement;
use simulation::world::{ImageBehaviour, scene};

fn targets() -> [TargetId; 2] {
    [target("shop/api/prod"), target("shop/web/prod")]
}

/// `web` depends on `api`; v1 of both is stable, v101 of api and v201 of web come as a train.
fn pipeline(keep_warm: u64, rollback_together: bool) -> Pipeline {
    let mut pipeline = PipelineBuilder::of(&["api/prod", "web/prod"])
        .scenes(move |scene| scene.strategy.keep_warm = Seconds(keep_warm))
        .policy(move |policy| {
            policy.services.get_mut(&name("web")).expect("a service").depends_on = vec![name("api")];
            crate::pipeline::environment_of(policy, "prod").entry.rollback_train_together = rollback_together;
        })
        .build();
    for target in &targets() {
        pipeline.simulation.push_service(&target.service, 1, PushAnnouncement::Event);
    }
    for target in &targets() {
        pipeline.expect_verdicts(target, HOUR, &[Verdict::Succeeded]);
    }
    pipeline.wait_until_idle(HOUR);
    for (service, number) in [("api", 101), ("web", 201)] {
        pipeline.simulation.push_service(&name(service), number, PushAnnouncement::Silent);
    }
    pipeline
}

fn request_train(pipeline: &mut Pipeline, rollback_together: bool) {
    let members = [("api", 101), ("web", 201)];
    let train = Train {
        id: "train-1".to_owned(),
        members: members.into_iter().map(|(service, number)| (name(service), scene::digest_of(number))).collect(),
        rollback_together,
        ..Train::default()
    };
    // The one that waits is asked first: what is asked for later may still go before it.
    for (service, number) in members.into_iter().rev() {
        let options =
            DeployOptions { train: Some(Box::new(train.clone())), lane: Lane::Asked, ..DeployOptions::default() };
        let deploy = pipeline.simulation.deploy_instruction(&name(service), number, Overrides::default(), options);
        let target = target(&format!("shop/{service}/prod"));
        pipeline.ask(&target, deploy, carol(), "the new cart");
    }
}

#[test]
fn train_members_deploy_in_dependency_order() {
    let mut pipeline = pipeline(20, true);
    let [api, web] = targets();
    request_train(&mut pipeline, true);
    pipeline.until(120, "web waits for api", |pipeline| pipeline.waiting_gates(&web) == ["train"]);
    pipeline.expect_verdicts(&api, HOUR, &[Verdict::Succeeded; 2]);
    pipeline.expect_verdicts(&web, HOUR, &[Verdict::Succeeded; 2]);
    let verified_at = pipeline.time_of(&api, |fact| matches!(fact, Fact::Verified { tag, .. } if tag == "v101"));
    let started_at = pipeline.time_of(
        &web,
        |fact| matches!(fact, Fact::StageEntered { stage, detail } if stage.name() == "preflight" && !detail.is_empty()),
    );
    assert!(started_at >= verified_at, "{started_at} {verified_at}{}", pipeline.journal_texts());
    assert!(
        Seconds::between(verified_at, started_at).0 <= 10,
        "whoever waits for it is woken{}",
        pipeline.journal_texts()
    );
    pipeline.wait_until_idle(HOUR);
    assert_eq!((pipeline.stable(&api).as_deref(), pipeline.stable(&web).as_deref()), (Some("v101"), Some("v201")));
    assert_eq!(pipeline.lost(), 0.0);
}

#[test]
fn a_failed_member_stops_its_dependents_from_starting() {
    for rollback_together in [false, true] {
        let mut pipeline = pipeline(20, rollback_together);
        let [api, web] = targets();
        pipeline.set_image(101, ImageBehaviour::failing(0.5));
        request_train(&mut pipeline, rollback_together);
        pipeline.expect_verdicts(&api, HOUR, &[Verdict::Succeeded, Verdict::RolledBack]);
        pipeline.expect_verdicts(&web, 120, &[Verdict::Succeeded, Verdict::Failed]);
        assert!(pipeline.reason(&web).contains("api"), "{}", pipeline.reason(&web));
        let is_traffic_decision = |fact: &Fact| matches!(fact, Fact::WeightsDecided { .. });
        let traffic_decisions = pipeline
            .journal(&web)
            .into_iter()
            .filter(|entry| entry.deployment == Some(2) && is_traffic_decision(&entry.fact));
        assert_eq!(traffic_decisions.count(), 0, "{}", pipeline.journal_texts());
        pipeline.wait_until_idle(HOUR);
        assert_eq!((pipeline.stable(&api).as_deref(), pipeline.stable(&web).as_deref()), (Some("v1"), Some("v1")));
    }
}

#[test]
fn a_train_rolls_back_together_when_the_policy_says_so() {
    // With the old side of api warm still, and long after it was taken down.
    for keep_warm in [1_800, 20] {
        let mut pipeline = pipeline(keep_warm, true);
        let [api, web] = targets();
        pipeline.set_image(201, ImageBehaviour::failing(0.5));
        request_train(&mut pipeline, true);
        pipeline.expect_verdicts(&web, 2 * HOUR, &[Verdict::Succeeded, Verdict::RolledBack]);
        pipeline.until(HOUR, "api has gone back, too", |pipeline| {
            pipeline.state(&api).running.is_none() && pipeline.stable(&api).as_deref() == Some("v1")
        });
        pipeline.wait_until_idle(2 * HOUR);
        assert_eq!(pipeline.stable(&web).as_deref(), Some("v1"));
        let state = pipeline.state(&api);
        assert!(
            state.verified_since(&scene::digest_of(101)).is_none(),
            "v101 is verified no more{}",
            pipeline.journal_texts()
        );
        assert_eq!(pipeline.lost(), 0.0, "{}", pipeline.journal_texts());
        // Each went back once: telling each other does not go round in circles.
        let is_rollback_start = |fact: &Fact| matches!(fact, Fact::RollbackStarted { .. });
        assert_eq!(pipeline.count(&web, is_rollback_start), 1, "{}", pipeline.journal_texts());
        let verdicts = pipeline.verdicts(&api);
        let warm = [Verdict::Succeeded, Verdict::RolledBack];
        let cold = [Verdict::Succeeded, Verdict::Succeeded, Verdict::Succeeded];
        assert_eq!(
            verdicts,
            if keep_warm > 1_000 { warm.to_vec() } else { cold.to_vec() },
            "{}",
            pipeline.journal_texts()
        );
        if keep_warm > 1_000 {
            let cause = |fact: &Fact| matches!(fact, Fact::RollbackStarted { cause: Cause::Train { service, .. } } if *service == name("web"));
            assert!(pipeline.has(&api, cause), "{}", pipeline.journal_texts());
        }
    }
}

#[test]
fn without_joint_rollback_succeeded_members_stay() {
    let mut pipeline = pipeline(20, false);
    let [api, web] = targets();
    pipeline.set_image(201, ImageBehaviour::failing(0.5));
    request_train(&mut pipeline, false);
    pipeline.expect_verdicts(&web, 2 * HOUR, &[Verdict::Succeeded, Verdict::RolledBack]);
    pipeline.wait_until_idle(HOUR);
    assert_eq!((pipeline.stable(&api).as_deref(), pipeline.stable(&web).as_deref()), (Some("v101"), Some("v1")));
}

#[test]
fn rolling_back_one_member_rolls_back_the_whole_train() {
    let mut pipeline = pipeline(20, true);
    let [api, web] = targets();
    request_train(&mut pipeline, true);
    pipeline.expect_verdicts(&web, 2 * HOUR, &[Verdict::Succeeded; 2]);
    pipeline.wait_until_idle(HOUR);
    pipeline.ask(&web, Instruction::Rollback, carol(), "the cart is empty");
    pipeline.expect_verdicts(&web, HOUR, &[Verdict::Succeeded; 3]);
    pipeline.expect_verdicts(&api, HOUR, &[Verdict::Succeeded; 3]);
    pipeline.wait_until_idle(HOUR);
    assert_eq!((pipeline.stable(&api).as_deref(), pipeline.stable(&web).as_deref()), (Some("v1"), Some("v1")));
    // What comes after it is no part of that train: a release of its own is left alone.
    pipeline.push("api", 102);
    pipeline.expect_verdicts(&api, HOUR, &[Verdict::Succeeded; 4]);
    pipeline.wait_until_idle(HOUR);
    assert_eq!(pipeline.stable(&api).as_deref(), Some("v102"));
}

#[test]
fn a_member_replaced_by_a_newer_release_is_not_rolled_back() {
    let mut pipeline = pipeline(20, true);
    let [api, web] = targets();
    request_train(&mut pipeline, true);
    pipeline.expect_verdicts(&web, 2 * HOUR, &[Verdict::Succeeded; 2]);
    pipeline.wait_until_idle(HOUR);
    pipeline.push("api", 102);
    pipeline.expect_verdicts(&api, HOUR, &[Verdict::Succeeded; 3]);
    pipeline.wait_until_idle(HOUR);
    pipeline.ask(&web, Instruction::Rollback, carol(), "the cart is empty");
    pipeline.expect_verdicts(&web, HOUR, &[Verdict::Succeeded; 3]);
    pipeline.wait_until_idle(HOUR);
    assert_eq!(pipeline.stable(&api).as_deref(), Some("v102"), "{}", pipeline.journal_texts());
}

#[test]
fn a_member_already_at_its_release_does_not_delay_the_train() {
    let mut pipeline = pipeline(20, true);
    let [api, web] = targets();
    pipeline.deploy(&api, 101, DeployOptions::default());
    pipeline.expect_verdicts(&api, HOUR, &[Verdict::Succeeded; 2]);
    pipeline.wait_until_idle(HOUR);
    request_train(&mut pipeline, true);
    pipeline.expect_verdicts(&web, HOUR, &[Verdict::Succeeded; 2]);
    pipeline.wait_until_idle(HOUR);
    assert_eq!((pipeline.stable(&api).as_deref(), pipeline.stable(&web).as_deref()), (Some("v101"), Some("v201")));
}

#[test]
fn a_member_superseded_at_its_gates_stops_the_train() {
    let mut pipeline = pipeline(20, true);
    let [api, web] = targets();
    let shop = rollout::brake::Scope::Application { application: name("shop") };
    pipeline.brake(shop.clone(), "the audit");
    request_train(&mut pipeline, true);
    pipeline.until(120, "api waits", |pipeline| pipeline.waiting_gates(&api) == ["freeze"]);
    pipeline.push("api", 102);
    pipeline.expect_verdicts(&api, 300, &[Verdict::Succeeded, Verdict::Superseded]);
    pipeline.expect_verdicts(&web, 300, &[Verdict::Succeeded, Verdict::Failed]);
    pipeline.lift_brake(&shop);
    pipeline.expect_verdicts(&api, HOUR, &[Verdict::Succeeded, Verdict::Superseded, Verdict::Succeeded]);
    pipeline.wait_until_idle(HOUR);
    assert_eq!((pipeline.stable(&api).as_deref(), pipeline.stable(&web).as_deref()), (Some("v102"), Some("v1")));
}

#[test]
fn a_refused_member_stops_the_train() {
    let mut pipeline = pipeline(20, true);
    let [api, web] = targets();
    pipeline.apply(|policy| {
        crate::pipeline::environment_of(policy, "prod").concurrency = rollout::policy::Concurrency::Reject;
    });
    pipeline.push("api", 2);
    pipeline.until(HOUR, "v2 is on its way", |pipeline| pipeline.weights(&api) != (0, 100));
    request_train(&mut pipeline, true);
    pipeline.until(300, "api has refused it", |pipeline| !pipeline.refused(&api).is_empty());
    pipeline.expect_verdicts(&web, 300, &[Verdict::Succeeded, Verdict::Failed]);
    assert_eq!(pipeline.stable(&web).as_deref(), Some("v1"));
}

#[test]
fn a_member_superseded_in_the_queue_stops_the_train() {
    let mut pipeline = pipeline(20, true);
    let [api, web] = targets();
    pipeline.push("api", 2);
    pipeline.until(HOUR, "v2 is on its way", |pipeline| pipeline.state(&api).running.is_some());
    pipeline.until(HOUR, "v2 has traffic", |pipeline| pipeline.weights(&api).0 > 0);
    request_train(&mut pipeline, true);
    pipeline.until(120, "api's member is queued", |pipeline| {
        pipeline.state(&api).queued.iter().any(|queued| queued.release.tag == "v101")
    });
    pipeline.push("api", 102);
    pipeline.until(120, "it gives way", |pipeline| {
        pipeline.state(&api).queued.iter().all(|queued| queued.release.tag == "v102")
    });
    pipeline.expect_verdicts(&web, 300, &[Verdict::Succeeded, Verdict::Failed]);
    pipeline.until(HOUR, "api is at v102", |pipeline| pipeline.stable(&api).as_deref() == Some("v102"));
    pipeline.wait_until_idle(HOUR);
}
