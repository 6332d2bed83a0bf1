//! One target of the file: its pair of services and how a release is rolled out there, including an environment's defaults.

use crate::arn::{self, ArnLocation};
use crate::hooks::{PartialHook, PartialHooks, read_partial_hooks, resolve_hooks};
use crate::problem::{Mark, ProblemCollector};
use crate::values::{self, Fields, LocatedNode, Shape};
use rollout::policy::{
    AlarmPolicy, Deadlines, Drift, EcsPair, MissingData, Side, StableFiring, Step, Strategy, TaskFailures, cluster_name,
};
use rollout::text::is_visible;
use rollout::{Percent, Seconds, TargetPolicy};
use std::collections::{BTreeMap, BTreeSet};

const MAX_STEPS: usize = 50;
const MAX_ALARMS: usize = 20;
const MAX_RULES: usize = 5;
/// A service has at most 5,000 tasks (ECS quotas).
const MAX_FAILED_TASKS: u32 = 5_000;
const MAX_TIMES_STABLE: u32 = 100;

/// The shortest deadline: with a shorter one, a single slow AWS response would decide.
pub const MIN_DEADLINE: Seconds = Seconds(5);

pub(crate) const TARGET: Shape = Shape {
    name: "Target",
    keys: &["cluster", "container", "blue", "green", "rules", "test_rule", "strategy", "alarms", "hooks", "deadlines"],
    required: &["cluster", "container", "blue", "green", "rules"],
};
pub(crate) const SIDE: Shape =
    Shape { name: "Side", keys: &["service", "target_group"], required: &["service", "target_group"] };
pub(crate) const STRATEGY: Shape = Shape {
    name: "Strategy",
    keys: &["steps", "bake", "keep_warm", "green_capacity", "drain", "task_failures"],
    required: &[],
};
pub(crate) const TASK_FAILURES: Shape =
    Shape { name: "TaskFailures", keys: &["count", "share", "times_stable"], required: &[] };
pub(crate) const STEP: Shape = Shape { name: "Step", keys: &["traffic", "hold"], required: &["traffic"] };
pub(crate) const ALARM: Shape =
    Shape { name: "AlarmEntry", keys: &["name", "missing", "stable_firing"], required: &["name"] };
pub(crate) const DEADLINES: Shape = Shape {
    name: "Deadlines",
    keys: &["preflight", "register", "healthy", "shift", "retire", "rollback"],
    required: &[],
};

/// Rollout settings of a target, or of an environment's `defaults`; each key may be missing on its own.
#[derive(Debug, Default)]
pub(crate) struct PartialTarget {
    steps: Option<Vec<Step>>,
    bake: Option<Seconds>,
    keep_warm: Option<Seconds>,
    green_capacity: Option<Percent>,
    drain: Option<Seconds>,
    failed_tasks: Option<u32>,
    failed_share: Option<Percent>,
    failed_times_stable: Option<u32>,
    alarms: Option<Vec<AlarmPolicy>>,
    hooks: PartialHooks,
    preflight: Option<Seconds>,
    register: Option<Seconds>,
    healthy: Option<Seconds>,
    shift: Option<Seconds>,
    retire: Option<Seconds>,
    rollback: Option<Seconds>,
}

/// A resource that only one target may name, and where the file names it.
#[derive(Debug)]
pub(crate) struct ExclusiveResource {
    /// Its kind and name, for messages.
    description: String,
    mark: Mark,
    path: String,
    /// Path of the target that names it.
    target: String,
}

/// Reads the keys that `defaults` and targets share.
pub(crate) fn partial_target(fields: &Fields<'_>, problems: &mut ProblemCollector) -> PartialTarget {
    let mut partial_target = PartialTarget::default();
    if let Some((at, path)) = fields.get("strategy") {
        strategy(at, &path, &mut partial_target, problems);
    }
    partial_target.alarms = fields.read("alarms", problems, alarms);
    if let Some((at, path)) = fields.get("hooks") {
        partial_target.hooks = read_partial_hooks(at, &path, problems);
    }
    if let Some((at, path)) = fields.get("deadlines")
        && let Some(fields) = Fields::new(at, &path, &DEADLINES, problems)
    {
        let mut deadline = |key: &str| {
            fields.read(key, problems, |at, path, problems| values::duration(at, path, MIN_DEADLINE, problems))
        };
        partial_target.preflight = deadline("preflight");
        partial_target.register = deadline("register");
        partial_target.healthy = deadline("healthy");
        partial_target.shift = deadline("shift");
        partial_target.retire = deadline("retire");
        partial_target.rollback = deadline("rollback");
    }
    partial_target
}

fn strategy(at: LocatedNode<'_>, path: &str, partial_target: &mut PartialTarget, problems: &mut ProblemCollector) {
    let Some(fields) = Fields::new(at, path, &STRATEGY, problems) else { return };
    partial_target.steps = fields.read("steps", problems, steps);
    let mut duration =
        |key: &str| fields.read(key, problems, |at, path, problems| values::duration(at, path, Seconds(0), problems));
    partial_target.bake = duration("bake");
    partial_target.keep_warm = duration("keep_warm");
    partial_target.drain = duration("drain");
    partial_target.green_capacity = fields.read("green_capacity", problems, |at, path, problems| {
        values::percent(at, path, "a share of the stable side's tasks", problems)
    });
    if let Some((at, path)) = fields.get("task_failures")
        && let Some(fields) = Fields::new(at, &path, &TASK_FAILURES, problems)
    {
        partial_target.failed_tasks = fields.read("count", problems, |at, path, problems| {
            values::count(at, path, "how many tasks", 0..=MAX_FAILED_TASKS, problems)
        });
        partial_target.failed_share = fields
            .read("share", problems, |at, path, problems| values::percent(at, path, "a share of the tasks", problems));
        partial_target.failed_times_stable = fields.read("times_stable", problems, |at, path, problems| {
            values::count(at, path, "how many times the stable side's rate", 1..=MAX_TIMES_STABLE, problems)
        });
    }
}

fn steps(at: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<Vec<Step>> {
    let nodes = values::list(at, path, "steps", MAX_STEPS, problems)?;
    let (mut steps, mut valid) = (Vec::new(), true);
    let mut reached = Some(Percent::NONE);
    let mut last = at.mark;
    for (at, path) in nodes {
        last = at.mark;
        let Some(fields) = Fields::new(at, &path, &STEP, problems) else {
            (reached, valid) = (None, false);
            continue;
        };
        let traffic = fields.read("traffic", problems, |at, path, problems| {
            last = at.mark;
            let traffic = values::percent(at, path, "a share of traffic", problems)?;
            if let Some(previous) = reached.filter(|previous| traffic <= *previous) {
                let message = format!(
                    "{traffic} comes after {previous}, but traffic must rise from step to step: put the steps in order, or take one away"
                );
                problems.add(at.mark, path, message);
            }
            Some(traffic)
        });
        let hold = match fields.get("hold") {
            Some((at, path)) => values::duration(at, &path, Seconds(0), problems),
            None => Some(if traffic == Some(Percent::ALL) { Seconds(0) } else { Seconds(300) }),
        };
        reached = traffic;
        match (traffic, hold) {
            (Some(traffic), Some(hold)) => steps.push(Step { traffic, hold }),
            _ => valid = false,
        }
    }
    if let Some(share) = reached.filter(|share| *share < Percent::ALL) {
        let message = match steps.is_empty() {
            true => "there are no steps: write at least `{traffic: 100%}`".to_owned(),
            false => format!("the last step is {share}, but all traffic must move in the end: add `{{traffic: 100%}}`"),
        };
        problems.add(last, path, message);
        return None;
    }
    valid.then_some(steps)
}

fn alarms(at: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<Vec<AlarmPolicy>> {
    let nodes = values::list(at, path, "alarms", MAX_ALARMS, problems)?;
    let mut alarms: Vec<AlarmPolicy> = Vec::new();
    for (at, path) in nodes {
        let Some(alarm) = alarm(at, &path, problems) else { continue };
        if alarms.iter().any(|other| other.name == alarm.name) {
            problems.add(
                at.mark,
                &path,
                format!("the alarm `{}` is there already: take one away", values::shorten(&alarm.name)),
            );
        }
        alarms.push(alarm);
    }
    Some(alarms)
}

fn alarm(at: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<AlarmPolicy> {
    if matches!(at.node.value, crate::tree::Value::Scalar { .. }) {
        let (missing, stable_firing) = (MissingData::Wait, StableFiring::Hold);
        return Some(AlarmPolicy { name: alarm_name(at, path, problems)?, missing, stable_firing });
    }
    let fields = Fields::new(at, path, &ALARM, problems)?;
    let name = fields.read("name", problems, alarm_name);
    let missing = match fields.get("missing") {
        Some((at, path)) => {
            let choices =
                [("wait", MissingData::Wait), ("healthy", MissingData::Healthy), ("unhealthy", MissingData::Unhealthy)];
            values::choice(at, &path, &choices, problems)
        }
        None => Some(MissingData::Wait),
    };
    let stable_firing = match fields.get("stable_firing") {
        Some((at, path)) => {
            values::choice(at, &path, &[("hold", StableFiring::Hold), ("go_on", StableFiring::GoOn)], problems)
        }
        None => Some(StableFiring::Hold),
    };
    Some(AlarmPolicy { name: name?, missing: missing?, stable_firing: stable_firing? })
}

/// 1 to 255 characters (CloudWatch API, `PutMetricAlarm`, `AlarmName`).
fn alarm_name(at: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<String> {
    let name = values::text(at, path, "the name of an alarm", problems)?;
    if name.starts_with("arn:") {
        problems.add(at.mark, path, "expected the name of an alarm, found an ARN: write what comes after `:alarm:`");
        return None;
    }
    if name.chars().count() > 255 || !name.chars().all(is_visible) {
        let message = "expected the name of an alarm: at most 255 characters, in one line, all of which are shown";
        problems.add(at.mark, path, message);
        return None;
    }
    Some(name.to_owned())
}

/// Reads one target.
pub(crate) fn read_target(
    at: LocatedNode<'_>,
    path: &str,
    defaults: &PartialTarget,
    resources: &mut Vec<ExclusiveResource>,
    problems: &mut ProblemCollector,
) -> Option<TargetPolicy> {
    let previous = problems.count();
    let fields = Fields::new(at, path, &TARGET, problems)?;
    let own = partial_target(&fields, problems);
    let mut locations = LocationCheck { path, first: None };
    let pair = pair(&fields, &mut locations, resources, problems);
    let container = pair.as_ref().map(|pair| pair.container.as_str());
    let hooks = resolve_hooks(&own.hooks, &defaults.hooks, container, at.mark, path, problems);
    for hook in hooks.iter().flatten() {
        if let PartialHook { function: Some(function), mark, path, .. } = hook
            && let Ok(Some(arn)) = arn::function(function)
        {
            locations.check(arn.location(), "the function", *mark, path, problems);
        }
    }
    let pick = |own: Option<Seconds>, default: Option<Seconds>, default_seconds: u64| {
        own.or(default).unwrap_or(Seconds(default_seconds))
    };
    let default_failures = TaskFailures::default();
    let strategy = Strategy {
        steps: own.steps.or_else(|| defaults.steps.clone()).unwrap_or_else(default_steps),
        bake: pick(own.bake, defaults.bake, 600),
        keep_warm: pick(own.keep_warm, defaults.keep_warm, 600),
        green_capacity: own.green_capacity.or(defaults.green_capacity).unwrap_or(Percent::ALL),
        drain: pick(own.drain, defaults.drain, 30),
        task_failures: TaskFailures {
            count: own.failed_tasks.or(defaults.failed_tasks).unwrap_or(default_failures.count),
            share: own.failed_share.or(defaults.failed_share).unwrap_or(default_failures.share),
            times_stable: own
                .failed_times_stable
                .or(defaults.failed_times_stable)
                .unwrap_or(default_failures.times_stable),
        },
    };
    let deadlines = Deadlines {
        preflight: pick(own.preflight, defaults.preflight, 30 * 60),
        register: pick(own.register, defaults.register, 5 * 60),
        healthy: pick(own.healthy, defaults.healthy, 15 * 60),
        shift: pick(own.shift, defaults.shift, 10 * 60),
        retire: pick(own.retire, defaults.retire, 15 * 60),
        rollback: pick(own.rollback, defaults.rollback, 30 * 60),
    };
    if problems.count() == previous {
        for (key, deadline) in [("retire", deadlines.retire), ("rollback", deadlines.rollback)] {
            if deadline <= strategy.drain {
                let message = format!(
                    "the deadline `{key}` ({deadline}) is not longer than the strategy's `drain` ({}): it would always run out; make one longer or the other shorter",
                    strategy.drain
                );
                problems.add(at.mark, path, message);
            }
        }
    }
    Some(TargetPolicy {
        pair: pair?,
        strategy,
        alarms: own.alarms.or_else(|| defaults.alarms.clone()).unwrap_or_default(),
        hooks: hooks?.into_iter().map(PartialHook::into_hook).collect(),
        deadlines,
        // Overwritten by the environment's setting, which is read beside its targets.
        drift: Drift::Tell,
    })
}

fn default_steps() -> Vec<Step> {
    let share = |percent: u8| Percent::new(percent).unwrap_or(Percent::ALL);
    vec![
        Step { traffic: share(10), hold: Seconds(300) },
        Step { traffic: share(50), hold: Seconds(300) },
        Step { traffic: Percent::ALL, hold: Seconds(0) },
    ]
}

/// Checks that all resources of a target are in one account and Region.
struct LocationCheck<'a> {
    path: &'a str,
    first: Option<(ArnLocation<'a>, &'static str)>,
}

impl<'a> LocationCheck<'a> {
    fn check(
        &mut self,
        location: ArnLocation<'a>,
        description: &'static str,
        mark: Mark,
        path: &str,
        problems: &mut ProblemCollector,
    ) {
        match self.first {
            None => self.first = Some((location, description)),
            Some((first, first_description)) if first != location => {
                let partition = |location: &ArnLocation<'_>, other: &ArnLocation<'_>| {
                    if location.partition() == other.partition() {
                        String::new()
                    } else {
                        format!(", partition {}", location.partition())
                    }
                };
                let message = format!(
                    "{description} is in {location}{}, {first_description} of `{}` in {first}{}: everything of a target is in one account and Region",
                    partition(&location, &first),
                    self.path,
                    partition(&first, &location)
                );
                problems.add(mark, path, message);
            }
            Some(_) => {}
        }
    }
}

fn pair<'n>(
    fields: &Fields<'n>,
    locations: &mut LocationCheck<'n>,
    resources: &mut Vec<ExclusiveResource>,
    problems: &mut ProblemCollector,
) -> Option<EcsPair> {
    let target = fields.path.as_str();
    let container = fields.read("container", problems, container_name);
    let blue = fields.read("blue", problems, |at, path, problems| side(at, path, problems));
    let green = fields.read("green", problems, |at, path, problems| side(at, path, problems));
    for side in [&blue, &green].into_iter().flatten() {
        if let Some((at, path)) = &side.group {
            locations.check(side.location, "the target group", at.mark, path, problems);
        }
    }
    if let (Some(blue), Some(green)) = (&blue, &green) {
        for (key, one, other) in
            [("service", blue.service, green.service), ("target_group", blue.target_group, green.target_group)]
        {
            if one == other {
                let message = format!("blue and green have the same `{key}`: each side has its own");
                problems.add(green.at, &format!("{target}.green.{key}"), message);
            }
        }
    }
    let rules = fields.read("rules", problems, |at, path, problems| {
        let nodes = values::list(at, path, "rules", MAX_RULES, problems)?;
        if nodes.is_empty() {
            problems.add(
                at.mark,
                path,
                "there are no rules: name at least one listener rule or listener whose weights are moved",
            );
        }
        Some(nodes)
    });
    let test_rule = fields.get("test_rule");
    let rules_and_test_rule =
        rules_and_test_rule(target, rules.as_deref(), test_rule.as_ref(), locations, resources, problems);
    let cluster = fields.read("cluster", problems, |at, path, problems| {
        let written = values::text(at, path, "the name of an ECS cluster", problems)?;
        match arn::cluster(written) {
            Ok(arn) => {
                if let Some(arn) = arn {
                    locations.check(arn.location(), "the cluster", at.mark, path, problems);
                }
                Some(written.to_owned())
            }
            Err(message) => {
                problems.add(at.mark, path, message);
                None
            }
        }
    });
    let (cluster, blue, green) = (cluster?, blue?, green?);
    for (side, key) in [(&blue, "blue"), (&green, "green")] {
        let resource = |description: String, key: &str| ExclusiveResource {
            description,
            mark: side.at,
            path: format!("{target}.{key}"),
            target: target.to_owned(),
        };
        resources.push(resource(
            format!("the ECS service `{}` of cluster `{}`", side.service, cluster_name(&cluster)),
            &format!("{key}.service"),
        ));
        resources.push(resource(format!("the target group `{}`", side.target_group), &format!("{key}.target_group")));
    }
    let (rules, test_rule) = rules_and_test_rule?;
    Some(EcsPair { cluster, container: container?, blue: blue.into_side(), green: green.into_side(), rules, test_rule })
}

pub(crate) fn container_name(at: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<String> {
    ecs_name(at, path, "the name of a container", problems).map(str::to_owned)
}

fn ecs_name<'n>(
    at: LocatedNode<'n>,
    path: &str,
    description: &str,
    problems: &mut ProblemCollector,
) -> Option<&'n str> {
    let written = values::text(at, path, description, problems)?;
    if !arn::ecs_name(written) {
        let message = format!(
            "expected {description}: letters, digits, `-` and `_`, at most 255 characters; found `{}`",
            values::shorten(written)
        );
        problems.add(at.mark, path, message);
        return None;
    }
    Some(written)
}

struct ParsedSide<'n> {
    at: Mark,
    service: &'n str,
    target_group: &'n str,
    location: ArnLocation<'n>,
    group: Option<(LocatedNode<'n>, String)>,
}

impl ParsedSide<'_> {
    fn into_side(self) -> Side {
        Side { service: self.service.to_owned(), target_group: self.target_group.to_owned() }
    }
}

fn side<'n>(at: LocatedNode<'n>, path: &str, problems: &mut ProblemCollector) -> Option<ParsedSide<'n>> {
    let fields = Fields::new(at, path, &SIDE, problems)?;
    let service = fields
        .read("service", problems, |at, path, problems| ecs_name(at, path, "the name of an ECS service", problems));
    let group = fields.read("target_group", problems, |at, path, problems| {
        let written = values::text(at, path, "the ARN of a target group", problems)?;
        match arn::target_group(written) {
            Ok(arn) => Some((written, arn.location())),
            Err(message) => {
                problems.add(at.mark, path, message);
                None
            }
        }
    });
    let (target_group, location) = group?;
    Some(ParsedSide { at: fields.at, service: service?, target_group, location, group: fields.get("target_group") })
}

/// Reads the rules and the test rule: well-formed, each listed once, and all of one load balancer.
fn rules_and_test_rule<'n>(
    target: &str,
    rules: Option<&[(LocatedNode<'n>, String)]>,
    test_rule: Option<&(LocatedNode<'n>, String)>,
    locations: &mut LocationCheck<'n>,
    resources: &mut Vec<ExclusiveResource>,
    problems: &mut ProblemCollector,
) -> Option<(Vec<String>, Option<String>)> {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut first_load_balancer = None;
    let mut valid = true;
    let mut texts = Vec::new();
    for (at, path) in rules.into_iter().flatten().chain(test_rule) {
        let description = "the ARN of a listener rule or a listener";
        let rule_or_listener =
            values::text(*at, path, description, problems).map(|written| (written, arn::rule_or_listener(written)));
        let (written, rule_or_listener) = match rule_or_listener {
            Some((written, Ok(rule_or_listener))) => (written, rule_or_listener),
            Some((_, Err(message))) => {
                problems.add(at.mark, path, message);
                valid = false;
                continue;
            }
            None => {
                valid = false;
                continue;
            }
        };
        locations.check(rule_or_listener.arn.location(), "the rule", at.mark, path, problems);
        if !seen.insert(written) {
            problems.add(
                at.mark,
                path,
                "this rule is there already: each rule once, and the test rule is another than the `rules`",
            );
        }
        if *first_load_balancer.get_or_insert(rule_or_listener.load_balancer) != rule_or_listener.load_balancer {
            let message =
                "this rule is of another load balancer than the first one: a target group belongs to one load balancer";
            problems.add(at.mark, path, message);
        }
        resources.push(ExclusiveResource {
            description: format!("the rule `{written}`"),
            mark: at.mark,
            path: path.clone(),
            target: target.to_owned(),
        });
        texts.push(written.to_owned());
    }
    rules?;
    if !valid {
        return None;
    }
    let test_rule = if test_rule.is_some() { texts.pop() } else { None };
    Some((texts, test_rule))
}

/// Checks that no two targets control the same resource.
pub(crate) fn check_no_shared_resources(resources: &[ExclusiveResource], problems: &mut ProblemCollector) {
    let mut owners: BTreeMap<&str, &ExclusiveResource> = BTreeMap::new();
    for resource in resources {
        let first = owners.entry(&resource.description).or_insert(resource);
        if first.target != resource.target {
            let message = format!(
                "{} belongs to `{}` already (line {}): two targets must not move the same thing",
                resource.description, first.target, first.mark.line
            );
            problems.add(resource.mark, &resource.path, message);
        }
    }
}
