//! `operations`: what people ask over HTTP, signed with IAM: apply, plan, deploy, promote, approve, brakes, and questions.
//!
//! The gateway has proven who asks; a request without a proven caller is refused whatever it asks. Each thing that can be
//! asked has a path of its own, so that IAM can allow it alone; who may approve is the policy's to say. Writes policies,
//! brakes and commands to the ledger and sends the wake; of what runs it only looks at what a plan needs.

#[cfg(test)]
mod garbage;
mod request;

use aws::cloud::AwsCloud;
use aws::config::{REACH, setting};
use aws::{Ports, SystemClock};
use engine::operate::{ErrorBody, Operations, Refusal};
use engine::story;
use lambda::{Failure, Invocation};
use request::Request;
use rollout::doctor::seen::Reach;
use serde_json::{Value, json};
use std::process::ExitCode;
use tracing::Instrument as _;

fn main() -> ExitCode {
    lambda::run(start, handle)
}

fn start() -> Result<Ports, Failure> {
    Ports::from_environment().map_err(|error| Failure::configuration(&error))
}

async fn handle(ports: &Ports, event: Value, _: &Invocation) -> Result<Value, Failure> {
    let Request { method, path, query, body, caller } = match request::read(event)? {
        Ok(request) => request,
        Err(refusal) => return Ok(refused(refusal)),
    };
    // One for each request: it remembers what the request has read.
    let cloud = AwsCloud::new(ports.clients.clone()).reaching(reach());
    let operations =
        Operations { ledger: &ports.ledger, cloud: &cloud, wake_queue: &ports.wake_queue, clock: &SystemClock };
    let (status, body) = operations.route(&method, &path, &query, &body, &caller).instrument(story::untold()).await;
    Ok(lambda::json_response(status, &body))
}

/// What the roles are narrowed to; a stack of before there was a doctor does not say.
fn reach() -> Option<Reach> {
    let text = setting(REACH).ok()?;
    match serde_json::from_str(&text) {
        Ok(reach) => Some(reach),
        Err(error) => {
            tracing::warn!("{REACH} is not what template.yaml sets: {error}");
            None
        }
    }
}

fn refused(error: Refusal) -> Value {
    let status = error.status;
    tracing::info!(http.status = status, error.code = error.code, "refused: {error}");
    lambda::json_response(status, &json!(ErrorBody { error }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_json_that_nobody_keeps() {
        let answer = refused(Refusal::new(403, "no_caller", "who are you?"));
        assert_eq!(answer["statusCode"], 403);
        assert_eq!(answer["headers"]["content-type"], "application/json");
        assert_eq!(answer["headers"]["cache-control"], "no-store");
        let body: Value = serde_json::from_str(answer["body"].as_str().expect("text")).expect("JSON");
        assert_eq!(body, json!({"error": {"code": "no_caller", "message": "who are you?"}}));
    }
}
