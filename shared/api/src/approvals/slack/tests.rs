use super::*;
use proptest::prelude::*;
use serde_json::json;

/// Slack's published example (Slack API, "Verifying requests from Slack").
const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
const TIMESTAMP: &str = "1531420618";
const BODY: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V\
    &channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=\
    &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
    &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
const SIGNATURE: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_531_420_618 + second).expect("a time")
}

#[test]
fn slacks_published_signature_example_is_accepted() {
    assert_eq!(verify(SECRET, TIMESTAMP, SIGNATURE, BODY.as_bytes(), at(0)), Ok(()));
}

#[test]
fn a_request_more_than_five_minutes_off_is_rejected() {
    for near in [-300, -1, 1, 300] {
        assert_eq!(verify(SECRET, TIMESTAMP, SIGNATURE, BODY.as_bytes(), at(near)), Ok(()), "{near}");
    }
    for far in [-301, 301, 86_400, 250_000_000] {
        assert_eq!(
            verify(SECRET, TIMESTAMP, SIGNATURE, BODY.as_bytes(), at(far)),
            Err(InvalidSlackRequest::Stale),
            "{far}"
        );
    }
}

#[test]
fn an_altered_timestamp_fails_signature_verification() {
    let refreshed = verify(SECRET, "1531420918", SIGNATURE, BODY.as_bytes(), at(300));
    assert_eq!(refreshed, Err(InvalidSlackRequest::Forged));
    for other in ["", " 1531420618", "+1531420618", "-1531420618", "1531420618.0", "0x5b4", "9999999999999999999999"] {
        let header = verify(SECRET, other, SIGNATURE, BODY.as_bytes(), at(0));
        assert_eq!(header, Err(InvalidSlackRequest::Malformed("X-Slack-Request-Timestamp")), "{other}");
    }
    // The same number written differently is another text to sign.
    assert_eq!(verify(SECRET, "01531420618", SIGNATURE, BODY.as_bytes(), at(0)), Err(InvalidSlackRequest::Forged));
}

#[test]
fn a_changed_body_or_wrong_secret_fails_verification() {
    for position in 0..BODY.len() {
        let mut body = BODY.as_bytes().to_vec();
        body[position] ^= 1;
        assert_eq!(
            verify(SECRET, TIMESTAMP, SIGNATURE, &body, at(0)),
            Err(InvalidSlackRequest::Forged),
            "byte {position}"
        );
    }
    for body in ["", &BODY[1..], &format!("{BODY} "), &BODY.replace("%2F", "%2f")] {
        assert_eq!(verify(SECRET, TIMESTAMP, SIGNATURE, body.as_bytes(), at(0)), Err(InvalidSlackRequest::Forged));
    }
    let other = SECRET.replace('8', "9");
    assert_eq!(verify(&other, TIMESTAMP, SIGNATURE, BODY.as_bytes(), at(0)), Err(InvalidSlackRequest::Forged));
}

#[test]
fn changing_any_signature_digit_fails_verification() {
    for position in 0..SIGNATURE.len() {
        let mut altered = SIGNATURE.as_bytes().to_vec();
        altered[position] = if altered[position] == b'0' { b'1' } else { b'0' };
        let altered = String::from_utf8(altered).expect("ASCII");
        assert!(verify(SECRET, TIMESTAMP, &altered, BODY.as_bytes(), at(0)).is_err(), "{altered}");
    }
    let upper = SIGNATURE.to_uppercase();
    let rest = &SIGNATURE[3..];
    let odd = &SIGNATURE[..SIGNATURE.len() - 1];
    for malformed in ["", "v0=", upper.as_str(), rest, odd, &format!("{SIGNATURE}00"), &format!("v1={rest}")] {
        let header = verify(SECRET, TIMESTAMP, malformed, BODY.as_bytes(), at(0));
        assert_eq!(header, Err(InvalidSlackRequest::Malformed("X-Slack-Signature")), "{malformed}");
    }
}

#[test]
fn a_missing_or_short_secret_rejects_every_request() {
    let sign = |secret: &str| {
        let mut mac = hmac_sha256(secret.as_bytes());
        mac.update(format!("v0:{TIMESTAMP}:{BODY}").as_bytes());
        format!("v0={}", hex::encode(mac.finalize().into_bytes()))
    };
    assert_eq!(sign(SECRET), SIGNATURE);
    for weak in ["", "short", "15 characters.."] {
        let theirs = verify(weak, TIMESTAMP, &sign(weak), BODY.as_bytes(), at(0));
        assert_eq!(theirs, Err(InvalidSlackRequest::Forged), "{weak}");
    }
}

fn form(payload: &Value) -> String {
    form_urlencoded::Serializer::new(String::new()).append_pair("payload", &payload.to_string()).finish()
}

fn block_actions() -> Value {
    json!({
        "type": "block_actions",
        "user": {"id": "U012AB3CD", "username": "ada", "team_id": "T1DC2JH3J"},
        "actions": [{
            "type": "button", "action_id": "switchback_approve", "block_id": "decide", "action_ts": "1795317300.1",
            "value": "{\"t\":\"shop/api/prod\",\"d\":12,\"p\":\"3fa90c1e5d7b2a64\"}",
        }],
        "response_url": "https://hooks.slack.com/actions/T1DC2JH3J/397700885554/96rGlfmibIGlgcZRskXaIFfN",
        "state": {"values": {"why": {"switchback_reason": {"type": "plain_text_input", "value": " looks good "}}}},
    })
}

#[test]
fn a_button_press_is_parsed() {
    let Ok(Interaction::Pressed(press)) = read(form(&block_actions()).as_bytes()) else { panic!("a press") };
    assert_eq!(
        (press.user.as_str(), press.decision, press.reason.as_str()),
        ("U012AB3CD", ApprovalDecision::Approve, "looks good")
    );
    assert_eq!((press.on.target.to_string().as_str(), press.on.deployment), ("shop/api/prod", 12));
    assert_eq!(press.on.plan.0, "3fa90c1e5d7b2a64");
    assert!(press.response_url.is_some_and(|url| url.starts_with("https://hooks.slack.com/")));

    let mut no = block_actions();
    no["actions"][0]["action_id"] = json!("switchback_reject");
    no["state"]["values"]["why"]["switchback_reason"]["value"] = Value::Null;
    let Ok(Interaction::Pressed(press)) = read(form(&no).as_bytes()) else { panic!("a press") };
    assert_eq!((press.decision, press.reason.as_str()), (ApprovalDecision::Reject, ""));
}

#[test]
fn other_interactions_are_ignored_and_malformed_ones_are_errors() {
    let other = |change: fn(&mut Value)| {
        let mut payload = block_actions();
        change(&mut payload);
        read(form(&payload).as_bytes())
    };
    for change in [
        (|payload| payload["type"] = json!("view_submission")) as fn(&mut Value),
        |payload| payload["actions"][0]["action_id"] = json!("switchback_reason"),
        |payload| payload["actions"] = json!([]),
    ] {
        assert!(matches!(other(change), Ok(Interaction::Other(_))), "{:?}", other(change));
    }
    for change in [
        (|payload| payload["user"] = json!(null)) as fn(&mut Value),
        |payload| payload["user"]["id"] = json!("U1:../x"),
        |payload| payload["user"]["id"] = json!(""),
        |payload| payload["actions"][0]["value"] = json!("shop/api/prod"),
        |payload| payload["actions"][0]["value"] = json!(null),
        |payload| payload["actions"][0]["value"] = json!("{\"t\":\"shop\",\"d\":12,\"p\":\"x\"}"),
        |payload| payload["actions"] = json!("none"),
    ] {
        assert!(other(change).is_err(), "{:?}", other(change));
    }
    for body in ["", "payload=", "payload=%7B", "token=x", "\u{0}"] {
        assert!(read(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn a_reply_is_ephemeral_and_escaped() {
    let refusal = Refusal::conflict("expired", "the time to answer <!channel> & all is over");
    let reply = reply(&Err(refusal));
    assert_eq!(reply["text"], "Not taken: the time to answer &lt;!channel&gt; &amp; all is over.");
    assert_eq!((reply["response_type"].clone(), reply["replace_original"].clone()), (json!("ephemeral"), json!(false)));
    let again = super::reply(&Err(Refusal::conflict(ALREADY_APPROVED, "ada has approved already")));
    assert_eq!(again["text"], "ada has approved already");
    let down = super::reply(&Err(Refusal::new(503, "ledger_unavailable", "table switchback-x in 111122223333")));
    let text = down["text"].as_str().expect("text");
    assert!(text.contains("was *not* taken") && !text.contains("111122223333"), "{text}");
}

garbage::held! {
    128;

    #[test]
    fn arbitrary_requests_never_pass_verification(
        timestamp in "[0-9]{0,12}|.{0,20}",
        signature in "v0=[0-9a-f]{64}|.{0,80}",
        body in proptest::collection::vec(any::<u8>(), 0..300),
        second in -400i64..400,
    ) {
        prop_assert!(verify(SECRET, &timestamp, &signature, &body, at(second)).is_err());
        let fresh = verify(SECRET, TIMESTAMP, &signature, &body, at(0));
        prop_assert!(fresh.is_err());
    }

    #[test]
    fn arbitrary_bodies_never_parse_as_a_press(body in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(!matches!(read(&body), Ok(Interaction::Pressed(_))));
    }

    #[test]
    fn arbitrary_press_fields_do_not_panic(user in ".{0,40}", value in ".{0,80}", reason in ".{0,900}") {
        let mut payload = block_actions();
        payload["user"]["id"] = json!(user);
        payload["actions"][0]["value"] = json!(value);
        payload["state"]["values"]["why"]["switchback_reason"]["value"] = json!(reason);
        if let Ok(Interaction::Pressed(press)) = read(form(&payload).as_bytes()) {
            prop_assert!(press.reason.chars().count() <= crate::MAX_REASON_CHARS);
        }
    }
}

#[test]
fn a_buttons_value_is_read_as_the_view_writes_it() {
    let value = json!({"t": "shop/api/prod", "d": 12, "p": "3fa90c1e5d7b2a64"}).to_string();
    let read: ButtonValue = serde_json::from_str(&value).expect("a button's value");
    assert_eq!((read.target.to_string().as_str(), read.deployment), ("shop/api/prod", 12));
    assert_eq!(read.plan.0, "3fa90c1e5d7b2a64");
}
