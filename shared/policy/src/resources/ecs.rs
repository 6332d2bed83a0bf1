//! Targets on ECS: a pair of services, or one whose versions replace one another in place. Both are the key `ecs`.

use super::{PlatformKey, ResourceReader};
use crate::arn;
use crate::file;
use crate::problem::ProblemCollector;
use crate::values::{self, Fields, LocatedNode};
use rollout::resources::cluster_name;
use rollout::{EcsPair, EcsRolling, Platform, Way};
use serde_json::{Value, json};

pub(super) struct Ecs;

impl PlatformKey for Ecs {
    fn key(&self) -> &'static str {
        "ecs"
    }

    fn way(&self, node: LocatedNode<'_>) -> Option<Way> {
        let has = |key: &str| values::find_entry(node.inner, key).is_some();
        if has("blue") || has("green") {
            return Some(Way::Weighted);
        }
        has("service").then_some(Way::InPlace)
    }

    fn read<'n>(
        &self,
        reader: &mut ResourceReader<'_, 'n>,
        node: LocatedNode<'n>,
        path: &str,
        problems: &mut ProblemCollector,
    ) -> Option<Platform> {
        read(reader, node, path, problems)
    }

    fn with_target_groups(&self, platform: Platform, target_groups: Vec<String>) -> Platform {
        match platform {
            Platform::EcsRolling(rolling) => Platform::EcsRolling(EcsRolling { target_groups, ..rolling }),
            pair @ Platform::EcsPair(_) => pair,
        }
    }

    fn render(&self, platform: &Platform) -> Option<Value> {
        match platform {
            Platform::EcsPair(pair) => Some(json!(pair)),
            Platform::EcsRolling(EcsRolling { cluster, container, service, target_groups: _ }) => {
                Some(json!({"cluster": cluster, "container": container, "service": service}))
            }
        }
    }
}

/// Reads the value of `ecs`; the target groups of one service are named elsewhere, and are empty here.
fn read<'n>(
    reader: &mut ResourceReader<'_, 'n>,
    node: LocatedNode<'n>,
    path: &str,
    problems: &mut ProblemCollector,
) -> Option<Platform> {
    let fields = Fields::new(node, path, file::Ecs::KEYS, problems)?;
    check_service_keys(&fields, node, problems);
    let cluster = fields.read("cluster", problems, |node, path, problems| {
        let parse = |written| arn::cluster(written).map(|arn| (written, arn));
        let (written, arn) = values::parsed_text(node, path, "the name of an ECS cluster", parse, problems)?;
        if let Some(arn) = arn {
            reader.locations.check(arn.location(), "the cluster", node.mark, path, problems);
        }
        Some(written.to_owned())
    });
    let container = fields.read("container", problems, |node, path, problems| {
        values::checked_text(node, path, "the name of a container", arn::container, problems)
    });
    let [blue, green, service] = ["blue", "green", "service"].map(|key| {
        fields.read(key, problems, |node, path, problems| {
            let name = values::checked_text(node, path, "the name of an ECS service", arn::ecs_service, problems)?;
            Some((name, node.mark, path.to_owned()))
        })
    });
    if let (Some((blue, ..)), Some((green, mark, path))) = (&blue, &green)
        && blue == green
    {
        problems.add(*mark, path, "blue and green are the same service: each side has its own");
    }
    let cluster = cluster?;
    for (name, mark, path) in [&blue, &green, &service].into_iter().flatten() {
        reader.own(format!("the ECS service `{name}` of cluster `{}`", cluster_name(&cluster)), *mark, path);
    }
    let container = container?;
    match (blue, green, service) {
        (Some((blue, ..)), Some((green, ..)), None) => {
            Some(Platform::EcsPair(EcsPair { cluster, container, blue, green }))
        }
        (None, None, Some((service, ..))) => {
            Some(Platform::EcsRolling(EcsRolling { cluster, container, service, target_groups: Vec::new() }))
        }
        _ => None,
    }
}

/// Reports an `ecs` that names neither a pair nor one service, half of a pair, or parts of both.
fn check_service_keys(ecs: &Fields<'_>, node: LocatedNode<'_>, problems: &mut ProblemCollector) {
    const ADVICE: &str = "write `blue` and `green`, a pair, or `service` alone, whose tasks are replaced in place";
    let [blue, green, service] = ["blue", "green", "service"].map(|key| values::find_entry(node.inner, key));
    match (blue, green, service) {
        (Some(_), Some(_), None) | (None, None, Some(_)) => {}
        (None, None, None) => problems.add(ecs.mark, &ecs.path, format!("no service is named: {ADVICE}")),
        (Some(_), None, None) => problems.add(ecs.mark, &ecs.path, format!("`green` is missing: {ADVICE}")),
        (None, Some(_), None) => problems.add(ecs.mark, &ecs.path, format!("`blue` is missing: {ADVICE}")),
        (_, _, Some((key, _))) => {
            let message = format!("`service` stands beside the sides of a pair: {ADVICE}");
            problems.add(key.mark, &values::join(&ecs.path, "service"), message);
        }
    }
}
