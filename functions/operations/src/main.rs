//! `operations`: operator requests over HTTP, signed with IAM: apply, plan, deploy, promote, approve, brakes, and queries.
//!
//! The gateway has authenticated the caller; a request without an authenticated caller is always refused. Each request type has
//! its own path, so that IAM can authorize it separately; the policy decides who may approve. Writes policies, brakes and
//! commands to the ledger and sends wakes; reads live AWS state only for plans.

#[cfg(test)]
mod garbage;
mod request;

use aws::cloud::AwsCloud;
use aws::config::{REACH, setting};
use aws::{Ports, SystemClock};
use engine::log_context;
use engine::operate::{ErrorBody, Operations, Refusal};
use lambda::{Failure, Invocation};
use request::Request;
use rollout::doctor::seen::IamScope;
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
    // One per request: it caches what the request has read.
    let cloud = AwsCloud::new(ports.clients.clone()).with_reach(iam_scope());
    let operations =
        Operations { ledger: &ports.ledger, cloud: &cloud, wake_queue: &ports.wake_queue, clock: &SystemClock };
    let (status, body) =
        operations.route(&method, &path, &query, &body, &caller).instrument(log_context::empty_span()).await;
    Ok(lambda::json_response(status, &body))
}

/// The IAM scope of the roles; stacks older than the doctor do not provide it.
fn iam_scope() -> Option<IamScope> {
    let text = setting(REACH).ok()?;
    match serde_json::from_str(&text) {
        Ok(iam_scope) => Some(iam_scope),
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
    fn every_response_is_uncached_json() {
        let answer = refused(Refusal::new(403, "no_caller", "who are you?"));
        assert_eq!(answer["statusCode"], 403);
        assert_eq!(answer["headers"]["content-type"], "application/json");
        assert_eq!(answer["headers"]["cache-control"], "no-store");
        let body: Value = serde_json::from_str(answer["body"].as_str().expect("text")).expect("JSON");
        assert_eq!(body, json!({"error": {"code": "no_caller", "message": "who are you?"}}));
    }
}
