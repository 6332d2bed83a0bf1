//! Alarms of every kind, as the wire front answers for CloudWatch, and what reading them costs.

use super::LATENCY;
use crate::fixture::known;
use crate::with_front::{FrontFixture, TASKS, fixture};
use engine::Cloud as _;
use rollout::snapshot::AlarmReading;
use rollout::{Seconds, Slot};
use simulation::world::alarms::{AlarmState, Evaluation, MetricAlarm, TreatMissing, WatchedMetric};
use simulation::world::{ImageBehaviour, StartBehaviour};
use std::collections::BTreeMap;
use std::time::Duration;
use tests::front::{Fault, FaultKind};
use tests::harness::scenario::manual_alarm_definition;

/// An alarm that keeps the state that it is given.
pub(super) fn put_alarm(fixture: &FrontFixture, name: &str, state: AlarmState) {
    let load_balancer = fixture.load_balancer.clone();
    let alarm = MetricAlarm { load_balancer, ..manual_alarm_definition(name) };
    let mut world = fixture.front.world();
    world.put_metric_alarm(alarm).expect("an alarm");
    world.set_alarm_state(name, state, "because the test says so").expect("a state");
}

/// API reference, `DescribeAlarms`, `AlarmTypes`: composite and log alarms are listed only if they are asked for.
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
    let leg = fixture.fixture.resources.traffic[0].clone();
    let alarm = |name: &str, group: Option<&str>| MetricAlarm {
        metric: WatchedMetric::TargetResponseTime,
        load_balancer: fixture.load_balancer.clone(),
        target_group: group.map(str::to_owned),
        treat_missing: TreatMissing::Missing,
        ..manual_alarm_definition(name)
    };
    {
        let mut world = fixture.front.world();
        world.put_metric_alarm(alarm("blue-slow", Some(&leg.blue))).expect("an alarm");
        world.put_metric_alarm(alarm("green-slow", Some(&leg.green))).expect("an alarm");
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
