//! Application Auto Scaling: limits of desired counts, scheduled actions that change them, and a policy that follows
//! the traffic.

use super::agenda::AgendaItem;
use super::ecs::epoch;
use super::error::validation_error;
use super::{ApiError, ApiResult, ChangedBy, ServiceKey, World, WorldChange};
use jiff::{SignedDuration, Timestamp};
use rollout::schedule::ScheduledAction;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// `SuspendedState`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SuspendedState {
    /// Policies do not scale in.
    pub dynamic_scaling_in_suspended: bool,
    /// Policies do not scale out.
    pub dynamic_scaling_out_suspended: bool,
    /// Scheduled actions do not run.
    pub scheduled_scaling_suspended: bool,
}

/// `RegisterScalableTarget`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RegisterScalableTarget {
    /// `ecs`
    pub service_namespace: String,
    /// `service/CLUSTER/SERVICE`
    pub resource_id: String,
    /// `ecs:service:DesiredCount`
    pub scalable_dimension: String,
    /// Lowest desired count; required for a new target.
    pub min_capacity: Option<i64>,
    /// Highest desired count; required for a new target.
    pub max_capacity: Option<i64>,
    /// Suspended scaling activities; none: unchanged.
    pub suspended_state: Option<SuspendedState>,
}

/// `DescribeScalableTargets`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DescribeScalableTargets {
    /// `ecs`
    pub service_namespace: String,
    /// `service/CLUSTER/SERVICE`; none: all.
    pub resource_ids: Vec<String>,
    /// `ecs:service:DesiredCount`
    pub scalable_dimension: Option<String>,
}

/// A scalable target.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ScalableTarget {
    /// `ecs`
    pub service_namespace: &'static str,
    /// `service/CLUSTER/SERVICE`
    pub resource_id: String,
    /// `ecs:service:DesiredCount`
    pub scalable_dimension: &'static str,
    /// Lowest desired count.
    pub min_capacity: u32,
    /// Highest desired count.
    pub max_capacity: u32,
    /// Suspended scaling activities.
    pub suspended_state: SuspendedState,
    /// Time of the first registration.
    #[serde(serialize_with = "epoch")]
    pub creation_time: Timestamp,
    /// `RoleARN`
    #[serde(rename = "RoleARN")]
    pub role_arn: String,
}

/// `PutScheduledAction`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PutScheduledAction {
    /// `service/CLUSTER/SERVICE`
    pub resource_id: String,
    /// `ScheduledActionName`: an action of the same name is replaced.
    pub name: String,
    /// `at(…)`, `rate(…)` or `cron(…)`.
    pub schedule: String,
    /// IANA name; none: UTC.
    pub timezone: Option<String>,
    /// The action does not run before this time.
    pub start_time: Option<Timestamp>,
    /// The action does not run after this time.
    pub end_time: Option<Timestamp>,
    /// `MinCapacity`
    pub min: Option<u32>,
    /// `MaxCapacity`
    pub max: Option<u32>,
}

/// A scalable target, its policy, and its scheduled actions by name.
#[derive(Debug, Clone)]
pub(super) struct Scalable {
    shape: ScalableTarget,
    actions: BTreeMap<String, ScheduledAction>,
    /// Target value in requests per second and task; none: there is no policy.
    requests_per_task: Option<f64>,
}

impl Scalable {
    pub(super) fn is_scheduled(&self) -> bool {
        !self.actions.is_empty()
    }
}

impl World {
    /// `RegisterScalableTarget`: parameters that are none keep their value. A desired count outside the limits is moved
    /// inside at once.
    ///
    /// # Errors
    /// `ValidationException`, `ObjectNotFoundException` never.
    pub fn register_scalable_target(&mut self, request: RegisterScalableTarget) -> ApiResult<()> {
        let detail = self.detail(|| {
            json!({
                "ResourceId": request.resource_id, "MinCapacity": request.min_capacity,
                "MaxCapacity": request.max_capacity, "SuspendedState": request.suspended_state,
            })
        });
        self.call("application-autoscaling:RegisterScalableTarget", detail, |world| {
            let key = resource(&request.service_namespace, &request.resource_id)?;
            if !world.services.contains_key(&key) {
                return Err(validation_exception(format!("ECS service doesn't exist: {}", request.resource_id)));
            }
            let known = world.scalable.get(&key);
            let count = |given: Option<i64>, known: Option<u32>, name: &str| match (given, known) {
                (Some(given), _) => {
                    u32::try_from(given).map_err(|_| validation_exception(format!("{name} must not be negative")))
                }
                (None, Some(known)) => Ok(known),
                (None, None) => Err(validation_exception(format!("{name} is mandatory for a new scalable target"))),
            };
            let min = count(request.min_capacity, known.map(|known| known.shape.min_capacity), "MinCapacity")?;
            let max = count(request.max_capacity, known.map(|known| known.shape.max_capacity), "MaxCapacity")?;
            if min > max {
                return Err(validation_exception("Maximum capacity cannot be less than minimum capacity"));
            }
            let (now, account) = (world.now, world.settings.account.clone());
            let entry = world.scalable.entry(key.clone()).or_insert_with(|| Scalable {
                shape: ScalableTarget {
                    service_namespace: "ecs",
                    resource_id: request.resource_id.clone(),
                    scalable_dimension: "ecs:service:DesiredCount",
                    min_capacity: min,
                    max_capacity: max,
                    suspended_state: SuspendedState::default(),
                    creation_time: now,
                    role_arn: format!("arn:aws:iam::{account}:role/autoscaling"),
                },
                actions: BTreeMap::new(),
                requests_per_task: None,
            });
            entry.shape.min_capacity = min;
            entry.shape.max_capacity = max;
            if let Some(suspended) = request.suspended_state {
                entry.shape.suspended_state = suspended;
            }
            let suspended = entry.shape.suspended_state;
            world.changed(|world| {
                Some(WorldChange::Limits { service: key.clone(), min, max, suspended, by: world.caller.into() })
            });
            let desired = world.services.get(&key).map_or(0, |service| service.desired);
            world.scale(&key, desired.clamp(min, max), world.caller.into());
            Ok(())
        })
    }

    /// `DescribeScalableTargets`. Resources that do not exist are left out.
    ///
    /// # Errors
    /// `ValidationException`
    pub fn describe_scalable_targets(&mut self, request: DescribeScalableTargets) -> ApiResult<Vec<ScalableTarget>> {
        let detail = self.detail(|| json!({"ResourceIds": request.resource_ids}));
        self.call("application-autoscaling:DescribeScalableTargets", detail, |world| {
            if request.service_namespace != "ecs" {
                return Err(validation_exception("ServiceNamespace is not one that is known here"));
            }
            let wanted = |id: &String| request.resource_ids.is_empty() || request.resource_ids.contains(id);
            let shapes = world.scalable.values().map(|scalable| &scalable.shape);
            Ok(shapes.filter(|shape| wanted(&shape.resource_id)).cloned().collect())
        })
    }

    /// `PutScheduledAction`
    ///
    /// # Errors
    /// `ObjectNotFoundException` if the service is no scalable target; `ValidationException` for a schedule that cannot
    /// be parsed, or an action that sets nothing.
    pub fn put_scheduled_action(&mut self, request: PutScheduledAction) -> ApiResult<()> {
        let detail = self.detail(|| {
            json!({
                "ResourceId": request.resource_id, "ScheduledActionName": request.name, "Schedule": request.schedule,
                "MinCapacity": request.min, "MaxCapacity": request.max,
            })
        });
        self.call("application-autoscaling:PutScheduledAction", detail, |world| {
            let key = resource("ecs", &request.resource_id)?;
            let action = ScheduledAction {
                name: request.name,
                schedule: request.schedule,
                time_zone: request.timezone,
                start: request.start_time,
                end: request.end_time,
                created: world.now,
                min: request.min,
                max: request.max,
            };
            if action.min.is_none() && action.max.is_none() {
                return Err(validation_exception("Either MinCapacity or MaxCapacity must be specified"));
            }
            action.next_run(world.now).map_err(|error| validation_exception(error.to_string()))?;
            let Some(scalable) = world.scalable.get_mut(&key) else {
                return Err(ApiError::new("ObjectNotFoundException", "No scalable target registered"));
            };
            scalable.actions.insert(action.name.clone(), action.clone());
            world.schedule_next_run(&key, &action);
            Ok(())
        })
    }

    /// `DescribeScheduledActions` of one resource.
    ///
    /// # Errors
    /// `ValidationException`
    pub fn describe_scheduled_actions(&mut self, resource_id: &str) -> ApiResult<Vec<ScheduledAction>> {
        let detail = self.detail(|| json!({"ResourceId": resource_id}));
        self.call("application-autoscaling:DescribeScheduledActions", detail, |world| {
            let key = resource("ecs", resource_id)?;
            let found = world.scalable.get(&key).into_iter().flat_map(|scalable| scalable.actions.values());
            Ok(found.cloned().collect())
        })
    }

    /// Schedules the action's next run, if there is one.
    fn schedule_next_run(&mut self, key: &ServiceKey, action: &ScheduledAction) {
        if let Ok(Some(at)) = action.next_run(self.now) {
            self.at(at, AgendaItem::Scheduled { service: key.clone(), action: action.name.clone(), at });
        }
    }

    /// Runs a scheduled action, unless it was replaced or scheduled scaling is suspended: the run is then skipped, and
    /// not made up for later.
    pub(super) fn scheduled(&mut self, key: &ServiceKey, name: &str, at: Timestamp) {
        let Some(scalable) = self.scalable.get_mut(key) else { return };
        let Some(action) = scalable.actions.get(name).cloned() else { return };
        let before = at.checked_sub(SignedDuration::from_millis(1)).unwrap_or(at);
        if action.next_run(before) != Ok(Some(at)) {
            return;
        }
        let shape = &mut scalable.shape;
        let (min, max) = (action.min.unwrap_or(shape.min_capacity), action.max.unwrap_or(shape.max_capacity));
        if !shape.suspended_state.scheduled_scaling_suspended && min <= max {
            (shape.min_capacity, shape.max_capacity) = (min, max);
            let suspended = shape.suspended_state;
            self.changed(|_| {
                Some(WorldChange::Limits { service: key.clone(), min, max, suspended, by: ChangedBy::Autoscaler })
            });
            let desired = self.services.get(key).map_or(0, |service| service.desired);
            self.scale(key, desired.clamp(min, max), ChangedBy::Autoscaler);
        }
        self.schedule_next_run(key, &action);
    }

    /// Gives a scalable target a policy: one task per `requests_per_task` requests a second to its service's target
    /// group.
    ///
    /// # Errors
    /// `ObjectNotFoundException`
    pub fn put_scaling_policy(&mut self, cluster: &str, service: &str, requests_per_task: f64) -> ApiResult<()> {
        let key = (cluster.to_owned(), service.to_owned());
        let first = self.scalable.values().all(|scalable| scalable.requests_per_task.is_none());
        let Some(scalable) = self.scalable.get_mut(&key) else {
            return Err(ApiError::new("ObjectNotFoundException", "No scalable target registered"));
        };
        scalable.requests_per_task = Some(requests_per_task.max(f64::MIN_POSITIVE));
        if first {
            self.after_ms(self.settings.timing.autoscaling_ms, AgendaItem::Autoscale);
        }
        Ok(())
    }

    /// One evaluation of all policies. As on AWS, a service with a desired count of 0 has no metrics and is not scaled.
    /// Scaling in removes one task per evaluation.
    pub(super) fn autoscale(&mut self) {
        let window = i64::try_from(self.settings.timing.autoscaling_ms).unwrap_or(i64::MAX).max(1);
        let now = self.now.as_millisecond();
        let keys: Vec<ServiceKey> = self.scalable.keys().cloned().collect();
        for key in keys {
            let Some(scalable) = self.scalable.get(&key) else { continue };
            let (shape, Some(requests_per_task)) = (scalable.shape.clone(), scalable.requests_per_task) else {
                continue;
            };
            let desired = self.services.get(&key).map_or(0, |service| service.desired);
            if desired == 0 {
                continue;
            }
            let group = self.service_shape(&key).and_then(|service| service.load_balancers.first().cloned());
            let requests = group
                .and_then(|binding| self.histories.get(&binding.target_group_arn))
                .map_or(0.0, |history| history.sums(now - window, now).requests);
            let rate = requests * 1000.0 / window as f64;
            let mut wanted = shape.min_capacity.max(1);
            while f64::from(wanted) * requests_per_task < rate && wanted < shape.max_capacity {
                wanted += 1;
            }
            let wanted = wanted.clamp(shape.min_capacity, shape.max_capacity);
            let suspended = shape.suspended_state;
            if wanted > desired && !suspended.dynamic_scaling_out_suspended {
                self.scale(&key, wanted, ChangedBy::Autoscaler);
            } else if wanted < desired && !suspended.dynamic_scaling_in_suspended {
                self.scale(&key, desired - 1, ChangedBy::Autoscaler);
            }
        }
        self.after_ms(self.settings.timing.autoscaling_ms, AgendaItem::Autoscale);
    }

    fn scale(&mut self, key: &ServiceKey, desired: u32, by: ChangedBy) {
        let Some(service) = self.services.get_mut(key) else { return };
        if service.desired != desired {
            let from = std::mem::replace(&mut service.desired, desired);
            self.changed(|_| Some(WorldChange::Desired { service: key.clone(), from, to: desired, by }));
            self.wake_scheduler(key);
        }
    }
}

fn resource(namespace: &str, id: &str) -> ApiResult<ServiceKey> {
    let mut parts = id.split('/');
    match (namespace, parts.next(), parts.next(), parts.next(), parts.next()) {
        ("ecs", Some("service"), Some(cluster), Some(service), None) => Ok((cluster.to_owned(), service.to_owned())),
        _ => Err(validation_exception("Unsupported service namespace, resource type or scalable dimension")),
    }
}

fn validation_exception(message: impl Into<String>) -> ApiError {
    ApiError { code: "ValidationException", ..validation_error(message) }
}
