//! An automatic promotion whose passes are killed at any call, and one in a world where everything fails now and then:
//! nothing is lost, and nothing is brought twice.

use crate::street::{HOUR, Plan, Street, carol, name, target};
use rollout::journal::Fact;
use rollout::stage::Verdict;
use rollout::{Instruction, Seconds, TargetId, Terms, Train};
use simulation::virtual_time::{CrashAt, Faults, Moment};
use simulation::world::{Dice, ImageBehaviour, Settings, scene};

fn targets() -> [TargetId; 2] {
    [target("shop/api/dev"), target("shop/api/prod")]
}

fn street(seed: u64, soak: u64, faults: Faults) -> Street {
    let plan = small(Plan::of(&["api/dev", "api/prod"]).promoted("prod", "dev", soak));
    let mut street = plan.build_with(Settings { seed, log_calls: false, ..Settings::default() }, faults);
    street.push("api", 1);
    street
}

/// What must be true of both targets once everything has come to rest.
fn in_order(street: &Street, verdicts: [&[Verdict]; 2]) -> Result<(), String> {
    for (target, expected) in targets().iter().zip(verdicts) {
        let state = street.state(target);
        if state.running.is_some() || !state.queued.is_empty() || !state.errands.is_empty() {
            return Err(format!("something still runs, waits or is untold on {target}"));
        }
        for (index, entry) in street.journal(target).iter().enumerate() {
            if entry.sequence != index as u64 + 1 {
                return Err(format!("{target}'s journal has a gap before entry {}", entry.sequence));
            }
        }
        if street.verdicts(target) != expected {
            return Err(format!("{target} has {:?} where {expected:?} was expected", street.verdicts(target)));
        }
        let told = street.count(target, |fact| matches!(fact, Fact::Started { .. }));
        if told != expected.len() || state.last_deployment != expected.len() as u64 {
            return Err(format!("{target} began {told} times"));
        }
        let live = if expected == [Verdict::Succeeded] { (0, 100) } else { (100, 0) };
        if street.weights(target) != live {
            return Err(format!("{target} has the weights {:?}", street.weights(target)));
        }
        let verified = street.count(target, |fact| matches!(fact, Fact::Verified { .. }));
        let wanted = usize::from(expected == [Verdict::Succeeded]);
        if verified != wanted || state.verified.len() != wanted {
            return Err(format!("{target} was verified {verified} times, and remembers {:?}", state.verified));
        }
    }
    let lost = street.lost();
    if lost > 0.0 { Err(format!("{lost} requests were lost")) } else { Ok(()) }
}

#[track_caller]
fn comes_into_order(street: &mut Street, hours: u64, verdicts: [&[Verdict]; 2], what: &str) {
    let [dev, _] = targets();
    street.simulation.run_until_that(hours * HOUR, |simulation| simulation.at(&dev).state().is_some());
    let rested = street.simulation.run_until_rest(hours * HOUR);
    street.simulation.run_for(300);
    assert!(rested, "{what}: it does not come to rest{}", street.stories());
    if let Err(reason) = in_order(street, verdicts) {
        panic!("{what}: {reason}{}", street.stories());
    }
}

fn at_every_call(behaviour_in_prod: &ImageBehaviour, verdicts: [&[Verdict]; 2]) {
    let run = |faults: Faults, what: &str| {
        // Good where it is verified, and this in prod: a crash may keep dev busy for minutes after its bake.
        let good = *behaviour_in_prod == ImageBehaviour::default();
        let mut street = street(1, if good { 45 } else { 900 }, faults);
        let [dev, _] = targets();
        if !good {
            street.until(3 * HOUR, what, |street| street.verdicts(&dev) == [Verdict::Succeeded]);
            street.set_image(1, behaviour_in_prod.clone());
        }
        comes_into_order(&mut street, 3, verdicts, what);
        street.simulation.calls()
    };
    let calls = run(Faults::default(), "without faults");
    assert!(calls > 150, "a promotion of {calls} calls proves little");
    for call in 0..calls {
        for moment in [Moment::Before, Moment::After] {
            let crash_at = Some(CrashAt { call, moment });
            run(Faults { crash_at, ..Faults::default() }, &format!("crash at call {call} of {calls}, {moment:?}"));
        }
    }
}

#[test]
fn an_automatic_promotion_survives_a_crash_at_every_call() {
    at_every_call(&ImageBehaviour::default(), [&[Verdict::Succeeded], &[Verdict::Succeeded]]);
}

#[test]
fn a_promotion_that_is_switched_back_survives_a_crash_at_every_call() {
    at_every_call(&ImageBehaviour::failing(0.6), [&[Verdict::Succeeded], &[Verdict::RolledBack]]);
}

/// A train of two services whose second one is bad: the first goes back with it, whatever call a pass is killed at.
#[test]
fn a_train_goes_back_as_a_whole_despite_a_crash_at_every_call() {
    let run = |faults: Faults, what: &str| {
        let mut street = bad_train(faults);
        let [api, web] = [target("shop/api/prod"), target("shop/web/prod")];
        let back = |street: &Street| {
            let stable =
                |target| street.stable(target).as_deref() == Some("v1") && street.state(target).running.is_none();
            street.verdicts(&web).len() == 2 && stable(&api) && stable(&web)
        };
        street.until(3 * HOUR, what, back);
        assert!(street.simulation.run_until_rest(3 * HOUR), "{what}: no rest{}", street.stories());
        assert!(back(&street), "{what}{}", street.stories());
        let begun = |target| street.count(target, |fact| matches!(fact, Fact::Started { .. }));
        // Back out of the warm state, or by a rollback of its own where it was over already: never twice.
        let of_api = street.verdicts(&api);
        let warm = [Verdict::Succeeded, Verdict::RolledBack];
        let cold = [Verdict::Succeeded; 3];
        assert!(of_api == warm || of_api == cold, "{what}: {of_api:?}{}", street.stories());
        assert_eq!((begun(&api), begun(&web)), (of_api.len(), 2), "{what}{}", street.stories());
        assert_eq!(street.verdicts(&web), [Verdict::Succeeded, Verdict::RolledBack], "{what}{}", street.stories());
        for target in [&api, &web] {
            let (state, lost) = (street.state(target), street.lost());
            assert!(state.errands.is_empty() && lost == 0.0, "{what}: {lost} {state:?}{}", street.stories());
        }
        street.simulation.calls()
    };
    let calls = run(Faults::default(), "without faults");
    let before = bad_train_begins();
    // Every third one: what lies between is the same calls of the other target.
    for call in (before..calls).step_by(3) {
        for moment in [Moment::Before, Moment::After] {
            let crash_at = Some(CrashAt { call, moment });
            run(Faults { crash_at, ..Faults::default() }, &format!("crash at call {call} of {calls}, {moment:?}"));
        }
    }
}

fn small(plan: Plan) -> Plan {
    plan.scenes(|scene| {
        scene.tasks = 2;
        scene.strategy.steps.remove(1);
        for step in &mut scene.strategy.steps {
            step.hold = Seconds(step.hold.0.min(10));
        }
        scene.strategy.keep_warm = Seconds(10);
    })
}

/// v1 of both is stable.
fn two_services(faults: Faults) -> Street {
    let mut street = small(Plan::of(&["api/prod", "web/prod"]))
        .policy(|policy| {
            policy.services.get_mut(&name("web")).expect("a service").depends_on = vec![name("api")];
        })
        .build_with(Settings { log_calls: false, ..Settings::default() }, faults);
    for service in ["api", "web"] {
        street.push(service, 1);
        street.ends(&target(&format!("shop/{service}/prod")), 3 * HOUR, &[Verdict::Succeeded]);
    }
    assert!(street.simulation.run_until_rest(3 * HOUR));
    street
}

/// Calls before the train is asked for.
fn bad_train_begins() -> u64 {
    two_services(Faults::default()).simulation.calls()
}

/// The train of api v101 and web v201, which is bad.
fn bad_train(faults: Faults) -> Street {
    let mut street = two_services(faults);
    street.set_image(201, ImageBehaviour::failing(0.6));
    let members = [("api", 101), ("web", 201)];
    let train = Train {
        id: "train-1".to_owned(),
        members: members.into_iter().map(|(service, number)| (name(service), scene::digest_of(number))).collect(),
        together: true,
    };
    for (service, number) in members {
        let terms = Terms { train: Some(train.clone()), ..Terms::default() };
        street.deploy(&target(&format!("shop/{service}/prod")), number, terms);
    }
    street
}

/// How many worlds are tried; `SIMULATION_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("SIMULATION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// Faults of all kinds by chance, until well into the second deployment.
#[test]
fn whatever_goes_wrong_by_chance_a_release_is_promoted_once_or_not_at_all() {
    for seed in 0..seeds() {
        let mut dice = Dice::new(seed);
        let rate = 0.02 + 0.08 * dice.unit();
        let faults = Faults {
            seed,
            lost_answer: rate,
            unavailable: rate,
            throttled: rate,
            delayed: rate,
            crash: rate / 2.0,
            doubled_wake: rate,
            lost_wake: rate,
            until: Some(Seconds(HOUR).after(Settings::default().start)),
            crash_at: None,
        };
        let mut street = street(seed, 45, faults);
        let [dev, prod] = targets();
        let what = format!("seed {seed}, rate {rate:.3}");
        street.simulation.run_until_that(2 * HOUR, |simulation| simulation.at(&dev).state().is_some());
        assert!(street.simulation.run_until_rest(6 * HOUR), "{what}: it does not come to rest{}", street.stories());
        street.simulation.run_for(300);
        // What goes wrong may outlast a deadline: then a good release goes back, and goes no further.
        let first = street.verdicts(&dev);
        let second = street.verdicts(&prod);
        let may: [&[Verdict]; 3] = [&[Verdict::Succeeded], &[Verdict::RolledBack], &[Verdict::Failed]];
        assert!(may.contains(&first.as_slice()), "{what}: {first:?}{}", street.stories());
        let promoted = first == [Verdict::Succeeded];
        let fits =
            if promoted { may.contains(&second.as_slice()) } else { second.is_empty() || second == [Verdict::Failed] };
        assert!(fits, "{what}: {first:?}, then {second:?}{}", street.stories());
        if let Err(reason) = in_order(&street, [&first, &second]) {
            panic!("{what}: {reason}{}", street.stories());
        }
    }
}

fn baked(unreadable_from: &str) -> Street {
    let [dev, _] = targets();
    let mut street = street(1, 0, Faults::default());
    let reached = |street: &Street| {
        street.has(&dev, |fact| matches!(fact, Fact::StageEntered { stage, .. } if stage == unreadable_from))
    };
    street.until(HOUR, unreadable_from, reached);
    street.simulation.set_policies_readable(false);
    street.until(HOUR, "dev verifies it", |street| street.has(&dev, |fact| matches!(fact, Fact::Verified { .. })));
    street
}

#[test]
fn what_cannot_be_told_to_the_next_environment_is_told_once_it_can() {
    let [dev, prod] = targets();
    let mut street = baked("baking");
    street.simulation.run_for(120);
    assert_eq!(street.state(&dev).errands.len(), 1, "it is still to be told{}", street.stories());
    assert_eq!(street.state(&prod).last_deployment, 0, "prod has not heard of it{}", street.stories());

    street.simulation.set_policies_readable(true);
    comes_into_order(&mut street, 2, [&[Verdict::Succeeded], &[Verdict::Succeeded]], "policies can be read again");
}

#[test]
fn a_way_back_does_not_wait_for_what_other_targets_cannot_be_told() {
    let [dev, prod] = targets();
    let mut street = baked("baking");
    let asked = street.simulation.now();
    street.ask(&dev, Instruction::Rollback, carol(), "the cart is empty");
    street.until(60, "its traffic is back", |street| street.weights(&dev) == (100, 0));
    street.ends(&dev, 600, &[Verdict::RolledBack]);
    let took = Seconds::between(asked, street.when(&dev, |fact| matches!(fact, Fact::Ended { .. })));
    assert!(took.0 < 120, "the way back took {took}{}", street.stories());

    street.simulation.set_policies_readable(true);
    street.rests(HOUR);
    assert_eq!(street.verdicts(&prod), [], "nothing that went back is promoted{}", street.stories());
}
