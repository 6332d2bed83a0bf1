//! AWS's partitions and their Regions, with the domains of each partition's services.
//!
//! From the partition table of AWS's SDKs (`partitions.json` of aws-sdk-js-v3 3.985, February 2026). A Region that AWS
//! opens later is not listed in this version; its partition is known by the prefix of its name.

/// A partition: a set of Regions with accounts, ARNs and a domain of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// As in ARNs: `aws-cn`.
    pub name: &'static str,
    /// Domain of its services' host names: `amazonaws.com.cn`.
    pub dns_suffix: &'static str,
    /// Domain of the dual-stack host names (IPv4 and IPv6) of ECR's registries: `on.aws`. Not part of the SDKs' table:
    /// those of `aws`, `aws-cn` and `aws-eusc` are known to Amazon's credential helper for ECR and to Renovate, those
    /// of the isolated partitions to Renovate.
    pub(crate) dual_stack_suffix: &'static str,
    /// Prefixes of the names of its Regions (`regionRegex`), which those that AWS opens later have as well.
    pub(crate) region_prefixes: &'static [&'static str],
    /// Its Regions, as listed in this version.
    pub regions: &'static [&'static str],
}

/// All partitions.
pub const PARTITIONS: &[Partition] = &[
    Partition {
        name: "aws",
        dns_suffix: "amazonaws.com",
        dual_stack_suffix: "on.aws",
        region_prefixes: &["us-", "eu-", "ap-", "sa-", "ca-", "me-", "af-", "il-", "mx-"],
        regions: &[
            "af-south-1",
            "ap-east-1",
            "ap-east-2",
            "ap-northeast-1",
            "ap-northeast-2",
            "ap-northeast-3",
            "ap-south-1",
            "ap-south-2",
            "ap-southeast-1",
            "ap-southeast-2",
            "ap-southeast-3",
            "ap-southeast-4",
            "ap-southeast-5",
            "ap-southeast-6",
            "ap-southeast-7",
            "ca-central-1",
            "ca-west-1",
            "eu-central-1",
            "eu-central-2",
            "eu-north-1",
            "eu-south-1",
            "eu-south-2",
            "eu-west-1",
            "eu-west-2",
            "eu-west-3",
            "il-central-1",
            "me-central-1",
            "me-south-1",
            "mx-central-1",
            "sa-east-1",
            "us-east-1",
            "us-east-2",
            "us-west-1",
            "us-west-2",
        ],
    },
    Partition {
        name: "aws-cn",
        dns_suffix: "amazonaws.com.cn",
        dual_stack_suffix: "on.amazonwebservices.com.cn",
        region_prefixes: &["cn-"],
        regions: &["cn-north-1", "cn-northwest-1"],
    },
    Partition {
        name: "aws-eusc",
        dns_suffix: "amazonaws.eu",
        dual_stack_suffix: "on.amazonwebservices.eu",
        region_prefixes: &["eusc-"],
        regions: &["eusc-de-east-1"],
    },
    Partition {
        name: "aws-iso",
        dns_suffix: "c2s.ic.gov",
        dual_stack_suffix: "on.aws.ic.gov",
        region_prefixes: &["us-iso-"],
        regions: &["us-iso-east-1", "us-iso-west-1"],
    },
    Partition {
        name: "aws-iso-b",
        dns_suffix: "sc2s.sgov.gov",
        dual_stack_suffix: "on.aws.scloud",
        region_prefixes: &["us-isob-"],
        regions: &["us-isob-east-1", "us-isob-west-1"],
    },
    Partition {
        name: "aws-iso-e",
        dns_suffix: "cloud.adc-e.uk",
        dual_stack_suffix: "on.cloud-aws.adc-e.uk",
        region_prefixes: &["eu-isoe-"],
        regions: &["eu-isoe-west-1"],
    },
    Partition {
        name: "aws-iso-f",
        dns_suffix: "csp.hci.ic.gov",
        dual_stack_suffix: "on.aws.hci.ic.gov",
        region_prefixes: &["us-isof-"],
        regions: &["us-isof-east-1", "us-isof-south-1"],
    },
    Partition {
        name: "aws-us-gov",
        dns_suffix: "amazonaws.com",
        dual_stack_suffix: "on.aws",
        region_prefixes: &["us-gov-"],
        regions: &["us-gov-east-1", "us-gov-west-1"],
    },
];

/// The partition of a Region; none: no such Region is known.
#[must_use]
pub fn partition_of(region: &str) -> Option<&'static Partition> {
    PARTITIONS.iter().find(|partition| partition.regions.contains(&region))
}

/// The partition that a Region's name belongs to by its prefix, whether or not the Region is listed; none: no partition
/// has that prefix. The longest prefix counts: `us-iso-east-1` is not in the partition of `us-`.
pub(crate) fn partition_by_prefix(region: &str) -> Option<&'static Partition> {
    let prefixes = PARTITIONS
        .iter()
        .flat_map(|partition| partition.region_prefixes.iter().map(move |prefix| (prefix.len(), *prefix, partition)));
    let matching = prefixes.filter(|(_, prefix, _)| region.starts_with(*prefix));
    matching.max_by_key(|(length, ..)| *length).map(|(_, _, partition)| partition)
}

/// All Regions of all partitions.
pub fn regions() -> impl Iterator<Item = &'static str> {
    PARTITIONS.iter().flat_map(|partition| partition.regions.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_region_belongs_to_one_partition() {
        for (region, partition) in [
            ("eu-central-1", "aws"),
            ("cn-north-1", "aws-cn"),
            ("us-gov-west-1", "aws-us-gov"),
            ("eusc-de-east-1", "aws-eusc"),
            ("us-isob-east-1", "aws-iso-b"),
        ] {
            assert_eq!(partition_of(region).map(|partition| partition.name), Some(partition));
            assert_eq!(partition_by_prefix(region).map(|partition| partition.name), Some(partition));
            assert_eq!(regions().filter(|other| *other == region).count(), 1);
        }
        for text in ["us-west-9", "us-west-2a", "", "aws-global", "US-EAST-1"] {
            assert_eq!(partition_of(text), None, "{text}");
        }
    }
}
