//! The same of a target that changes its version in place: each of its invariants is violated once, and sound
//! deployments violate none.

use super::{RogueDriver, expect_violation, run_until_ready, wait_until_released, watched_at};
use engine::Cloud as _;
use rollout::in_place::{InPlace, InPlaceStage, Rollback, RollbackStep};
use rollout::journal::Fact;
use rollout::phase::{Moving, Phase};
use rollout::policy::{Hook, HookAction, HookPoint};
use rollout::snapshot::Weights;
use rollout::verdict::Verdict;
use rollout::{Cause, Effect, Name, Outcome, Seconds, Slot};
use simulation::invariants;
use simulation::virtual_time::Simulation;
use simulation::world::balancer::ElbTarget;
use simulation::world::ecs::UpdateService;
use simulation::world::scene::digest_of;
use simulation::world::{
    BuiltService, ImageBehaviour, PairSetup, RollingNames, RollingSetup, RunTaskBehaviour, Settings, StartBehaviour,
};

/// A worker of four tasks, without load balancer: new tasks start before old ones stop.
fn worker() -> RollingSetup {
    PairSetup::new("shop", "worker", "dev").rolling()
}

fn built(setup: &RollingSetup) -> BuiltService {
    setup.build(Settings::default())
}

/// The worker's deployment, which has got to `stage`, and a driver that holds the target.
fn held_at(stage: &str) -> (Simulation, RogueDriver) {
    let simulation = watched_at(built(&worker()), stage);
    let driver = RogueDriver::acquire(&simulation);
    (simulation, driver)
}

fn names(simulation: &Simulation) -> RollingNames {
    simulation.at(simulation.target()).rolling_names().clone()
}

/// Somebody registers a task definition of their own, and sets it.
fn set_foreign_version(simulation: &Simulation) -> String {
    let names = names(simulation);
    simulation.world(|world| {
        let mut document = world.describe_task_definition(&names.task_definition).expect("it is there").document;
        document["cpu"] = "512".into();
        let version = world.register_task_definition(document).expect("it is sound").arn;
        let update = UpdateService {
            cluster: names.cluster.clone(),
            service: names.service.clone(),
            task_definition: Some(version.clone()),
            ..UpdateService::default()
        };
        world.update_service(update).expect("the service is there");
        version
    })
}

/// Performs an effect that the cloud refuses.
fn attempt(simulation: &mut Simulation, driver: &RogueDriver, effect: &Effect) {
    let resources = driver.state.running.as_ref().expect("something runs").policy.resources.clone();
    let outcome = run_until_ready(simulation, driver.cloud.perform(&resources, effect));
    assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
    simulation.run_for(1);
}

fn in_place(driver: &mut RogueDriver) -> &mut InPlace {
    let running = driver.state.running.as_mut().expect("something runs");
    match &mut running.phase {
        Phase::Moving(Moving::InPlace(in_place)) => in_place,
        other => panic!("nothing is replaced: {other:?}"),
    }
}

/// The new version.
fn new_version(driver: &mut RogueDriver) -> String {
    in_place(driver).set_version.clone().expect("it was set")
}

fn ended(verdict: Verdict) -> Fact {
    Fact::Ended { verdict, reason: String::new(), live: None }
}

#[test]
fn a_sound_deployment_in_place_breaks_no_invariant() {
    let setups = [
        worker(),
        worker().with_percents(0, 100),
        worker().with_health_check(Seconds(10), 3),
        worker().behind_balancer(),
    ];
    for setup in setups {
        let mut simulation = watched_at(built(&setup), "baking");
        assert!(simulation.run_until_idle(3600), "{}", simulation.journal_text());
        simulation.check_when_idle();
        assert_eq!(simulation.violation(), None, "{}", simulation.journal_text());
        assert_eq!(simulation.verdicts()[0].1, Verdict::Succeeded, "{}", simulation.journal_text());
    }
}

#[test]
fn a_sound_rollback_in_place_breaks_no_invariant() {
    let crash = StartBehaviour::CrashLoop { exit_code: 1, after: Seconds(100) };
    for (setup, behaviour) in [
        (worker(), ImageBehaviour::starting(crash)),
        (worker().with_percents(0, 100), ImageBehaviour::starting(crash)),
        (worker().behind_balancer(), ImageBehaviour { later: Some((Seconds(90), 0.5)), ..ImageBehaviour::default() }),
    ] {
        let built = built(&setup);
        let mut world = built.world;
        world.set_image(digest_of(1).as_str(), behaviour);
        let mut simulation = watched_at(BuiltService { world, ..built }, "baking");
        assert!(simulation.run_until_idle(7200), "{}", simulation.journal_text());
        simulation.check_when_idle();
        assert_eq!(simulation.violation(), None, "{}", simulation.journal_text());
        assert_eq!(simulation.verdicts()[0].1, Verdict::RolledBack, "{}", simulation.journal_text());
    }
}

#[test]
fn detects_scaling_and_weights_in_place() {
    for effect in [
        Effect::SetDesired { slot: Slot::Blue, desired: 0 },
        Effect::SetWeights { weights: Weights { blue: 0, green: 100 }, seen: vec![] },
    ] {
        let (mut simulation, driver) = held_at("baking");
        attempt(&mut simulation, &driver, &effect);
        let words = format!("{} was performed on worker", effect.kind().name());
        expect_violation(&simulation, &invariants::ONLY_THE_VERSION_CHANGES_IN_PLACE, &words);
    }
}

#[test]
fn detects_a_version_set_without_the_lease() {
    let (mut simulation, mut driver) = held_at("baking");
    let version = new_version(&mut driver);
    let target = simulation.target().clone();
    simulation.ledger().store().release(&target, &driver.lease);
    driver.perform(&mut simulation, &Effect::ReplaceVersion { version });
    expect_violation(&simulation, &invariants::ONLY_LEASE_HOLDER_WRITES, "performed replace_version while");
}

#[test]
fn detects_a_version_that_was_not_decided() {
    let (mut simulation, driver) = held_at("baking");
    let version = names(&simulation).task_definition;
    driver.perform(&mut simulation, &Effect::ReplaceVersion { version });
    expect_violation(&simulation, &invariants::ONLY_LEASE_HOLDER_WRITES, "was set, and Some(");
}

#[test]
fn detects_a_foreign_version_overwritten_to_go_forward() {
    let (mut simulation, mut driver) = held_at("baking");
    set_foreign_version(&simulation);
    driver.observe(&mut simulation);
    let version = new_version(&mut driver);
    driver.perform(&mut simulation, &Effect::ReplaceVersion { version });
    expect_violation(
        &simulation,
        &invariants::NO_FORWARD_OVERWRITE_OF_FOREIGN_VERSIONS,
        "was set by another and observed, and it is overwritten to go forward",
    );
}

/// A rollback that has just begun.
fn roll_back(simulation: &Simulation, driver: &mut RogueDriver) {
    let now = simulation.now();
    let in_place = in_place(driver);
    let cause = Cause::Tasks { reason: "they crash".to_owned() };
    let (path, step) = (in_place.rollback_path(), RollbackStep::start());
    in_place.at = InPlaceStage::RollingBack(Rollback { path, cause, step, deadline: Seconds(1800).after(now) });
}

#[test]
fn detects_a_foreign_version_overwritten_without_a_journal_entry() {
    for journalled in [false, true] {
        let (mut simulation, mut driver) = held_at("baking");
        roll_back(&simulation, &mut driver);
        let cause = Cause::Tasks { reason: "they crash".to_owned() };
        driver.write_entry(&mut simulation, Some(1), Fact::RollbackStarted { cause });
        let foreign = set_foreign_version(&simulation);
        driver.observe(&mut simulation);
        if journalled {
            let replaced = Fact::ForeignVersionReplaced { found: foreign, cause: String::new() };
            driver.write_entry(&mut simulation, Some(1), replaced);
        }
        let version = names(&simulation).task_definition;
        driver.perform(&mut simulation, &Effect::ReplaceVersion { version });
        if journalled {
            assert_eq!(simulation.violation(), None, "{}", simulation.journal_text());
        } else {
            let invariant = &invariants::NO_FORWARD_OVERWRITE_OF_FOREIGN_VERSIONS;
            expect_violation(&simulation, invariant, "and is replaced without a journal entry");
        }
    }
}

/// The worker in the middle of a replacement, observed by the driver.
fn observed_while_replacing() -> (Simulation, RogueDriver) {
    let (mut simulation, driver) = held_at("replacing");
    // Until AWS surely tells that the new version is set.
    simulation.run_for(8);
    driver.observe(&mut simulation);
    (simulation, driver)
}

#[test]
fn detects_a_replacement_that_is_not_complete() {
    let (mut simulation, mut driver) = observed_while_replacing();
    let version = new_version(&mut driver);
    driver.write_entry(&mut simulation, Some(1), Fact::Replaced { version, running: 4 });
    expect_violation(
        &simulation,
        &invariants::REPLACED_ONLY_IF_EVERYTHING_RUNS_IT,
        "has replaced all others, and arn:aws:ecs:eu-central-1:111122223333:task-definition/",
    );
}

#[test]
fn detects_a_release_verified_before_everything_runs_it() {
    let (mut simulation, mut driver) = observed_while_replacing();
    let verified = Fact::Verified { digest: digest_of(1).to_string(), tag: "v1".to_owned() };
    driver.write_entry(&mut simulation, Some(1), verified);
    expect_violation(&simulation, &invariants::REPLACED_ONLY_IF_EVERYTHING_RUNS_IT, "is verified, and");
}

#[test]
fn detects_success_while_another_image_runs() {
    let (mut simulation, mut driver) = held_at("baking");
    set_foreign_version(&simulation);
    driver.observe(&mut simulation);
    driver.state.running = None;
    driver.write_entry(&mut simulation, Some(1), ended(Verdict::Succeeded));
    expect_violation(&simulation, &invariants::REPLACED_ONLY_IF_EVERYTHING_RUNS_IT, "is live, and");
}

#[test]
fn detects_a_rollback_that_left_the_new_version() {
    let (mut simulation, mut driver) = held_at("baking");
    driver.observe(&mut simulation);
    driver.state.running = None;
    driver.write_entry(&mut simulation, Some(1), ended(Verdict::RolledBack));
    expect_violation(&simulation, &invariants::VERSION_BEFORE_AT_END, "#1 ended as RolledBack");
}

#[test]
fn detects_an_alarm_that_is_not_answered_in_place() {
    let mut simulation = watched_at(built(&worker().behind_balancer()), "baking");
    let alarm = names(&simulation).balancing.expect("it is behind a load balancer").alarm;
    simulation.world(|world| world.set_image(digest_of(1).as_str(), ImageBehaviour::failing(1.0)));
    let driver = RogueDriver::acquire(&simulation);
    assert!(simulation.run_until_condition(30, |simulation| simulation.world(|world| world.alarm_fires(&alarm))));
    driver.observe(&mut simulation);
    simulation.run_for(62);
    expect_violation(&simulation, &invariants::ROLLBACK_WITHIN_A_MINUTE_OF_ALARM, "fires since");
}

#[test]
fn detects_an_automatic_rollback_of_a_forward_only_release() {
    let (mut simulation, mut driver) = held_at("baking");
    driver.state.running.as_mut().expect("something runs").options.forward_only = true;
    driver.commit(&mut simulation, &[], &[]);
    let cause = Cause::Tasks { reason: "they crash".to_owned() };
    driver.write_entry(&mut simulation, Some(1), Fact::RollbackStarted { cause });
    expect_violation(
        &simulation,
        &invariants::NO_AUTOMATIC_ROLLBACK_OF_FORWARD_ONLY,
        "#1 is forward-only, and is rolled back",
    );
}

#[test]
fn detects_a_stable_version_that_is_not_live() {
    let mut simulation = watched_at(built(&worker()), "baking");
    assert!(simulation.run_until_idle(3600), "{}", simulation.journal_text());
    let mut driver = RogueDriver::acquire(&simulation);
    driver.state.stable.as_mut().expect("v1 is stable").version = names(&simulation).task_definition;
    driver.commit(&mut simulation, &[], &[]);
    simulation.check_when_idle();
    expect_violation(&simulation, &invariants::STABLE_VERSION_IS_LIVE, "is stable in the ledger, and");
}

#[test]
fn detects_a_hook_task_left_running() {
    let mut built = built(&worker());
    built.policy.hooks = vec![Hook {
        name: Name::new("migrate").expect("a name"),
        at: HookPoint::BeforeTraffic,
        run: HookAction::Task { container: "app".to_owned(), command: vec!["migrate".to_owned()] },
        deadline: Seconds(600),
        forward_only: false,
    }];
    built.world.set_image(digest_of(1).as_str(), ImageBehaviour::running(RunTaskBehaviour::Endless));
    let mut simulation = watched_at(built, "before_traffic");
    // Until the ledger knows the task.
    simulation.run_for(20);
    wait_until_released(&mut simulation);
    let mut driver = RogueDriver::acquire(&simulation);
    assert!(in_place(&mut driver).hooks.values().any(|hook| hook.task.is_some()), "{}", simulation.journal_text());
    driver.state.running = None;
    driver.write_entry(&mut simulation, Some(1), ended(Verdict::Failed));
    assert_eq!(simulation.violation(), None, "it may be stopped right after the end");
    simulation.run_for(125);
    expect_violation(&simulation, &invariants::NO_HOOK_TASK_LEFT, "after the end of its deployment");
}

#[test]
fn detects_lost_requests_of_a_service_in_place() {
    let mut simulation = watched_at(built(&worker().behind_balancer()), "replacing");
    let group = names(&simulation).balancing.expect("it is behind a load balancer").group;
    simulation.world(|world| {
        let all = world.describe_target_health(&group).expect("it is there");
        let all: Vec<ElbTarget> = all.into_iter().map(|found| found.target).collect();
        world.deregister_targets(&group, &all).expect("they are there");
    });
    simulation.run_for(5);
    expect_violation(&simulation, &invariants::NO_REQUEST_LOST, "worker had no target for its requests");
}

#[test]
fn detects_false_journal_entries_of_a_service_in_place() {
    let facts = [
        (Fact::Halted { reason: "somebody else set another".to_owned() }, "nobody else had set"),
        (
            Fact::ForeignVersionReplaced { found: "theirs:1".to_owned(), cause: String::new() },
            "theirs:1, set by another, is replaced",
        ),
        (Fact::WorkloadFound { version: "theirs:1".to_owned(), running: 4 }, "theirs:1 was found"),
        (Fact::ReplacementStarted { version: "theirs:1".to_owned() }, "theirs:1 runs sha256:"),
        (Fact::RollbackStarted { cause: Cause::ExternalRollback }, "another has set the version before"),
        (
            Fact::RollbackStarted { cause: Cause::Alarm { name: "worker-5xx".to_owned(), reason: String::new() } },
            "for alarm worker-5xx, which did not fire",
        ),
        (Fact::WeightsVerified { weights: Weights { blue: 0, green: 100 } }, "of a target without sides"),
    ];
    for (fact, words) in facts {
        let (mut simulation, mut driver) = held_at("baking");
        driver.observe(&mut simulation);
        driver.write_entry(&mut simulation, Some(1), fact);
        expect_violation(&simulation, &invariants::JOURNAL_MATCHES_WORLD, words);
    }
}
