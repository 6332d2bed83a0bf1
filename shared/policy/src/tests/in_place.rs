//! Targets that are one service, whose versions replace one another in place.

use super::files::{one_target, report};
use crate::{changes, parse, render};
use rollout::policy::{HookAction, Step, Strategy, TaskFailures};
use rollout::{EcsRolling, Percent, Platform, Policy, Seconds, TargetPolicy};

const GROUP: &str = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup";
const TARGET: &str = "environments.dev.targets.api";
const HEAD: &str = "application: shop
services: {api: {repository: shop/api}}
environments:
  dev:
    targets:
      api:
";

/// A file with one target; `keys` are its lines, from line 7.
fn target_with(keys: &str) -> String {
    let mut text = HEAD.to_owned();
    for line in keys.lines() {
        text.push_str(&format!("        {line}\n"));
    }
    text
}

/// A file with one target that is one service; `rest` are further lines of that target, from line 8.
fn one_service(rest: &str) -> String {
    target_with(&format!("ecs: {{cluster: shop-dev, container: api, service: api}}\n{rest}"))
}

/// The file with these `defaults` of its environment.
fn with_defaults(text: &str, defaults: &str) -> String {
    text.replace("  dev:\n", &format!("  dev:\n    defaults: {defaults}\n"))
}

#[track_caller]
fn accepted(text: &str) -> Policy {
    parse(text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The only target of a file.
#[track_caller]
fn only_target(text: &str) -> TargetPolicy {
    accepted(text).targets().next().expect("one").1.clone()
}

/// Asserts that a problem at this line and path of the target says these words.
#[track_caller]
fn assert_refused(text: &str, line: usize, path: &str, words: &str) {
    let problems = parse(text).expect_err("refused").0;
    let path = if path.is_empty() { TARGET.to_owned() } else { format!("{TARGET}.{path}") };
    let is_it = |problem: &crate::Problem| problem.line == line && problem.path == path;
    assert!(problems.iter().any(|problem| is_it(problem) && problem.message.contains(words)), "{words}: {problems:#?}");
}

/// How a target in place is deployed where the file says nothing of it.
fn built_in_strategy() -> Strategy {
    Strategy {
        steps: vec![Step { traffic: Percent::ALL, hold: Seconds(0) }],
        bake: Seconds(600),
        keep_warm: Seconds(0),
        green_capacity: Percent::ALL,
        drain: Seconds(0),
        task_failures: TaskFailures::default(),
    }
}

#[test]
fn a_service_behind_no_load_balancer_is_a_target() {
    let target = only_target(&one_service(""));
    let service = EcsRolling {
        cluster: "shop-dev".into(),
        container: "api".into(),
        service: "api".into(),
        target_groups: Vec::new(),
    };
    assert_eq!(target.resources.platform, Platform::EcsRolling(service));
    assert_eq!(target.resources.traffic, []);
    assert_eq!(target.strategy, built_in_strategy());
    assert!(target.alarms.is_empty() && target.hooks.is_empty());
    assert_eq!((target.deadlines.shift, target.deadlines.rollback), (Seconds(600), Seconds(1800)));
}

#[test]
fn a_service_names_the_target_groups_it_registers_in() {
    let text = one_service(&format!("traffic: [{{target_group: {GROUP}/a/1}}, {{target_group: {GROUP}/b/2}}]"));
    let resources = only_target(&text).resources;
    assert_eq!(resources.platform.target_groups_in_place(), [format!("{GROUP}/a/1"), format!("{GROUP}/b/2")]);
    assert_eq!(resources.traffic, []);
}

#[test]
fn a_service_keeps_its_own_bake_failures_hooks_and_deadlines() {
    let target = only_target(&one_service(
        "strategy: {bake: 3m, task_failures: {count: 7, share: 20%}}
alarms: [api-errors]
hooks: {before_traffic: [{name: migrate, task: {command: [./migrate]}}], after_traffic: [{name: smoke, lambda: smoke}]}
deadlines: {healthy: 20m, shift: 5m, rollback: 7m}",
    ));
    let task_failures = TaskFailures { count: 7, share: Percent::new(20).expect("a share"), ..TaskFailures::default() };
    assert_eq!(target.strategy, Strategy { bake: Seconds(180), task_failures, ..built_in_strategy() });
    assert_eq!(target.alarms.len(), 1);
    // A task hook without a container uses the service's.
    let task = HookAction::Task { container: "api".into(), command: vec!["./migrate".into()] };
    assert_eq!(target.hooks[0].run, task);
    let deadlines = target.deadlines;
    assert_eq!((deadlines.healthy, deadlines.shift, deadlines.rollback), (Seconds(1200), Seconds(300), Seconds(420)));
}

#[test]
fn either_shape_renders_to_the_same_policy() {
    let balanced = format!("alarms: [a]\ntraffic: [{{target_group: {GROUP}/a/1}}, {{target_group: {GROUP}/b/2}}]");
    let defaults = "{strategy: {keep_warm: 1h, drain: 5m}, deadlines: {retire: 20m}, \
                    hooks: {test_traffic: [{name: smoke, lambda: smoke}]}}";
    for text in [one_target(""), one_service(""), one_service(&balanced)] {
        for text in [with_defaults(&text, defaults), text] {
            let policy = accepted(&text);
            let again = accepted(&render(&policy).to_string());
            assert_eq!(again, policy, "{text}");
            assert_eq!(changes(Some(&policy), &again), [], "{text}");
        }
    }
}

#[test]
fn the_change_from_a_pair_to_one_service_is_listed_key_by_key() {
    let changes = changes(Some(&accepted(&one_target(""))), &accepted(&one_service("")));
    let shown: Vec<String> = changes
        .iter()
        .map(|change| {
            let path = change.path.strip_prefix("environments.dev.targets.api.").expect("of the target");
            format!("{path}{}", if change.after.is_none() { " removed" } else { "" })
        })
        .collect();
    let expected = [
        "traffic removed",
        "deadlines.retire removed",
        "ecs.blue removed",
        "ecs.green removed",
        "ecs.service",
        "hooks.test_traffic removed",
        "strategy.drain removed",
        "strategy.green_capacity removed",
        "strategy.keep_warm removed",
        "strategy.steps removed",
        "strategy.task_failures.times_stable removed",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn ecs_names_a_pair_or_one_service() {
    let advice = "write `blue` and `green`, a pair, or `service` alone";
    for (services, path, problem) in [
        ("", "ecs", "no service is named: "),
        (", blue: a", "ecs", "`green` is missing: "),
        (", green: a", "ecs", "`blue` is missing: "),
        (", blue: a, service: b", "ecs.service", "`service` stands beside the sides of a pair: "),
        (", green: a, service: b", "ecs.service", "`service` stands beside the sides of a pair: "),
        (", blue: a, green: b, service: c", "ecs.service", "`service` stands beside the sides of a pair: "),
    ] {
        let text = target_with(&format!("ecs: {{cluster: shop-dev, container: api{services}}}"));
        assert_refused(&text, 7, path, &format!("{problem}{advice}"));
    }
    assert_refused(&one_service("").replace("service: api}", "service: a.b}"), 7, "ecs.service", "expected the name");
}

#[test]
fn a_pair_needs_load_balancers() {
    let text = target_with("ecs: {cluster: shop-dev, container: api, blue: a, green: b}");
    assert_eq!(
        report(&text),
        "7:9: environments.dev.targets.api: `traffic` is missing: add the load balancers whose weights are moved, or \
         name one `service` in place of `blue` and `green`"
    );
}

#[test]
fn an_entry_of_traffic_fits_what_runs_the_target() {
    let refused = |entry: &str, path: &str, words: &str| {
        assert_refused(&one_service(&format!("traffic: [{{target_group: {GROUP}/a/1, {entry}}}]")), 8, path, words);
    };
    let no_weights = "weights need two sides, `blue` and `green` under `ecs`; of one `service` name the `target_group`";
    refused(&format!("blue: {GROUP}/b/2"), "traffic[0].blue", no_weights);
    refused(&format!("green: {GROUP}/b/2"), "traffic[0].green", no_weights);
    refused("rules: [x]", "traffic[0].rules", no_weights);
    refused("test_rule: x", "traffic[0].test_rule", no_weights);
    let no_group = one_service(&format!("traffic: [{{blue: {GROUP}/b/2}}]"));
    assert_refused(&no_group, 8, "traffic[0]", "`target_group` is missing: add it");

    let pair = one_target(&format!("    target_group: {GROUP}/c/3"));
    let of_a_pair = "so a pair names a target group for each, `blue` and `green`; `target_group` is for one `service`";
    assert_refused(&pair, 12, "traffic[0].target_group", of_a_pair);
}

#[test]
fn the_target_groups_of_a_service_are_one_to_five_different_ones() {
    let groups = |names: &[&str]| {
        let entries: Vec<_> = names.iter().map(|name| format!("{{target_group: {GROUP}/{name}/1}}")).collect();
        one_service(&format!("traffic: [{}]", entries.join(", ")))
    };
    accepted(&groups(&["a", "b", "c", "d", "e"]));
    let six = groups(&["a", "b", "c", "d", "e", "f"]);
    assert_refused(&six, 8, "traffic", "there are 6 target groups, at most 5 are allowed");
    let none = "there is nothing in it: name the target groups that the service registers its tasks in, or take";
    assert_refused(&groups(&[]), 8, "traffic", none);
    let twice = groups(&["a", "b", "a"]);
    assert_refused(&twice, 8, "traffic[2].target_group", "this target group is there already: take one away");
    let elsewhere = groups(&["a", "b"]).replacen("eu-central-1", "eu-west-1", 1);
    assert_refused(&elsewhere, 8, "traffic[1].target_group", "everything of a target is in one account and Region");
    let no_arn = one_service("traffic: [{target_group: api}]");
    assert_refused(&no_arn, 8, "traffic[0].target_group", "expected the ARN of a target group");
}

#[test]
fn a_service_refuses_what_needs_two_sides() {
    for (keys, path, words) in [
        ("strategy: {steps: [{traffic: 100%}]}", "strategy.steps", "weights need two sides"),
        ("strategy: {keep_warm: 0s}", "strategy.keep_warm", "no old side stays up"),
        ("strategy: {green_capacity: 100%}", "strategy.green_capacity", "has no second side to start"),
        ("strategy: {drain: 0s}", "strategy.drain", "has no side that loses its traffic"),
        (
            "strategy: {task_failures: {times_stable: 2}}",
            "strategy.task_failures.times_stable",
            "there is no stable side beside them to compare with: take it away; `count` and `share` apply",
        ),
        (
            "hooks: {test_traffic: [{name: smoke, lambda: smoke}]}",
            "hooks.test_traffic",
            "has no test rule: move the hooks to `before_traffic` or `after_traffic`",
        ),
        ("deadlines: {retire: 15m}", "deadlines.retire", "no old side is taken down"),
    ] {
        assert_refused(&one_service(keys), 8, path, words);
        assert_eq!(report(&one_service(keys)).lines().count(), 1, "{keys}");
        accepted(&one_target(keys));
    }
}

#[test]
fn a_service_inherits_only_what_applies_to_it() {
    let defaults = "{strategy: {steps: [{traffic: 20%, hold: 1m}, {traffic: 100%}], bake: 4m, keep_warm: 1h, \
                    green_capacity: 50%, drain: 16m, task_failures: {count: 9, share: 30%, times_stable: 50}}, \
                    alarms: [errors], \
                    hooks: {before_traffic: [{name: migrate, task: {}}], test_traffic: [{name: a, lambda: smoke}]}, \
                    deadlines: {healthy: 20m, retire: 40m, rollback: 40m}}";
    let target = only_target(&with_defaults(&one_service(""), defaults));
    let task_failures = TaskFailures { count: 9, share: Percent::new(30).expect("a share"), ..TaskFailures::default() };
    assert_eq!(target.strategy, Strategy { bake: Seconds(240), task_failures, ..built_in_strategy() });
    assert_eq!(target.alarms.len(), 1);
    let hooks: Vec<&str> = target.hooks.iter().map(|hook| hook.name.as_str()).collect();
    assert_eq!(hooks, ["migrate"]);
    let deadlines = target.deadlines;
    assert_eq!((deadlines.healthy, deadlines.retire, deadlines.rollback), (Seconds(1200), Seconds(900), Seconds(2400)));

    // The pair beside it inherits all of it.
    let pair = only_target(&with_defaults(&one_target(""), defaults));
    assert_eq!((pair.strategy.steps.len(), pair.strategy.drain, pair.hooks.len()), (2, Seconds(960), 2));
    assert_eq!((pair.strategy.task_failures.times_stable, pair.deadlines.retire), (50, Seconds(2400)));
}

#[test]
fn an_inherited_drain_does_not_limit_the_deadlines_of_a_service() {
    let defaults = "{strategy: {drain: 20m}}";
    accepted(&with_defaults(&one_service(""), defaults));
    let pair = report(&with_defaults(&one_target(""), defaults));
    assert!(pair.contains("the deadline `retire` (15m) is not longer than the strategy's `drain` (20m)"), "{pair}");
}

#[test]
fn an_unknown_platform_is_refused_with_those_that_are_known() {
    for platform in ["kubernetes", "site", "auto_scaling", "lambda"] {
        let text = target_with(&format!("{platform}: {{name: api}}"));
        let problem = format!("unknown key `{platform}`: known here: `ecs`, `traffic`, ");
        assert_refused(&text, 7, platform, &problem);
        assert_refused(&text, 7, platform, "; of platforms, this version knows `ecs`");
        assert_refused(&text, 7, "", "`ecs` is missing: add it");
    }
    assert_refused(
        &target_with("eks: {cluster: shop}"),
        7,
        "eks",
        "did you mean `ecs`, the only platform that this version knows?",
    );
    assert_refused(&one_service("alarm: [a]"), 8, "alarm", "unknown key `alarm`: did you mean `alarms`?");
}

#[test]
fn a_service_and_its_target_groups_belong_to_one_target() {
    let prod = |keys: &str| format!("{}  prod:\n    targets:\n      api: {{{keys}}}\n", one_target(""));
    let shared = report(&prod("ecs: {cluster: shop-dev, container: api, service: api-green}"));
    assert_eq!(
        shared,
        "14:63: environments.prod.targets.api.ecs.service: the ECS service `api-green` of cluster `shop-dev` belongs \
         to `environments.dev.targets.api` already (line 7): two targets must not move the same thing"
    );
    let group = format!("traffic: [{{target_group: {GROUP}/api-blue/a1}}]");
    let shared = report(&prod(&format!("ecs: {{cluster: shop-prod, container: api, service: api}}, {group}")));
    assert!(shared.contains("environments.prod.targets.api.traffic[0].target_group: the target group `"), "{shared}");
    assert!(shared.contains("belongs to `environments.dev.targets.api` already (line 9)"), "{shared}");
    accepted(&prod("ecs: {cluster: shop-dev, container: api, service: api}"));
}

#[test]
fn a_service_that_nothing_watches_is_warned_about() {
    let warned = |text: &str| crate::warnings(&accepted(text));
    for bake in ["0s", "40s"] {
        let warnings = warned(&one_service(&format!("strategy: {{bake: {bake}}}")));
        let start = format!("shop/api/dev has no alarms, and bakes for {bake} only");
        assert!(warnings.len() == 1 && warnings[0].starts_with(&start), "{warnings:?}");
    }
    let behind_a_balancer = format!("strategy: {{bake: 0s}}\ntraffic: [{{target_group: {GROUP}/a/1}}]");
    for text in [
        one_service(""),
        one_service("strategy: {bake: 41s}"),
        one_service("strategy: {bake: 0s}\nalarms: [errors]"),
        one_service(&behind_a_balancer),
        one_target("strategy: {bake: 0s}"),
    ] {
        assert_eq!(warned(&text), Vec::<String>::new(), "{text}");
    }
}
