//! A sound account, and the policy that it is fit for.

use rollout::doctor::inspected::{
    AlarmDetails, AlarmKind, FargateUsage, IamScope, InspectedContainer, InspectedPair, InspectedPlatform,
    InspectedProvider, InspectedRepository, InspectedRule, InspectedScaling, InspectedService, InspectedTag,
    InspectedTargetGroup, InspectedTaskDefinition, InspectedWorkload, InspectionResult, Metric, MetricAlarmDetails,
};
use rollout::entry::EntryRules;
use rollout::policy::{
    AlarmPolicy, Concurrency, Deadlines, Drift, EnvironmentPolicy, Policy, RegistryPolicy, ServicePolicy, Step,
    Strategy, TagRule, TargetPolicy, Trigger,
};
use rollout::template::TemplateSource;
use rollout::{EcsPair, Leg, Name, Percent, Platform, Reading, Seconds, Slot, TargetId, TargetResources};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const LISTENER: &str = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:listener/app/shop/50dc/f2f7";
pub(crate) const RULE: &str =
    "arn:aws:elasticloadbalancing:eu-central-1:111122223333:listener-rule/app/shop/50dc/f2f7/9683";
pub(crate) const OTHER_RULE: &str =
    "arn:aws:elasticloadbalancing:eu-central-1:111122223333:listener-rule/app/shop/50dc/f2f7/1111";
pub(crate) const LOAD_BALANCER: &str =
    "arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/app/shop/50dc";

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

pub(crate) fn target() -> TargetId {
    TargetId::parse("shop/api/prod").expect("a target")
}

pub(crate) fn group(slot: Slot) -> String {
    format!("arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/api-{slot}/73e2")
}

pub(crate) fn policy() -> Policy {
    let alarm = |name: &str| AlarmPolicy::new(name.to_owned());
    let minutes = |minutes: u64| Seconds(60 * minutes);
    let step = |traffic: u8, hold| Step { traffic: Percent::new(traffic).expect("a share"), hold };
    let target_policy = TargetPolicy {
        template: TemplateSource::Live,
        configuration: rollout::template::ConfigurationTrigger::Manual,
        resources: TargetResources {
            platform: Platform::EcsPair(EcsPair {
                cluster: "shop-prod".to_owned(),
                container: "api".to_owned(),
                blue: "api-blue".to_owned(),
                green: "api-green".to_owned(),
            }),
            traffic: vec![Leg {
                blue: group(Slot::Blue),
                green: group(Slot::Green),
                rules: vec![RULE.to_owned()],
                test_rule: None,
            }],
        },
        strategy: Strategy {
            steps: vec![step(10, minutes(5)), step(100, Seconds(0))],
            bake: minutes(10),
            keep_warm: minutes(5),
            green_capacity: Percent::ALL,
            drain: minutes(1),
            task_failures: rollout::policy::TaskFailures::default(),
        },
        alarms: vec![alarm("blue-5xx"), alarm("green-5xx")],
        hooks: Vec::new(),
        deadlines: Deadlines {
            preflight: minutes(30),
            register: minutes(5),
            healthy: minutes(15),
            shift: minutes(10),
            retire: minutes(15),
            rollback: minutes(30),
        },
        drift: Drift::Tell,
        recovery_time: None,
    };
    let service = ServicePolicy {
        registry: RegistryPolicy::default(),
        repository: "shop/api".to_owned(),
        tags: TagRule::Glob("v*".to_owned()),
        paused: false,
        depends_on: Vec::new(),
    };
    let environment = EnvironmentPolicy {
        unreadable: BTreeMap::new(),
        trigger: Trigger::Push,
        concurrency: Concurrency::default(),
        entry: EntryRules::default(),
        targets: BTreeMap::from([(name("api"), target_policy)]),
    };
    Policy {
        application: name("shop"),
        services: BTreeMap::from([(name("api"), service)]),
        environments: BTreeMap::from([(name("prod"), environment)]),
        people: BTreeMap::new(),
        groups: BTreeMap::new(),
        grants: Vec::new(),
        notifications: Vec::new(),
    }
}

pub(crate) fn target_policy(policy: &mut Policy) -> &mut TargetPolicy {
    let environment = policy.environments.get_mut(&name("prod")).expect("it is there");
    environment.targets.get_mut(&name("api")).expect("it is there")
}

pub(crate) fn named_pair(policy: &mut Policy) -> &mut EcsPair {
    match &mut target_policy(policy).resources.platform {
        Platform::EcsPair(named) => named,
        Platform::EcsRolling(_) => panic!("it is a pair"),
    }
}

pub(crate) fn metric(name: &str, slot: Slot) -> Metric {
    let dimensions =
        [("TargetGroup", format!("targetgroup/api-{slot}/73e2")), ("LoadBalancer", "app/shop/50dc".to_owned())];
    Metric {
        namespace: "AWS/ApplicationELB".to_owned(),
        name: name.to_owned(),
        dimensions: dimensions.map(|(name, value)| (name.to_owned(), value)).into(),
    }
}

pub(crate) fn alarm(slot: Slot) -> AlarmDetails {
    AlarmDetails {
        state: "OK".to_owned(),
        reason: String::new(),
        evaluation: None,
        kind: AlarmKind::Metric(MetricAlarmDetails {
            metrics: vec![metric("HTTPCode_Target_5XX_Count", slot)],
            expressions: Vec::new(),
            period_s: 60,
            datapoints: 2,
            threshold: Some(5.0),
            comparison: "GreaterThanThreshold".to_owned(),
            treat_missing: "notBreaching".to_owned(),
        }),
    }
}

/// The container whose image is replaced.
pub(crate) fn container() -> InspectedContainer {
    InspectedContainer {
        image: "111122223333.dkr.ecr.eu-central-1.amazonaws.com/shop/api:v1@sha256:00".to_owned(),
        essential: true,
        health_check: false,
        stop_timeout_s: None,
        ports: vec![(8080, 8080)],
    }
}

pub(crate) fn side(slot: Slot) -> InspectedWorkload {
    InspectedWorkload {
        service: Reading::Known(Some(InspectedService {
            status: "ACTIVE".to_owned(),
            controller: "ECS".to_owned(),
            strategy: "ROLLING".to_owned(),
            scheduling: "REPLICA".to_owned(),
            breaker: true,
            breaker_rolls_back: false,
            alarms_roll_back: false,
            minimum_percent: 100,
            maximum_percent: 200,
            groups: vec![group(slot)],
            registered_ports: BTreeSet::from([("api".to_owned(), 8080)]),
            desired: if slot == Slot::Blue { 2 } else { 0 },
            on_fargate: true,
            providers: vec![],
            settings: BTreeMap::from([("subnets".to_owned(), "subnet-0a, subnet-0b".to_owned())]),
            other_endpoints: BTreeSet::new(),
        })),
        definition: Reading::Known(Some(InspectedTaskDefinition {
            containers: BTreeMap::from([("api".to_owned(), container())]),
            roles: vec!["arn:aws:iam::111122223333:role/tasks/api".to_owned()],
            cpu_units: Some(512),
            network_mode: "awsvpc".to_owned(),
            launch_types: BTreeSet::from(["FARGATE".to_owned()]),
        })),
        groups: vec![Reading::Known(Some(InspectedTargetGroup {
            balancers: vec![LOAD_BALANCER.to_owned()],
            deregistration_delay_s: 30,
            sticky: false,
            check_interval_s: 10,
            healthy_threshold: 2,
            unhealthy_threshold: 2,
            check_path: "/healthz".to_owned(),
            slow_start_s: 0,
            others: BTreeMap::from([("load_balancing.algorithm.type".to_owned(), "round_robin".to_owned())]),
            healthy: if slot == Slot::Blue { 2 } else { 0 },
        }))],
        scaling: Reading::Known(Some(InspectedScaling { min: 2, max: 10 })),
    }
}

pub(crate) fn weights(groups: &[(Slot, u32)]) -> InspectedRule {
    InspectedRule { groups: groups.iter().map(|(slot, weight)| (group(*slot), *weight)).collect(), sticky_s: None }
}

pub(crate) fn seen() -> InspectionResult {
    let rule = weights(&[(Slot::Blue, 100), (Slot::Green, 0)]);
    let alarms = [("blue-5xx", alarm(Slot::Blue)), ("green-5xx", alarm(Slot::Green))];
    InspectionResult {
        platform: InspectedPlatform::EcsPair(Box::new(InspectedPair {
            blue: side(Slot::Blue),
            green: side(Slot::Green),
            rules: BTreeMap::from([(RULE.to_owned(), Reading::Known(rule))]),
            others: Reading::Known(BTreeMap::new()),
        })),
        template: Reading::not_asked(),
        alarms: Reading::Known(alarms.map(|(name, alarm)| (name.to_owned(), alarm)).into()),
        repository: Reading::Known(Some(InspectedRepository {
            immutable: true,
            newest: Reading::Known(tags(&[("v2", true), ("main-7", false), ("v1", true)])),
        })),
        concurrency: Reading::Known(1000),
        // Just enough for the other side.
        fargate: Reading::Known(Some(FargateUsage { quota: 6.0, used: 5.0 })),
        fargate_spot: Reading::Known(Some(FargateUsage { quota: 6.0, used: 0.0 })),
        iam_scope: Some(IamScope {
            hooks: "switchback-hook-".to_owned(),
            topics: "switchback-".to_owned(),
            ..IamScope::default()
        }),
    }
}

pub(crate) fn tags(tags: &[(&str, bool)]) -> Vec<InspectedTag> {
    tags.iter().map(|&(tag, matches_rule)| InspectedTag { tag: tag.to_owned(), matches_rule }).collect()
}

pub(crate) fn repository(seen: &mut InspectionResult) -> &mut InspectedRepository {
    known_mut(&mut seen.repository).as_mut().expect("it is there")
}

pub(crate) fn known_mut<T>(reading: &mut Reading<T>) -> &mut T {
    match reading {
        Reading::Known(value) => value,
        Reading::Unknown(reason) => panic!("{reason}"),
    }
}

pub(crate) fn pair(seen: &mut InspectionResult) -> &mut InspectedPair {
    match &mut seen.platform {
        InspectedPlatform::EcsPair(pair) => pair,
        InspectedPlatform::EcsRolling(_) => panic!("it is a pair"),
    }
}

/// The policy names this family of templates, whose newest one is like what runs.
pub(crate) fn name_template(policy: &mut Policy, seen: &mut InspectionResult, family: &str) {
    target_policy(policy).template = TemplateSource::Family(family.to_owned());
    seen.template = seen.platform.workloads().next().expect("a workload").1.definition.clone();
}

/// The newest template.
pub(crate) fn template(seen: &mut InspectionResult) -> &mut InspectedTaskDefinition {
    known_mut(&mut seen.template).as_mut().expect("it is there")
}

pub(crate) fn sides(seen: &mut InspectionResult) -> [&mut InspectedWorkload; 2] {
    let pair = pair(seen);
    [&mut pair.blue, &mut pair.green]
}

pub(crate) fn service(seen: &mut InspectionResult) -> &mut InspectedService {
    known_mut(&mut pair(seen).green.service).as_mut().expect("it is there")
}

/// Both sides' tasks are placed by these capacity providers, each with its base and weight.
pub(crate) fn set_capacity_providers(seen: &mut InspectionResult, strategy: &[(&str, u32, u32)]) {
    let provider = |(name, base, weight): &(&str, u32, u32)| InspectedProvider {
        name: (*name).to_owned(),
        base: *base,
        weight: *weight,
    };
    for side in sides(seen) {
        let service = known_mut(&mut side.service).as_mut().expect("it is there");
        service.providers = strategy.iter().map(provider).collect();
    }
}

pub(crate) fn green_group(seen: &mut InspectionResult) -> &mut InspectedTargetGroup {
    known_mut(&mut pair(seen).green.groups[0]).as_mut().expect("it is there")
}

pub(crate) fn both_groups(seen: &mut InspectionResult, change: impl Fn(&mut InspectedTargetGroup)) {
    for side in sides(seen) {
        change(known_mut(&mut side.groups[0]).as_mut().expect("it is there"));
    }
}

pub(crate) fn rule(seen: &mut InspectionResult) -> &mut InspectedRule {
    known_mut(pair(seen).rules.get_mut(RULE).expect("it is there"))
}

pub(crate) fn green_alarm(seen: &mut InspectionResult) -> &mut AlarmDetails {
    known_mut(&mut seen.alarms).get_mut("green-5xx").expect("it is there")
}

pub(crate) fn green_metric(seen: &mut InspectionResult) -> &mut MetricAlarmDetails {
    match &mut green_alarm(seen).kind {
        AlarmKind::Metric(metric) => metric,
        _ => panic!("it is a metric alarm"),
    }
}
