//! What people and tools do in a day, one action at a time.

use super::in_place::is_triggered;
use super::{DayRun, ROLLBACK_REASON, targets};
use crate::day::{DayAction, ToolTrigger, VoteSubject};
use crate::pipeline::{carol, environment_of, name, slack};
use engine::Cloud as _;
use futures::task::noop_waker;
use rollout::brake::Scope;
use rollout::snapshot::Weights;
use rollout::{DeployOptions, Effect, Instruction, Lane, PlanId, Seconds, Slot, TargetId};
use simulation::virtual_time::{PushAnnouncement, Simulation};
use simulation::world::ImageBehaviour;
use simulation::world::scaling::RegisterScalableTarget;
use std::pin::pin;
use std::task::Context;

impl DayRun {
    pub(super) fn perform_action(&mut self, what: &DayAction) {
        if self.perform_on_service(what) {
            return;
        }
        match what {
            DayAction::Push { number, behaviour } => self.push(*number, behaviour),
            DayAction::Vote { user, subject, reject } => self.vote(user, *subject, *reject),
            DayAction::Rollback { target } => {
                self.pipeline.ask(target, Instruction::Rollback, carol(), ROLLBACK_REASON)
            }
            DayAction::Abort { target } => {
                self.pipeline.ask(target, Instruction::Abort { deployment: None }, carol(), "let us go home");
            }
            DayAction::Deploy { target, number, hotfix, forward_only } => {
                let lane = if *hotfix { Lane::Hotfix } else { Lane::Asked };
                let options = DeployOptions { lane, forward_only: *forward_only, ..DeployOptions::default() };
                self.pipeline.deploy(target, *number, options);
            }
            DayAction::Resume { target } => self.pipeline.ask(target, Instruction::Resume, carol(), "it is well again"),
            DayAction::SetFunction { name, behaviour } => {
                self.pipeline.simulation.world(|world| world.put_function(name, behaviour.clone()));
            }
            DayAction::Brake { scope } => self.brake(scope),
            DayAction::LiftBrake => self.lift_first_brake(),
            DayAction::ApplyPolicy { bake } => self.set_bake(*bake),
            DayAction::EditWeights { target, blue } => self.edit_weights(target, *blue),
            DayAction::EditDesired { target, slot, desired } => self.set_desired(target, *slot, *desired),
            DayAction::EditLimits { target, slot, min, max } => self.edit_limits(target, *slot, *min, *max),
            DayAction::KillTasks { target, slot, tasks } => self.kill_tasks(target, *slot, *tasks),
            DayAction::SetTraffic { target, per_second } => {
                self.pipeline.set_traffic(target, *per_second);
            }
            DayAction::FavourWrongSide { target, trigger, share } => {
                self.pending_tools.push((target.clone(), *trigger, *share))
            }
            DayAction::DegradeSide { target, affected, mode } => self.degrade_side(target, *affected, *mode),
            DayAction::Recover { target } => self.recover(target),
            DayAction::ScaleToZero { target } => self.scale_to_zero(target),
            DayAction::ScaleUp { target } => self.scale_up(target),
            DayAction::Retag { tag, number, silent } => self.retag(*tag, *number, *silent),
            DayAction::DeleteImage { number } => self.delete_image(*number),
            DayAction::SuspendAlarm { target, slot, mode } => self.set_evaluation(target, *slot, Some(*mode)),
            DayAction::ResumeAlarm { target, slot } => self.set_evaluation(target, *slot, None),
            DayAction::ScheduleLimits { target, slot, min, max } => self.schedule(target, *slot, *min, *max),
            DayAction::InPlace(action) => self.perform_in_place(action),
            DayAction::Nothing => {}
            DayAction::WriteWithoutLease { target } => self.write_without_lease(target),
        }
    }

    fn push(&mut self, number: u64, behaviour: &ImageBehaviour) {
        self.images.insert(number, behaviour.clone());
        self.pipeline.set_image(number, behaviour.clone());
        self.pipeline.push("api", number);
    }

    fn retag(&mut self, tag: u64, number: u64, silent: bool) {
        let mode = if silent { PushAnnouncement::Silent } else { PushAnnouncement::Event };
        if self.images.contains_key(&number) {
            self.pipeline.simulation.tag(number, &format!("v{tag}"), mode);
        }
    }

    fn delete_image(&mut self, number: u64) {
        if self.images.contains_key(&number) {
            self.pipeline.simulation.delete_image(number);
        }
    }

    fn set_bake(&mut self, bake: Seconds) {
        self.pipeline.apply(|policy| {
            let api = environment_of(policy, "prod").targets.get_mut(&name("api")).expect("a target");
            api.strategy.bake = bake;
        });
    }

    fn brake(&mut self, scope: &Scope) {
        if !self.active_brakes.contains_key(scope) {
            self.pipeline.brake(scope.clone(), "it is late");
            self.active_brakes.insert(scope.clone(), self.pipeline.simulation.now());
        }
    }

    /// Somebody, an approver or not, approves or rejects a deployment to prod: the one that waits, or another.
    fn vote(&mut self, user: &str, subject: VoteSubject, reject: bool) {
        let [_, _, prod] = targets();
        let waits = self.pipeline.state(&prod).running.and_then(|running| Some((running.number, running.gates?.plan)));
        let Some((deployment, plan)) = waits else { return };
        let (deployment, plan) = match subject {
            VoteSubject::PreviousDeployment => (deployment.saturating_sub(1), plan),
            VoteSubject::OtherPlan => (deployment, PlanId("0123456789abcdef".to_owned())),
            VoteSubject::Current => (deployment, plan),
        };
        let instruction =
            if reject { Instruction::Reject { deployment, plan } } else { Instruction::Approve { deployment, plan } };
        self.pipeline.ask(&prod, instruction, slack(user), "as you like");
    }

    pub(super) fn lift_first_brake(&mut self) {
        if let Some((scope, since)) = self.active_brakes.pop_first() {
            self.pipeline.lift_brake(&scope);
            self.past_brakes.push((scope, since, self.pipeline.simulation.now()));
            self.highest_shares.clear();
        }
    }

    /// Writes weights without holding the target, if anything was ever deployed there.
    fn write_without_lease(&mut self, target: &TargetId) {
        if self.pipeline.state(target).last_deployment == 0 {
            return;
        }
        let policy = self.pipeline.policy.target(target).expect("it is in the policy");
        let (resources, effect) =
            (policy.resources.clone(), Effect::SetWeights { weights: Weights { blue: 100, green: 0 }, seen: vec![] });
        let (_, cloud, ..) = self.pipeline.simulation.ports();
        let mut write = pin!(cloud.perform(&resources, &effect));
        for _ in 0..10 {
            if write.as_mut().poll(&mut Context::from_waker(&noop_waker())).is_ready() {
                return;
            }
            self.pipeline.simulation.run_for(1);
        }
    }

    /// Cluster and service of a side.
    pub(super) fn service(&self, target: &TargetId, slot: Slot) -> (String, String) {
        let names = self.pipeline.simulation.at(target).names();
        let service = if slot == Slot::Blue { &names.blue } else { &names.green };
        (names.cluster.clone(), service.clone())
    }

    pub(super) fn edit_weights(&mut self, target: &TargetId, blue: i64) {
        self.pipeline.edit_weights(target, blue);
        if self.cloudtrail_enabled {
            let simulation = &self.pipeline.simulation;
            simulation.send_edit_event(&simulation.at(target).names().rule);
        }
        self.edited_by_hand.insert(target.clone());
    }

    fn edit_limits(&mut self, target: &TargetId, slot: Slot, min: u32, max: u32) {
        let (cluster, service) = self.service(target, slot);
        let edit = RegisterScalableTarget {
            service_namespace: "ecs".to_owned(),
            resource_id: format!("service/{cluster}/{service}"),
            scalable_dimension: "ecs:service:DesiredCount".to_owned(),
            min_capacity: Some(i64::from(min)),
            max_capacity: Some(i64::from(max)),
            suspended_state: None,
        };
        if self.pipeline.simulation.world(|world| world.has_scaling_limits(&cluster, &service)) {
            self.pipeline.simulation.world(|world| world.register_scalable_target(edit)).expect("it is there");
        }
    }

    /// Lets everything happen for so many seconds; tools write as soon as their moments come.
    pub(super) fn run_for(&mut self, seconds: u64) {
        let limit = Seconds(seconds).after(self.pipeline.simulation.now());
        while self.has_pending_tools() && self.pipeline.simulation.violation().is_none() {
            let left = Seconds::between(self.pipeline.simulation.now(), limit);
            let (pending_tools, of_services) = (&self.pending_tools, &self.pending_service_tools);
            let is_any_triggered = |simulation: &mut Simulation| {
                pending_tools.iter().any(|pending_tool| triggered_side(simulation, pending_tool).is_some())
                    || of_services.iter().any(|(target, trigger, _)| is_triggered(simulation, target, *trigger))
            };
            if left.0 == 0 || !self.pipeline.simulation.run_until_condition(left.0, is_any_triggered) {
                break;
            }
            self.run_service_tools();
            for pending_tool in std::mem::take(&mut self.pending_tools) {
                match triggered_side(&self.pipeline.simulation, &pending_tool) {
                    Some(slot) => {
                        let share = i64::from(pending_tool.2);
                        self.edit_weights(&pending_tool.0, if slot == Slot::Blue { share } else { 100 - share });
                    }
                    None => self.pending_tools.push(pending_tool),
                }
            }
        }
        self.pipeline.simulation.run_until(limit);
    }

    fn has_pending_tools(&self) -> bool {
        !self.pending_tools.is_empty() || !self.pending_service_tools.is_empty()
    }
}

/// The side that a tool favours, if its moment has come: the candidate, or at rest the side without tasks.
fn triggered_side(simulation: &Simulation, (target, trigger, _): &(TargetId, ToolTrigger, u8)) -> Option<Slot> {
    let store = simulation.ledger().store();
    let running = store.peek(target)?.running.as_ref();
    if running.is_some_and(|running| running.candidate().is_none()) {
        return None;
    }
    let names = simulation.at(target).names();
    let weights = simulation.world(|world| world.forwards_of(&names.rule));
    let has_traffic = |slot: Slot| {
        let group = if slot == Slot::Blue { &names.blue_group } else { &names.green_group };
        weights.iter().any(|found| &found.arn == group && found.weight.unwrap_or(1) > 0)
    };
    let candidate = running.and_then(|running| running.candidate());
    match trigger {
        ToolTrigger::NothingRunning if running.is_none() => Slot::BOTH.into_iter().find(|slot| !has_traffic(*slot)),
        ToolTrigger::NothingRunning => None,
        ToolTrigger::CandidateHasTraffic => candidate.filter(|slot| has_traffic(*slot)),
        ToolTrigger::CandidateAlarmFires => candidate.filter(|slot| {
            let alarm = if *slot == Slot::Blue { &names.blue_alarm } else { &names.green_alarm };
            has_traffic(*slot) && simulation.world(|world| world.alarm_fires(alarm))
        }),
        ToolTrigger::RollingBack => {
            candidate.filter(|_| running.is_some_and(|running| running.stage() == rollout::Stage::RollingBack))
        }
    }
}
