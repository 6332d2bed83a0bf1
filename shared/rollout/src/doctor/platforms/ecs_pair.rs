//! Checks the two sides of a pair of ECS services: the service, task definition, target groups and autoscaling of each,
//! and whether they agree.

use super::ecs_service::{self, NamedService};
use super::{InspectedPlatform, PlatformDoctor, report_other_platform};
use crate::doctor::account::FargateStart;
use crate::doctor::inspected::{InspectedPair, InspectedService, InspectedTargetGroup, InspectedWorkload};
use crate::doctor::target_groups::{self, TimeLimit};
use crate::doctor::terraform::IgnoredAttributes;
use crate::doctor::{Findings, rules, service_label, short_name, target_group_label};
use crate::names::Slot;
use crate::platform::EcsPair;
use crate::policy::TargetPolicy;
use crate::resources::Leg;
use crate::snapshot::Reading;
use crate::time::Seconds;
use std::collections::BTreeSet;

impl PlatformDoctor for EcsPair {
    fn judge(&self, policy: &TargetPolicy, seen: &InspectedPlatform, findings: &mut Findings) -> Option<FargateStart> {
        let InspectedPlatform::EcsPair(seen) = seen else {
            report_other_platform(findings);
            return None;
        };
        judge(policy, self, seen, findings);
        rules::judge(policy, seen, findings);
        fargate_start(policy, seen)
    }

    fn ignored_attributes(&self, seen: &InspectedPlatform) -> Vec<IgnoredAttributes> {
        let services = Slot::BOTH.map(|slot| self.side(slot));
        let mut all: Vec<IgnoredAttributes> = services
            .map(|it| {
                IgnoredAttributes::new(
                    "aws_ecs_service",
                    ecs_service::full_name(it),
                    &["task_definition", "desired_count"],
                )
            })
            .into();
        for (slot, workload) in seen.workloads() {
            if let (Some(slot), Reading::Known(Some(_))) = (slot, &workload.scaling) {
                let name = format!("service/{}", ecs_service::full_name(self.side(slot)));
                let attributes = ["min_capacity", "max_capacity", "suspended_state"];
                all.push(IgnoredAttributes::new("aws_appautoscaling_target", name, &attributes));
            }
        }
        all
    }
}

fn judge(policy: &TargetPolicy, named: &EcsPair, seen: &InspectedPair, findings: &mut Findings) {
    let no_cluster = Slot::BOTH.into_iter().any(|slot| ecs_service::is_without_cluster(seen.side(slot)));
    if no_cluster {
        ecs_service::report_missing_cluster(&named.cluster, findings);
    }
    for slot in Slot::BOTH {
        let side = seen.side(slot);
        if !no_cluster {
            check_side(policy, named, slot, side, findings);
        }
        for (arn, group) in policy.resources.target_groups(slot).zip(&side.groups) {
            let subject = target_group_label(arn);
            match findings.known(&subject, group) {
                Some(Some(group)) => check_target_group(policy, &subject, group, findings),
                Some(None) => target_groups::report_missing(&subject, &format!("`{slot}`"), findings),
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
fn check_side(policy: &TargetPolicy, named: &EcsPair, slot: Slot, side: &InspectedWorkload, findings: &mut Findings) {
    let named = NamedService {
        service: named.side(slot),
        groups: policy.resources.target_groups(slot).collect(),
        is_scaled: true,
        create: format!("create it, with 0 tasks if it is the idle side, or name the right one as `{slot}`"),
        own_strategy: "ECS would shift traffic, too",
        groups_named: format!("as `{slot}`"),
        besides: [
            "whose traffic no rule of the policy moves",
            "name these groups and their rules under `traffic`, too, or take the service out of them",
        ],
    };
    if let Some(service) = ecs_service::judge(&named, side, findings) {
        check_service(&named.label(), service, findings);
    }
    ecs_service::judge_definition(&named, side, findings);
}

fn check_service(subject: &str, service: &InspectedService, findings: &mut Findings) {
    ecs_service::check_percentages(subject, service, findings);
    if service.ecs_rolls_back() {
        let problem = "ECS goes back by itself when an update fails: a side that was given up runs the release before";
        let remedy = "turn `rollback` off in its circuit breaker and deployment alarms; going back is Switchback's";
        findings.advice("service_rolls_back", subject, problem, remedy);
    }
    if !service.breaker {
        let problem =
            "its circuit breaker is off: tasks that crash are started again and again until the deadline `healthy`";
        let remedy = "turn on its deployment circuit breaker, without `rollback`";
        findings.advice("service_without_breaker", subject, problem, remedy);
    }
}

fn check_target_group(policy: &TargetPolicy, subject: &str, group: &InspectedTargetGroup, findings: &mut Findings) {
    let attach = "forward to it from the rules of the policy, with weight 0 if it is the idle side";
    target_groups::check_balancers(subject, group, attach, findings);
    let consequence = "an old side is never seen to be down in time";
    let gone = TimeLimit { name: "retire", limit: policy.deadlines.retire, consequence };
    target_groups::check_draining(subject, group, &gone, findings);
    target_groups::check_first_health(subject, group, policy.deadlines.healthy, findings);
    check_slow_start(policy, subject, group, findings);
    let holds = policy.strategy.steps.iter().map(|step| step.hold).chain([policy.strategy.bake]);
    if let Some(longest) = holds.max() {
        let words = ["no step holds longer than", "hold longer"];
        target_groups::check_illness(subject, group, longest, words, findings);
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
fn check_symmetry(policy: &TargetPolicy, seen: &InspectedPair, findings: &mut Findings) {
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
fn check_service_symmetry(policy: &TargetPolicy, seen: &InspectedPair, findings: &mut Findings) {
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
    let subject = both_services(policy);
    let problem = format!("they differ in {}: every second deployment behaves otherwise", differences.join(", "));
    findings.risky("sides_differ", &subject, problem, "give both the same settings");
}

/// Label of both services together: `service api-blue and api-green`.
fn both_services(policy: &TargetPolicy) -> String {
    let green = policy.resources.platform.workload_name(Some(Slot::Green));
    format!("{} and {}", service_label(policy, Some(Slot::Blue)), short_name(green))
}

/// Endpoints shared by both sides: their callers reach either side's tasks, whatever the weights are.
fn check_shared_names(policy: &TargetPolicy, seen: &InspectedPair, findings: &mut Findings) {
    let (Reading::Known(Some(blue)), Reading::Known(Some(green))) = (&seen.blue.service, &seen.green.service) else {
        return;
    };
    let subject = both_services(policy);
    for name in blue.other_endpoints.intersection(&green.other_endpoints) {
        let problem = format!(
            "both are reached by {name}: its callers are sent to the new release as soon as its tasks run, at 0 % of \
             the traffic, and stay with it until they stop, whatever the weights are"
        );
        let remedy = "give each side a name of its own, and let callers inside use the load balancer";
        findings.broken("sides_share_a_name", &subject, problem, remedy);
    }
}

fn check_autoscaling(policy: &TargetPolicy, seen: &InspectedPair, findings: &mut Findings) {
    let mut known = Vec::new();
    for slot in Slot::BOTH {
        let subject = format!("autoscaling of {}", service_label(policy, Some(slot)));
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

/// The tasks that a deployment starts on Fargate beside those that run: as many as the larger side has, less those that
/// the smaller one runs already. None: not both sides are on Fargate, or one could not be read.
fn fargate_start(policy: &TargetPolicy, seen: &InspectedPair) -> Option<FargateStart> {
    let sides = Slot::BOTH.map(|slot| match &seen.side(slot).service {
        Reading::Known(Some(service)) if service.on_fargate => Some((slot, service)),
        _ => None,
    });
    let [Some(blue), Some(green)] = sides else { return None };
    let (larger, smaller) = if blue.1.desired >= green.1.desired { (blue, green) } else { (green, blue) };
    let definition = seen.side(larger.0).definition.known()?.as_ref()?;
    // New tasks are placed by the smaller side's capacity provider strategy.
    let [wanted, there] = [larger.1.desired, smaller.1.desired].map(|tasks| smaller.1.tasks_on_fargate(tasks));
    Some(FargateStart {
        subject: service_label(policy, Some(smaller.0)),
        tasks: [wanted[0].saturating_sub(there[0]), wanted[1].saturating_sub(there[1])],
        cpu_units: definition.cpu_units?,
    })
}
