//! Hook tasks and hook functions.

use crate::fixture::known;
use crate::with_front::{FrontFixture, fixture};
use engine::Cloud as _;
use rollout::effect::HookPayload;
use rollout::observation::HookTask;
use rollout::snapshot::TaskReading;
use rollout::{Effect, HookReport, Outcome, Reading, Seconds, Slot};
use serde_json::json;
use simulation::world::ecs::UpdateService;
use simulation::world::{FunctionBehaviour, ImageBehaviour, RunTaskBehaviour, StartBehaviour};
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) fn start_task() -> Effect {
    Effect::StartTask {
        hook: "migrate".to_owned(),
        run: "shop-api-7-migrate".to_owned(),
        version: "api".to_owned(),
        container: "api".to_owned(),
        command: vec!["migrate".to_owned()],
        template: Some(Slot::Blue),
    }
}

/// A task definition that leaves a volume to the launch, and what the service says of it.
fn with_a_volume(fixture: &FrontFixture) -> (String, serde_json::Value) {
    let volume = json!({
        "name": "data",
        "managedEBSVolume": {
            "roleArn": "arn:aws:iam::111122223333:role/volumes", "sizeInGiB": 20, "volumeType": "gp3", "encrypted": true,
            "filesystemType": "ext4",
            "tagSpecifications": [{"resourceType": "volume", "tags": [{"key": "team", "value": "shop"}]}],
        },
    });
    let mut world = fixture.front.world();
    let mut document = world.describe_task_definition(&fixture.fixture.task_definition).expect("it is there").document;
    document["volumes"] = json!([{"name": "data", "configuredAtLaunch": true}]);
    let definition = world.register_task_definition(document).expect("it is sound").arn;
    let update = |volumes| UpdateService {
        cluster: "shop".to_owned(),
        service: "api-blue".to_owned(),
        task_definition: Some(definition.clone()),
        volume_configurations: volumes,
        ..UpdateService::default()
    };
    assert!(world.update_service(update(None)).is_err(), "a service needs it, too");
    world.update_service(update(Some(json!([volume])))).expect("it is complete");
    (definition, volume)
}

/// ECS developer guide, "Specify Amazon EBS volume configuration at Amazon ECS deployment": `RunTask` needs its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_hook_task_inherits_its_services_volumes() {
    let fixture = fixture().await;
    let (definition, volume) = with_a_volume(&fixture);
    let Effect::StartTask { hook, run, container, command, .. } = start_task() else { unreachable!() };
    let start = |template: Slot| Effect::StartTask {
        hook: hook.clone(),
        run: format!("{run}-{template}"),
        version: definition.clone(),
        container: container.clone(),
        command: command.clone(),
        template: Some(template),
    };
    let started = fixture.perform(&start(Slot::Blue)).await;
    assert!(matches!(started, Outcome::TaskStarted { .. }), "{started:?}");
    let log = fixture.front.log();
    let call = log.of("ecs", "RunTask").last().expect("it is logged");
    assert_eq!(call.parameters["volumeConfigurations"], json!([volume]));
    let without = fixture.perform(&start(Slot::Green)).await;
    assert!(matches!(&without, Outcome::Refused { reason } if reason.contains("data")), "{without:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_task_runs_once_and_reports_its_exit_code() {
    let fixture = fixture().await;
    let run = RunTaskBehaviour::Exits { after: Seconds(5), exit_code: 4 };
    fixture.front.world().set_image("registry.example.com/shop/api@sha256:old", ImageBehaviour::running(run));
    let outcomes = fixture.fixture.perform_twice(&start_task()).await;
    let [Outcome::TaskStarted { task }, again] = outcomes else { panic!("{outcomes:?}") };
    assert_eq!(again, Outcome::TaskStarted { task: task.clone() });

    let hook_task = |task: &str| HookTask { task: task.to_owned(), container: "api".to_owned() };
    let mut observation = fixture.fixture.observation();
    let forgotten = format!("{}0", task.split_at(task.len() - 1).0);
    observation.hook_tasks =
        BTreeMap::from([("migrate".to_owned(), hook_task(&task)), ("forgotten".to_owned(), hook_task(&forgotten))]);
    let seen = fixture.fixture.cloud.observe(&observation).await;
    assert_eq!(seen.hook_tasks["migrate"], Reading::Known(TaskReading::Running));
    let missing = &seen.hook_tasks["forgotten"];
    assert!(matches!(missing, Reading::Unknown(reason) if reason.contains("MISSING")), "{missing:?}");
    assert_eq!(fixture.calls("ecs", "DescribeTasks"), 1);

    fixture.front.skip(Duration::from_secs(30));
    let seen = fixture.fixture.cloud.observe(&observation).await;
    let TaskReading::Stopped { exit_code, reason } = known(&seen.hook_tasks["migrate"]) else {
        panic!("{:?}", seen.hook_tasks)
    };
    assert_eq!(*exit_code, Some(4));
    assert!(reason.contains("exit code 4"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_task_that_cannot_be_placed_is_retried() {
    let fixture = fixture().await;
    let image = "registry.example.com/shop/api@sha256:old";
    fixture.front.world().set_image(image, ImageBehaviour::starting(StartBehaviour::PlacementFailure));
    let outcome = fixture.perform(&start_task()).await;
    assert!(matches!(&outcome, Outcome::Unsure { reason } if reason.contains("no task was started")), "{outcome:?}");
}

fn ask_hook(function: &str) -> Effect {
    let payload = HookPayload {
        target: "shop/api/live".to_owned(),
        deployment: 7,
        hook: "smoke".to_owned(),
        run: "shop-api-7-smoke".to_owned(),
        digest: "sha256:new".to_owned(),
        tag: "v7".to_owned(),
        candidate_target_groups: vec!["green".to_owned()],
    };
    Effect::InvokeHook { hook: "smoke".to_owned(), function: function.to_owned(), run: payload.run.clone(), payload }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_functions_answer_is_reported() {
    let fixture = fixture().await;
    {
        let mut world = fixture.front.world();
        world.put_function("yes", FunctionBehaviour::succeeds());
        world.put_function("no", FunctionBehaviour::fails("2 of 40 checks failed"));
        world.put_function("later", FunctionBehaviour::never_done());
        world.put_function("throws", FunctionBehaviour::Throws);
        world.put_function("mute", FunctionBehaviour::Reports { in_progress: 0, then: json!("ok") });
    }
    let report = |report| Outcome::HookReported { report };
    assert_eq!(fixture.perform(&ask_hook("yes")).await, report(HookReport::Succeeded));
    let reason = "2 of 40 checks failed".to_owned();
    assert_eq!(fixture.perform(&ask_hook("no")).await, report(HookReport::Failed { reason }));
    assert_eq!(fixture.perform(&ask_hook("later")).await, report(HookReport::InProgress));

    let thrown = fixture.perform(&ask_hook("throws")).await;
    assert!(matches!(&thrown, Outcome::Unsure { reason } if reason.contains("the function threw")), "{thrown:?}");
    let mute = fixture.perform(&ask_hook("mute")).await;
    let Outcome::HookReported { report: HookReport::Failed { reason } } = &mute else { panic!("{mute:?}") };
    assert!(reason.contains("should answer {\"status\""), "{reason}");
    let nobody = fixture.perform(&ask_hook("nobody")).await;
    assert!(matches!(&nobody, Outcome::Refused { reason } if reason.contains("Function not found")), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_hook_function_times_out_without_a_retry() {
    let fixture = fixture().await;
    fixture.front.world().put_function("silent", FunctionBehaviour::Silent);
    let outcome = fixture.perform(&ask_hook("silent")).await;
    assert_eq!(outcome, Outcome::Unsure { reason: "silent did not answer within 20 s".to_owned() });
    assert_eq!(fixture.calls("lambda", "Invoke"), 1);
}
