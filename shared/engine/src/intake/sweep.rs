//! The sweep: finds targets whose wake was lost and pushes whose event never arrived.
//!
//! Runs every minute and is cheap: one query for overdue targets, one for the applications' names. Comparing with the registry
//! costs a policy read and one listing per repository, so each application has its turn only every few minutes, derived from its
//! name; the minute is taken from the schedule, so that no turn is skipped.

use super::IntakeLedger;
use super::push::{NotDeployedReason, ObservedImage, PushOutcome, RELEASES_READ, is_image, log_outcome, record};
use crate::measure;
use crate::ports::{
    AppliedPolicy, Clock, Commands, ImageRegistry, OverdueTarget, PushedImage, ReleaseIntake, Releases, TagInventory,
    TargetIndex, Wake, WakeQueue,
};
use futures::stream::{self, StreamExt as _};
use rollout::policy::{RegistryPolicy, ServicePolicy};
use rollout::text::error_chain;
use rollout::{ImageDigest, Name, Release, Seconds, TargetId, Timestamp};
use std::collections::BTreeSet;

/// How far back images are searched by push time: long enough to cover an outage over a weekend. An older image counts only if
/// its tag was absent in the previous comparison.
pub const LOOK_BACK: Seconds = Seconds(2 * 24 * 3600);

/// Maximum number of tags remembered between two comparisons, those of the images pushed last: 20 bytes each, in an item of 400
/// KB. A tag put on an older image is found only through its event.
pub const MAX_TAGS: usize = 10_000;

/// Maximum number of targets woken by one sweep, the most overdue first; the next sweep, a minute later, wakes the others.
pub const MAX_WOKEN: usize = 500;

/// Maximum number of missed images of one service that one sweep turns into releases, the newest first.
pub const MAX_MISSED: usize = 50;

/// Wakes sent concurrently.
pub(super) const SENDS_AT_ONCE: usize = 16;

/// Applications compared with their registry concurrently.
const APPLICATIONS_AT_ONCE: usize = 4;

/// Identifies a sweep.
#[derive(Debug, Clone, Copy)]
pub struct Sweep {
    /// The scheduled minute, counted from 1970.
    pub minute: u64,
    /// Each application is compared with its registry every this many minutes; 0 counts as 1.
    pub every: u64,
    /// No application's turn starts after this.
    pub until: Timestamp,
}

impl Sweep {
    /// Whether this is the sweep that compares `application` with its registry.
    #[must_use]
    pub fn is_turn_of(&self, application: &Name) -> bool {
        let every = self.every.max(1);
        let name = application.as_str().bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        name % every == self.minute % every
    }
}

/// Result of a sweep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "a sweep that had trouble says so only here"]
pub struct SweepReport {
    /// Overdue targets that were woken.
    pub woken: Vec<TargetId>,
    /// Number of overdue targets, counted up to [`MAX_WOKEN`] plus one.
    pub overdue: usize,
    /// Since when the most overdue of them is due.
    pub oldest: Option<Timestamp>,
    /// There were more than [`MAX_WOKEN`]; the next sweep handles the rest.
    pub truncated: bool,
    /// Number of idle targets that were woken for an observation.
    pub idle: usize,
    /// Images without a release, and the result of each: application, service, digest.
    pub missed: Vec<(Name, Name, ImageDigest, PushOutcome)>,
    /// Applications whose turn was skipped for lack of time.
    pub left: Vec<Name>,
    /// Failures as text for people; everything else was done nevertheless.
    pub problems: Vec<String>,
    /// The ledger did not answer, so the sweep failed.
    pub ledger_unavailable: bool,
}

/// Wakes overdue targets and processes pushes whose event was lost. Never fails as a whole: a failing repository is reported as a
/// problem, and the others are processed.
///
/// Tags are compared, not only push times: see `missed`. The whole registry is listed, since `DescribeImages` cannot filter by
/// time and guarantees no order: one call per 1,000 images, for each repository of an application, at its turn.
///
/// An image older than the service's newest release becomes a release without a deploy command, so that a late find never
/// replaces a newer release; of several finds only the newest is deployed. An image pushed before the current policy was applied
/// is not deployed either: its tag may have matched no rule then, or the service may have been paused.
pub async fn sweep<L: IntakeLedger, D: WakeQueue, R: ImageRegistry, K: Clock>(
    ledger: &L,
    wake_queue: &D,
    registry: &R,
    clock: &K,
    sweep: &Sweep,
) -> SweepReport {
    let now = clock.now();
    let mut report = SweepReport::default();
    wake_overdue(ledger, wake_queue, now, &mut report).await;
    if !report.ledger_unavailable {
        measure::OVERDUE_TARGETS.count(report.overdue);
        measure::OLDEST_OVERDUE.record(report.oldest.map_or(0.0, |since| now.duration_since(since).as_secs_f64()));
    }

    let applications = match ledger.applications().await {
        Ok(applications) => applications,
        Err(error) => {
            report.ledger_unavailable = true;
            report.problems.push(format!("the applications' names could not be read: {error}"));
            return report;
        }
    };
    let turns = applications.into_iter().filter(|application| sweep.is_turn_of(application));
    let parts: Vec<SweepReport> = stream::iter(turns)
        .map(|application| async move {
            if clock.now() < sweep.until {
                compare_with_registry(ledger, wake_queue, registry, &application, now, sweep).await
            } else {
                tracing::warn!(application = %application, "not compared with its registry: no time was left");
                SweepReport { left: vec![application], ..SweepReport::default() }
            }
        })
        .buffered(APPLICATIONS_AT_ONCE)
        .collect()
        .await;
    for part in parts {
        report.idle += part.idle;
        report.missed.extend(part.missed);
        report.left.extend(part.left);
        report.problems.extend(part.problems);
    }
    let is_deployed = |(_, _, _, outcome): &&(_, _, _, PushOutcome)| {
        matches!(outcome, PushOutcome::Requested { .. } | PushOutcome::RequestedAgain { .. })
    };
    measure::MISSED_PUSHES.count(report.missed.iter().filter(is_deployed).count());
    for problem in &report.problems {
        tracing::warn!(problem, "the sweep had trouble");
    }
    report
}

async fn wake_overdue<L: TargetIndex, D: WakeQueue>(
    ledger: &L,
    wake_queue: &D,
    now: Timestamp,
    report: &mut SweepReport,
) {
    // One more than is woken, to detect truncation.
    let mut overdue = match ledger.overdue(now, MAX_WOKEN + 1).await {
        Ok(overdue) => overdue,
        Err(error) => {
            report.ledger_unavailable = true;
            report.problems.push(format!("what is overdue could not be read: {error}"));
            return;
        }
    };
    report.overdue = overdue.len();
    report.oldest = overdue.first().map(|due| due.since);
    if overdue.len() > MAX_WOKEN {
        report.truncated = true;
        tracing::warn!(woken = MAX_WOKEN, "more targets are overdue than one sweep wakes: the rest waits a minute");
        overdue.truncate(MAX_WOKEN);
    }
    let wakes: Vec<_> = stream::iter(overdue)
        .map(|OverdueTarget { since, target }| async move {
            let woken = wake_queue.send(&Wake::of(target.clone()).overdue(), Seconds(0)).await;
            (target, since, woken)
        })
        .buffered(SENDS_AT_ONCE)
        .collect()
        .await;
    for (target, since, woken) in wakes {
        match woken {
            Ok(()) => {
                tracing::info!(target_id = %target, %since, "was overdue, and is woken");
                report.woken.push(target);
            }
            Err(reason) => report.problems.push(format!("{target} is overdue and could not be woken: {reason}")),
        }
    }
}

/// The turn of one application.
async fn compare_with_registry<L: IntakeLedger, D: WakeQueue, R: ImageRegistry>(
    ledger: &L,
    wake_queue: &D,
    registry: &R,
    application: &Name,
    now: Timestamp,
    sweep: &Sweep,
) -> SweepReport {
    let mut report = SweepReport::default();
    let applied = match ledger.policy(application).await {
        Ok(Some(applied)) => applied,
        Ok(None) => return report,
        Err(error) => {
            report.problems.push(format!("the policy of {application} could not be read: {error}"));
            return report;
        }
    };
    let (idle, problems) = super::idle::wake_idle_targets(wake_queue, &applied, sweep).await;
    report.idle = idle;
    report.problems.extend(problems);
    let repositories: BTreeSet<(&RegistryPolicy, &str)> =
        applied.policy.services.values().map(|service| (&service.registry, service.repository.as_str())).collect();
    for (from, repository) in repositories {
        let images = match registry.images(from, repository).await {
            Ok(images) => images,
            Err(reason) => {
                report.problems.push(format!("repository {repository} of {application} could not be listed: {reason}"));
                continue;
            }
        };
        let of_it = |rules: &ServicePolicy| rules.repository == repository && &rules.registry == from;
        for (service, rules) in applied.policy.services.iter().filter(|(_, rules)| of_it(rules)) {
            let found = missed(ledger, wake_queue, &applied, service, rules, &images, now).await;
            match found {
                Ok(found) => report.missed.extend(found),
                Err(error) => {
                    let error = error_chain(&error);
                    let problem = format!("missed images of {application}/{service} could not be taken in: {error}");
                    report.problems.push(problem);
                }
            }
        }
    }
    report
}

/// Processes those of `images` whose tag should be a release of `service` and is none, the newest first: if the sweep dies half
/// way, the remaining ones are older than what is recorded and are not deployed.
///
/// A tag is considered if its image was pushed within [`LOOK_BACK`], or if it was absent in the previous comparison: an image
/// built on Monday and given its version on Thursday has Monday's push time (`imagePushedAt` is the image's, not the tag's).
async fn missed<L: Commands + ReleaseIntake + Releases, D: WakeQueue>(
    ledger: &L,
    wake_queue: &D,
    applied: &AppliedPolicy,
    service: &Name,
    rules: &ServicePolicy,
    images: &[PushedImage],
    now: Timestamp,
) -> Result<Vec<(Name, Name, ImageDigest, PushOutcome)>, super::IntakeError> {
    let application = &applied.policy.application;
    let reading = || super::IntakeError::ledger(format!("reading the releases of {application}/{service}"));
    let source = format!("{}/{}", serde_json::json!(rules.registry), rules.repository);
    let before = ledger.tag_inventory(application, service).await.map_err(reading())?;
    let before = before.filter(|before| before.source == source);
    let current_tags = current_tags(source, images, now);

    let mut found = Vec::new();
    let mut observed_images = observed_images(rules, images, before.as_ref(), now);
    if !observed_images.is_empty() {
        let releases = ledger.releases(application, service, RELEASES_READ).await.map_err(reading())?;
        // Usually every tag is known.
        observed_images.retain(|observed| !all_tags_known(&releases, observed));
        observed_images.sort_by(|a, b| (b.not_before, b.at, &b.digest).cmp(&(a.not_before, a.at, &a.digest)));
        observed_images.truncate(MAX_MISSED);
    }
    let mut newest: Option<(String, Timestamp)> = None;
    for observed in &observed_images {
        let not_deployed = match &newest {
            // Also covers images of the same second.
            Some((by, pushed_at)) => Some(NotDeployedReason::Superseded { by: by.clone(), pushed_at: *pushed_at }),
            // Registries report whole seconds: an image of the second in which the policy was applied counts as pushed after it.
            None => (observed.not_before.as_second() < applied.at.as_second())
                .then_some(NotDeployedReason::BeforePolicy { applied_at: applied.at }),
        };
        let outcome = record(ledger, wake_queue, applied, service, rules, observed, not_deployed).await?;
        if outcome == PushOutcome::Known {
            continue;
        }
        let tag = observed.tags.first().map_or("", String::as_str);
        log_outcome(application, service, (&rules.repository, &observed.digest, tag), &outcome);
        if !matches!(outcome, PushOutcome::Tagged { not_deployed: None, .. }) && newest.is_none() {
            newest = Some((tag.to_owned(), observed.at));
        }
        found.push((application.clone(), service.clone(), observed.digest.clone(), outcome));
    }
    // Last: a tag that could not be recorded must also be absent in the next comparison.
    let same = |before: &TagInventory| before.tags == current_tags.tags && before.since == current_tags.since;
    if !before.as_ref().is_some_and(|before| same(before) && before.at >= applied.at) {
        let writing = super::IntakeError::ledger(format!("writing the tags of {application}/{service}"));
        ledger.put_tag_inventory(application, service, &current_tags).await.map_err(writing)?;
    }
    Ok(found)
}

/// Whether the releases that were read have all of these tags, and no other release got one of them later.
fn all_tags_known(releases: &[Release], observed: &ObservedImage) -> bool {
    observed.tags.iter().all(|tag| {
        rollout::release::latest_with_tag(releases, tag).is_some_and(|release| release.id.digest == observed.digest)
    })
}

/// The images to consider whose tags match the service's rule.
fn observed_images(
    rules: &ServicePolicy,
    images: &[PushedImage],
    before: Option<&TagInventory>,
    now: Timestamp,
) -> Vec<ObservedImage> {
    let look_back = now.saturating_sub(rollout::SignedDuration::from_secs(LOOK_BACK.0.cast_signed()));
    let Ok(recent) = look_back else { return Vec::new() };
    let Ok(rule) = policy::tags::Matcher::new(&rules.tags) else { return Vec::new() };
    // A whole second, like the times in ECR events: this find must not seem later than an event of the same second.
    let seen_at = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let one = |image: &PushedImage| {
        let pushed_at = image.pushed_at.min(now);
        // A tag absent in the previous comparison was put there since, provided that comparison covered images of that age.
        let compared = before.filter(|before| before.since.is_none_or(|since| pushed_at >= since));
        let is_new = |tag: &String| compared.is_some_and(|before| !before.tags.contains(&tag_hash(&image.digest, tag)));
        let counts = |tag: &&String| {
            let looked_at = pushed_at >= recent || is_new(tag);
            looked_at && is_image(tag, image.artifact_media_type.as_deref()) && rule.matches(tag)
        };
        let tags: Vec<String> = image.tags.iter().filter(counts).cloned().collect();
        let since = compared.map(|before| before.at).filter(|_| tags.iter().any(is_new));
        // An image older than the previous comparison got the tag after it was pushed.
        let (at, not_before) = match since.filter(|since| *since > pushed_at) {
            Some(since) => (seen_at, since),
            None => (pushed_at, pushed_at),
        };
        let (repository_uri, digest) = (image.repository_uri.clone(), image.digest.clone());
        (!tags.is_empty()).then_some(ObservedImage { repository_uri, digest, tags, at, not_before })
    };
    images.iter().filter_map(one).collect()
}

/// The tags to remember until the next comparison.
fn current_tags(source: String, images: &[PushedImage], now: Timestamp) -> TagInventory {
    let mut newest: Vec<&PushedImage> = images.iter().collect();
    newest.sort_by(|a, b| (b.pushed_at, &b.digest).cmp(&(a.pushed_at, &a.digest)));
    let mut seen = TagInventory { source, at: now, since: None, tags: BTreeSet::new() };
    for (index, image) in newest.iter().enumerate() {
        if seen.tags.len() + image.tags.len() > MAX_TAGS {
            // All images of the same second or none: the next comparison compares times only.
            seen.since = index.checked_sub(1).and_then(|last| newest.get(last)).map(|last| last.pushed_at);
            seen.since = seen.since.max(Timestamp::from_second(image.pushed_at.as_second() + 1).ok());
            break;
        }
        seen.tags.extend(image.tags.iter().map(|tag| tag_hash(&image.digest, tag)));
    }
    seen
}

/// 64-bit FNV-1a over digest and tag. Must not change between versions: otherwise every tag would look new.
fn tag_hash(digest: &ImageDigest, tag: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    digest.as_str().bytes().chain([b' ']).chain(tag.bytes()).fold(0xcbf2_9ce4_8422_2325, step)
}
