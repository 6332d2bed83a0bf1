//! One workload changes its version in place: what it does forward and back, and what it never takes for good news.

mod worker;

use crate::fixture::{deploy, new_command, start};
use rollout::brake::{Brake, Scope};
use rollout::explanation::WaitingOn;
use rollout::policy::{AlarmPolicy, Hook, HookAction, HookPoint};
use rollout::promotion::{GateContext, ImageState};
use rollout::snapshot::{RolloutReading, TaskReading, TasksReading};
use rollout::{Actor, Cause, DeployOptions, Effect, Fact, Instruction, Name, Reading, Seconds, Verdict, decide};
use worker::{OLD, TAKES, Worker, worker};

fn new_version(worker: &Worker) -> String {
    worker.versions_set().first().map(|version| (*version).to_owned()).expect("a version was set")
}

#[test]
fn a_release_replaces_what_runs_and_is_verified_after_its_bake() {
    let mut worker = Worker::new();
    worker.run("v2");
    assert_eq!(worker.end().0, Verdict::Succeeded, "{}", worker.end().1);
    assert_eq!(worker.stages(), ["registering", "replacing", "baking"]);
    let stable = worker.state.stable.clone().unwrap();
    assert_eq!((stable.slot, stable.release.unwrap().tag.as_str()), (None, "v2"));
    assert_eq!(stable.version, worker.version());
    assert_eq!(worker.state.previous.as_ref().map(|previous| previous.version.as_str()), Some(OLD));
    assert_eq!(worker.state.verified.len(), 1);
    assert!(worker.now >= Seconds(TAKES.0 + 120).after(start()), "replaced, then baked for two minutes");
}

#[test]
fn steady_is_not_enough_the_new_version_must_run_everywhere() {
    let mut worker = Worker::new();
    worker.decide(&[deploy("v2")]);
    worker.run_until(|worker| worker.stage() == "replacing" && worker.version() != OLD);
    // ECS calls it complete, and one task of another version still runs.
    for (others, running, healthy) in [(1, 3, 3), (0, 2, 2), (0, 3, 2)] {
        worker.replacing = None;
        let workload = worker.workload();
        workload.rollout = RolloutReading::Complete;
        (workload.others, workload.running) = (others, running);
        workload.tasks = Some(TasksReading { healthy, protected: 0 });
        worker.decide(&[]);
        assert_eq!(worker.stage(), "replacing", "{others} others, {running} running, {healthy} healthy");
    }
    // And the other way round: everything runs, and ECS has not called it complete.
    let workload = worker.workload();
    (workload.others, workload.running, workload.rollout) = (0, 3, RolloutReading::InProgress { since: None });
    workload.tasks = Some(TasksReading { healthy: 3, protected: 0 });
    worker.decide(&[]);
    assert_eq!(worker.stage(), "replacing");
}

#[test]
fn a_version_that_runs_another_image_goes_back() {
    let mut worker = Worker::new();
    worker.decide(&[deploy("v2")]);
    worker.run_until(|worker| worker.stage() == "replacing" && worker.version() != OLD);
    worker.workload().digest = Some(format!("sha256:{:064x}", 1));
    worker.run_until(|worker| worker.stage() == "rolling_back");
    worker.workload().digest = None;
    worker.run_until(|_| false);
    assert_eq!((worker.end().0, worker.version()), (Verdict::RolledBack, OLD), "{}", worker.end().1);
}

#[test]
fn a_crash_loop_goes_back_after_the_second_task() {
    let mut worker = Worker::new();
    worker.decide(&[deploy("v2")]);
    worker.run_until(|worker| worker.version() != OLD);
    worker.broken.push(worker.version().to_owned());
    worker.run_until(|_| false);
    let (verdict, reason) = worker.end();
    assert_eq!((verdict, worker.version()), (Verdict::RolledBack, OLD), "{reason}");
    assert!(reason.contains("exit code 1"), "{reason}");
    assert_eq!(worker.versions_set().last(), Some(&OLD));
    assert!(worker.workload().is_replaced(), "everything that runs is of the version before");
    assert!(worker.state.verified.is_empty());
}

#[test]
fn an_alarm_in_the_bake_goes_back_and_proves_it() {
    let mut worker = Worker::new();
    worker.decide(&[deploy("v2")]);
    worker.run_until(|worker| worker.stage() == "baking");
    worker.fire_alarm();
    worker.run_until(|_| false);
    let (verdict, reason) = worker.end();
    assert_eq!((verdict, worker.version()), (Verdict::RolledBack, OLD), "{reason}");
    assert!(reason.contains("api-5xx"), "{reason}");
    assert!(worker.journal_has(|fact| matches!(fact, Fact::Replaced { version, .. } if version == OLD)));
}

#[test]
fn a_version_before_that_was_deregistered_is_registered_again() {
    let mut worker = Worker::new();
    worker.decide(&[deploy("v2")]);
    worker.run_until(|worker| worker.stage() == "baking");
    worker.deregistered.push(OLD.to_owned());
    worker.fire_alarm();
    worker.run_until(|_| false);
    assert_eq!(worker.end().0, Verdict::RolledBack, "{}", worker.end().1);
    assert_eq!(worker.version(), "td:old-again");
    assert_eq!(worker.state.stable.as_ref().map(|stable| stable.version.as_str()), Some("td:old-again"));
}

#[test]
fn nothing_replaces_a_version_that_could_not_be_started_again() {
    let mut worker = Worker::new();
    worker.run("v2");
    let stable = worker.state.stable.clone().and_then(|stable| stable.release).expect("v2 is stable");
    worker.images.insert(stable.id.digest, Reading::Known(ImageState::Gone));
    let version = worker.version().to_owned();
    worker.run("v3");
    let (verdict, reason) = worker.end();
    assert_eq!((verdict, worker.version()), (Verdict::Failed, version.as_str()), "{reason}");
    assert!(reason.contains("v2") && reason.contains("--forward-only"), "{reason}");
    // Whoever wants no way back may go on.
    let mut forward_only = deploy("v4");
    if let Instruction::Deploy { options, .. } = &mut forward_only.instruction {
        options.forward_only = true;
    }
    worker.decide(&[forward_only]);
    worker.run_until(|_| false);
    assert_eq!(worker.end().0, Verdict::Succeeded, "{}", worker.end().1);
}

#[test]
fn a_rollback_that_cannot_be_proven_does_not_claim_to_have_worked() {
    let mut worker = Worker::new();
    worker.broken.push(OLD.to_owned());
    worker.decide(&[deploy("v2")]);
    worker.run_until(|worker| worker.stage() == "baking");
    worker.fire_alarm();
    worker.run_until(|_| false);
    let (verdict, reason) = worker.end();
    assert_eq!(verdict, Verdict::Failed, "{reason}");
    assert!(reason.contains("0 of 3 tasks healthy"), "{reason}");
}

#[test]
fn the_platforms_own_rollback_is_noticed_and_proven() {
    let mut worker = Worker::new();
    worker.decide(&[deploy("v2")]);
    worker.run_until(|worker| worker.stage() == "replacing" && worker.now > Seconds(20).after(start()));
    worker.set(OLD);
    worker.run_until(|_| false);
    let (verdict, reason) = worker.end();
    assert_eq!((verdict, worker.version()), (Verdict::RolledBack, OLD), "{reason}");
    assert!(reason.contains("old was set again"), "{reason}");
}

#[test]
fn a_release_that_runs_already_but_is_broken_is_set_again() {
    let mut worker = Worker::new();
    let command = deploy("v2");
    if let Instruction::Deploy { image, .. } = &command.instruction {
        let version = format!("td:{image}");
        worker.workload().image = Some(image.clone());
        worker.workload().version = version;
    }
    worker.workload().rollout = RolloutReading::Failed { reason: "tasks failed to start".to_owned() };
    worker.workload().running = 0;
    worker.decide(&[command]);
    worker.run_until(|worker| !worker.effects.is_empty() && worker.stage() == "replacing");
    worker.now = Seconds(5).after(worker.now);
    // The reading is still that of the attempt before.
    worker.decide(&[]);
    assert_eq!(worker.stage(), "replacing");
    let workload = worker.workload();
    (workload.rollout, workload.running) = (RolloutReading::Complete, 3);
    worker.run_until(|_| false);
    assert_eq!(worker.end().0, Verdict::Succeeded, "{}", worker.end().1);
    assert_eq!(worker.versions_set().len(), 1);
}

#[test]
fn a_version_that_somebody_else_sets_is_not_overwritten_to_go_forward() {
    let mut worker = Worker::new();
    worker.decide(&[deploy("v2")]);
    worker.run_until(|worker| worker.stage() == "baking");
    worker.set("td:theirs");
    worker.run_until(|_| false);
    let (verdict, reason) = worker.end();
    assert_eq!((verdict, worker.version()), (Verdict::Failed, "td:theirs"), "{reason}");
    assert!(worker.journal_has(|fact| matches!(fact, Fact::Halted { .. })));
}

#[test]
fn a_version_that_somebody_else_sets_is_overwritten_to_go_back() {
    let mut worker = Worker::new();
    worker.decide(&[deploy("v2")]);
    worker.run_until(|worker| worker.stage() == "baking");
    worker.set("td:theirs");
    worker.run_until(|worker| worker.journal_has(|fact| matches!(fact, Fact::Halted { .. })));
    worker.fire_alarm();
    worker.run_until(|_| false);
    assert_eq!((worker.end().0, worker.version()), (Verdict::RolledBack, OLD), "{}", worker.end().1);
    let replaced = |fact: &Fact| matches!(fact, Fact::ForeignVersionReplaced { found, .. } if found == "td:theirs");
    assert!(worker.journal_has(replaced));
}

#[test]
fn a_version_that_appears_before_anything_was_changed_ends_the_deployment() {
    let mut policy = worker();
    policy.hooks.push(Hook {
        name: Name::new("migrate").unwrap(),
        at: HookPoint::BeforeTraffic,
        run: HookAction::Task { container: "worker".to_owned(), command: vec![] },
        deadline: Seconds(600),
        forward_only: false,
    });
    let mut worker = Worker::with(policy);
    worker.decide(&[deploy("v2")]);
    worker.run_until(|worker| worker.stage() == "before_traffic");
    worker.now = Seconds(30).after(worker.now);
    worker.set("td:theirs");
    worker.snapshot.hook_tasks.insert("migrate".to_owned(), Reading::Known(TaskReading::Running));
    worker.run_until(|_| false);
    assert_eq!((worker.end().0, worker.version()), (Verdict::Failed, "td:theirs"), "{}", worker.end().1);
    assert!(worker.versions_set().is_empty());
}

#[test]
fn protected_tasks_are_waited_for_and_counted() {
    let mut worker = Worker::new();
    worker.protected = 2;
    worker.decide(&[deploy("v2")]);
    let long = Seconds(6 * 3600).after(start());
    worker.run_until(|worker| worker.now >= long);
    assert_eq!(worker.stage(), "replacing", "longer than the deadline of healthy tasks");
    let waits = &worker.state.explanation.waiting_on;
    let counted = |on: &WaitingOn| matches!(on, WaitingOn::Replacing { others: 2, protected: 2, healthy: 3, .. });
    assert!(waits.iter().any(counted), "{waits:?}");
    worker.protected = 0;
    worker.run_until(|_| false);
    assert_eq!(worker.end().0, Verdict::Succeeded, "{}", worker.end().1);
}

#[test]
fn a_replacement_that_does_not_end_goes_back_at_its_deadline() {
    let mut worker = Worker::new();
    worker.decide(&[deploy("v2")]);
    worker.run_until(|worker| worker.version() != OLD);
    worker.replacing = None;
    worker.run_until(|worker| worker.stage() == "rolling_back");
    worker.run_until(|_| false);
    assert_eq!((worker.end().0, worker.version()), (Verdict::RolledBack, OLD), "{}", worker.end().1);
    assert!(worker.end().1.contains("0 of 3 tasks healthy"), "{}", worker.end().1);
}

#[test]
fn forward_only_waits_for_an_operator_from_the_first_task_on() {
    let forward_only = |tag| {
        let mut command = deploy(tag);
        if let Instruction::Deploy { options, .. } = &mut command.instruction {
            *options = DeployOptions { forward_only: true, ..options.clone() };
        }
        command
    };
    let mut worker = Worker::new();
    worker.decide(&[forward_only("v2")]);
    worker.run_until(|worker| worker.stage() == "replacing");
    worker.fire_alarm();
    worker.run_until(|worker| worker.now > Seconds(3600).after(start()));
    assert!(worker.state.running.as_ref().unwrap().awaiting_operator().is_some(), "{}", worker.stage());
    assert_ne!(worker.version(), OLD, "it stays as it is");
    worker.decide(&[new_command(Instruction::Rollback, "r1")]);
    worker.run_until(|_| false);
    assert_eq!((worker.end().0, worker.version()), (Verdict::RolledBack, OLD), "{}", worker.end().1);

    let mut worker = Worker::new();
    worker.decide(&[forward_only("v2")]);
    worker.run_until(|worker| worker.stage() == "replacing");
    worker.fire_alarm();
    worker.run_until(|worker| worker.now > Seconds(3600).after(start()));
    worker.decide(&[new_command(Instruction::Resume, "r2")]);
    worker.run_until(|_| false);
    assert_eq!(worker.end().0, Verdict::Succeeded, "{}", worker.end().1);
}

#[test]
fn a_rollback_command_deploys_the_release_before() {
    let mut worker = Worker::new();
    worker.run("v2");
    let v2 = worker.version().to_owned();
    worker.run("v3");
    worker.effects.clear();
    worker.decide(&[new_command(Instruction::Rollback, "r1")]);
    worker.run_until(|_| false);
    assert_eq!(worker.end().0, Verdict::Succeeded, "{}", worker.end().1);
    assert_eq!(worker.state.stable.clone().unwrap().release.unwrap().tag, "v2");
    let template = worker.effects.iter().find_map(|effect| match effect {
        Effect::RegisterVersion { template, .. } => Some(template.clone()),
        _ => None,
    });
    assert_eq!(template, Some(v2), "from its own version, whether that is registered or not");
}

#[test]
fn an_abort_before_anything_was_set_changes_nothing() {
    let mut worker = Worker::new();
    worker.decide(&[deploy("v2")]);
    worker.run_until(|worker| worker.stage() == "registering");
    worker.decide(&[new_command(Instruction::Abort { deployment: None }, "a1")]);
    worker.run_until(|_| false);
    assert_eq!((worker.end().0, worker.version()), (Verdict::Cancelled, OLD));
    assert!(worker.versions_set().is_empty());
}

#[test]
fn a_service_at_0_tasks_waits_until_it_is_scaled_up() {
    let mut worker = Worker::new();
    worker.run("v2");
    worker.workload().desired = 0;
    worker.workload().running = 0;
    worker.decide(&[deploy("v3")]);
    worker.run_until(|worker| worker.now > Seconds(4 * 3600).after(start()));
    assert_eq!(worker.stage(), "gated");
    worker.workload().desired = 3;
    worker.workload().running = 3;
    worker.run_until(|_| false);
    assert_eq!(worker.end().0, Verdict::Succeeded, "{}", worker.end().1);
    assert_eq!(worker.state.stable.clone().unwrap().release.unwrap().tag, "v3");
}

#[test]
fn what_the_platform_is_still_busy_with_is_waited_for_but_not_for_ever() {
    let mut worker = Worker::new();
    let since = Some(start());
    worker.workload().rollout = RolloutReading::InProgress { since };
    worker.decide(&[deploy("v2")]);
    worker.run_until(|worker| worker.now > Seconds(120).after(start()));
    assert_eq!(worker.stage(), "preflight");
    // A version that never comes up: its repair is let in after the time that a deployment has.
    worker.applied.policy.deadlines.preflight = Seconds(3600);
    worker.run_until(|worker| worker.stage() != "preflight");
    assert!(worker.stage() == "registering" || worker.end().0 == Verdict::Failed, "{}", worker.stage());

    let mut worker = Worker::new();
    worker.workload().rollout = RolloutReading::Failed { reason: "tasks failed to start".to_owned() };
    worker.workload().running = 0;
    worker.run("v2");
    assert_eq!(worker.end().0, Verdict::Succeeded, "a repair of what is broken starts: {}", worker.end().1);
}

#[test]
fn a_release_that_runs_already_changes_nothing() {
    let mut worker = Worker::new();
    let command = deploy("v2");
    if let Instruction::Deploy { image, .. } = &command.instruction {
        worker.workload().image = Some(image.clone());
    }
    worker.decide(&[command]);
    worker.run_until(|_| false);
    assert_eq!(worker.end().0, Verdict::Succeeded);
    assert!(worker.effects.is_empty(), "{:?}", worker.effects);
    assert_eq!(worker.state.stable.clone().unwrap().version, OLD);
}

#[test]
fn an_unreadable_workload_moves_nothing_and_a_rollback_sets_the_version_before_blind() {
    let mut worker = Worker::new();
    worker.decide(&[deploy("v2")]);
    worker.run_until(|worker| worker.stage() == "baking");
    let known = worker.snapshot.workload.clone();
    worker.snapshot.workload = Reading::Unknown("throttled".to_owned());
    worker.fire_alarm();
    worker.effects.clear();
    worker.snapshot.throttled = true;
    let seen = worker.snapshot.clone();
    let context = GateContext::empty();
    let inbox = rollout::Inbox { commands: &[], policy: Some(&worker.applied), gate_context: Some(&context) };
    let decision = decide(&worker.state, &inbox, Some(&seen), worker.now);
    let sets_it = |effect: &Effect| matches!(effect, Effect::ReplaceVersion { version } if version == OLD);
    assert!(decision.effects.iter().any(sets_it), "{:?}", decision.effects);
    worker.snapshot.workload = known;
    worker.snapshot.throttled = false;
    worker.run_until(|_| false);
    assert_eq!((worker.end().0, worker.version()), (Verdict::RolledBack, OLD), "{}", worker.end().1);
}

#[test]
fn a_lost_answer_to_the_request_is_repeated_not_believed() {
    let mut worker = Worker::new();
    worker.decide(&[deploy("v2")]);
    worker.run_until(|worker| worker.stage() == "replacing" && worker.version() != OLD);
    let version = new_version(&worker);
    assert_eq!(worker.versions_set(), [version.as_str()]);
    // Somebody asks for a rollback while the last request is still without an outcome: the version before is set, although
    // a reading that may be old shows it.
    worker.set(OLD);
    worker.effects.clear();
    worker.decide(&[new_command(Instruction::Rollback, "r1")]);
    worker.run_until(|_| false);
    assert_eq!(worker.versions_set(), [OLD]);
    assert_eq!((worker.end().0, worker.version()), (Verdict::RolledBack, OLD), "{}", worker.end().1);
}

#[test]
fn alarms_of_the_policy_are_watched_while_the_platform_replaces() {
    let mut policy = worker();
    policy.alarms = vec![AlarmPolicy::new("api-5xx".to_owned())];
    let mut worker = Worker::with(policy);
    worker.decide(&[deploy("v2")]);
    worker.run_until(|worker| worker.stage() == "replacing" && worker.version() != OLD);
    worker.fire_alarm();
    worker.decide(&[]);
    assert_eq!(worker.stage(), "rolling_back");
}

#[test]
fn a_version_that_the_platform_has_given_up_goes_back_at_once() {
    let mut worker = Worker::new();
    worker.decide(&[deploy("v2")]);
    worker.run_until(|worker| worker.stage() == "replacing" && worker.version() != OLD);
    worker.workload().gave_up = Some("3 tasks failed to start".to_owned());
    worker.decide(&[]);
    assert_eq!(worker.stage(), "rolling_back");
    assert!(worker.journal_has(|fact| matches!(fact, Fact::RollbackStarted { cause: Cause::Tasks { reason } }
        if reason.contains("3 tasks failed to start"))));
}

#[test]
fn a_version_that_somebody_else_sets_right_after_the_request_is_not_overwritten() {
    let mut worker = Worker::new();
    worker.decide(&[deploy("v2")]);
    worker.run_until(|worker| !worker.versions_set().is_empty());
    worker.set("td:theirs");
    worker.run_until(|_| false);
    assert_eq!((worker.end().0, worker.version()), (Verdict::Failed, "td:theirs"), "{}", worker.end().1);
    assert_eq!(worker.versions_set().len(), 1);
}

#[test]
fn nothing_is_replaced_while_the_line_is_stopped() {
    let mut policy = worker();
    policy.hooks.push(Hook {
        name: Name::new("migrate").unwrap(),
        at: HookPoint::BeforeTraffic,
        run: HookAction::Task { container: "worker".to_owned(), command: vec![] },
        deadline: Seconds(600),
        forward_only: false,
    });
    let mut worker = Worker::with(policy);
    worker.decide(&[deploy("v2")]);
    worker.run_until(|worker| worker.stage() == "before_traffic");
    let by = Actor::Person { name: "ada".to_owned() };
    let since = worker.now;
    worker.brakes.push(Brake { scope: Scope::Everything, by, reason: "an incident".to_owned(), since, until: None });
    worker.snapshot.hook_tasks.insert(
        "migrate".to_owned(),
        Reading::Known(TaskReading::Stopped { exit_code: Some(0), reason: String::new() }),
    );
    let two_hours_later = Seconds(2 * 3600).after(since);
    worker.run_until(|worker| worker.now >= two_hours_later);
    assert!(worker.versions_set().is_empty());
    worker.brakes.clear();
    worker.run_until(|_| false);
    assert_eq!(worker.end().0, Verdict::Succeeded, "{}", worker.end().1);
}
