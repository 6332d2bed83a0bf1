//! Releases that cannot be switched back by themselves: in trouble they await an operator.

use crate::pipeline::{HOUR, Pipeline, PipelineBuilder, carol, name, target};
use rollout::journal::Fact;
use rollout::policy::{Hook, HookAction, HookPoint};
use rollout::verdict::{Cause, Verdict};
use rollout::{DeployOptions, Instruction, Reading, Seconds, TargetId};
use simulation::virtual_time::PushAnnouncement;
use simulation::world::{FunctionBehaviour, Health, ImageBehaviour, RunTaskBehaviour};

fn dev() -> TargetId {
    target("shop/api/dev")
}

fn frozen(fact: &Fact) -> bool {
    matches!(fact, Fact::AwaitingOperator { .. })
}

/// v1 is bad, and cannot be switched back: awaits an operator at 10 %.
fn pipeline() -> Pipeline {
    let mut pipeline = PipelineBuilder::of(&["api/dev"]).build();
    pipeline.set_image(1, ImageBehaviour::failing(0.5));
    pipeline.simulation.push_service(&name("api"), 1, PushAnnouncement::Silent);
    pipeline.deploy(&dev(), 1, DeployOptions { forward_only: true, ..DeployOptions::default() });
    pipeline.until(HOUR, "it awaits an operator", |pipeline| pipeline.has(&dev(), frozen));
    pipeline
}

#[test]
fn an_alarm_pauses_the_shift_and_records_evidence() {
    let mut pipeline = pipeline();
    pipeline.simulation.run_for(2 * HOUR);
    assert_eq!(pipeline.weights(&dev()), (90, 10), "{}", pipeline.journal_texts());
    assert_eq!(pipeline.verdicts(&dev()), [], "{}", pipeline.journal_texts());
    assert_eq!(pipeline.count(&dev(), frozen), 1, "recorded once{}", pipeline.journal_texts());
    let entry = pipeline.journal(&dev()).into_iter().find(|entry| frozen(&entry.fact)).expect("it is there");
    let Fact::AwaitingOperator { cause, evidence } = entry.fact else { unreachable!() };
    let Cause::Alarm { name, .. } = &cause else { panic!("{cause:?}") };
    let Reading::Known(alarms) = &evidence.alarms else { panic!("{evidence:?}") };
    assert!(alarms.contains_key(name), "the alarm is in evidence: {evidence:?}");
    assert!(!pipeline.has(&dev(), |fact| matches!(fact, Fact::RollbackStarted { .. })), "{}", pipeline.journal_texts());
}

#[test]
fn an_operator_can_roll_back() {
    let mut pipeline = pipeline();
    pipeline.ask(&dev(), Instruction::Rollback, carol(), "the migration is undone");
    pipeline.expect_verdicts(&dev(), HOUR, &[Verdict::RolledBack]);
    assert_eq!(pipeline.weights(&dev()), (100, 0));
    assert_eq!(pipeline.state(&dev()).operator_hold, None);
    pipeline.wait_until_idle(HOUR);
}

#[test]
fn an_operator_can_resume_despite_the_alarm() {
    let mut pipeline = pipeline();
    pipeline.simulation.run_for(600);
    // The alarm still fires when it is resumed, and is put right a moment later.
    pipeline.ask(&dev(), Instruction::Resume, carol(), "the fix is in the database");
    pipeline.simulation.run_for(15);
    pipeline.set_image(1, ImageBehaviour::default());
    pipeline.expect_verdicts(&dev(), HOUR, &[Verdict::Succeeded]);
    assert!(pipeline.has(&dev(), |fact| matches!(fact, Fact::OperatorResumed { .. })), "{}", pipeline.journal_texts());
    assert_eq!(pipeline.count(&dev(), frozen), 1, "{}", pipeline.journal_texts());
    pipeline.wait_until_idle(HOUR);
}

#[test]
fn a_recurring_alarm_pauses_it_again() {
    let mut pipeline = pipeline();
    pipeline.set_image(1, ImageBehaviour::default());
    // Until its alarm has been OK nobody could tell new trouble from old.
    pipeline.simulation.run_for(60);
    pipeline.ask(&dev(), Instruction::Resume, carol(), "the fix is in the database");
    pipeline.until(HOUR, "it widens", |pipeline| pipeline.weights(&dev()) == (50, 50));
    pipeline.set_image(1, ImageBehaviour::failing(0.5));
    pipeline.until(120, "it awaits an operator again", |pipeline| pipeline.count(&dev(), frozen) == 2);
    assert_eq!(pipeline.weights(&dev()), (50, 50), "{}", pipeline.journal_texts());
    pipeline.ask(&dev(), Instruction::Abort { deployment: None }, carol(), "we fix it forward");
    pipeline.until(HOUR, "it is over", |pipeline| pipeline.state(&dev()).running.is_none());
    assert_eq!(pipeline.weights(&dev()), (50, 50), "abort leaves everything as it is{}", pipeline.journal_texts());
    pipeline.wait_until_idle(HOUR);
}

#[test]
fn without_a_decision_the_target_stays_blocked_until_resumed() {
    let mut pipeline = pipeline();
    pipeline.until(25 * HOUR, "it lets go", |pipeline| pipeline.state(&dev()).running.is_none());
    let paused_at = pipeline.time_of(&dev(), frozen);
    let ended_at = pipeline.time_of(&dev(), |fact| matches!(fact, Fact::Ended { .. }));
    assert!(Seconds::between(paused_at, ended_at).0 >= 24 * HOUR, "{}", pipeline.journal_texts());
    assert_eq!(pipeline.weights(&dev()), (90, 10), "nothing was touched{}", pipeline.journal_texts());
    let freeze = pipeline.state(&dev()).operator_hold.expect("the target awaits an operator");
    assert_eq!(freeze.deployment, 1);
    pipeline.wait_until_idle(HOUR);

    // The next release, which mends it, waits for a person.
    pipeline.set_image(1, ImageBehaviour::default());
    pipeline.push("api", 2);
    pipeline.until(120, "it waits", |pipeline| pipeline.waiting_gates(&dev()).contains(&"freeze".to_owned()));
    pipeline.simulation.run_for(HOUR);
    assert_eq!(pipeline.simulation.at(&dev()).stage_name(), Some("gated"), "{}", pipeline.journal_texts());
    pipeline.ask(&dev(), Instruction::Resume, carol(), "v2 mends it");
    pipeline.until(60, "it begins", |pipeline| pipeline.simulation.at(&dev()).stage_name() != Some("gated"));
    assert_eq!(pipeline.state(&dev()).operator_hold, None);
}

#[test]
fn a_started_migration_makes_a_deployment_forward_only() {
    let mut pipeline = PipelineBuilder::of(&["api/dev"])
        .policy(|policy| {
            let rules = crate::pipeline::environment_of(policy, "dev");
            rules.targets.get_mut(&name("api")).expect("a target").hooks = vec![Hook {
                name: name("migrate"),
                at: HookPoint::BeforeTraffic,
                run: HookAction::Task { container: "app".to_owned(), command: vec!["migrate".to_owned()] },
                deadline: Seconds(120),
                forward_only: true,
            }];
        })
        .build();
    pipeline.set_image(1, ImageBehaviour::failing(0.5));
    pipeline.push("api", 1);
    pipeline.until(HOUR, "it awaits an operator", |pipeline| pipeline.has(&dev(), frozen));
    pipeline.simulation.run_for(600);
    assert_eq!(pipeline.weights(&dev()), (90, 10), "{}", pipeline.journal_texts());
    pipeline.ask(&dev(), Instruction::Rollback, carol(), "the old code can read it");
    pipeline.expect_verdicts(&dev(), HOUR, &[Verdict::RolledBack]);
}

#[test]
fn failing_before_any_traffic_shift_ends_the_deployment() {
    let mut pipeline = PipelineBuilder::of(&["api/dev"]).build();
    pipeline.set_image(1, ImageBehaviour::never_healthy());
    pipeline.simulation.push_service(&name("api"), 1, PushAnnouncement::Silent);
    pipeline.deploy(&dev(), 1, DeployOptions { forward_only: true, ..DeployOptions::default() });
    pipeline.expect_verdicts(&dev(), HOUR, &[Verdict::Failed]);
    assert!(!pipeline.has(&dev(), frozen), "{}", pipeline.journal_texts());
    assert_eq!(pipeline.weights(&dev()), (100, 0));
    pipeline.wait_until_idle(HOUR);
    // A hook of it that fails before anything moved, too.
    let fails = RunTaskBehaviour::Exits { after: Seconds(5), exit_code: 1 };
    pipeline.set_image(2, ImageBehaviour::running(fails));
    pipeline.apply(|policy| {
        let rules = crate::pipeline::environment_of(policy, "dev");
        rules.targets.get_mut(&name("api")).expect("a target").hooks = vec![Hook {
            name: name("migrate"),
            at: HookPoint::BeforeTraffic,
            run: HookAction::Task { container: "app".to_owned(), command: vec![] },
            deadline: Seconds(120),
            forward_only: true,
        }];
    });
    pipeline.push("api", 2);
    pipeline.expect_verdicts(&dev(), HOUR, &[Verdict::Failed, Verdict::Failed]);
    assert!(!pipeline.has(&dev(), frozen), "{}", pipeline.journal_texts());
    pipeline.wait_until_idle(HOUR);
}

/// In trouble of every kind it awaits an operator; when that is over and somebody says so, the deployment goes through.
#[test]
fn deployment_succeeds_once_the_cause_is_fixed_and_resumed() {
    let announce = |policy: &mut rollout::policy::Policy| {
        let rules = crate::pipeline::environment_of(policy, "dev");
        rules.targets.get_mut(&name("api")).expect("a target").hooks = vec![Hook {
            name: name("announce"),
            at: HookPoint::AfterTraffic,
            run: HookAction::Lambda { function: "announce".to_owned() },
            deadline: Seconds(60),
            forward_only: false,
        }];
    };
    type PipelineChange = fn(&Pipeline);
    let make_unhealthy = |pipeline: &Pipeline| {
        pipeline.set_image(1, ImageBehaviour { health: Health::Never, ..ImageBehaviour::default() })
    };
    let make_healthy = |pipeline: &Pipeline| pipeline.set_image(1, ImageBehaviour::default());
    let deny =
        |pipeline: &Pipeline| pipeline.simulation.world(|world| world.deny("elasticloadbalancing:ModifyRule", true));
    let allow =
        |pipeline: &Pipeline| pipeline.simulation.world(|world| world.deny("elasticloadbalancing:ModifyRule", false));
    let make_hook_fail = |pipeline: &Pipeline| {
        pipeline
            .simulation
            .world(|world| world.put_function("announce", FunctionBehaviour::fails("the cart is empty")));
    };
    let make_hook_succeed = |pipeline: &Pipeline| {
        pipeline.simulation.world(|world| world.put_function("announce", FunctionBehaviour::succeeds()));
    };
    let troubles: [(&str, PipelineChange, PipelineChange); 3] = [
        ("no healthy target", make_unhealthy, make_healthy),
        ("denied", deny, allow),
        ("a hook says no", make_hook_fail, make_hook_succeed),
    ];
    for (what, introduce, recover) in troubles {
        let mut pipeline = PipelineBuilder::of(&["api/dev"]).policy(announce).build();
        make_hook_succeed(&pipeline);
        pipeline.simulation.push_service(&name("api"), 1, PushAnnouncement::Silent);
        pipeline.deploy(&dev(), 1, DeployOptions { forward_only: true, ..DeployOptions::default() });
        pipeline.until(HOUR, "traffic moves", |pipeline| pipeline.weights(&dev()) == (90, 10));
        introduce(&pipeline);
        pipeline.until(2 * HOUR, what, |pipeline| pipeline.has(&dev(), frozen));
        let paused_weights = pipeline.weights(&dev());
        assert_ne!(paused_weights, (100, 0), "{what}{}", pipeline.journal_texts());
        pipeline.simulation.run_for(HOUR);
        assert_eq!(pipeline.weights(&dev()), paused_weights, "{what}: it moved{}", pipeline.journal_texts());
        recover(&pipeline);
        pipeline.simulation.run_for(120);
        pipeline.ask(&dev(), Instruction::Resume, carol(), "it is put right");
        pipeline.expect_verdicts(&dev(), HOUR, &[Verdict::Succeeded]);
        assert_eq!(pipeline.count(&dev(), frozen), 1, "{what}{}", pipeline.journal_texts());
        pipeline.wait_until_idle(HOUR);
    }
}
