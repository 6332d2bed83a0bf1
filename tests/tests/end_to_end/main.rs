//! From a push to a verdict with the real binaries: deployed from `template.yaml` into ministack, which runs them as
//! processes and owns DynamoDB, SQS, EventBridge's rules, ECR and the HTTP API; ECS, the balancer, autoscaling, alarms
//! and hooks are the wire front's world, whose events go back in by the template's own rules.
//!
//! One deployment of the template serves all tests, each with an application of its own. What a test asserts it asks of
//! the operators' door and of the world, never of the functions.

mod edits;
mod rollbacks;

use edits::*;
use engine::operate::DoctorResponse;
use libtest_mimic::{Arguments, Trial};
use rollbacks::*;
use rollout::doctor::Severity;
use rollout::snapshot::Weights;
use rollout::{Actor, Fact, Slot, Verdict, WaitingOn};
use serde_json::{Value, json};
use simulation::world::alarms::{AlarmState, Evaluation};
use simulation::world::balancer::Action;
use simulation::world::scaling::PutScheduledAction;
use simulation::world::{FunctionBehaviour, ImageBehaviour, RunTaskBehaviour, StartBehaviour};
use std::collections::BTreeSet;
use std::time::Duration;
use tests::front::Call;
use tests::harness::permissions::Suite;
use tests::harness::scenario::{Scenario, ScenarioOptions, fixture, good};
use tests::harness::{Receiver, stack, topic_arn};

const ALL_BLUE: Weights = Weights { blue: 100, green: 0 };
const HALF: Weights = Weights { blue: 50, green: 50 };
const ALL_GREEN: Weights = Weights { blue: 0, green: 100 };

/// A long hold at 50 %, for what happens in mid-shift.
const LONG_HOLD: &str = "{steps: [{traffic: 50%, hold: 60s}, {traffic: 100%}], bake: 2s, keep_warm: 0, drain: 1s}";

/// How many run at once: they wait for tasks and holds, not for the machine.
const AT_ONCE: usize = 8;

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let tests: &[(&str, fn())] = &[
        (
            "a_good_release_takes_over_and_gives_back_what_it_borrowed",
            a_good_release_goes_live_and_restores_autoscaling,
        ),
        ("a_bad_release_is_switched_back_by_its_alarm", a_bad_release_is_rolled_back_by_its_alarm),
        ("tasks_that_never_become_healthy_end_it_at_the_deadline", unhealthy_tasks_fail_the_deployment_at_the_deadline),
        ("a_task_that_crashes_at_its_start_ends_it_early_with_its_reason", a_crash_at_start_fails_the_deployment_early),
        ("an_abort_in_mid_shift_puts_the_weights_back_first", an_abort_in_mid_shift_restores_the_weights_first),
        ("a_push_that_is_told_three_times_is_deployed_once", a_push_delivered_three_times_is_deployed_once),
        ("a_push_whose_event_was_lost_is_found_by_the_sweep", a_push_whose_event_was_lost_is_found_by_the_sweep),
        (
            "a_tag_that_is_moved_back_onto_the_release_before_is_the_rollback",
            moving_a_tag_back_to_the_previous_release_rolls_back,
        ),
        ("several_tags_of_one_build_are_one_deployment", several_tags_of_one_build_are_one_deployment),
        ("a_replica_is_deployed_by_its_own_event", a_replicated_image_is_deployed_by_its_own_event),
        ("a_push_to_a_registry_of_another_account_is_not_believed", a_push_to_another_accounts_registry_is_ignored),
        ("a_second_push_waits_for_the_first_and_follows_it", a_second_push_is_queued_and_deployed_after_the_first),
        (
            "a_rule_that_somebody_else_edits_halts_it_and_is_not_overwritten",
            a_foreign_rule_edit_halts_and_is_not_overwritten,
        ),
        ("an_edit_at_rest_is_told_with_who_did_it_and_repaired", drift_is_reported_with_its_author_and_repaired),
        ("an_edit_at_rest_is_put_back_where_the_policy_says_so", drift_is_reverted_when_the_policy_says_so),
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
        ("an_abort_stops_a_migration_that_runs", an_abort_stops_a_running_migration),
        (
            "what_waits_for_an_operator_is_planned_and_deployed_by_its_digest",
            a_manual_release_is_planned_and_deployed_by_digest,
        ),
        ("an_alarm_that_fires_already_keeps_it_from_starting", a_firing_alarm_blocks_the_start),
        (
            "an_alarm_that_is_not_evaluated_keeps_traffic_from_moving_though_it_is_ok",
            an_unevaluated_ok_alarm_blocks_traffic,
        ),
        ("a_hook_that_says_no_ends_it_before_traffic", a_failed_hook_ends_the_deployment_before_traffic),
        ("a_hook_that_never_answers_is_given_up_at_its_deadline", a_silent_hook_fails_at_its_deadline),
        (
            "a_migration_that_exits_with_an_error_ends_it_before_any_task_starts",
            a_failed_migration_ends_the_deployment_before_tasks_start,
        ),
        (
            "the_doctor_reads_the_account_and_finds_what_was_broken_in_it",
            the_doctor_finds_what_is_broken_in_the_account,
        ),
        (
            "a_rollback_works_after_the_old_revision_was_deregistered",
            a_rollback_works_after_the_old_revision_was_deregistered,
        ),
        (
            "a_scheduled_action_that_falls_into_a_deployment_is_given_back",
            a_scheduled_action_during_a_deployment_is_applied_afterwards,
        ),
        (
            "programs_are_told_of_every_entry_and_people_of_what_matters_once",
            the_bus_gets_every_entry_and_topics_only_important_ones,
        ),
    ];
    let trials = tests.iter().map(|&(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    // What no test asks for and all of them want.
    let mut problems = if conclusion.num_passed == 0 { Vec::new() } else { stack().find_problems() };
    // What the roles are for is told only by all tests together.
    if conclusion.num_filtered_out + conclusion.num_ignored + conclusion.num_failed == 0 && conclusion.num_passed > 0 {
        problems.extend(stack().unused_permissions(Suite::Rollouts));
    }
    if problems.is_empty() {
        conclusion.exit();
    }
    eprintln!(
        "something was called that nobody here speaks, was given up on, or is allowed for nothing:\n{}",
        problems.join("\n")
    );
    std::process::exit(101);
}

/// The candidate is gone, the stable side carries everything.
fn assert_back_on_blue(scenario: &Scenario) {
    assert_eq!(scenario.weights(), ALL_BLUE);
    scenario.expect("green's tasks stop", Duration::from_secs(30), || match scenario.side(Slot::Green) {
        (0, _) => Ok(()),
        (running, _) => Err(format!("{running} run")),
    });
    assert_eq!(scenario.side(Slot::Blue), (2, 2), "blue was never touched");
}

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

fn the_doctor_finds_what_is_broken_in_the_account() {
    let scenario = Scenario::new("doctor", &ScenarioOptions::default());
    let _digest = scenario.image("v1", good());
    let ask = || scenario.operations().doctor().unwrap_or_else(|failure| panic!("{failure}"));
    let wrong = |severity: Severity, answer: &DoctorResponse| -> Vec<(String, String, String)> {
        let found = answer.findings.iter().filter(|finding| finding.severity == severity);
        found.map(|it| (it.check.clone(), it.subject.clone(), it.problem.clone())).collect()
    };
    let healthy = ask();
    // Everything could be read, within the role. But the repository: the emulator holds `DescribeRepositories` against `*`
    // (its `core/iam_actions.py` knows one `repositoryName`, and the call has a list), where AWS looks at each name.
    let unread = wrong(Severity::Unread, &healthy);
    assert!(unread.iter().all(|(_, place, _)| place == "repository doctor/api"), "{unread:?}");
    assert_eq!(wrong(Severity::Broken, &healthy), []);
    assert!(healthy.terraform.iter().any(|it| it.resource == "aws_lb_listener_rule"), "{:?}", healthy.terraform);

    // Somebody takes the idle side out of the rule.
    let names = scenario.names().clone();
    let actions = vec![Action::forward([(names.blue_group.as_str(), 100)])];
    scenario
        .stack()
        .front()
        .world()
        .by_hand(|world| world.modify_rule(&names.rule, None, Some(actions)))
        .expect("the world takes it");
    let broken = wrong(Severity::Broken, &ask());
    let checks: Vec<&str> = broken.iter().map(|(check, ..)| check.as_str()).collect();
    assert!(checks.contains(&"rule_lacks_group"), "{broken:?}");
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
    let deregistered = scenario.stack().front().world().by_hand(|world| {
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
    let put = scenario.stack().front().world().by_hand(|world| world.put_scheduled_action(morning));
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

fn a_push_delivered_three_times_is_deployed_once() {
    let scenario = Scenario::new("twice", &ScenarioOptions::default());
    let digest = scenario.image("v1", good());
    let event = scenario.push_event("v1", &digest);
    for _ in 0..3 {
        scenario.send(&event);
    }
    assert_eq!(scenario.verdict(1).verdict, Some(Verdict::Succeeded));
    // Once more, and waited for: nothing is asked of the target that a wake would find.
    let answer = scenario.stack().invoke("image-pushed", &event).unwrap_or_else(|failure| panic!("{failure}"));
    let status = scenario.operations().status().unwrap_or_else(|failure| panic!("{failure}"));
    assert!(status.commands.is_empty(), "{:?}, {answer}", status.commands);
    assert_eq!(status.state.last_deployment, 1, "{answer}");
    assert_eq!(scenario.calls().iter().filter(|call| call.operation == "RegisterTaskDefinition").count(), 1);
}

fn a_push_whose_event_was_lost_is_found_by_the_sweep() {
    let scenario = Scenario::new("lost", &ScenarioOptions::default());
    let digest = scenario.image("v1", good());
    let minute = fixture(include_str!("../../../events/sweeper.schedule.json"));
    let answer = scenario.stack().invoke("sweeper", &minute).unwrap_or_else(|failure| panic!("{failure}"));
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::Succeeded), "{}; {answer}", record.reason);
    assert!(scenario.image_of(Slot::Green).ends_with(&digest));
    assert_eq!(scenario.weights(), ALL_GREEN);
}

/// Issue 10, case 9.
fn moving_a_tag_back_to_the_previous_release_rolls_back() {
    let scenario = Scenario::new("movedtag", &ScenarioOptions::default());
    let first = scenario.push("v1.0.1", good());
    assert_eq!(scenario.verdict(1).verdict, Some(Verdict::Succeeded));
    scenario.send(&scenario.push_event("v1.0.2", &first));
    scenario.fact("the second tag", |fact| match fact {
        Fact::ReleaseNamed { tag, before, .. } if (tag.as_str(), before.as_str()) == ("v1.0.2", "v1.0.1") => Some(()),
        _ => None,
    });
    let plan = scenario.operations().plan("v1.0.2").unwrap_or_else(|failure| panic!("{failure}"));
    assert!(format!("{plan:?}").contains(&first), "`--release v1.0.2` is known: {plan:?}");

    let second = scenario.push("v1.0.3", good());
    assert_eq!(scenario.verdict(2).verdict, Some(Verdict::Succeeded));
    assert!(scenario.image_of(Slot::Blue).ends_with(&second));
    scenario.send(&scenario.push_event("v1.0.3", &first));
    let record = scenario.verdict(3);
    assert_eq!(
        (record.verdict, record.release.tag.as_str()),
        (Some(Verdict::Succeeded), "v1.0.3"),
        "{}",
        record.reason
    );
    assert!(scenario.image_of(Slot::Green).ends_with(&first));
    assert_eq!(scenario.weights(), ALL_GREEN);
    let status = scenario.operations().status().unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(status.state.last_deployment, 3, "the second tag of what was live asked for nothing");
}

/// Issue 10, case 10.
fn several_tags_of_one_build_are_one_deployment() {
    let scenario = Scenario::new("tags", &ScenarioOptions::default());
    let digest = scenario.image("v1", good());
    for tag in ["v1", "v1.4"] {
        scenario.send(&scenario.push_event(tag, &digest));
    }
    assert_eq!(scenario.verdict(1).verdict, Some(Verdict::Succeeded));
    scenario.send(&scenario.push_event("v1.4.0", &digest));
    scenario.fact("the most specific tag", |fact| match fact {
        Fact::ReleaseNamed { tag, .. } if tag == "v1.4.0" => Some(()),
        _ => None,
    });
    let status = scenario.operations().status().unwrap_or_else(|failure| panic!("{failure}"));
    assert!(status.commands.is_empty(), "{:?}", status.commands);
    assert_eq!(status.state.last_deployment, 1);
    let stable = status.state.stable.and_then(|stable| stable.release).expect("it is deployed");
    assert_eq!(stable.tag, "v1.4.0");
    let refused = scenario.journal().into_iter().filter(|entry| matches!(entry.fact, Fact::CommandRefused { .. }));
    assert_eq!(refused.count(), 0);
}

/// Issue 10, case 13.
fn a_replicated_image_is_deployed_by_its_own_event() {
    let scenario = Scenario::new("replica", &ScenarioOptions::default());
    let digest = scenario.image("v1", good());
    let pushed = scenario.push_event("v1", &digest);
    let mut event = fixture(include_str!("../../../events/image-pushed.replicate.json"));
    for part in ["repository-name", "image-digest", "image-tag"] {
        event["detail"][part] = pushed["detail"][part].clone();
    }
    scenario.send(&event);
    assert_eq!(scenario.verdict(1).verdict, Some(Verdict::Succeeded));
    assert!(scenario.image_of(Slot::Green).ends_with(&digest));
}

/// Issue 10, case 15.
fn a_push_to_another_accounts_registry_is_ignored() {
    let scenario = Scenario::new("elsewhere", &ScenarioOptions::default());
    let digest = scenario.image("v1", good());
    let own = scenario.push_event("v1", &digest);
    let mut foreign = own.clone();
    foreign["account"] = json!("999999999999");
    foreign["region"] = json!("us-west-2");
    scenario.send(&foreign);
    // Once more, and waited for.
    let answer = scenario.stack().invoke("image-pushed", &foreign).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(answer.to_string().contains("999999999999"), "the log says why: {answer}");
    let status = scenario.operations().status().unwrap_or_else(|failure| panic!("{failure}"));
    assert!(status.commands.is_empty(), "{:?}, {answer}", status.commands);
    assert_eq!(status.state.last_deployment, 0, "{answer}");

    scenario.send(&own);
    assert_eq!(scenario.verdict(1).verdict, Some(Verdict::Succeeded));
    let account = own["account"].as_str().expect("an account");
    assert!(
        scenario.image_of(Slot::Green).starts_with(&format!("{account}.dkr")),
        "{}",
        scenario.image_of(Slot::Green)
    );
}

fn a_second_push_is_queued_and_deployed_after_the_first() {
    let strategy = "{steps: [{traffic: 50%, hold: 5s}, {traffic: 100%}], bake: 1s, keep_warm: 0, drain: 1s}";
    let scenario = Scenario::new("second", &ScenarioOptions { strategy, ..ScenarioOptions::default() });
    let first = scenario.push("v1", good());
    assert_eq!(scenario.wait_for_weights_change(ALL_BLUE), HALF);
    let second = scenario.push("v2", good());
    scenario.fact("that v2 waits", |fact| match fact {
        Fact::Queued { tag, .. } if tag == "v2" => Some(()),
        _ => None,
    });
    assert!(scenario.image_of(Slot::Green).ends_with(&first), "the candidate never changes under a rollout");
    assert_eq!(scenario.verdict(1).verdict, Some(Verdict::Succeeded));
    let record = scenario.verdict(2);
    assert_eq!((record.verdict, record.release.tag.as_str()), (Some(Verdict::Succeeded), "v2"), "{}", record.reason);
    assert_eq!(scenario.weights(), ALL_BLUE, "back on the first side, with the newest release");
    assert!(scenario.image_of(Slot::Blue).ends_with(&second));
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

fn a_manual_release_is_planned_and_deployed_by_digest() {
    let fails = |failure: tests::harness::Failure| -> ! { panic!("{failure}") };
    let options = ScenarioOptions { trigger: "manual", listener: true, ..ScenarioOptions::default() };
    let scenario = Scenario::new("operator", &options);
    let operations = scenario.operations();
    let digest = scenario.push("v1", good());
    let plan = scenario
        .expect("the release is known", Duration::from_secs(60), || operations.plan("v1").map_err(|failure| failure.0));
    let plan = plan.deployment.expect("a target was named");
    assert_eq!(plan.blockers, [] as [String; 0], "{plan:#?}");
    let listed = operations.targets().unwrap_or_else(|failure| fails(failure)).targets;
    let here = listed.iter().find(|listed| listed.target.to_string() == scenario.target());
    assert!(here.is_some_and(|here| here.stable.is_none() && here.running.is_none()), "{here:#?}");

    operations.deploy(&digest, "the first one").unwrap_or_else(|failure| fails(failure));
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::Succeeded), "{}", record.reason);
    assert_eq!(scenario.weights(), ALL_GREEN);
    let moved = scenario.calls().into_iter().filter(|call| call.operation == "ModifyListener").count();
    assert_eq!(moved, 2, "the listener goes to one half, and to the whole");

    // An alarm that the policy no longer names wakes nobody any more.
    let named = format!(", {}]", scenario.manual_alarm());
    let without = scenario.policy(&options).replace(&named, "]");
    assert_ne!(without, scenario.policy(&options));
    scenario.apply(&without);
}

fn the_bus_gets_every_entry_and_topics_only_important_ones() {
    let fails = |failure: tests::harness::Failure| -> ! { panic!("{failure}") };
    let people = Receiver::of_topic(stack(), "switchback-told").unwrap_or_else(|failure| fails(failure));
    let programs = Receiver::of_bus(stack(), "told").unwrap_or_else(|failure| fails(failure));
    let notifications = "[{topic: \"arn:aws:sns:eu-central-1:000000000000:switchback-told\", environments: [dev]}]";
    assert!(notifications.contains(&topic_arn("switchback-told")), "{notifications}");
    let scenario = Scenario::new("told", &ScenarioOptions { notifications, ..ScenarioOptions::default() });
    let _digest = scenario.push("v1", good());
    assert_eq!(scenario.verdict(1).verdict, Some(Verdict::Succeeded));

    let journal = scenario.journal();
    let all_delivered = || {
        let delivered = programs.received().map_err(|failure| failure.0)?.len();
        if delivered >= journal.len() { Ok(()) } else { Err(format!("{delivered} of {}", journal.len())) }
    };
    scenario.expect("every entry is told", Duration::from_secs(30), all_delivered);
    let on_the_bus = |events: &[Value]| {
        let mut sequences: Vec<u64> = events.iter().filter_map(|event| event["detail"]["sequence"].as_u64()).collect();
        sequences.sort_unstable();
        sequences
    };
    let every: Vec<u64> = journal.iter().map(|entry| entry.sequence).collect();
    let notices_received = || {
        let received = people.received().map_err(|failure| failure.0)?;
        let subjects = received.iter().filter_map(|notice| notice["Subject"].as_str().map(str::to_owned));
        let subjects: Vec<String> = subjects.collect();
        if subjects.len() >= 2 { Ok((subjects, received)) } else { Err(format!("{subjects:?}")) }
    };
    let (mut subjects, notices) = scenario.expect("people are told", Duration::from_secs(30), notices_received);
    subjects.sort();
    assert_eq!(subjects, ["Deployment started: told/api/dev #1", "Succeeded: told/api/dev #1"]);
    let end = notices.iter().find(|notice| notice["Subject"] == "Succeeded: told/api/dev #1");
    assert_eq!(end.and_then(|it| it.pointer("/MessageAttributes/verdict/Value")), Some(&json!("succeeded")), "{end:?}");

    scenario.redeliver_journal();
    assert_eq!(on_the_bus(&programs.received().unwrap_or_else(|failure| fails(failure))), every);
    assert_eq!(people.received().unwrap_or_else(|failure| fails(failure)).len(), 2);
}
