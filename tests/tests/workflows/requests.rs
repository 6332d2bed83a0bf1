//! Paths and bodies: what is routed, what is invalid, and arbitrary ones.

use crate::bench::{Claims, TestBench, job, production, promotion};
use api::workflows::MAX_REQUEST_BYTES;
use serde_json::{Value, json};

#[test]
fn only_canonical_paths_are_routed() {
    let mut bench = TestBench::new();
    for path in [
        "/v1/promotions/",
        "//v1/promotions",
        "/v1//promotions",
        "/v1/promotions/shop/api/prod/",
        "/v1/promotions/shop%2Fapi%2Fprod",
        "/v1/promotions/shop/api/prod/../dev",
        "/V1/promotions",
        "v1/promotions",
    ] {
        for method in ["GET", "POST"] {
            let (status, answer) = bench.raw(&job(), 1, method, path, "", "");
            assert_eq!((status, answer["error"]["code"].as_str()), (404, Some("unknown_route")), "{method} {path}");
        }
    }
}

#[test]
fn an_invalid_request_gets_an_explanation() {
    let mut bench = TestBench::new();
    let post = |bench: &mut TestBench, body: &str| bench.raw(&job(), 1, "POST", "/v1/promotions", "", body);
    for (body, code) in [
        ("{", "invalid_json"),
        ("[]", "invalid_request"),
        (r#"{"kind": "rollback", "application": "shop", "environment": "dev"}"#, "invalid_request"),
        (r#"{"kind": "promote", "application": "Shop!", "environment": "dev"}"#, "invalid_request"),
        (r#"{"kind": "promote", "application": "shop", "environment": "dev", "as": "root"}"#, "invalid_request"),
        (
            r#"{"kind": "deploy", "application": "shop", "environment": "dev", "services": {"api": null}}"#,
            "release_missing",
        ),
        (
            r#"{"kind": "deploy", "application": "shop", "environment": "dev", "services": {"api": "v1"}, "reason": "\u0007"}"#,
            "invalid_reason",
        ),
    ] {
        let (status, answer) = post(&mut bench, body);
        assert_eq!((status, answer["error"]["code"].as_str()), (400, Some(code)), "{body}: {answer}");
    }
    let (status, _) = post(&mut bench, &" ".repeat(MAX_REQUEST_BYTES + 1));
    assert_eq!(status, 413);
    for (method, path) in
        [("GET", "/v1/promotions"), ("DELETE", "/v1/promotions"), ("GET", "/v1/targets/shop/api/dev"), ("POST", "/")]
    {
        let (status, answer) = bench.raw(&job(), 1, method, path, "", "{}");
        assert_eq!((status, answer["error"]["code"].as_str()), (404, Some("unknown_route")), "{method} {path}");
    }
}

#[test]
fn arbitrary_requests_and_claims_get_a_bounded_answer() {
    use garbage::proptest::prelude::*;
    let sound: Vec<Value> = vec![
        promotion("promote", "staging", json!({"api": null, "web": "v1"})),
        json!({"kind": "deploy", "application": "shop", "environment": "dev", "services": {"api": "v1"}, "reason": "r",
            "provenance": {"commit": "4f1c", "ref": "refs/heads/main", "run": "9", "actor": "octocat"}}),
    ];
    let name = || prop_oneof![5 => Just("shop".to_owned()), 1 => garbage::text()];
    let path = prop_oneof![
        4 => Just("/v1/promotions".to_owned()),
        2 => (name(), name()).prop_map(|(one, other)| format!("/v1/promotions/{one}/api/{other}/journal")),
        1 => garbage::text(),
    ];
    let claims = garbage::damaged(vec![json!(job()), json!(production())]);
    let request =
        (prop_oneof![Just("POST"), Just("GET"), Just("PUT")], path, garbage::text(), garbage::body(sound), claims);
    let bench = std::cell::RefCell::new(TestBench::new());
    let ours = |claims: &Claims| claims.get("repository_id").is_some_and(|id| id == "123456789");
    garbage::hold(300, &request, |(method, path, query, body, claims)| {
        let known = job().into_keys().chain(["environment"]);
        let claims: Claims = known.filter_map(|name| Some((name, claims.get(name)?.as_str()?.to_owned()))).collect();
        let (status, answer) = bench.borrow_mut().raw(&claims, 1, method, &path, &query, &body);
        prop_assert!(status < 500 && answer.to_string().len() < 1024 * 1024, "{status}");
        prop_assert!(status >= 400 || ours(&claims), "a stranger has an answer: {answer}");
        if status >= 400 {
            let words = answer["error"]["message"].as_str().unwrap_or_default().chars().count();
            prop_assert!((1..=api::MAX_MESSAGE_CHARS + 1).contains(&words), "{answer}");
        }
        Ok(())
    });
}
