//! Several scenes of one application in one world, and the application's policy.

use super::{BuiltPair, PairNames, PairSetup, RollingNames, RollingSetup, start_traffic};
use crate::world::{ApiResult, Settings, World};
use rollout::entry::EntryRules;
use rollout::policy::{
    Concurrency, EnvironmentPolicy, Policy, RegistryPolicy, ServicePolicy, TagRule, TargetPolicy, Trigger,
};
use rollout::{Name, TargetId};
use std::collections::BTreeMap;

/// Several scenes of one application, built in one world.
#[derive(Debug)]
pub struct BuiltApplication {
    /// The world: every blue is steady and healthy, no events are pending, the call log is empty.
    pub world: World,
    /// Names and ARNs of each pair's resources, in the order of the scenes.
    pub pairs: Vec<(TargetId, PairNames)>,
    /// Names and ARNs of the resources of each target that changes its version in place, in the order of the scenes.
    pub services: Vec<(TargetId, RollingNames)>,
    /// The policy of all targets: pushes of tags like `v*` start deployments everywhere, without any gates. Tests that
    /// need an order of environments change it.
    pub policy: Policy,
}

impl From<BuiltPair> for BuiltApplication {
    fn from(built: BuiltPair) -> Self {
        let policy = built.application();
        Self { world: built.world, pairs: vec![(built.target, built.names)], services: Vec::new(), policy }
    }
}

/// Builds pairs of one application in one new world, and runs it until they are steady.
///
/// # Panics
/// If there is no scene, two scenes have the same target, or the world refuses one.
#[must_use]
pub fn build_application(scenes: &[PairSetup], settings: Settings) -> BuiltApplication {
    build_with_services(scenes, &[], settings)
}

/// Builds pairs, and targets that change their version in place, of one application in one new world, and runs it until
/// they are steady.
///
/// # Panics
/// As [`build_application`].
#[must_use]
pub fn build_with_services(pairs: &[PairSetup], services: &[RollingSetup], settings: Settings) -> BuiltApplication {
    let mut world = World::new(settings);
    let set = |world: &mut World| -> ApiResult<_> {
        let pairs = pairs.iter().map(|scene| Ok((scene, scene.set(world)?))).collect::<ApiResult<Vec<_>>>()?;
        let services = services.iter().map(|scene| Ok((scene, scene.set(world)?))).collect::<ApiResult<Vec<_>>>()?;
        Ok((pairs, services))
    };
    let (pairs, services) = world.as_third_party(set).expect("the world accepts scenes of its own");
    let placed_pairs = pairs.iter().map(|(scene, names)| scene.placed(names));
    let placed_services = services.iter().map(|(scene, names)| scene.placed(names));
    start_traffic(&mut world, &placed_pairs.chain(placed_services).collect::<Vec<_>>());

    let of_pairs = pairs.iter().map(|(scene, names)| (&scene.target, &names.repository, scene.policy(names)));
    let of_services = services.iter().map(|(scene, names)| (&scene.target, &names.repository, scene.policy(names)));
    let policies: Vec<_> = of_pairs.chain(of_services).collect();
    let (first, ..) = policies.first().expect("there is a scene");
    let mut policy = empty_policy(first.application.clone());
    for (target, repository, of_target) in policies {
        add_target(&mut policy, target, repository, of_target);
    }
    BuiltApplication {
        world,
        pairs: pairs.into_iter().map(|(scene, names)| (scene.target.clone(), names)).collect(),
        services: services.into_iter().map(|(scene, names)| (scene.target.clone(), names)).collect(),
        policy,
    }
}

/// An application with one target, whose deployments are started by pushes of tags like `v*`.
#[must_use]
pub fn application_policy(target: &TargetId, repository: &str, policy: TargetPolicy) -> Policy {
    let mut application = empty_policy(target.application.clone());
    add_target(&mut application, target, repository, policy);
    application
}

pub(crate) fn empty_policy(application: Name) -> Policy {
    Policy {
        application,
        services: BTreeMap::new(),
        environments: BTreeMap::new(),
        people: BTreeMap::new(),
        groups: BTreeMap::new(),
        grants: Vec::new(),
        notifications: Vec::new(),
    }
}

pub(crate) fn add_target(application: &mut Policy, target: &TargetId, repository: &str, policy: TargetPolicy) {
    application.services.entry(target.service.clone()).or_insert_with(|| ServicePolicy {
        registry: RegistryPolicy::default(),
        repository: repository.to_owned(),
        tags: TagRule::Glob("v*".to_owned()),
        paused: false,
        depends_on: Vec::new(),
    });
    let environment = application.environments.entry(target.environment.clone());
    let environment = environment.or_insert_with(|| EnvironmentPolicy {
        unreadable: BTreeMap::new(),
        trigger: Trigger::Push,
        concurrency: Concurrency::default(),
        entry: EntryRules::default(),
        targets: BTreeMap::new(),
    });
    environment.targets.insert(target.service.clone(), policy);
}
