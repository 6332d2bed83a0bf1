//! Ready-made targets, each with a matching policy. Here: a blue/green pair, two services behind one rule of one
//! balancer (and behind an internal one, on request), blue with all traffic, green idle and attached at weight 0, an
//! alarm for each side.
//!
//! | module | what it is |
//! |---|---|
//! | `rolling` | a single service whose versions replace one another in place |
//! | `template` | templates as the owners' own tooling registers them |
//! | `application` | several targets of one application in one world |

mod application;
mod rolling;
mod template;

pub use application::{BuiltApplication, application_policy, build_application, build_with_services};
pub(crate) use application::{add_target, empty_policy};
pub use rolling::{BuiltService, RollingBalancing, RollingNames, RollingSetup};

use super::alarms::{Comparison, MetricAlarm, TreatMissing, WatchedMetric};
use super::balancer::{GroupSettings, ListenerAction};
use super::ecs::{CircuitBreaker, CreateService, DeploymentConfiguration, ServiceLoadBalancer};
use super::scaling::RegisterScalableTarget;
use super::{ApiResult, Settings, World};
use rollout::policy::{AlarmPolicy, Deadlines, Drift, Policy, Step, Strategy, TargetPolicy};
use rollout::template::ConfigurationTrigger;
use rollout::{
    EcsPair, ImageDigest, Leg, Name, Percent, Platform, Registry, Release, ReleaseId, Seconds, Slot, TargetId,
    TargetResources, Timestamp,
};
use serde_json::{Value, json};

/// Name of the container that runs the release.
const CONTAINER: &str = "app";

/// Parameters of the scene.
#[derive(Debug, Clone)]
pub struct PairSetup {
    /// The target that the pair belongs to.
    pub target: TargetId,
    /// Desired count of the stable side.
    pub tasks: u32,
    /// Requests per second that match the rule.
    pub requests_per_second: f64,
    /// Application Auto Scaling of both services: minimum and maximum of the stable side; the idle side has a minimum
    /// of 0.
    pub autoscaling: Option<(u32, u32)>,
    /// Deployment circuit breaker of both services.
    pub breaker: CircuitBreaker,
    /// Settings of both target groups.
    pub groups: GroupSettings,
    /// Period of both alarms, in seconds.
    pub alarm_period_s: u32,
    /// Percentage of 5xx above which an alarm fires.
    pub alarm_threshold: f64,
    /// Traffic shifting strategy of the policy.
    pub strategy: Strategy,
    /// Maximum durations of waits.
    pub deadlines: Deadlines,
    /// Reaction to edits made outside Switchback while no deployment runs.
    pub drift: Drift,
    /// The target is behind an internal load balancer, too, which gets as many requests.
    pub internal_balancer: bool,
    /// The policy names a family of templates: that of the first task definition.
    pub names_template: bool,
}

/// A scene that has been built.
#[derive(Debug)]
pub struct BuiltPair {
    /// The world: blue is steady and healthy, no events are pending, the call log is empty.
    pub world: World,
    /// The target that the pair belongs to.
    pub target: TargetId,
    /// The target's policy.
    pub policy: TargetPolicy,
    /// Names and ARNs of the resources.
    pub names: PairNames,
}

/// Names and ARNs of a scene's resources.
#[derive(Debug, Clone)]
pub struct PairNames {
    /// Name of the ECS cluster.
    pub cluster: String,
    /// Name of blue's service.
    pub blue: String,
    /// Name of green's service.
    pub green: String,
    /// ARN of blue's target group.
    pub blue_group: String,
    /// ARN of green's target group.
    pub green_group: String,
    /// ARN of the load balancer.
    pub load_balancer: String,
    /// ARN of the listener.
    pub listener: String,
    /// ARN of the rule that carries production traffic.
    pub rule: String,
    /// ARN of the test rule, which only testers reach.
    pub test_rule: String,
    /// Name of the alarm on blue's 5xx.
    pub blue_alarm: String,
    /// Name of the alarm on green's 5xx.
    pub green_alarm: String,
    /// ARN of the first task definition.
    pub task_definition: String,
    /// Host and name of the repository, without tag or digest.
    pub repository_uri: String,
    /// Name of the repository.
    pub repository: String,
    /// What the policy names of the internal load balancer, if there is one.
    pub internal: Option<Leg>,
}

/// A scene in a world: what must be steady before its traffic begins, and that traffic.
struct PlacedScene {
    cluster: String,
    services: Vec<String>,
    /// ARNs of the rules and listeners that get requests.
    rules: Vec<String>,
    requests_per_second: f64,
}

/// ARNs of a scene's load balancer, target groups, listener and rules.
struct Balancing {
    load_balancer: String,
    blue_group: String,
    green_group: String,
    listener: String,
    rule: String,
    test_rule: String,
}

impl PairNames {
    /// ARNs of everything that carries production traffic: the rule, and the internal listener if there is one.
    pub fn traffic_rules(&self) -> impl Iterator<Item = &str> {
        let internal = self.internal.iter().flat_map(|leg| &leg.rules);
        [&self.rule].into_iter().chain(internal).map(String::as_str)
    }

    /// The registry that holds the repository.
    ///
    /// # Panics
    /// If the scene's account id is invalid.
    #[must_use]
    pub fn registry(&self) -> Registry {
        registry_of(&self.repository_uri)
    }
}

impl PairSetup {
    /// A scene with typical parameters: 4 tasks, 20 requests a second, steps of 10, 50 and 100 %.
    ///
    /// # Panics
    /// If a name is no valid [`Name`]: callers pass literals.
    #[must_use]
    pub fn new(application: &str, service: &str, environment: &str) -> Self {
        let name = |text: &str| Name::new(text).expect("the caller's literal is a name");
        let step = |traffic: u8, hold: u64| Step {
            traffic: Percent::new(traffic).unwrap_or(Percent::ALL),
            hold: Seconds(hold),
        };
        Self {
            target: TargetId::new(name(application), name(service), name(environment)),
            tasks: 4,
            requests_per_second: 20.0,
            autoscaling: None,
            breaker: CircuitBreaker::default(),
            groups: GroupSettings { deregistration_delay_s: 20, ..GroupSettings::default() },
            alarm_period_s: 10,
            alarm_threshold: 5.0,
            strategy: Strategy {
                steps: vec![step(10, 60), step(50, 60), step(100, 0)],
                bake: Seconds(120),
                keep_warm: Seconds(60),
                green_capacity: Percent::ALL,
                drain: Seconds(15),
                task_failures: rollout::policy::TaskFailures::default(),
            },
            // The policy file's defaults.
            deadlines: Deadlines {
                preflight: Seconds(30 * 60),
                register: Seconds(5 * 60),
                healthy: Seconds(15 * 60),
                shift: Seconds(10 * 60),
                retire: Seconds(15 * 60),
                rollback: Seconds(30 * 60),
            },
            drift: Drift::Tell,
            internal_balancer: false,
            names_template: false,
        }
    }

    /// Builds the scene in a new world, and runs it until it is steady.
    ///
    /// # Panics
    /// If the world refuses the scene because its parameters are not possible.
    #[must_use]
    pub fn build(&self, settings: Settings) -> BuiltPair {
        let mut world = World::new(settings);
        let names = world.as_third_party(|world| self.set(world)).expect("the world accepts a scene of its own");
        start_traffic(&mut world, &[self.placed(&names)]);
        let policy = self.policy(&names);
        BuiltPair { world, target: self.target.clone(), policy, names }
    }

    /// Builds the scene in an existing world; none of its names may be taken. With an external backend the stable side
    /// comes up as the backend starts its tasks. There is no traffic yet: see [`World::set_traffic`].
    ///
    /// # Errors
    /// The world's refusal of a call.
    pub fn set(&self, world: &mut World) -> ApiResult<PairNames> {
        let cluster = cluster_of(&self.target);
        let (repository, repository_uri) = repository_of(world, &self.target);
        world.create_cluster(&cluster)?;
        let balancing = self.set_balancing(world)?;
        let Balancing { load_balancer, blue_group, green_group, listener, rule, test_rule } = balancing;
        let internal = if self.internal_balancer { Some(self.set_internal_balancing(world)?) } else { None };
        let groups = |group: &str, slot: Slot| {
            let internal = internal.as_ref().map(|leg| leg.target_group(slot).to_owned());
            [group.to_owned()].into_iter().chain(internal).collect::<Vec<_>>()
        };
        let image = format!("{repository_uri}@{}", digest_of(0));
        let task_definition = world.register_task_definition(first_definition(&stem_of(&self.target), &image))?.arn;
        let blue = self.set_service(world, "blue", &task_definition, groups(&blue_group, Slot::Blue))?;
        let green = self.set_service(world, "green", &task_definition, groups(&green_group, Slot::Green))?;
        let blue_alarm = self.set_alarm(world, "blue", &load_balancer, &blue_group)?;
        let green_alarm = self.set_alarm(world, "green", &load_balancer, &green_group)?;
        Ok(PairNames {
            cluster,
            blue,
            green,
            blue_group,
            green_group,
            load_balancer,
            listener,
            rule,
            test_rule,
            blue_alarm,
            green_alarm,
            task_definition,
            repository_uri,
            repository,
            internal,
        })
    }

    fn set_balancing(&self, world: &mut World) -> ApiResult<Balancing> {
        let stem = stem_of(&self.target);
        let load_balancer = create_balancer(world, &self.target)?;
        let blue_group = world.create_target_group(&format!("{stem}-blue"), self.groups)?.arn;
        let green_group = world.create_target_group(&format!("{stem}-green"), self.groups)?.arn;
        let both = || vec![ListenerAction::forward([(blue_group.as_str(), 100), (green_group.as_str(), 0)])];
        let listener = world.create_listener(&load_balancer, 443, "HTTPS", both())?.arn;
        let path = vec![json!({"Field": "path-pattern", "Values": ["/*"]})];
        let rule = world.create_rule(&listener, 20, path, both())?.arn;
        let header = json!({"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "x-test", "Values": ["1"]}});
        let test_rule = world.create_rule(&listener, 10, vec![header], both())?.arn;
        Ok(Balancing { load_balancer, blue_group, green_group, listener, rule, test_rule })
    }

    /// A load balancer, target groups and a listener for callers inside; there is no test rule.
    fn set_internal_balancing(&self, world: &mut World) -> ApiResult<Leg> {
        let stem = format!("{}-internal", stem_of(&self.target));
        let load_balancer = world.create_load_balancer(&stem)?.arn;
        let [blue, green] = ["blue", "green"].map(|slot| format!("{stem}-{slot}"));
        let blue = world.create_target_group(&blue, self.groups)?.arn;
        let green = world.create_target_group(&green, self.groups)?.arn;
        let both = vec![ListenerAction::forward([(blue.as_str(), 100), (green.as_str(), 0)])];
        let listener = world.create_listener(&load_balancer, 80, "HTTP", both)?.arn;
        Ok(Leg { blue, green, rules: vec![listener], test_rule: None })
    }

    /// One side's service and its scalable target; returns the service's name.
    fn set_service(
        &self,
        world: &mut World,
        slot: &str,
        task_definition: &str,
        groups: Vec<String>,
    ) -> ApiResult<String> {
        let cluster = cluster_of(&self.target);
        let name = format!("{}-{slot}", self.target.service);
        let is_stable = slot == "blue";
        world.create_service(CreateService {
            cluster: cluster.clone(),
            service_name: name.clone(),
            task_definition: task_definition.to_owned(),
            desired_count: if is_stable { self.tasks } else { 0 },
            load_balancers: groups.into_iter().map(binding).collect(),
            deployment_configuration: Some(DeploymentConfiguration {
                deployment_circuit_breaker: self.breaker,
                ..DeploymentConfiguration::default()
            }),
            network_configuration: Some(network()),
            launch_type: Some("FARGATE".to_owned()),
            capacity_provider_strategy: None,
            volume_configurations: None,
            health_check_grace_period_seconds: Some(0),
        })?;
        if let Some((min, max)) = self.autoscaling {
            world.register_scalable_target(RegisterScalableTarget {
                service_namespace: "ecs".to_owned(),
                resource_id: format!("service/{cluster}/{name}"),
                scalable_dimension: "ecs:service:DesiredCount".to_owned(),
                min_capacity: Some(if is_stable { min.into() } else { 0 }),
                max_capacity: Some(max.into()),
                suspended_state: None,
            })?;
        }
        Ok(name)
    }

    /// The alarm on one side's 5xx; returns its name.
    fn set_alarm(&self, world: &mut World, slot: &str, load_balancer: &str, group: &str) -> ApiResult<String> {
        let name = format!("{}-{slot}-5xx", stem_of(&self.target));
        put_5xx_alarm(world, name, [load_balancer, group], self.alarm_period_s, self.alarm_threshold)
    }

    /// The target's policy for the resources that were built.
    #[must_use]
    pub fn policy(&self, names: &PairNames) -> TargetPolicy {
        let alarm = |name: &str| AlarmPolicy::new(name.to_owned());
        TargetPolicy {
            resources: TargetResources {
                platform: Platform::EcsPair(EcsPair {
                    cluster: names.cluster.clone(),
                    container: CONTAINER.to_owned(),
                    blue: names.blue.clone(),
                    green: names.green.clone(),
                }),
                traffic: [Leg {
                    blue: names.blue_group.clone(),
                    green: names.green_group.clone(),
                    rules: vec![names.rule.clone()],
                    test_rule: Some(names.test_rule.clone()),
                }]
                .into_iter()
                .chain(names.internal.clone())
                .collect(),
            },
            template: template::source(&self.target, self.names_template),
            configuration: ConfigurationTrigger::default(),
            strategy: self.strategy.clone(),
            alarms: vec![alarm(&names.blue_alarm), alarm(&names.green_alarm)],
            hooks: Vec::new(),
            deadlines: self.deadlines,
            drift: self.drift,
            recovery_time: None,
        }
    }

    fn placed(&self, names: &PairNames) -> PlacedScene {
        PlacedScene {
            cluster: names.cluster.clone(),
            services: vec![names.blue.clone(), names.green.clone()],
            rules: names.traffic_rules().map(str::to_owned).collect(),
            requests_per_second: self.requests_per_second,
        }
    }
}

impl PlacedScene {
    /// Whether all tasks are up, and the alarms have data.
    fn is_ready(&self, world: &mut World) -> bool {
        world.as_third_party(|world| {
            let services = world.describe_services(&self.cluster, &self.services);
            let steady = services.is_ok_and(|(services, _)| {
                services.iter().all(|service| {
                    service.running_count == service.desired_count
                        && service
                            .deployments
                            .iter()
                            .all(|deployment| deployment.rollout_state == super::ecs::RolloutState::Completed)
                })
            });
            let ok = |alarm: &super::alarms::CloudWatchAlarm| alarm.state == super::alarms::AlarmState::Ok;
            steady && world.describe_alarms(&[]).is_ok_and(|alarms| alarms.iter().all(ok))
        })
    }
}

impl BuiltPair {
    /// The whole application's policy: this one target, started by pushes of tags like `v*`.
    #[must_use]
    pub fn application(&self) -> Policy {
        application_policy(&self.target, &self.names.repository, self.policy.clone())
    }

    /// The `number`th release of the service: digest and tag are derived from the number.
    #[must_use]
    pub fn release(&self, number: u64, pushed_at: Timestamp) -> Release {
        release_of(&self.target, &self.names.repository_uri, number, pushed_at)
    }
}

/// Runs until all tasks are up, then starts the traffic.
fn start_traffic(world: &mut World, scenes: &[PlacedScene]) {
    for _ in 0..600 {
        let at = Seconds(1).after(world.now());
        world.advance_to(at);
        if scenes.iter().all(|scene| scene.is_ready(world)) {
            break;
        }
    }
    for scene in scenes {
        for rule in &scene.rules {
            world.set_traffic(rule, scene.requests_per_second);
        }
    }
    world.drain_events();
    world.forget_calls();
}

/// Name of a target's cluster.
fn cluster_of(target: &TargetId) -> String {
    format!("{}-{}", target.application, target.environment)
}

/// The start of the names of a target's own resources.
fn stem_of(target: &TargetId) -> String {
    let TargetId { application, service, environment } = target;
    format!("{application}-{service}-{environment}")
}

/// Name of a target's repository, and the same with its host.
fn repository_of(world: &World, target: &TargetId) -> (String, String) {
    let repository = format!("{}/{}", target.application, target.service);
    let (account, region) = (&world.settings().account, &world.settings().region);
    let repository_uri = format!("{account}.dkr.ecr.{region}.amazonaws.com/{repository}");
    (repository, repository_uri)
}

fn registry_of(repository_uri: &str) -> Registry {
    let host = repository_uri.split('/').next().unwrap_or_default();
    rollout::registry::registry_of(host).expect("the scene's repository is in a registry of ECR")
}

/// Creates a target's load balancer, and returns its ARN: that of an environment's first target is named like the
/// cluster, the others like their targets.
fn create_balancer(world: &mut World, target: &TargetId) -> ApiResult<String> {
    let (shared, own) = (cluster_of(target), stem_of(target));
    let taken = world.balancers.values().any(|balancer| balancer.name == shared);
    Ok(world.create_load_balancer(if taken { &own } else { &shared })?.arn)
}

/// Registration of the container in a target group.
fn binding(target_group_arn: String) -> ServiceLoadBalancer {
    ServiceLoadBalancer { target_group_arn, container_name: CONTAINER.to_owned(), container_port: 8080 }
}

fn network() -> Value {
    json!({"awsvpcConfiguration": {
        "subnets": ["subnet-0a", "subnet-0b"], "securityGroups": ["sg-0a"], "assignPublicIp": "DISABLED",
    }})
}

/// Creates an alarm on the percentage of 5xx of a target group, and returns its name.
fn put_5xx_alarm(
    world: &mut World,
    name: String,
    [load_balancer, group]: [&str; 2],
    period_s: u32,
    threshold: f64,
) -> ApiResult<String> {
    world.put_metric_alarm(MetricAlarm {
        name: name.clone(),
        metric: WatchedMetric::Target5xxPercent,
        load_balancer: load_balancer.to_owned(),
        target_group: Some(group.to_owned()),
        period_s,
        evaluation_periods: 1,
        datapoints_to_alarm: 1,
        threshold,
        comparison: Comparison::Above,
        treat_missing: TreatMissing::NotBreaching,
    })?;
    Ok(name)
}

/// The `number`th release of a service: digest and tag are derived from the number.
#[must_use]
pub fn release_of(target: &TargetId, repository_uri: &str, number: u64, pushed_at: Timestamp) -> Release {
    let digest = digest_of(number);
    let image = format!("{repository_uri}@{digest}");
    let id = ReleaseId { application: target.application.clone(), service: target.service.clone(), digest };
    Release::new(id, image, format!("v{number}"), pushed_at)
}

/// The digest of the `number`th release.
#[must_use]
pub fn digest_of(number: u64) -> ImageDigest {
    ImageDigest::new(format!("sha256:{number:064x}")).expect("64 hexadecimal digits are a digest")
}

/// A task definition with content that a copy must preserve: a sidecar, secrets, tags, fields that nothing here reads.
fn first_definition(family: &str, image: &str) -> Value {
    json!({
        "family": family,
        "taskRoleArn": "arn:aws:iam::111122223333:role/task",
        "executionRoleArn": "arn:aws:iam::111122223333:role/execution",
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256",
        "memory": "512",
        "runtimePlatform": {"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"},
        "containerDefinitions": [
            {
                "name": CONTAINER,
                "image": image,
                "essential": true,
                "portMappings": [{"containerPort": 8080, "hostPort": 8080, "protocol": "tcp"}],
                "environment": [{"name": "PORT", "value": "8080"}],
                "secrets": [{
                    "name": "DATABASE_URL",
                    "valueFrom": "arn:aws:secretsmanager:eu-central-1:111122223333:secret:database",
                }],
                "stopTimeout": 30,
                "ulimits": [{"name": "nofile", "softLimit": 65536, "hardLimit": 65536}],
            },
            {
                "name": "telemetry",
                "image": "public.ecr.aws/aws-observability/aws-otel-collector:v0.40.0",
                "essential": false,
            },
        ],
        "tags": [{"key": "team", "value": "storefront"}],
    })
}
