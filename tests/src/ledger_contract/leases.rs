//! One holder at a time, and commits that are all or nothing.

use super::cases;
use super::samples::{
    abort, acquire, assert_conflict, at, claim, commit, entry, expect_granted, holder, lease, record, stealing_claim,
    target,
};
use engine::{
    Commit, LeaseOutcome, LeaseRequest, Ledger, LedgerError, LockChange, Retry, RetryCounts, RetryRegistration,
    WakeKind,
};
use futures::future::join_all;
use rollout::target::{FORMAT, TargetState};
use rollout::{CommandId, Fact, Seconds, TargetId};

pub(super) async fn check<L: Ledger>(ledger: &L) {
    cases!(
        ledger,
        a_new_target_is_granted_with_an_empty_state,
        concurrent_claims_grant_exactly_one_lease,
        a_released_target_can_be_acquired,
        stealing_requires_the_current_lease_id,
        a_refused_claim_learns_the_holders_lease_duration,
        a_holder_whose_lease_was_stolen_cannot_write,
        one_wake_of_each_kind_is_retried_per_holder,
        a_commit_writes_everything,
        a_stale_commit_writes_nothing,
        a_commit_without_the_lease_is_refused,
        the_same_commit_twice_is_a_conflict,
        concurrent_commits_succeed_exactly_once,
        a_journal_entry_is_never_overwritten,
        a_state_in_a_newer_format_is_refused,
        the_lock_of_an_environment_has_one_holder,
        commits_that_take_the_lock_at_once_succeed_exactly_once,
    );
}

async fn a_new_target_is_granted_with_an_empty_state<L: Ledger>(ledger: &L) {
    let target = target("held-new");
    assert_eq!(ledger.state(&target).await.expect("a state"), None);
    let loaded = acquire(ledger, &target, "one").await;
    assert_eq!((loaded.state, loaded.revision), (TargetState::new(target.clone()), 0));
    assert_eq!(ledger.state(&target).await.expect("a state"), None, "nothing was committed yet");
}

async fn concurrent_claims_grant_exactly_one_lease<L: Ledger>(ledger: &L) {
    let target = target("held-race");
    for round in 0..5 {
        let claims: Vec<_> = (0..12).map(|n| claim(&format!("round-{round}-{n}"))).collect();
        let answers = join_all(claims.iter().map(|claim| ledger.acquire_lease(&target, claim))).await;
        let mut winners = vec![];
        let mut others = vec![];
        for (claim, answer) in claims.iter().zip(answers) {
            match answer.expect("an answer") {
                LeaseOutcome::Granted(_) => winners.push(claim.lease.clone()),
                LeaseOutcome::Held { by, .. } => others.push(by),
            }
        }
        assert_eq!(winners.len(), 1, "granted to {winners:?}");
        assert_eq!(others, vec![winners[0].clone(); 11]);
        ledger.release(&target, &winners[0]).await.expect("given back");
    }
}

async fn a_released_target_can_be_acquired<L: Ledger>(ledger: &L) {
    let target = target("held-back");
    acquire(ledger, &target, "one").await;
    ledger.release(&target, &lease("another")).await.expect("no error for another's lease");
    assert_eq!(
        holder(ledger.acquire_lease(&target, &claim("two")).await),
        lease("one"),
        "another's release changes nothing"
    );
    ledger.release(&target, &lease("one")).await.expect("given back");
    acquire(ledger, &target, "two").await;
    ledger.release(&target, &lease("one")).await.expect("no error the second time");
    assert_eq!(holder(ledger.acquire_lease(&target, &claim("three")).await), lease("two"));
}

async fn stealing_requires_the_current_lease_id<L: Ledger>(ledger: &L) {
    let target = target("held-stolen");
    acquire(ledger, &target, "one").await;
    assert_eq!(holder(ledger.acquire_lease(&target, &stealing_claim("two", "an-older-one")).await), lease("one"));
    let stolen = expect_granted(ledger.acquire_lease(&target, &stealing_claim("two", "one")).await).stolen;
    assert!(stolen, "whoever steals knows it");
    assert_eq!(
        holder(ledger.acquire_lease(&target, &stealing_claim("three", "one")).await),
        lease("two"),
        "stolen once"
    );
    ledger.release(&target, &lease("two")).await.expect("given back");
    let stolen = expect_granted(ledger.acquire_lease(&target, &stealing_claim("three", "one")).await).stolen;
    assert!(!stolen, "what was given back is not stolen");
}

async fn a_refused_claim_learns_the_holders_lease_duration<L: Ledger>(ledger: &L) {
    let target = target("held-how-long");
    let holder_and_duration = async || match ledger.acquire_lease(&target, &claim("another")).await {
        Ok(LeaseOutcome::Held { by, lasts, .. }) => (by, lasts),
        other => panic!("the target should have been held: {other:?}"),
    };
    expect_granted(ledger.acquire_lease(&target, &LeaseRequest { lasts: Seconds(19), ..claim("one") }).await);
    assert_eq!(holder_and_duration().await, (lease("one"), Seconds(19)));
    expect_granted(
        ledger.acquire_lease(&target, &LeaseRequest { lasts: Seconds(59), ..stealing_claim("two", "one") }).await,
    );
    assert_eq!(holder_and_duration().await, (lease("two"), Seconds(59)), "of the present holder");
}

async fn a_holder_whose_lease_was_stolen_cannot_write<L: Ledger>(ledger: &L) {
    let target = target("held-robbed");
    let loaded = acquire(ledger, &target, "one").await;
    expect_granted(ledger.acquire_lease(&target, &stealing_claim("two", "one")).await);
    assert_conflict(ledger.commit(&target, &lease("one"), loaded.revision, &commit(&loaded.state)).await);
    ledger.release(&target, &lease("one")).await.expect("no error");
    assert_eq!(holder(ledger.acquire_lease(&target, &claim("three")).await), lease("two"));
    assert_eq!(ledger.state(&target).await.expect("a state"), None);
}

async fn one_wake_of_each_kind_is_retried_per_holder<L: Ledger>(ledger: &L) {
    let target = target("held-retried");
    let retries = async || match ledger.acquire_lease(&target, &claim("another")).await {
        Ok(LeaseOutcome::Held { retries, .. }) => retries,
        other => panic!("the target should have been held: {other:?}"),
    };
    let note = async |holder: &str, kind, retries| {
        let holder = lease(holder);
        ledger.register_retry(&target, &Retry { holder: &holder, kind, retries }).await.expect("an answer")
    };
    assert_eq!(note("one", WakeKind::Normal, 0).await, RetryRegistration::LeaseReleased, "nobody holds it yet");
    acquire(ledger, &target, "one").await;
    assert_eq!(retries().await, RetryCounts::default());
    let answers = join_all((0..8).map(|_| note("one", WakeKind::Normal, 0))).await;
    assert_eq!(answers.iter().filter(|answer| **answer == RetryRegistration::Accepted).count(), 1, "{answers:?}");
    assert_eq!(
        answers.iter().filter(|answer| **answer == RetryRegistration::AlreadyScheduled).count(),
        7,
        "{answers:?}"
    );
    assert_eq!(note("one", WakeKind::Urgent, 0).await, RetryRegistration::Accepted, "it asks for more");
    assert_eq!(retries().await, RetryCounts { normal: Some(0), urgent: Some(0), idle: None });
    assert_eq!(note("one", WakeKind::Normal, 1).await, RetryRegistration::Accepted, "the one that comes again");
    assert_eq!(note("one", WakeKind::Normal, 1).await, RetryRegistration::AlreadyScheduled, "and was delivered twice");
    assert_eq!(retries().await.normal, Some(1));

    // It changes nothing of what the holder writes, and is over with it.
    let state = TargetState::new(target.clone());
    let decision = Commit { release_lease: true, ..commit(&state) };
    assert_eq!(ledger.commit(&target, &lease("one"), 0, &decision).await.expect("committed"), 1);
    assert_eq!(note("one", WakeKind::Normal, 2).await, RetryRegistration::LeaseReleased);
    acquire(ledger, &target, "two").await;
    assert_eq!(retries().await, RetryCounts::default(), "of the present holder");
    assert_eq!(note("two", WakeKind::Normal, 0).await, RetryRegistration::Accepted);
}

async fn a_commit_writes_everything<L: Ledger>(ledger: &L) {
    let target = target("commit-all");
    let command = abort(&target, "1", at(-10));
    assert!(ledger.put_command(&command).await.expect("written"));
    let mut state = acquire(ledger, &target, "one").await.state;
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
        overdue_at: Some(at(50)),
        release_lease: true,
        lock: None,
    };
    assert_eq!(ledger.commit(&target, &lease("one"), 0, &decision).await.expect("committed"), 1);

    assert_eq!(ledger.state(&target).await.expect("a state"), Some(state.clone()));
    assert_eq!(ledger.journal(&target, 0, 10).await.expect("a journal"), journal);
    assert_eq!(ledger.history(&target, 10).await.expect("a history"), [ended]);
    assert_eq!(ledger.commands(&target).await.expect("commands"), []);
    let due = |overdue: Vec<engine::OverdueTarget>| overdue.iter().any(|due| due.target == target);
    assert!(!due(ledger.overdue(at(49), 1000).await.expect("targets")));
    assert!(due(ledger.overdue(at(50), 1000).await.expect("targets")));

    // The lease went back with it.
    let loaded = acquire(ledger, &target, "two").await;
    assert_eq!((loaded.state, loaded.revision), (state.clone(), 1));
    assert_eq!(ledger.commit(&target, &lease("two"), 1, &commit(&state)).await.expect("committed"), 2);
    assert!(!due(ledger.overdue(at(50), 1000).await.expect("targets")), "the second one put it at rest");
    assert_eq!(holder(ledger.acquire_lease(&target, &claim("three")).await), lease("two"), "and kept the lease");
}

async fn a_stale_commit_writes_nothing<L: Ledger>(ledger: &L) {
    let target = target("commit-stale");
    let command = abort(&target, "1", at(0));
    ledger.put_command(&command).await.expect("written");
    let mut state = acquire(ledger, &target, "one").await.state;
    ledger.commit(&target, &lease("one"), 0, &commit(&state)).await.expect("committed");
    let before = state.clone();
    state.last_deployment = 9;
    for stale in [0, 2, 7] {
        let decision = Commit {
            state: &state,
            journal: &[entry(&target, 1, Fact::Resumed)],
            history: &[record(&target, 9)],
            consumed: std::slice::from_ref(&command.id),
            overdue_at: Some(at(0)),
            release_lease: true,
            lock: None,
        };
        assert_conflict(ledger.commit(&target, &lease("one"), stale, &decision).await);
    }
    assert_eq!(ledger.state(&target).await.expect("a state"), Some(before));
    assert_eq!(ledger.journal(&target, 0, 10).await.expect("a journal"), []);
    assert_eq!(ledger.history(&target, 10).await.expect("a history"), []);
    assert_eq!(ledger.commands(&target).await.expect("commands"), [command]);
    assert_eq!(holder(ledger.acquire_lease(&target, &claim("two")).await), lease("one"));
}

async fn a_commit_without_the_lease_is_refused<L: Ledger>(ledger: &L) {
    let target = target("commit-free");
    let state = TargetState::new(target.clone());
    assert_conflict(ledger.commit(&target, &lease("one"), 0, &commit(&state)).await);
    acquire(ledger, &target, "one").await;
    ledger.release(&target, &lease("one")).await.expect("given back");
    assert_conflict(ledger.commit(&target, &lease("one"), 0, &commit(&state)).await);
    assert_eq!(ledger.state(&target).await.expect("a state"), None);
}

async fn the_same_commit_twice_is_a_conflict<L: Ledger>(ledger: &L) {
    let target = target("commit-twice");
    let mut state = acquire(ledger, &target, "one").await.state;
    state.last_entry = 1;
    let journal = [entry(&target, 1, Fact::Resumed)];
    let decision = Commit { journal: &journal, ..commit(&state) };
    ledger.commit(&target, &lease("one"), 0, &decision).await.expect("committed");
    assert_conflict(ledger.commit(&target, &lease("one"), 0, &decision).await);
    assert_eq!(ledger.journal(&target, 0, 10).await.expect("a journal"), journal);
}

async fn concurrent_commits_succeed_exactly_once<L: Ledger>(ledger: &L) {
    let target = target("commit-race");
    acquire(ledger, &target, "one").await;
    let held_lease = lease("one");
    for revision in 0..5 {
        let states: Vec<TargetState> = (0..8)
            .map(|n| TargetState { last_deployment: revision * 100 + n, ..TargetState::new(target.clone()) })
            .collect();
        let journals: Vec<_> =
            (0..8).map(|n| [entry(&target, revision + 1, Fact::HookStarted { hook: format!("hook-{n}") })]).collect();
        let decisions: Vec<_> =
            states.iter().zip(&journals).map(|(state, journal)| Commit { journal, ..commit(state) }).collect();
        let answers =
            join_all(decisions.iter().map(|decision| ledger.commit(&target, &held_lease, revision, decision))).await;
        let winners: Vec<usize> = (0..8).filter(|n| answers[*n].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{answers:?}");
        let losers = answers.into_iter().filter(Result::is_err);
        losers.for_each(assert_conflict);
        assert_eq!(ledger.state(&target).await.expect("a state").as_ref(), Some(&states[winners[0]]));
        assert_eq!(ledger.journal(&target, revision, 10).await.expect("a journal"), journals[winners[0]]);
    }
}

async fn a_journal_entry_is_never_overwritten<L: Ledger>(ledger: &L) {
    let target = target("commit-over");
    let state = acquire(ledger, &target, "one").await.state;
    let first = [entry(&target, 1, Fact::Resumed)];
    let decision = Commit { journal: &first, ..commit(&state) };
    ledger.commit(&target, &lease("one"), 0, &decision).await.expect("committed");
    let over = [entry(&target, 2, Fact::Resumed), entry(&target, 1, Fact::HookStarted { hook: "smoke".into() })];
    let decision = Commit { journal: &over, consumed: &[CommandId("none".into())], ..commit(&state) };
    assert_conflict(ledger.commit(&target, &lease("one"), 1, &decision).await);
    assert_eq!(ledger.journal(&target, 0, 10).await.expect("a journal"), first);
    ledger.commit(&target, &lease("one"), 1, &commit(&state)).await.expect("the revision has not moved");
}

async fn a_state_in_a_newer_format_is_refused<L: Ledger>(ledger: &L) {
    let target = target("format-newer");
    let mut state = acquire(ledger, &target, "one").await.state;
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
    refused(&ledger.acquire_lease(&target, &claim("two")).await.expect_err("no lease"));
    refused(&ledger.acquire_lease(&target, &claim("three")).await.expect_err("no lease"));
    refused(&ledger.state(&target).await.expect_err("no state"));
}

/// Two services of one environment, and one of another environment, of an application of this name.
fn neighbours(application: &str) -> [TargetId; 3] {
    ["api/prod", "web/prod", "web/staging"]
        .map(|path| TargetId::parse(&format!("{application}/{path}")).expect("a target"))
}

async fn the_lock_of_an_environment_has_one_holder<L: Ledger>(ledger: &L) {
    let [api, web, elsewhere] = neighbours("locked");
    let mut states = Vec::new();
    for target in [&api, &web, &elsewhere] {
        states.push(acquire(ledger, target, "one").await.state);
    }
    let take = Some(LockChange::Take { deployment: 1 });
    let with = |state, lock| Commit { lock, ..commit(state) };
    ledger.commit(&api, &lease("one"), 0, &with(&states[0], take)).await.expect("it is free");
    let journal = [entry(&web, 1, Fact::Resumed)];
    let refused = Commit { journal: &journal, ..with(&states[1], take) };
    let answer = ledger.commit(&web, &lease("one"), 0, &refused).await;
    assert!(matches!(&answer, Err(LedgerError::Locked { environment }) if environment == "locked/prod"), "{answer:?}");
    assert_eq!(ledger.journal(&web, 0, 10).await.expect("a journal"), [], "nothing is written");
    ledger
        .commit(&elsewhere, &lease("one"), 0, &with(&states[2], take))
        .await
        .expect("another environment has its own");
    // Nor can it release what it does not hold.
    let release = Some(LockChange::Release);
    assert_conflict(ledger.commit(&web, &lease("one"), 0, &with(&states[1], release)).await);
    // The holder may take it again, for its next deployment; who does not ask for it is not held up.
    let again = Some(LockChange::Take { deployment: 2 });
    ledger.commit(&api, &lease("one"), 1, &with(&states[0], again)).await.expect("it has it");
    ledger.commit(&web, &lease("one"), 0, &commit(&states[1])).await.expect("without the lock");
    ledger.commit(&api, &lease("one"), 2, &with(&states[0], release)).await.expect("released");
    ledger.commit(&web, &lease("one"), 1, &with(&states[1], take)).await.expect("it is free again");
}

async fn commits_that_take_the_lock_at_once_succeed_exactly_once<L: Ledger>(ledger: &L) {
    let [api, web, _] = neighbours("locked-at-once");
    let states = [acquire(ledger, &api, "one").await.state, acquire(ledger, &web, "one").await.state];
    let take = |state| Commit { lock: Some(LockChange::Take { deployment: 1 }), ..commit(state) };
    let [first, second] = [take(&states[0]), take(&states[1])];
    let one = lease("one");
    let (of_api, of_web) = futures::join!(ledger.commit(&api, &one, 0, &first), ledger.commit(&web, &one, 0, &second));
    let won = [of_api.is_ok(), of_web.is_ok()].into_iter().filter(|won| *won).count();
    assert_eq!(won, 1, "{of_api:?} {of_web:?}");
}
