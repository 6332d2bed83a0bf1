//! A newer release while one is deployed: what each rule of an environment makes of it.

use super::fixture::{TargetFixture, deploy, new_command, policy};
use rollout::policy::{EnvironmentPolicy, Hook, HookAction, HookPoint, Trigger};
use rollout::snapshot::AlarmReading;
use rollout::target::MAX_QUEUED;
use rollout::weighted::ForwardStep;
use rollout::{Cause, Concurrency, Fact, Instruction, Name, Next, Seconds, Slot, Verdict};

fn fixture(rule: Concurrency) -> TargetFixture {
    let mut fixture = TargetFixture::new();
    fixture.applied.concurrency = rule;
    fixture
}

/// Decides until the running deployment is in this stage.
fn decide_until_stage(fixture: &mut TargetFixture, stage: &str) {
    decide_until(fixture, |fixture| fixture.stage() == stage);
}

/// Decides until then, and not once more.
fn decide_until(fixture: &mut TargetFixture, stop: impl Fn(&TargetFixture) -> bool) {
    for _ in 0..2000 {
        if stop(fixture) {
            return;
        }
        if let Next::At(at) = fixture.decide(&[]) {
            fixture.now = at;
        }
    }
    panic!("it never comes to that; it is in {}", fixture.stage());
}

fn verdicts(fixture: &TargetFixture) -> Vec<(u64, Verdict)> {
    let ended = fixture.journal.iter().filter_map(|entry| match entry.fact {
        Fact::Ended { verdict, .. } => Some((entry.deployment?, verdict)),
        _ => None,
    });
    ended.collect()
}

fn started_tags(fixture: &TargetFixture) -> Vec<String> {
    let tags = fixture.journal.iter().filter_map(|entry| match &entry.fact {
        Fact::Started { tag, .. } => Some(tag.clone()),
        _ => None,
    });
    tags.collect()
}

fn superseded_tags(fixture: &TargetFixture) -> Vec<(String, String)> {
    let pairs = fixture.journal.iter().filter_map(|entry| match &entry.fact {
        Fact::Superseded { tag, by_tag, .. } => Some((tag.clone(), by_tag.clone())),
        _ => None,
    });
    pairs.collect()
}

fn queued_tags(fixture: &TargetFixture) -> Vec<&str> {
    fixture.state.queued.iter().map(|queued| queued.release.tag.as_str()).collect()
}

fn stable(fixture: &TargetFixture) -> String {
    fixture.state.stable.clone().and_then(|stable| stable.release).map(|release| release.tag).unwrap_or_default()
}

fn rolled_back_for(fixture: &TargetFixture, newer: &str) -> bool {
    fixture.journal_has(
        |fact| matches!(fact, Fact::RollbackStarted { cause: Cause::Superseded { by_tag } } if by_tag == newer),
    )
}

#[test]
fn queue_all_deploys_in_request_order() {
    let mut fixture = fixture(Concurrency::QueueAll);
    fixture.decide(&[deploy("v2"), deploy("v3")]);
    assert_eq!((fixture.stage(), queued_tags(&fixture)), ("preflight", vec!["v3"]));
    decide_until_stage(&mut fixture, "shifting");
    fixture.decide(&[deploy("v4")]);
    assert_eq!(queued_tags(&fixture), ["v3", "v4"]);
    fixture.run_until(|_| false);
    assert_eq!(started_tags(&fixture), ["v2", "v3", "v4"]);
    assert_eq!(verdicts(&fixture), [(1, Verdict::Succeeded), (2, Verdict::Succeeded), (3, Verdict::Succeeded)]);
    assert!(superseded_tags(&fixture).is_empty());
}

#[test]
fn a_failed_release_does_not_block_the_queue() {
    let mut fixture = fixture(Concurrency::QueueAll);
    fixture.decide(&[deploy("v2"), deploy("v3")]);
    decide_until_stage(&mut fixture, "baking");
    fixture.fire_alarm();
    fixture.decide(&[]);
    fixture.alarm(AlarmReading::Ok);
    fixture.run_until(|_| false);
    assert_eq!(verdicts(&fixture), [(1, Verdict::RolledBack), (2, Verdict::Succeeded)]);
    assert_eq!(stable(&fixture), "v3");
}

#[test]
fn a_full_queue_evicts_previously_stable_releases_last() {
    let mut fixture = fixture(Concurrency::QueueAll);
    fixture.run("v2");
    fixture.run("v3");
    let tags: Vec<String> = ('a'..='z').map(|letter| format!("v{letter}")).collect();
    fixture.decide(&[deploy("v4")]);
    fixture.decide(&[deploy("v2")]);
    for tag in &tags[..MAX_QUEUED] {
        fixture.decide(&[deploy(tag)]);
    }
    assert_eq!(fixture.state.queued.len(), MAX_QUEUED);
    assert_eq!(queued_tags(&fixture)[0], "v2", "it was stable before v3");
    let newest = tags[MAX_QUEUED - 1].clone();
    assert_eq!(superseded_tags(&fixture), [(tags[0].clone(), newest)], "the oldest of the others gave way");
}

#[test]
fn a_changed_concurrency_rule_applies_from_the_next_request() {
    let mut fixture = fixture(Concurrency::QueueAll);
    fixture.decide(&[deploy("v2"), deploy("v3"), deploy("v4")]);
    fixture.applied.concurrency = Concurrency::QueueNewest;
    fixture.decide(&[deploy("v5")]);
    assert_eq!(queued_tags(&fixture), ["v5"]);
    let pair = |tag: &str| (tag.to_owned(), "v5".to_owned());
    assert_eq!(superseded_tags(&fixture), [pair("v3"), pair("v4")]);
}

#[test]
fn cancel_running_rolls_back_from_every_unverified_stage() {
    let task = HookAction::Task { container: "api".to_owned(), command: vec![] };
    let lambda = HookAction::Lambda { function: "check".to_owned() };
    let hook = |at, run: &HookAction| {
        vec![Hook {
            name: Name::new("check").unwrap(),
            at,
            run: run.clone(),
            deadline: Seconds(120),
            forward_only: false,
        }]
    };
    for (stage, hooks) in [
        ("preflight", vec![]),
        ("registering", vec![]),
        ("before_traffic", hook(HookPoint::BeforeTraffic, &task)),
        ("scaling", vec![]),
        ("testing", hook(HookPoint::TestTraffic, &lambda)),
        ("shifting", vec![]),
        ("after_traffic", hook(HookPoint::AfterTraffic, &lambda)),
        ("baking", vec![]),
    ] {
        let mut rules = policy();
        let without_hooks = hooks.is_empty();
        rules.hooks = hooks;
        let mut fixture = TargetFixture::with(rules);
        fixture.applied.concurrency = Concurrency::CancelRunning;
        fixture.decide(&[deploy("v2")]);
        decide_until_stage(&mut fixture, stage);
        fixture.decide(&[deploy("v3")]);
        // What the hook left running is seen stopped.
        let stopped = rollout::snapshot::TaskReading::Stopped { exit_code: Some(1), reason: "stopped".to_owned() };
        fixture.snapshot.hook_tasks.insert("check".to_owned(), rollout::Reading::Known(stopped));
        decide_until(&mut fixture, |fixture| fixture.state.last_deployment == 2);
        assert_eq!(verdicts(&fixture), [(1, Verdict::Superseded)], "{stage}: {}", fixture.end_reason());
        assert_eq!(fixture.end_reason(), "replaced by v3");
        assert_eq!(started_tags(&fixture), ["v2", "v3"], "{stage}");
        assert_eq!(fixture.weights().sole_side(), Some(Slot::Blue), "{stage}: all traffic is back before v3 starts");
        if without_hooks {
            fixture.run_until(|_| false);
            assert_eq!(verdicts(&fixture)[1..], [(2, Verdict::Succeeded)], "{stage}: {}", fixture.end_reason());
            assert_eq!(stable(&fixture), "v3", "{stage}");
        }
    }
}

#[test]
fn cancel_running_deploys_only_the_newest_of_several() {
    let mut fixture = fixture(Concurrency::CancelRunning);
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().green == 50);
    fixture.decide(&[deploy("v3"), deploy("v4")]);
    assert!(rolled_back_for(&fixture, "v4"));
    fixture.decide(&[deploy("v5")]);
    assert_eq!(superseded_tags(&fixture), [("v3".to_owned(), "v4".to_owned()), ("v4".to_owned(), "v5".to_owned())]);
    fixture.run_until(|_| false);
    assert_eq!(verdicts(&fixture), [(1, Verdict::Superseded), (2, Verdict::Succeeded)]);
    assert_eq!(stable(&fixture), "v5");
}

#[test]
fn a_verified_release_finishes_and_keep_warm_ends_early() {
    for stage in ["keeping_warm", "retiring"] {
        let mut rules = policy();
        rules.strategy.keep_warm = Seconds(3600);
        let mut fixture = TargetFixture::with(rules);
        fixture.applied.concurrency = Concurrency::CancelRunning;
        fixture.decide(&[deploy("v2")]);
        decide_until_stage(&mut fixture, stage);
        let requested_at = fixture.now;
        fixture.decide(&[deploy("v3")]);
        fixture.run_until(|fixture| fixture.state.last_deployment == 2);
        assert_eq!(verdicts(&fixture), [(1, Verdict::Succeeded)], "{stage}");
        assert_eq!(stable(&fixture), "v2", "{stage}");
        assert!(Seconds::between(requested_at, fixture.now) < Seconds(120), "{stage}: it waited until {}", fixture.now);
        fixture.run_until(|_| false);
        assert_eq!(stable(&fixture), "v3", "{stage}");
    }
}

fn advance_to_bake_end(fixture: &mut TargetFixture) {
    decide_until_stage(fixture, "baking");
    let forward = fixture.state.running.as_ref().and_then(|running| running.forward());
    if let Some(ForwardStep::Baking { until, .. }) = forward.map(|forward| &forward.step) {
        fixture.now = *until;
    }
}

#[test]
fn a_completed_bake_succeeds_before_a_newer_release_starts() {
    let mut fixture = fixture(Concurrency::CancelRunning);
    fixture.decide(&[deploy("v2")]);
    advance_to_bake_end(&mut fixture);
    fixture.decide(&[deploy("v3")]);
    fixture.run_until(|_| false);
    assert_eq!(verdicts(&fixture), [(1, Verdict::Succeeded), (2, Verdict::Succeeded)]);
}

#[test]
fn a_newer_release_cancels_a_completed_bake_without_data() {
    let mut fixture = fixture(Concurrency::CancelRunning);
    fixture.decide(&[deploy("v2")]);
    advance_to_bake_end(&mut fixture);
    fixture.alarm(AlarmReading::NoData);
    fixture.decide(&[]);
    assert_eq!(fixture.stage(), "baking");
    fixture.decide(&[deploy("v3")]);
    assert!(rolled_back_for(&fixture, "v3"));
}

#[test]
fn a_requested_rollback_is_not_cancelled_for_a_newer_release() {
    let mut fixture = fixture(Concurrency::CancelRunning);
    fixture.run("v2");
    fixture.run("v3");
    fixture.decide(&[new_command(Instruction::Rollback, "r1")]);
    decide_until_stage(&mut fixture, "scaling");
    fixture.decide(&[deploy("v4")]);
    fixture.run_until(|fixture| fixture.state.last_deployment == 4);
    assert_eq!(verdicts(&fixture).last(), Some(&(3, Verdict::Succeeded)));
    assert_eq!(stable(&fixture), "v2");
    fixture.run_until(|_| false);
    assert_eq!(stable(&fixture), "v4");
}

#[test]
fn an_abort_takes_precedence_over_a_newer_release() {
    for abort_first in [false, true] {
        let mut fixture = fixture(Concurrency::CancelRunning);
        fixture.decide(&[deploy("v2")]);
        fixture.run_until(|fixture| fixture.weights().green == 50);
        let mut commands = vec![deploy("v3"), new_command(Instruction::Abort { deployment: None }, "a1")];
        if abort_first {
            commands.reverse();
        }
        fixture.decide(&commands);
        fixture.run_until(|_| false);
        assert_eq!(verdicts(&fixture), [(1, Verdict::Cancelled), (2, Verdict::Succeeded)]);
    }
}

#[test]
fn a_firing_alarm_takes_precedence_over_a_newer_release() {
    let mut fixture = fixture(Concurrency::CancelRunning);
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().green == 50);
    fixture.fire_alarm();
    fixture.decide(&[deploy("v3")]);
    fixture.run_until(|fixture| fixture.state.last_deployment == 2);
    assert_eq!(verdicts(&fixture), [(1, Verdict::RolledBack)]);
    assert!(fixture.end_reason().contains("api-5xx"), "{}", fixture.end_reason());
}

#[test]
fn a_foreign_edit_does_not_block_cancel_running() {
    let mut fixture = fixture(Concurrency::CancelRunning);
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().green == 10);
    fixture.advance();
    fixture.edit_rule(70, 30);
    fixture.decide(&[deploy("v3")]);
    fixture.run_until(|fixture| fixture.state.last_deployment == 2);
    assert!(rolled_back_for(&fixture, "v3"));
    assert_eq!(verdicts(&fixture), [(1, Verdict::Superseded)]);
    let replaced = |fact: &Fact| matches!(fact, Fact::ForeignWeightsReplaced { found, .. } if found.contains("70"));
    assert!(fixture.journal_has(replaced), "{:#?}", fixture.journal);
}

#[test]
fn requesting_the_running_release_again_keeps_it() {
    let mut fixture = fixture(Concurrency::CancelRunning);
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().green == 10);
    fixture.decide(&[deploy("v3"), deploy("v2")]);
    assert_eq!(superseded_tags(&fixture), [("v3".to_owned(), "v2".to_owned())]);
    fixture.run_until(|_| false);
    assert_eq!(verdicts(&fixture), [(1, Verdict::Succeeded)]);
    assert_eq!(stable(&fixture), "v2");
}

#[test]
fn reject_refuses_a_newer_release_with_the_reason() {
    let mut fixture = fixture(Concurrency::Reject);
    fixture.decide(&[deploy("v2"), deploy("v3")]);
    let refused = |fixture: &TargetFixture, expected: &str| {
        fixture.journal_has(|fact| matches!(fact, Fact::CommandRefused { command, reason } if command == "deploy" && reason.to_string().contains(expected)))
    };
    assert!(refused(&fixture, "v2 is about to be deployed, and prod takes no other release until it is over"));
    decide_until_stage(&mut fixture, "shifting");
    fixture.decide(&[deploy("v4")]);
    assert!(refused(&fixture, "deployment #1 (v2, shifting) is running"));
    fixture.run_until(|_| false);
    assert_eq!(started_tags(&fixture), ["v2"]);
    fixture.run("v4");
    assert_eq!(stable(&fixture), "v4");
}

#[test]
fn a_policy_without_concurrency_defaults_to_queue_newest() {
    let environment: EnvironmentPolicy = serde_json::from_str(r#"{"trigger": "push", "targets": {}}"#).unwrap();
    assert_eq!((environment.trigger, environment.concurrency), (Trigger::Push, Concurrency::QueueNewest));
}
