//! What the world tells the outside: facts in the past tense, and the payloads that EventBridge makes of them.

use super::alarms::{AlarmKind, AlarmState};
use super::ecs::Task;
use super::external::WantedTask;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Something happened.
#[derive(Debug, Clone, PartialEq)]
pub struct WorldEvent {
    /// When.
    pub at: Timestamp,
    /// Counts all events of a world: part of the payload's identity.
    pub sequence: u64,
    /// The Region that it happened in.
    pub region: String,
    /// The account that it happened in.
    pub account: String,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// "CloudWatch Alarm State Change"
    Alarm {
        /// ARN.
        arn: String,
        /// Name.
        name: String,
        /// State before.
        before: AlarmState,
        /// State now.
        now: AlarmState,
        /// CloudWatch's words.
        reason: String,
        /// Metric or composite.
        kind: AlarmKind,
    },
    /// "ECS Task State Change"
    Task(Box<Task>),
    /// "ECS Deployment State Change"
    Deployment {
        /// ARN of the service.
        service: String,
        /// The deployment's id.
        deployment: String,
        /// `SERVICE_DEPLOYMENT_IN_PROGRESS`, `…_COMPLETED`, `…_FAILED`.
        name: &'static str,
        /// ECS's words.
        reason: String,
    },
    /// "ECS Service Action"
    Service {
        /// ARN of the service.
        service: String,
        /// ARN of the cluster.
        cluster: String,
        /// `SERVICE_STEADY_STATE`, `SERVICE_TASK_PLACEMENT_FAILURE`, `SERVICE_TASK_START_IMPAIRED`.
        name: &'static str,
        /// ECS's words, where it has any.
        reason: Option<String>,
    },
    /// Only with [`TaskBackend::External`](super::TaskBackend::External): this task shall exist.
    TaskWanted(WantedTask),
    /// Only with [`TaskBackend::External`](super::TaskBackend::External): this task shall be stopped; it has no traffic.
    TaskUnwanted {
        /// The task's id.
        id: String,
    },
}

impl WorldEvent {
    /// The event as EventBridge delivers it; none for what concerns an external backend.
    #[must_use]
    pub fn eventbridge(&self) -> Option<Value> {
        let (source, detail_type, resources, detail) = match &self.what {
            What::Alarm { arn, name, before, now, reason, kind } => {
                let configuration = match kind {
                    AlarmKind::Composite { rule } => json!({"alarmRule": rule, "actionsEnabled": true}),
                    AlarmKind::Log { query } => json!({"queryString": query}),
                    AlarmKind::Metric(alarm) => json!({"metrics": [{
                        "id": "m1",
                        "metricStat": {
                            "metric": {
                                "namespace": "AWS/ApplicationELB",
                                "name": alarm.metric.name(),
                                "dimensions": {"LoadBalancer": alarm.load_balancer, "TargetGroup": alarm.target_group},
                            },
                            "period": alarm.period_s,
                            "stat": "Sum",
                        },
                        "returnData": true,
                    }]}),
                };
                let stamp = self.at.strftime("%Y-%m-%dT%H:%M:%S.000+0000").to_string();
                (
                    "aws.cloudwatch",
                    "CloudWatch Alarm State Change",
                    vec![arn.clone()],
                    json!({
                        "alarmName": name,
                        "state": {"value": now.as_str(), "reason": reason, "timestamp": stamp},
                        "previousState": {"value": before.as_str(), "timestamp": stamp},
                        "configuration": configuration,
                    }),
                )
            }
            What::Task(task) => {
                let mut detail = serde_json::to_value(task.as_ref()).unwrap_or_default();
                if let Value::Object(fields) = &mut detail {
                    // Events write times as text where the API writes numbers.
                    for (name, at) in [
                        ("createdAt", Some(task.created_at)),
                        ("startedAt", task.started_at),
                        ("stoppingAt", task.stopping_at),
                        ("stoppedAt", task.stopped_at),
                    ] {
                        if let Some(at) = at {
                            fields.insert(name.to_owned(), at.to_string().into());
                        }
                    }
                    fields.insert("updatedAt".to_owned(), self.at.to_string().into());
                    fields.insert("version".to_owned(), self.sequence.into());
                }
                ("aws.ecs", "ECS Task State Change", vec![task.task_arn.clone()], detail)
            }
            What::Deployment { service, deployment, name, reason } => (
                "aws.ecs",
                "ECS Deployment State Change",
                vec![service.clone()],
                json!({
                    "eventType": if *name == "SERVICE_DEPLOYMENT_FAILED" { "ERROR" } else { "INFO" },
                    "eventName": name,
                    "deploymentId": deployment,
                    "updatedAt": self.at.to_string(),
                    "reason": reason,
                }),
            ),
            What::Service { service, cluster, name, reason } => (
                "aws.ecs",
                "ECS Service Action",
                vec![service.clone()],
                json!({
                    "eventType": match *name {
                        "SERVICE_STEADY_STATE" => "INFO",
                        "SERVICE_TASK_START_IMPAIRED" => "WARN",
                        _ => "ERROR",
                    },
                    "eventName": name,
                    "clusterArn": cluster,
                    "createdAt": self.at.to_string(),
                    "reason": reason,
                }),
            ),
            What::TaskWanted(_) | What::TaskUnwanted { .. } => return None,
        };
        Some(json!({
            "version": "0",
            "id": format!("{:08x}-0000-4000-8000-{:012x}", self.sequence >> 32, self.sequence),
            "detail-type": detail_type,
            "source": source,
            "account": self.account,
            "time": self.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "region": self.region,
            "resources": resources,
            "detail": detail,
        }))
    }
}
