//! Freezes and the stopped line: what they hold, who lifts them, and that rollbacks pass.

use crate::stand::{ALICE, BOB, Stand, path};
use rollout::stage::Verdict;
use serde_json::{Value, json};

fn brakes(stand: &mut Stand) -> Value {
    let (status, answer) = stand.ask("GET", "/v1/brakes", Value::Null);
    assert_eq!(status, 200, "{answer}");
    answer
}

#[test]
fn a_freeze_keeps_deployments_from_beginning_and_lifting_it_lets_them_begin_at_once() {
    let mut stand = Stand::ladder();
    stand.release(1);
    let frozen = stand.done(
        ALICE,
        "/v1/freeze",
        json!({"application": "shop", "environment": "staging", "reason": "the fair is on"}),
    );
    assert_eq!(frozen["brake"]["reason"], "the fair is on");
    assert_eq!((frozen["lifted"].clone(), frozen["woken"].clone()), (Value::Null, json!([])));
    stand.done(ALICE, &path("api", "staging", "/deploy"), json!({"release": "v1"}));
    stand.simulation.run_for(600);
    assert_eq!(stand.stage("api", "staging"), Some("gated"), "{}", stand.story("api", "staging"));
    let status = stand.status_of("api", "staging");
    assert_eq!(status["brakes"][0]["reason"], "the fair is on");
    assert_eq!(status["brakes"][0]["by"]["name"], ALICE);
    assert_eq!(stand.status_of("api", "prod")["brakes"], json!([]), "it is of staging alone");

    let lifted = stand.done(
        BOB,
        "/v1/unfreeze",
        json!({"application": "shop", "environment": "staging", "reason": "the fair is over"}),
    );
    assert_eq!(lifted["woken"], json!(["shop/api/staging"]), "who waits is woken");
    assert_eq!(
        (lifted["lifted"]["by"]["name"].clone(), lifted["brake"]["by"]["name"].clone()),
        (json!(BOB), json!(ALICE))
    );
    stand.simulation.run_for(10);
    assert_ne!(stand.stage("api", "staging"), Some("gated"), "{}", stand.story("api", "staging"));
    stand.ends("api", "staging", Verdict::Succeeded);

    let on = brakes(&mut stand);
    assert_eq!(on["brakes"], json!([]));
    let log: Vec<_> =
        on["log"].as_array().expect("a list").iter().map(|record| record["lifted"]["reason"].clone()).collect();
    assert_eq!(log, [json!("the fair is over"), Value::Null], "newest first: lifted, and before that set");
}

#[test]
fn a_freeze_ends_by_itself_when_it_says_so() {
    let mut stand = Stand::ladder();
    stand.release(1);
    let frozen = stand.done(ALICE, "/v1/freeze", json!({"application": "shop", "until": "20m", "reason": "the fair"}));
    assert_ne!(frozen["brake"]["until"], Value::Null);
    stand.done(ALICE, &path("api", "staging", "/deploy"), json!({"release": "v1"}));
    stand.simulation.run_for(1100);
    assert_eq!(stand.stage("api", "staging"), Some("gated"));
    stand.ends("api", "staging", Verdict::Succeeded);
    assert_eq!(brakes(&mut stand)["brakes"], json!([]), "one whose time is over is not on");
    let over = stand.refused("POST", "/v1/unfreeze", json!({"application": "shop", "reason": "done"}));
    assert_eq!((over.0, over.1.as_str()), (409, "no_such_brake"), "{}", over.2);
}

#[test]
fn a_freeze_holds_no_rollback() {
    let mut stand = Stand::new();
    stand.deployed(1);
    stand.deployed(2);
    stand.done(ALICE, "/v1/freeze", json!({"application": "shop", "reason": "the fair"}));
    stand.done(ALICE, "/v1/stop-the-line", json!({"reason": "everything is on fire"}));
    stand.done(ALICE, &path("api", "prod", "/rollback"), json!({"reason": "v2 loses orders"}));
    stand.ends("api", "prod", Verdict::Succeeded);
    assert_eq!(stand.status()["state"]["stable"]["release"]["tag"], "v1");
}

#[test]
fn a_stopped_line_widens_nothing_until_it_goes_on() {
    let mut stand = Stand::new();
    stand.release(1);
    stand.done(ALICE, &path("api", "prod", "/deploy"), json!({"release": "v1"}));
    stand.gets_to("api", "prod", "shifting");
    stand.done(ALICE, "/v1/stop-the-line", json!({"reason": "the network is down"}));
    let weights = |stand: &mut Stand| stand.status()["state"]["running"]["weights"]["decided"].clone();
    stand.simulation.run_for(5);
    let before = weights(&mut stand);
    stand.simulation.run_for(900);
    assert_eq!(stand.stage("api", "prod"), Some("shifting"), "{}", stand.story("api", "prod"));
    assert_eq!(weights(&mut stand), before, "{}", stand.story("api", "prod"));

    let on = stand.done(BOB, "/v1/resume-the-line", json!({"reason": "it is back"}));
    assert_eq!(on["woken"], json!(["shop/api/prod"]));
    stand.ends("api", "prod", Verdict::Succeeded);
}

#[test]
fn a_brake_that_is_set_again_says_what_it_replaces() {
    let mut stand = Stand::new();
    stand.done(ALICE, "/v1/freeze", json!({"application": "shop", "reason": "the fair"}));
    let again = stand.done(BOB, "/v1/freeze", json!({"application": "shop", "reason": "the audit"}));
    assert_eq!(again["instead_of"]["reason"], "the fair");
    let on = brakes(&mut stand);
    assert_eq!(on["brakes"].as_array().map(Vec::len), Some(1));
    assert_eq!(on["brakes"][0]["reason"], "the audit");
}

#[test]
fn a_lift_whose_answer_was_lost_is_answered_again() {
    let mut stand = Stand::new();
    stand.done(ALICE, "/v1/stop-the-line", json!({"reason": "stop"}));
    let first = stand.done(ALICE, "/v1/resume-the-line", json!({"reason": "go on"}));
    let second = stand.done(ALICE, "/v1/resume-the-line", json!({"reason": "go on"}));
    assert_eq!(first["lifted"], second["lifted"]);
    let other = stand.refused_to(BOB, "POST", "/v1/resume-the-line", json!({"reason": "go on"}));
    assert_eq!((other.0, other.1.as_str()), (409, "no_such_brake"));
    assert_eq!(brakes(&mut stand)["log"].as_array().map(Vec::len), Some(2), "it was lifted once");
}

#[test]
fn every_refusal_of_a_brake_says_what_is_wrong() {
    let mut stand = Stand::new();
    let past = (stand.simulation.now() - rollout::SignedDuration::from_secs(60)).to_string();
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
    stand.done(ALICE, "/v1/stop-the-line", json!({"reason": "stop"}));
    for (path, body, status, code, words) in cases {
        let refused = stand.refused("POST", path, body.clone());
        assert_eq!((refused.0, refused.1.as_str()), (status, code), "{path} {body}: {}", refused.2);
        assert!(refused.2.contains(words), "{path} {body}: {}", refused.2);
    }
    stand.done(ALICE, "/v1/resume-the-line", json!({"reason": "go on"}));
    let nothing = stand.refused_to(BOB, "POST", "/v1/resume-the-line", json!({"reason": "go on"}));
    assert!(nothing.2.contains("the line is not stopped (no brake is on)"), "{}", nothing.2);
}
