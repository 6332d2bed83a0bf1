//! What people ask, over the whole loop in virtual time: requests as the HTTP API has them, answers, and what becomes of
//! them in the world.

mod advice;
mod approval;
mod bench;
mod brakes;
mod doctor;
mod garbage;
mod limits;
mod promotion;
mod train;

use api::operations::{MAX_BODY_BYTES, ROUTES};
use bench::{ALICE, TARGET, TestBench};
use rollout::{Fact, Seconds};
use serde_json::{Value, json};
use simulation::virtual_time::{Faults, Simulation};
use simulation::world::scene::{PairSetup, digest_of, release_of};
use simulation::world::{ImageBehaviour, Settings};

#[test]
fn applying_a_file_reports_its_changes_once() {
    let mut bench = TestBench::new();
    let text = bench.text.clone();
    let (_, again) = bench.ask("POST", "/v1/apply", json!({"text": text}));
    assert_eq!((again["unchanged"].clone(), again["changes"].clone()), (json!(true), json!([])));

    let other = text.replace("\"bake\":\"2m\"", "\"bake\":\"4m\"");
    assert_ne!(other, text);
    let (status, planned) = bench.ask("POST", "/v1/plan", json!({"text": other}));
    assert_eq!(status, 200, "{planned}");
    let (_, applied) = bench.ask("POST", "/v1/apply", json!({"text": other}));
    assert_eq!(applied["version"].as_u64(), again["version"].as_u64().map(|version| version + 1));
    assert_eq!(applied["changes"], planned["changes"]);
    let change = json!([{
        "path": "environments.prod.targets.api.strategy.bake", "target": "shop/api/prod", "before": "2m", "after": "4m",
    }]);
    assert_eq!(applied["changes"], change);
    let stored = bench.simulation.ledger().store().policy(&"shop".parse().expect("a name")).expect("applied");
    assert_eq!((stored.text, stored.by.as_str()), (other, ALICE));
}

#[test]
fn an_invalid_file_is_refused_with_all_problems() {
    let mut bench = TestBench::new();
    let before = bench.simulation.ledger().store().policy(&"shop".parse().expect("a name")).expect("applied");
    let text = "application: shop\nservices:\n  api: {repostory: shop/api}\nenvironments: []\n";
    for path in ["/v1/apply", "/v1/plan"] {
        let (status, answer) = bench.ask("POST", path, json!({"text": text}));
        assert_eq!(status, 422, "{answer}");
        assert_eq!(answer["error"]["code"], "invalid_policy");
        let problems = answer["error"]["problems"].as_array().expect("a list");
        let places: Vec<_> =
            problems.iter().map(|problem| (problem["line"].as_u64(), problem["path"].as_str())).collect();
        assert!(places.contains(&(Some(3), Some("services.api.repostory"))), "{places:?}");
        assert!(places.contains(&(Some(4), Some("environments"))), "{places:?}");
    }
    let after = bench.simulation.ledger().store().policy(&"shop".parse().expect("a name")).expect("applied");
    assert_eq!(after, before);
}

#[test]
fn a_release_is_found_by_tag_digest_or_digest_prefix() {
    let digest = format!("sha256:{}", "3fa90c1e".repeat(8));
    for wanted in ["v3", &digest, "sha256:3fa90c1", "3fa90c1", "3FA90C1E", "latest"] {
        let mut bench = TestBench::new();
        bench.release(1);
        bench.release(2);
        let mut newest = release_of(bench.simulation.target(), "registry/shop/api", 3, bench.simulation.now());
        newest.id.digest = digest.parse().expect("a digest");
        bench.simulation.ledger().store().put_release(&newest);
        let body = json!({"release": wanted, "reason": "wanted", "request": "key-1"});
        let (status, answer) = bench.ask("POST", &format!("{TARGET}/deploy"), body);
        assert_eq!(status, 200, "{wanted}: {answer}");
        assert_eq!(answer["release"]["tag"], "v3", "{wanted}");
        assert_eq!((answer["new"].clone(), answer["woken"].clone()), (json!(true), json!(true)));
        assert_eq!(answer["last_deployment"], 0);
        bench.simulation.run_for(20);
        let status = bench.status();
        assert_eq!(status["state"]["running"]["release"]["tag"], "v3", "{wanted}");
        assert_eq!(status["state"]["running"]["actor"]["name"], ALICE);
        assert_eq!(status["state"]["running"]["reason"], "wanted");
    }
}

#[test]
fn an_ambiguous_digest_prefix_is_refused() {
    let mut bench = TestBench::new();
    bench.release(1);
    bench.release(2);
    let shared = digest_of(1).short()[..7].to_owned();
    assert!(digest_of(2).short().starts_with(&shared), "the simulation's digests count up");
    let (status, code, message) = bench.refused("POST", &format!("{TARGET}/deploy"), json!({"release": shared}));
    assert_eq!((status, code.as_str()), (409, "ambiguous_release"));
    assert!(message.contains("2 releases of shop/api begin with"), "{message}");
}

#[test]
fn a_repeated_request_key_finds_the_same_deployment() {
    let mut bench = TestBench::new();
    bench.release(1);
    let path = format!("{TARGET}/deploy");
    let body = json!({"release": "v1", "request": "key-1"});
    let (_, first) = bench.ask("POST", &path, body.clone());
    bench.simulation.run_for(20);
    let (status, second) = bench.ask("POST", &path, body);
    assert_eq!(status, 200);
    assert_eq!(second["command"], first["command"]);
    assert_eq!((second["new"].clone(), second["deployment"].clone()), (json!(false), json!(1)));
    assert!(bench.simulation.run_until_idle(7200), "{}", bench.simulation.journal_text());
    assert_eq!(bench.simulation.verdicts().len(), 1, "{}", bench.simulation.journal_text());
    let (_, third) = bench.ask("POST", &path, json!({"release": "v1"}));
    assert_eq!(third["new"], json!(true), "without a key every asking is a new one");
    assert_eq!(third["last_deployment"], 1);
}

#[test]
fn a_plan_matches_what_then_happens() {
    let mut bench = TestBench::new();
    bench.release(1);
    let calls = bench.simulation.ledger().store().journal(bench.simulation.target(), 0, 10).len();
    let (status, answer) = bench.ask("POST", "/v1/plan", json!({"target": "shop/api/prod"}));
    assert_eq!(status, 200, "{answer}");
    let plan = &answer["deployment"];
    assert_eq!(plan["status"], "starts", "{plan:#}");
    assert_eq!(plan["blockers"], json!([]));
    assert_eq!((plan["stable"]["slot"].clone(), plan["stable"]["running"].clone()), (json!("blue"), json!(4)));
    assert_eq!(plan["candidate"]["slot"], "green");
    assert_eq!(plan["release"]["tag"], "v1");
    // Nothing was written for it.
    assert_eq!(bench.simulation.ledger().store().journal(bench.simulation.target(), 0, 10).len(), calls);
    assert!(bench.status()["commands"].as_array().expect("a list").is_empty());

    let stages: Vec<&str> =
        plan["steps"].as_array().expect("steps").iter().filter_map(|step| step["stage"].as_str()).collect();
    let shares: Vec<u64> =
        plan["steps"].as_array().expect("steps").iter().filter_map(|step| step["traffic"].as_u64()).collect();
    assert_eq!(shares, [10, 50, 100]);
    assert_eq!(plan["takes_s"], 60 + 60 + 120 + 60 + 15);
    let planned_tasks = plan["steps"][2]["tasks"].as_u64();
    assert_eq!(planned_tasks, Some(4));

    bench.deploy_release(1);
    let mut happened: Vec<String> = vec!["preflight".to_owned()];
    let mut took = Vec::new();
    for entry in bench.simulation.journal() {
        match &entry.fact {
            // Writing and holding of a step are one stage each, of one name.
            Fact::StageEntered { stage, .. } if stage.name() != "shifting" || !took.contains(&entry.at) => {
                happened.push(stage.name().to_owned());
            }
            Fact::WeightsVerified { .. } => took.push(entry.at),
            _ => {}
        }
    }
    assert_eq!(happened, stages, "{}", bench.simulation.journal_text());
    let journal_text = bench.simulation.journal();
    let took = Seconds::between(journal_text[0].at, journal_text[journal_text.len() - 1].at);
    let planned = plan["takes_s"].as_u64().expect("a number");
    assert!((planned..planned + 600).contains(&took.0), "planned {planned} s, took {took}");
}

#[test]
fn a_plan_lists_its_blockers() {
    let mut bench = TestBench::new();
    bench.release(1);
    let blue_alarm = bench.simulation.names().blue_alarm.clone();
    let plan = |bench: &mut TestBench, body: Value| {
        let (status, answer) = bench.ask("POST", "/v1/plan", body);
        assert_eq!(status, 200, "{answer}");
        answer["deployment"].clone()
    };
    // The stable side misbehaves: its alarm fires.
    let stable_image = format!("{}@{}", bench.simulation.names().repository_uri, digest_of(0));
    bench.simulation.world(|world| world.set_image(&stable_image, ImageBehaviour::failing(0.5)));
    bench.simulation.run_for(120);
    let blocked = plan(&mut bench, json!({"target": "shop/api/prod", "release": "v1"}));
    assert_eq!(blocked["status"], "blocked", "{blocked:#}");
    assert!(blocked["blockers"][0].as_str().is_some_and(|reason| reason.contains(&blue_alarm)), "{blocked:#}");
    assert_eq!(blocked["alarms"][&blue_alarm]["state"], "firing");

    // A file that is not applied yet is planned with, too: without alarms nothing is in the way.
    let mut file: Value = serde_json::from_str(&bench.text).expect("JSON");
    file["environments"]["prod"]["targets"]["api"]["alarms"] = json!([]);
    let free = plan(&mut bench, json!({"text": file.to_string(), "target": "shop/api/prod"}));
    assert_eq!(free["status"], "starts", "{free:#}");
}

#[test]
fn a_plan_considers_running_and_stable_releases() {
    let mut bench = TestBench::new();
    bench.deploy_release(1);
    let (_, answer) = bench.ask("POST", "/v1/plan", json!({"target": "shop/api/prod", "release": "v1"}));
    assert_eq!(answer["deployment"]["status"], "refused");
    assert_eq!(answer["deployment"]["blockers"], json!(["v1 is the stable release already"]));
    assert_eq!(answer["deployment"]["steps"], json!([]));

    bench.release(2);
    bench.ask("POST", &format!("{TARGET}/deploy"), json!({"release": "v2"}));
    bench.simulation.run_for(60);
    bench.release(3);
    let (_, answer) = bench.ask("POST", "/v1/plan", json!({"target": "shop/api/prod"}));
    assert_eq!(answer["deployment"]["status"], "queued");
    let blocker = answer["deployment"]["blockers"][0].as_str().expect("one");
    assert!(blocker.starts_with("deployment #2 (v2, "), "{blocker}");
}

#[test]
fn an_abort_needs_a_reason_and_a_running_deployment() {
    let mut bench = TestBench::new();
    bench.release(1);
    let path = format!("{TARGET}/abort");
    let nothing = bench.refused("POST", &path, json!({"reason": "stop"}));
    assert_eq!((nothing.0, nothing.1.as_str()), (409, "not_running"));

    bench.ask("POST", &format!("{TARGET}/deploy"), json!({"release": "v1"}));
    assert!(bench.simulation.run_until_condition(600, |simulation| simulation.stage_name() == Some("shifting")));
    let (status, code, message) = bench.refused("POST", &path, json!({}));
    assert_eq!((status, code.as_str()), (400, "reason_missing"));
    assert!(message.contains("`reason`"), "{message}");
    let other = bench.refused("POST", &path, json!({"deployment": 7, "reason": "stop"}));
    assert_eq!(
        (other.0, other.2.as_str()),
        (409, "shop/api/prod: deployment #1 is running, not #7: nothing was ended")
    );

    let (status, answer) = bench.ask("POST", &path, json!({"deployment": 1, "reason": "the basket is empty"}));
    assert_eq!((status, answer["deployment"].clone()), (200, json!(1)));
    assert!(bench.simulation.run_until_idle(7200), "{}", bench.simulation.journal_text());
    let (_, history) = bench.ask("GET", &format!("{TARGET}/history"), Value::Null);
    assert_eq!(history["deployments"][0]["verdict"], "cancelled");
    let over = bench.refused("POST", &path, json!({"deployment": 1, "reason": "again"}));
    assert_eq!((over.0, over.1.as_str()), (409, "not_running"));
}

#[test]
fn a_rollback_deploys_the_previous_release() {
    let mut bench = TestBench::new();
    let path = format!("{TARGET}/rollback");
    let nowhere = bench.refused("POST", &path, json!({"reason": "back"}));
    assert_eq!((nowhere.0, nowhere.1.as_str()), (409, "nothing_to_roll_back_to"));
    bench.deploy_release(1);
    bench.deploy_release(2);
    let missing = bench.refused("POST", &path, json!({"reason": "  "}));
    assert_eq!((missing.0, missing.1.as_str()), (400, "reason_missing"));
    let (status, answer) = bench.ask("POST", &path, json!({"reason": "v2 loses orders"}));
    assert_eq!(status, 200, "{answer}");
    assert_eq!((answer["deployment"].clone(), answer["last_deployment"].clone()), (Value::Null, json!(2)));
    assert!(bench.simulation.run_until_idle(7200), "{}", bench.simulation.journal_text());
    let (_, history) = bench.ask("GET", &format!("{TARGET}/history"), Value::Null);
    let newest = &history["deployments"][0];
    assert_eq!((newest["number"].clone(), newest["release"]["tag"].clone()), (json!(3), json!("v1")));
    assert_eq!(newest["verdict"], "succeeded");
    assert_eq!(bench.status()["state"]["stable"]["release"]["tag"], "v1");
}

#[test]
fn a_rollback_to_a_deleted_image_is_refused() {
    let mut bench = TestBench::new();
    bench.deploy_release(1);
    bench.deploy_release(2);
    bench.simulation.delete_image(1);
    let refused = bench.refused("POST", &format!("{TARGET}/rollback"), json!({"reason": "v2 loses orders"}));
    assert_eq!((refused.0, refused.1.as_str()), (409, "image_missing"), "{}", refused.2);
    assert!(refused.2.contains("would go to v1") && refused.2.contains("gone from the registry"), "{}", refused.2);
    bench.simulation.run_for(60);
    let status = bench.status();
    assert!(status["commands"].as_array().expect("a list").is_empty(), "nothing was asked of the target");
    assert_eq!(status["state"]["last_deployment"], 2);
    assert_eq!(status["state"]["stable"]["release"]["tag"], "v2");
}

#[test]
fn a_rollback_to_an_archived_image_is_refused_until_it_is_restored() {
    let mut bench = TestBench::new();
    let path = format!("{TARGET}/rollback");
    let body = json!({"reason": "v2 loses orders"});
    bench.deploy_release(1);
    bench.deploy_release(2);
    bench.simulation.archive_image(1, true);
    let refused = bench.refused("POST", &path, body.clone());
    assert_eq!((refused.0, refused.1.as_str()), (409, "image_missing"), "{}", refused.2);
    assert!(refused.2.contains("would go to v1") && refused.2.contains("is archived"), "{}", refused.2);
    assert_eq!(bench.status()["state"]["last_deployment"], 2);

    bench.simulation.archive_image(1, false);
    bench.post_ok(ALICE, &path, body);
    assert!(bench.simulation.run_until_idle(7200), "{}", bench.simulation.journal_text());
    assert_eq!(bench.status()["state"]["stable"]["release"]["tag"], "v1");
}

#[test]
fn read_endpoints_answer() {
    let mut bench = TestBench::new();
    let empty = bench.status();
    assert_eq!((empty["state"]["last_deployment"].clone(), empty["trigger"].clone()), (json!(0), json!("manual")));
    bench.deploy_release(1);
    let (_, targets) = bench.ask("GET", "/v1/targets", Value::Null);
    assert_eq!(targets["targets"][0]["target"], "shop/api/prod");
    assert_eq!(targets["targets"][0]["stable"], "v1");
    assert_eq!(targets["targets"][0]["running"], Value::Null);
    let (_, of_shop) = bench.send("GET", "/v1/targets", "application=shop", "", ALICE);
    assert_eq!(of_shop["targets"], targets["targets"]);

    let path = format!("{TARGET}/journal");
    let (_, whole) = bench.send("GET", &path, "after=0&limit=200", "", ALICE);
    let entries = whole["entries"].as_array().expect("a list").clone();
    assert_eq!(entries.len(), bench.simulation.journal().len());
    let (_, page) = bench.send("GET", &path, "after=2&limit=3", "", ALICE);
    assert_eq!(page["entries"].as_array().map(Vec::as_slice), Some(&entries[2..5]));
    let (_, tail) = bench.send("GET", &path, "limit=2", "", ALICE);
    assert_eq!(tail["entries"].as_array().map(Vec::as_slice), Some(&entries[entries.len() - 2..]));
    let (_, releases) = bench.ask("GET", "/v1/releases/shop/api", Value::Null);
    assert_eq!(releases["releases"][0]["tag"], "v1");
}

/// A request, and its answer: method, path, body; status, code, part of the message.
type RefusedRequest<'a> = (&'a str, &'a str, Value, u16, &'a str, &'a str);

fn refusals(deploy: &str) -> Vec<RefusedRequest<'_>> {
    let long = "x".repeat(501);
    vec![
        ("GET", "/v1/targets/shop/api/dev", Value::Null, 404, "unknown_target", "there are: shop/api/prod"),
        ("GET", "/v1/targets/shpo/api/prod", Value::Null, 404, "unknown_application", "there are: shop"),
        (
            "GET",
            "/v1/targets/Shop/api/prod",
            Value::Null,
            400,
            "invalid_name",
            "`Shop` is not the name of an application",
        ),
        ("GET", "/v1/targets/shop/api/dev/journal", Value::Null, 404, "unknown_target", "shop/api/dev"),
        ("GET", "/v1/releases/shop/apo", Value::Null, 404, "unknown_service", "there are: api"),
        ("POST", "/v1/targets/shop/api/dev/deploy", json!({"release": "v1"}), 404, "unknown_target", "apply"),
        ("POST", deploy, json!({"release": "v9"}), 404, "unknown_release", "there are: v1 ("),
        ("POST", deploy, json!({"release": digest_of(9).as_str()}), 404, "unknown_release", "sha256:"),
        ("POST", deploy, json!({}), 400, "invalid_release", "latest"),
        ("POST", deploy, json!({"release": "v1", "reason": long}), 400, "reason_too_long", "at most 500"),
        ("POST", deploy, json!({"release": "v1", "reason": "a\u{1b}[2J"}), 400, "invalid_reason", "plain text"),
        ("POST", deploy, json!({"release": "v1", "request": "a b"}), 400, "invalid_request_key", "64 letters"),
        (
            "POST",
            deploy,
            json!({"release": "v1", "despite_alarms": ["other"]}),
            404,
            "unknown_alarm",
            "shop-api-prod-blue-5xx",
        ),
        (
            "POST",
            deploy,
            json!({"release": "v1", "despite_alarms": ["shop-api-prod-blue-5xx"]}),
            400,
            "reason_missing",
            "despite a firing alarm",
        ),
        ("POST", deploy, json!({"relase": "v1"}), 400, "invalid_request", "unknown field `relase`"),
        ("POST", "/v1/plan", json!({}), 400, "nothing_to_plan", "`text`"),
        ("POST", "/v1/plan", json!({"target": "shop/api"}), 400, "invalid_request", "application/service/environment"),
        ("GET", "/v1/nothing", Value::Null, 404, "unknown_route", ROUTES[3]),
        ("GET", "/", Value::Null, 404, "unknown_route", ROUTES[0]),
        ("POST", deploy, json!({"release": "v1", "reason": "a\u{202e}b"}), 400, "invalid_reason", "plain text"),
        (
            "POST",
            deploy,
            json!({"release": "v1", "request": "github:123:9001:promote:0011"}),
            400,
            "invalid_request_key",
            "keys of workflows' runs",
        ),
        ("GET", deploy, Value::Null, 405, "wrong_method", "use POST"),
        ("DELETE", TARGET, Value::Null, 405, "wrong_method", "use GET"),
    ]
}

#[test]
fn every_refusal_says_what_is_wrong_and_what_to_do() {
    let mut bench = TestBench::new();
    bench.release(1);
    let deploy = format!("{TARGET}/deploy");
    for (method, path, body, status, code, words) in refusals(&deploy) {
        let refused = bench.refused(method, path, body.clone());
        assert_eq!((refused.0, refused.1.as_str()), (status, code), "{method} {path} {body}: {}", refused.2);
        assert!(refused.2.contains(words), "{method} {path} {body}: {}", refused.2);
    }
    // IAM has judged whoever asks by the path as it stands: what denies `…/deploy` says nothing of these.
    for path in [
        format!("{deploy}/"),
        format!("/{deploy}"),
        deploy.replace("/prod/", "/prod%2F"),
        deploy.replace("/prod/", "/prod//"),
        deploy.replace("/prod/", "/dev/../prod/"),
        deploy.replace("/deploy", "/Deploy"),
    ] {
        let refused = bench.refused("POST", &path, json!({"release": "v1"}));
        assert!(["unknown_route", "wrong_method", "invalid_name"].contains(&refused.1.as_str()), "{path}: {refused:?}");
    }
    for (query, words) in [("limit=0", "1 to 200"), ("limit=many", "a whole number"), ("after=-1", "`after` is `-1`")] {
        let (status, answer) = bench.send("GET", &format!("{TARGET}/journal"), query, "", ALICE);
        assert_eq!(status, 400);
        assert!(answer["error"]["message"].as_str().is_some_and(|message| message.contains(words)), "{answer}");
    }
    let (status, answer) = bench.send("POST", &deploy, "", "{\"release\": \"v1\"", ALICE);
    assert_eq!((status, answer["error"]["code"].as_str()), (400, Some("invalid_json")));
    assert!(
        answer["error"]["message"].as_str().is_some_and(|message| message.contains("line 1 column 16")),
        "{answer}"
    );
    let (status, answer) = bench.send("POST", "/v1/apply", "", &" ".repeat(MAX_BODY_BYTES + 1), ALICE);
    assert_eq!((status, answer["error"]["code"].as_str()), (413, Some("too_large")));
    assert!(bench.status()["commands"].as_array().expect("a list").is_empty(), "nothing was asked of the target");
    assert_eq!(bench.simulation.state().map_or(0, |state| state.last_deployment), 0);
}

#[test]
fn a_removed_target_can_still_be_read_and_aborted() {
    let mut bench = TestBench::new();
    bench.release(1);
    bench.ask("POST", &format!("{TARGET}/deploy"), json!({"release": "v1"}));
    assert!(bench.simulation.run_until_condition(600, |simulation| simulation.stage_name() == Some("shifting")));
    let mut file: Value = serde_json::from_str(&bench.text).expect("JSON");
    let mut target = file["environments"]["prod"]["targets"]["api"].take();
    target["ecs"]["blue"] = json!("other-blue");
    target["ecs"]["green"] = json!("other-green");
    file["environments"] = json!({"stage": {"targets": {"api": target}}});
    let (status, answer) = bench.ask("POST", "/v1/apply", json!({"text": file.to_string()}));
    assert_eq!(status, 200, "{answer}");
    let warning = answer["warnings"][0].as_str().expect("a warning");
    assert!(warning.starts_with("shop/api/prod is no target any more, and deployment #1 (v1) still runs"), "{warning}");
    assert_eq!(bench.status()["policy_version"], Value::Null);
    let gone = bench.refused("POST", &format!("{TARGET}/deploy"), json!({"release": "v1"}));
    assert_eq!((gone.0, gone.1.as_str()), (404, "unknown_target"));
    let (status, _) = bench.ask("POST", &format!("{TARGET}/abort"), json!({"reason": "it is gone"}));
    assert_eq!(status, 200);
    assert!(bench.simulation.run_until_idle(7200), "{}", bench.simulation.journal_text());
    assert_eq!(bench.simulation.verdicts()[0].1, rollout::verdict::Verdict::Cancelled);
}

#[test]
fn retrying_an_unavailable_ledger_is_idempotent() {
    let built = PairSetup::new("shop", "api", "prod").build(Settings::default());
    let until = Some(Seconds(600).after(built.world.now()));
    let faults = Faults { seed: 7, unavailable: 0.4, lost_answer: 0.2, until, ..Faults::default() };
    let mut bench = TestBench { simulation: Simulation::new(built, faults), text: String::new() };
    let target = bench.simulation.target().clone();
    let release = release_of(&target, &bench.simulation.names().repository_uri, 1, bench.simulation.now());
    bench.simulation.ledger().store().put_release(&release);
    let mut refused = 0;
    loop {
        let body = json!({"release": "v1", "request": "key-1"});
        let (status, answer) = bench.ask("POST", &format!("{TARGET}/deploy"), body);
        if status == 200 {
            break;
        }
        assert_eq!((status, answer["error"]["code"].as_str()), (503, Some("ledger_unavailable")), "{answer}");
        refused += 1;
        assert!(refused < 200, "it never got through");
    }
    assert!(refused > 0, "the faults did not bite");
    assert!(bench.simulation.run_until_idle(7200), "{}", bench.simulation.journal_text());
    assert_eq!(bench.simulation.verdicts().len(), 1, "{}", bench.simulation.journal_text());
    let refusals = bench.simulation.journal().into_iter();
    let refusals = refusals.filter(|entry| matches!(entry.fact, Fact::CommandRefused { .. })).count();
    assert_eq!(refusals, 0, "one key was one command: {}", bench.simulation.journal_text());
}
