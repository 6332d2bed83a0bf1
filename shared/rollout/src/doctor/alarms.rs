//! Alarms: whether they are there, can fire, in time, for the right side, and say nothing of a side that is idle.
//!
//! What is said of single metrics is from the list of ALB's metrics and their dimensions ("CloudWatch metrics for your
//! Application Load Balancer"): counts of errors have no data point where they would be zero, and metrics of a target group
//! carry both dimensions.

use super::seen::{AlarmKind, AlarmSeen, Inspected, Metric, MetricSeen};
use super::{Findings, SLOTS, called};
use crate::names::Slot;
use crate::policy::{AlarmPolicy, MissingData, TargetPolicy};
use crate::time::Seconds;
use std::collections::{BTreeMap, BTreeSet};

const BALANCER: &str = "AWS/ApplicationELB";
/// CloudWatch has a data point at the earliest a minute after what it counts.
const LAG: Seconds = Seconds(60);
/// Composite alarms within composite alarms are followed so far.
const DEEPEST: usize = 4;

/// Metrics that are published for each target group, and whether they have no data where nothing went wrong.
const OF_GROUPS: [(&str, bool); 16] = [
    ("AnomalousHostCount", false),
    ("HTTPCode_Target_2XX_Count", false),
    ("HTTPCode_Target_3XX_Count", true),
    ("HTTPCode_Target_4XX_Count", true),
    ("HTTPCode_Target_5XX_Count", true),
    ("HealthyHostCount", false),
    ("HealthyStateDNS", false),
    ("HealthyStateRouting", false),
    ("MitigatedHostCount", false),
    ("RequestCount", false),
    ("RequestCountPerTarget", false),
    ("TargetConnectionErrorCount", true),
    ("TargetResponseTime", false),
    ("TargetTLSNegotiationErrorCount", true),
    ("UnHealthyHostCount", false),
    ("UnhealthyRoutingRequestCount", true),
];

/// What an alarm sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sees {
    /// One side.
    Side(Slot),
    /// Both together, and perhaps other services, too.
    Balancer,
    /// A metric of the owners' own, of which nothing is known here.
    Own,
}

pub(super) fn judge(policy: &TargetPolicy, seen: &Inspected, findings: &mut Findings) {
    if policy.alarms.is_empty() {
        let what = "the policy names none: a release that starts and answers with errors is not switched back";
        let remedy = "name an alarm over each side's 5xx responses under `alarms`";
        findings.risky("alarms_none", "alarms", what, remedy);
        return;
    }
    let Some(known) = findings.known("alarms", &seen.alarms) else { return };
    let mut sees = BTreeSet::new();
    for wanted in &policy.alarms {
        let place = format!("alarm {}", wanted.name);
        let Some(alarm) = known.get(&wanted.name) else {
            let what = "CloudWatch has no alarm of this name: nothing starts before there is one";
            findings.broken(
                "alarm_missing",
                &place,
                what,
                "create it in this account and Region, or take it out of `alarms`",
            );
            continue;
        };
        if alarm.state == "ALARM" {
            let what = format!("it fires now, so that nothing starts: {}", alarm.reason);
            findings.risky("alarm_fires", &place, what, "mend what it shows, or mend the alarm");
        }
        let metrics = metrics_of(alarm, known, DEEPEST);
        if let AlarmKind::Composite { rule } = &alarm.kind {
            for child in children(rule).filter(|child| !known.contains_key(*child)) {
                let what = format!("its rule names {child}, which is no alarm");
                findings.risky("alarm_child_missing", &place, what, "mend the composite alarm's rule");
            }
        }
        for metric in &metrics {
            judge_metric(policy, seen, wanted, &place, metric, findings);
        }
        sees.extend(metrics.iter().flat_map(|metric| &metric.metrics).map(|metric| sees_what(policy, metric)));
        if metrics.is_empty() {
            sees.insert(Sees::Own);
        }
        in_time(policy, &place, &metrics, findings);
    }
    coverage(&sees, findings);
}

/// Whether each side has an alarm that sees it, and it alone.
fn coverage(sees: &BTreeSet<Sees>, findings: &mut Findings) {
    if sees.is_empty() || sees.contains(&Sees::Own) {
        return;
    }
    let blind: Vec<Slot> = SLOTS.into_iter().filter(|slot| !sees.contains(&Sees::Side(*slot))).collect();
    match blind.as_slice() {
        [] => {}
        [slot] if !sees.contains(&Sees::Balancer) => {
            let what = format!("none sees {slot}: every second release is judged by its health checks alone");
            let remedy =
                format!("name an alarm with the dimensions TargetGroup and LoadBalancer of {slot}'s target group");
            findings.broken("alarms_blind", "alarms", what, remedy);
        }
        _ => {
            let what = "none can tell blue from green: at 10 % of the traffic, errors of a bad release drown in the good \
                        answers of the old one, and trouble of another service turns this one back";
            let remedy = "let an alarm for each side watch TargetGroup and LoadBalancer, not LoadBalancer alone";
            findings.risky("alarms_cannot_tell", "alarms", what, remedy);
        }
    }
}

/// The metric alarms that an alarm is made of: itself, or what its rule names.
fn metrics_of<'a>(alarm: &'a AlarmSeen, known: &'a BTreeMap<String, AlarmSeen>, depth: usize) -> Vec<&'a MetricSeen> {
    match &alarm.kind {
        AlarmKind::Metric(metric) => vec![metric],
        AlarmKind::Composite { .. } if depth == 0 => Vec::new(),
        AlarmKind::Composite { rule } => {
            let children = children(rule).filter_map(|name| known.get(name));
            children.flat_map(|child| metrics_of(child, known, depth - 1)).collect()
        }
    }
}

/// The names of the alarms in a composite alarm's rule: `ALARM("a") AND NOT OK(b)`.
pub fn children(rule: &str) -> impl Iterator<Item = &str> {
    let states = ["ALARM", "OK", "INSUFFICIENT_DATA"];
    rule.match_indices('(').filter_map(move |(at, _)| {
        let before = rule[..at].trim_end();
        let word = before.rsplit(|letter: char| letter.is_whitespace() || letter == '(').next()?;
        if !states.contains(&word) {
            return None;
        }
        let inside = rule[at + 1..].trim_start();
        let name = match inside.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next()?,
            None => inside.split(')').next()?.trim(),
        };
        // An ARN names its alarm last.
        Some(name.rsplit_once(":alarm:").map_or(name, |(_, name)| name))
    })
}

fn judge_metric(
    policy: &TargetPolicy,
    seen: &Inspected,
    wanted: &AlarmPolicy,
    place: &str,
    alarm: &MetricSeen,
    findings: &mut Findings,
) {
    for metric in alarm.metrics.iter().filter(|metric| metric.namespace == BALANCER) {
        judge_dimensions(policy, seen, place, metric, findings);
    }
    let bounded = alarm.metrics.iter().all(|metric| metric.namespace == BALANCER) && !alarm.metrics.is_empty();
    let plain = alarm.expressions.is_empty();
    if let Some(threshold) = alarm.threshold.filter(|_| bounded && plain) {
        let comparison = alarm.comparison.as_str();
        let never = (comparison == "LessThanThreshold" && threshold <= 0.0)
            || (comparison == "LessThanOrEqualToThreshold" && threshold < 0.0);
        let always = (comparison == "GreaterThanThreshold" && threshold < 0.0)
            || (comparison == "GreaterThanOrEqualToThreshold" && threshold <= 0.0);
        let names = names(alarm);
        if never {
            let what = format!("it can never fire: {names} is never below zero");
            findings.broken("alarm_never_fires", place, what, "mend its threshold or comparison");
        } else if always {
            let what = format!("it fires whenever there is data: {names} is never below zero");
            findings.broken("alarm_always_fires", place, what, "mend its threshold or comparison");
        }
    }
    silence(policy, wanted, place, alarm, findings);
}

fn names(alarm: &MetricSeen) -> String {
    let names: BTreeSet<&str> = alarm.metrics.iter().map(|metric| metric.name.as_str()).collect();
    names.into_iter().collect::<Vec<_>>().join(" and ")
}

/// Whether such a metric exists under such dimensions.
fn judge_dimensions(policy: &TargetPolicy, seen: &Inspected, place: &str, metric: &Metric, findings: &mut Findings) {
    let Some(group) = metric.dimensions.get("TargetGroup") else { return };
    let name = &metric.name;
    if !OF_GROUPS.iter().any(|(known, _)| known == name) {
        let what = format!("it can never fire: there is no metric {name} of a target group");
        findings.broken("alarm_never_fires", place, what, "watch HTTPCode_Target_5XX_Count, or take TargetGroup away");
        return;
    }
    let Some(balancer) = metric.dimensions.get("LoadBalancer") else {
        let what = format!(
            "it can never fire: {name} of a target group is published with TargetGroup and LoadBalancer, and it has TargetGroup alone"
        );
        findings.broken("alarm_never_fires", place, what, "add the dimension LoadBalancer: app/NAME/ID");
        return;
    };
    let Some(slot) = side_of(policy, group) else {
        let what = format!("it watches {group}, which is neither side's target group");
        findings.risky(
            "alarm_elsewhere",
            place,
            what,
            "let it watch the target group of a side, or take it out of `alarms`",
        );
        return;
    };
    if let crate::snapshot::Reading::Known(Some(group)) = &seen.side(slot).group
        && !group.balancers.is_empty()
        && !group.balancers.iter().any(|arn| dimension(arn) == balancer)
    {
        let own: Vec<&str> = group.balancers.iter().map(|arn| dimension(arn)).collect();
        let what = format!(
            "it can never fire: it looks for {slot} behind {balancer}, and {slot} is behind {}",
            own.join(", ")
        );
        findings.broken(
            "alarm_never_fires",
            place,
            what,
            format!("set its dimension LoadBalancer to {}", own.join(", ")),
        );
    }
}

/// What missing data means to the alarm, and what that means to the policy.
fn silence(policy: &TargetPolicy, wanted: &AlarmPolicy, place: &str, alarm: &MetricSeen, findings: &mut Findings) {
    let filled = alarm.expressions.iter().any(|formula| formula.contains("FILL("));
    let quiet_when_good = !filled
        && alarm.metrics.iter().any(|metric| {
            metric.namespace == BALANCER && OF_GROUPS.iter().any(|(name, sparse)| *sparse && *name == metric.name)
        });
    let of_a_side = alarm.metrics.iter().any(|metric| matches!(sees_what(policy, metric), Sees::Side(_)));
    match alarm.treat_missing.as_str() {
        "missing" if wanted.missing == MissingData::Wait && quiet_when_good => {
            let what = format!(
                "{} has no data where nothing goes wrong; the alarm is then INSUFFICIENT_DATA, and the policy waits for data: \
                 a good release never gets on, and is switched back at the deadline",
                names(alarm)
            );
            let remedy = "set treat_missing_data = \"notBreaching\" on the alarm, or `missing: healthy` in the policy";
            findings.broken("alarm_silent_when_good", place, what, remedy);
        }
        "missing" if wanted.missing == MissingData::Unhealthy && quiet_when_good => {
            let what = format!(
                "{} has no data where nothing goes wrong, and the policy takes silence for failure",
                names(alarm)
            );
            let remedy = "set treat_missing_data = \"notBreaching\" on the alarm, and `missing: wait` in the policy";
            findings.broken("alarm_silent_when_good", place, what, remedy);
        }
        "breaching" if of_a_side && !filled => {
            let what = "it fires without data, and the idle side has none: an alarm that fires lets nothing start";
            let remedy =
                "set treat_missing_data = \"notBreaching\"; silence of a side that should have data is for `missing`";
            findings.broken("alarm_fires_when_idle", place, what, remedy);
        }
        "ignore" if of_a_side => {
            let what = "without data it stays as it was: once fired, it fires on when its side has lost its traffic, and nothing starts";
            findings.risky("alarm_stays", place, what, "set treat_missing_data = \"notBreaching\"");
        }
        _ => {}
    }
    let low = matches!(alarm.comparison.as_str(), "LessThanThreshold" | "LessThanOrEqualToThreshold");
    let reached_by_none = alarm.threshold.is_some_and(|threshold| {
        threshold > 0.0 || (threshold >= 0.0 && alarm.comparison == "LessThanOrEqualToThreshold")
    });
    let hosts =
        |metric: &Metric| metric.name == "HealthyHostCount" && matches!(sees_what(policy, metric), Sees::Side(_));
    if low && reached_by_none && alarm.expressions.is_empty() && alarm.metrics.iter().any(hosts) {
        let what = "it fires while its side has no healthy target, as the idle side has none: nothing starts then";
        let remedy = "take it out of `alarms`: target health is looked at anyway, before and after every step";
        findings.broken("alarm_fires_when_idle", place, what, remedy);
    }
}

/// Whether it can fire before it is too late.
fn in_time(policy: &TargetPolicy, place: &str, metrics: &[&MetricSeen], findings: &mut Findings) {
    let needs = metrics.iter().map(|metric| u64::from(metric.period_s) * u64::from(metric.datapoints));
    let Some(needs) = needs.max().filter(|needs| *needs > 0) else { return };
    let needs = Seconds(needs + LAG.0);
    let strategy = &policy.strategy;
    if needs > strategy.bake {
        let what = format!(
            "it fires {needs} after the first error at the earliest, and the bake takes {}: what goes bad with all traffic is \
             verified before that",
            strategy.bake
        );
        let remedy = "lengthen `bake`, or give the alarm shorter periods or fewer data points";
        findings.risky("alarm_slower_than_bake", place, what, remedy);
    }
    if let Some(first) = strategy.steps.first().filter(|step| step.hold < needs && strategy.steps.len() > 1) {
        let what = format!(
            "it fires {needs} after the first error at the earliest, and the step of {} holds for {}: a bad release has more \
             traffic before it is noticed",
            first.traffic, first.hold
        );
        findings.advice("alarm_slower_than_step", place, what, format!("hold the first step for {needs} or more"));
    }
}

fn sees_what(policy: &TargetPolicy, metric: &Metric) -> Sees {
    let dimension = |name: &str| metric.dimensions.get(name).map(String::as_str);
    match metric.namespace.as_str() {
        BALANCER => match dimension("TargetGroup") {
            Some(group) => side_of(policy, group).map_or(Sees::Own, Sees::Side),
            None => Sees::Balancer,
        },
        "AWS/ECS" | "ECS/ContainerInsights" => {
            let service = dimension("ServiceName");
            let of = |slot: &Slot| service == Some(called(&policy.pair.side(*slot).service));
            SLOTS.into_iter().find(of).map_or(Sees::Own, Sees::Side)
        }
        _ => Sees::Own,
    }
}

/// The side whose target group has this dimension: `targetgroup/NAME/ID`.
fn side_of(policy: &TargetPolicy, group: &str) -> Option<Slot> {
    SLOTS.into_iter().find(|slot| dimension(&policy.pair.side(*slot).target_group) == group)
}

/// The value of the dimension for an ARN: what follows `loadbalancer/`, or from `targetgroup/` on.
fn dimension(arn: &str) -> &str {
    match arn.split_once(":loadbalancer/") {
        Some((_, name)) => name,
        None => arn.rsplit_once(':').map_or(arn, |(_, name)| name),
    }
}
