//! Releases that cannot be switched back by themselves: trouble freezes them, and a person decides.

use crate::street::{HOUR, Plan, Street, carol, name, target};
use rollout::journal::Fact;
use rollout::policy::{Hook, HookAction, HookPoint};
use rollout::stage::{Cause, Verdict};
use rollout::{Instruction, Reading, Seconds, TargetId, Terms};
use simulation::virtual_time::Started;
use simulation::world::{FunctionBehaviour, Health, ImageBehaviour, Run};

fn dev() -> TargetId {
    target("shop/api/dev")
}

fn frozen(fact: &Fact) -> bool {
    matches!(fact, Fact::Frozen { .. })
}

/// v1 is bad, and cannot be switched back: frozen at 10 %.
fn street() -> Street {
    let mut street = Plan::of(&["api/dev"]).build();
    street.set_image(1, ImageBehaviour::failing(0.5));
    street.simulation.push_of(&name("api"), 1, Started::Silent);
    street.deploy(&dev(), 1, Terms { forward_only: true, ..Terms::default() });
    street.until(HOUR, "it is frozen", |street| street.has(&dev(), frozen));
    street
}

#[test]
fn trouble_freezes_it_where_it_is_with_what_was_seen() {
    let mut street = street();
    street.simulation.run_for(2 * HOUR);
    assert_eq!(street.weights(&dev()), (90, 10), "{}", street.stories());
    assert_eq!(street.verdicts(&dev()), [], "{}", street.stories());
    assert_eq!(street.count(&dev(), frozen), 1, "told once{}", street.stories());
    let entry = street.journal(&dev()).into_iter().find(|entry| frozen(&entry.fact)).expect("it is there");
    let Fact::Frozen { cause, evidence } = entry.fact else { unreachable!() };
    let Cause::Alarm { name, .. } = &cause else { panic!("{cause:?}") };
    let Reading::Known(alarms) = &evidence.alarms else { panic!("{evidence:?}") };
    assert!(alarms.contains_key(name), "the alarm is in evidence: {evidence:?}");
    assert!(!street.has(&dev(), |fact| matches!(fact, Fact::RollbackStarted { .. })), "{}", street.stories());
}

#[test]
fn a_person_turns_it_back() {
    let mut street = street();
    street.ask(&dev(), Instruction::Rollback, carol(), "the migration is undone");
    street.ends(&dev(), HOUR, &[Verdict::RolledBack]);
    assert_eq!(street.weights(&dev()), (100, 0));
    assert_eq!(street.state(&dev()).frozen, None);
    street.rests(HOUR);
}

#[test]
fn a_person_lets_it_go_on_despite_the_alarm() {
    let mut street = street();
    street.simulation.run_for(600);
    // The alarm still fires when it is resumed, and is put right a moment later.
    street.ask(&dev(), Instruction::Resume, carol(), "the fix is in the database");
    street.simulation.run_for(15);
    street.set_image(1, ImageBehaviour::default());
    street.ends(&dev(), HOUR, &[Verdict::Succeeded]);
    assert!(street.has(&dev(), |fact| matches!(fact, Fact::Unfrozen { .. })), "{}", street.stories());
    assert_eq!(street.count(&dev(), frozen), 1, "{}", street.stories());
    street.rests(HOUR);
}

#[test]
fn trouble_that_comes_again_freezes_it_again() {
    let mut street = street();
    street.set_image(1, ImageBehaviour::default());
    // Until its alarm has been OK nobody could tell new trouble from old.
    street.simulation.run_for(60);
    street.ask(&dev(), Instruction::Resume, carol(), "the fix is in the database");
    street.until(HOUR, "it widens", |street| street.weights(&dev()) == (50, 50));
    street.set_image(1, ImageBehaviour::failing(0.5));
    street.until(120, "it is frozen again", |street| street.count(&dev(), frozen) == 2);
    assert_eq!(street.weights(&dev()), (50, 50), "{}", street.stories());
    street.ask(&dev(), Instruction::Abort { deployment: None }, carol(), "we fix it forward");
    street.until(HOUR, "it is over", |street| street.state(&dev()).running.is_none());
    assert_eq!(street.weights(&dev()), (50, 50), "abort leaves everything as it is{}", street.stories());
    street.rests(HOUR);
}

#[test]
fn nobody_decides_and_the_target_stays_frozen_until_somebody_does() {
    let mut street = street();
    street.until(25 * HOUR, "it lets go", |street| street.state(&dev()).running.is_none());
    let began = street.when(&dev(), frozen);
    let over = street.when(&dev(), |fact| matches!(fact, Fact::Ended { .. }));
    assert!(Seconds::between(began, over).0 >= 24 * HOUR, "{}", street.stories());
    assert_eq!(street.weights(&dev()), (90, 10), "nothing was touched{}", street.stories());
    let freeze = street.state(&dev()).frozen.expect("the target is frozen");
    assert_eq!(freeze.deployment, 1);
    street.rests(HOUR);

    // The next release, which mends it, waits for a person.
    street.set_image(1, ImageBehaviour::default());
    street.push("api", 2);
    street.until(120, "it waits", |street| street.waits_at(&dev()).contains(&"freeze".to_owned()));
    street.simulation.run_for(HOUR);
    assert_eq!(street.simulation.at(&dev()).stage_name(), Some("gated"), "{}", street.stories());
    street.ask(&dev(), Instruction::Resume, carol(), "v2 mends it");
    street.until(60, "it begins", |street| street.simulation.at(&dev()).stage_name() != Some("gated"));
    assert_eq!(street.state(&dev()).frozen, None);
}

#[test]
fn a_migration_that_has_begun_makes_it_forward_only() {
    let mut street = Plan::of(&["api/dev"])
        .policy(|policy| {
            let rules = crate::street::environment_of(policy, "dev");
            rules.targets.get_mut(&name("api")).expect("a target").hooks = vec![Hook {
                name: name("migrate"),
                at: HookPoint::BeforeTraffic,
                run: HookAction::Task { container: "app".to_owned(), command: vec!["migrate".to_owned()] },
                deadline: Seconds(120),
                forward_only: true,
            }];
        })
        .build();
    street.set_image(1, ImageBehaviour::failing(0.5));
    street.push("api", 1);
    street.until(HOUR, "it is frozen", |street| street.has(&dev(), frozen));
    street.simulation.run_for(600);
    assert_eq!(street.weights(&dev()), (90, 10), "{}", street.stories());
    street.ask(&dev(), Instruction::Rollback, carol(), "the old code can read it");
    street.ends(&dev(), HOUR, &[Verdict::RolledBack]);
}

#[test]
fn before_any_traffic_has_moved_it_just_ends() {
    let mut street = Plan::of(&["api/dev"]).build();
    street.set_image(1, ImageBehaviour::never_healthy());
    street.simulation.push_of(&name("api"), 1, Started::Silent);
    street.deploy(&dev(), 1, Terms { forward_only: true, ..Terms::default() });
    street.ends(&dev(), HOUR, &[Verdict::Failed]);
    assert!(!street.has(&dev(), frozen), "{}", street.stories());
    assert_eq!(street.weights(&dev()), (100, 0));
    street.rests(HOUR);
    // A hook of it that fails before anything moved, too.
    let fails = Run::Exits { after: Seconds(5), exit_code: 1 };
    street.set_image(2, ImageBehaviour::running(fails));
    street.apply(|policy| {
        let rules = crate::street::environment_of(policy, "dev");
        rules.targets.get_mut(&name("api")).expect("a target").hooks = vec![Hook {
            name: name("migrate"),
            at: HookPoint::BeforeTraffic,
            run: HookAction::Task { container: "app".to_owned(), command: vec![] },
            deadline: Seconds(120),
            forward_only: true,
        }];
    });
    street.push("api", 2);
    street.ends(&dev(), HOUR, &[Verdict::Failed, Verdict::Failed]);
    assert!(!street.has(&dev(), frozen), "{}", street.stories());
    street.rests(HOUR);
}

/// Trouble of every kind is frozen, and when it is over and somebody says so, the deployment goes through.
#[test]
fn whatever_froze_it_it_goes_on_when_that_is_over() {
    let announce = |policy: &mut rollout::policy::Policy| {
        let rules = crate::street::environment_of(policy, "dev");
        rules.targets.get_mut(&name("api")).expect("a target").hooks = vec![Hook {
            name: name("announce"),
            at: HookPoint::AfterTraffic,
            run: HookAction::Lambda { function: "announce".to_owned() },
            deadline: Seconds(60),
            forward_only: false,
        }];
    };
    type Change = fn(&Street);
    let ill =
        |street: &Street| street.set_image(1, ImageBehaviour { health: Health::Never, ..ImageBehaviour::default() });
    let well = |street: &Street| street.set_image(1, ImageBehaviour::default());
    let deny = |street: &Street| street.simulation.world(|world| world.deny("elasticloadbalancing:ModifyRule", true));
    let allow = |street: &Street| street.simulation.world(|world| world.deny("elasticloadbalancing:ModifyRule", false));
    let no = |street: &Street| {
        street.simulation.world(|world| world.put_function("announce", FunctionBehaviour::fails("the cart is empty")));
    };
    let yes = |street: &Street| {
        street.simulation.world(|world| world.put_function("announce", FunctionBehaviour::succeeds()));
    };
    let troubles: [(&str, Change, Change); 3] =
        [("no healthy target", ill, well), ("denied", deny, allow), ("a hook says no", no, yes)];
    for (what, begins, ends) in troubles {
        let mut street = Plan::of(&["api/dev"]).policy(announce).build();
        yes(&street);
        street.simulation.push_of(&name("api"), 1, Started::Silent);
        street.deploy(&dev(), 1, Terms { forward_only: true, ..Terms::default() });
        street.until(HOUR, "traffic moves", |street| street.weights(&dev()) == (90, 10));
        begins(&street);
        street.until(2 * HOUR, what, |street| street.has(&dev(), frozen));
        let there = street.weights(&dev());
        assert_ne!(there, (100, 0), "{what}{}", street.stories());
        street.simulation.run_for(HOUR);
        assert_eq!(street.weights(&dev()), there, "{what}: it moved{}", street.stories());
        ends(&street);
        street.simulation.run_for(120);
        street.ask(&dev(), Instruction::Resume, carol(), "it is put right");
        street.ends(&dev(), HOUR, &[Verdict::Succeeded]);
        assert_eq!(street.count(&dev(), frozen), 1, "{what}{}", street.stories());
        street.rests(HOUR);
    }
}
