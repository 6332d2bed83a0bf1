//! A pair of ECS services: both sides' services, target groups and scalable targets are read in parallel.

use super::{Boxed, PlatformCloud};
use crate::cloud::alarms::AlarmsRead;
use crate::cloud::ecs::DescribedServices;
use crate::cloud::observe::{Observed, alarms_allow_search, unknown};
use crate::cloud::{AwsCloud, service, service_key};
use crate::error::AwsFailure;
use futures::join;
use rollout::answers::ecs::{FailedStarts, ServiceReading};
use rollout::observation::{FailedStartsQuery, ObservationPlan};
use rollout::snapshot::{Autoscaling, Reading, SideReading, TargetHealth};
use rollout::{EcsPair, EcsServiceName, Effect, Outcome, Slot, TargetResources};
#[cfg(feature = "inspect")]
use {
    crate::cloud::inspect::reading,
    rollout::doctor::inspected::{InspectedPair, InspectedPlatform},
    std::collections::BTreeSet,
};

/// Blue and green, each with its state according to ECS, or the reason it is unknown.
type EcsSides = [Result<EcsSide, String>; 2];

/// State of a side according to ECS alone.
struct EcsSide {
    seen: ServiceReading,
    image: Option<String>,
    failed_starts: FailedStarts,
}

impl PlatformCloud for EcsPair {
    fn ecs_service(&self) -> Option<EcsServiceName<'_>> {
        Some(self.side(Slot::Blue))
    }

    fn forget(&self, cloud: &AwsCloud) {
        for slot in Slot::BOTH {
            cloud.read_cache.services.forget(&service_key(self.side(slot)));
        }
    }

    fn observe<'a>(&'a self, cloud: &'a AwsCloud, observation: &'a ObservationPlan) -> Boxed<'a, Observed> {
        Box::pin(cloud.observed_pair(observation, self))
    }

    fn perform<'a>(
        &'a self,
        cloud: &'a AwsCloud,
        resources: &'a TargetResources,
        effect: &'a Effect,
    ) -> Boxed<'a, Outcome> {
        Box::pin(cloud.perform_on_ecs(&resources.platform, effect))
    }

    #[cfg(feature = "inspect")]
    fn inspect<'a>(&'a self, cloud: &'a AwsCloud, resources: &'a TargetResources) -> Boxed<'a, InspectedPlatform> {
        Box::pin(async move { InspectedPlatform::EcsPair(Box::new(cloud.pair_seen(resources, self).await)) })
    }
}

impl AwsCloud {
    /// Reads what `observation` names of both sides, and the alarms.
    async fn observed_pair(&self, observation: &ObservationPlan, pair: &EcsPair) -> Observed {
        let resources = &observation.resources;
        let services = Slot::BOTH.map(|slot| pair.side(slot));
        let scheduled: Vec<(Slot, EcsServiceName<'_>)> =
            observation.scheduled_actions_of.iter().map(|slot| (*slot, pair.side(*slot))).collect();
        // Boxed: the combined futures would exceed the stack size of some threads.
        let ((sides, alarms), blue_health, green_health, autoscaling, schedules) = join!(
            Box::pin(self.ecs_sides_and_alarms(observation, pair)),
            Box::pin(self.worst_health(resources.target_groups(Slot::Blue).collect())),
            Box::pin(self.worst_health(resources.target_groups(Slot::Green).collect())),
            Box::pin(self.autoscaling(&services)),
            Box::pin(self.schedules(scheduled)),
        );
        let (blue_health, green_health) =
            (self.read_cache.note_throttling(blue_health), self.read_cache.note_throttling(green_health));
        let autoscaling = self.read_cache.note_throttling(autoscaling);
        let [blue, green] = sides;
        let scaling = |slot| match &autoscaling {
            Ok(limits) => Ok(limits.get(&service_key(pair.side(slot))).copied()),
            Err(failure) => Err(failure),
        };
        Observed {
            blue: side(blue, blue_health, scaling(Slot::Blue)),
            green: side(green, green_health, scaling(Slot::Green)),
            schedules,
            ..Observed::of_alarms(alarms)
        }
    }

    /// Reads both sides' services in one call, in parallel with the alarms; then only what these results and the plan
    /// require.
    async fn ecs_sides_and_alarms(
        &self,
        observation: &ObservationPlan,
        pair: &EcsPair,
    ) -> (EcsSides, Result<AlarmsRead, AwsFailure>) {
        let services = Slot::BOTH.map(|slot| pair.side(slot));
        let (found, alarms) = join!(
            Box::pin(self.services(&services)),
            Box::pin(self.alarms(&observation.resources, &observation.alarms))
        );
        let (found, alarms) = (self.read_cache.note_throttling(found), self.read_cache.note_throttling(alarms));
        // The stable side's stopped tasks only serve as the comparison: both sides are searched, or none.
        let candidate = observation.failed_starts_query.as_ref().and_then(|starts| {
            let (services, failures) = found.as_ref().ok()?;
            service::find(pair.service(starts.slot?), services, failures).ok()
        });
        let search = alarms_allow_search(observation, &alarms) && candidate.is_some_and(service::is_degraded);
        let sides = match found {
            Ok(found) => {
                let (blue, green) = join!(
                    Box::pin(self.ecs_side(observation, pair, Slot::Blue, &found, search)),
                    Box::pin(self.ecs_side(observation, pair, Slot::Green, &found, search))
                );
                [blue, green]
            }
            Err(failure) => [Err(failure.reason().to_owned()), Err(failure.reason().to_owned())],
        };
        (sides, alarms)
    }

    /// State of one side. Stopped tasks are read only where the plan asks for this side's failed starts or compares
    /// with them, the candidate is short of tasks, and no alarm has already decided a rollback (`search`): the two
    /// extra round trips cost neither a healthy candidate nor a rollback caused by an alarm.
    async fn ecs_side(
        &self,
        observation: &ObservationPlan,
        pair: &EcsPair,
        slot: Slot,
        (services, failures): &DescribedServices,
        search: bool,
    ) -> Result<EcsSide, String> {
        let live = service::find(pair.service(slot), services, failures)?;
        self.read_cache.services.put(&service_key(pair.side(slot)), live.clone());
        let query = observation.failed_starts_query.as_ref();
        let of_this_side = query.filter(|starts| starts.slot == Some(slot));
        let seen = service::service_reading(live, of_this_side)?;
        let of_other_side = |starts: &FailedStartsQuery| {
            let version = starts.compare_with.clone().filter(|_| starts.slot != Some(slot))?;
            Some(FailedStartsQuery { slot: Some(slot), version, since: starts.since, compare_with: None })
        };
        let searched = of_this_side.cloned().or_else(|| query.and_then(of_other_side)).filter(|_| search);
        let read =
            self.image_and_failed_starts(pair.side(slot), &seen.version, observation.images, searched.as_ref()).await;
        let (image, failed_starts) = read?;
        Ok(EcsSide { seen, image, failed_starts })
    }

    #[cfg(feature = "inspect")]
    async fn pair_seen(&self, resources: &TargetResources, pair: &EcsPair) -> InspectedPair {
        let sides = Slot::BOTH.map(|slot| pair.side(slot));
        let (services, blue, green, rules) = join!(
            Box::pin(self.services_seen(&sides)),
            Box::pin(self.groups_seen(resources.target_groups(Slot::Blue).collect())),
            Box::pin(self.groups_seen(resources.target_groups(Slot::Green).collect())),
            Box::pin(self.rules_seen(resources)),
        );
        let groups = blue.iter().chain(&green).filter_map(|group| group.known()?.as_ref());
        let balancers: BTreeSet<&str> = groups.flat_map(|group| &group.balancers).map(String::as_str).collect();
        let others = self.others_seen(resources, &balancers).await;
        InspectedPair {
            blue: services.workload(pair.side(Slot::Blue), blue),
            green: services.workload(pair.side(Slot::Green), green),
            rules,
            others: reading(others),
        }
    }
}

/// Combines a side's three parts. A side is known or unknown as a whole, since every part can require waiting; the
/// reason names the missing part.
fn side(
    ecs: Result<EcsSide, String>,
    targets: Result<TargetHealth, AwsFailure>,
    autoscaling: Result<Option<Autoscaling>, &AwsFailure>,
) -> Reading<SideReading> {
    match (ecs, targets, autoscaling) {
        (Ok(ecs), Ok(targets), Ok(autoscaling)) => {
            let EcsSide { seen, image, failed_starts } = ecs;
            Reading::Known(seen.into_side_reading(image, failed_starts, targets, autoscaling))
        }
        (ecs, targets, autoscaling) => unknown([
            ("service", ecs.err()),
            ("target health", targets.err().map(|failure| failure.reason().to_owned())),
            ("autoscaling", autoscaling.err().map(|failure| failure.reason().to_owned())),
        ]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_side_names_its_missing_parts() {
        let throttled = AwsFailure::Unsure { reason: "DescribeScalableTargets: ThrottlingException".to_owned() };
        let missing = Err("ECS has no service api-green in the cluster: MISSING".to_owned());
        let reading = side(missing, Ok(TargetHealth::default()), Err(&throttled));
        let expected = "service: ECS has no service api-green in the cluster: MISSING; \
                        autoscaling: DescribeScalableTargets: ThrottlingException";
        assert_eq!(reading, Reading::Unknown(expected.to_owned()));
    }
}
