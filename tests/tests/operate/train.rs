//! Release trains: several services as one set, asked for together or not at all.

use crate::stand::{ADA, ALICE, BOB, Stand, path, target};
use rollout::Seconds;
use rollout::stage::Verdict;
use serde_json::{Value, json};
use simulation::virtual_time::Faults;
use simulation::world::scene::BuiltApplication;

/// A policy whose prod asks nobody and soaks nothing.
fn open(policy: &mut Value) {
    let prod = policy["environments"]["prod"].as_object_mut().expect("a map");
    prod.remove("approval");
    prod.remove("soak");
    prod.insert("hotfix".to_owned(), json!({"skips": ["after"]}));
}

fn train(releases: Value) -> Value {
    json!({"application": "shop", "environment": "prod", "releases": releases, "reason": "together", "request": "t-1"})
}

#[test]
fn services_go_in_the_order_of_what_they_depend_on() {
    let mut stand = Stand::ladder_with(open);
    stand.staged("web", 5);
    stand.staged("api", 2);
    let answer = stand.done(ALICE, "/v1/trains", train(json!({"web": "v5", "api": null})));
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
    stand.gets_to("api", "prod", "shifting");
    assert_eq!(stand.stage("web", "prod"), Some("gated"), "web depends on api");
    stand.ends("web", "prod", Verdict::Succeeded);
    let (first, second) = (stand.journal("api", "prod"), stand.journal("web", "prod"));
    let verified = first.iter().find(|entry| entry.fact.name() == "verified").expect("api is verified").at;
    let shifted = second.iter().find(|entry| entry.fact.name() == "weights_decided").expect("web has traffic").at;
    assert!(verified <= shifted, "api was verified at {verified}, and web shifted at {shifted}");

    // The same asking still finds what it has become.
    let again = stand.done(ALICE, "/v1/trains", train(json!({"web": "v5", "api": null})));
    let became: Vec<_> =
        again["commands"].as_array().expect("a list").iter().map(|command| command["deployment"].clone()).collect();
    assert_eq!(became, [json!(1), json!(1)]);
}

#[test]
fn a_train_without_names_is_of_all_services_and_leaves_out_what_is_there() {
    let mut stand = Stand::ladder_with(open);
    stand.staged("api", 2);
    stand.done(ALICE, &path("api", "prod", "/promote"), Value::Null);
    stand.ends("api", "prod", Verdict::Succeeded);
    stand.staged("web", 5);
    let answer = stand.done(ALICE, "/v1/trains", train(json!({})));
    assert_eq!(answer["already_there"], json!(["shop/api/prod"]));
    assert_eq!(answer["commands"].as_array().map(Vec::len), Some(1));
    assert_eq!(answer["commands"][0]["target"], "shop/web/prod");
    stand.ends("web", "prod", Verdict::Succeeded);
    let other = json!({"application": "shop", "environment": "prod"});
    let (status, code, message) = stand.refused("POST", "/v1/trains", other);
    assert_eq!((status, code.as_str()), (409, "nothing_to_deploy"), "{message}");
}

#[test]
fn asking_twice_with_one_key_is_one_train() {
    let mut stand = Stand::ladder();
    stand.staged("api", 2);
    stand.staged("web", 5);
    stand.done(ALICE, "/v1/trains", train(json!({})));
    let again = stand.done(ALICE, "/v1/trains", train(json!({})));
    let new: Vec<_> =
        again["commands"].as_array().expect("a list").iter().map(|command| command["new"].clone()).collect();
    assert_eq!(new, [json!(false), json!(false)]);
    stand.simulation.run_for(120);
    let once_more = stand.done(ALICE, "/v1/trains", train(json!({})));
    let numbers: Vec<_> =
        once_more["commands"].as_array().expect("a list").iter().map(|command| command["deployment"].clone()).collect();
    assert_eq!(numbers, [json!(1), json!(1)], "they are running by now, and the same asking finds them");
    assert_eq!(stand.refusals("api", "prod"), []);
    assert_eq!(stand.simulation.at(&target("web", "prod")).state().map(|state| state.last_deployment), Some(1));
}

#[test]
fn a_train_keeps_its_releases_when_it_is_asked_for_again() {
    let mut stand = Stand::ladder();
    stand.staged("api", 2);
    stand.staged("web", 5);
    stand.done(ALICE, "/v1/trains", train(json!({})));
    stand.gets_to("api", "prod", "gated");
    stand.staged("api", 3);
    let again = stand.done(ALICE, "/v1/trains", train(json!({})));
    let tags: Vec<_> =
        again["commands"].as_array().expect("a list").iter().map(|command| command["release"]["tag"].clone()).collect();
    assert_eq!(tags, [json!("v2"), json!("v5")], "not the newest by now");
}

#[test]
fn a_ledger_that_does_not_answer_is_asked_again_and_it_is_one_train() {
    let until = |built: &BuiltApplication| Some(Seconds(900).after(built.world.now()));
    let faults = |built: &BuiltApplication| Faults {
        seed: 11,
        unavailable: 0.3,
        lost_answer: 0.2,
        until: until(built),
        ..Faults::default()
    };
    let mut stand = Stand::ladder_of(faults, |_| {});
    for service in ["api", "web"] {
        let service = service.parse().expect("a name");
        let release = stand.simulation.release_of(&service, 1, stand.simulation.now());
        stand.simulation.ledger().store().put_release(&release);
    }
    let releases = json!({"api": "v1", "web": "v1"});
    let wanted = json!({"application": "shop", "environment": "staging", "releases": releases, "request": "t-1"});
    let mut refused = 0;
    while stand.ask("POST", "/v1/trains", wanted.clone()).0 != 200 {
        refused += 1;
        assert!(refused < 200, "it never got through");
    }
    assert!(refused > 0, "the faults did not bite");
    for service in ["api", "web"] {
        if stand.verdicts(service, "staging").is_empty() {
            stand.ends(service, "staging", Verdict::Succeeded);
        }
        assert_eq!(stand.verdicts(service, "staging").len(), 1, "{}", stand.story(service, "staging"));
        assert_eq!(stand.refusals(service, "staging"), [], "one key was one command");
    }
}

#[test]
fn one_that_would_be_refused_refuses_all() {
    let mut stand = Stand::ladder();
    stand.staged("api", 2);
    stand.release_of("web", 5);
    let (status, code, message) = stand.refused("POST", "/v1/trains", train(json!({"api": "v2", "web": "v5"})));
    assert_eq!((status, code.as_str()), (409, "not_verified"), "{message}");
    assert!(message.starts_with("nothing was asked of any service: web: v5"), "{message}");
    assert!(message.contains("staging has verified nothing"), "{message}");

    let both = stand.refused("POST", "/v1/trains", train(json!({"api": "v9", "web": "v5"})));
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
        let refused = stand.refused("POST", "/v1/trains", body.clone());
        assert_eq!((refused.0, refused.1.as_str()), (status, code), "{body}: {}", refused.2);
        assert!(refused.2.contains(words), "{body}: {}", refused.2);
    }
    stand.simulation.run_for(120);
    for service in ["api", "web"] {
        assert_eq!(stand.stage(service, "prod"), None, "{}", stand.story(service, "prod"));
        assert!(stand.status_of(service, "prod")["commands"].as_array().is_some_and(Vec::is_empty));
    }
}

#[test]
fn a_member_that_is_on_its_way_already_refuses_the_train() {
    let mut stand = Stand::ladder();
    stand.staged("api", 2);
    stand.staged("web", 5);
    stand.done(ALICE, &path("api", "prod", "/promote"), Value::Null);
    stand.gets_to("api", "prod", "gated");
    let (status, code, message) = stand.refused("POST", "/v1/trains", train(json!({})));
    assert_eq!((status, code.as_str()), (409, "would_be_refused"), "{message}");
    assert!(message.contains("deployment #1 is already bringing v2"), "{message}");
}

#[test]
fn a_train_whose_member_is_turned_down_goes_no_further() {
    let mut stand = Stand::ladder();
    stand.soaked("api", 2);
    stand.soaked("web", 5);
    stand.done(ALICE, "/v1/trains", train(json!({})));
    let (number, plan) = stand.asks("api", "prod");
    stand.done(ADA, &path("api", "prod", "/approve"), json!({"deployment": number, "plan": plan}));
    stand.done(
        BOB,
        &path("api", "prod", "/reject"),
        json!({"deployment": number, "plan": plan, "reason": "not today"}),
    );
    stand.ends("api", "prod", Verdict::Rejected);
    stand.simulation.run_for(120);
    let (_, verdict, reason) = stand.verdicts("web", "prod").pop().expect("web ended, too");
    assert_eq!(verdict, Verdict::Failed, "{}", stand.story("web", "prod"));
    assert!(reason.contains("api"), "{reason}");
}
