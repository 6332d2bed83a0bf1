//! Revisions that are gone, services that sleep, schedules, and tasks that find no place yet.

use super::*;

/// v1 and v2 are deployed, one after the other: v2 serves on blue, green still has v1's task definition.
fn simulation_with_two_releases() -> (Simulation, String) {
    let mut simulation = simulation(&scene());
    for number in [1, 2] {
        simulation.push(number, PushAnnouncement::Event);
        assert!(simulation.run_until_idle(HOUR), "{}", simulation.journal_text());
    }
    let previous = simulation.state().and_then(|state| state.previous).expect("v1 was stable before");
    let deregistered =
        simulation.world(|world| world.as_third_party(|world| world.deregister_task_definition(&previous.version)));
    assert_eq!(deregistered.expect("it is there").status, "INACTIVE");
    (simulation, previous.version)
}

/// API reference, `DeregisterTaskDefinition`: a service that has an INACTIVE revision may still be scaled.
#[test]
fn a_rollback_reuses_a_deregistered_revision_still_on_its_side() {
    let (mut simulation, previous) = simulation_with_two_releases();
    simulation.send_command(Instruction::Rollback, "v2 is slow");
    let all = [Verdict::Succeeded; 3];
    expect_verdicts(&mut simulation, HOUR, &all);
    assert_eq!(weights(&simulation), (0, 100), "\n{}", simulation.journal_text());
    let stable = simulation.state().and_then(|state| state.stable).expect("there is a stable side");
    assert_eq!(stable.version, previous, "\n{}", simulation.journal_text());
}

/// API reference, `DeregisterTaskDefinition`: no service can be updated to an INACTIVE revision.
#[test]
fn a_rollback_registers_a_deregistered_revision_again() {
    let (mut simulation, previous) = simulation_with_two_releases();
    let names = simulation.names().clone();
    // Somebody has put something else on the idle side.
    let other = UpdateService {
        cluster: names.cluster.clone(),
        service: names.green.clone(),
        task_definition: Some(names.task_definition.clone()),
        ..UpdateService::default()
    };
    simulation.world(|world| world.as_third_party(|world| world.update_service(other))).expect("green is there");
    simulation.run_for(120);
    simulation.send_command(Instruction::Rollback, "v2 is slow");
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Succeeded; 3]);
    let stable = simulation.state().and_then(|state| state.stable).expect("there is a stable side");
    assert_ne!(stable.version, previous, "\n{}", simulation.journal_text());
    let document = |arn: &str| {
        simulation
            .world(|world| world.describe_task_definition(arn))
            .expect("an inactive one is described, too")
            .document
    };
    assert_eq!(document(&stable.version), document(&previous), "the same document");
    assert_eq!(stable.release.map(|release| release.tag).as_deref(), Some("v1"));
}

#[test]
fn a_push_to_a_service_scaled_to_zero_waits() {
    let mut simulation = simulation(&scene());
    simulation.push(1, PushAnnouncement::Event);
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Succeeded]);
    let names = simulation.names().clone();
    let desired = |simulation: &Simulation, desired_count| {
        let update = UpdateService {
            cluster: names.cluster.clone(),
            service: names.green.clone(),
            desired_count: Some(desired_count),
            ..UpdateService::default()
        };
        simulation.world(|world| world.as_third_party(|world| world.update_service(update))).expect("green is there");
    };
    desired(&simulation, 0);
    simulation.run_for(120);
    simulation.push(2, PushAnnouncement::Event);
    simulation.run_for(300);
    let calls = simulation.calls();
    simulation.run_for(9 * HOUR);
    assert_eq!(simulation.stage_name(), Some("gated"), "\n{}", simulation.journal_text());
    let asked = simulation.calls() - calls;
    assert!(asked < 9 * 120, "{asked} calls in nine hours");
    desired(&simulation, 4);
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Succeeded; 2]);
    assert_eq!(tasks(&simulation), [(4, 4), (0, 0)], "\n{}", simulation.journal_text());
    assert!(has(&simulation, |fact| matches!(fact, Fact::BlockedByGate { gate: rollout::Gate::Asleep, .. })));
}

#[test]
fn a_scheduled_action_during_a_deployment_is_applied() {
    let mut scene = scene();
    scene.autoscaling = Some((2, 8));
    let mut simulation = simulation(&scene);
    let names = simulation.names().clone();
    let at = Seconds(120).after(simulation.now());
    let morning = PutScheduledAction {
        resource_id: format!("service/{}/{}", names.cluster, names.blue),
        name: "morning".to_owned(),
        schedule: format!("at({})", at.strftime("%Y-%m-%dT%H:%M:%S")),
        min: Some(6),
        max: Some(20),
        ..PutScheduledAction::default()
    };
    simulation.world(|world| world.as_third_party(|world| world.put_scheduled_action(morning))).expect("it is sound");
    simulation.push(1, PushAnnouncement::Event);
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Succeeded]);
    let journal_text = simulation.journal_text();
    let scheduled_limits_returned = |fact: &Fact| matches!(fact, Fact::AutoscalingRestored { slot: Slot::Green, min: 6, max: 20, scheduled } if scheduled == &["morning"]);
    assert!(has(&simulation, scheduled_limits_returned), "\n{journal_text}");
    assert_eq!(tasks(&simulation), [(0, 0), (6, 6)], "\n{journal_text}");
}

#[test]
fn scheduled_actions_run_unless_suspended() {
    let mut scene = scene();
    scene.autoscaling = Some((2, 8));
    let simulation = simulation(&scene);
    let names = simulation.names().clone();
    let id = format!("service/{}/{}", names.cluster, names.blue);
    let rate_action = |minutes: u32, min: u32| PutScheduledAction {
        resource_id: id.clone(),
        name: "often".to_owned(),
        schedule: format!("rate({minutes} minutes)"),
        min: Some(min),
        ..PutScheduledAction::default()
    };
    let suspend = |suspended: bool| RegisterScalableTarget {
        service_namespace: "ecs".to_owned(),
        resource_id: id.clone(),
        scalable_dimension: "ecs:service:DesiredCount".to_owned(),
        suspended_state: Some(SuspendedState { scheduled_scaling_suspended: suspended, ..SuspendedState::default() }),
        ..RegisterScalableTarget::default()
    };
    simulation.world(|world| {
        let advance = |world: &mut simulation::world::World, seconds: u64| {
            let at = Seconds(seconds).after(world.now());
            world.advance_to(at);
        };
        let desired = |world: &simulation::world::World| world.desired_of(&(names.cluster.clone(), names.blue.clone()));
        world.register_scalable_target(suspend(true)).expect("it is taken");
        world.put_scheduled_action(rate_action(1, 6)).expect("it is sound");
        advance(world, 90);
        assert_eq!(desired(world), 4, "it is suspended");
        world.register_scalable_target(suspend(false)).expect("it is taken");
        assert_eq!(desired(world), 4, "and is not made up for");
        advance(world, 60);
        assert_eq!(desired(world), 6);
        assert_eq!(world.describe_scheduled_actions(&id).expect("they are read").len(), 1);
        assert!(world.put_scheduled_action(rate_action(0, 6)).is_err(), "a schedule that is none");
    });
}

#[test]
fn placement_waits_for_capacity_that_arrives_late() {
    let mut simulation = simulation(&scene());
    // What the scene's services are placed by; a strategy of providers is placed by its first one.
    simulation.world(|world| world.set_capacity("FARGATE", false));
    simulation.push(1, PushAnnouncement::Event);
    simulation.run_for(300);
    let journal_text = simulation.journal_text();
    assert_eq!(simulation.stage_name(), Some("scaling"), "\n{journal_text}");
    let waits = format!("{:?}", simulation.state().map(|state| state.explanation));
    assert!(waits.contains("capacity of FARGATE"), "{waits}");
    simulation.world(|world| world.set_capacity("FARGATE", true));
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Succeeded]);
}

#[test]
fn a_side_with_zero_limits_takes_the_live_sides_limits() {
    let mut scene = scene();
    scene.autoscaling = Some((2, 8));
    let mut simulation = simulation(&scene);
    let names = simulation.names().clone();
    let parked = RegisterScalableTarget {
        service_namespace: "ecs".to_owned(),
        resource_id: format!("service/{}/{}", names.cluster, names.green),
        scalable_dimension: "ecs:service:DesiredCount".to_owned(),
        min_capacity: Some(0),
        max_capacity: Some(0),
        ..RegisterScalableTarget::default()
    };
    simulation
        .world(|world| world.as_third_party(|world| world.register_scalable_target(parked)))
        .expect("it is taken");
    simulation.push(1, PushAnnouncement::Event);
    let max = |simulation: &Simulation, service: &str| {
        let asked = DescribeScalableTargets {
            service_namespace: "ecs".to_owned(),
            resource_ids: vec![format!("service/{}/{service}", names.cluster)],
            ..DescribeScalableTargets::default()
        };
        simulation.world(|world| world.describe_scalable_targets(asked)).expect("they are read")[0].max_capacity
    };
    assert!(simulation.run_until_condition(HOUR, |simulation| simulation.stage_name() == Some("shifting")));
    assert_eq!(max(&simulation, &names.green), 8);
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Succeeded]);
    assert_eq!(
        (max(&simulation, &names.green), max(&simulation, &names.blue)),
        (8, 0),
        "\n{}",
        simulation.journal_text()
    );
}
