use crate::parse;
use rollout::policy::{Concurrency, HookAction, HookPoint, MissingData, RegistryPolicy, TagRule, Trigger};
use rollout::{Percent, Seconds, TargetId};

const EXAMPLE: &str = include_str!("../../examples/switchback.yaml");

/// What is said of `text`, a line each.
pub(super) fn said(text: &str) -> String {
    match parse(text) {
        Ok(policy) => format!("accepted: {policy:?}"),
        Err(problems) => problems.to_string(),
    }
}

/// A file of one target; `rest` are further lines of it.
pub(super) fn one_target(rest: &str) -> String {
    const BALANCING: &str = "arn:aws:elasticloadbalancing:eu-central-1:111122223333";
    let mut text = format!(
        "application: shop
services: {{api: {{repository: shop/api}}}}
environments:
  dev:
    targets:
      api:
        cluster: shop-dev
        container: api
        blue: {{service: api-blue, target_group: {BALANCING}:targetgroup/api-blue/a1}}
        green: {{service: api-green, target_group: {BALANCING}:targetgroup/api-green/a2}}
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
fn the_example_says_everything_and_is_sound() {
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
    assert_eq!(prod.pair.rules.len(), 2);
    assert!(prod.pair.test_rule.as_deref().is_some_and(|rule| rule.ends_with("6123456789abcdef")));
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
    // A task without a container runs in the target's.
    assert_eq!(prod.hooks[2].run, HookAction::Task { container: "api".into(), command: vec!["./warm".into()] });
}

#[test]
fn a_target_takes_its_environments_defaults_key_by_key() {
    let policy = parse(EXAMPLE).expect("sound");
    let dev = policy.target(&TargetId::parse("shop/api/dev").expect("a target")).expect("in the file");
    assert_eq!(dev.strategy.steps.len(), 1);
    assert_eq!((dev.strategy.bake, dev.strategy.keep_warm), (Seconds(120), Seconds(0)));
    assert_eq!(dev.strategy.drain, Seconds(30), "not spoken of: the default's default");
    assert_eq!(dev.deadlines.preflight, Seconds(600));
    assert_eq!(dev.deadlines.rollback, Seconds(1800));
    assert_eq!(dev.alarms[0].name, "dev-blue-5xx");
    assert_eq!(dev.hooks[0].name.as_str(), "smoke");

    let text = EXAMPLE.replace("        cluster: shop-dev\n        container: api\n        blue: {", "        cluster: shop-dev\n        container: api\n        strategy: {bake: 9m}\n        alarms: []\n        hooks: {after_traffic: []}\n        blue: {");
    let policy = parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let dev = policy.target(&TargetId::parse("shop/api/dev").expect("a target")).expect("in the file");
    assert_eq!((dev.strategy.bake, dev.strategy.keep_warm), (Seconds(540), Seconds(0)));
    assert!(dev.alarms.is_empty() && dev.hooks.is_empty(), "an empty list is an answer");
}

/// Issue 10, case 15: only registries that the policy names are believed, so what it names is checked.
#[test]
fn a_registry_is_an_account_and_a_region() {
    let with = |registry: &str| EXAMPLE.replace("{account: \"111122223333\", region: eu-west-1}", registry);
    for sound in
        ["{account: 999988887777}", "{region: eusc-de-east-1}", "{account: \"012345678901\", region: us-gov-west-1}"]
    {
        parse(&with(sound)).unwrap_or_else(|problems| panic!("{sound}: {problems}"));
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
fn an_exclusion_is_one_pattern_beside_one_that_takes() {
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
fn what_is_not_named_has_a_default() {
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
fn every_word_for_what_happens_to_a_newer_release_is_read_as_it_is_stored() {
    for rule in ["queue-newest", "queue-all", "cancel-running", "reject"] {
        let text = one_target("").replace("  dev:\n", &format!("  dev:\n    concurrency: {rule}\n"));
        let policy = parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
        let environment = policy.environments.values().next().expect("one");
        assert_eq!(serde_json::json!(environment.concurrency), serde_json::json!(rule));
    }
    let text = one_target("").replace("  dev:\n", "  dev:\n    concurrency: queue-oldest\n");
    let told = said(&text);
    assert!(told.starts_with("5:18: environments.dev.concurrency: expected one of `queue-newest`"), "{told}");
}

#[test]
fn every_problem_of_a_file_is_told_with_its_line() {
    let text = include_str!("many-problems.yaml");
    let told = include_str!("many-problems.txt");
    let said = said(text);
    assert!(said == told.trim_end(), "--- said ---\n{said}\n--- expected ---\n{told}");
}

#[test]
fn steps_rise_to_all_traffic() {
    let steps = |steps: &str| said(&one_target(&format!("strategy: {{steps: {steps}}}")));
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
fn everything_of_a_target_is_in_one_account_region_and_balancer() {
    let elsewhere = one_target("")
        .replace("eu-central-1:111122223333:targetgroup/api-green", "eu-west-1:111122223333:targetgroup/api-green");
    assert_eq!(
        said(&elsewhere),
        "10:51: environments.dev.targets.api.green.target_group: the target group is in eu-west-1 of account \
         111122223333, the target group of `environments.dev.targets.api` in eu-central-1 of account 111122223333: \
         everything of a target is in one account and Region"
    );
    let route = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:listener";
    assert!(said(&one_target(&format!("test_rule: {route}/app/other/b2/c1"))).contains("another load balancer"));
    assert!(said(&one_target(&format!("test_rule: {route}/app/shop/b1/c1"))).contains("is there already"));
    assert!(
        said(&one_target(&format!("test_rule: {route}/net/shop/b1/c1"))).contains("not an Application Load Balancer's")
    );
    let cluster =
        one_target("").replace("cluster: shop-dev", "cluster: arn:aws:ecs:eu-central-1:999999999999:cluster/shop-dev");
    assert!(said(&cluster).contains("the cluster is in eu-central-1 of account 999999999999"));
}

#[test]
fn a_region_is_one_that_exists_in_the_partition_of_its_arn() {
    let group = "eu-central-1:111122223333:targetgroup/api-green";
    let at = |region: &str| said(&one_target("").replace(group, &group.replace("eu-central-1", region)));
    for (region, hint) in [
        ("us-west-9", "there is no Region `us-west-9`: did you mean `us-west-1`?"),
        ("us-west-2a", "there is no Region `us-west-2a`: did you mean `us-west-2`?"),
        ("mars", "there is no Region `mars`: write a Region such as `eu-central-1`"),
        ("cn-north-1", "the Region `cn-north-1` is of the partition `aws-cn`, and this ARN says `aws`"),
    ] {
        let said = at(region);
        assert!(said.contains(hint), "{region}: {said}");
    }
    let partition = |partition: &str| {
        let arn = format!("arn:aws:elasticloadbalancing:{group}");
        said(&one_target("").replace(&arn, &arn.replace("arn:aws:", &format!("arn:{partition}:"))))
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
        assert!(said(&text).contains("there is no Region `us-west-"), "{key}");
    }
}

/// Python's `json.dumps` writes ASCII by default, and characters beyond U+FFFF as pairs of surrogates.
#[test]
fn json_is_read_as_python_writes_it() {
    let policy = parse(EXAMPLE).expect("sound");
    let json = crate::notation(&policy).to_string();
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
    // Places are those of the file, behind a pair too.
    let told = said(r#"{"application": "shop", "\ud83d\udd25": 1, "servics": {}}"#);
    assert!(told.contains("1:44: servics: unknown key `servics`"), "{told}");
    // Half a pair is no character.
    assert!(said(r#"{"application": "\ud83d"}"#).contains("this is not YAML"));
}

#[test]
fn two_targets_never_move_the_same_thing() {
    let text = one_target("");
    let target = text.split_once("    targets:\n").expect("there").1;
    let said = said(&format!("{text}  prod:\n    targets:\n{target}"));
    let told: Vec<&str> = said.lines().map(|line| line.split(':').nth(2).unwrap_or_default().trim()).collect();
    assert_eq!(
        told,
        [
            "environments.prod.targets.api.blue.service",
            "environments.prod.targets.api.blue.target_group",
            "environments.prod.targets.api.green.service",
            "environments.prod.targets.api.green.target_group",
            "environments.prod.targets.api.rules[0]",
        ],
        "{said}"
    );
    assert!(said.contains("belongs to `environments.dev.targets.api` already"), "{said}");

    // A cluster is the same one by its name and by its ARN.
    let by_arn = target.replace("cluster: shop-dev", "cluster: arn:aws:ecs:eu-central-1:111122223333:cluster/shop-dev");
    let said = self::said(&format!("{text}  prod:\n    targets:\n{by_arn}"));
    assert!(said.contains("the ECS service `api-blue` of cluster `shop-dev` belongs to"), "{said}");
}

#[test]
fn a_hook_has_one_way_to_run_and_a_name_of_its_own() {
    let hooks = |hooks: &str| said(&one_target(&format!("hooks: {hooks}")));
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
fn a_deadline_that_always_runs_out_is_a_problem() {
    let said = said(&one_target("strategy: {drain: 10m}\ndeadlines: {retire: 10m}"));
    assert!(said.contains("the deadline `retire` (10m) is not longer than the strategy's `drain` (10m)"), "{said}");
    assert_eq!(said.lines().count(), 1);
}

#[test]
fn a_policy_that_does_not_fit_the_ledger_is_a_problem() {
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
    let said = said(&text);
    assert!(said.contains("written out, the targets take") && said.contains("split the application"), "{said}");
}

#[test]
fn how_many_tasks_may_fail_has_figures_of_its_own() {
    let failures = |text: &str| {
        let policy = parse(text).unwrap_or_else(|problems| panic!("{problems}"));
        let target = TargetId::parse("shop/api/dev").expect("a target");
        policy.target(&target).expect("it is there").strategy.task_failures
    };
    let usual = failures(&one_target(""));
    assert_eq!((usual.count, usual.share, usual.times_stable), (2, Percent::new(5).expect("a share"), 2));
    let own = failures(&one_target("strategy: {task_failures: {count: 10, share: 20%}}"));
    assert_eq!((own.count, own.share, own.times_stable), (10, Percent::new(20).expect("a share"), 2));
    for (wrong, words) in [
        ("strategy: {task_failures: {count: 5001}}", "from 0 to 5000"),
        ("strategy: {task_failures: {times_stable: 0}}", "from 1 to 100"),
        ("strategy: {task_failures: {counts: 1}}", "counts"),
    ] {
        let said = said(&one_target(wrong));
        assert!(said.contains(words), "{said}");
    }
}
