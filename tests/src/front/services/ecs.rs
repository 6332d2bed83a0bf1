//! ECS (awsJson 1.1, `AmazonEC2ContainerServiceV20141113`): services and their deployments, task definitions, tasks.

use super::input::{boolean, number, page, text, texts};
use super::{OperationResult, refused};
use crate::front::protocol::AwsError;
use rollout::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use simulation::world::World;
use simulation::world::ecs::{ListServiceDeployments, ListTasks, RunTask, UpdateService, UpdateTaskProtection};

/// The largest page (API reference), and that of `ListTasks` and `ListTaskDefinitions` where none is asked for.
const MAX_PAGE_SIZE: usize = 100;
/// The page of `ListServiceDeployments` where none is asked for (API reference).
const DEFAULT_DEPLOYMENTS_PAGE: usize = 20;
/// Statuses of a service deployment (API reference, `ServiceDeploymentStatus`).
const DEPLOYMENT_STATUSES: [&str; 9] = [
    "PENDING",
    "SUCCESSFUL",
    "STOPPED",
    "STOP_REQUESTED",
    "IN_PROGRESS",
    "ROLLBACK_REQUESTED",
    "ROLLBACK_IN_PROGRESS",
    "ROLLBACK_SUCCESSFUL",
    "ROLLBACK_FAILED",
];

/// What the world makes something of in `UpdateService`.
const UPDATE_FIELDS: [&str; 9] = [
    "cluster",
    "service",
    "desiredCount",
    "taskDefinition",
    "forceNewDeployment",
    "deploymentConfiguration",
    "networkConfiguration",
    "volumeConfigurations",
    "healthCheckGracePeriodSeconds",
];

/// What the world makes something of in `ListTasks`.
const LIST_FIELDS: [&str; 7] =
    ["cluster", "family", "serviceName", "startedBy", "desiredStatus", "maxResults", "nextToken"];

/// What the world makes something of in `RunTask`, and what is accepted without a difference that anybody could see.
const RUN_FIELDS: [&str; 17] = [
    "cluster",
    "taskDefinition",
    "count",
    "overrides",
    "startedBy",
    "clientToken",
    "networkConfiguration",
    "launchType",
    "capacityProviderStrategy",
    "volumeConfigurations",
    "platformVersion",
    "group",
    "tags",
    "propagateTags",
    "enableECSManagedTags",
    "enableExecuteCommand",
    "referenceId",
];

pub(super) fn perform(world: &mut World, operation: &str, input: &Value) -> Option<OperationResult> {
    Some(match operation {
        "DescribeServices" => describe_services(world, input),
        "UpdateService" => update_service(world, input),
        "ListServiceDeployments" => list_service_deployments(world, input),
        "DescribeServiceDeployments" => describe_service_deployments(world, input),
        "DescribeServiceRevisions" => describe_service_revisions(world, input),
        "DescribeTaskDefinition" => describe_task_definition(world, input),
        "RegisterTaskDefinition" => register_task_definition(world, input),
        "ListTaskDefinitions" => list_task_definitions(world, input),
        "DescribeTasks" => describe_tasks(world, input),
        "ListTasks" => list_tasks(world, input),
        "RunTask" => run_task(world, input),
        "StopTask" => stop_task(world, input),
        "GetTaskProtection" => get_task_protection(world, input),
        "UpdateTaskProtection" => update_task_protection(world, input),
        _ => return None,
    })
}

fn describe_services(world: &mut World, input: &Value) -> OperationResult {
    let services = texts(input, "services");
    let (found, failures) = world.describe_services(cluster(input), &services).map_err(refused)?;
    Ok(json!({"services": found, "failures": failures}))
}

fn update_service(world: &mut World, input: &Value) -> OperationResult {
    require_modelled(input, &UPDATE_FIELDS)?;
    let request: UpdateService = read(input)?;
    let service = world.update_service(request).map_err(refused)?;
    Ok(json!({"service": service}))
}

fn list_service_deployments(world: &mut World, input: &Value) -> OperationResult {
    let status = texts(input, "status");
    if let Some(unknown) = status.iter().find(|status| !DEPLOYMENT_STATUSES.contains(&status.as_str())) {
        return Err(invalid(&format!("Invalid service deployment status: {unknown}")));
    }
    let created = |bound: &str| input["createdAt"][bound].as_f64().and_then(instant);
    let request = ListServiceDeployments {
        cluster: cluster(input).to_owned(),
        service: text(input, "service").ok_or_else(|| invalid("Service cannot be empty."))?.to_owned(),
        status,
        created_before: created("before"),
        created_after: created("after"),
    };
    let found = world.list_service_deployments(&request).map_err(refused)?;
    paged("serviceDeployments", found, input, DEFAULT_DEPLOYMENTS_PAGE)
}

fn describe_service_deployments(world: &mut World, input: &Value) -> OperationResult {
    let arns = texts(input, "serviceDeploymentArns");
    let (found, failures) = world.describe_service_deployments(&arns).map_err(refused)?;
    Ok(json!({"serviceDeployments": found, "failures": failures}))
}

fn describe_service_revisions(world: &mut World, input: &Value) -> OperationResult {
    let arns = texts(input, "serviceRevisionArns");
    let (found, failures) = world.describe_service_revisions(&arns).map_err(refused)?;
    Ok(json!({"serviceRevisions": found, "failures": failures}))
}

fn describe_task_definition(world: &mut World, input: &Value) -> OperationResult {
    let reference = text(input, "taskDefinition")
        .ok_or_else(|| AwsError::sender("ClientException", "TaskDefinition cannot be empty"))?;
    let definition = world.describe_task_definition(reference).map_err(refused)?;
    let mut answer = json!({"taskDefinition": definition.wire()});
    if texts(input, "include").iter().any(|what| what == "TAGS") {
        answer["tags"] = definition.tags;
    }
    Ok(answer)
}

fn register_task_definition(world: &mut World, input: &Value) -> OperationResult {
    let definition = world.register_task_definition(input.clone()).map_err(refused)?;
    Ok(json!({"taskDefinition": definition.wire(), "tags": definition.tags}))
}

fn list_task_definitions(world: &mut World, input: &Value) -> OperationResult {
    let newest_first = match text(input, "sort") {
        None | Some("ASC") => false,
        Some("DESC") => true,
        Some(other) => return Err(invalid(&format!("Invalid sort order: {other}"))),
    };
    match text(input, "status") {
        None | Some("ACTIVE") => {}
        Some(other) => return Err(not_modelled(&format!("list of {other} task definitions"))),
    }
    let arns = world.list_task_definitions(text(input, "familyPrefix"), newest_first).map_err(refused)?;
    paged("taskDefinitionArns", arns, input, MAX_PAGE_SIZE)
}

fn describe_tasks(world: &mut World, input: &Value) -> OperationResult {
    let tasks = texts(input, "tasks");
    let (found, failures) = world.describe_tasks(cluster(input), &tasks).map_err(refused)?;
    Ok(json!({"tasks": found, "failures": failures}))
}

fn list_tasks(world: &mut World, input: &Value) -> OperationResult {
    require_modelled(input, &LIST_FIELDS)?;
    let request: ListTasks = read(input)?;
    let arns = world.list_tasks(request).map_err(refused)?;
    paged("taskArns", arns, input, MAX_PAGE_SIZE)
}

fn run_task(world: &mut World, input: &Value) -> OperationResult {
    require_modelled(input, &RUN_FIELDS)?;
    let request: RunTask = read(input)?;
    let ran = world.run_task(request).map_err(refused)?;
    Ok(json!({"tasks": ran.tasks, "failures": ran.failures}))
}

fn stop_task(world: &mut World, input: &Value) -> OperationResult {
    let task = text(input, "task").ok_or_else(|| invalid("Task cannot be empty."))?;
    let task = world.stop_task(cluster(input), task, text(input, "reason")).map_err(refused)?;
    Ok(json!({"task": task}))
}

fn get_task_protection(world: &mut World, input: &Value) -> OperationResult {
    let tasks = texts(input, "tasks");
    let (found, failures) = world.get_task_protection(required_cluster(input)?, &tasks).map_err(refused)?;
    Ok(json!({"protectedTasks": found, "failures": failures}))
}

fn update_task_protection(world: &mut World, input: &Value) -> OperationResult {
    required_cluster(input)?;
    if boolean(input, "protectionEnabled").is_none() {
        return Err(invalid("protectionEnabled must be specified."));
    }
    let request: UpdateTaskProtection = read(input)?;
    let (found, failures) = world.update_task_protection(&request).map_err(refused)?;
    Ok(json!({"protectedTasks": found, "failures": failures}))
}

/// The cluster, where there is no default.
fn required_cluster(input: &Value) -> Result<&str, AwsError> {
    text(input, "cluster").ok_or_else(|| invalid("Cluster cannot be empty."))
}

/// A time in seconds since 1970; none: it is out of range.
fn instant(seconds: f64) -> Option<Timestamp> {
    Timestamp::from_millisecond((seconds * 1000.0).round() as i64).ok()
}

/// The cluster that is named; none is the default one.
fn cluster(input: &Value) -> &str {
    text(input, "cluster").unwrap_or_default()
}

fn read<T: DeserializeOwned>(input: &Value) -> Result<T, AwsError> {
    serde_json::from_value(input.clone()).map_err(|error| AwsError::sender("SerializationException", error.to_string()))
}

/// What the world would drop in silence is refused.
fn require_modelled(input: &Value, fields: &[&str]) -> Result<(), AwsError> {
    let given = input.as_object().into_iter().flatten();
    match given.map(|(name, _)| name).find(|name| !fields.contains(&name.as_str())) {
        Some(name) => Err(not_modelled(name)),
        None => Ok(()),
    }
}

fn paged<T: Serialize>(name: &str, all: Vec<T>, input: &Value, default_size: usize) -> OperationResult {
    let size = match number(input, "maxResults").map(usize::try_from) {
        None => default_size,
        Some(Ok(size @ 1..=MAX_PAGE_SIZE)) => size,
        Some(_) => return Err(invalid("Invalid maxResults: it must be between 1 and 100")),
    };
    let (page, next) =
        page(all, text(input, "nextToken"), size).ok_or_else(|| invalid("Invalid token in nextToken"))?;
    let mut answer = json!({name: page});
    if let Some(next) = next {
        answer["nextToken"] = next.into();
    }
    Ok(answer)
}

fn invalid(message: &str) -> AwsError {
    AwsError::sender("InvalidParameterException", message)
}

/// AWS would do it; the world cannot. A status that AWS never answers, so that nobody takes it for AWS's word.
fn not_modelled(what: &str) -> AwsError {
    AwsError::new(501, "NotModelled", format!("the world has no {what}"))
}
