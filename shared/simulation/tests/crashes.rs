//! What may go wrong anywhere goes wrong everywhere, one call at a time and by chance, and it ends well all the same.

use rollout::journal::Fact;
use rollout::verdict::Verdict;
use rollout::{Seconds, Slot};
use simulation::virtual_time::{CallPhase, CrashAt, Faults, PushAnnouncement, Simulation};
use simulation::world::balancer::ActionKind;
use simulation::world::scaling::DescribeScalableTargets;
use simulation::world::{ImageBehaviour, PairSetup, SeededRng, Settings, StartBehaviour, scene};

const HOUR: u64 = 3600;

/// Short steps: what happens between them is what counts here.
fn short_setup() -> PairSetup {
    let mut scene = PairSetup::new("shop", "api", "dev");
    for step in &mut scene.strategy.steps {
        step.hold = Seconds(step.hold.0.min(20));
    }
    scene.strategy.bake = Seconds(30);
    scene.strategy.keep_warm = Seconds(20);
    scene.autoscaling = Some((2, 8));
    scene
}

fn simulation(seed: u64, behaviour: &ImageBehaviour, faults: Faults) -> Simulation {
    let built = short_setup().build(Settings { seed, log_calls: false, ..Settings::default() });
    let mut simulation = Simulation::new(built, faults);
    simulation.watch();
    let digest = scene::digest_of(1);
    simulation.world(|world| world.set_image(digest.as_str(), behaviour.clone()));
    simulation.push(1, PushAnnouncement::Event);
    simulation
}

/// What must be true of every world that has come to rest, whatever happened before. The error says what is not.
fn check_final_state(simulation: &Simulation) -> Result<(), String> {
    let names = simulation.names().clone();
    let state = simulation.state().ok_or("nothing is remembered")?;
    if state.running.is_some() || !state.queued.is_empty() {
        return Err("something still runs or waits".to_owned());
    }
    for (index, entry) in simulation.journal().iter().enumerate() {
        if entry.sequence != index as u64 + 1 {
            return Err(format!("the journal has a gap before entry {}", entry.sequence));
        }
    }
    let live = simulation.journal().into_iter().rev().find_map(|entry| match entry.fact {
        Fact::Ended { live, .. } => Some(live),
        _ => None,
    });
    let live = live.ok_or("no deployment ended")?;

    let weights = |rule: &String| {
        let rules = simulation.world(|world| world.describe_rules(None, std::slice::from_ref(rule)));
        let rules = rules.map_err(|error| error.to_string())?;
        let ActionKind::Forward(forward) = &rules[0].actions[0].what else { return Err("no forward".to_owned()) };
        Ok((forward.target_groups[0].weight.unwrap_or(0), forward.target_groups[1].weight.unwrap_or(0)))
    };
    let (blue, green) = weights(&names.rule)?;
    let carrying_side = if blue > 0 && green == 0 { Slot::Blue } else { Slot::Green };
    // Where the rule could not be read at the end, the journal says so and names no side.
    if live.is_some_and(|live| carrying_side != live) || (blue > 0) == (green > 0) {
        return Err(format!("the journal says that {live:?} is live; the weights are {blue}/{green}"));
    }
    let live = carrying_side;
    let both = [names.blue.clone(), names.green.clone()];
    let (services, _) =
        simulation.world(|world| world.describe_services(&names.cluster, &both)).map_err(|error| error.to_string())?;
    let counts = |slot: Slot| {
        let service = &services[if slot == Slot::Blue { 0 } else { 1 }];
        (service.desired_count, service.running_count, service.pending_count)
    };
    if counts(live) != (4, 4, 0) || counts(live.other()) != (0, 0, 0) {
        return Err(format!("{live} has {:?} tasks, {} has {:?}", counts(live), live.other(), counts(live.other())));
    }
    let limits = simulation.world(|world| {
        let all = DescribeScalableTargets { service_namespace: "ecs".to_owned(), ..Default::default() };
        world.describe_scalable_targets(all)
    });
    for target in limits.map_err(|error| error.to_string())? {
        if target.suspended_state.dynamic_scaling_in_suspended || target.max_capacity != 8 {
            return Err(format!("autoscaling was not given back: {target:?}"));
        }
    }
    let lost = simulation.world(|world| world.traffic().lost);
    if lost > 0.0 {
        return Err(format!("{lost} requests were lost"));
    }
    Ok(())
}

#[track_caller]
fn expect_verdict(simulation: &mut Simulation, hours: u64, verdict: &[Verdict], what: &str) {
    // A push whose event came to nothing is found by a sweep: until then nothing goes on.
    simulation.run_until_condition(hours * HOUR, |simulation| simulation.state().is_some());
    let became_idle = simulation.run_until_idle(hours * HOUR);
    // Tasks that drain are given the time to stop.
    simulation.run_for(300);
    simulation.check_when_idle();
    let journal_text = simulation.journal_text();
    if let Some(violation) = simulation.violation() {
        panic!("{what}: {violation}\n{journal_text}");
    }
    assert!(became_idle, "{what}: it does not come to rest: {:?}\n{journal_text}", simulation.state());
    if let Err(reason) = check_final_state(simulation) {
        panic!("{what}: {reason}\n{journal_text}");
    }
    let found: Vec<Verdict> = simulation.verdicts().into_iter().map(|(_, verdict, _)| verdict).collect();
    let expected = found.len() == 1 && verdict.contains(&found[0]);
    assert!(expected, "{what}: {found:?} where one of {verdict:?} was expected\n{journal_text}");
}

fn crash_at_every_call(behaviour: &ImageBehaviour, verdict: Verdict) {
    let mut without_faults = simulation(1, behaviour, Faults::default());
    expect_verdict(&mut without_faults, 2, &[verdict], "without faults");
    let calls = without_faults.calls();
    assert!(calls > 100, "a deployment of {calls} calls proves little");
    for call in 0..calls {
        for phase in [CallPhase::Before, CallPhase::After] {
            let crash_at = Some(CrashAt { call, phase });
            let mut simulation = simulation(1, behaviour, Faults { crash_at, ..Faults::default() });
            let what = format!("crash at call {call} of {calls}, {phase:?}");
            expect_verdict(&mut simulation, 3, &[verdict], &what);
        }
    }
}

#[test]
fn a_good_release_survives_a_crash_at_every_call() {
    crash_at_every_call(&ImageBehaviour::default(), Verdict::Succeeded);
}

#[test]
fn a_bad_release_rolls_back_despite_a_crash_at_every_call() {
    crash_at_every_call(&ImageBehaviour::failing(0.6), Verdict::RolledBack);
}

#[test]
fn a_crash_looping_release_fails_despite_a_crash_at_every_call() {
    let crash = ImageBehaviour::starting(StartBehaviour::CrashLoop { exit_code: 1, after: Seconds(3) });
    crash_at_every_call(&crash, Verdict::Failed);
}

/// How many worlds are tried; `SIMULATION_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("SIMULATION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

/// Faults of all kinds by chance, for half an hour; then the world behaves, and everything must come into order.
#[test]
fn deployments_end_in_order_under_random_faults() {
    for seed in 0..seeds() {
        let mut rng = SeededRng::new(seed);
        let (behaviour, verdicts): (_, &[Verdict]) = match seed % 3 {
            // What goes wrong may well outlast a deadline: then a good release is switched back, too.
            0 => (ImageBehaviour::default(), &[Verdict::Succeeded, Verdict::RolledBack, Verdict::Failed]),
            1 => (ImageBehaviour::failing(0.7), &[Verdict::RolledBack, Verdict::Failed]),
            _ => (ImageBehaviour::never_healthy(), &[Verdict::Failed]),
        };
        let rate = 0.02 + 0.1 * rng.unit();
        let started_at = Settings::default().start;
        let faults =
            Faults { until: Some(Seconds(HOUR / 2 + 600).after(started_at)), ..Faults::everywhere(seed, rate) };
        let mut simulation = simulation(seed, &behaviour, faults);
        expect_verdict(&mut simulation, 6, verdicts, &format!("seed {seed}, rate {rate:.3}"));
    }
}
