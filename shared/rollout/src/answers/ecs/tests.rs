//! Tables of AWS's answers, and what they mean.

use super::*;
use crate::names::Slot;

const OLD: &str = "arn:aws:ecs:eu-west-1:123456789012:task-definition/api:7";
const NEW: &str = "arn:aws:ecs:eu-west-1:123456789012:task-definition/api:8";
/// The circuit breaker's verdict.
const BREAKER: &str = "ECS deployment circuit breaker: tasks failed to start.";
const SCALE_IN: &str = "Scaling activity initiated by (deployment ecs-svc/1)";
const EXITED: &str = "Essential container in task exited";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("an instant")
}

/// Asks about tasks of [`NEW`] since second 1000.
fn query() -> FailedStartsQuery {
    FailedStartsQuery { slot: Some(Slot::Green), version: NEW.to_owned(), since: at(1000), compare_with: None }
}

fn deployment<'a>(status: &'a str, task_definition: &'a str, state: &'a str) -> EcsDeployment<'a> {
    EcsDeployment {
        status: Some(status),
        task_definition: Some(task_definition),
        rollout_state: Some(state),
        rollout_state_reason: Some(BREAKER),
        ..EcsDeployment::default()
    }
}

/// Two of two tasks run.
fn service<'a>(deployments: &[EcsDeployment<'a>]) -> EcsService<'a> {
    EcsService {
        controller: Some("ECS"),
        task_definition: Some(NEW),
        desired: 2,
        running: 2,
        pending: 0,
        deployments: deployments.to_vec(),
        capacity_providers: Vec::new(),
        launch_type: Some("FARGATE"),
    }
}

fn event(second: i64, message: &str) -> EcsServiceEvent<'_> {
    EcsServiceEvent { message, at: at(second) }
}

/// The reading, with a query.
fn reading_of(service: &EcsService<'_>, events: &[EcsServiceEvent<'_>]) -> ServiceReading {
    service.reading(events.iter().copied(), Some(&query())).expect("a reading")
}

#[test]
fn steady_means_one_completed_deployment_with_all_tasks() {
    let completed = deployment("PRIMARY", NEW, "COMPLETED");
    let failing = EcsDeployment { failed_tasks: 1, ..completed };
    let with = |deployments: &[EcsDeployment<'static>], [desired, running, pending]: [u32; 3]| EcsService {
        desired,
        running,
        pending,
        ..service(deployments)
    };
    // Whether it is steady, and whether stopped tasks are worth reading.
    let cases = [
        (with(&[completed], [2, 2, 0]), true, false),
        (with(&[completed], [0, 0, 0]), true, false),
        (with(&[completed, deployment("ACTIVE", OLD, "COMPLETED")], [2, 2, 0]), false, false),
        (with(&[deployment("PRIMARY", NEW, "IN_PROGRESS")], [2, 2, 0]), false, false),
        (with(&[deployment("PRIMARY", NEW, "FAILED")], [2, 2, 0]), false, false),
        (with(&[EcsDeployment { rollout_state: None, ..completed }], [2, 2, 0]), false, false),
        (with(&[completed], [2, 1, 0]), false, true),
        (with(&[completed], [2, 3, 0]), false, false),
        (with(&[completed], [2, 2, 1]), false, false),
        (with(&[failing], [2, 2, 0]), true, true),
    ];
    for (service, steady, degraded) in cases {
        assert_eq!((reading_of(&service, &[]).steady, service.is_degraded()), (steady, degraded), "{service:?}");
    }
}

#[test]
fn the_circuit_breaker_is_judged_for_the_queried_deployment() {
    let words = "(service api-green) (deployment ecs-svc/1) deployment failed: tasks failed to start.";
    let failed = deployment("PRIMARY", NEW, "FAILED");
    let since =
        |second, deployment: EcsDeployment<'static>| EcsDeployment { updated_at: Some(at(second)), ..deployment };
    let unexplained = EcsDeployment { rollout_state_reason: None, ..failed };
    let rolled_back = |state: &'static str| deployment("PRIMARY", OLD, state);
    // Deployments, an event, and the reason.
    type Case<'a> = (Vec<EcsDeployment<'static>>, Option<EcsServiceEvent<'a>>, Option<&'a str>);
    let cases: [Case<'_>; 9] = [
        (vec![failed], None, Some(BREAKER)),
        (vec![unexplained], None, Some("ECS gave the deployment up, without a reason")),
        (vec![since(1000, failed)], None, Some(BREAKER)),
        // The verdict on an earlier attempt.
        (vec![since(999, failed)], None, None),
        // ECS has rolled back: the failed deployment is demoted, then gone, and its event remains.
        (vec![rolled_back("IN_PROGRESS"), deployment("ACTIVE", NEW, "FAILED")], None, Some(BREAKER)),
        (vec![rolled_back("COMPLETED")], Some(event(1500, words)), Some(words)),
        (vec![rolled_back("COMPLETED")], Some(event(999, words)), None),
        (vec![rolled_back("COMPLETED"), deployment("ACTIVE", OLD, "FAILED")], None, None),
        // The queried deployment goes on: the event is about another one.
        (vec![deployment("PRIMARY", NEW, "IN_PROGRESS")], Some(event(1500, words)), None),
    ];
    for (deployments, event, reason) in cases {
        let events: Vec<EcsServiceEvent<'_>> = event.into_iter().collect();
        let service = service(&deployments);
        assert_eq!(reading_of(&service, &events).circuit_breaker_reason.as_deref(), reason, "{service:?} {events:?}");
        let unasked = service.reading(events.iter().copied(), None).expect("a reading");
        assert_eq!(unasked.circuit_breaker_reason, None, "nobody asked: {service:?}");
    }
}

#[test]
fn a_failed_deployment_starts_no_more_tasks_whenever_it_failed() {
    let failed = EcsDeployment { updated_at: Some(at(900)), ..deployment("PRIMARY", NEW, "FAILED") };
    let demoted = [deployment("PRIMARY", OLD, "IN_PROGRESS"), deployment("ACTIVE", NEW, "FAILED")];
    // Whether the side is stalled, and which task definition needs a new deployment.
    let cases = [
        (service(&[failed]), true, Some(NEW)),
        (service(&demoted), false, None),
        (service(&[deployment("PRIMARY", NEW, "IN_PROGRESS")]), false, None),
    ];
    for (service, stalled, needing) in cases {
        assert_eq!(reading_of(&service, &[]).stalled, stalled, "{service:?}");
        for task_definition in [OLD, NEW] {
            let needs = service.needs_new_deployment(task_definition);
            assert_eq!(needs, needing == Some(task_definition), "{task_definition} {service:?}");
        }
    }
}

#[test]
fn placed_by_is_the_capacity_providers_or_launch_type() {
    let provider = |name: &'static str, weight, base| CapacityProvider { name, weight, base };
    let (spot, fargate) = (provider("FARGATE_SPOT", 3, 0), provider("FARGATE", 0, 1));
    let idle = provider("hosts", 0, 0);
    let cases: [(&[CapacityProvider<'static>], &[&str]); 3] =
        [(&[], &["FARGATE"]), (&[spot, fargate, idle], &["FARGATE_SPOT", "FARGATE"]), (&[idle], &["FARGATE"])];
    for (providers, expected) in cases {
        let completed = deployment("PRIMARY", NEW, "COMPLETED");
        let service = EcsService { capacity_providers: providers.to_vec(), ..service(&[completed]) };
        assert_eq!(reading_of(&service, &[]).placed_by, expected, "{providers:?}");
    }
}

#[test]
fn a_service_without_a_primary_deployment_is_an_error() {
    let other = EcsService { controller: Some("EXTERNAL"), ..service(&[]) };
    let reason = other.reading(std::iter::empty(), None).expect_err("no primary deployment");
    assert_eq!(reason, "the service has no primary deployment (its deployment controller is EXTERNAL)");

    let unnamed = EcsDeployment { task_definition: None, ..deployment("PRIMARY", NEW, "COMPLETED") };
    let unnamed = EcsService { task_definition: None, ..service(&[unnamed]) };
    let reason = unnamed.reading(std::iter::empty(), None).expect_err("no task definition");
    assert_eq!(reason, "the service's primary deployment names no task definition");
}

#[test]
fn a_missing_or_deleted_service_is_named() {
    assert_eq!(check_status("api-green", Some("ACTIVE")), Ok(()));
    assert_eq!(check_status("api-green", None), Ok(()));
    for status in ["DRAINING", "INACTIVE"] {
        let reason = check_status("api-green", Some(status)).expect_err("it is going");
        assert_eq!(reason, format!("service api-green is {status}: it is deleted or being deleted"));
    }
    let reason = missing_service("api-green", Some("MISSING"));
    assert_eq!(reason, "ECS has no service api-green in the cluster: MISSING");
    assert_eq!(missing_task("arn:task/1", None), "ECS has no task arn:task/1: not in the answer");
}

#[test]
fn placement_failures_are_distinguished_from_other_events() {
    // Whether it is a placement failure, and whether it ends once there is capacity.
    let cases = [
        ("was unable to place a task because no container instance met all of its requirements.", true, true),
        ("is unable to consistently place tasks successfully.", true, true),
        ("is unable to consistently start tasks successfully.", true, false),
        ("is unable to stop or start tasks during a deployment because of its configuration.", true, false),
        ("failed to launch a task with (error ECS was unable to assume the role …).", true, false),
        ("has reached a steady state.", false, false),
        ("has started 2 tasks: (task 1) (task 2).", false, false),
    ];
    for (words, is_failure, waits) in cases {
        let message = format!("(service api-green) {words}");
        assert_eq!(is_placement_failure(&message), is_failure, "{message}");
        assert_eq!(waits_for_capacity(&message), waits, "{message}");
    }
    assert!(MISSING_CAPACITY.iter().all(|phrase| PLACEMENT_FAILURES.contains(phrase)));
}

#[test]
fn the_newest_placement_failure_since_the_start_is_reported() {
    let service = service(&[deployment("PRIMARY", NEW, "IN_PROGRESS")]);
    let place = "(service api-green) was unable to place a task.";
    let start = "(service api-green) is unable to consistently start tasks successfully.";
    let steady = "(service api-green) has reached a steady state.";
    let cases: [(&[EcsServiceEvent<'_>], Option<EcsServiceEvent<'_>>); 5] = [
        (&[event(1400, steady), event(1300, start), event(1100, place), event(900, place)], Some(event(1300, start))),
        (&[event(1100, place), event(1300, start)], Some(event(1300, start))),
        // ECS lists the newest event first.
        (&[event(1300, place), event(1300, start)], Some(event(1300, place))),
        (&[event(1000, place)], Some(event(1000, place))),
        (&[event(1400, steady), event(999, place)], None),
    ];
    for (events, expected) in cases {
        let expected = expected.map(|event| ServiceEvent { message: event.message.to_owned(), at: event.at });
        assert_eq!(reading_of(&service, events).placement_failure, expected, "{events:?}");
        let unasked = service.reading(events.iter().copied(), None).expect("a reading");
        assert_eq!(unasked.placement_failure, None, "nobody asked");
    }
}

/// A service deployment to this task definition; `None`: its revision is unknown.
fn record<'a>(status: &'a str, task_definition: Option<&'a str>) -> EcsServiceDeployment<'a> {
    EcsServiceDeployment {
        status: Some(status),
        reason: Some("Service deployment stopped."),
        task_definition,
        image_digest: Some("sha256:new"),
    }
}

/// The reading of a service in place, without a query.
fn workload_of(service: &EcsService<'_>, newest: Option<EcsServiceDeployment<'_>>) -> WorkloadReading {
    service.workload(std::iter::empty(), None, newest.as_ref()).expect("a reading")
}

/// How far ECS is with a primary deployment of [`NEW`] in this state, created at second 1050.
fn rollout_of(state: &str, newest: Option<EcsServiceDeployment<'_>>) -> RolloutReading {
    let primary = EcsDeployment { created_at: Some(at(1050)), ..deployment("PRIMARY", NEW, state) };
    workload_of(&service(&[primary]), newest).rollout
}

#[test]
fn a_replacement_is_complete_only_if_its_record_agrees() {
    let in_progress = || RolloutReading::InProgress { since: Some(at(1050)) };
    assert_eq!(rollout_of("COMPLETED", Some(record("SUCCESSFUL", Some(NEW)))), RolloutReading::Complete);
    for status in ["PENDING", "IN_PROGRESS", "STOP_REQUESTED", "ROLLBACK_REQUESTED", "ROLLBACK_IN_PROGRESS"] {
        assert_eq!(rollout_of("COMPLETED", Some(record(status, Some(NEW)))), in_progress(), "{status}");
    }
    assert_eq!(rollout_of("IN_PROGRESS", Some(record("SUCCESSFUL", Some(NEW)))), in_progress());
}

#[test]
fn a_replacement_without_a_record_of_its_own_is_judged_by_the_service_alone() {
    // Last deployed before October 2024; of another version; with a revision that is unknown.
    let records = [None, Some(record("ROLLBACK_SUCCESSFUL", Some(OLD))), Some(record("STOPPED", None))];
    for newest in records {
        assert_eq!(rollout_of("COMPLETED", newest), RolloutReading::Complete, "{newest:?}");
        let in_progress = RolloutReading::InProgress { since: Some(at(1050)) };
        assert_eq!(rollout_of("IN_PROGRESS", newest), in_progress, "{newest:?}");
    }
}

#[test]
fn a_replacement_that_ecs_gave_up_has_failed_with_its_reason() {
    let failed = |reason: &str| RolloutReading::Failed { reason: reason.to_owned() };
    for newest in [None, Some(record("SUCCESSFUL", Some(NEW))), Some(record("IN_PROGRESS", Some(OLD)))] {
        assert_eq!(rollout_of("FAILED", newest), failed(BREAKER), "{newest:?}");
    }
    for status in ["STOPPED", "ROLLBACK_FAILED", "ROLLBACK_SUCCESSFUL"] {
        for state in ["IN_PROGRESS", "COMPLETED"] {
            let newest = record(status, Some(NEW));
            assert_eq!(rollout_of(state, Some(newest)), failed("Service deployment stopped."), "{status} {state}");
            let unexplained = EcsServiceDeployment { reason: None, ..newest };
            let reason = "ECS gave the deployment up, without a reason";
            assert_eq!(rollout_of(state, Some(unexplained)), failed(reason), "{status} {state}");
        }
    }
}

#[test]
fn tasks_of_other_versions_are_counted_while_they_run_or_start() {
    let with = |deployment: EcsDeployment<'static>, [running, pending]: [u32; 2]| EcsDeployment {
        running,
        pending,
        ..deployment
    };
    let deployments = [
        with(deployment("PRIMARY", NEW, "IN_PROGRESS"), [2, 1]),
        with(deployment("ACTIVE", OLD, "COMPLETED"), [1, 2]),
        with(deployment("ACTIVE", "arn:aws:ecs:eu-west-1:123456789012:task-definition/api:6", "FAILED"), [1, 0]),
    ];
    let reading = workload_of(&EcsService { desired: 3, running: 4, pending: 3, ..service(&deployments) }, None);
    assert_eq!((reading.version.as_str(), reading.desired), (NEW, 3));
    assert_eq!((reading.running, reading.others), (2, 4));
}

#[test]
fn a_digest_is_reported_only_of_the_version_that_is_set() {
    let service = service(&[deployment("PRIMARY", NEW, "COMPLETED")]);
    let cases = [
        (Some(record("SUCCESSFUL", Some(NEW))), Some("sha256:new")),
        (Some(record("SUCCESSFUL", Some(OLD))), None),
        (Some(record("SUCCESSFUL", None)), None),
        (None, None),
    ];
    for (newest, digest) in cases {
        assert_eq!(workload_of(&service, newest).digest.as_deref(), digest, "{newest:?}");
    }
}

#[test]
fn a_service_in_place_reports_how_its_tasks_are_placed() {
    let service = service(&[deployment("PRIMARY", NEW, "IN_PROGRESS")]);
    let query = FailedStartsQuery { slot: None, ..query() };
    let place = "(service api) was unable to place a task.";
    let events = [event(1300, place), event(900, place)].into_iter();
    let reading = service.workload(events, Some(&query), None).expect("a reading");
    let failure = ServiceEvent { message: place.to_owned(), at: at(1300) };
    assert_eq!((reading.placed_by, reading.placement_failure), (vec!["FARGATE".to_owned()], Some(failure)));

    let other = EcsService { controller: Some("EXTERNAL"), deployments: vec![], ..service };
    let reason = other.workload(std::iter::empty(), None, None).expect_err("no primary deployment");
    assert_eq!(reason, "the service has no primary deployment (its deployment controller is EXTERNAL)");
}

#[test]
fn a_task_is_healthy_by_its_health_check_or_after_40_seconds() {
    let running = EcsTask {
        arn: Some("task"),
        task_definition: Some(NEW),
        last_status: Some("RUNNING"),
        started_at: Some(at(1000)),
        ..EcsTask::default()
    };
    let checked = |health_status| EcsTask { health_status: Some(health_status), ..running };
    // The task, the time in seconds, and whether it is healthy then.
    let cases = [
        (running, 1039, false),
        (running, 1040, true),
        (EcsTask { started_at: None, ..running }, 1040, false),
        (EcsTask { last_status: Some("PENDING"), ..running }, 1040, false),
        (checked("HEALTHY"), 1001, true),
        (checked("UNHEALTHY"), 1040, false),
        (checked("UNKNOWN"), 1039, false),
        (checked("UNKNOWN"), 1040, true),
        (EcsTask { last_status: Some("DEPROVISIONING"), ..checked("HEALTHY") }, 1040, false),
        (EcsTask { task_definition: Some(OLD), ..checked("HEALTHY") }, 1040, false),
    ];
    for (task, second, healthy) in cases {
        let reading = tasks_reading([task].into_iter(), NEW, &BTreeSet::new(), at(second));
        assert_eq!(reading, TasksReading { healthy: u32::from(healthy), protected: 0 }, "{task:?} at {second}");
    }
}

#[test]
fn only_protected_tasks_of_other_versions_are_counted_as_protected() {
    let task = |arn, task_definition| EcsTask { arn, task_definition: Some(task_definition), ..EcsTask::default() };
    let tasks = [
        task(Some("new"), NEW),
        task(Some("old"), OLD),
        task(Some("busy"), OLD),
        task(Some("oldest"), "arn:aws:ecs:eu-west-1:123456789012:task-definition/api:6"),
        task(None, OLD),
    ];
    let protected: BTreeSet<String> = ["new", "busy", "oldest"].map(str::to_owned).into();
    let reading = tasks_reading(tasks.into_iter(), NEW, &protected, at(1040));
    assert_eq!(reading, TasksReading { healthy: 0, protected: 2 });
}

/// A task of [`NEW`] that stopped at second 1100.
fn stopped<'a>(code: &'a str, reason: &'a str) -> EcsTask<'a> {
    EcsTask {
        arn: Some("task"),
        task_definition: Some(NEW),
        last_status: Some("STOPPED"),
        stop_code: Some(code),
        stopped_reason: Some(reason),
        stopped_at: Some(at(1100)),
        ..EcsTask::default()
    }
}

fn container<'a>(name: &'a str, exit_code: Option<i32>, reason: Option<&'a str>) -> EcsContainer<'a> {
    EcsContainer { name: Some(name), exit_code, reason }
}

#[test]
fn a_task_counts_as_failed_only_if_it_stopped_by_itself() {
    let unhealthy = "Task failed ELB health checks in (target-group arn:aws:elasticloadbalancing:…)";
    let crashed = stopped("EssentialContainerExited", EXITED);
    let without_code = |reason| EcsTask { stop_code: None, ..stopped("", reason) };
    let cases = [
        (crashed, true),
        (stopped("TaskFailedToStart", "CannotPullContainerError: not found"), true),
        (stopped("ServiceSchedulerInitiated", unhealthy), true),
        (stopped("ServiceSchedulerInitiated", "Task failed container health checks"), true),
        (stopped("ServiceSchedulerInitiated", SCALE_IN), false),
        (stopped("UserInitiated", "Task stopped by user"), false),
        (stopped("SpotInterruption", "Your Spot Task was interrupted."), false),
        (stopped("TerminationNotice", "Host EC2 (instance i-0) terminated."), false),
        (stopped("InfrastructureHealth", "The host failed."), false),
        // As emulators answer.
        (without_code(EXITED), true),
        (without_code(unhealthy), true),
        (without_code(SCALE_IN), false),
        // Of another task definition, too early, of unknown time, without a name.
        (EcsTask { task_definition: Some(OLD), ..crashed }, false),
        (EcsTask { stopped_at: Some(at(999)), ..crashed }, false),
        (EcsTask { stopped_at: None, stopping_at: Some(at(1000)), ..crashed }, true),
        (EcsTask { stopped_at: None, ..crashed }, false),
        (EcsTask { arn: None, ..crashed }, false),
    ];
    for (task, counts) in cases {
        assert_eq!(failed_start(&task, std::iter::empty(), &query()).is_some(), counts, "{task:?}");
    }
}

#[test]
fn a_stop_reason_names_what_the_containers_add() {
    let pull = "CannotPullContainerError: pull image manifest has been retried 7 time(s): not found";
    let memory = "OutOfMemoryError: Container killed due to memory usage";
    let killed = format!("{EXITED} (api: exit code 137, {memory})");
    let crashed = stopped("EssentialContainerExited", EXITED);
    type Case<'a> = (EcsTask<'a>, &'a [EcsContainer<'a>], &'a str);
    let cases: [Case<'_>; 9] = [
        (
            crashed,
            &[container("api", Some(1), None), container("proxy", Some(0), None)],
            "Essential container in task exited (api: exit code 1)",
        ),
        (
            crashed,
            &[container("api", Some(1), None), container("proxy", Some(143), None)],
            "Essential container in task exited (api: exit code 1; proxy: exit code 143)",
        ),
        (crashed, &[container("api", Some(137), Some(memory))], killed.as_str()),
        (crashed, &[container("api", Some(0), None)], "Essential container in task exited (api: exit code 0)"),
        (crashed, &[], EXITED),
        (stopped("TaskFailedToStart", pull), &[container("api", None, Some(pull))], pull),
        (
            stopped("TaskFailedToStart", "Task failed to start."),
            &[container("api", None, Some("CannotStartContainerError: no such file"))],
            "Task failed to start (api: CannotStartContainerError: no such file)",
        ),
        (stopped("UserInitiated", "Stopped\nby ada."), &[container("api", Some(0), None)], "Stopped by ada"),
        (EcsTask { stopped_reason: None, ..stopped("UserInitiated", "") }, &[], "the task stopped, without a reason"),
    ];
    for (task, containers, expected) in cases {
        assert_eq!(stop_reason(&task, containers.iter().copied()), expected, "{task:?} {containers:?}");
    }
}

#[test]
fn failed_starts_are_all_counted_and_the_newest_listed() {
    let crashed = |task: &str, second| FailedStart { task: task.to_owned(), reason: EXITED.to_owned(), at: at(second) };
    let failed: FailedStarts = [crashed("b", 1000), crashed("c", 1001), crashed("a", 1000)].into_iter().collect();
    let order: Vec<&str> = failed.newest.iter().map(|start| start.task.as_str()).collect();
    assert_eq!((failed.count, order), (3, vec!["c", "a", "b"]));

    let many: FailedStarts = (0..15).map(|number| crashed("task", 1000 + number)).collect();
    assert_eq!((many.count, many.newest.len(), many.newest[0].at), (15, 10, at(1014)));
    assert_eq!(FailedStarts::from_iter([]), FailedStarts::default());
}

#[test]
fn a_hook_task_has_the_named_containers_exit_code() {
    let asked = HookTask { task: "task".to_owned(), container: "migrate".to_owned() };
    let task = stopped("EssentialContainerExited", EXITED);
    let containers = [container("proxy", Some(0), None), container("migrate", Some(3), None)];
    let reading =
        |task: &EcsTask<'_>, containers: &[EcsContainer<'_>]| hook_task(task, containers.iter().copied(), &asked);
    let reason = "Essential container in task exited (migrate: exit code 3)".to_owned();
    assert_eq!(reading(&task, &containers), TaskReading::Stopped { exit_code: Some(3), reason });

    let unplaced = stopped("TaskFailedToStart", "ResourceInitializationError");
    let reason = "ResourceInitializationError".to_owned();
    assert_eq!(reading(&unplaced, &containers[..1]), TaskReading::Stopped { exit_code: None, reason });
    for last_status in [None, Some("PENDING"), Some("RUNNING"), Some("DEPROVISIONING")] {
        assert_eq!(reading(&EcsTask { last_status, ..task }, &containers), TaskReading::Running, "{last_status:?}");
    }
}
