//! Environments that deploy one service at a time: who waits for whom, and how long the lock is held.

use super::fixture::{TargetFixture, deploy, new_command, target};
use super::gates::{closed_gates, decide_until_waiting, name};
use rollout::entry::Gate;
use rollout::promotion::RelatedTarget;
use rollout::target::OutboxMessage;
use rollout::{Fact, Instruction, Lane, Purpose, Slot, Stage, TargetId, Verdict};

fn web() -> TargetId {
    TargetId { service: name("web"), ..target() }
}

/// The service `api`, in an environment with `web` that deploys one at a time; `neighbour`: what is known of `web`.
fn fixture(neighbour: RelatedTarget) -> TargetFixture {
    let mut fixture = TargetFixture::new();
    let entry = &mut fixture.applied.entry;
    entry.rules.one_at_a_time = true;
    entry.neighbours.insert(name("web"));
    fixture.gate_context.related_targets.insert(web(), neighbour);
    fixture
}

fn deploying() -> RelatedTarget {
    RelatedTarget { holds_lock: Some(5), ..RelatedTarget::default() }
}

fn waiting() -> RelatedTarget {
    RelatedTarget { waits_for_lock: true, ..RelatedTarget::default() }
}

fn set_neighbour(fixture: &mut TargetFixture, neighbour: RelatedTarget) {
    fixture.gate_context.related_targets.insert(web(), neighbour);
}

fn releases(fixture: &TargetFixture) -> usize {
    fixture.outbox.iter().filter(|message| matches!(message, OutboxMessage::LockReleased)).count()
}

/// Whether other services see that this one waits for the lock and nothing else.
fn is_seen_waiting(fixture: &TargetFixture) -> bool {
    RelatedTarget::from(&fixture.state).waits_for_lock
}

#[test]
fn a_deployment_waits_until_the_other_service_is_verified_and_says_for_which() {
    let mut fixture = fixture(deploying());
    decide_until_waiting(&mut fixture, &[deploy("v2")]);
    assert_eq!(closed_gates(&fixture), [Gate::OneAtATime]);
    let said = |fact: &Fact| matches!(fact, Fact::BlockedByGate { gate: Gate::OneAtATime, reason, .. } if reason.contains("web") && reason.contains("#5"));
    assert!(fixture.journal_has(said), "{:#?}", fixture.journal);
    assert!(is_seen_waiting(&fixture));
    assert_eq!(fixture.state.lock_holder(), None);
    set_neighbour(&mut fixture, RelatedTarget::default());
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn the_lock_is_held_from_the_start_to_the_end_of_the_bake() {
    let mut fixture = fixture(RelatedTarget::default());
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.stage() != "gated");
    assert_eq!(fixture.state.lock_holder(), Some(1), "from preflight on");
    let mut held = 0;
    fixture.run_until(|fixture| {
        let running = fixture.state.running.as_ref();
        let verified = fixture.journal_has(|fact| matches!(fact, Fact::Verified { .. }));
        if running.is_some() {
            assert_eq!(fixture.state.lock_holder().is_some(), !verified, "in {}", fixture.stage());
            held += 1;
        }
        verified
    });
    assert!(held > 3, "{held} looks");
    // The old side is kept warm meanwhile.
    assert_eq!(fixture.state.running.as_ref().map(rollout::Deployment::stage), Some(Stage::KeepingWarm));
    assert_eq!((fixture.state.lock_holder(), releases(&fixture)), (None, 1));
    fixture.run_until(|_| false);
    assert_eq!((fixture.verdict(), releases(&fixture)), (Some(Verdict::Succeeded), 1));
}

#[test]
fn a_deployment_that_rolls_back_holds_the_lock_to_its_end() {
    let mut fixture = fixture(RelatedTarget::default());
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().of(Slot::Green) > 0);
    fixture.fire_alarm();
    fixture.run_until(|fixture| fixture.stage() == "rolling_back");
    assert_eq!((fixture.state.lock_holder(), releases(&fixture)), (Some(1), 0));
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack));
    assert_eq!((fixture.state.lock_holder(), releases(&fixture)), (None, 1));
}

#[test]
fn of_those_that_wait_the_service_that_others_depend_on_goes_first() {
    let mut fixture = fixture(waiting());
    // `web` does not depend on this service, nor this one on it: whoever looks first goes first.
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.stage() != "gated");
    assert_eq!(fixture.state.lock_holder(), Some(1));

    let mut fixture = self::fixture(waiting());
    fixture.applied.entry.depends_on.insert(name("web"));
    decide_until_waiting(&mut fixture, &[deploy("v2")]);
    assert_eq!(closed_gates(&fixture), [Gate::OneAtATime]);
    // It is deployed now, and then it is done.
    set_neighbour(&mut fixture, deploying());
    decide_until_waiting(&mut fixture, &[]);
    assert_eq!(closed_gates(&fixture), [Gate::OneAtATime]);
    set_neighbour(&mut fixture, RelatedTarget::default());
    fixture.run_until(|fixture| fixture.stage() != "gated");
    assert_eq!(fixture.state.lock_holder(), Some(1));
}

#[test]
fn what_waits_for_another_gate_lets_others_go_first() {
    let mut fixture = fixture(deploying());
    fixture.applied.entry.rules.windows =
        vec![rollout::entry::Window { days: [7].into(), from_minute: 0, until_minute: 1 }];
    decide_until_waiting(&mut fixture, &[deploy("v2")]);
    assert_eq!(closed_gates(&fixture), [Gate::Window, Gate::OneAtATime]);
    assert!(!is_seen_waiting(&fixture));
}

#[test]
fn a_neighbour_that_was_not_read_counts_as_being_deployed() {
    let mut fixture = fixture(RelatedTarget::default());
    fixture.gate_context.related_targets.clear();
    decide_until_waiting(&mut fixture, &[deploy("v2")]);
    assert_eq!(closed_gates(&fixture), [Gate::OneAtATime]);
}

#[test]
fn a_person_who_opens_the_gate_and_a_hotfix_that_skips_it_start_beside_the_other() {
    let mut fixture = fixture(deploying());
    decide_until_waiting(&mut fixture, &[deploy("v2")]);
    let gates = [Gate::OneAtATime].into();
    let overridden = new_command(Instruction::Override { deployment: 1, gates }, "override");
    fixture.decide(&[overridden]);
    fixture.run_until(|fixture| fixture.stage() != "gated");
    assert_eq!(fixture.state.lock_holder(), None, "it does not take the other's lock");
    fixture.run_until(|_| false);
    assert_eq!((fixture.verdict(), releases(&fixture)), (Some(Verdict::Succeeded), 0));

    let mut fixture = self::fixture(deploying());
    fixture.applied.entry.rules.hotfix_skips.insert(Gate::OneAtATime);
    let mut hotfix = deploy("v2");
    if let Instruction::Deploy { options, .. } = &mut hotfix.instruction {
        options.lane = Lane::Hotfix;
    }
    fixture.decide(&[hotfix]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn a_rollback_waits_for_nobody() {
    let mut fixture = fixture(RelatedTarget::default());
    fixture.run("v2");
    fixture.run("v3");
    set_neighbour(&mut fixture, deploying());
    fixture.decide(&[new_command(Instruction::Rollback, "back")]);
    fixture.run_until(|fixture| fixture.state.running.is_some());
    assert_eq!(fixture.state.running.as_ref().map(|running| running.purpose), Some(Purpose::Rollback));
    assert_eq!(fixture.state.lock_holder(), None);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
}
