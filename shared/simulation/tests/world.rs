//! What AWS does, as far as deployments depend on it: each truth of the world by itself.

use rollout::{Seconds, Timestamp};
use serde_json::json;
use simulation::world::alarms::{AlarmState, Comparison, MetricAlarm, TreatMissing, WatchedMetric};
use simulation::world::balancer::{
    ActionKind, ElbTarget, ForwardActionConfig, GroupSettings, GroupStickiness, HealthState, ListenerAction,
    WeightedGroup,
};
use simulation::world::ecs::{
    CircuitBreaker, CreateService, LastStatus, ListTasks, RolloutState, RunTask, ServiceLoadBalancer, UpdateService,
};
use simulation::world::scaling::{RegisterScalableTarget, SuspendedState};
use simulation::world::{
    BuiltPair, Health, ImageBehaviour, PairSetup, ResponseKind, Route, RunTaskBehaviour, Settings, StartBehaviour,
    TaskBackend, Timing, World, WorldEventKind, scene,
};

fn built() -> BuiltPair {
    PairSetup::new("shop", "api", "dev").build(Settings::default())
}

fn advance(world: &mut World, seconds: u64) {
    let at = Seconds(seconds).after(world.now());
    world.advance_to(at);
}

fn weights(built: &BuiltPair, blue: i64, green: i64) -> Vec<ListenerAction> {
    vec![ListenerAction::forward([(built.names.blue_group.as_str(), blue), (built.names.green_group.as_str(), green)])]
}

fn register_image(built: &mut BuiltPair, number: u64) -> String {
    let model = built.world.describe_task_definition(&built.names.task_definition).expect("it is there");
    let mut document = model.document;
    let image = format!("{}@{}", built.names.repository_uri, scene::digest_of(number));
    document["containerDefinitions"][0]["image"] = image.into();
    built.world.register_task_definition(document).expect("it is sound").arn
}

fn green(built: &mut BuiltPair, task_definition: Option<String>, desired: u32) {
    let update = UpdateService {
        cluster: built.names.cluster.clone(),
        service: built.names.green.clone(),
        desired_count: Some(desired),
        task_definition,
        ..UpdateService::default()
    };
    built.world.update_service(update).expect("green is there");
}

fn service(built: &mut BuiltPair, name: &str) -> simulation::world::ecs::EcsService {
    let (mut found, _) =
        built.world.describe_services(&built.names.cluster, &[name.to_owned()]).expect("the cluster is there");
    found.remove(0)
}

fn states(world: &mut World, group: &str) -> Vec<HealthState> {
    let health = world.describe_target_health(group).expect("the group is there");
    health.into_iter().map(|target| target.state).collect()
}

#[test]
fn listener_actions_are_validated_and_replaced_as_a_whole() {
    let mut built = built();
    let rule = built.names.rule.clone();
    let listener = built.names.listener.clone();
    let code = |built: &mut BuiltPair, actions: Vec<ListenerAction>| {
        built.world.modify_rule(&rule, None, Some(actions)).map(|_| ()).map_err(|error| error.code)
    };
    let actions = weights(&built, -1, 0);
    assert_eq!(code(&mut built, actions), Err("ValidationError"));
    let actions = weights(&built, 1000, 0);
    assert_eq!(code(&mut built, actions), Err("ValidationError"));
    let actions = weights(&built, 0, 0);
    assert_eq!(code(&mut built, actions), Ok(()), "no weight at all is allowed, and serves nobody");
    let group = built.names.blue_group.clone();
    assert_eq!(
        code(&mut built, vec![ListenerAction::forward([(group.as_str(), 1), (group.as_str(), 1)])]),
        Err("ValidationError")
    );
    assert_eq!(code(&mut built, vec![ListenerAction::forward([("arn:nobody", 1)])]), Err("TargetGroupNotFound"));
    assert_eq!(code(&mut built, vec![]), Err("ValidationError"));

    // Sign-in first, then the forward: kept, with stickiness, just as given.
    let sign_in = ListenerAction {
        order: Some(1),
        what: ActionKind::Other {
            kind: "authenticate-oidc".to_owned(),
            config: json!({"Issuer": "https://id.example", "ClientId": "shop", "UseExistingClientSecret": true}),
        },
    };
    assert_eq!(code(&mut built, vec![sign_in.clone()]), Err("InvalidLoadBalancerAction"), "nothing ends it");
    let mut forward = weights(&built, 7, 3).remove(0);
    forward.order = Some(2);
    let ActionKind::Forward(inside) = &mut forward.what else { panic!("it forwards") };
    inside.stickiness = Some(GroupStickiness { enabled: true, duration_seconds: Some(3600) });
    assert_eq!(code(&mut built, vec![sign_in.clone(), forward.clone()]), Ok(()));
    let rules = built.world.describe_rules(Some(&listener), &[]).expect("the listener is there");
    let found = rules.iter().find(|found| found.arn == rule).expect("the rule is listed");
    assert_eq!(found.actions, [sign_in, forward]);
    assert_eq!(rules.last().map(|rule| rule.priority), Some(None), "the default rule comes last");
}

#[test]
fn sticky_target_groups_require_a_sticky_rule() {
    let mut built = built();
    let settings = GroupSettings { stickiness: true, ..GroupSettings::default() };
    built.world.modify_target_group(&built.names.green_group, settings).expect("the group is there");
    let rule = built.names.rule.clone();
    let actions = weights(&built, 50, 50);
    let refused = built.world.modify_rule(&rule, None, Some(actions)).expect_err("it is refused");
    assert_eq!(refused.code, "InvalidConfigurationRequest");
    let groups = [(&built.names.blue_group, 50), (&built.names.green_group, 50)];
    let forward = ForwardActionConfig {
        target_groups: groups.map(|(arn, weight)| WeightedGroup { arn: arn.clone(), weight: Some(weight) }).to_vec(),
        stickiness: Some(GroupStickiness { enabled: true, duration_seconds: Some(60) }),
    };
    let actions = vec![ListenerAction { order: None, what: ActionKind::Forward(forward) }];
    built.world.modify_rule(&rule, None, Some(actions)).expect("now it is taken");
}

#[test]
fn a_target_group_belongs_to_one_load_balancer() {
    let mut built = built();
    let other = built.world.create_load_balancer("other").expect("a second balancer");
    let actions = weights(&built, 1, 1);
    let refused = built.world.create_listener(&other.arn, 80, "HTTP", actions).expect_err("it is refused");
    assert_eq!(refused.code, "TargetGroupAssociationLimit");
}

#[test]
fn deregistering_before_nodes_converge_loses_requests() {
    let mut built = built();
    let new = register_image(&mut built, 1);
    green(&mut built, Some(new), 4);
    advance(&mut built.world, 120);
    assert_eq!(states(&mut built.world, &built.names.green_group), [HealthState::Healthy; 4]);

    let rule = built.names.rule.clone();
    let actions = weights(&built, 0, 100);
    built.world.modify_rule(&rule, None, Some(actions)).expect("the weights are taken");
    let to = |world: &World| match world.route(&rule, 0) {
        Route::To { target_group, .. } => target_group,
        other => panic!("{other:?}"),
    };
    assert_eq!(to(&built.world), built.names.blue_group, "a node follows only after a while");

    // The old side's targets are taken away at once.
    let targets: Vec<ElbTarget> = built
        .world
        .describe_target_health(&built.names.blue_group)
        .expect("the group is there")
        .into_iter()
        .map(|target| target.target)
        .collect();
    built.world.deregister_targets(&built.names.blue_group, &targets).expect("the group is there");
    advance(&mut built.world, 30);
    assert_eq!(to(&built.world), built.names.green_group);
    let lost = built.world.traffic().lost;
    assert!(lost > 0.0, "nodes that still sent to blue found nobody there");
    advance(&mut built.world, 30);
    assert_eq!(built.world.traffic().lost, lost, "after a while nothing is lost any more");
}

#[test]
fn the_load_balancer_fails_open_without_healthy_targets() {
    let mut built = built();
    let becomes_unhealthy = ImageBehaviour { health: Health::LostAfter(Seconds(0)), ..ImageBehaviour::default() };
    let new = register_image(&mut built, 1);
    built.world.set_image(scene::digest_of(1).as_str(), becomes_unhealthy);
    green(&mut built, Some(new), 2);
    let before = built.world.traffic().clone();
    let actions = weights(&built, 0, 100);
    let rule = built.names.rule.clone();
    let mut open = false;
    for _ in 0..60 {
        advance(&mut built.world, 1);
        let states = states(&mut built.world, &built.names.green_group);
        if !states.is_empty() && states.iter().all(|state| *state == HealthState::Initial) {
            built.world.modify_rule(&rule, None, Some(actions.clone())).expect("the weights are taken");
            advance(&mut built.world, 6);
            open = matches!(built.world.route(&rule, 0), Route::To { .. });
            break;
        }
    }
    assert!(open, "requests go to targets that are not healthy, where there are no others");
    assert!(built.world.traffic().requests > before.requests);
}

#[test]
fn an_unattached_target_group_is_unused_and_refused() {
    let mut built = built();
    let blue = built.names.blue_group.clone();
    let listener = built.names.listener.clone();
    let only = |group: &str| vec![ListenerAction::forward([(group, 1)])];
    let green_group = built.names.green_group.clone();
    for rule in [built.names.rule.clone(), built.names.test_rule.clone()] {
        built.world.modify_rule(&rule, None, Some(only(&blue))).expect("the actions are taken");
    }
    built.world.modify_listener(&listener, Some(only(&blue))).expect("the actions are taken");
    built
        .world
        .register_targets(&green_group, &[ElbTarget { id: "10.9.9.9".to_owned(), port: 80 }])
        .expect("it is there");
    let health = built.world.describe_target_health(&green_group).expect("it is there");
    assert_eq!((health[0].state, health[0].reason), (HealthState::Unused, Some("Target.NotInUse")));

    let update = UpdateService {
        cluster: built.names.cluster.clone(),
        service: built.names.green.clone(),
        desired_count: Some(2),
        ..UpdateService::default()
    };
    let refused = built.world.update_service(update).expect_err("it is refused");
    assert_eq!(refused.code, "InvalidParameterException");
    assert!(refused.message.contains("does not have an associated load balancer"), "{refused}");

    // At weight 0 it is attached again, and its targets are checked.
    let actions = weights(&built, 1, 0);
    built.world.modify_listener(&listener, Some(actions)).expect("the actions are taken");
    assert_eq!(states(&mut built.world, &green_group), [HealthState::Initial]);
    advance(&mut built.world, 30);
    assert_eq!(states(&mut built.world, &green_group), [HealthState::Healthy]);
}

#[test]
fn a_rolling_deployment_keeps_enough_healthy_tasks() {
    let mut built = built();
    let new = register_image(&mut built, 1);
    let update = UpdateService {
        cluster: built.names.cluster.clone(),
        service: built.names.blue.clone(),
        task_definition: Some(new.clone()),
        ..UpdateService::default()
    };
    let answer = built.world.update_service(update).expect("blue is there");
    assert_eq!(answer.deployments.len(), 2);
    assert_eq!(answer.deployments[0].rollout_state, RolloutState::InProgress);
    assert_eq!(answer.deployments[1].status, "ACTIVE");
    for _ in 0..300 {
        advance(&mut built.world, 1);
        let healthy = states(&mut built.world, &built.names.blue_group)
            .into_iter()
            .filter(|state| *state == HealthState::Healthy)
            .count();
        assert!(healthy >= 4, "{healthy} healthy targets");
    }
    let blue = service(&mut built, "api-blue");
    assert_eq!((blue.deployments.len(), blue.running_count), (1, 4));
    assert_eq!(blue.deployments[0].rollout_state, RolloutState::Completed);
    assert_eq!(blue.task_definition, new);
    assert_eq!(built.world.traffic().lost, 0.0);
}

#[test]
fn the_circuit_breaker_trips_at_half_the_tasks_minimum_three() {
    let mut scene = PairSetup::new("shop", "api", "dev");
    scene.breaker = CircuitBreaker { enable: true, rollback: false };
    for (desired, threshold) in [(1, 3), (6, 3), (20, 10)] {
        let mut built = scene.build(Settings::default());
        let crash = ImageBehaviour::starting(StartBehaviour::CrashLoop { exit_code: 1, after: Seconds(1) });
        built.world.set_image(scene::digest_of(1).as_str(), crash);
        let new = register_image(&mut built, 1);
        green(&mut built, Some(new), desired);
        advance(&mut built.world, 600);
        let green = service(&mut built, "api-green");
        let deployment = &green.deployments[0];
        assert_eq!(deployment.rollout_state, RolloutState::Failed);
        assert!(deployment.failed_tasks >= threshold, "{} failed tasks", deployment.failed_tasks);
        assert!(deployment.failed_tasks < threshold + desired, "{} failed tasks", deployment.failed_tasks);
        let seen =
            built.world.drain_events().into_iter().any(|event| {
                matches!(event.what, WorldEventKind::Deployment { name: "SERVICE_DEPLOYMENT_FAILED", .. })
            });
        assert!(seen, "the event says that the deployment failed");
        let stopped = ListTasks {
            cluster: built.names.cluster.clone(),
            desired_status: Some("STOPPED".to_owned()),
            ..ListTasks::default()
        };
        let stopped = built.world.list_tasks(stopped).expect("the cluster is there");
        let (tasks, _) = built.world.describe_tasks(&built.names.cluster, &stopped).expect("they are described");
        assert_eq!(tasks[0].stop_code, Some("EssentialContainerExited"));
        assert_eq!(tasks[0].containers[0].exit_code, Some(1));
        // Stopped tasks are forgotten after an hour.
        advance(&mut built.world, 3700);
        let (tasks, failures) = built.world.describe_tasks(&built.names.cluster, &stopped).expect("it answers");
        assert!(tasks.is_empty() && !failures.is_empty());
    }
}

#[test]
fn a_failed_deployment_restarts_only_with_force_new_deployment() {
    let mut scene = PairSetup::new("shop", "api", "dev");
    scene.breaker = CircuitBreaker { enable: true, rollback: false };
    let mut built = scene.build(Settings::default());
    built.world.set_image(scene::digest_of(1).as_str(), ImageBehaviour::starting(StartBehaviour::PullError));
    let new = register_image(&mut built, 1);
    green(&mut built, Some(new.clone()), 2);
    advance(&mut built.world, 600);
    green(&mut built, None, 0);
    advance(&mut built.world, 60);
    built.world.set_image(scene::digest_of(1).as_str(), ImageBehaviour::default());
    green(&mut built, Some(new), 2);
    advance(&mut built.world, 120);
    let stuck = service(&mut built, "api-green");
    assert_eq!((stuck.running_count, stuck.deployments[0].rollout_state), (0, RolloutState::Failed));
    let force = UpdateService {
        cluster: built.names.cluster.clone(),
        service: built.names.green.clone(),
        force_new_deployment: true,
        ..UpdateService::default()
    };
    built.world.update_service(force).expect("green is there");
    advance(&mut built.world, 120);
    let green = service(&mut built, "api-green");
    assert_eq!((green.running_count, green.deployments[0].rollout_state), (2, RolloutState::Completed));
}

#[test]
fn task_definitions_are_stored_completely_and_validated() {
    let mut built = built();
    let model = built.world.describe_task_definition("shop-api-dev").expect("the family is there");
    assert_eq!(model.tags, json!([{"key": "team", "value": "storefront"}]));
    assert_eq!(model.wire()["containerDefinitions"][0]["secrets"][0]["name"], "DATABASE_URL");
    assert_eq!(model.wire()["revision"], 1);
    let code = |built: &mut BuiltPair, document: serde_json::Value| {
        built.world.register_task_definition(document).map(|_| ()).map_err(|error| (error.code, error.message))
    };
    let refused = code(&mut built, model.wire()).expect_err("read-only fields are refused");
    assert_eq!(refused.0, "ClientException");
    let mut document = model.document.clone();
    document["containerDefinitions"][0].as_object_mut().expect("an object").remove("image");
    assert!(code(&mut built, document).is_err(), "a container has an image");
    let second = built.world.register_task_definition(model.document).expect("it is sound");
    assert_eq!(second.revision, 2);
}

#[test]
fn one_client_token_runs_one_task() {
    let mut built = built();
    built.world.set_image(
        scene::digest_of(0).as_str(),
        ImageBehaviour::running(RunTaskBehaviour::Exits { after: Seconds(5), exit_code: 7 }),
    );
    let run = RunTask {
        cluster: built.names.cluster.clone(),
        task_definition: built.names.task_definition.clone(),
        client_token: Some("token".to_owned()),
        started_by: Some("token".to_owned()),
        ..RunTask::default()
    };
    let first = built.world.run_task(run.clone()).expect("it runs").tasks.remove(0);
    let again = built.world.run_task(run.clone()).expect("it is the same").tasks.remove(0);
    assert_eq!(first.task_arn, again.task_arn);
    let other = RunTask { count: Some(2), ..run };
    assert_eq!(built.world.run_task(other).expect_err("it is another request").code, "ConflictException");
    advance(&mut built.world, 60);
    let (tasks, _) = built.world.describe_tasks(&built.names.cluster, &[first.task_arn]).expect("it is described");
    assert_eq!(tasks[0].last_status, LastStatus::Stopped);
    assert_eq!(tasks[0].containers[0].exit_code, Some(7));
}

#[test]
fn scaling_limits_apply_at_once_unless_suspended() {
    let mut built = built();
    let id = format!("service/{}/{}", built.names.cluster, built.names.blue);
    let limits = |min: i64, max: i64, suspended: bool| RegisterScalableTarget {
        service_namespace: "ecs".to_owned(),
        resource_id: id.clone(),
        scalable_dimension: "ecs:service:DesiredCount".to_owned(),
        min_capacity: Some(min),
        max_capacity: Some(max),
        suspended_state: Some(SuspendedState { dynamic_scaling_in_suspended: suspended, ..SuspendedState::default() }),
    };
    built.world.register_scalable_target(limits(6, 10, true)).expect("it is taken");
    assert_eq!(service(&mut built, "api-blue").desired_count, 6);
    let (cluster, blue) = (built.names.cluster.clone(), built.names.blue.clone());
    // 20 requests a second are work for two such tasks.
    built.world.put_scaling_policy(&cluster, &blue, 10.0).expect("it is a scalable target");
    built.world.register_scalable_target(limits(2, 10, true)).expect("it is taken");
    advance(&mut built.world, 600);
    assert_eq!(service(&mut built, "api-blue").desired_count, 6, "scale-in is suspended");
    built.world.register_scalable_target(limits(2, 10, false)).expect("it is taken");
    advance(&mut built.world, 600);
    assert_eq!(service(&mut built, "api-blue").desired_count, 2);
    assert!(built.world.register_scalable_target(limits(5, 4, false)).is_err());
}

fn alarm(built: &BuiltPair, metric: WatchedMetric, treat_missing: TreatMissing) -> MetricAlarm {
    MetricAlarm {
        name: format!("{metric:?}-{treat_missing:?}"),
        metric,
        load_balancer: built.names.load_balancer.clone(),
        target_group: Some(built.names.green_group.clone()),
        period_s: 10,
        evaluation_periods: 2,
        datapoints_to_alarm: 2,
        threshold: 5.0,
        comparison: Comparison::Above,
        treat_missing,
    }
}

fn state(world: &mut World, name: &str) -> AlarmState {
    world.describe_alarms(&[name.to_owned()]).expect("alarms are described").remove(0).state
}

#[test]
fn missing_data_is_treated_as_the_alarm_says() {
    let mut built = built();
    for (treat, expected) in [
        (TreatMissing::Missing, AlarmState::InsufficientData),
        (TreatMissing::NotBreaching, AlarmState::Ok),
        (TreatMissing::Breaching, AlarmState::Alarm),
        (TreatMissing::Ignore, AlarmState::InsufficientData),
    ] {
        let alarm = alarm(&built, WatchedMetric::Target5xxPercent, treat);
        let name = alarm.name.clone();
        built.world.put_metric_alarm(alarm).expect("it is sound");
        assert_eq!(state(&mut built.world, &name), AlarmState::InsufficientData, "it begins without data");
        advance(&mut built.world, 60);
        assert_eq!(state(&mut built.world, &name), expected, "{treat:?}");
    }
}

#[test]
fn without_errors_there_is_no_data_and_errors_fire() {
    let mut built = built();
    let blue = |built: &BuiltPair, metric| MetricAlarm {
        target_group: Some(built.names.blue_group.clone()),
        ..alarm(built, metric, TreatMissing::Missing)
    };
    let (count, percent) = (blue(&built, WatchedMetric::Target5xxCount), blue(&built, WatchedMetric::Target5xxPercent));
    let (by_count, by_percent) = (count.name.clone(), percent.name.clone());
    built.world.put_metric_alarm(count).expect("it is sound");
    built.world.put_metric_alarm(percent).expect("it is sound");
    let rule = format!("ALARM(\"{by_count}\") AND ALARM({by_percent})");
    built.world.put_composite_alarm("both", &rule).expect("the rule is sound");
    advance(&mut built.world, 60);
    assert_eq!(state(&mut built.world, &by_count), AlarmState::InsufficientData, "no 5xx: no data point");
    assert_eq!(state(&mut built.world, &by_percent), AlarmState::Ok, "0 % of the requests");
    assert_eq!(state(&mut built.world, "both"), AlarmState::Ok);

    built.world.set_image(scene::digest_of(0).as_str(), ImageBehaviour::failing(0.2));
    built.world.drain_events();
    advance(&mut built.world, 60);
    for name in [&by_count, &by_percent, "both"] {
        assert_eq!(state(&mut built.world, name), AlarmState::Alarm, "{name}");
    }
    let seen = built.world.drain_events().into_iter().filter_map(|event| event.eventbridge());
    let seen: Vec<_> = seen.filter(|event| event["detail"]["alarmName"] == "both").collect();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0]["detail-type"], "CloudWatch Alarm State Change");
    assert_eq!(seen[0]["detail"]["previousState"]["value"], "OK");

    // Set by hand, it stays until the next evaluation.
    built.world.set_alarm_state(&by_percent, AlarmState::Ok, "by hand").expect("it is there");
    assert_eq!(state(&mut built.world, "both"), AlarmState::Ok);
    advance(&mut built.world, 15);
    assert_eq!(state(&mut built.world, "both"), AlarmState::Alarm);
}

#[test]
fn api_calls_are_throttled_denied_and_logged() {
    let mut built = PairSetup::new("shop", "api", "dev").build(Settings { api_limits: true, ..Settings::default() });
    let document = built.world.describe_task_definition("shop-api-dev").expect("it is there").document;
    let results: Vec<_> = (0..25)
        .map(|_| built.world.register_task_definition(document.clone()).map(|_| ()).map_err(|error| error.code))
        .collect();
    assert_eq!(results.iter().filter(|answer| answer.is_ok()).count(), 20, "a burst of 20");
    assert_eq!(results[24], Err("ThrottlingException"));
    advance(&mut built.world, 2);
    assert!(built.world.register_task_definition(document).is_ok(), "one a second is refilled");
    built.world.deny("elasticloadbalancing:ModifyRule", true);
    let (rule, actions) = (built.names.rule.clone(), weights(&built, 1, 1));
    let denied = built.world.modify_rule(&rule, None, Some(actions.clone())).expect_err("it is denied");
    assert_eq!((denied.code, denied.http_status()), ("AccessDenied", 403));
    built.world.as_third_party(|world| world.modify_rule(&rule, None, Some(actions))).expect("somebody else may");
    let last: Vec<_> = built.world.calls().iter().rev().take(2).map(|call| (call.refused, call.by)).collect();
    use simulation::world::Caller::{Switchback, ThirdParty};
    assert_eq!(last, [(None, ThirdParty), (Some("AccessDenied"), Switchback)]);
}

#[test]
fn a_killed_task_is_replaced() {
    let mut built = built();
    let task = built.world.running_tasks("shop-dev", "api-blue").remove(0);
    built.world.kill_task(&task, 137).expect("it runs");
    assert_eq!(service(&mut built, "api-blue").running_count, 3);
    advance(&mut built.world, 60);
    assert_eq!(service(&mut built, "api-blue").running_count, 4);
    assert_eq!(built.world.traffic().lost, 0.0, "three others were there");
}

#[test]
fn the_same_seed_gives_the_same_events() {
    let run = |seed: u64| {
        let mut built = PairSetup::new("shop", "api", "dev").build(Settings { seed, ..Settings::default() });
        let new = register_image(&mut built, 1);
        green(&mut built, Some(new), 3);
        advance(&mut built.world, 300);
        built.world.drain_events().into_iter().map(|event| (event.at, event.eventbridge())).collect::<Vec<_>>()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn external_tasks_are_requested_and_their_reports_used() {
    let settings = Settings { backend: TaskBackend::External, timing: Timing::quick(), ..Settings::default() };
    let mut world = World::new(settings);
    let group =
        world.create_target_group("group", GroupSettings { deregistration_delay_s: 2, ..GroupSettings::default() });
    let group = group.expect("a group").arn;
    let balancer = world.create_load_balancer("balancer").expect("a balancer").arn;
    let listener = world.create_listener(&balancer, 80, "HTTP", vec![ListenerAction::forward([(group.as_str(), 1)])]);
    let listener = listener.expect("a listener").arn;
    world.create_cluster("demo").expect("a cluster");
    let document = json!({"family": "app", "containerDefinitions": [{"name": "app", "image": "app:1"}]});
    world.register_task_definition(document).expect("it is sound");
    let create = CreateService {
        cluster: "demo".to_owned(),
        service_name: "app".to_owned(),
        task_definition: "app".to_owned(),
        desired_count: 1,
        load_balancers: vec![ServiceLoadBalancer {
            target_group_arn: group.clone(),
            container_name: "app".to_owned(),
            container_port: 80,
        }],
        ..CreateService::default()
    };
    world.create_service(create).expect("it is taken");
    advance(&mut world, 1);
    let requested = world.requested_tasks();
    assert_eq!((requested.len(), requested[0].image.as_str()), (1, "app:1"));
    let seen =
        world.drain_events().into_iter().any(|event| event.what == WorldEventKind::TaskRequested(requested[0].clone()));
    assert!(seen);

    let address = ElbTarget { id: "127.0.0.1".to_owned(), port: 40_001 };
    world.task_running(&requested[0].id, address.clone());
    let health = |world: &mut World| world.describe_target_health(&group).expect("the group is there").remove(0);
    assert_eq!(health(&mut world).state, HealthState::Initial);
    world.target_health(&requested[0].id, true);
    assert_eq!(health(&mut world).target, address);
    assert_eq!(health(&mut world).state, HealthState::Healthy);
    assert_eq!(world.route(&listener, 3), Route::To { target_group: group.clone(), target: address });
    world.record_response(&group, ResponseKind::Status(200), 0.01);
    world.record_response(&group, ResponseKind::Status(502), 0.01);
    let traffic = world.traffic().groups[&group].clone();
    assert_eq!((traffic.served, traffic.errors_5xx), (2.0, 1.0));

    let down = UpdateService {
        cluster: "demo".to_owned(),
        service: "app".to_owned(),
        desired_count: Some(0),
        ..UpdateService::default()
    };
    world.update_service(down).expect("it is taken");
    advance(&mut world, 1);
    assert_eq!(world.requested_tasks().len(), 1, "it drains, and may still have requests to answer");
    advance(&mut world, 3);
    let stop_requested = WorldEventKind::TaskStopRequested { id: requested[0].id.clone() };
    assert!(world.drain_events().into_iter().any(|event| event.what == stop_requested));
    assert!(world.requested_tasks().is_empty());
    world.task_stopped(&requested[0].id, Some(0), "");
    advance(&mut world, 1);
    let (services, _) = world.describe_services("demo", &["app".to_owned()]).expect("it is described");
    assert_eq!((services[0].running_count, services[0].pending_count), (0, 0));
}

#[test]
fn time_never_runs_backwards() {
    let mut built = built();
    let now = built.world.now();
    built.world.advance_to(Timestamp::from_second(0).expect("an instant"));
    assert_eq!(built.world.now(), now);
}
