//! ELBv2 (API version 2015-12-01): rules, listeners, target groups and their health.

use super::balancer_actions as actions;
use super::input::{list, number, page, text, texts};
use super::{OperationResult, refused};
use crate::front::protocol::AwsError;
use serde_json::{Map, Value, json};
use simulation::world::World;
use simulation::world::balancer::{Listener, ListenerRule, TargetGroup, TargetHealthDescription};

/// The most ARNs in one `DescribeTags` (API reference).
const MAX_TAGGED_ARNS: usize = 20;
/// The largest page, and the page where none is asked for (API reference, `PageSize`).
const MAX_PAGE_SIZE: usize = 400;

pub(super) fn perform(world: &mut World, operation: &str, input: &Value) -> Option<OperationResult> {
    if let Err(refusal) = version(input) {
        return Some(Err(refusal));
    }
    Some(match operation {
        "DescribeRules" => describe_rules(world, input),
        "DescribeListeners" => describe_listeners(world, input),
        "DescribeTargetHealth" => describe_target_health(world, input),
        "DescribeTargetGroups" => describe_target_groups(world, input),
        "DescribeTargetGroupAttributes" => describe_target_group_attributes(world, input),
        "DescribeTags" => describe_tags(world, input),
        "ModifyRule" => modify_rule(world, input),
        "ModifyListener" => modify_listener(world, input),
        _ => return None,
    })
}

fn version(input: &Value) -> Result<(), AwsError> {
    match text(input, "Version") {
        Some("2015-12-01") => Ok(()),
        other => {
            let action = text(input, "Action").unwrap_or_default();
            let other = other.unwrap_or_default();
            Err(AwsError::sender("InvalidAction", format!("Could not find operation {action} for version {other}")))
        }
    }
}

fn describe_rules(world: &mut World, input: &Value) -> OperationResult {
    let (listener, arns) = (text(input, "ListenerArn"), texts(input, "RuleArns"));
    if listener.is_some() != arns.is_empty() {
        return Err(invalid("You must specify either a listener ARN or one or more rule ARNs"));
    }
    let rules = world.describe_rules(listener, &arns).map_err(refused)?;
    paged("Rules", rules.iter().map(rule).collect(), input)
}

fn describe_listeners(world: &mut World, input: &Value) -> OperationResult {
    let (balancer, arns) = (text(input, "LoadBalancerArn"), texts(input, "ListenerArns"));
    if balancer.is_some() != arns.is_empty() {
        return Err(invalid("You must specify either a load balancer ARN or one or more listener ARNs"));
    }
    let listeners = world.describe_listeners(balancer, &arns).map_err(refused)?;
    paged("Listeners", listeners.iter().map(listener).collect(), input)
}

fn describe_target_health(world: &mut World, input: &Value) -> OperationResult {
    let group = required(input, "TargetGroupArn")?;
    let health = world.describe_target_health(group).map_err(refused)?;
    let requested = list(input, "Targets");
    let descriptions: Vec<Value> = if requested.is_empty() {
        health.iter().map(target_health).collect()
    } else {
        requested.iter().map(|target| health_of(&health, target)).collect()
    };
    Ok(json!({"TargetHealthDescriptions": descriptions}))
}

/// What is known of a target that was asked for by its id, and its port if it was given.
fn health_of(health: &[TargetHealthDescription], requested: &Value) -> Value {
    let (id, port) = (text(requested, "Id").unwrap_or_default(), number(requested, "Port"));
    let found = health
        .iter()
        .find(|known| known.target.id == id && port.is_none_or(|port| i64::from(known.target.port) == port));
    match found {
        Some(known) => target_health(known),
        None => json!({
            "Target": {"Id": id, "Port": port},
            "TargetHealth": {
                "State": "unused",
                "Reason": "Target.NotRegistered",
                "Description": "Target is not registered to the target group",
            },
        }),
    }
}

fn describe_target_groups(world: &mut World, input: &Value) -> OperationResult {
    let (arns, names) = (texts(input, "TargetGroupArns"), texts(input, "Names"));
    let balancer = text(input, "LoadBalancerArn");
    let groups = world.describe_target_groups(balancer, &arns, &names).map_err(refused)?;
    paged("TargetGroups", groups.iter().map(target_group).collect(), input)
}

fn describe_target_group_attributes(world: &mut World, input: &Value) -> OperationResult {
    let arn = required(input, "TargetGroupArn")?.to_owned();
    let groups = world.describe_target_groups(None, &[arn], &[]).map_err(refused)?;
    let attributes: Vec<Value> = groups
        .first()
        .map(|group| {
            let settings = &group.settings;
            [
                ("deregistration_delay.timeout_seconds", settings.deregistration_delay_s.to_string()),
                ("stickiness.enabled", settings.stickiness.to_string()),
                ("stickiness.type", "lb_cookie".to_owned()),
                ("stickiness.lb_cookie.duration_seconds", "86400".to_owned()),
                ("slow_start.duration_seconds", "0".to_owned()),
                ("load_balancing.algorithm.type", "round_robin".to_owned()),
                ("load_balancing.cross_zone.enabled", "use_load_balancer_configuration".to_owned()),
            ]
            .into_iter()
            .map(|(key, value)| json!({"Key": key, "Value": value}))
            .collect()
        })
        .unwrap_or_default();
    Ok(json!({"Attributes": attributes}))
}

fn describe_tags(world: &mut World, input: &Value) -> OperationResult {
    let arns = texts(input, "ResourceArns");
    if arns.is_empty() || arns.len() > MAX_TAGGED_ARNS {
        return Err(invalid(&format!(
            "1 validation error detected: Value at 'resourceArns' failed to satisfy constraint: Member must have length \
             less than or equal to {MAX_TAGGED_ARNS} and greater than or equal to 1"
        )));
    }
    let mut descriptions = Vec::new();
    for arn in arns {
        let one = std::slice::from_ref(&arn);
        if arn.contains(":targetgroup/") {
            world.describe_target_groups(None, one, &[]).map_err(refused)?;
        } else if arn.contains(":listener-rule/") {
            world.describe_rules(None, one).map_err(refused)?;
        } else if arn.contains(":listener/") {
            world.describe_listeners(None, one).map_err(refused)?;
        } else if arn.contains(":loadbalancer/") {
            world.describe_load_balancers(one).map_err(refused)?;
        } else {
            return Err(invalid(&format!("'{arn}' is not a valid ARN")));
        }
        // Nothing in the world of balancers carries tags.
        descriptions.push(json!({"ResourceArn": arn, "Tags": []}));
    }
    Ok(json!({"TagDescriptions": descriptions}))
}

fn modify_rule(world: &mut World, input: &Value) -> OperationResult {
    let arn = required(input, "RuleArn")?;
    if !list(input, "Transforms").is_empty() {
        return Err(not_modelled("Transforms"));
    }
    let conditions = list(input, "Conditions");
    let actions = actions::read(input, "Actions")?;
    if conditions.is_empty() && actions.is_empty() {
        return Err(invalid("You must specify at least one of conditions and actions"));
    }
    let conditions = (!conditions.is_empty()).then(|| conditions.to_vec());
    let actions = (!actions.is_empty()).then_some(actions);
    let changed = world.modify_rule(arn, conditions, actions).map_err(refused)?;
    Ok(json!({"Rules": [rule(&changed)]}))
}

fn modify_listener(world: &mut World, input: &Value) -> OperationResult {
    let arn = required(input, "ListenerArn")?;
    for field in ["Port", "Protocol", "SslPolicy", "Certificates", "AlpnPolicy", "MutualAuthentication"] {
        if input.get(field).is_some_and(|value| value.as_str() != Some("")) {
            return Err(not_modelled(field));
        }
    }
    let actions = actions::read(input, "DefaultActions")?;
    let actions = (!actions.is_empty()).then_some(actions);
    let changed = world.modify_listener(arn, actions).map_err(refused)?;
    Ok(json!({"Listeners": [listener(&changed)]}))
}

fn rule(rule: &ListenerRule) -> Value {
    json!({
        "RuleArn": rule.arn,
        "Priority": rule.priority.map_or("default".to_owned(), |priority| priority.to_string()),
        "Conditions": rule.conditions.iter().map(condition).collect::<Vec<_>>(),
        "Actions": actions::write(&rule.actions),
        "IsDefault": rule.priority.is_none(),
    })
}

/// A condition as the Describe operations write it: the plain values of host and path beside their configuration.
fn condition(condition: &Value) -> Value {
    let mut fields: Map<String, Value> = condition.as_object().cloned().unwrap_or_default();
    let config = match condition.get("Field").and_then(Value::as_str) {
        Some("host-header") => "HostHeaderConfig",
        Some("path-pattern") => "PathPatternConfig",
        _ => return Value::Object(fields),
    };
    let values = condition
        .get(config)
        .and_then(|config| config.get("Values"))
        .or_else(|| condition.get("Values"))
        .cloned()
        .unwrap_or_else(|| json!([]));
    fields.insert("Values".to_owned(), values.clone());
    fields.insert(config.to_owned(), json!({"Values": values}));
    Value::Object(fields)
}

fn listener(listener: &Listener) -> Value {
    json!({
        "ListenerArn": listener.arn,
        "LoadBalancerArn": listener.load_balancer,
        "Port": listener.port,
        "Protocol": listener.protocol,
        "DefaultActions": actions::write(&listener.default_actions),
    })
}

fn target_group(group: &TargetGroup) -> Value {
    json!({
        "TargetGroupArn": group.arn,
        "TargetGroupName": group.name,
        "Protocol": "HTTP",
        "ProtocolVersion": "HTTP1",
        "Port": group.settings.port,
        "VpcId": "vpc-00000000000000001",
        "HealthCheckProtocol": "HTTP",
        "HealthCheckPort": "traffic-port",
        "HealthCheckEnabled": true,
        "HealthCheckIntervalSeconds": group.settings.health_check_interval_s,
        "HealthCheckTimeoutSeconds": 5,
        "HealthyThresholdCount": group.settings.healthy_threshold,
        "UnhealthyThresholdCount": group.settings.unhealthy_threshold,
        "HealthCheckPath": "/",
        "Matcher": {"HttpCode": "200"},
        "LoadBalancerArns": group.load_balancers,
        "TargetType": "ip",
        "IpAddressType": "ipv4",
    })
}

fn target_health(health: &TargetHealthDescription) -> Value {
    json!({
        "Target": {"Id": health.target.id, "Port": health.target.port, "AvailabilityZone": "eu-central-1a"},
        "HealthCheckPort": health.target.port.to_string(),
        "TargetHealth": {
            "State": health.state.as_str(),
            "Reason": health.reason,
            "Description": health.description,
        },
    })
}

fn paged(name: &str, all: Vec<Value>, input: &Value) -> OperationResult {
    let size = match number(input, "PageSize") {
        None => MAX_PAGE_SIZE,
        Some(size) => match usize::try_from(size) {
            Ok(size @ 1..=MAX_PAGE_SIZE) => size,
            _ => {
                return Err(invalid(&format!(
                    "1 validation error detected: Value '{size}' at 'pageSize' failed to satisfy constraint: Member must \
                     have value between 1 and {MAX_PAGE_SIZE}"
                )));
            }
        },
    };
    let (page, next) = page(all, text(input, "Marker"), size).ok_or_else(|| invalid("Invalid marker"))?;
    let mut result = Map::new();
    result.insert(name.to_owned(), Value::Array(page));
    result.insert("NextMarker".to_owned(), next.into());
    Ok(Value::Object(result))
}

fn required<'a>(input: &'a Value, name: &str) -> Result<&'a str, AwsError> {
    text(input, name).ok_or_else(|| {
        let name = format!("{}{}", name[..1].to_lowercase(), &name[1..]);
        invalid(&format!(
            "1 validation error detected: Value null at '{name}' failed to satisfy constraint: Member must not be null"
        ))
    })
}

fn invalid(message: &str) -> AwsError {
    AwsError::sender("ValidationError", message)
}

/// AWS would do it; the world cannot. A status that AWS never answers, so that nobody takes it for AWS's word.
fn not_modelled(field: &str) -> AwsError {
    AwsError::new(501, "NotModelled", format!("the world has no {field}"))
}
