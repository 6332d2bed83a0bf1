//! The stand-in takes and refuses what Slack does.

use super::super::http::{Response, ask};
use super::*;

fn slack() -> FakeSlack {
    FakeSlack::start().expect("it starts")
}

fn call(slack: &FakeSlack, method: &str, token: &str, arguments: &Value) -> Result<Response, HarnessError> {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json; charset=utf-8")];
    ask("POST", &format!("{}/{method}", slack.api()), &headers, &arguments.to_string())
}

fn call_ok(slack: &FakeSlack, method: &str, arguments: &Value) -> Value {
    let response = call(slack, method, BOT_TOKEN, arguments).expect("an answer");
    assert_eq!(response.status, 200);
    response.json()
}

fn with_button(text: &str) -> Value {
    let button = json!({
        "type": "button", "action_id": "approve", "value": "v1", "style": "primary",
        "text": {"type": "plain_text", "text": "Approve"},
    });
    json!([
        {"type": "section", "text": {"type": "mrkdwn", "text": text}},
        {
            "type": "input", "block_id": "why", "optional": true, "label": {"type": "plain_text", "text": "Reason"},
            "element": {"type": "plain_text_input", "action_id": "reason"},
        },
        {"type": "actions", "block_id": "decide", "elements": [button]},
    ])
}

#[test]
fn a_message_can_be_posted_replied_to_and_edited() {
    let slack = slack();
    let channel = slack.channel("deployments");
    let posted =
        call_ok(&slack, "chat.postMessage", &json!({"channel": channel, "text": "v1", "blocks": with_button("v1?")}));
    let ts = posted["ts"].as_str().expect("a ts").to_owned();
    let answered = call_ok(&slack, "chat.postMessage", &json!({"channel": channel, "text": "on", "thread_ts": ts}));
    assert_eq!(answered["ok"], true);
    let edited = json!({"channel": channel, "ts": ts, "text": "v1 is live", "blocks": []});
    assert_eq!(call_ok(&slack, "chat.update", &edited)["ok"], true);
    let message = &slack.messages(&channel)[0];
    assert_eq!((message.edits(), message.visible_text().as_str()), (1, "v1 is live"));
    assert!(message.buttons().is_empty());
    assert_eq!(slack.thread(&channel, &ts).len(), 1);
}

#[test]
fn invalid_calls_get_slacks_error_codes() {
    let slack = slack();
    let channel = slack.channel("deployments");
    let error = |method: &str, arguments: &Value| call_ok(&slack, method, arguments)["error"].clone();
    assert_eq!(error("chat.postMessage", &json!({"channel": "C404", "text": "x"})), "channel_not_found");
    assert_eq!(error("chat.postMessage", &json!({"channel": channel})), "no_text");
    assert_eq!(error("chat.update", &json!({"channel": channel, "ts": "1.1", "text": "x"})), "message_not_found");
    let long = json!([{"type": "header", "text": {"type": "plain_text", "text": "x".repeat(151)}}]);
    assert_eq!(error("chat.postMessage", &json!({"channel": channel, "text": "x", "blocks": long})), "invalid_blocks");
    let unauthenticated = call(&slack, "chat.postMessage", "xoxb-guessed", &json!({"channel": channel, "text": "x"}));
    assert_eq!(unauthenticated.expect("an answer").json()["error"], "invalid_auth");
    assert!(slack.messages(&channel).is_empty());
}

#[test]
fn injected_faults_hit_the_next_calls() {
    let slack = slack();
    let channel = slack.channel("deployments");
    let post = || call(&slack, "chat.postMessage", BOT_TOKEN, &json!({"channel": channel, "text": "x"}));
    slack.fault(
        &channel,
        &[SlackFault::RateLimited(7), SlackFault::Status(503), SlackFault::RequestLost, SlackFault::ResponseLost],
    );
    let limited = post().expect("an answer");
    assert_eq!((limited.status, limited.header("retry-after")), (429, Some("7")));
    assert_eq!(post().expect("an answer").status, 503);
    assert!(post().is_err());
    assert!(slack.messages(&channel).is_empty(), "lost on its way");
    assert!(post().is_err());
    assert_eq!(slack.messages(&channel).len(), 1, "done, and only the answer is lost");
}

#[test]
fn a_button_press_is_sent_as_a_signed_form() {
    let slack = slack();
    let channel = slack.channel("deployments");
    let _posted =
        call_ok(&slack, "chat.postMessage", &json!({"channel": channel, "text": "v1", "blocks": with_button("v1?")}));
    let message = slack.messages(&channel).remove(0);
    assert_eq!(message.buttons(), [("approve".to_owned(), "v1".to_owned())]);
    let ada = SlackUser::new("ada");
    let press = ButtonPress { button: "approve", by: &ada, typed: &[("reason", "looks good")] };
    let pressed = slack.press(&message, press).expect("a button");
    let (name, payload) = form_urlencoded::parse(pressed.body.as_bytes()).next().expect("a field");
    let payload: Value = serde_json::from_str(&payload).expect("JSON");
    assert_eq!(name, "payload");
    assert_eq!(payload["user"]["id"], "U0ADA");
    assert_eq!(payload.pointer("/actions/0/value"), Some(&json!("v1")));
    assert_eq!(payload.pointer("/actions/0/block_id"), Some(&json!("decide")));
    assert_eq!(payload["container"]["message_ts"], message.ts);
    assert_eq!(payload.pointer("/state/values/why/reason/value"), Some(&json!("looks good")));
    assert!(slack.press(&message, ButtonPress { button: "reject", ..press }).is_err());

    let honest = pressed.signature.clone();
    assert_ne!(pressed.clone().forged().signature, honest);
    assert_ne!(pressed.clone().signed_seconds_ago(600).signature, honest, "signed anew, with an old time");
    let tampered = pressed.clone().tampered("U0ADA", "U0EVE");
    assert!(tampered.signature == honest && tampered.body != pressed.body);
}
