//! What can be asked has an end, which fits what it is kept in: at the border it is taken, one more is refused with the
//! number. The ledger's item has 400 KB, a request and an answer of Lambda 6 MB (AWS's quotas).

use super::bench::{ALICE, TARGET, TestBench};
use api::approvals::{link_pages, slack};
use api::operations::MAX_BODY_BYTES;
use api::workflows::MAX_REQUEST_BYTES;
use api::{MAX_CALLER_CHARS, MAX_LISTED, MAX_REASON_CHARS, MAX_REQUEST_KEY_CHARS, MAX_TRAIN_MEMBERS};
use policy::{MAX_FILE_BYTES, MAX_POLICY_BYTES, MAX_TARGETS};
use serde_json::{Value, json};

/// Lambda's quota of a request and of an answer, in bytes.
const LAMBDA_PAYLOAD_LIMIT: usize = 6 * 1024 * 1024;
/// DynamoDB's quota of an item, in bytes.
const DYNAMODB_ITEM_LIMIT: usize = 400 * 1024;

/// A target whose resources nobody else names.
fn target(number: usize) -> Value {
    let balancer = "arn:aws:elasticloadbalancing:eu-central-1:111122223333";
    let group = |side: &str, id: usize| format!("{balancer}:targetgroup/{side}-{number}/{id:016x}");
    json!({
        "ecs": {"cluster": "shop", "container": "app", "blue": format!("blue-{number}"), "green": format!("green-{number}")},
        "traffic": [{
            "blue": group("blue", number), "green": group("green", number + 1000),
            "rules": [format!("{balancer}:listener-rule/app/shop/0123456789abcdef/0123456789abcdef/{number:016x}")],
        }],
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
fn policy_lists_are_limited() {
    accepted(&file(50, 2));
    accepted(&file(5, 20));
    refused(&file(34, 3), &format!("there are 102 targets, at most {MAX_TARGETS} are allowed"));
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
    let rules = |count: usize| {
        let mut traffic = target(0)["traffic"].take();
        traffic[0]["rules"] = (0..count).map(|number| target(number)["traffic"][0]["rules"][0].take()).collect();
        traffic
    };
    accepted(&with("traffic", rules(5)));
    refused(&with("traffic", rules(6)), "there are 6 rules, at most 5 are allowed");
    let balancers = |count: usize| (0..count).map(|number| target(number)["traffic"][0].take()).collect::<Value>();
    accepted(&with("traffic", balancers(5)));
    refused(&with("traffic", balancers(6)), "there are 6 load balancers, at most 5 are allowed");
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
    refused(&wide, "as JSON, the policy takes");
}

#[test]
fn the_largest_policy_fits_a_dynamodb_item() {
    let mut text = file(1, 1).to_string();
    text.push_str(&format!("\n#{}", "x".repeat(MAX_FILE_BYTES - text.len() - 2)));
    assert_eq!(text.len(), MAX_FILE_BYTES);
    let mut bench = TestBench::new();
    let (status, answer) = bench.ask("POST", "/v1/apply", json!({ "text": text }));
    assert_eq!(status, 200, "{answer}");
    let (status, _, _) = bench.refused("POST", "/v1/apply", json!({"text": text + "x"}));
    assert_eq!(status, 422);
    // An item holds the text and what was made of it. Text that is longer once it is escaped is the ledger's to refuse.
    const { assert!(MAX_FILE_BYTES + MAX_POLICY_BYTES + 8 * 1024 < DYNAMODB_ITEM_LIMIT) };
}

#[test]
fn the_largest_body_fits_lambdas_limit() {
    let mut bench = TestBench::new();
    // At the border it is read, and found to be nothing.
    let (status, answer) = bench.send("POST", "/v1/apply", "", &" ".repeat(MAX_BODY_BYTES), ALICE);
    assert_eq!((status, answer["error"]["code"].as_str()), (400, Some("invalid_request")), "{answer}");
    let (status, answer) = bench.send("POST", "/v1/apply", "", &" ".repeat(MAX_BODY_BYTES + 1), ALICE);
    assert_eq!((status, answer["error"]["code"].as_str()), (413, Some("too_large")), "{answer}");
    // The gateway hands on base64, four characters for three bytes, with the rest of the event around it.
    const { assert!(MAX_BODY_BYTES / 3 * 4 + 256 * 1024 < LAMBDA_PAYLOAD_LIMIT) };
    // The largest file, with every byte of it escaped, is a body.
    const { assert!(MAX_FILE_BYTES * 6 + 64 * 1024 < MAX_BODY_BYTES) };
    const {
        assert!(
            MAX_REQUEST_BYTES < MAX_BODY_BYTES
                && slack::MAX_BODY_BYTES < MAX_BODY_BYTES
                && link_pages::MAX_FORM_BYTES < MAX_BODY_BYTES
        )
    };
}

#[test]
fn reasons_keys_callers_and_lists_are_limited() {
    let mut bench = TestBench::new();
    bench.release(1);
    let freeze = |length: usize| json!({"application": "shop", "reason": "ä".repeat(length)});
    bench.post_ok(ALICE, "/v1/freeze", freeze(MAX_REASON_CHARS));
    let (status, code, message) = bench.refused("POST", "/v1/freeze", freeze(MAX_REASON_CHARS + 1));
    assert_eq!((status, code.as_str()), (400, "reason_too_long"));
    assert!(message.contains("`reason` has 501 characters, at most 500 are kept"), "{message}");

    let deploy = |length: usize| json!({"release": "v1", "request": "r".repeat(length)});
    let path = format!("{TARGET}/deploy");
    bench.post_ok(ALICE, &path, deploy(MAX_REQUEST_KEY_CHARS));
    let (status, _, message) = bench.refused("POST", &path, deploy(MAX_REQUEST_KEY_CHARS + 1));
    assert!(status == 400 && message.contains("1 to 64"), "{status} {message}");

    let caller = "x".repeat(MAX_CALLER_CHARS + 1);
    bench.post_ok(&caller, "/v1/stop-the-line", json!({"reason": "why"}));
    let (_, brakes) = bench.send("GET", "/v1/brakes", "", "", ALICE);
    let longest = brakes["brakes"].as_array().into_iter().flatten().filter_map(|it| it["by"]["name"].as_str());
    assert_eq!(longest.map(str::len).max(), Some(MAX_CALLER_CHARS), "{brakes}");

    for list in [format!("{TARGET}/history"), format!("{TARGET}/journal"), "/v1/releases/shop/api".to_owned()] {
        let (status, answer) = bench.send("GET", &list, &format!("limit={MAX_LISTED}"), "", ALICE);
        assert_eq!(status, 200, "{answer}");
        let (status, answer) = bench.send("GET", &list, &format!("limit={}", MAX_LISTED + 1), "", ALICE);
        assert_eq!(status, 400, "{answer}");
    }
}

#[test]
fn a_train_has_at_most_25_services() {
    let mut bench = TestBench::new();
    bench.applied(&file(MAX_TRAIN_MEMBERS + 1, 1));
    let train = |count: usize| {
        let releases: serde_json::Map<String, Value> = (0..count).map(|it| (format!("s{it}"), json!("v1"))).collect();
        json!({"application": "large", "environment": "e0", "releases": releases, "reason": "all of it"})
    };
    let (_, code, _) = bench.refused("POST", "/v1/trains", train(MAX_TRAIN_MEMBERS));
    assert_eq!(code, "unknown_release", "it is not too many, only nothing was pushed yet");
    let (status, _, message) = bench.refused("POST", "/v1/trains", train(MAX_TRAIN_MEMBERS + 1));
    assert!(status == 400 && message.contains("a train has at most 25 services, not 26"), "{status} {message}");
}
