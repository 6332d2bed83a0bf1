//! Checks the policy's alarms: whether they exist, can fire, are evaluated, fire in time and for the right side, and
//! stay quiet about an idle side. Where versions replace one another in place, there are no sides to tell apart.
//!
//! Facts about single metrics come from the list of ALB's metrics and their dimensions ("CloudWatch metrics for your
//! Application Load Balancer"): error counts have no data point where they would be zero, no metric of a target group
//! has data while the group has no requests, and metrics of a target group carry both dimensions.

use super::inspected::{AlarmDetails, AlarmKind, InspectedTargetGroup, InspectionResult, Metric, MetricAlarmDetails};
use super::{Findings, Severity, short_name, target_groups_of};
use crate::alarm::{AlarmsByName, MetricScope, dimension, metric_scope, metric_scopes, rule::AlarmRule, watched};
use crate::names::Slot;
use crate::platform::Way;
use crate::policy::{AlarmAtStart, AlarmEffect, AlarmPolicy, MissingData, TargetPolicy};
use crate::time::Seconds;
use std::collections::BTreeSet;

const ALB_NAMESPACE: &str = "AWS/ApplicationELB";
/// CloudWatch publishes a data point a minute after what it counts, at the earliest.
const METRIC_DELAY: Seconds = Seconds(60);

/// Metrics published per target group, and whether they are sparse: without data while nothing goes wrong.
const TARGET_GROUP_METRICS: [(&str, bool); 21] = [
    ("AnomalousHostCount", false),
    ("HTTPCode_Target_2XX_Count", false),
    ("HTTPCode_Target_3XX_Count", true),
    ("HTTPCode_Target_4XX_Count", true),
    ("HTTPCode_Target_5XX_Count", true),
    ("HealthyHostCount", false),
    ("HealthyStateDNS", false),
    ("HealthyStateRouting", false),
    ("LambdaInternalError", true),
    ("LambdaUserError", true),
    ("MitigatedHostCount", false),
    ("RequestCount", false),
    ("RequestCountPerTarget", false),
    ("TargetConnectionErrorCount", true),
    ("TargetResponseTime", false),
    ("TargetTLSNegotiationErrorCount", true),
    ("UnHealthyHostCount", false),
    ("UnhealthyRoutingRequestCount", true),
    ("UnhealthyStateDNS", false),
    ("UnhealthyStateRouting", false),
    ("ZonalShiftedHostCount", false),
];

/// Metrics published per load balancer only, never per target group. A metric in neither list is new or misspelt, and
/// no conclusion is drawn from it.
const LOAD_BALANCER_METRICS: [&str; 26] = [
    "ActiveConnectionCount",
    "ClientTLSNegotiationErrorCount",
    "ConsumedLCUs",
    "DesyncMitigationMode_NonCompliant_Request_Count",
    "DroppedInvalidHeaderRequestCount",
    "ELBAuthError",
    "ELBAuthFailure",
    "ELBAuthLatency",
    "ELBAuthSuccess",
    "ForwardedInvalidHeaderRequestCount",
    "GrpcRequestCount",
    "HTTPCode_ELB_3XX_Count",
    "HTTPCode_ELB_4XX_Count",
    "HTTPCode_ELB_500_Count",
    "HTTPCode_ELB_502_Count",
    "HTTPCode_ELB_503_Count",
    "HTTPCode_ELB_504_Count",
    "HTTPCode_ELB_5XX_Count",
    "HTTP_Fixed_Response_Count",
    "HTTP_Redirect_Count",
    "IPv6ProcessedBytes",
    "IPv6RequestCount",
    "NewConnectionCount",
    "ProcessedBytes",
    "RejectedConnectionCount",
    "RuleEvaluations",
];

pub(super) fn judge(policy: &TargetPolicy, seen: &InspectionResult, findings: &mut Findings) {
    if !is_protected(policy) {
        report_no_alarms(policy, findings);
        return;
    }
    let Some(known) = findings.known("alarms", &seen.alarms) else { return };
    let mut all_scopes = BTreeSet::new();
    let mut is_any_known = false;
    for wanted in &policy.alarms {
        let subject = format!("alarm {}", wanted.name);
        let Some(alarm) = known.get(&wanted.name) else {
            let problem = "CloudWatch has no alarm of this name: nothing starts before there is one";
            findings.broken(
                "alarm_missing",
                &subject,
                problem,
                "create it in this account and Region, or take it out of `alarms`",
            );
            continue;
        };
        is_any_known = true;
        if alarm.state == "ALARM" && wanted.firing != AlarmEffect::Tell && wanted.at_start == AlarmAtStart::Block {
            let problem = format!("it fires now, so that nothing starts: {}", alarm.reason);
            findings.risky("alarm_fires", &subject, problem, "mend what it shows, or mend the alarm");
        }
        check_composite_rules(&wanted.name, known, &subject, findings);
        let watched = watched(&wanted.name, known);
        let is_composite = matches!(alarm.kind, AlarmKind::Composite { .. });
        for name in &watched {
            if let Some(alarm) = known.get(*name) {
                check_evaluation(name, alarm, &subject, is_composite, findings);
            }
        }
        let kinds: Vec<&AlarmKind> =
            watched.iter().filter_map(|name| known.get(*name)).map(|alarm| &alarm.kind).collect();
        let mut sides = BTreeSet::new();
        for kind in &kinds {
            // An alarm that only notifies protects nobody.
            let counts = wanted.firing != AlarmEffect::Tell;
            let AlarmKind::Metric(metric) = kind else {
                all_scopes.extend(counts.then_some(MetricScope::Other));
                continue;
            };
            if !counts {
                continue;
            }
            check_metric(policy, seen, wanted, &subject, metric, is_composite, findings);
            let scopes = metric_scopes(&policy.resources, metric);
            sides.extend(scopes.iter().filter(|it| matches!(it, MetricScope::Side(_))).copied());
            all_scopes.insert(combined_scope(&scopes));
        }
        if sides.len() > 1 {
            let problem = "it looks at both sides: when it fires nobody can tell which of them is in trouble, and \
                           traffic goes back even where the old release is";
            let remedy = "name an alarm for each side instead, so that trouble of the old side is distinguished from \
                          trouble of the new one";
            findings.advice("alarm_of_both_sides", &subject, problem, remedy);
        }
        check_timing(policy, &subject, &kinds, findings);
    }
    if is_any_known && policy.resources.platform.way() == Way::Weighted {
        check_coverage(&all_scopes, findings);
    }
}

/// Whether the policy has an alarm that does more than notify people.
pub(super) fn is_protected(policy: &TargetPolicy) -> bool {
    policy.alarms.iter().any(|alarm| alarm.firing != AlarmEffect::Tell)
}

/// Adds the finding that no alarm rolls a deployment back.
fn report_no_alarms(policy: &TargetPolicy, findings: &mut Findings) {
    let (problem, remedy) = match (policy.resources.platform.way(), policy.alarms.is_empty()) {
        (Way::Weighted, true) => (
            "the policy names none: a release that starts and answers with errors is not switched back",
            "name an alarm over each side's 5xx responses under `alarms`",
        ),
        (Way::Weighted, false) => (
            "the policy's alarms only notify people: a release that answers with errors is not switched back",
            "name an alarm over each side's 5xx responses under `alarms`",
        ),
        (Way::InPlace, true) => (
            "the policy names none: a release whose tasks keep running, but fail at their work, is not rolled back",
            "name an alarm over what fails then under `alarms`: errors, or the age of the oldest message of a queue",
        ),
        (Way::InPlace, false) => (
            "the policy's alarms only notify people: a release whose tasks keep running, but fail at their work, is \
             not rolled back",
            "name an alarm over what fails then under `alarms`: errors, or the age of the oldest message of a queue",
        ),
    };
    findings.risky("alarms_none", "alarms", problem, remedy);
}

/// The scope of a formula as a whole: a side if it uses metrics of that side alone; of neither side if it uses both.
fn combined_scope(scopes: &BTreeSet<MetricScope>) -> MetricScope {
    let mut sides = scopes.iter().filter(|it| matches!(it, MetricScope::Side(_)));
    match (sides.next(), sides.next()) {
        (Some(side), None) => *side,
        (Some(_), Some(_)) => MetricScope::Balancer,
        _ if scopes.contains(&MetricScope::Other) => MetricScope::Other,
        _ => MetricScope::Balancer,
    }
}

/// Whether each side has an alarm that watches that side alone.
fn check_coverage(metric_scope: &BTreeSet<MetricScope>, findings: &mut Findings) {
    if metric_scope.contains(&MetricScope::Other) {
        return;
    }
    let blind: Vec<Slot> =
        Slot::BOTH.into_iter().filter(|slot| !metric_scope.contains(&MetricScope::Side(*slot))).collect();
    match blind.as_slice() {
        [] => {}
        [slot] if !metric_scope.contains(&MetricScope::Balancer) => {
            let problem = format!("none sees {slot}: every second release is judged by its health checks alone");
            let remedy =
                format!("name an alarm with the dimensions TargetGroup and LoadBalancer of {slot}'s target group");
            findings.broken("alarms_blind", "alarms", problem, remedy);
        }
        _ => {
            let problem = "none can tell blue from green: at 10 % of the traffic, errors of a bad release drown in the \
                           good answers of the old one, and trouble of another service turns this one back";
            let remedy = "let an alarm for each side watch TargetGroup and LoadBalancer, not LoadBalancer alone";
            findings.risky("alarms_cannot_tell", "alarms", problem, remedy);
        }
    }
}

/// Checks the rule of a composite alarm, and those of the composite alarms in it.
fn check_composite_rules(name: &str, known: &AlarmsByName, subject: &str, findings: &mut Findings) {
    let (mut todo, mut done) = (vec![name.to_owned()], BTreeSet::new());
    while let Some(name) = todo.pop() {
        let Some(AlarmDetails { kind: AlarmKind::Composite { rule }, .. }) = known.get(&name) else { continue };
        if !done.insert(name.clone()) {
            continue;
        }
        match AlarmRule::parse(rule) {
            Ok(rule) => {
                for child in rule.names() {
                    if !known.contains_key(child) {
                        let problem = format!("its rule names {child}, which is no alarm");
                        findings.risky("alarm_child_missing", subject, problem, "mend the composite alarm's rule");
                    }
                    todo.push(child.to_owned());
                }
            }
            Err(error) => {
                let problem =
                    format!("the rule of {name} could not be read, so that its alarms went unchecked: {error}");
                let remedy = "see that CloudWatch takes the rule as it stands, and report it if it does";
                findings.add(Severity::Unread, "alarm_rule_unread", subject, problem, remedy);
            }
        }
    }
}

/// Whether CloudWatch evaluates it (CloudWatch user guide, "Alarm evaluation").
fn check_evaluation(name: &str, alarm: &AlarmDetails, subject: &str, is_child: bool, findings: &mut Findings) {
    let Some(evaluation) = &alarm.evaluation else { return };
    let (state, reason) = (&alarm.state, &alarm.reason);
    let who = if is_child { format!("{name}, of which it is made,") } else { "it".to_owned() };
    let problem = format!("{who} is {state}, and {evaluation}: {reason}; what is not evaluated counts as without data");
    match evaluation.as_str() {
        "PARTIAL_DATA" => {
            let remedy = "narrow its query down: CloudWatch judges a part of the metrics only";
            findings.risky("alarm_not_evaluated", subject, problem, remedy);
        }
        "EVALUATION_FAILURE" => {
            let remedy =
                "wait until CloudWatch is well again: this is trouble of its own, and nothing starts meanwhile";
            findings.risky("alarm_not_evaluated", subject, problem, remedy);
        }
        "IN_WARM_UP" => {
            findings.advice("alarm_not_evaluated", subject, problem, "wait for the end of its warm-up period");
        }
        _ => findings.broken("alarm_not_evaluated", subject, problem, "mend the alarm as the reason says"),
    }
}

fn check_metric(
    policy: &TargetPolicy,
    seen: &InspectionResult,
    wanted: &AlarmPolicy,
    subject: &str,
    alarm: &MetricAlarmDetails,
    is_child: bool,
    findings: &mut Findings,
) {
    for metric in alarm.metrics.iter().filter(|metric| metric.namespace == ALB_NAMESPACE) {
        check_dimensions(policy, seen, subject, metric, findings);
    }
    let bounded = alarm.metrics.iter().all(|metric| metric.namespace == ALB_NAMESPACE) && !alarm.metrics.is_empty();
    let plain = alarm.expressions.is_empty();
    if let Some(threshold) = alarm.threshold.filter(|_| bounded && plain) {
        let comparison = alarm.comparison.as_str();
        let never = (comparison == "LessThanThreshold" && threshold <= 0.0)
            || (comparison == "LessThanOrEqualToThreshold" && threshold < 0.0);
        let always = (comparison == "GreaterThanThreshold" && threshold < 0.0)
            || (comparison == "GreaterThanOrEqualToThreshold" && threshold <= 0.0);
        let names = names(alarm);
        if never {
            let problem = format!("it can never fire: {names} is never below zero");
            findings.broken("alarm_never_fires", subject, problem, "mend its threshold or comparison");
        } else if always {
            let problem = format!("it fires whenever there is data: {names} is never below zero");
            findings.broken("alarm_always_fires", subject, problem, "mend its threshold or comparison");
        }
    }
    // A composite alarm is OK or ALARM even if its children have no data; INSUFFICIENT_DATA only when just created
    // (CloudFormation reference, AWS::CloudWatch::CompositeAlarm).
    if !is_child {
        check_missing_data(policy, wanted, subject, alarm, findings);
    }
    check_idle_side(policy, subject, alarm, findings);
}

fn names(alarm: &MetricAlarmDetails) -> String {
    let names: BTreeSet<&str> = alarm.metrics.iter().map(|metric| metric.name.as_str()).collect();
    names.into_iter().collect::<Vec<_>>().join(" and ")
}

/// Whether the metric exists with these dimensions.
fn check_dimensions(
    policy: &TargetPolicy,
    seen: &InspectionResult,
    subject: &str,
    metric: &Metric,
    findings: &mut Findings,
) {
    let Some(group) = metric.dimensions.get("TargetGroup") else { return };
    let name = &metric.name;
    if LOAD_BALANCER_METRICS.contains(&name.as_str()) {
        let problem = format!("it can never fire: there is no metric {name} of a target group");
        findings.broken(
            "alarm_never_fires",
            subject,
            problem,
            "watch HTTPCode_Target_5XX_Count, or take TargetGroup away",
        );
        return;
    }
    if !TARGET_GROUP_METRICS.iter().any(|(known, _)| known == name) {
        match TARGET_GROUP_METRICS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((known, _)) => {
                let problem = format!("it can never fire: the metric is called {known}, not {name}");
                findings.broken("alarm_never_fires", subject, problem, format!("watch {known}"));
                return;
            }
            None => {
                let problem = format!("{name} is no metric of target groups that is known here");
                let remedy = "see that CloudWatch has data of it, and that it is spelt like that";
                findings.advice("alarm_metric_unknown", subject, problem, remedy);
            }
        }
    }
    let Some(balancer) = metric.dimensions.get("LoadBalancer") else {
        // The only metric that is also published without the LoadBalancer dimension.
        if name == "RequestCountPerTarget" {
            return;
        }
        let problem = format!(
            "it can never fire: {name} of a target group is published with TargetGroup and LoadBalancer, and it has \
             TargetGroup alone"
        );
        findings.broken("alarm_never_fires", subject, problem, "add the dimension LoadBalancer: app/NAME/ID");
        return;
    };
    let Some((name, group)) = own_group(policy, seen, group) else {
        let (problem, remedy) = match policy.resources.platform.way() {
            Way::Weighted => (
                format!("it watches {group}, which is neither side's target group"),
                "let it watch the target group of a side, or take it out of `alarms`",
            ),
            Way::InPlace => (
                format!("it watches {group}, which is no target group of the policy"),
                "let it watch a target group of the policy, or take it out of `alarms`",
            ),
        };
        findings.risky("alarm_elsewhere", subject, problem, remedy);
        return;
    };
    if let Some(group) = group
        && !group.balancers.is_empty()
        && !group.balancers.iter().any(|arn| dimension(arn) == balancer)
    {
        let own: Vec<&str> = group.balancers.iter().map(|arn| dimension(arn)).collect();
        let problem = format!(
            "it can never fire: it looks for {name} behind {balancer}, and {name} is behind {}",
            own.join(", ")
        );
        findings.broken(
            "alarm_never_fires",
            subject,
            problem,
            format!("set its dimension LoadBalancer to {}", own.join(", ")),
        );
    }
}

/// The target group of the policy with this dimension value: what people call it (its side or, in place, its name), and
/// what was read of it. None: the policy names no such target group.
fn own_group<'r>(
    policy: &TargetPolicy,
    seen: &'r InspectionResult,
    group: &str,
) -> Option<(String, Option<&'r InspectedTargetGroup>)> {
    seen.platform.workloads().find_map(|(slot, workload)| {
        let arns = target_groups_of(policy, slot);
        let number = arns.iter().position(|arn| dimension(arn) == group)?;
        let name = slot.map_or_else(|| short_name(arns[number]).to_owned(), |slot| slot.to_string());
        Some((name, workload.groups.get(number).and_then(|group| group.known()?.as_ref())))
    })
}

/// Whether a formula yields a value where a metric has no data: `FILL` supplies one, and sums and the like ignore the
/// gap.
fn is_filled(alarm: &MetricAlarmDetails) -> bool {
    alarm.expressions.iter().any(|formula| {
        let formula = formula.to_ascii_uppercase();
        ["FILL(", "SUM(", "MAX(", "MIN(", "AVG("].iter().any(|function| formula.contains(function))
    })
}

/// What missing data means to the alarm, and what the resulting state means to the policy.
///
/// Not all silence is trouble: an alarm that watches one side alone is not required to have data while that side has no
/// traffic.
fn check_missing_data(
    policy: &TargetPolicy,
    wanted: &AlarmPolicy,
    subject: &str,
    alarm: &MetricAlarmDetails,
    findings: &mut Findings,
) {
    if alarm.treat_missing != "missing" || is_filled(alarm) {
        return;
    }
    let means = match wanted.missing {
        MissingData::Healthy => return,
        MissingData::Wait => {
            "the alarm is then INSUFFICIENT_DATA, and the policy waits for data: a good release never gets on, and is \
             switched back at the deadline"
        }
        MissingData::Unhealthy => "and the policy takes silence for failure",
    };
    let quiet_when_good = alarm.metrics.iter().any(|metric| {
        metric.namespace == ALB_NAMESPACE
            && TARGET_GROUP_METRICS.iter().any(|(name, sparse)| *sparse && *name == metric.name)
    });
    if quiet_when_good {
        let problem = format!("{} has no data where nothing goes wrong; {means}", names(alarm));
        let remedy = match wanted.missing {
            MissingData::Unhealthy => {
                "set treat_missing_data = \"notBreaching\" on the alarm, and `missing: wait` in the policy"
            }
            _ => "set treat_missing_data = \"notBreaching\" on the alarm, or `missing: healthy` in the policy",
        };
        findings.broken("alarm_silent_when_good", subject, problem, remedy);
        return;
    }
    let scopes = metric_scopes(&policy.resources, alarm);
    let of_a_side = scopes.iter().any(|it| matches!(it, MetricScope::Side(_)));
    if of_a_side && scopes.len() > 1 {
        let problem = format!(
            "its formula has no data while one of {} has none, as those of the idle side; it looks at more than that \
             side, so that its silence is not put down to it; {means}",
            names(alarm)
        );
        let remedy = "fill what is missing in the formula, FILL(m, 0), or watch each side by an alarm of its own";
        findings.broken("alarm_silent_when_idle", subject, problem, remedy);
    }
}

/// What the alarm reports about a side without traffic. A firing alarm blocks every start, whichever side it watches.
fn check_idle_side(policy: &TargetPolicy, subject: &str, alarm: &MetricAlarmDetails, findings: &mut Findings) {
    let is_of_a_side = |metric: &Metric| matches!(metric_scope(&policy.resources, metric), MetricScope::Side(_));
    if !alarm.metrics.iter().any(is_of_a_side) {
        return;
    }
    let (plain, filled) = (alarm.expressions.is_empty(), is_filled(alarm));
    match alarm.treat_missing.as_str() {
        "breaching" if !filled => {
            let problem = "it fires without data, and the idle side has none: an alarm that fires lets nothing start";
            let remedy =
                "set treat_missing_data = \"notBreaching\"; silence of a side that should have data is for `missing`";
            findings.broken("alarm_fires_when_idle", subject, problem, remedy);
        }
        "ignore" => {
            let problem = "without data it stays as it was: once fired, it fires on when its side has lost its \
                           traffic, and nothing starts";
            findings.risky("alarm_stays", subject, problem, "set treat_missing_data = \"notBreaching\"");
        }
        _ => {}
    }
    let low = matches!(alarm.comparison.as_str(), "LessThanThreshold" | "LessThanOrEqualToThreshold");
    let reached_by_none = alarm.threshold.is_some_and(|threshold| {
        threshold > 0.0 || (threshold >= 0.0 && alarm.comparison == "LessThanOrEqualToThreshold")
    });
    let looks_at_both = Slot::BOTH
        .into_iter()
        .all(|slot| alarm.metrics.iter().any(|it| metric_scope(&policy.resources, it) == MetricScope::Side(slot)));
    if !low || !reached_by_none || looks_at_both || !(plain || filled) {
        return;
    }
    let hosts = |metric: &&Metric| matches!(metric.name.as_str(), "HealthyHostCount" | "RunningTaskCount");
    // Response times are per request: little traffic does not make them fast.
    let by_load = |metric: &&Metric| metric.name != "TargetResponseTime";
    let mut of_a_side = alarm.metrics.iter().filter(|metric| is_of_a_side(metric));
    if of_a_side.clone().any(|metric| hosts(&metric)) {
        let problem = "it fires while its side has no healthy target, as the idle side has none: nothing starts then";
        let remedy = "take it out of `alarms`: target health is looked at anyway, before and after every step";
        findings.broken("alarm_fires_when_idle", subject, problem, remedy);
    } else if of_a_side.any(|metric| by_load(&metric)) {
        let problem = format!(
            "it fires while its side has little to do ({} is low), as a side has before it gets traffic and when it \
             loses it: nothing starts, or every release is switched back",
            names(alarm)
        );
        let remedy = "take it out of `alarms`, or let it look at both sides together: FILL(blue, 0) + FILL(green, 0)";
        findings.broken("alarm_fires_when_idle", subject, problem, remedy);
    }
}

/// Whether the alarm can fire before the step or bake is over.
fn check_timing(policy: &TargetPolicy, subject: &str, kinds: &[&AlarmKind], findings: &mut Findings) {
    let needs = kinds.iter().map(|kind| match kind {
        AlarmKind::Metric(metric) => u64::from(metric.period_s) * u64::from(metric.datapoints),
        AlarmKind::Log { period_s, results } => u64::from(*period_s) * u64::from(*results),
        AlarmKind::Composite { .. } => 0,
    });
    let Some(needs) = needs.max().filter(|needs| *needs > 0) else { return };
    let needs = Seconds(needs + METRIC_DELAY.0);
    let (strategy, way) = (&policy.strategy, policy.resources.platform.way());
    if needs > strategy.bake {
        let verified = match way {
            Way::Weighted => "what goes bad with all traffic",
            Way::InPlace => "a bad release",
        };
        let problem = format!(
            "it fires {needs} after the first error at the earliest, and the bake takes {}: {verified} is verified \
             before that",
            strategy.bake
        );
        let remedy = "lengthen `bake`, or give the alarm shorter periods or fewer data points";
        findings.risky("alarm_slower_than_bake", subject, problem, remedy);
    }
    if way == Way::InPlace {
        return;
    }
    if let Some(first) = strategy.steps.first().filter(|step| step.hold < needs && strategy.steps.len() > 1) {
        let problem = format!(
            "it fires {needs} after the first error at the earliest, and the step of {} holds for {}: a bad release \
             has more traffic before it is noticed",
            first.traffic, first.hold
        );
        findings.advice("alarm_slower_than_step", subject, problem, format!("hold the first step for {needs} or more"));
    }
}
