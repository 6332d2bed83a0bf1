use super::fixture::{TargetFixture, deploy, deploy_overriding_alarms, new_command};
use rollout::snapshot::AlarmReading;
use rollout::{Fact, Instruction, Next, Reading, observation};
use std::collections::BTreeSet;

/// Goes on until nothing runs, and asks at every decision whether the look calls the alarm decisive just where its
/// firing turns the deployment back. Answers the stages that were met, each with that.
fn decisive_by_stage(fixture: &mut TargetFixture) -> BTreeSet<(&'static str, bool)> {
    let mut seen_stages = BTreeSet::new();
    for _ in 0..2000 {
        let Some(observation) = observation(&fixture.state) else { return seen_stages };
        let decisive = observation.decisive_alarms.contains("api-5xx");
        let mut firing = fixture.seen();
        let reading = AlarmReading::Firing { reason: "5 % of the answers are 5xx".to_owned() };
        firing.alarms = Reading::Known([("api-5xx".to_owned(), reading)].into_iter().collect());
        let inbox =
            rollout::Inbox { commands: &[], policy: Some(&fixture.applied), gate_context: Some(&fixture.gate_context) };
        let decision = rollout::decide(&fixture.state, &inbox, Some(&firing), fixture.now);
        let rolled_back = decision.journal.iter().any(|entry| matches!(entry.fact, Fact::RollbackStarted { .. }));
        let stage = fixture.stage();
        assert_eq!(decisive, rolled_back, "in {stage}: {:?}", fixture.state.running);
        seen_stages.insert((stage, decisive));
        if let Next::At(at) = fixture.decide(&[]) {
            fixture.now = at;
        }
    }
    panic!("it never ends: {:#?}", fixture.state.explanation);
}

#[test]
fn an_alarm_is_decisive_exactly_where_it_rolls_back() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    let seen_stages = decisive_by_stage(&mut fixture);
    for stage in ["scaling", "shifting", "baking", "keeping_warm"] {
        assert!(seen_stages.contains(&(stage, true)), "{stage}: {seen_stages:?}");
    }
    for stage in ["preflight", "retiring"] {
        assert!(seen_stages.contains(&(stage, false)), "{stage}: {seen_stages:?}");
    }

    fixture.run("v3");
    fixture.decide(&[deploy("v4")]);
    fixture.run_until(|fixture| fixture.stage() == "shifting");
    fixture.decide(&[new_command(Instruction::Abort { deployment: None }, "a1")]);
    assert_eq!(decisive_by_stage(&mut fixture), [("rolling_back", false)].into_iter().collect());

    fixture.decide(&[new_command(Instruction::Rollback, "r1")]);
    assert!(fixture.state.running.is_some(), "it goes back to the release before");
    let seen_stages = decisive_by_stage(&mut fixture);
    assert!(seen_stages.iter().all(|(_, decisive)| !decisive), "a rollback is not judged by alarms: {seen_stages:?}");
}

#[test]
fn an_overridden_alarm_becomes_decisive_after_it_was_ok() {
    let mut fixture = TargetFixture::new();
    fixture.fire_alarm();
    fixture.decide(&[deploy_overriding_alarms("v2", &["api-5xx"])]);
    fixture.run_until(|fixture| fixture.stage() == "shifting");
    let decisive = |fixture: &TargetFixture| observation(&fixture.state).expect("it runs").decisive_alarms;
    assert_eq!(decisive(&fixture), BTreeSet::new());
    fixture.alarm(AlarmReading::Ok);
    fixture.advance();
    assert_eq!(decisive(&fixture), BTreeSet::from(["api-5xx".to_owned()]));
}
