//! An automatic promotion whose passes are killed at any call, and one in a world where everything fails now and then:
//! nothing is lost, and nothing is brought twice.

use crate::street::{HOUR, Plan, Street, target};
use rollout::Seconds;
use rollout::TargetId;
use rollout::journal::Fact;
use rollout::stage::Verdict;
use simulation::virtual_time::{CrashAt, Faults, Moment};
use simulation::world::{Dice, ImageBehaviour, Settings};

fn targets() -> [TargetId; 2] {
    [target("shop/api/dev"), target("shop/api/prod")]
}

fn street(seed: u64, soak: u64, faults: Faults) -> Street {
    let plan = Plan::of(&["api/dev", "api/prod"]).promoted("prod", "dev", soak).scenes(|scene| {
        scene.tasks = 2;
        scene.strategy.steps.remove(1);
        for step in &mut scene.strategy.steps {
            step.hold = Seconds(step.hold.0.min(10));
        }
        scene.strategy.keep_warm = Seconds(10);
    });
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
