//! Places in the wire front: a world of its own for each.

use super::fixture::{FOREIGN_WEIGHT, PairFixture, STICKY_FOR, cloud_at, known, task_definition};
use engine::Cloud as _;
use rollout::observation::{FailedStartsQuery, ObservationPlan};
use rollout::snapshot::SideReading;
use rollout::{EcsPair, Effect, Leg, Outcome, Platform, Slot, TargetResources, Timestamp};
use serde_json::json;
use simulation::world::balancer::{
    ActionKind, ForwardActionConfig, GroupSettings, GroupStickiness, ListenerAction, WeightedGroup,
};
use simulation::world::ecs::{CircuitBreaker, CreateService, DeploymentConfiguration, ServiceLoadBalancer};
use simulation::world::scaling::{RegisterScalableTarget, SuspendedState};
use simulation::world::{ImageBehaviour, Settings, Timing, World};
use std::time::Duration;
use tests::front::{Front, Options};
use tests::harness::aws::Aws;

/// A place, and the front that it is in.
#[derive(Debug)]
pub(crate) struct FrontFixture {
    pub(crate) fixture: PairFixture,
    pub(crate) front: Front,
    /// ARN of the load balancer, for alarms.
    pub(crate) load_balancer: String,
}

/// Tasks of blue.
pub(crate) const TASKS: u32 = 2;

fn forward(groups: &[(&str, u16)], sticky: bool) -> ActionKind {
    let weighted =
        |(arn, weight): &(&str, u16)| WeightedGroup { arn: (*arn).to_owned(), weight: Some((*weight).into()) };
    let stickiness = GroupStickiness { enabled: true, duration_seconds: Some(STICKY_FOR.into()) };
    ActionKind::Forward(ForwardActionConfig {
        target_groups: groups.iter().map(weighted).collect(),
        stickiness: sticky.then_some(stickiness),
    })
}

fn sign_in() -> ListenerAction {
    let config = json!({
        "Issuer": "https://login.example.com",
        "AuthorizationEndpoint": "https://login.example.com/authorize",
        "TokenEndpoint": "https://login.example.com/token",
        "UserInfoEndpoint": "https://login.example.com/user",
        "ClientId": "shop",
    });
    ListenerAction { order: Some(1), what: ActionKind::Other { kind: "authenticate-oidc".to_owned(), config } }
}

/// A front whose world stands still until it is skipped ahead; blue is up.
pub(crate) async fn fixture() -> FrontFixture {
    let settings = Settings { timing: Timing::quick(), ..Settings::default() };
    let mut world = World::new(settings);
    let built = world.as_third_party(build);
    let front = Front::start(world, Options { speed: 0.0, ..Options::default() }).await.expect("a port");
    front.skip(Duration::from_secs(60));
    let (resources, foreign_group, plain_rule, task_definition, load_balancer) = built;
    let fixture = PairFixture {
        cloud: cloud_at(front.address()).await,
        raw: Aws::at(front.address()),
        resources,
        foreign_group,
        plain_rule,
        task_definition,
    };
    FrontFixture { fixture, front, load_balancer }
}

fn build(world: &mut World) -> (TargetResources, String, String, String, String) {
    const SETUP_ACCEPTED: &str = "the world accepts its own preparation";
    world.create_cluster("shop").expect(SETUP_ACCEPTED);
    let mut group = |name: &str| world.create_target_group(name, GroupSettings::default()).expect(SETUP_ACCEPTED).arn;
    let (blue, green, foreign_group) = (group("blue"), group("green"), group("stranger"));
    let load_balancer = world.create_load_balancer("shop").expect(SETUP_ACCEPTED).arn;
    let both = [(blue.as_str(), 100), (green.as_str(), 0)];
    let mut listener = |port: u16| {
        let actions = vec![ListenerAction { order: None, what: forward(&both, false) }];
        world.create_listener(&load_balancer, port, "HTTPS", actions).expect(SETUP_ACCEPTED).arn
    };
    let (main, test) = (listener(443), listener(8443));
    let mut rule = |priority: u32, actions: Vec<ListenerAction>| {
        let condition = json!({"Field": "path-pattern", "Values": [format!("/{priority}/*")]});
        world.create_rule(&main, priority, vec![condition], actions).expect(SETUP_ACCEPTED).arn
    };
    let three = [(blue.as_str(), 100), (green.as_str(), 0), (foreign_group.as_str(), FOREIGN_WEIGHT)];
    let signed_in = rule(1, vec![sign_in(), ListenerAction { order: Some(2), what: forward(&three, true) }]);
    let plain_rule = rule(2, vec![ListenerAction { order: None, what: forward(&[(&blue, 1)], false) }]);

    let definition = world.register_task_definition(task_definition("api")).expect(SETUP_ACCEPTED).arn;
    for (side, group, desired_count) in [("blue", &blue, TASKS), ("green", &green, 0)] {
        let service = CreateService {
            cluster: "shop".to_owned(),
            service_name: format!("api-{side}"),
            task_definition: definition.clone(),
            desired_count,
            load_balancers: vec![ServiceLoadBalancer {
                target_group_arn: group.clone(),
                container_name: "api".to_owned(),
                container_port: 8080,
            }],
            deployment_configuration: Some(DeploymentConfiguration {
                deployment_circuit_breaker: CircuitBreaker { enable: true, rollback: false },
                ..DeploymentConfiguration::default()
            }),
            network_configuration: Some(
                json!({"awsvpcConfiguration": {"subnets": ["subnet-0a"], "securityGroups": ["sg-0a"]}}),
            ),
            launch_type: Some("FARGATE".to_owned()),
            ..CreateService::default()
        };
        world.create_service(service).expect(SETUP_ACCEPTED);
    }
    let limits = RegisterScalableTarget {
        service_namespace: "ecs".to_owned(),
        resource_id: "service/shop/api-blue".to_owned(),
        scalable_dimension: "ecs:service:DesiredCount".to_owned(),
        min_capacity: Some(1),
        max_capacity: Some(8),
        suspended_state: Some(SuspendedState { dynamic_scaling_out_suspended: true, ..SuspendedState::default() }),
    };
    world.register_scalable_target(limits).expect(SETUP_ACCEPTED);
    let resources = TargetResources {
        platform: Platform::EcsPair(EcsPair {
            cluster: "shop".to_owned(),
            container: "api".to_owned(),
            blue: "api-blue".to_owned(),
            green: "api-green".to_owned(),
        }),
        traffic: vec![Leg { blue, green, rules: vec![signed_in, main], test_rule: Some(test) }],
    };
    (resources, foreign_group, plain_rule, definition, load_balancer)
}

impl FrontFixture {
    /// Brings an image that behaves like this to green with this many tasks, and answers its task definition.
    pub(crate) async fn deploy_to_green(&self, behaviour: ImageBehaviour, desired: u32) -> String {
        const IMAGE: &str = "registry.example.com/shop/api@sha256:new";
        self.front.world().set_image(IMAGE, behaviour);
        let (template, image) = (self.fixture.task_definition.clone(), IMAGE.to_owned());
        let effect = Effect::RegisterVersion { template, image, family: None };
        let outcome = self.perform(&effect).await;
        let Outcome::Registered { version: task_definition, .. } = outcome else { panic!("{outcome:?}") };
        let update = Effect::SetVersion { slot: Slot::Green, version: task_definition.clone(), desired };
        assert_eq!(self.perform(&update).await, Outcome::Done);
        task_definition
    }

    /// Performs an effect once.
    pub(crate) async fn perform(&self, effect: &Effect) -> Outcome {
        self.fixture.cloud.perform(&self.fixture.resources, effect).await
    }

    /// A look at the pair that looks for failed starts of green's `task_definition`.
    pub(crate) fn look_with_failed_starts(&self, task_definition: &str) -> ObservationPlan {
        let since = Timestamp::UNIX_EPOCH;
        let task_definition = task_definition.to_owned();
        let starts = FailedStartsQuery { slot: Some(Slot::Green), version: task_definition, since, compare_with: None };
        ObservationPlan { failed_starts_query: Some(starts), ..self.fixture.observation() }
    }

    /// Green, as a look for failed starts sees it.
    pub(crate) async fn observe_green(&self, task_definition: &str) -> SideReading {
        known(&self.fixture.cloud.observe(&self.look_with_failed_starts(task_definition)).await.green).clone()
    }

    /// How often an operation was called so far.
    pub(crate) fn calls(&self, service: &str, operation: &str) -> usize {
        self.front.log().of(service, operation).count()
    }

    /// Names of the calls of the longest sequential chain since `from`.
    pub(crate) fn sequential_calls_since(&self, from: Duration) -> Vec<String> {
        self.front.log().sequential_depth(from..).into_iter().map(|call| call.name()).collect()
    }
}
