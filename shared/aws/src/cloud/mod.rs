//! [`engine::Cloud`] on AWS: ECS, ELBv2, Application Auto Scaling, CloudWatch and Lambda.
//!
//! Decides nothing. [`observe`](AwsCloud) reads all that a look names, in parallel, and what could not be read is
//! `Unknown` with AWS's words; [`perform`](AwsCloud) makes one effect true, however often it is asked. What AWS's
//! types mean is said in functions without a client, so that it can be tested without one.
//!
//! | module | what it knows |
//! |---|---|
//! | `observe` | a look: which calls, and which of them side by side |
//! | `service` | an ECS service → steadiness, the breaker's verdict, placement failures |
//! | `tasks` | stopped tasks → failed starts; a hook's task → its exit code |
//! | `traffic` | a rule's actions ↔ weights; reading and writing rules and listeners |
//! | `health` | a target group → counts |
//! | `autoscaling` | a scalable target ↔ limits; its scheduled actions |
//! | `alarms` | alarms: what they say, and which side they see |
//! | `task_definition` | a copy that differs in one image |
//! | `hooks` | functions that are asked, tasks that are run |
//! | `inspect` | an account, read for the doctor (feature `inspect`) |
//! | `memory` | what was read in this pass and is needed again to write |
//!
//! Sequential calls: a look is one round trip; two where it asks for images, or for composite alarms that the process has not
//! seen before; three where a service is short of tasks and failed starts are looked for. Writing weights right after a look is one.

mod alarms;
mod autoscaling;
mod health;
mod hooks;
#[cfg(feature = "inspect")]
mod inspect;
mod memory;
mod observe;
mod service;
mod task_definition;
mod tasks;
mod traffic;

use crate::config::Clients;
use crate::error::Failure;
use memory::Memory;
use rollout::look::Look;
use rollout::promotion::ImageState;
use rollout::{EcsPair, Effect, Outcome, Reading, Slot, Snapshot, Timestamp};
use std::pin::Pin;
use traffic::Over;

pub use hooks::HOOK_CALL;

/// What runs, and what is looked at, on AWS.
#[derive(Debug, Default)]
pub struct AwsCloud {
    clients: Clients,
    memory: Memory,
    #[cfg(feature = "inspect")]
    reach: Option<rollout::doctor::seen::Reach>,
}

impl AwsCloud {
    /// Over these clients; nothing is connected to before the first look or effect.
    #[must_use]
    pub fn new(clients: Clients) -> Self {
        Self { clients, ..Self::default() }
    }

    /// The same, where it is known what the control plane's roles are narrowed to.
    #[cfg(feature = "inspect")]
    #[must_use]
    pub fn reaching(self, reach: Option<rollout::doctor::seen::Reach>) -> Self {
        Self { reach, ..self }
    }

    /// The side has this task definition, where one is named, and this many tasks. No other attribute is sent, so
    /// that ECS changes no other one; a call that names what is there already starts no deployment. The exception is a
    /// primary deployment of this task definition that the circuit breaker gave up: it starts nothing more, however
    /// often it is named, and a new try takes a new deployment.
    async fn update_service(&self, pair: &EcsPair, slot: Slot, task_definition: Option<&str>, desired: u32) -> Outcome {
        let side = pair.side(slot);
        let remembered = self.memory.services.take(&service_key(pair, slot));
        let anew = match task_definition.filter(|_| desired > 0) {
            None => false,
            Some(wanted) => {
                let service = match remembered {
                    Some(service) => Some(service),
                    None => match self.services(pair, &[slot]).await {
                        Ok((services, failures)) => service::find(&side.service, &services, &failures).ok().cloned(),
                        Err(failure) => return failure.outcome(),
                    },
                };
                service.is_some_and(|service| service::was_given_up(&service, wanted))
            }
        };
        let answer = self
            .clients
            .ecs()
            .await
            .update_service()
            .cluster(&pair.cluster)
            .service(&side.service)
            .set_task_definition(task_definition.map(str::to_owned))
            .desired_count(i32::try_from(desired).unwrap_or(i32::MAX))
            .set_force_new_deployment(anew.then_some(true))
            .send()
            .await;
        match answer {
            Ok(_) => Outcome::Done,
            Err(error) => Failure::of("UpdateService", &error).outcome(),
        }
    }
}

impl engine::Cloud for AwsCloud {
    async fn observe(&self, look: &Look) -> Snapshot {
        self.look(look).await
    }

    async fn perform(&self, pair: &EcsPair, effect: &Effect) -> Outcome {
        // An SDK call's future has tens of kilobytes: each arm is boxed, or this one would have room for all of them.
        let performed: Pin<Box<dyn Future<Output = Outcome> + Send + '_>> = match effect {
            Effect::RegisterTaskDefinition { like, container, image } => {
                Box::pin(self.register_task_definition(like, container, image))
            }
            Effect::UpdateService { slot, task_definition, desired } => {
                Box::pin(self.update_service(pair, *slot, Some(task_definition), *desired))
            }
            Effect::SetDesired { slot, desired } => Box::pin(self.update_service(pair, *slot, None, *desired)),
            Effect::SetAutoscaling { slot, limits } => Box::pin(self.set_autoscaling(pair, *slot, *limits)),
            Effect::SetWeights { weights, seen } if seen.is_empty() => {
                Box::pin(self.set_weights(pair, &pair.rules, *weights, Over::Anything))
            }
            Effect::SetWeights { weights, seen } => {
                Box::pin(self.set_weights(pair, &pair.rules, *weights, Over::Seen(seen)))
            }
            Effect::SetTestRule { weights } => match &pair.test_rule {
                Some(rule) => Box::pin(self.set_weights(pair, std::slice::from_ref(rule), *weights, Over::TestRule)),
                None => return Outcome::Refused { reason: "the policy names no test rule".to_owned() },
            },
            Effect::AskHook { function, payload, .. } => Box::pin(self.ask_hook(function, payload)),
            Effect::StartTask { run, task_definition, container, command, like, .. } => {
                let start = hooks::Start { run, task_definition, container, command };
                Box::pin(async move { self.start_task(pair, *like, &start).await })
            }
            Effect::StopTask { task } => Box::pin(self.stop_task(pair, task)),
        };
        performed.await
    }

    async fn image(&self, image: &str) -> Reading<ImageState> {
        crate::registry::image_state(&self.clients, image).await
    }

    fn firing_since(&self, alarm: &str) -> Option<Timestamp> {
        self.memory.firing.take(alarm)
    }
}

/// The last part of an ARN, or the name itself: a policy may name a cluster either way.
fn short_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// One key for a service however its cluster is written: as Application Auto Scaling names it.
fn service_key(pair: &EcsPair, slot: Slot) -> String {
    format!("service/{}/{}", short_name(&pair.cluster), short_name(&pair.side(slot).service))
}

/// AWS's instant as ours; none where it is outside of what a [`Timestamp`] can hold.
fn instant(time: Option<&aws_smithy_types::DateTime>) -> Option<Timestamp> {
    let time = time?;
    let nanoseconds = i32::try_from(time.subsec_nanos()).ok()?;
    Timestamp::new(time.secs(), nanoseconds).ok()
}

/// AWS counts with a sign; nothing that is counted here is below zero.
fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_may_be_named_by_its_arn() {
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
