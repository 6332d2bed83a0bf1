//! Freezes and the stopped line: what begins waits, what runs stays watched, and nothing keeps a rollback from its way.

use crate::pipeline::{HOUR, Pipeline, PipelineBuilder, carol, environment_of, name, target};
use rollout::brake::{Brake, Scope};
use rollout::entry::{FreezePeriod, Window};
use rollout::journal::Fact;
use rollout::policy::{Hook, HookAction, HookPoint, Trigger};
use rollout::verdict::{Cause, Verdict};
use rollout::{Gate, Instruction, Seconds, TargetId, Timestamp};
use simulation::world::{ImageBehaviour, Settings};

fn dev() -> TargetId {
    target("shop/api/dev")
}

fn application_scope() -> Scope {
    Scope::Application { application: name("shop") }
}

fn pipeline() -> Pipeline {
    PipelineBuilder::of(&["api/dev"]).build()
}

fn is_at_10_percent(pipeline: &Pipeline) -> bool {
    pipeline.weights(&dev()) == (90, 10)
}

#[test]
fn a_freeze_delays_a_start_until_lifted() {
    let mut pipeline = pipeline();
    pipeline.brake(application_scope(), "the audit");
    pipeline.push("api", 1);
    pipeline.simulation.run_for(HOUR);
    assert_eq!(pipeline.waiting_gates(&dev()), ["freeze"], "{}", pipeline.journal_texts());
    let gate_wait_recorded = |fact: &Fact| matches!(fact, Fact::BlockedByGate { gate: Gate::Freeze, reason, .. } if reason.contains("the audit"));
    assert_eq!(pipeline.count(&dev(), gate_wait_recorded), 1, "recorded once{}", pipeline.journal_texts());
    assert_eq!(pipeline.weights(&dev()), (100, 0));
    pipeline.lift_brake(&application_scope());
    let lifted = pipeline.simulation.now();
    pipeline.until(30, "it begins", |pipeline| pipeline.simulation.at(&dev()).stage_name() != Some("gated"));
    assert!(
        Seconds::between(lifted, pipeline.simulation.now()).0 <= 5,
        "whoever waits was woken{}",
        pipeline.journal_texts()
    );
    pipeline.expect_verdicts(&dev(), HOUR, &[Verdict::Succeeded]);
    pipeline.wait_until_idle(HOUR);
}

#[test]
fn freezes_elsewhere_or_expired_delay_nothing() {
    let mut pipeline = pipeline();
    pipeline.brake(Scope::Environment { application: name("shop"), environment: name("prod") }, "the audit");
    pipeline.brake(Scope::Application { application: name("blog") }, "the audit");
    let since = pipeline.simulation.now();
    let expired_brake = Brake {
        scope: application_scope(),
        by: carol(),
        reason: "an hour ago".to_owned(),
        since,
        until: Some(Seconds(1).after(since)),
    };
    pipeline.simulation.ledger().store().put_brake(&expired_brake);
    pipeline.simulation.run_for(2);
    pipeline.push("api", 1);
    pipeline.expect_verdicts(&dev(), HOUR, &[Verdict::Succeeded]);
    assert!(!pipeline.has(&dev(), |fact| matches!(fact, Fact::BlockedByGate { .. })), "{}", pipeline.journal_texts());
}

#[test]
fn a_freeze_expires_at_its_end_time() {
    let mut pipeline = pipeline();
    let since = pipeline.simulation.now();
    let until = Seconds(1_800).after(since);
    let brake =
        Brake { scope: application_scope(), by: carol(), reason: "the audit".to_owned(), since, until: Some(until) };
    pipeline.simulation.ledger().store().put_brake(&brake);
    pipeline.push("api", 1);
    pipeline.expect_verdicts(&dev(), HOUR, &[Verdict::Succeeded]);
    let started_at = pipeline.time_of(&dev(), |fact| matches!(fact, Fact::GateOpened { gate: Gate::Freeze, .. }));
    assert!(
        started_at >= until && Seconds::between(until, started_at).0 <= 5,
        "{started_at} {until}{}",
        pipeline.journal_texts()
    );
}

#[test]
fn a_freeze_blocks_neither_rollbacks_nor_running_deployments() {
    let mut pipeline = pipeline();
    for number in [1, 2] {
        pipeline.push("api", number);
        pipeline.until(HOUR, "it is stable", |pipeline| pipeline.stable(&dev()) == Some(format!("v{number}")));
    }
    pipeline.wait_until_idle(HOUR);
    // One is on its way when the freeze is set: it goes on.
    pipeline.push("api", 3);
    pipeline.until(HOUR, "traffic moves", is_at_10_percent);
    pipeline.brake(application_scope(), "the audit");
    pipeline.expect_verdicts(&dev(), HOUR, &[Verdict::Succeeded; 3]);
    // A rollback is asked for: nothing holds it.
    let asked = pipeline.simulation.now();
    pipeline.ask(&dev(), Instruction::Rollback, carol(), "the cart is empty");
    pipeline.expect_verdicts(&dev(), HOUR, &[Verdict::Succeeded; 4]);
    assert!(Seconds::between(asked, pipeline.simulation.now()).0 < 300, "it waited{}", pipeline.journal_texts());
    assert_eq!(pipeline.stable(&dev()).as_deref(), Some("v2"));
    pipeline.wait_until_idle(HOUR);
}

#[test]
fn an_alarm_rolls_back_despite_freeze_and_stop_the_line() {
    let mut pipeline = pipeline();
    pipeline.set_image(1, ImageBehaviour::failing(0.5));
    pipeline.push("api", 1);
    pipeline.until(HOUR, "traffic moves", is_at_10_percent);
    pipeline.brake(application_scope(), "the audit");
    pipeline.brake(Scope::Everything, "the database is down");
    pipeline.expect_verdicts(&dev(), 300, &[Verdict::RolledBack]);
    assert_eq!(pipeline.weights(&dev()), (100, 0));
    pipeline.wait_until_idle(HOUR);
}

#[test]
fn stop_the_line_pauses_a_running_shift_until_lifted() {
    let mut pipeline = pipeline();
    pipeline.push("api", 1);
    pipeline.until(HOUR, "traffic moves", is_at_10_percent);
    pipeline.brake(Scope::Everything, "the database is down");
    // Long past every hold and every deadline.
    pipeline.simulation.run_for(2 * HOUR);
    assert_eq!(pipeline.weights(&dev()), (90, 10), "{}", pipeline.journal_texts());
    assert_eq!(pipeline.verdicts(&dev()), [], "{}", pipeline.journal_texts());
    assert_eq!(pipeline.waiting_gates(&dev()), ["stop_the_line"], "explain says why{}", pipeline.journal_texts());
    pipeline.lift_brake(&Scope::Everything);
    pipeline.until(120, "it goes on", |pipeline| pipeline.weights(&dev()) == (50, 50));
    pipeline.expect_verdicts(&dev(), HOUR, &[Verdict::Succeeded]);
    pipeline.wait_until_idle(HOUR);
    assert_eq!(pipeline.lost(), 0.0);
}

#[test]
fn an_alarm_rolls_back_a_shift_paused_by_stop_the_line() {
    let mut pipeline = pipeline();
    pipeline.push("api", 1);
    pipeline.until(HOUR, "traffic moves", is_at_10_percent);
    pipeline.brake(Scope::Everything, "the database is down");
    pipeline.simulation.run_for(HOUR);
    assert_eq!(pipeline.weights(&dev()), (90, 10), "{}", pipeline.journal_texts());
    pipeline.set_image(1, ImageBehaviour::failing(0.9));
    pipeline.until(60, "the weights are back", |pipeline| pipeline.weights(&dev()) == (100, 0));
    pipeline.expect_verdicts(&dev(), HOUR, &[Verdict::RolledBack]);
    let alarm = |fact: &Fact| matches!(fact, Fact::RollbackStarted { cause: Cause::Alarm { .. } });
    assert!(pipeline.has(&dev(), alarm), "{}", pipeline.journal_texts());
    // And nothing begins.
    pipeline.set_image(1, ImageBehaviour::default());
    pipeline.push("api", 2);
    pipeline.simulation.run_for(HOUR);
    assert_eq!(pipeline.waiting_gates(&dev()), ["stop_the_line"], "{}", pipeline.journal_texts());
    pipeline.lift_brake(&Scope::Everything);
    pipeline.expect_verdicts(&dev(), HOUR, &[Verdict::RolledBack, Verdict::Succeeded]);
}

#[test]
fn a_paused_deployment_can_be_aborted_or_rolled_back() {
    for (instruction, verdict) in
        [(Instruction::Rollback, Verdict::RolledBack), (Instruction::Abort { deployment: None }, Verdict::Cancelled)]
    {
        let mut pipeline = pipeline();
        pipeline.push("api", 1);
        pipeline.until(HOUR, "traffic moves", is_at_10_percent);
        pipeline.brake(Scope::Everything, "the database is down");
        pipeline.simulation.run_for(600);
        pipeline.ask(&dev(), instruction, carol(), "let us go home");
        pipeline.expect_verdicts(&dev(), 300, &[verdict]);
        assert_eq!(pipeline.weights(&dev()), (100, 0));
        pipeline.wait_until_idle(HOUR);
    }
}

/// A Friday in Berlin, 12 minutes before the window closes: what waits for the next one begins on Monday at nine.
#[test]
fn deployments_start_only_inside_windows() {
    let friday: Timestamp = "2026-11-20T11:30:00Z".parse().expect("a time");
    let plan = PipelineBuilder::of(&["api/dev"]).policy(|policy| {
        let rules = environment_of(policy, "dev");
        rules.trigger = Trigger::Push;
        rules.entry.time_zone = Some("Europe/Berlin".to_owned());
        rules.entry.windows = vec![Window { days: (1..=5).collect(), from_minute: 9 * 60, until_minute: 12 * 60 }];
        rules.entry.freezes = vec![FreezePeriod {
            from: "2026-11-23T00:00".parse().expect("a time"),
            until: "2026-11-24T00:00".parse().expect("a time"),
            reason: "the fair".to_owned(),
        }];
    });
    let settings = Settings { start: friday, log_calls: false, ..Settings::default() };
    let mut pipeline = plan.build_with(settings, simulation::virtual_time::Faults::default());
    pipeline.push("api", 1);
    pipeline.simulation.run_for(HOUR);
    assert_eq!(pipeline.waiting_gates(&dev()), ["window"], "{}", pipeline.journal_texts());
    // Monday is frozen; on Tuesday, 9:00 in Berlin is 8:00 UTC.
    let tuesday: Timestamp = "2026-11-24T08:00:00Z".parse().expect("a time");
    let shortly_before = tuesday.checked_sub(rollout::SignedDuration::from_mins(2)).expect("a time");
    pipeline.simulation.run_until(shortly_before);
    assert!(!pipeline.waiting_gates(&dev()).is_empty(), "{}", pipeline.journal_texts());
    pipeline.expect_verdicts(&dev(), HOUR, &[Verdict::Succeeded]);
    let started_at = pipeline
        .time_of(&dev(), |fact| matches!(fact, Fact::StageEntered { stage, .. } if stage.name() == "preflight"));
    assert!(
        started_at >= tuesday && Seconds::between(tuesday, started_at).0 <= 65,
        "{started_at}{}",
        pipeline.journal_texts()
    );
}

#[test]
fn a_gate_override_requires_and_records_a_reason() {
    let mut pipeline = pipeline();
    pipeline.brake(application_scope(), "the audit");
    pipeline.push("api", 1);
    pipeline.until(60, "it waits", |pipeline| pipeline.waiting_gates(&dev()) == ["freeze"]);
    let open = |gates: &[Gate]| Instruction::Override { deployment: 1, gates: gates.iter().copied().collect() };
    pipeline.ask(&dev(), open(&[Gate::Freeze]), carol(), "");
    pipeline.simulation.run_for(30);
    assert_eq!(pipeline.waiting_gates(&dev()), ["freeze"], "not without a reason{}", pipeline.journal_texts());
    pipeline.ask(&dev(), open(&[Gate::Freeze]), carol(), "the fix that the audit wants");
    pipeline.expect_verdicts(&dev(), HOUR, &[Verdict::Succeeded]);
    let opened = pipeline.journal(&dev()).into_iter().find(|entry| matches!(entry.fact, Fact::GateOverridden { .. }));
    let opened = opened.expect("it is on record");
    assert_eq!(opened.actor, carol());
}

/// Wherever a deployment is when the line is stopped: it gets no more traffic while it is, and goes through after that.
#[test]
fn stop_the_line_works_at_every_stage() {
    let stages = [
        "preflight",
        "registering",
        "before_traffic",
        "scaling",
        "testing",
        "shifting",
        "after_traffic",
        "baking",
        "keeping_warm",
        "retiring",
    ];
    for stage in stages {
        let mut pipeline = pipeline_with_hooks();
        pipeline.push("api", 1);
        let entered =
            |fact: &Fact| matches!(fact, Fact::StageEntered { stage: entered, .. } if entered.name() == stage);
        let reached = pipeline.simulation.run_until_condition(HOUR, |simulation| {
            let dev = simulation.at(&dev());
            dev.stage_name() == Some(stage) || dev.journal().iter().any(|entry| entered(&entry.fact))
        });
        assert!(reached, "{stage} is never seen{}", pipeline.journal_texts());
        pipeline.brake(Scope::Everything, "the database is down");
        pipeline.simulation.run_for(5);
        let green_weight = pipeline.weights(&dev()).1;
        pipeline.simulation.run_for(2 * HOUR);
        assert_eq!(pipeline.weights(&dev()).1, green_weight, "{stage}: it widened{}", pipeline.journal_texts());
        let ended = pipeline.verdicts(&dev());
        assert!(ended.is_empty() || ended == [Verdict::Succeeded], "{stage}: {ended:?}{}", pipeline.journal_texts());
        pipeline.lift_brake(&Scope::Everything);
        pipeline.expect_verdicts(&dev(), HOUR, &[Verdict::Succeeded]);
        pipeline.wait_until_idle(HOUR);
        assert_eq!(pipeline.lost(), 0.0, "{stage}{}", pipeline.journal_texts());
    }
}

fn pipeline_with_hooks() -> Pipeline {
    let hook = |text: &str, at| Hook {
        name: name(text),
        at,
        run: HookAction::Task { container: "app".to_owned(), command: vec![text.to_owned()] },
        deadline: Seconds(120),
        forward_only: false,
    };
    PipelineBuilder::of(&["api/dev"])
        .policy(move |policy| {
            let rules = environment_of(policy, "dev").targets.get_mut(&name("api")).expect("a target");
            rules.hooks = vec![
                hook("migrate", HookPoint::BeforeTraffic),
                hook("smoke", HookPoint::TestTraffic),
                hook("announce", HookPoint::AfterTraffic),
            ];
        })
        .build()
}
/// It has passed its gates, and waits for an alarm to be OK: nothing of it has begun when the line is stopped.
#[test]
fn preflight_does_not_proceed_while_the_line_is_stopped() {
    let mut pipeline = pipeline_with_hooks();
    // The stable side is ill for a while.
    pipeline.set_image(0, ImageBehaviour::failing(0.5));
    pipeline.simulation.run_for(60);
    pipeline.push("api", 1);
    pipeline.until(120, "an alarm keeps it from starting", |pipeline| {
        pipeline.has(&dev(), |fact| matches!(fact, Fact::Blocked { .. }))
    });
    pipeline.brake(Scope::Everything, "the database is down");
    pipeline.set_image(0, ImageBehaviour::default());
    pipeline.simulation.run_for(600);
    let hook_ran = pipeline.has(&dev(), |fact| matches!(fact, Fact::HookStarted { .. }));
    assert!(!hook_ran, "a migration ran while the line was stopped{}", pipeline.journal_texts());
    pipeline.lift_brake(&Scope::Everything);
    pipeline.expect_verdicts(&dev(), HOUR, &[Verdict::Succeeded]);
}
