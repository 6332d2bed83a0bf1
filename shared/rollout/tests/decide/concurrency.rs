//! A newer release while one is deployed: what each rule of an environment makes of it.

use super::scene::{Scene, ask, deploy, policy};
use rollout::policy::{EnvironmentPolicy, Hook, HookAction, HookPoint, Trigger};
use rollout::snapshot::AlarmReading;
use rollout::target::MOST_QUEUED;
use rollout::{Cause, Concurrency, Fact, Instruction, Name, Next, Seconds, Slot, Stage, Verdict};

fn scene(rule: Concurrency) -> Scene {
    let mut scene = Scene::new();
    scene.applied.concurrency = rule;
    scene
}

/// Decides until the running deployment is in this stage.
fn reach(scene: &mut Scene, stage: &str) {
    one_by_one(scene, |scene| scene.stage() == stage);
}

/// Decides until then, and not once more.
fn one_by_one(scene: &mut Scene, stop: impl Fn(&Scene) -> bool) {
    for _ in 0..2000 {
        if stop(scene) {
            return;
        }
        if let Next::At(at) = scene.decide(&[]) {
            scene.now = at;
        }
    }
    panic!("it never comes to that; it is in {}", scene.stage());
}

fn verdicts(scene: &Scene) -> Vec<(u64, Verdict)> {
    let ended = scene.journal.iter().filter_map(|entry| match entry.fact {
        Fact::Ended { verdict, .. } => Some((entry.deployment?, verdict)),
        _ => None,
    });
    ended.collect()
}

fn started(scene: &Scene) -> Vec<String> {
    let tags = scene.journal.iter().filter_map(|entry| match &entry.fact {
        Fact::Started { tag, .. } => Some(tag.clone()),
        _ => None,
    });
    tags.collect()
}

fn gave_way(scene: &Scene) -> Vec<(String, String)> {
    let pairs = scene.journal.iter().filter_map(|entry| match &entry.fact {
        Fact::Superseded { tag, by_tag, .. } => Some((tag.clone(), by_tag.clone())),
        _ => None,
    });
    pairs.collect()
}

fn waiting(scene: &Scene) -> Vec<&str> {
    scene.state.queued.iter().map(|queued| queued.release.tag.as_str()).collect()
}

fn stable(scene: &Scene) -> String {
    scene.state.stable.clone().and_then(|stable| stable.release).map(|release| release.tag).unwrap_or_default()
}

fn turned_back_for(scene: &Scene, newer: &str) -> bool {
    scene.wrote(|fact| matches!(fact, Fact::RollbackStarted { cause: Cause::Superseded { by_tag } } if by_tag == newer))
}

#[test]
fn all_wait_and_are_deployed_in_the_order_asked() {
    let mut scene = scene(Concurrency::QueueAll);
    scene.decide(&[deploy("v2"), deploy("v3")]);
    assert_eq!((scene.stage(), waiting(&scene)), ("preflight", vec!["v3"]));
    reach(&mut scene, "shifting");
    scene.decide(&[deploy("v4")]);
    assert_eq!(waiting(&scene), ["v3", "v4"]);
    scene.until(|_| false);
    assert_eq!(started(&scene), ["v2", "v3", "v4"]);
    assert_eq!(verdicts(&scene), [(1, Verdict::Succeeded), (2, Verdict::Succeeded), (3, Verdict::Succeeded)]);
    assert!(gave_way(&scene).is_empty());
}

#[test]
fn a_bad_release_does_not_keep_those_behind_it_from_their_turn() {
    let mut scene = scene(Concurrency::QueueAll);
    scene.decide(&[deploy("v2"), deploy("v3")]);
    reach(&mut scene, "baking");
    scene.fire();
    scene.decide(&[]);
    scene.alarm(AlarmReading::Ok);
    scene.until(|_| false);
    assert_eq!(verdicts(&scene), [(1, Verdict::RolledBack), (2, Verdict::Succeeded)]);
    assert_eq!(stable(&scene), "v3");
}

#[test]
fn a_queue_is_bounded_and_what_was_stable_here_is_the_last_to_give_way() {
    let mut scene = scene(Concurrency::QueueAll);
    scene.run("v2");
    scene.run("v3");
    let tags: Vec<String> = ('a'..='z').map(|letter| format!("v{letter}")).collect();
    scene.decide(&[deploy("v4")]);
    scene.decide(&[deploy("v2")]);
    for tag in &tags[..MOST_QUEUED] {
        scene.decide(&[deploy(tag)]);
    }
    assert_eq!(scene.state.queued.len(), MOST_QUEUED);
    assert_eq!(waiting(&scene)[0], "v2", "it was stable before v3");
    let newest = tags[MOST_QUEUED - 1].clone();
    assert_eq!(gave_way(&scene), [(tags[0].clone(), newest)], "the oldest of the others gave way");
}

#[test]
fn a_rule_that_changes_meanwhile_holds_for_what_is_asked_from_then_on() {
    let mut scene = scene(Concurrency::QueueAll);
    scene.decide(&[deploy("v2"), deploy("v3"), deploy("v4")]);
    scene.applied.concurrency = Concurrency::QueueNewest;
    scene.decide(&[deploy("v5")]);
    assert_eq!(waiting(&scene), ["v5"]);
    let pair = |tag: &str| (tag.to_owned(), "v5".to_owned());
    assert_eq!(gave_way(&scene), [pair("v3"), pair("v4")]);
}

#[test]
fn the_running_one_turns_back_from_every_stage_before_it_is_verified() {
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
        let plain = hooks.is_empty();
        rules.hooks = hooks;
        let mut scene = Scene::with(rules);
        scene.applied.concurrency = Concurrency::CancelRunning;
        scene.decide(&[deploy("v2")]);
        reach(&mut scene, stage);
        scene.decide(&[deploy("v3")]);
        // What the hook left running is seen stopped.
        let stopped = rollout::snapshot::TaskReading::Stopped { exit_code: Some(1), reason: "stopped".to_owned() };
        scene.snapshot.hook_tasks.insert("check".to_owned(), rollout::Reading::Known(stopped));
        one_by_one(&mut scene, |scene| scene.state.last_deployment == 2);
        assert_eq!(verdicts(&scene), [(1, Verdict::Superseded)], "{stage}: {}", scene.ending());
        assert_eq!(scene.ending(), "replaced by v3");
        assert_eq!(started(&scene), ["v2", "v3"], "{stage}");
        assert_eq!(scene.weights().only(), Some(Slot::Blue), "{stage}: all traffic is back before v3 starts");
        if plain {
            scene.until(|_| false);
            assert_eq!(verdicts(&scene)[1..], [(2, Verdict::Succeeded)], "{stage}: {}", scene.ending());
            assert_eq!(stable(&scene), "v3", "{stage}");
        }
    }
}

#[test]
fn the_newest_of_several_takes_the_place_and_the_others_give_way() {
    let mut scene = scene(Concurrency::CancelRunning);
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().green == 50);
    scene.decide(&[deploy("v3"), deploy("v4")]);
    assert!(turned_back_for(&scene, "v4"));
    scene.decide(&[deploy("v5")]);
    assert_eq!(gave_way(&scene), [("v3".to_owned(), "v4".to_owned()), ("v4".to_owned(), "v5".to_owned())]);
    scene.until(|_| false);
    assert_eq!(verdicts(&scene), [(1, Verdict::Superseded), (2, Verdict::Succeeded)]);
    assert_eq!(stable(&scene), "v5");
}

#[test]
fn what_is_verified_is_finished_and_its_warm_time_ends_early() {
    for stage in ["keeping_warm", "retiring"] {
        let mut rules = policy();
        rules.strategy.keep_warm = Seconds(3600);
        let mut scene = Scene::with(rules);
        scene.applied.concurrency = Concurrency::CancelRunning;
        scene.decide(&[deploy("v2")]);
        reach(&mut scene, stage);
        let asked = scene.now;
        scene.decide(&[deploy("v3")]);
        scene.until(|scene| scene.state.last_deployment == 2);
        assert_eq!(verdicts(&scene), [(1, Verdict::Succeeded)], "{stage}");
        assert_eq!(stable(&scene), "v2", "{stage}");
        assert!(Seconds::between(asked, scene.now) < Seconds(120), "{stage}: it waited until {}", scene.now);
        scene.until(|_| false);
        assert_eq!(stable(&scene), "v3", "{stage}");
    }
}

fn end_of_the_bake(scene: &mut Scene) {
    reach(scene, "baking");
    if let Some(Stage::Baking { until, .. }) = scene.state.running.as_ref().map(|running| &running.stage) {
        scene.now = *until;
    }
}

#[test]
fn a_bake_that_is_over_is_judged_before_the_newer_release_is() {
    let mut scene = scene(Concurrency::CancelRunning);
    scene.decide(&[deploy("v2")]);
    end_of_the_bake(&mut scene);
    scene.decide(&[deploy("v3")]);
    scene.until(|_| false);
    assert_eq!(verdicts(&scene), [(1, Verdict::Succeeded), (2, Verdict::Succeeded)]);
}

#[test]
fn a_bake_that_is_over_without_data_is_not_waited_for() {
    let mut scene = scene(Concurrency::CancelRunning);
    scene.decide(&[deploy("v2")]);
    end_of_the_bake(&mut scene);
    scene.alarm(AlarmReading::NoData);
    scene.decide(&[]);
    assert_eq!(scene.stage(), "baking");
    scene.decide(&[deploy("v3")]);
    assert!(turned_back_for(&scene, "v3"));
}

#[test]
fn a_rollback_is_never_turned_back_for_a_newer_release() {
    let mut scene = scene(Concurrency::CancelRunning);
    scene.run("v2");
    scene.run("v3");
    scene.decide(&[ask(Instruction::Rollback, "r1")]);
    reach(&mut scene, "scaling");
    scene.decide(&[deploy("v4")]);
    scene.until(|scene| scene.state.last_deployment == 4);
    assert_eq!(verdicts(&scene).last(), Some(&(3, Verdict::Succeeded)));
    assert_eq!(stable(&scene), "v2");
    scene.until(|_| false);
    assert_eq!(stable(&scene), "v4");
}

#[test]
fn what_a_person_asks_goes_before_whatever_the_order() {
    for abort_first in [false, true] {
        let mut scene = scene(Concurrency::CancelRunning);
        scene.decide(&[deploy("v2")]);
        scene.until(|scene| scene.weights().green == 50);
        let mut commands = vec![deploy("v3"), ask(Instruction::Abort { deployment: None }, "a1")];
        if abort_first {
            commands.reverse();
        }
        scene.decide(&commands);
        scene.until(|_| false);
        assert_eq!(verdicts(&scene), [(1, Verdict::Cancelled), (2, Verdict::Succeeded)]);
    }
}

#[test]
fn an_alarm_that_fires_is_told_as_what_it_is() {
    let mut scene = scene(Concurrency::CancelRunning);
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().green == 50);
    scene.fire();
    scene.decide(&[deploy("v3")]);
    scene.until(|scene| scene.state.last_deployment == 2);
    assert_eq!(verdicts(&scene), [(1, Verdict::RolledBack)]);
    assert!(scene.ending().contains("api-5xx"), "{}", scene.ending());
}

#[test]
fn a_rule_that_somebody_else_edited_does_not_keep_it_from_turning_back() {
    let mut scene = scene(Concurrency::CancelRunning);
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().green == 10);
    scene.turn();
    scene.edit_rule(70, 30);
    scene.decide(&[deploy("v3")]);
    scene.until(|scene| scene.state.last_deployment == 2);
    assert!(turned_back_for(&scene, "v3"));
    assert_eq!(verdicts(&scene), [(1, Verdict::Superseded)]);
    let replaced = |fact: &Fact| matches!(fact, Fact::ForeignWeightsReplaced { found, .. } if found.contains("70"));
    assert!(scene.wrote(replaced), "{:#?}", scene.journal);
}

#[test]
fn who_asks_for_the_running_one_again_keeps_it() {
    let mut scene = scene(Concurrency::CancelRunning);
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().green == 10);
    scene.decide(&[deploy("v3"), deploy("v2")]);
    assert_eq!(gave_way(&scene), [("v3".to_owned(), "v2".to_owned())]);
    scene.until(|_| false);
    assert_eq!(verdicts(&scene), [(1, Verdict::Succeeded)]);
    assert_eq!(stable(&scene), "v2");
}

#[test]
fn one_at_a_time_refuses_the_newer_one_with_the_reason() {
    let mut scene = scene(Concurrency::Reject);
    scene.decide(&[deploy("v2"), deploy("v3")]);
    let refused = |scene: &Scene, words: &str| {
        scene.wrote(|fact| matches!(fact, Fact::CommandRefused { command, reason } if command == "deploy" && reason.contains(words)))
    };
    assert!(refused(&scene, "v2 is about to be deployed, and prod takes no other release until it is over"));
    reach(&mut scene, "shifting");
    scene.decide(&[deploy("v4")]);
    assert!(refused(&scene, "deployment #1 (v2, shifting) is running"));
    scene.until(|_| false);
    assert_eq!(started(&scene), ["v2"]);
    scene.run("v4");
    assert_eq!(stable(&scene), "v4");
}

#[test]
fn a_policy_of_an_older_writer_queues_the_newest() {
    let environment: EnvironmentPolicy = serde_json::from_str(r#"{"trigger": "push", "targets": {}}"#).unwrap();
    assert_eq!((environment.trigger, environment.concurrency), (Trigger::Push, Concurrency::QueueNewest));
}
