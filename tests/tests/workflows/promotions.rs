//! What a granted request starts: promotions, re-runs, trains and hotfixes.

use crate::bench::{HOUR, TestBench, job, name, production, promotion, target, with};
use rollout::verdict::Verdict;
use rollout::{Actor, Fact, Instruction, TargetId};
use serde_json::{Value, json};
use simulation::virtual_time::{PushAnnouncement, Simulation};

#[test]
fn a_workflow_promotes_what_dev_has_verified() {
    let mut bench = TestBench::new();
    bench.push_and_verify("api", 1);
    let staging = target("shop/api/staging");
    let mut body = promotion("promote", "staging", json!({"api": null}));
    body["reason"] = json!("the fix for the basket");
    let answer = bench.accepted(&job(), &body);
    assert_eq!((answer["train"].clone(), answer["already_there"].clone()), (Value::Null, json!([])));
    let accepted = &answer["asked"][0];
    assert_eq!((accepted["release"]["tag"].clone(), accepted["new"].clone()), (json!("v1"), json!(true)));
    assert_eq!(accepted["actor"], json!({"kind": "workflow", "name": "github:octo/shop@9001", "actor_id": "1815"}));

    bench.wait_for_verdict(&staging, Verdict::Succeeded);
    let record = bench.simulation.ledger().store().history(&staging, 1).pop().expect("one");
    assert_eq!(record.actor.to_string(), "github:octo/shop@9001");
    let started = bench.journal(&staging).into_iter().find_map(|entry| match entry.fact {
        Fact::Started { reason, .. } => Some(reason),
        _ => None,
    });
    let words = "the fix for the basket (main at 4f1c2a9, .github/workflows/promote.yml)";
    assert_eq!(started.as_deref(), Some(words));

    // The same to which a job's questions are answered as an operator's are.
    for (path, key) in [("", "state"), ("/history", "deployments"), ("/journal", "entries")] {
        let path = format!("/v1/promotions/shop/api/staging{path}");
        let (status, answer) = bench.raw(&job(), 250, "GET", &path, "", "");
        assert_eq!(status, 200, "{answer}");
        assert!(!answer[key].is_null(), "{path}: {answer}");
    }
    let (_, after) = bench.raw(&job(), 1, "GET", "/v1/promotions/shop/api/staging/journal", "after=2&limit=1", "");
    assert_eq!(after["entries"][0]["sequence"], 3);
}

#[test]
fn token_claims_are_kept_beside_a_long_reason() {
    let mut bench = TestBench::new();
    bench.push_and_verify("api", 1);
    let mut body = promotion("promote", "staging", json!({"api": "v1"}));
    body["reason"] = json!("x".repeat(500));
    body["provenance"] = json!({"commit": "feedbeef", "ref": "refs/heads/safe"});
    bench.accepted(&with(job(), &[("run_attempt", "2")]), &body);
    bench.simulation.run_for(5);
    let staging = target("shop/api/staging");
    let reason = bench.journal(&staging).into_iter().find_map(|entry| match entry.fact {
        Fact::Started { reason, .. } => Some(reason),
        _ => None,
    });
    let reason = reason.expect("it began");
    assert!(reason.starts_with("xxx") && reason.chars().count() <= 500, "{reason}");
    assert!(reason.contains(".github/workflows/promote.yml, attempt 2)"), "{reason}");
}

#[test]
fn a_rerun_requests_a_deployment_once() {
    let mut bench = TestBench::new();
    bench.push_and_verify("api", 1);
    let staging = target("shop/api/staging");
    let body = promotion("promote", "staging", json!({"api": null}));
    let first = bench.accepted(&job(), &body);
    bench.wait_for_verdict(&staging, Verdict::Succeeded);
    // Meanwhile there is something newer; what the run asks for is what it asked for.
    bench.push_and_verify("api", 2);
    let again = with(job(), &[("run_attempt", "2"), ("actor_id", "4711")]);
    let answer = bench.accepted(&again, &body);
    assert_eq!((answer["asked"].clone(), answer["already_there"].clone()), (json!([]), json!(["shop/api/staging"])));
    assert_eq!(first["asked"][0]["release"]["tag"], "v1");
    bench.simulation.run_for(60);
    assert_eq!(bench.deployments(), 1);

    // Another run asks for what is newest then; asking twice while that goes on adds nothing.
    let other = with(job(), &[("run_id", "9002")]);
    let second = bench.accepted(&other, &body);
    assert_eq!(
        (second["asked"][0]["release"]["tag"].clone(), second["asked"][0]["new"].clone()),
        (json!("v2"), json!(true))
    );
    bench.simulation.run_for(5);
    let twice = bench.accepted(&with(other, &[("run_attempt", "2")]), &body);
    assert_eq!(twice["asked"][0]["command"], second["asked"][0]["command"]);
    assert_eq!((twice["asked"][0]["new"].clone(), twice["asked"][0]["deployment"].clone()), (json!(false), json!(2)));
    bench.wait_for_verdict(&staging, Verdict::Succeeded);
    assert_eq!(bench.deployments(), 2);
}

#[test]
fn only_verified_releases_are_promoted() {
    let mut bench = TestBench::new();
    let body = promotion("promote", "staging", json!({"api": null}));
    let (status, code, message) = bench.refused(&job(), &body);
    assert_eq!((status, code.as_str()), (409, "nothing_verified"), "{message}");
    // Pushed, and not deployed yet.
    bench.apply(|policy| policy["environments"]["dev"]["trigger"] = json!("manual"));
    bench.simulation.push_service(&name("api"), 1, PushAnnouncement::Event);
    bench.simulation.run_for(20);
    for kind in ["promote", "deploy"] {
        let (status, code, message) = bench.refused(&job(), &promotion(kind, "staging", json!({"api": "v1"})));
        assert_eq!((status, code.as_str()), (409, "not_verified"), "{message}");
    }
    // A right to promote is none to bring just anything to the first environment.
    let (status, code, _) = bench.refused(&job(), &promotion("promote", "dev", json!({"api": "v1"})));
    assert_eq!((status, code.as_str()), (409, "nothing_before"));
    assert_eq!(bench.deployments(), 0);
    let answer = bench.accepted(&job(), &promotion("deploy", "dev", json!({"api": "v1"})));
    assert_eq!(answer["asked"][0]["target"], "shop/api/dev");
    bench.wait_for_verdict(&target("shop/api/dev"), Verdict::Succeeded);
}

#[test]
fn a_release_not_pushed_yet_is_unknown() {
    let mut bench = TestBench::new();
    let body = promotion("deploy", "dev", json!({"api": "v7"}));
    let (status, code, _) = bench.refused(&job(), &body);
    assert_eq!((status, code.as_str()), (404, "unknown_release"));
    bench.apply(|policy| policy["environments"]["dev"]["trigger"] = json!("manual"));
    bench.simulation.push_service(&name("api"), 7, PushAnnouncement::Event);
    bench.simulation.run_for(10);
    assert_eq!(bench.accepted(&job(), &body)["asked"][0]["release"]["tag"], "v7");
    // Whoever has no grant is not shown which releases there are.
    let (_, code, _) =
        bench.refused(&with(job(), &[("ref", "refs/heads/x")]), &promotion("deploy", "dev", json!({"api": "v8"})));
    assert_eq!(code, "not_allowed");
}

#[test]
fn several_services_deploy_as_a_train() {
    let mut bench = TestBench::new();
    bench.push_and_verify("api", 1);
    bench.push_and_verify("web", 101);
    let body = promotion("promote", "staging", json!({"web": null, "api": null}));
    let answer = bench.accepted(&job(), &body);
    let services: Vec<&str> =
        answer["asked"].as_array().expect("a list").iter().filter_map(|accepted| accepted["target"].as_str()).collect();
    assert_eq!(services, ["shop/api/staging", "shop/web/staging"]);
    let train = answer["train"].as_str().expect("a train").to_owned();
    assert!(train.starts_with("github:123456789:9001:promote:"), "{train}");
    let [api, web] = ["shop/api/staging", "shop/web/staging"].map(target);
    bench.wait_for_verdict(&api, Verdict::Succeeded);
    bench.wait_for_verdict(&web, Verdict::Succeeded);
    let verified = |target: &TargetId, stage: &str| {
        let found = bench.journal(target).into_iter().find(|entry| match &entry.fact {
            Fact::Verified { .. } => stage == "verified",
            Fact::StageEntered { stage: found, .. } => found.name() == stage,
            _ => false,
        });
        found.unwrap_or_else(|| panic!("{target} was never {stage}")).at
    };
    assert!(verified(&web, "preflight") >= verified(&api, "verified"), "{}", bench.simulation.journal_texts());
    // Again: all of it is there.
    let answer = bench.accepted(&with(job(), &[("run_attempt", "2")]), &body);
    assert_eq!(answer["asked"], json!([]));
    assert_eq!(answer["already_there"], json!(["shop/api/staging", "shop/web/staging"]));
    // Without a list it is every service that there is.
    bench.push_and_verify("web", 102);
    let all = bench.accepted(&with(job(), &[("run_id", "9002")]), &promotion("promote", "staging", json!({})));
    assert_eq!(all["already_there"], json!(["shop/api/staging"]), "{all}");
    assert_eq!(all["asked"][0]["target"], "shop/web/staging");
}

#[test]
fn one_refused_member_refuses_the_train() {
    let mut bench = TestBench::new();
    bench.push_and_verify("api", 1);
    let (status, code, message) =
        bench.refused(&job(), &promotion("promote", "staging", json!({"web": null, "api": null})));
    assert_eq!((status, code.as_str()), (409, "nothing_verified"), "{message}");
    bench.simulation.run_for(60);
    assert_eq!(bench.deployments(), 0);
}

#[test]
fn whoever_started_the_run_cannot_approve() {
    let mut bench = TestBench::new();
    bench.push_and_verify("api", 1);
    bench.accepted(&job(), &promotion("promote", "staging", json!({"api": "v1"})));
    bench.wait_for_verdict(&target("shop/api/staging"), Verdict::Succeeded);
    let prod = target("shop/api/prod");
    bench.accepted(&production(), &promotion("promote", "prod", json!({"api": null})));
    let waits = |simulation: &mut Simulation| {
        let gates = simulation.at(&prod).state().and_then(|state| state.running).and_then(|running| running.gates);
        gates.is_some_and(|gates| gates.requested_at.is_some())
    };
    assert!(bench.simulation.run_until_condition(HOUR, waits), "{}", bench.simulation.journal_texts());
    let running = bench.simulation.at(&prod).state().and_then(|state| state.running).expect("it waits");
    let plan = running.gates.expect("at its gates").plan;
    let approve = Instruction::Approve { deployment: running.number, plan };
    for user in ["U000OCTO0", "U012AB3CD"] {
        bench.simulation.send_command_to(&prod, approve.clone(), Actor::Person { name: format!("slack:{user}") }, "");
    }
    bench.simulation.run_for(30);
    let state = bench.simulation.at(&prod).state().expect("a state");
    let votes = state.running.and_then(|running| running.gates).expect("it still waits").votes;
    assert_eq!(votes.iter().map(|vote| vote.person.as_str()).collect::<Vec<_>>(), ["ada"]);
    bench.simulation.send_command_to(&prod, approve, Actor::Person { name: "slack:U045EF6GH".to_owned() }, "");
    bench.wait_for_verdict(&prod, Verdict::Succeeded);
}

#[test]
fn a_hotfix_needs_its_own_grant_a_lane_and_a_reason() {
    let mut bench = TestBench::new();
    bench.simulation.push_service(&name("api"), 1, PushAnnouncement::Silent);
    let hotfixer = with(job(), &[("environment", "hotfix")]);
    bench.push_and_verify("api", 2);
    let mut body = promotion("hotfix", "prod", json!({"api": "v2"}));
    let (status, code, _) = bench.refused(&hotfixer, &body);
    assert_eq!((status, code.as_str()), (400, "reason_missing"));
    body["reason"] = json!("the basket is empty for everybody");
    let (_, code, _) = bench.refused(&production(), &body);
    assert_eq!(code, "not_allowed");
    bench.accepted(&hotfixer, &body);
    bench.wait_for_verdict(&target("shop/api/prod"), Verdict::Succeeded);
    let record = bench.simulation.ledger().store().history(&target("shop/api/prod"), 1).pop().expect("one");
    assert!(record.hotfix, "{record:?}");
    bench.apply(|policy| drop(policy["environments"]["prod"].as_object_mut().map(|prod| prod.remove("hotfix"))));
    bench.push_and_verify("api", 3);
    body["services"] = json!({"api": "v3"});
    let (_, code, _) = bench.refused(&with(hotfixer, &[("run_id", "9002")]), &body);
    assert_eq!(code, "no_hotfix_lane");
}
