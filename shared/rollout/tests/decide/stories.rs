use super::scene::{Scene, ask, deploy, deploy_despite, policy};
use rollout::policy::{Hook, HookAction, HookPoint, MissingData};
use rollout::snapshot::{AlarmReading, Autoscaling, FailedStart, TaskReading, Weights};
use rollout::stage::{RollbackPhase, Stage};
use rollout::{Effect, Fact, Instruction, Name, Next, Percent, Reading, Seconds, Slot, Verdict};

fn weights_written(scene: &Scene) -> Vec<(u16, u16)> {
    let weights = |effect: &Effect| match effect {
        Effect::SetWeights { weights, .. } => Some((weights.blue, weights.green)),
        _ => None,
    };
    scene.effects.iter().filter_map(weights).collect()
}

#[test]
fn a_good_release_takes_over_step_by_step_and_the_old_side_goes() {
    let mut scene = Scene::new();
    scene.run("v2");
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
    assert_eq!(weights_written(&scene), [(90, 10), (50, 50), (0, 100)]);
    assert_eq!(scene.side(Slot::Green).running, 4, "green took over blue's running count");
    assert_eq!(scene.side(Slot::Blue).running, 0, "blue is retired");
    let stable = scene.state.stable.clone().unwrap();
    assert_eq!((stable.slot, stable.release.unwrap().tag), (Slot::Green, "v2".to_owned()));
    assert!(scene.state.running.is_none());
}

#[test]
fn the_next_release_goes_to_the_side_that_is_idle_now() {
    let mut scene = Scene::new();
    scene.run("v2");
    scene.effects.clear();
    scene.run("v3");
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
    assert_eq!(weights_written(&scene), [(10, 90), (50, 50), (100, 0)]);
}

#[test]
fn an_alarm_switches_back_in_the_decision_that_sees_it() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights() == Weights { blue: 50, green: 50 });
    scene.fire();
    scene.effects.clear();
    scene.decide(&[]);
    let back = Effect::SetWeights { weights: Weights { blue: 100, green: 0 }, seen: vec![] };
    assert_eq!(scene.effects, [back], "the weights first, and nothing else before they are back");
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::RolledBack));
    assert!(scene.ending().contains("api-5xx"), "{}", scene.ending());
    assert_eq!(scene.side(Slot::Green).running, 0);
    assert_eq!(scene.side(Slot::Blue).running, 4);
}

#[test]
fn an_alarm_in_the_bake_and_in_the_warm_time_switches_back_too() {
    for stage in ["baking", "keeping_warm"] {
        let mut scene = Scene::new();
        scene.decide(&[deploy("v2")]);
        scene.until(|scene| scene.stage() == stage);
        scene.fire();
        scene.until(|_| false);
        assert_eq!(scene.verdict(), Some(Verdict::RolledBack), "in {stage}: {}", scene.ending());
        assert_eq!(scene.weights(), Weights { blue: 100, green: 0 });
    }
}

#[test]
fn an_alarm_that_fires_at_the_start_blocks_and_says_so_until_the_deadline() {
    let mut scene = Scene::new();
    scene.fire();
    scene.run("v2");
    assert_eq!(scene.verdict(), Some(Verdict::Failed));
    assert!(scene.ending().contains("api-5xx is firing already"), "{}", scene.ending());
    assert!(scene.effects.is_empty(), "nothing was touched: {:?}", scene.effects);
}

#[test]
fn an_alarm_that_fires_at_the_start_can_be_taken_upon_oneself_once() {
    let mut scene = Scene::new();
    scene.fire();
    scene.decide(&[deploy_despite("v2", &["api-5xx"])]);
    scene.until(|scene| scene.stage() == "shifting");
    assert_eq!(scene.stage(), "shifting", "the override lets it through");
    scene.alarm(AlarmReading::Ok);
    scene.turn();
    scene.fire();
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::RolledBack), "once it was OK it is judged like any other");
}

#[test]
fn silence_is_not_health() {
    let mut scene = Scene::new();
    scene.alarm(AlarmReading::NoData);
    scene.run("v2");
    assert!(weights_written(&scene).iter().all(|(_, green)| *green == 0), "{:?}", weights_written(&scene));
    assert_eq!(scene.verdict(), Some(Verdict::Failed));
    assert!(scene.ending().contains("silence is not health"), "{}", scene.ending());
}

#[test]
fn silence_is_health_or_failure_where_the_policy_says_so() {
    for (missing, verdict) in [(MissingData::Healthy, Verdict::Succeeded), (MissingData::Unhealthy, Verdict::Failed)] {
        let mut rules = policy();
        rules.alarms[0].missing = missing;
        let mut scene = Scene::with(rules);
        scene.alarm(AlarmReading::NoData);
        scene.run("v2");
        assert_eq!(scene.verdict(), Some(verdict), "{missing:?}: {}", scene.ending());
    }
}

#[test]
fn tasks_that_never_become_healthy_never_get_traffic() {
    let mut scene = Scene::new();
    scene.sick_candidates = true;
    scene.run("v2");
    assert_eq!(scene.verdict(), Some(Verdict::Failed), "no traffic had moved");
    assert!(weights_written(&scene).is_empty());
    assert_eq!(scene.side(Slot::Green).running, 0, "the candidate is taken down again");
}

#[test]
fn a_crash_at_start_ends_the_attempt_early_with_the_reason_of_ecs() {
    let mut scene = Scene::new();
    scene.sick_candidates = true;
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.stage() == "scaling");
    let at = scene.now;
    let failed =
        FailedStart { task: "t".to_owned(), reason: "Essential container in task exited (exit code 1)".to_owned(), at };
    scene.side(Slot::Green).failed_starts = vec![failed.clone(), failed];
    scene.until(|_| false);
    assert!(scene.ending().contains("exit code 1"), "{}", scene.ending());
    assert!(Seconds::between(at, scene.now) < Seconds(60), "ended at {} although it began at {at}", scene.now);
}

#[test]
fn what_ecs_has_given_up_is_not_waited_for() {
    let mut scene = Scene::new();
    scene.sick_candidates = true;
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.stage() == "scaling");
    let began = scene.now;
    scene.side(Slot::Green).gave_up = Some("tasks failed to start.".to_owned());
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Failed));
    assert!(scene.ending().contains("ECS gave up: tasks failed to start."), "{}", scene.ending());
    assert!(Seconds::between(began, scene.now) < policy().deadlines.healthy, "not until the deadline");
}

#[test]
fn a_foreign_edit_halts_and_is_never_overwritten() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().green == 10);
    scene.turn();
    scene.edit_rule(70, 30);
    let written = weights_written(&scene).len();
    scene.turn();
    assert!(scene.wrote(|fact| matches!(fact, Fact::Halted { .. })));
    scene.edit_rule(90, 10);
    scene.turn();
    assert!(scene.wrote(|fact| matches!(fact, Fact::Resumed)), "put back, it goes on");
    scene.edit_rule(70, 30);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Failed));
    assert_eq!(weights_written(&scene).len(), written, "not one weight was written over the other hand's");
    assert_eq!(scene.weights(), Weights { blue: 70, green: 30 });
    assert_eq!((scene.side(Slot::Blue).running, scene.side(Slot::Green).running), (4, 4), "both sides are left up");
}

#[test]
fn a_rule_that_was_put_back_by_hand_is_followed() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().green == 50);
    scene.turn();
    scene.edit_rule(1, 0);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::RolledBack));
    assert_eq!(scene.side(Slot::Green).running, 0);
}

#[test]
fn after_letting_go_a_person_can_ask_for_everything_back_on_the_stable_side() {
    let mut scene = Scene::new();
    scene.run("v2");
    scene.decide(&[deploy("v3")]);
    scene.until(|scene| scene.weights().blue == 10);
    scene.turn();
    scene.edit_rule(30, 70);
    scene.until(|_| false);
    assert!(scene.state.drift().is_some());
    scene.decide(&[ask(Instruction::Rollback, "r1")]);
    scene.until(|_| false);
    assert_eq!(scene.weights(), Weights { blue: 0, green: 100 }, "v2's side has everything again");
    assert!(scene.state.drift().is_none());
}

#[test]
fn what_cannot_be_read_blocks_the_start_and_is_told_once() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    for _ in 0..3 {
        scene.rules_are_hidden = true;
        scene.turn();
        scene.rules_are_hidden = false;
        let alarms = std::mem::replace(&mut scene.snapshot.alarms, Reading::Unknown("throttled".to_owned()));
        scene.turn();
        scene.snapshot.alarms = alarms;
    }
    let blocked = scene.journal.iter().filter(|entry| matches!(entry.fact, Fact::Blocked { .. }));
    assert_eq!(blocked.count(), 1, "{:#?}", scene.journal);
    assert!(scene.effects.is_empty(), "nothing was touched: {:?}", scene.effects);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
}

#[test]
fn split_weights_block_the_start_for_half_a_day() {
    let mut scene = Scene::new();
    scene.edit_rule(50, 50);
    let began = scene.now;
    scene.run("v2");
    assert_eq!(scene.verdict(), Some(Verdict::Failed));
    assert!(scene.ending().contains("no side is the stable one"), "{}", scene.ending());
    assert!(scene.now >= Seconds(12 * 3600).after(began), "a person has time to put the rule right");
}

#[test]
fn a_newer_push_waits_and_the_newest_wins() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.stage() == "shifting");
    scene.decide(&[deploy("v3"), deploy("v4")]);
    assert!(scene.wrote(|fact| matches!(fact, Fact::Superseded { tag, by_tag, .. } if tag == "v3" && by_tag == "v4")));
    scene.until(|scene| scene.state.running.is_none());
    scene.until(|_| false);
    let stable = scene.state.stable.clone().unwrap().release.unwrap();
    assert_eq!(stable.tag, "v4");
    let verdicts =
        scene.journal.iter().filter(|entry| matches!(entry.fact, Fact::Ended { verdict: Verdict::Succeeded, .. }));
    assert_eq!(verdicts.count(), 2, "v2 went through whole, then v4");
}

#[test]
fn the_same_release_twice_is_one_deployment() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    scene.decide(&[deploy("v2")]);
    scene.until(|_| false);
    scene.decide(&[deploy("v2")]);
    assert_eq!(scene.state.last_deployment, 1);
    assert!(scene.wrote(
        |fact| matches!(fact, Fact::CommandRefused { reason, .. } if reason.contains("stable release already"))
    ));
}

#[test]
fn an_abort_before_anything_was_touched_ends_at_once() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    scene.decide(&[ask(Instruction::Abort { deployment: None }, "a1")]);
    assert_eq!(scene.verdict(), Some(Verdict::Cancelled));
    assert!(scene.effects.is_empty());
}

#[test]
fn an_abort_in_mid_shift_gives_everything_back() {
    let mut scene = Scene::new();
    scene.autoscale(Slot::Blue, 2, 8);
    scene.autoscale(Slot::Green, 0, 8);
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().green == 50);
    let lent = scene.side(Slot::Blue).autoscaling.unwrap();
    assert!(
        lent.scale_in_suspended && lent.scheduled_suspended,
        "the stable side is not scaled in meanwhile: {lent:?}"
    );
    scene.decide(&[ask(Instruction::Abort { deployment: Some(1) }, "a1")]);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Cancelled));
    assert_eq!(scene.weights(), Weights { blue: 100, green: 0 });
    let limits = |min| Some(Autoscaling { min, max: 8, scale_in_suspended: false, scheduled_suspended: false });
    assert_eq!((scene.side(Slot::Blue).autoscaling, scene.side(Slot::Green).autoscaling), (limits(2), limits(0)));
}

#[test]
fn autoscaling_limits_go_with_the_role() {
    let mut scene = Scene::new();
    scene.autoscale(Slot::Blue, 2, 8);
    scene.autoscale(Slot::Green, 0, 6);
    scene.run("v2");
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
    let limits = |min, max| Some(Autoscaling { min, max, scale_in_suspended: false, scheduled_suspended: false });
    assert_eq!(scene.side(Slot::Green).autoscaling, limits(2, 8), "green serves now");
    assert_eq!(scene.side(Slot::Blue).autoscaling, limits(0, 6), "blue is idle now");
    assert_eq!(scene.side(Slot::Blue).running, 0);
}

#[test]
fn autoscaling_comes_back_with_just_what_was_suspended() {
    for (scale_in_suspended, scheduled_suspended) in [(false, true), (true, false), (true, true)] {
        let found = |min| Some(Autoscaling { min, max: 8, scale_in_suspended, scheduled_suspended });
        let mut scene = Scene::new();
        scene.side(Slot::Blue).autoscaling = found(2);
        scene.side(Slot::Green).autoscaling = found(0);
        scene.decide(&[deploy("v2")]);
        scene.until(|scene| scene.weights().green == 50);
        for slot in [Slot::Blue, Slot::Green] {
            let lent = scene.side(slot).autoscaling.unwrap();
            assert!(lent.scale_in_suspended && lent.scheduled_suspended, "{slot}: {lent:?}");
        }
        scene.fire();
        scene.until(|_| false);
        assert_eq!(scene.verdict(), Some(Verdict::RolledBack), "{}", scene.ending());
        assert_eq!((scene.side(Slot::Blue).autoscaling, scene.side(Slot::Green).autoscaling), (found(2), found(0)));

        scene.alarm(AlarmReading::Ok);
        scene.run("v3");
        assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
        assert_eq!((scene.side(Slot::Blue).autoscaling, scene.side(Slot::Green).autoscaling), (found(0), found(2)));
    }
}

#[test]
fn what_an_older_writer_borrowed_is_given_back() {
    // Its one flag stood for both switches.
    for suspended in [false, true] {
        let found = Autoscaling { min: 2, max: 8, scale_in_suspended: suspended, scheduled_suspended: suspended };
        let mut scene = Scene::new();
        scene.side(Slot::Blue).autoscaling = Some(found);
        scene.decide(&[deploy("v2")]);
        scene.until(|scene| scene.weights().green == 50);
        let mut stored = serde_json::to_value(&scene.state).unwrap();
        stored["running"]["borrowed"] =
            serde_json::json!({"blue": {"min": 2, "max": 8, "scale_in_suspended": suspended}});
        scene.state = serde_json::from_value(stored).unwrap();
        scene.fire();
        scene.until(|_| false);
        assert_eq!(scene.verdict(), Some(Verdict::RolledBack), "{}", scene.ending());
        assert_eq!(scene.side(Slot::Blue).autoscaling, Some(found));
    }
}

#[test]
fn a_stable_side_that_was_seen_ill_is_not_taken_for_well_because_it_cannot_be_read() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().green == 50);
    scene.side(Slot::Blue).targets.healthy = 0;
    scene.fire();
    scene.turn();
    assert!(scene.wrote(|fact| matches!(fact, Fact::WayBackUnfit { .. })));
    let written = weights_written(&scene).len();
    let (blue, green) = (scene.snapshot.blue.clone(), scene.snapshot.green.clone());
    let unread = || Reading::Unknown("throttled".to_owned());
    scene.snapshot.blue = unread();
    scene.turn();
    assert_eq!(weights_written(&scene).len(), written, "nobody has seen it well since");
    // Nor while the other side cannot be read, which may be the one that serves.
    (scene.snapshot.blue, scene.snapshot.green) = (blue, unread());
    scene.turn();
    assert_eq!(weights_written(&scene).len(), written, "nothing of it is healthy");
    scene.snapshot.green = green;
    scene.side(Slot::Blue).targets.healthy = 4;
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::RolledBack), "{}", scene.ending());
}

#[test]
fn a_rollback_waits_for_a_stable_side_that_can_serve() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().green == 50);
    let healthy = scene.side(Slot::Blue).targets;
    scene.side(Slot::Blue).targets.healthy = 0;
    scene.side(Slot::Blue).targets.unhealthy = 4;
    let written = weights_written(&scene).len();
    scene.fire();
    scene.turn();
    assert_eq!(weights_written(&scene).len(), written, "never onto a side without a healthy target");
    assert!(scene.wrote(|fact| matches!(fact, Fact::WayBackUnfit { .. })));
    scene.side(Slot::Blue).targets = healthy;
    scene.until(|_| false);
    assert_eq!(scene.weights(), Weights { blue: 100, green: 0 });
    assert_eq!(scene.verdict(), Some(Verdict::RolledBack));
}

#[test]
fn nothing_is_taken_down_while_it_cannot_be_read_who_has_the_traffic() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().green == 50);
    scene.fire();
    let drained = |scene: &Scene| match scene.state.running.as_ref().map(|running| &running.stage) {
        Some(Stage::RollingBack { phase: RollbackPhase::Draining { until }, .. }) => Some(*until),
        _ => None,
    };
    scene.until(|scene| drained(scene).is_some());
    let until = drained(&scene).expect("it drains");
    scene.rules_are_hidden = true;
    for _ in 0..50 {
        scene.turn();
    }
    assert!(scene.now > until, "its nodes have had their time");
    assert_eq!(scene.side(Slot::Green).running, 4, "who has the traffic now is not known");
    scene.rules_are_hidden = false;
    scene.until(|_| false);
    assert_eq!((scene.verdict(), scene.side(Slot::Green).running), (Some(Verdict::RolledBack), 0));
}

#[test]
fn a_step_counts_when_it_was_seen_live_and_not_when_it_was_written() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    scene.rules_are_stuck = true;
    scene.until(|_| false);
    assert_ne!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
    let claimed = |fact: &Fact| matches!(fact, Fact::WeightsVerified { weights } if weights.green > 0);
    assert!(!scene.wrote(claimed), "no rule ever had it: {:#?}", scene.journal);
}

#[test]
fn a_rollback_whose_weights_cannot_be_written_ends_and_tells_the_truth() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().green == 50);
    scene.rules_are_stuck = true;
    scene.fire();
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Failed));
    assert_eq!((scene.side(Slot::Blue).running, scene.side(Slot::Green).running), (4, 4), "both sides still serve");
    assert!(scene.ending().contains("rate exceeded"), "{}", scene.ending());
    assert!(scene.state.drift().is_some());
}

#[test]
fn the_release_before_comes_back_when_asked_without_hooks_and_alarms() {
    let mut scene = Scene::new();
    scene.run("v2");
    scene.run("v3");
    scene.effects.clear();
    scene.fire();
    scene.decide(&[ask(Instruction::Rollback, "r1")]);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
    assert_eq!(scene.state.stable.clone().unwrap().release.unwrap().tag, "v2");
    assert_eq!(weights_written(&scene), [(0, 100)], "in one step");
    let registers = scene.effects.iter().filter(|effect| matches!(effect, Effect::RegisterTaskDefinition { .. }));
    assert_eq!(registers.count(), 0, "with the task definition that it had");
}

#[test]
fn past_its_way_back_an_abort_is_refused_with_the_reason() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.stage() == "retiring");
    while scene.state.running.as_ref().unwrap().way_back().is_some() {
        if let Next::At(at) = scene.decide(&[]) {
            scene.now = at;
        }
    }
    scene.decide(&[ask(Instruction::Abort { deployment: None }, "a1")]);
    assert!(
        scene.wrote(|fact| matches!(fact, Fact::CommandRefused { reason, .. } if reason.contains("past its way back")))
    );
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded));
}

fn hooked(at: HookPoint, run: HookAction) -> Scene {
    let mut rules = policy();
    rules.hooks =
        vec![Hook { name: Name::new("check").unwrap(), at, run, deadline: Seconds(120), forward_only: false }];
    Scene::with(rules)
}

#[test]
fn a_migration_that_fails_stops_before_any_task_starts() {
    let task = HookAction::Task { container: "api".to_owned(), command: vec!["./migrate".to_owned()] };
    let mut scene = hooked(HookPoint::BeforeTraffic, task);
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.effects.iter().any(|effect| matches!(effect, Effect::StartTask { .. })));
    let stopped = TaskReading::Stopped { exit_code: Some(3), reason: "Essential container in task exited".to_owned() };
    scene.snapshot.hook_tasks.insert("check".to_owned(), Reading::Known(stopped));
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Failed));
    assert!(scene.ending().contains("exit code 3"), "{}", scene.ending());
    assert!(!scene.effects.iter().any(|effect| matches!(effect, Effect::UpdateService { .. })));
}

#[test]
fn a_hook_that_never_answers_has_said_no_at_its_deadline() {
    for at in [HookPoint::TestTraffic, HookPoint::AfterTraffic] {
        let mut scene = hooked(at, HookAction::Lambda { function: "check".to_owned() });
        scene.run("v2");
        assert!(scene.ending().contains("did not answer within 2m"), "{at:?}: {}", scene.ending());
        assert_eq!(scene.weights().only(), Some(Slot::Blue));
    }
}

#[test]
fn the_test_rule_shows_the_candidate_first_and_is_put_back_by_a_rollback() {
    let mut rules = policy();
    rules.pair.test_rule = Some("listener/app/shop/9/9".to_owned());
    let mut scene = Scene::with(rules);
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.stage() == "shifting");
    let test = |scene: &Scene| scene.snapshot.test_rule.as_ref().and_then(|rule| rule.known()).unwrap().weights;
    assert_eq!(test(&scene), Weights { blue: 0, green: 100 });
    scene.fire();
    scene.until(|_| false);
    assert_eq!(test(&scene).only(), Some(Slot::Blue));
}

#[test]
fn a_candidate_may_start_small_and_grows_before_its_traffic_does() {
    let mut rules = policy();
    rules.strategy.green_capacity = Percent::new(25).unwrap();
    let mut scene = Scene::with(rules);
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().green == 10);
    assert_eq!(scene.side(Slot::Green).running, 1);
    scene.until(|scene| scene.weights().green == 50);
    assert_eq!(scene.side(Slot::Green).running, 2);
    scene.until(|scene| scene.weights().green == 100);
    assert_eq!(scene.side(Slot::Green).running, 4);
}

#[test]
fn a_target_at_rest_is_left_alone() {
    let mut scene = Scene::new();
    let before = scene.state.clone();
    assert_eq!(scene.decide(&[]), Next::Rest);
    assert_eq!(scene.state, before);
}

#[test]
fn what_is_remembered_survives_being_stored() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.stage() == "shifting");
    scene.fire();
    scene.decide(&[]);
    let text = serde_json::to_string(&scene.state).unwrap();
    let back: rollout::TargetState = serde_json::from_str(&text).unwrap();
    assert_eq!(back, scene.state);
}
