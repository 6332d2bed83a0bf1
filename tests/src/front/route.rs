//! Which service and operation a request is for, from what the SDKs put on the wire.

use super::protocol::{AwsError, Protocol, form};
use hyper::HeaderMap;
use hyper::http::request::Parts;
use serde_json::Value;

/// The services that the front speaks itself, by the names that log and faults use.
pub const ECS: &str = "ecs";
/// Elastic Load Balancing v2.
pub const ELBV2: &str = "elbv2";
/// CloudWatch alarms.
pub const CLOUDWATCH: &str = "cloudwatch";
/// Application Auto Scaling.
pub const AUTOSCALING: &str = "autoscaling";
/// Lambda: `Invoke`, and what the account allows.
pub const LAMBDA: &str = "lambda";

/// Where a request goes.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestRoute {
    /// One of the constants of this module, or the credential scope's service name for what is passed on.
    pub service: String,
    /// As AWS names it: `UpdateService`. For what is passed on and says nothing of it: method and path.
    pub operation: String,
    /// How to read and to answer it.
    pub protocol: Protocol,
    /// The front answers it from its own world; otherwise it is another service's.
    pub emulated: bool,
    /// For [`LAMBDA`]: the function as the path names it, name or ARN.
    pub function: Option<String>,
}

/// Reads the request's destination. Never fails: what is not known here is another service's.
#[must_use]
pub fn route(head: &Parts, body: &[u8]) -> RequestRoute {
    let path = head.uri.path();
    let scope = credential_service(&head.headers).unwrap_or_default();
    let emulated = |service: &str, operation: &str, protocol| RequestRoute {
        service: service.to_owned(),
        operation: operation.to_owned(),
        protocol,
        emulated: true,
        function: None,
    };
    if let Some(operation) = path.strip_prefix("/service/GraniteServiceVersion20100801/operation/") {
        return emulated(CLOUDWATCH, operation, Protocol::RpcV2Cbor);
    }
    if let Some(function) =
        path.strip_prefix("/2015-03-31/functions/").and_then(|rest| rest.strip_suffix("/invocations"))
    {
        let function = percent_encoding::percent_decode_str(function).decode_utf8_lossy().into_owned();
        return RequestRoute { function: Some(function), ..emulated(LAMBDA, "Invoke", Protocol::RestJson) };
    }
    if path.trim_end_matches('/') == "/2016-08-19/account-settings" {
        return emulated(LAMBDA, "GetAccountSettings", Protocol::RestJson);
    }
    if let Some((prefix, operation)) = header(&head.headers, "x-amz-target").and_then(|target| target.split_once('.')) {
        return match prefix {
            "AmazonEC2ContainerServiceV20141113" => emulated(ECS, operation, Protocol::AwsJson11),
            "AnyScaleFrontendService" => emulated(AUTOSCALING, operation, Protocol::AwsJson11),
            _ => RequestRoute { emulated: false, ..emulated(&scope, operation, json_version(&head.headers)) },
        };
    }
    match scope.as_str() {
        "elasticloadbalancing" => emulated(ELBV2, &form_action(body), Protocol::AwsQuery),
        // Reached with something else than a target, a known path or a form: no operation of theirs.
        "ecs" => emulated(ECS, &format!("{} {path}", head.method), Protocol::AwsJson11),
        "application-autoscaling" => emulated(AUTOSCALING, &format!("{} {path}", head.method), Protocol::AwsJson11),
        "monitoring" => emulated(CLOUDWATCH, &format!("{} {path}", head.method), Protocol::RpcV2Cbor),
        _ => {
            let action = form_action(body);
            let (operation, protocol) = match action.is_empty() {
                true => (format!("{} {path}", head.method), Protocol::RestJson),
                false => (action, Protocol::AwsQuery),
            };
            RequestRoute { emulated: false, ..emulated(&scope, &operation, protocol) }
        }
    }
}

/// Refuses what AWS's front door refuses before any service sees it: no signature, or one for another service.
/// Signatures are not computed: any secret opens this door.
///
/// # Errors
/// `MissingAuthenticationToken`, `IncompleteSignature` or `InvalidSignatureException`, as the protocol writes them.
pub fn check_signature(route: &RequestRoute, headers: &HeaderMap) -> Result<(), AwsError> {
    let Some(authorization) = header(headers, "authorization") else {
        return Err(match route.protocol {
            Protocol::AwsQuery => {
                AwsError::new(403, "MissingAuthenticationToken", "Request is missing Authentication Token")
            }
            _ => AwsError::new(403, "MissingAuthenticationTokenException", "Missing Authentication Token"),
        });
    };
    if !authorization.starts_with("AWS4-HMAC-SHA256 ") || header(headers, "x-amz-date").is_none() {
        return Err(match route.protocol {
            Protocol::AwsQuery => {
                AwsError::new(400, "IncompleteSignature", "The request signature does not conform to AWS standards.")
            }
            _ => AwsError::new(
                400,
                "IncompleteSignatureException",
                "The request signature does not conform to AWS standards.",
            ),
        });
    }
    let expected = match route.service.as_str() {
        ELBV2 => "elasticloadbalancing",
        CLOUDWATCH => "monitoring",
        AUTOSCALING => "application-autoscaling",
        other => other,
    };
    match credential_service(headers) {
        Some(scope) if scope == expected => Ok(()),
        _ => {
            let message = format!("Credential should be scoped to correct service: '{expected}'.");
            Err(match route.protocol {
                Protocol::AwsQuery => AwsError::new(403, "SignatureDoesNotMatch", message),
                _ => AwsError::new(403, "InvalidSignatureException", message),
            })
        }
    }
}

/// The service in the credential's scope.
fn credential_service(headers: &HeaderMap) -> Option<String> {
    credential(headers, 3)
}

/// Who has signed.
pub(super) fn access_key(headers: &HeaderMap) -> Option<String> {
    credential(headers, 0)
}

/// A part of the credential: `Credential=AKID/20261122/eu-central-1/ecs/aws4_request`.
fn credential(headers: &HeaderMap, part: usize) -> Option<String> {
    let (_, credential) = header(headers, "authorization")?.split_once("Credential=")?;
    credential.split([',', ' ']).next()?.split('/').nth(part).map(str::to_owned)
}

fn form_action(body: &[u8]) -> String {
    match form::decode(body).get("Action") {
        Some(Value::String(action)) => action.clone(),
        _ => String::new(),
    }
}

fn json_version(headers: &HeaderMap) -> Protocol {
    match header(headers, "content-type") {
        Some("application/x-amz-json-1.0") => Protocol::AwsJson10,
        _ => Protocol::AwsJson11,
    }
}

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
