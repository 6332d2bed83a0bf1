//! Parses alarm, ECS and API-call events into the changed resource (CloudWatch user guide, "Alarm events and EventBridge"; ECS
//! developer guide, "Amazon ECS events"; EventBridge user guide, "AWS service events delivered through CloudTrail"). Only names
//! are read: the woken target observes what the change means. The author of an API call is passed on as text.

use aws_lambda_events::event::eventbridge::EventBridgeEvent;
use engine::WatchedResource;
use lambda::InvocationFailure;
use rollout::Timestamp;
use rollout::snapshot::ApiCall;
use serde::Deserialize;
use serde_json::Value;

/// Result of parsing an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ParsedSignal {
    /// A resource that changed.
    Changed(WatchedResource),
    /// A resource that was changed by an API call, and the call.
    Edited(WatchedResource, ApiCall),
    /// No watchable resource; contains the reason.
    Ignored(&'static str),
}

/// The detail type of API-call events of every service.
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
    /// `service:NAME` or `family:NAME`, or the group given to `RunTask`; `None` if none was given.
    group: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceDetail {
    /// Present in service actions only.
    cluster_arn: Option<String>,
}

/// An API call as CloudTrail records it (CloudTrail user guide, "CloudTrail record contents" and "userIdentity element").
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallDetail {
    event_name: String,
    event_time: Timestamp,
    #[serde(default)]
    user_identity: UserIdentity,
    request_parameters: Option<Parameters>,
    /// Present only if the call failed, in which case nothing changed.
    error_code: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserIdentity {
    arn: Option<String>,
    /// The service that made the call on behalf of the identity: `ecs.amazonaws.com`, `cloudformation.amazonaws.com`.
    invoked_by: Option<String>,
    session_context: Option<Session>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    session_issuer: Option<SessionIssuer>,
}

#[derive(Debug, Deserialize)]
struct SessionIssuer {
    arn: Option<String>,
}

/// Request parameters of the API calls that are evaluated.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    rule_arn: Option<String>,
    listener_arn: Option<String>,
    /// Name or ARN; ECS assumes `default` if absent.
    cluster: Option<String>,
    /// Name or ARN.
    service: Option<String>,
}

/// Maximum length of a rule's or listener's ARN, in characters; real ones have less than 200.
pub(crate) const MAX_ARN_CHARS: usize = 512;
/// Maximum length of a caller's description that is passed on, in characters.
const MAX_CALLER_CHARS: usize = 300;

/// Maximum length of a name of an alarm, a cluster or a service, in characters (their API references: `AlarmName`, `clusterName`,
/// `serviceName`).
pub(crate) const MAX_NAME_CHARS: usize = 255;

/// Reads an event as delivered by EventBridge.
///
/// # Errors
/// `InvalidEvent`, with the problem: a foreign event, or a missing or invalid field.
pub(crate) fn read(event: Value, own_role: Option<&str>) -> Result<ParsedSignal, InvocationFailure> {
    let parsed = parsed(event, own_role)?;
    let (names, longest) = match &parsed {
        ParsedSignal::Changed(WatchedResource::Alarm(name)) => (vec![name], MAX_NAME_CHARS),
        ParsedSignal::Changed(WatchedResource::EcsService(cluster, service))
        | ParsedSignal::Edited(WatchedResource::EcsService(cluster, service), _) => {
            (vec![cluster, service], MAX_NAME_CHARS)
        }
        ParsedSignal::Edited(WatchedResource::Rule(arn), _) => (vec![arn], MAX_ARN_CHARS),
        ParsedSignal::Changed(_) | ParsedSignal::Edited(..) | ParsedSignal::Ignored(_) => (vec![], 0),
    };
    match names.into_iter().find(|name| !(1..=longest).contains(&name.chars().count())) {
        Some(name) => Err(InvocationFailure::event(format!("a name has 1 to {longest} characters, and not `{name}`"))),
        None => Ok(parsed),
    }
}

fn parsed(event: Value, own_role: Option<&str>) -> Result<ParsedSignal, InvocationFailure> {
    let event = lambda::eventbridge(event)?;
    match (event.source.as_str(), event.detail_type.as_str()) {
        ("aws.elasticloadbalancing" | "aws.ecs", API_CALL) => {
            parse_api_call(lambda::read(event.detail, "detail")?, own_role)
        }
        ("aws.cloudwatch", "CloudWatch Alarm State Change" | "CloudWatch Alarm Contributor State Change") => {
            let detail: AlarmDetail = lambda::read(event.detail, "detail")?;
            Ok(ParsedSignal::Changed(WatchedResource::Alarm(detail.alarm_name)))
        }
        ("aws.ecs", "ECS Deployment State Change" | "ECS Service Action") => {
            service_of(&event).map(ParsedSignal::Changed)
        }
        ("aws.ecs", "ECS Task State Change") => {
            let detail: TaskDetail = lambda::read(event.detail, "detail")?;
            let Some(service) = detail.group.as_deref().and_then(|group| group.strip_prefix("service:")) else {
                return Ok(ParsedSignal::Ignored("the task belongs to no service"));
            };
            let cluster = last_part(&detail.cluster_arn).to_owned();
            Ok(ParsedSignal::Changed(WatchedResource::EcsService(cluster, service.to_owned())))
        }
        _ => Err(lambda::unexpected_event(
            &event,
            "alarm events of `aws.cloudwatch`, deployment, service and task events of `aws.ecs`, and API calls of \
             `aws.elasticloadbalancing` and `aws.ecs`",
        )),
    }
}

/// The resource that an API call changed. Only calls whose change an observation can see are evaluated: `SetRulePriorities` and
/// `CreateRule` affect which rule matches a request but not the rule's weights, and ECS itself registers and deregisters targets
/// with every task. The driver's own writes are not edits: its role is `own_role`.
fn parse_api_call(call: CallDetail, own_role: Option<&str>) -> Result<ParsedSignal, InvocationFailure> {
    let CallDetail { event_name, event_time, user_identity, request_parameters, error_code } = call;
    if error_code.is_some() {
        return Ok(ParsedSignal::Ignored("the API call was refused"));
    }
    let UserIdentity { arn, invoked_by, session_context } = user_identity;
    let role = session_context.and_then(|session| session.session_issuer).and_then(|issuer| issuer.arn);
    if own_role.is_some() && role.as_deref() == own_role {
        return Ok(ParsedSignal::Ignored("the API call is the driver's own"));
    }
    let Parameters { rule_arn, listener_arn, cluster, service } = request_parameters.unwrap_or_default();
    let missing =
        |what: &str| InvocationFailure::event(format!("detail.requestParameters: missing `{what}` of {event_name}"));
    let watch = match event_name.as_str() {
        "ModifyRule" | "DeleteRule" => WatchedResource::Rule(rule_arn.ok_or_else(|| missing("ruleArn"))?),
        "ModifyListener" | "DeleteListener" => {
            WatchedResource::Rule(listener_arn.ok_or_else(|| missing("listenerArn"))?)
        }
        "UpdateService" | "DeleteService" => {
            let cluster = cluster.unwrap_or_else(|| "default".to_owned());
            let service = service.ok_or_else(|| missing("service"))?;
            WatchedResource::EcsService(last_part(&cluster).to_owned(), last_part(&service).to_owned())
        }
        _ => return Ok(ParsedSignal::Ignored("the API call changes nothing that is watched")),
    };
    let by = arn.or(invoked_by).unwrap_or_else(|| "somebody whom CloudTrail does not name".to_owned());
    let by = by.chars().filter(|sign| !sign.is_control()).take(MAX_CALLER_CHARS).collect();
    Ok(ParsedSignal::Edited(watch, ApiCall { operation: event_name, by, at: event_time }))
}

/// The service is the event's resource: `arn:aws:ecs:REGION:ACCOUNT:service/CLUSTER/NAME`. ARNs in the format from before 2021
/// lack the cluster, but a service action names it in its detail.
fn service_of(event: &EventBridgeEvent<Value>) -> Result<WatchedResource, InvocationFailure> {
    let resource = event
        .resources
        .iter()
        .flatten()
        .next()
        .ok_or_else(|| InvocationFailure::event("resources: missing or empty"))?;
    let (_, path) = resource.split_once(":service/").ok_or_else(|| {
        InvocationFailure::event(format!("resources[0]: `{resource}` is not the ARN of an ECS service"))
    })?;
    if let Some((cluster, service)) = path.split_once('/') {
        return Ok(WatchedResource::EcsService(cluster.to_owned(), service.to_owned()));
    }
    let detail: ServiceDetail = lambda::read(event.detail.clone(), "detail")?;
    let cluster = detail.cluster_arn.ok_or_else(|| {
        InvocationFailure::event(format!(
            "resources[0]: `{resource}` names no cluster, and detail.clusterArn is missing"
        ))
    })?;
    Ok(WatchedResource::EcsService(last_part(&cluster).to_owned(), path.to_owned()))
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

    /// The driver's role in these events.
    const DRIVER: &str = "arn:aws:iam::123456789012:role/switchback-RolloutDriverRole-1A2B3C";

    fn read_event(event: Value) -> Result<ParsedSignal, InvocationFailure> {
        read(event, Some(DRIVER))
    }

    fn alarm(name: &str) -> ParsedSignal {
        ParsedSignal::Changed(WatchedResource::Alarm(name.to_owned()))
    }

    fn service(cluster: &str, name: &str) -> ParsedSignal {
        ParsedSignal::Changed(WatchedResource::EcsService(cluster.to_owned(), name.to_owned()))
    }

    #[test]
    fn all_kinds_of_alarm_events_are_parsed() {
        assert_eq!(read_event(event!("alarm-metric")), Ok(alarm("shop-api-5xx")));
        assert_eq!(read_event(event!("alarm-composite")), Ok(alarm("shop-api-unfit")));
        assert_eq!(read_event(event!("alarm-contributor")), Ok(alarm("shop-api-5xx-by-path")));
    }

    #[test]
    fn ecs_events_name_service_and_cluster() {
        for event in [event!("ecs-deployment"), event!("ecs-service-action"), event!("ecs-task")] {
            assert_eq!(read_event(event), Ok(service("shop", "api-green")));
        }
        assert_eq!(read_event(event!("ecs-service-action-short-arn")), Ok(service("shop", "api-green")));
    }

    #[test]
    fn a_standalone_task_is_ignored() {
        assert_eq!(
            read_event(event!("ecs-task-standalone")),
            Ok(ParsedSignal::Ignored("the task belongs to no service"))
        );
    }

    #[test]
    fn invalid_events_name_the_wrong_field() {
        let wrongs: Vec<String> = [event!("foreign"), event!("alarm-without-name"), event!("ecs-without-service")]
            .into_iter()
            .map(|event| {
                let failure = read_event(event).expect_err("nothing to be taken in");
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
    fn a_direct_alarm_action_is_refused() {
        let failure = read_event(event!("alarm-direct-action")).expect_err("not by EventBridge");
        assert_eq!(failure.to_string(), "the event: missing field `detail-type`");
    }

    fn terraform(operation: &str) -> ApiCall {
        let by = "arn:aws:sts::123456789012:assumed-role/terraform/ci".to_owned();
        ApiCall { operation: operation.to_owned(), by, at: "2026-11-22T19:27:22Z".parse().expect("a time") }
    }

    #[test]
    fn an_edit_names_the_resource_and_the_caller() {
        let arn = "arn:aws:elasticloadbalancing:us-west-2:123456789012:listener-rule/app/shop/50dc6c495c0c9188/f2f7dc8efc522ab2/9683b2d02a6cabee";
        let rule = WatchedResource::Rule(arn.to_owned());
        assert_eq!(read_event(event!("api-modify-rule")), Ok(ParsedSignal::Edited(rule, terraform("ModifyRule"))));
        let service = WatchedResource::EcsService("shop".to_owned(), "api-green".to_owned());
        assert_eq!(
            read_event(event!("api-delete-service")),
            Ok(ParsedSignal::Edited(service, terraform("DeleteService")))
        );
        let mut listener = event!("api-modify-rule");
        let arn =
            "arn:aws:elasticloadbalancing:us-west-2:123456789012:listener/app/shop/50dc6c495c0c9188/f2f7dc8efc522ab2";
        listener["detail"]["eventName"] = "ModifyListener".into();
        listener["detail"]["requestParameters"] = serde_json::json!({"listenerArn": arn, "defaultActions": []});
        let rule = WatchedResource::Rule(arn.to_owned());
        assert_eq!(read_event(listener), Ok(ParsedSignal::Edited(rule, terraform("ModifyListener"))));
    }

    #[test]
    fn own_refused_and_irrelevant_api_calls_are_ignored() {
        let own = read_event(event!("api-own-write"));
        assert_eq!(own, Ok(ParsedSignal::Ignored("the API call is the driver's own")));
        let mut refused = event!("api-modify-rule");
        refused["detail"]["errorCode"] = "AccessDenied".into();
        assert_eq!(read_event(refused), Ok(ParsedSignal::Ignored("the API call was refused")));
        let mut other = event!("api-modify-rule");
        other["detail"]["eventName"] = "SetRulePriorities".into();
        assert_eq!(read_event(other), Ok(ParsedSignal::Ignored("the API call changes nothing that is watched")));
        let mut damaged = event!("api-modify-rule");
        damaged["detail"]["requestParameters"] = serde_json::json!({});
        let failure = read_event(damaged).expect_err("it names no rule").to_string();
        assert_eq!(failure, "detail.requestParameters: missing `ruleArn` of ModifyRule");
    }
}
