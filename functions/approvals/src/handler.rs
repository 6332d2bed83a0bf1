//! The two channels: Slack interactions and signed links. All unauthenticated callers get the same answer.

use crate::keys::{KeyError, KeyKind, Keys};
use crate::request::ApprovalRequest;
use api::CommandService;
use api::approval_links::{self, InvalidLink, Link, LinkKey};
use api::approvals::link_pages::{self, Page};
use api::approvals::slack::{self, Interaction};
use api::command_service::ApprovalLedger;
use aws::secrets::Secret;
use engine::{Clock, WakeQueue};
use rollout::text::clip;
use serde_json::Value;

/// Path of Slack interactions.
const INTERACTIONS: &str = "/slack/interactions";
/// Path prefix of links; the token is the rest.
const LINKS: &str = "/approvals/";

/// An HTTP reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpReply {
    /// HTTP status code.
    pub(crate) status: u16,
    /// Content type of the body.
    pub(crate) content_type: &'static str,
    /// The body.
    pub(crate) body: String,
    /// Ephemeral reply to the person who pressed, and the URL that Slack accepts it at.
    pub(crate) reply: Option<(String, Value)>,
}

impl HttpReply {
    fn slack(status: u16) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: String::new(), reply: None }
    }

    fn page(page: Page) -> Self {
        Self { status: page.status, content_type: "text/html; charset=utf-8", body: page.html, reply: None }
    }

    /// The reply to every unauthenticated caller, at any path.
    fn unauthenticated() -> Self {
        Self::page(Page::unauthenticated())
    }
}

/// Both channels, over the command service.
pub(crate) struct ApprovalHandler<'a, L, D, K, S> {
    /// Records the decisions.
    pub(crate) command_service: CommandService<'a, L, D, K>,
    /// Keys for verifying requests.
    pub(crate) keys: &'a S,
}

/// The caller is not authenticated; contains the reply.
struct Unauthenticated(HttpReply);

impl<L: ApprovalLedger, D: WakeQueue, K: Clock, S: Keys> ApprovalHandler<'_, L, D, K, S> {
    /// Handles one request.
    pub(crate) async fn answer(&self, request: &ApprovalRequest) -> HttpReply {
        let answered = match (request.method.as_str(), request.path.as_str()) {
            ("POST", INTERACTIONS) => self.interaction(request).await,
            (method @ ("GET" | "HEAD" | "POST"), path) => match path.strip_prefix(LINKS) {
                Some(token) => self.link(request, method, token).await,
                None => Err(reject(request, "there is nothing at this path")),
            },
            _ => Err(reject(request, "no such method is taken")),
        };
        answered.unwrap_or_else(|Unauthenticated(answered)| answered)
    }

    // --- Slack ---

    async fn interaction(&self, request: &ApprovalRequest) -> Result<HttpReply, Unauthenticated> {
        self.verify_slack_signature(request).await?;
        let press = match slack::read(&request.body) {
            Ok(Interaction::Pressed(press)) => press,
            Ok(Interaction::Other(what)) => {
                tracing::info!(what, "an interaction that decides nothing");
                return Ok(HttpReply::slack(200));
            }
            Err(error) => {
                tracing::error!("Slack sent an interaction that is not understood: {error}");
                return Ok(HttpReply::slack(400));
            }
        };
        let outcome = slack::pressed(&self.command_service, &press).await;
        let failed = outcome.as_ref().is_err_and(|refusal| refusal.status >= 500);
        let reply = press.response_url.map(|url| (url, slack::reply(&outcome)));
        // Slack shows any response other than 200 to the person as a failure, which is intended here.
        Ok(HttpReply { reply, ..HttpReply::slack(if failed { 503 } else { 200 }) })
    }

    async fn verify_slack_signature(&self, request: &ApprovalRequest) -> Result<(), Unauthenticated> {
        let now = self.command_service.clock.now();
        if request.body.len() > slack::MAX_BODY_BYTES {
            return Err(reject(request, "the body is larger than any of Slack's"));
        }
        // Checked before any secret is read.
        slack::fresh(&request.timestamp, now).map_err(|error| reject(request, &error.to_string()))?;
        let verify = |secret: &Secret| {
            slack::verify(secret.expose(), &request.timestamp, &request.signature, &request.body, now)
        };
        let secret = self.key(request, KeyKind::Slack, false).await?;
        match secret.map_or(Err(slack::InvalidSlackRequest::Forged), |secret| verify(&secret)) {
            Ok(()) => Ok(()),
            Err(error @ slack::InvalidSlackRequest::Forged) => match self.key(request, KeyKind::Slack, true).await? {
                // The secret may have been rotated.
                Some(fresh) => verify(&fresh).map_err(|error| reject(request, &error.to_string())),
                None => Err(reject(request, &error.to_string())),
            },
            Err(error) => Err(reject(request, &error.to_string())),
        }
    }

    // --- links ---

    async fn link(&self, request: &ApprovalRequest, method: &str, token: &str) -> Result<HttpReply, Unauthenticated> {
        let link = match self.verify_link(request, token).await? {
            Ok(link) => link,
            Err(expired) => {
                if method == "POST" {
                    link_pages::note_expired(&self.command_service, &expired).await;
                }
                return Ok(without_body(method, HttpReply::page(Page::expired(&expired))));
            }
        };
        let page = match method {
            "POST" => link_pages::decide(&self.command_service, &link, &request.body).await,
            _ => link_pages::show(&self.command_service, &link).await,
        };
        Ok(without_body(method, HttpReply::page(page)))
    }

    /// The link that the token encodes; the inner error is an expired link.
    async fn verify_link(&self, request: &ApprovalRequest, token: &str) -> Result<Result<Link, Link>, Unauthenticated> {
        let now = self.command_service.clock.now();
        let mut bad = InvalidLink::Forged;
        for fresh in [false, true] {
            let Some(secret) = self.key(request, KeyKind::Links, fresh).await? else { break };
            let key = LinkKey::new(secret.expose()).map_err(|error| key_unavailable(&error.to_string()))?;
            match approval_links::verify(&key, token, now) {
                Ok(link) => return Ok(Ok(link)),
                Err(InvalidLink::Expired(link)) => return Ok(Err(*link)),
                Err(error) => bad = error,
            }
            // A key may have been rotated; a malformed token is invalid with any key.
            if bad != InvalidLink::Forged {
                break;
            }
        }
        Err(reject(request, &bad.to_string()))
    }

    async fn key(
        &self,
        request: &ApprovalRequest,
        kind: KeyKind,
        fresh: bool,
    ) -> Result<Option<Secret>, Unauthenticated> {
        match self.keys.key(kind, fresh).await {
            Ok(key) => Ok(key),
            Err(KeyError::NotConfigured) => Err(reject(request, "this installation has no secret to check that with")),
            Err(KeyError::Unavailable(reason)) => Err(key_unavailable(&reason)),
        }
    }
}

/// The reply to an unauthenticated caller; the reason is only logged.
fn reject(request: &ApprovalRequest, reason: &str) -> Unauthenticated {
    let channel = if request.path == INTERACTIONS { "slack" } else { "link" };
    let method = clip(&request.method, 20);
    tracing::warn!(channel, method, source_ip = request.source_ip, "not authenticated: {reason}");
    Unauthenticated(HttpReply::unauthenticated())
}

/// No request can be verified: every caller gets that reply, authenticated or not.
fn key_unavailable(reason: &str) -> Unauthenticated {
    tracing::error!("requests cannot be verified: {reason}");
    Unauthenticated(HttpReply::page(Page::unavailable()))
}

fn without_body(method: &str, answered: HttpReply) -> HttpReply {
    if method == "HEAD" { HttpReply { body: String::new(), ..answered } } else { answered }
}

#[cfg(test)]
mod tests;
