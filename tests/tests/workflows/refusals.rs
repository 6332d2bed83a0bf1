//! Who is refused, what the response says, and what the journal keeps of it.

use crate::bench::{Claims, HOUR, TestBench, job, production, promotion, target, with};
use serde_json::{Value, json};
use simulation::virtual_time::Faults;

#[test]
fn an_ungranted_request_gets_a_generic_403() {
    let mut bench = TestBench::new();
    bench.push_and_verify("api", 1);
    let prod = || promotion("promote", "prod", json!({"api": "v1"}));
    let cases: Vec<(&str, Claims, Value)> = vec![
        // The repository's name was given up, and somebody else has it now.
        ("another repository of the same name", with(production(), &[("repository_id", "555")]), prod()),
        ("another owner of the same name", with(production(), &[("repository_owner_id", "555")]), prod()),
        (
            "a fork's pull request",
            with(production(), &[("event_name", "pull_request"), ("ref", "refs/pull/7/merge")]),
            prod(),
        ),
        ("a pull request's target", with(production(), &[("event_name", "pull_request_target")]), prod()),
        ("the merge of a pull request", with(production(), &[("ref", "refs/pull/7/merge")]), prod()),
        ("another event", with(production(), &[("event_name", "push")]), prod()),
        ("another branch", with(production(), &[("ref", "refs/heads/mine")]), prod()),
        ("a branch that only begins like that", with(production(), &[("ref", "refs/heads/main2")]), prod()),
        (
            "another workflow",
            with(production(), &[("workflow_ref", "octo/shop/.github/workflows/x.yml@refs/heads/main")]),
            prod(),
        ),
        ("no GitHub environment", job(), prod()),
        ("another GitHub environment", with(job(), &[("environment", "staging")]), prod()),
        ("no run", with(production(), &[("run_id", "")]), prod()),
        ("no repository", with(production(), &[("repository_id", "")]), prod()),
        ("another deed", production(), promotion("deploy", "prod", json!({"api": "v1"}))),
        ("the hotfix lane", production(), promotion("hotfix", "prod", json!({"api": "v1"}))),
        ("another service", production(), promotion("promote", "prod", json!({"web": "v1"}))),
        ("one service too many", production(), promotion("promote", "prod", json!({"api": "v1", "web": "v1"}))),
        ("all services", production(), promotion("promote", "prod", json!({}))),
        ("no such environment", production(), promotion("promote", "qa", json!({"api": "v1"}))),
        ("no such service", production(), promotion("promote", "prod", json!({"cart": "v1"}))),
        ("no such application", production(), json!({"kind": "promote", "application": "bank", "environment": "prod"})),
    ];
    let (_, first) = bench.ask(&cases[0].1, &cases[0].2);
    assert_eq!(first["error"]["code"], "not_allowed");
    for (what, claims, body) in &cases {
        let (status, answer) = bench.ask(claims, body);
        assert_eq!((status, &answer), (403, &first), "{what}");
        let path = format!("/v1/promotions/{}/api/prod", body["application"].as_str().expect("a name"));
        if claims["repository_id"] != "123456789" || body["application"] == "bank" {
            let (status, answer) = bench.raw(claims, 1, "GET", &path, "", "");
            assert_eq!((status, &answer), (403, &first), "{what}: it may look");
        }
    }
    bench.simulation.run_for(60);
    assert_eq!(bench.deployments(), 0, "{}", bench.simulation.journal_texts());
    // What the answers keep to themselves, the journal tells.
    let refusals_seen = bench.refusals(&target("shop/api/prod"));
    for part in
        ["refs/heads/mine fits none", "no GitHub environment", "hotfix is nothing that it `may`", "run_id", "x.yml"]
    {
        assert!(refusals_seen.iter().any(|(_, _, reason)| reason.contains(part)), "{part}: {refusals_seen:#?}");
    }
    assert!(
        refusals_seen.iter().all(|(_, _, reason)| !reason.contains("555")),
        "a stranger's own words: {refusals_seen:#?}"
    );
}

#[test]
fn an_old_token_is_refused() {
    let mut bench = TestBench::new();
    bench.push_and_verify("api", 1);
    let body = promotion("promote", "staging", json!({"api": "v1"})).to_string();
    for age in [121, 299, -90] {
        let (status, answer) = bench.raw(&job(), age, "POST", "/v1/promotions", "", &body);
        assert_eq!((status, answer["error"]["code"].as_str()), (403, Some("not_allowed")), "{age} s");
    }
    bench.simulation.run_for(60);
    let refusals_seen = bench.refusals(&target("shop/api/staging"));
    assert_eq!(refusals_seen.len(), 1, "{refusals_seen:#?}");
    assert!(refusals_seen[0].2.contains("not issued just now"), "{refusals_seen:#?}");
    assert_eq!(bench.deployments(), 0);
}

#[test]
fn refusals_are_journalled_once_an_hour_per_caller_group() {
    let mut bench = TestBench::new();
    let staging = target("shop/api/staging");
    let body = promotion("promote", "staging", json!({"api": "v1"}));
    let branch = with(job(), &[("ref", "refs/heads/mine")]);
    for run in 0..20 {
        let run = run.to_string();
        bench.refused(&with(branch.clone(), &[("run_id", &run)]), &body);
        bench.refused(&with(job(), &[("repository_id", &run), ("repository", "evil/twin"), ("run_id", &run)]), &body);
        bench.simulation.run_for(3);
    }
    bench.simulation.run_for(60);
    let refusals_seen = bench.refusals(&staging);
    let by = |actor: &str| refusals_seen.iter().filter(|(known, _, _)| known == actor).count();
    assert_eq!((refusals_seen.len(), by("github:octo/shop"), by("github:others")), (2, 1, 1), "{refusals_seen:#?}");
    assert!(refusals_seen.iter().all(|(_, what, _)| what == "promote"), "{refusals_seen:#?}");
    assert!(refusals_seen.iter().all(|(_, _, reason)| !reason.contains("evil")), "{refusals_seen:#?}");

    bench.simulation.run_for(HOUR);
    bench.refused(&branch, &body);
    bench.simulation.run_for(60);
    assert_eq!(bench.refusals(&staging).len(), 3);
}

#[test]
fn made_up_branches_cannot_flood_the_journal() {
    let mut bench = TestBench::new();
    let prod = target("shop/api/prod");
    let body = promotion("promote", "prod", json!({"api": "v1"}));
    for own in 0..60 {
        let (branch, environment) = (format!("refs/heads/mine-{own}"), format!("mine-{own}"));
        bench.refused(&with(production(), &[("ref", &branch)]), &body);
        bench.refused(&with(production(), &[("environment", &environment)]), &body);
    }
    bench.simulation.run_for(60);
    let refusals_seen = bench.refusals(&prod);
    assert_eq!(refusals_seen.len(), 2, "one for refs and one for environments: {refusals_seen:#?}");
}

#[test]
fn ledger_errors_are_not_shown_to_unknown_callers() {
    let mut bench = TestBench::with(Faults { unavailable: 1.0, ..Faults::default() });
    let unknown_caller = with(job(), &[("repository_id", "1"), ("repository", "evil/twin")]);
    for (method, path, body) in [
        ("POST", "/v1/promotions", promotion("promote", "prod", json!({"api": "v1"})).to_string()),
        ("GET", "/v1/promotions/shop/api/prod", String::new()),
    ] {
        let (status, answer) = bench.raw(&unknown_caller, 1, method, path, "", &body);
        assert_eq!((status, answer["error"]["code"].as_str()), (503, Some("ledger_unavailable")), "{answer}");
        let message = answer["error"]["message"].as_str().expect("every error has one");
        assert!(message.starts_with("the control plane could not answer"), "{message}");
    }
}
