//! A target whose versions replace one another in place: a sound worker has no findings, and each thing that is changed
//! has the finding that it should.

use super::CaseTable;
use super::account::*;
use rollout::doctor::inspected::{
    AlarmDetails, AlarmKind, FargateUsage, IamScope, InspectedContainer, InspectedPlatform, InspectedService,
    InspectedTargetGroup, InspectedWorkload, InspectionResult, Metric, MetricAlarmDetails,
};
use rollout::doctor::{Finding, Severity, judge, terraform};
use rollout::policy::{AlarmEffect, AlarmPolicy, Policy, ServicePolicy, Step};
use rollout::{EcsRolling, Percent, Platform, Reading, Seconds, Slot, TargetResources};
use std::collections::{BTreeMap, BTreeSet};

/// The target group of the worker where it is behind a load balancer.
const GROUP: &str = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/mailer/73e2";

/// A worker of two tasks with a container health check, watched by an alarm over its queue, and its sound account.
fn worker() -> (Policy, InspectionResult) {
    let (mut policy, mut seen) = (policy(), seen());
    let target = target_policy(&mut policy);
    let rolling = EcsRolling {
        cluster: "shop-prod".to_owned(),
        container: "worker".to_owned(),
        service: "mailer".to_owned(),
        target_groups: Vec::new(),
    };
    target.resources = TargetResources { platform: Platform::EcsRolling(rolling), traffic: Vec::new() };
    target.strategy.steps = vec![Step { traffic: Percent::ALL, hold: Seconds(0) }];
    target.strategy.keep_warm = Seconds(0);
    target.alarms = vec![AlarmPolicy::new("queue-age".to_owned())];
    let mut workload = side(Slot::Blue);
    workload.groups.clear();
    let service = known_mut(&mut workload.service).as_mut().expect("it is there");
    service.groups.clear();
    service.registered_ports.clear();
    let container = InspectedContainer { health_check: true, stop_timeout_s: Some(90), ..container() };
    known_mut(&mut workload.definition).as_mut().expect("it is there").containers =
        BTreeMap::from([("worker".to_owned(), container)]);
    seen.platform = InspectedPlatform::EcsRolling(Box::new(workload));
    seen.alarms = Reading::Known(BTreeMap::from([("queue-age".to_owned(), queue_alarm())]));
    (policy, seen)
}

fn queue_alarm() -> AlarmDetails {
    let metric = Metric {
        namespace: "AWS/SQS".to_owned(),
        name: "ApproximateAgeOfOldestMessage".to_owned(),
        dimensions: BTreeMap::from([("QueueName".to_owned(), "mail".to_owned())]),
    };
    alarm_over(metric)
}

/// The fixture's alarm over one target group, over another metric.
fn alarm_over(metric: Metric) -> AlarmDetails {
    let AlarmKind::Metric(usual) = alarm(Slot::Blue).kind else { panic!("a metric alarm") };
    let kind = AlarmKind::Metric(MetricAlarmDetails { metrics: vec![metric], ..usual });
    AlarmDetails { kind, ..alarm(Slot::Blue) }
}

/// An alarm over errors of a target group, by its dimensions.
fn watch_target_group(seen: &mut InspectionResult, dimensions: &[(&str, &str)]) {
    let dimensions = dimensions.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let errors = Metric { dimensions, ..metric("HTTPCode_Target_5XX_Count", Slot::Blue) };
    known_mut(&mut seen.alarms).insert("queue-age".to_owned(), alarm_over(errors));
}

/// Puts the worker behind a load balancer, without a container health check.
fn behind_load_balancer(policy: &mut Policy, seen: &mut InspectionResult) {
    named(policy).target_groups.push(GROUP.to_owned());
    let group = side(Slot::Blue).groups.remove(0);
    workload(seen).groups.push(group);
    worker_service(seen).groups.push(GROUP.to_owned());
    worker_service(seen).registered_ports.insert(("worker".to_owned(), 8080));
    worker_container(seen).health_check = false;
}

fn named(policy: &mut Policy) -> &mut EcsRolling {
    match &mut target_policy(policy).resources.platform {
        Platform::EcsRolling(named) => named,
        Platform::EcsPair(_) => panic!("it is one service"),
    }
}

fn workload(seen: &mut InspectionResult) -> &mut InspectedWorkload {
    match &mut seen.platform {
        InspectedPlatform::EcsRolling(workload) => workload,
        InspectedPlatform::EcsPair(_) => panic!("it is one service"),
    }
}

fn worker_service(seen: &mut InspectionResult) -> &mut InspectedService {
    known_mut(&mut workload(seen).service).as_mut().expect("it is there")
}

/// Sets desired count, `minimumHealthyPercent` and `maximumPercent`.
fn scale(seen: &mut InspectionResult, desired: u32, minimum: u32, maximum: u32) {
    let service = worker_service(seen);
    (service.desired, service.minimum_percent, service.maximum_percent) = (desired, minimum, maximum);
}

fn worker_container(seen: &mut InspectionResult) -> &mut InspectedContainer {
    containers(seen).get_mut("worker").expect("it is there")
}

fn containers(seen: &mut InspectionResult) -> &mut BTreeMap<String, InspectedContainer> {
    &mut known_mut(&mut workload(seen).definition).as_mut().expect("it is there").containers
}

fn worker_group(seen: &mut InspectionResult) -> &mut InspectedTargetGroup {
    known_mut(&mut workload(seen).groups[0]).as_mut().expect("it is there")
}

fn findings(change: impl FnOnce(&mut Policy, &mut InspectionResult)) -> Vec<Finding> {
    let (mut policy, mut seen) = worker();
    change(&mut policy, &mut seen);
    judge(&policy, &target(), &seen)
}

#[test]
fn a_well_configured_worker_has_no_findings() {
    assert_eq!(findings(|_, _| {}), []);
}

#[test]
fn a_well_configured_service_behind_a_load_balancer_has_no_findings() {
    assert_eq!(findings(behind_load_balancer), []);
}

/// One change to the worker, and all that is found of it: severity, check, place.
const WORKER_CASES: CaseTable = &[
    (
        "no service",
        |_, seen| {
            workload(seen).service = Reading::Known(None);
            workload(seen).definition = Reading::Known(None);
        },
        &[(Severity::Broken, "service_missing", "service mailer")],
    ),
    (
        "no cluster",
        |_, seen| {
            let reason = "DescribeServices: ClusterNotFoundException: Cluster not found.".to_owned();
            workload(seen).service = Reading::Unknown(reason.clone());
            workload(seen).definition = Reading::Unknown(reason);
        },
        &[(Severity::Broken, "cluster_missing", "cluster shop-prod")],
    ),
    (
        "a service on its way out",
        |_, seen| worker_service(seen).status = "DRAINING".to_owned(),
        &[(Severity::Broken, "service_inactive", "service mailer")],
    ),
    (
        "CodeDeploy's service",
        |_, seen| worker_service(seen).controller = "CODE_DEPLOY".to_owned(),
        &[(Severity::Broken, "service_controller", "service mailer")],
    ),
    (
        "a service with an external controller",
        |_, seen| worker_service(seen).controller = "EXTERNAL".to_owned(),
        &[(Severity::Broken, "service_controller", "service mailer")],
    ),
    (
        "a strategy other than a rolling update",
        |_, seen| worker_service(seen).strategy = "CANARY".to_owned(),
        &[(Severity::Broken, "service_strategy", "service mailer")],
    ),
    ("a daemon, whose desired count is not set", |_, seen| worker_service(seen).scheduling = "DAEMON".to_owned(), &[]),
    (
        "another container",
        |policy, _| named(policy).container = "app".to_owned(),
        &[(Severity::Broken, "container_missing", "service mailer")],
    ),
    (
        "another repository",
        |policy, _| policy.services.get_mut(&name("api")).expect("it is there").repository = "shop/web".to_owned(),
        &[(Severity::Risky, "image_of_other_repository", "service mailer")],
    ),
    (
        "neither a stop nor a start at one task",
        |_, seen| scale(seen, 1, 50, 150),
        &[(Severity::Broken, "service_cannot_update", "service mailer")],
    ),
    (
        "neither a stop nor a start at three tasks",
        |_, seen| scale(seen, 3, 67, 133),
        &[(Severity::Broken, "service_cannot_update", "service mailer")],
    ),
    ("a stop of one of three tasks", |_, seen| scale(seen, 3, 66, 133), &[]),
    ("a start beside three tasks", |_, seen| scale(seen, 3, 67, 134), &[]),
    (
        "neither a stop nor a start at any number of tasks",
        |_, seen| scale(seen, 0, 100, 100),
        &[(Severity::Broken, "service_cannot_update", "service mailer")],
    ),
    ("scaled to zero", |_, seen| scale(seen, 0, 50, 150), &[]),
    (
        "one task that stops first",
        |_, seen| scale(seen, 1, 0, 100),
        &[(Severity::Advice, "service_stops_first", "service mailer")],
    ),
    ("one of two tasks that stops first", |_, seen| scale(seen, 2, 50, 100), &[]),
    (
        "ECS rolls back by its circuit breaker",
        |_, seen| worker_service(seen).breaker_rolls_back = true,
        &[(Severity::Advice, "service_rolls_back", "service mailer")],
    ),
    (
        "ECS rolls back by its own alarms",
        |_, seen| worker_service(seen).alarms_roll_back = true,
        &[(Severity::Advice, "service_rolls_back", "service mailer")],
    ),
    ("no circuit breaker", |_, seen| worker_service(seen).breaker = false, &[]),
    (
        "a target group that the policy does not name",
        |_, seen| worker_service(seen).groups.push(GROUP.to_owned()),
        &[(Severity::Risky, "target_group_besides", "service mailer")],
    ),
    ("no autoscaling", |_, seen| workload(seen).scaling = Reading::Known(None), &[]),
    (
        "no room on Fargate for a task that starts first",
        |_, seen| seen.fargate = Reading::Known(Some(FargateUsage { quota: 6.0, used: 6.0 })),
        &[(Severity::Broken, "quota_of_fargate", "service mailer")],
    ),
    (
        "no room on Fargate, and a task that stops first",
        |_, seen| {
            seen.fargate = Reading::Known(Some(FargateUsage { quota: 6.0, used: 6.0 }));
            scale(seen, 2, 50, 200);
        },
        &[],
    ),
    (
        "a cluster out of reach",
        |_, seen| seen.iam_scope = Some(IamScope { clusters: "web-".to_owned(), ..IamScope::default() }),
        &[(Severity::Broken, "out_of_reach", "cluster shop-prod")],
    ),
    (
        "a role out of reach",
        |_, seen| seen.iam_scope = Some(IamScope { task_roles: "web-".to_owned(), ..IamScope::default() }),
        &[(Severity::Broken, "out_of_reach", "role tasks/api")],
    ),
    (
        "what could not be read",
        |_, seen| workload(seen).service = Reading::Unknown("Throttling: Rate exceeded".to_owned()),
        &[(Severity::Unread, "unread", "service mailer")],
    ),
    (
        "a reading of another platform",
        |_, reading| *reading = seen(),
        &[(Severity::Broken, "alarm_missing", "alarm queue-age"), (Severity::Unread, "unread", "platform")],
    ),
];

/// One change to what makes a task count as healthy.
const HEALTH_CASES: CaseTable = &[
    (
        "no health check",
        |_, seen| worker_container(seen).health_check = false,
        &[(Severity::Advice, "health_unproven", "service mailer")],
    ),
    (
        "no health check, a short bake and no alarm",
        |policy, seen| {
            worker_container(seen).health_check = false;
            target_policy(policy).strategy.bake = Seconds(299);
            target_policy(policy).alarms.clear();
        },
        &[(Severity::Risky, "health_unproven", "service mailer"), (Severity::Risky, "alarms_none", "alarms")],
    ),
    (
        "no health check, a short bake and an alarm that only notifies",
        |policy, seen| {
            worker_container(seen).health_check = false;
            target_policy(policy).strategy.bake = Seconds(299);
            target_policy(policy).alarms[0].firing = AlarmEffect::Tell;
        },
        &[(Severity::Risky, "health_unproven", "service mailer"), (Severity::Risky, "alarms_none", "alarms")],
    ),
    (
        "no health check, a short bake and an alarm",
        |policy, seen| {
            worker_container(seen).health_check = false;
            target_policy(policy).strategy.bake = Seconds(299);
        },
        &[(Severity::Advice, "health_unproven", "service mailer")],
    ),
    (
        "no health check, a long bake and no alarm",
        |policy, seen| {
            worker_container(seen).health_check = false;
            target_policy(policy).strategy.bake = Seconds(300);
            target_policy(policy).alarms.clear();
        },
        &[(Severity::Risky, "alarms_none", "alarms"), (Severity::Advice, "health_unproven", "service mailer")],
    ),
    (
        "a health check of another container only",
        |_, seen| {
            worker_container(seen).health_check = false;
            containers(seen).insert("proxy".to_owned(), InspectedContainer { health_check: true, ..container() });
        },
        &[(Severity::Advice, "health_unproven", "service mailer")],
    ),
    (
        "a health check of a container that is not essential",
        |_, seen| worker_container(seen).essential = false,
        &[(Severity::Advice, "health_unproven", "service mailer")],
    ),
    (
        "another container without a health check",
        |_, seen| _ = containers(seen).insert("proxy".to_owned(), container()),
        &[],
    ),
];

/// One change to the worker behind a load balancer.
const BALANCED_CASES: CaseTable = &[
    (
        "a service on no balancer",
        |_, seen| worker_service(seen).groups.clear(),
        &[(Severity::Broken, "target_group_unattached", "service mailer")],
    ),
    (
        "a service on two groups",
        |_, seen| worker_service(seen).groups.push("arn:aws:e:r:1:targetgroup/admin/1".to_owned()),
        &[(Severity::Risky, "target_group_besides", "service mailer")],
    ),
    (
        "no target group",
        |_, seen| workload(seen).groups[0] = Reading::Known(None),
        &[(Severity::Broken, "target_group_missing", "target group mailer")],
    ),
    (
        "a group in no rule",
        |_, seen| worker_group(seen).balancers.clear(),
        &[(Severity::Broken, "target_group_unattached", "target group mailer")],
    ),
    (
        "no time to drain",
        |_, seen| worker_group(seen).deregistration_delay_s = 0,
        &[(Severity::Risky, "drain_none", "target group mailer")],
    ),
    (
        "a drain that outlasts the replacement",
        |_, seen| worker_group(seen).deregistration_delay_s = 900,
        &[(Severity::Risky, "drain_outlasts_deadline", "target group mailer")],
    ),
    (
        "ELB's own drain",
        |_, seen| worker_group(seen).deregistration_delay_s = 300,
        &[(Severity::Advice, "drain_long", "target group mailer")],
    ),
    (
        "a health check slower than the deadline",
        |_, seen| (worker_group(seen).check_interval_s, worker_group(seen).healthy_threshold) = (300, 3),
        &[(Severity::Broken, "health_check_slow", "target group mailer")],
    ),
    (
        "a health check slower than the bake",
        |_, seen| (worker_group(seen).check_interval_s, worker_group(seen).unhealthy_threshold) = (300, 3),
        &[(Severity::Risky, "health_check_blind", "target group mailer")],
    ),
    (
        "a slow start that outlasts the bake",
        |_, seen| worker_group(seen).slow_start_s = 601,
        &[(Severity::Risky, "slow_start_outlasts_hold", "target group mailer")],
    ),
    ("a slow start that is over before the bake is", |_, seen| worker_group(seen).slow_start_s = 600, &[]),
];

const FAMILY: &str = "template family shop-mailer";

/// The worker behind a load balancer, whose policy names a family of templates.
fn with_template(policy: &mut Policy, seen: &mut InspectionResult) {
    behind_load_balancer(policy, seen);
    name_template(policy, seen, "shop-mailer");
}

/// One change to the newest template.
const TEMPLATE_CASES: CaseTable = &[
    ("a template like what runs", |_, _| {}, &[]),
    ("no template", |_, seen| seen.template = Reading::Known(None), &[(Severity::Broken, "template_missing", FAMILY)]),
    (
        "another network mode",
        |_, seen| template(seen).network_mode = "bridge".to_owned(),
        &[(Severity::Broken, "template_network_mode", FAMILY)],
    ),
    (
        "no Fargate",
        |_, seen| template(seen).launch_types.clear(),
        &[(Severity::Broken, "template_launch_type", FAMILY)],
    ),
    (
        "another container",
        |_, seen| template(seen).containers = BTreeMap::from([("web".to_owned(), container())]),
        &[(Severity::Broken, "template_without_container", FAMILY)],
    ),
    (
        "no port",
        |_, seen| template(seen).containers.values_mut().for_each(|container| container.ports.clear()),
        &[(Severity::Broken, "template_port_unmapped", FAMILY)],
    ),
];

const BALANCER: (&str, &str) = ("LoadBalancer", "app/shop/50dc");

/// One change to the alarms of the worker behind a load balancer: they are judged as those of a pair, but for sides.
const ALARM_CASES: CaseTable = &[
    ("no alarms", |policy, _| target_policy(policy).alarms.clear(), &[(Severity::Risky, "alarms_none", "alarms")]),
    (
        "an alarm that is not there",
        |_, seen| known_mut(&mut seen.alarms).clear(),
        &[(Severity::Broken, "alarm_missing", "alarm queue-age")],
    ),
    (
        "an alarm that fires",
        |_, seen| known_mut(&mut seen.alarms).values_mut().for_each(|alarm| alarm.state = "ALARM".to_owned()),
        &[(Severity::Risky, "alarm_fires", "alarm queue-age")],
    ),
    (
        "an alarm slower than the bake",
        |policy, _| target_policy(policy).strategy.bake = Seconds(179),
        &[(Severity::Risky, "alarm_slower_than_bake", "alarm queue-age")],
    ),
    (
        "an alarm over its target group",
        |_, seen| watch_target_group(seen, &[BALANCER, ("TargetGroup", "targetgroup/mailer/73e2")]),
        &[],
    ),
    ("an alarm over the whole load balancer", |_, seen| watch_target_group(seen, &[BALANCER]), &[]),
    (
        "an alarm over another target group",
        |_, seen| watch_target_group(seen, &[BALANCER, ("TargetGroup", "targetgroup/web/1")]),
        &[(Severity::Risky, "alarm_elsewhere", "alarm queue-age")],
    ),
    (
        "an alarm over its target group behind another balancer",
        |_, seen| {
            let dimensions = [("LoadBalancer", "app/old/1"), ("TargetGroup", "targetgroup/mailer/73e2")];
            watch_target_group(seen, &dimensions);
        },
        &[(Severity::Broken, "alarm_never_fires", "alarm queue-age")],
    ),
];

#[track_caller]
fn assert_cases(cases: CaseTable, sound: fn(&mut Policy, &mut InspectionResult)) {
    for (change, mutate, expected) in cases {
        let found = findings(|policy, seen| {
            sound(policy, seen);
            mutate(policy, seen);
        });
        let actual: Vec<_> = found.iter().map(|it| (it.severity, it.check.as_str(), it.subject.as_str())).collect();
        assert_eq!(actual, *expected, "{change}: {found:#?}");
        for Finding { problem, remedy, .. } in &found {
            assert!(!problem.is_empty() && !remedy.is_empty(), "{change}: {found:#?}");
            let text = format!("{problem} {remedy}");
            let words: BTreeSet<&str> = text.split(|letter: char| !letter.is_alphanumeric()).collect();
            let of_a_pair = ["side", "sides", "blue", "green"].into_iter().find(|word| words.contains(word));
            assert_eq!(of_a_pair, None, "{change}: there are no sides: {text}");
        }
    }
}

#[test]
fn each_misconfiguration_of_a_worker_yields_exactly_its_findings() {
    assert_cases(WORKER_CASES, |_, _| {});
    assert_cases(HEALTH_CASES, |_, _| {});
}

#[test]
fn each_misconfiguration_behind_a_load_balancer_yields_exactly_its_findings() {
    assert_cases(BALANCED_CASES, behind_load_balancer);
    assert_cases(ALARM_CASES, behind_load_balancer);
}

#[test]
fn each_template_that_does_not_fit_a_service_yields_exactly_its_findings() {
    assert_cases(TEMPLATE_CASES, with_template);
}

#[test]
fn a_service_that_cannot_be_updated_is_reported_with_its_counts_and_what_would_do() {
    let cases = [
        ((3, 67, 133), ["desired count of 3", "67 keeps 3", "133 allows 3"], ["134 or more", "66 or less"]),
        ((1, 1, 199), ["desired count of 1", "1 keeps 1", "199 allows 1"], ["200 or more", "0 or less"]),
        ((10, 100, 105), ["desired count of 10", "100 keeps 10", "105 allows 10"], ["110 or more", "90 or less"]),
    ];
    for ((desired, minimum, maximum), problem, remedy) in cases {
        let found = findings(|_, seen| scale(seen, desired, minimum, maximum));
        let [finding] = found.as_slice() else { panic!("one finding: {found:#?}") };
        assert!(problem.iter().all(|words| finding.problem.contains(words)), "{}", finding.problem);
        assert!(remedy.iter().all(|words| finding.remedy.contains(words)), "{}", finding.remedy);
    }
}

#[test]
fn downtime_is_reported_with_the_time_that_old_tasks_take_to_stop() {
    let found = findings(|_, seen| scale(seen, 1, 0, 100));
    assert!(found[0].problem.contains("up to 90s"), "{}", found[0].problem);
}

/// Two data points of a minute, three minutes until CloudWatch has them, one until they are answered, and 30 minutes
/// until the rollback's deadline.
#[test]
fn a_recovery_time_includes_the_replacement_by_the_version_before() {
    let found = |stated: u64| findings(|policy, _| target_policy(policy).recovery_time = Some(Seconds(stated)));
    assert_eq!(found(36 * 60), []);
    let exceeded = found(36 * 60 - 1);
    let [finding] = exceeded.as_slice() else { panic!("one finding: {exceeded:#?}") };
    assert_eq!((finding.severity, finding.check.as_str()), (Severity::Risky, "recovery_time_exceeded"));
    assert!(finding.problem.contains("the return of the version before"), "{}", finding.problem);
}

/// The steps of a dependent that is replaced in place take no time, and a target in place keeps no old side warm.
#[test]
fn no_old_version_is_kept_warm_in_place() {
    let with_dependent = |policy: &mut Policy| {
        let api = policy.services[&name("api")].clone();
        policy.services.insert(name("web"), ServicePolicy { depends_on: vec![name("api")], ..api });
        let prod = policy.environments.get_mut(&name("prod")).expect("it is there");
        let target = prod.targets[&name("api")].clone();
        prod.targets.insert(name("web"), target);
        prod.entry.rollback_train_together = true;
    };
    assert_eq!(findings(|policy, _| with_dependent(policy)), []);

    // A pair on which a worker depends: kept warm for as long as the worker's bake.
    let (mut worker_policy, _) = worker();
    with_dependent(&mut worker_policy);
    let pair = target_policy(&mut policy()).clone();
    *target_policy(&mut worker_policy) = pair;
    target_policy(&mut worker_policy).strategy.keep_warm = Seconds(10 * 60);
    assert_eq!(judge(&worker_policy, &target(), &seen()), []);
    target_policy(&mut worker_policy).strategy.keep_warm = Seconds(10 * 60 - 1);
    let found = judge(&worker_policy, &target(), &seen());
    assert_eq!(found.iter().map(|finding| finding.check.as_str()).collect::<Vec<_>>(), ["keep_warm_short"]);
}

#[test]
fn terraform_ignores_only_the_task_definition() {
    let (mut policy, mut seen) = worker();
    behind_load_balancer(&mut policy, &mut seen);
    let ignored = terraform::ignored_attributes(target_policy(&mut policy), &seen);
    let ignored: Vec<_> = ignored.iter().map(|it| (it.resource.as_str(), it.name.as_str(), &it.attributes)).collect();
    assert_eq!(ignored, [("aws_ecs_service", "shop-prod/mailer", &vec!["task_definition".to_owned()])]);
}
