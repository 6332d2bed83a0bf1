//! What an alarm does to a deployment: it rolls it back, holds it, or notifies people alone; and whether one that fires
//! at the start blocks it.

use super::fixture::{TargetFixture, deploy, new_command, policy};
use rollout::policy::{AlarmAtStart, AlarmEffect, MissingData};
use rollout::snapshot::{AlarmReading, Weights};
use rollout::verdict::Verdict;
use rollout::{Cause, Fact, Instruction, Slot, Stage, WaitingOn};

fn with_alarm(firing: AlarmEffect, at_start: AlarmAtStart) -> TargetFixture {
    let mut policy = policy();
    (policy.alarms[0].firing, policy.alarms[0].at_start) = (firing, at_start);
    TargetFixture::with(policy)
}

/// A deployment whose candidate has half of the traffic, and whose alarm begins to fire then.
fn firing_at_half(firing: AlarmEffect) -> TargetFixture {
    let mut fixture = with_alarm(firing, AlarmAtStart::Block);
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().green == 50);
    fixture.advance();
    fixture.fire_alarm();
    fixture
}

fn count(fixture: &TargetFixture, fact: impl Fn(&Fact) -> bool) -> usize {
    fixture.journal.iter().filter(|entry| fact(&entry.fact)).count()
}

#[test]
fn an_alarm_that_holds_widens_nothing_until_it_clears() {
    let mut fixture = firing_at_half(AlarmEffect::Hold);
    for _ in 0..5 {
        fixture.advance();
    }
    assert_eq!(fixture.weights(), Weights { blue: 50, green: 50 });
    assert_eq!(fixture.verdict(), None);
    let waits = &fixture.state.explanation.waiting_on;
    assert!(waits.iter().any(|on| matches!(on, WaitingOn::FiringAlarm { name, .. } if name == "api-5xx")), "{waits:?}");
    let notified = |fact: &Fact| matches!(fact, Fact::AlarmFiring { holds: true, .. }) && fact.needs_attention();
    assert_eq!(count(&fixture, notified), 1, "{:#?}", fixture.journal);

    fixture.alarm(AlarmReading::Ok);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
    assert_eq!(count(&fixture, |fact| matches!(fact, Fact::AlarmCleared { .. })), 1);
}

#[test]
fn an_alarm_that_holds_past_the_deadline_sends_traffic_back() {
    let mut fixture = firing_at_half(AlarmEffect::Hold);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack));
    assert_eq!(fixture.weights(), Weights { blue: 100, green: 0 });
    let by_alarm = |fact: &Fact| matches!(fact, Fact::RollbackStarted { cause: Cause::Alarm { .. }, .. });
    assert_eq!(count(&fixture, by_alarm), 1, "{:#?}", fixture.journal);
}

#[test]
fn an_alarm_that_only_notifies_stops_nothing() {
    let mut fixture = firing_at_half(AlarmEffect::Tell);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
    let notified = |fact: &Fact| matches!(fact, Fact::AlarmFiring { holds: false, .. }) && fact.needs_attention();
    assert_eq!(count(&fixture, notified), 1, "{:#?}", fixture.journal);
}

#[test]
fn the_usual_alarm_sends_traffic_back_at_once_beside_one_that_holds() {
    let mut policy = policy();
    let mut holding = policy.alarms[0].clone();
    (holding.name, holding.firing) = ("a-slow-one".to_owned(), AlarmEffect::Hold);
    policy.alarms.insert(0, holding);
    let mut fixture = TargetFixture::with(policy);
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().green == 50);
    let all_fire = ["a-slow-one", "api-5xx"]
        .map(|name| (name.to_owned(), AlarmReading::Firing { reason: "too many errors".to_owned() }));
    fixture.snapshot.alarms = rollout::Reading::Known(all_fire.into());
    fixture.run_until(|fixture| fixture.weights().green == 0);
    let by = |fact: &Fact| matches!(fact, Fact::RollbackStarted { cause: Cause::Alarm { name, .. }, .. } if name == "api-5xx");
    assert_eq!(count(&fixture, by), 1, "{:#?}", fixture.journal);
}

#[test]
fn an_alarm_that_fires_at_the_start_blocks_it_unless_the_policy_lets_it_pass() {
    for (firing, at_start, starts) in [
        (AlarmEffect::Back, AlarmAtStart::Block, false),
        (AlarmEffect::Hold, AlarmAtStart::Block, false),
        (AlarmEffect::Back, AlarmAtStart::Pass, true),
        (AlarmEffect::Hold, AlarmAtStart::Pass, true),
        (AlarmEffect::Tell, AlarmAtStart::Block, true),
    ] {
        let mut fixture = with_alarm(firing, at_start);
        fixture.fire_alarm();
        fixture.decide(&[deploy("v2")]);
        for _ in 0..4 {
            fixture.advance();
        }
        let stage = fixture.state.running.as_ref().map(|running| running.stage());
        assert_eq!(stage != Some(Stage::Preflight), starts, "{firing:?} {at_start:?}: {:#?}", fixture.journal);
        let passed = count(&fixture, |fact| matches!(fact, Fact::AlarmPassed { .. }));
        assert_eq!(passed, usize::from(at_start == AlarmAtStart::Pass), "{firing:?} {at_start:?}");
    }
}

/// Once it has been OK, it is about the new release.
#[test]
fn an_alarm_that_passed_at_the_start_counts_once_it_has_been_ok() {
    let started = || {
        let mut fixture = with_alarm(AlarmEffect::Back, AlarmAtStart::Pass);
        fixture.fire_alarm();
        fixture.decide(&[deploy("v2")]);
        fixture.run_until(|fixture| fixture.weights().green == 10);
        fixture
    };
    let mut fires_on = started();
    fires_on.run_until(|_| false);
    assert_eq!(fires_on.verdict(), Some(Verdict::Succeeded));

    let mut fires_again = started();
    fires_again.alarm(AlarmReading::Ok);
    fires_again.advance();
    fires_again.fire_alarm();
    fires_again.run_until(|_| false);
    assert_eq!(fires_again.verdict(), Some(Verdict::RolledBack));
}

/// Traffic never goes back to the side that an alarm is about: it holds, and a person decides.
#[test]
fn an_alarm_of_the_stable_side_that_holds_sends_no_traffic_back_to_it() {
    let mut fixture = with_alarm(AlarmEffect::Hold, AlarmAtStart::Block);
    fixture.snapshot.alarm_sides.insert("api-5xx".to_owned(), Slot::Blue);
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().green == 50);
    fixture.advance();
    fixture.fire_alarm();
    for _ in 0..200 {
        fixture.advance();
    }
    assert_eq!(fixture.weights(), Weights { blue: 50, green: 50 });
    assert_eq!(fixture.verdict(), None);
    assert_eq!(count(&fixture, |fact| matches!(fact, Fact::StableAlarm { .. })), 1, "{:#?}", fixture.journal);
    assert_eq!(count(&fixture, |fact| matches!(fact, Fact::AlarmFiring { .. })), 0, "it is notified of once");
    fixture.decide(&[new_command(Instruction::Resume, "p1")]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
}

/// A deployment back to an earlier release is made because an alarm fires.
#[test]
fn a_rollback_to_the_previous_release_is_not_held() {
    let mut fixture = with_alarm(AlarmEffect::Hold, AlarmAtStart::Block);
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|_| false);
    fixture.decide(&[deploy("v3")]);
    fixture.run_until(|_| false);
    fixture.fire_alarm();
    let journalled = fixture.journal.len();
    fixture.decide(&[new_command(Instruction::Rollback, "p1")]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{:#?}", &fixture.journal[journalled..]);
    assert_eq!(count(&fixture, |fact| matches!(fact, Fact::AlarmFiring { .. })), 0);
}

/// Only what CloudWatch calls OK has cleared.
#[test]
fn silence_clears_no_alarm() {
    let mut fixture = firing_at_half(AlarmEffect::Tell);
    fixture.advance();
    fixture.alarm(AlarmReading::NoData);
    fixture.advance();
    assert_eq!(count(&fixture, |fact| matches!(fact, Fact::AlarmCleared { .. })), 0);
    fixture.fire_alarm();
    fixture.advance();
    assert_eq!(count(&fixture, |fact| matches!(fact, Fact::AlarmFiring { .. })), 1, "it has fired all along");
    fixture.alarm(AlarmReading::Ok);
    fixture.advance();
    assert_eq!(count(&fixture, |fact| matches!(fact, Fact::AlarmCleared { .. })), 1);
}

/// An alarm that only notifies holds nothing, whatever CloudWatch says of it, or does not say.
#[test]
fn an_alarm_that_only_notifies_may_be_missing() {
    for reading in [AlarmReading::Absent, AlarmReading::NoData] {
        let mut fixture = with_alarm(AlarmEffect::Tell, AlarmAtStart::Block);
        fixture.alarm(reading);
        fixture.decide(&[deploy("v2")]);
        fixture.run_until(|_| false);
        assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
    }
}

/// Silence that counts as failure passes at the start like an alarm that fires.
#[test]
fn silence_that_means_failure_may_pass_at_the_start() {
    let mut policy = policy();
    policy.alarms[0].at_start = AlarmAtStart::Pass;
    policy.alarms[0].missing = MissingData::Unhealthy;
    let mut fixture = TargetFixture::with(policy);
    fixture.alarm(AlarmReading::NoData);
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().green == 10);
    assert_eq!(count(&fixture, |fact| matches!(fact, Fact::AlarmPassed { .. })), 1, "{:#?}", fixture.journal);
}

/// Who resumes a forward-only release that an alarm holds is not asked again at once.
#[test]
fn a_held_forward_only_release_goes_on_with_one_resume() {
    let mut fixture = with_alarm(AlarmEffect::Hold, AlarmAtStart::Block);
    let mut requested = deploy("v2");
    if let Instruction::Deploy { options, .. } = &mut requested.instruction {
        options.forward_only = true;
    }
    fixture.decide(&[requested]);
    fixture.run_until(|fixture| fixture.weights().green == 10);
    fixture.fire_alarm();
    let awaits = |fixture: &TargetFixture| {
        fixture.state.running.as_ref().is_some_and(|running| running.awaiting_operator().is_some())
    };
    fixture.run_until(awaits);
    assert!(awaits(&fixture), "{:#?}", fixture.journal);
    fixture.decide(&[new_command(Instruction::Resume, "p1")]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{:#?}", fixture.journal);
    assert_eq!(count(&fixture, |fact| matches!(fact, Fact::AwaitingOperator { .. })), 1);
}
