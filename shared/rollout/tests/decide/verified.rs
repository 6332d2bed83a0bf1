//! What counts as verified, and what holds automatic promotion: no more than is true.

use super::gates::{automatic, hotfix, promote, promoted, refusal, settle, verify, waiting_for_people, yes};
use super::scene::{Scene, ask, deploy};
use rollout::entry::Gate;
use rollout::plan::{Outlook, rehearse};
use rollout::target::ReleaseRef;
use rollout::{
    Command, CommandId, Concurrency, Fact, Instruction, Lane, Seconds, SignedDuration, Slot, Terms, Verdict,
};

/// Somebody asks for a release that was pushed at the time that its tag says.
fn asked(scene: &Scene, tag: &str) -> Command {
    let Instruction::Deploy { release, image, tag, overrides, terms } = promoted(scene, tag).instruction else {
        unreachable!()
    };
    let terms = Terms { lane: Lane::Asked, ..terms };
    let id = format!("asked-{tag}-{}", scene.journal.len());
    ask(Instruction::Deploy { release, image, tag, overrides, terms }, &id)
}

fn held(scene: &Scene) -> bool {
    scene.wrote(|fact| matches!(fact, Fact::PromotionHeld { .. }))
}

#[test]
fn what_is_let_go_after_its_bake_is_not_verified_any_more() {
    let mut scene = Scene::new();
    scene.run("v1");
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.stage() == "keeping_warm");
    assert_eq!(scene.state.verified.len(), 2);
    // Somebody puts half of the traffic back by hand, and leaves it so.
    scene.edit_rule(50, 50);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Failed));
    assert!(scene.state.drift().is_some());
    let tags: Vec<_> = scene.state.verified.iter().map(|known| known.release.tag.as_str()).collect();
    assert_eq!(tags, ["v1"], "v2 did not make it");
    assert!(scene.wrote(|fact| matches!(fact, Fact::Withdrawn { tag, .. } if tag == "v2")));
}

#[test]
fn what_gives_way_or_never_begins_leaves_what_was_verified_before() {
    let mut scene = Scene::new();
    scene.run("v1");
    scene.run("v2");
    scene.applied.concurrency = Concurrency::CancelRunning;
    scene.decide(&[Command { id: CommandId("again".to_owned()), ..deploy("v1") }]);
    scene.until(|scene| scene.weights().of(Slot::Green) > 0 && scene.weights().of(Slot::Blue) > 0);
    scene.decide(&[deploy("v3")]);
    scene.until(|_| false);
    assert!(scene.wrote(|fact| matches!(fact, Fact::Ended { verdict: Verdict::Superseded, .. })));
    let tags: Vec<_> = scene.state.verified.iter().map(|known| known.release.tag.as_str()).collect();
    assert_eq!(tags, ["v1", "v2", "v3"]);
}

#[test]
fn where_nothing_promotes_by_itself_a_pin_holds_nothing() {
    let mut scene = automatic();
    scene.applied.entry.promotes_itself = false;
    for tag in ["v5", "v3"] {
        verify(&mut scene, tag);
        let command = asked(&scene, tag);
        settle(&mut scene, &[command]);
        scene.until(|_| false);
    }
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded));
    assert!(!held(&scene) && scene.state.promotion_hold.is_none());
}

#[test]
fn a_promotion_that_comes_to_nothing_at_its_gates_leaves_the_hold() {
    let mut scene = automatic();
    promote(&mut scene, "v2");
    scene.until(|scene| scene.weights().of(Slot::Green) > 0);
    scene.fire();
    scene.until(|_| false);
    assert!(scene.state.promotion_hold.is_some());
    scene.alarm(rollout::snapshot::AlarmReading::Ok);
    verify(&mut scene, "v3");
    let command = asked(&scene, "v3");
    settle(&mut scene, &[command]);
    assert_eq!(scene.stage(), "gated");
    settle(&mut scene, &[ask(Instruction::Abort { deployment: None }, "no")]);
    assert!(scene.state.promotion_hold.is_some(), "nothing came of it");
    promote(&mut scene, "v4");
    assert_eq!(scene.stage(), "none");
}

#[test]
fn an_approval_that_is_needed_again_is_asked_for_again_with_its_own_time() {
    let mut scene = waiting_for_people();
    let bobs = yes(&scene, "bob");
    settle(&mut scene, &[bobs]);
    let rules = scene.applied.entry.rules.clone();
    scene.applied.entry.rules.approval = None;
    // Still closed by something else, for longer than people had.
    scene.applied.entry.rules.windows =
        vec![rollout::entry::Window { days: [5].into(), from_minute: 0, until_minute: 60 }];
    settle(&mut scene, &[]);
    scene.now += SignedDuration::from_secs(7200);
    settle(&mut scene, &[]);
    scene.applied.entry.rules = rules;
    settle(&mut scene, &[]);
    assert_eq!(scene.stage(), "gated", "{}", scene.ending());
    let gates = scene.state.running.as_ref().and_then(|running| running.gates.clone()).unwrap();
    assert_eq!((gates.asked_at, gates.votes.len()), (Some(scene.now), 0));
    let both = ["bob", "carol"].map(|person| Command { id: CommandId(format!("2-{person}")), ..yes(&scene, person) });
    settle(&mut scene, &both);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn a_hotfix_that_is_asked_for_twice_is_one_and_keeps_what_was_said() {
    let mut scene = waiting_for_people();
    scene.applied.entry.rules.hotfix_skips = [Gate::After, Gate::Soak].into();
    settle(&mut scene, &[hotfix("v3")]);
    let number = scene.state.last_deployment;
    let bobs = yes(&scene, "bob");
    settle(&mut scene, &[bobs]);
    settle(&mut scene, &[Command { id: CommandId("2".to_owned()), ..hotfix("v3") }]);
    assert_eq!(scene.state.last_deployment, number);
    assert_eq!(refusal(&scene), "deploy: deployment #2 is already bringing v3");
    assert_eq!(scene.state.running.as_ref().and_then(|running| running.gates.as_ref()).unwrap().votes.len(), 1);
}

#[test]
fn who_is_turned_away_displaces_nobody() {
    let mut scene = waiting_for_people();
    scene.applied.entry.rules.hotfix_skips = [Gate::After, Gate::Soak, Gate::Approval].into();
    scene.applied.concurrency = Concurrency::QueueAll;
    verify(&mut scene, "v3");
    settle(&mut scene, &[deploy("v3")]);
    // From now on one at a time, and two are here.
    scene.applied.concurrency = Concurrency::Reject;
    settle(&mut scene, &[hotfix("v4")]);
    assert!(refusal(&scene).contains("takes no other release"), "{}", refusal(&scene));
    assert_eq!((scene.stage(), scene.verdict()), ("gated", None));
}

#[test]
fn a_plan_tells_who_would_give_way_at_the_gates() {
    let mut scene = waiting_for_people();
    verify(&mut scene, "v3");
    scene.now += SignedDuration::from_secs(600);
    scene.applied.entry.rules.soak = Seconds(60);
    let command = deploy("v3");
    let Instruction::Deploy { release, image, tag, .. } = command.instruction.clone() else { unreachable!() };
    let release = ReleaseRef { id: release, image, tag, pushed_at: None };
    let plan =
        rehearse(&scene.state, &scene.applied, &command, release, &scene.around, scene.now).plan(Some(&scene.seen()));
    assert_eq!(plan.outlook, Outlook::Gated);
    assert_eq!(
        plan.blockers,
        [
            "deployment #1 (v2) waits at its gates, and would give way to this one",
            "approval: 2 of bob, carol must approve"
        ]
    );
}

#[test]
fn a_hotfix_gives_way_to_nothing_but_a_hotfix() {
    for rule in [Concurrency::QueueNewest, Concurrency::CancelRunning] {
        // At its gates.
        let mut scene = waiting_for_people();
        scene.applied.concurrency = rule;
        scene.applied.entry.rules.hotfix_skips = [Gate::After, Gate::Soak].into();
        settle(&mut scene, &[hotfix("v3")]);
        verify(&mut scene, "v4");
        settle(&mut scene, &[deploy("v4")]);
        let tag = |scene: &Scene| scene.state.running.as_ref().map(|running| running.release.tag.clone());
        assert_eq!(tag(&scene).as_deref(), Some("v3"), "{rule:?}");
        settle(&mut scene, &[hotfix("v5")]);
        assert_eq!(tag(&scene).as_deref(), Some("v5"), "{rule:?}");

        // In the queue, and on its way.
        let mut scene = Scene::new();
        scene.applied.concurrency = rule;
        scene.applied.entry.rules.hotfix_skips = [Gate::Soak].into();
        scene.decide(&[deploy("v2")]);
        scene.until(|scene| scene.weights().of(Slot::Green) > 0);
        scene.decide(&[hotfix("v3")]);
        scene.decide(&[deploy("v4")]);
        let waits: Vec<_> = scene.state.queued.iter().map(|queued| queued.release.tag.as_str()).collect();
        assert_eq!(waits, ["v3", "v4"], "{rule:?}");
        scene.until(|scene| tag(scene).as_deref() == Some("v3"));
        scene.decide(&[deploy("v5")]);
        scene.until(|_| false);
        let succeeded = scene.journal.iter().filter_map(|entry| match &entry.fact {
            Fact::Verified { tag, .. } => Some(tag.as_str()),
            _ => None,
        });
        assert!(succeeded.clone().any(|tag| tag == "v3"), "{rule:?}: {:?}", succeeded.collect::<Vec<_>>());
    }
}
