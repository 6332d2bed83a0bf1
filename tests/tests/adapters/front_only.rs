//! What only the wire front can show: tasks that fail, alarms, functions, faults, and what a look costs.

use super::place::{cloud_at, known};
use super::with_front::{FrontPlace, TASKS, place};
use engine::Cloud as _;
use rollout::effect::HookPayload;
use rollout::look::HookTask;
use rollout::snapshot::{AlarmReading, TargetHealth, TaskReading, Weights};
use rollout::{Effect, HookReport, Outcome, Reading, Seconds, Slot};
use serde_json::json;
use simulation::world::alarms::{AlarmState, Comparison, Evaluation, Metric, MetricAlarm, TreatMissing};
use simulation::world::ecs::UpdateService;
use simulation::world::scaling::PutScheduledAction;
use simulation::world::{FunctionBehaviour, Health, ImageBehaviour, Run, Starts};
use std::collections::BTreeMap;
use std::time::Duration;
use tests::front::{Fault, Harm};

const SHIFTED: Weights = Weights { blue: 90, green: 10 };
/// So that parallel calls overlap, and sequential ones do not.
const LATENCY: Duration = Duration::from_millis(250);

fn put_alarm(place: &FrontPlace, name: &str, state: AlarmState) {
    let alarm = MetricAlarm {
        name: name.to_owned(),
        metric: Metric::Nothing,
        load_balancer: place.load_balancer.clone(),
        target_group: None,
        period_s: 60,
        evaluation_periods: 1,
        datapoints_to_alarm: 1,
        threshold: 1.0,
        comparison: Comparison::Above,
        treat_missing: TreatMissing::Ignore,
    };
    let mut world = place.front.world();
    world.put_metric_alarm(alarm).expect("an alarm");
    world.set_alarm_state(name, state, "because the test says so").expect("a state");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_side_is_steady() {
    let place = place().await;
    let seen = place.place.seen().await;
    let blue = known(&seen.blue);
    assert!(blue.steady, "{blue:?}");
    assert_eq!((blue.desired, blue.running, blue.pending), (TASKS, TASKS, 0));
    assert_eq!(blue.targets, TargetHealth { healthy: TASKS, ..TargetHealth::default() });
    assert_eq!((blue.image.as_ref(), &blue.gave_up), (None, &None), "nobody asked for the image");
    assert_eq!(known(&seen.green).desired, 0);
    assert_eq!(place.front.surprises(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn alarms_of_every_type_are_read_in_one_call() {
    let place = place().await;
    put_alarm(&place, "quiet", AlarmState::Ok);
    put_alarm(&place, "loud", AlarmState::Alarm);
    put_alarm(&place, "silent", AlarmState::InsufficientData);
    {
        let mut world = place.front.world();
        world.put_composite_alarm("both", "ALARM(\"quiet\") OR ALARM(\"loud\")").expect("an alarm");
        world.put_log_alarm("log", "filter level = 'ERROR'").expect("an alarm");
        world.put_log_alarm("loud-log", "filter level = 'FATAL'").expect("an alarm");
        world.set_alarm_state("log", AlarmState::Ok, "0 lines").expect("a state");
        world.set_alarm_state("loud-log", AlarmState::Alarm, "3 lines").expect("a state");
    }
    place.front.skip(Duration::from_secs(1));
    let mut look = place.place.look();
    look.alarms = ["quiet", "loud", "silent", "both", "log", "loud-log", "nobody"].map(str::to_owned).into();
    let seen = place.place.cloud.observe(&look).await;
    let alarms = known(&seen.alarms);
    assert_eq!(alarms["quiet"], AlarmReading::Ok);
    assert_eq!(alarms["loud"], AlarmReading::Firing { reason: "because the test says so".to_owned() });
    assert_eq!(alarms["silent"], AlarmReading::NoData);
    assert!(matches!(alarms["both"], AlarmReading::Firing { .. }), "{:?}", alarms["both"]);
    assert_eq!(alarms["log"], AlarmReading::Ok);
    assert_eq!(alarms["loud-log"], AlarmReading::Firing { reason: "3 lines".to_owned() });
    assert_eq!(alarms["nobody"], AlarmReading::Absent);
    assert_eq!(place.calls("cloudwatch", "DescribeAlarms"), 1, "its parts were asked for by name, too");
}

/// CloudWatch user guide, "Alarm evaluation": an alarm has an evaluation state beside its state.
#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_that_is_not_evaluated_is_not_ok_whatever_its_state_is() {
    let place = place().await;
    let evaluations = [
        ("error", Evaluation::Error, "EVALUATION_ERROR"),
        ("failure", Evaluation::Failure, "EVALUATION_FAILURE"),
        ("partial", Evaluation::PartialData, "PARTIAL_DATA"),
    ];
    for (name, evaluation, _) in evaluations {
        put_alarm(&place, name, AlarmState::Ok);
        place.front.world().set_evaluation(name, Some(evaluation), "the query has no metrics").expect("an alarm");
    }
    put_alarm(&place, "loud", AlarmState::Alarm);
    {
        let mut world = place.front.world();
        world.set_evaluation("loud", Some(Evaluation::PartialData), "7 errors").expect("an alarm");
        world.put_log_alarm("log", "filter level = 'ERROR'").expect("an alarm");
        world.set_alarm_state("log", AlarmState::Ok, "0 lines").expect("a state");
        world.set_evaluation("log", Some(Evaluation::Error), "no such log group").expect("an alarm");
        world.put_composite_alarm("any", "ALARM(error) OR ALARM(failure)").expect("an alarm");
    }
    let mut look = place.place.look();
    look.alarms = ["error", "failure", "partial", "loud", "log", "any"].map(str::to_owned).into();
    let seen = place.place.cloud.observe(&look).await;
    let alarms = known(&seen.alarms);
    for (name, _, word) in evaluations {
        let reason = format!("{word}: the query has no metrics");
        assert_eq!(alarms[name], AlarmReading::NotEvaluated { reason });
    }
    assert_eq!(alarms["loud"], AlarmReading::Firing { reason: "7 errors".to_owned() });
    assert!(matches!(&alarms["log"], AlarmReading::NotEvaluated { reason } if reason.contains("no such log group")));
    assert!(matches!(&alarms["any"], AlarmReading::NotEvaluated { reason } if reason.contains("error")), "{alarms:?}");

    place.front.world().set_evaluation("error", None, "well again").expect("an alarm");
    let seen = place.place.cloud.observe(&look).await;
    assert_eq!(known(&seen.alarms)["error"], AlarmReading::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_side_that_an_alarm_sees_is_known_and_costs_a_composite_alarm_one_call_once() {
    let place = place().await;
    let groups = place.place.pair.clone();
    let alarm = |name: &str, group: Option<&str>| MetricAlarm {
        name: name.to_owned(),
        metric: Metric::TargetResponseTime,
        load_balancer: place.load_balancer.clone(),
        target_group: group.map(str::to_owned),
        period_s: 60,
        evaluation_periods: 1,
        datapoints_to_alarm: 1,
        threshold: 1.0,
        comparison: Comparison::Above,
        treat_missing: TreatMissing::Missing,
    };
    {
        let mut world = place.front.world();
        world.put_metric_alarm(alarm("blue-slow", Some(&groups.blue.target_group))).expect("an alarm");
        world.put_metric_alarm(alarm("green-slow", Some(&groups.green.target_group))).expect("an alarm");
        world.put_metric_alarm(alarm("slow", None)).expect("an alarm");
        world.put_composite_alarm("green-any", "ALARM(\"green-slow\") AND NOT ALARM(slow)").expect("an alarm");
        world.put_composite_alarm("any", "AT_LEAST(1, ALARM, (green-slow, \"blue-slow\"))").expect("an alarm");
        world.put_composite_alarm("deep", "ALARM(green-any)").expect("an alarm");
    }
    let mut look = place.place.look();
    look.alarms = ["blue-slow", "slow"].map(str::to_owned).into();
    let seen = place.place.cloud.observe(&look).await;
    assert_eq!(seen.alarm_sides, BTreeMap::from([("blue-slow".to_owned(), Slot::Blue)]));
    assert_eq!(place.calls("cloudwatch", "DescribeAlarms"), 1);

    look.alarms = ["blue-slow", "deep", "any"].map(str::to_owned).into();
    let expected = BTreeMap::from([("blue-slow".to_owned(), Slot::Blue), ("deep".to_owned(), Slot::Green)]);
    let seen = place.place.cloud.observe(&look).await;
    assert_eq!(seen.alarm_sides, expected);
    let cold = place.calls("cloudwatch", "DescribeAlarms");
    assert_eq!(cold, 4, "one for the alarms, one for what they are made of, one for what that is made of");
    let seen = place.place.cloud.observe(&look).await;
    assert_eq!(seen.alarm_sides, expected);
    assert_eq!(place.calls("cloudwatch", "DescribeAlarms"), cold + 1, "what they are made of is known");

    // The rule is another one now: what was remembered is only what to ask for.
    place.front.world().put_composite_alarm("deep", "ALARM(blue-slow)").expect("an alarm");
    let seen = place.place.cloud.observe(&look).await;
    assert_eq!(seen.alarm_sides["deep"], Slot::Blue);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_is_one_round_trip_and_a_write_after_it_another() {
    let place = place().await;
    let task_definition = place.to_green(ImageBehaviour::default(), TASKS).await;
    place.front.skip(Duration::from_secs(120));
    // The clients exist and their connections are open from here on.
    place.place.seen().await;
    place.front.set_latency(LATENCY);

    let from = place.front.elapsed();
    let mut look = place.look_for_starts_of(&task_definition);
    look.alarms = (0..150).map(|number| format!("alarm-{number}")).collect();
    let seen = place.place.cloud.observe(&look).await;
    assert!(known(&seen.green).steady, "{:?}", seen.green);
    assert_eq!(known(&seen.alarms).len(), 150);
    assert_eq!(place.chain_since(from).len(), 1, "{}", place.front.log());
    assert_eq!(place.calls("ecs", "ListTasks"), 0, "a healthy side costs no search");
    assert_eq!(place.calls("cloudwatch", "DescribeAlarms"), 2, "a hundred names a call");

    let from = place.front.elapsed();
    assert_eq!(place.perform(&Effect::SetWeights { weights: SHIFTED, seen: vec![] }).await, Outcome::Done);
    assert_eq!(place.chain_since(from).len(), 1, "{}", place.front.log());

    let reads = place.calls("elbv2", "DescribeRules");
    assert_eq!(
        place.perform(&Effect::SetWeights { weights: Weights { blue: 50, green: 50 }, seen: vec![] }).await,
        Outcome::Done
    );
    assert_eq!(place.calls("elbv2", "DescribeRules"), reads + 1, "what was written is read before it is written again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_that_turns_back_costs_one_round_trip_however_short_of_tasks_the_candidate_is() {
    let place = place().await;
    put_alarm(&place, "loud", AlarmState::Alarm);
    put_alarm(&place, "quiet", AlarmState::Ok);
    let crash = Starts::CrashLoop { exit_code: 3, after: Seconds(1) };
    let task_definition = place.to_green(ImageBehaviour::starting(crash), TASKS).await;
    place.front.skip(Duration::from_secs(20));
    let mut look = place.look_for_starts_of(&task_definition);
    look.alarms = ["loud", "quiet"].map(str::to_owned).into();
    // The clients exist and their connections are open from here on.
    place.place.cloud.observe(&look).await;
    let searches = place.calls("ecs", "ListTasks");
    place.front.set_latency(LATENCY);

    let from = place.front.elapsed();
    look.decisive_alarms = look.alarms.clone();
    let seen = place.place.cloud.observe(&look).await;
    let green = known(&seen.green);
    assert!(green.running < green.desired, "{green:?}");
    assert_eq!(known(&seen.alarms)["loud"], AlarmReading::Firing { reason: "because the test says so".to_owned() });
    assert_eq!(place.chain_since(from).len(), 1, "{}", place.front.log());
    assert_eq!(place.calls("ecs", "ListTasks"), searches, "{}", place.front.log());

    // An alarm that fires and decides nothing, and one that would decide and does not fire, spare no search.
    let from = place.front.elapsed();
    look.decisive_alarms = ["quiet"].map(str::to_owned).into();
    let seen = place.place.cloud.observe(&look).await;
    assert!(!known(&seen.green).failed_starts.is_empty(), "{:?}", seen.green);
    assert_eq!(place.chain_since(from).len(), 3, "{}", place.front.log());

    // Nor does one that cannot be read.
    look.decisive_alarms = look.alarms.clone();
    place.front.fault(Fault::on("cloudwatch", "DescribeAlarms", Harm::Deny).always());
    let seen = place.place.cloud.observe(&look).await;
    assert!(seen.alarms.known().is_none(), "{:?}", seen.alarms);
    assert!(!known(&seen.green).failed_starts.is_empty(), "{:?}", seen.green);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_read_only_where_it_is_asked_for() {
    let place = place().await;
    let task_definition = place.to_green(ImageBehaviour::default(), 1).await;
    let mut look = place.place.look();
    look.images = true;
    let seen = place.place.cloud.observe(&look).await;
    assert_eq!(known(&seen.blue).image.as_deref(), Some("registry.example.com/shop/api@sha256:old"));
    let green = known(&seen.green);
    assert_eq!(
        (green.image.as_deref(), &green.task_definition),
        (Some("registry.example.com/shop/api@sha256:new"), &task_definition)
    );

    look.pair.container = "web".to_owned();
    let seen = place.place.cloud.observe(&look).await;
    assert!(matches!(&seen.blue, Reading::Unknown(reason) if reason.contains("it has api, proxy")), "{:?}", seen.blue);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_is_told_with_its_exit_code() {
    let place = place().await;
    let crash = Starts::CrashLoop { exit_code: 3, after: Seconds(1) };
    let task_definition = place.to_green(ImageBehaviour::starting(crash), 1).await;
    place.front.skip(Duration::from_secs(20));
    let green = place.green_seen(&task_definition).await;
    let newest = green.failed_starts.first().expect("a failed start");
    assert!(newest.reason.contains("Essential container in task exited"), "{newest:?}");
    assert!(newest.reason.contains("api: exit code 3"), "{newest:?}");
    assert!(green.failed_starts.is_sorted_by(|one, other| one.at >= other.at), "{:?}", green.failed_starts);

    let unasked = place.place.seen().await;
    assert_eq!(known(&unasked.green).failed_starts, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_pulled_is_told() {
    let place = place().await;
    let task_definition = place.to_green(ImageBehaviour::starting(Starts::PullError), 1).await;
    place.front.skip(Duration::from_secs(20));
    let green = place.green_seen(&task_definition).await;
    let newest = green.failed_starts.first().expect("a failed start");
    assert!(newest.reason.contains("CannotPullContainerError"), "{newest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_breakers_verdict_is_told() {
    let place = place().await;
    let task_definition = place.to_green(ImageBehaviour::starting(Starts::PullError), 1).await;
    place.front.skip(Duration::from_secs(600));
    let green = place.green_seen(&task_definition).await;
    assert!(green.gave_up.is_some(), "{green:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_cannot_be_placed_is_told() {
    let place = place().await;
    let task_definition = place.to_green(ImageBehaviour::starting(Starts::PlacementFailure), 1).await;
    place.front.skip(Duration::from_secs(20));
    let green = place.green_seen(&task_definition).await;
    let event = green.placement_failure.expect("a placement failure");
    assert!(event.message.contains("unable to place a task"), "{event:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_are_never_healthy_are_told() {
    let place = place().await;
    let behaviour = ImageBehaviour { health: Health::Never, ..ImageBehaviour::default() };
    let task_definition = place.to_green(behaviour, 1).await;
    place.front.skip(Duration::from_secs(10));
    let green = place.green_seen(&task_definition).await;
    assert_eq!(green.targets.healthy, 0, "{green:?}");
    assert!(green.targets.registered() > 0, "{green:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scheduled_actions_are_read_beside_all_else_and_only_of_the_sides_that_are_asked_for() {
    let place = place().await;
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
        place.front.world().put_scheduled_action(action).expect("it is sound");
    }
    let mut look = place.place.look();
    assert_eq!(place.place.cloud.observe(&look).await.schedules, BTreeMap::new());
    assert_eq!(place.calls("autoscaling", "DescribeScheduledActions"), 0);

    look.schedules_of = [Slot::Blue].into();
    let seen = place.place.cloud.observe(&look).await.schedules;
    assert_eq!(seen.len(), 1, "{seen:?}");
    let actions = known(&seen[&Slot::Blue]);
    assert_eq!(actions.len(), 61);
    let morning = actions.iter().find(|action| action.name == "morning").expect("it is there");
    assert_eq!((morning.min, morning.max), (Some(6), Some(20)));
    assert_eq!(
        (morning.schedule.as_str(), morning.time_zone.as_deref()),
        ("cron(0 8 ? * MON-FRI *)", Some("Europe/Berlin"))
    );
    assert_eq!(place.calls("autoscaling", "DescribeScheduledActions"), 2, "a page each");

    place.front.fault(Fault::on("autoscaling", "DescribeScheduledActions", Harm::Deny).always());
    let seen = place.place.cloud.observe(&look).await;
    assert!(
        matches!(&seen.schedules[&Slot::Blue], Reading::Unknown(reason) if reason.contains("AccessDenied")),
        "{seen:?}"
    );
    assert!(seen.blue.known().is_some(), "all else is read");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_tasks_of_both_sides_are_counted_where_the_candidate_is_short_of_some() {
    let place = place().await;
    let task_definition = place.to_green(ImageBehaviour::default(), TASKS).await;
    place.front.skip(Duration::from_secs(120));
    let kill = |service: &str, count: usize| {
        let mut world = place.front.world();
        for task in world.running_tasks("shop", service).into_iter().take(count) {
            world.kill_task(&task, 0).expect("it runs");
        }
    };
    kill("api-green", 2);
    kill("api-blue", 1);
    let mut look = place.look_for_starts_of(&task_definition);
    let failed = |seen: &rollout::Snapshot| [known(&seen.blue).failed(), known(&seen.green).failed()];
    assert_eq!(failed(&place.place.cloud.observe(&look).await), [0, 2]);
    if let Some(starts) = &mut look.starts_of {
        starts.beside = Some(place.place.task_definition.clone());
    }
    assert_eq!(failed(&place.place.cloud.observe(&look).await), [1, 2]);
    let searched = place.calls("ecs", "ListTasks");
    place.front.skip(Duration::from_secs(120));
    assert_eq!(failed(&place.place.cloud.observe(&look).await), [0, 0]);
    assert_eq!(place.calls("ecs", "ListTasks"), searched, "a candidate with all its tasks costs no search");
}

/// A task definition that leaves a volume to the launch, and what the service says of it.
fn with_a_volume(place: &FrontPlace) -> (String, serde_json::Value) {
    let volume = json!({
        "name": "data",
        "managedEBSVolume": {
            "roleArn": "arn:aws:iam::111122223333:role/volumes", "sizeInGiB": 20, "volumeType": "gp3", "encrypted": true,
            "filesystemType": "ext4",
            "tagSpecifications": [{"resourceType": "volume", "tags": [{"key": "team", "value": "shop"}]}],
        },
    });
    let mut world = place.front.world();
    let mut document = world.describe_task_definition(&place.place.task_definition).expect("it is there").document;
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
async fn a_hooks_task_takes_the_volumes_of_its_service() {
    let place = place().await;
    let (definition, volume) = with_a_volume(&place);
    let Effect::StartTask { hook, run, container, command, .. } = start_task() else { unreachable!() };
    let start = |like| Effect::StartTask {
        hook: hook.clone(),
        run: format!("{run}-{like}"),
        task_definition: definition.clone(),
        container: container.clone(),
        command: command.clone(),
        like,
    };
    let started = place.perform(&start(Slot::Blue)).await;
    assert!(matches!(started, Outcome::TaskStarted { .. }), "{started:?}");
    let log = place.front.log();
    let call = log.of("ecs", "RunTask").last().expect("it is logged");
    assert_eq!(call.parameters["volumeConfigurations"], json!([volume]));
    let without = place.perform(&start(Slot::Green)).await;
    assert!(matches!(&without, Outcome::Refused { reason } if reason.contains("data")), "{without:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deregistered_revision_is_counted_up_and_made_anew_and_never_named() {
    let place = place().await;
    let task_definition = place.to_green(ImageBehaviour::default(), 1).await;
    place.front.skip(Duration::from_secs(60));
    place.front.world().deregister_task_definition(&task_definition).expect("it is there");
    assert_eq!(place.perform(&Effect::SetDesired { slot: Slot::Green, desired: 2 }).await, Outcome::Done);
    let name = Effect::UpdateService { slot: Slot::Green, task_definition: task_definition.clone(), desired: 3 };
    let named = place.perform(&name).await;
    assert!(matches!(&named, Outcome::Refused { reason } if reason.contains("inactive")), "{named:?}");
    let anew = Effect::RegisterTaskDefinition {
        like: task_definition.clone(),
        container: "api".to_owned(),
        image: "registry.example.com/shop/api@sha256:new".to_owned(),
    };
    let Outcome::Registered { task_definition: made, reused: false } = place.perform(&anew).await else {
        panic!("a revision that is retired is no use")
    };
    assert_ne!(made, task_definition);
    assert!(matches!(place.perform(&anew).await, Outcome::Registered { reused: true, .. }), "made once");
}

fn start_task() -> Effect {
    Effect::StartTask {
        hook: "migrate".to_owned(),
        run: "shop-api-7-migrate".to_owned(),
        task_definition: "api".to_owned(),
        container: "api".to_owned(),
        command: vec!["migrate".to_owned()],
        like: Slot::Blue,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hooks_task_is_run_once_and_judged_by_its_exit_code() {
    let place = place().await;
    let run = Run::Exits { after: Seconds(5), exit_code: 4 };
    place.front.world().set_image("registry.example.com/shop/api@sha256:old", ImageBehaviour::running(run));
    let outcomes = place.place.twice(&start_task()).await;
    let [Outcome::TaskStarted { task }, again] = outcomes else { panic!("{outcomes:?}") };
    assert_eq!(again, Outcome::TaskStarted { task: task.clone() });

    let hook_task = |task: &str| HookTask { task: task.to_owned(), container: "api".to_owned() };
    let mut look = place.place.look();
    let forgotten = format!("{}0", task.split_at(task.len() - 1).0);
    look.hook_tasks =
        BTreeMap::from([("migrate".to_owned(), hook_task(&task)), ("forgotten".to_owned(), hook_task(&forgotten))]);
    let seen = place.place.cloud.observe(&look).await;
    assert_eq!(seen.hook_tasks["migrate"], Reading::Known(TaskReading::Running));
    let missing = &seen.hook_tasks["forgotten"];
    assert!(matches!(missing, Reading::Unknown(reason) if reason.contains("MISSING")), "{missing:?}");
    assert_eq!(place.calls("ecs", "DescribeTasks"), 1);

    place.front.skip(Duration::from_secs(30));
    let seen = place.place.cloud.observe(&look).await;
    let TaskReading::Stopped { exit_code, reason } = known(&seen.hook_tasks["migrate"]) else {
        panic!("{:?}", seen.hook_tasks)
    };
    assert_eq!(*exit_code, Some(4));
    assert!(reason.contains("exit code 4"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hooks_task_without_a_place_is_asked_for_again() {
    let place = place().await;
    let image = "registry.example.com/shop/api@sha256:old";
    place.front.world().set_image(image, ImageBehaviour::starting(Starts::PlacementFailure));
    let outcome = place.perform(&start_task()).await;
    assert!(matches!(&outcome, Outcome::Unsure { reason } if reason.contains("no task was started")), "{outcome:?}");
}

fn ask(function: &str) -> Effect {
    let payload = HookPayload {
        target: "shop/api/live".to_owned(),
        deployment: 7,
        hook: "smoke".to_owned(),
        run: "shop-api-7-smoke".to_owned(),
        digest: "sha256:new".to_owned(),
        tag: "v7".to_owned(),
        candidate_target_group: "green".to_owned(),
    };
    Effect::AskHook { hook: "smoke".to_owned(), function: function.to_owned(), run: payload.run.clone(), payload }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_asked_and_its_answer_told() {
    let place = place().await;
    {
        let mut world = place.front.world();
        world.put_function("yes", FunctionBehaviour::succeeds());
        world.put_function("no", FunctionBehaviour::fails("2 of 40 checks failed"));
        world.put_function("later", FunctionBehaviour::never_done());
        world.put_function("throws", FunctionBehaviour::Throws);
        world.put_function("mute", FunctionBehaviour::Reports { in_progress: 0, then: json!("ok") });
    }
    let report = |report| Outcome::HookReported { report };
    assert_eq!(place.perform(&ask("yes")).await, report(HookReport::Succeeded));
    let reason = "2 of 40 checks failed".to_owned();
    assert_eq!(place.perform(&ask("no")).await, report(HookReport::Failed { reason }));
    assert_eq!(place.perform(&ask("later")).await, report(HookReport::InProgress));

    let thrown = place.perform(&ask("throws")).await;
    assert!(matches!(&thrown, Outcome::Unsure { reason } if reason.contains("the function threw")), "{thrown:?}");
    let mute = place.perform(&ask("mute")).await;
    let Outcome::HookReported { report: HookReport::Failed { reason } } = &mute else { panic!("{mute:?}") };
    assert!(reason.contains("should answer {\"status\""), "{reason}");
    let nobody = place.perform(&ask("nobody")).await;
    assert!(matches!(&nobody, Outcome::Refused { reason } if reason.contains("Function not found")), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_does_not_answer_is_asked_once_and_given_its_time() {
    let place = place().await;
    place.front.world().put_function("silent", FunctionBehaviour::Silent);
    let outcome = place.perform(&ask("silent")).await;
    assert_eq!(outcome, Outcome::Unsure { reason: "silent did not answer within 20 s".to_owned() });
    assert_eq!(place.calls("lambda", "Invoke"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_throttled_once_is_done_and_what_always_is_unsure() {
    let place = place().await;
    let green_to = |desired| Effect::SetDesired { slot: Slot::Green, desired };
    place.front.fault(Fault::on("ecs", "UpdateService", Harm::Throttle));
    assert_eq!(place.perform(&green_to(1)).await, Outcome::Done);
    place.front.fault(Fault::on("ecs", "UpdateService", Harm::Throttle).always());
    let outcome = place.perform(&green_to(2)).await;
    assert!(
        matches!(&outcome, Outcome::Throttled { reason } if reason.contains("UpdateService: ThrottlingException")),
        "{outcome:?}"
    );
    place.front.clear_faults();
    assert_eq!(known(&place.place.seen().await.green).desired, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_denied_is_refused_in_awss_words() {
    let place = place().await;
    place.front.fault(Fault::on("elbv2", "ModifyListener", Harm::Deny).always());
    let outcome = place.perform(&Effect::SetWeights { weights: SHIFTED, seen: vec![] }).await;
    let listener = &place.place.pair.rules[1];
    let Outcome::Refused { reason } = &outcome else { panic!("{outcome:?}") };
    assert!(reason.starts_with(listener.as_str()) && reason.contains("not authorized"), "{reason}");
    place.front.clear_faults();
    let seen = place.place.seen().await;
    assert_eq!(known(&seen.rules[0]).weights, SHIFTED, "the other rule is written");
    assert_eq!(known(&seen.rules[1]).weights, Weights { blue: 100, green: 0 });
    assert_eq!(place.perform(&Effect::SetWeights { weights: SHIFTED, seen: vec![] }).await, Outcome::Done);
    assert_eq!(known(&place.place.seen().await.rules[1]).weights, SHIFTED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_is_lost_is_done_once() {
    let place = place().await;
    place.front.fault(Fault::on("elbv2", "ModifyRule", Harm::ApplyThenCut));
    assert_eq!(place.perform(&Effect::SetWeights { weights: SHIFTED, seen: vec![] }).await, Outcome::Done);
    assert!(place.place.seen().await.rules.iter().all(|rule| known(rule).weights == SHIFTED));

    place.front.fault(Fault::on("ecs", "RunTask", Harm::ApplyThenCut));
    let outcome = place.perform(&start_task()).await;
    let Outcome::TaskStarted { .. } = outcome else { panic!("{outcome:?}") };
    let listed =
        place.place.ecs("ListTasks", &json!({"cluster": "shop", "family": "api", "startedBy": "shop-api-7-migrate"}));
    assert_eq!(listed["taskArns"].as_array().map(Vec::len), Some(1), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_whose_answer_is_lost_leaves_one_revision() {
    let place = place().await;
    let effect = Effect::RegisterTaskDefinition {
        like: place.place.task_definition.clone(),
        container: "api".to_owned(),
        image: "registry.example.com/shop/api@sha256:new".to_owned(),
    };
    let revisions = || {
        let listed = place.place.ecs("ListTaskDefinitions", &json!({"familyPrefix": "api"}));
        listed["taskDefinitionArns"].as_array().map(Vec::len)
    };
    let before = revisions();
    place.front.fault(Fault::on("ecs", "RegisterTaskDefinition", Harm::ApplyThenCut));
    let outcome = place.perform(&effect).await;
    assert!(matches!(outcome, Outcome::Registered { .. }), "{outcome:?}");
    assert_eq!(revisions(), before.map(|before| before + 1));

    // One that is refused for now is asked for again; one that always is, is left to the next pass.
    let Effect::RegisterTaskDefinition { like, container, .. } = effect else { return };
    let effect = Effect::RegisterTaskDefinition { like, container, image: "shop/api@sha256:newer".to_owned() };
    place.front.fault(Fault::on("ecs", "RegisterTaskDefinition", Harm::Throttle));
    let outcome = place.perform(&effect).await;
    assert!(matches!(outcome, Outcome::Registered { reused: false, .. }), "{outcome:?}");
    assert_eq!(revisions(), before.map(|before| before + 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_could_not_be_read_is_unknown() {
    let place = place().await;
    put_alarm(&place, "quiet", AlarmState::Ok);
    let mut look = place.place.look();
    look.alarms.insert("quiet".to_owned());
    for (service, operation) in [
        ("cloudwatch", "DescribeAlarms"),
        ("autoscaling", "DescribeScalableTargets"),
        ("elbv2", "DescribeListeners"),
        ("elbv2", "DescribeTargetHealth"),
        ("ecs", "DescribeServices"),
    ] {
        place.front.fault(Fault::on(service, operation, Harm::Deny).always());
        let seen = place.place.cloud.observe(&look).await;
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
        place.front.clear_faults();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_cloud_sees_the_same() {
    let place = place().await;
    let other = cloud_at(place.front.address()).await;
    assert_eq!(other.observe(&place.place.look()).await, place.place.seen().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_the_sdk_does_not_know_survives_the_copy() {
    let place = place().await;
    let mut document = super::place::task_definition("tomorrow");
    document["containerDefinitions"][0]["aFieldOfTomorrow"] = json!(7);
    let registered = place.place.ecs("RegisterTaskDefinition", &document);
    let like = registered["taskDefinition"]["taskDefinitionArn"].as_str().expect("an ARN").to_owned();
    let image = "registry.example.com/shop/api@sha256:new".to_owned();
    let effect = Effect::RegisterTaskDefinition { like, container: "api".to_owned(), image: image.clone() };
    let outcome = place.perform(&effect).await;
    let Outcome::Registered { task_definition, reused: false } = outcome else { panic!("{outcome:?}") };
    let copied = place.place.ecs("DescribeTaskDefinition", &json!({"taskDefinition": task_definition}));
    assert_eq!(copied["taskDefinition"]["containerDefinitions"][0]["aFieldOfTomorrow"], json!(7));
    assert_eq!(copied["taskDefinition"]["containerDefinitions"][0]["image"], json!(image));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_keeps_the_secret_that_nobody_can_read() {
    let place = place().await;
    assert_eq!(place.perform(&Effect::SetWeights { weights: SHIFTED, seen: vec![] }).await, Outcome::Done);
    let log = place.front.log();
    let call = log.of("elbv2", "ModifyRule").next().expect("a write");
    let config = call.parameter("/Actions/0/AuthenticateOidcConfig").expect("a sign-in");
    assert_eq!(config["UseExistingClientSecret"], "true", "{config}");
    assert!(config.get("ClientSecret").is_none(), "{config}");
    let forward = call.parameter("/Actions/1").expect("a forward action");
    assert!(forward.get("TargetGroupArn").is_none(), "{forward}");
}
