//! What holds before every front. Each check is handed a place of its own, and asks somebody else than the product
//! what came of an effect.

use super::fixture::{FOREIGN_WEIGHT, PairFixture, STICKY_FOR, autoscaling, known};
use engine::Cloud as _;
use rollout::snapshot::{Autoscaling, Weights};
use rollout::{Effect, Outcome, Reading, Slot};
use serde_json::{Value, json};

const ALL_BLUE: Weights = Weights { blue: 100, green: 0 };
const SHIFTED: Weights = Weights { blue: 90, green: 10 };
/// Limits as a deployment has them while it runs.
const BORROWED: Autoscaling = Autoscaling { min: 2, max: 8, scale_in_suspended: true, scheduled_suspended: true };
const NEW_IMAGE: &str = "registry.example.com/shop/api@sha256:new";

fn with_last_character_changed(arn: &str) -> String {
    let (rest, last) = arn.split_at(arn.len() - 1);
    format!("{rest}{}", if last == "0" { '1' } else { '0' })
}

pub(crate) async fn setting_weights_changes_nothing_else(fixture: &PairFixture) {
    let before = fixture.seen().await;
    for rule in &before.rules {
        let rule = known(rule);
        assert_eq!((rule.weights, rule.has_both_groups), (ALL_BLUE, true));
    }
    assert_eq!(known(&before.rules[0]).foreign_groups, std::slice::from_ref(&fixture.foreign_group));
    assert!(known(&before.rules[1]).foreign_groups.is_empty());

    let outcomes = fixture.perform_twice(&Effect::SetWeights { weights: SHIFTED, seen: vec![] }).await;
    assert_eq!(outcomes, [Outcome::Done, Outcome::Done]);

    let after = fixture.seen().await;
    for (then, now) in before.rules.iter().zip(&after.rules) {
        let (then, now) = (known(then), known(now));
        assert_eq!((now.weights, now.has_both_groups, &now.foreign_groups), (SHIFTED, true, &then.foreign_groups));
    }
    let written = &fixture.resources.traffic[0].rules[0];
    let rule = fixture.balancer(&format!("Action=DescribeRules&RuleArns.member.1={written}"));
    for kept in [
        "https://login.example.com/authorize",
        &format!("<DurationSeconds>{STICKY_FOR}</DurationSeconds>"),
        &format!("<Weight>{FOREIGN_WEIGHT}</Weight>"),
    ] {
        assert!(rule.contains(kept), "{kept} is gone: {rule}");
    }
    assert!(rule.find("authenticate-oidc") < rule.find("<Type>forward</Type>"), "the order has changed: {rule}");
}

pub(crate) async fn a_missing_rule_does_not_affect_the_others(fixture: &PairFixture) {
    let mut observation = fixture.observation();
    let missing = with_last_character_changed(&fixture.resources.traffic[0].rules[0]);
    observation.resources.traffic[0].rules.insert(1, missing.clone());
    let seen = fixture.cloud.observe(&observation).await;
    assert_eq!(known(&seen.rules[0]).weights, ALL_BLUE);
    assert!(
        matches!(&seen.rules[1], Reading::Unknown(reason) if reason.contains("RuleNotFound")),
        "{:?}",
        seen.rules[1]
    );
    assert_eq!(known(&seen.rules[2]).weights, ALL_BLUE);

    let outcome =
        fixture.cloud.perform(&observation.resources, &Effect::SetWeights { weights: SHIFTED, seen: vec![] }).await;
    assert!(matches!(&outcome, Outcome::Refused { reason } if reason.contains(&missing)), "{outcome:?}");
    let seen = fixture.seen().await;
    assert!(seen.rules.iter().all(|rule| known(rule).weights == SHIFTED), "the others are written: {:?}", seen.rules);
}

pub(crate) async fn the_test_rule_is_written_separately(fixture: &PairFixture) {
    let all_green = Weights { blue: 0, green: 100 };
    let outcomes = fixture.perform_twice(&Effect::SetTestRules { weights: vec![all_green] }).await;
    assert_eq!(outcomes, [Outcome::Done, Outcome::Done]);
    let seen = fixture.seen().await;
    assert_eq!(seen.test_weights(), Ok(vec![all_green]));
    assert!(seen.rules.iter().all(|rule| known(rule).weights == ALL_BLUE), "{:?}", seen.rules);
}

pub(crate) async fn a_missing_group_is_added_only_by_a_rollback(fixture: &PairFixture) {
    let mut observation = fixture.observation();
    observation.resources.traffic[0].rules = vec![fixture.plain_rule.clone()];
    let seen = fixture.cloud.observe(&observation).await;
    let rule = known(&seen.rules[0]);
    assert_eq!((rule.weights, rule.has_both_groups), (Weights { blue: 1, green: 0 }, false));
    let forward = Effect::SetWeights { weights: SHIFTED, seen: vec![rule.weights] };
    let outcome = fixture.cloud.perform(&observation.resources, &forward).await;
    assert!(matches!(&outcome, Outcome::Conflict { .. }), "adding a group is not ours to do: {outcome:?}");
    assert!(!known(&fixture.cloud.observe(&observation).await.rules[0]).has_both_groups, "nothing was written");
    // During the rollback somebody has taken it out, and users are on the other side.
    let back = Effect::SetWeights { weights: ALL_BLUE, seen: vec![] };
    assert_eq!(fixture.cloud.perform(&observation.resources, &back).await, Outcome::Done);
    let seen = fixture.cloud.observe(&observation).await;
    let rule = known(&seen.rules[0]);
    assert_eq!((rule.weights, rule.has_both_groups), (ALL_BLUE, true));
}

/// The effect that registers a copy of `template` with this image, in this family; none: in that of `template`.
fn register(template: &str, image: &str, family: Option<&str>) -> Effect {
    let (template, image) = (template.to_owned(), image.to_owned());
    Effect::RegisterVersion { template, image, family: family.map(str::to_owned) }
}

/// Registers twice in a row, and answers the ARN of what the first time has made.
async fn registered_once(fixture: &PairFixture, effect: &Effect) -> String {
    let [first, second] = fixture.perform_twice(effect).await;
    let Outcome::Registered { version, reused: false } = first else { panic!("{first:?}") };
    assert_eq!(second, Outcome::Registered { version: version.clone(), reused: true });
    version
}

/// A task definition and its tags, but for what differs between any two revisions.
fn described(fixture: &PairFixture, arn: &str) -> Value {
    let mut answer = fixture.ecs("DescribeTaskDefinition", &json!({"taskDefinition": arn, "include": ["TAGS"]}));
    let fields = answer["taskDefinition"].as_object_mut().expect("a task definition");
    fields.retain(|name, _| !["taskDefinitionArn", "revision", "registeredAt"].contains(&name.as_str()));
    json!({"taskDefinition": answer["taskDefinition"], "tags": answer["tags"]})
}

pub(crate) async fn a_task_definition_is_copied_once(fixture: &PairFixture) {
    let new = registered_once(fixture, &register(&fixture.task_definition, NEW_IMAGE, None)).await;
    assert_ne!(new, fixture.task_definition);
    let mut expected = described(fixture, &fixture.task_definition);
    expected["taskDefinition"]["containerDefinitions"][0]["image"] = NEW_IMAGE.into();
    assert_eq!(described(fixture, &new), expected);

    let old = register(&fixture.task_definition, "registry.example.com/shop/api@sha256:old", None);
    let same = fixture.cloud.perform(&fixture.resources, &old).await;
    assert_eq!(same, Outcome::Registered { version: fixture.task_definition.clone(), reused: true });
}

pub(crate) async fn the_newest_template_is_read_with_its_changes(fixture: &PairFixture) {
    let family = fixture.template_family();
    for _ in 0..10 {
        fixture.register_template(&family, |document| document["cpu"] = "512".into());
    }
    let newest = fixture.register_template(&family, |document| {
        document["cpu"] = "1024".into();
        let containers = &mut document["containerDefinitions"];
        containers[0]["image"] = "registry.example.com/shop/api:placeholder".into();
        containers[0]["environment"] = json!([{"name": "LEVEL", "value": "debug"}, {"name": "MODE", "value": "test"}]);
        containers[0]["secrets"][0]["valueFrom"] = "arn:aws:ssm:eu-central-1:123456789012:parameter/q".into();
        containers[1]["image"] = "registry.example.com/proxy:2".into();
    });
    // The name of the other family begins with that of this one.
    fixture.register_template(&format!("{family}-switchback"), |document| document["cpu"] = "4096".into());
    let reading = fixture.template(&family).await;
    let template = known(&reading);
    assert_eq!(template.version, newest);
    let shown = template.changes.iter().map(|change| {
        let [before, after] = [&change.before, &change.after].map(|value| value.as_deref().unwrap_or("none"));
        format!("{}: {before} to {after}", change.field)
    });
    let secret = |name: &str| format!("arn:aws:ssm:eu-central-1:123456789012:parameter/{name}");
    let expected = [
        "container api: environment LEVEL: none to debug".to_owned(),
        "container api: environment MODE: live to test".to_owned(),
        format!("container api: secrets PASSWORD: {} to {}", secret("p"), secret("q")),
        "container proxy: image: registry.example.com/proxy:1 to registry.example.com/proxy:2".to_owned(),
        "cpu: 256 to 1024".to_owned(),
    ];
    assert_eq!(shown.collect::<Vec<_>>(), expected);
    assert_eq!(template.more, 0);

    let without_live = fixture.cloud.template(&fixture.resources, &family, None).await;
    assert!(known(&without_live).is_unchanged(), "{without_live:?}");
    assert_eq!(known(&without_live).version, newest);
}

pub(crate) async fn a_version_in_another_family_is_registered_once(fixture: &PairFixture) {
    let family = fixture.template_family();
    let versions = format!("{family}-switchback");
    // It has the image already, and is not the version for all that.
    let template = fixture.register_template(&family, |document| {
        document["containerDefinitions"][0]["image"] = NEW_IMAGE.into();
    });
    let version = registered_once(fixture, &register(&template, NEW_IMAGE, Some(&versions))).await;
    let mut expected = described(fixture, &template);
    expected["taskDefinition"]["family"] = versions.as_str().into();
    assert_eq!(described(fixture, &version), expected);
    assert_eq!(known(&fixture.template(&family).await).version, template, "no version is taken for a template");

    // What a rollback returns to stays in its family.
    let again = fixture.cloud.perform(&fixture.resources, &register(&version, NEW_IMAGE, None)).await;
    assert_eq!(again, Outcome::Registered { version, reused: true });
}

pub(crate) async fn a_family_without_a_usable_template_is_unknown(fixture: &PairFixture) {
    let family = fixture.template_family();
    let unknown = async || match fixture.template(&family).await {
        Reading::Unknown(reason) => reason,
        Reading::Known(template) => panic!("{template:?}"),
    };
    let reason = unknown().await;
    assert!(reason.starts_with(&format!("the family {family} has no active task definition: ")), "{reason}");
    fixture.register_template(&family, |document| document["containerDefinitions"][0]["name"] = "web".into());
    let reason = unknown().await;
    let expected = format!("the newest template {family}:1 has no container api: it has web, proxy");
    assert_eq!(reason, expected);
}

pub(crate) async fn an_unknown_container_is_refused(fixture: &PairFixture) {
    let effect = register(&fixture.task_definition, NEW_IMAGE, None);
    let mut resources = fixture.resources.clone();
    tests::pair_of(&mut resources).container = "web".to_owned();
    let outcome = fixture.cloud.perform(&resources, &effect).await;
    let reason = "the task definition has no container web: it has api, proxy".to_owned();
    assert_eq!(outcome, Outcome::Refused { reason });
}

pub(crate) async fn a_service_is_updated(fixture: &PairFixture) {
    let effect = register(&fixture.task_definition, NEW_IMAGE, None);
    let registered = fixture.cloud.perform(&fixture.resources, &effect).await;
    let Outcome::Registered { version: task_definition, .. } = registered else { panic!("{registered:?}") };
    let before = fixture.service(Slot::Green);
    let update = Effect::SetVersion { slot: Slot::Green, version: task_definition.clone(), desired: 3 };
    assert_eq!(fixture.perform_twice(&update).await, [Outcome::Done, Outcome::Done]);
    assert_eq!(fixture.service(Slot::Green)["taskDefinition"], task_definition);
    assert_eq!(known(&fixture.seen().await.green).desired, 3);

    assert_eq!(
        fixture.perform_twice(&Effect::SetDesired { slot: Slot::Green, desired: 1 }).await,
        [Outcome::Done, Outcome::Done]
    );
    assert_eq!(known(&fixture.seen().await.green).desired, 1);
    let after = fixture.service(Slot::Green);
    assert_eq!(after["taskDefinition"], task_definition, "a count alone leaves it");
    for kept in ["networkConfiguration", "launchType", "loadBalancers", "deploymentConfiguration"] {
        assert_eq!(before[kept], after[kept], "{kept}");
    }
}

/// What Application Auto Scaling calls blue's service.
fn scalable_id(fixture: &PairFixture) -> String {
    let blue = fixture.ecs_service(Slot::Blue);
    format!("service/{}/{}", blue.cluster, blue.name)
}

fn scalable_target(fixture: &PairFixture) -> Value {
    let asked = json!({"ServiceNamespace": "ecs", "ResourceIds": [scalable_id(fixture)]});
    autoscaling(&fixture.raw, "DescribeScalableTargets", &asked)["ScalableTargets"][0].clone()
}

pub(crate) async fn autoscaling_limits_are_borrowed_and_restored(fixture: &PairFixture) {
    let found = Autoscaling { min: 1, max: 8, scale_in_suspended: false, scheduled_suspended: false };
    assert_eq!(known(&fixture.seen().await.blue).autoscaling, Some(found));

    for (limits, suspended) in [(BORROWED, true), (found, false)] {
        let effect = Effect::SetAutoscaling { slot: Slot::Blue, limits };
        assert_eq!(fixture.perform_twice(&effect).await, [Outcome::Done, Outcome::Done]);
        assert_eq!(known(&fixture.seen().await.blue).autoscaling, Some(limits));
        let state = &scalable_target(fixture)["SuspendedState"];
        assert_eq!(state["DynamicScalingInSuspended"], json!(suspended), "{state}");
        assert_eq!(state["ScheduledScalingSuspended"], json!(suspended), "{state}");
        assert_eq!(state["DynamicScalingOutSuspended"], json!(true), "it was suspended before: {state}");
    }
}

pub(crate) async fn each_suspension_flag_is_restored_separately(fixture: &PairFixture) {
    for (scale_in_suspended, scheduled_suspended) in [(false, true), (true, false)] {
        let switches = json!({
            "DynamicScalingInSuspended": scale_in_suspended,
            "DynamicScalingOutSuspended": false,
            "ScheduledScalingSuspended": scheduled_suspended,
        });
        let by_hand = json!({
            "ServiceNamespace": "ecs",
            "ScalableDimension": "ecs:service:DesiredCount",
            "ResourceId": scalable_id(fixture),
            "SuspendedState": switches,
        });
        autoscaling(&fixture.raw, "RegisterScalableTarget", &by_hand);
        let found = Autoscaling { min: 1, max: 8, scale_in_suspended, scheduled_suspended };
        assert_eq!(known(&fixture.seen().await.blue).autoscaling, Some(found));
        for limits in [BORROWED, found] {
            let effect = Effect::SetAutoscaling { slot: Slot::Blue, limits };
            assert_eq!(fixture.perform_twice(&effect).await, [Outcome::Done, Outcome::Done]);
            assert_eq!(known(&fixture.seen().await.blue).autoscaling, Some(limits));
        }
        assert_eq!(scalable_target(fixture)["SuspendedState"], switches);
    }
}

pub(crate) async fn limits_on_a_side_without_a_scalable_target_are_refused(fixture: &PairFixture) {
    assert_eq!(known(&fixture.seen().await.green).autoscaling, None);
    let effect = Effect::SetAutoscaling { slot: Slot::Green, limits: BORROWED };
    let outcome = fixture.cloud.perform(&fixture.resources, &effect).await;
    assert!(matches!(&outcome, Outcome::Refused { reason } if reason.contains("no scalable target")), "{outcome:?}");
    assert_eq!(known(&fixture.seen().await.green).autoscaling, None, "none was made");
}

pub(crate) async fn a_missing_service_makes_its_side_unknown(fixture: &PairFixture) {
    let mut observation = fixture.observation();
    tests::pair_of(&mut observation.resources).green = "nowhere".to_owned();
    let seen = fixture.cloud.observe(&observation).await;
    assert_eq!(known(&seen.blue).version, fixture.task_definition);
    let expected = "service: ECS has no service nowhere in the cluster: MISSING";
    assert_eq!(seen.green, Reading::Unknown(expected.to_owned()));
    assert_eq!(known(&seen.rules[0]).weights, ALL_BLUE);
}

pub(crate) async fn a_task_is_run_and_stopped(fixture: &PairFixture) {
    let start = Effect::StartTask {
        hook: "migrate".to_owned(),
        run: "shop-api-7-migrate".to_owned(),
        version: fixture.task_definition.clone(),
        container: "api".to_owned(),
        command: vec!["migrate".to_owned(), "--all".to_owned()],
        template: Some(Slot::Blue),
    };
    let outcome = fixture.cloud.perform(&fixture.resources, &start).await;
    let Outcome::TaskStarted { task } = outcome else { panic!("{outcome:?}") };
    let asked = json!({"cluster": fixture.ecs_service(Slot::Blue).cluster, "tasks": [task]});
    let described = || fixture.ecs("DescribeTasks", &asked)["tasks"][0].clone();
    let running = described();
    assert_eq!(running["startedBy"], "shop-api-7-migrate");
    assert_eq!(running["taskDefinitionArn"], fixture.task_definition);
    assert_eq!(running["launchType"], "FARGATE");
    assert_eq!(running["overrides"]["containerOverrides"][0]["command"], json!(["migrate", "--all"]));

    let stop = Effect::StopTask { task: task.clone() };
    assert_eq!(fixture.perform_twice(&stop).await, [Outcome::Done, Outcome::Done]);
    assert_eq!(described()["desiredStatus"], "STOPPED");
}
