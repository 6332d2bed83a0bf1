//! Freezes and the stopped line: what they hold, who lifts them, and that rollbacks pass.

use crate::bench::{ALICE, BOB, TestBench, path};
use rollout::verdict::Verdict;
use serde_json::{Value, json};

fn brakes(bench: &mut TestBench) -> Value {
    let (status, answer) = bench.ask("GET", "/v1/brakes", Value::Null);
    assert_eq!(status, 200, "{answer}");
    answer
}

#[test]
fn a_freeze_blocks_starts_until_it_is_lifted() {
    let mut bench = TestBench::with_staging();
    bench.release(1);
    let frozen = bench.post_ok(
        ALICE,
        "/v1/freeze",
        json!({"application": "shop", "environment": "staging", "reason": "the fair is on"}),
    );
    assert_eq!(frozen["brake"]["reason"], "the fair is on");
    assert_eq!((frozen["lifted"].clone(), frozen["woken"].clone()), (Value::Null, json!([])));
    bench.post_ok(ALICE, &path("api", "staging", "/deploy"), json!({"release": "v1"}));
    bench.simulation.run_for(600);
    assert_eq!(bench.stage("api", "staging"), Some("gated"), "{}", bench.journal_text("api", "staging"));
    let status = bench.status_of("api", "staging");
    assert_eq!(status["brakes"][0]["reason"], "the fair is on");
    assert_eq!(status["brakes"][0]["by"]["name"], ALICE);
    assert_eq!(bench.status_of("api", "prod")["brakes"], json!([]), "it is of staging alone");

    let lifted = bench.post_ok(
        BOB,
        "/v1/unfreeze",
        json!({"application": "shop", "environment": "staging", "reason": "the fair is over"}),
    );
    assert_eq!(lifted["woken"], json!(["shop/api/staging"]), "who waits is woken");
    assert_eq!(
        (lifted["lifted"]["by"]["name"].clone(), lifted["brake"]["by"]["name"].clone()),
        (json!(BOB), json!(ALICE))
    );
    bench.simulation.run_for(10);
    assert_ne!(bench.stage("api", "staging"), Some("gated"), "{}", bench.journal_text("api", "staging"));
    bench.wait_for_verdict("api", "staging", Verdict::Succeeded);

    let on = brakes(&mut bench);
    assert_eq!(on["brakes"], json!([]));
    let log: Vec<_> =
        on["log"].as_array().expect("a list").iter().map(|record| record["lifted"]["reason"].clone()).collect();
    assert_eq!(log, [json!("the fair is over"), Value::Null], "newest first: lifted, and before that set");
}

#[test]
fn a_freeze_expires_at_its_time() {
    let mut bench = TestBench::with_staging();
    bench.release(1);
    let frozen =
        bench.post_ok(ALICE, "/v1/freeze", json!({"application": "shop", "until": "20m", "reason": "the fair"}));
    assert_ne!(frozen["brake"]["until"], Value::Null);
    bench.post_ok(ALICE, &path("api", "staging", "/deploy"), json!({"release": "v1"}));
    bench.simulation.run_for(1100);
    assert_eq!(bench.stage("api", "staging"), Some("gated"));
    bench.wait_for_verdict("api", "staging", Verdict::Succeeded);
    assert_eq!(brakes(&mut bench)["brakes"], json!([]), "one whose time is over is not on");
    let over = bench.refused("POST", "/v1/unfreeze", json!({"application": "shop", "reason": "done"}));
    assert_eq!((over.0, over.1.as_str()), (409, "no_such_brake"), "{}", over.2);
}

#[test]
fn a_freeze_does_not_hold_rollbacks() {
    let mut bench = TestBench::new();
    bench.deploy_release(1);
    bench.deploy_release(2);
    bench.post_ok(ALICE, "/v1/freeze", json!({"application": "shop", "reason": "the fair"}));
    bench.post_ok(ALICE, "/v1/stop-the-line", json!({"reason": "everything is on fire"}));
    bench.post_ok(ALICE, &path("api", "prod", "/rollback"), json!({"reason": "v2 loses orders"}));
    bench.wait_for_verdict("api", "prod", Verdict::Succeeded);
    assert_eq!(bench.status()["state"]["stable"]["release"]["tag"], "v1");
}

#[test]
fn stop_the_line_pauses_a_shift() {
    let mut bench = TestBench::new();
    bench.release(1);
    bench.post_ok(ALICE, &path("api", "prod", "/deploy"), json!({"release": "v1"}));
    bench.wait_for_stage("api", "prod", "shifting");
    bench.post_ok(ALICE, "/v1/stop-the-line", json!({"reason": "the network is down"}));
    let weights = |bench: &mut TestBench| bench.status()["state"]["running"]["weights"]["decided"].clone();
    bench.simulation.run_for(5);
    let before = weights(&mut bench);
    bench.simulation.run_for(900);
    assert_eq!(bench.stage("api", "prod"), Some("shifting"), "{}", bench.journal_text("api", "prod"));
    assert_eq!(weights(&mut bench), before, "{}", bench.journal_text("api", "prod"));

    let on = bench.post_ok(BOB, "/v1/resume-the-line", json!({"reason": "it is back"}));
    assert_eq!(on["woken"], json!(["shop/api/prod"]));
    bench.wait_for_verdict("api", "prod", Verdict::Succeeded);
}

#[test]
fn setting_a_brake_again_reports_the_old_one() {
    let mut bench = TestBench::new();
    bench.post_ok(ALICE, "/v1/freeze", json!({"application": "shop", "reason": "the fair"}));
    let again = bench.post_ok(BOB, "/v1/freeze", json!({"application": "shop", "reason": "the audit"}));
    assert_eq!(again["instead_of"]["reason"], "the fair");
    let on = brakes(&mut bench);
    assert_eq!(on["brakes"].as_array().map(Vec::len), Some(1));
    assert_eq!(on["brakes"][0]["reason"], "the audit");
}

#[test]
fn lifting_a_brake_is_idempotent() {
    let mut bench = TestBench::new();
    bench.post_ok(ALICE, "/v1/stop-the-line", json!({"reason": "stop"}));
    let first = bench.post_ok(ALICE, "/v1/resume-the-line", json!({"reason": "go on"}));
    let second = bench.post_ok(ALICE, "/v1/resume-the-line", json!({"reason": "go on"}));
    assert_eq!(first["lifted"], second["lifted"]);
    let other = bench.refused_to(BOB, "POST", "/v1/resume-the-line", json!({"reason": "go on"}));
    assert_eq!((other.0, other.1.as_str()), (409, "no_such_brake"));
    assert_eq!(brakes(&mut bench)["log"].as_array().map(Vec::len), Some(2), "it was lifted once");
}

#[test]
fn every_refusal_of_a_brake_says_what_is_wrong() {
    let mut bench = TestBench::new();
    let past = (bench.simulation.now() - rollout::SignedDuration::from_secs(60)).to_string();
    let cases = [
        ("/v1/freeze", json!({"application": "shop"}), 400, "reason_missing", "a freeze needs a reason"),
        ("/v1/freeze", json!({"reason": "x"}), 400, "invalid_request", "application"),
        ("/v1/freeze", json!({"application": "shpo", "reason": "x"}), 404, "unknown_application", "there are: shop"),
        (
            "/v1/freeze",
            json!({"application": "shop", "environment": "dev", "reason": "x"}),
            404,
            "unknown_environment",
            "there are: prod",
        ),
        (
            "/v1/freeze",
            json!({"application": "shop", "until": "tomorrow", "reason": "x"}),
            400,
            "invalid_until",
            "`until` is `tomorrow`",
        ),
        ("/v1/freeze", json!({"application": "shop", "until": past, "reason": "x"}), 400, "invalid_until", "is over"),
        ("/v1/unfreeze", json!({"application": "shop"}), 400, "reason_missing", "lifting a freeze needs a reason"),
        (
            "/v1/unfreeze",
            json!({"application": "shop", "environment": "prod", "reason": "x"}),
            409,
            "no_such_brake",
            "there is no freeze of shop/*/prod (brakes are on: everything): nothing was lifted",
        ),
        ("/v1/stop-the-line", json!({}), 400, "reason_missing", "stopping the line needs a reason"),
        ("/v1/resume-the-line", json!({}), 400, "reason_missing", "letting the line go on needs a reason"),
    ];
    bench.post_ok(ALICE, "/v1/stop-the-line", json!({"reason": "stop"}));
    for (path, body, status, code, words) in cases {
        let refused = bench.refused("POST", path, body.clone());
        assert_eq!((refused.0, refused.1.as_str()), (status, code), "{path} {body}: {}", refused.2);
        assert!(refused.2.contains(words), "{path} {body}: {}", refused.2);
    }
    bench.post_ok(ALICE, "/v1/resume-the-line", json!({"reason": "go on"}));
    let nothing = bench.refused_to(BOB, "POST", "/v1/resume-the-line", json!({"reason": "go on"}));
    assert!(nothing.2.contains("the line is not stopped (no brake is on)"), "{}", nothing.2);
}
