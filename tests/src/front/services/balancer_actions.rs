//! Actions of rules and listeners, between the form's tree, the world and the answer's tree.

use super::input::{boolean, list, number, text};
use crate::front::protocol::AwsError;
use serde_json::{Map, Value, json};
use simulation::world::balancer::{ActionKind, ForwardActionConfig, GroupStickiness, ListenerAction, WeightedGroup};

/// Reads `Actions` or `DefaultActions`.
///
/// # Errors
/// `ValidationError` for what is no action, `InvalidLoadBalancerAction` for one that contradicts itself.
pub(super) fn read(input: &Value, name: &str) -> Result<Vec<ListenerAction>, AwsError> {
    list(input, name).iter().enumerate().map(|(index, action)| read_one(action, name, index + 1)).collect()
}

fn read_one(action: &Value, list_name: &str, position: usize) -> Result<ListenerAction, AwsError> {
    let order = match number(action, "Order").map(u32::try_from) {
        Some(Err(_)) => return Err(invalid(list_name, position, "order", "Member must be between 1 and 50000")),
        order => order.and_then(Result::ok),
    };
    let Some(kind) = text(action, "Type") else {
        return Err(invalid(list_name, position, "type", "Member must not be null"));
    };
    let what = match kind {
        "forward" => ActionKind::Forward(read_forward(action, list_name, position)?),
        "authenticate-oidc" | "authenticate-cognito" | "redirect" | "fixed-response" | "jwt-validation" => {
            let mut config = action.clone();
            if let Value::Object(fields) = &mut config {
                fields.remove("Type");
                fields.remove("Order");
            }
            check_oidc(&config)?;
            ActionKind::Other { kind: kind.to_owned(), config }
        }
        other => {
            return Err(invalid(
                list_name,
                position,
                "type",
                &format!(
                    "'{other}': Member must satisfy enum value set: [jwt-validation, redirect, forward, \
                     authenticate-cognito, authenticate-oidc, fixed-response]"
                ),
            ));
        }
    };
    Ok(ListenerAction { order, what })
}

/// A forward action has `TargetGroupArn`, or `ForwardConfig`, or both where the configuration has that one group alone.
fn read_forward(action: &Value, list_name: &str, position: usize) -> Result<ForwardActionConfig, AwsError> {
    let short = text(action, "TargetGroupArn");
    let Some(config) = action.get("ForwardConfig").filter(|config| config.is_object()) else {
        let arn = short.ok_or_else(|| {
            AwsError::sender("ValidationError", "An action of type 'forward' requires at least one target group")
        })?;
        return Ok(ForwardActionConfig {
            target_groups: vec![WeightedGroup { arn: arn.to_owned(), weight: None }],
            stickiness: None,
        });
    };
    let mut target_groups = Vec::new();
    for group in list(config, "TargetGroups") {
        let Some(arn) = text(group, "TargetGroupArn") else {
            return Err(invalid(list_name, position, "forwardConfig.targetGroups", "targetGroupArn must not be null"));
        };
        let weight = match group.get("Weight") {
            None => None,
            Some(_) => match number(group, "Weight") {
                Some(weight) => Some(weight),
                None => return Err(AwsError::sender("MalformedInput", "Weight is not a whole number")),
            },
        };
        target_groups.push(WeightedGroup { arn: arn.to_owned(), weight });
    }
    if let Some(short) = short
        && (target_groups.len() != 1 || target_groups[0].arn != short)
    {
        return Err(AwsError::sender(
            "InvalidLoadBalancerAction",
            "You cannot specify both a target group ARN and a forward config with different target groups",
        ));
    }
    let stickiness =
        config.get("TargetGroupStickinessConfig").filter(|config| config.is_object()).map(|config| GroupStickiness {
            enabled: boolean(config, "Enabled").unwrap_or(false),
            duration_seconds: number(config, "DurationSeconds"),
        });
    Ok(ForwardActionConfig { target_groups, stickiness })
}

/// A client secret is passed once and never shown: who writes an action back must say that it stays.
fn check_oidc(config: &Value) -> Result<(), AwsError> {
    let Some(oidc) = config.get("AuthenticateOidcConfig") else { return Ok(()) };
    let stays = boolean(oidc, "UseExistingClientSecret").unwrap_or(false);
    match (text(oidc, "ClientSecret"), stays) {
        (None, false) => Err(AwsError::sender(
            "InvalidLoadBalancerAction",
            "A client secret must be specified, or UseExistingClientSecret must be true",
        )),
        (Some(_), true) => Err(AwsError::sender(
            "InvalidLoadBalancerAction",
            "A client secret cannot be specified when UseExistingClientSecret is true",
        )),
        _ => Ok(()),
    }
}

/// Writes actions as the Describe operations do: sole groups also in the short form, client secrets never.
pub(super) fn write(actions: &[ListenerAction]) -> Value {
    Value::Array(actions.iter().map(write_one).collect())
}

fn write_one(action: &ListenerAction) -> Value {
    let mut fields = Map::new();
    if let Some(order) = action.order {
        fields.insert("Order".to_owned(), order.into());
    }
    match &action.what {
        ActionKind::Forward(forward) => {
            fields.insert("Type".to_owned(), "forward".into());
            if let [only] = forward.target_groups.as_slice() {
                fields.insert("TargetGroupArn".to_owned(), only.arn.clone().into());
            }
            let groups: Vec<Value> = forward
                .target_groups
                .iter()
                .map(|group| json!({"TargetGroupArn": group.arn, "Weight": group.weight.unwrap_or(1)}))
                .collect();
            let stickiness = forward.stickiness.unwrap_or(GroupStickiness { enabled: false, duration_seconds: None });
            fields.insert(
                "ForwardConfig".to_owned(),
                json!({
                    "TargetGroups": groups,
                    "TargetGroupStickinessConfig": {
                        "Enabled": stickiness.enabled,
                        "DurationSeconds": stickiness.duration_seconds,
                    },
                }),
            );
        }
        ActionKind::Other { kind, config } => {
            fields.insert("Type".to_owned(), kind.clone().into());
            for (name, mut value) in configuration(kind, config) {
                if let Value::Object(inner) = &mut value {
                    inner.remove("ClientSecret");
                    inner.remove("UseExistingClientSecret");
                }
                fields.insert(name, value);
            }
        }
    }
    Value::Object(fields)
}

/// The action's fields by name. A world that was built by hand may hold the inner configuration alone.
fn configuration(kind: &str, config: &Value) -> Map<String, Value> {
    let fields = config.as_object().cloned().unwrap_or_default();
    if fields.keys().any(|name| name.ends_with("Config")) || fields.is_empty() {
        return fields;
    }
    let mut name: String = kind
        .split('-')
        .map(|word| {
            let (first, rest) = word.split_at(1.min(word.len()));
            format!("{}{rest}", first.to_uppercase())
        })
        .collect();
    name.push_str("Config");
    Map::from_iter([(name, config.clone())])
}

fn invalid(list_name: &str, position: usize, field: &str, constraint: &str) -> AwsError {
    let list_name = format!("{}{}", list_name[..1].to_lowercase(), &list_name[1..]);
    AwsError::sender(
        "ValidationError",
        format!(
            "1 validation error detected: Value at '{list_name}.{position}.member.{field}' failed to satisfy \
             constraint: {constraint}"
        ),
    )
}
