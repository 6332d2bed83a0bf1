//! What can be asked has an end, which fits what it is kept in: at the border it is taken, one more is refused with the
//! number. The ledger's item has 400 KB, a request and an answer of Lambda 6 MB (AWS's quotas).

use super::stand::{ALICE, Stand, TARGET};
use engine::approving::{mail, slack};
use engine::operate::{LARGEST_BODY, LONGEST_CALLER, LONGEST_REASON, LONGEST_REQUEST, MOST_LISTED, MOST_MEMBERS};
use engine::workflows::LARGEST_REQUEST;
use policy::{LARGEST_FILE, LARGEST_POLICY, MOST_TARGETS};
use serde_json::{Value, json};

/// Lambda's quota of a request and of an answer, in bytes.
const LAMBDA: usize = 6 * 1024 * 1024;
/// DynamoDB's quota of an item, in bytes.
const ITEM: usize = 400 * 1024;

/// A target whose resources nobody else names.
fn target(number: usize) -> Value {
    let balancer = "arn:aws:elasticloadbalancing:eu-central-1:111122223333";
    let side = |side: &str, id: usize| json!({"service": format!("{side}-{number}"), "target_group": format!("{balancer}:targetgroup/{side}-{number}/{id:016x}")});
    json!({
        "cluster": "shop", "container": "app", "blue": side("blue", number), "green": side("green", number + 1000),
        "rules": [format!("{balancer}:listener-rule/app/shop/0123456789abcdef/0123456789abcdef/{number:016x}")],
        "alarms": [format!("errors-{number}")],
    })
}

/// A file of so many services in so many environments.
fn file(services: usize, environments: usize) -> Value {
    let name = |what: &str, number: usize| format!("{what}{number}");
    let mut file = json!({"application": "large", "services": {}, "environments": {}});
    for service in 0..services {
        file["services"][name("s", service)] =
            json!({"repository": format!("large/s{service}"), "tags": {"glob": "v*"}});
    }
    for environment in 0..environments {
        let mut targets = json!({});
        for service in 0..services {
            targets[name("s", service)] = target(environment * services + service);
        }
        file["environments"][name("e", environment)] = json!({"trigger": "push", "targets": targets});
    }
    file
}

fn accepted(file: &Value) {
    if let Err(problems) = policy::parse(&file.to_string()) {
        panic!("{problems}");
    }
}

#[track_caller]
fn refused(file: &Value, words: &str) {
    let problems = policy::parse(&file.to_string()).expect_err("one too many").to_string();
    assert!(problems.contains(words), "{problems}");
}

#[test]
fn a_policy_names_no_more_than_is_kept_of_it() {
    accepted(&file(50, 2));
    accepted(&file(5, 20));
    refused(&file(34, 3), &format!("there are 102 targets, at most {MOST_TARGETS} are allowed"));
    refused(&file(51, 1), "there are 51 services by name: expected 1 to 50");
    refused(&file(1, 21), "there are 21 environments by name: expected 1 to 20");

    let with = |key: &str, value: Value| {
        let mut file = file(1, 1);
        file["environments"]["e0"]["targets"]["s0"][key] = value;
        file
    };
    let alarms = |count: usize| json!((0..count).map(|number| format!("alarm-{number}")).collect::<Vec<_>>());
    accepted(&with("alarms", alarms(20)));
    refused(&with("alarms", alarms(21)), "there are 21 alarms, at most 20 are allowed");
    let rules = |count: usize| json!((0..count).map(|number| target(number)["rules"][0].clone()).collect::<Vec<_>>());
    accepted(&with("rules", rules(5)));
    refused(&with("rules", rules(6)), "there are 6 rules, at most 5 are allowed");
    let steps = |count: usize| {
        let mut steps: Vec<Value> =
            (1..count).map(|percent| json!({"traffic": format!("{percent}%"), "hold": "1m"})).collect();
        steps.push(json!({"traffic": "100%"}));
        json!({ "steps": steps })
    };
    accepted(&with("strategy", steps(50)));
    refused(&with("strategy", steps(51)), "there are 51 steps, at most 50 are allowed");

    let mut wide = file(50, 2);
    let long = json!((0..6).map(|number| format!("{number:0255}")).collect::<Vec<_>>());
    for environment in ["e0", "e1"] {
        for (_, target) in wide["environments"][environment]["targets"].as_object_mut().expect("targets") {
            target["alarms"] = long.clone();
        }
    }
    refused(&wide, "written out, the targets take");
}

#[test]
fn a_file_and_what_is_made_of_it_fit_an_item() {
    let mut text = file(1, 1).to_string();
    text.push_str(&format!("\n#{}", "x".repeat(LARGEST_FILE - text.len() - 2)));
    assert_eq!(text.len(), LARGEST_FILE);
    let mut stand = Stand::new();
    let (status, answer) = stand.ask("POST", "/v1/apply", json!({ "text": text }));
    assert_eq!(status, 200, "{answer}");
    let (status, _, _) = stand.refused("POST", "/v1/apply", json!({"text": text + "x"}));
    assert_eq!(status, 422);
    // An item holds the text and what was made of it. Text that is longer once it is escaped is the ledger's to refuse.
    const { assert!(LARGEST_FILE + LARGEST_POLICY + 8 * 1024 < ITEM) };
}

#[test]
fn bodies_fit_what_lambda_takes_and_one_byte_more_is_refused() {
    let mut stand = Stand::new();
    // At the border it is read, and found to be nothing.
    let (status, answer) = stand.raw("POST", "/v1/apply", "", &" ".repeat(LARGEST_BODY), ALICE);
    assert_eq!((status, answer["error"]["code"].as_str()), (400, Some("invalid_request")), "{answer}");
    let (status, answer) = stand.raw("POST", "/v1/apply", "", &" ".repeat(LARGEST_BODY + 1), ALICE);
    assert_eq!((status, answer["error"]["code"].as_str()), (413, Some("too_large")), "{answer}");
    // The gateway hands on base64, four characters for three bytes, with the rest of the event around it.
    const { assert!(LARGEST_BODY / 3 * 4 + 256 * 1024 < LAMBDA) };
    // The largest file, with every byte of it escaped, is a body.
    const { assert!(LARGEST_FILE * 6 + 64 * 1024 < LARGEST_BODY) };
    const {
        assert!(
            LARGEST_REQUEST < LARGEST_BODY && slack::LARGEST_BODY < LARGEST_BODY && mail::LARGEST_FORM < LARGEST_BODY
        )
    };
}

#[test]
fn reasons_keys_callers_and_lists_have_an_end() {
    let mut stand = Stand::new();
    stand.release(1);
    let freeze = |length: usize| json!({"application": "shop", "reason": "ä".repeat(length)});
    stand.done(ALICE, "/v1/freeze", freeze(LONGEST_REASON));
    let (status, code, message) = stand.refused("POST", "/v1/freeze", freeze(LONGEST_REASON + 1));
    assert_eq!((status, code.as_str()), (400, "reason_too_long"));
    assert!(message.contains("`reason` has 501 characters, at most 500 are kept"), "{message}");

    let deploy = |length: usize| json!({"release": "v1", "request": "r".repeat(length)});
    let path = format!("{TARGET}/deploy");
    stand.done(ALICE, &path, deploy(LONGEST_REQUEST));
    let (status, _, message) = stand.refused("POST", &path, deploy(LONGEST_REQUEST + 1));
    assert!(status == 400 && message.contains("1 to 64"), "{status} {message}");

    let caller = "x".repeat(LONGEST_CALLER + 1);
    stand.done(&caller, "/v1/stop-the-line", json!({"reason": "why"}));
    let (_, brakes) = stand.raw("GET", "/v1/brakes", "", "", ALICE);
    let longest = brakes["brakes"].as_array().into_iter().flatten().filter_map(|it| it["by"]["name"].as_str());
    assert_eq!(longest.map(str::len).max(), Some(LONGEST_CALLER), "{brakes}");

    for list in [format!("{TARGET}/history"), format!("{TARGET}/journal"), "/v1/releases/shop/api".to_owned()] {
        let (status, answer) = stand.raw("GET", &list, &format!("limit={MOST_LISTED}"), "", ALICE);
        assert_eq!(status, 200, "{answer}");
        let (status, answer) = stand.raw("GET", &list, &format!("limit={}", MOST_LISTED + 1), "", ALICE);
        assert_eq!(status, 400, "{answer}");
    }
}

#[test]
fn a_train_has_so_many_services_and_no_more() {
    let mut stand = Stand::new();
    stand.applied(&file(MOST_MEMBERS + 1, 1));
    let train = |count: usize| {
        let releases: serde_json::Map<String, Value> = (0..count).map(|it| (format!("s{it}"), json!("v1"))).collect();
        json!({"application": "large", "environment": "e0", "releases": releases, "reason": "all of it"})
    };
    let (_, code, _) = stand.refused("POST", "/v1/trains", train(MOST_MEMBERS));
    assert_eq!(code, "unknown_release", "it is not too many, only nothing was pushed yet");
    let (status, _, message) = stand.refused("POST", "/v1/trains", train(MOST_MEMBERS + 1));
    assert!(status == 400 && message.contains("a train has at most 25 services, not 26"), "{status} {message}");
}
