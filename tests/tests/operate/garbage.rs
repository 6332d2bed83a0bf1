//! Whatever somebody with credentials asks: an answer, or a refusal that says in a few words what is wrong.

use super::bench::{ALICE, TestBench};
use api::MAX_MESSAGE_CHARS;
use api::operations::ROUTES;
use garbage::proptest;
use garbage::proptest::prelude::*;
use garbage::proptest::sample::select;
use garbage::{body, events, hold, text};
use serde_json::{Value, json};
use std::cell::RefCell;

/// The largest answer, in bytes: what Lambda hands on has at most 6 MB.
const MAX_ANSWER: usize = 1024 * 1024;

/// Bodies as they are in `events/`, and some more.
fn bodies() -> Vec<Value> {
    let recorded = events("operations");
    let recorded = recorded.iter().filter_map(|event| serde_json::from_str(event["body"].as_str()?).ok());
    let mut bodies: Vec<Value> = recorded.collect();
    bodies.extend([
        json!({"text": "application: shop", "target": "shop/api/prod", "release": "v1"}),
        json!({"release": "v1", "reason": "why", "request": "r-1", "forward_only": true, "overrides": {}}),
        json!({"deployment": 1, "reason": "why"}),
        json!({"until": "4h", "reason": "why"}),
        json!({"text": include_str!("../../../shared/policy/examples/switchback.yaml")}),
    ]);
    bodies
}

fn paths() -> impl Strategy<Value = String> {
    let parts = proptest::collection::vec(prop_oneof![6 => Just(None), 1 => text().prop_map(Some)], 3);
    let routes = (select(ROUTES.as_slice()), parts).prop_map(|(route, parts)| {
        let path = route.split_once(' ').map_or(route, |(_, path)| path.split('?').next().unwrap_or(path));
        let named = [("{a}", "shop"), ("{s}", "api"), ("{e}", "prod")];
        named.iter().zip(parts).fold(path.to_owned(), |path, ((hole, name), other)| {
            path.replace(hole, &other.unwrap_or_else(|| (*name).to_owned()))
        })
    });
    prop_oneof![8 => routes, 1 => text()]
}

fn queries() -> impl Strategy<Value = String> {
    let keys = select(["after", "limit", "application", ""].as_slice());
    prop_oneof![
        2 => Just(String::new()),
        3 => (keys, prop_oneof![any::<u64>().prop_map(|number| number.to_string()), text()])
            .prop_map(|(key, value)| format!("{key}={value}")),
        1 => text(),
    ]
}

#[test]
fn arbitrary_requests_get_a_bounded_answer() {
    let method = prop_oneof![3 => Just("GET".to_owned()), 5 => Just("POST".to_owned()), 1 => text()];
    let request = (method, paths(), queries(), body(bodies()), prop_oneof![4 => Just(ALICE.to_owned()), 1 => text()]);
    let bench = RefCell::new(TestBench::new());
    hold(400, &request, |(method, path, query, body, caller)| {
        let (status, answer) = bench.borrow_mut().send(&method, &path, &query, &body, &caller);
        let size = answer.to_string().len();
        prop_assert!(size <= MAX_ANSWER, "{status} with {size} bytes");
        if status == 200 {
            return Ok(());
        }
        prop_assert!((400..500).contains(&status), "{status}: {answer}");
        let error = &answer["error"];
        let code = error["code"].as_str().unwrap_or_default();
        prop_assert!(!code.is_empty() && code.bytes().all(|it| it == b'_' || it.is_ascii_lowercase()), "{code}");
        let words = error["message"].as_str().unwrap_or_default().chars().count();
        prop_assert!((1..=MAX_MESSAGE_CHARS + 1).contains(&words), "{words} characters");
        Ok(())
    });
}

#[test]
fn a_refusal_message_is_bounded() {
    let mut bench = TestBench::new();
    let long = "x".repeat(1024 * 1024);
    for body in
        [json!({ "release": "v1", long.as_str(): 1 }), json!({"release": 1, "reason": long}), json!({"release": long})]
    {
        let (status, _, message) = bench.refused("POST", "/v1/targets/shop/api/prod/deploy", body);
        assert!((400..500).contains(&status) && message.chars().count() <= MAX_MESSAGE_CHARS + 1, "{status}");
    }
}
