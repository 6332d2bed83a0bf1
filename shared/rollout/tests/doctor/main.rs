//! The doctor: a sound account has no findings, and each thing that is changed in it has the finding that it should.

mod account;

use account::*;
use rollout::doctor::seen::{AlarmKind, AlarmSeen, FargateSeen, Inspected, Metric, Reach, RuleSeen};
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

/// The policy's alarms are a composite one, and this many of its own.
fn composite(policy: &mut Policy, seen: &mut Inspected, rule: &str, kept: usize) {
    let mut either = wanted(policy).alarms[0].clone();
    either.name = "either".to_owned();
    wanted(policy).alarms = vec![either].into_iter().chain(wanted(policy).alarms[..kept].iter().cloned()).collect();
    let kind = AlarmKind::Composite { rule: rule.to_owned() };
    known(&mut seen.alarms).insert("either".to_owned(), AlarmSeen { kind, ..alarm(Slot::Blue) });
}

/// A metric of green's service.
fn of_service(name: &str) -> Metric {
    let dimensions = [("ClusterName", "shop-prod"), ("ServiceName", "api-green")];
    Metric {
        namespace: "AWS/ECS".to_owned(),
        name: name.to_owned(),
        dimensions: dimensions.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    }
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
            for side in [&mut seen.blue, &mut seen.green] {
                let service = known(&mut side.service).as_mut().expect("it is there");
                service.also_reached_by.insert("the Service Connect name api in shop".to_owned());
            }
        },
        &[(Severity::Broken, "sides_share_a_name", "service api-blue and api-green")],
    ),
    (
        "one side with a name of its own in Service Connect",
        |_, seen| _ = service(seen).also_reached_by.insert("the Service Connect name green in shop".to_owned()),
        &[],
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
            composite(policy, seen, "ALARM(blue-5xx) OR ALARM(green-5xx)", 0);
            known(&mut seen.alarms).get_mut("blue-5xx").expect("it is there").evaluation =
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
            wanted(policy).alarms.remove(0);
            green_metric(seen).metrics.clear();
            green_metric(seen).expressions = vec!["SELECT SUM(Errors) FROM SCHEMA(Shop, Side)".to_owned()];
        },
        &[],
    ),
    (
        "a query of logs",
        |policy, seen| {
            wanted(policy).alarms.remove(0);
            green_alarm(seen).kind = AlarmKind::Log { period_s: 60, results: 1 };
        },
        &[],
    ),
    (
        "a query of logs that is run too rarely",
        |policy, seen| {
            wanted(policy).alarms.remove(0);
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
            wanted(policy).alarms.remove(0);
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
        |policy, seen| composite(policy, seen, "ALARM(blue-5xx) AND NOT ALARM(green-5xx)", 0),
        &[(Severity::Broken, "alarms_blind", "alarms")],
    ),
    (
        "nothing but a child under NOT",
        |policy, seen| composite(policy, seen, "NOT ALARM(green-5xx)", 0),
        &[(Severity::Risky, "alarms_cannot_tell", "alarms")],
    ),
    (
        "children in an AT_LEAST",
        |policy, seen| {
            let rule =
                "AT_LEAST(2, ALARM, (blue-5xx, \"b c\", arn:aws:cloudwatch:eu-central-1:111122223333:alarm:green-5xx))";
            composite(policy, seen, rule, 0);
        },
        &[
            (Severity::Risky, "alarm_child_missing", "alarm either"),
            (Severity::Advice, "alarm_of_both_sides", "alarm either"),
        ],
    ),
    (
        "a rule that cannot be read",
        |policy, seen| composite(policy, seen, "MOST(blue-5xx)", 0),
        &[(Severity::Unread, "alarm_rule_unread", "alarm either")],
    ),
    (
        "silent children of a composite alarm",
        |policy, seen| {
            composite(policy, seen, "ALARM(green-5xx)", 1);
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
            green_metric(seen).metrics = vec![of_service("CPUUtilization")];
            green_metric(seen).treat_missing = "missing".to_owned();
        },
        &[],
    ),
    (
        "CPU of one side, and silence is trouble",
        |_, seen| {
            green_metric(seen).metrics = vec![of_service("CPUUtilization")];
            green_metric(seen).treat_missing = "breaching".to_owned();
        },
        &[(Severity::Broken, "alarm_fires_when_idle", "alarm green-5xx")],
    ),
    (
        "memory of one side that is low",
        |_, seen| {
            green_metric(seen).metrics = vec![of_service("MemoryUtilization")];
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
            wanted(policy).alarms.truncate(1);
            wanted(policy).alarms[0].name = "either".to_owned();
            let kind = AlarmKind::Composite { rule: "ALARM(\"blue-5xx\") OR ALARM(green-5xx)".to_owned() };
            known(&mut seen.alarms).insert("either".to_owned(), AlarmSeen { kind, ..alarm(Slot::Blue) });
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
        "a Fargate Spot that is full",
        |_, seen| {
            seen.fargate_spot = Reading::Known(Some(FargateSeen { quota: 6.0, used: 6.0 }));
            placed_by(seen, &[("FARGATE_SPOT", 0, 1)]);
        },
        &[(Severity::Broken, "quota_of_fargate", "service api-green")],
    ),
    (
        "a Fargate that is full, and Spot that is not",
        |_, seen| {
            seen.fargate = Reading::Known(Some(FargateSeen { quota: 6.0, used: 6.0 }));
            placed_by(seen, &[("FARGATE", 0, 0), ("FARGATE_SPOT", 0, 1)]);
        },
        &[],
    ),
    (
        "a Fargate that is full, and of which a base is needed beside Spot",
        |_, seen| {
            seen.fargate = Reading::Known(Some(FargateSeen { quota: 6.0, used: 6.0 }));
            placed_by(seen, &[("FARGATE", 1, 0), ("FARGATE_SPOT", 0, 1)]);
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
