//! Stories of Skillancer in dev and staging: first deployments, releases that are bad early, workers.

use crate::play::{BLUE, GREEN, HOUR, Play, has_begun, has_ended, moves_traffic};
use crate::system;
use rollout::explanation::WaitingOn;
use rollout::journal::Fact;
use rollout::{Cause, DeployOptions, Gate, Seconds, TargetId, Verdict};
use simulation::world::ecs::{ListTasks, UpdateTaskProtection};
use simulation::world::{ImageBehaviour, RunTaskBehaviour, StartBehaviour};

/// Numbers of releases, one for each service, since images behave by number.
pub(crate) const API: u64 = 101;
pub(crate) const WORKERS: u64 = 201;
pub(crate) const WEB: u64 = 301;

/// Everything runs, and Switchback takes it over.
#[track_caller]
pub(crate) fn running() -> Play {
    Play::of(&system::skillancer(true))
}

fn exits_with_1() -> ImageBehaviour {
    ImageBehaviour::running(RunTaskBehaviour::Exits { after: Seconds(5), exit_code: 1 })
}

fn hook_failed(name: &str) -> impl Fn(&Fact) -> bool {
    move |fact| matches!(fact, Fact::HookFailed { hook, .. } if hook == name)
}

/// Nothing of the release got traffic, and nothing of it runs.
#[track_caller]
fn expect_untouched(play: &Play, target: &TargetId) {
    assert!(!play.has(target, moves_traffic), "{}", play.journals());
    assert_eq!(play.weights(target), BLUE, "{}", play.journals());
    let [(blue, _), (green, _)] = play.tasks(target)[..] else { panic!("{target} is a pair") };
    assert!(blue > 0 && green == 0, "{}", play.journals());
}

/// A-S1: nothing is on record, both sides are at 0, and a person asks with the flag. API, workers and web come up one
/// after the other; all weight stays where it is.
#[test]
fn first_deployments_bring_everything_up_in_an_empty_environment() {
    let mut play = Play::unwatched(&system::skillancer(false));
    for (service, number) in [("api", API), ("workers", WORKERS), ("web", WEB)] {
        let target = play.target(&format!("skillancer/{service}/dev"));
        play.set_traffic(&target, 0.0);
        play.deploy_first(&target, number, 1);
        play.expect_verdicts(&target, HOUR, &[Verdict::Succeeded]);
        assert_eq!(play.tasks(&target)[0], (1, 1), "{}", play.journals());
        let is_first = |fact: &Fact| matches!(fact, Fact::FirstDeployment { count: 1, .. });
        assert!(play.has(&target, is_first), "{}", play.journals());
    }
    for service in ["api", "web"] {
        let target = play.target(&format!("skillancer/{service}/dev"));
        assert_eq!(play.weights(&target), BLUE, "{}", play.journals());
        assert_eq!(play.tasks(&target)[1], (0, 0), "{}", play.journals());
    }
}

/// A-S1, with a bad one: no task is left, and the verdict is `failed`.
#[test]
fn a_first_deployment_that_is_bad_leaves_no_task() {
    let mut play = Play::unwatched(&system::skillancer(false));
    for (service, number) in [("workers", WORKERS), ("web", WEB)] {
        let target = play.target(&format!("skillancer/{service}/dev"));
        play.set_traffic(&target, 0.0);
        let crashes = StartBehaviour::CrashLoop { exit_code: 1, after: Seconds(2) };
        play.set_image(number, ImageBehaviour::starting(crashes));
        play.deploy_first(&target, number, 1);
        play.expect_verdicts(&target, HOUR, &[Verdict::Failed]);
        assert!(play.tasks(&target).iter().all(|tasks| *tasks == (0, 0)), "{}", play.journals());
    }
}

/// A-S3: the migration exits with 1. The deployment ends as `failed` before any task of it starts.
#[test]
fn a_migration_that_fails_ends_the_deployment_before_anything_starts() {
    let mut play = running();
    let target = play.target("skillancer/api/dev");
    play.set_image(API, exits_with_1());
    play.deploy(&target, API, DeployOptions::default());
    play.expect_verdicts(&target, HOUR, &[Verdict::Failed]);
    assert!(play.has(&target, hook_failed("migrate")), "{}", play.journals());
    expect_untouched(&play, &target);
}

/// A-S3: never healthy.
#[test]
fn a_release_that_never_becomes_healthy_gets_no_traffic() {
    let mut play = running();
    let target = play.target("skillancer/web/dev");
    play.set_image(WEB, ImageBehaviour::never_healthy());
    play.deploy(&target, WEB, DeployOptions::default());
    play.expect_verdicts(&target, HOUR, &[Verdict::Failed]);
    expect_untouched(&play, &target);
}

/// A-S3: the smoke test says no. It is good in dev, where there is none, and ends in staging before any traffic moves.
#[test]
fn a_smoke_test_that_fails_ends_the_deployment_before_traffic_moves() {
    let mut play = running();
    let [dev, staging] = ["dev", "staging"].map(|name| play.target(&format!("skillancer/web/{name}")));
    play.set_image(WEB, exits_with_1());
    play.deploy(&dev, WEB, DeployOptions::default());
    play.expect_verdicts(&dev, HOUR, &[Verdict::Succeeded]);
    play.expect_verdicts(&staging, HOUR, &[Verdict::Failed]);
    assert!(play.has(&staging, hook_failed("smoke")), "{}", play.journals());
    expect_untouched(&play, &staging);
}

/// A-S8: the only NAT gateway is gone, and pulls fail. The attempt ends early with ECS's reason; once the gateway is
/// back, the next release succeeds.
#[test]
fn a_lost_nat_gateway_ends_the_attempt_and_the_next_one_succeeds() {
    let mut play = running();
    let target = play.target("skillancer/web/dev");
    play.set_image(WEB, ImageBehaviour::starting(StartBehaviour::PullError));
    play.deploy(&target, WEB, DeployOptions::default());
    play.expect_verdicts(&target, HOUR, &[Verdict::Failed]);
    assert!(play.reason(&target).contains("CannotPullContainer"), "{}", play.reason(&target));
    expect_untouched(&play, &target);
    play.deploy(&target, WEB + 1, DeployOptions::default());
    play.expect_verdicts(&target, HOUR, &[Verdict::Failed, Verdict::Succeeded]);
    assert_eq!(play.weights(&target), GREEN, "{}", play.journals());
    assert_eq!(play.failed_requests(), 0.0, "{}", play.journals());
}

/// API and Web are behind one load balancer: while the API moves, Web's rule stays as it is, to the last attribute.
#[test]
fn moving_the_api_leaves_webs_rules_untouched() {
    let mut play = running();
    let [api, web] = ["api", "web"].map(|service| play.target(&format!("skillancer/{service}/dev")));
    let named = play.policy.target(&web).expect("it is in the policy").resources.clone();
    let arns: Vec<String> = named.rules().chain(named.test_rules()).map(str::to_owned).collect();
    let rules = |play: &Play| play.simulation.world(|world| world.describe_rules(None, &arns)).expect("they are there");
    let before = rules(&play);
    play.deploy(&api, API, DeployOptions::default());
    play.expect_verdicts(&api, HOUR, &[Verdict::Succeeded]);
    assert_eq!(play.weights(&api), GREEN, "{}", play.journals());
    assert_eq!(rules(&play), before, "{}", play.journals());
}

/// A-S10: both are asked for at once. The API is bad, Web waits meanwhile, and neither its alarms nor its release are
/// blamed for it.
#[test]
fn two_pushes_at_once_are_deployed_one_at_a_time() {
    let mut play = running();
    let [api, web] = ["api", "web"].map(|service| play.target(&format!("skillancer/{service}/dev")));
    play.set_image(API, ImageBehaviour::failing(0.5));
    play.deploy(&api, API, DeployOptions::default());
    play.until(HOUR, "the API has begun", |play| play.has(&api, has_begun));
    play.deploy(&web, WEB, DeployOptions::default());
    let waits = |on: &WaitingOn| matches!(on, WaitingOn::Gate { gate: Gate::OneAtATime, .. });
    play.until(HOUR, "Web waits for the API", |play| play.is_waiting_on(&web, waits));
    play.expect_verdicts(&api, HOUR, &[Verdict::RolledBack]);
    play.expect_verdicts(&web, HOUR, &[Verdict::Succeeded]);
    let [api_ended, web_began] = [play.time_of(&api, has_ended), play.time_of(&web, has_begun)];
    assert!(web_began >= api_ended, "the API ended at {api_ended}, Web began at {web_began}");
    assert_eq!([play.weights(&api), play.weights(&web)], [BLUE, GREEN], "{}", play.journals());
}

/// Waits until the workers' release, good in dev, comes to staging.
#[track_caller]
fn workers_come_to_staging(play: &mut Play) -> TargetId {
    let [dev, staging] = ["dev", "staging"].map(|name| play.target(&format!("skillancer/workers/{name}")));
    play.deploy(&dev, WORKERS, DeployOptions::default());
    play.expect_verdicts(&dev, HOUR, &[Verdict::Succeeded]);
    play.until(HOUR, "staging begins", |play| play.state(&staging).running.is_some());
    staging
}

/// A-S4: ECS calls the worker healthy, and it exits after 50 s, again and again. It is rolled back, and the revision
/// before runs again.
#[test]
fn a_worker_that_exits_after_50_s_is_rolled_back() {
    let mut play = running();
    let before = play.service(&play.target("skillancer/workers/staging"), None).task_definition;
    let staging = workers_come_to_staging(&mut play);
    let exits = StartBehaviour::CrashLoop { exit_code: 1, after: Seconds(50) };
    play.set_image(WORKERS, ImageBehaviour::starting(exits));
    play.expect_verdicts(&staging, HOUR, &[Verdict::RolledBack]);
    let by_tasks = |fact: &Fact| matches!(fact, Fact::RollbackStarted { cause: Cause::Tasks { .. } });
    assert!(play.has(&staging, by_tasks), "{}", play.journals());
    assert_eq!(play.service(&staging, None).task_definition, before, "{}", play.journals());
    assert_eq!(play.tasks(&staging), [(2, 2)], "{}", play.journals());
}

/// Jobs fail with the new release: the alarm on the workers' log lines brings the revision before back.
#[test]
fn workers_whose_jobs_fail_are_rolled_back() {
    let mut play = running();
    let target = play.target("skillancer/workers/dev");
    let before = play.service(&target, None).task_definition;
    play.deploy(&target, WORKERS, DeployOptions::default());
    play.until(HOUR, "the new workers run", |play| play.stage(&target) == Some("baking"));
    play.fire("skillancer-dev-workers-failed-jobs", "12 jobs failed");
    play.expect_verdicts(&target, HOUR, &[Verdict::RolledBack]);
    assert_eq!(play.service(&target, None).task_definition, before, "{}", play.journals());
}

/// A-S5: one old task has a job of 30 minutes, and is protected. The deployment says that it waits for this task, and
/// the job is not cut off.
#[test]
fn a_worker_with_a_long_job_is_waited_for() {
    let mut play = running();
    let staging = workers_come_to_staging(&mut play);
    let cluster = || "skillancer-staging".to_owned();
    let list = ListTasks {
        cluster: cluster(),
        service_name: Some("workers".to_owned()),
        desired_status: Some("RUNNING".to_owned()),
        ..ListTasks::default()
    };
    let busy = play.simulation.world(|world| world.list_tasks(list)).expect("tasks are listed").remove(0);
    let protection = UpdateTaskProtection {
        cluster: cluster(),
        tasks: vec![busy.clone()],
        protection_enabled: true,
        expires_in_minutes: Some(30),
    };
    let (_, failures) =
        play.simulation.world(|world| world.update_task_protection(&protection)).expect("the cluster is there");
    assert!(failures.is_empty(), "{failures:?}");
    let ends = Seconds(30 * 60).after(play.simulation.now());
    let waits = |on: &WaitingOn| matches!(on, WaitingOn::Replacing { protected: 1, others: 1, .. });
    play.until(HOUR, "it waits for the protected task", |play| play.is_waiting_on(&staging, waits));
    play.expect_verdicts(&staging, 2 * HOUR, &[Verdict::Succeeded]);
    let (tasks, _) = play
        .simulation
        .world(|world| world.describe_tasks(&cluster(), std::slice::from_ref(&busy)))
        .expect("the cluster is there");
    let stopped = tasks.first().and_then(|task| task.stopping_at);
    assert!(stopped.is_some_and(|at| at >= ends), "the job was cut off at {stopped:?}, not after {ends}");
}
