//! Target groups: registration, health, draining.

use super::shapes::{ElbTarget, GroupSettings, HealthState, TargetGroup, TargetHealthDescription};
use crate::world::agenda::{AgendaItem, later};
use crate::world::error::validation_error;
use crate::world::image::Health;
use crate::world::{ApiError, ApiResult, TaskBackend, World};
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeMap;

/// A target group with its registered targets.
#[derive(Debug, Clone)]
pub(in crate::world) struct GroupState {
    pub(in crate::world) arn: String,
    pub(in crate::world) name: String,
    pub(in crate::world) dimension: String,
    pub(in crate::world) settings: GroupSettings,
    pub(in crate::world) attached: bool,
    pub(in crate::world) targets: BTreeMap<ElbTarget, RegisteredTarget>,
}

/// A registered target.
#[derive(Debug, Clone)]
pub(in crate::world) struct RegisteredTarget {
    pub(in crate::world) state: HealthState,
    pub(in crate::world) registered_at: Timestamp,
    /// When draining started; none: not draining.
    draining_since: Option<Timestamp>,
    /// Id of the task at this address.
    pub(in crate::world) task: Option<String>,
}

impl World {
    /// `CreateTargetGroup`, of type ip.
    ///
    /// # Errors
    /// `DuplicateTargetGroupName`
    pub fn create_target_group(&mut self, name: &str, settings: GroupSettings) -> ApiResult<TargetGroup> {
        self.call("elasticloadbalancing:CreateTargetGroup", self.detail(|| json!({"Name": name})), |world| {
            if world.groups.values().any(|group| group.name == name) {
                return Err(ApiError::new("DuplicateTargetGroupName", format!("A target group '{name}' exists")));
            }
            let dimension = format!("targetgroup/{name}/{}", world.rng.hex(16));
            let arn = world.arn("elasticloadbalancing", &dimension);
            let group = GroupState {
                arn: arn.clone(),
                name: name.to_owned(),
                dimension,
                settings,
                attached: false,
                targets: BTreeMap::new(),
            };
            let shape = world.group_shape(&group);
            world.groups.insert(arn, group);
            Ok(shape)
        })
    }

    /// `ModifyTargetGroupAttributes` and `ModifyTargetGroup` in one: all settings.
    ///
    /// # Errors
    /// `TargetGroupNotFound`
    pub fn modify_target_group(&mut self, arn: &str, settings: GroupSettings) -> ApiResult<TargetGroup> {
        self.call("elasticloadbalancing:ModifyTargetGroup", self.detail(|| json!({"TargetGroupArn": arn})), |world| {
            let group = world.groups.get_mut(arn).ok_or_else(|| group_not_found(arn))?;
            group.settings = settings;
            let group = group.clone();
            Ok(world.group_shape(&group))
        })
    }

    /// `RegisterTargets`
    ///
    /// # Errors
    /// `TargetGroupNotFound`
    pub fn register_targets(&mut self, arn: &str, targets: &[ElbTarget]) -> ApiResult<()> {
        self.call("elasticloadbalancing:RegisterTargets", self.detail(|| json!({"TargetGroupArn": arn})), |world| {
            if !world.groups.contains_key(arn) {
                return Err(group_not_found(arn));
            }
            for target in targets {
                world.register(arn, target.clone(), None);
            }
            Ok(())
        })
    }

    /// `DeregisterTargets`
    ///
    /// # Errors
    /// `TargetGroupNotFound`
    pub fn deregister_targets(&mut self, arn: &str, targets: &[ElbTarget]) -> ApiResult<()> {
        self.call("elasticloadbalancing:DeregisterTargets", self.detail(|| json!({"TargetGroupArn": arn})), |world| {
            if !world.groups.contains_key(arn) {
                return Err(group_not_found(arn));
            }
            for target in targets {
                world.deregister(arn, target);
            }
            Ok(())
        })
    }

    /// `DescribeTargetGroups` of a balancer, of these ARNs, or of these names; nothing given: all.
    ///
    /// # Errors
    /// `TargetGroupNotFound`, `LoadBalancerNotFound`, `ValidationError` if more than one of them is given.
    pub fn describe_target_groups(
        &mut self,
        load_balancer: Option<&str>,
        arns: &[String],
        names: &[String],
    ) -> ApiResult<Vec<TargetGroup>> {
        let detail = self.detail(|| json!({"LoadBalancerArn": load_balancer, "TargetGroupArns": arns, "Names": names}));
        self.call("elasticloadbalancing:DescribeTargetGroups", detail, |world| {
            let kinds = usize::from(load_balancer.is_some()) + usize::from(!arns.is_empty() || !names.is_empty());
            if kinds > 1 {
                return Err(validation_error("Load balancer and target groups cannot be specified together"));
            }
            if load_balancer.is_some_and(|arn| !world.balancers.contains_key(arn)) {
                return Err(ApiError::new("LoadBalancerNotFound", "One or more load balancers not found"));
            }
            let known = |arn: &String| world.groups.contains_key(arn);
            let named = |name: &String| world.groups.values().any(|group| group.name == *name);
            if !arns.iter().all(known) || !names.iter().all(named) {
                return Err(ApiError::new("TargetGroupNotFound", "One or more target groups not found"));
            }
            let shapes = world.groups.values().map(|group| world.group_shape(group));
            Ok(shapes
                .filter(|group| match load_balancer {
                    Some(balancer) => group.load_balancers.iter().any(|one| one == balancer),
                    None => kinds == 0 || arns.contains(&group.arn) || names.contains(&group.name),
                })
                .collect())
        })
    }

    /// `DescribeTargetHealth` of all targets of a group.
    ///
    /// # Errors
    /// `TargetGroupNotFound`
    pub fn describe_target_health(&mut self, arn: &str) -> ApiResult<Vec<TargetHealthDescription>> {
        self.call(
            "elasticloadbalancing:DescribeTargetHealth",
            self.detail(|| json!({"TargetGroupArn": arn})),
            |world| {
                let group = world.groups.get(arn).ok_or_else(|| group_not_found(arn))?;
                Ok(group.targets.iter().map(|(target, state)| described(target, state.state)).collect())
            },
        )
    }

    fn group_shape(&self, group: &GroupState) -> TargetGroup {
        TargetGroup {
            arn: group.arn.clone(),
            name: group.name.clone(),
            dimension: group.dimension.clone(),
            load_balancers: self.balancer_of_group(&group.arn).map(str::to_owned).into_iter().collect(),
            settings: group.settings,
        }
    }

    /// After a change of rules or listeners: marks targets of unattached groups as unused, and starts checks in
    /// attached ones.
    pub(in crate::world) fn update_attachments(&mut self) {
        let arns: Vec<String> = self.groups.keys().cloned().collect();
        for arn in arns {
            let attached = self.balancer_of_group(&arn).is_some();
            let Some(group) = self.groups.get_mut(&arn) else { continue };
            if group.attached == attached {
                continue;
            }
            group.attached = attached;
            let staying: Vec<ElbTarget> = group
                .targets
                .iter_mut()
                .filter(|(_, target)| target.state != HealthState::Draining)
                .map(|(id, target)| {
                    target.state = HealthState::Unused;
                    id.clone()
                })
                .collect();
            if attached {
                for target in staying {
                    self.begin_checks(&arn, &target);
                }
            }
        }
    }

    pub(in crate::world) fn register(&mut self, arn: &str, target: ElbTarget, task: Option<String>) {
        let now = self.now;
        let Some(group) = self.groups.get_mut(arn) else { return };
        let state = RegisteredTarget { state: HealthState::Unused, registered_at: now, draining_since: None, task };
        group.targets.insert(target.clone(), state);
        if group.attached {
            self.begin_checks(arn, &target);
        }
        self.targets_changed(arn);
    }

    /// Puts a target into `initial`; the result of its checks follows from its task's image.
    fn begin_checks(&mut self, arn: &str, target: &ElbTarget) {
        let now = self.now;
        let Some(group) = self.groups.get_mut(arn) else { return };
        let settings = group.settings;
        let Some(state) = group.targets.get_mut(target) else { return };
        state.state = HealthState::Initial;
        state.registered_at = now;
        let task = state.task.as_ref().and_then(|id| self.tasks.get(id));
        if self.settings.backend == TaskBackend::External && task.is_some() {
            if let Some(healthy) = task.and_then(|task| task.reported_health) {
                state.state = if healthy { HealthState::Healthy } else { HealthState::Unhealthy };
            }
            return;
        }
        let started = task.and_then(|task| task.shape.started_at).unwrap_or(now);
        let health = task.map_or(Health::After(rollout::Seconds(0)), |task| task.behaviour.health);
        let interval = u64::from(settings.health_check_interval_s) * 1000;
        let until_healthy = interval * u64::from(settings.healthy_threshold);
        let until_unhealthy = interval * u64::from(settings.unhealthy_threshold);
        let phase = self.rng.between(0, interval);
        let mut verdict = |at: Timestamp, state: HealthState| {
            let item = AgendaItem::Health { group: arn.to_owned(), target: target.clone(), state, registered_at: now };
            self.at(at, item);
        };
        match health {
            Health::After(seconds) => {
                let ready = seconds.after(started).max(now);
                verdict(later(ready, phase + until_healthy), HealthState::Healthy);
            }
            Health::Never => verdict(later(now, phase + until_unhealthy), HealthState::Unhealthy),
            Health::LostAfter(seconds) => {
                verdict(later(now, phase + until_healthy), HealthState::Healthy);
                let lost = later(seconds.after(started).max(now), phase + until_healthy + until_unhealthy);
                verdict(lost, HealthState::Unhealthy);
            }
        }
    }

    pub(in crate::world) fn apply_health_check(
        &mut self,
        arn: &str,
        target: &ElbTarget,
        state: HealthState,
        registered_at: Timestamp,
    ) {
        let found = self.groups.get(arn).and_then(|group| group.targets.get(target));
        if found.is_some_and(|found| found.registered_at == registered_at) {
            self.set_health(arn, target, state);
        }
    }

    pub(in crate::world) fn set_health(&mut self, arn: &str, target: &ElbTarget, state: HealthState) {
        let Some(found) = self.groups.get_mut(arn).and_then(|group| group.targets.get_mut(target)) else { return };
        if matches!(found.state, HealthState::Draining | HealthState::Unused) || found.state == state {
            return;
        }
        found.state = state;
        let task = found.task.clone();
        self.targets_changed(arn);
        if let Some(task) = task {
            self.target_health_changed(&task, state);
        }
    }

    /// Deregisters a target: it drains for the group's deregistration delay, and is then removed.
    pub(in crate::world) fn deregister(&mut self, arn: &str, target: &ElbTarget) {
        let now = self.now;
        let Some(group) = self.groups.get_mut(arn) else { return };
        let delay = if group.attached { u64::from(group.settings.deregistration_delay_s) * 1000 } else { 0 };
        let Some(state) = group.targets.get_mut(target) else { return };
        if state.state == HealthState::Draining {
            return;
        }
        state.state = HealthState::Draining;
        state.draining_since = Some(now);
        self.targets_changed(arn);
        self.after_ms(delay, AgendaItem::Drained { group: arn.to_owned(), target: target.clone(), since: now });
    }

    pub(in crate::world) fn drained(&mut self, arn: &str, target: &ElbTarget, since: Timestamp) {
        let Some(group) = self.groups.get_mut(arn) else { return };
        if group.targets.get(target).is_none_or(|state| state.draining_since != Some(since)) {
            return;
        }
        if let Some(task) = group.targets.remove(target).and_then(|state| state.task) {
            self.task_has_drained(&task);
        }
    }
}

fn described(target: &ElbTarget, state: HealthState) -> TargetHealthDescription {
    let (reason, description) = match state {
        HealthState::Healthy => (None, None),
        HealthState::Initial => (Some("Elb.RegistrationInProgress"), Some("Target registration is in progress")),
        HealthState::Unhealthy => (Some("Target.FailedHealthChecks"), Some("Health checks failed")),
        HealthState::Draining => {
            (Some("Target.DeregistrationInProgress"), Some("Target deregistration is in progress"))
        }
        HealthState::Unused => {
            (Some("Target.NotInUse"), Some("Target group is not configured to receive traffic from the load balancer"))
        }
    };
    TargetHealthDescription { target: target.clone(), state, reason, description }
}

fn group_not_found(arn: &str) -> ApiError {
    ApiError::new("TargetGroupNotFound", format!("Target group '{arn}' not found"))
}
