//! What has changed, for whoever watches a world: kept only while somebody does.

use super::balancer::{Action, ActionKind, Forward, HealthState, WeightedGroup};
use super::scaling::SuspendedState;
use super::{Caller, ServiceKey, World};

/// Whose doing a change was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hand {
    /// The product's.
    Product,
    /// Somebody else's: a person at the console, another tool.
    Somebody,
    /// The autoscaler's.
    Autoscaler,
}

impl From<Caller> for Hand {
    fn from(caller: Caller) -> Self {
        match caller {
            Caller::Product => Self::Product,
            Caller::Somebody => Self::Somebody,
        }
    }
}

/// Something is not any more as it was.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A rule, or a listener's default action, was written.
    Forwards {
        /// ARN.
        rule: String,
        /// What it forwards to now.
        groups: Vec<WeightedGroup>,
        /// Something else than its weights changed: groups, stickiness, another action.
        beside_weights: bool,
        /// Whose doing.
        by: Hand,
    },
    /// A node of the balancer has learned of a rule as it is now.
    Follows {
        /// ARN of the rule or listener.
        rule: String,
        /// Which node.
        node: usize,
        /// What it forwards to now.
        groups: Vec<WeightedGroup>,
    },
    /// The targets of a group: one came, went, or was found well or not.
    Targets {
        /// ARN of the group.
        group: String,
        /// Healthy ones.
        healthy: u32,
        /// All that are there to stay.
        registered: u32,
    },
    /// A service shall have another number of tasks.
    Desired {
        /// Which.
        service: ServiceKey,
        /// Before.
        from: u32,
        /// Now.
        to: u32,
        /// Whose doing.
        by: Hand,
    },
    /// A scalable target has other limits.
    Limits {
        /// Whose.
        service: ServiceKey,
        /// Lowest desired count.
        min: u32,
        /// Highest desired count.
        max: u32,
        /// What is suspended.
        suspended: SuspendedState,
        /// Whose doing.
        by: Hand,
    },
    /// A task of a service stopped by itself, or was killed.
    Died {
        /// Whose.
        service: ServiceKey,
    },
}

impl World {
    /// From now on changes are kept for [`World::take_changes`].
    pub fn keep_changes(&mut self) {
        self.changes.get_or_insert_default();
    }

    /// Whether changes were kept that nobody has taken yet.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.changes.as_ref().is_some_and(|changes| !changes.is_empty())
    }

    /// Moves the changes since the last taking to the end of `into`, oldest first.
    pub fn take_changes(&mut self, into: &mut Vec<Change>) {
        if let Some(changes) = &mut self.changes {
            into.append(changes);
        }
    }

    /// Writes a change down, if somebody watches: it is made only then.
    pub(super) fn changed(&mut self, change: impl FnOnce(&Self) -> Option<Change>) {
        if self.changes.is_some()
            && let Some(change) = change(self)
            && let Some(changes) = &mut self.changes
        {
            changes.push(change);
        }
    }

    pub(super) fn rule_changed(&mut self, rule: &str, before: &[Action], after: &[Action]) {
        self.changed(|world| {
            Some(Change::Forwards {
                rule: rule.to_owned(),
                groups: world.forwarded(rule),
                beside_weights: !same_but_for_weights(before, after),
                by: world.caller.into(),
            })
        });
    }

    pub(super) fn targets_changed(&mut self, group: &str) {
        self.changed(|world| {
            let (healthy, registered) = world.targets_of(group);
            Some(Change::Targets { group: group.to_owned(), healthy, registered })
        });
    }
}

/// Whether two lists of actions differ in nothing but the weights of their target groups.
fn same_but_for_weights(before: &[Action], after: &[Action]) -> bool {
    let same_forward = |a: &Forward, b: &Forward| {
        let same_group = |(a, b): (&WeightedGroup, &WeightedGroup)| a.arn == b.arn;
        a.stickiness == b.stickiness
            && a.target_groups.len() == b.target_groups.len()
            && a.target_groups.iter().zip(&b.target_groups).all(same_group)
    };
    let same = |(a, b): (&Action, &Action)| {
        a.order == b.order
            && match (&a.what, &b.what) {
                (ActionKind::Forward(a), ActionKind::Forward(b)) => same_forward(a, b),
                (a, b) => a == b,
            }
    };
    before.len() == after.len() && before.iter().zip(after).all(same)
}

/// What is so before anything changes: for whoever begins to watch.
impl World {
    /// What each node of the balancer forwards to by a rule (or listener's default action).
    #[must_use]
    pub fn nodes_of(&self, rule: &str) -> &[Vec<WeightedGroup>] {
        self.followed.get(rule).map(Vec::as_slice).unwrap_or_default()
    }

    /// What a rule (or listener's default action) says: where its nodes will forward to.
    #[must_use]
    pub fn forwards_of(&self, rule: &str) -> Vec<WeightedGroup> {
        self.forwarded(rule)
    }

    /// Healthy targets of a group, and all that are there to stay.
    #[must_use]
    pub fn targets_of(&self, group: &str) -> (u32, u32) {
        let targets = || self.groups.get(group).into_iter().flat_map(|group| group.targets.values());
        let count = |wanted: fn(HealthState) -> bool| {
            u32::try_from(targets().filter(|target| wanted(target.state)).count()).unwrap_or(u32::MAX)
        };
        (count(|state| state == HealthState::Healthy), count(|state| state != HealthState::Draining))
    }

    /// Whether a service is a scalable target.
    #[must_use]
    pub fn limits_are_set(&self, cluster: &str, service: &str) -> bool {
        self.scalable.contains_key(&(cluster.to_owned(), service.to_owned()))
    }

    /// Whether a service's limits are changed by scheduled actions.
    #[must_use]
    pub fn has_scheduled_actions(&self, service: &ServiceKey) -> bool {
        self.scalable.get(service).is_some_and(super::scaling::Scalable::is_scheduled)
    }

    /// Tasks that a service shall have.
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

    /// Requests that found no target since the world began, up to the last change.
    #[must_use]
    pub fn lost_so_far(&self) -> f64 {
        self.totals.lost
    }

    /// The same of one target group.
    #[must_use]
    pub fn lost_by(&self, group: &str) -> f64 {
        self.totals.groups.get(group).map_or(0.0, |sums| sums.lost)
    }
}
