//! Slack's Web API: posts messages and edits them in place (`chat.postMessage`, `chat.update`).
//!
//! Slack usually returns `200` and reports errors in the body. They are classified here as retryable or rejected.
//!
//! Where Slack limits the rate, it answers `429` and says in `Retry-After` how many seconds to wait (Slack API, "Rate
//! limits"). Until they have passed, no call is made.

use crate::clock::SystemClock;
use crate::config::{Clients, SLACK_TOKEN_SECRET, SLACK_URL, SettingError, setting};
use crate::http::{Address, Http, HttpError, InvalidAddress, Response};
use crate::secrets::{Secret, SecretError, Secrets};
use engine::{Clock as _, EditOutcome, SendError};
use rollout::text::line;
use rollout::{Seconds, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};

/// Base URL of Slack's Web API.
pub const API_URL: &str = "https://slack.com/api/";
/// JSON field of the secret that holds the bot token, where the secret is a JSON object.
pub const TOKEN_FIELD: &str = "bot_token";

/// Transient errors (Slack's reference of `chat.postMessage` and `chat.update`, section Errors).
const RETRYABLE_ERRORS: &[&str] = &[
    "accesslimited",
    "fatal_error",
    "internal_error",
    "message_limit_exceeded",
    // The workspace is being migrated to another organization.
    "org_login_required",
    "request_timeout",
    "service_unavailable",
    "team_added_to_org",
];

/// Slack limits the rate: retryable, as soon as the time that it names has passed.
const RATE_LIMIT_ERRORS: &[&str] = &["rate_limited", "ratelimited"];

/// Errors about the token: it may have been rotated since it was read.
const TOKEN_ERRORS: &[&str] = &["account_inactive", "invalid_auth", "not_authed", "token_expired", "token_revoked"];

/// Errors about a message that existed: it was deleted, or can no longer be edited.
const MESSAGE_GONE_ERRORS: &[&str] = &["cant_update_message", "edit_window_closed", "message_not_found"];

/// Maximum number of characters of Slack's own text that an error quotes.
const MAX_QUOTED_CHARS: usize = 200;

/// A message to be posted.
#[derive(Debug, Clone, Copy)]
pub struct SlackMessage<'a> {
    /// Id or name of the channel.
    pub channel: &'a str,
    /// For notifications, and for clients that show no blocks.
    pub text: &'a str,
    /// Block Kit: an array.
    pub blocks: &'a Value,
    /// The message whose thread it belongs to.
    pub thread: Option<&'a str>,
}

/// A posted message: what `chat.update` needs to edit it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PostedSlackMessage {
    /// ID of the channel, even where the message was posted by channel name: `chat.update` takes no name.
    pub channel: String,
    /// The message's timestamp, which identifies it within the channel.
    pub ts: String,
}

/// Why Slack cannot be configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlackConfigError {
    /// A variable is missing.
    #[error(transparent)]
    Missing(#[from] SettingError),
    /// The address is invalid.
    #[error("{SLACK_URL}")]
    Address(#[source] InvalidAddress),
}

/// The end of Slack's rate limit. Slack limits each method and channel by itself; one limit for all calls is never too
/// short.
///
/// Kept across invocations, as the limit is, and by the wall clock, since a sandbox is frozen between two of them.
#[derive(Debug, Default)]
struct RateLimit(Mutex<Option<Timestamp>>);

impl RateLimit {
    /// Time for which no call may be made; `None`: one may be made now.
    fn remaining(&self, now: Timestamp) -> Option<Seconds> {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.map(|until| Seconds::between(now, until)).filter(|left| left.0 > 0)
    }

    fn extend(&self, until: Timestamp) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known = (*known).max(Some(until));
    }
}

/// One Slack workspace, used as a bot. Clones share the rate limit.
#[derive(Debug, Clone)]
pub struct Slack {
    http: Http,
    secrets: Secrets,
    api: Address,
    token_secret: String,
    rate_limit: Arc<RateLimit>,
}

impl Slack {
    /// Slack at this address, with the token in this secret. Makes no call yet.
    #[must_use]
    pub fn new(clients: Clients, secrets: Secrets, api: Address, token_secret: impl Into<String>) -> Self {
        let (http, token_secret) = (Http::new(clients), token_secret.into());
        Self { http, secrets, api, token_secret, rate_limit: Arc::default() }
    }

    /// Slack as configured by environment variables.
    ///
    /// # Errors
    /// [`SlackConfigError`] where the secret's name is missing, or the address is invalid.
    pub fn from_environment(clients: Clients, secrets: Secrets) -> Result<Self, SlackConfigError> {
        let token_secret = setting(SLACK_TOKEN_SECRET)?;
        let url = setting(SLACK_URL).unwrap_or_else(|_| API_URL.to_owned());
        let api = Address::parse(&url).map_err(SlackConfigError::Address)?;
        Ok(Self::new(clients, secrets, api, token_secret))
    }

    /// Posts a message. Not idempotent: calling it twice posts twice.
    ///
    /// # Errors
    /// [`SendError::Refused`] where Slack rejected the message, or the token cannot be read; [`SendError::RateLimited`]
    /// where Slack limits the rate; otherwise [`SendError::Unsure`].
    pub async fn post(&self, message: SlackMessage<'_>) -> Result<PostedSlackMessage, SendError> {
        let mut body = json!({
            "channel": message.channel,
            "text": message.text,
            "blocks": message.blocks,
            // Slack must not fetch URLs that occur in a commit's title.
            "unfurl_links": false,
            "unfurl_media": false,
        });
        if let Some(thread) = message.thread {
            body["thread_ts"] = json!(thread);
        }
        match self.call("chat.postMessage", &body).await? {
            SlackResult::Done(posted) => Ok(posted),
            other => Err(other.into_error()),
        }
    }

    /// Replaces a message's text and blocks. Idempotent. `channel` is an ID: `chat.update` takes no name.
    ///
    /// # Errors
    /// As [`Slack::post`]. A message that was deleted is not an error, but [`EditOutcome::Gone`].
    pub async fn update(&self, channel: &str, ts: &str, text: &str, blocks: &Value) -> Result<EditOutcome, SendError> {
        let body = json!({"channel": channel, "ts": ts, "text": text, "blocks": blocks});
        match self.call("chat.update", &body).await? {
            SlackResult::Done(_) => Ok(EditOutcome::Done),
            SlackResult::Rejected { code, .. } if MESSAGE_GONE_ERRORS.contains(&code.as_str()) => Ok(EditOutcome::Gone),
            other => Err(other.into_error()),
        }
    }

    async fn call(&self, method: &str, body: &Value) -> Result<SlackResult, SendError> {
        if let Some(after) = self.rate_limit.remaining(SystemClock.now()) {
            let reason = format!("{method}: not called, Slack limits the rate for another {} s", after.0);
            return Ok(SlackResult::RateLimited { after, reason });
        }
        let cached = self.secrets.get(&self.token_secret).await.map_err(token_error)?;
        let first = self.call_once(method, &cached, body).await?;
        if !matches!(first, SlackResult::TokenRejected(_)) {
            return Ok(first);
        }
        let fresh = self.secrets.get_fresh(&self.token_secret).await.map_err(token_error)?;
        if fresh.is_same_read(&cached) { Ok(first) } else { self.call_once(method, &fresh, body).await }
    }

    async fn call_once(&self, method: &str, secret: &Secret, body: &Value) -> Result<SlackResult, SendError> {
        let token = secret.field(TOKEN_FIELD);
        let token = token.ok_or_else(|| token_error(SecretError::missing_field(&self.token_secret, TOKEN_FIELD)))?;
        let answer = self.http.post(&self.api, method, token.expose(), body).await;
        let result = classify(method, &answer.map_err(|error| http_failure(method, error))?);
        if let SlackResult::RateLimited { after, .. } = &result {
            self.rate_limit.extend(after.after(SystemClock.now()));
        }
        Ok(result)
    }
}

/// Classified response.
#[derive(Debug, PartialEq, Eq)]
enum SlackResult {
    Done(PostedSlackMessage),
    Retryable(String),
    RateLimited {
        /// Time before which Slack accepts no call.
        after: Seconds,
        /// The error for people.
        reason: String,
    },
    Rejected {
        /// Slack's error code.
        code: String,
        /// The error for people.
        reason: String,
    },
    TokenRejected(String),
}

impl SlackResult {
    fn into_error(self) -> SendError {
        match self {
            Self::Done(_) => SendError::Unsure { reason: "Slack has done something else than was asked".to_owned() },
            Self::Retryable(reason) => SendError::Unsure { reason },
            Self::RateLimited { after, reason } => SendError::RateLimited { after, reason },
            Self::Rejected { reason, .. } | Self::TokenRejected(reason) => SendError::Refused { reason },
        }
    }
}

fn token_error(error: SecretError) -> SendError {
    let reason = format!("Slack's token: {error}");
    match error {
        SecretError::Unavailable { .. } => SendError::Unsure { reason },
        SecretError::Refused { .. } => SendError::Refused { reason },
    }
}

fn http_failure(method: &str, error: HttpError) -> SendError {
    let reason = format!("{method}: {error}");
    match error {
        HttpError::NoResponse { .. } => SendError::Unsure { reason },
        HttpError::NotSent { .. } => SendError::Refused { reason },
    }
}

#[derive(Deserialize)]
struct ResponseBody {
    ok: bool,
    #[serde(default)]
    error: String,
    /// The scope that the token lacks (error `missing_scope`).
    #[serde(default)]
    needed: String,
    channel: Option<String>,
    ts: Option<String>,
    #[serde(default)]
    response_metadata: ResponseMetadata,
}

#[derive(Default, Deserialize)]
struct ResponseMetadata {
    /// What is wrong with the blocks, and where.
    #[serde(default)]
    messages: Vec<String>,
}

fn classify(method: &str, answer: &Response) -> SlackResult {
    let status = answer.status;
    let retry_hint = answer.retry_after.map(|seconds| format!(", in {seconds} s again")).unwrap_or_default();
    let body = match serde_json::from_slice::<ResponseBody>(&answer.body) {
        Ok(body) => body,
        // Not from Slack, but from a proxy or gateway on the path.
        Err(_) if matches!(status, 408 | 429 | 500..) => {
            return retryable(status == 429, answer, format!("{method}: status {status}{retry_hint}"));
        }
        Err(error) if status == 200 => {
            let error = line(&error.to_string(), MAX_QUOTED_CHARS);
            return SlackResult::Retryable(format!("{method}: the answer cannot be read: {error}"));
        }
        Err(_) => {
            let reason = format!("{method}: status {status}: is that Slack's Web API?");
            return SlackResult::Rejected { code: String::new(), reason };
        }
    };
    if let ResponseBody { ok: true, channel: Some(channel), ts: Some(ts), .. } = body {
        return SlackResult::Done(PostedSlackMessage { channel, ts });
    }
    if body.ok {
        return SlackResult::Retryable(format!("{method}: the answer names no message"));
    }
    let error = line(&body.error, MAX_QUOTED_CHARS);
    let mut reason = format!("{method}: {error}{retry_hint}");
    if !body.needed.is_empty() {
        reason.push_str(&format!(", the app needs the scope {}", line(&body.needed, MAX_QUOTED_CHARS)));
    }
    if let Some(first) = body.response_metadata.messages.first() {
        reason.push_str(&format!(": {}", line(first, MAX_QUOTED_CHARS)));
    }
    let is_rate_limit = status == 429 || RATE_LIMIT_ERRORS.contains(&body.error.as_str());
    if is_rate_limit || status >= 500 || RETRYABLE_ERRORS.contains(&body.error.as_str()) {
        retryable(is_rate_limit, answer, reason)
    } else if TOKEN_ERRORS.contains(&body.error.as_str()) {
        SlackResult::TokenRejected(reason)
    } else {
        SlackResult::Rejected { code: body.error, reason }
    }
}

/// A transient error. A rate limit without a `Retry-After` is one like any other.
fn retryable(is_rate_limit: bool, answer: &Response, reason: String) -> SlackResult {
    match answer.retry_after {
        Some(seconds) if is_rate_limit => SlackResult::RateLimited { after: Seconds(seconds.into()), reason },
        _ => SlackResult::Retryable(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> SlackResult {
        classify("chat.postMessage", &Response { status, retry_after: None, body: body.as_bytes().to_vec() })
    }

    fn error(code: &str) -> String {
        json!({"ok": false, "error": code}).to_string()
    }

    #[test]
    fn a_posted_message_has_channel_and_timestamp() {
        let body = r#"{"ok": true, "channel": "C123ABC456", "ts": "1503435956.000247", "message": {"text": "…"}}"#;
        let posted = PostedSlackMessage { channel: "C123ABC456".to_owned(), ts: "1503435956.000247".to_owned() };
        assert_eq!(answer(200, body), SlackResult::Done(posted));
    }

    #[test]
    fn retryable_rejected_and_token_errors_are_distinguished() {
        for code in RETRYABLE_ERRORS.iter().chain(RATE_LIMIT_ERRORS) {
            assert!(matches!(answer(200, &error(code)), SlackResult::Retryable(_)), "{code}");
        }
        for code in ["channel_not_found", "not_in_channel", "is_archived", "message_not_found", "invalid_blocks", ""] {
            assert!(matches!(answer(200, &error(code)), SlackResult::Rejected { .. }), "{code}");
            assert!(matches!(answer(503, &error(code)), SlackResult::Retryable(_)), "{code}");
        }
        for code in TOKEN_ERRORS {
            assert!(matches!(answer(200, &error(code)), SlackResult::TokenRejected(_)), "{code}");
        }
    }

    #[test]
    fn a_non_slack_response_is_classified_by_status() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(matches!(answer(status, "<html>"), SlackResult::Retryable(_)), "{status}");
        }
        for status in [301, 400, 403, 404] {
            assert!(matches!(answer(status, "<html>"), SlackResult::Rejected { .. }), "{status}");
        }
        assert!(matches!(answer(200, "<html>"), SlackResult::Retryable(_)));
        assert!(matches!(answer(200, r#"{"ok": true}"#), SlackResult::Retryable(_)));
    }

    #[test]
    fn a_rejection_says_what_to_fix() {
        let lacks = r#"{"ok": false, "error": "missing_scope", "needed": "chat:write", "provided": "identify"}"#;
        let SlackResult::Rejected { reason, .. } = answer(200, lacks) else { panic!("{lacks}") };
        assert_eq!(reason, "chat.postMessage: missing_scope, the app needs the scope chat:write");
        let blocks = r#"{"ok": false, "error": "invalid_blocks", "response_metadata": {"messages": ["[ERROR] must be\nshorter"]}}"#;
        let SlackResult::Rejected { reason, .. } = answer(200, blocks) else { panic!("{blocks}") };
        assert_eq!(reason, "chat.postMessage: invalid_blocks: [ERROR] must be shorter");
    }

    #[test]
    fn a_rate_limit_with_its_end_is_distinguished() {
        let limited = |status, body: &str| {
            classify("chat.update", &Response { status, retry_after: Some(7), body: body.as_bytes().to_vec() })
        };
        let seconds = |reason: &str| SlackResult::RateLimited { after: Seconds(7), reason: reason.to_owned() };
        for (status, code) in [(429, "ratelimited"), (200, "ratelimited"), (200, "rate_limited"), (429, "other")] {
            let reason = format!("chat.update: {code}, in 7 s again");
            assert_eq!(limited(status, &error(code)), seconds(&reason), "{status} {code}");
        }
        assert_eq!(limited(429, "<html>"), seconds("chat.update: status 429, in 7 s again"));
        // The call may have had an effect.
        let unavailable = "chat.update: status 503, in 7 s again".to_owned();
        assert_eq!(limited(503, "<html>"), SlackResult::Retryable(unavailable));
    }

    #[test]
    fn no_call_is_made_before_the_rate_limit_ends() {
        let at = |ms: i64| Timestamp::from_millisecond(1_795_316_400_000 + ms).expect("a time");
        let rate_limit = RateLimit::default();
        assert_eq!(rate_limit.remaining(at(0)), None);
        rate_limit.extend(Seconds(30).after(at(0)));
        // An answer to another call that was under way.
        rate_limit.extend(Seconds(7).after(at(500)));
        let remaining = [0, 1, 29_000, 29_999, 30_000, 60_000].map(|ms| rate_limit.remaining(at(ms)));
        let rounded_up = [Some(30), Some(30), Some(1), Some(1), None, None];
        assert_eq!(remaining, rounded_up.map(|seconds| seconds.map(Seconds)));
    }
}
