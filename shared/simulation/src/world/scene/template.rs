//! Templates as the owners' own tooling registers them, and policies that name their family.

use super::{CONTAINER, PairNames, PairSetup, RollingNames, RollingSetup, stem_of};
use crate::world::{ApiResult, World};
use rollout::TargetId;
use rollout::template::TemplateSource;
use serde_json::Value;

/// What a scene's policy says of templates.
pub(super) fn source(target: &TargetId, names_template: bool) -> TemplateSource {
    match names_template {
        true => TemplateSource::Family(stem_of(target)),
        false => TemplateSource::Live,
    }
}

impl PairSetup {
    /// With a policy that names the family of the first task definition, which is its first template.
    #[must_use]
    pub fn with_template(self) -> Self {
        Self { names_template: true, ..self }
    }
}

impl RollingSetup {
    /// With a policy that names the family of the first task definition, which is its first template.
    #[must_use]
    pub fn with_template(self) -> Self {
        Self { names_template: true, ..self }
    }
}

impl PairNames {
    /// Registers a revision of `family` as the owners' tooling does, and returns its ARN: a copy of the family's newest
    /// one (of the scene's first task definition, if the family is new) with this change to its document. The container
    /// of the release has the tag `placeholder` as its image, unless `change` sets another one.
    ///
    /// # Errors
    /// The world's refusal of a call.
    pub fn register_template(
        &self,
        world: &mut World,
        family: &str,
        change: impl FnOnce(&mut Value),
    ) -> ApiResult<String> {
        register(world, family, &self.task_definition, &self.repository_uri, change)
    }
}

impl RollingNames {
    /// As [`PairNames::register_template`].
    ///
    /// # Errors
    /// The world's refusal of a call.
    pub fn register_template(
        &self,
        world: &mut World,
        family: &str,
        change: impl FnOnce(&mut Value),
    ) -> ApiResult<String> {
        register(world, family, &self.task_definition, &self.repository_uri, change)
    }
}

/// `first`: ARN of the scene's first task definition.
fn register(
    world: &mut World,
    family: &str,
    first: &str,
    repository_uri: &str,
    change: impl FnOnce(&mut Value),
) -> ApiResult<String> {
    world.as_third_party(|world| {
        let newest = world.describe_task_definition(family).or_else(|_| world.describe_task_definition(first))?;
        let mut document = newest.document;
        document["family"] = family.into();
        document["tags"] = newest.tags;
        let containers = document.get_mut("containerDefinitions").and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter(|container| container["name"] == CONTAINER) {
            container["image"] = format!("{repository_uri}:placeholder").into();
        }
        change(&mut document);
        Ok(world.register_task_definition(document)?.arn)
    })
}
