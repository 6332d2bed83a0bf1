//! A release under all the tags that it has, and the registries whose pushes are believed.

use super::*;

/// The names that a target is told of: release's first digit and tag.
async fn named(stage: &Stage, to: &str) -> Vec<String> {
    let name = |command: Command| match command.instruction {
        rollout::Instruction::NameRelease { release, tag } => Some(format!("{} {tag}", &release.digest.short()[..1])),
        _ => None,
    };
    stage.commands(to).await.into_iter().filter_map(name).collect()
}

async fn release_named(stage: &Stage, tag: &str) -> Option<char> {
    let releases = stage.ledger.releases(&name("shop"), &name("api"), 100).await.expect("releases are read");
    rollout::release::tagged(&releases, tag).and_then(|release| release.id.digest.short().chars().next())
}

/// Issue 10, case 9: `v1.0.2` is pushed onto the digest of `v1.0.1`, then `v1.0.3` is moved back onto it.
#[tokio::test]
async fn a_second_tag_is_another_name_and_one_that_is_moved_back_is_the_rollback() {
    let stage = stage().await;
    assert!(matches!(stage.take(&pushed("shop/api", 'a', "v1.0.1", 10)).await, Taken::Asked { .. }));
    let second = stage.take(&pushed("shop/api", 'a', "v1.0.2", 5_000)).await;
    assert_eq!(second, Taken::Tagged { tags: vec!["v1.0.2".to_owned()], unasked: None });
    assert_eq!(release_named(&stage, "v1.0.2").await, Some('a'), "`deploy --release v1.0.2` knows it");
    assert_eq!(stage.asked("shop/api/live").await, ["v1.0.1"], "it is asked for already");
    for to in ["shop/api/dev", "shop/api/live", "shop/api/late"] {
        assert_eq!(named(&stage, to).await, ["a v1.0.2"], "{to}");
    }

    assert!(matches!(stage.take(&pushed("shop/api", 'b', "v1.0.3", 6_000)).await, Taken::Asked { .. }));
    let back = pushed("shop/api", 'a', "v1.0.3", 7_000);
    let taken = stage.take(&back).await;
    assert!(
        matches!(&taken, Taken::AskedAnew { tags, targets, .. } if tags == &["v1.0.3"] && targets.len() == 2),
        "{taken:?}"
    );
    assert_eq!(stage.asked("shop/api/live").await, ["v1.0.1", "v1.0.3", "v1.0.3"]);
    let last = stage.commands("shop/api/live").await.pop().expect("there are some");
    assert!(last.reason.contains("v1.0.3"), "the journal will say why: {last:?}");
    assert_eq!(release_named(&stage, "v1.0.3").await, Some('a'));

    // Once each, however often it is told, and however late.
    assert_eq!(stage.take(&back).await, Taken::Known);
    assert_eq!(stage.take(&pushed("shop/api", 'b', "v1.0.3", 6_000)).await, Taken::Known);
    assert_eq!(stage.asked("shop/api/live").await.len(), 3);
    // Forward again, shortly after: on purpose, too.
    let forward = stage.take(&pushed("shop/api", 'b', "v1.0.3", 7_060)).await;
    assert!(matches!(forward, Taken::AskedAnew { .. }), "{forward:?}");
    let back_again = stage.take(&pushed("shop/api", 'a', "v1.0.3", 7_120)).await;
    assert!(matches!(back_again, Taken::AskedAnew { .. }), "{back_again:?}");
    assert_eq!(stage.asked("shop/api/live").await.len(), 5);
}

/// Issue 10, case 10: one build pushes `v1`, `v1.4`, `v1.4.0`, in any order; the build before had `v1` and `v1.4`, too.
#[tokio::test]
async fn the_tags_of_one_build_ask_once_in_whatever_order_they_come() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let stage = stage().await;
        for tag in ["v1", "v1.3.9", "v1.4"] {
            let _ = stage.take(&pushed("shop/api", 'a', tag, 10)).await;
        }
        let tags = [("v1", 1_000), ("v1.4", 1_001), ("v1.4.0", 1_002)];
        for (index, which) in order.into_iter().enumerate() {
            let (tag, second) = tags[which];
            let taken = stage.take(&pushed("shop/api", 'b', tag, second)).await;
            let first = matches!(taken, Taken::Asked { .. });
            let name = matches!(taken, Taken::Tagged { unasked: None, .. });
            assert!(if index == 0 { first } else { name }, "{order:?}: {tag}: {taken:?}");
        }
        assert_eq!(stage.asked("shop/api/live").await.len(), 2, "{order:?}");
        assert_eq!(stage.releases("api").await, ["v1.4.0", "v1.3.9"], "{order:?}");
        for (tag, digit) in [("v1", 'b'), ("v1.4", 'b'), ("v1.4.0", 'b'), ("v1.3.9", 'a')] {
            assert_eq!(release_named(&stage, tag).await, Some(digit), "{order:?}: {tag}");
        }
        let names = named(&stage, "shop/api/late").await;
        let last = if order[0] == 2 { None } else { Some("b v1.4.0") };
        assert_eq!(names.iter().rfind(|name| name.starts_with('b')).map(String::as_str), last, "{order:?}: {names:?}");
    }
}

/// Two tags of one build at the same moment, each in a function of its own.
#[tokio::test]
async fn two_tags_at_once_are_one_release_and_one_deployment() {
    let stage = stage().await;
    let pushes = ["v1", "v1.4", "v1.4.0"].map(|tag| pushed("shop/api", 'a', tag, 10));
    let intakes = futures::future::join_all(pushes.iter().map(|push| stage.push(push))).await;
    assert!(intakes.iter().all(Result::is_ok), "{intakes:?}");
    assert_eq!(stage.asked("shop/api/live").await.len(), 1);
    assert_eq!(stage.releases("api").await, ["v1.4.0"]);
}

/// A late tag of an older build is no reason to deploy that one over the newer.
#[tokio::test]
async fn a_late_tag_of_an_older_build_asks_for_nothing() {
    let stage = stage().await;
    let _ = stage.take(&pushed("shop/api", 'a', "v1.4.0", 10)).await;
    let _ = stage.take(&pushed("shop/api", 'b', "v1.5.0", 20)).await;
    let late = stage.take(&pushed("shop/api", 'a', "v1.4", 40)).await;
    assert!(matches!(late, Taken::Tagged { .. }), "{late:?}");
    assert_eq!(stage.asked("shop/api/live").await, ["v1.4.0", "v1.5.0"]);
    // Hours later it is a version that somebody gives on purpose.
    let anew = stage.take(&pushed("shop/api", 'a', "v1.5.1", 9_000)).await;
    assert!(matches!(anew, Taken::AskedAnew { .. }), "{anew:?}");
}

/// Issue 10, case 11: an image that was built on Monday, under a tag that no rule takes, gets `v2.0.0` on Thursday, and the
/// event is lost.
#[tokio::test]
async fn an_old_image_that_gets_a_new_tag_is_found_by_the_sweep() {
    const DAY: i64 = 24 * 3600;
    let mut stage = stage().await;
    for repository in ["shop/web", "shop/worker"] {
        stage.shelf.repository(repository);
    }
    stage.shelf.put("shop/api", 'a', &["main-3f2a1bc"], 10);
    stage.shelf.put("shop/api", 'c', &["v0.9.0"], -30 * DAY);
    stage.shelf.put("shop/api", 'b', &["v1.9.0"], 2 * DAY);
    assert!(matches!(stage.take(&pushed("shop/api", 'b', "v1.9.0", 100)).await, Taken::Asked { .. }));
    assert_eq!(missed(&stage.sweep_at(3 * DAY - 300).await), [], "what was there before is none that is missed");

    stage.shelf.repository("shop/api")[0].tags.push("v2.0.0".to_owned());
    let swept = stage.sweep_at(3 * DAY).await;
    let asked = "a new release; asked for its deployment to shop/api/dev, shop/api/live".to_owned();
    assert_eq!(missed(&swept), [("api a".to_owned(), asked)]);
    assert_eq!(stage.asked("shop/api/live").await, ["v1.9.0", "v2.0.0"]);
    assert_eq!(stage.releases("api").await, ["v2.0.0", "v1.9.0"], "the newest, as its event would have made it");
    // The event was only late; and another comparison finds nothing.
    assert_eq!(stage.take(&pushed("shop/api", 'a', "v2.0.0", 3 * DAY - 60)).await, Taken::Known);
    assert_eq!(missed(&stage.sweep_at(3 * DAY + 300).await), []);
}

/// Cases 9 and 11 together: the tag is moved back, and the event is lost.
#[tokio::test]
async fn a_tag_that_was_moved_back_is_found_by_the_sweep() {
    const DAY: i64 = 24 * 3600;
    let mut stage = stage().await;
    for repository in ["shop/web", "shop/worker"] {
        stage.shelf.repository(repository);
    }
    for (digit, tag, second) in [('a', "v1.0.1", 10), ('b', "v1.0.3", 20)] {
        stage.shelf.put("shop/api", digit, &[tag], second);
        assert!(matches!(stage.take(&pushed("shop/api", digit, tag, second)).await, Taken::Asked { .. }));
    }
    assert_eq!(missed(&stage.sweep_at(4 * DAY).await), []);
    stage.shelf.repository("shop/api")[1].tags.clear();
    stage.shelf.repository("shop/api")[0].tags.push("v1.0.3".to_owned());
    let found = missed(&stage.sweep_at(4 * DAY + 300).await);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].1.contains("v1.0.3") && found[0].1.contains("anew"), "{found:?}");
    assert_eq!(stage.asked("shop/api/live").await, ["v1.0.1", "v1.0.3", "v1.0.3"]);
    assert_eq!(missed(&stage.sweep_at(4 * DAY + 600).await), []);
}

/// Issue 10, case 15: an event of account 999999999999, Region us-west-2, on a bus that several accounts send to.
#[tokio::test]
async fn only_registries_that_the_policy_names_are_believed() {
    let stage = stage().await;
    let elsewhere = rollout::Registry { account: "999999999999".to_owned(), region: "us-west-2".to_owned() };
    let foreign = ImagePushed { registry: elsewhere.clone(), ..pushed("shop/api", 'a', "v1", 10) };
    let ignored = stage.take(&foreign).await;
    assert_eq!(ignored, Taken::Ignored(Ignored::Registry { pushed_to: elsewhere, wanted: own() }));
    assert!(stage.releases("api").await.is_empty() && stage.commands("shop/api/live").await.is_empty());

    let named = "api: {repository: shop/api, registry: {account: \"999999999999\", region: us-west-2}, ";
    apply(&stage.ledger, &POLICY.replace("api: {repository: shop/api, ", named), 50).await;
    assert!(matches!(stage.take(&foreign).await, Taken::Asked { .. }));
    assert!(matches!(stage.take(&pushed("shop/api", 'b', "v2", 60)).await, Taken::Ignored(Ignored::Registry { .. })));
    let id = ReleaseId { application: name("shop"), service: name("api"), digest: digest('a') };
    let release = stage.ledger.release_by_id(&id).await.expect("it is read").expect("it is there");
    assert_eq!(release.image, format!("999999999999.dkr.ecr.us-west-2.amazonaws.com/shop/api@{}", digest('a')));
}

/// Issue 10, case 15: the sweep asks the registry that the policy names.
#[tokio::test]
async fn the_sweep_looks_into_the_registry_that_the_policy_names() {
    let mut stage = stage().await;
    let named = "api: {repository: shop/api, registry: {account: \"999999999999\"}, ";
    apply(&stage.ledger, &POLICY.replace("api: {repository: shop/api, ", named), 5).await;
    for repository in ["shop/web", "shop/worker"] {
        stage.shelf.repository(repository);
    }
    stage.shelf.put("999999999999/shop/api", 'a', &["v1"], 10);
    let swept = stage.sweep_at(100).await;
    assert_eq!((swept.problems, swept.missed.len()), (vec![], 1));
}
