//! `promotions`: requests from GitHub Actions workflows over HTTP, authenticated by GitHub's own token instead of a stored key.
//!
//! The gateway's JWT authorizer has verified that the token is GitHub's, for this audience and not expired. Any repository in the
//! world can get such a token, so the token alone authorizes nothing: the policy's grants do (`api::workflows`). Reads what a
//! request names, writes commands to the ledger and sends wakes; nothing else.

#[cfg(test)]
mod garbage;
mod request;

use api::workflows::Workflows;
use aws::{Ports, SystemClock};
use lambda::{Invocation, InvocationFailure, configured};
use request::WorkflowRequest;
use serde_json::Value;
use std::process::ExitCode;

fn main() -> ExitCode {
    lambda::run(start, handle)
}

fn start() -> Result<Ports, InvocationFailure> {
    configured(Ports::from_environment())
}

async fn handle(ports: &Ports, event: Value, _: &Invocation) -> Result<Value, InvocationFailure> {
    let WorkflowRequest { http, claims } = match request::read(event)? {
        Ok(request) => request,
        Err(refusal) => {
            let (status, body) = refusal.logged();
            return Ok(lambda::json_response(status, &body));
        }
    };
    let workflows = Workflows { ledger: &ports.ledger, wake_queue: &ports.wake_queue, clock: &SystemClock };
    let (status, body) = workflows.route(&http.method, &http.path, &http.query, &http.body, &claims).await;
    Ok(lambda::json_response(status, &body))
}
