//! The two secrets: Slack's signing secret, and the key for links.

use aws::config::{LINK_KEY_FIELD, LINK_KEY_SECRET, SLACK_SIGNING_FIELD, SLACK_SIGNING_SECRET, setting};
use aws::secrets::{Secret, SecretError, Secrets};
use aws::{Clients, SettingError};
use std::future::Future;

/// Selects one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// Slack's signing secret.
    Slack,
    /// The key that links are signed with.
    Links,
}

/// Why a key is not available.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyError {
    /// This installation has no such key, so no request that it would verify can be genuine.
    NotConfigured,
    /// It cannot be read, temporarily or permanently; contains the reason.
    Unavailable(String),
}

/// Source of keys.
pub(crate) trait Keys: Sync {
    /// The cached key, or with `fresh` the current one. `None` with `fresh`: the cached one is current.
    fn key(&self, kind: KeyKind, fresh: bool) -> impl Future<Output = Result<Option<Secret>, KeyError>> + Send;
}

/// Keys from Secrets Manager.
pub(crate) struct SecretKeys {
    secrets: Secrets,
    slack: Option<String>,
    links: String,
}

impl SecretKeys {
    /// The keys whose secrets the environment names. The signing secret is optional (no Slack).
    ///
    /// # Errors
    /// [`SettingError`] if the key for links is not named.
    pub(crate) fn from_environment(clients: Clients) -> Result<Self, SettingError> {
        let slack = setting(SLACK_SIGNING_SECRET).ok();
        Ok(Self { secrets: Secrets::new(clients), slack, links: setting(LINK_KEY_SECRET)? })
    }
}

impl Keys for SecretKeys {
    async fn key(&self, kind: KeyKind, fresh: bool) -> Result<Option<Secret>, KeyError> {
        let (id, field) = match kind {
            KeyKind::Slack => (self.slack.as_deref().ok_or(KeyError::NotConfigured)?, SLACK_SIGNING_FIELD),
            KeyKind::Links => (self.links.as_str(), LINK_KEY_FIELD),
        };
        let unavailable = |error: SecretError| KeyError::Unavailable(error.to_string());
        let secret = if fresh {
            let remembered = self.secrets.get(id).await.map_err(unavailable)?;
            let now = self.secrets.get_fresh(id).await.map_err(unavailable)?;
            if now.is_same_read(&remembered) {
                return Ok(None);
            }
            now
        } else {
            self.secrets.get(id).await.map_err(unavailable)?
        };
        let key = secret.field(field).ok_or_else(|| unavailable(SecretError::missing_field(id, field)))?;
        Ok(Some(key))
    }
}
