//! The response to a request that is refused before it is routed.

use api::Refusal;
use serde_json::Value;

/// Logs the refusal, and returns it in the gateway's format.
pub(crate) fn refused(refusal: Refusal) -> Value {
    tracing::info!(http.status = refusal.status, error.code = refusal.code, "refused: {refusal}");
    let (status, body) = refusal.into_response();
    lambda::json_response(status, &body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_response_is_uncached_json() {
        let answer = refused(api::workflows::not_allowed());
        assert_eq!(answer["statusCode"], 403);
        assert_eq!(answer["headers"]["content-type"], "application/json");
        assert_eq!(answer["headers"]["cache-control"], "no-store");
        let body: Value = serde_json::from_str(answer["body"].as_str().expect("text")).expect("JSON");
        let message = "this workflow may not do that; the operators' log says why";
        assert_eq!(body, json!({"error": {"code": "not_allowed", "message": message}}));
    }
}
