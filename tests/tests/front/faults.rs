//! Each way in which a call goes wrong, as the SDK sees it.

use crate::scene::{self, CLUSTER, Scene, code};
use aws_smithy_runtime_api::client::result::SdkError;
use simulation::world::FunctionBehaviour;
use std::time::{Duration, Instant};
use tests::front::{Answer, Fault, Harm, Refusal};

/// One call to each of the front's services, by the code that it ends with.
async fn codes(scene: &Scene) -> [String; 5] {
    [
        code(scene.ecs().describe_services().cluster(CLUSTER).services("api-blue").send().await),
        code(scene.elb().describe_rules().rule_arns(&scene.names.rule).send().await),
        code(scene.cloudwatch().describe_alarms().send().await),
        code(scene.autoscaling().describe_scalable_targets().service_namespace("ecs".into()).send().await),
        code(scene.lambda().invoke().function_name("hook").send().await),
    ]
}

fn everywhere(scene: &Scene, harm: &Harm) {
    for service in ["ecs", "elbv2", "cloudwatch", "autoscaling", "lambda"] {
        scene.front.fault(Fault::on_any(service, harm.clone()));
    }
}

#[tokio::test]
async fn throttling_has_each_services_own_code() {
    let scene = Scene::set().await;
    scene.front.world().put_function("hook", FunctionBehaviour::succeeds());
    everywhere(&scene, &Harm::Throttle);
    let expected =
        ["ThrottlingException", "Throttling", "Throttling", "ThrottlingException", "TooManyRequestsException"];
    assert_eq!(codes(&scene).await, expected);
    let after = codes(&scene).await;
    assert!(after.iter().all(|code| code.starts_with("no error")), "a fault befalls one call: {after:?}");
}

#[tokio::test]
async fn internal_errors_and_denials_have_each_services_own_code() {
    let scene = Scene::set().await;
    everywhere(&scene, &Harm::InternalError);
    let expected =
        ["ServerException", "InternalFailure", "InternalServiceError", "InternalServiceException", "ServiceException"];
    assert_eq!(codes(&scene).await, expected);
    everywhere(&scene, &Harm::Deny);
    let expected =
        ["AccessDeniedException", "AccessDenied", "AccessDenied", "AccessDeniedException", "AccessDeniedException"];
    assert_eq!(codes(&scene).await, expected);
}

#[tokio::test]
async fn the_sdk_tries_again_after_throttling_and_internal_errors() {
    let scene = Scene::set().await;
    let elb = scene::elb(scene.front.address(), 3);
    scene.front.fault(Fault::on("elbv2", "DescribeRules", Harm::Throttle));
    scene.front.fault(Fault::on("elbv2", "DescribeRules", Harm::InternalError).from_nth(2));
    elb.describe_rules().rule_arns(&scene.names.rule).send().await.expect("the third try is answered");
    let log = scene.front.log();
    let attempts: Vec<(u32, bool)> =
        log.of("elbv2", "DescribeRules").map(|call| (call.attempt, call.succeeded())).collect();
    assert_eq!(attempts, [(1, false), (2, false), (3, true)], "{log}");
}

#[tokio::test]
async fn any_error_can_be_asked_for() {
    let scene = Scene::set().await;
    let refusal = Refusal::sender("ServiceNotActiveException", "Service was not ACTIVE.");
    scene.front.fault(Fault::on("ecs", "UpdateService", Harm::Refuse(refusal)).always());
    let update = || scene.ecs().update_service().cluster(CLUSTER).service("api-blue").desired_count(9).send();
    let both = [code(update().await), code(update().await)];
    assert_eq!(both, ["ServiceNotActiveException", "ServiceNotActiveException"]);
    scene.front.clear_faults();
    assert!(update().await.is_ok(), "the faults were cleared");
}

#[tokio::test]
async fn a_call_that_is_late_is_done_even_if_the_caller_has_gone() {
    let scene = Scene::set().await;
    scene.front.fault(Fault::on("ecs", "UpdateService", Harm::Delay(Duration::from_millis(200))));
    let ecs = scene.ecs();
    let update = ecs.update_service().cluster(CLUSTER).service("api-green").desired_count(1).send();
    let gone = tokio::time::timeout(Duration::from_millis(50), update).await;
    assert!(gone.is_err(), "{gone:?}");
    let deadline = Instant::now() + Duration::from_secs(5);
    while scene.front.log().of("ecs", "UpdateService").all(|call| call.answer == Answer::Pending) {
        assert!(Instant::now() < deadline, "the call is never done:\n{}", scene.front.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let services = ecs.describe_services().cluster(CLUSTER).services("api-green").send().await.expect("described");
    assert_eq!(services.services()[0].desired_count(), 1);
}

#[tokio::test]
async fn a_connection_that_is_dropped_before_leaves_the_world_alone() {
    let scene = Scene::set().await;
    assert_eq!(cut(&scene, Harm::DropBefore).await, 0);
}

#[tokio::test]
async fn a_connection_that_is_cut_after_leaves_the_change() {
    let scene = Scene::set().await;
    assert_eq!(cut(&scene, Harm::ApplyThenCut).await, 5);
}

/// Asks green for five tasks under this harm; answers how many it then wants.
async fn cut(scene: &Scene, harm: Harm) -> i32 {
    scene.front.fault(Fault::on("ecs", "UpdateService", harm.clone()));
    let ecs = scene.ecs();
    let answer = ecs.update_service().cluster(CLUSTER).service("api-green").desired_count(5).send().await;
    assert!(matches!(answer, Err(SdkError::DispatchFailure(_))), "no answer arrives: {answer:?}");
    let log = scene.front.log();
    let calls: Vec<_> = log.of("ecs", "UpdateService").collect();
    assert_eq!(calls.len(), 1, "{log}");
    assert_eq!((&calls[0].answer, calls[0].harm.as_ref()), (&Answer::Cut, Some(&harm)), "{log}");
    let services = ecs.describe_services().cluster(CLUSTER).services("api-green").send().await.expect("described");
    services.services()[0].desired_count()
}
