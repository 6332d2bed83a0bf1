//! `promotions`: requests from GitHub Actions workflows over HTTP, authenticated by GitHub's own token instead of a stored key.
//!
//! The gateway's JWT authorizer has verified that the token is GitHub's, for this audience and not expired. Any repository in the
//! world can get such a token, so the token alone authorizes nothing: the policy's grants do (`engine::workflows`). Reads what a
//! request names, writes commands to the ledger and sends wakes; nothing else.

#[cfg(test)]
mod garbage;
mod request;

use aws::{Ports, SystemClock};
use engine::command_service::{ErrorBody, Refusal};
use engine::workflows::Workflows;
use lambda::{Failure, Invocation};
use request::Request;
use serde_json::{Value, json};
use std::process::ExitCode;

fn main() -> ExitCode {
    lambda::run(start, handle)
}

fn start() -> Result<Ports, Failure> {
    Ports::from_environment().map_err(|error| Failure::configuration(&error))
}

async fn handle(ports: &Ports, event: Value, _: &Invocation) -> Result<Value, Failure> {
    let Request { method, path, query, body, claims } = match request::read(event)? {
        Ok(request) => request,
        Err(refusal) => return Ok(refused(refusal)),
    };
    let workflows = Workflows { ledger: &ports.ledger, wake_queue: &ports.wake_queue, clock: &SystemClock };
    let (status, body) = workflows.route(&method, &path, &query, &body, &claims).await;
    Ok(lambda::json_response(status, &body))
}

fn refused(error: Refusal) -> Value {
    tracing::info!(http.status = error.status, error.code = error.code, "refused: {error}");
    lambda::json_response(error.status, &json!(ErrorBody { error }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_response_is_uncached_json() {
        let answer = refused(engine::workflows::not_allowed());
        assert_eq!(answer["statusCode"], 403);
        assert_eq!(answer["headers"]["content-type"], "application/json");
        assert_eq!(answer["headers"]["cache-control"], "no-store");
        let body: Value = serde_json::from_str(answer["body"].as_str().expect("text")).expect("JSON");
        let message = "this workflow may not do that; the operators' log says why";
        assert_eq!(body, json!({"error": {"code": "not_allowed", "message": message}}));
    }
}
