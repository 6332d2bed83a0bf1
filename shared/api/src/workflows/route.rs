//! Dispatches HTTP method, path, query and body to workflow requests, without an HTTP library: text in, status and JSON out.

use super::caller::{NotAllowed, UnverifiedClaims};
use super::{Workflows, not_allowed};
use crate::Refusal;
use crate::command_service::RequestLedger;
use crate::wire::{check_size, parameter, parse_body, parse_limit, parse_number, parse_target, to_json};
use engine::ports::{Clock, WakeQueue};
use rollout::TargetId;
use serde_json::Value;

/// Maximum body size, in bytes: fits a train with the maximum of services, each with a digest, and the longest reason.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// All routes for workflows. `{a}/{s}/{e}` are application, service and environment.
pub const PATHS: [&str; 4] = [
    "POST /v1/promotions",
    "GET /v1/promotions/{a}/{s}/{e}",
    "GET /v1/promotions/{a}/{s}/{e}/history?limit=",
    "GET /v1/promotions/{a}/{s}/{e}/journal?after=&limit=",
];

impl<L: RequestLedger, D: WakeQueue, K: Clock> Workflows<'_, L, D, K> {
    /// Answers one request with a status and a JSON body. `query` is the part after the `?`, undecoded; `claims` are the token's
    /// claims as verified by the gateway. All errors have the shape of [`ErrorBody`](crate::ErrorBody).
    pub async fn route(
        &self,
        method: &str,
        path: &str,
        query: &str,
        body: &str,
        claims: &UnverifiedClaims,
    ) -> (u16, Value) {
        match self.dispatch(method, path, query, body, claims).await {
            Ok(body) => (200, body),
            Err(error) => {
                let caller = claims.summary();
                tracing::info!(http.status = error.status, error.code = %error.code, method, path, caller, "refused: {error}");
                let error = if error.status >= 500 { hide_internal_error(error) } else { error };
                error.into_response()
            }
        }
    }

    async fn dispatch(
        &self,
        method: &str,
        path: &str,
        query: &str,
        body: &str,
        claims: &UnverifiedClaims,
    ) -> Result<Value, Refusal> {
        check_size(body, MAX_REQUEST_BYTES)?;
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match (method, parts.as_slice()) {
            ("POST", ["v1", "promotions"]) => to_json(self.ask(&parse_body(body)?, claims).await?),
            ("GET", ["v1", "promotions", a, s, e]) => {
                let target = self.visible_target(parse_target(a, s, e)?, claims).await?;
                to_json(self.command_service().status(&target).await?)
            }
            ("GET", ["v1", "promotions", a, s, e, "history"]) => {
                let target = self.visible_target(parse_target(a, s, e)?, claims).await?;
                to_json(self.command_service().history(&target, parse_limit(query)?).await?)
            }
            ("GET", ["v1", "promotions", a, s, e, "journal"]) => {
                let target = self.visible_target(parse_target(a, s, e)?, claims).await?;
                let after = parameter(query, "after").map(|text| parse_number(text, "after")).transpose()?;
                to_json(self.command_service().journal(&target, after, parse_limit(query)?).await?)
            }
            _ => {
                let message = format!("there is nothing of that kind here; there are: {}", PATHS.join(", "));
                Err(Refusal::new(404, "unknown_route", message))
            }
        }
    }

    /// The target, if the caller may read it.
    async fn visible_target(&self, target: TargetId, claims: &UnverifiedClaims) -> Result<TargetId, Refusal> {
        let why = match self.ledger.policy(&target.application).await? {
            None => NotAllowed::NoTarget,
            Some(applied) => match claims.authorize_read(&applied.policy, &target.service, &target.environment) {
                // A grant for all services would also match nonexistent ones.
                Ok(()) if applied.policy.target(&target).is_some() => return Ok(target),
                Ok(()) => NotAllowed::NoTarget,
                Err(why) => why,
            },
        };
        tracing::warn!(asked = "status", caller = claims.summary(), target_id = %target, "not allowed: {why}");
        Err(not_allowed())
    }
}

/// Hides the message of an internal error: AWS messages name accounts, roles and tables, and the error may precede the caller's
/// authorization.
fn hide_internal_error(error: Refusal) -> Refusal {
    let message = "the control plane could not answer; ask again in a moment, and if that does not help, the operators' log says why";
    Refusal::new(error.status, &error.code, message)
}
