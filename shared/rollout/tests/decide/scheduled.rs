//! Scheduled actions of autoscaling that fall into a deployment, while scheduled scaling is suspended.

use super::fixture::{TargetFixture, deploy, start};
use rollout::schedule::ScheduledAction;
use rollout::snapshot::Autoscaling;
use rollout::{Effect, Fact, Reading, Seconds, Slot, Timestamp, Verdict, observation};

/// An action of every day at this time, of whose limits some may stay as they are.
fn daily_action(name: &str, at: Timestamp, min: Option<u32>, max: Option<u32>) -> ScheduledAction {
    ScheduledAction {
        name: name.to_owned(),
        schedule: format!("cron({} {} * * ? *)", at.strftime("%-M"), at.strftime("%-H")),
        time_zone: None,
        start: None,
        end: None,
        created: start(),
        min,
        max,
    }
}

/// A deployment that begins at 03:00:00, of a side with 2 to 8 tasks to one that is parked at 0.
fn fixture() -> TargetFixture {
    let mut fixture = TargetFixture::new();
    fixture.autoscale(Slot::Blue, 2, 8);
    fixture.autoscale(Slot::Green, 0, 0);
    fixture
}

fn schedule(fixture: &mut TargetFixture, slot: Slot, actions: Vec<ScheduledAction>) {
    fixture.snapshot.schedules.insert(slot, Reading::Known(actions));
}

fn current_limits(fixture: &mut TargetFixture, slot: Slot) -> (u32, u32, bool) {
    let Autoscaling { min, max, scheduled_suspended, .. } = fixture.side(slot).autoscaling.unwrap();
    (min, max, scheduled_suspended)
}

fn restored_limits(fixture: &TargetFixture) -> Vec<(Slot, u32, u32, Vec<String>)> {
    let fact = |fact: &Fact| match fact {
        Fact::AutoscalingRestored { slot, min, max, scheduled } => Some((*slot, *min, *max, scheduled.clone())),
        _ => None,
    };
    fixture.journal.iter().filter_map(|entry| fact(&entry.fact)).collect()
}

/// Application Auto Scaling user guide, "Suspend and resume scaling": no scheduled action runs meanwhile. That none runs
/// later is not documented; nobody has seen one.
#[test]
fn limits_of_missed_scheduled_actions_are_restored_and_journalled() {
    let mut fixture = fixture();
    let at = start() + rollout::SignedDuration::from_secs(120);
    schedule(&mut fixture, Slot::Blue, vec![daily_action("morning", at, Some(6), Some(20))]);
    fixture.run("v2");
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
    assert_eq!(current_limits(&mut fixture, Slot::Green), (6, 20, false), "the limits go with the role");
    assert_eq!(current_limits(&mut fixture, Slot::Blue), (0, 0, false));
    let expected = [(Slot::Blue, 0, 0, vec![]), (Slot::Green, 6, 20, vec!["morning".to_owned()])];
    assert_eq!(restored_limits(&fixture), expected);
}

#[test]
fn a_rollback_restores_scheduled_limits_on_the_stable_side() {
    let mut fixture = fixture();
    let at = start() + rollout::SignedDuration::from_secs(60);
    schedule(&mut fixture, Slot::Blue, vec![daily_action("morning", at, Some(6), None)]);
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().green == 50);
    fixture.fire_alarm();
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack));
    assert_eq!(current_limits(&mut fixture, Slot::Blue), (6, 8, false));
    assert_eq!(current_limits(&mut fixture, Slot::Green), (0, 0, false));
}

#[test]
fn the_last_valid_missed_action_wins() {
    let mut fixture = fixture();
    let after = |seconds| start() + rollout::SignedDuration::from_secs(seconds);
    let actions = vec![
        daily_action("later", after(180), Some(5), None),
        daily_action("earlier", after(60), Some(3), Some(30)),
        daily_action("yesterday", start() - rollout::SignedDuration::from_secs(3600), Some(1), Some(1)),
        // AWS refuses limits that cross.
        daily_action("crossed", after(240), Some(40), None),
    ];
    schedule(&mut fixture, Slot::Blue, actions);
    fixture.run("v2");
    assert_eq!(current_limits(&mut fixture, Slot::Green), (5, 30, false));
    assert_eq!(restored_limits(&fixture)[1].3, ["earlier", "later"]);
}

#[test]
fn actions_suspended_before_the_deployment_are_ignored() {
    let mut fixture = fixture();
    fixture.side(Slot::Blue).autoscaling.as_mut().unwrap().scheduled_suspended = true;
    schedule(
        &mut fixture,
        Slot::Blue,
        vec![daily_action("morning", start() + rollout::SignedDuration::from_secs(60), Some(6), None)],
    );
    fixture.run("v2");
    assert_eq!(current_limits(&mut fixture, Slot::Green), (2, 8, true));
}

#[test]
fn an_unreadable_schedule_restores_original_limits_first() {
    let mut fixture = fixture();
    let at = start() + rollout::SignedDuration::from_secs(120);
    for slot in Slot::BOTH {
        fixture.snapshot.schedules.insert(slot, Reading::Unknown("ThrottlingException".to_owned()));
    }
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.stage() == "retiring" && fixture.snapshot.blue.known().unwrap().desired == 0);
    fixture.advance();
    assert_eq!(
        current_limits(&mut fixture, Slot::Green),
        (2, 8, false),
        "nothing stays suspended for want of a reading"
    );
    schedule(&mut fixture, Slot::Blue, vec![daily_action("morning", at, Some(6), None)]);
    schedule(&mut fixture, Slot::Green, vec![]);
    fixture.run_until(|_| false);
    assert_eq!(current_limits(&mut fixture, Slot::Green), (6, 8, false));
}

#[test]
fn an_invalid_schedule_is_reported_for_manual_cleanup() {
    let mut fixture = fixture();
    let odd = ScheduledAction { schedule: "every full moon".to_owned(), ..daily_action("odd", start(), Some(6), None) };
    schedule(&mut fixture, Slot::Blue, vec![odd]);
    fixture.run("v2");
    assert_eq!(current_limits(&mut fixture, Slot::Green), (2, 8, false));
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::CleanupIncomplete { what } if what.contains("odd"))));
}

#[test]
fn schedules_are_read_only_when_limits_are_restored() {
    let mut fixture = fixture();
    fixture.decide(&[deploy("v2")]);
    let mut requested = vec![];
    fixture.run_until(|fixture| {
        if let Some(observation) = observation(&fixture.state) {
            requested.push((fixture.stage(), !observation.scheduled_actions_of.is_empty()));
        }
        false
    });
    assert!(requested.iter().all(|(stage, requested)| !requested || *stage == "retiring"), "{requested:?}");
    let mut without = TargetFixture::new();
    without.decide(&[deploy("v2")]);
    without.run_until(|fixture| {
        assert!(
            observation(&fixture.state).is_none_or(|observation| observation.scheduled_actions_of.is_empty()),
            "there is no scalable target"
        );
        false
    });
}

#[test]
fn limits_are_not_restored_before_schedules_are_read() {
    let mut fixture = fixture();
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.stage() == "retiring");
    fixture.now = Seconds(60).after(fixture.now);
    fixture.snapshot.schedules.clear();
    let done = fixture.effects.len();
    fixture.decide(&[]);
    let restores_settings =
        |effect: &Effect| matches!(effect, Effect::SetAutoscaling { .. } | Effect::SetDesired { .. });
    assert!(!fixture.effects[done..].iter().any(restores_settings), "{:?}", &fixture.effects[done..]);
}
