//! A service at 0 tasks on both sides, at night: not ill, and nothing is lost until it wakes.

use super::fixture::{TargetFixture, deploy, new_command};
use super::gates::decide_until_waiting;
use rollout::explanation::WaitingOn;
use rollout::snapshot::Weights;
use rollout::target::LiveTraffic;
use rollout::{Effect, Fact, Gate, Instruction, Next, Seconds, SignedDuration, Slot, Verdict, observation};

/// v1 is stable on green, and both sides are put to sleep.
fn scaled_to_zero() -> TargetFixture {
    let mut fixture = TargetFixture::new();
    fixture.run("v1");
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
    set_live_tasks(&mut fixture, 0);
    fixture.effects.clear();
    fixture.journal.clear();
    fixture
}

/// The live side has so many tasks.
fn set_live_tasks(fixture: &mut TargetFixture, count: u32) {
    let live = fixture.weights().sole_side().unwrap();
    let side = fixture.side(live);
    (side.desired, side.running, side.targets.healthy) = (count, count, count);
}

fn is_gated_as_asleep(fixture: &TargetFixture) -> bool {
    let is_asleep_gate = |on: &WaitingOn| matches!(on, WaitingOn::Gate { gate: Gate::Asleep, .. });
    fixture.state.explanation.waiting_on.iter().any(is_asleep_gate)
}

#[test]
fn a_push_to_a_sleeping_service_deploys_when_it_wakes() {
    let mut fixture = scaled_to_zero();
    decide_until_waiting(&mut fixture, &[deploy("v2")]);
    assert_eq!(fixture.stage(), "gated");
    assert!(is_gated_as_asleep(&fixture), "{:?}", fixture.state.explanation);
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::BlockedByGate { gate: Gate::Asleep, .. })));
    // Nine hours: recorded once, looked at seldom, touched never.
    let (mut observations, evening) = (0, fixture.now);
    while fixture.now < evening + SignedDuration::from_secs(9 * 3600) {
        let before = fixture.now;
        assert!(matches!(fixture.advance(), Next::At(_)));
        assert!(Seconds::between(before, fixture.now) >= Seconds(120), "it looks again after {before}");
        observations += 1;
    }
    assert!(observations < 300, "{observations} looks");
    assert!(observation(&fixture.state).is_some(), "the service's waking is seen by looking");
    assert_eq!(fixture.effects, []);
    let gate_entries = fixture.journal.iter().filter(|entry| matches!(entry.fact, Fact::BlockedByGate { .. })).count();
    assert_eq!((gate_entries, fixture.stage()), (1, "gated"));
    // The morning.
    set_live_tasks(&mut fixture, 4);
    fixture.run_until(|_| false);
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::GateOpened { gate: Gate::Asleep, .. })));
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
    assert_eq!(fixture.state.stable.clone().unwrap().release.unwrap().tag, "v2");
}

#[test]
fn a_deployment_expires_if_the_service_stays_asleep() {
    let mut fixture = scaled_to_zero();
    fixture.applied.entry.rules.give_up_after = Seconds(6 * 3600);
    let asked = fixture.now;
    decide_until_waiting(&mut fixture, &[deploy("v2")]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Expired), "{}", fixture.end_reason());
    assert!(fixture.end_reason().contains("asleep"), "{}", fixture.end_reason());
    assert_eq!(Seconds::between(asked, fixture.now), Seconds(6 * 3600));
}

#[test]
fn a_newer_release_supersedes_one_waiting_for_the_service_to_wake() {
    let mut fixture = scaled_to_zero();
    decide_until_waiting(&mut fixture, &[deploy("v2")]);
    decide_until_waiting(&mut fixture, &[deploy("v3")]);
    set_live_tasks(&mut fixture, 4);
    fixture.run_until(|_| false);
    assert_eq!(fixture.state.stable.clone().unwrap().release.unwrap().tag, "v3");
    let verdicts: Vec<Verdict> = fixture
        .journal
        .iter()
        .filter_map(|entry| if let Fact::Ended { verdict, .. } = entry.fact { Some(verdict) } else { None })
        .collect();
    assert_eq!(verdicts, [Verdict::Superseded, Verdict::Succeeded]);
}

#[test]
fn a_service_is_awake_only_once_desired_tasks_are_read() {
    let mut fixture = scaled_to_zero();
    decide_until_waiting(&mut fixture, &[deploy("v2")]);
    let blue = std::mem::replace(&mut fixture.snapshot.blue, rollout::Reading::Unknown("throttled".to_owned()));
    fixture.advance();
    assert_eq!(fixture.stage(), "gated");
    fixture.snapshot.blue = blue;
    // Without its tasks up yet it is awake, and preflight waits for them.
    let live = fixture.weights().sole_side().unwrap();
    fixture.side(live).desired = 4;
    decide_until_waiting(&mut fixture, &[]);
    assert_eq!(fixture.stage(), "preflight");
    let never_deployed = TargetFixture::new();
    assert_eq!(never_deployed.state.stable, None);
    let mut never_deployed = never_deployed;
    set_live_tasks(&mut never_deployed, 0);
    decide_until_waiting(&mut never_deployed, &[deploy("v2")]);
    assert_eq!(
        never_deployed.stage(),
        "preflight",
        "of what was never deployed here nobody knows whether it is meant to be at 0"
    );
}

#[test]
fn a_rollback_of_a_sleeping_service_waits_and_is_not_superseded() {
    let mut fixture = TargetFixture::new();
    fixture.run("v1");
    fixture.run("v2");
    set_live_tasks(&mut fixture, 0);
    fixture.effects.clear();
    decide_until_waiting(&mut fixture, &[new_command(Instruction::Rollback, "r1")]);
    assert!(is_gated_as_asleep(&fixture), "{:?}", fixture.state.explanation);
    decide_until_waiting(&mut fixture, &[deploy("v3")]);
    assert!(is_gated_as_asleep(&fixture) && fixture.state.queued.len() == 1, "{:?}", fixture.state.explanation);
    assert_eq!(fixture.effects, []);
    set_live_tasks(&mut fixture, 4);
    fixture.run_until(|fixture| fixture.verdict() == Some(Verdict::Succeeded) && fixture.state.last_deployment == 4);
    fixture.run_until(|_| false);
    let ended = fixture.journal.iter().filter(|entry| matches!(entry.fact, Fact::Ended { .. })).count();
    assert_eq!(ended, 4, "v1, v2, the rollback to v1, then v3");
    assert_eq!(fixture.state.stable.clone().unwrap().release.unwrap().tag, "v3");
}

#[test]
fn weights_of_a_sleeping_service_are_repaired_without_waking_it() {
    let mut fixture = scaled_to_zero();
    fixture.edit_rule(50, 50);
    fixture.state.traffic =
        Some(LiveTraffic { rules: vec![Some(Weights { blue: 50, green: 50 })], seen_at: fixture.now });
    fixture.decide(&[new_command(Instruction::Rollback, "r1")]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.weights().sole_side(), Some(Slot::Green), "{}", fixture.end_reason());
    assert!(
        !fixture.effects.iter().any(|effect| matches!(effect, Effect::SetDesired { desired: 1.., .. })),
        "nobody is woken"
    );
    assert!(fixture.state.drift().is_none());
}

#[test]
fn the_asleep_gate_cannot_be_overridden() {
    let mut fixture = scaled_to_zero();
    decide_until_waiting(&mut fixture, &[deploy("v2")]);
    let deployment = fixture.state.running.as_ref().unwrap().number;
    let command = new_command(Instruction::Override { deployment, gates: [Gate::Asleep].into() }, "o1");
    decide_until_waiting(&mut fixture, &[command]);
    assert!(
        super::gates::last_refusal(&fixture).contains("wake the service"),
        "{}",
        super::gates::last_refusal(&fixture)
    );
    assert!(is_gated_as_asleep(&fixture));
}
