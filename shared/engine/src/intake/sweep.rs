//! What nobody told: targets whose wake was lost, pushes whose event never came.
//!
//! Runs every minute, and a minute is cheap: one question for what is overdue, one for the applications' names. The
//! comparison with the registry costs a policy and a listing for each repository, so each application has its turn only
//! every few minutes, by its name; which minute a sweep is comes from its schedule, so that no turn is left out.

use super::push::{RELEASES_READ, Sighting, Taken, Unasked, is_image, record, tell};
use crate::measure;
use crate::ports::{Applied, Clock, Ledger, Overdue, PushedImage, Registry, TagsSeen, Wake, WakeQueue};
use futures::stream::{self, StreamExt as _};
use rollout::policy::{RegistryPolicy, ServicePolicy};
use rollout::{ImageDigest, Name, Release, Seconds, TargetId, Timestamp};
use std::collections::BTreeSet;

/// How far back images are looked for by the time of their push: long enough for a weekend's outage to be found. What is
/// older counts only if its tag was not there at the comparison before.
pub const LOOK_BACK: Seconds = Seconds(2 * 24 * 3600);

/// Tags that are remembered from one comparison to the next, at most, those of the images that were pushed last: 20 bytes
/// each, in an item of 400 KB. A tag that is put on an older image is found by its event alone.
pub const MOST_TAGS: usize = 10_000;

/// Targets woken by one sweep, at most. The most overdue come first, the others in the next minute.
pub const MOST_WOKEN: usize = 500;

/// Missed images of one service that one sweep makes releases of, at most; the newest ones come first.
pub const MOST_MISSED: usize = 50;

/// Rings at the same time.
pub(super) const SENDS_AT_ONCE: usize = 16;

/// Applications compared with their registry at the same time.
const APPLICATIONS_AT_ONCE: usize = 4;

/// Which sweep it is.
#[derive(Debug, Clone, Copy)]
pub struct Sweep {
    /// Minutes since 1970 that the schedule says it is.
    pub minute: u64,
    /// Each application has its turn at the registry every so many minutes; 0 counts as 1.
    pub every: u64,
    /// No application's turn begins after this.
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

/// What a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "a sweep that had trouble says so only here"]
pub struct Swept {
    /// Overdue targets that were woken.
    pub woken: Vec<TargetId>,
    /// How many were overdue, as far as they were counted: one more than [`MOST_WOKEN`] at most.
    pub overdue: usize,
    /// Since when the most overdue of them is.
    pub oldest: Option<Timestamp>,
    /// There were more than [`MOST_WOKEN`]: the rest is for the next sweep.
    pub cut: bool,
    /// How many targets were woken to be looked at although nothing is deployed to them.
    pub at_rest: usize,
    /// Images without a release, and what became of them: application, service, digest.
    pub missed: Vec<(Name, Name, ImageDigest, Taken)>,
    /// Applications whose turn it was, and for which the time did not suffice.
    pub left: Vec<Name>,
    /// What did not work, for people; everything else was done all the same.
    pub problems: Vec<String>,
    /// The ledger itself did not answer: the sweep is not worth its name.
    pub blind: bool,
}

/// Wakes what is overdue, and takes in what was pushed without anybody telling. Never fails as a whole:
/// what one repository refuses is a problem on record, and the others have their turn.
///
/// Tags are compared, and not only times of push: see `missed`. The registry is read whole, since `DescribeImages` filters by
/// no time and promises no order: a call for each 1,000 images, for each repository of an application, at its turn.
///
/// An image older than the service's newest release becomes a release and asks for nothing, so a late find never goes
/// over what is newer; of several finds only the newest asks. What was pushed before the policy that stands was applied
/// asks for nothing either: its tag may have meant nothing, or the service may have been paused.
pub async fn sweep<L: Ledger, D: WakeQueue, R: Registry, K: Clock>(
    ledger: &L,
    wake_queue: &D,
    registry: &R,
    clock: &K,
    sweep: &Sweep,
) -> Swept {
    let now = clock.now();
    let mut swept = Swept::default();
    wake_overdue(ledger, wake_queue, now, &mut swept).await;
    if !swept.blind {
        measure::OVERDUE_TARGETS.count(swept.overdue);
        measure::OLDEST_OVERDUE.is(swept.oldest.map_or(0.0, |since| now.duration_since(since).as_secs_f64()));
    }

    let applications = match ledger.applications().await {
        Ok(applications) => applications,
        Err(error) => {
            swept.blind = true;
            swept.problems.push(format!("the applications' names could not be read: {error}"));
            return swept;
        }
    };
    let turns = applications.into_iter().filter(|application| sweep.is_turn_of(application));
    let parts: Vec<Swept> = stream::iter(turns)
        .map(|application| async move {
            if clock.now() < sweep.until {
                compare(ledger, wake_queue, registry, &application, now, sweep).await
            } else {
                tracing::warn!(application = %application, "not compared with its registry: no time was left");
                Swept { left: vec![application], ..Swept::default() }
            }
        })
        .buffered(APPLICATIONS_AT_ONCE)
        .collect()
        .await;
    for part in parts {
        swept.at_rest += part.at_rest;
        swept.missed.extend(part.missed);
        swept.left.extend(part.left);
        swept.problems.extend(part.problems);
    }
    let is_deployed =
        |(_, _, _, taken): &&(_, _, _, Taken)| matches!(taken, Taken::Asked { .. } | Taken::AskedAnew { .. });
    measure::MISSED_PUSHES.count(swept.missed.iter().filter(is_deployed).count());
    for problem in &swept.problems {
        tracing::warn!(problem, "the sweep had trouble");
    }
    swept
}

async fn wake_overdue<L: Ledger, D: WakeQueue>(ledger: &L, wake_queue: &D, now: Timestamp, swept: &mut Swept) {
    // One more than is woken, to know whether that was all.
    let mut overdue = match ledger.overdue(now, MOST_WOKEN + 1).await {
        Ok(overdue) => overdue,
        Err(error) => {
            swept.blind = true;
            swept.problems.push(format!("what is overdue could not be read: {error}"));
            return;
        }
    };
    swept.overdue = overdue.len();
    swept.oldest = overdue.first().map(|due| due.since);
    if overdue.len() > MOST_WOKEN {
        swept.cut = true;
        tracing::warn!(woken = MOST_WOKEN, "more targets are overdue than one sweep wakes: the rest waits a minute");
        overdue.truncate(MOST_WOKEN);
    }
    let wakes: Vec<_> = stream::iter(overdue)
        .map(|Overdue { since, target }| async move {
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
                swept.woken.push(target);
            }
            Err(reason) => swept.problems.push(format!("{target} is overdue and could not be woken: {reason}")),
        }
    }
}

/// One application's turn.
async fn compare<L: Ledger, D: WakeQueue, R: Registry>(
    ledger: &L,
    wake_queue: &D,
    registry: &R,
    application: &Name,
    now: Timestamp,
    sweep: &Sweep,
) -> Swept {
    let mut swept = Swept::default();
    let applied = match ledger.policy(application).await {
        Ok(Some(applied)) => applied,
        Ok(None) => return swept,
        Err(error) => {
            swept.problems.push(format!("the policy of {application} could not be read: {error}"));
            return swept;
        }
    };
    let (at_rest, problems) = super::rest::wake_at_rest(wake_queue, &applied, sweep).await;
    swept.at_rest = at_rest;
    swept.problems.extend(problems);
    let repositories: BTreeSet<(&RegistryPolicy, &str)> =
        applied.policy.services.values().map(|service| (&service.registry, service.repository.as_str())).collect();
    for (from, repository) in repositories {
        let images = match registry.images(from, repository).await {
            Ok(images) => images,
            Err(reason) => {
                swept.problems.push(format!("repository {repository} of {application} could not be listed: {reason}"));
                continue;
            }
        };
        let of_it = |rules: &ServicePolicy| rules.repository == repository && &rules.registry == from;
        for (service, rules) in applied.policy.services.iter().filter(|(_, rules)| of_it(rules)) {
            let found = missed(ledger, wake_queue, &applied, service, rules, &images, now).await;
            match found {
                Ok(found) => swept.missed.extend(found),
                Err(error) => swept
                    .problems
                    .push(format!("missed images of {application}/{service} could not be taken in: {}", chain(&error))),
            }
        }
    }
    swept
}

/// Takes in what of `images` has a tag that should be a release's of `service` and is none's, the newest first: if the sweep
/// dies half way, what is left over is older than what is recorded, and asks for nothing.
///
/// A tag is looked at if its image was pushed within [`LOOK_BACK`], or if it was not there at the comparison before: an image
/// that was built on Monday and got its version on Thursday has Monday's time of push (`imagePushedAt` is the image's, not
/// the tag's).
async fn missed<L: Ledger, D: WakeQueue>(
    ledger: &L,
    wake_queue: &D,
    applied: &Applied,
    service: &Name,
    rules: &ServicePolicy,
    images: &[PushedImage],
    now: Timestamp,
) -> Result<Vec<(Name, Name, ImageDigest, Taken)>, super::IntakeError> {
    let application = &applied.policy.application;
    let reading = || super::IntakeError::ledger(format!("reading the releases of {application}/{service}"));
    let source = format!("{}/{}", serde_json::json!(rules.registry), rules.repository);
    let before = ledger.tags_seen(application, service).await.map_err(reading())?;
    let before = before.filter(|before| before.source == source);
    let inventory = inventory(source, images, now);

    let mut found = Vec::new();
    let mut sightings = sightings(rules, images, before.as_ref(), now);
    if !sightings.is_empty() {
        let releases = ledger.releases(application, service, RELEASES_READ).await.map_err(reading())?;
        // Mostly every tag is known.
        sightings.retain(|sighting| !knows(&releases, sighting));
        sightings.sort_by(|a, b| (b.not_before, b.at, &b.digest).cmp(&(a.not_before, a.at, &a.digest)));
        sightings.truncate(MOST_MISSED);
    }
    let mut newest: Option<(String, Timestamp)> = None;
    for sighting in &sightings {
        let unasked = match &newest {
            // Said here too, for images of one and the same second.
            Some((by, pushed_at)) => Some(Unasked::Superseded { by: by.clone(), pushed_at: *pushed_at }),
            // Registries tell whole seconds: an image of the second in which the policy was applied came after it.
            None => (sighting.not_before.as_second() < applied.at.as_second())
                .then_some(Unasked::BeforePolicy { applied_at: applied.at }),
        };
        let taken = record(ledger, wake_queue, applied, service, rules, sighting, unasked).await?;
        if taken == Taken::Known {
            continue;
        }
        let tag = sighting.tags.first().map_or("", String::as_str);
        tell(application, service, (&rules.repository, &sighting.digest, tag), &taken);
        if !matches!(taken, Taken::Tagged { unasked: None, .. }) && newest.is_none() {
            newest = Some((tag.to_owned(), sighting.at));
        }
        found.push((application.clone(), service.clone(), sighting.digest.clone(), taken));
    }
    // Last: what could not be recorded is not there at the next comparison either.
    let same = |before: &TagsSeen| before.tags == inventory.tags && before.since == inventory.since;
    if !before.as_ref().is_some_and(|before| same(before) && before.at >= applied.at) {
        let writing = super::IntakeError::ledger(format!("writing the tags of {application}/{service}"));
        ledger.put_tags_seen(application, service, &inventory).await.map_err(writing)?;
    }
    Ok(found)
}

/// Whether the releases that were read have all of this already, and nobody has a tag of it that was put there later.
fn knows(releases: &[Release], sighting: &Sighting) -> bool {
    sighting
        .tags
        .iter()
        .all(|tag| rollout::release::tagged(releases, tag).is_some_and(|release| release.id.digest == sighting.digest))
}

/// The images with tags that the service's rule takes and that are worth a look.
fn sightings(
    rules: &ServicePolicy,
    images: &[PushedImage],
    before: Option<&TagsSeen>,
    now: Timestamp,
) -> Vec<Sighting> {
    let look_back = now.saturating_sub(rollout::SignedDuration::from_secs(LOOK_BACK.0.cast_signed()));
    let Ok(recent) = look_back else { return Vec::new() };
    let Ok(rule) = policy::tags::Matcher::new(&rules.tags) else { return Vec::new() };
    // A whole second, as ECR's events have it: what is seen here is not to look later than an event of the same second.
    let seen_at = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let one = |image: &PushedImage| {
        let pushed_at = image.pushed_at.min(now);
        // What the comparison before has not seen was put there since, if it looked at images of that age at all.
        let compared = before.filter(|before| before.since.is_none_or(|since| pushed_at >= since));
        let is_new = |tag: &String| compared.is_some_and(|before| !before.tags.contains(&mark(&image.digest, tag)));
        let counts = |tag: &&String| {
            let looked_at = pushed_at >= recent || is_new(tag);
            looked_at && is_image(tag, image.artifact_media_type.as_deref()) && rule.matches(tag)
        };
        let tags: Vec<String> = image.tags.iter().filter(counts).cloned().collect();
        let since = compared.map(|before| before.at).filter(|_| tags.iter().any(is_new));
        // An image that is older than the comparison before got the tag later than it was pushed.
        let (at, not_before) = match since.filter(|since| *since > pushed_at) {
            Some(since) => (seen_at, since),
            None => (pushed_at, pushed_at),
        };
        let (repository_uri, digest) = (image.repository_uri.clone(), image.digest.clone());
        (!tags.is_empty()).then_some(Sighting { repository_uri, digest, tags, at, not_before })
    };
    images.iter().filter_map(one).collect()
}

/// What is to be remembered until the next comparison.
fn inventory(source: String, images: &[PushedImage], now: Timestamp) -> TagsSeen {
    let mut newest: Vec<&PushedImage> = images.iter().collect();
    newest.sort_by(|a, b| (b.pushed_at, &b.digest).cmp(&(a.pushed_at, &a.digest)));
    let mut seen = TagsSeen { source, at: now, since: None, tags: BTreeSet::new() };
    for (index, image) in newest.iter().enumerate() {
        if seen.tags.len() + image.tags.len() > MOST_TAGS {
            // Of images of one second all or none: the next comparison looks at the time alone.
            seen.since = index.checked_sub(1).and_then(|last| newest.get(last)).map(|last| last.pushed_at);
            seen.since = seen.since.max(Timestamp::from_second(image.pushed_at.as_second() + 1).ok());
            break;
        }
        seen.tags.extend(image.tags.iter().map(|tag| mark(&image.digest, tag)));
    }
    seen
}

/// FNV-1a of 64 bits over digest and tag. The same in every version: another one would take every tag for a new one.
fn mark(digest: &ImageDigest, tag: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    digest.as_str().bytes().chain([b' ']).chain(tag.bytes()).fold(0xcbf2_9ce4_8422_2325, step)
}

/// An error and its sources, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
