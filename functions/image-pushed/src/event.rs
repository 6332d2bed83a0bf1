//! Parses the events "ECR Image Action" and "ECR Replication Action" (Amazon ECR user guide, "Amazon ECR events and EventBridge")
//! into pushed images. A replica causes only the second one, at the destination registry.

use engine::intake::{ImagePushed, is_image};
use lambda::InvocationFailure;
use rollout::{ImageDigest, Registry, Tag};
use serde::Deserialize;
use serde_json::Value;
use std::fmt;

/// Maximum tag length, in characters (OCI distribution specification, "Pulling manifests").
pub(crate) const MAX_TAG_CHARS: usize = 128;
/// Maximum length of a repository name, in characters (Amazon ECR API reference, `CreateRepository`).
pub(crate) const MAX_REPOSITORY_CHARS: usize = 256;

/// Result of parsing an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ParsedPush {
    /// A new image.
    Pushed(ImagePushed),
    /// Nothing that could become a release.
    Ignored(IgnoreReason),
}

/// Why an event is ignored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum IgnoreReason {
    /// Neither PUSH nor REPLICATE.
    Action(String),
    /// The action did not succeed.
    Result(String),
    /// The replication failed: the image is not deployed, and this is logged for those who wait for it.
    NotReplicated {
        /// Name of the repository.
        repository: String,
        /// Tag; empty if the event has none.
        tag: String,
        /// Source account and Region, as far as the event names them.
        source: String,
    },
    /// Untagged: part of a multi-architecture image, whose index carries the tag.
    Untagged,
    /// A signature, an SBOM or a chart.
    NotAnImage {
        /// Image tag of the push.
        tag: String,
        /// Its declared media type.
        media_type: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Detail {
    action_type: String,
    result: String,
    repository_name: String,
    image_digest: Option<String>,
    image_tag: Option<String>,
    source_account: Option<String>,
    source_region: Option<String>,
    artifact_media_type: Option<String>,
}

/// Reads an event as delivered by EventBridge.
///
/// # Errors
/// `InvalidEvent`, with the problem: a foreign event, or a missing or invalid field.
pub(crate) fn read(event: Value) -> Result<ParsedPush, InvocationFailure> {
    let event = lambda::eventbridge(event)?;
    let replication = event.detail_type == "ECR Replication Action";
    if event.source != "aws.ecr" || !(replication || event.detail_type == "ECR Image Action") {
        return Err(lambda::unexpected_event(
            &event,
            "`ECR Image Action` and `ECR Replication Action` events of `aws.ecr`",
        ));
    }
    let detail: Detail = lambda::read(event.detail.clone(), "detail")?;
    if !matches!(detail.action_type.as_str(), "PUSH" | "REPLICATE") {
        return Ok(ParsedPush::Ignored(IgnoreReason::Action(detail.action_type)));
    }
    if replication && detail.result == "FAILED" {
        let source: Vec<&str> =
            [&detail.source_account, &detail.source_region].into_iter().flatten().map(String::as_str).collect();
        let (source, tag) = (source.join(" in "), detail.image_tag.unwrap_or_default());
        return Ok(ParsedPush::Ignored(IgnoreReason::NotReplicated {
            repository: detail.repository_name,
            tag,
            source,
        }));
    }
    if detail.result != "SUCCESS" {
        return Ok(ParsedPush::Ignored(IgnoreReason::Result(detail.result)));
    }
    let Some(tag) = detail.image_tag.filter(|tag| !tag.is_empty()) else {
        return Ok(ParsedPush::Ignored(IgnoreReason::Untagged));
    };
    if !is_image(&tag, detail.artifact_media_type.as_deref()) {
        let media_type = detail.artifact_media_type.unwrap_or_default();
        return Ok(ParsedPush::Ignored(IgnoreReason::NotAnImage { tag, media_type }));
    }
    for (part, text, longest) in
        [("image-tag", &tag, MAX_TAG_CHARS), ("repository-name", &detail.repository_name, MAX_REPOSITORY_CHARS)]
    {
        if text.len() > longest {
            return Err(InvocationFailure::event(format!(
                "detail.{part}: longer than ECR lets it be ({longest}): `{text}`"
            )));
        }
    }
    let tag = Tag::new(tag).map_err(|error| InvocationFailure::event(format!("detail.image-tag: {error}")))?;
    let missing = |what: &str| InvocationFailure::event(format!("{what}: missing"));
    let digest = detail.image_digest.ok_or_else(|| missing("detail.image-digest"))?;
    let digest =
        ImageDigest::new(digest).map_err(|error| InvocationFailure::event(format!("detail.image-digest: {error}")))?;
    let pushed_at = lambda::event_time(&event)?;
    let account = event.account.filter(|account| !account.is_empty()).ok_or_else(|| missing("account"))?;
    let region = event.region.filter(|region| !region.is_empty()).ok_or_else(|| missing("region"))?;
    Ok(ParsedPush::Pushed(ImagePushed {
        registry: Registry { account, region },
        repository: detail.repository_name,
        digest,
        tag: tag.to_string(),
        pushed_at,
    }))
}

impl fmt::Display for IgnoreReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Action(action) => write!(f, "the action is {action}, not PUSH or REPLICATE"),
            Self::Result(result) => write!(f, "the action's result is {result}"),
            Self::NotReplicated { repository, tag, source } => {
                write!(f, "the replica of {repository}:{tag} from account {source} did not arrive: it is not deployed")
            }
            Self::Untagged => f.write_str("it has no tag"),
            Self::NotAnImage { tag, media_type } => {
                write!(f, "{tag} is no container image")?;
                if media_type.is_empty() { Ok(()) } else { write!(f, " but {media_type}") }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! event {
        ($case:literal) => {
            serde_json::from_str::<Value>(include_str!(concat!("../../../events/image-pushed.", $case, ".json")))
                .expect("the payload is JSON")
        };
    }

    fn pushed(tag: &str, region: &str) -> ParsedPush {
        ParsedPush::Pushed(ImagePushed {
            registry: Registry { account: "123456789012".to_owned(), region: region.to_owned() },
            repository: "shop/api".to_owned(),
            digest: ImageDigest::new("sha256:7f5b2640fe6fb4f46592dfd3410c4a79dac4f89e4782432e0378abcd12345678")
                .expect("a digest"),
            tag: tag.to_owned(),
            pushed_at: "2026-11-22T01:54:34Z".parse().expect("a time"),
        })
    }

    #[test]
    fn a_push_is_parsed() {
        let parsed = read(event!("push")).expect("an event of ours");
        assert_eq!(parsed, pushed("v1.4.0", "us-west-2"));
    }

    /// Issue 10, case 13. The payload is that of the Amazon ECR user guide, "Sample events: Event for a completed image
    /// replication": `account` and `region` are the destination registry's.
    #[test]
    fn a_replicated_image_has_the_destination_registry() {
        let parsed = read(event!("replicate")).expect("an event of ours");
        assert_eq!(parsed, pushed("v1.4.0", "eu-central-1"));
    }

    /// Issue 10, case 13: failures are `FAILED`, where those of image actions are `FAILURE`.
    #[test]
    fn a_failed_replication_is_ignored_with_its_source() {
        let ParsedPush::Ignored(reason) = read(event!("replicate-failed")).expect("an event of ours") else {
            panic!("nothing was pushed");
        };
        assert!(matches!(&reason, IgnoreReason::NotReplicated { tag, .. } if tag == "v1.4.0"), "{reason:?}");
        assert!(reason.to_string().contains("210987654321 in us-west-2"), "{reason}");
    }

    #[test]
    fn a_multi_architecture_index_is_parsed() {
        let parsed = read(event!("push-index")).expect("an event of ours");
        assert_eq!(parsed, pushed("v1.4.0", "us-west-2"));
    }

    #[test]
    fn deletions_failures_and_non_images_are_ignored() {
        let reasons: Vec<String> = [
            event!("delete"),
            event!("failed"),
            event!("untagged"),
            event!("helm-chart"),
            event!("cosign-signature"),
            event!("sbom"),
        ]
        .into_iter()
        .map(|event| match read(event).expect("an event of ours") {
            ParsedPush::Ignored(reason) => reason.to_string(),
            ParsedPush::Pushed(pushed) => panic!("{pushed:?} is no new image"),
        })
        .collect();
        assert_eq!(
            reasons,
            [
                "the action is DELETE, not PUSH or REPLICATE",
                "the action's result is FAILURE",
                "it has no tag",
                "1.2.0 is no container image but application/vnd.cncf.helm.config.v1+json",
                "sha256-7f5b2640fe6fb4f46592dfd3410c4a79dac4f89e4782432e0378abcd12345678.sig is no container image \
                 but application/vnd.oci.image.config.v1+json",
                "v1.4.0-sbom is no container image but application/spdx+json",
            ]
        );
    }

    #[test]
    fn invalid_events_name_the_wrong_field() {
        let wrongs: Vec<String> =
            [event!("foreign"), event!("no-digest"), event!("bad-digest"), event!("no-repository")]
                .into_iter()
                .map(|event| read(event).expect_err("nothing to be taken in").to_string())
                .collect();
        assert_eq!(
            wrongs,
            [
                "an event `ECR Image Scan` of `aws.ecr` was sent here, where only `ECR Image Action` and \
                 `ECR Replication Action` events of `aws.ecr` are taken",
                "detail.image-digest: missing",
                "detail.image-digest: `latest` is not an image digest: `sha256:` and 64 hexadecimal digits",
                "detail: missing field `repository-name`",
            ]
        );
    }

    #[test]
    fn malformed_events_are_refused() {
        let failure = read(serde_json::json!([1, 2])).expect_err("no event");
        assert_eq!(failure.kind(), "InvalidEvent");
        let failure = read(serde_json::json!({"detail-type": "ECR Image Action"})).expect_err("no event");
        assert_eq!(failure.to_string(), "the event: missing field `source`");
    }
}
