//! The two doors: Slack's interactions, and signed links. Who has no proof is a stranger, and all strangers hear the same.

use crate::keys::{Keys, NoKey, Which};
use crate::request::Request;
use aws::secrets::Secret;
use engine::approving::mail::{self, Page};
use engine::approving::slack::{self, Interaction};
use engine::desk::Desk;
use engine::links::{self, BadLink, Link, LinkKey};
use engine::{Clock, Ledger, WakeQueue};
use serde_json::Value;

/// Where Slack sends interactions.
const INTERACTIONS: &str = "/slack/interactions";
/// What a link's path begins with; the token is the rest.
const LINKS: &str = "/approvals/";

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answered {
    /// HTTP's status.
    pub(crate) status: u16,
    /// What the body is.
    pub(crate) content_type: &'static str,
    /// The body.
    pub(crate) body: String,
    /// What to tell who pressed, and where Slack takes that.
    pub(crate) reply: Option<(String, Value)>,
}

impl Answered {
    fn slack(status: u16) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: String::new(), reply: None }
    }

    fn page(page: Page) -> Self {
        Self { status: page.status, content_type: "text/html; charset=utf-8", body: page.html, reply: None }
    }

    /// What everybody hears who has no proof of ours or of Slack's, at whatever path.
    fn stranger() -> Self {
        Self::page(Page::stranger())
    }
}

/// Both doors, over the desk that takes answers down.
pub(crate) struct Door<'a, L, D, K, S> {
    /// Where answers are taken down.
    pub(crate) desk: Desk<'a, L, D, K>,
    /// What proofs are checked with.
    pub(crate) keys: &'a S,
}

/// There is no proof, and this is what to answer.
struct Unproven(Answered);

impl<L: Ledger, D: WakeQueue, K: Clock, S: Keys> Door<'_, L, D, K, S> {
    /// Answers one request.
    pub(crate) async fn answer(&self, request: &Request) -> Answered {
        let answered = match (request.method.as_str(), request.path.as_str()) {
            ("POST", INTERACTIONS) => self.interaction(request).await,
            (method @ ("GET" | "HEAD" | "POST"), path) => match path.strip_prefix(LINKS) {
                Some(token) => self.link(request, method, token).await,
                None => Err(unproven(request, "there is nothing at this path")),
            },
            _ => Err(unproven(request, "no such method is taken")),
        };
        answered.unwrap_or_else(|Unproven(answered)| answered)
    }

    // --- Slack ---

    async fn interaction(&self, request: &Request) -> Result<Answered, Unproven> {
        self.slack_has_signed(request).await?;
        let press = match slack::read(&request.body) {
            Ok(Interaction::Pressed(press)) => press,
            Ok(Interaction::Other(what)) => {
                tracing::info!(what, "an interaction that decides nothing");
                return Ok(Answered::slack(200));
            }
            Err(error) => {
                tracing::error!("Slack sent an interaction that is not understood: {error}");
                return Ok(Answered::slack(400));
            }
        };
        let outcome = slack::pressed(&self.desk, &press).await;
        let failed = outcome.as_ref().is_err_and(|refusal| refusal.status >= 500);
        let reply = press.response_url.map(|url| (url, slack::reply(&outcome)));
        // Slack marks what is not answered with 200 as failed, for the person to see: so it is, then.
        Ok(Answered { reply, ..Answered::slack(if failed { 503 } else { 200 }) })
    }

    async fn slack_has_signed(&self, request: &Request) -> Result<(), Unproven> {
        let now = self.desk.clock.now();
        if request.body.len() > slack::LARGEST_BODY {
            return Err(unproven(request, "the body is larger than any of Slack's"));
        }
        // Before any secret is asked for.
        slack::fresh(&request.timestamp, now).map_err(|error| unproven(request, &error.to_string()))?;
        let verify = |secret: &Secret| {
            slack::verify(secret.expose(), &request.timestamp, &request.signature, &request.body, now)
        };
        let secret = self.key(request, Which::Slack, false).await?;
        match secret.map_or(Err(slack::NotSlack::Forged), |secret| verify(&secret)) {
            Ok(()) => Ok(()),
            Err(error @ slack::NotSlack::Forged) => match self.key(request, Which::Slack, true).await? {
                // The secret may have been renewed.
                Some(fresh) => verify(&fresh).map_err(|error| unproven(request, &error.to_string())),
                None => Err(unproven(request, &error.to_string())),
            },
            Err(error) => Err(unproven(request, &error.to_string())),
        }
    }

    // --- links ---

    async fn link(&self, request: &Request, method: &str, token: &str) -> Result<Answered, Unproven> {
        let link = match self.proven(request, token).await? {
            Ok(link) => link,
            Err(expired) => {
                if method == "POST" {
                    mail::note_expired(&self.desk, &expired).await;
                }
                return Ok(without_body(method, Answered::page(Page::expired(&expired))));
            }
        };
        let page = match method {
            "POST" => mail::decide(&self.desk, &link, &request.body).await,
            _ => mail::show(&self.desk, &link).await,
        };
        Ok(without_body(method, Answered::page(page)))
    }

    /// The link that the token is; the inner error is one whose time is over.
    async fn proven(&self, request: &Request, token: &str) -> Result<Result<Link, Link>, Unproven> {
        let now = self.desk.clock.now();
        let mut bad = BadLink::Forged;
        for fresh in [false, true] {
            let Some(secret) = self.key(request, Which::Links, fresh).await? else { break };
            let key = LinkKey::new(secret.expose()).map_err(|error| unusable(&error.to_string()))?;
            match links::verify(&key, token, now) {
                Ok(link) => return Ok(Ok(link)),
                Err(BadLink::Expired(link)) => return Ok(Err(*link)),
                Err(error) => bad = error,
            }
            // A key may have been renewed; a token of another form is none of any key.
            if bad != BadLink::Forged {
                break;
            }
        }
        Err(unproven(request, &bad.to_string()))
    }

    async fn key(&self, request: &Request, which: Which, fresh: bool) -> Result<Option<Secret>, Unproven> {
        match self.keys.key(which, fresh).await {
            Ok(key) => Ok(key),
            Err(NoKey::NotSet) => Err(unproven(request, "this installation has no secret to check that with")),
            Err(NoKey::NotHad(reason)) => Err(unusable(&reason)),
        }
    }
}

/// A stranger: the log has the reason.
fn unproven(request: &Request, reason: &str) -> Unproven {
    let door = if request.path == INTERACTIONS { "slack" } else { "link" };
    let method: String = request.method.chars().take(20).collect();
    tracing::warn!(door, method, source_ip = request.source_ip, "not let in: {reason}");
    Unproven(Answered::stranger())
}

/// Nothing can be checked: whoever asks hears that, whether they have a proof or not.
fn unusable(reason: &str) -> Unproven {
    tracing::error!("nobody can be let in: {reason}");
    Unproven(Answered::page(Page::unavailable()))
}

fn without_body(method: &str, answered: Answered) -> Answered {
    if method == "HEAD" { Answered { body: String::new(), ..answered } } else { answered }
}

#[cfg(test)]
mod tests;
