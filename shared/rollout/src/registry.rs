//! Amazon ECR's private registries: their owners, and their host names in task definitions.
//!
//! A registry belongs to an account in a Region, and has up to four host names (Amazon ECR user guide, "Amazon ECR
//! registries" and "Making requests over IPv6"; General Reference, "Amazon ECR endpoints"): `ACCOUNT.dkr.ecr.REGION.`
//! and the partition's domain, the same with `ecr-fips`, and `ACCOUNT.dkr-ecr.REGION.` (with FIPS: `dkr-ecr-fips`) and
//! the partition's dual-stack domain for IPv4 and IPv6.

use crate::regions::partition_by_prefix;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A registry: one per account and Region.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Registry {
    /// The account, 12 digits.
    pub account: String,
    /// The Region.
    pub region: String,
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "account {} in {}", self.account, self.region)
    }
}

/// Whether a text has the form of a Region name in any partition: `eu-central-1`, `us-isob-east-1`.
#[must_use]
pub fn is_region(text: &str) -> bool {
    let sound = (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.contains("--");
    let numbered = text
        .rsplit_once('-')
        .is_some_and(|(_, number)| (1..=2).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit()));
    sound && numbered && text.matches('-').count() >= 2 && partition_by_prefix(text).is_some()
}

/// Whether a text has the form of an account ID.
#[must_use]
pub fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// A repository as task definitions name it, `host/repository`, without tag or digest. For a Region of no known
/// partition, the host has the domain that most partitions use.
#[must_use]
pub fn repository_uri(registry: &Registry, repository: &str) -> String {
    let Registry { account, region } = registry;
    let domain = partition_by_prefix(region).map_or("amazonaws.com", |partition| partition.dns_suffix);
    format!("{account}.dkr.ecr.{region}.{domain}/{repository}")
}

/// The registry behind any of its host names; none: not a private registry of ECR.
#[must_use]
pub fn registry_of(host: &str) -> Option<Registry> {
    let (account, rest) = host.split_once('.')?;
    let (rest, dual_stack) = match rest.strip_prefix("dkr.ecr") {
        Some(rest) => (rest, false),
        None => (rest.strip_prefix("dkr-ecr")?, true),
    };
    let rest = rest.strip_prefix("-fips").unwrap_or(rest).strip_prefix('.')?;
    let (region, domain) = rest.split_once('.')?;
    let partition = partition_by_prefix(region).filter(|_| is_region(region) && is_account(account))?;
    let wanted = if dual_stack { partition.dual_stack_suffix } else { partition.dns_suffix };
    (domain == wanted).then(|| Registry { account: account.to_owned(), region: region.to_owned() })
}

/// The parts of an image reference: host, repository path, and the digest, if there is one.
struct Parts<'a> {
    host: &'a str,
    path: &'a str,
    digest: Option<&'a str>,
}

fn parts(image: &str) -> Option<Parts<'_>> {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let (host, path) = name.split_once('/')?;
    let path = path.split(':').next().unwrap_or(path);
    Some(Parts { host, path, digest })
}

/// `wanted`, with the host under which `live` names the same repository of the same registry: a service in IPv6-only
/// subnets can pull from the dual-stack host only, and one that has to use FIPS from the FIPS host only. So two
/// versions of a task definition differ in the digest alone. Any other image is returned unchanged.
#[must_use]
pub fn with_host_of(live: &str, wanted: &str) -> String {
    let kept = || {
        let (live, wanted) = (parts(live)?, parts(wanted)?);
        let same = live.path == wanted.path && registry_of(live.host)? == registry_of(wanted.host)?;
        Some(format!("{}/{}@{}", live.host, live.path, wanted.digest.filter(|_| same)?))
    };
    kept().unwrap_or_else(|| wanted.to_owned())
}

/// Whether two images have the same digest in the same repository, whichever host names they use.
#[must_use]
pub fn is_same_image(one: &str, other: &str) -> bool {
    let pinned = || {
        let (one, other) = (parts(one)?, parts(other)?);
        let same_host = one.host == other.host || registry_of(one.host)? == registry_of(other.host)?;
        Some(one.path == other.path && one.digest? == other.digest? && same_host)
    };
    one == other || pinned() == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(region: &str) -> String {
        repository_uri(&Registry { account: "111122223333".to_owned(), region: region.to_owned() }, "shop/api")
    }

    /// Issue 10, case 14. Domains: `partitions.json` of the AWS SDKs.
    #[test]
    fn every_partition_has_a_domain_of_its_own() {
        let domains = [
            ("eu-west-1", "amazonaws.com"),
            ("us-gov-west-1", "amazonaws.com"),
            ("cn-north-1", "amazonaws.com.cn"),
            ("eusc-de-east-1", "amazonaws.eu"),
            ("us-iso-east-1", "c2s.ic.gov"),
            ("us-isob-east-1", "sc2s.sgov.gov"),
            ("eu-isoe-west-1", "cloud.adc-e.uk"),
            ("us-isof-south-1", "csp.hci.ic.gov"),
        ];
        for (region, domain) in domains {
            assert_eq!(uri(region), format!("111122223333.dkr.ecr.{region}.{domain}/shop/api"));
            assert!(is_region(region), "{region}");
        }
    }

    #[test]
    fn every_registry_host_form_is_recognised() {
        let registry = |region: &str| Some(Registry { account: "111122223333".into(), region: region.into() });
        let hosts = [
            ("111122223333.dkr.ecr.eu-central-1.amazonaws.com", registry("eu-central-1")),
            ("111122223333.dkr.ecr-fips.us-east-1.amazonaws.com", registry("us-east-1")),
            ("111122223333.dkr-ecr.eu-central-1.on.aws", registry("eu-central-1")),
            ("111122223333.dkr-ecr-fips.us-gov-west-1.on.aws", registry("us-gov-west-1")),
            ("111122223333.dkr.ecr.eusc-de-east-1.amazonaws.eu", registry("eusc-de-east-1")),
            ("111122223333.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", registry("cn-north-1")),
            ("111122223333.dkr.ecr.us-isob-east-1.sc2s.sgov.gov", registry("us-isob-east-1")),
            // Wrong partition, no Region, no account, another registry's host.
            ("111122223333.dkr.ecr.cn-north-1.amazonaws.com", None),
            ("111122223333.dkr.ecr.evil.example.com", None),
            ("shop.dkr.ecr.eu-central-1.amazonaws.com", None),
            ("public.ecr.aws", None),
            ("ghcr.io", None),
        ];
        for (host, wanted) in hosts {
            assert_eq!(registry_of(host), wanted, "{host}");
        }
    }

    /// Issue 10, case 14: a service in IPv6-only subnets.
    #[test]
    fn the_live_image_host_is_kept_for_the_same_repository() {
        let wanted = "111122223333.dkr.ecr.eu-central-1.amazonaws.com/shop/api@sha256:bb";
        let kept = [
            ("111122223333.dkr-ecr.eu-central-1.on.aws/shop/api@sha256:aa", "111122223333.dkr-ecr.eu-central-1.on.aws"),
            ("111122223333.dkr-ecr.eu-central-1.on.aws/shop/api:v1", "111122223333.dkr-ecr.eu-central-1.on.aws"),
            (
                "111122223333.dkr.ecr-fips.eu-central-1.amazonaws.com/shop/api:v1@sha256:aa",
                "111122223333.dkr.ecr-fips.eu-central-1.amazonaws.com",
            ),
        ];
        for (live, host) in kept {
            assert_eq!(with_host_of(live, wanted), format!("{host}/shop/api@sha256:bb"), "{live}");
        }
        let others = [
            "111122223333.dkr-ecr.eu-central-1.on.aws/shop/web:v1",
            "444455556666.dkr-ecr.eu-central-1.on.aws/shop/api:v1",
            "111122223333.dkr-ecr.eu-west-1.on.aws/shop/api:v1",
            "ghcr.io/shop/api:v1",
            "nginx",
        ];
        for live in others {
            assert_eq!(with_host_of(live, wanted), wanted, "{live}");
        }
    }

    #[test]
    fn images_on_any_host_of_a_registry_are_equal() {
        let plain = "111122223333.dkr.ecr.eu-central-1.amazonaws.com/shop/api@sha256:aa";
        let dual = "111122223333.dkr-ecr.eu-central-1.on.aws/shop/api@sha256:aa";
        assert!(is_same_image(plain, dual) && is_same_image("nginx", "nginx"));
        assert!(!is_same_image(plain, "111122223333.dkr-ecr.eu-central-1.on.aws/shop/api@sha256:bb"));
        assert!(!is_same_image(plain, "111122223333.dkr-ecr.eu-central-1.on.aws/shop/api:v1"));
    }

    #[test]
    fn invalid_region_names_are_rejected() {
        for text in
            ["", "us", "us-west", "eu-central-1.evil.com/", "moon-east-1", "us-west-2a", "US-EAST-1", "us--west-2"]
        {
            assert!(!is_region(text), "{text}");
        }
    }
}
