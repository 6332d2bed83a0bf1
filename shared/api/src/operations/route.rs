//! Dispatches HTTP method, path, query and body to operations, without an HTTP library: text in, status and JSON out.

use super::Operations;
use crate::Refusal;
use crate::command_service::{RequestLedger, iam_actor};
use crate::wire::{check_size, parameter, parse_body, parse_limit, parse_name, parse_number, parse_target, to_json};
use engine::ports::{Administration, Clock, Cloud, Inspector, WakeQueue};
use rollout::Lane;
use rollout::text::clip;
use serde_json::Value;

/// Maximum body size, in bytes: fits the largest policy file as JSON text with every character escaped.
pub const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;

/// All routes. `{a}/{s}/{e}` are application, service and environment.
pub const ROUTES: [&str; 23] = [
    "POST /v1/apply",
    "POST /v1/plan",
    "POST /v1/doctor",
    "GET /v1/targets?application=",
    "GET /v1/targets/{a}/{s}/{e}",
    "GET /v1/targets/{a}/{s}/{e}/history?limit=",
    "GET /v1/targets/{a}/{s}/{e}/journal?after=&limit=",
    "POST /v1/targets/{a}/{s}/{e}/deploy",
    "POST /v1/targets/{a}/{s}/{e}/abort",
    "POST /v1/targets/{a}/{s}/{e}/rollback",
    "POST /v1/targets/{a}/{s}/{e}/promote",
    "POST /v1/targets/{a}/{s}/{e}/hotfix",
    "POST /v1/targets/{a}/{s}/{e}/approve",
    "POST /v1/targets/{a}/{s}/{e}/reject",
    "POST /v1/targets/{a}/{s}/{e}/override",
    "POST /v1/targets/{a}/{s}/{e}/resume",
    "POST /v1/trains",
    "GET /v1/brakes?limit=",
    "POST /v1/freeze",
    "POST /v1/unfreeze",
    "POST /v1/stop-the-line",
    "POST /v1/resume-the-line",
    "GET /v1/releases/{a}/{s}?limit=",
];

/// The actions on a target: the last path segment.
const TARGET_ACTIONS: [&str; 9] =
    ["deploy", "promote", "hotfix", "abort", "rollback", "approve", "reject", "override", "resume"];

impl<L: Administration + RequestLedger, C: Cloud + Inspector, D: WakeQueue, K: Clock> Operations<'_, L, C, D, K> {
    /// Answers one request with a status and a JSON body. `query` is the part after the `?`, undecoded; `caller` is the caller's
    /// authenticated identity. All errors have the shape of [`ErrorBody`](crate::ErrorBody).
    pub async fn route(&self, method: &str, path: &str, query: &str, body: &str, caller: &str) -> (u16, Value) {
        let answer = self.dispatch(method, path, query, body, caller).await;
        match answer {
            Ok(body) => (200, body),
            Err(error) => {
                tracing::info!(http.status = error.status, error.code = %error.code, method, path, caller, "refused: {error}");
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
        caller: &str,
    ) -> Result<Value, Refusal> {
        check_size(body, MAX_BODY_BYTES)?;
        // The literal path only: IAM has authorized exactly this text, and a statement that denies `…/approve` does not cover
        // `…/approve/`.
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let command_service = self.command_service();
        let actor = iam_actor(caller);
        match (method, parts.as_slice()) {
            ("POST", ["v1", "apply"]) => to_json(self.apply(&parse_body(body)?, caller).await?),
            ("POST", ["v1", "plan"]) => to_json(self.plan(&parse_body(body)?, caller).await?),
            ("POST", ["v1", "doctor"]) => to_json(self.doctor(&parse_body(body)?).await?),
            ("GET", ["v1", "targets"]) => {
                let application =
                    parameter(query, "application").map(|text| parse_name(text, "application")).transpose()?;
                to_json(command_service.targets(application.as_ref()).await?)
            }
            ("GET", ["v1", "targets", a, s, e]) => to_json(command_service.status(&parse_target(a, s, e)?).await?),
            ("GET", ["v1", "targets", a, s, e, "history"]) => {
                to_json(command_service.history(&parse_target(a, s, e)?, parse_limit(query)?).await?)
            }
            ("GET", ["v1", "targets", a, s, e, "journal"]) => {
                let after = parameter(query, "after").map(|text| parse_number(text, "after")).transpose()?;
                to_json(command_service.journal(&parse_target(a, s, e)?, after, parse_limit(query)?).await?)
            }
            ("POST", ["v1", "targets", a, s, e, action]) if TARGET_ACTIONS.contains(action) => {
                let target = parse_target(a, s, e)?;
                to_json(match *action {
                    "deploy" => command_service.deploy(&target, &parse_body(body)?, &actor).await?,
                    "promote" => command_service.promote(&target, &parse_body(body)?, &actor).await?,
                    "hotfix" => command_service.hotfix(&target, &parse_body(body)?, &actor).await?,
                    "abort" => command_service.abort(&target, &parse_body(body)?, &actor).await?,
                    "rollback" => self.rollback(&target, &parse_body(body)?, &actor).await?,
                    "approve" => self.approve(&target, &parse_body(body)?, &actor).await?,
                    "reject" => self.reject(&target, &parse_body(body)?, &actor).await?,
                    "override" => command_service.override_gates(&target, &parse_body(body)?, &actor).await?,
                    _ => command_service.resume(&target, &parse_body(body)?, &actor).await?,
                })
            }
            ("POST", ["v1", "trains"]) => {
                to_json(command_service.train(&parse_body(body)?, &Lane::Asked, &actor).await?)
            }
            ("GET", ["v1", "brakes"]) => to_json(self.brakes(parse_limit(query)?).await?),
            ("POST", ["v1", "freeze"]) => to_json(self.freeze(&parse_body(body)?, caller).await?),
            ("POST", ["v1", "unfreeze"]) => to_json(self.unfreeze(&parse_body(body)?, caller).await?),
            ("POST", ["v1", "stop-the-line"]) => to_json(self.stop_the_line(&parse_body(body)?, caller).await?),
            ("POST", ["v1", "resume-the-line"]) => to_json(self.resume_the_line(&parse_body(body)?, caller).await?),
            ("GET", ["v1", "releases", a, s]) => {
                let (application, service) = (parse_name(a, "application")?, parse_name(s, "service")?);
                to_json(command_service.releases(&application, &service, parse_limit(query)?).await?)
            }
            _ => Err(no_route(method, path, &parts)),
        }
    }
}

fn no_route(method: &str, path: &str, parts: &[&str]) -> Refusal {
    let fits = |route: &&str| {
        let pattern = route.split_once(' ').map_or("", |(_, path)| path.split('?').next().unwrap_or(path));
        let pattern: Vec<&str> = pattern.split('/').skip(1).collect();
        pattern.len() == parts.len()
            && pattern.iter().zip(parts).all(|(wanted, found)| wanted.starts_with('{') || wanted == found)
    };
    let allowed: Vec<&str> =
        ROUTES.iter().filter(|route| fits(route)).filter_map(|route| route.split(' ').next()).collect();
    let shown = clip(path, 200);
    if allowed.is_empty() {
        let message = format!("there is nothing at `{shown}`; there are: {}", ROUTES.join(", "));
        return Refusal::new(404, "unknown_route", message);
    }
    let method = clip(method, 20);
    Refusal::new(405, "wrong_method", format!("`{shown}` does not take {method}: use {}", allowed.join(" or ")))
}
