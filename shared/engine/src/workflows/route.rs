//! HTTP's method, path, query and body to what workflows ask, without an HTTP library: text in, a status and JSON out.

use super::caller::{NotAllowed, UnverifiedClaims};
use super::{Workflows, not_allowed};
use crate::desk::wire::{limit, number, parameter, read, target, to_json};
use crate::desk::{ErrorBody, Refusal};
use crate::ports::{Clock, Ledger, WakeQueue};
use rollout::TargetId;
use serde_json::Value;

/// The largest body, in bytes: a train of the most services, each with a digest, and the longest reason fit easily.
pub const LARGEST_REQUEST: usize = 64 * 1024;

/// Everything that workflows can ask. `{a}/{s}/{e}` are application, service and environment.
pub const PATHS: [&str; 4] = [
    "POST /v1/promotions",
    "GET /v1/promotions/{a}/{s}/{e}",
    "GET /v1/promotions/{a}/{s}/{e}/history?limit=",
    "GET /v1/promotions/{a}/{s}/{e}/journal?after=&limit=",
];

impl<L: Ledger, D: WakeQueue, K: Clock> Workflows<'_, L, D, K> {
    /// Answers one request: a status and a JSON body. `query` is what stands behind the `?`, as it came; `claims` are what
    /// the gateway has proven of the token. Errors all have the shape of [`ErrorBody`].
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
                let caller = claims.told();
                tracing::info!(http.status = error.status, error.code = %error.code, method, path, caller, "refused: {error}");
                let status = error.status;
                let error = if status >= 500 { nothing_of_ours(error) } else { error };
                (status, serde_json::to_value(ErrorBody { error }).unwrap_or_default())
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
        if body.len() > LARGEST_REQUEST {
            let message = format!("the body has {} bytes, at most {LARGEST_REQUEST} are read", body.len());
            return Err(Refusal::new(413, "too_large", message));
        }
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match (method, parts.as_slice()) {
            ("POST", ["v1", "promotions"]) => to_json(self.ask(&read(body)?, claims).await?),
            ("GET", ["v1", "promotions", a, s, e]) => {
                let target = self.seen(target(a, s, e)?, claims).await?;
                to_json(self.desk().status(&target).await?)
            }
            ("GET", ["v1", "promotions", a, s, e, "history"]) => {
                let target = self.seen(target(a, s, e)?, claims).await?;
                to_json(self.desk().history(&target, limit(query)?).await?)
            }
            ("GET", ["v1", "promotions", a, s, e, "journal"]) => {
                let target = self.seen(target(a, s, e)?, claims).await?;
                let after = parameter(query, "after").map(|text| number(text, "after")).transpose()?;
                to_json(self.desk().journal(&target, after, limit(query)?).await?)
            }
            _ => {
                let message = format!("there is nothing of that kind here; there are: {}", PATHS.join(", "));
                Err(Refusal::new(404, "unknown_route", message))
            }
        }
    }

    /// The target, if the caller may look at it.
    async fn seen(&self, target: TargetId, claims: &UnverifiedClaims) -> Result<TargetId, Refusal> {
        let why = match self.ledger.policy(&target.application).await? {
            None => NotAllowed::NoTarget,
            Some(applied) => match claims.may_see(&applied.policy, &target.service, &target.environment) {
                // A grant for all services names none that is not there.
                Ok(()) if applied.policy.target(&target).is_some() => return Ok(target),
                Ok(()) => NotAllowed::NoTarget,
                Err(why) => why,
            },
        };
        tracing::warn!(asked = "status", caller = claims.told(), target_id = %target, "not allowed: {why}");
        Err(not_allowed())
    }
}

/// What went wrong on our side, without its words: AWS names accounts, roles and tables in them, and it may have gone wrong
/// before it was known whether the caller may ask at all.
fn nothing_of_ours(error: Refusal) -> Refusal {
    let message = "the control plane could not answer; ask again in a moment, and if that does not help, the operators' log says why";
    Refusal::new(error.status, &error.code, message)
}
