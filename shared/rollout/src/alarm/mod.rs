//! CloudWatch alarms: their configuration, their state, and which side of a pair they watch. Used by everything that
//! reads alarms: the driver's observation, the doctor, the simulation.

pub mod rule;

use crate::names::Slot;
use crate::resources::TargetResources;
use crate::snapshot::AlarmReading;
use rule::AlarmRule;
use std::collections::{BTreeMap, BTreeSet};

/// Maximum nesting of composite alarms that is followed.
pub const MAX_DEPTH: usize = 4;

/// Alarms by name.
pub type AlarmsByName = BTreeMap<String, AlarmDetails>;

/// An alarm as CloudWatch describes it (`DescribeAlarms`): its state, and what it watches.
#[derive(Debug, Clone, PartialEq)]
pub struct AlarmDetails {
    /// `OK`, `ALARM`, `INSUFFICIENT_DATA`
    pub state: String,
    /// CloudWatch's explanation of the state (`StateReason`).
    pub reason: String,
    /// `EvaluationState`; none: the state is the result of the last evaluation. `PARTIAL_DATA`: a query over its quota;
    /// `EVALUATION_ERROR`: a configuration error; `EVALUATION_FAILURE`: a problem within CloudWatch (CloudWatch user
    /// guide, "Alarm evaluation"). The accompanying state may be old, or cover only part of the data.
    pub evaluation: Option<String>,
    /// What the alarm watches.
    pub kind: AlarmKind,
}

/// What kind of alarm it is, and what it watches.
#[derive(Debug, Clone, PartialEq)]
pub enum AlarmKind {
    /// One metric, or a formula over several.
    Metric(MetricAlarmDetails),
    /// Other alarms: `ALARM("a") OR ALARM("b")`.
    Composite {
        /// `AlarmRule`
        rule: String,
    },
    /// A CloudWatch Logs query, run on a schedule. Which side it watches depends on the query and is unknown.
    Log {
        /// Seconds between two runs; 0 where the schedule is not a rate.
        period_s: u32,
        /// Number of results that must breach.
        results: u32,
    },
}

/// Configuration of a metric alarm.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricAlarmDetails {
    /// The metrics; several where there is a formula, none where the alarm is over something else (a query).
    pub metrics: Vec<Metric>,
    /// The formulas over them, as written.
    pub expressions: Vec<String>,
    /// Seconds per data point.
    pub period_s: u32,
    /// Number of data points that must breach.
    pub datapoints: u32,
    /// In the metric's unit; none: the threshold is a computed band (anomaly detection).
    pub threshold: Option<f64>,
    /// `GreaterThanThreshold`, …
    pub comparison: String,
    /// `missing`, `notBreaching`, `breaching`, `ignore`
    pub treat_missing: String,
}

/// A CloudWatch metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// `AWS/ApplicationELB`
    pub namespace: String,
    /// `HTTPCode_Target_5XX_Count`
    pub name: String,
    /// Values by dimension name.
    pub dimensions: BTreeMap<String, String>,
}

impl AlarmDetails {
    /// The alarm's own state, without following a composite rule.
    #[must_use]
    pub fn reading(&self) -> AlarmReading {
        let reason = |text: &str| if text.is_empty() { "no reason given".to_owned() } else { text.to_owned() };
        // A state that is not the result of an evaluation counts for nothing, unless it is `ALARM`.
        match (self.state.as_str(), &self.evaluation) {
            ("ALARM", _) => AlarmReading::Firing { reason: reason(&self.reason) },
            (_, Some(evaluation)) => {
                AlarmReading::NotEvaluated { reason: format!("{evaluation}: {}", reason(&self.reason)) }
            }
            ("OK", None) => AlarmReading::Ok,
            // An unknown state counts as no data, too.
            (_, None) => AlarmReading::NoData,
        }
    }

    /// The parsed rule of a composite alarm; none: not composite, or not parseable.
    #[must_use]
    pub fn rule(&self) -> Option<AlarmRule> {
        match &self.kind {
            AlarmKind::Composite { rule } => AlarmRule::parse(rule).ok(),
            AlarmKind::Metric(_) | AlarmKind::Log { .. } => None,
        }
    }
}

/// The state of the alarm with this name. A composite alarm has no `EvaluationState` of its own, and is OK even where
/// an alarm that it watches is not evaluated: then it counts as not evaluated, too.
#[must_use]
pub fn reading(name: &str, known: &AlarmsByName) -> AlarmReading {
    let Some(alarm) = known.get(name) else { return AlarmReading::Absent };
    let own = alarm.reading();
    if own != AlarmReading::Ok {
        return own;
    }
    let not_evaluated = watched(name, known).into_iter().find_map(|child| match known.get(child)?.reading() {
        AlarmReading::NotEvaluated { reason } => Some(format!("alarm {child} of its rule is not evaluated: {reason}")),
        _ => None,
    });
    not_evaluated.map_or(own, |reason| AlarmReading::NotEvaluated { reason })
}

/// The alarms that make this one fire by firing: itself, or those that a composite alarm's rule watches. Where a rule
/// cannot be followed (not parseable, nested too deep, naming an alarm that is not in `known`), the composite alarm
/// itself is listed.
#[must_use]
pub fn watched<'a>(name: &'a str, known: &'a AlarmsByName) -> BTreeSet<&'a str> {
    let (mut found, mut visited) = (BTreeSet::new(), BTreeSet::new());
    collect_watched(name, known, MAX_DEPTH, &mut visited, &mut found);
    found
}

/// Adds the alarms that [`watched`] lists for `name`, following composite alarms `depth` levels deep.
fn collect_watched<'a>(
    name: &'a str,
    known: &'a AlarmsByName,
    depth: usize,
    visited: &mut BTreeSet<&'a str>,
    found: &mut BTreeSet<&'a str>,
) {
    let Some(AlarmDetails { kind: AlarmKind::Composite { rule }, .. }) = known.get(name) else {
        found.insert(name);
        return;
    };
    if !visited.insert(name) {
        return;
    }
    let Some(rule) = AlarmRule::parse(rule).ok().filter(|_| depth > 0) else {
        found.insert(name);
        return;
    };
    for child in rule.watched() {
        // The map's own key outlives the parsed rule.
        match known.get_key_value(child) {
            Some((child, _)) => collect_watched(child, known, depth - 1, visited, found),
            None => _ = found.insert(name),
        }
    }
}

/// The alarms that the rules of these composite alarms name.
#[must_use]
pub fn children<'a>(alarms: impl IntoIterator<Item = &'a AlarmDetails>) -> BTreeSet<String> {
    let rules = alarms.into_iter().filter_map(AlarmDetails::rule);
    rules.flat_map(|rule| rule.names().into_iter().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// What a metric measures: one side of the target, the load balancer as a whole, or something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MetricScope {
    /// One side: one of its target groups, or its service.
    Side(Slot),
    /// A load balancer as a whole: both sides together, and possibly other services.
    Balancer,
    /// Something else, unknown here.
    Other,
}

/// The scope of this metric with respect to the target.
#[must_use]
pub fn metric_scope(resources: &TargetResources, metric: &Metric) -> MetricScope {
    let dimension = |name: &str| metric.dimensions.get(name).map(String::as_str);
    match metric.namespace.as_str() {
        "AWS/ApplicationELB" | "AWS/NetworkELB" => match dimension("TargetGroup") {
            Some(group) => side_of_group(resources, group).map_or(MetricScope::Other, MetricScope::Side),
            None => MetricScope::Balancer,
        },
        namespace => {
            resources.platform.side_of_metric(namespace, dimension).map_or(MetricScope::Other, MetricScope::Side)
        }
    }
}

/// The scopes of a metric alarm: those of its metrics, and [`MetricScope::Other`] where it also uses metrics that it
/// does not name (a Metrics Insights query, a search).
#[must_use]
pub fn metric_scopes(resources: &TargetResources, alarm: &MetricAlarmDetails) -> BTreeSet<MetricScope> {
    let mut seen: BTreeSet<MetricScope> = alarm.metrics.iter().map(|metric| metric_scope(resources, metric)).collect();
    let uses_unnamed_metrics = |formula: &String| {
        let formula = formula.to_ascii_uppercase();
        formula.contains("SEARCH(") || formula.trim_start().starts_with("SELECT ")
    };
    if seen.is_empty() || alarm.expressions.iter().any(uses_unnamed_metrics) {
        seen.insert(MetricScope::Other);
    }
    seen
}

/// The side that this alarm watches exclusively: every metric belongs to that side. None: it watches both sides,
/// neither, or something unknown.
#[must_use]
pub fn side(resources: &TargetResources, name: &str, known: &AlarmsByName) -> Option<Slot> {
    let mut seen = BTreeSet::new();
    for alarm in watched(name, known) {
        match known.get(alarm).map(|alarm| &alarm.kind) {
            Some(AlarmKind::Metric(metric)) => seen.extend(metric_scopes(resources, metric)),
            Some(AlarmKind::Composite { .. } | AlarmKind::Log { .. }) | None => _ = seen.insert(MetricScope::Other),
        }
    }
    let mut seen = seen.into_iter();
    match (seen.next(), seen.next()) {
        (Some(MetricScope::Side(slot)), None) => Some(slot),
        _ => None,
    }
}

/// The side of which a target group has this dimension value: `targetgroup/NAME/ID`.
#[must_use]
pub fn side_of_group(resources: &TargetResources, group: &str) -> Option<Slot> {
    Slot::BOTH.into_iter().find(|slot| resources.target_groups(*slot).any(|arn| dimension(arn) == group))
}

/// The CloudWatch dimension value for an ARN: what follows `loadbalancer/`, or from `targetgroup/` on.
#[must_use]
pub fn dimension(arn: &str) -> &str {
    match arn.split_once(":loadbalancer/") {
        Some((_, name)) => name,
        None => arn.rsplit_once(':').map_or(arn, |(_, name)| name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{EcsPair, Platform};
    use crate::resources::Leg;

    fn resources() -> TargetResources {
        let group =
            |name: &str| format!("arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/{name}/73e2");
        let leg = |name: &str| Leg {
            blue: group(&format!("{name}-blue")),
            green: group(&format!("{name}-green")),
            rules: Vec::new(),
            test_rule: None,
        };
        let pair = EcsPair {
            cluster: "arn:aws:ecs:eu-central-1:111122223333:cluster/shop".to_owned(),
            container: "api".to_owned(),
            blue: "api-blue".to_owned(),
            green: "api-green".to_owned(),
        };
        TargetResources { platform: Platform::EcsPair(pair), traffic: vec![leg("api"), leg("internal")] }
    }

    fn metric(namespace: &str, dimensions: &[(&str, &str)]) -> Metric {
        let dimensions = dimensions.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Metric { namespace: namespace.to_owned(), name: "Any".to_owned(), dimensions }
    }

    fn of_group(name: &str) -> Metric {
        let group = format!("targetgroup/api-{name}/73e2");
        metric("AWS/ApplicationELB", &[("LoadBalancer", "app/shop/50dc"), ("TargetGroup", &group)])
    }

    fn over(metrics: Vec<Metric>, expressions: &[&str]) -> AlarmDetails {
        let kind = AlarmKind::Metric(MetricAlarmDetails {
            metrics,
            expressions: expressions.iter().map(|formula| (*formula).to_owned()).collect(),
            period_s: 60,
            datapoints: 1,
            threshold: Some(1.0),
            comparison: "GreaterThanThreshold".to_owned(),
            treat_missing: "missing".to_owned(),
        });
        AlarmDetails { state: "OK".to_owned(), reason: String::new(), evaluation: None, kind }
    }

    fn composite(rule: &str) -> AlarmDetails {
        AlarmDetails { kind: AlarmKind::Composite { rule: rule.to_owned() }, ..over(Vec::new(), &[]) }
    }

    fn alarms() -> AlarmsByName {
        let service = |cluster: &str, name: &str| metric("AWS/ECS", &[("ClusterName", cluster), ("ServiceName", name)]);
        let balancer = metric("AWS/ApplicationELB", &[("LoadBalancer", "app/shop/50dc")]);
        let alarms = [
            ("blue", over(vec![of_group("blue")], &[])),
            ("green", over(vec![of_group("green")], &[])),
            ("green-rate", over(vec![of_group("green"), of_group("green")], &["100 * errors / requests"])),
            ("green-cpu", over(vec![service("shop", "api-green")], &[])),
            ("other-cluster", over(vec![service("shop-dev", "api-green")], &[])),
            ("difference", over(vec![of_group("green"), of_group("blue")], &["green - blue"])),
            ("share", over(vec![of_group("green"), balancer.clone()], &["green / all"])),
            ("balancer", over(vec![balancer], &[])),
            ("query", over(Vec::new(), &["SELECT MAX(Errors) FROM SCHEMA(Shop, Side)"])),
            ("search", over(vec![of_group("green")], &["SUM(SEARCH('{Shop} errors', 'Sum', 60)) + green"])),
            ("orders", over(vec![metric("Shop", &[])], &[])),
            ("green-all", composite("AT_LEAST(1, ALARM, (green, \"green-cpu\", green-rate)) AND NOT ALARM(blue)")),
            ("green-deep", composite("ALARM(green-all)")),
            ("either", composite("ALARM(green) OR ALARM(blue)")),
            ("gone", composite("ALARM(green) OR ALARM(deleted)")),
            ("unread", composite("SOME(green)")),
            ("circle", composite("ALARM(circle) OR ALARM(green)")),
            ("suppressor", composite("NOT ALARM(green)")),
        ];
        alarms.map(|(name, alarm)| (name.to_owned(), alarm)).into()
    }

    #[test]
    fn an_alarm_belongs_to_a_side_if_all_its_metrics_do() {
        let (resources, alarms) = (resources(), alarms());
        let seen: Vec<_> =
            alarms.keys().filter_map(|name| Some((name.as_str(), side(&resources, name, &alarms)?))).collect();
        let expected = [
            ("blue", Slot::Blue),
            ("circle", Slot::Green),
            ("green", Slot::Green),
            ("green-all", Slot::Green),
            ("green-cpu", Slot::Green),
            ("green-deep", Slot::Green),
            ("green-rate", Slot::Green),
        ];
        assert_eq!(seen, expected);
        assert_eq!(side(&resources, "nobody", &alarms), None);
    }

    #[test]
    fn a_composite_alarm_is_unevaluated_if_any_watched_alarm_is() {
        let mut alarms = alarms();
        assert_eq!(reading("green-deep", &alarms), AlarmReading::Ok);
        let cpu = alarms.get_mut("green-cpu").expect("it is there");
        cpu.evaluation = Some("EVALUATION_FAILURE".to_owned());
        let AlarmReading::NotEvaluated { reason } = reading("green-deep", &alarms) else {
            panic!("it counts as evaluated")
        };
        assert!(reason.contains("green-cpu") && reason.contains("EVALUATION_FAILURE"), "{reason}");
        let deep = alarms.get_mut("green-deep").expect("it is there");
        deep.state = "ALARM".to_owned();
        assert!(matches!(reading("green-deep", &alarms), AlarmReading::Firing { .. }));
        // An alarm that only suppresses has no influence.
        let blue = alarms.get_mut("blue").expect("it is there");
        blue.evaluation = Some("EVALUATION_FAILURE".to_owned());
        assert_eq!(reading("green", &alarms), AlarmReading::Ok);
        assert_eq!(reading("suppressor", &alarms), AlarmReading::Ok);
    }
}
