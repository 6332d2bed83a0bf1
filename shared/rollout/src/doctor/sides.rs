//! Services, task definitions, target groups and autoscaling of the two sides.

use super::seen::{DefinitionSeen, GroupSeen, Inspected, ServiceSeen, SideSeen};
use super::{Findings, SLOTS, called, place_of_group, place_of_service};
use crate::names::Slot;
use crate::policy::TargetPolicy;
use crate::snapshot::Reading;
use crate::time::Seconds;
use std::collections::BTreeSet;

/// A side that takes longer than this to let a task go makes retiring and rolling back slow (ELB's default is 300 s).
const LONG_DRAIN_S: u32 = 120;

pub(super) fn judge(policy: &TargetPolicy, seen: &Inspected, findings: &mut Findings) {
    let without_cluster = |slot| {
        let side = seen.side(slot);
        is_without_cluster(&side.service) || is_without_cluster(&side.definition)
    };
    let no_cluster = SLOTS.into_iter().any(without_cluster);
    if no_cluster {
        let cluster = called(&policy.pair.cluster);
        let remedy = "create it, or give the name or ARN of the right one as `cluster`";
        findings.broken("cluster_missing", &format!("cluster {cluster}"), "there is no such ECS cluster", remedy);
    }
    for slot in SLOTS {
        let side = seen.side(slot);
        if !no_cluster {
            judge_side(policy, slot, side, findings);
        }
        let place = place_of_group(policy, slot);
        match findings.known(&place, &side.group) {
            Some(Some(group)) => judge_group(policy, slot, group, findings),
            Some(None) => {
                let remedy = format!("create it, or give the ARN of the one that `{slot}` registers in");
                findings.broken("target_group_missing", &place, "there is no such target group", remedy);
            }
            None => {}
        }
    }
    alike(policy, seen, findings);
    reached_alike(policy, seen, findings);
    scaled(policy, seen, findings);
}

/// The service of a side, and the task definition that it runs.
fn judge_side(policy: &TargetPolicy, slot: Slot, side: &SideSeen, findings: &mut Findings) {
    let place = place_of_service(policy, slot);
    match findings.known(&place, &side.service) {
        Some(Some(service)) => judge_service(policy, slot, service, findings),
        Some(None) => {
            let what = format!("the cluster {} has no such service", called(&policy.pair.cluster));
            let remedy = format!("create it, with 0 tasks if it is the idle side, or name the right one as `{slot}`");
            findings.broken("service_missing", &place, what, remedy);
        }
        None => {}
    }
    if let Some(Some(definition)) = findings.known(&format!("task definition of {place}"), &side.definition) {
        judge_definition(policy, &place, definition, findings);
    }
}

/// Whether ECS says that it has no such cluster (API reference, errors of `DescribeServices`).
fn is_without_cluster<T>(reading: &Reading<T>) -> bool {
    matches!(reading, Reading::Unknown(reason) if reason.contains("ClusterNotFound"))
}

fn judge_service(policy: &TargetPolicy, slot: Slot, service: &ServiceSeen, findings: &mut Findings) {
    let place = place_of_service(policy, slot);
    if service.status != "ACTIVE" {
        let what = format!("it is {}, and starts no tasks", service.status);
        findings.broken("service_inactive", &place, what, "create it anew");
        return;
    }
    if service.controller != "ECS" {
        let what = format!(
            "its deployment controller is {}: its task definition is not Switchback's to set",
            service.controller
        );
        findings.broken("service_controller", &place, what, "create it anew with the deployment controller ECS");
    }
    if service.strategy != "ROLLING" {
        let what = format!("its own strategy is {}: ECS would shift traffic, too", service.strategy);
        findings.broken("service_strategy", &place, what, "set its deployment strategy to ROLLING");
    }
    if service.scheduling != "REPLICA" {
        let what = format!("it is scheduled as {}: it has no desired count that could be set", service.scheduling);
        findings.broken("service_scheduling", &place, what, "create it anew with the scheduling strategy REPLICA");
    }
    let own = &policy.pair.side(slot).target_group;
    if !service.groups.contains(own) {
        let what = match service.groups.as_slice() {
            [] => "its tasks register in no target group, so none ever becomes healthy".to_owned(),
            others => {
                let names: Vec<&str> = others.iter().map(|arn| called(arn)).collect();
                format!("its tasks register in {}, not in {}", names.join(", "), called(own))
            }
        };
        let remedy = format!("attach the service to {}, or name the right target group as `{slot}`", called(own));
        findings.broken("target_group_unattached", &place, what, remedy);
    }
    let strangers: Vec<&str> = service.groups.iter().filter(|arn| *arn != own).map(|arn| called(arn)).collect();
    if service.groups.contains(own) && !strangers.is_empty() {
        let what =
            format!("its tasks also register in {}, whose traffic no rule of the policy moves", strangers.join(", "));
        findings.risky("target_group_besides", &place, what, "give each side one target group, on rules of the policy");
    }
    if service.maximum_percent <= 100 && service.minimum_percent >= 100 {
        let (min, max) = (service.minimum_percent, service.maximum_percent);
        let what = format!("minimumHealthyPercent {min} and maximumPercent {max} let ECS replace no task at all");
        findings.broken("service_cannot_update", &place, what, "raise maximumPercent, to 200 say");
    }
    if service.rolls_back {
        let what = "ECS goes back by itself when an update fails: a side that was given up runs the release before";
        let remedy = "turn `rollback` off in its circuit breaker and deployment alarms; going back is Switchback's";
        findings.advice("service_rolls_back", &place, what, remedy);
    }
    if !service.breaker {
        let what =
            "its circuit breaker is off: tasks that crash are started again and again until the deadline `healthy`";
        let remedy = "turn on its deployment circuit breaker, without `rollback`";
        findings.advice("service_without_breaker", &place, what, remedy);
    }
}

fn judge_definition(policy: &TargetPolicy, place: &str, definition: &DefinitionSeen, findings: &mut Findings) {
    let container = &policy.pair.container;
    if !definition.images.contains_key(container) {
        let names: Vec<&str> = definition.images.keys().map(String::as_str).collect();
        let what = format!("its task definition has no container `{container}`, only {}", names.join(", "));
        findings.broken("container_missing", place, what, "name the container whose image is replaced as `container`");
    }
}

fn judge_group(policy: &TargetPolicy, slot: Slot, group: &GroupSeen, findings: &mut Findings) {
    let place = place_of_group(policy, slot);
    if group.balancers.is_empty() {
        let what = "no rule forwards to it: its targets are `unused`, and ECS refuses the service that registers there";
        let remedy = "forward to it from the rules of the policy, with weight 0 if it is the idle side";
        findings.broken("target_group_unattached", &place, what, remedy);
    }
    let delay = Seconds(u64::from(group.deregistration_delay_s));
    let retire = policy.deadlines.retire;
    if delay.0 == 0 {
        let what = "its deregistration delay is 0: requests in flight are cut off when a task goes";
        let remedy = "set deregistration_delay to what the longest request takes, 30 seconds say";
        findings.risky("drain_none", &place, what, remedy);
    } else if delay >= retire {
        let what = format!(
            "its deregistration delay is {}, and the deadline `retire` {}: an old side is never seen to be down in time",
            delay, retire
        );
        findings.risky(
            "drain_outlasts_deadline",
            &place,
            what,
            "shorten deregistration_delay, or lengthen `deadlines.retire`",
        );
    } else if group.deregistration_delay_s > LONG_DRAIN_S {
        let what = format!("its deregistration delay is {}: that long every task takes to go", delay);
        let remedy = "set deregistration_delay to what the longest request takes, 30 seconds say";
        findings.advice("drain_long", &place, what, remedy);
    }
    let healthy = Seconds(u64::from(group.check_interval_s) * u64::from(group.healthy_threshold));
    if healthy >= policy.deadlines.healthy {
        let what = format!(
            "its health check needs {} for a first yes, and the deadline `healthy` is {}: no candidate is healthy in time",
            healthy, policy.deadlines.healthy
        );
        findings.broken(
            "health_check_slow",
            &place,
            what,
            "shorten the interval or the healthy threshold, or lengthen the deadline",
        );
    }
    let unhealthy = Seconds(u64::from(group.check_interval_s) * u64::from(group.unhealthy_threshold));
    slow_start(policy, &place, group, findings);
    let holds = policy.strategy.steps.iter().map(|step| step.hold).chain([policy.strategy.bake]);
    if let Some(longest) = holds.max().filter(|longest| unhealthy > *longest) {
        let what = format!(
            "its health check notices after {} that a target is ill, and no step holds longer than {}",
            unhealthy, longest
        );
        findings.risky(
            "health_check_blind",
            &place,
            what,
            "shorten the interval or the unhealthy threshold, or hold longer",
        );
    }
}

/// Whether the tasks of a new side have their full share before it is judged.
fn slow_start(policy: &TargetPolicy, place: &str, group: &GroupSeen, findings: &mut Findings) {
    let takes = Seconds(u64::from(group.slow_start_s));
    let strategy = &policy.strategy;
    // The last step is judged by the bake, which follows it.
    let last = strategy.steps.len().saturating_sub(1);
    let watched =
        strategy.steps.iter().enumerate().map(|(at, step)| {
            (step.traffic, if at == last { Seconds(step.hold.0 + strategy.bake.0) } else { step.hold })
        });
    if let Some((traffic, hold)) = watched.min_by_key(|(_, hold)| *hold).filter(|(_, hold)| takes > *hold) {
        let what = format!(
            "its slow start takes {takes}, and the step of {traffic} is watched for {hold}: new tasks are judged before they have \
             their full share of the requests"
        );
        let remedy = "turn slow start off (slow_start.duration_seconds = 0; the steps do its work), or hold longer";
        findings.risky("slow_start_outlasts_hold", place, what, remedy);
    }
}

/// What is judged on one side is to hold on the other, since they change places.
fn alike(policy: &TargetPolicy, seen: &Inspected, findings: &mut Findings) {
    if let (Reading::Known(Some(blue)), Reading::Known(Some(green))) = (&seen.blue.group, &seen.green.group) {
        let mut differs: Vec<&str> = [
            ("deregistration delay", blue.deregistration_delay_s != green.deregistration_delay_s),
            ("stickiness", blue.sticky != green.sticky),
            ("health check's interval", blue.check_interval_s != green.check_interval_s),
            ("healthy threshold", blue.healthy_threshold != green.healthy_threshold),
            ("unhealthy threshold", blue.unhealthy_threshold != green.unhealthy_threshold),
            ("health check's path", blue.check_path != green.check_path),
            ("slow start", blue.slow_start_s != green.slow_start_s),
        ]
        .into_iter()
        .filter_map(|(what, differs)| differs.then_some(what))
        .collect();
        let others: BTreeSet<&String> = blue.others.keys().chain(green.others.keys()).collect();
        differs
            .extend(others.into_iter().filter(|it| blue.others.get(*it) != green.others.get(*it)).map(String::as_str));
        if !differs.is_empty() {
            let place =
                format!("{} and {}", place_of_group(policy, Slot::Blue), called(&policy.pair.green.target_group));
            let what = format!("they differ in {}: every second deployment behaves otherwise", differs.join(", "));
            findings.risky("sides_differ", &place, what, "give both the same settings");
        }
    }
    if policy.pair.blue.target_group == policy.pair.green.target_group {
        let place = place_of_group(policy, Slot::Blue);
        let remedy = "give each side a target group of its own";
        findings.broken("target_group_shared", &place, "both sides have it: there is nothing to shift between", remedy);
    }
}

/// Names that both sides answer to: who calls them is sent to either side's tasks, whatever the weights are.
fn reached_alike(policy: &TargetPolicy, seen: &Inspected, findings: &mut Findings) {
    let (Reading::Known(Some(blue)), Reading::Known(Some(green))) = (&seen.blue.service, &seen.green.service) else {
        return;
    };
    let place = format!("{} and {}", place_of_service(policy, Slot::Blue), called(&policy.pair.green.service));
    for name in blue.also_reached_by.intersection(&green.also_reached_by) {
        let what = format!(
            "both are reached by {name}: its callers are sent to the new release as soon as its tasks run, at 0 % of the traffic, \
             and stay with it until they stop, whatever the weights are"
        );
        let remedy = "give each side a name of its own, and let callers inside use the load balancer";
        findings.broken("sides_share_a_name", &place, what, remedy);
    }
}

fn scaled(policy: &TargetPolicy, seen: &Inspected, findings: &mut Findings) {
    let mut known = Vec::new();
    for slot in SLOTS {
        let place = format!("autoscaling of {}", place_of_service(policy, slot));
        if let Some(scaling) = findings.known(&place, &seen.side(slot).scaling) {
            known.push((slot, place, *scaling));
        }
    }
    let [(_, first, blue), (_, second, green)] = known.as_slice() else { return };
    let (with, without) = match (blue, green) {
        (Some(_), None) => (first, second),
        (None, Some(_)) => (second, first),
        _ => return,
    };
    let what =
        format!("there is none, and {with} there is: every second deployment leaves the live side without a scaler");
    findings.risky(
        "scaling_on_one_side",
        without,
        what,
        "register a scalable target, with policies, for both services",
    );
}
