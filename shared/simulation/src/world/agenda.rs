//! The agenda: everything that will happen by itself, in order of time.

use super::balancer::{ElbTarget, HealthState};
use super::ecs::{HealthStatus, LastStatus};
use super::{ServiceKey, World};
use jiff::{SignedDuration, Timestamp};

/// A scheduled occurrence; it is ignored if it no longer applies when it falls due.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum AgendaItem {
    /// A service's scheduler runs.
    Schedule(ServiceKey),
    /// A task changes its status.
    TaskStep {
        /// Task id.
        id: String,
        /// The status it enters.
        to: LastStatus,
    },
    /// A running task exits by itself.
    TaskExits {
        /// Task id.
        id: String,
        /// Exit code of its essential container.
        exit_code: i32,
    },
    /// The health checks of a task's container come to a result.
    ContainerHealth {
        /// Task id.
        id: String,
        /// The resulting status.
        status: HealthStatus,
    },
    /// A task without health checks has run long enough to count as healthy.
    TaskSettled(String),
    /// The balancer's health checks reach a verdict on a target.
    Health {
        /// ARN of the target group.
        group: String,
        /// Address and port.
        target: ElbTarget,
        /// The resulting state.
        state: HealthState,
        /// Applies only to the registration made at this time, not to an older one of the same address.
        registered_at: Timestamp,
    },
    /// A target has finished draining.
    Drained {
        /// ARN of the target group.
        group: String,
        /// Address and port.
        target: ElbTarget,
        /// Applies only to the drain that started at this time.
        since: Timestamp,
    },
    /// A load balancer node starts to follow the current actions of a rule or listener.
    NodeConverges {
        /// ARN of the rule or listener.
        rule: String,
        /// Index of the node.
        node: usize,
    },
    /// An alarm is evaluated.
    Evaluate {
        /// Name of the alarm.
        alarm: String,
        /// Applies only to the definition from this `PutMetricAlarm` call, counted per alarm: a changed alarm is evaluated anew.
        put: u32,
    },
    /// The autoscaler evaluates all policies.
    Autoscale,
    /// A scheduled scaling action is due.
    Scheduled {
        /// The service that it scales.
        service: ServiceKey,
        /// Name of the action.
        action: String,
        /// Applies only if the action's next run is still at this time.
        at: Timestamp,
    },
    /// A stopped task can no longer be described.
    Forget(String),
    /// A behaviour changes with time: traffic up to here is counted with the old behaviour.
    Settle,
}

impl World {
    /// Advances the time to `now`, executing everything that falls due. An earlier time changes nothing.
    pub fn advance_to(&mut self, now: Timestamp) {
        while self.next_event_at().is_some_and(|at| at <= now) {
            self.step();
        }
        self.now = self.now.max(now);
    }

    /// Advances the time to `now`, or to the first event or recorded change before that; returns the time reached.
    pub fn advance_until_event(&mut self, now: Timestamp) -> Timestamp {
        while self.events.is_empty() && !self.has_changes() {
            match self.next_event_at() {
                Some(at) if at <= now => self.step(),
                _ => {
                    self.now = self.now.max(now);
                    break;
                }
            }
        }
        self.now
    }

    /// When something next happens by itself.
    #[must_use]
    pub fn next_event_at(&self) -> Option<Timestamp> {
        self.agenda.keys().next().map(|(at, _)| *at)
    }

    fn step(&mut self) {
        let Some(((at, _), item)) = self.agenda.pop_first() else { return };
        self.now = self.now.max(at);
        match item {
            // These change nothing that requests depend on.
            AgendaItem::Evaluate { .. } | AgendaItem::Forget(_) => self.count_traffic(),
            _ => self.settle_traffic(),
        }
        match item {
            AgendaItem::Schedule(key) => self.schedule(&key),
            AgendaItem::TaskStep { id, to } => self.task_steps(&id, to),
            AgendaItem::TaskExits { id, exit_code } => self.task_exits(&id, exit_code),
            AgendaItem::ContainerHealth { id, status } => self.container_health_found(&id, status),
            AgendaItem::TaskSettled(id) => self.task_has_settled(&id),
            AgendaItem::Health { group, target, state, registered_at } => {
                self.apply_health_check(&group, &target, state, registered_at);
            }
            AgendaItem::Drained { group, target, since } => self.drained(&group, &target, since),
            AgendaItem::NodeConverges { rule, node } => self.node_converges(&rule, node),
            AgendaItem::Evaluate { alarm, put } => self.evaluate(&alarm, put),
            AgendaItem::Autoscale => self.autoscale(),
            AgendaItem::Scheduled { service, action, at } => self.scheduled(&service, &action, at),
            AgendaItem::Forget(id) => {
                self.tasks.remove(&id);
            }
            AgendaItem::Settle => {}
        }
    }

    pub(super) fn at(&mut self, at: Timestamp, item: AgendaItem) {
        self.entries += 1;
        self.agenda.insert((at.max(self.now), self.entries), item);
    }

    pub(super) fn after_ms(&mut self, milliseconds: u64, item: AgendaItem) {
        let at = later(self.now, milliseconds);
        self.at(at, item);
    }

    /// Schedules an item after a random time within the range.
    pub(super) fn after_random_ms(&mut self, (low, high): (u64, u64), item: AgendaItem) {
        let milliseconds = self.rng.between(low, high);
        self.after_ms(milliseconds, item);
    }
}

pub(super) fn later(at: Timestamp, milliseconds: u64) -> Timestamp {
    let span = SignedDuration::from_millis(i64::try_from(milliseconds).unwrap_or(i64::MAX));
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}
