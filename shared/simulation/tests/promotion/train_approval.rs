//! Release trains that people approve once for all members, and trains that are promoted as a whole.

use crate::pipeline::{HOUR, Pipeline, PipelineBuilder, carol, environment_of, name, slack, target};
use rollout::entry::ApprovalDefault;
use rollout::journal::Fact;
use rollout::{DeployOptions, Instruction, Lane, Overrides, Seconds, Stage, TargetId, Train, Verdict};
use simulation::virtual_time::PushAnnouncement;
use simulation::world::{ImageBehaviour, scene};

const MEMBERS: [(&str, u64); 2] = [("api", 101), ("web", 201)];

fn services(environment: &str) -> [TargetId; 2] {
    ["api", "web"].map(|service| target(&format!("shop/{service}/{environment}")))
}

/// `web` depends on `api`, and two people approve for prod. v101 of api and v201 of web are pushed and known.
fn pipeline(builder: PipelineBuilder) -> Pipeline {
    let mut pipeline = builder
        .policy(|policy| policy.services.get_mut(&name("web")).expect("a service").depends_on = vec![name("api")])
        .approved("prod")
        .build();
    for (service, number) in MEMBERS {
        pipeline.simulation.push_service(&name(service), number, PushAnnouncement::Silent);
    }
    pipeline
}

fn prod_alone() -> Pipeline {
    pipeline(PipelineBuilder::of(&["api/prod", "web/prod"]))
}

/// Dev, and prod after it by itself.
fn dev_and_prod() -> Pipeline {
    pipeline(PipelineBuilder::of(&["api/dev", "web/dev", "api/prod", "web/prod"]).promoted("prod", "dev", 0))
}

/// Carol asks for both as one train, for which api asks the people.
fn request_train(pipeline: &mut Pipeline, environment: &str) {
    let of = |(service, number): (&str, u64)| (name(service), scene::digest_of(number));
    let train = Train {
        id: "train-1".to_owned(),
        members: MEMBERS.into_iter().map(of).collect(),
        tags: MEMBERS.into_iter().map(|(service, number)| (name(service), format!("v{number}"))).collect(),
        lead: Some(name("api")),
        rollback_together: true,
    };
    for ((service, number), target) in MEMBERS.into_iter().zip(services(environment)).rev() {
        let options =
            DeployOptions { train: Some(Box::new(train.clone())), lane: Lane::Asked, ..DeployOptions::default() };
        let deploy = pipeline.simulation.deploy_instruction(&name(service), number, Overrides::default(), options);
        pipeline.ask(&target, deploy, carol(), "the new cart");
    }
}

fn was_asked(fact: &Fact) -> bool {
    matches!(fact, Fact::ApprovalRequested { .. })
}

fn approve_when_asked(pipeline: &mut Pipeline, target: &TargetId, seconds: u64) {
    pipeline.until(seconds, &format!("people are asked about {target}"), |pipeline| pipeline.has(target, was_asked));
    for person in ["UADA", "UBOB"] {
        pipeline.approve(target, person);
    }
}

#[test]
fn one_approval_is_enough_for_the_whole_train() {
    let mut pipeline = prod_alone();
    let [api, web] = services("prod");
    request_train(&mut pipeline, "prod");
    approve_when_asked(&mut pipeline, &api, 300);
    for target in [&api, &web] {
        pipeline.expect_verdicts(target, HOUR, &[Verdict::Succeeded]);
    }
    assert_eq!(pipeline.count(&api, was_asked), 1, "{}", pipeline.journal_texts());
    assert_eq!(pipeline.count(&web, was_asked), 0, "{}", pipeline.journal_texts());
    // Who is asked sees what else it is about; whoever reads the other's journal, who approved it.
    let names_web = |fact: &Fact| matches!(fact, Fact::ApprovalRequested { with, .. } if with.get(&name("web")).is_some_and(|tag| tag == "v201"));
    assert!(pipeline.has(&api, names_web), "{}", pipeline.journal_texts());
    let by_both = |fact: &Fact| matches!(fact, Fact::ApprovedWithTrain { service, people } if *service == name("api") && people.len() == 2);
    assert!(pipeline.has(&web, by_both), "{}", pipeline.journal_texts());
    pipeline.wait_until_idle(HOUR);
    pipeline.assert_no_violation("a train");
}

#[test]
fn an_answer_for_another_member_is_refused_and_names_the_one_that_asks() {
    let mut pipeline = prod_alone();
    let [api, web] = services("prod");
    request_train(&mut pipeline, "prod");
    pipeline.until(300, "people are asked", |pipeline| pipeline.has(&api, was_asked));
    pipeline.approve(&web, "UADA");
    pipeline.until(60, "it is refused", |pipeline| !pipeline.refused(&web).is_empty());
    assert!(pipeline.refused(&web)[0].contains("api"), "{:?}", pipeline.refused(&web));
}

#[test]
fn a_rejection_ends_the_whole_train() {
    let mut pipeline = prod_alone();
    let [api, web] = services("prod");
    request_train(&mut pipeline, "prod");
    pipeline.until(300, "people are asked", |pipeline| pipeline.has(&api, was_asked));
    let (deployment, plan) = pipeline.plan(&api);
    pipeline.ask(&api, Instruction::Reject { deployment, plan }, slack("UADA"), "not on a Friday");
    pipeline.expect_verdicts(&api, HOUR, &[Verdict::Rejected]);
    pipeline.expect_verdicts(&web, HOUR, &[Verdict::Failed]);
    assert_eq!(pipeline.count(&web, was_asked), 0, "{}", pipeline.journal_texts());
}

#[test]
fn a_member_whose_plan_changes_after_the_approval_asks_by_itself() {
    let mut pipeline = prod_alone();
    let [api, web] = services("prod");
    request_train(&mut pipeline, "prod");
    approve_when_asked(&mut pipeline, &api, 300);
    pipeline.until(300, "web is approved with it", |pipeline| {
        pipeline.has(&web, |fact| matches!(fact, Fact::ApprovedWithTrain { .. }))
    });
    pipeline.apply(|policy| {
        let web = environment_of(policy, "prod").targets.get_mut(&name("web")).expect("a target");
        web.strategy.bake = Seconds(45);
    });
    pipeline.expect_verdicts(&api, HOUR, &[Verdict::Succeeded]);
    assert_eq!(pipeline.running(&web).stage(), Stage::Gated);
    approve_when_asked(&mut pipeline, &web, HOUR);
    pipeline.expect_verdicts(&web, HOUR, &[Verdict::Succeeded]);
}

#[test]
fn without_a_deployment_that_asks_for_all_each_asks_by_itself() {
    let mut pipeline = prod_alone();
    let [api, web] = services("prod");
    request_train(&mut pipeline, "prod");
    pipeline.until(300, "people are asked", |pipeline| pipeline.has(&api, was_asked));
    // By hand for this one alone: nobody has approved web.
    let (deployment, _) = pipeline.plan(&api);
    let gates = [rollout::Gate::Approval].into();
    pipeline.ask(&api, Instruction::Override { deployment, gates }, carol(), "ada is asleep");
    approve_when_asked(&mut pipeline, &web, HOUR);
    assert!(!pipeline.has(&web, |fact| matches!(fact, Fact::ApprovedWithTrain { .. })));
    pipeline.expect_verdicts(&web, HOUR, &[Verdict::Succeeded]);
}

#[test]
fn silence_that_counts_as_a_yes_counts_for_the_whole_train() {
    let mut pipeline = prod_alone();
    pipeline.apply(|policy| {
        let approval = environment_of(policy, "prod").entry.approval.as_mut().expect("it has one");
        (approval.default, approval.expires) = (ApprovalDefault::Approve, Seconds(600));
    });
    let [api, web] = services("prod");
    request_train(&mut pipeline, "prod");
    for target in [&api, &web] {
        pipeline.expect_verdicts(target, HOUR, &[Verdict::Succeeded]);
    }
    assert_eq!(pipeline.count(&web, was_asked), 0, "{}", pipeline.journal_texts());
}

#[test]
fn a_train_is_promoted_as_a_whole_with_one_approval() {
    let mut pipeline = dev_and_prod();
    let ([dev_api, dev_web], [api, web]) = (services("dev"), services("prod"));
    request_train(&mut pipeline, "dev");
    pipeline.expect_verdicts(&dev_api, HOUR, &[Verdict::Succeeded]);
    pipeline
        .until(300, "api waits for the rest", |pipeline| pipeline.waiting_gates(&api).contains(&"after".to_owned()));
    assert!(!pipeline.has(&api, was_asked), "nobody is asked before all of it is verified");
    pipeline.expect_verdicts(&dev_web, HOUR, &[Verdict::Succeeded]);
    approve_when_asked(&mut pipeline, &api, 300);
    for target in [&api, &web] {
        pipeline.expect_verdicts(target, HOUR, &[Verdict::Succeeded]);
    }
    assert_eq!(pipeline.count(&api, was_asked) + pipeline.count(&web, was_asked), 1, "{}", pipeline.journal_texts());
    let verified = pipeline.time_of(&api, |fact| matches!(fact, Fact::Verified { .. }));
    let begun = pipeline.time_of(&web, |fact| matches!(fact, Fact::SidesDetermined { .. }));
    assert!(begun >= verified, "api at {verified}, web at {begun}{}", pipeline.journal_texts());
    pipeline.wait_until_idle(HOUR);
    pipeline.assert_no_violation("a promoted train");
}

#[test]
fn a_train_that_fails_in_part_is_not_promoted() {
    let mut pipeline = dev_and_prod();
    let ([dev_api, dev_web], [api, web]) = (services("dev"), services("prod"));
    pipeline.set_image(201, ImageBehaviour::failing(0.5));
    request_train(&mut pipeline, "dev");
    pipeline.expect_verdicts(&dev_web, HOUR, &[Verdict::RolledBack]);
    pipeline.until(HOUR, "api is back in dev", |pipeline| pipeline.state(&dev_api).running.is_none());
    pipeline.until(HOUR, "nothing waits in prod", |pipeline| pipeline.state(&api).running.is_none());
    assert_eq!(pipeline.verdicts(&api), [Verdict::Failed], "{}", pipeline.journal_texts());
    assert_eq!(pipeline.verdicts(&web), [] as [Verdict; 0], "{}", pipeline.journal_texts());
    assert!(!pipeline.has(&api, was_asked), "{}", pipeline.journal_texts());
}
