//! One target of the file: its pair, and how a release gets there, an environment's defaults included.

use crate::arn::{self, Home};
use crate::hooks::{HookWish, HookWishes, hook_wishes, settle_hooks};
use crate::problem::{Found, Mark};
use crate::walk::{self, At, Fields, Shape};
use rollout::policy::{
    AlarmPolicy, Deadlines, Drift, EcsPair, MissingData, Side, StableFiring, Step, Strategy, TaskFailures, cluster_name,
};
use rollout::text::is_visible;
use rollout::{Percent, Seconds, TargetPolicy};
use std::collections::{BTreeMap, BTreeSet};

const MOST_STEPS: usize = 50;
const MOST_ALARMS: usize = 20;
const MOST_RULES: usize = 5;
/// A service has 5,000 tasks at most (ECS quotas).
const MOST_FAILED: u32 = 5_000;
const MOST_TIMES_STABLE: u32 = 100;

/// The shortest deadline: below that a single slow answer of AWS would decide.
pub const SHORTEST_DEADLINE: Seconds = Seconds(5);

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

/// What a target, or an environment's `defaults`, says of how a release gets there: each key for itself.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    steps: Option<Vec<Step>>,
    bake: Option<Seconds>,
    keep_warm: Option<Seconds>,
    green_capacity: Option<Percent>,
    drain: Option<Seconds>,
    failed_tasks: Option<u32>,
    failed_share: Option<Percent>,
    failed_times_stable: Option<u32>,
    alarms: Option<Vec<AlarmPolicy>>,
    hooks: HookWishes,
    preflight: Option<Seconds>,
    register: Option<Seconds>,
    healthy: Option<Seconds>,
    shift: Option<Seconds>,
    retire: Option<Seconds>,
    rollback: Option<Seconds>,
}

/// Where something is written that only one target may name.
#[derive(Debug)]
pub(crate) struct Place {
    /// What it is, for people, and its name.
    what: String,
    mark: Mark,
    path: String,
    /// Path of the target that names it.
    target: String,
}

/// Reads what `defaults` and targets have in common.
pub(crate) fn wishes(fields: &Fields<'_>, found: &mut Found) -> Wishes {
    let mut wishes = Wishes::default();
    if let Some((at, path)) = fields.get("strategy") {
        strategy(at, &path, &mut wishes, found);
    }
    wishes.alarms = fields.read("alarms", found, alarms);
    if let Some((at, path)) = fields.get("hooks") {
        wishes.hooks = hook_wishes(at, &path, found);
    }
    if let Some((at, path)) = fields.get("deadlines")
        && let Some(fields) = Fields::new(at, &path, &DEADLINES, found)
    {
        let mut deadline =
            |key: &str| fields.read(key, found, |at, path, found| walk::duration(at, path, SHORTEST_DEADLINE, found));
        wishes.preflight = deadline("preflight");
        wishes.register = deadline("register");
        wishes.healthy = deadline("healthy");
        wishes.shift = deadline("shift");
        wishes.retire = deadline("retire");
        wishes.rollback = deadline("rollback");
    }
    wishes
}

fn strategy(at: At<'_>, path: &str, wishes: &mut Wishes, found: &mut Found) {
    let Some(fields) = Fields::new(at, path, &STRATEGY, found) else { return };
    wishes.steps = fields.read("steps", found, steps);
    let mut duration =
        |key: &str| fields.read(key, found, |at, path, found| walk::duration(at, path, Seconds(0), found));
    wishes.bake = duration("bake");
    wishes.keep_warm = duration("keep_warm");
    wishes.drain = duration("drain");
    wishes.green_capacity = fields.read("green_capacity", found, |at, path, found| {
        walk::percent(at, path, "a share of the stable side's tasks", found)
    });
    if let Some((at, path)) = fields.get("task_failures")
        && let Some(fields) = Fields::new(at, &path, &TASK_FAILURES, found)
    {
        wishes.failed_tasks = fields
            .read("count", found, |at, path, found| walk::count(at, path, "how many tasks", 0..=MOST_FAILED, found));
        wishes.failed_share =
            fields.read("share", found, |at, path, found| walk::percent(at, path, "a share of the tasks", found));
        wishes.failed_times_stable = fields.read("times_stable", found, |at, path, found| {
            walk::count(at, path, "how many times the stable side's rate", 1..=MOST_TIMES_STABLE, found)
        });
    }
}

fn steps(at: At<'_>, path: &str, found: &mut Found) -> Option<Vec<Step>> {
    let nodes = walk::list(at, path, "steps", MOST_STEPS, found)?;
    let (mut steps, mut sound) = (Vec::new(), true);
    let mut reached = Some(Percent::NONE);
    let mut last = at.mark;
    for (at, path) in nodes {
        last = at.mark;
        let Some(fields) = Fields::new(at, &path, &STEP, found) else {
            (reached, sound) = (None, false);
            continue;
        };
        let traffic = fields.read("traffic", found, |at, path, found| {
            last = at.mark;
            let traffic = walk::percent(at, path, "a share of traffic", found)?;
            if let Some(before) = reached.filter(|before| traffic <= *before) {
                let message = format!(
                    "{traffic} comes after {before}, but traffic must rise from step to step: put the steps in order, or take one away"
                );
                found.add(at.mark, path, message);
            }
            Some(traffic)
        });
        let hold = match fields.get("hold") {
            Some((at, path)) => walk::duration(at, &path, Seconds(0), found),
            None => Some(if traffic == Some(Percent::ALL) { Seconds(0) } else { Seconds(300) }),
        };
        reached = traffic;
        match (traffic, hold) {
            (Some(traffic), Some(hold)) => steps.push(Step { traffic, hold }),
            _ => sound = false,
        }
    }
    if let Some(share) = reached.filter(|share| *share < Percent::ALL) {
        let message = match steps.is_empty() {
            true => "there are no steps: write at least `{traffic: 100%}`".to_owned(),
            false => format!("the last step is {share}, but all traffic must move in the end: add `{{traffic: 100%}}`"),
        };
        found.add(last, path, message);
        return None;
    }
    sound.then_some(steps)
}

fn alarms(at: At<'_>, path: &str, found: &mut Found) -> Option<Vec<AlarmPolicy>> {
    let nodes = walk::list(at, path, "alarms", MOST_ALARMS, found)?;
    let mut alarms: Vec<AlarmPolicy> = Vec::new();
    for (at, path) in nodes {
        let Some(alarm) = alarm(at, &path, found) else { continue };
        if alarms.iter().any(|other| other.name == alarm.name) {
            found.add(
                at.mark,
                &path,
                format!("the alarm `{}` is there already: take one away", walk::shown(&alarm.name)),
            );
        }
        alarms.push(alarm);
    }
    Some(alarms)
}

fn alarm(at: At<'_>, path: &str, found: &mut Found) -> Option<AlarmPolicy> {
    if matches!(at.node.value, crate::tree::Value::Scalar { .. }) {
        let (missing, stable_firing) = (MissingData::Wait, StableFiring::Hold);
        return Some(AlarmPolicy { name: alarm_name(at, path, found)?, missing, stable_firing });
    }
    let fields = Fields::new(at, path, &ALARM, found)?;
    let name = fields.read("name", found, alarm_name);
    let missing = match fields.get("missing") {
        Some((at, path)) => {
            let choices =
                [("wait", MissingData::Wait), ("healthy", MissingData::Healthy), ("unhealthy", MissingData::Unhealthy)];
            walk::choice(at, &path, &choices, found)
        }
        None => Some(MissingData::Wait),
    };
    let stable_firing = match fields.get("stable_firing") {
        Some((at, path)) => {
            walk::choice(at, &path, &[("hold", StableFiring::Hold), ("go_on", StableFiring::GoOn)], found)
        }
        None => Some(StableFiring::Hold),
    };
    Some(AlarmPolicy { name: name?, missing: missing?, stable_firing: stable_firing? })
}

/// 1 to 255 characters (CloudWatch API, `PutMetricAlarm`, `AlarmName`).
fn alarm_name(at: At<'_>, path: &str, found: &mut Found) -> Option<String> {
    let name = walk::text(at, path, "the name of an alarm", found)?;
    if name.starts_with("arn:") {
        found.add(at.mark, path, "expected the name of an alarm, found an ARN: write what comes after `:alarm:`");
        return None;
    }
    if name.chars().count() > 255 || !name.chars().all(is_visible) {
        let message = "expected the name of an alarm: at most 255 characters, in one line, all of which are shown";
        found.add(at.mark, path, message);
        return None;
    }
    Some(name.to_owned())
}

/// Reads one target.
pub(crate) fn read_target(
    at: At<'_>,
    path: &str,
    defaults: &Wishes,
    places: &mut Vec<Place>,
    found: &mut Found,
) -> Option<TargetPolicy> {
    let before = found.count();
    let fields = Fields::new(at, path, &TARGET, found)?;
    let own = wishes(&fields, found);
    let mut homes = Homes { path, first: None };
    let pair = pair(&fields, &mut homes, places, found);
    let container = pair.as_ref().map(|pair| pair.container.as_str());
    let hooks = settle_hooks(&own.hooks, &defaults.hooks, container, at.mark, path, found);
    for hook in hooks.iter().flatten() {
        if let HookWish { function: Some(function), mark, path, .. } = hook
            && let Ok(Some(arn)) = arn::function(function)
        {
            homes.check(arn.home(), "the function", *mark, path, found);
        }
    }
    let pick =
        |own: Option<Seconds>, default: Option<Seconds>, otherwise: u64| own.or(default).unwrap_or(Seconds(otherwise));
    let usual = TaskFailures::default();
    let strategy = Strategy {
        steps: own.steps.or_else(|| defaults.steps.clone()).unwrap_or_else(usual_steps),
        bake: pick(own.bake, defaults.bake, 600),
        keep_warm: pick(own.keep_warm, defaults.keep_warm, 600),
        green_capacity: own.green_capacity.or(defaults.green_capacity).unwrap_or(Percent::ALL),
        drain: pick(own.drain, defaults.drain, 30),
        task_failures: TaskFailures {
            count: own.failed_tasks.or(defaults.failed_tasks).unwrap_or(usual.count),
            share: own.failed_share.or(defaults.failed_share).unwrap_or(usual.share),
            times_stable: own.failed_times_stable.or(defaults.failed_times_stable).unwrap_or(usual.times_stable),
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
    if found.count() == before {
        for (key, deadline) in [("retire", deadlines.retire), ("rollback", deadlines.rollback)] {
            if deadline <= strategy.drain {
                let message = format!(
                    "the deadline `{key}` ({deadline}) is not longer than the strategy's `drain` ({}): it would always run out; make one longer or the other shorter",
                    strategy.drain
                );
                found.add(at.mark, path, message);
            }
        }
    }
    Some(TargetPolicy {
        pair: pair?,
        strategy,
        alarms: own.alarms.or_else(|| defaults.alarms.clone()).unwrap_or_default(),
        hooks: hooks?.into_iter().map(HookWish::into_hook).collect(),
        deadlines,
        // The environment's, which is read beside its targets.
        drift: Drift::Tell,
    })
}

fn usual_steps() -> Vec<Step> {
    let share = |percent: u8| Percent::new(percent).unwrap_or(Percent::ALL);
    vec![
        Step { traffic: share(10), hold: Seconds(300) },
        Step { traffic: share(50), hold: Seconds(300) },
        Step { traffic: Percent::ALL, hold: Seconds(0) },
    ]
}

/// All resources of a target are in one account and Region.
struct Homes<'a> {
    path: &'a str,
    first: Option<(Home<'a>, &'static str)>,
}

impl<'a> Homes<'a> {
    fn check(&mut self, home: Home<'a>, what: &'static str, mark: Mark, path: &str, found: &mut Found) {
        match self.first {
            None => self.first = Some((home, what)),
            Some((first, first_what)) if first != home => {
                let partition = |home: &Home<'_>, other: &Home<'_>| {
                    if home.partition() == other.partition() {
                        String::new()
                    } else {
                        format!(", partition {}", home.partition())
                    }
                };
                let message = format!(
                    "{what} is in {home}{}, {first_what} of `{}` in {first}{}: everything of a target is in one account and Region",
                    partition(&home, &first),
                    self.path,
                    partition(&first, &home)
                );
                found.add(mark, path, message);
            }
            Some(_) => {}
        }
    }
}

fn pair<'n>(fields: &Fields<'n>, homes: &mut Homes<'n>, places: &mut Vec<Place>, found: &mut Found) -> Option<EcsPair> {
    let target = fields.path.as_str();
    let container = fields.read("container", found, container_name);
    let blue = fields.read("blue", found, |at, path, found| side(at, path, found));
    let green = fields.read("green", found, |at, path, found| side(at, path, found));
    for side in [&blue, &green].into_iter().flatten() {
        if let Some((at, path)) = &side.group {
            homes.check(side.home, "the target group", at.mark, path, found);
        }
    }
    if let (Some(blue), Some(green)) = (&blue, &green) {
        for (key, one, other) in
            [("service", blue.service, green.service), ("target_group", blue.target_group, green.target_group)]
        {
            if one == other {
                let message = format!("blue and green have the same `{key}`: each side has its own");
                found.add(green.at, &format!("{target}.green.{key}"), message);
            }
        }
    }
    let rules = fields.read("rules", found, |at, path, found| {
        let nodes = walk::list(at, path, "rules", MOST_RULES, found)?;
        if nodes.is_empty() {
            found.add(
                at.mark,
                path,
                "there are no rules: name at least one listener rule or listener whose weights are moved",
            );
        }
        Some(nodes)
    });
    let test_rule = fields.get("test_rule");
    let routes = routes(target, rules.as_deref(), test_rule.as_ref(), homes, places, found);
    let cluster = fields.read("cluster", found, |at, path, found| {
        let written = walk::text(at, path, "the name of an ECS cluster", found)?;
        match arn::cluster(written) {
            Ok(arn) => {
                if let Some(arn) = arn {
                    homes.check(arn.home(), "the cluster", at.mark, path, found);
                }
                Some(written.to_owned())
            }
            Err(message) => {
                found.add(at.mark, path, message);
                None
            }
        }
    });
    let (cluster, blue, green) = (cluster?, blue?, green?);
    for (side, key) in [(&blue, "blue"), (&green, "green")] {
        let place = |what: String, key: &str| Place {
            what,
            mark: side.at,
            path: format!("{target}.{key}"),
            target: target.to_owned(),
        };
        places.push(place(
            format!("the ECS service `{}` of cluster `{}`", side.service, cluster_name(&cluster)),
            &format!("{key}.service"),
        ));
        places.push(place(format!("the target group `{}`", side.target_group), &format!("{key}.target_group")));
    }
    let (rules, test_rule) = routes?;
    Some(EcsPair { cluster, container: container?, blue: blue.into_side(), green: green.into_side(), rules, test_rule })
}

pub(crate) fn container_name(at: At<'_>, path: &str, found: &mut Found) -> Option<String> {
    ecs_name(at, path, "the name of a container", found).map(str::to_owned)
}

fn ecs_name<'n>(at: At<'n>, path: &str, what: &str, found: &mut Found) -> Option<&'n str> {
    let written = walk::text(at, path, what, found)?;
    if !arn::ecs_name(written) {
        let message = format!(
            "expected {what}: letters, digits, `-` and `_`, at most 255 characters; found `{}`",
            walk::shown(written)
        );
        found.add(at.mark, path, message);
        return None;
    }
    Some(written)
}

struct SideRead<'n> {
    at: Mark,
    service: &'n str,
    target_group: &'n str,
    home: Home<'n>,
    group: Option<(At<'n>, String)>,
}

impl SideRead<'_> {
    fn into_side(self) -> Side {
        Side { service: self.service.to_owned(), target_group: self.target_group.to_owned() }
    }
}

fn side<'n>(at: At<'n>, path: &str, found: &mut Found) -> Option<SideRead<'n>> {
    let fields = Fields::new(at, path, &SIDE, found)?;
    let service =
        fields.read("service", found, |at, path, found| ecs_name(at, path, "the name of an ECS service", found));
    let group = fields.read("target_group", found, |at, path, found| {
        let written = walk::text(at, path, "the ARN of a target group", found)?;
        match arn::target_group(written) {
            Ok(arn) => Some((written, arn.home())),
            Err(message) => {
                found.add(at.mark, path, message);
                None
            }
        }
    });
    let (target_group, home) = group?;
    Some(SideRead { at: fields.at, service: service?, target_group, home, group: fields.get("target_group") })
}

/// The rules and the test rule: well formed, each once, and all of one load balancer.
fn routes<'n>(
    target: &str,
    rules: Option<&[(At<'n>, String)]>,
    test_rule: Option<&(At<'n>, String)>,
    homes: &mut Homes<'n>,
    places: &mut Vec<Place>,
    found: &mut Found,
) -> Option<(Vec<String>, Option<String>)> {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut first_balancer = None;
    let mut sound = true;
    let mut texts = Vec::new();
    for (at, path) in rules.into_iter().flatten().chain(test_rule) {
        let what = "the ARN of a listener rule or a listener";
        let route = walk::text(*at, path, what, found).map(|written| (written, arn::route(written)));
        let (written, route) = match route {
            Some((written, Ok(route))) => (written, route),
            Some((_, Err(message))) => {
                found.add(at.mark, path, message);
                sound = false;
                continue;
            }
            None => {
                sound = false;
                continue;
            }
        };
        homes.check(route.arn.home(), "the rule", at.mark, path, found);
        if !seen.insert(written) {
            found.add(
                at.mark,
                path,
                "this rule is there already: each rule once, and the test rule is another than the `rules`",
            );
        }
        if *first_balancer.get_or_insert(route.balancer) != route.balancer {
            let message =
                "this rule is of another load balancer than the first one: a target group belongs to one load balancer";
            found.add(at.mark, path, message);
        }
        places.push(Place {
            what: format!("the rule `{written}`"),
            mark: at.mark,
            path: path.clone(),
            target: target.to_owned(),
        });
        texts.push(written.to_owned());
    }
    rules?;
    if !sound {
        return None;
    }
    let test_rule = if test_rule.is_some() { texts.pop() } else { None };
    Some((texts, test_rule))
}

/// What one target moves, no other one may.
pub(crate) fn check_targets(places: &[Place], found: &mut Found) {
    let mut owners: BTreeMap<&str, &Place> = BTreeMap::new();
    for place in places {
        let first = owners.entry(&place.what).or_insert(place);
        if first.target != place.target {
            let message = format!(
                "{} belongs to `{}` already (line {}): two targets must not move the same thing",
                place.what, first.target, first.mark.line
            );
            found.add(place.mark, &place.path, message);
        }
    }
}
