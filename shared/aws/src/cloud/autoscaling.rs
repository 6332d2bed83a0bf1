//! Capacity limits of a service's scalable target: reading, overriding and restoring them.
//!
//! Of AWS's three suspension switches, two are read and written individually: dynamic scale-in (alarms) and scheduled
//! scaling (which moves the limits themselves), since either could remove tasks from a side that is needed. Dynamic
//! scale-out is never overridden, because a side under load must always be able to grow: it is sent back as it was
//! read, whatever AWS does about a missing switch.

use super::{AwsCloud, count, instant, service_key};
use crate::error::AwsFailure;
use aws_sdk_applicationautoscaling::types::{
    ScalableDimension, ScalableTarget, ScheduledAction as AwsAction, ServiceNamespace, SuspendedState,
};
use futures::future::join_all;
use rollout::schedule::ScheduledAction;
use rollout::snapshot::{Autoscaling, Reading};
use rollout::{EcsServiceName, Outcome, Slot};
use std::collections::{BTreeMap, HashMap};

/// Maximum number of pages of scheduled actions that are read; a scalable target has at most 200 actions, and a page
/// holds 50 (Application Auto Scaling quotas).
const MAX_PAGES: usize = 5;

/// The limits of a scalable target.
fn limits(target: &ScalableTarget) -> Autoscaling {
    let suspended = target.suspended_state();
    let is = |switch: Option<bool>| switch.unwrap_or(false);
    Autoscaling {
        min: count(target.min_capacity()),
        max: count(target.max_capacity()),
        scale_in_suspended: suspended.is_some_and(|state| is(state.dynamic_scaling_in_suspended())),
        scheduled_suspended: suspended.is_some_and(|state| is(state.scheduled_scaling_suspended())),
    }
}

fn scheduled_action(action: &AwsAction) -> ScheduledAction {
    let sets = action.scalable_target_action();
    ScheduledAction {
        name: action.scheduled_action_name().to_owned(),
        schedule: action.schedule().to_owned(),
        time_zone: action.timezone().filter(|zone| !zone.is_empty()).map(str::to_owned),
        start: instant(action.start_time()),
        end: instant(action.end_time()),
        created: instant(Some(action.creation_time())).unwrap_or_default(),
        min: sets.and_then(|sets| sets.min_capacity()).map(count),
        max: sets.and_then(|sets| sets.max_capacity()).map(count),
    }
}

/// The suspended state to write; scale-out keeps its live value.
fn suspended(live: &SuspendedState, limits: Autoscaling) -> SuspendedState {
    SuspendedState::builder()
        .dynamic_scaling_in_suspended(limits.scale_in_suspended)
        .scheduled_scaling_suspended(limits.scheduled_suspended)
        .dynamic_scaling_out_suspended(live.dynamic_scaling_out_suspended().unwrap_or(false))
        .build()
}

impl AwsCloud {
    /// The scalable targets of these services in one call, by [`service_key`]; a service without one is missing from
    /// the result. Caches the suspended state for a write in the same pass.
    pub(super) async fn autoscaling(
        &self,
        services: &[EcsServiceName<'_>],
    ) -> Result<HashMap<String, Autoscaling>, AwsFailure> {
        let keys: Vec<String> = services.iter().map(|service| service_key(*service)).collect();
        for key in &keys {
            self.read_cache.suspended.forget(key);
        }
        let found = self.scalable_targets(&keys).await?;
        for target in &found {
            self.read_cache.suspended.put(target.resource_id(), suspended_state(target));
        }
        Ok(found.iter().map(|target| (target.resource_id().to_owned(), limits(target))).collect())
    }

    async fn scalable_targets(&self, keys: &[String]) -> Result<Vec<ScalableTarget>, AwsFailure> {
        let answer = self
            .clients
            .autoscaling()
            .await
            .describe_scalable_targets()
            .service_namespace(ServiceNamespace::Ecs)
            .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
            .set_resource_ids(Some(keys.to_vec()))
            .send()
            .await
            .map_err(|error| AwsFailure::of("DescribeScalableTargets", &error))?;
        let mut targets = answer.scalable_targets.unwrap_or_default();
        targets.retain(|target| keys.iter().any(|key| key == target.resource_id()));
        Ok(targets)
    }

    /// The scheduled actions of these sides' scalable targets, in parallel: the call accepts one resource.
    pub(super) async fn schedules(
        &self,
        services: Vec<(Slot, EcsServiceName<'_>)>,
    ) -> BTreeMap<Slot, Reading<Vec<ScheduledAction>>> {
        let reads = services.into_iter().map(async |(slot, service)| {
            let read = self.scheduled_actions(service_key(service)).await;
            let reading = match self.read_cache.note_throttling(read) {
                Ok(actions) => Reading::Known(actions),
                Err(failure) => Reading::Unknown(failure.reason().to_owned()),
            };
            (slot, reading)
        });
        join_all(reads).await.into_iter().collect()
    }

    async fn scheduled_actions(&self, key: String) -> Result<Vec<ScheduledAction>, AwsFailure> {
        let autoscaling = self.clients.autoscaling().await;
        let (mut actions, mut next) = (vec![], None);
        for _ in 0..MAX_PAGES {
            let page = autoscaling
                .describe_scheduled_actions()
                .service_namespace(ServiceNamespace::Ecs)
                .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
                .resource_id(&key)
                .set_next_token(next.take())
                .send()
                .await
                .map_err(|error| AwsFailure::of("DescribeScheduledActions", &error))?;
            actions.extend(page.scheduled_actions().iter().map(scheduled_action));
            next = page.next_token.filter(|token| !token.is_empty());
            if next.is_none() {
                break;
            }
        }
        Ok(actions)
    }

    /// Writes limits to a service's scalable target, which must exist: the call would create a missing one.
    pub(super) async fn set_autoscaling(&self, service: EcsServiceName<'_>, limits: Autoscaling) -> Outcome {
        let key = service_key(service);
        let live = match self.read_cache.suspended.take(&key) {
            Some(live) => live,
            None => match self.scalable_targets(std::slice::from_ref(&key)).await {
                Ok(targets) => match targets.first() {
                    Some(target) => suspended_state(target),
                    None => return Outcome::Refused { reason: format!("{key} has no scalable target") },
                },
                Err(failure) => return failure.outcome(),
            },
        };
        let answer = self
            .clients
            .autoscaling()
            .await
            .register_scalable_target()
            .service_namespace(ServiceNamespace::Ecs)
            .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
            .resource_id(key)
            .min_capacity(i32::try_from(limits.min).unwrap_or(i32::MAX))
            .max_capacity(i32::try_from(limits.max).unwrap_or(i32::MAX))
            .suspended_state(suspended(&live, limits))
            .send()
            .await;
        match answer {
            Ok(_) => Outcome::Done,
            Err(error) => AwsFailure::of("RegisterScalableTarget", &error).outcome(),
        }
    }
}

/// A missing value means that nothing is suspended.
fn suspended_state(target: &ScalableTarget) -> SuspendedState {
    target.suspended_state().cloned().unwrap_or_else(|| SuspendedState::builder().build())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_smithy_types::DateTime;

    fn target(state: Option<SuspendedState>) -> ScalableTarget {
        ScalableTarget::builder()
            .service_namespace(ServiceNamespace::Ecs)
            .resource_id("service/shop/api-blue")
            .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
            .min_capacity(2)
            .max_capacity(8)
            .role_arn("arn:aws:iam::123456789012:role/scaling")
            .creation_time(DateTime::from_secs(0))
            .set_suspended_state(state)
            .build()
            .expect("all that is required")
    }

    fn switches(scale_in: bool, scale_out: bool, scheduled: bool) -> SuspendedState {
        SuspendedState::builder()
            .dynamic_scaling_in_suspended(scale_in)
            .dynamic_scaling_out_suspended(scale_out)
            .scheduled_scaling_suspended(scheduled)
            .build()
    }

    fn with(scale_in_suspended: bool, scheduled_suspended: bool) -> Autoscaling {
        Autoscaling { min: 2, max: 8, scale_in_suspended, scheduled_suspended }
    }

    #[test]
    fn scale_in_and_scheduled_suspension_are_read_separately() {
        assert_eq!(limits(&target(None)), with(false, false));
        for (scale_in, scheduled) in [(false, false), (false, true), (true, false), (true, true)] {
            for scale_out in [false, true] {
                let read = limits(&target(Some(switches(scale_in, scale_out, scheduled))));
                assert_eq!(read, with(scale_in, scheduled));
            }
        }
    }

    #[test]
    fn scale_out_suspension_is_preserved() {
        assert_eq!(suspended(&switches(false, true, false), with(true, true)), switches(true, true, true));
        assert_eq!(suspended(&switches(true, true, true), with(false, true)), switches(false, true, true));
        assert_eq!(suspended(&switches(true, false, true), with(true, false)), switches(true, false, false));
        assert_eq!(suspended(&suspended_state(&target(None)), with(true, true)), switches(true, false, true));
    }
}
