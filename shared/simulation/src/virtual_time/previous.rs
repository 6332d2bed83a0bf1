//! The state before the last writes: eventually consistent readings may still return it for a while.

use super::answers::service;
use super::cloud::{limits, weights};
use crate::world::{World, ecs};
use engine::OverdueTarget;
use rollout::snapshot::{Autoscaling, RuleReading};
use rollout::{Effect, TargetResources, Timestamp};
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
            Effect::UpdateService { slot, .. } | Effect::SetDesired { slot, .. } => {
                let name = resources.ecs.service(*slot);
                if let Ok(found) = service(world, &resources.ecs.cluster, name) {
                    self.services
                        .entry(resources.ecs.cluster.clone())
                        .or_default()
                        .insert(name.to_owned(), (now, found));
                }
            }
            Effect::SetAutoscaling { slot, .. } => {
                let name = resources.ecs.service(*slot);
                if let Ok(found) = limits(world, &resources.ecs.cluster, name) {
                    self.limits.entry(resources.ecs.cluster.clone()).or_default().insert(name.to_owned(), (now, found));
                    // New limits may change the desired count, too.
                    self.remember(world, resources, &Effect::SetDesired { slot: *slot, desired: 0 });
                }
            }
            Effect::SetWeights { .. } => resources.rules().for_each(|arn| self.remember_rule(world, resources, arn)),
            Effect::SetTestRules { .. } => {
                resources.test_rules().for_each(|arn| self.remember_rule(world, resources, arn))
            }
            _ => {}
        }
    }

    fn remember_rule(&mut self, world: &mut World, resources: &TargetResources, arn: &str) {
        let now = world.now();
        if let Ok(found) = weights(world, resources, arn) {
            self.rules.insert(arn.to_owned(), (now, found));
        }
    }
}
