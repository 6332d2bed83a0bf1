//! Conditions that last for a while: sides that are ill or asleep, alarms that are not evaluated, schedules.

use super::in_place::kill_tasks;
use super::{DEFAULT_REQUESTS_PER_SECOND, DEFAULT_TASKS, DayRun, targets};
use crate::day::{AffectedSides, SideFault};
use rollout::{Seconds, Slot, TargetId};
use simulation::world::ImageBehaviour;
use simulation::world::alarms::Evaluation;
use simulation::world::ecs::UpdateService;
use simulation::world::scaling::PutScheduledAction;

impl DayRun {
    /// The number of the image that a side runs.
    pub(super) fn image_of(&self, target: &TargetId, slot: Slot) -> Option<u64> {
        let key = self.service(target, slot);
        let image = self.pipeline.simulation.world(|world| world.image_run_by(&key, "app"))?;
        u64::from_str_radix(image.rsplit_once(":")?.1, 16).ok()
    }

    pub(super) fn degrade_side(&mut self, target: &TargetId, affected: AffectedSides, mode: SideFault) {
        let (blue, green) = self.pipeline.weights(target);
        let live = if blue >= green { Slot::Blue } else { Slot::Green };
        let sides = match affected {
            AffectedSides::Live => vec![live],
            AffectedSides::Idle => vec![live.other()],
            AffectedSides::Both => vec![live, live.other()],
        };
        for slot in sides {
            let Some(number) = self.image_of(target, slot) else { continue };
            self.degraded.insert((target.clone(), number));
            match mode {
                SideFault::Failing => self.pipeline.set_image(number, ImageBehaviour::failing(0.5)),
                SideFault::Unhealthy => {
                    self.pipeline.set_image(number, ImageBehaviour::never_healthy());
                    self.kill_tasks(target, slot, usize::MAX);
                }
            }
        }
    }

    pub(super) fn recover(&mut self, target: &TargetId) {
        let recovered: Vec<(TargetId, u64)> =
            self.degraded.iter().filter(|(owner, _)| owner == target).cloned().collect();
        for of in recovered {
            self.degraded.remove(&of);
            let number = of.1;
            if !self.degraded.iter().any(|(_, other)| *other == number) {
                self.pipeline.set_image(number, self.images.get(&number).cloned().unwrap_or_default());
            }
            // Tasks that came up ill are never looked at again: others take their place.
            let pairs = targets().into_iter().filter(|target| !self.in_place.contains(target));
            let pairs: Vec<TargetId> = pairs.collect();
            let sides = pairs.into_iter().flat_map(|target| [(target.clone(), Slot::Blue), (target, Slot::Green)]);
            for (target, slot) in sides {
                let group = self.group(&target, slot);
                let no_healthy_target = self.pipeline.simulation.world(|world| world.targets_of(&group).0 == 0);
                if no_healthy_target && self.image_of(&target, slot) == Some(number) {
                    self.kill_tasks(&target, slot, usize::MAX);
                }
            }
            self.restart_services(number);
        }
    }

    pub(super) fn kill_tasks(&mut self, target: &TargetId, slot: Slot, most: usize) {
        let (cluster, service) = self.service(target, slot);
        self.pipeline.simulation.world(|world| kill_tasks(world, &cluster, &service, most));
    }

    /// Target group of a side.
    pub(super) fn group(&self, target: &TargetId, slot: Slot) -> String {
        let names = self.pipeline.simulation.at(target).names();
        if slot == Slot::Blue { names.blue_group.clone() } else { names.green_group.clone() }
    }

    pub(super) fn scale_to_zero(&mut self, target: &TargetId) {
        let busy = |running: &rollout::Deployment| running.stage() != rollout::Stage::Gated;
        if self.scaled_to_zero.contains(target) || self.pipeline.state(target).running.as_ref().is_some_and(busy) {
            return;
        }
        self.pipeline.set_traffic(target, 0.0);
        if self.in_place.contains(target) {
            self.set_tasks(target, 0);
        } else {
            for slot in Slot::BOTH {
                self.set_desired(target, slot, 0);
            }
        }
        self.scaled_to_zero.insert(target.clone());
    }

    pub(super) fn scale_up(&mut self, target: &TargetId) {
        if !self.scaled_to_zero.remove(target) {
            return;
        }
        if self.in_place.contains(target) {
            self.set_tasks(target, DEFAULT_TASKS);
        } else {
            let (blue, green) = self.pipeline.weights(target);
            for (slot, weight) in [(Slot::Blue, blue), (Slot::Green, green)] {
                if weight > 0 {
                    self.set_desired(target, slot, DEFAULT_TASKS);
                }
            }
        }
        self.pipeline.set_traffic(target, DEFAULT_REQUESTS_PER_SECOND);
    }

    pub(super) fn set_desired(&mut self, target: &TargetId, slot: Slot, desired: u32) {
        let (cluster, service) = self.service(target, slot);
        let edit = UpdateService { cluster, service, desired_count: Some(desired), ..Default::default() };
        self.pipeline.simulation.world(|world| world.update_service(edit)).expect("it is there");
    }

    /// CloudWatch does not evaluate a side's alarm any more, or does again.
    pub(super) fn set_evaluation(&mut self, target: &TargetId, slot: Slot, mode: Option<Evaluation>) {
        let names = self.pipeline.simulation.at(target).names();
        let alarm = if slot == Slot::Blue { names.blue_alarm.clone() } else { names.green_alarm.clone() };
        let set = self.pipeline.simulation.world(|world| world.set_evaluation(&alarm, mode, "of the day"));
        set.expect("the alarm is there");
    }

    /// Somebody has a side's limits set once, a minute from now.
    pub(super) fn schedule(&mut self, target: &TargetId, slot: Slot, min: u32, max: u32) {
        let (cluster, service) = self.service(target, slot);
        let due = Seconds(60).after(self.pipeline.simulation.now());
        let action = PutScheduledAction {
            resource_id: format!("service/{cluster}/{service}"),
            name: format!("{min}-to-{max}"),
            schedule: format!("at({})", due.strftime("%Y-%m-%dT%H:%M:%S")),
            min: Some(min),
            max: Some(max),
            ..PutScheduledAction::default()
        };
        if self.pipeline.simulation.world(|world| world.has_scaling_limits(&cluster, &service)) {
            self.pipeline.simulation.world(|world| world.put_scheduled_action(action)).expect("it is sound");
        }
    }
}
