//! What nobody told: targets whose wake was lost, pushes whose event never came.
//!
//! Runs every minute, and a minute is cheap: one question for what is overdue, one for the applications' names. The
//! comparison with the registry costs a policy and a listing for each repository, so each application has its turn only
//! every few minutes, by its name; which minute a sweep is comes from its schedule, so that no turn is left out.

use super::push::{ImagePushed, Taken, Unasked, is_image, record, tell};
use crate::measure;
use crate::ports::{Applied, Clock, Doorbell, Ledger, Overdue, PushedImage, Registry, Ring};
use futures::stream::{self, StreamExt as _};
use rollout::policy::ServicePolicy;
use rollout::{ImageDigest, Name, Seconds, TargetId, Timestamp};
use std::collections::BTreeSet;

/// How far back the registry is compared with the ledger: long enough for a weekend's outage to be found, short
/// enough that a listing stays small. What is older was seen by nobody for two days, and is deployed by hand.
pub const LOOK_BACK: Seconds = Seconds(2 * 24 * 3600);

/// Targets woken by one sweep, at most. The most overdue come first, the others in the next minute.
pub const MOST_WOKEN: usize = 500;

/// Missed images of one service that one sweep makes releases of, at most; the newest ones come first.
pub const MOST_MISSED: usize = 50;

/// Releases of a service that are read at once, before each unknown image is asked for by its digest.
const RELEASES_READ: usize = 200;

/// Rings at the same time.
pub(super) const RINGS_AT_ONCE: usize = 16;

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
/// An image older than the service's newest release becomes a release and asks for nothing, so a late find never goes
/// over what is newer; of several finds only the newest asks. What was pushed before the policy that stands was applied
/// asks for nothing either: its tag may have meant nothing, or the service may have been paused.
pub async fn sweep<L: Ledger, D: Doorbell, R: Registry, K: Clock>(
    ledger: &L,
    doorbell: &D,
    registry: &R,
    clock: &K,
    sweep: &Sweep,
) -> Swept {
    let now = clock.now();
    let mut swept = Swept::default();
    wake_overdue(ledger, doorbell, now, &mut swept).await;
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
                compare(ledger, doorbell, registry, &application, now, sweep).await
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
    let is_deployed = |(_, _, _, taken): &&(_, _, _, Taken)| matches!(taken, Taken::Asked { .. });
    measure::MISSED_PUSHES.count(swept.missed.iter().filter(is_deployed).count());
    for problem in &swept.problems {
        tracing::warn!(problem, "the sweep had trouble");
    }
    swept
}

async fn wake_overdue<L: Ledger, D: Doorbell>(ledger: &L, doorbell: &D, now: Timestamp, swept: &mut Swept) {
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
    let rings: Vec<_> = stream::iter(overdue)
        .map(|Overdue { since, target }| async move {
            let rung = doorbell.ring(&Ring::wake(target.clone()), Seconds(0)).await;
            (target, since, rung)
        })
        .buffered(RINGS_AT_ONCE)
        .collect()
        .await;
    for (target, since, rung) in rings {
        match rung {
            Ok(()) => {
                tracing::info!(target_id = %target, %since, "was overdue, and is woken");
                swept.woken.push(target);
            }
            Err(reason) => swept.problems.push(format!("{target} is overdue and could not be woken: {reason}")),
        }
    }
}

/// One application's turn.
async fn compare<L: Ledger, D: Doorbell, R: Registry>(
    ledger: &L,
    doorbell: &D,
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
    let (at_rest, problems) = super::rest::wake_at_rest(doorbell, &applied, sweep).await;
    swept.at_rest = at_rest;
    swept.problems.extend(problems);
    let since = now.saturating_sub(rollout::SignedDuration::from_secs(LOOK_BACK.0.cast_signed()));
    let Ok(since) = since else { return swept };
    let repositories: BTreeSet<&str> =
        applied.policy.services.values().map(|service| service.repository.as_str()).collect();
    for repository in repositories {
        let images = match registry.images_since(repository, since).await {
            Ok(images) => images,
            Err(reason) => {
                swept.problems.push(format!("repository {repository} of {application} could not be listed: {reason}"));
                continue;
            }
        };
        for (service, rules) in applied.policy.services.iter().filter(|(_, rules)| rules.repository == repository) {
            let found = missed(ledger, doorbell, &applied, service, rules, &images, now).await;
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

/// Takes in what of `images` should be a release of `service` and is none, the newest first: if the sweep dies half
/// way, what is left over is older than what is recorded, and asks for nothing.
async fn missed<L: Ledger, D: Doorbell>(
    ledger: &L,
    doorbell: &D,
    applied: &Applied,
    service: &Name,
    rules: &ServicePolicy,
    images: &[PushedImage],
    now: Timestamp,
) -> Result<Vec<(Name, Name, ImageDigest, Taken)>, super::IntakeError> {
    let application = &applied.policy.application;
    let is_one = |image: &PushedImage, tag: &String| is_image(tag, image.artifact_media_type.as_deref());
    if !images.iter().any(|image| image.tags.iter().any(|tag| is_one(image, tag))) {
        return Ok(vec![]);
    }
    let known: BTreeSet<ImageDigest> = ledger
        .releases(application, service, RELEASES_READ)
        .await
        .map_err(super::IntakeError::ledger(format!("reading the releases of {application}/{service}")))?
        .into_iter()
        .map(|release| release.id.digest)
        .collect();
    let unknown: Vec<&PushedImage> = images.iter().filter(|image| !known.contains(&image.digest)).collect();
    // Mostly every image is known, and then there is nothing to match the service's rule with.
    let rule = if unknown.is_empty() { None } else { policy::tags::Matcher::new(&rules.tags).ok() };
    let Some(rule) = rule else { return Ok(vec![]) };
    let mut candidates: Vec<ImagePushed> = unknown
        .into_iter()
        .filter_map(|image| {
            let tag = image.tags.iter().find(|tag| is_one(image, tag) && rule.matches(tag))?;
            Some(ImagePushed {
                repository: rules.repository.clone(),
                repository_uri: image.repository_uri.clone(),
                digest: image.digest.clone(),
                tag: tag.clone(),
                pushed_at: image.pushed_at.min(now),
            })
        })
        .collect();
    candidates.sort_by(|a, b| (b.pushed_at, &b.digest).cmp(&(a.pushed_at, &a.digest)));
    candidates.truncate(MOST_MISSED);

    let mut found = Vec::with_capacity(candidates.len());
    let newest = candidates.first().map(|image| (image.tag.clone(), image.pushed_at));
    for (index, image) in candidates.into_iter().enumerate() {
        let unasked = match &newest {
            // Said here too, for images of one and the same second.
            Some((by, pushed_at)) if index > 0 => Some(Unasked::Superseded { by: by.clone(), pushed_at: *pushed_at }),
            // Registries tell whole seconds: an image of the second in which the policy was applied came after it.
            _ => (image.pushed_at.as_second() < applied.at.as_second())
                .then_some(Unasked::BeforePolicy { applied_at: applied.at }),
        };
        let taken = record(ledger, doorbell, applied, service, rules, &image, unasked).await?;
        if taken != Taken::Known {
            tell(application, service, &image, &taken);
            found.push((application.clone(), service.clone(), image.digest, taken));
        }
    }
    Ok(found)
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
