//! Templates: where everything of a version but its image comes from.
//!
//! With [`TemplateSource::Live`] a version is the live one with another image. With [`TemplateSource::Family`] it is the
//! newest template that the owners' own tooling has registered, with the image replaced: a change of CPU, variables or
//! secrets goes out through the same gates, steps and rollback as an image.

use crate::text::clip_with_ellipsis;
use serde::{Deserialize, Serialize};

/// What the name of a family of templates is followed by in that of the versions made of them.
pub const VERSIONS_SUFFIX: &str = "-switchback";

/// Most changes of a template that are kept and shown; the rest is counted.
pub const MAX_CHANGES: usize = 30;
/// Most characters of a value that are kept and shown.
pub const MAX_VALUE_CHARS: usize = 120;

/// Where everything of a new version but its image comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateSource {
    /// The live version.
    #[default]
    Live,
    /// The newest active revision of this family. Versions are registered in a family of their own
    /// ([`Self::family_of_versions`]), so that none of them is taken for a template.
    Family(String),
}

impl TemplateSource {
    /// The family that versions made of a template are registered in; none: that of the live version.
    #[must_use]
    pub fn family_of_versions(&self) -> Option<String> {
        self.family().map(|family| format!("{family}{VERSIONS_SUFFIX}"))
    }

    /// The family, where the policy names one.
    #[must_use]
    pub fn family(&self) -> Option<&str> {
        match self {
            Self::Live => None,
            Self::Family(family) => Some(family),
        }
    }
}

/// What deploys a newer template whose image is the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigurationTrigger {
    /// Only a request: `deploy TARGET --configuration`.
    #[default]
    Manual,
    /// The sweep that finds it, too.
    Automatic,
}

/// A template, as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateReading {
    /// The template: of ECS, the ARN of a task definition.
    pub version: String,
    /// How a version made of it differs from the live one, besides the image: at most [`MAX_CHANGES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<TemplateChange>,
    /// Number of further differences.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u32,
}

/// One field in which a template differs from the live version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TemplateChange {
    /// The field: `cpu`, `container app: environment LOG_LEVEL`.
    pub field: String,
    /// Its value in the live version; none: it has none. Secrets are references, never values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Its value in the template; none: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl TemplateReading {
    /// The template with these differences, cut to what is kept.
    #[must_use]
    pub fn new(version: String, mut changes: Vec<TemplateChange>) -> Self {
        let more = u32::try_from(changes.len().saturating_sub(MAX_CHANGES)).unwrap_or(u32::MAX);
        changes.truncate(MAX_CHANGES);
        let clip = |value: Option<String>| value.map(|value| clip_with_ellipsis(&value, MAX_VALUE_CHARS));
        let clipped = changes.into_iter().map(|TemplateChange { field, before, after }| TemplateChange {
            field: clip_with_ellipsis(&field, MAX_VALUE_CHARS),
            before: clip(before),
            after: clip(after),
        });
        Self { version, changes: clipped.collect(), more }
    }

    /// Whether a version made of it would be like the live one.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        self.changes.is_empty() && self.more == 0
    }
}
