//! Events of an HTTP API, format 2.0, and its responses (API Gateway developer guide, "Create AWS Lambda proxy integrations for
//! HTTP APIs").

use crate::{InvocationFailure, read};
use aws_lambda_events::encodings::Base64Data;
use aws_lambda_events::event::apigw::ApiGatewayV2httpRequest;
use serde_json::{Value, json};

/// The incoming request. Only the authorizer's part is authenticated.
#[derive(Debug, Clone)]
pub struct HttpRequest {
    /// HTTP method as received: `POST`.
    pub method: String,
    /// Without the stage name.
    pub path: String,
    /// Query string: the part after the `?`.
    pub query: String,
    /// Raw bytes as sent to the gateway, which encodes everything that is not declared as text; `None` if they are marked as
    /// base64 but are not valid base64.
    pub body: Option<Vec<u8>>,
    /// The authorizer's result as JSON; null if there is none.
    pub authorizer: Value,
    /// Client address at the gateway, for the log.
    pub source_ip: String,
    headers: Vec<(String, String)>,
}

impl HttpRequest {
    /// The value of a header, by its lower-case name; empty if it is absent or not text.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The request with its body as text. `None`: the body is not UTF-8.
    #[must_use]
    pub fn into_text(self) -> Option<TextRequest> {
        let Self { method, path, query, body, .. } = self;
        Some(TextRequest { method, path, query, body: String::from_utf8(body?).ok()? })
    }
}

/// The part of a request that a route is chosen and answered by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextRequest {
    /// HTTP method as received: `POST`.
    pub method: String,
    /// Without the stage name.
    pub path: String,
    /// Query string: the part after the `?`.
    pub query: String,
    /// Text; empty if there is no body.
    pub body: String,
}

/// Reads an event.
///
/// # Errors
/// `InvalidEvent` if it is not an event of an HTTP API.
pub fn http_request(mut event: Value) -> Result<HttpRequest, InvocationFailure> {
    // Removed first, so that its content cannot affect the parsing of the rest of the event.
    let authorizer = event.pointer_mut("/requestContext/authorizer").map(Value::take).unwrap_or_default();
    let event: ApiGatewayV2httpRequest = read(event, "")?;
    let Some(path) = event.raw_path else {
        return Err(InvocationFailure::event("rawPath: missing; only events of an HTTP API, format 2.0, are taken"));
    };
    let body = match (event.body, event.is_base64_encoded) {
        (None, _) => Some(Vec::new()),
        (Some(body), false) => Some(body.into_bytes()),
        (Some(body), true) => serde_json::from_value::<Base64Data>(Value::String(body)).map(|bytes| bytes.0).ok(),
    };
    let headers = event.headers.iter();
    let headers = headers.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
    let context = event.request_context;
    Ok(HttpRequest {
        method: context.http.method.to_string(),
        path: strip_stage(&path, context.stage.as_deref()).to_owned(),
        query: event.raw_query_string.unwrap_or_default(),
        body,
        authorizer,
        source_ip: context.http.source_ip.unwrap_or_default(),
        headers: headers.collect(),
    })
}

/// Strips the stage name, which precedes the path unless the stage is `$default`.
fn strip_stage<'p>(path: &'p str, stage: Option<&str>) -> &'p str {
    match stage.and_then(|stage| path.strip_prefix('/')?.strip_prefix(stage)) {
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}

/// A JSON response that must not be cached.
#[must_use]
pub fn json_response(status: u16, body: &Value) -> Value {
    json!({
        "statusCode": status,
        "headers": {"content-type": "application/json", "cache-control": "no-store"},
        "body": body.to_string(),
        "isBase64Encoded": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stage_is_stripped() {
        assert_eq!(strip_stage("/v1/targets", Some("v1")), "/targets");
        assert_eq!(strip_stage("/v1/targets", Some("$default")), "/v1/targets");
        assert_eq!(strip_stage("/v12/targets", Some("v1")), "/v12/targets");
        assert_eq!(strip_stage("/live/approvals/x", Some("live")), "/approvals/x");
        assert_eq!(strip_stage("/v1/promotions", None), "/v1/promotions");
    }

    #[test]
    fn every_response_is_uncached_json() {
        let answer = json_response(403, &json!({"error": "no"}));
        assert_eq!(answer["statusCode"], 403);
        assert_eq!(answer["headers"]["content-type"], "application/json");
        assert_eq!(answer["headers"]["cache-control"], "no-store");
        assert_eq!(answer["body"], r#"{"error":"no"}"#);
    }
}
