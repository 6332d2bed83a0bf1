//! Slack interactions: verifies that a request comes from Slack, and reads which button was pressed.
//!
//! Signatures are Slack's version `v0` (Slack API, "Verifying requests from Slack"); the payload is a `block_actions` one
//! (Slack API, "block_actions payload").

use super::{
    ALREADY_APPROVED, ApprovalDecision, ApprovalReceipt, ApprovalSubmission, DeduplicationKey, submit_decision,
};
use crate::approval_links::hmac_sha256;
use crate::command_service::ApprovalLedger;
use crate::{CommandService, Refusal};
use engine::ports::{Clock, WakeQueue};
use hmac::Mac as _;
use rollout::entry::SLACK_PREFIX;
use rollout::text::line;
use rollout::{Actor, PlanId, Seconds, TargetId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use view::slack::{APPROVE, REASON, REJECT};

/// Maximum difference between a request's timestamp and the current time, either way, as Slack recommends.
pub const MAX_CLOCK_SKEW: Seconds = Seconds(300);

/// Minimum length of an accepted signing secret, in bytes; Slack's have 32.
const MIN_SECRET_BYTES: usize = 16;
/// Maximum size of a request body, in bytes: the payload carries the whole message.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// Why a request is not accepted as Slack's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSlackRequest {
    /// A header is missing or malformed.
    #[error("the header {0} is missing, or not of Slack's form")]
    Malformed(&'static str),
    /// Older than [`MAX_CLOCK_SKEW`], or as far in the future: possibly a replayed request.
    #[error("its time is more than {MAX_CLOCK_SKEW} from ours")]
    Stale,
    /// The signature does not match the body and secret.
    #[error("its signature does not fit its body")]
    Forged,
}

/// Verifies that Slack sent this request just now, from the headers `X-Slack-Request-Timestamp` and `X-Slack-Signature` and the
/// raw body. Compares in constant time.
///
/// # Errors
/// [`InvalidSlackRequest`].
pub fn verify(
    secret: &str,
    timestamp: &str,
    signature: &str,
    body: &[u8],
    now: Timestamp,
) -> Result<(), InvalidSlackRequest> {
    fresh(timestamp, now)?;
    let mac = decode_mac(signature.strip_prefix("v0=").unwrap_or_default())
        .ok_or(InvalidSlackRequest::Malformed("X-Slack-Signature"))?;
    // With an empty key, anyone could compute a valid signature.
    if secret.len() < MIN_SECRET_BYTES {
        return Err(InvalidSlackRequest::Forged);
    }
    let mut expected = hmac_sha256(secret.as_bytes());
    expected.update(b"v0:");
    expected.update(timestamp.as_bytes());
    expected.update(b":");
    expected.update(body);
    expected.verify_slice(&mac).map_err(|_| InvalidSlackRequest::Forged)
}

/// Whether a request with this timestamp is recent enough.
///
/// # Errors
/// [`InvalidSlackRequest::Malformed`], [`InvalidSlackRequest::Stale`].
pub fn fresh(timestamp: &str, now: Timestamp) -> Result<(), InvalidSlackRequest> {
    let digits = (1..=12).contains(&timestamp.len()) && timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let sent: Option<i64> = if digits { timestamp.parse().ok() } else { None };
    let sent = sent.ok_or(InvalidSlackRequest::Malformed("X-Slack-Request-Timestamp"))?;
    if sent.abs_diff(now.as_second()) > MAX_CLOCK_SKEW.0 { Err(InvalidSlackRequest::Stale) } else { Ok(()) }
}

/// Decodes 64 lower-case hexadecimal digits.
fn decode_mac(digits: &str) -> Option<[u8; 32]> {
    // The crate also accepts upper case, which Slack never sends.
    if digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut bytes = [0_u8; 32];
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    Some(bytes)
}

/// What a button refers to: the `value` set in the message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ButtonValue {
    /// The target that the deployment belongs to.
    #[serde(rename = "t")]
    pub target: TargetId,
    /// The deployment's number.
    #[serde(rename = "d")]
    pub deployment: u64,
    /// The plan to review.
    #[serde(rename = "p")]
    pub plan: PlanId,
}

/// A press of one of Switchback's buttons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ButtonPress {
    /// Slack member ID of the person.
    pub user: String,
    /// The button's value.
    pub on: ButtonValue,
    /// Approve or reject.
    pub decision: ApprovalDecision,
    /// Content of the message's text input, cut to the stored length.
    pub reason: String,
    /// URL for an ephemeral reply to the person.
    pub response_url: Option<String>,
}

/// A Slack interaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interaction {
    /// One of Switchback's buttons was pressed.
    Pressed(Box<ButtonPress>),
    /// Another interaction, which decides nothing; its description for the log.
    Other(String),
}

/// A request signed by Slack that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableInteraction {
    /// The form has no `payload`, or it is not JSON of the documented shape.
    #[error("the payload cannot be read: {0}")]
    Payload(String),
    /// One of Switchback's buttons with an invalid value.
    #[error("the button's value cannot be read: {0}")]
    Value(String),
}

#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "type")]
    kind: String,
    user: Option<User>,
    #[serde(default)]
    actions: Vec<BlockAction>,
    response_url: Option<String>,
    #[serde(default)]
    state: InputState,
}

#[derive(Deserialize)]
struct User {
    id: String,
}

#[derive(Deserialize)]
struct BlockAction {
    #[serde(default)]
    action_id: String,
    #[serde(default)]
    value: Option<String>,
}

/// `values` by block and action: elements have different shapes, and only the text input's is read.
#[derive(Default, Deserialize)]
struct InputState {
    #[serde(default)]
    values: BTreeMap<String, BTreeMap<String, Value>>,
}

/// Reads a body whose signature was verified.
///
/// # Errors
/// [`UnreadableInteraction`].
pub fn read(body: &[u8]) -> Result<Interaction, UnreadableInteraction> {
    let payload = form_urlencoded::parse(body).find(|(key, _)| key == "payload").map(|(_, value)| value);
    let payload = payload.ok_or_else(|| UnreadableInteraction::Payload("there is none in the form".to_owned()))?;
    let payload: Payload =
        serde_json::from_str(&payload).map_err(|error| UnreadableInteraction::Payload(error.to_string()))?;
    if payload.kind != "block_actions" {
        return Ok(Interaction::Other(line(&payload.kind, 40)));
    }
    let pressed = payload.actions.iter().find_map(|action| match action.action_id.as_str() {
        APPROVE => Some((ApprovalDecision::Approve, action)),
        REJECT => Some((ApprovalDecision::Reject, action)),
        _ => None,
    });
    let Some((decision, action)) = pressed else {
        let action = payload.actions.first().map(|action| action.action_id.as_str()).unwrap_or_default();
        return Ok(Interaction::Other(format!("block_actions {}", line(action, 40))));
    };
    let user = payload.user.map(|user| user.id).unwrap_or_default();
    let member = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    if !(2..=32).contains(&user.len()) || !user.bytes().all(member) {
        return Err(UnreadableInteraction::Payload("user.id is no member ID".to_owned()));
    }
    let value = action.value.as_deref().unwrap_or_default();
    let on = serde_json::from_str(value).map_err(|error| UnreadableInteraction::Value(error.to_string()))?;
    let reason = payload.state.values.values().find_map(|block| block.get(REASON)?.get("value")?.as_str());
    let reason = super::clean_reason(reason.unwrap_or_default());
    Ok(Interaction::Pressed(Box::new(ButtonPress { user, on, decision, reason, response_url: payload.response_url })))
}

/// Submits the decision of a button press; the person is the one that Slack names.
///
/// # Errors
/// As [`submit_decision`].
pub async fn pressed<L: ApprovalLedger, D: WakeQueue, K: Clock>(
    command_service: &CommandService<'_, L, D, K>,
    press: &ButtonPress,
) -> Result<ApprovalReceipt, Refusal> {
    let identity = format!("{SLACK_PREFIX}{}", press.user);
    let actor = Actor::Person { name: identity.clone() };
    let submission = ApprovalSubmission {
        target: &press.on.target,
        deployment: press.on.deployment,
        plan: &press.on.plan,
        decision: press.decision,
        actor: &actor,
        reason: &press.reason,
        entry_point: "slack",
        deduplication_key: DeduplicationKey::Person(&identity),
    };
    submit_decision(command_service, &submission).await
}

/// The ephemeral reply to the person: a message for the interaction's response URL.
#[must_use]
pub fn reply(outcome: &Result<ApprovalReceipt, Refusal>) -> Value {
    let text = match outcome {
        Ok(taken) => escaped(&taken.sentence()),
        Err(refusal) if refusal.status >= 500 => {
            "Your answer was *not* taken: the ledger did not answer. Press the button again in a minute.".to_owned()
        }
        Err(refusal) if refusal.code == ALREADY_APPROVED => escaped(&refusal.message),
        Err(refusal) => {
            return ephemeral_reply(&format!("Not taken: {}.", escaped(refusal.message.trim_end_matches('.'))));
        }
    };
    ephemeral_reply(&text)
}

fn ephemeral_reply(text: &str) -> Value {
    json!({"response_type": "ephemeral", "replace_original": false, "text": text})
}

/// Escapes text for Slack's `mrkdwn`, so that nothing in it is markup (Slack API, "Escaping text").
#[must_use]
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests;
