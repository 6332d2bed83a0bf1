//! Scheduled actions of autoscaling that fall into a deployment, while scheduled scaling is suspended.

use super::scene::{Scene, deploy, start};
use rollout::schedule::ScheduledAction;
use rollout::snapshot::Autoscaling;
use rollout::{Effect, Fact, Reading, Seconds, Slot, Timestamp, Verdict, look};

/// An action of every day at this time, of whose limits some may stay as they are.
fn daily(name: &str, at: Timestamp, min: Option<u32>, max: Option<u32>) -> ScheduledAction {
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
fn scene() -> Scene {
    let mut scene = Scene::new();
    scene.autoscale(Slot::Blue, 2, 8);
    scene.autoscale(Slot::Green, 0, 0);
    scene
}

fn schedule(scene: &mut Scene, slot: Slot, actions: Vec<ScheduledAction>) {
    scene.snapshot.schedules.insert(slot, Reading::Known(actions));
}

fn in_force(scene: &mut Scene, slot: Slot) -> (u32, u32, bool) {
    let Autoscaling { min, max, scheduled_suspended, .. } = scene.side(slot).autoscaling.unwrap();
    (min, max, scheduled_suspended)
}

fn returned(scene: &Scene) -> Vec<(Slot, u32, u32, Vec<String>)> {
    let fact = |fact: &Fact| match fact {
        Fact::AutoscalingReturned { slot, min, max, scheduled } => Some((*slot, *min, *max, scheduled.clone())),
        _ => None,
    };
    scene.journal.iter().filter_map(|entry| fact(&entry.fact)).collect()
}

#[test]
fn what_a_scheduled_action_would_have_set_is_given_back_and_told() {
    let mut scene = scene();
    let at = start() + rollout::SignedDuration::from_secs(120);
    schedule(&mut scene, Slot::Blue, vec![daily("morning", at, Some(6), Some(20))]);
    scene.run("v2");
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
    assert_eq!(in_force(&mut scene, Slot::Green), (6, 20, false), "the limits go with the role");
    assert_eq!(in_force(&mut scene, Slot::Blue), (0, 0, false));
    let expected = [(Slot::Blue, 0, 0, vec![]), (Slot::Green, 6, 20, vec!["morning".to_owned()])];
    assert_eq!(returned(&scene), expected);
}

#[test]
fn after_going_back_it_is_given_back_where_it_was() {
    let mut scene = scene();
    let at = start() + rollout::SignedDuration::from_secs(60);
    schedule(&mut scene, Slot::Blue, vec![daily("morning", at, Some(6), None)]);
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().green == 50);
    scene.fire();
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::RolledBack));
    assert_eq!(in_force(&mut scene, Slot::Blue), (6, 8, false));
    assert_eq!(in_force(&mut scene, Slot::Green), (0, 0, false));
}

#[test]
fn the_last_of_several_counts_and_what_runs_at_another_time_or_never_would_have_does_not() {
    let mut scene = scene();
    let after = |seconds| start() + rollout::SignedDuration::from_secs(seconds);
    let actions = vec![
        daily("later", after(180), Some(5), None),
        daily("earlier", after(60), Some(3), Some(30)),
        daily("yesterday", start() - rollout::SignedDuration::from_secs(3600), Some(1), Some(1)),
        // AWS refuses limits that cross.
        daily("crossed", after(240), Some(40), None),
    ];
    schedule(&mut scene, Slot::Blue, actions);
    scene.run("v2");
    assert_eq!(in_force(&mut scene, Slot::Green), (5, 30, false));
    assert_eq!(returned(&scene)[1].3, ["earlier", "later"]);
}

#[test]
fn what_somebody_had_suspended_would_not_have_run() {
    let mut scene = scene();
    scene.side(Slot::Blue).autoscaling.as_mut().unwrap().scheduled_suspended = true;
    schedule(
        &mut scene,
        Slot::Blue,
        vec![daily("morning", start() + rollout::SignedDuration::from_secs(60), Some(6), None)],
    );
    scene.run("v2");
    assert_eq!(in_force(&mut scene, Slot::Green), (2, 8, true));
}

#[test]
fn a_schedule_that_cannot_be_read_gives_back_what_was_found_and_waits_for_it() {
    let mut scene = scene();
    let at = start() + rollout::SignedDuration::from_secs(120);
    for slot in [Slot::Blue, Slot::Green] {
        scene.snapshot.schedules.insert(slot, Reading::Unknown("ThrottlingException".to_owned()));
    }
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.stage() == "retiring" && scene.snapshot.blue.known().unwrap().desired == 0);
    scene.turn();
    assert_eq!(in_force(&mut scene, Slot::Green), (2, 8, false), "nothing stays suspended for want of a reading");
    schedule(&mut scene, Slot::Blue, vec![daily("morning", at, Some(6), None)]);
    schedule(&mut scene, Slot::Green, vec![]);
    scene.until(|_| false);
    assert_eq!(in_force(&mut scene, Slot::Green), (6, 8, false));
}

#[test]
fn a_schedule_that_is_not_understood_is_left_for_a_person() {
    let mut scene = scene();
    let odd = ScheduledAction { schedule: "every full moon".to_owned(), ..daily("odd", start(), Some(6), None) };
    schedule(&mut scene, Slot::Blue, vec![odd]);
    scene.run("v2");
    assert_eq!(in_force(&mut scene, Slot::Green), (2, 8, false));
    assert!(scene.wrote(|fact| matches!(fact, Fact::LeftBehind { what } if what.contains("odd"))));
}

#[test]
fn schedules_are_read_only_when_limits_are_given_back() {
    let mut scene = scene();
    scene.decide(&[deploy("v2")]);
    let mut asked = vec![];
    scene.until(|scene| {
        if let Some(look) = look(&scene.state) {
            asked.push((scene.stage(), !look.schedules_of.is_empty()));
        }
        false
    });
    assert!(asked.iter().all(|(stage, asked)| !asked || *stage == "retiring"), "{asked:?}");
    let mut without = Scene::new();
    without.decide(&[deploy("v2")]);
    without.until(|scene| {
        assert!(look(&scene.state).is_none_or(|look| look.schedules_of.is_empty()), "there is no scalable target");
        false
    });
}

#[test]
fn a_look_that_did_not_ask_for_schedules_gives_nothing_back_yet() {
    let mut scene = scene();
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.stage() == "retiring");
    scene.now = Seconds(60).after(scene.now);
    scene.snapshot.schedules.clear();
    let done = scene.effects.len();
    scene.decide(&[]);
    let given = |effect: &Effect| matches!(effect, Effect::SetAutoscaling { .. } | Effect::SetDesired { .. });
    assert!(!scene.effects[done..].iter().any(given), "{:?}", &scene.effects[done..]);
}
