//! What the roles of `template.yaml` allow, and whether the deployed functions keep to it.
//!
//! The emulator holds calls against the roles' actions and resources. It knows nothing of partition keys
//! (`dynamodb:LeadingKeys`) and nothing of what the wire front answers itself: both are held against the roles here,
//! after the fact, from the front's log, what is called of ECS with its resources.

mod ecs;

use super::HarnessError;
use super::emulators::{REGION, ministack};
use super::lint;
use crate::front::Call;
use ecs::{allows_resource, matches_wildcards};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// One thing that a role allows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allowed {
    /// `dynamodb:GetItem`
    pub action: String,
    /// On what: JSON, as the template has it.
    pub resource: String,
    /// Under which condition: JSON; `null` for none.
    pub condition: String,
}

/// Everything that the role of a function allows, by the function's logical name.
///
/// # Errors
/// [`HarnessError`] where the function has another role than its own, or more than that, or the role is not of the form
/// that all of them have.
pub fn allowed(template: &Value, function: &str) -> Result<BTreeSet<Allowed>, HarnessError> {
    let wrong = |what: &dyn std::fmt::Display| HarnessError(format!("template.yaml: {function}: {what}"));
    let role_name = format!("{function}Role");
    let properties = |logical: &str| &template["Resources"][logical]["Properties"];
    if properties(function)["Role"] != json!({"Fn::GetAtt": [role_name, "Arn"]}) {
        return Err(wrong(&format!("its role is not {role_name}")));
    }
    let role = properties(&role_name);
    if !properties(function)["Policies"].is_null() || !role["ManagedPolicyArns"].is_null() {
        return Err(wrong(&"its role's own policy is not all that it has"));
    }
    let mut allowed = BTreeSet::new();
    let statements = list(&role["Policies"]).flat_map(|policy| list(&policy["PolicyDocument"]["Statement"]));
    for statement in statements {
        // A statement that is there only with a parameter: what it allows then counts.
        let statement = statement.pointer("/Fn::If/1").unwrap_or(statement);
        let plain = ["NotAction", "NotResource", "Principal"].iter().all(|key| statement[key].is_null());
        if statement["Effect"] != "Allow" || !plain {
            return Err(wrong(statement));
        }
        for action in list(&statement["Action"]).filter_map(Value::as_str) {
            if action.contains('*') {
                return Err(wrong(&format!("{action} is more than one action")));
            }
            for resource in list(&statement["Resource"]) {
                let (resource, condition) = (resource.to_string(), statement["Condition"].to_string());
                allowed.insert(Allowed { action: action.to_owned(), resource, condition });
            }
        }
    }
    Ok(allowed)
}

/// The logical names of all functions.
#[must_use]
pub fn functions(template: &Value) -> Vec<&str> {
    let resources = template["Resources"].as_object().into_iter().flatten();
    let functions = resources.filter(|(_, resource)| resource["Type"] == "AWS::Serverless::Function");
    functions.map(|(logical, _)| logical.as_str()).collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    let (many, one) = match value {
        Value::Array(items) => (Some(items), None),
        Value::Null => (None, None),
        single => (None, Some(single)),
    };
    many.into_iter().flatten().chain(one)
}

/// Calls that a function made and its role does not allow, each as a sentence. `resources` are physical names by logical
/// ones.
///
/// # Errors
/// [`HarnessError`] where the template cannot be read.
pub(super) fn disallowed_calls(
    calls: &[Call],
    resources: &BTreeMap<String, String>,
) -> Result<BTreeSet<String>, HarnessError> {
    let template = lint::template_as_json()?;
    let mut roles = BTreeMap::new();
    for function in functions(&template) {
        let physical = |logical: &str| resources.get(logical).map_or("", String::as_str);
        let key = access_key(physical(function), physical(&format!("{function}Role")));
        roles.insert(key, (function, allowed(&template, function)?));
    }
    let mut found = BTreeSet::new();
    let mut known = false;
    for call in calls {
        let Some((function, role)) = roles.get(&call.access_key) else { continue };
        known = true;
        for (action, partition) in needed_actions(call) {
            let of_action = || role.iter().filter(|allowed| allowed.action == action);
            let fits = match &partition {
                Some(partition) => of_action().any(|allowed| allows_partition(allowed, partition)),
                None => of_action().next().is_some(),
            };
            if !fits {
                let on = partition.map(|partition| format!(" in the partition {partition}")).unwrap_or_default();
                found.insert(format!("{function} called {action}{on}, which its role does not allow"));
            }
        }
        let action = format!("ecs:{}", call.operation);
        for resource in ecs::resources(call) {
            let fits = |allowed: &Allowed| allowed.action == action && allows_resource(allowed, &resource, &template);
            if !role.iter().any(fits) {
                found.insert(format!("{function} called {action} on {resource}, which its role does not allow"));
            }
        }
    }
    if !known && !calls.is_empty() {
        found.insert("no call could be attributed to a function: nothing was checked".to_owned());
    }
    Ok(found)
}

/// Which of the two suites with the deployed product has run as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// `end_to_end`: from a push to a verdict.
    Rollouts,
    /// `end_to_end_promotion`: from environment to environment.
    Promotion,
}

/// One action that one function has, on what it has it: a pattern of partition keys, a queue, or nothing that tells two
/// statements apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct GrantedAction {
    function: String,
    action: String,
    on: String,
}

impl std::fmt::Display for GrantedAction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { function, action, on } = self;
        write!(f, "{function} may {action}{}{on}", if on.is_empty() { "" } else { " on " })
    }
}

/// What is allowed and no call in the front's log shows, with the reason. `*`: every function.
#[rustfmt::skip]
const NOT_OBSERVABLE: &[(&str, &[&str], &str, &str)] = &[
    ("*", &["logs:CreateLogStream", "logs:PutLogEvents"], "", "Lambda writes a function's log, in the role's name"),
    ("*", &["iam:PassRole", "ecs:TagResource"], "",
        "ECS asks for it itself while it registers a task definition with roles and tags, or runs a task"),
    ("*", &["secretsmanager:GetSecretValue", "sns:Publish", "events:PutEvents"], "",
        "goes to the emulator past the front; without it no link, no message in Slack, no mail and no event would come, \
         which tests of both suites wait for"),
    ("*", &["cognito-idp:DescribeUserPoolClient"], "",
        "the balancer asks for it itself when a rule that signs people in is written back"),
    ("RolloutDriver", &["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], "WakesQueue",
        "the event source mapping takes messages, in the role's name"),
    ("RolloutDriver", &["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], "UrgentWakesQueue",
        "the event source mapping takes messages, in the role's name"),
    ("Notifier", &["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:ListStreams"],
        "", "the event source mapping reads the stream, in the role's name"),
    ("ImagePushed", &["sqs:SendMessage"], "DeadLetterQueue", "Lambda lays down events that failed, in the role's name"),
    ("SignalReceived", &["sqs:SendMessage"], "DeadLetterQueue", "Lambda lays down events that failed, in the role's name"),
    ("Notifier", &["sqs:SendMessage"], "DeadLetterQueue",
        "for what a channel refuses, and records that failed for half a day: both suites want the queue empty at their end"),
];

fn matches_exemption(grant: &GrantedAction, (function, actions, on): (&str, &[&str], &str)) -> bool {
    (function == "*" || function == grant.function) && actions.contains(&grant.action.as_str()) && on == grant.on
}

/// Everything that the roles allow, one by one.
fn grants(template: &Value) -> Result<BTreeSet<GrantedAction>, HarnessError> {
    let mut grants = BTreeSet::new();
    for function in functions(template) {
        for it in allowed(template, function)? {
            let condition: Value = serde_json::from_str(&it.condition).unwrap_or_default();
            let resource: Value = serde_json::from_str(&it.resource).unwrap_or_default();
            let partitions: Vec<&str> =
                list(&condition["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]).filter_map(Value::as_str).collect();
            let queue = resource["Fn::GetAtt"][0].as_str().filter(|_| it.action.starts_with("sqs:"));
            let grant = |on: &str| GrantedAction {
                function: function.to_owned(),
                action: it.action.clone(),
                on: on.to_owned(),
            };
            if partitions.is_empty() {
                grants.insert(grant(queue.unwrap_or_default()));
            }
            grants.extend(partitions.into_iter().map(grant));
        }
    }
    Ok(grants)
}

/// What the suites made use of, as the first one leaves it for the second.
#[derive(Debug, Serialize, Deserialize)]
struct UsedGrants {
    /// SHA-256 of the template that it was of.
    template: String,
    grants: BTreeSet<GrantedAction>,
}

/// Where the first suite leaves what it made use of: beside the suites themselves.
fn used_grants_path() -> Result<PathBuf, HarnessError> {
    let suite = std::env::current_exe().map_err(|error| HarnessError(format!("where this suite lies: {error}")))?;
    Ok(suite.with_file_name("permissions-used.json"))
}

/// Grants that no call of both suites, run as a whole, has made use of and nobody gives a reason for, and reasons that do
/// not hold: each a sentence. The first suite leaves what it knows; the second one judges. Where the first has not run on
/// this template, nothing is judged, and that is said.
///
/// # Errors
/// [`HarnessError`] where the template cannot be read, or what was used cannot be kept.
pub(super) fn unused(
    suite: Suite,
    calls: &[Call],
    resources: &BTreeMap<String, String>,
) -> Result<BTreeSet<String>, HarnessError> {
    let template = lint::template_as_json()?;
    let hash = hex::encode(Sha256::digest(template.to_string()));
    let mut used = used(&template, calls, resources);
    let path = used_grants_path()?;
    match suite {
        Suite::Rollouts => {
            let text = serde_json::to_string(&UsedGrants { template: hash, grants: used })
                .map_err(|error| HarnessError(format!("what was used: {error}")))?;
            std::fs::write(&path, text).map_err(|error| HarnessError(format!("{}: {error}", path.display())))?;
            Ok(BTreeSet::new())
        }
        Suite::Promotion => {
            let saved = std::fs::read_to_string(&path).ok();
            let saved = saved.and_then(|text| serde_json::from_str::<UsedGrants>(&text).ok());
            let Some(saved) = saved.filter(|saved| saved.template == hash) else {
                eprintln!("whether every permission is used is not judged: run end_to_end as a whole before");
                return Ok(BTreeSet::new());
            };
            used.extend(saved.grants);
            Ok(unused_grants(&grants(&template)?, &used))
        }
    }
}

/// The grants that these calls made use of.
fn used(template: &Value, calls: &[Call], resources: &BTreeMap<String, String>) -> BTreeSet<GrantedAction> {
    let physical = |logical: &str| resources.get(logical).map_or("", String::as_str);
    let keys: BTreeMap<String, &str> = functions(template)
        .into_iter()
        .map(|function| (access_key(physical(function), physical(&format!("{function}Role"))), function))
        .collect();
    let mut used = BTreeSet::new();
    for call in calls {
        let Some(function) = keys.get(&call.access_key) else { continue };
        for (action, partition) in needed_actions(call) {
            let queue = || {
                let url = call.parameters["QueueUrl"].as_str().unwrap_or_default();
                let name = |text: &str| text.rsplit(['/', ':']).next().unwrap_or_default().to_owned();
                let queues = ["WakesQueue", "UrgentWakesQueue", "DeadLetterQueue"].into_iter();
                queues.filter(|queue| name(physical(queue)) == name(url)).collect::<String>()
            };
            let on = partition.unwrap_or_else(|| if action.starts_with("sqs:") { queue() } else { String::new() });
            used.insert(GrantedAction { function: (*function).to_owned(), action, on });
        }
    }
    used
}

/// What is granted and was not used without a reason, and what was used though there is a reason why it is not seen.
fn unused_grants(granted: &BTreeSet<GrantedAction>, used: &BTreeSet<GrantedAction>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for grant in granted {
        let is_it = |it: &GrantedAction| it.function == grant.function && it.action == grant.action;
        let used = used.iter().any(|it| is_it(it) && matches_wildcards(&grant.on, &it.on));
        let exempt =
            NOT_OBSERVABLE.iter().find(|(function, actions, on, _)| matches_exemption(grant, (function, actions, on)));
        match (used, exempt) {
            (true, Some((.., reason))) => {
                found.insert(format!("{grant}: used after all, though it is said that {reason}"));
            }
            (false, None) => {
                found.insert(format!("{grant}, and never did: take it away, or show it"));
            }
            _ => {}
        }
    }
    found
}

/// The access key under which ministack runs a function: made of both ARNs (`execution_credentials` in its
/// `core/lambda_runtime.py`).
fn access_key(function: &str, role: &str) -> String {
    let account = ministack::ACCOUNT;
    let text = format!("arn:aws:lambda:{REGION}:{account}:function:{function}:arn:aws:iam::{account}:role/{role}");
    format!("ASIA{}", hex::encode_upper(&Sha256::digest(text)[..8]))
}

/// The actions that a call needs, on DynamoDB each with the partition that it is for.
fn needed_actions(call: &Call) -> Vec<(String, Option<String>)> {
    let prefix = match call.service.as_str() {
        "elbv2" => "elasticloadbalancing",
        "autoscaling" => "application-autoscaling",
        other => other,
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let parameters = &call.parameters;
    match (prefix, call.operation.as_str()) {
        ("lambda", "Invoke") => vec![("lambda:InvokeFunction".to_owned(), None)],
        ("dynamodb", "TransactWriteItems") => {
            let writes = parameters["TransactItems"].as_array().into_iter().flatten();
            let write = |item: &Value| {
                let (kind, write) = item.as_object()?.iter().next()?;
                let action =
                    if kind == "ConditionCheck" { "ConditionCheckItem".to_owned() } else { format!("{kind}Item") };
                let key = if kind == "Put" { &write["Item"] } else { &write["Key"] };
                Some((format!("dynamodb:{action}"), text(&key["pk"]["S"])))
            };
            writes.filter_map(write).collect()
        }
        ("dynamodb", "Query") => {
            // The partition's key stands first: `pk = :pk AND …`.
            let condition = parameters["KeyConditionExpression"].as_str().unwrap_or_default();
            let name = condition.split(" AND ").next().and_then(|first| first.split('=').nth(1)).unwrap_or_default();
            let value = &parameters["ExpressionAttributeValues"][name.trim()]["S"];
            vec![("dynamodb:Query".to_owned(), text(value))]
        }
        ("dynamodb", operation) => {
            let key = if operation == "PutItem" { &parameters["Item"] } else { &parameters["Key"] };
            vec![(format!("dynamodb:{operation}"), text(&key["pk"]["S"]))]
        }
        (prefix, operation) => vec![(format!("{prefix}:{operation}"), None)],
    }
}

/// Whether the partition is one of the condition's: `TARGET#*`, `BRAKES`.
fn allows_partition(allowed: &Allowed, partition: &str) -> bool {
    let condition: Value = serde_json::from_str(&allowed.condition).unwrap_or_default();
    let patterns = &condition["ForAllValues:StringLike"]["dynamodb:LeadingKeys"];
    list(patterns).filter_map(Value::as_str).any(|pattern| matches_wildcards(pattern, partition))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::Answer;
    use std::time::Duration;

    /// A call on DynamoDB of the function behind the door for workflows.
    fn call(operation: &str, parameters: Value) -> Call {
        Call {
            number: 1,
            service: "dynamodb".to_owned(),
            operation: operation.to_owned(),
            access_key: access_key("promotions", "promotions-role"),
            parameters,
            attempt: 1,
            started: Duration::ZERO,
            ended: None,
            at: rollout::Timestamp::UNIX_EPOCH,
            answer: Answer::Pending,
            fault_kind: None,
        }
    }

    #[test]
    fn a_call_outside_the_allowed_partitions_is_reported() {
        let names = [("Promotions", "promotions"), ("PromotionsRole", "promotions-role")];
        let resources = names.map(|(logical, physical)| (logical.to_owned(), physical.to_owned())).into();
        let found = |call| disallowed_calls(&[call], &resources).expect("the template is to be read");
        let put = |pk: &str| json!({"TransactItems": [{"Put": {"Item": {"pk": {"S": pk}}}}]});
        let query = |pk: &str| {
            json!({
                "KeyConditionExpression": "pk = :pk AND begins_with(sk, :prefix)",
                "ExpressionAttributeValues": {":pk": {"S": pk}, ":prefix": {"S": "INBOX#"}},
            })
        };
        assert_eq!(found(call("TransactWriteItems", put("COMMANDS#shop/api/prod"))), BTreeSet::new());
        assert_eq!(found(call("Query", query("TARGET#shop/api/prod"))), BTreeSet::new());
        for (operation, parameters, reported) in [
            (
                "TransactWriteItems",
                put("TARGET#shop/api/prod"),
                "dynamodb:PutItem in the partition TARGET#shop/api/prod",
            ),
            ("PutItem", json!({"Item": {"pk": {"S": "POLICY#shop"}}}), "dynamodb:PutItem in the partition POLICY#shop"),
            ("DeleteItem", json!({"Key": {"pk": {"S": "BRAKES"}}}), "dynamodb:DeleteItem in the partition BRAKES"),
            ("Query", query("NOTIFIED#shop/api/prod"), "dynamodb:Query in the partition NOTIFIED#shop/api/prod"),
        ] {
            let reported = format!("Promotions called {reported}, which its role does not allow");
            assert_eq!(found(call(operation, parameters)), BTreeSet::from([reported]));
        }
        let unknown_caller = Call { access_key: String::new(), ..call("Scan", json!({})) };
        assert!(found(unknown_caller).first().is_some_and(|reported| reported.contains("nothing was checked")));
    }

    #[test]
    fn a_call_of_ecs_beyond_the_roles_resources_is_reported() {
        let names = [("RolloutDriver", "driver"), ("RolloutDriverRole", "driver-role")];
        let resources = names.map(|(logical, physical)| (logical.to_owned(), physical.to_owned())).into();
        let found = |account: &str| {
            let arn = format!("arn:aws:ecs:{REGION}:{account}:service-revision/shop/worker/1");
            let of_ecs = call("DescribeServiceRevisions", json!({"serviceRevisionArns": [arn]}));
            let access_key = access_key("driver", "driver-role");
            let of_driver = Call { service: "ecs".to_owned(), access_key, ..of_ecs };
            disallowed_calls(&[of_driver], &resources).expect("the template is to be read")
        };
        assert_eq!(found(ministack::ACCOUNT), BTreeSet::new());
        let reported = found("999999999999");
        let words = "999999999999:service-revision/shop/worker/1, which its role does not allow";
        assert!(reported.first().is_some_and(|reported| reported.contains(words)), "{reported:?}");
    }

    #[test]
    fn an_unused_permission_is_reported() {
        let names = [("Promotions", "promotions"), ("PromotionsRole", "promotions-role")];
        let resources = names.map(|(logical, physical)| (logical.to_owned(), physical.to_owned())).into();
        let put = json!({"Item": {"pk": {"S": "COMMANDS#shop/api/prod"}}});
        let template = lint::template_as_json().expect("a template");
        let reported =
            unused_grants(&grants(&template).expect("roles"), &used(&template, &[call("PutItem", put)], &resources));
        let about =
            |action: &str, on: &str| reported.iter().any(|it| it.contains(&format!("may {action} on {on}, and never")));
        assert!(about("dynamodb:PutItem", "RELEASE#*"), "{reported:#?}");
        assert!(
            !reported.iter().any(|it| it.starts_with("Promotions may dynamodb:PutItem on COMMANDS")),
            "{reported:#?}"
        );
        assert!(!reported.iter().any(|it| it.contains("logs:")), "there is a reason: {reported:#?}");
    }

    #[test]
    fn every_exemption_names_a_granted_permission() {
        let grants = grants(&lint::template_as_json().expect("a template")).expect("roles");
        for (function, actions, on, reason) in NOT_OBSERVABLE {
            for action in *actions {
                let of = |grant: &&GrantedAction| matches_exemption(grant, (function, &[action], on));
                assert!(grants.iter().any(|grant| of(&grant)), "nothing allows {function} {action} {on}: {reason}");
            }
        }
    }

    #[test]
    fn a_partition_matches_only_its_pattern() {
        let condition = json!({"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["BRAKES", "TARGET#*"]}});
        let allowed = Allowed { action: String::new(), resource: String::new(), condition: condition.to_string() };
        for (partition, fits) in
            [("BRAKES", true), ("BRAKES#1", false), ("TARGET#shop/api/prod", true), ("POLICY#shop", false), ("", false)]
        {
            assert_eq!(allows_partition(&allowed, partition), fits, "{partition}");
        }
        let without = Allowed { condition: "null".to_owned(), ..allowed };
        assert!(!allows_partition(&without, "BRAKES"), "no condition is no partition of anybody's");
    }
}
