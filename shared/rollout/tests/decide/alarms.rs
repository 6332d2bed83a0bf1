//! What CloudWatch says of alarms, as far as a decision: an alarm that is not evaluated, one that was deleted.

use super::scene::*;
use rollout::alarm::{AlarmKind, AlarmSeen, Alarms, reading};
use rollout::policy::MissingData;
use rollout::snapshot::AlarmReading;
use rollout::{Verdict, WaitingOn};

fn described(state: &str, evaluation: &str) -> AlarmReading {
    let alarm = AlarmSeen {
        state: state.to_owned(),
        reason: "the alarm's query needs a schema".to_owned(),
        evaluation: Some(evaluation.to_owned()),
        kind: AlarmKind::Log { period_s: 300, results: 1 },
    };
    reading("api-5xx", &Alarms::from([("api-5xx".to_owned(), alarm)]))
}

/// CloudWatch user guide, "Alarm evaluation": `EvaluationState` stands beside `StateValue`, whatever that is.
#[test]
fn an_alarm_that_is_not_evaluated_is_no_data_whatever_its_state_says() {
    for evaluation in ["EVALUATION_ERROR", "EVALUATION_FAILURE", "PARTIAL_DATA"] {
        let mut scene = Scene::new();
        scene.alarm(described("OK", evaluation));
        scene.decide(&[deploy("v2")]);
        let waits = |scene: &Scene| {
            let mut waiting = scene.state.explanation.waiting_on.iter();
            waiting.find(|on| matches!(on, WaitingOn::Alarms { .. })).cloned()
        };
        scene.until(|scene| waits(scene).is_some());
        let waiting = waits(&scene).expect("it waits for the alarm");
        let WaitingOn::Alarms { names, absent, not_evaluated, .. } = &waiting else { panic!("{waiting:?}") };
        assert!(names.is_empty() && absent.is_empty(), "{waiting:?}");
        let words = not_evaluated.get("api-5xx").expect("the alarm");
        assert!(words.contains(evaluation) && words.contains("needs a schema"), "AWS's words: {words}");
        scene.until(|_| false);
        assert_eq!(scene.weights().green, 0);
        assert_eq!(scene.verdict(), Some(Verdict::Failed));
        assert!(scene.ending().contains(evaluation), "{}", scene.ending());
    }
}

#[test]
fn an_alarm_that_fires_fires_although_it_is_evaluated_in_part() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().green == 50);
    scene.alarm(described("ALARM", "PARTIAL_DATA"));
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::RolledBack));
    assert_eq!(scene.weights().green, 0);
}

#[test]
fn what_is_not_evaluated_is_health_or_failure_where_the_policy_says_so_of_silence() {
    for (missing, verdict) in [(MissingData::Healthy, Verdict::Succeeded), (MissingData::Unhealthy, Verdict::Failed)] {
        let mut rules = policy();
        rules.alarms[0].missing = missing;
        let mut scene = Scene::with(rules);
        scene.alarm(described("OK", "EVALUATION_FAILURE"));
        scene.run("v2");
        assert_eq!(scene.verdict(), Some(verdict), "{missing:?}: {}", scene.ending());
    }
}

#[test]
fn an_alarm_that_is_deleted_in_mid_shift_is_said_to_be_missing() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().green == 10);
    scene.alarm(AlarmReading::Absent);
    let is_missing = |scene: &Scene| {
        let missing = |on: &WaitingOn| matches!(on, WaitingOn::Alarms { absent, names, .. } if absent.contains("api-5xx") && names.is_empty());
        scene.state.explanation.waiting_on.iter().any(missing)
    };
    scene.until(is_missing);
    assert!(is_missing(&scene), "{:?}", scene.state.explanation);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::RolledBack));
    assert!(scene.ending().contains("no alarm api-5xx"), "{}", scene.ending());
    assert!(!scene.ending().contains("no data"), "{}", scene.ending());
}
