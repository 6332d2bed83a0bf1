//! Checks services, task definitions, target groups and autoscaling of the two sides.

use super::inspected::{
    InspectedService, InspectedSide, InspectedTargetGroup, InspectedTaskDefinition, InspectionResult,
};
use super::{Findings, service_label, short_name, target_group_label};
use crate::names::Slot;
use crate::policy::TargetPolicy;
use crate::resources::Leg;
use crate::snapshot::Reading;
use crate::time::Seconds;
use std::collections::BTreeSet;

/// A deregistration delay above this makes retiring and rolling back slow (ELB's default is 300 s).
const SLOW_DRAIN_S: u32 = 120;

pub(super) fn judge(policy: &TargetPolicy, seen: &InspectionResult, findings: &mut Findings) {
    let without_cluster = |slot| {
        let side = seen.side(slot);
        is_without_cluster(&side.service) || is_without_cluster(&side.definition)
    };
    let no_cluster = Slot::BOTH.into_iter().any(without_cluster);
    if no_cluster {
        let cluster = short_name(&policy.resources.ecs.cluster);
        let remedy = "create it, or give the name or ARN of the right one as `cluster`";
        findings.broken("cluster_missing", &format!("cluster {cluster}"), "there is no such ECS cluster", remedy);
    }
    for slot in Slot::BOTH {
        let side = seen.side(slot);
        if !no_cluster {
            check_side(policy, slot, side, findings);
        }
        for (arn, group) in policy.resources.target_groups(slot).zip(&side.groups) {
            let subject = target_group_label(arn);
            match findings.known(&subject, group) {
                Some(Some(group)) => check_target_group(policy, &subject, group, findings),
                Some(None) => {
                    let remedy = format!("create it, or give the ARN of the one that `{slot}` registers in");
                    findings.broken("target_group_missing", &subject, "there is no such target group", remedy);
                }
                None => {}
            }
        }
    }
    check_symmetry(policy, seen, findings);
    check_service_symmetry(policy, seen, findings);
    check_shared_names(policy, seen, findings);
    check_autoscaling(policy, seen, findings);
}

/// Checks the service of a side, and the task definition that it runs.
fn check_side(policy: &TargetPolicy, slot: Slot, side: &InspectedSide, findings: &mut Findings) {
    let subject = service_label(policy, slot);
    match findings.known(&subject, &side.service) {
        Some(Some(service)) => check_service(policy, slot, service, findings),
        Some(None) => {
            let problem = format!("the cluster {} has no such service", short_name(&policy.resources.ecs.cluster));
            let remedy = format!("create it, with 0 tasks if it is the idle side, or name the right one as `{slot}`");
            findings.broken("service_missing", &subject, problem, remedy);
        }
        None => {}
    }
    if let Some(Some(definition)) = findings.known(&format!("task definition of {subject}"), &side.definition) {
        check_task_definition(policy, &subject, definition, findings);
    }
}

/// Whether the reading failed because the cluster does not exist (API reference, errors of `DescribeServices`).
fn is_without_cluster<T>(reading: &Reading<T>) -> bool {
    matches!(reading, Reading::Unknown(reason) if reason.contains("ClusterNotFound"))
}

fn check_service(policy: &TargetPolicy, slot: Slot, service: &InspectedService, findings: &mut Findings) {
    let subject = service_label(policy, slot);
    if service.status != "ACTIVE" {
        let problem = format!("it is {}, and starts no tasks", service.status);
        findings.broken("service_inactive", &subject, problem, "create it anew");
        return;
    }
    if service.controller != "ECS" {
        let problem = format!(
            "its deployment controller is {}: its task definition is not Switchback's to set",
            service.controller
        );
        findings.broken("service_controller", &subject, problem, "create it anew with the deployment controller ECS");
    }
    if service.strategy != "ROLLING" {
        let problem = format!("its own strategy is {}: ECS would shift traffic, too", service.strategy);
        findings.broken("service_strategy", &subject, problem, "set its deployment strategy to ROLLING");
    }
    if service.scheduling != "REPLICA" {
        let problem = format!("it is scheduled as {}: it has no desired count that could be set", service.scheduling);
        findings.broken("service_scheduling", &subject, problem, "create it anew with the scheduling strategy REPLICA");
    }
    for own in policy.resources.target_groups(slot).filter(|own| !service.groups.iter().any(|arn| arn == own)) {
        let problem = match service.groups.as_slice() {
            [] => "its tasks register in no target group, so none ever becomes healthy".to_owned(),
            others => {
                let names: Vec<&str> = others.iter().map(|arn| short_name(arn)).collect();
                format!("its tasks register in {}, not in {}", names.join(", "), short_name(own))
            }
        };
        let remedy = format!("attach the service to {}, or name the right target group as `{slot}`", short_name(own));
        findings.broken("target_group_unattached", &subject, problem, remedy);
    }
    let is_own = |arn: &&String| policy.resources.target_groups(slot).any(|own| own == *arn);
    let (own, foreign_groups): (Vec<&String>, Vec<&String>) = service.groups.iter().partition(is_own);
    let foreign_groups: Vec<&str> = foreign_groups.into_iter().map(|arn| short_name(arn)).collect();
    if !own.is_empty() && !foreign_groups.is_empty() {
        let problem = format!(
            "its tasks also register in {}, whose traffic no rule of the policy moves",
            foreign_groups.join(", ")
        );
        findings.risky(
            "target_group_besides",
            &subject,
            problem,
            "name these groups and their rules under `traffic`, too, or take the service out of them",
        );
    }
    if service.maximum_percent <= 100 && service.minimum_percent >= 100 {
        let (min, max) = (service.minimum_percent, service.maximum_percent);
        let problem = format!("minimumHealthyPercent {min} and maximumPercent {max} let ECS replace no task at all");
        findings.broken("service_cannot_update", &subject, problem, "raise maximumPercent, to 200 say");
    }
    if service.ecs_rolls_back {
        let problem = "ECS goes back by itself when an update fails: a side that was given up runs the release before";
        let remedy = "turn `rollback` off in its circuit breaker and deployment alarms; going back is Switchback's";
        findings.advice("service_rolls_back", &subject, problem, remedy);
    }
    if !service.breaker {
        let problem =
            "its circuit breaker is off: tasks that crash are started again and again until the deadline `healthy`";
        let remedy = "turn on its deployment circuit breaker, without `rollback`";
        findings.advice("service_without_breaker", &subject, problem, remedy);
    }
}

fn check_task_definition(
    policy: &TargetPolicy,
    subject: &str,
    definition: &InspectedTaskDefinition,
    findings: &mut Findings,
) {
    let container = &policy.resources.ecs.container;
    if !definition.images.contains_key(container) {
        let names: Vec<&str> = definition.images.keys().map(String::as_str).collect();
        let problem = format!("its task definition has no container `{container}`, only {}", names.join(", "));
        findings.broken(
            "container_missing",
            subject,
            problem,
            "name the container whose image is replaced as `container`",
        );
    }
}

fn check_target_group(policy: &TargetPolicy, subject: &str, group: &InspectedTargetGroup, findings: &mut Findings) {
    if group.balancers.is_empty() {
        let problem =
            "no rule forwards to it: its targets are `unused`, and ECS refuses the service that registers there";
        let remedy = "forward to it from the rules of the policy, with weight 0 if it is the idle side";
        findings.broken("target_group_unattached", subject, problem, remedy);
    }
    let delay = Seconds(u64::from(group.deregistration_delay_s));
    let retire = policy.deadlines.retire;
    if delay.0 == 0 {
        let problem = "its deregistration delay is 0: requests in flight are cut off when a task goes";
        let remedy = "set deregistration_delay to what the longest request takes, 30 seconds say";
        findings.risky("drain_none", subject, problem, remedy);
    } else if delay >= retire {
        let problem = format!(
            "its deregistration delay is {}, and the deadline `retire` {}: an old side is never seen to be down in \
             time",
            delay, retire
        );
        findings.risky(
            "drain_outlasts_deadline",
            subject,
            problem,
            "shorten deregistration_delay, or lengthen `deadlines.retire`",
        );
    } else if group.deregistration_delay_s > SLOW_DRAIN_S {
        let problem = format!("its deregistration delay is {}: that long every task takes to go", delay);
        let remedy = "set deregistration_delay to what the longest request takes, 30 seconds say";
        findings.advice("drain_long", subject, problem, remedy);
    }
    let healthy = Seconds(u64::from(group.check_interval_s) * u64::from(group.healthy_threshold));
    if healthy >= policy.deadlines.healthy {
        let problem = format!(
            "its health check needs {} for a first yes, and the deadline `healthy` is {}: no candidate is healthy in \
             time",
            healthy, policy.deadlines.healthy
        );
        findings.broken(
            "health_check_slow",
            subject,
            problem,
            "shorten the interval or the healthy threshold, or lengthen the deadline",
        );
    }
    let unhealthy = Seconds(u64::from(group.check_interval_s) * u64::from(group.unhealthy_threshold));
    check_slow_start(policy, subject, group, findings);
    let holds = policy.strategy.steps.iter().map(|step| step.hold).chain([policy.strategy.bake]);
    if let Some(longest) = holds.max().filter(|longest| unhealthy > *longest) {
        let problem = format!(
            "its health check notices after {} that a target is ill, and no step holds longer than {}",
            unhealthy, longest
        );
        findings.risky(
            "health_check_blind",
            subject,
            problem,
            "shorten the interval or the unhealthy threshold, or hold longer",
        );
    }
}

/// Whether slow start ends before a step of the new side is judged.
fn check_slow_start(policy: &TargetPolicy, subject: &str, group: &InspectedTargetGroup, findings: &mut Findings) {
    let takes = Seconds(u64::from(group.slow_start_s));
    let strategy = &policy.strategy;
    // The last step is followed by the bake, which judges it as well.
    let last = strategy.steps.len().saturating_sub(1);
    let watched =
        strategy.steps.iter().enumerate().map(|(at, step)| {
            (step.traffic, if at == last { Seconds(step.hold.0 + strategy.bake.0) } else { step.hold })
        });
    if let Some((traffic, hold)) = watched.min_by_key(|(_, hold)| *hold).filter(|(_, hold)| takes > *hold) {
        let problem = format!(
            "its slow start takes {takes}, and the step of {traffic} is watched for {hold}: new tasks are judged \
             before they have their full share of the requests"
        );
        let remedy = "turn slow start off (slow_start.duration_seconds = 0; the steps do its work), or hold longer";
        findings.risky("slow_start_outlasts_hold", subject, problem, remedy);
    }
}

/// Whether both sides have the same settings, since they swap roles with every deployment.
fn check_symmetry(policy: &TargetPolicy, seen: &InspectionResult, findings: &mut Findings) {
    for (leg, groups) in policy.resources.traffic.iter().zip(seen.blue.groups.iter().zip(&seen.green.groups)) {
        if let (Reading::Known(Some(blue)), Reading::Known(Some(green))) = groups {
            check_group_symmetry(leg, blue, green, findings);
        }
        if leg.blue == leg.green {
            let subject = target_group_label(&leg.blue);
            let remedy = "give each side a target group of its own";
            let problem = "both sides have it: there is nothing to shift between";
            findings.broken("target_group_shared", &subject, problem, remedy);
        }
    }
}

/// Whether the two target groups of a leg have the same settings.
fn check_group_symmetry(leg: &Leg, blue: &InspectedTargetGroup, green: &InspectedTargetGroup, findings: &mut Findings) {
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
    .filter_map(|(problem, differs)| differs.then_some(problem))
    .collect();
    let others: BTreeSet<&String> = blue.others.keys().chain(green.others.keys()).collect();
    differs.extend(others.into_iter().filter(|it| blue.others.get(*it) != green.others.get(*it)).map(String::as_str));
    if !differs.is_empty() {
        let subject = format!("{} and {}", target_group_label(&leg.blue), short_name(&leg.green));
        let problem = format!("they differ in {}: every second deployment behaves otherwise", differs.join(", "));
        findings.risky("sides_differ", &subject, problem, "give both the same settings");
    }
}

/// Whether both services have the same settings: the idle one is not seen to lack something until it is live.
fn check_service_symmetry(policy: &TargetPolicy, seen: &InspectionResult, findings: &mut Findings) {
    let (Reading::Known(Some(blue)), Reading::Known(Some(green))) = (&seen.blue.service, &seen.green.service) else {
        return;
    };
    let names: BTreeSet<&String> = blue.settings.keys().chain(green.settings.keys()).collect();
    let value =
        |service: &InspectedService, name: &str| service.settings.get(name).map_or("none", String::as_str).to_owned();
    let differences: Vec<String> = names
        .into_iter()
        .filter(|name| blue.settings.get(*name) != green.settings.get(*name))
        .map(|name| format!("{name} (blue: {}; green: {})", value(blue, name), value(green, name)))
        .collect();
    if differences.is_empty() {
        return;
    }
    let subject = format!("{} and {}", service_label(policy, Slot::Blue), short_name(&policy.resources.ecs.green));
    let problem = format!("they differ in {}: every second deployment behaves otherwise", differences.join(", "));
    findings.risky("sides_differ", &subject, problem, "give both the same settings");
}

/// Endpoints shared by both sides: their callers reach either side's tasks, whatever the weights are.
fn check_shared_names(policy: &TargetPolicy, seen: &InspectionResult, findings: &mut Findings) {
    let (Reading::Known(Some(blue)), Reading::Known(Some(green))) = (&seen.blue.service, &seen.green.service) else {
        return;
    };
    let subject = format!("{} and {}", service_label(policy, Slot::Blue), short_name(&policy.resources.ecs.green));
    for name in blue.other_endpoints.intersection(&green.other_endpoints) {
        let problem = format!(
            "both are reached by {name}: its callers are sent to the new release as soon as its tasks run, at 0 % of \
             the traffic, and stay with it until they stop, whatever the weights are"
        );
        let remedy = "give each side a name of its own, and let callers inside use the load balancer";
        findings.broken("sides_share_a_name", &subject, problem, remedy);
    }
}

fn check_autoscaling(policy: &TargetPolicy, seen: &InspectionResult, findings: &mut Findings) {
    let mut known = Vec::new();
    for slot in Slot::BOTH {
        let subject = format!("autoscaling of {}", service_label(policy, slot));
        if let Some(scaling) = findings.known(&subject, &seen.side(slot).scaling) {
            known.push((slot, subject, *scaling));
        }
    }
    let [(_, first, blue), (_, second, green)] = known.as_slice() else { return };
    let (with, without) = match (blue, green) {
        (Some(_), None) => (first, second),
        (None, Some(_)) => (second, first),
        _ => return,
    };
    let problem =
        format!("there is none, and {with} there is: every second deployment leaves the live side without a scaler");
    findings.risky(
        "scaling_on_one_side",
        without,
        problem,
        "register a scalable target, with policies, for both services",
    );
}
