//! Throttled, denied and lost calls.

use super::SHIFTED;
use super::alarms::put_alarm;
use super::hooks::start_task;
use crate::fixture::known;
use crate::with_front::fixture;
use engine::Cloud as _;
use rollout::snapshot::Weights;
use rollout::{Effect, Outcome, Reading, Slot};
use serde_json::json;
use simulation::world::alarms::AlarmState;
use tests::front::{Fault, FaultKind};

#[tokio::test(flavor = "multi_thread")]
async fn throttling_is_retried_and_then_reported() {
    let fixture = fixture().await;
    let green_to = |desired| Effect::SetDesired { slot: Slot::Green, desired };
    fixture.front.fault(Fault::on("ecs", "UpdateService", FaultKind::Throttle));
    assert_eq!(fixture.perform(&green_to(1)).await, Outcome::Done);
    fixture.front.fault(Fault::on("ecs", "UpdateService", FaultKind::Throttle).always());
    let outcome = fixture.perform(&green_to(2)).await;
    assert!(
        matches!(&outcome, Outcome::Throttled { reason } if reason.contains("UpdateService: ThrottlingException")),
        "{outcome:?}"
    );
    fixture.front.clear_faults();
    assert_eq!(known(&fixture.fixture.seen().await.green).desired, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_denial_is_reported_with_awss_message() {
    let fixture = fixture().await;
    fixture.front.fault(Fault::on("elbv2", "ModifyListener", FaultKind::Deny).always());
    let outcome = fixture.perform(&Effect::SetWeights { weights: SHIFTED, seen: vec![] }).await;
    let listener = &fixture.fixture.resources.traffic[0].rules[1];
    let Outcome::Refused { reason } = &outcome else { panic!("{outcome:?}") };
    assert!(reason.starts_with(listener.as_str()) && reason.contains("not authorized"), "{reason}");
    fixture.front.clear_faults();
    let seen = fixture.fixture.seen().await;
    assert_eq!(known(&seen.rules[0]).weights, SHIFTED, "the other rule is written");
    assert_eq!(known(&seen.rules[1]).weights, Weights { blue: 100, green: 0 });
    assert_eq!(fixture.perform(&Effect::SetWeights { weights: SHIFTED, seen: vec![] }).await, Outcome::Done);
    assert_eq!(known(&fixture.fixture.seen().await.rules[1]).weights, SHIFTED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_with_a_lost_response_happens_once() {
    let fixture = fixture().await;
    fixture.front.fault(Fault::on("elbv2", "ModifyRule", FaultKind::ApplyThenDisconnect));
    assert_eq!(fixture.perform(&Effect::SetWeights { weights: SHIFTED, seen: vec![] }).await, Outcome::Done);
    assert!(fixture.fixture.seen().await.rules.iter().all(|rule| known(rule).weights == SHIFTED));

    fixture.front.fault(Fault::on("ecs", "RunTask", FaultKind::ApplyThenDisconnect));
    let outcome = fixture.perform(&start_task()).await;
    let Outcome::TaskStarted { .. } = outcome else { panic!("{outcome:?}") };
    let listed = fixture
        .fixture
        .ecs("ListTasks", &json!({"cluster": "shop", "family": "api", "startedBy": "shop-api-7-migrate"}));
    assert_eq!(listed["taskArns"].as_array().map(Vec::len), Some(1), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_with_a_lost_response_leaves_one_revision() {
    let fixture = fixture().await;
    let effect = Effect::RegisterVersion {
        template: fixture.fixture.task_definition.clone(),
        image: "registry.example.com/shop/api@sha256:new".to_owned(),
        family: None,
    };
    let revisions = || {
        let listed = fixture.fixture.ecs("ListTaskDefinitions", &json!({"familyPrefix": "api"}));
        listed["taskDefinitionArns"].as_array().map(Vec::len)
    };
    let before = revisions();
    fixture.front.fault(Fault::on("ecs", "RegisterTaskDefinition", FaultKind::ApplyThenDisconnect));
    let outcome = fixture.perform(&effect).await;
    assert!(matches!(outcome, Outcome::Registered { .. }), "{outcome:?}");
    assert_eq!(revisions(), before.map(|before| before + 1));

    // One that is refused for now is asked for again; one that always is, is left to the next pass.
    let Effect::RegisterVersion { template, .. } = effect else { return };
    let effect = Effect::RegisterVersion { template, image: "shop/api@sha256:newer".to_owned(), family: None };
    fixture.front.fault(Fault::on("ecs", "RegisterTaskDefinition", FaultKind::Throttle));
    let outcome = fixture.perform(&effect).await;
    assert!(matches!(outcome, Outcome::Registered { reused: false, .. }), "{outcome:?}");
    assert_eq!(revisions(), before.map(|before| before + 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_failed_reads_are_unknown() {
    let fixture = fixture().await;
    put_alarm(&fixture, "quiet", AlarmState::Ok);
    let mut observation = fixture.fixture.observation();
    observation.alarms.insert("quiet".to_owned());
    for (service, operation) in [
        ("cloudwatch", "DescribeAlarms"),
        ("autoscaling", "DescribeScalableTargets"),
        ("elbv2", "DescribeListeners"),
        ("elbv2", "DescribeTargetHealth"),
        ("ecs", "DescribeServices"),
    ] {
        fixture.front.fault(Fault::on(service, operation, FaultKind::Deny).always());
        let seen = fixture.fixture.cloud.observe(&observation).await;
        let unknown = |reading: Option<&String>| reading.is_some_and(|reason| reason.contains(operation));
        let side = |slot| match seen.side(slot) {
            Reading::Unknown(reason) => Some(reason),
            Reading::Known(_) => None,
        };
        let sides = operation == "DescribeScalableTargets" || operation == "DescribeTargetHealth" || service == "ecs";
        for slot in Slot::BOTH {
            assert_eq!(unknown(side(slot)), sides, "{operation}: {:?}", seen.side(slot));
        }
        assert_eq!(seen.alarms.known().is_none(), service == "cloudwatch", "{operation}: {:?}", seen.alarms);
        assert!(seen.rules[0].known().is_some(), "{operation}: {:?}", seen.rules[0]);
        assert_eq!(
            seen.rules[1].known().is_none(),
            operation == "DescribeListeners",
            "{operation}: {:?}",
            seen.rules[1]
        );
        fixture.front.clear_faults();
    }
}
