//! AWS's partitions and their Regions, with the domain of each partition's services.
//!
//! From the partition table of AWS's SDKs (`partitions.json` of aws-sdk-js-v3 3.985, February 2026). A Region that AWS
//! opens later is unknown to this version.

/// A partition: a set of Regions with accounts, ARNs and a domain of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// As in ARNs: `aws-cn`.
    pub name: &'static str,
    /// Domain of its services' host names: `amazonaws.com.cn`.
    pub dns_suffix: &'static str,
    /// Its Regions.
    pub regions: &'static [&'static str],
}

/// All partitions.
pub const PARTITIONS: &[Partition] = &[
    Partition {
        name: "aws",
        dns_suffix: "amazonaws.com",
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
    Partition { name: "aws-cn", dns_suffix: "amazonaws.com.cn", regions: &["cn-north-1", "cn-northwest-1"] },
    Partition { name: "aws-eusc", dns_suffix: "amazonaws.eu", regions: &["eusc-de-east-1"] },
    Partition { name: "aws-iso", dns_suffix: "c2s.ic.gov", regions: &["us-iso-east-1", "us-iso-west-1"] },
    Partition { name: "aws-iso-b", dns_suffix: "sc2s.sgov.gov", regions: &["us-isob-east-1", "us-isob-west-1"] },
    Partition { name: "aws-iso-e", dns_suffix: "cloud.adc-e.uk", regions: &["eu-isoe-west-1"] },
    Partition { name: "aws-iso-f", dns_suffix: "csp.hci.ic.gov", regions: &["us-isof-east-1", "us-isof-south-1"] },
    Partition { name: "aws-us-gov", dns_suffix: "amazonaws.com", regions: &["us-gov-east-1", "us-gov-west-1"] },
];

/// The partition of a Region; none: no such Region is known.
#[must_use]
pub fn partition_of(region: &str) -> Option<&'static Partition> {
    PARTITIONS.iter().find(|partition| partition.regions.contains(&region))
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
            assert_eq!(regions().filter(|other| *other == region).count(), 1);
        }
        for text in ["us-west-9", "us-west-2a", "", "aws-global", "US-EAST-1"] {
            assert_eq!(partition_of(text), None, "{text}");
        }
    }
}
