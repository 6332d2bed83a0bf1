//! The HTTP API's event, format 2.0, with the token's claims from its JWT authorizer (API Gateway developer guide, "Create AWS
//! Lambda proxy integrations for HTTP APIs", "Control access to HTTP APIs with JWT authorizers").

use api::Refusal;
use api::workflows::{UnverifiedClaims, not_allowed};
use lambda::{InvocationFailure, TextRequest};
use serde_json::Value;
use std::collections::BTreeMap;

/// A request and the claims of its token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WorkflowRequest {
    /// What is asked.
    pub(crate) http: TextRequest,
    /// Verified as issued by GitHub; authorizes nothing by itself.
    pub(crate) claims: UnverifiedClaims,
}

/// Reads an event. The inner error is shown to the caller: no verified token, or a body that is not text.
///
/// # Errors
/// `InvalidEvent` if it is not an event of an HTTP API.
pub(crate) fn read(event: Value) -> Result<Result<WorkflowRequest, Refusal>, InvocationFailure> {
    let request = lambda::http_request(event)?;
    let claims = match request.authorizer.pointer("/jwt/claims") {
        Some(Value::Object(claims)) if !claims.is_empty() => {
            let claims = as_text(claims);
            UnverifiedClaims::of(|name| claims.get(name).map(String::as_str))
        }
        _ => {
            tracing::error!("an event without a proven token: see that the route has the JWT authorizer");
            return Ok(Err(not_allowed()));
        }
    };
    Ok(request.into_text().map(|http| WorkflowRequest { http, claims }).ok_or_else(Refusal::body_is_not_text))
}

/// Claims as the gateway passes them on: strings. A number is also accepted, and no other type.
fn as_text(claims: &serde_json::Map<String, Value>) -> BTreeMap<&str, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    claims.iter().filter_map(|(name, value)| Some((name.as_str(), text(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(event: &str) -> Result<WorkflowRequest, Refusal> {
        read(serde_json::from_str(event).expect("JSON")).expect("an event of an HTTP API")
    }

    const PROMOTE: &str = include_str!("../../../events/promotions.promote.json");

    #[test]
    fn a_request_has_a_body_and_token_claims() {
        let request = parse(PROMOTE).expect("a request");
        assert_eq!((request.http.method.as_str(), request.http.path.as_str()), ("POST", "/v1/promotions"));
        let body: Value = serde_json::from_str(&request.http.body).expect("JSON");
        assert_eq!(body["services"]["api"], "v1.4.2");
        let summary = request.claims.summary();
        for part in ["octo-org/shop (123456789)", "run 9876543210", "ref refs/heads/main", "event workflow_dispatch"] {
            assert!(summary.contains(part), "{summary}");
        }
    }

    #[test]
    fn the_query_is_kept_and_the_stage_stripped() {
        let http = parse(include_str!("../../../events/promotions.journal.json")).expect("a request").http;
        assert_eq!((http.method.as_str(), http.path.as_str()), ("GET", "/v1/promotions/shop/api/prod/journal"));
        assert_eq!((http.query.as_str(), http.body.as_str()), ("after=41&limit=20", ""));
    }

    #[test]
    fn a_base64_body_is_decoded() {
        let text = include_str!("../../../events/promotions.encoded.json");
        let body: Value = serde_json::from_str(&parse(text).expect("a request").http.body).expect("JSON");
        assert_eq!(body["environment"], "staging");
        let damaged = text.replace("\"body\": \"", "\"body\": \"*");
        assert_eq!(parse(&damaged).expect_err("no text").code, "invalid_json");
    }

    #[test]
    fn pull_request_claims_are_parsed() {
        let request = parse(include_str!("../../../events/promotions.pull-request.json")).expect("a request");
        let summary = request.claims.summary();
        assert!(summary.contains("event pull_request") && summary.contains("ref refs/pull/7/merge"), "{summary}");
    }

    #[test]
    fn numeric_claims_become_text_and_others_are_dropped() {
        let mut event: Value = serde_json::from_str(PROMOTE).expect("JSON");
        let plain = read(event.clone()).expect("an event").expect("a request");
        // As sent by an emulator; and types that no GitHub token contains.
        event["requestContext"]["authorizer"]["jwt"]["claims"]["iat"] = serde_json::json!(1_795_317_290);
        assert_eq!(read(event.clone()).expect("an event").expect("a request"), plain);
        for odd in [Value::Null, serde_json::json!(["refs/heads/main"]), serde_json::json!({"is": true})] {
            event["requestContext"]["authorizer"]["jwt"]["claims"]["ref"] = odd;
            let request = read(event.clone()).expect("an event").expect("a request");
            assert!(request.claims.summary().contains("ref -"), "{}", request.claims.summary());
        }
    }

    #[test]
    fn a_request_without_a_token_gets_a_generic_403() {
        for event in [
            // Another authorizer's event, and one without any.
            include_str!("../../../events/operations.deploy.json"),
            include_str!("../../../events/promotions.no-token.json"),
        ] {
            let refusal = parse(event).expect_err("nobody");
            assert_eq!(refusal, not_allowed());
        }
    }

    #[test]
    fn other_events_are_refused() {
        for event in [
            include_str!("../../../events/operations.rest-api.json"),
            include_str!("../../../events/image-pushed.push.json"),
        ] {
            let failure = read(serde_json::from_str(event).expect("JSON")).expect_err("another format");
            assert_eq!(failure.kind(), "InvalidEvent");
        }
    }
}
