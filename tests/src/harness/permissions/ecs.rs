//! The resources that calls of ECS are about, held against those of the roles: the wire front answers these calls, and
//! no emulator sees them.

use super::Allowed;
use crate::front::Call;
use crate::harness::emulators::{REGION, ministack};
use serde_json::Value;

/// ARNs of what a call of ECS is about, each of the one resource type that its action knows (Service Authorization
/// Reference, "Actions, resources, and condition keys for Amazon Elastic Container Service"; "Permissions required for
/// viewing Amazon ECS service deployments" in the ECS developer guide). Empty: of an action that is not held against a
/// resource, or of another service.
pub(super) fn resources(call: &Call) -> Vec<String> {
    if call.service != "ecs" {
        return Vec::new();
    }
    let text = |name: &str| call.parameters[name].as_str().unwrap_or_default();
    let texts = |name: &str| {
        let list = call.parameters[name].as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(Value::as_str).collect::<Vec<_>>()
    };
    let in_cluster = |kind: &str, names: Vec<&str>| -> Vec<String> {
        let cluster = text("cluster").rsplit('/').next().unwrap_or_default().to_owned();
        names.into_iter().map(|name| arn(name, &format!("{kind}/{cluster}/{name}"))).collect()
    };
    match call.operation.as_str() {
        "DescribeServices" => in_cluster("service", texts("services")),
        "UpdateService" | "ListServiceDeployments" => in_cluster("service", vec![text("service")]),
        "DescribeTasks" | "GetTaskProtection" => in_cluster("task", texts("tasks")),
        "StopTask" => in_cluster("task", vec![text("task")]),
        // Of these, a call names nothing but ARNs.
        "DescribeServiceDeployments" => texts("serviceDeploymentArns").into_iter().map(str::to_owned).collect(),
        "DescribeServiceRevisions" => texts("serviceRevisionArns").into_iter().map(str::to_owned).collect(),
        "RegisterTaskDefinition" => vec![arn("", &format!("task-definition/{}", text("family")))],
        "RunTask" => {
            let definition = text("taskDefinition");
            vec![arn(definition, &format!("task-definition/{definition}"))]
        }
        _ => Vec::new(),
    }
}

/// The name itself where it is an ARN, or that of the resource of this account.
fn arn(name: &str, resource: &str) -> String {
    match name.starts_with("arn:") {
        true => name.to_owned(),
        false => format!("arn:aws:ecs:{REGION}:{}:{resource}", ministack::ACCOUNT),
    }
}

/// Whether a statement's resource covers this one: `*`, or an ARN in which `*` stands for any text.
pub(super) fn allows_resource(allowed: &Allowed, resource: &str, template: &Value) -> bool {
    let written: Value = serde_json::from_str(&allowed.resource).unwrap_or_default();
    match (written.as_str(), written["Fn::Sub"].as_str()) {
        (Some(pattern), _) => matches_wildcards(pattern, resource),
        (None, Some(pattern)) => matches_wildcards(&substituted(pattern, template), resource),
        (None, None) => false,
    }
}

/// A text of `Fn::Sub`, with the values that the emulator and the parameters' defaults give.
fn substituted(text: &str, template: &Value) -> String {
    let mut parts = text.split("${");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').unwrap_or((part, ""));
        whole.push_str(match name {
            "AWS::Partition" => "aws",
            "AWS::Region" => REGION,
            "AWS::AccountId" => ministack::ACCOUNT,
            parameter => template["Parameters"][parameter]["Default"].as_str().unwrap_or_default(),
        });
        whole.push_str(rest);
    }
    whole
}

/// Whether a pattern of IAM, in which `*` stands for any text, is all of this text.
pub(super) fn matches_wildcards(pattern: &str, text: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('*') else { return pattern == text };
    text.strip_prefix(before).is_some_and(|text| {
        let mut ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
        ends.any(|at| matches_wildcards(rest, &text[at..]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::Answer;
    use serde_json::json;
    use std::time::Duration;

    /// A statement on ARNs of this kind in the clusters of a prefix.
    fn allowed(kind: &str) -> Allowed {
        let account = "arn:${AWS::Partition}:ecs:${AWS::Region}:${AWS::AccountId}";
        let resource = format!("{account}:{kind}/${{Prefix}}*/*");
        Allowed { action: String::new(), resource: json!({"Fn::Sub": resource}).to_string(), condition: String::new() }
    }

    fn call(operation: &str, parameters: Value) -> Call {
        Call {
            number: 1,
            service: "ecs".to_owned(),
            operation: operation.to_owned(),
            access_key: String::new(),
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
    fn a_call_of_ecs_is_held_against_the_resource_type_of_its_action() {
        let template = json!({"Parameters": {"Prefix": {"Default": "shop"}}});
        let own = |resource: &str| format!("arn:aws:ecs:{REGION}:{}:{resource}", ministack::ACCOUNT);
        let (deployment, revision) =
            (own("service-deployment/shop-dev/worker/1"), own("service-revision/shop-dev/worker/1"));
        for (kind, operation, parameters) in [
            ("service", "DescribeServices", json!({"cluster": "shop-dev", "services": ["blue", "green"]})),
            ("service", "ListServiceDeployments", json!({"cluster": own("cluster/shop-dev"), "service": "worker"})),
            ("service-deployment", "DescribeServiceDeployments", json!({"serviceDeploymentArns": [deployment]})),
            ("service-revision", "DescribeServiceRevisions", json!({"serviceRevisionArns": [revision]})),
            ("task", "GetTaskProtection", json!({"cluster": "shop-dev", "tasks": [own("task/shop-dev/1"), "2"]})),
        ] {
            let needed = resources(&call(operation, parameters));
            assert!(!needed.is_empty(), "{operation}");
            for other in ["service", "service-deployment", "service-revision", "task"] {
                let is_allowed = needed.iter().all(|resource| allows_resource(&allowed(other), resource, &template));
                assert_eq!(is_allowed, other == kind, "{operation} with {other}: {needed:?}");
            }
        }
    }

    #[test]
    fn another_cluster_and_another_account_are_not_allowed() {
        let template = json!({"Parameters": {"Prefix": {"Default": "shop"}}});
        let foreign = format!("arn:aws:ecs:{REGION}:999999999999:service-revision/shop-dev/worker/1");
        for (operation, parameters) in [
            ("UpdateService", json!({"cluster": "bank", "service": "worker"})),
            ("DescribeServiceRevisions", json!({"serviceRevisionArns": [foreign]})),
        ] {
            let needed = resources(&call(operation, parameters));
            let statement = allowed(if operation == "UpdateService" { "service" } else { "service-revision" });
            assert!(!allows_resource(&statement, &needed[0], &template), "{needed:?}");
        }
        let everything = Allowed { resource: json!("*").to_string(), ..allowed("service") };
        assert!(allows_resource(&everything, "arn:aws:ecs:x:y:service/bank/worker", &template));
    }

    #[test]
    fn a_wildcard_stands_for_any_text_also_in_the_middle() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("a*", "a", true),
            ("a*/c", "ab/b/c", true),
            ("a*/c", "ab/c/d", false),
            ("a*c*", "abcd", true),
            ("abc", "abcd", false),
        ] {
            assert_eq!(matches_wildcards(pattern, text), fits, "{pattern} {text}");
        }
    }
}
