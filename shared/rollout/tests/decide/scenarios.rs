use super::fixture::{TargetFixture, deploy, deploy_overriding_alarms, new_command, policy};
use rollout::policy::{Hook, HookAction, HookPoint, MissingData};
use rollout::snapshot::{AlarmReading, Autoscaling, FailedStart, TaskReading, Weights};
use rollout::weighted::RollbackStep;
use rollout::{CommandRefusal, Effect, Fact, Instruction, Name, Next, Percent, Reading, Seconds, Slot, Verdict};

fn weights_written(fixture: &TargetFixture) -> Vec<(u16, u16)> {
    let weights = |effect: &Effect| match effect {
        Effect::SetWeights { weights, .. } => Some((weights.blue, weights.green)),
        _ => None,
    };
    fixture.effects.iter().filter_map(weights).collect()
}

#[test]
fn a_healthy_release_shifts_stepwise_and_retires_the_old_side() {
    let mut fixture = TargetFixture::new();
    fixture.run("v2");
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
    assert_eq!(weights_written(&fixture), [(90, 10), (50, 50), (0, 100)]);
    assert_eq!(fixture.side(Slot::Green).running, 4, "green took over blue's running count");
    assert_eq!(fixture.side(Slot::Blue).running, 0, "blue is retired");
    let stable = fixture.state.stable.clone().unwrap();
    assert_eq!((stable.slot, stable.release.unwrap().tag), (Some(Slot::Green), "v2".to_owned()));
    assert!(fixture.state.running.is_none());
}

#[test]
fn the_next_release_deploys_to_the_idle_side() {
    let mut fixture = TargetFixture::new();
    fixture.run("v2");
    fixture.effects.clear();
    fixture.run("v3");
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
    assert_eq!(weights_written(&fixture), [(10, 90), (50, 50), (100, 0)]);
}

#[test]
fn an_alarm_rolls_back_in_the_same_decision() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights() == Weights { blue: 50, green: 50 });
    fixture.fire_alarm();
    fixture.effects.clear();
    fixture.decide(&[]);
    let back = Effect::SetWeights { weights: Weights { blue: 100, green: 0 }, seen: vec![] };
    assert_eq!(fixture.effects, [back], "the weights first, and nothing else before they are back");
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack));
    assert!(fixture.end_reason().contains("api-5xx"), "{}", fixture.end_reason());
    assert_eq!(fixture.side(Slot::Green).running, 0);
    assert_eq!(fixture.side(Slot::Blue).running, 4);
}

#[test]
fn an_alarm_while_baking_or_keeping_warm_rolls_back() {
    for stage in ["baking", "keeping_warm"] {
        let mut fixture = TargetFixture::new();
        fixture.decide(&[deploy("v2")]);
        fixture.run_until(|fixture| fixture.stage() == stage);
        fixture.fire_alarm();
        fixture.run_until(|_| false);
        assert_eq!(fixture.verdict(), Some(Verdict::RolledBack), "in {stage}: {}", fixture.end_reason());
        assert_eq!(fixture.weights(), Weights { blue: 100, green: 0 });
    }
}

#[test]
fn an_alarm_firing_at_the_start_blocks_until_the_deadline() {
    let mut fixture = TargetFixture::new();
    fixture.fire_alarm();
    fixture.run("v2");
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert!(fixture.end_reason().contains("api-5xx is firing already"), "{}", fixture.end_reason());
    assert!(fixture.effects.is_empty(), "nothing was touched: {:?}", fixture.effects);
}

#[test]
fn an_alarm_override_lasts_until_the_alarm_is_ok() {
    let mut fixture = TargetFixture::new();
    fixture.fire_alarm();
    fixture.decide(&[deploy_overriding_alarms("v2", &["api-5xx"])]);
    fixture.run_until(|fixture| fixture.stage() == "shifting");
    assert_eq!(fixture.stage(), "shifting", "the override lets it through");
    fixture.alarm(AlarmReading::Ok);
    fixture.advance();
    fixture.fire_alarm();
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack), "once it was OK it is judged like any other");
}

#[test]
fn missing_data_is_not_healthy() {
    let mut fixture = TargetFixture::new();
    fixture.alarm(AlarmReading::NoData);
    fixture.run("v2");
    assert!(weights_written(&fixture).iter().all(|(_, green)| *green == 0), "{:?}", weights_written(&fixture));
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert!(fixture.end_reason().contains("silence is not health"), "{}", fixture.end_reason());
}

#[test]
fn missing_data_follows_the_policy_setting() {
    for (missing, verdict) in [(MissingData::Healthy, Verdict::Succeeded), (MissingData::Unhealthy, Verdict::Failed)] {
        let mut rules = policy();
        rules.alarms[0].missing = missing;
        let mut fixture = TargetFixture::with(rules);
        fixture.alarm(AlarmReading::NoData);
        fixture.run("v2");
        assert_eq!(fixture.verdict(), Some(verdict), "{missing:?}: {}", fixture.end_reason());
    }
}

#[test]
fn tasks_that_never_become_healthy_never_get_traffic() {
    let mut fixture = TargetFixture::new();
    fixture.candidates_unhealthy = true;
    fixture.run("v2");
    assert_eq!(fixture.verdict(), Some(Verdict::Failed), "no traffic had moved");
    assert!(weights_written(&fixture).is_empty());
    assert_eq!(fixture.side(Slot::Green).running, 0, "the candidate is taken down again");
}

#[test]
fn repeated_failed_starts_end_early_with_the_ecs_reason() {
    let mut fixture = TargetFixture::new();
    fixture.candidates_unhealthy = true;
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.stage() == "scaling");
    let at = fixture.now;
    let failed =
        FailedStart { task: "t".to_owned(), reason: "Essential container in task exited (exit code 1)".to_owned(), at };
    fixture.side(Slot::Green).failed_starts = vec![failed.clone(), failed];
    fixture.run_until(|_| false);
    assert!(fixture.end_reason().contains("exit code 1"), "{}", fixture.end_reason());
    assert!(Seconds::between(at, fixture.now) < Seconds(60), "ended at {} although it began at {at}", fixture.now);
}

#[test]
fn ends_early_when_the_ecs_circuit_breaker_has_tripped() {
    let mut fixture = TargetFixture::new();
    fixture.candidates_unhealthy = true;
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.stage() == "scaling");
    let began = fixture.now;
    fixture.side(Slot::Green).circuit_breaker_reason = Some("tasks failed to start.".to_owned());
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert!(fixture.end_reason().contains("ECS gave up: tasks failed to start."), "{}", fixture.end_reason());
    assert!(Seconds::between(began, fixture.now) < policy().deadlines.healthy, "not until the deadline");
}

#[test]
fn a_foreign_edit_halts_and_is_never_overwritten() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().green == 10);
    fixture.advance();
    fixture.edit_rule(70, 30);
    let written = weights_written(&fixture).len();
    fixture.advance();
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::Halted { .. })));
    fixture.edit_rule(90, 10);
    fixture.advance();
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::Resumed)), "put back, it goes on");
    fixture.edit_rule(70, 30);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert_eq!(weights_written(&fixture).len(), written, "not one weight was written over the other hand's");
    assert_eq!(fixture.weights(), Weights { blue: 70, green: 30 });
    assert_eq!((fixture.side(Slot::Blue).running, fixture.side(Slot::Green).running), (4, 4), "both sides are left up");
}

#[test]
fn manually_restored_weights_complete_the_rollback() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().green == 50);
    fixture.advance();
    fixture.edit_rule(1, 0);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack));
    assert_eq!(fixture.side(Slot::Green).running, 0);
}

#[test]
fn a_rollback_after_abandoning_restores_the_stable_side() {
    let mut fixture = TargetFixture::new();
    fixture.run("v2");
    fixture.decide(&[deploy("v3")]);
    fixture.run_until(|fixture| fixture.weights().blue == 10);
    fixture.advance();
    fixture.edit_rule(30, 70);
    fixture.run_until(|_| false);
    assert!(fixture.state.drift().is_some());
    fixture.decide(&[new_command(Instruction::Rollback, "r1")]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.weights(), Weights { blue: 0, green: 100 }, "v2's side has everything again");
    assert!(fixture.state.drift().is_none());
}

#[test]
fn failed_reads_block_the_start_and_are_journalled_once() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    for _ in 0..3 {
        fixture.rules_unreadable = true;
        fixture.advance();
        fixture.rules_unreadable = false;
        let alarms = std::mem::replace(&mut fixture.snapshot.alarms, Reading::Unknown("throttled".to_owned()));
        fixture.advance();
        fixture.snapshot.alarms = alarms;
    }
    let blocked = fixture.journal.iter().filter(|entry| matches!(entry.fact, Fact::Blocked { .. }));
    assert_eq!(blocked.count(), 1, "{:#?}", fixture.journal);
    assert!(fixture.effects.is_empty(), "nothing was touched: {:?}", fixture.effects);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
}

#[test]
fn split_weights_block_the_start_for_half_a_day() {
    let mut fixture = TargetFixture::new();
    fixture.edit_rule(50, 50);
    let began = fixture.now;
    fixture.run("v2");
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert!(fixture.end_reason().contains("no side is the stable one"), "{}", fixture.end_reason());
    assert!(fixture.now >= Seconds(12 * 3600).after(began), "a person has time to put the rule right");
}

#[test]
fn a_newer_push_waits_and_the_newest_wins() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.stage() == "shifting");
    fixture.decide(&[deploy("v3"), deploy("v4")]);
    assert!(
        fixture
            .journal_has(|fact| matches!(fact, Fact::Superseded { tag, by_tag, .. } if tag == "v3" && by_tag == "v4"))
    );
    fixture.run_until(|fixture| fixture.state.running.is_none());
    fixture.run_until(|_| false);
    let stable = fixture.state.stable.clone().unwrap().release.unwrap();
    assert_eq!(stable.tag, "v4");
    let verdicts =
        fixture.journal.iter().filter(|entry| matches!(entry.fact, Fact::Ended { verdict: Verdict::Succeeded, .. }));
    assert_eq!(verdicts.count(), 2, "v2 went through whole, then v4");
}

#[test]
fn the_same_release_twice_is_one_deployment() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|_| false);
    fixture.decide(&[deploy("v2")]);
    assert_eq!(fixture.state.last_deployment, 1);
    assert!(fixture.journal_has(
        |fact| matches!(fact, Fact::CommandRefused { reason, .. } if matches!(reason, CommandRefusal::AlreadyStable { .. }))
    ));
}

#[test]
fn an_abort_before_any_change_ends_at_once() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.decide(&[new_command(Instruction::Abort { deployment: None }, "a1")]);
    assert_eq!(fixture.verdict(), Some(Verdict::Cancelled));
    assert!(fixture.effects.is_empty());
}

#[test]
fn an_abort_during_a_shift_restores_everything() {
    let mut fixture = TargetFixture::new();
    fixture.autoscale(Slot::Blue, 2, 8);
    fixture.autoscale(Slot::Green, 0, 8);
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().green == 50);
    let during_rollout = fixture.side(Slot::Blue).autoscaling.unwrap();
    assert!(
        during_rollout.scale_in_suspended && during_rollout.scheduled_suspended,
        "the stable side is not scaled in meanwhile: {during_rollout:?}"
    );
    fixture.decide(&[new_command(Instruction::Abort { deployment: Some(1) }, "a1")]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Cancelled));
    assert_eq!(fixture.weights(), Weights { blue: 100, green: 0 });
    let limits = |min| Some(Autoscaling { min, max: 8, scale_in_suspended: false, scheduled_suspended: false });
    assert_eq!((fixture.side(Slot::Blue).autoscaling, fixture.side(Slot::Green).autoscaling), (limits(2), limits(0)));
}

#[test]
fn autoscaling_limits_follow_the_live_side() {
    let mut fixture = TargetFixture::new();
    fixture.autoscale(Slot::Blue, 2, 8);
    fixture.autoscale(Slot::Green, 0, 6);
    fixture.run("v2");
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
    let limits = |min, max| Some(Autoscaling { min, max, scale_in_suspended: false, scheduled_suspended: false });
    assert_eq!(fixture.side(Slot::Green).autoscaling, limits(2, 8), "green serves now");
    assert_eq!(fixture.side(Slot::Blue).autoscaling, limits(0, 6), "blue is idle now");
    assert_eq!(fixture.side(Slot::Blue).running, 0);
}

#[test]
fn autoscaling_is_restored_with_its_original_suspensions() {
    for (scale_in_suspended, scheduled_suspended) in [(false, true), (true, false), (true, true)] {
        let found = |min| Some(Autoscaling { min, max: 8, scale_in_suspended, scheduled_suspended });
        let mut fixture = TargetFixture::new();
        fixture.side(Slot::Blue).autoscaling = found(2);
        fixture.side(Slot::Green).autoscaling = found(0);
        fixture.decide(&[deploy("v2")]);
        fixture.run_until(|fixture| fixture.weights().green == 50);
        for slot in Slot::BOTH {
            let during_rollout = fixture.side(slot).autoscaling.unwrap();
            assert!(
                during_rollout.scale_in_suspended && during_rollout.scheduled_suspended,
                "{slot}: {during_rollout:?}"
            );
        }
        fixture.fire_alarm();
        fixture.run_until(|_| false);
        assert_eq!(fixture.verdict(), Some(Verdict::RolledBack), "{}", fixture.end_reason());
        assert_eq!((fixture.side(Slot::Blue).autoscaling, fixture.side(Slot::Green).autoscaling), (found(2), found(0)));

        fixture.alarm(AlarmReading::Ok);
        fixture.run("v3");
        assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
        assert_eq!((fixture.side(Slot::Blue).autoscaling, fixture.side(Slot::Green).autoscaling), (found(0), found(2)));
    }
}

#[test]
fn limits_stored_by_an_older_version_are_restored() {
    // Its one flag stood for both switches.
    for suspended in [false, true] {
        let found = Autoscaling { min: 2, max: 8, scale_in_suspended: suspended, scheduled_suspended: suspended };
        let mut fixture = TargetFixture::new();
        fixture.side(Slot::Blue).autoscaling = Some(found);
        fixture.decide(&[deploy("v2")]);
        fixture.run_until(|fixture| fixture.weights().green == 50);
        let mut stored = serde_json::to_value(&fixture.state).unwrap();
        stored["running"]["borrowed"] =
            serde_json::json!({"blue": {"min": 2, "max": 8, "scale_in_suspended": suspended}});
        fixture.state = serde_json::from_value(stored).unwrap();
        fixture.fire_alarm();
        fixture.run_until(|_| false);
        assert_eq!(fixture.verdict(), Some(Verdict::RolledBack), "{}", fixture.end_reason());
        assert_eq!(fixture.side(Slot::Blue).autoscaling, Some(found));
    }
}

#[test]
fn an_unhealthy_stable_side_stays_unhealthy_while_unreadable() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().green == 50);
    fixture.side(Slot::Blue).targets.healthy = 0;
    fixture.fire_alarm();
    fixture.advance();
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::RollbackBlocked { .. })));
    let written = weights_written(&fixture).len();
    let (blue, green) = (fixture.snapshot.blue.clone(), fixture.snapshot.green.clone());
    let unreadable = || Reading::Unknown("throttled".to_owned());
    fixture.snapshot.blue = unreadable();
    fixture.advance();
    assert_eq!(weights_written(&fixture).len(), written, "nobody has seen it well since");
    // Nor while the other side cannot be read, which may be the one that serves.
    (fixture.snapshot.blue, fixture.snapshot.green) = (blue, unreadable());
    fixture.advance();
    assert_eq!(weights_written(&fixture).len(), written, "nothing of it is healthy");
    fixture.snapshot.green = green;
    fixture.side(Slot::Blue).targets.healthy = 4;
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack), "{}", fixture.end_reason());
}

#[test]
fn a_rollback_waits_for_a_healthy_stable_side() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().green == 50);
    let healthy = fixture.side(Slot::Blue).targets;
    fixture.side(Slot::Blue).targets.healthy = 0;
    fixture.side(Slot::Blue).targets.unhealthy = 4;
    let written = weights_written(&fixture).len();
    fixture.fire_alarm();
    fixture.advance();
    assert_eq!(weights_written(&fixture).len(), written, "never onto a side without a healthy target");
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::RollbackBlocked { .. })));
    fixture.side(Slot::Blue).targets = healthy;
    fixture.run_until(|_| false);
    assert_eq!(fixture.weights(), Weights { blue: 100, green: 0 });
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack));
}

#[test]
fn nothing_is_scaled_down_while_rules_are_unreadable() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().green == 50);
    fixture.fire_alarm();
    let draining_until = |fixture: &TargetFixture| match fixture
        .state
        .running
        .as_ref()
        .and_then(|running| running.rollback())
        .map(|rollback| &rollback.step)
    {
        Some(RollbackStep::Draining { until }) => Some(*until),
        _ => None,
    };
    fixture.run_until(|fixture| draining_until(fixture).is_some());
    let until = draining_until(&fixture).expect("it drains");
    fixture.rules_unreadable = true;
    for _ in 0..50 {
        fixture.advance();
    }
    assert!(fixture.now > until, "its nodes have had their time");
    assert_eq!(fixture.side(Slot::Green).running, 4, "who has the traffic now is not known");
    fixture.rules_unreadable = false;
    fixture.run_until(|_| false);
    assert_eq!((fixture.verdict(), fixture.side(Slot::Green).running), (Some(Verdict::RolledBack), 0));
}

#[test]
fn a_step_counts_only_once_verified_live() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.weight_writes_fail = true;
    fixture.run_until(|_| false);
    assert_ne!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
    let is_verified = |fact: &Fact| matches!(fact, Fact::WeightsVerified { weights } if weights.green > 0);
    assert!(!fixture.journal_has(is_verified), "no rule ever had it: {:#?}", fixture.journal);
}

#[test]
fn a_rollback_that_cannot_write_weights_fails_with_the_error() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().green == 50);
    fixture.weight_writes_fail = true;
    fixture.fire_alarm();
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert_eq!((fixture.side(Slot::Blue).running, fixture.side(Slot::Green).running), (4, 4), "both sides still serve");
    assert!(fixture.end_reason().contains("rate exceeded"), "{}", fixture.end_reason());
    assert!(fixture.state.drift().is_some());
}

#[test]
fn a_requested_rollback_skips_hooks_and_alarms() {
    let mut fixture = TargetFixture::new();
    fixture.run("v2");
    fixture.run("v3");
    fixture.effects.clear();
    fixture.fire_alarm();
    fixture.decide(&[new_command(Instruction::Rollback, "r1")]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
    assert_eq!(fixture.state.stable.clone().unwrap().release.unwrap().tag, "v2");
    assert_eq!(weights_written(&fixture), [(0, 100)], "in one step");
    let registers = fixture.effects.iter().filter(|effect| matches!(effect, Effect::RegisterVersion { .. }));
    assert_eq!(registers.count(), 0, "with the task definition that it had");
}

#[test]
fn an_abort_past_the_rollback_path_is_refused() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.stage() == "retiring");
    while fixture.state.running.as_ref().unwrap().rollback_path().is_some() {
        if let Next::At(at) = fixture.decide(&[]) {
            fixture.now = at;
        }
    }
    fixture.decide(&[new_command(Instruction::Abort { deployment: None }, "a1")]);
    assert!(fixture.journal_has(
        |fact| matches!(fact, Fact::CommandRefused { reason, .. } if matches!(reason, CommandRefusal::NoRollbackPath { .. }))
    ));
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
}

fn with_hook(at: HookPoint, run: HookAction) -> TargetFixture {
    let mut rules = policy();
    rules.hooks =
        vec![Hook { name: Name::new("check").unwrap(), at, run, deadline: Seconds(120), forward_only: false }];
    TargetFixture::with(rules)
}

#[test]
fn a_failed_migration_ends_before_any_task_starts() {
    let task = HookAction::Task { container: "api".to_owned(), command: vec!["./migrate".to_owned()] };
    let mut fixture = with_hook(HookPoint::BeforeTraffic, task);
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.effects.iter().any(|effect| matches!(effect, Effect::StartTask { .. })));
    let stopped = TaskReading::Stopped { exit_code: Some(3), reason: "Essential container in task exited".to_owned() };
    fixture.snapshot.hook_tasks.insert("check".to_owned(), Reading::Known(stopped));
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert!(fixture.end_reason().contains("exit code 3"), "{}", fixture.end_reason());
    assert!(!fixture.effects.iter().any(|effect| matches!(effect, Effect::SetVersion { .. })));
}

#[test]
fn an_unanswered_hook_fails_at_its_deadline() {
    for at in [HookPoint::TestTraffic, HookPoint::AfterTraffic] {
        let mut fixture = with_hook(at, HookAction::Lambda { function: "check".to_owned() });
        fixture.run("v2");
        assert!(fixture.end_reason().contains("did not answer within 2m"), "{at:?}: {}", fixture.end_reason());
        assert_eq!(fixture.weights().sole_side(), Some(Slot::Blue));
    }
}

#[test]
fn the_test_rule_shows_the_candidate_until_a_rollback() {
    let mut rules = policy();
    rules.resources.traffic[0].test_rule = Some("listener/app/shop/9/9".to_owned());
    let mut fixture = TargetFixture::with(rules);
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.stage() == "shifting");
    let test = |fixture: &TargetFixture| {
        let weights = fixture.snapshot.test_weights().unwrap();
        assert_eq!(weights.len(), 1);
        weights[0]
    };
    assert_eq!(test(&fixture), Weights { blue: 0, green: 100 });
    fixture.fire_alarm();
    fixture.run_until(|_| false);
    assert_eq!(test(&fixture).sole_side(), Some(Slot::Blue));
}

#[test]
fn a_candidate_scales_up_before_its_traffic_grows() {
    let mut rules = policy();
    rules.strategy.green_capacity = Percent::new(25).unwrap();
    let mut fixture = TargetFixture::with(rules);
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().green == 10);
    assert_eq!(fixture.side(Slot::Green).running, 1);
    fixture.run_until(|fixture| fixture.weights().green == 50);
    assert_eq!(fixture.side(Slot::Green).running, 2);
    fixture.run_until(|fixture| fixture.weights().green == 100);
    assert_eq!(fixture.side(Slot::Green).running, 4);
}

#[test]
fn an_idle_target_is_left_alone() {
    let mut fixture = TargetFixture::new();
    let before = fixture.state.clone();
    assert_eq!(fixture.decide(&[]), Next::Idle);
    assert_eq!(fixture.state, before);
}

#[test]
fn the_state_round_trips_through_json() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.stage() == "shifting");
    fixture.fire_alarm();
    fixture.decide(&[]);
    let text = serde_json::to_string(&fixture.state).unwrap();
    let back: rollout::TargetState = serde_json::from_str(&text).unwrap();
    assert_eq!(back, fixture.state);
}

#[test]
fn the_old_side_drains_before_it_is_scaled_in() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    let scales_in = |fixture: &TargetFixture| {
        fixture.effects.iter().any(|effect| matches!(effect, Effect::SetDesired { slot: Slot::Blue, .. }))
    };
    fixture.run_until(scales_in);
    let entered = fixture.journal.iter().find_map(|entry| match &entry.fact {
        Fact::StageEntered { stage: rollout::Stage::Retiring, .. } => Some(entry.at),
        _ => None,
    });
    let drained = super::fixture::policy().strategy.drain.after(entered.expect("the old side is retired"));
    assert!(fixture.now >= drained, "scaled in at {}, drained at {drained}", fixture.now);
}
