//! Journals, histories and releases, in pages and in order.

use super::cases;
use super::samples::{at, commit, entry, lease, name, record, release, release_id, take, target};
use engine::{Commit, Ledger};
use rollout::{Fact, JournalEntry};

pub(super) async fn check<L: Ledger>(ledger: &L) {
    cases!(ledger, a_journal_is_read_from_either_end, a_history_comes_newest_first, a_release_is_written_once);
}

async fn a_journal_is_read_from_either_end<L: Ledger>(ledger: &L) {
    let target = target("journal-pages");
    assert_eq!(ledger.journal(&target, 0, 10).await.expect("a journal"), []);
    assert_eq!(ledger.journal_tail(&target, 10).await.expect("a journal"), []);
    let state = take(ledger, &target, "one").await.state;
    let all: Vec<JournalEntry> =
        (1..=25).map(|n| entry(&target, n, Fact::HookStarted { hook: format!("hook-{n}") })).collect();
    for (revision, some) in all.chunks(10).enumerate() {
        let decision = Commit { journal: some, ..commit(&state) };
        let revision = u64::try_from(revision).expect("small");
        ledger.commit(&target, &lease("one"), revision, &decision).await.expect("committed");
    }
    assert_eq!(ledger.journal(&target, 0, 100).await.expect("a journal"), all);
    assert_eq!(ledger.journal(&target, 0, 10).await.expect("a journal"), all[..10]);
    assert_eq!(ledger.journal(&target, 9, 3).await.expect("a journal"), all[9..12]);
    assert_eq!(ledger.journal(&target, 25, 3).await.expect("a journal"), []);
    assert_eq!(ledger.journal(&target, u64::MAX, 3).await.expect("a journal"), []);
    assert_eq!(ledger.journal(&target, 0, 0).await.expect("a journal"), []);
    assert_eq!(ledger.journal_tail(&target, 4).await.expect("a journal"), all[21..]);
    assert_eq!(ledger.journal_tail(&target, 100).await.expect("a journal"), all);
}

async fn a_history_comes_newest_first<L: Ledger>(ledger: &L) {
    let target = target("history-pages");
    let state = take(ledger, &target, "one").await.state;
    let mut all: Vec<_> = (1..=12).map(|number| record(&target, number)).collect();
    let decision = Commit { history: &all, ..commit(&state) };
    ledger.commit(&target, &lease("one"), 0, &decision).await.expect("committed");
    // The end of a deployment is written over its beginning.
    all[11].ended_at = Some(at(77));
    let decision = Commit { history: &all[11..], ..commit(&state) };
    ledger.commit(&target, &lease("one"), 1, &decision).await.expect("committed");
    all.reverse();
    assert_eq!(ledger.history(&target, 100).await.expect("a history"), all);
    assert_eq!(ledger.history(&target, 3).await.expect("a history"), all[..3]);
}

async fn a_release_is_written_once<L: Ledger>(ledger: &L) {
    let (application, service) = (name("release-once"), name("api"));
    let releases = async |limit| ledger.releases(&application, &service, limit).await.expect("releases");
    let by_id = async |digit| ledger.release_by_id(&release_id("release-once", digit)).await.expect("an answer");
    assert_eq!(releases(10).await, []);
    assert_eq!(by_id('a').await, None);

    let [a, b, c] = [('a', 20), ('b', 30), ('c', 10)].map(|(digit, second)| release("release-once", digit, at(second)));
    for release in [&a, &b, &c] {
        assert!(ledger.put_release(release).await.expect("written"));
    }
    let again = release("release-once", 'a', at(99));
    assert!(!ledger.put_release(&again).await.expect("an answer"), "the same content is the same release");
    assert_eq!(by_id('a').await, Some(a.clone()));
    assert_eq!(releases(10).await, [b.clone(), a.clone(), c]);
    assert_eq!(releases(2).await, [b, a]);
    assert_eq!(ledger.releases(&application, &name("worker"), 10).await.expect("releases"), []);
}
