//! Slack's interactions: whether a request is Slack's own, and what was pressed.
//!
//! Signatures are Slack's version `v0` (Slack API, "Verifying requests from Slack"); the payload is a `block_actions` one
//! (Slack API, "block_actions payload").

use super::{Answer, Once, SAID_ALREADY, Taken, Word, answer};
use crate::desk::{Desk, Refusal};
use crate::links::keyed;
use crate::ports::{Clock, Ledger, WakeQueue};
use hmac::Mac as _;
use rollout::entry::SLACK;
use rollout::text::line;
use rollout::{Actor, PlanId, Seconds, TargetId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How far a request's time may be from ours, either way, as Slack recommends.
pub const FRESH: Seconds = Seconds(300);
/// `action_id` of the button that says yes.
pub const APPROVE: &str = "switchback_approve";
/// `action_id` of the button that says no.
pub const REJECT: &str = "switchback_reject";
/// `action_id` of the text input for the reason.
pub const REASON: &str = "switchback_reason";

/// The shortest signing secret that is taken, in bytes; Slack's have 32.
const SHORTEST_SECRET: usize = 16;
/// The largest body that is read, in bytes: the payload carries the whole message.
pub const LARGEST_BODY: usize = 256 * 1024;

/// Why a request is not taken for Slack's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSlack {
    /// A header is missing or is not of its form.
    #[error("the header {0} is missing, or not of Slack's form")]
    Malformed(&'static str),
    /// It is older than [`FRESH`], or from the future by as much: perhaps a request of Slack's that somebody sends again.
    #[error("its time is more than {FRESH} from ours")]
    Stale,
    /// The signature is not of this body with this secret.
    #[error("its signature does not fit its body")]
    Forged,
}

/// Whether Slack sent this, just now: the value of the headers `X-Slack-Request-Timestamp` and `X-Slack-Signature`, and
/// the body as it came. Compared in constant time.
///
/// # Errors
/// [`NotSlack`].
pub fn verify(secret: &str, timestamp: &str, signature: &str, body: &[u8], now: Timestamp) -> Result<(), NotSlack> {
    fresh(timestamp, now)?;
    let mac = hex(signature.strip_prefix("v0=").unwrap_or_default()).ok_or(NotSlack::Malformed("X-Slack-Signature"))?;
    // With an empty key everybody's signature would fit.
    if secret.len() < SHORTEST_SECRET {
        return Err(NotSlack::Forged);
    }
    let mut expected = keyed(secret.as_bytes());
    expected.update(b"v0:");
    expected.update(timestamp.as_bytes());
    expected.update(b":");
    expected.update(body);
    expected.verify_slice(&mac).map_err(|_| NotSlack::Forged)
}

/// Whether a request of this time can still be Slack's.
///
/// # Errors
/// [`NotSlack::Malformed`], [`NotSlack::Stale`].
pub fn fresh(timestamp: &str, now: Timestamp) -> Result<(), NotSlack> {
    let digits = (1..=12).contains(&timestamp.len()) && timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let sent: Option<i64> = if digits { timestamp.parse().ok() } else { None };
    let sent = sent.ok_or(NotSlack::Malformed("X-Slack-Request-Timestamp"))?;
    if sent.abs_diff(now.as_second()) > FRESH.0 { Err(NotSlack::Stale) } else { Ok(()) }
}

/// 64 lower-case hexadecimal digits.
fn hex(digits: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    let mut bytes = [0; 32];
    if pairs.len() != bytes.len() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// What a button stands for: the `value` that the message gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ButtonValue {
    /// Where.
    #[serde(rename = "t")]
    pub target: TargetId,
    /// Which deployment.
    #[serde(rename = "d")]
    pub deployment: u64,
    /// What was looked at.
    #[serde(rename = "p")]
    pub plan: PlanId,
}

/// Somebody pressed one of our buttons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Press {
    /// Slack's member ID of who pressed.
    pub user: String,
    /// Which button, and on what.
    pub on: ButtonValue,
    /// Yes or no.
    pub word: Word,
    /// What stands in the message's text input, cut to what is kept.
    pub reason: String,
    /// Where Slack takes an answer for the person's eyes.
    pub response_url: Option<String>,
}

/// What Slack sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interaction {
    /// One of our buttons was pressed.
    Pressed(Box<Press>),
    /// Something else was done, which decides nothing: which, for the log.
    Other(String),
}

/// Something signed by Slack that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The form has no `payload`, or it is no JSON of the documented shape.
    #[error("the payload cannot be read: {0}")]
    Payload(String),
    /// The button is ours, and its value is not.
    #[error("the button's value cannot be read: {0}")]
    Value(String),
}

#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "type")]
    kind: String,
    user: Option<User>,
    #[serde(default)]
    actions: Vec<Action>,
    response_url: Option<String>,
    #[serde(default)]
    state: State,
}

#[derive(Deserialize)]
struct User {
    id: String,
}

#[derive(Deserialize)]
struct Action {
    #[serde(default)]
    action_id: String,
    #[serde(default)]
    value: Option<String>,
}

/// `values` by block and action: elements have different shapes, and only the text input's is of interest.
#[derive(Default, Deserialize)]
struct State {
    #[serde(default)]
    values: BTreeMap<String, BTreeMap<String, Value>>,
}

/// Reads a body that Slack has signed.
///
/// # Errors
/// [`Unreadable`].
pub fn read(body: &[u8]) -> Result<Interaction, Unreadable> {
    let payload = form_urlencoded::parse(body).find(|(key, _)| key == "payload").map(|(_, value)| value);
    let payload = payload.ok_or_else(|| Unreadable::Payload("there is none in the form".to_owned()))?;
    let payload: Payload = serde_json::from_str(&payload).map_err(|error| Unreadable::Payload(error.to_string()))?;
    if payload.kind != "block_actions" {
        return Ok(Interaction::Other(line(&payload.kind, 40)));
    }
    let pressed = payload.actions.iter().find_map(|action| match action.action_id.as_str() {
        APPROVE => Some((Word::Yes, action)),
        REJECT => Some((Word::No, action)),
        _ => None,
    });
    let Some((word, action)) = pressed else {
        let action = payload.actions.first().map(|action| action.action_id.as_str()).unwrap_or_default();
        return Ok(Interaction::Other(format!("block_actions {}", line(action, 40))));
    };
    let user = payload.user.map(|user| user.id).unwrap_or_default();
    let member = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    if !(2..=32).contains(&user.len()) || !user.bytes().all(member) {
        return Err(Unreadable::Payload("user.id is no member ID".to_owned()));
    }
    let value = action.value.as_deref().unwrap_or_default();
    let on = serde_json::from_str(value).map_err(|error| Unreadable::Value(error.to_string()))?;
    let reason = payload.state.values.values().find_map(|block| block.get(REASON)?.get("value")?.as_str());
    let reason = super::kept(reason.unwrap_or_default());
    Ok(Interaction::Pressed(Box::new(Press { user, on, word, reason, response_url: payload.response_url })))
}

/// Takes the answer that was pressed; who pressed is who Slack says they are.
///
/// # Errors
/// As [`answer`].
pub async fn pressed<L: Ledger, D: WakeQueue, K: Clock>(
    desk: &Desk<'_, L, D, K>,
    press: &Press,
) -> Result<Taken, Refusal> {
    let identity = format!("{SLACK}{}", press.user);
    let actor = Actor::Person { name: identity.clone() };
    let said = Answer {
        target: &press.on.target,
        deployment: press.on.deployment,
        plan: &press.on.plan,
        word: press.word,
        actor: &actor,
        reason: &press.reason,
        door: "slack",
        once: Once::Asking(&identity),
    };
    answer(desk, &said).await
}

/// What who pressed is told, for their eyes only: a message for the interaction's response URL.
#[must_use]
pub fn reply(outcome: &Result<Taken, Refusal>) -> Value {
    let text = match outcome {
        Ok(taken) => escaped(&taken.sentence()),
        Err(refusal) if refusal.status >= 500 => {
            "Your answer was *not* taken: the ledger did not answer. Press the button again in a minute.".to_owned()
        }
        Err(refusal) if refusal.code == SAID_ALREADY => escaped(&refusal.message),
        Err(refusal) => return told(&format!("Not taken: {}.", escaped(refusal.message.trim_end_matches('.')))),
    };
    told(&text)
}

fn told(text: &str) -> Value {
    json!({"response_type": "ephemeral", "replace_original": false, "text": text})
}

/// Text as Slack's `mrkdwn` has it: nothing in it is markup (Slack API, "Escaping text").
#[must_use]
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests;
