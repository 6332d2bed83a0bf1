//! The platforms that run a target. The only module that names them: the rest of the core asks for a trait of this table.
//!
//! | platform | [`Way`] | sides | version | taken to a side by | goes back by |
//! |---|---|---|---|---|---|
//! | [`EcsPair`] | weighted | two services | task definition | `UpdateService` | weights, seconds |
//! | [`EcsRolling`] | in place | one service | task definition | `UpdateService` | the task definition before |

use crate::names::Slot;
use serde::{Deserialize, Serialize};

/// What runs a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Platform {
    /// Two ECS services, one for each side.
    EcsPair(EcsPair),
    /// One ECS service, whose tasks ECS replaces.
    EcsRolling(EcsRolling),
}

/// How a target gets from one version to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Two sides exist, and traffic moves from one to the other.
    Weighted,
    /// One workload changes its version. The platform replaces what runs.
    InPlace,
}

/// A pair of ECS services, each of which runs one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EcsPair {
    /// Name or ARN of the ECS cluster.
    pub cluster: String,
    /// The container whose image is replaced; all others are left unchanged.
    pub container: String,
    /// Name of the blue side's service.
    pub blue: String,
    /// Name of the green side's service.
    pub green: String,
}

/// An ECS service whose tasks ECS replaces by those of the next version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EcsRolling {
    /// Name or ARN of the ECS cluster.
    pub cluster: String,
    /// The container whose image is replaced; all others are left unchanged.
    pub container: String,
    /// Name of the service.
    pub service: String,
    /// ARNs of the target groups in which its tasks register; empty: it is behind no load balancer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_groups: Vec<String>,
}

/// One ECS service of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EcsServiceName<'a> {
    /// Name or ARN of the ECS cluster.
    pub cluster: &'a str,
    /// The container whose image is replaced.
    pub container: &'a str,
    /// Name of the service.
    pub name: &'a str,
}

/// Something that runs a target, or a side of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadName {
    /// The same text for the same workload only.
    pub key: String,
    /// What it is and its name, for people: ``the ECS service `api-blue` of cluster `shop` ``.
    pub description: String,
}

impl Platform {
    /// How a target gets from one version to the next.
    #[must_use]
    pub fn way(&self) -> Way {
        match self {
            Self::EcsPair(_) => Way::Weighted,
            Self::EcsRolling(_) => Way::InPlace,
        }
    }

    /// The ECS service that runs a side or, in place, the target (`slot` is none); none: this platform has none there.
    #[must_use]
    pub fn ecs_service(&self, slot: Option<Slot>) -> Option<EcsServiceName<'_>> {
        match (self, slot) {
            (Self::EcsPair(pair), Some(slot)) => Some(pair.side(slot)),
            (Self::EcsRolling(rolling), None) => Some(rolling.service()),
            (Self::EcsPair(_), None) | (Self::EcsRolling(_), Some(_)) => None,
        }
    }

    /// Every ECS service of the target, blue first.
    pub fn ecs_services(&self) -> impl Iterator<Item = EcsServiceName<'_>> {
        [Some(Slot::Blue), Some(Slot::Green), None].into_iter().filter_map(|slot| self.ecs_service(slot))
    }

    /// Name of what runs a side or, in place, the target (`slot` is none), for people.
    #[must_use]
    pub fn workload_name(&self, slot: Option<Slot>) -> &str {
        self.ecs_service(slot).map_or("?", |service| service.name)
    }

    /// The side that a metric of this namespace measures: one of its services; none: it measures none of them.
    /// `dimension`: the value of the metric's dimension of this name.
    #[must_use]
    pub fn side_of_metric<'m>(&self, namespace: &str, dimension: impl Fn(&str) -> Option<&'m str>) -> Option<Slot> {
        if !matches!(namespace, "AWS/ECS" | "ECS/ContainerInsights") {
            return None;
        }
        let watched = (dimension("ClusterName")?, dimension("ServiceName")?);
        let is_of = |slot: &Slot| {
            self.ecs_service(Some(*slot)).is_some_and(|it| watched == (short_name(it.cluster), short_name(it.name)))
        };
        Slot::BOTH.into_iter().find(is_of)
    }

    /// What runs the target. `location`: `REGION:ACCOUNT`, within which cluster names are unique.
    pub fn workloads(&self, location: &str) -> impl Iterator<Item = WorkloadName> {
        self.ecs_services().map(move |service| {
            let (cluster, name) = (short_name(service.cluster), service.name);
            WorkloadName {
                // `/` is a safe separator: ECS names consist of letters, digits, hyphens and underscores.
                key: format!("ecs-service#{location}/{cluster}/{name}"),
                description: format!("the ECS service `{name}` of cluster `{cluster}`"),
            }
        })
    }

    /// ARNs of the target groups in which what changes its version in place registers; empty for the others.
    #[must_use]
    pub fn target_groups_in_place(&self) -> &[String] {
        match self {
            Self::EcsPair(_) => &[],
            Self::EcsRolling(rolling) => &rolling.target_groups,
        }
    }
}

impl EcsPair {
    /// Name of the service that runs this side.
    #[must_use]
    pub fn service(&self, slot: Slot) -> &str {
        match slot {
            Slot::Blue => &self.blue,
            Slot::Green => &self.green,
        }
    }

    /// The service that runs this side.
    #[must_use]
    pub fn side(&self, slot: Slot) -> EcsServiceName<'_> {
        EcsServiceName { cluster: &self.cluster, container: &self.container, name: self.service(slot) }
    }
}

impl EcsRolling {
    /// The service.
    #[must_use]
    pub fn service(&self) -> EcsServiceName<'_> {
        EcsServiceName { cluster: &self.cluster, container: &self.container, name: &self.service }
    }
}

/// The name at the end of an ARN, or the name itself.
fn short_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}
