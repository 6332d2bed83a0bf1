//! Reasons to go back, while somebody else edits, both sides are ill, or the stable side itself is.

use crate::edits::idle_on_green;
use crate::{ALL_BLUE, ALL_GREEN, HALF, assert_back_on_blue};
use rollout::snapshot::Weights;
use rollout::{Fact, Slot, Verdict};
use serde_json::json;
use simulation::world::alarms::AlarmState;
use simulation::world::{ImageBehaviour, PairNames};
use std::time::Duration;
use tests::front::Call;
use tests::harness::scenario::{Scenario, ScenarioOptions, good};
use tests::harness::suite::Test;

/// Names of tests, with their functions.
pub(crate) const TESTS: &[Test] = &[
    ("a_firing_alarm_goes_back_over_edits_that_favour_the_candidate", a_firing_alarm_rolls_back_over_foreign_edits),
    ("after_a_first_deployment_left_the_rules_split_one_command_leads_out", a_rollback_command_repairs_split_rules),
    (
        "a_stable_release_whose_traffic_somebody_took_is_deployed_again",
        a_stable_release_that_lost_its_traffic_can_be_redeployed,
    ),
    (
        "where_neither_side_can_serve_nothing_is_moved_and_nothing_taken_down",
        with_both_sides_unhealthy_nothing_is_moved_or_stopped,
    ),
    (
        "the_stable_sides_own_alarm_moves_nothing_onto_it_until_a_person_decides",
        a_stable_side_alarm_waits_for_an_operator,
    ),
];

const DEADLINES: &str = "{preflight: 30s, register: 30s, healthy: 60s, shift: 120s, retire: 30s, rollback: 120s}";

fn wait_for_verified_weights(scenario: &Scenario, wanted: Weights) {
    scenario.fact("that the weights were seen live", |fact| match fact {
        Fact::WeightsVerified { weights } if *weights == wanted => Some(()),
        _ => None,
    });
}

/// What was found where Switchback wrote over somebody else's weights, and why it did.
fn replaced_weights(fact: &Fact) -> Option<(String, String)> {
    match fact {
        Fact::ForeignWeightsReplaced { found, cause, .. } => Some((found.clone(), cause.clone())),
        _ => None,
    }
}

fn a_firing_alarm_rolls_back_over_foreign_edits() {
    let strategy = "{steps: [{traffic: 50%, hold: 90s}, {traffic: 100%}], bake: 1s, keep_warm: 0, drain: 15s}";
    let scenario =
        Scenario::new("favoured", &ScenarioOptions { strategy, deadlines: DEADLINES, ..ScenarioOptions::default() });
    let _digest = scenario.push("v1", good());
    assert_eq!(scenario.wait_for_weights_change(ALL_BLUE), HALF);
    wait_for_verified_weights(&scenario, HALF);
    scenario.edit_weights(10, 90);
    let (fired_at, reason) = (tests::harness::now(), "the till is empty");
    scenario.set_manual_alarm(AlarmState::Alarm, reason);
    let (found, cause) = scenario.fact("whose weights were replaced", replaced_weights);
    assert!(found.contains("blue 10 / green 90"), "{found}");
    assert!(cause.contains(&scenario.manual_alarm()), "{cause}");
    wait_for_verified_weights(&scenario, ALL_BLUE);
    let back = scenario.journal().iter().find_map(|entry| match &entry.fact {
        Fact::WeightsVerified { weights } if *weights == ALL_BLUE => Some(entry.at),
        _ => None,
    });
    let took = back.map(|at| at.duration_since(fired_at).as_secs());
    assert!(took.is_some_and(|seconds| seconds < 60), "{took:?} s after the alarm");

    // Somebody does it again while the rollback drains the candidate.
    scenario.edit_weights(30, 70);
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::RolledBack), "{}", record.reason);
    assert!(record.reason.contains(reason), "{}", record.reason);
    let all: Vec<_> = scenario.journal().iter().filter_map(|entry| replaced_weights(&entry.fact)).collect();
    assert!(all.len() == 2 && all[1].0.contains("blue 30 / green 70"), "{all:?}");
    assert_back_on_blue(&scenario);
}

/// With a short time for a halted step.
const SHORT_SHIFT_DEADLINE: &str =
    "{preflight: 30s, register: 30s, healthy: 30s, shift: 10s, retire: 30s, rollback: 30s}";

fn a_rollback_command_repairs_split_rules() {
    let strategy = "{steps: [{traffic: 50%, hold: 20s}, {traffic: 100%}], bake: 1s, keep_warm: 0, drain: 1s}";
    let scenario = Scenario::new(
        "split",
        &ScenarioOptions { strategy, deadlines: SHORT_SHIFT_DEADLINE, ..ScenarioOptions::default() },
    );
    let _digest = scenario.push("v1", good());
    assert_eq!(scenario.wait_for_weights_change(ALL_BLUE), HALF);
    wait_for_verified_weights(&scenario, HALF);
    scenario.edit_weights(40, 60);
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::Failed), "{}", record.reason);
    let edited = Weights { blue: 40, green: 60 };
    assert_eq!(scenario.weights(), edited, "nothing is written over it to go forward");
    let status = scenario.operations().status().unwrap_or_else(|failure| panic!("{failure}"));
    let seen = status.state.traffic.as_ref().map(|traffic| traffic.rules.clone());
    assert_eq!(seen, Some(vec![Some(edited)]), "status has what carries traffic");
    assert!(status.state.drift().is_some());

    // What is pushed waits, once, and says what to do; a newer release takes its place.
    let blocked_reason = |number: u64| {
        scenario.expect(&format!("{number} says what it waits for"), Duration::from_secs(60), || {
            let entries = scenario.journal();
            let found = entries.iter().find_map(|entry| match &entry.fact {
                Fact::Blocked { reason } if entry.deployment == Some(number) => Some(reason.clone()),
                _ => None,
            });
            found.ok_or_else(|| "not yet".to_owned())
        })
    };
    let _digest = scenario.push("v2", good());
    assert!(blocked_reason(2).contains("switchback rollback"));
    let _digest = scenario.push("v3", good());
    assert!(blocked_reason(3).contains("switchback rollback"));
    let second = scenario.verdict(2);
    assert_ne!(second.verdict, Some(Verdict::Failed), "{}", second.reason);
    assert_eq!(scenario.weights(), edited);

    scenario.operations().rollback("the rules are split").unwrap_or_else(|failure| panic!("{failure}"));
    scenario.expect("all traffic is on blue", Duration::from_secs(60), || match scenario.weights() {
        ALL_BLUE => Ok(()),
        other => Err(format!("{other:?}")),
    });
    scenario.expect("nothing is left over", Duration::from_secs(60), || {
        let status = scenario.operations().status().map_err(|failure| failure.0)?;
        match (&status.state.running, status.state.drift()) {
            (None, None) => Ok(()),
            (running, drift) => Err(format!("{drift:?}, {running:?}")),
        }
    });
}

fn a_stable_release_that_lost_its_traffic_can_be_redeployed() {
    let strategy = "{steps: [{traffic: 50%, hold: 20s}, {traffic: 100%}], bake: 1s, keep_warm: 0, drain: 1s}";
    let scenario = idle_on_green(
        "taken",
        &ScenarioOptions { strategy, deadlines: SHORT_SHIFT_DEADLINE, ..ScenarioOptions::default() },
    );
    let _digest = scenario.push("v2", good());
    assert_eq!(scenario.wait_for_weights_change(ALL_GREEN), HALF);
    scenario.expect("50/50 was seen live again", Duration::from_secs(30), || {
        let entries = scenario.journal();
        let seen = entries.iter().any(|entry| {
            entry.deployment == Some(2) && matches!(entry.fact, Fact::WeightsVerified { weights } if weights == HALF)
        });
        if seen { Ok(()) } else { Err("not yet".to_owned()) }
    });
    // An apply gives everything to the candidate, and no alarm says anything.
    scenario.edit_weights(100, 0);
    let record = scenario.verdict(2);
    assert_eq!(record.verdict, Some(Verdict::Failed), "{}", record.reason);
    assert_eq!(scenario.weights(), ALL_BLUE);
    scenario.operations().deploy("v1", "v1 is what should be live").unwrap_or_else(|failure| panic!("{failure}"));
    let record = scenario.verdict(3);
    assert_eq!(scenario.weights(), ALL_GREEN, "{}", record.reason);
    assert_eq!(record.release.tag, "v1");
    let status = scenario.operations().status().unwrap_or_else(|failure| panic!("{failure}"));
    assert!(status.state.drift().is_none());
    assert!(!scenario.journal().iter().any(|entry| matches!(entry.fact, Fact::CommandRefused { .. })));
}

fn with_both_sides_unhealthy_nothing_is_moved_or_stopped() {
    let strategy = "{steps: [{traffic: 50%, hold: 15s}, {traffic: 100%}], bake: 1s, keep_warm: 0, drain: 1s}";
    let deadlines = "{preflight: 30s, register: 30s, healthy: 30s, shift: 120s, retire: 30s, rollback: 15s}";
    let scenario = Scenario::new("both", &ScenarioOptions { strategy, deadlines, ..ScenarioOptions::default() });
    let first = scenario.push("v1", good());
    assert_eq!(scenario.verdict(1).verdict, Some(Verdict::Succeeded));
    let second = scenario.push("v2", good());
    assert_eq!(scenario.wait_for_weights_change(ALL_GREEN), HALF);
    let from = scenario.calls().len();
    // What both need is down: no task of either is healthy any more.
    for digest in [&first, &second] {
        scenario.stack().front().world().set_image(digest, ImageBehaviour::never_healthy());
    }
    for slot in [Slot::Green, Slot::Blue] {
        scenario.stop_tasks(slot, usize::MAX);
    }
    let evidence = scenario.fact("that neither side can serve", |fact| match fact {
        Fact::RollbackBlocked { reason } => Some(reason.clone()),
        _ => None,
    });
    assert!(evidence.contains("blue has 0 healthy") && evidence.contains("green has 0 healthy"), "{evidence}");
    let record = scenario.verdict(2);
    assert_eq!(record.verdict, Some(Verdict::Failed), "{}", record.reason);
    assert_eq!(scenario.weights(), HALF, "never from a side to one that cannot serve either");
    // ECS starts what fails its health checks again, at longer and longer intervals: what counts is what it is set to run.
    let PairNames { cluster, blue, green, .. } = scenario.names();
    for service in [blue, green] {
        let key = (cluster.clone(), service.clone());
        assert_eq!(scenario.stack().front().world().desired_of(&key), 2, "{service} is left up");
    }
    let after = scenario.calls().split_off(from);
    let took_down = |call: &&Call| call.operation == "UpdateService" && call.parameters["desiredCount"] == json!(0);
    assert_eq!(after.iter().filter(took_down).count(), 0, "nothing is taken down");
    let called = scenario.journal().iter().filter(|entry| matches!(entry.fact, Fact::RollbackBlocked { .. })).count();
    assert_eq!(called, 1, "people are called once, though the counts change");
}

fn a_stable_side_alarm_waits_for_an_operator() {
    let strategy = "{steps: [{traffic: 50%, hold: 10s}, {traffic: 100%}], bake: 1s, keep_warm: 0, drain: 1s}";
    let scenario =
        Scenario::new("accused", &ScenarioOptions { strategy, deadlines: DEADLINES, ..ScenarioOptions::default() });
    let first = scenario.push("v1", good());
    assert_eq!(scenario.verdict(1).verdict, Some(Verdict::Succeeded));
    scenario.wait_until_alarms_are_ok();
    let _second = scenario.push("v2", good());
    assert_eq!(scenario.wait_for_weights_change(ALL_GREEN), HALF);
    // The old release fails: whatever of it starts from now on answers with errors.
    scenario.stack().front().world().set_image(&first, ImageBehaviour { error_rate: 1.0, ..good() });
    scenario.stop_tasks(Slot::Green, 1);
    let alarm = scenario.fact("whose alarm it is", |fact| match fact {
        Fact::StableAlarm { alarm, .. } => Some(alarm.clone()),
        _ => None,
    });
    assert_eq!(alarm, scenario.names().green_alarm);
    // Longer than the hold.
    scenario.expect("it waits", Duration::from_secs(60), || {
        let status = scenario.operations().status().map_err(|failure| failure.0)?;
        let running = status.state.running.as_ref().ok_or("it has ended")?;
        let since = tests::harness::now().duration_since(running.started_at).as_secs();
        if since > 30 { Ok(()) } else { Err(format!("for {since} s")) }
    });
    assert_eq!(scenario.weights(), HALF, "neither on nor back");
    scenario.operations().resume("v2 is what we want").unwrap_or_else(|failure| panic!("{failure}"));
    let record = scenario.verdict(2);
    assert_eq!(record.verdict, Some(Verdict::Succeeded), "{}", record.reason);
    assert_eq!(scenario.weights(), ALL_BLUE);
}
