//! Slack, as far as an app sees it: the Web API that it calls, and the interactions that are sent to it.
//!
//! From Slack's documentation of `chat.postMessage`, `chat.update`, Block Kit, interaction payloads and request signing.
//! Limits of blocks are checked as Slack checks them, so that a message that Slack would refuse is refused here.

mod blocks;
mod interaction;

pub use interaction::{ButtonPress, SignedInteraction, SlackUser};

use super::HarnessError;
use super::loopback::{LoopbackServer, ReceivedRequest, Reply};
use super::stack::now;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The app's bot token. A made-up one, in a form that no scanner takes for a real one.
const BOT_TOKEN: &str = "xoxb-of-the-tests";

/// The app's signing secret: the one that Slack publishes in its example of a signature.
const SIGNING_SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";

/// A message in a channel, with the texts that it had before its edits.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelMessage {
    /// The channel's id.
    pub channel: String,
    /// Its identity in the channel.
    pub ts: String,
    /// The message that it answers, if it lies in a thread.
    pub thread_ts: Option<String>,
    /// What it says, oldest first; the last is what is read now.
    pub contents: Vec<MessageContent>,
}

/// What a message says at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageContent {
    /// The text, which notifications show.
    pub text: String,
    /// The blocks, an array; null where there are none.
    pub blocks: Value,
}

impl ChannelMessage {
    /// What it says now.
    ///
    /// # Panics
    /// Never: a message says something.
    #[must_use]
    pub fn now(&self) -> &MessageContent {
        self.contents.last().expect("a message says something")
    }

    /// How often it was edited.
    #[must_use]
    pub fn edits(&self) -> usize {
        self.contents.len() - 1
    }

    /// All that a person reads of it now: its text and every text of its blocks, a line each.
    #[must_use]
    pub fn visible_text(&self) -> String {
        let MessageContent { text, blocks } = self.now();
        let mut visible_text = vec![text.clone()];
        blocks::texts(blocks, &mut visible_text);
        visible_text.join("\n")
    }

    /// Its buttons now: `action_id` and `value`.
    #[must_use]
    pub fn buttons(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        blocks::buttons(&self.now().blocks)
            .map(|(_, button)| (text(&button["action_id"]), text(&button["value"])))
            .collect()
    }
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlackFault {
    /// It is refused with status 429 and this many seconds in `Retry-After`.
    RateLimited(u32),
    /// It is refused with this status, and no JSON.
    Status(u16),
    /// It is done, and the answer is lost.
    ResponseLost,
    /// It is lost on its way.
    RequestLost,
    /// It is done, and the answer takes so long.
    Slow(Duration),
}

/// A call that came in.
#[derive(Debug, Clone)]
pub struct SlackCall {
    /// `chat.postMessage`
    pub method: String,
    /// Its arguments.
    pub arguments: Value,
    /// The `error` of the answer; none where it was done.
    pub error: Option<String>,
}

#[derive(Debug, Default)]
struct SlackState {
    /// Names by ids.
    channels: BTreeMap<String, String>,
    messages: Vec<ChannelMessage>,
    /// By channel.
    faults: BTreeMap<String, VecDeque<SlackFault>>,
    calls: Vec<SlackCall>,
    /// What was sent to `response_url`s: only the person who pressed sees it, unless it says otherwise.
    ephemeral_messages: Vec<Value>,
}

/// The stand-in. It ends when it is dropped.
#[derive(Debug)]
pub struct FakeSlack {
    server: LoopbackServer,
    state: Arc<Mutex<SlackState>>,
}

impl FakeSlack {
    /// Listens. There are no channels yet.
    ///
    /// # Errors
    /// [`HarnessError`] where no port is to be had.
    pub fn start() -> Result<Self, HarnessError> {
        let state = Arc::<Mutex<SlackState>>::default();
        let known = Arc::clone(&state);
        let server = LoopbackServer::start("slack", move |request| answer(request, &known))?;
        Ok(Self { server, state })
    }

    /// Where the Web API is, without a slash at its end: `https://slack.com/api` on the real one.
    #[must_use]
    pub fn api(&self) -> String {
        format!("{}/api", self.server.endpoint())
    }

    /// The app's bot token.
    #[must_use]
    pub fn bot_token(&self) -> &'static str {
        BOT_TOKEN
    }

    /// What interactions are signed with.
    #[must_use]
    pub fn signing_secret(&self) -> &'static str {
        SIGNING_SECRET
    }

    /// Makes a channel of which the app is a member; answers its id.
    #[must_use]
    pub fn channel(&self, name: &str) -> String {
        let mut state = lock(&self.state);
        let id = format!("C{:010}", state.channels.len() + 1);
        state.channels.insert(id.clone(), name.to_owned());
        id
    }

    /// The next calls about a channel go wrong like this, one after the other.
    pub fn fault(&self, channel: &str, faults: &[SlackFault]) {
        lock(&self.state).faults.entry(channel.to_owned()).or_default().extend(faults);
    }

    /// How many calls about a channel are still to go wrong.
    #[must_use]
    pub fn faults_left(&self, channel: &str) -> usize {
        lock(&self.state).faults.get(channel).map_or(0, VecDeque::len)
    }

    /// All messages of a channel, oldest first.
    #[must_use]
    pub fn messages(&self, channel: &str) -> Vec<ChannelMessage> {
        let state = lock(&self.state);
        state.messages.iter().filter(|message| message.channel == channel).cloned().collect()
    }

    /// What was answered to a message in its thread, oldest first.
    #[must_use]
    pub fn thread(&self, channel: &str, ts: &str) -> Vec<ChannelMessage> {
        let mut messages = self.messages(channel);
        messages.retain(|message| message.thread_ts.as_deref() == Some(ts));
        messages
    }

    /// Every call so far.
    #[must_use]
    pub fn calls(&self) -> Vec<SlackCall> {
        lock(&self.state).calls.clone()
    }

    /// What was said to those alone who pressed a button, oldest first.
    #[must_use]
    pub fn ephemeral_messages(&self) -> Vec<Value> {
        lock(&self.state).ephemeral_messages.clone()
    }

    /// Somebody presses a button of a message as it stands now: what Slack sends for it.
    ///
    /// # Errors
    /// [`HarnessError`] where the message has no such button.
    pub fn press(&self, message: &ChannelMessage, press: ButtonPress<'_>) -> Result<SignedInteraction, HarnessError> {
        let state = lock(&self.state);
        let known = state.messages.iter().find(|known| known.channel == message.channel && known.ts == message.ts);
        let now = known.ok_or_else(|| HarnessError(format!("there is no message {} any more", message.ts)))?;
        let name = state.channels.get(&message.channel).map_or("unknown", String::as_str);
        interaction::press(now, name, press, &self.server.endpoint(), SIGNING_SECRET)
    }

    /// The same with a button that was shown once and is gone by now: a page that was not loaded again.
    ///
    /// # Errors
    /// [`HarnessError`] where the message, as handed in, has no such button.
    pub fn press_outdated(
        &self,
        shown: &ChannelMessage,
        press: ButtonPress<'_>,
    ) -> Result<SignedInteraction, HarnessError> {
        let name = lock(&self.state).channels.get(&shown.channel).cloned().unwrap_or_default();
        interaction::press(shown, &name, press, &self.server.endpoint(), SIGNING_SECRET)
    }
}

fn lock(state: &Mutex<SlackState>) -> MutexGuard<'_, SlackState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(request: &ReceivedRequest, state: &Mutex<SlackState>) -> Reply {
    let mut state = lock(state);
    if request.path.starts_with("/actions/") && request.method == "POST" {
        state.ephemeral_messages.push(serde_json::from_slice(&request.body).unwrap_or_default());
        return Reply::Answer { status: 200, headers: Vec::new(), body: "ok".to_owned(), after: Duration::ZERO };
    }
    let Some(method) = request.path.strip_prefix("/api/") else {
        return Reply::json(404, &json!({"message": "not found"}));
    };
    let read = arguments(request);
    let about = read.as_ref().ok().and_then(|arguments| arguments["channel"].as_str()).unwrap_or_default();
    let fault = state.faults.get_mut(about).and_then(VecDeque::pop_front);
    match fault {
        Some(SlackFault::RateLimited(after_s)) => {
            note(&mut state, method, &Value::Null, Some("ratelimited"));
            let headers = vec![("retry-after", after_s.to_string()), ("content-type", "application/json".to_owned())];
            let body = json!({"ok": false, "error": "ratelimited"}).to_string();
            return Reply::Answer { status: 429, headers, body, after: Duration::ZERO };
        }
        Some(SlackFault::Status(status)) => {
            note(&mut state, method, &Value::Null, Some("a bad status"));
            let headers = vec![("content-type", "text/html".to_owned())];
            let body = "<html>Server Error</html>".to_owned();
            return Reply::Answer { status, headers, body, after: Duration::ZERO };
        }
        Some(SlackFault::RequestLost) => return Reply::Disconnected,
        Some(SlackFault::ResponseLost | SlackFault::Slow(_)) | None => {}
    }
    let done = read.and_then(|arguments| match perform(&mut state, request, method, &arguments) {
        Ok(answer) => {
            note(&mut state, method, &arguments, None);
            Ok(answer)
        }
        Err(error) => {
            note(&mut state, method, &arguments, Some(&error));
            Err(error)
        }
    });
    let body = match done {
        Ok(mut answer) => {
            answer["ok"] = json!(true);
            answer
        }
        // Every refusal has status 200.
        Err(error) => match error.split_once(": ") {
            Some((error, why)) => json!({"ok": false, "error": error, "response_metadata": {"messages": [why]}}),
            None => json!({"ok": false, "error": error}),
        },
    };
    match (fault, Reply::json(200, &body)) {
        (Some(SlackFault::ResponseLost), _) => Reply::Disconnected,
        (Some(SlackFault::Slow(after)), Reply::Answer { status, headers, body, .. }) => {
            Reply::Answer { status, headers, body, after }
        }
        (_, reply) => reply,
    }
}

fn note(state: &mut SlackState, method: &str, arguments: &Value, error: Option<&str>) {
    let (method, error) = (method.to_owned(), error.map(str::to_owned));
    state.calls.push(SlackCall { method, arguments: arguments.clone(), error });
}

/// The arguments: JSON, or a form whose `blocks` are JSON in a text.
fn arguments(request: &ReceivedRequest) -> Result<Value, String> {
    if request.method != "POST" {
        return Err("missing_post_type".to_owned());
    }
    let kind = request.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
    match kind.trim() {
        "application/json" => match serde_json::from_slice(&request.body) {
            Ok(arguments @ Value::Object(_)) => Ok(arguments),
            Ok(_) => Err("json_not_object".to_owned()),
            Err(_) => Err("invalid_json".to_owned()),
        },
        "application/x-www-form-urlencoded" => {
            let mut arguments = json!({});
            for (name, value) in form_urlencoded::parse(&request.body) {
                let structured = name == "blocks" || name == "metadata";
                arguments[name.as_ref()] = match serde_json::from_str(&value) {
                    Ok(structure) if structured => structure,
                    _ => json!(value),
                };
            }
            Ok(arguments)
        }
        _ => Err("invalid_post_type".to_owned()),
    }
}

/// Does what is asked; an error is the code, and after a colon what Slack says beside it.
fn perform(
    state: &mut SlackState,
    request: &ReceivedRequest,
    method: &str,
    arguments: &Value,
) -> Result<Value, String> {
    match request.bearer().or(arguments["token"].as_str()) {
        None => return Err("not_authed".to_owned()),
        Some(BOT_TOKEN) => {}
        Some(_) => return Err("invalid_auth".to_owned()),
    }
    match method {
        "auth.test" => Ok(json!({"team": "acme", "user": "switchback", "bot_id": interaction::BOT})),
        "chat.postMessage" => {
            let channel = channel(state, arguments)?;
            let contents = contents(arguments)?;
            let thread_ts = arguments["thread_ts"].as_str().map(str::to_owned);
            if let Some(thread) = &thread_ts {
                // Not documented: Slack's own answer for a thread that was never there.
                find(state, &channel, thread).map_err(|_| "thread_not_found".to_owned())?;
            }
            let ts = next_ts(state);
            let answer = json!({"channel": channel, "ts": ts, "message": shown(&contents, &ts, thread_ts.as_deref())});
            state.messages.push(ChannelMessage { channel, ts, thread_ts, contents: vec![contents] });
            Ok(answer)
        }
        "chat.update" => {
            // An update needs the id; a new message may also name its channel.
            let channel = arguments["channel"].as_str().unwrap_or_default().to_owned();
            if !state.channels.contains_key(&channel) {
                return Err("channel_not_found".to_owned());
            }
            let ts = arguments["ts"].as_str().unwrap_or_default().to_owned();
            let contents = contents(arguments)?;
            let message = find(state, &channel, &ts)?;
            let answer =
                json!({"channel": channel, "ts": ts, "text": contents.text, "message": shown(&contents, &ts, None)});
            message.contents.push(contents);
            Ok(answer)
        }
        _ => Err("unknown_method".to_owned()),
    }
}

/// The channel's id, from an id or a name.
fn channel(state: &SlackState, arguments: &Value) -> Result<String, String> {
    let named = arguments["channel"].as_str().unwrap_or_default();
    let name = named.strip_prefix('#').unwrap_or(named);
    let found = state.channels.iter().find(|(id, known)| *id == named || *known == name);
    found.map(|(id, _)| id.clone()).ok_or_else(|| "channel_not_found".to_owned())
}

fn find<'a>(state: &'a mut SlackState, channel: &str, ts: &str) -> Result<&'a mut ChannelMessage, String> {
    let found = state.messages.iter_mut().find(|message| message.channel == channel && message.ts == ts);
    found.ok_or_else(|| "message_not_found".to_owned())
}

fn contents(arguments: &Value) -> Result<MessageContent, String> {
    let text = arguments["text"].as_str().unwrap_or_default().to_owned();
    let mut blocks = arguments["blocks"].clone();
    if text.is_empty() && blocks.as_array().is_none_or(Vec::is_empty) {
        return Err("no_text".to_owned());
    }
    if text.chars().count() > 40_000 {
        return Err("msg_too_long".to_owned());
    }
    blocks::check(&mut blocks).map_err(|why| format!("invalid_blocks: {why}"))?;
    Ok(MessageContent { text, blocks })
}

fn shown(contents: &MessageContent, ts: &str, thread_ts: Option<&str>) -> Value {
    interaction::message(&contents.text, &contents.blocks, ts, thread_ts)
}

/// Seconds and microseconds, never the same twice in the workspace.
fn next_ts(state: &SlackState) -> String {
    format!("{}.{:06}", now().as_second(), state.messages.len() + 1)
}

#[cfg(test)]
mod tests;
