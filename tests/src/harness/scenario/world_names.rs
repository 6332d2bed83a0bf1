//! What the resources of a scene are called in the world, whatever runs its target.

use rollout::Slot;
use serde_json::Value;
use simulation::world::scene::RollingBalancing;
use simulation::world::{ApiResult, PairNames, RollingNames, World};

/// Names and ARNs of a scene's resources.
#[derive(Debug, Clone)]
pub enum WorldNames {
    /// Two services behind weighted rules.
    Pair(Box<PairNames>),
    /// One service whose versions replace one another in place.
    InPlace(Box<RollingNames>),
}

impl WorldNames {
    /// Those of a pair; none: the target is one service.
    #[must_use]
    pub fn pair(&self) -> Option<&PairNames> {
        match self {
            Self::Pair(names) => Some(names),
            Self::InPlace(_) => None,
        }
    }

    /// Those of one service; none: the target is a pair.
    #[must_use]
    pub fn in_place(&self) -> Option<&RollingNames> {
        match self {
            Self::Pair(_) => None,
            Self::InPlace(names) => Some(names),
        }
    }

    /// Name of the ECS cluster.
    #[must_use]
    pub fn cluster(&self) -> &str {
        match self {
            Self::Pair(names) => &names.cluster,
            Self::InPlace(names) => &names.cluster,
        }
    }

    /// Name of the repository.
    #[must_use]
    pub fn repository(&self) -> &str {
        match self {
            Self::Pair(names) => &names.repository,
            Self::InPlace(names) => &names.repository,
        }
    }

    /// Host and name of the repository, without tag or digest.
    #[must_use]
    pub fn repository_uri(&self) -> &str {
        match self {
            Self::Pair(names) => &names.repository_uri,
            Self::InPlace(names) => &names.repository_uri,
        }
    }

    /// Family of the task definition that serves before the first deployment.
    #[must_use]
    pub fn family(&self) -> &str {
        let definition = match self {
            Self::Pair(names) => &names.task_definition,
            Self::InPlace(names) => &names.task_definition,
        };
        let name = definition.rsplit('/').next().unwrap_or(definition);
        name.split(':').next().unwrap_or(name)
    }

    /// Registers a revision of that family as the owners' tooling does, with this change to its document; returns its ARN.
    ///
    /// # Errors
    /// The world's refusal of a call.
    pub fn register_template(&self, world: &mut World, change: impl FnOnce(&mut Value)) -> ApiResult<String> {
        match self {
            Self::Pair(names) => names.register_template(world, self.family(), change),
            Self::InPlace(names) => names.register_template(world, self.family(), change),
        }
    }

    /// ARNs of the rules and listeners that get requests; none: it is a worker.
    #[must_use]
    pub fn traffic_rules(&self) -> Vec<&str> {
        match self {
            Self::Pair(names) => names.traffic_rules().collect(),
            Self::InPlace(_) => self.balancing().map(|balancing| balancing.listener.as_str()).collect(),
        }
    }

    /// ARNs of the target groups: of a pair blue's before green's, balancer by balancer.
    #[must_use]
    pub fn target_groups(&self) -> Vec<&str> {
        match self {
            Self::Pair(names) => {
                let internal = names.internal.iter().flat_map(|leg| [leg.blue.as_str(), leg.green.as_str()]);
                [names.blue_group.as_str(), names.green_group.as_str()].into_iter().chain(internal).collect()
            }
            Self::InPlace(_) => self.balancing().map(|balancing| balancing.group.as_str()).collect(),
        }
    }

    /// Names of the alarms on 5xx.
    #[must_use]
    pub fn alarms(&self) -> Vec<String> {
        match self {
            Self::Pair(names) => vec![names.blue_alarm.clone(), names.green_alarm.clone()],
            Self::InPlace(_) => self.balancing().map(|balancing| balancing.alarm.clone()).collect(),
        }
    }

    /// The side of a pair whose tasks register in this target group; none: neither.
    #[must_use]
    pub fn side_of_group(&self, group: &str) -> Option<Slot> {
        let groups = self.pair().map(|_| self.target_groups()).unwrap_or_default();
        let index = groups.iter().position(|known| *known == group)?;
        Some(if index % 2 == 0 { Slot::Blue } else { Slot::Green })
    }

    /// The load balancer of one service, if it is behind one.
    fn balancing(&self) -> impl Iterator<Item = &RollingBalancing> {
        self.in_place().into_iter().flat_map(|names| &names.balancing)
    }
}
