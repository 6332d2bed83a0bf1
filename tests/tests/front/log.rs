//! The log: what was called, in which order, and what nobody here speaks.

use crate::fixture::{CLUSTER, FrontFixture, code};
use std::time::Duration;
use tests::front::{Answer, Options};

#[tokio::test]
async fn parallel_calls_count_as_one_step() {
    let fixture = FrontFixture::set().await;
    fixture.front.set_latency(Duration::from_millis(50));
    let (ecs, elb, cloudwatch) = (fixture.ecs(), fixture.elb(), fixture.cloudwatch());
    let from = fixture.front.elapsed();
    let services = || ecs.describe_services().cluster(CLUSTER).services("api-blue").send();
    let rules = || elb.describe_rules().rule_arns(&fixture.names.rule).send();
    let alarms = || cloudwatch.describe_alarms().send();
    let (a, b, c) = tokio::join!(services(), rules(), alarms());
    assert!(a.is_ok() && b.is_ok() && c.is_ok(), "{}", fixture.front.log());
    let to = fixture.front.elapsed();
    rules().await.expect("described");
    services().await.expect("described");
    let log = fixture.front.log();
    assert_eq!(log.sequential_depth(from..to).len(), 1, "three calls at once:\n{log}");
    let names: Vec<String> = log.sequential_depth(from..).into_iter().map(|call| call.name()).collect();
    assert_eq!(names.len(), 3, "{log}");
    assert_eq!(names[1..], ["elbv2 DescribeRules", "ecs DescribeServices"], "{log}");
}

#[tokio::test]
async fn a_call_is_logged_with_request_and_response() {
    let fixture = FrontFixture::set().await;
    let ecs = fixture.ecs();
    let missing = ecs.update_service().cluster(CLUSTER).service("none").desired_count(1).send().await;
    assert_eq!(code(missing), "ServiceNotFoundException");
    let log = fixture.front.log();
    let call = log.of("ecs", "UpdateService").next().expect("it is logged");
    assert_eq!(call.parameter("/service").and_then(|value| value.as_str()), Some("none"));
    let Answer::Refused { status: 400, code, message } = &call.answer else { panic!("{call}") };
    assert_eq!((code.as_str(), message.as_str()), ("ServiceNotFoundException", "Service not found."));
    assert_eq!(call.at, fixture.front.now(), "the world stands still");
    assert!(call.ended.is_some_and(|ended| ended >= call.started), "{call}");
}

#[tokio::test]
async fn unsupported_operations_are_refused_and_recorded() {
    let fixture = FrontFixture::set().await;
    assert_eq!(code(fixture.ecs().list_clusters().send().await), "UnknownOperationException");
    assert_eq!(code(fixture.elb().describe_account_limits().send().await), "InvalidAction");
    assert_eq!(code(fixture.cloudwatch().list_metrics().send().await), "UnknownOperationException");
    let policies = fixture.autoscaling().describe_scaling_policies().service_namespace("ecs".into()).send().await;
    assert_eq!(code(policies), "UnknownOperationException");
    let expected = [
        "ecs ListClusters is not spoken here",
        "elbv2 DescribeAccountLimits is not spoken here",
        "cloudwatch ListMetrics is not spoken here",
        "autoscaling DescribeScalingPolicies is not spoken here",
    ];
    assert_eq!(fixture.front.anomalies(), expected);
}

#[tokio::test]
async fn world_time_follows_wall_time() {
    let fixture = FrontFixture::with(Options { speed: 1000.0, ..Options::default() }).await;
    let before = fixture.front.now();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let passed = fixture.front.now().duration_since(before).as_secs();
    assert!(passed >= 50, "{passed} s of the world in 50 ms and more of the wall's");
    fixture.front.set_speed(0.0);
    let still = fixture.front.now();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(fixture.front.now(), still);
}
