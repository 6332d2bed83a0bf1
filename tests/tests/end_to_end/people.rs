//! What people request and are shown: the plan of a manual deployment, the doctor's findings, notifications.

use crate::ALL_GREEN;
use api::DoctorResponse;
use rollout::Verdict;
use rollout::doctor::Severity;
use serde_json::{Value, json};
use simulation::world::balancer::ListenerAction;
use std::time::Duration;
use tests::harness::scenario::{Scenario, ScenarioOptions, good};
use tests::harness::suite::Test;
use tests::harness::{Subscriber, stack, topic_arn};

/// Names of tests, with their functions.
pub(crate) const TESTS: &[Test] = &[
    (
        "what_waits_for_an_operator_is_planned_and_deployed_by_its_digest",
        a_manual_release_is_planned_and_deployed_by_digest,
    ),
    ("the_doctor_reads_the_account_and_finds_what_was_broken_in_it", the_doctor_finds_what_is_broken_in_the_account),
    (
        "programs_get_every_entry_and_people_what_needs_attention_once",
        the_bus_gets_every_entry_and_topics_only_important_ones,
    ),
];

fn a_manual_release_is_planned_and_deployed_by_digest() {
    let fails = |failure: tests::harness::HarnessError| -> ! { panic!("{failure}") };
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
    let actions = vec![ListenerAction::forward([(names.blue_group.as_str(), 100)])];
    scenario
        .stack()
        .front()
        .world()
        .as_third_party(|world| world.modify_rule(&names.rule, None, Some(actions)))
        .expect("the world takes it");
    let broken = wrong(Severity::Broken, &ask());
    let checks: Vec<&str> = broken.iter().map(|(check, ..)| check.as_str()).collect();
    assert!(checks.contains(&"rule_lacks_group"), "{broken:?}");
}

fn the_bus_gets_every_entry_and_topics_only_important_ones() {
    let fails = |failure: tests::harness::HarnessError| -> ! { panic!("{failure}") };
    let people = Subscriber::of_topic(stack(), "switchback-notices").unwrap_or_else(|failure| fails(failure));
    let programs = Subscriber::of_bus(stack(), "notices").unwrap_or_else(|failure| fails(failure));
    let notifications = "[{topic: \"arn:aws:sns:eu-central-1:000000000000:switchback-notices\", environments: [dev]}]";
    assert!(notifications.contains(&topic_arn("switchback-notices")), "{notifications}");
    let scenario = Scenario::new("notices", &ScenarioOptions { notifications, ..ScenarioOptions::default() });
    let _digest = scenario.push("v1", good());
    assert_eq!(scenario.verdict(1).verdict, Some(Verdict::Succeeded));

    let journal = scenario.journal();
    let all_delivered = || {
        let delivered = programs.received().map_err(|failure| failure.0)?.len();
        if delivered >= journal.len() { Ok(()) } else { Err(format!("{delivered} of {}", journal.len())) }
    };
    scenario.expect("every entry is delivered", Duration::from_secs(30), all_delivered);
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
    let (mut subjects, notices) = scenario.expect("people are notified", Duration::from_secs(30), notices_received);
    subjects.sort();
    assert_eq!(subjects, ["Deployment started: notices/api/dev #1", "Succeeded: notices/api/dev #1"]);
    let end = notices.iter().find(|notice| notice["Subject"] == "Succeeded: notices/api/dev #1");
    assert_eq!(end.and_then(|it| it.pointer("/MessageAttributes/verdict/Value")), Some(&json!("succeeded")), "{end:?}");

    scenario.redeliver_journal();
    assert_eq!(on_the_bus(&programs.received().unwrap_or_else(|failure| fails(failure))), every);
    assert_eq!(people.received().unwrap_or_else(|failure| fails(failure)).len(), 2);
}
