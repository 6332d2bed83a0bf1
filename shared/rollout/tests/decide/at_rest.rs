//! Edits while nothing is deployed, and while the old side stops; images that a registry has deleted.

use crate::scene::{Scene, ask, deploy, policy, target};
use rollout::policy::Drift;
use rollout::promotion::ImageState;
use rollout::snapshot::{ApiCall, SideReading, TargetHealth};
use rollout::stage::{RetirePhase, Stage};
use rollout::target::WaitingOn;
use rollout::{
    Command, Effect, Fact, Instruction, Next, Reading, Seconds, Slot, Snapshot, TargetPolicy, Verdict, look_at_rest,
    rest_look_is_due,
};

/// v2 is on green, all traffic with it; blue has no tasks.
fn at_rest(drift: Drift) -> Scene {
    let mut scene = Scene::with(TargetPolicy { drift, ..policy() });
    scene.run("v1");
    scene.run("v2");
    scene.run("v3");
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
    assert_eq!((scene.weights().only(), scene.stage()), (Some(Slot::Green), "none"));
    scene.journal.clear();
    scene.effects.clear();
    scene.now = Seconds(3600).after(scene.now);
    scene
}

fn terraform() -> ApiCall {
    let by = "arn:aws:sts::111122223333:assumed-role/terraform/ci".to_owned();
    ApiCall { operation: "ModifyRule".to_owned(), by, at: crate::scene::start() }
}

impl Scene {
    /// A look at rest, as the driver takes it; `whole` where an event or a command gave reason for it.
    fn look(&mut self, commands: &[Command], call: Option<ApiCall>) -> Next {
        let whole = call.is_some() || !commands.is_empty();
        let look = look_at_rest(&self.state, &self.applied.policy, whole, self.now).expect("something is stable");
        let mut seen = Snapshot { api_call: call, begun_at: Some(self.now), ..self.seen() };
        if !look.sides {
            seen.blue = Reading::Unknown("it was not asked for".to_owned());
            seen.green = seen.blue.clone();
        }
        self.decide_on(commands, Some(seen))
    }

    fn drift(&self) -> Option<String> {
        self.state.at_rest.as_ref()?.drift.as_ref().map(|drift| drift.reason.clone())
    }

    fn found(&self) -> Vec<(String, Option<ApiCall>, Option<String>)> {
        let facts = self.journal.iter().filter_map(|entry| match &entry.fact {
            Fact::DriftFound { reason, by, kept } => Some((reason.clone(), by.clone(), kept.clone())),
            _ => None,
        });
        facts.collect()
    }
}

#[test]
fn what_is_as_it_was_left_is_seen_and_nothing_is_told() {
    let mut scene = at_rest(Drift::Revert);
    assert_eq!(scene.look(&[], None), Next::Rest);
    let seen = scene.state.at_rest.clone().expect("it was looked at");
    assert_eq!((seen.seen_at, seen.drift), (scene.now, None));
    assert_eq!(seen.weights.and_then(|weights| weights.only()), Some(Slot::Green));
    assert!(scene.journal.is_empty() && scene.effects.is_empty());

    // Services are read once a day; in between the rules alone, at a third of the price.
    let sides = |scene: &Scene, after: u64| {
        let now = Seconds(after).after(scene.now);
        look_at_rest(&scene.state, &scene.applied.policy, false, now).map(|look| look.sides)
    };
    assert_eq!(
        [3_600, 23 * 3_600, 24 * 3_600].map(|after| sides(&scene, after)),
        [Some(false), Some(false), Some(true)]
    );
    scene.now = Seconds(3600).after(scene.now);
    assert_eq!(scene.look(&[], None), Next::Rest);
    assert_eq!(scene.state.at_rest.as_ref().map(|seen| seen.seen_at), Some(scene.now));
}

/// The input of the issue: an apply gives all weight to the side without tasks.
#[test]
fn an_edit_at_rest_is_told_once_with_who_did_it_and_one_command_leads_out() {
    let mut scene = at_rest(Drift::Tell);
    scene.edit_rule(100, 0);
    scene.look(&[], Some(terraform()));
    scene.look(&[], None);
    scene.look(&[], None);
    let found = scene.found();
    assert_eq!(found.len(), 1, "{found:?}");
    let (reason, by, kept) = &found[0];
    assert!(reason.contains("blue 100 / green 0") && reason.contains("blue has no healthy target"), "{reason}");
    assert_eq!((by.as_ref(), kept), (Some(&terraform()), &None));
    assert!(scene.effects.is_empty(), "nothing is written where the policy does not say so");
    assert!(scene.state.drift().is_some(), "what is remembered is not what carries traffic");

    // The rollback goes to what is stable, and not to the release before.
    scene.decide(&[ask(Instruction::Rollback, "back")]);
    scene.until(|_| false);
    assert_eq!(scene.weights().only(), Some(Slot::Green));
    assert_eq!(scene.verdict(), Some(Verdict::RolledBack), "{}", scene.ending());
    assert!(scene.state.drift().is_none());
    assert_eq!(scene.state.stable.as_ref().map(|stable| stable.slot), Some(Slot::Green));
    assert_eq!(scene.look(&[], None), Next::Rest);
    assert_eq!(scene.drift(), None);
}

#[test]
fn a_rollback_looks_before_it_is_decided_where_no_event_told_of_the_edit() {
    let mut scene = at_rest(Drift::Tell);
    scene.edit_rule(100, 0);
    let back = [ask(Instruction::Rollback, "back")];
    assert!(rest_look_is_due(&scene.state, &back, scene.now));
    assert!(!rest_look_is_due(&scene.state, &[deploy("v4")], scene.now), "preflight looks for itself");
    assert!(rest_look_is_due(&scene.state, &[deploy("v3")], scene.now), "the stable release again may be a repair");
    scene.look(&back, None);
    scene.until(|_| false);
    assert_eq!((scene.weights().only(), scene.verdict()), (Some(Slot::Green), Some(Verdict::RolledBack)));
}

#[test]
fn an_edit_at_rest_is_put_back_where_the_policy_says_so() {
    let mut scene = at_rest(Drift::Revert);
    scene.edit_rule(100, 0);
    scene.look(&[], Some(terraform()));
    let running = scene.state.running.as_ref().expect("a deployment that puts it back");
    assert!(running.reason.contains("assumed-role/terraform/ci"), "{}", running.reason);
    scene.until(|_| false);
    assert_eq!(scene.weights().only(), Some(Slot::Green));
    assert_eq!(scene.found().len(), 1);
    assert!(scene.state.drift().is_none());
    assert!(scene.state.promotion_hold.is_none(), "nothing was gone back from");

    // A tool that puts it there again is told of, and not fought with.
    scene.edit_rule(100, 0);
    let next = scene.look(&[], Some(terraform()));
    assert_eq!(scene.stage(), "none");
    let kept = scene.found()[1].2.clone().expect("a reason");
    assert!(kept.contains("put back"), "{kept}");
    let Next::At(mut at) = next else { panic!("it looks again: {next:?}") };
    for _ in 0..20 {
        scene.now = at;
        assert!(rest_look_is_due(&scene.state, &[], scene.now));
        match scene.look(&[], None) {
            Next::At(next) => at = next,
            _ => break,
        }
    }
    scene.until(|_| false);
    assert_eq!(scene.weights().only(), Some(Slot::Green), "ten minutes later");
}

#[test]
fn weights_never_go_back_to_a_side_without_a_healthy_target() {
    let mut scene = at_rest(Drift::Revert);
    scene.edit_rule(100, 0);
    let green: &mut SideReading = scene.side(Slot::Green);
    green.targets = TargetHealth { unhealthy: 4, ..TargetHealth::default() };
    let next = scene.look(&[], None);
    assert_eq!((scene.stage(), scene.effects.len()), ("none", 0));
    let kept = scene.found()[0].2.clone().expect("a reason");
    assert!(kept.contains("green has no healthy target"), "{kept}");
    let Next::At(at) = next else { panic!("it looks again: {next:?}") };
    scene.now = at;
    scene.side(Slot::Green).targets = TargetHealth { healthy: 4, ..TargetHealth::default() };
    scene.look(&[], None);
    scene.until(|_| false);
    assert_eq!(scene.weights().only(), Some(Slot::Green), "as soon as it can serve");
}

#[test]
fn rules_alone_that_differ_are_looked_at_whole_before_anybody_is_told() {
    let mut scene = at_rest(Drift::Tell);
    scene.look(&[], None);
    scene.edit_rule(100, 0);
    scene.now = Seconds(3600).after(scene.now);
    assert_eq!(scene.look(&[], None), Next::Again);
    assert_eq!(scene.found(), []);
    assert!(rest_look_is_due(&scene.state, &[], scene.now));
    scene.look(&[], None);
    assert!(scene.found()[0].0.contains("no healthy target"), "{:?}", scene.found());
}

#[test]
fn an_edit_that_is_undone_is_told_of_as_well() {
    let mut scene = at_rest(Drift::Tell);
    scene.edit_rule(50, 50);
    scene.look(&[], None);
    scene.edit_rule(0, 1);
    scene.look(&[], None);
    let facts: Vec<&str> = scene.journal.iter().map(|entry| entry.fact.name()).collect();
    assert_eq!(facts, ["drift_found", "drift_gone"]);
    assert!(scene.state.drift().is_none() && scene.drift().is_none());
}

#[test]
fn who_did_it_may_be_known_only_later() {
    let mut scene = at_rest(Drift::Tell);
    scene.edit_rule(100, 0);
    scene.look(&[], None);
    scene.look(&[], Some(terraform()));
    scene.look(&[], Some(terraform()));
    let by: Vec<_> = scene.found().into_iter().map(|(_, by, _)| by).collect();
    assert_eq!(by, [None, Some(terraform())]);
}

#[test]
fn another_task_definition_on_the_live_side_is_told_and_never_changed() {
    let mut scene = at_rest(Drift::Revert);
    scene.side(Slot::Green).task_definition = "td:by-hand".to_owned();
    scene.look(&[], Some(ApiCall { operation: "UpdateService".to_owned(), ..terraform() }));
    assert!(scene.found()[0].0.contains("green runs td:by-hand"), "{:?}", scene.found());
    assert_eq!((scene.stage(), scene.state.drift().is_some(), scene.effects.len()), ("none", false, 0));
}

#[test]
fn what_cannot_be_read_is_told_after_three_looks_and_throttling_never_is() {
    let mut scene = at_rest(Drift::Tell);
    scene.snapshot.green = Reading::Unknown("service: ECS has no service api-green: MISSING".to_owned());
    scene.snapshot.throttled = true;
    for _ in 0..5 {
        let Next::At(at) = scene.look(&[], None) else { panic!("it looks again") };
        scene.now = at;
    }
    assert_eq!(scene.found(), []);
    scene.snapshot.throttled = false;
    for _ in 0..2 {
        let Next::At(at) = scene.look(&[], None) else { panic!("it looks again") };
        scene.now = at;
    }
    assert_eq!(scene.found(), []);
    assert_eq!(scene.look(&[], None), Next::Rest, "from now on at its usual time");
    assert!(scene.found()[0].0.contains("api-green: MISSING"), "{:?}", scene.found());
}

#[test]
fn what_a_deployment_could_not_finish_is_nobodys_edit() {
    let mut scene = at_rest(Drift::Revert);
    scene.state.traffic = Some(rollout::target::LiveTraffic { rules: vec![None], seen_at: scene.now });
    scene.edit_rule(50, 50);
    scene.look(&[], None);
    assert_eq!((scene.found().len(), scene.stage(), scene.state.drift().is_some()), (0, "none", true));
    scene.edit_rule(0, 100);
    scene.look(&[], None);
    assert!(scene.state.drift().is_none(), "somebody put the rules in order");
}

// --- while the old side stops ---

/// Green is verified and has all traffic, blue's tasks are being stopped.
fn stopping(drift: Drift) -> Scene {
    let mut scene = Scene::with(TargetPolicy { drift, ..policy() });
    scene.autoscale(Slot::Blue, 4, 8);
    scene.autoscale(Slot::Green, 0, 8);
    scene.decide(&[deploy("v1")]);
    scene.until(|scene| {
        let stage = scene.state.running.as_ref().map(|running| &running.stage);
        matches!(stage, Some(Stage::Retiring { phase: RetirePhase::ScalingDown, .. }))
    });
    assert_eq!(scene.stage(), "retiring");
    scene.now = Seconds(15).after(scene.now);
    scene.effects.clear();
    scene.side(Slot::Blue).running = 1;
    scene
}

#[test]
fn an_edit_while_the_old_side_stops_starts_its_tasks_again() {
    let mut scene = stopping(Drift::Tell);
    scene.edit_rule(100, 0);
    scene.decide(&[]);
    assert!(scene.effects.contains(&Effect::SetDesired { slot: Slot::Blue, desired: 4 }), "{:?}", scene.effects);
    assert!(!scene.effects.iter().any(|effect| matches!(effect, Effect::SetWeights { .. })), "{:?}", scene.effects);
    assert!(scene.wrote(|fact| matches!(fact, Fact::Halted { .. })));
    assert_eq!(scene.side(Slot::Blue).running, 4);

    // Put back by hand, it is taken down after all.
    scene.edit_rule(0, 100);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
    assert_eq!(scene.side(Slot::Blue).running, 0);
}

#[test]
fn an_edit_while_the_old_side_stops_is_put_back_where_the_policy_says_so() {
    let mut scene = stopping(Drift::Revert);
    scene.edit_rule(100, 0);
    scene.decide(&[]);
    assert_eq!(scene.weights().only(), Some(Slot::Green));
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
    assert_eq!(scene.side(Slot::Blue).running, 0);
}

// --- images that must stay ---

fn image(scene: &mut Scene, tag: &str, state: ImageState) {
    let Instruction::Deploy { release, .. } = deploy(tag).instruction else { panic!("a deployment") };
    scene.around.images.insert(release.digest, Reading::Known(state));
}

#[test]
fn an_image_that_is_gone_ends_it_in_preflight_before_anything_is_touched() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v1")]);
    assert_eq!(scene.stage(), "preflight");
    image(&mut scene, "v1", ImageState::Gone);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Failed));
    assert!(scene.ending().contains("gone"), "{}", scene.ending());
    assert!(scene.effects.is_empty(), "{:?}", scene.effects);
}

#[test]
fn an_archived_image_is_waited_for() {
    let mut scene = Scene::new();
    image(&mut scene, "v1", ImageState::Archived);
    scene.decide(&[deploy("v1")]);
    scene.decide(&[]);
    let reason = scene.state.explanation.waiting_on.iter().find_map(|on| match on {
        WaitingOn::Preflight { reason, .. } | WaitingOn::Gate { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert!(reason.as_ref().is_some_and(|reason| reason.contains("archived")), "{reason:?}");
    image(&mut scene, "v1", ImageState::Present);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
}

#[test]
fn what_a_registry_did_not_say_keeps_nothing_from_starting() {
    let mut scene = Scene::new();
    let Instruction::Deploy { release, .. } = deploy("v1").instruction else { panic!("a deployment") };
    scene.around.images.insert(release.digest, Reading::Unknown("AccessDenied".to_owned()));
    scene.run("v1");
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{}", scene.ending());
}

#[test]
fn a_rollback_to_an_image_that_is_gone_ends_before_traffic_moves() {
    let mut scene = at_rest(Drift::Tell);
    image(&mut scene, "v2", ImageState::Gone);
    scene.decide(&[ask(Instruction::Rollback, "back")]);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Failed));
    assert!(scene.ending().contains("v2") && scene.ending().contains("gone"), "{}", scene.ending());
    assert_eq!((scene.weights().only(), scene.effects.len()), (Some(Slot::Green), 0));
    assert_eq!(scene.state.target, target());
}
