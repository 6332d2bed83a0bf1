//! An image becomes a release, and a release a command for every environment that wants it.
//!
//! The order of the writes is the guarantee: commands, then the release, then the wake. **A release in the ledger
//! means that all its push asks for is durable**, so that a crash in between is completed by whoever comes next (the
//! event's repetition, or the sweep, which looks for tags without a release), and a push is never asked for twice, whatever
//! the policy has become since.
//!
//! A release is its content, under every tag that it has: a tag that comes onto a known image is another name of it, and
//! asks for its deployment anew only where somebody means that by it (see `moved`).

use super::IntakeError;
use crate::ports::{Applied, Ledger, Wake, WakeQueue};
use futures::future::{join_all, try_join, try_join_all};
use rollout::policy::{ServicePolicy, Trigger};
use rollout::registry::repository_uri;
use rollout::release::tagged;
use rollout::{Command, ImageDigest, Instruction, Name, Registry, Release, ReleaseId, Seconds, TargetId, Timestamp};
use std::collections::BTreeSet;
use std::fmt;

/// Releases of a service that are read to know where a tag was before: the newest ones. A tag of an older one counts as new.
pub(super) const RELEASES_READ: usize = 200;

/// Tags that come onto an image within this time of its first one are of the same build: a job pushes them one after the
/// other, and the sweep finds those whose event was lost a few minutes later.
pub const SAME_BUILD: Seconds = Seconds(15 * 60);

/// An image that was pushed under a tag, as an event tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePushed {
    /// The registry that it was pushed to.
    pub registry: Registry,
    /// The repository's name: `shop/api`.
    pub repository: String,
    /// Content address.
    pub digest: ImageDigest,
    /// The tag that it was pushed under.
    pub tag: String,
    /// When, as the registry says.
    pub pushed_at: Timestamp,
}

/// What became of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "whoever took it in tells what became of it"]
pub struct Intake {
    /// One for every service whose images come from the repository; empty: no policy names the repository.
    pub services: Vec<ServiceIntake>,
}

/// What became of a push for one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceIntake {
    /// The application.
    pub application: Name,
    /// One of its services.
    pub service: Name,
    /// What became of it.
    pub taken: Taken,
}

/// What became of a push for one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is a new release, and these targets are asked to deploy it.
    Asked {
        /// Who.
        targets: Vec<TargetId>,
        /// How many of them could not be woken: their commands are due, the sweep wakes them.
        unrung: usize,
    },
    /// It is a new release, and nobody is asked to deploy it.
    Recorded(Unasked),
    /// It is a release already, and a tag that was moved onto it asks for its deployment anew.
    AskedAnew {
        /// The tags that are new on it.
        tags: Vec<String>,
        /// Who is asked.
        targets: Vec<TargetId>,
        /// How many of them could not be woken.
        unrung: usize,
    },
    /// It is a release already, and has more tags now.
    Tagged {
        /// The tags that are new on it.
        tags: Vec<String>,
        /// Why nobody is asked to deploy it, though a tag was moved onto it on purpose; none: it was asked for already.
        unasked: Option<Unasked>,
    },
    /// It was a release already, under this tag. Nothing changes, and nobody is woken.
    Known,
    /// It is no release.
    Ignored(Ignored),
}

/// Why a release is deployed nowhere by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unasked {
    /// The policy says that pushes wait.
    Paused,
    /// No environment with this service is triggered by pushes.
    NoTrigger,
    /// A newer push is known: what is older never goes over what is newer.
    Superseded {
        /// The newer one's tag.
        by: String,
        /// When that was pushed.
        pushed_at: Timestamp,
    },
    /// Found by the sweep, and older than the policy that stands: nobody can say what was asked for then.
    BeforePolicy {
        /// When the policy was applied.
        applied_at: Timestamp,
    },
}

/// Why a push is no release of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ignored {
    /// The application's policy went away, or no longer names the service or this repository.
    NotInPolicy,
    /// The tag is none that becomes a release.
    Tag {
        /// The tag.
        tag: String,
    },
    /// It was pushed to a repository of that name in a registry that the policy does not mean.
    Registry {
        /// Where it was pushed to.
        pushed_to: Registry,
        /// Where the service's images come from.
        wanted: Registry,
    },
}

/// Whether what was pushed is a container image: signatures, attestations, SBOMs and Helm charts come to a registry as
/// tagged pushes too. Without a declared artifact type it is one (an index has none).
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

/// Takes a push in, for every service whose images come from its repository. Harmless to repeat, and a repetition
/// completes what a crash left half done. A push from the future (a clock that is ahead) counts as pushed `now`. `own` is
/// the control plane's own registry, which policies mean that name none: on a bus to which several accounts send, an
/// event of any other registry is somebody else's.
///
/// # Errors
/// The first [`IntakeError`], after every service has had its turn: one service's trouble is not another's.
pub async fn image_pushed<L: Ledger, D: WakeQueue>(
    ledger: &L,
    wake_queue: &D,
    pushed: &ImagePushed,
    own: &Registry,
    now: Timestamp,
) -> Result<Intake, IntakeError> {
    let repository = &pushed.repository;
    let pushed = ImagePushed { pushed_at: pushed.pushed_at.min(now), ..pushed.clone() };
    let concerned = ledger
        .services(repository)
        .await
        .map_err(IntakeError::ledger(format!("looking for the services of repository {repository}")))?;
    if concerned.is_empty() {
        tracing::info!(image.repository = %repository, image.tag = %pushed.tag, "ignored: no policy names the repository");
    }
    let takings = concerned.into_iter().map(|(application, service)| async {
        let taken = take_for(ledger, wake_queue, &application, &service, &pushed, own).await?;
        let ImagePushed { repository, digest, tag, .. } = &pushed;
        tell(&application, &service, (repository, digest, tag), &taken);
        Ok(ServiceIntake { application, service, taken })
    });
    let services = join_all(takings).await.into_iter().collect::<Result<Vec<_>, IntakeError>>()?;
    Ok(Intake { services })
}

async fn take_for<L: Ledger, D: WakeQueue>(
    ledger: &L,
    wake_queue: &D,
    application: &Name,
    service: &Name,
    pushed: &ImagePushed,
    own: &Registry,
) -> Result<Taken, IntakeError> {
    let applied = ledger
        .policy(application)
        .await
        .map_err(IntakeError::ledger(format!("reading the policy of {application}")))?;
    let Some(applied) = applied else { return Ok(Taken::Ignored(Ignored::NotInPolicy)) };
    let rules = applied.policy.services.get(service).filter(|rules| rules.repository == pushed.repository);
    let Some(rules) = rules else { return Ok(Taken::Ignored(Ignored::NotInPolicy)) };
    let wanted = rules.registry.of(own);
    if wanted != pushed.registry {
        return Ok(Taken::Ignored(Ignored::Registry { pushed_to: pushed.registry.clone(), wanted }));
    }
    if !policy::tags::matches(&rules.tags, &pushed.tag) {
        return Ok(Taken::Ignored(Ignored::Tag { tag: pushed.tag.clone() }));
    }
    let sighting = Sighting {
        repository_uri: repository_uri(&pushed.registry, &pushed.repository),
        digest: pushed.digest.clone(),
        tags: vec![pushed.tag.clone()],
        at: pushed.pushed_at,
        not_before: pushed.pushed_at,
    };
    record(ledger, wake_queue, &applied, service, rules, &sighting, None).await
}

/// An image with tags that a service's rule takes, as an event tells it or the comparison with the registry finds it.
#[derive(Debug, Clone)]
pub(super) struct Sighting {
    /// `host/repository`, without tag or digest.
    pub(super) repository_uri: String,
    /// Content address.
    pub(super) digest: ImageDigest,
    /// The tags; at least one.
    pub(super) tags: Vec<String>,
    /// When the tags were put on it, as far as that is known; else when they were seen.
    pub(super) at: Timestamp,
    /// They were not put there before this.
    pub(super) not_before: Timestamp,
}

/// A tag that is new on an image which is a release already.
struct Moved {
    tag: String,
    /// When it was put where it was before; none: it is new.
    from: Option<Timestamp>,
    /// It asks for the deployment of the image, anew.
    asks: bool,
}

/// The tags of `sighting` that `release` does not have, or has no longer. `others` are the service's other releases.
///
/// What a tag means that comes onto an image which is known already:
/// - it was on an image that was pushed later, or has been on this one before and was moved away: its owners go back;
/// - the image is the one that pushes asked for last, or was first seen a short while ago: another tag of the same build,
///   which has asked already;
/// - else an older image has got a new version on purpose.
fn moved(release: &Release, others: &[&Release], sighting: &Sighting) -> Vec<Moved> {
    let asked_last = others.iter().all(|other| other.asked_at < release.asked_at);
    let shortly_after = |before: Timestamp| Seconds::between(before, sighting.at) <= SAME_BUILD;
    let asked_for = asked_last && release.asked_at.is_some_and(shortly_after);
    let same_build = asked_last || shortly_after(release.first_seen_at());
    let one = |tag: &String| {
        let other = tagged(others.iter().copied(), tag);
        let (own, theirs) = (release.tags.get(tag).copied(), other.and_then(|other| other.tags.get(tag).copied()));
        if own.is_some() && own >= theirs {
            return None;
        }
        if theirs.is_some_and(|theirs| theirs > sighting.at) {
            // Told late: the tag has moved on since.
            return own.is_none().then(|| Moved { tag: tag.clone(), from: theirs, asks: false });
        }
        let goes_back = own.is_some() || other.is_some_and(|other| other.pushed_at > release.pushed_at);
        let asks = !asked_for && (goes_back || !same_build);
        Some(Moved { tag: tag.clone(), from: theirs.or(own), asks })
    };
    sighting.tags.iter().filter_map(one).collect()
}

/// The release that another push has asked for after `since`, or that was pushed after it: what is older never goes over it.
fn superseding(others: &[&Release], since: Timestamp) -> Option<Unasked> {
    let latest = |release: &Release| release.asked_at.map_or(release.pushed_at, |at| at.max(release.pushed_at));
    let newest =
        others.iter().max_by_key(|other| (latest(other), other.asked_at)).filter(|other| latest(other) > since)?;
    Some(Unasked::Superseded { by: newest.tag.clone(), pushed_at: latest(newest) })
}

/// Makes a release of an image whose tags matched, or adds the tags to the release that it is, and asks for what the policy
/// wants of it; `unasked` is a reason of the caller's own to ask for nothing.
pub(super) async fn record<L: Ledger, D: WakeQueue>(
    ledger: &L,
    wake_queue: &D,
    applied: &Applied,
    service: &Name,
    rules: &ServicePolicy,
    sighting: &Sighting,
    unasked: Option<Unasked>,
) -> Result<Taken, IntakeError> {
    let application = &applied.policy.application;
    let id = ReleaseId { application: application.clone(), service: service.clone(), digest: sighting.digest.clone() };
    let (known, releases) = try_join(ledger.release_by_id(&id), ledger.releases(application, service, RELEASES_READ))
        .await
        .map_err(IntakeError::ledger(format!("reading the releases of {application}/{service}")))?;
    let others: Vec<&Release> = releases.iter().filter(|release| release.id != id).collect();
    let targets = wanting(applied, service);
    let moved = known.as_ref().map(|known| moved(known, &others, sighting));
    if moved.as_ref().is_some_and(Vec::is_empty) {
        // Its commands are in the ledger and due, or were not wanted when it was pushed: nobody is woken for nothing.
        return Ok(Taken::Known);
    }
    let anew = moved.iter().flatten().find(|moved| moved.asks);
    let asks = known.is_none() || anew.is_some();
    let since = anew.and_then(|moved| moved.from).map_or(sighting.not_before, |from| from.max(sighting.not_before));
    let unasked = match superseding(&others, since).or(unasked) {
        Some(why) => Some(why),
        None if rules.paused => Some(Unasked::Paused),
        None => targets.is_empty().then_some(Unasked::NoTrigger),
    };
    let asks = asks && unasked.is_none();

    let mut release = known.clone().unwrap_or_else(|| {
        let image = format!("{}@{}", sighting.repository_uri, id.digest);
        Release::new(id, image, sighting.tags.first().cloned().unwrap_or_default(), sighting.at)
    });
    let news = moved.as_ref().map_or_else(
        || sighting.tags.iter().collect::<Vec<_>>(),
        |moved| moved.iter().map(|moved| &moved.tag).collect(),
    );
    news.into_iter().for_each(|tag| release.add_tag(tag.clone(), sighting.at));
    if asks {
        release.asked_at = Some(sighting.at);
    }

    let mut commands: Vec<Command> = Vec::new();
    if asks {
        // `at` is the push's own time: whoever finds several in a target's inbox sees them in the order of the pushes.
        commands.extend(targets.iter().map(|target| match anew {
            None => Command::push(target.clone(), &release, &rules.repository, sighting.at),
            Some(Moved { tag, from, .. }) => {
                Command::moved_tag(target.clone(), &release, tag, *from, &rules.repository, sighting.at)
            }
        }));
    }
    if known.as_ref().is_some_and(|known| known.tag != release.tag) {
        commands.extend(naming(applied, service, &release, rules, sighting.at));
    }
    put_all(ledger, &commands).await?;
    let before = ledger.put_release(&release).await;
    let before = before.map_err(IntakeError::ledger(format!("recording release {}", release.id)))?;
    if let Some(before) = before.filter(|before| known.as_ref() != Some(before)) {
        // Another tag of it came at the same time.
        let mut merged = before.clone();
        merged.merge(&release);
        if merged.tag != before.tag {
            let names: Vec<Command> = naming(applied, service, &merged, rules, sighting.at).collect();
            put_all(ledger, &names).await?;
            commands.extend(names);
        }
    }
    let to_wake: BTreeSet<&TargetId> = commands.iter().map(|command| &command.target).collect();
    let unrung = send_all(wake_queue, to_wake, &sighting.digest).await;
    Ok(match (moved, unasked) {
        (None, Some(why)) => Taken::Recorded(why),
        (None, None) => Taken::Asked { targets, unrung },
        (Some(moved), unasked) => {
            let tags: Vec<String> = moved.iter().map(|moved| moved.tag.clone()).collect();
            let deliberate = moved.iter().any(|moved| moved.asks);
            if asks {
                Taken::AskedAnew { tags, targets, unrung }
            } else {
                Taken::Tagged { tags, unasked: unasked.filter(|_| deliberate) }
            }
        }
    })
}

/// Tells every target of the service by which tag the release is shown from now on.
fn naming<'a>(
    applied: &'a Applied,
    service: &'a Name,
    release: &'a Release,
    rules: &'a ServicePolicy,
    at: Timestamp,
) -> impl Iterator<Item = Command> + 'a {
    let targets = applied.policy.targets().map(|(target, _)| target).filter(move |target| &target.service == service);
    targets.map(move |target| Command::name_release(target, release, &rules.repository, at))
}

async fn put_all<L: Ledger>(ledger: &L, commands: &[Command]) -> Result<(), IntakeError> {
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

/// The targets that a push of `service` is deployed to.
fn wanting(applied: &Applied, service: &Name) -> Vec<TargetId> {
    let policy = &applied.policy;
    policy
        .environments
        .iter()
        .filter(|(_, rules)| rules.trigger == Trigger::Push && rules.targets.contains_key(service))
        .map(|(environment, _)| TargetId::new(policy.application.clone(), service.clone(), environment.clone()))
        .collect()
}

/// Wakes all; answers how many could not be: their commands are due, and the sweep looks for what is due.
async fn send_all<'t, D: WakeQueue>(
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

/// One line for each service, whatever became of the push.
pub(super) fn tell(application: &Name, service: &Name, image: (&str, &ImageDigest, &str), taken: &Taken) {
    let (repository, digest, tag) = image;
    match taken {
        Taken::Ignored(Ignored::Registry { .. }) => tracing::warn!(
            application = %application, service = %service,
            image.repository = %repository, release = %digest, image.tag = %tag,
            "{taken}; where its images do come from there, `registry` of the service names it"
        ),
        Taken::Recorded(why @ Unasked::BeforePolicy { .. })
        | Taken::Tagged { unasked: Some(why @ Unasked::BeforePolicy { .. }), .. } => tracing::warn!(
            application = %application, service = %service,
            image.repository = %repository, release = %digest, image.tag = %tag,
            "{taken}; deploy it by hand if it is wanted ({why})"
        ),
        _ => tracing::info!(
            application = %application, service = %service,
            image.repository = %repository, release = %digest, image.tag = %tag,
            "{taken}"
        ),
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked { targets, .. } => {
                f.write_str("a new release; asked for its deployment to ")?;
                listed(f, targets)
            }
            Self::AskedAnew { tags, targets, .. } => {
                f.write_str("known already, and now ")?;
                listed(f, tags)?;
                f.write_str(", too; asked for its deployment anew to ")?;
                listed(f, targets)
            }
            Self::Tagged { tags, unasked } => {
                f.write_str("known already, and now ")?;
                listed(f, tags)?;
                match unasked {
                    Some(why) => write!(f, ", too; deployed nowhere: {why}"),
                    None => f.write_str(", too: it was asked for already"),
                }
            }
            Self::Recorded(why) => write!(f, "a new release; deployed nowhere: {why}"),
            Self::Known => f.write_str("known already: nothing is asked twice"),
            Self::Ignored(why) => write!(f, "ignored: {why}"),
        }
    }
}

fn listed(f: &mut fmt::Formatter<'_>, names: &[impl fmt::Display]) -> fmt::Result {
    for (index, name) in names.iter().enumerate() {
        write!(f, "{}{name}", if index == 0 { "" } else { ", " })?;
    }
    Ok(())
}

impl fmt::Display for Unasked {
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
    fn signatures_and_charts_are_no_images() {
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
