//! `operations`: operator requests over HTTP, signed with IAM: apply, plan, deploy, promote, approve, brakes, and queries.
//!
//! The gateway has authenticated the caller; a request without an authenticated caller is always refused. Each request type has
//! its own path, so that IAM can authorize it separately; the policy decides who may approve. Writes policies, brakes and
//! commands to the ledger and sends wakes; reads live AWS state only for plans.

#[cfg(test)]
mod garbage;
mod request;

use api::operations::Operations;
use aws::cloud::AwsCloud;
use aws::config::{REACH, setting};
use aws::{Ports, SystemClock};
use engine::log_context;
use lambda::{Invocation, InvocationFailure, configured};
use request::OperatorRequest;
use rollout::doctor::inspected::IamScope;
use serde_json::Value;
use std::process::ExitCode;
use tracing::Instrument as _;

fn main() -> ExitCode {
    lambda::run(start, handle)
}

fn start() -> Result<Ports, InvocationFailure> {
    configured(Ports::from_environment())
}

async fn handle(ports: &Ports, event: Value, _: &Invocation) -> Result<Value, InvocationFailure> {
    let OperatorRequest { http, caller } = match request::read(event)? {
        Ok(request) => request,
        Err(refusal) => {
            let (status, body) = refusal.logged();
            return Ok(lambda::json_response(status, &body));
        }
    };
    // One per request: it caches what the request has read.
    let cloud = AwsCloud::new(ports.clients.clone()).with_iam_scope(iam_scope());
    let operations =
        Operations { ledger: &ports.ledger, cloud: &cloud, wake_queue: &ports.wake_queue, clock: &SystemClock };
    let routed = operations.route(&http.method, &http.path, &http.query, &http.body, &caller);
    let (status, body) = routed.instrument(log_context::empty_span()).await;
    Ok(lambda::json_response(status, &body))
}

/// The IAM scope of the roles, which the doctor compares with the policy; none: the stack does not set it.
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
