//! Environments that deploy one service at a time: an alarm of a service is not blamed for another one's release.

use crate::pipeline::{HOUR, Pipeline, PipelineBuilder, carol, environment_of, name, target};
use rollout::journal::Fact;
use rollout::{Gate, Instruction, Seconds, Stage, TargetId, Timestamp, Verdict};
use simulation::virtual_time::Faults;
use simulation::world::{ImageBehaviour, Settings};

/// `web` depends on `api`, and both are in one environment.
fn build(one_at_a_time: bool, faults: Faults) -> Pipeline {
    PipelineBuilder::of(&["api/dev", "web/dev"])
        .policy(move |policy| {
            policy.services.get_mut(&name("web")).expect("a service").depends_on = vec![name("api")];
            environment_of(policy, "dev").entry.one_at_a_time = one_at_a_time;
        })
        .build_with(Settings::default(), faults)
}

/// The same, undisturbed; v1 of both is stable.
fn pipeline_with(one_at_a_time: bool) -> Pipeline {
    let mut pipeline = build(one_at_a_time, Faults::default());
    for service in ["api", "web"] {
        pipeline.push(service, 1);
        let target = target(&format!("shop/{service}/dev"));
        pipeline.expect_verdicts(&target, HOUR, &[Verdict::Succeeded]);
    }
    pipeline.wait_until_idle(HOUR);
    pipeline
}

fn pipeline() -> Pipeline {
    pipeline_with(true)
}

fn targets() -> [TargetId; 2] {
    [target("shop/api/dev"), target("shop/web/dev")]
}

/// When the second deployment of a target passed its gates, and when it was verified.
fn span(pipeline: &Pipeline, target: &TargetId) -> (Timestamp, Timestamp) {
    let mut of_second = pipeline.journal(target);
    of_second.retain(|entry| entry.deployment == Some(2));
    let at = |wanted: fn(&Fact) -> bool| of_second.iter().find(|entry| wanted(&entry.fact)).map(|entry| entry.at);
    let began = at(|fact| matches!(fact, Fact::SidesDetermined { .. }));
    let verified = at(|fact| matches!(fact, Fact::Verified { .. }));
    match (began, verified) {
        (Some(began), Some(verified)) => (began, verified),
        other => panic!("{target}: {other:?}{}", pipeline.journal_texts()),
    }
}

#[test]
fn two_pushes_at_once_are_deployed_one_after_the_other() {
    let mut pipeline = pipeline();
    let [api, web] = targets();
    pipeline.push("web", 201);
    pipeline.push("api", 101);
    for target in [&api, &web] {
        pipeline.expect_verdicts(target, HOUR, &[Verdict::Succeeded; 2]);
    }
    let mut spans = [span(&pipeline, &api), span(&pipeline, &web)];
    spans.sort();
    let [(_, first_verified), (second_began, _)] = spans;
    assert!(second_began >= first_verified, "{spans:?}{}", pipeline.journal_texts());
    // The one that waits is woken: it does not wait for its next look.
    let waited = Seconds::between(first_verified, second_began);
    assert!(waited.0 <= 10, "{waited}{}", pipeline.journal_texts());
    let waits = |fact: &Fact| matches!(fact, Fact::BlockedByGate { gate: Gate::OneAtATime, .. });
    assert_eq!(pipeline.count(&api, waits) + pipeline.count(&web, waits), 1, "{}", pipeline.journal_texts());
    pipeline.wait_until_idle(HOUR);
    pipeline.assert_no_violation("two pushes");
}

#[test]
fn without_the_rule_they_are_deployed_at_once() {
    let mut pipeline = pipeline_with(false);
    let [api, web] = targets();
    pipeline.push("web", 201);
    pipeline.push("api", 101);
    for target in [&api, &web] {
        pipeline.expect_verdicts(target, HOUR, &[Verdict::Succeeded; 2]);
    }
    let [(api_began, api_verified), (web_began, web_verified)] = [span(&pipeline, &api), span(&pipeline, &web)];
    assert!(api_began < web_verified && web_began < api_verified, "{}", pipeline.journal_texts());
}

#[test]
fn of_two_that_wait_the_one_that_the_other_depends_on_goes_first() {
    let mut pipeline = PipelineBuilder::of(&["api/dev", "jobs/dev", "web/dev"])
        .policy(|policy| {
            // By name `api` would be looked at first.
            policy.services.get_mut(&name("api")).expect("a service").depends_on = vec![name("web")];
            environment_of(policy, "dev").entry.one_at_a_time = true;
        })
        .build();
    let [api, web] = targets();
    let jobs = target("shop/jobs/dev");
    pipeline.push("jobs", 301);
    pipeline.until(120, "jobs has begun", |pipeline| {
        pipeline.state(&jobs).running.is_some_and(|running| running.stage() != Stage::Gated)
    });
    for (service, number, target) in [("api", 101, &api), ("web", 201, &web)] {
        pipeline.push(service, number);
        pipeline.until(120, "it waits", |pipeline| pipeline.waiting_gates(target) == ["one_at_a_time"]);
    }
    for target in [&jobs, &web, &api] {
        pipeline.expect_verdicts(target, HOUR, &[Verdict::Succeeded]);
    }
    let begun = |target| pipeline.time_of(target, |fact| matches!(fact, Fact::SidesDetermined { .. }));
    let verified = pipeline.time_of(&web, |fact| matches!(fact, Fact::Verified { .. }));
    assert!(begun(&api) >= verified, "api at {}, web verified at {verified}", begun(&api));
    pipeline.wait_until_idle(HOUR);
    pipeline.assert_no_violation("an order");
}

#[test]
fn a_bad_release_of_one_service_leaves_the_other_alone() {
    let mut pipeline = pipeline();
    let [api, web] = targets();
    pipeline.set_image(101, ImageBehaviour::failing(0.5));
    pipeline.push("api", 101);
    pipeline.until(300, "api has begun", |pipeline| {
        pipeline.state(&api).running.is_some_and(|running| running.stage() != Stage::Gated)
    });
    pipeline.push("web", 201);
    pipeline.expect_verdicts(&api, HOUR, &[Verdict::Succeeded, Verdict::RolledBack]);
    pipeline.expect_verdicts(&web, HOUR, &[Verdict::Succeeded; 2]);
    let back = pipeline.time_of(&api, |fact| matches!(fact, Fact::Ended { verdict: Verdict::RolledBack, .. }));
    assert!(span(&pipeline, &web).0 >= back, "{}", pipeline.journal_texts());
    pipeline.wait_until_idle(HOUR);
    pipeline.assert_no_violation("a bad release");
}

#[test]
fn a_rollback_by_hand_begins_while_the_other_service_is_deployed() {
    let mut pipeline = pipeline();
    let [api, web] = targets();
    pipeline.push("api", 101);
    pipeline.expect_verdicts(&api, HOUR, &[Verdict::Succeeded; 2]);
    pipeline.wait_until_idle(HOUR);
    pipeline.push("web", 201);
    pipeline.until(300, "web has traffic", |pipeline| {
        pipeline.state(&web).running.is_some_and(|running| running.stage() == Stage::Shifting)
    });
    pipeline.ask(&api, Instruction::Rollback, carol(), "it is slow");
    pipeline.until(60, "api goes back meanwhile", |pipeline| pipeline.state(&api).running.is_some());
    assert!(pipeline.state(&web).running.is_some());
    pipeline.until(HOUR, "api is on v1", |pipeline| pipeline.stable(&api).as_deref() == Some("v1"));
    pipeline.wait_until_idle(HOUR);
    pipeline.assert_no_violation("a rollback");
}

/// Calls fail, passes are killed, wakes come twice: it is still one at a time, and nothing waits for ever.
#[test]
fn faults_neither_break_the_lock_nor_lose_it() {
    for seed in 0..12 {
        let until = Some(Seconds(1_800).after(Settings::default().start));
        let mut pipeline = build(true, Faults { until, ..Faults::everywhere(seed, 0.05) });
        let [api, web] = targets();
        for round in 1..=3 {
            pipeline.push("web", 200 + round);
            pipeline.push("api", 100 + round);
            pipeline.until(4 * HOUR, "both are done", |pipeline| {
                [&api, &web].into_iter().all(|target| {
                    let state = pipeline.state(target);
                    state.running.is_none() && state.queued.is_empty() && state.last_deployment >= round
                })
            });
        }
        pipeline.wait_until_idle(4 * HOUR);
        pipeline.assert_no_violation(&format!("seed {seed}"));
    }
}
