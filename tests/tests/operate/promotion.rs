//! Promotion, the hotfix lane, gates that are opened by hand, and frozen targets.

use crate::bench::{ALICE, TestBench, path};
use rollout::verdict::Verdict;
use rollout::{Fact, Gate};
use serde_json::{Value, json};
use simulation::world::ImageBehaviour;
use simulation::world::scene::digest_of;

#[test]
fn promote_takes_the_newest_verified_release() {
    let mut bench = TestBench::with_staging();
    bench.deploy_to_staging("api", 1);
    bench.deploy_to_staging("api", 2);
    bench.release(3);
    let answer = bench.post_ok(ALICE, &path("api", "prod", "/promote"), json!({"reason": "the week's release"}));
    assert_eq!(answer["release"]["tag"], "v2", "v3 was pushed, and never deployed anywhere");
    assert_eq!(answer["new"], json!(true));
    bench.wait_for_stage("api", "prod", "gated");
    let state = bench.status();
    assert_eq!(state["state"]["running"]["release"]["tag"], "v2");
    assert_eq!(state["state"]["running"]["reason"], "the week's release");
    assert_eq!(state["state"]["running"]["actor"]["name"], ALICE);
}

#[test]
fn promote_can_name_a_release() {
    let mut bench = TestBench::with_staging();
    bench.deploy_to_staging("api", 1);
    bench.deploy_to_staging("api", 2);
    let answer = bench.post_ok(ALICE, &path("api", "prod", "/promote"), json!({"release": "v1", "request": "once"}));
    assert_eq!(answer["release"]["tag"], "v1");
    bench.wait_for_stage("api", "prod", "gated");
    let again = bench.post_ok(ALICE, &path("api", "prod", "/promote"), json!({"release": "v1", "request": "once"}));
    assert_eq!((again["new"].clone(), again["deployment"].clone()), (json!(false), json!(1)));
}

#[test]
fn refusing_an_unverified_release_lists_the_verified_ones() {
    let mut bench = TestBench::with_staging();
    let promote = path("api", "prod", "/promote");
    let (status, code, message) = bench.refused("POST", &promote, Value::Null);
    assert_eq!((status, code.as_str()), (409, "nothing_verified"));
    assert!(message.contains("staging has verified nothing: deploy there first"), "{message}");

    bench.deploy_to_staging("api", 1);
    bench.release(2);
    for verb in ["/promote", "/deploy"] {
        let (status, code, message) = bench.refused("POST", &path("api", "prod", verb), json!({"release": "v2"}));
        assert_eq!((status, code.as_str()), (409, "not_verified"), "{message}");
        let short = digest_of(1).short().to_owned();
        assert!(message.contains("it is not verified in staging"), "{message}");
        assert!(message.contains(&format!("staging has verified v1 ({short})")), "{message}");
    }
    // Nothing was started, and the record says who wanted what, once for each.
    bench.simulation.run_for(60);
    bench.refused("POST", &promote, json!({"release": "v2"}));
    bench.simulation.run_for(60);
    assert_eq!(bench.stage("api", "prod"), None);
    let refusals = bench.refusals("api", "prod");
    let asked: Vec<_> = refusals.iter().map(|(who, what, _)| (who.as_str(), what.as_str())).collect();
    assert_eq!(asked, [(ALICE, "promote"), (ALICE, "deploy")]);
    assert!(refusals[0].2.contains("it is not verified in staging"), "{refusals:?}");
}

#[test]
fn the_first_environment_cannot_be_promoted_to() {
    let mut bench = TestBench::with_staging();
    bench.release(1);
    let (status, code, message) = bench.refused("POST", &path("api", "staging", "/promote"), Value::Null);
    assert_eq!((status, code.as_str()), (409, "nothing_before"));
    assert!(message.contains("no environment comes before staging"), "{message}");
    assert!(message.contains("deploy a release there by its name"), "{message}");
}

#[test]
fn a_rolled_back_release_is_not_promoted() {
    let mut bench = TestBench::with_staging();
    bench.deploy_to_staging("api", 1);
    bench.deploy_to_staging("api", 2);
    bench.post_ok(ALICE, &path("api", "staging", "/rollback"), json!({"reason": "v2 loses orders"}));
    bench.wait_for_verdict("api", "staging", Verdict::Succeeded);
    let (_, code, message) = bench.refused("POST", &path("api", "prod", "/promote"), json!({"release": "v2"}));
    assert_eq!(code, "not_verified", "{message}");
    let answer = bench.post_ok(ALICE, &path("api", "prod", "/promote"), Value::Null);
    assert_eq!(answer["release"]["tag"], "v1");
}

#[test]
fn a_hotfix_skips_the_policys_gates_and_is_marked() {
    let mut bench = TestBench::with_staging();
    bench.deploy_to_staging("api", 1);
    let hotfix = path("api", "prod", "/hotfix");
    let no_reason = bench.refused("POST", &hotfix, json!({"release": "v1"}));
    assert_eq!((no_reason.0, no_reason.1.as_str()), (400, "reason_missing"));
    assert!(no_reason.2.starts_with("a hotfix needs a reason"), "{}", no_reason.2);
    bench.post_ok(ALICE, &hotfix, json!({"release": "v1", "reason": "orders are lost"}));
    // Neither the soak nor anybody's approval is waited for.
    bench.wait_for_verdict("api", "prod", Verdict::Succeeded);
    let marked = bench.journal("api", "prod").into_iter().find_map(|entry| match entry.fact {
        Fact::HotfixStarted { skips, reason } => Some((entry.actor.to_string(), skips, reason)),
        _ => None,
    });
    let wanted = (ALICE.to_owned(), vec![Gate::Soak, Gate::Approval], "orders are lost".to_owned());
    assert_eq!(marked, Some(wanted), "{}", bench.journal_text("api", "prod"));
    let (_, history) = bench.ask("GET", &path("api", "prod", "/history"), Value::Null);
    assert_eq!(history["deployments"][0]["hotfix"], json!(true));
}

#[test]
fn a_hotfix_needs_a_lane_and_the_unskipped_gates() {
    let mut bench = TestBench::with_staging();
    bench.release(1);
    let wanted = json!({"release": "v1", "reason": "orders are lost"});
    let (status, code, message) = bench.refused("POST", &path("api", "staging", "/hotfix"), wanted.clone());
    assert_eq!((status, code.as_str()), (409, "no_hotfix_lane"));
    assert!(message.contains("staging has no hotfix lane"), "{message}");
    // `after` is not among what hotfixes skip here.
    let (status, code, message) = bench.refused("POST", &path("api", "prod", "/hotfix"), wanted);
    assert_eq!((status, code.as_str()), (409, "not_verified"), "{message}");
    bench.simulation.run_for(60);
    let what: Vec<String> = bench.refusals("api", "prod").into_iter().map(|(_, what, _)| what).collect();
    assert_eq!(what, ["hotfix"]);
}

#[test]
fn a_gate_can_be_overridden_with_a_reason() {
    let mut bench = TestBench::with_staging();
    bench.deploy_to_staging("api", 1);
    bench.post_ok(ALICE, &path("api", "prod", "/promote"), Value::Null);
    bench.wait_for_stage("api", "prod", "gated");
    let open = path("api", "prod", "/override");
    let gates = json!(["soak", "approval"]);
    let cases = [
        (json!({"deployment": 1, "gates": gates}), 400, "reason_missing", "opening a gate by hand needs a reason"),
        (json!({"deployment": 1, "gates": [], "reason": "now"}), 400, "no_gates", "`gates` names none"),
        (json!({"deployment": 1, "gates": ["soack"], "reason": "now"}), 400, "invalid_request", "soack"),
        (json!({"deployment": 1, "gates": ["train"], "reason": "now"}), 409, "not_overridable", "release train"),
        (json!({"deployment": 7, "gates": gates, "reason": "now"}), 409, "not_waiting", "there is no deployment #7"),
    ];
    for (body, status, code, words) in cases {
        let refused = bench.refused("POST", &open, body.clone());
        assert_eq!((refused.0, refused.1.as_str()), (status, code), "{body}: {}", refused.2);
        assert!(refused.2.contains(words), "{body}: {}", refused.2);
    }
    let answer =
        bench.post_ok(ALICE, &open, json!({"deployment": 1, "gates": gates, "reason": "the contract ends today"}));
    assert_eq!(answer["deployment"], json!(1));
    bench.wait_for_stage("api", "prod", "shifting");
    let opened: Vec<_> = bench
        .journal("api", "prod")
        .into_iter()
        .filter_map(|entry| match entry.fact {
            Fact::GateOverridden { gate, reason } => Some((gate, entry.actor.to_string(), reason)),
            _ => None,
        })
        .collect();
    let by_hand = |gate| (gate, ALICE.to_owned(), "the contract ends today".to_owned());
    assert_eq!(opened, [by_hand(Gate::Soak), by_hand(Gate::Approval)]);
    let late = bench.refused("POST", &open, json!({"deployment": 1, "gates": ["window"], "reason": "now"}));
    assert_eq!((late.0, late.1.as_str()), (409, "not_waiting"));
    assert!(late.2.contains("past its gates (shifting)"), "{}", late.2);
    bench.wait_for_verdict("api", "prod", Verdict::Succeeded);
    let over = bench.refused("POST", &open, json!({"deployment": 1, "gates": ["window"], "reason": "now"}));
    assert!(over.2.contains("shop/api/prod: deployment #1 is over"), "{}", over.2);
}

#[test]
fn a_plan_shows_the_gates() {
    let mut bench = TestBench::with_staging();
    bench.release(1);
    let plan = |bench: &mut TestBench| {
        let (status, answer) = bench.ask("POST", "/v1/plan", json!({"target": "shop/api/prod"}));
        assert_eq!(status, 200, "{answer:#}");
        answer["deployment"].clone()
    };
    let refused = plan(&mut bench);
    assert_eq!(refused["status"], "refused", "{refused:#}");
    assert!(refused["blockers"][0].as_str().is_some_and(|why| why.contains("not verified in staging")), "{refused:#}");

    bench.deploy_to_staging("api", 1);
    bench.release(2);
    let gated = plan(&mut bench);
    assert_eq!(gated["release"]["tag"], "v1", "what would be promoted, not what was pushed last");
    assert_eq!(gated["status"], "gated", "{gated:#}");
    let blockers: Vec<&str> = gated["blockers"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(blockers.iter().any(|why| why.starts_with("soak: ")), "{blockers:?}");
    assert_eq!(bench.stage("api", "prod"), None, "nothing was asked for");
}

#[test]
fn the_target_list_shows_brakes() {
    let mut bench = TestBench::new();
    let held = |bench: &mut TestBench| {
        let (status, answer) = bench.ask("GET", "/v1/targets", Value::Null);
        assert_eq!(status, 200, "{answer}");
        answer["targets"][0]["held"].clone()
    };
    assert_eq!(held(&mut bench), json!([]));
    bench.post_ok(ALICE, "/v1/freeze", json!({"application": "shop", "reason": "the fair"}));
    bench.post_ok(ALICE, "/v1/stop-the-line", json!({"reason": "stop"}));
    assert_eq!(held(&mut bench), json!(["line_stopped", "freeze"]));
}

#[test]
fn a_failing_forward_only_release_waits_for_resume() {
    let mut bench = TestBench::new();
    let resume = path("api", "prod", "/resume");
    let nothing = bench.refused("POST", &resume, json!({"reason": "go"}));
    assert_eq!((nothing.0, nothing.1.as_str()), (409, "not_on_hold"));
    assert!(nothing.2.contains("nothing to resume"), "{}", nothing.2);

    bench.release(1);
    let image = format!("{}@{}", bench.simulation.names().repository_uri, digest_of(1));
    bench.post_ok(ALICE, &path("api", "prod", "/deploy"), json!({"release": "v1", "forward_only": true}));
    bench.wait_for_stage("api", "prod", "shifting");
    bench.simulation.world(|world| world.set_image(&image, ImageBehaviour::failing(0.5)));
    let frozen = bench.simulation.run_until_condition(600, |simulation| {
        simulation.state().and_then(|state| state.running).is_some_and(|running| running.awaiting_operator().is_some())
    });
    assert!(frozen, "{}", bench.journal_text("api", "prod"));
    bench.simulation.run_for(300);
    assert_ne!(bench.stage("api", "prod"), Some("rolling_back"), "{}", bench.journal_text("api", "prod"));
    let silent = bench.refused("POST", &resume, json!({}));
    assert_eq!((silent.0, silent.1.as_str()), (400, "reason_missing"));

    bench.simulation.world(|world| world.set_image(&image, ImageBehaviour::default()));
    bench.post_ok(ALICE, &resume, json!({"reason": "the cache was cold"}));
    bench.wait_for_verdict("api", "prod", Verdict::Succeeded);
    assert!(
        bench
            .journal("api", "prod")
            .iter()
            .any(|entry| entry.fact == Fact::OperatorResumed { reason: "the cache was cold".to_owned() }),
        "{}",
        bench.journal_text("api", "prod")
    );
}
