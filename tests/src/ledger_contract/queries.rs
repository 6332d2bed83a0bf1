//! Journals, histories and releases, in pages and in order.

use super::cases;
use super::samples::{acquire, at, commit, entry, lease, name, record, release, release_id, target};
use engine::{Commit, Ledger, TagInventory};
use futures::future::join_all;
use rollout::{Fact, JournalEntry};

pub(super) async fn check<L: Ledger>(ledger: &L) {
    cases!(
        ledger,
        a_journal_is_read_from_either_end,
        the_history_is_listed_newest_first,
        a_release_is_written_once,
        a_release_keeps_every_tag,
        the_tags_of_the_last_comparison_are_remembered
    );
}

async fn a_journal_is_read_from_either_end<L: Ledger>(ledger: &L) {
    let target = target("journal-pages");
    assert_eq!(ledger.journal(&target, 0, 10).await.expect("a journal"), []);
    assert_eq!(ledger.journal_tail(&target, 10).await.expect("a journal"), []);
    let state = acquire(ledger, &target, "one").await.state;
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

async fn the_history_is_listed_newest_first<L: Ledger>(ledger: &L) {
    let target = target("history-pages");
    let state = acquire(ledger, &target, "one").await.state;
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
        assert_eq!(ledger.put_release(release).await.expect("written"), None, "it is new");
    }
    let before = ledger.put_release(&a).await.expect("an answer");
    assert_eq!(before, Some(a.clone()), "the same content is the same release");
    assert_eq!(by_id('a').await, Some(a.clone()));
    assert_eq!(releases(10).await, [b.clone(), a.clone(), c]);
    assert_eq!(releases(2).await, [b, a]);
    assert_eq!(ledger.releases(&application, &name("worker"), 10).await.expect("releases"), []);
}

/// Issue 10, case 10: `v1`, `v1.4` and `v1.4.0` come at the same time, and none is lost.
async fn a_release_keeps_every_tag<L: Ledger>(ledger: &L) {
    let (application, service) = (name("release-tags"), name("api"));
    let tags = ["v1", "v1.4", "v1.4.0", "latest", "main"];
    let sightings = tags.map(|tag| {
        let mut seen = release("release-tags", 'a', at(20));
        (seen.tag, seen.tags) = (tag.to_owned(), [(tag.to_owned(), at(20))].into());
        seen
    });
    let answers = join_all(sightings.iter().map(|seen| ledger.put_release(seen))).await;
    let new = answers.into_iter().filter(|before| matches!(before, Ok(None))).count();
    assert_eq!(new, 1, "one of them has made it");
    let later = {
        let mut later = sightings[0].clone();
        later.add_tag("v1", at(50));
        later.requested_at = Some(at(50));
        later
    };
    ledger.put_release(&later).await.expect("written");
    ledger.put_release(&sightings[0]).await.expect("what was recorded before, once more");
    let known = ledger.release_by_id(&release_id("release-tags", 'a')).await.expect("an answer").expect("it is there");
    assert_eq!(known.tag, "v1.4.0");
    assert_eq!(known.tags.len(), tags.len(), "{known:?}");
    assert_eq!((known.tags["v1"], known.pushed_at, known.requested_at), (at(50), at(20), Some(at(50))));
    assert_eq!(ledger.releases(&application, &service, 10).await.expect("releases"), [known], "by age, too");
}

async fn the_tags_of_the_last_comparison_are_remembered<L: Ledger>(ledger: &L) {
    let (application, service) = (name("tags-seen"), name("api"));
    assert_eq!(ledger.tag_inventory(&application, &service).await.expect("an answer"), None);
    let mut seen =
        TagInventory { source: "shop/api".to_owned(), at: at(1), since: None, tags: [0, 7, u64::MAX].into() };
    for second in [1, 2] {
        seen.at = at(second);
        ledger.put_tag_inventory(&application, &service, &seen).await.expect("written");
        assert_eq!(ledger.tag_inventory(&application, &service).await.expect("an answer"), Some(seen.clone()));
    }
    assert_eq!(ledger.tag_inventory(&application, &name("worker")).await.expect("an answer"), None);
    assert_eq!(ledger.releases(&application, &service, 10).await.expect("releases"), [], "it is no release");
}
