//! What CloudWatch says of alarms, as far as a decision: an alarm that is not evaluated, one that was deleted.

use super::fixture::*;
use rollout::alarm::{AlarmDetails, AlarmKind, AlarmsByName, reading};
use rollout::policy::MissingData;
use rollout::snapshot::AlarmReading;
use rollout::{Verdict, WaitingOn};

fn alarm_reading(state: &str, evaluation: &str) -> AlarmReading {
    let alarm = AlarmDetails {
        state: state.to_owned(),
        reason: "the alarm's query needs a schema".to_owned(),
        evaluation: Some(evaluation.to_owned()),
        kind: AlarmKind::Log { period_s: 300, results: 1 },
    };
    reading("api-5xx", &AlarmsByName::from([("api-5xx".to_owned(), alarm)]))
}

/// CloudWatch user guide, "Alarm evaluation": `EvaluationState` stands beside `StateValue`, whatever that is.
#[test]
fn an_unevaluated_alarm_counts_as_no_data_in_any_state() {
    for evaluation in ["EVALUATION_ERROR", "EVALUATION_FAILURE", "PARTIAL_DATA"] {
        let mut fixture = TargetFixture::new();
        fixture.alarm(alarm_reading("OK", evaluation));
        fixture.decide(&[deploy("v2")]);
        let alarm_wait = |fixture: &TargetFixture| {
            let mut waiting = fixture.state.explanation.waiting_on.iter();
            waiting.find(|on| matches!(on, WaitingOn::Alarms { .. })).cloned()
        };
        fixture.run_until(|fixture| alarm_wait(fixture).is_some());
        let waiting = alarm_wait(&fixture).expect("it waits for the alarm");
        let WaitingOn::Alarms { names, absent, not_evaluated, .. } = &waiting else { panic!("{waiting:?}") };
        assert!(names.is_empty() && absent.is_empty(), "{waiting:?}");
        let detail = not_evaluated.get("api-5xx").expect("the alarm");
        assert!(detail.contains(evaluation) && detail.contains("needs a schema"), "AWS's words: {detail}");
        fixture.run_until(|_| false);
        assert_eq!(fixture.weights().green, 0);
        assert_eq!(fixture.verdict(), Some(Verdict::Failed));
        assert!(fixture.end_reason().contains(evaluation), "{}", fixture.end_reason());
    }
}

#[test]
fn a_firing_alarm_with_partial_data_rolls_back() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().green == 50);
    fixture.alarm(alarm_reading("ALARM", "PARTIAL_DATA"));
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack));
    assert_eq!(fixture.weights().green, 0);
}

#[test]
fn an_unevaluated_alarm_follows_the_missing_data_setting() {
    for (missing, verdict) in [(MissingData::Healthy, Verdict::Succeeded), (MissingData::Unhealthy, Verdict::Failed)] {
        let mut rules = policy();
        rules.alarms[0].missing = missing;
        let mut fixture = TargetFixture::with(rules);
        fixture.alarm(alarm_reading("OK", "EVALUATION_FAILURE"));
        fixture.run("v2");
        assert_eq!(fixture.verdict(), Some(verdict), "{missing:?}: {}", fixture.end_reason());
    }
}

#[test]
fn an_alarm_deleted_during_a_shift_is_reported_missing() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().green == 10);
    fixture.alarm(AlarmReading::Absent);
    let is_missing = |fixture: &TargetFixture| {
        let missing = |on: &WaitingOn| matches!(on, WaitingOn::Alarms { absent, names, .. } if absent.contains("api-5xx") && names.is_empty());
        fixture.state.explanation.waiting_on.iter().any(missing)
    };
    fixture.run_until(is_missing);
    assert!(is_missing(&fixture), "{:?}", fixture.state.explanation);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack));
    assert!(fixture.end_reason().contains("no alarm api-5xx"), "{}", fixture.end_reason());
    assert!(!fixture.end_reason().contains("no data"), "{}", fixture.end_reason());
}
