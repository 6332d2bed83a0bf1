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
            let targets = || world.groups.get(group).into_iter().flat_map(|group| group.targets.values());
            let count = |wanted: fn(HealthState) -> bool| {
                u32::try_from(targets().filter(|target| wanted(target.state)).count()).unwrap_or(u32::MAX)
            };
            Some(Change::Targets {
                group: group.to_owned(),
                healthy: count(|state| state == HealthState::Healthy),
                registered: count(|state| state != HealthState::Draining),
            })
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
