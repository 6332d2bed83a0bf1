//! Alarms that look at one side alone: what they accuse, and when their silence means nothing.

use super::fixture::{TargetFixture, deploy, new_command};
use rollout::policy::StableFiring;
use rollout::snapshot::{AlarmReading, Weights};
use rollout::verdict::Verdict;
use rollout::{Fact, Instruction, Slot};

/// Blue is stable; the alarm looks at `side` alone.
fn with_alarm_on(side: Slot) -> TargetFixture {
    let mut fixture = TargetFixture::new();
    fixture.snapshot.alarm_sides.insert("api-5xx".to_owned(), side);
    fixture.decide(&[deploy("v2")]);
    fixture
}

#[test]
fn a_stable_side_alarm_holds_and_notifies_without_moving_traffic() {
    let mut fixture = with_alarm_on(Slot::Blue);
    fixture.run_until(|fixture| fixture.weights().green == 50);
    fixture.advance();
    fixture.fire_alarm();
    for _ in 0..200 {
        fixture.advance();
    }
    assert_eq!(fixture.weights(), Weights { blue: 50, green: 50 }, "neither on nor back");
    assert_eq!(fixture.verdict(), None, "a person decides, and has hours for it");
    let notifications = fixture.journal.iter().filter(|entry| {
        matches!(&entry.fact, Fact::StableAlarm { alarm, .. } if alarm == "api-5xx") && entry.fact.needs_attention()
    });
    assert_eq!(notifications.count(), 1, "{:#?}", fixture.journal);

    fixture.alarm(AlarmReading::Ok);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "it goes on once that is over");
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::StableAlarmCleared { .. })));
}

#[test]
fn an_operator_can_resume_or_roll_back_despite_a_stable_alarm() {
    for (what, verdict) in [(Instruction::Resume, Verdict::Succeeded), (Instruction::Rollback, Verdict::RolledBack)] {
        let mut fixture = with_alarm_on(Slot::Blue);
        fixture.run_until(|fixture| fixture.weights().green == 50);
        fixture.advance();
        fixture.fire_alarm();
        fixture.advance();
        fixture.decide(&[new_command(what, "p1")]);
        fixture.run_until(|_| false);
        assert_eq!(fixture.verdict(), Some(verdict));
    }
}

#[test]
fn go_on_policy_continues_despite_a_stable_side_alarm() {
    let mut fixture = with_alarm_on(Slot::Blue);
    if let Some(running) = &mut fixture.state.running {
        running.policy.alarms[0].stable_firing = StableFiring::GoOn;
    }
    fixture.applied.policy.alarms[0].stable_firing = StableFiring::GoOn;
    fixture.run_until(|fixture| fixture.weights().green == 10);
    fixture.fire_alarm();
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
    assert_eq!(fixture.weights(), Weights { blue: 0, green: 100 });
}

#[test]
fn a_candidate_side_alarm_rolls_back() {
    let mut fixture = with_alarm_on(Slot::Green);
    fixture.run_until(|fixture| fixture.weights().green == 50);
    fixture.fire_alarm();
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack));
}

/// Default settings (`missing: wait`): green's latency has no data before green has traffic (ELB User Guide, "CloudWatch
/// metrics for your Application Load Balancer": no data point for a target group without requests).
#[test]
fn missing_data_of_a_side_without_traffic_does_not_block() {
    for side in [Slot::Green, Slot::Blue] {
        let mut fixture = with_alarm_on(side);
        fixture.run_until(|fixture| fixture.stage() != "gated" && fixture.stage() != "preflight");
        for _ in 0..2_000 {
            if fixture.state.running.is_none() {
                break;
            }
            let has_traffic = fixture.weights().of(side) > 0;
            fixture.alarm(if has_traffic { AlarmReading::Ok } else { no_data() });
            fixture.advance();
        }
        assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{side}: {}", fixture.end_reason());
    }
}

#[test]
fn missing_data_of_a_side_with_traffic_is_not_healthy() {
    let mut fixture = with_alarm_on(Slot::Green);
    fixture.run_until(|fixture| fixture.weights().green == 10);
    fixture.alarm(no_data());
    fixture.run_until(|_| false);
    assert_ne!(
        fixture.verdict(),
        Some(Verdict::Succeeded),
        "silence under traffic is not health: {:#?}",
        fixture.journal
    );
    assert!(fixture.end_reason().contains("api-5xx"), "{}", fixture.end_reason());
}

#[test]
fn a_firing_alarm_of_the_idle_side_blocks_the_start() {
    let mut fixture = TargetFixture::new();
    fixture.snapshot.alarm_sides.insert("api-5xx".to_owned(), Slot::Green);
    fixture.fire_alarm();
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert_eq!(fixture.weights().green, 0);
}

#[test]
fn missing_data_of_an_alarm_of_both_sides_blocks() {
    let mut fixture = TargetFixture::new();
    fixture.alarm(no_data());
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|_| false);
    assert_ne!(fixture.verdict(), Some(Verdict::Succeeded));
    assert_eq!(fixture.weights().green, 0);
}

fn no_data() -> AlarmReading {
    AlarmReading::NoData
}
