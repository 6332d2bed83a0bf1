//! One target of the file: how a release is rolled out there, including an environment's defaults. What runs it is read
//! in [`resources`](mod@crate::resources).

use crate::arn;
use crate::file;
use crate::hooks::{PartialHook, PartialHooks, read_partial_hooks, resolve_hooks};
use crate::problem::ProblemCollector;
use crate::resources::{ExclusiveResource, LocationCheck, read_resources, written_way};
use crate::tree::Value;
use crate::values::{self, Fields, LocatedNode, MIN_DEADLINE};
use rollout::policy::{
    AlarmAtStart, AlarmEffect, AlarmPolicy, Deadlines, Drift, HookPoint, MissingData, StableFiring, Step, Strategy,
    TaskFailures,
};
use rollout::template::{ConfigurationTrigger, TemplateSource};
use rollout::text::is_visible;
use rollout::{Percent, Seconds, TargetPolicy, Way};

const MAX_STEPS: usize = 50;
const MAX_ALARMS: usize = 20;
/// A service has at most 5,000 tasks (ECS quotas).
const MAX_FAILED_TASKS: u32 = 5_000;
const MAX_TIMES_STABLE: u32 = 100;

/// What an alarm without data means, in the file's notation.
pub(crate) const MISSING: [(&str, MissingData); 3] =
    [("wait", MissingData::Wait), ("healthy", MissingData::Healthy), ("unhealthy", MissingData::Unhealthy)];

/// What a firing alarm does, in the file's notation.
pub(crate) const FIRING: [(&str, AlarmEffect); 3] =
    [("back", AlarmEffect::Back), ("hold", AlarmEffect::Hold), ("tell", AlarmEffect::Tell)];

/// What an alarm does that fires at the start already, in the file's notation.
pub(crate) const AT_START: [(&str, AlarmAtStart); 2] = [("block", AlarmAtStart::Block), ("pass", AlarmAtStart::Pass)];

/// What happens if an alarm fires whose metrics all belong to the stable side, in the file's notation.
pub(crate) const STABLE_FIRING: [(&str, StableFiring); 2] =
    [("hold", StableFiring::Hold), ("go_on", StableFiring::GoOn)];

/// The template that is the live version, in the file's notation.
pub(crate) const LIVE_TEMPLATE: &str = "live";

/// What deploys a newer template whose image is the same, in the file's notation.
pub(crate) const CONFIGURATION: [(&str, ConfigurationTrigger); 2] =
    [("manual", ConfigurationTrigger::Manual), ("automatic", ConfigurationTrigger::Automatic)];

/// The keys of a target that need two sides, and what is said where one service, whose versions replace one another in
/// place, has them.
pub(crate) const NEEDS_TWO_SIDES: [(&str, &str); 7] = [
    (
        "strategy.steps",
        "weights need two sides, and the tasks of one `service` are replaced in place: take it away, or name a pair",
    ),
    (
        "strategy.keep_warm",
        "the tasks of one `service` are replaced in place, so no old side stays up: take it away, or name a pair",
    ),
    (
        "strategy.green_capacity",
        "one `service` has no second side to start, and how many of its tasks run while they are replaced is set by \
         its `deploymentConfiguration` in ECS: take it away, or name a pair",
    ),
    (
        "strategy.drain",
        "one `service` has no side that loses its traffic, and its tasks drain as long as the deregistration delay of \
         their target groups says: take it away, or name a pair",
    ),
    (
        "strategy.task_failures.times_stable",
        "the tasks of one `service` are replaced in place, so there is no stable side beside them to compare with: \
         take it away; `count` and `share` apply",
    ),
    (
        "hooks.test_traffic",
        "one `service` has no test rule: move the hooks to `before_traffic` or `after_traffic`, or name a pair",
    ),
    (
        "deadlines.retire",
        "the tasks of one `service` are replaced in place, so no old side is taken down: take it away, or name a pair",
    ),
];

/// Rollout settings of a target, or of an environment's `defaults`; each key may be missing on its own.
#[derive(Debug, Default)]
pub(crate) struct PartialTarget {
    strategy: PartialStrategy,
    alarms: Option<Vec<AlarmPolicy>>,
    hooks: PartialHooks,
    deadlines: PartialDeadlines,
    configuration: Option<ConfigurationTrigger>,
}

#[derive(Debug, Default)]
struct PartialStrategy {
    steps: Option<Vec<Step>>,
    bake: Option<Seconds>,
    keep_warm: Option<Seconds>,
    green_capacity: Option<Percent>,
    drain: Option<Seconds>,
    task_failures: PartialTaskFailures,
}

#[derive(Debug, Default, Clone, Copy)]
struct PartialTaskFailures {
    count: Option<u32>,
    share: Option<Percent>,
    times_stable: Option<u32>,
}

#[derive(Debug, Default, Clone, Copy)]
struct PartialDeadlines {
    preflight: Option<Seconds>,
    register: Option<Seconds>,
    healthy: Option<Seconds>,
    shift: Option<Seconds>,
    retire: Option<Seconds>,
    rollback: Option<Seconds>,
}

impl PartialTarget {
    /// What one service inherits of an environment's `defaults`: nothing that [needs two sides](NEEDS_TWO_SIDES). In
    /// place of its steps, all traffic is on the new version once that runs.
    fn without_second_side(&self) -> Self {
        let mut hooks = self.hooks.clone();
        hooks.remove(&HookPoint::TestTraffic);
        let strategy = PartialStrategy {
            steps: Some(vec![Step { traffic: Percent::ALL, hold: Seconds(0) }]),
            bake: self.strategy.bake,
            keep_warm: Some(Seconds(0)),
            green_capacity: Some(Percent::ALL),
            drain: Some(Seconds(0)),
            task_failures: PartialTaskFailures { times_stable: None, ..self.strategy.task_failures },
        };
        let deadlines = PartialDeadlines { retire: None, ..self.deadlines };
        Self { strategy, alarms: self.alarms.clone(), hooks, deadlines, configuration: self.configuration }
    }
}

impl PartialStrategy {
    /// Completed with the environment's `defaults`, and then with the built-in ones.
    fn resolve(self, defaults: &Self) -> Strategy {
        let (failures, default_failures) = (&self.task_failures, &defaults.task_failures);
        let built_in = TaskFailures::default();
        let task_failures = TaskFailures {
            count: failures.count.or(default_failures.count).unwrap_or(built_in.count),
            share: failures.share.or(default_failures.share).unwrap_or(built_in.share),
            times_stable: failures.times_stable.or(default_failures.times_stable).unwrap_or(built_in.times_stable),
        };
        Strategy {
            steps: self.steps.or_else(|| defaults.steps.clone()).unwrap_or_else(default_steps),
            bake: self.bake.or(defaults.bake).unwrap_or(Seconds(600)),
            keep_warm: self.keep_warm.or(defaults.keep_warm).unwrap_or(Seconds(600)),
            green_capacity: self.green_capacity.or(defaults.green_capacity).unwrap_or(Percent::ALL),
            drain: self.drain.or(defaults.drain).unwrap_or(Seconds(30)),
            task_failures,
        }
    }
}

impl PartialDeadlines {
    /// Completed with the environment's `defaults`, and then with the built-in ones.
    fn resolve(&self, defaults: &Self) -> Deadlines {
        Deadlines {
            preflight: self.preflight.or(defaults.preflight).unwrap_or(Seconds(30 * 60)),
            register: self.register.or(defaults.register).unwrap_or(Seconds(5 * 60)),
            healthy: self.healthy.or(defaults.healthy).unwrap_or(Seconds(15 * 60)),
            shift: self.shift.or(defaults.shift).unwrap_or(Seconds(10 * 60)),
            retire: self.retire.or(defaults.retire).unwrap_or(Seconds(15 * 60)),
            rollback: self.rollback.or(defaults.rollback).unwrap_or(Seconds(30 * 60)),
        }
    }
}

/// Reads the keys that `defaults` and targets share.
pub(crate) fn read_partial_target(fields: &Fields<'_>, problems: &mut ProblemCollector) -> PartialTarget {
    let strategy = fields.read("strategy", problems, read_strategy).unwrap_or_default();
    let alarms = fields.read("alarms", problems, read_alarms);
    let hooks = fields.read("hooks", problems, |node, path, problems| Some(read_partial_hooks(node, path, problems)));
    let deadlines = fields.read("deadlines", problems, read_deadlines).unwrap_or_default();
    let configuration = fields
        .read("configuration", problems, |node, path, problems| values::choice(node, path, &CONFIGURATION, problems));
    PartialTarget { strategy, alarms, hooks: hooks.unwrap_or_default(), deadlines, configuration }
}

/// Reads where everything of a new version but its image comes from: the word for the live version, or a family.
fn read_template(node: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<TemplateSource> {
    match &node.inner.value {
        Value::Scalar { text, .. } if text == LIVE_TEMPLATE => return Some(TemplateSource::Live),
        Value::Broken => return None,
        Value::Map(_) => {}
        Value::Scalar { .. } | Value::List(_) => {
            let found = values::describe_node(node.inner);
            let message = format!("expected `{LIVE_TEMPLATE}`, or `{{family: NAME}}`, found {found}");
            problems.add(node.mark, path, message);
            return None;
        }
    }
    let fields = Fields::new(node, path, file::TemplateFamily::KEYS, problems)?;
    let family = fields.read("family", problems, |node, path, problems| {
        let description = "the name of a family of task definitions";
        values::checked_text(node, path, description, arn::template_family, problems)
    });
    family.map(TemplateSource::Family)
}

/// What deploys a newer template of a target. A newer one exists only in a family: without one, what `defaults` say does
/// not apply.
fn resolve_configuration(
    target: &Fields<'_>,
    own: Option<ConfigurationTrigger>,
    default: Option<ConfigurationTrigger>,
    template: &TemplateSource,
    problems: &mut ProblemCollector,
) -> ConfigurationTrigger {
    if template.family().is_some() {
        return own.or(default).unwrap_or_default();
    }
    if let (Some(ConfigurationTrigger::Automatic), Some((node, path))) = (own, target.get("configuration")) {
        let message = "the live version is the template, so there is never a newer one: name a family as `template: \
                       {family: NAME}`, or write `manual`";
        problems.add(node.mark, &path, message);
    }
    ConfigurationTrigger::Manual
}

fn read_deadlines(node: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<PartialDeadlines> {
    let fields = Fields::new(node, path, file::Deadlines::KEYS, problems)?;
    let mut deadline = |key: &str| {
        fields.read(key, problems, |node, path, problems| values::duration(node, path, MIN_DEADLINE, problems))
    };
    Some(PartialDeadlines {
        preflight: deadline("preflight"),
        register: deadline("register"),
        healthy: deadline("healthy"),
        shift: deadline("shift"),
        retire: deadline("retire"),
        rollback: deadline("rollback"),
    })
}

fn read_strategy(node: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<PartialStrategy> {
    let fields = Fields::new(node, path, file::Strategy::KEYS, problems)?;
    let steps = fields.read("steps", problems, read_steps);
    let mut duration = |key: &str| {
        fields.read(key, problems, |node, path, problems| values::duration(node, path, Seconds(0), problems))
    };
    let (bake, keep_warm, drain) = (duration("bake"), duration("keep_warm"), duration("drain"));
    let green_capacity = fields.read("green_capacity", problems, |node, path, problems| {
        values::percent(node, path, "a share of the stable side's tasks", problems)
    });
    let task_failures = fields.read("task_failures", problems, read_task_failures).unwrap_or_default();
    Some(PartialStrategy { steps, bake, keep_warm, green_capacity, drain, task_failures })
}

fn read_task_failures(
    node: LocatedNode<'_>,
    path: &str,
    problems: &mut ProblemCollector,
) -> Option<PartialTaskFailures> {
    let fields = Fields::new(node, path, file::TaskFailures::KEYS, problems)?;
    let count = fields.read("count", problems, |node, path, problems| {
        values::count(node, path, "how many tasks", 0..=MAX_FAILED_TASKS, problems)
    });
    let share = fields
        .read("share", problems, |node, path, problems| values::percent(node, path, "a share of the tasks", problems));
    let times_stable = fields.read("times_stable", problems, |node, path, problems| {
        values::count(node, path, "how many times the stable side's rate", 1..=MAX_TIMES_STABLE, problems)
    });
    Some(PartialTaskFailures { count, share, times_stable })
}

fn read_steps(node: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<Vec<Step>> {
    let nodes = values::list(node, path, "steps", MAX_STEPS, problems)?;
    let (mut steps, mut valid) = (Vec::new(), true);
    let mut reached = Some(Percent::NONE);
    let mut last = node.mark;
    for (node, path) in nodes {
        last = node.mark;
        let Some(fields) = Fields::new(node, &path, file::Step::KEYS, problems) else {
            (reached, valid) = (None, false);
            continue;
        };
        let traffic = fields.read("traffic", problems, |node, path, problems| {
            last = node.mark;
            let traffic = values::percent(node, path, "a share of traffic", problems)?;
            if let Some(previous) = reached.filter(|previous| traffic <= *previous) {
                let message = format!(
                    "{traffic} comes after {previous}, but traffic must rise from step to step: put the steps in order, or take one away"
                );
                problems.add(node.mark, path, message);
            }
            Some(traffic)
        });
        let default_hold = if traffic == Some(Percent::ALL) { Seconds(0) } else { Seconds(300) };
        let hold = fields.read_or("hold", default_hold, problems, |node, path, problems| {
            values::duration(node, path, Seconds(0), problems)
        });
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

fn read_alarms(node: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<Vec<AlarmPolicy>> {
    let nodes = values::list(node, path, "alarms", MAX_ALARMS, problems)?;
    let mut alarms: Vec<AlarmPolicy> = Vec::new();
    for (node, path) in nodes {
        let Some(alarm) = read_alarm(node, &path, problems) else { continue };
        if alarms.iter().any(|other| other.name == alarm.name) {
            problems.add(
                node.mark,
                &path,
                format!("the alarm `{}` is there already: take one away", values::shorten(&alarm.name)),
            );
        }
        alarms.push(alarm);
    }
    Some(alarms)
}

fn read_alarm(node: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<AlarmPolicy> {
    if matches!(node.inner.value, Value::Scalar { .. }) {
        return Some(AlarmPolicy::new(read_alarm_name(node, path, problems)?));
    }
    let fields = Fields::new(node, path, file::AlarmEntry::KEYS, problems)?;
    let name = fields.read("name", problems, read_alarm_name);
    let missing = fields.choice_or("missing", &MISSING, MissingData::Wait, problems);
    let firing = fields.choice_or("firing", &FIRING, AlarmEffect::Back, problems);
    let at_start = fields.choice_or("at_start", &AT_START, AlarmAtStart::Block, problems);
    let stable_firing = fields.choice_or("stable_firing", &STABLE_FIRING, StableFiring::Hold, problems);
    let (firing, at_start) = (firing?, at_start?);
    Some(AlarmPolicy { name: name?, missing: missing?, firing, at_start, stable_firing: stable_firing? })
}

/// 1 to 255 characters (CloudWatch API, `PutMetricAlarm`, `AlarmName`).
fn read_alarm_name(node: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<String> {
    let name = values::text(node, path, "the name of an alarm", problems)?;
    if name.starts_with("arn:") {
        problems.add(node.mark, path, "expected the name of an alarm, found an ARN: write what comes after `:alarm:`");
        return None;
    }
    if name.chars().count() > 255 || !name.chars().all(is_visible) {
        let message = "expected the name of an alarm: at most 255 characters, in one line, all of which are shown";
        problems.add(node.mark, path, message);
        return None;
    }
    Some(name.to_owned())
}

/// Ends the message about an unknown key of a target: it may be a platform that only another version knows.
fn platform_hint(_: &str, near: Option<&str>) -> Option<String> {
    match near {
        Some("ecs") => Some("did you mean `ecs`, the only platform that this version knows?".to_owned()),
        Some(_) => None,
        None => {
            let known = values::list_keys(file::Target::KEYS);
            Some(format!("known here: {known}; of platforms, this version knows `ecs`"))
        }
    }
}

/// Reports every key of one service that [needs two sides](NEEDS_TWO_SIDES).
fn check_needs_no_second_side(target: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) {
    for (keys, message) in NEEDS_TWO_SIDES {
        let found = keys.split('.').try_fold((target.mark, target.inner), |(_, node), key| {
            values::find_entry(node, key).map(|(key, node)| (key.mark, node))
        });
        if let Some((mark, _)) = found {
            problems.add(mark, &format!("{path}.{keys}"), message);
        }
    }
}

/// Reads one target.
pub(crate) fn read_target(
    node: LocatedNode<'_>,
    path: &str,
    defaults: &PartialTarget,
    resources: &mut Vec<ExclusiveResource>,
    problems: &mut ProblemCollector,
) -> Option<TargetPolicy> {
    let previous = problems.count();
    let fields = Fields::with_hints(node, path, file::Target::KEYS, platform_hint, problems)?;
    let own = read_partial_target(&fields, problems);
    let way = written_way(&fields);
    let without_second_side = (way == Some(Way::InPlace)).then(|| defaults.without_second_side());
    if without_second_side.is_some() {
        check_needs_no_second_side(node, path, problems);
    }
    let defaults = without_second_side.as_ref().unwrap_or(defaults);
    let mut locations = LocationCheck::new(path);
    let named = read_resources(&fields, way, &mut locations, resources, problems);
    let service = named.as_ref().and_then(|named| named.platform.ecs_services().next());
    let container = service.map(|service| service.container);
    let hooks = resolve_hooks(&own.hooks, &defaults.hooks, container, node.mark, path, problems);
    for hook in hooks.iter().flatten() {
        if let PartialHook { function: Some(function), mark, path, .. } = hook
            && let Ok(Some(arn)) = arn::function(function)
        {
            locations.check(arn.location(), "the function", *mark, path, problems);
        }
    }
    let template = fields.read_or("template", TemplateSource::Live, problems, read_template);
    let configuration = template
        .as_ref()
        .map(|template| resolve_configuration(&fields, own.configuration, defaults.configuration, template, problems));
    let strategy = own.strategy.resolve(&defaults.strategy);
    let deadlines = own.deadlines.resolve(&defaults.deadlines);
    if problems.count() == previous {
        for (key, deadline) in [("retire", deadlines.retire), ("rollback", deadlines.rollback)] {
            if deadline <= strategy.drain {
                let message = format!(
                    "the deadline `{key}` ({deadline}) is not longer than the strategy's `drain` ({}): it would always run out; make one longer or the other shorter",
                    strategy.drain
                );
                problems.add(node.mark, path, message);
            }
        }
    }
    Some(TargetPolicy {
        resources: named?,
        template: template?,
        configuration: configuration?,
        strategy,
        alarms: own.alarms.or_else(|| defaults.alarms.clone()).unwrap_or_default(),
        hooks: hooks?.into_iter().map(PartialHook::into_hook).collect(),
        deadlines,
        // Overwritten by the environment's settings, which are read beside its targets.
        drift: Drift::Tell,
        recovery_time: None,
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
