//! The state before the last writes: eventually consistent readings may still return it for a while.

use super::answers::service;
use super::cloud::weights;
use super::platforms::limits;
use crate::world::{World, ecs};
use engine::OverdueTarget;
use rollout::snapshot::{Autoscaling, RuleReading};
use rollout::{EcsServiceName, Effect, TargetResources, Timestamp};
use std::collections::BTreeMap;

/// The previous value of each written object, and when it was replaced.
#[derive(Debug, Default)]
pub(crate) struct PreviousState {
    pub(super) services: BTreeMap<String, BTreeMap<String, (Timestamp, ecs::EcsService)>>,
    pub(super) rules: BTreeMap<String, (Timestamp, RuleReading)>,
    pub(super) limits: BTreeMap<String, BTreeMap<String, (Timestamp, Option<Autoscaling>)>>,
    /// The previous answer of the index of overdue targets: an index lags behind its table.
    pub(super) overdue: Option<Vec<OverdueTarget>>,
}

impl PreviousState {
    pub(super) fn service(&self, cluster: &str, service: &str) -> Option<(Timestamp, ecs::EcsService)> {
        self.services.get(cluster)?.get(service).cloned()
    }

    pub(super) fn rule(&self, arn: &str) -> Option<(Timestamp, RuleReading)> {
        self.rules.get(arn).cloned()
    }

    pub(super) fn limits(&self, cluster: &str, service: &str) -> Option<(Timestamp, Option<Autoscaling>)> {
        self.limits.get(cluster)?.get(service).copied()
    }

    /// Saves the state that `effect` is about to change.
    pub(super) fn remember(&mut self, world: &mut World, resources: &TargetResources, effect: &Effect) {
        let now = world.now();
        match effect {
            Effect::SetVersion { slot, .. } | Effect::SetDesired { slot, .. } => {
                self.remember_service(world, resources.platform.ecs_service(Some(*slot)));
            }
            Effect::ReplaceVersion { .. } => self.remember_service(world, resources.platform.ecs_service(None)),
            Effect::StartFirst { slot, .. } | Effect::StopFirst { slot } => {
                self.remember_service(world, resources.platform.ecs_service(*slot));
            }
            Effect::SetAutoscaling { slot, .. } => {
                let Some(service) = resources.platform.ecs_service(Some(*slot)) else { return };
                if let Ok(found) = limits(world, service) {
                    let limits = self.limits.entry(service.cluster.to_owned()).or_default();
                    limits.insert(service.name.to_owned(), (now, found));
                    // New limits may change the desired count, too.
                    self.remember_service(world, Some(service));
                }
            }
            Effect::SetWeights { .. } => resources.rules().for_each(|arn| self.remember_rule(world, resources, arn)),
            Effect::SetTestRules { .. } => {
                resources.test_rules().for_each(|arn| self.remember_rule(world, resources, arn))
            }
            _ => {}
        }
    }

    /// None: the target's platform has no such service.
    fn remember_service(&mut self, world: &mut World, of: Option<EcsServiceName<'_>>) {
        let now = world.now();
        if let Some(of) = of
            && let Ok(found) = service(world, of.cluster, of.name)
        {
            self.services.entry(of.cluster.to_owned()).or_default().insert(of.name.to_owned(), (now, found));
        }
    }

    fn remember_rule(&mut self, world: &mut World, resources: &TargetResources, arn: &str) {
        let now = world.now();
        if let Ok(found) = weights(world, resources, arn) {
            self.rules.insert(arn.to_owned(), (now, found));
        }
    }
}
