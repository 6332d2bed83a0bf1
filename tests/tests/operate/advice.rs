//! The advice on alarms, taken as it is written: the commands of the policy file's page are typed in, and the example's alarms are created as its
//! comments say. The doctor finds nothing wrong with them, a good release gets through, and a bad one goes back.

use super::bench::{ALICE, TARGET, TestBench};
use rollout::TargetId;
use rollout::alarm::{AlarmDetails, AlarmKind, AlarmsByName, Metric, MetricAlarmDetails};
use rollout::doctor::inspected::{InspectedPair, InspectedPlatform, InspectedWorkload, InspectionResult};
use rollout::doctor::{Finding, Severity, judge};
use rollout::policy::Policy;
use rollout::{Reading, Slot, TargetResources};
use serde_json::json;
use simulation::world::ImageBehaviour;
use simulation::world::alarms::{Comparison, MetricAlarm, TreatMissing, WatchedMetric};
use std::collections::BTreeMap;

/// The page of the policy file.
const PAGE: &str = include_str!("../../../shared/policy/README.md");
const EXAMPLE: &str = include_str!("../../../shared/policy/examples/switchback.yaml");

/// The first fenced block of the page after these words.
fn block_after(words: &str) -> &'static str {
    let rest = PAGE.split_once(words).unwrap_or_else(|| panic!("the page says {words:?} no more")).1;
    let block = rest.split_once("```").expect("a block").1.split_once("```").expect("its end").0;
    block.split_once('\n').expect("what language it is in").1
}

/// The commands of the page's loop, each as its words: for every side once, with the shell's expansions done.
fn commands() -> Vec<Vec<String>> {
    let text = block_after("## Alarms");
    let (head, body) = text.split_once("; do\n").expect("a loop");
    let sides = head.strip_prefix("for side in ").expect("over sides");
    let body = body.split_once("done").expect("the loop's end").0.replace("\\\n", " ");
    let expanded = |side: &str| {
        let name = side.rsplit_once('/').expect("a name and an id").0;
        let text = body.replace("${side%/*}", name).replace("$side", side);
        assert!(!text.contains('$'), "the shell would expand more: {text}");
        text.split_whitespace().map(|word| word.trim_matches('"').to_owned()).collect()
    };
    sides.split_whitespace().map(expanded).collect()
}

/// An alarm as `put-metric-alarm` makes it.
fn put_metric_alarm(words: &[String]) -> (String, AlarmDetails) {
    assert_eq!(words[..3], ["aws", "cloudwatch", "put-metric-alarm"], "{words:?}");
    let mut options: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut option = "";
    for word in &words[3..] {
        match word.strip_prefix("--") {
            Some(name) => {
                option = name;
                options.entry(name).or_default();
            }
            None => options.entry(option).or_default().push(word),
        }
    }
    let one = |name: &str| options[name][0].to_owned();
    let number = |name: &str| one(name).parse::<u32>().expect("a number");
    let dimension = |text: &&str| {
        let rest = text.strip_prefix("Name=").expect("a dimension");
        rest.split_once(",Value=").map(|(name, value)| (name.to_owned(), value.to_owned())).expect("a dimension")
    };
    assert!(number("datapoints-to-alarm") <= number("evaluation-periods"), "{options:?}");
    let metric = Metric {
        namespace: one("namespace"),
        name: one("metric-name"),
        dimensions: options["dimensions"].iter().map(dimension).collect(),
    };
    let kind = AlarmKind::Metric(MetricAlarmDetails {
        metrics: vec![metric],
        expressions: Vec::new(),
        period_s: number("period"),
        datapoints: number("datapoints-to-alarm"),
        threshold: Some(one("threshold").parse().expect("a number")),
        comparison: one("comparison-operator"),
        treat_missing: one("treat-missing-data"),
    });
    (one("alarm-name"), AlarmDetails { state: "OK".to_owned(), reason: String::new(), evaluation: None, kind })
}

/// What is wrong with the alarms of a target, where they are as here; nothing else of the account was read.
fn problems(policy: &Policy, target: &str, alarms: AlarmsByName) -> Vec<Finding> {
    fn unread<T>() -> Reading<T> {
        Reading::Unknown("it is not what this is about".to_owned())
    }
    let side =
        || InspectedWorkload { service: unread(), definition: unread(), groups: vec![unread()], scaling: unread() };
    let pair = InspectedPair { blue: side(), green: side(), rules: BTreeMap::new(), others: unread() };
    let seen = InspectionResult {
        platform: InspectedPlatform::EcsPair(Box::new(pair)),
        template: unread(),
        alarms: Reading::Known(alarms),
        repository: unread(),
        concurrency: unread(),
        fargate: unread(),
        fargate_spot: unread(),
        iam_scope: None,
    };
    let target = TargetId::parse(target).expect("a target");
    let found = judge(policy, &target, &seen).into_iter();
    found.filter(|finding| matches!(finding.severity, Severity::Broken | Severity::Risky)).collect()
}

#[test]
fn the_documented_alarms_pass_the_doctor() {
    let policy =
        policy::parse(block_after("The shortest file that works:")).unwrap_or_else(|problems| panic!("{problems}"));
    let alarms: AlarmsByName = commands().iter().map(|words| put_metric_alarm(words)).collect();
    assert_eq!(problems(&policy, "shop/api/prod", alarms), []);
}

#[test]
fn the_documented_alarms_stop_only_bad_releases() {
    let mut bench = TestBench::new();
    let names = bench.simulation.names().clone();
    let mut policy: serde_json::Value = serde_json::from_str(&bench.text).expect("JSON");
    let mut wanted = Vec::new();
    for words in commands() {
        let (name, alarm) = put_metric_alarm(&words);
        let AlarmKind::Metric(seen) = alarm.kind else { panic!("a metric alarm") };
        assert_eq!(seen.metrics[0].name, WatchedMetric::Target5xxCount.name());
        let group = &seen.metrics[0].dimensions["TargetGroup"];
        let group = if group.contains("blue") { &names.blue_group } else { &names.green_group };
        let alarm = MetricAlarm {
            name: name.clone(),
            metric: WatchedMetric::Target5xxCount,
            load_balancer: names.load_balancer.clone(),
            target_group: Some(group.clone()),
            period_s: seen.period_s,
            evaluation_periods: 3,
            datapoints_to_alarm: seen.datapoints,
            threshold: seen.threshold.expect("a number"),
            comparison: Comparison::Above,
            treat_missing: TreatMissing::NotBreaching,
        };
        assert_eq!(
            (seen.comparison.as_str(), seen.treat_missing.as_str()),
            (alarm.comparison.as_str(), alarm.treat_missing.as_str())
        );
        // Response times beside it, as the page says: with CloudWatch's default for what is missing.
        let slow = MetricAlarm {
            name: name.replace("5xx", "latency"),
            metric: WatchedMetric::TargetResponseTime,
            threshold: 10.0,
            treat_missing: TreatMissing::Missing,
            ..alarm.clone()
        };
        wanted.extend([json!(name), json!(slow.name)]);
        bench.simulation.world(|world| {
            world.put_metric_alarm(alarm).expect("the world takes it");
            world.put_metric_alarm(slow).expect("the world takes it");
        });
    }
    let target = &mut policy["environments"]["prod"]["targets"]["api"];
    target["alarms"] = json!(wanted);
    // Steps and bake as the policy file has them by default.
    target["strategy"] = json!({});
    bench.applied(&policy);
    bench.simulation.run_for(300);
    let (status, doctor) = bench.ask("POST", "/v1/doctor", json!({"target": "shop/api/prod"}));
    assert_eq!(status, 200, "{doctor:#}");
    let problems = |finding: &&serde_json::Value| finding["severity"] != "advice";
    assert_eq!(doctor["findings"].as_array().expect("a list").iter().find(problems), None);

    bench.deploy_release(1);
    bench.release(2);
    let bad = format!("{}@{}", names.repository_uri, simulation::world::scene::digest_of(2));
    bench.simulation.world(|world| world.set_image(&bad, ImageBehaviour::failing(0.5)));
    bench.post_ok(ALICE, &format!("{TARGET}/deploy"), json!({"release": "v2"}));
    bench.wait_for_verdict("api", "prod", rollout::Verdict::RolledBack);
    let reason = bench.verdicts("api", "prod").pop().map(|(_, _, reason)| reason).unwrap_or_default();
    assert!(reason.contains("5xx"), "{reason}");
}

/// The alarm of this name as the example's comments say that it is made.
fn example_alarm(resources: &TargetResources, name: &str) -> AlarmDetails {
    let of_group = |slot: Slot, metric: &str| {
        let group = resources.target_groups(slot).next().expect("a load balancer");
        let group = &group[group.find("targetgroup/").expect("a target group")..];
        let dimensions = [("LoadBalancer", "app/shop/2123456789abcdef"), ("TargetGroup", group)];
        Metric {
            namespace: "AWS/ApplicationELB".to_owned(),
            name: metric.to_owned(),
            dimensions: dimensions.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        }
    };
    let own =
        |metric: &str| Metric { namespace: "Shop".to_owned(), name: metric.to_owned(), dimensions: BTreeMap::new() };
    let slot = if name.contains("blue") { Slot::Blue } else { Slot::Green };
    let (metric, comparison, treat_missing) = match name {
        _ if name.ends_with("-5xx") => {
            (of_group(slot, "HTTPCode_Target_5XX_Count"), Comparison::Above, TreatMissing::NotBreaching)
        }
        _ if name.ends_with("-latency") => {
            (of_group(slot, "TargetResponseTime"), Comparison::Above, TreatMissing::Missing)
        }
        "api-failed-payments" => (own("FailedPayments"), Comparison::Above, TreatMissing::Missing),
        "api-heartbeat" => (own("Heartbeats"), Comparison::Below, TreatMissing::Missing),
        other => panic!("the example says nothing of {other}"),
    };
    let kind = AlarmKind::Metric(MetricAlarmDetails {
        metrics: vec![metric],
        expressions: Vec::new(),
        period_s: 30,
        datapoints: 2,
        threshold: Some(1.0),
        comparison: comparison.as_str().to_owned(),
        treat_missing: treat_missing.as_str().to_owned(),
    });
    AlarmDetails { state: "OK".to_owned(), reason: String::new(), evaluation: None, kind }
}

#[test]
fn the_example_policys_alarms_pass_the_doctor() {
    let policy = policy::parse(EXAMPLE).unwrap_or_else(|problems| panic!("{problems}"));
    let mut judged = 0;
    for (target, wanted) in policy.targets() {
        if wanted.alarms.is_empty() {
            continue;
        }
        let alarm = |name: &String| (name.clone(), example_alarm(&wanted.resources, name));
        let alarms: AlarmsByName = wanted.alarms.iter().map(|alarm| &alarm.name).map(alarm).collect();
        assert_eq!(problems(&policy, &target.to_string(), alarms), [], "{target}");
        judged += 1;
    }
    assert!(judged >= 2, "dev and prod");
}
