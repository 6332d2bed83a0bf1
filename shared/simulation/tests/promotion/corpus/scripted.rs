//! What happens too seldom in random days: windows, gates opened by hand, trains, refusals of AWS, images that are archived.

use crate::street::{HOUR, Plan, Street, carol, environment_of, name, target};
use engine::recorder::Wanted;
use rollout::entry::Window;
use rollout::journal::Fact;
use rollout::{Gate, Instruction, Overrides, TargetId, Terms, Train};
use simulation::virtual_time::Started;
use simulation::world::{ImageBehaviour, scene};

fn dev() -> TargetId {
    target("shop/api/dev")
}

fn recorded(plan: Plan) -> Street {
    let mut street = plan.build();
    street.simulation.record(Wanted::Everything);
    street
}

/// Outside of its windows it waits, and somebody opens the gate; somebody else is refused at a door.
fn opened_by_hand() -> Street {
    let mut street = recorded(Plan::of(&["api/dev"]).policy(|policy| {
        let rules = environment_of(policy, "dev");
        rules.entry.time_zone = Some("Europe/Berlin".to_owned());
        // The world begins on a Thursday.
        rules.entry.windows = vec![Window { days: [1].into(), from_minute: 9 * 60, until_minute: 12 * 60 }];
    }));
    street.push("api", 1);
    street.simulation.run_for(120);
    street.ask(&dev(), Instruction::NoteRefusal { what: "override".to_owned() }, carol(), "not granted");
    let open = Instruction::Override { deployment: 1, gates: [Gate::Window].into() };
    street.ask(&dev(), open.clone(), carol(), "");
    street.ask(&dev(), open, carol(), "the fix that the audit wants");
    street.rests(HOUR);
    street
}

/// The first member of a train goes back: the other one, which waits for it, ends.
fn train(together: bool) -> Street {
    let mut street = recorded(Plan::of(&["api/prod", "web/prod"]).policy(move |policy| {
        policy.services.get_mut(&name("web")).expect("a service").depends_on = vec![name("api")];
        environment_of(policy, "prod").entry.train_goes_back_together = together;
    }));
    for service in ["api", "web"] {
        street.simulation.push_of(&name(service), 1, Started::Event);
    }
    street.rests(HOUR);
    for bad in [None, Some("api"), Some("web")] {
        let first = match bad {
            None => 101,
            Some("api") => 103,
            Some(_) => 105,
        };
        let members = [("api", first), ("web", first + 100)];
        for (service, number) in members {
            street.simulation.push_of(&name(service), number, Started::Silent);
            if bad == Some(service) {
                street.set_image(number, ImageBehaviour::failing(0.5));
            }
        }
        let train = Train {
            id: format!("train-{first}"),
            members: members.into_iter().map(|(service, number)| (name(service), scene::digest_of(number))).collect(),
            together,
        };
        for (service, number) in members.into_iter().rev() {
            let terms = Terms { train: Some(train.clone()), ..Terms::default() };
            let deploy = street.simulation.deploy(&name(service), number, Overrides::default(), terms);
            street.ask(&target(&format!("shop/{service}/prod")), deploy, carol(), "the new cart");
        }
        street.rests(2 * HOUR);
    }
    street
}

/// AWS says no to what a deployment needs.
fn refused(operation: &str) -> Street {
    let mut street = recorded(Plan::of(&["api/dev"]));
    street.simulation.world(|world| world.deny(operation, true));
    street.push("api", 1);
    street.simulation.run_for(HOUR);
    street.simulation.world(|world| world.deny(operation, false));
    street.simulation.run_for(HOUR);
    street.push("api", 2);
    street.rests(2 * HOUR);
    street
}

/// An image is archived while it waits, and restored; another one is deleted.
fn archived() -> Street {
    let mut street = recorded(Plan::of(&["api/dev", "api/prod"]).promoted("prod", "dev", 600).approved("prod"));
    let prod = target("shop/api/prod");
    street.push("api", 1);
    street.until(HOUR, "it waits", |street| !street.waits_at(&prod).is_empty());
    street.simulation.archive_image(1, true);
    street.simulation.run_for(HOUR);
    street.simulation.archive_image(1, false);
    street.asks(&prod, 1, HOUR);
    street.simulation.delete_image(1);
    street.approve(&prod, "UADA");
    street.approve(&prod, "UBOB");
    street.until(HOUR, "it ends", |street| street.has(&prod, |fact| matches!(fact, Fact::Ended { .. })));
    street.rests(HOUR);
    street
}

/// All of them, each as lines.
pub(super) fn all() -> Vec<(String, Vec<String>)> {
    let mut lives = vec![("opened by hand".to_owned(), opened_by_hand()), ("archived".to_owned(), archived())];
    for together in [false, true] {
        lives.push((format!("train, together: {together}"), train(together)));
    }
    for operation in ["ecs:UpdateService", "ecs:RegisterTaskDefinition", "elasticloadbalancing:ModifyRule"] {
        lives.push((format!("{operation} refused"), refused(operation)));
    }
    lives.into_iter().map(|(from, street)| (from, street.simulation.recorded())).collect()
}
