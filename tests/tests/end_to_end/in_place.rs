//! One service whose tasks ECS replaces in place: a worker without a load balancer, and a plain service behind one.

use rollout::{Fact, Seconds, Verdict, WaitingOn};
use serde_json::json;
use simulation::world::alarms::AlarmState;
use simulation::world::ecs::CircuitBreaker;
use simulation::world::{Health, ImageBehaviour, StartBehaviour};
use std::time::Duration;
use tests::front::Call;
use tests::harness::now;
use tests::harness::scenario::{InPlaceScene, LiveWorkload, Scenario, ScenarioOptions, good};
use tests::harness::suite::Test;

/// Names of tests, with their functions.
pub(crate) const TESTS: &[Test] = &[
    ("a_good_release_replaces_every_task_of_a_worker", a_good_release_replaces_the_tasks_of_a_worker),
    (
        "a_good_release_of_a_service_behind_a_balancer_is_up_on_every_target",
        a_good_release_replaces_the_targets_of_a_service,
    ),
    ("a_worker_that_crashes_at_its_start_goes_back_with_ecs_reason", a_crash_loop_goes_back),
    (
        "a_worker_that_ecs_itself_rolls_back_is_back_with_ecs_reason",
        a_crash_loop_that_the_circuit_breaker_rolls_back_goes_back,
    ),
    ("an_alarm_in_the_bake_brings_the_tasks_before_back", an_alarm_in_the_bake_goes_back),
    ("a_protected_task_is_waited_for_past_the_deadline_and_counted", a_protected_task_is_waited_for_and_counted),
    ("an_abort_while_tasks_are_replaced_brings_those_before_back", an_abort_while_tasks_are_replaced_goes_back),
    ("a_rollback_of_a_worker_brings_the_release_before", a_rollback_brings_the_release_before),
    (
        "a_rollback_of_a_worker_works_after_the_revision_before_was_deregistered",
        a_rollback_works_after_the_revision_before_was_deregistered,
    ),
    ("a_forward_only_release_in_trouble_runs_until_a_person_goes_back", a_forward_only_release_waits_for_an_operator),
    ("targets_that_never_become_healthy_go_back_at_the_deadline", unhealthy_targets_go_back_at_the_deadline),
    (
        "a_migration_runs_in_the_workers_network_before_any_task_of_the_release",
        a_hook_task_runs_before_the_replacement_in_the_same_network,
    ),
];

fn worker() -> ScenarioOptions {
    ScenarioOptions::in_place(InPlaceScene::default())
}

fn behind_balancer() -> ScenarioOptions {
    ScenarioOptions::in_place(InPlaceScene { behind_balancer: true, ..InPlaceScene::default() })
}

/// An image whose tasks run, and do not become healthy while a test lasts.
fn slow() -> ImageBehaviour {
    ImageBehaviour { health: Health::After(Seconds(600)), ..good() }
}

/// Everything that runs is of this version, as many tasks as before the first deployment.
#[track_caller]
fn assert_all_run(live: &LiveWorkload, version: &str) {
    assert_eq!((live.version.as_str(), live.desired, live.running, live.others), (version, 2, 2, 0), "{live:?}");
    assert!(live.is_complete, "{live:?}");
}

/// The version was set, and the number of tasks never: nothing that Switchback does can scale the only workload in.
#[track_caller]
fn assert_never_scaled(scenario: &Scenario) {
    let calls = scenario.calls();
    let updates: Vec<&Call> = calls.iter().filter(|call| call.operation == "UpdateService").collect();
    assert!(!updates.is_empty(), "nothing was replaced");
    assert!(updates.iter().all(|call| call.parameter("/desiredCount").is_none()), "{updates:#?}");
}

fn facts(scenario: &Scenario) -> Vec<Fact> {
    scenario.journal().into_iter().map(|entry| entry.fact).collect()
}

/// v1 replaces what runs; answers what runs then.
fn release_replaced(scenario: &Scenario) -> LiveWorkload {
    let before = scenario.workload();
    let digest = scenario.push("v1", good());
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::Succeeded), "{}", record.reason);
    assert_eq!(record.release.tag, "v1");
    let live = scenario.workload();
    assert!(live.image.ends_with(&format!("@{digest}")), "pinned by digest: {}", live.image);
    assert_ne!(live.version, before.version);
    assert_all_run(&live, &live.version);
    let replaced = Fact::Replaced { version: live.version.clone(), running: 2 };
    let facts = facts(scenario);
    assert!(facts.contains(&replaced), "{facts:#?}");
    assert_never_scaled(scenario);
    live
}

fn a_good_release_replaces_the_tasks_of_a_worker() {
    let scenario = Scenario::new("mailer", &worker());
    let live = release_replaced(&scenario);
    let status = scenario.operations().status().unwrap_or_else(|failure| panic!("{failure}"));
    let stable = status.state.stable.expect("it is the stable release");
    assert_eq!((stable.version.as_str(), stable.slot), (live.version.as_str(), None));
}

fn a_good_release_replaces_the_targets_of_a_service() {
    let scenario = Scenario::new("gateway", &behind_balancer());
    release_replaced(&scenario);
    assert_eq!(scenario.healthy_targets(), 2);
    let writes = ["ModifyRule", "ModifyListener", "RegisterTargets", "DeregisterTargets"];
    let written: Vec<Call> =
        scenario.calls().into_iter().filter(|call| writes.contains(&call.operation.as_str())).collect();
    assert!(written.is_empty(), "the balancer is left alone: {written:#?}");
}

/// A release whose tasks exit with 41 right after their start goes back, for a reason with one of these words.
fn crash_loop_goes_back(application: &str, breaker: CircuitBreaker, words: &[&str]) {
    let scene = InPlaceScene { breaker, ..InPlaceScene::default() };
    let scenario = Scenario::new(application, &ScenarioOptions::in_place(scene));
    let before = scenario.workload();
    let starts = StartBehaviour::CrashLoop { exit_code: 41, after: Seconds(1) };
    let _digest = scenario.push("v1", ImageBehaviour { starts, ..slow() });
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::RolledBack), "{}", record.reason);
    assert!(words.iter().any(|words| record.reason.contains(words)), "ECS's reason: {}", record.reason);
    assert_all_run(&scenario.workload(), &before.version);
    assert_never_scaled(&scenario);
}

fn a_crash_loop_goes_back() {
    crash_loop_goes_back("looping", CircuitBreaker::default(), &["Essential container in task exited"]);
}

fn a_crash_loop_that_the_circuit_breaker_rolls_back_goes_back() {
    // The circuit breaker trips at the third task that crashes, and Switchback goes back at the second: whichever is
    // first, the other one finds the version before set.
    let words = ["tasks failed to start", "Essential container in task exited"];
    crash_loop_goes_back("breaking", CircuitBreaker { enable: true, rollback: true }, &words);
}

/// Waits until everything that runs is of the new version: what follows is the bake.
fn wait_until_replaced(scenario: &Scenario) {
    scenario.fact("that everything is replaced", |fact| matches!(fact, Fact::Replaced { .. }).then_some(()));
}

fn an_alarm_in_the_bake_goes_back() {
    let scenario = Scenario::new("baked", &ScenarioOptions { strategy: "{bake: 90s}", ..worker() });
    let before = scenario.workload();
    let digest = scenario.push("v1", good());
    wait_until_replaced(&scenario);
    assert!(scenario.workload().image.ends_with(&digest));
    scenario.set_manual_alarm(AlarmState::Alarm, "the queue grows");
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::RolledBack), "{}", record.reason);
    assert!(
        record.reason.contains(&scenario.manual_alarm()) && record.reason.contains("the queue grows"),
        "{}",
        record.reason
    );
    assert_all_run(&scenario.workload(), &before.version);
    assert_never_scaled(&scenario);
}

fn a_protected_task_is_waited_for_and_counted() {
    const HEALTHY_S: i64 = 10;
    let deadlines = "{preflight: 30s, register: 30s, healthy: 10s, shift: 30s, rollback: 60s}";
    let scenario = Scenario::new("guarded", &ScenarioOptions { deadlines, ..worker() });
    let task = scenario.running_tasks().remove(0);
    scenario.protect_task(&task, true);
    let _digest = scenario.push("v1", good());
    let others = scenario.expect("it waits for the protected task", Duration::from_secs(60), || {
        let status = scenario.operations().status().map_err(|failure| failure.0)?;
        let waiting = status.state.explanation.waiting_on.into_iter().find_map(|on| match on {
            WaitingOn::Replacing { healthy: 2, want: 2, others, protected: 1, .. } => Some(others),
            _ => None,
        });
        waiting.ok_or_else(|| "it does not".to_owned())
    });
    assert_eq!(others, 1, "everything else is replaced");
    scenario.expect("it waits for longer than for health", Duration::from_secs(60), || {
        let status = scenario.operations().status().map_err(|failure| failure.0)?;
        let running = status.state.running.as_ref().ok_or("it has ended")?;
        let waited = now().duration_since(running.stage_entered_at).as_secs();
        if waited > HEALTHY_S + 2 { Ok(()) } else { Err(format!("for {waited} s")) }
    });
    assert!(scenario.running_tasks().contains(&task), "it was not stopped");
    scenario.protect_task(&task, false);
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::Succeeded), "{}", record.reason);
    assert!(!scenario.running_tasks().contains(&task));
}

fn an_abort_while_tasks_are_replaced_goes_back() {
    let deadlines = "{preflight: 30s, register: 30s, healthy: 10m, shift: 30s, rollback: 60s}";
    let scenario = Scenario::new("halfway", &ScenarioOptions { deadlines, ..worker() });
    let before = scenario.workload();
    let _digest = scenario.push("v1", slow());
    scenario.expect("tasks of both versions run", Duration::from_secs(60), || {
        let live = scenario.workload();
        if (live.running, live.others) == (2, 2) { Ok(()) } else { Err(format!("{live:?}")) }
    });
    scenario.operations().abort("it sends mail twice").unwrap_or_else(|failure| panic!("{failure}"));
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::Cancelled), "{}", record.reason);
    assert!(record.reason.contains("it sends mail twice"), "{}", record.reason);
    assert_all_run(&scenario.workload(), &before.version);
    assert_never_scaled(&scenario);
}

/// v1, then v2 replace what runs; answers what ran with v1.
fn two_releases(scenario: &Scenario) -> LiveWorkload {
    let [first, _second] = [(1, "v1"), (2, "v2")].map(|(number, tag)| {
        let _digest = scenario.push(tag, good());
        let record = scenario.verdict(number);
        assert_eq!(record.verdict, Some(Verdict::Succeeded), "{}", record.reason);
        scenario.workload()
    });
    first
}

/// Asks for the release before v2 and waits until it runs; answers what runs then.
fn rolled_back(scenario: &Scenario) -> LiveWorkload {
    scenario.operations().rollback("v2 is slow").unwrap_or_else(|failure| panic!("{failure}"));
    let record = scenario.verdict(3);
    assert_eq!(record.verdict, Some(Verdict::Succeeded), "{}", record.reason);
    assert_eq!(record.release.tag, "v1");
    let live = scenario.workload();
    assert_all_run(&live, &live.version);
    live
}

fn a_rollback_brings_the_release_before() {
    let scenario = Scenario::new("returned", &worker());
    let first = two_releases(&scenario);
    assert_eq!(rolled_back(&scenario).version, first.version, "the revision that v1 ran with");
}

fn a_rollback_works_after_the_revision_before_was_deregistered() {
    let scenario = Scenario::new("retired", &worker());
    let first = two_releases(&scenario);
    // CloudFormation does so at every update.
    scenario.deregister(&first.version);
    let from = scenario.calls().len();
    let live = rolled_back(&scenario);
    assert_eq!(live.image, first.image);
    assert_ne!(live.version, first.version, "an equal revision");
    let calls = scenario.calls().split_off(from);
    let updates: Vec<&Call> = calls.iter().filter(|call| call.operation == "UpdateService").collect();
    let names_it = |call: &&&Call| call.parameters["taskDefinition"] == json!(first.version);
    assert!(!updates.is_empty() && updates.iter().filter(names_it).count() == 0, "{updates:#?}");
}

fn a_forward_only_release_waits_for_an_operator() {
    let hooks = "{before_traffic: [{name: migrate, task: {command: [\"./migrate\"]}, forward_only: true}]}";
    let options = ScenarioOptions { strategy: "{bake: 90s}", hooks, ..worker() };
    let scenario = Scenario::new("onward", &options);
    let before = scenario.workload();
    let _digest = scenario.push("v1", good());
    wait_until_replaced(&scenario);
    let released = scenario.workload();
    scenario.set_manual_alarm(AlarmState::Alarm, "the queue grows");
    let cause = scenario.fact("that it waits for a person", |fact| match fact {
        Fact::AwaitingOperator { cause, .. } => Some(cause.summary()),
        _ => None,
    });
    assert!(cause.contains(&scenario.manual_alarm()), "{cause}");
    let status = scenario.operations().status().unwrap_or_else(|failure| panic!("{failure}"));
    let waits = |on: &WaitingOn| matches!(on, WaitingOn::AwaitingOperator { .. });
    assert!(status.state.explanation.waiting_on.iter().any(waits), "{:?}", status.state.explanation);
    assert_all_run(&scenario.workload(), &released.version);

    scenario.operations().rollback("the old code can read it").unwrap_or_else(|failure| panic!("{failure}"));
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::RolledBack), "{}", record.reason);
    assert!(record.reason.contains("the old code can read it"), "{}", record.reason);
    assert_all_run(&scenario.workload(), &before.version);
}

fn unhealthy_targets_go_back_at_the_deadline() {
    let deadlines = "{preflight: 30s, register: 30s, healthy: 10s, shift: 30s, rollback: 60s}";
    let scenario = Scenario::new("stalled", &ScenarioOptions { deadlines, ..behind_balancer() });
    let before = scenario.workload();
    let _digest = scenario.push("v1", slow());
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::RolledBack), "{}", record.reason);
    for words in ["out of time", "0 of 2 tasks healthy"] {
        assert!(record.reason.contains(words), "{}", record.reason);
    }
    assert_all_run(&scenario.workload(), &before.version);
    assert_eq!(scenario.healthy_targets(), 2);
    let facts = facts(&scenario);
    let replaced = |fact: &&Fact| matches!(fact, Fact::Replaced { version, .. } if *version != before.version);
    assert_eq!(facts.iter().filter(replaced).count(), 0, "it never took over: {facts:#?}");
}

fn a_hook_task_runs_before_the_replacement_in_the_same_network() {
    let hooks = "{before_traffic: [{name: migrate, task: {command: [\"./migrate\"]}, deadline: 30s}]}";
    let scenario = Scenario::new("migrated", &ScenarioOptions { hooks, ..worker() });
    let live = release_replaced(&scenario);
    let calls = scenario.calls();
    let at = |operation: &str| calls.iter().position(|call| call.operation == operation && call.succeeded());
    let (ran, updated) = (at("RunTask").expect("the migration ran"), at("UpdateService").expect("it was released"));
    assert!(ran < updated, "{:#?}", calls.iter().map(Call::name).collect::<Vec<_>>());
    let migration = &calls[ran];
    assert_eq!(migration.parameters["taskDefinition"], json!(live.version));
    // As the scene gives it to the service.
    let network = migration.parameter("/networkConfiguration/awsvpcConfiguration").cloned().unwrap_or_default();
    assert_eq!(network["subnets"], json!(["subnet-0a", "subnet-0b"]), "{network}");
    assert_eq!(network["securityGroups"], json!(["sg-0a"]), "{network}");
    let command = migration.parameter("/overrides/containerOverrides/0/command");
    assert_eq!(command, Some(&json!(["./migrate"])));
    let facts = facts(&scenario);
    let at = |name: &str| facts.iter().position(|fact| fact.name() == name);
    assert!(at("hook_succeeded").is_some() && at("hook_succeeded") < at("replacement_started"), "{facts:#?}");
}
