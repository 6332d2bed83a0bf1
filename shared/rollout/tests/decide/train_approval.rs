//! One approval for a whole release train: who asks, what is passed on, and when it counts.

use super::fixture::{TargetFixture, deploy, new_command, target};
use super::gates::{
    approval_by, awaiting_approval, decide_until_waiting, last_refusal, name, prod_with_gates, staging,
};
use super::gates::{promotion_command, verify_in_staging};
use rollout::command::{TrainApproval, Vote};
use rollout::promotion::RelatedTarget;
use rollout::target::{OutboxMessage, Verified};
use rollout::{
    Actor, Command, CommandId, Fact, ImageDigest, Inbox, Instruction, Lane, Name, SignedDuration, TargetId, Train,
    Verdict, decide,
};

fn digest(of: u8) -> ImageDigest {
    ImageDigest::new(format!("sha256:{of:064x}")).unwrap()
}

fn users(environment: &str) -> TargetId {
    TargetId { service: name("users"), environment: name(environment), ..target() }
}

/// The train of `api` with this release and of `users`, for which `lead` asks.
fn train(release: &ImageDigest, lead: &str) -> Box<Train> {
    let members = [("api", release.clone(), "v2"), ("users", digest(7), "v7")];
    let members = members.map(|(service, digest, tag)| (name(service), digest, tag.to_owned()));
    Box::new(Train::new("t1".to_owned(), members, Some(name(lead)), true))
}

fn with_train(mut command: Command, lead: &str) -> Command {
    if let Instruction::Deploy { release, options, .. } = &mut command.instruction {
        options.train = Some(train(&release.digest, lead));
    }
    command
}

/// `api` at the gates of prod, verified and soaked, with a train for which `lead` asks.
fn at_the_gates(lead: &str) -> TargetFixture {
    let mut fixture = prod_with_gates();
    verify_in_staging(&mut fixture, "v2");
    let users_asks = RelatedTarget { asks_for_train: Some("t1".to_owned()), ..RelatedTarget::default() };
    fixture.gate_context.related_targets.insert(users("prod"), users_asks);
    fixture.now += SignedDuration::from_secs(120);
    decide_until_waiting(&mut fixture, &[with_train(deploy("v2"), lead)]);
    assert_eq!(fixture.stage(), "gated");
    fixture
}

fn asked(fixture: &TargetFixture) -> bool {
    fixture.journal_has(|fact| matches!(fact, Fact::ApprovalRequested { .. }))
}

fn passed_on(fixture: &TargetFixture) -> Option<TrainApproval> {
    fixture.outbox.iter().find_map(|message| match message {
        OutboxMessage::TrainApproved(approval) => Some(approval.clone()),
        _ => None,
    })
}

/// What the lead passes on, approved by these people under this version of the policy.
fn approval(policy_version: u64, people: &[&str]) -> Command {
    let vote = |person: &&str| Vote {
        person: name(person),
        actor: Actor::Person { name: format!("slack:{}", person.to_uppercase()) },
        at: super::fixture::start(),
    };
    let votes = people.iter().map(vote).collect();
    let instruction = Instruction::ApproveTrain { train: "t1".to_owned(), lead: name("users"), policy_version, votes };
    new_command(instruction, &format!("approve-train-{policy_version}"))
}

/// Which of these commands the next decision consumes; nothing is decided.
fn consumed(fixture: &TargetFixture, commands: &[Command]) -> Vec<CommandId> {
    let inbox = Inbox { commands, policy: Some(&fixture.applied), gate_context: Some(&fixture.gate_context) };
    decide(&fixture.state, &inbox, Some(&fixture.seen()), fixture.now).consumed
}

#[test]
fn the_lead_asks_for_all_and_passes_the_approval_on() {
    let mut fixture = at_the_gates("api");
    let named = |fact: &Fact| matches!(fact, Fact::ApprovalRequested { with, .. } if with.get(&name("users")).is_some_and(|tag| tag == "v7"));
    assert!(fixture.journal_has(named), "{:#?}", fixture.journal);
    assert_eq!(passed_on(&fixture), None);
    for person in ["bob", "carol"] {
        let approval = approval_by(&fixture, person);
        fixture.decide(&[approval]);
    }
    fixture.run_until(|fixture| fixture.stage() != "gated");
    let approval = passed_on(&fixture).expect("it is passed on");
    let people: Vec<&Name> = approval.votes.iter().map(|vote| &vote.person).collect();
    assert_eq!((approval.train.id.as_str(), people), ("t1", vec![&name("bob"), &name("carol")]));
    assert_eq!(approval.policy_version, fixture.applied.version);
}

#[test]
fn another_member_does_not_ask_and_begins_with_the_approval_of_the_lead() {
    let mut fixture = at_the_gates("users");
    assert!(!asked(&fixture));
    let by_bob = approval_by(&fixture, "bob");
    fixture.decide(&[by_bob]);
    assert!(last_refusal(&fixture).contains("users"), "{}", last_refusal(&fixture));
    let version = fixture.applied.version;
    fixture.decide(&[approval(version, &["bob", "carol"])]);
    fixture.run_until(|fixture| fixture.stage() != "gated");
    assert!(!asked(&fixture));
    assert_eq!(passed_on(&fixture), None, "it asked for nobody");
}

#[test]
fn an_approval_under_another_policy_or_by_too_few_does_not_count() {
    for approval in [approval(0, &["bob", "carol"]), approval(1, &["bob", "mallory"])] {
        let mut fixture = at_the_gates("users");
        fixture.applied.version = 1;
        fixture.gate_context.related_targets.insert(users("prod"), RelatedTarget::default());
        fixture.decide(&[approval]);
        fixture.now += SignedDuration::from_secs(120);
        decide_until_waiting(&mut fixture, &[]);
        assert_eq!(fixture.stage(), "gated");
        assert!(asked(&fixture), "it asks by itself: {:#?}", fixture.journal);
    }
}

#[test]
fn an_approval_that_arrives_before_its_deployment_waits_for_it() {
    let mut fixture = awaiting_approval();
    fixture.applied.concurrency = rollout::Concurrency::QueueAll;
    verify_in_staging(&mut fixture, "v3");
    fixture.decide(&[with_train(deploy("v3"), "users")]);
    let approval = approval(fixture.applied.version, &["bob", "carol"]);
    assert!(consumed(&fixture, std::slice::from_ref(&approval)).is_empty(), "it is kept until v3 has started");
    for person in ["bob", "carol"] {
        let of_v2 = approval_by(&fixture, person);
        fixture.decide(&[of_v2]);
    }
    fixture.run_until(|fixture| fixture.verdict().is_some());
    assert_eq!(consumed(&fixture, std::slice::from_ref(&approval)), [approval.id]);
}

#[test]
fn a_promoted_train_waits_until_all_of_it_is_verified_and_ends_with_a_member_that_failed() {
    let verify_users = |fixture: &mut TargetFixture| {
        let mut release = fixture.gate_context.related_targets[&staging()].verified[0].release.clone();
        release.id.digest = digest(7);
        let verified = Verified { release, deployment: 3, at: fixture.now, forward_only: false };
        let related = RelatedTarget { verified: vec![verified], ..RelatedTarget::default() };
        fixture.gate_context.related_targets.insert(users("staging"), related);
    };
    let promoted = || {
        let mut fixture = prod_with_gates();
        fixture.applied.entry.rules.approval = None;
        verify_in_staging(&mut fixture, "v2");
        let on_its_way = RelatedTarget { running: Some(digest(7)), ..RelatedTarget::default() };
        fixture.gate_context.related_targets.insert(users("staging"), on_its_way);
        let command = with_train(promotion_command(&fixture, "v2"), "users");
        fixture.now += SignedDuration::from_secs(120);
        decide_until_waiting(&mut fixture, &[command]);
        assert_eq!(fixture.stage(), "gated", "users is not verified yet");
        fixture
    };
    let mut fixture = promoted();
    assert!(matches!(fixture.state.running.as_ref().map(|it| &it.options.lane), Some(Lane::Automatic { .. })));
    verify_users(&mut fixture);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));

    let mut fixture = promoted();
    fixture.gate_context.related_targets.insert(users("staging"), RelatedTarget::default());
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Failed));
    assert!(fixture.end_reason().contains("users"), "{}", fixture.end_reason());
}
