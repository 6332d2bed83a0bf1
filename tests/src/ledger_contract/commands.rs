//! Commands: each once, oldest first, and never back once they are done with. What is overdue.

use super::cases;
use super::samples::{abort, acquire, at, commit, lease, target};
use engine::{Commit, Ledger};
use rollout::target::TargetState;
use rollout::{Command, CommandId, Seconds, TargetId, Timestamp};

pub(super) async fn check<L: Ledger>(ledger: &L) {
    cases!(
        ledger,
        commands_are_listed_oldest_first,
        the_same_command_twice_is_stored_once,
        a_consumed_command_is_not_accepted_again,
        only_consumed_commands_are_removed,
        at_most_fifty_commands_are_listed,
        a_pending_command_makes_its_target_overdue,
        overdue_targets_are_listed_oldest_first,
    );
}

fn ids(commands: &[Command]) -> Vec<&str> {
    commands.iter().map(|command| command.id.0.as_str()).collect()
}

async fn consume<L: Ledger>(ledger: &L, target: &TargetId, consumed: &[CommandId]) {
    let loaded = acquire(ledger, target, "consumer").await;
    let decision = Commit { consumed, release_lease: true, ..commit(&loaded.state) };
    ledger.commit(target, &lease("consumer"), loaded.revision, &decision).await.expect("committed");
}

async fn commands_are_listed_oldest_first<L: Ledger>(ledger: &L) {
    let target = target("inbox-order");
    assert_eq!(ledger.commands(&target).await.expect("commands"), []);
    for (request, second) in [("b", 20), ("c", 30), ("a", 10)] {
        assert!(ledger.put_command(&abort(&target, request, at(second))).await.expect("written"));
    }
    let commands = ledger.commands(&target).await.expect("commands");
    assert_eq!(ids(&commands), ["asked:a", "asked:b", "asked:c"]);
    assert_eq!(commands[0], abort(&target, "a", at(10)));
}

async fn the_same_command_twice_is_stored_once<L: Ledger>(ledger: &L) {
    let target = target("inbox-twice");
    let first = abort(&target, "1", at(0));
    assert!(ledger.put_command(&first).await.expect("written"));
    assert!(!ledger.put_command(&first).await.expect("an answer"));
    let later = abort(&target, "1", at(60));
    assert!(!ledger.put_command(&later).await.expect("an answer"), "the time is no part of a command's identity");
    assert_eq!(ledger.commands(&target).await.expect("commands"), std::slice::from_ref(&first));

    let elsewhere = super::samples::target("inbox-twice-elsewhere");
    assert!(ledger.put_command(&abort(&elsewhere, "1", at(0))).await.expect("written"), "each target has its own");
    assert_eq!(ledger.commands(&target).await.expect("commands"), [first]);
}

async fn a_consumed_command_is_not_accepted_again<L: Ledger>(ledger: &L) {
    let target = target("inbox-done");
    let command = abort(&target, "1", at(0));
    ledger.put_command(&command).await.expect("written");
    consume(ledger, &target, std::slice::from_ref(&command.id)).await;
    assert_eq!(ledger.commands(&target).await.expect("commands"), []);
    assert!(!ledger.put_command(&command).await.expect("an answer"));
    let month = Seconds(30 * 24 * 3600 - 1).after(command.at);
    assert!(!ledger.put_command(&abort(&target, "1", month)).await.expect("an answer"), "remembered for 30 days");
    assert_eq!(ledger.commands(&target).await.expect("commands"), []);
    // Doing it again is no error.
    consume(ledger, &target, &[command.id]).await;
}

async fn only_consumed_commands_are_removed<L: Ledger>(ledger: &L) {
    let target = target("inbox-part");
    for (request, second) in [("a", 1), ("b", 2), ("c", 3)] {
        ledger.put_command(&abort(&target, request, at(second))).await.expect("written");
    }
    let twice = CommandId("asked:b".into());
    consume(ledger, &target, &[twice.clone(), twice]).await;
    assert_eq!(ids(&ledger.commands(&target).await.expect("commands")), ["asked:a", "asked:c"]);
}

async fn at_most_fifty_commands_are_listed<L: Ledger>(ledger: &L) {
    let target = target("inbox-many");
    for n in 0..53 {
        ledger.put_command(&abort(&target, &format!("{n:02}"), at(n))).await.expect("written");
    }
    let commands = ledger.commands(&target).await.expect("commands");
    let expected: Vec<String> = (0..50).map(|n| format!("asked:{n:02}")).collect();
    assert_eq!(ids(&commands), expected);
    let all: Vec<CommandId> = commands.into_iter().map(|command| command.id).collect();
    consume(ledger, &target, &all).await;
    assert_eq!(ids(&ledger.commands(&target).await.expect("commands")), ["asked:50", "asked:51", "asked:52"]);
    // One that lies beyond what a pass is given.
    consume(ledger, &target, &[CommandId("asked:52".into())]).await;
    assert_eq!(ids(&ledger.commands(&target).await.expect("commands")), ["asked:50", "asked:51"]);
}

async fn a_pending_command_makes_its_target_overdue<L: Ledger>(ledger: &L) {
    let target = target("due-command");
    let command = abort(&target, "1", at(100));
    ledger.put_command(&command).await.expect("written");
    assert!(!overdue(ledger, at(99)).await.contains(&target));
    assert!(overdue(ledger, at(100)).await.contains(&target));
    consume(ledger, &target, &[command.id]).await;
    assert!(!overdue(ledger, at(10_000)).await.contains(&target));
}

async fn overdue_targets_are_listed_oldest_first<L: Ledger>(ledger: &L) {
    // Long before anything else in this ledger.
    let moment = |second: i64| Timestamp::from_second(1_000_000 + second).expect("a time");
    let targets: Vec<TargetId> = (0..20).map(|n| target(&format!("due-order-{n}"))).collect();
    for (n, target) in targets.iter().enumerate() {
        let n = i64::try_from(n).expect("small");
        acquire(ledger, target, "one").await;
        let state = TargetState::new(target.clone());
        let decision = Commit { overdue_at: Some(moment(40 - n)), ..commit(&state) };
        ledger.commit(target, &lease("one"), 0, &decision).await.expect("committed");
    }
    // One of them is due in more than one way, and counts once, by the earliest.
    for n in 0..15 {
        ledger.put_command(&abort(&targets[3], &format!("{n}"), moment(n))).await.expect("written");
    }
    let mut expected: Vec<TargetId> = targets.iter().rev().cloned().collect();
    expected.retain(|target| *target != targets[3]);
    expected.insert(0, targets[3].clone());
    assert_eq!(names(ledger, moment(40), 1000).await, expected);
    assert_eq!(names(ledger, moment(40), 5).await, expected[..5]);
    assert_eq!(names(ledger, moment(30), 1000).await, expected[..11]);
    let since: Vec<Timestamp> =
        ledger.overdue(moment(40), 3).await.expect("targets").into_iter().map(|due| due.since).collect();
    assert_eq!(since, [moment(0), moment(21), moment(22)], "since when is reported, too");
    assert_eq!(ledger.overdue(moment(-1), 1000).await.expect("targets"), []);
    assert_eq!(ledger.overdue(moment(40), 0).await.expect("targets"), []);
    // Leave nothing due behind for other cases.
    for (n, target) in targets.iter().enumerate() {
        let state = TargetState::new(target.clone());
        let consumed: Vec<CommandId> =
            if n == 3 { (0..15).map(|n| CommandId(format!("asked:{n}"))).collect() } else { vec![] };
        let decision = Commit { consumed: &consumed, ..commit(&state) };
        ledger.commit(target, &lease("one"), 1, &decision).await.expect("committed");
    }
    assert_eq!(ledger.overdue(moment(40), 1000).await.expect("targets"), []);
}

async fn overdue<L: Ledger>(ledger: &L, now: Timestamp) -> Vec<TargetId> {
    names(ledger, now, 1000).await
}

async fn names<L: Ledger>(ledger: &L, now: Timestamp, limit: usize) -> Vec<TargetId> {
    ledger.overdue(now, limit).await.expect("targets").into_iter().map(|due| due.target).collect()
}
