//! A ready-made service whose versions replace one another in place: a worker, or a service behind a load balancer, and
//! a matching policy.

use super::{
    BuiltApplication, CONTAINER, PairSetup, PlacedScene, application_policy, binding, cluster_of, create_balancer,
    digest_of, first_definition, network, put_5xx_alarm, registry_of, release_of, repository_of, start_traffic,
    stem_of, template,
};
use crate::world::balancer::{GroupSettings, ListenerAction};
use crate::world::ecs::{CircuitBreaker, CreateService, DeploymentConfiguration};
use crate::world::{ApiResult, Settings, World};
use rollout::policy::{AlarmPolicy, Deadlines, Drift, Policy, Step, Strategy, TargetPolicy};
use rollout::template::ConfigurationTrigger;
use rollout::{EcsRolling, Percent, Platform, Registry, Release, Seconds, TargetId, TargetResources, Timestamp};
use serde_json::{Value, json};

/// Parameters of the scene: a worker, as [`PairSetup::rolling`] returns it.
#[derive(Debug, Clone)]
pub struct RollingSetup {
    /// The target that the service belongs to.
    pub target: TargetId,
    /// Desired count.
    pub tasks: u32,
    /// It is behind a load balancer whose listener forwards to its one target group, and has an alarm on its 5xx.
    pub behind_balancer: bool,
    /// Requests per second that reach the listener.
    pub requests_per_second: f64,
    /// Deployment circuit breaker.
    pub breaker: CircuitBreaker,
    /// Tasks that must stay healthy during a replacement, in per cent of the desired count.
    pub minimum_percent: u32,
    /// Tasks that may run during a replacement, in per cent of the desired count.
    pub maximum_percent: u32,
    /// `healthCheck` of the container in the first task definition; none: it has none.
    pub health_check: Option<Value>,
    /// Settings of the target group.
    pub groups: GroupSettings,
    /// Period of the alarm, in seconds.
    pub alarm_period_s: u32,
    /// Percentage of 5xx above which the alarm fires.
    pub alarm_threshold: f64,
    /// Strategy of the policy, of which only the bake and the tolerated task failures apply.
    pub strategy: Strategy,
    /// Maximum durations of waits.
    pub deadlines: Deadlines,
    /// Reaction to edits made outside Switchback while no deployment runs.
    pub drift: Drift,
    /// The policy names a family of templates: that of the first task definition.
    pub names_template: bool,
}

/// A scene that has been built.
#[derive(Debug)]
pub struct BuiltService {
    /// The world: the service is steady and healthy, no events are pending, the call log is empty.
    pub world: World,
    /// The target that the service belongs to.
    pub target: TargetId,
    /// The target's policy.
    pub policy: TargetPolicy,
    /// Names and ARNs of the resources.
    pub names: RollingNames,
}

/// Names and ARNs of a scene's resources.
#[derive(Debug, Clone)]
pub struct RollingNames {
    /// Name of the ECS cluster.
    pub cluster: String,
    /// Name of the service.
    pub service: String,
    /// What it is behind; none: it is a worker.
    pub balancing: Option<RollingBalancing>,
    /// ARN of the first task definition.
    pub task_definition: String,
    /// Host and name of the repository, without tag or digest.
    pub repository_uri: String,
    /// Name of the repository.
    pub repository: String,
}

/// Names and ARNs of what a service is behind.
#[derive(Debug, Clone)]
pub struct RollingBalancing {
    /// ARN of the load balancer.
    pub load_balancer: String,
    /// ARN of the listener that forwards to the target group.
    pub listener: String,
    /// ARN of the target group.
    pub group: String,
    /// Name of the alarm on its 5xx.
    pub alarm: String,
}

impl PairSetup {
    /// The same target as a single service whose versions ECS replaces in place: a worker, without load balancer, alarm
    /// and autoscaling. New tasks start before old ones stop.
    #[must_use]
    pub fn rolling(&self) -> RollingSetup {
        let at_once = Step { traffic: Percent::ALL, hold: Seconds(0) };
        RollingSetup {
            target: self.target.clone(),
            tasks: self.tasks,
            behind_balancer: false,
            requests_per_second: self.requests_per_second,
            breaker: self.breaker,
            minimum_percent: 100,
            maximum_percent: 200,
            health_check: None,
            groups: self.groups,
            alarm_period_s: self.alarm_period_s,
            alarm_threshold: self.alarm_threshold,
            strategy: Strategy {
                steps: vec![at_once],
                keep_warm: Seconds(0),
                green_capacity: Percent::ALL,
                drain: Seconds(0),
                ..self.strategy.clone()
            },
            deadlines: self.deadlines,
            drift: self.drift,
            names_template: self.names_template,
        }
    }
}

impl RollingSetup {
    /// Behind a load balancer, with an alarm.
    #[must_use]
    pub fn behind_balancer(self) -> Self {
        Self { behind_balancer: true, ..self }
    }

    /// With these limits during a replacement, in per cent of the desired count: 100 and 200 start new tasks first,
    /// 0 and 100 stop old ones first.
    #[must_use]
    pub fn with_percents(self, minimum_percent: u32, maximum_percent: u32) -> Self {
        Self { minimum_percent, maximum_percent, ..self }
    }

    /// With a health check of the container, every `interval`, that fails after `retries` failures in a row.
    #[must_use]
    pub fn with_health_check(self, interval: Seconds, retries: u32) -> Self {
        let command = ["CMD-SHELL", "check"];
        let check = json!({"command": command, "interval": interval.0, "timeout": 5, "retries": retries});
        Self { health_check: Some(check), ..self }
    }

    /// Builds the scene in a new world, and runs it until it is steady.
    ///
    /// # Panics
    /// If the world refuses the scene because its parameters are not possible.
    #[must_use]
    pub fn build(&self, settings: Settings) -> BuiltService {
        let mut world = World::new(settings);
        let names = world.as_third_party(|world| self.set(world)).expect("the world accepts a scene of its own");
        start_traffic(&mut world, &[self.placed(&names)]);
        let policy = self.policy(&names);
        BuiltService { world, target: self.target.clone(), policy, names }
    }

    /// Builds the scene in an existing world; none of its names may be taken. There is no traffic yet: see
    /// [`World::set_traffic`].
    ///
    /// # Errors
    /// The world's refusal of a call.
    pub fn set(&self, world: &mut World) -> ApiResult<RollingNames> {
        let cluster = cluster_of(&self.target);
        let (repository, repository_uri) = repository_of(world, &self.target);
        world.create_cluster(&cluster)?;
        let balancing = if self.behind_balancer { Some(self.set_balancing(world)?) } else { None };
        let image = format!("{repository_uri}@{}", digest_of(0));
        let mut document = first_definition(&stem_of(&self.target), &image);
        if let Some(check) = &self.health_check {
            document["containerDefinitions"][0]["healthCheck"] = check.clone();
        }
        let task_definition = world.register_task_definition(document)?.arn;
        let service = self.target.service.to_string();
        world.create_service(CreateService {
            cluster: cluster.clone(),
            service_name: service.clone(),
            task_definition: task_definition.clone(),
            desired_count: self.tasks,
            load_balancers: balancing.iter().map(|balancing| binding(balancing.group.clone())).collect(),
            deployment_configuration: Some(DeploymentConfiguration {
                deployment_circuit_breaker: self.breaker,
                maximum_percent: self.maximum_percent,
                minimum_healthy_percent: self.minimum_percent,
            }),
            network_configuration: Some(network()),
            launch_type: Some("FARGATE".to_owned()),
            ..CreateService::default()
        })?;
        Ok(RollingNames { cluster, service, balancing, task_definition, repository_uri, repository })
    }

    fn set_balancing(&self, world: &mut World) -> ApiResult<RollingBalancing> {
        let stem = stem_of(&self.target);
        let load_balancer = create_balancer(world, &self.target)?;
        let group = world.create_target_group(&stem, self.groups)?.arn;
        let forward = vec![ListenerAction::forward([(group.as_str(), 1)])];
        let listener = world.create_listener(&load_balancer, 443, "HTTPS", forward)?.arn;
        let watched = [load_balancer.as_str(), group.as_str()];
        let alarm = put_5xx_alarm(world, format!("{stem}-5xx"), watched, self.alarm_period_s, self.alarm_threshold)?;
        Ok(RollingBalancing { load_balancer, listener, group, alarm })
    }

    /// The target's policy for the resources that were built.
    #[must_use]
    pub fn policy(&self, names: &RollingNames) -> TargetPolicy {
        let balancing = names.balancing.iter();
        let platform = Platform::EcsRolling(EcsRolling {
            cluster: names.cluster.clone(),
            container: CONTAINER.to_owned(),
            service: names.service.clone(),
            target_groups: balancing.clone().map(|balancing| balancing.group.clone()).collect(),
        });
        TargetPolicy {
            resources: TargetResources { platform, traffic: Vec::new() },
            template: template::source(&self.target, self.names_template),
            configuration: ConfigurationTrigger::default(),
            strategy: self.strategy.clone(),
            alarms: balancing.map(|balancing| AlarmPolicy::new(balancing.alarm.clone())).collect(),
            hooks: Vec::new(),
            deadlines: self.deadlines,
            drift: self.drift,
            recovery_time: None,
        }
    }

    pub(super) fn placed(&self, names: &RollingNames) -> PlacedScene {
        PlacedScene {
            cluster: names.cluster.clone(),
            services: vec![names.service.clone()],
            rules: names.balancing.iter().map(|balancing| balancing.listener.clone()).collect(),
            requests_per_second: self.requests_per_second,
        }
    }
}

impl RollingNames {
    /// The registry that holds the repository.
    ///
    /// # Panics
    /// If the scene's account id is invalid.
    #[must_use]
    pub fn registry(&self) -> Registry {
        registry_of(&self.repository_uri)
    }
}

impl BuiltService {
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

impl From<BuiltService> for BuiltApplication {
    fn from(built: BuiltService) -> Self {
        let policy = built.application();
        Self { world: built.world, pairs: Vec::new(), services: vec![(built.target, built.names)], policy }
    }
}
