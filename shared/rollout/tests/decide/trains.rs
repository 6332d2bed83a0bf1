//! Several services as one set: in order, and back together or not at all.

use super::fixture::{TargetFixture, deploy, new_command, target};
use super::gates::decide_until_waiting;
use rollout::promotion::RelatedTarget;
use rollout::target::OutboxMessage;
use rollout::{Command, Concurrency, Fact, ImageDigest, Instruction, Name, Next, Slot, TargetId, Train, Verdict};
use std::collections::BTreeMap;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn digest(of: u8) -> ImageDigest {
    ImageDigest::new(format!("sha256:{of:064x}")).unwrap()
}

fn users_target() -> TargetId {
    TargetId { service: name("users"), ..target() }
}

/// A release of api that goes with users, which it depends on.
fn deploy_with_train(tag: &str, rollback_together: bool) -> Command {
    let mut command = deploy(tag);
    if let Instruction::Deploy { release, options, .. } = &mut command.instruction {
        let members = BTreeMap::from([(name("api"), release.digest.clone()), (name("users"), digest(7))]);
        options.train = Some(Box::new(Train { id: "t1".to_owned(), members, rollback_together, ..Train::default() }));
    }
    command
}

fn fixture() -> TargetFixture {
    let mut fixture = TargetFixture::new();
    fixture.applied.entry.depends_on.insert(name("users"));
    fixture.gate_context.related_targets.insert(users_target(), RelatedTarget::default());
    fixture
}

fn mark_users_deployed(fixture: &mut TargetFixture) {
    fixture
        .gate_context
        .related_targets
        .insert(users_target(), RelatedTarget { stable: Some(digest(7)), ..RelatedTarget::default() });
}

fn stop_command() -> Command {
    Command::stop_train(target(), "t1", &name("users"), "alarm users-5xx fired", super::fixture::start())
}

fn train_stop_sent(fixture: &TargetFixture) -> bool {
    fixture.outbox.iter().any(|message| matches!(message, OutboxMessage::TrainStopped { .. }))
}

#[test]
fn a_service_waits_for_its_dependencies() {
    let mut fixture = fixture();
    decide_until_waiting(&mut fixture, &[deploy_with_train("v2", true)]);
    assert_eq!(fixture.stage(), "gated");
    mark_users_deployed(&mut fixture);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
    assert!(!train_stop_sent(&fixture));
}

#[test]
fn a_rolled_back_member_stops_the_train() {
    let mut fixture = fixture();
    mark_users_deployed(&mut fixture);
    fixture.decide(&[deploy_with_train("v2", true)]);
    fixture.run_until(|fixture| fixture.weights().of(Slot::Green) > 0);
    fixture.fire_alarm();
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack));
    assert!(train_stop_sent(&fixture));
}

#[test]
fn a_refused_member_stops_the_train() {
    let mut fixture = fixture();
    fixture.applied.entry.rules.after = Some(rollout::entry::After::All(vec![name("staging")]));
    let staging = TargetId { environment: name("staging"), ..target() };
    fixture.gate_context.related_targets.insert(staging, RelatedTarget::default());
    decide_until_waiting(&mut fixture, &[deploy_with_train("v2", true)]);
    assert_eq!(fixture.stage(), "none");
    assert!(train_stop_sent(&fixture));
}

#[test]
fn a_gated_member_fails_when_the_train_stops() {
    for rollback_together in [true, false] {
        let mut fixture = fixture();
        decide_until_waiting(&mut fixture, &[deploy_with_train("v2", rollback_together)]);
        decide_until_waiting(&mut fixture, &[stop_command()]);
        assert_eq!(fixture.verdict(), Some(Verdict::Failed));
        assert_eq!(fixture.end_reason(), "users of its release train failed: alarm users-5xx fired");
        assert!(!train_stop_sent(&fixture), "a member that was notified does not notify the others");
    }
}

#[test]
fn a_running_member_rolls_back_with_the_train_if_configured() {
    for (rollback_together, verdict) in [(true, Verdict::RolledBack), (false, Verdict::Succeeded)] {
        let mut fixture = fixture();
        mark_users_deployed(&mut fixture);
        fixture.decide(&[deploy_with_train("v2", rollback_together)]);
        fixture.run_until(|fixture| fixture.weights().of(Slot::Green) > 0);
        fixture.decide(&[stop_command()]);
        fixture.run_until(|_| false);
        assert_eq!(fixture.verdict(), Some(verdict), "together: {rollback_together}");
    }
}

#[test]
fn a_deployed_member_rolls_back_with_the_train() {
    let mut fixture = fixture();
    fixture.run("v1");
    mark_users_deployed(&mut fixture);
    fixture.decide(&[deploy_with_train("v2", true)]);
    fixture.run_until(|_| false);
    fixture.decide(&[stop_command()]);
    fixture.run_until(|_| false);
    let stable =
        fixture.state.stable.as_ref().and_then(|stable| stable.release.as_ref()).map(|release| release.tag.clone());
    assert_eq!(stable.as_deref(), Some("v1"));
    assert!(!fixture.state.verified.iter().any(|known| known.release.tag == "v2"), "verified no more");
}

#[test]
fn a_member_past_its_rollback_path_rolls_back_after_finishing() {
    let mut fixture = fixture();
    fixture.run("v1");
    mark_users_deployed(&mut fixture);
    fixture.autoscale(Slot::Green, 4, 8);
    fixture.autoscale(Slot::Blue, 0, 8);
    fixture.decide(&[deploy_with_train("v2", true)]);
    fixture.run_until(|fixture| {
        let running = fixture.state.running.as_ref();
        running.is_none_or(|running| running.rollback_path().is_none())
    });
    // The command stays in the inbox until it can be followed.
    for _ in 0..40 {
        fixture.decide(&[stop_command()]);
        fixture.advance();
    }
    fixture.run_until(|_| false);
    let stable =
        fixture.state.stable.as_ref().and_then(|stable| stable.release.as_ref()).map(|release| release.tag.clone());
    assert_eq!(stable.as_deref(), Some("v1"));
}

#[test]
fn the_stop_of_another_train_is_ignored() {
    let mut fixture = fixture();
    mark_users_deployed(&mut fixture);
    fixture.run("v1");
    let before = fixture.journal.len();
    decide_until_waiting(&mut fixture, &[stop_command()]);
    assert_eq!((fixture.journal.len(), fixture.stage()), (before, "none"));
}

#[test]
fn a_requested_rollback_stops_the_train_if_configured() {
    for rollback_together in [true, false] {
        let mut fixture = fixture();
        fixture.run("v1");
        mark_users_deployed(&mut fixture);
        fixture.decide(&[deploy_with_train("v2", rollback_together)]);
        fixture.run_until(|_| false);
        fixture.decide(&[new_command(Instruction::Rollback, "r")]);
        fixture.run_until(|_| false);
        assert_eq!(train_stop_sent(&fixture), rollback_together);
        assert!(fixture.journal_has(|fact| matches!(fact, Fact::VerificationRevoked { tag, .. } if tag == "v2")));
    }
}

#[test]
fn a_superseded_member_stops_the_train() {
    let mut fixture = fixture();
    fixture.decide(&[deploy("v1")]);
    fixture.decide(&[deploy_with_train("v2", true)]);
    assert!(!train_stop_sent(&fixture), "it waits for v1 to end");
    fixture.decide(&[deploy("v3")]);
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::Superseded { tag, .. } if tag == "v2")));
    assert!(train_stop_sent(&fixture), "the others would wait for it");
}

#[test]
fn a_member_rejected_by_concurrency_stops_the_train() {
    let mut fixture = fixture();
    fixture.applied.concurrency = Concurrency::Reject;
    fixture.decide(&[deploy("v1")]);
    fixture.decide(&[deploy_with_train("v2", true)]);
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::CommandRefused { .. })));
    assert!(train_stop_sent(&fixture));
}

#[test]
fn a_running_release_joins_the_train_that_requests_it() {
    let mut fixture = fixture();
    mark_users_deployed(&mut fixture);
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().of(Slot::Green) > 0);
    let again = Command { id: rollout::CommandId("train".to_owned()), ..deploy_with_train("v2", true) };
    fixture.decide(&[again]);
    fixture.fire_alarm();
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack));
    assert!(train_stop_sent(&fixture), "the others wait for it");
}

/// v3 is on its way over what the train has brought when the train stops.
fn train_overtaken_by_v3() -> TargetFixture {
    let mut fixture = fixture();
    fixture.run("v1");
    mark_users_deployed(&mut fixture);
    fixture.decide(&[deploy_with_train("v2", true)]);
    fixture.run_until(|_| false);
    fixture.decide(&[deploy("v3")]);
    fixture.run_until(|fixture| fixture.weights().of(Slot::Blue) > 0 && fixture.weights().of(Slot::Green) > 0);
    fixture
}

fn stable(fixture: &TargetFixture) -> Option<String> {
    fixture.state.stable.as_ref().and_then(|stable| stable.release.as_ref()).map(|release| release.tag.clone())
}

/// The command stays in the inbox until it is done with.
fn decide_until_stop_consumed(fixture: &mut TargetFixture) {
    for _ in 0..400 {
        let inbox = rollout::Inbox {
            commands: &[stop_command()],
            policy: Some(&fixture.applied),
            gate_context: Some(&fixture.gate_context),
        };
        let seen = fixture.state.running.is_some().then(|| fixture.seen());
        let decision = rollout::decide(&fixture.state, &inbox, seen.as_ref(), fixture.now);
        let ends = fixture.state.running.is_some() && decision.state.running.is_none();
        let next = fixture.decide(&[stop_command()]);
        if !decision.consumed.is_empty() {
            return;
        }
        assert!(!ends || next == Next::Immediately, "it rests, and the train's stop is still to be answered");
        if let Next::At(at) = next {
            fixture.now = at;
        }
    }
    panic!("the train's stop is never answered: {:?}", fixture.state.explanation);
}

#[test]
fn a_train_stop_waits_for_a_newer_running_release() {
    let mut fixture = train_overtaken_by_v3();
    fixture.decide(&[stop_command()]);
    fixture.fire_alarm();
    decide_until_stop_consumed(&mut fixture);
    fixture.alarm(rollout::snapshot::AlarmReading::Ok);
    fixture.run_until(|_| false);
    assert_eq!(stable(&fixture).as_deref(), Some("v1"), "v3 did not make it, and v2 is of the train");

    let mut fixture = train_overtaken_by_v3();
    decide_until_stop_consumed(&mut fixture);
    fixture.run_until(|_| false);
    assert_eq!(stable(&fixture).as_deref(), Some("v3"), "v3 has taken its place");
}

#[test]
fn a_gated_release_does_not_block_a_train_rollback() {
    let mut fixture = fixture();
    fixture.run("v1");
    mark_users_deployed(&mut fixture);
    fixture.decide(&[deploy_with_train("v2", true)]);
    fixture.run_until(|_| false);
    fixture.applied.entry.rules.windows =
        vec![rollout::entry::Window { days: [5].into(), from_minute: 0, until_minute: 60 }];
    decide_until_waiting(&mut fixture, &[deploy("v3")]);
    assert_eq!(fixture.stage(), "gated");
    decide_until_waiting(&mut fixture, &[stop_command()]);
    assert_eq!(fixture.verdict(), Some(Verdict::Cancelled));
    fixture.run_until(|_| false);
    assert_eq!(stable(&fixture).as_deref(), Some("v1"));
}

/// The target that depends on this one.
fn web_target() -> TargetId {
    TargetId { service: name("web"), ..target() }
}

/// A release of api that is stable here, of a train with web, which depends on it.
fn verified_before_web() -> TargetFixture {
    let mut fixture = TargetFixture::new();
    fixture.run("v1");
    fixture.applied.entry.dependents.insert(name("web"));
    let mut command = deploy("v2");
    if let Instruction::Deploy { release, options, .. } = &mut command.instruction {
        let members = BTreeMap::from([(name("api"), release.digest.clone()), (name("web"), digest(8))]);
        options.train =
            Some(Box::new(Train { id: "t1".to_owned(), members, rollback_together: true, ..Train::default() }));
    }
    fixture.decide(&[command]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
    fixture
}

fn web(fixture: &mut TargetFixture, stable: Option<ImageDigest>, running: Option<ImageDigest>) {
    let web = RelatedTarget { stable, running, ..RelatedTarget::default() };
    fixture.gate_context.related_targets.insert(web_target(), web);
}

#[test]
fn a_train_goes_back_in_reverse_order() {
    let mut fixture = verified_before_web();
    let stop = Command { at: fixture.now, ..stop_command() };
    for (stable, running) in [(Some(digest(8)), None), (Some(digest(1)), Some(digest(8)))] {
        web(&mut fixture, stable, running);
        let next = fixture.decide(std::slice::from_ref(&stop));
        assert_eq!(fixture.state.running, None, "web is not back yet");
        assert!(matches!(next, Next::At(_)), "it looks again: {next:?}");
    }
    web(&mut fixture, Some(digest(1)), None);
    fixture.decide(&[stop]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.state.stable.clone().unwrap().release.unwrap().tag, "v1");
}

#[test]
fn a_dependent_that_never_comes_back_is_not_waited_for_for_ever() {
    let mut fixture = verified_before_web();
    web(&mut fixture, Some(digest(8)), None);
    let stop = Command { at: fixture.now, ..stop_command() };
    fixture.now = rollout::Seconds(901).after(fixture.now);
    fixture.decide(&[stop]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.state.stable.clone().unwrap().release.unwrap().tag, "v1");
}
