//! Task definitions: versions copied from one, and the newest template of a family.

use super::effects::outcome;
use crate::world::ecs::TaskDefinition;
use crate::world::{ApiError, World};
use rollout::answers::template::{no_revision_reason, reading, version_of};
use rollout::template::TemplateReading;
use rollout::{Outcome, TargetResources};
use serde_json::Value;

/// Finds or registers the revision that equals `template` except for the image of `container` and, where `family` is
/// given, its family.
pub(super) fn register(
    world: &mut World,
    template: &str,
    container: &str,
    image: &str,
    family: Option<&str>,
) -> Outcome {
    let template = match world.describe_task_definition(template) {
        Ok(template) => registration(template),
        Err(error) => return outcome(&error),
    };
    let wanted = match version_of(template, container, image, family) {
        Ok(wanted) => wanted,
        Err(reason) => return Outcome::Refused { reason },
    };
    match world.list_task_definitions(wanted["family"].as_str(), true) {
        Ok(arns) => {
            for arn in arns {
                let same = |found| registration(found) == wanted;
                if world.describe_task_definition(&arn).is_ok_and(same) {
                    return Outcome::Registered { version: arn, reused: true };
                }
            }
        }
        Err(error) => return outcome(&error),
    }
    match world.register_task_definition(wanted) {
        Ok(definition) => Outcome::Registered { version: definition.arn, reused: false },
        Err(error) => outcome(&error),
    }
}

/// The newest active revision of a family of templates, and how it differs from the version `live`, if one is given.
///
/// # Errors
/// A reason: the family has no active revision, its newest one lacks the target's container, or the world's refusal of
/// a call.
pub(crate) fn newest_template(
    world: &mut World,
    resources: &TargetResources,
    family: &str,
    live: Option<&str>,
) -> Result<TemplateReading, String> {
    let text = |error: ApiError| error.to_string();
    let service = resources.platform.ecs_services().next().ok_or("the target has no task definitions")?;
    let newest = world.list_task_definitions(Some(family), true).map_err(text)?.into_iter().next();
    let newest = newest.ok_or_else(|| no_revision_reason(family))?;
    let template = registration(world.describe_task_definition(&newest).map_err(text)?);
    let live = live.map(|version| world.describe_task_definition(version)).transpose().map_err(text)?.map(registration);
    reading(newest, &template, live.as_ref(), service.container)
}

/// The parameters of a registration that creates an identical revision, tags included.
fn registration(definition: TaskDefinition) -> Value {
    let TaskDefinition { mut document, tags, .. } = definition;
    if let (Value::Object(fields), Value::Array(tags)) = (&mut document, tags)
        && !tags.is_empty()
    {
        fields.insert("tags".to_owned(), tags.into());
    }
    document
}
