//! Alarms that look at one side alone: what they accuse, and when their silence means nothing.

use super::scene::{Scene, ask, deploy};
use rollout::policy::StableFiring;
use rollout::snapshot::{AlarmReading, Weights};
use rollout::stage::Verdict;
use rollout::{Fact, Instruction, Slot};

/// Blue is stable; the alarm looks at `side` alone.
fn watching(side: Slot) -> Scene {
    let mut scene = Scene::new();
    scene.snapshot.alarm_sides.insert("api-5xx".to_owned(), side);
    scene.decide(&[deploy("v2")]);
    scene
}

#[test]
fn the_stable_sides_own_alarm_holds_and_calls_people_and_moves_nothing_onto_that_side() {
    let mut scene = watching(Slot::Blue);
    scene.until(|scene| scene.weights().green == 50);
    scene.turn();
    scene.fire();
    for _ in 0..200 {
        scene.turn();
    }
    assert_eq!(scene.weights(), Weights { blue: 50, green: 50 }, "neither on nor back");
    assert_eq!(scene.verdict(), None, "a person decides, and has hours for it");
    let called = scene.journal.iter().filter(|entry| {
        matches!(&entry.fact, Fact::StableAlarm { alarm, .. } if alarm == "api-5xx") && entry.fact.wants_attention()
    });
    assert_eq!(called.count(), 1, "{:#?}", scene.journal);

    scene.alarm(AlarmReading::Ok);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "it goes on once that is over");
    assert!(scene.wrote(|fact| matches!(fact, Fact::StableAlarmOver { .. })));
}

#[test]
fn a_person_may_let_it_go_on_or_back_in_spite_of_the_stable_sides_alarm() {
    for (what, verdict) in [(Instruction::Resume, Verdict::Succeeded), (Instruction::Rollback, Verdict::RolledBack)] {
        let mut scene = watching(Slot::Blue);
        scene.until(|scene| scene.weights().green == 50);
        scene.turn();
        scene.fire();
        scene.turn();
        scene.decide(&[ask(what, "p1")]);
        scene.until(|_| false);
        assert_eq!(scene.verdict(), Some(verdict));
    }
}

#[test]
fn where_the_policy_says_so_traffic_goes_on_from_an_ill_stable_side() {
    let mut scene = watching(Slot::Blue);
    if let Some(running) = &mut scene.state.running {
        running.policy.alarms[0].stable_firing = StableFiring::GoOn;
    }
    scene.applied.policy.alarms[0].stable_firing = StableFiring::GoOn;
    scene.until(|scene| scene.weights().green == 10);
    scene.fire();
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded));
    assert_eq!(scene.weights(), Weights { blue: 0, green: 100 });
}

#[test]
fn the_candidates_own_alarm_goes_back() {
    let mut scene = watching(Slot::Green);
    scene.until(|scene| scene.weights().green == 50);
    scene.fire();
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::RolledBack));
}

/// Default settings (`missing: wait`): green's latency has no data before green has traffic.
#[test]
fn a_side_without_traffic_may_be_silent_and_the_first_step_begins() {
    for side in [Slot::Green, Slot::Blue] {
        let mut scene = watching(side);
        scene.until(|scene| scene.stage() != "gated" && scene.stage() != "preflight");
        for _ in 0..2_000 {
            if scene.state.running.is_none() {
                break;
            }
            let carries = scene.weights().of(side) > 0;
            scene.alarm(if carries { AlarmReading::Ok } else { no_data() });
            scene.turn();
        }
        assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{side}: {}", scene.ending());
    }
}

#[test]
fn a_side_that_has_traffic_and_stays_silent_is_not_taken_for_healthy() {
    let mut scene = watching(Slot::Green);
    scene.until(|scene| scene.weights().green == 10);
    scene.alarm(no_data());
    scene.until(|_| false);
    assert_ne!(scene.verdict(), Some(Verdict::Succeeded), "silence under traffic is not health: {:#?}", scene.journal);
    assert!(scene.ending().contains("api-5xx"), "{}", scene.ending());
}

#[test]
fn an_alarm_that_fires_for_the_idle_side_blocks_a_start() {
    let mut scene = Scene::new();
    scene.snapshot.alarm_sides.insert("api-5xx".to_owned(), Slot::Green);
    scene.fire();
    scene.decide(&[deploy("v2")]);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Failed));
    assert_eq!(scene.weights().green, 0);
}

#[test]
fn an_alarm_of_both_sides_that_is_silent_still_waits() {
    let mut scene = Scene::new();
    scene.alarm(no_data());
    scene.decide(&[deploy("v2")]);
    scene.until(|_| false);
    assert_ne!(scene.verdict(), Some(Verdict::Succeeded));
    assert_eq!(scene.weights().green, 0);
}

fn no_data() -> AlarmReading {
    AlarmReading::NoData
}
