//! Several services as one set: in order, and back together or not at all.

use super::gates::settle;
use super::scene::{Scene, ask, deploy, target};
use rollout::promotion::Neighbour;
use rollout::target::Errand;
use rollout::{Command, Concurrency, Fact, ImageDigest, Instruction, Name, Next, Slot, TargetId, Train, Verdict};
use std::collections::BTreeMap;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn digest(of: u8) -> ImageDigest {
    ImageDigest::new(format!("sha256:{of:064x}")).unwrap()
}

fn users() -> TargetId {
    TargetId { service: name("users"), ..target() }
}

/// A release of api that goes with users, which it depends on.
fn aboard(tag: &str, together: bool) -> Command {
    let mut command = deploy(tag);
    if let Instruction::Deploy { release, terms, .. } = &mut command.instruction {
        let members = BTreeMap::from([(name("api"), release.digest.clone()), (name("users"), digest(7))]);
        terms.train = Some(Train { id: "t1".to_owned(), members, together });
    }
    command
}

fn scene() -> Scene {
    let mut scene = Scene::new();
    scene.applied.entry.depends_on.insert(name("users"));
    scene.around.neighbours.insert(users(), Neighbour::default());
    scene
}

fn users_is_there(scene: &mut Scene) {
    scene.around.neighbours.insert(users(), Neighbour { verified: vec![], stable: Some(digest(7)) });
}

fn stop() -> Command {
    Command::stop_train(target(), "t1", &name("users"), "alarm users-5xx fired", super::scene::start())
}

fn stopped(scene: &Scene) -> bool {
    scene.errands.iter().any(|errand| matches!(errand, Errand::TrainStopped { .. }))
}

#[test]
fn a_service_waits_for_those_it_depends_on() {
    let mut scene = scene();
    settle(&mut scene, &[aboard("v2", true)]);
    assert_eq!(scene.stage(), "gated");
    users_is_there(&mut scene);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded));
    assert!(!stopped(&scene));
}

#[test]
fn what_does_not_make_it_tells_the_others() {
    let mut scene = scene();
    users_is_there(&mut scene);
    scene.decide(&[aboard("v2", true)]);
    scene.until(|scene| scene.weights().of(Slot::Green) > 0);
    scene.fire();
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::RolledBack));
    assert!(stopped(&scene));
}

#[test]
fn what_may_not_come_at_all_tells_the_others_too() {
    let mut scene = scene();
    scene.applied.entry.rules.after = Some(rollout::entry::After::All(vec![name("staging")]));
    let staging = TargetId { environment: name("staging"), ..target() };
    scene.around.neighbours.insert(staging, Neighbour::default());
    settle(&mut scene, &[aboard("v2", true)]);
    assert_eq!(scene.stage(), "none");
    assert!(stopped(&scene));
}

#[test]
fn who_still_waits_does_not_begin_when_the_train_stops() {
    for together in [true, false] {
        let mut scene = scene();
        settle(&mut scene, &[aboard("v2", together)]);
        settle(&mut scene, &[stop()]);
        assert_eq!(scene.verdict(), Some(Verdict::Failed));
        assert_eq!(scene.ending(), "users of its release train failed: alarm users-5xx fired");
        assert!(!stopped(&scene), "who was told does not tell");
    }
}

#[test]
fn who_is_under_way_goes_back_with_the_train_where_the_policy_says_together() {
    for (together, verdict) in [(true, Verdict::RolledBack), (false, Verdict::Succeeded)] {
        let mut scene = scene();
        users_is_there(&mut scene);
        scene.decide(&[aboard("v2", together)]);
        scene.until(|scene| scene.weights().of(Slot::Green) > 0);
        scene.decide(&[stop()]);
        scene.until(|_| false);
        assert_eq!(scene.verdict(), Some(verdict), "together: {together}");
    }
}

#[test]
fn who_has_arrived_goes_back_with_the_train() {
    let mut scene = scene();
    scene.run("v1");
    users_is_there(&mut scene);
    scene.decide(&[aboard("v2", true)]);
    scene.until(|_| false);
    scene.decide(&[stop()]);
    scene.until(|_| false);
    let stable =
        scene.state.stable.as_ref().and_then(|stable| stable.release.as_ref()).map(|release| release.tag.clone());
    assert_eq!(stable.as_deref(), Some("v1"));
    assert!(!scene.state.verified.iter().any(|known| known.release.tag == "v2"), "verified no more");
}

#[test]
fn who_is_past_its_way_back_goes_back_after_its_end() {
    let mut scene = scene();
    scene.run("v1");
    users_is_there(&mut scene);
    scene.autoscale(Slot::Green, 4, 8);
    scene.autoscale(Slot::Blue, 0, 8);
    scene.decide(&[aboard("v2", true)]);
    scene.until(|scene| {
        let running = scene.state.running.as_ref();
        running.is_none_or(|running| running.way_back().is_none())
    });
    // The command stays in the inbox until it can be followed.
    for _ in 0..40 {
        scene.decide(&[stop()]);
        scene.turn();
    }
    scene.until(|_| false);
    let stable =
        scene.state.stable.as_ref().and_then(|stable| stable.release.as_ref()).map(|release| release.tag.clone());
    assert_eq!(stable.as_deref(), Some("v1"));
}

#[test]
fn another_trains_stop_is_none_of_its_business() {
    let mut scene = scene();
    users_is_there(&mut scene);
    scene.run("v1");
    let before = scene.journal.len();
    settle(&mut scene, &[stop()]);
    assert_eq!((scene.journal.len(), scene.stage()), (before, "none"));
}

#[test]
fn a_rollback_of_one_takes_the_others_along() {
    for together in [true, false] {
        let mut scene = scene();
        scene.run("v1");
        users_is_there(&mut scene);
        scene.decide(&[aboard("v2", together)]);
        scene.until(|_| false);
        scene.decide(&[ask(Instruction::Rollback, "r")]);
        scene.until(|_| false);
        assert_eq!(stopped(&scene), together);
        assert!(scene.wrote(|fact| matches!(fact, Fact::Withdrawn { tag, .. } if tag == "v2")));
    }
}

#[test]
fn who_gives_way_to_another_release_before_it_begins_tells_the_others() {
    let mut scene = scene();
    scene.decide(&[deploy("v1")]);
    scene.decide(&[aboard("v2", true)]);
    assert!(!stopped(&scene), "it waits for v1 to end");
    scene.decide(&[deploy("v3")]);
    assert!(scene.wrote(|fact| matches!(fact, Fact::Superseded { tag, .. } if tag == "v2")));
    assert!(stopped(&scene), "the others would wait for it");
}

#[test]
fn who_is_turned_away_where_one_release_is_taken_at_a_time_tells_the_others() {
    let mut scene = scene();
    scene.applied.concurrency = Concurrency::Reject;
    scene.decide(&[deploy("v1")]);
    scene.decide(&[aboard("v2", true)]);
    assert!(scene.wrote(|fact| matches!(fact, Fact::CommandRefused { .. })));
    assert!(stopped(&scene));
}

#[test]
fn a_release_that_is_on_its_way_already_travels_with_the_train_that_asks_for_it() {
    let mut scene = scene();
    users_is_there(&mut scene);
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().of(Slot::Green) > 0);
    let again = Command { id: rollout::CommandId("train".to_owned()), ..aboard("v2", true) };
    scene.decide(&[again]);
    scene.fire();
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::RolledBack));
    assert!(stopped(&scene), "the others wait for it");
}

/// v3 is on its way over what the train has brought when the train stops.
fn overtaken() -> Scene {
    let mut scene = scene();
    scene.run("v1");
    users_is_there(&mut scene);
    scene.decide(&[aboard("v2", true)]);
    scene.until(|_| false);
    scene.decide(&[deploy("v3")]);
    scene.until(|scene| scene.weights().of(Slot::Blue) > 0 && scene.weights().of(Slot::Green) > 0);
    scene
}

fn stable(scene: &Scene) -> Option<String> {
    scene.state.stable.as_ref().and_then(|stable| stable.release.as_ref()).map(|release| release.tag.clone())
}

/// The command stays in the inbox until it is done with.
fn until_stopped(scene: &mut Scene) {
    for _ in 0..400 {
        let inbox = rollout::Inbox { commands: &[stop()], policy: Some(&scene.applied), around: Some(&scene.around) };
        let seen = scene.state.running.is_some().then(|| scene.seen());
        let decision = rollout::decide(&scene.state, &inbox, seen.as_ref(), scene.now);
        let ends = scene.state.running.is_some() && decision.state.running.is_none();
        let next = scene.decide(&[stop()]);
        if !decision.consumed.is_empty() {
            return;
        }
        assert!(!ends || next == Next::Again, "it rests, and the train's stop is still to be answered");
        if let Next::At(at) = next {
            scene.now = at;
        }
    }
    panic!("the train's stop is never answered: {:?}", scene.state.explanation);
}

#[test]
fn what_overtakes_a_train_that_stops_is_waited_for_and_if_it_fails_the_trains_release_goes_back_too() {
    let mut scene = overtaken();
    scene.decide(&[stop()]);
    scene.fire();
    until_stopped(&mut scene);
    scene.alarm(rollout::snapshot::AlarmReading::Ok);
    scene.until(|_| false);
    assert_eq!(stable(&scene).as_deref(), Some("v1"), "v3 did not make it, and v2 is of the train");

    let mut scene = overtaken();
    until_stopped(&mut scene);
    scene.until(|_| false);
    assert_eq!(stable(&scene).as_deref(), Some("v3"), "v3 has taken its place");
}

#[test]
fn what_waits_at_its_gates_does_not_keep_a_train_from_going_back() {
    let mut scene = scene();
    scene.run("v1");
    users_is_there(&mut scene);
    scene.decide(&[aboard("v2", true)]);
    scene.until(|_| false);
    scene.applied.entry.rules.windows =
        vec![rollout::entry::Window { days: [5].into(), from_minute: 0, until_minute: 60 }];
    settle(&mut scene, &[deploy("v3")]);
    assert_eq!(scene.stage(), "gated");
    settle(&mut scene, &[stop()]);
    assert_eq!(scene.verdict(), Some(Verdict::Cancelled));
    scene.until(|_| false);
    assert_eq!(stable(&scene).as_deref(), Some("v1"));
}
