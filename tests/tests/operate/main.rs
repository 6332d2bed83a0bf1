//! What people ask, over the whole loop in virtual time: requests as the HTTP API has them, answers, and what becomes of
//! them in the world.

mod advice;
mod approval;
mod brakes;
mod doctor;
mod garbage;
mod limits;
mod promotion;
mod stand;
mod train;

use engine::operate::{LARGEST_BODY, ROUTES};
use rollout::{Fact, Seconds};
use serde_json::{Value, json};
use simulation::virtual_time::{Faults, Simulation};
use simulation::world::scene::{Scene, digest_of, release_of};
use simulation::world::{ImageBehaviour, Settings};
use stand::{ALICE, Stand, TARGET};

#[test]
fn a_file_is_applied_once_and_its_changes_are_told() {
    let mut stand = Stand::new();
    let text = stand.text.clone();
    let (_, again) = stand.ask("POST", "/v1/apply", json!({"text": text}));
    assert_eq!((again["unchanged"].clone(), again["changes"].clone()), (json!(true), json!([])));

    let other = text.replace("\"bake\":\"2m\"", "\"bake\":\"4m\"");
    assert_ne!(other, text);
    let (status, planned) = stand.ask("POST", "/v1/plan", json!({"text": other}));
    assert_eq!(status, 200, "{planned}");
    let (_, applied) = stand.ask("POST", "/v1/apply", json!({"text": other}));
    assert_eq!(applied["version"].as_u64(), again["version"].as_u64().map(|version| version + 1));
    assert_eq!(applied["changes"], planned["changes"]);
    let change = json!([{
        "path": "environments.prod.targets.api.strategy.bake", "target": "shop/api/prod", "before": "2m", "after": "4m",
    }]);
    assert_eq!(applied["changes"], change);
    let stored = stand.simulation.ledger().store().policy(&"shop".parse().expect("a name")).expect("applied");
    assert_eq!((stored.text, stored.by.as_str()), (other, ALICE));
}

#[test]
fn a_file_with_problems_is_refused_with_all_of_them_and_nothing_is_written() {
    let mut stand = Stand::new();
    let before = stand.simulation.ledger().store().policy(&"shop".parse().expect("a name")).expect("applied");
    let text = "application: shop\nservices:\n  api: {repostory: shop/api}\nenvironments: []\n";
    for path in ["/v1/apply", "/v1/plan"] {
        let (status, answer) = stand.ask("POST", path, json!({"text": text}));
        assert_eq!(status, 422, "{answer}");
        assert_eq!(answer["error"]["code"], "invalid_policy");
        let problems = answer["error"]["problems"].as_array().expect("a list");
        let places: Vec<_> =
            problems.iter().map(|problem| (problem["line"].as_u64(), problem["path"].as_str())).collect();
        assert!(places.contains(&(Some(3), Some("services.api.repostory"))), "{places:?}");
        assert!(places.contains(&(Some(4), Some("environments"))), "{places:?}");
    }
    let after = stand.simulation.ledger().store().policy(&"shop".parse().expect("a name")).expect("applied");
    assert_eq!(after, before);
}

#[test]
fn a_release_is_asked_for_by_tag_digest_or_its_beginning() {
    let digest = format!("sha256:{}", "3fa90c1e".repeat(8));
    for wanted in ["v3", &digest, "sha256:3fa90c1", "3fa90c1", "3FA90C1E", "latest"] {
        let mut stand = Stand::new();
        stand.release(1);
        stand.release(2);
        let mut newest = release_of(stand.simulation.target(), "registry/shop/api", 3, stand.simulation.now());
        newest.id.digest = digest.parse().expect("a digest");
        stand.simulation.ledger().store().put_release(&newest);
        let body = json!({"release": wanted, "reason": "wanted", "request": "key-1"});
        let (status, answer) = stand.ask("POST", &format!("{TARGET}/deploy"), body);
        assert_eq!(status, 200, "{wanted}: {answer}");
        assert_eq!(answer["release"]["tag"], "v3", "{wanted}");
        assert_eq!((answer["new"].clone(), answer["woken"].clone()), (json!(true), json!(true)));
        assert_eq!(answer["last_deployment"], 0);
        stand.simulation.run_for(20);
        let status = stand.status();
        assert_eq!(status["state"]["running"]["release"]["tag"], "v3", "{wanted}");
        assert_eq!(status["state"]["running"]["actor"]["name"], ALICE);
        assert_eq!(status["state"]["running"]["reason"], "wanted");
    }
}

#[test]
fn a_beginning_that_several_digests_have_is_refused() {
    let mut stand = Stand::new();
    stand.release(1);
    stand.release(2);
    let shared = digest_of(1).short()[..7].to_owned();
    assert!(digest_of(2).short().starts_with(&shared), "the simulation's digests count up");
    let (status, code, message) = stand.refused("POST", &format!("{TARGET}/deploy"), json!({"release": shared}));
    assert_eq!((status, code.as_str()), (409, "ambiguous_release"));
    assert!(message.contains("2 releases of shop/api begin with"), "{message}");
}

#[test]
fn asking_twice_with_one_key_is_asking_once_and_finds_the_deployment() {
    let mut stand = Stand::new();
    stand.release(1);
    let path = format!("{TARGET}/deploy");
    let body = json!({"release": "v1", "request": "key-1"});
    let (_, first) = stand.ask("POST", &path, body.clone());
    stand.simulation.run_for(20);
    let (status, second) = stand.ask("POST", &path, body);
    assert_eq!(status, 200);
    assert_eq!(second["command"], first["command"]);
    assert_eq!((second["new"].clone(), second["deployment"].clone()), (json!(false), json!(1)));
    assert!(stand.simulation.run_until_rest(7200), "{}", stand.simulation.story());
    assert_eq!(stand.simulation.verdicts().len(), 1, "{}", stand.simulation.story());
    let (_, third) = stand.ask("POST", &path, json!({"release": "v1"}));
    assert_eq!(third["new"], json!(true), "without a key every asking is a new one");
    assert_eq!(third["last_deployment"], 1);
}

#[test]
fn a_plan_says_what_then_happens() {
    let mut stand = Stand::new();
    stand.release(1);
    let calls = stand.simulation.ledger().store().journal(stand.simulation.target(), 0, 10).len();
    let (status, answer) = stand.ask("POST", "/v1/plan", json!({"target": "shop/api/prod"}));
    assert_eq!(status, 200, "{answer}");
    let plan = &answer["deployment"];
    assert_eq!(plan["outlook"], "starts", "{plan:#}");
    assert_eq!(plan["blockers"], json!([]));
    assert_eq!((plan["stable"]["slot"].clone(), plan["stable"]["running"].clone()), (json!("blue"), json!(4)));
    assert_eq!(plan["candidate"]["slot"], "green");
    assert_eq!(plan["release"]["tag"], "v1");
    // Nothing was written for it.
    assert_eq!(stand.simulation.ledger().store().journal(stand.simulation.target(), 0, 10).len(), calls);
    assert!(stand.status()["commands"].as_array().expect("a list").is_empty());

    let stages: Vec<&str> =
        plan["steps"].as_array().expect("steps").iter().filter_map(|step| step["stage"].as_str()).collect();
    let shares: Vec<u64> =
        plan["steps"].as_array().expect("steps").iter().filter_map(|step| step["traffic"].as_u64()).collect();
    assert_eq!(shares, [10, 50, 100]);
    assert_eq!(plan["takes_s"], 60 + 60 + 120 + 60 + 15);
    let planned_tasks = plan["steps"][2]["tasks"].as_u64();
    assert_eq!(planned_tasks, Some(4));

    stand.deployed(1);
    let mut happened: Vec<String> = vec!["preflight".to_owned()];
    let mut took = Vec::new();
    for entry in stand.simulation.journal() {
        match &entry.fact {
            // Writing and holding of a step are one stage each, of one name.
            Fact::StageEntered { stage, .. } if *stage != "shifting" || !took.contains(&entry.at) => {
                happened.push(stage.clone());
            }
            Fact::WeightsVerified { .. } => took.push(entry.at),
            _ => {}
        }
    }
    assert_eq!(happened, stages, "{}", stand.simulation.story());
    let story = stand.simulation.journal();
    let took = Seconds::between(story[0].at, story[story.len() - 1].at);
    let planned = plan["takes_s"].as_u64().expect("a number");
    assert!((planned..planned + 600).contains(&took.0), "planned {planned} s, took {took}");
}

#[test]
fn a_plan_tells_what_stands_in_the_way() {
    let mut stand = Stand::new();
    stand.release(1);
    let blue_alarm = stand.simulation.names().blue_alarm.clone();
    let plan = |stand: &mut Stand, body: Value| {
        let (status, answer) = stand.ask("POST", "/v1/plan", body);
        assert_eq!(status, 200, "{answer}");
        answer["deployment"].clone()
    };
    // The stable side misbehaves: its alarm fires.
    let stable_image = format!("{}@{}", stand.simulation.names().repository_uri, digest_of(0));
    stand.simulation.world(|world| world.set_image(&stable_image, ImageBehaviour::failing(0.5)));
    stand.simulation.run_for(120);
    let blocked = plan(&mut stand, json!({"target": "shop/api/prod", "release": "v1"}));
    assert_eq!(blocked["outlook"], "blocked", "{blocked:#}");
    assert!(blocked["blockers"][0].as_str().is_some_and(|reason| reason.contains(&blue_alarm)), "{blocked:#}");
    assert_eq!(blocked["alarms"][&blue_alarm]["state"], "firing");

    // A file that is not applied yet is planned with, too: without alarms nothing is in the way.
    let mut file: Value = serde_json::from_str(&stand.text).expect("JSON");
    file["environments"]["prod"]["targets"]["api"]["alarms"] = json!([]);
    let free = plan(&mut stand, json!({"text": file.to_string(), "target": "shop/api/prod"}));
    assert_eq!(free["outlook"], "starts", "{free:#}");
}

#[test]
fn a_plan_knows_what_runs_and_what_is_live() {
    let mut stand = Stand::new();
    stand.deployed(1);
    let (_, answer) = stand.ask("POST", "/v1/plan", json!({"target": "shop/api/prod", "release": "v1"}));
    assert_eq!(answer["deployment"]["outlook"], "refused");
    assert_eq!(answer["deployment"]["blockers"], json!(["v1 is the stable release already"]));
    assert_eq!(answer["deployment"]["steps"], json!([]));

    stand.release(2);
    stand.ask("POST", &format!("{TARGET}/deploy"), json!({"release": "v2"}));
    stand.simulation.run_for(60);
    stand.release(3);
    let (_, answer) = stand.ask("POST", "/v1/plan", json!({"target": "shop/api/prod"}));
    assert_eq!(answer["deployment"]["outlook"], "queued");
    let blocker = answer["deployment"]["blockers"][0].as_str().expect("one");
    assert!(blocker.starts_with("deployment #2 (v2, "), "{blocker}");
}

#[test]
fn a_running_deployment_is_ended_with_a_reason_and_only_that_one() {
    let mut stand = Stand::new();
    stand.release(1);
    let path = format!("{TARGET}/abort");
    let nothing = stand.refused("POST", &path, json!({"reason": "stop"}));
    assert_eq!((nothing.0, nothing.1.as_str()), (409, "not_running"));

    stand.ask("POST", &format!("{TARGET}/deploy"), json!({"release": "v1"}));
    assert!(stand.simulation.run_until_that(600, |simulation| simulation.stage_name() == Some("shifting")));
    let (status, code, message) = stand.refused("POST", &path, json!({}));
    assert_eq!((status, code.as_str()), (400, "reason_missing"));
    assert!(message.contains("`reason`"), "{message}");
    let other = stand.refused("POST", &path, json!({"deployment": 7, "reason": "stop"}));
    assert_eq!(
        (other.0, other.2.as_str()),
        (409, "deployment #1 is running on shop/api/prod, not #7: nothing was ended")
    );

    let (status, answer) = stand.ask("POST", &path, json!({"deployment": 1, "reason": "the basket is empty"}));
    assert_eq!((status, answer["deployment"].clone()), (200, json!(1)));
    assert!(stand.simulation.run_until_rest(7200), "{}", stand.simulation.story());
    let (_, history) = stand.ask("GET", &format!("{TARGET}/history"), Value::Null);
    assert_eq!(history["deployments"][0]["verdict"], "cancelled");
    let over = stand.refused("POST", &path, json!({"deployment": 1, "reason": "again"}));
    assert_eq!((over.0, over.1.as_str()), (409, "not_running"));
}

#[test]
fn a_rollback_goes_to_the_release_before() {
    let mut stand = Stand::new();
    let path = format!("{TARGET}/rollback");
    let nowhere = stand.refused("POST", &path, json!({"reason": "back"}));
    assert_eq!((nowhere.0, nowhere.1.as_str()), (409, "nothing_to_go_back_to"));
    stand.deployed(1);
    stand.deployed(2);
    let missing = stand.refused("POST", &path, json!({"reason": "  "}));
    assert_eq!((missing.0, missing.1.as_str()), (400, "reason_missing"));
    let (status, answer) = stand.ask("POST", &path, json!({"reason": "v2 loses orders"}));
    assert_eq!(status, 200, "{answer}");
    assert_eq!((answer["deployment"].clone(), answer["last_deployment"].clone()), (Value::Null, json!(2)));
    assert!(stand.simulation.run_until_rest(7200), "{}", stand.simulation.story());
    let (_, history) = stand.ask("GET", &format!("{TARGET}/history"), Value::Null);
    let newest = &history["deployments"][0];
    assert_eq!((newest["number"].clone(), newest["release"]["tag"].clone()), (json!(3), json!("v1")));
    assert_eq!(newest["verdict"], "succeeded");
    assert_eq!(stand.status()["state"]["stable"]["release"]["tag"], "v1");
}

#[test]
fn questions_are_answered() {
    let mut stand = Stand::new();
    let empty = stand.status();
    assert_eq!((empty["state"]["last_deployment"].clone(), empty["trigger"].clone()), (json!(0), json!("manual")));
    stand.deployed(1);
    let (_, targets) = stand.ask("GET", "/v1/targets", Value::Null);
    assert_eq!(targets["targets"][0]["target"], "shop/api/prod");
    assert_eq!(targets["targets"][0]["stable"], "v1");
    assert_eq!(targets["targets"][0]["running"], Value::Null);
    let (_, of_shop) = stand.raw("GET", "/v1/targets", "application=shop", "", ALICE);
    assert_eq!(of_shop["targets"], targets["targets"]);

    let path = format!("{TARGET}/journal");
    let (_, whole) = stand.raw("GET", &path, "after=0&limit=200", "", ALICE);
    let entries = whole["entries"].as_array().expect("a list").clone();
    assert_eq!(entries.len(), stand.simulation.journal().len());
    let (_, page) = stand.raw("GET", &path, "after=2&limit=3", "", ALICE);
    assert_eq!(page["entries"].as_array().map(Vec::as_slice), Some(&entries[2..5]));
    let (_, tail) = stand.raw("GET", &path, "limit=2", "", ALICE);
    assert_eq!(tail["entries"].as_array().map(Vec::as_slice), Some(&entries[entries.len() - 2..]));
    let (_, releases) = stand.ask("GET", "/v1/releases/shop/api", Value::Null);
    assert_eq!(releases["releases"][0]["tag"], "v1");
}

#[test]
fn every_refusal_says_what_is_wrong_and_what_to_do() {
    let mut stand = Stand::new();
    stand.release(1);
    let deploy = format!("{TARGET}/deploy");
    let long = "x".repeat(501);
    let cases: Vec<(&str, &str, Value, u16, &str, &str)> = vec![
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
        ("POST", &deploy, json!({"release": "v9"}), 404, "unknown_release", "there are: v1 ("),
        ("POST", &deploy, json!({"release": digest_of(9).as_str()}), 404, "unknown_release", "sha256:"),
        ("POST", &deploy, json!({}), 400, "invalid_release", "latest"),
        ("POST", &deploy, json!({"release": "v1", "reason": long}), 400, "reason_too_long", "at most 500"),
        ("POST", &deploy, json!({"release": "v1", "reason": "a\u{1b}[2J"}), 400, "invalid_reason", "plain text"),
        ("POST", &deploy, json!({"release": "v1", "request": "a b"}), 400, "invalid_request_key", "64 letters"),
        (
            "POST",
            &deploy,
            json!({"release": "v1", "despite_alarms": ["other"]}),
            404,
            "unknown_alarm",
            "shop-api-prod-blue-5xx",
        ),
        (
            "POST",
            &deploy,
            json!({"release": "v1", "despite_alarms": ["shop-api-prod-blue-5xx"]}),
            400,
            "reason_missing",
            "despite a firing alarm",
        ),
        ("POST", &deploy, json!({"relase": "v1"}), 400, "invalid_request", "unknown field `relase`"),
        ("POST", "/v1/plan", json!({}), 400, "nothing_to_plan", "`text`"),
        ("POST", "/v1/plan", json!({"target": "shop/api"}), 400, "invalid_request", "application/service/environment"),
        ("GET", "/v1/nothing", Value::Null, 404, "unknown_route", ROUTES[3]),
        ("GET", "/", Value::Null, 404, "unknown_route", ROUTES[0]),
        ("POST", &deploy, json!({"release": "v1", "reason": "a\u{202e}b"}), 400, "invalid_reason", "plain text"),
        (
            "POST",
            &deploy,
            json!({"release": "v1", "request": "github:123:9001:promote:0011"}),
            400,
            "invalid_request_key",
            "keys of workflows' runs",
        ),
        ("GET", &deploy, Value::Null, 405, "wrong_method", "use POST"),
        ("DELETE", TARGET, Value::Null, 405, "wrong_method", "use GET"),
    ];
    for (method, path, body, status, code, words) in cases {
        let refused = stand.refused(method, path, body.clone());
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
        let refused = stand.refused("POST", &path, json!({"release": "v1"}));
        assert!(["unknown_route", "wrong_method", "invalid_name"].contains(&refused.1.as_str()), "{path}: {refused:?}");
    }
    for (query, words) in [("limit=0", "1 to 200"), ("limit=many", "a whole number"), ("after=-1", "`after` is `-1`")] {
        let (status, answer) = stand.raw("GET", &format!("{TARGET}/journal"), query, "", ALICE);
        assert_eq!(status, 400);
        assert!(answer["error"]["message"].as_str().is_some_and(|message| message.contains(words)), "{answer}");
    }
    let (status, answer) = stand.raw("POST", &deploy, "", "{\"release\": \"v1\"", ALICE);
    assert_eq!((status, answer["error"]["code"].as_str()), (400, Some("invalid_json")));
    assert!(
        answer["error"]["message"].as_str().is_some_and(|message| message.contains("line 1 column 16")),
        "{answer}"
    );
    let (status, answer) = stand.raw("POST", "/v1/apply", "", &" ".repeat(LARGEST_BODY + 1), ALICE);
    assert_eq!((status, answer["error"]["code"].as_str()), (413, Some("too_large")));
    assert!(stand.status()["commands"].as_array().expect("a list").is_empty(), "nothing was asked of the target");
    assert_eq!(stand.simulation.state().map_or(0, |state| state.last_deployment), 0);
}

#[test]
fn a_target_that_left_the_file_is_still_shown_and_ended() {
    let mut stand = Stand::new();
    stand.release(1);
    stand.ask("POST", &format!("{TARGET}/deploy"), json!({"release": "v1"}));
    assert!(stand.simulation.run_until_that(600, |simulation| simulation.stage_name() == Some("shifting")));
    let mut file: Value = serde_json::from_str(&stand.text).expect("JSON");
    let mut target = file["environments"]["prod"]["targets"]["api"].take();
    target["blue"]["service"] = json!("other-blue");
    target["green"]["service"] = json!("other-green");
    file["environments"] = json!({"stage": {"targets": {"api": target}}});
    let (status, answer) = stand.ask("POST", "/v1/apply", json!({"text": file.to_string()}));
    assert_eq!(status, 200, "{answer}");
    let warning = answer["warnings"][0].as_str().expect("a warning");
    assert!(warning.starts_with("shop/api/prod is no target any more, and deployment #1 (v1) still runs"), "{warning}");
    assert_eq!(stand.status()["policy_version"], Value::Null);
    let gone = stand.refused("POST", &format!("{TARGET}/deploy"), json!({"release": "v1"}));
    assert_eq!((gone.0, gone.1.as_str()), (404, "unknown_target"));
    let (status, _) = stand.ask("POST", &format!("{TARGET}/abort"), json!({"reason": "it is gone"}));
    assert_eq!(status, 200);
    assert!(stand.simulation.run_until_rest(7200), "{}", stand.simulation.story());
    assert_eq!(stand.simulation.verdicts()[0].1, rollout::stage::Verdict::Cancelled);
}

#[test]
fn a_ledger_that_does_not_answer_is_said_and_asking_again_is_harmless() {
    let built = Scene::new("shop", "api", "prod").build(Settings::default());
    let until = Some(Seconds(600).after(built.world.now()));
    let faults = Faults { seed: 7, unavailable: 0.4, lost_answer: 0.2, until, ..Faults::default() };
    let mut stand = Stand { simulation: Simulation::new(built, faults), text: String::new() };
    let target = stand.simulation.target().clone();
    let release = release_of(&target, &stand.simulation.names().repository_uri, 1, stand.simulation.now());
    stand.simulation.ledger().store().put_release(&release);
    let mut refused = 0;
    loop {
        let body = json!({"release": "v1", "request": "key-1"});
        let (status, answer) = stand.ask("POST", &format!("{TARGET}/deploy"), body);
        if status == 200 {
            break;
        }
        assert_eq!((status, answer["error"]["code"].as_str()), (503, Some("ledger_unavailable")), "{answer}");
        refused += 1;
        assert!(refused < 200, "it never got through");
    }
    assert!(refused > 0, "the faults did not bite");
    assert!(stand.simulation.run_until_rest(7200), "{}", stand.simulation.story());
    assert_eq!(stand.simulation.verdicts().len(), 1, "{}", stand.simulation.story());
    let refusals = stand.simulation.journal().into_iter();
    let refusals = refusals.filter(|entry| matches!(entry.fact, Fact::CommandRefused { .. })).count();
    assert_eq!(refusals, 0, "one key was one command: {}", stand.simulation.story());
}
