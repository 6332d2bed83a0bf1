//! What stands between an alarm and the weights written back: counted on the wire, with the real binaries, where nothing
//! else happens.

use rollout::Verdict;
use rollout::snapshot::Weights;
use serde_json::{Value, json};
use simulation::world::alarms::AlarmState;
use std::time::Duration;
use tests::front::Call;
use tests::harness::scenario::{Scenario, ScenarioOptions, good};

const ALL_BLUE: Weights = Weights { blue: 100, green: 0 };
const HALF: Weights = Weights { blue: 50, green: 50 };

#[test]
fn a_rollback_takes_six_sequential_calls_after_the_alarm() {
    let options = ScenarioOptions {
        strategy: "{steps: [{traffic: 50%, hold: 60s}, {traffic: 100%}], bake: 2s, keep_warm: 0, drain: 1s}",
        ..ScenarioOptions::default()
    };
    roll_back(&Scenario::new("six", &options));
    // Behind two load balancers it takes as many: both are read and written in parallel.
    let options = ScenarioOptions { internal_balancer: true, ..options };
    let scenario = Scenario::new("six-two", &options);
    roll_back(&scenario);
    let internal = scenario.names().internal.clone().expect("there is an internal balancer");
    let world = scenario.stack().front().world();
    let weights: Vec<_> =
        world.forwards_of(&internal.rules[0]).into_iter().map(|found| (found.arn, found.weight)).collect();
    assert_eq!(weights, [(internal.blue, Some(100)), (internal.green, Some(0))]);
}

/// An alarm sends a deployment back, and the calls until the weights are written are counted.
fn roll_back(scenario: &Scenario) {
    // So that one event is all that there is to report.
    scenario.wait_until_alarms_are_ok();
    // A pass that was under way before the event (a sweep's, for one) may see the alarm itself: nothing of the event's path
    // is to be counted then, and the next release shows it.
    let counted = (1..=4).any(|number| roll_back_release(scenario, number));
    assert!(counted, "four times, another pass saw the alarm before the one that its event woke");
}

/// Whether the pass that the event woke made the decision; its calls were counted then.
fn roll_back_release(scenario: &Scenario, number: u64) -> bool {
    scenario.set_manual_alarm(AlarmState::Ok, "the till was filled");
    let _digest = scenario.push(&format!("v{number}"), good());
    assert_eq!(scenario.wait_for_weights_change(ALL_BLUE), HALF);
    // The weights are verified 2 s after they were written, and the next observation is 15 s after that: in between, the next pass
    // is the event's.
    scenario.wait_until_quiet_for(Duration::from_secs(5));
    let woken = scenario.stack().front().elapsed();
    scenario.set_manual_alarm(AlarmState::Alarm, "the till is empty");
    // Only the world is asked until then: a question to the operators' door would stand among the calls that count.
    assert_eq!(scenario.wait_for_weights_change(HALF), ALL_BLUE);
    let record = scenario.verdict(number);
    assert_eq!(record.verdict, Some(Verdict::RolledBack), "{}", record.reason);
    assert!(
        record.reason.contains(&scenario.manual_alarm()) && record.reason.contains("the till is empty"),
        "{}",
        record.reason
    );

    // From the alarm's event at the door of signal-received to the weights written back.
    let mut calls = scenario.calls();
    // Whoever is notified meanwhile is notified beside it, by another function: nothing waits for it.
    calls.retain(|call| !call.parameters.to_string().contains("NOTIFIED#"));
    // The wake of whoever takes over from a driver that dies is sent beside the first call, or beside the record: whichever
    // of two calls in parallel is answered first, they are one round trip.
    let takes_over =
        |call: &Call| call.operation == "SendMessage" && call.parameter("/DelaySeconds") != Some(&json!(0));
    calls.retain(|call| !takes_over(call));
    let is_write = |call: &&Call| {
        let arn = call.parameter("/RuleArn").or_else(|| call.parameter("/ListenerArn")).and_then(Value::as_str);
        let writes = matches!(call.operation.as_str(), "ModifyRule" | "ModifyListener") && call.succeeded();
        writes && arn.is_some_and(|arn| scenario.names().traffic_rules().any(|rule| rule == arn))
    };
    let back = calls.iter().rfind(is_write).expect("the weights were written back");
    let question = format!("WATCH#alarm#{}", scenario.manual_alarm());
    let first = calls
        .iter()
        .find(|call| {
            call.started >= woken && call.started < back.started && call.parameters.to_string().contains(&question)
        })
        .expect("the alarm's event was taken in");
    // Of two balancers, the one that was written last.
    let writes = calls.iter().filter(|call| is_write(call) && call.started > first.started);
    let until = writes.filter_map(|call| call.ended).max().expect("it was answered");
    let mut window: Vec<&Call> =
        calls.iter().filter(|call| call.started >= first.started && call.ended <= Some(until)).collect();
    // A wake of another kind that comes at the same moment finds the target taken, and notes so: that is beside the path.
    let commit = window.iter().rfind(|call| call.operation == "TransactWriteItems").expect("the decision was recorded");
    let lease = commit.parameter("/TransactItems/0/Update/ExpressionAttributeValues/:lease/S").cloned();
    assert!(lease.is_some(), "the decision is recorded under a lease: {commit:#?}");
    window.retain(|call| {
        call.operation != "UpdateItem" || call.parameter("/ExpressionAttributeValues/:lease/S").cloned() == lease
    });
    let woken_at = window.iter().find(|call| call.operation == "SendMessage").map(|call| call.started);
    let leased_at = window.iter().find(|call| call.operation == "UpdateItem").map(|call| call.started);
    if leased_at < woken_at || woken_at.is_none() {
        println!("another pass saw the alarm first");
        return false;
    }
    let sequential_calls = chain(&window);
    let names: Vec<String> = sequential_calls.iter().map(|call| call.name()).collect();
    println!("from the alarm's event to the weights written back: {} ms", (until - first.started).as_millis());
    let bounds: toml::Table = include_str!("../bounds.toml").parse().expect("the bounds");
    let max_calls = bounds["rollback"]["sequential_calls"].as_integer().expect("a number");
    assert!(
        names.len() as i64 <= max_calls,
        "{} sequential calls, tests/bounds.toml allows {max_calls}: {names:?}, of {window:#?}",
        names.len()
    );

    // Each is there for its reason, in this order.
    let mut last_number = 0;
    for (index, (may_be, why)) in ROLLBACK_CALLS.iter().enumerate() {
        let next = window.iter().find(|call| call.number > last_number && may_be.contains(&call.name().as_str()));
        let next = next.unwrap_or_else(|| panic!("no call is made to {why} after number {last_number}: {window:#?}"));
        println!("  {}. {}: {why}", index + 1, next.name());
        last_number = next.number;
    }
    true
}

/// What one look asks, all at once.
const LOOK: [&str; 7] = [
    "dynamodb Query",
    "ecs DescribeServices",
    "elbv2 DescribeRules",
    "elbv2 DescribeListeners",
    "elbv2 DescribeTargetHealth",
    "autoscaling DescribeScalableTargets",
    "cloudwatch DescribeAlarms",
];

/// What lies between an alarm's event and the weights written back: of each round trip the calls that it may consist
/// of, all in parallel, and what it is for.
const ROLLBACK_CALLS: [(&[&str], &str); 6] = [
    (&["dynamodb Query"], "find out which targets watch the alarm"),
    (&["sqs SendMessage"], "wake them: the driver is the only writer, and has the lease to keep"),
    (&["dynamodb UpdateItem"], "take the lease and read the state, in one"),
    (&LOOK, "see commands, tasks, live weights, health, limits and all alarms: an event is no fact"),
    (&["dynamodb TransactWriteItems"], "record the decision before it is acted upon"),
    (&["elbv2 ModifyRule", "elbv2 ModifyListener"], "write the weights"),
];

/// The longest chain of calls of which each began when the one before it was over. What one look asks at once is one
/// round trip, even where a busy machine sends a part of it when another part is answered already; a look that asks the
/// same twice is two.
fn chain<'a>(calls: &[&'a Call]) -> Vec<&'a Call> {
    let mut ended: Vec<&Call> = calls.iter().copied().filter(|call| call.ended.is_some()).collect();
    ended.sort_by_key(|call| call.ended);
    let mut chain: Vec<&Call> = Vec::new();
    for call in ended {
        if chain.last().is_none_or(|last| last.ended <= Some(call.started)) {
            chain.push(call);
        }
    }
    let is_of_look = |call: &Call| LOOK.contains(&call.name().as_str());
    let mut trips: Vec<&Call> = Vec::new();
    let mut asked: Vec<String> = Vec::new();
    for call in chain {
        let repeats = asked.contains(&call.name());
        if is_of_look(call) && !asked.is_empty() && !repeats {
            asked.push(call.name());
            continue;
        }
        asked.clear();
        // The first query finds the targets: the look comes after the lease.
        if is_of_look(call) && trips.iter().any(|trip| trip.operation == "UpdateItem") {
            asked.push(call.name());
        }
        trips.push(call);
    }
    trips
}
