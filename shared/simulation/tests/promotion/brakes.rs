//! Freezes and the stopped line: what begins waits, what runs stays watched, and nothing keeps a rollback from its way.

use crate::street::{HOUR, Plan, Street, carol, environment_of, name, target};
use rollout::brake::{Brake, Scope};
use rollout::entry::{FreezePeriod, Window};
use rollout::journal::Fact;
use rollout::policy::{Hook, HookAction, HookPoint, Trigger};
use rollout::stage::{Cause, Verdict};
use rollout::{Gate, Instruction, Seconds, TargetId, Timestamp};
use simulation::world::{ImageBehaviour, Settings};

fn dev() -> TargetId {
    target("shop/api/dev")
}

fn shop() -> Scope {
    Scope::Application { application: name("shop") }
}

fn street() -> Street {
    Plan::of(&["api/dev"]).build()
}

fn holds_at_10(street: &Street) -> bool {
    street.weights(&dev()) == (90, 10)
}

#[test]
fn a_freeze_holds_a_start_until_it_is_lifted() {
    let mut street = street();
    street.brake(shop(), "the audit");
    street.push("api", 1);
    street.simulation.run_for(HOUR);
    assert_eq!(street.waits_at(&dev()), ["freeze"], "{}", street.stories());
    let told = |fact: &Fact| matches!(fact, Fact::GateWaits { gate: Gate::Freeze, reason, .. } if reason.contains("the audit"));
    assert_eq!(street.count(&dev(), told), 1, "told once{}", street.stories());
    assert_eq!(street.weights(&dev()), (100, 0));
    street.lift(&shop());
    let lifted = street.simulation.now();
    street.until(30, "it begins", |street| street.simulation.at(&dev()).stage_name() != Some("gated"));
    assert!(Seconds::between(lifted, street.simulation.now()).0 <= 5, "whoever waits was woken{}", street.stories());
    street.ends(&dev(), HOUR, &[Verdict::Succeeded]);
    street.rests(HOUR);
}

#[test]
fn a_freeze_of_another_environment_or_whose_time_is_over_holds_nothing() {
    let mut street = street();
    street.brake(Scope::Environment { application: name("shop"), environment: name("prod") }, "the audit");
    street.brake(Scope::Application { application: name("blog") }, "the audit");
    let since = street.simulation.now();
    let over = Brake {
        scope: shop(),
        by: carol(),
        reason: "an hour ago".to_owned(),
        since,
        until: Some(Seconds(1).after(since)),
    };
    street.simulation.ledger().store().put_brake(&over);
    street.simulation.run_for(2);
    street.push("api", 1);
    street.ends(&dev(), HOUR, &[Verdict::Succeeded]);
    assert!(!street.has(&dev(), |fact| matches!(fact, Fact::GateWaits { .. })), "{}", street.stories());
}

#[test]
fn a_freeze_ends_by_itself_at_its_time() {
    let mut street = street();
    let since = street.simulation.now();
    let until = Seconds(1_800).after(since);
    let brake = Brake { scope: shop(), by: carol(), reason: "the audit".to_owned(), since, until: Some(until) };
    street.simulation.ledger().store().put_brake(&brake);
    street.push("api", 1);
    street.ends(&dev(), HOUR, &[Verdict::Succeeded]);
    let began = street.when(&dev(), |fact| matches!(fact, Fact::GateOpened { gate: Gate::Freeze, .. }));
    assert!(began >= until && Seconds::between(until, began).0 <= 5, "{began} {until}{}", street.stories());
}

#[test]
fn a_freeze_holds_no_rollback_and_nothing_that_runs() {
    let mut street = street();
    for number in [1, 2] {
        street.push("api", number);
        street.until(HOUR, "it is stable", |street| street.stable(&dev()) == Some(format!("v{number}")));
    }
    street.rests(HOUR);
    // One is on its way when the freeze is set: it goes on.
    street.push("api", 3);
    street.until(HOUR, "traffic moves", holds_at_10);
    street.brake(shop(), "the audit");
    street.ends(&dev(), HOUR, &[Verdict::Succeeded; 3]);
    // A rollback is asked for: nothing holds it.
    let asked = street.simulation.now();
    street.ask(&dev(), Instruction::Rollback, carol(), "the cart is empty");
    street.ends(&dev(), HOUR, &[Verdict::Succeeded; 4]);
    assert!(Seconds::between(asked, street.simulation.now()).0 < 300, "it waited{}", street.stories());
    assert_eq!(street.stable(&dev()).as_deref(), Some("v2"));
    street.rests(HOUR);
}

#[test]
fn a_bad_release_is_switched_back_though_everything_is_frozen_and_stopped() {
    let mut street = street();
    street.set_image(1, ImageBehaviour::failing(0.5));
    street.push("api", 1);
    street.until(HOUR, "traffic moves", holds_at_10);
    street.brake(shop(), "the audit");
    street.brake(Scope::Everything, "the database is down");
    street.ends(&dev(), 300, &[Verdict::RolledBack]);
    assert_eq!(street.weights(&dev()), (100, 0));
    street.rests(HOUR);
}

#[test]
fn stop_the_line_holds_a_running_shift_where_it_is_until_it_goes_on() {
    let mut street = street();
    street.push("api", 1);
    street.until(HOUR, "traffic moves", holds_at_10);
    street.brake(Scope::Everything, "the database is down");
    // Long past every hold and every deadline.
    street.simulation.run_for(2 * HOUR);
    assert_eq!(street.weights(&dev()), (90, 10), "{}", street.stories());
    assert_eq!(street.verdicts(&dev()), [], "{}", street.stories());
    assert_eq!(street.waits_at(&dev()), ["stop_the_line"], "explain says why{}", street.stories());
    street.lift(&Scope::Everything);
    street.until(120, "it goes on", |street| street.weights(&dev()) == (50, 50));
    street.ends(&dev(), HOUR, &[Verdict::Succeeded]);
    street.rests(HOUR);
    assert_eq!(street.lost(), 0.0);
}

#[test]
fn a_stopped_shift_is_still_watched_and_still_switched_back() {
    let mut street = street();
    street.push("api", 1);
    street.until(HOUR, "traffic moves", holds_at_10);
    street.brake(Scope::Everything, "the database is down");
    street.simulation.run_for(HOUR);
    assert_eq!(street.weights(&dev()), (90, 10), "{}", street.stories());
    street.set_image(1, ImageBehaviour::failing(0.9));
    street.until(60, "the weights are back", |street| street.weights(&dev()) == (100, 0));
    street.ends(&dev(), HOUR, &[Verdict::RolledBack]);
    let alarm = |fact: &Fact| matches!(fact, Fact::RollbackStarted { cause: Cause::Alarm { .. } });
    assert!(street.has(&dev(), alarm), "{}", street.stories());
    // And nothing begins.
    street.set_image(1, ImageBehaviour::default());
    street.push("api", 2);
    street.simulation.run_for(HOUR);
    assert_eq!(street.waits_at(&dev()), ["stop_the_line"], "{}", street.stories());
    street.lift(&Scope::Everything);
    street.ends(&dev(), HOUR, &[Verdict::RolledBack, Verdict::Succeeded]);
}

#[test]
fn a_person_can_end_or_turn_back_what_the_stopped_line_holds() {
    for (instruction, verdict) in
        [(Instruction::Rollback, Verdict::RolledBack), (Instruction::Abort { deployment: None }, Verdict::Cancelled)]
    {
        let mut street = street();
        street.push("api", 1);
        street.until(HOUR, "traffic moves", holds_at_10);
        street.brake(Scope::Everything, "the database is down");
        street.simulation.run_for(600);
        street.ask(&dev(), instruction, carol(), "let us go home");
        street.ends(&dev(), 300, &[verdict]);
        assert_eq!(street.weights(&dev()), (100, 0));
        street.rests(HOUR);
    }
}

/// A Friday in Berlin, 12 minutes before the window closes: what waits for the next one begins on Monday at nine.
#[test]
fn outside_of_its_windows_nothing_begins() {
    let friday: Timestamp = "2026-11-20T11:30:00Z".parse().expect("a time");
    let plan = Plan::of(&["api/dev"]).policy(|policy| {
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
    let mut street = plan.build_with(settings, simulation::virtual_time::Faults::default());
    street.push("api", 1);
    street.simulation.run_for(HOUR);
    assert_eq!(street.waits_at(&dev()), ["window"], "{}", street.stories());
    // Monday is frozen; on Tuesday, 9:00 in Berlin is 8:00 UTC.
    let tuesday: Timestamp = "2026-11-24T08:00:00Z".parse().expect("a time");
    let shortly_before = tuesday.checked_sub(rollout::SignedDuration::from_mins(2)).expect("a time");
    street.simulation.run_until(shortly_before);
    assert!(!street.waits_at(&dev()).is_empty(), "{}", street.stories());
    street.ends(&dev(), HOUR, &[Verdict::Succeeded]);
    let began = street.when(&dev(), |fact| matches!(fact, Fact::StageEntered { stage, .. } if stage == "preflight"));
    assert!(began >= tuesday && Seconds::between(tuesday, began).0 <= 65, "{began}{}", street.stories());
}

#[test]
fn a_gate_is_opened_by_hand_with_a_reason_on_record() {
    let mut street = street();
    street.brake(shop(), "the audit");
    street.push("api", 1);
    street.until(60, "it waits", |street| street.waits_at(&dev()) == ["freeze"]);
    let open = |gates: &[Gate]| Instruction::Override { deployment: 1, gates: gates.iter().copied().collect() };
    street.ask(&dev(), open(&[Gate::Freeze]), carol(), "");
    street.simulation.run_for(30);
    assert_eq!(street.waits_at(&dev()), ["freeze"], "not without a reason{}", street.stories());
    street.ask(&dev(), open(&[Gate::Freeze]), carol(), "the fix that the audit wants");
    street.ends(&dev(), HOUR, &[Verdict::Succeeded]);
    let opened = street.journal(&dev()).into_iter().find(|entry| matches!(entry.fact, Fact::GateOverridden { .. }));
    let opened = opened.expect("it is on record");
    assert_eq!(opened.actor, carol());
}

/// Wherever a deployment is when the line is stopped: it gets no more traffic while it is, and goes through after that.
#[test]
fn the_line_can_be_stopped_at_any_stage() {
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
        let mut street = hooked();
        street.push("api", 1);
        let entered = |fact: &Fact| matches!(fact, Fact::StageEntered { stage: entered, .. } if entered == stage);
        let reached = street.simulation.run_until_that(HOUR, |simulation| {
            let dev = simulation.at(&dev());
            dev.stage_name() == Some(stage) || dev.journal().iter().any(|entry| entered(&entry.fact))
        });
        assert!(reached, "{stage} is never seen{}", street.stories());
        street.brake(Scope::Everything, "the database is down");
        street.simulation.run_for(5);
        let share = street.weights(&dev()).1;
        street.simulation.run_for(2 * HOUR);
        assert_eq!(street.weights(&dev()).1, share, "{stage}: it widened{}", street.stories());
        let ended = street.verdicts(&dev());
        assert!(ended.is_empty() || ended == [Verdict::Succeeded], "{stage}: {ended:?}{}", street.stories());
        street.lift(&Scope::Everything);
        street.ends(&dev(), HOUR, &[Verdict::Succeeded]);
        street.rests(HOUR);
        assert_eq!(street.lost(), 0.0, "{stage}{}", street.stories());
    }
}

fn hooked() -> Street {
    let hook = |text: &str, at| Hook {
        name: name(text),
        at,
        run: HookAction::Task { container: "app".to_owned(), command: vec![text.to_owned()] },
        deadline: Seconds(120),
        forward_only: false,
    };
    Plan::of(&["api/dev"])
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
fn what_waits_in_preflight_does_not_begin_while_the_line_is_stopped() {
    let mut street = hooked();
    // The stable side is ill for a while.
    street.set_image(0, ImageBehaviour::failing(0.5));
    street.simulation.run_for(60);
    street.push("api", 1);
    street.until(120, "an alarm keeps it from starting", |street| {
        street.has(&dev(), |fact| matches!(fact, Fact::Blocked { .. }))
    });
    street.brake(Scope::Everything, "the database is down");
    street.set_image(0, ImageBehaviour::default());
    street.simulation.run_for(600);
    let migrated = street.has(&dev(), |fact| matches!(fact, Fact::HookStarted { .. }));
    assert!(!migrated, "a migration ran while the line was stopped{}", street.stories());
    street.lift(&Scope::Everything);
    street.ends(&dev(), HOUR, &[Verdict::Succeeded]);
}
