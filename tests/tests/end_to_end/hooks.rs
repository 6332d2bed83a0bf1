//! Hook functions and migrations that fail, never answer, or are aborted.

use crate::assert_back_on_blue;
use rollout::{Fact, Verdict};
use serde_json::json;
use simulation::world::{FunctionBehaviour, ImageBehaviour, RunTaskBehaviour};
use std::collections::BTreeSet;
use tests::front::Call;
use tests::harness::scenario::{Scenario, ScenarioOptions, good};
use tests::harness::suite::Test;

/// Names of tests, with their functions.
pub(crate) const TESTS: &[Test] = &[
    ("a_hook_that_says_no_ends_it_before_traffic", a_failed_hook_ends_the_deployment_before_traffic),
    ("a_hook_that_never_answers_is_given_up_at_its_deadline", a_silent_hook_fails_at_its_deadline),
    (
        "a_migration_that_exits_with_an_error_ends_it_before_any_task_starts",
        a_failed_migration_ends_the_deployment_before_tasks_start,
    ),
    ("an_abort_stops_a_migration_that_runs", an_abort_stops_a_running_migration),
];

fn a_failed_hook_ends_the_deployment_before_traffic() {
    let hooks = "{test_traffic: [{name: smoke, lambda: switchback-hook-no, deadline: 30s}]}";
    let scenario = Scenario::new("hook-no", &ScenarioOptions { hooks, ..ScenarioOptions::default() });
    let function = FunctionBehaviour::fails("the basket is empty");
    scenario.stack().front().world().put_function("switchback-hook-no", function);
    let _digest = scenario.push("v1", good());
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::Failed), "{}", record.reason);
    assert!(record.reason.contains("smoke") && record.reason.contains("the basket is empty"), "{}", record.reason);
    assert_back_on_blue(&scenario);
}

fn a_silent_hook_fails_at_its_deadline() {
    let hooks = "{test_traffic: [{name: smoke, lambda: switchback-hook-silent, deadline: 8s}]}";
    let scenario = Scenario::new("hook-silent", &ScenarioOptions { hooks, ..ScenarioOptions::default() });
    scenario.stack().front().world().put_function("switchback-hook-silent", FunctionBehaviour::Silent);
    let _digest = scenario.push("v1", good());
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::Failed), "{}", record.reason);
    assert!(record.reason.contains("smoke"), "{}", record.reason);
    assert_back_on_blue(&scenario);
}

fn a_failed_migration_ends_the_deployment_before_tasks_start() {
    let hooks = "{before_traffic: [{name: migrate, task: {command: [\"./migrate\"]}, deadline: 30s}]}";
    let scenario = Scenario::new("migration", &ScenarioOptions { hooks, ..ScenarioOptions::default() });
    let run = RunTaskBehaviour::Exits { after: rollout::Seconds(1), exit_code: 3 };
    let _digest = scenario.push("v1", ImageBehaviour { run, ..good() });
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::Failed), "{}", record.reason);
    assert!(record.reason.contains("migrate") && record.reason.contains('3'), "{}", record.reason);
    assert_back_on_blue(&scenario);
    let ran: Vec<Call> = scenario.calls().into_iter().filter(|call| call.operation == "RunTask").collect();
    assert_eq!(ran.len(), 1, "{ran:#?}");
    let command = ran[0].parameter("/overrides/containerOverrides/0/command");
    assert_eq!(command, Some(&json!(["./migrate"])));
}

fn an_abort_stops_a_running_migration() {
    let hooks = "{before_traffic: [{name: migrate, task: {command: [\"./migrate\"]}, deadline: 10m}]}";
    let scenario = Scenario::new("aborted-hook", &ScenarioOptions { hooks, ..ScenarioOptions::default() });
    let run = RunTaskBehaviour::Exits { after: rollout::Seconds(600), exit_code: 0 };
    let _digest = scenario.push("v1", ImageBehaviour { run, ..good() });
    scenario.fact("the migration runs", |fact| matches!(fact, Fact::HookStarted { .. }).then_some(()));
    scenario.operations().abort("it locks the orders").unwrap_or_else(|failure| panic!("{failure}"));
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::Cancelled), "{}", record.reason);
    let stopped: Vec<Call> = scenario.calls().into_iter().filter(|call| call.operation == "StopTask").collect();
    let tasks: BTreeSet<String> =
        stopped.iter().filter_map(|call| Some(call.parameters["task"].as_str()?.to_owned())).collect();
    assert_eq!(tasks.len(), 1, "the task of the migration was stopped: {stopped:#?}");
    assert_back_on_blue(&scenario);
}
