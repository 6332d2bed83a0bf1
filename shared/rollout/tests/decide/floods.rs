//! More is asked at once than one write holds: some of it is taken now, the rest right after, and nothing gets stuck.

use super::gates::prod;
use super::scene::{Scene, ask, deploy};
use rollout::{Command, Concurrency, Gate, Instruction, Next, decide};
use std::collections::BTreeSet;

/// The most items of one transaction of DynamoDB's, and the state is one of them.
const MOST_ITEMS: usize = 100;
/// How many commands the ledger hands out at once.
const HANDED_OUT: usize = 50;

/// Takes everything in; in how many decisions.
fn swallow(scene: &mut Scene, mut inbox: Vec<Command>) -> usize {
    for rounds in 0..200 {
        if inbox.is_empty() {
            return rounds;
        }
        let handed_out = &inbox[..inbox.len().min(HANDED_OUT)];
        let seen = scene.state.running.is_some().then(|| scene.seen());
        let inbox_now =
            rollout::Inbox { commands: handed_out, policy: Some(&scene.applied), around: Some(&scene.around) };
        let decision = decide(&scene.state, &inbox_now, seen.as_ref(), scene.now);
        let items = 1 + decision.journal.len() + decision.history.len() + decision.consumed.len();
        assert!(items <= MOST_ITEMS, "{items} items, of {} commands", decision.consumed.len());
        inbox.retain(|command| !decision.consumed.contains(&command.id));
        assert!(inbox.is_empty() || decision.next == Next::Again, "{} are left, and it rests", inbox.len());
        scene.state = decision.state;
    }
    panic!("{} are never taken in", inbox.len());
}

#[test]
fn a_hundred_refusals_at_once_are_written_down_and_a_rollback_behind_them_is_done() {
    let mut scene = Scene::new();
    scene.run("v1");
    scene.run("v2");
    let refused = |number: usize| {
        let what = Instruction::NoteRefusal { what: "approve".to_owned() };
        ask(what, &format!("refused-{number}"))
    };
    let mut inbox: Vec<Command> = (0..100).map(refused).collect();
    inbox.push(ask(Instruction::Rollback, "rollback"));
    assert!(swallow(&mut scene, inbox) <= 24, "within one pass");
    assert_eq!(scene.state.running.as_ref().map(|running| running.release.tag.as_str()), Some("v1"));
}

#[test]
fn many_releases_at_once_fit_whatever_the_environments_rule_is() {
    for rule in [Concurrency::QueueNewest, Concurrency::QueueAll, Concurrency::CancelRunning, Concurrency::Reject] {
        let mut scene = Scene::new();
        scene.applied.concurrency = rule;
        scene.run("v1");
        scene.decide(&[deploy("v2")]);
        swallow(&mut scene, (10..90).map(|number| deploy(&format!("v{number}"))).collect());
    }
}

#[test]
fn a_queue_that_gives_way_at_once_fits() {
    let mut scene = Scene::new();
    scene.applied.concurrency = Concurrency::QueueAll;
    scene.decide(&[deploy("v2")]);
    swallow(&mut scene, (10..30).map(|number| deploy(&format!("v{number}"))).collect());
    scene.applied.concurrency = Concurrency::QueueNewest;
    let aborts =
        (0..49).map(|number| ask(Instruction::Abort { deployment: Some(900 + number) }, &format!("a{number}")));
    swallow(&mut scene, aborts.chain([deploy("v50")]).collect());
}

#[test]
fn gates_opened_again_and_again_fit() {
    let mut scene = prod();
    super::gates::verify(&mut scene, "v2");
    super::gates::settle(&mut scene, &[deploy("v2")]);
    let gates: BTreeSet<Gate> =
        [Gate::After, Gate::Soak, Gate::Window, Gate::Freeze, Gate::StopTheLine].into_iter().collect();
    let opened = |number: usize| {
        ask(Instruction::Override { deployment: 1, gates: gates.clone() }, &format!("override-{number}"))
    };
    swallow(&mut scene, (0..50).map(opened).collect());
}
