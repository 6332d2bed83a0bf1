//! A pair of services behind one rule, on a front whose time stands still until a test takes it ahead.

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use serde_json::{Value, json};
use simulation::world::balancer::{
    ActionKind, ForwardActionConfig, GroupSettings, GroupStickiness, ListenerAction, WeightedGroup,
};
use simulation::world::ecs::{CreateService, ServiceLoadBalancer};
use simulation::world::{ApiResult, Settings, Timing, World};
use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::Duration;
use tests::front::{Front, Options};

pub(crate) const CLUSTER: &str = "shop";
pub(crate) const IMAGE: &str = "111122223333.dkr.ecr.eu-central-1.amazonaws.com/api@sha256:aaaa";

/// A front, and what the tests need to name.
#[derive(Debug)]
pub(crate) struct FrontFixture {
    pub(crate) front: Front,
    pub(crate) names: Names,
}

/// ARNs of what was built.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) balancer: String,
    pub(crate) listener: String,
    pub(crate) rule: String,
    pub(crate) blue: String,
    pub(crate) green: String,
    /// A group that another balancer forwards to.
    pub(crate) foreign: String,
    pub(crate) task_definition: String,
}

impl FrontFixture {
    /// Blue has two tasks and the traffic, green has none; time stands still.
    pub(crate) async fn set() -> Self {
        Self::with(Options { speed: 0.0, ..Options::default() }).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let mut world = World::new(Settings { timing: Timing::quick(), ..Settings::default() });
        let names = world.as_third_party(build).expect("the scene is one that AWS accepts");
        let front = Front::start(world, options).await.expect("a port of loopback is free");
        let fixture = Self { front, names };
        fixture.settle();
        fixture
    }

    /// Takes the world ahead far enough for every task, target and node to have settled.
    pub(crate) fn settle(&self) {
        self.front.skip(Duration::from_secs(120));
    }

    pub(crate) fn ecs(&self) -> aws_sdk_ecs::Client {
        ecs(self.front.address(), 1)
    }

    pub(crate) fn elb(&self) -> aws_sdk_elasticloadbalancingv2::Client {
        elb(self.front.address(), 1)
    }

    pub(crate) fn cloudwatch(&self) -> aws_sdk_cloudwatch::Client {
        cloudwatch(self.front.address(), 1)
    }

    pub(crate) fn autoscaling(&self) -> aws_sdk_applicationautoscaling::Client {
        autoscaling(self.front.address(), 1)
    }

    pub(crate) fn lambda(&self) -> aws_sdk_lambda::Client {
        lambda(self.front.address(), 1)
    }
}

/// A task definition with everything that must survive a copy.
pub(crate) fn document(image: &str) -> Value {
    json!({
        "family": "api",
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256",
        "memory": "512",
        "taskRoleArn": "arn:aws:iam::111122223333:role/api",
        "containerDefinitions": [
            {
                "name": "api",
                "image": image,
                "essential": true,
                "portMappings": [{"containerPort": 8080, "protocol": "tcp"}],
                "secrets": [{"name": "PASSWORD", "valueFrom": "arn:aws:ssm:eu-central-1:111122223333:parameter/password"}],
                "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "api"}},
            },
            {"name": "sidecar", "image": "sidecar:1", "essential": false},
        ],
        "tags": [{"key": "team", "value": "shop"}],
    })
}

fn build(world: &mut World) -> ApiResult<Names> {
    world.create_cluster(CLUSTER)?;
    let task_definition = world.register_task_definition(document(IMAGE))?.arn;
    let balancer = world.create_load_balancer("shop")?.arn;
    let other = world.create_load_balancer("other")?.arn;
    let settings = GroupSettings { deregistration_delay_s: 10, ..GroupSettings::default() };
    let blue = world.create_target_group("api-blue", settings)?.arn;
    let green = world.create_target_group("api-green", settings)?.arn;
    let foreign = world.create_target_group("foreign", settings)?.arn;
    let refusing = ListenerAction {
        order: None,
        what: ActionKind::Other {
            kind: "fixed-response".to_owned(),
            config: json!({"FixedResponseConfig": {"StatusCode": "404", "ContentType": "text/plain"}}),
        },
    };
    let listener = world.create_listener(&balancer, 443, "HTTPS", vec![refusing])?.arn;
    world.create_listener(&other, 80, "HTTP", vec![ListenerAction::forward([(foreign.as_str(), 1)])])?;
    let group = |arn: &str, weight| WeightedGroup { arn: arn.to_owned(), weight: Some(weight) };
    let login = ListenerAction {
        order: Some(1),
        what: ActionKind::Other {
            kind: "authenticate-oidc".to_owned(),
            config: json!({"AuthenticateOidcConfig": {
                "Issuer": "https://login.example",
                "AuthorizationEndpoint": "https://login.example/authorize",
                "TokenEndpoint": "https://login.example/token",
                "UserInfoEndpoint": "https://login.example/me",
                "ClientId": "shop",
                "ClientSecret": "never to be shown",
                "AuthenticationRequestExtraParams": {"display": "page", "prompt": "login"},
            }}),
        },
    };
    let forward = ListenerAction {
        order: Some(2),
        what: ActionKind::Forward(ForwardActionConfig {
            target_groups: vec![group(&blue, 100), group(&green, 0)],
            stickiness: Some(GroupStickiness { enabled: true, duration_seconds: Some(300) }),
        }),
    };
    let path = json!({"Field": "path-pattern", "PathPatternConfig": {"Values": ["/api/*"]}});
    let rule = world.create_rule(&listener, 10, vec![path], vec![login, forward])?.arn;
    for (name, group, desired_count) in [("api-blue", &blue, 2), ("api-green", &green, 0)] {
        world.create_service(CreateService {
            cluster: CLUSTER.to_owned(),
            service_name: name.to_owned(),
            task_definition: task_definition.clone(),
            desired_count,
            load_balancers: vec![ServiceLoadBalancer {
                target_group_arn: group.clone(),
                container_name: "api".to_owned(),
                container_port: 8080,
            }],
            network_configuration: Some(json!({"awsvpcConfiguration": {
                "subnets": ["subnet-1"], "securityGroups": ["sg-1"], "assignPublicIp": "DISABLED",
            }})),
            ..CreateService::default()
        })?;
    }
    Ok(Names { balancer, listener, rule, blue, green, foreign, task_definition })
}

macro_rules! client {
    ($name:ident, $sdk:ident) => {
        /// A client as the product makes them, which tries `attempts` times at the most.
        pub(crate) fn $name(address: SocketAddr, attempts: u32) -> $sdk::Client {
            use $sdk::config::{BehaviorVersion, Builder, Region, retry::RetryConfig, timeout::TimeoutConfig};
            let retries = RetryConfig::standard()
                .with_max_attempts(attempts)
                .with_initial_backoff(Duration::from_millis(1))
                .with_max_backoff(Duration::from_millis(10));
            let timeouts = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_secs(5)).build();
            let config = Builder::new()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("eu-central-1"))
                .credentials_provider(Credentials::new("AKIDEXAMPLE", "secret", None, None, "tests"))
                .endpoint_url(format!("http://{address}"))
                .retry_config(retries)
                .timeout_config(timeouts)
                .build();
            $sdk::Client::from_conf(config)
        }
    };
}
client!(ecs, aws_sdk_ecs);
client!(elb, aws_sdk_elasticloadbalancingv2);
client!(cloudwatch, aws_sdk_cloudwatch);
client!(autoscaling, aws_sdk_applicationautoscaling);
client!(lambda, aws_sdk_lambda);
client!(dynamodb, aws_sdk_dynamodb);

/// The error code that the SDK read; what the call answered instead, where it was no error of the service.
pub(crate) fn code<T: Debug, E: ProvideErrorMetadata + Debug, R: Debug>(answer: Result<T, SdkError<E, R>>) -> String {
    match answer {
        Ok(answer) => format!("no error: {answer:?}"),
        Err(SdkError::ServiceError(error)) => error.err().code().unwrap_or("no code").to_owned(),
        Err(other) => format!("{other:?}"),
    }
}
