//! A target behind two load balancers: all its rules move as one, and a side is as healthy as its worst target group.

use super::{HOUR, expect_verdicts, has, lost, scene, set_image};
use rollout::journal::Fact;
use rollout::snapshot::Weights;
use rollout::{Cause, Leg, Slot, Verdict};
use simulation::virtual_time::{Faults, PushAnnouncement, Simulation};
use simulation::world::balancer::{ActionKind, ListenerAction};
use simulation::world::{ImageBehaviour, Settings};

const ALL_BLUE: (i64, i64) = (100, 0);

fn simulation() -> Simulation {
    let mut scene = scene();
    scene.internal_balancer = true;
    Simulation::new(scene.build(Settings::default()), Faults::default())
}

fn internal(simulation: &Simulation) -> Leg {
    simulation.names().internal.clone().expect("the scene has an internal balancer")
}

fn split(actions: &[ListenerAction], blue: &str, green: &str) -> (i64, i64) {
    let ActionKind::Forward(forward) = &actions[0].what else { panic!("it forwards") };
    let weight = |group: &str| {
        forward.target_groups.iter().find(|found| found.arn == group).and_then(|found| found.weight).unwrap_or(0)
    };
    (weight(blue), weight(green))
}

/// Weights of the public rule, and of the internal listener.
fn weights(simulation: &Simulation) -> [(i64, i64); 2] {
    let (names, internal) = (simulation.names().clone(), internal(simulation));
    simulation.world(|world| {
        let rules = world.describe_rules(None, std::slice::from_ref(&names.rule)).expect("it is there");
        let listeners = world.describe_listeners(None, &internal.rules).expect("it is there");
        [
            split(&rules[0].actions, &names.blue_group, &names.green_group),
            split(&listeners[0].default_actions, &internal.blue, &internal.green),
        ]
    })
}

/// Runs until the candidate has 10 % of the traffic.
fn run_until_shifting(simulation: &mut Simulation) {
    let tenth = Fact::WeightsVerified { weights: Weights { blue: 90, green: 10 } };
    let moved = simulation.run_until_condition(HOUR, |simulation| has(simulation, |fact| *fact == tenth));
    assert!(moved, "no traffic moved\n{}", simulation.journal_text());
}

#[test]
fn traffic_moves_on_both_balancers_as_one() {
    let mut simulation = simulation();
    simulation.push(1, PushAnnouncement::Event);
    run_until_shifting(&mut simulation);
    assert_eq!(weights(&simulation), [(90, 10); 2], "\n{}", simulation.journal_text());
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Succeeded]);
    assert_eq!(weights(&simulation), [(0, 100); 2], "\n{}", simulation.journal_text());
    assert_eq!(lost(&simulation), 0.0, "\n{}", simulation.journal_text());
}

#[test]
fn a_bad_release_goes_back_on_both_balancers() {
    let mut simulation = simulation();
    set_image(&simulation, 1, ImageBehaviour { error_rate: 0.5, ..ImageBehaviour::default() });
    simulation.push(1, PushAnnouncement::Event);
    expect_verdicts(&mut simulation, HOUR, &[Verdict::RolledBack]);
    assert_eq!(weights(&simulation), [ALL_BLUE; 2], "\n{}", simulation.journal_text());
}

/// Targets that are healthy behind the public balancer serve nobody behind the internal one.
#[test]
fn a_candidate_that_is_down_behind_one_balancer_goes_back_on_both() {
    let mut simulation = simulation();
    simulation.push(1, PushAnnouncement::Event);
    run_until_shifting(&mut simulation);
    let green = internal(&simulation).target_group(Slot::Green).to_owned();
    simulation.world(|world| {
        let targets = world.describe_target_health(&green).expect("the group is there");
        let targets: Vec<_> = targets.into_iter().map(|found| found.target).collect();
        world.as_third_party(|world| world.deregister_targets(&green, &targets)).expect("anybody may do so");
    });
    expect_verdicts(&mut simulation, HOUR, &[Verdict::RolledBack]);
    let unhealthy = |fact: &Fact| matches!(fact, Fact::RollbackStarted { cause: Cause::Unhealthy { .. }, .. });
    assert!(has(&simulation, unhealthy), "\n{}", simulation.journal_text());
    assert_eq!(weights(&simulation), [ALL_BLUE; 2], "\n{}", simulation.journal_text());
}

#[test]
fn an_edit_behind_one_balancer_holds_both() {
    let mut simulation = simulation();
    simulation.push(1, PushAnnouncement::Event);
    run_until_shifting(&mut simulation);
    let leg = internal(&simulation);
    let edited = vec![ListenerAction::forward([(leg.blue.as_str(), 70), (leg.green.as_str(), 30)])];
    simulation.world(|world| {
        world.as_third_party(|world| world.modify_listener(&leg.rules[0], Some(edited))).expect("anybody may do so")
    });
    simulation.run_for(300);
    assert!(has(&simulation, |fact| matches!(fact, Fact::Halted { .. })), "\n{}", simulation.journal_text());
    assert_eq!(weights(&simulation), [(90, 10), (70, 30)], "\n{}", simulation.journal_text());
    // Put back by the same hand: the deployment goes on.
    let restored = vec![ListenerAction::forward([(leg.blue.as_str(), 90), (leg.green.as_str(), 10)])];
    simulation.world(|world| {
        world.as_third_party(|world| world.modify_listener(&leg.rules[0], Some(restored))).expect("anybody may do so")
    });
    expect_verdicts(&mut simulation, HOUR, &[Verdict::Succeeded]);
    assert_eq!(weights(&simulation), [(0, 100); 2], "\n{}", simulation.journal_text());
}

/// The rule of one balancer cannot be written: the other one does not stay ahead of it.
#[test]
fn where_one_balancer_cannot_be_written_traffic_goes_back_on_all() {
    let mut simulation = simulation();
    simulation.push(1, PushAnnouncement::Event);
    run_until_shifting(&mut simulation);
    let listener = "elasticloadbalancing:ModifyListener";
    simulation.world(|world| world.deny(listener, true));
    let half = Fact::WeightsDecided { weights: Weights { blue: 50, green: 50 } };
    let decided = simulation.run_until_condition(HOUR, |simulation| has(simulation, |fact| *fact == half));
    assert!(decided, "\n{}", simulation.journal_text());
    simulation.run_for(60);
    simulation.world(|world| world.deny(listener, false));
    expect_verdicts(&mut simulation, HOUR, &[Verdict::RolledBack]);
    assert_eq!(weights(&simulation), [ALL_BLUE; 2], "\n{}", simulation.journal_text());
}
