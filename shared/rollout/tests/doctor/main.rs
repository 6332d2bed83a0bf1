//! The doctor: a sound account has no findings, and each thing that is changed in it has the finding that it should.

mod account;
mod alarms_and_account;
mod images;
mod in_place;
mod legs;
mod recovery;
mod templates;

use account::*;
use rollout::doctor::inspected::{
    AlarmDetails, AlarmKind, FargateUsage, IamScope, InspectedRule, InspectionResult, Metric,
};
use rollout::doctor::{Finding, Severity, inspection, judge, terraform};
use rollout::notification::{FactFilter, NotificationPolicy, Receiver};
use rollout::policy::{Hook, HookAction, HookPoint, MissingData, Policy, RegistryPolicy};
use rollout::{Reading, Seconds, Slot, TargetId};

fn findings(change: impl FnOnce(&mut Policy, &mut InspectionResult)) -> Vec<Finding> {
    let (mut policy, mut seen) = (policy(), seen());
    change(&mut policy, &mut seen);
    judge(&policy, &target(), &seen)
}

#[test]
fn a_well_configured_account_has_no_findings() {
    assert_eq!(findings(|_, _| {}), []);
}

/// The policy's alarms are a composite one, and this many of its own.
fn use_composite_alarm(policy: &mut Policy, seen: &mut InspectionResult, rule: &str, kept: usize) {
    let mut either = target_policy(policy).alarms[0].clone();
    either.name = "either".to_owned();
    target_policy(policy).alarms =
        vec![either].into_iter().chain(target_policy(policy).alarms[..kept].iter().cloned()).collect();
    let kind = AlarmKind::Composite { rule: rule.to_owned() };
    known_mut(&mut seen.alarms).insert("either".to_owned(), AlarmDetails { kind, ..alarm(Slot::Blue) });
}

/// A metric of green's service.
fn service_metric(name: &str) -> Metric {
    let dimensions = [("ClusterName", "shop-prod"), ("ServiceName", "api-green")];
    Metric {
        namespace: "AWS/ECS".to_owned(),
        name: name.to_owned(),
        dimensions: dimensions.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    }
}

type Mutation = fn(&mut Policy, &mut InspectionResult);
/// Severity, check and place.
type ExpectedFinding = (Severity, &'static str, &'static str);
type CaseTable = &'static [(&'static str, Mutation, &'static [ExpectedFinding])];

/// One change, and all that is found of it: severity, check, place.
const CASES: CaseTable = &[
    (
        "no service",
        |_, seen| pair(seen).green.service = Reading::Known(None),
        &[(Severity::Broken, "service_missing", "service api-green")],
    ),
    (
        "no cluster",
        |_, seen| {
            for side in sides(seen) {
                let reason = "DescribeServices: ClusterNotFoundException: Cluster not found.".to_owned();
                side.service = Reading::Unknown(reason.clone());
                side.definition = Reading::Unknown(reason);
            }
        },
        &[(Severity::Broken, "cluster_missing", "cluster shop-prod")],
    ),
    (
        "all weight on the side without tasks",
        |_, seen| *rule(seen) = weights(&[(Slot::Blue, 0), (Slot::Green, 100)]),
        &[(Severity::Broken, "weight_without_health", "rule 9683 of shop")],
    ),
    (
        "a service on its way out",
        |_, seen| service(seen).status = "DRAINING".to_owned(),
        &[(Severity::Broken, "service_inactive", "service api-green")],
    ),
    (
        "CodeDeploy's service",
        |_, seen| service(seen).controller = "CODE_DEPLOY".to_owned(),
        &[(Severity::Broken, "service_controller", "service api-green")],
    ),
    (
        "ECS shifts by itself",
        |_, seen| service(seen).strategy = "BLUE_GREEN".to_owned(),
        &[(Severity::Broken, "service_strategy", "service api-green")],
    ),
    (
        "a daemon",
        |_, seen| service(seen).scheduling = "DAEMON".to_owned(),
        &[(Severity::Broken, "service_scheduling", "service api-green")],
    ),
    (
        "a service on no balancer",
        |_, seen| service(seen).groups.clear(),
        &[(Severity::Broken, "target_group_unattached", "service api-green")],
    ),
    (
        "a service on the other side's group",
        |_, seen| service(seen).groups = vec![group(Slot::Blue)],
        &[(Severity::Broken, "target_group_unattached", "service api-green")],
    ),
    (
        "a service on two groups",
        |_, seen| service(seen).groups.push("arn:aws:e:r:1:targetgroup/admin/1".to_owned()),
        &[(Severity::Risky, "target_group_besides", "service api-green")],
    ),
    (
        "no room for an update",
        |_, seen| service(seen).maximum_percent = 100,
        &[(Severity::Broken, "service_cannot_update", "service api-green")],
    ),
    (
        "ECS goes back by itself",
        |_, seen| service(seen).breaker_rolls_back = true,
        &[(Severity::Advice, "service_rolls_back", "service api-green")],
    ),
    (
        "ECS goes back by its own alarms",
        |_, seen| service(seen).alarms_roll_back = true,
        &[(Severity::Advice, "service_rolls_back", "service api-green")],
    ),
    (
        "no breaker",
        |_, seen| service(seen).breaker = false,
        &[(Severity::Advice, "service_without_breaker", "service api-green")],
    ),
    (
        "another container",
        |policy, _| named_pair(policy).container = "app".to_owned(),
        &[
            (Severity::Broken, "container_missing", "service api-blue"),
            (Severity::Broken, "container_missing", "service api-green"),
        ],
    ),
    (
        "another repository",
        |policy, _| policy.services.get_mut(&name("api")).expect("it is there").repository = "shop/web".to_owned(),
        &[
            (Severity::Risky, "image_of_other_repository", "service api-blue"),
            (Severity::Risky, "image_of_other_repository", "service api-green"),
        ],
    ),
    (
        "services in different subnets",
        |_, seen| _ = service(seen).settings.insert("subnets".to_owned(), "subnet-0c".to_owned()),
        &[(Severity::Risky, "sides_differ", "service api-blue and api-green")],
    ),
    (
        "a grace period on one side alone",
        |_, seen| _ = service(seen).settings.insert("health check grace period".to_owned(), "60s".to_owned()),
        &[(Severity::Risky, "sides_differ", "service api-blue and api-green")],
    ),
    (
        "no target group",
        |_, seen| pair(seen).green.groups[0] = Reading::Known(None),
        &[(Severity::Broken, "target_group_missing", "target group api-green")],
    ),
    (
        "a group in no rule",
        |_, seen| green_group(seen).balancers.clear(),
        &[(Severity::Broken, "target_group_unattached", "target group api-green")],
    ),
    (
        "no time to drain",
        |_, seen| both_groups(seen, |group| group.deregistration_delay_s = 0),
        &[
            (Severity::Risky, "drain_none", "target group api-blue"),
            (Severity::Risky, "drain_none", "target group api-green"),
        ],
    ),
    (
        "ELB's own drain",
        |_, seen| both_groups(seen, |group| group.deregistration_delay_s = 300),
        &[
            (Severity::Advice, "drain_long", "target group api-blue"),
            (Severity::Advice, "drain_long", "target group api-green"),
        ],
    ),
    (
        "a drain without an end",
        |_, seen| both_groups(seen, |group| group.deregistration_delay_s = 3600),
        &[
            (Severity::Risky, "drain_outlasts_deadline", "target group api-blue"),
            (Severity::Risky, "drain_outlasts_deadline", "target group api-green"),
        ],
    ),
    (
        "a health check slower than the deadline",
        |_, seen| both_groups(seen, |group| (group.check_interval_s, group.healthy_threshold) = (300, 10)),
        &[
            (Severity::Broken, "health_check_slow", "target group api-blue"),
            (Severity::Broken, "health_check_slow", "target group api-green"),
        ],
    ),
    (
        "a health check slower than every hold",
        |_, seen| both_groups(seen, |group| (group.check_interval_s, group.unhealthy_threshold) = (300, 3)),
        &[
            (Severity::Risky, "health_check_blind", "target group api-blue"),
            (Severity::Risky, "health_check_blind", "target group api-green"),
        ],
    ),
    (
        "sides that differ",
        |_, seen| green_group(seen).check_path = "/".to_owned(),
        &[(Severity::Risky, "sides_differ", "target group api-blue and api-green")],
    ),
    (
        "sides that differ in what nobody here has a name for",
        |_, seen| {
            let others = &mut green_group(seen).others;
            others.insert("load_balancing.algorithm.type".to_owned(), "least_outstanding_requests".to_owned());
            others.insert("target_group_health.dns_failover.minimum_healthy_targets.count".to_owned(), "2".to_owned());
        },
        &[(Severity::Risky, "sides_differ", "target group api-blue and api-green")],
    ),
    (
        "a slow start that outlasts the first step",
        |_, seen| both_groups(seen, |group| group.slow_start_s = 301),
        &[
            (Severity::Risky, "slow_start_outlasts_hold", "target group api-blue"),
            (Severity::Risky, "slow_start_outlasts_hold", "target group api-green"),
        ],
    ),
    (
        "a slow start that is over before the first step is",
        |_, seen| both_groups(seen, |group| group.slow_start_s = 300),
        &[],
    ),
    (
        "both sides under one name of Service Connect",
        |_, seen| {
            for side in sides(seen) {
                let service = known_mut(&mut side.service).as_mut().expect("it is there");
                service.other_endpoints.insert("the Service Connect name api in shop".to_owned());
            }
        },
        &[(Severity::Broken, "sides_share_a_name", "service api-blue and api-green")],
    ),
    (
        "both sides in one registry of Cloud Map",
        |_, seen| {
            for side in sides(seen) {
                let service = known_mut(&mut side.service).as_mut().expect("it is there");
                service.other_endpoints.insert("the Cloud Map registry srv-utcrh6wavdkggqtk".to_owned());
            }
        },
        &[(Severity::Broken, "sides_share_a_name", "service api-blue and api-green")],
    ),
    (
        "one side with a name of its own in Service Connect",
        |_, seen| _ = service(seen).other_endpoints.insert("the Service Connect name green in shop".to_owned()),
        &[],
    ),
    (
        "one side is scaled",
        |_, seen| pair(seen).green.scaling = Reading::Known(None),
        &[(Severity::Risky, "scaling_on_one_side", "autoscaling of service api-green")],
    ),
    (
        "no rule",
        |_, seen| {
            let missing = Reading::Unknown("DescribeRules: RuleNotFound".to_owned());
            pair(seen).rules.insert(RULE.to_owned(), missing);
        },
        &[(Severity::Broken, "rule_missing", "rule 9683 of shop")],
    ),
    (
        "a rule with one side",
        |_, seen| *rule(seen) = weights(&[(Slot::Blue, 100)]),
        &[(Severity::Broken, "rule_lacks_group", "rule 9683 of shop")],
    ),
    (
        "a rule that redirects",
        |_, seen| *rule(seen) = InspectedRule::default(),
        &[
            (Severity::Broken, "rule_lacks_group", "rule 9683 of shop"),
            (Severity::Broken, "rule_lacks_group", "rule 9683 of shop"),
        ],
    ),
    (
        "foreign target groups in the rule",
        |_, seen| rule(seen).groups.push(("arn:aws:e:r:1:targetgroup/canary/1".to_owned(), 0)),
        &[(Severity::Broken, "rule_with_foreign_groups", "rule 9683 of shop")],
    ),
    (
        "nobody is live",
        |_, seen| *rule(seen) = weights(&[(Slot::Blue, 0), (Slot::Green, 0)]),
        &[(Severity::Broken, "weights_none", "rule 9683 of shop")],
    ),
    (
        "a sticky rule",
        |_, seen| rule(seen).sticky_s = Some(3600),
        &[(Severity::Risky, "rule_sticky", "rule 9683 of shop")],
    ),
    (
        "sticky targets behind a rule that is not",
        |_, seen| both_groups(seen, |group| group.sticky = true),
        &[
            (Severity::Broken, "rule_refuses_weights", "rule 9683 of shop"),
            (Severity::Broken, "rule_refuses_weights", "rule 9683 of shop"),
        ],
    ),
    (
        "rules that disagree",
        |policy, seen| {
            target_policy(policy).resources.traffic[0].rules.push(OTHER_RULE.to_owned());
            let rule = weights(&[(Slot::Blue, 0), (Slot::Green, 100)]);
            pair(seen).rules.insert(OTHER_RULE.to_owned(), Reading::Known(rule));
        },
        &[
            (Severity::Broken, "weight_without_health", "rule 1111 of shop"),
            (Severity::Broken, "rules_disagree", "rule 9683 of shop, rule 1111 of shop"),
        ],
    ),
    (
        "a rule that nobody moves",
        |_, seen| _ = known_mut(&mut pair(seen).others).insert(OTHER_RULE.to_owned(), weights(&[(Slot::Blue, 1)])),
        &[(Severity::Risky, "rule_left_out", "rule 1111 of shop")],
    ),
    (
        "a listener that nobody moves",
        |_, seen| _ = known_mut(&mut pair(seen).others).insert(LISTENER.to_owned(), weights(&[(Slot::Green, 1)])),
        &[(Severity::Advice, "default_left_out", "listener f2f7 of shop")],
    ),
    (
        "a rule that only attaches",
        |_, seen| _ = known_mut(&mut pair(seen).others).insert(OTHER_RULE.to_owned(), weights(&[(Slot::Blue, 0)])),
        &[],
    ),
];

#[test]
fn each_misconfiguration_yields_exactly_its_findings() {
    for (change, mutate, expected) in CASES.iter().chain(alarms_and_account::CASES) {
        let found = findings(mutate);
        let actual: Vec<_> = found.iter().map(|it| (it.severity, it.check.as_str(), it.subject.as_str())).collect();
        assert_eq!(actual, *expected, "{change}: {found:#?}");
        assert!(found.iter().all(|it| !it.problem.is_empty() && !it.remedy.is_empty()), "{change}: {found:#?}");
    }
}

#[test]
fn findings_are_sorted_by_severity() {
    let found = findings(|_, seen| {
        service(seen).breaker = false;
        seen.repository = Reading::Known(None);
        rule(seen).sticky_s = Some(60);
        seen.concurrency = Reading::Unknown("denied".to_owned());
    });
    let severities: Vec<Severity> = found.iter().map(|finding| finding.severity).collect();
    assert_eq!(severities, [Severity::Broken, Severity::Risky, Severity::Unread, Severity::Advice]);
}

#[test]
fn inspection_covers_only_what_the_policy_names() {
    let target_policy = inspection(&policy(), &target()).expect("the policy has it");
    assert_eq!(target_policy.repository, "shop/api");
    assert_eq!(target_policy.alarms.into_iter().collect::<Vec<_>>(), ["blue-5xx", "green-5xx"]);
    let other = TargetId::parse("shop/web/prod").expect("a target");
    assert_eq!(inspection(&policy(), &other), None);
}

#[test]
fn the_policys_registry_is_inspected() {
    let mut policy = policy();
    let own = inspection(&policy, &target()).expect("the policy has it");
    assert_eq!(own.registry, RegistryPolicy::default());
    let elsewhere = RegistryPolicy { account: Some("999999999999".to_owned()), region: Some("us-west-2".to_owned()) };
    policy.services.get_mut(&name("api")).expect("it is there").registry = elsewhere.clone();
    let other = inspection(&policy, &target()).expect("the policy has it");
    assert_eq!((other.registry, other.repository.as_str()), (elsewhere, "shop/api"));
}

#[test]
fn a_missing_repository_is_reported_with_its_registry() {
    let cases = [
        (None, None, "in this account and Region"),
        (Some("999999999999"), None, "in account 999999999999 and this Region"),
        (None, Some("us-west-2"), "in this account in us-west-2"),
        (Some("999999999999"), Some("us-west-2"), "in account 999999999999 in us-west-2"),
    ];
    for (account, region, words) in cases {
        let found = findings(|policy, seen| {
            let rules = policy.services.get_mut(&name("api")).expect("it is there");
            rules.registry = RegistryPolicy { account: account.map(str::to_owned), region: region.map(str::to_owned) };
            seen.repository = Reading::Known(None);
        });
        let [finding] = found.as_slice() else { panic!("one finding: {found:#?}") };
        assert_eq!(finding.check, "repository_missing");
        assert!(finding.problem.contains(words), "{}", finding.problem);
    }
}

#[test]
fn terraform_ignores_exactly_what_a_deployment_changes() {
    let mut policy = policy();
    target_policy(&mut policy).resources.traffic[0].rules.push(LISTENER.to_owned());
    let ignored_attributes = terraform::ignored_attributes(target_policy(&mut policy), &seen());
    let actual: Vec<_> = ignored_attributes
        .iter()
        .map(|it| (it.resource.as_str(), it.name.as_str(), it.attributes.join(", ")))
        .collect();
    let expected = [
        ("aws_ecs_service", "shop-prod/api-blue", "task_definition, desired_count"),
        ("aws_ecs_service", "shop-prod/api-green", "task_definition, desired_count"),
        ("aws_appautoscaling_target", "service/shop-prod/api-blue", "min_capacity, max_capacity, suspended_state"),
        ("aws_appautoscaling_target", "service/shop-prod/api-green", "min_capacity, max_capacity, suspended_state"),
        ("aws_lb_listener_rule", RULE, "action"),
        ("aws_lb_listener", LISTENER, "default_action"),
    ];
    assert_eq!(actual, expected.map(|(resource, name, attributes)| (resource, name, attributes.to_owned())));
}
