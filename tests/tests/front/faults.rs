//! Each way in which a call goes wrong, as the SDK sees it.

use crate::fixture::{self, CLUSTER, FrontFixture, code};
use aws_smithy_runtime_api::client::result::SdkError;
use simulation::world::FunctionBehaviour;
use std::time::{Duration, Instant};
use tests::front::{Answer, AwsError, Fault, FaultKind};

/// One call to each of the front's services, by the code that it ends with.
async fn codes(fixture: &FrontFixture) -> [String; 5] {
    [
        code(fixture.ecs().describe_services().cluster(CLUSTER).services("api-blue").send().await),
        code(fixture.elb().describe_rules().rule_arns(&fixture.names.rule).send().await),
        code(fixture.cloudwatch().describe_alarms().send().await),
        code(fixture.autoscaling().describe_scalable_targets().service_namespace("ecs".into()).send().await),
        code(fixture.lambda().invoke().function_name("hook").send().await),
    ]
}

fn inject_everywhere(fixture: &FrontFixture, fault_kind: &FaultKind) {
    for service in ["ecs", "elbv2", "cloudwatch", "autoscaling", "lambda"] {
        fixture.front.fault(Fault::on_any(service, fault_kind.clone()));
    }
}

#[tokio::test]
async fn throttling_has_each_services_own_code() {
    let fixture = FrontFixture::set().await;
    fixture.front.world().put_function("hook", FunctionBehaviour::succeeds());
    inject_everywhere(&fixture, &FaultKind::Throttle);
    let expected =
        ["ThrottlingException", "Throttling", "Throttling", "ThrottlingException", "TooManyRequestsException"];
    assert_eq!(codes(&fixture).await, expected);
    let after = codes(&fixture).await;
    assert!(after.iter().all(|code| code.starts_with("no error")), "a fault befalls one call: {after:?}");
}

#[tokio::test]
async fn internal_errors_and_denials_have_each_services_own_code() {
    let fixture = FrontFixture::set().await;
    inject_everywhere(&fixture, &FaultKind::InternalError);
    let expected =
        ["ServerException", "InternalFailure", "InternalServiceError", "InternalServiceException", "ServiceException"];
    assert_eq!(codes(&fixture).await, expected);
    inject_everywhere(&fixture, &FaultKind::Deny);
    let expected =
        ["AccessDeniedException", "AccessDenied", "AccessDenied", "AccessDeniedException", "AccessDeniedException"];
    assert_eq!(codes(&fixture).await, expected);
}

#[tokio::test]
async fn the_sdk_retries_throttling_and_internal_errors() {
    let fixture = FrontFixture::set().await;
    let elb = fixture::elb(fixture.front.address(), 3);
    fixture.front.fault(Fault::on("elbv2", "DescribeRules", FaultKind::Throttle));
    fixture.front.fault(Fault::on("elbv2", "DescribeRules", FaultKind::InternalError).from_nth(2));
    elb.describe_rules().rule_arns(&fixture.names.rule).send().await.expect("the third try is answered");
    let log = fixture.front.log();
    let attempts: Vec<(u32, bool)> =
        log.of("elbv2", "DescribeRules").map(|call| (call.attempt, call.succeeded())).collect();
    assert_eq!(attempts, [(1, false), (2, false), (3, true)], "{log}");
}

#[tokio::test]
async fn any_error_can_be_injected() {
    let fixture = FrontFixture::set().await;
    let refusal = AwsError::sender("ServiceNotActiveException", "Service was not ACTIVE.");
    fixture.front.fault(Fault::on("ecs", "UpdateService", FaultKind::Refuse(refusal)).always());
    let update = || fixture.ecs().update_service().cluster(CLUSTER).service("api-blue").desired_count(9).send();
    let both = [code(update().await), code(update().await)];
    assert_eq!(both, ["ServiceNotActiveException", "ServiceNotActiveException"]);
    fixture.front.clear_faults();
    assert!(update().await.is_ok(), "the faults were cleared");
}

#[tokio::test]
async fn a_delayed_call_completes_after_the_caller_disconnects() {
    let fixture = FrontFixture::set().await;
    fixture.front.fault(Fault::on("ecs", "UpdateService", FaultKind::Delay(Duration::from_millis(200))));
    let ecs = fixture.ecs();
    let update = ecs.update_service().cluster(CLUSTER).service("api-green").desired_count(1).send();
    let gone = tokio::time::timeout(Duration::from_millis(50), update).await;
    assert!(gone.is_err(), "{gone:?}");
    let deadline = Instant::now() + Duration::from_secs(5);
    while fixture.front.log().of("ecs", "UpdateService").all(|call| call.answer == Answer::Pending) {
        assert!(Instant::now() < deadline, "the call is never done:\n{}", fixture.front.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let services = ecs.describe_services().cluster(CLUSTER).services("api-green").send().await.expect("described");
    assert_eq!(services.services()[0].desired_count(), 1);
}

#[tokio::test]
async fn disconnecting_before_a_call_changes_nothing() {
    let fixture = FrontFixture::set().await;
    assert_eq!(update_with_disconnect(&fixture, FaultKind::DisconnectBefore).await, 0);
}

#[tokio::test]
async fn disconnecting_after_a_call_keeps_the_change() {
    let fixture = FrontFixture::set().await;
    assert_eq!(update_with_disconnect(&fixture, FaultKind::ApplyThenDisconnect).await, 5);
}

/// Asks green for five tasks under this harm; answers how many it then wants.
async fn update_with_disconnect(fixture: &FrontFixture, fault_kind: FaultKind) -> i32 {
    fixture.front.fault(Fault::on("ecs", "UpdateService", fault_kind.clone()));
    let ecs = fixture.ecs();
    let answer = ecs.update_service().cluster(CLUSTER).service("api-green").desired_count(5).send().await;
    assert!(matches!(answer, Err(SdkError::DispatchFailure(_))), "no answer arrives: {answer:?}");
    let log = fixture.front.log();
    let calls: Vec<_> = log.of("ecs", "UpdateService").collect();
    assert_eq!(calls.len(), 1, "{log}");
    assert_eq!((&calls[0].answer, calls[0].fault_kind.as_ref()), (&Answer::Disconnected, Some(&fault_kind)), "{log}");
    let services = ecs.describe_services().cluster(CLUSTER).services("api-green").send().await.expect("described");
    services.services()[0].desired_count()
}
