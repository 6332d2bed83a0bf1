//! What ECS does with a service whose tasks it replaces in place, as far as deployments depend on it: each truth of the
//! world by itself.

use rollout::Seconds;
use simulation::world::balancer::HealthState;
use simulation::world::ecs::{
    CircuitBreaker, EcsService, EcsTask, HealthStatus, ListServiceDeployments, ListTasks, RolloutState,
    ServiceDeployment, ServiceDeploymentStatus, UpdateService, UpdateTaskProtection,
};
use simulation::world::{
    BuiltService, Health, ImageBehaviour, PairSetup, RollingSetup, Settings, StartBehaviour, scene,
};

/// A worker of four tasks, without load balancer: new tasks start before old ones stop.
fn worker() -> RollingSetup {
    PairSetup::new("shop", "worker", "dev").rolling()
}

fn build(setup: &RollingSetup) -> BuiltService {
    setup.build(Settings::default())
}

fn advance(built: &mut BuiltService, seconds: u64) {
    let at = Seconds(seconds).after(built.world.now());
    built.world.advance_to(at);
}

/// Registers the task definition of the `number`th release, whose image behaves like this.
fn register(built: &mut BuiltService, number: u64, behaviour: ImageBehaviour) -> String {
    let model = built.world.describe_task_definition(&built.names.task_definition).expect("it is there");
    let mut document = model.document;
    let image = format!("{}@{}", built.names.repository_uri, scene::digest_of(number));
    built.world.set_image(&image, behaviour);
    document["containerDefinitions"][0]["image"] = image.into();
    built.world.register_task_definition(document).expect("it is sound").arn
}

fn crash_loop(after: u64) -> ImageBehaviour {
    ImageBehaviour::starting(StartBehaviour::CrashLoop { exit_code: 1, after: Seconds(after) })
}

fn update(built: &mut BuiltService, change: impl FnOnce(&mut UpdateService)) -> EcsService {
    let (cluster, service) = (built.names.cluster.clone(), built.names.service.clone());
    let mut update = UpdateService { cluster, service, ..UpdateService::default() };
    change(&mut update);
    built.world.update_service(update).expect("the service is there")
}

fn deploy(built: &mut BuiltService, task_definition: &str) -> EcsService {
    update(built, |update| update.task_definition = Some(task_definition.to_owned()))
}

fn service(built: &mut BuiltService) -> EcsService {
    let names = [built.names.service.clone()];
    let (mut found, _) = built.world.describe_services(&built.names.cluster, &names).expect("the cluster is there");
    found.remove(0)
}

/// Running tasks of the primary deployment, and of older ones.
fn running(built: &mut BuiltService) -> (u32, u32) {
    let service = service(built);
    let mut running = service.deployments.iter().map(|deployment| deployment.running_count);
    (running.next().unwrap_or(0), running.sum())
}

/// The service's tasks with this desired status, newest first.
fn tasks(built: &mut BuiltService, desired_status: &str) -> Vec<EcsTask> {
    let list = ListTasks {
        cluster: built.names.cluster.clone(),
        service_name: Some(built.names.service.clone()),
        desired_status: Some(desired_status.to_owned()),
        ..ListTasks::default()
    };
    let arns = built.world.list_tasks(list).expect("the service is there");
    if arns.is_empty() {
        return Vec::new();
    }
    built.world.describe_tasks(&built.names.cluster, &arns).expect("they are described").0
}

/// The service's deployments as ECS recorded them, newest first.
fn records(built: &mut BuiltService) -> Vec<ServiceDeployment> {
    let (cluster, service) = (built.names.cluster.clone(), built.names.service.clone());
    let list = ListServiceDeployments { cluster, service, ..ListServiceDeployments::default() };
    let listed = built.world.list_service_deployments(&list).expect("the service is there");
    let arns: Vec<String> = listed.into_iter().map(|brief| brief.service_deployment_arn).collect();
    built.world.describe_service_deployments(&arns).expect("they are described").0
}

fn protect(built: &mut BuiltService, task: &EcsTask, minutes: i64) {
    let request = UpdateTaskProtection {
        cluster: built.names.cluster.clone(),
        tasks: vec![task.task_arn.clone()],
        protection_enabled: true,
        expires_in_minutes: Some(minutes),
    };
    let (protected, failures) = built.world.update_task_protection(&request).expect("the task is there");
    assert!(failures.is_empty() && protected[0].protection_enabled, "{protected:?}");
}

#[test]
fn start_first_stops_an_old_task_only_for_one_that_has_run_40_s() {
    let mut built = build(&worker());
    let new = register(&mut built, 1, ImageBehaviour::default());
    let answer = deploy(&mut built, &new);
    assert_eq!((answer.deployments.len(), answer.deployments[0].rollout_state), (2, RolloutState::InProgress));
    let mut most = 0;
    for _ in 0..120 {
        advance(&mut built, 1);
        let (fresh, old) = running(&mut built);
        let now = built.world.now();
        let long_enough = |task: &&EcsTask| {
            task.task_definition_arn == new && task.started_at.is_some_and(|at| Seconds(40).after(at) <= now)
        };
        let healthy = tasks(&mut built, "RUNNING").iter().filter(long_enough).count();
        assert!(old as usize + healthy >= 4, "{old} old tasks, {healthy} new ones have run 40 s");
        most = most.max(fresh + old);
    }
    assert_eq!(most, 8, "twice the desired count");
    let service = service(&mut built);
    assert_eq!((service.deployments.len(), service.running_count), (1, 4));
    assert_eq!(service.deployments[0].rollout_state, RolloutState::Completed);
}

#[test]
fn stop_first_never_runs_more_than_the_desired_count() {
    let mut built = build(&worker().with_percents(0, 100));
    let new = register(&mut built, 1, ImageBehaviour::default());
    deploy(&mut built, &new);
    let mut fewest = u32::MAX;
    for _ in 0..90 {
        advance(&mut built, 1);
        let service = service(&mut built);
        assert!(service.running_count + service.pending_count <= 4, "{service:?}");
        fewest = fewest.min(service.running_count);
    }
    assert_eq!(fewest, 0, "old tasks stop before new ones run");
    let service = service(&mut built);
    assert_eq!((service.task_definition, service.running_count), (new, 4));
    assert_eq!(service.deployments[0].rollout_state, RolloutState::Completed);
}

#[test]
fn percentages_that_leave_no_room_replace_nothing() {
    let mut built = build(&worker().with_percents(100, 100));
    let new = register(&mut built, 1, ImageBehaviour::default());
    deploy(&mut built, &new);
    advance(&mut built, 600);
    assert_eq!(running(&mut built), (0, 4));
    assert_eq!(records(&mut built)[0].status, ServiceDeploymentStatus::InProgress);
}

#[test]
fn a_crash_loop_without_circuit_breaker_keeps_the_old_tasks_and_never_ends() {
    let mut built = build(&worker());
    let new = register(&mut built, 1, crash_loop(5));
    deploy(&mut built, &new);
    advance(&mut built, 900);
    let service = service(&mut built);
    let [primary, old] = service.deployments.as_slice() else { panic!("two deployments: {service:?}") };
    assert_eq!((primary.rollout_state, old.running_count), (RolloutState::InProgress, 4));
    assert!(primary.failed_tasks > 4, "{primary:?}");
    let record = records(&mut built).remove(0);
    assert_eq!(record.status, ServiceDeploymentStatus::InProgress);
    assert_eq!(record.deployment_circuit_breaker.status, "DISABLED");
    let crashed = tasks(&mut built, "STOPPED");
    assert!(crashed.iter().all(|task| task.stop_code == Some("EssentialContainerExited")), "{crashed:?}");
}

#[test]
fn the_circuit_breaker_rolls_a_crash_loop_back_to_the_last_completed_revision() {
    let mut setup = worker();
    setup.breaker = CircuitBreaker { enable: true, rollback: true };
    let mut built = build(&setup);
    let before = built.names.task_definition.clone();
    let new = register(&mut built, 1, crash_loop(5));
    deploy(&mut built, &new);
    let mut seen = Vec::new();
    for _ in 0..600 {
        advance(&mut built, 1);
        let status = records(&mut built)[0].status;
        if seen.last() != Some(&status) {
            seen.push(status);
        }
    }
    use ServiceDeploymentStatus::{InProgress, Pending, RollbackInProgress, RollbackSuccessful};
    assert!(seen.ends_with(&[InProgress, RollbackInProgress, RollbackSuccessful]), "{seen:?}");
    assert!(seen.iter().all(|status| [Pending, InProgress, RollbackInProgress, RollbackSuccessful].contains(status)));

    let service = service(&mut built);
    assert_eq!((service.task_definition.as_str(), service.running_count), (before.as_str(), 4));
    assert_eq!(service.deployments[0].rollout_state, RolloutState::Completed);
    let all = records(&mut built);
    let [failed, creation] = all.as_slice() else { panic!("a rollback has no record of its own: {all:#?}") };
    assert_eq!(service.current_service_deployment.as_ref(), Some(&failed.service_deployment_arn));
    let rollback = failed.rollback.as_ref().expect("it was rolled back");
    assert_eq!(rollback.service_revision_arn, creation.target_service_revision.arn);
    assert!(failed.status_reason.as_ref().is_some_and(|reason| reason.contains("circuit breaker")), "{failed:?}");
    let breaker = &failed.deployment_circuit_breaker;
    assert_eq!((breaker.status, breaker.failure_count, breaker.threshold), ("TRIGGERED", 3, 3));
}

#[test]
fn the_circuit_breaker_stops_a_crash_loop_that_it_may_not_roll_back() {
    let mut setup = worker();
    setup.breaker = CircuitBreaker { enable: true, rollback: false };
    let mut built = build(&setup);
    let new = register(&mut built, 1, crash_loop(5));
    deploy(&mut built, &new);
    advance(&mut built, 600);
    let service = service(&mut built);
    assert_eq!(service.task_definition, new);
    assert_eq!(service.deployments[0].rollout_state, RolloutState::Failed);
    let (fresh, old) = running(&mut built);
    assert!(fresh == 0 && old > 0, "{fresh} new tasks, {old} old ones");
    let record = records(&mut built).remove(0);
    assert_eq!(record.status, ServiceDeploymentStatus::Stopped);
    assert!(record.finished_at.is_some() && record.rollback.is_none(), "{record:?}");
}

#[test]
fn a_container_that_exits_after_40_s_passes_as_healthy() {
    let mut setup = worker();
    setup.breaker = CircuitBreaker { enable: true, rollback: true };
    let mut built = build(&setup);
    let new = register(&mut built, 1, crash_loop(90));
    deploy(&mut built, &new);
    advance(&mut built, 75);
    assert_eq!(records(&mut built)[0].status, ServiceDeploymentStatus::Successful);
    advance(&mut built, 600);
    let service = service(&mut built);
    assert_eq!((service.task_definition, service.deployments[0].rollout_state), (new, RolloutState::Completed));
    let stopped = tasks(&mut built, "STOPPED");
    let crashed = |task: &EcsTask| task.stop_code == Some("EssentialContainerExited");
    assert!(stopped.iter().any(crashed), "its tasks crash all the same: {stopped:?}");
}

#[test]
fn a_container_health_check_decides_instead_of_the_40_s() {
    let setup = worker().with_health_check(Seconds(10), 3);
    let mut built = build(&setup);
    let new = register(&mut built, 1, ImageBehaviour::default());
    deploy(&mut built, &new);
    advance(&mut built, 38);
    assert_eq!(records(&mut built)[0].status, ServiceDeploymentStatus::Successful, "healthy at the first check");
    let running = tasks(&mut built, "RUNNING");
    assert!(running.iter().all(|task| task.health_status == HealthStatus::Healthy), "{running:?}");

    let sick = register(&mut built, 2, ImageBehaviour::never_healthy());
    deploy(&mut built, &sick);
    advance(&mut built, 300);
    assert_eq!(service(&mut built).deployments[0].rollout_state, RolloutState::InProgress);
    assert_eq!(service(&mut built).deployments[1].running_count, 4, "the old tasks");
    let stopped = tasks(&mut built, "STOPPED");
    let failed = stopped.iter().filter(|task| task.task_definition_arn == sick);
    let reasons: Vec<_> = failed.filter_map(|task| task.stopped_reason.as_deref()).collect();
    assert!(!reasons.is_empty(), "{stopped:?}");
    assert!(reasons.iter().all(|reason| *reason == "Task failed container health checks"), "{reasons:?}");
}

#[test]
fn a_container_that_becomes_unhealthy_later_is_replaced() {
    let mut built = build(&worker().with_health_check(Seconds(10), 3));
    let behaviour = ImageBehaviour { health: Health::LostAfter(Seconds(120)), ..ImageBehaviour::default() };
    let new = register(&mut built, 1, behaviour);
    deploy(&mut built, &new);
    advance(&mut built, 60);
    let first = tasks(&mut built, "RUNNING").remove(0);
    advance(&mut built, 180);
    let ids: Vec<String> = tasks(&mut built, "RUNNING").into_iter().map(|task| task.task_arn).collect();
    assert!(ids.len() == 4 && !ids.contains(&first.task_arn), "{ids:?}");
}

#[test]
fn a_protected_task_delays_the_end_of_a_deployment_and_is_counted() {
    let mut built = build(&worker());
    let old_task = tasks(&mut built, "RUNNING").remove(0);
    protect(&mut built, &old_task, 10);
    let new = register(&mut built, 1, ImageBehaviour::default());
    deploy(&mut built, &new);
    advance(&mut built, 300);
    assert_eq!(running(&mut built), (4, 1));
    assert_eq!(service(&mut built).deployments[0].rollout_state, RolloutState::InProgress);
    let record = records(&mut built).remove(0);
    assert_eq!(record.status, ServiceDeploymentStatus::InProgress);
    assert_eq!(record.source_service_revisions[0].running_task_count, 1);
    let arns = [old_task.task_arn.clone()];
    let (protected, _) = built.world.get_task_protection(&built.names.cluster, &arns).expect("it is read");
    assert!(protected[0].protection_enabled && protected[0].expiration_date.is_some(), "{protected:?}");

    advance(&mut built, 330);
    assert_eq!(running(&mut built), (4, 0), "the protection has expired");
    assert_eq!(records(&mut built)[0].status, ServiceDeploymentStatus::Successful);
}

#[test]
fn protection_holds_a_scale_in_but_not_a_person() {
    let mut built = build(&worker());
    let kept = tasks(&mut built, "RUNNING").remove(0);
    protect(&mut built, &kept, 60);
    update(&mut built, |update| update.desired_count = Some(0));
    advance(&mut built, 60);
    assert_eq!(service(&mut built).running_count, 1);
    built.world.stop_task(&built.names.cluster, &kept.task_arn, None).expect("it runs");
    advance(&mut built, 60);
    assert_eq!(service(&mut built).running_count, 0);
    let (protected, failures) =
        built.world.get_task_protection(&built.names.cluster, &[kept.task_arn]).expect("it is read");
    assert_eq!((protected.len(), failures[0].reason.as_str()), (0, "TASK_NOT_VALID"));
}

#[test]
fn a_version_set_at_0_tasks_completes_without_running_any() {
    let mut built = build(&worker());
    update(&mut built, |update| update.desired_count = Some(0));
    advance(&mut built, 60);
    let new = register(&mut built, 1, crash_loop(5));
    deploy(&mut built, &new);
    advance(&mut built, 10);
    let service = service(&mut built);
    assert_eq!((service.deployments.len(), service.deployments[0].rollout_state), (1, RolloutState::Completed));
    let record = records(&mut built).remove(0);
    assert_eq!(record.status, ServiceDeploymentStatus::Successful);
    assert_eq!(record.target_service_revision.running_task_count, 0);
    for desired_status in ["RUNNING", "STOPPED"] {
        let tasks = tasks(&mut built, desired_status);
        assert!(tasks.iter().all(|task| task.task_definition_arn != new), "{desired_status}: {tasks:?}");
    }
}

#[test]
fn only_what_starts_a_deployment_is_recorded() {
    let mut built = build(&worker());
    let count = |built: &mut BuiltService| records(built).len();
    assert_eq!(count(&mut built), 1, "its creation");
    update(&mut built, |update| update.desired_count = Some(2));
    let present = built.names.task_definition.clone();
    deploy(&mut built, &present);
    advance(&mut built, 60);
    assert_eq!(count(&mut built), 1, "neither a count nor the same task definition");
    update(&mut built, |update| update.force_new_deployment = true);
    assert_eq!(count(&mut built), 2);
    let new = register(&mut built, 1, ImageBehaviour::default());
    deploy(&mut built, &new);
    advance(&mut built, 120);
    let statuses: Vec<_> = records(&mut built).into_iter().map(|record| record.status).collect();
    use ServiceDeploymentStatus::{Stopped, Successful};
    assert_eq!(statuses, [Successful, Stopped, Successful], "the newest replaced the one before");
}

#[test]
fn a_revision_names_the_task_definition_and_the_digest() {
    let mut built = build(&worker());
    let new = register(&mut built, 1, ImageBehaviour::default());
    deploy(&mut built, &new);
    advance(&mut built, 120);
    let record = records(&mut built).remove(0);
    let target = &record.target_service_revision;
    assert_eq!((target.requested_task_count, target.running_task_count, target.pending_task_count), (4, 4, 0));
    let arns = [target.arn.clone(), "arn:aws:ecs:eu-central-1:111122223333:service-revision/shop-dev/worker/1".into()];
    let (revisions, failures) = built.world.describe_service_revisions(&arns).expect("it is described");
    assert_eq!((revisions.len(), failures[0].reason.as_str()), (1, "MISSING"));
    assert_eq!(revisions[0].task_definition, new);
    let image = revisions[0].container_images.iter().find(|image| image.container_name == "app");
    let digest = image.and_then(|image| image.image_digest.as_deref());
    assert_eq!(digest, Some(scene::digest_of(1).as_str()));
}

#[test]
fn a_deregistered_task_definition_can_be_kept_but_not_set() {
    let mut built = build(&worker());
    let new = register(&mut built, 1, ImageBehaviour::default());
    let before = built.names.task_definition.clone();
    for definition in [&before, &new] {
        built.world.deregister_task_definition(definition).expect("it is there");
    }
    let set = UpdateService {
        cluster: built.names.cluster.clone(),
        service: built.names.service.clone(),
        task_definition: Some(new),
        ..UpdateService::default()
    };
    let refused = built.world.update_service(set).expect_err("it is refused");
    assert_eq!((refused.code, refused.message.as_str()), ("ClientException", "TaskDefinition is inactive"));
    update(&mut built, |update| update.desired_count = Some(6));
    advance(&mut built, 60);
    assert_eq!(service(&mut built).running_count, 6);
}

#[test]
fn behind_a_load_balancer_no_request_is_lost() {
    let mut built = build(&worker().behind_balancer());
    let new = register(&mut built, 1, ImageBehaviour::default());
    deploy(&mut built, &new);
    let group = built.names.balancing.as_ref().expect("it is behind a load balancer").group.clone();
    for _ in 0..180 {
        advance(&mut built, 1);
        let health = built.world.describe_target_health(&group).expect("the group is there");
        let healthy = health.iter().filter(|target| target.state == HealthState::Healthy).count();
        assert!(healthy >= 4, "{healthy} healthy targets");
    }
    assert_eq!(records(&mut built)[0].status, ServiceDeploymentStatus::Successful);
    let traffic = built.world.traffic();
    assert!(traffic.requests > 0.0 && traffic.lost == 0.0, "{traffic:?}");
}
