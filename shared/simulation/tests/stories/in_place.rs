//! A single service whose versions replace one another in place, from push to verdict: a worker without load balancer,
//! and a service behind one. Every invariant is checked after each step.

use super::{HOUR, expect_verdicts, has, lost, set_image};
use rollout::journal::{Fact, JournalEntry};
use rollout::{
    Actor, Cause, DeployOptions, Instruction, Name, Overrides, Seconds, TargetId, Train, Verdict, WaitingOn,
};
use simulation::virtual_time::{Faults, PushAnnouncement, Simulation};
use simulation::world::ecs::{CircuitBreaker, EcsService, EcsTask, ListTasks, UpdateService, UpdateTaskProtection};
use simulation::world::scene::{build_with_services, digest_of};
use simulation::world::{Health, ImageBehaviour, PairSetup, RollingNames, RollingSetup, Settings, StartBehaviour};

/// A worker of four tasks: new tasks start before old ones stop.
fn worker() -> RollingSetup {
    PairSetup::new("shop", "worker", "dev").rolling()
}

fn watched(setup: &RollingSetup) -> Simulation {
    let mut simulation = Simulation::new(setup.build(Settings::default()), Faults::default());
    simulation.watch();
    simulation
}

/// The same, in which release 1 behaves like this and is pushed.
fn pushed(setup: &RollingSetup, behaviour: ImageBehaviour) -> Simulation {
    let mut simulation = watched(setup);
    set_image(&simulation, 1, behaviour);
    simulation.push(1, PushAnnouncement::Event);
    simulation
}

#[track_caller]
fn expect_end(simulation: &mut Simulation, verdicts: &[Verdict]) {
    expect_verdicts(simulation, 4 * HOUR, verdicts);
    simulation.check_when_idle();
    assert_eq!(simulation.violation(), None, "{}", simulation.journal_text());
}

fn names(simulation: &Simulation) -> RollingNames {
    simulation.at(simulation.target()).rolling_names().clone()
}

fn service(simulation: &Simulation) -> EcsService {
    let names = names(simulation);
    let described =
        simulation.world(|world| world.describe_services(&names.cluster, std::slice::from_ref(&names.service)));
    described.expect("the cluster is there").0.remove(0)
}

/// The tasks that run or start.
fn tasks(simulation: &Simulation) -> Vec<EcsTask> {
    let names = names(simulation);
    simulation.world(|world| {
        let list =
            ListTasks { cluster: names.cluster.clone(), service_name: Some(names.service), ..ListTasks::default() };
        let arns = world.list_tasks(list).expect("the service is there");
        if arns.is_empty() { Vec::new() } else { world.describe_tasks(&names.cluster, &arns).expect("they are read").0 }
    })
}

/// Number of tasks of the first version, and of other versions.
fn counts(simulation: &Simulation) -> (usize, usize) {
    let (all, first) = (tasks(simulation), names(simulation).task_definition);
    let old = all.iter().filter(|task| task.task_definition_arn == first).count();
    (old, all.len() - old)
}

fn set_version(simulation: &Simulation, version: &str) {
    let names = names(simulation);
    let update = UpdateService {
        cluster: names.cluster,
        service: names.service,
        task_definition: Some(version.to_owned()),
        ..UpdateService::default()
    };
    simulation.world(|world| world.update_service(update)).expect("anybody may set it");
}

/// Until the new version is set.
fn run_until_set(simulation: &mut Simulation) {
    let first = names(simulation).task_definition;
    let is_set = |simulation: &mut Simulation| service(simulation).task_definition != first;
    assert!(simulation.run_until_condition(HOUR, is_set), "{}", simulation.journal_text());
}

fn run_until_stage(simulation: &mut Simulation, stage: &str) {
    let reached = simulation.run_until_condition(HOUR, |simulation| simulation.stage_name() == Some(stage));
    assert!(reached, "it does not get to {stage}\n{}", simulation.journal_text());
}

#[track_caller]
fn expect_first_version(simulation: &Simulation) {
    assert_eq!(service(simulation).task_definition, names(simulation).task_definition, "{}", simulation.journal_text());
    assert_eq!(counts(simulation), (4, 0), "{}", simulation.journal_text());
}

/// Why deployments rolled back.
fn rollback_causes(journal: Vec<JournalEntry>) -> Vec<Cause> {
    let cause = |entry: JournalEntry| match entry.fact {
        Fact::RollbackStarted { cause } => Some(cause),
        _ => None,
    };
    journal.into_iter().filter_map(cause).collect()
}

fn crash_loop(after: u64) -> ImageBehaviour {
    ImageBehaviour::starting(StartBehaviour::CrashLoop { exit_code: 3, after: Seconds(after) })
}

#[test]
fn a_good_release_replaces_every_task_and_is_verified_after_its_bake() {
    let mut simulation = pushed(&worker(), ImageBehaviour::default());
    expect_end(&mut simulation, &[Verdict::Succeeded]);
    let stable = simulation.state().and_then(|state| state.stable).expect("there is a stable version");
    assert_eq!((stable.slot, stable.version.as_str()), (None, service(&simulation).task_definition.as_str()));
    assert_eq!(counts(&simulation), (0, 4), "{}", simulation.journal_text());
    let at = |wanted: fn(&Fact) -> bool| simulation.journal().into_iter().find(|entry| wanted(&entry.fact));
    let replaced = at(|fact| matches!(fact, Fact::Replaced { running: 4, .. })).expect("it is journalled").at;
    let verified = at(|fact| matches!(fact, Fact::Verified { .. })).expect("it is journalled").at;
    let baked = Seconds::between(replaced, verified);
    assert!((120..140).contains(&baked.0), "it baked for {baked}\n{}", simulation.journal_text());
}

#[test]
fn a_crash_loop_goes_back_while_every_old_task_runs_on() {
    let mut simulation = pushed(&worker(), crash_loop(5));
    let always_up = |simulation: &mut Simulation| {
        assert!(counts(simulation).0 >= 4, "{}", simulation.journal_text());
        !simulation.verdicts().is_empty()
    };
    assert!(simulation.run_until_condition(600, always_up), "{}", simulation.journal_text());
    expect_end(&mut simulation, &[Verdict::RolledBack]);
    let (_, _, reason) = simulation.verdicts().remove(0);
    assert!(reason.contains("exit code 3"), "{reason}");
    expect_first_version(&simulation);
}

#[test]
fn a_container_health_check_that_fails_goes_back() {
    let setup = worker().with_health_check(Seconds(10), 3);
    let sick_later = ImageBehaviour { health: Health::LostAfter(Seconds(80)), ..ImageBehaviour::default() };
    for behaviour in [ImageBehaviour::never_healthy(), sick_later] {
        let mut simulation = pushed(&setup, behaviour);
        expect_end(&mut simulation, &[Verdict::RolledBack]);
        let (_, _, reason) = simulation.verdicts().remove(0);
        assert!(reason.contains("failed container health checks"), "{reason}");
        expect_first_version(&simulation);
    }
}

#[test]
fn an_alarm_in_the_bake_goes_back_without_losing_a_request() {
    let leak = ImageBehaviour { later: Some((Seconds(120), 0.5)), ..ImageBehaviour::default() };
    let mut simulation = pushed(&worker().behind_balancer(), leak);
    run_until_stage(&mut simulation, "baking");
    expect_end(&mut simulation, &[Verdict::RolledBack]);
    let alarm = names(&simulation).balancing.expect("it is behind a load balancer").alarm;
    let causes = rollback_causes(simulation.journal());
    assert!(matches!(&causes[..], [Cause::Alarm { name, .. }] if *name == alarm), "{causes:?}");
    expect_first_version(&simulation);
    assert_eq!(lost(&simulation), 0.0, "{}", simulation.journal_text());
}

#[test]
fn a_protected_task_is_waited_for_and_not_stopped() {
    let mut simulation = watched(&worker());
    let kept = tasks(&simulation).remove(0).task_arn;
    let protection = UpdateTaskProtection {
        cluster: names(&simulation).cluster,
        tasks: vec![kept.clone()],
        protection_enabled: true,
        expires_in_minutes: Some(30),
    };
    simulation.world(|world| world.update_task_protection(&protection)).expect("the task runs");
    simulation.push(1, PushAnnouncement::Event);
    // Longer than healthy tasks have.
    simulation.run_for(1_200);
    assert_eq!(simulation.stage_name(), Some("replacing"), "{}", simulation.journal_text());
    assert!(tasks(&simulation).iter().any(|task| task.task_arn == kept), "{}", simulation.journal_text());
    let waits = simulation.state().expect("it runs").explanation.waiting_on;
    let counted = |on: &WaitingOn| matches!(on, WaitingOn::Replacing { others: 1, protected: 1, healthy: 4, .. });
    assert!(waits.iter().any(counted), "{waits:?}");
    expect_end(&mut simulation, &[Verdict::Succeeded]);
    assert_eq!(counts(&simulation), (0, 4), "{}", simulation.journal_text());
}

#[test]
fn a_stop_first_worker_never_runs_more_than_its_number_of_tasks() {
    for (behaviour, verdict) in
        [(ImageBehaviour::default(), Verdict::Succeeded), (crash_loop(100), Verdict::RolledBack)]
    {
        let mut simulation = pushed(&worker().with_percents(0, 100), behaviour);
        let never_more = |simulation: &mut Simulation| {
            let (old, new) = counts(simulation);
            assert!(old + new <= 4, "{old} old tasks and {new} new ones\n{}", simulation.journal_text());
            !simulation.verdicts().is_empty()
        };
        assert!(simulation.run_until_condition(HOUR, never_more), "{}", simulation.journal_text());
        expect_end(&mut simulation, &[verdict]);
        assert_eq!(service(&simulation).running_count, 4, "{}", simulation.journal_text());
    }
}

#[test]
fn the_circuit_breakers_own_rollback_is_noticed_and_proven() {
    let mut setup = worker();
    setup.breaker = CircuitBreaker { enable: true, rollback: true };
    let mut simulation = pushed(&setup, crash_loop(5));
    run_until_set(&mut simulation);
    // The breaker decides before anybody looks again.
    simulation.world(|world| {
        let later = Seconds(300).after(world.now());
        world.advance_to(later);
    });
    assert_eq!(service(&simulation).task_definition, names(&simulation).task_definition, "the breaker did not trip");
    expect_end(&mut simulation, &[Verdict::RolledBack]);
    let causes = rollback_causes(simulation.journal());
    assert!(matches!(&causes[..], [Cause::Tasks { reason }] if reason.contains("ECS gave up")), "{causes:?}");
    expect_first_version(&simulation);
}

#[test]
fn a_version_set_by_somebody_else_halts_until_it_is_put_right() {
    let mut simulation = pushed(&worker(), ImageBehaviour::default());
    run_until_stage(&mut simulation, "baking");
    let ours = service(&simulation).task_definition;
    let model = simulation.world(|world| world.describe_task_definition(&ours)).expect("it is there");
    let mut document = model.document;
    document["cpu"] = "512".into();
    let theirs = simulation.world(|world| world.register_task_definition(document)).expect("it is sound").arn;
    set_version(&simulation, &theirs);
    let halts = |simulation: &mut Simulation| has(simulation, |fact| matches!(fact, Fact::Halted { .. }));
    assert!(simulation.run_until_condition(120, halts), "{}", simulation.journal_text());
    simulation.run_for(120);
    assert_eq!(service(&simulation).task_definition, theirs, "{}", simulation.journal_text());
    set_version(&simulation, &ours);
    expect_end(&mut simulation, &[Verdict::Succeeded]);
    assert!(has(&simulation, |fact| matches!(fact, Fact::Resumed)), "{}", simulation.journal_text());
}

#[test]
fn a_rollback_command_registers_a_deregistered_version_again() {
    let mut simulation = watched(&worker());
    for number in [1, 2] {
        simulation.push(number, PushAnnouncement::Event);
        assert!(simulation.run_until_idle(HOUR), "{}", simulation.journal_text());
    }
    let previous = simulation.state().and_then(|state| state.previous).expect("v1 was stable before").version;
    simulation.world(|world| world.deregister_task_definition(&previous)).expect("it is there");
    simulation.send_command(Instruction::Rollback, "v2 is slow");
    expect_end(&mut simulation, &[Verdict::Succeeded; 3]);
    let stable = simulation.state().and_then(|state| state.stable).expect("there is a stable version");
    assert_ne!(stable.version, previous, "{}", simulation.journal_text());
    let live = service(&simulation).task_definition;
    let image = simulation.world(|world| world.image_in(&live, "app")).expect("the container has an image");
    assert!(image.ends_with(digest_of(1).as_str()), "{image}\n{}", simulation.journal_text());
    assert_eq!(stable.release.map(|release| release.tag).as_deref(), Some("v1"));
}

/// An application of a pair and a worker, which is deployed after it; v1 of both is stable.
fn pair_and_worker() -> (Simulation, [TargetId; 2]) {
    let mut pair = PairSetup::new("shop", "api", "prod");
    pair.strategy.keep_warm = Seconds(1_800);
    let worker = PairSetup::new("shop", "worker", "prod").rolling();
    let targets = [pair.target.clone(), worker.target.clone()];
    let mut built = build_with_services(&[pair], &[worker], Settings::default());
    let name = |text: &str| Name::new(text).expect("a name");
    built.policy.services.get_mut(&name("worker")).expect("a service").depends_on = vec![name("api")];
    let prod = built.policy.environments.get_mut(&name("prod")).expect("an environment");
    prod.entry.rollback_train_together = true;
    let mut simulation = Simulation::of_application(built, Faults::default());
    simulation.watch();
    for target in &targets {
        simulation.push_service(&target.service, 1, PushAnnouncement::Event);
    }
    assert!(simulation.run_until_idle(4 * HOUR), "{}", simulation.journal_texts());
    (simulation, targets)
}

#[test]
fn a_train_of_a_pair_and_a_worker_goes_back_together() {
    let (mut simulation, [api, worker]) = pair_and_worker();
    set_image(&simulation, 201, crash_loop(80));
    let members = [(&api, 101), (&worker, 201)];
    let digests = members.iter().map(|(target, number)| (target.service.clone(), digest_of(*number)));
    let train =
        Train { id: "train-1".to_owned(), members: digests.collect(), rollback_together: true, ..Train::default() };
    for (target, number) in members.into_iter().rev() {
        let options = DeployOptions { train: Some(Box::new(train.clone())), ..DeployOptions::default() };
        let deploy = simulation.deploy_instruction(&target.service, number, Overrides::default(), options);
        simulation.send_command_to(target, deploy, Actor::Person { name: "carol".to_owned() }, "the new cart");
    }
    assert!(simulation.run_until_idle(4 * HOUR), "{}", simulation.journal_texts());
    simulation.check_when_idle();
    assert_eq!(simulation.violation(), None, "{}", simulation.journal_texts());
    for target in [&api, &worker] {
        let verdicts = simulation.at(target).verdicts();
        let last = verdicts.last().map(|(number, verdict, _)| (*number, *verdict));
        assert_eq!(last, Some((2, Verdict::RolledBack)), "{target}\n{}", simulation.journal_texts());
        let stable = simulation.at(target).state().and_then(|state| state.stable?.release).expect("it is a release");
        assert_eq!(stable.tag, "v1", "{target}\n{}", simulation.journal_texts());
    }
    let causes = rollback_causes(simulation.at(&api).journal());
    assert!(matches!(&causes[..], [Cause::Train { service, .. }] if *service == worker.service), "{causes:?}");
    assert_eq!(lost(&simulation), 0.0, "{}", simulation.journal_texts());
}
