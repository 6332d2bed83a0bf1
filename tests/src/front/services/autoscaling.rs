//! Application Auto Scaling (awsJson 1.1, `AnyScaleFrontendService`): limits of desired counts.

use super::input::{number, page, text, texts};
use super::{OperationResult, refused};
use crate::front::protocol::AwsError;
use serde_json::{Value, json};
use simulation::world::World;
use simulation::world::scaling::{DescribeScalableTargets, RegisterScalableTarget, ScalableTarget};

/// The largest page (API reference, `MaxResults`), and the page where none is asked for.
const MAX_PAGE_SIZE: usize = 50;
/// The one dimension of ECS.
const DESIRED_COUNT: &str = "ecs:service:DesiredCount";

pub(super) fn perform(world: &mut World, operation: &str, input: &Value) -> Option<OperationResult> {
    Some(match operation {
        "DescribeScalableTargets" => describe_scalable_targets(world, input),
        "RegisterScalableTarget" => register_scalable_target(world, input),
        "DescribeScheduledActions" => describe_scheduled_actions(world, input),
        _ => return None,
    })
}

fn describe_scalable_targets(world: &mut World, input: &Value) -> OperationResult {
    let request = DescribeScalableTargets {
        service_namespace: required(input, "ServiceNamespace")?,
        resource_ids: texts(input, "ResourceIds"),
        scalable_dimension: dimension(input)?,
    };
    if request.resource_ids.len() > MAX_PAGE_SIZE {
        return Err(invalid("ResourceIds has at most 50 members"));
    }
    let size = match number(input, "MaxResults").map(usize::try_from) {
        None => MAX_PAGE_SIZE,
        Some(Ok(size @ 1..=MAX_PAGE_SIZE)) => size,
        Some(_) => return Err(invalid("MaxResults must be between 1 and 50")),
    };
    let targets = world.describe_scalable_targets(request).map_err(refused)?;
    let (targets, next) = page(targets, text(input, "NextToken"), size)
        .ok_or_else(|| AwsError::sender("InvalidNextTokenException", "The next token supplied was invalid"))?;
    let arn = |target: &ScalableTarget| arn(world, &target.resource_id);
    let targets: Vec<Value> = targets
        .iter()
        .map(|target| {
            let mut described = json!(target);
            described["ScalableTargetARN"] = arn(target).into();
            described
        })
        .collect();
    let mut answer = json!({"ScalableTargets": targets});
    if let Some(next) = next {
        answer["NextToken"] = next.into();
    }
    Ok(answer)
}

/// Of one resource: of all of them nobody here asks.
fn describe_scheduled_actions(world: &mut World, input: &Value) -> OperationResult {
    required(input, "ServiceNamespace")?;
    let dimension = dimension(input)?.unwrap_or_else(|| DESIRED_COUNT.to_owned());
    let resource_id = required(input, "ResourceId")?;
    let size = match number(input, "MaxResults").map(usize::try_from) {
        None => MAX_PAGE_SIZE,
        Some(Ok(size @ 1..=MAX_PAGE_SIZE)) => size,
        Some(_) => return Err(invalid("MaxResults must be between 1 and 50")),
    };
    let actions = world.describe_scheduled_actions(&resource_id).map_err(refused)?;
    let (actions, next) = page(actions, text(input, "NextToken"), size)
        .ok_or_else(|| AwsError::sender("InvalidNextTokenException", "The next token supplied was invalid"))?;
    let described = actions.iter().map(|action| {
        let mut described = json!({
            "ScheduledActionName": action.name, "ScheduledActionARN": arn(world, &action.name), "ServiceNamespace": "ecs",
            "Schedule": action.schedule, "ResourceId": resource_id, "ScalableDimension": dimension,
            "CreationTime": seconds(action.created), "ScalableTargetAction": {},
        });
        if let Some(zone) = &action.time_zone {
            described["Timezone"] = zone.clone().into();
        }
        for (name, at) in [("StartTime", action.start), ("EndTime", action.end)] {
            if let Some(at) = at {
                described[name] = seconds(at).into();
            }
        }
        for (name, count) in [("MinCapacity", action.min), ("MaxCapacity", action.max)] {
            if let Some(count) = count {
                described["ScalableTargetAction"][name] = count.into();
            }
        }
        described
    });
    let mut answer = json!({"ScheduledActions": described.collect::<Vec<_>>()});
    if let Some(next) = next {
        answer["NextToken"] = next.into();
    }
    Ok(answer)
}

/// As awsJson writes a time.
fn seconds(at: rollout::Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

fn register_scalable_target(world: &mut World, input: &Value) -> OperationResult {
    required(input, "ServiceNamespace")?;
    let resource_id = required(input, "ResourceId")?;
    required(input, "ScalableDimension")?;
    dimension(input)?;
    let request: RegisterScalableTarget = serde_json::from_value(input.clone())
        .map_err(|error| AwsError::sender("SerializationException", error.to_string()))?;
    world.register_scalable_target(request).map_err(refused)?;
    Ok(json!({"ScalableTargetARN": arn(world, &resource_id)}))
}

/// AWS's have a random id; here it follows from the resource.
fn arn(world: &World, resource_id: &str) -> String {
    let settings = world.settings();
    let id: String = hex::encode(resource_id).chars().rev().take(32).collect();
    format!("arn:aws:application-autoscaling:{}:{}:scalable-target/{id}", settings.region, settings.account)
}

fn dimension(input: &Value) -> Result<Option<String>, AwsError> {
    match text(input, "ScalableDimension") {
        None => Ok(None),
        Some(DESIRED_COUNT) => Ok(Some(DESIRED_COUNT.to_owned())),
        Some(_) => Err(invalid("Unsupported service namespace, resource type or scalable dimension")),
    }
}

fn required(input: &Value, name: &str) -> Result<String, AwsError> {
    text(input, name).map(str::to_owned).ok_or_else(|| {
        let name = format!("{}{}", name[..1].to_lowercase(), &name[1..]);
        invalid(&format!(
            "1 validation error detected: Value at '{name}' failed to satisfy constraint: Member must not be null"
        ))
    })
}

fn invalid(message: &str) -> AwsError {
    AwsError::sender("ValidationException", message)
}
