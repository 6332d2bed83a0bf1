//! Renders a policy in the file's notation.

use crate::calendar::{format_moment, format_window};
use crate::entry::{DEFAULT_ANSWERS, TRAIN_ROLLBACKS, TRIGGERS};
use crate::grants::PERMISSIONS;
use crate::hooks::POINTS;
use crate::notify::FACTS;
use crate::read::{CONCURRENCY, DRIFT};
use crate::resources::render_platform;
use crate::target::{AT_START, CONFIGURATION, FIRING, LIVE_TEMPLATE, MISSING, NEEDS_TWO_SIDES, STABLE_FIRING};
use crate::values::word;
use rollout::entry::{After, ApprovalPolicy, EntryRules, FreezePeriod, Grant};
use rollout::notification::{NotificationPolicy, Receiver};
use rollout::policy::{EnvironmentPolicy, HookAction, Policy, ServicePolicy, TagRule, TargetPolicy};
use rollout::{Name, TargetResources, Way};
use serde_json::{Map, Value, json};

/// The policy in the file's notation, with every default written out: parsing it gives the same policy.
#[must_use]
pub fn render(policy: &Policy) -> Value {
    let mut file = json!({
        "application": policy.application,
        "services": map(&policy.services, service),
        "environments": map(&policy.environments, environment),
    });
    // Stored and written in the same form.
    insert_unless_empty(&mut file, "people", policy.people.is_empty(), || json!(policy.people));
    insert_unless_empty(&mut file, "groups", policy.groups.is_empty(), || json!(policy.groups));
    insert_unless_empty(&mut file, "github", policy.grants.is_empty(), || policy.grants.iter().map(grant).collect());
    insert_unless_empty(&mut file, "notifications", policy.notifications.is_empty(), || {
        policy.notifications.iter().map(notification).collect()
    });
    file
}

/// Adds a key unless it is empty: the file expresses an empty value by omitting the key.
fn insert_unless_empty(entries: &mut Value, key: &str, empty: bool, value: impl FnOnce() -> Value) {
    if let (false, Some(entries)) = (empty, entries.as_object_mut()) {
        entries.insert(key.to_owned(), value());
    }
}

fn map<T>(entries: &std::collections::BTreeMap<Name, T>, value: impl Fn(&T) -> Value) -> Value {
    Value::Object(entries.iter().map(|(name, entry)| (name.to_string(), value(entry))).collect::<Map<_, _>>())
}

fn service(service: &ServicePolicy) -> Value {
    let tags = tag_rule(&service.tags);
    let mut value = json!({"repository": service.repository, "tags": tags, "paused": service.paused});
    insert_unless_empty(&mut value, "registry", service.registry.is_own(), || json!(service.registry));
    insert_unless_empty(&mut value, "depends_on", service.depends_on.is_empty(), || json!(service.depends_on));
    value
}

fn tag_rule(rule: &TagRule) -> Value {
    match rule {
        TagRule::Glob(pattern) => json!({"glob": pattern}),
        TagRule::Regex(pattern) => json!({"regex": pattern}),
        TagRule::Semver(range) => json!({"semver": range}),
        TagRule::Except { take, not } => {
            let mut rule = tag_rule(take);
            insert_unless_empty(&mut rule, "not", false, || tag_rule(not));
            rule
        }
    }
}

fn environment(environment: &EnvironmentPolicy) -> Value {
    let EntryRules { after, soak, approval, time_zone, windows, freezes, hotfix_skips, .. } = &environment.entry;
    // Every target stores its environment's setting.
    let drift = environment.targets.values().next().map(|target| target.drift).unwrap_or_default();
    let mut value = json!({
        "trigger": word(&TRIGGERS, &environment.trigger),
        "concurrency": word(&CONCURRENCY, &environment.concurrency),
        "drift": word(&DRIFT, &drift),
        "one_at_a_time": environment.entry.one_at_a_time,
        "trains": {"rollback": word(&TRAIN_ROLLBACKS, &environment.entry.rollback_train_together)},
        "give_up_after": environment.entry.give_up_after.to_string(),
        "targets": map(&environment.targets, target),
    });
    let recovery_time = environment.targets.values().next().and_then(|target| target.recovery_time);
    insert_unless_empty(&mut value, "recovery_time", recovery_time.is_none(), || {
        json!(recovery_time.map(|time| time.to_string()))
    });
    insert_unless_empty(&mut value, "after", after.is_none(), || match after {
        Some(After::Any(names)) => json!({"any": names}),
        Some(After::All(names)) => json!(names),
        None => Value::Null,
    });
    // Without an environment before this one, the soak time has no starting point.
    insert_unless_empty(&mut value, "soak", after.is_none(), || json!(soak.to_string()));
    insert_unless_empty(&mut value, "approval", approval.is_none(), || {
        approval.as_ref().map_or(Value::Null, render_approval)
    });
    insert_unless_empty(&mut value, "time_zone", time_zone.is_none(), || json!(time_zone));
    insert_unless_empty(&mut value, "windows", windows.is_empty(), || windows.iter().map(format_window).collect());
    insert_unless_empty(&mut value, "freezes", freezes.is_empty(), || freezes.iter().map(freeze).collect());
    insert_unless_empty(
        &mut value,
        "hotfix",
        hotfix_skips.is_empty(),
        || json!({"skips": hotfix_skips.iter().map(|gate| gate.name()).collect::<Vec<_>>()}),
    );
    value
}

fn freeze(freeze: &FreezePeriod) -> Value {
    json!({"from": format_moment(freeze.from), "until": format_moment(freeze.until), "reason": freeze.reason})
}

fn render_approval(approval: &ApprovalPolicy) -> Value {
    json!({
        "required": approval.required,
        "from": approval.from,
        "expires": approval.expires.to_string(),
        "default": word(&DEFAULT_ANSWERS, &approval.default),
    })
}

fn grant(grant: &Grant) -> Value {
    let permissions: Vec<&str> = grant.permissions.iter().map(|permission| word(&PERMISSIONS, permission)).collect();
    let mut value = json!({
        "repository_id": grant.repository_id,
        "repository_owner_id": grant.repository_owner_id,
        "may": permissions,
        "environments": grant.environments,
    });
    insert_unless_empty(&mut value, "refs", grant.refs.is_empty(), || json!(grant.refs));
    insert_unless_empty(&mut value, "environment", grant.github_environment.is_none(), || {
        json!(grant.github_environment)
    });
    insert_unless_empty(&mut value, "workflows", grant.workflows.is_empty(), || json!(grant.workflows));
    insert_unless_empty(&mut value, "reusable_workflows", grant.reusable_workflows.is_empty(), || {
        json!(grant.reusable_workflows)
    });
    insert_unless_empty(&mut value, "events", grant.events.is_empty(), || json!(grant.events));
    insert_unless_empty(&mut value, "services", grant.services.is_empty(), || json!(grant.services));
    value
}

fn notification(route: &NotificationPolicy) -> Value {
    let facts = word(&FACTS, &route.facts);
    let mut value = match &route.receiver {
        Receiver::Topic(topic) => json!({"topic": topic, "facts": facts}),
        Receiver::Slack(channel) => json!({"slack": channel, "facts": facts}),
    };
    insert_unless_empty(&mut value, "environments", route.environments.is_empty(), || json!(route.environments));
    insert_unless_empty(&mut value, "services", route.services.is_empty(), || json!(route.services));
    value
}

fn target(target: &TargetPolicy) -> Value {
    let (strategy, deadlines) = (&target.strategy, &target.deadlines);
    let (platform_key, platform) = render_platform(&target.resources.platform);
    let task_failures = &strategy.task_failures;
    let steps: Vec<Value> = strategy
        .steps
        .iter()
        .map(|step| json!({"traffic": step.traffic.to_string(), "hold": step.hold.to_string()}))
        .collect();
    let alarms: Vec<Value> = target
        .alarms
        .iter()
        .map(|alarm| {
            json!({
                "name": alarm.name,
                "missing": word(&MISSING, &alarm.missing),
                "firing": word(&FIRING, &alarm.firing),
                "at_start": word(&AT_START, &alarm.at_start),
                "stable_firing": word(&STABLE_FIRING, &alarm.stable_firing),
            })
        })
        .collect();
    let mut hooks = Map::new();
    for (key, point) in POINTS {
        hooks.insert(key.to_owned(), target.hooks.iter().filter(|hook| hook.at == point).map(hook).collect());
    }
    let template = target.template.family().map_or_else(|| json!(LIVE_TEMPLATE), |family| json!({"family": family}));
    let mut value = json!({
        platform_key: platform,
        "template": template,
        "configuration": word(&CONFIGURATION, &target.configuration),
        "strategy": {
            "steps": steps,
            "bake": strategy.bake.to_string(),
            "keep_warm": strategy.keep_warm.to_string(),
            "green_capacity": strategy.green_capacity.to_string(),
            "drain": strategy.drain.to_string(),
            "task_failures": {
                "count": task_failures.count,
                "share": task_failures.share.to_string(),
                "times_stable": task_failures.times_stable,
            },
        },
        "alarms": alarms,
        "hooks": hooks,
        "deadlines": {
            "preflight": deadlines.preflight.to_string(),
            "register": deadlines.register.to_string(),
            "healthy": deadlines.healthy.to_string(),
            "shift": deadlines.shift.to_string(),
            "retire": deadlines.retire.to_string(),
            "rollback": deadlines.rollback.to_string(),
        },
    });
    let traffic = traffic(&target.resources);
    insert_unless_empty(&mut value, "traffic", traffic.is_empty(), || Value::Array(traffic));
    if target.resources.platform.way() == Way::InPlace {
        for (key, _) in NEEDS_TWO_SIDES {
            remove(&mut value, key);
        }
    }
    value
}

/// The entries of `traffic`.
fn traffic(resources: &TargetResources) -> Vec<Value> {
    let in_place = resources.platform.target_groups_in_place().iter();
    let legs = resources.traffic.iter().map(|leg| json!(leg));
    legs.chain(in_place.map(|group| json!({"target_group": group}))).collect()
}

/// Removes a key, given by its path: `strategy.drain`.
fn remove(value: &mut Value, path: &str) {
    let Some((parent, key)) = path.rsplit_once('.') else { return };
    if let Some(entries) = value.pointer_mut(&format!("/{}", parent.replace('.', "/"))).and_then(Value::as_object_mut) {
        entries.remove(key);
    }
}

fn hook(hook: &rollout::policy::Hook) -> Value {
    let mut value = json!({
        "name": hook.name,
        "deadline": hook.deadline.to_string(),
        "forward_only": hook.forward_only,
    });
    let (key, run) = match &hook.run {
        HookAction::Lambda { function } => ("lambda", json!(function)),
        HookAction::Task { container, command } => ("task", json!({"container": container, "command": command})),
    };
    insert_unless_empty(&mut value, key, false, || run);
    value
}
