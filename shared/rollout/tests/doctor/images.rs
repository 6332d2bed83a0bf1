//! Images that must stay in the registry.

use rollout::doctor::Severity;
use rollout::doctor::images::{ImageUse, judge, needed};
use rollout::promotion::ImageState;
use rollout::release::ReleaseRef;
use rollout::target::{StableSide, TargetState};
use rollout::{ImageDigest, Name, Reading, ReleaseId, TargetId, Timestamp, Way};

fn release(number: u8) -> ReleaseRef {
    let name = |text: &str| Name::new(text).expect("a name");
    let digest = ImageDigest::new(format!("sha256:{number:064x}")).expect("a digest");
    let id = ReleaseId { application: name("shop"), service: name("api"), digest };
    ReleaseRef { id, image: format!("r/api@{number}"), tag: format!("v{number}"), pushed_at: None }
}

fn checks(way: Way, images: &[(ImageUse, u8, Reading<ImageState>)]) -> Vec<(Severity, String)> {
    let images: Vec<_> = images.iter().map(|(needed, of, state)| (*needed, release(*of), state.clone())).collect();
    judge(way, &images).into_iter().map(|finding| (finding.severity, finding.check)).collect()
}

#[test]
fn the_live_image_and_the_one_before_must_stay() {
    let gone = || Reading::Known(ImageState::Gone);
    let found = checks(Way::Weighted, &[(ImageUse::Previous, 1, gone()), (ImageUse::Stable, 2, gone())]);
    let expected = [(Severity::Broken, "image_of_stable_missing"), (Severity::Risky, "image_of_previous_missing")];
    assert_eq!(found, expected.map(|(severity, check)| (severity, check.to_owned())));
    let archived = checks(Way::InPlace, &[(ImageUse::Stable, 2, Reading::Known(ImageState::Archived))]);
    assert_eq!(archived, [(Severity::Broken, "image_of_stable_missing".to_owned())]);
    assert_eq!(checks(Way::Weighted, &[(ImageUse::Stable, 2, Reading::Known(ImageState::Present))]), []);
    let unread = checks(Way::Weighted, &[(ImageUse::Stable, 2, Reading::Unknown("throttled".to_owned()))]);
    assert_eq!(unread, [(Severity::Unread, "unread".to_owned())]);
}

#[test]
fn what_switchback_did_not_deploy_is_not_asked_for() {
    let mut state = TargetState::new(TargetId::parse("shop/api/prod").expect("a target"));
    assert_eq!(needed(&state).count(), 0);
    let side = |release| StableSide {
        slot: None,
        version: "v".to_owned(),
        release,
        since: Timestamp::UNIX_EPOCH,
        forward_only: false,
        train: None,
        template: None,
    };
    (state.stable, state.previous) = (Some(side(Some(release(2)))), Some(side(None)));
    let tags: Vec<(ImageUse, &str)> = needed(&state).map(|(needed, release)| (needed, release.tag.as_str())).collect();
    assert_eq!(tags, [(ImageUse::Stable, "v2")]);
}
