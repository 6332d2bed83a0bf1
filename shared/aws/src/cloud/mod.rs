//! [`engine::Cloud`] on AWS: ECS, ELBv2, Application Auto Scaling, CloudWatch and Lambda.
//!
//! Makes no decisions. [`observe`](AwsCloud) reads in parallel everything that an observation plan names; what cannot
//! be read is `Unknown` with AWS's error. [`perform`](AwsCloud) performs one effect, idempotently. What AWS's answers
//! about services, tasks and targets mean is said in the core ([`rollout::platform`]); the functions that describe them
//! to it need no client, and are tested without one.
//!
//! | module | responsibility |
//! |---|---|
//! | `observe` | one observation: which calls, and which of them in parallel |
//! | `service` | an ECS service, described to the core |
//! | `tasks` | stopped tasks and tasks of hooks, described to the core |
//! | `traffic` | a rule's actions ↔ weights; reading and writing rules and listeners |
//! | `health` | a target group → counts |
//! | `autoscaling` | a scalable target ↔ limits; its scheduled actions |
//! | `alarms` | alarms: their state, and the side they observe |
//! | `task_definition` | a copy of a task definition with one image replaced |
//! | `hooks` | functions that are invoked, tasks that are run |
//! | `inspect` | reads an account for the doctor (feature `inspect`) |
//! | `read_cache` | data read in this pass that a write in the same pass needs |
//!
//! Sequential round trips: an observation takes one; two where it reads images, or composite alarms that the process
//! has not seen before; three where a service is short of tasks and failed starts are searched. Writing weights right
//! after an observation takes one.

mod alarms;
mod autoscaling;
mod health;
mod hooks;
#[cfg(feature = "inspect")]
mod inspect;
mod observe;
mod read_cache;
mod service;
mod task_definition;
mod tasks;
mod traffic;

use crate::config::Clients;
use crate::error::AwsFailure;
use read_cache::ReadCache;
use rollout::observation::ObservationPlan;
use rollout::promotion::ImageState;
use rollout::{EcsPair, Effect, Outcome, Reading, Slot, Snapshot, TargetResources, Timestamp};
use std::pin::Pin;
use traffic::WriteMode;

pub use hooks::HOOK_CALL_TIMEOUT;

/// Observes and changes targets on AWS.
#[derive(Debug, Default)]
pub struct AwsCloud {
    clients: Clients,
    read_cache: ReadCache,
    #[cfg(feature = "inspect")]
    iam_scope: Option<rollout::doctor::inspected::IamScope>,
}

impl AwsCloud {
    /// Uses these clients; connects to nothing before the first observation or effect.
    #[must_use]
    pub fn new(clients: Clients) -> Self {
        Self { clients, ..Self::default() }
    }

    /// Adds the IAM scope that the control plane's roles are restricted to, where it is known.
    #[cfg(feature = "inspect")]
    #[must_use]
    pub fn with_iam_scope(self, iam_scope: Option<rollout::doctor::inspected::IamScope>) -> Self {
        Self { iam_scope, ..self }
    }

    /// Sets a side's desired count and, where one is named, its task definition. No other attribute is sent, so ECS
    /// changes nothing else; a call that names the present values starts no deployment. The exception is a primary
    /// deployment of this task definition whose circuit breaker tripped: ECS starts no more tasks for it, however often
    /// it is named, so a retry needs a new deployment.
    async fn update_service(&self, pair: &EcsPair, slot: Slot, task_definition: Option<&str>, desired: u32) -> Outcome {
        let cached_service = self.read_cache.services.take(&service_key(pair, slot));
        let needs_new_deployment = match task_definition.filter(|_| desired > 0) {
            None => false,
            Some(wanted) => {
                let service = match cached_service {
                    Some(service) => Some(service),
                    None => match self.services(pair, &[slot]).await {
                        Ok((services, failures)) => {
                            service::find(pair.service(slot), &services, &failures).ok().cloned()
                        }
                        Err(failure) => return failure.outcome(),
                    },
                };
                service.is_some_and(|service| service::needs_new_deployment(&service, wanted))
            }
        };
        let answer = self
            .clients
            .ecs()
            .await
            .update_service()
            .cluster(&pair.cluster)
            .service(pair.service(slot))
            .set_task_definition(task_definition.map(str::to_owned))
            .desired_count(i32::try_from(desired).unwrap_or(i32::MAX))
            .set_force_new_deployment(needs_new_deployment.then_some(true))
            .send()
            .await;
        match answer {
            Ok(_) => Outcome::Done,
            Err(error) => AwsFailure::of("UpdateService", &error).outcome(),
        }
    }
}

impl engine::Cloud for AwsCloud {
    async fn observe(&self, observation: &ObservationPlan) -> Snapshot {
        self.observation(observation).await
    }

    async fn perform(&self, resources: &TargetResources, effect: &Effect) -> Outcome {
        let pair = &resources.ecs;
        // An SDK call's future takes tens of kilobytes: each arm is boxed, or this future would reserve space for all
        // of them.
        let performed: Pin<Box<dyn Future<Output = Outcome> + Send + '_>> = match effect {
            Effect::RegisterTaskDefinition { template, container, image } => {
                Box::pin(self.register_task_definition(template, container, image))
            }
            Effect::UpdateService { slot, task_definition, desired } => {
                Box::pin(self.update_service(pair, *slot, Some(task_definition), *desired))
            }
            Effect::SetDesired { slot, desired } => Box::pin(self.update_service(pair, *slot, None, *desired)),
            Effect::SetAutoscaling { slot, limits } => Box::pin(self.set_autoscaling(pair, *slot, *limits)),
            Effect::SetWeights { weights, seen } if seen.is_empty() => {
                Box::pin(self.set_weights(traffic::rules(resources, *weights), WriteMode::Unconditional))
            }
            Effect::SetWeights { weights, seen } => {
                Box::pin(self.set_weights(traffic::rules(resources, *weights), WriteMode::IfUnchanged(seen)))
            }
            Effect::SetTestRules { weights } => {
                Box::pin(self.set_weights(traffic::test_rules(resources, weights), WriteMode::TestRule))
            }
            Effect::InvokeHook { function, payload, .. } => Box::pin(self.invoke_hook(function, payload)),
            Effect::StartTask { run, task_definition, container, command, template, .. } => {
                let start = hooks::TaskStart { run, task_definition, container, command };
                Box::pin(async move { self.start_task(pair, *template, &start).await })
            }
            Effect::StopTask { task } => Box::pin(self.stop_task(pair, task)),
        };
        performed.await
    }

    async fn image_state(&self, image: &str) -> Reading<ImageState> {
        crate::registry::image_state(&self.clients, image).await
    }

    fn take_firing_since(&self, alarm: &str) -> Option<Timestamp> {
        self.read_cache.firing.take(alarm)
    }
}

/// The last part of an ARN, or the name itself: a policy may name a cluster either way.
fn short_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// Key of a service, the same whether its cluster is given by name or ARN: Application Auto Scaling's resource ID.
fn service_key(pair: &EcsPair, slot: Slot) -> String {
    format!("service/{}/{}", short_name(&pair.cluster), short_name(pair.service(slot)))
}

/// Converts AWS's time; `None` where it is outside the range of [`Timestamp`].
fn instant(time: Option<&aws_smithy_types::DateTime>) -> Option<Timestamp> {
    let time = time?;
    let nanoseconds = i32::try_from(time.subsec_nanos()).ok()?;
    Timestamp::new(time.secs(), nanoseconds).ok()
}

/// AWS's counts are signed; a negative one cannot occur here.
fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_arn_is_shortened_to_its_name() {
        assert_eq!(short_name("arn:aws:ecs:eu-west-1:123456789012:cluster/shop"), "shop");
        assert_eq!(short_name("shop"), "shop");
    }

    #[test]
    fn an_instant_keeps_its_fraction() {
        let time = aws_smithy_types::DateTime::from_secs_and_nanos(1_700_000_000, 250_000_000);
        assert_eq!(instant(Some(&time)), "2023-11-14T22:13:20.25Z".parse().ok());
        assert_eq!(instant(None), None);
    }
}
