//! What is wrong with alarms, with registries and with the account around a target.

use super::*;

pub(super) const CASES: CaseTable = &[
    (
        "no alarms wanted",
        |policy, _| target_policy(policy).alarms.clear(),
        &[(Severity::Risky, "alarms_none", "alarms")],
    ),
    (
        "an alarm that is not there",
        |_, seen| _ = known_mut(&mut seen.alarms).remove("green-5xx"),
        &[(Severity::Broken, "alarm_missing", "alarm green-5xx"), (Severity::Broken, "alarms_blind", "alarms")],
    ),
    (
        "an alarm that fires",
        |_, seen| green_alarm(seen).state = "ALARM".to_owned(),
        &[(Severity::Risky, "alarm_fires", "alarm green-5xx")],
    ),
    (
        "alarms for one side",
        |policy, _| target_policy(policy).alarms.truncate(1),
        &[(Severity::Broken, "alarms_blind", "alarms")],
    ),
    (
        "alarms that cannot tell",
        |_, seen| {
            for alarm in known_mut(&mut seen.alarms).values_mut() {
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
            target_policy(policy).alarms[1].missing = MissingData::Healthy;
            green_metric(seen).treat_missing = "missing".to_owned();
        },
        &[],
    ),
    (
        "silence that is failure",
        |policy, seen| {
            target_policy(policy).alarms[1].missing = MissingData::Unhealthy;
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
        "an alarm that is set up wrong, and says OK",
        |_, seen| green_alarm(seen).evaluation = Some("EVALUATION_ERROR".to_owned()),
        &[(Severity::Broken, "alarm_not_evaluated", "alarm green-5xx")],
    ),
    (
        "an alarm that CloudWatch cannot evaluate",
        |_, seen| green_alarm(seen).evaluation = Some("EVALUATION_FAILURE".to_owned()),
        &[(Severity::Risky, "alarm_not_evaluated", "alarm green-5xx")],
    ),
    (
        "an alarm over a part of the data",
        |_, seen| green_alarm(seen).evaluation = Some("PARTIAL_DATA".to_owned()),
        &[(Severity::Risky, "alarm_not_evaluated", "alarm green-5xx")],
    ),
    (
        "a composite alarm over one that is set up wrong",
        |policy, seen| {
            use_composite_alarm(policy, seen, "ALARM(blue-5xx) OR ALARM(green-5xx)", 0);
            known_mut(&mut seen.alarms).get_mut("blue-5xx").expect("it is there").evaluation =
                Some("EVALUATION_ERROR".to_owned());
        },
        &[
            (Severity::Broken, "alarm_not_evaluated", "alarm either"),
            (Severity::Advice, "alarm_of_both_sides", "alarm either"),
        ],
    ),
    (
        "a query of metrics",
        |policy, seen| {
            target_policy(policy).alarms.remove(0);
            green_metric(seen).metrics.clear();
            green_metric(seen).expressions = vec!["SELECT SUM(Errors) FROM SCHEMA(Shop, Side)".to_owned()];
        },
        &[],
    ),
    (
        "a query of logs",
        |policy, seen| {
            target_policy(policy).alarms.remove(0);
            green_alarm(seen).kind = AlarmKind::Log { period_s: 60, results: 1 };
        },
        &[],
    ),
    (
        "a query of logs that is run too rarely",
        |policy, seen| {
            target_policy(policy).alarms.remove(0);
            green_alarm(seen).kind = AlarmKind::Log { period_s: 600, results: 2 };
        },
        &[
            (Severity::Risky, "alarm_slower_than_bake", "alarm green-5xx"),
            (Severity::Advice, "alarm_slower_than_step", "alarm green-5xx"),
        ],
    ),
    (
        "a metric of target groups that is new",
        |_, seen| green_metric(seen).metrics[0].name = "TargetQueueLength".to_owned(),
        &[(Severity::Advice, "alarm_metric_unknown", "alarm green-5xx")],
    ),
    (
        "a metric of target groups, misspelt",
        |_, seen| green_metric(seen).metrics[0].name = "HTTPCode_Target_5xx_Count".to_owned(),
        &[(Severity::Broken, "alarm_never_fires", "alarm green-5xx")],
    ),
    (
        "one expression over both groups",
        |policy, seen| {
            target_policy(policy).alarms.remove(0);
            green_metric(seen).metrics =
                [Slot::Blue, Slot::Green].map(|slot| metric("HTTPCode_Target_5XX_Count", slot)).to_vec();
            green_metric(seen).expressions = vec!["FILL(m1, 0) + FILL(m2, 0)".to_owned()];
        },
        &[
            (Severity::Risky, "alarms_cannot_tell", "alarms"),
            (Severity::Advice, "alarm_of_both_sides", "alarm green-5xx"),
        ],
    ),
    (
        "an expression that has no data while one side is idle",
        |_, seen| {
            green_metric(seen).metrics =
                [Slot::Blue, Slot::Green].map(|slot| metric("TargetResponseTime", slot)).to_vec();
            green_metric(seen).expressions = vec!["m2 - m1".to_owned()];
            green_metric(seen).treat_missing = "missing".to_owned();
        },
        &[
            (Severity::Broken, "alarm_silent_when_idle", "alarm green-5xx"),
            (Severity::Risky, "alarms_cannot_tell", "alarms"),
            (Severity::Advice, "alarm_of_both_sides", "alarm green-5xx"),
        ],
    ),
    (
        "a child under NOT does not see",
        |policy, seen| use_composite_alarm(policy, seen, "ALARM(blue-5xx) AND NOT ALARM(green-5xx)", 0),
        &[(Severity::Broken, "alarms_blind", "alarms")],
    ),
    (
        "nothing but a child under NOT",
        |policy, seen| use_composite_alarm(policy, seen, "NOT ALARM(green-5xx)", 0),
        &[(Severity::Risky, "alarms_cannot_tell", "alarms")],
    ),
    (
        "children in an AT_LEAST",
        |policy, seen| {
            let rule =
                "AT_LEAST(2, ALARM, (blue-5xx, \"b c\", arn:aws:cloudwatch:eu-central-1:111122223333:alarm:green-5xx))";
            use_composite_alarm(policy, seen, rule, 0);
        },
        &[
            (Severity::Risky, "alarm_child_missing", "alarm either"),
            (Severity::Advice, "alarm_of_both_sides", "alarm either"),
        ],
    ),
    (
        "a rule that cannot be read",
        |policy, seen| use_composite_alarm(policy, seen, "MOST(blue-5xx)", 0),
        &[(Severity::Unread, "alarm_rule_unread", "alarm either")],
    ),
    (
        "silent children of a composite alarm",
        |policy, seen| {
            use_composite_alarm(policy, seen, "ALARM(green-5xx)", 1);
            green_metric(seen).treat_missing = "missing".to_owned();
        },
        &[],
    ),
    (
        "response times of one side, and silence by default",
        |_, seen| {
            green_metric(seen).metrics = vec![metric("TargetResponseTime", Slot::Green)];
            green_metric(seen).treat_missing = "missing".to_owned();
        },
        &[],
    ),
    (
        "CPU of one side, and silence by default",
        |_, seen| {
            green_metric(seen).metrics = vec![service_metric("CPUUtilization")];
            green_metric(seen).treat_missing = "missing".to_owned();
        },
        &[],
    ),
    (
        "CPU of one side, and silence is trouble",
        |_, seen| {
            green_metric(seen).metrics = vec![service_metric("CPUUtilization")];
            green_metric(seen).treat_missing = "breaching".to_owned();
        },
        &[(Severity::Broken, "alarm_fires_when_idle", "alarm green-5xx")],
    ),
    (
        "memory of one side that is low",
        |_, seen| {
            green_metric(seen).metrics = vec![service_metric("MemoryUtilization")];
            green_metric(seen).comparison = "LessThanThreshold".to_owned();
        },
        &[(Severity::Broken, "alarm_fires_when_idle", "alarm green-5xx")],
    ),
    (
        "requests of one side that are few",
        |_, seen| {
            green_metric(seen).metrics = vec![metric("RequestCount", Slot::Green)];
            green_metric(seen).comparison = "LessThanOrEqualToThreshold".to_owned();
        },
        &[(Severity::Broken, "alarm_fires_when_idle", "alarm green-5xx")],
    ),
    (
        "requests of both sides that are few",
        |_, seen| {
            let both = [Slot::Blue, Slot::Green].map(|slot| metric("RequestCount", slot));
            let mut few = alarm(Slot::Green);
            let AlarmKind::Metric(it) = &mut few.kind else { panic!("a metric alarm") };
            (it.metrics, it.expressions) = (both.to_vec(), vec!["FILL(m1, 0) + FILL(m2, 0)".to_owned()]);
            (it.comparison, it.treat_missing) = ("LessThanThreshold".to_owned(), "breaching".to_owned());
            *green_alarm(seen) = few;
        },
        &[
            (Severity::Risky, "alarms_cannot_tell", "alarms"),
            (Severity::Advice, "alarm_of_both_sides", "alarm green-5xx"),
        ],
    ),
    (
        "requests for each target, without the balancer",
        |_, seen| {
            green_metric(seen).metrics = vec![metric("RequestCountPerTarget", Slot::Green)];
            green_metric(seen).metrics[0].dimensions.remove("LoadBalancer");
        },
        &[],
    ),
    (
        "a composite alarm",
        |policy, seen| {
            target_policy(policy).alarms.truncate(1);
            target_policy(policy).alarms[0].name = "either".to_owned();
            let kind = AlarmKind::Composite { rule: "ALARM(\"blue-5xx\") OR ALARM(green-5xx)".to_owned() };
            known_mut(&mut seen.alarms).insert("either".to_owned(), AlarmDetails { kind, ..alarm(Slot::Blue) });
        },
        &[(Severity::Advice, "alarm_of_both_sides", "alarm either")],
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
        |_, seen| repository(seen).immutable = false,
        &[(Severity::Advice, "repository_mutable", "repository shop/api")],
    ),
    // Issue 10, case 12: `v1.2.3-amd64`, `v1.2.3-arm64`, then the index `v1.2.3`, all taken by `glob: "v*"`.
    (
        "a rule that takes the parts of an index",
        |_, seen| {
            let pushed = [("v1.2.3", true), ("v1.2.3-arm64", true), ("v1.2.3-amd64", true)];
            repository(seen).newest = Reading::Known(tags(&pushed));
        },
        &[(Severity::Risky, "tags_of_architectures", "repository shop/api")],
    ),
    (
        "a rule that takes a version for developers",
        |_, seen| repository(seen).newest = Reading::Known(tags(&[("v1.2.3", true), ("v1.2.3-rc.1", true)])),
        &[],
    ),
    (
        "a rule that excludes the parts",
        |_, seen| {
            let pushed = [("v1.2.3", true), ("v1.2.3-arm64", false), ("v1.2.3-amd64", false)];
            repository(seen).newest = Reading::Known(tags(&pushed));
        },
        &[],
    ),
    // Issue 10, case 12: a `semver` rule and CalVer `2026.01.05`; `1.4` of two parts.
    (
        "a rule that takes nothing of what is pushed",
        |_, seen| repository(seen).newest = Reading::Known(tags(&[("2026.01.05", false), ("1.4", false)])),
        &[(Severity::Risky, "tags_never_taken", "repository shop/api")],
    ),
    ("a repository that is new", |_, seen| repository(seen).newest = Reading::Known(Vec::new()), &[]),
    (
        "tags that cannot be read",
        |_, seen| repository(seen).newest = Reading::Unknown("AccessDeniedException".to_owned()),
        &[(Severity::Unread, "unread", "tags of repository shop/api")],
    ),
    (
        "a new account",
        |_, seen| seen.concurrency = Reading::Known(10),
        &[(Severity::Risky, "quota_of_functions", "account")],
    ),
    (
        "a Fargate that is full",
        |_, seen| seen.fargate = Reading::Known(Some(FargateUsage { quota: 6.0, used: 5.5 })),
        &[(Severity::Broken, "quota_of_fargate", "service api-green")],
    ),
    (
        "a Fargate that is full of the other side already",
        |_, seen| {
            seen.fargate = Reading::Known(Some(FargateUsage { quota: 6.0, used: 6.0 }));
            service(seen).desired = 2;
        },
        &[],
    ),
    (
        "a Fargate that is full, and instances of one's own",
        |_, seen| {
            seen.fargate = Reading::Known(Some(FargateUsage { quota: 6.0, used: 6.0 }));
            service(seen).on_fargate = false;
        },
        &[],
    ),
    (
        "a Fargate Spot that is full",
        |_, seen| {
            seen.fargate_spot = Reading::Known(Some(FargateUsage { quota: 6.0, used: 6.0 }));
            set_capacity_providers(seen, &[("FARGATE_SPOT", 0, 1)]);
        },
        &[(Severity::Broken, "quota_of_fargate", "service api-green")],
    ),
    (
        "a Fargate that is full, and Spot that is not",
        |_, seen| {
            seen.fargate = Reading::Known(Some(FargateUsage { quota: 6.0, used: 6.0 }));
            set_capacity_providers(seen, &[("FARGATE", 0, 0), ("FARGATE_SPOT", 0, 1)]);
        },
        &[],
    ),
    (
        "a Fargate that is full, and of which a base is needed beside Spot",
        |_, seen| {
            seen.fargate = Reading::Known(Some(FargateUsage { quota: 6.0, used: 6.0 }));
            set_capacity_providers(seen, &[("FARGATE", 1, 0), ("FARGATE_SPOT", 0, 1)]);
        },
        &[(Severity::Broken, "quota_of_fargate", "service api-green")],
    ),
    (
        "a Fargate that nobody may ask about",
        |_, seen| seen.fargate = Reading::Unknown("AccessDenied".to_owned()),
        &[(Severity::Unread, "unread", "quota of Fargate")],
    ),
    (
        "a cluster out of reach",
        |_, seen| seen.iam_scope = Some(IamScope { clusters: "web-".to_owned(), ..IamScope::default() }),
        &[(Severity::Broken, "out_of_reach", "cluster shop-prod")],
    ),
    (
        "a balancer out of reach",
        |_, seen| seen.iam_scope = Some(IamScope { load_balancers: "web".to_owned(), ..IamScope::default() }),
        &[(Severity::Broken, "out_of_reach", "rule 9683 of shop")],
    ),
    (
        "a repository out of reach",
        |_, seen| seen.iam_scope = Some(IamScope { repositories: "web/".to_owned(), ..IamScope::default() }),
        &[(Severity::Broken, "out_of_reach", "repository shop/api")],
    ),
    (
        "a role out of reach",
        |_, seen| seen.iam_scope = Some(IamScope { task_roles: "web-".to_owned(), ..IamScope::default() }),
        &[(Severity::Broken, "out_of_reach", "role tasks/api")],
    ),
    (
        "a hook out of reach",
        |policy, _| {
            let run =
                HookAction::Lambda { function: "arn:aws:lambda:eu-central-1:111122223333:function:smoke".to_owned() };
            let deadline = Seconds(60);
            target_policy(policy).hooks.push(Hook {
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
                facts: FactFilter::Attention,
            });
        },
        &[(Severity::Broken, "out_of_reach", "topic oncall")],
    ),
    (
        "what could not be read",
        |_, seen| {
            let throttled = || "Throttling: Rate exceeded".to_owned();
            pair(seen).green.service = Reading::Unknown(throttled());
            seen.alarms = Reading::Unknown(throttled());
        },
        &[(Severity::Unread, "unread", "service api-green"), (Severity::Unread, "unread", "alarms")],
    ),
];
