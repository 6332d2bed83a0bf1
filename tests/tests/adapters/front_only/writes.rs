//! What a write sends: copied task definitions and rule actions, and the round trips it takes.

use super::{LATENCY, SHIFTED};
use crate::fixture::known;
use crate::with_front::{TASKS, fixture};
use engine::Cloud as _;
use rollout::snapshot::Weights;
use rollout::{Effect, Outcome, Slot};
use serde_json::json;
use simulation::world::ImageBehaviour;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn an_observation_and_a_write_take_one_round_trip_each() {
    let fixture = fixture().await;
    let task_definition = fixture.deploy_to_green(ImageBehaviour::default(), TASKS).await;
    fixture.front.skip(Duration::from_secs(120));
    // The clients exist and their connections are open from here on.
    fixture.fixture.seen().await;
    fixture.front.set_latency(LATENCY);

    let from = fixture.front.elapsed();
    let mut observation = fixture.look_with_failed_starts(&task_definition);
    observation.alarms = (0..150).map(|number| format!("alarm-{number}")).collect();
    let seen = fixture.fixture.cloud.observe(&observation).await;
    assert!(known(&seen.green).steady, "{:?}", seen.green);
    assert_eq!(known(&seen.alarms).len(), 150);
    assert_eq!(fixture.sequential_calls_since(from).len(), 1, "{}", fixture.front.log());
    assert_eq!(fixture.calls("ecs", "ListTasks"), 0, "a healthy side costs no search");
    assert_eq!(fixture.calls("cloudwatch", "DescribeAlarms"), 2, "a hundred names a call");

    let from = fixture.front.elapsed();
    assert_eq!(fixture.perform(&Effect::SetWeights { weights: SHIFTED, seen: vec![] }).await, Outcome::Done);
    assert_eq!(fixture.sequential_calls_since(from).len(), 1, "{}", fixture.front.log());

    let reads = fixture.calls("elbv2", "DescribeRules");
    assert_eq!(
        fixture.perform(&Effect::SetWeights { weights: Weights { blue: 50, green: 50 }, seen: vec![] }).await,
        Outcome::Done
    );
    assert_eq!(
        fixture.calls("elbv2", "DescribeRules"),
        reads + 1,
        "what was written is read before it is written again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deregistered_revision_is_registered_again() {
    let fixture = fixture().await;
    let task_definition = fixture.deploy_to_green(ImageBehaviour::default(), 1).await;
    fixture.front.skip(Duration::from_secs(60));
    fixture.front.world().deregister_task_definition(&task_definition).expect("it is there");
    assert_eq!(fixture.perform(&Effect::SetDesired { slot: Slot::Green, desired: 2 }).await, Outcome::Done);
    let name = Effect::SetVersion { slot: Slot::Green, version: task_definition.clone(), desired: 3 };
    let named = fixture.perform(&name).await;
    assert!(matches!(&named, Outcome::Refused { reason } if reason.contains("inactive")), "{named:?}");
    let anew = Effect::RegisterVersion {
        template: task_definition.clone(),
        image: "registry.example.com/shop/api@sha256:new".to_owned(),
        family: None,
    };
    let Outcome::Registered { version: made, reused: false } = fixture.perform(&anew).await else {
        panic!("a revision that is retired is no use")
    };
    assert_ne!(made, task_definition);
    assert!(matches!(fixture.perform(&anew).await, Outcome::Registered { reused: true, .. }), "made once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_unknown_to_the_sdk_survives_the_copy() {
    let fixture = fixture().await;
    let template = fixture.fixture.register_template("tomorrow", |document| {
        document["containerDefinitions"][0]["aFieldOfTomorrow"] = json!(7);
    });
    let image = "registry.example.com/shop/api@sha256:new".to_owned();
    for family in [None, Some("tomorrow-switchback")] {
        let effect = Effect::RegisterVersion {
            template: template.clone(),
            image: image.clone(),
            family: family.map(str::to_owned),
        };
        let outcome = fixture.perform(&effect).await;
        let Outcome::Registered { version: task_definition, reused: false } = outcome else { panic!("{outcome:?}") };
        let copied = fixture.fixture.ecs("DescribeTaskDefinition", &json!({"taskDefinition": task_definition}));
        assert_eq!(copied["taskDefinition"]["family"], json!(family.unwrap_or("tomorrow")));
        assert_eq!(copied["taskDefinition"]["containerDefinitions"][0]["aFieldOfTomorrow"], json!(7));
        assert_eq!(copied["taskDefinition"]["containerDefinitions"][0]["image"], json!(image));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oidc_action_keeps_its_client_secret() {
    let fixture = fixture().await;
    assert_eq!(fixture.perform(&Effect::SetWeights { weights: SHIFTED, seen: vec![] }).await, Outcome::Done);
    let log = fixture.front.log();
    let call = log.of("elbv2", "ModifyRule").next().expect("a write");
    let config = call.parameter("/Actions/0/AuthenticateOidcConfig").expect("a sign-in");
    assert_eq!(config["UseExistingClientSecret"], "true", "{config}");
    assert!(config.get("ClientSecret").is_none(), "{config}");
    let forward = call.parameter("/Actions/1").expect("a forward action");
    assert!(forward.get("TargetGroupArn").is_none(), "{forward}");
}
