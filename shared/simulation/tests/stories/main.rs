//! Deployments from push to verdict in virtual time: the real decision and drive loop over the world.

mod bounds;
mod capacity;
mod in_place;
mod legs;

use rollout::journal::Fact;
use rollout::policy::{Concurrency, Hook, HookAction, HookPoint, TargetPolicy};
use rollout::snapshot::Weights;
use rollout::verdict::Verdict;
use rollout::{Instruction, Name, Overrides, Seconds, Slot};
use simulation::virtual_time::{Faults, PushAnnouncement, Simulation};
use simulation::world::alarms::AlarmState;
use simulation::world::balancer::ListenerAction;
use simulation::world::ecs::{CircuitBreaker, UpdateService};
use simulation::world::scaling::{DescribeScalableTargets, PutScheduledAction, RegisterScalableTarget, SuspendedState};
use simulation::world::{
    FunctionBehaviour, Health, ImageBehaviour, PairSetup, RunTaskBehaviour, Settings, StartBehaviour, scene,
};

const HOUR: u64 = 3600;

fn scene() -> PairSetup {
    PairSetup::new("shop", "api", "dev")
}

fn simulation(scene: &PairSetup) -> Simulation {
    Simulation::new(scene.build(Settings::default()), Faults::default())
}

fn with_policy(scene: &PairSetup, change: impl FnOnce(&mut TargetPolicy)) -> Simulation {
    let mut built = scene.build(Settings::default());
    change(&mut built.policy);
    Simulation::new(built, Faults::default())
}

fn set_image(simulation: &Simulation, number: u64, behaviour: ImageBehaviour) {
    let digest = scene::digest_of(number);
    simulation.world(|world| world.set_image(digest.as_str(), behaviour));
}

/// The weights of the rule, as they are live.
fn weights(simulation: &Simulation) -> (i64, i64) {
    let names = simulation.names().clone();
    let rule = simulation
        .world(|world| world.describe_rules(None, std::slice::from_ref(&names.rule)))
        .expect("the rule is there");
    let simulation::world::balancer::ActionKind::Forward(forward) = &rule[0].actions[0].what else {
        panic!("the rule forwards")
    };
    let weight = |group: &str| {
        forward.target_groups.iter().find(|found| found.arn == group).and_then(|found| found.weight).unwrap_or(0)
    };
    (weight(&names.blue_group), weight(&names.green_group))
}

/// Desired and running tasks of blue and of green.
fn tasks(simulation: &Simulation) -> [(u32, u32); 2] {
    let names = simulation.names().clone();
    let both = [names.blue.clone(), names.green.clone()];
    let (services, _) =
        simulation.world(|world| world.describe_services(&names.cluster, &both)).expect("both are there");
    [0, 1].map(|index| (services[index].desired_count, services[index].running_count))
}

fn lost(simulation: &Simulation) -> f64 {
    simulation.world(|world| world.traffic().lost)
}

fn has(simulation: &Simulation, wanted: impl Fn(&Fact) -> bool) -> bool {
    simulation.journal().iter().any(|entry| wanted(&entry.fact))
}

#[track_caller]
fn expect_verdicts(simulation: &mut Simulation, seconds: u64, verdicts: &[Verdict]) {
    let became_idle = simulation.run_until_idle(seconds);
    let journal_text = simulation.journal_text();
    let found: Vec<Verdict> = simulation.verdicts().into_iter().map(|(_, verdict, _)| verdict).collect();
    assert_eq!(found, verdicts, "\n{journal_text}");
    assert!(became_idle, "it does not come to rest; it is {:?}\n{journal_text}", simulation.state());
    assert!(simulation.dead_letters().is_empty(), "wakes were given up\n{journal_text}");
}

#[test]
fn a_good_release_succeeds_without_losing_a_request() {
    let mut simulation = simulation(&scene());
    simulation.push(1, PushAnnouncement::Event);
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Succeeded]);
    let journal_text = simulation.journal_text();
    let verified_weights: Vec<Weights> = simulation
        .journal()
        .into_iter()
        .filter_map(|entry| match entry.fact {
            Fact::WeightsVerified { weights } => Some(weights),
            _ => None,
        })
        .collect();
    let expected = [(90, 10), (50, 50), (0, 100)].map(|(blue, green)| Weights { blue, green });
    assert_eq!(verified_weights, expected, "\n{journal_text}");
    assert_eq!(weights(&simulation), (0, 100), "\n{journal_text}");
    assert_eq!(tasks(&simulation), [(0, 0), (4, 4)], "\n{journal_text}");
    assert_eq!(lost(&simulation), 0.0, "\n{journal_text}");
    let stable = simulation.state().and_then(|state| state.stable).expect("there is a stable side");
    assert_eq!(stable.slot, Some(Slot::Green));
}

#[test]
fn tasks_run_the_pushed_digest_not_its_tag() {
    let mut simulation = simulation(&scene());
    let release = simulation.push(1, PushAnnouncement::Event);
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Succeeded]);
    let stable = simulation.state().and_then(|state| state.stable).expect("there is a stable side");
    let definition = simulation.world(|world| world.describe_task_definition(&stable.version));
    let document = definition.expect("it was registered").document;
    let image = document["containerDefinitions"][0]["image"].as_str().expect("the container has an image");
    let repository = &simulation.names().repository_uri;
    assert_eq!(image, format!("{repository}@{}", release.id.digest), "\n{}", simulation.journal_text());
}

#[test]
fn the_next_release_uses_the_other_side_again() {
    let mut simulation = simulation(&scene());
    simulation.push(1, PushAnnouncement::Event);
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Succeeded]);
    simulation.push(2, PushAnnouncement::Event);
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Succeeded, Verdict::Succeeded]);
    assert_eq!(weights(&simulation), (100, 0), "\n{}", simulation.journal_text());
    assert_eq!(tasks(&simulation), [(4, 4), (0, 0)], "\n{}", simulation.journal_text());
    assert_eq!(lost(&simulation), 0.0, "\n{}", simulation.journal_text());
}

#[test]
fn an_alarm_rolls_back_a_bad_release() {
    let mut simulation = simulation(&scene());
    set_image(&simulation, 1, ImageBehaviour::failing(0.5));
    simulation.push(1, PushAnnouncement::Event);
    expect_verdicts(&mut simulation, HOUR, &[Verdict::RolledBack]);
    let journal_text = simulation.journal_text();
    assert_eq!(weights(&simulation), (100, 0), "\n{journal_text}");
    assert_eq!(tasks(&simulation), [(4, 4), (0, 0)], "\n{journal_text}");
    assert_eq!(lost(&simulation), 0.0, "\n{journal_text}");
    let alarm = |fact: &Fact| matches!(fact, Fact::RollbackStarted { cause: rollout::Cause::Alarm { name, .. } } if *name == simulation.names().green_alarm);
    assert!(has(&simulation, alarm), "\n{journal_text}");
}

#[test]
fn weights_are_back_within_seconds_of_an_alarm() {
    let mut simulation = simulation(&scene());
    set_image(&simulation, 1, ImageBehaviour::failing(0.5));
    simulation.push(1, PushAnnouncement::Event);
    assert!(simulation.run_until_condition(HOUR, |simulation| {
        let alarm = simulation.names().green_alarm.clone();
        let alarms = simulation.world(|world| world.describe_alarms(&[alarm])).expect("alarms are described");
        alarms[0].state == AlarmState::Alarm
    }));
    let fired_at = simulation.now();
    assert!(simulation.run_until_condition(60, |simulation| weights(simulation) == (100, 0)));
    let duration = Seconds::between(fired_at, simulation.now());
    assert!(duration <= Seconds(5), "it took {duration}\n{}", simulation.journal_text());
}

#[test]
fn errors_during_the_bake_roll_back() {
    let mut simulation = simulation(&scene());
    let leak = ImageBehaviour { later: Some((Seconds(260), 0.4)), ..ImageBehaviour::default() };
    set_image(&simulation, 1, leak);
    simulation.push(1, PushAnnouncement::Event);
    expect_verdicts(&mut simulation, HOUR, &[Verdict::RolledBack]);
    assert_eq!(weights(&simulation), (100, 0), "\n{}", simulation.journal_text());
    assert_eq!(lost(&simulation), 0.0, "\n{}", simulation.journal_text());
}

#[test]
fn a_candidate_that_never_becomes_healthy_gets_no_traffic() {
    let mut simulation = simulation(&scene());
    set_image(&simulation, 1, ImageBehaviour::never_healthy());
    simulation.push(1, PushAnnouncement::Event);
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Failed]);
    let journal_text = simulation.journal_text();
    assert!(
        !has(&simulation, |fact| matches!(fact, Fact::WeightsDecided { weights } if weights.green > 0)),
        "\n{journal_text}"
    );
    assert_eq!(tasks(&simulation), [(4, 4), (0, 0)], "\n{journal_text}");
    assert_eq!(weights(&simulation), (100, 0), "\n{journal_text}");
}

#[test]
fn a_crash_loop_fails_early_with_the_reason_from_ecs() {
    for breaker in [CircuitBreaker::default(), CircuitBreaker { enable: true, rollback: false }] {
        let mut scene = scene();
        scene.breaker = breaker;
        let mut simulation = simulation(&scene);
        let starts = StartBehaviour::CrashLoop { exit_code: 3, after: Seconds(2) };
        set_image(&simulation, 1, ImageBehaviour::starting(starts));
        simulation.push(1, PushAnnouncement::Event);
        expect_verdicts(&mut simulation, 400, &[Verdict::Failed]);
        let journal_text = simulation.journal_text();
        let (_, _, reason) = simulation.verdicts().remove(0);
        assert!(reason.contains("exit code 3") || reason.contains("circuit breaker"), "{reason}\n{journal_text}");
        assert_eq!(tasks(&simulation), [(4, 4), (0, 0)], "\n{journal_text}");
    }
}

#[test]
fn ecs_circuit_breaker_rollback_is_recognised() {
    let mut scene = scene();
    scene.breaker = CircuitBreaker { enable: true, rollback: true };
    let mut simulation = simulation(&scene);
    let starts = StartBehaviour::CrashLoop { exit_code: 3, after: Seconds(2) };
    set_image(&simulation, 1, ImageBehaviour::starting(starts));
    simulation.push(1, PushAnnouncement::Event);
    expect_verdicts(&mut simulation, 600, &[Verdict::Failed]);
    assert_eq!(tasks(&simulation), [(4, 4), (0, 0)], "\n{}", simulation.journal_text());
}

#[test]
fn a_release_that_failed_to_start_can_be_retried() {
    for rollback in [false, true] {
        let mut scene = scene();
        scene.breaker = CircuitBreaker { enable: true, rollback };
        let mut simulation = simulation(&scene);
        set_image(&simulation, 1, ImageBehaviour::starting(StartBehaviour::PullError));
        // The breaker has its say before anybody looks.
        simulation.push(1, PushAnnouncement::Event);
        assert!(simulation.run_until_condition(60, |simulation| tasks(simulation)[1].0 > 0));
        simulation.world(|world| {
            let later = Seconds(120).after(world.now());
            world.advance_to(later);
        });
        expect_verdicts(&mut simulation, 600, &[Verdict::Failed]);
        let tripped = |event: &simulation::world::WorldEvent| {
            matches!(
                event.what,
                simulation::world::WorldEventKind::Deployment { name: "SERVICE_DEPLOYMENT_FAILED", .. }
            )
        };
        assert!(simulation.events().iter().any(tripped), "the breaker did not trip\n{}", simulation.journal_text());
        // The image is there now.
        set_image(&simulation, 1, ImageBehaviour::default());
        simulation.run_for(120);
        simulation.request_deployment(1, Overrides::default());
        expect_verdicts(&mut simulation, HOUR, &[Verdict::Failed, Verdict::Succeeded]);
    }
}

#[test]
fn pull_errors_fail_early_and_placement_failures_at_the_deadline() {
    let deadline = scene().deadlines.healthy.0;
    for (starts, expected_reason, limit) in [
        (StartBehaviour::PullError, "CannotPullContainer", 550),
        (StartBehaviour::PlacementFailure, "capacity of FARGATE", deadline + 120),
    ] {
        let mut simulation = simulation(&scene());
        set_image(&simulation, 1, ImageBehaviour::starting(starts));
        simulation.push(1, PushAnnouncement::Event);
        expect_verdicts(&mut simulation, limit, &[Verdict::Failed]);
        let (_, _, reason) = simulation.verdicts().remove(0);
        assert!(reason.contains(expected_reason), "{reason}\n{}", simulation.journal_text());
    }
}

#[test]
fn an_abort_during_the_shift_restores_traffic() {
    let mut simulation = simulation(&scene());
    simulation.push(1, PushAnnouncement::Event);
    assert!(simulation.run_until_condition(HOUR, |simulation| weights(simulation) == (50, 50)));
    simulation.run_for(10);
    simulation.send_command(Instruction::Abort { deployment: None }, "the wrong one");
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Cancelled]);
    let journal_text = simulation.journal_text();
    assert_eq!(weights(&simulation), (100, 0), "\n{journal_text}");
    assert_eq!(tasks(&simulation), [(4, 4), (0, 0)], "\n{journal_text}");
    assert_eq!(lost(&simulation), 0.0, "\n{journal_text}");
}

#[test]
fn a_rollback_after_success_restores_the_previous_release() {
    let mut simulation = simulation(&scene());
    simulation.push(1, PushAnnouncement::Event);
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Succeeded]);
    simulation.push(2, PushAnnouncement::Event);
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Succeeded, Verdict::Succeeded]);
    simulation.send_command(Instruction::Rollback, "prices are wrong");
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Succeeded; 3]);
    let journal_text = simulation.journal_text();
    let stable = simulation.state().and_then(|state| state.stable).expect("there is a stable side");
    let release = stable.release.expect("it is a release");
    assert_eq!(release.id.digest, scene::digest_of(1), "\n{journal_text}");
    assert_eq!(lost(&simulation), 0.0, "\n{journal_text}");
}

#[test]
fn a_queued_push_deploys_after_the_running_one() {
    let mut simulation = simulation(&scene());
    simulation.push(1, PushAnnouncement::Event);
    assert!(simulation.run_until_condition(HOUR, |simulation| weights(simulation) == (90, 10)));
    simulation.push(2, PushAnnouncement::Event);
    simulation.run_for(20);
    simulation.push(3, PushAnnouncement::Event);
    expect_verdicts(&mut simulation, 2 * HOUR, &[Verdict::Succeeded, Verdict::Succeeded]);
    let journal_text = simulation.journal_text();
    let superseded =
        |fact: &Fact| matches!(fact, Fact::Superseded { tag, by_tag, .. } if tag == "v2" && by_tag == "v3");
    assert!(has(&simulation, superseded), "\n{journal_text}");
    let stable = simulation.state().and_then(|state| state.stable).expect("there is a stable side");
    assert_eq!(stable.release.expect("it is a release").id.digest, scene::digest_of(3), "\n{journal_text}");
    assert_eq!(lost(&simulation), 0.0, "\n{journal_text}");
}

/// The policy is applied once more, with this rule.
fn with_concurrency(simulation: &Simulation, rule: Concurrency) {
    let application = &simulation.target().application;
    let mut store = simulation.ledger().store();
    let mut policy = store.policy(application).expect("a policy is applied").policy;
    for environment in policy.environments.values_mut() {
        environment.concurrency = rule;
    }
    store.apply(&policy, "version 2", simulation.now(), "somebody").expect("no other policy is there");
}

#[test]
fn cancel_running_replaces_a_deployment_without_losing_requests() {
    let mut simulation = simulation(&scene());
    with_concurrency(&simulation, Concurrency::CancelRunning);
    simulation.push(1, PushAnnouncement::Event);
    assert!(simulation.run_until_condition(HOUR, |simulation| weights(simulation) == (50, 50)));
    simulation.push(2, PushAnnouncement::Event);
    expect_verdicts(&mut simulation, 2 * HOUR, &[Verdict::Superseded, Verdict::Succeeded]);
    let journal_text = simulation.journal_text();
    let stable = simulation.state().and_then(|state| state.stable).expect("there is a stable side");
    assert_eq!(stable.release.expect("it is a release").id.digest, scene::digest_of(2), "\n{journal_text}");
    assert_eq!(lost(&simulation), 0.0, "\n{journal_text}");
}

#[test]
fn queue_all_deploys_every_push_in_order() {
    let mut simulation = simulation(&scene());
    with_concurrency(&simulation, Concurrency::QueueAll);
    for number in 1..=3 {
        simulation.push(number, PushAnnouncement::Event);
        simulation.run_for(20);
    }
    expect_verdicts(&mut simulation, 3 * HOUR, &[Verdict::Succeeded; 3]);
    let journal_text = simulation.journal_text();
    let started: Vec<String> = simulation
        .journal()
        .into_iter()
        .filter_map(|entry| match entry.fact {
            Fact::Started { tag, .. } => Some(tag),
            _ => None,
        })
        .collect();
    assert_eq!(started, ["v1", "v2", "v3"], "\n{journal_text}");
    assert_eq!(lost(&simulation), 0.0, "\n{journal_text}");
}

#[test]
fn a_duplicate_push_event_deploys_once() {
    let mut simulation = simulation(&scene());
    simulation.push(1, PushAnnouncement::EventTwice);
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Succeeded]);
    simulation.push(1, PushAnnouncement::Event);
    simulation.run_for(600);
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Succeeded]);
}

#[test]
fn the_sweep_finds_a_push_whose_event_was_lost() {
    let mut simulation = simulation(&scene());
    simulation.run_for(90);
    simulation.push(1, PushAnnouncement::Silent);
    assert!(simulation.run_until_condition(600, |simulation| !simulation.journal().is_empty()));
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Succeeded]);
}

#[test]
fn a_foreign_edit_halts_and_is_never_overwritten() {
    let mut simulation = simulation(&scene());
    simulation.push(1, PushAnnouncement::Event);
    assert!(simulation.run_until_condition(HOUR, |simulation| weights(simulation) == (90, 10)));
    simulation.run_for(10);
    let names = simulation.names().clone();
    let edited_weights =
        vec![ListenerAction::forward([(names.blue_group.as_str(), 70), (names.green_group.as_str(), 30)])];
    simulation
        .world(|world| world.modify_rule(&names.rule, None, Some(edited_weights)))
        .expect("anybody may edit the rule");
    assert!(
        simulation.run_until_condition(120, |simulation| has(simulation, |fact| matches!(fact, Fact::Halted { .. })))
    );
    simulation.run_for(120);
    assert_eq!(weights(&simulation), (70, 30), "\n{}", simulation.journal_text());

    // Put right by hand, it goes on.
    let original_weights =
        vec![ListenerAction::forward([(names.blue_group.as_str(), 90), (names.green_group.as_str(), 10)])];
    simulation
        .world(|world| world.modify_rule(&names.rule, None, Some(original_weights)))
        .expect("anybody may edit the rule");
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Succeeded]);
    assert!(has(&simulation, |fact| matches!(fact, Fact::Resumed)), "\n{}", simulation.journal_text());
}

#[test]
fn an_alarm_that_already_fires_blocks_the_start() {
    let mut simulation = simulation(&scene());
    // Half of what the stable side answers is wrong.
    set_image(&simulation, 0, ImageBehaviour::failing(0.5));
    simulation.run_for(30);
    simulation.push(1, PushAnnouncement::Event);
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Failed]);
    let journal_text = simulation.journal_text();
    assert!(has(&simulation, |fact| matches!(fact, Fact::Blocked { .. })), "\n{journal_text}");
    assert!(!has(&simulation, |fact| matches!(fact, Fact::VersionReady { .. })), "\n{journal_text}");

    // The fix itself must get through: a person takes the alarm upon themselves.
    let alarm = simulation.names().blue_alarm.clone();
    simulation.request_deployment(2, Overrides { firing_alarms: [alarm].into() });
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Failed, Verdict::Succeeded]);
}

fn hook(name: &str, at: HookPoint, run: HookAction) -> Hook {
    Hook { name: Name::new(name).expect("a name"), at, run, deadline: Seconds(120), forward_only: false }
}

fn lambda_action(function: &str) -> HookAction {
    HookAction::Lambda { function: function.to_owned() }
}

#[test]
fn hooks_run_at_their_points() {
    let migrate = HookAction::Task { container: "app".to_owned(), command: vec!["migrate".to_owned()] };
    let hooks = vec![
        hook("migrate", HookPoint::BeforeTraffic, migrate),
        hook("smoke", HookPoint::TestTraffic, lambda_action("smoke")),
        hook("announce", HookPoint::AfterTraffic, lambda_action("announce")),
    ];
    let mut simulation = with_policy(&scene(), |policy| policy.hooks = hooks);
    simulation.world(|world| {
        let then = serde_json::json!({"status": "succeeded"});
        world.put_function("smoke", FunctionBehaviour::Reports { in_progress: 3, then });
        world.put_function("announce", FunctionBehaviour::succeeds());
    });
    simulation.push(1, PushAnnouncement::Event);
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Succeeded]);
    let done: Vec<String> = simulation
        .journal()
        .into_iter()
        .filter_map(|entry| match entry.fact {
            Fact::HookSucceeded { hook } => Some(hook),
            _ => None,
        })
        .collect();
    assert_eq!(done, ["migrate", "smoke", "announce"], "\n{}", simulation.journal_text());
}

#[test]
fn a_failed_hook_ends_the_deployment() {
    let migrate = || HookAction::Task { container: "app".to_owned(), command: vec!["migrate".to_owned()] };
    for (at, run, verdict) in [
        (HookPoint::BeforeTraffic, migrate(), Verdict::Failed),
        (HookPoint::TestTraffic, lambda_action("hook"), Verdict::Failed),
        (HookPoint::AfterTraffic, lambda_action("hook"), Verdict::RolledBack),
    ] {
        let mut simulation = with_policy(&scene(), |policy| policy.hooks = vec![hook("judge", at, run)]);
        let fails = RunTaskBehaviour::Exits { after: Seconds(5), exit_code: 1 };
        set_image(&simulation, 1, ImageBehaviour::running(fails));
        simulation.world(|world| world.put_function("hook", FunctionBehaviour::fails("the cart is empty")));
        simulation.push(1, PushAnnouncement::Event);
        expect_verdicts(&mut simulation, HOUR, &[verdict]);
        let journal_text = simulation.journal_text();
        assert!(has(&simulation, |fact| matches!(fact, Fact::HookFailed { .. })), "\n{journal_text}");
        assert_eq!(weights(&simulation), (100, 0), "\n{journal_text}");
        assert_eq!(tasks(&simulation), [(4, 4), (0, 0)], "\n{journal_text}");
        assert_eq!(test_weights(&simulation), (100, 0), "the test rule is not as it was\n{journal_text}");
    }
}

fn test_weights(simulation: &Simulation) -> (i64, i64) {
    let names = simulation.names().clone();
    let rules = simulation
        .world(|world| world.describe_rules(None, std::slice::from_ref(&names.test_rule)))
        .expect("it is there");
    let simulation::world::balancer::ActionKind::Forward(forward) = &rules[0].actions[0].what else {
        panic!("the rule forwards")
    };
    (forward.target_groups[0].weight.unwrap_or(0), forward.target_groups[1].weight.unwrap_or(0))
}

#[test]
fn a_hook_that_never_finishes_times_out() {
    for (run, behaviour) in
        [(lambda_action("hook"), FunctionBehaviour::never_done()), (lambda_action("hook"), FunctionBehaviour::Silent)]
    {
        expect_hook_timeout(run, behaviour);
    }
}

#[test]
fn a_timed_out_hook_task_is_stopped() {
    let task = HookAction::Task { container: "app".to_owned(), command: vec![] };
    expect_hook_timeout(task, FunctionBehaviour::Silent);
}

fn expect_hook_timeout(run: HookAction, behaviour: FunctionBehaviour) {
    let hooks = vec![hook("slow", HookPoint::BeforeTraffic, run)];
    let mut simulation = with_policy(&scene(), |policy| policy.hooks = hooks);
    set_image(&simulation, 1, ImageBehaviour::running(RunTaskBehaviour::Endless));
    simulation.world(|world| world.put_function("hook", behaviour));
    simulation.push(1, PushAnnouncement::Event);
    expect_verdicts(&mut simulation, 600, &[Verdict::Failed]);
    let journal_text = simulation.journal_text();
    assert!(has(&simulation, |fact| matches!(fact, Fact::HookFailed { .. })), "\n{journal_text}");
    // The hook's task does not go on behind everybody's back.
    let cluster = simulation.names().cluster.clone();
    simulation.run_for(60);
    let hooks =
        simulation::world::ecs::ListTasks { cluster, family: Some("shop-api-dev".to_owned()), ..Default::default() };
    let running = simulation.world(|world| world.list_tasks(hooks)).expect("tasks are listed");
    assert_eq!(running.len(), 4, "a hook's task still runs\n{journal_text}");
}

#[test]
fn autoscaling_settings_are_restored_on_success_and_rollback() {
    for (behaviour, verdict, final_tasks) in [
        (ImageBehaviour::default(), Verdict::Succeeded, [(0, 0), (4, 4)]),
        (ImageBehaviour::failing(0.5), Verdict::RolledBack, [(4, 4), (0, 0)]),
    ] {
        let mut scene = scene();
        scene.autoscaling = Some((2, 8));
        let mut simulation = simulation(&scene);
        let names = simulation.names().clone();
        simulation.world(|world| {
            for service in [&names.blue, &names.green] {
                // 20 requests a second: 4 tasks are enough, and not only just.
                world.put_scaling_policy(&names.cluster, service, 6.0).expect("it is a scalable target");
            }
        });
        set_image(&simulation, 1, behaviour);
        simulation.push(1, PushAnnouncement::Event);
        assert!(simulation.run_until_condition(HOUR, |simulation| !simulation.verdicts().is_empty()));
        expect_verdicts(&mut simulation, HOUR, &[verdict]);
        let journal_text = simulation.journal_text();
        assert!(has(&simulation, |fact| matches!(fact, Fact::AutoscalingOverridden { .. })), "\n{journal_text}");
        let limits = simulation.world(|world| {
            world.describe_scalable_targets(simulation::world::scaling::DescribeScalableTargets {
                service_namespace: "ecs".to_owned(),
                ..Default::default()
            })
        });
        for target in limits.expect("limits are described") {
            let suspended = target.suspended_state.dynamic_scaling_in_suspended;
            assert!(!suspended, "{} is still suspended\n{journal_text}", target.resource_id);
            assert_eq!(target.max_capacity, 8, "\n{journal_text}");
        }
        assert_eq!(lost(&simulation), 0.0, "\n{journal_text}");
        assert_eq!(tasks(&simulation), final_tasks, "\n{journal_text}");
    }
}

#[test]
fn a_candidate_that_becomes_unhealthy_rolls_back() {
    let mut simulation = simulation(&scene());
    let loses_health = ImageBehaviour { health: Health::LostAfter(Seconds(60)), ..ImageBehaviour::default() };
    set_image(&simulation, 1, loses_health);
    simulation.push(1, PushAnnouncement::Event);
    expect_verdicts(&mut simulation, HOUR, &[Verdict::RolledBack]);
    assert_eq!(weights(&simulation), (100, 0), "\n{}", simulation.journal_text());
}

#[test]
fn a_denied_aws_call_fails_the_deployment() {
    let mut simulation = simulation(&scene());
    simulation.world(|world| world.deny("ecs:RegisterTaskDefinition", true));
    simulation.push(1, PushAnnouncement::Event);
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Failed]);
}
