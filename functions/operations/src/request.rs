//! The HTTP API's event, format 2.0, with the caller from its IAM authorizer (API Gateway developer guide, "Create AWS Lambda
//! proxy integrations for HTTP APIs").

use api::Refusal;
use lambda::{InvocationFailure, TextRequest};
use serde_json::Value;

/// A request and its caller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OperatorRequest {
    /// What is asked.
    pub(crate) http: TextRequest,
    /// ARN of the IAM identity authenticated by the authorizer.
    pub(crate) caller: String,
}

/// Reads an event. The inner error is shown to the caller: no authenticated caller, or a body that is not text.
///
/// # Errors
/// `InvalidEvent` if it is not an event of an HTTP API.
pub(crate) fn read(event: Value) -> Result<Result<OperatorRequest, Refusal>, InvocationFailure> {
    let request = lambda::http_request(event)?;
    let caller = request.authorizer.pointer("/iam/userArn").and_then(Value::as_str);
    let Some(caller) = caller.filter(|caller| !caller.is_empty()).map(str::to_owned) else {
        let message = "request not authenticated: sign it with IAM credentials, and check that the route has the IAM \
                       authorizer";
        return Ok(Err(Refusal::new(403, "no_caller", message)));
    };
    Ok(request.into_text().map(|http| OperatorRequest { http, caller }).ok_or_else(Refusal::body_is_not_text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{DecisionRequest, FreezeRequest, HotfixRequest, OverrideRequest, PromoteRequest, TrainRequest};

    fn parse(event: &str) -> Result<OperatorRequest, Refusal> {
        read(serde_json::from_str(event).expect("JSON")).expect("an event of an HTTP API")
    }

    #[test]
    fn a_signed_request_has_a_caller_and_a_body() {
        let request = parse(include_str!("../../../events/operations.deploy.json")).expect("a request");
        let OperatorRequest { http, caller } = request;
        assert_eq!((http.method.as_str(), http.path.as_str()), ("POST", "/v1/targets/shop/api/prod/deploy"));
        assert_eq!(caller, "arn:aws:sts::111122223333:assumed-role/deployer/alice");
        let body: Value = serde_json::from_str(&http.body).expect("JSON");
        assert_eq!(body["release"], "v1.4.2");
    }

    /// The body of a fixture with this path.
    fn body(event: &str, path: &str) -> Value {
        let http = parse(event).expect("a request").http;
        assert_eq!((http.method.as_str(), http.path.as_str()), ("POST", path));
        serde_json::from_str(&http.body).expect("JSON")
    }

    #[test]
    fn every_operation_fixture_matches_its_request_type() {
        let target = |action: &str| format!("/v1/targets/shop/api/prod/{action}");
        let promote = body(include_str!("../../../events/operations.promote.json"), &target("promote"));
        let promote: PromoteRequest = serde_json::from_value(promote).expect("what it takes");
        assert_eq!(promote.release, None, "the newest that is verified");
        let hotfix = body(include_str!("../../../events/operations.hotfix.json"), &target("hotfix"));
        let hotfix: HotfixRequest = serde_json::from_value(hotfix).expect("what it takes");
        assert_eq!((hotfix.release.as_str(), hotfix.reason.as_str()), ("v1.4.3", "orders are lost"));
        let approve = body(include_str!("../../../events/operations.approve.json"), &target("approve"));
        let approve: DecisionRequest = serde_json::from_value(approve).expect("what it takes");
        assert_eq!((approve.deployment, approve.plan.0.as_str()), (12, "3fa90c1e2b44d070"));
        let open = body(include_str!("../../../events/operations.override.json"), &target("override"));
        let open: OverrideRequest = serde_json::from_value(open).expect("what it takes");
        assert_eq!((open.deployment, open.gates.len()), (12, 2));
        let train = body(include_str!("../../../events/operations.train.json"), "/v1/trains");
        let train: TrainRequest = serde_json::from_value(train).expect("what it takes");
        let named: Vec<_> = train.releases.values().map(Option::as_deref).collect();
        assert_eq!(named, [Some("v1.4.2"), None]);
        let freeze = body(include_str!("../../../events/operations.freeze.json"), "/v1/freeze");
        let freeze: FreezeRequest = serde_json::from_value(freeze).expect("what it takes");
        assert_eq!(freeze.until.as_deref(), Some("2027-01-04T08:00:00+01:00"));
    }

    #[test]
    fn the_query_is_kept_and_the_stage_stripped() {
        let http = parse(include_str!("../../../events/operations.journal.json")).expect("a request").http;
        assert_eq!((http.method.as_str(), http.path.as_str()), ("GET", "/v1/targets/shop/api/prod/journal"));
        assert_eq!(http.query, "after=41&limit=20");
        assert_eq!(http.body, "");
    }

    #[test]
    fn a_base64_body_is_decoded() {
        let request = parse(include_str!("../../../events/operations.apply-encoded.json")).expect("a request");
        let body: Value = serde_json::from_str(&request.http.body).expect("JSON");
        assert!(body["text"].as_str().is_some_and(|text| text.starts_with("application: shop")));
        let damaged =
            include_str!("../../../events/operations.apply-encoded.json").replace("\"body\": \"", "\"body\": \"*");
        assert_eq!(parse(&damaged).expect_err("no text").code, "invalid_json");
    }

    #[test]
    fn a_request_without_a_caller_is_refused() {
        let refusal = parse(include_str!("../../../events/operations.no-caller.json")).expect_err("nobody");
        assert_eq!((refusal.status, refusal.code.as_str()), (403, "no_caller"));
    }

    #[test]
    fn other_events_are_refused() {
        let rest = include_str!("../../../events/operations.rest-api.json");
        let failure = read(serde_json::from_str(rest).expect("JSON")).expect_err("another format");
        assert_eq!(failure.kind(), "InvalidEvent");
        let push = include_str!("../../../events/image-pushed.push.json");
        let failure = read(serde_json::from_str(push).expect("JSON")).expect_err("a push");
        assert_eq!(failure.kind(), "InvalidEvent");
    }
}
