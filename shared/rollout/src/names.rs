//! Identifiers. Every name is validated where it enters; after that it is trusted.

use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// Why a text is not a valid identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not `[a-z0-9]` words joined by single hyphens, or longer than 63 bytes.
    #[error("`{0}` is not a name: use lower-case letters, digits and single hyphens, at most 63 characters")]
    Name(String),
    /// Not `sha256:` and 64 hexadecimal digits.
    #[error("`{0}` is not an image digest: `sha256:` and 64 hexadecimal digits")]
    Digest(String),
    /// Not a valid image tag.
    #[error(
        "`{0}` is not a tag: use letters, digits, `_`, `.` and `-`, at most 128 characters, neither `.` nor `-` first"
    )]
    Tag(String),
    /// Not `application/service/environment`.
    #[error("`{0}` is not a target: write application/service/environment")]
    Target(String),
    /// Not `application/service@sha256:…`.
    #[error("`{0}` is not a release: write application/service@sha256:…")]
    Release(String),
}

/// The name of an application, a service, an environment or a hook: lower-case words joined by hyphens, at most 63
/// bytes, so that it fits DNS labels and every AWS name that is built from it.
///
/// Names are copied with every state, command and journal entry: copies share the text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(Arc<str>);

impl Name {
    /// Validates `text`.
    ///
    /// # Errors
    /// [`NameError::Name`] if it is empty, too long, or has other characters.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let well_formed = !text.is_empty()
            && text.len() <= 63
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-')
            && !text.contains("--");
        if well_formed { Ok(Self(text.into())) } else { Err(NameError::Name(quoted(&text))) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The content address of an image: never a tag, which may move.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct ImageDigest(Arc<str>);

impl ImageDigest {
    /// Validates `text`: `sha256:` and 64 lower-case hexadecimal digits (OCI image spec, "Digests").
    ///
    /// # Errors
    /// [`NameError::Digest`] for anything else; a tag is never taken for a digest.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let hex = text.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Digest(quoted(&text)))
        }
    }

    /// Placeholder for the image that ran before Switchback, where its task definition names no digest: all zeros,
    /// which is the digest of nothing.
    #[must_use]
    pub fn unknown() -> Self {
        Self(format!("sha256:{}", "0".repeat(64)).into())
    }

    /// `sha256:` and the digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 hexadecimal digits, as people read and type them.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0["sha256:".len()..][..12]
    }
}

/// A tag of an image: one word, safe as a command-line argument and in a line of text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Tag(Arc<str>);

impl Tag {
    /// The longest tag, in characters.
    pub const MAX_LENGTH: usize = 128;

    /// Validates `text`: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}` (OCI distribution specification 1.1, "Pulling manifests";
    /// ECR accepts no other, Amazon ECR API reference, `PutImage`).
    ///
    /// # Errors
    /// [`NameError::Tag`] for anything else: no registry has such a tag, so it did not come from one.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let well_formed = text.len() <= Self::MAX_LENGTH
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
        if well_formed { Ok(Self(text.into())) } else { Err(NameError::Tag(quoted(&text))) }
    }

    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Rejected text, shortened for an error message.
fn quoted(text: &str) -> String {
    crate::text::line(text, 160)
}

/// A service in an environment: the unit of order and of locking. Written `application/service/environment`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct TargetId {
    /// The application that the policy file names.
    pub application: Name,
    /// One of its services.
    pub service: Name,
    /// One of its environments.
    pub environment: Name,
}

impl TargetId {
    /// Combines the three names.
    #[must_use]
    pub fn new(application: Name, service: Name, environment: Name) -> Self {
        Self { application, service, environment }
    }

    /// Parses `application/service/environment`.
    ///
    /// # Errors
    /// [`NameError::Target`] if there are not three valid names.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let mut parts = text.split('/').map(Name::new);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Ok(application)), Some(Ok(service)), Some(Ok(environment)), None) => {
                Ok(Self { application, service, environment })
            }
            _ => Err(NameError::Target(quoted(text))),
        }
    }
}

/// A release by content: the service and the digest of its image. Written `application/service@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct ReleaseId {
    /// The application that the policy file names.
    pub application: Name,
    /// One of its services.
    pub service: Name,
    /// Digest of the image.
    pub digest: ImageDigest,
}

impl ReleaseId {
    /// Parses `application/service@sha256:…`.
    ///
    /// # Errors
    /// [`NameError::Release`] if it does not have that form.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError::Release(quoted(text));
        let (path, digest) = text.split_once('@').ok_or_else(wrong)?;
        let (application, service) = path.split_once('/').ok_or_else(wrong)?;
        Ok(Self {
            application: Name::new(application).map_err(|_| wrong())?,
            service: Name::new(service).map_err(|_| wrong())?,
            digest: ImageDigest::new(digest).map_err(|_| wrong())?,
        })
    }
}

/// One attempt to bring a release to a target: the target and a number that counts up from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeploymentId {
    /// The target deployed to.
    pub target: TargetId,
    /// Counts the target's deployments, from 1.
    pub number: u64,
}

/// One of the two sides of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// The side that the policy calls `blue`.
    Blue,
    /// The side that the policy calls `green`.
    Green,
}

impl Slot {
    /// Blue and green.
    pub const BOTH: [Self; 2] = [Self::Blue, Self::Green];

    /// The other side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Blue => Self::Green,
            Self::Green => Self::Blue,
        }
    }
}

/// Who or what requested something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Actor {
    /// A person or a role, identified as by its authentication (an IAM ARN, a Slack user).
    Person {
        /// The identity, as its issuer writes it.
        name: String,
    },
    /// A CI run.
    Workflow {
        /// The run, as its issuer identifies it.
        name: String,
        /// The issuer's numeric ID of the account that started it, which is never reused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        actor_id: Option<String>,
    },
    /// An image pushed to a registry.
    Push {
        /// The repository that was pushed to.
        repository: String,
    },
    /// Switchback itself.
    Switchback,
}

macro_rules! text_form {
    ($type:ident, $parse:expr, $error:ty) => {
        impl TryFrom<String> for $type {
            type Error = $error;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                $parse(text)
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl std::str::FromStr for $type {
            type Err = $error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::try_from(text.to_owned())
            }
        }
    };
}
text_form!(Name, Name::new, NameError);
text_form!(Tag, Tag::new, NameError);
text_form!(ImageDigest, ImageDigest::new, NameError);
text_form!(TargetId, |text: String| TargetId::parse(&text), NameError);
text_form!(ReleaseId, |text: String| ReleaseId::parse(&text), NameError);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.application, self.service, self.environment)
    }
}
impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.application, self.service, self.digest)
    }
}
impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.target, self.number)
    }
}
impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blue => "blue",
            Self::Green => "green",
        })
    }
}
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person { name } | Self::Workflow { name, .. } => f.write_str(name),
            Self::Push { repository } => write!(f, "push to {repository}"),
            Self::Switchback => f.write_str("switchback"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_oci_tags_are_accepted() {
        for text in ["v1", "v1.2.3-rc.1", "_", "1.2.3-amd64", "2026.01.05", &"a".repeat(128)] {
            assert_eq!(Tag::new(text).map(|tag| tag.to_string()), Ok(text.to_owned()));
        }
        for text in [
            "",
            "--help",
            "-v",
            ".hidden",
            "..",
            "v1\nv2",
            "v1\r",
            "v1\u{1b}[31m",
            "v1\u{202e}2v",
            "v1\u{200b}",
            "\u{feff}v1",
            "v1 v2",
            "v1@sha256",
            "a/b",
            "ä",
            "v1\0",
            "$(id)",
            &"a".repeat(129),
        ] {
            let refused = Tag::new(text).expect_err(text).to_string();
            assert!(refused.chars().all(crate::text::is_visible), "{refused:?}");
        }
    }
}
