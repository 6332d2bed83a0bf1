//! Alarm, ECS and API-call events into what has changed (CloudWatch user guide, "Alarm events and EventBridge"; ECS developer
//! guide, "Amazon ECS events"; EventBridge user guide, "AWS service events delivered through CloudTrail"). Only names are read:
//! what the change means is looked up by whoever is woken. Who called an API is handed on as words.

use aws_lambda_events::event::eventbridge::EventBridgeEvent;
use engine::Watch;
use lambda::Failure;
use rollout::Timestamp;
use rollout::snapshot::ApiCall;
use serde::Deserialize;
use serde_json::Value;

/// What an event tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// This changed.
    Changed(Watch),
    /// Somebody changed this by an API call.
    Edited(Watch, ApiCall),
    /// Nothing that a target could watch, and why.
    Nothing(&'static str),
}

/// The detail type of an API call, whichever service it is of.
const API_CALL: &str = "AWS API Call via CloudTrail";

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

/// An API call as CloudTrail records it (CloudTrail user guide, "CloudTrail record contents" and "userIdentity element").
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallDetail {
    event_name: String,
    event_time: Timestamp,
    #[serde(default)]
    user_identity: Identity,
    request_parameters: Option<Parameters>,
    /// There only where the call failed: nothing has changed then.
    error_code: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    arn: Option<String>,
    /// Who called for somebody else: `ecs.amazonaws.com`, `cloudformation.amazonaws.com`.
    invoked_by: Option<String>,
    session_context: Option<Session>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    session_issuer: Option<Issuer>,
}

#[derive(Debug, Deserialize)]
struct Issuer {
    arn: Option<String>,
}

/// What the calls name that are looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    rule_arn: Option<String>,
    listener_arn: Option<String>,
    /// Name or ARN; ECS takes `default` where there is none.
    cluster: Option<String>,
    /// Name or ARN.
    service: Option<String>,
}

/// The longest ARN of a rule or a listener that is looked up, in characters; real ones have less than 200.
pub(crate) const LONGEST_ARN: usize = 512;
/// How much of what CloudTrail says of a caller is handed on, in characters.
const LONGEST_CALLER: usize = 300;

/// The longest name of an alarm, a cluster or a service, in characters (their API references: `AlarmName`, `clusterName`,
/// `serviceName`).
pub(crate) const LONGEST_NAME: usize = 255;

/// Reads an event as EventBridge hands it over.
///
/// # Errors
/// `InvalidEvent`, with what was wrong: a foreign event, a field that is missing or is not what it should be.
pub(crate) fn read(event: Value, own_role: Option<&str>) -> Result<Told, Failure> {
    let told = told(event, own_role)?;
    let (names, longest) = match &told {
        Told::Changed(Watch::Alarm(name)) => (vec![name], LONGEST_NAME),
        Told::Changed(Watch::EcsService(cluster, service)) | Told::Edited(Watch::EcsService(cluster, service), _) => {
            (vec![cluster, service], LONGEST_NAME)
        }
        Told::Edited(Watch::Rule(arn), _) => (vec![arn], LONGEST_ARN),
        Told::Changed(_) | Told::Edited(..) | Told::Nothing(_) => (vec![], 0),
    };
    match names.into_iter().find(|name| !(1..=longest).contains(&name.chars().count())) {
        Some(name) => Err(Failure::event(format!("a name has 1 to {longest} characters, and not `{name}`"))),
        None => Ok(told),
    }
}

fn told(event: Value, own_role: Option<&str>) -> Result<Told, Failure> {
    let event = lambda::eventbridge(event)?;
    match (event.source.as_str(), event.detail_type.as_str()) {
        ("aws.elasticloadbalancing" | "aws.ecs", API_CALL) => edited(lambda::read(event.detail, "detail")?, own_role),
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
            "alarm events of `aws.cloudwatch`, deployment, service and task events of `aws.ecs`, and API calls of \
             `aws.elasticloadbalancing` and `aws.ecs`",
        )),
    }
}

/// What an API call changed. Of those that change rules, listeners and services these are the ones that a look would see:
/// `SetRulePriorities` and `CreateRule` decide which rule a request meets and leave the rule's weights, and targets are registered
/// and deregistered by ECS itself with every task. What the driver writes is no edit: its role is `own_role`.
fn edited(call: CallDetail, own_role: Option<&str>) -> Result<Told, Failure> {
    let CallDetail { event_name, event_time, user_identity, request_parameters, error_code } = call;
    if error_code.is_some() {
        return Ok(Told::Nothing("the API call was refused"));
    }
    let Identity { arn, invoked_by, session_context } = user_identity;
    let role = session_context.and_then(|session| session.session_issuer).and_then(|issuer| issuer.arn);
    if own_role.is_some() && role.as_deref() == own_role {
        return Ok(Told::Nothing("the API call is the driver's own"));
    }
    let Parameters { rule_arn, listener_arn, cluster, service } = request_parameters.unwrap_or_default();
    let missing = |what: &str| Failure::event(format!("detail.requestParameters: missing `{what}` of {event_name}"));
    let watch = match event_name.as_str() {
        "ModifyRule" | "DeleteRule" => Watch::Rule(rule_arn.ok_or_else(|| missing("ruleArn"))?),
        "ModifyListener" | "DeleteListener" => Watch::Rule(listener_arn.ok_or_else(|| missing("listenerArn"))?),
        "UpdateService" | "DeleteService" => {
            let cluster = cluster.unwrap_or_else(|| "default".to_owned());
            let service = service.ok_or_else(|| missing("service"))?;
            Watch::EcsService(last_part(&cluster).to_owned(), last_part(&service).to_owned())
        }
        _ => return Ok(Told::Nothing("the API call changes nothing that is watched")),
    };
    let by = arn.or(invoked_by).unwrap_or_else(|| "somebody whom CloudTrail does not name".to_owned());
    let by = by.chars().filter(|sign| !sign.is_control()).take(LONGEST_CALLER).collect();
    Ok(Told::Edited(watch, ApiCall { operation: event_name, by, at: event_time }))
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

    /// The role of the driver in these events.
    const DRIVER: &str = "arn:aws:iam::123456789012:role/switchback-RolloutDriverRole-1A2B3C";

    fn read_by_nobody(event: Value) -> Result<Told, Failure> {
        read(event, Some(DRIVER))
    }

    fn alarm(name: &str) -> Told {
        Told::Changed(Watch::Alarm(name.to_owned()))
    }

    fn service(cluster: &str, name: &str) -> Told {
        Told::Changed(Watch::EcsService(cluster.to_owned(), name.to_owned()))
    }

    #[test]
    fn alarms_of_all_kinds_are_named() {
        assert_eq!(read_by_nobody(event!("alarm-metric")), Ok(alarm("shop-api-5xx")));
        assert_eq!(read_by_nobody(event!("alarm-composite")), Ok(alarm("shop-api-unfit")));
        assert_eq!(read_by_nobody(event!("alarm-contributor")), Ok(alarm("shop-api-5xx-by-path")));
    }

    #[test]
    fn services_are_named_with_their_cluster() {
        for event in [event!("ecs-deployment"), event!("ecs-service-action"), event!("ecs-task")] {
            assert_eq!(read_by_nobody(event), Ok(service("shop", "api-green")));
        }
        assert_eq!(read_by_nobody(event!("ecs-service-action-short-arn")), Ok(service("shop", "api-green")));
    }

    #[test]
    fn a_task_of_no_service_concerns_nobody() {
        assert_eq!(read_by_nobody(event!("ecs-task-standalone")), Ok(Told::Nothing("the task belongs to no service")));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let wrongs: Vec<String> = [event!("foreign"), event!("alarm-without-name"), event!("ecs-without-service")]
            .into_iter()
            .map(|event| {
                let failure = read_by_nobody(event).expect_err("nothing to be taken in");
                format!("{}: {failure}", failure.kind())
            })
            .collect();
        assert_eq!(
            wrongs,
            [
                "InvalidEvent: an event `ECS Container Instance State Change` of `aws.ecs` was sent here, where only alarm \
                 events of `aws.cloudwatch`, deployment, service and task events of `aws.ecs`, and API calls of \
                 `aws.elasticloadbalancing` and `aws.ecs` are taken",
                "InvalidEvent: detail: missing field `alarmName`",
                "InvalidEvent: resources[0]: `arn:aws:ecs:us-west-2:123456789012:container-instance/abc` is not the ARN \
                 of an ECS service",
            ]
        );
    }

    #[test]
    fn the_direct_action_of_an_alarm_is_another_form_and_is_refused() {
        let failure = read_by_nobody(event!("alarm-direct-action")).expect_err("not by EventBridge");
        assert_eq!(failure.to_string(), "the event: missing field `detail-type`");
    }

    fn terraform(operation: &str) -> ApiCall {
        let by = "arn:aws:sts::123456789012:assumed-role/terraform/ci".to_owned();
        ApiCall { operation: operation.to_owned(), by, at: "2026-11-22T19:27:22Z".parse().expect("a time") }
    }

    #[test]
    fn an_edit_names_what_was_edited_and_who_did_it() {
        let arn = "arn:aws:elasticloadbalancing:us-west-2:123456789012:listener-rule/app/shop/50dc6c495c0c9188/f2f7dc8efc522ab2/9683b2d02a6cabee";
        let rule = Watch::Rule(arn.to_owned());
        assert_eq!(read_by_nobody(event!("api-modify-rule")), Ok(Told::Edited(rule, terraform("ModifyRule"))));
        let service = Watch::EcsService("shop".to_owned(), "api-green".to_owned());
        assert_eq!(read_by_nobody(event!("api-delete-service")), Ok(Told::Edited(service, terraform("DeleteService"))));
        let mut listener = event!("api-modify-rule");
        let arn =
            "arn:aws:elasticloadbalancing:us-west-2:123456789012:listener/app/shop/50dc6c495c0c9188/f2f7dc8efc522ab2";
        listener["detail"]["eventName"] = "ModifyListener".into();
        listener["detail"]["requestParameters"] = serde_json::json!({"listenerArn": arn, "defaultActions": []});
        let rule = Watch::Rule(arn.to_owned());
        assert_eq!(read_by_nobody(listener), Ok(Told::Edited(rule, terraform("ModifyListener"))));
    }

    #[test]
    fn what_the_driver_writes_what_was_refused_and_what_no_look_sees_wakes_nobody() {
        let own = read_by_nobody(event!("api-own-write"));
        assert_eq!(own, Ok(Told::Nothing("the API call is the driver's own")));
        let mut refused = event!("api-modify-rule");
        refused["detail"]["errorCode"] = "AccessDenied".into();
        assert_eq!(read_by_nobody(refused), Ok(Told::Nothing("the API call was refused")));
        let mut other = event!("api-modify-rule");
        other["detail"]["eventName"] = "SetRulePriorities".into();
        assert_eq!(read_by_nobody(other), Ok(Told::Nothing("the API call changes nothing that is watched")));
        let mut damaged = event!("api-modify-rule");
        damaged["detail"]["requestParameters"] = serde_json::json!({});
        let failure = read_by_nobody(damaged).expect_err("it names no rule").to_string();
        assert_eq!(failure, "detail.requestParameters: missing `ruleArn` of ModifyRule");
    }
}
