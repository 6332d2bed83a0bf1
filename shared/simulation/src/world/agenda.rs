//! What will happen inside by itself, in order.

use super::balancer::{HealthState, TargetId};
use super::ecs::LastStatus;
use super::{ServiceKey, World};
use jiff::{SignedDuration, Timestamp};

/// Something that happens at its time, if it still can.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Due {
    /// A service's scheduler acts.
    Schedule(ServiceKey),
    /// A task gets on.
    TaskStep {
        /// Its id.
        id: String,
        /// Where to.
        to: LastStatus,
    },
    /// A task that runs exits by itself.
    TaskExits {
        /// Its id.
        id: String,
        /// With this code.
        exit_code: i32,
    },
    /// The balancer has made up its mind about a target.
    Health {
        /// ARN of the group.
        group: String,
        /// Which target.
        target: TargetId,
        /// Its state.
        state: HealthState,
        /// Only if it was registered then: not an older registration of the same address.
        registered_at: Timestamp,
    },
    /// A target has drained.
    Drained {
        /// ARN of the group.
        group: String,
        /// Which target.
        target: TargetId,
        /// Only if this is the drain that began then.
        since: Timestamp,
    },
    /// A node of the balancer follows the rule or listener of this ARN as it is now.
    NodeLearns {
        /// ARN of the rule or listener.
        rule: String,
        /// Which node.
        node: usize,
    },
    /// An alarm is evaluated.
    Evaluate {
        /// Its name.
        alarm: String,
        /// Only the alarm that was put this many-th: a changed alarm has a new clock.
        put: u32,
    },
    /// The autoscaler looks.
    Autoscale,
    /// A scheduled action of autoscaling is due.
    Scheduled {
        /// Whose.
        service: ServiceKey,
        /// Its name.
        action: String,
        /// Only if its schedule still says so.
        at: Timestamp,
    },
    /// A stopped task can no longer be described.
    Forget(String),
    /// A behaviour changes with time: traffic up to here is counted as it was.
    Settle,
}

impl World {
    /// Lets time pass until `now`, with everything that falls due. An earlier time changes nothing.
    pub fn advance_to(&mut self, now: Timestamp) {
        while self.next_event_at().is_some_and(|at| at <= now) {
            self.step();
        }
        self.now = self.now.max(now);
    }

    /// Lets time pass until `now`, or until something happens that the outside is told or somebody watches; answers the
    /// time then.
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

    /// When something happens next by itself.
    #[must_use]
    pub fn next_event_at(&self) -> Option<Timestamp> {
        self.agenda.keys().next().map(|(at, _)| *at)
    }

    fn step(&mut self) {
        let Some(((at, _), due)) = self.agenda.pop_first() else { return };
        self.now = self.now.max(at);
        match due {
            // They look, and change nothing that requests depend on.
            Due::Evaluate { .. } | Due::Forget(_) => self.count_traffic(),
            _ => self.settle_traffic(),
        }
        match due {
            Due::Schedule(key) => self.schedule(&key),
            Due::TaskStep { id, to } => self.task_steps(&id, to),
            Due::TaskExits { id, exit_code } => self.task_exits(&id, exit_code),
            Due::Health { group, target, state, registered_at } => {
                self.health_found(&group, &target, state, registered_at);
            }
            Due::Drained { group, target, since } => self.drained(&group, &target, since),
            Due::NodeLearns { rule, node } => self.node_learns(&rule, node),
            Due::Evaluate { alarm, put } => self.evaluate(&alarm, put),
            Due::Autoscale => self.autoscale(),
            Due::Scheduled { service, action, at } => self.scheduled(&service, &action, at),
            Due::Forget(id) => {
                self.tasks.remove(&id);
            }
            Due::Settle => {}
        }
    }

    pub(super) fn at(&mut self, at: Timestamp, due: Due) {
        self.entries += 1;
        self.agenda.insert((at.max(self.now), self.entries), due);
    }

    pub(super) fn after_ms(&mut self, milliseconds: u64, due: Due) {
        let at = later(self.now, milliseconds);
        self.at(at, due);
    }

    /// After a time within the range, as the dice fall.
    pub(super) fn within(&mut self, (low, high): (u64, u64), due: Due) {
        let milliseconds = self.dice.between(low, high);
        self.after_ms(milliseconds, due);
    }
}

pub(super) fn later(at: Timestamp, milliseconds: u64) -> Timestamp {
    let span = SignedDuration::from_millis(i64::try_from(milliseconds).unwrap_or(i64::MAX));
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}
