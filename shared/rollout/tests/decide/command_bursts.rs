//! More is asked at once than one write holds: some of it is taken now, the rest right after, and nothing gets stuck.

use super::fixture::{TargetFixture, deploy, new_command};
use super::gates::prod_with_gates;
use rollout::{Command, Concurrency, Gate, Instruction, Next, decide};
use std::collections::BTreeSet;

/// The most items of one transaction of DynamoDB's, and the state is one of them.
const MAX_ITEMS: usize = 100;
/// How many commands the ledger hands out at once.
const INBOX_LIMIT: usize = 50;

/// Takes everything in; in how many decisions.
fn process_all(fixture: &mut TargetFixture, mut inbox: Vec<Command>) -> usize {
    for rounds in 0..200 {
        if inbox.is_empty() {
            return rounds;
        }
        let batch = &inbox[..inbox.len().min(INBOX_LIMIT)];
        let seen = fixture.state.running.is_some().then(|| fixture.seen());
        let batch_inbox = rollout::Inbox {
            commands: batch,
            policy: Some(&fixture.applied),
            gate_context: Some(&fixture.gate_context),
        };
        let decision = decide(&fixture.state, &batch_inbox, seen.as_ref(), fixture.now);
        let items = 1 + decision.journal.len() + decision.history.len() + decision.consumed.len();
        assert!(items <= MAX_ITEMS, "{items} items, of {} commands", decision.consumed.len());
        inbox.retain(|command| !decision.consumed.contains(&command.id));
        assert!(inbox.is_empty() || decision.next == Next::Immediately, "{} are left, and it rests", inbox.len());
        fixture.state = decision.state;
    }
    panic!("{} are never taken in", inbox.len());
}

#[test]
fn a_rollback_behind_a_hundred_refusals_is_processed() {
    let mut fixture = TargetFixture::new();
    fixture.run("v1");
    fixture.run("v2");
    let refused = |number: usize| {
        let what = Instruction::NoteRefusal { what: "approve".to_owned() };
        new_command(what, &format!("refused-{number}"))
    };
    let mut inbox: Vec<Command> = (0..100).map(refused).collect();
    inbox.push(new_command(Instruction::Rollback, "rollback"));
    assert!(process_all(&mut fixture, inbox) <= 24, "within one pass");
    assert_eq!(fixture.state.running.as_ref().map(|running| running.release.tag.as_str()), Some("v1"));
}

#[test]
fn many_releases_fit_one_transaction_under_every_concurrency_rule() {
    for rule in [Concurrency::QueueNewest, Concurrency::QueueAll, Concurrency::CancelRunning, Concurrency::Reject] {
        let mut fixture = TargetFixture::new();
        fixture.applied.concurrency = rule;
        fixture.run("v1");
        fixture.decide(&[deploy("v2")]);
        process_all(&mut fixture, (10..90).map(|number| deploy(&format!("v{number}"))).collect());
    }
}

#[test]
fn superseding_a_whole_queue_fits_one_transaction() {
    let mut fixture = TargetFixture::new();
    fixture.applied.concurrency = Concurrency::QueueAll;
    fixture.decide(&[deploy("v2")]);
    process_all(&mut fixture, (10..30).map(|number| deploy(&format!("v{number}"))).collect());
    fixture.applied.concurrency = Concurrency::QueueNewest;
    let aborts =
        (0..49).map(|number| new_command(Instruction::Abort { deployment: Some(900 + number) }, &format!("a{number}")));
    process_all(&mut fixture, aborts.chain([deploy("v50")]).collect());
}

#[test]
fn repeated_gate_overrides_fit_one_transaction() {
    let mut fixture = prod_with_gates();
    super::gates::verify_in_staging(&mut fixture, "v2");
    super::gates::decide_until_waiting(&mut fixture, &[deploy("v2")]);
    let gates: BTreeSet<Gate> =
        [Gate::After, Gate::Soak, Gate::Window, Gate::Freeze, Gate::StopTheLine].into_iter().collect();
    let opened = |number: usize| {
        new_command(Instruction::Override { deployment: 1, gates: gates.clone() }, &format!("override-{number}"))
    };
    process_all(&mut fixture, (0..50).map(opened).collect());
}
