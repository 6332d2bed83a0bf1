//! Checks whether the registry still has the images that a target may need again: that of the stable release, which
//! every new task pulls, and that of the release before, which a rollback by hand returns to.

use super::{Finding, Findings};
use crate::platform::Way;
use crate::promotion::ImageState;
use crate::release::ReleaseRef;
use crate::snapshot::Reading;
use crate::target::TargetState;

/// What a target needs the image of a release for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageUse {
    /// It is the stable release: tasks that are started anew pull it.
    Stable,
    /// It is the release before: a rollback that somebody asks for starts it.
    Previous,
}

/// The releases whose images a target needs; those that Switchback has not deployed are unknown.
pub fn needed(state: &TargetState) -> impl Iterator<Item = (ImageUse, &ReleaseRef)> {
    let sides = [(ImageUse::Stable, &state.stable), (ImageUse::Previous, &state.previous)];
    sides.into_iter().filter_map(|(needed, side)| Some((needed, side.as_ref()?.release.as_ref()?)))
}

/// Judges whether the registry has these images; the worst finding comes first.
#[must_use]
pub fn judge(way: Way, images: &[(ImageUse, ReleaseRef, Reading<ImageState>)]) -> Vec<Finding> {
    let mut findings = Findings::default();
    for (needed, release, state) in images {
        let subject = format!("image of {}", release.tag);
        let Some(state) = findings.known(&subject, state) else { continue };
        let what = match state {
            ImageState::Present => continue,
            ImageState::Archived => "archived",
            ImageState::Gone => "gone from the registry",
        };
        let remedy = match state {
            ImageState::Archived => "restore it, and let the repository's lifecycle rule keep it",
            _ => {
                "push it again under the same digest, or deploy another release; let the lifecycle rule keep what runs"
            }
        };
        match needed {
            ImageUse::Stable => {
                let rollback = match way {
                    Way::Weighted => "",
                    Way::InPlace => ", and no deployment can be taken back to it",
                };
                let problem = format!(
                    "it is {what}, and the release is live: no task can be started anew, so that it neither scales out \
                     nor replaces a task that stops{rollback}"
                );
                findings.broken("image_of_stable_missing", &subject, problem, remedy);
            }
            ImageUse::Previous => {
                let problem = format!("it is {what}: `switchback rollback` has nowhere to go");
                findings.risky("image_of_previous_missing", &subject, problem, remedy);
            }
        }
    }
    let mut found = findings.0;
    found.sort_by_key(|finding| finding.severity);
    found
}
