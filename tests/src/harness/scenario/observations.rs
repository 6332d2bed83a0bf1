//! What tests read of an application, or wait for: weights, tasks, calls, journal, verdicts.

use super::{PATIENCE, Scenario, forward_groups};
use crate::front::Call;
use crate::harness::eventually;
use rollout::deployment::DeploymentRecord;
use rollout::snapshot::Weights;
use rollout::{Fact, JournalEntry, Slot};
use serde_json::Value;
use simulation::world::World;
use simulation::world::alarms::AlarmState;
use simulation::world::balancer::HealthState;
use simulation::world::scaling::{DescribeScalableTargets, SuspendedState};
use std::time::Duration;

/// Healthy targets of a target group, as they are in the world.
#[must_use]
pub fn healthy_targets(world: &mut World, group: &str) -> usize {
    world.as_third_party(|world| {
        let targets = world.describe_target_health(group).unwrap_or_default();
        targets.iter().filter(|target| target.state == HealthState::Healthy).count()
    })
}

impl Scenario {
    /// The weights of a pair's rule as they are in the world.
    ///
    /// # Panics
    /// Where the target is one service, or the rule is gone.
    #[must_use]
    pub fn weights(&self) -> Weights {
        let names = self.names();
        let mut world = self.stack.front().world();
        let rules = world.as_third_party(|world| world.describe_rules(None, std::slice::from_ref(&names.rule)));
        drop(world);
        let mut rules = rules.unwrap_or_else(|error| panic!("{error}"));
        let mut weights = Weights { blue: 0, green: 0 };
        for group in rules.iter_mut().flat_map(|rule| &mut rule.actions).filter_map(forward_groups).flatten() {
            let weight = u16::try_from(group.weight.unwrap_or(1)).unwrap_or_default();
            if group.arn == names.blue_group { weights.blue = weight } else { weights.green = weight }
        }
        weights
    }

    /// Running tasks and healthy targets of a side of a pair, as they are in the world.
    ///
    /// # Panics
    /// Where the target is one service.
    #[must_use]
    pub fn side(&self, slot: Slot) -> (u32, usize) {
        let service = self.ecs_service(slot);
        let group = match slot {
            Slot::Blue => &self.names().blue_group,
            Slot::Green => &self.names().green_group,
        };
        let mut world = self.stack.front().world();
        let running = world.as_third_party(|world| {
            world
                .describe_services(self.names.cluster(), std::slice::from_ref(service))
                .map_or(0, |(services, _)| services.iter().map(|service| service.running_count).sum())
        });
        (running, healthy_targets(&mut world, group))
    }

    /// The image that the service of a pair's side is to run.
    ///
    /// # Panics
    /// Where the target is one service.
    #[must_use]
    pub fn image_of(&self, slot: Slot) -> String {
        let definition = self.definition_of(slot);
        let containers = definition["containerDefinitions"].as_array().into_iter().flatten();
        let image = containers.filter(|container| container["name"] == "app").find_map(|app| app["image"].as_str());
        image.unwrap_or_default().to_owned()
    }

    /// The document of the task definition that the service of a pair's side is to run; null where there is none.
    ///
    /// # Panics
    /// Where the target is one service.
    #[must_use]
    pub fn definition_of(&self, slot: Slot) -> Value {
        let service = self.ecs_service(slot);
        let mut world = self.stack.front().world();
        world.as_third_party(|world| {
            let described = world.describe_services(self.names.cluster(), std::slice::from_ref(service));
            let definition = described.ok().and_then(|(services, _)| Some(services.first()?.task_definition.clone()));
            let definition = definition.and_then(|arn| world.describe_task_definition(&arn).ok());
            definition.map(|definition| definition.document).unwrap_or_default()
        })
    }

    /// Lowest and highest desired count that Application Auto Scaling keeps of a pair's side, and whether anything is
    /// suspended.
    ///
    /// # Panics
    /// Where the target is one service.
    #[must_use]
    pub fn autoscaling(&self, slot: Slot) -> Option<(u32, u32, bool)> {
        let service = self.ecs_service(slot);
        let request = DescribeScalableTargets {
            service_namespace: "ecs".to_owned(),
            resource_ids: vec![format!("service/{}/{service}", self.names.cluster())],
            ..DescribeScalableTargets::default()
        };
        let mut world = self.stack.front().world();
        let targets = world.as_third_party(|world| world.describe_scalable_targets(request)).ok()?;
        let target = targets.first()?;
        Some((target.min_capacity, target.max_capacity, target.suspended_state != SuspendedState::default()))
    }

    /// Every call of the product so far that is about this application.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        // Names of the world's and keys of the ledger's both begin with the application's.
        let log = self.stack.front().log();
        let about = |call: &&Call| {
            let text = call.parameters.to_string();
            text.contains(&format!("{}/", self.application)) || text.contains(&format!("{}-", self.application))
        };
        log.calls().iter().filter(about).cloned().collect()
    }

    /// The journal so far, oldest first.
    ///
    /// # Panics
    /// Where it is not to be had.
    #[must_use]
    pub fn journal(&self) -> Vec<JournalEntry> {
        self.operations().journal().unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// Waits until `question` has an answer.
    ///
    /// # Panics
    /// When the limit has passed, with what the last refusal was and everything that is known.
    pub fn expect<T>(&self, what: &str, limit: Duration, question: impl FnMut() -> Result<T, String>) -> T {
        eventually(limit, question).unwrap_or_else(|failure| panic!("{what}: {failure}"))
    }

    /// Waits for the verdict of a deployment, and answers its record in the history.
    ///
    /// # Panics
    /// When there is none in time.
    #[must_use]
    pub fn verdict(&self, number: u64) -> DeploymentRecord {
        self.expect(&format!("deployment {number} ends"), PATIENCE, || {
            let history = self.operations().history().map_err(|failure| failure.0)?;
            match history.into_iter().find(|record| record.number == number) {
                Some(record) if record.verdict.is_some() => Ok(record),
                Some(_) => Err("it runs".to_owned()),
                None => Err("it has not begun".to_owned()),
            }
        })
    }

    /// Waits for a fact in the journal that `choose` takes, and answers what it makes of it.
    ///
    /// # Panics
    /// When there is none in time.
    pub fn fact<T>(&self, what: &str, choose: impl Fn(&Fact) -> Option<T>) -> T {
        self.expect(&format!("the journal tells {what}"), PATIENCE, || {
            let found = self.journal().iter().find_map(|entry| choose(&entry.fact));
            found.ok_or_else(|| "not yet".to_owned())
        })
    }

    /// Waits until weights other than `from` are live, and answers them.
    ///
    /// # Panics
    /// When there are none in time.
    pub fn wait_for_weights_change(&self, from: Weights) -> Weights {
        self.expect(&format!("the weights leave {from:?}"), PATIENCE, || {
            let weights = self.weights();
            if weights == from { Err("they have not".to_owned()) } else { Ok(weights) }
        })
    }

    /// Waits until the alarms on 5xx have been evaluated and are OK: only the candidate changes them from then on.
    ///
    /// # Panics
    /// When they are not in time.
    pub fn wait_until_alarms_are_ok(&self) {
        let names = self.names.alarms();
        self.expect("the alarms are OK", Duration::from_secs(30), || {
            let mut world = self.stack.front().world();
            let alarms = world.as_third_party(|world| world.describe_alarms(&names));
            let alarms = alarms.map_err(|error| error.to_string())?;
            drop(world);
            match alarms.iter().find(|alarm| alarm.state != AlarmState::Ok) {
                Some(alarm) => Err(format!("{} is {}", alarm.name, alarm.state.as_str())),
                None => Ok(()),
            }
        });
    }

    /// Waits until the product has not called for this application for so long.
    ///
    /// # Panics
    /// When it goes on and on.
    pub fn wait_until_quiet_for(&self, silence: Duration) {
        self.expect("the product is quiet", Duration::from_secs(30), || {
            let now = self.stack.front().elapsed();
            let last = self.calls().iter().map(|call| call.ended.unwrap_or(now)).max().unwrap_or_default();
            if now.saturating_sub(last) >= silence { Ok(()) } else { Err("it is busy".to_owned()) }
        });
    }
}
