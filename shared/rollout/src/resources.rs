//! The AWS resources that a policy names for a target: what runs it, and how traffic reaches it.

use crate::names::Slot;
use crate::platform::{Platform, WorkloadName};
use serde::{Deserialize, Serialize};

/// What runs a target, and how traffic reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetResources {
    /// What runs it.
    pub platform: Platform,
    /// The load balancers whose weights are shifted together. Empty where versions replace one another in place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<Leg>,
}

/// One load balancer that a target is behind: the target group in which each side registers its tasks, and the rules
/// that split traffic between the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// ARN of the blue side's target group.
    pub blue: String,
    /// ARN of the green side's target group.
    pub green: String,
    /// ARNs of the listener rules, or of listeners (their default action), whose weights are shifted. Never empty.
    pub rules: Vec<String>,
    /// ARN of a rule or listener that only testers use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_rule: Option<String>,
}

impl TargetResources {
    /// ARNs of the rules whose weights are shifted, leg by leg: the order of
    /// [`Snapshot::rules`](crate::Snapshot::rules).
    pub fn rules(&self) -> impl Iterator<Item = &str> + Clone {
        self.traffic.iter().flat_map(|leg| &leg.rules).map(String::as_str)
    }

    /// ARNs of the test rules, leg by leg: the order of [`Snapshot::test_rules`](crate::Snapshot::test_rules).
    pub fn test_rules(&self) -> impl Iterator<Item = &str> + Clone {
        self.traffic.iter().filter_map(|leg| leg.test_rule.as_deref())
    }

    /// The leg that a rule or test rule belongs to.
    #[must_use]
    pub fn leg_of(&self, rule: &str) -> Option<&Leg> {
        self.traffic.iter().find(|leg| leg.all_rules().any(|arn| arn == rule))
    }

    /// ARNs of a side's target groups, leg by leg.
    pub fn target_groups(&self, slot: Slot) -> impl Iterator<Item = &str> + Clone {
        self.traffic.iter().map(move |leg| leg.target_group(slot))
    }

    /// The side that a target group belongs to.
    #[must_use]
    pub fn side_of_target_group(&self, arn: &str) -> Option<Slot> {
        Slot::BOTH.into_iter().find(|slot| self.target_groups(*slot).any(|group| group == arn))
    }

    /// Every target group: of each leg, or of what changes its version in place.
    pub fn all_target_groups(&self) -> impl Iterator<Item = &str> {
        let legs = self.traffic.iter().flat_map(|leg| [&leg.blue, &leg.green]);
        legs.chain(self.platform.target_groups_in_place()).map(String::as_str)
    }

    /// The resources that deployments to this target change. No other target may use them.
    pub fn exclusive(&self) -> impl Iterator<Item = Resource> {
        // A target is in one account and Region: a cluster given by name is in that of the target groups.
        let group = self.all_target_groups().next();
        let cluster = self.platform.ecs_services().next().map(|service| service.cluster);
        let location = group.or(cluster).map(account_and_region).unwrap_or_default();
        let workloads: Vec<Resource> = self.platform.workloads(&location).map(Resource::Workload).collect();
        let groups = self.all_target_groups().map(|arn| Resource::TargetGroup(arn.to_owned()));
        let rules = self.traffic.iter().flat_map(Leg::all_rules).map(|arn| Resource::Rule(arn.to_owned()));
        workloads.into_iter().chain(groups).chain(rules)
    }
}

impl Leg {
    /// ARN of this side's target group.
    #[must_use]
    pub fn target_group(&self, slot: Slot) -> &str {
        match slot {
            Slot::Blue => &self.blue,
            Slot::Green => &self.green,
        }
    }

    /// ARNs of its rules, the test rule last.
    pub fn all_rules(&self) -> impl Iterator<Item = &str> + Clone {
        self.rules.iter().chain(&self.test_rule).map(String::as_str)
    }
}

/// An AWS resource that deployments of one target change, exclusively.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// What runs it, or a side of it.
    Workload(WorkloadName),
    /// A target group, by ARN.
    TargetGroup(String),
    /// A listener rule, or a listener with its default action, by ARN.
    Rule(String),
}

impl Resource {
    /// A unique key: the same text for the same resource only.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Workload(workload) => workload.key.clone(),
            Self::TargetGroup(arn) => format!("target-group#{arn}"),
            Self::Rule(arn) => format!("rule#{arn}"),
        }
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Workload(workload) => f.write_str(&workload.description),
            Self::TargetGroup(arn) => write!(f, "the target group `{arn}`"),
            Self::Rule(arn) => write!(f, "the rule `{arn}`"),
        }
    }
}

/// The name in `arn:aws:ecs:region:account:cluster/name`, or the name itself.
#[must_use]
pub fn cluster_name(name_or_arn: &str) -> &str {
    name_or_arn.rsplit('/').next().unwrap_or(name_or_arn)
}

/// `region:account` of an ARN; empty if it is not an ARN.
fn account_and_region(arn: &str) -> String {
    let fields: Vec<&str> = arn.splitn(6, ':').collect();
    match fields.as_slice() {
        ["arn", _, _, region, account, _] => format!("{region}:{account}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::EcsPair;

    fn resources(cluster: &str) -> TargetResources {
        let group = |name: &str| format!("arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/{name}/1");
        let leg = |name: &str, test_rule: Option<&str>| Leg {
            blue: group(&format!("{name}-blue")),
            green: group(&format!("{name}-green")),
            rules: vec![format!("rule/{name}")],
            test_rule: test_rule.map(str::to_owned),
        };
        TargetResources {
            platform: Platform::EcsPair(EcsPair {
                cluster: cluster.to_owned(),
                container: "api".to_owned(),
                blue: "api-blue".to_owned(),
                green: "api-green".to_owned(),
            }),
            traffic: vec![leg("public", Some("rule/test")), leg("internal", None)],
        }
    }

    #[test]
    fn a_cluster_name_and_its_arn_are_the_same_resource() {
        let keys = |cluster: &str| resources(cluster).exclusive().map(|resource| resource.key()).collect::<Vec<_>>();
        let by_name = keys("main");
        assert_eq!(by_name, keys("arn:aws:ecs:eu-west-1:111122223333:cluster/main"));
        // Two services; of each leg two groups and a rule; one test rule.
        assert_eq!(by_name.len(), 9, "{by_name:#?}");
        assert_eq!(by_name[0], "ecs-service#eu-west-1:111122223333/main/api-blue");
        assert_ne!(by_name[0], keys("other")[0]);
    }

    #[test]
    fn rules_and_groups_belong_to_their_leg() {
        let resources = resources("main");
        assert_eq!(resources.rules().collect::<Vec<_>>(), ["rule/public", "rule/internal"]);
        assert_eq!(resources.test_rules().collect::<Vec<_>>(), ["rule/test"]);
        for (rule, leg) in [("rule/public", 0), ("rule/test", 0), ("rule/internal", 1)] {
            assert_eq!(resources.leg_of(rule), Some(&resources.traffic[leg]), "{rule}");
        }
        assert_eq!(resources.leg_of("rule/other"), None);
        let internal_green = resources.traffic[1].green.clone();
        assert_eq!(resources.side_of_target_group(&internal_green), Some(Slot::Green));
        assert_eq!(resources.side_of_target_group("other"), None);
    }
}
