//! What is to be deployed: immutable, by content.

use crate::names::{Name, ReleaseId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// An image that became deployable: pinned by digest, with where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Service and digest: the same content is the same release.
    pub id: ReleaseId,
    /// The image as a task definition names it: `registry/repository@sha256:…`.
    pub image: String,
    /// The most specific of `tags` ([`most_specific`]): what people see, never used to pull.
    pub tag: String,
    /// Every tag that the service's rule takes and that was seen on the image, and when it was last put there. A tag that
    /// has moved to another image since stays: the image whose time is the latest has it now.
    pub tags: BTreeMap<String, Timestamp>,
    /// When the registry says it was pushed.
    pub pushed_at: Timestamp,
    /// When a push (of the image, or of a tag that was moved onto it) last asked for its deployment; none: no push did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<Timestamp>,
    /// What is known of its making.
    pub provenance: Provenance,
}

impl Release {
    /// A release under its first tag, as its push shows it.
    #[must_use]
    pub fn new(id: ReleaseId, image: impl Into<String>, tag: impl Into<String>, pushed_at: Timestamp) -> Self {
        let tag = tag.into();
        let tags = BTreeMap::from([(tag.clone(), pushed_at)]);
        Self { id, image: image.into(), tag, tags, pushed_at, asked_at: None, provenance: Provenance::default() }
    }

    /// The service that it is a release of.
    #[must_use]
    pub fn service(&self) -> &Name {
        &self.id.service
    }

    /// Adds a tag that was put on the image at `seen_at`; a later time replaces an earlier one.
    pub fn add_tag(&mut self, tag: impl Into<String>, seen_at: Timestamp) {
        let at = self.tags.entry(tag.into()).or_insert(seen_at);
        *at = (*at).max(seen_at);
        if let Some(tag) = most_specific(&self.tags) {
            self.tag = tag.to_owned();
        }
    }

    /// Takes over what `other`, a record of the same image, knows beyond this one: its tags, and that it was asked for.
    /// In whichever order records are merged, the result is the same.
    pub fn merge(&mut self, other: &Self) {
        for (tag, seen_at) in &other.tags {
            self.add_tag(tag.clone(), *seen_at);
        }
        self.asked_at = self.asked_at.max(other.asked_at);
    }

    /// When the image was first seen.
    #[must_use]
    pub fn first_seen_at(&self) -> Timestamp {
        self.tags.values().copied().min().map_or(self.pushed_at, |seen| seen.min(self.pushed_at))
    }
}

/// Of several releases, the one that a tag names now: where it was put last.
pub fn tagged<'r>(releases: impl IntoIterator<Item = &'r Release>, tag: &str) -> Option<&'r Release> {
    let having = releases.into_iter().filter_map(|release| Some((release.tags.get(tag)?, release)));
    having.max_by_key(|(seen_at, _)| **seen_at).map(|(_, release)| release)
}

/// The tag that says most about an image: the version with the most numbers (`v1.4.0` before `v1.4` before `v1` before
/// `latest`); of those, the one that was put there last (a version that was given anew), then the higher one. Of tags
/// that are no versions, the longest (`main-3f2a1bc` before `main`): those come together, and in any order.
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

/// The numbers that a version begins with: 1, 4, 0 of `v1.4.0-rc.1`; none of `latest` or `3f2a1bc`.
fn numbers(tag: &str) -> Vec<u64> {
    let version = tag.strip_prefix('v').unwrap_or(tag);
    let core = version.split(['-', '+', '_']).next().unwrap_or_default();
    core.split('.').map(str::parse).collect::<Result<_, _>>().unwrap_or_default()
}

/// Where a release comes from, as far as it is known.
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
    fn the_most_specific_tag_is_shown_in_whatever_order_they_come() {
        let tags = [("v1", 1), ("v1.4", 2), ("v1.4.0", 3)];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let release = release(&order.map(|index| tags[index]));
            assert_eq!(release.tag, "v1.4.0", "{order:?}");
            assert_eq!(release.tags.len(), 3);
        }
    }

    #[test]
    fn a_version_is_more_than_a_name_and_a_new_one_more_than_an_old_one() {
        assert_eq!(release(&[("latest", 9), ("v1", 1)]).tag, "v1");
        assert_eq!(release(&[("v1.0.1", 1), ("v1.0.3", 9), ("v1.0.2", 5)]).tag, "v1.0.3");
        assert_eq!(release(&[("v2.0.0-rc.1", 1), ("v2.0.0", 2)]).tag, "v2.0.0");
        assert_eq!(release(&[("main-3f2a1bc", 1), ("main", 2)]).tag, "main-3f2a1bc");
        assert_eq!(release(&[("2026.01.05", 1), ("2026.01", 2)]).tag, "2026.01.05");
    }

    #[test]
    fn records_merge_the_same_way_in_either_order() {
        let mut early = release(&[("v1", 1)]);
        early.asked_at = Some(at(1));
        let late = release(&[("v1.4.0", 3), ("v1", 7)]);
        let (mut one, mut other) = (early.clone(), late.clone());
        one.merge(&late);
        other.merge(&early);
        assert_eq!((&one.tag, &one.tags, one.asked_at), (&other.tag, &other.tags, other.asked_at));
        assert_eq!(one.tags["v1"], at(7));
        let same = one.clone();
        one.merge(&early);
        assert_eq!(one, same);
    }

    #[test]
    fn a_tag_names_the_release_that_it_was_put_on_last() {
        let older = release(&[("v1.0.1", 1), ("v1.0.3", 9)]);
        let newer = release(&[("v1.0.3", 5)]);
        assert_eq!(tagged([&newer, &older], "v1.0.3"), Some(&older));
        assert_eq!(tagged([&newer, &older], "v9"), None);
    }
}
