//! One holder at a time, and commits that are all or nothing.

use super::cases;
use super::samples::{
    abort, at, claim, commit, conflicts, entry, granted, holder, lease, record, stealing, take, target,
};
use engine::{Begin, Claim, Commit, Ledger, LedgerError, Retries, Retry, RetryNoted, WakeKind};
use futures::future::join_all;
use rollout::target::{FORMAT, TargetState};
use rollout::{CommandId, Fact, Seconds};

pub(super) async fn check<L: Ledger>(ledger: &L) {
    cases!(
        ledger,
        a_new_target_is_granted_with_an_empty_state,
        of_many_claims_at_once_one_is_granted,
        a_target_that_is_given_back_can_be_taken,
        only_who_names_the_holding_can_steal_it,
        whoever_meets_a_holder_learns_how_long_it_may_hold_on,
        a_holder_that_was_robbed_changes_nothing,
        of_many_wakes_that_find_one_holder_one_of_each_kind_comes_again,
        a_commit_writes_all_of_it,
        a_stale_commit_writes_nothing_of_it,
        a_commit_without_the_lease_is_refused,
        the_same_commit_twice_is_a_conflict,
        of_many_commits_at_once_one_wins,
        a_journal_entry_is_never_written_over,
        a_state_of_a_newer_format_is_refused,
    );
}

async fn a_new_target_is_granted_with_an_empty_state<L: Ledger>(ledger: &L) {
    let target = target("held-new");
    assert_eq!(ledger.state(&target).await.expect("a state"), None);
    let loaded = take(ledger, &target, "one").await;
    assert_eq!((loaded.state, loaded.revision), (TargetState::new(target.clone()), 0));
    assert_eq!(ledger.state(&target).await.expect("a state"), None, "nothing was committed yet");
}

async fn of_many_claims_at_once_one_is_granted<L: Ledger>(ledger: &L) {
    let target = target("held-race");
    for round in 0..5 {
        let claims: Vec<_> = (0..12).map(|n| claim(&format!("round-{round}-{n}"))).collect();
        let answers = join_all(claims.iter().map(|claim| ledger.begin(&target, claim))).await;
        let mut winners = vec![];
        let mut others = vec![];
        for (claim, answer) in claims.iter().zip(answers) {
            match answer.expect("an answer") {
                Begin::Granted(_) => winners.push(claim.lease.clone()),
                Begin::Held { by, .. } => others.push(by),
            }
        }
        assert_eq!(winners.len(), 1, "granted to {winners:?}");
        assert_eq!(others, vec![winners[0].clone(); 11]);
        ledger.release(&target, &winners[0]).await.expect("given back");
    }
}

async fn a_target_that_is_given_back_can_be_taken<L: Ledger>(ledger: &L) {
    let target = target("held-back");
    take(ledger, &target, "one").await;
    ledger.release(&target, &lease("another")).await.expect("no error for another's lease");
    assert_eq!(holder(ledger.begin(&target, &claim("two")).await), lease("one"), "another's release changes nothing");
    ledger.release(&target, &lease("one")).await.expect("given back");
    take(ledger, &target, "two").await;
    ledger.release(&target, &lease("one")).await.expect("no error the second time");
    assert_eq!(holder(ledger.begin(&target, &claim("three")).await), lease("two"));
}

async fn only_who_names_the_holding_can_steal_it<L: Ledger>(ledger: &L) {
    let target = target("held-stolen");
    take(ledger, &target, "one").await;
    assert_eq!(holder(ledger.begin(&target, &stealing("two", "an-older-one")).await), lease("one"));
    let stolen = granted(ledger.begin(&target, &stealing("two", "one")).await).stolen;
    assert!(stolen, "whoever steals knows it");
    assert_eq!(holder(ledger.begin(&target, &stealing("three", "one")).await), lease("two"), "stolen once");
    ledger.release(&target, &lease("two")).await.expect("given back");
    let stolen = granted(ledger.begin(&target, &stealing("three", "one")).await).stolen;
    assert!(!stolen, "what was given back is not stolen");
}

async fn whoever_meets_a_holder_learns_how_long_it_may_hold_on<L: Ledger>(ledger: &L) {
    let target = target("held-how-long");
    let told = async || match ledger.begin(&target, &claim("another")).await {
        Ok(Begin::Held { by, lasts, .. }) => (by, lasts),
        other => panic!("the target should have been held: {other:?}"),
    };
    granted(ledger.begin(&target, &Claim { lasts: Seconds(19), ..claim("one") }).await);
    assert_eq!(told().await, (lease("one"), Seconds(19)));
    granted(ledger.begin(&target, &Claim { lasts: Seconds(59), ..stealing("two", "one") }).await);
    assert_eq!(told().await, (lease("two"), Seconds(59)), "of the present holder");
}

async fn a_holder_that_was_robbed_changes_nothing<L: Ledger>(ledger: &L) {
    let target = target("held-robbed");
    let loaded = take(ledger, &target, "one").await;
    granted(ledger.begin(&target, &stealing("two", "one")).await);
    conflicts(ledger.commit(&target, &lease("one"), loaded.revision, &commit(&loaded.state)).await);
    ledger.release(&target, &lease("one")).await.expect("no error");
    assert_eq!(holder(ledger.begin(&target, &claim("three")).await), lease("two"));
    assert_eq!(ledger.state(&target).await.expect("a state"), None);
}

async fn of_many_wakes_that_find_one_holder_one_of_each_kind_comes_again<L: Ledger>(ledger: &L) {
    let target = target("held-retried");
    let retries = async || match ledger.begin(&target, &claim("another")).await {
        Ok(Begin::Held { retries, .. }) => retries,
        other => panic!("the target should have been held: {other:?}"),
    };
    let note = async |holder: &str, kind, tries| {
        let holder = lease(holder);
        ledger.note_retry(&target, &Retry { holder: &holder, kind, tries }).await.expect("an answer")
    };
    assert_eq!(note("one", WakeKind::Usual, 0).await, RetryNoted::Free, "nobody holds it yet");
    take(ledger, &target, "one").await;
    assert_eq!(retries().await, Retries::default());
    let answers = join_all((0..8).map(|_| note("one", WakeKind::Usual, 0))).await;
    assert_eq!(answers.iter().filter(|answer| **answer == RetryNoted::Yes).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| **answer == RetryNoted::Another).count(), 7, "{answers:?}");
    assert_eq!(note("one", WakeKind::Urgent, 0).await, RetryNoted::Yes, "it asks for more");
    assert_eq!(retries().await, Retries { usual: Some(0), urgent: Some(0), at_rest: None });
    assert_eq!(note("one", WakeKind::Usual, 1).await, RetryNoted::Yes, "the one that comes again");
    assert_eq!(note("one", WakeKind::Usual, 1).await, RetryNoted::Another, "and was delivered twice");
    assert_eq!(retries().await.usual, Some(1));

    // It changes nothing of what the holder writes, and is over with it.
    let state = TargetState::new(target.clone());
    let decision = Commit { release_lease: true, ..commit(&state) };
    assert_eq!(ledger.commit(&target, &lease("one"), 0, &decision).await.expect("committed"), 1);
    assert_eq!(note("one", WakeKind::Usual, 2).await, RetryNoted::Free);
    take(ledger, &target, "two").await;
    assert_eq!(retries().await, Retries::default(), "of the present holder");
    assert_eq!(note("two", WakeKind::Usual, 0).await, RetryNoted::Yes);
}

async fn a_commit_writes_all_of_it<L: Ledger>(ledger: &L) {
    let target = target("commit-all");
    let command = abort(&target, "1", at(-10));
    assert!(ledger.put_command(&command).await.expect("written"));
    let mut state = take(ledger, &target, "one").await.state;
    state.last_deployment = 1;
    state.last_entry = 2;
    let journal = [entry(&target, 1, Fact::Resumed), entry(&target, 2, Fact::HookStarted { hook: "smoke".into() })];
    let mut ended = record(&target, 1);
    ended.ended_at = Some(at(9));
    let decision = Commit {
        state: &state,
        journal: &journal,
        // It began and ended in one decision: what counts is the last.
        history: &[record(&target, 1), ended.clone()],
        consumed: std::slice::from_ref(&command.id),
        due_at: Some(at(50)),
        release_lease: true,
    };
    assert_eq!(ledger.commit(&target, &lease("one"), 0, &decision).await.expect("committed"), 1);

    assert_eq!(ledger.state(&target).await.expect("a state"), Some(state.clone()));
    assert_eq!(ledger.journal(&target, 0, 10).await.expect("a journal"), journal);
    assert_eq!(ledger.history(&target, 10).await.expect("a history"), [ended]);
    assert_eq!(ledger.commands(&target).await.expect("commands"), []);
    let due = |overdue: Vec<engine::Overdue>| overdue.iter().any(|due| due.target == target);
    assert!(!due(ledger.overdue(at(49), 1000).await.expect("targets")));
    assert!(due(ledger.overdue(at(50), 1000).await.expect("targets")));

    // The lease went back with it.
    let loaded = take(ledger, &target, "two").await;
    assert_eq!((loaded.state, loaded.revision), (state.clone(), 1));
    assert_eq!(ledger.commit(&target, &lease("two"), 1, &commit(&state)).await.expect("committed"), 2);
    assert!(!due(ledger.overdue(at(50), 1000).await.expect("targets")), "the second one put it at rest");
    assert_eq!(holder(ledger.begin(&target, &claim("three")).await), lease("two"), "and kept the lease");
}

async fn a_stale_commit_writes_nothing_of_it<L: Ledger>(ledger: &L) {
    let target = target("commit-stale");
    let command = abort(&target, "1", at(0));
    ledger.put_command(&command).await.expect("written");
    let mut state = take(ledger, &target, "one").await.state;
    ledger.commit(&target, &lease("one"), 0, &commit(&state)).await.expect("committed");
    let before = state.clone();
    state.last_deployment = 9;
    for stale in [0, 2, 7] {
        let decision = Commit {
            state: &state,
            journal: &[entry(&target, 1, Fact::Resumed)],
            history: &[record(&target, 9)],
            consumed: std::slice::from_ref(&command.id),
            due_at: Some(at(0)),
            release_lease: true,
        };
        conflicts(ledger.commit(&target, &lease("one"), stale, &decision).await);
    }
    assert_eq!(ledger.state(&target).await.expect("a state"), Some(before));
    assert_eq!(ledger.journal(&target, 0, 10).await.expect("a journal"), []);
    assert_eq!(ledger.history(&target, 10).await.expect("a history"), []);
    assert_eq!(ledger.commands(&target).await.expect("commands"), [command]);
    assert_eq!(holder(ledger.begin(&target, &claim("two")).await), lease("one"));
}

async fn a_commit_without_the_lease_is_refused<L: Ledger>(ledger: &L) {
    let target = target("commit-free");
    let state = TargetState::new(target.clone());
    conflicts(ledger.commit(&target, &lease("one"), 0, &commit(&state)).await);
    take(ledger, &target, "one").await;
    ledger.release(&target, &lease("one")).await.expect("given back");
    conflicts(ledger.commit(&target, &lease("one"), 0, &commit(&state)).await);
    assert_eq!(ledger.state(&target).await.expect("a state"), None);
}

async fn the_same_commit_twice_is_a_conflict<L: Ledger>(ledger: &L) {
    let target = target("commit-twice");
    let mut state = take(ledger, &target, "one").await.state;
    state.last_entry = 1;
    let journal = [entry(&target, 1, Fact::Resumed)];
    let decision = Commit { journal: &journal, ..commit(&state) };
    ledger.commit(&target, &lease("one"), 0, &decision).await.expect("committed");
    conflicts(ledger.commit(&target, &lease("one"), 0, &decision).await);
    assert_eq!(ledger.journal(&target, 0, 10).await.expect("a journal"), journal);
}

async fn of_many_commits_at_once_one_wins<L: Ledger>(ledger: &L) {
    let target = target("commit-race");
    take(ledger, &target, "one").await;
    let holding = lease("one");
    for revision in 0..5 {
        let states: Vec<TargetState> = (0..8)
            .map(|n| TargetState { last_deployment: revision * 100 + n, ..TargetState::new(target.clone()) })
            .collect();
        let journals: Vec<_> =
            (0..8).map(|n| [entry(&target, revision + 1, Fact::HookStarted { hook: format!("hook-{n}") })]).collect();
        let decisions: Vec<_> =
            states.iter().zip(&journals).map(|(state, journal)| Commit { journal, ..commit(state) }).collect();
        let answers =
            join_all(decisions.iter().map(|decision| ledger.commit(&target, &holding, revision, decision))).await;
        let winners: Vec<usize> = (0..8).filter(|n| answers[*n].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{answers:?}");
        let losers = answers.into_iter().filter(Result::is_err);
        losers.for_each(conflicts);
        assert_eq!(ledger.state(&target).await.expect("a state").as_ref(), Some(&states[winners[0]]));
        assert_eq!(ledger.journal(&target, revision, 10).await.expect("a journal"), journals[winners[0]]);
    }
}

async fn a_journal_entry_is_never_written_over<L: Ledger>(ledger: &L) {
    let target = target("commit-over");
    let state = take(ledger, &target, "one").await.state;
    let first = [entry(&target, 1, Fact::Resumed)];
    let decision = Commit { journal: &first, ..commit(&state) };
    ledger.commit(&target, &lease("one"), 0, &decision).await.expect("committed");
    let over = [entry(&target, 2, Fact::Resumed), entry(&target, 1, Fact::HookStarted { hook: "smoke".into() })];
    let decision = Commit { journal: &over, consumed: &[CommandId("none".into())], ..commit(&state) };
    conflicts(ledger.commit(&target, &lease("one"), 1, &decision).await);
    assert_eq!(ledger.journal(&target, 0, 10).await.expect("a journal"), first);
    ledger.commit(&target, &lease("one"), 1, &commit(&state)).await.expect("the revision has not moved");
}

async fn a_state_of_a_newer_format_is_refused<L: Ledger>(ledger: &L) {
    let target = target("format-newer");
    let mut state = take(ledger, &target, "one").await.state;
    state.format = FORMAT + 1;
    let decision = Commit { release_lease: true, ..commit(&state) };
    ledger.commit(&target, &lease("one"), 0, &decision).await.expect("what a newer version would write");
    let refused = |error: &LedgerError| match error {
        LedgerError::Unreadable { what, reason } => {
            assert!(what.contains("format-newer/api/production"), "{what}");
            assert!(reason.contains("format") && reason.contains(&(FORMAT + 1).to_string()), "{reason}");
        }
        other => panic!("this should have been unreadable: {other:?}"),
    };
    refused(&ledger.begin(&target, &claim("two")).await.expect_err("no lease"));
    refused(&ledger.begin(&target, &claim("three")).await.expect_err("no lease"));
    refused(&ledger.state(&target).await.expect_err("no state"));
}
