//! Events of an HTTP API, format 2.0, and the answers it takes (API Gateway developer guide, "Create AWS Lambda proxy
//! integrations for HTTP APIs").

use crate::{Failure, read};
use aws_lambda_events::encodings::Base64Data;
use aws_lambda_events::event::apigw::ApiGatewayV2httpRequest;
use serde_json::{Value, json};

/// What came in. Nothing of it is proven but what the authorizer says.
#[derive(Debug, Clone)]
pub struct HttpRequest {
    /// As it came: `POST`.
    pub method: String,
    /// Without the stage's name.
    pub path: String,
    /// What stands behind the `?`.
    pub query: String,
    /// The bytes as they were sent to the gateway, which encodes whatever is not declared as text; none where they are
    /// said to be base64 and are not.
    pub body: Option<Vec<u8>>,
    /// The authorizer's word for who asks, as JSON; null where there is none.
    pub authorizer: Value,
    /// Who was on the other side of the gateway, for the log.
    pub source_ip: String,
    headers: Vec<(String, String)>,
}

impl HttpRequest {
    /// The value of a header, by its name in lower case; empty where there is none, or it is no text.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The body as text; empty where there is none. None: it is no UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        self.body.clone().and_then(|bytes| String::from_utf8(bytes).ok())
    }
}

/// Reads an event.
///
/// # Errors
/// `InvalidEvent` where it is no event of an HTTP API.
pub fn http_request(mut event: Value) -> Result<HttpRequest, Failure> {
    // Taken out before: whatever is in it, no other part of the event is read by it.
    let authorizer = event.pointer_mut("/requestContext/authorizer").map(Value::take).unwrap_or_default();
    let event: ApiGatewayV2httpRequest = read(event, "")?;
    let Some(path) = event.raw_path else {
        return Err(Failure::event("rawPath: missing; only events of an HTTP API, format 2.0, are taken"));
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
        path: without_stage(&path, context.stage.as_deref()).to_owned(),
        query: event.raw_query_string.unwrap_or_default(),
        body,
        authorizer,
        source_ip: context.http.source_ip.unwrap_or_default(),
        headers: headers.collect(),
    })
}

/// A stage other than `$default` stands in front of the path.
fn without_stage<'p>(path: &'p str, stage: Option<&str>) -> &'p str {
    match stage.and_then(|stage| path.strip_prefix('/')?.strip_prefix(stage)) {
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}

/// An answer in JSON, which nobody keeps.
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
    fn the_stage_goes_and_only_the_stage() {
        assert_eq!(without_stage("/v1/targets", Some("v1")), "/targets");
        assert_eq!(without_stage("/v1/targets", Some("$default")), "/v1/targets");
        assert_eq!(without_stage("/v12/targets", Some("v1")), "/v12/targets");
        assert_eq!(without_stage("/live/approvals/x", Some("live")), "/approvals/x");
        assert_eq!(without_stage("/v1/promotions", None), "/v1/promotions");
    }

    #[test]
    fn every_answer_is_json_that_nobody_keeps() {
        let answer = json_response(403, &json!({"error": "no"}));
        assert_eq!(answer["statusCode"], 403);
        assert_eq!(answer["headers"]["content-type"], "application/json");
        assert_eq!(answer["headers"]["cache-control"], "no-store");
        assert_eq!(answer["body"], r#"{"error":"no"}"#);
    }
}
