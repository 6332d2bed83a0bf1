//! The sweep over registries: pushes whose event or wake was lost.

use crate::fixture::{FixedClock, at, fixture, missed, name, pushed};
use engine::intake::{NotDeployedReason, PushOutcome, Sweep, sweep};
use rollout::Timestamp;

#[tokio::test]
async fn a_failed_wake_is_repaired_by_the_sweep() {
    let fixture = fixture().await;
    fixture.wakes.fail_for("shop/api/live");
    let outcome = fixture.take(&pushed("shop/api", 'a', "v1", 10)).await;
    assert!(matches!(outcome, PushOutcome::Requested { not_woken: 1, .. }), "{outcome:?}");
    assert_eq!(fixture.wakes.woken(), ["shop/api/dev"]);

    fixture.wakes.recover();
    let report = fixture.sweep_at(70).await;
    assert_eq!(fixture.wakes.woken(), ["shop/api/dev", "shop/api/live"], "both commands are due, nobody consumed them");
    assert!(!report.truncated && !report.ledger_unavailable);
}

#[tokio::test]
async fn the_sweep_deploys_only_the_newest_missed_push() {
    let mut fixture = fixture().await;
    for repository in ["shop/web", "shop/worker"] {
        fixture.fake_registry.repository(repository);
    }
    fixture.fake_registry.put("shop/api", 'a', &["main-7", "v1"], 10);
    fixture.fake_registry.put("shop/api", 'c', &["v3"], 30);
    fixture.fake_registry.put("shop/api", 'b', &["v2"], 30);
    fixture.fake_registry.put("shop/api", 'd', &["main-8"], 40);
    fixture.fake_registry.put("shop/api", 'e', &["v9"], 50).artifact_media_type =
        Some("application/vnd.cncf.helm.config.v1+json".to_owned());

    let report = fixture.sweep_at(100).await;
    let superseded = format!("a new release; deployed nowhere: v3, pushed later ({}), is known already", at(30));
    assert_eq!(
        missed(&report),
        [
            ("api c".to_owned(), "a new release; asked for its deployment to shop/api/dev, shop/api/live".to_owned()),
            ("api b".to_owned(), superseded.clone()),
            ("api a".to_owned(), superseded),
        ]
    );
    assert_eq!(report.problems, [""; 0]);
    assert_eq!(fixture.requested("shop/api/live").await, ["v3"]);
    assert_eq!(fixture.releases("api").await.len(), 3);

    // The event was only late.
    assert_eq!(fixture.take(&pushed("shop/api", 'c', "v3", 31)).await, PushOutcome::Known);
    assert_eq!(missed(&fixture.sweep_at(160).await), [], "what is known is not missed");
}

#[tokio::test]
async fn a_missed_push_never_replaces_a_newer_release() {
    let mut fixture = fixture().await;
    assert!(matches!(fixture.take(&pushed("shop/api", 'b', "v2", 20)).await, PushOutcome::Requested { .. }));
    for repository in ["shop/web", "shop/worker"] {
        fixture.fake_registry.repository(repository);
    }
    fixture.fake_registry.put("shop/api", 'a', &["v1"], 10);
    fixture.fake_registry.put("shop/api", 'b', &["v2"], 19);
    let report = fixture.sweep_at(100).await;
    let why = PushOutcome::RecordedOnly(NotDeployedReason::Superseded { by: "v2".to_owned(), pushed_at: at(20) });
    assert_eq!(missed(&report), [("api a".to_owned(), why.to_string())]);
    assert_eq!(fixture.requested("shop/api/live").await, ["v2"]);
}

#[tokio::test]
async fn images_older_than_the_policy_are_not_deployed() {
    let mut fixture = fixture().await;
    for repository in ["shop/web", "shop/worker"] {
        fixture.fake_registry.repository(repository);
    }
    fixture.fake_registry.put("shop/api", 'a', &["v1"], -3 * 24 * 3600);
    fixture.fake_registry.put("shop/api", 'b', &["v2"], -10);
    let report = fixture.sweep_at(100).await;
    let why = format!("a new release; deployed nowhere: pushed before the policy was applied ({})", at(0));
    assert_eq!(missed(&report), [("api b".to_owned(), why)]);
    assert!(fixture.commands("shop/api/live").await.is_empty());
    assert_eq!(fixture.releases("api").await, ["v2"]);
}

#[tokio::test]
async fn one_unreadable_repository_does_not_affect_others() {
    let mut fixture = fixture().await;
    // shop/api and shop/web cannot be listed.
    fixture.fake_registry.put("shop/worker", 'a', &["v1"], 10);
    let report = fixture.sweep_at(100).await;
    assert_eq!(
        report.problems,
        [
            "repository shop/api of shop could not be listed: there is no repository shop/api",
            "repository shop/web of shop could not be listed: there is no repository shop/web",
        ]
    );
    assert_eq!(missed(&report).len(), 1, "{report:?}");
    assert!(!report.ledger_unavailable);
}

#[tokio::test]
async fn every_application_is_swept_once_per_round() {
    for application in ["shop", "a", "billing-and-more"] {
        let turn = |minute| Sweep { minute, every: 5, until: Timestamp::MAX }.is_turn_of(&name(application));
        assert_eq!((100..105).filter(|&minute| turn(minute)).count(), 1, "{application}");
    }
    let mut fixture = fixture().await;
    fixture.fake_registry.put("shop/api", 'a', &["v1"], 10);
    let mut found = 0;
    for minute in 0..5 {
        let turn = Sweep { minute, every: 5, until: Timestamp::MAX };
        found += sweep(&fixture.ledger, &fixture.wakes, &fixture.fake_registry, &FixedClock(at(100)), &turn)
            .await
            .missed
            .len();
    }
    assert_eq!(found, 1);
}

#[tokio::test]
async fn a_sweep_out_of_time_reports_what_is_left() {
    let mut fixture = fixture().await;
    fixture.fake_registry.put("shop/api", 'a', &["v1"], 10);
    let turn = Sweep { minute: 0, every: 1, until: at(99) };
    let report = sweep(&fixture.ledger, &fixture.wakes, &fixture.fake_registry, &FixedClock(at(100)), &turn).await;
    assert_eq!((report.left, report.missed.len()), (vec![name("shop")], 0));
}
