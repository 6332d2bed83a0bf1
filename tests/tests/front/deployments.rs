//! Service deployments and their revisions, and the protection of tasks.

use crate::fixture::{CLUSTER, FrontFixture, code, document};
use aws_sdk_ecs::types::{DeploymentRolloutState, HealthStatus, ServiceDeploymentStatus};
use simulation::world::ecs::CreateService;

const NEW_IMAGE: &str = "111122223333.dkr.ecr.eu-central-1.amazonaws.com/api@sha256:bbbb";

/// A front with a worker of two tasks, and the ARN of a second task definition.
async fn worker() -> (FrontFixture, String) {
    let fixture = FrontFixture::set().await;
    let create = CreateService {
        cluster: CLUSTER.to_owned(),
        service_name: "worker".to_owned(),
        task_definition: fixture.names.task_definition.clone(),
        desired_count: 2,
        ..CreateService::default()
    };
    let set = |world: &mut simulation::world::World| {
        world.create_service(create).expect("the service is created");
        world.register_task_definition(document(NEW_IMAGE)).expect("it is registered").arn
    };
    let definition = fixture.front.world().as_third_party(set);
    fixture.settle();
    (fixture, definition)
}

async fn deploy(ecs: &aws_sdk_ecs::Client, definition: &str) -> aws_sdk_ecs::types::Service {
    let update = ecs.update_service().cluster(CLUSTER).service("worker").task_definition(definition).send().await;
    update.expect("the service is updated").service.expect("it is in the answer")
}

async fn described(ecs: &aws_sdk_ecs::Client) -> aws_sdk_ecs::types::Service {
    let described = ecs.describe_services().cluster(CLUSTER).services("worker").send().await;
    described.expect("it is described").services.unwrap_or_default().remove(0)
}

#[tokio::test]
async fn every_deployment_has_a_record_that_follows_it() {
    let (fixture, definition) = worker().await;
    let ecs = fixture.ecs();
    let updated = deploy(&ecs, &definition).await;
    let current = updated.current_service_deployment().expect("the service names its deployment").to_owned();
    let page = |token: Option<String>| {
        let list = ecs.list_service_deployments().cluster(CLUSTER).service("worker").max_results(1);
        list.set_next_token(token).send()
    };
    let first = page(None).await.expect("the first page");
    let second = page(first.next_token.clone()).await.expect("the second page");
    assert_eq!(second.next_token(), None, "{second:?}");
    let [newest] = first.service_deployments() else { panic!("one deployment: {first:?}") };
    let [creation] = second.service_deployments() else { panic!("one deployment: {second:?}") };
    assert_eq!(newest.service_deployment_arn(), Some(current.as_str()));
    assert_eq!(newest.status(), Some(&ServiceDeploymentStatus::Pending));
    assert_eq!(creation.status(), Some(&ServiceDeploymentStatus::Successful));
    assert!(creation.finished_at().is_some() && newest.finished_at().is_none(), "{newest:?}");

    let record = async || {
        let answer = ecs.describe_service_deployments().service_deployment_arns(&current).send().await;
        answer.expect("it is described").service_deployments.unwrap_or_default().remove(0)
    };
    let pending = record().await;
    let [source] = pending.source_service_revisions() else { panic!("one source: {pending:?}") };
    assert_eq!(source.arn(), creation.target_service_revision_arn());
    assert_eq!(source.running_task_count(), 2, "{pending:?}");
    fixture.settle();
    let done = record().await;
    assert_eq!(done.status(), Some(&ServiceDeploymentStatus::Successful), "{done:?}");
    let target = done.target_service_revision().expect("it has a target");
    assert_eq!((target.requested_task_count(), target.running_task_count()), (2, 2), "{done:?}");

    let revision = target.arn().expect("it has an ARN");
    let revisions = ecs.describe_service_revisions().service_revision_arns(revision).send().await.expect("described");
    let revision = &revisions.service_revisions()[0];
    assert_eq!(revision.task_definition(), Some(definition.as_str()));
    let image = revision.container_images().iter().find(|image| image.container_name() == Some("api"));
    let image = image.expect("the container is in the revision");
    assert_eq!((image.image(), image.image_digest()), (Some(NEW_IMAGE), Some("sha256:bbbb")));
}

#[tokio::test]
async fn deployments_are_listed_by_status_and_time() {
    let (fixture, definition) = worker().await;
    let ecs = fixture.ecs();
    deploy(&ecs, &definition).await;
    let list = || ecs.list_service_deployments().cluster(CLUSTER).service("worker");
    let pending = list().status(ServiceDeploymentStatus::Pending).send().await.expect("listed");
    let [newest] = pending.service_deployments() else { panic!("one deployment: {pending:?}") };
    let at = newest.created_at().copied();
    let later = aws_sdk_ecs::types::CreatedAt::builder().set_after(at).build();
    assert_eq!(list().created_at(later).send().await.expect("listed").service_deployments(), []);
    let earlier = aws_sdk_ecs::types::CreatedAt::builder().set_before(at).build();
    assert_eq!(list().created_at(earlier).send().await.expect("listed").service_deployments().len(), 1);
}

#[tokio::test]
async fn a_deployment_waits_for_a_protected_task() {
    let (fixture, definition) = worker().await;
    let ecs = fixture.ecs();
    let tasks = ecs.list_tasks().cluster(CLUSTER).service_name("worker").send().await.expect("listed");
    let [task, other] = tasks.task_arns() else { panic!("two tasks: {tasks:?}") };
    let seen = ecs.describe_tasks().cluster(CLUSTER).tasks(task).send().await.expect("described");
    assert_eq!(seen.tasks()[0].health_status().map(HealthStatus::as_str), Some("UNKNOWN"), "{seen:?}");
    assert!(seen.tasks()[0].started_at().is_some(), "{seen:?}");

    let protect = |enabled: bool| {
        let update = ecs.update_task_protection().cluster(CLUSTER).tasks(task).protection_enabled(enabled);
        update.set_expires_in_minutes(enabled.then_some(60)).send()
    };
    let protected = protect(true).await.expect("it is protected");
    assert!(protected.protected_tasks()[0].expiration_date().is_some(), "{protected:?}");
    let read = ecs.get_task_protection().cluster(CLUSTER).tasks(task).tasks(other).send().await.expect("it is read");
    let enabled: Vec<bool> = read.protected_tasks().iter().map(|task| task.protection_enabled()).collect();
    assert_eq!(enabled, [true, false], "{read:?}");

    deploy(&ecs, &definition).await;
    fixture.settle();
    let waiting = described(&ecs).await;
    let [primary, old] = waiting.deployments() else { panic!("two deployments: {waiting:?}") };
    assert_eq!(primary.rollout_state(), Some(&DeploymentRolloutState::InProgress), "{waiting:?}");
    assert_eq!((primary.running_count(), old.running_count()), (2, 1), "{waiting:?}");

    protect(false).await.expect("it is released");
    fixture.settle();
    let done = described(&ecs).await;
    let [primary] = done.deployments() else { panic!("one deployment: {done:?}") };
    assert_eq!(primary.rollout_state(), Some(&DeploymentRolloutState::Completed), "{done:?}");
}

#[tokio::test]
async fn what_aws_refuses_of_deployments_and_protection_is_refused() {
    let (fixture, definition) = worker().await;
    let ecs = fixture.ecs();
    let arns = |count: usize| Some(vec!["arn:aws:ecs:eu-central-1:111122223333:x/shop/worker/1".to_owned(); count]);
    const INVALID: &str = "InvalidParameterException";
    for count in [0, 21] {
        let deployments = ecs.describe_service_deployments().set_service_deployment_arns(arns(count)).send().await;
        assert_eq!(code(deployments), INVALID, "{count} deployments");
        let revisions = ecs.describe_service_revisions().set_service_revision_arns(arns(count)).send().await;
        assert_eq!(code(revisions), INVALID, "{count} revisions");
    }
    let missing = ecs.describe_service_deployments().set_service_deployment_arns(arns(1)).send().await;
    assert_eq!(missing.expect("it is answered").failures()[0].reason(), Some("MISSING"));
    let list = |service: &str| ecs.list_service_deployments().cluster(CLUSTER).service(service);
    assert_eq!(code(list("none").send().await), "ServiceNotFoundException");
    assert_eq!(code(list("worker").max_results(101).send().await), INVALID);

    let run = ecs.run_task().cluster(CLUSTER).task_definition(&definition).send().await.expect("it is started");
    let alone = run.tasks()[0].task_arn().expect("it has an ARN").to_owned();
    let read = |tasks: Vec<String>| ecs.get_task_protection().cluster(CLUSTER).set_tasks(Some(tasks)).send();
    let failed = read(vec![alone.clone(), "none".to_owned()]).await.expect("it is answered");
    let reasons: Vec<_> = failed.failures().iter().filter_map(|failure| failure.reason()).collect();
    assert_eq!(reasons, ["TASK_NOT_VALID", "MISSING"], "{failed:?}");
    assert_eq!(code(read(vec![alone.clone(); 101]).await), INVALID);
    let protect = |tasks: Vec<String>, minutes: i32| {
        let update = ecs.update_task_protection().cluster(CLUSTER).set_tasks(Some(tasks)).protection_enabled(true);
        update.expires_in_minutes(minutes).send()
    };
    assert_eq!(code(protect(vec![alone.clone(); 11], 60).await), INVALID);
    assert_eq!(code(protect(vec![alone.clone()], 0).await), INVALID);
    assert_eq!(code(protect(vec![alone], 2_881).await), INVALID);

    fixture.front.world().deregister_task_definition(&definition).expect("it is there");
    let update = ecs.update_service().cluster(CLUSTER).service("worker").task_definition(&definition).send().await;
    assert_eq!(code(update), "ClientException");
}
