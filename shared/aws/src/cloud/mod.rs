//! [`engine::Cloud`] on AWS: ECS, ELBv2, Application Auto Scaling, CloudWatch and Lambda.
//!
//! Makes no decisions. [`observe`](AwsCloud) reads in parallel everything that an observation plan names; what cannot
//! be read is `Unknown` with AWS's error. [`perform`](AwsCloud) performs one effect, idempotently. What AWS's answers
//! about services, tasks and targets mean is said in the core ([`rollout::answers`]); the functions that describe them
//! to it need no client, and are tested without one.
//!
//! | module | responsibility |
//! |---|---|
//! | `observe` | one observation: which calls, and which of them in parallel |
//! | `platforms` | what is read and written of each platform |
//! | `ecs` | what every platform on ECS needs: services, tasks, images and effects |
//! | `service` | an ECS service and a service deployment, described to the core |
//! | `tasks` | tasks of services and of hooks, described to the core |
//! | `traffic` | a rule's actions ↔ weights; reading and writing rules and listeners |
//! | `health` | a target group → counts |
//! | `autoscaling` | a scalable target ↔ limits; its scheduled actions |
//! | `alarms` | alarms: their state, and the side they observe |
//! | `task_definition` | a copy of a task definition with one image replaced; the newest template of a family |
//! | `hooks` | functions that are invoked, tasks that are run |
//! | `inspect` | reads an account for the doctor (feature `inspect`) |
//! | `read_cache` | data read in this pass that a write in the same pass needs |
//!
//! Sequential round trips: an observation takes one; two where it reads images, the tasks of a service in place, or
//! composite alarms that the process has not seen before; three where a service is short of tasks and failed starts are
//! searched; one more where tasks of other versions still run in place. Writing weights right after an observation
//! takes one. Reading the newest template of a family takes two.

mod alarms;
mod autoscaling;
mod ecs;
mod health;
mod hooks;
#[cfg(feature = "inspect")]
mod inspect;
mod observe;
mod platforms;
mod read_cache;
mod service;
mod task_definition;
mod tasks;
mod traffic;

use crate::config::Clients;
use read_cache::ReadCache;
use rollout::observation::ObservationPlan;
use rollout::promotion::ImageState;
use rollout::template::TemplateReading;
use rollout::{EcsServiceName, Effect, Outcome, Platform, Reading, Snapshot, TargetResources, Timestamp, Way};
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
}

impl engine::Cloud for AwsCloud {
    async fn observe(&self, observation: &ObservationPlan) -> Snapshot {
        self.observation(observation).await
    }

    async fn perform(&self, resources: &TargetResources, effect: &Effect) -> Outcome {
        let platform = &resources.platform;
        // An SDK call's future takes tens of kilobytes: each arm is boxed, or this future would reserve space for all
        // of them.
        let performed: Pin<Box<dyn Future<Output = Outcome> + Send + '_>> = match effect {
            Effect::SetWeights { .. } | Effect::SetTestRules { .. } if platform.way() == Way::InPlace => {
                return unfit(platform, effect);
            }
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
            Effect::RegisterVersion { .. }
            | Effect::SetVersion { .. }
            | Effect::ReplaceVersion { .. }
            | Effect::StartFirst { .. }
            | Effect::StopFirst { .. }
            | Effect::SetDesired { .. }
            | Effect::SetAutoscaling { .. }
            | Effect::StartTask { .. }
            | Effect::StopTask { .. } => platforms::of(platform).perform(self, resources, effect),
        };
        performed.await
    }

    async fn image_state(&self, image: &str) -> Reading<ImageState> {
        crate::registry::image_state(&self.clients, image).await
    }

    async fn template(
        &self,
        resources: &TargetResources,
        family: &str,
        live: Option<&str>,
    ) -> Reading<TemplateReading> {
        platforms::of(&resources.platform).template(self, family, live).await
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
fn service_key(service: EcsServiceName<'_>) -> String {
    format!("service/{}/{}", short_name(service.cluster), short_name(service.name))
}

/// The outcome of an effect that only targets on other platforms have.
fn unfit(platform: &Platform, effect: &Effect) -> Outcome {
    let versions = match platform.way() {
        Way::Weighted => "run on two sides",
        Way::InPlace => "replace one another in place",
    };
    Outcome::Refused { reason: format!("{} does not fit this target: its versions {versions}", effect.kind()) }
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

    #[tokio::test]
    async fn traffic_of_a_target_in_place_is_not_shifted() {
        let resources = TargetResources {
            platform: Platform::EcsRolling(rollout::EcsRolling {
                cluster: "shop".to_owned(),
                container: "worker".to_owned(),
                service: "mailer".to_owned(),
                target_groups: vec![],
            }),
            traffic: vec![],
        };
        let weights = rollout::snapshot::Weights { blue: 100, green: 0 };
        let cloud = AwsCloud::default();
        for effect in [Effect::SetWeights { weights, seen: vec![] }, Effect::SetTestRules { weights: vec![] }] {
            let kind = effect.kind();
            let reason = format!("{kind} does not fit this target: its versions replace one another in place");
            assert_eq!(engine::Cloud::perform(&cloud, &resources, &effect).await, Outcome::Refused { reason });
        }
    }

    #[test]
    fn a_services_key_is_the_same_by_name_and_by_arn() {
        let service = EcsServiceName { cluster: "shop", container: "worker", name: "mailer" };
        let by_arn = EcsServiceName { cluster: "arn:aws:ecs:eu-west-1:123456789012:cluster/shop", ..service };
        assert_eq!(service_key(service), "service/shop/mailer");
        assert_eq!(service_key(by_arn), "service/shop/mailer");
    }

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
