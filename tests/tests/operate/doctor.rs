//! What the doctor says of a world: nothing of a sound one, and of each thing that is broken in it what, where and what to do.

use super::stand::Stand;
use serde_json::{Value, json};
use simulation::world::alarms::{AlarmKind, TreatMissing};
use simulation::world::balancer::Action;

const ASK: &str = "/v1/doctor";

/// The severities and checks that were found.
fn found(answer: &Value) -> Vec<(String, String)> {
    let findings = answer["findings"].as_array().expect("a list");
    let text = |finding: &Value, key: &str| finding[key].as_str().expect("every finding has it").to_owned();
    findings.iter().map(|finding| (text(finding, "severity"), text(finding, "check"))).collect()
}

fn asked(stand: &mut Stand) -> Value {
    let (status, answer) = stand.ask("POST", ASK, json!({"target": "shop/api/prod"}));
    assert_eq!(status, 200, "{answer:#}");
    answer
}

/// What would keep a deployment from going well; advice left out.
fn wrong(stand: &mut Stand) -> Vec<String> {
    let found = found(&asked(stand)).into_iter();
    found.filter(|(severity, _)| severity != "advice").map(|(_, check)| check).collect()
}

#[test]
fn a_sound_account_has_nothing_wrong_and_terraform_is_told_what_to_leave_alone() {
    let mut stand = Stand::new();
    assert_eq!(wrong(&mut stand), Vec::<String>::new());
    let answer = asked(&mut stand);
    assert_eq!(answer["version"], 2);
    let names = stand.simulation.names().clone();
    let wanted = json!({"resource": "aws_lb_listener_rule", "name": names.rule, "attributes": ["action"]});
    let terraform = answer["terraform"].as_array().expect("a list");
    assert!(terraform.contains(&wanted), "{terraform:#?}");
    assert!(!terraform.iter().any(|it| it["resource"] == "aws_appautoscaling_target"), "nobody scales this pair");
}

#[test]
fn what_is_broken_in_the_world_is_found() {
    let mut stand = Stand::new();
    let names = stand.simulation.names().clone();
    stand.simulation.world(|world| {
        let blue_alone = vec![Action::forward([(names.blue_group.as_str(), 100)])];
        world.modify_rule(&names.rule, None, Some(blue_alone)).expect("the world takes it");
        let alarms = world.describe_alarms(std::slice::from_ref(&names.green_alarm)).expect("it is there");
        let AlarmKind::Metric(metric) = alarms[0].kind.clone() else { panic!("a metric alarm") };
        let deaf = simulation::world::alarms::MetricAlarm {
            treat_missing: TreatMissing::Breaching,
            target_group: None,
            ..metric
        };
        world.put_metric_alarm(deaf).expect("the world takes it");
    });
    let wrong = wrong(&mut stand);
    assert!(wrong.contains(&"rule_lacks_group".to_owned()), "{wrong:?}");
    assert!(wrong.contains(&"alarms_cannot_tell".to_owned()), "{wrong:?}");
}

#[test]
fn a_file_is_judged_before_it_is_applied() {
    let mut stand = Stand::new();
    let file = stand.text.replace(&stand.simulation.names().green_alarm, "no-such-alarm");
    assert_ne!(file, stand.text);
    let (status, answer) = stand.ask("POST", ASK, json!({"target": "shop/api/prod", "text": file}));
    assert_eq!(status, 200, "{answer:#}");
    assert_eq!(answer["version"], Value::Null);
    let found = found(&answer);
    assert!(found.contains(&("broken".to_owned(), "alarm_missing".to_owned())), "{found:?}");
    assert_eq!(wrong(&mut stand), Vec::<String>::new(), "what is applied is as it was");
}

#[test]
fn what_cannot_be_judged_is_refused_with_the_reason() {
    let mut stand = Stand::new();
    let (status, code, message) = stand.refused("POST", ASK, json!({"target": "shop/web/prod"}));
    assert_eq!((status, code.as_str()), (404, "unknown_target"), "{message}");
    let (status, code, message) =
        stand.refused("POST", ASK, json!({"target": "shop/api/prod", "text": "application: shop"}));
    assert_eq!((status, code.as_str()), (422, "invalid_policy"), "{message}");
    assert!(!message.contains("applied"), "{message}");
    let (status, code, _) = stand.refused("POST", ASK, json!({}));
    assert_eq!((status, code.as_str()), (400, "invalid_request"));
}
