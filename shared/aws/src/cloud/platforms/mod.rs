//! What is read and written of each platform, behind one trait: a new platform is a module here.
//!
//! | module | platform |
//! |---|---|
//! | `ecs_pair` | two ECS services, one for each side |
//! | `ecs_rolling` | one ECS service, whose versions replace one another in place |

mod ecs_pair;
mod ecs_rolling;

use super::AwsCloud;
use super::observe::Observed;
use rollout::observation::{HookTask, ObservationPlan};
use rollout::snapshot::TaskReading;
use rollout::template::TemplateReading;
use rollout::{EcsServiceName, Effect, Outcome, Platform, Reading, TargetResources};
use std::collections::BTreeMap;
use std::pin::Pin;

/// An SDK call's future takes tens of kilobytes: boxed, or the caller's future would reserve space for all of them.
pub(super) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is read and written of what runs a target.
pub(super) trait PlatformCloud: Sync {
    /// An ECS service of it, all of which have the same cluster and container; none: it is not on ECS.
    fn ecs_service(&self) -> Option<EcsServiceName<'_>> {
        None
    }

    /// Forgets what was read of it before.
    fn forget(&self, cloud: &AwsCloud);

    /// Reads what the plan names of it, and the alarms.
    fn observe<'a>(&'a self, cloud: &'a AwsCloud, observation: &'a ObservationPlan) -> Boxed<'a, Observed>;

    /// Performs an effect on it; one that does not fit the platform is refused.
    fn perform<'a>(
        &'a self,
        cloud: &'a AwsCloud,
        resources: &'a TargetResources,
        effect: &'a Effect,
    ) -> Boxed<'a, Outcome>;

    /// The tasks of hooks, by hook.
    fn hook_tasks<'a>(
        &'a self,
        cloud: &'a AwsCloud,
        asked: &'a BTreeMap<String, HookTask>,
    ) -> Boxed<'a, BTreeMap<String, Reading<TaskReading>>> {
        match self.ecs_service() {
            Some(service) => Box::pin(cloud.hook_tasks(service.cluster, asked)),
            None => {
                let unknown =
                    |hook: &String| (hook.clone(), Reading::Unknown("the target has no ECS cluster".to_owned()));
                Box::pin(std::future::ready(asked.keys().map(unknown).collect()))
            }
        }
    }

    /// The newest template of a family, and how it differs from the version `live`, if one is given.
    fn template<'a>(
        &'a self,
        cloud: &'a AwsCloud,
        family: &'a str,
        live: Option<&'a str>,
    ) -> Boxed<'a, Reading<TemplateReading>> {
        match self.ecs_service() {
            Some(service) => Box::pin(cloud.newest_template(service.container, family, live)),
            None => Box::pin(std::future::ready(Reading::Unknown("the target has no task definitions".to_owned()))),
        }
    }

    /// Reads it for the doctor.
    #[cfg(feature = "inspect")]
    fn inspect<'a>(
        &'a self,
        cloud: &'a AwsCloud,
        resources: &'a TargetResources,
    ) -> Boxed<'a, rollout::doctor::inspected::InspectedPlatform>;
}

/// The module of this platform.
pub(super) fn of(platform: &Platform) -> &dyn PlatformCloud {
    match platform {
        Platform::EcsPair(pair) => pair,
        Platform::EcsRolling(rolling) => rolling,
    }
}
