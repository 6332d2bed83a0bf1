//! From being asked for to beginning: gates, people, promotion by itself, the short way.

use super::scene::{Scene, ask, deploy, start, target};
use rollout::brake::{Brake, Scope};
use rollout::entry::{After, ApprovalDefault, ApprovalPolicy, Gate, Person};
use rollout::promotion::{ImageState, Neighbour};
use rollout::target::{Errand, Verified, WaitingOn};
use rollout::{
    Actor, Command, CommandId, Concurrency, Fact, Instruction, Lane, Name, Next, PlanId, Reading, Seconds,
    SignedDuration, Slot, Stage, TargetId, Verdict,
};
use std::collections::BTreeSet;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// Prod: after staging, a minute of soak, two of Ada, Bob and Carol.
pub(super) fn prod() -> Scene {
    let mut scene = Scene::new();
    let entry = &mut scene.applied.entry;
    entry.promotes_itself = true;
    entry.rules.after = Some(After::All(vec![name("staging")]));
    entry.rules.soak = Seconds(60);
    entry.rules.approval = Some(ApprovalPolicy {
        required: 2,
        from: vec![name("on-call")],
        expires: Seconds(3600),
        default: ApprovalDefault::Reject,
    });
    for person in ["ada", "bob", "carol"] {
        let known = Person { slack: Some(person.to_uppercase()), iam: vec![person.to_owned()], ..Person::default() };
        entry.approvers.insert(name(person), known);
    }
    scene.around.neighbours.insert(staging(), Neighbour::default());
    scene
}

fn staging() -> TargetId {
    TargetId { environment: name("staging"), ..target() }
}

/// Staging has verified the release of this tag just now.
pub(super) fn verify(scene: &mut Scene, tag: &str) {
    let Instruction::Deploy { release, image, .. } = deploy(tag).instruction else { unreachable!() };
    let release = rollout::target::ReleaseRef { id: release, image, tag: tag.to_owned(), pushed_at: None };
    let verified = Verified { release, deployment: 9, at: scene.now, forward_only: false };
    scene.around.neighbours.entry(staging()).or_default().verified.push(verified);
}

/// What staging's verification asks of prod; pushed as many seconds after the start as the tag's number says.
pub(super) fn promoted(scene: &Scene, tag: &str) -> Command {
    let Instruction::Deploy { release, image, overrides, mut terms, .. } = deploy(tag).instruction else {
        unreachable!()
    };
    terms.lane = Lane::Automatic { from: name("staging") };
    let seconds = tag.trim_start_matches('v').parse().unwrap();
    terms.pushed_at = Some(start() + SignedDuration::from_secs(seconds));
    Command {
        id: CommandId(format!("promotion:{tag}")),
        target: target(),
        instruction: Instruction::Deploy { release, image, tag: tag.to_owned(), overrides, terms },
        actor: Actor::Push { repository: "shop/api".to_owned() },
        reason: "verified in staging (#9)".to_owned(),
        at: scene.now,
    }
}

fn by(person: &str, instruction: Instruction) -> Command {
    let id = format!("{person}-{instruction:?}");
    let actor = Actor::Person { name: format!("slack:{}", person.to_uppercase()) };
    Command { actor, ..ask(instruction, &id) }
}

fn plan(scene: &Scene) -> PlanId {
    scene.state.running.as_ref().unwrap().gates.as_ref().unwrap().plan.clone()
}

fn number(scene: &Scene) -> u64 {
    scene.state.running.as_ref().unwrap().number
}

pub(super) fn yes(scene: &Scene, person: &str) -> Command {
    by(person, Instruction::Approve { deployment: number(scene), plan: plan(scene) })
}

fn no(scene: &Scene, person: &str) -> Command {
    by(person, Instruction::Reject { deployment: number(scene), plan: plan(scene) })
}

fn pass_time(scene: &mut Scene, seconds: i64) {
    scene.now += SignedDuration::from_secs(seconds);
}

/// Looks again until it waits.
pub(super) fn settle(scene: &mut Scene, commands: &[Command]) {
    let mut next = scene.decide(commands);
    for _ in 0..20 {
        if next != Next::Again {
            return;
        }
        next = scene.decide(&[]);
    }
    panic!("it never waits: {:?}", scene.state.explanation);
}

pub(super) fn refusal(scene: &Scene) -> String {
    let newest = scene.journal.iter().rev().find_map(|entry| match &entry.fact {
        Fact::CommandRefused { command, reason } => Some(format!("{command}: {reason}")),
        _ => None,
    });
    newest.unwrap_or_default()
}

fn waits_at(scene: &Scene) -> Vec<Gate> {
    let gates = scene.state.explanation.waiting_on.iter().map(|on| match on {
        WaitingOn::Gate { gate, .. } => *gate,
        WaitingOn::Approval { .. } => Gate::Approval,
        other => panic!("it waits for something else: {other:?}"),
    });
    gates.collect()
}

/// A release that waits for its approval.
pub(super) fn waiting_for_people() -> Scene {
    let mut scene = prod();
    verify(&mut scene, "v2");
    settle(&mut scene, &[deploy("v2")]);
    pass_time(&mut scene, 60);
    settle(&mut scene, &[]);
    assert_eq!(scene.stage(), "gated");
    scene
}

#[test]
fn a_release_soaks_is_approved_by_two_and_goes_out() {
    let mut scene = prod();
    verify(&mut scene, "v2");
    settle(&mut scene, &[deploy("v2")]);
    assert_eq!((scene.stage(), waits_at(&scene)), ("gated", vec![Gate::Soak, Gate::Approval]));
    assert!(!scene.wrote(|fact| matches!(fact, Fact::ApprovalRequested { .. })), "nobody is asked while it soaks");
    assert_eq!(scene.effects, []);

    pass_time(&mut scene, 60);
    settle(&mut scene, &[]);
    assert_eq!(waits_at(&scene), [Gate::Approval]);
    let asked = scene.journal.iter().find_map(|entry| match &entry.fact {
        Fact::ApprovalRequested { approvers, required, .. } => Some((approvers.clone(), *required)),
        _ => None,
    });
    assert_eq!(asked, Some((vec![name("bob"), name("carol")], 2)), "ada asked for it");

    let bobs = yes(&scene, "bob");
    settle(&mut scene, &[bobs]);
    assert_eq!((scene.stage(), waits_at(&scene)), ("gated", vec![Gate::Approval]));
    let carols = yes(&scene, "carol");
    settle(&mut scene, &[carols]);
    assert_ne!(scene.stage(), "gated");
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded));
    let told: Vec<&str> =
        scene.journal.iter().map(|entry| entry.fact.name()).filter(|name| *name != "stage_entered").collect();
    let first = ["started", "gate_waits", "gate_opened", "approval_requested", "approved", "approved", "sides_settled"];
    assert_eq!(told[..first.len()], first);
}

#[test]
fn what_staging_has_not_verified_does_not_come() {
    let mut scene = prod();
    settle(&mut scene, &[deploy("v2")]);
    assert_eq!(scene.stage(), "none");
    assert_eq!(
        refusal(&scene),
        "deploy: v2: it is not verified in staging: deploy it there first, until its bake is over"
    );
}

#[test]
fn what_may_not_come_displaces_nothing_that_may() {
    let mut scene = waiting_for_people();
    let before = number(&scene);
    settle(&mut scene, &[deploy("v3")]);
    assert_eq!(number(&scene), before, "v3 is not verified, and v2 still waits");
}

#[test]
fn a_release_that_staging_goes_back_from_ends_at_the_gate() {
    let mut scene = waiting_for_people();
    scene.around.neighbours.insert(staging(), Neighbour::default());
    settle(&mut scene, &[]);
    assert_eq!(scene.verdict(), Some(Verdict::Failed));
    assert!(scene.ending().starts_with("after: it is not verified in staging"), "{}", scene.ending());
}

#[test]
fn one_no_is_enough_and_says_why() {
    let mut scene = waiting_for_people();
    let bobs = yes(&scene, "bob");
    let carols = no(&scene, "carol");
    settle(&mut scene, &[bobs, carols]);
    assert_eq!(scene.verdict(), Some(Verdict::Rejected));
    assert_eq!(scene.ending(), "by carol: because");
    assert_eq!(scene.effects, []);
}

#[test]
fn silence_is_a_no_after_an_hour_or_a_yes_where_the_policy_says_so() {
    let mut scene = waiting_for_people();
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Expired));
    assert_eq!(scene.ending(), "approval: 0 of 2 approvals within 1h, and silence is taken for a no");

    let mut scene = waiting_for_people();
    if let Some(policy) = &mut scene.applied.entry.rules.approval {
        policy.default = ApprovalDefault::Approve;
    }
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded));
    assert!(
        scene.wrote(|fact| matches!(fact, Fact::GateOpened { gate: Gate::Approval, how } if how.contains("silence")))
    );
}

#[test]
fn who_may_not_answer_is_refused_and_nothing_changes() {
    let mut scene = waiting_for_people();
    let (plan, number) = (plan(&scene), number(&scene));
    let approve = |deployment, plan: &PlanId| Instruction::Approve { deployment, plan: plan.clone() };
    let rows = [
        (by("mallory", approve(number, &plan)), "approve: slack:MALLORY is none of those who may approve here"),
        (
            Command { actor: Actor::Person { name: "ada".to_owned() }, ..by("x", approve(number, &plan)) },
            "approve: ada asked for this deployment, and whoever asks does not approve",
        ),
        (
            by("ada", approve(number, &plan)),
            "approve: ada asked for this deployment, and whoever asks does not approve",
        ),
        (
            by("bob", approve(number, &PlanId("0123456789abcdef".to_owned()))),
            "approve: the plan has changed since that was asked: look at the present one",
        ),
        (by("bob", approve(number + 1, &plan)), "approve: deployment #2 is over: #1 (v2) took its place"),
    ];
    for (command, told) in rows {
        settle(&mut scene, &[command]);
        assert_eq!(refusal(&scene), told);
        assert_eq!((scene.stage(), waits_at(&scene)), ("gated", vec![Gate::Approval]));
    }
    let (first, second) = (yes(&scene, "bob"), Command { id: CommandId("again".to_owned()), ..yes(&scene, "bob") });
    settle(&mut scene, &[first, second]);
    assert_eq!(refusal(&scene), "approve: bob has approved already");
    assert_eq!(scene.stage(), "gated", "one person is one approval");
}

#[test]
fn a_changed_plan_voids_what_was_said_to_the_old_one() {
    let mut scene = waiting_for_people();
    let old = yes(&scene, "carol");
    let bobs = yes(&scene, "bob");
    settle(&mut scene, &[bobs]);
    scene.applied.version += 1;
    scene.applied.policy.strategy.bake = Seconds(600);
    settle(&mut scene, &[]);
    assert!(scene.wrote(|fact| matches!(fact, Fact::PlanChanged { voided: 1, policy_version: 8, .. })));
    let asked = scene.journal.iter().filter(|entry| entry.fact.name() == "approval_requested").count();
    assert_eq!(asked, 2, "people are asked again");
    settle(&mut scene, &[old]);
    assert_eq!(refusal(&scene), "approve: the plan has changed since that was asked: look at the present one");
    let carols = Command { id: CommandId("2".to_owned()), ..yes(&scene, "carol") };
    settle(&mut scene, &[carols]);
    assert_eq!((scene.stage(), waits_at(&scene)), ("gated", vec![Gate::Approval]), "bob said yes to another plan");
    let bobs = Command { id: CommandId("3".to_owned()), ..yes(&scene, "bob") };
    settle(&mut scene, &[bobs]);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn a_version_that_changes_nothing_here_leaves_the_approvals() {
    let mut scene = waiting_for_people();
    let bobs = yes(&scene, "bob");
    settle(&mut scene, &[bobs]);
    scene.applied.version += 1;
    settle(&mut scene, &[]);
    assert!(!scene.wrote(|fact| matches!(fact, Fact::PlanChanged { .. })));
    let carols = yes(&scene, "carol");
    settle(&mut scene, &[carols]);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn a_newer_release_takes_the_place_of_one_that_waits_and_its_approval_is_refused() {
    let mut scene = waiting_for_people();
    let late = yes(&scene, "bob");
    verify(&mut scene, "v3");
    settle(&mut scene, &[deploy("v3")]);
    assert_eq!(scene.verdict(), Some(Verdict::Superseded));
    assert_eq!((scene.stage(), number(&scene)), ("gated", 2));
    settle(&mut scene, &[late]);
    assert_eq!(refusal(&scene), "approve: deployment #1 is over: #2 (v3) took its place");

    for (rule, told) in
        [(Concurrency::QueueAll, ""), (Concurrency::Reject, "deploy: deployment #1 (v2, gated) is running")]
    {
        let mut scene = waiting_for_people();
        scene.applied.concurrency = rule;
        verify(&mut scene, "v3");
        settle(&mut scene, &[deploy("v3")]);
        assert_eq!(number(&scene), 1, "{rule:?}");
        assert!(refusal(&scene).starts_with(told), "{}", refusal(&scene));
    }
}

#[test]
fn an_abort_and_a_rollback_end_what_waits() {
    let mut scene = waiting_for_people();
    settle(&mut scene, &[ask(Instruction::Abort { deployment: None }, "a")]);
    assert_eq!(scene.verdict(), Some(Verdict::Cancelled));

    let mut scene = Scene::new();
    scene.run("v1");
    scene.run("v2");
    scene.applied = prod().applied;
    scene.around = prod().around;
    verify(&mut scene, "v3");
    settle(&mut scene, &[deploy("v3")]);
    assert_eq!(scene.stage(), "gated");
    let brake = Brake {
        scope: Scope::Everything,
        by: Actor::Switchback,
        reason: "stop".to_owned(),
        since: scene.now,
        until: None,
    };
    scene.around.brakes = Reading::Known(vec![brake]);
    scene.decide(&[ask(Instruction::Rollback, "r")]);
    assert_eq!(scene.verdict(), Some(Verdict::Cancelled), "what waited is over");
    scene.until(|_| false);
    let stable = scene.state.stable.as_ref().and_then(|stable| stable.release.clone());
    assert_eq!(stable.map(|release| release.tag), Some("v1".to_owned()), "no freeze holds a rollback");
}

#[test]
fn a_freeze_holds_the_start_and_is_told_once() {
    let mut scene = Scene::new();
    let scope = Scope::Environment { application: name("shop"), environment: name("prod") };
    let brake = Brake {
        scope,
        by: Actor::Person { name: "ada".to_owned() },
        reason: "fair".to_owned(),
        since: scene.now,
        until: None,
    };
    scene.around.brakes = Reading::Known(vec![brake]);
    settle(&mut scene, &[deploy("v2")]);
    for _ in 0..5 {
        scene.turn();
    }
    let told = scene.journal.iter().filter(|entry| matches!(entry.fact, Fact::GateWaits { .. })).count();
    assert_eq!((scene.stage(), told), ("gated", 1));
    // Unfrozen; and while that cannot be read, it waits.
    scene.around.brakes = Reading::Unknown("throttled".to_owned());
    settle(&mut scene, &[]);
    assert_eq!(scene.stage(), "gated");
    scene.around.brakes = Reading::Known(vec![]);
    settle(&mut scene, &[]);
    assert_ne!(scene.stage(), "gated");
}

#[test]
fn nobody_waits_for_ever() {
    let mut scene = Scene::new();
    let brake = Brake {
        scope: Scope::Everything,
        by: Actor::Switchback,
        reason: "stop".to_owned(),
        since: scene.now,
        until: None,
    };
    scene.around.brakes = Reading::Known(vec![brake]);
    scene.applied.entry.rules.give_up_after = Seconds(3600);
    settle(&mut scene, &[deploy("v2")]);
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Expired));
    assert_eq!(scene.ending(), "it waited at its gates for 1h: stop_the_line: the line is stopped by switchback: stop");
}

#[test]
fn a_gate_is_opened_by_hand_with_a_reason_on_record() {
    let mut scene = waiting_for_people();
    let over =
        |deployment, gates: &[Gate]| Instruction::Override { deployment, gates: gates.iter().copied().collect() };
    let mute = Command { reason: String::new(), ..by("dora", over(1, &[Gate::Approval])) };
    settle(&mut scene, &[mute]);
    assert_eq!(refusal(&scene), "override: opening a gate by hand needs a reason");
    settle(&mut scene, &[by("dora", over(1, &[Gate::Approval]))]);
    assert!(
        scene
            .wrote(|fact| matches!(fact, Fact::GateOverridden { gate: Gate::Approval, reason } if reason == "because"))
    );
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded));
    settle(&mut scene, &[by("dora", over(2, &[Gate::Approval]))]);
    assert_eq!(refusal(&scene), "override: no deployment waits at its gates here");
}

pub(super) fn hotfix(tag: &str) -> Command {
    let mut command = deploy(tag);
    command.id = CommandId(format!("hotfix-{tag}"));
    if let Instruction::Deploy { terms, .. } = &mut command.instruction {
        terms.lane = Lane::Hotfix;
    }
    command
}

#[test]
fn a_hotfix_takes_the_short_way_and_is_marked_for_ever() {
    let mut scene = prod();
    settle(&mut scene, &[hotfix("v3")]);
    assert_eq!(refusal(&scene), "deploy: v3: this environment has no hotfix lane (`hotfix` in the policy)");

    let mut scene = waiting_for_people();
    scene.applied.entry.rules.hotfix_skips = BTreeSet::from([Gate::After, Gate::Soak, Gate::Approval]);
    settle(&mut scene, &[hotfix("v3")]);
    assert_eq!(scene.verdict(), Some(Verdict::Superseded), "what waits at the long way's gates gives way");
    assert_eq!(number(&scene), 2);
    assert_ne!(scene.stage(), "gated");
    assert!(scene.wrote(|fact| matches!(fact, Fact::Hotfixed { reason, .. } if reason == "because")));
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded));

    let mut scene = prod();
    scene.applied.entry.rules.hotfix_skips = BTreeSet::from([Gate::After, Gate::Soak]);
    settle(&mut scene, &[Command { reason: String::new(), ..hotfix("v3") }]);
    assert_eq!(refusal(&scene), "deploy: v3: a hotfix needs a reason");
    settle(&mut scene, &[Command { id: CommandId("2".to_owned()), ..hotfix("v3") }]);
    assert_eq!(waits_at(&scene), [Gate::Approval], "what is not skipped is asked");
}

// --- promotion by itself ---

#[test]
fn a_bake_that_is_over_verifies_and_tells_the_next_environment() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.stage() == "keeping_warm");
    assert!(scene.wrote(|fact| matches!(fact, Fact::Verified { tag, .. } if tag == "v2")));
    assert!(matches!(scene.errands.as_slice(), [Errand::Verified { deployment: 1, .. }]), "{:?}", scene.errands);
    // And it goes back while the old side is warm: verified no more.
    scene.fire();
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::RolledBack));
    assert!(scene.wrote(|fact| matches!(fact, Fact::Withdrawn { tag, .. } if tag == "v2")));
    assert_eq!(scene.state.verified, []);
}

#[test]
fn a_rollback_by_hand_withdraws_what_it_leaves_and_keeps_what_it_returns_to() {
    let mut scene = Scene::new();
    scene.run("v2");
    scene.run("v3");
    scene.decide(&[ask(Instruction::Rollback, "r")]);
    scene.until(|_| false);
    let tags: Vec<_> = scene.state.verified.iter().map(|known| known.release.tag.as_str()).collect();
    assert_eq!(tags, ["v2"]);
}

/// Prod without people: what staging verifies comes by itself.
pub(super) fn automatic() -> Scene {
    let mut scene = prod();
    scene.applied.entry.rules.approval = None;
    scene
}

pub(super) fn promote(scene: &mut Scene, tag: &str) {
    verify(scene, tag);
    let command = promoted(scene, tag);
    settle(scene, &[command]);
}

fn stable(scene: &Scene) -> String {
    scene
        .state
        .stable
        .as_ref()
        .and_then(|stable| stable.release.as_ref())
        .map(|release| release.tag.clone())
        .unwrap_or_default()
}

#[test]
fn what_staging_verifies_comes_by_itself_after_its_soak() {
    let mut scene = automatic();
    promote(&mut scene, "v2");
    assert_eq!(waits_at(&scene), [Gate::Soak]);
    scene.until(|_| false);
    assert_eq!((scene.verdict(), stable(&scene).as_str()), (Some(Verdict::Succeeded), "v2"));
}

#[test]
fn after_two_environments_it_comes_when_the_second_has_verified_it_and_nobody_is_told_of_the_first() {
    let mut scene = automatic();
    scene.applied.entry.rules.after = Some(After::All(vec![name("staging"), name("qa")]));
    scene.around.neighbours.insert(TargetId { environment: name("qa"), ..target() }, Neighbour::default());
    promote(&mut scene, "v2");
    assert_eq!((scene.stage(), scene.journal.len()), ("none", 0));
    let seen = scene.around.neighbours[&staging()].clone();
    scene.around.neighbours.insert(TargetId { environment: name("qa"), ..target() }, seen);
    let again = Command { id: CommandId("from-qa".to_owned()), ..promoted(&scene, "v2") };
    settle(&mut scene, &[again]);
    assert_eq!(scene.stage(), "gated");
}

#[test]
fn a_switch_back_holds_automatic_promotion_until_somebody_promotes_again() {
    let mut scene = automatic();
    promote(&mut scene, "v2");
    scene.until(|scene| scene.stage() == "shifting");
    scene.until(|scene| scene.weights().of(Slot::Green) > 0);
    scene.fire();
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::RolledBack));
    assert!(scene.state.promotion_hold.is_some());
    scene.alarm(rollout::snapshot::AlarmReading::Ok);

    promote(&mut scene, "v3");
    assert_eq!(scene.stage(), "none");
    let skipped = scene.journal.iter().rev().find_map(|entry| match &entry.fact {
        Fact::PromotionSkipped { tag, reason, .. } => Some(format!("{tag}: {reason}")),
        _ => None,
    });
    let told = skipped.unwrap_or_default();
    assert!(told.starts_with("v3: automatic promotion is held: v2 went back: alarm api-5xx fired"), "{told}");

    settle(&mut scene, &[deploy("v3")]);
    assert_eq!(waits_at(&scene), [Gate::Soak]);
    assert!(scene.state.promotion_hold.is_some(), "nothing came of it yet");
    scene.until(|_| false);
    assert!(scene.wrote(|fact| matches!(fact, Fact::PromotionResumed)));
    promote(&mut scene, "v4");
    scene.until(|_| false);
    assert_eq!(stable(&scene), "v4", "it goes on by itself");
}

#[test]
fn a_pin_of_an_older_release_holds_automatic_promotion() {
    let mut scene = automatic();
    promote(&mut scene, "v5");
    scene.until(|_| false);
    verify(&mut scene, "v3");
    let Instruction::Deploy { release, image, tag, overrides, terms } = promoted(&scene, "v3").instruction else {
        unreachable!()
    };
    let terms = rollout::Terms { lane: Lane::Asked, ..terms };
    settle(&mut scene, &[ask(Instruction::Deploy { release, image, tag, overrides, terms }, "pin")]);
    assert!(scene.wrote(|fact| matches!(fact, Fact::PromotionHeld { reason } if reason == "v3 was pinned by ada")));
    scene.until(|_| false);
    promote(&mut scene, "v6");
    assert_eq!((scene.stage(), stable(&scene).as_str()), ("none", "v3"));
}

#[test]
fn what_is_older_never_comes_by_itself_over_what_is_newer() {
    let mut scene = automatic();
    promote(&mut scene, "v5");
    verify(&mut scene, "v4");
    let late = promoted(&scene, "v4");
    settle(&mut scene, &[late]);
    assert!(scene.wrote(
        |fact| matches!(fact, Fact::PromotionSkipped { reason, .. } if reason == "v5 is newer, and here already")
    ));
    scene.until(|_| false);
    assert_eq!(stable(&scene), "v5");
}

// --- the stopped line ---

#[test]
fn the_stopped_line_holds_a_shift_where_it_is_and_an_alarm_still_switches_back() {
    let mut scene = Scene::new();
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.weights().of(Slot::Green) == 10);
    let brake = Brake {
        scope: Scope::Everything,
        by: Actor::Switchback,
        reason: "stop".to_owned(),
        since: scene.now,
        until: None,
    };
    scene.around.brakes = Reading::Known(vec![brake]);
    for _ in 0..200 {
        scene.turn();
    }
    assert_eq!(scene.weights().of(Slot::Green), 10, "it stays where it is, long past the step's deadline");
    assert!(matches!(scene.state.explanation.waiting_on[0], WaitingOn::Gate { gate: Gate::StopTheLine, .. }));
    let mut lifted = scene;
    let fired = |scene: &mut Scene| {
        scene.fire();
        scene.until(|_| false);
        scene.verdict()
    };
    let mut other = Scene::new();
    other.decide(&[deploy("v2")]);
    other.until(|scene| scene.weights().of(Slot::Green) == 10);
    other.around = lifted.around.clone();
    other.turn();
    assert_eq!(fired(&mut other), Some(Verdict::RolledBack));

    lifted.around.brakes = Reading::Known(vec![]);
    lifted.until(|_| false);
    assert_eq!(lifted.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn a_refusal_at_a_door_is_on_record_and_changes_nothing() {
    let mut scene = waiting_for_people();
    let noted = by("mallory", Instruction::NoteRefusal { what: "promote".to_owned() });
    settle(&mut scene, &[noted]);
    assert_eq!(refusal(&scene), "promote: because");
    assert_eq!(scene.stage(), "gated");
    let stage = scene.state.running.as_ref().map(|running| running.stage.clone());
    assert!(matches!(stage, Some(Stage::Gated { .. })));
}

// --- the image ---

fn image(scene: &mut Scene, tag: &str, state: ImageState) {
    let Instruction::Deploy { release, .. } = deploy(tag).instruction else { unreachable!() };
    scene.around.images.insert(release.digest, Reading::Known(state));
}

/// The input of the issue: a lifecycle rule deletes the image while people are asked.
#[test]
fn what_waits_for_approval_ends_when_its_image_is_gone() {
    let mut scene = prod();
    verify(&mut scene, "v2");
    settle(&mut scene, &[deploy("v2")]);
    pass_time(&mut scene, 60);
    settle(&mut scene, &[]);
    assert!(scene.wrote(|fact| matches!(fact, Fact::ApprovalRequested { .. })));
    let said = yes(&scene, "bob");
    image(&mut scene, "v2", ImageState::Gone);
    settle(&mut scene, &[said]);
    assert_eq!(scene.verdict(), Some(Verdict::Failed));
    assert!(scene.ending().contains("image") && scene.ending().contains("gone"), "{}", scene.ending());
    assert!(scene.state.running.is_none() && scene.effects.is_empty());
}

#[test]
fn nobody_is_asked_about_an_image_that_cannot_be_pulled() {
    let mut scene = prod();
    verify(&mut scene, "v2");
    image(&mut scene, "v2", ImageState::Archived);
    settle(&mut scene, &[deploy("v2")]);
    pass_time(&mut scene, 60);
    settle(&mut scene, &[]);
    assert!(!scene.wrote(|fact| matches!(fact, Fact::ApprovalRequested { .. })));
    assert!(scene.wrote(|fact| matches!(fact, Fact::GateWaits { gate: Gate::Image, .. })));
    let by_hand = Instruction::Override { deployment: number(&scene), gates: [Gate::Image].into() };
    settle(&mut scene, &[by("ada", by_hand)]);
    assert!(refusal(&scene).contains("push it again"), "{}", refusal(&scene));
    // Somebody restores it.
    image(&mut scene, "v2", ImageState::Present);
    settle(&mut scene, &[]);
    assert!(scene.wrote(|fact| matches!(fact, Fact::ApprovalRequested { .. })));

    image(&mut scene, "v3", ImageState::Gone);
    let command = promoted(&scene, "v3");
    settle(&mut scene, &[command]);
    assert!(scene.wrote(|fact| matches!(fact, Fact::PromotionSkipped { tag, .. } if tag == "v3")));
}
