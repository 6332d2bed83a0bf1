//! What a deployment costs, against `tests/bounds.toml`.

use super::*;
use serde::Deserialize;
use simulation::world::Caller;

#[derive(Deserialize)]
struct Bounds {
    deployment: MeasuredDeployment,
}

#[derive(Deserialize)]
struct MeasuredDeployment {
    aws_calls: u64,
    balancer_reads: u64,
    commits: u64,
}

#[test]
fn a_deployment_stays_within_its_cost_bounds() {
    let bounds: Bounds = toml::from_str(include_str!("../../../../tests/bounds.toml")).expect("the bounds");
    let mut simulation = simulation(&scene());
    simulation.push(1, PushAnnouncement::Event);
    assert!(simulation.run_until_idle(4 * HOUR), "{}", simulation.journal_text());
    assert!(matches!(simulation.verdicts()[..], [(1, Verdict::Succeeded, _)]), "{}", simulation.journal_text());
    let calls: Vec<&str> = simulation.world(|world| {
        world.calls().iter().filter(|call| call.by == Caller::Switchback).map(|call| call.operation).collect()
    });
    let reads = ["DescribeTargetHealth", "DescribeRules", "DescribeListeners"];
    let is_read = |call: &&&str| call.split_once(':').is_some_and(|(_, operation)| reads.contains(&operation));
    let count = |number: usize| u64::try_from(number).expect("few");
    let MeasuredDeployment { aws_calls, balancer_reads, commits } = bounds.deployment;
    let costs = [
        ("aws_calls", count(calls.len()), aws_calls),
        ("balancer_reads", count(calls.iter().filter(is_read).count()), balancer_reads),
        ("commits", simulation.at(simulation.target()).commits(), commits),
    ];
    let exceeded: Vec<String> = costs
        .iter()
        .filter(|(_, actual, limit)| actual > limit)
        .map(|(what, actual, _)| format!("{what}: {actual}"))
        .collect();
    assert!(exceeded.is_empty(), "{}, over tests/bounds.toml", exceeded.join(", "));
}
