//! An automatic promotion whose passes are killed at any call, and one in a world where everything fails now and then:
//! nothing is lost, and nothing is brought twice.

use crate::pipeline::{HOUR, Pipeline, PipelineBuilder, carol, name, target};
use rollout::journal::Fact;
use rollout::verdict::Verdict;
use rollout::{DeployOptions, Instruction, Seconds, TargetId, Train};
use simulation::virtual_time::{CallPhase, CrashAt, Faults};
use simulation::world::{ImageBehaviour, SeededRng, Settings, scene};

fn targets() -> [TargetId; 2] {
    [target("shop/api/dev"), target("shop/api/prod")]
}

fn pipeline(seed: u64, soak: u64, faults: Faults) -> Pipeline {
    let plan = shorten(PipelineBuilder::of(&["api/dev", "api/prod"]).promoted("prod", "dev", soak));
    let mut pipeline = plan.build_with(Settings { seed, log_calls: false, ..Settings::default() }, faults);
    pipeline.push("api", 1);
    pipeline
}

/// What must be true of both targets once everything has come to rest.
fn check_final_state(pipeline: &Pipeline, verdicts: [&[Verdict]; 2]) -> Result<(), String> {
    for (target, expected) in targets().iter().zip(verdicts) {
        let state = pipeline.state(target);
        if state.running.is_some() || !state.queued.is_empty() || !state.outbox.is_empty() {
            return Err(format!("something still runs, waits or is untold on {target}"));
        }
        for (index, entry) in pipeline.journal(target).iter().enumerate() {
            if entry.sequence != index as u64 + 1 {
                return Err(format!("{target}'s journal has a gap before entry {}", entry.sequence));
            }
        }
        if pipeline.verdicts(target) != expected {
            return Err(format!("{target} has {:?} where {expected:?} was expected", pipeline.verdicts(target)));
        }
        let starts = pipeline.count(target, |fact| matches!(fact, Fact::Started { .. }));
        if starts != expected.len() || state.last_deployment != expected.len() as u64 {
            return Err(format!("{target} began {starts} times"));
        }
        let live = if expected == [Verdict::Succeeded] { (0, 100) } else { (100, 0) };
        if pipeline.weights(target) != live {
            return Err(format!("{target} has the weights {:?}", pipeline.weights(target)));
        }
        let verified = pipeline.count(target, |fact| matches!(fact, Fact::Verified { .. }));
        let wanted = usize::from(expected == [Verdict::Succeeded]);
        if verified != wanted || state.verified.len() != wanted {
            return Err(format!("{target} was verified {verified} times, and remembers {:?}", state.verified));
        }
    }
    let lost = pipeline.lost();
    if lost > 0.0 { Err(format!("{lost} requests were lost")) } else { Ok(()) }
}

#[track_caller]
fn expect_final_state(pipeline: &mut Pipeline, hours: u64, verdicts: [&[Verdict]; 2], what: &str) {
    let [dev, _] = targets();
    pipeline.simulation.run_until_condition(hours * HOUR, |simulation| simulation.at(&dev).state().is_some());
    let became_idle = pipeline.simulation.run_until_idle(hours * HOUR);
    pipeline.simulation.run_for(300);
    pipeline.simulation.check_when_idle();
    pipeline.assert_no_violation(what);
    assert!(became_idle, "{what}: it does not come to rest{}", pipeline.journal_texts());
    if let Err(reason) = check_final_state(pipeline, verdicts) {
        panic!("{what}: {reason}{}", pipeline.journal_texts());
    }
}

fn crash_at_every_call(behaviour_in_prod: &ImageBehaviour, verdicts: [&[Verdict]; 2]) {
    let run = |faults: Faults, what: &str| {
        // Good where it is verified, and this in prod: a crash may keep dev busy for minutes after its bake.
        let good = *behaviour_in_prod == ImageBehaviour::default();
        let mut pipeline = pipeline(1, if good { 45 } else { 900 }, faults);
        let [dev, _] = targets();
        if !good {
            pipeline.until(3 * HOUR, what, |pipeline| pipeline.verdicts(&dev) == [Verdict::Succeeded]);
            pipeline.set_image(1, behaviour_in_prod.clone());
        }
        expect_final_state(&mut pipeline, 3, verdicts, what);
        pipeline.simulation.calls()
    };
    let calls = run(Faults::default(), "without faults");
    assert!(calls > 150, "a promotion of {calls} calls proves little");
    for call in 0..calls {
        for phase in [CallPhase::Before, CallPhase::After] {
            let crash_at = Some(CrashAt { call, phase });
            run(Faults { crash_at, ..Faults::default() }, &format!("crash at call {call} of {calls}, {phase:?}"));
        }
    }
}

#[test]
fn a_promotion_survives_a_crash_at_every_call() {
    crash_at_every_call(&ImageBehaviour::default(), [&[Verdict::Succeeded], &[Verdict::Succeeded]]);
}

#[test]
fn a_rollback_in_prod_survives_a_crash_at_every_call() {
    crash_at_every_call(&ImageBehaviour::failing(0.6), [&[Verdict::Succeeded], &[Verdict::RolledBack]]);
}

/// A train of two services whose second one is bad: the first goes back with it, whatever call a pass is killed at.
#[test]
fn a_train_rolls_back_as_a_whole_despite_crashes() {
    let run = |faults: Faults, what: &str| {
        let mut pipeline = start_bad_train(faults);
        let [api, web] = [target("shop/api/prod"), target("shop/web/prod")];
        let is_rolled_back = |pipeline: &Pipeline| {
            let stable =
                |target| pipeline.stable(target).as_deref() == Some("v1") && pipeline.state(target).running.is_none();
            pipeline.verdicts(&web).len() == 2 && stable(&api) && stable(&web)
        };
        pipeline.until(3 * HOUR, what, is_rolled_back);
        assert!(pipeline.simulation.run_until_idle(3 * HOUR), "{what}: no rest{}", pipeline.journal_texts());
        assert!(is_rolled_back(&pipeline), "{what}{}", pipeline.journal_texts());
        let count_starts = |target| pipeline.count(target, |fact| matches!(fact, Fact::Started { .. }));
        // Back out of the warm state, or by a rollback of its own where it was over already: never twice.
        let api_verdicts = pipeline.verdicts(&api);
        let rolled_back_while_warm = [Verdict::Succeeded, Verdict::RolledBack];
        let rolled_back_after_success = [Verdict::Succeeded; 3];
        assert!(
            api_verdicts == rolled_back_while_warm || api_verdicts == rolled_back_after_success,
            "{what}: {api_verdicts:?}{}",
            pipeline.journal_texts()
        );
        assert_eq!(
            (count_starts(&api), count_starts(&web)),
            (api_verdicts.len(), 2),
            "{what}{}",
            pipeline.journal_texts()
        );
        assert_eq!(
            pipeline.verdicts(&web),
            [Verdict::Succeeded, Verdict::RolledBack],
            "{what}{}",
            pipeline.journal_texts()
        );
        for target in [&api, &web] {
            let (state, lost) = (pipeline.state(target), pipeline.lost());
            assert!(state.outbox.is_empty() && lost == 0.0, "{what}: {lost} {state:?}{}", pipeline.journal_texts());
        }
        pipeline.simulation.calls()
    };
    let calls = run(Faults::default(), "without faults");
    let before = calls_before_bad_train();
    // Every third one: what lies between is the same calls of the other target.
    for call in (before..calls).step_by(3) {
        for phase in [CallPhase::Before, CallPhase::After] {
            let crash_at = Some(CrashAt { call, phase });
            run(Faults { crash_at, ..Faults::default() }, &format!("crash at call {call} of {calls}, {phase:?}"));
        }
    }
}

fn shorten(plan: PipelineBuilder) -> PipelineBuilder {
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
fn pipeline_of_two_services(faults: Faults) -> Pipeline {
    let mut pipeline = shorten(PipelineBuilder::of(&["api/prod", "web/prod"]))
        .policy(|policy| {
            policy.services.get_mut(&name("web")).expect("a service").depends_on = vec![name("api")];
        })
        .build_with(Settings { log_calls: false, ..Settings::default() }, faults);
    for service in ["api", "web"] {
        pipeline.push(service, 1);
        pipeline.expect_verdicts(&target(&format!("shop/{service}/prod")), 3 * HOUR, &[Verdict::Succeeded]);
    }
    assert!(pipeline.simulation.run_until_idle(3 * HOUR));
    pipeline
}

/// Calls before the train is asked for.
fn calls_before_bad_train() -> u64 {
    pipeline_of_two_services(Faults::default()).simulation.calls()
}

/// The train of api v101 and web v201, which is bad.
fn start_bad_train(faults: Faults) -> Pipeline {
    let mut pipeline = pipeline_of_two_services(faults);
    pipeline.set_image(201, ImageBehaviour::failing(0.6));
    let members = [("api", 101), ("web", 201)];
    let train = Train {
        id: "train-1".to_owned(),
        members: members.into_iter().map(|(service, number)| (name(service), scene::digest_of(number))).collect(),
        rollback_together: true,
        ..Train::default()
    };
    for (service, number) in members {
        let options = DeployOptions { train: Some(Box::new(train.clone())), ..DeployOptions::default() };
        pipeline.deploy(&target(&format!("shop/{service}/prod")), number, options);
    }
    pipeline
}

/// How many worlds are tried; `SIMULATION_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("SIMULATION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// Faults of all kinds by chance, until well into the second deployment.
#[test]
fn a_release_is_promoted_at_most_once_under_random_faults() {
    for seed in 0..seeds() {
        let mut rng = SeededRng::new(seed);
        let rate = 0.02 + 0.08 * rng.unit();
        let faults =
            Faults { until: Some(Seconds(HOUR).after(Settings::default().start)), ..Faults::everywhere(seed, rate) };
        let mut pipeline = pipeline(seed, 45, faults);
        let [dev, prod] = targets();
        let what = format!("seed {seed}, rate {rate:.3}");
        pipeline.simulation.run_until_condition(2 * HOUR, |simulation| simulation.at(&dev).state().is_some());
        let became_idle = pipeline.simulation.run_until_idle(6 * HOUR);
        pipeline.assert_no_violation(&what);
        assert!(became_idle, "{what}: it does not come to rest{}", pipeline.journal_texts());
        pipeline.simulation.run_for(300);
        // What goes wrong may outlast a deadline: then a good release goes back, and goes no further.
        let first = pipeline.verdicts(&dev);
        let second = pipeline.verdicts(&prod);
        let allowed: [&[Verdict]; 3] = [&[Verdict::Succeeded], &[Verdict::RolledBack], &[Verdict::Failed]];
        assert!(allowed.contains(&first.as_slice()), "{what}: {first:?}{}", pipeline.journal_texts());
        let promoted = first == [Verdict::Succeeded];
        let is_allowed = if promoted {
            allowed.contains(&second.as_slice())
        } else {
            second.is_empty() || second == [Verdict::Failed]
        };
        assert!(is_allowed, "{what}: {first:?}, then {second:?}{}", pipeline.journal_texts());
        if let Err(reason) = check_final_state(&pipeline, [&first, &second]) {
            panic!("{what}: {reason}{}", pipeline.journal_texts());
        }
    }
}

fn pipeline_with_policies_unreadable_from(stage_reached: &str) -> Pipeline {
    let [dev, _] = targets();
    let mut pipeline = pipeline(1, 0, Faults::default());
    let reached = |pipeline: &Pipeline| {
        pipeline.has(&dev, |fact| matches!(fact, Fact::StageEntered { stage, .. } if stage.name() == stage_reached))
    };
    pipeline.until(HOUR, stage_reached, reached);
    pipeline.simulation.set_policies_readable(false);
    pipeline
        .until(HOUR, "dev verifies it", |pipeline| pipeline.has(&dev, |fact| matches!(fact, Fact::Verified { .. })));
    pipeline
}

#[test]
fn a_promotion_blocked_by_an_unreadable_policy_is_retried() {
    let [dev, prod] = targets();
    let mut pipeline = pipeline_with_policies_unreadable_from("baking");
    pipeline.simulation.run_for(120);
    assert_eq!(pipeline.state(&dev).outbox.len(), 1, "it is still to be sent{}", pipeline.journal_texts());
    assert_eq!(pipeline.state(&prod).last_deployment, 0, "prod has not heard of it{}", pipeline.journal_texts());

    pipeline.simulation.set_policies_readable(true);
    expect_final_state(&mut pipeline, 2, [&[Verdict::Succeeded], &[Verdict::Succeeded]], "policies can be read again");
}

#[test]
fn a_rollback_does_not_wait_for_a_blocked_promotion() {
    let [dev, prod] = targets();
    let mut pipeline = pipeline_with_policies_unreadable_from("baking");
    let asked = pipeline.simulation.now();
    pipeline.ask(&dev, Instruction::Rollback, carol(), "the cart is empty");
    pipeline.until(60, "its traffic is back", |pipeline| pipeline.weights(&dev) == (100, 0));
    pipeline.expect_verdicts(&dev, 600, &[Verdict::RolledBack]);
    let took = Seconds::between(asked, pipeline.time_of(&dev, |fact| matches!(fact, Fact::Ended { .. })));
    assert!(took.0 < 120, "the rollback took {took}{}", pipeline.journal_texts());

    pipeline.simulation.set_policies_readable(true);
    pipeline.wait_until_idle(HOUR);
    assert_eq!(pipeline.verdicts(&prod), [], "nothing that went back is promoted{}", pipeline.journal_texts());
}
