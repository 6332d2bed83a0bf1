//! A target that is one service, whose tasks ECS replaces in place: how its scene is set, and what is read of it.

use super::{Scenario, ScenarioOptions, ScenarioPlatform, healthy_targets};
use serde_json::{Value, json};
use simulation::world::ecs::{CircuitBreaker, RolloutState, UpdateTaskProtection};
use simulation::world::{PairSetup, RollingNames, RollingSetup, World};

/// How long a container may fail its health check after its start before that counts, in seconds: the longest that ECS
/// allows (API reference, `HealthCheck`, `startPeriod`), and longer than any test.
const START_PERIOD_S: u32 = 300;

/// How the one service of a scenario is set up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InPlaceScene {
    /// It is behind a load balancer whose listener forwards to its one target group; otherwise it is a worker.
    pub behind_balancer: bool,
    /// ECS's deployment circuit breaker; off by default.
    pub breaker: CircuitBreaker,
}

impl ScenarioOptions {
    /// One service that runs `scene`, with what a policy may say of such a target.
    #[must_use]
    pub fn in_place(scene: InPlaceScene) -> Self {
        Self {
            strategy: "{bake: 2s}",
            deadlines: "{preflight: 30s, register: 30s, healthy: 30s, shift: 30s, rollback: 60s}",
            platform: ScenarioPlatform::InPlace(scene),
            ..Self::default()
        }
    }
}

/// A health check of a container every second, as its task definition has it: a task without one counts as healthy only
/// after 40 s. What is not healthy yet is not stopped while a test lasts.
#[must_use]
pub fn quick_health_check() -> Value {
    let command = ["CMD-SHELL", "check"];
    json!({"command": command, "interval": 1, "timeout": 1, "retries": 3, "startPeriod": START_PERIOD_S})
}

/// The scene of one service with the target, the tasks and the target group settings of this pair.
pub(super) fn setup(pair: &PairSetup, scene: InPlaceScene) -> RollingSetup {
    let InPlaceScene { behind_balancer, breaker } = scene;
    RollingSetup { behind_balancer, breaker, health_check: Some(quick_health_check()), ..pair.rolling() }
}

/// What a policy says of the resources: YAML in flow style, without the outer brackets.
pub(super) fn resources(names: &RollingNames) -> String {
    let RollingNames { cluster, service, balancing, .. } = names;
    let groups = balancing.iter().map(|balancing| format!("{{target_group: \"{}\"}}", balancing.group));
    let groups = groups.collect::<Vec<_>>().join(", ");
    let traffic = if groups.is_empty() { String::new() } else { format!(", traffic: [{groups}]") };
    format!("ecs: {{cluster: {cluster}, container: app, service: {service}}}{traffic}")
}

/// One service as it is in the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveWorkload {
    /// ARN of the task definition that it is set to run.
    pub version: String,
    /// The image of its container `app` in that version.
    pub image: String,
    /// Number of tasks that it is set to run.
    pub desired: u32,
    /// Running tasks of that version.
    pub running: u32,
    /// Running and starting tasks of other versions.
    pub others: u32,
    /// ECS is done replacing its tasks.
    pub is_complete: bool,
}

impl LiveWorkload {
    /// The service now; none: ECS has no such service.
    #[must_use]
    pub fn read(world: &mut World, names: &RollingNames) -> Option<Self> {
        world.as_third_party(|world| {
            let described = world.describe_services(&names.cluster, std::slice::from_ref(&names.service));
            let service = described.ok()?.0.into_iter().next()?;
            let (primary, others) = service.deployments.split_first()?;
            let definition = world.describe_task_definition(&service.task_definition).ok();
            let image = definition.and_then(|definition| definition.image("app").map(str::to_owned));
            Some(Self {
                version: service.task_definition.clone(),
                image: image.unwrap_or_default(),
                desired: service.desired_count,
                running: primary.running_count,
                others: others.iter().map(|other| other.running_count + other.pending_count).sum(),
                is_complete: primary.rollout_state == RolloutState::Completed,
            })
        })
    }

    /// Everything that runs is of its version, as many tasks as it is set to run.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        self.is_complete && self.running == self.desired && self.others == 0
    }
}

impl Scenario {
    /// The one service as it is in the world.
    ///
    /// # Panics
    /// Where the target is a pair, or the service is gone.
    #[must_use]
    pub fn workload(&self) -> LiveWorkload {
        let names = self.rolling_names();
        let live = LiveWorkload::read(&mut self.stack.front().world(), names);
        live.unwrap_or_else(|| panic!("the service {} is gone", names.service))
    }

    /// Ids of the running tasks of the one service.
    ///
    /// # Panics
    /// Where the target is a pair.
    #[must_use]
    pub fn running_tasks(&self) -> Vec<String> {
        let names = self.rolling_names();
        self.stack.front().world().running_tasks(&names.cluster, &names.service)
    }

    /// Healthy targets of the one service.
    ///
    /// # Panics
    /// Where the target is a pair.
    #[must_use]
    pub fn healthy_targets(&self) -> usize {
        let balancing = self.rolling_names().balancing.as_ref();
        balancing.map_or(0, |balancing| healthy_targets(&mut self.stack.front().world(), &balancing.group))
    }

    /// From now on a task of the one service protects itself from being stopped, for two hours, or no longer does.
    ///
    /// # Panics
    /// Where the target is a pair, or ECS refuses.
    pub fn protect_task(&self, task: &str, protected: bool) {
        let request = UpdateTaskProtection {
            cluster: self.rolling_names().cluster.clone(),
            tasks: vec![task.to_owned()],
            protection_enabled: protected,
            expires_in_minutes: None,
        };
        let mut world = self.stack.front().world();
        let answer = world.as_third_party(|world| world.update_task_protection(&request));
        drop(world);
        let (_, failures) = answer.unwrap_or_else(|error| panic!("{task} is not protected: {error}"));
        assert!(failures.is_empty(), "{task} is not protected: {failures:?}");
    }

    /// Somebody deregisters a task definition: no service can be set to run it any more.
    ///
    /// # Panics
    /// Where ECS refuses.
    pub fn deregister(&self, task_definition: &str) {
        let mut world = self.stack.front().world();
        let gone = world.as_third_party(|world| world.deregister_task_definition(task_definition));
        drop(world);
        gone.unwrap_or_else(|error| panic!("{task_definition} is not deregistered: {error}"));
    }
}
