//! The HTTP API's event, format 2.0, without an authorizer
//! (API Gateway developer guide, "Create AWS Lambda proxy integrations for HTTP APIs").

use lambda::{HttpRequest, InvocationFailure};
use serde_json::Value;

/// The incoming request; nothing of it is authenticated.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ApprovalRequest {
    /// HTTP method as received: `POST`.
    pub(crate) method: String,
    /// Without the stage name.
    pub(crate) path: String,
    /// Value of `X-Slack-Request-Timestamp`; empty if absent.
    pub(crate) timestamp: String,
    /// Value of `X-Slack-Signature`; empty if absent.
    pub(crate) signature: String,
    /// Raw bytes as sent to the gateway.
    pub(crate) body: Vec<u8>,
    /// Client address at the gateway, for the log.
    pub(crate) source_ip: String,
}

/// Reads an event. A body marked as base64 that is not valid base64 becomes empty: it cannot match a signature.
///
/// # Errors
/// `InvalidEvent` if it is not an event of an HTTP API.
pub(crate) fn read(event: Value) -> Result<ApprovalRequest, InvocationFailure> {
    let request = lambda::http_request(event)?;
    let timestamp = request.header("x-slack-request-timestamp").to_owned();
    let signature = request.header("x-slack-signature").to_owned();
    let HttpRequest { method, path, body, source_ip, .. } = request;
    Ok(ApprovalRequest { method, path, timestamp, signature, body: body.unwrap_or_default(), source_ip })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(event: &str) -> ApprovalRequest {
        read(serde_json::from_str(event).expect("JSON")).expect("an event of an HTTP API")
    }

    #[test]
    fn slack_headers_and_body_are_unchanged() {
        let request = parse(include_str!("../../../events/approvals.slack-approve.json"));
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/slack/interactions"));
        assert_eq!(request.timestamp, "1795317300");
        assert!(request.signature.starts_with("v0="), "{}", request.signature);
        assert!(request.body.starts_with(b"payload=%7B"), "{:?}", String::from_utf8_lossy(&request.body));
        assert_eq!(request.source_ip, "198.51.100.7");
    }

    #[test]
    fn a_base64_body_is_decoded() {
        let encoded = parse(include_str!("../../../events/approvals.slack-approve-encoded.json"));
        let plain = parse(include_str!("../../../events/approvals.slack-approve.json"));
        assert_eq!(encoded.body, plain.body);
        assert_eq!(encoded.signature, plain.signature);
        let damaged = include_str!("../../../events/approvals.slack-approve-encoded.json")
            .replace("\"body\": \"", "\"body\": \"*");
        assert_eq!(parse(&damaged).body, b"");
    }

    #[test]
    fn the_stage_is_stripped_from_a_link() {
        let request = parse(include_str!("../../../events/approvals.link-show.json"));
        assert_eq!(request.method, "GET");
        assert!(request.path.starts_with("/approvals/ey"), "{}", request.path);
        assert_eq!((request.body.len(), request.timestamp.as_str(), request.signature.as_str()), (0, "", ""));
    }

    #[test]
    fn other_events_are_refused() {
        for other in [
            include_str!("../../../events/operations.rest-api.json"),
            include_str!("../../../events/approvals.foreign.json"),
        ] {
            let failure = read(serde_json::from_str(other).expect("JSON")).expect_err("another event");
            assert_eq!(failure.kind(), "InvalidEvent");
        }
    }
}
