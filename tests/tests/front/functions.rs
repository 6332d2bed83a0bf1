//! Functions that hooks invoke.

use crate::fixture::{FrontFixture, code};
use aws_sdk_lambda::operation::invoke::InvokeOutput;
use aws_sdk_lambda::primitives::Blob;
use serde_json::{Value, json};
use simulation::world::{FunctionBehaviour, Invoked};
use std::time::Duration;

fn payload(answer: &InvokeOutput) -> Value {
    let bytes = answer.payload().map(|blob| blob.as_ref()).unwrap_or_default();
    serde_json::from_slice(bytes).unwrap_or_default()
}

async fn ask(fixture: &FrontFixture, function: &str, run: &str) -> InvokeOutput {
    let request = Blob::new(json!({"run": run}).to_string());
    fixture.lambda().invoke().function_name(function).payload(request).send().await.expect("the function is invoked")
}

#[tokio::test]
async fn simulated_functions_answer() {
    let fixture = FrontFixture::set().await;
    {
        let mut world = fixture.front.world();
        world.put_function("good", FunctionBehaviour::succeeds());
        world.put_function("bad", FunctionBehaviour::fails("no"));
        let slow = FunctionBehaviour::Reports { in_progress: 1, then: json!({"status": "succeeded"}) };
        world.put_function("slow", slow);
    }
    let good = ask(&fixture, "arn:aws:lambda:eu-central-1:111122223333:function:good:live", "1").await;
    assert_eq!(payload(&good), json!({"status": "succeeded"}));
    assert_eq!((good.status_code(), good.function_error()), (200, None));
    assert_eq!(payload(&ask(&fixture, "bad", "1").await), json!({"status": "failed", "reason": "no"}));
    let statuses =
        [ask(&fixture, "slow", "1").await, ask(&fixture, "slow", "1").await, ask(&fixture, "slow", "2").await];
    let statuses = statuses.map(|answer| payload(&answer)["status"].clone());
    assert_eq!(statuses, ["in_progress", "succeeded", "in_progress"], "progress is counted for each run");
}

#[tokio::test]
async fn a_closure_serves_as_a_function() {
    let fixture = FrontFixture::set().await;
    fixture
        .front
        .put_function("echo", |request| Invoked::Answered(json!({"status": "failed", "reason": request["run"]})));
    let answer = ask(&fixture, "echo", "target#7/smoke").await;
    assert_eq!(payload(&answer), json!({"status": "failed", "reason": "target#7/smoke"}));
    let log = fixture.front.log();
    let call = log.of("lambda", "Invoke").next().expect("it is logged");
    assert_eq!(call.parameter("/FunctionName"), Some(&json!("echo")));
    assert_eq!(call.parameter("/Payload/run"), Some(&json!("target#7/smoke")));
}

#[tokio::test]
async fn a_throwing_function_returns_a_function_error() {
    let fixture = FrontFixture::set().await;
    fixture.front.world().put_function("broken", FunctionBehaviour::Throws);
    let answer = ask(&fixture, "broken", "1").await;
    assert_eq!((answer.status_code(), answer.function_error()), (200, Some("Unhandled")));
    assert!(payload(&answer)["errorMessage"].is_string(), "{answer:?}");
}

#[tokio::test]
async fn a_function_that_never_answers_keeps_its_caller_waiting() {
    let fixture = FrontFixture::set().await;
    fixture.front.world().put_function("silent", FunctionBehaviour::Silent);
    let lambda = fixture.lambda();
    let call = lambda.invoke().function_name("silent").send();
    let waited = tokio::time::timeout(Duration::from_millis(300), call).await;
    assert!(waited.is_err(), "{waited:?}");
    fixture.front.stop();
    let stopped = lambda.invoke().function_name("silent").send().await;
    assert!(stopped.is_err(), "a front that was stopped answers nobody: {stopped:?}");
}

#[tokio::test]
async fn lambda_refuses_what_aws_refuses() {
    let fixture = FrontFixture::set().await;
    let lambda = fixture.lambda();
    assert_eq!(code(lambda.invoke().function_name("none").send().await), "ResourceNotFoundException");
    fixture.front.world().put_function("good", FunctionBehaviour::succeeds());
    let garbled = lambda.invoke().function_name("good").payload(Blob::new("{")).send().await;
    assert_eq!(code(garbled), "InvalidRequestContentException");
}
