//! What Slack sends when somebody presses a button: a form of one field, signed.

use super::super::HarnessError;
use super::super::http::{Response, ask};
use super::super::stack::now;
use super::{ChannelMessage, blocks};
use aws_lc_rs::hmac;
use serde_json::{Value, json};

/// The app's bot.
pub(super) const BOT: &str = "B0SWITCH";
const APP: &str = "A0SWITCH";
const TEAM: &str = "T0ACME";

/// Somebody of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlackUser {
    /// `U…`
    pub id: String,
    /// Their handle.
    pub name: String,
}

impl SlackUser {
    /// A person whose id is made of the handle.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { id: format!("U0{}", name.to_uppercase()), name: name.to_owned() }
    }
}

/// A request of Slack's, signed and not sent yet: so that a test can do to it what others might.
#[derive(Debug, Clone)]
pub struct SignedInteraction {
    /// The form, as it is sent: `payload=…`.
    pub body: String,
    /// Seconds since 1970, as the signature has them.
    pub timestamp: i64,
    /// `v0=…`
    pub signature: String,
    secret: String,
    retry: Option<u32>,
}

impl SignedInteraction {
    fn new(body: String, timestamp: i64, secret: &str) -> Self {
        let signature = sign(secret, timestamp, &body);
        Self { body, timestamp, signature, secret: secret.to_owned(), retry: None }
    }

    /// Signed by somebody who does not know the secret.
    #[must_use]
    pub fn forged(mut self) -> Self {
        self.signature = sign("guessed", self.timestamp, &self.body);
        self
    }

    /// Signed by Slack, `seconds` ago (or, if negative, from now).
    #[must_use]
    pub fn signed_seconds_ago(mut self, seconds: i64) -> Self {
        self.timestamp -= seconds;
        self.signature = sign(&self.secret, self.timestamp, &self.body);
        self
    }

    /// Kept by somebody who gives it a new time, under the old signature.
    #[must_use]
    pub fn with_tampered_timestamp(mut self, seconds: i64) -> Self {
        self.timestamp += seconds;
        self
    }

    /// With a body that was changed on the way, under the old signature.
    ///
    /// # Panics
    /// Where the body does not have `from`: nothing would be changed.
    #[must_use]
    pub fn tampered(mut self, from: &str, to: &str) -> Self {
        let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        assert!(self.body.contains(&encode(from)), "the body has no {from}");
        self.body = self.body.replace(&encode(from), &encode(to));
        self
    }

    /// Sent once more by Slack, since the first answer did not come in time.
    #[must_use]
    pub fn retried(mut self, times: u32) -> Self {
        self.retry = Some(times);
        self
    }

    /// The headers that Slack sends.
    #[must_use]
    pub fn headers(&self) -> Vec<(String, String)> {
        let mut headers = vec![
            ("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned()),
            ("user-agent".to_owned(), "Slackbot 1.0 (+https://api.slack.com/robots)".to_owned()),
            ("accept".to_owned(), "application/json,*/*".to_owned()),
            ("x-slack-request-timestamp".to_owned(), self.timestamp.to_string()),
            ("x-slack-signature".to_owned(), self.signature.clone()),
        ];
        if let Some(times) = self.retry {
            headers.push(("x-slack-retry-num".to_owned(), times.to_string()));
            headers.push(("x-slack-retry-reason".to_owned(), "http_timeout".to_owned()));
        }
        headers
    }

    /// Posts it to an address of this machine.
    ///
    /// # Errors
    /// [`HarnessError`] where no answer came; an answer of any status is one.
    pub fn send(&self, url: &str) -> Result<Response, HarnessError> {
        let headers = self.headers();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        ask("POST", url, &headers, &self.body)
    }
}

/// `v0=` and the HMAC-SHA256 of `v0:{timestamp}:{body}`, in hexadecimal digits.
fn sign(secret: &str, timestamp: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("v0:{timestamp}:{body}").as_bytes());
    format!("v0={}", hex::encode(tag))
}

/// A message as it stands in answers and payloads.
pub(super) fn message(text: &str, blocks: &Value, ts: &str, thread_ts: Option<&str>) -> Value {
    let mut message = json!({
        "type": "message",
        "subtype": "bot_message",
        "bot_id": BOT,
        "app_id": APP,
        "team": TEAM,
        "text": text,
        "ts": ts,
        "blocks": blocks,
    });
    if let Some(thread_ts) = thread_ts {
        message["thread_ts"] = json!(thread_ts);
    }
    message
}

/// Who presses what.
#[derive(Debug, Clone, Copy)]
pub struct ButtonPress<'a> {
    /// The button's `action_id`.
    pub button: &'a str,
    /// Who.
    pub by: &'a SlackUser,
    /// What they have typed into the message's inputs before: texts by `action_id`.
    pub typed: &'a [(&'a str, &'a str)],
}

/// The payload `block_actions` for a button of a message.
pub(super) fn press(
    pressed: &ChannelMessage,
    channel_name: &str,
    press: ButtonPress<'_>,
    endpoint: &str,
    secret: &str,
) -> Result<SignedInteraction, HarnessError> {
    let ButtonPress { button: action_id, by: person, typed } = press;
    let contents = pressed.now();
    let found = blocks::buttons(&contents.blocks).find(|(_, button)| button["action_id"] == action_id);
    let Some((block_id, button)) = found else {
        return Err(HarnessError(format!("no button {action_id}: there are {:?}", pressed.buttons())));
    };
    let at = now().as_second();
    let mut action = json!({
        "type": "button",
        "action_id": action_id,
        "block_id": block_id,
        "text": button["text"],
        "action_ts": format!("{at}.123456"),
    });
    for name in ["value", "style"] {
        if !button[name].is_null() {
            action[name] = button[name].clone();
        }
    }
    let ChannelMessage { channel, ts, thread_ts, .. } = pressed;
    let mut container = json!({"type": "message", "message_ts": ts, "channel_id": channel, "is_ephemeral": false});
    if let Some(thread_ts) = thread_ts {
        container["thread_ts"] = json!(thread_ts);
    }
    let payload = json!({
        "type": "block_actions",
        "user": {"id": person.id, "username": person.name, "name": person.name, "team_id": TEAM},
        "api_app_id": APP,
        // Deprecated by Slack, and still sent: whoever believes it believes anybody.
        "token": "deprecated-verification-token",
        "container": container,
        "trigger_id": format!("{at}.12345.67890abcdef"),
        "team": {"id": TEAM, "domain": "acme"},
        "enterprise": null,
        "is_enterprise_install": false,
        "channel": {"id": channel, "name": channel_name},
        "message": message(&contents.text, &contents.blocks, ts, thread_ts.as_deref()),
        "state": {"values": inputs(&contents.blocks, typed)?},
        "response_url": format!("{endpoint}/actions/{TEAM}/{at}/abc"),
        "actions": [action],
    });
    let body = form_urlencoded::Serializer::new(String::new()).append_pair("payload", &payload.to_string()).finish();
    Ok(SignedInteraction::new(body, at, secret))
}

/// `state.values`: every input of the message by block and action, null where nothing was typed.
fn inputs(blocks: &Value, typed: &[(&str, &str)]) -> Result<Value, HarnessError> {
    let mut values = json!({});
    let mut left: Vec<&str> = typed.iter().map(|(id, _)| *id).collect();
    for block in blocks.as_array().into_iter().flatten().filter(|block| block["type"] == "input") {
        let (block_id, id) = (&block["block_id"], block["element"]["action_id"].as_str().unwrap_or_default());
        let text = typed.iter().find(|(typed, _)| *typed == id).map(|(_, text)| *text);
        left.retain(|typed| *typed != id);
        values[block_id.as_str().unwrap_or_default()][id] = json!({"type": "plain_text_input", "value": text});
    }
    if left.is_empty() { Ok(values) } else { Err(HarnessError(format!("the message has no inputs {left:?}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_matches_slacks_published_example() {
        // Slack API documentation, "Verifying requests from Slack".
        let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V\
            &channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=\
            &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
            &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        let signature = sign("8f742231b10e8888abcd99yyyzzz85a5", 1_531_420_618, body);
        assert_eq!(signature, "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503");
    }
}
