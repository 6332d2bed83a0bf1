//! Services, task definitions and tasks.

use crate::fixture::{CLUSTER, FrontFixture, IMAGE, code};
use aws_sdk_ecs::types::{
    ContainerOverride, DeploymentRolloutState, DesiredStatus, SortOrder, TaskDefinitionField, TaskOverride,
};

#[tokio::test]
async fn services_are_described_and_follow_an_update() {
    let fixture = FrontFixture::set().await;
    let ecs = fixture.ecs();
    let described = ecs
        .describe_services()
        .cluster(CLUSTER)
        .services("api-blue")
        .services("api-green")
        .services("none")
        .send()
        .await;
    let described = described.expect("the services are described");
    let [blue, green] = described.services() else { panic!("two services: {described:?}") };
    assert_eq!((blue.desired_count(), blue.running_count(), blue.pending_count()), (2, 2, 0), "{blue:?}");
    assert_eq!((green.desired_count(), green.running_count()), (0, 0), "{green:?}");
    assert_eq!(blue.task_definition(), Some(fixture.names.task_definition.as_str()));
    assert_eq!(blue.load_balancers()[0].target_group_arn(), Some(fixture.names.blue.as_str()));
    let [primary] = blue.deployments() else { panic!("one deployment: {blue:?}") };
    assert_eq!(primary.rollout_state(), Some(&DeploymentRolloutState::Completed), "{primary:?}");
    assert!(primary.created_at().is_some() && blue.created_at().is_some(), "times are read: {blue:?}");
    assert!(
        blue.events().iter().any(|event| event.message().is_some_and(|text| text.contains("steady state"))),
        "{blue:?}"
    );
    let network = green.network_configuration().and_then(|network| network.awsvpc_configuration());
    assert_eq!(network.map(|network| network.subnets()), Some(["subnet-1".to_owned()].as_slice()));
    assert_eq!(described.failures()[0].reason(), Some("MISSING"), "{described:?}");

    let updated = ecs.update_service().cluster(CLUSTER).service("api-green").desired_count(3).send().await;
    let updated = updated.expect("the service is updated").service.expect("it is in the answer");
    assert_eq!((updated.desired_count(), updated.running_count()), (3, 0), "{updated:?}");
    fixture.settle();
    let green = ecs.describe_services().cluster(CLUSTER).services("api-green").send().await.expect("it is described");
    assert_eq!(green.services()[0].running_count(), 3, "{green:?}");
}

#[tokio::test]
async fn a_task_definition_can_be_copied_without_loss() {
    let fixture = FrontFixture::set().await;
    let ecs = fixture.ecs();
    let describe =
        |arn: String| ecs.describe_task_definition().task_definition(arn).include(TaskDefinitionField::Tags).send();
    let first = describe(fixture.names.task_definition.clone()).await.expect("it is described");
    let old = first.task_definition().expect("it is in the answer").clone();
    assert_eq!(old.revision(), 1);
    assert!(old.registered_at().is_some() && !old.requires_attributes().is_empty(), "what AWS adds: {old:?}");

    let mut containers = old.container_definitions().to_vec();
    containers[0].image = Some("api@sha256:bbbb".to_owned());
    let registered = ecs
        .register_task_definition()
        .set_family(old.family.clone())
        .set_network_mode(old.network_mode.clone())
        .set_requires_compatibilities(old.requires_compatibilities.clone())
        .set_cpu(old.cpu.clone())
        .set_memory(old.memory.clone())
        .set_task_role_arn(old.task_role_arn.clone())
        .set_container_definitions(Some(containers))
        .set_tags(first.tags.clone())
        .send()
        .await
        .expect("it is registered");
    let arn = registered.task_definition().and_then(|new| new.task_definition_arn()).expect("it has an ARN").to_owned();
    assert!(arn.ends_with(":task-definition/api:2"), "{arn}");

    let second = describe(arn).await.expect("it is described");
    let new = second.task_definition().expect("it is in the answer");
    assert_eq!(second.tags(), first.tags());
    assert_eq!(new.container_definitions()[1], old.container_definitions()[1]);
    assert_eq!(new.container_definitions()[0].secrets(), old.container_definitions()[0].secrets());
    assert_eq!(new.container_definitions()[0].image(), Some("api@sha256:bbbb"));
    assert_eq!(old.container_definitions()[0].image(), Some(IMAGE));

    let untagged = ecs.describe_task_definition().task_definition("api").send().await.expect("it is described");
    assert_eq!(untagged.task_definition().map(|found| found.revision()), Some(2), "the newest of the family");
    assert_eq!(untagged.tags(), [], "tags only where they are asked for");
}

#[tokio::test]
async fn task_definitions_are_listed_newest_first_and_in_pages() {
    let fixture = FrontFixture::set().await;
    for number in 2..=3 {
        let document = crate::fixture::document(&format!("api:{number}"));
        fixture.front.world().register_task_definition(document).expect("it is registered");
    }
    let ecs = fixture.ecs();
    let page = |token: Option<String>| {
        let list = ecs.list_task_definitions().family_prefix("api").sort(SortOrder::Desc).max_results(2);
        list.set_next_token(token).send()
    };
    let first = page(None).await.expect("the first page");
    let second = page(first.next_token.clone()).await.expect("the second page");
    let revisions: Vec<&str> = first
        .task_definition_arns()
        .iter()
        .chain(second.task_definition_arns())
        .filter_map(|arn| arn.rsplit(':').next())
        .collect();
    assert_eq!(revisions, ["3", "2", "1"]);
    assert_eq!(second.next_token(), None);
    assert_eq!(code(page(Some("elsewhere".to_owned())).await), "InvalidParameterException");
}

#[tokio::test]
async fn a_task_runs_once_per_client_token_and_reports_its_exit() {
    let fixture = FrontFixture::set().await;
    let ecs = fixture.ecs();
    let run = || {
        let command = ContainerOverride::builder().name("api").command("migrate").build();
        ecs.run_task()
            .cluster(CLUSTER)
            .task_definition(&fixture.names.task_definition)
            .started_by("switchback/7")
            .client_token("run-7")
            .overrides(TaskOverride::builder().container_overrides(command).build())
            .send()
    };
    let first = run().await.expect("it is started").tasks()[0].task_arn().expect("it has an ARN").to_owned();
    let second = run().await.expect("it is started").tasks()[0].task_arn().expect("it has an ARN").to_owned();
    assert_eq!(first, second, "the same token is the same task");
    let listed = ecs.list_tasks().cluster(CLUSTER).started_by("switchback/7").send().await.expect("it is listed");
    assert_eq!(listed.task_arns(), std::slice::from_ref(&first));

    fixture.settle();
    let described = ecs.describe_tasks().cluster(CLUSTER).tasks(&first).tasks("gone").send().await.expect("described");
    let task = &described.tasks()[0];
    assert_eq!(task.last_status(), Some("STOPPED"), "{task:?}");
    let container = task.containers().iter().find(|container| container.name() == Some("api")).expect("it is there");
    assert_eq!(container.exit_code(), Some(0), "{task:?}");
    assert!(task.stopped_at().is_some(), "{task:?}");
    assert_eq!(described.failures()[0].reason(), Some("MISSING"));
}

#[tokio::test]
async fn a_stopped_task_is_listed_as_stopped() {
    let fixture = FrontFixture::set().await;
    let ecs = fixture.ecs();
    let running = ecs.list_tasks().cluster(CLUSTER).service_name("api-blue").send().await.expect("listed");
    let [task, _] = running.task_arns() else { panic!("two tasks: {running:?}") };
    let stopped = ecs.stop_task().cluster(CLUSTER).task(task).reason("enough").send().await.expect("it is stopped");
    assert_eq!(stopped.task().and_then(|task| task.desired_status()), Some("STOPPED"));
    fixture.settle();
    let listed = ecs.list_tasks().cluster(CLUSTER).service_name("api-blue").desired_status(DesiredStatus::Stopped);
    assert_eq!(listed.send().await.expect("listed").task_arns(), std::slice::from_ref(task));
    let described = ecs.describe_tasks().cluster(CLUSTER).tasks(task).send().await.expect("described");
    assert_eq!(described.tasks()[0].stopped_reason(), Some("enough"), "{described:?}");
}

#[tokio::test]
async fn ecs_refuses_what_aws_refuses() {
    let fixture = FrontFixture::set().await;
    let ecs = fixture.ecs();
    let describe = |cluster: &str, count: usize| {
        let names = (0..count).map(|number| format!("service-{number}")).collect();
        ecs.describe_services().cluster(cluster).set_services(Some(names)).send()
    };
    assert_eq!(code(describe("nowhere", 1).await), "ClusterNotFoundException");
    assert_eq!(code(describe(CLUSTER, 11).await), "InvalidParameterException");
    let update = |service: &str| ecs.update_service().cluster(CLUSTER).service(service);
    assert_eq!(code(update("none").desired_count(1).send().await), "ServiceNotFoundException");
    assert_eq!(code(update("api-blue").task_definition("api:99").send().await), "ClientException");
    let described = ecs.describe_task_definition().task_definition("none").send().await;
    assert_eq!(code(described), "ClientException");
    assert_eq!(code(ecs.stop_task().cluster(CLUSTER).task("none").send().await), "InvalidParameterException");
    let registered = ecs.register_task_definition().family("api").set_container_definitions(Some(vec![])).send().await;
    assert_eq!(code(registered), "ClientException");
}

#[tokio::test]
async fn unmodelled_fields_are_refused() {
    let fixture = FrontFixture::set().await;
    let update =
        fixture.ecs().update_service().cluster(CLUSTER).service("api-blue").platform_version("1.4.0").send().await;
    assert_eq!(code(update), "NotModelled");
}
