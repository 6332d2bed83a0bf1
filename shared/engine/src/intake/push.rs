//! An image becomes a release, and a release a command for every environment that wants it.
//!
//! The order of the writes is the guarantee: commands, then the release, then the doorbell. **A release in the ledger
//! means that all its push asks for is durable**, so that a crash in between is completed by whoever comes next (the
//! event's repetition, or the sweep, which looks for images without a release), and a release that is known is never
//! asked for twice, whatever the policy has become since.

use super::IntakeError;
use crate::ports::{Applied, Doorbell, Ledger, Ring};
use futures::future::{join_all, try_join, try_join_all};
use rollout::policy::{ServicePolicy, Trigger};
use rollout::{Command, ImageDigest, Name, Provenance, Release, ReleaseId, Seconds, TargetId, Timestamp};
use std::fmt;

/// An image that was pushed under a tag, as an event or the registry tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePushed {
    /// The repository's name: `shop/api`.
    pub repository: String,
    /// `registry/repository`, as a task definition names it, without tag or digest.
    pub repository_uri: String,
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
    /// It was a release already: nothing changes, and nobody is woken.
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
}

/// A repository's address as task definitions name it (Amazon ECR user guide, "Amazon ECR registries"): the registry
/// is an account's, in a Region; China's Regions have a domain of their own.
#[must_use]
pub fn repository_uri(account: &str, region: &str, repository: &str) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("{account}.dkr.ecr.{region}.{domain}/{repository}")
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
/// completes what a crash left half done. A push from the future (a clock that is ahead) counts as pushed `now`.
///
/// # Errors
/// The first [`IntakeError`], after every service has had its turn: one service's trouble is not another's.
pub async fn image_pushed<L: Ledger, D: Doorbell>(
    ledger: &L,
    doorbell: &D,
    pushed: &ImagePushed,
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
        let taken = take_for(ledger, doorbell, &application, &service, &pushed).await?;
        tell(&application, &service, &pushed, &taken);
        Ok(ServiceIntake { application, service, taken })
    });
    let services = join_all(takings).await.into_iter().collect::<Result<Vec<_>, IntakeError>>()?;
    Ok(Intake { services })
}

async fn take_for<L: Ledger, D: Doorbell>(
    ledger: &L,
    doorbell: &D,
    application: &Name,
    service: &Name,
    pushed: &ImagePushed,
) -> Result<Taken, IntakeError> {
    let applied = ledger
        .policy(application)
        .await
        .map_err(IntakeError::ledger(format!("reading the policy of {application}")))?;
    let Some(applied) = applied else { return Ok(Taken::Ignored(Ignored::NotInPolicy)) };
    let rules = applied.policy.services.get(service).filter(|rules| rules.repository == pushed.repository);
    let Some(rules) = rules else { return Ok(Taken::Ignored(Ignored::NotInPolicy)) };
    if !policy::tags::matches(&rules.tags, &pushed.tag) {
        return Ok(Taken::Ignored(Ignored::Tag { tag: pushed.tag.clone() }));
    }
    record(ledger, doorbell, &applied, service, rules, pushed, None).await
}

/// Makes a release of an image whose tag matched, and asks for what the policy wants of it; `unasked` is a reason of
/// the caller's own to ask for nothing.
pub(super) async fn record<L: Ledger, D: Doorbell>(
    ledger: &L,
    doorbell: &D,
    applied: &Applied,
    service: &Name,
    rules: &ServicePolicy,
    pushed: &ImagePushed,
    unasked: Option<Unasked>,
) -> Result<Taken, IntakeError> {
    let application = &applied.policy.application;
    let id = ReleaseId { application: application.clone(), service: service.clone(), digest: pushed.digest.clone() };
    let (known, newest) = try_join(ledger.release_by_id(&id), ledger.releases(application, service, 1))
        .await
        .map_err(IntakeError::ledger(format!("reading the releases of {application}/{service}")))?;

    let targets = wanting(applied, service);
    if known.is_some() {
        // Its commands are in the ledger, or were not wanted when it was pushed. Nobody is woken: a command that nobody was
        // woken for is due, and the sweep wakes its target within a minute.
        return Ok(Taken::Known);
    }
    let newer = newest.into_iter().find(|newest| newest.pushed_at > pushed.pushed_at);
    let unasked = if let Some(newer) = newer {
        Some(Unasked::Superseded { by: newer.tag, pushed_at: newer.pushed_at })
    } else if unasked.is_some() {
        unasked
    } else if rules.paused {
        Some(Unasked::Paused)
    } else {
        targets.is_empty().then_some(Unasked::NoTrigger)
    };

    let release = Release {
        image: format!("{}@{}", pushed.repository_uri, id.digest),
        id,
        tag: pushed.tag.clone(),
        pushed_at: pushed.pushed_at,
        provenance: Provenance::default(),
    };
    let mut asked = vec![false; targets.len()];
    if unasked.is_none() {
        // `at` is the push's own time: whoever finds several in a target's inbox sees them in the order of the pushes.
        let commands: Vec<Command> = targets
            .iter()
            .map(|target| Command::push(target.clone(), &release, &pushed.repository, release.pushed_at))
            .collect();
        asked = try_join_all(commands.iter().map(|command| ledger.put_command(command)))
            .await
            .map_err(IntakeError::ledger(format!("asking for the deployment of {}", release.id)))?;
        for command in &commands {
            let (release, id) = (&release.id.digest, &command.id.0);
            tracing::info!(target_id = %command.target, %release, command_id = id, "its deployment is asked for");
        }
    }
    let recorded = ledger.put_release(&release).await;
    let new = recorded.map_err(IntakeError::ledger(format!("recording release {}", release.id)))?;
    match unasked {
        Some(why) => Ok(Taken::Recorded(why)),
        None => {
            // Of many events of one push that are taken in at once, those that changed nothing wake nobody.
            let woken = targets.iter().zip(asked).filter(|(_, asked)| *asked || new).map(|(target, _)| target.clone());
            let unrung = ring_all(doorbell, &woken.collect::<Vec<_>>(), &pushed.digest).await;
            Ok(Taken::Asked { targets, unrung })
        }
    }
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
async fn ring_all<D: Doorbell>(doorbell: &D, targets: &[TargetId], release: &ImageDigest) -> usize {
    let rings = targets.iter().map(|target| async move {
        let ring = Ring::wake(target.clone());
        match doorbell.ring(&ring, Seconds(0)).await {
            Ok(()) => 0,
            Err(reason) => {
                tracing::warn!(target_id = %target, %release, reason, "could not be woken: left to the sweep");
                1
            }
        }
    });
    join_all(rings).await.into_iter().sum()
}

/// One line for each service, whatever became of the push.
pub(super) fn tell(application: &Name, service: &Name, pushed: &ImagePushed, taken: &Taken) {
    let ImagePushed { digest, tag, repository, .. } = pushed;
    match taken {
        Taken::Recorded(why @ Unasked::BeforePolicy { .. }) => tracing::warn!(
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
                for (index, target) in targets.iter().enumerate() {
                    write!(f, "{}{target}", if index == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Self::Recorded(why) => write!(f, "a new release; deployed nowhere: {why}"),
            Self::Known => f.write_str("known already: nothing is asked twice"),
            Self::Ignored(why) => write!(f, "ignored: {why}"),
        }
    }
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

    #[test]
    fn china_has_a_domain_of_its_own() {
        assert_eq!(repository_uri("1", "eu-west-1", "shop/api"), "1.dkr.ecr.eu-west-1.amazonaws.com/shop/api");
        assert_eq!(repository_uri("1", "cn-north-1", "api"), "1.dkr.ecr.cn-north-1.amazonaws.com.cn/api");
    }
}
