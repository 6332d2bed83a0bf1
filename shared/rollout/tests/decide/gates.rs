//! From being asked for to beginning: gates, people, promotion by itself, the short way.

use super::fixture::{TargetFixture, deploy, new_command, start, target};
use rollout::brake::{Brake, Scope};
use rollout::entry::{After, ApprovalDefault, ApprovalPolicy, Gate, Person};
use rollout::explanation::WaitingOn;
use rollout::promotion::{ImageState, RelatedTarget};
use rollout::target::Verified;
use rollout::{
    Actor, Command, CommandId, CommandRefusal, Concurrency, Fact, Instruction, Lane, Name, Next, PlanId, Reading,
    Seconds, SignedDuration, Slot, Stage, TargetId, Verdict,
};
use std::collections::BTreeSet;

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// Prod: after staging, a minute of soak, two of Ada, Bob and Carol.
pub(super) fn prod_with_gates() -> TargetFixture {
    let mut fixture = TargetFixture::new();
    let entry = &mut fixture.applied.entry;
    entry.auto_promotes = true;
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
    fixture.gate_context.related_targets.insert(staging(), RelatedTarget::default());
    fixture
}

pub(super) fn staging() -> TargetId {
    TargetId { environment: name("staging"), ..target() }
}

/// Staging has verified the release of this tag just now.
pub(super) fn verify_in_staging(fixture: &mut TargetFixture, tag: &str) {
    let Instruction::Deploy { release, image, .. } = deploy(tag).instruction else { unreachable!() };
    let release = rollout::release::ReleaseRef { id: release, image, tag: tag.to_owned(), pushed_at: None };
    let verified = Verified { release, deployment: 9, at: fixture.now, forward_only: false };
    fixture.gate_context.related_targets.entry(staging()).or_default().verified.push(verified);
}

/// What staging's verification asks of prod; pushed as many seconds after the start as the tag's number says.
pub(super) fn promotion_command(fixture: &TargetFixture, tag: &str) -> Command {
    let Instruction::Deploy { release, image, overrides, mut options, .. } = deploy(tag).instruction else {
        unreachable!()
    };
    options.lane = Lane::Automatic { from: name("staging") };
    let seconds = tag.trim_start_matches('v').parse().unwrap();
    options.pushed_at = Some(start() + SignedDuration::from_secs(seconds));
    Command {
        id: CommandId(format!("promotion:{tag}")),
        target: target(),
        instruction: Instruction::Deploy { release, image, tag: tag.to_owned(), overrides, options },
        actor: Actor::Push { repository: "shop/api".to_owned() },
        reason: "verified in staging (#9)".to_owned(),
        at: fixture.now,
    }
}

fn by(person: &str, instruction: Instruction) -> Command {
    let id = format!("{person}-{instruction:?}");
    let actor = Actor::Person { name: format!("slack:{}", person.to_uppercase()) };
    Command { actor, ..new_command(instruction, &id) }
}

fn plan(fixture: &TargetFixture) -> PlanId {
    fixture.state.running.as_ref().unwrap().gates.as_ref().unwrap().plan.clone()
}

fn number(fixture: &TargetFixture) -> u64 {
    fixture.state.running.as_ref().unwrap().number
}

pub(super) fn approval_by(fixture: &TargetFixture, person: &str) -> Command {
    by(person, Instruction::Approve { deployment: number(fixture), plan: plan(fixture) })
}

fn rejection_by(fixture: &TargetFixture, person: &str) -> Command {
    by(person, Instruction::Reject { deployment: number(fixture), plan: plan(fixture) })
}

fn advance_clock(fixture: &mut TargetFixture, seconds: i64) {
    fixture.now += SignedDuration::from_secs(seconds);
}

/// Looks again until it waits.
pub(super) fn decide_until_waiting(fixture: &mut TargetFixture, commands: &[Command]) {
    let mut next = fixture.decide(commands);
    for _ in 0..20 {
        if next != Next::Immediately {
            return;
        }
        next = fixture.decide(&[]);
    }
    panic!("it never waits: {:?}", fixture.state.explanation);
}

pub(super) fn last_refusal(fixture: &TargetFixture) -> String {
    let newest = fixture.journal.iter().rev().find_map(|entry| match &entry.fact {
        Fact::CommandRefused { command, reason } => Some(format!("{command}: {reason}")),
        _ => None,
    });
    newest.unwrap_or_default()
}

pub(super) fn closed_gates(fixture: &TargetFixture) -> Vec<Gate> {
    let gates = fixture.state.explanation.waiting_on.iter().map(|on| match on {
        WaitingOn::Gate { gate, .. } => *gate,
        WaitingOn::Approval { .. } => Gate::Approval,
        other => panic!("it waits for something else: {other:?}"),
    });
    gates.collect()
}

/// A release that waits for its approval.
pub(super) fn awaiting_approval() -> TargetFixture {
    let mut fixture = prod_with_gates();
    verify_in_staging(&mut fixture, "v2");
    decide_until_waiting(&mut fixture, &[deploy("v2")]);
    advance_clock(&mut fixture, 60);
    decide_until_waiting(&mut fixture, &[]);
    assert_eq!(fixture.stage(), "gated");
    fixture
}

#[test]
fn a_release_soaks_gets_two_approvals_and_deploys() {
    let mut fixture = prod_with_gates();
    verify_in_staging(&mut fixture, "v2");
    decide_until_waiting(&mut fixture, &[deploy("v2")]);
    assert_eq!((fixture.stage(), closed_gates(&fixture)), ("gated", vec![Gate::Soak, Gate::Approval]));
    assert!(
        !fixture.journal_has(|fact| matches!(fact, Fact::ApprovalRequested { .. })),
        "nobody is asked while it soaks"
    );
    assert_eq!(fixture.effects, []);

    advance_clock(&mut fixture, 60);
    decide_until_waiting(&mut fixture, &[]);
    assert_eq!(closed_gates(&fixture), [Gate::Approval]);
    let approval_requests = fixture.journal.iter().find_map(|entry| match &entry.fact {
        Fact::ApprovalRequested { approvers, required, .. } => Some((approvers.clone(), *required)),
        _ => None,
    });
    assert_eq!(approval_requests, Some((vec![name("bob"), name("carol")], 2)), "ada asked for it");

    let bobs_decision = approval_by(&fixture, "bob");
    decide_until_waiting(&mut fixture, &[bobs_decision]);
    assert_eq!((fixture.stage(), closed_gates(&fixture)), ("gated", vec![Gate::Approval]));
    let carols_decision = approval_by(&fixture, "carol");
    decide_until_waiting(&mut fixture, &[carols_decision]);
    assert_ne!(fixture.stage(), "gated");
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
    let fact_names: Vec<&str> =
        fixture.journal.iter().map(|entry| entry.fact.name()).filter(|name| *name != "stage_entered").collect();
    let first =
        ["started", "blocked_by_gate", "gate_opened", "approval_requested", "approved", "approved", "sides_determined"];
    assert_eq!(fact_names[..first.len()], first);
}

#[test]
fn a_release_not_verified_in_staging_is_refused() {
    let mut fixture = prod_with_gates();
    decide_until_waiting(&mut fixture, &[deploy("v2")]);
    assert_eq!(fixture.stage(), "none");
    assert_eq!(
        last_refusal(&fixture),
        "deploy: v2 may not be deployed: it is not verified in staging: deploy it there first, until its bake is over"
    );
}

#[test]
fn a_refused_release_does_not_supersede_a_waiting_one() {
    let mut fixture = awaiting_approval();
    let before = number(&fixture);
    decide_until_waiting(&mut fixture, &[deploy("v3")]);
    assert_eq!(number(&fixture), before, "v3 is not verified, and v2 still waits");
}

#[test]
fn a_release_rolled_back_in_staging_fails_at_the_gate() {
    let mut fixture = awaiting_approval();
    fixture.gate_context.related_targets.insert(staging(), RelatedTarget::default());
    decide_until_waiting(&mut fixture, &[]);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert!(fixture.end_reason().starts_with("after: it is not verified in staging"), "{}", fixture.end_reason());
}

#[test]
fn one_rejection_ends_the_deployment_with_its_reason() {
    let mut fixture = awaiting_approval();
    let bobs_decision = approval_by(&fixture, "bob");
    let carols_decision = rejection_by(&fixture, "carol");
    decide_until_waiting(&mut fixture, &[bobs_decision, carols_decision]);
    assert_eq!(fixture.verdict(), Some(Verdict::Rejected));
    assert_eq!(fixture.end_reason(), "by carol: because");
    assert_eq!(fixture.effects, []);
}

#[test]
fn an_unanswered_approval_expires_or_approves_per_policy() {
    let mut fixture = awaiting_approval();
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Expired));
    assert_eq!(fixture.end_reason(), "approval: 0 of 2 approvals within 1h, and silence is taken for a no");

    let mut fixture = awaiting_approval();
    if let Some(policy) = &mut fixture.applied.entry.rules.approval {
        policy.default = ApprovalDefault::Approve;
    }
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
    assert!(
        fixture.journal_has(
            |fact| matches!(fact, Fact::GateOpened { gate: Gate::Approval, how } if how.contains("silence"))
        )
    );
}

#[test]
fn an_ineligible_approval_is_refused_without_effect() {
    let mut fixture = awaiting_approval();
    let (plan, number) = (plan(&fixture), number(&fixture));
    let approve = |deployment, plan: &PlanId| Instruction::Approve { deployment, plan: plan.clone() };
    let rows = [
        (by("mallory", approve(number, &plan)), "approve: slack:MALLORY is none of those who may approve here"),
        (
            Command { actor: Actor::Person { name: "ada".to_owned() }, ..by("x", approve(number, &plan)) },
            "approve: ada requested this deployment, and requesters do not approve",
        ),
        (by("ada", approve(number, &plan)), "approve: ada requested this deployment, and requesters do not approve"),
        (
            by("bob", approve(number, &PlanId("0123456789abcdef".to_owned()))),
            "approve: what the deployment would do has changed since that was asked: look at the present plan",
        ),
        (by("bob", approve(number + 1, &plan)), "approve: there is no deployment #2"),
    ];
    for (command, refusal) in rows {
        decide_until_waiting(&mut fixture, &[command]);
        assert_eq!(last_refusal(&fixture), refusal);
        assert_eq!((fixture.stage(), closed_gates(&fixture)), ("gated", vec![Gate::Approval]));
    }
    let (first, second) =
        (approval_by(&fixture, "bob"), Command { id: CommandId("again".to_owned()), ..approval_by(&fixture, "bob") });
    decide_until_waiting(&mut fixture, &[first, second]);
    assert_eq!(last_refusal(&fixture), "approve: bob has approved already: it counts once");
    assert_eq!(fixture.stage(), "gated", "one person is one approval");
}

#[test]
fn a_changed_plan_voids_earlier_approvals() {
    let mut fixture = awaiting_approval();
    let old = approval_by(&fixture, "carol");
    let bobs_decision = approval_by(&fixture, "bob");
    decide_until_waiting(&mut fixture, &[bobs_decision]);
    fixture.applied.version += 1;
    fixture.applied.policy.strategy.bake = Seconds(600);
    decide_until_waiting(&mut fixture, &[]);
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::PlanChanged { voided: 1, policy_version: 8, .. })));
    let approval_requests = fixture.journal.iter().filter(|entry| entry.fact.name() == "approval_requested").count();
    assert_eq!(approval_requests, 2, "people are asked again");
    decide_until_waiting(&mut fixture, &[old]);
    assert_eq!(last_refusal(&fixture), format!("approve: {}", CommandRefusal::PlanChanged));
    let carols_decision = Command { id: CommandId("2".to_owned()), ..approval_by(&fixture, "carol") };
    decide_until_waiting(&mut fixture, &[carols_decision]);
    assert_eq!(
        (fixture.stage(), closed_gates(&fixture)),
        ("gated", vec![Gate::Approval]),
        "bob said yes to another plan"
    );
    let bobs_decision = Command { id: CommandId("3".to_owned()), ..approval_by(&fixture, "bob") };
    decide_until_waiting(&mut fixture, &[bobs_decision]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn a_policy_version_without_changes_here_keeps_approvals() {
    let mut fixture = awaiting_approval();
    let bobs_decision = approval_by(&fixture, "bob");
    decide_until_waiting(&mut fixture, &[bobs_decision]);
    fixture.applied.version += 1;
    decide_until_waiting(&mut fixture, &[]);
    assert!(!fixture.journal_has(|fact| matches!(fact, Fact::PlanChanged { .. })));
    let carols_decision = approval_by(&fixture, "carol");
    decide_until_waiting(&mut fixture, &[carols_decision]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn a_newer_release_supersedes_a_waiting_one_and_its_approvals() {
    let mut fixture = awaiting_approval();
    let late = approval_by(&fixture, "bob");
    verify_in_staging(&mut fixture, "v3");
    decide_until_waiting(&mut fixture, &[deploy("v3")]);
    assert_eq!(fixture.verdict(), Some(Verdict::Superseded));
    assert_eq!((fixture.stage(), number(&fixture)), ("gated", 2));
    decide_until_waiting(&mut fixture, &[late]);
    assert_eq!(last_refusal(&fixture), "approve: deployment #1 is over, and #2 (v3) came after it");

    for (rule, refusal) in
        [(Concurrency::QueueAll, ""), (Concurrency::Reject, "deploy: deployment #1 (v2, gated) is running")]
    {
        let mut fixture = awaiting_approval();
        fixture.applied.concurrency = rule;
        verify_in_staging(&mut fixture, "v3");
        decide_until_waiting(&mut fixture, &[deploy("v3")]);
        assert_eq!(number(&fixture), 1, "{rule:?}");
        assert!(last_refusal(&fixture).starts_with(refusal), "{}", last_refusal(&fixture));
    }
}

#[test]
fn abort_and_rollback_cancel_a_waiting_deployment() {
    let mut fixture = awaiting_approval();
    decide_until_waiting(&mut fixture, &[new_command(Instruction::Abort { deployment: None }, "a")]);
    assert_eq!(fixture.verdict(), Some(Verdict::Cancelled));

    let mut fixture = TargetFixture::new();
    fixture.run("v1");
    fixture.run("v2");
    fixture.applied = prod_with_gates().applied;
    fixture.gate_context = prod_with_gates().gate_context;
    verify_in_staging(&mut fixture, "v3");
    decide_until_waiting(&mut fixture, &[deploy("v3")]);
    assert_eq!(fixture.stage(), "gated");
    let brake = Brake {
        scope: Scope::Everything,
        by: Actor::Switchback,
        reason: "stop".to_owned(),
        since: fixture.now,
        until: None,
    };
    fixture.gate_context.brakes = Reading::Known(vec![brake]);
    fixture.decide(&[new_command(Instruction::Rollback, "r")]);
    assert_eq!(fixture.verdict(), Some(Verdict::Cancelled), "what waited is over");
    fixture.run_until(|_| false);
    let stable = fixture.state.stable.as_ref().and_then(|stable| stable.release.clone());
    assert_eq!(stable.map(|release| release.tag), Some("v1".to_owned()), "no freeze holds a rollback");
}

#[test]
fn a_freeze_blocks_the_start_and_is_journalled_once() {
    let mut fixture = TargetFixture::new();
    let scope = Scope::Environment { application: name("shop"), environment: name("prod") };
    let brake = Brake {
        scope,
        by: Actor::Person { name: "ada".to_owned() },
        reason: "fair".to_owned(),
        since: fixture.now,
        until: None,
    };
    fixture.gate_context.brakes = Reading::Known(vec![brake]);
    decide_until_waiting(&mut fixture, &[deploy("v2")]);
    for _ in 0..5 {
        fixture.advance();
    }
    let gate_entries = fixture.journal.iter().filter(|entry| matches!(entry.fact, Fact::BlockedByGate { .. })).count();
    assert_eq!((fixture.stage(), gate_entries), ("gated", 1));
    // Unfrozen; and while that cannot be read, it waits.
    fixture.gate_context.brakes = Reading::Unknown("throttled".to_owned());
    decide_until_waiting(&mut fixture, &[]);
    assert_eq!(fixture.stage(), "gated");
    fixture.gate_context.brakes = Reading::Known(vec![]);
    decide_until_waiting(&mut fixture, &[]);
    assert_ne!(fixture.stage(), "gated");
}

#[test]
fn a_blocked_deployment_expires() {
    let mut fixture = TargetFixture::new();
    let brake = Brake {
        scope: Scope::Everything,
        by: Actor::Switchback,
        reason: "stop".to_owned(),
        since: fixture.now,
        until: None,
    };
    fixture.gate_context.brakes = Reading::Known(vec![brake]);
    fixture.applied.entry.rules.give_up_after = Seconds(3600);
    decide_until_waiting(&mut fixture, &[deploy("v2")]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Expired));
    assert_eq!(
        fixture.end_reason(),
        "it waited at its gates for 1h: stop_the_line: the line is stopped by switchback: stop"
    );
}

#[test]
fn a_gate_override_needs_a_reason_and_is_journalled() {
    let mut fixture = awaiting_approval();
    let override_gates =
        |deployment, gates: &[Gate]| Instruction::Override { deployment, gates: gates.iter().copied().collect() };
    let without_reason = Command { reason: String::new(), ..by("dora", override_gates(1, &[Gate::Approval])) };
    decide_until_waiting(&mut fixture, &[without_reason]);
    assert_eq!(last_refusal(&fixture), "override: opening a gate by hand needs a reason");
    decide_until_waiting(&mut fixture, &[by("dora", override_gates(1, &[Gate::Approval]))]);
    assert!(fixture.journal_has(
        |fact| matches!(fact, Fact::GateOverridden { gate: Gate::Approval, reason } if reason == "because")
    ));
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
    decide_until_waiting(&mut fixture, &[by("dora", override_gates(2, &[Gate::Approval]))]);
    assert_eq!(last_refusal(&fixture), "override: there is no deployment #2");
}

pub(super) fn hotfix_command(tag: &str) -> Command {
    let mut command = deploy(tag);
    command.id = CommandId(format!("hotfix-{tag}"));
    if let Instruction::Deploy { options, .. } = &mut command.instruction {
        options.lane = Lane::Hotfix;
    }
    command
}

#[test]
fn a_hotfix_skips_configured_gates_and_is_journalled() {
    let mut fixture = prod_with_gates();
    decide_until_waiting(&mut fixture, &[hotfix_command("v3")]);
    assert!(last_refusal(&fixture).starts_with("deploy: prod has no hotfix lane for v3"), "{}", last_refusal(&fixture));

    let mut fixture = awaiting_approval();
    fixture.applied.entry.rules.hotfix_skips = BTreeSet::from([Gate::After, Gate::Soak, Gate::Approval]);
    decide_until_waiting(&mut fixture, &[hotfix_command("v3")]);
    assert_eq!(fixture.verdict(), Some(Verdict::Superseded), "what waits at the long way's gates gives way");
    assert_eq!(number(&fixture), 2);
    assert_ne!(fixture.stage(), "gated");
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::HotfixStarted { reason, .. } if reason == "because")));
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));

    let mut fixture = prod_with_gates();
    fixture.applied.entry.rules.hotfix_skips = BTreeSet::from([Gate::After, Gate::Soak]);
    decide_until_waiting(&mut fixture, &[Command { reason: String::new(), ..hotfix_command("v3") }]);
    assert_eq!(last_refusal(&fixture), "deploy: v3: a hotfix needs a reason");
    decide_until_waiting(&mut fixture, &[Command { id: CommandId("2".to_owned()), ..hotfix_command("v3") }]);
    assert_eq!(closed_gates(&fixture), [Gate::Approval], "what is not skipped is asked");
}

// --- promotion by itself ---

#[test]
fn stop_the_line_holds_a_shift_and_alarms_still_roll_back() {
    let mut fixture = TargetFixture::new();
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().of(Slot::Green) == 10);
    let brake = Brake {
        scope: Scope::Everything,
        by: Actor::Switchback,
        reason: "stop".to_owned(),
        since: fixture.now,
        until: None,
    };
    fixture.gate_context.brakes = Reading::Known(vec![brake]);
    for _ in 0..200 {
        fixture.advance();
    }
    assert_eq!(fixture.weights().of(Slot::Green), 10, "it stays where it is, long past the step's deadline");
    assert!(matches!(fixture.state.explanation.waiting_on[0], WaitingOn::Gate { gate: Gate::StopTheLine, .. }));
    let mut lifted = fixture;
    let fired = |fixture: &mut TargetFixture| {
        fixture.fire_alarm();
        fixture.run_until(|_| false);
        fixture.verdict()
    };
    let mut other = TargetFixture::new();
    other.decide(&[deploy("v2")]);
    other.run_until(|fixture| fixture.weights().of(Slot::Green) == 10);
    other.gate_context = lifted.gate_context.clone();
    other.advance();
    assert_eq!(fired(&mut other), Some(Verdict::RolledBack));

    lifted.gate_context.brakes = Reading::Known(vec![]);
    lifted.run_until(|_| false);
    assert_eq!(lifted.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn a_noted_refusal_is_journalled_without_effect() {
    let mut fixture = awaiting_approval();
    let noted = by("mallory", Instruction::NoteRefusal { what: "promote".to_owned() });
    decide_until_waiting(&mut fixture, &[noted]);
    assert_eq!(last_refusal(&fixture), "promote: because");
    assert_eq!(fixture.stage(), "gated");
    let stage = fixture.state.running.as_ref().map(|running| running.stage());
    assert!(matches!(stage, Some(Stage::Gated)));
}

// --- the image ---

fn image(fixture: &mut TargetFixture, tag: &str, state: ImageState) {
    let Instruction::Deploy { release, .. } = deploy(tag).instruction else { unreachable!() };
    fixture.gate_context.images.insert(release.digest, Reading::Known(state));
}

/// The input of the issue: a lifecycle rule deletes the image while people are asked.
#[test]
fn a_deployment_awaiting_approval_fails_if_its_image_is_deleted() {
    let mut fixture = prod_with_gates();
    verify_in_staging(&mut fixture, "v2");
    decide_until_waiting(&mut fixture, &[deploy("v2")]);
    advance_clock(&mut fixture, 60);
    decide_until_waiting(&mut fixture, &[]);
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::ApprovalRequested { .. })));
    let bobs_decision = approval_by(&fixture, "bob");
    image(&mut fixture, "v2", ImageState::Gone);
    decide_until_waiting(&mut fixture, &[bobs_decision]);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert!(
        fixture.end_reason().contains("image") && fixture.end_reason().contains("gone"),
        "{}",
        fixture.end_reason()
    );
    assert!(fixture.state.running.is_none() && fixture.effects.is_empty());
}

#[test]
fn approval_is_not_requested_for_an_unavailable_image() {
    let mut fixture = prod_with_gates();
    verify_in_staging(&mut fixture, "v2");
    image(&mut fixture, "v2", ImageState::Archived);
    decide_until_waiting(&mut fixture, &[deploy("v2")]);
    advance_clock(&mut fixture, 60);
    decide_until_waiting(&mut fixture, &[]);
    assert!(!fixture.journal_has(|fact| matches!(fact, Fact::ApprovalRequested { .. })));
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::BlockedByGate { gate: Gate::Image, .. })));
    let by_hand = Instruction::Override { deployment: number(&fixture), gates: [Gate::Image].into() };
    decide_until_waiting(&mut fixture, &[by("ada", by_hand)]);
    assert!(last_refusal(&fixture).contains("push it again"), "{}", last_refusal(&fixture));
    // Somebody restores it.
    image(&mut fixture, "v2", ImageState::Present);
    decide_until_waiting(&mut fixture, &[]);
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::ApprovalRequested { .. })));

    image(&mut fixture, "v3", ImageState::Gone);
    let command = promotion_command(&fixture, "v3");
    decide_until_waiting(&mut fixture, &[command]);
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::PromotionSkipped { tag, .. } if tag == "v3")));
}
