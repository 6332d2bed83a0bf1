//! What the doctor checks of each platform, behind one trait: a new platform is a module here.
//!
//! | module | checks |
//! |---|---|
//! | `ecs_service` | an ECS service on whatever platform: existence, control, target groups, container |
//! | `ecs_pair` | services, task definitions, target groups and autoscaling of both sides of a pair |
//! | `ecs_rolling` | the service of a target whose versions replace one another in place |

mod ecs_pair;
mod ecs_rolling;
mod ecs_service;

use super::account::FargateStart;
use super::inspected::{InspectedPair, InspectedWorkload};
use super::terraform::IgnoredAttributes;
use super::{Findings, Severity};
use crate::names::Slot;
use crate::platform::Platform;
use crate::policy::TargetPolicy;

/// What runs a target, as it was read: one variant for each [`Platform`].
#[derive(Debug, Clone, PartialEq)]
pub enum InspectedPlatform {
    /// Two ECS services, and the rules that split traffic between them.
    EcsPair(Box<InspectedPair>),
    /// One ECS service, whose tasks ECS replaces.
    EcsRolling(Box<InspectedWorkload>),
}

impl InspectedPlatform {
    /// Every workload, blue first, and the side that it runs; none: it changes its version in place.
    pub fn workloads(&self) -> impl Iterator<Item = (Option<Slot>, &InspectedWorkload)> {
        let (pair, in_place) = match self {
            Self::EcsPair(pair) => (Some(&**pair), None),
            Self::EcsRolling(workload) => (None, Some((None, &**workload))),
        };
        let sides = pair.into_iter().flat_map(|pair| Slot::BOTH.map(|slot| (Some(slot), pair.side(slot))));
        sides.chain(in_place)
    }
}

/// What the doctor checks of a platform.
trait PlatformDoctor {
    /// Checks what runs the target and how traffic reaches it. Returns the tasks that a deployment starts on Fargate.
    fn judge(&self, policy: &TargetPolicy, seen: &InspectedPlatform, findings: &mut Findings) -> Option<FargateStart>;

    /// What deployments change of what runs the target.
    fn ignored_attributes(&self, seen: &InspectedPlatform) -> Vec<IgnoredAttributes>;
}

/// The module of this platform.
fn of(platform: &Platform) -> &dyn PlatformDoctor {
    match platform {
        Platform::EcsPair(pair) => pair,
        Platform::EcsRolling(rolling) => rolling,
    }
}

/// See [`PlatformDoctor::judge`].
pub(super) fn judge(policy: &TargetPolicy, seen: &InspectedPlatform, findings: &mut Findings) -> Option<FargateStart> {
    of(&policy.resources.platform).judge(policy, seen, findings)
}

/// See [`PlatformDoctor::ignored_attributes`].
pub(super) fn ignored_attributes(platform: &Platform, seen: &InspectedPlatform) -> Vec<IgnoredAttributes> {
    of(platform).ignored_attributes(seen)
}

/// Reports that what was read is of another platform than the policy's.
fn report_other_platform(findings: &mut Findings) {
    let problem = "what was read is of another platform than the policy's";
    findings.add(Severity::Unread, "unread", "platform", problem, "ask again; if it stays so, report it");
}

/// Label of a service: `service api-blue`.
pub(super) fn service_label(name: &str) -> String {
    ecs_service::label(name)
}
