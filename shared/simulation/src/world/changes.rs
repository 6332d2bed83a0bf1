//! Changes of a world, recorded only while a watcher is attached.

use super::balancer::{ActionKind, ForwardActionConfig, HealthState, ListenerAction, WeightedGroup};
use super::scaling::SuspendedState;
use super::{Caller, ServiceKey, World};

/// Origin of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangedBy {
    /// A call by Switchback.
    Switchback,
    /// A call by anyone else: a person at the console, another tool.
    ThirdParty,
    /// The autoscaler.
    Autoscaler,
}

impl From<Caller> for ChangedBy {
    fn from(caller: Caller) -> Self {
        match caller {
            Caller::Switchback => Self::Switchback,
            Caller::ThirdParty => Self::ThirdParty,
        }
    }
}

/// A change of the world.
#[derive(Debug, Clone, PartialEq)]
pub enum WorldChange {
    /// The actions of a rule, or of a listener's default rule, were written.
    RuleWritten {
        /// ARN of the rule or listener.
        rule: String,
        /// The target groups it now forwards to.
        groups: Vec<WeightedGroup>,
        /// More than the weights changed: groups, stickiness, or other actions.
        more_than_weights: bool,
        /// Origin of the call.
        by: ChangedBy,
    },
    /// A load balancer node has started to follow a rule's current actions.
    NodeConverged {
        /// ARN of the rule or listener.
        rule: String,
        /// Index of the node.
        node: usize,
        /// The target groups that the node now forwards to.
        groups: Vec<WeightedGroup>,
    },
    /// Targets of a group were registered or deregistered, or changed their health.
    Targets {
        /// ARN of the group.
        group: String,
        /// Number of healthy targets.
        healthy: u32,
        /// Number of registered targets that are not draining.
        registered: u32,
    },
    /// The desired count of a service has changed.
    Desired {
        /// Cluster and service name.
        service: ServiceKey,
        /// Desired count before.
        from: u32,
        /// Desired count now.
        to: u32,
        /// Origin of the change.
        by: ChangedBy,
    },
    /// The limits of a scalable target have changed.
    Limits {
        /// Cluster and service name.
        service: ServiceKey,
        /// Lowest desired count.
        min: u32,
        /// Highest desired count.
        max: u32,
        /// Suspended scaling activities.
        suspended: SuspendedState,
        /// Origin of the change.
        by: ChangedBy,
    },
    /// A task of a service exited by itself, or was killed.
    TaskDied {
        /// Cluster and service name.
        service: ServiceKey,
    },
}

impl World {
    /// From now on changes are recorded for [`World::take_changes`].
    pub fn record_changes(&mut self) {
        self.changes.get_or_insert_default();
    }

    /// Whether changes are recorded that have not been taken yet.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.changes.as_ref().is_some_and(|changes| !changes.is_empty())
    }

    /// Appends the changes since the last call to `into`, oldest first.
    pub fn take_changes(&mut self, into: &mut Vec<WorldChange>) {
        if let Some(changes) = &mut self.changes {
            into.append(changes);
        }
    }

    /// Records a change. `change` is called only while changes are recorded.
    pub(super) fn changed(&mut self, change: impl FnOnce(&Self) -> Option<WorldChange>) {
        if self.changes.is_some()
            && let Some(change) = change(self)
            && let Some(changes) = &mut self.changes
        {
            changes.push(change);
        }
    }

    pub(super) fn rule_changed(&mut self, rule: &str, before: &[ListenerAction], after: &[ListenerAction]) {
        self.changed(|world| {
            Some(WorldChange::RuleWritten {
                rule: rule.to_owned(),
                groups: world.forwarded(rule),
                more_than_weights: !same_but_for_weights(before, after),
                by: world.caller.into(),
            })
        });
    }

    pub(super) fn targets_changed(&mut self, group: &str) {
        self.changed(|world| {
            let (healthy, registered) = world.targets_of(group);
            Some(WorldChange::Targets { group: group.to_owned(), healthy, registered })
        });
    }
}

/// Whether two lists of actions differ only in the weights of their target groups.
fn same_but_for_weights(before: &[ListenerAction], after: &[ListenerAction]) -> bool {
    let same_forward = |a: &ForwardActionConfig, b: &ForwardActionConfig| {
        let same_group = |(a, b): (&WeightedGroup, &WeightedGroup)| a.arn == b.arn;
        a.stickiness == b.stickiness
            && a.target_groups.len() == b.target_groups.len()
            && a.target_groups.iter().zip(&b.target_groups).all(same_group)
    };
    let same = |(a, b): (&ListenerAction, &ListenerAction)| {
        a.order == b.order
            && match (&a.what, &b.what) {
                (ActionKind::Forward(a), ActionKind::Forward(b)) => same_forward(a, b),
                (a, b) => a == b,
            }
    };
    before.len() == after.len() && before.iter().zip(after).all(same)
}

/// The current state, as the baseline of a watcher.
impl World {
    /// The target groups that each balancer node currently forwards to for a rule (or listener's default action).
    #[must_use]
    pub fn nodes_of(&self, rule: &str) -> &[Vec<WeightedGroup>] {
        self.node_forwards.get(rule).map(Vec::as_slice).unwrap_or_default()
    }

    /// The target groups of a rule (or listener's default action), which its nodes converge on.
    #[must_use]
    pub fn forwards_of(&self, rule: &str) -> Vec<WeightedGroup> {
        self.forwarded(rule)
    }

    /// Number of a group's healthy targets, and of its targets that are not draining.
    #[must_use]
    pub fn targets_of(&self, group: &str) -> (u32, u32) {
        let targets = || self.groups.get(group).into_iter().flat_map(|group| group.targets.values());
        let count = |wanted: fn(HealthState) -> bool| {
            u32::try_from(targets().filter(|target| wanted(target.state)).count()).unwrap_or(u32::MAX)
        };
        (count(|state| state == HealthState::Healthy), count(|state| state != HealthState::Draining))
    }

    /// Whether a service is registered as a scalable target.
    #[must_use]
    pub fn has_scaling_limits(&self, cluster: &str, service: &str) -> bool {
        self.scalable.contains_key(&(cluster.to_owned(), service.to_owned()))
    }

    /// Whether scheduled actions change a service's limits.
    #[must_use]
    pub fn has_scheduled_actions(&self, service: &ServiceKey) -> bool {
        self.scalable.get(service).is_some_and(super::scaling::Scalable::is_scheduled)
    }

    /// Desired count of a service.
    #[must_use]
    pub fn desired_of(&self, service: &ServiceKey) -> u32 {
        self.services.get(service).map_or(0, |service| service.desired)
    }

    /// The image that a service's primary deployment runs in `container`.
    #[must_use]
    pub fn image_run_by(&self, service: &ServiceKey, container: &str) -> Option<String> {
        let definition = self.services.get(service)?.task_definition();
        self.image_in(definition, container)
    }

    /// The image of `container` in a task definition.
    #[must_use]
    pub fn image_in(&self, definition: &str, container: &str) -> Option<String> {
        let found = self.families.values().flatten().find(|found| found.arn == definition)?;
        found.image(container).map(str::to_owned)
    }

    /// Requests without a target since the world began, up to the last change.
    #[must_use]
    pub fn total_lost_requests(&self) -> f64 {
        self.totals.lost
    }

    /// Same, for one target group.
    #[must_use]
    pub fn lost_requests_of_group(&self, group: &str) -> f64 {
        self.totals.groups.get(group).map_or(0.0, |sums| sums.lost)
    }
}
