//! Release trains: several services as one set, asked for together or not at all.

use crate::bench::{ADA, ALICE, BOB, TestBench, path, target};
use rollout::Seconds;
use rollout::verdict::Verdict;
use serde_json::{Value, json};
use simulation::virtual_time::Faults;
use simulation::world::scene::BuiltApplication;

/// A policy whose prod asks nobody and soaks nothing.
fn without_gates(policy: &mut Value) {
    let prod = policy["environments"]["prod"].as_object_mut().expect("a map");
    prod.remove("approval");
    prod.remove("soak");
    prod.insert("hotfix".to_owned(), json!({"skips": ["after"]}));
}

fn train(releases: Value) -> Value {
    json!({"application": "shop", "environment": "prod", "releases": releases, "reason": "together", "request": "t-1"})
}

#[test]
fn a_train_deploys_in_dependency_order() {
    let mut bench = TestBench::with_staging_policy(without_gates);
    bench.deploy_to_staging("web", 5);
    bench.deploy_to_staging("api", 2);
    let answer = bench.post_ok(ALICE, "/v1/trains", train(json!({"web": "v5", "api": null})));
    assert_eq!(answer["train"], "t-1");
    let asked: Vec<_> = answer["commands"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|command| (command["target"].clone(), command["release"]["tag"].clone(), command["new"].clone()))
        .collect();
    assert_eq!(
        asked,
        [(json!("shop/api/prod"), json!("v2"), json!(true)), (json!("shop/web/prod"), json!("v5"), json!(true))]
    );
    bench.wait_for_stage("api", "prod", "shifting");
    assert_eq!(bench.stage("web", "prod"), Some("gated"), "web depends on api");
    bench.wait_for_verdict("web", "prod", Verdict::Succeeded);
    let (first, second) = (bench.journal("api", "prod"), bench.journal("web", "prod"));
    let verified = first.iter().find(|entry| entry.fact.name() == "verified").expect("api is verified").at;
    let shifted = second.iter().find(|entry| entry.fact.name() == "weights_decided").expect("web has traffic").at;
    assert!(verified <= shifted, "api was verified at {verified}, and web shifted at {shifted}");

    // The same asking still finds what it has become.
    let again = bench.post_ok(ALICE, "/v1/trains", train(json!({"web": "v5", "api": null})));
    let became: Vec<_> =
        again["commands"].as_array().expect("a list").iter().map(|command| command["deployment"].clone()).collect();
    assert_eq!(became, [json!(1), json!(1)]);
}

#[test]
fn a_train_defaults_to_all_outdated_services() {
    let mut bench = TestBench::with_staging_policy(without_gates);
    bench.deploy_to_staging("api", 2);
    bench.post_ok(ALICE, &path("api", "prod", "/promote"), Value::Null);
    bench.wait_for_verdict("api", "prod", Verdict::Succeeded);
    bench.deploy_to_staging("web", 5);
    let answer = bench.post_ok(ALICE, "/v1/trains", train(json!({})));
    assert_eq!(answer["already_there"], json!(["shop/api/prod"]));
    assert_eq!(answer["commands"].as_array().map(Vec::len), Some(1));
    assert_eq!(answer["commands"][0]["target"], "shop/web/prod");
    bench.wait_for_verdict("web", "prod", Verdict::Succeeded);
    let other = json!({"application": "shop", "environment": "prod"});
    let (status, code, message) = bench.refused("POST", "/v1/trains", other);
    assert_eq!((status, code.as_str()), (409, "nothing_to_deploy"), "{message}");
}

#[test]
fn a_repeated_request_key_is_one_train() {
    let mut bench = TestBench::with_staging();
    bench.deploy_to_staging("api", 2);
    bench.deploy_to_staging("web", 5);
    bench.post_ok(ALICE, "/v1/trains", train(json!({})));
    let again = bench.post_ok(ALICE, "/v1/trains", train(json!({})));
    let new: Vec<_> =
        again["commands"].as_array().expect("a list").iter().map(|command| command["new"].clone()).collect();
    assert_eq!(new, [json!(false), json!(false)]);
    bench.simulation.run_for(120);
    let once_more = bench.post_ok(ALICE, "/v1/trains", train(json!({})));
    let numbers: Vec<_> =
        once_more["commands"].as_array().expect("a list").iter().map(|command| command["deployment"].clone()).collect();
    assert_eq!(numbers, [json!(1), json!(1)], "they are running by now, and the same asking finds them");
    assert_eq!(bench.refusals("api", "prod"), []);
    assert_eq!(bench.simulation.at(&target("web", "prod")).state().map(|state| state.last_deployment), Some(1));
}

#[test]
fn a_repeated_train_request_keeps_its_releases() {
    let mut bench = TestBench::with_staging();
    bench.deploy_to_staging("api", 2);
    bench.deploy_to_staging("web", 5);
    bench.post_ok(ALICE, "/v1/trains", train(json!({})));
    bench.wait_for_stage("api", "prod", "gated");
    bench.deploy_to_staging("api", 3);
    let again = bench.post_ok(ALICE, "/v1/trains", train(json!({})));
    let tags: Vec<_> =
        again["commands"].as_array().expect("a list").iter().map(|command| command["release"]["tag"].clone()).collect();
    assert_eq!(tags, [json!("v2"), json!("v5")], "not the newest by now");
}

#[test]
fn retrying_an_unavailable_ledger_makes_one_train() {
    let until = |built: &BuiltApplication| Some(Seconds(900).after(built.world.now()));
    let faults = |built: &BuiltApplication| Faults {
        seed: 11,
        unavailable: 0.3,
        lost_answer: 0.2,
        until: until(built),
        ..Faults::default()
    };
    let mut bench = TestBench::with_staging_and_faults(faults, |_| {});
    for service in ["api", "web"] {
        let service = service.parse().expect("a name");
        let release = bench.simulation.release_of(&service, 1, bench.simulation.now());
        bench.simulation.ledger().store().put_release(&release);
    }
    let releases = json!({"api": "v1", "web": "v1"});
    let wanted = json!({"application": "shop", "environment": "staging", "releases": releases, "request": "t-1"});
    let mut refused = 0;
    while bench.ask("POST", "/v1/trains", wanted.clone()).0 != 200 {
        refused += 1;
        assert!(refused < 200, "it never got through");
    }
    assert!(refused > 0, "the faults did not bite");
    for service in ["api", "web"] {
        if bench.verdicts(service, "staging").is_empty() {
            bench.wait_for_verdict(service, "staging", Verdict::Succeeded);
        }
        assert_eq!(bench.verdicts(service, "staging").len(), 1, "{}", bench.journal_text(service, "staging"));
        assert_eq!(bench.refusals(service, "staging"), [], "one key was one command");
    }
}

#[test]
fn one_refused_member_refuses_the_train() {
    let mut bench = TestBench::with_staging();
    bench.deploy_to_staging("api", 2);
    bench.release_of("web", 5);
    let (status, code, message) = bench.refused("POST", "/v1/trains", train(json!({"api": "v2", "web": "v5"})));
    assert_eq!((status, code.as_str()), (409, "not_verified"), "{message}");
    assert!(
        message.starts_with("nothing was asked of any service: web: shop/web/prod: v5 may not be deployed"),
        "{message}"
    );
    assert!(message.contains("staging has verified nothing"), "{message}");

    let both = bench.refused("POST", "/v1/trains", train(json!({"api": "v9", "web": "v5"})));
    assert_eq!((both.0, both.1.as_str()), (404, "unknown_release"), "{}", both.2);
    let cases = [
        (json!({"application": "shop", "environment": "qa"}), 404, "unknown_environment", "there are: prod, staging"),
        (json!({"application": "shpo", "environment": "prod"}), 404, "unknown_application", "there are: shop"),
        (train(json!({"db": "v1"})), 404, "unknown_target", "shop/db/prod"),
        (json!({"environment": "prod"}), 400, "invalid_request", "application"),
        (json!({"application": "shop", "environment": "prod", "request": "a b"}), 400, "invalid_request_key", "64"),
        (
            json!({"application": "shop", "environment": "staging"}),
            409,
            "nothing_before",
            "no environment comes before",
        ),
    ];
    for (body, status, code, words) in cases {
        let refused = bench.refused("POST", "/v1/trains", body.clone());
        assert_eq!((refused.0, refused.1.as_str()), (status, code), "{body}: {}", refused.2);
        assert!(refused.2.contains(words), "{body}: {}", refused.2);
    }
    bench.simulation.run_for(120);
    for service in ["api", "web"] {
        assert_eq!(bench.stage(service, "prod"), None, "{}", bench.journal_text(service, "prod"));
        assert!(bench.status_of(service, "prod")["commands"].as_array().is_some_and(Vec::is_empty));
    }
}

#[test]
fn a_member_already_deploying_refuses_the_train() {
    let mut bench = TestBench::with_staging();
    bench.deploy_to_staging("api", 2);
    bench.deploy_to_staging("web", 5);
    bench.post_ok(ALICE, &path("api", "prod", "/promote"), Value::Null);
    bench.wait_for_stage("api", "prod", "gated");
    let (status, code, message) = bench.refused("POST", "/v1/trains", train(json!({})));
    assert_eq!((status, code.as_str()), (409, "would_be_refused"), "{message}");
    assert!(message.contains("deployment #1 is already bringing v2"), "{message}");
}

#[test]
fn a_rejected_member_fails_the_train() {
    let mut bench = TestBench::with_staging();
    bench.deploy_to_staging_and_soak("api", 2);
    bench.deploy_to_staging_and_soak("web", 5);
    bench.post_ok(ALICE, "/v1/trains", train(json!({})));
    let (number, plan) = bench.wait_for_approval_request("api", "prod");
    bench.post_ok(ADA, &path("api", "prod", "/approve"), json!({"deployment": number, "plan": plan}));
    bench.post_ok(
        BOB,
        &path("api", "prod", "/reject"),
        json!({"deployment": number, "plan": plan, "reason": "not today"}),
    );
    bench.wait_for_verdict("api", "prod", Verdict::Rejected);
    bench.simulation.run_for(120);
    let (_, verdict, reason) = bench.verdicts("web", "prod").pop().expect("web ended, too");
    assert_eq!(verdict, Verdict::Failed, "{}", bench.journal_text("web", "prod"));
    assert!(reason.contains("api"), "{reason}");
}
