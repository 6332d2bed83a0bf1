//! Events that the world emits, and the EventBridge payloads that AWS would send for them.

use super::alarms::{AlarmDefinition, AlarmState};
use super::ecs::EcsTask;
use super::external::RequestedTask;
use jiff::Timestamp;
use serde_json::{Value, json};

/// An event, with its envelope.
#[derive(Debug, Clone, PartialEq)]
pub struct WorldEvent {
    /// Time of the occurrence.
    pub at: Timestamp,
    /// Running number over all events of a world; part of the payload's `id`.
    pub sequence: u64,
    /// Region in the payload.
    pub region: String,
    /// Account in the payload.
    pub account: String,
    /// Type and details.
    pub what: WorldEventKind,
}

/// Type of event, with its details.
#[derive(Debug, Clone, PartialEq)]
pub enum WorldEventKind {
    /// "CloudWatch Alarm State Change"
    Alarm {
        /// ARN of the alarm.
        arn: String,
        /// Name of the alarm.
        name: String,
        /// Previous state.
        before: AlarmState,
        /// New state.
        now: AlarmState,
        /// CloudWatch's explanation of the state change.
        reason: String,
        /// Metric or composite.
        kind: AlarmDefinition,
    },
    /// "ECS Task State Change"
    Task(Box<EcsTask>),
    /// "ECS Deployment State Change"
    Deployment {
        /// ARN of the service.
        service: String,
        /// The deployment's id.
        deployment: String,
        /// `SERVICE_DEPLOYMENT_IN_PROGRESS`, `…_COMPLETED`, `…_FAILED`.
        name: &'static str,
        /// ECS's explanation.
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
        /// ECS's explanation, where it gives one.
        reason: Option<String>,
    },
    /// Only with [`TaskBackend::External`](super::TaskBackend::External): the backend must start this task.
    TaskRequested(RequestedTask),
    /// Only with [`TaskBackend::External`](super::TaskBackend::External): the backend must stop this task; it has no
    /// traffic any more.
    TaskStopRequested {
        /// The task's id.
        id: String,
    },
}

impl WorldEvent {
    /// The event as EventBridge delivers it; none for events that concern an external backend.
    #[must_use]
    pub fn eventbridge(&self) -> Option<Value> {
        let (source, detail_type, resource, detail) = match &self.what {
            WorldEventKind::Alarm { arn, name, before, now, reason, kind } => {
                let detail = self.alarm_detail(name, [*before, *now], reason, kind);
                ("aws.cloudwatch", "CloudWatch Alarm State Change", arn, detail)
            }
            WorldEventKind::Task(task) => ("aws.ecs", "ECS Task State Change", &task.task_arn, self.task_detail(task)),
            WorldEventKind::Deployment { service, deployment, name, reason } => {
                let detail = json!({
                    "eventType": if *name == "SERVICE_DEPLOYMENT_FAILED" { "ERROR" } else { "INFO" },
                    "eventName": name,
                    "deploymentId": deployment,
                    "updatedAt": self.at.to_string(),
                    "reason": reason,
                });
                ("aws.ecs", "ECS Deployment State Change", service, detail)
            }
            WorldEventKind::Service { service, cluster, name, reason } => {
                let detail = json!({
                    "eventType": match *name {
                        "SERVICE_STEADY_STATE" => "INFO",
                        "SERVICE_TASK_START_IMPAIRED" => "WARN",
                        _ => "ERROR",
                    },
                    "eventName": name,
                    "clusterArn": cluster,
                    "createdAt": self.at.to_string(),
                    "reason": reason,
                });
                ("aws.ecs", "ECS Service Action", service, detail)
            }
            WorldEventKind::TaskRequested(_) | WorldEventKind::TaskStopRequested { .. } => return None,
        };
        Some(json!({
            "version": "0",
            "id": format!("{:08x}-0000-4000-8000-{:012x}", self.sequence >> 32, self.sequence),
            "detail-type": detail_type,
            "source": source,
            "account": self.account,
            "time": self.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "region": self.region,
            "resources": [resource],
            "detail": detail,
        }))
    }

    fn alarm_detail(&self, name: &str, [before, now]: [AlarmState; 2], reason: &str, kind: &AlarmDefinition) -> Value {
        let configuration = match kind {
            AlarmDefinition::Composite { rule } => json!({"alarmRule": rule, "actionsEnabled": true}),
            AlarmDefinition::Log { query } => json!({"queryString": query}),
            AlarmDefinition::Metric(alarm) => json!({"metrics": [{
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
        json!({
            "alarmName": name,
            "state": {"value": now.as_str(), "reason": reason, "timestamp": stamp},
            "previousState": {"value": before.as_str(), "timestamp": stamp},
            "configuration": configuration,
        })
    }

    /// The task as `DescribeTasks` returns it, with times as text: the API has numbers.
    fn task_detail(&self, task: &EcsTask) -> Value {
        let mut detail = serde_json::to_value(task).unwrap_or_default();
        if let Value::Object(fields) = &mut detail {
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
        detail
    }
}
