//! Alarm and ECS events into what has changed (CloudWatch user guide, "Alarm events and EventBridge"; ECS developer
//! guide, "Amazon ECS events"). Only names are read: what the change means is looked up by whoever is woken.

use aws_lambda_events::event::eventbridge::EventBridgeEvent;
use engine::Watch;
use lambda::Failure;
use serde::Deserialize;
use serde_json::Value;

/// What an event tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// This changed.
    Changed(Watch),
    /// Nothing that a target could watch, and why.
    Nothing(&'static str),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AlarmDetail {
    alarm_name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TaskDetail {
    cluster_arn: String,
    /// `service:NAME` or `family:NAME`, or what `RunTask` was told; none where it was told nothing.
    group: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceDetail {
    /// In service actions only.
    cluster_arn: Option<String>,
}

/// The longest name of an alarm, a cluster or a service, in characters (their API references: `AlarmName`, `clusterName`,
/// `serviceName`).
pub(crate) const LONGEST_NAME: usize = 255;

/// Reads an event as EventBridge hands it over.
///
/// # Errors
/// `InvalidEvent`, with what was wrong: a foreign event, a field that is missing or is not what it should be.
pub(crate) fn read(event: Value) -> Result<Told, Failure> {
    let told = told(event)?;
    let names = match &told {
        Told::Changed(Watch::Alarm(name)) => vec![name],
        Told::Changed(Watch::EcsService(cluster, service)) => vec![cluster, service],
        Told::Changed(_) | Told::Nothing(_) => vec![],
    };
    match names.into_iter().find(|name| !(1..=LONGEST_NAME).contains(&name.chars().count())) {
        Some(name) => Err(Failure::event(format!("a name has 1 to {LONGEST_NAME} characters, and not `{name}`"))),
        None => Ok(told),
    }
}

fn told(event: Value) -> Result<Told, Failure> {
    let event = lambda::eventbridge(event)?;
    match (event.source.as_str(), event.detail_type.as_str()) {
        ("aws.cloudwatch", "CloudWatch Alarm State Change" | "CloudWatch Alarm Contributor State Change") => {
            let detail: AlarmDetail = lambda::read(event.detail, "detail")?;
            Ok(Told::Changed(Watch::Alarm(detail.alarm_name)))
        }
        ("aws.ecs", "ECS Deployment State Change" | "ECS Service Action") => service_of(&event).map(Told::Changed),
        ("aws.ecs", "ECS Task State Change") => {
            let detail: TaskDetail = lambda::read(event.detail, "detail")?;
            let Some(service) = detail.group.as_deref().and_then(|group| group.strip_prefix("service:")) else {
                return Ok(Told::Nothing("the task belongs to no service"));
            };
            let cluster = last_part(&detail.cluster_arn).to_owned();
            Ok(Told::Changed(Watch::EcsService(cluster, service.to_owned())))
        }
        _ => Err(lambda::foreign(
            &event,
            "alarm events of `aws.cloudwatch` and deployment, service and task events of `aws.ecs`",
        )),
    }
}

/// The service is the event's resource: `arn:aws:ecs:REGION:ACCOUNT:service/CLUSTER/NAME`. ARNs of before 2021 have no
/// cluster; a service action names it all the same.
fn service_of(event: &EventBridgeEvent<Value>) -> Result<Watch, Failure> {
    let resource =
        event.resources.iter().flatten().next().ok_or_else(|| Failure::event("resources: missing or empty"))?;
    let (_, path) = resource
        .split_once(":service/")
        .ok_or_else(|| Failure::event(format!("resources[0]: `{resource}` is not the ARN of an ECS service")))?;
    if let Some((cluster, service)) = path.split_once('/') {
        return Ok(Watch::EcsService(cluster.to_owned(), service.to_owned()));
    }
    let detail: ServiceDetail = lambda::read(event.detail.clone(), "detail")?;
    let cluster = detail.cluster_arn.ok_or_else(|| {
        Failure::event(format!("resources[0]: `{resource}` names no cluster, and detail.clusterArn is missing"))
    })?;
    Ok(Watch::EcsService(last_part(&cluster).to_owned(), path.to_owned()))
}

fn last_part(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! event {
        ($case:literal) => {
            serde_json::from_str::<Value>(include_str!(concat!("../../../events/signal-received.", $case, ".json")))
                .expect("the payload is JSON")
        };
    }

    fn alarm(name: &str) -> Told {
        Told::Changed(Watch::Alarm(name.to_owned()))
    }

    fn service(cluster: &str, name: &str) -> Told {
        Told::Changed(Watch::EcsService(cluster.to_owned(), name.to_owned()))
    }

    #[test]
    fn alarms_of_all_kinds_are_named() {
        assert_eq!(read(event!("alarm-metric")), Ok(alarm("shop-api-5xx")));
        assert_eq!(read(event!("alarm-composite")), Ok(alarm("shop-api-unfit")));
        assert_eq!(read(event!("alarm-contributor")), Ok(alarm("shop-api-5xx-by-path")));
    }

    #[test]
    fn services_are_named_with_their_cluster() {
        for event in [event!("ecs-deployment"), event!("ecs-service-action"), event!("ecs-task")] {
            assert_eq!(read(event), Ok(service("shop", "api-green")));
        }
        assert_eq!(read(event!("ecs-service-action-short-arn")), Ok(service("shop", "api-green")));
    }

    #[test]
    fn a_task_of_no_service_concerns_nobody() {
        assert_eq!(read(event!("ecs-task-standalone")), Ok(Told::Nothing("the task belongs to no service")));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let wrongs: Vec<String> = [event!("foreign"), event!("alarm-without-name"), event!("ecs-without-service")]
            .into_iter()
            .map(|event| {
                let failure = read(event).expect_err("nothing to be taken in");
                format!("{}: {failure}", failure.kind())
            })
            .collect();
        assert_eq!(
            wrongs,
            [
                "InvalidEvent: an event `AWS API Call via CloudTrail` of `aws.ecs` was sent here, where only alarm events \
                 of `aws.cloudwatch` and deployment, service and task events of `aws.ecs` are taken",
                "InvalidEvent: detail: missing field `alarmName`",
                "InvalidEvent: resources[0]: `arn:aws:ecs:us-west-2:123456789012:container-instance/abc` is not the ARN \
                 of an ECS service",
            ]
        );
    }

    #[test]
    fn the_direct_action_of_an_alarm_is_another_form_and_is_refused() {
        let failure = read(event!("alarm-direct-action")).expect_err("not by EventBridge");
        assert_eq!(failure.to_string(), "the event: missing field `detail-type`");
    }
}
