//! What a release does: it goes live, or fails, or is rolled back by its alarm or by an operator.

use crate::{ALL_BLUE, ALL_GREEN, HALF, LONG_HOLD, assert_back_on_blue};
use rollout::doctor::Severity;
use rollout::snapshot::Weights;
use rollout::{Actor, Fact, Slot, Verdict, WaitingOn};
use serde_json::json;
use simulation::world::alarms::{AlarmState, Evaluation};
use simulation::world::scaling::PutScheduledAction;
use simulation::world::{ImageBehaviour, StartBehaviour};
use std::time::Duration;
use tests::front::Call;
use tests::harness::scenario::{Scenario, ScenarioOptions, good};
use tests::harness::suite::Test;

/// Names of tests, with their functions.
pub(crate) const TESTS: &[Test] = &[
    ("a_good_release_takes_over_and_gives_back_what_it_borrowed", a_good_release_goes_live_and_restores_autoscaling),
    ("a_bad_release_is_switched_back_by_its_alarm", a_bad_release_is_rolled_back_by_its_alarm),
    ("tasks_that_never_become_healthy_end_it_at_the_deadline", unhealthy_tasks_fail_the_deployment_at_the_deadline),
    ("a_task_that_crashes_at_its_start_ends_it_early_with_its_reason", a_crash_at_start_fails_the_deployment_early),
    ("an_abort_in_mid_shift_puts_the_weights_back_first", an_abort_in_mid_shift_restores_the_weights_first),
    (
        "a_rollback_works_after_the_old_revision_was_deregistered",
        a_rollback_works_after_the_old_revision_was_deregistered,
    ),
    (
        "a_scheduled_action_that_falls_into_a_deployment_is_given_back",
        a_scheduled_action_during_a_deployment_is_applied_afterwards,
    ),
    ("an_alarm_that_fires_already_keeps_it_from_starting", a_firing_alarm_blocks_the_start),
    (
        "an_alarm_that_is_not_evaluated_keeps_traffic_from_moving_though_it_is_ok",
        an_unevaluated_ok_alarm_blocks_traffic,
    ),
];

fn a_good_release_goes_live_and_restores_autoscaling() {
    let scenario = Scenario::new("good", &ScenarioOptions { autoscaling: Some((2, 6)), ..ScenarioOptions::default() });
    let blue_before = scenario.image_of(Slot::Blue);
    let digest = scenario.push("v1", good());
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::Succeeded), "{}", record.reason);
    assert_eq!(record.release.tag, "v1");
    assert!(matches!(&record.actor, Actor::Push { repository } if repository == "good/api"), "{:?}", record.actor);

    assert_eq!(scenario.weights(), ALL_GREEN);
    assert!(scenario.image_of(Slot::Green).ends_with(&digest), "pinned by digest");
    assert_eq!(scenario.image_of(Slot::Blue), blue_before, "the old side keeps its task definition");
    assert_eq!(scenario.side(Slot::Green), (2, 2));
    scenario.expect("blue's tasks stop", Duration::from_secs(30), || match scenario.side(Slot::Blue) {
        (0, _) => Ok(()),
        (running, _) => Err(format!("{running} run")),
    });

    let facts: Vec<Fact> = scenario.journal().into_iter().map(|entry| entry.fact).collect();
    let verified: Vec<Weights> = facts
        .iter()
        .filter_map(|fact| if let Fact::WeightsVerified { weights } = fact { Some(*weights) } else { None })
        .collect();
    assert_eq!(verified, [HALF, ALL_GREEN], "each step was seen live");
    let borrowed = facts.iter().filter(|fact| matches!(fact, Fact::AutoscalingOverridden { .. })).count();
    let returned = facts.iter().filter(|fact| matches!(fact, Fact::AutoscalingRestored { .. })).count();
    assert_eq!((borrowed, returned), (2, 2), "{facts:#?}");
    // The limits change sides with the traffic: lowest 2 where it is, 0 where it was.
    assert_eq!(scenario.autoscaling(Slot::Green), Some((2, 6, false)));
    assert_eq!(scenario.autoscaling(Slot::Blue), Some((0, 6, false)));
}

fn a_bad_release_is_rolled_back_by_its_alarm() {
    let scenario = Scenario::new("bad", &ScenarioOptions { strategy: LONG_HOLD, ..ScenarioOptions::default() });
    let _digest = scenario.push("v1", ImageBehaviour { error_rate: 1.0, ..good() });
    assert_eq!(scenario.wait_for_weights_change(ALL_BLUE), HALF);
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::RolledBack), "{}", record.reason);
    assert!(record.reason.contains(&scenario.names().green_alarm), "{}", record.reason);
    assert_back_on_blue(&scenario);
}

fn unhealthy_tasks_fail_the_deployment_at_the_deadline() {
    let deadlines = "{preflight: 30s, register: 30s, healthy: 10s, shift: 30s, retire: 30s, rollback: 30s}";
    let scenario = Scenario::new("unhealthy", &ScenarioOptions { deadlines, ..ScenarioOptions::default() });
    let _digest = scenario.push("v1", ImageBehaviour::never_healthy());
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::Failed), "{}", record.reason);
    assert!(record.reason.contains("healthy"), "{}", record.reason);
    assert_back_on_blue(&scenario);
    let calls = scenario.calls();
    assert!(calls.iter().all(|call| call.operation != "ModifyRule"), "traffic was never moved");
}

fn a_crash_at_start_fails_the_deployment_early() {
    let deadlines = "{preflight: 30s, register: 30s, healthy: 10m, shift: 30s, retire: 30s, rollback: 30s}";
    let scenario = Scenario::new("crash", &ScenarioOptions { deadlines, ..ScenarioOptions::default() });
    let starts = StartBehaviour::CrashLoop { exit_code: 41, after: rollout::Seconds(1) };
    let _digest = scenario.push("v1", ImageBehaviour { starts, ..good() });
    // The verdict comes within the tests' patience, which is far less than the deadline.
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::Failed), "{}", record.reason);
    assert!(record.reason.contains("Essential container in task exited"), "{}", record.reason);
    assert!(record.reason.contains("41"), "the exit code: {}", record.reason);
    assert_back_on_blue(&scenario);
}

fn an_abort_in_mid_shift_restores_the_weights_first() {
    let options = ScenarioOptions { strategy: LONG_HOLD, autoscaling: Some((2, 6)), ..ScenarioOptions::default() };
    let scenario = Scenario::new("abort", &options);
    let _digest = scenario.push("v1", good());
    assert_eq!(scenario.wait_for_weights_change(ALL_BLUE), HALF);
    let asked = scenario.operations().abort("the sales team called").unwrap_or_else(|failure| panic!("{failure}"));
    assert!(asked.new);
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::Cancelled), "{}", record.reason);
    assert!(record.reason.contains("the sales team called"), "{}", record.reason);
    assert_back_on_blue(&scenario);
    let by = scenario.journal().into_iter().find_map(|entry| match entry.fact {
        Fact::RollbackStarted { .. } => Some(entry.actor),
        _ => None,
    });
    assert!(matches!(&by, Some(Actor::Person { name }) if name.contains("arn:aws:iam")), "{by:?}");

    assert_eq!(scenario.autoscaling(Slot::Blue), Some((2, 6, false)), "given back as it was found");
    assert_eq!(scenario.autoscaling(Slot::Green), Some((0, 6, false)), "given back as it was found");

    // Weights first, then tasks.
    let calls = scenario.calls();
    let at = |operation: &str| calls.iter().rposition(|call| call.operation == operation && call.succeeded());
    assert!(at("ModifyRule") < at("UpdateService"), "{:#?}", calls.iter().map(Call::name).collect::<Vec<_>>());
}

fn a_rollback_works_after_the_old_revision_was_deregistered() {
    let scenario = Scenario::new("deregistered", &ScenarioOptions::default());
    for (number, tag) in [(1, "v1"), (2, "v2")] {
        let _digest = scenario.push(tag, good());
        let record = scenario.verdict(number);
        assert_eq!(record.verdict, Some(Verdict::Succeeded), "{}", record.reason);
    }
    // CloudFormation does so at every update: the revision of v1 stays with green's service, and is refused to whoever
    // names it.
    let names = scenario.names().clone();
    let deregistered = scenario.stack().front().world().as_third_party(|world| {
        let (services, _) = world.describe_services(&names.cluster, std::slice::from_ref(&names.green))?;
        let revision = services.first().map(|service| service.task_definition.clone()).unwrap_or_default();
        world.deregister_task_definition(&revision)
    });
    let revision = deregistered.expect("it is there").arn;
    let from = scenario.calls().len();
    scenario.operations().rollback("v2 is slow").unwrap_or_else(|failure| panic!("{failure}"));
    let record = scenario.verdict(3);
    assert_eq!(record.verdict, Some(Verdict::Succeeded), "{}", record.reason);
    assert_eq!((record.release.tag.as_str(), scenario.weights()), ("v1", ALL_GREEN));
    let calls = scenario.calls().split_off(from);
    let updates: Vec<&Call> = calls.iter().filter(|call| call.operation == "UpdateService").collect();
    assert!(!updates.is_empty() && updates.iter().all(|call| call.succeeded()), "{updates:#?}");
    let names_it = |call: &&Call| call.parameters["taskDefinition"] == json!(revision);
    assert!(!calls.iter().any(|call| call.operation == "UpdateService" && names_it(&call)), "{updates:#?}");
}

fn a_scheduled_action_during_a_deployment_is_applied_afterwards() {
    let strategy = "{steps: [{traffic: 50%, hold: 20s}, {traffic: 100%}], bake: 2s, keep_warm: 0, drain: 1s}";
    let scenario = Scenario::new(
        "scheduled",
        &ScenarioOptions { strategy, autoscaling: Some((2, 6)), ..ScenarioOptions::default() },
    );
    let _digest = scenario.push("v1", good());
    assert_eq!(scenario.wait_for_weights_change(ALL_BLUE), HALF);
    // It is due a few seconds from now, while scheduled scaling is suspended.
    let names = scenario.names().clone();
    let due = rollout::Seconds(5).after(scenario.stack().front().now());
    let morning = PutScheduledAction {
        resource_id: format!("service/{}/{}", names.cluster, names.blue),
        name: "morning".to_owned(),
        schedule: format!("at({})", due.strftime("%Y-%m-%dT%H:%M:%S")),
        min: Some(3),
        max: Some(9),
        ..PutScheduledAction::default()
    };
    let put = scenario.stack().front().world().as_third_party(|world| world.put_scheduled_action(morning));
    put.expect("it is sound");
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::Succeeded), "{}", record.reason);
    assert_eq!(scenario.autoscaling(Slot::Green), Some((3, 9, false)), "what it would have set, and with the traffic");
    assert_eq!(scenario.autoscaling(Slot::Blue), Some((0, 6, false)));
    let scheduled = scenario.fact("which action it was", |fact| match fact {
        Fact::AutoscalingRestored { slot: Slot::Green, scheduled, .. } => Some(scheduled.clone()),
        _ => None,
    });
    assert_eq!(scheduled, ["morning"]);
}

fn a_firing_alarm_blocks_the_start() {
    let deadlines = "{preflight: 60s, register: 30s, healthy: 30s, shift: 30s, retire: 30s, rollback: 30s}";
    let scenario = Scenario::new("firing", &ScenarioOptions { deadlines, ..ScenarioOptions::default() });
    scenario.set_manual_alarm(AlarmState::Alarm, "the database is slow");
    let _digest = scenario.push("v1", good());
    let reason = scenario.fact("that it is kept from starting", |fact| match fact {
        Fact::Blocked { reason } => Some(reason.clone()),
        _ => None,
    });
    assert!(reason.contains(&scenario.manual_alarm()), "{reason}");
    assert_eq!(scenario.weights(), ALL_BLUE);
    let changing = ["RegisterTaskDefinition", "UpdateService", "ModifyRule", "RegisterScalableTarget"];
    let changes: Vec<String> =
        scenario.calls().iter().filter(|call| changing.contains(&call.operation.as_str())).map(Call::name).collect();
    assert_eq!(changes, Vec::<String>::new(), "nothing was touched");
    scenario.set_manual_alarm(AlarmState::Ok, "the database is well");
    assert_eq!(scenario.verdict(1).verdict, Some(Verdict::Succeeded), "the alarm's own event woke it");
}

/// `EvaluationState` beside `StateValue` OK (CloudWatch user guide, "Alarm evaluation"): OK is what it was when it was last
/// evaluated.
fn an_unevaluated_ok_alarm_blocks_traffic() {
    let deadlines = "{preflight: 60s, register: 60s, healthy: 60s, shift: 60s, retire: 30s, rollback: 30s}";
    let scenario = Scenario::new("unevaluated", &ScenarioOptions { deadlines, ..ScenarioOptions::default() });
    scenario.set_manual_alarm_evaluation(Some(Evaluation::Error), "the role may not read the metrics");
    let _digest = scenario.push("v1", good());
    let words = scenario.expect("it waits for the alarm", Duration::from_secs(60), || {
        let status = scenario.operations().status().map_err(|failure| failure.0)?;
        let waiting = status.state.explanation.waiting_on.into_iter().find_map(|on| match on {
            WaitingOn::Alarms { not_evaluated, .. } => not_evaluated.get(&scenario.manual_alarm()).cloned(),
            _ => None,
        });
        waiting.ok_or_else(|| "it does not".to_owned())
    });
    assert!(words.contains("EVALUATION_ERROR") && words.contains("may not read the metrics"), "{words}");
    assert_eq!(scenario.weights(), ALL_BLUE);
    let doctor = scenario.operations().doctor().unwrap_or_else(|failure| panic!("{failure}"));
    let found = doctor.findings.iter().find(|finding| finding.check == "alarm_not_evaluated");
    assert_eq!(found.map(|finding| finding.severity), Some(Severity::Broken), "{:#?}", doctor.findings);
    scenario.set_manual_alarm_evaluation(None, "all is well");
    assert_eq!(scenario.verdict(1).verdict, Some(Verdict::Succeeded));
    assert_eq!(scenario.weights(), ALL_GREEN);
}
