//! The image registry on ECR, read-only.

use crate::config::Clients;
use crate::error::AwsFailure;
#[cfg(feature = "cloud")]
use aws_sdk_ecr::types::{DescribeImagesFilter, ImageDetail, TagStatus};
#[cfg(feature = "cloud")]
use aws_sdk_ecr::types::{ImageIdentifier, ImageStatus, ImageStatusFilter};
use engine::{ImageRegistry, PushedImage};
use rollout::policy::RegistryPolicy;
use rollout::registry::repository_uri;
use rollout::{ImageDigest, Tag, Timestamp};
#[cfg(feature = "cloud")]
use rollout::{Reading, promotion::ImageState};

/// Images per call: the most that DescribeImages returns (API reference, `maxResults`). ECR publishes no rate limit for it
/// (user guide, "Amazon ECR service quotas"); a repository has at most 100,000 images unless that quota was raised.
const PAGE_SIZE: i32 = 1000;

/// Registries of any account and Region, by default those of the clients.
#[derive(Debug, Clone)]
pub struct EcrRegistry {
    clients: Clients,
}

impl EcrRegistry {
    /// Makes no call to AWS yet.
    #[must_use]
    pub fn new(clients: Clients) -> Self {
        Self { clients }
    }
}

impl ImageRegistry for EcrRegistry {
    async fn images(&self, registry: &RegistryPolicy, repository: &str) -> Result<Vec<PushedImage>, String> {
        let own_region = self.clients.config().await.region().map(ToString::to_string);
        let region = registry.region.clone().or(own_region).ok_or("no Region is set: AWS_REGION names it")?;
        let ecr = self.clients.ecr_in(registry.region.as_deref()).await;
        let mut pages = ecr
            .describe_images()
            .set_registry_id(registry.account.clone())
            .repository_name(repository)
            .filter(DescribeImagesFilter::builder().tag_status(TagStatus::Tagged).build())
            .max_results(PAGE_SIZE)
            .into_paginator()
            .send();
        let mut images = vec![];
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| AwsFailure::of("DescribeImages", &error).reason().to_owned())?;
            for detail in page.image_details.unwrap_or_default() {
                images.push(pushed_image(&detail, repository, &region)?);
            }
        }
        Ok(images)
    }
}

/// Whether the registry in an image's reference still has the image. Archived images cannot be pulled, and are described only
/// on request (Amazon ECR user guide, "Archiving an image"; API reference, `DescribeImagesFilter`).
#[cfg(feature = "cloud")]
pub(crate) async fn image_state(clients: &Clients, image: &str) -> Reading<ImageState> {
    let Some(named) = EcrImageRef::parse(image) else {
        return Reading::Unknown(format!("{image} names no image of ECR by its digest"));
    };
    let any = DescribeImagesFilter::builder().image_status(ImageStatusFilter::Any).build();
    let ecr = clients.ecr_in(Some(named.region)).await;
    let request = ecr
        .describe_images()
        .registry_id(named.account)
        .repository_name(named.repository)
        .image_ids(ImageIdentifier::builder().image_digest(named.digest).build())
        .filter(any);
    match request.send().await {
        Ok(answer) => image_state_from(answer.image_details()),
        Err(error) => match error.as_service_error() {
            // A repository that is not found may be one that this role cannot see: that says nothing about the image.
            Some(error) if error.is_image_not_found_exception() => Reading::Known(ImageState::Gone),
            _ => Reading::Unknown(AwsFailure::of("DescribeImages", &error).reason().to_owned()),
        },
    }
}

/// State of one described image. An image that is being restored cannot be pulled yet.
#[cfg(feature = "cloud")]
fn image_state_from(details: &[ImageDetail]) -> Reading<ImageState> {
    match details.first().map(|detail| detail.image_status()) {
        None => Reading::Known(ImageState::Gone),
        // Registries without archiving leave the status out.
        Some(None | Some(ImageStatus::Active)) => Reading::Known(ImageState::Present),
        Some(Some(ImageStatus::Archived | ImageStatus::Activating)) => Reading::Known(ImageState::Archived),
        Some(Some(other)) => Reading::Unknown(format!("DescribeImages: the image is {}", other.as_str())),
    }
}

/// Parts of an image reference: `ACCOUNT.dkr.ecr.REGION.DOMAIN/REPOSITORY@DIGEST`.
#[cfg(feature = "cloud")]
#[derive(Debug, PartialEq, Eq)]
struct EcrImageRef<'i> {
    account: &'i str,
    region: &'i str,
    repository: &'i str,
    digest: &'i str,
}

#[cfg(feature = "cloud")]
impl<'i> EcrImageRef<'i> {
    fn parse(image: &'i str) -> Option<Self> {
        let (name, digest) = image.split_once('@')?;
        let (host, repository) = name.split_once('/')?;
        // `.dkr.ecr.`, `.dkr.ecr-fips.`, and `.dkr-ecr.` of dual-stack hosts (Amazon ECR endpoints and quotas).
        let (account, rest) = host
            .split_once(".dkr.ecr.")
            .or_else(|| host.split_once(".dkr-ecr."))
            .or_else(|| host.split_once(".dkr.ecr-fips.").or_else(|| host.split_once(".dkr-ecr-fips.")))?;
        let region = rest.split('.').next()?;
        let sound = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        (sound && !region.is_empty()).then_some(Self { account, region, repository, digest })
    }
}

fn pushed_image(detail: &ImageDetail, repository: &str, region: &str) -> Result<PushedImage, String> {
    let missing = |what: &str| format!("DescribeImages: an image of {repository} has no {what}");
    let pushed_at = detail.image_pushed_at().ok_or_else(|| missing("time of push"))?;
    let nanoseconds = i32::try_from(pushed_at.subsec_nanos()).unwrap_or(0);
    let pushed_at = Timestamp::new(pushed_at.secs(), nanoseconds).map_err(|error| error.to_string())?;
    let account = detail.registry_id().ok_or_else(|| missing("registry"))?.to_owned();
    let digest = ImageDigest::new(detail.image_digest().ok_or_else(|| missing("digest"))?);
    Ok(PushedImage {
        repository_uri: repository_uri(&rollout::Registry { account, region: region.to_owned() }, repository),
        digest: digest.map_err(|error| error.to_string())?,
        // ECR accepts no other tags. An invalid one cannot be used anywhere, and is no reason to lose the whole listing.
        tags: detail.image_tags().iter().filter(|tag| Tag::new(tag.as_str()).is_ok()).cloned().collect(),
        pushed_at,
        artifact_media_type: detail.artifact_media_type().map(ToOwned::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ecr::primitives::DateTime;

    fn detail(pushed_at_s: i64) -> ImageDetail {
        ImageDetail::builder()
            .registry_id("123456789012")
            .repository_name("shop/api")
            .image_digest(format!("sha256:{}", "a1".repeat(32)))
            .image_tags("v1")
            .image_tags("latest")
            .image_pushed_at(DateTime::from_secs_and_nanos(pushed_at_s, 500_000_000))
            .artifact_media_type("application/vnd.docker.container.image.v1+json")
            .build()
    }

    #[test]
    fn an_image_has_all_its_tags_and_its_repository_uri() {
        let image = pushed_image(&detail(1000), "shop/api", "eu-central-1").expect("readable");
        assert_eq!(image.repository_uri, "123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop/api");
        assert_eq!(image.tags, ["v1", "latest"]);
        assert_eq!(image.pushed_at.as_millisecond(), 1_000_500);
        assert_eq!(image.artifact_media_type.as_deref(), Some("application/vnd.docker.container.image.v1+json"));
    }

    #[test]
    fn invalid_tags_are_dropped() {
        let mut image = detail(1000);
        let tags = ["--help", ".hidden", "v1\nv2", "v1\u{202e}2v", "v1\u{200b}", "v2"];
        image.image_tags = Some(tags.map(str::to_owned).to_vec());
        let image = pushed_image(&image, "shop/api", "eu-central-1").expect("readable");
        assert_eq!(image.tags, ["v2"]);
    }

    #[test]
    fn an_image_without_a_digest_is_an_error() {
        let mut image = detail(1000);
        image.image_digest = None;
        let answer = pushed_image(&image, "shop/api", "eu-central-1");
        assert_eq!(answer, Err("DescribeImages: an image of shop/api has no digest".to_owned()));
    }

    #[cfg(feature = "cloud")]
    #[test]
    fn an_image_reference_is_parsed_for_every_ecr_host() {
        let digest = format!("sha256:{}", "a1".repeat(32));
        for host in
            ["dkr.ecr.eu-west-1.amazonaws.com", "dkr-ecr.eu-west-1.on.aws", "dkr.ecr-fips.eu-west-1.amazonaws.com"]
        {
            let image = format!("123456789012.{host}/shop/api@{digest}");
            let expected =
                EcrImageRef { account: "123456789012", region: "eu-west-1", repository: "shop/api", digest: &digest };
            assert_eq!(EcrImageRef::parse(&image), Some(expected), "{image}");
        }
        for other in [
            "r/api@sha256:1",
            "public.ecr.aws/nginx/nginx@sha256:1",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a:v1",
        ] {
            assert_eq!(EcrImageRef::parse(other), None, "{other}");
        }
    }

    #[cfg(feature = "cloud")]
    #[test]
    fn archived_and_missing_images_are_distinguished() {
        let with =
            |status: Option<ImageStatus>| image_state_from(&[ImageDetail::builder().set_image_status(status).build()]);
        assert_eq!(image_state_from(&[]), Reading::Known(ImageState::Gone));
        assert_eq!(with(None), Reading::Known(ImageState::Present));
        assert_eq!(with(Some(ImageStatus::Active)), Reading::Known(ImageState::Present));
        assert_eq!(with(Some(ImageStatus::Archived)), Reading::Known(ImageState::Archived));
        assert_eq!(with(Some(ImageStatus::Activating)), Reading::Known(ImageState::Archived));
    }
}
