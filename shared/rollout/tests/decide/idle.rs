//! Edits while nothing is deployed, and while the old side stops; images that a registry has deleted.

use crate::fixture::{TargetFixture, deploy, new_command, policy, target};
use rollout::explanation::WaitingOn;
use rollout::policy::Drift;
use rollout::promotion::ImageState;
use rollout::snapshot::{ApiCall, SideReading, TargetHealth};
use rollout::weighted::WeightedStage;
use rollout::{
    Command, Effect, Fact, Instruction, Next, Reading, Seconds, Slot, Snapshot, TargetPolicy, Verdict,
    idle_observation, idle_observation_is_due,
};

/// v2 is on green, all traffic with it; blue has no tasks.
fn idle(drift: Drift) -> TargetFixture {
    let mut fixture = TargetFixture::with(TargetPolicy { drift, ..policy() });
    fixture.run("v1");
    fixture.run("v2");
    fixture.run("v3");
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
    assert_eq!((fixture.weights().sole_side(), fixture.stage()), (Some(Slot::Green), "none"));
    fixture.journal.clear();
    fixture.effects.clear();
    fixture.now = Seconds(3600).after(fixture.now);
    fixture
}

fn terraform_call() -> ApiCall {
    let by = "arn:aws:sts::111122223333:assumed-role/terraform/ci".to_owned();
    ApiCall { operation: "ModifyRule".to_owned(), by, at: crate::fixture::start() }
}

impl TargetFixture {
    /// A look at rest, as the driver takes it; `full` where an event or a command gave reason for it.
    fn observe(&mut self, commands: &[Command], call: Option<ApiCall>) -> Next {
        let full = call.is_some() || !commands.is_empty();
        let observe = idle_observation(&self.state, &self.applied.policy, full, self.now).expect("something is stable");
        let mut seen = Snapshot { api_call: call, read_started_at: Some(self.now), ..self.seen() };
        if !observe.workloads {
            seen.blue = Reading::Unknown("it was not asked for".to_owned());
            seen.green = seen.blue.clone();
        }
        self.decide_on(commands, Some(seen))
    }

    fn drift(&self) -> Option<String> {
        self.state.idle.as_ref()?.drift.as_ref().map(|drift| drift.reason.clone())
    }

    fn drift_facts(&self) -> Vec<(String, Option<ApiCall>, Option<String>)> {
        let facts = self.journal.iter().filter_map(|entry| match &entry.fact {
            Fact::DriftDetected { reason, by, kept } => Some((reason.clone(), by.clone(), kept.clone())),
            _ => None,
        });
        facts.collect()
    }
}

#[test]
fn an_unchanged_idle_target_journals_nothing() {
    let mut fixture = idle(Drift::Revert);
    assert_eq!(fixture.observe(&[], None), Next::Idle);
    let seen = fixture.state.idle.clone().expect("it was looked at");
    assert_eq!((seen.seen_at, seen.drift), (fixture.now, None));
    assert_eq!(seen.weights.and_then(|weights| weights.sole_side()), Some(Slot::Green));
    assert!(fixture.journal.is_empty() && fixture.effects.is_empty());

    // Services are read once a day; in between the rules alone, at a third of the price.
    let sides = |fixture: &TargetFixture, after: u64| {
        let now = Seconds(after).after(fixture.now);
        idle_observation(&fixture.state, &fixture.applied.policy, false, now).map(|observe| observe.workloads)
    };
    assert_eq!(
        [3_600, 23 * 3_600, 24 * 3_600].map(|after| sides(&fixture, after)),
        [Some(false), Some(false), Some(true)]
    );
    fixture.now = Seconds(3600).after(fixture.now);
    assert_eq!(fixture.observe(&[], None), Next::Idle);
    assert_eq!(fixture.state.idle.as_ref().map(|seen| seen.seen_at), Some(fixture.now));
}

/// The input of the issue: an apply gives all weight to the side without tasks.
#[test]
fn an_idle_edit_is_reported_once_and_a_rollback_restores() {
    let mut fixture = idle(Drift::Tell);
    fixture.edit_rule(100, 0);
    fixture.observe(&[], Some(terraform_call()));
    fixture.observe(&[], None);
    fixture.observe(&[], None);
    let drift_facts = fixture.drift_facts();
    assert_eq!(drift_facts.len(), 1, "{drift_facts:?}");
    let (reason, by, kept) = &drift_facts[0];
    assert!(reason.contains("blue 100 / green 0") && reason.contains("blue has no healthy target"), "{reason}");
    assert_eq!((by.as_ref(), kept), (Some(&terraform_call()), &None));
    assert!(fixture.effects.is_empty(), "nothing is written where the policy does not say so");
    assert!(fixture.state.drift().is_some(), "what is remembered is not what carries traffic");

    // The rollback goes to what is stable, and not to the release before.
    fixture.decide(&[new_command(Instruction::Rollback, "back")]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.weights().sole_side(), Some(Slot::Green));
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack), "{}", fixture.end_reason());
    assert!(fixture.state.drift().is_none());
    assert_eq!(fixture.state.stable.as_ref().and_then(|stable| stable.slot), Some(Slot::Green));
    assert_eq!(fixture.observe(&[], None), Next::Idle);
    assert_eq!(fixture.drift(), None);
}

#[test]
fn a_rollback_observes_first_when_no_event_reported_the_edit() {
    let mut fixture = idle(Drift::Tell);
    fixture.edit_rule(100, 0);
    let back = [new_command(Instruction::Rollback, "back")];
    assert!(idle_observation_is_due(&fixture.state, &back, fixture.now));
    assert!(!idle_observation_is_due(&fixture.state, &[deploy("v4")], fixture.now), "preflight looks for itself");
    assert!(
        idle_observation_is_due(&fixture.state, &[deploy("v3")], fixture.now),
        "the stable release again may be a repair"
    );
    fixture.observe(&back, None);
    fixture.run_until(|_| false);
    assert_eq!((fixture.weights().sole_side(), fixture.verdict()), (Some(Slot::Green), Some(Verdict::RolledBack)));
}

#[test]
fn an_idle_edit_is_reverted_if_the_policy_says_so() {
    let mut fixture = idle(Drift::Revert);
    fixture.edit_rule(100, 0);
    fixture.observe(&[], Some(terraform_call()));
    let running = fixture.state.running.as_ref().expect("a deployment that puts it back");
    assert!(running.reason.contains("assumed-role/terraform/ci"), "{}", running.reason);
    fixture.run_until(|_| false);
    assert_eq!(fixture.weights().sole_side(), Some(Slot::Green));
    assert_eq!(fixture.drift_facts().len(), 1);
    assert!(fixture.state.drift().is_none());
    assert!(fixture.state.promotion_hold.is_none(), "nothing was gone back from");

    // A tool that puts it there again is reported, and not fought with.
    fixture.edit_rule(100, 0);
    let next = fixture.observe(&[], Some(terraform_call()));
    assert_eq!(fixture.stage(), "none");
    let kept = fixture.drift_facts()[1].2.clone().expect("a reason");
    assert!(kept.contains("put back"), "{kept}");
    let Next::At(mut at) = next else { panic!("it looks again: {next:?}") };
    for _ in 0..20 {
        fixture.now = at;
        assert!(idle_observation_is_due(&fixture.state, &[], fixture.now));
        match fixture.observe(&[], None) {
            Next::At(next) => at = next,
            _ => break,
        }
    }
    fixture.run_until(|_| false);
    assert_eq!(fixture.weights().sole_side(), Some(Slot::Green), "ten minutes later");
}

#[test]
fn weights_are_not_reverted_to_a_side_without_healthy_targets() {
    let mut fixture = idle(Drift::Revert);
    fixture.edit_rule(100, 0);
    let green: &mut SideReading = fixture.side(Slot::Green);
    green.targets = TargetHealth { unhealthy: 4, ..TargetHealth::default() };
    let next = fixture.observe(&[], None);
    assert_eq!((fixture.stage(), fixture.effects.len()), ("none", 0));
    let kept = fixture.drift_facts()[0].2.clone().expect("a reason");
    assert!(kept.contains("green has no healthy target"), "{kept}");
    let Next::At(at) = next else { panic!("it looks again: {next:?}") };
    fixture.now = at;
    fixture.side(Slot::Green).targets = TargetHealth { healthy: 4, ..TargetHealth::default() };
    fixture.observe(&[], None);
    fixture.run_until(|_| false);
    assert_eq!(fixture.weights().sole_side(), Some(Slot::Green), "as soon as it can serve");
}

#[test]
fn a_changed_rule_is_reported_only_after_a_full_observation() {
    let mut fixture = idle(Drift::Tell);
    fixture.observe(&[], None);
    fixture.edit_rule(100, 0);
    fixture.now = Seconds(3600).after(fixture.now);
    assert_eq!(fixture.observe(&[], None), Next::Immediately);
    assert_eq!(fixture.drift_facts(), []);
    assert!(idle_observation_is_due(&fixture.state, &[], fixture.now));
    fixture.observe(&[], None);
    assert!(fixture.drift_facts()[0].0.contains("no healthy target"), "{:?}", fixture.drift_facts());
}

#[test]
fn an_undone_edit_is_reported_as_resolved() {
    let mut fixture = idle(Drift::Tell);
    fixture.edit_rule(50, 50);
    fixture.observe(&[], None);
    fixture.edit_rule(0, 1);
    fixture.observe(&[], None);
    let facts: Vec<&str> = fixture.journal.iter().map(|entry| entry.fact.name()).collect();
    assert_eq!(facts, ["drift_detected", "drift_resolved"]);
    assert!(fixture.state.drift().is_none() && fixture.drift().is_none());
}

#[test]
fn the_author_of_an_edit_is_added_when_known() {
    let mut fixture = idle(Drift::Tell);
    fixture.edit_rule(100, 0);
    fixture.observe(&[], None);
    fixture.observe(&[], Some(terraform_call()));
    fixture.observe(&[], Some(terraform_call()));
    let by: Vec<_> = fixture.drift_facts().into_iter().map(|(_, by, _)| by).collect();
    assert_eq!(by, [None, Some(terraform_call())]);
}

#[test]
fn a_changed_live_task_definition_is_reported_and_left_alone() {
    let mut fixture = idle(Drift::Revert);
    fixture.side(Slot::Green).version = "td:by-hand".to_owned();
    fixture.observe(&[], Some(ApiCall { operation: "UpdateService".to_owned(), ..terraform_call() }));
    assert!(fixture.drift_facts()[0].0.contains("green runs td:by-hand"), "{:?}", fixture.drift_facts());
    assert_eq!((fixture.stage(), fixture.state.drift().is_some(), fixture.effects.len()), ("none", false, 0));
}

#[test]
fn failed_reads_are_reported_after_three_attempts_unless_throttled() {
    let mut fixture = idle(Drift::Tell);
    fixture.snapshot.green = Reading::Unknown("service: ECS has no service api-green: MISSING".to_owned());
    fixture.snapshot.throttled = true;
    for _ in 0..5 {
        let Next::At(at) = fixture.observe(&[], None) else { panic!("it looks again") };
        fixture.now = at;
    }
    assert_eq!(fixture.drift_facts(), []);
    fixture.snapshot.throttled = false;
    for _ in 0..2 {
        let Next::At(at) = fixture.observe(&[], None) else { panic!("it looks again") };
        fixture.now = at;
    }
    assert_eq!(fixture.drift_facts(), []);
    assert_eq!(fixture.observe(&[], None), Next::Idle, "from now on at its usual time");
    assert!(fixture.drift_facts()[0].0.contains("api-green: MISSING"), "{:?}", fixture.drift_facts());
}

#[test]
fn weights_left_by_an_unfinished_deployment_are_not_reported() {
    let mut fixture = idle(Drift::Revert);
    fixture.state.traffic = Some(rollout::target::LiveTraffic { rules: vec![None], seen_at: fixture.now });
    fixture.edit_rule(50, 50);
    fixture.observe(&[], None);
    assert_eq!((fixture.drift_facts().len(), fixture.stage(), fixture.state.drift().is_some()), (0, "none", true));
    fixture.edit_rule(0, 100);
    fixture.observe(&[], None);
    assert!(fixture.state.drift().is_none(), "somebody put the rules in order");
}

// --- while the old side stops ---

/// Green is verified and has all traffic, blue's tasks are being stopped.
fn scaling_down_old_side(drift: Drift) -> TargetFixture {
    let mut fixture = TargetFixture::with(TargetPolicy { drift, ..policy() });
    fixture.autoscale(Slot::Blue, 4, 8);
    fixture.autoscale(Slot::Green, 0, 8);
    fixture.decide(&[deploy("v1")]);
    fixture.run_until(|fixture| {
        let weighted = fixture.state.running.as_ref().and_then(|running| running.weighted());
        matches!(weighted.map(|weighted| &weighted.at), Some(WeightedStage::Retiring(_)))
    });
    assert_eq!(fixture.stage(), "retiring");
    fixture.now = Seconds(15).after(fixture.now);
    fixture.effects.clear();
    fixture.side(Slot::Blue).running = 1;
    fixture
}

#[test]
fn an_edit_while_retiring_scales_the_old_side_up_again() {
    let mut fixture = scaling_down_old_side(Drift::Tell);
    fixture.edit_rule(100, 0);
    fixture.decide(&[]);
    assert!(fixture.effects.contains(&Effect::SetDesired { slot: Slot::Blue, desired: 4 }), "{:?}", fixture.effects);
    assert!(!fixture.effects.iter().any(|effect| matches!(effect, Effect::SetWeights { .. })), "{:?}", fixture.effects);
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::Halted { .. })));
    assert_eq!(fixture.side(Slot::Blue).running, 4);

    // Put back by hand, it is taken down after all.
    fixture.edit_rule(0, 100);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
    assert_eq!(fixture.side(Slot::Blue).running, 0);
}

#[test]
fn an_edit_while_retiring_is_reverted_if_the_policy_says_so() {
    let mut fixture = scaling_down_old_side(Drift::Revert);
    fixture.edit_rule(100, 0);
    fixture.decide(&[]);
    assert_eq!(fixture.weights().sole_side(), Some(Slot::Green));
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
    assert_eq!(fixture.side(Slot::Blue).running, 0);
}

// --- images that must stay ---

fn set_image_state(fixture: &mut TargetFixture, tag: &str, state: ImageState) {
    let Instruction::Deploy { release, .. } = deploy(tag).instruction else { panic!("a deployment") };
    fixture.gate_context.images.insert(release.digest, Reading::Known(state));
}

#[test]
fn a_deleted_image_fails_preflight_without_changes() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v1")]);
    assert_eq!(fixture.stage(), "preflight");
    set_image_state(&mut fixture, "v1", ImageState::Gone);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert!(fixture.end_reason().contains("gone"), "{}", fixture.end_reason());
    assert!(fixture.effects.is_empty(), "{:?}", fixture.effects);
}

#[test]
fn preflight_waits_for_an_archived_image() {
    let mut fixture = TargetFixture::new();
    set_image_state(&mut fixture, "v1", ImageState::Archived);
    fixture.decide(&[deploy("v1")]);
    fixture.decide(&[]);
    let reason = fixture.state.explanation.waiting_on.iter().find_map(|on| match on {
        WaitingOn::Preflight { reason, .. } | WaitingOn::Gate { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert!(reason.as_ref().is_some_and(|reason| reason.contains("archived")), "{reason:?}");
    set_image_state(&mut fixture, "v1", ImageState::Present);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
}

#[test]
fn an_unreadable_registry_does_not_block_a_deployment() {
    let mut fixture = TargetFixture::new();
    let Instruction::Deploy { release, .. } = deploy("v1").instruction else { panic!("a deployment") };
    fixture.gate_context.images.insert(release.digest, Reading::Unknown("AccessDenied".to_owned()));
    fixture.run("v1");
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
}

#[test]
fn a_rollback_to_a_deleted_image_fails_before_traffic_moves() {
    let mut fixture = idle(Drift::Tell);
    set_image_state(&mut fixture, "v2", ImageState::Gone);
    fixture.decide(&[new_command(Instruction::Rollback, "back")]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert!(fixture.end_reason().contains("v2") && fixture.end_reason().contains("gone"), "{}", fixture.end_reason());
    assert_eq!((fixture.weights().sole_side(), fixture.effects.len()), (Some(Slot::Green), 0));
    assert_eq!(fixture.state.target, target());
}
