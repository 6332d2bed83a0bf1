//! What happens too seldom in random days: windows, gates opened by hand, trains, refusals of AWS, images that are archived,
//! a release that is superseded while its traffic shifts.

use crate::pipeline::{HOUR, Pipeline, PipelineBuilder, carol, environment_of, name, target};
use engine::recorder::RecordingLevel;
use rollout::entry::Window;
use rollout::journal::Fact;
use rollout::policy::Concurrency;
use rollout::{DeployOptions, Gate, Instruction, Overrides, Seconds, TargetId, Train};
use simulation::virtual_time::PushAnnouncement;
use simulation::world::{ImageBehaviour, scene};

fn dev() -> TargetId {
    target("shop/api/dev")
}

fn recorded(plan: PipelineBuilder) -> Pipeline {
    let mut pipeline = plan.build();
    pipeline.simulation.record(RecordingLevel::All);
    pipeline
}

/// Outside of its windows it waits, and somebody opens the gate; somebody else is refused at a door.
fn opened_by_hand() -> Pipeline {
    let mut pipeline = recorded(PipelineBuilder::of(&["api/dev"]).policy(|policy| {
        let rules = environment_of(policy, "dev");
        rules.entry.time_zone = Some("Europe/Berlin".to_owned());
        // The world begins on a Thursday.
        rules.entry.windows = vec![Window { days: [1].into(), from_minute: 9 * 60, until_minute: 12 * 60 }];
    }));
    pipeline.push("api", 1);
    pipeline.simulation.run_for(120);
    pipeline.ask(&dev(), Instruction::NoteRefusal { what: "override".to_owned() }, carol(), "not granted");
    let open = Instruction::Override { deployment: 1, gates: [Gate::Window].into() };
    pipeline.ask(&dev(), open.clone(), carol(), "");
    pipeline.ask(&dev(), open, carol(), "the fix that the audit wants");
    pipeline.wait_until_idle(HOUR);
    pipeline
}

/// The first member of a train goes back: the other one, which waits for it, ends. The second one goes back: so does the
/// first one, where the policy says so and its old side is still up (for `keep_warm` seconds).
fn train(rollback_together: bool, keep_warm: u64) -> Pipeline {
    let plan = PipelineBuilder::of(&["api/prod", "web/prod"]);
    let plan = plan.scenes(move |scene| scene.strategy.keep_warm = Seconds(keep_warm));
    let mut pipeline = recorded(plan.policy(move |policy| {
        policy.services.get_mut(&name("web")).expect("a service").depends_on = vec![name("api")];
        environment_of(policy, "prod").entry.rollback_train_together = rollback_together;
    }));
    for service in ["api", "web"] {
        pipeline.simulation.push_service(&name(service), 1, PushAnnouncement::Event);
    }
    pipeline.wait_until_idle(HOUR);
    for bad in [None, Some("api"), Some("web")] {
        let first = match bad {
            None => 101,
            Some("api") => 103,
            Some(_) => 105,
        };
        let members = [("api", first), ("web", first + 100)];
        for (service, number) in members {
            pipeline.simulation.push_service(&name(service), number, PushAnnouncement::Silent);
            if bad == Some(service) {
                pipeline.set_image(number, ImageBehaviour::failing(0.5));
            }
        }
        let train = Train {
            id: format!("train-{first}"),
            members: members.into_iter().map(|(service, number)| (name(service), scene::digest_of(number))).collect(),
            rollback_together,
            ..Train::default()
        };
        for (service, number) in members.into_iter().rev() {
            let options = DeployOptions { train: Some(Box::new(train.clone())), ..DeployOptions::default() };
            let deploy = pipeline.simulation.deploy_instruction(&name(service), number, Overrides::default(), options);
            pipeline.ask(&target(&format!("shop/{service}/prod")), deploy, carol(), "the new cart");
        }
        pipeline.wait_until_idle(2 * HOUR);
    }
    pipeline
}

/// A newer release arrives while the running one has a part of the traffic.
fn superseded() -> Pipeline {
    let cancel = PipelineBuilder::of(&["api/dev"]);
    let cancel = cancel.policy(|policy| environment_of(policy, "dev").concurrency = Concurrency::CancelRunning);
    let mut pipeline = recorded(cancel);
    pipeline.push("api", 1);
    pipeline.wait_until_idle(HOUR);
    let split =
        |fact: &Fact| matches!(fact, Fact::WeightsVerified { weights } if weights.blue > 0 && weights.green > 0);
    let before = pipeline.count(&dev(), split);
    pipeline.push("api", 2);
    pipeline.until(HOUR, "v2 has a part of the traffic", |pipeline| pipeline.count(&dev(), split) > before);
    pipeline.push("api", 3);
    pipeline.wait_until_idle(HOUR);
    pipeline
}

/// AWS says no to what a deployment needs.
fn refused(operation: &str) -> Pipeline {
    let mut pipeline = recorded(PipelineBuilder::of(&["api/dev"]));
    pipeline.simulation.world(|world| world.deny(operation, true));
    pipeline.push("api", 1);
    pipeline.simulation.run_for(HOUR);
    pipeline.simulation.world(|world| world.deny(operation, false));
    pipeline.simulation.run_for(HOUR);
    pipeline.push("api", 2);
    pipeline.wait_until_idle(2 * HOUR);
    pipeline
}

/// An image is archived while it waits, and restored; another one is deleted.
fn archived() -> Pipeline {
    let mut pipeline =
        recorded(PipelineBuilder::of(&["api/dev", "api/prod"]).promoted("prod", "dev", 600).approved("prod"));
    let prod = target("shop/api/prod");
    pipeline.push("api", 1);
    pipeline.until(HOUR, "it waits", |pipeline| !pipeline.waiting_gates(&prod).is_empty());
    pipeline.simulation.archive_image(1, true);
    pipeline.simulation.run_for(HOUR);
    pipeline.simulation.archive_image(1, false);
    pipeline.wait_for_approval_request(&prod, 1, HOUR);
    pipeline.simulation.delete_image(1);
    pipeline.approve(&prod, "UADA");
    pipeline.approve(&prod, "UBOB");
    pipeline.until(HOUR, "it ends", |pipeline| pipeline.has(&prod, |fact| matches!(fact, Fact::Ended { .. })));
    pipeline.wait_until_idle(HOUR);
    pipeline
}

/// All of them, each as lines.
pub(super) fn all() -> Vec<(String, Vec<String>)> {
    let mut lives = vec![
        ("opened by hand".to_owned(), opened_by_hand()),
        ("archived".to_owned(), archived()),
        ("superseded".to_owned(), superseded()),
        ("train, back together".to_owned(), train(true, 1_200)),
    ];
    for rollback_together in [false, true] {
        lives.push((format!("train, together: {rollback_together}"), train(rollback_together, 60)));
    }
    for operation in ["ecs:UpdateService", "ecs:RegisterTaskDefinition", "elasticloadbalancing:ModifyRule"] {
        lives.push((format!("{operation} refused"), refused(operation)));
    }
    lives.into_iter().map(|(from, pipeline)| (from, pipeline.simulation.recorded())).collect()
}
