//! The doctor: a sound account has no findings, and each thing that is changed in it has the finding that it should.

mod account;

use account::*;
use rollout::doctor::alarms::children;
use rollout::doctor::seen::{AlarmKind, AlarmSeen, FargateSeen, Inspected, Reach, RepositorySeen, RuleSeen};
use rollout::doctor::{Finding, Severity, inspection, judge, terraform};
use rollout::policy::{Facts, Hook, HookAction, HookPoint, MissingData, NotificationPolicy, Policy, Receiver};
use rollout::{Reading, Seconds, Slot, TargetId};

fn findings(change: impl FnOnce(&mut Policy, &mut Inspected)) -> Vec<Finding> {
    let (mut policy, mut seen) = (policy(), seen());
    change(&mut policy, &mut seen);
    judge(&policy, &target(), &seen)
}

#[test]
fn a_sound_account_has_no_findings() {
    assert_eq!(findings(|_, _| {}), []);
}

type Change = fn(&mut Policy, &mut Inspected);
/// Severity, check and place.
type Expected = (Severity, &'static str, &'static str);

/// One change, and all that is found of it: severity, check, place.
const TABLE: &[(&str, Change, &[Expected])] = &[
    (
        "no service",
        |_, seen| seen.green.service = Reading::Known(None),
        &[(Severity::Broken, "service_missing", "service api-green")],
    ),
    (
        "no cluster",
        |_, seen| {
            for side in [&mut seen.blue, &mut seen.green] {
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
        |_, seen| service(seen).rolls_back = true,
        &[(Severity::Advice, "service_rolls_back", "service api-green")],
    ),
    (
        "no breaker",
        |_, seen| service(seen).breaker = false,
        &[(Severity::Advice, "service_without_breaker", "service api-green")],
    ),
    (
        "another container",
        |policy, _| wanted(policy).pair.container = "app".to_owned(),
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
        "no target group",
        |_, seen| seen.green.group = Reading::Known(None),
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
        "one side is scaled",
        |_, seen| seen.green.scaling = Reading::Known(None),
        &[(Severity::Risky, "scaling_on_one_side", "autoscaling of service api-green")],
    ),
    (
        "no rule",
        |_, seen| _ = seen.rules.insert(RULE.to_owned(), Reading::Unknown("DescribeRules: RuleNotFound".to_owned())),
        &[(Severity::Broken, "rule_missing", "rule 9683 of shop")],
    ),
    (
        "a rule with one side",
        |_, seen| *rule(seen) = weights(&[(Slot::Blue, 100)]),
        &[(Severity::Broken, "rule_lacks_group", "rule 9683 of shop")],
    ),
    (
        "a rule that redirects",
        |_, seen| *rule(seen) = RuleSeen::default(),
        &[
            (Severity::Broken, "rule_lacks_group", "rule 9683 of shop"),
            (Severity::Broken, "rule_lacks_group", "rule 9683 of shop"),
        ],
    ),
    (
        "strangers in the rule",
        |_, seen| rule(seen).groups.push(("arn:aws:e:r:1:targetgroup/canary/1".to_owned(), 0)),
        &[(Severity::Broken, "rule_with_strangers", "rule 9683 of shop")],
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
            wanted(policy).pair.rules.push(OTHER.to_owned());
            seen.rules.insert(OTHER.to_owned(), Reading::Known(weights(&[(Slot::Blue, 0), (Slot::Green, 100)])));
        },
        &[
            (Severity::Broken, "weight_without_health", "rule 1111 of shop"),
            (Severity::Broken, "rules_disagree", "rule 9683 of shop, rule 1111 of shop"),
        ],
    ),
    (
        "a rule that nobody moves",
        |_, seen| _ = known(&mut seen.others).insert(OTHER.to_owned(), weights(&[(Slot::Blue, 1)])),
        &[(Severity::Risky, "rule_left_out", "rule 1111 of shop")],
    ),
    (
        "a listener that nobody moves",
        |_, seen| _ = known(&mut seen.others).insert(LISTENER.to_owned(), weights(&[(Slot::Green, 1)])),
        &[(Severity::Advice, "default_left_out", "listener f2f7 of shop")],
    ),
    (
        "a rule that only attaches",
        |_, seen| _ = known(&mut seen.others).insert(OTHER.to_owned(), weights(&[(Slot::Blue, 0)])),
        &[],
    ),
    ("no alarms wanted", |policy, _| wanted(policy).alarms.clear(), &[(Severity::Risky, "alarms_none", "alarms")]),
    (
        "an alarm that is not there",
        |_, seen| _ = known(&mut seen.alarms).remove("green-5xx"),
        &[(Severity::Broken, "alarm_missing", "alarm green-5xx"), (Severity::Broken, "alarms_blind", "alarms")],
    ),
    (
        "an alarm that fires",
        |_, seen| green_alarm(seen).state = "ALARM".to_owned(),
        &[(Severity::Risky, "alarm_fires", "alarm green-5xx")],
    ),
    (
        "alarms for one side",
        |policy, _| wanted(policy).alarms.truncate(1),
        &[(Severity::Broken, "alarms_blind", "alarms")],
    ),
    (
        "alarms that cannot tell",
        |_, seen| {
            for alarm in known(&mut seen.alarms).values_mut() {
                let AlarmKind::Metric(metric) = &mut alarm.kind else { panic!("a metric alarm") };
                metric.metrics[0].dimensions.remove("TargetGroup");
            }
        },
        &[(Severity::Risky, "alarms_cannot_tell", "alarms")],
    ),
    (
        "a target group without its balancer",
        |_, seen| _ = green_metric(seen).metrics[0].dimensions.remove("LoadBalancer"),
        &[(Severity::Broken, "alarm_never_fires", "alarm green-5xx")],
    ),
    (
        "a metric that no target group has",
        |_, seen| green_metric(seen).metrics[0].name = "HTTPCode_ELB_5XX_Count".to_owned(),
        &[(Severity::Broken, "alarm_never_fires", "alarm green-5xx")],
    ),
    (
        "behind another balancer",
        |_, seen| {
            _ = green_metric(seen).metrics[0].dimensions.insert("LoadBalancer".to_owned(), "app/old/1".to_owned())
        },
        &[(Severity::Broken, "alarm_never_fires", "alarm green-5xx")],
    ),
    (
        "below nothing",
        |_, seen| {
            (green_metric(seen).comparison, green_metric(seen).threshold) = ("LessThanThreshold".to_owned(), Some(0.0))
        },
        &[(Severity::Broken, "alarm_never_fires", "alarm green-5xx")],
    ),
    (
        "at nothing or more",
        |_, seen| {
            (green_metric(seen).comparison, green_metric(seen).threshold) =
                ("GreaterThanOrEqualToThreshold".to_owned(), Some(0.0))
        },
        &[(Severity::Broken, "alarm_always_fires", "alarm green-5xx")],
    ),
    (
        "silence that is waited for",
        |_, seen| green_metric(seen).treat_missing = "missing".to_owned(),
        &[(Severity::Broken, "alarm_silent_when_good", "alarm green-5xx")],
    ),
    (
        "silence that is health",
        |policy, seen| {
            wanted(policy).alarms[1].missing = MissingData::Healthy;
            green_metric(seen).treat_missing = "missing".to_owned();
        },
        &[],
    ),
    (
        "silence that is failure",
        |policy, seen| {
            wanted(policy).alarms[1].missing = MissingData::Unhealthy;
            green_metric(seen).treat_missing = "missing".to_owned();
        },
        &[(Severity::Broken, "alarm_silent_when_good", "alarm green-5xx")],
    ),
    (
        "silence that is filled",
        |_, seen| {
            green_metric(seen).treat_missing = "missing".to_owned();
            green_metric(seen).expressions = vec!["100 * FILL(errors, 0) / requests".to_owned()];
        },
        &[],
    ),
    (
        "fires when idle",
        |_, seen| green_metric(seen).treat_missing = "breaching".to_owned(),
        &[(Severity::Broken, "alarm_fires_when_idle", "alarm green-5xx")],
    ),
    (
        "stays as it was",
        |_, seen| green_metric(seen).treat_missing = "ignore".to_owned(),
        &[(Severity::Risky, "alarm_stays", "alarm green-5xx")],
    ),
    (
        "a heartbeat of the idle side",
        |_, seen| {
            green_metric(seen).metrics = vec![metric("HealthyHostCount", Slot::Green)];
            (green_metric(seen).comparison, green_metric(seen).threshold) = ("LessThanThreshold".to_owned(), Some(1.0));
        },
        &[(Severity::Broken, "alarm_fires_when_idle", "alarm green-5xx")],
    ),
    (
        "slower than the bake",
        |_, seen| green_metric(seen).datapoints = 15,
        &[
            (Severity::Risky, "alarm_slower_than_bake", "alarm green-5xx"),
            (Severity::Advice, "alarm_slower_than_step", "alarm green-5xx"),
        ],
    ),
    (
        "slower than the first step",
        |_, seen| green_metric(seen).datapoints = 5,
        &[(Severity::Advice, "alarm_slower_than_step", "alarm green-5xx")],
    ),
    (
        "another service's group",
        |_, seen| {
            _ = green_metric(seen).metrics[0]
                .dimensions
                .insert("TargetGroup".to_owned(), "targetgroup/web/1".to_owned())
        },
        &[(Severity::Risky, "alarm_elsewhere", "alarm green-5xx")],
    ),
    (
        "a composite alarm",
        |policy, seen| {
            wanted(policy).alarms.truncate(1);
            wanted(policy).alarms[0].name = "either".to_owned();
            let kind = AlarmKind::Composite { rule: "ALARM(\"blue-5xx\") OR ALARM(green-5xx)".to_owned() };
            known(&mut seen.alarms).insert("either".to_owned(), AlarmSeen { kind, ..alarm(Slot::Blue) });
        },
        &[],
    ),
    (
        "a composite alarm over one that is gone",
        |_, seen| green_alarm(seen).kind = AlarmKind::Composite { rule: "ALARM(gone)".to_owned() },
        &[(Severity::Risky, "alarm_child_missing", "alarm green-5xx")],
    ),
    (
        "no repository",
        |_, seen| seen.repository = Reading::Known(None),
        &[(Severity::Broken, "repository_missing", "repository shop/api")],
    ),
    (
        "tags that move",
        |_, seen| seen.repository = Reading::Known(Some(RepositorySeen { immutable: false })),
        &[(Severity::Advice, "repository_mutable", "repository shop/api")],
    ),
    (
        "a new account",
        |_, seen| seen.concurrency = Reading::Known(10),
        &[(Severity::Risky, "quota_of_functions", "account")],
    ),
    (
        "a Fargate that is full",
        |_, seen| seen.fargate = Reading::Known(Some(FargateSeen { quota: 6.0, used: 5.5 })),
        &[(Severity::Broken, "quota_of_fargate", "service api-green")],
    ),
    (
        "a Fargate that is full of the other side already",
        |_, seen| {
            seen.fargate = Reading::Known(Some(FargateSeen { quota: 6.0, used: 6.0 }));
            service(seen).desired = 2;
        },
        &[],
    ),
    (
        "a Fargate that is full, and instances of one's own",
        |_, seen| {
            seen.fargate = Reading::Known(Some(FargateSeen { quota: 6.0, used: 6.0 }));
            service(seen).on_fargate = false;
        },
        &[],
    ),
    (
        "a Fargate that nobody may ask about",
        |_, seen| seen.fargate = Reading::Unknown("AccessDenied".to_owned()),
        &[(Severity::Unread, "unread", "quota of Fargate")],
    ),
    (
        "a cluster out of reach",
        |_, seen| seen.reach = Some(Reach { clusters: "web-".to_owned(), ..Reach::default() }),
        &[(Severity::Broken, "out_of_reach", "cluster shop-prod")],
    ),
    (
        "a balancer out of reach",
        |_, seen| seen.reach = Some(Reach { load_balancers: "web".to_owned(), ..Reach::default() }),
        &[(Severity::Broken, "out_of_reach", "rule 9683 of shop")],
    ),
    (
        "a repository out of reach",
        |_, seen| seen.reach = Some(Reach { repositories: "web/".to_owned(), ..Reach::default() }),
        &[(Severity::Broken, "out_of_reach", "repository shop/api")],
    ),
    (
        "a role out of reach",
        |_, seen| seen.reach = Some(Reach { task_roles: "web-".to_owned(), ..Reach::default() }),
        &[(Severity::Broken, "out_of_reach", "role tasks/api")],
    ),
    (
        "a hook out of reach",
        |policy, _| {
            let run =
                HookAction::Lambda { function: "arn:aws:lambda:eu-central-1:111122223333:function:smoke".to_owned() };
            let deadline = Seconds(60);
            wanted(policy).hooks.push(Hook {
                name: name("smoke"),
                at: HookPoint::AfterTraffic,
                run,
                deadline,
                forward_only: false,
            });
        },
        &[(Severity::Broken, "out_of_reach", "hook smoke")],
    ),
    (
        "a topic out of reach",
        |policy, _| {
            let receiver = Receiver::Topic("arn:aws:sns:eu-central-1:111122223333:oncall".to_owned());
            policy.notifications.push(NotificationPolicy {
                receiver,
                environments: vec![],
                services: vec![],
                facts: Facts::Attention,
            });
        },
        &[(Severity::Broken, "out_of_reach", "topic oncall")],
    ),
    (
        "what could not be read",
        |_, seen| {
            let throttled = || "Throttling: Rate exceeded".to_owned();
            seen.green.service = Reading::Unknown(throttled());
            seen.alarms = Reading::Unknown(throttled());
        },
        &[(Severity::Unread, "unread", "service api-green"), (Severity::Unread, "unread", "alarms")],
    ),
];

#[test]
fn each_thing_that_is_wrong_is_found_and_nothing_else() {
    for (change, make, expected) in TABLE {
        let found = findings(make);
        let told: Vec<_> = found.iter().map(|it| (it.severity, it.check.as_str(), it.place.as_str())).collect();
        assert_eq!(told, *expected, "{change}: {found:#?}");
        assert!(found.iter().all(|it| !it.what.is_empty() && !it.remedy.is_empty()), "{change}: {found:#?}");
    }
}

#[test]
fn the_worst_comes_first() {
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
fn only_what_the_policy_names_is_to_be_read() {
    let wanted = inspection(&policy(), &target()).expect("the policy has it");
    assert_eq!(wanted.repository, "shop/api");
    assert_eq!(wanted.alarms.into_iter().collect::<Vec<_>>(), ["blue-5xx", "green-5xx"]);
    let other = TargetId::parse("shop/web/prod").expect("a target");
    assert_eq!(inspection(&policy(), &other), None);
}

#[test]
fn terraform_leaves_alone_what_a_deployment_changes_and_nothing_else() {
    let mut policy = policy();
    wanted(&mut policy).pair.rules.push(LISTENER.to_owned());
    let ignored = terraform::ignored(wanted(&mut policy), &seen());
    let told: Vec<_> =
        ignored.iter().map(|it| (it.resource.as_str(), it.name.as_str(), it.attributes.join(", "))).collect();
    let expected = [
        ("aws_ecs_service", "shop-prod/api-blue", "task_definition, desired_count"),
        ("aws_ecs_service", "shop-prod/api-green", "task_definition, desired_count"),
        ("aws_appautoscaling_target", "service/shop-prod/api-blue", "min_capacity, max_capacity, suspended_state"),
        ("aws_appautoscaling_target", "service/shop-prod/api-green", "min_capacity, max_capacity, suspended_state"),
        ("aws_lb_listener_rule", RULE, "action"),
        ("aws_lb_listener", LISTENER, "default_action"),
    ];
    assert_eq!(told, expected.map(|(resource, name, attributes)| (resource, name, attributes.to_owned())));
}

#[test]
fn a_composite_alarm_names_its_parts() {
    let rule = "(ALARM(\"a b\") OR NOT OK(arn:aws:cloudwatch:eu-central-1:111122223333:alarm:c)) AND INSUFFICIENT_DATA( d ) AND TRUE";
    assert_eq!(children(rule).collect::<Vec<_>>(), ["a b", "c", "d"]);
    assert_eq!(children("").count(), 0);
}
