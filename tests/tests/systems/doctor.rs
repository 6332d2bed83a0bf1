//! What `switchback doctor` says of an account in which a system was created as its Terraform says.

use crate::play::Play;
use crate::scene::Ids;
use crate::system::{self, System, last_part};
use crate::terraform::{Configuration, Resource};
use rollout::TargetId;
use rollout::alarm::{AlarmDetails, AlarmKind, AlarmsByName, Metric, MetricAlarmDetails};
use rollout::doctor::inspected::{InspectedPlatform, InspectedTargetGroup, InspectionResult};
use rollout::doctor::{Severity, judge, terraform};
use rollout::snapshot::Reading;
use serde_json::Value;
use std::collections::BTreeMap;

/// What the doctor reads: of the world, and of Terraform where that says more.
fn inspect(system: &System, play: &mut Play, target: &TargetId) -> InspectionResult {
    let mut seen = play.inspect(target);
    let configuration = &system.environments[target.environment.as_str()];
    let alarms = configuration.all("aws_cloudwatch_metric_alarm");
    let alarms = alarms.map(|alarm| (alarm.text("alarm_name").to_owned(), alarm_details(alarm, &play.ids)));
    seen.alarms = Reading::Known(alarms.collect::<AlarmsByName>());
    seen.iam_scope = Some(system.scope.clone());
    // The model keeps no path of a health check, nor attributes that the doctor only compares between the sides.
    if let InspectedPlatform::EcsPair(pair) = &mut seen.platform {
        let named = &system.policy.target(target).expect("it is in the policy").resources.traffic;
        for (leg, groups) in named.iter().zip(pair.blue.groups.iter_mut().zip(&mut pair.green.groups)) {
            for (arn, group) in [(&leg.blue, groups.0), (&leg.green, groups.1)] {
                if let Reading::Known(Some(group)) = group {
                    complete(group, configuration.get("aws_lb_target_group", "arn", arn));
                }
            }
        }
    }
    seen
}

/// Adds what Terraform says of a target group.
fn complete(seen: &mut InspectedTargetGroup, group: &Resource) {
    let check = group.block("health_check");
    seen.check_path = check["path"].as_str().unwrap_or_default().to_owned();
    for attribute in ["timeout", "matcher"] {
        seen.others.insert(format!("health check {attribute}"), check[attribute].to_string());
    }
}

/// An alarm as CloudWatch describes it, with the world's names in its dimensions.
fn alarm_details(alarm: &Resource, ids: &Ids) -> AlarmDetails {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metric = |block: &Value| Metric {
        namespace: text(&block["namespace"]),
        name: text(&block["metric_name"]),
        dimensions: block["dimensions"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), ids.translate(value.as_str().unwrap_or_default())))
            .collect(),
    };
    let queries = alarm.blocks("metric_query");
    let of_queries: Vec<&Value> =
        queries.iter().map(|query| &query["metric"][0]).filter(|metric| !metric.is_null()).collect();
    let blocks = if queries.is_empty() { vec![&alarm.attributes] } else { of_queries };
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or_default();
    let kind = AlarmKind::Metric(MetricAlarmDetails {
        metrics: blocks.iter().map(|block| metric(block)).collect(),
        expressions: queries.iter().filter_map(|query| query["expression"].as_str().map(str::to_owned)).collect(),
        period_s: number(&blocks[0]["period"]),
        datapoints: number(&alarm.attributes["datapoints_to_alarm"]),
        threshold: alarm.attributes["threshold"].as_f64(),
        comparison: alarm.text("comparison_operator").to_owned(),
        treat_missing: alarm.text("treat_missing_data").to_owned(),
    });
    AlarmDetails { state: "OK".to_owned(), reason: String::new(), evaluation: None, kind }
}

/// D-S1, and the same of Skillancer: nothing has to be mended before the first deployment.
#[test]
fn the_doctor_finds_nothing_to_mend() {
    for system in system::both() {
        let mut play = Play::unwatched(&system);
        for (target, ..) in system.targets() {
            let seen = inspect(&system, &mut play, &target);
            let findings = judge(&play.policy, &target, &seen);
            assert!(findings.is_empty(), "{target}: {findings:#?}");
        }
    }
}

/// A-S9: both sides are in Cloud Map under one name, whose callers the weights do not govern.
#[test]
fn the_doctor_refuses_a_name_that_both_sides_share() {
    let system = system::skillancer(true);
    let mut play = Play::unwatched(&system);
    let target = play.target("skillancer/api/prod");
    let mut seen = inspect(&system, &mut play, &target);
    let InspectedPlatform::EcsPair(pair) = &mut seen.platform else { panic!("the API is a pair") };
    for side in [&mut pair.blue, &mut pair.green] {
        let Reading::Known(Some(service)) = &mut side.service else { panic!("the service is there") };
        service.other_endpoints.insert("the Cloud Map service api.skillancer.internal".to_owned());
    }
    let findings = judge(&play.policy, &target, &seen);
    let shared = findings.iter().find(|finding| finding.check == "sides_share_a_name");
    assert_eq!(shared.map(|finding| finding.severity), Some(Severity::Broken), "{findings:#?}");
}

/// Terraform ignores what deployments change, exactly as the doctor prints it, and nothing else: the next apply neither
/// reverts a deployment nor misses a change.
#[test]
fn terraform_ignores_exactly_what_the_doctor_prints() {
    for system in system::both() {
        let mut play = Play::unwatched(&system);
        let mut printed: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for (target, ..) in system.targets() {
            let seen = inspect(&system, &mut play, &target);
            let policy = play.policy.target(&target).expect("it is in the policy");
            for it in terraform::ignored_attributes(policy, &seen) {
                let mut attributes = it.attributes;
                attributes.sort();
                printed.insert((it.resource, it.name), attributes);
            }
        }
        for resource in system.configurations().flat_map(|configuration| &configuration.resources) {
            let name = name_in_aws(resource, &play.ids);
            let expected = name.and_then(|name| printed.remove(&(resource.kind.clone(), name)));
            assert_eq!(ignored(resource), expected.unwrap_or_default(), "{}: {}", resource.place, resource.address);
        }
        assert!(printed.is_empty(), "Terraform has no such resources: {printed:#?}");
    }
}

/// What the doctor calls a resource; none: it has no attributes that deployments change.
fn name_in_aws(resource: &Resource, ids: &Ids) -> Option<String> {
    match resource.kind.as_str() {
        "aws_ecs_service" => Some(format!("{}/{}", last_part(resource.text("cluster")), resource.text("name"))),
        "aws_appautoscaling_target" => Some(resource.text("resource_id").to_owned()),
        "aws_lb_listener" | "aws_lb_listener_rule" => Some(ids.translate(resource.text("arn"))),
        _ => None,
    }
}

/// What Terraform ignores because of Switchback. The count of what is replaced in place is left to its autoscaling, and
/// ignored because of that.
fn ignored(resource: &Resource) -> Vec<String> {
    let in_place = resource.kind == "aws_ecs_service" && resource.blocks("load_balancer").is_empty();
    let counts = |attribute: &&String| !in_place || attribute.as_str() != "desired_count";
    resource.ignored.iter().filter(counts).cloned().collect()
}

/// Every alarm of the policies has a definition in Terraform that the model knows, or whose state is set by hand.
#[test]
fn alarms_of_the_world_watch_what_terraform_says() {
    for system in system::both() {
        let play = Play::unwatched(&system);
        for configuration in system.environments.values() {
            check_world_alarms(&play, configuration);
        }
    }
}

fn check_world_alarms(play: &Play, configuration: &Configuration) {
    for alarm in configuration.all("aws_cloudwatch_metric_alarm") {
        let AlarmKind::Metric(details) = alarm_details(alarm, &play.ids).kind else { continue };
        let group = details.metrics.iter().find_map(|metric| metric.dimensions.get("TargetGroup"));
        let name = alarm.text("alarm_name");
        let of_world = play.simulation.world(|world| world.group_of_alarm(name).map(str::to_owned));
        let dimension = of_world.as_deref().map(rollout::alarm::dimension);
        assert_eq!(dimension, group.map(String::as_str), "{}", alarm.place);
    }
}
