//! What the doctor says of a world: nothing of a sound one, and of each thing that is broken in it what, where and what to do.

use super::bench::TestBench;
use serde_json::{Value, json};
use simulation::world::alarms::{AlarmDefinition, TreatMissing};
use simulation::world::balancer::ListenerAction;

const ASK: &str = "/v1/doctor";

/// The severities and checks that were found.
fn found(answer: &Value) -> Vec<(String, String)> {
    let findings = answer["findings"].as_array().expect("a list");
    let text = |finding: &Value, key: &str| finding[key].as_str().expect("every finding has it").to_owned();
    findings.iter().map(|finding| (text(finding, "severity"), text(finding, "check"))).collect()
}

fn ask_doctor(bench: &mut TestBench) -> Value {
    let (status, answer) = bench.ask("POST", ASK, json!({"target": "shop/api/prod"}));
    assert_eq!(status, 200, "{answer:#}");
    answer
}

/// What would keep a deployment from going well; advice left out.
fn problems(bench: &mut TestBench) -> Vec<String> {
    let found = found(&ask_doctor(bench)).into_iter();
    found.filter(|(severity, _)| severity != "advice").map(|(_, check)| check).collect()
}

#[test]
fn a_healthy_account_has_no_findings() {
    let mut bench = TestBench::new();
    assert_eq!(problems(&mut bench), Vec::<String>::new());
    let answer = ask_doctor(&mut bench);
    assert_eq!(answer["version"], 2);
    let names = bench.simulation.names().clone();
    let wanted = json!({"resource": "aws_lb_listener_rule", "name": names.rule, "attributes": ["action"]});
    let terraform = answer["terraform"].as_array().expect("a list");
    assert!(terraform.contains(&wanted), "{terraform:#?}");
    assert!(!terraform.iter().any(|it| it["resource"] == "aws_appautoscaling_target"), "nobody scales this pair");
}

#[test]
fn broken_resources_are_found() {
    let mut bench = TestBench::new();
    let names = bench.simulation.names().clone();
    bench.simulation.world(|world| {
        let blue_alone = vec![ListenerAction::forward([(names.blue_group.as_str(), 100)])];
        world.modify_rule(&names.rule, None, Some(blue_alone)).expect("the world takes it");
        let alarms = world.describe_alarms(std::slice::from_ref(&names.green_alarm)).expect("it is there");
        let AlarmDefinition::Metric(metric) = alarms[0].kind.clone() else { panic!("a metric alarm") };
        let deaf = simulation::world::alarms::MetricAlarm {
            treat_missing: TreatMissing::Breaching,
            target_group: None,
            ..metric
        };
        world.put_metric_alarm(deaf).expect("the world takes it");
    });
    let problems = problems(&mut bench);
    assert!(problems.contains(&"rule_lacks_group".to_owned()), "{problems:?}");
    assert!(problems.contains(&"alarms_cannot_tell".to_owned()), "{problems:?}");
}

#[test]
fn an_image_that_left_the_registry_is_found_before_it_is_needed() {
    let mut bench = TestBench::new();
    bench.deploy_release(1);
    assert_eq!(problems(&mut bench), Vec::<String>::new());
    bench.simulation.delete_image(1);
    assert_eq!(problems(&mut bench), ["image_of_stable_missing"]);
}

#[test]
fn an_unapplied_file_can_be_checked() {
    let mut bench = TestBench::new();
    let file = bench.text.replace(&bench.simulation.names().green_alarm, "no-such-alarm");
    assert_ne!(file, bench.text);
    let (status, answer) = bench.ask("POST", ASK, json!({"target": "shop/api/prod", "text": file}));
    assert_eq!(status, 200, "{answer:#}");
    assert_eq!(answer["version"], Value::Null);
    let found = found(&answer);
    assert!(found.contains(&("broken".to_owned(), "alarm_missing".to_owned())), "{found:?}");
    assert_eq!(problems(&mut bench), Vec::<String>::new(), "what is applied is as it was");
}

#[test]
fn an_invalid_doctor_request_is_refused() {
    let mut bench = TestBench::new();
    let (status, code, message) = bench.refused("POST", ASK, json!({"target": "shop/web/prod"}));
    assert_eq!((status, code.as_str()), (404, "unknown_target"), "{message}");
    let (status, code, message) =
        bench.refused("POST", ASK, json!({"target": "shop/api/prod", "text": "application: shop"}));
    assert_eq!((status, code.as_str()), (422, "invalid_policy"), "{message}");
    assert!(!message.contains("applied"), "{message}");
    let (status, code, _) = bench.refused("POST", ASK, json!({}));
    assert_eq!((status, code.as_str()), (400, "invalid_request"));
}
