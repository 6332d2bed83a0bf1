//! Revisions that are gone, services that sleep, schedules, and tasks that find no place yet.

use super::*;

/// v1 and v2 are deployed, one after the other: v2 serves on blue, green still has v1's task definition.
fn two_deployed() -> (Simulation, String) {
    let mut simulation = simulation(&scene());
    for number in [1, 2] {
        simulation.push(number, Started::Event);
        assert!(simulation.run_until_rest(HOUR), "{}", simulation.story());
    }
    let previous = simulation.state().and_then(|state| state.previous).expect("v1 was stable before");
    let deregistered =
        simulation.world(|world| world.by_hand(|world| world.deregister_task_definition(&previous.task_definition)));
    assert_eq!(deregistered.expect("it is there").status, "INACTIVE");
    (simulation, previous.task_definition)
}

#[test]
fn a_rollback_keeps_a_deregistered_revision_that_its_side_has() {
    let (mut simulation, previous) = two_deployed();
    simulation.ask(Instruction::Rollback, "v2 is slow");
    let all = [Verdict::Succeeded; 3];
    ends(&mut simulation, HOUR, &all);
    assert_eq!(weights(&simulation), (0, 100), "\n{}", simulation.story());
    let stable = simulation.state().and_then(|state| state.stable).expect("there is a stable side");
    assert_eq!(stable.task_definition, previous, "\n{}", simulation.story());
}

#[test]
fn a_rollback_makes_a_deregistered_revision_anew_where_no_side_has_it() {
    let (mut simulation, previous) = two_deployed();
    let names = simulation.names().clone();
    // Somebody has put something else on the idle side.
    let other = UpdateService {
        cluster: names.cluster.clone(),
        service: names.green.clone(),
        task_definition: Some(names.task_definition.clone()),
        ..UpdateService::default()
    };
    simulation.world(|world| world.by_hand(|world| world.update_service(other))).expect("green is there");
    simulation.run_for(120);
    simulation.ask(Instruction::Rollback, "v2 is slow");
    ends(&mut simulation, HOUR, &[Verdict::Succeeded; 3]);
    let stable = simulation.state().and_then(|state| state.stable).expect("there is a stable side");
    assert_ne!(stable.task_definition, previous, "\n{}", simulation.story());
    let document = |arn: &str| {
        simulation
            .world(|world| world.describe_task_definition(arn))
            .expect("an inactive one is described, too")
            .document
    };
    assert_eq!(document(&stable.task_definition), document(&previous), "the same document");
    assert_eq!(stable.release.map(|release| release.tag).as_deref(), Some("v1"));
}

#[test]
fn a_push_at_night_goes_out_in_the_morning() {
    let mut simulation = simulation(&scene());
    simulation.push(1, Started::Event);
    ends(&mut simulation, HOUR, &[Verdict::Succeeded]);
    let names = simulation.names().clone();
    let desired = |simulation: &Simulation, desired_count| {
        let update = UpdateService {
            cluster: names.cluster.clone(),
            service: names.green.clone(),
            desired_count: Some(desired_count),
            ..UpdateService::default()
        };
        simulation.world(|world| world.by_hand(|world| world.update_service(update))).expect("green is there");
    };
    desired(&simulation, 0);
    simulation.run_for(120);
    simulation.push(2, Started::Event);
    simulation.run_for(300);
    let calls = simulation.calls();
    simulation.run_for(9 * HOUR);
    assert_eq!(simulation.stage_name(), Some("gated"), "\n{}", simulation.story());
    let asked = simulation.calls() - calls;
    assert!(asked < 9 * 120, "{asked} calls in nine hours");
    desired(&simulation, 4);
    ends(&mut simulation, HOUR, &[Verdict::Succeeded; 2]);
    assert_eq!(tasks(&simulation), [(4, 4), (0, 0)], "\n{}", simulation.story());
    assert!(has(&simulation, |fact| matches!(fact, Fact::GateWaits { gate: rollout::Gate::Asleep, .. })));
}

#[test]
fn a_scheduled_action_that_falls_into_a_deployment_is_not_lost() {
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
    simulation.world(|world| world.by_hand(|world| world.put_scheduled_action(morning))).expect("it is sound");
    simulation.push(1, Started::Event);
    ends(&mut simulation, HOUR, &[Verdict::Succeeded]);
    let story = simulation.story();
    let told = |fact: &Fact| matches!(fact, Fact::AutoscalingReturned { slot: Slot::Green, min: 6, max: 20, scheduled } if scheduled == &["morning"]);
    assert!(has(&simulation, told), "\n{story}");
    assert_eq!(tasks(&simulation), [(0, 0), (6, 6)], "\n{story}");
}

#[test]
fn a_suspended_schedule_does_nothing_and_one_that_is_not_moves_limits_and_tasks() {
    let mut scene = scene();
    scene.autoscaling = Some((2, 8));
    let simulation = simulation(&scene);
    let names = simulation.names().clone();
    let id = format!("service/{}/{}", names.cluster, names.blue);
    let every = |minutes: u32, min: u32| PutScheduledAction {
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
        let pass = |world: &mut simulation::world::World, seconds: u64| {
            let at = Seconds(seconds).after(world.now());
            world.advance_to(at);
        };
        let desired = |world: &simulation::world::World| world.desired_of(&(names.cluster.clone(), names.blue.clone()));
        world.register_scalable_target(suspend(true)).expect("it is taken");
        world.put_scheduled_action(every(1, 6)).expect("it is sound");
        pass(world, 90);
        assert_eq!(desired(world), 4, "it is suspended");
        world.register_scalable_target(suspend(false)).expect("it is taken");
        assert_eq!(desired(world), 4, "and is not made up for");
        pass(world, 60);
        assert_eq!(desired(world), 6);
        assert_eq!(world.describe_scheduled_actions(&id).expect("they are read").len(), 1);
        assert!(world.put_scheduled_action(every(0, 6)).is_err(), "a schedule that is none");
    });
}

#[test]
fn spot_capacity_that_comes_after_five_minutes_is_waited_for() {
    let mut simulation = simulation(&scene());
    // What the scene's services are placed by; a strategy of providers is placed by its first one.
    simulation.world(|world| world.set_capacity("FARGATE", false));
    simulation.push(1, Started::Event);
    simulation.run_for(300);
    let story = simulation.story();
    assert_eq!(simulation.stage_name(), Some("scaling"), "\n{story}");
    let waits = format!("{:?}", simulation.state().map(|state| state.explanation));
    assert!(waits.contains("capacity of FARGATE"), "{waits}");
    simulation.world(|world| world.set_capacity("FARGATE", true));
    ends(&mut simulation, HOUR, &[Verdict::Succeeded]);
}

#[test]
fn a_side_that_is_parked_at_none_grows_as_far_as_the_live_one() {
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
    simulation.world(|world| world.by_hand(|world| world.register_scalable_target(parked))).expect("it is taken");
    simulation.push(1, Started::Event);
    let max = |simulation: &Simulation, service: &str| {
        let asked = DescribeScalableTargets {
            service_namespace: "ecs".to_owned(),
            resource_ids: vec![format!("service/{}/{service}", names.cluster)],
            ..DescribeScalableTargets::default()
        };
        simulation.world(|world| world.describe_scalable_targets(asked)).expect("they are read")[0].max_capacity
    };
    assert!(simulation.run_until_that(HOUR, |simulation| simulation.stage_name() == Some("shifting")));
    assert_eq!(max(&simulation, &names.green), 8);
    ends(&mut simulation, HOUR, &[Verdict::Succeeded]);
    assert_eq!((max(&simulation, &names.green), max(&simulation, &names.blue)), (8, 0), "\n{}", simulation.story());
}
