//! What an observation reads of the two sides: tasks, targets, failed starts, scheduled actions.

use crate::fixture::{cloud_at, known};
use crate::with_front::{TASKS, fixture};
use engine::Cloud as _;
use rollout::snapshot::TargetHealth;
use rollout::{Reading, Seconds, Slot};
use simulation::world::scaling::PutScheduledAction;
use simulation::world::{Health, ImageBehaviour, StartBehaviour};
use std::collections::BTreeMap;
use std::time::Duration;
use tests::front::{Fault, FaultKind};

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_side_is_steady() {
    let fixture = fixture().await;
    let seen = fixture.fixture.seen().await;
    let blue = known(&seen.blue);
    assert!(blue.steady, "{blue:?}");
    assert_eq!((blue.desired, blue.running, blue.pending), (TASKS, TASKS, 0));
    assert_eq!(blue.targets, TargetHealth { healthy: TASKS, ..TargetHealth::default() });
    assert_eq!((blue.image.as_ref(), &blue.circuit_breaker_reason), (None, &None), "nobody asked for the image");
    assert_eq!(known(&seen.green).desired, 0);
    assert_eq!(fixture.front.anomalies(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_is_read_only_on_request() {
    let fixture = fixture().await;
    let task_definition = fixture.deploy_to_green(ImageBehaviour::default(), 1).await;
    let mut observation = fixture.fixture.observation();
    observation.images = true;
    let seen = fixture.fixture.cloud.observe(&observation).await;
    assert_eq!(known(&seen.blue).image.as_deref(), Some("registry.example.com/shop/api@sha256:old"));
    let green = known(&seen.green);
    assert_eq!(
        (green.image.as_deref(), &green.version),
        (Some("registry.example.com/shop/api@sha256:new"), &task_definition)
    );

    tests::pair_of(&mut observation.resources).container = "web".to_owned();
    let seen = fixture.fixture.cloud.observe(&observation).await;
    assert!(matches!(&seen.blue, Reading::Unknown(reason) if reason.contains("it has api, proxy")), "{:?}", seen.blue);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_is_reported_with_its_exit_code() {
    let fixture = fixture().await;
    let crash = StartBehaviour::CrashLoop { exit_code: 3, after: Seconds(1) };
    let task_definition = fixture.deploy_to_green(ImageBehaviour::starting(crash), 1).await;
    fixture.front.skip(Duration::from_secs(20));
    let green = fixture.observe_green(&task_definition).await;
    let newest = green.failed_starts.first().expect("a failed start");
    assert!(newest.reason.contains("Essential container in task exited"), "{newest:?}");
    assert!(newest.reason.contains("api: exit code 3"), "{newest:?}");
    assert!(green.failed_starts.is_sorted_by(|one, other| one.at >= other.at), "{:?}", green.failed_starts);

    let unasked = fixture.fixture.seen().await;
    assert_eq!(known(&unasked.green).failed_starts, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_pull_failure_is_reported() {
    let fixture = fixture().await;
    let task_definition = fixture.deploy_to_green(ImageBehaviour::starting(StartBehaviour::PullError), 1).await;
    fixture.front.skip(Duration::from_secs(20));
    let green = fixture.observe_green(&task_definition).await;
    let newest = green.failed_starts.first().expect("a failed start");
    assert!(newest.reason.contains("CannotPullContainerError"), "{newest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tripped_circuit_breaker_is_reported() {
    let fixture = fixture().await;
    let task_definition = fixture.deploy_to_green(ImageBehaviour::starting(StartBehaviour::PullError), 1).await;
    fixture.front.skip(Duration::from_secs(600));
    let green = fixture.observe_green(&task_definition).await;
    assert!(green.circuit_breaker_reason.is_some(), "{green:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_placement_failure_is_reported() {
    let fixture = fixture().await;
    let task_definition = fixture.deploy_to_green(ImageBehaviour::starting(StartBehaviour::PlacementFailure), 1).await;
    fixture.front.skip(Duration::from_secs(20));
    let green = fixture.observe_green(&task_definition).await;
    let event = green.placement_failure.expect("a placement failure");
    assert!(event.message.contains("unable to place a task"), "{event:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unhealthy_targets_are_counted() {
    let fixture = fixture().await;
    let behaviour = ImageBehaviour { health: Health::Never, ..ImageBehaviour::default() };
    let task_definition = fixture.deploy_to_green(behaviour, 1).await;
    fixture.front.skip(Duration::from_secs(10));
    let green = fixture.observe_green(&task_definition).await;
    assert_eq!(green.targets.healthy, 0, "{green:?}");
    assert!(green.targets.registered() > 0, "{green:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scheduled_actions_are_read_only_for_requested_sides() {
    let fixture = fixture().await;
    let action = |name: &str, schedule: &str, timezone: Option<&str>| PutScheduledAction {
        resource_id: "service/shop/api-blue".to_owned(),
        name: name.to_owned(),
        schedule: schedule.to_owned(),
        timezone: timezone.map(str::to_owned),
        min: Some(6),
        ..PutScheduledAction::default()
    };
    let morning = action("morning", "cron(0 8 ? * MON-FRI *)", Some("Europe/Berlin"));
    // More than a page.
    let mut all: Vec<_> = (0..60).map(|number| action(&format!("at-{number:02}"), "rate(1 day)", None)).collect();
    all.push(PutScheduledAction { max: Some(20), ..morning });
    for action in all {
        fixture.front.world().put_scheduled_action(action).expect("it is sound");
    }
    let mut observation = fixture.fixture.observation();
    assert_eq!(fixture.fixture.cloud.observe(&observation).await.schedules, BTreeMap::new());
    assert_eq!(fixture.calls("autoscaling", "DescribeScheduledActions"), 0);

    observation.scheduled_actions_of = [Slot::Blue].into();
    let seen = fixture.fixture.cloud.observe(&observation).await.schedules;
    assert_eq!(seen.len(), 1, "{seen:?}");
    let actions = known(&seen[&Slot::Blue]);
    assert_eq!(actions.len(), 61);
    let morning = actions.iter().find(|action| action.name == "morning").expect("it is there");
    assert_eq!((morning.min, morning.max), (Some(6), Some(20)));
    assert_eq!(
        (morning.schedule.as_str(), morning.time_zone.as_deref()),
        ("cron(0 8 ? * MON-FRI *)", Some("Europe/Berlin"))
    );
    assert_eq!(fixture.calls("autoscaling", "DescribeScheduledActions"), 2, "a page each");

    fixture.front.fault(Fault::on("autoscaling", "DescribeScheduledActions", FaultKind::Deny).always());
    let seen = fixture.fixture.cloud.observe(&observation).await;
    assert!(
        matches!(&seen.schedules[&Slot::Blue], Reading::Unknown(reason) if reason.contains("AccessDenied")),
        "{seen:?}"
    );
    assert!(seen.blue.known().is_some(), "all else is read");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_tasks_are_counted_while_the_candidate_lacks_tasks() {
    let fixture = fixture().await;
    let task_definition = fixture.deploy_to_green(ImageBehaviour::default(), TASKS).await;
    fixture.front.skip(Duration::from_secs(120));
    let kill = |service: &str, count: usize| {
        let mut world = fixture.front.world();
        for task in world.running_tasks("shop", service).into_iter().take(count) {
            world.kill_task(&task, 0).expect("it runs");
        }
    };
    kill("api-green", 2);
    kill("api-blue", 1);
    let mut observation = fixture.look_with_failed_starts(&task_definition);
    let failed = |seen: &rollout::Snapshot| [known(&seen.blue).failed(), known(&seen.green).failed()];
    assert_eq!(failed(&fixture.fixture.cloud.observe(&observation).await), [0, 2]);
    if let Some(starts) = &mut observation.failed_starts_query {
        starts.compare_with = Some(fixture.fixture.task_definition.clone());
    }
    assert_eq!(failed(&fixture.fixture.cloud.observe(&observation).await), [1, 2]);
    let searched = fixture.calls("ecs", "ListTasks");
    fixture.front.skip(Duration::from_secs(120));
    assert_eq!(failed(&fixture.fixture.cloud.observe(&observation).await), [0, 0]);
    assert_eq!(fixture.calls("ecs", "ListTasks"), searched, "a candidate with all its tasks costs no search");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_client_observes_the_same() {
    let fixture = fixture().await;
    let other = cloud_at(fixture.front.address()).await;
    assert_eq!(other.observe(&fixture.fixture.observation()).await, fixture.fixture.seen().await);
}
