//! Pushes, as ECR's events tell of them: retried, late, out of order, paused.

use crate::fixture::{POLICY, apply, at, digest, fixture, missed, name, own_registry, pushed, target};
use engine::intake::{Ignored, ImagePushed, Intake, NotDeployedReason, PushOutcome, image_pushed};
use engine::{Commands as _, Releases as _};
use rollout::{Command, ImageDigest, Release, ReleaseId};
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

#[tokio::test]
async fn a_push_is_requested_in_every_push_triggered_environment() {
    let fixture = fixture().await;
    let outcome = fixture.take(&pushed("shop/api", 'a', "v1", 10)).await;
    let targets = vec![target("shop/api/dev"), target("shop/api/live")];
    assert_eq!(outcome, PushOutcome::Requested { targets, not_woken: 0 });
    assert_eq!(fixture.wakes.woken(), ["shop/api/dev", "shop/api/live"]);

    let id = ReleaseId { application: name("shop"), service: name("api"), digest: digest('a') };
    let release: Release = fixture.ledger.release_by_id(&id).await.expect("it is read").expect("it is there");
    assert_eq!(release.image, format!("111122223333.dkr.ecr.eu-central-1.amazonaws.com/shop/api@{}", digest('a')));
    assert_eq!((release.tag.as_str(), release.pushed_at), ("v1", at(10)));
    for to in ["shop/api/dev", "shop/api/live"] {
        assert_eq!(fixture.commands(to).await, [Command::push(target(to), &release, "shop/api", at(10))]);
    }
    assert!(fixture.commands("shop/api/late").await.is_empty(), "nobody asked by hand");
}

#[tokio::test]
async fn the_same_push_twice_is_one_release_and_one_command() {
    let fixture = fixture().await;
    let push = pushed("shop/api", 'a', "v1", 10);
    assert!(matches!(fixture.take(&push).await, PushOutcome::Requested { .. }));
    assert_eq!(fixture.take(&push).await, PushOutcome::Known);
    assert_eq!(fixture.requested("shop/api/live").await, ["v1"]);
    assert_eq!(fixture.releases("api").await, ["v1"]);
    assert_eq!(fixture.wakes.woken(), ["shop/api/dev", "shop/api/live"], "nobody is woken for nothing");
}

#[tokio::test]
async fn a_retry_completes_a_partially_recorded_push() {
    let fixture = fixture().await;
    let push = pushed("shop/api", 'a', "v1", 10);
    // As far as a function came that was killed after its first write: one command of two, and no release.
    let id = ReleaseId { application: name("shop"), service: name("api"), digest: digest('a') };
    let image = format!("111122223333.dkr.ecr.eu-central-1.amazonaws.com/shop/api@{}", digest('a'));
    let release = Release::new(id, image, "v1", at(10));
    let command = Command::push(target("shop/api/dev"), &release, "shop/api", at(10));
    assert!(fixture.ledger.put_command(&command).await.expect("it is written"));

    assert!(matches!(fixture.take(&push).await, PushOutcome::Requested { not_woken: 0, .. }));
    assert_eq!(fixture.requested("shop/api/dev").await, ["v1"]);
    assert_eq!(fixture.requested("shop/api/live").await, ["v1"]);
    assert_eq!(fixture.releases("api").await, ["v1"]);
}

/// Polls at most `polls` times more after the first, and then drops it: a function that is killed, perhaps with a call
/// on its way.
async fn killed_after<F: Future>(polls: u32, work: F) -> Option<F::Output> {
    let mut work = pin!(work);
    let mut left = polls;
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

#[tokio::test]
async fn a_retry_after_any_crash_requests_once() {
    let fixture = fixture().await;
    let mut tags = vec![];
    let mut completed = false;
    for polls in 0..200_u32 {
        let push = ImagePushed {
            digest: ImageDigest::new(format!("sha256:{polls:064x}")).expect("a digest"),
            ..pushed("shop/api", 'a', &format!("v{polls}"), i64::from(polls))
        };
        completed = killed_after(polls, fixture.push(&push)).await.is_some();
        let outcome = fixture.take(&push).await;
        assert!(
            matches!(outcome, PushOutcome::Requested { .. } | PushOutcome::Known),
            "killed after {polls} polls: {outcome:?}"
        );
        tags.push(push.tag);
        if completed {
            break;
        }
    }
    assert!(completed, "a push takes more than 200 polls");
    // An inbox is read 50 commands at a time.
    let oldest = &tags[..tags.len().min(50)];
    for to in ["shop/api/dev", "shop/api/live"] {
        assert_eq!(fixture.requested(to).await, oldest, "{to}");
    }
    tags.reverse();
    let releases = fixture.ledger.releases(&name("shop"), &name("api"), 200).await.expect("releases are read");
    assert_eq!(releases.into_iter().map(|release| release.tag).collect::<Vec<_>>(), tags);
}

#[tokio::test]
async fn a_late_older_push_is_recorded_but_not_deployed() {
    let fixture = fixture().await;
    assert!(matches!(fixture.take(&pushed("shop/api", 'b', "v2", 20)).await, PushOutcome::Requested { .. }));
    let late = fixture.take(&pushed("shop/api", 'a', "v1", 10)).await;
    assert_eq!(
        late,
        PushOutcome::RecordedOnly(NotDeployedReason::Superseded { by: "v2".to_owned(), pushed_at: at(20) })
    );
    assert_eq!(fixture.requested("shop/api/live").await, ["v2"]);
    assert_eq!(fixture.releases("api").await, ["v2", "v1"]);
}

#[tokio::test]
async fn two_pushes_are_queued_in_push_order() {
    let fixture = fixture().await;
    for (digit, tag, second) in [('a', "v1", 10), ('b', "v2", 20)] {
        assert!(matches!(fixture.take(&pushed("shop/api", digit, tag, second)).await, PushOutcome::Requested { .. }));
    }
    assert_eq!(fixture.requested("shop/api/live").await, ["v1", "v2"]);
}

#[tokio::test]
async fn a_push_with_a_future_timestamp_does_not_block_later_ones() {
    let fixture = fixture().await;
    assert!(matches!(fixture.take(&pushed("shop/api", 'a', "v1", 900_000)).await, PushOutcome::Requested { .. }));
    let next = image_pushed(
        &fixture.ledger,
        &fixture.wakes,
        &pushed("shop/api", 'b', "v2", 100_060),
        &own_registry(),
        at(100_060),
    )
    .await;
    let outcome = next.expect("it is taken in").services.remove(0).outcome;
    assert!(matches!(outcome, PushOutcome::Requested { .. }), "{outcome:?}");
}

#[tokio::test]
async fn an_undeployed_push_is_reported_with_its_reason() {
    let fixture = fixture().await;
    assert_eq!(
        fixture.take(&pushed("shop/worker", 'a', "v1", 10)).await,
        PushOutcome::RecordedOnly(NotDeployedReason::Paused)
    );
    assert_eq!(
        fixture.take(&pushed("shop/web", 'a', "v1", 10)).await,
        PushOutcome::RecordedOnly(NotDeployedReason::NoTrigger)
    );
    let branch = fixture.take(&pushed("shop/api", 'a', "main-7", 10)).await;
    assert_eq!(branch, PushOutcome::Ignored(Ignored::Tag { tag: "main-7".to_owned() }));
    let unknown = fixture.push(&pushed("elsewhere/api", 'a', "v1", 10)).await.expect("it is no error");
    assert_eq!(unknown, Intake { services: vec![] });

    assert_eq!(
        (fixture.releases("worker").await, fixture.releases("web").await),
        (vec!["v1".into()], vec!["v1".into()])
    );
    assert!(fixture.releases("api").await.is_empty());
    assert!(fixture.commands("shop/worker/dev").await.is_empty());
    assert!(fixture.wakes.woken().is_empty());
}

#[tokio::test]
async fn a_push_while_paused_is_not_deployed_after_the_pause() {
    let mut fixture = fixture().await;
    let push = pushed("shop/worker", 'a', "v1", 10);
    assert_eq!(fixture.take(&push).await, PushOutcome::RecordedOnly(NotDeployedReason::Paused));
    apply(&fixture.ledger, &POLICY.replace(", paused: true", ""), 50).await;
    assert_eq!(fixture.take(&push).await, PushOutcome::Known);
    for repository in ["shop/api", "shop/web"] {
        fixture.fake_registry.repository(repository);
    }
    fixture.fake_registry.put("shop/worker", 'a', &["v1"], 10);
    assert_eq!(missed(&fixture.sweep_at(60).await), []);
    assert!(fixture.commands("shop/worker/dev").await.is_empty());
}
