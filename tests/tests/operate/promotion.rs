//! Promotion, the hotfix lane, gates that are opened by hand, and frozen targets.

use crate::stand::{ALICE, Stand, path};
use rollout::stage::Verdict;
use rollout::{Fact, Gate};
use serde_json::{Value, json};
use simulation::world::ImageBehaviour;
use simulation::world::scene::digest_of;

#[test]
fn promotion_takes_the_newest_that_the_environment_before_has_verified() {
    let mut stand = Stand::ladder();
    stand.staged("api", 1);
    stand.staged("api", 2);
    stand.release(3);
    let answer = stand.done(ALICE, &path("api", "prod", "/promote"), json!({"reason": "the week's release"}));
    assert_eq!(answer["release"]["tag"], "v2", "v3 was pushed, and never deployed anywhere");
    assert_eq!(answer["new"], json!(true));
    stand.gets_to("api", "prod", "gated");
    let state = stand.status();
    assert_eq!(state["state"]["running"]["release"]["tag"], "v2");
    assert_eq!(state["state"]["running"]["reason"], "the week's release");
    assert_eq!(state["state"]["running"]["actor"]["name"], ALICE);
}

#[test]
fn promotion_by_name_takes_that_one() {
    let mut stand = Stand::ladder();
    stand.staged("api", 1);
    stand.staged("api", 2);
    let answer = stand.done(ALICE, &path("api", "prod", "/promote"), json!({"release": "v1", "request": "once"}));
    assert_eq!(answer["release"]["tag"], "v1");
    stand.gets_to("api", "prod", "gated");
    let again = stand.done(ALICE, &path("api", "prod", "/promote"), json!({"release": "v1", "request": "once"}));
    assert_eq!((again["new"].clone(), again["deployment"].clone()), (json!(false), json!(1)));
}

#[test]
fn what_is_not_verified_before_is_refused_with_what_is() {
    let mut stand = Stand::ladder();
    let promote = path("api", "prod", "/promote");
    let (status, code, message) = stand.refused("POST", &promote, Value::Null);
    assert_eq!((status, code.as_str()), (409, "nothing_verified"));
    assert!(message.contains("staging has verified nothing: deploy there first"), "{message}");

    stand.staged("api", 1);
    stand.release(2);
    for verb in ["/promote", "/deploy"] {
        let (status, code, message) = stand.refused("POST", &path("api", "prod", verb), json!({"release": "v2"}));
        assert_eq!((status, code.as_str()), (409, "not_verified"), "{message}");
        let short = digest_of(1).short().to_owned();
        assert!(message.contains("it is not verified in staging"), "{message}");
        assert!(message.contains(&format!("staging has verified v1 ({short})")), "{message}");
    }
    // Nothing was started, and the record says who wanted what, once for each.
    stand.simulation.run_for(60);
    stand.refused("POST", &promote, json!({"release": "v2"}));
    stand.simulation.run_for(60);
    assert_eq!(stand.stage("api", "prod"), None);
    let refusals = stand.refusals("api", "prod");
    let asked: Vec<_> = refusals.iter().map(|(who, what, _)| (who.as_str(), what.as_str())).collect();
    assert_eq!(asked, [(ALICE, "promote"), (ALICE, "deploy")]);
    assert!(refusals[0].2.contains("it is not verified in staging"), "{refusals:?}");
}

#[test]
fn the_first_environment_is_deployed_to_and_not_promoted_to() {
    let mut stand = Stand::ladder();
    stand.release(1);
    let (status, code, message) = stand.refused("POST", &path("api", "staging", "/promote"), Value::Null);
    assert_eq!((status, code.as_str()), (409, "nothing_before"));
    assert!(message.contains("no environment comes before staging"), "{message}");
    assert!(message.contains("deploy a release there by its name"), "{message}");
}

#[test]
fn a_release_that_was_gone_back_from_is_not_promoted() {
    let mut stand = Stand::ladder();
    stand.staged("api", 1);
    stand.staged("api", 2);
    stand.done(ALICE, &path("api", "staging", "/rollback"), json!({"reason": "v2 loses orders"}));
    stand.ends("api", "staging", Verdict::Succeeded);
    let (_, code, message) = stand.refused("POST", &path("api", "prod", "/promote"), json!({"release": "v2"}));
    assert_eq!(code, "not_verified", "{message}");
    let answer = stand.done(ALICE, &path("api", "prod", "/promote"), Value::Null);
    assert_eq!(answer["release"]["tag"], "v1");
}

#[test]
fn a_hotfix_passes_the_gates_that_the_policy_names_and_stays_marked() {
    let mut stand = Stand::ladder();
    stand.staged("api", 1);
    let hotfix = path("api", "prod", "/hotfix");
    let no_reason = stand.refused("POST", &hotfix, json!({"release": "v1"}));
    assert_eq!((no_reason.0, no_reason.1.as_str()), (400, "reason_missing"));
    assert!(no_reason.2.starts_with("a hotfix needs a reason"), "{}", no_reason.2);
    stand.done(ALICE, &hotfix, json!({"release": "v1", "reason": "orders are lost"}));
    // Neither the soak nor anybody's approval is waited for.
    stand.ends("api", "prod", Verdict::Succeeded);
    let marked = stand.journal("api", "prod").into_iter().find_map(|entry| match entry.fact {
        Fact::Hotfixed { skips, reason } => Some((entry.actor.to_string(), skips, reason)),
        _ => None,
    });
    let wanted = (ALICE.to_owned(), vec![Gate::Soak, Gate::Approval], "orders are lost".to_owned());
    assert_eq!(marked, Some(wanted), "{}", stand.story("api", "prod"));
    let (_, history) = stand.ask("GET", &path("api", "prod", "/history"), Value::Null);
    assert_eq!(history["deployments"][0]["hotfix"], json!(true));
}

#[test]
fn a_hotfix_is_refused_where_there_is_no_lane_for_it_or_a_gate_that_it_does_not_pass() {
    let mut stand = Stand::ladder();
    stand.release(1);
    let wanted = json!({"release": "v1", "reason": "orders are lost"});
    let (status, code, message) = stand.refused("POST", &path("api", "staging", "/hotfix"), wanted.clone());
    assert_eq!((status, code.as_str()), (409, "no_hotfix_lane"));
    assert!(message.contains("staging has no hotfix lane"), "{message}");
    // `after` is not among what hotfixes skip here.
    let (status, code, message) = stand.refused("POST", &path("api", "prod", "/hotfix"), wanted);
    assert_eq!((status, code.as_str()), (409, "not_verified"), "{message}");
    stand.simulation.run_for(60);
    let what: Vec<String> = stand.refusals("api", "prod").into_iter().map(|(_, what, _)| what).collect();
    assert_eq!(what, ["hotfix"]);
}

#[test]
fn a_gate_is_opened_by_hand_with_a_reason() {
    let mut stand = Stand::ladder();
    stand.staged("api", 1);
    stand.done(ALICE, &path("api", "prod", "/promote"), Value::Null);
    stand.gets_to("api", "prod", "gated");
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
        let refused = stand.refused("POST", &open, body.clone());
        assert_eq!((refused.0, refused.1.as_str()), (status, code), "{body}: {}", refused.2);
        assert!(refused.2.contains(words), "{body}: {}", refused.2);
    }
    let answer =
        stand.done(ALICE, &open, json!({"deployment": 1, "gates": gates, "reason": "the contract ends today"}));
    assert_eq!(answer["deployment"], json!(1));
    stand.gets_to("api", "prod", "shifting");
    let opened: Vec<_> = stand
        .journal("api", "prod")
        .into_iter()
        .filter_map(|entry| match entry.fact {
            Fact::GateOverridden { gate, reason } => Some((gate, entry.actor.to_string(), reason)),
            _ => None,
        })
        .collect();
    let by_hand = |gate| (gate, ALICE.to_owned(), "the contract ends today".to_owned());
    assert_eq!(opened, [by_hand(Gate::Soak), by_hand(Gate::Approval)]);
    let late = stand.refused("POST", &open, json!({"deployment": 1, "gates": ["window"], "reason": "now"}));
    assert_eq!((late.0, late.1.as_str()), (409, "not_waiting"));
    assert!(late.2.contains("does not wait at any gate: it is shifting already"), "{}", late.2);
    stand.ends("api", "prod", Verdict::Succeeded);
    let over = stand.refused("POST", &open, json!({"deployment": 1, "gates": ["window"], "reason": "now"}));
    assert!(over.2.contains("deployment #1 of shop/api/prod is over"), "{}", over.2);
}

#[test]
fn a_plan_says_what_the_gates_would_say() {
    let mut stand = Stand::ladder();
    stand.release(1);
    let plan = |stand: &mut Stand| {
        let (status, answer) = stand.ask("POST", "/v1/plan", json!({"target": "shop/api/prod"}));
        assert_eq!(status, 200, "{answer:#}");
        answer["deployment"].clone()
    };
    let refused = plan(&mut stand);
    assert_eq!(refused["outlook"], "refused", "{refused:#}");
    assert!(refused["blockers"][0].as_str().is_some_and(|why| why.contains("not verified in staging")), "{refused:#}");

    stand.staged("api", 1);
    stand.release(2);
    let gated = plan(&mut stand);
    assert_eq!(gated["release"]["tag"], "v1", "what would be promoted, not what was pushed last");
    assert_eq!(gated["outlook"], "gated", "{gated:#}");
    let blockers: Vec<&str> = gated["blockers"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(blockers.iter().any(|why| why.starts_with("soak: ")), "{blockers:?}");
    assert_eq!(stand.stage("api", "prod"), None, "nothing was asked for");
}

#[test]
fn the_list_of_targets_says_what_holds_them() {
    let mut stand = Stand::new();
    let held = |stand: &mut Stand| {
        let (status, answer) = stand.ask("GET", "/v1/targets", Value::Null);
        assert_eq!(status, 200, "{answer}");
        answer["targets"][0]["held"].clone()
    };
    assert_eq!(held(&mut stand), json!([]));
    stand.done(ALICE, "/v1/freeze", json!({"application": "shop", "reason": "the fair"}));
    stand.done(ALICE, "/v1/stop-the-line", json!({"reason": "stop"}));
    assert_eq!(held(&mut stand), json!(["line_stopped", "freeze"]));
}

#[test]
fn a_forward_only_release_in_trouble_freezes_and_goes_on_when_somebody_says_so() {
    let mut stand = Stand::new();
    let resume = path("api", "prod", "/resume");
    let nothing = stand.refused("POST", &resume, json!({"reason": "go"}));
    assert_eq!((nothing.0, nothing.1.as_str()), (409, "not_frozen"));
    assert!(nothing.2.contains("nothing to resume"), "{}", nothing.2);

    stand.release(1);
    let image = format!("{}@{}", stand.simulation.names().repository_uri, digest_of(1));
    stand.done(ALICE, &path("api", "prod", "/deploy"), json!({"release": "v1", "forward_only": true}));
    stand.gets_to("api", "prod", "shifting");
    stand.simulation.world(|world| world.set_image(&image, ImageBehaviour::failing(0.5)));
    let frozen = stand.simulation.run_until_that(600, |simulation| {
        simulation.state().and_then(|state| state.running).is_some_and(|running| running.frozen.is_some())
    });
    assert!(frozen, "{}", stand.story("api", "prod"));
    stand.simulation.run_for(300);
    assert_ne!(stand.stage("api", "prod"), Some("rolling_back"), "{}", stand.story("api", "prod"));
    let silent = stand.refused("POST", &resume, json!({}));
    assert_eq!((silent.0, silent.1.as_str()), (400, "reason_missing"));

    stand.simulation.world(|world| world.set_image(&image, ImageBehaviour::default()));
    stand.done(ALICE, &resume, json!({"reason": "the cache was cold"}));
    stand.ends("api", "prod", Verdict::Succeeded);
    assert!(
        stand
            .journal("api", "prod")
            .iter()
            .any(|entry| entry.fact == Fact::Unfrozen { reason: "the cache was cold".to_owned() }),
        "{}",
        stand.story("api", "prod")
    );
}
