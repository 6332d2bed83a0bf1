//! The order of environments, and their requirements for a release.

use super::files::report;
use crate::{changes, parse};
use rollout::entry::{After, ApprovalDefault, EntryRules, Gate};
use rollout::policy::Trigger;
use rollout::{Name, Policy, Seconds, TargetId};

const EXAMPLE: &str = include_str!("../../examples/switchback.yaml");
const PEOPLE: &str = "people: {ada: {slack: U012AB3CD}, bob: {mail: 'arn:aws:sns:eu-central-1:111122223333:bob'}, carol: {github: 5}}\n\
                      groups: {on-call: [ada, bob]}\n";

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// A target that shares no resource with others.
fn target(environment: &str, service: &str) -> String {
    const BALANCING: &str = "arn:aws:elasticloadbalancing:eu-central-1:111122223333";
    let group = |side: &str| format!("{side}: '{BALANCING}:targetgroup/{environment}-{service}-{side}/a1'");
    format!(
        "{{ecs: {{cluster: {environment}, container: {service}, blue: {service}-blue, green: {service}-green}}, \
         traffic: [{{{}, {}, rules: ['{BALANCING}:listener/app/{environment}-{service}/b1/c1']}}]}}",
        group("blue"),
        group("green")
    )
}

/// A file of these environments, each given by its name, its keys and its services.
fn file(services: &str, environments: &[(&str, &str, &[&str])]) -> String {
    let mut text = format!("application: shop\nservices: {services}\n{PEOPLE}environments:\n");
    for (environment, keys, services) in environments {
        text.push_str(&format!("  {environment}:\n"));
        for line in keys.lines() {
            text.push_str(&format!("    {line}\n"));
        }
        text.push_str("    targets:\n");
        for service in *services {
            text.push_str(&format!("      {service}: {}\n", target(environment, service)));
        }
    }
    text
}

/// A file with `dev`, and `prod` with these keys.
fn prod(keys: &str) -> String {
    file("{api: {repository: shop/api}}", &[("dev", "trigger: push", &["api"]), ("prod", keys, &["api"])])
}

fn rules(keys: &str) -> EntryRules {
    let policy: Policy = parse(&prod(keys)).unwrap_or_else(|problems| panic!("{keys}: {problems}"));
    policy.environments[&name("prod")].entry.clone()
}

/// The messages of its problems, without positions.
fn problem_messages(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(_) => vec![],
        Err(problems) => problems.0.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect(),
    }
}

fn messages(keys: &str) -> Vec<String> {
    problem_messages(&prod(keys))
}

/// Asserts that `prod` has one problem, whose message begins with `problem`.
fn assert_one_problem(keys: &str, problem: &str) {
    let messages = messages(keys);
    assert!(
        messages.len() == 1 && messages[0].starts_with(&format!("environments.prod.{problem}")),
        "{keys}: {messages:?}"
    );
}

#[test]
fn the_example_sets_every_entry_rule() {
    let policy = parse(EXAMPLE).unwrap_or_else(|problems| panic!("{problems}"));
    let prod = policy.applied(&TargetId::parse("shop/api/prod").expect("a target"), 3).expect("there").entry.rules;
    assert_eq!(prod.after, Some(After::All(vec![name("staging")])));
    assert_eq!((prod.soak, prod.give_up_after), (Seconds(3600), Seconds(3 * 86400)));
    let approval = prod.approval.expect("asked for");
    assert_eq!(
        (approval.required, approval.expires, approval.default),
        (2, Seconds(4 * 3600), ApprovalDefault::Reject)
    );
    assert_eq!(approval.from, [name("on-call"), name("carol")]);
    assert_eq!(prod.time_zone.as_deref(), Some("Europe/Berlin"));
    let windows: Vec<_> = prod
        .windows
        .iter()
        .map(|window| (window.days.iter().copied().collect::<Vec<_>>(), window.from_minute, window.until_minute))
        .collect();
    assert_eq!(
        windows,
        [(vec![1, 2, 3, 4], 540, 960), (vec![5], 540, 720), (vec![1, 3], 1320, 1440), (vec![2, 4], 0, 120)]
    );
    assert_eq!(prod.freezes[0].reason, "year's end");
    assert_eq!(prod.freezes[0].until.to_string(), "2027-01-04T08:00:00");
    let skips: Vec<Gate> = prod.hotfix_skips.into_iter().collect();
    assert_eq!(skips, [Gate::Soak, Gate::Approval, Gate::Window, Gate::Freeze]);
    assert!(prod.rollback_train_together);

    let staging = &policy.environments[&name("staging")];
    assert_eq!(staging.trigger, Trigger::Promotion);
    assert_eq!(staging.entry.after, Some(After::Any(vec![name("dev"), name("qa")])));
    let (qa, api) = (name("qa"), name("api"));
    let automatic: Vec<_> = policy.auto_promotion_targets(&qa, &api).map(Name::as_str).collect();
    assert_eq!(automatic, ["staging"]);
    assert_eq!(policy.environments[&name("dev")].entry, EntryRules::default());
}

#[test]
fn a_stored_policy_deserializes_unchanged() {
    let policy = parse(EXAMPLE).expect("sound");
    let stored = serde_json::to_string(&policy).expect("plain data");
    assert_eq!(serde_json::from_str::<Policy>(&stored).expect("read again"), policy);
}

#[test]
fn an_environment_without_rules_admits_everything() {
    assert_eq!(rules(""), EntryRules::default());
    let approval = rules("approval: {from: [ada]}").approval.expect("asked for");
    assert_eq!((approval.required, approval.expires), (1, Seconds(86400)));
    assert_eq!(approval.default, ApprovalDefault::Reject);
}

#[test]
fn after_names_one_environment_or_several() {
    let dev = || vec![name("dev")];
    for (written, read) in [
        ("after: dev", After::All(dev())),
        ("after: [dev]", After::All(dev())),
        ("after: {all: [dev]}", After::All(dev())),
        ("after: {any: [dev]}", After::Any(dev())),
    ] {
        assert_eq!(rules(written).after, Some(read), "{written}");
        assert_eq!(rules(&format!("trigger: promotion\n{written}")).soak, Seconds(0));
    }
    assert_one_problem("after: def", "after: there is no environment `def`: did you mean `dev`?");
    assert_one_problem("after: [dev, dev]", "after[1]: `dev` is there already: take one away");
    assert_one_problem("after: prod", "after: `prod` cannot come after itself: take it away");
    assert_one_problem(
        "after: []",
        "after: the list is empty: name environments, or take the key away to let in every release",
    );
    assert_one_problem("after: {any: []}", "after.any: the list is empty");
    assert_one_problem("after: {}", "after: there is neither: write exactly one of `all` and `any`");
    assert_one_problem("after: {any: [dev], all: [dev]}", "after: there is both: write exactly one of `all` and `any`");
    assert_eq!(
        messages("after: {assert_one_problem: [dev]}").len(),
        2,
        "an unknown key, and neither of the known ones"
    );
    assert_one_problem("after:", "after: expected the name of an environment, found nothing");
}

#[test]
fn the_trigger_must_fit_after() {
    assert_one_problem(
        "trigger: push\nafter: dev",
        "trigger: `push` brings every new release at once, and `after` lets in what other environments have verified: write `promotion`",
    );
    assert_one_problem(
        "trigger: promotion",
        "trigger: `promotion` brings what the environments in `after` have verified: add `after`",
    );
    assert_one_problem(
        "soak: 5m",
        "soak: `soak` counts from when the environments in `after` have verified a release: add `after`",
    );
}

#[test]
fn cycles_between_environments_are_refused() {
    let services = "{api: {repository: shop/api}}";
    let circle = file(
        services,
        &[
            ("a", "after: [c]", &["api"]),
            ("b", "after: [a, dev]", &["api"]),
            ("c", "after: [dev, b]", &["api"]),
            ("dev", "", &["api"]),
        ],
    );
    assert_eq!(
        report(&circle),
        "11:13: environments.b.after[0]: dependency cycle: a -> c -> b -> a; remove one of them"
    );
    let two = file(services, &[("a", "after: b", &["api"]), ("b", "after: a", &["api"])]);
    assert_eq!(report(&two).lines().count(), 1);
    // Two paths to the same environment are not a cycle.
    let diamond = file(
        services,
        &[
            ("d", "after: [b, c]", &["api"]),
            ("b", "after: a", &["api"]),
            ("c", "after: a", &["api"]),
            ("a", "", &["api"]),
        ],
    );
    assert_eq!(problem_messages(&diamond), [""; 0]);
}

#[test]
fn a_service_needs_a_target_in_its_upstream_environments() {
    let services = "{api: {repository: shop/api}, site: {repository: shop/site}}";
    let problems_after = |after: &str| {
        let two: &[&str] = &["api", "site"];
        problem_messages(&file(
            services,
            &[("dev", "", two), ("qa", "", &["api"]), ("lab", "", &["api"]), ("prod", after, two)],
        ))
    };
    let problem = |environments: &str| {
        format!(
            "environments.prod.targets.site: `site` has no target in {environments}, which `after` of `prod` names: no release \
             of it can be verified there; add a target there, or move this one to an environment without that `after`"
        )
    };
    assert_eq!(problems_after("after: [dev, qa]"), [problem("qa")]);
    assert_eq!(problems_after("after: [qa, lab]"), [problem("qa and in lab")]);
    assert_eq!(problems_after("after: {any: [dev, qa]}"), [""; 0]);
    assert_eq!(problems_after("after: {any: [qa, lab]}"), [problem("qa and in lab")]);
    assert_eq!(problems_after("after: dev"), [""; 0]);
}

#[test]
fn cyclic_or_unknown_service_dependencies_are_refused() {
    let of = |services: &str| problem_messages(&file(services, &[("dev", "", &["api"])]));
    let depends = |api: &str, site: &str| {
        of(&format!("{{api: {{repository: shop/api, {api}}}, site: {{repository: shop/site, {site}}}}}"))
    };
    assert_eq!(depends("depends_on: [site]", ""), [""; 0]);
    assert_eq!(
        depends("depends_on: [site]", "depends_on: [api]"),
        ["services.site.depends_on[0]: dependency cycle: api -> site -> api; remove one of them"]
    );
    assert_eq!(
        depends("depends_on: [api]", ""),
        ["services.api.depends_on[0]: `api` cannot depend on itself: take it away"]
    );
    assert_eq!(
        depends("depends_on: [web]", ""),
        ["services.api.depends_on[0]: there is no service `web`: `services` has no such name"]
    );
    assert_eq!(
        depends("depends_on: [site, site]", ""),
        ["services.api.depends_on[1]: `site` is there already: take one away"]
    );
    assert_eq!(
        depends("depends_on: []", ""),
        ["services.api.depends_on: the list is empty: name services, or take the key away"]
    );
    let policy = parse(EXAMPLE).expect("sound");
    assert_eq!(policy.services[&name("site")].depends_on, [name("api")]);
}

#[test]
fn approvers_must_exist_suffice_and_be_able_to_approve() {
    assert_eq!(messages("approval: {required: 2, from: [on-call]}"), [""; 0]);
    assert_eq!(messages("approval: {required: 2, from: [ada, on-call]}"), [""; 0]);
    assert_one_problem(
        "approval: {required: 3, from: [ada, on-call]}",
        "approval: 3 have to say yes, and there are 2 people in `from`: name more, or require less (whoever asks for a deployment does not approve it)",
    );
    assert_one_problem(
        "approval: {required: 2, from: [bob]}",
        "approval: 2 have to say yes, and there is 1 person in `from`",
    );
    for required in ["0", "21", "two", "1.5", "'1'", "-1", "[]", ""] {
        assert_one_problem(
            &format!("approval: {{from: [ada], required: {required}}}"),
            "approval.required: expected how many people have to say yes, a whole number from 1 to 20",
        );
    }
    assert_one_problem(
        "approval: {from: [bop]}",
        "approval.from[0]: there is no person or group `bop`: did you mean `bob`?",
    );
    assert_one_problem(
        "approval: {from: [dave]}",
        "approval.from[0]: there is no person or group `dave`: `people` and `groups` have no such name",
    );
    assert_one_problem(
        "approval: {from: []}",
        "approval.from: the list is empty: name people or groups, or take `approval` away",
    );
    let many: String = (0..51).map(|n| format!("p{n}: {{slack: U{n:08}}}, ")).collect();
    let names: Vec<String> = (0..51).map(|n| format!("p{n}")).collect();
    let text = prod("approval: {from: [all]}")
        .replace("people: {", &format!("people: {{{many}"))
        .replace("groups: {", &format!("groups: {{all: [{}], ", names.join(", ")));
    assert_eq!(
        problem_messages(&text),
        ["environments.prod.approval: there are 51 people in `from`, at most 50 are asked"]
    );
    assert_one_problem("approval: {required: 1}", "approval: `from` is missing: add it");
    assert_one_problem(
        "approval: {from: [ada], default: yes}",
        "approval.default: expected one of `reject`, `approve`, found `yes`",
    );
    assert_one_problem("approval: {from: [ada], expires: 1s}", "approval.expires: 1s is too short: write `5s` or more");
    assert_eq!(
        messages("approval: {from: [ada, carol]}"),
        [
            "people.carol: `carol` is to approve, and has no way to do so: add `slack`, `iam` or `mail`, or do not name them as an approver"
        ]
    );
}

#[test]
fn soak_and_approval_must_fit_into_give_up_after() {
    assert_one_problem(
        "after: dev\nsoak: 3h\ngive_up_after: 2h",
        "give_up_after: `soak` takes 3h, but a deployment is given up after 2h: write a longer `give_up_after`",
    );
    assert_one_problem(
        "approval: {from: [ada], expires: 8d}",
        "approval: approvers have 8d, but a deployment is given up after 7d",
    );
    assert_one_problem(
        "after: dev\nsoak: 1d\napproval: {from: [ada], expires: 7d}",
        "approval: `soak` takes 1d, and approvers have 7d after that, but a deployment is given up after 7d",
    );
    assert_one_problem("give_up_after: 0", "give_up_after: 0s is too short");
    assert_one_problem("give_up_after: 31d", "give_up_after: `31d` is not a duration");
    assert_eq!(rules("after: dev\nsoak: 20d\ngive_up_after: 30d").soak, Seconds(20 * 86400));
}

#[test]
fn windows_and_freezes_need_a_valid_time_zone() {
    assert_one_problem(
        "windows: [mon 09:00-10:00]",
        "windows: `windows` without `time_zone`: say on which clock these times are",
    );
    assert_one_problem(
        "freezes: [{from: 2026-12-20 00:00, until: 2026-12-21 00:00, reason: x}]",
        "freezes: `freezes` without `time_zone`",
    );
    assert_one_problem(
        "time_zone: Europe/Berln\nwindows: [mon 09:00-10:00]",
        "time_zone: there is no time zone `Europe/Berln`: did you mean `Europe/Berlin`?",
    );
    for zone in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"] {
        assert_eq!(rules(&format!("time_zone: {zone}")).time_zone.as_deref(), Some(zone));
    }
    assert_one_problem(
        "time_zone: UTC\nwindows: []",
        "windows: the list is empty: name a window, or take the key away",
    );
    assert_one_problem(
        "time_zone: UTC\nwindows: [mon]",
        "windows[0]: `mon` is not a window: write days and a time of day",
    );
    assert_one_problem("time_zone: UTC\nwindows: [tue 10:00-10:00]", "windows[0]: `tue 10:00-10:00` is empty");
    assert_one_problem("time_zone: UTC\nwindows: mon 09:00-10:00", "windows: expected a list of windows");
    let many = vec!["mon 09:00-10:00"; 51].join(", ");
    assert_one_problem(
        &format!("time_zone: UTC\nwindows: [{many}]"),
        "windows: there are 51 windows, at most 50 are allowed",
    );
    let freeze =
        |keys: &str, problem: &str| assert_one_problem(&format!("time_zone: UTC\nfreezes: [{{{keys}}}]"), problem);
    freeze(
        "from: 2026-12-20 00:00, until: 2026-12-20 00:00, reason: x",
        "freezes[0]: the freeze ends at 2026-12-20 00:00, which is not after its begin at 2026-12-20 00:00",
    );
    freeze(
        "from: 2026-12-20, until: 2026-12-21 00:00, reason: x",
        "freezes[0].from: expected a date and a time of day, such as `2026-12-20 18:00`, on the clock of `time_zone`; found `2026-12-20`",
    );
    freeze("from: 2026-12-20 00:00, until: 2026-12-21 00:00", "freezes[0]: `reason` is missing: add it");
    freeze(
        &format!("from: 2026-12-20 00:00, until: 2026-12-21 00:00, reason: {}", "x".repeat(201)),
        "freezes[0].reason: expected why nothing is deployed then: at most 200 characters, in one line",
    );
    let many = vec!["{from: 2026-12-20 00:00, until: 2026-12-21 00:00, reason: x}"; 51].join(", ");
    assert_one_problem(
        &format!("time_zone: UTC\nfreezes: [{many}]"),
        "freezes: there are 51 freezes, at most 50 are allowed",
    );
}

#[test]
fn a_hotfix_skips_named_gates_but_never_the_train() {
    assert_eq!(rules("hotfix: {skips: [stop_the_line, after]}").hotfix_skips.len(), 2);
    assert_one_problem("hotfix: {skips: [soak, train]}", "hotfix.skips[1]: no hotfix passes by `train`");
    assert_one_problem(
        "hotfix: {skips: []}",
        "hotfix.skips: the list is empty: name the gates that a hotfix is not asked at, or take `hotfix` away",
    );
    assert_one_problem(
        "hotfix: {skips: [windows]}",
        "hotfix.skips[0]: expected one of `after`, `soak`, `approval`, `window`, `freeze`, `stop_the_line`, `one_at_a_time`, found `windows`; did you mean `window`?",
    );
    assert_one_problem("hotfix: {skips: [soak, soak]}", "hotfix.skips[1]: `soak` is there already: take one away");
    assert_one_problem("hotfix: {}", "hotfix: `skips` is missing: add it");
    assert_one_problem("hotfix: true", "hotfix: expected a mapping with `skips`");
    assert!(!rules("").one_at_a_time && rules("one_at_a_time: true").one_at_a_time);
    assert_one_problem("one_at_a_time: 2", "one_at_a_time: expected `true` or `false`");
    assert!(!rules("trains: {rollback: alone}").rollback_train_together);
    assert_one_problem("trains: {rollback: all}", "trains.rollback: expected one of `alone`, `together`, found `all`");
    assert_one_problem("trains: {}", "trains: `rollback` is missing: add it");
}

#[test]
fn every_changed_rule_is_listed() {
    let before = parse(EXAMPLE).expect("sound");
    let after = EXAMPLE
        .replace("depends_on: [api]", "depends_on: [api, worker-api]")
        .replace("{slack: U045EF6GH}", "{slack: U045EF6GZ}")
        .replace("on-call: [ada, bob]", "on-call: [ada, bob, carol]")
        .replace("  carol: {iam", "  dave: {github: 7}\n  carol: {iam")
        .replace("after: {any: [dev, qa]}", "after: [dev, qa]")
        .replace("soak: 10m", "soak: 20m")
        .replace("required: 2 ", "required: 3 ")
        .replace("default: reject", "default: approve")
        .replace("Europe/Berlin", "Europe/Paris")
        .replace("      - fri 09:00-12:00\n", "")
        .replace("reason: year's end", "reason: holidays")
        .replace("skips: [soak, approval, window, freeze]", "skips: [soak]")
        .replace("rollback: together", "rollback: alone")
        .replace("give_up_after: 3d", "give_up_after: 4d")
        .replace("forward_only: true", "forward_only: false")
        .replace("may: [promote, hotfix]", "may: [promote]")
        .replace("slack: C012AB3CD", "slack: C012AB3CZ");
    let after = parse(&after).unwrap_or_else(|problems| panic!("{problems}"));
    let messages: Vec<String> = changes(Some(&before), &after)
        .into_iter()
        .map(|change| {
            let short =
                |text: Option<String>| text.map_or_else(|| "-".to_owned(), |text| text.chars().take(60).collect());
            format!("{}: {} -> {}", change.path, short(change.before), short(change.after))
        })
        .collect();
    let expected = r#"
environments.prod.approval.default: reject -> approve
environments.prod.approval.required: 2 -> 3
environments.prod.freezes: [{"from":"2026-12-20 00:00","reason":"year's end","until":"2 -> [{"from":"2026-12-20 00:00","reason":"holidays","until":"202
environments.prod.give_up_after: 3d -> 4d
environments.prod.hotfix.skips: ["soak","approval","window","freeze"] -> ["soak"]
environments.prod.targets.api.hooks.before_traffic: [{"deadline":"20m","forward_only":true,"name":"migrate","tas -> [{"deadline":"20m","forward_only":false,"name":"migrate","ta
environments.prod.time_zone: Europe/Berlin -> Europe/Paris
environments.prod.trains.rollback: together -> alone
environments.prod.windows: ["mon-thu 09:00-16:00","fri 09:00-12:00","mon,wed 22:00-24:0 -> ["mon-thu 09:00-16:00","mon,wed 22:00-24:00","tue,thu 00:00-
environments.staging.after: {"any":["dev","qa"]} -> ["dev","qa"]
environments.staging.soak: 10m -> 20m
github: [{"environment":"production","environments":["staging","prod -> [{"environment":"production","environments":["staging","prod
groups.on-call: ["ada","bob"] -> ["ada","bob","carol"]
notifications: [{"facts":"attention","topic":"arn:aws:sns:eu-central-1:1111 -> [{"facts":"attention","topic":"arn:aws:sns:eu-central-1:1111
people.bob.slack: U045EF6GH -> U045EF6GZ
people.dave: - -> {"github":"7"}
services.site.depends_on: ["api"] -> ["api","worker-api"]"#;
    assert_eq!(messages, expected.trim().lines().collect::<Vec<_>>());
    // When a file gets its first `people` section, they are reported one by one.
    let nobody = parse(&prod("").replace(PEOPLE, "")).expect("sound");
    let some = parse(&prod("")).expect("sound");
    let paths: Vec<String> = changes(Some(&nobody), &some).into_iter().map(|change| change.path).collect();
    assert_eq!(paths, ["groups.on-call", "people.ada", "people.bob", "people.carol"]);
}
