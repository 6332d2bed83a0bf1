//! Slack's Web API: a message is posted, and edited in place later on (`chat.postMessage`, `chat.update`).
//!
//! Slack answers `200` whatever happened, and says in the body what did. What it says is sorted here: not now, or no.

use crate::config::{BadSetting, Clients, SLACK_TOKEN_SECRET, SLACK_URL, setting};
use crate::http::{Address, Answer, BadAddress, Http, HttpError};
use crate::secrets::{Secret, SecretError, Secrets};
use engine::{Edited, SendError};
use serde::Deserialize;
use serde_json::{Value, json};

/// Where Slack's Web API is.
pub const URL: &str = "https://slack.com/api/";
/// The field of the secret that holds the bot token, where the secret is a JSON object.
pub const TOKEN_FIELD: &str = "bot_token";

/// Errors that say "not now" (Slack's reference of `chat.postMessage` and `chat.update`, section Errors).
const NOT_NOW: &[&str] = &[
    "accesslimited",
    "fatal_error",
    "internal_error",
    "message_limit_exceeded",
    // A workspace is being moved to another organization.
    "org_login_required",
    "rate_limited",
    "ratelimited",
    "request_timeout",
    "service_unavailable",
    "team_added_to_org",
];

/// Errors that speak of the token: it may have been rotated since it was read.
const TOKEN_UNFIT: &[&str] = &["account_inactive", "invalid_auth", "not_authed", "token_expired", "token_revoked"];

/// Errors that speak of a message that was there: it was taken away, or is not to be edited any more.
const GONE: &[&str] = &["cant_update_message", "edit_window_closed", "message_not_found"];

/// A message that is on its way to a channel.
#[derive(Debug, Clone, Copy)]
pub struct Post<'a> {
    /// Id or name of the channel.
    pub channel: &'a str,
    /// For notifications, and for clients that show no blocks.
    pub text: &'a str,
    /// Block Kit: an array.
    pub blocks: &'a Value,
    /// The message whose thread it belongs to.
    pub thread: Option<&'a str>,
}

/// A message that Slack has: what it is edited by.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Posted {
    /// Id of the channel, whatever it was posted by: `chat.update` takes no name.
    pub channel: String,
    /// The message's time, which is its identity within the channel.
    pub ts: String,
}

/// Why there is no way to Slack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlackSetting {
    /// A variable is missing.
    #[error(transparent)]
    Missing(#[from] BadSetting),
    /// The address is none.
    #[error("{SLACK_URL}")]
    Address(#[source] BadAddress),
}

/// One workspace of Slack, spoken to as a bot.
#[derive(Debug, Clone)]
pub struct Slack {
    http: Http,
    secrets: Secrets,
    api: Address,
    token_secret: String,
}

impl Slack {
    /// Slack at this address, with the token of this secret. Nothing is asked of anybody yet.
    #[must_use]
    pub fn new(clients: Clients, secrets: Secrets, api: Address, token_secret: impl Into<String>) -> Self {
        Self { http: Http::new(clients), secrets, api, token_secret: token_secret.into() }
    }

    /// Slack as the environment names it.
    ///
    /// # Errors
    /// [`SlackSetting`] where it lacks the name of the secret, or the address is none.
    pub fn from_environment(clients: Clients, secrets: Secrets) -> Result<Self, SlackSetting> {
        let token_secret = setting(SLACK_TOKEN_SECRET)?;
        let url = setting(SLACK_URL).unwrap_or_else(|_| URL.to_owned());
        let api = Address::parse(&url).map_err(SlackSetting::Address)?;
        Ok(Self::new(clients, secrets, api, token_secret))
    }

    /// Posts a message. Slack knows no repetition: asked twice, it is there twice.
    ///
    /// # Errors
    /// [`SendError::Refused`] where Slack said no, or the token cannot be had; else [`SendError::Unsure`].
    pub async fn post(&self, message: Post<'_>) -> Result<Posted, SendError> {
        let mut body = json!({
            "channel": message.channel,
            "text": message.text,
            "blocks": message.blocks,
            // Addresses in a commit's title are not for Slack to fetch.
            "unfurl_links": false,
            "unfurl_media": false,
        });
        if let Some(thread) = message.thread {
            body["thread_ts"] = json!(thread);
        }
        match self.call("chat.postMessage", &body).await? {
            Said::Done(posted) => Ok(posted),
            other => Err(other.into_error()),
        }
    }

    /// Puts another text and other blocks in the place of a message's. Asked twice, it is as if it were asked once.
    /// The channel is an id: `chat.update` takes no name.
    ///
    /// # Errors
    /// As [`Slack::post`]. A message that was taken away is none.
    pub async fn update(&self, channel: &str, ts: &str, text: &str, blocks: &Value) -> Result<Edited, SendError> {
        let body = json!({"channel": channel, "ts": ts, "text": text, "blocks": blocks});
        match self.call("chat.update", &body).await? {
            Said::Done(_) => Ok(Edited::Done),
            Said::No { code, .. } if GONE.contains(&code.as_str()) => Ok(Edited::Gone),
            other => Err(other.into_error()),
        }
    }

    async fn call(&self, method: &str, body: &Value) -> Result<Said, SendError> {
        let read = self.secrets.get(&self.token_secret).await.map_err(no_token)?;
        let first = self.once(method, &read, body).await?;
        if !matches!(first, Said::TokenUnfit(_)) {
            return Ok(first);
        }
        let fresh = self.secrets.get_fresh(&self.token_secret).await.map_err(no_token)?;
        if fresh.same_reading(&read) { Ok(first) } else { self.once(method, &fresh, body).await }
    }

    async fn once(&self, method: &str, secret: &Secret, body: &Value) -> Result<Said, SendError> {
        let token = secret.field(TOKEN_FIELD);
        let token = token.ok_or_else(|| no_token(SecretError::without(&self.token_secret, TOKEN_FIELD)))?;
        let answer = self.http.post(&self.api, method, token.expose(), body).await;
        Ok(said(method, &answer.map_err(|error| not_answered(method, error))?))
    }
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Done(Posted),
    NotNow(String),
    No {
        /// Slack's word for it.
        code: String,
        /// The same for people.
        reason: String,
    },
    TokenUnfit(String),
}

impl Said {
    fn into_error(self) -> SendError {
        match self {
            Self::Done(_) => SendError::Unsure { reason: "Slack has done something else than was asked".to_owned() },
            Self::NotNow(reason) => SendError::Unsure { reason },
            Self::No { reason, .. } | Self::TokenUnfit(reason) => SendError::Refused { reason },
        }
    }
}

fn no_token(error: SecretError) -> SendError {
    let reason = format!("Slack's token: {error}");
    match error {
        SecretError::Unavailable { .. } => SendError::Unsure { reason },
        SecretError::Refused { .. } => SendError::Refused { reason },
    }
}

fn not_answered(method: &str, error: HttpError) -> SendError {
    let reason = format!("{method}: {error}");
    match error {
        HttpError::NoAnswer { .. } => SendError::Unsure { reason },
        HttpError::NotSent { .. } => SendError::Refused { reason },
    }
}

#[derive(Deserialize)]
struct Body {
    ok: bool,
    #[serde(default)]
    error: String,
    /// The scope that the token lacks (error `missing_scope`).
    #[serde(default)]
    needed: String,
    channel: Option<String>,
    ts: Option<String>,
    #[serde(default)]
    response_metadata: Metadata,
}

#[derive(Default, Deserialize)]
struct Metadata {
    /// What is wrong with the blocks, and where.
    #[serde(default)]
    messages: Vec<String>,
}

fn said(method: &str, answer: &Answer) -> Said {
    let status = answer.status;
    let wait = answer.retry_after.map(|seconds| format!(", in {seconds} s again")).unwrap_or_default();
    let body = match serde_json::from_slice::<Body>(&answer.body) {
        Ok(body) => body,
        // Not Slack's words, but those of something on the way.
        Err(_) if matches!(status, 408 | 429 | 500..) => {
            return Said::NotNow(format!("{method}: status {status}{wait}"));
        }
        Err(error) if status == 200 => {
            let error = clipped(&error.to_string());
            return Said::NotNow(format!("{method}: the answer cannot be read: {error}"));
        }
        Err(_) => {
            let reason = format!("{method}: status {status}: is that Slack's Web API?");
            return Said::No { code: String::new(), reason };
        }
    };
    if let Body { ok: true, channel: Some(channel), ts: Some(ts), .. } = body {
        return Said::Done(Posted { channel, ts });
    }
    if body.ok {
        return Said::NotNow(format!("{method}: the answer names no message"));
    }
    let error = clipped(&body.error);
    let mut reason = format!("{method}: {error}{wait}");
    if !body.needed.is_empty() {
        reason.push_str(&format!(", the app needs the scope {}", clipped(&body.needed)));
    }
    if let Some(first) = body.response_metadata.messages.first() {
        reason.push_str(&format!(": {}", clipped(first)));
    }
    if status == 429 || status >= 500 || NOT_NOW.contains(&body.error.as_str()) {
        Said::NotNow(reason)
    } else if TOKEN_UNFIT.contains(&body.error.as_str()) {
        Said::TokenUnfit(reason)
    } else {
        Said::No { code: body.error, reason }
    }
}

/// Somebody else's words, on one line and not too many.
fn clipped(words: &str) -> String {
    rollout::text::line(words, 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Said {
        said("chat.postMessage", &Answer { status, retry_after: None, body: body.as_bytes().to_vec() })
    }

    fn error(code: &str) -> String {
        json!({"ok": false, "error": code}).to_string()
    }

    #[test]
    fn what_is_posted_is_known_by_channel_and_time() {
        let body = r#"{"ok": true, "channel": "C123ABC456", "ts": "1503435956.000247", "message": {"text": "…"}}"#;
        let posted = Posted { channel: "C123ABC456".to_owned(), ts: "1503435956.000247".to_owned() };
        assert_eq!(answer(200, body), Said::Done(posted));
    }

    #[test]
    fn not_now_is_told_from_no_and_from_a_token_that_does_not_fit() {
        for code in NOT_NOW {
            assert!(matches!(answer(200, &error(code)), Said::NotNow(_)), "{code}");
        }
        for code in ["channel_not_found", "not_in_channel", "is_archived", "message_not_found", "invalid_blocks", ""] {
            assert!(matches!(answer(200, &error(code)), Said::No { .. }), "{code}");
            assert!(matches!(answer(503, &error(code)), Said::NotNow(_)), "{code}");
        }
        for code in TOKEN_UNFIT {
            assert!(matches!(answer(200, &error(code)), Said::TokenUnfit(_)), "{code}");
        }
    }

    #[test]
    fn whatever_else_answers_is_judged_by_its_status() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(matches!(answer(status, "<html>"), Said::NotNow(_)), "{status}");
        }
        for status in [301, 400, 403, 404] {
            assert!(matches!(answer(status, "<html>"), Said::No { .. }), "{status}");
        }
        assert!(matches!(answer(200, "<html>"), Said::NotNow(_)));
        assert!(matches!(answer(200, r#"{"ok": true}"#), Said::NotNow(_)));
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let lacks = r#"{"ok": false, "error": "missing_scope", "needed": "chat:write", "provided": "identify"}"#;
        let Said::No { reason, .. } = answer(200, lacks) else { panic!("{lacks}") };
        assert_eq!(reason, "chat.postMessage: missing_scope, the app needs the scope chat:write");
        let blocks = r#"{"ok": false, "error": "invalid_blocks", "response_metadata": {"messages": ["[ERROR] must be\nshorter"]}}"#;
        let Said::No { reason, .. } = answer(200, blocks) else { panic!("{blocks}") };
        assert_eq!(reason, "chat.postMessage: invalid_blocks: [ERROR] must be shorter");
        let busy = Answer { status: 429, retry_after: Some(7), body: error("ratelimited").into_bytes() };
        assert_eq!(said("chat.update", &busy), Said::NotNow("chat.update: ratelimited, in 7 s again".to_owned()));
    }
}
