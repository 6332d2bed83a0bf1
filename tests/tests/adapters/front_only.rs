//! What only the wire front can show: tasks that fail, alarms, functions, faults, and what a look costs.

use super::fixture::{cloud_at, known};
use super::with_front::{FrontFixture, TASKS, fixture};
use engine::Cloud as _;
use rollout::effect::HookPayload;
use rollout::observation::HookTask;
use rollout::snapshot::{AlarmReading, TargetHealth, TaskReading, Weights};
use rollout::{Effect, HookReport, Outcome, Reading, Seconds, Slot};
use serde_json::json;
use simulation::world::alarms::{AlarmState, Comparison, Evaluation, Metric, MetricAlarm, TreatMissing};
use simulation::world::ecs::UpdateService;
use simulation::world::scaling::PutScheduledAction;
use simulation::world::{FunctionBehaviour, Health, ImageBehaviour, RunTaskBehaviour, StartBehaviour};
use std::collections::BTreeMap;
use std::time::Duration;
use tests::front::{Fault, FaultKind};

const SHIFTED: Weights = Weights { blue: 90, green: 10 };
/// So that parallel calls overlap, and sequential ones do not.
const LATENCY: Duration = Duration::from_millis(250);

fn put_alarm(fixture: &FrontFixture, name: &str, state: AlarmState) {
    let alarm = MetricAlarm {
        name: name.to_owned(),
        metric: Metric::Nothing,
        load_balancer: fixture.load_balancer.clone(),
        target_group: None,
        period_s: 60,
        evaluation_periods: 1,
        datapoints_to_alarm: 1,
        threshold: 1.0,
        comparison: Comparison::Above,
        treat_missing: TreatMissing::Ignore,
    };
    let mut world = fixture.front.world();
    world.put_metric_alarm(alarm).expect("an alarm");
    world.set_alarm_state(name, state, "because the test says so").expect("a state");
}

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
async fn alarms_of_every_type_are_read_in_one_call() {
    let fixture = fixture().await;
    put_alarm(&fixture, "quiet", AlarmState::Ok);
    put_alarm(&fixture, "loud", AlarmState::Alarm);
    put_alarm(&fixture, "silent", AlarmState::InsufficientData);
    {
        let mut world = fixture.front.world();
        world.put_composite_alarm("both", "ALARM(\"quiet\") OR ALARM(\"loud\")").expect("an alarm");
        world.put_log_alarm("log", "filter level = 'ERROR'").expect("an alarm");
        world.put_log_alarm("loud-log", "filter level = 'FATAL'").expect("an alarm");
        world.set_alarm_state("log", AlarmState::Ok, "0 lines").expect("a state");
        world.set_alarm_state("loud-log", AlarmState::Alarm, "3 lines").expect("a state");
    }
    fixture.front.skip(Duration::from_secs(1));
    let mut observation = fixture.fixture.observation();
    observation.alarms = ["quiet", "loud", "silent", "both", "log", "loud-log", "nobody"].map(str::to_owned).into();
    let seen = fixture.fixture.cloud.observe(&observation).await;
    let alarms = known(&seen.alarms);
    assert_eq!(alarms["quiet"], AlarmReading::Ok);
    assert_eq!(alarms["loud"], AlarmReading::Firing { reason: "because the test says so".to_owned() });
    assert_eq!(alarms["silent"], AlarmReading::NoData);
    assert!(matches!(alarms["both"], AlarmReading::Firing { .. }), "{:?}", alarms["both"]);
    assert_eq!(alarms["log"], AlarmReading::Ok);
    assert_eq!(alarms["loud-log"], AlarmReading::Firing { reason: "3 lines".to_owned() });
    assert_eq!(alarms["nobody"], AlarmReading::Absent);
    assert_eq!(fixture.calls("cloudwatch", "DescribeAlarms"), 1, "its parts were asked for by name, too");
}

/// CloudWatch user guide, "Alarm evaluation": an alarm has an evaluation state beside its state.
#[tokio::test(flavor = "multi_thread")]
async fn an_unevaluated_alarm_is_never_read_as_ok() {
    let fixture = fixture().await;
    let evaluations = [
        ("error", Evaluation::Error, "EVALUATION_ERROR"),
        ("failure", Evaluation::Failure, "EVALUATION_FAILURE"),
        ("partial", Evaluation::PartialData, "PARTIAL_DATA"),
    ];
    for (name, evaluation, _) in evaluations {
        put_alarm(&fixture, name, AlarmState::Ok);
        fixture.front.world().set_evaluation(name, Some(evaluation), "the query has no metrics").expect("an alarm");
    }
    put_alarm(&fixture, "loud", AlarmState::Alarm);
    {
        let mut world = fixture.front.world();
        world.set_evaluation("loud", Some(Evaluation::PartialData), "7 errors").expect("an alarm");
        world.put_log_alarm("log", "filter level = 'ERROR'").expect("an alarm");
        world.set_alarm_state("log", AlarmState::Ok, "0 lines").expect("a state");
        world.set_evaluation("log", Some(Evaluation::Error), "no such log group").expect("an alarm");
        world.put_composite_alarm("any", "ALARM(error) OR ALARM(failure)").expect("an alarm");
    }
    let mut observation = fixture.fixture.observation();
    observation.alarms = ["error", "failure", "partial", "loud", "log", "any"].map(str::to_owned).into();
    let seen = fixture.fixture.cloud.observe(&observation).await;
    let alarms = known(&seen.alarms);
    for (name, _, word) in evaluations {
        let reason = format!("{word}: the query has no metrics");
        assert_eq!(alarms[name], AlarmReading::NotEvaluated { reason });
    }
    assert_eq!(alarms["loud"], AlarmReading::Firing { reason: "7 errors".to_owned() });
    assert!(matches!(&alarms["log"], AlarmReading::NotEvaluated { reason } if reason.contains("no such log group")));
    assert!(matches!(&alarms["any"], AlarmReading::NotEvaluated { reason } if reason.contains("error")), "{alarms:?}");

    fixture.front.world().set_evaluation("error", None, "well again").expect("an alarm");
    let seen = fixture.fixture.cloud.observe(&observation).await;
    assert_eq!(known(&seen.alarms)["error"], AlarmReading::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_composite_alarms_children_are_looked_up_once() {
    let fixture = fixture().await;
    let groups = fixture.fixture.pair.clone();
    let alarm = |name: &str, group: Option<&str>| MetricAlarm {
        name: name.to_owned(),
        metric: Metric::TargetResponseTime,
        load_balancer: fixture.load_balancer.clone(),
        target_group: group.map(str::to_owned),
        period_s: 60,
        evaluation_periods: 1,
        datapoints_to_alarm: 1,
        threshold: 1.0,
        comparison: Comparison::Above,
        treat_missing: TreatMissing::Missing,
    };
    {
        let mut world = fixture.front.world();
        world.put_metric_alarm(alarm("blue-slow", Some(&groups.blue.target_group))).expect("an alarm");
        world.put_metric_alarm(alarm("green-slow", Some(&groups.green.target_group))).expect("an alarm");
        world.put_metric_alarm(alarm("slow", None)).expect("an alarm");
        world.put_composite_alarm("green-any", "ALARM(\"green-slow\") AND NOT ALARM(slow)").expect("an alarm");
        world.put_composite_alarm("any", "AT_LEAST(1, ALARM, (green-slow, \"blue-slow\"))").expect("an alarm");
        world.put_composite_alarm("deep", "ALARM(green-any)").expect("an alarm");
    }
    let mut observation = fixture.fixture.observation();
    observation.alarms = ["blue-slow", "slow"].map(str::to_owned).into();
    let seen = fixture.fixture.cloud.observe(&observation).await;
    assert_eq!(seen.alarm_sides, BTreeMap::from([("blue-slow".to_owned(), Slot::Blue)]));
    assert_eq!(fixture.calls("cloudwatch", "DescribeAlarms"), 1);

    observation.alarms = ["blue-slow", "deep", "any"].map(str::to_owned).into();
    let expected = BTreeMap::from([("blue-slow".to_owned(), Slot::Blue), ("deep".to_owned(), Slot::Green)]);
    let seen = fixture.fixture.cloud.observe(&observation).await;
    assert_eq!(seen.alarm_sides, expected);
    let cold = fixture.calls("cloudwatch", "DescribeAlarms");
    assert_eq!(cold, 4, "one for the alarms, one for what they are made of, one for what that is made of");
    let seen = fixture.fixture.cloud.observe(&observation).await;
    assert_eq!(seen.alarm_sides, expected);
    assert_eq!(fixture.calls("cloudwatch", "DescribeAlarms"), cold + 1, "what they are made of is known");

    // The rule is another one now: what was remembered is only what to ask for.
    fixture.front.world().put_composite_alarm("deep", "ALARM(blue-slow)").expect("an alarm");
    let seen = fixture.fixture.cloud.observe(&observation).await;
    assert_eq!(seen.alarm_sides["deep"], Slot::Blue);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observation_and_a_write_take_one_round_trip_each() {
    let fixture = fixture().await;
    let task_definition = fixture.deploy_to_green(ImageBehaviour::default(), TASKS).await;
    fixture.front.skip(Duration::from_secs(120));
    // The clients exist and their connections are open from here on.
    fixture.fixture.seen().await;
    fixture.front.set_latency(LATENCY);

    let from = fixture.front.elapsed();
    let mut observation = fixture.look_with_failed_starts(&task_definition);
    observation.alarms = (0..150).map(|number| format!("alarm-{number}")).collect();
    let seen = fixture.fixture.cloud.observe(&observation).await;
    assert!(known(&seen.green).steady, "{:?}", seen.green);
    assert_eq!(known(&seen.alarms).len(), 150);
    assert_eq!(fixture.sequential_calls_since(from).len(), 1, "{}", fixture.front.log());
    assert_eq!(fixture.calls("ecs", "ListTasks"), 0, "a healthy side costs no search");
    assert_eq!(fixture.calls("cloudwatch", "DescribeAlarms"), 2, "a hundred names a call");

    let from = fixture.front.elapsed();
    assert_eq!(fixture.perform(&Effect::SetWeights { weights: SHIFTED, seen: vec![] }).await, Outcome::Done);
    assert_eq!(fixture.sequential_calls_since(from).len(), 1, "{}", fixture.front.log());

    let reads = fixture.calls("elbv2", "DescribeRules");
    assert_eq!(
        fixture.perform(&Effect::SetWeights { weights: Weights { blue: 50, green: 50 }, seen: vec![] }).await,
        Outcome::Done
    );
    assert_eq!(
        fixture.calls("elbv2", "DescribeRules"),
        reads + 1,
        "what was written is read before it is written again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decisive_firing_alarm_skips_the_failed_task_search() {
    let fixture = fixture().await;
    put_alarm(&fixture, "loud", AlarmState::Alarm);
    put_alarm(&fixture, "quiet", AlarmState::Ok);
    let crash = StartBehaviour::CrashLoop { exit_code: 3, after: Seconds(1) };
    let task_definition = fixture.deploy_to_green(ImageBehaviour::starting(crash), TASKS).await;
    fixture.front.skip(Duration::from_secs(20));
    let mut observation = fixture.look_with_failed_starts(&task_definition);
    observation.alarms = ["loud", "quiet"].map(str::to_owned).into();
    // The clients exist and their connections are open from here on.
    fixture.fixture.cloud.observe(&observation).await;
    let searches = fixture.calls("ecs", "ListTasks");
    fixture.front.set_latency(LATENCY);

    let from = fixture.front.elapsed();
    observation.decisive_alarms = observation.alarms.clone();
    let seen = fixture.fixture.cloud.observe(&observation).await;
    let green = known(&seen.green);
    assert!(green.running < green.desired, "{green:?}");
    assert_eq!(known(&seen.alarms)["loud"], AlarmReading::Firing { reason: "because the test says so".to_owned() });
    assert_eq!(fixture.sequential_calls_since(from).len(), 1, "{}", fixture.front.log());
    assert_eq!(fixture.calls("ecs", "ListTasks"), searches, "{}", fixture.front.log());

    // An alarm that fires and decides nothing, and one that would decide and does not fire, spare no search.
    let from = fixture.front.elapsed();
    observation.decisive_alarms = ["quiet"].map(str::to_owned).into();
    let seen = fixture.fixture.cloud.observe(&observation).await;
    assert!(!known(&seen.green).failed_starts.is_empty(), "{:?}", seen.green);
    assert_eq!(fixture.sequential_calls_since(from).len(), 3, "{}", fixture.front.log());

    // Nor does one that cannot be read.
    observation.decisive_alarms = observation.alarms.clone();
    fixture.front.fault(Fault::on("cloudwatch", "DescribeAlarms", FaultKind::Deny).always());
    let seen = fixture.fixture.cloud.observe(&observation).await;
    assert!(seen.alarms.known().is_none(), "{:?}", seen.alarms);
    assert!(!known(&seen.green).failed_starts.is_empty(), "{:?}", seen.green);
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
        (green.image.as_deref(), &green.task_definition),
        (Some("registry.example.com/shop/api@sha256:new"), &task_definition)
    );

    observation.pair.container = "web".to_owned();
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
        starts.beside = Some(fixture.fixture.task_definition.clone());
    }
    assert_eq!(failed(&fixture.fixture.cloud.observe(&observation).await), [1, 2]);
    let searched = fixture.calls("ecs", "ListTasks");
    fixture.front.skip(Duration::from_secs(120));
    assert_eq!(failed(&fixture.fixture.cloud.observe(&observation).await), [0, 0]);
    assert_eq!(fixture.calls("ecs", "ListTasks"), searched, "a candidate with all its tasks costs no search");
}

/// A task definition that leaves a volume to the launch, and what the service says of it.
fn with_a_volume(fixture: &FrontFixture) -> (String, serde_json::Value) {
    let volume = json!({
        "name": "data",
        "managedEBSVolume": {
            "roleArn": "arn:aws:iam::111122223333:role/volumes", "sizeInGiB": 20, "volumeType": "gp3", "encrypted": true,
            "filesystemType": "ext4",
            "tagSpecifications": [{"resourceType": "volume", "tags": [{"key": "team", "value": "shop"}]}],
        },
    });
    let mut world = fixture.front.world();
    let mut document = world.describe_task_definition(&fixture.fixture.task_definition).expect("it is there").document;
    document["volumes"] = json!([{"name": "data", "configuredAtLaunch": true}]);
    let definition = world.register_task_definition(document).expect("it is sound").arn;
    let update = |volumes| UpdateService {
        cluster: "shop".to_owned(),
        service: "api-blue".to_owned(),
        task_definition: Some(definition.clone()),
        volume_configurations: volumes,
        ..UpdateService::default()
    };
    assert!(world.update_service(update(None)).is_err(), "a service needs it, too");
    world.update_service(update(Some(json!([volume])))).expect("it is complete");
    (definition, volume)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_task_inherits_its_services_volumes() {
    let fixture = fixture().await;
    let (definition, volume) = with_a_volume(&fixture);
    let Effect::StartTask { hook, run, container, command, .. } = start_task() else { unreachable!() };
    let start = |template| Effect::StartTask {
        hook: hook.clone(),
        run: format!("{run}-{template}"),
        task_definition: definition.clone(),
        container: container.clone(),
        command: command.clone(),
        template,
    };
    let started = fixture.perform(&start(Slot::Blue)).await;
    assert!(matches!(started, Outcome::TaskStarted { .. }), "{started:?}");
    let log = fixture.front.log();
    let call = log.of("ecs", "RunTask").last().expect("it is logged");
    assert_eq!(call.parameters["volumeConfigurations"], json!([volume]));
    let without = fixture.perform(&start(Slot::Green)).await;
    assert!(matches!(&without, Outcome::Refused { reason } if reason.contains("data")), "{without:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deregistered_revision_is_registered_again() {
    let fixture = fixture().await;
    let task_definition = fixture.deploy_to_green(ImageBehaviour::default(), 1).await;
    fixture.front.skip(Duration::from_secs(60));
    fixture.front.world().deregister_task_definition(&task_definition).expect("it is there");
    assert_eq!(fixture.perform(&Effect::SetDesired { slot: Slot::Green, desired: 2 }).await, Outcome::Done);
    let name = Effect::UpdateService { slot: Slot::Green, task_definition: task_definition.clone(), desired: 3 };
    let named = fixture.perform(&name).await;
    assert!(matches!(&named, Outcome::Refused { reason } if reason.contains("inactive")), "{named:?}");
    let anew = Effect::RegisterTaskDefinition {
        template: task_definition.clone(),
        container: "api".to_owned(),
        image: "registry.example.com/shop/api@sha256:new".to_owned(),
    };
    let Outcome::Registered { task_definition: made, reused: false } = fixture.perform(&anew).await else {
        panic!("a revision that is retired is no use")
    };
    assert_ne!(made, task_definition);
    assert!(matches!(fixture.perform(&anew).await, Outcome::Registered { reused: true, .. }), "made once");
}

fn start_task() -> Effect {
    Effect::StartTask {
        hook: "migrate".to_owned(),
        run: "shop-api-7-migrate".to_owned(),
        task_definition: "api".to_owned(),
        container: "api".to_owned(),
        command: vec!["migrate".to_owned()],
        template: Slot::Blue,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_task_runs_once_and_reports_its_exit_code() {
    let fixture = fixture().await;
    let run = RunTaskBehaviour::Exits { after: Seconds(5), exit_code: 4 };
    fixture.front.world().set_image("registry.example.com/shop/api@sha256:old", ImageBehaviour::running(run));
    let outcomes = fixture.fixture.perform_twice(&start_task()).await;
    let [Outcome::TaskStarted { task }, again] = outcomes else { panic!("{outcomes:?}") };
    assert_eq!(again, Outcome::TaskStarted { task: task.clone() });

    let hook_task = |task: &str| HookTask { task: task.to_owned(), container: "api".to_owned() };
    let mut observation = fixture.fixture.observation();
    let forgotten = format!("{}0", task.split_at(task.len() - 1).0);
    observation.hook_tasks =
        BTreeMap::from([("migrate".to_owned(), hook_task(&task)), ("forgotten".to_owned(), hook_task(&forgotten))]);
    let seen = fixture.fixture.cloud.observe(&observation).await;
    assert_eq!(seen.hook_tasks["migrate"], Reading::Known(TaskReading::Running));
    let missing = &seen.hook_tasks["forgotten"];
    assert!(matches!(missing, Reading::Unknown(reason) if reason.contains("MISSING")), "{missing:?}");
    assert_eq!(fixture.calls("ecs", "DescribeTasks"), 1);

    fixture.front.skip(Duration::from_secs(30));
    let seen = fixture.fixture.cloud.observe(&observation).await;
    let TaskReading::Stopped { exit_code, reason } = known(&seen.hook_tasks["migrate"]) else {
        panic!("{:?}", seen.hook_tasks)
    };
    assert_eq!(*exit_code, Some(4));
    assert!(reason.contains("exit code 4"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_task_that_cannot_be_placed_is_retried() {
    let fixture = fixture().await;
    let image = "registry.example.com/shop/api@sha256:old";
    fixture.front.world().set_image(image, ImageBehaviour::starting(StartBehaviour::PlacementFailure));
    let outcome = fixture.perform(&start_task()).await;
    assert!(matches!(&outcome, Outcome::Unsure { reason } if reason.contains("no task was started")), "{outcome:?}");
}

fn ask_hook(function: &str) -> Effect {
    let payload = HookPayload {
        target: "shop/api/live".to_owned(),
        deployment: 7,
        hook: "smoke".to_owned(),
        run: "shop-api-7-smoke".to_owned(),
        digest: "sha256:new".to_owned(),
        tag: "v7".to_owned(),
        candidate_target_group: "green".to_owned(),
    };
    Effect::InvokeHook { hook: "smoke".to_owned(), function: function.to_owned(), run: payload.run.clone(), payload }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_functions_answer_is_reported() {
    let fixture = fixture().await;
    {
        let mut world = fixture.front.world();
        world.put_function("yes", FunctionBehaviour::succeeds());
        world.put_function("no", FunctionBehaviour::fails("2 of 40 checks failed"));
        world.put_function("later", FunctionBehaviour::never_done());
        world.put_function("throws", FunctionBehaviour::Throws);
        world.put_function("mute", FunctionBehaviour::Reports { in_progress: 0, then: json!("ok") });
    }
    let report = |report| Outcome::HookReported { report };
    assert_eq!(fixture.perform(&ask_hook("yes")).await, report(HookReport::Succeeded));
    let reason = "2 of 40 checks failed".to_owned();
    assert_eq!(fixture.perform(&ask_hook("no")).await, report(HookReport::Failed { reason }));
    assert_eq!(fixture.perform(&ask_hook("later")).await, report(HookReport::InProgress));

    let thrown = fixture.perform(&ask_hook("throws")).await;
    assert!(matches!(&thrown, Outcome::Unsure { reason } if reason.contains("the function threw")), "{thrown:?}");
    let mute = fixture.perform(&ask_hook("mute")).await;
    let Outcome::HookReported { report: HookReport::Failed { reason } } = &mute else { panic!("{mute:?}") };
    assert!(reason.contains("should answer {\"status\""), "{reason}");
    let nobody = fixture.perform(&ask_hook("nobody")).await;
    assert!(matches!(&nobody, Outcome::Refused { reason } if reason.contains("Function not found")), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_hook_function_times_out_without_a_retry() {
    let fixture = fixture().await;
    fixture.front.world().put_function("silent", FunctionBehaviour::Silent);
    let outcome = fixture.perform(&ask_hook("silent")).await;
    assert_eq!(outcome, Outcome::Unsure { reason: "silent did not answer within 20 s".to_owned() });
    assert_eq!(fixture.calls("lambda", "Invoke"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_is_retried_and_then_reported() {
    let fixture = fixture().await;
    let green_to = |desired| Effect::SetDesired { slot: Slot::Green, desired };
    fixture.front.fault(Fault::on("ecs", "UpdateService", FaultKind::Throttle));
    assert_eq!(fixture.perform(&green_to(1)).await, Outcome::Done);
    fixture.front.fault(Fault::on("ecs", "UpdateService", FaultKind::Throttle).always());
    let outcome = fixture.perform(&green_to(2)).await;
    assert!(
        matches!(&outcome, Outcome::Throttled { reason } if reason.contains("UpdateService: ThrottlingException")),
        "{outcome:?}"
    );
    fixture.front.clear_faults();
    assert_eq!(known(&fixture.fixture.seen().await.green).desired, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_denial_is_reported_with_awss_message() {
    let fixture = fixture().await;
    fixture.front.fault(Fault::on("elbv2", "ModifyListener", FaultKind::Deny).always());
    let outcome = fixture.perform(&Effect::SetWeights { weights: SHIFTED, seen: vec![] }).await;
    let listener = &fixture.fixture.pair.rules[1];
    let Outcome::Refused { reason } = &outcome else { panic!("{outcome:?}") };
    assert!(reason.starts_with(listener.as_str()) && reason.contains("not authorized"), "{reason}");
    fixture.front.clear_faults();
    let seen = fixture.fixture.seen().await;
    assert_eq!(known(&seen.rules[0]).weights, SHIFTED, "the other rule is written");
    assert_eq!(known(&seen.rules[1]).weights, Weights { blue: 100, green: 0 });
    assert_eq!(fixture.perform(&Effect::SetWeights { weights: SHIFTED, seen: vec![] }).await, Outcome::Done);
    assert_eq!(known(&fixture.fixture.seen().await.rules[1]).weights, SHIFTED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_with_a_lost_response_happens_once() {
    let fixture = fixture().await;
    fixture.front.fault(Fault::on("elbv2", "ModifyRule", FaultKind::ApplyThenDisconnect));
    assert_eq!(fixture.perform(&Effect::SetWeights { weights: SHIFTED, seen: vec![] }).await, Outcome::Done);
    assert!(fixture.fixture.seen().await.rules.iter().all(|rule| known(rule).weights == SHIFTED));

    fixture.front.fault(Fault::on("ecs", "RunTask", FaultKind::ApplyThenDisconnect));
    let outcome = fixture.perform(&start_task()).await;
    let Outcome::TaskStarted { .. } = outcome else { panic!("{outcome:?}") };
    let listed = fixture
        .fixture
        .ecs("ListTasks", &json!({"cluster": "shop", "family": "api", "startedBy": "shop-api-7-migrate"}));
    assert_eq!(listed["taskArns"].as_array().map(Vec::len), Some(1), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_with_a_lost_response_leaves_one_revision() {
    let fixture = fixture().await;
    let effect = Effect::RegisterTaskDefinition {
        template: fixture.fixture.task_definition.clone(),
        container: "api".to_owned(),
        image: "registry.example.com/shop/api@sha256:new".to_owned(),
    };
    let revisions = || {
        let listed = fixture.fixture.ecs("ListTaskDefinitions", &json!({"familyPrefix": "api"}));
        listed["taskDefinitionArns"].as_array().map(Vec::len)
    };
    let before = revisions();
    fixture.front.fault(Fault::on("ecs", "RegisterTaskDefinition", FaultKind::ApplyThenDisconnect));
    let outcome = fixture.perform(&effect).await;
    assert!(matches!(outcome, Outcome::Registered { .. }), "{outcome:?}");
    assert_eq!(revisions(), before.map(|before| before + 1));

    // One that is refused for now is asked for again; one that always is, is left to the next pass.
    let Effect::RegisterTaskDefinition { template, container, .. } = effect else { return };
    let effect = Effect::RegisterTaskDefinition { template, container, image: "shop/api@sha256:newer".to_owned() };
    fixture.front.fault(Fault::on("ecs", "RegisterTaskDefinition", FaultKind::Throttle));
    let outcome = fixture.perform(&effect).await;
    assert!(matches!(outcome, Outcome::Registered { reused: false, .. }), "{outcome:?}");
    assert_eq!(revisions(), before.map(|before| before + 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_failed_reads_are_unknown() {
    let fixture = fixture().await;
    put_alarm(&fixture, "quiet", AlarmState::Ok);
    let mut observation = fixture.fixture.observation();
    observation.alarms.insert("quiet".to_owned());
    for (service, operation) in [
        ("cloudwatch", "DescribeAlarms"),
        ("autoscaling", "DescribeScalableTargets"),
        ("elbv2", "DescribeListeners"),
        ("elbv2", "DescribeTargetHealth"),
        ("ecs", "DescribeServices"),
    ] {
        fixture.front.fault(Fault::on(service, operation, FaultKind::Deny).always());
        let seen = fixture.fixture.cloud.observe(&observation).await;
        let unknown = |reading: Option<&String>| reading.is_some_and(|reason| reason.contains(operation));
        let side = |slot| match seen.side(slot) {
            Reading::Unknown(reason) => Some(reason),
            Reading::Known(_) => None,
        };
        let sides = operation == "DescribeScalableTargets" || operation == "DescribeTargetHealth" || service == "ecs";
        for slot in [Slot::Blue, Slot::Green] {
            assert_eq!(unknown(side(slot)), sides, "{operation}: {:?}", seen.side(slot));
        }
        assert_eq!(seen.alarms.known().is_none(), service == "cloudwatch", "{operation}: {:?}", seen.alarms);
        assert!(seen.rules[0].known().is_some(), "{operation}: {:?}", seen.rules[0]);
        assert_eq!(
            seen.rules[1].known().is_none(),
            operation == "DescribeListeners",
            "{operation}: {:?}",
            seen.rules[1]
        );
        fixture.front.clear_faults();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_client_observes_the_same() {
    let fixture = fixture().await;
    let other = cloud_at(fixture.front.address()).await;
    assert_eq!(other.observe(&fixture.fixture.observation()).await, fixture.fixture.seen().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_unknown_to_the_sdk_survives_the_copy() {
    let fixture = fixture().await;
    let mut document = super::fixture::task_definition("tomorrow");
    document["containerDefinitions"][0]["aFieldOfTomorrow"] = json!(7);
    let registered = fixture.fixture.ecs("RegisterTaskDefinition", &document);
    let template = registered["taskDefinition"]["taskDefinitionArn"].as_str().expect("an ARN").to_owned();
    let image = "registry.example.com/shop/api@sha256:new".to_owned();
    let effect = Effect::RegisterTaskDefinition { template, container: "api".to_owned(), image: image.clone() };
    let outcome = fixture.perform(&effect).await;
    let Outcome::Registered { task_definition, reused: false } = outcome else { panic!("{outcome:?}") };
    let copied = fixture.fixture.ecs("DescribeTaskDefinition", &json!({"taskDefinition": task_definition}));
    assert_eq!(copied["taskDefinition"]["containerDefinitions"][0]["aFieldOfTomorrow"], json!(7));
    assert_eq!(copied["taskDefinition"]["containerDefinitions"][0]["image"], json!(image));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oidc_action_keeps_its_client_secret() {
    let fixture = fixture().await;
    assert_eq!(fixture.perform(&Effect::SetWeights { weights: SHIFTED, seen: vec![] }).await, Outcome::Done);
    let log = fixture.front.log();
    let call = log.of("elbv2", "ModifyRule").next().expect("a write");
    let config = call.parameter("/Actions/0/AuthenticateOidcConfig").expect("a sign-in");
    assert_eq!(config["UseExistingClientSecret"], "true", "{config}");
    assert!(config.get("ClientSecret").is_none(), "{config}");
    let forward = call.parameter("/Actions/1").expect("a forward action");
    assert!(forward.get("TargetGroupArn").is_none(), "{forward}");
}
