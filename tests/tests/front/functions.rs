//! Functions that hooks invoke.

use crate::scene::{Scene, code};
use aws_sdk_lambda::operation::invoke::InvokeOutput;
use aws_sdk_lambda::primitives::Blob;
use serde_json::{Value, json};
use simulation::world::{FunctionBehaviour, Invoked};
use std::time::Duration;

fn payload(answer: &InvokeOutput) -> Value {
    let bytes = answer.payload().map(|blob| blob.as_ref()).unwrap_or_default();
    serde_json::from_slice(bytes).unwrap_or_default()
}

async fn ask(scene: &Scene, function: &str, run: &str) -> InvokeOutput {
    let told = Blob::new(json!({"run": run}).to_string());
    scene.lambda().invoke().function_name(function).payload(told).send().await.expect("the function is invoked")
}

#[tokio::test]
async fn functions_of_the_world_report() {
    let scene = Scene::set().await;
    {
        let mut world = scene.front.world();
        world.put_function("good", FunctionBehaviour::succeeds());
        world.put_function("bad", FunctionBehaviour::fails("no"));
        let slow = FunctionBehaviour::Reports { in_progress: 1, then: json!({"status": "succeeded"}) };
        world.put_function("slow", slow);
    }
    let good = ask(&scene, "arn:aws:lambda:eu-central-1:111122223333:function:good:live", "1").await;
    assert_eq!(payload(&good), json!({"status": "succeeded"}));
    assert_eq!((good.status_code(), good.function_error()), (200, None));
    assert_eq!(payload(&ask(&scene, "bad", "1").await), json!({"status": "failed", "reason": "no"}));
    let statuses = [ask(&scene, "slow", "1").await, ask(&scene, "slow", "1").await, ask(&scene, "slow", "2").await];
    let statuses = statuses.map(|answer| payload(&answer)["status"].clone());
    assert_eq!(statuses, ["in_progress", "succeeded", "in_progress"], "progress is counted for each run");
}

#[tokio::test]
async fn a_closure_answers_what_it_is_told() {
    let scene = Scene::set().await;
    scene.front.put_function("echo", |told| Invoked::Answered(json!({"status": "failed", "reason": told["run"]})));
    let answer = ask(&scene, "echo", "target#7/smoke").await;
    assert_eq!(payload(&answer), json!({"status": "failed", "reason": "target#7/smoke"}));
    let log = scene.front.log();
    let call = log.of("lambda", "Invoke").next().expect("it is logged");
    assert_eq!(call.parameter("/FunctionName"), Some(&json!("echo")));
    assert_eq!(call.parameter("/Payload/run"), Some(&json!("target#7/smoke")));
}

#[tokio::test]
async fn a_function_that_throws_is_an_answer_with_an_error() {
    let scene = Scene::set().await;
    scene.front.world().put_function("broken", FunctionBehaviour::Throws);
    let answer = ask(&scene, "broken", "1").await;
    assert_eq!((answer.status_code(), answer.function_error()), (200, Some("Unhandled")));
    assert!(payload(&answer)["errorMessage"].is_string(), "{answer:?}");
}

#[tokio::test]
async fn a_function_that_never_answers_keeps_its_caller_waiting() {
    let scene = Scene::set().await;
    scene.front.world().put_function("silent", FunctionBehaviour::Silent);
    let lambda = scene.lambda();
    let call = lambda.invoke().function_name("silent").send();
    let waited = tokio::time::timeout(Duration::from_millis(300), call).await;
    assert!(waited.is_err(), "{waited:?}");
    scene.front.stop();
    let stopped = lambda.invoke().function_name("silent").send().await;
    assert!(stopped.is_err(), "a front that was stopped answers nobody: {stopped:?}");
}

#[tokio::test]
async fn lambda_refuses_what_aws_refuses() {
    let scene = Scene::set().await;
    let lambda = scene.lambda();
    assert_eq!(code(lambda.invoke().function_name("none").send().await), "ResourceNotFoundException");
    scene.front.world().put_function("good", FunctionBehaviour::succeeds());
    let garbled = lambda.invoke().function_name("good").payload(Blob::new("{")).send().await;
    assert_eq!(code(garbled), "InvalidRequestContentException");
}
