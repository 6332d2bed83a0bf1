//! Releases: what is deployed, immutable and identified by content.

use crate::names::{Name, ReleaseId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A deployable image: pinned by digest, with its provenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Service and digest: the same content is the same release.
    pub id: ReleaseId,
    /// The image as a task definition names it: `registry/repository@sha256:…`.
    pub image: String,
    /// The most specific of `tags` ([`most_specific`]): shown to people, never used to pull.
    pub tag: String,
    /// Every tag of the image that the service's rule matches, with the time it was last put on the image. A tag that
    /// has since moved to another image is kept: the image with the latest time has it now.
    pub tags: BTreeMap<String, Timestamp>,
    /// When the image was pushed, according to the registry.
    pub pushed_at: Timestamp,
    /// When a push (of the image, or of a tag that was moved onto it) last requested its deployment; none: no push did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<Timestamp>,
    /// What is known about its build.
    pub provenance: Provenance,
}

impl Release {
    /// A release with its first tag, from its push.
    #[must_use]
    pub fn new(id: ReleaseId, image: impl Into<String>, tag: impl Into<String>, pushed_at: Timestamp) -> Self {
        let tag = tag.into();
        let tags = BTreeMap::from([(tag.clone(), pushed_at)]);
        Self { id, image: image.into(), tag, tags, pushed_at, requested_at: None, provenance: Provenance::default() }
    }

    /// The service that it is a release of.
    #[must_use]
    pub fn service(&self) -> &Name {
        &self.id.service
    }

    /// Adds a tag that was put on the image at `seen_at`; the later time wins.
    pub fn add_tag(&mut self, tag: impl Into<String>, seen_at: Timestamp) {
        let at = self.tags.entry(tag.into()).or_insert(seen_at);
        *at = (*at).max(seen_at);
        if let Some(tag) = most_specific(&self.tags) {
            self.tag = tag.to_owned();
        }
    }

    /// Merges `other`, a record of the same image: its tags, and the time of its last request. The result does not
    /// depend on the order in which records are merged.
    pub fn merge(&mut self, other: &Self) {
        for (tag, seen_at) in &other.tags {
            self.add_tag(tag.clone(), *seen_at);
        }
        self.requested_at = self.requested_at.max(other.requested_at);
    }

    /// When the image was first seen.
    #[must_use]
    pub fn first_seen_at(&self) -> Timestamp {
        self.tags.values().copied().min().map_or(self.pushed_at, |seen| seen.min(self.pushed_at))
    }
}

/// The release that a tag names now: the one it was put on last.
pub fn latest_with_tag<'r>(releases: impl IntoIterator<Item = &'r Release>, tag: &str) -> Option<&'r Release> {
    let having = releases.into_iter().filter_map(|release| Some((release.tags.get(tag)?, release)));
    having.max_by_key(|(seen_at, _)| **seen_at).map(|(_, release)| release)
}

/// The most informative tag of an image: the version with the most numbers (`v1.4.0` before `v1.4` before `v1` before
/// `latest`); of those, the one that was put there last (a version that was pushed again), then the higher one. Of tags
/// that are not versions, the longest (`main-3f2a1bc` before `main`): those of one build arrive together, in any order.
#[must_use]
pub fn most_specific(tags: &BTreeMap<String, Timestamp>) -> Option<&str> {
    let more = |(a, a_seen): &(&String, &Timestamp), (b, b_seen): &(&String, &Timestamp)| {
        let (of_a, of_b) = (numbers(a), numbers(b));
        let recent = if of_a.is_empty() { Ordering::Equal } else { a_seen.cmp(b_seen) };
        let by_count = of_a.len().cmp(&of_b.len());
        by_count.then(recent).then(of_a.cmp(&of_b)).then(a.len().cmp(&b.len())).then(a.cmp(b))
    };
    tags.iter().max_by(more).map(|(tag, _)| tag.as_str())
}

/// The leading numbers of a version: 1, 4, 0 of `v1.4.0-rc.1`; none of `latest` or `3f2a1bc`.
fn numbers(tag: &str) -> Vec<u64> {
    let version = tag.strip_prefix('v').unwrap_or(tag);
    let core = version.split(['-', '+', '_']).next().unwrap_or_default();
    core.split('.').map(str::parse).collect::<Result<_, _>>().unwrap_or_default()
}

/// The origin of a release, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provenance {
    /// The commit that it was built from.
    pub commit: Option<String>,
    /// The branch or tag that it was built from.
    pub git_ref: Option<String>,
    /// The CI run that built it.
    pub run: Option<String>,
    /// Who started that run.
    pub actor: Option<String>,
}

/// A release as it is stored with a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRef {
    /// Service and digest.
    pub id: ReleaseId,
    /// The image as a task definition names it.
    pub image: String,
    /// The tag to show to people.
    pub tag: String,
    /// When it was pushed, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).expect("a time")
    }

    fn release(tags: &[(&str, i64)]) -> Release {
        let id = ReleaseId::parse(&format!("shop/api@sha256:{}", "a".repeat(64))).expect("a release");
        let (first, second) = tags[0];
        let mut release = Release::new(id, "registry/shop/api", first, at(second));
        tags.iter().for_each(|(tag, second)| release.add_tag(*tag, at(*second)));
        release
    }

    /// Issue 10, case 10: one build pushes `v1`, `v1.4`, `v1.4.0`, in any order.
    #[test]
    fn the_most_specific_tag_is_shown_in_any_push_order() {
        let tags = [("v1", 1), ("v1.4", 2), ("v1.4.0", 3)];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let release = release(&order.map(|index| tags[index]));
            assert_eq!(release.tag, "v1.4.0", "{order:?}");
            assert_eq!(release.tags.len(), 3);
        }
    }

    #[test]
    fn versions_rank_above_names_and_newer_above_older() {
        assert_eq!(release(&[("latest", 9), ("v1", 1)]).tag, "v1");
        assert_eq!(release(&[("v1.0.1", 1), ("v1.0.3", 9), ("v1.0.2", 5)]).tag, "v1.0.3");
        assert_eq!(release(&[("v2.0.0-rc.1", 1), ("v2.0.0", 2)]).tag, "v2.0.0");
        assert_eq!(release(&[("main-3f2a1bc", 1), ("main", 2)]).tag, "main-3f2a1bc");
        assert_eq!(release(&[("2026.01.05", 1), ("2026.01", 2)]).tag, "2026.01.05");
    }

    #[test]
    fn merging_release_records_is_commutative() {
        let mut early = release(&[("v1", 1)]);
        early.requested_at = Some(at(1));
        let late = release(&[("v1.4.0", 3), ("v1", 7)]);
        let (mut one, mut other) = (early.clone(), late.clone());
        one.merge(&late);
        other.merge(&early);
        assert_eq!((&one.tag, &one.tags, one.requested_at), (&other.tag, &other.tags, other.requested_at));
        assert_eq!(one.tags["v1"], at(7));
        let same = one.clone();
        one.merge(&early);
        assert_eq!(one, same);
    }

    #[test]
    fn a_tag_resolves_to_the_release_it_was_moved_to_last() {
        let older = release(&[("v1.0.1", 1), ("v1.0.3", 9)]);
        let newer = release(&[("v1.0.3", 5)]);
        assert_eq!(latest_with_tag([&newer, &older], "v1.0.3"), Some(&older));
        assert_eq!(latest_with_tag([&newer, &older], "v9"), None);
    }
}
