//! An image becomes a release, and the release a command for every environment that deploys it.
//!
//! The write order is the guarantee: commands, then the release, then the wake. **A release in the ledger means that all commands
//! of its push are durable**: a repeated event, or the sweep, which looks for tags without a release, completes a push
//! interrupted by a crash, and no push is requested twice, even if the policy has changed since.
//!
//! A release is identified by its content and has any number of tags: a tag put on a known image is another name of the release,
//! and requests its deployment again only if that is evidently intended (see `moved`).

use super::{IntakeError, IntakeLedger};
use crate::ports::{AppliedPolicy, Commands, ReleaseIntake, Releases, Wake, WakeQueue};
use futures::future::{join_all, try_join, try_join_all};
use rollout::policy::{ServicePolicy, Trigger};
use rollout::registry::repository_uri;
use rollout::release::latest_with_tag;
use rollout::{Command, ImageDigest, Instruction, Name, Registry, Release, ReleaseId, Seconds, TargetId, Timestamp};
use std::collections::BTreeSet;
use std::fmt;

/// How many releases of a service are read to determine where a tag was before, newest first. A tag of an older release counts as
/// new.
pub(super) const RELEASES_READ: usize = 200;

/// Tags put on an image within this time of its first one belong to the same build: a job pushes them one after the other, and
/// the sweep finds those whose event was lost a few minutes later.
pub const SAME_BUILD: Seconds = Seconds(15 * 60);

/// An image pushed under a tag, from an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePushed {
    /// The registry.
    pub registry: Registry,
    /// The repository's name: `shop/api`.
    pub repository: String,
    /// Content address.
    pub digest: ImageDigest,
    /// Image tag of the push.
    pub tag: String,
    /// Time according to the registry.
    pub pushed_at: Timestamp,
}

/// Result of processing a push.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "whoever took it in tells what became of it"]
pub struct Intake {
    /// One entry per service whose images come from the repository; empty: no policy names the repository.
    pub services: Vec<ServiceIntake>,
}

/// Result of a push for one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceIntake {
    /// The application.
    pub application: Name,
    /// One of its services.
    pub service: Name,
    /// The result.
    pub outcome: PushOutcome,
}

/// Result of a push for one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushOutcome {
    /// A new release; these targets received a deploy command.
    Requested {
        /// Targets of the deploy commands.
        targets: Vec<TargetId>,
        /// How many of them could not be woken: their commands are due, so the sweep wakes them.
        not_woken: usize,
    },
    /// A new release; no target received a command.
    RecordedOnly(NotDeployedReason),
    /// A known release; a tag moved onto it requests its deployment again.
    RequestedAgain {
        /// Its new tags.
        tags: Vec<String>,
        /// Targets of the deploy commands.
        targets: Vec<TargetId>,
        /// How many of them could not be woken.
        not_woken: usize,
    },
    /// A known release with additional tags.
    Tagged {
        /// Its new tags.
        tags: Vec<String>,
        /// Why no deployment is requested although a tag was moved onto it on purpose; `None`: it had been requested already.
        not_deployed: Option<NotDeployedReason>,
    },
    /// A known release under a known tag. Nothing changes, and no target is woken.
    Known,
    /// Not a release.
    Ignored(Ignored),
}

/// Why a release is not deployed automatically.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotDeployedReason {
    /// The policy pauses push deployments.
    Paused,
    /// No environment of this service has the push trigger.
    NoTrigger,
    /// A newer push is known: an older release never replaces a newer one automatically.
    Superseded {
        /// Tag of the newer release.
        by: String,
        /// When the newer release was pushed.
        pushed_at: Timestamp,
    },
    /// Found by the sweep and older than the current policy: what the policy at that time required is unknown.
    BeforePolicy {
        /// When the current policy was applied.
        applied_at: Timestamp,
    },
}

/// Why a push is not a release of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ignored {
    /// The application's policy was removed, or no longer names the service or this repository.
    NotInPolicy,
    /// The service's tag rule does not match the tag.
    Tag {
        /// The tag.
        tag: String,
    },
    /// Pushed to a repository of the same name in another registry than the policy's.
    Registry {
        /// Registry of the push.
        pushed_to: Registry,
        /// Registry of the service's images.
        wanted: Registry,
    },
}

/// Whether the pushed artifact is a container image: signatures, attestations, SBOMs and Helm charts are also tagged pushes.
/// Without a declared artifact type it counts as an image (an index has none).
///
/// Artifact types are those of an image's configuration (OCI image spec 1.1 "Media Types", Docker image manifest v2
/// schema 2). Tags `sha256-…` are the referrers' tags of the OCI distribution spec and cosign's (`.sig`, `.att`,
/// `.sbom`), whose manifests call themselves images.
#[must_use]
pub fn is_image(tag: &str, artifact_media_type: Option<&str>) -> bool {
    let refers = tag
        .strip_prefix("sha256-")
        .and_then(|rest| rest.get(..64))
        .is_some_and(|digest| digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let declared = artifact_media_type.map(str::trim).unwrap_or_default();
    !refers
        && matches!(
            declared,
            "" | "application/vnd.oci.image.config.v1+json"
                | "application/vnd.docker.container.image.v1+json"
                | "application/vnd.oci.image.manifest.v1+json"
                | "application/vnd.oci.image.index.v1+json"
                | "application/vnd.docker.distribution.manifest.v2+json"
                | "application/vnd.docker.distribution.manifest.list.v2+json"
        )
}

/// Processes a push for every service whose images come from its repository. Idempotent; a repetition completes what a crash
/// interrupted. A push time in the future (a fast clock) counts as `now`. `own` is the control plane's own registry, used by
/// policies that name none: on an event bus shared by several accounts, events of any other registry belong to another control
/// plane.
///
/// # Errors
/// The first [`IntakeError`], after every service was processed: a failure of one service does not affect the others.
pub async fn image_pushed<L: IntakeLedger, D: WakeQueue>(
    ledger: &L,
    wake_queue: &D,
    pushed: &ImagePushed,
    own: &Registry,
    now: Timestamp,
) -> Result<Intake, IntakeError> {
    let repository = &pushed.repository;
    let pushed = ImagePushed { pushed_at: pushed.pushed_at.min(now), ..pushed.clone() };
    let matching_services = ledger
        .services(repository)
        .await
        .map_err(IntakeError::ledger(format!("looking for the services of repository {repository}")))?;
    if matching_services.is_empty() {
        tracing::info!(
            image.repository = %repository, image.tag = %pushed.tag,
            "ignored: no policy names the repository"
        );
    }
    let outcomes = matching_services.into_iter().map(|(application, service)| async {
        let outcome = record_for_service(ledger, wake_queue, &application, &service, &pushed, own).await?;
        let ImagePushed { repository, digest, tag, .. } = &pushed;
        log_outcome(&application, &service, (repository, digest, tag), &outcome);
        Ok(ServiceIntake { application, service, outcome })
    });
    let services = join_all(outcomes).await.into_iter().collect::<Result<Vec<_>, IntakeError>>()?;
    Ok(Intake { services })
}

async fn record_for_service<L: IntakeLedger, D: WakeQueue>(
    ledger: &L,
    wake_queue: &D,
    application: &Name,
    service: &Name,
    pushed: &ImagePushed,
    own: &Registry,
) -> Result<PushOutcome, IntakeError> {
    let applied = ledger
        .policy(application)
        .await
        .map_err(IntakeError::ledger(format!("reading the policy of {application}")))?;
    let Some(applied) = applied else { return Ok(PushOutcome::Ignored(Ignored::NotInPolicy)) };
    let rules = applied.policy.services.get(service).filter(|rules| rules.repository == pushed.repository);
    let Some(rules) = rules else { return Ok(PushOutcome::Ignored(Ignored::NotInPolicy)) };
    let wanted = rules.registry.of(own);
    if wanted != pushed.registry {
        return Ok(PushOutcome::Ignored(Ignored::Registry { pushed_to: pushed.registry.clone(), wanted }));
    }
    if !policy::tags::matches(&rules.tags, &pushed.tag) {
        return Ok(PushOutcome::Ignored(Ignored::Tag { tag: pushed.tag.clone() }));
    }
    let observed = ObservedImage {
        repository_uri: repository_uri(&pushed.registry, &pushed.repository),
        digest: pushed.digest.clone(),
        tags: vec![pushed.tag.clone()],
        at: pushed.pushed_at,
        not_before: pushed.pushed_at,
    };
    record(ledger, wake_queue, &applied, service, rules, &observed, None).await
}

/// An image with tags that match a service's rule, from an event or from the comparison with the registry.
#[derive(Debug, Clone)]
pub(super) struct ObservedImage {
    /// `host/repository`, without tag or digest.
    pub(super) repository_uri: String,
    /// Content address.
    pub(super) digest: ImageDigest,
    /// The tags; at least one.
    pub(super) tags: Vec<String>,
    /// When the tags were put on it, if known; else when they were seen.
    pub(super) at: Timestamp,
    /// Earliest time at which the tags can have been put on it.
    pub(super) not_before: Timestamp,
}

/// A tag that is new on the image of an existing release.
struct MovedTag {
    tag: String,
    /// When it was put on its previous image; `None`: it is new.
    from: Option<Timestamp>,
    /// Requests the image's deployment again.
    requests_deployment: bool,
}

/// The tags of `observed` that `release` does not have, or no longer has. `others` are the service's other releases.
///
/// Meaning of a tag that is put on a known image:
/// - it was on an image pushed later, or had been on this one and was moved away: its owners roll back;
/// - the image is the one that pushes requested last, or was first seen a short while ago: another tag of the same build, whose
///   deployment is already requested;
/// - otherwise, an older image was given a new version on purpose.
fn moved(release: &Release, others: &[&Release], observed: &ObservedImage) -> Vec<MovedTag> {
    let asked_last = others.iter().all(|other| other.requested_at < release.requested_at);
    let shortly_after = |before: Timestamp| Seconds::between(before, observed.at) <= SAME_BUILD;
    let asked_for = asked_last && release.requested_at.is_some_and(shortly_after);
    let same_build = asked_last || shortly_after(release.first_seen_at());
    let one = |tag: &String| {
        let other = latest_with_tag(others.iter().copied(), tag);
        let (own, theirs) = (release.tags.get(tag).copied(), other.and_then(|other| other.tags.get(tag).copied()));
        if own.is_some() && own >= theirs {
            return None;
        }
        if theirs.is_some_and(|theirs| theirs > observed.at) {
            // A late event: the tag has moved on since.
            return own.is_none().then(|| MovedTag { tag: tag.clone(), from: theirs, requests_deployment: false });
        }
        let goes_back = own.is_some() || other.is_some_and(|other| other.pushed_at > release.pushed_at);
        let requests_deployment = !asked_for && (goes_back || !same_build);
        Some(MovedTag { tag: tag.clone(), from: theirs.or(own), requests_deployment })
    };
    observed.tags.iter().filter_map(one).collect()
}

/// The release that another push requested after `since`, or that was pushed later: an older one never replaces it.
fn superseded_by(others: &[&Release], since: Timestamp) -> Option<NotDeployedReason> {
    let latest = |release: &Release| release.requested_at.map_or(release.pushed_at, |at| at.max(release.pushed_at));
    let newest =
        others.iter().max_by_key(|other| (latest(other), other.requested_at)).filter(|other| latest(other) > since)?;
    Some(NotDeployedReason::Superseded { by: newest.tag.clone(), pushed_at: latest(newest) })
}

/// Creates a release from an image whose tags matched, or adds the tags to its existing release, and writes the commands that the
/// policy requires; `not_deployed` is the caller's own reason to write none.
pub(super) async fn record<L: Commands + ReleaseIntake + Releases, D: WakeQueue>(
    ledger: &L,
    wake_queue: &D,
    applied: &AppliedPolicy,
    service: &Name,
    rules: &ServicePolicy,
    observed: &ObservedImage,
    not_deployed: Option<NotDeployedReason>,
) -> Result<PushOutcome, IntakeError> {
    let application = &applied.policy.application;
    let id = ReleaseId { application: application.clone(), service: service.clone(), digest: observed.digest.clone() };
    let (known, releases) = try_join(ledger.release_by_id(&id), ledger.releases(application, service, RELEASES_READ))
        .await
        .map_err(IntakeError::ledger(format!("reading the releases of {application}/{service}")))?;
    let others: Vec<&Release> = releases.iter().filter(|release| release.id != id).collect();
    let targets = push_targets(applied, service);
    let moved = known.as_ref().map(|known| moved(known, &others, observed));
    if moved.as_ref().is_some_and(Vec::is_empty) {
        // Its commands are in the ledger and due, or the policy required none at the time of the push: no wake is needed.
        return Ok(PushOutcome::Known);
    }
    let redeploy_tag = moved.iter().flatten().find(|moved| moved.requests_deployment);
    let requests_deployment = known.is_none() || redeploy_tag.is_some();
    let since =
        redeploy_tag.and_then(|moved| moved.from).map_or(observed.not_before, |from| from.max(observed.not_before));
    let not_deployed = match superseded_by(&others, since).or(not_deployed) {
        Some(why) => Some(why),
        None if rules.paused => Some(NotDeployedReason::Paused),
        None => targets.is_empty().then_some(NotDeployedReason::NoTrigger),
    };
    let requests_deployment = requests_deployment && not_deployed.is_none();
    let release = updated_release(known.as_ref(), id, moved.as_deref(), observed, requests_deployment);
    let mut commands: Vec<Command> = Vec::new();
    if requests_deployment {
        // `at` is the push time, so that a target's inbox lists several pushes in push order.
        commands.extend(targets.iter().map(|target| match redeploy_tag {
            None => Command::push(target.clone(), &release, &rules.repository, observed.at),
            Some(MovedTag { tag, from, .. }) => {
                Command::moved_tag(target.clone(), &release, tag, *from, &rules.repository, observed.at)
            }
        }));
    }
    if known.as_ref().is_some_and(|known| known.tag != release.tag) {
        commands.extend(name_release_commands(applied, service, &release, rules, observed.at));
    }
    put_commands(ledger, &commands).await?;
    commands.extend(put_release(ledger, applied, service, rules, known.as_ref(), &release, observed.at).await?);
    let to_wake: BTreeSet<&TargetId> = commands.iter().map(|command| &command.target).collect();
    let not_woken = wake_all(wake_queue, to_wake, &observed.digest).await;
    Ok(match (moved, not_deployed) {
        (None, Some(why)) => PushOutcome::RecordedOnly(why),
        (None, None) => PushOutcome::Requested { targets, not_woken },
        (Some(moved), not_deployed) => {
            let tags: Vec<String> = moved.iter().map(|moved| moved.tag.clone()).collect();
            let deliberate = moved.iter().any(|moved| moved.requests_deployment);
            if requests_deployment {
                PushOutcome::RequestedAgain { tags, targets, not_woken }
            } else {
                PushOutcome::Tagged { tags, not_deployed: not_deployed.filter(|_| deliberate) }
            }
        }
    })
}

/// The release to write: the known one or a new one, with its new tags. `moved`: those of a known release.
fn updated_release(
    known: Option<&Release>,
    id: ReleaseId,
    moved: Option<&[MovedTag]>,
    observed: &ObservedImage,
    requests_deployment: bool,
) -> Release {
    let mut release = known.cloned().unwrap_or_else(|| {
        let image = format!("{}@{}", observed.repository_uri, id.digest);
        Release::new(id, image, observed.tags.first().cloned().unwrap_or_default(), observed.at)
    });
    let new_tags: Vec<&String> = match moved {
        None => observed.tags.iter().collect(),
        Some(moved) => moved.iter().map(|moved| &moved.tag).collect(),
    };
    new_tags.into_iter().for_each(|tag| release.add_tag(tag.clone(), observed.at));
    if requests_deployment {
        release.requested_at = Some(observed.at);
    }
    release
}

/// Writes the release, which was `known` before. If another tag of it arrived concurrently and that changes the tag that it is
/// shown under, writes the commands that tell its targets, and returns them.
async fn put_release<L: Commands + ReleaseIntake>(
    ledger: &L,
    applied: &AppliedPolicy,
    service: &Name,
    rules: &ServicePolicy,
    known: Option<&Release>,
    release: &Release,
    at: Timestamp,
) -> Result<Vec<Command>, IntakeError> {
    let before = ledger.put_release(release).await;
    let before = before.map_err(IntakeError::ledger(format!("recording release {}", release.id)))?;
    let Some(before) = before.filter(|before| known != Some(before)) else { return Ok(Vec::new()) };
    let mut merged = before.clone();
    merged.merge(release);
    if merged.tag == before.tag {
        return Ok(Vec::new());
    }
    let names: Vec<Command> = name_release_commands(applied, service, &merged, rules, at).collect();
    put_commands(ledger, &names).await?;
    Ok(names)
}

/// Commands that tell every target of the service under which tag the release is shown from now on.
fn name_release_commands<'a>(
    applied: &'a AppliedPolicy,
    service: &'a Name,
    release: &'a Release,
    rules: &'a ServicePolicy,
    at: Timestamp,
) -> impl Iterator<Item = Command> + 'a {
    let targets = applied.policy.targets().map(|(target, _)| target).filter(move |target| &target.service == service);
    targets.map(move |target| Command::name_release(target, release, &rules.repository, at))
}

async fn put_commands<L: Commands>(ledger: &L, commands: &[Command]) -> Result<(), IntakeError> {
    let what = commands.first().map_or_else(String::new, |command| command.id.0.clone());
    try_join_all(commands.iter().map(|command| ledger.put_command(command)))
        .await
        .map_err(IntakeError::ledger(format!("asking for {what}")))?;
    for command in commands {
        if let Instruction::Deploy { release, .. } = &command.instruction {
            let (release, id) = (&release.digest, &command.id.0);
            tracing::info!(target_id = %command.target, %release, command_id = id, "its deployment is asked for");
        }
    }
    Ok(())
}

/// The targets to which a push of `service` is deployed.
fn push_targets(applied: &AppliedPolicy, service: &Name) -> Vec<TargetId> {
    let policy = &applied.policy;
    policy
        .environments
        .iter()
        .filter(|(_, rules)| rules.trigger == Trigger::Push && rules.targets.contains_key(service))
        .map(|(environment, _)| TargetId::new(policy.application.clone(), service.clone(), environment.clone()))
        .collect()
}

/// Wakes all; returns how many could not be woken: their commands are due, and the sweep finds due targets.
async fn wake_all<'t, D: WakeQueue>(
    wake_queue: &D,
    targets: impl IntoIterator<Item = &'t TargetId>,
    release: &ImageDigest,
) -> usize {
    let wakes = targets.into_iter().map(|target| async move {
        let wake = Wake::of(target.clone());
        match wake_queue.send(&wake, Seconds(0)).await {
            Ok(()) => 0,
            Err(reason) => {
                tracing::warn!(target_id = %target, %release, reason, "could not be woken: left to the sweep");
                1
            }
        }
    });
    join_all(wakes).await.into_iter().sum()
}

/// Logs one line per service, whatever the result of the push.
pub(super) fn log_outcome(
    application: &Name,
    service: &Name,
    image: (&str, &ImageDigest, &str),
    outcome: &PushOutcome,
) {
    let (repository, digest, tag) = image;
    match outcome {
        PushOutcome::Ignored(Ignored::Registry { .. }) => tracing::warn!(
            application = %application, service = %service,
            image.repository = %repository, release = %digest, image.tag = %tag,
            "{outcome}; where its images do come from there, `registry` of the service names it"
        ),
        PushOutcome::RecordedOnly(why @ NotDeployedReason::BeforePolicy { .. })
        | PushOutcome::Tagged { not_deployed: Some(why @ NotDeployedReason::BeforePolicy { .. }), .. } => {
            tracing::warn!(
                application = %application, service = %service,
                image.repository = %repository, release = %digest, image.tag = %tag,
                "{outcome}; deploy it by hand if it is wanted ({why})"
            )
        }
        _ => tracing::info!(
            application = %application, service = %service,
            image.repository = %repository, release = %digest, image.tag = %tag,
            "{outcome}"
        ),
    }
}

impl fmt::Display for PushOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested { targets, .. } => {
                f.write_str("a new release; asked for its deployment to ")?;
                write_list(f, targets)
            }
            Self::RequestedAgain { tags, targets, .. } => {
                f.write_str("known already, and now ")?;
                write_list(f, tags)?;
                f.write_str(", too; asked for its deployment anew to ")?;
                write_list(f, targets)
            }
            Self::Tagged { tags, not_deployed } => {
                f.write_str("known already, and now ")?;
                write_list(f, tags)?;
                match not_deployed {
                    Some(why) => write!(f, ", too; deployed nowhere: {why}"),
                    None => f.write_str(", too: it was asked for already"),
                }
            }
            Self::RecordedOnly(why) => write!(f, "a new release; deployed nowhere: {why}"),
            Self::Known => f.write_str("known already: nothing is asked twice"),
            Self::Ignored(why) => write!(f, "ignored: {why}"),
        }
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, names: &[impl fmt::Display]) -> fmt::Result {
    for (index, name) in names.iter().enumerate() {
        write!(f, "{}{name}", if index == 0 { "" } else { ", " })?;
    }
    Ok(())
}

impl fmt::Display for NotDeployedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused => f.write_str("the service is paused"),
            Self::NoTrigger => f.write_str("no environment of the service is triggered by pushes"),
            Self::Superseded { by, pushed_at } => write!(f, "{by}, pushed later ({pushed_at}), is known already"),
            Self::BeforePolicy { applied_at } => write!(f, "pushed before the policy was applied ({applied_at})"),
        }
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInPolicy => f.write_str("the policy no longer names the service with this repository"),
            Self::Tag { tag } => write!(f, "tag {tag} is none that becomes a release"),
            Self::Registry { pushed_to, wanted } => {
                write!(f, "it was pushed to the registry of {pushed_to}, and the policy takes the images of {wanted}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_and_charts_are_not_images() {
        let digest = "a".repeat(64);
        assert!(is_image("v1", None));
        assert!(is_image("v1", Some("")));
        assert!(is_image("v1", Some("application/vnd.docker.container.image.v1+json")));
        assert!(is_image("sha256-of-nothing", Some("application/vnd.oci.image.config.v1+json")));
        assert!(!is_image("1.2.0", Some("application/vnd.cncf.helm.config.v1+json")));
        for tag in [format!("sha256-{digest}.sig"), format!("sha256-{digest}.att"), format!("sha256-{digest}")] {
            assert!(!is_image(&tag, Some("application/vnd.oci.image.config.v1+json")), "{tag}");
        }
    }
}
