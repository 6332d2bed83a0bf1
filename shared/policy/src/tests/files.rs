use crate::parse;
use rollout::policy::{Concurrency, HookAction, HookPoint, MissingData, RegistryPolicy, TagRule, Trigger};
use rollout::{Percent, Seconds, TargetId};

const EXAMPLE: &str = include_str!("../../examples/switchback.yaml");

/// The problems of `text`, one per line.
pub(super) fn report(text: &str) -> String {
    match parse(text) {
        Ok(policy) => format!("accepted: {policy:?}"),
        Err(problems) => problems.to_string(),
    }
}

/// A file with one target; `rest` are further lines of that target.
pub(super) fn one_target(rest: &str) -> String {
    const BALANCING: &str = "arn:aws:elasticloadbalancing:eu-central-1:111122223333";
    let mut text = format!(
        "application: shop
services: {{api: {{repository: shop/api}}}}
environments:
  dev:
    targets:
      api:
        ecs: {{cluster: shop-dev, container: api, blue: api-blue, green: api-green}}
        traffic:
          - blue: {BALANCING}:targetgroup/api-blue/a1
            green: {BALANCING}:targetgroup/api-green/a2
            rules: [{BALANCING}:listener/app/shop/b1/c1]
"
    );
    for line in rest.lines() {
        text.push_str("        ");
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[test]
fn the_example_parses_with_every_setting() {
    let policy = parse(EXAMPLE).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(policy.application.as_str(), "shop");
    let rules: Vec<_> = policy.services.values().map(|service| service.tags.clone()).collect();
    assert_eq!(
        rules,
        [
            TagRule::Semver(">=1.0".into()),
            TagRule::Regex("main-[0-9a-f]{7,40}".into()),
            TagRule::Except {
                take: Box::new(TagRule::Glob("v*".into())),
                not: Box::new(TagRule::Glob("*-{amd64,arm64}".into())),
            },
        ]
    );
    let registries: Vec<_> = policy.services.values().map(|service| service.registry.clone()).collect();
    let elsewhere = RegistryPolicy { account: Some("111122223333".into()), region: Some("eu-west-1".into()) };
    assert_eq!(registries, [RegistryPolicy::default(), RegistryPolicy::default(), elsewhere]);
    let triggers: Vec<_> = policy.environments.values().map(|environment| environment.trigger).collect();
    assert_eq!(triggers, [Trigger::Push, Trigger::Manual, Trigger::Push, Trigger::Promotion]);
    let concurrency: Vec<_> = policy.environments.values().map(|environment| environment.concurrency).collect();
    assert_eq!(concurrency[..2], [Concurrency::CancelRunning, Concurrency::QueueAll]);

    let prod = policy.target(&TargetId::parse("shop/api/prod").expect("a target")).expect("in the file");
    assert_eq!(prod.resources.rules().count(), 2);
    let test_rules: Vec<&str> = prod.resources.test_rules().collect();
    assert!(matches!(test_rules.as_slice(), [rule] if rule.ends_with("6123456789abcdef")), "{test_rules:?}");
    let steps: Vec<_> = prod.strategy.steps.iter().map(|step| (step.traffic.value(), step.hold.0)).collect();
    assert_eq!(steps, [(10, 300), (50, 600), (100, 0)]);
    assert_eq!(prod.strategy.green_capacity, Percent::new(50).expect("a share"));
    let missing: Vec<_> = prod.alarms.iter().map(|alarm| alarm.missing).collect();
    assert_eq!(missing[..4], [MissingData::Wait; 4]);
    assert_eq!(missing[4..], [MissingData::Healthy, MissingData::Unhealthy]);
    let points: Vec<_> = prod.hooks.iter().map(|hook| (hook.name.as_str(), hook.at, hook.deadline.0)).collect();
    let forward_only: Vec<_> = prod.hooks.iter().map(|hook| hook.forward_only).collect();
    assert_eq!(forward_only, [true, false, false]);
    assert_eq!(
        points,
        [
            ("migrate", HookPoint::BeforeTraffic, 1200),
            ("smoke", HookPoint::TestTraffic, 300),
            ("warm-caches", HookPoint::AfterTraffic, 600),
        ]
    );
    // A task without a container uses the target's container.
    assert_eq!(prod.hooks[2].run, HookAction::Task { container: "api".into(), command: vec!["./warm".into()] });
}

#[test]
fn a_target_inherits_environment_defaults_key_by_key() {
    let policy = parse(EXAMPLE).expect("sound");
    let dev = policy.target(&TargetId::parse("shop/api/dev").expect("a target")).expect("in the file");
    assert_eq!(dev.strategy.steps.len(), 1);
    assert_eq!((dev.strategy.bake, dev.strategy.keep_warm), (Seconds(120), Seconds(0)));
    assert_eq!(dev.strategy.drain, Seconds(30), "not spoken of: the default's default");
    assert_eq!(dev.deadlines.preflight, Seconds(600));
    assert_eq!(dev.deadlines.rollback, Seconds(1800));
    assert_eq!(dev.alarms[0].name, "dev-blue-5xx");
    assert_eq!(dev.hooks[0].name.as_str(), "smoke");

    let text = EXAMPLE.replace(
        "        ecs: {cluster: shop-dev,",
        "        strategy: {bake: 9m}\n        alarms: []\n        hooks: {after_traffic: []}\n        ecs: {cluster: shop-dev,",
    );
    let policy = parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let dev = policy.target(&TargetId::parse("shop/api/dev").expect("a target")).expect("in the file");
    assert_eq!((dev.strategy.bake, dev.strategy.keep_warm), (Seconds(540), Seconds(0)));
    assert!(dev.alarms.is_empty() && dev.hooks.is_empty(), "an empty list is an answer");
}

/// Issue 10, case 15: only registries named in the policy are trusted, so their names are checked.
#[test]
fn a_registry_is_an_account_and_a_region() {
    let with = |registry: &str| EXAMPLE.replace("{account: \"111122223333\", region: eu-west-1}", registry);
    for valid in
        ["{account: 999988887777}", "{region: eusc-de-east-1}", "{account: \"012345678901\", region: us-gov-west-1}"]
    {
        parse(&with(valid)).unwrap_or_else(|problems| panic!("{valid}: {problems}"));
    }
    let wrong = [
        "{}",
        "{account: shop}",
        "{account: 11112222333}",
        "{region: evil.example.com}",
        "{region: us-west-2a}",
        "shop",
    ];
    for wrong in wrong {
        let problems = parse(&with(wrong)).err().unwrap_or_else(|| panic!("{wrong} is taken"));
        assert!(
            problems.0.iter().all(|problem| problem.path.starts_with("services.worker-api.registry")),
            "{problems}"
        );
    }
}

/// Issue 10, case 12.
#[test]
fn a_tag_exclusion_is_one_pattern_beside_the_include() {
    let with = |tags: &str| EXAMPLE.replace("{glob: \"v*\", not: {glob: \"*-{amd64,arm64}\"}}", tags);
    parse(&with("{semver: \">=1\", not: {regex: \".*-(amd64|arm64)\"}}"))
        .unwrap_or_else(|problems| panic!("{problems}"));
    for wrong in [
        "{not: {glob: x}}",
        "{glob: v*, not: {}}",
        "{glob: v*, not: {glob: x, regex: y}}",
        "{glob: v*, not: {not: {glob: x}}}",
    ] {
        assert!(parse(&with(wrong)).is_err(), "{wrong} is taken");
    }
}

#[test]
fn omitted_keys_have_defaults() {
    let policy = parse(&one_target("")).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(policy.services.values().next().expect("one").tags, TagRule::Glob("*".into()));
    let (id, target) = policy.targets().next().expect("one");
    assert_eq!(id.to_string(), "shop/api/dev");
    let steps: Vec<_> = target.strategy.steps.iter().map(|step| (step.traffic.value(), step.hold.0)).collect();
    assert_eq!(steps, [(10, 300), (50, 300), (100, 0)]);
    assert_eq!((target.strategy.bake.0, target.strategy.keep_warm.0, target.strategy.drain.0), (600, 600, 30));
    assert_eq!(target.strategy.green_capacity, Percent::ALL);
    assert_eq!(target.deadlines.healthy, Seconds(900));
    assert_eq!(policy.applied(&id, 1).expect("in the file").concurrency, Concurrency::QueueNewest);
}

#[test]
fn every_concurrency_name_matches_its_stored_form() {
    for rule in ["queue-newest", "queue-all", "cancel-running", "reject"] {
        let text = one_target("").replace("  dev:\n", &format!("  dev:\n    concurrency: {rule}\n"));
        let policy = parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
        let environment = policy.environments.values().next().expect("one");
        assert_eq!(serde_json::json!(environment.concurrency), serde_json::json!(rule));
    }
    let text = one_target("").replace("  dev:\n", "  dev:\n    concurrency: queue-oldest\n");
    let messages = report(&text);
    assert!(messages.starts_with("5:18: environments.dev.concurrency: expected one of `queue-newest`"), "{messages}");
}

#[test]
fn every_problem_is_reported_with_its_line() {
    let text = include_str!("many-problems.yaml");
    let messages = include_str!("many-problems.txt");
    let report = report(text);
    assert!(report == messages.trim_end(), "--- said ---\n{report}\n--- expected ---\n{messages}");
}

#[test]
fn steps_must_rise_to_100_percent() {
    let steps = |steps: &str| report(&one_target(&format!("strategy: {{steps: {steps}}}")));
    assert_eq!(
        steps("[{traffic: 50%}, {traffic: 20%}, {traffic: 100%}]"),
        "12:54: environments.dev.targets.api.strategy.steps[1].traffic: 20% comes after 50%, but traffic must rise from \
         step to step: put the steps in order, or take one away"
    );
    assert_eq!(
        steps("[{traffic: 50%}]"),
        "12:38: environments.dev.targets.api.strategy.steps: the last step is 50%, but all traffic must move in the \
         end: add `{traffic: 100%}`"
    );
    assert!(steps("[]").ends_with("there are no steps: write at least `{traffic: 100%}`"));
    assert!(steps("[{traffic: 0%}]").contains("a whole percentage from `1%` to `100%`, found `0%`"));
    assert!(steps("[{traffic: 50}]").contains("found the number 50"));
    let many = vec!["{traffic: 1%}"; 51].join(",");
    assert!(steps(&format!("[{many}]")).ends_with("there are 51 steps, at most 50 are allowed"));
}

#[test]
fn a_targets_resources_share_account_region_and_load_balancer() {
    let elsewhere = one_target("")
        .replace("eu-central-1:111122223333:targetgroup/api-green", "eu-west-1:111122223333:targetgroup/api-green");
    assert_eq!(
        report(&elsewhere),
        "10:20: environments.dev.targets.api.traffic[0].green: the target group is in eu-west-1 of account \
         111122223333, the target group of `environments.dev.targets.api` in eu-central-1 of account 111122223333: \
         everything of a target is in one account and Region"
    );
    let route = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:listener";
    let test_rule = |rule: &str| report(&one_target(&format!("    test_rule: {route}/{rule}")));
    assert!(test_rule("app/other/b2/c1").contains("another load balancer"));
    assert!(test_rule("app/shop/b1/c1").contains("is there already"));
    assert!(test_rule("net/shop/b1/c1").contains("another load balancer"));
    assert!(test_rule("gwy/shop/b1/c1").contains("a Gateway Load Balancer's"));
    let cluster =
        one_target("").replace("cluster: shop-dev", "cluster: arn:aws:ecs:eu-central-1:999999999999:cluster/shop-dev");
    assert!(report(&cluster).contains("the cluster is in eu-central-1 of account 999999999999"));
}

#[test]
fn an_arns_region_must_exist_in_its_partition() {
    let group = "eu-central-1:111122223333:targetgroup/api-green";
    let at = |region: &str| report(&one_target("").replace(group, &group.replace("eu-central-1", region)));
    for (region, hint) in [
        ("us-west-9", "there is no Region `us-west-9`: did you mean `us-west-1`?"),
        ("us-west-2a", "there is no Region `us-west-2a`: did you mean `us-west-2`?"),
        ("mars", "there is no Region `mars`: write a Region such as `eu-central-1`"),
        ("cn-north-1", "the Region `cn-north-1` is of the partition `aws-cn`, and this ARN says `aws`"),
    ] {
        let report = at(region);
        assert!(report.contains(hint), "{region}: {report}");
    }
    let partition = |partition: &str| {
        let arn = format!("arn:aws:elasticloadbalancing:{group}");
        report(&one_target("").replace(&arn, &arn.replace("arn:aws:", &format!("arn:{partition}:"))))
    };
    assert!(
        partition("aws-cn").contains("the Region `eu-central-1` is of the partition `aws`, and this ARN says `aws-cn`")
    );
    assert!(partition("aws-mars").contains("there is no partition `aws-mars`"));
    for (key, value) in [
        ("cluster: shop-dev", "cluster: arn:aws:ecs:us-west-9:111122223333:cluster/shop-dev"),
        ("listener/app/shop/b1/c1", "listener/app/shop/b1/c1"),
    ] {
        let text = one_target("")
            .replace(key, value)
            .replace("eu-central-1:111122223333:listener", "us-west-2a:111122223333:listener");
        assert!(report(&text).contains("there is no Region `us-west-"), "{key}");
    }
}

/// By default, Python's `json.dumps` writes ASCII, with characters beyond U+FFFF as surrogate pairs.
#[test]
fn json_with_escaped_surrogate_pairs_is_parsed() {
    let policy = parse(EXAMPLE).expect("sound");
    let json = crate::render(&policy).to_string();
    let written = json.replace("year's end", r"\\ud83d \ud83d\udd25\ud83d\ude80");
    let expected = r"\ud83d 🔥🚀";
    let again = parse(&written).unwrap_or_else(|problems| panic!("{problems}"));
    let reasons: Vec<&str> = again
        .environments
        .values()
        .flat_map(|environment| &environment.entry.freezes)
        .map(|freeze| freeze.reason.as_str())
        .collect();
    assert!(reasons.contains(&expected), "{reasons:?}");
    // Positions are those in the file, even after a surrogate pair.
    let messages = report(r#"{"application": "shop", "\ud83d\udd25": 1, "servics": {}}"#);
    assert!(messages.contains("1:44: servics: unknown key `servics`"), "{messages}");
    // Half a surrogate pair is not a character.
    assert!(report(r#"{"application": "\ud83d"}"#).contains("this is not YAML"));
}

#[test]
fn two_targets_cannot_share_a_resource() {
    let text = one_target("");
    let target = text.split_once("    targets:\n").expect("there").1;
    let report = report(&format!("{text}  prod:\n    targets:\n{target}"));
    let messages: Vec<&str> = report.lines().map(|line| line.split(':').nth(2).unwrap_or_default().trim()).collect();
    assert_eq!(
        messages,
        [
            "environments.prod.targets.api.ecs.blue",
            "environments.prod.targets.api.ecs.green",
            "environments.prod.targets.api.traffic[0].blue",
            "environments.prod.targets.api.traffic[0].green",
            "environments.prod.targets.api.traffic[0].rules[0]",
        ],
        "{report}"
    );
    assert!(report.contains("belongs to `environments.dev.targets.api` already"), "{report}");

    // A cluster given by name is the same as one given by ARN.
    let by_arn = target.replace("cluster: shop-dev", "cluster: arn:aws:ecs:eu-central-1:111122223333:cluster/shop-dev");
    let report = self::report(&format!("{text}  prod:\n    targets:\n{by_arn}"));
    assert!(report.contains("the ECS service `api-blue` of cluster `shop-dev` belongs to"), "{report}");
}

#[test]
fn a_hook_has_one_action_and_a_unique_name() {
    let hooks = |hooks: &str| report(&one_target(&format!("hooks: {hooks}")));
    assert!(
        hooks("{before_traffic: [{name: a}]}").contains("there is neither: write exactly one of `lambda` and `task`")
    );
    assert!(hooks("{before_traffic: [{name: a, lambda: f, task: {}}]}").contains("there is both"));
    assert!(
        hooks("{before_traffic: [{name: a, lambda: f}], after_traffic: [{name: a, lambda: g}]}")
            .contains("hooks.after_traffic[0]: the name `a` is taken by `environments.dev.targets.api.hooks.before_traffic[0]` (line 12)")
    );
    assert!(
        hooks("{before_traffic: [{name: a, lambda: f, deadline: 1s}]}").contains("1s is too short: write `5s` or more")
    );
    let six = |prefix: &str| (0..6).map(|n| format!("{{name: {prefix}{n}, lambda: f}}")).collect::<Vec<_>>().join(",");
    assert!(
        hooks(&format!("{{before_traffic: [{}], after_traffic: [{}]}}", six("a"), six("b")))
            .contains("there are 12 hooks in all, at most 10")
    );
    assert!(
        hooks("{test_traffic: [{name: a, lambda: 'arn:aws:lambda:eu-west-1:111122223333:function:f'}]}")
            .contains("the function is in eu-west-1")
    );
}

#[test]
fn a_deadline_no_longer_than_the_drain_is_refused() {
    let report = report(&one_target("strategy: {drain: 10m}\ndeadlines: {retire: 10m}"));
    assert!(report.contains("the deadline `retire` (10m) is not longer than the strategy's `drain` (10m)"), "{report}");
    assert_eq!(report.lines().count(), 1);
}

#[test]
fn a_policy_too_large_for_the_ledger_is_refused() {
    const ALARM: &str = "a-name-of-an-alarm-that-is-rather-long-as-names-that-come-out-of-templates-are-";
    let alarms: Vec<String> = (0..20).map(|n| format!("{}{n}", ALARM.repeat(3))).collect();
    let one = one_target(&format!("alarms: [{}]", alarms.join(", ")));
    let (head, target) = one.split_once("  dev:\n").expect("there");
    let mut text = head.replace("{api: {repository: shop/api}}", "");
    for service in 0..40 {
        text = text.replacen("environments:", &format!("  s{service}: {{repository: shop/api}}\nenvironments:"), 1);
    }
    text.push_str("  dev:\n    targets:\n");
    let body = target.split_once("      api:\n").expect("there").1;
    for service in 0..40 {
        text.push_str(&format!(
            "      s{service}:\n{}",
            body.replace("api-", &format!("api{service}-")).replace("b1/c1", &format!("b1/c{service}"))
        ));
    }
    let report = report(&text);
    assert!(report.contains("as JSON, the policy takes") && report.contains("split the application"), "{report}");
}

#[test]
fn task_failure_limits_are_configurable() {
    let failures = |text: &str| {
        let policy = parse(text).unwrap_or_else(|problems| panic!("{problems}"));
        let target = TargetId::parse("shop/api/dev").expect("a target");
        policy.target(&target).expect("it is there").strategy.task_failures
    };
    let defaults = failures(&one_target(""));
    assert_eq!((defaults.count, defaults.share, defaults.times_stable), (2, Percent::new(5).expect("a share"), 2));
    let text = one_target("strategy: {task_failures: {count: 10, share: 20%}}");
    let own = failures(&text);
    assert_eq!((own.count, own.share, own.times_stable), (10, Percent::new(20).expect("a share"), 2));
    assert_eq!(failures(&crate::render(&parse(&text).expect("sound")).to_string()), own);
    for (wrong, expected) in [
        ("strategy: {task_failures: {count: 5001}}", "from 0 to 5000"),
        ("strategy: {task_failures: {times_stable: 0}}", "from 1 to 100"),
        ("strategy: {task_failures: {counts: 1}}", "counts"),
    ] {
        let report = report(&one_target(wrong));
        assert!(report.contains(expected), "{report}");
    }
}
