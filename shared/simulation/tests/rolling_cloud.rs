//! The cloud port over a service whose versions are replaced in place: what an observation reads of it, and which
//! effects it takes.

use engine::Cloud as _;
use futures::executor::block_on;
use futures::task::noop_waker;
use rollout::observation::{FailedStartsQuery, ObservationPlan};
use rollout::snapshot::{Autoscaling, RolloutReading, TasksReading, Weights, WorkloadReading};
use rollout::{Effect, Outcome, Reading, Seconds, Slot, Snapshot, TargetResources, Timestamp};
use simulation::LiveCloud;
use simulation::virtual_time::{Faults, Simulation};
use simulation::world::ecs::{CircuitBreaker, UpdateTaskProtection};
use simulation::world::scene::{build_with_services, digest_of};
use simulation::world::{
    BuiltService, ImageBehaviour, PairSetup, RollingNames, RollingSetup, Settings, StartBehaviour, World,
};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

/// A worker of four tasks, without load balancer.
fn worker() -> RollingSetup {
    PairSetup::new("shop", "worker", "dev").rolling()
}

/// Everything that can be read.
fn plan(resources: &TargetResources) -> ObservationPlan {
    ObservationPlan {
        resources: resources.clone(),
        workloads: true,
        tasks: true,
        images: true,
        alarms: BTreeSet::new(),
        decisive_alarms: BTreeSet::new(),
        failed_starts_query: None,
        scheduled_actions_of: BTreeSet::new(),
        hook_tasks: BTreeMap::new(),
    }
}

/// A service, and the cloud port over its world.
struct ServiceFixture {
    world: Arc<Mutex<World>>,
    cloud: LiveCloud,
    resources: TargetResources,
    names: RollingNames,
}

impl ServiceFixture {
    fn build(setup: &RollingSetup) -> Self {
        let BuiltService { world, policy, names, .. } = setup.build(Settings::default());
        let world = Arc::new(Mutex::new(world));
        Self { cloud: LiveCloud::new(Arc::clone(&world)), world, resources: policy.resources, names }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no test has panicked")
    }

    fn advance(&self, seconds: u64) {
        let mut world = self.world();
        let at = Seconds(seconds).after(world.now());
        world.advance_to(at);
    }

    fn perform(&self, effect: &Effect) -> Outcome {
        block_on(self.cloud.perform(&self.resources, effect))
    }

    /// Registers the `number`th release, whose image behaves like this.
    fn register(&self, number: u64, behaviour: ImageBehaviour) -> String {
        let image = format!("{}@{}", self.names.repository_uri, digest_of(number));
        self.world().set_image(&image, behaviour);
        let effect = Effect::RegisterVersion { template: self.names.task_definition.clone(), image, family: None };
        match self.perform(&effect) {
            Outcome::Registered { version, .. } => version,
            other => panic!("{other:?}"),
        }
    }

    fn replace(&self, version: &str) {
        assert_eq!(self.perform(&Effect::ReplaceVersion { version: version.to_owned() }), Outcome::Done);
    }

    fn observe(&self, plan: &ObservationPlan) -> Snapshot {
        block_on(self.cloud.observe(plan))
    }

    fn workload(&self, plan: &ObservationPlan) -> WorkloadReading {
        match self.observe(plan).workload {
            Reading::Known(workload) => workload,
            Reading::Unknown(reason) => panic!("{reason}"),
        }
    }
}

fn crash_loop() -> ImageBehaviour {
    ImageBehaviour::starting(StartBehaviour::CrashLoop { exit_code: 1, after: Seconds(5) })
}

#[test]
fn an_observation_describes_a_replaced_workload() {
    let fixture = ServiceFixture::build(&worker());
    let new = fixture.register(1, ImageBehaviour::default());
    fixture.replace(&new);
    fixture.advance(120);
    let seen = fixture.observe(&plan(&fixture.resources));
    assert!(seen.blue.is_not_asked() && seen.green.is_not_asked(), "{seen:?}");
    assert!(seen.rules.is_empty() && seen.test_rules.is_empty(), "{seen:?}");
    let workload = fixture.workload(&plan(&fixture.resources));
    assert_eq!(workload.version, new);
    assert_eq!(workload.digest.as_deref(), Some(digest_of(1).as_str()));
    assert!(workload.image.as_ref().is_some_and(|image| image.ends_with(digest_of(1).as_str())), "{workload:?}");
    assert_eq!((workload.desired, workload.running, workload.others), (4, 4, 0));
    assert_eq!(workload.rollout, RolloutReading::Complete);
    assert_eq!(workload.tasks, Some(TasksReading { healthy: 4, protected: 0 }));
    assert_eq!(workload.targets, None, "it is behind no load balancer");
    assert!(workload.is_replaced(), "{workload:?}");
}

#[test]
fn only_what_was_asked_for_is_read() {
    let fixture = ServiceFixture::build(&worker().behind_balancer());
    let bare = ObservationPlan { tasks: false, images: false, ..plan(&fixture.resources) };
    let workload = fixture.workload(&bare);
    assert_eq!((workload.tasks, workload.image), (None, None));
    assert_eq!(workload.targets.map(|targets| targets.healthy), Some(4));
    let nothing = ObservationPlan { workloads: false, ..bare };
    assert!(fixture.observe(&nothing).workload.is_not_asked());
}

#[test]
fn an_observation_counts_failed_starts_and_protected_tasks() {
    let fixture = ServiceFixture::build(&worker());
    let since = fixture.world().now();
    let new = fixture.register(1, crash_loop());
    let task = fixture.world().running_tasks(&fixture.names.cluster, &fixture.names.service).remove(0);
    let request = UpdateTaskProtection {
        cluster: fixture.names.cluster.clone(),
        tasks: vec![task],
        protection_enabled: true,
        expires_in_minutes: None,
    };
    fixture.world().update_task_protection(&request).expect("the task runs");
    fixture.replace(&new);
    fixture.advance(60);
    let starts = FailedStartsQuery { slot: None, version: new.clone(), since, compare_with: None };
    let workload = fixture.workload(&ObservationPlan { failed_starts_query: Some(starts), ..plan(&fixture.resources) });
    assert_eq!((workload.version.as_str(), workload.others), (new.as_str(), 4));
    assert!(matches!(workload.rollout, RolloutReading::InProgress { since: Some(_) }), "{workload:?}");
    assert!(workload.failed_tasks >= 4, "{workload:?}");
    assert!(workload.failed_starts[0].reason.contains("exit code 1"), "{workload:?}");
    assert_eq!(workload.tasks, Some(TasksReading { healthy: 0, protected: 1 }));
}

#[test]
fn a_rollback_by_ecs_itself_is_seen_as_such() {
    let mut setup = worker();
    setup.breaker = CircuitBreaker { enable: true, rollback: true };
    let fixture = ServiceFixture::build(&setup);
    let since = fixture.world().now();
    let new = fixture.register(1, crash_loop());
    fixture.replace(&new);
    fixture.advance(300);
    let starts = FailedStartsQuery { slot: None, version: new, since, compare_with: None };
    let workload = fixture.workload(&ObservationPlan { failed_starts_query: Some(starts), ..plan(&fixture.resources) });
    assert_eq!((workload.version.as_str(), workload.others), (fixture.names.task_definition.as_str(), 0));
    assert_eq!(workload.rollout, RolloutReading::Complete);
    assert!(workload.gave_up.is_some(), "{workload:?}");
}

#[test]
fn a_reading_that_fails_leaves_the_workload_unknown() {
    for operation in ["ecs:DescribeServices", "ecs:DescribeServiceDeployments", "ecs:ListTasks"] {
        let fixture = ServiceFixture::build(&worker());
        fixture.world().deny(operation, true);
        let seen = fixture.observe(&plan(&fixture.resources));
        let Reading::Unknown(reason) = seen.workload else { panic!("{operation}: {:?}", seen.workload) };
        assert!(reason.contains("AccessDenied"), "{operation}: {reason}");
    }
}

#[test]
fn replacing_the_version_leaves_the_number_of_tasks() {
    let fixture = ServiceFixture::build(&worker());
    let new = fixture.register(1, ImageBehaviour::default());
    for _ in 0..2 {
        fixture.replace(&new);
        assert_eq!(fixture.workload(&plan(&fixture.resources)).desired, 4);
    }
    fixture.advance(120);
    assert!(fixture.workload(&plan(&fixture.resources)).is_replaced());
}

#[test]
fn a_version_that_ecs_has_given_up_is_deployed_anew() {
    let mut setup = worker();
    setup.breaker = CircuitBreaker { enable: true, rollback: false };
    let fixture = ServiceFixture::build(&setup);
    let new = fixture.register(1, crash_loop());
    fixture.replace(&new);
    fixture.advance(600);
    let rollout = fixture.workload(&plan(&fixture.resources)).rollout;
    assert!(matches!(rollout, RolloutReading::Failed { .. }), "{rollout:?}");
    let image = format!("{}@{}", fixture.names.repository_uri, digest_of(1));
    fixture.world().set_image(&image, ImageBehaviour::default());
    fixture.replace(&new);
    fixture.advance(120);
    let workload = fixture.workload(&plan(&fixture.resources));
    assert!(workload.version == new && workload.is_replaced(), "{workload:?}");
}

#[test]
fn an_effect_that_does_not_fit_the_platform_is_refused() {
    let fixture = ServiceFixture::build(&worker());
    let version = fixture.names.task_definition.clone();
    let limits = Autoscaling { min: 1, max: 2, scale_in_suspended: false, scheduled_suspended: false };
    let start = |template| Effect::StartTask {
        hook: "migrate".to_owned(),
        run: format!("run-{template:?}"),
        version: version.clone(),
        container: "app".to_owned(),
        command: vec!["migrate".to_owned()],
        template,
    };
    let of_sides = [
        Effect::SetVersion { slot: Slot::Blue, version: version.clone(), desired: 0 },
        Effect::SetDesired { slot: Slot::Green, desired: 0 },
        Effect::SetAutoscaling { slot: Slot::Blue, limits },
        Effect::SetWeights { weights: Weights { blue: 0, green: 100 }, seen: Vec::new() },
        Effect::SetTestRules { weights: Vec::new() },
        start(Some(Slot::Blue)),
    ];
    for effect in &of_sides {
        let outcome = fixture.perform(effect);
        assert!(matches!(outcome, Outcome::Refused { .. }), "{effect:?}: {outcome:?}");
    }
    assert_eq!(fixture.workload(&plan(&fixture.resources)).desired, 4);
    let started = fixture.perform(&start(None));
    assert!(matches!(started, Outcome::TaskStarted { .. }), "{started:?}");

    let pair = PairSetup::new("shop", "api", "dev").build(Settings::default());
    let cloud = LiveCloud::new(Arc::new(Mutex::new(pair.world)));
    for effect in [Effect::ReplaceVersion { version: version.clone() }, start(None)] {
        let outcome = block_on(cloud.perform(&pair.policy.resources, &effect));
        assert!(matches!(outcome, Outcome::Refused { .. }), "{effect:?}: {outcome:?}");
    }
}

fn run_until_ready<T>(simulation: &mut Simulation, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut Context::from_waker(&noop_waker())) {
            return answer;
        }
        simulation.run_for(1);
    }
}

#[test]
fn a_replaced_version_may_be_seen_late() {
    let built = worker().build(Settings::default());
    let (resources, before) = (built.policy.resources.clone(), built.names.task_definition.clone());
    let image = format!("{}@{}", built.names.repository_uri, digest_of(1));
    let mut simulation = Simulation::new(built, Faults { stale: 1.0, ..Faults::default() });
    let (_, cloud, ..) = simulation.ports();
    let register = Effect::RegisterVersion { template: before.clone(), image, family: None };
    let registered = run_until_ready(&mut simulation, cloud.perform(&resources, &register));
    let Outcome::Registered { version: new, .. } = registered else { panic!("{registered:?}") };
    let replace = Effect::ReplaceVersion { version: new.clone() };
    let replaced_at: Timestamp = simulation.now();
    assert_eq!(run_until_ready(&mut simulation, cloud.perform(&resources, &replace)), Outcome::Done);
    let version = |snapshot: Snapshot| snapshot.workload.known().map(|workload| workload.version.clone());
    let seen = run_until_ready(&mut simulation, cloud.observe(&plan(&resources)));
    assert!(simulation.now() < Seconds(5).after(replaced_at));
    assert_eq!(version(seen), Some(before));
    simulation.run_for(10);
    let seen = run_until_ready(&mut simulation, cloud.observe(&plan(&resources)));
    assert_eq!(version(seen), Some(new));
}

#[test]
fn pairs_and_services_share_one_world() {
    let pair = PairSetup::new("shop", "api", "dev");
    let service = PairSetup::new("shop", "web", "dev").rolling().behind_balancer();
    let built = build_with_services(&[pair], &[worker(), service], Settings::default());
    let targets: Vec<String> = built.policy.targets().map(|(target, _)| target.to_string()).collect();
    assert_eq!(targets, ["shop/api/dev", "shop/web/dev", "shop/worker/dev"]);
    let names: Vec<_> = built.services.iter().map(|(_, names)| names.service.as_str()).collect();
    assert_eq!(names, ["worker", "web"]);
    let services: Vec<_> = built.services.iter().map(|(target, _)| target.clone()).collect();
    let mut simulation = Simulation::of_application(built, Faults::default());
    simulation.run_for(60);
    assert_eq!(simulation.names().blue, "api-blue");
    assert_eq!(simulation.at(&services[0]).rolling_names().service, "worker");
    assert!(simulation.at(&services[1]).rolling_names().balancing.is_some());
    assert_eq!(simulation.world(|world| world.traffic().lost), 0.0);
}
