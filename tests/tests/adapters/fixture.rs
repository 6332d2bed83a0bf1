//! A pair to try effects on, and a way to ask what is really there that is not the product's.

use aws::Clients;
use aws::cloud::AwsCloud;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use engine::Cloud as _;
use rollout::template::TemplateReading;
use rollout::{EcsServiceName, Effect, ObservationPlan, Outcome, Reading, Slot, Snapshot, TargetResources};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use tests::harness::REGION;
use tests::harness::aws::Aws;

/// A pair behind rules, at some address that speaks AWS's protocols.
#[derive(Debug)]
pub(crate) struct PairFixture {
    /// What is tried.
    pub(crate) cloud: AwsCloud,
    /// Who is asked what came of it.
    pub(crate) raw: Aws,
    /// The first rule is a listener rule with a sign-in and a third target group; the second one is a listener.
    pub(crate) resources: TargetResources,
    /// The third target group.
    pub(crate) foreign_group: String,
    /// ARN of a rule that forwards to blue's target group alone.
    pub(crate) plain_rule: String,
    /// ARN of the task definition that both services have: containers `api` and `proxy`, a secret, tags.
    pub(crate) task_definition: String,
}

/// The weight of the third target group, which nobody may change.
pub(crate) const FOREIGN_WEIGHT: u16 = 7;
/// The rule's group stickiness in seconds, which nobody may change.
pub(crate) const STICKY_FOR: u32 = 600;

/// The product's cloud at `address`.
pub(crate) async fn cloud_at(address: SocketAddr) -> AwsCloud {
    let config = aws_config::defaults(BehaviorVersion::latest())
        .endpoint_url(format!("http://{address}"))
        .region(Region::from_static(REGION))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .load()
        .await;
    AwsCloud::new(Clients::of(config))
}

/// The document that both services' task definition is registered as.
pub(crate) fn task_definition(family: &str) -> Value {
    json!({
        "family": family,
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256",
        "memory": "512",
        "taskRoleArn": "arn:aws:iam::123456789012:role/task",
        "executionRoleArn": "arn:aws:iam::123456789012:role/execution",
        "runtimePlatform": {"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"},
        "volumes": [{"name": "cache"}],
        "containerDefinitions": [
            {
                "name": "api",
                "image": "registry.example.com/shop/api@sha256:old",
                "essential": true,
                "memoryReservation": 256,
                "portMappings": [{"containerPort": 8080, "protocol": "tcp"}],
                "environment": [{"name": "MODE", "value": "live"}],
                "secrets": [{"name": "PASSWORD", "valueFrom": "arn:aws:ssm:eu-central-1:123456789012:parameter/p"}],
                "healthCheck": {"command": ["CMD-SHELL", "true"], "interval": 30, "retries": 3},
                "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "shop"}},
            },
            {"name": "proxy", "image": "registry.example.com/proxy:1", "essential": false, "memoryReservation": 64},
        ],
        "tags": [{"key": "team", "value": "shop"}],
    })
}

impl PairFixture {
    /// A look at the pair alone.
    pub(crate) fn observation(&self) -> ObservationPlan {
        ObservationPlan {
            resources: self.resources.clone(),
            workloads: true,
            tasks: false,
            images: false,
            alarms: BTreeSet::new(),
            decisive_alarms: BTreeSet::new(),
            failed_starts_query: None,
            scheduled_actions_of: BTreeSet::new(),
            hook_tasks: BTreeMap::new(),
        }
    }

    /// What a look at the pair alone sees.
    pub(crate) async fn seen(&self) -> Snapshot {
        self.cloud.observe(&self.observation()).await
    }

    /// Performs an effect twice in a row, and answers both outcomes.
    pub(crate) async fn perform_twice(&self, effect: &Effect) -> [Outcome; 2] {
        [self.cloud.perform(&self.resources, effect).await, self.cloud.perform(&self.resources, effect).await]
    }

    /// Asks ELBv2 for something, in the words of its query protocol; XML.
    pub(crate) fn balancer(&self, query: &str) -> String {
        balancer(&self.raw, query)
    }

    /// What ECS has, as JSON.
    pub(crate) fn ecs(&self, operation: &str, parameters: &Value) -> Value {
        ecs(&self.raw, operation, parameters)
    }

    /// Registers a task definition like that of the services in this family, with this change, and answers its ARN.
    pub(crate) fn register_template(&self, family: &str, change: impl FnOnce(&mut Value)) -> String {
        let mut document = task_definition(family);
        change(&mut document);
        let registered = self.ecs("RegisterTaskDefinition", &document);
        registered["taskDefinition"]["taskDefinitionArn"].as_str().expect("an ARN").to_owned()
    }

    /// A family of its own for this place.
    pub(crate) fn template_family(&self) -> String {
        format!("{}-template", self.ecs_service(Slot::Blue).cluster)
    }

    /// The newest template of this family, compared with the services' task definition.
    pub(crate) async fn template(&self, family: &str) -> Reading<TemplateReading> {
        self.cloud.template(&self.resources, family, Some(&self.task_definition)).await
    }

    /// The name of a side's service.
    pub(crate) fn ecs_service(&self, slot: Slot) -> EcsServiceName<'_> {
        self.resources.platform.ecs_service(Some(slot)).expect("a pair")
    }

    /// The service of a side, as ECS has it.
    pub(crate) fn service(&self, slot: Slot) -> Value {
        let service = self.ecs_service(slot);
        let asked = json!({"cluster": service.cluster, "services": [service.name]});
        self.ecs("DescribeServices", &asked)["services"][0].clone()
    }
}

/// An ELBv2 call that must succeed.
pub(crate) fn balancer(raw: &Aws, query: &str) -> String {
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let body = format!("Version=2015-12-01&{query}");
    let response = raw.send("elasticloadbalancing", "POST", "/", &headers, &body).expect("an answer");
    assert_eq!(response.status, 200, "{query}: {}", response.body);
    response.body
}

/// An ECS call that must succeed.
pub(crate) fn ecs(raw: &Aws, operation: &str, parameters: &Value) -> Value {
    let target = format!("AmazonEC2ContainerServiceV20141113.{operation}");
    raw.json("ecs", &target, parameters).unwrap_or_else(|failure| panic!("{failure}"))
}

/// An Application Auto Scaling call that must succeed.
pub(crate) fn autoscaling(raw: &Aws, operation: &str, parameters: &Value) -> Value {
    let target = format!("AnyScaleFrontendService.{operation}");
    raw.json("application-autoscaling", &target, parameters).unwrap_or_else(|failure| panic!("{failure}"))
}

/// What was seen, or a failed test that says why it was not.
#[track_caller]
pub(crate) fn known<T>(reading: &Reading<T>) -> &T {
    match reading {
        Reading::Known(value) => value,
        Reading::Unknown(reason) => panic!("it is unknown: {reason}"),
    }
}
