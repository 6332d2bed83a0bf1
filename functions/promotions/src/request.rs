//! The HTTP API's event, format 2.0, with its JWT authorizer's word for what the token says
//! (API Gateway developer guide, "Create AWS Lambda proxy integrations for HTTP APIs", "Control access to HTTP APIs with
//! JWT authorizers").

use engine::desk::Refusal;
use engine::workflows::{UnverifiedClaims, not_allowed};
use lambda::{Failure, HttpRequest};
use serde_json::Value;
use std::collections::BTreeMap;

/// What is asked, and what the token of whoever asks says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// As it came: `POST`.
    pub(crate) method: String,
    /// Without the stage's name.
    pub(crate) path: String,
    /// What stands behind the `?`.
    pub(crate) query: String,
    /// Text; empty where there is none.
    pub(crate) body: String,
    /// Proven to be GitHub's words, and nothing more.
    pub(crate) claims: UnverifiedClaims,
}

/// Reads an event. The inner error is the asker's to read: no proven token, or a body that is no text.
///
/// # Errors
/// `InvalidEvent` where it is no event of an HTTP API.
pub(crate) fn read(event: Value) -> Result<Result<Request, Refusal>, Failure> {
    let request = lambda::http_request(event)?;
    let claims = match request.authorizer.pointer("/jwt/claims") {
        Some(Value::Object(claims)) if !claims.is_empty() => as_text(claims),
        _ => {
            tracing::error!("an event without a proven token: see that the route has the JWT authorizer");
            return Ok(Err(not_allowed()));
        }
    };
    let claims = UnverifiedClaims::of(|name| claims.get(name).map(String::as_str));
    let Some(body) = request.text() else {
        let message = "the body is not UTF-8 text: send JSON with `content-type: application/json`";
        return Ok(Err(Refusal::new(400, "invalid_json", message)));
    };
    let HttpRequest { method, path, query, .. } = request;
    Ok(Ok(Request { method, path, query, body, claims }))
}

/// Claims as the gateway hands them on: texts. A number is one, too, wherever it comes as one; nothing else is.
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

    fn asked(event: &str) -> Result<Request, Refusal> {
        read(serde_json::from_str(event).expect("JSON")).expect("an event of an HTTP API")
    }

    const PROMOTE: &str = include_str!("../../../events/promotions.promote.json");

    #[test]
    fn a_workflow_says_what_it_asks_and_its_token_who_it_is() {
        let request = asked(PROMOTE).expect("a request");
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/promotions"));
        let body: Value = serde_json::from_str(&request.body).expect("JSON");
        assert_eq!(body["services"]["api"], "v1.4.2");
        let told = request.claims.told();
        for part in ["octo-org/shop (123456789)", "run 9876543210", "ref refs/heads/main", "event workflow_dispatch"] {
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn a_question_has_its_query_and_no_stage() {
        let request = asked(include_str!("../../../events/promotions.journal.json")).expect("a request");
        assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/v1/promotions/shop/api/prod/journal"));
        assert_eq!((request.query.as_str(), request.body.as_str()), ("after=41&limit=20", ""));
    }

    #[test]
    fn a_body_that_the_gateway_has_encoded_is_decoded() {
        let text = include_str!("../../../events/promotions.encoded.json");
        let body: Value = serde_json::from_str(&asked(text).expect("a request").body).expect("JSON");
        assert_eq!(body["environment"], "staging");
        let damaged = text.replace("\"body\": \"", "\"body\": \"*");
        assert_eq!(asked(&damaged).expect_err("no text").code, "invalid_json");
    }

    #[test]
    fn a_pull_requests_token_is_read_as_what_it_is() {
        let request = asked(include_str!("../../../events/promotions.pull-request.json")).expect("a request");
        let told = request.claims.told();
        assert!(told.contains("event pull_request") && told.contains("ref refs/pull/7/merge"), "{told}");
    }

    #[test]
    fn claims_of_other_forms_are_texts_or_nothing() {
        let mut event: Value = serde_json::from_str(PROMOTE).expect("JSON");
        let plain = read(event.clone()).expect("an event").expect("a request");
        // As an emulator has it; and what no token of GitHub's has.
        event["requestContext"]["authorizer"]["jwt"]["claims"]["iat"] = serde_json::json!(1_795_317_290);
        assert_eq!(read(event.clone()).expect("an event").expect("a request"), plain);
        for odd in [Value::Null, serde_json::json!(["refs/heads/main"]), serde_json::json!({"is": true})] {
            event["requestContext"]["authorizer"]["jwt"]["claims"]["ref"] = odd;
            let request = read(event.clone()).expect("an event").expect("a request");
            assert!(request.claims.told().contains("ref -"), "{}", request.claims.told());
        }
    }

    #[test]
    fn without_a_proven_token_nothing_is_read_and_nothing_is_told() {
        for event in [
            // Another authorizer's proof, and none.
            include_str!("../../../events/operations.deploy.json"),
            include_str!("../../../events/promotions.no-token.json"),
        ] {
            let refusal = asked(event).expect_err("nobody");
            assert_eq!(refusal, not_allowed());
        }
    }

    #[test]
    fn what_is_no_event_of_an_http_api_is_an_error() {
        for event in [
            include_str!("../../../events/operations.rest-api.json"),
            include_str!("../../../events/image-pushed.push.json"),
        ] {
            let failure = read(serde_json::from_str(event).expect("JSON")).expect_err("another format");
            assert_eq!(failure.kind(), "InvalidEvent");
        }
    }
}
