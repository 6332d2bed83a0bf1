//! What the functions behind the two public doors may do, read from `template.yaml`: look up what a request names and
//! write commands. Whoever takes one of them over can ask for deployments, and do nothing to one.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::OnceLock;
use tests::harness::lint;
use tests::harness::permissions::{self, Allowed};

fn template() -> &'static Value {
    static TEMPLATE: OnceLock<Value> = OnceLock::new();
    TEMPLATE.get_or_init(|| lint::template_as_json().unwrap_or_else(|failure| panic!("{failure}")))
}

fn properties(logical: &str) -> &'static Value {
    let resource = &template()["Resources"][logical];
    assert!(resource.is_object(), "template.yaml has no {logical}");
    &resource["Properties"]
}

fn allowed(function: &str) -> BTreeSet<Allowed> {
    permissions::allowed(template(), function).unwrap_or_else(|failure| panic!("{failure}"))
}

/// On the ledger, within partitions whose keys look like these.
fn on_ledger(action: &str, partitions: &[&str]) -> Allowed {
    let condition = json!({"ForAllValues:StringLike": {"dynamodb:LeadingKeys": partitions}});
    Allowed { condition: condition.to_string(), ..on(action, &json!({"Fn::GetAtt": ["LedgerTable", "Arn"]})) }
}

fn on(action: &str, resource: &Value) -> Allowed {
    Allowed { action: action.to_owned(), resource: resource.to_string(), condition: Value::Null.to_string() }
}

/// What both doors have: their log, policies, commands, the wake queue; and what a request names.
fn common(logs: &str, reads: &[(&str, &[&str])]) -> BTreeSet<Allowed> {
    let logs = json!({"Fn::GetAtt": [logs, "Arn"]});
    let mut common = BTreeSet::from([
        on("logs:CreateLogStream", &logs),
        on("logs:PutLogEvents", &logs),
        on_ledger("dynamodb:GetItem", &["POLICY#*"]),
        // Partitions of commands hold nothing but commands: a state, a journal, a policy or a release is out of reach.
        on_ledger("dynamodb:PutItem", &["COMMANDS#*"]),
        on("sqs:SendMessage", &json!({"Fn::GetAtt": ["WakesQueue", "Arn"]})),
    ]);
    common.extend(reads.iter().map(|(action, partitions)| on_ledger(action, partitions)));
    common
}

#[test]
fn promotions_may_only_read_lookups_and_write_commands() {
    let reads: [(&str, &[&str]); 3] = [
        ("dynamodb:Query", &["BRAKES", "COMMANDS#*"]),
        ("dynamodb:GetItem", &["RELEASE#*", "TARGET#*"]),
        ("dynamodb:Query", &["RELEASE#*", "TARGET#*"]),
    ];
    assert_eq!(allowed("Promotions"), common("PromotionsLogs", &reads));
}

#[test]
fn approvals_may_only_read_lookups_and_keys_and_write_commands() {
    let mut expected =
        common("ApprovalsLogs", &[("dynamodb:GetItem", &["TARGET#*"]), ("dynamodb:Query", &["TARGET#*"])]);
    expected.insert(on("secretsmanager:GetSecretValue", &json!({"Fn::GetAtt": ["LinkKey", "Id"]})));
    expected.insert(on("secretsmanager:GetSecretValue", &json!({"Ref": "SlackSigningSecretArn"})));
    assert_eq!(allowed("Approvals"), expected);
}

#[test]
fn only_notifier_and_approvals_can_read_secrets() {
    let mut holders = BTreeSet::new();
    for function in permissions::functions(template()) {
        for it in allowed(function).into_iter().filter(|it| it.action.starts_with("secretsmanager:")) {
            assert_eq!(it.action, "secretsmanager:GetSecretValue");
            holders.insert((it.resource, function));
        }
    }
    let (key, token) = (json!({"Fn::GetAtt": ["LinkKey", "Id"]}).to_string(), json!({"Ref": "SlackTokenSecretArn"}));
    let signing = json!({"Ref": "SlackSigningSecretArn"}).to_string();
    let expected =
        [(key.clone(), "Approvals"), (key, "Notifier"), (signing, "Approvals"), (token.to_string(), "Notifier")];
    assert_eq!(holders, BTreeSet::from(expected));
}

/// A policy may name a registry elsewhere: whether an image exists is asked by the sweep, the doctor, an approval and the
/// driver's preflight, which would otherwise count a denied answer as unknown and start a task whose image is gone.
#[test]
fn every_reader_of_images_may_read_those_of_other_registries() {
    let elsewhere = json!({"Fn::Sub": "arn:${AWS::Partition}:ecr:*:*:repository/${RepositoryPrefix}*"}).to_string();
    let mut readers = Vec::new();
    for function in permissions::functions(template()) {
        for read in allowed(function).into_iter().filter(|allowed| allowed.action == "ecr:DescribeImages") {
            assert_eq!(read.resource, elsewhere, "{function}");
            readers.push(function);
        }
    }
    assert_eq!(readers.len(), 3, "{readers:?}");
}

/// The routes of a function: method, path, and the API that has them.
fn routes(function: &str) -> BTreeSet<(String, String, String)> {
    let events = properties(function)["Events"].as_object().expect("a door has events");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let route = |event: &Value| {
        assert_eq!(event["Type"], "HttpApi", "{function} is reached by its API alone: {event}");
        let it = &event["Properties"];
        assert!(it["Auth"].is_null(), "who may come in is the API's to say, for all routes: {event}");
        (text(&it["Method"]), text(&it["Path"]), text(&it["ApiId"]["Ref"]))
    };
    events.values().map(route).collect()
}

fn assert_throttled(api: &str) {
    let settings = &properties(api)["DefaultRouteSettings"];
    let rate = |name: &str| settings[name].as_f64().unwrap_or(f64::MAX);
    assert!(rate("ThrottlingRateLimit") <= 50.0 && rate("ThrottlingBurstLimit") <= 100.0, "{api}: {settings}");
}

#[test]
fn every_workflow_route_requires_an_issuer_token() {
    let route = |method: &str, path: &str| (method.to_owned(), path.to_owned(), "PromotionsApi".to_owned());
    let expected = [route("POST", "/v1/promotions"), route("GET", "/v1/promotions/{proxy+}")];
    assert_eq!(routes("Promotions"), BTreeSet::from(expected));
    assert_throttled("PromotionsApi");
    let auth = &properties("PromotionsApi")["Auth"];
    let default = auth["DefaultAuthorizer"].as_str().expect("a default authorizer, for routes that say nothing");
    let jwt = &auth["Authorizers"][default];
    assert_eq!(jwt["JwtConfiguration"]["issuer"], json!({"Ref": "GitHubIssuer"}));
    assert_eq!(jwt["JwtConfiguration"]["audience"], json!([{"Ref": "GitHubAudience"}]));
    assert_eq!(template()["Parameters"]["GitHubIssuer"]["Default"], "https://token.actions.githubusercontent.com");
    // The gateway puts values into the line as they are, and a path is the asker's own words.
    let format = properties("PromotionsApi")["AccessLogSettings"]["Format"].as_str().expect("an access log");
    assert!(!format.contains("$context.path"), "{format}");
}

#[test]
fn approvals_have_three_routes_and_log_no_links() {
    let route = |method: &str, path: &str| (method.to_owned(), path.to_owned(), "ApprovalsApi".to_owned());
    let expected =
        [route("POST", "/slack/interactions"), route("GET", "/approvals/{token}"), route("POST", "/approvals/{token}")];
    assert_eq!(routes("Approvals"), BTreeSet::from(expected));
    assert_throttled("ApprovalsApi");
    let format = properties("ApprovalsApi")["AccessLogSettings"]["Format"].as_str().expect("an access log");
    for name in ["$context.path", "$context.authorizer", "$context.requestOverride"] {
        assert!(!format.contains(name), "{name} would write links into the log: {format}");
    }
}
