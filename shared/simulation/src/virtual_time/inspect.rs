//! [`engine::Inspector`] over the world.

use super::answers::{capacity_providers, service};
use super::cloud::{SimCloud, actions, health, resource_id, to_reading};
use super::context::SimContext;
use super::platforms;
use crate::world::World;
use crate::world::alarms::{self, WatchedMetric};
use crate::world::balancer::{ActionKind, ListenerAction};
use crate::world::ecs::EcsService;
use crate::world::scaling::DescribeScalableTargets;
use engine::Inspector;
use rollout::alarm::{AlarmDetails, AlarmKind, AlarmsByName, MAX_DEPTH, Metric, MetricAlarmDetails, children};
use rollout::doctor::Inspection;
use rollout::doctor::inspected::{
    DEFAULT_NETWORK_MODE, FargateUsage, InspectedContainer, InspectedProvider, InspectedRepository, InspectedRule,
    InspectedScaling, InspectedService, InspectedTargetGroup, InspectedTaskDefinition, InspectedWorkload,
    InspectionResult, mapped_ports,
};
use rollout::{Reading, Slot, TargetResources};
use std::collections::{BTreeMap, BTreeSet};

/// Default concurrency of an account that has requested no increase (Lambda quotas).
const USUAL_CONCURRENCY: u32 = 1000;

impl Inspector for SimCloud {
    async fn inspect(&self, inspection: &Inspection) -> InspectionResult {
        // Duration of the whole inspection; its readings have faults of their own.
        self.context.call("inspect", || (), |_| ()).await;
        let context = &self.context;
        InspectionResult {
            platform: platforms::inspect(context, &inspection.resources),
            template: match &inspection.template {
                Some(family) => to_reading(context.reading("account", |_| None, |world| template(world, family))),
                None => Reading::not_asked(),
            },
            alarms: to_reading(context.reading("account", |_| None, |world| alarms(world, &inspection.alarms))),
            // The world has no registry: every repository named is reported as existing and correctly set up.
            repository: Reading::Known(Some(InspectedRepository {
                immutable: true,
                newest: Reading::Known(Vec::new()),
            })),
            concurrency: Reading::Known(USUAL_CONCURRENCY),
            fargate: to_reading(context.reading("account", |_| None, |world| fargate(world, 0))),
            fargate_spot: to_reading(context.reading("account", |_| None, |world| fargate(world, 1))),
            iam_scope: None,
        }
    }
}

/// The rules and listeners of the policy, its test rules included, by ARN.
pub(super) fn rules(context: &SimContext, resources: &TargetResources) -> BTreeMap<String, Reading<InspectedRule>> {
    let rule = |arn: &str| {
        let seen = context.reading("account", |_| None, |world| actions(world, arn).map(|actions| rule(&actions)));
        (arn.to_owned(), to_reading(seen))
    };
    resources.rules().chain(resources.test_rules()).map(rule).collect()
}

/// A service with what belongs to it.
pub(super) fn workload<'a>(
    context: &SimContext,
    named: rollout::EcsServiceName<'_>,
    groups: impl Iterator<Item = &'a str>,
) -> InspectedWorkload {
    let found = context.reading(
        "account",
        |_| None,
        |world| match service(world, named.cluster, named.name) {
            Ok(service) => Ok(Some(service)),
            Err(reason) if reason.starts_with("ECS has no service") => Ok(None),
            Err(reason) => Err(reason),
        },
    );
    let definition = match &found {
        Ok(Some(service)) => {
            context.reading("account", |_| None, |world| definition(world, &service.task_definition).map(Some))
        }
        Ok(None) => Ok(None),
        Err(reason) => Err(reason.clone()),
    };
    let groups = groups.map(|arn| to_reading(context.reading("account", |_| None, |world| group(world, arn))));
    InspectedWorkload {
        service: to_reading(found.map(|service| service.map(service_seen))),
        definition: to_reading(definition),
        groups: groups.collect(),
        scaling: to_reading(context.reading("account", |_| None, |world| scaling(world, named.cluster, named.name))),
    }
}

fn service_seen(service: EcsService) -> InspectedService {
    let deployment = &service.deployment_configuration;
    let breaker = deployment.deployment_circuit_breaker;
    let providers = providers(service.capacity_provider_strategy.as_ref());
    let registrations = service.load_balancers.iter();
    InspectedService {
        registered_ports: registrations.map(|it| (it.container_name.clone(), it.container_port)).collect(),
        settings: settings(&service),
        status: service.status.to_owned(),
        controller: "ECS".to_owned(),
        strategy: "ROLLING".to_owned(),
        scheduling: service.scheduling_strategy.to_owned(),
        breaker: breaker.enable,
        breaker_rolls_back: breaker.enable && breaker.rollback,
        // The world has no deployment alarms of ECS's own.
        alarms_roll_back: false,
        minimum_percent: deployment.minimum_healthy_percent,
        maximum_percent: deployment.maximum_percent,
        desired: service.desired_count,
        on_fargate: service.launch_type.as_deref() == Some("FARGATE")
            || providers.iter().any(|it| it.name.starts_with("FARGATE")),
        providers,
        other_endpoints: BTreeSet::new(),
        groups: service.load_balancers.into_iter().map(|balancer| balancer.target_group_arn).collect(),
    }
}

/// The settings in which both sides should agree.
fn settings(service: &EcsService) -> BTreeMap<String, String> {
    let network = service.network_configuration.as_ref().map(|it| &it["awsvpcConfiguration"]);
    let list = |key: &str| {
        let values = network?[key].as_array()?.iter().filter_map(|value| value.as_str());
        let mut values: Vec<&str> = values.collect();
        values.sort_unstable();
        Some(values.join(", "))
    };
    let deployment = &service.deployment_configuration;
    let settings = [
        ("subnets", list("subnets")),
        ("security groups", list("securityGroups")),
        ("public addresses", network.and_then(|it| it["assignPublicIp"].as_str()).map(str::to_owned)),
        ("health check grace period", Some(format!("{}s", service.health_check_grace_period_seconds))),
        ("minimumHealthyPercent", Some(format!("{} %", deployment.minimum_healthy_percent))),
        ("maximumPercent", Some(format!("{} %", deployment.maximum_percent))),
        ("launch type", service.launch_type.clone()),
        ("capacity providers", service.capacity_provider_strategy.as_ref().map(ToString::to_string)),
    ];
    settings.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn definition(world: &mut World, arn: &str) -> Result<InspectedTaskDefinition, String> {
    let definition = world.describe_task_definition(arn).map_err(|error| error.to_string())?;
    let document = &definition.document;
    let text = |value: &serde_json::Value, key: &str| value[key].as_str().map(str::to_owned);
    let containers = document["containerDefinitions"].as_array().into_iter().flatten();
    let launch_types = document["requiresCompatibilities"].as_array().into_iter().flatten();
    let container = |container: &serde_json::Value| {
        let seen = InspectedContainer {
            image: text(container, "image")?,
            essential: container["essential"].as_bool().unwrap_or(true),
            health_check: !container["healthCheck"].is_null(),
            stop_timeout_s: container["stopTimeout"].as_u64().and_then(|seconds| u32::try_from(seconds).ok()),
            ports: container["portMappings"].as_array().into_iter().flatten().filter_map(ports).collect(),
        };
        Some((text(container, "name")?, seen))
    };
    Ok(InspectedTaskDefinition {
        containers: containers.filter_map(container).collect(),
        roles: ["taskRoleArn", "executionRoleArn"].into_iter().filter_map(|key| text(document, key)).collect(),
        cpu_units: text(document, "cpu").and_then(|units| units.parse().ok()),
        network_mode: text(document, "networkMode").unwrap_or_else(|| DEFAULT_NETWORK_MODE.to_owned()),
        launch_types: launch_types.filter_map(serde_json::Value::as_str).map(str::to_owned).collect(),
    })
}

fn ports(mapping: &serde_json::Value) -> Option<(u16, u16)> {
    mapped_ports(mapping["containerPort"].as_i64(), mapping["containerPortRange"].as_str())
}

/// The newest active task definition of a family; none: it has no active one.
fn template(world: &mut World, family: &str) -> Result<Option<InspectedTaskDefinition>, String> {
    let arns = world.list_task_definitions(Some(family), true).map_err(|error| error.to_string())?;
    arns.first().map(|arn| definition(world, arn)).transpose()
}

fn providers(strategy: Option<&serde_json::Value>) -> Vec<InspectedProvider> {
    capacity_providers(strategy)
        .map(|item| InspectedProvider { name: item.name.to_owned(), base: item.base, weight: item.weight })
        .collect()
}

/// Fargate vCPU usage; `class` 0 is On-Demand, 1 is Spot.
fn fargate(world: &mut World, class: usize) -> Result<Option<FargateUsage>, String> {
    let usage = world.fargate_usage().map_err(|error| error.to_string())?[class];
    Ok(Some(FargateUsage { quota: usage.quota, used: usage.used }))
}

fn group(world: &mut World, arn: &str) -> Result<Option<InspectedTargetGroup>, String> {
    let groups = match world.describe_target_groups(None, &[arn.to_owned()], &[]) {
        Err(error) if error.code == "TargetGroupNotFound" => return Ok(None),
        groups => groups.map_err(|error| error.to_string())?,
    };
    let healthy = health(world, arn)?.healthy;
    Ok(groups.into_iter().next().map(|group| InspectedTargetGroup {
        healthy,
        balancers: group.load_balancers,
        deregistration_delay_s: group.settings.deregistration_delay_s,
        sticky: group.settings.stickiness,
        check_interval_s: group.settings.health_check_interval_s,
        healthy_threshold: group.settings.healthy_threshold,
        unhealthy_threshold: group.settings.unhealthy_threshold,
        check_path: "/".to_owned(),
        slow_start_s: 0,
        others: BTreeMap::new(),
    }))
}

fn scaling(world: &mut World, cluster: &str, service: &str) -> Result<Option<InspectedScaling>, String> {
    let request = DescribeScalableTargets {
        service_namespace: "ecs".to_owned(),
        resource_ids: vec![resource_id(cluster, service)],
        scalable_dimension: None,
    };
    let found = world.describe_scalable_targets(request).map_err(|error| error.to_string())?;
    Ok(found.first().map(|target| InspectedScaling { min: target.min_capacity, max: target.max_capacity }))
}

fn rule(actions: &[ListenerAction]) -> InspectedRule {
    let forward = actions.iter().find_map(|action| match &action.what {
        ActionKind::Forward(forward) => Some(forward),
        ActionKind::Other { .. } => None,
    });
    let Some(forward) = forward else { return InspectedRule::default() };
    let weight = |weight: Option<i64>| u32::try_from(weight.unwrap_or(1)).unwrap_or(0);
    let sticky = forward.stickiness.filter(|stickiness| stickiness.enabled);
    InspectedRule {
        groups: forward.target_groups.iter().map(|group| (group.arn.clone(), weight(group.weight))).collect(),
        sticky_s: sticky.map(|sticky| u32::try_from(sticky.duration_seconds.unwrap_or(0)).unwrap_or(u32::MAX)),
    }
}

/// Rules and listeners of the target's balancers, outside the policy, that forward to its target groups.
pub(super) fn others(
    world: &mut World,
    resources: &TargetResources,
) -> Result<BTreeMap<String, InspectedRule>, String> {
    let groups: Vec<&str> = Slot::BOTH.into_iter().flat_map(|slot| resources.target_groups(slot)).collect();
    let known = world.describe_target_groups(None, &[], &[]).map_err(|error| error.to_string())?;
    let balancers: std::collections::BTreeSet<String> = known
        .into_iter()
        .filter(|group| groups.contains(&group.arn.as_str()))
        .flat_map(|group| group.load_balancers)
        .collect();
    let mut seen = BTreeMap::new();
    for balancer in balancers {
        for listener in world.describe_listeners(Some(&balancer), &[]).map_err(|error| error.to_string())? {
            let rules = world.describe_rules(Some(&listener.arn), &[]).map_err(|error| error.to_string())?;
            seen.insert(listener.arn, rule(&listener.default_actions));
            // The default rule repeats the listener's default action.
            let rules = rules.into_iter().filter(|it| it.priority.is_some());
            seen.extend(rules.map(|it| (it.arn, rule(&it.actions))));
        }
    }
    seen.retain(|arn, rule| resources.leg_of(arn).is_none() && groups.iter().any(|group| rule.weight(group).is_some()));
    Ok(seen)
}

/// The named alarms, and the children of composite ones among them.
pub(super) fn alarms(world: &mut World, names: &BTreeSet<String>) -> Result<AlarmsByName, String> {
    let mut known = AlarmsByName::new();
    let mut asked = BTreeSet::new();
    let mut wanted = names.clone();
    for _ in 0..=MAX_DEPTH {
        if wanted.is_empty() {
            break;
        }
        let names: Vec<String> = wanted.iter().cloned().collect();
        let found = world.describe_alarms(&names).map_err(|error| error.to_string())?;
        known.extend(found.into_iter().map(|it| (it.name.clone(), alarm(it))));
        asked.extend(wanted);
        wanted = children(known.values()).difference(&asked).cloned().collect();
    }
    Ok(known)
}

fn alarm(alarm: alarms::CloudWatchAlarm) -> AlarmDetails {
    let kind = match alarm.kind {
        alarms::AlarmDefinition::Composite { rule } => AlarmKind::Composite { rule },
        alarms::AlarmDefinition::Metric(metric) => AlarmKind::Metric(metric_alarm(&metric)),
        alarms::AlarmDefinition::Log { .. } => AlarmKind::Log { period_s: 300, results: 1 },
    };
    let evaluation = alarm.evaluation.map(|evaluation| evaluation.as_str().to_owned());
    AlarmDetails { state: alarm.state.as_str().to_owned(), reason: alarm.reason, evaluation, kind }
}

fn metric_alarm(alarm: &alarms::MetricAlarm) -> MetricAlarmDetails {
    let last = |arn: &str, mark: &str| arn.split_once(mark).map_or(arn, |(_, rest)| rest).to_owned();
    let mut dimensions = BTreeMap::from([("LoadBalancer".to_owned(), last(&alarm.load_balancer, ":loadbalancer/"))]);
    if let Some(group) = &alarm.target_group {
        dimensions.insert("TargetGroup".to_owned(), format!("targetgroup/{}", last(group, ":targetgroup/")));
    }
    let metric = |name: &str| Metric {
        namespace: "AWS/ApplicationELB".to_owned(),
        name: name.to_owned(),
        dimensions: dimensions.clone(),
    };
    let (metrics, expressions) = match alarm.metric {
        WatchedMetric::Target5xxPercent => (
            vec![metric(alarm.metric.name()), metric("RequestCount")],
            // A metric math expression that treats missing error data points as 0.
            vec!["100 * FILL(errors, 0) / requests".to_owned()],
        ),
        one => (vec![metric(one.name())], Vec::new()),
    };
    MetricAlarmDetails {
        metrics,
        expressions,
        period_s: alarm.period_s,
        datapoints: alarm.datapoints_to_alarm,
        threshold: Some(alarm.threshold),
        comparison: alarm.comparison.as_str().to_owned(),
        treat_missing: alarm.treat_missing.as_str().to_owned(),
    }
}
