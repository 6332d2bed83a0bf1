//! A release under all the tags that it has, and the registries whose pushes are believed.

use crate::fixture::{IntakeFixture, POLICY, apply, digest, fixture, missed, name, own_registry, pushed};
use engine::Releases as _;
use engine::intake::{Ignored, ImagePushed, PushOutcome};
use rollout::{Command, Release, ReleaseId};

/// The names that a target is notified of: release's first digit and tag.
async fn named(fixture: &IntakeFixture, to: &str) -> Vec<String> {
    let name = |command: Command| match command.instruction {
        rollout::Instruction::NameRelease { release, tag } => Some(format!("{} {tag}", &release.digest.short()[..1])),
        _ => None,
    };
    fixture.commands(to).await.into_iter().filter_map(name).collect()
}

async fn release_named(fixture: &IntakeFixture, tag: &str) -> Option<char> {
    let releases = fixture.ledger.releases(&name("shop"), &name("api"), 100).await.expect("releases are read");
    rollout::release::latest_with_tag(&releases, tag).and_then(|release| release.id.digest.short().chars().next())
}

/// Issue 10, case 9: `v1.0.2` is pushed onto the digest of `v1.0.1`, then `v1.0.3` is moved back onto it.
#[tokio::test]
async fn a_second_tag_is_an_alias_and_moving_one_back_redeploys() {
    let fixture = fixture().await;
    assert!(matches!(fixture.take(&pushed("shop/api", 'a', "v1.0.1", 10)).await, PushOutcome::Requested { .. }));
    let second = fixture.take(&pushed("shop/api", 'a', "v1.0.2", 5_000)).await;
    assert_eq!(second, PushOutcome::Tagged { tags: vec!["v1.0.2".to_owned()], not_deployed: None });
    assert_eq!(release_named(&fixture, "v1.0.2").await, Some('a'), "`deploy --release v1.0.2` knows it");
    assert_eq!(fixture.requested("shop/api/live").await, ["v1.0.1"], "it is asked for already");
    for to in ["shop/api/dev", "shop/api/live", "shop/api/late"] {
        assert_eq!(named(&fixture, to).await, ["a v1.0.2"], "{to}");
    }

    assert!(matches!(fixture.take(&pushed("shop/api", 'b', "v1.0.3", 6_000)).await, PushOutcome::Requested { .. }));
    let back = pushed("shop/api", 'a', "v1.0.3", 7_000);
    let outcome = fixture.take(&back).await;
    assert!(
        matches!(&outcome, PushOutcome::RequestedAgain { tags, targets, .. } if tags == &["v1.0.3"] && targets.len() == 2),
        "{outcome:?}"
    );
    assert_eq!(fixture.requested("shop/api/live").await, ["v1.0.1", "v1.0.3", "v1.0.3"]);
    let last = fixture.commands("shop/api/live").await.pop().expect("there are some");
    assert!(last.reason.contains("v1.0.3"), "the journal will say why: {last:?}");
    assert_eq!(release_named(&fixture, "v1.0.3").await, Some('a'));

    // Once each, however often it is reported, and however late.
    assert_eq!(fixture.take(&back).await, PushOutcome::Known);
    assert_eq!(fixture.take(&pushed("shop/api", 'b', "v1.0.3", 6_000)).await, PushOutcome::Known);
    assert_eq!(fixture.requested("shop/api/live").await.len(), 3);
    // Forward again, shortly after: on purpose, too.
    let forward = fixture.take(&pushed("shop/api", 'b', "v1.0.3", 7_060)).await;
    assert!(matches!(forward, PushOutcome::RequestedAgain { .. }), "{forward:?}");
    let back_again = fixture.take(&pushed("shop/api", 'a', "v1.0.3", 7_120)).await;
    assert!(matches!(back_again, PushOutcome::RequestedAgain { .. }), "{back_again:?}");
    assert_eq!(fixture.requested("shop/api/live").await.len(), 5);
}

/// Issue 10, case 10: one build pushes `v1`, `v1.4`, `v1.4.0`, in any order; the build before had `v1` and `v1.4`, too.
#[tokio::test]
async fn tags_of_one_build_request_once_in_any_order() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let fixture = fixture().await;
        for tag in ["v1", "v1.3.9", "v1.4"] {
            let _ = fixture.take(&pushed("shop/api", 'a', tag, 10)).await;
        }
        let tags = [("v1", 1_000), ("v1.4", 1_001), ("v1.4.0", 1_002)];
        for (index, which) in order.into_iter().enumerate() {
            let (tag, second) = tags[which];
            let outcome = fixture.take(&pushed("shop/api", 'b', tag, second)).await;
            let first = matches!(outcome, PushOutcome::Requested { .. });
            let name = matches!(outcome, PushOutcome::Tagged { not_deployed: None, .. });
            assert!(if index == 0 { first } else { name }, "{order:?}: {tag}: {outcome:?}");
        }
        assert_eq!(fixture.requested("shop/api/live").await.len(), 2, "{order:?}");
        assert_eq!(fixture.releases("api").await, ["v1.4.0", "v1.3.9"], "{order:?}");
        for (tag, digit) in [("v1", 'b'), ("v1.4", 'b'), ("v1.4.0", 'b'), ("v1.3.9", 'a')] {
            assert_eq!(release_named(&fixture, tag).await, Some(digit), "{order:?}: {tag}");
        }
        let names = named(&fixture, "shop/api/late").await;
        let last = if order[0] == 2 { None } else { Some("b v1.4.0") };
        assert_eq!(names.iter().rfind(|name| name.starts_with('b')).map(String::as_str), last, "{order:?}: {names:?}");
    }
}

async fn stored_release(fixture: &IntakeFixture, digit: char) -> Release {
    let id = ReleaseId { application: name("shop"), service: name("api"), digest: digest(digit) };
    fixture.ledger.release_by_id(&id).await.expect("it is read").expect("it is there")
}

/// The same build: once its events arrive in time, once the sweep finds its image before any of them arrives.
#[tokio::test]
async fn event_and_sweep_agree() {
    const EVENTS: [(&str, i64); 3] = [("v1", 10), ("v1.4", 11), ("v1.4.0", 12)];
    let by_events = fixture().await;
    for (tag, second) in EVENTS {
        let _ = by_events.take(&pushed("shop/api", 'a', tag, second)).await;
    }
    let expected = stored_release(&by_events, 'a').await;
    let tags = |release: &Release| release.tags.keys().cloned().collect::<Vec<_>>();
    assert_eq!((tags(&expected).len(), expected.tag.as_str()), (3, "v1.4.0"));

    // ECR lists an image's tags in no particular order.
    for listed in [["v1", "v1.4", "v1.4.0"], ["v1.4.0", "v1.4", "v1"]] {
        let mut by_sweep = fixture().await;
        for repository in ["shop/web", "shop/worker"] {
            by_sweep.fake_registry.repository(repository);
        }
        by_sweep.fake_registry.put("shop/api", 'a', &listed, 10);
        let requested = "a new release; asked for its deployment to shop/api/dev, shop/api/live".to_owned();
        assert_eq!(missed(&by_sweep.sweep_at(100).await), [("api a".to_owned(), requested)], "{listed:?}");
        let found = stored_release(&by_sweep, 'a').await;
        assert_eq!((tags(&found), &found.tag), (tags(&expected), &expected.tag), "{listed:?}");
        assert_eq!((&found.id, &found.image, found.pushed_at), (&expected.id, &expected.image, expected.pushed_at));
        assert_eq!(by_sweep.wakes.woken(), ["shop/api/dev", "shop/api/live"], "{listed:?}");

        let targets = ["shop/api/dev", "shop/api/live", "shop/api/late"];
        let mut before = Vec::new();
        for target in targets {
            before.push(by_sweep.commands(target).await);
        }
        for (tag, second) in EVENTS {
            let late = by_sweep.take(&pushed("shop/api", 'a', tag, second)).await;
            assert_eq!(late, PushOutcome::Known, "{listed:?}: {tag}");
            assert_eq!(stored_release(&by_sweep, 'a').await, found, "{listed:?}: {tag}");
        }
        for (target, before) in targets.iter().zip(&before) {
            assert_eq!(&by_sweep.commands(target).await, before, "{listed:?}: {target}");
        }
        assert_eq!(by_sweep.wakes.woken(), [""; 0], "{listed:?}");
    }
}

/// Two tags of one build at the same moment, each in a function of its own.
#[tokio::test]
async fn two_tags_at_once_are_one_release_and_one_deployment() {
    let fixture = fixture().await;
    let pushes = ["v1", "v1.4", "v1.4.0"].map(|tag| pushed("shop/api", 'a', tag, 10));
    let intakes = futures::future::join_all(pushes.iter().map(|push| fixture.push(push))).await;
    assert!(intakes.iter().all(Result::is_ok), "{intakes:?}");
    assert_eq!(fixture.requested("shop/api/live").await.len(), 1);
    assert_eq!(fixture.releases("api").await, ["v1.4.0"]);
}

/// A late tag of an older build is no reason to deploy that one over the newer.
#[tokio::test]
async fn a_late_tag_of_an_older_build_is_not_deployed() {
    let fixture = fixture().await;
    let _ = fixture.take(&pushed("shop/api", 'a', "v1.4.0", 10)).await;
    let _ = fixture.take(&pushed("shop/api", 'b', "v1.5.0", 20)).await;
    let late = fixture.take(&pushed("shop/api", 'a', "v1.4", 40)).await;
    assert!(matches!(late, PushOutcome::Tagged { .. }), "{late:?}");
    assert_eq!(fixture.requested("shop/api/live").await, ["v1.4.0", "v1.5.0"]);
    // Hours later it is a version that somebody gives on purpose.
    let anew = fixture.take(&pushed("shop/api", 'a', "v1.5.1", 9_000)).await;
    assert!(matches!(anew, PushOutcome::RequestedAgain { .. }), "{anew:?}");
}

/// Issue 10, case 11: an image that was built on Monday, under a tag that no rule takes, gets `v2.0.0` on Thursday, and the
/// event is lost.
#[tokio::test]
async fn the_sweep_finds_a_new_tag_on_an_old_image() {
    const DAY: i64 = 24 * 3600;
    let mut fixture = fixture().await;
    for repository in ["shop/web", "shop/worker"] {
        fixture.fake_registry.repository(repository);
    }
    fixture.fake_registry.put("shop/api", 'a', &["main-3f2a1bc"], 10);
    fixture.fake_registry.put("shop/api", 'c', &["v0.9.0"], -30 * DAY);
    fixture.fake_registry.put("shop/api", 'b', &["v1.9.0"], 2 * DAY);
    assert!(matches!(fixture.take(&pushed("shop/api", 'b', "v1.9.0", 100)).await, PushOutcome::Requested { .. }));
    assert_eq!(missed(&fixture.sweep_at(3 * DAY - 300).await), [], "what was there before is none that is missed");

    fixture.fake_registry.repository("shop/api")[0].tags.push("v2.0.0".to_owned());
    let report = fixture.sweep_at(3 * DAY).await;
    let requested = "a new release; asked for its deployment to shop/api/dev, shop/api/live".to_owned();
    assert_eq!(missed(&report), [("api a".to_owned(), requested)]);
    assert_eq!(fixture.requested("shop/api/live").await, ["v1.9.0", "v2.0.0"]);
    assert_eq!(fixture.releases("api").await, ["v2.0.0", "v1.9.0"], "the newest, as its event would have made it");
    // The event was only late; and another comparison finds nothing.
    assert_eq!(fixture.take(&pushed("shop/api", 'a', "v2.0.0", 3 * DAY - 60)).await, PushOutcome::Known);
    assert_eq!(missed(&fixture.sweep_at(3 * DAY + 300).await), []);
}

/// Cases 9 and 11 together: the tag is moved back, and the event is lost.
#[tokio::test]
async fn the_sweep_finds_a_tag_moved_back() {
    const DAY: i64 = 24 * 3600;
    let mut fixture = fixture().await;
    for repository in ["shop/web", "shop/worker"] {
        fixture.fake_registry.repository(repository);
    }
    for (digit, tag, second) in [('a', "v1.0.1", 10), ('b', "v1.0.3", 20)] {
        fixture.fake_registry.put("shop/api", digit, &[tag], second);
        assert!(matches!(fixture.take(&pushed("shop/api", digit, tag, second)).await, PushOutcome::Requested { .. }));
    }
    assert_eq!(missed(&fixture.sweep_at(4 * DAY).await), []);
    fixture.fake_registry.repository("shop/api")[1].tags.clear();
    fixture.fake_registry.repository("shop/api")[0].tags.push("v1.0.3".to_owned());
    let found = missed(&fixture.sweep_at(4 * DAY + 300).await);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].1.contains("v1.0.3") && found[0].1.contains("anew"), "{found:?}");
    assert_eq!(fixture.requested("shop/api/live").await, ["v1.0.1", "v1.0.3", "v1.0.3"]);
    assert_eq!(missed(&fixture.sweep_at(4 * DAY + 600).await), []);
}

/// Issue 10, case 15: an event of account 999999999999, Region us-west-2, on a bus that several accounts send to.
#[tokio::test]
async fn pushes_to_other_registries_are_ignored() {
    let fixture = fixture().await;
    let elsewhere = rollout::Registry { account: "999999999999".to_owned(), region: "us-west-2".to_owned() };
    let foreign = ImagePushed { registry: elsewhere.clone(), ..pushed("shop/api", 'a', "v1", 10) };
    let ignored = fixture.take(&foreign).await;
    assert_eq!(ignored, PushOutcome::Ignored(Ignored::Registry { pushed_to: elsewhere, wanted: own_registry() }));
    assert!(fixture.releases("api").await.is_empty() && fixture.commands("shop/api/live").await.is_empty());

    let named = "api: {repository: shop/api, registry: {account: \"999999999999\", region: us-west-2}, ";
    apply(&fixture.ledger, &POLICY.replace("api: {repository: shop/api, ", named), 50).await;
    assert!(matches!(fixture.take(&foreign).await, PushOutcome::Requested { .. }));
    assert!(matches!(
        fixture.take(&pushed("shop/api", 'b', "v2", 60)).await,
        PushOutcome::Ignored(Ignored::Registry { .. })
    ));
    let id = ReleaseId { application: name("shop"), service: name("api"), digest: digest('a') };
    let release = fixture.ledger.release_by_id(&id).await.expect("it is read").expect("it is there");
    assert_eq!(release.image, format!("999999999999.dkr.ecr.us-west-2.amazonaws.com/shop/api@{}", digest('a')));
}

/// Issue 10, case 15: the sweep asks the registry that the policy names.
#[tokio::test]
async fn the_sweep_reads_the_policys_registry() {
    let mut fixture = fixture().await;
    let named = "api: {repository: shop/api, registry: {account: \"999999999999\"}, ";
    apply(&fixture.ledger, &POLICY.replace("api: {repository: shop/api, ", named), 5).await;
    for repository in ["shop/web", "shop/worker"] {
        fixture.fake_registry.repository(repository);
    }
    fixture.fake_registry.put("999999999999/shop/api", 'a', &["v1"], 10);
    let report = fixture.sweep_at(100).await;
    assert_eq!((report.problems, report.missed.len()), (vec![], 1));
}
